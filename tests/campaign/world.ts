// The world of one program: its network, its hosts with their bases, the promises that are pending, and the faults found.

import {
  type Address,
  EVENT_BASE_COUNT_ACTIVE,
  EVENT_BASE_COUNT_ADDED,
  EventBase,
  EventError,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../core/mod.ts";
import type { SimHost, SimRuntime } from "../../runtimes/sim.ts";
import { Dice } from "../tools/dice.mjs";
import { checkDirection, Half } from "./halves.ts";
import type { Plan } from "./plan.ts";

/** The calls that an actor gets at the stages of a program. */
export interface Actor {
  /** Begins on a host that has been started anew, after a crash. */
  onRestart?(host: SimHost): void;
  /** The troubles are over. From now on everything must reach its end without help. */
  calm?(): void;
  /** Everything had time to happen. */
  check?(): void;
  /** Ends everything. */
  stop?(): void;
  /** Everything has ended. */
  checkStopped?(): void;
}

interface Task {
  readonly name: string;
  readonly host: SimHost;
  readonly life: number;
}

/** The world of one program. */
export class World {
  readonly sim: SimRuntime;
  readonly plan: Plan;
  /** The faults that were found. */
  readonly problems: string[] = [];
  /** A log of the actors' actions, or null. */
  readonly log: string[] | null;
  readonly actors: Actor[] = [];
  readonly halves: Half[] = [];
  readonly speakers: { checkDrained(): void }[] = [];
  /** Whether the troubles are over, and whether everything is to end. */
  isCalm = false;
  isStopping = false;
  /** Whether a middlebox ends streams in this program. */
  middlebox = false;
  /** Whether something may break a connection, or keep one from being made. */
  readonly breaking: boolean;
  readonly #bases: Map<SimHost, { base: EventBase; looping: Promise<unknown> }> = new Map();
  /** The bases of runtimes, which dispatch by themselves. */
  readonly #shared: Map<SimHost, EventBase> = new Map();
  readonly #lives: Map<SimHost, number> = new Map();
  readonly #tasks: Set<Task> = new Set();
  readonly #homes: Map<Half, SimHost> = new Map();
  readonly #meeting: Map<string, Half> = new Map();
  readonly #aliases: Map<string, string> = new Map();
  readonly hosts: SimHost[] = [];
  /** Hosts with nothing but relays: what they have taken is lost with them, and nobody need be told. */
  readonly middle: Set<SimHost> = new Set();

  constructor(sim: SimRuntime, plan: Plan, logs: boolean) {
    this.sim = sim;
    this.plan = plan;
    this.log = logs ? [] : null;
    const { rates, troubles } = plan;
    this.breaking = troubles.length > 0 || rates.connectionReset > 0 || rates.connectRefused > 0 ||
      rates.connectLost > 0;
  }

  /** Adds a line to the log. */
  note(text: string): void {
    this.log?.push(`${this.sim.now().toFixed(2)} ${text}`);
  }

  /** A rule was broken. */
  readonly blame = (problem: string): void => {
    this.note(`PROBLEM ${problem}`);
    this.problems.push(problem);
  };

  /** Throws if a rule was broken. */
  verify(): void {
    if (this.problems.length > 0) throw new Error(this.problems.slice(0, 3).join("; "));
  }

  host(name: string): SimHost {
    const host = this.sim.host(name);
    if (!this.#lives.has(host)) {
      this.#lives.set(host, 0);
      this.hosts.push(host);
      const { shortWrites, timerLateMs, windowBytes, without } = this.plan.rates;
      host.shortWrites = shortWrites;
      host.timerLateMs = timerLateMs;
      if (windowBytes !== null) host.windowBytes = windowBytes;
      for (const name of without) host.capabilities[name as "reset"] = false;
    }
    return host;
  }

  /** How often a host has been started: what is begun in one life does not go on in the next. */
  life(host: SimHost): number {
    return this.#lives.get(host) ?? 0;
  }

  /** The base of a host. */
  base(host: SimHost): EventBase {
    let found = this.#bases.get(host);
    if (found === undefined) {
      // A few callbacks in a turn are as right as many.
      const few = this.plan.seed % 5 === 0 ? { maxDispatchCallbacks: 2, minDispatchPriority: 0 } : {};
      const base = new EventBase({ runtime: host, priorities: 3, ...few });
      const looping = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
      found = { base, looping };
      this.#bases.set(host, found);
    }
    return found.base;
  }

  /** On this base, too, nothing may be left. */
  watchBase(host: SimHost, base: EventBase): void {
    if (this.#bases.get(host)?.base !== base) this.#shared.set(host, base);
  }

  /** Calls a function of a host's program after some time. A crash forgets it, a pause delays it. */
  later(host: SimHost, ms: number, fn: () => void): void {
    const life = this.life(host);
    try {
      host.setTimer(host.now() + ms, () => {
        if (this.life(host) === life) fn();
      });
    } catch (error) {
      this.blame(`a timer could not be set: ${error}`);
    }
  }

  /** A promise that must settle, unless its host crashes. */
  task<T>(
    host: SimHost,
    name: string,
    promise: Promise<T>,
    then?: (value: T) => void,
    failed?: (error: unknown) => void,
  ): void {
    const task: Task = { name, host, life: this.life(host) };
    this.#tasks.add(task);
    promise.then(
      (value) => {
        this.#tasks.delete(task);
        then?.(value);
      },
      (error) => {
        this.#tasks.delete(task);
        if (failed !== undefined) failed(error);
        else this.blame(`${name} rejected: ${show(error)}`);
      },
    ).catch((error) => this.blame(`after ${name}: ${show(error)}`));
  }

  /** Tasks that are not done, and whose host has not crashed since. */
  get undone(): string[] {
    return [...this.#tasks].filter(({ host, life }) => this.life(host) === life).map(({ name }) => name);
  }

  /** Makes the record of one end of a connection. */
  half(name: string, host: SimHost): Half {
    const half = new Half(name, this.blame);
    this.halves.push(half);
    this.#homes.set(half, host);
    return half;
  }

  /** A relay has connected: the client from `inner` is the peer of the client from `outer`. */
  alias(inner: string, outer: string): void {
    const half = this.#meeting.get(inner);
    if (half === undefined) {
      this.#aliases.set(inner, outer);
    } else {
      this.#meeting.delete(inner);
      this.meet(outer, half);
    }
  }

  /** Connects the records of two ends with the same key. */
  meet(key: string, half: Half): void {
    if (key === NOWHERE) return;
    key = this.#aliases.get(key) ?? key;
    const other = this.#meeting.get(key);
    if (other === undefined) {
      this.#meeting.set(key, half);
    } else {
      this.#meeting.delete(key);
      other.meet(half);
    }
  }

  crash(host: SimHost): void {
    this.note(`crash of ${host.addresses[0]}`);
    this.#lives.set(host, this.life(host) + 1);
    this.#bases.delete(host);
    this.#shared.delete(host);
    if (this.middle.has(host)) this.middlebox = true;
    for (const [half, home] of this.#homes) {
      if (home !== host) continue;
      half.drop("crash");
      half.crashed = true;
    }
    host.crash();
  }

  restart(host: SimHost): void {
    this.crash(host);
    this.note(`restart of ${host.addresses[0]}`);
    host.restart();
    for (const actor of this.actors) actor.onRestart?.(host);
  }

  /** Checks all connections. */
  checkBytes(settled: boolean): void {
    for (const half of this.halves) {
      const { peer } = half;
      if (peer !== null) {
        const middlebox = this.middlebox || half.middlebox || peer.middlebox;
        checkDirection(peer, half, middlebox, settled, this.blame);
      } else if (half.orphan && !this.middlebox) this.blame(`${half.name} got bytes of nobody`);
    }
  }

  #checkBase(base: EventBase): void {
    const left = base.numEvents(EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE);
    if (left !== 0) this.blame(`${left} events are left: ${base.dumpEvents()}`);
  }

  /** Ends the loops; nothing may be left of anything. */
  async end(): Promise<void> {
    const undone = this.undone;
    if (undone.length > 0) this.blame(`not done: ${undone.slice(0, 3).join(", ")}`);
    for (const host of [this.sim, ...this.hosts]) {
      if (host.openHandles !== 0) this.blame(`${host.openHandles} handles are open on ${host.addresses[0]}`);
    }
    for (const base of this.#shared.values()) this.#checkBase(base);
    for (const { base, looping } of this.#bases.values()) {
      this.#checkBase(base);
      base.loopBreak();
      await this.sim.run(looping);
      base.free();
    }
    if (this.sim.pending !== 0) this.blame(`${this.sim.pending} things are scheduled`);
    this.verify();
  }
}

/** The key of an address without a port, which nobody else has. */
const NOWHERE = "no address";

/** The key by which the two ends of a connection find each other: the address of the client. */
export function keyOf(address: Address | undefined): string {
  if (address === undefined || !("port" in address)) return NOWHERE;
  return `${address.hostname.replace(/^::ffff:/, "")}:${address.port}`;
}

/** The code of an error, or what it is. */
export function show(error: unknown): string {
  if (error instanceof EventError) return `${error.code} ${error.message}`;
  return error instanceof Error ? error.stack ?? error.message : String(error);
}

/** The code of an error. */
export function codeOf(error: unknown): string {
  return error instanceof EventError ? error.code : (error as { code?: string } | null)?.code ?? String(error);
}

/** Dice of one part of an actor, which those of other parts do not move. */
export function part(seed: number, number: number): Dice {
  return new Dice(Math.imul(seed ^ Math.imul(number + 1, 0x9e3779b1), 0x85ebca6b));
}
