/** A deadline on the runtime's clock. It needs no loop, because `close()` goes on without one. */

import { afterPoll } from "./after_poll.ts";
import type { Runtime, TimerToken } from "../runtime.ts";

/** The longest sleep asked of a runtime: beyond 2^31 ms all of them fire at once. */
export const MAX_SLEEP_MS: number = 2 ** 30;

/**
 * Calls `fn` once when the runtime's clock has reached `deadline` and the runtime has been polled since. Bytes that
 * came in time may have cancelled the deadline before.
 *
 * @param background Whether the process may end before: something else keeps it alive, or nothing should
 * @returns A function that cancels it
 */
export function atDeadline(runtime: Runtime, deadline: number, fn: () => void, background = false): () => void {
  let timer: TimerToken;
  let over = false;
  const sleep = (): void => {
    timer = runtime.setTimer(Math.min(deadline, runtime.now() + MAX_SLEEP_MS), wake, background);
  };
  const wake = (): void => runtime.now() < deadline ? sleep() : afterPoll(runtime, due);
  const due = (): void => {
    if (!over) fn();
  };
  sleep();
  return () => {
    over = true;
    runtime.clearTimer(timer);
  };
}

/** A deadline of {@linkcode atLateDeadline}. */
class Deadline {
  readonly at: number;
  readonly fn: () => void;
  /** Takes back the timer, once there is one. */
  cancel: (() => void) | null = null;
  over = false;

  constructor(at: number, fn: () => void) {
    this.at = at;
    this.fn = fn;
  }
}

const fresh: WeakMap<object, Deadline[]> = /* @__PURE__ */ new WeakMap();

/**
 * As {@linkcode atDeadline}, for waits that usually end at once, such as that for a peer that has finished already. A
 * timer is created only if the wait is still pending after the current poll. Setting and clearing one costs 1 us on
 * Node and 8 us on Deno.
 *
 * @returns A function that cancels it
 */
export function atLateDeadline(runtime: Runtime, at: number, fn: () => void): () => void {
  const deadline = new Deadline(at, fn);
  const instance = runtime.instance ?? runtime;
  const waiting = fresh.get(instance);
  if (waiting !== undefined) waiting.push(deadline);
  else {
    const list = [deadline];
    fresh.set(instance, list);
    runtime.defer(() => {
      fresh.delete(instance);
      for (const each of list) if (!each.over) each.cancel = atDeadline(runtime, each.at, each.fn);
    });
  }
  return () => {
    deadline.over = true;
    deadline.cancel?.();
  };
}
