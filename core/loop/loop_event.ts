/**
 * What the loop schedules. The public `EventHandle`, the events inside a bufferevent or a listener, deferred callbacks
 * and once-events are all of this class; it is pure state, and only `Loop` changes it.
 */

import { TimerNode } from "./timer_heap.ts";
import type { CommonQueue } from "./common_timeout.ts";
import type { Loop } from "./loop.ts";
import type { Source } from "./source.ts";

/** An event as the loop sees it. */
export abstract class LoopEvent extends TimerNode {
  /** The loop that it belongs to. */
  loop: Loop;
  /** What it waits for: a source, the name of a signal, or nothing but time and activation. */
  source: Source | string | null;
  /** What it was made for: `EV_READ`, `EV_WRITE`, `EV_CLOSED`, `EV_SIGNAL`, with `EV_PERSIST` and `EV_ET`. */
  what: number;
  /** Its active queue: 0 is the most urgent. */
  priority: number;

  /** Whether the I/O or signal part is added. */
  inserted = false;
  /** The timeout that it was added with, in milliseconds; -1 for none. What a persistent event is re-armed with. */
  interval = -1;
  /** The common timeout that it was added with: its deadline goes there in place of the heap. */
  common: CommonQueue | null = null;
  /** The common timeout's queue that it is in now. */
  commonIn: CommonQueue | null = null;
  /** Edges that an edge-triggered event has not been told of. */
  edge = 0;
  /** Whether it is in an active queue, or waits to get there in the next pass. */
  active = false;
  /** Why it is active. */
  result = 0;
  /** How many raises of a signal have not been told. */
  raised = 0;
  /** Set by `finalize()`: what runs once in place of everything else. */
  finalizer: (() => void) | null = null;
  /** `finalize()` or `free()` was called: it can't be added any more. */
  closed = false;

  /** The event behind it among those that watch its source. */
  sibling: LoopEvent | null = null;
  // Links of the active queue and of a common timeout's queue.
  next: LoopEvent | null = null;
  prev: LoopEvent | null = null;
  timerNext: LoopEvent | null = null;
  timerPrev: LoopEvent | null = null;

  constructor(loop: Loop, source: Source | string | null, what: number, priority: number) {
    super();
    this.loop = loop;
    this.source = source;
    this.what = what;
    this.priority = priority;
  }

  /** Runs what the event is for. May throw what the user's callback throws. */
  abstract run(what: number): void;

  /** Whether its timer runs. */
  get timed(): boolean {
    return this.index >= 0 || this.commonIn !== null;
  }

  /** The user's object, for those that have one. */
  get handle(): object | null {
    return null;
  }
}
