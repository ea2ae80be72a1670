/** Common timeouts: one queue for all events with the same duration, in place of a heap entry for each. */

import type { LoopEvent } from "./loop_event.ts";
import { type TimerHeap, TimerNode } from "./timer_heap.ts";

/**
 * The events of one duration, in order of their deadlines. The queue itself is a node of the heap, due when its first
 * event is. Adding is O(1), since a later event has a later deadline (but for a persistent one that was late).
 */
export class CommonQueue extends TimerNode {
  /** The duration in milliseconds. */
  readonly ms: number;
  /** The event that is due first. */
  first: LoopEvent | null = null;
  #last: LoopEvent | null = null;
  readonly #heap: TimerHeap;

  constructor(heap: TimerHeap, ms: number) {
    super();
    this.#heap = heap;
    this.ms = ms;
  }

  /** Adds an event that is in no queue. */
  insert(event: LoopEvent, deadline: number): void {
    event.deadline = deadline;
    event.seq = this.#heap.nextSeq();
    event.commonIn = this;
    let after = this.#last;
    while (after !== null && after.deadline > deadline) after = after.timerPrev;
    event.timerPrev = after;
    event.timerNext = after === null ? this.first : after.timerNext;
    if (event.timerNext === null) this.#last = event;
    else event.timerNext.timerPrev = event;
    if (after === null) {
      this.first = event;
      this.#heap.schedule(this, deadline, event.seq);
    } else after.timerNext = event;
  }

  /** Takes out an event that is in. */
  remove(event: LoopEvent): void {
    const { timerPrev, timerNext } = event;
    event.commonIn = null;
    event.timerPrev = event.timerNext = null;
    if (timerNext === null) this.#last = timerPrev;
    else timerNext.timerPrev = timerPrev;
    if (timerPrev !== null) {
      timerPrev.timerNext = timerNext;
      return;
    }
    this.first = timerNext;
    this.#heap.remove(this);
    if (timerNext !== null) this.#heap.schedule(this, timerNext.deadline, timerNext.seq);
  }
}

/** For the loop: the queue behind a common timeout. */
export let queueOf: (timeout: CommonTimeout) => CommonQueue;

/**
 * A duration that many events of a base share; what `EventBase.initCommonTimeout()` gives and `EventHandle.add()` takes.
 *
 * libevent: the tagged `struct timeval` of `event_base_init_common_timeout`.
 */
export class CommonTimeout {
  /** The duration in milliseconds. */
  readonly ms: number;
  readonly #queue: CommonQueue;

  private constructor(queue: CommonQueue) {
    queueOf ??= (timeout: CommonTimeout): CommonQueue => timeout.#queue;
    this.#queue = queue;
    this.ms = queue.ms;
  }
}

/** For the loop: makes a common timeout for a queue. */
export function commonTimeoutOf(queue: CommonQueue): CommonTimeout {
  const Face = CommonTimeout as unknown as new (queue: CommonQueue) => CommonTimeout;
  return new Face(queue);
}
