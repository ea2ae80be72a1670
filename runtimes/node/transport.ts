/**
 * A connection of Node: a socket of `net`, or with TLS the TLS socket over it.
 *
 * @module
 */

import type { Bits } from "../../core/bits.ts";
import type { EventError } from "../../core/errors.ts";
import type { Loan } from "../../core/loan.ts";
import type { StartTlsOptions, TlsInfo, TlsRole } from "../../core/tls.ts";
import type { Address, TransportBinding, TransportSink } from "../../core/runtime.ts";
import {
  builtin,
  failure,
  host,
  inet,
  keeping,
  type Origin,
  show,
  SILENT,
  WRITE_AHEAD,
  WRITE_SLICE,
} from "../shared/host.ts";
import { infoOf, objection, preparedTls, secureEvent, secureOver } from "../shared/node_tls.ts";
import { copied } from "../shared/slab.ts";
import { establishedCode, handshakeError, tlsError, type TlsSettings } from "../shared/tls.ts";
import type { NodeFsSync, NodeOnread, NodeSocket } from "../types/node.ts";
import type { NodeSecureContext, NodeTlsSocket } from "../types/node_tls.ts";

const NOTHING = /* @__PURE__ */ new Uint8Array(0);

/**
 * The property of a Node object that holds ours. All connections share one set of listeners, which find the connection
 * by it.
 */
export const OURS: unique symbol = Symbol("trivent");

export interface OurSocket extends NodeSocket {
  [OURS]: NodeTransport;
}

/** The most bytes of one read. All connections share one buffer of this size, so that an idle one holds none. */
const READ_MAX = 64 * 1024;
/** A chunk of at most this many bytes is copied into memory that it shares with others. */
const SMALL = 4 * 1024;
/** A chunk of more than this many bytes takes the connection's own buffer with it, and is not copied. */
const LARGE = READ_MAX / 2;

/** The buffer that connections share, except those that receive much. */
let common: Uint8Array | undefined;
/** The next buffer of the connection whose read is being reported, if it changes. */
let next: Uint8Array | undefined;
/** The connection that was read last. */
let last: NodeTransport | undefined;

/**
 * The options that let Node read into our buffer. Otherwise Node allocates 64 KiB for each read, makes an ArrayBuffer
 * of the bytes and pushes it through a Readable. That costs about as much as all the work of the core for a line.
 */
export function onread(): NodeOnread {
  next = common ??= new Uint8Array(READ_MAX);
  return ONREAD;
}

/** Node calls this for the first buffer of a socket and after each read. `undefined` means the same buffer again. */
function nextBuffer(): Uint8Array | undefined {
  const buffer = next;
  next = undefined;
  return buffer;
}

/**
 * Node has read. A small chunk is copied, and the buffer is used again. If the shared buffer was filled, more is likely
 * to follow: the connection gets a buffer of its own, and a new one for each full one that is handed on. So large reads
 * are not copied.
 */
function onRead(this: OurSocket, length: number, buffer: Uint8Array): boolean {
  const ours = this[OURS];
  if ((ours.state & FINISHING) !== 0 && length < READ_MAX) ours.lookAgain();
  if ((ours.state & CLOSING) !== 0) return true;
  last = ours;
  const own = buffer !== common;
  let chunk: Uint8Array;
  if (own && length > LARGE) {
    chunk = buffer.subarray(0, length);
    next = new Uint8Array(READ_MAX);
  } else {
    chunk = length <= SMALL ? copied(buffer, length) : buffer.slice(0, length);
    if (own) next = common;
    else if (length === READ_MAX) next = new Uint8Array(READ_MAX);
  }
  const following = next;
  ours.sink.onData(chunk);
  next = following;
  return true;
}

const ONREAD: NodeOnread = { buffer: nextBuffer, callback: onRead };

// The state of a connection, as bits of `state`. An idle connection must take little memory and few cache lines. So
// each flag is a bit, all connections of a listener share one object, and rare fields are in another object.
/** Bits of the transport's state. */
export type NodeBits = Bits<"node">;

/** Connected, our FIN not requested, nothing failed. */
export const WRITABLE: NodeBits = 0x1;
/** Our FIN was requested. */
export const FINISHING: NodeBits = 0x2;
/** `write` has returned 0. */
export const WANTED: NodeBits = 0x4;
/** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
export const CLOSING: NodeBits = 0x8;
/** After `release()` or `reset()`: a failure is not reported any more. */
export const DROPPED: NodeBits = 0x10;
/** A client that is not connected yet. */
export const CONNECTING: NodeBits = 0x20;
/** `onClose` was called. */
export const CLOSED: NodeBits = 0x40;
/** From `startTls()`, or from the accept of a TLS listener, to the end of the handshake. */
export const HANDSHAKING: NodeBits = 0x80;
/** Reading is to be paused after the handshake. */
export const PAUSED: NodeBits = 0x100;
/** Node has said that the handshake is over, and `secured()` follows. */
const SHAKEN: NodeBits = 0x200;
/** Its end may be a reset although another connection was read meanwhile: see `wasReset`. */
const SUSPECT: NodeBits = 0x400;
/** Not read until the next turn of Node's loop: see `lookAgain`. */
const LOOKING: NodeBits = 0x800;

/** State that only some connections need. */
class Rare {
  raw: OurSocket | undefined = undefined;
  tls: TlsInfo | undefined = undefined;
  error: EventError | undefined = undefined;
}

export class NodeTransport implements TransportBinding {
  readonly origin: Origin;
  state: NodeBits = 0;
  private rare: Rare | undefined = undefined;
  /** The socket that is read and written: with TLS, the TLS socket. */
  socket: OurSocket | undefined = undefined;
  sink: TransportSink = SILENT;
  local: Address | undefined = undefined;
  remote: Address | undefined = undefined;

  constructor(origin: Origin) {
    this.origin = origin;
    origin.runtime.openHandles++;
  }

  /** Connected, our FIN not requested, nothing failed. */
  get writable(): boolean {
    return (this.state & WRITABLE) !== 0;
  }

  /** Our FIN was requested. */
  get finishing(): boolean {
    return (this.state & FINISHING) !== 0;
  }

  /** `write` has returned 0. */
  get wanted(): boolean {
    return (this.state & WANTED) !== 0;
  }

  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  get closing(): boolean {
    return (this.state & CLOSING) !== 0;
  }

  /** After `release()` or `reset()`: a failure is not reported any more. */
  get dropped(): boolean {
    return (this.state & DROPPED) !== 0;
  }

  /** A client that is not connected yet. */
  get connecting(): boolean {
    return (this.state & CONNECTING) !== 0;
  }

  /** `onClose` was called. */
  get closed(): boolean {
    return (this.state & CLOSED) !== 0;
  }

  /** From `startTls()`, or from the accept of a TLS listener, to the end of the handshake. */
  get handshaking(): boolean {
    return (this.state & HANDSHAKING) !== 0;
  }

  /** Whether its end may be a reset. */
  get suspect(): boolean {
    return last === this || (this.state & SUSPECT) !== 0;
  }

  /** With TLS: the plain socket. */
  get raw(): OurSocket | undefined {
    return this.rare?.raw;
  }

  set raw(raw: OurSocket | undefined) {
    this.more.raw = raw;
  }

  /** The result of the handshake. */
  get tls(): TlsInfo | undefined {
    return this.rare?.tls;
  }

  set tls(tls: TlsInfo | undefined) {
    this.more.tls = tls;
  }

  /** Why the connection failed. */
  get error(): EventError | undefined {
    return this.rare?.error;
  }

  set error(error: EventError | undefined) {
    this.more.error = error;
  }

  private get more(): Rare {
    return this.rare ??= new Rare();
  }

  adopt(socket: OurSocket): void {
    this.socket = socket;
    socket[OURS] = this;
    socket.on("drain", onDrain).on("end", onEnd).on("error", onError).on("close", onClose);
  }

  /** Reads the addresses now, since Node has none after the handle is closed. If `local` is given, it is not read. */
  connected(local?: Address): void {
    const socket = this.socket!;
    this.state &= ~CONNECTING;
    if (!this.finishing) this.state |= WRITABLE;
    const { unixPath, to } = this.origin;
    if (unixPath === undefined) {
      this.local = local ?? inet(socket.localAddress, socket.localPort);
      this.remote = peerOf(socket);
    } else {
      this.local = { path: to === undefined ? unixPath : "" };
      this.remote = { path: to === undefined ? "" : unixPath };
    }
  }

  failed(reason: unknown, syscall: string, code?: string): void {
    this.state &= ~WRITABLE;
    if (this.handshaking) this.error ??= handshakeError(this.securing, reason);
    else if (this.raw !== undefined && establishedCode(reason) !== undefined) {
      this.error = tlsError("ERR_TLS_PROTOCOL", keeping(this.remote), reason);
    } else {this.error = failure(
        this.connecting ? `connect to ${show(this.origin.to!)}` : keeping(this.remote),
        reason,
        syscall,
        code,
      );}
  }

  get securing(): string {
    return `make a TLS connection with ${show((this.remote ?? this.origin.to ?? {}) as { path?: string })}`;
  }

  gone(): void {
    if (this.handshaking && this.error === undefined) this.failed("the peer has ended the connection", "handshake");
    this.state = this.state & ~(WRITABLE | HANDSHAKING) | CLOSED;
    if (last === this) last = undefined;
    this.origin.runtime.openHandles--;
    this.sink.onClose(this.dropped ? undefined : this.error);
  }

  /** Whether `write` can take bytes. If not, and it can later, `onWritable` will follow. */
  takes(): boolean {
    if ((this.state & (WRITABLE | WANTED)) !== WRITABLE) return false;
    if (this.socket!.writableLength < WRITE_AHEAD) return true;
    this.state |= WANTED;
    return false;
  }

  get countsLoans(): boolean {
    return true;
  }

  write(chunk: Uint8Array, loan?: Loan): number {
    if (!this.takes()) return 0;
    const socket = this.socket!;
    const { length } = chunk;
    socket.write(length <= WRITE_SLICE ? chunk : chunk.subarray(0, WRITE_SLICE));
    // If the system has all bytes, which is the usual case, Node does not hold the memory any more. TLS may.
    if (loan !== undefined && (socket.writableLength > 0 || this.raw !== undefined)) loan.seen = true;
    return length <= WRITE_SLICE ? length : WRITE_SLICE;
  }

  writev(chunks: readonly Uint8Array[]): number {
    if (!this.takes()) return 0;
    const socket = this.socket!;
    let left = WRITE_SLICE;
    socket.cork();
    for (const chunk of chunks) {
      const { length } = chunk;
      socket.write(length <= left ? chunk : chunk.subarray(0, left));
      left -= length;
      if (left <= 0) break;
    }
    socket.uncork();
    return left > 0 ? WRITE_SLICE - left : WRITE_SLICE;
  }

  pauseRead(): void {
    if (this.closing) return;
    this.state |= SUSPECT;
    this.state &= ~LOOKING;
    // Before the end of the handshake nothing listens for the data that a flowing socket would emit.
    if (this.handshaking) this.state |= PAUSED;
    else this.socket?.pause();
  }

  resumeRead(): void {
    if (this.closing) return;
    if (this.handshaking) this.state &= ~PAUSED;
    else if ((this.state & LOOKING) === 0) this.socket?.resume();
  }

  /**
   * Reads on in the next turn of Node's loop. If libuv read on in this one, it could take a reset for the peer's end: see
   * `wasReset`, which cannot tell them apart after our FIN. In the next turn libuv reads again, and is told of the reset.
   */
  lookAgain(): void {
    const socket = this.socket!;
    if (socket.isPaused()) return;
    this.state |= LOOKING;
    socket.pause();
    host.setImmediate(() => {
      if ((this.state & LOOKING) === 0) return;
      this.state &= ~LOOKING;
      socket.resume();
    });
  }

  shutdownWrite(): void {
    if (this.finishing || this.closed) return;
    this.state = this.state & ~WRITABLE | FINISHING;
    this.socket?.end();
  }

  close(): void {
    if (this.closing || this.closed) return;
    if (this.connecting || this.handshaking || this.socket === undefined) return this.reset();
    const socket = this.socket;
    this.shutdownWrite();
    this.state |= CLOSING;
    // Both directions are over then: Node closes the socket by itself once our output has left.
    if (socket.readableEnded) return;
    // Reading goes on, to drop the bytes and to see the peer's FIN. Without a 'data' listener nothing keeps the bytes.
    if ((this.state & LOOKING) === 0) socket.resume();
    // Once our output has been sent, a peer that does not finish must not keep the process alive.
    // The sending of our FIN keeps the process alive by itself.
    if (socket.writableLength === 0) socket.unref();
    else socket.once("finish", unrefThis);
  }

  release(): void {
    if (this.closed) return;
    this.close();
    this.state |= DROPPED;
    const socket = this.socket;
    if (socket === undefined) return;
    // Destroying the socket drops Node's queue, so the queue must be sent first.
    if (socket.writableFinished) socket.destroy();
    else socket.once("finish", destroyThis);
  }

  reset(): void {
    this.state = this.state & ~WRITABLE | CLOSING | DROPPED;
    const socket = this.socket;
    if (socket === undefined) return;
    if (this.connecting || this.origin.unixPath !== undefined) (this.raw ?? socket).destroy();
    else if (this.finishing && socket.writableLength === 0 && !socket.writableFinished) {
      // Our FIN is being sent. libuv refuses a RST meanwhile, and then Node never emits 'close' (libuv/libuv#2425).
      socket.once("finish", resetThis);
    } else resetThis.call(socket);
  }

  startTls(role: TlsRole, options: StartTlsOptions, unread?: Uint8Array): void {
    const raw = this.socket;
    if (raw === undefined || this.closing || this.closed) return;
    this.state = this.state & ~WRITABLE | HANDSHAKING;
    // Bytes that arrive from here on stay in Node's queue. The TLS socket takes them from there.
    raw.removeListener("data", onData).removeListener("end", onEnd).pause();
    const begin = (): void => {
      if (this.closing || this.closed) return;
      try {
        const { settings, context } = preparedTls(options, this.securing);
        // These come before the bytes that have arrived since.
        if (unread !== undefined) raw.unshift(unread);
        this.secure(role, settings, context);
      } catch (reason) {
        this.error ??= tlsError("ERR_TLS_OPTIONS", this.securing, reason);
        raw.destroy();
      }
    };
    // Not from inside a read callback of the socket that it replaces.
    if (raw.writableLength === 0) host.setImmediate(begin);
    else raw.write(NOTHING, begin);
  }

  /** Puts a TLS socket over the socket, and uses it from here on. */
  secure(role: TlsRole, settings: TlsSettings, context: NodeSecureContext): void {
    const raw = this.socket!;
    this.state = this.state & ~WRITABLE | HANDSHAKING;
    const socket = secureOver(raw, role, settings, context, WRITE_AHEAD);
    raw.removeListener("drain", onDrain).removeListener("end", onEnd);
    raw.removeListener("error", onError).removeListener("close", onClose);
    // The TLS socket reports a failure. Node requires a listener here, too.
    raw.on("error", ignore);
    this.raw = raw;
    this.adopt(socket as NodeTlsSocket & OurSocket);
    // Node emits this from inside OpenSSL's SSL_read(). The callback may write and reset. If the peer has just reset
    // the connection, Node then frees the session before SSL_read() returns, and the process ends with a SIGSEGV (Node
    // 20, 22 and 24). Remove when tests/conformance/tls_reset_laws.ts passes without it.
    socket.once(secureEvent(role), () => {
      this.state |= SHAKEN;
      host.setImmediate(() => this.secured(role, settings, socket));
    });
  }

  secured(role: TlsRole, settings: TlsSettings, socket: NodeTlsSocket): void {
    if (this.closing || this.closed || this.error !== undefined) return;
    const problem = objection(socket, role, settings);
    if (problem !== undefined && settings.rejectUnauthorized) {
      this.error = tlsError("ERR_TLS_CERT", this.securing, problem);
      socket.destroy();
      return;
    }
    this.tls = infoOf(socket, role, settings, problem === undefined);
    this.state &= ~HANDSHAKING;
    if (!this.finishing) this.state |= WRITABLE;
    if ((this.state & PAUSED) !== 0) {
      this.state &= ~PAUSED;
      socket.pause();
    }
    socket.on("data", onData);
    this.sink.onSecure();
  }

  setNoDelay(on: boolean): void {
    if (this.origin.unixPath === undefined) this.socket?.setNoDelay(on);
  }

  setKeepAlive(on: boolean, delayMs: number, intervalMs?: number, count?: number): void {
    if (this.origin.unixPath !== undefined) return;
    // Without a delay, Node ignores the others.
    const delay = delayMs === 0 && (intervalMs ?? count) !== undefined ? systemDelayMs() : delayMs;
    this.socket?.setKeepAlive(on, delay, intervalMs, count);
  }

  ref(): void {
    this.socket?.ref();
  }

  unref(): void {
    this.socket?.unref();
  }
}

export function onData(this: OurSocket, chunk: Uint8Array): void {
  const ours = this[OURS];
  ours.state |= SUSPECT;
  // Not the Buffer: we promise a Uint8Array, and `subarray`, `slice` and `toString` of a Buffer differ.
  if (!ours.closing) ours.sink.onData(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
}

function onEnd(this: OurSocket): void {
  const ours = this[OURS];
  if (ours.closing) {
    // The TLS socket would wait for ever: Node never reports a write that fails after the peer's reset (Node 20 to 26).
    if (ours.raw !== undefined && !this.writableFinished && wasReset(this)) {
      ours.failed(undefined, "write", "ECONNRESET");
      this.destroy();
    }
  } else if (ours.handshaking && (ours.state & SHAKEN) === 0) this.destroy();
  else if ((ours.handshaking || (ours.writable && ours.suspect)) && wasReset(this)) {
    ours.failed(undefined, "read", "ECONNRESET");
    this.destroy();
  } else if (ours.handshaking) {
    // The end comes behind the handshake, as it did on the wire.
    host.setImmediate(() => ours.closed || (ours.handshaking ? this.destroy() : onEnd.call(this)));
  } else ours.sink.onEnd();
}

function onDrain(this: OurSocket): void {
  const ours = this[OURS];
  if (!ours.wanted || !ours.writable) return;
  ours.state &= ~WANTED;
  ours.sink.onWritable();
}

function onError(this: OurSocket, reason: unknown): void {
  const ours = this[OURS];
  ours.failed(reason, (reason as { syscall?: string }).syscall ?? "write");
  // Bytes that wait because reading is paused would be lost with the socket, so they are read now. (Bytes in the kernel
  // are lost: when a write fails, Node closes the handle before it reports the failure.)
  for (let chunk = this.read(); chunk !== null; chunk = this.read()) onData.call(this, chunk);
}

function onClose(this: OurSocket): void {
  this[OURS].gone();
}

export function onConnect(this: OurSocket): void {
  const ours = this[OURS];
  ours.connected();
  ours.sink.onConnect();
}

function destroyThis(this: NodeSocket): void {
  this.destroy();
}

/** Resets the plain socket. That closes the TLS socket over it, too. */
function resetThis(this: OurSocket): void {
  (this[OURS].raw ?? this).resetAndDestroy();
}

function ignore(): void {}

/**
 * Reads the address from the handle. If the socket is asked, Node keeps an object with the answer for each connection.
 */
function peerOf(socket: NodeSocket): Address | undefined {
  if (socket._handle?.getpeername?.(peer) === 0) return inet(peer.address, peer.port);
  return inet(socket.remoteAddress, socket.remotePort);
}

/** Node writes the address of a peer into this. An object that has the properties already saves a fifth of the time. */
const peer: { address: string; family: string; port: number } = { address: "", family: "", port: 0 };

function unrefThis(this: NodeSocket): void {
  this.unref();
}

/**
 * Node 20 and 22 report a RST as a clean end if it arrives together with data or while reading is paused: libuv sees
 * POLLHUP after a partial read and reports EOF (libuv/libuv#2319, fixed by libuv/libuv#4997). A socket that was reset
 * has no remote address any more; one whose peer has finished still has one, unless we have finished, too: for that,
 * see `lookAgain`. Remove both when Node 22 is out of support.
 *
 * Such an end follows the data at once, so no other connection is read in between. Otherwise the question is left out:
 * it takes up to 3 us of a short connection.
 */
function wasReset(socket: NodeSocket): boolean {
  return (socket._handle?.getpeername?.(peer) ?? 0) !== 0;
}

const TWO_HOURS_MS = 7_200_000;

/** The time before the first probe by default: RFC 1122 asks for two hours, and Linux has a setting. */
function systemDelayMs(): number {
  try {
    const text = builtin<NodeFsSync>("node:fs").readFileSync("/proc/sys/net/ipv4/tcp_keepalive_time", "utf8");
    return Number(text) * 1000 || TWO_HOURS_MS;
  } catch {
    return TWO_HOURS_MS;
  }
}
