/** `serve()` and `connect()`: a server or a client in one call, on a base that dispatches by itself. */

import { checkSignal, outOfRange } from "../checks.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_OPT_CLOSE_ON_FREE,
  EVLOOP_NO_EXIT_ON_EMPTY,
  LEV_OPT_CLOSE_ON_FREE,
} from "../flags.ts";
import { EventError } from "../errors.ts";
import { coreOf } from "../api/bufferevent.ts";
import { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { SocketCore } from "../bufferevent/socket_core.ts";
import { EventBase, loopOf } from "../api/event_base.ts";
import { connectionOf, socketOf } from "../api/socket.ts";
import { ConnListener } from "../api/listener.ts";
import { type Names, pick, readOptions } from "../names.ts";
import {
  type AbortSignalLike,
  checkRuntime,
  CONNECT_OPTIONS,
  type ConnectOptions,
  defaultRuntime,
  LISTEN_OPTIONS,
  type ListenOptions,
  type Runtime,
} from "../runtime.ts";
import type { Connection } from "../socket/connection.ts";
import { CONNECTION_OPTIONS, type ConnectionOptions, protocolOf, setUp } from "./connection_options.ts";
import { checkTunable } from "./keep_alive.ts";
import { ConnectionOwner, reportTo } from "./owner.ts";
import { checkConnectionCallbacks, CONNECTION_CALLBACKS, type ConnectionCallbacks, type Protocol } from "./protocol.ts";
import { proxyPolicyOf, type ProxyProtocolOptions } from "./proxy_policy.ts";
import { keyOf, Reception } from "./reception.ts";
import { Server } from "./server.ts";
import { type AdmissionCallbacks, checkWhenFull } from "./admission.ts";
import { ServerCore } from "./server_core.ts";
import { TlsChoice, type TlsServeOptions } from "./tls_choice.ts";

export type { AdmissionCallbacks, RejectReason } from "./admission.ts";
export type { ConnectionCallbacks } from "./protocol.ts";
export type { ConnectionOptions } from "./connection_options.ts";
export type { ProxyProtocolOptions } from "./proxy_policy.ts";
export { Server } from "./server.ts";
export type { TlsCredentials, TlsServeOptions } from "./tls_choice.ts";

/** Options of `serve()`. */
export interface ServeOptions extends Omit<ListenOptions, "tls">, ConnectionOptions {
  /** TLS on every connection. {@linkcode Server.setTls} changes it without a restart. */
  tls?: TlsServeOptions | undefined;
  /**
   * The largest number of connections, with those in their TLS handshake and those that wait for
   * their PROXY header.
   * `whenFull` decides about further ones.
   *
   * @default {Infinity}
   */
  maxConnections?: number | undefined;
  /**
   * What happens to a client beyond `maxConnections`. `"wait"`: it waits until another leaves, in the kernel if
   * `capabilities.pauseAccept`. Any other runtime queues as many as the backlog and refuses further
   * ones; `error` gets `EV_BACKLOG_FULL` once until fewer wait. `"reject"`: it is refused.
   *
   * @default {"wait"}
   */
  whenFull?: "wait" | "reject" | undefined;
  /**
   * The largest number of connections from one numeric address; further ones are refused. An IPv4 client that a
   * listener on `::` sees as `::ffff:192.0.2.1` counts as 192.0.2.1. It has no effect on unix sockets, whose clients
   * have no address.
   *
   * @default {Infinity}
   */
  maxConnectionsPerAddress?: number | undefined;
  /**
   * Reads the PROXY protocol, which a proxy or load balancer in front of the server sends before the client's first byte and
   * before TLS. `bev.remoteAddress`, `maxConnectionsPerAddress`, `accept` and `reject` then mean the client, and `bev.proxy`
   * has the whole header. A connection whose header is missing, wrong, late or not from a trusted address is refused with
   * the reason `proxyProtocol`.
   *
   * A connection that waits for its header counts for `maxConnections`. With `"optional"` and
   * without `trusted`, any client can claim any address: `error` gets `EV_PROXY_UNTRUSTED` once, as
   * a warning.
   */
  proxyProtocol?: "required" | "optional" | ProxyProtocolOptions | undefined;
  /** The time limit of the TLS handshake, if `tls` has none. */
  handshakeTimeoutMs?: number | undefined;
  /** Aborting it closes the server, as `Server.close()` does. */
  signal?: AbortSignalLike | undefined;
}

/**
 * The callbacks of a server. Every callback except `accept` and `reject` may be an async function. A failure of a
 * callback never ends the server.
 */
export interface ServeCallbacks<Ctx = unknown> extends ConnectionCallbacks<Ctx>, AdmissionCallbacks {}

const SERVE_CALLBACKS: Names<ServeCallbacks> = /* @__PURE__ */ Object.assign({}, CONNECTION_CALLBACKS, {
  accept: true as const,
  reject: true as const,
});
/** The option names of `connect()`. */
export const CONNECT_ALL_OPTIONS: Names<ConnectOptions & ConnectionOptions> = /* @__PURE__ */ Object.assign(
  {},
  CONNECT_OPTIONS,
  CONNECTION_OPTIONS,
);
const SERVE_ONLY: Names<Omit<ServeOptions, keyof ListenOptions | keyof ConnectionOptions>> = {
  maxConnections: true,
  whenFull: true,
  maxConnectionsPerAddress: true,
  proxyProtocol: true,
  handshakeTimeoutMs: true,
  signal: true,
};
const SERVE_OPTIONS: Names<ServeOptions> = /* @__PURE__ */ Object.assign(
  {},
  LISTEN_OPTIONS,
  CONNECTION_OPTIONS,
  SERVE_ONLY,
);

/** The base of each runtime, and the loop that it belongs to. */
const bases: WeakMap<Runtime, { readonly base: EventBase; readonly instance: object }> = new WeakMap();

/** The base of a runtime that dispatches by itself. It keeps the process alive as long as its sockets and timers do. */
export function baseOf(options: ConnectionOptions): EventBase {
  if (options.base !== undefined) return options.base;
  const runtime = checkRuntime("make a base", options.runtime ?? defaultRuntime());
  const instance = runtime.instance ?? runtime;
  const known = bases.get(runtime);
  const base = known?.instance === instance ? known.base : new EventBase({ runtime });
  if (base !== known?.base) {
    bases.set(runtime, { base, instance });
    loopOf(base).shared = true;
  }
  if (!loopOf(base).dispatching) keepDispatching(base);
  return base;
}

/**
 * An exception of a callback is reported where no `await` catches it, as from any callback. The
 * other connections go on.
 */
function keepDispatching(base: EventBase): void {
  loopOf(base).start(EVLOOP_NO_EXIT_ON_EMPTY, undefined, false).catch((error) => {
    keepDispatching(base);
    throw error;
  });
}

/**
 * Makes a server: a listener, and for each connection a bufferevent with both directions enabled.
 *
 * Without an `event` callback, a connection is closed gracefully when its peer has finished. It is freed when it has
 * failed, has timed out, or has exceeded `maxLine` or `maxOutputBytes`. With an `event` callback, you end the
 * connection.
 *
 * If a callback throws or its promise rejects, its connection is reset and `error` is called; other connections go on.
 * An error that comes from the peer's bytes (of `readln`, a view or a codec) or from the connection is not a failure of
 * a callback: the connection ends, and `close` gets the error as its reason.
 *
 * | limit | and beyond it |
 * | --- | --- |
 * | `maxConnections` | further clients wait, or are refused: `whenFull` |
 * | `maxConnectionsPerAddress` | further clients are refused |
 * | `readHigh` | reading is suspended, and the peer waits |
 * | `stallTimeoutMs` | if the input stays at `readHigh`, `event` gets `EV_INPUT_FULL` |
 * | `messageTimeoutMs` | `event` or the view gets `BEV_EVENT_TIMEOUT` |
 * | `writeHigh` | `write()` returns false, and reading is suspended until the output has drained |
 * | `maxLine` | `event` gets `EV_LINE_TOO_LONG` |
 * | `maxOutputBytes` | the next write is not queued, and `event` gets `ENOBUFS` |
 * | `idleTimeoutMs`, `readTimeoutMs`, `writeTimeoutMs` | `event` gets `BEV_EVENT_TIMEOUT` |
 * | `handshakeTimeoutMs` | the connection is closed |
 * | `proxyProtocol.timeoutMs`, `proxyProtocol.maxBytes` | the client is refused |
 * | descriptors | accepting pauses and is tried again; `error` is called once |
 *
 * A refused client gets the last message of the `reject` callback; without one it is reset. `Server.rejected` counts
 * refused clients. For a client that has left before it could be accepted, nothing is called.
 *
 * @param options The address to listen on, limits and timeouts
 * @param callbacks The callbacks, one object for all connections
 * @returns The server
 * @throws {TypeError} When an option or a callback has the wrong type or an unknown name, or there are both `read` and
 * `line`
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …; `EV_FREED` when the base was freed
 *
 * @example
 * ```ts
 * import { serve } from "trivent";
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
 *   read: (bev) => bev.output.addBuffer(bev.input),
 * });
 * console.log("echo on", server.address);
 * await server.close();
 * ```
 */
export async function serve<Ctx = unknown>(
  options: ServeOptions,
  callbacks: ServeCallbacks<Ctx>,
): Promise<Server<Ctx>> {
  const verb = "serve";
  options = readOptions(verb, options, SERVE_OPTIONS);
  const { signal } = options;
  checkMost("maxConnections", options.maxConnections);
  checkMost("maxConnectionsPerAddress", options.maxConnectionsPerAddress);
  checkWhenFull(options.whenFull);
  checkConnectionCallbacks(verb, callbacks, SERVE_CALLBACKS);
  checkSignal(verb, signal);
  const shared = protocolOf(verb, options, callbacks);
  const base = baseOf(options);
  // Reports options out of range now, not at the first connection. Each connection gets the same
  // settings as this one.
  checkTunable(loopOf(base).runtime, shared.keepAlive);
  const model = setUp<Ctx>(verb, base, options, shared.lines);
  model.free();
  if (signal?.aborted === true) {
    throw new EventError("Cannot serve: aborted", { code: "ECANCELED", cause: signal.reason });
  }
  const policy = options.proxyProtocol === undefined ? null : proxyPolicyOf(options.proxyProtocol);
  const { tls, ...listen } = pick(options, LISTEN_OPTIONS);
  // The handshakes begin here, not in the listener: after a PROXY header, and with the current
  // certificate.
  const choice = tls === undefined ? null : new TlsChoice(base.runtime, tls, options.handshakeTimeoutMs);
  const socket = await base.listen(listen);
  if (loopOf(base).freed) await socket.close();
  const listener = new ConnListener(base, null, LEV_OPT_CLOSE_ON_FREE, 0, socket);
  // These callbacks are needed to make the server, and they call the server.
  const idleTimeoutMs = options.idleTimeoutMs ?? 0;
  const protocol: Protocol<Ctx> = {
    ...shared,
    // A TLS handshake has a time limit of its own.
    onOpen(owner) {
      if (idleTimeoutMs > 0) owner.root.setIdleTimeout(idleTimeoutMs);
    },
    onFreed: (owner, reason) => server.remove(owner, reason),
    onClosed: () => server.told(),
  };
  const failed = (error: unknown): void => reportTo(protocol, base, error, null);
  const server = new ServerCore(listener, options, callbacks, failed, choice);
  listener.setErrorCallback((_listener, error) => failed(error));
  const open = (connection: Connection): void => {
    const bev = new SocketBufferEvent<Ctx>(base, socketOf(connection), BEV_OPT_CLOSE_ON_FREE);
    const core = socketCoreOf(bev);
    core.adoptLimits(socketCoreOf(model));
    const owner = new ConnectionOwner<Ctx>(core, protocol);
    server.add(owner as ConnectionOwner<unknown>, keyOf(connection));
    if (!core.connecting) owner.open();
  };
  const reception = new Reception(server, policy, open, failed);
  listener.setCallback((_listener, accepted, address) => reception.receive(connectionOf(accepted), address));
  if (policy !== null && !policy.required && policy.trusted === null) failed(untrusted());
  server.closeOn(signal);
  return new Server<Ctx>(server);
}

function untrusted(): EventError {
  return new EventError(
    'Any client can claim any address: proxyProtocol is "optional" without trusted proxies',
    { code: "EV_PROXY_UNTRUSTED" },
  );
}

/** For the core: the engine of a bufferevent on a socket. */
export function socketCoreOf<Ctx>(bev: SocketBufferEvent<Ctx>): SocketCore {
  return coreOf(bev as SocketBufferEvent<unknown>) as SocketCore;
}

function checkMost(name: string, count = Infinity): void {
  if (typeof count !== "number" || !(count >= 1)) {
    throw outOfRange("serve", `${name} is not a positive number`, count);
  }
}

/**
 * Connects, and makes a bufferevent with both directions enabled.
 *
 * Without an `event` callback, the connection is closed gracefully when its peer has finished, and freed when it has
 * failed or timed out. With one, you end the connection; `event` does not get `BEV_EVENT_CONNECTED`. For exceptions in
 * callbacks see `serve()`.
 *
 * @param options The address, limits and timeouts
 * @param callbacks The callbacks. `open` is called before the promise resolves; an async `open` is not awaited
 * @returns The connection, when it is established
 * @throws {TypeError} When an option or a callback has the wrong type or an unknown name
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `ECONNREFUSED`, `ENOTFOUND`, `ETIMEDOUT`, `ECANCELED`, …; the exception of `open`
 *
 * @example
 * ```ts
 * import { connect, serve } from "trivent";
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, { open: (bev) => bev.write("hello\n") });
 * const client = await connect({ hostname: "127.0.0.1", port: server.port }, {
 *   read: (bev) => console.log(bev.input.toString()),
 * });
 * await client.close();
 * await server.close();
 * ```
 */
export function connect<Ctx = unknown>(
  options: ConnectOptions & ConnectionOptions,
  callbacks: ConnectionCallbacks<Ctx> = {},
): Promise<SocketBufferEvent<Ctx>> {
  return new Promise((resolve, reject) => {
    const { bev, idleTimeoutMs, protocol, begin } = prepare("connect", options, callbacks);
    bev.setCallbacks({
      event(bev, what, error) {
        if ((what & BEV_EVENT_CONNECTED) === 0) {
          bev.free();
          reject(error ?? new EventError("Cannot connect: the connection ended", { code: "ECONNRESET" }));
          return;
        }
        const owner = new ConnectionOwner<Ctx>(socketCoreOf(bev), protocol);
        bev.setIdleTimeout(idleTimeoutMs);
        // An exception thrown at once has already rejected the promise.
        owner.open(reject);
        resolve(bev);
      },
    });
    begin();
  });
}

/**
 * Begins to connect and returns the bufferevent at once, for drivers that need an object before the connection is
 * established.
 *
 * Bytes that you write meanwhile are sent when the connection is established, before those that `open` writes. `open`
 * is called then. If the attempt fails, `close` gets the reason, and written bytes are dropped. `event` is called for
 * neither. `close()` waits for the connection and delivers written bytes; `free()` and `reset()`
 * cancel the attempt. Views may be opened at once.
 *
 * @param options The options of `connect()`
 * @param callbacks The callbacks of `connect()`. `close` is also called if the attempt fails or is
 * cancelled
 * @returns The bufferevent. It has no addresses and no input until `open` is called
 * @throws {TypeError} When an option or a callback has the wrong type or an unknown name
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `EV_UNSUPPORTED` when the runtime cannot do what an option asks for; `EV_FREED` when the base
 * was freed
 *
 * @example
 * ```ts
 * import { connectNow, serve } from "trivent";
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
 *   read: (bev) => bev.output.addBuffer(bev.input),
 * });
 * const client = connectNow({ hostname: "127.0.0.1", port: server.port }, {
 *   close: (_bev, reason) => console.log("over", reason?.code),
 * });
 * client.write("hello\n");
 * console.log((await client.lines({ text: true }).next()).value); // hello
 * await client.close(); // over undefined
 * await server.close();
 * ```
 */
export function connectNow<Ctx = unknown>(
  options: ConnectOptions & ConnectionOptions,
  callbacks: ConnectionCallbacks<Ctx> = {},
): SocketBufferEvent<Ctx> {
  const { bev, idleTimeoutMs, protocol, begin } = prepare("connect", options, callbacks);
  begin();
  new ConnectionOwner<Ctx>(socketCoreOf(bev), {
    ...protocol,
    tellsUnopened: true,
    onOpen: () => bev.setIdleTimeout(idleTimeoutMs),
  });
  return bev;
}

/** A connection that will be made. */
interface Prepared<Ctx> {
  readonly bev: SocketBufferEvent<Ctx>;
  readonly protocol: Protocol<Ctx>;
  /** The idle timeout counts only once the connection is there. */
  readonly idleTimeoutMs: number | null;
  /** Begins to connect. If it throws, it has freed the bufferevent before. */
  begin(): void;
}

/** Checks the arguments of `connect()`, and makes the bufferevent. */
function prepare<Ctx>(
  verb: string,
  given: ConnectOptions & ConnectionOptions,
  callbacks: ConnectionCallbacks<Ctx>,
): Prepared<Ctx> {
  const options = readOptions(verb, given, CONNECT_ALL_OPTIONS);
  checkConnectionCallbacks(verb, callbacks, CONNECTION_CALLBACKS);
  return prepared(verb, baseOf(options), options, protocolOf(verb, options, callbacks));
}

/**
 * Makes a bufferevent that will be connected.
 *
 * @param verb The verb of errors
 * @param base The base that calls back
 * @param options The address, limits and timeouts, already read
 * @param protocol The callbacks, with limits made from the options
 * @returns The bufferevent, without a connection
 * @throws {TypeError} When an option is of the wrong type
 * @throws {RangeError} When an option is out of range
 */
export function prepared<Ctx>(
  verb: string,
  base: EventBase,
  options: ConnectOptions & ConnectionOptions,
  protocol: Protocol<Ctx>,
): Prepared<Ctx> {
  const { idleTimeoutMs = null } = options;
  checkTunable(loopOf(base).runtime, protocol.keepAlive);
  const bev = setUp<Ctx>(verb, base, options, protocol.lines);
  bev.setIdleTimeout(null);
  return {
    bev,
    protocol,
    idleTimeoutMs,
    begin() {
      try {
        bev.connect(pick(options, CONNECT_OPTIONS));
      } catch (error) {
        bev.free();
        throw error;
      }
    },
  };
}
