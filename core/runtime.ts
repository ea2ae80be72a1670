/**
 * The seam: what a host gives the core, and nothing else. An adapter in `runtimes/` implements {@linkcode Runtime};
 * the core never names a host. The laws stand beside the methods and are proved by `tests/conformance/`.
 *
 * @module
 */

import type { Loan } from "./loan.ts";
import { EventError } from "./errors.ts";
import { hasMethod, show } from "./checks.ts";
import type { Names } from "./names.ts";
import type { StartTlsOptions, TlsConnectOptions, TlsInfo, TlsListenOptions, TlsRole } from "./tls.ts";

/** Where an IP endpoint is. */
export interface InetAddress {
  /** A numeric address, such as `127.0.0.1` or `::1`, or (only where one may connect or bind) a host name. */
  readonly hostname: string;
  /** The port, 0 to 65535. */
  readonly port: number;
  /** The address family. */
  readonly family: "IPv4" | "IPv6";
}

/** Where a unix-domain endpoint is. The path is empty for the unnamed end of a client. */
export interface UnixAddress {
  /** The path in the file system; a path that begins with a zero byte is an abstract name (Linux). */
  readonly path: string;
}

/** Where an endpoint is. libevent: `struct sockaddr`. */
export type Address = InetAddress | UnixAddress;

/** What is to be listened on: `hostname` and `port`, or `path`. */
export interface ListenOptions {
  /** The numeric address to bind; by default every IPv4 address. */
  hostname?: string | undefined;
  /** The port; 0 lets the system choose one. */
  port?: number | undefined;
  /** Binds the numeric address as this family; by default the one that it is written in. */
  family?: "IPv4" | "IPv6" | undefined;
  /** The path of a unix socket, in place of `hostname` and `port`. */
  path?: string | undefined;
  /**
   * How many connections may wait to be accepted. With the system, where `capabilities.backlog`; by default the host's own
   * number. In the process, while nobody takes them: see `ListeningSocket`; by default 128.
   */
  backlog?: number | undefined;
  /** Several processes or threads may listen on the port. Needs {@linkcode Capabilities.reusePort}. */
  reusePort?: boolean | undefined;
  /** Whether a listener on `::` leaves IPv4 alone. Needs {@linkcode Capabilities.ipv6Only}. */
  ipv6Only?: boolean | undefined;
  /** TLS on every connection that is accepted. Needs {@linkcode Capabilities.tls}. */
  tls?: TlsListenOptions | undefined;
}

/** For the core: the names of {@linkcode ListenOptions}. */
export const LISTEN_OPTIONS: Names<ListenOptions> = {
  hostname: true,
  port: true,
  family: true,
  path: true,
  backlog: true,
  reusePort: true,
  ipv6Only: true,
  tls: true,
};

/** Where to connect: `hostname` and `port`, or `path`. */
export interface ConnectOptions {
  /** A numeric address or a host name; by default `127.0.0.1`, or `::1` where IPv6 is asked for. */
  hostname?: string | undefined;
  /** The port, 1 to 65535. */
  port?: number | undefined;
  /** Only addresses of this family are tried; by default both. */
  family?: "IPv4" | "IPv6" | undefined;
  /** The path of a unix socket, in place of `hostname` and `port`. */
  path?: string | undefined;
  /** How long the attempt may take in all, in milliseconds; it then fails with `ETIMEDOUT`. By default as long as the host allows. */
  timeoutMs?: number | undefined;
  /**
   * How long an address of a host name may take before the next one is tried beside it, in milliseconds, 10 or more. The
   * families take turns, IPv6 first, and the first connection that is there is kept (RFC 8305). By default 250.
   */
  attemptDelayMs?: number | undefined;
  /** Aborting it before the connection is there ends the attempt with `ECANCELED`, with the reason as the cause. */
  signal?: AbortSignalLike | undefined;
  /** The numeric local address to connect from. Needs {@linkcode Capabilities.localAddress}. */
  localAddress?: string | undefined;
  /** TLS on the connection; `{}` for the usual. Needs {@linkcode Capabilities.tls}. */
  tls?: TlsConnectOptions | undefined;
}

/** For the core: the names of {@linkcode ConnectOptions}. */
export const CONNECT_OPTIONS: Names<ConnectOptions> = {
  hostname: true,
  port: true,
  family: true,
  path: true,
  timeoutMs: true,
  attemptDelayMs: true,
  signal: true,
  localAddress: true,
  tls: true,
};

/** As much of an `AbortSignal` as the core uses; every host's own fits. */
export interface AbortSignalLike {
  /** Whether it has been aborted. */
  readonly aborted: boolean;
  /** Why. */
  readonly reason?: unknown;
  /** Calls `listener` when it is aborted. */
  addEventListener(type: "abort", listener: () => void): void;
  /** Forgets `listener`. */
  removeEventListener(type: "abort", listener: () => void): void;
}

/** What to open a datagram socket with. */
export interface DatagramOptions {
  /** The numeric address to bind; by default `0.0.0.0`. */
  hostname?: string | undefined;
  /** The port to bind; by default 0, one that the system chooses. */
  port?: number | undefined;
}

/** For the core: how many connections wait to be accepted, unless {@linkcode ListenOptions.backlog} says it. */
export const DEFAULT_BACKLOG = 128;

/** For the core: the names of {@linkcode DatagramOptions}. */
export const DATAGRAM_OPTIONS: Names<DatagramOptions> = { hostname: true, port: true };

/** What a host can do. Declared, not guessed: what is false here gives an error of code `EV_UNSUPPORTED`. */
export interface Capabilities {
  /** Several listeners may share a port ({@linkcode ListenOptions.reusePort}). */
  readonly reusePort: boolean;
  /** `reset()` sends a RST; where false it is a plain close. */
  readonly reset: boolean;
  /** One direction can be finished while the other goes on. */
  readonly halfOpen: boolean;
  /** {@linkcode ListenOptions.ipv6Only} can be had. */
  readonly ipv6Only: boolean;
  /** {@linkcode ListenOptions.backlog} has an effect; where false the host's own number holds. */
  readonly backlog: boolean;
  /** {@linkcode ConnectOptions.localAddress} can be had. */
  readonly localAddress: boolean;
  /** The idle time of `setKeepAlive()` can be chosen. */
  readonly keepAliveDelay: boolean;
  /** Connections that wait to be accepted can be left with the system ({@linkcode ListenerBinding.pauseAccept}). */
  readonly pauseAccept: boolean;
  /** Unix-domain sockets. */
  readonly unix: boolean;
  /** Abstract unix names (Linux). */
  readonly abstractUnix: boolean;
  /** Datagram sockets. */
  readonly udp: boolean;
  /** Signals can be caught. */
  readonly signals: boolean;
  /** Files can be read ({@linkcode Runtime.readFile}). */
  readonly files: boolean;
  /** TLS when listening and connecting. */
  readonly tls: boolean;
  /** A connected socket can be changed to TLS as the server. */
  readonly startTlsServer: boolean;
  /** A connected socket can be changed to TLS as the client. */
  readonly startTlsClient: boolean;
  /** A TLS stream that was cut, by a FIN without a close_notify, fails with `ERR_TLS_TRUNCATED`; where false it ends. */
  readonly tlsTruncation: boolean;
}

/** The formats of compressed streams, by the names of the Compression Streams standard: RFC 1952, 1950, 1951 and 7932. */
export type CompressionFormat = "gzip" | "deflate" | "deflate-raw" | "brotli";

/** One stream that is compressed, or taken apart. It works at once, in the call. */
export interface Compressor {
  /**
   * Takes bytes from the front of `input` and puts what becomes of them at the front of `output`, until the one is used
   * up or the other is full. A full output may mean that there is more to come: call again, without input if need be.
   * A decompressor whose stream has ended takes nothing and makes nothing; members of a gzip stream are one stream.
   *
   * @param mode `BEV_NORMAL`; or, of a compressor whose input is used up, `BEV_FLUSH`: all that was taken comes out, or
   * `BEV_FINISHED`: and the stream ends. The last two until the output is not full.
   * @throws {EventError} `EV_COMPRESSED_INVALID`
   */
  step(input: Uint8Array, output: Uint8Array, mode: number): void;
  /** How many bytes the last step took. */
  readonly taken: number;
  /** How many bytes the last step made. */
  readonly made: number;
  /** Of a decompressor, as its last call: whether what it was given is a whole stream. */
  finish(): boolean;
  /** Lets its memory go. Idempotent. */
  close(): void;
}

/** What {@linkcode Runtime.setTimer} gives. Opaque to the core. */
export type TimerToken = object | number;

/**
 * A host. The core owns everything but bytes in, bytes out and one clock.
 *
 * Implementer notes: no callback is ever called from inside a call of these methods (a failure that is known at once
 * is reported later, through `defer` or a promise), but for what a method's own text says.
 */
export interface Runtime {
  /** Which adapter this is: `node`, `deno`, `bun` or `sim`, or what a runtime of your own is called. */
  readonly name: string;
  /** What the host can do. */
  readonly capabilities: Readonly<Capabilities>;
  /**
   * Why a capability is false, for the error of whoever asks for it, such as "it takes Node 22.12 or later, and this is 20.16.0".
   * Without a reason the error says that the host can't.
   */
  readonly lacks?: Readonly<Partial<Record<keyof Capabilities, string>>> | undefined;
  /** How many listeners, connections and datagram sockets are open now: what a test of leaks looks at. */
  readonly openHandles: number;
  /**
   * Copies of at most so many bytes cost less than views of them on the host's engine. By default 0: views are the
   * cheaper ones.
   */
  readonly cheapCopyBytes?: number | undefined;
  /**
   * Whether the host's process ends when nothing is left to do: a loop that waits for something that does not keep it
   * alive then does, with a timer. By default true.
   */
  readonly endsWhenIdle?: boolean | undefined;
  /** Monotonic milliseconds, with fractions. */
  now(): number;
  /** A random number, 0 or more and less than 1: what jitter is made from. On the simulator, the seed decides. */
  random(): number;
  /**
   * Calls `fn` once when `now()` has reached `deadlineMs`, or a little before (the core looks again). A deadline in
   * the past means soon. The timer keeps the process alive, unless `background` is true. The core never asks for more
   * than 2^30 ms ahead.
   */
  setTimer(deadlineMs: number, fn: () => void, background?: boolean): TimerToken;
  /** Forgets a timer; one that has fired or was cleared is no error. */
  clearTimer(token: TimerToken): void;
  /** Calls `fn` once, after the I/O callbacks of the host's present poll. Never from inside this call. */
  defer(fn: () => void): void;
  /**
   * Calls `fn` once when the host has been polled: what had arrived when this was called was given to its sinks before.
   * Never from inside this call. Without it the core calls `defer()` twice, the second time from the first: enough
   * where every deferred function runs behind a poll of its own.
   */
  poll?(fn: () => void): void;
  /**
   * Reports an error that no callback of the program takes: what a handler of a connection threw, without an `error`
   * callback. Hosts print it with its stack (`console.error`); the simulator rejects the running `advance()` or `run()`
   * with it, or else the next one. It never throws and ends nothing.
   */
  report(error: unknown): void;
  /**
   * Calls `fn` each time the signal is raised, until the function it returns is called.
   *
   * @throws {EventError} `EV_UNSUPPORTED` when the host can't catch it
   */
  onSignal(name: string, fn: () => void): () => void;
  /**
   * Binds and listens. The promise fails with `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …; nothing is then left open.
   * `hostname` is numeric, unless {@linkcode takesName}. With `tls`, connections are given to `onAccept` before their handshake, which the host makes
   * by itself: none waits for another. A certificate or key that can't be used is `ERR_TLS_OPTIONS`.
   */
  listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding>;
  /**
   * Begins to connect and returns at once; reports `onConnect`, or `onClose` with the error, later and never from
   * inside this call. `hostname` is numeric, unless {@linkcode takesName}: names are resolved by the core, which also
   * keeps the time and the signal.
   * With `tls`, the core calls `startTls()` in `onConnect`.
   */
  connect(options: ConnectOptions, sink: TransportSink): TransportBinding;
  /**
   * Whether `listen()` or `connect()` is to be given these options with their host name, which the host then looks up; it
   * races the addresses as the core does. Where it is missing, never.
   */
  takesName?(options: ListenOptions | ConnectOptions): boolean;
  /** Looks a host name up. Fails with `ENOTFOUND` where there is none. Both families, in the system's order. */
  resolve(hostname: string, signal?: AbortSignalLike): Promise<InetAddress[]>;
  /** Opens a datagram socket. Present where `capabilities.udp`. */
  datagram?(options: DatagramOptions, sink: DatagramSink): Promise<DatagramBinding>;
  /** Reads `length` bytes (or to the end) of a file from `offset`. Present where `capabilities.files`. */
  readFile?(path: string, offset: number, length: number | undefined): Promise<Uint8Array>;
  /**
   * Makes a compressor, or a decompressor. Present where the host has them.
   *
   * @param level How hard it tries; undefined for the usual, and of a decompressor
   * @throws {EventError} `EV_UNSUPPORTED` when the host has none of the format after all
   */
  compressor?(format: CompressionFormat, way: "compress" | "decompress", level: number | undefined): Compressor;
}

/** What an adapter does with one connection at the core's word. */
export interface TransportBinding {
  /**
   * Takes bytes to send. Law 1: what it took is delivered in order unless the connection fails. Law 2: it takes a
   * bounded number of bytes ahead of the peer, and then returns 0, and goes on to until `onWritable` follows, once, when
   * it can take some again. It may hold the memory until it is sent: the core does not change bytes that it has given.
   *
   * It may be called before `onConnect` (it returns 0, and `onConnect` is the news) and after `shutdownWrite`, `close` or `onClose` (it returns 0
   * and nothing follows). It never throws and never calls the sink: failures come through `onClose`.
   *
   * @param loan What the bytes lie in, if they are on loan from an adapter. Whoever {@linkcode countsLoans} and holds them
   * beyond this call is a user of it until they are sent.
   * @returns How many bytes it took, 0 to `chunk.length`
   */
  write(chunk: Uint8Array, loan?: Loan): number;
  /** Whether `write` heeds its `loan`. Where it does not, what it was given is not on loan any more. */
  readonly countsLoans?: boolean | undefined;
  /** As `write`, of several chunks in one call, where the host has one. @returns How many bytes it took of all */
  writev?(chunks: readonly Uint8Array[]): number;
  /** Asks the host to stop reading, so that the peer slows down. Advisory: data may still arrive. Idempotent. */
  pauseRead(): void;
  /** Asks the host to read again. Idempotent. */
  resumeRead(): void;
  /** Finishes our direction after all that was taken; the other direction goes on. Idempotent. */
  shutdownWrite(): void;
  /**
   * Ends the connection and loses nothing: what was taken is delivered, our direction is finished, what still arrives
   * is dropped, and the host lets go when the peer has finished too. From here on the sink hears only `onClose` (and
   * `onWritable`, which it ignores). The core calls `release()` when it has waited long enough for the peer. Once our
   * direction is finished, the connection does not keep the process alive. While connecting: gives the attempt up.
   * Idempotent.
   */
  close(): void;
  /**
   * After `close()`: stops waiting for the peer to finish, and lets go as soon as all that was taken is with the system,
   * which goes on delivering it, as after close(2); without a RST of ours where the host allows. `onClose` follows then.
   * Idempotent.
   */
  release(): void;
  /** Lets go at once, with a RST where `capabilities.reset`. Undelivered bytes are lost. `onClose` follows. Idempotent. */
  reset(): void;
  /** Switches Nagle's algorithm off (true, as every adapter begins) or on. */
  setNoDelay(on: boolean): void;
  /** Switches TCP keep-alive on or off; the idle time counts where `capabilities.keepAliveDelay`. */
  setKeepAlive(on: boolean, delayMs: number): void;
  /** Lets the connection keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end although the connection is open. */
  unref(): void;
  /**
   * Changes to TLS, once: sends all that was taken in the clear, then makes the handshake. What has not been given to the
   * sink by now is part of it. Until `onSecure`, the binding is as before `onConnect`: `write` returns 0 without an
   * `onWritable`, `close` gives up. The core keeps the time. A handshake that fails ends by `onClose` with
   * `ERR_TLS_CERT`, `ERR_TLS_HANDSHAKE` or `ERR_TLS_OPTIONS`. `serverName` is given for a client. Present where
   * `capabilities.startTlsClient`; for the server where `capabilities.startTlsServer`.
   */
  startTls?(role: TlsRole, options: StartTlsOptions): void;
  /** Whether it is a TLS connection that was accepted and is in its handshake: `onSecure` or `onClose` follow. */
  readonly handshaking?: boolean | undefined;
  /** What the handshake has found. Still there after the close. */
  readonly tls?: TlsInfo | undefined;
  /** Our end, once connected. Still there after the close. */
  readonly local: Address | undefined;
  /** The peer's end, once connected. Still there after the close. */
  readonly remote: Address | undefined;
}

/**
 * What the core hears of one connection. Law 4: after `onClose` nothing else is called; a call may write to, close or
 * reset the binding from inside itself. Nothing is called from inside a method of the binding.
 */
export interface TransportSink {
  /** The connection is there. Only for one that was begun with {@linkcode Runtime.connect}; before anything else. */
  onConnect(): void;
  /** The TLS handshake is through. Before any data. */
  onSecure(): void;
  /**
   * Bytes have arrived, at least one. The core owns the memory from here on; or, if it is on loan, until the loan's
   * last user is done.
   */
  onData(chunk: Uint8Array, loan?: Loan): void;
  /** The peer has finished its direction; no data follows. */
  onEnd(): void;
  /** `write` returned 0 before, and can take bytes again. */
  onWritable(): void;
  /**
   * The connection is gone: without an error when both directions were finished, or after `reset()` or `release()`;
   * with one when it failed (`ECONNRESET`, `ECONNREFUSED`, `EPIPE`, `ETIMEDOUT`, `EHOSTUNREACH`, …), also after
   * `close()`, so that the core knows that what was taken may not have been delivered. Data that arrived before the
   * failure has been given before. Exactly once. A TLS stream fails with `ERR_TLS_TRUNCATED` where
   * `capabilities.tlsTruncation`, and with `ERR_TLS_PROTOCOL` when the peer breaks it off by an alert or is no TLS.
   */
  onClose(error?: EventError): void;
}

/** What an adapter does with one listening socket at the core's word. */
export interface ListenerBinding {
  /** Where it listens, the chosen port included. */
  readonly address: Address;
  /** Leaves new connections with the system, where `capabilities.pauseAccept`; elsewhere it does nothing. */
  pauseAccept(): void;
  /** Takes new connections again. */
  resumeAccept(): void;
  /** Stops listening and lets the port go; connections stay. Resolves when the port is free. Idempotent. */
  close(): Promise<void>;
  /** Lets the listener keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end although the listener is open. */
  unref(): void;
}

/** What the core hears of one listening socket. */
export interface AcceptSink {
  /** A connection was accepted. Returns the sink for what happens on it; nothing was called on it before. */
  onAccept(binding: TransportBinding): TransportSink;
  /** Accepting failed (`EMFILE`, …); the listener goes on. Retriable failures are not told. */
  onError(error: EventError): void;
}

/** What an adapter does with one datagram socket at the core's word. */
export interface DatagramBinding {
  /** Where it is bound, the chosen port included. */
  readonly address: InetAddress;
  /** Sends one datagram, whole. False: no room now, `onWritable` follows once. It never throws. */
  send(data: Uint8Array, to: InetAddress): boolean;
  /** Closes the socket. Idempotent. */
  close(): void;
  /** Lets the socket keep the process alive, as it does at first. */
  ref(): void;
  /** Lets the process end although the socket is open. */
  unref(): void;
}

/** What the core hears of one datagram socket. */
export interface DatagramSink {
  /** A datagram has arrived. The core owns the memory from here on. */
  onMessage(data: Uint8Array, from: InetAddress): void;
  /** `send` returned false before, and can take a datagram again. */
  onWritable(): void;
  /** Sending or receiving failed; the socket goes on. */
  onError(error: EventError): void;
}

/** For the core: gives `runtime` if it has what a runtime has. */
export function checkRuntime(verb: string, runtime: Runtime): Runtime {
  if (["now", "random", "setTimer", "listen", "connect"].every((name) => hasMethod(runtime, name))) return runtime;
  throw new TypeError(
    `Cannot ${verb}: the runtime is not a Runtime, such as nodeRuntime() gives: received ${show(runtime)}`,
  );
}

let installed: Runtime | (() => Runtime) | undefined;

/**
 * Says which runtime an `EventBase` without one gets. The package's main entry has done this; who imports only the
 * core does it, or gives each base its runtime.
 *
 * @param runtime The runtime, or a function that makes it when it is first needed
 */
export function setDefaultRuntime(runtime: Runtime | (() => Runtime)): void {
  if (typeof runtime !== "function") checkRuntime("set the default runtime", runtime);
  installed = runtime;
}

/**
 * Gives the runtime of an `EventBase` that was made without one.
 *
 * @returns The runtime
 * @throws {EventError} `EV_UNSUPPORTED` when none has been set
 */
export function defaultRuntime(): Runtime {
  if (installed === undefined) {
    throw new EventError(
      "Cannot choose a runtime: only the core was imported; give the base one, or call setDefaultRuntime()",
      { code: "EV_UNSUPPORTED" },
    );
  }
  if (typeof installed === "function") installed = checkRuntime("choose a runtime", installed());
  return installed;
}
