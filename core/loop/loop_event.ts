/**
 * What the loop schedules. The public `EventHandle`, the events inside a bufferevent or a listener, deferred callbacks
 * and once-events are all of this class; it is pure state, and only `Loop` changes it.
 */

import { NO_TIMER, TimerNode } from "./timer_heap.ts";
import type { CommonQueue } from "./common_queue.ts";
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
/** In `LoopEvent.state`: `unref()` was called: it does not keep the loop running. */
export const UNREF = 16;
/**
 * In `LoopEvent.state`: its timeout is one of I/O, or of a signal. The loop tells it only when the host has been polled since the
 * deadline: what arrived in time restarts the timer first.
 */
export const AFTER_POLL = 32;
const LEVEL_SHIFT = 6;
/** In `LoopEvent.slot`: its deadline is in a common timeout's queue. */
export const IN_COMMON = -2;
/** In `LoopEvent.slot`: its deadline has passed, and waits in the loop for a poll of the host. */
export const OVERDUE = -3;

/**
 * What few events have. It is made when it is needed, since a million timers are a million times the size of an event,
 * and the collector copies and marks all of that.
 */
export class EventExtra {
  /** The timeout that a persistent event is re-armed with, in milliseconds; -1 for none. */
  interval = -1;
  /** The common timeout that a persistent event is re-armed with. */
  common: CommonQueue | null = null;
  /** The deadline that has come last, or that it has outside of the heap. */
  deadline = 0;
  /** The order among equal deadlines, in a common timeout's queue. */
  seq = 0;
  /** The common timeout's queue that it is in. */
  queue: CommonQueue | null = null;
  /** The event behind it there. */
  next: LoopEvent | null = null;
  /** The event before it there. */
  prev: LoopEvent | null = null;
  /** The event behind it among those that watch its source. */
  sibling: LoopEvent | null = null;
  /** Edges that an edge-triggered event has not been told of. */
  edge = 0;
  /** How many raises of a signal have not been told. */
  raised = 0;
  /** Set by `finalize()`: what runs once in place of everything else. */
  finalizer: (() => void) | null = null;
}

/**
 * An event as the loop sees it. Fields that are declared, and set in the constructor, cost 20 ns less for an event than
 * initializers, which V8 calls by way of each class of the chain.
 */
export abstract class LoopEvent extends TimerNode {
  /** The loop that it belongs to. */
  declare loop: Loop;
  /** What it waits for: a source, the name of a signal, or nothing but time and activation. */
  declare source: Source | string | null;
  /** What it was made for: `EV_READ`, `EV_WRITE`, `EV_CLOSED`, `EV_SIGNAL`, with `EV_PERSIST` and `EV_ET`. */
  declare what: number;
  /**
   * Bits: {@linkcode INSERTED}, {@linkcode ACTIVE}, {@linkcode CLOSED}, {@linkcode FREED}, {@linkcode UNREF},
   * {@linkcode AFTER_POLL}, and above them `level`.
   */
  declare state: number;
  /** Why it is active. */
  declare result: number;
  /** The event behind it in the active queue. */
  declare next: LoopEvent | null;
  /** The event before it in the active queue. */
  declare prev: LoopEvent | null;
  /** What few events have. */
  declare extra: EventExtra | null;

  constructor(loop: Loop, source: Source | string | null, what: number, level: number) {
    super();
    this.loop = loop;
    this.source = source;
    this.what = what;
    this.state = level << LEVEL_SHIFT;
    this.result = 0;
    this.next = null;
    this.prev = null;
    this.extra = null;
  }

  /** Runs what the event is for. May throw what the user's callback throws. */
  abstract run(what: number): void;

  /**
   * What `run` has thrown.
   *
   * @returns Whether somebody has seen to it, so that the loop goes on; else the loop ends with it
   */
  caught(_error: unknown): boolean {
    return false;
  }

  /** Its active queue: 0 is the most urgent. */
  get level(): number {
    return this.state >> LEVEL_SHIFT;
  }

  set level(level: number) {
    this.state = (this.state & ~(-1 << LEVEL_SHIFT)) | (level << LEVEL_SHIFT);
  }

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
    if (this.extra !== null || edges !== 0) this.more.edge = edges;
  }

  /** The event behind it among those that watch its source. */
  get sibling(): LoopEvent | null {
    return this.extra === null ? null : this.extra.sibling;
  }

  set sibling(event: LoopEvent | null) {
    if (this.extra !== null || event !== null) this.more.sibling = event;
  }

  /** Sets what runs once in place of everything else. */
  set finalizer(finalizer: () => void) {
    this.more.finalizer = finalizer;
  }
}
