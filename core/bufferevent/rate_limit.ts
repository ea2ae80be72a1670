/** Rate limits: how they are described, and the groups that share one. */

import { isA, show } from "../checks.ts";
import { EV_READ, EV_WRITE } from "../flags.ts";
import { type EventBase, loopOf } from "../loop/event_base.ts";
import { type Names, readOptions } from "../names.ts";
import type { BevCore } from "./core.ts";
import { RateLimits } from "./rate_core.ts";
import { GroupCore } from "./rate_group.ts";

/**
 * The largest rate and burst, and what a limit reads as where there is none: 2^53 − 1. libevent: `EV_RATE_LIMIT_MAX`,
 * which depends on the platform.
 */
export const EV_RATE_LIMIT_MAX: number = Number.MAX_SAFE_INTEGER;

/** The longest tick, in milliseconds: 2147483 s and what is under the next. */
const MAX_TICK_MS = 2_147_483_999;

/** What a {@linkcode TokenBucketConfig} is made from. */
export interface TokenBucketOptions {
  /** How many bytes can be read in a tick in the long run. */
  readRate: number;
  /** How many bytes can be read at once after a pause; at least `readRate`. */
  readBurst: number;
  /** How many bytes can be written in a tick in the long run. */
  writeRate: number;
  /** How many bytes can be written at once after a pause; at least `writeRate`. */
  writeBurst: number;
  /** How long a tick is, in milliseconds; parts of one are cut off. By default 1000. */
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
 * For `BufferEvent`: makes its rate limits; null when there has been no configuration. So a program that limits nothing
 * has none of it in its bundle.
 */
export let makeRateLimits: ((core: BevCore) => RateLimits) | null = null;
/** What refuses anything but a configuration, by its class when there has been one. */
let isConfig: (value: unknown) => boolean = () => false;

/**
 * The limits of a token bucket: at each tick it gains `rate` bytes and never holds more than `burst`. It starts with
 * one rate. Ticks are counted on the runtime's clock, so that all buckets of the same tick fill at the same time.
 *
 * It is immutable, and can serve any number of bufferevents and groups.
 *
 * libevent: `struct ev_token_bucket_cfg`.
 *
 * @example
 * ```ts
 * import { EV_RATE_LIMIT_MAX, TokenBucketConfig } from "trivent";
 *
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
  /** How many bytes can be read in a tick in the long run. */
  readonly readRate: number;
  /** How many bytes can be read at once after a pause. */
  readonly readBurst: number;
  /** How many bytes can be written in a tick in the long run. */
  readonly writeRate: number;
  /** How many bytes can be written at once after a pause. */
  readonly writeBurst: number;
  /** How long a tick is, in whole milliseconds. */
  readonly tickMs: number;

  /**
   * Makes a configuration. libevent: `ev_token_bucket_cfg_new`.
   *
   * @param options Rates and bursts in bytes, the tick in milliseconds
   * @throws {RangeError} When a rate or burst is no integer between 1 and `EV_RATE_LIMIT_MAX`, a rate is above its
   * burst, or the tick is under 1 ms or not under 2147484 s
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

/** For `BufferEvent`: what is behind a group. */
export function groupCoreOf(group: RateLimitGroup): GroupCore {
  return behind(group);
}

/** Set by the first RateLimitGroup: see `Pollable`. */
let behind: (group: RateLimitGroup) => GroupCore = refuse;

function refuse(group: unknown): never {
  throw new TypeError(`Cannot use a group: not a RateLimitGroup: received ${show(group)}`);
}

/**
 * A rate limit that bufferevents share. Each of its members may move its part of what is left in the tick, over and
 * over while there is something left; who finds nothing waits for the next tick, in which who has had least goes first.
 *
 * The loop of its base refills it: members may belong to other bases of the same host, as long as this one dispatches.
 * It keeps a loop from being empty only while members wait.
 *
 * libevent: `struct bufferevent_rate_limit_group`.
 *
 * @example
 * ```ts
 * import { bufferEventPair, EventBase, RateLimitGroup, TokenBucketConfig } from "trivent";
 *
 * const base = new EventBase();
 * const config = new TokenBucketConfig({ readRate: 100, readBurst: 100, writeRate: 1000, writeBurst: 1000 });
 * const group = new RateLimitGroup(base, config);
 * const [sender, receiver] = bufferEventPair(base);
 * receiver.joinRateLimitGroup(group);
 * receiver.enable(2); // EV_READ
 * sender.write(new Uint8Array(500));
 * if (receiver.input.length !== 100 || group.totals.read !== 100) throw new Error("not limited");
 * sender.free();
 * receiver.free();
 * group.free();
 * ```
 */
export class RateLimitGroup {
  readonly #base: EventBase;
  readonly #core: GroupCore;

  /**
   * Makes a group. libevent: `bufferevent_rate_limit_group_new`.
   *
   * @param base The base whose loop refills it
   * @param config The limits of all members together
   * @throws {TypeError} When `config` is none
   * @throws {EventError} `EV_FREED` when the base was freed
   */
  constructor(base: EventBase, config: TokenBucketConfig) {
    checkConfig(config);
    if (behind === refuse) {
      behind = (group: RateLimitGroup): GroupCore =>
        typeof group === "object" && group !== null && #core in group ? group.#core : refuse(group);
    }
    this.#base = base;
    this.#core = new GroupCore(loopOf(base), config);
  }

  /** The base whose loop refills it. */
  get base(): EventBase {
    return this.#base;
  }

  /** How many bufferevents are in it. */
  get members(): number {
    return this.#core.members;
  }

  /** The limits. */
  get config(): TokenBucketConfig {
    return this.#core.bucket.config;
  }

  /**
   * Changes the limits, from now on. What is left in this tick is cut at the new burst, and not raised.
   *
   * libevent: `bufferevent_rate_limit_group_set_cfg`.
   *
   * @param config The new limits
   * @throws {TypeError} When `config` is none
   * @throws {EventError} `EV_FREED` after `free()`
   */
  setConfig(config: TokenBucketConfig): void {
    checkConfig(config);
    this.#core.live("set the limits of a rate limit group");
    this.#core.setConfig(config);
  }

  /**
   * Sets how many bytes a member may move at once at least, however many members there are; 64 at first. It is at most
   * what a tick brings.
   *
   * libevent: `bufferevent_rate_limit_group_set_min_share`.
   *
   * @param bytes The least share; 0 for none
   * @throws {RangeError} When it is no count of bytes
   */
  setMinShare(bytes: number): void {
    checkNumber("the least share", bytes);
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new RangeError(`Cannot set the least share: not a count of bytes: received ${bytes}`);
    }
    this.#core.setMinShare(bytes);
  }

  /** How many bytes can be read in this tick; not positive when there are none. libevent: `bufferevent_rate_limit_group_get_read_limit`. */
  get readLimit(): number {
    return this.#core.level(EV_READ);
  }

  /** How many bytes can be written in this tick; not positive when there are none. libevent: `bufferevent_rate_limit_group_get_write_limit`. */
  get writeLimit(): number {
    return this.#core.level(EV_WRITE);
  }

  /**
   * Takes bytes from what can be read, as if a member had read them. The level may become negative, so that several
   * ticks pass before something can be read. libevent: `bufferevent_rate_limit_group_decrement_read`.
   *
   * @param bytes How many; negative to give some, beyond the burst if need be until the next tick
   * @throws {RangeError} When it is no integer
   */
  decrementRead(bytes: number): void {
    checkDecrement(bytes);
    this.#core.decrement(EV_READ, bytes);
  }

  /**
   * Takes bytes from what can be written, as `decrementRead`. libevent: `bufferevent_rate_limit_group_decrement_write`.
   *
   * @param bytes How many; negative to give some
   * @throws {RangeError} When it is no integer
   */
  decrementWrite(bytes: number): void {
    checkDecrement(bytes);
    this.#core.decrement(EV_WRITE, bytes);
  }

  /** How many bytes the members have moved since the group was made or `resetTotals()`. libevent: `bufferevent_rate_limit_group_get_totals`. */
  get totals(): { read: number; written: number } {
    const { readers, writers } = this.#core;
    return { read: readers.total, written: writers.total };
  }

  /** Sets the totals to 0. libevent: `bufferevent_rate_limit_group_reset_totals`. */
  resetTotals(): void {
    this.#core.readers.total = this.#core.writers.total = 0;
  }

  /**
   * Ends it. A second call does nothing. libevent: `bufferevent_rate_limit_group_free`.
   *
   * @throws {EventError} `EV_BUSY` while it has members: they leave with `leaveRateLimitGroup()` or `free()`
   */
  free(): void {
    this.#core.free();
  }

  /** As `free()`. */
  [Symbol.dispose](): void {
    this.free();
  }
}

/** Throws unless it is a configuration. */
export function checkConfig(config: unknown): asserts config is TokenBucketConfig {
  if (!isConfig(config)) {
    throw new TypeError(`Cannot limit a rate: not a TokenBucketConfig: received ${show(config)}`);
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

function checkNumber(name: string, value: number): void {
  if (typeof value !== "number") {
    throw new TypeError(`Cannot limit a rate: ${name} is not a number: received ${show(value)}`);
  }
}
