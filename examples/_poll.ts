/**
 * Shared by the programs that wait without an event base: signals must end their wait.
 */

import { type EventBase, type InetAddress, type Socket, stopOnSignals } from "trivent";

/** Returns an AbortSignal that Ctrl-C and `kill` abort. It makes a wait reject. */
export function stopSignal(base: EventBase): AbortSignal {
  const stop = new AbortController();
  stopOnSignals({ base, close: () => stop.abort() });
  return stop.signal;
}

/** Runs a loop until it ends, or Ctrl-C or `kill` ends its current wait. */
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

/** The peer, in the format of the documents. A peer that left before it was accepted has no address. */
export function peer(socket: Socket): string {
  const address = socket.remoteAddress as InetAddress | undefined;
  return address === undefined ? "already gone" : `ip ${address.hostname}, port ${address.port}`;
}
