/**
 * A connection of Deno: `read` and `write` of a `Conn`, one of each at a time.
 *
 * @module
 */

import { lost } from "../../core/buffer/chunk.ts";
import type { Loan } from "../../core/loan.ts";
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
import { borrow, giveBack, LOAN_BYTES } from "./memory.ts";
import { progress } from "./progress.ts";
import { DenoTlsConn } from "./tls_conn.ts";

/**
 * The size of the buffer of a connection at first, and when it is idle. Keep it small, since each idle connection holds
 * one.
 */
const READ_MIN = 4 * 1024;
/** After this many small reads in a row, a connection goes back to a small buffer. */
const FEW_READS = 8;

/** The buffer for bytes that closing connections drop. They may overwrite one another's bytes. */
let dropped: Uint8Array | undefined;

/** Converts an address to the core's form. */
export function addressOf(addr: DenoAddr): Address | undefined {
  return addr.hostname === undefined ? { path: addr.path ?? "" } : inet(addr.hostname, addr.port);
}

/** A connection. */
export class DenoTransport implements TransportBinding {
  readonly runtime: HostRuntime;
  /** The address that a client connects to; undefined if the connection was accepted. */
  readonly to: ConnectOptions | undefined;
  conn: DenoConn | undefined;
  sink: TransportSink;
  local: Address | undefined;
  remote: Address | undefined;
  attempt: HostAbortController | undefined;

  /** The small buffer. Bytes are copied out of it. */
  buffer: Uint8Array | undefined;
  /** The large buffer. */
  loan: Loan | undefined;
  /** Whether the last reads needed the large buffer. */
  much = false;
  /** How many reads in a row have brought few bytes to a large buffer. */
  few = 0;
  reading = false;
  paused = false;
  /** The peer's FIN was seen. */
  ended = false;

  /** The chunk being written: one at a time. */
  piece: Uint8Array | undefined;
  /** How many bytes of the chunk have not been written. */
  pieceLeft = 0;
  /** The loan that the chunk lies in, if any. */
  pieceLoan: Loan | undefined;
  /** Connected, our FIN not requested, nothing failed. */
  writable = false;
  /** `write` has returned 0. */
  wanted = false;
  /** Our FIN was requested. */
  finishing = false;
  /** Our FIN was sent. */
  finished = false;

  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  closing = false;
  /** After `release()` or `reset()`: a failure is not reported any more. */
  dropped = false;
  /** `onClose` is scheduled, or was called. */
  closed = false;
  /** Why writing failed, while earlier bytes of the peer are still being read. */
  error: EventError | undefined;
  /** With TLS: from `startTls()`, or from the accept of a TLS listener, to the end of the handshake. */
  handshaking = false;
  tls: TlsInfo | undefined;
  /** Begins the handshake when the chunk being written has been sent. */
  secureThen: (() => void) | undefined;
  /** Takes the bytes of the read that was under way when the handshake began. */
  handOver: ((chunk: Uint8Array | null) => void) | undefined;
  /** Settings made while connecting. */
  noDelay = true;
  keepAlive = false;
  referenced = true;

  constructor(runtime: HostRuntime, sink: TransportSink, to: ConnectOptions | undefined) {
    this.runtime = runtime;
    this.sink = sink;
    this.to = to;
    runtime.openHandles++;
  }

  opened(conn: DenoConn): void {
    this.conn = conn;
    this.local = addressOf(conn.localAddr);
    // The peer may have bound another name than the one that was connected to.
    this.remote = this.to?.path === undefined ? addressOf(conn.remoteAddr) : { path: this.to.path };
    this.attempt = undefined;
    this.writable = !this.finishing;
    if (this.noDelay) this.set(() => conn.setNoDelay?.(true));
    if (this.keepAlive) this.set(() => conn.setKeepAlive?.(true));
    if (!this.referenced) conn.unref();
    if (this.finishing) this.finish();
  }

  // Reading. The callbacks are made once for each connection, not for each read.

  read(): void {
    if (this.reading || this.ended || this.closed) return;
    this.reading = true;
    let into: Uint8Array;
    if (this.closing) into = dropped ??= new Uint8Array(LOAN_BYTES);
    else if (this.much) into = (this.loan ??= borrow()).bytes;
    else into = this.buffer ??= new Uint8Array(READ_MIN);
    this.conn!.read(into).then(this.arrived, this.readFailed);
  }

  arrived: (n: number | null) => void = (n) => {
    progress.reads++;
    this.reading = false;
    if (this.closed) return;
    if (this.handOver !== undefined) return this.hand(n);
    if (n === null) return this.eof();
    if (this.closing) {
      // The buffer of the pending read is dropped with it.
      this.buffer = this.loan = undefined;
      return this.read();
    }
    if (this.loan !== undefined) this.lend(this.loan, n);
    else {
      // Copied into shared memory. A new buffer for every few reads costs more, and must be collected.
      const chunk = copied(this.buffer!, n);
      if (n === READ_MIN) {
        this.much = true;
        this.buffer = undefined;
      }
      this.sink.onData(chunk);
    }
    if (!this.paused || this.closing || this.error !== undefined) this.read();
  };

  /** A large part of a buffer is handed on with the buffer. A small part is copied, and the buffer is used again. */
  lend(loan: Loan, n: number): void {
    const { bytes } = loan;
    if (n > READ_MIN) this.few = 0;
    else if (++this.few === FEW_READS) {
      this.few = 0;
      this.much = false;
    }
    if (n >= LOAN_BYTES / 4) {
      this.loan = undefined;
      loan.users = 1;
      return this.sink.onData(n === LOAN_BYTES ? bytes : bytes.subarray(0, n), loan);
    }
    const chunk = n <= READ_MIN ? copied(bytes, n) : bytes.slice(0, n);
    if (!this.much) {
      this.loan = undefined;
      giveBack(loan);
    }
    this.sink.onData(chunk);
  }

  readFailed: (reason: unknown) => void = (reason) => {
    this.reading = false;
    if (!this.closed) this.fail(reason, "read");
  };

  eof(): void {
    this.ended = true;
    this.forgetBuffers();
    if (this.error !== undefined) return this.end(this.error);
    if (!this.closing) this.sink.onEnd();
    // The callback may have closed the connection.
    if (this.finished && !this.closed) this.end();
  }

  /** Drops the buffers. A pending read may still write to them, so other connections do not get them. */
  forgetBuffers(): void {
    this.buffer = this.loan = undefined;
  }

  // Writing.

  /** With TLS the bytes go through streams, which may hold them for longer than they report. */
  get countsLoans(): boolean {
    return this.tls === undefined;
  }

  write(chunk: Uint8Array, loan?: Loan): number {
    if (!this.writable || chunk.length === 0) return 0;
    if (this.piece !== undefined) {
      this.wanted = true;
      return 0;
    }
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

  wrote: (n: number) => void = (n) => {
    if (this.closed) return;
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
    if (!this.writable) {
      if (this.secureThen !== undefined) this.secureThen();
      else if (this.finishing) this.finish();
      return;
    }
    if (!this.wanted) return;
    this.wanted = false;
    this.sink.onWritable();
  };

  writeFailed: (reason: unknown) => void = (reason) => {
    if (this.closed) return;
    this.piece = undefined;
    this.writable = false;
    if (this.ended || this.closing) return this.fail(reason, "write");
    // Earlier bytes of the peer can still be read. Then comes the end, or the same failure.
    this.error = failure(keeping(this.remote), reason, "write");
    this.read();
  };

  finish(): void {
    this.conn!.closeWrite().then(this.finWent, this.writeFailed);
  }

  finWent: () => void = () => {
    if (this.closed) return;
    this.finished = true;
    if (this.ended || this.dropped) this.end();
    // Once our output has been sent, a peer that does not finish must not keep the process alive.
    else if (this.closing) this.conn!.unref();
  };

  shutdownWrite(): void {
    if (this.finishing || this.closed) return;
    this.finishing = true;
    this.writable = false;
    if (this.conn !== undefined && this.piece === undefined && !this.handshaking) this.finish();
  }

  // TLS.

  get securing(): string {
    return `make a TLS connection with ${show((this.remote ?? this.to ?? {}) as { path?: string })}`;
  }

  startTls(role: TlsRole, options: StartTlsOptions, unread?: Uint8Array): void {
    if (this.conn === undefined || this.closing || this.closed) return;
    this.handshaking = true;
    this.writable = false;
    const pending = this.reading ? new Promise<Uint8Array | null>((resolve) => this.handOver = resolve) : undefined;
    // No more plain bytes are read, also not while the last chunk is being written.
    this.reading = true;
    this.secureThen = () => {
      this.secureThen = undefined;
      try {
        const { settings, context } = preparedTls(options, this.securing);
        this.secure(role, settings, context, pending, unread);
      } catch (reason) {
        host.queueMicrotask(() => this.closed || this.end(handshakeError(this.securing, reason)));
      }
    };
    if (this.piece === undefined) this.secureThen();
  }

  /** The bytes of this read belong to TLS. */
  hand(n: number | null): void {
    const chunk = n === null ? null : (this.loan?.bytes ?? this.buffer!).subarray(0, n);
    this.handOver!(chunk);
    this.handOver = undefined;
    this.forgetBuffers();
    this.reading = true;
  }

  /** Puts TLS over the connection, and replaces `conn` by it. */
  secure(
    role: TlsRole,
    settings: TlsSettings,
    context: NodeSecureContext,
    pending?: Promise<Uint8Array | null>,
    unread?: Uint8Array,
  ): void {
    this.handshaking = this.reading = true;
    this.writable = false;
    const peer = show((this.remote ?? {}) as { path?: string });
    const conn = this.conn = new DenoTlsConn(this.conn!, role, settings, context, unread, pending, peer);
    conn.secured.then((info) => {
      if (this.closed) return;
      this.tls = info;
      this.handshaking = this.reading = false;
      this.writable = !this.finishing;
      this.sink.onSecure();
      if (!this.paused) this.read();
    }, (reason) => this.closed || this.end(handshakeError(this.securing, reason)));
  }

  // The end.

  fail(reason: unknown, syscall: string): void {
    this.end(this.error ?? failure(keeping(this.remote), reason, syscall));
  }

  /** Closes the connection and reports why. Only from callbacks of the runtime. */
  end(error?: EventError): void {
    this.letGo();
    this.sink.onClose(this.dropped ? undefined : error);
  }

  letGo(): void {
    this.closed = true;
    this.writable = false;
    this.forgetBuffers();
    // The loan is not returned: Deno may still read it for the write. The garbage collector frees it.
    this.piece = this.pieceLoan = undefined;
    if (this.conn === undefined) return;
    this.runtime.openHandles--;
    this.conn.close();
  }

  close(): void {
    if (this.closing || this.closed) return;
    if (this.conn === undefined || this.handshaking) return this.reset();
    this.shutdownWrite();
    this.closing = true;
    if (this.finished) this.conn.unref();
    // Reading goes on, to drop the bytes and to see the peer's FIN.
    this.read();
  }

  release(): void {
    if (this.closed) return;
    this.close();
    this.dropped = true;
    // The chunk being written must be sent first. Closing the connection would drop it.
    if (this.finished) this.drop();
  }

  /** Deno has no way to send a RST. */
  reset(): void {
    this.closing = this.dropped = true;
    if (this.closed) return;
    this.drop();
    this.attempt?.abort();
  }

  /** Closes the connection. From calls of the core, so nothing is reported in the call. */
  drop(): void {
    this.letGo();
    host.queueMicrotask(() => this.sink.onClose());
  }

  pauseRead(): void {
    this.paused = true;
  }

  resumeRead(): void {
    if (!this.paused) return;
    this.paused = false;
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
    this.noDelay = on;
    if (!this.closed) this.set(() => this.conn?.setNoDelay?.(on));
  }

  setKeepAlive(on: boolean, _delayMs: number): void {
    this.keepAlive = on;
    if (!this.closed) this.set(() => this.conn?.setKeepAlive?.(on));
  }

  ref(): void {
    this.referenced = true;
    if (!this.closed) this.conn?.ref();
  }

  unref(): void {
    this.referenced = false;
    if (!this.closed) this.conn?.unref();
  }
}
