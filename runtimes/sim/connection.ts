/**
 * One end of a simulated stream connection.
 *
 * What one end takes goes through its send queue (at most {@linkcode SEND_BUFFER_BYTES}) into the other end's inbox,
 * in segments, each with the time at which it arrives. Bytes in the inbox, arrived or in flight, count against the
 * receiver's window ({@linkcode WINDOW_BYTES}): a receiver that pauses lets it fill up, then the send queue, and then
 * `write()` returns 0. An idle connection has nothing scheduled and both queues empty.
 *
 * @module
 */

import { type EventError, invariant } from "../../core/errors.ts";
import type { Address, TransportBinding, TransportSink } from "../../core/runtime.ts";
import type { StartTlsOptions, TlsInfo, TlsRole } from "../../core/tls.ts";
import { keeping, refusal, show } from "../shared/errors.ts";
import { tlsError } from "../shared/tls.ts";
import type { SimHostRuntime } from "./host.ts";
import type { Network } from "./network.ts";
import { type HandshakeOwner, SimHandshake } from "./tls.ts";
import { type Segment, SegmentQueue } from "./segment_queue.ts";

/** How many bytes one end takes ahead of the receiver's window. */
export const SEND_BUFFER_BYTES = 65_536;
/** How many bytes may be on their way to one end or wait in it. */
export const WINDOW_BYTES = 65_536;
/** The longest segment. */
export const SEGMENT_BYTES = 16_384;
/** A sender hears that there is room when there is so much, not sooner. No segment is longer: it can always leave. */
export const UPDATE_BYTES = 16_384;

/** The connection is established. */
const CONNECTED = 1;
/** The application does not want to read now. */
const PAUSED = 2;
/** Our direction is to be finished. */
const FIN_WANTED = 4;
/** The end of our direction is on its way to the peer. */
const FIN_SENT = 8;
/** The end of the peer's direction has arrived. */
const ENDED = 16;
/** What still arrives is dropped. */
const CLOSING = 32;
/** The application has let go; what was taken is still delivered, and what arrives is answered with a reset. */
const RELEASED = 64;
/** Nothing happens any more. */
const GONE = 128;
/** `write()` returned 0, the last time that it was called, and `onWritable` is owed. */
const OWED = 256;
/** The news of an opened window is on its way to us. */
const UPDATE_DUE = 512;
/** The arrival of the inbox's head is scheduled. */
const ARMED = 1024;
/** What arrived is given although the application paused: the connection has failed. */
const FORCED = 2048;
/** It is counted among the host's open handles. */
const COUNTED = 4096;
/** A fault has cut the line: nothing arrives any more but the news of it. */
const CUT = 8192;
/** The send queue was full: `write()` takes nothing until `onWritable` has said so, as on the real hosts. */
const FULL = 16_384;

/** The addresses of a connection, as one of its ends sees them. */
export interface Ends {
  /** Its own. */
  readonly local: Address;
  /** The other end's. */
  readonly remote: Address;
}

/** One end of a connection. */
export class SimConnection implements TransportBinding, HandshakeOwner {
  readonly #host: SimHostRuntime;
  /** Taken and not yet sent. */
  readonly #unsent: SegmentQueue = new SegmentQueue();
  /** Sent to us and not yet given. */
  readonly #inbox: SegmentQueue = new SegmentQueue();
  #flags = 0;
  #sink: TransportSink | undefined;
  #peer: SimConnection | undefined;
  #local: Address | undefined;
  #remote: Address | undefined;
  /** When the last thing that was sent to us arrives. */
  #lastArrival = 0;
  /** Why the connection failed, until it is told: what arrived before is given first. */
  #failure: EventError | undefined;
  /** The handshake of TLS that is under way. */
  #handshake: SimHandshake | undefined;
  #tls: TlsInfo | undefined;

  /**
   * Makes an end that is not connected.
   *
   * @param host The host it belongs to
   * @param sink Who hears of it; undefined until it is accepted
   */
  constructor(host: SimHostRuntime, sink: TransportSink | undefined) {
    this.#host = host;
    this.#sink = sink;
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

  /** Whether nothing happens on it any more. */
  get gone(): boolean {
    return (this.#flags & GONE) !== 0;
  }

  /** Whether nobody is given it any more: it waited to be accepted, and was reset before it said a word. */
  get lost(): boolean {
    return this.#is(GONE | RELEASED) || (this.#failure !== undefined && this.#inbox.head === undefined);
  }

  get #network(): Network {
    return this.#host.network;
  }

  write(chunk: Uint8Array): number {
    this.#network.scheduler.touch();
    if (chunk.length === 0 || !this.#canTake()) return 0;
    const taken = this.#take(chunk);
    this.#pump();
    return taken;
  }

  writev(chunks: readonly Uint8Array[]): number {
    this.#network.scheduler.touch();
    let taken = 0;
    for (const chunk of chunks) {
      if (chunk.length === 0) continue;
      if (taken === 0 && !this.#canTake()) return 0;
      if (this.#unsent.bytes === SEND_BUFFER_BYTES) break;
      taken += this.#take(chunk);
    }
    this.#pump();
    return taken;
  }

  pauseRead(): void {
    this.#flags |= PAUSED;
  }

  resumeRead(): void {
    this.#network.scheduler.touch();
    this.#flags &= ~PAUSED;
    this.#arm();
  }

  shutdownWrite(): void {
    this.#network.scheduler.touch();
    this.#flags |= FIN_WANTED;
    this.#pump();
  }

  close(): void {
    this.#network.scheduler.touch();
    if (this.#is(GONE | CLOSING)) return;
    this.#flags |= CLOSING | FIN_WANTED;
    if (!this.#is(CONNECTED)) return this.#letGo(undefined);
    if (this.#handshake !== undefined) return this.reset();
    if (this.#failure !== undefined) return this.#letGo(this.#failure);
    this.#pump();
    this.#arm();
  }

  release(): void {
    this.close();
    if (this.#is(GONE | RELEASED)) return;
    this.#flags |= RELEASED;
    this.#uncount();
    this.#tellClose(undefined);
  }

  reset(): void {
    this.#network.scheduler.touch();
    if (this.gone) return;
    const peer = this.#peer;
    this.#letGo(undefined);
    if (peer === undefined || peer.gone) return;
    peer.#inbox.dropInFlight(this.#network.scheduler.now);
    this.#network.after(() => peer.#fail());
  }

  setNoDelay(_on: boolean): void {}

  setKeepAlive(_on: boolean, _delayMs: number): void {}

  ref(): void {}

  unref(): void {}

  startTls(role: TlsRole, options: StartTlsOptions): void {
    if (this.#is(GONE | CLOSING)) return;
    this.#flags &= ~(OWED | FULL);
    this.expectTls(role, options);
    this.#handshake?.start();
    this.#arm();
  }

  /**
   * Makes the handshake of TLS what comes first, also on an end that is going to be accepted.
   *
   * @param role Who it is
   * @param options What it was given
   */
  expectTls(role: TlsRole, options: StartTlsOptions): void {
    this.#handshake = new SimHandshake(this, role, options);
  }

  sendRecord(bytes: Uint8Array): void {
    this.#unsent.push({ bytes, time: 0, next: undefined });
    this.#pump();
  }

  secured(info: TlsInfo, rest: Uint8Array): void {
    this.#handshake = undefined;
    this.#tls = info;
    const sink = this.#sink;
    sink?.onSecure();
    if (rest.length > 0 && !this.#is(GONE | CLOSING)) sink?.onData(rest);
    this.#pump();
    this.#arm();
  }

  refuseTls(code: "ERR_TLS_CERT" | "ERR_TLS_HANDSHAKE", why: string): void {
    const tried = `make a TLS connection with ${show((this.#remote ?? {}) as { path?: string })}`;
    const error = tlsError(code, tried, why);
    // The peer is told, as with release().
    this.#handshake = undefined;
    this.#flags |= CLOSING | FIN_WANTED | RELEASED;
    this.#uncount();
    this.#tellClose(error);
    this.#pump();
  }

  /**
   * Ends an attempt to connect that failed.
   *
   * @param error Why
   */
  refuse(error: EventError): void {
    invariant(!this.#is(CONNECTED), "only an attempt can be refused");
    if (!this.gone) this.#letGo(error);
  }

  /**
   * Joins two ends. The accepting end gives nothing before `attach()`.
   *
   * @param client The end that connected
   * @param server The end that is going to be accepted
   * @param ends The addresses, as the client sees them
   * @param there The addresses, as the accepting end sees them
   * @param acceptTime When the accepting host learns that the connection is there; no data arrives before it
   */
  static join(client: SimConnection, server: SimConnection, ends: Ends, there: Ends, acceptTime: number): void {
    invariant(!client.#is(CONNECTED | GONE), "an attempt connects once");
    client.#peer = server;
    client.#local = ends.local;
    client.#remote = ends.remote;
    server.#local = there.local;
    server.#remote = there.remote;
    server.#peer = client;
    server.#lastArrival = acceptTime;
    client.#flags |= CONNECTED;
    server.#flags |= CONNECTED;
  }

  /** Tells the client's sink that it is connected. */
  announce(): void {
    this.#pump();
    if (this.#is(OWED)) this.#network.soon(() => this.#tellWritable());
    this.#sink?.onConnect();
  }

  /** Counts it among the open handles of its host. */
  count(): void {
    this.#flags |= COUNTED;
    this.#host.handles++;
  }

  /**
   * Gives an accepted end its sink; from here on it is told what happens.
   *
   * @param sink Who hears of it
   */
  attach(sink: TransportSink): void {
    invariant(this.#sink === undefined, "an accepted connection gets one sink");
    this.#sink = sink;
    this.#arm();
  }

  #is(flags: number): boolean {
    return (this.#flags & flags) !== 0;
  }

  #uncount(): void {
    if (this.#is(COUNTED)) this.#host.handles--;
    this.#flags &= ~COUNTED;
  }

  #canTake(): boolean {
    if (this.#is(GONE | FIN_WANTED) || this.#handshake !== undefined) return false;
    if (this.#failure !== undefined) {
      this.#flags |= FORCED;
      this.#arm();
      return false;
    }
    if (this.#is(CONNECTED)) {
      if (!this.#is(FULL) && this.#unsent.bytes < SEND_BUFFER_BYTES) {
        this.#flags &= ~OWED;
        return true;
      }
      this.#flags |= FULL;
    }
    this.#flags |= OWED;
    return false;
  }

  /** Copies as much of a chunk as there is room for: the writer may use its memory again at once. */
  #take(chunk: Uint8Array): number {
    const taken = Math.min(chunk.length, SEND_BUFFER_BYTES - this.#unsent.bytes);
    for (let start = 0; start < taken;) {
      const length = this.#network.segmentLength(Math.min(SEGMENT_BYTES, taken - start));
      const bytes = new Uint8Array(length);
      bytes.set(chunk.subarray(start, start + length));
      this.#unsent.push({ bytes, time: 0, next: undefined });
      start += length;
    }
    return taken;
  }

  /** Sends what the peer's window has room for, and the end of our direction after all of it. */
  #pump(): void {
    const peer = this.#peer;
    if (peer === undefined || this.#is(GONE)) return;
    for (;;) {
      const segment = this.#unsent.head;
      if (segment?.bytes === undefined) break;
      // A peer that has reset the connection acknowledges nothing, so that its window is full until we hear of the reset.
      if (peer.gone || peer.#inbox.bytes + segment.bytes.length > WINDOW_BYTES) break;
      this.#unsent.shift();
      peer.#receive(segment);
      if (this.#network.cutsConnection()) return this.#cut(peer);
    }
    if (this.#unsent.head !== undefined || this.#is(FIN_SENT) || !this.#is(FIN_WANTED)) return;
    if (this.#handshake !== undefined) return;
    this.#flags |= FIN_SENT;
    peer.#receive({ bytes: undefined, time: 0, next: undefined });
    if (this.#is(ENDED)) this.#letGo(undefined);
  }

  #receive(segment: Segment): void {
    if (this.#is(GONE | CUT)) return;
    segment.time = Math.max(this.#network.arrival(), this.#lastArrival);
    this.#lastArrival = segment.time;
    this.#inbox.push(segment);
    this.#arm();
  }

  /** Whether what has arrived is to stay where it is. */
  get #held(): boolean {
    return this.#is(PAUSED) && !this.#is(CLOSING | FORCED) && this.#handshake === undefined;
  }

  /** Schedules the arrival of what comes next, if it may be given. */
  #arm(): void {
    if (this.#is(ARMED | GONE) || (this.#sink === undefined && !this.#is(CLOSING))) return;
    const { head } = this.#inbox;
    if (head === undefined ? this.#failure === undefined : this.#held) return;
    this.#flags |= ARMED;
    this.#network.scheduler.at(head?.time ?? 0, () => this.#deliver());
  }

  /** Gives what has arrived: all the bytes, or the end, or the failure. At most one call of the sink. */
  #deliver(): void {
    this.#flags &= ~ARMED;
    const { head } = this.#inbox;
    const { now } = this.#network.scheduler;
    if (this.gone) return;
    if (head === undefined) {
      if (this.#failure !== undefined) this.#letGo(this.#failure);
    } else if (!this.#held) {
      if (head.time > now) this.#arm();
      else if (head.bytes === undefined) this.#deliverEnd();
      else this.#deliverBytes(now);
    }
  }

  #deliverEnd(): void {
    this.#inbox.shift();
    this.#flags |= ENDED;
    if (this.#handshake !== undefined) return this.refuseTls("ERR_TLS_HANDSHAKE", "the peer has ended the connection");
    if (this.#is(FIN_SENT)) this.#letGo(undefined);
    else this.#arm();
    if (!this.#is(CLOSING)) this.#sink?.onEnd();
  }

  #deliverBytes(now: number): void {
    if (this.#is(RELEASED)) return this.reset();
    const sender = this.#peer;
    const bytes = this.#inbox.takeArrived(now, this.#network.joinsSegments);
    if (sender !== undefined) sender.#hearOfRoom(WINDOW_BYTES - this.#inbox.bytes);
    this.#arm();
    if (this.#handshake !== undefined) this.#handshake.receive(bytes);
    else if (!this.#is(CLOSING)) this.#sink?.onData(bytes);
  }

  /** The peer's inbox has room: when it is room for kilobytes, we hear of it one latency later. */
  #hearOfRoom(room: number): void {
    if (room < UPDATE_BYTES || this.#is(GONE | UPDATE_DUE)) return;
    if (this.#unsent.head === undefined && !this.#is(OWED)) return;
    this.#flags |= UPDATE_DUE;
    this.#network.after(() => {
      this.#flags &= ~UPDATE_DUE;
      this.#pump();
      this.#tellWritable();
    });
  }

  #tellWritable(): void {
    if (
      !this.#is(OWED) || this.#is(GONE | FIN_WANTED) || this.#handshake !== undefined || this.#failure !== undefined
    ) return;
    if (SEND_BUFFER_BYTES - this.#unsent.bytes < UPDATE_BYTES) return;
    this.#flags &= ~(FULL | OWED);
    this.#sink?.onWritable();
  }

  /** A reset has arrived. */
  #fail(): void {
    if (this.gone || this.#failure !== undefined) return;
    if (this.#handshake !== undefined) return this.refuseTls("ERR_TLS_HANDSHAKE", "the peer has reset the connection");
    const error = refusal(keeping(this.#remote), "ECONNRESET", "read");
    if (this.#is(CLOSING)) return this.#letGo(error);
    this.#inbox.dropInFlight(this.#network.scheduler.now);
    this.#unsent.clear();
    this.#failure = error;
    this.#arm();
  }

  /** A fault: what is on its way is lost, and each end hears of a reset. */
  #cut(peer: SimConnection): void {
    for (const end of [this, peer]) {
      end.#inbox.dropInFlight(this.#network.scheduler.now);
      end.#flags |= CUT;
      this.#network.after(() => end.#fail());
    }
  }

  #letGo(error: EventError | undefined): void {
    invariant(!this.gone, "a connection goes once");
    this.#flags |= GONE;
    this.#uncount();
    this.#unsent.clear();
    this.#inbox.clear();
    this.#peer = this.#failure = undefined;
    this.#tellClose(error);
  }

  /** The sink is forgotten when it was told, so that it is told once; one that is attached until then is told too. */
  #tellClose(error: EventError | undefined): void {
    this.#network.soon(() => {
      const sink = this.#sink;
      this.#sink = undefined;
      sink?.onClose(error);
    });
  }
}
