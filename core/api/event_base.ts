/** The event base: the public face of the loop. */

import {
  checkBoolean,
  checkDuration,
  checkFlags,
  checkInteger,
  checkSignal,
  checkText,
  outOfRange,
  wrongType,
} from "../checks.ts";
import { EV_CLOSED, EV_PERSIST, EV_READ, EV_SIGNAL, EV_TIMEOUT, EV_WRITE } from "../flags.ts";
import { EVENT_BASE_COUNT_ACTIVE, EVENT_BASE_COUNT_ADDED, EVENT_BASE_COUNT_VIRTUAL } from "../flags.ts";
import { EVENT_MAX_PRIORITIES, EVLOOP_NO_EXIT_ON_EMPTY, EVLOOP_NONBLOCK, EVLOOP_ONCE } from "../flags.ts";
import { EventError } from "../errors.ts";
import { operationOf, type Overlapped } from "./overlapped.ts";
import { type Names, readOptions } from "../names.ts";
import { type AbortSignalLike, checkRuntime, defaultRuntime } from "../runtime.ts";
import type { ConnectOptions, DatagramOptions } from "../runtime.ts";
import type { ListenOptions, Runtime } from "../runtime.ts";
import { DatagramSocket } from "./datagram_socket.ts";
import { connectionOf, Socket, socketOf } from "./socket.ts";
import { ListeningSocket } from "./listening_socket.ts";
import { isPollable, type Pollable, sourceOf } from "./pollable.ts";
import { setDefer } from "../buffer/callbacks.ts";
import { CommonQueue } from "../loop/common_queue.ts";
import { type CommonTimeout, commonTimeoutOf } from "./common_timeout.ts";
import { checkTimeout, type EventCallback, EventHandle, handleOf, sourceName } from "./event_handle.ts";
import { Deferred } from "../loop/deferred.ts";
import { Loop, type LoopResult } from "../loop/loop.ts";
import { AFTER_POLL, LoopEvent } from "../loop/loop_event.ts";
import type { BaseStats } from "../loop/stats.ts";
import type { CheckCallback, PrepareCallback, Watcher } from "../loop/watch.ts";

/** For the core: the engine behind a base. */
export function loopOf(base: EventBase): Loop {
  return behind(base);
}

/** Set by the first EventBase: see `Pollable`. */
let behind: (base: EventBase) => Loop = refuse;

function refuse(base: unknown): never {
  throw wrongType("use a base", "not an EventBase", base);
}

/** How to make an {@linkcode EventBase}. libevent: `struct event_config`. */
export interface EventBaseOptions {
  /** The runtime; by default the one that the program runs on. */
  runtime?: Runtime | undefined;
  /** The number of priorities, 1 to 255. @default {1} */
  priorities?: number | undefined;
  /** A pass over the events leaves a priority after this many milliseconds. @default {Infinity} */
  maxDispatchIntervalMs?: number | undefined;
  /** A pass over the events leaves a priority after this many callbacks; negative for no limit, 0 is as 1. @default {-1} */
  maxDispatchCallbacks?: number | undefined;
  /** The two limits hold for this priority and the less urgent ones. @default {1} */
  minDispatchPriority?: number | undefined;
}

const BASE_OPTIONS: Names<EventBaseOptions> = {
  runtime: true,
  priorities: true,
  maxDispatchIntervalMs: true,
  maxDispatchCallbacks: true,
  minDispatchPriority: true,
};
const LOOP_OPTIONS: Names<{ signal?: AbortSignalLike | undefined }> = { signal: true };

/** The most distinct common timeouts that a base has, as in libevent. */
const MAX_COMMON_TIMEOUTS = 256;

class OnceEvent extends LoopEvent {
  private readonly callback: (what: number) => void;

  constructor(loop: Loop, pollable: Pollable | null, what: number, callback: (what: number) => void) {
    super(loop, pollable === null ? null : sourceOf(pollable), what, loop.queues.length >> 1);
    if (pollable !== null) this.state |= AFTER_POLL;
    this.callback = callback;
  }

  override run(what: number): void {
    this.callback(what);
  }
}

/**
 * A set of events and the loop that runs them.
 *
 * A program cannot block the runtime's loop, so `dispatch()` returns a promise. Callbacks run only while it is pending,
 * and never inside a call of yours: they run later in the same turn.
 *
 * libevent: `struct event_base`.
 *
 * @example
 * ```ts
 * import { EventBase } from "trivent";
 * const base = new EventBase();
 * base.timer(() => base.loopExit()).add(20);
 * console.log(await base.dispatch()); // exit
 * ```
 */
export class EventBase {
  readonly #loop: Loop;

  /**
   * Makes a base without events. libevent: `event_base_new`, `event_base_new_with_config`.
   *
   * @param options The runtime, the number of priorities, and limits for a pass
   * @throws {RangeError} When an option is out of range
   * @throws {TypeError} When the options are not an object, or `runtime` is not a runtime
   * @throws {EventError} `EV_UNSUPPORTED` when no runtime is given and none can be chosen
   */
  constructor(options: EventBaseOptions = {}) {
    const { runtime = defaultRuntime(), ...limits } = readOptions("make a base", options, BASE_OPTIONS);
    const { priorities = 1, maxDispatchIntervalMs = Infinity, maxDispatchCallbacks = -1, minDispatchPriority = 1 } =
      limits;
    checkPriorities(priorities);
    if (maxDispatchIntervalMs !== Infinity) {
      checkDuration("make a base", "maxDispatchIntervalMs", maxDispatchIntervalMs);
    }
    if (!Number.isInteger(maxDispatchCallbacks) && maxDispatchCallbacks !== Infinity) {
      throw outOfRange("make a base", "maxDispatchCallbacks is not a count", maxDispatchCallbacks);
    }
    if (!Number.isInteger(minDispatchPriority) || minDispatchPriority < 0) {
      throw outOfRange("make a base", "minDispatchPriority is not a priority", minDispatchPriority);
    }
    if (behind === refuse) {
      behind = (base: EventBase): Loop =>
        typeof base === "object" && base !== null && #loop in base ? base.#loop : refuse(base);
      setDefer((base, run) => new Deferred(behind(base as EventBase), run));
    }
    checkRuntime("make a base", runtime);
    this.#loop = new Loop(runtime, priorities, {
      intervalMs: maxDispatchIntervalMs,
      callbacks: maxDispatchCallbacks < 0 ? Infinity : maxDispatchCallbacks,
      minPriority: minDispatchPriority,
    });
    this.#loop.face = this;
  }

  /** The runtime. libevent: `event_base_get_method`. */
  get runtime(): Runtime {
    return this.#loop.runtime;
  }

  /**
   * Makes an event; it does nothing until `add()`. libevent: `event_new`.
   *
   * @param source A socket, or null for an event that only time or `activate()` can make active
   * @param what `EV_READ`, `EV_WRITE` or `EV_CLOSED`, with `EV_PERSIST` and `EV_ET`; 0 for a timer
   * @param cb The callback
   * @returns The event
   * @throws {RangeError} When the flags exclude each other
   */
  event(source: Pollable | string | null, what: number, cb: EventCallback): EventHandle {
    return new EventHandle(this, source, what, cb);
  }

  /** Makes an event that waits only for time. libevent: `evtimer_new`. */
  timer(cb: EventCallback): EventHandle {
    return new EventHandle(this, null, 0, cb);
  }

  /**
   * Calls `cb` again and again. The event is pending at once: `free()` ends it, `unref()` lets the loop end without it.
   *
   * Calls keep their distance on the whole: one that comes late does not delay those after it. Calls that the loop could
   * not make in time are skipped.
   *
   * libevent: `event_new` with `EV_PERSIST`, and `event_add`.
   *
   * @param cb What to call; its first call comes after `ms`
   * @param ms The time from one call to the next, in milliseconds, above 0
   * @returns The event
   * @throws {TypeError} When an argument is of the wrong type
   * @throws {RangeError} When `ms` is 0, negative or not finite
   * @throws {EventError} `EV_FREED` after `free()`
   *
   * @example
   * ```ts
   * import { EventBase } from "trivent";
   *
   * const base = new EventBase();
   * let ticks = 0;
   * const tick = base.interval(() => {
   *   if (++ticks === 3) tick.free();
   * }, 10);
   * await base.dispatch();
   * console.log(ticks); // 3
   * ```
   */
  interval(cb: EventCallback, ms: number): EventHandle {
    const event = new EventHandle(this, null, EV_PERSIST, cb);
    // Of 0 the event would fire once.
    if (checkDuration("call at intervals", "the interval", ms) === 0) {
      throw new RangeError("Cannot call at intervals: the interval is not above 0: received 0");
    }
    event.add(ms);
    return event;
  }

  /**
   * Makes a persistent event that waits for a signal. libevent: `evsignal_new`.
   *
   * @param name Such as `SIGTERM`
   * @param cb The callback, called once for each time that the signal was raised
   * @returns The event; its `add()` throws `EV_UNSUPPORTED` if the runtime cannot catch the signal
   */
  signal(name: string, cb: EventCallback): EventHandle {
    checkText("make a signal event", "the signal's name", name);
    return new EventHandle(this, name, EV_SIGNAL | EV_PERSIST, cb);
  }

  /**
   * Calls back once, without an event object. libevent: `event_base_once`.
   *
   * @param source A socket, or null
   * @param what `EV_TIMEOUT`, or `EV_READ`, `EV_WRITE` or both, with or without `EV_TIMEOUT`
   * @param cb The callback. It gets the source, the flags, and an event that is already freed
   * @param timeoutMs The latest time to call. Without it, or with 0, an event that waits only for time is active at
   * once
   * @throws {RangeError} For other flags
   */
  once(source: Pollable | null, what: number, cb: EventCallback, timeoutMs?: number): void {
    if (typeof cb !== "function") throw wrongType("call once", "the callback is not a function", cb);
    if (!Number.isInteger(what) || (what & ~(EV_TIMEOUT | EV_READ | EV_WRITE | EV_CLOSED)) !== 0 || what === 0) {
      throw outOfRange("call once", "the flags are not of EV_TIMEOUT, EV_READ, EV_WRITE and EV_CLOSED", what);
    }
    const io = what & (EV_READ | EV_WRITE | EV_CLOSED);
    if (source !== null && !isPollable(source)) {
      throw wrongType("call once", "the source is not a socket or null", source);
    }
    if (timeoutMs !== undefined) checkTimeout("call once", timeoutMs);
    this.#live("call once");
    const loop = this.#loop;
    const event = new OnceEvent(loop, io === 0 ? null : source, io, (result) => {
      const handle = new EventHandle(this, source, io, cb);
      handle.free();
      cb(source, result, handle);
    });
    if (io === 0 && (timeoutMs === undefined || timeoutMs === 0)) loop.activate(event, EV_TIMEOUT);
    else loop.add(event, timeoutMs, null);
  }

  /**
   * Runs the loop until no events are left or it is told to stop. libevent: `event_base_dispatch`.
   *
   * @param options `signal`: aborting it rejects with its reason
   * @returns `"empty"` when no events were left, `"exit"` after `loopExit()`, `"break"` after `loopBreak()`
   * @throws {EventError} `EV_BUSY` when a loop already runs on the base, `EV_FREED` after `free()`
   * @throws The very error that a callback throws; active events keep their places for the next `dispatch()`
   */
  dispatch(options?: { signal?: AbortSignalLike | undefined }): Promise<LoopResult> {
    return this.loop(0, options);
  }

  /**
   * Runs the loop as `flags` say. libevent: `event_base_loop`.
   *
   * @param flags `EVLOOP_ONCE`, `EVLOOP_NONBLOCK`, `EVLOOP_NO_EXIT_ON_EMPTY`
   * @param options `signal`: aborting it rejects with its reason
   * @returns As `dispatch()`, and `"done"` when `EVLOOP_ONCE` or `EVLOOP_NONBLOCK` ended it
   * @throws {RangeError} For other flags
   */
  loop(flags: number = 0, options?: { signal?: AbortSignalLike | undefined }): Promise<LoopResult> {
    try {
      checkFlags("run a loop", flags, EVLOOP_ONCE | EVLOOP_NONBLOCK | EVLOOP_NO_EXIT_ON_EMPTY);
      const { signal } = options === undefined ? {} : readOptions("run a loop", options, LOOP_OPTIONS);
      return this.#loop.start(flags, checkSignal("run a loop", signal), true);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Ends the loop when the active events have run, or after a time. libevent: `event_base_loopexit`.
   *
   * With several priorities, less urgent active events stay for the next loop. Called before the loop, it ends the loop
   * after one pass. With a time, the loop runs until then even if it is empty.
   *
   * @param afterMs The time; by default none
   */
  loopExit(afterMs?: number): void {
    if (afterMs !== undefined) checkTimeout("exit the loop", afterMs);
    this.#live("exit the loop");
    const loop = this.#loop;
    const event = new OnceEvent(loop, null, 0, () => loop.exit());
    if (afterMs === undefined) loop.activate(event, EV_TIMEOUT);
    else loop.add(event, afterMs, null);
  }

  /** Ends the loop right after the running callback; without a loop it does nothing. libevent: `event_base_loopbreak`. */
  loopBreak(): void {
    this.#loop.break();
  }

  /**
   * Ends this pass over the active events and begins another. Outside a callback it does nothing. libevent:
   * `event_base_loopcontinue`.
   */
  loopContinue(): void {
    this.#loop.continue();
  }

  /** Whether the last loop ended by `loopExit()`. libevent: `event_base_got_exit`. */
  get gotExit(): boolean {
    return this.#loop.gotExit;
  }

  /** Whether the last loop ended by `loopBreak()`. libevent: `event_base_got_break`. */
  get gotBreak(): boolean {
    return this.#loop.gotBreak;
  }

  /**
   * The monotonic time in milliseconds. Inside a turn it stands still, from the first time that anything reads it in
   * the turn. Outside a turn it is the runtime's clock. Deadlines that a callback sets always count from the runtime's
   * clock. libevent: `event_base_gettimeofday_cached`.
   */
  now(): number {
    return this.#loop.now();
  }

  /** Inside a callback, reads the runtime's clock anew for this turn. libevent: `event_base_update_cache_time`. */
  updateCacheTime(): void {
    this.#loop.updateCacheTime();
  }

  /** The number of priorities. libevent: `event_base_get_npriorities`. */
  get npriorities(): number {
    return this.#loop.queues.length;
  }

  /**
   * Changes the number of priorities; events keep theirs. libevent: `event_base_priority_init`.
   *
   * @param n 1 to 255
   * @throws {RangeError} When out of range
   * @throws {EventError} `EV_ACTIVE` while events are active
   */
  priorityInit(n: number): void {
    checkPriorities(n);
    this.#loop.setPriorities(n);
  }

  /** The event whose callback runs, or null. libevent: `event_base_get_running_event`. */
  get runningEvent(): EventHandle | null {
    const event = this.#loop.running;
    return event === null ? null : handleOf(event);
  }

  /**
   * Counts events. An added event counts once for its I/O or signal, once for its timer, and once while active.
   *
   * libevent: `event_base_get_num_events`.
   *
   * @param kind `EVENT_BASE_COUNT_ACTIVE`, `_VIRTUAL`, `_ADDED`, or several: the sum
   * @returns The number now
   */
  numEvents(kind: number): number {
    checkInteger("count events", "the kind", kind);
    const { active, virtual, added } = this.#loop;
    return ((kind & EVENT_BASE_COUNT_ACTIVE) !== 0 ? active.now : 0) +
      ((kind & EVENT_BASE_COUNT_VIRTUAL) !== 0 ? virtual.now : 0) +
      ((kind & EVENT_BASE_COUNT_ADDED) !== 0 ? added.now : 0);
  }

  /**
   * Returns the peak of `numEvents()`, for each kind by itself. libevent: `event_base_get_max_events`.
   *
   * @param kind As in `numEvents()`
   * @param clear Whether to begin again from 0
   * @returns The peak; for several kinds the sum of the peaks
   */
  maxEvents(kind: number, clear: boolean = false): number {
    checkInteger("count events", "the kind", kind);
    checkBoolean("count events", "clear", clear);
    const { active, virtual, added } = this.#loop;
    let sum = 0;
    for (
      const [bit, counter] of [
        [EVENT_BASE_COUNT_ACTIVE, active],
        [EVENT_BASE_COUNT_VIRTUAL, virtual],
        [EVENT_BASE_COUNT_ADDED, added],
      ] as const
    ) {
      if ((kind & bit) === 0) continue;
      sum += counter.peak;
      if (clear) counter.peak = 0;
    }
    return sum;
  }

  /** Calls `fn` with each event that is added or active, once. libevent: `event_base_foreach_event`. */
  foreachEvent(fn: (ev: EventHandle) => void): void {
    if (typeof fn !== "function") throw wrongType("visit the events", "the callback is not a function", fn);
    const handles: EventHandle[] = [];
    this.#loop.forEach((event) => {
      const handle = handleOf(event);
      if (handle !== null) handles.push(handle);
    });
    handles.forEach((handle) => fn(handle));
  }

  /** Returns a readable table of all added and active events. libevent: `event_base_dump_events`. */
  dumpEvents(): string {
    const rows: string[][] = [["source", "waits for", "active for", "priority", "due in"]];
    this.#loop.forEach((event) => {
      const due = event.timed ? `${(this.#loop.deadlineOf(event) - this.now()).toFixed(1)} ms` : "-";
      const waits = flagNames(event.what | (event.timed ? EV_TIMEOUT : 0));
      rows.push([sourceName(event), waits, event.active ? flagNames(event.result) : "-", `${event.priority}`, due]);
    });
    const widths = (rows[0] as string[]).map((_, column) =>
      Math.max(...rows.map((row) => (row[column] as string).length))
    );
    return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] as number)).join("  ").trimEnd())
      .join("\n") + "\n";
  }

  /** Returns counters of turns, callbacks and events, and the delay of timers. */
  stats(): BaseStats {
    const { stats, added, active, virtual } = this.#loop;
    return {
      turns: stats.turns,
      callbacks: stats.callbacks,
      byKind: {
        read: stats.ran(EV_READ),
        write: stats.ran(EV_WRITE),
        timeout: stats.ran(EV_TIMEOUT),
        signal: stats.ran(EV_SIGNAL),
        other: stats.ran(0),
      },
      events: { added: added.now, active: active.now, virtual: virtual.now },
      lagMs: { p50: stats.percentile(0.5), p99: stats.percentile(0.99), max: stats.lagMax },
    };
  }

  /**
   * Makes a queue for a duration that many events share. `EventHandle.add()` takes it in place of milliseconds.
   *
   * libevent: `event_base_init_common_timeout`.
   *
   * @param ms The duration in milliseconds
   * @returns The same object for the same duration
   * @throws {EventError} `EV_LIMIT` for the 257th duration
   * @throws {RangeError} When it is negative or not finite
   */
  initCommonTimeout(ms: number): CommonTimeout {
    checkTimeout("make a common timeout", ms);
    if (ms < 0) throw outOfRange("make a common timeout", "the timeout is negative", ms);
    const { commonQueues, timers } = this.#loop;
    let timeout = this.#commonTimeouts.get(ms);
    if (timeout !== undefined) return timeout;
    if (commonQueues.size >= MAX_COMMON_TIMEOUTS) {
      throw new EventError(`Cannot make a common timeout: the base has ${MAX_COMMON_TIMEOUTS}`, { code: "EV_LIMIT" });
    }
    const queue = new CommonQueue(timers, ms);
    commonQueues.set(ms, queue);
    timeout = commonTimeoutOf(queue);
    this.#commonTimeouts.set(ms, timeout);
    return timeout;
  }

  readonly #commonTimeouts: Map<number, CommonTimeout> = new Map();

  /**
   * Calls `cb` just before each wait of the loop. Watchers do not keep the loop running.
   *
   * libevent: `evwatch_prepare_new`.
   *
   * @param cb The callback. It gets the watcher, and how long the wait may take
   * @returns The watcher
   * @throws {EventError} `EV_FREED` after `free()`
   */
  watchPrepare(cb: PrepareCallback): Watcher {
    this.#watchable(cb);
    return this.#loop.prepare.add(cb);
  }

  /**
   * Calls `cb` just after each wait of the loop, before the events.
   *
   * libevent: `evwatch_check_new`.
   *
   * @param cb The callback. It gets the watcher
   * @returns The watcher
   * @throws {EventError} `EV_FREED` after `free()`
   */
  watchCheck(cb: CheckCallback): Watcher {
    this.#watchable(cb);
    return this.#loop.check.add((watcher) => cb(watcher));
  }

  #watchable(cb: unknown): void {
    if (typeof cb !== "function") {
      throw wrongType("watch a base", "the callback is not a function", cb);
    }
    this.#live("watch a base");
  }

  /**
   * Opens a listening socket. It works without a loop. Events on it report connections to accept.
   *
   * @param options The address to listen on
   * @returns The socket
   * @throws {EventError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …
   */
  listen(options: ListenOptions): Promise<ListeningSocket> {
    return ListeningSocket.listen(this.runtime, options);
  }

  /**
   * Begins to connect and returns at once. The socket becomes writable when it is connected or has failed.
   *
   * @param options The address to connect to
   * @returns The socket
   * @throws {RangeError} When the address is not valid
   */
  connect(options: ConnectOptions): Socket {
    return Socket.connect(this.runtime, options);
  }

  /**
   * Begins to connect: completes with 0 bytes when the connection is there, or with the error.
   *
   * Windows: `ConnectEx`.
   *
   * @param address The address to connect to
   * @param ov The status of the operation
   * @returns The socket, at once, so that it can be associated with a port before the completion
   * @throws {EventError} `EV_BUSY` when `ov` is in use
   * @throws {RangeError} When the address is not valid
   */
  connectOverlapped(address: ConnectOptions, ov: Overlapped): Socket {
    return socketOf(operationOf(ov).connect(() => connectionOf(this.connect(address))));
  }

  /**
   * Opens a datagram socket (UDP). It works without a loop. Events on it report datagrams to receive.
   *
   * @param options The address to bind to
   * @returns The socket
   * @throws {EventError} `EADDRINUSE`, `EACCES`, …; `EV_UNSUPPORTED` where `capabilities.udp` is false
   */
  datagram(options: DatagramOptions = {}): Promise<DatagramSocket> {
    return DatagramSocket.open(this.runtime, options);
  }

  /**
   * Removes all events and watchers. Pending finalizers run before it returns. Sockets, bufferevents and listeners are
   * not freed. A second call does nothing. libevent: `event_base_free`.
   *
   * @throws {EventError} `EV_BUSY` for the base that `serve()` and `connect()` share
   */
  free(): void {
    if (this.#loop.shared) {
      throw new EventError(
        "Cannot free the base: serve() and connect() share it. Give them a base of your own to free it",
        { code: "EV_BUSY" },
      );
    }
    this.#loop.free();
  }

  /** As `free()`. */
  [Symbol.dispose](): void {
    this.free();
  }

  #live(doing: string): void {
    if (this.#loop.freed) throw new EventError(`Cannot ${doing}: the base was freed`, { code: "EV_FREED" });
  }
}

function checkPriorities(n: number): void {
  if (!Number.isInteger(n) || n < 1 || n > EVENT_MAX_PRIORITIES) {
    throw outOfRange("set the priorities", `the number is not between 1 and ${EVENT_MAX_PRIORITIES}`, n);
  }
}

function flagNames(what: number): string {
  const names: string[] = [];
  if ((what & EV_TIMEOUT) !== 0) names.push("TIMEOUT");
  if ((what & EV_READ) !== 0) names.push("READ");
  if ((what & EV_WRITE) !== 0) names.push("WRITE");
  if ((what & EV_SIGNAL) !== 0) names.push("SIGNAL");
  if ((what & EV_CLOSED) !== 0) names.push("CLOSED");
  if ((what & EV_PERSIST) !== 0) names.push("PERSIST");
  return names.join("|") || "-";
}
