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

/** What a connection reads into at first, and when it is idle. An idle connection costs its buffer: keep it small. */
const READ_MIN = 4 * 1024;
/** After so many reads that a small buffer would have held, one after the other, a small one does. */
const FEW_READS = 8;

/** Where connections that are closing put what they drop; that they overwrite one another's bytes is no harm. */
let dropped: Uint8Array | undefined;

/** An address as the core has it. */
export function addressOf(addr: DenoAddr): Address | undefined {
  return addr.hostname === undefined ? { path: addr.path ?? "" } : inet(addr.hostname, addr.port);
}

/** A connection. */
export class DenoTransport implements TransportBinding {
  readonly runtime: HostRuntime;
  /** What a client connects to; undefined for what was accepted. */
  readonly to: ConnectOptions | undefined;
  conn: DenoConn | undefined;
  sink: TransportSink;
  local: Address | undefined;
  remote: Address | undefined;
  attempt: HostAbortController | undefined;

  /** What few bytes are read into, and copied out of. */
  buffer: Uint8Array | undefined;
  /** What much is read into. */
  loan: Loan | undefined;
  /** Whether the last reads have brought so much. */
  much = false;
  /** How many reads in a row have brought little to a large buffer. */
  few = 0;
  reading = false;
  paused = false;
  /** The peer's FIN was seen. */
  ended = false;

  /** What is being written: one piece at a time. */
  piece: Uint8Array | undefined;
  /** How many bytes of it have not been written. */
  pieceLeft = 0;
  /** What it lies in, if that is on loan. */
  pieceLoan: Loan | undefined;
  /** Connected, and neither our FIN was asked for nor anything failed. */
  writable = false;
  /** `write` has returned 0. */
  wanted = false;
  /** Our FIN was asked for. */
  finishing = false;
  /** Our FIN is out. */
  finished = false;

  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  closing = false;
  /** After `release()` or `reset()`: what fails now is no failure. */
  dropped = false;
  /** `onClose` is on its way, or was called. */
  closed = false;
  /** Why writing failed, while what the peer has sent before is still being read. */
  error: EventError | undefined;
  /** Of TLS: from `startTls()`, or for what was accepted with it from the beginning, to the end of the handshake. */
  handshaking = false;
  tls: TlsInfo | undefined;
  /** What begins the handshake when the piece that is being written has left. */
  secureThen: (() => void) | undefined;
  /** Takes the bytes of the read that was under way when the handshake began. */
  handOver: ((chunk: Uint8Array | null) => void) | undefined;
  /** What is asked for while connecting. */
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
    // The peer may have bound another name than the one that it is known by.
    this.remote = this.to?.path === undefined ? addressOf(conn.remoteAddr) : { path: this.to.path };
    this.attempt = undefined;
    this.writable = !this.finishing;
    if (this.noDelay) this.set(() => conn.setNoDelay?.(true));
    if (this.keepAlive) this.set(() => conn.setKeepAlive?.(true));
    if (!this.referenced) conn.unref();
    if (this.finishing) this.finish();
  }

  // Reading. The callbacks are made once for each connection, and not once for each read.

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
      // The buffer of the read that was pending goes with it.
      this.buffer = this.loan = undefined;
      return this.read();
    }
    if (this.loan !== undefined) this.lend(this.loan, n);
    else {
      // Copied into memory that is shared: a buffer for each few reads is made dearer, and collected.
      const chunk = copied(this.buffer!, n);
      if (n === READ_MIN) {
        this.much = true;
        this.buffer = undefined;
      }
      this.sink.onData(chunk);
    }
    if (!this.paused || this.closing || this.error !== undefined) this.read();
  };

  /** What fills a good part of the buffer leaves with it; what is little is copied, and the buffer is free again. */
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
    // What was called may have let go of the connection.
    if (this.finished && !this.closed) this.end();
  }

  /** Of what was read into last; a read that is pending may still write to it, so it does not go to others. */
  forgetBuffers(): void {
    this.buffer = this.loan = undefined;
  }

  // Writing.

  /** TLS is by streams, which may hold what was written for longer than they say. */
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
      // Its owner has transferred it, and what is left with it.
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
    // What the peer had sent before it went is still there to be read; then comes the end, or the same failure.
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
    // A peer that does not finish shall not keep the process alive once it has all that we had to say.
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
    // Nothing more is read in the clear, also not while the last piece is being written.
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

  /** What the read has brought belongs to TLS. */
  hand(n: number | null): void {
    const chunk = n === null ? null : (this.loan?.bytes ?? this.buffer!).subarray(0, n);
    this.handOver!(chunk);
    this.handOver = undefined;
    this.forgetBuffers();
    this.reading = true;
  }

  /** Puts TLS over the connection, and has it in its place from here on. */
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

  /** Lets go and says why. Only from callbacks of the host. */
  end(error?: EventError): void {
    this.letGo();
    this.sink.onClose(this.dropped ? undefined : error);
  }

  letGo(): void {
    this.closed = true;
    this.writable = false;
    this.forgetBuffers();
    // Not dropped: what is being written may still be read by the host. The collector has it.
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
    // What still arrives is dropped, and the peer's end must be seen.
    this.read();
  }

  release(): void {
    if (this.closed) return;
    this.close();
    this.dropped = true;
    // What is being written has to leave before: it goes with the connection.
    if (this.finished) this.drop();
  }

  /** Deno has no way to send a RST. */
  reset(): void {
    this.closing = this.dropped = true;
    if (this.closed) return;
    this.drop();
    this.attempt?.abort();
  }

  /** Lets go. From the core's calls, in which nothing is told. */
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

  /** Where the peer has reset the connection, macOS refuses every option of it, and Deno throws. Reading tells why. */
  set(option: () => void): void {
    try {
      option();
    } catch {
      // Nothing is lost: no option matters any more.
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
