/** The delays before a client connects again. */

import { checkDuration, checkNumber, outOfRange } from "../checks.ts";
import { type Names, readOptions } from "../names.ts";
import type { Runtime } from "../runtime.ts";

/** The delays before a client connects again: `min(maxMs, initialMs * factor ** n) * (1 ± jitter)`, n from 0 on. */
export interface BackoffOptions {
  /** The first delay, in milliseconds. @default {100} */
  initialMs?: number | undefined;
  /** The longest delay, in milliseconds, before jitter is added. @default {30_000} */
  maxMs?: number | undefined;
  /** The factor between a delay and the one before, 1 or more. @default {2} */
  factor?: number | undefined;
  /**
   * The random part of a delay, 0 to 1, which is added or subtracted. So clients that lose their server at the same
   * time do not all return at the same time. It comes from the runtime's `random()`, so the seed of a simulator repeats
   * it.
   *
   * @default {0.5}
   */
  jitter?: number | undefined;
}

const BACKOFF_OPTIONS: Names<BackoffOptions> = { initialMs: true, maxMs: true, factor: true, jitter: true };

/** The delays of one client. */
export class Backoff {
  private readonly runtime: Runtime;
  private readonly initialMs: number;
  private readonly maxMs: number;
  private readonly factor: number;
  private readonly jitter: number;

  /**
   * Reads the options.
   *
   * @throws {TypeError} When one is of the wrong type
   * @throws {RangeError} When one is out of range
   */
  constructor(verb: string, runtime: Runtime, given: BackoffOptions) {
    const { initialMs = 100, maxMs = 30_000, factor = 2, jitter = 0.5 } = readOptions(
      verb,
      given,
      BACKOFF_OPTIONS,
      "backoff",
    );
    this.runtime = runtime;
    this.initialMs = checkDuration(verb, "backoff.initialMs", initialMs);
    this.maxMs = checkDuration(verb, "backoff.maxMs", maxMs);
    this.factor = checkBetween(verb, "backoff.factor", factor, 1, Infinity);
    this.jitter = checkBetween(verb, "backoff.jitter", jitter, 0, 1);
  }

  /** The delay, in milliseconds, after the first loss in a row (0), the second (1), and so on. */
  delay(n: number): number {
    // A delay of 0 stays 0: 0 times an infinite power would be NaN.
    const longest = this.initialMs === 0 ? 0 : this.initialMs * this.factor ** n;
    return Math.min(this.maxMs, longest) * (1 + this.jitter * (2 * this.runtime.random() - 1));
  }
}

function checkBetween(verb: string, name: string, value: number, least: number, most: number): number {
  checkNumber(verb, name, value);
  if (Number.isFinite(value) && value >= least && value <= most) return value;
  const range = most === Infinity ? `${least} or more` : `${least} to ${most}`;
  throw outOfRange(verb, `${name} is not ${range}`, value);
}
