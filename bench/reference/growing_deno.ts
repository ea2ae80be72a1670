/**
 * ROT13 by hand on `Deno.listen`, good at every size of line: the rival of `npm run bench -- natural`.
 *
 * - Each connection reads into one buffer, which doubles when a read fills it, up to 64 KiB. Idle connections hold 4 KiB.
 * - The lines of a read are rotated in place, and leave with one `write()`. The next read begins after that, which is all
 *   the backpressure that a server needs.
 * - A line that is longer than the buffer is sent with a newline added.
 * - The rotation is the one of the examples, so that only the rest differs.
 */

import process from "node:process";
import { rot13 } from "../../examples/_rot13.ts";

interface Conn {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  setNoDelay(on: boolean): void;
  close(): void;
}
declare const Deno: {
  listen(options: { hostname: string; port: number }): AsyncIterable<Conn> & { addr: { port: number } };
};

const LEAST = 4 * 1024;
const MOST = 64 * 1024;
const NEWLINE = 10;

async function writeAll(conn: Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

async function serve(conn: Conn): Promise<void> {
  let buffer = new Uint8Array(LEAST);
  let filled = 0;
  try {
    conn.setNoDelay(true);
    for (;;) {
      const n = await conn.read(filled === 0 ? buffer : buffer.subarray(filled));
      if (n === null) break;
      const fresh = buffer.subarray(filled, filled + n);
      let end = filled + fresh.lastIndexOf(NEWLINE) + 1;
      if (end === filled) end = 0;
      rot13(fresh);
      filled += n;
      if (end === 0 && filled === MOST) {
        await writeAll(conn, buffer);
        await writeAll(conn, new Uint8Array([NEWLINE]));
        filled = 0;
      } else if (end > 0) {
        const bytes = buffer.subarray(0, end);
        const sent = await conn.write(bytes);
        if (sent < end) await writeAll(conn, bytes.subarray(sent));
      }
      const full = filled === buffer.length;
      if (end > 0 && end < filled) buffer.copyWithin(0, end, filled);
      filled -= end;
      if (!full || buffer.length === MOST) continue;
      const grown = new Uint8Array(2 * buffer.length);
      grown.set(buffer.subarray(0, filled));
      buffer = grown;
    }
  } catch {
    // The peer is gone.
  }
  conn.close();
}

const listener = Deno.listen({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 0) });
console.log(`listening on 127.0.0.1:${listener.addr.port}`);
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
for await (const conn of listener) serve(conn);
