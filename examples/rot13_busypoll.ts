/**
 * A ROT13 server that polls every socket again and again: `rot13_busypoll [port]`. When it is stopped, it prints how
 * many of its polls were useless.
 *
 * After the "bad example: busy-polling all sockets" of the libevent book: "This will work, but the performance will be
 * unforgivably bad." It answers byte for byte as `rot13_bufferevent.ts` does.
 */

import { EAGAIN, EvBuffer, EVBUFFER_EOL_LF, EventBase, EventError, select, type Socket } from "trivent";
import { accept, announce, main, onlyPort } from "./_common.ts";
import { stopSignal } from "./_poll.ts";
import { rot13 } from "./_rot13.ts";

const MAX_LINE = 16384;

class State {
  readonly input = new EvBuffer();
  readonly output = new EvBuffer();
  ended = false;
}

let polls = 0;
let useless = 0;

await main("rot13_busypoll [port]", async (args) => {
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 40713) });
  const states = new Map<Socket, State>();
  const stop = stopSignal(base);
  announce(listening.address);

  while (!stop.aborted) {
    // In C the kernel works meanwhile by itself; here the runtime needs a turn.
    await select({ read: [listening] }, 0);
    const fresh = accept(listening);
    count(fresh === EAGAIN);
    if (fresh !== EAGAIN) states.set(fresh, new State());

    for (const [socket, state] of states) {
      try {
        if (poll(socket, state)) continue;
      } catch (error) {
        if (!(error instanceof EventError)) throw error;
      }
      states.delete(socket);
      socket.close();
    }
  }
  await listening.close();
  for (const socket of states.keys()) socket.close();
  console.log(`${polls} polls, ${useless} of them useless`);
});

function count(nothing: boolean): void {
  polls++;
  if (nothing) useless++;
}

/** Polls one socket. @returns False if the connection has ended */
function poll(socket: Socket, state: State): boolean {
  const { input, output } = state;
  if (output.length > 0) {
    // The peer has not read its answers, so nothing more is read.
    const n = socket.sendBuffer(output);
    count(n === EAGAIN);
    return output.length > 0 || !state.ended;
  }
  const n = socket.recvBuffer(input, MAX_LINE - input.length);
  count(n === EAGAIN); // The kernel had no data for us to read.
  if (n === 0) return false;
  if (n > 0) handleInput(input, output);
  return true;
}

function handleInput(input: EvBuffer, output: EvBuffer): void {
  for (let line = input.readln(EVBUFFER_EOL_LF); line !== null; line = input.readln(EVBUFFER_EOL_LF)) {
    output.add(rot13(line));
    output.add("\n");
  }
  if (input.length >= MAX_LINE) {
    output.add(rot13(input.toUint8Array()));
    output.add("\n");
    input.drain(input.length);
  }
}
