/**
 * The things that the loop schedules. The public `EventHandle`, the events of a bufferevent or a listener, deferred
 * callbacks and once-events are all of this class. It is only state, and only `Loop` changes it.
 */

import type { Bits } from "../bits.ts";
import { NO_TIMER, TimerNode } from "./timer_heap.ts";
import type { CommonQueue } from "./common_queue.ts";
import type { Loop } from "./loop.ts";
import type { Source } from "./source.ts";

/** Bits of `LoopEvent.state`. */
export type EventBits = Bits<"event">;

/** In `LoopEvent.state`: the I/O or signal part is added. */
export const INSERTED: EventBits = 1;
/** In `LoopEvent.state`: it is in an active queue, or waits to get there in the next pass. */
export const ACTIVE: EventBits = 2;
/** In `LoopEvent.state`: `finalize()` or `free()` was called: it cannot be added any more. */
export const CLOSED: EventBits = 4;
/** In `LoopEvent.state`: `free()` was called. */
export const FREED: EventBits = 8;
/** In `LoopEvent.state`: `unref()` was called: it does not keep the loop running. */
export const UNREF: EventBits = 16;
/**
 * In `LoopEvent.state`: its timeout is one of I/O, or of a signal. The loop reports it only after a poll that began
 * after the deadline, because bytes that arrived in time restart the timer.
 */
export const AFTER_POLL: EventBits = 32;
/** In `LoopEvent.state`: how far above the bits `level` begins. */
export const LEVEL_SHIFT = 6;
/** In `LoopEvent.slot`: its deadline is in a common timeout's queue. */
export const IN_COMMON = -2;
/** In `LoopEvent.slot`: its deadline has passed, and it waits for a poll of the runtime. */
export const OVERDUE = -3;

/**
 * State that few events need. It is made when needed, because programs make timers by the million, and the garbage
 * collector copies and marks all of them.
 */
export class EventExtra {
  /** The timeout that a persistent event is re-armed with, in milliseconds; -1 for none. */
  interval = -1;
  /** The common timeout that a persistent event is re-armed with. */
  common: CommonQueue | null = null;
  /** The deadline that has passed last, or that is not in the heap. */
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
  /** Edges that have not been reported to an edge-triggered event. */
  edge = 0;
  /** How many raises of a signal have not been reported. */
  raised = 0;
  /** Set by `finalize()`: it runs once, in place of everything else. */
  finalizer: (() => void) | null = null;
}

/**
 * An event of the loop. Fields are declared and then set in the constructor. That costs 20 ns less than initializers,
 * which V8 calls for each class of the hierarchy.
 */
export abstract class LoopEvent extends TimerNode {
  /** The loop that it belongs to. */
  declare loop: Loop;
  /** The thing that it waits for: a source, the name of a signal, or null for time and activation only. */
  declare source: Source | string | null;
  /**
   * The flags that it was made with: `EV_READ`, `EV_WRITE`, `EV_CLOSED`, `EV_SIGNAL`, with `EV_PERSIST` and `EV_ET`.
   */
  declare what: number;
  /**
   * Bits: {@linkcode INSERTED}, {@linkcode ACTIVE}, {@linkcode CLOSED}, {@linkcode FREED}, {@linkcode UNREF},
   * {@linkcode AFTER_POLL}, and above them `level`.
   */
  declare state: EventBits;
  /** The `EV_` flags for which it is active; 0 if its owner has activated it for a reason of its own. */
  declare result: number;
  /** The event behind it in the active queue. */
  declare next: LoopEvent | null;
  /** The event before it in the active queue. */
  declare prev: LoopEvent | null;
  /** State that few events need; null if there is none. */
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

  /** Runs the event. It may throw the exception of a callback. */
  abstract run(what: number): void;

  /**
   * Handles an exception of `run`.
   *
   * @returns Whether it was handled, so that the loop goes on; otherwise the loop rejects with it
   */
  caught(_error: unknown): boolean {
    return false;
  }

  /** Its priority: 0 is the most urgent. */
  get level(): number {
    return this.state >> LEVEL_SHIFT;
  }

  set level(level: number) {
    this.state = (this.state & ~(-1 << LEVEL_SHIFT)) | (level << LEVEL_SHIFT);
  }

  /** {@linkcode LoopEvent.level} by its public name, which `EventHandle` documents. */
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

  /** The state that is made when needed. */
  get madeExtra(): EventExtra {
    return this.extra ??= new EventExtra();
  }

  /** Edges that have not been reported to an edge-triggered event. */
  get edge(): number {
    return this.extra === null ? 0 : this.extra.edge;
  }

  set edge(edges: number) {
    if (this.extra !== null || edges !== 0) this.madeExtra.edge = edges;
  }

  /** The event behind it among those that watch its source. */
  get sibling(): LoopEvent | null {
    return this.extra === null ? null : this.extra.sibling;
  }

  set sibling(event: LoopEvent | null) {
    if (this.extra !== null || event !== null) this.madeExtra.sibling = event;
  }

  /** Sets the function that runs once, in place of everything else. */
  set finalizer(finalizer: () => void) {
    this.madeExtra.finalizer = finalizer;
  }
}
