/**
 * A connection of Deno: `read` and `write` of a `Conn`, one of each at a time.
 *
 * @module
 */

import type { Bits } from "../../core/bits.ts";
import { lost } from "../../core/buffer/chunk.ts";
import { Loan } from "../../core/loan.ts";
import type { EventError } from "../../core/errors.ts";
import type { StartTlsOptions, TlsInfo, TlsRole } from "../../core/tls.ts";
import type { Address, ConnectOptions, TransportBinding, TransportSink } from "../../core/runtime.ts";
import { failure, host, type HostRuntime, inet, keeping, show, WRITE_SLICE } from "../shared/host.ts";
import { preparedTls } from "../shared/node_tls.ts";
import { copied } from "../shared/slab.ts";
import { handshakeError, type TlsSettings } from "../shared/tls.ts";
import type { DenoAddr, DenoConn } from "../types/deno.ts";
import type { HostAbortController } from "../types/host.ts";
import type { NodeSecureContext } from "../types/node_tls.ts";
import { beginLargeRead, borrow, borrowFor, endLargeRead, giveBack, LARGEST } from "./memory.ts";
import { progress } from "./progress.ts";
import { DenoTlsConn } from "./tls_conn.ts";

/** Fewer bytes are copied out of the memory that was read into. More go to the core with the memory. */
const COPIED = 1024;
/** The most bytes that are copied into memory that they share with others. */
const SHARED = 4 * 1024;
/**
 * If the program keeps views, fewer bytes are copied too: the next read would need new memory, and a copy has the right
 * size.
 */
const KEPT = 16 * 1024;
/** After this many reads in a row that have brought few bytes, a connection goes back to the next smaller memory. */
const FEW_READS = 8;

/** The buffer for bytes that closing connections drop. They may overwrite one another's bytes. */
let dropped: Uint8Array | undefined;
const DROPPED_BYTES = 64 * 1024;

/** Converts an address to the core's form. */
export function addressOf(addr: DenoAddr): Address | undefined {
  return addr.hostname === undefined ? { path: addr.path ?? "" } : inet(addr.hostname, addr.port);
}

/** Bits of the transport's state. All three adapters have them, because an idle connection then takes little memory. */
type DenoBits = Bits<"deno">;

/** The program has kept a view of the last loan. */
const KEEPS: DenoBits = 0x1;
/** A read is under way. */
const READING: DenoBits = 0x2;
/** The core wants no data now. */
const PAUSED: DenoBits = 0x4;
/** The peer's FIN was seen. */
const ENDED: DenoBits = 0x8;
/** Connected, our FIN not requested, nothing failed. */
const WRITABLE: DenoBits = 0x10;
/** `write` has returned 0. */
const WANTED: DenoBits = 0x20;
/** Our FIN was requested. */
const FINISHING: DenoBits = 0x40;
/** Our FIN was sent. */
const FINISHED: DenoBits = 0x80;
/** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
const CLOSING: DenoBits = 0x100;
/** After `release()` or `reset()`: a failure is not reported any more. */
const DROPPED: DenoBits = 0x200;
/** `onClose` is scheduled, or was called. */
export const CLOSED: DenoBits = 0x400;
/** With TLS: from `startTls()`, or from the accept of a TLS listener, to the end of the handshake. */
const HANDSHAKING: DenoBits = 0x800;
/** Set while connecting: Nagle's algorithm. */
const NAGLE: DenoBits = 0x1000;
/** Set while connecting: keep-alive. */
const KEEP_ALIVE: DenoBits = 0x2000;
/** Set while connecting: the connection does not keep the process alive. */
const UNREFERENCED: DenoBits = 0x4000;
/** The read under way is one of the largest size. */
const LARGE: DenoBits = 0x8000;

/** A connection. */
export class DenoTransport implements TransportBinding {
  readonly runtime: HostRuntime;
  /** The address that a client connects to; undefined if the connection was accepted. */
  readonly to: ConnectOptions | undefined;
  conn: DenoConn | DenoTlsConn | undefined;
  sink: TransportSink;
  state: DenoBits = 0;
  local: Address | undefined;
  remote: Address | undefined;
  attempt: HostAbortController | undefined;

  /** The memory that is read into. */
  loan: Loan | undefined;
  /** The size of the next loan, as a number of the pools'. */
  size = 0;
  /** How many reads in a row have brought few bytes for this size. */
  few = 0;

  /** The chunk being written: one at a time. */
  piece: Uint8Array | undefined;
  /** How many bytes of the chunk have not been written. */
  pieceLeft = 0;
  /** The loan that the chunk lies in, if any. */
  pieceLoan: Loan | undefined;

  /** Why writing failed, while earlier bytes of the peer are still being read. */
  error: EventError | undefined;
  tls: TlsInfo | undefined;
  /** Begins the handshake when the chunk being written has been sent. */
  secureThen: (() => void) | undefined;
  /** Takes the bytes of the read that was under way when the handshake began. */
  handOver: ((chunk: Uint8Array | null) => void) | undefined;

  constructor(runtime: HostRuntime, sink: TransportSink, to: ConnectOptions | undefined) {
    this.runtime = runtime;
    this.sink = sink;
    this.to = to;
    runtime.openHandles++;
  }

  /** `onClose` is scheduled, or was called. */
  get closed(): boolean {
    return (this.state & CLOSED) !== 0;
  }

  /** The core wants no data now. */
  get paused(): boolean {
    return (this.state & PAUSED) !== 0;
  }

  /** With TLS: from `startTls()`, or from the accept of a TLS listener, to the end of the handshake. */
  get handshaking(): boolean {
    return (this.state & HANDSHAKING) !== 0;
  }

  opened(conn: DenoConn): void {
    this.conn = conn;
    this.local = addressOf(conn.localAddr);
    // The peer may have bound another name than the one that was connected to.
    this.remote = this.to?.path === undefined ? addressOf(conn.remoteAddr) : { path: this.to.path };
    this.attempt = undefined;
    if ((this.state & FINISHING) === 0) this.state |= WRITABLE;
    if ((this.state & NAGLE) === 0) this.set(() => conn.setNoDelay?.(true));
    if ((this.state & KEEP_ALIVE) !== 0) this.set(() => conn.setKeepAlive?.(true));
    if ((this.state & UNREFERENCED) !== 0) conn.unref();
    if ((this.state & FINISHING) !== 0) this.finish();
  }

  // Reading. Deno returns promises, and a promise needs a function that knows its connection. Each function is made once for
  // a connection, not for each read or write. On Node and Bun the socket leads to the connection, and all share handlers.

  read(): void {
    if ((this.state & (READING | ENDED | CLOSED)) !== 0) return;
    this.state |= READING;
    const conn = this.conn!;
    if (conn instanceof DenoTlsConn) return conn.take(this);
    const closing = (this.state & CLOSING) !== 0;
    const into = closing ? dropped ??= new Uint8Array(DROPPED_BYTES) : (this.loan ??= this.borrow()).bytes;
    conn.read(into).then(this.arrived, this.readFailed);
  }

  borrow(): Loan {
    if (this.size < LARGEST) return borrow(this.size);
    if (!beginLargeRead()) return borrow(--this.size);
    this.state |= LARGE;
    return borrow(LARGEST);
  }

  /** The read under way has ended. */
  endRead(): void {
    if ((this.state & LARGE) !== 0) endLargeRead();
    this.state &= ~(READING | LARGE);
  }

  arrived: (n: number | null) => void = (n) => {
    progress.reads++;
    this.endRead();
    if ((this.state & CLOSED) !== 0) return;
    if (this.handOver !== undefined) return this.hand(n);
    if (n === null) return this.eof();
    if ((this.state & CLOSING) !== 0) {
      // The memory of the pending read is dropped with it.
      this.loan = undefined;
      return this.read();
    }
    const loan = this.loan!;
    const { bytes } = loan;
    // Copied into shared memory. New memory for every few reads costs more, and must be collected.
    if (n < COPIED && this.size === 0) this.sink.onData(copied(bytes, n));
    else this.deliver(loan, bytes, n);
    this.readOn();
  };

  /** With TLS: bytes have arrived, or the end. */
  took(chunk: Uint8Array | null): void {
    progress.reads++;
    this.state &= ~READING;
    if ((this.state & CLOSED) !== 0) return;
    if (chunk === null) return this.eof();
    if ((this.state & CLOSING) === 0) this.sink.onData(chunk);
    this.readOn();
  }

  /** After bytes were delivered. */
  readOn(): void {
    if ((this.state & PAUSED) === 0 || (this.state & CLOSING) !== 0 || this.error !== undefined) this.read();
  }

  /** Chooses the size of the next read. Many bytes are handed on with their memory. Few are copied, and it is used again. */
  deliver(loan: Loan, bytes: Uint8Array, n: number): void {
    const { length } = bytes;
    const quarter = length >> 2;
    const { size } = this;
    if (n >= quarter) {
      this.few = 0;
      if (n === length && size < LARGEST) this.size = size + 1;
    } else if (size > 0 && ++this.few === FEW_READS) {
      this.few = 0;
      this.size = size - 1;
    }
    if (n < quarter || ((this.state & KEEPS) !== 0 && n < KEPT && n < length)) {
      const chunk = n <= SHARED ? copied(bytes, n) : bytes.slice(0, n);
      // Large memory is not kept for a read that may be pending for long, unless there may be one more of them.
      if (this.size !== size || size === LARGEST) {
        this.loan = undefined;
        giveBack(loan, size);
      }
      return this.sink.onData(chunk);
    }
    this.loan = undefined;
    loan.users = 1;
    this.sink.onData(n === length ? bytes : bytes.subarray(0, n), loan);
    if (loan.seen) this.state |= KEEPS;
    else this.state &= ~KEEPS;
  }

  readFailed: (reason: unknown) => void = (reason) => {
    this.endRead();
    if ((this.state & CLOSED) === 0) this.fail(reason, "read");
  };

  eof(): void {
    this.state |= ENDED;
    this.loan = undefined;
    if (this.error !== undefined) return this.end(this.error);
    if ((this.state & CLOSING) === 0) this.sink.onEnd();
    // The callback may have closed the connection.
    if ((this.state & FINISHED) !== 0 && (this.state & CLOSED) === 0) this.end();
  }

  // Writing.

  /** With TLS the bytes go through streams, which may hold them for longer than they report. */
  get countsLoans(): boolean {
    return this.tls === undefined;
  }

  /** Whether `write` can take bytes. If not, and it can later, `onWritable` will follow. */
  takes(): boolean {
    if ((this.state & WRITABLE) === 0) return false;
    if (this.piece === undefined) return true;
    this.state |= WANTED;
    return false;
  }

  write(chunk: Uint8Array, loan?: Loan): number {
    if (chunk.length === 0 || !this.takes()) return 0;
    const piece = chunk.length > WRITE_SLICE ? chunk.subarray(0, WRITE_SLICE) : chunk;
    this.piece = piece;
    this.pieceLeft = piece.length;
    if (loan !== undefined) {
      loan.hold();
      this.pieceLoan = loan;
    }
    this.conn!.write(piece).then(this.wrote, this.writeFailed);
    return piece.length;
  }

  /** With TLS the streams hold the bytes for as long as they like, so they get new memory. */
  gather(bytes: number): Loan | undefined {
    if (!this.takes()) return undefined;
    if (this.tls === undefined) return borrowFor(bytes);
    const loan = new Loan(new Uint8Array(bytes), () => {});
    loan.users = 1;
    return loan;
  }

  wrote: (n: number) => void = (n) => {
    if ((this.state & CLOSED) !== 0) return;
    const piece = this.piece!;
    this.pieceLeft -= n;
    if (this.pieceLeft > 0) {
      // The owner has transferred the memory, so the rest of the bytes is gone.
      if (piece.length === 0) return this.fail(lost(), "write");
      this.piece = piece.subarray(n);
      this.conn!.write(this.piece).then(this.wrote, this.writeFailed);
      return;
    }
    this.piece = undefined;
    if (this.pieceLoan !== undefined) {
      this.pieceLoan.drop();
      this.pieceLoan = undefined;
    }
    if ((this.state & WRITABLE) === 0) {
      if (this.secureThen !== undefined) this.secureThen();
      else if ((this.state & FINISHING) !== 0) this.finish();
      return;
    }
    if ((this.state & WANTED) === 0) return;
    this.state &= ~WANTED;
    this.sink.onWritable();
  };

  writeFailed: (reason: unknown) => void = (reason) => {
    if ((this.state & CLOSED) !== 0) return;
    this.piece = undefined;
    this.state &= ~WRITABLE;
    if ((this.state & (ENDED | CLOSING)) !== 0) return this.fail(reason, "write");
    // Earlier bytes of the peer can still be read. Then comes the end, or the same failure.
    this.error = failure(keeping(this.remote), reason, "write");
    this.read();
  };

  finish(): void {
    this.conn!.closeWrite().then(this.finWent, this.writeFailed);
  }

  finWent: () => void = () => {
    if ((this.state & CLOSED) !== 0) return;
    this.state |= FINISHED;
    if ((this.state & (ENDED | DROPPED)) !== 0) this.end();
    // Once our output has been sent, a peer that does not finish must not keep the process alive.
    else if ((this.state & CLOSING) !== 0) this.conn!.unref();
  };

  shutdownWrite(): void {
    if ((this.state & (FINISHING | CLOSED)) !== 0) return;
    this.state |= FINISHING;
    this.state &= ~WRITABLE;
    if (this.conn !== undefined && this.piece === undefined && (this.state & HANDSHAKING) === 0) this.finish();
  }

  // TLS.

  get securing(): string {
    return `make a TLS connection with ${show((this.remote ?? this.to ?? {}) as { path?: string })}`;
  }

  startTls(role: TlsRole, options: StartTlsOptions, unread?: Uint8Array): void {
    if (this.conn === undefined || (this.state & (CLOSING | CLOSED)) !== 0) return;
    this.state |= HANDSHAKING;
    this.state &= ~WRITABLE;
    const pending = (this.state & READING) !== 0
      ? new Promise<Uint8Array | null>((resolve) => this.handOver = resolve)
      : undefined;
    // No more plain bytes are read, also not while the last chunk is being written.
    this.state |= READING;
    this.secureThen = () => {
      this.secureThen = undefined;
      try {
        const { settings, context } = preparedTls(options, this.securing);
        this.secure(role, settings, context, pending, unread);
      } catch (reason) {
        host.queueMicrotask(() => (this.state & CLOSED) !== 0 || this.end(handshakeError(this.securing, reason)));
      }
    };
    if (this.piece === undefined) this.secureThen();
  }

  /** The bytes of this read belong to TLS. */
  hand(n: number | null): void {
    const chunk = n === null ? null : this.loan!.bytes.subarray(0, n);
    this.handOver!(chunk);
    this.handOver = undefined;
    this.loan = undefined;
    this.state |= READING;
  }

  /** Puts TLS over the connection, and replaces `conn` by it. */
  secure(
    role: TlsRole,
    settings: TlsSettings,
    context: NodeSecureContext,
    pending?: Promise<Uint8Array | null>,
    unread?: Uint8Array,
  ): void {
    this.state |= HANDSHAKING | READING;
    this.state &= ~WRITABLE;
    const peer = show((this.remote ?? {}) as { path?: string });
    const conn = this.conn = new DenoTlsConn(this.conn as DenoConn, role, settings, context, unread, pending, peer);
    conn.secured.then((info) => {
      if ((this.state & CLOSED) !== 0) return;
      this.tls = info;
      this.state &= ~(HANDSHAKING | READING);
      if ((this.state & FINISHING) === 0) this.state |= WRITABLE;
      this.sink.onSecure();
      if ((this.state & PAUSED) === 0) this.read();
    }, (reason) => (this.state & CLOSED) !== 0 || this.end(handshakeError(this.securing, reason)));
  }

  // The end.

  fail(reason: unknown, syscall: string): void {
    this.end(this.error ?? failure(keeping(this.remote), reason, syscall));
  }

  /** Closes the connection and reports why. Only from callbacks of the runtime. */
  end(error?: EventError): void {
    this.letGo();
    this.sink.onClose((this.state & DROPPED) !== 0 ? undefined : error);
  }

  letGo(): void {
    this.state |= CLOSED;
    this.state &= ~WRITABLE;
    // A pending read may still write to its memory, so other connections do not get it.
    this.loan = undefined;
    // The loan is not returned: Deno may still read it for the write. The garbage collector frees it.
    this.piece = this.pieceLoan = undefined;
    if (this.conn === undefined) return;
    this.runtime.openHandles--;
    this.conn.close();
  }

  close(): void {
    if ((this.state & (CLOSING | CLOSED)) !== 0) return;
    if (this.conn === undefined || (this.state & HANDSHAKING) !== 0) return this.reset();
    this.shutdownWrite();
    this.state |= CLOSING;
    if ((this.state & FINISHED) !== 0) this.conn.unref();
    // Reading goes on, to drop the bytes and to see the peer's FIN.
    this.read();
  }

  release(): void {
    if ((this.state & CLOSED) !== 0) return;
    this.close();
    this.state |= DROPPED;
    // The chunk being written must be sent first. Closing the connection would drop it.
    if ((this.state & FINISHED) !== 0) this.drop();
  }

  /** Deno has no way to send a RST. */
  reset(): void {
    this.state |= CLOSING | DROPPED;
    if ((this.state & CLOSED) !== 0) return;
    this.drop();
    this.attempt?.abort();
  }

  /** Closes the connection. From calls of the core, so nothing is reported in the call. */
  drop(): void {
    this.letGo();
    host.queueMicrotask(() => this.sink.onClose());
  }

  pauseRead(): void {
    this.state |= PAUSED;
  }

  resumeRead(): void {
    if ((this.state & PAUSED) === 0) return;
    this.state &= ~PAUSED;
    if (this.conn !== undefined) this.read();
  }

  /**
   * If the peer has reset the connection, macOS refuses every option and Deno throws. The next read reports the reset.
   */
  set(option: () => void): void {
    try {
      option();
    } catch {
      // Ignored, since no option matters any more.
    }
  }

  setNoDelay(on: boolean): void {
    if (on) this.state &= ~NAGLE;
    else this.state |= NAGLE;
    if ((this.state & CLOSED) === 0) this.set(() => this.conn?.setNoDelay?.(on));
  }

  setKeepAlive(on: boolean, _delayMs: number): void {
    if (on) this.state |= KEEP_ALIVE;
    else this.state &= ~KEEP_ALIVE;
    if ((this.state & CLOSED) === 0) this.set(() => this.conn?.setKeepAlive?.(on));
  }

  ref(): void {
    this.state &= ~UNREFERENCED;
    if ((this.state & CLOSED) === 0) this.conn?.ref();
  }

  unref(): void {
    this.state |= UNREFERENCED;
    if ((this.state & CLOSED) === 0) this.conn?.unref();
  }
}
