/**
 * What an event waits for: something that is or is not readable, writable or closed. A connection, a listening socket
 * and a datagram socket are sources; the loop, `select()` and `Poller` watch them.
 */

import { EV_CLOSED, EV_ET, EV_READ, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { LoopEvent } from "./loop_event.ts";
import type { Runtime } from "../runtime.ts";
import type { Loop } from "./loop.ts";

/** The conditions that a source can have. */
export const IO_CONDITIONS: number = EV_READ | EV_WRITE | EV_CLOSED;

/** Something that is told of each change of a source's readiness, in the place of an event: a poller, a `select()`. */
export interface ReadinessObserver {
  /** The source has become ready, or is ready anew (more bytes). Runs inside the host's callback: no user code here. */
  onReady(source: Source, edges: number): void;
  /** The source was closed by its owner. */
  onSourceClosed(source: Source): void;
}

/** What only some sources have. */
class Side {
  observers: ReadinessObserver[] = [];
  overlapped: ReadinessObserver | null = null;
}

/** A source of readiness. There is one for each connection, so that what is rare hangs off `#side`. */
export abstract class Source {
  /** Which of `EV_READ`, `EV_WRITE` and `EV_CLOSED` hold now. */
  readiness = 0;
  /** The loop that has it in its list of sources to look at. */
  queuedIn: Loop | null = null;
  /** The loop whose events watch it; null when none does. */
  loop: Loop | null = null;
  /** The events that watch it, in the order in which they were added; each has the one behind it as its `sibling`. */
  firstEvent: LoopEvent | null = null;
  // Links of the loop's list.
  next: Source | null = null;
  prev: Source | null = null;
  #side: Side | null = null;

  /** The host. */
  abstract readonly runtime: Runtime;
  /** Whether the owner has closed it. */
  abstract readonly closed: boolean;

  /** Whether an event or an observer waits for what happens to it. */
  get watched(): boolean {
    return this.firstEvent !== null || this.#side !== null && this.#side.observers.length > 0;
  }

  /** The user's object that this source is behind. */
  abstract get pollable(): object;

  /** The name of its class. A builder may have changed the class's own. */
  abstract readonly kind: string;

  /**
   * Conditions have come true, or true anew. In a host's callback a turn of the loop may run inside this call; in a call
   * of the user's it runs later.
   */
  notify(edges: number, inHostCallback = true): void {
    this.readiness |= edges;
    if (this.#side !== null) {
      const { observers } = this.#side;
      // Back to front: an observer that is content takes itself out.
      for (let i = observers.length - 1; i >= 0; i--) observers[i]?.onReady(this, edges);
    }
    const loop = this.loop;
    if (loop === null) return;
    for (let event = this.firstEvent; event !== null; event = event.sibling) {
      if ((event.what & EV_ET) !== 0) event.edge |= edges & event.what;
    }
    if (inHostCallback) loop.onSourceReady(this);
    else loop.queueSource(this);
  }

  /** Conditions have ceased to hold. */
  clear(conditions: number): void {
    this.readiness &= ~conditions;
  }

  /** Lets an event watch it. */
  attach(event: LoopEvent): void {
    if (this.closed) throw new EventError("Cannot add an event: its socket was closed", { code: "EBADF" });
    if (this.loop !== event.loop) {
      if (this.loop !== null) {
        throw new EventError("Cannot add an event: its socket has events of another base", { code: "EV_BUSY" });
      }
      this.loop = event.loop;
      event.loop.sources.add(this);
    }
    let last = this.firstEvent;
    if (last === null) {
      this.firstEvent = event;
      return;
    }
    while (last.sibling !== null) last = last.sibling;
    last.sibling = event;
  }

  /** Takes back an event that watches it. */
  detach(event: LoopEvent): void {
    if (this.firstEvent === event) this.firstEvent = event.sibling;
    else {
      let before = this.firstEvent;
      while (before !== null && before.sibling !== event) before = before.sibling;
      if (before !== null) before.sibling = event.sibling;
    }
    event.sibling = null;
    if (this.firstEvent === null && this.loop !== null) {
      this.loop.sources.remove(this);
      this.loop = null;
    }
  }

  /** Lets an observer watch it. */
  observe(observer: ReadinessObserver): void {
    (this.#side ??= new Side()).observers.push(observer);
  }

  /** Takes back an observer. */
  unobserve(observer: ReadinessObserver): void {
    const observers = this.#side?.observers ?? [];
    const index = observers.indexOf(observer);
    if (index >= 0) observers.splice(index, 1);
  }

  /** The overlapped operations on it, where there have been any. */
  get overlapped(): ReadinessObserver | null {
    return this.#side === null ? null : this.#side.overlapped;
  }

  set overlapped(operations: ReadinessObserver | null) {
    (this.#side ??= new Side()).overlapped = operations;
  }

  /** The owner has closed it, as `closed` says: nothing watches it any more. */
  release(): void {
    this.readiness = 0;
    const loop = this.loop;
    if (loop !== null) { while (this.firstEvent !== null) loop.del(this.firstEvent); }
    if (this.#side === null) return;
    const { observers } = this.#side;
    this.#side.observers = [];
    for (const observer of observers) observer.onSourceClosed(this);
  }
}

/** The sources that a loop's events watch: a list through the sources themselves, half of what a place in a `Set` takes. */
export class SourceList {
  first: Source | null = null;
  #last: Source | null = null;

  /** Adds a source that is in no list. */
  add(source: Source): void {
    const last = this.#last;
    source.prev = last;
    if (last === null) this.first = source;
    else last.next = source;
    this.#last = source;
  }

  /** Takes out a source that is in. */
  remove(source: Source): void {
    const { prev, next } = source;
    if (prev === null) this.first = next;
    else prev.next = next;
    if (next === null) this.#last = prev;
    else next.prev = prev;
    source.prev = source.next = null;
  }
}
