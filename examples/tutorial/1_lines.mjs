// Chapter 1: a listener and lines. node|deno|bun 1_lines.mjs [PORT]
import process from "node:process";
import { serve } from "trivent";

const values = new Map();

const server = await serve({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 6400) }, {
  line(bev, line) {
    const [command, key, ...rest] = new TextDecoder().decode(line).split(" ");
    if (command === "PING") bev.write("PONG\n");
    else if (command === "SET") {
      values.set(key, rest.join(" "));
      bev.write("OK\n");
    } else if (command === "GET") bev.write(`${values.get(key) ?? "(nil)"}\n`);
    else bev.write("ERR unknown command\n");
  },
});
console.log(`listening on 127.0.0.1:${server.port}`);
