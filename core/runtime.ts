/**
 * The seam between the core and a runtime. An adapter implements {@linkcode Runtime}; the core never names one.
 *
 * An adapter keeps these laws. `trivent/conformance` tests each of them on any runtime, and `docs/adapters.md` explains how to
 * keep them. "Sink" means the object that the core gives and the adapter calls.
 *
 * **Law 1. Nothing is lost.** Bytes that `write` took arrive once, whole and in order, unless the connection fails. `write`
 * returns a count from 0 to the length of the chunk; a chunk without bytes gives 0 and no `onWritable`. `shutdownWrite()` and
 * `close()` take effect after all bytes that were taken.
 *
 * **Law 2. Memory is bounded.** A connection takes less than 8 MiB ahead of a peer that does not read, whatever the size of the
 * chunks, with all that the runtime and the system hold. The adapters here hold 64 KiB, and one `write` takes 256 KiB at most. Then
 * `write` returns 0, and goes on to return 0 until it has called `onWritable`, exactly once. After `pauseRead()` less than 1 MiB
 * arrives; then the runtime stops reading, so that the peer slows down. Nothing is disconnected because it is slow.
 *
 * **Law 3. Each direction ends by itself, and failures have one name.** `onEnd` comes after all data, once; our direction stays
 * open. When both directions have finished, `onClose` comes without an error. A failure is an `EventError` in `onClose`, whose
 * `code` is the same on every runtime: `ECONNREFUSED`, `ECONNRESET`, `EPIPE`, `ETIMEDOUT`, `EHOSTUNREACH` or `ENETUNREACH`,
 * `ENOENT` for a path that does not exist. Data that arrived before a failure is given before it is reported, also to a reader
 * that has paused. If the peer has reset the connection and had not finished before, a write that fails reports `ECONNRESET`, as
 * a read does; `EPIPE` is for a peer that had finished.
 *
 * **Law 4. `onClose` comes once, and then nothing.** After `close()`, `release()` or `reset()` the sink hears only `onClose` (and
 * perhaps `onWritable`, which it ignores). A callback may write to, finish, close or reset the connection from inside itself, and
 * may connect and listen. After `onClose` every method does nothing and `write` returns 0.
 *
 * **Law 5. A missing feature is declared.** If a flag of {@linkcode Capabilities} is false and an option needs it, `listen()` and
 * `datagram()` reject and `connect()` reports `onClose`, with an error of code `EV_UNSUPPORTED`. It is never ignored in silence.
 * The flags that say otherwise in their own text are the exceptions.
 *
 * **Law 6. Nothing is called from inside a call.** While the core is in a method of a runtime or of a binding, no sink, timer,
 * deferred function or handler is called. A failure that is known at once is reported later.
 *
 * **Law 7. The clock.** `now()` never goes back. A timer fires once, at its deadline or up to 2 ms early, in the order of the
 * deadlines. A deadline in the past means soon, and not at once. `clearTimer()` forgets a timer for certain, also from inside
 * another timer of the same time. A deferred function runs after the present call and its promises, in the order of the calls.
 *
 * **Law 8. What holds the process.** Timers, listeners, connections and datagram sockets keep the process alive. A timer in the
 * background, a signal handler and anything after `unref()` do not; `ref()` undoes `unref()`. Both work before the connection is
 * there and during a handshake. When the peer has finished, only output that waits to be sent holds the process; where a
 * runtime keeps what it has taken and does not tell, as Bun with TLS, the connection holds it until it is closed. After
 * `close()` a connection holds the process only until our direction is finished, whether or not the peer finishes. A
 * runtime with `endsWhenIdle: false` need not hold a process.
 *
 * **Law 9. Listening.** `listen()` resolves when the address is bound, and leaves nothing open when it fails: `EADDRINUSE`,
 * `EADDRNOTAVAIL`, `EACCES`, and for a path also `ENOENT`, `ENOTDIR` and `EINVAL` if it is too long to be bound whole. `onAccept`
 * comes for each connection; the binding may be paused, written to, closed or reset before a sink is returned. A client that is
 * gone before it is accepted is not reported, and neither is a failure that can be tried again at once. `close()` resolves when
 * the address can be bound again; connections stay. It removes the file of a unix socket only if the listener has made it and nothing
 * has replaced it, unless `unlinkOnClose` is false. A descriptor (`fd`) that is closed is `EBADF`, one that is not a socket `ENOTSOCK`,
 * and a socket that does not listen `EINVAL`. A socket that another process shares goes on to listen after `close()`.
 *
 * **Law 10. Addresses and families.** Host names are numeric, unless {@linkcode Runtime.takesName}. Without one, `listen()` means
 * `0.0.0.0` and `connect()` means `127.0.0.1`; with the family `IPv6` they mean `::` and `::1`. An address that is not of the
 * family asked for is `EINVAL`, and so is a name or address with a NUL in it. A listener on `::` takes IPv4 too, unless `ipv6Only`. Both addresses of a connection are of the
 * family of its own socket: a client of IPv4 is `::ffff:127.0.0.1`, of family IPv6, to a listener on `::`, and a client that has
 * connected to `::ffff:127.0.0.1` sees that address. `local` and `remote` are undefined until the connection is there, and keep
 * their values after the close. The unnamed end of a unix socket has the path `""`.
 *
 * **Law 11. Names.** `resolve()` gives all addresses of a name, of both families, in the system's order, with port 0; a numeric
 * address is its own result. A name that nobody has is `ENOTFOUND`, or `EAI_AGAIN` if no name server answers. If the signal is
 * aborted, before or during the lookup, the promise rejects at once with `ECANCELED` and the signal's reason as the cause.
 *
 * **Law 12. Options reach the system.** A connection begins with Nagle's algorithm off. `setNoDelay()`, `setKeepAlive()` and
 * `backlog` do what they say, as far as the capabilities go. They may be called at any time; where they have no meaning, as on
 * a unix socket, they do nothing.
 *
 * **Law 13. Errors in words.** A message is `Cannot <what was tried>: <reason> (<code>)`, with the address in it, and is the same
 * on every runtime: `Cannot listen on 127.0.0.1:80: the address is in use (EADDRINUSE)`, `Cannot connect to [::1]:80: connection
 * refused (ECONNREFUSED)`, `Cannot keep the connection with 127.0.0.1:80: connection reset by the peer (ECONNRESET)`. `syscall` is
 * `listen`, `connect`, `read`, `write`, `accept`, `bind`, `send` or `getaddrinfo`. The runtime's own error is the `cause`.
 *
 * **Law 14. Memory has one owner.** A chunk in `onData` is a plain `Uint8Array` (not a `Buffer`) of at least one byte. The core
 * owns its memory from then on, unless it is on loan. The core does not change bytes that it has given to `write`.
 *
 * **Law 15. Open handles are counted.** `openHandles` counts listeners, connections from `connect()` on or from their acceptance,
 * and datagram sockets. It has its old value again after `onClose` and `close()`.
 *
 * **Law 16. TLS.** Laws 1 to 4 hold over TLS. Until `onSecure`, a binding is as before `onConnect`. A handshake that fails ends
 * by `onClose` with `ERR_TLS_CERT`, `ERR_TLS_HANDSHAKE` or `ERR_TLS_OPTIONS`. Handshakes do not wait for each other.
 *
 * **Law 17. Datagrams.** A datagram is sent whole or not at all, in the order of the calls, and is copied in `send()`. `send()`
 * returns false if there is no space, and `onWritable` follows once. `onError` reports a failure, which closes nothing. What
 * was sent before `close()` still leaves.
 *
 * **Law 18. Signals, files, random numbers and reports.** Each handler of a signal is called each time, until it is taken off. A signal that cannot
 * be caught is `EV_UNSUPPORTED`. A file that does not exist is `ENOENT`. `random()` gives a different number, 0 or more and less
 * than 1, each time. `report()` never throws and ends nothing.
 *
 * @module
 */

import type { Loan } from "./loan.ts";
import { EventError } from "./errors.ts";
import { hasMethod, wrongType } from "./checks.ts";
import type { Names } from "./names.ts";
import type { StartTlsOptions, TlsConnectOptions, TlsInfo, TlsListenOptions, TlsRole } from "./tls.ts";

/** The address of an IP endpoint. */
export interface InetAddress {
  /** A numeric address, such as `127.0.0.1` or `::1`. Options of `connect()` and `listen()` may have a host name instead. */
  readonly hostname: string;
  /** The port, 0 to 65535. */
  readonly port: number;
  /** The address family. */
  readonly family: "IPv4" | "IPv6";
}

/** The address of a unix-domain endpoint. The path is empty for the unnamed end of a client. */
export interface UnixAddress {
  /** The path in the file system; a path that begins with a zero byte is an abstract name (Linux). */
  readonly path: string;
}

/** The address of an endpoint. libevent: `struct sockaddr`. */
export type Address = InetAddress | UnixAddress;

/** One additional value of a header of version 2. */
export interface ProxyTlv {
  /** What it is, 0 to 255: one of the `PP2_TYPE_` constants, or of your own from 0xE0 to 0xEF. */
  type: number;
  /** Its bytes, up to 65,535. */
  value: Uint8Array;
}

/** What a proxy says of a client. */
export interface ProxyHeader {
  /** The version of the header: 1 is a line of text, 2 is binary. */
  version: 1 | 2;
  /** `"PROXY"`: the connection is a client's. `"LOCAL"`: it is the proxy's own, such as a health check. */
  command: "PROXY" | "LOCAL";
  /** The client's address. Null when the proxy does not say it: then it is that of the connection. */
  source: Address | null;
  /** The address that the client has connected to, or null. */
  destination: Address | null;
  /** Additional values, in their order; version 1 has none. */
  tlvs: ProxyTlv[];
}

/** Where and how to listen: `hostname` and `port`, or `path`, or `fd`. */
export interface ListenOptions {
  /**
   * The numeric address to bind.
   * @default every IPv4 address
   */
  hostname?: string | undefined;
  /** The port; 0 lets the system choose one. */
  port?: number | undefined;
  /**
   * The family to bind the address as.
   * @default the family that the address is written in
   */
  family?: "IPv4" | "IPv6" | undefined;
  /** The path of a unix socket, in place of `hostname` and `port`. */
  path?: string | undefined;
  /**
   * The file descriptor of a socket that listens already, in place of an address: 3 under socket activation (systemd), or the one that
   * an earlier process has handed over. It belongs to the listener, which closes it. Needs {@linkcode Capabilities.listenFd}.
   */
  fd?: number | undefined;
  /**
   * Whether closing removes the file of a unix socket, which it does only if the file is still the listener's own. False is for a
   * socket that is handed over to another process: its file must stay. A listener with `fd` removes no file.
   * @default true
   */
  unlinkOnClose?: boolean | undefined;
  /**
   * Whether a unix socket's file is replaced that nobody listens on any more, such as one of a process that was killed. The listener
   * connects to it to find out. A file that is not a socket, or that somebody listens on, stays, and listening fails with
   * `EADDRINUSE`.
   * @default false: every file that exists is `EADDRINUSE`
   */
  replaceStale?: boolean | undefined;
  /**
   * How many connections may wait to be accepted. With `capabilities.backlog` it is the system's limit, by default the runtime's
   * own number. It is also the limit of connections that wait in the process: see `ListeningSocket`, by default 128.
   */
  backlog?: number | undefined;
  /** Whether several processes or threads may listen on the port. Needs {@linkcode Capabilities.reusePort}. */
  reusePort?: boolean | undefined;
  /** Whether a listener on `::` refuses IPv4. Needs {@linkcode Capabilities.ipv6Only}. */
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
  fd: true,
  unlinkOnClose: true,
  replaceStale: true,
  backlog: true,
  reusePort: true,
  ipv6Only: true,
  tls: true,
};

/** Where to connect: `hostname` and `port`, or `path`. */
export interface ConnectOptions {
  /**
   * A numeric address or a host name.
   * @default `127.0.0.1`, or `::1` with the family IPv6
   */
  hostname?: string | undefined;
  /** The port, 1 to 65535. */
  port?: number | undefined;
  /**
   * Which addresses are tried.
   * @default both families
   */
  family?: "IPv4" | "IPv6" | undefined;
  /** The path of a unix socket, in place of `hostname` and `port`. */
  path?: string | undefined;
  /**
   * How long the attempt may take in all, in milliseconds. Then it fails with `ETIMEDOUT`.
   * @default the runtime's limit
   */
  timeoutMs?: number | undefined;
  /**
   * How long an address of a host name may take before the next one is tried beside it, in milliseconds, 10 or more. The
   * families take turns, IPv6 first. The first connection that succeeds is kept (RFC 8305).
   * @default 250
   */
  attemptDelayMs?: number | undefined;
  /** Cancels the attempt: it fails with `ECANCELED`, and the signal's reason is the cause. It has no effect later. */
  signal?: AbortSignalLike | undefined;
  /** The numeric local address to connect from. Needs {@linkcode Capabilities.localAddress}. */
  localAddress?: string | undefined;
  /** TLS on the connection; `{}` for the defaults. Needs {@linkcode Capabilities.tls}. */
  tls?: TlsConnectOptions | undefined;
  /**
   * The proxy to connect through: `socks5://[user:password@]host:port` or `http://…`, with the user and password
   * percent-encoded. The proxy gets the host name, and resolves it. `family`, `localAddress` and `attemptDelayMs` are about the
   * way to the proxy, and `remoteAddress` is the proxy's. Not with `path`.
   */
  via?: string | undefined;
  /**
   * A header of the PROXY protocol, which says on whose behalf we connect. It is sent before anything else, and before the
   * handshake of TLS.
   */
  proxyHeader?: ProxyHeader | undefined;
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
  via: true,
  proxyHeader: true,
};

/** The part of an `AbortSignal` that the core uses. */
export interface AbortSignalLike {
  /** Whether it has been aborted. */
  readonly aborted: boolean;
  /** The reason that was given to `abort()`. */
  readonly reason?: unknown;
  /** Calls `listener` when the signal is aborted. */
  addEventListener(type: "abort", listener: () => void): void;
  /** Forgets `listener`. */
  removeEventListener(type: "abort", listener: () => void): void;
}

/** Where to bind a datagram socket, and how it sends. */
export interface DatagramOptions {
  /**
   * The numeric address to bind.
   * @default `0.0.0.0`
   */
  hostname?: string | undefined;
  /**
   * The port to bind; 0 lets the system choose one.
   * @default 0
   */
  port?: number | undefined;
  /**
   * Whether other sockets may bind the same address, if they allow it too. Each of them gets the datagrams to a multicast group that it
   * has joined, or to a broadcast address. Any other datagram goes to one of them. Needs {@linkcode Capabilities.reuseAddress}.
   * @default false
   */
  reuseAddress?: boolean | undefined;
  /**
   * Whether datagrams may be sent to broadcast addresses. Without it, sending there fails with `EACCES`, except on Deno, where it is
   * always allowed. Needs {@linkcode Capabilities.broadcast}.
   * @default false
   */
  broadcast?: boolean | undefined;
  /**
   * How many routers may pass a datagram to a multicast group on, and one, 0 to 255: 1 is for the local network alone, 0 for the host
   * alone. Needs {@linkcode Capabilities.multicastOptions}.
   * @default 1
   */
  multicastTtl?: number | undefined;
  /**
   * Whether datagrams to a multicast group also go to the sockets of this host that have joined it. Needs
   * {@linkcode Capabilities.multicast}.
   * @default true
   */
  multicastLoopback?: boolean | undefined;
  /**
   * The interface that datagrams to multicast groups leave from: its numeric address for IPv4, its name (`eth0`) for IPv6. Needs
   * {@linkcode Capabilities.multicastOptions}.
   * @default the system's choice
   */
  multicastInterface?: string | undefined;
}

/** For the core: how many connections wait to be accepted, unless {@linkcode ListenOptions.backlog} says it. */
export const DEFAULT_BACKLOG = 128;

/** For the core: the names of {@linkcode DatagramOptions}. */
export const DATAGRAM_OPTIONS: Names<DatagramOptions> = {
  hostname: true,
  port: true,
  reuseAddress: true,
  broadcast: true,
  multicastTtl: true,
  multicastLoopback: true,
  multicastInterface: true,
};

/** What a runtime can do. Using a feature whose flag is false gives an error of code `EV_UNSUPPORTED` (law 5). */
export interface Capabilities {
  /** Several listeners may share a port ({@linkcode ListenOptions.reusePort}). */
  readonly reusePort: boolean;
  /** `reset()` sends a RST. If false, `reset()` is a plain close. */
  readonly reset: boolean;
  /** The runtime has {@linkcode ListenOptions.ipv6Only}. */
  readonly ipv6Only: boolean;
  /** The runtime has {@linkcode ListenOptions.backlog}. If false, the option is ignored and the runtime's own number holds. */
  readonly backlog: boolean;
  /** The runtime has {@linkcode ConnectOptions.localAddress}. */
  readonly localAddress: boolean;
  /** The idle time of `setKeepAlive()` can be chosen. If false, the system's own holds. */
  readonly keepAliveDelay: boolean;
  /** The interval and the number of the probes of keep-alive can be chosen. If false, the runtime's own hold. */
  readonly keepAliveProbes: boolean;
  /**
   * Connections that wait to be accepted can be left with the system. If false, {@linkcode ListenerBinding.pauseAccept} does
   * nothing, and the core holds them.
   */
  readonly pauseAccept: boolean;
  /** A socket that listens already can be used by its file descriptor ({@linkcode ListenOptions.fd}). */
  readonly listenFd: boolean;
  /** Unix-domain sockets. */
  readonly unix: boolean;
  /** Abstract unix names (Linux). */
  readonly abstractUnix: boolean;
  /** Datagram sockets. */
  readonly udp: boolean;
  /** Datagram sockets can join multicast groups, and have {@linkcode DatagramOptions.multicastLoopback}. */
  readonly multicast: boolean;
  /**
   * Datagram sockets have {@linkcode DatagramOptions.multicastTtl} and {@linkcode DatagramOptions.multicastInterface}. Bun refuses a
   * TTL of 0.
   */
  readonly multicastOptions: boolean;
  /** Datagram sockets can send to broadcast addresses ({@linkcode DatagramOptions.broadcast}). */
  readonly broadcast: boolean;
  /** Datagram sockets can share an address ({@linkcode DatagramOptions.reuseAddress}). */
  readonly reuseAddress: boolean;
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
  /** Bytes that were read before can belong to the handshake: `unread` of {@linkcode TransportBinding.startTls}. */
  readonly startTlsUnread: boolean;
  /** A TLS stream that ends without a close_notify fails with `ERR_TLS_TRUNCATED`. If false, it ends as any other. */
  readonly tlsTruncation: boolean;
}

/** The formats of compressed streams, by the names of the Compression Streams standard: RFC 1952, 1950, 1951 and 7932. */
export type CompressionFormat = "gzip" | "deflate" | "deflate-raw" | "brotli";

/** One stream that is compressed or decompressed. It works synchronously. */
export interface Compressor {
  /**
   * Takes bytes from the front of `input` and writes the result to the front of `output`, until `input` is used up or `output`
   * is full. If `output` is full, there may be more: call again, without input if it is used up. A decompressor whose stream has
   * ended takes nothing and writes nothing. The members of a gzip stream are one stream.
   *
   * @param mode `BEV_NORMAL`. For a compressor whose input is used up also `BEV_FLUSH`, which writes all that was taken, and
   * `BEV_FINISHED`, which also ends the stream. Repeat the last two until `output` is not full.
   * @throws {EventError} `EV_COMPRESSED_INVALID`
   */
  step(input: Uint8Array, output: Uint8Array, mode: number): void;
  /** How many bytes of `input` the last step took. */
  readonly taken: number;
  /** How many bytes of `output` the last step wrote. */
  readonly made: number;
  /** Decompressors only. Call it last. Returns whether the input was a complete stream. */
  finish(): boolean;
  /** Releases its memory. Idempotent. */
  close(): void;
}

/** A timer of {@linkcode Runtime.setTimer}. The core does not look into it. */
export type TimerToken = object | number;

/**
 * A runtime: bytes in, bytes out and one clock. The core owns everything else.
 *
 * The laws at the head of this file hold for every method. Law 6: none calls back before it has returned.
 */
export interface Runtime {
  /** The name of the runtime in messages: `node`, `deno`, `bun`, `sim`, or the name of your own. */
  readonly name: string;
  /** What the runtime can do (law 5). */
  readonly capabilities: Readonly<Capabilities>;
  /**
   * Why a capability is false, such as "it takes Node 22.12 or later, and this is 20.16.0". The error of a program that uses it
   * ends with the reason, or says that the runtime can't.
   */
  readonly lacks?: Readonly<Partial<Record<keyof Capabilities, string>>> | undefined;
  /** How many listeners, connections and datagram sockets are open now (law 15). Tests look for leaks with it. */
  readonly openHandles: number;
  /**
   * Up to how many bytes a copy costs less than a view on the runtime's JavaScript engine.
   * @default 0, views always cost less
   */
  readonly cheapCopyBytes?: number | undefined;
  /**
   * Returns the index of the first `byte` in `bytes` from `from` on, or −1. Set it if the runtime has something faster than `indexOf()`
   * of a `Uint8Array`. Set it to null if that is slow, and there is nothing faster: then four bytes at a time are looked at.
   * @default `bytes.indexOf(byte, from)`
   */
  readonly findByte?: ((bytes: Uint8Array, byte: number, from: number) => number) | null | undefined;
  /**
   * Whether the runtime's process ends when nothing holds it (law 8). If so, a loop that waits for something that does not hold the
   * process holds it with a timer.
   * @default true
   */
  readonly endsWhenIdle?: boolean | undefined;
  /**
   * An object that stands for the present run of the program, where it can be lost and begin anew, as by `restart()` of a
   * simulated host. What the core keeps for one run, such as a loop and its timers, is not used in the next.
   * @default the runtime itself
   */
  readonly instance?: object | undefined;
  /** The time of a clock that never goes back, in milliseconds with fractions (law 7). */
  now(): number;
  /** A random number, 0 or more and less than 1 (law 18). Jitter comes from it. On the simulator, the seed decides. */
  random(): number;
  /**
   * Calls `fn` once when `now()` has reached `deadlineMs`, or up to 2 ms before: the core looks again (law 7). The timer holds the
   * process, unless `background` is true (law 8). The core never asks for more than 2^30 ms ahead.
   */
  setTimer(deadlineMs: number, fn: () => void, background?: boolean): TimerToken;
  /** Forgets a timer. It does nothing if the timer has fired or was cleared. */
  clearTimer(token: TimerToken): void;
  /** Calls `fn` once, after the I/O callbacks of the runtime's present poll, in the order of the calls (laws 6 and 7). */
  defer(fn: () => void): void;
  /**
   * Calls `fn` once after a whole poll of the runtime: bytes that had arrived before this call have been given to their sinks. It
   * comes after functions that were deferred meanwhile. Without this method the core calls `defer()` from inside `defer()`, which
   * is enough if the runtime polls between two deferred functions.
   */
  poll?(fn: () => void): void;
  /**
   * Reports an error that no callback of the program takes, such as one that a handler threw on a server without an `error`
   * callback. Runtimes print it with its stack (`console.error`). The simulator rejects the running `advance()` or `run()` with it, or
   * the next one. It never throws and ends nothing (law 18).
   */
  report(error: unknown): void;
  /**
   * Calls `fn` each time the signal is raised, until the returned function is called (law 18). It does not hold the process.
   *
   * @throws {EventError} `EV_UNSUPPORTED` if the runtime cannot catch the signal
   */
  onSignal(name: string, fn: () => void): () => void;
  /**
   * Binds and listens (laws 9 and 10). With `tls`, a connection is given to `onAccept` before its handshake, which the runtime makes by
   * itself (law 16). A certificate or key that cannot be used rejects with `ERR_TLS_OPTIONS`.
   */
  listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding>;
  /**
   * Begins to connect and returns at once. It reports `onConnect`, or `onClose` with the error, later. The core resolves names, and
   * keeps `timeoutMs` and `signal` itself. With `tls`, the core calls `startTls()` in `onConnect`.
   */
  connect(options: ConnectOptions, sink: TransportSink): TransportBinding;
  /**
   * Whether `listen()` or `connect()` gets these options with their host name. The runtime then looks the name up and races its
   * addresses, as the core does. Without this method the core resolves every name.
   */
  takesName?(options: ListenOptions | ConnectOptions): boolean;
  /**
   * Checks the options of handshakes to come. The runtime may keep what it makes of them for as long as `options` lives,
   * because many connections will use the same object. Without this method, the first handshake fails.
   *
   * @throws {EventError} `ERR_TLS_OPTIONS` if the certificate or key cannot be used
   */
  prepareTls?(role: TlsRole, options: StartTlsOptions): void;
  /** Looks a host name up (law 11). */
  resolve(hostname: string, signal?: AbortSignalLike): Promise<InetAddress[]>;
  /** Opens a datagram socket (law 17). Present with `capabilities.udp`. */
  datagram?(options: DatagramOptions, sink: DatagramSink): Promise<DatagramBinding>;
  /** Reads `length` bytes of a file from `offset`, or fewer at its end; without `length` to the end. Present with `capabilities.files`. */
  readFile?(path: string, offset: number, length: number | undefined): Promise<Uint8Array>;
  /**
   * Makes a compressor or a decompressor. Present if the runtime has them.
   *
   * @param level How hard the compressor tries; undefined for the default, and for a decompressor
   * @throws {EventError} `EV_UNSUPPORTED` if the runtime does not have the format
   */
  compressor?(format: CompressionFormat, way: "compress" | "decompress", level: number | undefined): Compressor;
}

/** One connection, as the core uses it. The adapter implements it. */
export interface TransportBinding {
  /**
   * Takes bytes to send (laws 1 and 2). The adapter may hold the memory until it is sent: the core does not change it (law 14).
   *
   * Before `onConnect` it returns 0, and `onConnect` says that it can take bytes. After `shutdownWrite`, `close` or `onClose` it
   * returns 0, and nothing follows. It never throws: failures come through `onClose`.
   *
   * @param loan The loan that the memory belongs to, if an adapter has lent it. An adapter that {@linkcode countsLoans} and holds
   * the bytes beyond this call is a user of the loan until they are sent.
   * @returns How many bytes it took, 0 to `chunk.length`
   */
  write(chunk: Uint8Array, loan?: Loan): number;
  /** Whether `write` uses its `loan` as said there. If not, the memory that it was given is no longer on loan. */
  readonly countsLoans?: boolean | undefined;
  /**
   * As `write`, for several chunks in one call. Present if the runtime can.
   * @returns How many bytes it took of all chunks
   */
  writev?(chunks: readonly Uint8Array[]): number;
  /**
   * As `write`, for a part of an array. Present if that is cheaper for the runtime than a view of the part. The adapter
   * must not hold the array after the call, except its part, as with `write`. With {@linkcode countsLoans} it must not hold
   * its part either: it gets no loan to count.
   *
   * @param memory The array
   * @param start Where the part begins
   * @param end Where the part ends, greater than `start`
   * @returns How many bytes it took
   */
  writePart?(memory: Uint8Array, start: number, end: number): number;
  /**
   * Memory for several chunks that are to leave in one `write`. Present if the runtime has no vectored write. The core fills the
   * front of the memory, and calls `write` with that part and this loan, whatever {@linkcode countsLoans} says. Then it drops the
   * loan. Nothing else writes to the memory until the bytes are sent.
   *
   * @param bytes How many bytes could leave, 1 to 262,144. The memory may be smaller
   * @returns A loan with one user, the core; undefined if `write` would return 0: then it is as if it had been called
   */
  gather?(bytes: number): Loan | undefined;
  /** Asks the runtime to stop reading, so that the peer slows down (law 2). Some data may still arrive. Idempotent. */
  pauseRead(): void;
  /** Asks the runtime to read again. Idempotent. */
  resumeRead(): void;
  /** Finishes our direction after all bytes that were taken; the other direction goes on (laws 1 and 3). Idempotent. */
  shutdownWrite(): void;
  /**
   * Ends the connection and loses nothing. It finishes our direction after all bytes that were taken, drops bytes that still arrive,
   * and waits for the peer to finish. Then `onClose` follows. The core calls `release()` when it has waited long enough. It holds
   * the process only until our direction is finished (law 8). While connecting, it gives the attempt up. Idempotent.
   */
  close(): void;
  /**
   * Closes, if `close()` was not called, and does not wait for the peer: the connection is gone as soon as the system has all bytes
   * that were taken, and the system goes on to deliver them, as after close(2). It avoids a RST if the runtime can. `onClose` follows,
   * without an error. Idempotent.
   */
  release(): void;
  /**
   * Ends the connection at once, with a RST if `capabilities.reset`. Bytes that were not delivered are lost. `onClose` follows, without
   * an error. Idempotent.
   */
  reset(): void;
  /** Switches Nagle's algorithm off (true, the state at the beginning) or on (law 12). */
  setNoDelay(on: boolean): void;
  /**
   * Switches TCP keep-alive on or off (law 12). `delayMs` is the idle time, if `capabilities.keepAliveDelay`; 0 is the runtime's
   * own. `intervalMs` and `count` are those of the probes, if `capabilities.keepAliveProbes`; undefined is the runtime's own.
   */
  setKeepAlive(on: boolean, delayMs: number, intervalMs?: number, count?: number): void;
  /** Lets the connection hold the process, as it does at first (law 8). */
  ref(): void;
  /** Lets the process end although the connection is open (law 8). */
  unref(): void;
  /**
   * Changes the connection to TLS, once (law 16). It sends all bytes that were taken in the clear, then makes the handshake. Bytes
   * that the sink has not got by then belong to the handshake. Until `onSecure`, `write` returns 0 without an `onWritable`, and
   * `close` gives the connection up. The core keeps the time. A client gets `serverName`. Present with
   * `capabilities.startTlsClient`; a server needs `capabilities.startTlsServer`.
   *
   * @param unread The first bytes of the handshake, which the sink has got already. Only with `capabilities.startTlsUnread`
   */
  startTls?(role: TlsRole, options: StartTlsOptions, unread?: Uint8Array): void;
  /** Whether this accepted connection is in its TLS handshake. `onSecure` or `onClose` follows. */
  readonly handshaking?: boolean | undefined;
  /** The result of the TLS handshake. It keeps its value after the close. */
  readonly tls?: TlsInfo | undefined;
  /** The address of our end (law 10). */
  readonly local: Address | undefined;
  /** The address of the peer (law 10). */
  readonly remote: Address | undefined;
}

/** The core's side of one connection. The adapter calls it, under laws 4 and 6. */
export interface TransportSink {
  /** A connection that was begun with {@linkcode Runtime.connect} is there. Comes first. */
  onConnect(): void;
  /** The TLS handshake has succeeded. Comes before any data. */
  onSecure(): void;
  /**
   * Bytes have arrived, at least one. The core owns the memory from here on (law 14). If the memory is on loan, it does so until the
   * last user of the loan is done.
   */
  onData(chunk: Uint8Array, loan?: Loan): void;
  /** The peer has finished its direction. No data follows (law 3). */
  onEnd(): void;
  /** `write` returned 0 before, and can take bytes again (law 2). */
  onWritable(): void;
  /**
   * The connection is gone. Exactly once (law 4). It has no error if both directions were finished, or after `reset()` or `release()`.
   * It has one if the connection failed, also after `close()`: the core then knows that bytes may be lost (law 3). A TLS stream
   * that was cut fails with `ERR_TLS_TRUNCATED`, if `capabilities.tlsTruncation`. It fails with `ERR_TLS_PROTOCOL` if the peer
   * sends an alert or does not speak TLS.
   */
  onClose(error?: EventError): void;
}

/** One listening socket, as the core uses it. The adapter implements it. */
export interface ListenerBinding {
  /** The address, with the port that was chosen. */
  readonly address: Address;
  /** The file descriptor of the socket, if the runtime tells it. A child process can inherit it. */
  readonly fd?: number | undefined;
  /** Leaves new connections with the system, if `capabilities.pauseAccept`. Otherwise it does nothing. */
  pauseAccept(): void;
  /** Accepts connections again. Idempotent. */
  resumeAccept(): void;
  /** Stops listening; connections stay. Resolves when the address can be bound again (law 9). Idempotent. */
  close(): Promise<void>;
  /** Lets the listener hold the process, as it does at first (law 8). */
  ref(): void;
  /** Lets the process end although the listener is open (law 8). */
  unref(): void;
}

/** The core's side of one listening socket. The adapter calls it. */
export interface AcceptSink {
  /** A connection was accepted. Returns its sink. The adapter has told nothing of the connection before (law 9). */
  onAccept(binding: TransportBinding): TransportSink;
  /** Accepting failed, as with `EMFILE`. The listener goes on. Failures that can be tried again at once are not told. */
  onError(error: EventError): void;
}

/** One datagram socket, as the core uses it. The adapter implements it. */
export interface DatagramBinding {
  /** The address, with the port that was chosen. */
  readonly address: InetAddress;
  /** Sends one datagram, whole (law 17). Returns false if there is no space; `onWritable` follows. It never throws. */
  send(data: Uint8Array, to: InetAddress): boolean;
  /**
   * Joins a multicast group of the socket's family. Present with `capabilities.multicast`. It rejects with `EADDRINUSE` if the socket
   * has joined it on that interface, with `ENODEV` or `EADDRNOTAVAIL` if there is no such interface.
   *
   * @param networkInterface The address of the interface for IPv4, its name for IPv6; undefined for the system's choice
   */
  join?(group: string, networkInterface: string | undefined): Promise<void>;
  /** Leaves a group. It rejects with `EADDRNOTAVAIL` if the socket has not joined it on that interface. */
  leave?(group: string, networkInterface: string | undefined): Promise<void>;
  /** Closes the socket. Idempotent. */
  close(): void;
  /** Lets the socket hold the process, as it does at first (law 8). */
  ref(): void;
  /** Lets the process end although the socket is open (law 8). */
  unref(): void;
}

/** The core's side of one datagram socket. The adapter calls it. */
export interface DatagramSink {
  /** A datagram has arrived. The core owns the memory from here on. */
  onMessage(data: Uint8Array, from: InetAddress): void;
  /** `send` returned false before, and can take a datagram again. */
  onWritable(): void;
  /** Sending or receiving failed; the socket goes on. */
  onError(error: EventError): void;
}

/** For the core: returns `runtime` if it has the methods of a runtime. */
export function checkRuntime(verb: string, runtime: Runtime): Runtime {
  if (["now", "random", "setTimer", "listen", "connect"].every((name) => hasMethod(runtime, name))) return runtime;
  throw wrongType(verb, "the runtime is not a Runtime, such as nodeRuntime() gives", runtime);
}

let installed: Runtime | (() => Runtime) | undefined;

/**
 * Sets the runtime of every `EventBase` that is made without one. The package's main entry point has done this. A program that
 * imports only the core calls it, or gives each base a runtime.
 *
 * @param runtime The runtime, or a function that makes it when it is first needed
 */
export function setDefaultRuntime(runtime: Runtime | (() => Runtime)): void {
  if (typeof runtime !== "function") checkRuntime("set the default runtime", runtime);
  installed = runtime;
}

/**
 * Returns the runtime of an `EventBase` that is made without one.
 *
 * @returns The runtime
 * @throws {EventError} `EV_UNSUPPORTED` if none has been set
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
