/** `reconnect()`: a client that connects again when its connection is lost. */

import { checkDuration, checkInner, checkNumber, checkSignal, outOfRange } from "../checks.ts";
import type { Callback } from "../callback.ts";
import type { EventError } from "../errors.ts";
import { type EventBase, loopOf } from "../api/event_base.ts";
import type { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import { type Names, readOptions } from "../names.ts";
import type { AbortSignalLike, ConnectOptions } from "../runtime.ts";
import { Backoff, type BackoffOptions } from "./backoff.ts";
import { type ConnectionOptions, protocolOf } from "./connection_options.ts";
import { checkGrace, checkReady, LinkCore, type LinkState } from "./link.ts";
import { ConnectionOwner } from "./owner.ts";
import { checkConnectionCallbacks, CONNECTION_CALLBACKS, type ConnectionCallbacks } from "./protocol.ts";
import { baseOf, CONNECT_ALL_OPTIONS, prepared, socketCoreOf } from "./serve.ts";

export type { BackoffOptions } from "./backoff.ts";
export type { LinkState } from "./link.ts";

/**
 * Options of {@linkcode reconnect}: the options of `connect()`, for each attempt, and the rules for the next attempt.
 */
export interface ReconnectOptions extends ConnectOptions, ConnectionOptions {
  /** The delays before all attempts except the first. */
  backoff?: BackoffOptions | undefined;
  /**
   * How long a connection must have been open, in milliseconds, to count as a success. Then the
   * delays and the count of attempts start again. So there are delays also if a server accepts and
   * closes at once.
   *
   * @default {5_000}
   */
  stableMs?: number | undefined;
  /**
   * How many attempts in a row may fail or give a connection that is lost before `stableMs`. After that the link is
   * closed.
   *
   * @default {Infinity}
   */
  maxAttempts?: number | undefined;
  /** Aborting it closes the link, as `Link.close()` does. */
  signal?: AbortSignalLike | undefined;
}

/** The callbacks of a {@linkcode Link}: the callbacks of `connect()` for each connection, and `lost`. */
export interface ReconnectCallbacks<Ctx = unknown> extends ConnectionCallbacks<Ctx> {
  /**
   * An attempt has failed, or a connection is over and its `close` callback has been called. It is not called for an
   * end by `Link.close()`.
   *
   * `error` is the reason. It is undefined if the peer, or your own `close()`, `free()` or `reset()`, has ended the
   * connection. The next attempt begins in `delayMs` milliseconds; `Infinity` means that `maxAttempts` are used up.
   * `attempt` counts the losses in a row, from 1 on.
   */
  lost?: Callback<[error: EventError | undefined, delayMs: number, attempt: number]> | undefined;
}

const RECONNECT_CALLBACKS: Names<ReconnectCallbacks> = /* @__PURE__ */ Object.assign(
  { lost: true as const },
  CONNECTION_CALLBACKS,
);
const RECONNECT_ONLY: Names<Pick<ReconnectOptions, "backoff" | "stableMs" | "maxAttempts">> = {
  backoff: true,
  stableMs: true,
  maxAttempts: true,
};
const RECONNECT_OPTIONS: Names<ReconnectOptions> = /* @__PURE__ */ Object.assign(
  {},
  CONNECT_ALL_OPTIONS,
  RECONNECT_ONLY,
);
const READY_OPTIONS: Names<{ signal?: AbortSignalLike | undefined }> = { signal: true };
const CLOSE_OPTIONS: Names<{ graceMs?: number | undefined }> = { graceMs: true };

/** A client that connects again when its connection is lost. Made by {@linkcode reconnect}. */
export class Link<Ctx = unknown> {
  readonly #core: LinkCore<Ctx>;

  /** Made by `reconnect()`. */
  constructor(core: object) {
    this.#core = checkInner(core, LinkCore, "Link", "reconnect()") as LinkCore<Ctx>;
  }

  /**
   * Its state. `"connecting"`: an attempt is under way. `"open"`: there is a connection. `"waiting"`: for the time of
   * the next attempt. `"closed"`: by `close()`, by the signal, or because `maxAttempts` are used up.
   */
  get state(): LinkState {
    return this.#core.state;
  }

  /** The connection, or null while there is none. */
  get connection(): SocketBufferEvent<Ctx> | null {
    return this.#core.connection;
  }

  /** The number of losses in a row: failed attempts and lost connections. It is 0 again after `stableMs`. */
  get attempts(): number {
    return this.#core.attempts;
  }

  /** The base that runs it. */
  get base(): EventBase {
    return this.#core.base;
  }

  /**
   * Waits for the connection. It may be called many times at once.
   *
   * The connection may be lost before you use it: check the result of `write()`, and `bev.signal`.
   *
   * @param options `signal`: aborting it ends the wait, which rejects with the signal's reason
   * @returns The connection, after its `open` callback was called
   * @throws {EventError} `ECANCELED` after `close()`; the error of the last attempt if `maxAttempts` are used up
   */
  ready(options: { signal?: AbortSignalLike | undefined } = {}): Promise<SocketBufferEvent<Ctx>> {
    try {
      const { signal } = readOptions("wait for a connection", options, READY_OPTIONS);
      return this.#core.ready(checkReady(signal));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Ends it. No further attempt begins, an attempt under way is cancelled, and a connection is closed gracefully, as by
   * `BufferEvent.close()`. A second call can only make this time shorter.
   *
   * @param options `graceMs`: how long the connection may take, in milliseconds; by default `drainTimeoutMs`, or 30 s
   * @returns When the connection is over and its `close` callback has run; the same for every call
   * @throws {RangeError} When `graceMs` is negative or not a number
   */
  close(options: { graceMs?: number | undefined } = {}): Promise<void> {
    try {
      const { graceMs } = readOptions("close a link", options, CLOSE_OPTIONS);
      return this.#core.close(checkGrace(graceMs));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Connects, and connects again after each lost connection and each failed attempt. The delay before an attempt grows,
 * and has a random part.
 *
 * Output of a lost connection is dropped. Nothing is sent again by itself: only you know whether the peer has received
 * a message, and whether it may receive it twice. The guide shows how to send messages again safely.
 *
 * @param options The address, limits and timeouts of each connection, and the rules for the next attempt. A host name
 * is looked up again for each attempt. Set `timeoutMs`: without it an attempt takes as long as the
 * system allows, which may be minutes
 * @param callbacks The callbacks of each connection, and `lost`
 * @returns The link. The first attempt is under way
 * @throws {TypeError} When an option or a callback is of the wrong type or has an unknown name
 * @throws {RangeError} When an option is out of range
 * @throws {EventError} `EV_UNSUPPORTED` if the runtime does not support an option; `EV_FREED` if the base was freed
 *
 * @example
 * ```ts
 * import { reconnect, serve } from "trivent";
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, { open: (bev) => bev.write("hello\n") });
 * const link = reconnect({ hostname: "127.0.0.1", port: server.port, timeoutMs: 5_000, backoff: { initialMs: 10 } }, {
 *   line: (_bev, line) => console.log(new TextDecoder().decode(line)), // hello, twice
 *   lost: (error, delayMs) => console.log(`lost: ${error?.message}; again in ${Math.round(delayMs)} ms`),
 * });
 * (await link.ready()).free();
 * await link.ready();
 * await link.close();
 * await server.close();
 * ```
 */
export function reconnect<Ctx = unknown>(
  options: ReconnectOptions,
  callbacks: ReconnectCallbacks<Ctx> = {},
): Link<Ctx> {
  const verb = "reconnect";
  const { backoff = {}, stableMs = 5_000, maxAttempts = Infinity, signal, ...others } = readOptions(
    verb,
    options,
    RECONNECT_OPTIONS,
  );
  checkConnectionCallbacks(verb, callbacks, RECONNECT_CALLBACKS);
  checkDuration(verb, "stableMs", stableMs);
  checkNumber(verb, "maxAttempts", maxAttempts);
  if (!(maxAttempts >= 1)) {
    throw outOfRange(verb, "maxAttempts is not 1 or more", maxAttempts);
  }
  checkSignal(verb, signal);
  const protocol = protocolOf(verb, others, callbacks);
  const base = baseOf(others);
  const { runtime } = loopOf(base);
  const { lost } = callbacks;
  return new Link<Ctx>(
    new LinkCore<Ctx>({
      base,
      backoff: new Backoff(verb, runtime, backoff),
      stableMs,
      maxAttempts,
      signal,
      protocol,
      lost: lost == null ? undefined : (...loss) => callbacks.lost?.(...loss),
      attempt(protocol) {
        const { bev, idleTimeoutMs, begin } = prepared<Ctx>(verb, base, others, protocol);
        begin();
        const core = socketCoreOf(bev);
        new ConnectionOwner<Ctx>(core, protocol);
        return { bev, core, idleTimeoutMs };
      },
    }),
  );
}
