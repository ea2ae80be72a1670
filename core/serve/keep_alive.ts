/** TCP keep-alive as an option of connections. */

import { checkNumber, outOfRange, unsupported, wrongType } from "../checks.ts";
import { type Names, readOptions } from "../names.ts";
import type { Runtime } from "../runtime.ts";

/** When TCP probes a silent peer. Times are rounded up to whole seconds, as systems count them. */
export interface KeepAliveOptions {
  /**
   * The time without input before the first probe, in milliseconds, up to 32,767 s. By default the system's own: on
   * Linux two hours. Needs {@linkcode Capabilities.keepAliveDelay}.
   */
  delayMs?: number | undefined;
  /**
   * The time between two probes without an answer, in milliseconds, up to 32,767 s. By default the system's own. Needs
   * {@linkcode Capabilities.keepAliveProbes}.
   */
  intervalMs?: number | undefined;
  /**
   * How many probes without an answer end the connection, 1 to 127. By default the system's own. Needs {@linkcode
   * Capabilities.keepAliveProbes}.
   */
  count?: number | undefined;
}

const KEEP_ALIVE_OPTIONS: Names<KeepAliveOptions> = { delayMs: true, intervalMs: true, count: true };

/** The settings for a transport. */
export interface KeepAlive {
  /** In milliseconds; 0 for the system's default. */
  readonly delayMs: number;
  readonly intervalMs: number | undefined;
  readonly count: number | undefined;
}

/** The longest time that Linux accepts: `MAX_TCP_KEEPIDLE`. */
const LONGEST_MS = 32_767_000;
/** The most probes that Linux accepts: `MAX_TCP_KEEPCNT`. */
const MOST_PROBES = 127;

/**
 * Reads the option.
 *
 * @returns The settings for a transport, or null
 * @throws {TypeError} When it, or a part of it, is of the wrong type
 * @throws {RangeError} When a part is out of range
 */
export function readKeepAlive(verb: string, given: boolean | KeepAliveOptions | undefined): KeepAlive | null {
  if (given === undefined || given === false) return null;
  if (given === true) return { delayMs: 0, intervalMs: undefined, count: undefined };
  if (typeof given !== "object" || given === null) {
    throw wrongType(verb, "keepAlive is neither a boolean nor an object", given);
  }
  const { delayMs, intervalMs, count } = readOptions(verb, given, KEEP_ALIVE_OPTIONS, "keepAlive");
  if (count !== undefined && !Number.isInteger(checkBetween(verb, "keepAlive.count", count, MOST_PROBES))) {
    throw outOfRange(verb, "keepAlive.count is not a whole number", count);
  }
  return {
    delayMs: wholeSeconds(verb, "keepAlive.delayMs", delayMs) ?? 0,
    intervalMs: wholeSeconds(verb, "keepAlive.intervalMs", intervalMs),
    count,
  };
}

/**
 * Checks that the runtime supports the settings that were named.
 *
 * @throws {EventError} `EV_UNSUPPORTED` if it does not
 */
export function checkTunable(runtime: Runtime, keepAlive: KeepAlive | null): void {
  if (keepAlive === null) return;
  const { delayMs, intervalMs, count } = keepAlive;
  if (delayMs > 0 && !runtime.capabilities.keepAliveDelay) {
    throw unsupported("choose when keep-alive begins", runtime, "keepAliveDelay");
  }
  if ((intervalMs !== undefined || count !== undefined) && !runtime.capabilities.keepAliveProbes) {
    throw unsupported("choose the probes of keep-alive", runtime, "keepAliveProbes");
  }
}

function wholeSeconds(verb: string, name: string, ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.ceil(checkBetween(verb, name, ms, LONGEST_MS) / 1000) * 1000;
}

function checkBetween(verb: string, name: string, value: number, most: number): number {
  checkNumber(verb, name, value);
  if (value > 0 && value <= most) return value;
  throw outOfRange(verb, `${name} is not above 0 and at most ${most}`, value);
}
