/**
 * The engine of an event base: what is active, what is due, and the turn that runs it. `EventBase` is its public face.
 *
 * One turn is: check watchers, sources looked at and expired timers made active, the most urgent level of active events
 * run, output flushed, prepare watchers, the host's timer set. It runs inside the host's callback where it can (one
 * priority), and is deferred behind the host's poll otherwise. The rules L, P, E and T are libevent's.
 */

import { checkSignal } from "../checks.ts";
import { EV_ET, EV_FINALIZE, EV_PERSIST, EV_SIGNAL, EV_TIMEOUT } from "../flags.ts";
import { EVLOOP_NO_EXIT_ON_EMPTY, EVLOOP_NONBLOCK, EVLOOP_ONCE } from "../flags.ts";
import { EventError } from "../errors.ts";
import { engine } from "../bytes.ts";
import type { AbortSignalLike, Runtime, TimerToken } from "../runtime.ts";
import { ActiveQueue } from "./active_queue.ts";
import { CommonQueue } from "./common_queue.ts";
import { ACTIVE, AFTER_POLL, type EventExtra, IN_COMMON, INSERTED, LoopEvent, OVERDUE, UNREF } from "./loop_event.ts";
import { afterPoll } from "./after_poll.ts";
import { LoopStats } from "./stats.ts";
import { Signals } from "./signals.ts";
import { IO_CONDITIONS, Source, SourceList } from "./source.ts";
import { NO_TIMER, TimerHeap } from "./timer_heap.ts";
import { Watchers } from "./watch.ts";
import { WorkList } from "./work_list.ts";

/** Why a loop ended: no events left, `loopExit()`, `loopBreak()`, or a `EVLOOP_ONCE` or `EVLOOP_NONBLOCK` loop is done. */
export type LoopResult = "empty" | "exit" | "break" | "done";

/** Something with output to send at the end of a turn. */
export interface Flushable {
  /** Whether it is in the loop's list. Only the loop and the object itself write it. */
  flushQueued: boolean;
  /** Sends what it has. Calls no user code: that is activated, and runs later in the turn. */
  flushOutput(): void;
  /** What `flushOutput` has thrown, as of an event. */
  caught(error: unknown): boolean;
}

/** How a loop is limited: `event_config_set_max_dispatch_interval`. */
export interface DispatchLimits {
  /** A level is left after this many milliseconds, so that the host can be polled. */
  intervalMs: number;
  /** A level is left after this many callbacks. */
  callbacks: number;
  /** The limits hold for this priority and the less urgent ones. */
  minPriority: number;
}

/**
 * How many callbacks one turn runs before the host gets its word: what activates itself for ever, or ten thousand
 * timers due at once, stops neither the host's timers nor its I/O.
 */
const TURN_CALLBACKS = 1024;

/**
 * How many turns the events of a poll may take before timeouts of I/O are told all the same: something may be active for
 * ever.
 */
const POLL_TURNS = 64;

/** More deferred callbacks than this in one pass wait for the next one (rule O1). */
const MAX_DEFERRED = 32;

/** The longest sleep asked of a host: beyond 2^31 ms all of them fire at once. */
const MAX_SLEEP_MS = 2 ** 30;

/** The kinds that are counted: `EVENT_BASE_COUNT_ACTIVE`, `_VIRTUAL`, `_ADDED`. */
class Counter {
  now = 0;
  peak = 0;
  change(by: number): void {
    this.now += by;
    if (this.now > this.peak) this.peak = this.now;
  }
  /** One came and went. */
  passed(): void {
    if (this.now >= this.peak) this.peak = this.now + 1;
  }
}

/** The engine of one base. */
export class Loop {
  /** The host. */
  readonly runtime: Runtime;
  /** The public object. */
  face: object | null = null;
  /** Sources that events of this base watch. */
  readonly sources: SourceList = new SourceList();
  /** Added I/O events without a source: nothing is polled, but they keep the loop alive (rule E13). */
  readonly sourceless: Set<LoopEvent> = new Set();
  /** The timers. */
  readonly timers: TimerHeap = new TimerHeap();
  /** The common timeouts, by duration. */
  readonly commonQueues: Map<number, CommonQueue> = new Map();
  /** The events on signals. */
  readonly signals: Signals;
  /** Prepare watchers. */
  readonly prepare: Watchers = new Watchers();
  /** Check watchers. */
  readonly check: Watchers = new Watchers();
  /** Counts of active events, internal keep-alives and added events. */
  readonly active: Counter = new Counter();
  readonly virtual: Counter = new Counter();
  readonly added: Counter = new Counter();
  /** What has happened so far. */
  readonly stats: LoopStats = new LoopStats();
  /** The active events by priority. */
  queues: ActiveQueue[] = [];
  /** The event whose callback runs. */
  running: LoopEvent | null = null;
  gotExit = false;
  gotBreak = false;
  freed = false;
  /** Whether `serve()` and `connect()` share the base: it can't be freed. */
  shared = false;

  readonly #limits: DispatchLimits;
  #ready: WorkList<Source> = new WorkList();
  #readySpare: WorkList<Source> = new WorkList();
  #flushes: WorkList<Flushable> = new WorkList();
  #flushesSpare: WorkList<Flushable> = new WorkList();
  #later: LoopEvent[] = [];
  #deferred = 0;

  #dispatching = false;
  #inTurn = false;
  /** What the host was asked to defer: a turn, or the entry of a loop. A call of an earlier loop's is thus known. */
  #scheduled: "none" | "turn" | "enter" = "none";
  #continue = false;
  #runningPriority = 0;
  #flags = 0;
  #holds = true;
  /** How many of those that are counted in `virtual` keep the process alive by themselves. */
  #alive = 0;
  /** How many of what `added` counts belongs to events that do not keep the loop running. */
  #unheld = 0;
  /** How many timers keep the loop running. */
  #heldTimers = 0;
  /** How many added events keep the loop running and wait for nothing that keeps the process alive by itself. */
  #heldSilent = 0;
  /** When this turn began; negative while nobody has asked. */
  #turnTime = -1;
  /** What the clock said in the callback that runs; negative while nobody has asked. */
  #callTime = -1;
  /** The timeouts of I/O that are due and wait for a poll, in the order of their deadlines. */
  readonly #overdue: Set<LoopEvent> = new Set();
  /** Whether some of them may be told now: a poll is over. */
  #tellsOverdue = false;
  /** The host has been polled since: timeouts of I/O that were due by then can be told. */
  #polledAt = -Infinity;
  /** When the poll that the loop waits for began; negative while it waits for none. */
  #pollBegan = -1;
  /** When the poll began of which not all is processed; negative when there is none. */
  #pollHandled = -1;
  /** How many turns more its events may take. */
  #pollTurns = 0;
  /** Whether timers that are due wait, so that timeouts of I/O that were due before them are told before them. */
  #timersWait = false;
  #hostTimer: TimerToken | null = null;
  #hostTimerAt = 0;
  #hostTimerHolds = false;
  #resolve: ((result: LoopResult) => void) | null = null;
  #reject: ((reason: unknown) => void) | null = null;
  #signal: AbortSignalLike | null = null;
  readonly #turnBound = (): void => {
    if (this.#scheduled !== "turn" || this.#inTurn) return;
    this.#scheduled = "none";
    this.#turn();
  };
  readonly #timerBound = (): void => {
    this.#hostTimer = null;
    this.#wakeFromHost();
  };
  readonly #polledBound = (): void => {
    this.#pollHandled = this.#pollBegan;
    this.#pollBegan = -1;
    this.#timersWait = false;
    this.#pollTurns = POLL_TURNS;
    if (this.#ready.length === 0 && !this.signals.waiting) this.#endPoll();
    if (this.#dispatching && !this.#inTurn && this.#scheduled === "none") this.#turn();
  };
  readonly #waitedBound = (): void => {
    if (!this.#timersWait) return;
    this.#timersWait = false;
    this.#wake();
  };
  readonly #abortBound = (): void => {
    if (this.#inTurn) return;
    this.#fail(this.#signal?.reason);
  };

  constructor(runtime: Runtime, priorities: number, limits: DispatchLimits) {
    this.runtime = runtime;
    if (runtime.cheapCopyBytes !== undefined) engine.copyBytes = runtime.cheapCopyBytes;
    this.#limits = limits;
    this.signals = new Signals(this);
    this.setPriorities(priorities);
  }

  // ---- time

  /** The time of the turn, or the host's clock outside of one. A turn that needs no time does not ask the host for it. */
  now(): number {
    if (!this.#inTurn) return this.runtime.now();
    if (this.#turnTime < 0) this.#turnTime = this.runtime.now();
    return this.#turnTime;
  }

  /**
   * The host's clock, read once in a callback of the user's: what the deadlines that the user sets count from. A
   * callback that has worked for long would else set deadlines that are over.
   */
  clock(): number {
    if (!this.#inTurn) return this.runtime.now();
    if (this.#callTime < 0) {
      this.#callTime = this.runtime.now();
      if (this.#turnTime < 0) this.#turnTime = this.#callTime;
    }
    return this.#callTime;
  }

  /** Another callback of the user's begins: it has a clock of its own. The loop does it for each event that it runs. */
  forgetClock(): void {
    this.#callTime = -1;
  }

  /** Sets the time of the turn to the host's clock. */
  updateCacheTime(): void {
    if (this.#inTurn) this.#turnTime = this.#callTime = this.runtime.now();
  }

  /** Whether a loop runs. */
  get dispatching(): boolean {
    return this.#dispatching;
  }

  // ---- events

  /** Makes an event pending: its I/O or signal part, and its timer when a timeout is given (rules E7, E8, E12). */
  add(event: LoopEvent, timeoutMs: number | undefined, common: CommonQueue | null): void {
    const { what, source } = event;
    if ((what & (IO_CONDITIONS | EV_SIGNAL)) !== 0 && (event.state & INSERTED) === 0) {
      if ((what & EV_SIGNAL) !== 0) this.signals.attach(event);
      else if (source instanceof Source) source.attach(event);
      else this.sourceless.add(event);
      event.state |= INSERTED;
      this.#member(event, 1);
      if (isSilent(event) && (event.state & UNREF) === 0) this.#heldSilent++;
    }
    if (source !== null && typeof source !== "string" && (event.state & INSERTED) !== 0) {
      // An edge at add() if the condition holds; a level is simply looked at.
      if ((what & EV_ET) !== 0) event.edge |= source.readiness & what;
      if ((source.readiness & what) !== 0) this.queueSource(source);
    }
    if (timeoutMs !== undefined) {
      this.#forgetTimeout(event);
      if ((what & EV_PERSIST) !== 0) {
        const extra = event.more;
        extra.interval = timeoutMs;
        extra.common = common;
      }
      this.#startTimer(event, this.clock() + timeoutMs, common);
    }
    this.#wake();
  }

  /** What a timeout has made active is not told when its deadline moves (rule E12). */
  #forgetTimeout(event: LoopEvent): void {
    if ((event.state & ACTIVE) === 0 || (event.result & EV_TIMEOUT) === 0) return;
    event.result &= ~EV_TIMEOUT;
    if (event.result === 0) this.#deactivate(event);
  }

  /** Lets an event keep the loop running, as it does at first, or not. */
  setHeld(event: LoopEvent, held: boolean): void {
    if (((event.state & UNREF) === 0) === held) return;
    event.state ^= UNREF;
    const by = held ? 1 : -1;
    if ((event.state & INSERTED) !== 0) {
      this.#unheld -= by;
      if (isSilent(event)) this.#heldSilent += by;
    }
    if (event.timed) {
      this.#unheld -= by;
      this.#heldTimers += by;
    }
    this.#wake();
  }

  /** Makes an event neither pending nor active, and forgets its timeout. */
  del(event: LoopEvent): void {
    this.#extract(event);
    if (event.extra !== null) {
      forgetInterval(event.extra);
      event.extra.raised = 0;
    }
    if ((event.state & ACTIVE) !== 0) this.#deactivate(event);
    this.#wakeForLess();
  }

  /** Forgets the timeout and keeps the rest. */
  removeTimer(event: LoopEvent): void {
    this.#stopTimer(event);
    if (event.extra !== null) forgetInterval(event.extra);
    this.#wakeForLess();
  }

  /**
   * Puts the deadline of an event `ms` after a time, its timer running or not, without re-arming it later on.
   *
   * @param from By default the time of the turn, for what I/O arms; `clock()` for what the user does
   */
  setDeadline(event: LoopEvent, ms: number, from: number = this.now()): void {
    this.#forgetTimeout(event);
    this.#startTimer(event, from + ms, null);
    this.#wake();
  }

  /** When an event whose timer runs is due. */
  deadlineOf(event: LoopEvent): number {
    return event.slot < 0 ? (event.extra as EventExtra).deadline : this.timers.deadlineOf(event);
  }

  /**
   * Keeps the loop from being empty while something of the library's own goes on, or lets it be again.
   *
   * @param alive Whether it keeps the process alive by itself
   */
  hold(by: 1 | -1, alive = false): void {
    this.virtual.change(by);
    if (alive) this.#alive += by;
    if (by < 0) this.#wakeForLess();
  }

  /** Makes an event active, or adds to why it is (rule E3). */
  activate(event: LoopEvent, what: number): void {
    if ((event.state & ACTIVE) !== 0) {
      event.result |= what;
      return;
    }
    event.state |= ACTIVE;
    event.result = what;
    this.#count(1);
    this.#enqueue(event);
    this.#wake();
  }

  /** Makes a deferred callback active: in this pass, or in the next when there are too many (rule O1). */
  activateDeferred(event: LoopEvent): void {
    if ((event.state & ACTIVE) !== 0) return;
    if (this.#deferred <= MAX_DEFERRED) {
      this.#deferred++;
      this.activate(event, 0);
      return;
    }
    event.state |= ACTIVE;
    this.#count(1);
    this.#later.push(event);
  }

  /** The subset of `what` for which the event is pending or active (rule E5). */
  pending(event: LoopEvent, what: number): number {
    let flags = 0;
    if (event.inserted) flags |= event.what & (IO_CONDITIONS | EV_SIGNAL);
    if (event.timed) flags |= EV_TIMEOUT;
    if (event.active) flags |= event.result & ~EV_FINALIZE;
    return flags & what;
  }

  /** Calls `fn` with every event that is added or active, once each. */
  forEach(fn: (event: LoopEvent) => void): void {
    const seen = new Set<LoopEvent>();
    const visit = (event: LoopEvent): void => void seen.add(event);
    for (let source = this.sources.first; source !== null; source = source.next) {
      for (let event = source.firstEvent; event !== null; event = event.sibling) visit(event);
    }
    this.sourceless.forEach(visit);
    this.signals.forEach(visit);
    this.timers.forEach((node) => {
      if (node instanceof LoopEvent) visit(node);
    });
    for (const queue of this.commonQueues.values()) {
      for (let event = queue.first; event !== null; event = (event.extra as EventExtra).next) visit(event);
    }
    this.#overdue.forEach(visit);
    for (const queue of this.queues) for (let event = queue.first; event !== null; event = event.next) visit(event);
    this.#later.forEach(visit);
    seen.forEach(fn);
  }

  /** Makes `n` active queues. */
  setPriorities(n: number): void {
    if (this.active.now > 0) {
      throw new EventError(`Cannot set ${n} priorities: events are active`, { code: "EV_ACTIVE" });
    }
    this.queues = Array.from({ length: n }, () => new ActiveQueue());
  }

  // ---- sources, flushes

  /** A source has become ready, in a host's callback: a turn may run now. */
  onSourceReady(source: Source): void {
    // A turn that is to come, but has nothing to do, is this one.
    if (this.#scheduled === "turn" && !this.#hasWork()) this.#scheduled = "none";
    const event = source.firstEvent;
    if (event !== null && this.#nothingElse(source, event)) return this.#turnOf(event, source.readiness);
    this.#queueSource(source);
    this.#wakeFromHost();
  }

  /** Lets the next turn look at a source. */
  queueSource(source: Source): void {
    this.#queueSource(source);
    this.#wake();
  }

  /** Something happened in a host's callback: a turn may run now. */
  #wakeFromHost(): void {
    if (!this.#dispatching || this.#inTurn || this.#scheduled !== "none") return;
    if (this.queues.length === 1) this.#turn();
    else this.#scheduleTurn();
  }

  /** Something happened in a call of the user's: a turn runs, but not inside it. */
  #wake(): void {
    if (this.#dispatching && !this.#inTurn && this.#scheduled === "none") this.#scheduleTurn();
  }

  /**
   * Something was taken away. That makes no work, but the loop may have become empty, or sleep for nothing. Each connection
   * that ends takes something away, and a turn of its own would keep those that arrive in the same poll waiting.
   */
  #wakeForLess(): void {
    const { size } = this.timers;
    if (this.#isEmpty() || (this.#hostTimer !== null && size === 0 && !this.#needsHold())) this.#wake();
  }

  /** A signal was raised. */
  onSignal(): void {
    this.#wakeFromHost();
  }

  /** Lets the end of this turn, or the next turn, send an object's output. */
  queueFlush(flushable: Flushable): void {
    if (flushable.flushQueued) return;
    flushable.flushQueued = true;
    this.#flushes.push(flushable);
    this.#wake();
  }

  // ---- the loop

  /**
   * Runs the loop.
   *
   * @param flags `EVLOOP_` flags
   * @param signal Aborting it rejects with its reason
   * @param holds Whether a loop that waits for nothing of the host's keeps the process alive
   */
  start(flags: number, signal: AbortSignalLike | undefined, holds: boolean): Promise<LoopResult> {
    if (this.freed) {
      return Promise.reject(new EventError("Cannot run a loop: the base was freed", { code: "EV_FREED" }));
    }
    if (this.#dispatching) {
      return Promise.reject(new EventError("Cannot run a loop: the base is already dispatching", { code: "EV_BUSY" }));
    }
    try {
      checkSignal("run a loop", signal);
    } catch (error) {
      return Promise.reject(error);
    }
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    this.#dispatching = true;
    this.gotExit = this.gotBreak = false;
    this.#flags = flags;
    this.#holds = holds;
    if (signal !== undefined) {
      this.#signal = signal;
      signal.addEventListener("abort", this.#abortBound);
    }
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      // Not now: no callback runs inside a call of the user's, and a loop that does not block lets the host poll first.
      this.#scheduled = "enter";
      const first = this.timers.first();
      const now = this.runtime.now();
      const due = this.#overdue.size > 0 || (first !== null && this.timers.deadlineOf(first) <= now);
      if (!due) this.runtime.defer(this.#enterBound);
      else {
        afterPoll(this.runtime, () => {
          this.#tellOverdue(now);
          this.#enterBound();
        });
      }
    });
  }

  readonly #enterBound = (): void => {
    if (this.#scheduled !== "enter") return;
    this.#scheduled = "none";
    this.#inTurn = true;
    this.#turnTime = this.#callTime = -1;
    try {
      this.#head(true);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#inTurn = false;
    }
  };

  /** Stops after what is active (rules L5, L6 are in `EventBase`). */
  exit(): void {
    this.gotExit = true;
  }

  /** Stops after the running callback (rule L4). */
  break(): void {
    if (!this.#dispatching) return;
    this.gotBreak = true;
    this.#wake();
  }

  /** Leaves this pass and begins another (rule L7). */
  continue(): void {
    if (this.#inTurn) this.#continue = true;
  }

  /** Takes all events and watchers off; finalizers run. */
  free(): void {
    if (this.freed) return;
    this.freed = true;
    const finalizers: (() => void)[] = [];
    this.forEach((event) => {
      const finalizer = takeFinalizer(event);
      if (finalizer !== null) finalizers.push(finalizer);
      this.del(event);
    });
    this.prepare.clear();
    this.check.clear();
    this.#flushes.clear();
    if (this.#dispatching && !this.#inTurn) this.#finish("empty");
    // All of them, even if one throws: the first error is thrown then.
    const failures: unknown[] = [];
    for (const finalizer of finalizers) {
      try {
        finalizer();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  // ---- the turn

  /**
   * Whether a turn that begins now has one level-triggered event of one source to run, and nothing else to look at: the
   * common turn of a server.
   */
  #nothingElse(source: Source, event: LoopEvent): boolean {
    return this.#dispatching && !this.#inTurn && this.#scheduled === "none" && this.queues.length === 1 &&
      event.sibling === null && source.queuedIn === null && (event.what & EV_ET) === 0 &&
      this.active.now === 0 && this.#ready.length === 0 && this.#flushes.length === 0 && !this.gotBreak &&
      this.timers.size === 0 && this.check.size === 0 && !this.signals.waiting;
  }

  /**
   * The common turn. It does what {@linkcode #turn} does, without the lists of what is ready and active in which there
   * would be one event. Together with `WorkList`: user time of the core for a line 2.09 us in place of 2.37 (Node).
   */
  #turnOf(event: LoopEvent, readiness: number): void {
    const result = readiness & event.what;
    if (result === 0) return;
    this.#inTurn = true;
    this.#turnTime = this.#callTime = -1;
    try {
      this.stats.turns++;
      this.active.passed();
      this.added.passed();
      this.#call(event, result);
      if (this.#flushes.length > 0 || this.active.now > 0) this.#process();
      this.#head((this.#flags & EVLOOP_ONCE) === 0 || this.active.now > 0);
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#inTurn = false;
    }
  }

  #turn(): void {
    this.#inTurn = true;
    this.#turnTime = this.#callTime = -1;
    try {
      this.stats.turns++;
      if (this.gotBreak) return this.#finish("break");
      if (this.check.size > 0) {
        this.now();
        this.check.run(this, undefined);
        if (this.#stopped()) return this.#head(true);
      }
      this.#poll();
      if (this.timers.size > 0 || this.#tellsOverdue) this.#expire();
      const ran = this.#process();
      if (this.#pollHandled >= 0) this.#endPoll();
      const once = (this.#flags & EVLOOP_ONCE) !== 0 && ran > 0 && this.active.now === 0;
      const idle = (this.#flags & EVLOOP_NONBLOCK) !== 0 && ran === 0 && this.active.now === 0 && !this.#polling;
      this.#head(!once && !idle);
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#inTurn = false;
      this.#runningPriority = 0;
    }
  }

  /** A callback has thrown: the loop ends with that, and everything else is as it was. */
  #failed(error: unknown): void {
    const event = this.running;
    this.running = null;
    if (event !== null) this.#lookAgain(event);
    this.#fail(error);
  }

  /** Whether the loop is to end before another callback runs. */
  #stopped(): boolean {
    return this.gotBreak || this.freed || this.#aborted();
  }

  #aborted(): boolean {
    return this.#signal !== null && this.#signal.aborted;
  }

  /** The end of a turn: end the loop, or see to it that the next turn comes. */
  #head(goOn: boolean): void {
    this.#continue = false;
    this.#deferred = 0;
    if (this.#aborted()) return this.#fail(this.#signal?.reason);
    if (this.gotBreak) return this.#finish("break");
    if (this.freed) return this.#finish("empty");
    if (this.gotExit) return this.#finish("exit");
    if (!goOn) return this.#finish("done");
    if (this.#isEmpty()) return this.#finish("empty");
    if (this.#later.length > 0) {
      for (const event of this.#later.splice(0)) this.#enqueue(event);
    }
    if (this.prepare.size > 0) {
      this.prepare.run(this, this.#timeout());
      if (this.#aborted()) return this.#fail(this.#signal?.reason);
      // A watcher may have taken away what was to be waited for.
      if (this.freed || this.#isEmpty()) return this.#finish("empty");
    }
    if (this.#hasWork()) this.#scheduleTurn();
    else this.#sleep();
  }

  /** Whether nothing is left to run or to wait for, and that ends the loop. */
  #isEmpty(): boolean {
    return this.added.now === this.#unheld && this.virtual.now === 0 && this.active.now === 0 &&
      this.#flushes.length === 0 && (this.#flags & EVLOOP_NO_EXIT_ON_EMPTY) === 0;
  }

  /** Whether there is something to do that no one will tell of. */
  #hasWork(): boolean {
    return this.active.now > 0 || this.#ready.length > 0 || this.#flushes.length > 0 || this.signals.waiting ||
      this.gotBreak || (this.#flags & EVLOOP_NONBLOCK) !== 0 || this.#tellsOverdue;
  }

  /** How long the host may wait: 0, the time to the first deadline, or undefined for ever. From the real clock (T8). */
  #timeout(): number | undefined {
    if (this.#hasWork()) return 0;
    const first = this.timers.first();
    if (first === null) return undefined;
    const ms = this.timers.deadlineOf(first) - this.runtime.now();
    return ms > 0 ? ms : 0;
  }

  #scheduleTurn(): void {
    this.#scheduled = "turn";
    this.runtime.defer(this.#turnBound);
  }

  /** Sets the host's timer, unless one that fires soon enough is set: that turn looks again. */
  #sleep(): void {
    const first = this.timers.first();
    const holds = this.#heldTimers > 0 || this.#needsHold();
    // With nothing but what is overdue, the poll brings the next turn.
    if (first === null && (!holds || this.#overdue.size > 0)) {
      this.#clearHostTimer();
      return;
    }
    const due = first === null ? Infinity : this.timers.deadlineOf(first);
    if (this.#hostTimer !== null && this.#hostTimerAt <= due && this.#hostTimerHolds === holds) return;
    const now = this.runtime.now();
    // Already due: a host's timer would take a millisecond. What waits for a poll is waked by it.
    if (due <= now) {
      if (!this.#timersWait) this.#scheduleTurn();
      return;
    }
    const limit = now + MAX_SLEEP_MS;
    const deadline = due > limit ? limit : due;
    if (this.#hostTimer !== null) this.runtime.clearTimer(this.#hostTimer);
    this.#hostTimerAt = deadline;
    this.#hostTimerHolds = holds;
    this.#hostTimer = this.runtime.setTimer(deadline, this.#timerBound, !holds);
  }

  /** Whether the loop waits for something that does not keep the process alive by itself: a host's timer does it. */
  #needsHold(): boolean {
    return this.#holds && this.runtime.endsWhenIdle !== false &&
      ((this.#flags & EVLOOP_NO_EXIT_ON_EMPTY) !== 0 || this.#heldSilent > 0 || this.virtual.now > this.#alive);
  }

  #clearHostTimer(): void {
    if (this.#hostTimer === null) return;
    this.runtime.clearTimer(this.#hostTimer);
    this.#hostTimer = null;
  }

  #finish(result: LoopResult): void {
    const resolve = this.#resolve;
    this.#leave();
    resolve?.(result);
  }

  #fail(reason: unknown): void {
    const reject = this.#reject;
    this.#leave();
    reject?.(reason);
  }

  #leave(): void {
    this.#dispatching = false;
    this.#scheduled = "none";
    this.#resolve = this.#reject = null;
    this.#signal?.removeEventListener("abort", this.#abortBound);
    this.#signal = null;
    // What the last poll has brought may be deleted before the next loop.
    this.#pollHandled = -1;
    this.#timersWait = false;
    this.#clearHostTimer();
  }

  /** Makes active what the sources and signals are ready for. */
  #poll(): void {
    if (this.signals.waiting) this.signals.activate();
    const ready = this.#ready;
    if (ready.length === 0) return;
    this.#ready = this.#readySpare;
    for (let i = 0; i < ready.length; i++) {
      const source = ready.at(i);
      if (source.queuedIn !== this) continue;
      source.queuedIn = null;
      for (let event = source.firstEvent; event !== null; event = event.sibling) {
        let what = source.readiness & event.what;
        if ((event.what & EV_ET) !== 0) {
          what &= event.edge;
          event.edge = 0;
        }
        if (what !== 0) this.activate(event, what);
      }
    }
    ready.clear();
    this.#readySpare = ready;
  }

  /**
   * Makes active whose deadline has come. All of them first: what a callback arms waits for the next turn. A timeout of
   * I/O waits for a poll of the host that began after its deadline. Those that are due later wait with it, if the poll is
   * a short one.
   */
  #expire(): void {
    const now = this.now();
    if (this.#tellsOverdue) {
      this.#tellsOverdue = false;
      for (const event of this.#overdue) {
        const { deadline } = event.extra as EventExtra;
        if (deadline > this.#polledAt) break;
        this.#timeOut(event, deadline, now);
      }
    }
    for (let node = this.timers.first(); node !== null && !this.#timersWait; node = this.timers.first()) {
      const deadline = this.timers.deadlineOf(node);
      if (deadline > now) break;
      const event = node instanceof CommonQueue ? node.first as LoopEvent : node as LoopEvent;
      if ((event.state & AFTER_POLL) === 0 || deadline <= this.#polledAt) this.#timeOut(event, deadline, now);
      else {
        this.#unschedule(event);
        event.more.deadline = deadline;
        event.slot = OVERDUE;
        this.#overdue.add(event);
        this.#awaitPoll();
      }
    }
    if (this.#overdue.size > 0) this.#awaitPoll();
  }

  #timeOut(event: LoopEvent, deadline: number, now: number): void {
    this.stats.lag(now - deadline);
    if ((event.what & EV_PERSIST) !== 0) {
      if (event.extra !== null) event.extra.deadline = deadline;
      this.#stopTimer(event);
    } else this.#extract(event);
    this.activate(event, EV_TIMEOUT);
  }

  /** Whether a timeout of I/O waits for a poll, or for what the poll has brought. */
  get #polling(): boolean {
    return this.#pollBegan >= 0 || this.#pollHandled >= 0;
  }

  #awaitPoll(): void {
    if (this.#polling) return;
    const { runtime } = this;
    this.#pollBegan = runtime.now();
    this.#timersWait = true;
    afterPoll(runtime, this.#polledBound);
    // Not for all of a long poll: Deno's takes a millisecond and more.
    runtime.defer(() => runtime.defer(this.#waitedBound));
  }

  /** Lets timeouts of I/O be told when all that the poll has brought is processed. */
  #endPoll(): void {
    if ((this.active.now > 0 || this.#flushes.length > 0) && --this.#pollTurns > 0) return;
    this.#tellOverdue(this.#pollHandled);
    this.#pollHandled = -1;
  }

  /** The host has been polled since: turns tell what was overdue by then. */
  #tellOverdue(polledAt: number): void {
    this.#polledAt = polledAt;
    this.#tellsOverdue = this.#overdue.size > 0;
  }

  /** Runs the most urgent level, and sends what it wrote. @returns How many callbacks ran */
  #process(): number {
    let ran = 0;
    if (this.freed) return ran;
    if (this.active.now > 0) {
      let level = 0;
      while (level < this.queues.length && (this.queues[level] as ActiveQueue).first === null) level++;
      if (level < this.queues.length) {
        this.#runningPriority = level;
        const limited = level >= this.#limits.minPriority;
        const most = limited ? Math.min(TURN_CALLBACKS, Math.max(1, this.#limits.callbacks)) : TURN_CALLBACKS;
        const end = limited && this.#limits.intervalMs < Infinity ? this.now() + this.#limits.intervalMs : Infinity;
        const queue = this.queues[level] as ActiveQueue;
        do {
          ran = this.#runLevel(queue, ran, most, end);
          // A callback may have freed the base: what was written after that waits for who owns it.
          if (this.#flushes.length === 0 || this.freed) break;
          this.#flush();
        } while (queue.first !== null && ran < most && !this.#passIsOver(end));
        this.#runningPriority = 0;
      }
    }
    if (this.#flushes.length > 0 && !this.freed) {
      this.#flush();
      // What the flush alone has made active still belongs to this turn.
      if (ran === 0 && this.active.now > 0) return this.#process();
    }
    return ran;
  }

  #runLevel(queue: ActiveQueue, ran: number, most: number, end: number): number {
    for (let event = queue.first; event !== null; event = queue.first) {
      this.#run(event);
      ran++;
      if (ran >= most || this.#passIsOver(end)) break;
    }
    return ran;
  }

  /** Whether no further callback of this pass is to run. */
  #passIsOver(end: number): boolean {
    return this.#continue || this.#stopped() || (end !== Infinity && this.runtime.now() >= end);
  }

  /** Runs one active event. */
  #run(event: LoopEvent): void {
    const result = event.result;
    this.#deactivate(event);
    this.#call(event, result);
  }

  /** Calls an event: first made non-pending, or its timer re-armed (rule E1). */
  #call(event: LoopEvent, result: number): void {
    const extra = event.extra;
    if (extra !== null && extra.finalizer !== null) {
      takeFinalizer(event)?.();
      return;
    }
    if ((event.what & EV_PERSIST) === 0) this.#extract(event);
    else if (extra !== null && extra.interval > 0) this.#rearm(event, extra, result);
    this.stats.count(result);
    this.#callTime = -1;
    this.running = event;
    try {
      event.run(result);
    } catch (error) {
      if (!event.caught(error)) throw error;
    }
    this.running = null;
    this.#lookAgain(event);
  }

  /** A level-triggered event whose condition still holds is active again in the next turn. */
  #lookAgain(event: LoopEvent): void {
    const source = event.source;
    if (
      (event.state & (ACTIVE | INSERTED)) !== INSERTED || source === null || typeof source === "string" ||
      (event.what & EV_ET) !== 0 || event.loop !== this
    ) return;
    if ((source.readiness & event.what) !== 0) this.#queueSource(source);
  }

  /** Re-arms a persistent event: from its deadline when it was the timer that fired, else from now (rule T2). */
  #rearm(event: LoopEvent, extra: EventExtra, result: number): void {
    // Its timer still runs: the timeout was told by hand, and the schedule stays.
    if (result === EV_TIMEOUT && event.timed) return;
    const now = this.now();
    const { interval } = extra;
    let deadline = now + interval;
    if ((result & EV_TIMEOUT) !== 0 && !event.timed) {
      const next = extra.deadline + interval;
      if (next >= now) deadline = next;
    }
    this.#startTimer(event, deadline, extra.common);
  }

  #flush(): void {
    const flushes = this.#flushes;
    this.#flushes = this.#flushesSpare;
    // Callbacks may have taken long: what leaves now counts from now.
    this.#callTime = -1;
    let done = 0;
    try {
      while (done < flushes.length) {
        const flushable = flushes.at(done++);
        flushable.flushQueued = false;
        try {
          flushable.flushOutput();
        } catch (error) {
          if (!flushable.caught(error)) throw error;
        }
      }
    } finally {
      // A callback of a buffer may have thrown: the others keep their places.
      if (done < flushes.length) this.#flushes.unshift(flushes, done);
      flushes.clear();
      this.#flushesSpare = flushes;
    }
  }

  // ---- the state of an event

  #queueSource(source: Source): void {
    if (source.queuedIn === this) return;
    source.queuedIn = this;
    this.#ready.push(source);
  }

  #enqueue(event: LoopEvent): void {
    const level = Math.min(event.level, this.queues.length - 1);
    event.level = level;
    (this.queues[level] as ActiveQueue).push(event);
    // A more urgent event ends the pass (rule P4).
    if (level < this.#runningPriority) this.#continue = true;
  }

  #deactivate(event: LoopEvent): void {
    event.state &= ~ACTIVE;
    event.result = 0;
    this.#count(-1);
    const later = this.#later.length === 0 ? -1 : this.#later.indexOf(event);
    if (later >= 0) this.#later.splice(later, 1);
    else (this.queues[event.level] as ActiveQueue).remove(event);
  }

  #count(by: number): void {
    this.active.change(by);
    this.added.change(by);
  }

  /** Takes away the I/O or signal part and the timer. */
  #extract(event: LoopEvent): void {
    if ((event.state & INSERTED) !== 0) {
      event.state &= ~INSERTED;
      if (event.extra !== null) event.extra.edge = 0;
      this.#member(event, -1);
      if (isSilent(event) && (event.state & UNREF) === 0) this.#heldSilent--;
      if ((event.what & EV_SIGNAL) !== 0) this.signals.detach(event);
      else if (event.source instanceof Source) event.source.detach(event);
      else this.sourceless.delete(event);
    }
    this.#stopTimer(event);
  }

  /** Counts what an event is added for. */
  #member(event: LoopEvent, by: 1 | -1): void {
    this.added.change(by);
    if ((event.state & UNREF) !== 0) this.#unheld += by;
  }

  #timerMember(event: LoopEvent, by: 1 | -1): void {
    this.#member(event, by);
    if ((event.state & UNREF) === 0) this.#heldTimers += by;
  }

  #startTimer(event: LoopEvent, deadline: number, common: CommonQueue | null): void {
    const slot = event.slot;
    if (slot === NO_TIMER) this.#timerMember(event, 1);
    else if (slot < 0 || common !== null) this.#unschedule(event);
    if (common !== null) common.insert(event, deadline);
    else this.timers.schedule(event, deadline);
  }

  #stopTimer(event: LoopEvent): void {
    const slot = event.slot;
    if (slot === NO_TIMER) return;
    this.#timerMember(event, -1);
    this.#unschedule(event);
  }

  /** Takes the deadline of an event that has one away from where it is kept. */
  #unschedule(event: LoopEvent): void {
    if (event.slot === IN_COMMON) event.extra?.queue?.remove(event);
    else if (event.slot === OVERDUE) {
      this.#overdue.delete(event);
      event.slot = NO_TIMER;
    } else this.timers.remove(event);
  }
}

/** Whether an added event waits for nothing that keeps the process alive by itself, as a socket does. */
function isSilent(event: LoopEvent): boolean {
  return (event.what & EV_SIGNAL) !== 0 || event.source === null;
}

function forgetInterval(extra: EventExtra): void {
  extra.interval = -1;
  extra.common = null;
}

function takeFinalizer({ extra }: LoopEvent): (() => void) | null {
  if (extra === null) return null;
  const { finalizer } = extra;
  extra.finalizer = null;
  return finalizer;
}
