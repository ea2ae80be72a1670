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

const NONE: LoopEvent[] = [];

/** A source of readiness. */
export abstract class Source {
  /** Which of `EV_READ`, `EV_WRITE` and `EV_CLOSED` hold now. */
  readiness = 0;
  /** The loop that has it in its list of sources to look at. */
  queuedIn: Loop | null = null;
  /** The loop whose events watch it; null when none does. */
  loop: Loop | null = null;
  /** The events that watch it, in the order in which they were added. */
  events: LoopEvent[] = NONE;
  /** Whether the owner has closed it. */
  #released = false;
  #observers: ReadinessObserver[] | null = null;
  /** The overlapped operations on it, where there have been any. */
  overlapped: ReadinessObserver | null = null;

  /** The host. */
  abstract readonly runtime: Runtime;
  /** Whether the owner has closed it. */
  abstract readonly closed: boolean;

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
    const observers = this.#observers;
    if (observers !== null) {
      // Back to front: an observer that is content takes itself out.
      for (let i = observers.length - 1; i >= 0; i--) observers[i]?.onReady(this, edges);
    }
    const loop = this.loop;
    if (loop === null) return;
    for (const event of this.events) {
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
    if (this.#released) throw new EventError("Cannot add an event: its socket was closed", { code: "EBADF" });
    if (this.loop !== event.loop) {
      if (this.loop !== null) {
        throw new EventError("Cannot add an event: its socket has events of another base", { code: "EV_BUSY" });
      }
      this.loop = event.loop;
      event.loop.sources.add(this);
    }
    if (this.events === NONE) this.events = [event];
    else this.events.push(event);
  }

  /** Takes back an event that watches it. */
  detach(event: LoopEvent): void {
    const events = this.events;
    const index = events.indexOf(event);
    if (index >= 0) events.splice(index, 1);
    if (events.length === 0) {
      this.loop?.sources.delete(this);
      this.loop = null;
    }
  }

  /** Lets an observer watch it. */
  observe(observer: ReadinessObserver): void {
    (this.#observers ??= []).push(observer);
  }

  /** Takes back an observer. */
  unobserve(observer: ReadinessObserver): void {
    const observers = this.#observers;
    const index = observers === null ? -1 : observers.indexOf(observer);
    if (index >= 0) observers?.splice(index, 1);
  }

  /** The owner has closed it: nothing watches it any more. */
  release(): void {
    this.#released = true;
    this.readiness = 0;
    const loop = this.loop;
    if (loop !== null) { for (const event of this.events.slice()) loop.del(event); }
    const observers = this.#observers;
    this.#observers = null;
    if (observers !== null) { for (const observer of observers) observer.onSourceClosed(this); }
  }
}
