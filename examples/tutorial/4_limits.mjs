// Chapter 4: limits and slow clients. node|deno|bun 4_limits.mjs [PORT]
import process from "node:process";
import { startServer } from "./server.mjs";

const { server } = await startServer({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 6400) });
console.log(`listening on 127.0.0.1:${server.port}`);
