/**
 * A simulated datagram socket.
 *
 * @module
 */

import type { DatagramBinding, DatagramOptions, DatagramSink, InetAddress } from "../../core/runtime.ts";
import { grouping, sendingTo } from "../shared/datagram.ts";
import { refusal, show } from "../shared/errors.ts";
import { type Bound, type Ip, isBroadcast, isLoopback, isMulticast, isWildcard, parseIp, seenBy } from "./addresses.ts";
import { type FaultKind, ROLL } from "./faults.ts";
import type { SimHostRuntime } from "./host.ts";
import { type Named, NOTE } from "./journal.ts";
import type { Link } from "./link.ts";
import { mix, roll } from "./random.ts";
import type { Program } from "./scheduler.ts";

/** The longest datagram over IPv4. */
const MAX_DATAGRAM_BYTES = 65_507;
/** The number of bytes of one socket that may be on their way to their receivers. */
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
  /** Whether others may bind the same address. */
  readonly reusePort: boolean;
  readonly #options: DatagramOptions;
  /** The groups that it has joined, each with the interface. */
  readonly #groups: Set<string> = new Set();
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
   * @param bound The bound address
   * @param sink The sink
   * @param options The options for sending
   */
  constructor(host: SimHostRuntime, bound: Bound, sink: DatagramSink, options: DatagramOptions) {
    this.#options = options;
    this.reusePort = options.reuseAddress ?? false;
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
    const toAll = isBroadcast(ip);
    if (toAll && this.#options.broadcast !== true) return this.#fail(to, "EACCES");
    if (this.#onTheWay + data.length > DATAGRAM_BUFFER_BYTES) {
      this.#blocked = true;
      return false;
    }
    const bytes = new Uint8Array(data.length);
    bytes.set(data);
    this.#onTheWay += bytes.length;
    if (toAll || isMulticast(ip)) this.#launchToMany(bytes, ip, to.port);
    else this.#launch(bytes, ip, to.port);
    return true;
  }

  // deno-lint-ignore require-await -- an exception becomes the rejection
  async join(group: string, networkInterface: string | undefined): Promise<void> {
    const tried = grouping("join", group, networkInterface);
    const member = this.#member(tried, group, networkInterface);
    if (this.#groups.has(member)) throw refusal(tried, "EADDRINUSE", "setsockopt", "the socket has joined it there");
    this.#groups.add(member);
  }

  // deno-lint-ignore require-await -- an exception becomes the rejection
  async leave(group: string, networkInterface: string | undefined): Promise<void> {
    const tried = grouping("leave", group, networkInterface);
    if (this.#groups.delete(this.#member(tried, group, networkInterface))) return;
    throw refusal(tried, "EADDRNOTAVAIL", "setsockopt", "the socket has not joined it there");
  }

  /** A group on an interface. A host has two: the loopback, and the one that leads to the network. */
  #member(tried: string, group: string, networkInterface: string | undefined): string {
    const ip = parseIp(group);
    return memberOf(ip?.hostname ?? group, this.#isLocal(tried, networkInterface));
  }

  /** Whether an interface is the loopback. */
  #isLocal(tried: string, networkInterface: string | undefined): boolean {
    if (networkInterface === undefined || networkInterface === NETWORK_INTERFACE) return false;
    if (LOOPBACKS.includes(networkInterface)) return true;
    if (this.#host.addresses.includes(networkInterface) || networkInterface === "0.0.0.0") return false;
    throw refusal(tried, "ENODEV", "setsockopt");
  }

  /** Checks the interface that it sends to groups on. */
  checkInterface(): void {
    this.#isLocal(`open a datagram socket on ${show(this.address)}`, this.#options.multicastInterface);
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
    const there = this.#host.local(ip);
    const { network } = this.#host;
    const target = network.route(this.#host, there, (host) => host.datagrams.has(there, port)) ?? this.#host;
    const show = this.#shown(target, there, port);
    this.#launchTo(target, bytes, bytes.length, show, (copy) => this.#arrive(copy, ip, port));
  }

  /** Sends to a group, or to every host. A group on the loopback, or with a TTL of 0, stays on this host. */
  #launchToMany(bytes: Uint8Array, ip: Ip, port: number): void {
    const { multicastTtl = 1, multicastLoopback = true, multicastInterface } = this.#options;
    const toGroup = isMulticast(ip);
    // An address that was bound decides about the interface, as on Linux.
    const local = toGroup
      ? this.#isLocal("send", multicastInterface ?? (isWildcard(this.bound) ? undefined : this.bound.hostname))
      : isLoopback(ip);
    const stays = local || toGroup && multicastTtl === 0;
    const targets = this.#host.network.hosts.filter((host) => {
      if (host === this.#host) return !toGroup || local || multicastLoopback;
      return !stays && !host.down;
    });
    // A host must receive it to free the send buffer: this host, which then ignores it.
    const show = this.#shown(this.#host, ip, port);
    if (targets.length === 0) return this.#launchTo(this.#host, bytes, bytes.length, show, () => {});
    for (const [i, target] of targets.entries()) {
      const copy = i === 0 ? bytes : bytes.slice();
      // It leaves the host once.
      this.#launchTo(
        target,
        copy,
        i === 0 ? bytes.length : 0,
        i === 0 ? show : undefined,
        (copy) => this.#arriveAt(target, copy, ip, port, local),
      );
    }
  }

  /** Returns the function that puts a datagram into the capture; undefined without a capture. */
  #shown(target: SimHostRuntime, to: Ip, port: number): ((bytes: Uint8Array) => void) | undefined {
    const { capture } = this.#host.network;
    if (capture === undefined) return undefined;
    const source = isWildcard(this.bound) ? this.#host.sourceFor(target, to) : this.bound;
    const from = { host: this.#host, ip: source, port: this.bound.port };
    return (bytes) => capture.datagram(this.#host.now(), from, { host: target, ip: to, port }, bytes);
  }

  /** Sends over one link. */
  #launchTo(
    target: SimHostRuntime,
    bytes: Uint8Array,
    held: number,
    show: ((bytes: Uint8Array) => void) | undefined,
    arrive: (bytes: Uint8Array) => void,
  ): void {
    const at = this.#count++;
    const { network } = this.#host;
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
    show?.(bytes);
    const full = !link.hasRoom;
    if (full) network.noteEvent("queueFull", this);
    const arrives = !lost && !full && !link.cut;
    const left = (): void => {
      this.#leave(held);
      if (arrives) arrive(bytes);
    };
    this.#carry(link, left, bytes.length, at, late, arrives);
    if (!happens("datagramDoubled") || !arrives) return;
    show?.(bytes);
    const copy = bytes.slice();
    this.#carry(link, () => arrive(copy), bytes.length, -1 - at, late, true);
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

  /** Every socket on a host gets it that has joined the group, or has bound every address. */
  #arriveAt(target: SimHostRuntime, bytes: Uint8Array, ip: Ip, port: number, local: boolean): void {
    const ips = local ? [] : this.#host.addresses.map(parseIp);
    const loopback = ip.family === "IPv4" ? "127.0.0.1" : "::1";
    const { hostname } = ips.find((address) => address?.family === ip.family) ?? { hostname: loopback };
    const from: InetAddress = { hostname, port: this.bound.port, family: ip.family };
    const member = memberOf(ip.hostname, local);
    for (const socket of [...target.sockets]) {
      const { bound } = socket;
      if (bound.port !== port || bound.family !== ip.family || !isWildcard(bound)) continue;
      if (isMulticast(ip) && !socket.#groups.has(member)) continue;
      const copy = bytes.slice();
      if (target.paused) target.soon(() => socket.#give(copy, from));
      else socket.#give(copy, from);
    }
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

  /** The datagram counts as sent; the failure is reported later. */
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

/** The name and the addresses of a host's loopback interface. */
const LOOPBACKS: readonly string[] = ["lo", "127.0.0.1", "::1"];
/** The name of the other one. */
const NETWORK_INTERFACE = "eth0";

function memberOf(group: string, local: boolean): string {
  return `${group} ${local ? "lo" : NETWORK_INTERFACE}`;
}

/** Flips one bit. */
function flip(bytes: Uint8Array, where: number): void {
  const bit = Math.floor(where * bytes.length * 8);
  const index = bit >> 3;
  if (index < bytes.length) bytes[index] = (bytes[index] ?? 0) ^ (1 << (bit & 7));
}
