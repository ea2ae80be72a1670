/**
 * ROT13 by hand on `Bun.listen`, good at every size of line: the rival of `npm run bench -- natural`.
 *
 * - A chunk is Bun's own fresh array. If it holds whole lines, it is rotated in place and leaves with one `write()`.
 * - The start of an unfinished line is copied into a buffer of the connection, which doubles when it is full. What follows
 *   is appended to it, and its lines leave from there with one `write()`, after which the buffer is used again.
 * - `write()` queues nothing: a copy of the rest is kept and reading pauses until `drain`, so memory is bounded.
 * - A line of 64 KiB without newline is sent with one added.
 * - The rotation is the one of the examples, so that only the rest differs.
 */

import process from "node:process";
import { rot13 } from "../../examples/_rot13.ts";

interface State {
  /** The rotated start of an unfinished line is at its front. */
  buffer: Uint8Array;
  filled: number;
  /** The bytes that the kernel did not take. */
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

const MOST = 64 * 1024;
const NEWLINE = 10;
const NOTHING = new Uint8Array(0);

function send(socket: Socket, state: State, bytes: Uint8Array): void {
  const { unsent } = state;
  if (unsent !== null) {
    state.unsent = new Uint8Array(unsent.length + bytes.length);
    state.unsent.set(unsent);
    state.unsent.set(bytes, unsent.length);
    return;
  }
  const n = socket.write(bytes);
  if (n === bytes.length || n < 0) return;
  state.unsent = bytes.slice(n);
  socket.pause();
}

function append(state: State, bytes: Uint8Array): void {
  const length = state.filled + bytes.length;
  if (length > state.buffer.length) {
    const grown = new Uint8Array(Math.max(length, 2 * state.buffer.length));
    grown.set(state.buffer.subarray(0, state.filled));
    state.buffer = grown;
  }
  state.buffer.set(bytes, state.filled);
  state.filled = length;
}

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: Number(process.argv[2] ?? 0),
  allowHalfOpen: true,
  socket: {
    open(socket) {
      socket.data = { buffer: NOTHING, filled: 0, unsent: null, ended: false };
    },
    data(socket, chunk) {
      const state = socket.data as State;
      const end = chunk.lastIndexOf(NEWLINE) + 1;
      rot13(chunk);
      if (end === 0) {
        append(state, chunk);
        if (state.filled < MOST) return;
        append(state, new Uint8Array([NEWLINE]));
        send(socket, state, state.buffer.subarray(0, state.filled));
        state.filled = 0;
        return;
      }
      const lines = end === chunk.length ? chunk : chunk.subarray(0, end);
      if (state.filled === 0) send(socket, state, lines);
      else {
        append(state, lines);
        send(socket, state, state.buffer.subarray(0, state.filled));
        state.filled = 0;
      }
      if (end < chunk.length) append(state, chunk.subarray(end));
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
