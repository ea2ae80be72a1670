/**
 * A chat by hand on `Deno.listen`: the whole lines of a client go to all clients. One array is
 * written to all connections, without a copy. A connection has one `write()` at a time; later lines
 * wait, and a client that does not read is dropped.
 */

import process from "node:process";
import { announce } from "./lifetime.mjs";

const WAITING_MAX = 4096;
const READ_MAX = 4096;
const all = new Set();

class Client {
  waiting = [];
  writing = false;

  constructor(conn) {
    this.conn = conn;
  }

  send(bytes) {
    if (!this.writing) this.write(bytes);
    else if (this.waiting.push(bytes) > WAITING_MAX) this.conn.close();
  }

  async write(bytes) {
    this.writing = true;
    try {
      for (let next = bytes; next !== undefined; next = this.waiting.shift()) {
        let sent = await this.conn.write(next);
        while (sent < next.length) sent += await this.conn.write(next.subarray(sent));
      }
      this.writing = false;
    } catch {
      // The peer is gone: reading ends too.
    }
  }
}

async function serve(conn) {
  const client = new Client(conn);
  let carry = new Uint8Array(0);
  all.add(client);
  try {
    conn.setNoDelay(true);
    for (;;) {
      const buffer = new Uint8Array(READ_MAX);
      const n = await conn.read(buffer);
      if (n === null) break;
      let whole = buffer.subarray(0, n);
      if (carry.length > 0) {
        whole = new Uint8Array(carry.length + n);
        whole.set(carry);
        whole.set(buffer.subarray(0, n), carry.length);
      }
      const end = whole.lastIndexOf(10) + 1;
      carry = whole.slice(end);
      if (end === 0) continue;
      const lines = whole.subarray(0, end);
      for (const each of all) each.send(lines);
    }
  } catch {
    // The peer is gone.
  }
  all.delete(client);
  try {
    conn.close();
  } catch {
    // It is closed.
  }
}

const listener = Deno.listen({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 0) });
announce(listener.addr.port);
for await (const conn of listener) serve(conn);
