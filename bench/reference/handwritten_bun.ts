/**
 * ROT13 by hand on `Bun.listen`: what the library is compared with on Bun, as good as the host allows.
 *
 * - The chunk is Bun's own fresh array, so it is rotated in place and copied nowhere.
 * - One search from the back finds the last newline; everything up to it leaves with one `write()`, whatever the number
 *   of lines. What follows it is the carry, and is copied only when there is one.
 * - `write()` queues nothing: what it does not take is kept and reading pauses until `drain`, so memory is bounded.
 * - A line of MAX_LINE bytes without newline is sent with one added, so that the carry is bounded too.
 */

import process from "node:process";

interface State {
  /** The rotated start of an unfinished line. */
  carry: Uint8Array | null;
  /** What the kernel did not take. */
  unsent: Uint8Array | null;
  ended: boolean;
}
interface Socket {
  data: State | null;
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

const MAX_LINE = 16384;
const ROT13 = Uint8Array.from({ length: 256 }, (_, c) => {
  const letter = c | 32;
  return letter >= 97 && letter <= 122 ? (letter < 110 ? c + 13 : c - 13) : c;
});

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function send(socket: Socket, state: State, bytes: Uint8Array): void {
  if (state.unsent !== null) {
    state.unsent = join(state.unsent, bytes);
    return;
  }
  const n = socket.write(bytes);
  if (n === bytes.length || n < 0) return;
  state.unsent = bytes.subarray(n);
  socket.pause();
}

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: Number(process.argv[2] ?? 0),
  allowHalfOpen: true,
  socket: {
    open(socket) {
      socket.data = { carry: null, unsent: null, ended: false };
    },
    data(socket, chunk) {
      const state = socket.data as State;
      for (let i = 0; i < chunk.length; i++) chunk[i] = ROT13[chunk[i] as number] as number;
      let end = chunk.lastIndexOf(10) + 1;
      let bytes = chunk;
      if (state.carry !== null) {
        bytes = join(state.carry, chunk);
        if (end > 0) end += state.carry.length;
        state.carry = null;
      }
      if (end === bytes.length) send(socket, state, bytes);
      else {
        if (end > 0) send(socket, state, bytes.subarray(0, end));
        // A copy: a view would keep the whole chunk.
        const rest = bytes.slice(end);
        if (rest.length < MAX_LINE) state.carry = rest;
        else send(socket, state, join(rest, new Uint8Array([10])));
      }
    },
    drain(socket) {
      const state = socket.data as State;
      const { unsent } = state;
      if (unsent === null) return;
      const n = socket.write(unsent);
      if (n < unsent.length && n >= 0) {
        state.unsent = unsent.subarray(n);
        return;
      }
      state.unsent = null;
      if (state.ended) socket.shutdown();
      else socket.resume();
    },
    end(socket) {
      const state = socket.data as State;
      state.ended = true;
      if (state.unsent === null) socket.shutdown();
    },
    error(socket) {
      socket.terminate();
    },
  },
});
console.log(`listening on 127.0.0.1:${server.port}`);
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
