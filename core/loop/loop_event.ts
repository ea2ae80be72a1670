/**
 * What the loop schedules. The public `EventHandle`, the events inside a bufferevent or a listener, deferred callbacks
 * and once-events are all of this class; it is pure state, and only `Loop` changes it.
 */

import { NO_TIMER, TimerNode } from "./timer_heap.ts";
import type { CommonQueue } from "./common_timeout.ts";
import type { Loop } from "./loop.ts";
import type { Source } from "./source.ts";

/** In `LoopEvent.state`: the I/O or signal part is added. */
export const INSERTED = 1;
/** In `LoopEvent.state`: it is in an active queue, or waits to get there in the next pass. */
export const ACTIVE = 2;
/** In `LoopEvent.state`: `finalize()` or `free()` was called: it can't be added any more. */
export const CLOSED = 4;
/** In `LoopEvent.state`: `free()` was called. */
export const FREED = 8;
/** In `LoopEvent.slot`: its deadline is in a common timeout's queue. */
export const IN_COMMON = -2;

/**
 * What few events have. It is made when it is needed, since a million timers are a million times the size of an event,
 * and the collector copies and marks all of that.
 */
export class EventExtra {
  /** The timeout that a persistent event is re-armed with, in milliseconds; -1 for none. */
  interval = -1;
  /** The common timeout that a persistent event is re-armed with. */
  common: CommonQueue | null = null;
  /** The deadline that has come last, or that it has in a common timeout's queue. */
  deadline = 0;
  /** The order among equal deadlines, in a common timeout's queue. */
  seq = 0;
  /** The common timeout's queue that it is in. */
  queue: CommonQueue | null = null;
  /** The event behind it there. */
  next: LoopEvent | null = null;
  /** The event before it there. */
  prev: LoopEvent | null = null;
  /** Edges that an edge-triggered event has not been told of. */
  edge = 0;
  /** How many raises of a signal have not been told. */
  raised = 0;
  /** Set by `finalize()`: what runs once in place of everything else. */
  finalizer: (() => void) | null = null;
}

/** An event as the loop sees it. */
export abstract class LoopEvent extends TimerNode {
  /** The loop that it belongs to. */
  loop: Loop;
  /** What it waits for: a source, the name of a signal, or nothing but time and activation. */
  source: Source | string | null;
  /** What it was made for: `EV_READ`, `EV_WRITE`, `EV_CLOSED`, `EV_SIGNAL`, with `EV_PERSIST` and `EV_ET`. */
  what: number;
  /** Its active queue: 0 is the most urgent. */
  level: number;
  /** Bits: {@linkcode INSERTED}, {@linkcode ACTIVE}, {@linkcode CLOSED}, {@linkcode FREED}. */
  state = 0;
  /** Why it is active. */
  result = 0;
  /** The event behind it among those that watch its source. */
  sibling: LoopEvent | null = null;
  /** The event behind it in the active queue. */
  next: LoopEvent | null = null;
  /** The event before it in the active queue. */
  prev: LoopEvent | null = null;
  /** What few events have. */
  extra: EventExtra | null = null;

  constructor(loop: Loop, source: Source | string | null, what: number, level: number) {
    super();
    this.loop = loop;
    this.source = source;
    this.what = what;
    this.level = level;
  }

  /** Runs what the event is for. May throw what the user's callback throws. */
  abstract run(what: number): void;

  /** {@linkcode LoopEvent.level} by its public name, under which `EventHandle` has more to say. */
  get priority(): number {
    return this.level;
  }

  set priority(level: number) {
    this.level = level;
  }

  /** Whether the I/O or signal part is added. */
  get inserted(): boolean {
    return (this.state & INSERTED) !== 0;
  }

  /** Whether it is in an active queue, or waits to get there in the next pass. */
  get active(): boolean {
    return (this.state & ACTIVE) !== 0;
  }

  /** Whether its timer runs. */
  get timed(): boolean {
    return this.slot !== NO_TIMER;
  }

  /** What is made when it is needed. */
  get more(): EventExtra {
    return this.extra ??= new EventExtra();
  }

  /** Edges that an edge-triggered event has not been told of. */
  get edge(): number {
    return this.extra === null ? 0 : this.extra.edge;
  }

  set edge(edges: number) {
    this.more.edge = edges;
  }

  /** Sets what runs once in place of everything else. */
  set finalizer(finalizer: () => void) {
    this.more.finalizer = finalizer;
  }
}
