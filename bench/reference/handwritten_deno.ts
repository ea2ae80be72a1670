/**
 * ROT13 by hand on `Deno.listen`: what the library is compared with on Deno, as good as the host allows.
 *
 * - `read()` and `write()`, not the streams: those cost more and close the connection at EOF.
 * - One buffer per connection, since a pending read owns its buffer. It is filled behind the carry, rotated in place, and
 *   everything up to the last newline leaves with one `write()`; the carry is moved to the front.
 * - The next read begins when the reply is written: that is all the backpressure it takes, and memory is bounded.
 * - A full buffer without newline is sent with one added.
 */

import process from "node:process";

interface Conn {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  setNoDelay(on: boolean): void;
  close(): void;
}
declare const Deno: {
  listen(options: { hostname: string; port: number }): AsyncIterable<Conn> & { addr: { port: number } };
};

const MAX_LINE = 16384;
const ROT13 = Uint8Array.from({ length: 256 }, (_, c) => {
  const letter = c | 32;
  return letter >= 97 && letter <= 122 ? (letter < 110 ? c + 13 : c - 13) : c;
});

async function writeAll(conn: Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

async function serve(conn: Conn): Promise<void> {
  const buffer = new Uint8Array(MAX_LINE + 1);
  let filled = 0;
  try {
    conn.setNoDelay(true);
    for (;;) {
      const n = await conn.read(buffer.subarray(filled, MAX_LINE));
      if (n === null) break;
      const until = filled + n;
      let end = 0;
      for (let i = filled; i < until; i++) {
        const c = ROT13[buffer[i] as number] as number;
        buffer[i] = c;
        if (c === 10) end = i + 1;
      }
      filled = until;
      if (end === 0) {
        if (filled < MAX_LINE) continue;
        buffer[filled++] = 10;
        end = filled;
      }
      const bytes = buffer.subarray(0, end);
      const sent = await conn.write(bytes);
      if (sent < end) await writeAll(conn, bytes.subarray(sent));
      if (end < filled) buffer.copyWithin(0, end, filled);
      filled -= end;
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
