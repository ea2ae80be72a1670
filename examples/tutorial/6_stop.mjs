// Chapter 6: a graceful stop. node|deno|bun 6_stop.mjs [PORT], then Ctrl-C
import process from "node:process";
import { stopOnSignals } from "trivent";
import { startServer } from "./server.mjs";

const redis = await startServer({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 6400) });
stopOnSignals(redis, { graceMs: 5000 });
console.log(`listening on 127.0.0.1:${redis.server.port}`);
