/**
 * The rate limits that bufferevents share (rule K5). A member that finds the level at 0 is suspended and waits. At a
 * tick all members go on, the one with the fewest bytes first. The first ones get the largest shares, so all have the
 * same after a few ticks, without random numbers.
 */

import { EV_READ, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { Loop } from "../loop/loop.ts";
import { SUSPEND_RATE_GROUP } from "./core.ts";
import type { RateLimits } from "./rate_core.ts";
import type { TokenBucketConfig } from "./rate_limit.ts";
import { Refill, TokenBucket } from "./token_bucket.ts";

/** The least share of a member, unless set. */
const DEFAULT_MIN_SHARE = 64;

/** One direction of a group: the waiting members, and the bytes of each. */
class Line {
  /** The bytes that the members have moved. */
  total = 0;
  private readonly what: number;
  private waiting: RateLimits[] = [];
  /** Bytes used by the members that went first in the last round. New and idle members count from here. */
  private had = 0;

  constructor(what: number) {
    this.what = what;
  }

  get waited(): boolean {
    return this.waiting.length > 0;
  }

  served(member: RateLimits, n: number): void {
    this.total += n;
    const { had } = member;
    if (this.what === EV_READ) had.read = Math.max(had.read, this.had) + n;
    else had.write = Math.max(had.write, this.had) + n;
  }

  wait(member: RateLimits): void {
    if (member.suspended(this.what, SUSPEND_RATE_GROUP)) return;
    this.waiting.push(member);
    member.suspend(this.what, SUSPEND_RATE_GROUP);
  }

  forget(member: RateLimits): void {
    this.waiting = this.waiting.filter((other) => other !== member);
  }

  /** Resumes all waiting members, the one with the fewest bytes first. */
  goOn(group: GroupCore): void {
    const waiting = this.waiting;
    if (waiting.length === 0) return;
    this.waiting = [];
    const key = this.what === EV_READ ? "read" : "write";
    for (const { had } of waiting) had[key] = Math.max(had[key], this.had);
    waiting.sort((a, b) => a.had[key] - b.had[key]);
    this.had = (waiting[0] as RateLimits).had[key];
    for (const member of waiting) if (member.group === group) member.resume(this.what, SUSPEND_RATE_GROUP);
  }
}

/** The state behind a `RateLimitGroup`. */
export class GroupCore {
  readonly loop: Loop;
  readonly bucket: TokenBucket;
  readonly readers: Line = new Line(EV_READ);
  readonly writers: Line = new Line(EV_WRITE);
  /** The number of members. */
  members = 0;
  minShare = 0;
  freed = false;
  private minShareWanted = DEFAULT_MIN_SHARE;
  private readonly refill: Refill;

  constructor(loop: Loop, config: TokenBucketConfig) {
    if (loop.freed) throw new EventError("Cannot make a rate limit group: the base was freed", { code: "EV_FREED" });
    this.loop = loop;
    this.bucket = new TokenBucket(config, loop.clock());
    this.refill = new Refill(loop, (now) => this.onTick(now));
    this.setMinShare(DEFAULT_MIN_SHARE);
  }

  /** How much a member may move: its share of the level, and at least the least share; 0 if the level is used up. */
  share(what: number): number {
    this.bucket.update(this.loop.now());
    const level = this.bucket.level(what);
    // With fewer bytes than members and no least share, one member must still get the byte.
    return level > 0 ? Math.max(Math.floor(level / this.members), this.minShare, 1) : 0;
  }

  /** A member has moved bytes. */
  spend(member: RateLimits, what: number, n: number): void {
    this.bucket.spend(what, n);
    this.line(what).served(member, n);
  }

  /** Suspends a member's direction until there are bytes to share. */
  wait(member: RateLimits, what: number): void {
    this.line(what).wait(member);
    this.refill.start(this.bucket);
  }

  /** A member has left. */
  forget(member: RateLimits): void {
    this.readers.forget(member);
    this.writers.forget(member);
    if (!this.waited) this.refill.stop();
  }

  private line(what: number): Line {
    return what === EV_READ ? this.readers : this.writers;
  }

  private get waited(): boolean {
    return this.readers.waited || this.writers.waited;
  }

  private onTick(now: number): void {
    this.bucket.update(now);
    this.resume(this.minShare);
  }

  /** Resumes the members of each direction whose level is positive and at least `level`. */
  private resume(level: number): void {
    const least = Math.max(level, 1);
    if (this.bucket.read >= least) this.readers.goOn(this);
    if (this.bucket.write >= least) this.writers.goOn(this);
    if (this.waited) this.refill.start(this.bucket);
    else this.refill.stop();
  }

  // ---- what the user sets

  setConfig(config: TokenBucketConfig): void {
    this.bucket.reconfigure(config, this.loop.clock());
    this.setMinShare(this.minShareWanted);
    this.refill.stop();
    if (this.waited) this.refill.start(this.bucket);
  }

  /** At most the rate, so that at least one member can go on at each tick. */
  setMinShare(share: number): void {
    const { readRate, writeRate } = this.bucket.config;
    this.minShareWanted = share;
    this.minShare = Math.min(share, readRate, writeRate);
  }

  level(what: number): number {
    this.bucket.update(this.loop.now());
    return this.bucket.level(what);
  }

  decrement(what: number, n: number): void {
    this.bucket.update(this.loop.now());
    this.bucket.spend(what, n);
    if (this.waited) this.resume(0);
  }

  free(): void {
    if (this.freed) return;
    if (this.members > 0) {
      throw new EventError(`Cannot free a rate limit group: it has ${this.members} members`, { code: "EV_BUSY" });
    }
    this.freed = true;
    this.refill.stop();
  }

  live(doing: string): void {
    if (this.freed) throw new EventError(`Cannot ${doing}: the group was freed`, { code: "EV_FREED" });
  }
}
