/** The streams of Deno's connections, through `TextDecoderStream`; the text is sent back. */

import process from "node:process";
import { announce } from "./lifetime.mjs";

const encoder = new TextEncoder();

async function serve(conn) {
  try {
    conn.setNoDelay(true);
    const reader = conn.readable.pipeThrough(new TextDecoderStream()).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const bytes = encoder.encode(next.value);
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    }
  } catch {
    // The peer is gone.
  }
  try {
    conn.close();
  } catch {
    // The stream has closed it.
  }
}

const listener = Deno.listen({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 0) });
announce(listener.addr.port);
for await (const conn of listener) serve(conn);
