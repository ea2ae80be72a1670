/**
 * What the programs that wait by themselves have in common: they run no event base, so that signals have to end their
 * wait.
 */

import { type EventBase, type InetAddress, type Socket, stopOnSignals } from "trivent";

/** Gives a signal that Ctrl-C and `kill` abort: with it, what waits rejects. */
export function stopSignal(base: EventBase): AbortSignal {
  const stop = new AbortController();
  stopOnSignals({ base, close: () => stop.abort() });
  return stop.signal;
}

/** Runs a loop until it ends, or Ctrl-C or `kill` ends the wait that it is in. */
export async function untilStopped(base: EventBase, loop: (stop: AbortSignal) => Promise<unknown>): Promise<void> {
  const stop = stopSignal(base);
  try {
    await loop(stop);
  } catch (error) {
    if (!stop.aborted || error !== stop.reason) throw error;
  }
}

/** Waits for Ctrl-C or `kill`. */
export function stopped(base: EventBase): Promise<void> {
  return new Promise((resolve) => stopSignal(base).addEventListener("abort", () => resolve()));
}

/** The peer, in the words of the documents. The address of one that was gone before it was accepted is not known. */
export function peer(socket: Socket): string {
  const address = socket.remoteAddress as InetAddress | undefined;
  return address === undefined ? "already gone" : `ip ${address.hostname}, port ${address.port}`;
}
