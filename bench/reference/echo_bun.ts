/**
 * Echo by hand on `Bun.listen`: the rival of the library on Bun.
 *
 * As good as possible: a chunk goes back unchanged, within `data`, with one `write()` and no copy.
 * `write()` queues nothing: the rest is kept, and reading pauses until `drain`. A chunk may still
 * come after that (the socket had it already); it queues up behind.
 */

import process from "node:process";

interface State {
  /** The bytes that the kernel did not accept, the first chunk from `from` on. */
  unsent: Uint8Array[];
  from: number;
  ended: boolean;
}
interface Socket {
  data: State;
  write(bytes: Uint8Array): number;
  pause(): void;
  resume(): void;
  shutdown(): void;
  terminate(): void;
}
declare const Bun: {
  listen(options: {
    hostname: string;
    port: number;
    allowHalfOpen: boolean;
    socket: {
      open(socket: Socket): void;
      data(socket: Socket, chunk: Uint8Array): void;
      drain(socket: Socket): void;
      end(socket: Socket): void;
      error(socket: Socket): void;
    };
  }): { port: number };
};

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: Number(process.argv[2] ?? 0),
  allowHalfOpen: true,
  socket: {
    open(socket) {
      socket.data = { unsent: [], from: 0, ended: false };
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
        const first = state.unsent[0] as Uint8Array;
        const n = socket.write(state.from === 0 ? first : first.subarray(state.from));
        if (n < 0) return;
        state.from += n;
        if (state.from < first.length) return;
        state.unsent.shift();
        state.from = 0;
      }
      if (state.ended) socket.shutdown();
      else socket.resume();
    },
    end(socket) {
      const state = socket.data;
      state.ended = true;
      if (state.unsent.length === 0) socket.shutdown();
    },
    error(socket) {
      socket.terminate();
    },
  },
});
console.log(`listening on 127.0.0.1:${server.port}`);
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
