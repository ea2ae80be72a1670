/** `toDuplex()`: a `stream.Duplex` of Node's over a bufferevent. */

import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";
import { setImmediate } from "node:timers";
import { StreamSeat } from "../../core/api/bridge.ts";
import { checkBoolean, checkCount, checkDuration } from "../../core/checks.ts";
import type { Address, BufferEvent, EventHandle } from "../../core/mod.ts";
import { type Names, readOptions } from "../../core/names.ts";

/** Options of {@linkcode toDuplex}. */
export interface ToDuplexOptions {
  /**
   * Whether our direction stays open when the peer has finished, as in `node:net`. Otherwise the stream ends it then.
   *
   * @default {false}
   */
  allowHalfOpen?: boolean | undefined;
  /**
   * The number of bytes that the stream itself may hold in each direction before its user must
   * wait. The bufferevent holds more:
   * `readHigh` and `writeHigh`.
   *
   * @default {65536}
   */
  highWaterMark?: number | undefined;
}

const OPTIONS: Names<ToDuplexOptions> = { allowHalfOpen: true, highWaterMark: true };
const DOING = "make a Duplex";
const HIGH_WATER_MARK = 65_536;
/** The most bytes of one chunk. */
const MAX_CHUNK = 65_536;

/** The callback of a step of a stream. */
export type Done = (error?: Error | null) => void;

/** An address in the form of `address()` of a socket of `node:net`. */
export interface DuplexAddress {
  /** The numeric address. */
  address: string;
  /** The family. */
  family: "IPv4" | "IPv6";
  /** The port. */
  port: number;
}

/**
 * A `stream.Duplex` over a bufferevent. {@linkcode toDuplex} makes it.
 *
 * It also has the methods of a socket of `node:net` that libraries use.
 */
export class BufferEventDuplex extends Duplex {
  readonly #bev: BufferEvent;
  readonly #seat: StreamSeat;
  /** The rest of a write, which waits for space. */
  #rest: (() => void) | undefined;
  /** The end of our direction, which waits until the output has left. */
  #final: Done | undefined;
  /** A chunk or the end was requested. */
  #wanted = false;
  /** The peer has finished. */
  #ended = false;
  /** `destroy()` was called: everything is queued without waiting for space. */
  #flushing = false;
  #resets = false;
  #noDelay: boolean | undefined;
  #keepAlive: [on: boolean, delayMs: number] | undefined;
  #referenced = true;
  #timeoutMs = 0;
  #timer: EventHandle | undefined;
  /** When the timer fires; Infinity while it is not set. */
  #timerAt = Infinity;
  #activeAt = 0;
  /** The number of bytes that had left then. */
  #written = 0;

  /**
   * Makes it, as {@linkcode toDuplex} does.
   *
   * @param bev The bufferevent, which belongs to the stream from now on
   * @param options `allowHalfOpen` and `highWaterMark`
   */
  constructor(bev: BufferEvent, options: ToDuplexOptions = {}) {
    const { allowHalfOpen = false, highWaterMark = HIGH_WATER_MARK } = readOptions(DOING, options, OPTIONS);
    checkBoolean(DOING, "allowHalfOpen", allowHalfOpen);
    checkCount(DOING, "highWaterMark", highWaterMark);
    super({ allowHalfOpen, highWaterMark });
    this.#bev = bev;
    this.#seat = new StreamSeat(DOING, bev, {
      onConnect: () => this.#onConnect(),
      onReadable: () => this.#onReadable(),
      onDrained: () => this.#onDrained(),
      onEnd: () => {
        this.#ended = true;
        this.#onReadable();
      },
      onFailed: (error) => void this.destroy(error),
      onGone: (error) => void this.destroy(error ?? undefined),
    });
  }

  /** The bufferevent, for its figures, limits and signal. Its bytes belong to the stream. */
  get bufferEvent(): BufferEvent {
    return this.#bev;
  }

  // ---- properties of a socket of node:net

  /** Whether the connection is still to be made, as with `connectNow()`. A `connect` event follows. */
  get connecting(): boolean {
    return !this.destroyed && this.#seat.connecting;
  }

  /** As `connecting`. */
  get pending(): boolean {
    return this.connecting;
  }

  /** `opening`, `open`, `readOnly`, `writeOnly` or `closed`. */
  get readyState(): "opening" | "open" | "readOnly" | "writeOnly" | "closed" {
    if (this.connecting) return "opening";
    if (this.readable) return this.writable ? "open" : "readOnly";
    return this.writable ? "writeOnly" : "closed";
  }

  /** The peer's numeric address; undefined until there is a connection, and on a unix socket. */
  get remoteAddress(): string | undefined {
    return this.#remote?.address;
  }

  /** The peer's port. */
  get remotePort(): number | undefined {
    return this.#remote?.port;
  }

  /** The family of the peer's address. */
  get remoteFamily(): "IPv4" | "IPv6" | undefined {
    return this.#remote?.family;
  }

  /** Our numeric address; undefined until there is a connection, and on a unix socket. */
  get localAddress(): string | undefined {
    return this.#local?.address;
  }

  /** Our port. */
  get localPort(): number | undefined {
    return this.#local?.port;
  }

  /** The family of our address. */
  get localFamily(): "IPv4" | "IPv6" | undefined {
    return this.#local?.family;
  }

  /** Our address; an empty object until there is a connection. */
  address(): DuplexAddress | Record<string, never> {
    return this.#local ?? {};
  }

  get #remote(): DuplexAddress | undefined {
    return inetOf(this.#seat.connection?.remote);
  }

  get #local(): DuplexAddress | undefined {
    return inetOf(this.#seat.connection?.local);
  }

  /** The number of received bytes. */
  get bytesRead(): number {
    return this.#bev.bytesRead;
  }

  /** The number of written bytes, including those that wait to be sent. */
  get bytesWritten(): number {
    return this.#bev.bytesWritten + (this.destroyed ? 0 : this.#bev.output.length + this.writableLength);
  }

  /** Whether the connection is protected by TLS. */
  get encrypted(): boolean {
    return this.#seat.tls !== undefined;
  }

  /** Whether the peer's certificate was verified; undefined without TLS. */
  get authorized(): boolean | undefined {
    return this.#seat.tls?.authorized;
  }

  /** The protocol that both have agreed on by ALPN; false if they have not, and undefined without TLS. */
  get alpnProtocol(): string | false | undefined {
    const { tls } = this.#seat;
    return tls === undefined ? undefined : tls.alpnProtocol ?? false;
  }

  // ---- methods of a socket of node:net

  /**
   * For drivers that connect a given stream. The address is ignored: the bufferevent has its own. A
   * `connect` event follows.
   *
   * @param args A last function is a listener of `connect`
   */
  connect(...args: unknown[]): this {
    const listener = args.at(-1);
    if (typeof listener === "function") this.once("connect", listener as () => void);
    // Drivers listen for it after the call, as the connection of a socket takes a while.
    if (!this.connecting) setImmediate(() => this.#tellConnected());
    return this;
  }

  /** Switches Nagle's algorithm off, as at first, or on. */
  setNoDelay(on: boolean = true): this {
    this.#noDelay = on;
    this.#tune();
    return this;
  }

  /** Switches TCP keep-alive on or off. `initialDelay` is the time without input before the first probe, in milliseconds. */
  setKeepAlive(on: boolean = false, initialDelay: number = 0): this {
    this.#keepAlive = [on, initialDelay];
    this.#tune();
    return this;
  }

  /** Lets the connection keep the process alive, as at first. */
  ref(): this {
    this.#referenced = true;
    this.#seat.socket?.ref();
    return this;
  }

  /** Lets the process end although the connection is open. */
  unref(): this {
    this.#referenced = false;
    this.#seat.socket?.unref();
    return this;
  }

  /** The time of `setTimeout()`, in milliseconds; undefined for none. */
  get timeout(): number | undefined {
    return this.#timeoutMs === 0 ? undefined : this.#timeoutMs;
  }

  /**
   * Emits `timeout` when no byte has arrived or left for a time. The connection stays: the listener
   * ends it. It is emitted once until there is a byte again.
   *
   * @param ms The time in milliseconds; 0 for none
   * @param listener Called once for the next `timeout`; with 0, a listener that is removed
   */
  setTimeout(ms: number, listener?: () => void): this {
    checkDuration("set the timeout of a Duplex", "it", ms);
    this.#timeoutMs = ms;
    if (ms > 0) {
      this.#active();
      this.#arm();
    }
    if (listener !== undefined) {
      if (ms > 0) this.once("timeout", listener);
      else this.removeListener("timeout", listener);
    }
    return this;
  }

  /** Ends our direction, and destroys the stream when everything has left. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once("finish", () => void this.destroy());
  }

  /**
   * Ends the connection at once, with a RST if the runtime supports it. Bytes that have not left
   * are lost.
   */
  resetAndDestroy(): this {
    this.#resets = true;
    return this.destroy();
  }

  // ---- the stream

  /** Of `stream.Readable`: a chunk is requested. */
  override _read(): void {
    this.#wanted = true;
    // Not in this call: the streams of Deno and Bun lose a `readable` event then.
    queueMicrotask(() => {
      if (this.destroyed || !this.#wanted) return;
      this.#give();
      if (this.#wanted) this.#seat.want(true);
    });
  }

  /** One chunk for each `_read`: the streams of Deno and Bun lose a wake-up otherwise. */
  #give(): void {
    const { input } = this.#bev;
    const n = Math.min(input.length, MAX_CHUNK);
    if (n === 0 && !this.#ended) return;
    this.#wanted = false;
    this.#seat.want(false);
    if (n === 0) return void this.push(null);
    // A copy, because consumers change the bytes, for example to unmask WebSocket frames.
    const chunk = Buffer.allocUnsafeSlow(n);
    input.remove(chunk);
    this.push(chunk);
  }

  #onReadable(): void {
    this.#active();
    if (this.#wanted) this.#give();
  }

  /** Of `stream.Writable`: sends a chunk. */
  override _write(chunk: Uint8Array, _encoding: string, done: Done): void {
    this.#send([{ chunk }], 0, 0, done);
  }

  /** Of `stream.Writable`: sends several chunks. */
  override _writev(chunks: { chunk: Uint8Array }[], done: Done): void {
    this.#send(chunks, 0, 0, done);
  }

  /**
   * Queues the chunks from one on, and of that one from a byte on. A large chunk is copied in
   * parts, as it leaves.
   */
  #send(chunks: readonly { chunk: Uint8Array }[], from: number, offset: number, done: Done): void {
    this.#active();
    try {
      for (let i = from; i < chunks.length; i++, offset = 0) {
        const { chunk } = chunks[i]!;
        while (offset < chunk.length) {
          const end = Math.min(offset + MAX_CHUNK, chunk.length);
          const part = end - offset === chunk.length ? chunk : chunk.subarray(offset, end);
          offset = end;
          if (this.#seat.send(part) || this.#flushing) continue;
          this.#rest = (): void => this.#send(chunks, i, end, done);
          this.#seat.awaitDrain();
          return;
        }
      }
    } catch (error) {
      return done(error as Error);
    }
    done();
  }

  /** Of `stream.Writable`: finishes our direction. */
  override _final(done: Done): void {
    try {
      this.#bev.shutdown();
    } catch (error) {
      return done(error as Error);
    }
    this.#final = done;
    this.#finish();
  }

  /** `finish` is emitted when the system has accepted everything. */
  #finish(): void {
    const final = this.#final;
    if (final === undefined) return;
    if (this.#seat.unsent) return this.#seat.awaitDrain();
    this.#final = undefined;
    final();
  }

  #onDrained(): void {
    this.#active();
    const rest = this.#rest;
    this.#rest = undefined;
    rest?.();
    this.#finish();
  }

  #onConnect(): void {
    this.#tune();
    if (!this.#referenced) this.#seat.socket?.unref();
    this.#active();
    this.#tellConnected();
    this.#finish();
  }

  #tellConnected(): void {
    if (this.destroyed) return;
    this.emit("connect");
    this.emit("ready");
  }

  /** A setting has no effect before there is a connection. */
  #tune(): void {
    const { socket } = this.#seat;
    if (socket === null || this.destroyed) return;
    if (this.#noDelay !== undefined) socket.setNoDelay(this.#noDelay);
    if (this.#keepAlive !== undefined) socket.setKeepAlive(...this.#keepAlive);
  }

  /**
   * Ends the connection and loses no bytes that `write()` has accepted: they are queued and still
   * leave, for up to 30 s. With an error, the system gets as many bytes as it accepts at once. If
   * some are left then, or nothing was ever sent, the connection is reset.
   */
  override destroy(error?: Error): this {
    if (!this.destroyed && !this.#flushing) {
      this.#flushing = true;
      while (this.writableCorked > 0) this.uncork();
      const rest = this.#rest;
      this.#rest = undefined;
      // It calls `_write` for all bytes that wait in the stream. Later they would be dropped.
      rest?.();
    }
    return super.destroy(error);
  }

  /** Of `stream.Duplex`: ends the connection. */
  override _destroy(error: Error | null, done: Done): void {
    this.#timer?.free();
    this.#timer = undefined;
    this.#timeoutMs = 0;
    const seat = this.#seat;
    if (this.#resets) seat.reset();
    else if (error !== null) seat.cut(error);
    else if (this.readableEnded && this.writableFinished) seat.close();
    else seat.drop();
    done(error);
  }

  // ---- the timeout

  #active(): void {
    if (this.#timeoutMs === 0) return;
    this.#activeAt = this.#seat.now();
    this.#written = this.#bev.bytesWritten;
    if (this.#timerAt === Infinity) this.#arm();
  }

  /** The timer is not changed while it fires early enough. Then it checks the remaining time. */
  #arm(): void {
    const at = this.#activeAt + this.#timeoutMs;
    if (this.destroyed || this.#timerAt <= at) return;
    this.#timer ??= this.#makeTimer();
    this.#timerAt = at;
    this.#timer.add(Math.max(0, at - this.#seat.now()));
  }

  #makeTimer(): EventHandle {
    const timer = this.#bev.base.timer(() => this.#onTimer());
    timer.unref();
    return timer;
  }

  #onTimer(): void {
    this.#timerAt = Infinity;
    if (this.#timeoutMs === 0) return;
    // A long output leaves without a call here.
    if (this.#bev.output.length > 0 && this.#bev.bytesWritten !== this.#written) this.#active();
    // The timer may be set already.
    if (this.#seat.now() < this.#activeAt + this.#timeoutMs) return this.#arm();
    this.emit("timeout");
  }
}

function inetOf(address: Address | undefined): DuplexAddress | undefined {
  if (address === undefined || !("hostname" in address)) return undefined;
  return { address: address.hostname, family: address.family, port: address.port };
}

/**
 * Makes a `stream.Duplex` over a bufferevent, so that libraries for Node's streams and sockets run on it unmodified:
 * `http.Server.emit("connection", …)`, `ws`, `pg`, `mqtt`, `ssh2` and others.
 *
 * From now on the bufferevent belongs to the stream: its callbacks are not called, except `open`
 * and `close` of `serve()` and `connect()`. A handler may wait for the stream. Both directions have
 * backpressure.
 *
 * - When both directions are over, the stream closes the connection, as `close()`.
 * - `end()` finishes our direction; `finish` is emitted when the system has accepted everything.
 * - `destroy()` ends the connection, and bytes that `write()` has accepted still leave, for up to
 * 30 s. With an error, the system gets as many bytes as it accepts at once; the connection is reset
 * if some are left, or if nothing was ever sent.
 * - If the connection fails, `error` is emitted once, with the `EventError`, and then `close`. If
 * other code frees or closes the bufferevent, only `close` is emitted.
 * - An exception of a listener that runs in the loop counts as one of a callback: `error` of `serve()` gets it.
 *
 * It can be made before the connection is there: with `connectNow()`, or on a `SocketBufferEvent` that connects. `connecting`
 * is then true, and `connect` is emitted later.
 *
 * @param bev A connection, an end of a pair, or a filter
 * @param options `allowHalfOpen` and `highWaterMark`
 * @returns The stream
 * @throws {TypeError} When `bev` is not a bufferevent, or an option has the wrong type or an unknown name
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `EV_FREED` when it was freed or is being closed; `EV_BUSY` when it has an open view, a filter, a
 * pipe or a stream already
 *
 * @example
 * ```ts
 * import { createServer } from "node:http";
 * import { serve } from "trivent";
 * import { toDuplex } from "trivent/duplex";
 *
 * const web = createServer((_request, response) => response.end("hello\n"));
 * const server = await serve({ hostname: "127.0.0.1", port: 0, maxConnections: 1000 }, {
 *   open: (bev) => void web.emit("connection", toDuplex(bev)),
 * });
 * const answer = await fetch(`http://127.0.0.1:${server.port}/`);
 * console.log(await answer.text()); // hello
 * await server.close({ graceMs: 100 });
 * ```
 */
export function toDuplex(bev: BufferEvent, options: ToDuplexOptions = {}): BufferEventDuplex {
  return new BufferEventDuplex(bev, options);
}
