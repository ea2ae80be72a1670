/**
 * A ROT13 server on `select()`: `rot13_select [port]`.
 *
 * After the select() based ROT13 server of the libevent book, with its `fd_state`, `do_read` and `do_write`. It gives
 * the same answers as `rot13_bufferevent.ts`: a line of more than MAX_LINE is cut, not lost, and the whole lines of a
 * peer that has finished are answered.
 */

import { EAGAIN, EventBase, EventError, select, type Socket } from "trivent";
import { accept, announce, main, onlyPort } from "./_common.ts";
import { untilStopped } from "./_poll.ts";
import { rot13 } from "./_rot13.ts";

const MAX_LINE = 16384;
const NEWLINE = 10;

/**
 * `struct fd_state`: from 0 to `written` was sent, up to `writeUpTo` are whole lines to send, up to `used` is the
 * rest.
 */
class FdState {
  // Space for an unfinished line and as many bytes to send.
  readonly buffer = new Uint8Array(2 * MAX_LINE);
  used = 0;
  written = 0;
  writeUpTo = 0;
  ended = false;

  get writing(): boolean {
    return this.written < this.writeUpTo;
  }
}

/** The buffer for one recv(). */
const buf = new Uint8Array(1024);

/** @returns False if the connection has ended */
function doRead(socket: Socket, state: FdState): boolean {
  while (hasRoom(state)) {
    const result = socket.recv(buf);
    if (result === EAGAIN) return true;
    if (result === 0) {
      state.ended = true;
      return state.writing;
    }
    for (const c of rot13(buf.subarray(0, result))) {
      state.buffer[state.used++] = c;
      if (c === NEWLINE) state.writeUpTo = state.used;
      else if (state.used - state.writeUpTo === MAX_LINE) {
        state.buffer[state.used++] = NEWLINE;
        state.writeUpTo = state.used;
      }
    }
  }
  return true;
}

/** @returns False if the connection has ended */
function doWrite(socket: Socket, state: FdState): boolean {
  while (state.writing) {
    const result = socket.send(state.buffer.subarray(state.written, state.writeUpTo));
    if (result === EAGAIN) return true;
    state.written += result;
  }
  // The rest is the beginning of a line: it goes to the front.
  state.buffer.copyWithin(0, state.written, state.used);
  state.used -= state.written;
  state.written = state.writeUpTo = 0;
  return !state.ended;
}

/** Whether another recv() fits, with newlines that may be added. */
function hasRoom(state: FdState): boolean {
  return state.used + buf.length + 1 <= state.buffer.length;
}

await main("rot13_select [port]", async (args) => {
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 40713) });
  const states = new Map<Socket, FdState>();
  announce(listening.address);

  await untilStopped(base, async (stop) => {
    for (;;) {
      const readset: Socket[] = [];
      const writeset: Socket[] = [];
      for (const [socket, state] of states) {
        if (!state.ended && hasRoom(state)) readset.push(socket);
        if (state.writing) writeset.push(socket);
      }
      const { read, write } = await select({ read: [listening, ...readset], write: writeset }, undefined, {
        signal: stop,
      });
      const [readable, writable] = [new Set(read), new Set(write)];

      if (readable.has(listening)) {
        const socket = accept(listening);
        if (socket !== EAGAIN) states.set(socket, new FdState());
      }
      for (const [socket, state] of states) {
        try {
          let r = true;
          if (readable.has(socket)) r = doRead(socket, state);
          if (r && writable.has(socket)) r = doWrite(socket, state);
          if (r) continue;
        } catch (error) {
          if (!(error instanceof EventError)) throw error;
        }
        states.delete(socket);
        socket.close();
      }
    }
  });
  await listening.close();
  for (const socket of states.keys()) socket.close();
});
