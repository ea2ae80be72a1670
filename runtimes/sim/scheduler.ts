/**
 * The simulator's time: one queue of scheduled entries, ordered by (time, sequence), and a clock
 * that moves only in `advance()`, `advanceSync()` and `run()`.
 *
 * 1. One *instant* is one value of the clock. It is processed in *rounds*, as in a runtime's loop:
 * first entries that were due when the round began (deliveries, timers), then functions that were
 * deferred by then. Entries that become due meanwhile wait for the next round, so that nothing
 * starves.
 * 2. `advance()` and `run()` drain the real runtime's queue of promise reactions after each callback (`host_task.ts`), as
 *    a runtime does after each of its macrotasks. So a callback's reactions, and all that follow from these, run before
 *    the next callback and before the clock moves: the order is that of a real runtime. A step that calls no function
 *    of the program queues no reaction, and the next step follows at once. `advanceSync()` waits for nothing.
 * 3. Output of connections is collected until the callback and its reactions are over, and leaves
 * then. So it makes no difference in how many calls a program writes it.
 * 4. Work takes no time. Only an instant of more than {@linkcode FREE_ROUNDS} rounds takes time, so
 * that a program that polls in a loop sees the time pass, as on a real runtime.
 *
 * @module
 */

import { useMemory } from "../../core/buffer/chunk.ts";
import { show } from "../../core/checks.ts";
import { EventError } from "../../core/errors.ts";
import { ChunkMemory } from "../../core/memory.ts";
import type { Named } from "./journal.ts";
import { inHostTask, ranReactions } from "./host_task.ts";

/** The number of rounds of one instant that take no time. */
const FREE_ROUNDS = 100;
/** The duration of each further round of the instant, in milliseconds. */
const ROUND_COST_MS = 0.01;

/** An object with several actions, so that scheduling one needs no function. */
export interface Task {
  /** Performs one of the actions. `what` is the argument of `taskAt()`. */
  run(what: number): void;
}

/** A program on a host: it can be stalled, and it ends when its host crashes. */
export interface Program extends Named {
  /** The time at which it continues. Entries that are due before wait until then. */
  pausedUntil: number;
  /** Whether it has ended: its scheduled entries do not run. */
  dead: boolean;
}

/** An object that sends its collected output when the present callback is over. */
export interface Sender {
  /** Sends. It calls no function of the program. */
  send(): void;
}

/** A scheduled entry. Only the scheduler reads it. */
export class Scheduled {
  /** When, in milliseconds of virtual time. */
  time: number;
  /** Its place among the entries of that time. */
  sequence: number;
  /** The function or the task. */
  readonly fn: (() => void) | Task;
  /** The argument of the task. */
  readonly what: number;
  /** The program that it belongs to; undefined for the network. */
  readonly program: Program | undefined;
  /** Its scheduler: a timer belongs to one simulator. */
  readonly scheduler: Scheduler;
  /** Its index in the heap; −1 if it is not there, −2 in one of the queues. */
  index = -1;

  constructor(
    scheduler: Scheduler,
    time: number,
    sequence: number,
    fn: (() => void) | Task,
    what: number,
    program: Program | undefined,
  ) {
    this.scheduler = scheduler;
    this.time = time;
    this.sequence = sequence;
    this.fn = fn;
    this.what = what;
    this.program = program;
  }
}

/** The argument that marks a timer. */
const TIMER = 1;
/** The owner of the clock in `drive()`: a program that calls `advance()` or `run()` takes it. */
const DRIVE = "explore";
/** In a queue, and to be skipped there. */
const CANCELLED = -3;
const IN_QUEUE = -2;
const IN_LANE = -4;

/** A first-in, first-out queue that allocates nothing per entry: a ring. Its entries are in order of time. */
class Fifo {
  /** The first entry; undefined when it is empty. */
  first: Scheduled | undefined;
  /** The time of the last entry. */
  lastTime = -Infinity;
  /** The number of cancelled entries. */
  cancelled = 0;
  length = 0;
  #ring: (Scheduled | undefined)[] = new Array<undefined>(16).fill(undefined);
  #mask = 15;
  #head = 0;

  push(entry: Scheduled): void {
    if (this.length > this.#mask) this.grow();
    if (this.length === 0) this.first = entry;
    this.#ring[(this.#head + this.length++) & this.#mask] = entry;
    this.lastTime = entry.time;
  }

  shift(): Scheduled | undefined {
    const entry = this.first;
    this.#ring[this.#head] = undefined;
    this.#head = (this.#head + 1) & this.#mask;
    if (--this.length === 0) {
      this.first = undefined;
      this.lastTime = -Infinity;
    } else this.first = this.#ring[this.#head];
    if (entry?.index === CANCELLED) this.cancelled--;
    return entry;
  }

  /** Skips cancelled entries. @returns The first entry */
  peek(): Scheduled | undefined {
    while (this.first?.index === CANCELLED) this.shift();
    return this.first;
  }

  /** Its entries without the cancelled ones. */
  entries(): Scheduled[] {
    const all: Scheduled[] = [];
    for (let i = 0; i < this.length; i++) {
      const entry = this.#ring[(this.#head + i) & this.#mask] as Scheduled;
      if (entry.index !== CANCELLED) all.push(entry);
    }
    return all;
  }

  /** Removes the entries of programs that have ended. */
  dropDead(): void {
    for (let left = this.length; left > 0; left--) {
      const entry = this.shift() as Scheduled;
      if (entry.index === CANCELLED || entry.program?.dead === true) entry.index = -1;
      else this.push(entry);
    }
  }

  private grow(): void {
    const { length } = this;
    const ring: (Scheduled | undefined)[] = new Array<undefined>(length * 2).fill(undefined);
    for (let i = 0; i < length; i++) ring[i] = this.#ring[(this.#head + i) & this.#mask];
    this.#ring = ring;
    this.#mask = ring.length - 1;
    this.#head = 0;
  }
}

/**
 * The clock and the queue of one simulated network.
 *
 * Its methods are private to TypeScript only: JavaScriptCore checks the class of the object at each call of a `#method`.
 */
export class Scheduler {
  /** The memory for chunks of its programs. Another simulator, or other work of the process, has its own. */
  readonly memory: ChunkMemory = new ChunkMemory();
  /**
   * Explains, in the error, why nothing in the simulator settles a promise.
   */
  hint: () => string = () => "";
  /** The delay of most entries. The others are in a heap. */
  laneMs = 0;
  /** A timer of a program fires. */
  onTimer: (program: Program) => void = () => {};
  /** A step sets it when it has called no function of the program. */
  quiet = false;
  /**
   * When {@linkcode Scheduler.onAlarm} is called next; Infinity for never. It happens while the
   * clock moves, before entries of the same time. It does not count as pending.
   */
  alarmMs: number = Infinity;
  /** Whether `run()` also waits for the alarm if nothing else is scheduled. */
  alarmCounts = false;
  /** Changes the network at a time when no entry is due, and sets the next time. */
  onAlarm: () => void = () => {};
  #heap: Scheduled[] = [];
  readonly #maxSteps: number;
  /** Entries that were scheduled for the instant of the call. */
  readonly #queue: Fifo = new Fifo();
  /** Entries that were scheduled at most `laneMs` ahead, while they are in order. Almost all entries are here. */
  readonly #lane: Fifo = new Fifo();
  readonly #deferred: Fifo = new Fifo();
  readonly #senders: Sender[] = [];
  /** The number of them that are in use: an array that never becomes shorter is faster. */
  #sending = 0;
  /** The number of deferred functions of the present round; −1 while its deliveries still run. */
  #batch = -1;
  /** Entries from this sequence number on wait for the next round. */
  #roundEnd = 0;
  #rounds = 0;
  /** Whether the span ended in the middle of a busy instant. */
  #over = false;
  #now = 0;
  #nextSequence = 0;
  #steps = 0;
  #busy: string | undefined;
  /** Whether a step of `go()` is in progress. */
  #inStep = false;
  /** The functions that wait until no `advance()` or `run()` is in progress. */
  #onIdle: (() => void) | undefined;
  /** Reported failures that have not rejected an `advance()` or `run()` yet. */
  readonly #failures: unknown[] = [];

  /**
   * Makes a scheduler at 0 ms.
   *
   * @param maxSteps The largest number of callbacks of one `advance()` or `run()`
   */
  constructor(maxSteps: number) {
    this.#maxSteps = maxSteps;
  }

  /** The virtual time in milliseconds. */
  get now(): number {
    return this.#now;
  }

  /** The number of scheduled entries, deferred functions and waiting senders. */
  get pending(): number {
    let queued = this.#deferred.length + this.#sending;
    for (const queue of [this.#queue, this.#lane]) queued += queue.length - queue.cancelled;
    return this.#heap.length + queued;
  }

  /**
   * Schedules a call.
   *
   * @param time When, in virtual milliseconds; a time in the past means the present instant
   * @param fn The function
   * @param program The program whose function it is; undefined for the network
   * @returns The entry, for `cancel()`
   */
  at(time: number, fn: () => void, program?: Program): Scheduled {
    return this.add(time, fn, 0, program);
  }

  /**
   * Schedules a call of a program's timer.
   *
   * @param time When, in virtual milliseconds; a time in the past means the present instant
   * @param fn The function
   * @param program The program whose function it is
   * @returns The entry, for `cancel()`
   */
  timerAt(time: number, fn: () => void, program: Program): Scheduled {
    return this.add(time, fn, TIMER, program);
  }

  /**
   * Schedules an action of a task.
   *
   * @param time When, in virtual milliseconds; a time in the past means the present instant
   * @param task The task
   * @param what The argument of the task
   * @param program The program that is told; undefined for the network
   * @returns The entry, for `cancel()`
   */
  taskAt(time: number, task: Task, what: number, program?: Program): Scheduled {
    return this.add(time, task, what, program);
  }

  /**
   * Schedules an entry again after it has run, so that a repeated action needs one entry.
   *
   * @param entry The entry of `taskAt()`, not scheduled now
   * @param time When, in virtual milliseconds; a time in the past means the present instant
   */
  again(entry: Scheduled, time: number): void {
    if (entry.program?.dead === true) return;
    entry.time = time > this.#now ? time : this.#now;
    entry.sequence = this.#nextSequence++;
    this.insert(entry);
  }

  private add(time: number, fn: (() => void) | Task, what: number, program: Program | undefined): Scheduled {
    const entry = new Scheduled(this, time > this.#now ? time : this.#now, this.#nextSequence++, fn, what, program);
    if (program?.dead === true) return entry;
    this.insert(entry);
    return entry;
  }

  private insert(entry: Scheduled): void {
    const { time } = entry;
    if (time > this.#now) {
      if (time > this.#now + this.laneMs || time < this.#lane.lastTime) {
        this.place(entry, this.#heap.length);
        this.siftUp(entry);
        return;
      }
      entry.index = IN_LANE;
      this.#lane.push(entry);
    } else {
      entry.index = IN_QUEUE;
      this.#queue.push(entry);
    }
  }

  /**
   * Cancels a scheduled call. The call may have been made or cancelled already.
   *
   * @param entry The entry of `at()`
   */
  cancel(entry: Scheduled): void {
    if (entry.index === -1 || entry.index === CANCELLED) return;
    if (entry.scheduler !== this) throw new TypeError("Cannot clear a timer: it is not of this simulator");
    if (entry.index === IN_QUEUE || entry.index === IN_LANE) {
      (entry.index === IN_LANE ? this.#lane : this.#queue).cancelled++;
      entry.index = CANCELLED;
    } else this.pull(entry);
  }

  /**
   * Calls a function after the entries of the present round.
   *
   * @param fn The function
   * @param program The program whose function it is
   */
  defer(fn: () => void, program?: Program): void {
    if (program?.dead === true) return;
    this.#deferred.push(new Scheduled(this, this.#now, 0, fn, 0, program));
  }

  /**
   * Lets a sender send after the present callback and its promise reactions.
   *
   * @param sender The sender, which is not waiting already
   */
  sendSoon(sender: Sender): void {
    this.#senders[this.#sending++] = sender;
  }

  /**
   * Rejects the `advance()` or `run()` that is in progress, or else the next one.
   *
   * @param error The reason
   */
  fail(error: unknown): void {
    this.#failures.push(error);
  }

  /** Removes the entries of programs that have ended. */
  dropDead(): void {
    this.#queue.dropDead();
    this.#lane.dropDead();
    this.#deferred.dropDead();
    this.#batch = Math.min(this.#batch, this.#deferred.length);
    const kept: Scheduled[] = [];
    for (const entry of this.#heap) {
      if (entry.program?.dead === true) entry.index = -1;
      else kept.push(entry);
    }
    this.#heap = [];
    for (const entry of kept) {
      this.place(entry, this.#heap.length);
      this.siftUp(entry);
    }
  }

  /** Throws the first failure that was reported, once. */
  private throwFailure(): void {
    if (this.#failures.length > 0) throw this.#failures.shift();
  }

  /**
   * Runs all entries that are due in a span, and leaves the clock at its end.
   *
   * @param ms The span, in virtual milliseconds
   * @throws {EventError} `EV_BUSY` while another one runs, `SIM_LIVELOCK` after too many steps; the
   * error of a callback
   */
  async advance(ms: number): Promise<void> {
    checkSpan(ms);
    this.begin("advance");
    try {
      const end = this.#now + ms;
      await this.go(end, never);
      this.#now = end;
    } finally {
      this.end();
    }
  }

  /**
   * Runs all entries that are due in a span, and leaves the clock at its end, without a turn for
   * promises in between.
   *
   * @param ms The span, in virtual milliseconds
   * @throws {EventError} As `advance()`
   */
  advanceSync(ms: number): void {
    checkSpan(ms);
    this.begin("advanceSync");
    try {
      const end = this.#now + ms;
      this.start();
      for (;;) {
        this.throwFailure();
        const entry = this.takeEntry(end);
        if (entry === undefined) break;
        this.step(entry);
      }
      this.#now = end;
    } finally {
      this.end();
    }
  }

  /**
   * Moves the clock until a promise settles.
   *
   * @param promise The promise
   * @returns The value of the promise
   * @throws {EventError} `SIM_DEADLOCK` when nothing is scheduled any more, `EV_BUSY` while another one runs,
   * `SIM_LIVELOCK` after too many steps; the error of a callback
   */
  async run<T>(promise: Promise<T>): Promise<T> {
    this.begin("run");
    try {
      let settled = false;
      const settle = (): void => void (settled = true);
      try {
        promise.then(settle, settle);
      } catch (cause) {
        const message = `Cannot run until a promise settles: not a promise: received ${show(promise)}`;
        throw new TypeError(message, { cause });
      }
      if (await this.go(Infinity, () => settled)) return await promise;
      throw new EventError(
        `Cannot run until the promise settles: at ${this.#now} ms nothing is scheduled that could settle it` +
          this.hint(),
        { code: "SIM_DEADLOCK", syscall: "run" },
      );
    } finally {
      this.end();
    }
  }

  /**
   * Moves the clock until something is over, whenever the program does not call `advance()` or
   * `run()` itself. The program may call these between two callbacks, but not inside one.
   *
   * @param isOver Whether it is over
   * @throws {EventError} `SIM_DEADLOCK` when nothing is scheduled any more, `SIM_LIVELOCK` after
   * too many steps; the error of a callback
   */
  async drive(isOver: () => boolean): Promise<void> {
    for (;;) {
      await new Promise<void>(inHostTask);
      if (isOver()) return;
      if (this.#busy !== undefined) {
        await new Promise<void>((resolve) => void (this.#onIdle = resolve));
        continue;
      }
      this.#busy = DRIVE;
      let more: boolean;
      try {
        more = await this.go(Infinity, () => this.#busy !== DRIVE || isOver());
      } finally {
        if (this.#busy === DRIVE) this.#busy = undefined;
      }
      if (more) continue;
      throw new EventError(
        `Cannot finish: at ${this.#now} ms nothing is scheduled that could settle the promise that is waited for` +
          this.hint(),
        { code: "SIM_DEADLOCK", syscall: "run" },
      );
    }
  }

  /**
   * The scheduled entries: timers of programs and others, and the time of the first of the others.
   */
  survey(): { timers: Scheduled[]; others: number; nextMs: number } {
    const timers: Scheduled[] = [];
    let others = this.#sending;
    let nextMs = others > 0 ? this.#now : Infinity;
    for (
      const entry of [...this.#heap, ...this.#queue.entries(), ...this.#lane.entries(), ...this.#deferred.entries()]
    ) {
      if (typeof entry.fn === "function" && entry.what === TIMER) timers.push(entry);
      else {
        others++;
        nextMs = Math.min(nextMs, entry.time);
      }
    }
    return { timers, others, nextMs };
  }

  private end(): void {
    this.#busy = undefined;
    const onIdle = this.#onIdle;
    this.#onIdle = undefined;
    onIdle?.();
  }

  private begin(call: string): void {
    if (this.#busy !== undefined && (this.#busy !== DRIVE || this.#inStep)) {
      throw new EventError(`Cannot ${call}: ${this.#busy}() is still in progress on this simulator`, {
        code: "EV_BUSY",
        syscall: call,
      });
    }
    this.#busy = call;
    useMemory(this.memory);
  }

  private start(): void {
    this.beginRound();
    this.#rounds = this.#steps = 0;
    this.#over = false;
  }

  /** Runs steps until `done`, true; or until nothing is left up to `end`, false. */
  private go(end: number, done: () => boolean): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let started = false;
      // Each call of it is a macrotask. All promise reactions are done when it begins, and before each further step.
      const work = (): void => {
        do {
          // For buffers without an owner. It stays set until the promise reactions of this step are
          // over.
          useMemory(this.memory);
          try {
            // The work of promises before this belongs to the first round.
            if (!started) this.start();
            started = true;
            do {
              this.throwFailure();
              if (done()) return resolve(true);
              const entry = this.takeEntry(end);
              if (entry === undefined) return resolve(false);
              this.#inStep = true;
              this.step(entry);
              this.#inStep = false;
            } while (this.quiet);
          } catch (error) {
            this.#inStep = false;
            return reject(error);
          }
        } while (ranReactions(work));
        inHostTask(work);
      };
      inHostTask(work);
    });
  }

  private step(entry: Scheduled): void {
    this.#steps++;
    const { fn } = entry;
    this.quiet = false;
    if (typeof fn === "function") {
      if (entry.what === TIMER && entry.program !== undefined) this.onTimer(entry.program);
      fn();
    } else fn.run(entry.what);
  }

  /** Takes the next entry, and moves the clock there; undefined when nothing is left up to `end`. */
  private takeEntry(end: number): Scheduled | undefined {
    if (this.#steps >= this.#maxSteps) this.checkSteps();
    for (;;) {
      if (this.#sending > 0) this.sendAll();
      const entry = this.takeNext(end) ?? this.takeDue(end) ?? (this.#over ? undefined : this.takeLater(end));
      if (entry === undefined) return undefined;
      const { program } = entry;
      if (program === undefined || program.pausedUntil <= this.#now) return entry;
      this.postpone(entry, program.pausedUntil);
    }
  }

  private checkSteps(): void {
    if (this.pending === 0) return;
    throw new EventError(
      `Cannot go on: ${this.#maxSteps} steps were taken without an end, the last at ${this.#now} ms`,
      { code: "SIM_LIVELOCK" },
    );
  }

  private sendAll(): void {
    // A sender may let another one send.
    for (let i = 0; i < this.#sending; i++) (this.#senders[i] as Sender).send();
    this.#sending = 0;
  }

  /** The next entry that is not deferred. */
  private firstEntry(): Scheduled | undefined {
    const { first: queued } = this.#queue;
    // Almost always all due entries are in one queue.
    if (queued === undefined && this.#heap.length === 0) return this.#lane.peek();
    let first = this.#heap[0];
    if (queued !== undefined) {
      const next = queued.index === CANCELLED ? this.#queue.peek() : queued;
      if (next !== undefined && (first === undefined || before(next, first))) first = next;
    }
    const { first: coming } = this.#lane;
    if (coming !== undefined) {
      const next = coming.index === CANCELLED ? this.#lane.peek() : coming;
      if (next !== undefined && (first === undefined || before(next, first))) first = next;
    }
    return first;
  }

  private remove(entry: Scheduled): void {
    if (entry.index >= 0) return this.pull(entry);
    if (entry.index === IN_LANE) this.#lane.shift();
    else this.#queue.shift();
    entry.index = -1;
  }

  /**
   * Takes the next entry if only the order of the lane decides which one it is, as almost always.
   * The result is that of `takeDue()` and `takeLater()`, for fewer steps.
   */
  private takeNext(end: number): Scheduled | undefined {
    const first = this.#lane.first;
    if (first === undefined || first.index === CANCELLED || this.#queue.length > 0) return undefined;
    const next = this.#heap[0];
    if (next !== undefined && before(next, first)) return undefined;
    const { time } = first;
    if (time <= this.#now) {
      if (this.#batch >= 0 || first.sequence >= this.#roundEnd) return undefined;
    } else {
      if (time > end || this.#over || this.#deferred.length > 0 || this.alarmMs <= end) return undefined;
      this.#now = time;
      this.#rounds = 0;
      this.beginRound();
    }
    this.#lane.shift();
    first.index = -1;
    return first;
  }

  /** Takes the next entry of the present instant. */
  private takeDue(end: number): Scheduled | undefined {
    for (;;) {
      const first = this.firstEntry();
      const due = first !== undefined && first.time <= this.#now;
      if (this.#batch < 0) {
        if (due && first.sequence < this.#roundEnd) {
          this.remove(first);
          return first;
        }
        this.#batch = this.#deferred.length;
      }
      if (this.#batch > 0) {
        this.#batch--;
        return this.#deferred.shift();
      }
      const more = due || this.#deferred.length > 0;
      if (more && this.#rounds >= FREE_ROUNDS && !this.spend(end)) {
        this.#over = true;
        return undefined;
      }
      this.beginRound();
      if (!more) return undefined;
      this.#rounds++;
    }
  }

  /** Moves the clock to the next entry, and takes it. */
  private takeLater(end: number): Scheduled | undefined {
    if (this.alarmMs <= end) this.passAlarms(end);
    const first = this.firstEntry();
    if (first === undefined || first.time > end) return undefined;
    this.#now = first.time;
    this.#rounds = 0;
    this.beginRound();
    this.remove(first);
    return first;
  }

  /** Runs the alarms that come before all other entries. */
  private passAlarms(end: number): void {
    while (this.alarmMs <= end) {
      const first = this.firstEntry();
      if (first === undefined ? end === Infinity && !this.alarmCounts : first.time < this.alarmMs) return;
      this.#now = Math.max(this.#now, this.alarmMs);
      this.#rounds = 0;
      this.onAlarm();
      if (this.#sending > 0) this.sendAll();
    }
  }

  /** Delays an entry that was taken. Such entries keep their order. */
  private postpone(entry: Scheduled, time: number): void {
    entry.time = time;
    entry.sequence = this.#nextSequence++;
    this.insert(entry);
  }

  /** Moves the clock by the time of one round; false if the span ends before. */
  private spend(end: number): boolean {
    if (this.#now + ROUND_COST_MS > end) return false;
    this.#now += ROUND_COST_MS;
    return true;
  }

  private beginRound(): void {
    this.#roundEnd = this.#nextSequence;
    this.#batch = -1;
  }

  private pull(entry: Scheduled): void {
    const index = entry.index;
    const last = this.#heap.pop();
    entry.index = -1;
    if (last === undefined || last === entry) return;
    this.place(last, index);
    this.siftUp(last);
    this.siftDown(last);
  }

  private siftUp(entry: Scheduled): void {
    const heap = this.#heap;
    let { index } = entry;
    while (index > 0) {
      const parent = heap[(index - 1) >> 1] as Scheduled;
      if (before(parent, entry)) break;
      heap[index] = parent;
      parent.index = index;
      index = (index - 1) >> 1;
    }
    heap[index] = entry;
    entry.index = index;
  }

  private siftDown(entry: Scheduled): void {
    const heap = this.#heap;
    const { length } = heap;
    let { index } = entry;
    for (;;) {
      let next = index * 2 + 1;
      if (next >= length) break;
      let child = heap[next] as Scheduled;
      const right = heap[next + 1];
      if (right !== undefined && before(right, child)) {
        child = right;
        next++;
      }
      if (before(entry, child)) break;
      heap[index] = child;
      child.index = index;
      index = next;
    }
    heap[index] = entry;
    entry.index = index;
  }

  private place(entry: Scheduled, index: number): void {
    this.#heap[index] = entry;
    entry.index = index;
  }
}

function checkSpan(ms: number): void {
  if (typeof ms === "number" && ms >= 0 && ms !== Infinity) return;
  throw new RangeError(
    `Cannot advance: the span is not a finite number of milliseconds, 0 or more: received ${show(ms)}`,
  );
}

function before(a: Scheduled, b: Scheduled): boolean {
  return a.time < b.time || (a.time === b.time && a.sequence < b.sequence);
}

function never(): boolean {
  return false;
}
