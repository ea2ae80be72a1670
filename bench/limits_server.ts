/** ROT13 by `serve()`; a second argument of `on` switches on every limit and timeout, at values that are never reached. */

import process from "node:process";
import { rot13 } from "../examples/_rot13.ts";
import { EVBUFFER_EOL_LF, serve, type ServeOptions } from "../mod.ts";

const ALL: ServeOptions = {
  maxConnections: 10_000,
  maxConnectionsPerAddress: 10_000,
  idleTimeoutMs: 60_000,
  readTimeoutMs: 60_000,
  writeTimeoutMs: 60_000,
  messageTimeoutMs: 60_000,
  stallTimeoutMs: 30_000,
  handlerTimeoutMs: 60_000,
  drainTimeoutMs: 10_000,
  keepAlive: true,
  readHigh: 65_536,
  writeLow: 16_384,
  writeHigh: 262_144,
  maxOutputBytes: 1_048_576,
  maxLine: 16_384,
};
const NONE: ServeOptions = { stallTimeoutMs: null, handlerTimeoutMs: null, maxOutputBytes: Infinity };

const server = await serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2] ?? 0),
  eol: EVBUFFER_EOL_LF,
  ...(process.argv[3] === "on" ? ALL : NONE),
}, {
  line(bev, line) {
    bev.write(rot13(line));
    bev.write("\n");
  },
});
const { address } = server;
if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => process.exit(0));
