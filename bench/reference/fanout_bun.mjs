/**
 * A chat by hand on `Bun.listen`: the whole lines of a client go to all clients. One array is
 * written to all sockets, without a copy. `write()` queues nothing: the rest is kept until `drain`,
 * and a client that does not read is dropped.
 */

import process from "node:process";
import { announce } from "./lifetime.mjs";

const UNSENT_MAX = 1024 * 1024;
const all = new Set();

function joined(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: Number(process.argv[2] ?? 0),
  socket: {
    open(socket) {
      socket.data = { carry: null, unsent: null };
      all.add(socket);
    },
    data(socket, chunk) {
      const state = socket.data;
      const whole = state.carry === null ? chunk : joined(state.carry, chunk);
      const end = whole.lastIndexOf(10) + 1;
      state.carry = end === whole.length ? null : whole.slice(end);
      if (end === 0) return;
      const lines = end === whole.length ? whole : whole.subarray(0, end);
      for (const each of all) {
        const theirs = each.data;
        if (theirs.unsent !== null) {
          theirs.unsent = joined(theirs.unsent, lines);
          if (theirs.unsent.length > UNSENT_MAX) each.terminate();
          continue;
        }
        const n = each.write(lines);
        if (n >= 0 && n < lines.length) theirs.unsent = lines.slice(n);
      }
    },
    drain(socket) {
      const state = socket.data;
      if (state.unsent === null) return;
      const n = socket.write(state.unsent);
      if (n < 0) return;
      state.unsent = n === state.unsent.length ? null : state.unsent.subarray(n);
    },
    close(socket) {
      all.delete(socket);
    },
    error(socket) {
      socket.terminate();
    },
  },
});
announce(server.port);
