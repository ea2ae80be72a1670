/** `serve()` and `connect()`: a server or a client in one call, on a base that dispatches by itself. */

import { checkSignal, show } from "../checks.ts";
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
import { streamOf } from "../api/socket.ts";
import { ConnListener } from "../api/listener.ts";
import { type Names, pick, readOptions } from "../names.ts";
import {
  type AbortSignalLike,
  CONNECT_OPTIONS,
  type ConnectOptions,
  defaultRuntime,
  LISTEN_OPTIONS,
  type ListenOptions,
  type Runtime,
} from "../runtime.ts";
import { readTlsListen } from "../tls.ts";
import { CONNECTION_OPTIONS, type ConnectionOptions, protocolOf, setUp } from "./connection_options.ts";
import { ConnectionOwner, reportTo } from "./owner.ts";
import { checkConnectionCallbacks, CONNECTION_CALLBACKS, type ConnectionCallbacks, type Protocol } from "./protocol.ts";
import { Server } from "./server.ts";
import { addressKey, type AdmissionCallbacks, checkWhenFull } from "./admission.ts";
import { ServerCore } from "./server_core.ts";

export type { AdmissionCallbacks, RejectReason } from "./admission.ts";
export type { ConnectionCallbacks } from "./protocol.ts";
export type { ConnectionOptions } from "./connection_options.ts";
export { Server } from "./server.ts";

/** Options of `serve()`. */
export interface ServeOptions extends ListenOptions, ConnectionOptions {
  /**
   * How many connections there may be, those in their TLS handshake included. `whenFull` says what becomes of others.
   *
   * @default {Infinity}
   */
  maxConnections?: number | undefined;
  /**
   * What becomes of a client when there are `maxConnections`. `"wait"`: it waits until there is room, with the system
   * where `capabilities.pauseAccept`. On any other host the server holds as many as the backlog says, and refuses
   * further ones; `error` gets `EV_BACKLOG_FULL` once, until fewer wait again. `"reject"`: it is refused.
   *
   * @default {"wait"}
   */
  whenFull?: "wait" | "reject" | undefined;
  /**
   * How many connections there may be from one numeric address; further ones are refused. An IPv4 client that a listener
   * on `::` sees as `::ffff:192.0.2.1` counts as 192.0.2.1. Not for unix sockets, whose clients have no address.
   *
   * @default {Infinity}
   */
  maxConnectionsPerAddress?: number | undefined;
  /** How long a client may take for the handshake of TLS, where `tls` does not say it. */
  handshakeTimeoutMs?: number | undefined;
  /** Aborting it closes the server, as `Server.close()` does. */
  signal?: AbortSignalLike | undefined;
}

/** What a server calls. Every callback but `accept` and `reject` may be an async function, and no failure of one ends the server. */
export interface ServeCallbacks<Ctx = unknown> extends ConnectionCallbacks<Ctx>, AdmissionCallbacks {}

const SERVE_CALLBACKS: Names<ServeCallbacks> = {
  open: true,
  read: true,
  line: true,
  write: true,
  event: true,
  close: true,
  error: true,
  accept: true,
  reject: true,
};
const CONNECT_ALL_OPTIONS: Names<ConnectOptions & ConnectionOptions> = /* @__PURE__ */ Object.assign(
  {},
  CONNECT_OPTIONS,
  CONNECTION_OPTIONS,
);
const SERVE_ONLY: Names<Omit<ServeOptions, keyof ListenOptions | keyof ConnectionOptions>> = {
  maxConnections: true,
  whenFull: true,
  maxConnectionsPerAddress: true,
  handshakeTimeoutMs: true,
  signal: true,
};
const SERVE_OPTIONS: Names<ServeOptions> = /* @__PURE__ */ Object.assign(
  {},
  LISTEN_OPTIONS,
  CONNECTION_OPTIONS,
  SERVE_ONLY,
);

const bases: WeakMap<Runtime, EventBase> = new WeakMap();

/** The base of a runtime that dispatches by itself. It keeps the process alive as long as its sockets and timers do. */
export function baseOf(options: ConnectionOptions): EventBase {
  if (options.base !== undefined) return options.base;
  const runtime = options.runtime ?? defaultRuntime();
  let base = bases.get(runtime);
  if (base === undefined) {
    bases.set(runtime, base = new EventBase({ runtime }));
    loopOf(base).shared = true;
  }
  if (!loopOf(base).dispatching) keepDispatching(base);
  return base;
}

/** What a callback throws goes where no `await` catches it, as from any callback; the other connections are served on. */
function keepDispatching(base: EventBase): void {
  loopOf(base).start(EVLOOP_NO_EXIT_ON_EMPTY, undefined, false).catch((error) => {
    keepDispatching(base);
    throw error;
  });
}

/**
 * Serves: a listener, and for each connection a bufferevent with both directions enabled.
 *
 * Without an `event` callback a connection is closed gracefully when its peer has finished, and freed when it has failed,
 * timed out, or gone beyond `maxLine` or `maxOutputBytes`. With one, ending the connection is yours.
 *
 * A callback that throws, or whose promise rejects, costs its own connection and no other: that one is reset, and `error`
 * is told. What the peer did, and what `readln`, a view or a codec throws for its bytes, is no failure of a callback: it
 * ends the connection, and `close` gets it as the reason.
 *
 * | limit | and beyond it |
 * | --- | --- |
 * | `maxConnections` | further clients wait, or are refused: `whenFull` |
 * | `maxConnectionsPerAddress` | further clients are refused |
 * | `readHigh` | reading is suspended, and the peer waits |
 * | `stallTimeoutMs` | of an input that stays at `readHigh`: `EV_INPUT_FULL` is told to `event` |
 * | `messageTimeoutMs` | `BEV_EVENT_TIMEOUT` is told to `event`, or to the view |
 * | `writeHigh` | `write()` gives false, and reading is suspended until the output has drained |
 * | `maxLine` | `EV_LINE_TOO_LONG` is told to `event` |
 * | `maxOutputBytes` | the next write is not queued, and `ENOBUFS` is told to `event` |
 * | `idleTimeoutMs`, `readTimeoutMs`, `writeTimeoutMs` | `BEV_EVENT_TIMEOUT` is told to `event` |
 * | `handshakeTimeoutMs` | the client is let go |
 * | descriptors | accepting pauses and is tried again; told to `error` once |
 *
 * A client that is refused gets the last word that the `reject` callback gives, or else is reset. All are counted in
 * `Server.rejected`. A client that is gone before it could be accepted is none: nothing is called.
 *
 * @param options Where to listen, limits and timeouts
 * @param callbacks What to call, one object for all connections
 * @returns The server
 * @throws {TypeError} When an option or a callback is of the wrong type or has an unknown name, and when there are both
 * `read` and `line`
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …; `EV_FREED` when the base was freed
 *
 * @example
 * ```ts
 * import { serve } from "trivent";
 *
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
  checkCount("maxConnections", options.maxConnections);
  checkCount("maxConnectionsPerAddress", options.maxConnectionsPerAddress);
  checkWhenFull(options.whenFull);
  checkConnectionCallbacks(verb, callbacks, SERVE_CALLBACKS);
  checkSignal(verb, signal);
  const shared = protocolOf(verb, options, callbacks);
  const base = baseOf(options);
  // What is out of range is told now, and not at the first connection. Each connection is set as this one.
  const model = setUp<Ctx>(verb, base, options, shared.lines);
  model.free();
  if (signal?.aborted === true) {
    throw new EventError("Cannot serve: aborted", { code: "ECANCELED", cause: signal.reason });
  }
  const socket = await base.listen(pick(withHandshakeTimeout(options), LISTEN_OPTIONS));
  if (loopOf(base).freed) await socket.close();
  const listener = new ConnListener(base, null, LEV_OPT_CLOSE_ON_FREE, 0, socket);
  // The server is made with them, and they call the server.
  const protocol: Protocol<Ctx> = {
    ...shared,
    onFreed: (owner) => server.remove(owner),
    onClosed: () => server.told(),
  };
  const failed = (error: unknown): void => reportTo(protocol, base, error, null);
  const server = new ServerCore(listener, options, callbacks, failed);
  const idleTimeoutMs = options.idleTimeoutMs ?? null;
  listener.setErrorCallback((_listener, error) => failed(error));
  listener.setCallback((_listener, accepted, address) => {
    if (!server.admission.admits(streamOf(accepted), address)) return;
    const key = addressKey(address);
    const bev = new SocketBufferEvent<Ctx>(base, accepted, BEV_OPT_CLOSE_ON_FREE);
    const core = socketCoreOf(bev);
    core.adoptLimits(socketCoreOf(model));
    if (idleTimeoutMs !== null) bev.setIdleTimeout(idleTimeoutMs);
    const owner = new ConnectionOwner<Ctx>(core, protocol);
    server.add(owner as ConnectionOwner<unknown>, key);
    if (!core.connecting) owner.open();
  });
  server.closeOn(signal);
  return new Server<Ctx>(server);
}

function socketCoreOf<Ctx>(bev: SocketBufferEvent<Ctx>): SocketCore {
  return coreOf(bev as SocketBufferEvent<unknown>) as SocketCore;
}

function checkCount(name: string, count = Infinity): void {
  if (typeof count !== "number" || !(count >= 1)) {
    throw new RangeError(`Cannot serve: ${name} is not a positive number: received ${show(count)}`);
  }
}

function withHandshakeTimeout({ handshakeTimeoutMs, ...options }: ServeOptions): ListenOptions {
  if (options.tls === undefined || handshakeTimeoutMs === undefined) return options;
  return { ...options, tls: { handshakeTimeoutMs, ...readTlsListen("serve", options.tls) } };
}

/**
 * Connects: a bufferevent with both directions enabled.
 *
 * Without an `event` callback the connection is closed gracefully when its peer has finished, and freed when it has
 * failed or timed out. With one, ending it is yours; it does not get `BEV_EVENT_CONNECTED`. What becomes of exceptions
 * stands at `serve()`.
 *
 * @param options Where to, limits and timeouts
 * @param callbacks What to call. `open` is called before the promise resolves, which does not wait for a promise of it
 * @returns The connection, once it is there
 * @throws {TypeError} When an option or a callback is of the wrong type or has an unknown name
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `ECONNREFUSED`, `ENOTFOUND`, `ETIMEDOUT`, `ECANCELED`, …; what `open` throws at once
 *
 * @example
 * ```ts
 * import { connect, serve } from "trivent";
 *
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
        // What it throws at once has rejected the promise before.
        owner.open(reject);
        resolve(bev);
      },
    });
    begin();
  });
}

/**
 * Begins to connect and gives the bufferevent at once, for drivers that need an object before there is a connection.
 *
 * What you write meanwhile is sent once the connection is there, in front of what `open` writes. `open` is called then;
 * if the attempt fails, `close` gets the reason, and what was written is dropped. `event` hears of neither. `close()`
 * waits for the connection and delivers what was written; `free()` and `reset()` give the attempt up. Views may be opened
 * at once.
 *
 * @param options As of `connect()`
 * @param callbacks As of `connect()`. `close` is also called when the attempt has failed or was given up
 * @returns The bufferevent. It has no addresses and no input until `open` is called
 * @throws {TypeError} When an option or a callback is of the wrong type or has an unknown name
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `EV_UNSUPPORTED` when the host cannot do what an option asks for; `EV_FREED` when the base was freed
 *
 * @example
 * ```ts
 * import { connectNow, serve } from "trivent";
 *
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

/** A connection that is to be made. */
interface Prepared<Ctx> {
  readonly bev: SocketBufferEvent<Ctx>;
  readonly protocol: Protocol<Ctx>;
  /** The idle timeout counts only once the connection is there. */
  readonly idleTimeoutMs: number | null;
  /** Begins to connect. What it throws, it throws after it has freed the bufferevent. */
  begin(): void;
}

/** Checks what `connect()` was given, and makes the bufferevent. */
function prepare<Ctx>(
  verb: "connect",
  given: ConnectOptions & ConnectionOptions,
  callbacks: ConnectionCallbacks<Ctx>,
): Prepared<Ctx> {
  const options = readOptions(verb, given, CONNECT_ALL_OPTIONS);
  checkConnectionCallbacks(verb, callbacks, CONNECTION_CALLBACKS);
  const protocol = protocolOf(verb, options, callbacks);
  const { idleTimeoutMs = null } = options;
  const bev = setUp<Ctx>(verb, baseOf(options), options, protocol.lines);
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
