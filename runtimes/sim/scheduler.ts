/**
 * The simulator's time: one queue of what is to happen, ordered by (time, sequence), and a clock that moves only when
 * `advance()` or `run()` is told to.
 *
 * 1. One *instant* is one value of the clock. It is worked off in *rounds*, as a host's loop is: first what was due when
 *    the round began (deliveries, timers), then what was deferred by then. What either of them makes due at once waits
 *    for the next round, so that nothing starves.
 * 2. After each callback the microtask queue is drained: without a host timer nobody can ask whether it is empty, so
 *    the scheduler waits until it has seen {@linkcode QUIET_TICKS} ticks in a row in which nobody called the simulator,
 *    and {@linkcode QUIET_TICKS_BEFORE_TIME} before the clock moves. A chain of promises that is shorter than that
 *    always comes to its end first; a longer one goes on, some time later.
 * 3. Work takes no time. Only an instant that goes on for more than {@linkcode FREE_ROUNDS} rounds costs some, so that
 *    who polls in a loop sees the time pass, as on a real host.
 *
 * @module
 */

import { show } from "../../core/checks.ts";
import { EventError, invariant } from "../../core/errors.ts";

/** Ticks of the microtask queue without a call of the simulator that are waited for after a callback. */
export const QUIET_TICKS = 16;
/** Ticks of the microtask queue without a call of the simulator that are waited for before the clock moves. */
export const QUIET_TICKS_BEFORE_TIME = 128;
/** Ticks of the microtask queue without a call of the simulator after which nothing will ever settle a promise. */
export const QUIET_TICKS_BEFORE_END = 100_000;
/** Ticks after which the drain ends although the simulator was called in them. */
export const MAX_TICKS = 10_000;
/** Rounds that one instant may have for nothing. */
export const FREE_ROUNDS = 100;
/** What each further round of the instant costs, in milliseconds. */
export const ROUND_COST_MS = 0.01;

/** Something that is to happen. Opaque to all but the scheduler. */
export class Scheduled {
  /** When, in milliseconds of virtual time. */
  readonly time: number;
  /** Its place among what happens at that time. */
  readonly sequence: number;
  /** What happens. */
  readonly fn: () => void;
  /** Where it stands in the heap; −1 when it is no longer there. */
  index = -1;

  constructor(time: number, sequence: number, fn: () => void) {
    this.time = time;
    this.sequence = sequence;
    this.fn = fn;
  }
}

/** The clock and the queue of one simulated network. */
export class Scheduler {
  readonly #heap: Scheduled[] = [];
  readonly #maxSteps: number;
  #deferred: (() => void)[] = [];
  #deferredHead = 0;
  /** How many of the deferred functions belong to the present round; −1 while its deliveries still run. */
  #batch = -1;
  /** What was scheduled from here on waits for the next round. */
  #roundEnd = 0;
  #rounds = 0;
  /** Whether the span ended in the middle of a busy instant. */
  #over = false;
  #now = 0;
  #nextSequence = 0;
  #calls = 0;
  #busy: string | undefined;
  /** What was reported, and has not rejected an `advance()` or `run()` yet. */
  readonly #failures: unknown[] = [];

  /**
   * Makes a scheduler at 0 ms.
   *
   * @param maxSteps How many callbacks one `advance()` or `run()` may run
   */
  constructor(maxSteps: number) {
    this.#maxSteps = maxSteps;
  }

  /** The virtual time in milliseconds. */
  get now(): number {
    return this.#now;
  }

  /** How many things are scheduled or deferred. */
  get pending(): number {
    return this.#heap.length + this.#deferred.length - this.#deferredHead;
  }

  /** Says that somebody called the simulator: the drain of the microtask queue goes on. */
  touch(): void {
    this.#calls++;
  }

  /**
   * Schedules a call.
   *
   * @param time When, in virtual milliseconds; a time in the past means the present instant
   * @param fn What to call
   * @returns What `cancel()` takes
   */
  at(time: number, fn: () => void): Scheduled {
    invariant(!Number.isNaN(time), "a time is a number");
    this.#calls++;
    const entry = new Scheduled(Math.max(time, this.#now), this.#nextSequence++, fn);
    this.#place(entry, this.#heap.length);
    this.#siftUp(entry);
    return entry;
  }

  /**
   * Forgets a scheduled call; one that has been made or was cancelled is no error.
   *
   * @param entry What `at()` gave
   */
  cancel(entry: Scheduled): void {
    this.#calls++;
    if (entry.index < 0) return;
    if (this.#heap[entry.index] !== entry) throw new TypeError("Cannot clear a timer: it is not of this simulator");
    this.#remove(entry);
  }

  /**
   * Calls a function after what is due in the present round.
   *
   * @param fn What to call
   */
  defer(fn: () => void): void {
    this.#calls++;
    this.#deferred.push(fn);
  }

  /**
   * Rejects the `advance()` or `run()` that is in progress, or else the next one.
   *
   * @param error What it rejects with
   */
  fail(error: unknown): void {
    this.#failures.push(error);
  }

  /** Throws the first failure that was reported, once. */
  #throwFailure(): void {
    if (this.#failures.length > 0) throw this.#failures.shift();
  }

  /**
   * Runs all that is due in a span, and leaves the clock at its end.
   *
   * @param ms How far, in virtual milliseconds
   * @throws {EventError} `EV_BUSY` while another one runs, `SIM_LIVELOCK` after too many steps; what a callback threw
   */
  async advance(ms: number): Promise<void> {
    if (typeof ms !== "number" || !(ms >= 0) || ms === Infinity) {
      throw new RangeError(
        `Cannot advance: a span is a finite number of milliseconds, 0 or more: received ${show(ms)}`,
      );
    }
    this.#begin("advance");
    try {
      const end = this.#now + ms;
      await this.#go(end, never);
      this.#now = end;
    } finally {
      this.#busy = undefined;
    }
  }

  /**
   * Moves the clock on until a promise settles.
   *
   * @param promise What to wait for
   * @returns What the promise gives
   * @throws {EventError} `SIM_DEADLOCK` when nothing is scheduled any more, `EV_BUSY` while another one runs,
   * `SIM_LIVELOCK` after too many steps; what a callback threw
   */
  async run<T>(promise: Promise<T>): Promise<T> {
    this.#begin("run");
    try {
      let settled = false;
      const settle = (): void => void (settled = true);
      try {
        promise.then(settle, settle);
      } catch (cause) {
        const message = `Cannot run until a promise settles: not a promise: received ${show(promise)}`;
        throw new TypeError(message, { cause });
      }
      if (await this.#go(Infinity, () => settled)) return await promise;
      throw new EventError(
        `Cannot run until the promise settles: at ${this.#now} ms nothing is scheduled that could settle it`,
        { code: "SIM_DEADLOCK", syscall: "run" },
      );
    } finally {
      this.#busy = undefined;
    }
  }

  #begin(call: string): void {
    if (this.#busy !== undefined) {
      throw new EventError(`Cannot ${call}: ${this.#busy}() is still in progress on this simulator`, {
        code: "EV_BUSY",
        syscall: call,
      });
    }
    this.#busy = call;
  }

  /** Runs steps until `done`, true; or until nothing is left up to `end`, false. */
  async #go(end: number, done: () => boolean): Promise<boolean> {
    await this.#drain(QUIET_TICKS_BEFORE_TIME, done);
    this.#beginRound();
    this.#rounds = 0;
    this.#over = false;
    for (let steps = 0;; steps++) {
      this.#throwFailure();
      if (done()) return true;
      if (steps >= this.#maxSteps && this.pending > 0) {
        throw new EventError(
          `Cannot go on: ${this.#maxSteps} steps were taken without an end, the last at ${this.#now} ms`,
          { code: "SIM_LIVELOCK" },
        );
      }
      let fn = this.#takeDue(end);
      if (fn === undefined && !this.#over) {
        await this.#drain(QUIET_TICKS_BEFORE_TIME, done);
        this.#throwFailure();
        if (done()) return true;
        fn = this.#takeDue(end) ?? this.#takeLater(end);
      }
      if (fn === undefined) {
        if (done === never) return false;
        // Whoever has much to do in promises alone, such as a reader of many lines that are there, is not stuck.
        await this.#drain(QUIET_TICKS_BEFORE_END, done, QUIET_TICKS_BEFORE_END);
        this.#throwFailure();
        if (done()) return true;
        fn = this.#takeDue(end) ?? this.#takeLater(end);
        if (fn === undefined) return false;
      }
      fn();
      await this.#drain(QUIET_TICKS, done);
    }
  }

  async #drain(quietTicks: number, done: () => boolean, most = MAX_TICKS): Promise<void> {
    let quiet = 0;
    let calls = this.#calls;
    for (let tick = 0; tick < most && quiet < quietTicks && !done(); tick++) {
      await undefined;
      quiet = this.#calls === calls ? quiet + 1 : 0;
      calls = this.#calls;
    }
  }

  /** Takes what is next in the present instant. */
  #takeDue(end: number): (() => void) | undefined {
    for (;;) {
      const first = this.#heap[0];
      const due = first !== undefined && first.time <= this.#now;
      if (this.#batch < 0) {
        if (due && first.sequence < this.#roundEnd) {
          this.#remove(first);
          return first.fn;
        }
        this.#batch = this.#deferred.length - this.#deferredHead;
      }
      if (this.#batch > 0) {
        this.#batch--;
        return this.#takeDeferred();
      }
      const more = due || this.#deferred.length > this.#deferredHead;
      if (more && this.#rounds >= FREE_ROUNDS && !this.#spend(end)) {
        this.#over = true;
        return undefined;
      }
      this.#beginRound();
      if (!more) return undefined;
      this.#rounds++;
    }
  }

  /** Moves the clock to the next thing that happens, and takes it. */
  #takeLater(end: number): (() => void) | undefined {
    const first = this.#heap[0];
    if (first === undefined || first.time > end || first.time <= this.#now) return undefined;
    this.#now = first.time;
    this.#rounds = 0;
    this.#beginRound();
    this.#remove(first);
    return first.fn;
  }

  /** Lets the time of one round pass; false when the span does not reach so far. */
  #spend(end: number): boolean {
    if (this.#now + ROUND_COST_MS > end) return false;
    this.#now += ROUND_COST_MS;
    return true;
  }

  #beginRound(): void {
    this.#roundEnd = this.#nextSequence;
    this.#batch = -1;
  }

  #takeDeferred(): () => void {
    const fn = this.#deferred[this.#deferredHead++];
    invariant(fn !== undefined, "a batch of deferred functions is no longer than their queue");
    if (this.#deferredHead === this.#deferred.length) {
      this.#deferred = [];
      this.#deferredHead = 0;
    } else if (this.#deferredHead > 1024 && this.#deferredHead * 2 > this.#deferred.length) {
      this.#deferred = this.#deferred.slice(this.#deferredHead);
      this.#deferredHead = 0;
    }
    return fn;
  }

  #remove(entry: Scheduled): void {
    const index = entry.index;
    const last = this.#heap.pop();
    entry.index = -1;
    if (last === undefined || last === entry) return;
    this.#place(last, index);
    this.#siftUp(last);
    this.#siftDown(last);
  }

  #siftUp(entry: Scheduled): void {
    while (entry.index > 0) {
      const parent = this.#heap[(entry.index - 1) >> 1];
      if (parent === undefined || before(parent, entry)) return;
      this.#swap(parent, entry);
    }
  }

  #siftDown(entry: Scheduled): void {
    for (;;) {
      const left = this.#heap[entry.index * 2 + 1];
      const right = this.#heap[entry.index * 2 + 2];
      const child = right !== undefined && left !== undefined && before(right, left) ? right : left;
      if (child === undefined || before(entry, child)) return;
      this.#swap(entry, child);
    }
  }

  #swap(a: Scheduled, b: Scheduled): void {
    const index = a.index;
    this.#place(a, b.index);
    this.#place(b, index);
  }

  #place(entry: Scheduled, index: number): void {
    this.#heap[index] = entry;
    entry.index = index;
  }
}

function before(a: Scheduled, b: Scheduled): boolean {
  return a.time < b.time || (a.time === b.time && a.sequence < b.sequence);
}

function never(): boolean {
  return false;
}
