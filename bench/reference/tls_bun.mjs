/** Echo over TLS of `Bun.listen` by hand: `tls_bun.mjs PORT CERTIFICATE KEY`. As `echo_bun.ts`, with TLS. */

import { readFileSync } from "node:fs";
import process from "node:process";
import { announce } from "./lifetime.mjs";

const [port, cert, key] = process.argv.slice(2);
const server = Bun.listen({
  hostname: "127.0.0.1",
  port: Number(port ?? 0),
  tls: { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") },
  socket: {
    open(socket) {
      socket.data = { unsent: [], from: 0 };
    },
    data(socket, chunk) {
      const state = socket.data;
      if (state.unsent.length > 0) {
        state.unsent.push(chunk);
        return;
      }
      const n = socket.write(chunk);
      if (n === chunk.length || n < 0) return;
      state.unsent.push(chunk);
      state.from = n;
      socket.pause();
    },
    drain(socket) {
      const state = socket.data;
      while (state.unsent.length > 0) {
        const first = state.unsent[0];
        const n = socket.write(state.from === 0 ? first : first.subarray(state.from));
        if (n < 0) return;
        state.from += n;
        if (state.from < first.length) return;
        state.unsent.shift();
        state.from = 0;
      }
      socket.resume();
    },
    error(socket) {
      socket.terminate();
    },
  },
});
announce(server.port);
