/**
 * One end of a simulated stream connection.
 *
 * Bytes that one end accepts go into its send queue, a stream of bytes. When the program's callback
 * is over, they leave in segments, each with the time at which it arrives in the other end's inbox.
 * The bounds of a segment depend on the stream, not on the pieces that the program wrote. Bytes in
 * the inbox, arrived or in flight, count against the receiver's window ({@linkcode WINDOW_BYTES}):
 * a receiver that pauses lets it fill up, then the send queue ({@linkcode SEND_BUFFER_BYTES}), and
 * then `write()` returns 0. An idle connection has nothing scheduled and both queues empty.
 *
 * @module
 */

import type { Bits } from "../../core/bits.ts";
import { type EventError, invariant } from "../../core/errors.ts";
import type { Address, TransportBinding, TransportSink } from "../../core/runtime.ts";
import type { StartTlsOptions, TlsInfo, TlsRole } from "../../core/tls.ts";
import { keeping, refusal, show } from "../shared/errors.ts";
import { tlsError } from "../shared/tls.ts";
import { ByteQueue } from "./byte_queue.ts";
import type { Flow, Way } from "./capture.ts";
import { ROLL } from "./faults.ts";
import type { SimHostRuntime } from "./host.ts";
import { type Named, NOTE } from "./journal.ts";
import { type Link, SEGMENT_BYTES } from "./link.ts";
import { copyOf } from "./memory.ts";
import type { Network } from "./network.ts";
import { mix, roll } from "./random.ts";
import type { Program, Scheduled, Scheduler, Sender, Task } from "./scheduler.ts";
import { SegmentQueue } from "./segment_queue.ts";
import { type HandshakeOwner, SimHandshake } from "./tls.ts";

/** The number of bytes that one end accepts beyond the receiver's window. */
const SEND_BUFFER_BYTES = 65_536;
/** The default number of bytes that may be on their way to one end or wait in it. */
export const WINDOW_BYTES = 65_536;
/** The space at which a sender is told. No segment is longer, so it can always leave. */
const UPDATE_BYTES: number = SEGMENT_BYTES;
/** A host that makes short writes stops at most once in this many bytes. */
const SHORT_BLOCK_BYTES = 4096;

/** Bits of a connection's flags. */
type SimBits = Bits<"sim">;

/** The connection is established. */
const CONNECTED: SimBits = 1;
/** The application has paused reading. */
const PAUSED: SimBits = 2;
/** Our direction is to be finished. */
const FIN_WANTED: SimBits = 4;
/** The end of our direction is on its way to the peer. */
const FIN_SENT: SimBits = 8;
/** The end of the peer's direction has arrived. */
const ENDED: SimBits = 16;
/** Bytes that still arrive are dropped. */
const CLOSING: SimBits = 32;
/**
 * `release()` was called: accepted bytes are still delivered, and bytes that arrive are answered
 * with a reset.
 */
const RELEASED: SimBits = 64;
/** The connection is over. */
const GONE: SimBits = 128;
/** The last `write()` returned 0, so `onWritable` must follow. */
const OWED: SimBits = 256;
/** A window update is on its way to us. */
const UPDATE_DUE: SimBits = 512;
/** The arrival of the inbox's head is scheduled. */
const ARMED: SimBits = 1024;
/** Data that arrived is given although the application has paused, because the connection has failed. */
const FORCED: SimBits = 2048;
/** It is counted among the host's open handles. */
const COUNTED: SimBits = 4096;
/** A fault has cut the line: only the failure still arrives. */
const CUT: SimBits = 8192;
/**
 * The send queue was full: `write()` accepts nothing until `onWritable` was called, as on real
 * runtimes.
 */
const FULL: SimBits = 16_384;
/** It waits for the end of the callback, to send. */
const SENDING: SimBits = 32_768;
/** The program will be told that the connection is over. */
const TELLING: SimBits = 65_536;
/** A reset is on its way to us. */
const RESET_DUE: SimBits = 131_072;
/** Its host has crashed. */
const CRASHED: SimBits = 262_144;
/** A fault has ended the connection, for both ends. */
const CUT_END: SimBits = 524_288;
/** Keep-alive is on. */
const KEEP_ALIVE = 1_048_576;
/** The next write of its host is a short one. */
const SHORT = 2_097_152;

/** The bits that decide whether a write accepts its bytes: if it does, only CONNECTED is set. */
const MAY_WRITE: SimBits = CONNECTED | GONE | FIN_WANTED | SHORT | FULL | OWED;
/** The bits that decide whether bytes leave as one segment. */
const MAY_SEND: SimBits = GONE | CUT | FIN_WANTED;
/** The bits that decide whether arrived bytes are passed to the sink. */
const MAY_GIVE: SimBits = GONE | PAUSED | CLOSING | RELEASED;

/** Task of the scheduler: the next entry of the inbox has arrived. */
const DELIVER = 0;
/** A window update has arrived. */
const UPDATE = 1;
/** A reset has arrived. */
const FAIL = 2;
/** The program is told that the connection is over. */
const TELL_CLOSE = 3;
/** The program is told that it can write. */
const TELL_WRITABLE = 4;
/** There was no answer for too long. */
const TIMED_OUT = 5;
/** The client's program is told that it is connected. */
const ANNOUNCE = 6;

/** The addresses of a connection, seen from one of its ends. */
export interface Ends {
  /** Its own address. */
  readonly local: Address;
  /** The other end's address. */
  readonly remote: Address;
}

/**
 * One end of a connection.
 *
 * Its methods are private to TypeScript only, as those of the scheduler.
 */
export class SimConnection implements TransportBinding, HandshakeOwner, Task, Sender, Named {
  readonly id: number;
  readonly host: SimHostRuntime;
  readonly #network: Network;
  readonly #scheduler: Scheduler;
  readonly #program: Program;
  /** Bytes that were accepted and not yet sent. */
  readonly #unsent: ByteQueue = new ByteQueue();
  /** Bytes that were sent to us and not yet passed to the sink. */
  readonly #inbox: SegmentQueue = new SegmentQueue();
  #flags: SimBits = 0;
  #sink: TransportSink | undefined;
  #peer: SimConnection | undefined;
  /** The link to the peer, and the link from it. */
  #out: Link | undefined;
  #in: Link | undefined;
  #local: Address | undefined;
  #remote: Address | undefined;
  /** The seed of the random numbers of the direction in which we send. */
  #who = 0;
  /** The number of accepted bytes, and the number of sent ones. */
  #taken = 0;
  #sent = 0;
  /**
   * The position where the count of `resetAfter()` or `endAfter()` begins, and the number of that
   * call.
   */
  #breakFrom = 0;
  #breakEpoch = 0;
  /** The time when the last packet that was sent to us arrives. */
  #lastArrival = 0;
  /** The silence after which keep-alive sends a probe, and the time that it waits for an answer. */
  #keepAliveMs = 0;
  /** The time for which it probes; undefined for the timeout of TCP. */
  #probesMs: number | undefined = undefined;
  /** Why the connection failed, until that is reported: data that arrived before comes first. */
  #failure: EventError | undefined;
  /** The arrival of the next entry. The same object is used each time. */
  #arrival: Scheduled | undefined;
  /** The task that tells the program about its end. */
  #closeError: EventError | undefined;
  /** The task that ends the attempt or the connection if there is no answer. */
  #timeout: Scheduled | undefined;
  #tried = "connect";
  /** The TLS handshake in progress. */
  #handshake: SimHandshake | undefined;
  #tls: TlsInfo | undefined;
  /** The address to connect to. */
  target: Address | undefined;
  /** Puts its packets into the capture; undefined without a capture. */
  flow: Flow | undefined;
  /** The direction of the flow in which this end sends. */
  #way: Way = 0;

  /**
   * Makes an end that is not connected.
   *
   * @param host The host it belongs to
   * @param sink The sink; undefined until it is accepted
   */
  constructor(host: SimHostRuntime, sink: TransportSink | undefined) {
    const { network } = host;
    this.id = network.nextId();
    this.host = host;
    this.#network = network;
    this.#scheduler = network.scheduler;
    this.#program = host.program;
    this.#sink = sink;
    host.connections.add(this);
    if (sink !== undefined) this.count();
  }

  get local(): Address | undefined {
    return this.#local;
  }

  get remote(): Address | undefined {
    return this.#remote;
  }

  get tls(): TlsInfo | undefined {
    return this.#tls;
  }

  get handshaking(): boolean {
    return this.#handshake !== undefined;
  }

  get label(): string {
    return `${labelOf(this.host.label, this.#local)} < ${labelOf("?", this.#remote ?? this.target)}`;
  }

  /** Whether the connection is over. */
  get gone(): boolean {
    return (this.#flags & GONE) !== 0;
  }

  /** Whether it must not be accepted any more: it was reset while it waited, before it had sent anything. */
  get lost(): boolean {
    return this.is(GONE | RELEASED) || (this.#failure !== undefined && this.#inbox.head === undefined);
  }

  write(chunk: Uint8Array): number {
    const { length } = chunk;
    // Almost always the whole chunk is accepted.
    if (
      (this.#flags & MAY_WRITE) === CONNECTED && this.#unsent.bytes === 0 && length > 0 && length <= SEGMENT_BYTES &&
      this.#failure === undefined && this.#handshake === undefined && !this.mayShorten
    ) {
      this.#unsent.push(copyOf(chunk));
      this.#taken += length;
      if ((this.#flags & SENDING) === 0) this.sendLater();
      return length;
    }
    if (length === 0 || !this.canTake()) return 0;
    const taken = this.take(chunk, this.room());
    this.sendLater();
    return taken;
  }

  writev(chunks: readonly Uint8Array[]): number {
    let taken = 0;
    for (const chunk of chunks) {
      if (chunk.length === 0) continue;
      if (taken === 0 && !this.canTake()) return 0;
      const n = this.take(chunk, this.room());
      taken += n;
      if (n < chunk.length) break;
    }
    this.sendLater();
    return taken;
  }

  pauseRead(): void {
    this.#flags |= PAUSED;
  }

  resumeRead(): void {
    this.#flags &= ~PAUSED;
    this.arm();
  }

  shutdownWrite(): void {
    this.#flags |= FIN_WANTED;
    this.sendLater();
  }

  close(): void {
    if (this.is(GONE | CLOSING)) return;
    this.#flags |= CLOSING | FIN_WANTED;
    if (!this.is(CONNECTED)) return this.letGo(undefined);
    if (this.#handshake !== undefined) return this.reset();
    if (this.#failure !== undefined) return this.letGo(this.#failure);
    this.sendLater();
    this.arm();
  }

  release(): void {
    this.close();
    if (this.is(GONE | RELEASED)) return;
    this.#flags |= RELEASED;
    this.uncount();
    this.tellClose(undefined);
  }

  reset(): void {
    if (this.gone) return;
    if (!this.host.capabilities.reset && this.is(CONNECTED) && this.#handshake === undefined) return this.release();
    this.resetPeer();
  }

  private resetPeer(): void {
    const peer = this.#peer;
    const link = this.#out;
    this.letGo(undefined);
    if (peer === undefined || link === undefined || peer.gone) return;
    this.flow?.rst(this.#scheduler.now, this.#way);
    peer.expectReset(link, this.#who, this.#sent);
  }

  setNoDelay(_on: boolean): void {}

  setKeepAlive(on: boolean, delayMs: number, intervalMs?: number, count?: number): void {
    this.#flags = on ? this.#flags | KEEP_ALIVE : this.#flags & ~KEEP_ALIVE;
    this.#probesMs = intervalMs === undefined && count === undefined
      ? undefined
      : (intervalMs ?? PROBE_INTERVAL_MS) * (count ?? PROBES);
    this.#keepAliveMs = delayMs > 0 ? delayMs : DEFAULT_KEEP_ALIVE_MS;
    if (this.deaf) this.watch();
  }

  ref(): void {}

  unref(): void {}

  startTls(role: TlsRole, options: StartTlsOptions, unread?: Uint8Array): void {
    if (this.is(GONE | CLOSING)) return;
    if (unread !== undefined) this.#inbox.unshift({ bytes: unread, time: 0, cut: false, next: undefined });
    this.#flags &= ~(OWED | FULL);
    this.expectTls(role, options);
    this.#handshake?.start();
    this.arm();
  }

  /**
   * Begins with a TLS handshake, also on an end that will be accepted.
   *
   * @param role The role of this end
   * @param options The options of TLS
   */
  expectTls(role: TlsRole, options: StartTlsOptions): void {
    this.#handshake = new SimHandshake(this, role, options);
  }

  sendRecord(bytes: Uint8Array): void {
    this.#unsent.push(bytes);
    this.#taken += bytes.length;
    this.sendLater();
  }

  secured(info: TlsInfo, rest: Uint8Array): void {
    this.#handshake = undefined;
    this.#tls = info;
    const sink = this.#sink;
    sink?.onSecure();
    if (rest.length > 0 && !this.is(GONE | CLOSING)) sink?.onData(rest);
    this.sendLater();
    this.arm();
  }

  refuseTls(code: "ERR_TLS_CERT" | "ERR_TLS_HANDSHAKE", why: string): void {
    const error = tlsError(code, this.tlsAttempt, why);
    // The peer gets the end, as with release().
    this.#handshake = undefined;
    this.#flags |= CLOSING | FIN_WANTED | RELEASED;
    this.uncount();
    this.tellClose(error);
    this.sendLater();
  }

  private get tlsAttempt(): string {
    return `make a TLS connection with ${show((this.#remote ?? {}) as { path?: string })}`;
  }

  /**
   * Ends an attempt to connect that failed.
   *
   * @param error Why
   */
  refuse(error: EventError): void {
    invariant(!this.is(CONNECTED), "only an attempt can be refused");
    if (!this.gone) this.letGo(error);
  }

  /**
   * The attempt to connect gets no answer: it ends with `ETIMEDOUT` unless it ends before.
   *
   * @param tried The call, for the error
   */
  unanswered(tried: string): void {
    if (this.is(CONNECTED | GONE)) return;
    this.#tried = tried;
    this.giveUpAfter(this.#network.tcpTimeoutMs);
  }

  /**
   * Joins two ends. The accepting end delivers nothing before `attach()`.
   *
   * @param client The end that connected
   * @param server The end that will be accepted
   * @param ends The addresses, as the client sees them
   * @param there The addresses, as the accepting end sees them
   * @param who The seed of the connection's random numbers
   */
  static join(client: SimConnection, server: SimConnection, ends: Ends, there: Ends, who: number): void {
    invariant(!client.is(CONNECTED | GONE), "an attempt connects once");
    const network = client.#network;
    server.flow = client.flow;
    server.#way = 1;
    client.connected(server, ends, mix(who, 1), network.linkTo(client.host, server.host));
    server.connected(client, there, mix(who, 2), network.linkTo(server.host, client.host));
  }

  private connected(peer: SimConnection, { local, remote }: Ends, who: number, link: Link): void {
    this.#peer = peer;
    this.#local = local;
    this.#remote = remote;
    this.target = undefined;
    this.#who = who;
    this.#out = peer.#in = link;
    this.#breakEpoch = link.breakEpoch;
    this.#flags |= CONNECTED;
    this.endTimeout();
  }

  /** Says when the last packet of the handshake arrives: no data arrives before it. */
  notBefore(time: number): void {
    this.#lastArrival = Math.max(this.#lastArrival, time);
  }

  /** Tells the client's sink that it is connected. */
  announce(): void {
    const scheduler = this.#scheduler;
    if (this.#program.pausedUntil > scheduler.now) scheduler.taskAt(scheduler.now, this, ANNOUNCE, this.#program);
    else this.tellConnect();
  }

  private tellConnect(): void {
    if (this.gone) return;
    this.sendLater();
    if (this.is(OWED)) this.soon(TELL_WRITABLE);
    this.#sink?.onConnect();
  }

  /** Counts it among the open handles of its host. */
  count(): void {
    this.#flags |= COUNTED;
    this.host.handles++;
  }

  /**
   * Gives an accepted end its sink. From now on the sink is called.
   *
   * @param sink The sink
   */
  attach(sink: TransportSink): void {
    invariant(this.#sink === undefined, "an accepted connection gets one sink");
    this.#sink = sink;
    this.arm();
  }

  run(what: number): void {
    if (what === DELIVER) this.deliver();
    else if (what === UPDATE) this.onUpdate();
    else if (what === FAIL) this.fail("ECONNRESET");
    else if (what === TELL_CLOSE) this.giveClose();
    else if (what === TELL_WRITABLE) this.tellWritable();
    else if (what === ANNOUNCE) this.tellConnect();
    else this.onTimeout();
  }

  /** Its host has crashed: no sink is called, and bytes that were not sent are lost. */
  crash(): void {
    if (this.gone) return;
    this.#flags |= GONE | CRASHED;
    this.flow?.drop(this.#scheduler.now, this.wayIn);
    this.#sink = undefined;
    this.forget();
    const peer = this.#peer;
    if (peer !== undefined && !peer.gone) peer.watch();
  }

  /** The host of the peer was restarted after a crash, and does not know the connection. */
  onRestarted(host: SimHostRuntime): void {
    const peer = this.#peer;
    if (peer === undefined || peer.host !== host || !peer.is(CRASHED)) return;
    if (this.needsAnswer) this.askTheDead(peer);
    else if (this.is(KEEP_ALIVE)) this.watch();
  }

  /** A link was cut: bytes that we have sent may stay without an answer. */
  onCut(link: Link): void {
    if (link === this.#out || link === this.#in) this.watch();
  }

  /** A link is whole again. */
  onHealed(link: Link): void {
    if (link !== this.#out && link !== this.#in) return;
    if (this.deaf) return;
    this.endTimeout();
    this.sendLater();
  }

  /** The link to us now sends the packets that it has held. */
  onReleased(link: Link): void {
    if (link !== this.#in || this.gone) return;
    for (let at = this.#inbox.head; at !== undefined; at = at.next) {
      if (at.time < Infinity) continue;
      at.time = Math.max(link.arrival(0, this.#who, this.#sent), this.#lastArrival);
      this.#lastArrival = at.time;
      this.flow?.release(this.wayIn, at.time);
    }
    this.arm();
  }

  private is(flags: number): boolean {
    return (this.#flags & flags) !== 0;
  }

  private uncount(): void {
    if (this.is(COUNTED)) this.host.handles--;
    this.#flags &= ~COUNTED;
  }

  /** Calls the program in this instant, after the present callback. */
  private soon(what: number): void {
    const scheduler = this.#scheduler;
    scheduler.taskAt(scheduler.now, this, what, this.#program);
  }

  private canTake(): boolean {
    if (this.is(GONE | FIN_WANTED) || this.#handshake !== undefined) return false;
    if (this.#failure !== undefined) {
      this.#flags |= FORCED;
      this.arm();
      return false;
    }
    if (this.is(SHORT)) {
      // The next part is accepted after the program was told.
      this.#flags = (this.#flags & ~SHORT) | FULL | OWED;
      this.soon(TELL_WRITABLE);
      return false;
    }
    if (this.is(CONNECTED)) {
      if (!this.is(FULL) && this.room() > 0) {
        this.#flags &= ~OWED;
        return true;
      }
      this.#flags |= FULL;
    }
    this.#flags |= OWED;
    return false;
  }

  /**
   * The number of bytes that `write()` accepts now: the space in the send queue and in the peer's
   * window.
   */
  private room(): number {
    const peer = this.#peer;
    let room = SEND_BUFFER_BYTES - this.#unsent.bytes;
    // A peer that has reset the connection acknowledges nothing, so its window is full until the
    // reset arrives.
    if (peer !== undefined && !peer.gone && this.#out?.cut === false && !this.is(CUT)) {
      room += Math.max(0, peer.host.receiveWindow - peer.#inbox.bytes);
    }
    return room;
  }

  /** Whether a write of the host may be a short one. */
  private get mayShorten(): boolean {
    return this.host.short > 0 || this.#network.judge !== undefined;
  }

  /** Copies the accepted part of a chunk, because the writer may reuse its memory at once. */
  private take(chunk: Uint8Array, most: number): number {
    let taken = Math.min(chunk.length, most);
    if (this.mayShorten) taken = this.shorten(taken);
    if (taken <= 0) return 0;
    for (let start = 0; start < taken; start += SEGMENT_BYTES) {
      const end = Math.min(start + SEGMENT_BYTES, taken);
      this.#unsent.push(copyOf(end - start === chunk.length ? chunk : chunk.subarray(start, end)));
    }
    this.#taken += taken;
    return taken;
  }

  /**
   * The number of these bytes that a host with short writes accepts. The position in the stream
   * decides where it stops.
   */
  private shorten(length: number): number {
    if (this.is(SHORT)) return 0;
    const end = this.#taken + length;
    for (let block = Math.floor(this.#taken / SHORT_BLOCK_BYTES); block * SHORT_BLOCK_BYTES < end; block++) {
      const offset = 1 + Math.floor(roll(this.#who, ROLL.shortLength, block) * (SHORT_BLOCK_BYTES - 1));
      const stop = block * SHORT_BLOCK_BYTES + offset;
      if (stop <= this.#taken || stop > end) continue;
      if (!this.#network.happens("shortWrite", this.host.short, this, this.#who, block)) continue;
      this.#flags |= SHORT;
      return stop - this.#taken;
    }
    return length;
  }

  private sendLater(): void {
    if (this.is(SENDING | GONE) || this.#peer === undefined) return;
    this.#flags |= SENDING;
    this.#scheduler.sendSoon(this);
  }

  /** Sends what fits into the peer's window, and after the last byte the end of our direction. */
  send(): void {
    const flags = this.#flags &= ~SENDING;
    const peer = this.#peer;
    const link = this.#out;
    if (peer === undefined || link === undefined) return;
    if ((flags & MAY_SEND) === 0 && this.sendAtOnce(peer, link)) return;
    if (this.gone) return;
    if (this.is(CUT)) return this.sendNothing();
    if (this.deaf) this.watch();
    if (link.cut) return;
    if (this.#unsent.bytes > 0) {
      link.fresh();
      if (link.shaped) link.wait(this);
      else this.sendBytes(peer, link, Infinity);
    }
    this.sendEnd(peer, link);
  }

  /**
   * Sends all bytes as one segment if they are one chunk and no fault is possible, as almost
   * always.
   *
   * @returns Whether it is done; otherwise nothing has happened
   */
  private sendAtOnce(peer: SimConnection, link: Link): boolean {
    const unsent = this.#unsent;
    const length = unsent.bytes;
    if (!link.clear || this.#in?.cut !== false || !unsent.isWhole || length > SEGMENT_BYTES) return false;
    if ((peer.#flags & (GONE | CUT)) !== 0 || peer.#inbox.bytes + length > peer.host.receiveWindow) return false;
    const { now } = this.#scheduler;
    const bytes = unsent.takeWhole();
    let arrival = now + link.steadyMs;
    if (arrival < peer.#lastArrival) arrival = peer.#lastArrival;
    else peer.#lastArrival = arrival;
    peer.#inbox.add(bytes, false, arrival);
    peer.arm();
    this.flow?.data(now, this.#way, bytes, arrival);
    this.#sent += length;
    return true;
  }

  /** Sends one segment. @returns Whether there is another one to send */
  onLine(): boolean {
    const peer = this.#peer;
    const link = this.#out;
    if (peer === undefined || link === undefined || this.is(GONE | CUT) || link.cut) return false;
    const more = this.sendBytes(peer, link, 1);
    if (!this.is(GONE | CUT)) this.sendEnd(peer, link);
    return more;
  }

  private sendEnd(peer: SimConnection, link: Link): void {
    if (this.#unsent.bytes > 0 || this.is(FIN_SENT | CUT) || !this.is(FIN_WANTED)) return;
    if (this.#handshake !== undefined) return;
    if (peer.is(CRASHED)) return this.askTheDead(peer);
    this.#flags |= FIN_SENT;
    const arrival = peer.receive(undefined, false, link.arrival(0, this.#who, this.#sent));
    this.flow?.fin(this.#scheduler.now, this.#way, arrival);
    if (this.is(ENDED)) this.letGo(undefined);
  }

  /** Sends segments, at most this many. @returns Whether there is another one to send */
  private sendBytes(peer: SimConnection, link: Link, most: number): boolean {
    link.fresh();
    const { segmentBytes, rates, plain } = link;
    const space = peer.host.receiveWindow;
    for (let segments = 0; this.#unsent.bytes > 0; segments++) {
      if (segments === most) return true;
      if (peer.gone) {
        this.askTheDead(peer);
        return false;
      }
      let length = Math.min(segmentBytes, this.#unsent.bytes, space);
      if (peer.#inbox.bytes + length > space) return false;
      let cut = false;
      let left = Infinity;
      if (!plain) {
        left = this.beforeBreak(link);
        length = Math.min(length, left);
        if (length > 1 && this.#network.happens("segmentCut", rates.segmentCut, this, this.#who, this.#sent)) {
          const rolled = roll(this.#who, ROLL.cutLength, this.#sent);
          const part = this.#network.amount("segmentCut", rolled, this, this.#who, this.#sent);
          length = 1 + Math.floor(part * (length - 1));
          cut = true;
        }
        if (this.#network.happens("connectionReset", rates.connectionReset, this, this.#who, this.#sent)) {
          this.cut(peer, false);
          return false;
        }
      }
      if (length > 0) {
        const bytes = this.#unsent.take(length);
        const arrival = peer.receive(bytes, cut, link.arrival(length, this.#who, this.#sent));
        this.flow?.data(this.#scheduler.now, this.#way, bytes, arrival);
        this.#sent += length;
      }
      if (length !== left) continue;
      this.cut(peer, true);
      return false;
    }
    return false;
  }

  /** How many bytes are left until the link breaks the connection. */
  private beforeBreak(link: Link): number {
    if (this.#breakEpoch !== link.breakEpoch) {
      this.#breakEpoch = link.breakEpoch;
      this.#breakFrom = this.#sent;
    }
    return link.breakAfter === Infinity ? Infinity : Math.max(0, link.breakAfter - (this.#sent - this.#breakFrom));
  }

  /** A fault has cut the line: written bytes are lost, and the peer does not get our end. */
  private sendNothing(): void {
    if (!this.is(CUT_END)) return;
    this.#unsent.clear();
    if (!this.is(FIN_WANTED) || this.is(FIN_SENT) || this.#handshake !== undefined) return;
    this.#flags |= FIN_SENT;
    if (this.is(ENDED)) this.letGo(undefined);
  }

  /** The direction of the flow in which this end receives. */
  private get wayIn(): Way {
    return this.#way === 0 ? 1 : 0;
  }

  /**
   * Handles a packet on its way to us. @returns When it arrives; Infinity if that is not known, or
   * it is lost
   */
  private receive(bytes: Uint8Array | undefined, cut: boolean, time: number): number {
    if (this.is(GONE | CUT)) return Infinity;
    let arrival = time;
    if (time < Infinity) {
      if (arrival < this.#lastArrival) arrival = this.#lastArrival;
      else this.#lastArrival = arrival;
    }
    this.#inbox.add(bytes, cut, arrival);
    this.arm();
    return arrival;
  }

  private dropInFlight(): void {
    const { now } = this.#scheduler;
    this.#inbox.dropInFlight(now);
    this.flow?.drop(now, this.wayIn);
  }

  /** Whether data that has arrived must not be given now. */
  private get held(): boolean {
    return this.is(PAUSED) && !this.is(CLOSING | FORCED) && this.#handshake === undefined;
  }

  /** Schedules the next arrival, if it may be given. */
  private arm(): void {
    const flags = this.#flags;
    if ((flags & (ARMED | GONE)) !== 0 || (this.#sink === undefined && (flags & CLOSING) === 0)) return;
    const { head } = this.#inbox;
    if (
      head === undefined ? this.#failure === undefined : ((flags & PAUSED) !== 0 && this.held) || head.time === Infinity
    ) return;
    this.#flags = flags | ARMED;
    const time = head === undefined ? 0 : head.time;
    if (this.#arrival === undefined) this.#arrival = this.#scheduler.taskAt(time, this, DELIVER, this.#program);
    else this.#scheduler.again(this.#arrival, time);
  }

  /** Delivers all arrived bytes, the end or the failure. It calls the sink at most once. */
  private deliver(): void {
    const flags = this.#flags &= ~ARMED;
    const { head } = this.#inbox;
    const scheduler = this.#scheduler;
    if (
      (flags & MAY_GIVE) === 0 && head !== undefined && head.bytes !== undefined && head.time <= scheduler.now &&
      this.#handshake === undefined
    ) {
      const bytes = this.takeArrived(scheduler.now);
      this.#network.journal.note(NOTE.data, scheduler.now, this, bytes.length);
      this.#sink?.onData(bytes);
      return;
    }
    if (this.gone) return;
    if (head === undefined) {
      scheduler.quiet = true;
      if (this.#failure !== undefined) this.letGo(this.#failure);
    } else if (this.held) {
      scheduler.quiet = true;
    } else if (head.time > scheduler.now) {
      scheduler.quiet = true;
      this.arm();
    } else if (head.bytes === undefined) this.deliverEnd();
    else this.deliverBytes(scheduler.now);
  }

  private deliverEnd(): void {
    this.#inbox.shift();
    this.#flags |= ENDED;
    if (this.#handshake !== undefined) return this.refuseTls("ERR_TLS_HANDSHAKE", "the peer has ended the connection");
    if (this.is(CUT_END) && this.#tls !== undefined && this.host.capabilities.tlsTruncation) {
      const tried = keeping(this.#remote);
      return this.failWith(tlsError("ERR_TLS_TRUNCATED", tried, "the stream was cut off"));
    }
    if (this.is(FIN_SENT)) this.letGo(undefined);
    else this.arm();
    if (this.is(CLOSING)) return;
    this.#network.note(NOTE.end, this, 0);
    this.#sink?.onEnd();
  }

  private deliverBytes(now: number): void {
    // The system does that, even if programs on it cannot.
    if (this.is(RELEASED)) return this.resetPeer();
    const bytes = this.takeArrived(now);
    if (this.#handshake !== undefined) this.#handshake.receive(bytes);
    else if (!this.is(CLOSING)) this.give(bytes);
  }

  /**
   * Takes arrived bytes. The peer is told that there is space, and the next arrival is scheduled.
   */
  private takeArrived(now: number): Uint8Array {
    const inbox = this.#inbox;
    const bytes = inbox.takeArrived(now, this.#in?.joins === true);
    this.flow?.read(now, this.wayIn, bytes.length);
    const sender = this.#peer;
    if (sender !== undefined && (sender.#unsent.bytes > 0 || (sender.#flags & OWED) !== 0)) {
      sender.hearOfRoom(this.host.receiveWindow - inbox.bytes, this.#out);
    }
    if (inbox.head !== undefined || this.#failure !== undefined) this.arm();
    return bytes;
  }

  private give(bytes: Uint8Array): void {
    this.#network.note(NOTE.data, this, bytes.length);
    this.#sink?.onData(bytes);
  }

  /**
   * The peer's inbox has space, and we have bytes to send. If the space is kilobytes, we are told
   * one latency later.
   */
  private hearOfRoom(room: number, link: Link | undefined): void {
    if (this.is(GONE | UPDATE_DUE) || link === undefined) return;
    if (room < UPDATE_BYTES && room < link.from.receiveWindow) return;
    this.#flags |= UPDATE_DUE;
    const { flow } = this;
    const show = flow === undefined ? undefined : () => flow.ack(this.#scheduler.now, this.wayIn);
    link.carry(this, UPDATE, this.#who, this.#sent, true, undefined, show);
  }

  private onUpdate(): void {
    this.#flags &= ~UPDATE_DUE;
    this.send();
    const scheduler = this.#scheduler;
    if (!this.is(OWED)) scheduler.quiet = true;
    else if (this.#program.pausedUntil > scheduler.now) this.soon(TELL_WRITABLE);
    else this.tellWritable();
  }

  private tellWritable(): void {
    if (
      !this.is(OWED) || this.is(GONE | FIN_WANTED) || this.#handshake !== undefined || this.#failure !== undefined
    ) return;
    if (SEND_BUFFER_BYTES - this.#unsent.bytes < UPDATE_BYTES) return;
    this.#flags &= ~(FULL | OWED);
    this.#network.note(NOTE.writable, this, 0);
    this.#sink?.onWritable();
  }

  /** A reset is sent to us. If the link is cut, it is lost: resets are not sent again. */
  private expectReset(link: Link, who: number, at: number): void {
    if (link.cut) return this.watch();
    this.dropInFlight();
    this.#flags |= RESET_DUE;
    link.carry(this, FAIL, who, at, false);
  }

  /** Sends to an end that no longer exists. If its host answers, the answer is a reset. */
  private askTheDead(peer: SimConnection): void {
    if (this.is(RESET_DUE) || this.#out === undefined || this.#in === undefined) return;
    if (this.deaf) return this.watch();
    this.#flags |= RESET_DUE;
    const there = this.#out.arrival(0, this.#who, this.#sent, "packetLate");
    const back = this.#in.arrival(0, peer.#who, this.#sent, "packetLate");
    const scheduler = this.#scheduler;
    if (there === Infinity || back === Infinity) return void (this.#flags &= ~RESET_DUE);
    this.flow?.rst(there, this.wayIn);
    scheduler.taskAt(there + back - scheduler.now, this, FAIL);
  }

  private get peerCrashed(): boolean {
    const peer = this.#peer;
    return peer !== undefined && peer.is(CRASHED);
  }

  /** Whether bytes that we send now get no answer. */
  private get deaf(): boolean {
    const out = this.#out;
    return out !== undefined && (out.cut || this.#in?.cut === true || (this.peerCrashed && out.to.down));
  }

  /** Whether sent or queued bytes need an answer. */
  private get needsAnswer(): boolean {
    return this.#unsent.bytes > 0 || (this.is(FIN_WANTED) && !this.is(FIN_SENT)) || this.#handshake !== undefined ||
      (this.peerCrashed && this.is(FIN_SENT) && !this.is(ENDED));
  }

  /** Fails after a timeout if something needs an answer. */
  private watch(): void {
    if (this.gone || this.#failure !== undefined || !this.is(CONNECTED)) return;
    const { tcpTimeoutMs, scheduler } = this.#network;
    if (this.needsAnswer) this.giveUpAfter(tcpTimeoutMs);
    else if (this.is(KEEP_ALIVE)) {
      this.giveUpAfter(
        Math.max(0, this.#lastArrival + this.#keepAliveMs - scheduler.now) + (this.#probesMs ?? tcpTimeoutMs),
      );
    }
  }

  private giveUpAfter(ms: number): void {
    const scheduler = this.#scheduler;
    const time = scheduler.now + ms;
    if (time === Infinity || (this.#timeout !== undefined && this.#timeout.time <= time)) return;
    this.endTimeout();
    this.#timeout = scheduler.taskAt(time, this, TIMED_OUT);
  }

  private endTimeout(): void {
    if (this.#timeout !== undefined) this.#scheduler.cancel(this.#timeout);
    this.#timeout = undefined;
  }

  private onTimeout(): void {
    this.#scheduler.quiet = true;
    this.#timeout = undefined;
    if (this.gone) return;
    if (this.is(CONNECTED)) {
      // The host of the peer may have restarted, so that it answers the last probe.
      const peer = this.#peer;
      if (peer !== undefined && this.peerCrashed && !this.deaf) return this.askTheDead(peer);
      return this.fail("ETIMEDOUT");
    }
    this.refuse(refusal(this.#tried, "ETIMEDOUT", "connect"));
  }

  /** A reset has arrived, or there was no answer for too long. */
  private fail(code: "ECONNRESET" | "ETIMEDOUT"): void {
    this.#scheduler.quiet = true;
    this.#flags &= ~RESET_DUE;
    if (this.gone || this.#failure !== undefined) return;
    if (this.#handshake === undefined) return this.failWith(refusal(keeping(this.#remote), code, "read"));
    this.#handshake = undefined;
    if (code === "ETIMEDOUT") return this.letGo(refusal(this.tlsAttempt, code, "read"));
    this.letGo(tlsError("ERR_TLS_HANDSHAKE", this.tlsAttempt, "the peer has reset the connection"));
  }

  private failWith(error: EventError): void {
    if (this.is(CLOSING)) return this.letGo(error);
    this.dropInFlight();
    // A program that waits to send gets the failure, although it does not read.
    if (this.#unsent.bytes > 0 || this.is(OWED)) this.#flags |= FORCED;
    this.#unsent.clear();
    this.endTimeout();
    this.#failure = error;
    this.arm();
  }

  /**
   * A fault ends the connection for both ends.
   *
   * @param after Whether data on its way arrives before
   */
  private cut(peer: SimConnection, after: boolean): void {
    const scheduler = this.#scheduler;
    const ends = after && this.#out?.breakEnds === true;
    for (const [end, link] of [[this, this.#in], [peer, this.#out]] as const) {
      if (end.gone || link === undefined) continue;
      if (!after) end.dropInFlight();
      const time = Math.max(link.arrival(0, end.#who, end.#sent, "packetLate"), after ? end.#lastArrival : 0);
      if (ends) {
        const arrival = end.receive(undefined, false, time);
        end.flow?.fin(scheduler.now, end.wayIn, arrival);
        continue;
      }
      end.flow?.rst(scheduler.now, end.wayIn);
      if (time < Infinity) scheduler.taskAt(time, end, FAIL);
      else link.carry(end, FAIL, end.#who, end.#sent, true);
    }
    for (const end of [this, peer]) {
      end.#flags |= ends ? CUT | CUT_END : CUT;
      end.sendLater();
    }
  }

  /** Drops everything that is scheduled or queued. */
  private forget(): void {
    this.uncount();
    this.#unsent.clear();
    this.#inbox.clear();
    this.#failure = undefined;
    this.endTimeout();
    this.host.connections.delete(this);
  }

  private letGo(error: EventError | undefined): void {
    invariant(!this.gone, "a connection goes once");
    this.#flags |= GONE;
    this.forget();
    this.tellClose(error);
  }

  /** The sink is dropped after the call, so that it is told once. A sink that is attached before is told too. */
  private tellClose(error: EventError | undefined): void {
    if (this.is(TELLING)) return;
    this.#flags |= TELLING;
    this.#closeError = error;
    this.soon(TELL_CLOSE);
  }

  private giveClose(): void {
    this.#flags &= ~TELLING;
    const sink = this.#sink;
    this.#sink = undefined;
    if (sink === undefined) {
      this.#scheduler.quiet = true;
      return;
    }
    this.#network.note(NOTE.close, this, 0, this.#closeError?.code);
    sink.onClose(this.#closeError);
  }
}

/** The default of Linux. */
const DEFAULT_KEEP_ALIVE_MS = 7_200_000;
/** The default of Node, if a program has chosen only the other one. */
const PROBE_INTERVAL_MS: SimBits = 1_000;
const PROBES = 10;

function labelOf(name: string, address: Address | undefined): string {
  return address === undefined ? name : show(address as { path?: string });
}
