/** The proxy that the benchmark measures: `pipe()` between each client and a connection to the port of the second argument. */

import process from "node:process";
import { BEV_OPT_CLOSE_ON_FREE, EventError, pipe, serve, SocketBufferEvent } from "../mod.ts";

const there = { hostname: "127.0.0.1", port: Number(process.argv[3]) };

const server = await serve({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 0) }, {
  open(client) {
    const upstream = new SocketBufferEvent(client.base, null, BEV_OPT_CLOSE_ON_FREE);
    upstream.connect(there);
    pipe(client, upstream).catch((error) => {
      if (!(error instanceof EventError)) throw error;
    });
  },
});
const { address } = server;
if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => process.exit(0));
