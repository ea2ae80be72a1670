/** `heartbeat()`: finds a peer that has vanished, or hangs. */

import { checkBytes, checkDuration, isBytes, outOfRange, plain, wrongType } from "../checks.ts";
import { EventError } from "../errors.ts";
import { HeartbeatTimer } from "../bufferevent/heartbeat.ts";
import { type Names, readOptions } from "../names.ts";
import { type BufferEvent, coreOf } from "./bufferevent.ts";

/** Options of {@linkcode heartbeat}. */
export interface HeartbeatOptions<Bev extends BufferEvent = BufferEvent> {
  /** How long the peer may be silent before `send` is sent, in milliseconds, and the interval after that. */
  everyMs: number;
  /**
   * The message that asks the peer: bytes, text, or a function that writes it. An error of the function is treated as
   * in a callback.
   */
  send: Uint8Array | string | ((bev: Bev) => unknown);
  /**
   * How long the peer may be silent before the connection fails, in milliseconds. More than `everyMs`, so that the peer
   * can answer.
   */
  timeoutMs: number;
}

const HEARTBEAT_OPTIONS: Names<HeartbeatOptions> = { everyMs: true, send: true, timeoutMs: true };

/** The result of {@linkcode heartbeat}. */
export interface Heartbeat {
  /**
   * The peer has given a sign of life that is not input of this bufferevent, such as a datagram. Input counts by itself.
   */
  beat(): void;
  /** Ends the heartbeat. The end of the bufferevent ends it, too. */
  stop(): void;
}

/**
 * Asks a silent peer for a sign of life, and ends the connection if none comes.
 *
 * Any input is a sign of life. While it flows nothing is sent. After `everyMs` of silence `send` is sent, and again
 * every `everyMs`. After `timeoutMs` of silence both directions are disabled, and `event` gets `BEV_EVENT_READING |
 * BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT` with `ETIMEDOUT`; without an `event` callback a connection of `serve()`,
 * `connect()` or `reconnect()` ends, and `close` gets that reason.
 *
 * Silence does not count while we do not read: the input is full, reading is disabled, or a rate limit holds. It does
 * count while reading waits for a peer that takes no output.
 *
 * In contrast to TCP keep-alive it finds a process that hangs, too, and works through proxies. The peer must answer:
 * use a message of your protocol that asks for one.
 *
 * libevent: none.
 *
 * @param bev The bufferevent, of any kind. It may be connecting: the count begins when it is there
 * @param options The message and the times
 * @returns The heartbeat, which can be stopped
 * @throws {TypeError} When an argument is of the wrong type, or an option is missing
 * @throws {RangeError} When `everyMs` is not above 0, or `timeoutMs` not above `everyMs`
 * @throws {EventError} `EV_BUSY` when it has a heartbeat, `EV_FREED` when it was freed or is being closed
 *
 * @example
 * ```ts
 * import { heartbeat, serve } from "trivent";
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
 *   open: (bev) => void heartbeat(bev, { everyMs: 10_000, send: "PING\n", timeoutMs: 30_000 }),
 *   line() {}, // PONG, and everything else, is a sign of life
 *   close: (_bev, reason) => console.log(reason?.code), // ETIMEDOUT
 * });
 * await server.close();
 * ```
 */
export function heartbeat<Bev extends BufferEvent>(bev: Bev, options: HeartbeatOptions<Bev>): Heartbeat {
  const doing = "keep a heartbeat";
  const core = coreOf(bev);
  const { everyMs, send, timeoutMs } = readOptions(doing, options, HEARTBEAT_OPTIONS as Names<HeartbeatOptions<Bev>>);
  if (checkDuration(doing, "everyMs", everyMs) === 0) {
    throw new RangeError(`Cannot ${doing}: everyMs is not above 0: received 0`);
  }
  if (checkDuration(doing, "timeoutMs", timeoutMs) <= everyMs) {
    throw outOfRange(doing, `timeoutMs is not above everyMs, ${everyMs}`, timeoutMs);
  }
  if (typeof send !== "string" && typeof send !== "function" && !isBytes(send)) {
    throw wrongType(doing, "send is not bytes, text or a function", send);
  }
  core.live(doing);
  if (core.closing !== null) throw core.ending(doing);
  if (core.heartbeat !== null) throw new EventError(`Cannot ${doing}: the bufferevent has one`, { code: "EV_BUSY" });
  // A copy: the program may change its bytes.
  const bytes = isBytes(send) ? plain(checkBytes(doing, "send", send)).slice() : send;
  const ask = (): void => {
    if (typeof bytes !== "function") {
      bev.write(bytes);
      return;
    }
    const result = bytes(bev);
    if (!(result instanceof Promise)) return;
    result.catch((error) => {
      if (!core.caught(error)) core.loop.runtime.report(error);
    });
  };
  const silent = (silentMs: number): EventError => {
    const message = `The peer has given no sign of life for ${Math.round(silentMs)} ms`;
    return new EventError(message, { code: "ETIMEDOUT", syscall: "read" });
  };
  const timer = new HeartbeatTimer(core, everyMs, timeoutMs, ask, silent);
  core.heartbeat = timer;
  return {
    beat(): void {
      timer.heard(core.loop.clock());
    },
    stop(): void {
      if (core.heartbeat === timer) core.heartbeat = null;
    },
  };
}
