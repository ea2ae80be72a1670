/**
 * Token buckets: how full they are, when they fill, who may move how much and who waits (rules K2 to K7). Nobody owes
 * a loop a turn while nobody waits: a bucket is brought up to date when it is looked at, and a timer runs only while
 * something is suspended.
 */

import { EV_READ, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import type { Loop } from "../loop/loop.ts";
import { LoopEvent } from "../loop/loop_event.ts";
import type { Stream } from "../socket/stream.ts";
import { type BevCore, DEFAULT_MAX_SINGLE, SUSPEND_RATE, SUSPEND_RATE_GROUP } from "./core.ts";
import type { TokenBucketConfig } from "./rate_limit.ts";

/** The share of a group that a member gets at least, unless set (rule K5). */
const DEFAULT_MIN_SHARE = 64;

/** The levels of both directions, in bytes. They can be negative, and above the burst until the next tick (rule K6). */
export class TokenBucket {
  config: TokenBucketConfig;
  read: number;
  write: number;
  /** The tick that the levels are of. Ticks are counted from the zero of the runtime's clock. */
  #tick: number;

  constructor(config: TokenBucketConfig, now: number) {
    this.config = config;
    this.read = config.readRate;
    this.write = config.writeRate;
    this.#tick = Math.floor(now / config.tickMs);
  }

  /** Adds what the ticks since the last time bring, and cuts at the burst (rule K2). */
  update(now: number): void {
    const { tickMs, readRate, readBurst, writeRate, writeBurst } = this.config;
    const ticks = Math.floor(now / tickMs) - this.#tick;
    if (ticks <= 0) return;
    this.#tick += ticks;
    this.read = Math.min(readBurst, this.read + ticks * readRate);
    this.write = Math.min(writeBurst, this.write + ticks * writeRate);
  }

  /** Takes another configuration. The levels are cut at the new bursts and never raised (rule K6). */
  reconfigure(config: TokenBucketConfig, now: number): void {
    this.update(now);
    this.config = config;
    this.#tick = Math.floor(now / config.tickMs);
    this.read = Math.min(config.readBurst, this.read);
    this.write = Math.min(config.writeBurst, this.write);
  }

  level(what: number): number {
    return what === EV_READ ? this.read : this.write;
  }

  spend(what: number, n: number): void {
    if (what === EV_READ) this.read -= n;
    else this.write -= n;
  }

  /** When the next tick begins. */
  nextTick(now: number): number {
    const { tickMs } = this.config;
    return (Math.max(this.#tick, Math.floor(now / tickMs)) + 1) * tickMs;
  }
}

/** The timer of a bucket: one tick, on the boundary. */
class Refill extends LoopEvent {
  readonly #onTick: (now: number) => void;
  #due = 0;

  constructor(loop: Loop, onTick: (now: number) => void) {
    super(loop, null, 0, loop.queues.length >> 1);
    this.#onTick = onTick;
  }

  start(bucket: TokenBucket): void {
    if (this.timed) return;
    const now = this.loop.now();
    this.#due = bucket.nextTick(now);
    this.loop.setDeadline(this, this.#due - now);
  }

  stop(): void {
    this.loop.del(this);
  }

  override run(): void {
    // What is lost in adding and subtracting fractions must not hide the tick that has begun.
    this.#onTick(Math.max(this.loop.now(), this.#due));
  }
}

/** The rate limits of one bufferevent: its own bucket, and its part in a group. */
export class RateLimits {
  bucket: TokenBucket | null = null;
  group: GroupCore | null = null;
  readonly #core: BevCore;
  readonly #refill: Refill;

  constructor(core: BevCore) {
    this.#core = core;
    this.#refill = new Refill(core.loop, (now) => this.#onTick(now));
  }

  // ---- moving bytes

  /** Receives up to `most` bytes, as many as may be. @returns How many; −1: none now, and reading is suspended */
  receive(stream: Stream, into: EvBuffer, most: number): number {
    // The end and an error cost nothing, and are told at once.
    if (stream.available === 0) return 0;
    const budget = this.budget(EV_READ, most);
    if (budget === 0) return -1;
    const n = stream.receiveInto(into, budget);
    this.spent(EV_READ, n);
    return n;
  }

  /** Sends up to `most` bytes, as many as may be. @returns How many */
  send(stream: Stream, from: EvBuffer, most: number): number {
    const budget = this.budget(EV_WRITE, Math.min(most, DEFAULT_MAX_SINGLE));
    if (budget === 0) return 0;
    const n = stream.writeFrom(from, budget);
    if (n > 0) this.spent(EV_WRITE, n);
    return n;
  }

  /** How many of `most` bytes may be moved now: the least of it, the own level and the share of the group (rule K3). */
  allowance(what: number, most: number): number {
    const { bucket, group } = this;
    if (bucket !== null) {
      bucket.update(this.#core.loop.now());
      most = Math.min(most, bucket.level(what));
    }
    if (group !== null) most = Math.min(most, group.share(what));
    return most > 0 ? most : 0;
  }

  /** As `allowance`; for 0 the direction is suspended, and goes on at a tick (rule K4). */
  budget(what: number, most: number): number {
    const n = this.allowance(what, most);
    if (n === 0) {
      this.#checkOwn(what);
      if (this.group?.share(what) === 0) this.group.wait(this, what);
    }
    return n;
  }

  /** Bytes were moved. */
  spent(what: number, n: number): void {
    this.charge(what, n);
    this.#checkOwn(what);
  }

  /** As `spent`, but nothing is suspended. */
  charge(what: number, n: number): void {
    this.bucket?.spend(what, n);
    this.group?.spend(what, n);
  }

  /** When bytes can be moved again, at the earliest. */
  nextTick(what: number): number {
    const now = this.#core.loop.now();
    const { bucket, group } = this;
    if (bucket !== null && (group === null || bucket.level(what) <= 0)) return bucket.nextTick(now);
    return group === null ? now : group.bucket.nextTick(now);
  }

  /** Suspends the direction when the own bucket is empty, and lets it go on when it is not. */
  #checkOwn(what: number): void {
    const { bucket } = this;
    if (bucket === null) return;
    if (bucket.level(what) <= 0) {
      this.suspend(what, SUSPEND_RATE);
      this.#refill.start(bucket);
    } else this.resume(what, SUSPEND_RATE);
  }

  #onTick(now: number): void {
    const { bucket } = this;
    if (bucket === null) return;
    bucket.update(now);
    // Both are looked at before either goes on: what goes on may spend.
    const { readSuspended, writeSuspended } = this.#core;
    if ((readSuspended & SUSPEND_RATE) !== 0) this.#checkOwn(EV_READ);
    if ((writeSuspended & SUSPEND_RATE) !== 0 && this.bucket === bucket) this.#checkOwn(EV_WRITE);
  }

  suspend(what: number, reason: number): void {
    if (what === EV_READ) this.#core.suspendRead(reason);
    else this.#core.suspendWrite(reason);
  }

  resume(what: number, reason: number): void {
    if (what === EV_READ) this.#core.resumeRead(reason);
    else this.#core.resumeWrite(reason);
  }

  /** Whether the direction is suspended for the reason. */
  suspended(what: number, reason: number): boolean {
    return ((what === EV_READ ? this.#core.readSuspended : this.#core.writeSuspended) & reason) !== 0;
  }

  // ---- what the user sets

  setConfig(config: TokenBucketConfig | null): void {
    const now = this.#core.loop.now();
    if (config === null) {
      this.bucket = null;
      this.#refill.stop();
      this.resume(EV_READ, SUSPEND_RATE);
      this.resume(EV_WRITE, SUSPEND_RATE);
      return;
    }
    if (this.bucket === null) this.bucket = new TokenBucket(config, now);
    else if (this.bucket.config !== config) this.bucket.reconfigure(config, now);
    this.#refill.stop();
    this.#checkOwn(EV_READ);
    this.#checkOwn(EV_WRITE);
  }

  /** The own level, up to date; null without a bucket. */
  level(what: number): number | null {
    this.bucket?.update(this.#core.loop.now());
    return this.bucket?.level(what) ?? null;
  }

  /** The user takes from the own level, or adds to it (rule K6). */
  decrement(what: number, n: number): void {
    const { bucket } = this;
    if (bucket === null) {
      throw new EventError("Cannot decrement a rate limit: the bufferevent has none", { code: "EV_UNSUPPORTED" });
    }
    bucket.update(this.#core.loop.now());
    bucket.spend(what, n);
    this.#checkOwn(what);
  }

  join(group: GroupCore): void {
    if (this.group === group) return;
    group.live("join a rate limit group");
    this.leave();
    this.group = group;
    group.members++;
  }

  leave(): void {
    const { group } = this;
    if (group === null) return;
    this.group = null;
    group.members--;
    group.forget(this);
    this.resume(EV_READ, SUSPEND_RATE_GROUP);
    this.resume(EV_WRITE, SUSPEND_RATE_GROUP);
  }

  /** The bufferevent was freed. */
  release(): void {
    this.leave();
    this.setConfig(null);
  }
}

/**
 * The rate limits that bufferevents share. Whoever finds the level at 0 is suspended and waits in line; at a tick all
 * go on in the order in which they came. So whoever got nothing in a tick is the first in the next, and no chance is
 * needed for fairness.
 */
export class GroupCore {
  readonly loop: Loop;
  readonly bucket: TokenBucket;
  /** How many bufferevents are in it. */
  members = 0;
  minShare = 0;
  /** How many bytes the members have moved. */
  totalRead = 0;
  totalWritten = 0;
  freed = false;
  #minShareWanted = DEFAULT_MIN_SHARE;
  #readers: RateLimits[] = [];
  #writers: RateLimits[] = [];
  readonly #refill: Refill;

  constructor(loop: Loop, config: TokenBucketConfig) {
    if (loop.freed) throw new EventError("Cannot make a rate limit group: the base was freed", { code: "EV_FREED" });
    this.loop = loop;
    this.bucket = new TokenBucket(config, loop.now());
    this.#refill = new Refill(loop, (now) => this.#onTick(now));
    this.setMinShare(DEFAULT_MIN_SHARE);
  }

  /** How much a member may move: its part of the level, and not less than the least share; 0 when there is none (K5). */
  share(what: number): number {
    this.bucket.update(this.loop.now());
    const level = this.bucket.level(what);
    // With fewer bytes than members and no least share somebody must still get the byte.
    return level > 0 ? Math.max(Math.floor(level / this.members), this.minShare, 1) : 0;
  }

  /** A member has moved bytes. */
  spend(what: number, n: number): void {
    this.bucket.spend(what, n);
    if (what === EV_READ) this.totalRead += n;
    else this.totalWritten += n;
  }

  /** Suspends a member's direction until there is something to share. */
  wait(member: RateLimits, what: number): void {
    if (!member.suspended(what, SUSPEND_RATE_GROUP)) {
      (what === EV_READ ? this.#readers : this.#writers).push(member);
      member.suspend(what, SUSPEND_RATE_GROUP);
    }
    this.#refill.start(this.bucket);
  }

  /** A member has left. */
  forget(member: RateLimits): void {
    this.#readers = this.#readers.filter((other) => other !== member);
    this.#writers = this.#writers.filter((other) => other !== member);
    if (!this.#waited) this.#refill.stop();
  }

  get #waited(): boolean {
    return this.#readers.length > 0 || this.#writers.length > 0;
  }

  #onTick(now: number): void {
    this.bucket.update(now);
    this.#resume(this.minShare);
  }

  /** Lets those go on for whose direction the level is positive, and at least `level`. */
  #resume(level: number): void {
    const least = Math.max(level, 1);
    const readers = this.bucket.read >= least ? this.#readers : [];
    const writers = this.bucket.write >= least ? this.#writers : [];
    if (readers.length > 0) this.#readers = [];
    if (writers.length > 0) this.#writers = [];
    for (const member of readers) if (member.group === this) member.resume(EV_READ, SUSPEND_RATE_GROUP);
    for (const member of writers) if (member.group === this) member.resume(EV_WRITE, SUSPEND_RATE_GROUP);
    if (this.#waited) this.#refill.start(this.bucket);
    else this.#refill.stop();
  }

  // ---- what the user sets

  setConfig(config: TokenBucketConfig): void {
    this.bucket.reconfigure(config, this.loop.now());
    this.setMinShare(this.#minShareWanted);
    this.#refill.stop();
    if (this.#waited) this.#refill.start(this.bucket);
  }

  /** At most what a tick brings, so that at least one member can go on at each. */
  setMinShare(share: number): void {
    const { readRate, writeRate } = this.bucket.config;
    this.#minShareWanted = share;
    this.minShare = Math.min(share, readRate, writeRate);
  }

  level(what: number): number {
    this.bucket.update(this.loop.now());
    return this.bucket.level(what);
  }

  decrement(what: number, n: number): void {
    this.bucket.update(this.loop.now());
    this.bucket.spend(what, n);
    if (this.#waited) this.#resume(0);
  }

  free(): void {
    if (this.freed) return;
    if (this.members > 0) {
      throw new EventError(`Cannot free a rate limit group: it has ${this.members} members`, { code: "EV_BUSY" });
    }
    this.freed = true;
    this.#refill.stop();
  }

  live(doing: string): void {
    if (this.freed) throw new EventError(`Cannot ${doing}: the group was freed`, { code: "EV_FREED" });
  }
}
