/**
 * A ROT13 server on events: `rot13_events [port]`.
 *
 * After the "low-level ROT13 server with Libevent" of the libevent book: an event reports when a socket can be read
 * or written. Buffers, partial writes and the adding and deleting of events are all done by hand. It gives the same
 * answers as `rot13_bufferevent.ts`, which shows how much work a bufferevent saves.
 */

import {
  EAGAIN,
  EV_PERSIST,
  EV_READ,
  EV_WRITE,
  EventBase,
  EventError,
  type EventHandle,
  type Socket,
  stopOnSignals,
} from "trivent";
import { accept, announce, main, onlyPort } from "./_common.ts";
import { rot13 } from "./_rot13.ts";

const MAX_LINE = 16384;
const NEWLINE = 10;

/** The buffer for one recv(), which all connections share. */
const chunk = new Uint8Array(4096);

/**
 * `struct fd_state`: from 0 to `written` was sent, up to `writeUpTo` are whole lines to send, up to `used` is the
 * rest.
 */
interface State {
  socket: Socket;
  buffer: Uint8Array;
  written: number;
  writeUpTo: number;
  used: number;
  ended: boolean;
  readEvent: EventHandle;
  writeEvent: EventHandle;
}

await main("rot13_events [port]", async (args) => {
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 40713) });
  const states = new Set<State>();

  const accepting = base.event(listening, EV_READ | EV_PERSIST, () => {
    for (let socket = accept(listening); socket !== EAGAIN; socket = accept(listening)) {
      const state: State = {
        socket,
        // Space for an unfinished line and as many bytes to send.
        buffer: new Uint8Array(2 * MAX_LINE),
        written: 0,
        writeUpTo: 0,
        used: 0,
        ended: false,
        readEvent: base.event(socket, EV_READ | EV_PERSIST, () => guard(state, doRead)),
        writeEvent: base.event(socket, EV_WRITE | EV_PERSIST, () => guard(state, doWrite)),
      };
      states.add(state);
      state.readEvent.add();
    }
  });
  accepting.add();

  /** Runs a step. If the connection has failed or is done, it is removed completely. */
  function guard(state: State, step: (state: State) => boolean): void {
    try {
      if (step(state)) return;
    } catch (error) {
      if (!(error instanceof EventError)) throw error;
    }
    free(state);
  }

  function free(state: State): void {
    state.readEvent.free();
    state.writeEvent.free();
    state.socket.close();
    states.delete(state);
  }

  stopOnSignals({
    base,
    close() {
      accepting.free();
      listening.close();
      for (const state of states) free(state);
    },
  });
  announce(listening.address);
  await base.dispatch();
});

/** The socket can be read. @returns False if the connection has ended */
function doRead(state: State): boolean {
  for (;;) {
    if (!makeRoom(state)) {
      // Full of answers that the peer has not read, so the peer must wait.
      state.readEvent.del();
      return true;
    }
    const n = state.socket.recv(chunk);
    if (n === EAGAIN) return true;
    if (n === 0) {
      // The peer has finished. An unfinished last line is dropped, and whole lines are still answered.
      state.ended = true;
      state.readEvent.del();
      return state.written < state.writeUpTo;
    }
    for (const c of rot13(chunk.subarray(0, n))) {
      state.buffer[state.used++] = c;
      if (c === NEWLINE) state.writeUpTo = state.used;
      else if (state.used - state.writeUpTo === MAX_LINE) {
        // Too long; end the line here.
        state.buffer[state.used++] = NEWLINE;
        state.writeUpTo = state.used;
      }
    }
    if (state.written < state.writeUpTo) state.writeEvent.add();
  }
}

/** The socket can be written. @returns False if the connection has ended */
function doWrite(state: State): boolean {
  while (state.written < state.writeUpTo) {
    const n = state.socket.send(state.buffer.subarray(state.written, state.writeUpTo));
    if (n === EAGAIN) return true;
    state.written += n;
  }
  state.writeEvent.del();
  if (state.ended) return false;
  state.readEvent.add();
  return true;
}

/** Moves the rest to the front. @returns Whether another chunk fits, with a newline that may be added */
function makeRoom(state: State): boolean {
  if (state.written > 0) {
    state.buffer.copyWithin(0, state.written, state.used);
    state.used -= state.written;
    state.writeUpTo -= state.written;
    state.written = 0;
  }
  return state.used + chunk.length + 1 <= state.buffer.length;
}
