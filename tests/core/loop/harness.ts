// Shared by the tests of the loop: a base on a simulator, a host that can be blocked, and a check
// that nothing is left.

import { assertEquals } from "@std/assert";
import { EVENT_BASE_COUNT_ACTIVE, EVENT_BASE_COUNT_ADDED, EVENT_BASE_COUNT_VIRTUAL } from "../../../core/flags.ts";
import { EventBase, type EventBaseOptions } from "../../../core/api/event_base.ts";
import type { EventError } from "../../../core/errors.ts";
import type {
  AcceptSink,
  ListenerBinding,
  ListenOptions,
  Runtime,
  TimerToken,
  TransportBinding,
  TransportSink,
} from "../../../core/runtime.ts";
import { type SimOptions, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import "../socket/checked.ts";

/** Every kind of count. */
export const ALL_COUNTS: number = EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_VIRTUAL | EVENT_BASE_COUNT_ADDED;

/** A simulated network and one base on it. */
export interface World {
  readonly sim: SimRuntime;
  readonly base: EventBase;
}

/** Makes a network and a base. */
export function world(options: EventBaseOptions = {}, simOptions: SimOptions = {}): World {
  // Find a loop that never ends soon.
  const sim = simRuntime({ maxSteps: 200_000, ...simOptions });
  return { sim, base: new EventBase({ runtime: sim, ...options }) };
}

/** Fails unless no connection, listener, event or scheduled call is left, on any of the hosts. */
export async function nothingLeft({ sim, base }: World, ...hosts: Runtime[]): Promise<void> {
  // Long enough for a closed connection to stop waiting for its peer.
  await sim.advance(6_000);
  assertEquals(sim.openHandles, 0, "open handles");
  for (const host of hosts) assertEquals(host.openHandles, 0, "open handles of another host");
  assertEquals(base.numEvents(ALL_COUNTS), 0, "events");
  assertEquals(sim.pending, 0, "scheduled calls");
}

/** Records the names of callbacks, with the time on request. */
export class Log {
  readonly lines: string[] = [];

  /** A callback that records a name. */
  note(name: string): () => void {
    return () => void this.lines.push(name);
  }

  /** The names since the last call. */
  take(): string[] {
    return this.lines.splice(0);
  }
}

interface Timer {
  readonly deadline: number;
  readonly fn: () => void;
  token: TimerToken;
}

/** The simulator as a host on which work takes time: `block()` moves its clock at once, as a busy callback does. */
export class BusyHost implements Runtime {
  readonly name = "sim" as const;
  readonly #sim: SimRuntime;
  readonly #timers: Set<Timer> = new Set();
  #ahead = 0;

  constructor(sim: SimRuntime) {
    this.#sim = sim;
  }

  get capabilities(): Runtime["capabilities"] {
    return this.#sim.capabilities;
  }

  get openHandles(): number {
    return this.#sim.openHandles;
  }

  /** Uses up the processor for `ms` milliseconds. */
  block(ms: number): void {
    this.#ahead += ms;
    for (const timer of this.#timers) {
      this.#sim.clearTimer(timer.token);
      this.#start(timer);
    }
  }

  #start(timer: Timer): void {
    timer.token = this.#sim.setTimer(timer.deadline - this.#ahead, () => {
      this.#timers.delete(timer);
      timer.fn();
    });
  }

  random(): number {
    return 0.5;
  }

  now(): number {
    return this.#sim.now() + this.#ahead;
  }

  setTimer(deadline: number, fn: () => void): TimerToken {
    const timer: Timer = { deadline, fn, token: 0 };
    this.#timers.add(timer);
    this.#start(timer);
    return timer;
  }

  clearTimer(token: TimerToken): void {
    this.#timers.delete(token as Timer);
    this.#sim.clearTimer((token as Timer).token);
  }

  defer(fn: () => void): void {
    this.#sim.defer(fn);
  }

  report(error: unknown): void {
    this.#sim.report(error);
  }

  onSignal(...args: Parameters<Runtime["onSignal"]>): ReturnType<Runtime["onSignal"]> {
    return this.#sim.onSignal(...args);
  }

  listen(...args: Parameters<Runtime["listen"]>): ReturnType<Runtime["listen"]> {
    return this.#sim.listen(...args);
  }

  connect(...args: Parameters<Runtime["connect"]>): ReturnType<Runtime["connect"]> {
    return this.#sim.connect(...args);
  }

  resolve(...args: Parameters<Runtime["resolve"]>): ReturnType<Runtime["resolve"]> {
    return this.#sim.resolve(...args);
  }
}

/** A host that accepts every connection at once, as Node and Bun do: it cannot leave them with the system. */
export class EagerHost extends BusyHost {
  override get capabilities(): Runtime["capabilities"] {
    return { ...super.capabilities, pauseAccept: false };
  }

  override async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    const binding = await super.listen(options, sink);
    binding.pauseAccept = (): void => {};
    return binding;
  }
}

/**
 * A host that delivers all connections of one poll at once, so that no promise settles in between.
 * Not for TLS.
 */
export class BurstHost extends EagerHost {
  override async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    let arrived: Relay[] = [];
    const give = (): void => {
      for (const relay of arrived.splice(0)) relay.open(sink.onAccept(relay.binding));
    };
    const binding = await super.listen(options, {
      onAccept: (accepted) => {
        const relay = new Relay(accepted);
        if (arrived.push(relay) === 1) this.defer(give);
        return relay;
      },
      onError: (error) => sink.onError(error),
    });
    const close = binding.close.bind(binding);
    binding.close = (): Promise<void> => {
      for (const relay of arrived) relay.binding.reset();
      arrived = [];
      return close();
    };
    return binding;
  }
}

/** Queues the events of a connection until the connection is delivered. */
class Relay implements TransportSink {
  readonly binding: TransportBinding;
  #sink: TransportSink | null = null;
  #kept: ((sink: TransportSink) => void)[] = [];

  constructor(binding: TransportBinding) {
    this.binding = binding;
  }

  open(sink: TransportSink): void {
    this.#sink = sink;
    for (const call of this.#kept.splice(0)) call(sink);
  }

  #tell(call: (sink: TransportSink) => void): void {
    if (this.#sink === null) this.#kept.push(call);
    else call(this.#sink);
  }

  onConnect(): void {
    this.#tell((sink) => sink.onConnect());
  }

  onSecure(): void {
    this.#tell((sink) => sink.onSecure());
  }

  onData(...args: Parameters<TransportSink["onData"]>): void {
    this.#tell((sink) => sink.onData(...args));
  }

  onEnd(): void {
    this.#tell((sink) => sink.onEnd());
  }

  onWritable(): void {
    this.#tell((sink) => sink.onWritable());
  }

  onClose(error?: EventError): void {
    this.#tell((sink) => sink.onClose(error));
  }
}
