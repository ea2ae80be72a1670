/**
 * ROT13 by hand on `node:net`, good at every size of line: the rival of `npm run bench -- natural`.
 *
 * - A chunk is Node's own fresh array. If it holds whole lines, it is rotated in place and leaves with one `write()`.
 * - The start of an unfinished line is copied into a buffer of the connection, which doubles when it is full. What follows
 *   is appended to it, and its lines leave from there with one `write()`. If the kernel has taken all of it, the buffer is
 *   used again; otherwise Node still needs it, and the connection gets another one.
 * - `write()` queues without end: reading pauses when it says false, until `drain`.
 * - A line of 64 KiB without newline is sent with one added.
 * - The rotation is the one of the examples, so that only the rest differs.
 */

import { createServer, type Socket } from "node:net";
import process from "node:process";
import { rot13 } from "../../examples/_rot13.ts";

/** The part of a socket of Node that this needs. */
interface Server extends Socket {
  state: State;
}
interface State {
  /** The rotated start of an unfinished line is at its front. */
  buffer: Uint8Array;
  filled: number;
}

const MOST = 64 * 1024;
const NEWLINE = 10;
const NOTHING = new Uint8Array(0);

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

function sendBuffer(socket: Server, state: State): boolean {
  const goOn = socket.write(state.buffer.subarray(0, state.filled));
  state.filled = 0;
  if (socket.writableLength > 0) state.buffer = NOTHING;
  return goOn;
}

function onData(this: Server, chunk: Uint8Array): void {
  const { state } = this;
  const end = chunk.lastIndexOf(NEWLINE) + 1;
  rot13(chunk);
  let goOn = true;
  if (end === 0) {
    append(state, chunk);
    if (state.filled >= MOST) {
      append(state, new Uint8Array([NEWLINE]));
      goOn = sendBuffer(this, state);
    }
  } else {
    const lines = end === chunk.length ? chunk : chunk.subarray(0, end);
    if (state.filled === 0) goOn = this.write(lines);
    else {
      append(state, lines);
      goOn = sendBuffer(this, state);
    }
    if (end < chunk.length) append(state, chunk.subarray(end));
  }
  if (!goOn) this.pause();
}

function onDrain(this: Server): void {
  this.resume();
}

function onEnd(this: Server): void {
  this.end();
}

function onError(this: Server): void {
  this.destroy();
}

const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  (socket as Server).state = { buffer: NOTHING, filled: 0 };
  socket.on("data", onData).on("drain", onDrain).on("end", onEnd).on("error", onError);
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  const address = server.address();
  if (typeof address === "object") console.log(`listening on 127.0.0.1:${address?.port}`);
});
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
