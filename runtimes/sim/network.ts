/**
 * One simulated network: its hosts, its clock, and what happens to what is sent over it.
 *
 * @module
 */

import { show } from "../../core/checks.ts";
import { type Ip, isLoopback, isWildcard, parseIp } from "./addresses.ts";
import { SimHostRuntime } from "./host.ts";
import { Random } from "./random.ts";
import { type Scheduled, Scheduler } from "./scheduler.ts";

/** What a network is made from; every value is there. */
export interface NetworkOptions {
  /** Where the dice begin. */
  readonly seed: number;
  /** How long everything is on its way. */
  readonly latencyMs: number;
  /** How many callbacks one `advance()` or `run()` may run. */
  readonly maxSteps: number;
  /** What goes wrong. */
  readonly faults: Readonly<Faults>;
}

/** What goes wrong, each with its probability from 0 to 1. */
export interface Faults {
  /** The longest time that is added to a latency. */
  jitterMs: number;
  /** An attempt to connect is refused. */
  connectRefused: number;
  /** A connection is reset, for each segment that is sent. */
  connectionReset: number;
  /** A segment is cut in two, and not joined with another at its arrival. */
  segmentCut: number;
  /** A datagram is lost. */
  datagramLost: number;
}

/** One simulated network. */
export class Network {
  /** Its time. */
  readonly scheduler: Scheduler;
  /** The host `127.0.0.1`. */
  readonly main: SimHostRuntime;
  readonly #options: NetworkOptions;
  readonly #random: Random;
  readonly #byAddress: Map<string, SimHostRuntime> = new Map();
  readonly #byName: Map<string, SimHostRuntime> = new Map();

  /**
   * Makes a network with one host.
   *
   * @param options Seed, latency and faults
   * @param makeMain Makes the host `127.0.0.1`
   */
  constructor(options: NetworkOptions, makeMain: (network: Network, addresses: readonly string[]) => SimHostRuntime) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.scheduler = new Scheduler(options.maxSteps);
    this.main = makeMain(this, ["10.0.0.1", "fd00::1"]);
    for (const address of this.main.addresses) this.#byAddress.set(address, this.main);
  }

  /** Whether what arrives at the same time is given as one chunk. */
  get joinsSegments(): boolean {
    return this.#options.faults.segmentCut === 0;
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
      return this.#byAddress.get(ip.hostname) ?? this.#addHost([ip.hostname]);
    }
    const key = name.toLowerCase();
    if (key === "localhost") return this.main;
    let host = this.#byName.get(key);
    if (host === undefined) {
      host = this.#addHost(this.#freeAddresses());
      this.#byName.set(key, host);
    }
    return host;
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

  /** @returns When what is sent now arrives */
  arrival(): number {
    const { latencyMs, faults } = this.#options;
    const jitterMs = faults.jitterMs > 0 ? this.#random.next() * faults.jitterMs : 0;
    return this.scheduler.now + latencyMs + jitterMs;
  }

  /**
   * Calls a function one latency later.
   *
   * @param fn What arrives
   * @returns What the scheduler's `cancel()` takes
   */
  after(fn: () => void): Scheduled {
    return this.scheduler.at(this.arrival(), fn);
  }

  /**
   * Calls a function in this instant, after the present callback.
   *
   * @param fn What to call
   */
  soon(fn: () => void): void {
    this.scheduler.at(this.scheduler.now, fn);
  }

  /**
   * Says how long the next segment is.
   *
   * @param bytes How long it can be
   * @returns That, or less where the fault says so
   */
  segmentLength(bytes: number): number {
    if (bytes < 2 || !this.#random.chance(this.#options.faults.segmentCut)) return bytes;
    return 1 + Math.floor(this.#random.next() * (bytes - 1));
  }

  /** @returns Whether this attempt to connect is refused by a fault */
  refusesConnection(): boolean {
    return this.#random.chance(this.#options.faults.connectRefused);
  }

  /** @returns Whether the connection is reset by a fault */
  cutsConnection(): boolean {
    return this.#random.chance(this.#options.faults.connectionReset);
  }

  /** @returns Whether this datagram is lost by a fault */
  losesDatagram(): boolean {
    return this.#random.chance(this.#options.faults.datagramLost);
  }

  #addHost(addresses: readonly string[]): SimHostRuntime {
    const host = new SimHostRuntime(this, addresses);
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
