/** What every connection of `serve()` and `connect()` gets: limits and timeouts. */

import { checkCount, checkEol, checkLimit, show } from "../checks.ts";
import { BEV_OPT_CLOSE_ON_FREE, EV_READ, EV_WRITE, EVBUFFER_EOL_CRLF } from "../flags.ts";
import { coreOf } from "../api/bufferevent.ts";
import { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { EventBase } from "../api/event_base.ts";
import type { Names } from "../names.ts";
import type { Runtime } from "../runtime.ts";
import { DEFAULT_MAX_LINE_BYTES } from "../views/lines.ts";
import type { ConnectionCallbacks, Protocol } from "./protocol.ts";

/** What a line is, for the `line` callback. */
export interface LineLimits {
  /** One of the `EVBUFFER_EOL` styles. */
  readonly eol: number;
  /** The longest line, in bytes. */
  readonly limit: { readonly maxBytes: number };
}

/** What every connection of `serve()` or `connect()` gets. */
export interface ConnectionOptions {
  /** The base; by default one for each runtime, which dispatches by itself. */
  base?: EventBase | undefined;
  /** The host, when no base is given; by default the one that the program runs on. */
  runtime?: Runtime | undefined;
  /** See `BufferEvent.setIdleTimeout()`: nothing has come or gone for so long. @default {null} */
  idleTimeoutMs?: number | null | undefined;
  /** See `BufferEvent.setTimeouts()`: nothing has come for so long. @default {null} */
  readTimeoutMs?: number | null | undefined;
  /** See `BufferEvent.setTimeouts()`: output waits and nothing of it could be sent for so long. @default {null} */
  writeTimeoutMs?: number | null | undefined;
  /**
   * How long a line or a frame may take from its first byte to its last, in milliseconds, for the `line` callback and for
   * views: it ends those that send a byte a second. Then `BEV_EVENT_READING | BEV_EVENT_TIMEOUT` is told with `ETIMEDOUT`.
   *
   * @default {null}
   */
  messageTimeoutMs?: number | null | undefined;
  /**
   * How long the input may stay at `readHigh` while nobody is busy with it, in milliseconds. Then `BEV_EVENT_READING |
   * BEV_EVENT_ERROR` is told with `EV_INPUT_FULL`; a connection that `event` leaves open is reset after as long again.
   * null for ever.
   *
   * Busy are: a pending promise of `open`, `read` or `line`; a view whose consumer has not come back; a pipe or a filter
   * whose other side is slow; a program that has disabled reading; output that is above its low mark; a rate limit.
   *
   * @default {60_000}
   */
  stallTimeoutMs?: number | null | undefined;
  /**
   * How long a pending promise of `open`, `read` or `line` holds back timeouts and the end of the peer, in milliseconds,
   * while it waits neither in a view nor in `drained()`. null for ever.
   *
   * @default {300_000}
   */
  handlerTimeoutMs?: number | null | undefined;
  /**
   * How long a connection may take to deliver what is queued when it is ended for you: without an `event` callback, after
   * its peer has finished (30 s by default); and the `graceMs` of `Server.close()` (10 s by default).
   */
  drainTimeoutMs?: number | undefined;
  /** The low watermark of reading, in bytes. @default {0} */
  readLow?: number | undefined;
  /**
   * The high watermark of reading, in bytes: with so much input reading is suspended, and what else the peer sends waits
   * with the system and the peer. 0 for none. With a `line` callback it is at least `maxLine` and 2.
   *
   * @default {65536}
   */
  readHigh?: number | undefined;
  /** The low watermark of writing, in bytes: from `writeHigh` on `write()` gives false until no more is queued. @default {0} */
  writeLow?: number | undefined;
  /** The high watermark of writing, in bytes: with so much output `write()` gives false. 0 switches it off. @default {262144} */
  writeHigh?: number | undefined;
  /**
   * Whether input is read on while the output is at `writeHigh`. Where it is not, no `line` is called meanwhile and no view
   * gives anything: a peer that does not read its answers waits with its questions.
   *
   * By default false for `serve()`, true for `connect()`: two ends that both wait for each other would wait for ever.
   */
  readWhileFull?: boolean | undefined;
  /** See `BufferEvent.maxOutputBytes`: with so much output a write is refused, and told with `ENOBUFS`. @default {16777216} */
  maxOutputBytes?: number | undefined;
  /** The longest line for the `line` callback, in bytes without its terminator. @default {65536} */
  maxLine?: number | undefined;
  /** What ends a line for the `line` callback: one of the `EVBUFFER_EOL` styles. @default {EVBUFFER_EOL_CRLF} */
  eol?: number | undefined;
}

/** Their names. */
export const CONNECTION_OPTIONS: Names<ConnectionOptions> = {
  base: true,
  runtime: true,
  idleTimeoutMs: true,
  readTimeoutMs: true,
  writeTimeoutMs: true,
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

/** The high watermark of reading, unless set. */
const DEFAULT_READ_HIGH = 64 * 1024;
/** The high watermark of writing, unless set. */
const DEFAULT_WRITE_HIGH = 256 * 1024;
/** With so much output queued a write is refused, unless set. */
const DEFAULT_MAX_OUTPUT = 16 * 1024 * 1024;
const DEFAULT_STALL_TIMEOUT_MS = 60_000;
const DEFAULT_HANDLER_TIMEOUT_MS = 300_000;
/** How long a connection may take to end gracefully, unless set. */
const DEFAULT_DRAIN_TIMEOUT_MS = 30_000;
/** The longest terminator. */
const EOL_BYTES = 2;

/**
 * Reads what all connections share.
 *
 * @param verb What the options are for
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
  };
}

function lineLimits(
  verb: string,
  { eol = EVBUFFER_EOL_CRLF, maxLine = DEFAULT_MAX_LINE_BYTES }: ConnectionOptions,
): LineLimits {
  return { eol: checkEol(verb, eol), limit: { maxBytes: checkLimit(verb, "maxLine", maxLine) } };
}

function checkDuration(verb: string, name: string, ms: number): number {
  if (typeof ms !== "number") throw new TypeError(`Cannot ${verb}: ${name} is not a number: received ${show(ms)}`);
  if (!(ms >= 0 && Number.isFinite(ms))) {
    throw new RangeError(`Cannot ${verb}: ${name} is not a duration: received ${ms}`);
  }
  return ms;
}

/** A duration, 0 for none. */
function checkTimeout(verb: string, name: string, ms: number | null): number {
  return ms === null ? 0 : checkDuration(verb, name, ms);
}

/**
 * Makes a bufferevent that is set as the options say, on no connection.
 *
 * @param verb What it is for
 * @param base The base that calls back
 * @param options Its limits and timeouts
 * @param lines What a line is, if it is read by lines
 * @returns The bufferevent
 * @throws {TypeError} When an option is of the wrong type
 * @throws {RangeError} When an option is out of range
 */
export function setUp<Ctx>(
  verb: "serve" | "connect",
  base: EventBase,
  options: ConnectionOptions,
  lines: LineLimits | null,
): SocketBufferEvent<Ctx> {
  const { readTimeoutMs = null, writeTimeoutMs = null, idleTimeoutMs = null, readLow = 0, writeLow = 0 } = options;
  const { writeHigh = DEFAULT_WRITE_HIGH, maxOutputBytes = DEFAULT_MAX_OUTPUT } = options;
  const { readWhileFull = verb === "connect" } = options;
  if (typeof readWhileFull !== "boolean") {
    throw new TypeError(`Cannot ${verb}: readWhileFull is neither true nor false: received ${show(readWhileFull)}`);
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
  // Less, and a line that is just short enough would stop reading for ever.
  const least = lines.limit.maxBytes + EOL_BYTES;
  const { readHigh = Math.max(DEFAULT_READ_HIGH, least) } = options;
  if (checkCount(verb, "readHigh", readHigh) > 0 && readHigh < least) {
    throw new RangeError(
      `Cannot ${verb}: readHigh must be 0 or at least ${least}, maxLine and its terminator: received ${readHigh}`,
    );
  }
  return readHigh;
}
