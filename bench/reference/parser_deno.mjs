/** The parsers of `parser.mjs` on `Deno.listen`: `parser_deno.mjs PORT lines|frames`. One growing buffer a connection. */

import process from "node:process";
import { announce } from "./lifetime.mjs";
import { parse } from "./parser.mjs";

const LEAST = 4 * 1024;
const [port, mode] = process.argv.slice(2);

async function serve(conn) {
  let buffer = new Uint8Array(LEAST);
  let filled = 0;
  try {
    conn.setNoDelay(true);
    for (;;) {
      const n = await conn.read(filled === 0 ? buffer : buffer.subarray(filled));
      if (n === null) break;
      filled += n;
      const full = filled === buffer.length;
      const { start, answers } = parse(mode, buffer.subarray(0, filled));
      if (answers.length > 0) {
        // A copy, because other connections use the memory before this write has ended.
        const bytes = answers.slice();
        let sent = await conn.write(bytes);
        while (sent < bytes.length) sent += await conn.write(bytes.subarray(sent));
      }
      if (start > 0 && start < filled) buffer.copyWithin(0, start, filled);
      filled -= start;
      if (!full) continue;
      const grown = new Uint8Array(2 * buffer.length);
      grown.set(buffer.subarray(0, filled));
      buffer = grown;
    }
  } catch {
    // The peer is gone.
  }
  conn.close();
}

const listener = Deno.listen({ hostname: "127.0.0.1", port: Number(port ?? 0) });
announce(listener.addr.port);
for await (const conn of listener) serve(conn);
