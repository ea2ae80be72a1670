/**
 * The traffic of a simulated network, as packets in the format pcapng, which Wireshark reads.
 *
 * The simulator moves bytes, not packets. So this module makes the packets that a host's system would have sent: the
 * handshake, segments with their numbers, acknowledgements at the time at which a segment arrives, windows, FIN and RST,
 * and datagrams. A packet has the time at which it leaves, on the interface of the host that sends it.
 *
 * This module schedules nothing, so a run with a capture is the same as one without. It makes an acknowledgement at the next
 * event of the connection, with the time at which it was due.
 *
 * @module
 */

import { parseIpv4, parseIpv6 } from "../../core/ip.ts";
import { type Ip, parseIp } from "./addresses.ts";
import type { SimHostRuntime } from "./host.ts";
import { mix } from "./random.ts";

/** The default number of bytes of packets that are kept. */
export const CAPTURE_BYTES = 16_777_216;
/** The bytes that a packet takes besides its data. */
const PACKET_OVERHEAD = 64;
/** 2025-01-01T00:00:00Z, where virtual time is 0. */
const EPOCH_MS = 1_735_689_600_000;

const FIN = 1;
const SYN = 2;
const RST = 4;
const PSH = 8;
const ACK = 16;

const TCP = 6;
const UDP = 17;

/** Linktype "raw": a packet begins with the header of IPv4 or IPv6. */
const LINKTYPE_RAW = 101;
const NONE: Uint8Array = /* @__PURE__ */ new Uint8Array(0);

/** An address and a port, on a host. */
export interface Place {
  readonly host: SimHostRuntime;
  readonly ip: Ip;
  readonly port: number;
}

interface Packet {
  readonly timeMs: number;
  readonly host: SimHostRuntime;
  readonly bytes: Uint8Array;
}

/** The packets of one network. */
export class Capture {
  readonly #maxBytes: number;
  #packets: Packet[] = [];
  #first = 0;
  #bytes = 0;
  #ids = 0;
  /** Flows whose acknowledgements are not made yet. */
  readonly #open: Set<Flow> = new Set();
  #checkAt = 1024;

  /**
   * Makes an empty capture.
   *
   * @param maxBytes The number of bytes of packets to keep. Beyond that, the oldest are dropped
   */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Begins to follow an attempt to connect.
   *
   * @param client Its source
   * @param server Its destination
   * @param who The seed of its random numbers, from which the first sequence numbers follow
   * @returns The flow, whose methods take the events of the connection; undefined if the addresses have two families
   */
  open(client: Place, server: Place, who: number): Flow | undefined {
    return client.ip.family === server.ip.family ? new Flow(this, [client, server], who) : undefined;
  }

  /**
   * Adds a datagram.
   *
   * @param timeMs The time at which it leaves
   * @param from Its source
   * @param to Its destination
   * @param data Its data
   */
  datagram(timeMs: number, from: Place, to: Place, data: Uint8Array): void {
    if (from.ip.family !== to.ip.family) return;
    const udp = new Uint8Array(8 + data.length);
    const view = new DataView(udp.buffer);
    view.setUint16(0, from.port);
    view.setUint16(2, to.port);
    view.setUint16(4, udp.length);
    udp.set(data, 8);
    // 0 would mean that there is no checksum.
    this.#add(timeMs, from, to, UDP, udp, 6, 0xffff);
  }

  /**
   * Adds a segment.
   *
   * @param timeMs The time at which it leaves
   * @param from Its source
   * @param to Its destination
   * @param numbers Its sequence number, its acknowledgement, its window and its flags
   * @param data Its data
   * @param options The options of its header, a multiple of 4 bytes
   */
  segment(
    timeMs: number,
    from: Place,
    to: Place,
    { seq, ack, space, flags }: { seq: number; ack: number; space: number; flags: number },
    data: Uint8Array,
    options: Uint8Array = NONE,
  ): void {
    const tcp = new Uint8Array(20 + options.length + data.length);
    const view = new DataView(tcp.buffer);
    view.setUint16(0, from.port);
    view.setUint16(2, to.port);
    view.setUint32(4, seq);
    view.setUint32(8, (flags & ACK) === 0 ? 0 : ack);
    view.setUint8(12, (5 + options.length / 4) << 4);
    view.setUint8(13, flags);
    view.setUint16(14, space);
    tcp.set(options, 20);
    tcp.set(data, 20 + options.length);
    this.#add(timeMs, from, to, TCP, tcp, 16, 0);
  }

  /** A flow has acknowledgements that are due later. */
  keep(flow: Flow, nowMs: number): void {
    this.#open.add(flow);
    if (this.#open.size < this.#checkAt) return;
    this.#settle(nowMs);
    this.#checkAt = Math.max(1024, 2 * this.#open.size);
  }

  /**
   * Makes the file.
   *
   * @param nowMs The time
   * @param hosts All hosts of the network: each is an interface
   * @returns A pcapng file
   */
  file(nowMs: number, hosts: readonly SimHostRuntime[]): Uint8Array {
    this.#settle(nowMs);
    const packets = this.#packets.slice(this.#first);
    // Acknowledgements were added late. Packets of the same time stay in the order in which they were added.
    packets.sort((a, b) => a.timeMs - b.timeMs);
    const indexes = new Map(hosts.map((host, index) => [host, index]));
    const head = [sectionHeader(), ...hosts.map(({ label }) => interfaceDescription(label))];
    const blocks = packets.map(({ timeMs, host, bytes }) => {
      return enhancedPacket(indexes.get(host) ?? 0, (EPOCH_MS + timeMs) * 1000, bytes);
    });
    const all = [...head, ...blocks];
    const file = new Uint8Array(all.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const block of all) {
      file.set(block, at);
      at += block.length;
    }
    return file;
  }

  #settle(nowMs: number): void {
    for (const flow of this.#open) {
      if (!flow.acknowledge(nowMs)) this.#open.delete(flow);
    }
  }

  #add(
    timeMs: number,
    from: Place,
    to: Place,
    protocol: number,
    payload: Uint8Array,
    sumAt: number,
    zero: number,
  ): void {
    const isV4 = from.ip.family === "IPv4";
    const header = isV4 ? 20 : 40;
    const bytes = new Uint8Array(header + payload.length);
    const view = new DataView(bytes.buffer);
    const parse = isV4 ? parseIpv4 : parseIpv6;
    const source = parse(from.ip.hostname) ?? NONE;
    const destination = parse(to.ip.hostname) ?? NONE;
    if (isV4) {
      view.setUint16(0, 0x4500);
      view.setUint16(2, bytes.length);
      view.setUint16(4, ++this.#ids & 0xffff);
      view.setUint16(6, 0x4000);
      view.setUint16(8, 64 << 8 | protocol);
      bytes.set(source, 12);
      bytes.set(destination, 16);
      view.setUint16(10, finish(sum(bytes, 0, 20)));
    } else {
      view.setUint32(0, 0x6000_0000);
      view.setUint16(4, payload.length);
      view.setUint16(6, protocol << 8 | 64);
      bytes.set(source, 8);
      bytes.set(destination, 24);
    }
    bytes.set(payload, header);
    // The pseudo header: the addresses, the protocol and the length.
    const pseudo = sum(source, 0, source.length) + sum(destination, 0, destination.length) + protocol + payload.length;
    view.setUint16(header + sumAt, finish(pseudo + sum(bytes, header, bytes.length)) || zero);
    this.#packets.push({ timeMs, host: from.host, bytes });
    this.#bytes += bytes.length + PACKET_OVERHEAD;
    while (this.#bytes > this.#maxBytes && this.#first < this.#packets.length - 1) {
      this.#bytes -= (this.#packets[this.#first++] as Packet).bytes.length + PACKET_OVERHEAD;
    }
    if (this.#first > 1024 && this.#first * 2 > this.#packets.length) {
      this.#packets = this.#packets.slice(this.#first);
      this.#first = 0;
    }
  }
}

/** The direction from the client to the server, and the opposite one. */
export type Way = 0 | 1;

/** A segment on its way, which is acknowledged when it arrives. */
interface Arrival {
  timeMs: number;
  /** The sequence number behind it. */
  readonly end: number;
  readonly bytes: number;
}

/** The packets of one connection, or of an attempt. */
export class Flow {
  readonly #capture: Capture;
  readonly #places: readonly [Place, Place];
  /** The sequence number of the next byte of each side. */
  readonly #next: [number, number];
  /** The number up to which each side has received, and which it acknowledges. */
  readonly #received: [number, number];
  /** The number of received bytes on each side that wait to be read. */
  readonly #unread: [number, number] = [0, 0];
  /** The segments on their way in each direction. */
  readonly #arrivals: readonly [Arrival[], Arrival[]] = [[], []];
  /** The number of times that each window is halved to fit into 16 bits. */
  readonly #shift: [number, number];
  #synSent = false;
  #reset = false;

  /** For `Capture.open()`. */
  constructor(capture: Capture, places: readonly [Place, Place], who: number) {
    this.#capture = capture;
    this.#places = places;
    const first = [mix(who, 11) >>> 0, mix(who, 12) >>> 0] as const;
    this.#next = [...first];
    this.#received = [first[1], first[0]];
    this.#shift = [shiftFor(places[0].host.receiveWindow), shiftFor(places[1].host.receiveWindow)];
  }

  /** The client sends a SYN; a second time if the first was lost. */
  syn(timeMs: number): void {
    const [client] = this.#places;
    if (this.#synSent) this.#next[0] = plus(this.#next[0], -1);
    this.#synSent = true;
    this.#send(timeMs, 0, SYN, NONE, synOptions(this.#shift[0]), Math.min(65_535, client.host.receiveWindow));
    this.#next[0] = plus(this.#next[0], 1);
  }

  /** The server answers. */
  synAck(timeMs: number): void {
    const [, server] = this.#places;
    this.#received[1] = this.#next[0];
    this.#send(timeMs, 1, SYN | ACK, NONE, synOptions(this.#shift[1]), Math.min(65_535, server.host.receiveWindow));
    this.#next[1] = plus(this.#next[1], 1);
    this.#received[0] = this.#next[1];
  }

  /** The address has no listener. */
  refuse(timeMs: number): void {
    this.#received[1] = this.#next[0];
    this.#reset = true;
    // A host that does not listen has no sequence numbers.
    this.#next[1] = 0;
    this.#send(timeMs, 1, RST | ACK, NONE, NONE, 0);
  }

  /** An acknowledgement without data: of the handshake, or of a changed window. */
  ack(timeMs: number, way: Way): void {
    if (this.#reset) return;
    this.acknowledge(timeMs);
    this.#send(timeMs, way, ACK, NONE);
  }

  /**
   * Bytes are sent.
   *
   * @param timeMs When
   * @param way The direction
   * @param bytes The bytes
   * @param arrivalMs When they arrive; Infinity while they are held
   */
  data(timeMs: number, way: Way, bytes: Uint8Array, arrivalMs: number): void {
    this.acknowledge(timeMs);
    this.#send(timeMs, way, PSH | ACK, bytes);
    this.#next[way] = plus(this.#next[way], bytes.length);
    this.#expect(timeMs, way, bytes.length, arrivalMs);
  }

  /** The end of a direction is sent. */
  fin(timeMs: number, way: Way, arrivalMs: number): void {
    this.acknowledge(timeMs);
    this.#send(timeMs, way, FIN | ACK, NONE);
    this.#next[way] = plus(this.#next[way], 1);
    this.#expect(timeMs, way, 0, arrivalMs);
  }

  /** A reset is sent. */
  rst(timeMs: number, way: Way): void {
    this.acknowledge(timeMs);
    this.#send(timeMs, way, RST | ACK, NONE, NONE, 0);
  }

  /** The segments on their way in a direction are lost. */
  drop(timeMs: number, way: Way): void {
    this.acknowledge(timeMs);
    this.#arrivals[way].length = 0;
  }

  /** The first segment that was held in a direction arrives at this time. */
  release(way: Way, arrivalMs: number): void {
    const held = this.#arrivals[way].find((arrival) => arrival.timeMs === Infinity);
    if (held !== undefined) held.timeMs = arrivalMs;
  }

  /** A program has read bytes that came in a direction. */
  read(timeMs: number, way: Way, bytes: number): void {
    this.acknowledge(timeMs);
    const reader = other(way);
    this.#unread[reader] = Math.max(0, this.#unread[reader] - bytes);
  }

  /**
   * Makes the acknowledgements that were due.
   *
   * @param nowMs The time
   * @returns Whether others will be due later
   */
  acknowledge(nowMs: number): boolean {
    for (const way of [0, 1] as const) {
      const arrivals = this.#arrivals[way];
      let count = 0;
      for (const { timeMs, end, bytes } of arrivals) {
        if (timeMs > nowMs) break;
        count++;
        const receiver = other(way);
        this.#received[receiver] = end;
        this.#unread[receiver] += bytes;
        // Segments that arrive together are acknowledged together.
        if (arrivals[count]?.timeMs !== timeMs) this.#send(timeMs, receiver, ACK, NONE);
      }
      arrivals.splice(0, count);
    }
    return this.#arrivals[0].length + this.#arrivals[1].length > 0;
  }

  #expect(nowMs: number, way: Way, bytes: number, arrivalMs: number): void {
    this.#arrivals[way].push({ timeMs: arrivalMs, end: this.#next[way], bytes });
    this.#capture.keep(this, nowMs);
  }

  #send(timeMs: number, way: Way, flags: number, data: Uint8Array, options: Uint8Array = NONE, space = -1): void {
    const from = this.#places[way];
    const to = this.#places[other(way)];
    const free = Math.max(0, from.host.receiveWindow - this.#unread[way]);
    const numbers = {
      seq: this.#next[way],
      ack: this.#received[way],
      space: space < 0 ? Math.min(65_535, free >>> this.#shift[way]) : space,
      flags,
    };
    this.#capture.segment(timeMs, from, to, numbers, data, options);
  }
}

/**
 * Makes a place of the address of a socket.
 *
 * @param host The host
 * @param hostname The address
 * @param port The port
 * @returns The place; undefined if the address is not numeric
 */
export function placeOf(host: SimHostRuntime, hostname: string, port: number): Place | undefined {
  const ip = parseIp(hostname);
  return ip === undefined ? undefined : { host, ip, port };
}

function other(way: Way): Way {
  return way === 0 ? 1 : 0;
}

function plus(number: number, bytes: number): number {
  return (number + bytes) >>> 0;
}

function shiftFor(space: number): number {
  let shift = 0;
  while (shift < 14 && space >>> shift > 65_535) shift++;
  return shift;
}

/** The longest segment, and by how much windows are shifted. */
function synOptions(shift: number): Uint8Array {
  return new Uint8Array([2, 4, 0x40, 0, 1, 3, 3, shift]);
}

/** The sum of 16-bit words, for a checksum. */
function sum(bytes: Uint8Array, start: number, end: number): number {
  let total = 0;
  for (let i = start; i < end; i += 2) {
    total += ((bytes[i] as number) << 8) + (i + 1 < end ? bytes[i + 1] as number : 0);
  }
  return total;
}

function finish(total: number): number {
  let folded = total;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x1_0000);
  return ~folded & 0xffff;
}

/** A block: its type, its length twice, and a body that is padded to a multiple of 4 bytes. */
function block(type: number, bodyLength: number, fill: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const length = 12 + bodyLength + (-bodyLength & 3);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  view.setUint32(length - 4, length, true);
  fill(view, bytes);
  return bytes;
}

function sectionHeader(): Uint8Array {
  const name = ascii("trivent simulator");
  return block(0x0a0d0d0a, 16 + 4 + name.length + (-name.length & 3) + 4, (view, bytes) => {
    view.setUint32(8, 0x1a2b3c4d, true);
    view.setUint16(12, 1, true);
    // The length of the section is not given.
    view.setUint32(16, 0xffff_ffff, true);
    view.setUint32(20, 0xffff_ffff, true);
    option(view, bytes, 24, 4, name);
  });
}

function interfaceDescription(label: string): Uint8Array {
  const name = ascii(label);
  const nameLength = 4 + name.length + (-name.length & 3);
  return block(1, 8 + nameLength + 8 + 4, (view, bytes) => {
    view.setUint16(8, LINKTYPE_RAW, true);
    option(view, bytes, 16, 2, name);
    // Times are microseconds.
    option(view, bytes, 16 + nameLength, 9, new Uint8Array([6]));
  });
}

function enhancedPacket(index: number, timeUs: number, packet: Uint8Array): Uint8Array {
  return block(6, 20 + packet.length, (view, bytes) => {
    const us = Math.round(timeUs);
    view.setUint32(8, index, true);
    view.setUint32(12, Math.floor(us / 0x1_0000_0000), true);
    view.setUint32(16, us % 0x1_0000_0000, true);
    view.setUint32(20, packet.length, true);
    view.setUint32(24, packet.length, true);
    bytes.set(packet, 28);
  });
}

function option(view: DataView, bytes: Uint8Array, at: number, code: number, value: Uint8Array): void {
  view.setUint16(at, code, true);
  view.setUint16(at + 2, value.length, true);
  bytes.set(value, at + 4);
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => Math.min(letter.charCodeAt(0), 127));
}
