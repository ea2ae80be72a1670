/**
 * A client with the interface of the Sockets API draft of WinterTC (https://sockets-api.proposal.wintertc.org/): two
 * web streams, and promises for the life of the connection. Programs for `cloudflare:sockets` run on it.
 *
 * @module
 */

import { DEFAULT_CLOSE_TIMEOUT_MS, DEFAULT_READ_HIGH } from "../bufferevent/limits.ts";
import { checkInner, checkSignal, checkText, isList, wrongType } from "../checks.ts";
import { EventError } from "../errors.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_OPT_CLOSE_ON_FREE,
  EV_READ,
  EV_WRITE,
} from "../flags.ts";
import { coreOf } from "../api/bufferevent.ts";
import { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { SocketCore } from "../bufferevent/socket_core.ts";
import { type Names, readOptions } from "../names.ts";
import type { EventBase } from "../api/event_base.ts";
import type { AbortSignalLike, Runtime } from "../runtime.ts";
import { checkTls, TLS_CONNECT_OPTIONS, type TlsConnectOptions } from "../tls.ts";
import { formatAddress } from "../socket/address.ts";
import { baseOf } from "./serve.ts";
import { viewChunks } from "../views/decoders.ts";
import type { View } from "../views/views.ts";
import {
  type ByteReadableStream,
  type ByteWritableStream,
  flushableStreamOf,
  Sink,
  streamOfView,
  type ViewStream,
} from "../views/web_streams.ts";

/** The address: `example.com:80`, `[::1]:80`, or its parts. A port may be a string, as in a `URL`. */
export type SocketsAddress = string | {
  /** A host name or a numeric address. */
  hostname: string;
  /** From 1 to 65535. */
  port: number | string;
  /** The family of addresses for a host name; by default both. */
  family?: "IPv4" | "IPv6" | undefined;
};

/** Options of TLS, with other libraries' names for `serverName`. */
export interface SocketsTlsOptions extends TlsConnectOptions {
  /** `serverName`, as `cloudflare:sockets` calls it. */
  expectedServerHostname?: string | undefined;
  /** `serverName`, as `node:tls` calls it. */
  servername?: string | undefined;
}

/** Options of {@linkcode connect} of the Sockets API. The first four are those of the draft, the others are ours. */
export interface SocketsOptions {
  /**
   * Whether the connection has TLS: never, from the beginning, or from {@linkcode StreamSocket.startTls} on.
   *
   * @default {"off"}
   */
  secureTransport?: "off" | "on" | "starttls" | undefined;
  /**
   * Whether the socket stays open when the peer has finished. Otherwise it is closed when that end was read.
   *
   * @default {false}
   */
  allowHalfOpen?: boolean | undefined;
  /** The name in the server's certificate, which is also sent to the server. By default the host name. */
  sni?: string | null | undefined;
  /** The application protocols (ALPN), the preferred one first. */
  alpn?: readonly string[] | undefined;
  /**
   * The number of bytes that may wait on our side in each direction, as in `cloudflare:sockets`:
   * `writable` is ready for more below it, and this many bytes are received ahead of the reader. By
   * default one chunk waits in `writable` and 64 KiB behind it, and 64 KiB are received ahead.
   */
  highWaterMark?: number | bigint | undefined;
  /** Further options of TLS, such as authorities. */
  tls?: SocketsTlsOptions | undefined;
  /** The time limit for connecting, in milliseconds. */
  timeoutMs?: number | undefined;
  /** Aborting it before the connection is there ends the attempt. */
  signal?: AbortSignalLike | undefined;
  /** The base; by default one for each runtime, which dispatches by itself. */
  base?: EventBase | undefined;
  /** The runtime, if no base is given; by default the one that the program runs on. */
  runtime?: Runtime | undefined;
}

const OPTIONS: Names<SocketsOptions> = {
  secureTransport: true,
  allowHalfOpen: true,
  sni: true,
  alpn: true,
  highWaterMark: true,
  tls: true,
  timeoutMs: true,
  signal: true,
  base: true,
  runtime: true,
};

const ADDRESS: Names<Exclude<SocketsAddress, string>> = { hostname: true, port: true, family: true };

const TLS: Names<SocketsTlsOptions> = /* @__PURE__ */ Object.assign({}, TLS_CONNECT_OPTIONS, {
  expectedServerHostname: true as const,
  servername: true as const,
});

/** The value of `opened`. */
export interface SocketsInfo {
  /** The peer's address: `127.0.0.1:80`. */
  readonly remoteAddress: string | null;
  /** Our address. */
  readonly localAddress: string | null;
  /** The application protocol (ALPN), if both have agreed on one. */
  readonly alpn: string | null;
}

/** A failure of a {@linkcode StreamSocket}: a `TypeError`, as in the draft. */
export class SocketError extends TypeError {
  /** `SocketError`. */
  override readonly name: string = "SocketError";
  /** The stable name of the failure, as in an `EventError`; undefined for a wrong call. */
  readonly code: string | undefined;

  /**
   * Makes an error.
   *
   * @param message The attempt and the reason of its failure; `SocketError: ` is added before it
   * @param cause The cause
   */
  constructor(message: string, cause?: unknown) {
    super(
      `SocketError: ${checkText("make a SocketError", "the message", message)}`,
      cause === undefined ? undefined : { cause },
    );
    this.code = cause instanceof EventError ? cause.code : undefined;
  }
}

/** The rejection is not reported: a program that awaits one of the two promises need not await the other. */
class OpenPromise<T> {
  readonly promise: Promise<T>;
  resolve!: (value: T) => void;
  reject!: (reason: unknown) => void;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.promise.catch(() => {});
  }
}

/** The parts of a socket. */
class Begun {
  readonly bev: SocketBufferEvent;
  readonly options: SocketsOptions;
  readonly secure: boolean;
  /** Whether written bytes wait for `startTls()`. */
  readonly waits: boolean;

  constructor(bev: SocketBufferEvent, options: SocketsOptions, secure: boolean, waits: boolean) {
    this.bev = bev;
    this.options = options;
    this.secure = secure;
    this.waits = waits;
  }
}

/**
 * A connection as two web streams. {@linkcode connect} of the Sockets API makes it.
 *
 * Nothing is lost if you do not read: the peer must wait. A write waits while the peer does not read.
 */
export class StreamSocket {
  readonly #bev: SocketBufferEvent;
  readonly #core: SocketCore;
  readonly #options: SocketsOptions;
  readonly #opened: OpenPromise<SocketsInfo> = new OpenPromise();
  readonly #closed: OpenPromise<void> = new OpenPromise();
  readonly #view: View<Uint8Array>;
  readonly #sink: Sink;
  /** Ends `readable`, with a reason or not: a later read must not take a failure for the end. */
  readonly #endReadable: ViewStream["end"];
  #secure: boolean;
  #isOpen = false;
  #over = false;
  #upgraded = false;
  /** Whether the end of the input was read. */
  #readOver = false;
  /** Whether `writable` was closed. */
  #writeOver = false;
  /** Whether `readable` was cancelled: arriving bytes are dropped. */
  #drops = false;
  /** Whether this socket has the connection: one that `startTls()` has made gets it with the handshake. */
  #begins = false;
  /**
   * On a socket made by `startTls()`, the first write waits for this. Otherwise it would leave
   * without TLS.
   */
  readonly #begun: OpenPromise<void> = new OpenPromise();
  /**
   * The bytes that arrive. It takes nothing from the connection before a read asks for it. Cancelling it drops bytes
   * that still arrive.
   */
  readonly readable: ByteReadableStream;
  /**
   * The bytes to send, or strings. Closing it finishes our direction. Aborting it closes the socket; each chunk whose
   * write has resolved is delivered.
   */
  readonly writable: ByteWritableStream;

  /** Made by {@linkcode connect} of the Sockets API and `startTls()`. */
  constructor(made: object) {
    const { bev, options, secure, waits } = checkInner(made, Begun, "StreamSocket", "socketsConnect()");
    this.#bev = bev;
    this.#core = coreOf(this.#bev as SocketBufferEvent<unknown>) as SocketCore;
    this.#options = options;
    this.#secure = secure;
    this.#view = viewChunks(this.#core);
    this.#sink = new Sink(this.#core, {
      onFailed: (error) => this.#lost(error),
      onClosed: () => this.#directionOver("write"),
      // Before its start, a sink would get the error only then.
      onAborting: () => this.#begun.resolve(),
      onAborted: (reason) => this.#aborted(reason),
    });
    const { stream, end } = streamOfView(this.#view, {
      onCancelled: () => this.#drop(),
      onEnd: (error) => this.#readEnded(error),
    });
    this.readable = stream as ByteReadableStream;
    this.#endReadable = end;
    const begun = waits ? this.#begun.promise : undefined;
    this.writable = flushableStreamOf(
      this.#sink,
      begun,
      options.highWaterMark as number | undefined,
    ) as ByteWritableStream;
    if (!waits) this.#listen();
  }

  /** Gets the events of the connection from now on. */
  #listen(): void {
    this.#begins = true;
    this.#begun.resolve();
    this.#bev.setCallbacks({
      read: (bev) => {
        if (this.#drops) bev.input.drain(bev.input.length);
      },
      event: (_bev, what, error) => {
        if ((what & BEV_EVENT_CONNECTED) !== 0) this.#connected();
        else if (!this.#isOpen || (what & BEV_EVENT_ERROR) !== 0) this.#failed(error);
        else if ((what & BEV_EVENT_EOF) !== 0) this.#readEnded(null);
      },
    });
  }

  /**
   * Resolves when the connection is established, with TLS after the handshake. Rejects with a `SocketError` if it
   * failed.
   */
  get opened(): Promise<SocketsInfo> {
    return this.#opened.promise;
  }

  /**
   * Resolves when the socket is closed: by `close()`, by aborting `writable`, by a reset, or when both directions are
   * over. Without `allowHalfOpen` they are over when the peer's end was read. It also resolves after `startTls()`.
   * Rejects with a `SocketError` if there was no connection.
   */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Whether `startTls()` was called. This socket cannot be used any more then. */
  get upgraded(): boolean {
    return this.#upgraded;
  }

  /** Whether the connection has TLS, or can change to it. */
  get secureTransport(): "off" | "on" | "starttls" {
    return this.#secure ? "on" : this.#options.secureTransport ?? "off";
  }

  /**
   * Closes the socket. All chunks that were written before are delivered: an attempt to connect goes on for that, and a
   * slow peer gets 30 s. Unread bytes are dropped. A pending read ends.
   *
   * @param reason The reason for `writable`, and for `opened` if it has not settled
   * @returns `closed`
   */
  close(reason?: unknown): Promise<void> {
    if (this.#over) return this.closed;
    this.#over = true;
    const why = reason ?? new SocketError("the socket was closed");
    this.#opened.reject(why);
    this.#view.return();
    this.#endReadable(null);
    // Before its handshake an upgraded socket has no bytes to deliver.
    if (this.#begins) this.#sink.flush(() => this.#finish(why));
    else this.#finish(why);
    return this.closed;
  }

  /** Delivers the output, and ends the connection. No more bytes will be written. */
  #finish(why: unknown): void {
    this.#letGo(why);
    const bev = this.#bev;
    const done = (): void => {
      bev.free();
      this.#closed.resolve();
    };
    if (this.#core.freed || this.#core.failure !== null || bev.output.length === 0) done();
    else {
      // Once the system has all of it, it is delivered whether we wait for the peer or not.
      bev.setTimeouts(null, DEFAULT_CLOSE_TIMEOUT_MS);
      bev.setCallbacks({
        write: () => bev.output.length === 0 && done(),
        event: (_bev, what, error) => {
          if ((what & BEV_EVENT_CONNECTED) !== 0) {
            this.#isOpen = true;
            return;
          }
          // The attempt has failed, and written bytes were lost.
          if (!this.#isOpen) this.#closed.reject(socketError(error));
          done();
        },
      });
    }
  }

  /**
   * Changes the connection to TLS, after all written bytes. This socket is then closed, and its streams have ended; the
   * connection goes on as the new socket. All input must have been read. While connecting, the change follows as soon
   * as the connection is established; writes to the new socket wait for that.
   *
   * `closed` of this socket resolves soon after the call, not inside it.
   *
   * @param options Further options of TLS, which replace those of `connect()`
   * @returns The new socket; its `opened` settles after the handshake
   * @throws {SocketError} When it has TLS already, is closed, was not made with `secureTransport: "starttls"`, or an
   * option is wrong
   */
  startTls(options: SocketsTlsOptions = {}): StreamSocket {
    const doing = "start TLS";
    if (this.secureTransport !== "starttls" || this.#over) {
      const why = this.#over
        ? "the socket is closed"
        : `secureTransport is not "starttls" but "${this.secureTransport}"`;
      throw new SocketError(`Cannot ${doing}: ${why}`);
    }
    const all = said(() => {
      const all = { ...tlsOf(this.#options), ...namedOnce(readOptions(doing, options, TLS)) };
      checkTls(doing, all, "client");
      return all;
    });
    this.#upgraded = this.#over = true;
    this.#letGo(new SocketError("the socket was upgraded: use the one that startTls() has given"));
    if (!this.#core.freed) this.#bev.disable(EV_READ);
    // Not inside the call, nor in a microtask after it: libraries would treat the connection as
    // closed before they have the new socket.
    this.#core.loop.runtime.defer(() => this.#closed.resolve());
    const secure = new StreamSocket(new Begun(this.#bev, this.#options, true, true));
    if (this.#isOpen) secure.#startTls(all);
    else {
      this.#bev.setCallbacks({
        event: (_bev, what, error) => {
          if ((what & BEV_EVENT_CONNECTED) !== 0) {
            this.#connected();
            secure.#startTls(all);
          } else secure.#failed(error);
        },
      });
      secure.#opened.promise.catch((error) => this.#opened.reject(error));
    }
    return secure;
  }

  /** As `close()`. A socket that has failed before does not report it again. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failed = this.#over;
    try {
      await this.close();
    } catch (error) {
      if (!failed) throw error;
    }
  }

  #startTls(options: TlsConnectOptions): void {
    if (this.#over) return;
    try {
      this.#bev.startTls(options);
      this.#listen();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** The streams end, and the socket gives up the bufferevent. */
  #letGo(reason: unknown): void {
    this.#view.return();
    this.#endReadable(null);
    this.#sink.fail(reason);
    this.#begun.resolve();
  }

  #connected(): void {
    this.#isOpen = true;
    const { socket } = this.#bev;
    const text = (address: Parameters<typeof formatAddress>[0] | undefined): string | null =>
      address === undefined ? null : formatAddress(address);
    this.#opened.resolve({
      remoteAddress: text(socket?.remoteAddress),
      localAddress: text(socket?.localAddress),
      alpn: this.#bev.tls?.alpnProtocol ?? null,
    });
    this.#watch();
  }

  /** Notices a reset while nobody reads or writes. */
  #watch(): void {
    const { connection, loop } = this.#core;
    connection?.observe({
      // Inside the runtime's callback.
      onReady: () => {
        if (connection.gone && connection.error !== null) loop.runtime.defer(() => this.#lost(connection.error));
      },
      onSourceClosed() {},
    });
  }

  /** The connection has failed. Bytes that came before can still be read. */
  #lost(error: unknown): void {
    if (this.#over) return;
    const { failure, input, connection } = this.#core;
    if (!this.#isOpen || failure === null || input.length + (connection?.available ?? 0) === 0) {
      return this.#failed(error);
    }
    this.#sink.fail(socketError(failure));
    this.#closed.resolve();
  }

  #readEnded(error: unknown): void {
    if (error !== null) this.#failed(error);
    else this.#directionOver("read");
  }

  #directionOver(direction: "read" | "write"): void {
    if (direction === "read") this.#readOver = true;
    else this.#writeOver = true;
    if (this.#readOver && (this.#writeOver || this.#options.allowHalfOpen !== true)) this.close();
  }

  /** The input can no longer be read. Dropping it lets the peer go on, and detects its end. */
  #drop(): void {
    if (this.#over) return;
    this.#drops = true;
    this.#bev.input.drain(this.#bev.input.length);
    this.#bev.enable(EV_READ);
  }

  /** `writable` was aborted, and the connection ends after the written bytes. */
  #aborted(reason: unknown): void {
    if (this.#over) return;
    this.#over = true;
    const why = reason ?? new SocketError("the socket was closed: its writable was aborted");
    this.#opened.reject(why);
    this.#endReadable({ reason: why });
    this.#letGo(why);
    this.#closed.resolve();
  }

  #failed(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    const reason = socketError(error);
    this.#opened.reject(reason);
    // An established connection has ended. Its streams report the reason.
    if (this.#isOpen) this.#closed.resolve();
    else this.#closed.reject(reason);
    this.#endReadable({ reason });
    this.#letGo(reason);
    this.#bev.free();
  }
}

/**
 * Connects, with the interface of the Sockets API draft of WinterTC. The main entry point exports it as
 * `socketsConnect`.
 *
 * @param address The address
 * @param options The options
 * @returns The socket, at once; its streams can be used before it is `opened`
 * @throws {SocketError} When the address or an option is not valid
 *
 * @example
 * ```ts
 * import { serve, socketsConnect as connect } from "trivent";
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
 *   read: (bev) => bev.output.addBuffer(bev.input),
 * });
 * const socket = connect(`127.0.0.1:${server.port}`);
 * const writer = socket.writable.getWriter();
 * await writer.write("Hello, World!");
 * const { value } = await socket.readable.getReader().read();
 * if (new TextDecoder().decode(value) !== "Hello, World!") throw new Error("no echo");
 * await socket.close();
 * await server.close();
 * ```
 */
export function connect(address: SocketsAddress, options: SocketsOptions = {}): StreamSocket {
  return said(() => {
    const checked = checkOptions(readOptions(DOING, options, OPTIONS));
    const { secureTransport = "off", highWaterMark, timeoutMs, signal } = checked;
    const target = { ...targetOf(address), timeoutMs, signal };
    const bev = new SocketBufferEvent(
      baseOf(checked as { base?: EventBase; runtime?: Runtime }),
      null,
      BEV_OPT_CLOSE_ON_FREE,
    );
    try {
      bev.setWatermark(EV_READ, 0, Number(highWaterMark ?? DEFAULT_READ_HIGH));
      if (highWaterMark !== undefined) bev.setWatermark(EV_WRITE, 0, Number(highWaterMark));
      const socket = new StreamSocket(new Begun(bev, checked, secureTransport === "on", false));
      bev.connect(secureTransport === "on" ? { ...target, tls: tlsOf(checked) } : target);
      return socket;
    } catch (error) {
      bev.free();
      throw error;
    }
  });
}

const DOING = "connect";

/** Returns the result of `make`, and throws its errors as a `SocketError`. */
function said<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw socketError(error);
  }
}

function socketError(error: unknown): SocketError {
  if (error instanceof SocketError) return error;
  return new SocketError(error instanceof Error ? error.message : "the connection has failed", error);
}

/** @throws {TypeError} When an option is wrong */
function checkOptions(options: SocketsOptions): SocketsOptions {
  const wrong = (name: keyof SocketsOptions, what: string): TypeError =>
    wrongType(DOING, `${name} is not ${what}`, options[name]);
  const { secureTransport = "off", allowHalfOpen = false, sni, alpn, tls, highWaterMark } = options;
  if (!["off", "on", "starttls"].includes(secureTransport)) throw wrong("secureTransport", `"off", "on" or "starttls"`);
  if (typeof allowHalfOpen !== "boolean") throw wrong("allowHalfOpen", "a boolean");
  if (sni !== undefined && sni !== null && (typeof sni !== "string" || sni === "")) throw wrong("sni", "a host name");
  if (alpn !== undefined && !isList(alpn)) throw wrong("alpn", "a list of names");
  const bytes = typeof highWaterMark === "bigint" ? Number(highWaterMark) : highWaterMark;
  if (bytes !== undefined && !(Number.isSafeInteger(bytes) && bytes >= 1)) {
    throw wrong("highWaterMark", "a whole number of bytes from 1 on");
  }
  checkSignal(DOING, options.signal);
  const checked = tls === undefined ? options : { ...options, tls: namedOnce(readOptions(DOING, tls, TLS, "tls")) };
  if (secureTransport !== "off") checkTls(DOING, tlsOf(checked), "client");
  // Their defaults in the draft are null and an empty list.
  else if ((sni ?? undefined) !== undefined || (alpn !== undefined && alpn.length > 0) || tls !== undefined) {
    throw new TypeError(`Cannot ${DOING}: sni, alpn and tls have no meaning with secureTransport "off"`);
  }
  return bytes === undefined ? checked : { ...checked, highWaterMark: bytes };
}

/** The server's name under one option name. */
function namedOnce({ expectedServerHostname, servername, ...tls }: SocketsTlsOptions): TlsConnectOptions {
  const serverName = tls.serverName ?? expectedServerHostname ?? servername;
  return serverName === undefined ? tls : { ...tls, serverName };
}

/** The TLS options of `connect()`. */
function tlsOf({ tls, sni, alpn }: SocketsOptions): TlsConnectOptions {
  return {
    ...tls,
    ...((sni ?? undefined) === undefined ? {} : { serverName: sni as string }),
    ...(alpn === undefined || alpn.length === 0 ? {} : { alpnProtocols: alpn }),
  };
}

/** The parts of an address. In a text, the port follows the last colon. */
function targetOf(address: SocketsAddress): { hostname: string; port: number; family?: "IPv4" | "IPv6" | undefined } {
  if (typeof address === "string") {
    const match = /^(\[[^\]]+\]|[^:]+):(\d+)$/.exec(address);
    if (match === null) throw wrongType(DOING, "the address is not host:port", address);
    address = { hostname: match[1] as string, port: match[2] as string };
  } else if (typeof address !== "object" || address === null) {
    throw wrongType(DOING, "the address is not host:port or an object", address);
  }
  const { hostname, port, ...others } = readOptions(DOING, address, ADDRESS, "address");
  if (typeof hostname !== "string" || hostname === "") {
    throw wrongType(DOING, "the hostname is not a non-empty string", hostname);
  }
  const number = typeof port === "string" && /^\d+$/.test(port) ? Number(port) : port;
  if (typeof number !== "number" || !Number.isInteger(number) || number < 1 || number > 65_535) {
    throw wrongType(DOING, "the port is not a whole number from 1 to 65535", port);
  }
  // The hostname of a URL includes the brackets.
  return { ...others, hostname: /^\[(.+)\]$/.exec(hostname)?.[1] ?? hostname, port: number };
}
