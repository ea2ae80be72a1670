/**
 * TLS on a connection of Deno, behind the interface of such a connection. `Deno.startTls()` is only for clients,
 * refuses a connection that is being read (as ours always are), adds its own authorities to the given ones, and does
 * not show the peer's certificate. `Deno.listenTls()` cannot request a client's certificate. `node:tls` over a stream
 * can do all of it.
 *
 * @module
 */

import type { TlsInfo, TlsRole } from "../../core/tls.ts";
import { builtin, host } from "../shared/host.ts";
import type { DenoAddr, DenoConn } from "../types/deno.ts";
import type { NodeDuplex, NodeSecureContext, NodeStreams, NodeTlsSocket } from "../types/node_tls.ts";
import { progress } from "./progress.ts";
import { infoOf, objection, secureEvent, secureOver } from "../shared/node_tls.ts";
import { establishedCode, handshakeError, tlsError, type TlsSettings } from "../shared/tls.ts";

/** How many bytes each of the two streams holds at most. */
const HIGH_WATER = 64 * 1024;
const NEVER_FULL = 2 ** 30;
/** How much encrypted data one read takes: a record of TLS with its header. */
const READ_BYTES = 17 * 1024;

/** Who reads a connection with TLS. */
export interface TlsReader {
  /** Bytes have come, in memory that nothing writes to; null at the end. */
  took(chunk: Uint8Array | null): void;
  readFailed(reason: unknown): void;
}

/** A connection with TLS. It hands on the memory that `node:tls` has decrypted into, and fills none of the reader's. */
export class DenoTlsConn implements Omit<DenoConn, "read"> {
  readonly localAddr: DenoAddr;
  readonly remoteAddr: DenoAddr;
  private readonly raw: DenoConn;
  private readonly stream: NodeDuplex;
  private readonly socket: NodeTlsSocket;
  private readonly peer: string;
  /** Bytes that were read before the handshake began. They belong to TLS. */
  private unread: Uint8Array | undefined;
  /** A read of the plain connection that was under way. Its bytes belong to TLS. */
  private pending: Promise<Uint8Array | null> | undefined;
  /** The memory for the next read of the plain connection. New memory for each record costs more than a small record. */
  private records: Uint8Array | undefined;
  private reader: TlsReader | undefined;
  private readWanted = false;
  /** The encrypted bytes that are being written, and what to call afterwards. */
  private piece: Uint8Array | undefined;
  private done: (() => void) | undefined;
  private written: Promise<void> = Promise.resolve();
  private onWriteFailed: ((reason: unknown) => void) | undefined;
  private error: unknown;
  private writeError: unknown;
  /** The peer has finished, and all its bytes were read. */
  private ended = false;
  /** The plain stream has ended without a close_notify. */
  private cut = false;
  private closed = false;
  private begun = false;

  constructor(
    raw: DenoConn,
    role: TlsRole,
    settings: TlsSettings,
    context: NodeSecureContext,
    unread: Uint8Array | undefined,
    pending: Promise<Uint8Array | null> | undefined,
    peer: string,
  ) {
    this.raw = raw;
    this.localAddr = raw.localAddr;
    this.remoteAddr = raw.remoteAddr;
    this.unread = unread;
    this.pending = pending;
    this.peer = peer;
    const { Duplex } = builtin<NodeStreams>("node:stream");
    this.stream = new Duplex({
      allowHalfOpen: true,
      readableHighWaterMark: HIGH_WATER,
      writableHighWaterMark: HIGH_WATER,
      read: () => void this.readRaw(),
      write: (chunk, _encoding, done) => {
        this.piece = chunk;
        this.done = done;
        this.written = raw.write(chunk).then(this.rawWrote, this.rawRefused);
      },
      final: (done) =>
        void raw.closeWrite().then(() => done(), (reason) => {
          this.failWriting(reason);
          done();
        }),
      // The plain connection stays open until close().
      autoDestroy: false,
      destroy: (reason, done) => done(reason),
    });
    this.stream.on("error", (reason: unknown) => this.fail(reason));
    // If Deno itself refuses a client, the reason is lost.
    const lenient = role === "server" ? { ...settings, rejectUnauthorized: false } : settings;
    // Its buffer is never full, so it never pauses by itself. During a pause Deno 2.9 loses a close_notify.
    const socket = this.socket = secureOver(this.stream, role, lenient, context, NEVER_FULL);
    socket.on("error", (reason: unknown) => this.fail(reason));
    socket.on("readable", () => this.give());
    socket.on("end", () => this.end());
    socket.on("close", () => this.end());
    // The promise of the handshake is read by `secured()`.
    this.secured = new Promise((resolve, reject) => {
      this.onSecured = resolve;
      this.onRefused = reject;
    });
    socket.once(secureEvent(role), () => {
      const problem = objection(socket, role, settings);
      if (problem !== undefined && settings.rejectUnauthorized) {
        this.fail(tlsError("ERR_TLS_CERT", this.doing, problem));
      } else {
        this.onRefused = undefined;
        this.onSecured?.(infoOf(socket, role, settings, problem === undefined));
      }
    });
  }

  /** Fulfilled when the handshake is complete; rejected with the reason when it fails. */
  readonly secured: Promise<TlsInfo>;
  private onSecured: ((info: TlsInfo) => void) | undefined;
  private onRefused: ((reason: unknown) => void) | undefined;

  private get doing(): string {
    return `make a TLS connection with ${this.peer}`;
  }

  /** Reads on, unless decrypted bytes wait to be read. Nothing else bounds them. */
  private readRaw(): void {
    const { readableLength = 0 } = (this.socket ?? {}) as Partial<NodeTlsSocket>;
    this.readWanted = readableLength >= HIGH_WATER;
    if (this.readWanted) return;
    if (!this.begun) return void this.begin();
    this.raw.read(this.records ??= new Uint8Array(READ_BYTES)).then(this.rawArrived, this.rawFailed);
  }

  /** Brings first what was read in the clear. */
  private async begin(): Promise<void> {
    // Deno 2.9 starts TLS in the next tick. If the first bytes fail before that, it throws where nobody can catch it.
    await new Promise<void>((resolve) => void host.setImmediate(resolve));
    const unread = this.unread;
    if (unread !== undefined) {
      this.unread = undefined;
      this.stream.push(unread);
      return;
    }
    this.begun = true;
    try {
      const chunk = await this.pending;
      this.pending = undefined;
      if (chunk === undefined) this.readRaw();
      else if (chunk === null) this.rawEnded();
      else this.stream.push(chunk);
    } catch (reason) {
      this.fail(reason);
    }
  }

  private readonly rawArrived = (n: number | null): void => {
    progress.reads++;
    if (n === null) return this.rawEnded();
    const records = this.records!;
    this.records = undefined;
    try {
      this.stream.push(records.subarray(0, n));
    } catch (reason) {
      return this.fail(reason);
    }
    // Usually they are decrypted by now, and the memory is used again.
    if (this.stream.readableLength === 0) this.records ??= records;
  };

  private readonly rawFailed = (reason: unknown): void => this.fail(reason);

  private rawEnded(): void {
    // When the earlier bytes have been decrypted, a close_notify has ended the TLS stream.
    host.setImmediate(() => {
      this.cut = this.socket._readableState?.ended === false;
      this.stream.push(null);
      // The last bytes may have brought the reason.
      host.setImmediate(() => this.onRefused === undefined || this.end());
    });
  }

  private readonly rawWrote = (n: number): Promise<void> | undefined => {
    const piece = this.piece!;
    if (n < piece.length) {
      this.piece = piece.subarray(n);
      return this.raw.write(this.piece).then(this.rawWrote, this.rawRefused);
    }
    this.piece = undefined;
    this.done!();
    return undefined;
  };

  private readonly rawRefused = (reason: unknown): void => {
    this.failWriting(reason);
    this.done!();
  };

  /** Bytes that were decrypted before are still delivered. */
  private fail(reason: unknown): void {
    if (this.closed || this.error !== undefined) return;
    if (this.onRefused !== undefined) this.error = handshakeError(this.doing, reason);
    else if (establishedCode(reason) === undefined) this.error = reason;
    else this.error = tlsError("ERR_TLS_PROTOCOL", `keep the connection with ${this.peer}`, reason);
    this.onRefused?.(this.error);
    this.onWriteFailed?.(this.error);
    this.give();
  }

  /**
   * The peer takes no more bytes. Its own bytes may still have to be read, so the streams do not get the error: it
   * would destroy them.
   */
  private failWriting(reason: unknown): void {
    if (this.onRefused !== undefined) return this.fail(reason);
    this.writeError ??= reason;
    this.onWriteFailed?.(reason);
  }

  private end(): void {
    if (this.onRefused !== undefined) this.fail("the peer has ended the connection");
    else if (this.cut) this.fail(tlsError("ERR_TLS_TRUNCATED", `read on from ${this.peer}`, undefined));
    this.ended = true;
    this.give();
  }

  /** Gives bytes, the end or a failure to `reader`, once, and not from inside of the call. */
  take(reader: TlsReader): void {
    this.reader = reader;
    const { readableLength, destroyed } = this.socket;
    if (readableLength > 0 || destroyed || this.ended || this.error !== undefined) {
      host.queueMicrotask(() => this.give());
    } else this.socket.read(0); // Without it the stream neither reads on nor ends.
  }

  /** Serves the reader, if there is something for it. */
  private give(): void {
    const reader = this.reader;
    if (reader === undefined) return;
    const { readableLength, destroyed } = this.socket;
    const chunk = destroyed ? null : this.socket.read(Math.min(readableLength, HIGH_WATER));
    if (chunk === null && this.error === undefined && !this.ended) return;
    this.reader = undefined;
    // Not the Buffer: its methods differ.
    if (chunk !== null) reader.took(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length));
    else if (this.error !== undefined) return reader.readFailed(this.error);
    else return reader.took(null);
    if (this.readWanted) this.readRaw();
  }

  write(chunk: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      const error = this.error ?? this.writeError;
      if (error !== undefined) return reject(error);
      this.onWriteFailed = reject;
      this.socket.write(chunk, (reason) => reason ? reject(this.error ?? reason) : resolve(chunk.length));
    });
  }

  closeWrite(): Promise<void> {
    return new Promise((resolve, reject) => {
      const error = this.error ?? this.writeError;
      if (error !== undefined) return reject(error);
      this.onWriteFailed = reject;
      // Deno sends the close_notify, but not always the FIN after it.
      this.socket.once("finish", () => void this.sent().then(() => this.raw.closeWrite()).then(resolve, reject));
      // While a write is under way, Deno loses the close_notify.
      this.sent().then(() => this.socket.end());
    });
  }

  /** Waits until nothing is being written. A write may begin when the one before it has ended. */
  private async sent(): Promise<void> {
    let written: Promise<void>;
    do {
      written = this.written;
      await written;
    } while (written !== this.written);
  }

  close(): void {
    this.closed = true;
    this.raw.close();
    this.socket.destroy();
    this.stream.destroy();
  }

  ref(): void {
    if (!this.closed) this.raw.ref();
  }

  unref(): void {
    if (!this.closed) this.raw.unref();
  }

  setNoDelay(on: boolean): void {
    this.raw.setNoDelay?.(on);
  }

  setKeepAlive(on: boolean): void {
    this.raw.setKeepAlive?.(on);
  }
}
