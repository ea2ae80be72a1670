/** The parsers of `parser.mjs` on `Bun.listen`: `parser_bun.mjs PORT lines|frames`. `write()` keeps nothing of its bytes. */

import process from "node:process";
import { announce } from "./lifetime.mjs";
import { join, parse, restOf } from "./parser.mjs";

const [port, mode] = process.argv.slice(2);

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: Number(port ?? 0),
  socket: {
    open(socket) {
      socket.data = { rest: null, unsent: null };
    },
    data(socket, chunk) {
      const state = socket.data;
      const bytes = join(state.rest, chunk);
      const { start, answers } = parse(mode, bytes);
      state.rest = restOf(bytes, start);
      if (answers.length === 0) return;
      if (state.unsent !== null) {
        state.unsent = join(state.unsent, answers);
        return;
      }
      const n = socket.write(answers);
      if (n === answers.length || n < 0) return;
      state.unsent = answers.slice(n);
      socket.pause();
    },
    drain(socket) {
      const state = socket.data;
      if (state.unsent === null) return;
      const n = socket.write(state.unsent);
      if (n < 0) return;
      state.unsent = n === state.unsent.length ? null : state.unsent.subarray(n);
      if (state.unsent === null) socket.resume();
    },
    error(socket) {
      socket.terminate();
    },
  },
});
announce(server.port);
