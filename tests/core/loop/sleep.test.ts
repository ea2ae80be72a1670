// sleep() and EventBase.interval(): waiting for time, in virtual time.

import { describe, it } from "node:test";
import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { sleep } from "../../../core/api/sleep.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { setDefaultRuntime } from "../../../core/runtime.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

describe("sleep()", () => {
  it("resolves at its time, without a loop, and leaves no timer", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const woken: number[] = [];
    for (const ms of [3_600_000, 10, 0]) void sleep(ms, { base }).then(() => woken.push(sim.now()));
    await sim.advance(3_600_000);
    assertEquals(woken, [0, 10, 3_600_000]);
    assertEquals(sim.pending, 0);
  });

  it("uses the default runtime without a base", async () => {
    const sim = simRuntime();
    setDefaultRuntime(sim);
    await sim.run(sleep(5));
    assertEquals(sim.now(), 5);
  });

  it("rejects with the signal's reason, before and while it waits, and forgets the timer", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const stop = new AbortController();
    const reason = new Error("enough");
    const waiting = sleep(1000, { base, signal: stop.signal });
    sim.setTimer(10, () => stop.abort(reason));
    assertStrictEquals(await sim.run(waiting.catch((error) => error)), reason);
    assertEquals([sim.now(), sim.pending], [10, 0]);
    assertStrictEquals(await sim.run(sleep(1, { base, signal: stop.signal }).catch((error) => error)), reason);
    assertEquals(sim.pending, 0);
  });

  it("forgets the signal when it is over", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    let listeners = 0;
    const signal = {
      aborted: false,
      addEventListener: () => void listeners++,
      removeEventListener: () => void listeners--,
    };
    await sim.run(sleep(5, { base, signal }));
    assertEquals(listeners, 0);
  });

  it("refuses a value that is not a time", async () => {
    const base = new EventBase({ runtime: simRuntime() });
    for (const ms of [-1, NaN, Infinity]) await assertRejects(() => sleep(ms, { base }), RangeError);
    await assertRejects(() => sleep("1" as unknown as number, { base }), TypeError);
  });
});

describe("EventBase.interval()", () => {
  it("calls at equal distances until it is freed, and keeps the loop running until then", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const at: number[] = [];
    const tick = base.interval(() => {
      at.push(sim.now());
      if (at.length === 4) tick.free();
    }, 250);
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(at, [250, 500, 750, 1000]);
    assertEquals(sim.pending, 0);
  });

  it("does not keep the loop running when it is unref'd", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    base.interval(() => {}, 1).unref();
    base.timer(() => {}).add(10);
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(sim.now(), 10);
  });

  it("refuses an interval that is not above 0", () => {
    const base = new EventBase({ runtime: simRuntime() });
    for (const ms of [0, -1, NaN, Infinity]) assertThrows(() => base.interval(() => {}, ms), RangeError);
    assertEquals(base.numEvents(7), 0);
  });
});
