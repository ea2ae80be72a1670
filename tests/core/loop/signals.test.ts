// Signals as events.

import { describe, it } from "node:test";
import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EV_PERSIST, EV_SIGNAL, EV_TIMEOUT, EVENT_BASE_COUNT_ADDED, EVLOOP_NONBLOCK } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { Log, nothingLeft, world } from "./harness.ts";

describe("base.signal()", () => {
  it("is persistent: it is reported at every raise, while it is added", async () => {
    const { sim, base } = world();
    const seen: unknown[] = [];
    const event = base.signal("SIGTERM", (source, what, self) => seen.push(source, what, self === event));
    assertEquals(event.events, EV_SIGNAL | EV_PERSIST);
    event.add();
    assertEquals([event.pending(EV_SIGNAL), base.numEvents(EVENT_BASE_COUNT_ADDED)], [EV_SIGNAL, 1]);
    const done = base.dispatch();
    await sim.advance(1);
    for (let i = 0; i < 2; i++) {
      sim.raise("SIGTERM");
      await sim.advance(1);
    }
    assertEquals(seen, ["SIGTERM", EV_SIGNAL, true, "SIGTERM", EV_SIGNAL, true]);
    event.del();
    assertEquals(await sim.run(done), "empty");
    sim.raise("SIGTERM");
    await sim.advance(1);
    assertEquals(seen.length, 6);
    await nothingLeft({ sim, base });
  });

  it("that was raised several times in one pass is reported as often", async () => {
    const { sim, base } = world();
    const log = new Log();
    const a = base.signal("SIGUSR1", log.note("a"));
    const b = base.signal("SIGUSR1", log.note("b"));
    for (const event of [a, b]) event.add();
    for (let i = 0; i < 3; i++) sim.raise("SIGUSR1");
    await sim.advance(0);
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), log.take()], ["done", ["a", "b", "a", "b", "a", "b"]]);
    base.free();
    await nothingLeft({ sim, base });
  });

  it("that deletes itself does not get the other raises", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.signal("SIGUSR1", () => {
      log.lines.push("once");
      event.del();
    });
    event.add();
    for (let i = 0; i < 3; i++) sim.raise("SIGUSR1");
    await sim.advance(0);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["once"]]);
    // Also not after it is added again.
    event.add();
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), log.take()], ["done", []]);
    event.free();
  });

  it("that breaks the loop or throws gets the other raises in the next dispatch", async () => {
    const { sim, base } = world();
    const log = new Log();
    const failure = new Error("in a signal's callback");
    const event = base.signal("SIGUSR1", () => {
      log.lines.push("raised");
      if (log.lines.length === 1) throw failure;
      base.loopBreak();
    });
    event.add();
    for (let i = 0; i < 3; i++) sim.raise("SIGUSR1");
    await sim.advance(0);
    assertStrictEquals(await sim.run(base.dispatch().catch((error) => error)), failure);
    assertEquals(log.lines.length, 1);
    assertEquals([await sim.run(base.dispatch()), log.lines.length], ["break", 2]);
    assertEquals([await sim.run(base.dispatch()), log.lines.length], ["break", 3]);
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), log.lines.length], ["done", 3]);
    event.free();
  });

  it("without EV_PERSIST is reported once", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.event("SIGUSR2", EV_SIGNAL, log.note("once"));
    event.add();
    for (let i = 0; i < 3; i++) sim.raise("SIGUSR2");
    await sim.advance(0);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["once"]]);
    event.add();
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), log.take()], ["done", []]);
    event.free();
  });

  it("has a timeout like any event", async () => {
    const { sim, base } = world();
    const seen: [number, number][] = [];
    const event = base.signal("SIGHUP", (_, what) => {
      seen.push([sim.now(), what]);
      if (what === EV_TIMEOUT) event.del();
    });
    event.add(10);
    const done = base.dispatch();
    await sim.advance(4);
    sim.raise("SIGHUP");
    await sim.run(done);
    assertEquals(seen, [[4, EV_SIGNAL], [14, EV_TIMEOUT]]);
  });

  it("that the host can't catch makes add() throw EV_UNSUPPORTED, and nothing is added", async () => {
    const { sim, base } = world();
    for (const name of ["SIGKILL", "SIGSTOP", "SIGNONSENSE", ""]) {
      const event = base.signal(name, () => {});
      assertEquals((assertThrows(() => event.add(5), EventError) as EventError).code, "EV_UNSUPPORTED");
      assertEquals([event.pending(EV_SIGNAL | EV_TIMEOUT), base.numEvents(EVENT_BASE_COUNT_ADDED)], [0, 0]);
    }
    assertEquals(await sim.run(base.dispatch()), "empty");
  });

  it("wakes bases with several priorities too, and each base that watches it", async () => {
    const { sim, base } = world({ priorities: 3 });
    const other = new EventBase({ runtime: sim });
    const log = new Log();
    const ends = [base, other].map((each, i) => {
      const event = each.signal("SIGINT", () => {
        log.lines.push(`base ${i}`);
        event.del();
      });
      event.add();
      return each.dispatch();
    });
    await sim.advance(1);
    sim.raise("SIGINT");
    await sim.run(Promise.all(ends));
    assertEquals(log.take().sort(), ["base 0", "base 1"]);
    await nothingLeft({ sim, base });
  });

  it("raised while no loop runs is reported in the next loop", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.signal("SIGTERM", () => {
      log.lines.push("told");
      event.del();
    });
    event.add();
    sim.raise("SIGTERM");
    await sim.advance(10);
    assertEquals(log.take(), []);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["told"]]);
  });

  it("on another host of the network is another signal", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.signal("SIGTERM", log.note("here"));
    event.add();
    const done = base.loop(EVLOOP_NONBLOCK);
    sim.host("elsewhere").raise("SIGTERM");
    await sim.advance(1);
    assertEquals([await sim.run(done), log.take()], ["done", []]);
    base.free();
  });
});
