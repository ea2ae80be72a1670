// Rate limits. Rules K1 to K7; how close() honours them.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { RateLimitGroup } from "../../../core/api/rate_limit_group.ts";
import { EV_RATE_LIMIT_MAX, TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import { BEV_OPT_CLOSE_ON_FREE, EV_READ, EV_WRITE, EVENT_BASE_COUNT_ADDED } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { receiveAll, socketPair } from "../socket/pairs.ts";
import { isFreed, type Rig, rig } from "./rig.ts";
import { Stage } from "./stage.ts";

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

/** The same limits both ways. */
function limits(rate: number, burst: number, tickMs = 100): TokenBucketConfig {
  return new TokenBucketConfig({ readRate: rate, readBurst: burst, writeRate: rate, writeBurst: burst, tickMs });
}

/** A rig whose clock stands at the beginning of a tick of 100 ms. */
async function alignedRig(): Promise<Rig> {
  const made = await rig();
  await made.sim.advance(100 - made.sim.now() % 100);
  return made;
}

/** The bytes that arrive in each tick of 100 ms, counted in its middle. */
async function perTick(made: Rig, ticks: number, count: () => number): Promise<number[]> {
  const counts: number[] = [];
  for (let i = 0; i < ticks; i++) {
    await made.during(i === 0 ? 50 : 100);
    counts.push(count());
  }
  return counts;
}

describe("joinRateLimitGroup()", () => {
  it("requires a group, also in a program that never made one", () => {
    const [bev] = bufferEventPair(new Stage().base);
    for (const group of [null, 5, {}] as unknown[] as RateLimitGroup[]) {
      assertThrows(() => bev.joinRateLimitGroup(group), TypeError, "not a RateLimitGroup");
    }
  });
});

describe("TokenBucketConfig (K1)", () => {
  const good = { readRate: 1, readBurst: 1, writeRate: 1, writeBurst: 1 };

  it("keeps its options; a tick is a second by default, and a whole number of milliseconds", () => {
    const { readRate, readBurst, writeRate, writeBurst, tickMs } = new TokenBucketConfig({
      readRate: 10,
      readBurst: 20,
      writeRate: 30,
      writeBurst: EV_RATE_LIMIT_MAX,
    });
    assertEquals([readRate, readBurst, writeRate, writeBurst, tickMs], [10, 20, 30, EV_RATE_LIMIT_MAX, 1000]);
    assertEquals(new TokenBucketConfig({ ...good, tickMs: 2.9 }).tickMs, 2);
    assertEquals(new TokenBucketConfig({ ...good, tickMs: 2_147_483_000 }).tickMs, 2_147_483_000);
  });

  it("refuses impossible values", () => {
    for (const direction of ["read", "write"]) {
      for (const rate of [0, -1, 1.5, NaN, EV_RATE_LIMIT_MAX + 1, Infinity]) {
        const options = { ...good, [`${direction}Rate`]: rate, [`${direction}Burst`]: Math.max(rate, 1) };
        assertThrows(() => new TokenBucketConfig(options), RangeError);
      }
      assertThrows(() => new TokenBucketConfig({ ...good, [`${direction}Rate`]: 2 }), RangeError);
      assertThrows(() => new TokenBucketConfig({ ...good, [`${direction}Burst`]: 2 ** 53 }), RangeError);
      assertThrows(() => new TokenBucketConfig({ ...good, [`${direction}Rate`]: "1" as unknown as number }), TypeError);
    }
    for (const tickMs of [0, 0.9, -5, NaN, 2_147_484_000, Infinity]) {
      assertThrows(() => new TokenBucketConfig({ ...good, tickMs }), RangeError);
    }
    assertThrows(() => new TokenBucketConfig(undefined as never), TypeError, "the options are not an object");
  });
});

describe("the level of a bufferevent's own limit (K2, K6, K7)", () => {
  it("begins at the rate, grows by the rate at each tick, and is at most the burst", async () => {
    const made = await alignedRig();
    const { bev, sim } = made;
    assertEquals([bev.readLimit, bev.writeLimit, bev.tokenBucketConfig], [EV_RATE_LIMIT_MAX, EV_RATE_LIMIT_MAX, null]);
    const config = limits(100, 250);
    bev.setRateLimit(config);
    assertStrictEquals(bev.tokenBucketConfig, config);
    const levels = [bev.readLimit];
    for (let i = 0; i < 4; i++) {
      await sim.advance(i === 0 ? 99 : 100);
      levels.push(bev.readLimit);
    }
    assertEquals(levels, [100, 100, 200, 250, 250]);
    bev.setRateLimit(null);
    assertEquals([bev.readLimit, bev.tokenBucketConfig], [EV_RATE_LIMIT_MAX, null]);
    await made.end();
  });

  it("counts the ticks that passed meanwhile", async () => {
    const made = await alignedRig();
    const { bev, sim } = made;
    bev.setRateLimit(limits(10, 1000));
    await sim.advance(750);
    assertEquals(bev.readLimit, 80);
    await made.end();
  });

  it("may be made negative, and is positive again after enough ticks", async () => {
    const made = await alignedRig();
    const { bev, peer } = made;
    bev.setRateLimit(limits(100, 250));
    bev.decrementReadLimit(450);
    assertEquals([bev.readLimit, bev.writeLimit, bev.maxToRead], [-350, 100, 0]);
    bev.enable(EV_READ);
    peer.send("x".repeat(1000));
    made.record.drains = false;
    assertEquals(await perTick(made, 8, () => bev.input.length), [0, 0, 0, 0, 50, 150, 250, 350]);
    await made.end();
  });

  it("may be raised above the burst, and returns to the burst at the next tick; it does not overflow as in C", async () => {
    const made = await alignedRig();
    const { bev, sim } = made;
    bev.setRateLimit(limits(100, 250));
    bev.decrementWriteLimit(-1000);
    assertEquals([bev.writeLimit, bev.readLimit], [1100, 100]);
    await sim.advance(99);
    assertEquals(bev.writeLimit, 1100);
    for (let i = 0; i < 3; i++) {
      await sim.advance(100);
      assertEquals(bev.writeLimit, 250);
    }
    assertThrows(() => bev.decrementReadLimit(0.5), RangeError);
    bev.setRateLimit(null);
    assertEquals(codeOf(() => bev.decrementReadLimit(1)), "EV_UNSUPPORTED");
    await made.end();
  });

  it("that is raised lets a suspended direction go on at once", async () => {
    const made = await alignedRig();
    const { bev, peer } = made;
    bev.setRateLimit(limits(10, 10));
    bev.enable(EV_READ);
    peer.send("x".repeat(100));
    await made.during(20);
    assertEquals(bev.readLimit, 0);
    bev.decrementReadLimit(-50);
    await made.during(20);
    assertEquals([made.record.received.length, bev.readLimit], [60, 0]);
    await made.end();
  });

  it("is reduced to the burst of a new configuration, and never raised", async () => {
    const made = await alignedRig();
    const { bev, sim } = made;
    bev.setRateLimit(limits(100, 1000));
    await sim.advance(550);
    assertEquals(bev.readLimit, 600);
    bev.setRateLimit(limits(50, 200));
    assertEquals(bev.readLimit, 200);
    bev.setRateLimit(limits(1000, 5000));
    assertEquals(bev.readLimit, 200);
    await sim.advance(50);
    assertEquals(bev.readLimit, 1200);
    // Another tick length does not change the time that has passed.
    bev.setRateLimit(limits(10, 5000, 1));
    assertEquals(bev.readLimit, 1200);
    await sim.advance(2);
    assertEquals(bev.readLimit, 1220);
    await made.end();
  });

  it("cannot be set from a value that is not a configuration", async () => {
    const made = await rig();
    assertThrows(() => made.bev.setRateLimit({} as TokenBucketConfig), TypeError);
    made.bev.free();
    assertEquals(codeOf(() => made.bev.setRateLimit(limits(1, 1))), "EV_FREED");
    await made.end();
  });
});

describe("the size of one read or write (K3)", () => {
  it("is the least of the largest read or write, the own level and the share of the group", async () => {
    const made = await rig();
    const { bev, base } = made;
    assertEquals([bev.maxToRead, bev.maxToWrite], [16384, 16384]);
    bev.setRateLimit(limits(100_000, 100_000));
    assertEquals([bev.maxToRead, bev.maxToWrite], [16384, 16384]);
    bev.setMaxSingleRead(500);
    bev.setMaxSingleWrite(700);
    assertEquals([bev.maxToRead, bev.maxToWrite], [500, 700]);
    bev.setRateLimit(limits(300, 300));
    assertEquals([bev.maxToRead, bev.maxToWrite], [300, 300]);
    const group = new RateLimitGroup(base, limits(200, 200));
    bev.joinRateLimitGroup(group);
    assertEquals([bev.maxToRead, bev.maxToWrite], [200, 200]);
    group.decrementRead(200);
    assertEquals([bev.maxToRead, bev.maxToWrite], [0, 200]);
    bev.leaveRateLimitGroup();
    bev.setRateLimit(null);
    assertEquals([bev.maxToRead, bev.maxToWrite], [500, 700]);
    group.free();
    await made.end();
  });
});

describe("a limited bufferevent (K4)", () => {
  it("reads 1,000 bytes at 100 a tick in ten ticks", async () => {
    const made = await alignedRig();
    const { bev, peer, record } = made;
    peer.send("x".repeat(1000));
    await made.still(2);
    bev.setRateLimit(limits(100, 250));
    bev.enable(EV_READ);
    const lengths = await perTick(made, 11, () => record.received.length);
    assertEquals(lengths, [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1000]);
    await made.end();
  });

  it("reads the burst at once after a pause, then the rate", async () => {
    const made = await alignedRig();
    const { bev, peer, record } = made;
    bev.setRateLimit(limits(100, 250));
    bev.enable(EV_READ);
    await made.during(1000);
    peer.send("x".repeat(600));
    assertEquals(await perTick(made, 5, () => record.received.length), [250, 350, 450, 550, 600]);
    await made.end();
  });

  it("writes the same way, and calls back when the last has left", async () => {
    const made = await alignedRig();
    const { bev, record } = made;
    bev.setRateLimit(limits(100, 250));
    bev.write("x".repeat(450));
    let sent = 0;
    const lengths = await perTick(made, 6, () => sent += made.peerCount());
    assertEquals(lengths, [100, 200, 300, 400, 450, 450]);
    assertEquals(record.take(), []);
    bev.write("y".repeat(450));
    assertEquals(await made.during(500), ["write 0"]);
    await made.end();
  });

  it("keeps a write callback that was due when the limit was reached", async () => {
    const made = await alignedRig();
    const { bev } = made;
    bev.setWatermark(EV_WRITE, 900, 0);
    bev.setMaxSingleWrite(50);
    bev.setRateLimit(limits(100, 100));
    bev.write("x".repeat(950));
    assertEquals(await made.during(10), ["write 900", "write 850"]);
    await made.end();
  });

  it("does not run its timeouts while it is suspended", async () => {
    const made = await alignedRig();
    const { bev, peer } = made;
    bev.setRateLimit(limits(10, 10, 1000));
    await made.sim.advance(1000 - made.sim.now() % 1000);
    bev.setTimeouts(200, 200);
    bev.enable(EV_READ);
    peer.send("x".repeat(20));
    bev.write("y".repeat(20));
    assertEquals(await made.during(990), ["read 10"]);
    assertEquals((await made.during(100)).sort(), ["read 10", "write 0"]);
    await made.end();
  });

  it("has its write timeout again if it goes on and the peer does not read", async () => {
    const made = await alignedRig();
    const { bev } = made;
    await made.block();
    await made.sim.advance(100 - made.sim.now() % 100);
    bev.setRateLimit(limits(100, 100));
    bev.decrementWriteLimit(100);
    bev.setTimeouts(null, 150);
    bev.write("x");
    assertEquals(await made.during(240), []);
    assertEquals(await made.during(20), ["event WRITING|TIMEOUT"]);
    await made.end();
  });

  it("gets the end of file after all the bytes", async () => {
    const made = await alignedRig();
    const { bev, peer } = made;
    bev.setRateLimit(limits(100, 100));
    bev.enable(EV_READ);
    peer.send("x".repeat(150));
    peer.shutdown();
    assertEquals(await made.during(90), ["read 100"]);
    assertEquals(await made.during(100), ["read 50", "event READING|EOF"]);
    await made.end();
  });

  it("keeps its watermarks, and disable() stops it whatever the tick", async () => {
    const made = await alignedRig();
    const { bev, peer, record } = made;
    record.drains = false;
    bev.setWatermark(EV_READ, 0, 120);
    bev.setRateLimit(limits(100, 100));
    bev.enable(EV_READ);
    peer.send("x".repeat(500));
    assertEquals(await made.during(150), ["read 100", "read 120"]);
    bev.input.drain(60);
    assertEquals(await made.during(10), ["read 120"]);
    bev.disable(EV_READ);
    bev.input.drain(120);
    assertEquals(await made.during(300), []);
    bev.enable(EV_READ);
    assertEquals(await made.during(10), ["read 100"]);
    await made.end();
  });

  it("whose limit is removed goes on at once", async () => {
    const made = await alignedRig();
    const { bev, peer, record } = made;
    bev.setRateLimit(limits(100, 100));
    bev.enable(EV_READ);
    peer.send("x".repeat(500));
    bev.write("y".repeat(500));
    await made.during(20);
    bev.setRateLimit(null);
    await made.during(20);
    assertEquals([record.received.length, made.peerCount()], [500, 500]);
    await made.end();
  });

  it("has no event that keeps the loop running if nothing waits", async () => {
    const made = await alignedRig();
    const { bev, base, sim } = made;
    const group = new RateLimitGroup(base, limits(100, 100));
    bev.setRateLimit(limits(100, 100));
    bev.joinRateLimitGroup(group);
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
    bev.write("x".repeat(100));
    const begin = sim.now();
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(sim.now() - begin, 100, "the level was 0 until the next tick");
    await made.end();
    group.free();
  });

  it("finishes after its output with shutdown()", async () => {
    const made = await alignedRig();
    const { bev, peer } = made;
    bev.setRateLimit(limits(100, 100));
    bev.write("x".repeat(250));
    bev.shutdown();
    await made.during(150);
    assertEquals(receiveAll(peer).ended, false);
    await made.during(100);
    assertEquals(receiveAll(peer).ended, true);
    bev.decrementWriteLimit(1000);
    await made.end();
  });

  it("without output and without a level finishes at the tick", async () => {
    const made = await alignedRig();
    const { bev, peer } = made;
    bev.setRateLimit(limits(100, 100));
    bev.write("x".repeat(100));
    await made.during(20);
    bev.shutdown();
    await made.during(150);
    assertEquals(receiveAll(peer).ended, true);
    await made.end();
  });

  it("may be freed and have its limits changed in its callbacks", async () => {
    const made = await alignedRig();
    const { bev, peer, record } = made;
    bev.setRateLimit(limits(100, 100));
    bev.enable(EV_READ);
    peer.send("x".repeat(1000));
    record.on.read = () => {
      if (record.received.length === 200) bev.setRateLimit(null);
      if (record.received.length === 1000) bev.free();
    };
    assertEquals(await made.during(150), ["read 100", "read 100", "read 800"]);
    assert(isFreed(bev));
    await made.end();
  });
});

describe("close() of a limited bufferevent", () => {
  it("sends the last of its output within the limit, needs no loop, and loses nothing", async () => {
    for (const looping of [true, false]) {
      const made = await alignedRig();
      const { bev, peer, sim, base } = made;
      bev.setRateLimit(limits(100, 100));
      bev.write("x".repeat(450));
      const closing = bev.close();
      const running = looping ? sim.run(base.dispatch()) : null;
      if (running !== null) await running;
      let received = 0;
      const times: number[] = [];
      const begin = sim.now();
      for (let ended = false; !ended;) {
        if (running === null) await sim.advance(50);
        const all = receiveAll(peer);
        received += all.bytes.length;
        ended = all.ended;
        if (all.bytes.length > 0) times.push(sim.now() - begin);
        if (running !== null) break;
      }
      assertEquals(received, 450);
      if (!looping) assertEquals(times, [50, 150, 250, 350, 450]);
      peer.close();
      assertEquals(await sim.run(closing), !looping);
      assert(isFreed(bev));
      await made.end();
    }
  });

  it("drops arriving bytes, so that a peer that writes before it reads does not stall", async () => {
    const made = await alignedRig();
    const { bev, peer, sim } = made;
    bev.setRateLimit(limits(100, 100));
    bev.write("x".repeat(250));
    const closing = bev.close();
    let left = 1_000_000;
    const begin = sim.now();
    while (left > 0 && sim.now() - begin < 200) {
      const n = peer.send(new Uint8Array(Math.min(left, 10_000)));
      if (n > 0) left -= n;
      await sim.advance(1);
    }
    assertEquals(left, 0, "all was taken before the last of the output left");
    await sim.advance(200);
    const { bytes, ended } = receiveAll(peer);
    assertEquals([bytes.length, ended], [250, true]);
    peer.close();
    assertEquals(await sim.run(closing), true);
    await made.end();
  });

  it("ends with a reset after timeoutMs", async () => {
    const made = await alignedRig();
    const { bev, peer, sim } = made;
    bev.setRateLimit(limits(100, 100));
    bev.write("x".repeat(1000));
    const begin = sim.now();
    assertEquals(await sim.run(bev.close({ timeoutMs: 350 })), false);
    assertEquals(sim.now() - begin, 350);
    await sim.advance(10);
    assertThrows(() => receiveAll(peer), EventError);
    await made.end();
  });

  it("ends by reset(), and gives false when the peer resets", async () => {
    for (const mine of [true, false]) {
      const made = await alignedRig();
      const { bev, peer, sim } = made;
      bev.setRateLimit(limits(100, 100));
      bev.write("x".repeat(1000));
      const closing = bev.close();
      await sim.advance(120);
      if (mine) bev.reset();
      else peer.reset();
      assertEquals(await sim.run(closing), false);
      await made.end();
    }
  });

  it("goes on within the limit when the bufferevent is freed meanwhile", async () => {
    const made = await alignedRig();
    const { bev, base, sim } = made;
    const group = new RateLimitGroup(base, limits(1000, 1000));
    bev.joinRateLimitGroup(group);
    bev.setRateLimit(limits(100, 100));
    bev.write("x".repeat(250));
    const closing = bev.close();
    bev.free();
    await sim.advance(150);
    assertEquals([made.peerCount(), group.members], [200, 1]);
    await sim.advance(100);
    made.peer.close();
    assertEquals([await sim.run(closing), group.members, group.totals.written], [true, 0, 250]);
    group.free();
    await made.end();
  });

  it("waits for space as well as for ticks", async () => {
    const made = await alignedRig();
    const { bev, sim } = made;
    const blocked = await made.block();
    await sim.advance(100 - sim.now() % 100);
    bev.setRateLimit(limits(50_000, 50_000));
    bev.write(new Uint8Array(200_000));
    const closing = bev.close();
    let received = 0;
    for (let i = 0; i < 20; i++) {
      await sim.advance(100);
      received += made.peerCount();
    }
    assertEquals(received, blocked + 200_000);
    made.peer.close();
    assertEquals(await sim.run(closing), true);
    await made.end();
  });

  it("honours the limit of its group", async () => {
    const made = await alignedRig();
    const { bev, base, sim } = made;
    const group = new RateLimitGroup(base, limits(100, 100));
    bev.joinRateLimitGroup(group);
    bev.write("x".repeat(250));
    const closing = bev.close();
    await sim.advance(50);
    assertEquals([made.peerCount(), group.members], [100, 1]);
    await sim.advance(200);
    assertEquals(made.peerCount(), 150);
    made.peer.close();
    assertEquals([await sim.run(closing), group.members, group.totals], [true, 0, { read: 0, written: 250 }]);
    group.free();
    await made.end();
  });
});

describe("a group (K5)", () => {
  it("has a level, totals and members", async () => {
    const stage = new Stage();
    const { base, sim } = stage;
    const config = limits(1000, 2500);
    const group = new RateLimitGroup(base, config);
    assertStrictEquals(group.base, base);
    assertStrictEquals(group.config, config);
    assertEquals([group.readLimit, group.writeLimit, group.members, group.totals], [1000, 1000, 0, {
      read: 0,
      written: 0,
    }]);
    const [a, b] = bufferEventPair(base);
    a.joinRateLimitGroup(group);
    a.joinRateLimitGroup(group);
    b.joinRateLimitGroup(group);
    assertEquals(group.members, 2);
    b.enable(EV_READ);
    a.write("x".repeat(300));
    assertEquals([group.readLimit, group.writeLimit, group.totals], [700, 700, { read: 300, written: 300 }]);
    group.resetTotals();
    assertEquals(group.totals, { read: 0, written: 0 });
    await sim.advance(1000);
    assertEquals(group.readLimit, 2500);
    group.decrementRead(2600);
    group.decrementWrite(-100);
    assertEquals([group.readLimit, group.writeLimit], [-100, 2600]);
    await sim.advance(100);
    assertEquals([group.readLimit, group.writeLimit], [900, 2500]);
    assertEquals(codeOf(() => group.free()), "EV_BUSY");
    a.leaveRateLimitGroup();
    b.free();
    group.free();
    group.free();
    assertEquals(codeOf(() => a.joinRateLimitGroup(group)), "EV_FREED");
    assertEquals(codeOf(() => group.setConfig(config)), "EV_FREED");
    await stage.end(a);
  });

  it("gives a member its part of the level, and at least the smallest share", async () => {
    const stage = new Stage();
    const { base } = stage;
    const group = new RateLimitGroup(base, limits(1000, 1000));
    const pairs = Array.from({ length: 5 }, () => bufferEventPair(base));
    const members = pairs.flat();
    for (const bev of members) bev.joinRateLimitGroup(group);
    const [first] = members;
    assert(first !== undefined);
    assertEquals(first.maxToRead, 100);
    group.decrementRead(900);
    assertEquals(first.maxToRead, 64);
    group.setMinShare(0);
    assertEquals(first.maxToRead, 10);
    group.decrementRead(95);
    assertEquals(first.maxToRead, 1);
    group.setMinShare(5000);
    assertEquals(first.maxToRead, 1000, "at most what a tick brings");
    group.setConfig(limits(10, 10));
    assertEquals([first.maxToRead, group.readLimit], [10, 5]);
    group.setConfig(limits(8000, 8000));
    group.decrementRead(-7995);
    assertEquals(first.maxToRead, 5000);
    group.decrementRead(8000);
    assertEquals(first.maxToRead, 0);
    assertThrows(() => group.setMinShare(-1), RangeError);
    await stage.end(...members);
    group.free();
  });

  it("whose level is used up stops its members until the next tick, and lets a member that leaves go on", async () => {
    const stage = new Stage();
    const { base, sim } = stage;
    const group = new RateLimitGroup(base, limits(100, 100));
    const [a, b] = bufferEventPair(base);
    const [c, d] = bufferEventPair(base);
    for (const bev of [b, d]) {
      bev.joinRateLimitGroup(group);
      bev.enable(EV_READ);
    }
    a.write("x".repeat(500));
    c.write("x".repeat(500));
    assertEquals([b.input.length + d.input.length, group.readLimit <= 0], [100 + -group.readLimit, true]);
    await stage.during(110);
    const second = b.input.length + d.input.length;
    assert(second >= 150 && second <= 264, `${second}`);
    d.leaveRateLimitGroup();
    assertEquals(d.input.length, 500);
    await sim.run(base.dispatch());
    assertEquals(b.input.length, 500);
    await stage.end(a, b, c, d);
    group.free();
  });

  it("serves the member with the fewest bytes first: if there is too little for all, they take turns", async () => {
    const stage = new Stage();
    const { base } = stage;
    const group = new RateLimitGroup(base, limits(100, 100));
    group.setMinShare(100);
    const receivers = Array.from({ length: 4 }, () => {
      const [a, b] = bufferEventPair(base);
      b.joinRateLimitGroup(group);
      b.enable(EV_READ);
      a.write("x".repeat(1000));
      return b;
    });
    for (let total = 100; total <= 3000; total += 100) {
      const counts = receivers.map((bev) => bev.input.length);
      assertEquals(counts.reduce((sum, count) => sum + count), total);
      assert(Math.max(...counts) - Math.min(...counts) <= 100, counts.join());
      await stage.during(total === 100 ? 150 : 100);
    }
    await stage.end(...receivers.flatMap((bev) => bev.partner ?? []), ...receivers);
    group.free();
  });

  it("gives a member that was idle no more than its share when it comes back", async () => {
    const stage = new Stage();
    const group = new RateLimitGroup(stage.base, limits(100, 100));
    group.setMinShare(100);
    const [a, b] = bufferEventPair(stage.base);
    const [c, d] = bufferEventPair(stage.base);
    for (const bev of [b, d]) {
      bev.joinRateLimitGroup(group);
      bev.enable(EV_READ);
    }
    a.write(new Uint8Array(100_000));
    await stage.during(5050);
    const before = b.input.length;
    c.write(new Uint8Array(100_000));
    await stage.during(2000);
    assertEquals([b.input.length - before, d.input.length], [1000, 1000]);
    await stage.end(a, b, c, d);
    group.free();
  });

  it("lets a member without bytes to read get the end of file", async () => {
    const made = await alignedRig();
    const { bev, peer, base } = made;
    const group = new RateLimitGroup(base, limits(100, 100));
    bev.joinRateLimitGroup(group);
    bev.enable(EV_READ);
    group.decrementRead(100);
    peer.shutdown();
    assertEquals(await made.during(20), ["event READING|EOF"]);
    await made.end();
    group.free();
  });

  it("does not wait for members that have left", async () => {
    const stage = new Stage();
    const group = new RateLimitGroup(stage.base, limits(100, 100, 60_000));
    const [a, b] = bufferEventPair(stage.base);
    b.joinRateLimitGroup(group);
    b.enable(EV_READ);
    a.write("x".repeat(1000));
    assertEquals(stage.base.numEvents(EVENT_BASE_COUNT_ADDED) > 0, true);
    b.leaveRateLimitGroup();
    await stage.settle();
    assertEquals([b.input.length, stage.sim.now()], [1000, 0]);
    await stage.end(a, b);
    group.free();
  });

  it("uses new limits at once when they are changed", async () => {
    const stage = new Stage();
    const { base, sim } = stage;
    const group = new RateLimitGroup(base, limits(100, 100, 60_000));
    const [a, b] = bufferEventPair(base);
    b.joinRateLimitGroup(group);
    b.enable(EV_READ);
    a.write("x".repeat(1000));
    group.setConfig(limits(300, 300, 10));
    await sim.run(base.dispatch());
    assertEquals([b.input.length, sim.now() <= 40], [1000, true]);
    await stage.end(a, b);
    group.free();
  });

  it("whose level is raised lets its members go on at once", async () => {
    const stage = new Stage();
    const group = new RateLimitGroup(stage.base, limits(100, 100));
    const [a, b] = bufferEventPair(stage.base);
    b.joinRateLimitGroup(group);
    b.enable(EV_READ);
    a.write("x".repeat(1000));
    assertEquals(b.input.length, 100);
    group.decrementRead(-900);
    assertEquals(b.input.length, 1000);
    await stage.end(a, b);
    group.free();
  });

  it("also keeps the limits of its members", async () => {
    const stage = new Stage();
    const group = new RateLimitGroup(stage.base, limits(1000, 1000));
    const [a, b] = bufferEventPair(stage.base);
    b.joinRateLimitGroup(group);
    b.setRateLimit(limits(30, 30));
    b.enable(EV_READ);
    a.write("x".repeat(100));
    assertEquals([b.input.length, group.totals.read], [30, 30]);
    await stage.during(210);
    assertEquals([b.input.length, group.totals.read], [90, 90]);
    await stage.end(a, b);
    group.free();
  });

  it("may have members of other bases of the same host", async () => {
    const stage = new Stage();
    const other = new EventBase({ runtime: stage.sim });
    const group = new RateLimitGroup(stage.base, limits(100, 100));
    const [a, b] = bufferEventPair(other);
    b.joinRateLimitGroup(group);
    b.enable(EV_READ);
    a.write("x".repeat(150));
    await stage.during(110);
    assertEquals(b.input.length, 150);
    a.free();
    b.free();
    group.free();
    await stage.end();
  });

  it("cannot be made for a base that was freed", () => {
    const { base } = new Stage();
    base.free();
    assertEquals(codeOf(() => new RateLimitGroup(base, limits(1, 1))), "EV_FREED");
  });
});

describe("a limited pair", () => {
  it("moves as much as both ends allow", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    a.setRateLimit(limits(1, 1000));
    a.decrementWriteLimit(-79);
    b.setRateLimit(limits(50, 50));
    b.enable(EV_READ);
    a.write("x".repeat(200));
    assertEquals(b.input.length, 50);
    await stage.during(50);
    log.take();
    assertEquals(log.received.length, 50);
    await stage.during(100);
    assertEquals(log.received.length, 81, "the 80 of the writer, and the 1 of the tick");
    await stage.during(100);
    assertEquals(log.received.length, 82);
    await stage.end(a, b);
  });

  it("keeps to its limits in close() too, if a loop runs", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    a.setRateLimit(limits(100, 100));
    b.enable(EV_READ);
    a.write("x".repeat(250));
    const closing = a.close();
    await stage.during(150);
    assertEquals(log.received.length, 200);
    await stage.during(100);
    assertEquals([log.received.length, log.take().at(-1)], [250, "b event READING|EOF"]);
    b.free();
    assertEquals(await closing, true);
    await stage.end();
  });
});

describe("limits of both directions and both ends of a connection", () => {
  it("all hold at the same time", async () => {
    const stage = new Stage();
    const { sim, base } = stage;
    const sockets = await socketPair(sim);
    const [near, far] = sockets.map((socket) => new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE));
    assert(near !== undefined && far !== undefined);
    near.setRateLimit(
      new TokenBucketConfig({ readRate: 50, readBurst: 50, writeRate: 200, writeBurst: 200, tickMs: 100 }),
    );
    far.setRateLimit(
      new TokenBucketConfig({ readRate: 80, readBurst: 80, writeRate: 90, writeBurst: 90, tickMs: 100 }),
    );
    await sim.advance(100 - sim.now() % 100);
    for (const bev of [near, far]) {
      bev.enable(EV_READ | EV_WRITE);
      bev.write("x".repeat(5000));
    }
    // By now each has the level of two ticks, and then of ten more.
    await stage.during(950);
    assertEquals([near.input.length, far.input.length], [50 * 10, 80 * 10]);
    await stage.end(near, far);
  });
});
