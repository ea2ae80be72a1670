/**
 * TLS on a connection from which bytes have been read already. Bun's `upgradeTLS()` cannot take those bytes, so
 * `node:tls` runs over a stream, behind the interface of a Bun socket.
 *
 * @module
 */

import type { EventError } from "../../core/errors.ts";
import type { TransportBinding, TransportSink } from "../../core/runtime.ts";
import type { TlsRole } from "../../core/tls.ts";
import { builtin, host } from "../shared/host.ts";
import { secureEvent, secureOver } from "../shared/node_tls.ts";
import type { TlsSettings } from "../shared/tls.ts";
import type { BunHandlers, BunSocket, BunTls } from "../types/bun.ts";
import type { NodeDuplex, NodeSecureContext, NodeStreams, NodeTlsSocket } from "../types/node_tls.ts";

/** How many bytes each of the two streams holds at most. */
const HIGH_WATER = 64 * 1024;

/** The part of the plain connection that is used here. */
interface Lower extends TransportBinding {
  sink: TransportSink;
  readonly socket: BunSocket | undefined;
}

/** A socket with TLS. It calls the same handlers as a socket of Bun's. */
export class TlsOverSocket implements BunSocket, TransportSink {
  data: unknown = undefined;
  private readonly lower: Lower;
  private readonly handlers: BunHandlers;
  private readonly stream: NodeDuplex;
  private readonly socket: NodeTlsSocket;
  /** Continues a write when the connection takes more bytes. */
  private resumeWriting: (() => void) | undefined;
  private secured = false;
  private ended = false;
  /** Our FIN was requested. */
  private finishing = false;
  /**
   * The peer has finished, and Bun has finished our direction too: it has no half-close over a stream. Bytes written
   * after this would be lost, so such a write fails.
   */
  private cut = false;
  private closed = false;

  constructor(
    lower: Lower,
    role: TlsRole,
    settings: TlsSettings,
    context: NodeSecureContext,
    unread: Uint8Array,
    handlers: BunHandlers,
  ) {
    this.lower = lower;
    this.handlers = handlers;
    lower.sink = this;
    const { Duplex } = builtin<NodeStreams>("node:stream");
    this.stream = new Duplex({
      allowHalfOpen: true,
      readableHighWaterMark: HIGH_WATER,
      writableHighWaterMark: HIGH_WATER,
      read: () => lower.resumeRead(),
      write: (chunk, _encoding, done) => this.writeRaw(chunk, done),
      final: (done) => {
        if (this.finishing) lower.shutdownWrite();
        else this.cut = true;
        done();
      },
      // The plain connection stays open until it is closed here.
      autoDestroy: false,
      destroy: (reason, done) => done(reason),
    });
    this.stream.on("error", () => {});
    // The transport refuses a peer, since it reports the reason.
    const socket = this.socket = secureOver(
      this.stream,
      role,
      { ...settings, rejectUnauthorized: false },
      context,
      HIGH_WATER,
    );
    socket.on("error", (reason: unknown) => this.failed(reason));
    socket.once(secureEvent(role), () => {
      this.secured = true;
      socket.on("data", (chunk: Uint8Array) => {
        const { buffer, byteOffset, length } = chunk;
        if (!this.closed) this.handlers.data(this, new Uint8Array(buffer, byteOffset, length));
      });
      socket.on("drain", () => this.closed || this.handlers.drain(this));
      socket.on("end", () => {
        this.ended = true;
        if (this.closed) return;
        // Bun had taken this output and cannot send it any more.
        if (this.cut && !this.finishing && socket.writableLength > 0) return this.lose();
        this.handlers.end(this);
      });
      if (!this.closed) this.handlers.handshake(this, true, socket.authorizationError);
    });
    this.stream.push(unread);
  }

  // ---- the plain connection

  onConnect(): void {}

  onSecure(): void {}

  onData(chunk: Uint8Array): void {
    if (!this.stream.push(chunk)) this.lower.pauseRead();
  }

  onEnd(): void {
    if (!this.cut) this.stream.push(null);
    // No other event would follow.
    if (!this.secured) host.setImmediate(() => this.secured || this.failed("the peer has ended the connection"));
  }

  onWritable(): void {
    this.resumeWriting?.();
  }

  onClose(error?: EventError): void {
    if (error === undefined && this.secured && !this.ended) {
      // Bytes before the end are still being decrypted, or wait to be read.
      this.socket.once("end", () => this.close(undefined));
      return;
    }
    host.setImmediate(() => {
      // Reading may be paused.
      for (let chunk = this.readRest(); chunk !== null; chunk = this.readRest()) this.handlers.data(this, chunk);
      this.close(error);
    });
  }

  private readRest(): Uint8Array | null {
    const chunk = this.closed || !this.secured ? null : this.socket.read();
    return chunk === null ? null : new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
  }

  private writeRaw(chunk: Uint8Array, done: (error?: unknown) => void): void {
    let at = 0;
    const step = (): void => {
      while (at < chunk.length && !this.closed) {
        const n = this.lower.write(at === 0 ? chunk : chunk.subarray(at));
        if (n === 0) {
          this.resumeWriting = step;
          return;
        }
        at += n;
      }
      this.resumeWriting = undefined;
      done();
    };
    step();
  }

  private failed(reason: unknown): void {
    if (this.closed) return;
    if (this.secured) this.handlers.error(this, reason);
    else this.handlers.handshake(this, false, reason);
  }

  private lose(): void {
    this.lower.reset();
    const message = "write EPIPE: the peer has finished, and TLS over a stream has no half-close";
    this.close(Object.assign(new Error(message), { code: "EPIPE" }));
  }

  private close(error: unknown): void {
    if (this.closed) return;
    this.closed = true;
    this.socket.destroy();
    this.stream.destroy();
    this.handlers.close(this, error);
  }

  // ---- the interface of a Bun socket

  write(chunk: Uint8Array, start = 0, length: number = chunk.length): number {
    if (this.closed || this.cut) return -1;
    const socket = this.socket;
    if (socket.writableLength >= HIGH_WATER) return 0;
    socket.write(length === chunk.length ? chunk : chunk.subarray(start, start + length));
    return length;
  }

  shutdown(): void {
    if (this.finishing) return;
    this.finishing = true;
    if (this.cut) this.lower.shutdownWrite();
    else this.socket.end();
  }

  end(): void {
    const socket = this.socket;
    if (socket.writableFinished || this.cut) this.lower.release();
    else socket.once("finish", () => this.lower.release());
  }

  terminate(): void {
    this.lower.reset();
    this.close(undefined);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  get bytesWritten(): number {
    return this.lower.socket?.bytesWritten ?? 0;
  }

  get authorized(): boolean {
    return this.socket.authorized;
  }

  get alpnProtocol(): string | false | null {
    return this.socket.alpnProtocol;
  }

  getTLSVersion(): string | null {
    return this.socket.getProtocol();
  }

  getPeerCertificate(): { raw?: Uint8Array } | null {
    return this.socket.getPeerCertificate();
  }

  upgradeTLS(_options: { tls: BunTls }): never {
    throw new Error("TLS is there already");
  }

  setNoDelay(on: boolean): boolean {
    this.lower.setNoDelay(on);
    return true;
  }

  setKeepAlive(on: boolean, delayMs: number): boolean {
    this.lower.setKeepAlive(on, delayMs);
    return true;
  }

  ref(): void {
    this.lower.ref();
  }

  unref(): void {
    this.lower.unref();
  }
}
