// A host with one thread on the simulator's network: its program can block it while the network
// goes on.

import type {
  AcceptSink,
  ConnectOptions,
  ListenerBinding,
  ListenOptions,
  Runtime,
  TimerToken,
  TransportBinding,
  TransportSink,
} from "../../../core/runtime.ts";
import type { SimRuntime } from "../../../runtimes/sim.ts";

/** The phases of a host's loop, in their order: it calls due timers, polls, and calls what was deferred. */
const TIMERS = 0;
const POLL = 1;
const DEFERRED = 2;

/**
 * The simulator as a host with one thread. While `block()` uses the thread, time passes for the
 * network and its peers; the next poll finds what they did. As on real hosts, that poll may come
 * late. A timer that has come due meanwhile runs before it. If a callback of the poll has blocked,
 * deferred functions run before it, too.
 */
export class OneThread implements Runtime {
  readonly name = "sim" as const;
  /** The number of reads of the clock. */
  clockReads = 0;
  readonly #sim: SimRuntime;
  /** The functions that wait to be called, by phase, with the time since when they wait. */
  readonly #waiting: { fn: () => void; since: number }[][] = [[], [], []];
  #phase = TIMERS;
  /**
   * The time when the current phase began. Later functions belong to the next phase of that kind.
   */
  #phaseBegan = 0;
  /**
   * The functions that were deferred before the current phase began, and have not been called yet.
   */
  #deferred: (() => void)[] = [];
  #busyUntil = 0;
  #wakes = false;

  constructor(sim: SimRuntime) {
    this.#sim = sim;
  }

  get capabilities(): Runtime["capabilities"] {
    return this.#sim.capabilities;
  }

  get openHandles(): number {
    return this.#sim.openHandles;
  }

  /** Uses up the thread for `ms` milliseconds. */
  block(ms: number): void {
    this.#busyUntil = Math.max(this.#busyUntil, this.#sim.now()) + ms;
    this.#wake();
  }

  /** Calls the function now, or when the thread is free. */
  #call(phase: number, fn: () => void): void {
    const since = this.#sim.now();
    if (since < this.#busyUntil || this.#waits) {
      this.#waiting[phase]?.push({ fn, since });
      this.#wake();
      return;
    }
    this.#phase = phase;
    this.#phaseBegan = since;
    fn();
  }

  get #waits(): boolean {
    return this.#deferred.length > 0 || this.#waiting.some((list) => list.length > 0);
  }

  #wake(): void {
    if (this.#wakes) return;
    this.#wakes = true;
    this.#sim.setTimer(this.#busyUntil, () => {
      this.#wakes = false;
      this.#iterate();
    });
  }

  /** Continues the phases, from where a function has blocked. */
  #iterate(): void {
    while (this.#waits) {
      for (;;) {
        if (this.#sim.now() < this.#busyUntil) return this.#wake();
        const fn = this.#next();
        if (fn === undefined) break;
        fn();
      }
      this.#phase = (this.#phase + 1) % 3;
      this.#phaseBegan = this.#sim.now();
      if (this.#phase === DEFERRED) this.#deferred = (this.#waiting[DEFERRED] ?? []).splice(0).map(({ fn }) => fn);
    }
  }

  /** Takes the next function of the current phase. */
  #next(): (() => void) | undefined {
    if (this.#phase === DEFERRED) return this.#deferred.shift();
    const list = this.#waiting[this.#phase] ?? [];
    return list[0] !== undefined && list[0].since <= this.#phaseBegan ? list.shift()?.fn : undefined;
  }

  random(): number {
    return 0.5;
  }

  now(): number {
    this.clockReads++;
    return Math.max(this.#sim.now(), this.#busyUntil);
  }

  setTimer(deadline: number, fn: () => void, background?: boolean): TimerToken {
    const timer: { token: TimerToken; cleared: boolean } = { token: 0, cleared: false };
    timer.token = this.#sim.setTimer(deadline, () => {
      this.#call(TIMERS, () => {
        if (!timer.cleared) fn();
      });
    }, background);
    return timer;
  }

  clearTimer(token: TimerToken): void {
    const timer = token as { token: TimerToken; cleared: boolean };
    timer.cleared = true;
    this.#sim.clearTimer(timer.token);
  }

  defer(fn: () => void): void {
    this.#waiting[DEFERRED]?.push({ fn, since: this.#sim.now() });
    this.#sim.defer(() => this.#iterate());
  }

  report(error: unknown): void {
    this.#sim.report(error);
  }

  /** Polls, as two calls of `defer()` do, but not before a time in milliseconds has passed. */
  poll?: (fn: () => void) => void;

  set pollMs(ms: number) {
    this.poll = (fn) => void this.setTimer(this.now() + ms, () => this.defer(() => this.defer(fn)));
  }

  onSignal(name: string, fn: () => void): () => void {
    return this.#sim.onSignal(name, () => this.#call(POLL, fn));
  }

  listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    return this.#sim.listen(options, {
      onAccept: (binding) => {
        const later = new LaterSink(this.#inPoll);
        this.#inPoll(() => later.sink = sink.onAccept(binding));
        return later;
      },
      onError: (error) => this.#inPoll(() => sink.onError(error)),
    });
  }

  connect(options: ConnectOptions, sink: TransportSink): TransportBinding {
    const later = new LaterSink(this.#inPoll);
    later.sink = sink;
    return this.#sim.connect(options, later);
  }

  readonly #inPoll = (fn: () => void): void => this.#call(POLL, fn);

  resolve(...args: Parameters<Runtime["resolve"]>): ReturnType<Runtime["resolve"]> {
    return this.#sim.resolve(...args);
  }
}

/** Passes the events of a connection to a sink after the host has polled. */
class LaterSink implements TransportSink {
  sink: TransportSink | null = null;
  readonly #call: (fn: () => void) => void;

  constructor(call: (fn: () => void) => void) {
    this.#call = call;
  }

  onConnect(): void {
    this.#call(() => this.sink?.onConnect());
  }

  onSecure(): void {
    this.#call(() => this.sink?.onSecure());
  }

  onData(...args: Parameters<TransportSink["onData"]>): void {
    this.#call(() => this.sink?.onData(...args));
  }

  onEnd(): void {
    this.#call(() => this.sink?.onEnd());
  }

  onWritable(): void {
    this.#call(() => this.sink?.onWritable());
  }

  onClose(...args: Parameters<TransportSink["onClose"]>): void {
    this.#call(() => this.sink?.onClose(...args));
  }
}
