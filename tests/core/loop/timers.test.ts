// Timers, the clock, common timeouts and once-events: rules T1 to T10.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import {
  EV_CLOSED,
  EV_PERSIST,
  EV_READ,
  EV_SIGNAL,
  EV_TIMEOUT,
  EV_WRITE,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_ONCE,
} from "../../../core/flags.ts";
import type { CommonTimeout } from "../../../core/api/common_timeout.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { EventHandle } from "../../../core/api/event_handle.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { socketPair } from "../socket/pairs.ts";
import { BusyHost, Log, nothingLeft, world } from "./harness.ts";

describe("a timer (T1)", () => {
  it("fires at its deadline, a fraction of a millisecond included, and never before (T9)", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    for (const ms of [3.25, 1, 0.125, 1000]) base.timer(() => seen.push(sim.now())).add(ms);
    await sim.run(base.dispatch());
    assertEquals(seen, [0.125, 1, 3.25, 1000]);
  });

  it("of 0 or less fires in the next step that expires timers", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("one")).add(1);
    base.timer(log.note("zero")).add(0);
    base.timer(log.note("negative")).add(-50);
    await sim.run(base.loop(EVLOOP_ONCE));
    assertEquals([log.take(), sim.now()], [["negative", "zero"], 0]);
  });

  it("of 0 that a callback adds needs no timer of the runtime, which would take a millisecond", async () => {
    const sim = simRuntime();
    const host = new BusyHost(sim);
    let asked = 0;
    host.setTimer = (): never => {
      asked++;
      throw new Error("not needed");
    };
    const base = new EventBase({ runtime: host });
    let left = 10;
    const timer = base.timer(() => {
      if (--left > 0) timer.add(0);
    });
    timer.add(0);
    assertEquals([await sim.run(base.dispatch()), left, asked], ["empty", 0, 0]);
  });

  it("with a timeout that is not a finite number is refused", () => {
    const { base } = world();
    const timer = base.timer(() => {});
    for (const ms of [NaN, Infinity, -Infinity]) assertThrows(() => timer.add(ms), RangeError);
    assertThrows(() => timer.add("5" as unknown as number), TypeError);
    assertThrows(() => timer.add(null as unknown as number), TypeError);
    assertEquals(timer.pending(EV_TIMEOUT), 0);
  });

  it("moves when it is added again, earlier or later", async () => {
    const { sim, base } = world();
    const seen: string[] = [];
    const later = base.timer(() => seen.push(`later at ${sim.now()}`));
    const earlier = base.timer(() => seen.push(`earlier at ${sim.now()}`));
    later.add(10);
    later.add(30);
    earlier.add(30);
    earlier.add(10);
    await sim.run(base.dispatch());
    assertEquals(seen, ["earlier at 10", "later at 30"]);
  });

  it("of a year works, although no runtime's timer is that long", async () => {
    const { sim, base } = world();
    const year = 365 * 24 * 3600 * 1000;
    base.timer(() => {}).add(year);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["empty", year]);
  });

  it("added from outside wakes a loop that sleeps longer", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    base.timer(() => seen.push(sim.now())).add(1000);
    const done = base.dispatch();
    await sim.advance(10);
    base.timer(() => seen.push(sim.now())).add(5);
    await sim.run(done);
    assertEquals(seen, [15, 1000]);
  });

  it("leaves no timer of the runtime behind", async () => {
    const { sim, base } = world();
    const timer = base.timer(() => {});
    timer.add(1000);
    base.timer(() => timer.del()).add(5);
    await sim.run(base.dispatch());
    assertEquals([sim.now(), sim.pending], [5, 0]);
  });
});

describe("a persistent timer (T2)", () => {
  it("goes on from its own deadlines and does not drift", async () => {
    const sim = simRuntime();
    const busy = new BusyHost(sim);
    const base = new EventBase({ runtime: busy });
    const seen: number[] = [];
    const event = base.event(null, EV_PERSIST, () => {
      seen.push(busy.now());
      busy.block(3);
      if (seen.length === 4) event.del();
    });
    event.add(10);
    await sim.run(base.dispatch());
    assertEquals(seen, [10, 20, 30, 40]);
  });

  it("reports missed ticks once", async () => {
    const sim = simRuntime();
    const busy = new BusyHost(sim);
    const base = new EventBase({ runtime: busy });
    const seen: number[] = [];
    const event = base.event(null, EV_PERSIST, () => {
      seen.push(busy.now());
      if (seen.length === 1) busy.block(300);
      if (seen.length === 4) event.del();
    });
    event.add(100);
    await sim.run(base.dispatch());
    assertEquals(seen, [100, 400, 500, 600]);
  });

  it("activated by hand for I/O goes on from now", async () => {
    const { sim, base } = world();
    const seen: [number, number][] = [];
    const event = base.event(null, EV_PERSIST, (_, what) => {
      seen.push([sim.now(), what]);
      if (seen.length === 3) event.del();
    });
    event.add(100);
    base.timer(() => event.activate(EV_READ)).add(30);
    await sim.run(base.dispatch());
    assertEquals(seen, [[30, EV_READ], [130, EV_TIMEOUT], [230, EV_TIMEOUT]]);
  });

  it("activated by hand for its timeout keeps its schedule, alone and in a common timeout", async () => {
    for (const common of [false, true]) {
      const { sim, base } = world();
      const seen: [number, number][] = [];
      const event = base.event(null, EV_PERSIST, (_, what) => {
        seen.push([sim.now(), what]);
        if (seen.length === 2) event.activate(EV_TIMEOUT);
        if (seen.length === 5) event.del();
      });
      event.add(common ? base.initCommonTimeout(100) : 100);
      event.activate(EV_TIMEOUT);
      base.timer(() => event.activate(EV_TIMEOUT)).add(30);
      await sim.run(base.dispatch());
      assertEquals(seen.map(([at]) => at), [0, 30, 30, 100, 200]);
      assertEquals(new Set(seen.map(([, what]) => what)), new Set([EV_TIMEOUT]));
    }
  });

  it("activated by hand for I/O and its timeout goes on from now", async () => {
    const { sim, base } = world();
    const seen: [number, number][] = [];
    const event = base.event(null, EV_PERSIST, (_, what) => {
      seen.push([sim.now(), what]);
      if (seen.length === 2) event.del();
    });
    event.add(100);
    base.timer(() => event.activate(EV_READ | EV_TIMEOUT)).add(30);
    await sim.run(base.dispatch());
    assertEquals(seen, [[30, EV_READ | EV_TIMEOUT], [130, EV_TIMEOUT]]);
  });

  it("of 0 or less fires once and is not re-armed (T3)", async () => {
    for (const ms of [0, -5]) {
      const { sim, base } = world();
      const log = new Log();
      const event = base.event(null, EV_PERSIST, log.note("once"));
      event.add(ms);
      assertEquals([await sim.run(base.dispatch()), log.take(), event.pending(EV_TIMEOUT)], ["empty", ["once"], 0]);
    }
  });

  it("forgets its interval when it is deleted: activated later it is not re-armed (T4)", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.event(null, EV_PERSIST, log.note("tick"));
    event.add(10);
    event.del();
    event.activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), log.take(), event.expiresAt], ["empty", ["tick"], undefined]);
  });
});

describe("equal deadlines (T5)", () => {
  it("fire in the order in which they were added", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    const timers = Array.from({ length: 100 }, (_, i) => base.timer(() => seen.push(i)));
    for (const timer of timers) timer.add(5);
    // It was added again, so it fires last.
    timers[0]?.add(5);
    await sim.run(base.dispatch());
    assertEquals(seen, [...Array.from({ length: 99 }, (_, i) => i + 1), 0]);
  });

  it("fire in that order when some are in a common timeout", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    const common = base.initCommonTimeout(5);
    for (let i = 0; i < 50; i++) base.timer(() => seen.push(i)).add(i % 3 === 0 ? 5 : common);
    await sim.run(base.dispatch());
    assertEquals(seen, Array.from({ length: 50 }, (_, i) => i));
  });
});

describe("common timeouts (T6)", () => {
  it("are one object for each duration, with at most 256 of them", () => {
    const { base } = world();
    const made: CommonTimeout[] = [];
    for (let ms = 0; ms < 256; ms++) made.push(base.initCommonTimeout(ms));
    for (let ms = 0; ms < 256; ms++) assertStrictEquals(base.initCommonTimeout(ms), made[ms]);
    assertEquals(made[7]?.ms, 7);
    const error = assertThrows(() => base.initCommonTimeout(256), EventError) as EventError;
    assertEquals(error.code, "EV_LIMIT");
    for (const ms of [-1, NaN, Infinity]) assertThrows(() => base.initCommonTimeout(ms), RangeError);
    assertThrows(() => base.initCommonTimeout("5" as unknown as number), TypeError);
  });

  it("work with I/O, persistence and deletion, and events move between them and the heap", async () => {
    const { sim, base } = world();
    const seen: string[] = [];
    const ten = base.initCommonTimeout(10);
    const twenty = base.initCommonTimeout(20);
    const tick = base.event(null, EV_READ | EV_PERSIST, () => {
      seen.push(`tick ${sim.now()}`);
      if (sim.now() >= 30) tick.del();
    });
    tick.add(ten);
    const moved = base.timer(() => seen.push(`moved ${sim.now()}`));
    moved.add(ten);
    moved.add(15);
    moved.add(twenty);
    const back = base.timer(() => seen.push(`back ${sim.now()}`));
    back.add(twenty);
    back.add(12);
    const gone = base.timer(() => seen.push("gone"));
    gone.add(ten);
    gone.del();
    assertEquals([tick.expiresAt, moved.expiresAt, back.expiresAt, gone.expiresAt], [10, 20, 12, undefined]);
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 4);
    await sim.run(base.dispatch());
    assertEquals(seen, ["tick 10", "back 12", "moved 20", "tick 20", "tick 30"]);
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
  });

  it("of another base are refused", () => {
    const { sim, base } = world();
    const other = new EventBase({ runtime: sim });
    other.initCommonTimeout(5);
    base.initCommonTimeout(5);
    assertThrows(() => base.timer(() => {}).add(other.initCommonTimeout(5)), RangeError);
  });

  it("keep thousands of events in order while they come and go", async () => {
    const { sim, base } = world();
    const idle = base.initCommonTimeout(50);
    const fired: number[] = [];
    const events = Array.from({ length: 2000 }, (_, i) => base.timer(() => fired.push(i)));
    for (const event of events) event.add(idle);
    // Every third is restarted later, every fifth deleted.
    base.timer(() => events.forEach((event, i) => i % 3 === 0 && event.add(idle))).add(10);
    base.timer(() => events.forEach((event, i) => i % 5 === 0 && event.del())).add(20);
    await sim.run(base.dispatch());
    const kept = events.map((_, i) => i).filter((i) => i % 5 !== 0);
    assertEquals(fired, [...kept.filter((i) => i % 3 !== 0), ...kept.filter((i) => i % 3 === 0)]);
    assertEquals(sim.now(), 60);
  });
});

describe("the time of the loop (T7)", () => {
  it("stands still in callbacks until updateCacheTime(); deadlines count from the clock, read once in a callback", async () => {
    const sim = simRuntime();
    const busy = new BusyHost(sim);
    const base = new EventBase({ runtime: busy });
    const seen: number[] = [];
    base.timer(() => {
      busy.block(50);
      seen.push(base.now());
      const early = base.timer(() => {});
      early.add(10);
      seen.push(early.expiresAt ?? NaN);
      busy.block(30);
      early.add(10);
      seen.push(early.expiresAt ?? NaN);
      base.updateCacheTime();
      seen.push(base.now());
      early.add(10);
      seen.push(early.expiresAt ?? NaN);
      early.free();
    }).add(10);
    await sim.run(base.dispatch());
    assertEquals(seen, [10, 70, 70, 90, 100]);
  });

  it("is the runtime's clock outside of callbacks", async () => {
    const { sim, base } = world();
    await sim.advance(7);
    assertEquals(base.now(), 7);
    base.updateCacheTime();
    base.timer(() => {}).add(5);
    const done = base.dispatch();
    await sim.advance(3);
    assertEquals(base.now(), 10);
    await sim.run(done);
  });
});

describe("after a callback that took long (T8)", () => {
  it("the next timers are not late by that time: the wait is computed from the real clock", async () => {
    const sim = simRuntime();
    const busy = new BusyHost(sim);
    const base = new EventBase({ runtime: busy });
    const seen: number[] = [];
    const event = base.event(null, EV_PERSIST, () => {
      seen.push(busy.now());
      if (seen.length === 2) busy.block(75);
      if (seen.length === 5) event.del();
    });
    event.add(20);
    await sim.run(base.dispatch());
    assertEquals(seen, [20, 40, 115, 135, 155]);
  });
});

describe("a runtime's timer that fires early (T9)", () => {
  it("makes no timer fire before its time", async () => {
    const sim = simRuntime();
    const host = new BusyHost(sim);
    const setTimer = host.setTimer.bind(host);
    host.setTimer = (deadline, fn) => setTimer(deadline - (deadline - host.now()) / 2, fn);
    const base = new EventBase({ runtime: host });
    const seen: number[] = [];
    for (const ms of [8, 16]) base.timer(() => seen.push(sim.now())).add(ms);
    await sim.run(base.dispatch());
    assert(seen[0] !== undefined && seen[0] >= 8 && seen[0] < 8.001);
    assert(seen[1] !== undefined && seen[1] >= 16 && seen[1] < 16.001);
  });
});

describe("base.once() (T10)", () => {
  it("takes a socket or null", () => {
    const { base } = world();
    for (const [source, shown] of [[undefined, "undefined"], ["SIGTERM", '"SIGTERM"'], [{}, "Object"]]) {
      assertThrows(
        () => base.once(source as unknown as null, EV_READ, () => {}),
        TypeError,
        `received ${shown}`,
      );
    }
  });

  it("with EV_TIMEOUT and no time is active at once, in the order of the calls", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.once(null, EV_TIMEOUT, log.note("a"));
    base.once(null, EV_TIMEOUT, log.note("b"), 0);
    base.once(null, EV_TIMEOUT, log.note("c"));
    assertEquals(log.take(), []);
    assertEquals([await sim.run(base.dispatch()), log.take(), sim.now()], ["empty", ["a", "b", "c"], 0]);
  });

  it("with a time waits so long", async () => {
    const { sim, base } = world();
    const seen: unknown[] = [];
    base.once(null, EV_TIMEOUT, (source, what, event) => {
      seen.push(source, what, sim.now(), event instanceof EventHandle, event.initialized);
    }, 10);
    await sim.run(base.dispatch());
    assertEquals(seen, [null, EV_TIMEOUT, 10, true, false]);
  });

  it("on a socket gives READ or TIMEOUT, once", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const seen: [string, number, number][] = [];
    const begin = sim.now();
    const note = (name: string) => (_: unknown, what: number): void => void seen.push([name, what, sim.now() - begin]);
    base.once(server, EV_READ, note("read"), 50);
    base.once(client, EV_READ, note("nothing"), 50);
    base.once(server, EV_READ | EV_WRITE, note("write"));
    base.once(server, EV_READ | EV_TIMEOUT, note("read|timeout"), 50);
    base.once(server, EV_CLOSED, note("closed"), 20);
    client.send("x");
    await sim.run(base.dispatch());
    assertEquals(seen, [
      ["write", EV_WRITE, 0],
      ["read", EV_READ, 1],
      ["read|timeout", EV_READ, 1],
      ["closed", EV_TIMEOUT, 20],
      ["nothing", EV_TIMEOUT, 50],
    ]);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });

  it("refuses other flags, times and callbacks", () => {
    const { base } = world();
    for (const what of [0, EV_SIGNAL, EV_PERSIST, EV_READ | EV_PERSIST, EV_READ | EV_SIGNAL, 0x100, 1.5]) {
      assertThrows(() => base.once(null, what, () => {}), RangeError);
    }
    assertThrows(() => base.once(null, EV_TIMEOUT, () => {}, NaN), RangeError);
    assertThrows(() => base.once(null, EV_TIMEOUT, null as unknown as () => void), TypeError);
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
  });

  it("that never fires is removed with the base", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    base.once(server, EV_READ, () => {});
    base.once(null, EV_TIMEOUT, () => {}, 10);
    base.free();
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});
