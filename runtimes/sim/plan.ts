/**
 * Plans of faults: the faults of one run, as data that can be kept and repeated.
 *
 * @module
 */

import { show } from "../../core/checks.ts";
import { type Names, readList, readOptions } from "../../core/names.ts";
import { FAULT, FAULT_NAMES, type FaultKind, type FaultName, LATE_ROLL, type LateKind } from "./faults.ts";
import type { SimHostRuntime } from "./host.ts";
import type { Named } from "./journal.ts";
import { type Link, simLink } from "./link.ts";
import type { Judge, Network } from "./network.ts";

/**
 * One fault of a run.
 *
 * A fault is data: `JSON.stringify()` and `JSON.parse()` keep it. A random fault is found again by
 * `kind`, `who` and `at`, whatever other faults happen. A fault with `forMs` begins at `atMs`.
 */
export interface Fault {
  /**
   * The kind of the fault. It is one of these:
   *
   * - the name of a value of {@linkcode SimFaults}, such as `connectionReset`, or `shortWrite`;
   * - a delay: `segmentLate` (bytes of a connection), `packetLate` (a packet without bytes), `answerLate` (a name server),
   *   `timerLate`;
   * - a fault that lasts: `partition`, `hold`, `pause`, `crash`.
   */
  readonly kind: string;
  /**
   * When it happened or began, in milliseconds of virtual time. For a random fault it is only for
   * the reader.
   */
  readonly atMs: number;
  /** The object that it happened to. For the reader only. */
  readonly about?: string | undefined;
  /** For a random fault: the number of its object, which is the same in each run of the seed. */
  readonly who?: number | undefined;
  /** For a random fault: its place. For a connection it is the byte of the stream. */
  readonly at?: number | undefined;
  /** The size: the milliseconds of a delay, otherwise a part from 0 to 1. */
  readonly amount?: number | undefined;
  /** For a fault that lasts: the host, or the two hosts of a link. */
  readonly hosts?: readonly string[] | undefined;
  /** Whether it affects only the direction from the first host to the second. */
  readonly oneWay?: boolean | undefined;
  /** Its duration, in milliseconds. A host that crashed is then started again. */
  readonly forMs?: number | undefined;
}

/**
 * The seed and all faults of one run: enough to repeat it. A plan is data, so it can be kept as a
 * test in the program's repository.
 */
export interface FaultPlan {
  /** The version of this format: 1. */
  readonly version: number;
  /** The seed of the run. It also decides the random numbers of the program. */
  readonly seed: number;
  /**
   * The latency of the network, in milliseconds.
   *
   * @default 1
   */
  readonly latencyMs?: number | undefined;
  /**
   * The time that TCP waits for an answer before it fails, in milliseconds; null for ever.
   *
   * @default 60_000
   */
  readonly tcpTimeoutMs?: number | null | undefined;
  /**
   * The number of bytes that each link carries in a second; null for no limit.
   *
   * @default null
   */
  readonly bandwidth?: number | null | undefined;
  /**
   * Whether segments that arrive together are delivered one by one. It is true if `segmentCut` was not 0.
   *
   * @default false
   */
  readonly segmentsApart?: boolean | undefined;
  /** The faults, in order of time. No others happen, apart from those that the program makes itself. */
  readonly faults: readonly Fault[];
  /** The error of the run. For the reader only. */
  readonly error?: string | undefined;
}

const PLAN_NAMES: Names<FaultPlan> = {
  version: true,
  seed: true,
  latencyMs: true,
  tcpTimeoutMs: true,
  bandwidth: true,
  segmentsApart: true,
  faults: true,
  error: true,
};

const FAULT_FIELDS: Names<Fault> = {
  kind: true,
  atMs: true,
  about: true,
  who: true,
  at: true,
  amount: true,
  hosts: true,
  oneWay: true,
  forMs: true,
};

/** The version of plans that is written and read. */
export const PLAN_VERSION = 1;

/** The kinds of faults that last, and how many hosts each concerns. */
export const LASTING = { partition: 2, hold: 2, pause: 1, crash: 1 } as const;

/** A kind of fault that lasts. */
export type LastingKind = keyof typeof LASTING;

/** Whether a kind is one of those that last. */
export function isLasting(kind: string): kind is LastingKind {
  return Object.hasOwn(LASTING, kind);
}

/** Whether a kind is a delay. */
export function isLate(kind: string): kind is LateKind {
  return Object.hasOwn(LATE_ROLL, kind);
}

/**
 * Reads a plan from a program.
 *
 * @param given The plan
 * @returns A copy of it
 * @throws {TypeError} When it is not a plan
 * @throws {RangeError} When it has another version, or a value is out of range
 */
export function readPlan(given: FaultPlan): FaultPlan {
  const doing = "repeat a plan";
  const plan = readOptions(doing, given, PLAN_NAMES);
  if (plan.version !== PLAN_VERSION) {
    throw new RangeError(`Cannot ${doing}: version is not ${PLAN_VERSION}: received ${show(plan.version)}`);
  }
  number(doing, "seed", plan.seed, -Infinity);
  if (plan.latencyMs !== undefined) number(doing, "latencyMs", plan.latencyMs);
  for (const name of ["tcpTimeoutMs", "bandwidth"] as const) {
    const value = plan[name];
    if (value !== undefined && value !== null) number(doing, name, value);
  }
  return { ...plan, faults: readList(doing, "faults", plan.faults).map((fault, i) => readFault(doing, fault, i)) };
}

function readFault(doing: string, given: Fault, index: number): Fault {
  const within = `faults[${index}]`;
  const fault = readOptions(doing, given, FAULT_FIELDS, within);
  const { kind, amount } = fault;
  number(doing, `${within}.atMs`, fault.atMs);
  if (amount !== undefined) number(doing, `${within}.amount`, amount);
  if (isLasting(kind)) {
    number(doing, `${within}.forMs`, fault.forMs);
    const hosts = readList(doing, `${within}.hosts`, fault.hosts ?? []);
    if (hosts.length === LASTING[kind] && hosts.every((host) => typeof host === "string")) return { ...fault, hosts };
    throw new TypeError(
      `Cannot ${doing}: ${within}.hosts are not ${LASTING[kind]} names of hosts: received ${show(hosts)}`,
    );
  }
  if (!Object.hasOwn(FAULT, kind)) {
    const known = [...Object.keys(FAULT), ...Object.keys(LASTING)].join(", ");
    throw new TypeError(`Cannot ${doing}: ${within}.kind is not one of ${known}: received ${show(kind)}`);
  }
  number(doing, `${within}.who`, fault.who, -Infinity);
  number(doing, `${within}.at`, fault.at, -Infinity);
  return fault;
}

function number(doing: string, name: string, value: unknown, least = 0): void {
  if (typeof value === "number" && Number.isFinite(value) && value >= least) return;
  const text = `Cannot ${doing}: ${name} is not a finite number${least === 0 ? ", 0 or more" : ""}: received ${
    show(value)
  }`;
  throw typeof value === "number" ? new RangeError(text) : new TypeError(text);
}

/** A fault that lasts. Its hosts are chosen when it begins. */
export interface Coming {
  readonly kind: LastingKind;
  readonly atMs: number;
  readonly forMs: number;
  readonly oneWay: boolean;
  /** The choice of its hosts, a number from 0 to 1 for each. */
  readonly picks: readonly [number, number];
}

/** The hosts that may be chosen: those with these names, or all. */
export type Candidates = readonly string[] | undefined;

/** A fault that {@linkcode FaultPlayer} begins or ends at a time. */
interface Change {
  readonly timeMs: number;
  /** The fault that it ends. */
  readonly ends?: LastingKind | undefined;
  readonly run: () => void;
}

/**
 * Carries out the faults of one run, and keeps a list of those that happened.
 *
 * Without a plan, random numbers decide. With a plan, only its faults happen.
 */
export class FaultPlayer implements Judge {
  /** The faults that have happened, in order. */
  readonly happened: Fault[] = [];
  readonly #network: Network;
  /** The planned random faults: by kind, by object, by place. Undefined without a plan. */
  readonly #planned: Map<string, Map<number, Map<number, Fault>>> | undefined;
  /** The same for faults that have happened, so that each is listed once. */
  readonly #seen: Map<string, Map<number, Map<number, Fault>>> = new Map();
  #changes: Change[] = [];

  /**
   * Takes control of a network's faults.
   *
   * @param network The network
   * @param plan The planned faults; undefined if random numbers decide
   */
  constructor(network: Network, plan: readonly Fault[] | undefined) {
    this.#network = network;
    network.scheduler.onAlarm = () => this.#onAlarm();
    if (plan === undefined) return;
    this.#planned = new Map();
    for (const fault of plan) {
      if (isLasting(fault.kind)) this.#add(fault.atMs, undefined, () => this.#begin(fault.kind as LastingKind, fault));
      else put(this.#planned, fault);
    }
  }

  /**
   * Makes the network ask this player about each fault. Not needed if random numbers decide and the
   * list is not used.
   */
  judge(): void {
    this.#network.judge = this;
  }

  /**
   * Plans a fault that lasts.
   *
   * @param coming The fault
   * @param candidates The hosts that it may affect
   */
  expect(coming: Coming, candidates: Candidates): void {
    this.#add(coming.atMs, undefined, () => {
      const hosts = this.#choose(coming, candidates);
      if (hosts !== undefined) this.#begin(coming.kind, { ...coming, hosts: hosts.map((host) => host.label) });
    });
  }

  happens(kind: FaultKind, who: number, at: number, rolled: boolean, about: Named): boolean {
    const planned = find(this.#planned, kind, who, at);
    const happens = this.#planned === undefined ? rolled : planned !== undefined;
    if (happens) this.#write(kind, who, at, planned?.amount, about);
    return happens;
  }

  amount(kind: FaultKind, who: number, at: number, rolled: number, about: Named): number {
    const planned = find(this.#planned, kind, who, at);
    // A size is asked only for a fault that happens.
    if (!isLate(kind)) return planned?.amount ?? rolled;
    const ms = this.#planned === undefined ? rolled : planned?.amount ?? 0;
    if (ms > 0) this.#write(kind, who, at, ms, about);
    return ms;
  }

  /**
   * Ends all faults that last, and begins no others. A host that crashed stays down, because its
   * program would begin new work.
   */
  finish(): void {
    const changes = this.#changes;
    this.#changes = [];
    this.#arm();
    for (const { ends, run } of changes) {
      if (ends !== undefined && ends !== "crash") run();
    }
  }

  #write(kind: FaultKind, who: number, at: number, amount: number | undefined, about: Named): void {
    if (find(this.#seen, kind, who, at) !== undefined) return;
    const fault: Fault = {
      kind,
      atMs: this.#network.scheduler.now,
      about: about.label,
      who,
      at,
      ...(amount === undefined ? {} : { amount }),
    };
    put(this.#seen, fault);
    this.happened.push(fault);
  }

  #choose({ kind, picks }: Coming, candidates: Candidates): SimHostRuntime[] | undefined {
    const { hosts } = this.#network;
    const possible = hosts.filter((host) =>
      !host.down && (candidates?.includes(host.label) ?? (kind !== "crash" || host.onRestart !== undefined))
    );
    const first = possible[Math.floor(picks[0] * possible.length)];
    if (first === undefined) return undefined;
    if (LASTING[kind] === 1) return [first];
    const others = possible.filter((host) => host !== first);
    return [first, others[Math.floor(picks[1] * others.length)] ?? first];
  }

  #begin(kind: LastingKind, fault: Pick<Fault, "hosts" | "oneWay" | "forMs">): void {
    const network = this.#network;
    const hosts = (fault.hosts ?? []).map((label) => network.hosts.find((host) => host.label === label));
    const [first, second] = hosts;
    // The program has not named the host in this run.
    if (first === undefined || hosts.includes(undefined)) return;
    const { now } = network.scheduler;
    const { forMs = 0, oneWay = false } = fault;
    const names = hosts.map((host) => host?.label ?? "");
    const about = names.join(oneWay ? " > " : LASTING[kind] === 2 ? " and " : "");
    this.happened.push({ kind, atMs: now, about, hosts: names, ...(oneWay ? { oneWay } : {}), forMs });
    let end: (() => void) | undefined;
    if (kind === "pause") first.pause(forMs);
    else if (kind === "crash") {
      if (first.down) return;
      first.crash();
      end = () => {
        if (first.down) first.restart();
      };
    } else {
      const links = this.#links(first, second ?? first, oneWay);
      if (kind === "partition") {
        links.partition();
        end = () => links.heal();
      } else {
        links.hold();
        end = () => links.release();
      }
    }
    if (end !== undefined) this.#add(now + forMs, kind, end);
  }

  #links(from: SimHostRuntime, to: SimHostRuntime, oneWay: boolean): ReturnType<typeof simLink> {
    const links: Link[] = [this.#network.linkTo(from, to)];
    if (!oneWay && from !== to) links.push(this.#network.linkTo(to, from));
    return simLink(this.#network, links);
  }

  #add(timeMs: number, ends: LastingKind | undefined, run: () => void): void {
    const change = { timeMs, ends, run };
    const index = this.#changes.findIndex((other) => other.timeMs > timeMs);
    if (index < 0) this.#changes.push(change);
    else this.#changes.splice(index, 0, change);
    this.#arm();
  }

  #arm(): void {
    const { scheduler } = this.#network;
    scheduler.alarmMs = this.#changes[0]?.timeMs ?? Infinity;
    // The end of a fault can settle a promise that waits; its beginning cannot.
    scheduler.alarmCounts = this.#changes.some((change) => change.ends !== undefined);
  }

  #onAlarm(): void {
    const change = this.#changes.shift();
    this.#arm();
    change?.run();
  }
}

/**
 * Makes a network repeat a plan.
 *
 * @param network The network, still without hosts and connections
 * @param plan The plan, checked
 * @returns The player that carries it out
 */
export function follow(network: Network, plan: FaultPlan): FaultPlayer {
  const { seed, latencyMs, tcpTimeoutMs, bandwidth, segmentsApart, faults } = plan;
  network.reseed(seed);
  for (const name of Object.keys(FAULT_NAMES) as FaultName[]) {
    network.faults[name] = name === "bandwidth" ? Infinity : 0;
  }
  network.faults.latencyMs = latencyMs ?? 1;
  if (bandwidth !== undefined && bandwidth !== null) network.faults.bandwidth = bandwidth;
  // The plan decides where segments are cut. This prevents that they are joined again.
  if (segmentsApart === true) network.faults.segmentCut = 1;
  network.tcpTimeoutMs = tcpTimeoutMs === null ? Infinity : tcpTimeoutMs ?? 60_000;
  const player = new FaultPlayer(network, faults);
  player.judge();
  return player;
}

type Table = Map<string, Map<number, Map<number, Fault>>>;

function find(table: Table | undefined, kind: string, who: number, at: number): Fault | undefined {
  return table?.get(kind)?.get(who)?.get(at);
}

function put(table: Table, fault: Fault): void {
  const { kind, who = 0, at = 0 } = fault;
  let ofKind = table.get(kind);
  if (ofKind === undefined) table.set(kind, ofKind = new Map());
  let whose = ofKind.get(who);
  if (whose === undefined) ofKind.set(who, whose = new Map());
  whose.set(at, fault);
}
