// How a loop begins, continues and ends: rules L1 to L9.

import { describe, it } from "node:test";
import { assert, assertEquals, assertFalse, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import {
  EV_PERSIST,
  EV_READ,
  EV_TIMEOUT,
  EVENT_BASE_COUNT_ACTIVE,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_NO_EXIT_ON_EMPTY,
  EVLOOP_NONBLOCK,
  EVLOOP_ONCE,
} from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { EventHandle } from "../../../core/api/event_handle.ts";
import { socketPair } from "../socket/pairs.ts";
import { Log, nothingLeft, world } from "./harness.ts";

describe("one iteration of the loop (L1)", () => {
  it("has this order: prepare watchers, wait, check watchers, sockets, timers, callbacks", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const log = new Log();
    base.watchPrepare(log.note("prepare"));
    base.watchCheck(log.note("check"));
    base.event(server, EV_READ, log.note("socket")).add();
    base.timer(log.note("timer")).add(1);
    base.timer(log.note("active")).activate(EV_TIMEOUT);
    client.send("x");
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(log.take(), ["prepare", "check", "active", "prepare", "check", "socket", "timer"]);
    client.close();
    server.close();
    base.free();
    await nothingLeft({ sim, base });
  });

  it("calls nothing inside dispatch() itself", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.watchPrepare(log.note("prepare"));
    base.timer(log.note("timer")).activate(EV_TIMEOUT);
    const done = base.dispatch();
    assertEquals(log.take(), []);
    await sim.run(done);
    assertEquals(log.take(), ["prepare", "timer"]);
  });

  it("clears gotExit and gotBreak at the beginning, not at the end", async () => {
    const { sim, base } = world();
    base.timer(() => base.loopBreak()).activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), base.gotBreak, base.gotExit], ["break", true, false]);
    base.loopExit();
    assertEquals([await sim.run(base.dispatch()), base.gotBreak, base.gotExit], ["exit", false, true]);
    assertEquals([await sim.run(base.dispatch()), base.gotBreak, base.gotExit], ["empty", false, false]);
  });

  it("refuses unknown flags with a RangeError", async () => {
    const { base } = world();
    for (const flags of [8, -1, 1.5, NaN]) await assertRejects(() => base.loop(flags), RangeError);
    assertEquals(await world().sim.run(Promise.resolve("nothing runs")), "nothing runs");
  });
});

describe("one priority level in each pass (L2)", () => {
  it("runs lower levels only when every higher one is empty after a fresh poll", async () => {
    const { sim, base } = world({ priorities: 3 });
    const log = new Log();
    base.watchCheck(log.note("poll"));
    const events = [2, 1, 0].map((priority) => {
      const event = base.timer(log.note(`level ${priority}`));
      event.priority = priority;
      return event;
    });
    for (const event of events) event.activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["poll", "level 0", "poll", "level 1", "poll", "level 2"]);
  });

  it("first runs events of a higher level that a poll finds", async () => {
    const { sim, base } = world({ priorities: 2 });
    const log = new Log();
    const urgent = base.timer(log.note("urgent"));
    urgent.priority = 0;
    for (const name of ["a", "b"]) base.timer(log.note(name)).activate(EV_TIMEOUT);
    base.watchCheck(() => {
      if (urgent.initialized) urgent.activate(EV_TIMEOUT);
      urgent.free();
    });
    urgent.add(0);
    const inTime = base.timer(log.note("in time"));
    inTime.priority = 0;
    inTime.add(0);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["in time", "a", "b"]);
  });
});

describe("the flags of loop() (L3)", () => {
  it("ONCE runs all levels that are active, each after its own poll", async () => {
    const { sim, base } = world({ priorities: 3 });
    const log = new Log();
    base.watchCheck(log.note("poll"));
    for (const priority of [0, 1, 2]) {
      const event = base.timer(log.note(`level ${priority}`));
      event.priority = priority;
      event.activate(EV_TIMEOUT);
    }
    assertEquals(await sim.run(base.loop(EVLOOP_ONCE)), "done");
    assertEquals(log.take(), ["poll", "level 0", "poll", "level 1", "poll", "level 2"]);
  });

  it("ONCE waits until a callback has run, and does not wait for later ones", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("first")).add(10);
    base.timer(log.note("second")).add(20);
    assertEquals([await sim.run(base.loop(EVLOOP_ONCE)), sim.now(), log.take()], ["done", 10, ["first"]]);
    assertEquals([await sim.run(base.loop(EVLOOP_ONCE)), sim.now(), log.take()], ["done", 20, ["second"]]);
    assertEquals(await sim.run(base.loop(EVLOOP_ONCE)), "empty");
  });

  it("NONBLOCK on an empty base gives empty", async () => {
    const { sim, base } = world();
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), sim.now()], ["empty", 0]);
  });

  it("NONBLOCK with a timer in the future gives done without waiting", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("timer")).add(10);
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), sim.now(), log.take()], ["done", 0, []]);
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(log.take(), ["timer"]);
  });

  it("NONBLOCK runs active events, iterates again and finds the base empty", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("active")).activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), log.take()], ["empty", ["active"]]);
  });

  it("ONCE|NONBLOCK runs active events and gives done", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("active")).activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.loop(EVLOOP_ONCE | EVLOOP_NONBLOCK)), log.take()], ["done", ["active"]]);
    base.timer(log.note("later")).add(5);
    assertEquals([await sim.run(base.loop(EVLOOP_ONCE | EVLOOP_NONBLOCK)), log.take()], ["done", []]);
  });

  it("NONBLOCK finds bytes that have arrived at a socket", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const log = new Log();
    base.event(server, EV_READ | EV_PERSIST, () => {
      log.lines.push("read");
      server.recv(new Uint8Array(10));
    }).add();
    client.send("x");
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), log.take()], ["done", []]);
    await sim.advance(1);
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), log.take()], ["done", ["read"]]);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });

  it("NO_EXIT_ON_EMPTY|NONBLOCK on an empty base gives done", async () => {
    const { sim, base } = world();
    assertEquals(await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY | EVLOOP_NONBLOCK)), "done");
  });

  it("NO_EXIT_ON_EMPTY on an empty base waits for loopExit(20)", async () => {
    const { sim, base } = world();
    base.loopExit(20);
    assertEquals([await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY)), sim.now()], ["exit", 20]);
  });

  it("NO_EXIT_ON_EMPTY goes on after the last event, and takes new ones from outside", async () => {
    const { sim, base } = world();
    const log = new Log();
    const done = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    await sim.advance(100);
    base.timer(log.note("late")).add(10);
    await sim.advance(100);
    assertEquals(log.take(), ["late"]);
    base.loopBreak();
    assertEquals(await sim.run(done), "break");
  });

  it("without flags an empty base gives empty at once", async () => {
    const { sim, base } = world();
    assertEquals([await sim.run(base.loop()), await sim.run(base.dispatch()), sim.now()], ["empty", "empty", 0]);
  });
});

describe("loopBreak() (L4)", () => {
  it("leaves the other active events for the next dispatch, in their places", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(() => {
      log.lines.push("a");
      base.loopBreak();
    }).activate(EV_TIMEOUT);
    base.timer(log.note("b")).activate(EV_TIMEOUT);
    base.timer(log.note("c")).activate(EV_TIMEOUT);
    assertEquals(await sim.run(base.dispatch()), "break");
    assertEquals([log.take(), base.gotBreak], [["a"], true]);
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals([log.take(), base.gotBreak], [["b", "c"], false]);
  });

  it("before the loop has no effect", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.loopBreak();
    base.timer(log.note("a")).activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), log.take(), base.gotBreak], ["empty", ["a"], false]);
  });

  it("from outside ends a loop that waits", async () => {
    const { sim, base } = world();
    const timer = base.timer(() => {});
    timer.add(1000);
    const done = base.dispatch();
    await sim.advance(10);
    base.loopBreak();
    assertEquals([await sim.run(done), sim.now(), base.gotBreak], ["break", 10, true]);
    assertEquals(timer.pending(EV_TIMEOUT), EV_TIMEOUT);
  });

  it("in a watcher ends the loop before the next callback", async () => {
    for (const kind of ["watchPrepare", "watchCheck"] as const) {
      const { sim, base } = world();
      const log = new Log();
      base[kind](() => base.loopBreak());
      base.timer(log.note("event")).activate(EV_TIMEOUT);
      assertEquals([await sim.run(base.dispatch()), log.take()], ["break", []], kind);
      assertEquals(base.numEvents(EVENT_BASE_COUNT_ACTIVE), 1);
    }
  });
});

describe("loopExit() without a time (L5)", () => {
  it("before the loop takes effect after one pass", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("a")).activate(EV_TIMEOUT);
    base.loopExit();
    base.timer(log.note("b")).activate(EV_TIMEOUT);
    base.timer(log.note("later")).add(10);
    assertEquals([await sim.run(base.dispatch()), log.take(), base.gotExit], ["exit", ["a", "b"], true]);
    assertEquals([await sim.run(base.dispatch()), log.take(), base.gotExit], ["empty", ["later"], false]);
  });

  it("in a callback lets all active events finish", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(() => {
      log.lines.push("a");
      base.loopExit();
    }).activate(EV_TIMEOUT);
    for (const name of ["b", "c"]) base.timer(log.note(name)).activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["exit", ["a", "b", "c"]]);
  });

  it("lets thousands of active events finish", async () => {
    const { sim, base } = world();
    let count = 0;
    for (let i = 0; i < 5000; i++) base.timer(() => void count++).activate(EV_TIMEOUT);
    base.loopExit();
    assertEquals([await sim.run(base.dispatch()), count], ["exit", 5000]);
  });

  it("leaves active events of lower priority for the next loop", async () => {
    const { sim, base } = world({ priorities: 3 });
    const log = new Log();
    base.timer(() => {
      log.lines.push("a");
      base.loopExit();
    }).activate(EV_TIMEOUT);
    base.timer(log.note("same")).activate(EV_TIMEOUT);
    const low = base.timer(log.note("low"));
    low.priority = 2;
    low.activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["exit", ["a", "same"]]);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["low"]]);
  });

  it("from a callback of lower priority stops even events of the same priority", async () => {
    const { sim, base } = world({ priorities: 3 });
    const log = new Log();
    for (const name of ["a", "b"]) {
      const event = base.timer(() => {
        log.lines.push(name);
        base.loopExit();
      });
      event.priority = 2;
      event.activate(EV_TIMEOUT);
    }
    assertEquals([await sim.run(base.dispatch()), log.take()], ["exit", ["a"]]);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["exit", ["b"]]);
  });

  it("from outside ends a loop that waits", async () => {
    const { sim, base } = world();
    base.timer(() => {}).add(1000);
    const done = base.dispatch();
    await sim.advance(10);
    base.loopExit();
    assertEquals([await sim.run(done), sim.now()], ["exit", 10]);
  });
});

describe("loopExit() with a time (L6)", () => {
  it("keeps an otherwise empty base running until then", async () => {
    const { sim, base } = world();
    base.loopExit(30);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["exit", 30]);
  });

  it("may be called several times: the earliest time wins, the others stop later loops", async () => {
    const { sim, base } = world();
    base.loopExit(30);
    base.loopExit(10);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["exit", 10]);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["exit", 30]);
    assertEquals(await sim.run(base.dispatch()), "empty");
  });

  it("runs the callbacks that are due at the same time", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("a")).add(10);
    base.loopExit(10);
    base.timer(log.note("b")).add(10);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["exit", ["a", "b"]]);
  });

  it("refuses a value that is not a time", () => {
    const { base } = world();
    assertThrows(() => base.loopExit(NaN), RangeError);
    assertThrows(() => base.loopExit("1" as unknown as number), TypeError);
  });
});

describe("loopContinue() (L7)", () => {
  it("ends the pass: the remaining active events run after another poll", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.watchCheck(log.note("poll"));
    base.timer(() => {
      log.lines.push("a");
      base.loopContinue();
    }).activate(EV_TIMEOUT);
    base.timer(log.note("b")).activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["poll", "a", "poll", "b"]]);
  });

  it("outside a loop has no effect", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.loopContinue();
    base.watchCheck(log.note("poll"));
    for (const name of ["a", "b"]) base.timer(log.note(name)).activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["poll", "a", "b"]]);
  });
});

describe("a second loop on the same base (L8)", () => {
  it("rejects with EV_BUSY inside a callback, and the outer one goes on", async () => {
    const { sim, base } = world();
    let inner: Promise<unknown> = Promise.resolve();
    base.timer(() => {
      inner = base.loop(EVLOOP_NONBLOCK).catch((error: EventError) => error.code);
    }).activate(EV_TIMEOUT);
    base.timer(() => {}).add(10);
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals([await inner, sim.now()], ["EV_BUSY", 10]);
  });

  it("rejects with EV_BUSY from outside, and does not affect events of the first one", async () => {
    const { sim, base } = world();
    base.timer(() => {}).add(10);
    const first = base.dispatch();
    const error = await assertRejects(() => base.dispatch(), EventError) as EventError;
    assertEquals(error.code, "EV_BUSY");
    base.loopBreak();
    assertEquals((await assertRejects(() => base.dispatch(), EventError) as EventError).code, "EV_BUSY");
    assert(base.gotBreak);
    assertEquals(await sim.run(first), "break");
  });

  it("may begin as soon as the first has ended", async () => {
    const { sim, base } = world();
    const results: string[] = [];
    base.loopExit(5);
    await sim.run((async () => {
      results.push(await base.dispatch());
      base.loopExit(5);
      results.push(await base.dispatch());
    })());
    assertEquals([results, sim.now()], [["exit", "exit"], 10]);
  });
});

describe("base.free() (L9)", () => {
  it("removes the events without freeing them, and runs pending finalizers before it returns", () => {
    const { sim, base } = world();
    const log = new Log();
    const timer = base.timer(log.note("timer"));
    timer.add(10);
    const active = base.timer(log.note("active"));
    active.activate(EV_TIMEOUT);
    const io = base.event(null, EV_READ | EV_PERSIST, log.note("io"));
    io.add(5);
    const finalized = base.timer(log.note("finalized"));
    const seen: EventHandle[] = [];
    finalized.finalize((event) => seen.push(event));
    base.free();
    assertEquals(seen, [finalized]);
    assertStrictEquals(seen[0], finalized);
    for (const event of [timer, active, io]) {
      assertEquals([event.pending(EV_TIMEOUT | EV_READ), event.initialized], [0, true]);
      event.free();
    }
    assertEquals([base.numEvents(EVENT_BASE_COUNT_ADDED), log.take(), sim.pending], [0, [], 0]);
    base.free();
    base[Symbol.dispose]();
    assertEquals(seen.length, 1);
  });

  it("runs every finalizer even if one throws, and then throws that error", () => {
    const { base } = world();
    const log = new Log();
    const failure = new Error("in a finalizer");
    base.timer(() => {}).finalize(() => {
      throw failure;
    });
    base.timer(() => {}).finalize(log.note("second"));
    base.watchPrepare(() => {});
    assertStrictEquals(assertThrows(() => base.free(), Error), failure);
    assertEquals([log.take(), base.numEvents(EVENT_BASE_COUNT_ADDED)], [["second"], 0]);
    base.free();
  });

  it("ends a loop that waits or runs, with empty", async () => {
    const { sim, base } = world();
    base.timer(() => {}).add(1000);
    const waiting = base.dispatch();
    await sim.advance(1);
    base.free();
    assertEquals(await sim.run(waiting), "empty");

    const other = new EventBase({ runtime: sim });
    const log = new Log();
    other.timer(() => other.free()).activate(EV_TIMEOUT);
    other.timer(log.note("after")).activate(EV_TIMEOUT);
    assertEquals([await sim.run(other.dispatch()), log.take(), sim.pending], ["empty", [], 0]);
  });

  it("refuses a value that is not a signal, and can be run all the same", async () => {
    const { sim, base } = world();
    await assertRejects(() => base.dispatch({ signal: {} as AbortSignal }), TypeError, "not an AbortSignal");
    assertEquals(await sim.run(base.dispatch()), "empty");
  });

  it("makes every later use of the base throw EV_FREED", async () => {
    const { base } = world();
    const timer = base.timer(() => {});
    base.free();
    const code = (fn: () => unknown): string => (assertThrows(fn, EventError) as EventError).code;
    assertEquals(code(() => timer.add(1)), "EV_FREED");
    assertEquals(code(() => timer.finalize(() => {})), "EV_FREED");
    assertEquals(code(() => base.once(null, EV_TIMEOUT, () => {})), "EV_FREED");
    assertEquals(code(() => base.loopExit()), "EV_FREED");
    assertEquals((await assertRejects(() => base.dispatch(), EventError) as EventError).code, "EV_FREED");
    timer.activate(EV_TIMEOUT);
    timer.del();
    timer.free();
    assertFalse(base.gotExit);
  });

  it("leaves sockets open", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    base.event(server, EV_READ, () => {}).add();
    base.free();
    client.send("hi");
    await sim.advance(5);
    assertEquals(server.recv(new Uint8Array(10)), 2);
    // Another base can use them now.
    const other = new EventBase({ runtime: sim });
    other.event(server, EV_READ, () => {}).add();
    other.free();
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });

  it("is what `using` does", () => {
    const { sim } = world();
    let base: EventBase;
    {
      using inner = new EventBase({ runtime: sim });
      base = inner;
      inner.timer(() => {}).add(1);
    }
    assertThrows(() => new EventHandle(base, null, 0, () => {}).add(1), EventError);
  });
});
