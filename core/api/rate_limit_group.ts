/** The rate limits that several bufferevents share. */

import { wrongType } from "../checks.ts";
import { EV_READ, EV_WRITE } from "../flags.ts";
import { GroupCore } from "../bufferevent/rate_group.ts";
import { checkConfig, checkDecrement, checkNumber, type TokenBucketConfig } from "../bufferevent/rate_limit.ts";
import { type EventBase, loopOf } from "./event_base.ts";

/** For `BufferEvent`: the engine of a group. */
export function groupCoreOf(group: RateLimitGroup): GroupCore {
  return behind(group);
}

/** Set by the first RateLimitGroup: see `Pollable`. */
let behind: (group: RateLimitGroup) => GroupCore = refuse;

function refuse(group: unknown): never {
  throw wrongType("use a group", "not a RateLimitGroup", group);
}

/**
 * A rate limit that bufferevents share. Each member may move its share of the bytes that are left in the tick, again
 * and again while some are left. A member that finds none waits for the next tick; the member that has moved least then
 * goes first.
 *
 * The loop of its base refills it. Members may belong to other bases of the same runtime, as long as this one
 * dispatches. It keeps the loop running only while members wait.
 *
 * libevent: `struct bufferevent_rate_limit_group`.
 *
 * @example
 * ```ts
 * import { bufferEventPair, EventBase, RateLimitGroup, TokenBucketConfig } from "trivent";
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
   * @throws {TypeError} When `config` is not a configuration
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
   * Changes the limits, from now on. The bytes that are left in this tick are cut at the new burst, and not raised.
   *
   * libevent: `bufferevent_rate_limit_group_set_cfg`.
   *
   * @param config The new limits
   * @throws {TypeError} When `config` is not a configuration
   * @throws {EventError} `EV_FREED` after `free()`
   */
  setConfig(config: TokenBucketConfig): void {
    checkConfig(config);
    this.#core.live("set the limits of a rate limit group");
    this.#core.setConfig(config);
  }

  /**
   * Sets the least number of bytes that a member may move at once, however many members there are; 64 at first. It is
   * at most the rate.
   *
   * libevent: `bufferevent_rate_limit_group_set_min_share`.
   *
   * @param bytes The least share; 0 for none
   * @throws {RangeError} When it is not a count of bytes
   */
  setMinShare(bytes: number): void {
    checkNumber("the least share", bytes);
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new RangeError(`Cannot set the least share: not a count of bytes: received ${bytes}`);
    }
    this.#core.setMinShare(bytes);
  }

  /**
   * How many bytes can be read in this tick; 0 or less for none. libevent:
   * `bufferevent_rate_limit_group_get_read_limit`.
   */
  get readLimit(): number {
    return this.#core.level(EV_READ);
  }

  /**
   * How many bytes can be written in this tick; 0 or less for none. libevent:
   * `bufferevent_rate_limit_group_get_write_limit`.
   */
  get writeLimit(): number {
    return this.#core.level(EV_WRITE);
  }

  /**
   * Takes bytes from the read limit, as if a member had read them. The level may become negative; then several ticks
   * pass before anything can be read. libevent: `bufferevent_rate_limit_group_decrement_read`.
   *
   * @param bytes How many; a negative number gives bytes, also beyond the burst until the next tick
   * @throws {RangeError} When it is not an integer
   */
  decrementRead(bytes: number): void {
    checkDecrement(bytes);
    this.#core.decrement(EV_READ, bytes);
  }

  /**
   * Takes bytes from the write limit, as `decrementRead` does for reading. libevent:
   * `bufferevent_rate_limit_group_decrement_write`.
   *
   * @param bytes How many; a negative number gives bytes
   * @throws {RangeError} When it is not an integer
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
   * Frees the group. A second call does nothing. libevent: `bufferevent_rate_limit_group_free`.
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
