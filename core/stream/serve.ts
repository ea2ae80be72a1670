/** `serve()` and `connect()`: a server or a client in one call, on a base that dispatches by itself. */

import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_TIMEOUT,
  BEV_OPT_CLOSE_ON_FREE,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
  EVLOOP_NO_EXIT_ON_EMPTY,
  LEV_OPT_CLOSE_ON_FREE,
} from "../flags.ts";
import { EventError } from "../errors.ts";
import { type BufferEventCallbacks, coreOf } from "../bufferevent/bufferevent.ts";
import { SocketBufferEvent } from "../bufferevent/socket.ts";
import { EventBase, loopOf } from "../loop/event_base.ts";
import { ConnListener } from "../listener.ts";
import {
  type Address,
  type ConnectOptions,
  defaultRuntime,
  type ListenOptions,
  type Runtime,
  type TimerToken,
} from "../runtime.ts";
import type { Socket } from "../socket/socket.ts";

/** What every connection of `serve()` or `connect()` gets. */
export interface ConnectionOptions {
  /** The base; by default one for each runtime, which dispatches by itself. */
  base?: EventBase;
  /** The host, when no base is given; by default the one that the program runs on. */
  runtime?: Runtime;
  /** See `BufferEvent.setTimeouts()`. @default {null} */
  readTimeoutMs?: number | null;
  /** See `BufferEvent.setTimeouts()`. @default {null} */
  writeTimeoutMs?: number | null;
  /** The low watermark of reading, in bytes. @default {0} */
  readLow?: number;
  /** The high watermark of reading, in bytes: more than this of input waits with the system and the peer. @default {65536} */
  readHigh?: number;
}

/** Options of `serve()`. */
export interface ServeOptions extends ListenOptions, ConnectionOptions {
  /** How many connections there may be; further ones wait to be accepted. @default {Infinity} */
  maxConnections?: number;
}

/** What a server calls. */
export interface ServeCallbacks<Ctx = unknown> extends BufferEventCallbacks<SocketBufferEvent<Ctx>> {
  /** A connection is there: the place to set `bev.context`. */
  open?(bev: SocketBufferEvent<Ctx>): void;
  /** The connection was freed, by you or by the server. The bufferevent can't be used any more. */
  close?(bev: SocketBufferEvent<Ctx>): void;
  /** Accepting a connection failed; the server goes on. */
  error?(error: EventError): void;
}

/** The high watermark of reading, unless set. */
const DEFAULT_READ_HIGH = 64 * 1024;
/** How long `Server.close()` lets connections finish, unless told. */
const DEFAULT_GRACE_MS = 10_000;

const bases: WeakMap<Runtime, EventBase> = new WeakMap();

/** The base of a runtime that dispatches by itself. It keeps the process alive as long as its sockets and timers do. */
function baseOf(options: ConnectionOptions): EventBase {
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

/** A running server. */
export class Server {
  readonly #listener: ConnListener;
  readonly #open: Set<SocketBufferEvent> = new Set();
  readonly #max: number;
  #closing: Promise<void> | null = null;
  #onEmpty: (() => void) | null = null;
  #cut: TimerToken | null = null;
  #cutAt = Infinity;

  /** Made by `serve()`. */
  constructor(listener: ConnListener, maxConnections: number) {
    this.#listener = listener;
    this.#max = maxConnections;
  }

  /** Where it listens, the port that the system chose included. */
  get address(): Address {
    return this.#listener.address;
  }

  /** The base on which it runs. */
  get base(): EventBase {
    return this.#listener.base;
  }

  /** How many connections there are. */
  get connections(): number {
    return this.#open.size;
  }

  /** For `serve()`: a connection has come. */
  add(bev: SocketBufferEvent, onFreed: () => void): void {
    this.#open.add(bev);
    if (this.#open.size >= this.#max) this.#listener.disable();
    coreOf(bev as SocketBufferEvent<unknown>).onFreed = (): void => {
      this.#open.delete(bev);
      if (this.#closing === null && this.#open.size < this.#max) this.#listener.enable();
      onFreed();
      if (this.#open.size === 0) this.#onEmpty?.();
    };
  }

  /**
   * Stops: no connection is accepted any more, those that are there may finish, and what is left after `graceMs` is cut.
   * A second call can only bring the cut forward.
   *
   * @param options `graceMs`: how long connections may go on, 10 s by default; 0 cuts them at once
   * @returns When no connection is left, the last `close` callback has run and the port is free; the same for every call
   * @throws {RangeError} When `graceMs` is negative or no number
   */
  close(options: { graceMs?: number } = {}): Promise<void> {
    const { graceMs = DEFAULT_GRACE_MS } = options;
    if (!(graceMs >= 0)) throw new RangeError(`Cannot close a server: graceMs is not a duration: received ${graceMs}`);
    const { runtime } = this.base;
    const cutAt = runtime.now() + Math.min(graceMs, 2 ** 30);
    const closing = this.#closing ??= this.#close();
    if (this.#open.size > 0 && cutAt < this.#cutAt) {
      if (this.#cut !== null) runtime.clearTimer(this.#cut);
      this.#cutAt = cutAt;
      this.#cut = runtime.setTimer(cutAt, () => {
        this.#cut = null;
        for (const bev of this.#open) bev.reset();
      });
    }
    return closing;
  }

  async #close(): Promise<void> {
    const portFree = this.#listener.close();
    if (this.#open.size > 0) {
      await new Promise<void>((resolve) => this.#onEmpty = resolve);
      if (this.#cut !== null) this.base.runtime.clearTimer(this.#cut);
      // The `close` callbacks run in the loop, in their order; this is behind them.
      const { dispatching } = loopOf(this.base);
      if (dispatching) await new Promise<void>((resolve) => this.base.once(null, EV_TIMEOUT, () => resolve()));
    }
    await portFree;
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Serves: a listener, and for each connection a bufferevent with both directions enabled.
 *
 * Without an `event` callback a connection is closed gracefully when its peer has finished, and freed when it has failed
 * or timed out. With one, ending the connection is yours.
 *
 * @param options Where to listen, limits and timeouts
 * @param callbacks What to call, one object for all connections
 * @returns The server
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …
 *
 * @example
 * ```ts
 * import { serve } from "@trivent/trivent";
 *
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
 *   read: (bev) => bev.output.addBuffer(bev.input),
 * });
 * console.log("echo on", server.address);
 * await server.close();
 * ```
 */
export async function serve<Ctx = unknown>(options: ServeOptions, callbacks: ServeCallbacks<Ctx>): Promise<Server> {
  const { maxConnections = Infinity } = options;
  if (!(maxConnections >= 1)) {
    throw new RangeError(`Cannot serve: maxConnections is not a positive number: received ${maxConnections}`);
  }
  const base = baseOf(options);
  // What is out of range is told now, and not at the first connection.
  setUp(base, null, options).free();
  const socket = await base.listen(options);
  const listener = new ConnListener(base, null, LEV_OPT_CLOSE_ON_FREE, 0, socket);
  const server = new Server(listener, maxConnections);
  const perConnection = callbacks.event === undefined ? withDefaultEnd(callbacks) : callbacks;
  listener.setErrorCallback((_listener, error) => callbacks.error?.(error));
  listener.setCallback((_listener, accepted) => {
    const bev = setUp<Ctx>(base, accepted, options);
    server.add(bev as SocketBufferEvent, () => {
      if (callbacks.close === undefined || loopOf(base).freed) return;
      base.once(null, EV_TIMEOUT, () => callbacks.close?.(bev));
    });
    bev.setCallbacks(perConnection);
    try {
      callbacks.open?.(bev);
    } catch (error) {
      bev.free();
      throw error;
    }
    if (!coreOf(bev as SocketBufferEvent<unknown>).freed) bev.enable(EV_READ | EV_WRITE);
  });
  return server;
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
 * import { connect, serve } from "@trivent/trivent";
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
  callbacks: BufferEventCallbacks<SocketBufferEvent<Ctx>>,
): Promise<SocketBufferEvent<Ctx>> {
  return new Promise((resolve, reject) => {
    const bev = setUp<Ctx>(baseOf(options), null, options);
    bev.setCallbacks({
      event(bev, what, error) {
        if ((what & BEV_EVENT_CONNECTED) !== 0) {
          bev.setCallbacks(callbacks.event === undefined ? withDefaultEnd(callbacks) : callbacks);
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

function setUp<Ctx>(base: EventBase, socket: Socket | null, options: ConnectionOptions): SocketBufferEvent<Ctx> {
  const { readTimeoutMs = null, writeTimeoutMs = null, readLow = 0, readHigh = DEFAULT_READ_HIGH } = options;
  const bev = new SocketBufferEvent<Ctx>(base, socket, BEV_OPT_CLOSE_ON_FREE);
  try {
    bev.setWatermark(EV_READ, readLow, readHigh);
    bev.setTimeouts(readTimeoutMs, writeTimeoutMs);
  } catch (error) {
    bev.free();
    throw error;
  }
  return bev;
}

/** The same callbacks, with the usual end of a connection. They stay the user's own object, but for `event`. */
function withDefaultEnd<Ctx>(
  callbacks: BufferEventCallbacks<SocketBufferEvent<Ctx>>,
): BufferEventCallbacks<SocketBufferEvent<Ctx>> {
  const all = Object.create(callbacks) as BufferEventCallbacks<SocketBufferEvent<Ctx>>;
  all.event = (bev, what): void => {
    if ((what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0) bev.free();
    else if ((what & BEV_EVENT_EOF) !== 0) bev.close();
  };
  return all;
}
