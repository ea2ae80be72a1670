// Watchers and deferred callbacks: rules W1 to W3 and O1.

import { describe, it } from "node:test";
import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  EV_READ,
  EV_TIMEOUT,
  EVENT_BASE_COUNT_ACTIVE,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_NONBLOCK,
} from "../../../core/flags.ts";
import { EventError } from "../../../core/errors.ts";
import { Deferred } from "../../../core/loop/deferred.ts";
import { EventBase, loopOf } from "../../../core/api/event_base.ts";
import type { Watcher } from "../../../core/loop/watch.ts";
import { BusyHost, Log, world } from "./harness.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

describe("watchers (W1)", () => {
  it("get the watcher as an argument; prepare also gets the wait, and check gets nothing else", async () => {
    const { sim, base } = world();
    const given: unknown[][] = [];
    const check = base.watchCheck((...args: unknown[]) => void given.push(args));
    const prepare = base.watchPrepare((...args: unknown[]) => void given.push(args));
    base.timer(() => {}).add(10);
    await sim.run(base.dispatch());
    assertEquals(given, [[prepare, 10], [check]]);
  });

  it("that free the base, or delete the last event, end the loop", async () => {
    const freed = world();
    freed.base.timer(() => {}).add(100);
    freed.base.watchPrepare(() => freed.base.free());
    assertEquals(await freed.sim.run(freed.base.dispatch()), "empty");
    const { sim, base } = world();
    const event = base.event(null, EV_READ, () => {});
    event.add();
    base.watchPrepare(() => event.del());
    assertEquals(await sim.run(base.dispatch()), "empty");
  });

  it("are functions, on a base that is not freed", () => {
    const { base } = world();
    assertThrows(() => base.watchPrepare(undefined as unknown as () => void), TypeError, "received undefined");
    assertThrows(() => base.watchCheck({} as () => void), TypeError, "received Object");
    base.free();
    assertEquals(assertThrows(() => base.watchPrepare(() => {}), EventError).code, "EV_FREED");
    assertEquals(assertThrows(() => base.watchCheck(() => {}), EventError).code, "EV_FREED");
  });

  it("run in the order of their registration, prepare just before each wait, check just after it", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.watchCheck(log.note("check 1"));
    base.watchPrepare(log.note("prepare 1"));
    base.watchPrepare(log.note("prepare 2"));
    base.watchCheck(log.note("check 2"));
    base.timer(log.note("first")).add(5);
    base.timer(log.note("second")).add(10);
    await sim.run(base.dispatch());
    const around = ["prepare 1", "prepare 2", "check 1", "check 2"];
    assertEquals(log.take(), [...around, "first", ...around, "second"]);
  });

  it("prepare gets the longest wait: the time to the first timer, 0, or undefined for ever", async () => {
    const { sim, base } = world();
    const heard: (number | undefined)[] = [];
    const watcher = base.watchPrepare((self, timeoutMs) => {
      assertStrictEquals(self, watcher);
      heard.push(timeoutMs);
    });
    base.timer(() => {}).add(10);
    base.timer(() => base.timer(() => {}).activate(EV_TIMEOUT)).add(30);
    await sim.run(base.dispatch());
    // The event that the second timer activated ran in the same pass.
    assertEquals(heard.splice(0), [10, 20]);

    const silent = base.event(null, EV_READ, () => {});
    silent.add();
    await sim.run(base.loop(EVLOOP_NONBLOCK));
    assertEquals(heard.splice(0), [0]);
    const done = base.dispatch();
    await sim.advance(0);
    assertEquals(heard.splice(0), [undefined]);
    silent.activate(EV_READ);
    await sim.run(done);

    base.timer(() => {}).activate(EV_TIMEOUT);
    base.timer(() => {}).add(-5);
    await sim.run(base.dispatch());
    assertEquals(heard.splice(0), [0]);
  });

  it("prepare gets the wait according to the real clock, after a callback that took long (T8)", async () => {
    const sim = simRuntime();
    const busy = new BusyHost(sim);
    const base = new EventBase({ runtime: busy });
    const heard: (number | undefined)[] = [];
    base.watchPrepare((_, timeoutMs) => heard.push(timeoutMs));
    base.timer(() => busy.block(15)).add(10);
    base.timer(() => {}).add(40);
    await sim.run(base.dispatch());
    assertEquals(heard, [10, 15]);
  });

  it("check gets the watcher", async () => {
    const { sim, base } = world();
    const heard: Watcher[] = [];
    const watcher = base.watchCheck((self) => heard.push(self));
    base.timer(() => {}).activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    assertEquals(heard.length, 1);
    assertStrictEquals(heard[0], watcher);
  });

  it("may add and activate events: those of a prepare watcher count for the next wait", async () => {
    const { sim, base } = world();
    const log = new Log();
    const prepare = base.watchPrepare(() => {
      prepare.free();
      base.timer(log.note("timer")).add(5);
    });
    const check = base.watchCheck(() => {
      check.free();
      base.timer(log.note("active")).activate(EV_TIMEOUT);
    });
    base.timer(log.note("late")).add(50);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["active", "timer", "late"]);
  });

  it("that throw make dispatch() reject, and nothing else is lost", async () => {
    for (const kind of ["watchPrepare", "watchCheck"] as const) {
      const { sim, base } = world();
      const log = new Log();
      const failure = new Error(kind);
      const watcher = base[kind](() => {
        throw failure;
      });
      base.timer(log.note("active")).activate(EV_TIMEOUT);
      base.timer(log.note("timer")).add(5);
      assertStrictEquals(await sim.run(base.dispatch().catch((error) => error)), failure);
      watcher.free();
      assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["active", "timer"]]);
    }
  });
});

describe("watchers on an empty base (W2)", () => {
  it("are not called: the loop ends at once", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.watchPrepare(log.note("prepare"));
    base.watchCheck(log.note("check"));
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", []]);
    assertEquals(await sim.run(base.loop(EVLOOP_NONBLOCK)), "empty");
    assertEquals([log.take(), base.numEvents(EVENT_BASE_COUNT_ADDED)], [[], 0]);
  });
});

describe("freeing watchers (W3)", () => {
  it("inside watchers is safe: itself, an earlier one, a later one", async () => {
    for (const kind of ["watchPrepare", "watchCheck"] as const) {
      const { sim, base } = world();
      const log = new Log();
      const first = base[kind](log.note("first"));
      const second = base[kind](() => {
        log.lines.push("second");
        first.free();
        second.free();
        third.free();
      });
      const third = base[kind](log.note("third"));
      base[kind](log.note("fourth"));
      base.timer(() => {}).add(1);
      base.timer(() => {}).add(2);
      await sim.run(base.dispatch());
      assertEquals(log.take(), ["first", "second", "fourth", "fourth"], kind);
      second.free();
    }
  });

  it("a watcher that is registered inside a watcher runs from the next wait on", async () => {
    const { sim, base } = world();
    const log = new Log();
    const first = base.watchPrepare(() => {
      first.free();
      log.lines.push("first");
      base.watchPrepare(log.note("second"));
    });
    base.timer(() => {}).add(1);
    base.timer(() => {}).add(2);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["first", "second"]);
  });

  it("happens with the base, in a watcher too", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.watchPrepare(log.note("prepare"));
    base.watchCheck(() => {
      log.lines.push("check");
      base.free();
    });
    base.watchCheck(log.note("second check"));
    base.timer(log.note("event")).activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["prepare", "check"]]);
  });
});

describe("deferred callbacks (O1)", () => {
  it("run once in the loop however often they were scheduled, at the middle priority", async () => {
    const { sim, base } = world({ priorities: 3 });
    const log = new Log();
    const deferred = new Deferred(loopOf(base), log.note("deferred"));
    for (let i = 0; i < 3; i++) deferred.schedule();
    const low = base.timer(log.note("low"));
    low.priority = 2;
    low.activate(EV_TIMEOUT);
    const urgent = base.timer(log.note("urgent"));
    urgent.priority = 0;
    urgent.activate(EV_TIMEOUT);
    assertEquals(log.take(), []);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["urgent", "deferred", "low"]);
  });

  it("run in this pass up to 33; the others run in the next", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.watchCheck(log.note("poll"));
    base.timer(() => {
      for (let i = 0; i < 50; i++) new Deferred(loopOf(base), log.note("deferred")).schedule();
    }).activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    const polls: number[] = [];
    for (const line of log.take()) {
      if (line === "poll") polls.push(0);
      else polls[polls.length - 1] = (polls.at(-1) ?? 0) + 1;
    }
    assertEquals(polls, [33, 17]);
  });

  it("can be cancelled, those of the next pass too, and scheduled again from inside", async () => {
    const { sim, base } = world();
    const log = new Log();
    const all = Array.from({ length: 40 }, (_, i) => new Deferred(loopOf(base), log.note(`${i}`)));
    for (const deferred of all) deferred.schedule();
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ACTIVE), 40);
    for (const i of [0, 35]) all[i]?.cancel();
    let again = 2;
    const repeated = new Deferred(loopOf(base), () => {
      log.lines.push("repeated");
      if (--again > 0) repeated.schedule();
    });
    repeated.schedule();
    await sim.run(base.dispatch());
    const expected = all.map((_, i) => `${i}`).filter((name) => name !== "0" && name !== "35");
    assertEquals(log.take(), [...expected, "repeated", "repeated"]);
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
  });

  it("scheduled from outside wake a loop that waits, all of them", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(() => base.loopBreak()).add(100);
    const done = base.dispatch();
    await sim.advance(10);
    for (let i = 0; i < 50; i++) new Deferred(loopOf(base), log.note("deferred")).schedule();
    await sim.advance(1);
    assertEquals(log.take().length, 50);
    await sim.run(done);
  });
});
