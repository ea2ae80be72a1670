/** The configuration of rate limits. */

import { isA, wrongType } from "../checks.ts";
import { type Names, readOptions } from "../names.ts";
import type { BevCore } from "./core.ts";
import { RateLimits } from "./rate_core.ts";

/**
 * The largest rate and burst, and the value of a limit that is not set: 2^53 − 1. libevent: `EV_RATE_LIMIT_MAX`, which
 * depends on the platform.
 */
export const EV_RATE_LIMIT_MAX: number = Number.MAX_SAFE_INTEGER;

/** The longest tick, in milliseconds: just below 2147484 s. */
const MAX_TICK_MS = 2_147_483_999;

/** Options of a {@linkcode TokenBucketConfig}. */
export interface TokenBucketOptions {
  /** The bytes per tick that can be read in the long run. */
  readRate: number;
  /** The bytes that can be read at once after a pause; at least `readRate`. */
  readBurst: number;
  /** The bytes per tick that can be written in the long run. */
  writeRate: number;
  /** The bytes that can be written at once after a pause; at least `writeRate`. */
  writeBurst: number;
  /** The length of a tick, in milliseconds, rounded down. By default 1000. */
  tickMs?: number | undefined;
}

const BUCKET_OPTIONS: Names<TokenBucketOptions> = {
  readRate: true,
  readBurst: true,
  writeRate: true,
  writeBurst: true,
  tickMs: true,
};

/**
 * For `BufferEvent`: makes its rate limits; null if no configuration was ever made. So a program without limits has
 * none of this in its bundle.
 */
export let makeRateLimits: ((core: BevCore) => RateLimits) | null = null;
/** Refuses anything but a configuration, by its class if there was one. */
let isConfig: (value: unknown) => boolean = () => false;

/**
 * The limits of a token bucket. At each tick it gains `rate` bytes, and it never has more than `burst`. It starts with
 * one rate. Ticks are counted on the runtime's clock, so all buckets with the same tick fill at the same time.
 *
 * It is immutable, and can serve any number of bufferevents and groups.
 *
 * libevent: `struct ev_token_bucket_cfg`.
 *
 * @example
 * ```ts
 * import { EV_RATE_LIMIT_MAX, TokenBucketConfig } from "trivent";
 * // 10 kB/s are sent, in ten portions a second; what is received is not limited.
 * const config = new TokenBucketConfig({
 *   readRate: EV_RATE_LIMIT_MAX,
 *   readBurst: EV_RATE_LIMIT_MAX,
 *   writeRate: 1000,
 *   writeBurst: 4000,
 *   tickMs: 100,
 * });
 * if (config.tickMs !== 100) throw new Error("unreachable");
 * ```
 */
export class TokenBucketConfig {
  /** The bytes per tick that can be read in the long run. */
  readonly readRate: number;
  /** The bytes that can be read at once after a pause. */
  readonly readBurst: number;
  /** The bytes per tick that can be written in the long run. */
  readonly writeRate: number;
  /** The bytes that can be written at once after a pause. */
  readonly writeBurst: number;
  /** The length of a tick, in whole milliseconds. */
  readonly tickMs: number;

  /**
   * Makes a configuration. libevent: `ev_token_bucket_cfg_new`.
   *
   * @param options Rates and bursts in bytes, the tick in milliseconds
   * @throws {RangeError} When a rate or burst is not an integer from 1 to `EV_RATE_LIMIT_MAX`, a rate is above its
   * burst, or the tick is below 1 ms or not below 2147484 s
   */
  constructor(options: TokenBucketOptions) {
    const { readRate, readBurst, writeRate, writeBurst, tickMs = 1000 } = readOptions(
      "limit a rate",
      options,
      BUCKET_OPTIONS,
    );
    if (makeRateLimits === null) {
      makeRateLimits = (core: BevCore): RateLimits => new RateLimits(core);
      isConfig = (value: unknown): boolean => isA(value, TokenBucketConfig) && Number.isFinite(value.readRate);
    }
    checkRate("read", readRate, readBurst);
    checkRate("write", writeRate, writeBurst);
    checkNumber("tickMs", tickMs);
    const tick = Math.floor(tickMs);
    if (!(tick >= 1 && tick <= MAX_TICK_MS)) {
      throw new RangeError(`Cannot limit a rate: tickMs is not between 1 and ${MAX_TICK_MS}: received ${tickMs}`);
    }
    this.readRate = readRate;
    this.readBurst = readBurst;
    this.writeRate = writeRate;
    this.writeBurst = writeBurst;
    this.tickMs = tick;
  }
}

/** Throws unless it is a configuration. */
export function checkConfig(config: unknown): asserts config is TokenBucketConfig {
  if (!isConfig(config)) {
    throw wrongType("limit a rate", "not a TokenBucketConfig", config);
  }
}

/** Throws unless it is a number of bytes to take or give. */
export function checkDecrement(bytes: number): void {
  checkNumber("the number of bytes", bytes);
  if (!Number.isSafeInteger(bytes)) {
    throw new RangeError(`Cannot decrement a rate limit: not an integer: received ${bytes}`);
  }
}

function checkRate(direction: string, rate: number, burst: number): void {
  checkNumber(`${direction}Rate`, rate);
  checkNumber(`${direction}Burst`, burst);
  if (!Number.isSafeInteger(rate) || rate < 1) {
    throw new RangeError(`Cannot limit a rate: ${direction}Rate is not an integer from 1 on: received ${rate}`);
  }
  if (!Number.isSafeInteger(burst) || burst < rate) {
    throw new RangeError(
      `Cannot limit a rate: ${direction}Burst is not an integer from the rate, ${rate}, on: received ${burst}`,
    );
  }
}

/** Throws unless it is a number. */
export function checkNumber(name: string, value: number): void {
  if (typeof value !== "number") {
    throw wrongType("limit a rate", `${name} is not a number`, value);
  }
}
