/**
 * The link from one host of a simulated network to another: its delays and its faults.
 *
 * @module
 */

import { checkCount } from "../../core/checks.ts";
import type { SimConnection } from "./connection.ts";
import { defineRates, type FaultName, type LateKind, type Rates, type SimFaults } from "./faults.ts";
import type { SimHostRuntime } from "./host.ts";
import type { Named } from "./journal.ts";
import type { Network } from "./network.ts";
import type { Program, Scheduled, Task } from "./scheduler.ts";

/** The longest segment. */
export const SEGMENT_BYTES = 16_384;
/** The longest segment if the bandwidth is limited: that of Ethernet. */
const SHAPED_SEGMENT_BYTES = 1460;
/** The number of bytes that may wait for a line of limited bandwidth. */
const LINE_QUEUE_BYTES = 65_536;

/** A packet on its way that has neither bytes of a stream nor its end. */
interface Packet {
  readonly fn: (() => void) | Task;
  readonly what: number;
  readonly program: Program | undefined;
  readonly who: number;
  readonly at: number;
  /** Puts it into the capture. */
  readonly show: (() => void) | undefined;
}

/** One direction between two hosts. */
export class Link implements Task, Named {
  readonly id: number;
  readonly from: SimHostRuntime;
  readonly to: SimHostRuntime;
  /** Whether sent packets are lost. */
  cut = false;
  /** Whether sent packets are held. */
  held = false;
  /** The number of bytes after which a connection is broken; Infinity for never. */
  breakAfter: number = Infinity;
  /** Whether it then ends by a FIN, in place of a reset. */
  breakEnds = false;
  /**
   * The number of the last call of `resetAfter()` or `endAfter()`: each connection counts from that
   * call on.
   */
  breakEpoch = 0;
  /** Whether no fault is possible and there is no limit, which is the usual case. */
  plain = false;
  /** Whether the bandwidth is limited. */
  shaped = false;
  /** Whether segments that have arrived are delivered together. */
  joins = true;
  /** The longest segment. */
  segmentBytes: number = SEGMENT_BYTES;
  readonly #network: Network;
  readonly #own: Partial<Rates> = {};
  #rates: Rates;
  #version = -1;
  /** The latency, if all packets have the same; otherwise NaN. */
  steadyMs: number = NaN;
  #clear = false;
  /** The time when the line has sent all waiting packets. */
  #freeAt = 0;
  /** The segments that TCP sends again after a partition. */
  #lost: Packet[] = [];
  #kept: Packet[] = [];
  /** Connections that wait for the line. */
  readonly #waiting: Set<SimConnection> = new Set();
  #serving = false;
  #armed = false;

  /**
   * Makes the link from one host to another.
   *
   * @param network Their network
   * @param from The sender
   * @param to The receiver
   */
  constructor(network: Network, from: SimHostRuntime, to: SimHostRuntime) {
    this.id = network.nextId();
    this.#network = network;
    this.from = from;
    this.to = to;
    this.#rates = network.rates;
  }

  get label(): string {
    return `${this.from.label} > ${this.to.label}`;
  }

  /** The current values. */
  get rates(): Readonly<Rates> {
    if (this.#version !== this.#network.version) this.#refresh();
    return this.#rates;
  }

  /**
   * Updates the fields that depend on the values. Call it before you read `plain` and similar
   * fields.
   */
  fresh(): void {
    if (this.#version !== this.#network.version) this.#refresh();
  }

  /** Whether packets arrive unchanged after `steadyMs`, and no fault is possible. */
  get clear(): boolean {
    if (this.#version !== this.#network.version) this.#refresh();
    return this.#clear && !this.held && !this.cut;
  }

  #refresh(): void {
    this.#version = this.#network.version;
    const rates = this.#rates = { ...this.#network.rates, ...this.#own };
    const shaped = this.shaped = rates.bandwidth !== Infinity;
    this.segmentBytes = shaped ? SHAPED_SEGMENT_BYTES : SEGMENT_BYTES;
    this.joins = rates.segmentCut === 0;
    this.plain = this.joins && rates.connectionReset === 0 && !shaped && this.breakAfter === Infinity &&
      this.#network.judge === undefined;
    const steady = rates.jitterMs === 0 && !shaped && this.#network.judge === undefined;
    this.steadyMs = steady ? rates.latencyMs : NaN;
    this.#clear = this.plain && steady;
  }

  /**
   * Sets a value of this link.
   *
   * @param name Its name
   * @param value The value; undefined for that of all links
   */
  set(name: FaultName, value: number | undefined): void {
    if (value === undefined) delete this.#own[name];
    else this.#own[name] = value;
    this.#version = -1;
    if (name === "bandwidth") this.#serve();
  }

  /** Whether the line's queue takes more bytes. */
  get hasRoom(): boolean {
    const { bandwidth } = this.rates;
    if (bandwidth === Infinity) return true;
    return (this.#freeAt - this.#network.scheduler.now) * bandwidth / 1000 < LINE_QUEUE_BYTES;
  }

  /**
   * Lets a connection send one segment at a time, in turn with the others, while the line's queue has space.
   *
   * @param connection The connection
   */
  wait(connection: SimConnection): void {
    this.#waiting.add(connection);
    this.#serve();
  }

  run(_what: number): void {
    this.#network.scheduler.quiet = true;
    this.#armed = false;
    this.#serve();
  }

  #serve(): void {
    if (this.#serving) return;
    this.#serving = true;
    for (const connection of this.#waiting) {
      if (!this.hasRoom) break;
      this.#waiting.delete(connection);
      // After those that wait already.
      if (connection.onLine()) this.#waiting.add(connection);
    }
    this.#serving = false;
    if (this.#waiting.size === 0 || this.#armed || this.hasRoom) return;
    this.#armed = true;
    // When half of the queue is empty.
    const { scheduler } = this.#network;
    const half = LINE_QUEUE_BYTES / 2 / this.rates.bandwidth * 1000;
    scheduler.taskAt(Math.max(scheduler.now, this.#freeAt - half), this, 0);
  }

  /**
   * Returns when a packet that is sent now arrives, and occupies the line for it.
   *
   * @param bytes Its length
   * @param who The seed of its random numbers
   * @param at Its place among these numbers
   * @param kind The kind of the delay
   * @returns The time; Infinity while the link is held
   */
  arrival(bytes: number, who: number, at: number, kind: LateKind = "segmentLate"): number {
    this.fresh();
    const steady = this.#network.scheduler.now + this.steadyMs;
    if (steady >= 0 && !this.held) return steady;
    const { latencyMs, jitterMs, bandwidth } = this.#rates;
    let time = this.#network.scheduler.now;
    if (bandwidth !== Infinity && bytes > 0) {
      time = Math.max(time, this.#freeAt) + bytes / bandwidth * 1000;
      this.#freeAt = time;
    }
    if (this.held) return Infinity;
    return time + latencyMs + this.#network.lateness(kind, jitterMs, this, who, at);
  }

  /**
   * Sends a packet that is not part of a stream: of a handshake, a window update, a reset, a datagram.
   *
   * @param fn The function or task for its arrival
   * @param what The argument of the task
   * @param who The seed of its random numbers
   * @param at Its place among these numbers
   * @param again Whether TCP sends it again when it was lost in a partition
   * @param program The program that gets it; undefined for the system of the host
   * @param show Puts it into the capture, each time that it is sent
   * @returns A handle to cancel it; undefined if it is not on its way
   */
  carry(
    fn: (() => void) | Task,
    what: number,
    who: number,
    at: number,
    again: boolean,
    program?: Program,
    show?: () => void,
  ): Scheduled | undefined {
    const packet = { fn, what, program, who, at, show };
    show?.();
    if (this.cut) {
      if (again) this.#lost.push(packet);
      return undefined;
    }
    if (this.held) {
      this.#kept.push(packet);
      return undefined;
    }
    return this.#deliver(packet);
  }

  #deliver({ fn, what, program, who, at }: Packet): Scheduled {
    const time = this.arrival(0, who, at, "packetLate");
    const { scheduler } = this.#network;
    return typeof fn === "function" ? scheduler.at(time, fn, program) : scheduler.taskAt(time, fn, what, program);
  }

  /** Loses all packets from now on. */
  partition(): void {
    if (this.cut) return;
    this.cut = true;
    for (const connection of this.from.connections) connection.onCut(this);
    for (const connection of this.to.connections) connection.onCut(this);
  }

  /** Loses nothing from now on. TCP sends lost segments again. */
  heal(): void {
    if (!this.cut) return;
    this.cut = false;
    for (const packet of this.#lost.splice(0)) {
      this.carry(packet.fn, packet.what, packet.who, packet.at, true, packet.program, packet.show);
    }
    for (const connection of this.from.connections) connection.onHealed(this);
    for (const connection of this.to.connections) connection.onHealed(this);
  }

  /** Holds all packets from now on. */
  hold(): void {
    this.held = true;
  }

  /** Delivers the held packets, in order, as if they were sent now. */
  release(): void {
    if (!this.held) return;
    this.held = false;
    for (const connection of this.to.connections) connection.onReleased(this);
    for (const packet of this.#kept.splice(0)) this.#deliver(packet);
  }

  /** Breaks each connection after this number of further bytes. */
  breakOff(bytes: number, ends: boolean): void {
    this.breakAfter = bytes;
    this.breakEnds = ends;
    this.breakEpoch++;
    this.#version = -1;
  }
}

/**
 * The link between two hosts, in one direction or in both. Its values (see {@linkcode SimFaults}) can be set at any time;
 * undefined restores the value of `sim.faults`. Reading one gives the current value from `a` to
 * `b`.
 */
export interface SimLink extends SimFaults {
  /**
   * Loses all packets from now on, as when a cable is pulled or a route is lost.
   *
   * TCP repeats lost segments until {@linkcode SimLink.heal}. A connection whose bytes get no
   * answer for `tcpTimeoutMs` fails with `ETIMEDOUT`, and so does an attempt to connect. An idle
   * connection fails only with keep-alive. If only one direction is cut, packets of the other one
   * arrive, and their sender gets `ETIMEDOUT`, because no answer comes back. Datagrams are lost
   * silently.
   */
  partition(): void;
  /**
   * Ends a partition. TCP sends lost segments at once, and they arrive one latency later. Both
   * programs go on as if nothing had happened. If one end has failed meanwhile, the other one gets
   * `ECONNRESET` when it sends.
   */
  heal(): void;
  /**
   * Holds all packets from now on, like a router whose queue does not move. Neither program is
   * told. TCP does not time out until {@linkcode SimLink.release}.
   */
  hold(): void;
  /** Delivers all held packets, in the order in which they were sent, one latency later. */
  release(): void;
  /**
   * Resets each connection after this many more bytes in one direction, as a middlebox with a quota does. The receiver gets
   * all of these bytes, then `ECONNRESET`; the sender gets `ECONNRESET`.
   *
   * @param bytes The number, counted from this call on for each connection and direction; Infinity
   * for never
   * @throws {RangeError} When it is not a whole number, 0 or more, or Infinity
   */
  resetAfter(bytes: number): void;
  /**
   * Ends each connection after this many more bytes in one direction, by a FIN to both programs, as a proxy that is stopped
   * does. Both programs get the end in the middle of the stream. A TLS connection was not ended by
   * its peer, so it fails with `ERR_TLS_TRUNCATED` if `host.capabilities.tlsTruncation` is true.
   * Bytes that are written afterwards are lost.
   *
   * @param bytes The number, counted from this call on for each connection and direction; Infinity
   * for never
   * @throws {RangeError} When it is not a whole number, 0 or more, or Infinity
   */
  endAfter(bytes: number): void;
}

/** Several links that are set together. */
class LinkSet {
  readonly #network: Network;
  readonly #links: readonly Link[];

  constructor(network: Network, links: readonly Link[]) {
    this.#network = network;
    this.#links = links;
    const [first] = links;
    defineRates(
      this,
      "set a link",
      (name) => (first as Link).rates[name],
      (name, value) => {
        for (const link of links) link.set(name, value);
      },
    );
  }

  partition(): void {
    this.#each("partition", (link) => link.partition());
  }

  heal(): void {
    this.#each("heal", (link) => link.heal());
  }

  hold(): void {
    this.#each("hold", (link) => link.hold());
  }

  release(): void {
    this.#each("release", (link) => link.release());
  }

  resetAfter(bytes: number): void {
    if (bytes !== Infinity) checkCount("reset a connection", "the number of bytes", bytes);
    this.#each("resetAfter", (link) => link.breakOff(bytes, false));
  }

  endAfter(bytes: number): void {
    if (bytes !== Infinity) checkCount("end a connection", "the number of bytes", bytes);
    this.#each("endAfter", (link) => link.breakOff(bytes, true));
  }

  #each(call: "partition" | "heal" | "hold" | "release" | "resetAfter" | "endAfter", fn: (link: Link) => void): void {
    for (const link of this.#links) {
      this.#network.noteEvent(call, link);
      fn(link);
    }
  }
}

/**
 * Makes the public object for links.
 *
 * @param network Their network
 * @param links The links, at least one; reading gives the values of the first
 * @returns The object
 */
export function simLink(network: Network, links: readonly Link[]): SimLink {
  return new LinkSet(network, links);
}
