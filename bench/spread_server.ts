/**
 * A ROT13 server that is one of several: `spread_server.ts PORT HOW`.
 *
 * HOW is `port` for a separate port; `shared` for SO_REUSEPORT; `fd` for the listening socket that
 * it inherits as descriptor 3; `cluster` for a parent that accepts, and hands each connection over
 * to one of two workers (`node:cluster`).
 */

import cluster from "node:cluster";
import process from "node:process";
import { serve, type ServeOptions } from "../mod.ts";

const WORKERS = 2;
const [port = "0", how = "port"] = process.argv.slice(2);
const ROT13: Uint8Array = Uint8Array.from({ length: 256 }, (_, c) => {
  const letter = c | 32;
  return letter >= 97 && letter <= 122 ? (letter < 110 ? c + 13 : c - 13) : c;
});
const NEWLINE = new Uint8Array([10]);

if (how === "cluster" && cluster.isPrimary) parent();
else await work();

async function work(): Promise<void> {
  const place: ServeOptions = how === "fd"
    ? { fd: 3 }
    : { hostname: "127.0.0.1", port: Number(port), reusePort: how === "shared" };
  const server = await serve(place, {
    line(bev, line) {
      for (let i = 0; i < line.length; i++) line[i] = ROT13[line[i] as number] as number;
      bev.output.add(line);
      bev.output.add(NEWLINE);
    },
  });
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => process.exit(0));
  // With a parent that hands over, only the parent has the port.
  if (how !== "cluster") console.log(`listening on 127.0.0.1:${server.port}`);
}

function parent(): void {
  let left = WORKERS;
  cluster.on("listening", (_worker, { port }) => {
    if (--left === 0) console.log(`listening on 127.0.0.1:${port}`);
  });
  for (let i = 0; i < WORKERS; i++) cluster.fork();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => process.exit(0));
}
