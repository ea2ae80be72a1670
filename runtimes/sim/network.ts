/**
 * One simulated network: its hosts, the links between them, its clock and its faults.
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

/** The options of a network, none of them undefined. */
export interface NetworkOptions {
  /** The seed of the random numbers. */
  readonly seed: number;
  /** The largest number of callbacks of one `advance()` or `run()`. */
  readonly maxSteps: number;
  /** The silence after which TCP gives up. */
  readonly tcpTimeoutMs: number;
  /** The values of links without their own. */
  readonly rates: Rates;
}

/** The changes that a program can make, each with its number in the hash. */
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
 * Decides about faults in place of the random numbers, so that a run can be repeated with only some of its faults.
 *
 * A fault is identified by its kind, its owner and its place there. The three are the same in each run of a program
 * with the same seed, whatever other faults happen, as long as the program does the same.
 */
export interface Judge {
  /**
   * Decides whether a fault happens.
   *
   * @param kind Its kind
   * @param who The seed of the random numbers: of a connection and direction, a socket or a host
   * @param at Its position in the stream, or the number of the datagram or attempt
   * @param rolled The random number
   * @param about The subject of the fault
   * @returns Whether it happens
   */
  happens(kind: FaultKind, who: number, at: number, rolled: boolean, about: Named): boolean;
  /**
   * Decides the size of a fault: the delay in milliseconds, or the part that is cut off.
   *
   * @param kind Its kind
   * @param who The seed of the random numbers
   * @param at Its place among these random numbers
   * @param rolled The random number
   * @param about The subject of the fault
   * @returns The amount
   */
  amount(kind: FaultKind, who: number, at: number, rolled: number, about: Named): number;
}

/** One simulated network. */
export class Network {
  /** Its time. */
  readonly scheduler: Scheduler;
  /** The record of all events. */
  readonly journal: Journal = new Journal();
  /** The host `127.0.0.1`. */
  readonly main: SimHostRuntime;
  /** All hosts, in the order in which they were named. */
  readonly hosts: SimHostRuntime[] = [];
  /** The seed of all random numbers. */
  seed: number;
  /** The silence after which TCP gives up. */
  tcpTimeoutMs: number;
  /** The values of links without their own. */
  readonly rates: Rates;
  /** The values of a new host. */
  readonly hostFaults: { shortWrites: number; timerLateMs: number } = { shortWrites: 0, timerLateMs: 0 };
  /** The same, for the program to change. */
  readonly faults: SimFaults = {};
  /** The capture of all packets; undefined if it is off. */
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

  /** Decides about faults in place of the random numbers. */
  get judge(): Judge | undefined {
    return this.#judge;
  }

  set judge(judge: Judge | undefined) {
    this.#judge = judge;
    this.version++;
  }

  /** @returns A number that is unique in this network */
  nextId(): number {
    return ++this.#ids;
  }

  /** Whether it is unused: without events and without objects. */
  get isNew(): boolean {
    return this.#ids === 1 && this.scheduler.now === 0 && this.scheduler.pending === 0;
  }

  /**
   * Restarts all random numbers. Call it only on an unused network.
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
   * Gives the link from one host to another.
   *
   * @param from The sender
   * @param to The receiver
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
   * Finds the host of an address, seen from a host. A loopback address is that host itself if it
   * has bound the port, otherwise the main host: so `127.0.0.1` reaches the main host from
   * everywhere.
   *
   * @param from The sender
   * @param ip The address
   * @param isBound Tells whether a host has bound the address and port
   * @returns The host; undefined if there is none
   */
  route(from: SimHostRuntime, ip: Ip, isBound: (host: SimHostRuntime) => boolean): SimHostRuntime | undefined {
    if (!isLoopback(ip)) return this.#byAddress.get(ip.hostname);
    return isBound(from) ? from : this.main;
  }

  /**
   * Calls a function one latency later, whatever the links are. Used for the answers of name servers.
   *
   * @param fn The function
   * @param host The host whose program it is
   * @param delayMs A further delay
   * @returns The entry, for the scheduler's `cancel()`
   */
  after(fn: () => void, host: SimHostRuntime, who: number, at: number, delayMs: number): Scheduled {
    const { latencyMs, jitterMs } = this.rates;
    const late = this.lateness("answerLate", jitterMs, host, who, at);
    return this.scheduler.at(this.scheduler.now + latencyMs + late + delayMs, fn, host.program);
  }

  /**
   * Decides whether a fault happens, and records it.
   *
   * @param kind Its kind
   * @param probability Its probability
   * @param about The subject of the fault
   * @param who The seed of the random numbers
   * @param at Its place among these random numbers
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
   * Returns the amount of a fault: the part that is cut off, or the bit that is flipped.
   *
   * @param kind Its kind
   * @param rolled The random number, 0 or more, less than 1
   * @param about The subject of the fault
   * @param who The seed of the random numbers
   * @param at Its place among these random numbers
   * @returns The amount, 0 or more, less than 1
   */
  amount(kind: FaultKind, rolled: number, about: Named, who: number, at: number): number {
    return this.#judge === undefined ? rolled : this.#judge.amount(kind, who, at, rolled, about);
  }

  /**
   * Returns a random delay.
   *
   * @param kind The kind
   * @param longestMs The longest delay
   * @param about The subject of the fault
   * @param who The seed of the random numbers
   * @param at Its place among these random numbers
   * @returns The delay, in milliseconds
   */
  lateness(kind: LateKind, longestMs: number, about: Named, who: number, at: number): number {
    const rolled = longestMs === 0 ? 0 : roll(who, LATE_ROLL[kind], at) * longestMs;
    return this.#judge === undefined ? rolled : this.#judge.amount(kind, who, at, rolled, about);
  }

  /**
   * Records an event of the present time.
   *
   * @param kind The kind
   * @param about The subject
   * @param count The number of bytes, or another count
   * @param detail More for the line
   */
  note(kind: NoteKind, about: Named, count: number, detail?: string): void {
    this.journal.note(kind, this.scheduler.now, about, count, detail);
  }

  /**
   * Records a change of the network by a program, or a fault that it has requested.
   *
   * @param event The event
   * @param about The subject
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
