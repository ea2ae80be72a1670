/**
 * Token buckets: their levels, and the times at which they fill (rules K2 and K6). A bucket is updated when it is read.
 * Its timer runs only while a direction waits.
 */

import { EV_READ } from "../flags.ts";
import type { Loop } from "../loop/loop.ts";
import { LoopEvent } from "../loop/loop_event.ts";
import type { TokenBucketConfig } from "./rate_limit.ts";

/** The levels of both directions, in bytes. They can be negative, and above the burst until the next tick (rule K6). */
export class TokenBucket {
  config: TokenBucketConfig;
  read: number;
  write: number;
  /** The tick of the levels. Ticks are counted from the zero of the runtime's clock. */
  private tick: number;

  constructor(config: TokenBucketConfig, now: number) {
    this.config = config;
    this.read = config.readRate;
    this.write = config.writeRate;
    this.tick = Math.floor(now / config.tickMs);
  }

  /** Adds the bytes of the ticks since the last update, and cuts at the burst (rule K2). */
  update(now: number): void {
    const { tickMs, readRate, readBurst, writeRate, writeBurst } = this.config;
    const ticks = Math.floor(now / tickMs) - this.tick;
    if (ticks <= 0) return;
    this.tick += ticks;
    this.read = Math.min(readBurst, this.read + ticks * readRate);
    this.write = Math.min(writeBurst, this.write + ticks * writeRate);
  }

  /** Takes another configuration. The levels are cut at the new bursts and never raised (rule K6). */
  reconfigure(config: TokenBucketConfig, now: number): void {
    this.update(now);
    this.config = config;
    this.tick = Math.floor(now / config.tickMs);
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
    return (Math.max(this.tick, Math.floor(now / tickMs)) + 1) * tickMs;
  }
}

/** The timer of a bucket: one tick, on the boundary. */
export class Refill extends LoopEvent {
  private readonly onTick: (now: number) => void;
  private due = 0;

  constructor(loop: Loop, onTick: (now: number) => void) {
    super(loop, null, 0, loop.queues.length >> 1);
    this.onTick = onTick;
  }

  start(bucket: TokenBucket): void {
    if (this.timed) return;
    const now = this.loop.now();
    this.due = bucket.nextTick(now);
    this.loop.setDeadline(this, this.due - now);
  }

  stop(): void {
    this.loop.del(this);
  }

  override run(): void {
    // Rounding errors of fractions must not hide the tick that has begun.
    this.onTick(Math.max(this.loop.now(), this.due));
  }
}
