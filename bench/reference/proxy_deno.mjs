/**
 * A proxy by hand on `Deno.listen` and `Deno.connect`: `proxy_deno.mjs PORT PORT_OF_THE_SERVER`.
 *
 * `read()` and `write()` in turn for each direction, not the streams, which cost more. A pending read owns its buffer, so
 * each direction has one: small at first, larger when a read fills it.
 */

import process from "node:process";
import { announce } from "./lifetime.mjs";

const SMALL = 16 * 1024;
const LARGE = 256 * 1024;
const there = Number(process.argv[3]);

async function carry(from, to) {
  let buffer = new Uint8Array(SMALL);
  for (let n = await from.read(buffer); n !== null; n = await from.read(buffer)) {
    let sent = await to.write(n === buffer.length ? buffer : buffer.subarray(0, n));
    while (sent < n) sent += await to.write(buffer.subarray(sent, n));
    if (n === buffer.length && n < LARGE) buffer = new Uint8Array(LARGE);
  }
  await to.closeWrite();
}

async function serve(client) {
  let upstream;
  try {
    client.setNoDelay(true);
    upstream = await Deno.connect({ hostname: "127.0.0.1", port: there });
    upstream.setNoDelay(true);
    await Promise.all([carry(client, upstream), carry(upstream, client)]);
  } catch {
    // One of them is gone, and the other goes with it.
  }
  for (const each of [client, upstream]) {
    try {
      each?.close();
    } catch {
      // It is closed.
    }
  }
}

const listener = Deno.listen({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 0) });
announce(listener.addr.port);
for await (const client of listener) serve(client);
