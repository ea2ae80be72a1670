// Chapter 2: a codec in place of lines. node|deno|bun 2_resp.mjs [PORT], then redis-cli -p 6400
import process from "node:process";
import { serve } from "trivent";
import { resp } from "./resp.mjs";

const values = new Map();

function answer(words) {
  const [command = "", key, value] = words;
  switch (command.toUpperCase()) {
    case "PING":
      return { ok: "PONG" };
    case "SET":
      values.set(key, value);
      return { ok: "OK" };
    case "GET":
      return values.get(key) ?? null;
    case "COMMAND":
    case "CONFIG":
      return [];
  }
  return { error: "ERR unknown command" };
}

const server = await serve({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 6400) }, {
  async open(bev) {
    for await (const command of bev.frames(resp)) {
      bev.writeFrame(resp, Array.isArray(command) ? answer(command) : { error: "ERR a command is an array" });
    }
  },
});
console.log(`listening on 127.0.0.1:${server.port}`);
