/** A deadline on the host's clock that needs no loop: `close()` goes on without one. */

import type { Runtime, TimerToken } from "../runtime.ts";

/** The longest sleep asked of a host: beyond 2^31 ms all of them fire at once. */
const MAX_SLEEP_MS = 2 ** 30;

/**
 * Calls `fn` once when the host's clock has reached `deadline`.
 *
 * @param background Whether the process may end before: what is waited for keeps it alive, or is not to
 * @returns Takes it back
 */
export function atDeadline(runtime: Runtime, deadline: number, fn: () => void, background = false): () => void {
  let timer: TimerToken;
  const sleep = (): void => {
    timer = runtime.setTimer(Math.min(deadline, runtime.now() + MAX_SLEEP_MS), wake, background);
  };
  const wake = (): void => runtime.now() < deadline ? sleep() : fn();
  sleep();
  return () => runtime.clearTimer(timer);
}
