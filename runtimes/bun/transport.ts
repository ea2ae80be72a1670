/**
 * A connection of Bun, and the handlers that all of them share.
 *
 * @module
 */

import type { Bits } from "../../core/bits.ts";
import { Loan } from "../../core/loan.ts";
import type { EventError } from "../../core/errors.ts";
import type { StartTlsOptions, TlsInfo, TlsRole } from "../../core/tls.ts";
import type { Address, TransportBinding, TransportSink } from "../../core/runtime.ts";
import {
  failure,
  host,
  type HostRuntime,
  inet,
  keeping,
  type Origin,
  show,
  SILENT,
  WRITE_SLICE,
} from "../shared/host.ts";
import { copied } from "../shared/slab.ts";
import { preparedTls } from "../shared/node_tls.ts";
import { handshakeError, tlsError, type TlsSettings } from "../shared/tls.ts";
import type { BunHandlers, BunSocket } from "../types/bun.ts";
import type { BunListenerBinding } from "./listener.ts";
import { infoOf, isTlsFailure, objection, preparedFor } from "./tls.ts";
import { TlsOverSocket } from "./tls_over_socket.ts";

/**
 * JavaScriptCore makes the ArrayBuffer of a typed array only when `buffer` is read or a view is made. That costs about
 * 1 us for each chunk. Of a chunk of at most this many bytes the core makes no view; it copies.
 */
export const FEW: number = 512;
/**
 * A chunk of at most this many bytes is copied into memory that has its ArrayBuffer already, at a tenth of the cost.
 */
const SMALL = 2048;

// The state of a connection, as bits of `state`. An idle connection must take little memory and few cache lines. So
// each flag is a bit, all connections of a listener share one object, and rare fields are in another object.
/** Bits of the transport's state. */
export type BunBits = Bits<"bun">;

/** Connected, our FIN not requested, nothing failed. */
export const WRITABLE: BunBits = 0x1;
/** The kernel has taken only a part. Writing continues at `drain`. */
const BLOCKED: BunBits = 0x2;
/** `write` has returned 0. */
export const WANTED: BunBits = 0x4;
/** Reading is paused. */
export const PAUSED: BunBits = 0x8;
/** Bytes have arrived although reading is paused: the connection was reset. */
const LATE: BunBits = 0x10;
/** Some of these bytes were dropped. */
export const CUT: BunBits = 0x20;
/** Our FIN was requested. */
export const FINISHING: BunBits = 0x40;
/** The peer's FIN was reported. */
export const ENDED: BunBits = 0x80;
/** `write` has met a broken connection. */
export const BROKEN: BunBits = 0x100;
/** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
export const CLOSING: BunBits = 0x200;
/** After `release()` or `reset()`: a failure is not reported any more. */
export const DROPPED: BunBits = 0x400;
/** `onClose` is scheduled, or was called. */
export const CLOSED: BunBits = 0x800;
/** Set while connecting: Nagle's algorithm. */
export const NAGLE: BunBits = 0x1000;
/** Set while connecting: do not keep the process alive. */
export const UNREFERENCED: BunBits = 0x2000;
/** With TLS: the peer had finished before we did, and after that only a close_notify arrived. */
const FAREWELL: BunBits = 0x4000;

/** State that only some connections need. */
class Rare {
  securing: { readonly role: TlsRole; readonly settings: TlsSettings } | undefined = undefined;
  tls: TlsInfo | undefined = undefined;
  refused: EventError | undefined = undefined;
  keepAlive: number | undefined = undefined;
  writtenAtEnd = -1;
}

/** The memory that chunks are gathered into. All connections share it, because Bun's `write` keeps nothing. */
let scratch: Loan | undefined;

/** A connection. */
export class BunTransport implements TransportBinding {
  readonly origin: Origin;
  state: BunBits = 0;
  private rare: Rare | undefined = undefined;
  socket: BunSocket | undefined = undefined;
  sink: TransportSink;
  local: Address | undefined = undefined;
  remote: Address | undefined = undefined;

  constructor(origin: Origin, sink: TransportSink) {
    this.origin = origin;
    this.sink = sink;
    origin.runtime.openHandles++;
  }

  /** Reading is paused. */
  get paused(): boolean {
    return (this.state & PAUSED) !== 0;
  }

  /** Some of these bytes were dropped. */
  get cut(): boolean {
    return (this.state & CUT) !== 0;
  }

  /** Our FIN was requested. */
  get finishing(): boolean {
    return (this.state & FINISHING) !== 0;
  }

  /** The peer's FIN was reported. */
  get ended(): boolean {
    return (this.state & ENDED) !== 0;
  }

  /** `write` has met a broken connection. */
  get broken(): boolean {
    return (this.state & BROKEN) !== 0;
  }

  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  get closing(): boolean {
    return (this.state & CLOSING) !== 0;
  }

  /** After `release()` or `reset()`: a failure is not reported any more. */
  get dropped(): boolean {
    return (this.state & DROPPED) !== 0;
  }

  /** `onClose` is scheduled, or was called. */
  get closed(): boolean {
    return (this.state & CLOSED) !== 0;
  }

  /** With TLS: the peer had finished before we did, and after that only a close_notify arrived. */
  get farewell(): boolean {
    return (this.state & FAREWELL) !== 0;
  }

  /** The TLS handshake under way. */
  get securing(): Rare["securing"] {
    return this.rare?.securing;
  }

  set securing(securing: Rare["securing"]) {
    this.more.securing = securing;
  }

  /** The result of the handshake. */
  get tls(): TlsInfo | undefined {
    return this.rare?.tls;
  }

  set tls(tls: TlsInfo | undefined) {
    this.more.tls = tls;
  }

  /** Why the handshake failed. */
  get refused(): EventError | undefined {
    return this.rare?.refused;
  }

  set refused(refused: EventError | undefined) {
    this.more.refused = refused;
  }

  /** Set while connecting: keep-alive after this many milliseconds. */
  get keepAlive(): number | undefined {
    return this.rare?.keepAlive;
  }

  set keepAlive(delayMs: number | undefined) {
    this.more.keepAlive = delayMs;
  }

  /** With TLS: how many bytes we had sent when the peer finished. */
  get writtenAtEnd(): number {
    return this.rare?.writtenAtEnd ?? -1;
  }

  set writtenAtEnd(bytes: number) {
    this.more.writtenAtEnd = bytes;
  }

  private get more(): Rare {
    return this.rare ??= new Rare();
  }

  /** Reads the addresses now, since a closed Bun socket has none. If `local` is given, it is not read. */
  opened(socket: BunSocket, local?: Address): void {
    this.socket = socket;
    socket.data = this;
    const { unixPath, to } = this.origin;
    if (unixPath === undefined) {
      this.local = local ?? inet(socket.localAddress, socket.localPort);
      this.remote = inet(socket.remoteAddress, socket.remotePort);
    } else {
      this.local = { path: to === undefined ? unixPath : "" };
      this.remote = { path: to === undefined ? "" : unixPath };
    }
    if (!this.finishing) this.state |= WRITABLE;
  }

  /**
   * A connection attempt has succeeded. Bun cannot abort an attempt (oven-sh/bun#13126), so one that was cancelled in
   * the meantime is closed here.
   */
  connected(socket: BunSocket): void {
    // upgradeTLS() calls `open` for the socket that it returns.
    if (this.securing !== undefined) return;
    this.opened(socket);
    if (this.closed) {
      socket.terminate();
      return;
    }
    if ((this.state & NAGLE) !== 0) socket.setNoDelay(false);
    if (this.keepAlive !== undefined) socket.setKeepAlive(true, this.keepAlive);
    if ((this.state & UNREFERENCED) !== 0) socket.unref();
    if (this.paused) socket.pause();
    if (this.finishing) socket.shutdown();
    this.sink.onConnect();
  }

  /**
   * Bun has closed the socket. Bun also calls this from inside `terminate()` and `write()`, so the report comes later.
   */
  gone(reason: unknown): void {
    this.origin.runtime.openHandles--;
    if (this.closed) return;
    this.state = this.state & ~WRITABLE | CLOSED;
    host.queueMicrotask(() => this.report(reason));
  }

  report(reason: unknown): void {
    if (this.dropped) return this.sink.onClose();
    if (this.refused !== undefined) return this.sink.onClose(this.refused);
    if (this.securing !== undefined) {
      return this.sink.onClose(
        handshakeError(this.doing, reason ?? "the peer has ended the connection"),
      );
    }
    if ((reason === undefined || this.farewell) && this.finishing && !this.broken && !this.cut) {
      // After shutdown() Bun reports the peer's FIN by `close` only, not by `end`.
      if (!this.ended && !this.closing) this.sink.onEnd();
      return this.sink.onClose();
    }
    // Bun gives no reason for a failed write. If the peer had not finished before, it has reset the connection.
    const code = reason !== undefined ? undefined : this.broken && this.ended ? "EPIPE" : "ECONNRESET";
    this.sink.onClose(failure(keeping(this.remote), reason, this.broken ? "write" : "read", code));
  }

  /** Whether `write` can take bytes. If not, and it can later, `onWritable` will follow. */
  takes(): boolean {
    if ((this.state & (WRITABLE | BLOCKED)) === WRITABLE) return true;
    if ((this.state & WRITABLE) !== 0) this.state |= WANTED;
    return false;
  }

  write(chunk: Uint8Array): number {
    if (!this.takes()) return 0;
    return this.took(this.socket!.write(chunk), chunk.length);
  }

  writePart(memory: Uint8Array, start: number, end: number): number {
    if (!this.takes()) return 0;
    const length = end - start;
    return this.took(this.socket!.write(memory, start, length), length);
  }

  private took(n: number, length: number): number {
    if (n === length) return n;
    if (n < 0) {
      this.state = this.state & ~WRITABLE | BROKEN;
      // `close` has been called, or will be when the rest is read. But resume() after this leaves the descriptor open
      // for ever, even though `close` is called (Bun 1.4.5). So bytes that wait behind a pause are dropped. Remove when
      // a reset in the middle of many writes (tests/programs/faults.test.ts) leaves no sockets without it.
      if (this.paused) host.queueMicrotask(() => this.socket!.terminate());
      return 0;
    }
    this.state = this.state & ~WANTED | BLOCKED | (n === 0 ? WANTED : 0);
    if (this.ended) this.hold();
    return n;
  }

  /** Bun's `write` keeps nothing. TLS of Node's kind does. */
  get countsLoans(): boolean {
    return !(this.socket instanceof TlsOverSocket);
  }

  gather(bytes: number): Loan | undefined {
    if (!this.takes()) return undefined;
    const loan = this.countsLoans
      ? scratch ??= new Loan(new Uint8Array(WRITE_SLICE), () => {})
      : new Loan(new Uint8Array(bytes), () => {});
    loan.users = 1;
    return loan;
  }

  pauseRead(): void {
    if (this.paused || this.closing || this.closed || this.broken) return;
    this.state |= PAUSED;
    // A handshake goes on.
    if (this.securing === undefined) this.socket?.pause();
  }

  resumeRead(): void {
    if (!this.paused || this.closed || this.broken) return;
    this.state &= ~(PAUSED | LATE);
    this.socket?.resume();
  }

  shutdownWrite(): void {
    if (this.finishing || this.closed) return;
    this.state = this.state & ~WRITABLE | FINISHING;
    // A peer that has closed its socket answers our close_notify with a reset. That says nothing about the bytes that
    // we had sent before its end. A reset that answers those bytes is reported earlier.
    if (this.ended && this.tls !== undefined && this.socket?.bytesWritten === this.writtenAtEnd) this.state |= FAREWELL;
    // Bun has no queue: the kernel has all bytes that were taken.
    this.socket?.shutdown();
  }

  close(): void {
    if (this.closing || this.closed) return;
    if (this.socket === undefined || this.securing !== undefined) return this.reset();
    this.shutdownWrite();
    this.state |= CLOSING;
    if (this.closed) return;
    this.resumeRead();
    // Once our output has been sent, a peer that does not finish must not keep the process alive.
    this.socket.unref();
  }

  /** Here `end()` is right: it is close(2) after `shutdown()`, and the kernel goes on delivering. */
  release(): void {
    if (this.socket === undefined || this.securing !== undefined) return this.reset();
    this.state |= CLOSING | DROPPED;
    this.shutdownWrite();
    if (!this.closed) this.socket.end();
  }

  reset(): void {
    this.state = this.state & ~WRITABLE | CLOSING | DROPPED;
    if (this.closed) return;
    if (this.socket !== undefined) return this.socket.terminate();
    this.state |= CLOSED;
    host.queueMicrotask(() => this.report(undefined));
  }

  get handshaking(): boolean {
    return this.securing !== undefined;
  }

  get doing(): string {
    return `make a TLS connection with ${show((this.remote ?? this.origin.to ?? {}) as { path?: string })}`;
  }

  startTls(role: TlsRole, options: StartTlsOptions, unread?: Uint8Array): void {
    if (this.socket === undefined || this.closing || this.closed) return;
    const plain = this.socket;
    try {
      const { settings, tls } = preparedFor(role, options);
      this.securing = { role, settings };
      this.state &= ~WRITABLE;
      if (unread !== undefined) {
        const { context } = preparedTls(options, this.doing);
        // upgradeTLS() takes only bytes that have not been read.
        const lower = new BunTransport({ ...this.origin, runtime: UNCOUNTED }, SILENT);
        lower.opened(plain, this.local);
        this.socket = new TlsOverSocket(lower, role, settings, context, unread, HANDLERS);
        this.socket.data = this;
        return;
      }
      const [raw, secure] = plain.upgradeTLS({
        data: this,
        tls,
        isServer: role === "server",
        socket: HANDLERS,
      });
      // The encrypted bytes are reported too.
      plain.data = raw.data = CIPHERTEXT;
      this.socket = secure;
      secure.data = this;
    } catch (reason) {
      this.refuse(tlsError("ERR_TLS_OPTIONS", this.doing, reason));
    }
  }

  /** The handshake has ended. Bun itself closes a connection that it refuses. */
  shook(success: boolean, reason: unknown): void {
    const { role, settings } = this.securing!;
    const socket = this.socket!;
    if (!success) {
      const error = handshakeError(this.doing, reason);
      // Bun reports a wrong name as a failure even if it was told not to refuse. The connection then goes on.
      if (error.code !== "ERR_TLS_CERT") return this.refuse(error);
    }
    const problem = objection(socket, role, settings, success, reason);
    if (problem !== undefined && settings.rejectUnauthorized) {
      return this.refuse(tlsError("ERR_TLS_CERT", this.doing, problem));
    }
    this.tls = infoOf(socket, role, settings, problem === undefined);
    this.securing = undefined;
    if (!this.finishing) this.state |= WRITABLE;
    if (this.paused) socket.pause();
    this.sink.onSecure();
  }

  refuse(error: EventError): void {
    this.refused = error;
    this.socket!.terminate();
  }

  setNoDelay(on: boolean): void {
    if (on) this.state &= ~NAGLE;
    else this.state |= NAGLE;
    if (this.origin.unixPath === undefined && !this.closed) this.socket?.setNoDelay(on);
  }

  setKeepAlive(on: boolean, delayMs: number): void {
    this.keepAlive = on ? delayMs : undefined;
    if (this.origin.unixPath === undefined && !this.closed) this.socket?.setKeepAlive(on, delayMs);
  }

  /**
   * After the peer's FIN only output that waits holds the process, as on Node and Deno. Bun would hold it for as long as
   * the socket is open, and with TLS it may: it keeps records that the system has not taken, and does not tell.
   */
  hold(): void {
    if (this.closed || this.closing) return;
    const done = (this.state & (ENDED | BLOCKED)) === ENDED && !this.keepsRecords;
    if (done || (this.state & UNREFERENCED) !== 0) this.socket?.unref();
    else this.socket?.ref();
  }

  private get keepsRecords(): boolean {
    return this.tls !== undefined || this.securing !== undefined || this.sink instanceof TlsOverSocket;
  }

  ref(): void {
    this.state &= ~UNREFERENCED;
    this.hold();
  }

  unref(): void {
    this.state |= UNREFERENCED;
    if (!this.closed) this.socket?.unref();
  }
}

/** The runtime for sockets under a TLS socket. They are not counted. */
const UNCOUNTED = { openHandles: 0 } as HostRuntime;

/** The owner of the socket under a TLS socket. It ignores every event. */
class Ciphertext extends BunTransport {
  override state = CLOSING | CLOSED;
  override gone(): void {}
}

const CIPHERTEXT = /* @__PURE__ */ new Ciphertext(
  { runtime: UNCOUNTED, to: undefined, unixPath: undefined },
  SILENT,
);

/** One table of handlers for all sockets. The owner of a socket is its `data`: at first that of the listener. */
export const HANDLERS: BunHandlers = {
  // Not Buffers: we promise a Uint8Array, and `subarray`, `slice` and `toString` of a Buffer differ.
  binaryType: "uint8array",
  open(socket) {
    const owner = socket.data as BunListenerBinding | BunTransport;
    if (owner instanceof BunTransport) return owner.connected(socket);
    const ours = new BunTransport(owner, SILENT);
    ours.opened(socket, owner.fixed);
    if (owner.settings !== undefined) {
      ours.securing = { role: "server", settings: owner.settings };
      ours.state &= ~WRITABLE;
    }
    ours.sink = owner.sink.onAccept(ours);
  },
  data(socket, chunk) {
    const ours = socket.data as BunTransport;
    const { state } = ours;
    if ((state & CLOSING) !== 0) return;
    if ((state & (PAUSED | FINISHING)) === PAUSED) {
      // The peer has reset the connection. Bun reads the kernel's buffer to its end before it reports this. That can be
      // megabytes, and a failed connection must not hold them. (After our FIN, the peer's FIN has the same effect.)
      if ((state & LATE) !== 0) {
        ours.state |= CUT;
        return;
      }
      ours.state |= LATE;
    }
    const n = chunk.length;
    ours.sink.onData(n > FEW && n <= SMALL ? copied(chunk, n) : chunk);
  },
  drain(socket) {
    const ours = socket.data as BunTransport;
    // Bun also calls this when no write waits, for example after `end`.
    ours.state &= ~BLOCKED;
    if (ours.ended) ours.hold();
    if ((ours.state & (WANTED | WRITABLE)) !== (WANTED | WRITABLE)) return;
    ours.state &= ~WANTED;
    ours.sink.onWritable();
  },
  end(socket) {
    const ours = socket.data as BunTransport;
    // The kernel reports a reset once, and the failed write has taken that report. So this is not the peer's FIN.
    if (ours.broken) return;
    ours.state |= ENDED;
    ours.hold();
    if (ours.tls !== undefined) ours.writtenAtEnd = socket.bytesWritten;
    // After dropped bytes there is never a clean end.
    if (ours.cut) socket.terminate();
    else if (!ours.closing) ours.sink.onEnd();
  },
  close(socket, error) {
    (socket.data as BunTransport).gone(error);
  },
  // Bun calls this with an error that a handler has thrown. This is a programming error, so rethrow it, as the other
  // runtimes do.
  error(socket, error) {
    const ours = socket.data as BunTransport;
    // A TLS alert of the peer is a failure of the connection.
    if ((ours.tls !== undefined || ours.securing !== undefined) && isTlsFailure(error)) {
      return ours.refuse(tlsError("ERR_TLS_PROTOCOL", keeping(ours.remote), error));
    }
    host.queueMicrotask(() => {
      throw error;
    });
  },
  handshake(socket, success, reason) {
    const ours = socket.data as BunTransport;
    if (ours.securing !== undefined && !ours.closed) ours.shook(success, reason);
  },
  // The promise of Bun.connect() reports it too. This one may be called from inside Bun.connect().
  connectError() {},
};
