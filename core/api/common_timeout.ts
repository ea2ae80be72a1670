/** The durations that many events of a base share. */

import { checkInner } from "../checks.ts";
import { CommonQueue } from "../loop/common_queue.ts";

/** For the classes of this folder: the queue of a common timeout; null for anything else. */
export function queueOf(timeout: unknown): CommonQueue | null {
  return typeof timeout === "object" && timeout !== null ? behind(timeout) : null;
}

/** Set by the first CommonTimeout: see `Pollable`. */
let behind: (timeout: object) => CommonQueue | null = none;

function none(): null {
  return null;
}

/**
 * A duration that many events of a base share. `EventBase.initCommonTimeout()` makes it, and `EventHandle.add()` takes
 * it.
 *
 * libevent: the tagged `struct timeval` of `event_base_init_common_timeout`.
 */
export class CommonTimeout {
  /** The duration in milliseconds. */
  readonly ms: number;
  readonly #queue: CommonQueue;

  private constructor(queue: CommonQueue) {
    if (behind === none) behind = (timeout) => #queue in timeout ? timeout.#queue : null;
    this.#queue = checkInner(queue, CommonQueue, "CommonTimeout", "EventBase.initCommonTimeout()");
    this.ms = queue.ms;
  }
}

/** For the classes of this folder: makes a common timeout for a queue. */
export function commonTimeoutOf(queue: CommonQueue): CommonTimeout {
  const Face = CommonTimeout as unknown as new (queue: CommonQueue) => CommonTimeout;
  return new Face(queue);
}
