/** Options of every connection of `serve()` and `connect()`: limits and timeouts. */

import { DEFAULT_READ_HIGH } from "../bufferevent/limits.ts";
import { checkCount, checkDuration, checkEol, checkLimit, outOfRange, wrongType } from "../checks.ts";
import { BEV_OPT_CLOSE_ON_FREE, EV_READ, EV_WRITE, EVBUFFER_EOL_CRLF } from "../flags.ts";
import { coreOf } from "../api/bufferevent.ts";
import { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { EventBase } from "../api/event_base.ts";
import type { Names } from "../names.ts";
import type { Runtime } from "../runtime.ts";
import { DEFAULT_MAX_LINE_BYTES } from "../views/lines.ts";
import { type KeepAliveOptions, readKeepAlive } from "./keep_alive.ts";
import type { ConnectionCallbacks, Protocol } from "./protocol.ts";

/** The line end and the limit of the `line` callback. */
export interface LineLimits {
  /** One of the `EVBUFFER_EOL` styles. */
  readonly eol: number;
  /** The longest line, in bytes. */
  readonly limit: { readonly maxBytes: number };
}

/** Options of every connection of `serve()` or `connect()`. */
export interface ConnectionOptions {
  /** The base; by default one for each runtime, which dispatches by itself. */
  base?: EventBase | undefined;
  /** The runtime, if no base is given; by default the one that the program runs on. */
  runtime?: Runtime | undefined;
  /**
   * The time without any bytes in either direction, in milliseconds: see `BufferEvent.setIdleTimeout()`. @default
   * {null}
   */
  idleTimeoutMs?: number | null | undefined;
  /** The time without arriving bytes, in milliseconds: see `BufferEvent.setTimeouts()`. @default {null} */
  readTimeoutMs?: number | null | undefined;
  /**
   * The time in which output waits and nothing of it leaves, in milliseconds: see `BufferEvent.setTimeouts()`. @default
   * {null}
   */
  writeTimeoutMs?: number | null | undefined;
  /**
   * Whether TCP probes a peer that is silent, so that one that has vanished is noticed: the connection then fails with
   * `ETIMEDOUT`. With true the system decides when: on Linux after two hours. Not for unix sockets.
   *
   * It finds hosts and networks that are gone. A process that hangs still answers; `heartbeat()` finds that.
   *
   * @default {false}
   */
  keepAlive?: boolean | KeepAliveOptions | undefined;
  /**
   * The time limit of a line or frame, from its first byte to its last, in milliseconds. It holds for the `line`
   * callback and for views, against peers that send a byte a second. After it, `BEV_EVENT_READING | BEV_EVENT_TIMEOUT`
   * is reported with `ETIMEDOUT`.
   *
   * @default {null}
   */
  messageTimeoutMs?: number | null | undefined;
  /**
   * How long the input may stay at `readHigh` while nobody is busy with it, in milliseconds; null for ever. After it,
   * `BEV_EVENT_READING | BEV_EVENT_ERROR` is reported with `EV_INPUT_FULL`. If `event` leaves the connection open, it
   * is reset after the same time again.
   *
   * Somebody is busy in these cases: a promise of `open`, `read` or `line` is pending; the consumer of a view has not
   * called `next()` again; the other side of a pipe or filter is slow; the program has disabled reading; a full output
   * suspends reading; a rate limit is used up.
   *
   * @default {60_000}
   */
  stallTimeoutMs?: number | null | undefined;
  /**
   * How long a pending promise of `open`, `read` or `line` holds back timeouts and the peer's end, in milliseconds;
   * null for ever. Time that it waits in a view or in `drained()` does not count.
   *
   * @default {300_000}
   */
  handlerTimeoutMs?: number | null | undefined;
  /**
   * The time to deliver the output when Trivent ends a connection whose peer has finished (30 s by default). It is also
   * the default of `graceMs` of `Server.close()` (otherwise 10 s).
   */
  drainTimeoutMs?: number | undefined;
  /** The low watermark of reading, in bytes. @default {0} */
  readLow?: number | undefined;
  /**
   * The high watermark of reading, in bytes; 0 for none. At this length of the input reading is suspended, and the peer
   * must wait. With a `line` callback it is at least `maxLine` and 2.
   *
   * @default {65536}
   */
  readHigh?: number | undefined;
  /**
   * The low watermark of writing, in bytes. After `writeHigh`, `write()` returns false until the output has drained to
   * it. @default {0}
   */
  writeLow?: number | undefined;
  /**
   * The high watermark of writing, in bytes; 0 for none. From this length of the output on, `write()` returns false.
   * @default {262144}
   */
  writeHigh?: number | undefined;
  /**
   * Whether reading goes on while the output is at `writeHigh`. If not, no `line` is called meanwhile and no view
   * returns anything, so a peer that does not read its answers waits with its questions.
   *
   * By default false for `serve()` and true for `connect()`, because two ends that wait for each other would wait for
   * ever.
   */
  readWhileFull?: boolean | undefined;
  /** The hard limit of the output, in bytes: see `BufferEvent.maxOutputBytes`. @default {16777216} */
  maxOutputBytes?: number | undefined;
  /** The longest line for the `line` callback, in bytes without its terminator. @default {65536} */
  maxLine?: number | undefined;
  /** The line end of the `line` callback: one of the `EVBUFFER_EOL` styles. @default {EVBUFFER_EOL_CRLF} */
  eol?: number | undefined;
}

/** Their names. */
export const CONNECTION_OPTIONS: Names<ConnectionOptions> = {
  base: true,
  runtime: true,
  idleTimeoutMs: true,
  readTimeoutMs: true,
  writeTimeoutMs: true,
  keepAlive: true,
  messageTimeoutMs: true,
  stallTimeoutMs: true,
  handlerTimeoutMs: true,
  drainTimeoutMs: true,
  readLow: true,
  readHigh: true,
  writeLow: true,
  writeHigh: true,
  readWhileFull: true,
  maxOutputBytes: true,
  maxLine: true,
  eol: true,
};

/** The high watermark of writing, unless set. */
const DEFAULT_WRITE_HIGH = 256 * 1024;
/** The hard limit of the output, unless set. */
const DEFAULT_MAX_OUTPUT = 16 * 1024 * 1024;
const DEFAULT_STALL_TIMEOUT_MS = 60_000;
const DEFAULT_HANDLER_TIMEOUT_MS = 300_000;
/** The time for a graceful end, unless set. */
const DEFAULT_DRAIN_TIMEOUT_MS = 30_000;
/** The longest terminator. */
const EOL_BYTES = 2;

/**
 * Reads what all connections share.
 *
 * @param verb The verb of errors
 * @throws {TypeError} When an option is of the wrong type
 * @throws {RangeError} When an option is out of range
 */
export function protocolOf<Ctx>(
  verb: string,
  options: ConnectionOptions,
  callbacks: ConnectionCallbacks<Ctx>,
): Protocol<Ctx> {
  const {
    drainTimeoutMs = DEFAULT_DRAIN_TIMEOUT_MS,
    handlerTimeoutMs = DEFAULT_HANDLER_TIMEOUT_MS,
    stallTimeoutMs = DEFAULT_STALL_TIMEOUT_MS,
    messageTimeoutMs = null,
  } = options;
  return {
    callbacks,
    lines: callbacks.line == null ? null : lineLimits(verb, options),
    closeTimeoutMs: checkDuration(verb, "drainTimeoutMs", drainTimeoutMs),
    handlerTimeoutMs: checkTimeout(verb, "handlerTimeoutMs", handlerTimeoutMs) || Infinity,
    stallTimeoutMs: checkTimeout(verb, "stallTimeoutMs", stallTimeoutMs) || Infinity,
    messageTimeoutMs: checkTimeout(verb, "messageTimeoutMs", messageTimeoutMs),
    keepAlive: readKeepAlive(verb, options.keepAlive),
  };
}

function lineLimits(
  verb: string,
  { eol = EVBUFFER_EOL_CRLF, maxLine = DEFAULT_MAX_LINE_BYTES }: ConnectionOptions,
): LineLimits {
  return { eol: checkEol(verb, eol), limit: { maxBytes: checkLimit(verb, "maxLine", maxLine) } };
}

/** A duration, 0 for none. */
function checkTimeout(verb: string, name: string, ms: number | null): number {
  return ms === null ? 0 : checkDuration(verb, name, ms);
}

/**
 * Makes a bufferevent without a connection, set up with the options.
 *
 * @param verb The verb of errors
 * @param base The base that calls back
 * @param options Its limits and timeouts
 * @param lines The line end and the limit, with a `line` callback
 * @returns The bufferevent
 * @throws {TypeError} When an option is of the wrong type
 * @throws {RangeError} When an option is out of range
 */
export function setUp<Ctx>(
  verb: string,
  base: EventBase,
  options: ConnectionOptions,
  lines: LineLimits | null,
): SocketBufferEvent<Ctx> {
  const { readTimeoutMs = null, writeTimeoutMs = null, idleTimeoutMs = null, readLow = 0, writeLow = 0 } = options;
  const { writeHigh = DEFAULT_WRITE_HIGH, maxOutputBytes = DEFAULT_MAX_OUTPUT } = options;
  const { readWhileFull = verb !== "serve" } = options;
  if (typeof readWhileFull !== "boolean") {
    throw wrongType(verb, "readWhileFull is neither true nor false", readWhileFull);
  }
  const bev = new SocketBufferEvent<Ctx>(base, null, BEV_OPT_CLOSE_ON_FREE);
  try {
    bev.setWatermark(EV_READ, readLow, readHighOf(verb, options, lines));
    bev.setWatermark(EV_WRITE, writeLow, writeHigh);
    bev.setTimeouts(readTimeoutMs, writeTimeoutMs);
    bev.setIdleTimeout(idleTimeoutMs);
    bev.maxOutputBytes = maxOutputBytes;
    coreOf(bev as SocketBufferEvent<unknown>).readsWhileFull = readWhileFull;
  } catch (error) {
    bev.free();
    throw error;
  }
  return bev;
}

function readHighOf(verb: string, options: ConnectionOptions, lines: LineLimits | null): number {
  if (lines === null) return options.readHigh ?? DEFAULT_READ_HIGH;
  // With less, a line of the largest length would stop reading for ever.
  const least = lines.limit.maxBytes + EOL_BYTES;
  const { readHigh = Math.max(DEFAULT_READ_HIGH, least) } = options;
  if (checkCount(verb, "readHigh", readHigh) > 0 && readHigh < least) {
    throw outOfRange(verb, `readHigh is neither 0 nor at least ${least}, maxLine and its terminator`, readHigh);
  }
  return readHigh;
}
