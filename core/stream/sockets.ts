/**
 * A client in the shape of the Sockets API draft of WinterTC (https://sockets-api.proposal.wintertc.org/): two web
 * streams, and promises for what happens to the connection. Programs for `cloudflare:sockets` run on it.
 *
 * @module
 */

import { show } from "../checks.ts";
import { BEV_EVENT_CONNECTED, BEV_OPT_CLOSE_ON_FREE, EV_READ } from "../flags.ts";
import { EventError } from "../errors.ts";
import { coreOf } from "../bufferevent/bufferevent.ts";
import { SocketBufferEvent } from "../bufferevent/socket.ts";
import type { EventBase } from "../loop/event_base.ts";
import type { AbortSignalLike, Runtime } from "../runtime.ts";
import type { TlsConnectOptions } from "../tls.ts";
import { formatAddress } from "../socket/address.ts";
import { baseOf } from "./serve.ts";
import { viewChunks } from "./lenses.ts";
import type { View } from "./views.ts";
import { type ByteReadableStream, type ByteWritableStream, Sink, streamOfSink, streamOfView } from "./web_streams.ts";

/** Where to connect: `example.com:80`, `[::1]:80`, or its parts. */
export type SocketsAddress = string | { hostname: string; port: number };

/** Options of {@linkcode connect} of the Sockets API. The first four are the draft's, the others ours. */
export interface SocketsOptions {
  /**
   * Whether the connection has TLS: not at all, from the beginning, or from {@linkcode StreamSocket.startTls} on.
   *
   * @default {"off"}
   */
  secureTransport?: "off" | "on" | "starttls" | undefined;
  /**
   * Whether the socket stays open when the peer has finished: else it is closed once that was read.
   *
   * @default {false}
   */
  allowHalfOpen?: boolean | undefined;
  /** The name that the server's certificate must have, and that it is told. By default the host name. */
  sni?: string | undefined;
  /** What is spoken inside TLS, most wanted first. */
  alpn?: readonly string[] | undefined;
  /** More options of TLS, such as authorities. */
  tls?: TlsConnectOptions | undefined;
  /** How long the attempt to connect may take, in milliseconds. */
  timeoutMs?: number | undefined;
  /** Aborting it before the connection is there ends the attempt. */
  signal?: AbortSignalLike | undefined;
  /** The base; by default one for each runtime, which dispatches by itself. */
  base?: EventBase;
  /** The host, when no base is given; by default the one that the program runs on. */
  runtime?: Runtime;
}

/** What `opened` gives. */
export interface SocketsInfo {
  /** The peer's end: `127.0.0.1:80`. */
  readonly remoteAddress: string | null;
  /** Our end. */
  readonly localAddress: string | null;
  /** What is spoken inside TLS, where the two have agreed on it. */
  readonly alpn: string | null;
}

/** What goes wrong with a {@linkcode StreamSocket}: a `TypeError`, as the draft has it. */
export class SocketError extends TypeError {
  /** `SocketError`. */
  override readonly name: string = "SocketError";
  /** The stable name of what went wrong, as of an `EventError`; undefined where it is a matter of how it was called. */
  readonly code: string | undefined;

  /**
   * Makes an error.
   *
   * @param message What was tried and why it failed; `SocketError: ` is put before it
   * @param cause What it was made from
   */
  constructor(message: string, cause?: unknown) {
    super(`SocketError: ${message}`, cause === undefined ? undefined : { cause });
    this.code = (cause as { code?: string } | undefined)?.code;
  }
}

/** Without a word about it: who waits for one of the two promises need not wait for the other. */
class Deferred<T> {
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

/** How long the last output may wait for a peer that takes none of it. */
const CLOSE_TIMEOUT_MS = 30_000;
/** The high watermark of reading. */
const READ_HIGH = 64 * 1024;

/**
 * A connection as two web streams. {@linkcode connect} of the Sockets API makes it.
 *
 * Nobody who does not read or write is hurt by it: what arrives waits with the peer, and a write waits for room.
 */
export class StreamSocket {
  readonly #bev: SocketBufferEvent;
  readonly #options: SocketsOptions;
  readonly #opened: Deferred<SocketsInfo> = new Deferred();
  readonly #closed: Deferred<void> = new Deferred();
  readonly #view: View<Uint8Array>;
  readonly #sink: Sink;
  /** Ends `readable` with a reason: who reads on shall not take a failure for the end. */
  #failReadable: ((reason: unknown) => void) | null = null;
  #secure: boolean;
  #isOpen = false;
  #over = false;
  #upgraded = false;
  /** What is written waits for this where `startTls()` has made it: it would else leave in the clear. */
  readonly #begun: Deferred<void> = new Deferred();
  /** What arrives. Nothing is taken from the connection before it is asked for. */
  readonly readable: ByteReadableStream;
  /**
   * What is sent: bytes or texts. Closing it finishes our direction; aborting it cuts the connection.
   */
  readonly writable: ByteWritableStream;

  /** Made by {@linkcode connect} of the Sockets API and `startTls()`. */
  constructor(bev: object, options: SocketsOptions, secure: boolean, waits: boolean = false) {
    this.#bev = bev as SocketBufferEvent;
    this.#options = options;
    this.#secure = secure;
    const core = coreOf(this.#bev as SocketBufferEvent<unknown>);
    this.#view = viewChunks(core);
    this.#sink = new Sink(core, { onFailed: (error) => this.#failed(error) });
    this.readable = streamOfView(this.#view, {
      onStart: (fail) => void (this.#failReadable = fail),
      onEnd: (error) => this.#readEnded(error),
    }) as ByteReadableStream;
    this.writable = streamOfSink(this.#sink, waits ? this.#begun.promise : undefined) as ByteWritableStream;
    if (!waits) this.#listen();
  }

  /** Hears of the connection from here on. */
  #listen(): void {
    this.#begun.resolve();
    this.#bev.setCallbacks({
      event: (_bev, what, error) => {
        if ((what & BEV_EVENT_CONNECTED) !== 0) this.#connected();
        else if (!this.#isOpen) this.#failed(error);
      },
    });
  }

  /** Resolves when the connection is there, its TLS handshake included; rejects with a `SocketError` when it failed. */
  get opened(): Promise<SocketsInfo> {
    return this.#opened.promise;
  }

  /**
   * Resolves when the socket is closed: by `close()`, or, without `allowHalfOpen`, when the end of what arrives was read,
   * or that it was reset. Rejects with a `SocketError` when there was no connection.
   */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Whether `startTls()` was called: this socket is used up then. */
  get upgraded(): boolean {
    return this.#upgraded;
  }

  /** Whether the connection has TLS, or could have. */
  get secureTransport(): "off" | "on" | "starttls" {
    return this.#secure ? "on" : this.#options.secureTransport ?? "off";
  }

  /**
   * Closes the socket. What was written, as far as the promise of the write has resolved, is delivered; what has not been
   * read is dropped. A read that waits has ended, a write that waits rejects with the reason.
   *
   * @param reason What `opened` rejects with, if it has not settled, and `writable`
   * @returns `closed`
   */
  close(reason?: unknown): Promise<void> {
    if (this.#over) return this.closed;
    this.#over = true;
    const why = reason ?? new SocketError("the socket was closed");
    this.#opened.reject(why);
    this.#letGo(why);
    const bev = this.#bev;
    const done = (): void => {
      bev.free();
      this.#closed.resolve();
    };
    if (!this.#isOpen || bev.output.length === 0 || coreOf(bev as SocketBufferEvent<unknown>).freed) done();
    else {
      // Once the system has all of it, it is delivered whether we wait for the peer or not.
      bev.setTimeouts(null, CLOSE_TIMEOUT_MS);
      bev.setCallbacks({ write: () => bev.output.length === 0 && done(), event: done });
    }
    return this.closed;
  }

  /**
   * Changes the connection to TLS, after all that was written. This socket is closed by it, and its streams have ended; the
   * connection goes on as the new one. All that came before must have been read. Before the connection is there it is
   * changed as soon as it is; what is written to the new socket waits until then.
   *
   * @param options More options of TLS, over those that `connect()` was given
   * @returns The new socket; its `opened` tells of the handshake
   * @throws {SocketError} When it has TLS already, is closed, or was not made with `secureTransport: "starttls"`
   */
  startTls(options?: TlsConnectOptions): StreamSocket {
    if (this.secureTransport !== "starttls" || this.#over) {
      const why = this.#over
        ? "the socket is closed"
        : `secureTransport is not "starttls" but "${this.secureTransport}"`;
      throw new SocketError(`cannot start TLS: ${why}`);
    }
    this.#upgraded = this.#over = true;
    this.#letGo(new SocketError("the socket was upgraded: use the one that startTls() has given"));
    this.#closed.resolve();
    const all = { ...tlsOf(this.#options), ...options };
    const secure = new StreamSocket(this.#bev, this.#options, true, true);
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

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
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

  /** The streams end, and the bufferevent belongs to nobody. */
  #letGo(reason: unknown): void {
    this.#view.return();
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
  }

  #readEnded(error: unknown): void {
    if (error !== null) this.#failed(error);
    else if (this.#options.allowHalfOpen !== true) this.close();
  }

  #failed(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    const reason = error instanceof SocketError
      ? error
      : new SocketError(error instanceof EventError ? error.message : "the connection has failed", error);
    this.#opened.reject(reason);
    // A connection that was there has ended, which its streams tell the reason of.
    if (this.#isOpen) this.#closed.resolve();
    else this.#closed.reject(reason);
    this.#failReadable?.(reason);
    this.#letGo(reason);
    this.#bev.free();
  }
}

/**
 * Connects, in the shape of the Sockets API draft of WinterTC. The main entry exports it as `socketsConnect`.
 *
 * @param address Where to
 * @param options How
 * @returns The socket, at once; its streams can be used before it is `opened`
 * @throws {SocketError} When the address or an option is none
 *
 * @example
 * ```ts
 * import { serve, socketsConnect as connect } from "trivent";
 *
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
 *   read: (bev) => bev.output.addBuffer(bev.input),
 * });
 * const { port } = server.address as { port: number };
 *
 * const socket = connect(`127.0.0.1:${port}`);
 * const writer = socket.writable.getWriter();
 * await writer.write("Hello, World!");
 * const { value } = await socket.readable.getReader().read();
 * if (new TextDecoder().decode(value) !== "Hello, World!") throw new Error("no echo");
 * await socket.close();
 * await server.close();
 * ```
 */
export function connect(address: SocketsAddress, options: SocketsOptions = {}): StreamSocket {
  const target = targetOf(address);
  const { secureTransport = "off", sni, alpn, tls, timeoutMs, signal } = options;
  if (secureTransport !== "off" && secureTransport !== "on" && secureTransport !== "starttls") {
    throw new SocketError(
      `cannot connect: secureTransport is "off", "on" or "starttls": received ${show(secureTransport)}`,
    );
  }
  if (secureTransport === "off" && (sni !== undefined || alpn !== undefined || tls !== undefined)) {
    throw new SocketError(`cannot connect: sni, alpn and tls have no meaning with secureTransport "off"`);
  }
  const bev = new SocketBufferEvent(baseOf(options), null, BEV_OPT_CLOSE_ON_FREE);
  try {
    bev.setWatermark(EV_READ, 0, READ_HIGH);
    const socket = new StreamSocket(bev, options, secureTransport === "on");
    const secure = secureTransport === "on" ? { tls: tlsOf(options) } : {};
    bev.connect({ ...target, timeoutMs, signal, ...secure });
    return socket;
  } catch (error) {
    bev.free();
    throw new SocketError((error as Error).message, error);
  }
}

function tlsOf({ tls, sni, alpn }: SocketsOptions): TlsConnectOptions {
  return {
    ...tls,
    ...(sni === undefined ? {} : { serverName: sni }),
    ...(alpn === undefined ? {} : { alpnProtocols: alpn }),
  };
}

/** The port is what stands behind the last colon. */
function targetOf(address: SocketsAddress): { hostname: string; port: number } {
  if (typeof address === "object" && address !== null) return { hostname: address.hostname, port: address.port };
  const match = /^(?:\[(.+)\]|([^:]+)):(\d{1,5})$/.exec(address);
  if (match === null) throw new SocketError(`cannot connect: the address is not host:port: received ${show(address)}`);
  return { hostname: (match[1] ?? match[2]) as string, port: Number(match[3]) };
}
