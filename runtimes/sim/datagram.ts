/**
 * A simulated datagram socket.
 *
 * @module
 */

import type { DatagramBinding, DatagramSink, InetAddress } from "../../core/runtime.ts";
import { sendingTo } from "../shared/datagram.ts";
import { refusal, show } from "../shared/errors.ts";
import { type Bound, type Ip, isWildcard, parseIp, seenBy } from "./addresses.ts";
import { type FaultKind, ROLL } from "./faults.ts";
import type { SimHostRuntime } from "./host.ts";
import { type Named, NOTE } from "./journal.ts";
import type { Link } from "./link.ts";
import { mix, roll } from "./random.ts";
import type { Program } from "./scheduler.ts";

/** The longest datagram: what IPv4 leaves for it. */
const MAX_DATAGRAM_BYTES = 65_507;
/** How many bytes of one socket may be on their way to their receivers. */
const DATAGRAM_BUFFER_BYTES = 212_992;
/** The longest delay of a datagram that others overtake, in latencies. */
const REORDERED_LATENCIES = 10;

/**
 * A datagram socket. A datagram arrives one latency later if a socket has bound the address; otherwise it is lost, as
 * on every network.
 */
export class SimDatagramSocket implements DatagramBinding, Named {
  readonly id: number;
  readonly bound: Bound;
  readonly reusePort = false;
  readonly #host: SimHostRuntime;
  readonly #program: Program;
  readonly #sink: DatagramSink;
  readonly #who: number;
  #count = 0;
  #onTheWay = 0;
  #blocked = false;
  #closed = false;

  /**
   * Makes a socket and counts it among the open handles.
   *
   * @param host The host it belongs to
   * @param bound What it has bound
   * @param sink Who hears of datagrams
   */
  constructor(host: SimHostRuntime, bound: Bound, sink: DatagramSink) {
    this.#host = host;
    this.#program = host.program;
    this.id = host.network.nextId();
    this.#who = mix(mix(host.seed, 53), host.opened++);
    this.bound = bound;
    this.#sink = sink;
    host.handles++;
    host.sockets.add(this);
  }

  get address(): InetAddress {
    return seenBy(this.bound, this.bound, this.bound.port);
  }

  get label(): string {
    return `udp ${this.#host.label} ${show(this.address)}`;
  }

  send(data: Uint8Array, to: InetAddress): boolean {
    if (this.#closed) return true;
    const ip = parseIp(to.hostname);
    if (ip === undefined || ip.family !== this.bound.family && this.bound.family === "IPv4") {
      return this.#fail(to, "EINVAL", "the address is of another family than the socket");
    }
    if (ip.family !== this.bound.family && !isWildcard(this.bound)) {
      return this.#fail(to, "ENETUNREACH");
    }
    if (data.length > MAX_DATAGRAM_BYTES) {
      return this.#fail(to, "EMSGSIZE");
    }
    if (this.#onTheWay + data.length > DATAGRAM_BUFFER_BYTES) {
      this.#blocked = true;
      return false;
    }
    const bytes = new Uint8Array(data.length);
    bytes.set(data);
    this.#onTheWay += bytes.length;
    this.#launch(bytes, ip, to.port);
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#host.handles--;
    this.#host.sockets.delete(this);
    this.#host.datagrams.delete(this);
  }

  ref(): void {}

  unref(): void {}

  #launch(bytes: Uint8Array, ip: Ip, port: number): void {
    const { network } = this.#host;
    const at = this.#count++;
    const there = this.#host.local(ip);
    const target = network.route(this.#host, there, (host) => host.datagrams.has(there, port)) ?? this.#host;
    const link = network.linkTo(this.#host, target);
    const { latencyMs } = link.rates;
    const happens = (kind: FaultKind): boolean =>
      network.happens(kind, link.rates[kind as "datagramLost"], this, this.#who, at);
    const lost = happens("datagramLost");
    const amount = (kind: FaultKind, dice: number): number =>
      network.amount(kind, roll(this.#who, dice, at), this, this.#who, at);
    if (happens("datagramCorrupted")) flip(bytes, amount("datagramCorrupted", ROLL.corruptedBit));
    const late = happens("datagramReordered")
      ? amount("datagramReordered", ROLL.reorderedBy) * latencyMs * REORDERED_LATENCIES
      : 0;
    const full = !link.hasRoom;
    if (full) network.noteEvent("queueFull", this);
    const arrives = !lost && !full && !link.cut;
    const left = (): void => {
      this.#leave(bytes.length);
      if (arrives) this.#arrive(bytes, ip, port);
    };
    this.#carry(link, left, bytes.length, at, late, arrives);
    if (!happens("datagramDoubled") || !arrives) return;
    const copy = bytes.slice();
    this.#carry(link, () => this.#arrive(copy, ip, port), bytes.length, -1 - at, late, true);
  }

  /** A datagram that does not arrive leaves the send buffer, too. */
  #carry(link: Link, fn: () => void, bytes: number, at: number, late: number, arrives: boolean): void {
    const { network } = this.#host;
    const { scheduler } = network;
    if (!arrives) {
      scheduler.at(scheduler.now + link.rates.latencyMs, fn);
    } else if (link.held) {
      link.carry(fn, 0, this.#who, at, false);
    } else scheduler.at(link.arrival(bytes, this.#who, at) + late, fn);
  }

  #arrive(bytes: Uint8Array, ip: Ip, port: number): void {
    const there = this.#host.local(ip);
    const target = this.#host.network.route(this.#host, there, (host) => host.datagrams.has(there, port));
    const socket = target?.datagrams.find(there, port);
    if (target === undefined || socket === undefined || socket.#closed) return;
    const source = isWildcard(this.bound) ? this.#host.sourceFor(target, there) : this.bound;
    const from = { hostname: source.hostname, port: this.bound.port, family: source.family };
    if (target.paused) target.soon(() => socket.#give(bytes, from));
    else socket.#give(bytes, from);
  }

  #give(bytes: Uint8Array, from: InetAddress): void {
    if (this.#closed) return;
    this.#host.network.note(NOTE.datagram, this, bytes.length);
    this.#sink.onMessage(bytes, from);
  }

  #leave(bytes: number): void {
    this.#onTheWay -= bytes;
    if (!this.#blocked || this.#closed || this.#onTheWay * 2 > DATAGRAM_BUFFER_BYTES) return;
    this.#blocked = false;
    this.#soon(() => this.#sink.onWritable());
  }

  /** The datagram counts as sent; the failure is told later. */
  #fail(to: InetAddress, code: string, why?: string): true {
    this.#soon(() => this.#sink.onError(refusal(sendingTo(to), code, "send", why)));
    return true;
  }

  #soon(fn: () => void): void {
    const { scheduler } = this.#host.network;
    scheduler.at(scheduler.now, () => {
      if (!this.#closed) fn();
    }, this.#program);
  }
}

/** Flips one bit. */
function flip(bytes: Uint8Array, where: number): void {
  const bit = Math.floor(where * bytes.length * 8);
  const index = bit >> 3;
  if (index < bytes.length) bytes[index] = (bytes[index] ?? 0) ^ (1 << (bit & 7));
}
