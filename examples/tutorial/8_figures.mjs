// Chapter 8: figures, and HAProxy in front. node|deno|bun 8_figures.mjs [PORT] [PORT OF THE FIGURES]
import process from "node:process";
import { prometheus, serve, stopOnSignals } from "trivent";
import { startServer } from "./server.mjs";

const [, , port = "6400", figures = "9400"] = process.argv;
const redis = await startServer({
  hostname: "127.0.0.1",
  port: Number(port),
  // The header of HAProxy has the client's address. Other clients send none.
  proxyProtocol: { mode: "optional", trusted: ["127.0.0.1"], timeoutMs: 200 },
});

const web = await serve({ hostname: "127.0.0.1", port: Number(figures), idleTimeoutMs: 10_000 }, {
  line(bev, line) {
    if (line.length > 0) return; // an empty line ends the head of a request
    const body = prometheus(redis.server);
    const type = "Content-Type: text/plain; version=0.0.4";
    bev.write(`HTTP/1.1 200 OK\r\n${type}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
    bev.close();
  },
});

const both = {
  base: redis.base,
  close: (options) => Promise.all([redis.close(options), web.close(options)]),
};
stopOnSignals(both, { graceMs: 5000 });
console.log(`listening on 127.0.0.1:${redis.server.port}`);
console.log(`figures at http://127.0.0.1:${web.port}/`);
