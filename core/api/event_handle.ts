/** The public class of an event. */

import { checkInteger, outOfRange, wrongType } from "../checks.ts";
import { EV_CLOSED, EV_ET, EV_FINALIZE, EV_PERSIST, EV_READ, EV_SIGNAL, EV_TIMEOUT, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import { isPollable, type Pollable, sourceOf } from "./pollable.ts";
import { type CommonTimeout, queueOf } from "./common_timeout.ts";
import { type EventBase, loopOf } from "./event_base.ts";
import type { Loop } from "../loop/loop.ts";
import { ACTIVE, AFTER_POLL, CLOSED, FREED, INSERTED, LoopEvent } from "../loop/loop_event.ts";
import { Source } from "../loop/source.ts";

/**
 * The callback of an event. It gets the source (a signal's name, or null), the flags for which the event is active, and
 * the event.
 *
 * libevent: `event_callback_fn`.
 */
export type EventCallback = (source: Pollable | string | null, what: number, event: EventHandle) => void;

const KNOWN = EV_TIMEOUT | EV_READ | EV_WRITE | EV_SIGNAL | EV_PERSIST | EV_ET | EV_FINALIZE | EV_CLOSED;

/** The engine of an `EventHandle`. Both are the same object, so a timer costs one allocation. */
class UserEvent extends LoopEvent {
  declare callback: EventCallback;

  constructor(loop: Loop, source: Source | string | null, what: number, callback: EventCallback) {
    if (new.target as unknown === UserEvent) {
      throw new TypeError("Cannot make an EventCore: EventBase.event() makes it");
    }
    super(loop, source, what, loop.queues.length >> 1);
    if (source !== null) this.state |= AFTER_POLL;
    this.callback = callback;
  }

  override run(what: number): void {
    const { source, extra, callback } = this;
    // A signal that was raised several times is told as often, unless the event is deleted meanwhile.
    if (extra !== null && extra.raised > 0 && --extra.raised > 0) {
      if ((this.what & EV_PERSIST) !== 0) this.loop.activate(this, EV_SIGNAL);
      else extra.raised = 0;
    }
    const pollable = source === null || typeof source === "string" ? source : source.pollable as Pollable;
    callback(pollable, what, this as unknown as EventHandle);
  }
}

/**
 * The base class of {@linkcode EventHandle}. It has nothing for programs. It is exported only because a public class
 * extends it.
 */
export const EventCore: new (...args: unknown[]) => object = UserEvent as unknown as new (
  ...args: unknown[]
) => object;

/** The engine of a program's event. */
function inner(handle: EventHandle): UserEvent {
  return handle as unknown as UserEvent;
}

/** For `EventBase`: the public object of a loop's event, if it has one. */
export function handleOf(event: LoopEvent): EventHandle | null {
  return event instanceof UserEvent ? event as unknown as EventHandle : null;
}

/** Checks a timeout of the public API. */
export function checkTimeout(doing: string, ms: number): void {
  if (typeof ms !== "number") throw wrongType(doing, "timeoutMs is not a number", ms);
  if (!Number.isFinite(ms)) throw outOfRange(doing, "timeoutMs is not finite", ms);
}

/**
 * A condition and a callback. `EventBase.event()`, `timer()` and `signal()` make it. It does nothing until `add()`.
 *
 * libevent: `struct event`. (`Event` is a global of every runtime, hence the name.)
 *
 * @example
 * ```ts
 * import { EventBase } from "trivent";
 * const base = new EventBase();
 * base.timer(() => console.log("tick")).add(10);
 * await base.dispatch();
 * ```
 */
export class EventHandle extends EventCore {
  /**
   * Makes an event, as `EventBase.event()` does.
   *
   * @param base The base that it belongs to
   * @param source A socket, the name of a signal (with `EV_SIGNAL`), or null
   * @param what `EV_READ`, `EV_WRITE`, `EV_CLOSED` or `EV_SIGNAL`, with `EV_PERSIST` and `EV_ET`; 0 for a timer
   * @param cb The callback
   * @throws {RangeError} When the flags exclude each other
   * @throws {TypeError} When an argument is of the wrong type
   */
  constructor(base: EventBase, source: Pollable | string | null, what: number, cb: EventCallback) {
    check(source, what, cb);
    super(loopOf(base), isPollable(source) ? sourceOf(source) : source, what, cb);
  }

  /**
   * Makes the event pending. O(log n) in the number of timers with a timeout, else O(1).
   *
   * Without a timeout, an earlier one stays, and an event that waits only for time is not added. A negative timeout
   * fires at once. A persistent event is re-armed with the timeout each time it fires, unless the timeout is 0.
   *
   * libevent: `event_add`.
   *
   * @param timeout Milliseconds from now, or a common timeout of this base. In a callback it counts from the runtime's
   * clock, which one callback reads once, not from `base.now()`
   * @throws {EventError} `EV_FINALIZED` after `finalize()`, `EV_FREED` after `free()`, `EV_UNSUPPORTED` for a signal
   * that the runtime cannot catch, `EV_BUSY` for a socket that has events of another base, `EBADF` for one that was
   * closed
   * @throws {RangeError} When the timeout is not finite, or is a common timeout of another base
   */
  add(timeout?: number | CommonTimeout): void {
    const event = inner(this);
    if ((event.state & CLOSED) !== 0) {
      const freed = (event.state & FREED) !== 0;
      throw new EventError(`Cannot add an event: it was ${freed ? "freed" : "finalized"}`, {
        code: freed ? "EV_FREED" : "EV_FINALIZED",
      });
    }
    if (event.loop.freed) throw new EventError("Cannot add an event: its base was freed", { code: "EV_FREED" });
    if (timeout === undefined || typeof timeout === "number") {
      if (timeout !== undefined) checkTimeout("add an event", timeout);
      event.loop.add(event, timeout, null);
      return;
    }
    const queue = queueOf(timeout);
    if (queue === null) {
      throw wrongType("add an event", "the timeout is neither a number nor a CommonTimeout", timeout);
    }
    if (event.loop.commonQueues.get(queue.ms) !== queue) {
      throw new RangeError("Cannot add an event: the common timeout is of another base");
    }
    event.loop.add(event, queue.ms, queue);
  }

  /**
   * Makes the event neither pending nor active, and forgets its timeout. O(log n) with a timer, else O(1).
   *
   * libevent: `event_del`.
   */
  del(): void {
    const event = inner(this);
    if ((event.state & CLOSED) === 0) event.loop.del(event);
  }

  /**
   * Forgets the timeout and keeps the rest. A callback whose time has already come still runs.
   *
   * libevent: `event_remove_timer`.
   */
  removeTimer(): void {
    const event = inner(this);
    if ((event.state & CLOSED) === 0) event.loop.removeTimer(event);
  }

  /**
   * Makes the event active, pending or not. Its callback runs later, in the loop. If the event is active, `what` is
   * added to its flags. After `finalize()` or `free()` it does nothing.
   *
   * libevent: `event_active`.
   *
   * @param what The flags for the callback, such as `EV_READ`
   * @throws {TypeError} When `what` is not an integer
   */
  activate(what: number): void {
    checkInteger("activate an event", "what", what);
    const event = inner(this);
    if ((event.state & CLOSED) === 0 && !event.loop.freed) event.loop.activate(event, what);
  }

  /**
   * Returns the subset of `what` for which the event is pending or active.
   *
   * libevent: `event_pending`.
   *
   * @param what Such as `EV_READ | EV_TIMEOUT`
   * @returns The flags that hold
   */
  pending(what: number): number {
    const event = inner(this);
    return event.loop.pending(event, checkInteger("look at an event", "what", what));
  }

  /**
   * Makes the event not keep the loop running: `dispatch()` ends when only such events are left. While the loop runs
   * for something else, the event is called as before. If it is already active, it still runs.
   *
   * After `unref()` a timer or signal does not keep the process alive either. An open socket keeps it alive, with or
   * without events: see `Socket.unref()` and `ListeningSocket.unref()`.
   *
   * libevent: none.
   *
   * @example
   * ```ts
   * import { EV_PERSIST, EventBase } from "trivent";
   * const base = new EventBase();
   * const tick = base.event(null, EV_PERSIST, () => console.log("still at work"));
   * tick.add(1000);
   * tick.unref();
   * base.timer(() => console.log("done")).add(50);
   * await base.dispatch(); // ends after 50 ms
   * ```
   */
  unref(): void {
    const event = inner(this);
    event.loop.setHeld(event, false);
  }

  /** Makes the event keep the loop running, which is the default. */
  ref(): void {
    const event = inner(this);
    event.loop.setHeld(event, true);
  }

  /** When the timer is due, in milliseconds on the clock of `base.now()`; undefined without one. libevent: `event_pending`. */
  get expiresAt(): number | undefined {
    const event = inner(this);
    return event.timed ? event.loop.deadlineOf(event) : undefined;
  }

  /**
   * The priority; 0 is the most urgent. By default it is half of the base's number of priorities.
   *
   * libevent: `event_get_priority`, `event_priority_set`.
   */
  get priority(): number {
    return inner(this).level;
  }

  /** Sets the priority. Throws `EV_ACTIVE` on an active event, and a RangeError when the base has no such priority. */
  set priority(priority: number) {
    const event = inner(this);
    if (!Number.isInteger(priority) || priority < 0 || priority >= event.loop.queues.length) {
      throw outOfRange(
        "set the priority",
        `the priority is not between 0 and ${event.loop.queues.length - 1}`,
        priority,
      );
    }
    if (event.active) throw new EventError("Cannot set the priority: the event is active", { code: "EV_ACTIVE" });
    event.level = priority;
  }

  /** True until `free()`. libevent: `event_initialized`. */
  get initialized(): boolean {
    return (inner(this).state & FREED) === 0;
  }

  /** The base. libevent: `event_get_base`. */
  get base(): EventBase {
    return inner(this).loop.face as EventBase;
  }

  /** The flags that the event was made with. libevent: `event_get_events`. */
  get events(): number {
    return inner(this).what;
  }

  /**
   * Makes the object a new event.
   *
   * libevent: `event_assign`.
   *
   * @param base As in the constructor
   * @param source As in the constructor
   * @param what As in the constructor
   * @param cb As in the constructor
   * @throws {EventError} `EV_ACTIVE` when it is pending or active
   * @throws {RangeError} When the flags exclude each other
   */
  assign(base: EventBase, source: Pollable | string | null, what: number, cb: EventCallback): void {
    const event = inner(this);
    if ((event.state & (INSERTED | ACTIVE)) !== 0 || event.timed) {
      throw new EventError("Cannot assign an event: it is pending or active", { code: "EV_ACTIVE" });
    }
    check(source, what, cb);
    event.loop = loopOf(base);
    event.source = isPollable(source) ? sourceOf(source) : source;
    event.what = what;
    event.callback = cb;
    event.state = source === null ? 0 : AFTER_POLL;
    event.level = event.loop.queues.length >> 1;
    event.extra = null;
  }

  /**
   * Deletes the event for good; adding it throws from now on. It may be called inside the event's callback. A second
   * call does nothing.
   *
   * libevent: `event_free`.
   */
  free(): void {
    if (!this.initialized) return;
    this.del();
    inner(this).state |= CLOSED | FREED;
  }

  /**
   * Makes the event neither pending nor active. The loop calls `cb` once, at the event's priority, when the event's
   * callback can no longer run. If the base is freed before that, it calls `cb`.
   *
   * libevent: `event_finalize`.
   *
   * @param cb The callback. It gets the event
   * @throws {EventError} `EV_FINALIZED` when it was finalized or freed before, `EV_FREED` when the base was
   */
  finalize(cb: (event: EventHandle) => void): void {
    if (typeof cb !== "function") {
      throw wrongType("finalize an event", "the callback is not a function", cb);
    }
    const event = inner(this);
    if ((event.state & CLOSED) !== 0) {
      throw new EventError("Cannot finalize an event: it was finalized already", { code: "EV_FINALIZED" });
    }
    if (event.loop.freed) throw new EventError("Cannot finalize an event: its base was freed", { code: "EV_FREED" });
    event.loop.del(event);
    event.state |= CLOSED;
    event.finalizer = (): void => cb(this);
    event.loop.activate(event, EV_FINALIZE);
  }

  /** As `free()`. */
  [Symbol.dispose](): void {
    this.free();
  }
}

/** Checks the arguments for an event. */
function check(source: unknown, what: unknown, cb: unknown): void {
  if (typeof cb !== "function") {
    throw wrongType("make an event", "the callback is not a function", cb);
  }
  if (typeof what !== "number") {
    throw wrongType("make an event", "the flags are not a number", what);
  }
  if (source !== null && typeof source !== "string" && !isPollable(source)) {
    throw wrongType("make an event", "the source is not a socket, a signal's name or null", source);
  }
  if (!Number.isInteger(what) || (what & ~KNOWN) !== 0) {
    throw outOfRange("make an event", "unknown flags", what);
  }
  const signal = (what & EV_SIGNAL) !== 0;
  if (signal && (what & (EV_READ | EV_WRITE | EV_CLOSED | EV_ET)) !== 0) {
    throw new RangeError(`Cannot make an event: EV_SIGNAL cannot have a flag of I/O beside it: received ${what}`);
  }
  if (signal !== (typeof source === "string")) {
    throw new RangeError("Cannot make an event: EV_SIGNAL needs the name of a signal, and a name needs EV_SIGNAL");
  }
}

/** For `EventBase`: the name of the thing that an event waits for. */
export function sourceName(event: LoopEvent): string {
  return event.source instanceof Source ? event.source.kind : event.source ?? "-";
}
