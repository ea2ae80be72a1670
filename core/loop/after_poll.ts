/** Waits for a poll: a timeout of I/O is reported after it. */

import type { Runtime } from "../runtime.ts";

/**
 * Calls `fn` after a poll of the runtime. Before that, the sinks have got everything that had arrived when this was
 * called.
 *
 * Without this, a program that was busy until a deadline would get the deadline first, because runtimes run
 * timers before they poll.
 */
export function afterPoll(runtime: Runtime, fn: () => void): void {
  if (runtime.poll !== undefined) runtime.poll(fn);
  // The first call may be inside a poll, so the first deferral ends after that one, and the second after another.
  else runtime.defer(() => runtime.defer(fn));
}
