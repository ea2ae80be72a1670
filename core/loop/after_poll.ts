/** The poll that a deadline of I/O is told behind. */

import type { Runtime } from "../runtime.ts";

/**
 * Calls `fn` once the host has been polled: what had arrived when this was called was given to its sinks before.
 *
 * A program that was busy until a deadline has passed hears of the deadline first: hosts run timers before they poll.
 */
export function afterPoll(runtime: Runtime, fn: () => void): void {
  if (runtime.poll !== undefined) runtime.poll(fn);
  // The first call may come from a poll that goes on, and is deferred behind that; the second is behind another one.
  else runtime.defer(() => runtime.defer(fn));
}
