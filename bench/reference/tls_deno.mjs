/** Echo over `Deno.listenTls` by hand: `tls_deno.mjs PORT CERTIFICATE KEY`. As `echo_deno.ts`, with TLS. */

import { readFileSync } from "node:fs";
import process from "node:process";
import { announce } from "./lifetime.mjs";

const SMALL = 16 * 1024;
const LARGE = 256 * 1024;

async function serve(conn) {
  let buffer = new Uint8Array(SMALL);
  try {
    for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
      for (let at = 0; at < n;) at += await conn.write(buffer.subarray(at, n));
      if (n === buffer.length && n < LARGE) buffer = new Uint8Array(LARGE);
    }
  } catch {
    // The peer is gone.
  }
  try {
    conn.close();
  } catch {
    // It is closed.
  }
}

const [port, cert, key] = process.argv.slice(2);
const listener = Deno.listenTls({
  hostname: "127.0.0.1",
  port: Number(port ?? 0),
  cert: readFileSync(cert, "utf8"),
  key: readFileSync(key, "utf8"),
});
announce(listener.addr.port);
for await (const conn of listener) serve(conn);
