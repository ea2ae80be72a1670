/** The chat that the benchmark measures: each line of a client goes to all clients, which share its bytes. */

import process from "node:process";
import { EvBuffer, EVBUFFER_EOL_LF, serve } from "../mod.ts";

const server = await serve({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 0), eol: EVBUFFER_EOL_LF }, {
  line(_bev, line) {
    const bytes = new Uint8Array(line.length + 1);
    bytes.set(line);
    bytes[line.length] = 10;
    const shared = new EvBuffer();
    for (const each of server) {
      // Drop the bytes that a closed client has not taken.
      if (shared.length === 0) shared.addReference(bytes);
      each.writeBuffer(shared);
    }
  },
});
const { address } = server;
if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => process.exit(0));
