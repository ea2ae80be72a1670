/** `serve()` and `connect()`: a server or a client in one call, on a base that dispatches by itself. */

import { checkObject, checkSignal } from "../checks.ts";
import {
  BEV_EVENT_CONNECTED,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
  EVLOOP_NO_EXIT_ON_EMPTY,
  LEV_OPT_CLOSE_ON_FREE,
} from "../flags.ts";
import { EventError } from "../errors.ts";
import { coreOf } from "../bufferevent/bufferevent.ts";
import type { SocketBufferEvent } from "../bufferevent/socket.ts";
import { EventBase, loopOf } from "../loop/event_base.ts";
import { streamOf } from "../socket/socket.ts";
import { ConnListener } from "../listener.ts";
import {
  type AbortSignalLike,
  type ConnectOptions,
  defaultRuntime,
  type ListenOptions,
  type Runtime,
} from "../runtime.ts";
import { type ConnectionCallbacks, connectionCallbacks, holdWhile } from "./callbacks.ts";
import { checkDrainTimeout, type ConnectionOptions, lineLimits, setUp } from "./connection_options.ts";
import { Server } from "./server.ts";
import { addressKey, type AdmissionCallbacks, checkWhenFull } from "./admission.ts";
import { ServerCore } from "./server_core.ts";

export type { AdmissionCallbacks, RejectReason } from "./admission.ts";
export type { ConnectionCallbacks } from "./callbacks.ts";
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
  handshakeTimeoutMs?: number;
  /** Aborting it closes the server, as `Server.close()` does. */
  signal?: AbortSignalLike;
}

/** What a server calls. */
export interface ServeCallbacks<Ctx = unknown> extends ConnectionCallbacks<Ctx>, AdmissionCallbacks {
  /**
   * A connection is there: the place to set `bev.context`.
   *
   * One that gives a promise, as an async function does, has the connection until that settles: a peer that finishes
   * meanwhile ends it only then, unless you have an `event` callback. When it rejects, the connection is freed, and the
   * rejection is not handled. Whatever else it gives is of no account: `open: (bev) => bev.write("hello\n")`.
   */
  open?(bev: SocketBufferEvent<Ctx>): unknown;
  /** The connection was freed, by you or by the server. The bufferevent can't be used any more. */
  close?(bev: SocketBufferEvent<Ctx>): void;
  /**
   * Accepting a connection failed, or `accept` or `reject` has thrown; the server goes on, and `bev` is null. Out of
   * descriptors, or when further clients cannot wait (`EV_BACKLOG_FULL`), it is called once until that is over. Without
   * this callback the error is reported by `Runtime.report()`.
   */
  error?(error: unknown, bev: SocketBufferEvent<Ctx> | null): void;
}

const bases: WeakMap<Runtime, EventBase> = new WeakMap();

/** The base of a runtime that dispatches by itself. It keeps the process alive as long as its sockets and timers do. */
export function baseOf(options: ConnectionOptions): EventBase {
  if (options.base !== undefined) return options.base;
  const runtime = options.runtime ?? defaultRuntime();
  let base = bases.get(runtime);
  if (base === undefined) bases.set(runtime, base = new EventBase({ runtime }));
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
 * | limit | and beyond it |
 * | --- | --- |
 * | `maxConnections` | further clients wait, or are refused: `whenFull` |
 * | `maxConnectionsPerAddress` | further clients are refused |
 * | `readHigh` | reading is suspended, and the peer waits |
 * | `maxLine` | `EV_LINE_TOO_LONG` is told to `event` |
 * | `maxOutputBytes` | the write is not queued, and `ENOBUFS` is told to `event` |
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
 * @throws {TypeError} When there are both a `read` and a `line` callback
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
export async function serve<Ctx = unknown>(options: ServeOptions, callbacks: ServeCallbacks<Ctx>): Promise<Server> {
  const { signal, drainTimeoutMs } = options;
  checkCount("maxConnections", options.maxConnections);
  checkCount("maxConnectionsPerAddress", options.maxConnectionsPerAddress);
  checkWhenFull(options.whenFull);
  checkDrainTimeout(options);
  checkObject("serve", "the callbacks", callbacks);
  checkSignal("serve", signal);
  const perConnection = connectionCallbacks(callbacks, lineLimits(options), drainTimeoutMs);
  const lines = callbacks.line !== undefined;
  const base = baseOf(options);
  // What is out of range is told now, and not at the first connection.
  setUp(base, null, options, lines).free();
  if (signal?.aborted === true) {
    throw new EventError("Cannot serve: aborted", { code: "ECANCELED", cause: signal.reason });
  }
  const socket = await base.listen(withHandshakeTimeout(options));
  if (loopOf(base).freed) await socket.close();
  const listener = new ConnListener(base, null, LEV_OPT_CLOSE_ON_FREE, 0, socket);
  const failed = (error: unknown): void => tellFailure(base.runtime, callbacks, error);
  const server = new ServerCore(listener, options, callbacks, failed);
  listener.setErrorCallback((_listener, error) => failed(error));
  listener.setCallback((_listener, accepted, address) => {
    if (!server.admission.admits(streamOf(accepted), address)) return;
    const key = addressKey(address);
    const bev = setUp<Ctx>(base, accepted, options, lines);
    server.add(bev as SocketBufferEvent, key, () => {
      if (callbacks.close === undefined || loopOf(base).freed) return;
      base.once(null, EV_TIMEOUT, () => callbacks.close?.(bev));
    });
    bev.setCallbacks(perConnection);
    try {
      const opened = callbacks.open?.(bev) as PromiseLike<unknown> | null | undefined;
      if (typeof opened?.then === "function") holdWhile(bev, opened);
    } catch (error) {
      bev.free();
      throw error;
    }
    if (!coreOf(bev as SocketBufferEvent<unknown>).freed) bev.enable(EV_READ | EV_WRITE);
  });
  server.closeOn(signal);
  return new Server(server);
}

/** Accepting has failed, or what decides about clients: no connection has anything to do with it. */
function tellFailure<Ctx>(runtime: Runtime, callbacks: ServeCallbacks<Ctx>, error: unknown): void {
  try {
    if (callbacks.error) callbacks.error(error, null);
    else runtime.report(error);
  } catch (thrown) {
    runtime.report(thrown);
  }
}

function checkCount(name: string, count = Infinity): void {
  if (!(count >= 1)) throw new RangeError(`Cannot serve: ${name} is not a positive number: received ${count}`);
}

function withHandshakeTimeout({ handshakeTimeoutMs, ...options }: ServeOptions): ListenOptions {
  if (options.tls === undefined || handshakeTimeoutMs === undefined) return options;
  return { ...options, tls: { handshakeTimeoutMs, ...options.tls } };
}

/**
 * Connects: a bufferevent with both directions enabled.
 *
 * Without an `event` callback the connection is closed gracefully when its peer has finished, and freed when it has
 * failed or timed out. With one, ending it is yours; it does not get `BEV_EVENT_CONNECTED`.
 *
 * @param options Where to, and timeouts
 * @param callbacks What to call
 * @returns The connection, once it is there
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `ECONNREFUSED`, `ENOTFOUND`, `ETIMEDOUT`, `ECANCELED`, …
 *
 * @example
 * ```ts
 * import { connect, serve } from "trivent";
 *
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, { open: (bev) => bev.write("hello\n") });
 * const { port } = server.address as { port: number };
 * const client = await connect({ hostname: "127.0.0.1", port }, {
 *   read: (bev) => console.log(bev.input.toString()),
 * });
 * await client.close();
 * await server.close();
 * ```
 */
export function connect<Ctx = unknown>(
  options: ConnectOptions & ConnectionOptions,
  callbacks: ConnectionCallbacks<Ctx>,
): Promise<SocketBufferEvent<Ctx>> {
  return new Promise((resolve, reject) => {
    checkDrainTimeout(options);
    const perConnection = connectionCallbacks(callbacks, lineLimits(options), options.drainTimeoutMs);
    const { idleTimeoutMs = null, ...others } = options;
    const bev = setUp<Ctx>(baseOf(options), null, { ...others, idleTimeoutMs: null }, callbacks.line !== undefined);
    bev.setCallbacks({
      event(bev, what, error) {
        if ((what & BEV_EVENT_CONNECTED) !== 0) {
          bev.setCallbacks(perConnection);
          bev.setIdleTimeout(idleTimeoutMs);
          bev.enable(EV_READ | EV_WRITE);
          resolve(bev);
          return;
        }
        bev.free();
        reject(error ?? new EventError("Cannot connect: the connection ended", { code: "ECONNRESET" }));
      },
    });
    try {
      bev.connect(options);
    } catch (error) {
      bev.free();
      reject(error);
    }
  });
}
