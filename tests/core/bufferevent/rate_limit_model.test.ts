// Token buckets against a naive model that counts every tick.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { RateLimitGroup } from "../../../core/api/rate_limit_group.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { EV_READ } from "../../../core/flags.ts";
import { Stage } from "./stage.ts";

/** A bucket of one direction, filled tick by tick. */
class Model {
  level: number;
  rate: number;
  burst: number;
  tickMs: number;
  now: number;

  constructor(rate: number, burst: number, tickMs: number, now: number) {
    this.level = this.rate = rate;
    this.burst = burst;
    this.tickMs = tickMs;
    this.now = now;
  }

  pass(ms: number): void {
    for (let i = 0; i < ms; i++) {
      this.now++;
      if (this.now % this.tickMs === 0) this.level = Math.min(this.level + this.rate, this.burst);
    }
  }

  change(rate: number, burst: number, tickMs: number): void {
    this.rate = rate;
    this.burst = burst;
    this.tickMs = tickMs;
    this.level = Math.min(this.level, burst);
  }
}

const rates = fc.tuple(
  fc.integer({ min: 1, max: 50 }),
  fc.integer({ min: 0, max: 100 }),
  fc.integer({ min: 1, max: 9 }),
);

function limits([rate, more, tickMs]: [number, number, number]): TokenBucketConfig {
  return new TokenBucketConfig({
    readRate: rate,
    readBurst: rate + more,
    writeRate: rate + 1,
    writeBurst: rate + more + 1,
    tickMs,
  });
}

describe("a token bucket", () => {
  it("has the level of a naive model, whatever time passes and whatever is taken, given and changed (K2, K6)", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 0, max: 30 }) }),
      fc.record({ kind: fc.constant("take" as const), n: fc.integer({ min: -150, max: 150 }) }),
      fc.record({ kind: fc.constant("change" as const), to: rates }),
      fc.record({ kind: fc.constant("look" as const) }),
    );
    await fc.assert(
      fc.asyncProperty(
        rates,
        fc.integer({ min: 0, max: 20 }),
        fc.array(step, { maxLength: 40, size: "max" }),
        async (first, at, steps) => {
          const stage = new Stage();
          await stage.sim.advance(at);
          const [bev] = bufferEventPair(stage.base);
          const config = limits(first);
          bev.setRateLimit(config);
          const group = new RateLimitGroup(stage.base, config);
          const [rate, more, tickMs] = first;
          const read = new Model(rate, rate + more, tickMs, at);
          const write = new Model(rate + 1, rate + more + 1, tickMs, at);
          for (const each of steps) {
            if (each.kind === "pass") {
              await stage.sim.advance(each.ms);
              read.pass(each.ms);
              write.pass(each.ms);
            } else if (each.kind === "take") {
              bev.decrementReadLimit(each.n);
              bev.decrementWriteLimit(-each.n);
              group.decrementRead(each.n);
              group.decrementWrite(-each.n);
              read.level -= each.n;
              write.level += each.n;
            } else if (each.kind === "change") {
              bev.setRateLimit(limits(each.to));
              group.setConfig(limits(each.to));
              const [rate, more, tickMs] = each.to;
              read.change(rate, rate + more, tickMs);
              write.change(rate + 1, rate + more + 1, tickMs);
            }
            // Reading the level updates a bucket, so do it only sometimes: the result must be the
            // same.
            if (each.kind !== "look") continue;
            assertEquals([bev.readLimit, bev.writeLimit], [read.level, write.level]);
            assertEquals([group.readLimit, group.writeLimit], [read.level, write.level]);
            assertEquals(bev.maxToRead, Math.max(read.level, 0));
          }
          await stage.end(bev);
          group.free();
        },
      ),
      { numRuns: 100 },
    );
  });

  it("lets as many bytes through as a naive model, at the same times (K4)", async () => {
    const step = fc.record({ n: fc.integer({ min: 0, max: 300 }), ms: fc.integer({ min: 0, max: 30 }) });
    await fc.assert(
      fc.asyncProperty(rates, fc.array(step, { maxLength: 30, size: "max" }), async (first, steps) => {
        const stage = new Stage();
        const [a, b] = bufferEventPair(stage.base);
        b.setRateLimit(limits(first));
        b.enable(EV_READ);
        const [rate, more, tickMs] = first;
        const model = new Model(rate, rate + more, tickMs, 0);
        let waiting = 0;
        let through = 0;
        const flow = (): void => {
          const n = Math.min(waiting, Math.max(model.level, 0));
          waiting -= n;
          through += n;
          model.level -= n;
        };
        for (const { n, ms } of steps) {
          a.write(new Uint8Array(n));
          waiting += n;
          flow();
          assertEquals(b.input.length, through);
          await stage.during(ms);
          for (let i = 0; i < ms; i++) {
            model.pass(1);
            flow();
          }
          // The loop uses the clock of its turns: work that came due in the last instant may wait
          // for the next turn.
          assert(b.input.length <= through && b.input.length >= through - model.rate - model.burst);
          await stage.during(0.5);
          assertEquals(b.input.length, through);
          await stage.sim.advance(0.5);
          model.pass(1);
          await stage.during(0);
          flow();
        }
        await stage.end(a, b);
      }),
      { numRuns: 50 },
    );
  });
});

describe("a group of limited bufferevents", () => {
  it("never lets more through than its buckets and those of its members, and everything in the end", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(fc.integer({ min: 50, max: 300 }), fc.integer({ min: 0, max: 300 }), fc.constant(10)),
        fc.array(fc.tuple(fc.option(rates), fc.integer({ min: 0, max: 2000 })), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 0, max: 100 }),
        async (all, each, minShare) => {
          const stage = new Stage();
          const group = new RateLimitGroup(stage.base, limits(all));
          group.setMinShare(minShare);
          const pairs = each.map(([own, bytes]) => {
            const [a, b] = bufferEventPair(stage.base);
            if (own !== null) b.setRateLimit(limits(own));
            b.joinRateLimitGroup(group);
            b.enable(EV_READ);
            a.write(new Uint8Array(bytes));
            return { a, b, own, bytes };
          });
          const [rate, more, tickMs] = all;
          for (let ticks = 1; ticks < 50; ticks++) {
            await stage.during(ticks === 1 ? tickMs / 2 : tickMs);
            const read = pairs.reduce((sum, { b }) => sum + b.input.length, 0);
            assertEquals(group.totals.read, read);
            // The last share of a level may exceed it by the smallest share.
            assert(read <= rate * ticks + more + minShare, `${read} in ${ticks} ticks`);
          }
          await stage.settle();
          assertEquals(pairs.map(({ b }) => b.input.length), pairs.map(({ bytes }) => bytes));
          await stage.end(...pairs.flatMap(({ a, b }) => [a, b]));
          group.free();
        },
      ),
      { numRuns: 50 },
    );
  });
});
