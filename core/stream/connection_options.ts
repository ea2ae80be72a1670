/** What every connection of `serve()` and `connect()` gets: limits and timeouts. */

import { checkEol, checkLimit } from "../checks.ts";
import { BEV_OPT_CLOSE_ON_FREE, EV_READ, EVBUFFER_EOL_CRLF } from "../flags.ts";
import { SocketBufferEvent } from "../bufferevent/socket.ts";
import type { EventBase } from "../loop/event_base.ts";
import type { Runtime } from "../runtime.ts";
import type { Socket } from "../socket/socket.ts";
import type { LineLimits } from "./callbacks.ts";
import { DEFAULT_MAX_LINE_BYTES } from "./lines.ts";

/** What every connection of `serve()` or `connect()` gets. */
export interface ConnectionOptions {
  /** The base; by default one for each runtime, which dispatches by itself. */
  base?: EventBase;
  /** The host, when no base is given; by default the one that the program runs on. */
  runtime?: Runtime;
  /** See `BufferEvent.setIdleTimeout()`: nothing has come or gone for so long. @default {null} */
  idleTimeoutMs?: number | null;
  /** See `BufferEvent.setTimeouts()`: nothing has come for so long. @default {null} */
  readTimeoutMs?: number | null;
  /** See `BufferEvent.setTimeouts()`: output waits and nothing of it could be sent for so long. @default {null} */
  writeTimeoutMs?: number | null;
  /**
   * How long a connection may take to deliver what is queued when it is ended for you: without an `event` callback, after
   * its peer has finished (30 s by default); and the `graceMs` of `Server.close()` (10 s by default).
   */
  drainTimeoutMs?: number;
  /** The low watermark of reading, in bytes. @default {0} */
  readLow?: number;
  /**
   * The high watermark of reading, in bytes: with so much input reading is suspended, and what else the peer sends waits
   * with the system and the peer. 0 for none. With a `line` callback it is at least `maxLine` and 2.
   *
   * @default {65536}
   */
  readHigh?: number;
  /** See `BufferEvent.maxOutputBytes`: a write beyond it is not queued, and told with `ENOBUFS`. @default {67108864} */
  maxOutputBytes?: number;
  /** The longest line for the `line` callback, in bytes without its terminator. @default {65536} */
  maxLine?: number;
  /** What ends a line for the `line` callback: one of the `EVBUFFER_EOL` styles. @default {EVBUFFER_EOL_CRLF} */
  eol?: number;
}

/** The high watermark of reading, unless set. */
const DEFAULT_READ_HIGH = 64 * 1024;
/** The longest terminator. */
const EOL_BYTES = 2;

/**
 * Reads the options that are about lines.
 *
 * @throws {RangeError} For an unknown style, or what is no count of bytes
 */
export function lineLimits(
  { eol = EVBUFFER_EOL_CRLF, maxLine = DEFAULT_MAX_LINE_BYTES }: ConnectionOptions,
): LineLimits {
  return { eol: checkEol("serve lines", eol), maxBytes: checkLimit("serve lines", "maxLine", maxLine) };
}

/**
 * Checks how long a connection may take to end.
 *
 * @throws {RangeError} When it is no duration
 */
export function checkDrainTimeout({ drainTimeoutMs }: ConnectionOptions): void {
  if (drainTimeoutMs !== undefined && !(drainTimeoutMs >= 0 && Number.isFinite(drainTimeoutMs))) {
    throw new RangeError(`Cannot set up a connection: drainTimeoutMs is not a duration: received ${drainTimeoutMs}`);
  }
}

/**
 * Makes the bufferevent of a connection.
 *
 * @param base The base that calls back
 * @param socket The connection, null where it is to be made
 * @param options Its limits and timeouts
 * @param lines Whether it is read by lines
 * @returns The bufferevent
 * @throws {RangeError} When an option is out of range
 */
export function setUp<Ctx>(
  base: EventBase,
  socket: Socket | null,
  options: ConnectionOptions,
  lines: boolean,
): SocketBufferEvent<Ctx> {
  const { readTimeoutMs = null, writeTimeoutMs = null, idleTimeoutMs = null, maxOutputBytes, readLow = 0 } = options;
  const bev = new SocketBufferEvent<Ctx>(base, socket, BEV_OPT_CLOSE_ON_FREE);
  try {
    bev.setWatermark(EV_READ, readLow, readHighOf(options, lines));
    bev.setTimeouts(readTimeoutMs, writeTimeoutMs);
    bev.setIdleTimeout(idleTimeoutMs);
    if (maxOutputBytes !== undefined) bev.maxOutputBytes = maxOutputBytes;
  } catch (error) {
    bev.free();
    throw error;
  }
  return bev;
}

function readHighOf(options: ConnectionOptions, lines: boolean): number {
  if (!lines) return options.readHigh ?? DEFAULT_READ_HIGH;
  // Less, and a line that is just short enough would stop reading for ever.
  const least = lineLimits(options).maxBytes + EOL_BYTES;
  const { readHigh = Math.max(DEFAULT_READ_HIGH, least) } = options;
  if (readHigh > 0 && readHigh < least) {
    throw new RangeError(
      `Cannot read lines: readHigh must be 0 or at least ${least}, maxLine and its terminator: received ${readHigh}`,
    );
  }
  return readHigh;
}
