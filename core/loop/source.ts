/**
 * A source is a thing that an event can wait for: it is or is not readable, writable or closed. Connections, listening
 * sockets and datagram sockets are sources. The loop, `select()` and `Poller` watch them.
 */

import { EV_CLOSED, EV_ET, EV_READ, EV_WRITE } from "../flags.ts";
import { EventError, invariant } from "../errors.ts";
import type { LoopEvent } from "./loop_event.ts";
import type { Runtime } from "../runtime.ts";
import type { Loop } from "./loop.ts";

/** The conditions that a source can have. */
export const IO_CONDITIONS: number = EV_READ | EV_WRITE | EV_CLOSED;

/** An object that is told of each change of a source's readiness, in place of an event: a poller, a `select()`. */
export interface ReadinessObserver {
  /**
   * The source has become ready, or is ready anew (more bytes). It runs inside the runtime's callback, so it must not
   * call code of the program.
   */
  onReady(source: Source, edges: number): void;
  /** The source was closed by its owner. */
  onSourceClosed(source: Source): void;
}

/** State that only some sources need. */
class Rare {
  observers: ReadinessObserver[] = [];
  overlapped: ReadinessObserver | null = null;
}

/** A source of readiness. There is one for each connection, so rare state is in a separate object. */
export abstract class Source {
  /** Which of `EV_READ`, `EV_WRITE` and `EV_CLOSED` hold now. */
  readiness = 0;
  /** The loop that has it in its list of ready sources. */
  queuedIn: Loop | null = null;
  /** The loop of the events that watch it; null if there are none. */
  loop: Loop | null = null;
  /** The events that watch it, in the order in which they were added. `sibling` links them. */
  firstEvent: LoopEvent | null = null;
  // Links of the loop's list.
  next: Source | null = null;
  prev: Source | null = null;
  private attached: Rare | null = null;

  /** The runtime. */
  abstract readonly runtime: Runtime;
  /** Whether the owner has closed it. */
  abstract readonly closed: boolean;

  /** Whether an event or an observer watches it. */
  get watched(): boolean {
    return this.firstEvent !== null || this.attached !== null && this.attached.observers.length > 0;
  }

  /** The public object of this source. */
  abstract get pollable(): object;

  /** The name of its class. A builder may have changed the class's own. */
  abstract readonly kind: string;

  /**
   * Conditions have become true, or true anew. Inside a callback of the runtime, a turn of the loop may run in this
   * call. Inside a call of the program, the turn runs later.
   */
  notify(edges: number, inHostCallback = true): void {
    this.readiness |= edges;
    if (this.attached !== null) this.tellObservers(this.attached.observers, edges);
    const { loop, firstEvent } = this;
    if (loop === null) return;
    // The usual event has no sibling and no edges, so that nothing needs to be noted.
    if (firstEvent !== null && (firstEvent.extra !== null || (firstEvent.what & EV_ET) !== 0)) this.noteEdges(edges);
    if (inHostCallback) loop.onSourceReady(this);
    else loop.queueSource(this);
  }

  private tellObservers(observers: readonly ReadinessObserver[], edges: number): void {
    // Back to front, because an observer may remove itself.
    for (let i = observers.length - 1; i >= 0; i--) observers[i]?.onReady(this, edges);
  }

  private noteEdges(edges: number): void {
    for (let event = this.firstEvent; event !== null; event = event.sibling) {
      if ((event.what & EV_ET) !== 0) event.edge |= edges & event.what;
    }
  }

  /** Conditions are no longer true. */
  clear(conditions: number): void {
    this.readiness &= ~conditions;
  }

  /** Adds an event that watches it. */
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

  /** Removes an event that watches it. */
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

  /** Adds an observer. */
  observe(observer: ReadinessObserver): void {
    (this.attached ??= new Rare()).observers.push(observer);
  }

  /** Removes an observer. */
  unobserve(observer: ReadinessObserver): void {
    const observers = this.attached?.observers ?? [];
    const index = observers.indexOf(observer);
    if (index >= 0) observers.splice(index, 1);
  }

  /** The overlapped operations on it, if there have been any. */
  get overlapped(): ReadinessObserver | null {
    return this.attached === null ? null : this.attached.overlapped;
  }

  set overlapped(operations: ReadinessObserver | null) {
    (this.attached ??= new Rare()).overlapped = operations;
  }

  /** The owner has closed it. Nothing watches it any more. */
  unwatch(): void {
    this.readiness = 0;
    const loop = this.loop;
    if (loop !== null) { while (this.firstEvent !== null) loop.del(this.firstEvent); }
    if (this.attached === null) return;
    const { observers } = this.attached;
    this.attached.observers = [];
    for (const observer of observers) observer.onSourceClosed(this);
  }
}

/**
 * The sources that a loop's events watch: a list through the sources themselves, which takes half the memory of a
 * `Set`.
 */
export class SourceList {
  first: Source | null = null;
  private last: Source | null = null;

  /** Adds a source that is not in a list. */
  add(source: Source): void {
    const last = this.last;
    source.prev = last;
    if (last === null) this.first = source;
    else last.next = source;
    this.last = source;
  }

  /** Removes a source that is in the list. */
  remove(source: Source): void {
    const { prev, next } = source;
    if (prev !== null) prev.next = next;
    else {
      invariant(this.first === source, "a source is taken out of a list that it is not in");
      this.first = next;
    }
    if (next === null) this.last = prev;
    else next.prev = prev;
    source.prev = source.next = null;
  }
}
