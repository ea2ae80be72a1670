/**
 * Echo by hand on `Deno.listen`: the rival of the library on Deno.
 *
 * As good as possible: `read()` and `write()` in turn, not the streams, which cost more and close
 * the connection at EOF. A pending read owns its buffer, so each connection has one: small at
 * first, larger when a read fills it (a long message then takes fewer reads), as a server with many
 * idle connections must do, too.
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

const SMALL = 16 * 1024;
const LARGE = 256 * 1024;

async function serve(conn: Conn): Promise<void> {
  let buffer = new Uint8Array(SMALL);
  try {
    conn.setNoDelay(true);
    for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
      for (let at = 0; at < n;) at += await conn.write(buffer.subarray(at, n));
      if (n === buffer.length && n < LARGE) buffer = new Uint8Array(LARGE);
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
