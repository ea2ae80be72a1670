/**
 * One simulated network: its hosts, the links between them, its clock, and what happens to what is sent over it.
 *
 * @module
 */

import { show } from "../../core/checks.ts";
import { type Ip, isLoopback, isWildcard, parseIp } from "./addresses.ts";
import type { Capture } from "./capture.ts";
import { defineRates, FAULT, type FaultKind, LATE_ROLL, type LateKind, type Rates, type SimFaults } from "./faults.ts";
import { SimHostRuntime } from "./host.ts";
import { Journal, type Named, NOTE, type NoteKind } from "./journal.ts";
import { Link } from "./link.ts";
import { mix, roll } from "./random.ts";
import { type Scheduled, Scheduler } from "./scheduler.ts";

/** What a network is made from; every value is there. */
export interface NetworkOptions {
  /** Where the dice begin. */
  readonly seed: number;
  /** How many callbacks one `advance()` or `run()` may run. */
  readonly maxSteps: number;
  /** After how much silence TCP gives up. */
  readonly tcpTimeoutMs: number;
  /** What every link has that has nothing of its own. */
  readonly rates: Rates;
}

/** What a program does to the network, with the number that is in the hash. */
const EVENT = {
  partition: 20,
  heal: 21,
  hold: 22,
  release: 23,
  resetAfter: 24,
  endAfter: 25,
  crash: 26,
  restart: 27,
  pause: 28,
  acceptError: 29,
  lookupError: 30,
  fileError: 31,
  queueFull: 32,
} as const;

/**
 * Decides about faults in place of the dice: so a run can be repeated with some of its faults only.
 *
 * A fault is known by its kind, by whose it is and by its place there. The three are the same in each run of a program
 * with the same seed, whatever other faults happen, as long as the program does the same.
 */
export interface Judge {
  /**
   * Decides whether a fault happens.
   *
   * @param kind Its kind
   * @param who The seed of the dice of the connection and direction, or of the socket or host
   * @param at Where in the stream it is, or which datagram or attempt
   * @param rolled What the dice say
   * @param about What it happens to
   * @returns Whether it happens
   */
  happens(kind: FaultKind, who: number, at: number, rolled: boolean, about: Named): boolean;
  /**
   * Decides how much of a fault happens: by how many milliseconds something is late, or which part is cut off.
   *
   * @param kind Its kind
   * @param who The seed of the dice
   * @param at Its place among these dice
   * @param rolled What the dice say
   * @param about What it happens to
   * @returns The amount
   */
  amount(kind: FaultKind, who: number, at: number, rolled: number, about: Named): number;
}

/** One simulated network. */
export class Network {
  /** Its time. */
  readonly scheduler: Scheduler;
  /** What has happened. */
  readonly journal: Journal = new Journal();
  /** The host `127.0.0.1`. */
  readonly main: SimHostRuntime;
  /** All hosts, in the order in which they were named. */
  readonly hosts: SimHostRuntime[] = [];
  /** The seed of all dice. */
  seed: number;
  /** After how much silence TCP gives up. */
  tcpTimeoutMs: number;
  /** What every link has that has nothing of its own. */
  readonly rates: Rates;
  /** What every new host has at first. */
  readonly hostFaults: { shortWrites: number; timerLateMs: number } = { shortWrites: 0, timerLateMs: 0 };
  /** The same, for the program to change. */
  readonly faults: SimFaults = {};
  /** Who keeps what goes over the wire; undefined where nobody wants it. */
  capture: Capture | undefined;
  /** Counts the changes of `rates`. */
  version = 0;
  #judge: Judge | undefined;
  readonly #byAddress: Map<string, SimHostRuntime> = new Map();
  readonly #byName: Map<string, SimHostRuntime> = new Map();
  #ids = 0;

  /**
   * Makes a network with one host.
   *
   * @param options Seed, timeouts and faults
   * @param makeMain Makes the host `127.0.0.1`
   */
  constructor(
    { seed, maxSteps, tcpTimeoutMs, rates }: NetworkOptions,
    makeMain: (network: Network, addresses: readonly string[]) => SimHostRuntime,
  ) {
    this.seed = mix(0x5eed, seed);
    this.tcpTimeoutMs = tcpTimeoutMs;
    this.rates = rates;
    defineRates(this.faults, "set the faults of all links", (name) => rates[name], (name, value) => {
      if (value === undefined) return;
      rates[name] = value;
      this.version++;
      this.scheduler.laneMs = rates.latencyMs;
    });
    this.scheduler = new Scheduler(maxSteps);
    this.scheduler.laneMs = rates.latencyMs;
    this.scheduler.onTimer = (host): void => this.note(NOTE.timer, host, 0);
    this.main = makeMain(this, ["10.0.0.1", "fd00::1"]);
    this.hosts.push(this.main);
    for (const address of this.main.addresses) this.#byAddress.set(address, this.main);
  }

  /** Decides about faults in place of the dice. */
  get judge(): Judge | undefined {
    return this.#judge;
  }

  set judge(judge: Judge | undefined) {
    this.#judge = judge;
    this.version++;
  }

  /** @returns A number that nothing else of this network has */
  nextId(): number {
    return ++this.#ids;
  }

  /** Whether nothing has happened in it, and nothing was made. */
  get isNew(): boolean {
    return this.#ids === 1 && this.scheduler.now === 0 && this.scheduler.pending === 0;
  }

  /**
   * Begins all dice anew. Only where nothing has been made yet.
   *
   * @param seed The seed
   */
  reseed(seed: number): void {
    this.seed = mix(0x5eed, seed);
    this.main.reseed();
  }

  /**
   * Gives a host, and makes it when it is named for the first time.
   *
   * @param name A host name, or a numeric address that the host gets
   * @returns The host
   */
  host(name: string): SimHostRuntime {
    if (typeof name !== "string") {
      throw new TypeError(`Cannot give a host: the name is not a string: received ${show(name)}`);
    }
    if (name === "") throw new RangeError("Cannot give a host: the name is empty");
    const ip = parseIp(name);
    if (ip !== undefined) {
      if (isLoopback(ip) || isWildcard(ip)) return this.main;
      return this.#byAddress.get(ip.hostname) ?? this.#addHost(ip.hostname, [ip.hostname]);
    }
    const key = name.toLowerCase();
    if (key === "localhost") return this.main;
    let host = this.#byName.get(key);
    if (host === undefined) {
      host = this.#addHost(key, this.#freeAddresses());
      this.#byName.set(key, host);
    }
    return host;
  }

  /**
   * Gives the way from one host to another.
   *
   * @param from Who sends
   * @param to Who receives
   * @returns The link, always the same
   */
  linkTo(from: SimHostRuntime, to: SimHostRuntime): Link {
    let link = from.links.get(to);
    if (link === undefined) from.links.set(to, link = new Link(this, from, to));
    return link;
  }

  /**
   * Finds the host that a name was given to.
   *
   * @param name The name
   * @returns The host, or undefined
   */
  named(name: string): SimHostRuntime | undefined {
    return this.#byName.get(name.toLowerCase());
  }

  /**
   * Finds the host that an address means, seen from a host. A loopback address is that host itself where it has bound
   * the port, and else the main host: so `127.0.0.1` reaches the main host from everywhere.
   *
   * @param from Who sends
   * @param ip Where to
   * @param isBound Tells whether a host has bound the address and port
   * @returns The host, or undefined when there is none
   */
  route(from: SimHostRuntime, ip: Ip, isBound: (host: SimHostRuntime) => boolean): SimHostRuntime | undefined {
    if (!isLoopback(ip)) return this.#byAddress.get(ip.hostname);
    return isBound(from) ? from : this.main;
  }

  /**
   * Calls a function one latency later, whatever links there are: an answer of a name server.
   *
   * @param fn What arrives
   * @param host Who hears of it
   * @param delayMs How much later still
   * @returns What the scheduler's `cancel()` takes
   */
  after(fn: () => void, host: SimHostRuntime, who: number, at: number, delayMs: number): Scheduled {
    const { latencyMs, jitterMs } = this.rates;
    const late = this.lateness("answerLate", jitterMs, host, who, at);
    return this.scheduler.at(this.scheduler.now + latencyMs + late + delayMs, fn, host.program);
  }

  /**
   * Decides whether a fault happens, and notes it.
   *
   * @param kind Its kind
   * @param probability How probable it is
   * @param about What it happens to
   * @param who The seed of the dice
   * @param at Its place among these dice
   * @returns Whether it happens
   */
  happens(kind: FaultKind, probability: number, about: Named, who: number, at: number): boolean {
    if (probability === 0 && this.#judge === undefined) return false;
    const rolled = probability > 0 && roll(who, FAULT[kind], at) < probability;
    const happens = this.#judge === undefined ? rolled : this.#judge.happens(kind, who, at, rolled, about);
    if (happens) this.note(NOTE.fault, about, FAULT[kind], kind);
    return happens;
  }

  /**
   * Says how much of a fault happens: which part is cut off, which bit is flipped.
   *
   * @param kind Its kind
   * @param rolled What the dice say, 0 or more, less than 1
   * @param about What it happens to
   * @param who The seed of the dice
   * @param at Its place among these dice
   * @returns The amount, 0 or more, less than 1
   */
  amount(kind: FaultKind, rolled: number, about: Named, who: number, at: number): number {
    return this.#judge === undefined ? rolled : this.#judge.amount(kind, who, at, rolled, about);
  }

  /**
   * Says how late something is.
   *
   * @param kind What
   * @param longestMs How late at most
   * @param about What it happens to
   * @param who The seed of the dice
   * @param at Its place among these dice
   * @returns How late, in milliseconds
   */
  lateness(kind: LateKind, longestMs: number, about: Named, who: number, at: number): number {
    const rolled = longestMs === 0 ? 0 : roll(who, LATE_ROLL[kind], at) * longestMs;
    return this.#judge === undefined ? rolled : this.#judge.amount(kind, who, at, rolled, about);
  }

  /**
   * Notes that something happened now.
   *
   * @param kind What
   * @param about To whom
   * @param count How many bytes, or what else there is to count
   * @param detail More for the line
   */
  note(kind: NoteKind, about: Named, count: number, detail?: string): void {
    this.journal.note(kind, this.scheduler.now, about, count, detail);
  }

  /**
   * Notes what a program has done to the network, or a fault that it has asked for.
   *
   * @param event What
   * @param about To whom
   * @param detail More for the line
   */
  noteEvent(event: keyof typeof EVENT, about: Named, detail?: string): void {
    this.note(NOTE.fault, about, EVENT[event], detail === undefined ? event : `${event} ${detail}`);
  }

  #addHost(name: string, addresses: readonly string[]): SimHostRuntime {
    const host = new SimHostRuntime(this, name, addresses);
    Object.assign(host, this.hostFaults);
    this.hosts.push(host);
    for (const address of addresses) this.#byAddress.set(address, host);
    return host;
  }

  #freeAddresses(): string[] {
    for (let number = this.#byName.size + 2;; number++) {
      const ipv4 = `10.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
      const ipv6 = `fd00::${number.toString(16)}`;
      if (!this.#byAddress.has(ipv4) && !this.#byAddress.has(ipv6)) return [ipv4, ipv6];
    }
  }
}
