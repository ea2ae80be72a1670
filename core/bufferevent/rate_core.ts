/** The rate limits of one bufferevent: how much it may move, and when it is suspended (rules K3, K4, K6, K7). */

import { EV_READ, EV_WRITE } from "../flags.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import type { Connection } from "../socket/connection.ts";
import { type BevCore, SUSPEND_RATE, SUSPEND_RATE_GROUP } from "./core.ts";
import { DEFAULT_MAX_SINGLE } from "./limits.ts";
import type { GroupCore } from "./rate_group.ts";
import type { TokenBucketConfig } from "./rate_limit.ts";
import { Refill, TokenBucket } from "./token_bucket.ts";

/** The rate limits of one bufferevent: its own bucket, and its share of a group. */
export class RateLimits {
  bucket: TokenBucket | null = null;
  group: GroupCore | null = null;
  /** For the group: how many bytes it has moved, counted from the number of the others when it joined. */
  readonly had: { read: number; write: number } = { read: 0, write: 0 };
  /** Whether the last output of a connection that is being closed needs them, although the bufferevent may be freed. */
  servesLast = false;
  private readonly core: BevCore;
  private readonly refill: Refill;

  constructor(core: BevCore) {
    this.core = core;
    this.refill = new Refill(core.loop, (now) => this.onTick(now));
  }

  // ---- moving bytes

  /** Receives up to `most` bytes within the limits. @returns Their number; −1 for none now, with reading suspended */
  receive(connection: Connection, into: EvBuffer, most: number): number {
    // The end and an error cost nothing, and are reported at once.
    if (connection.available === 0) return 0;
    const budget = this.budget(EV_READ, most);
    if (budget === 0) return -1;
    const n = connection.receiveInto(into, budget);
    this.spent(EV_READ, n);
    return n;
  }

  /** Sends up to `most` bytes within the limits. @returns Their number */
  send(connection: Connection, from: EvBuffer, most: number): number {
    const budget = this.budget(EV_WRITE, Math.min(most, DEFAULT_MAX_SINGLE));
    if (budget === 0) return 0;
    const n = connection.writeFrom(from, budget);
    if (n > 0) this.spent(EV_WRITE, n);
    return n;
  }

  /** How many bytes may be moved now: the smallest of `most`, its own level and the share of the group (rule K3). */
  allowance(what: number, most: number): number {
    const { bucket, group } = this;
    if (bucket !== null) {
      bucket.update(this.core.loop.now());
      most = Math.min(most, bucket.level(what));
    }
    if (group !== null) most = Math.min(most, group.share(what));
    return most > 0 ? most : 0;
  }

  /** As `allowance`. For 0 the direction is suspended until a tick (rule K4). */
  budget(what: number, most: number): number {
    const n = this.allowance(what, most);
    if (n === 0) {
      this.checkOwn(what);
      if (this.group?.share(what) === 0) this.group.wait(this, what);
    }
    return n;
  }

  /** Bytes were moved. */
  spent(what: number, n: number): void {
    this.charge(what, n);
    this.checkOwn(what);
  }

  /** As `spent`, but nothing is suspended. */
  charge(what: number, n: number): void {
    this.bucket?.spend(what, n);
    this.group?.spend(this, what, n);
  }

  /** The earliest time at which bytes can be moved again. */
  nextTick(what: number): number {
    const now = this.core.loop.now();
    const { bucket, group } = this;
    if (bucket !== null && (group === null || bucket.level(what) <= 0)) return bucket.nextTick(now);
    return group === null ? now : group.bucket.nextTick(now);
  }

  /** Suspends the direction if its own bucket is empty, otherwise resumes it. */
  private checkOwn(what: number): void {
    const { bucket } = this;
    if (bucket === null) return;
    if (bucket.level(what) <= 0) {
      this.suspend(what, SUSPEND_RATE);
      this.refill.start(bucket);
    } else this.resume(what, SUSPEND_RATE);
  }

  private onTick(now: number): void {
    const { bucket } = this;
    if (bucket === null) return;
    bucket.update(now);
    // Check both before either resumes, because a resumed direction may spend.
    const { readSuspended, writeSuspended } = this.core;
    if ((readSuspended & SUSPEND_RATE) !== 0) this.checkOwn(EV_READ);
    if ((writeSuspended & SUSPEND_RATE) !== 0 && this.bucket === bucket) this.checkOwn(EV_WRITE);
  }

  suspend(what: number, reason: number): void {
    if (what === EV_READ) this.core.suspendRead(reason);
    else this.core.suspendWrite(reason);
  }

  resume(what: number, reason: number): void {
    if (what === EV_READ) this.core.resumeRead(reason);
    else this.core.resumeWrite(reason);
  }

  /** Whether the direction is suspended for the reason. */
  suspended(what: number, reason: number): boolean {
    return ((what === EV_READ ? this.core.readSuspended : this.core.writeSuspended) & reason) !== 0;
  }

  // ---- what the user sets

  setConfig(config: TokenBucketConfig | null): void {
    // Ticks are counted from now. Ticks that passed during a busy callback bring nothing.
    const now = this.core.loop.clock();
    if (config === null) {
      this.bucket = null;
      this.refill.stop();
      this.resume(EV_READ, SUSPEND_RATE);
      this.resume(EV_WRITE, SUSPEND_RATE);
      return;
    }
    if (this.bucket === null) this.bucket = new TokenBucket(config, now);
    else if (this.bucket.config !== config) this.bucket.reconfigure(config, now);
    this.refill.stop();
    this.checkOwn(EV_READ);
    this.checkOwn(EV_WRITE);
  }

  /** Its own level, up to date; null without a bucket. */
  level(what: number): number | null {
    this.bucket?.update(this.core.loop.now());
    return this.bucket?.level(what) ?? null;
  }

  /** The program takes bytes from its own level, or adds some (rule K6). */
  decrement(bucket: TokenBucket, what: number, n: number): void {
    bucket.update(this.core.loop.now());
    bucket.spend(what, n);
    this.checkOwn(what);
  }

  join(group: GroupCore): void {
    if (this.group === group) return;
    group.live("join a rate limit group");
    this.leave();
    this.group = group;
    this.had.read = this.had.write = 0;
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
  end(): void {
    if (this.servesLast) return;
    this.leave();
    this.setConfig(null);
  }
}
