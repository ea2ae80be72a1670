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
import { copied } from "../shared/slab.ts";
import { infoOf, objection, secureEvent, secureOver } from "../shared/node_tls.ts";
import { establishedCode, handshakeError, tlsError, type TlsSettings } from "../shared/tls.ts";

/** How many bytes each of the two streams holds at most. */
const HIGH_WATER = 64 * 1024;
const NEVER_FULL = 2 ** 30;
/** How much encrypted data one read takes: a record of TLS with its header. */
const READ_BYTES = 17 * 1024;
/** Fewer bytes are copied out of that memory, and it is read into again. */
const COPIED = 4 * 1024;

/** A connection with TLS. */
export class DenoTlsConn implements DenoConn {
  readonly localAddr: DenoAddr;
  readonly remoteAddr: DenoAddr;
  readonly #raw: DenoConn;
  readonly #stream: NodeDuplex;
  readonly #socket: NodeTlsSocket;
  readonly #peer: string;
  /** Bytes that were read before the handshake began. They belong to TLS. */
  #unread: Uint8Array | undefined;
  /** A read of the plain connection that was under way. Its bytes belong to TLS. */
  #pending: Promise<Uint8Array | null> | undefined;
  /** The memory for the next read of the plain connection. New memory for each small record costs more than the record. */
  #records: Uint8Array | undefined;
  #into: Uint8Array | undefined;
  #onRead: ((n: number | null) => void) | undefined;
  #onReadFailed: ((reason: unknown) => void) | undefined;
  #readWanted = false;
  #written: Promise<void> = Promise.resolve();
  #onWriteFailed: ((reason: unknown) => void) | undefined;
  #error: unknown;
  #writeError: unknown;
  /** The peer has finished, and all its bytes were read. */
  #ended = false;
  /** The plain stream has ended without a close_notify. */
  #cut = false;
  #closed = false;
  #begun = false;

  constructor(
    raw: DenoConn,
    role: TlsRole,
    settings: TlsSettings,
    context: NodeSecureContext,
    unread: Uint8Array | undefined,
    pending: Promise<Uint8Array | null> | undefined,
    peer: string,
  ) {
    this.#raw = raw;
    this.localAddr = raw.localAddr;
    this.remoteAddr = raw.remoteAddr;
    this.#unread = unread;
    this.#pending = pending;
    this.#peer = peer;
    const { Duplex } = builtin<NodeStreams>("node:stream");
    this.#stream = new Duplex({
      allowHalfOpen: true,
      readableHighWaterMark: HIGH_WATER,
      writableHighWaterMark: HIGH_WATER,
      read: () => void this.#readRaw(),
      write: (chunk, _encoding, done) => {
        this.#written = this.#writeRaw(chunk).then(() => done(), (reason) => {
          this.#failWriting(reason);
          done();
        });
      },
      final: (done) =>
        void raw.closeWrite().then(() => done(), (reason) => {
          this.#failWriting(reason);
          done();
        }),
      // The plain connection stays open until close().
      autoDestroy: false,
      destroy: (reason, done) => done(reason),
    });
    this.#stream.on("error", (reason: unknown) => this.#fail(reason));
    // If Deno itself refuses a client, the reason is lost.
    const lenient = role === "server" ? { ...settings, rejectUnauthorized: false } : settings;
    // Its buffer is never full, so it never pauses by itself. During a pause Deno 2.9 loses a close_notify.
    const socket = this.#socket = secureOver(this.#stream, role, lenient, context, NEVER_FULL);
    socket.on("error", (reason: unknown) => this.#fail(reason));
    socket.on("readable", () => this.#give());
    socket.on("end", () => this.#end());
    socket.on("close", () => this.#end());
    // The promise of the handshake is read by `secured()`.
    this.secured = new Promise((resolve, reject) => {
      this.#onSecured = resolve;
      this.#onRefused = reject;
    });
    socket.once(secureEvent(role), () => {
      const problem = objection(socket, role, settings);
      if (problem !== undefined && settings.rejectUnauthorized) {
        this.#fail(tlsError("ERR_TLS_CERT", this.#doing, problem));
      } else {
        this.#onRefused = undefined;
        this.#onSecured?.(infoOf(socket, role, settings, problem === undefined));
      }
    });
  }

  /** Fulfilled when the handshake is complete; rejected with the reason when it fails. */
  readonly secured: Promise<TlsInfo>;
  #onSecured: ((info: TlsInfo) => void) | undefined;
  #onRefused: ((reason: unknown) => void) | undefined;

  get #doing(): string {
    return `make a TLS connection with ${this.#peer}`;
  }

  /** Reads on, unless decrypted bytes wait to be read. Nothing else bounds them. */
  async #readRaw(): Promise<void> {
    const { readableLength = 0 } = (this.#socket ?? {}) as Partial<NodeTlsSocket>;
    this.#readWanted = readableLength >= HIGH_WATER;
    if (this.#readWanted) return;
    // Deno 2.9 starts TLS in the next tick. If the first bytes fail before that, it throws where nobody can catch it.
    if (!this.#begun) await new Promise<void>((resolve) => void host.setImmediate(resolve));
    this.#begun = true;
    const unread = this.#unread;
    if (unread !== undefined) {
      this.#unread = undefined;
      this.#stream.push(unread);
      return;
    }
    try {
      let chunk = await this.#pending;
      if (chunk === undefined) {
        const into = this.#records ??= new Uint8Array(READ_BYTES);
        const n = await this.#raw.read(into);
        progress.reads++;
        chunk = n === null ? null : n <= COPIED ? copied(into, n) : into.subarray(0, n);
        if (n !== null && n > COPIED) this.#records = undefined;
      }
      this.#pending = undefined;
      if (chunk === null) {
        // When the earlier bytes have been decrypted, a close_notify has ended the TLS stream.
        await new Promise<void>((resolve) => void host.setImmediate(resolve));
        this.#cut = this.#socket._readableState?.ended === false;
      }
      this.#stream.push(chunk);
      // The last bytes may have brought the reason.
      if (chunk === null) host.setImmediate(() => this.#onRefused === undefined || this.#end());
    } catch (reason) {
      this.#fail(reason);
    }
  }

  async #writeRaw(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length;) at += await this.#raw.write(at === 0 ? chunk : chunk.subarray(at));
  }

  /** Bytes that were decrypted before are still delivered. */
  #fail(reason: unknown): void {
    if (this.#closed || this.#error !== undefined) return;
    if (this.#onRefused !== undefined) this.#error = handshakeError(this.#doing, reason);
    else if (establishedCode(reason) === undefined) this.#error = reason;
    else this.#error = tlsError("ERR_TLS_PROTOCOL", `keep the connection with ${this.#peer}`, reason);
    this.#onRefused?.(this.#error);
    this.#onWriteFailed?.(this.#error);
    this.#give();
  }

  /**
   * The peer takes no more bytes. Its own bytes may still have to be read, so the streams do not get the error: it
   * would destroy them.
   */
  #failWriting(reason: unknown): void {
    if (this.#onRefused !== undefined) return this.#fail(reason);
    this.#writeError ??= reason;
    this.#onWriteFailed?.(reason);
  }

  #end(): void {
    if (this.#onRefused !== undefined) this.#fail("the peer has ended the connection");
    else if (this.#cut) this.#fail(tlsError("ERR_TLS_TRUNCATED", `read on from ${this.#peer}`, undefined));
    this.#ended = true;
    this.#give();
  }

  read(into: Uint8Array): Promise<number | null> {
    return new Promise((resolve, reject) => {
      this.#into = into;
      this.#onRead = resolve;
      this.#onReadFailed = reject;
      this.#give();
    });
  }

  /** Settles the read that waits, if there is a result. */
  #give(): void {
    const [into, resolve] = [this.#into, this.#onRead];
    if (into === undefined || resolve === undefined) return;
    const { readableLength } = this.#socket;
    const chunk: Uint8Array | null = this.#socket.destroyed
      ? null
      : this.#socket.read(Math.min(into.length, readableLength));
    if (chunk !== null && chunk.length > 0) into.set(chunk);
    else if (this.#error !== undefined) return this.#settleRead(() => this.#onReadFailed?.(this.#error));
    else if (!this.#ended) return;
    this.#settleRead(() => resolve(chunk === null || chunk.length === 0 ? null : chunk.length));
    if (this.#readWanted) this.#readRaw();
  }

  #settleRead(how: () => void): void {
    how();
    this.#into = this.#onRead = this.#onReadFailed = undefined;
  }

  write(chunk: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      const error = this.#error ?? this.#writeError;
      if (error !== undefined) return reject(error);
      this.#onWriteFailed = reject;
      this.#socket.write(chunk, (reason) => reason ? reject(this.#error ?? reason) : resolve(chunk.length));
    });
  }

  closeWrite(): Promise<void> {
    return new Promise((resolve, reject) => {
      const error = this.#error ?? this.#writeError;
      if (error !== undefined) return reject(error);
      this.#onWriteFailed = reject;
      // Deno sends the close_notify, but not always the FIN after it.
      this.#socket.once("finish", () => void this.#sent().then(() => this.#raw.closeWrite()).then(resolve, reject));
      // While a write is under way, Deno loses the close_notify.
      this.#sent().then(() => this.#socket.end());
    });
  }

  /** Waits until nothing is being written. A write may begin when the one before it has ended. */
  async #sent(): Promise<void> {
    let written: Promise<void>;
    do {
      written = this.#written;
      await written;
    } while (written !== this.#written);
  }

  close(): void {
    this.#closed = true;
    this.#raw.close();
    this.#socket.destroy();
    this.#stream.destroy();
  }

  ref(): void {
    if (!this.#closed) this.#raw.ref();
  }

  unref(): void {
    if (!this.#closed) this.#raw.unref();
  }

  setNoDelay(on: boolean): void {
    this.#raw.setNoDelay?.(on);
  }

  setKeepAlive(on: boolean): void {
    this.#raw.setKeepAlive?.(on);
  }
}
