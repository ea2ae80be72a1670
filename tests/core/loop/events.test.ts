// Events: rules E1 to E13.

import { describe, it } from "node:test";
import { assert, assertEquals, assertFalse, assertInstanceOf, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import {
  EV_CLOSED,
  EV_ET,
  EV_FINALIZE,
  EV_PERSIST,
  EV_READ,
  EV_SIGNAL,
  EV_TIMEOUT,
  EV_WRITE,
  EVENT_BASE_COUNT_ACTIVE,
  EVENT_BASE_COUNT_ADDED,
  EVENT_BASE_COUNT_VIRTUAL,
  EVLOOP_NONBLOCK,
  EVLOOP_ONCE,
} from "../../../core/flags.ts";
import { EventHandle } from "../../../core/api/event_handle.ts";
import type { Pollable } from "../../../core/api/pollable.ts";
import { socketPair } from "../socket/pairs.ts";
import { Log, nothingLeft, world } from "./harness.ts";

const ANY = EV_TIMEOUT | EV_READ | EV_WRITE | EV_SIGNAL | EV_CLOSED;

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

describe("the arguments of a callback", () => {
  it("are the source, the flags, and the event itself", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const calls: [Pollable | string | null, number, EventHandle][] = [];
    const read = base.event(server, EV_READ, (...args) => calls.push(args));
    const timer = base.timer((...args) => calls.push(args));
    const signal = base.event("SIGTERM", EV_SIGNAL, (...args) => calls.push(args));
    read.add();
    timer.add(10);
    signal.add();
    client.send("x");
    sim.raise("SIGTERM");
    await sim.run(base.dispatch());
    assertEquals(calls.map(([, what]) => what), [EV_SIGNAL, EV_READ, EV_TIMEOUT]);
    assertEquals(calls.map(([source]) => source), ["SIGTERM", server, null]);
    assertEquals(calls.map(([, , event]) => event), [signal, read, timer]);
    assertStrictEquals(calls[1]?.[0], server);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("a non-persistent event (E1)", () => {
  it("is not pending in its callback, and may add itself again", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    let left = 2;
    const event = base.event(null, EV_READ, () => {
      seen.push(event.pending(ANY));
      if (--left > 0) event.add(5);
    });
    event.add(5);
    await sim.run(base.dispatch());
    assertEquals([seen, sim.now(), event.pending(ANY), event.expiresAt], [[0, 0], 10, 0, undefined]);
  });

  it("loses its timer when it is activated", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.timer(log.note("once"));
    event.add(100);
    event.activate(EV_READ);
    assertEquals([await sim.run(base.dispatch()), log.take(), sim.now()], ["empty", ["once"], 0]);
  });
});

describe("a persistent event (E1)", () => {
  it("is pending in its callback, its timer already re-armed", async () => {
    const { sim, base } = world();
    const seen: unknown[] = [];
    const event = base.event(null, EV_READ | EV_PERSIST, () => {
      seen.push(event.pending(ANY), event.expiresAt, base.now());
      if (seen.length === 6) base.loopBreak();
    });
    event.add(10);
    await sim.run(base.dispatch());
    assertEquals(seen, [EV_READ | EV_TIMEOUT, 20, 10, EV_READ | EV_TIMEOUT, 30, 20]);
    event.free();
  });

  it("re-arms its timeout at each firing, by bytes too: EV_PERSIST with a timeout is an idle timer", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const begin = sim.now();
    const seen: [number, number][] = [];
    const event = base.event(server, EV_READ | EV_PERSIST, (_, what) => {
      seen.push([sim.now() - begin, what]);
      if ((what & EV_READ) !== 0) server.recv(new Uint8Array(8));
      else event.del();
    });
    event.add(10);
    client.send("x");
    const done = base.dispatch();
    await sim.advance(8);
    client.send("y");
    await sim.run(done);
    assertEquals(seen, [[1, EV_READ], [9, EV_READ], [19, EV_TIMEOUT]]);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("the flags that a callback gets (E2)", () => {
  it("are the reasons why it is active, not the flags that it was made with", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    const event = base.event(null, EV_READ | EV_WRITE, (_, what) => seen.push(what));
    event.activate(EV_WRITE);
    await sim.run(base.loop(EVLOOP_NONBLOCK));
    event.add(5);
    await sim.run(base.dispatch());
    assertEquals(seen, [EV_WRITE, EV_TIMEOUT]);
  });

  it("are READ|TIMEOUT in one call when bytes and the timeout come together", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const seen: number[] = [];
    base.event(server, EV_READ, (_, what) => seen.push(what)).add(1);
    client.send("x");
    await sim.advance(1);
    await sim.run(base.dispatch());
    assertEquals(seen, [EV_READ | EV_TIMEOUT]);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });

  it("are READ|TIMEOUT when the time runs out while it is active and waits", async () => {
    const { sim, base } = world({ priorities: 2 });
    const seen: number[] = [];
    const event = base.event(null, EV_READ, (_, what) => seen.push(what));
    event.add(10);
    event.activate(EV_READ);
    // A more urgent event keeps the loop busy until the timeout passes.
    const busy = base.timer(() => {
      if (sim.now() < 10) busy.add(1);
    });
    busy.priority = 0;
    busy.activate(EV_TIMEOUT);
    const urgent = base.timer(() => {
      if (sim.now() < 12) urgent.activate(EV_TIMEOUT);
    });
    urgent.priority = 0;
    urgent.activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    assertEquals(seen, [EV_READ | EV_TIMEOUT]);
  });
});

describe("activate() (E3)", () => {
  it("on an active event adds flags, and keeps its place in the queue", async () => {
    const { sim, base } = world();
    const log: string[] = [];
    const a = base.event(null, EV_READ, (_, what) => log.push(`a ${what}`));
    const b = base.timer(() => log.push("b"));
    a.activate(EV_READ);
    b.activate(EV_TIMEOUT);
    a.activate(EV_WRITE);
    assertEquals(a.pending(ANY), EV_READ | EV_WRITE);
    await sim.run(base.dispatch());
    assertEquals(log, [`a ${EV_READ | EV_WRITE}`, "b"]);
  });

  it("wakes a loop that waits, from outside", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.event(null, EV_READ, log.note("active"));
    event.add();
    const done = base.dispatch();
    await sim.advance(50);
    event.activate(EV_READ);
    assertEquals(log.take(), []);
    assertEquals([await sim.run(done), log.take(), sim.now()], ["empty", ["active"], 50]);
  });

  it("takes an integer", () => {
    const { base } = world();
    assertThrows(() => base.timer(() => {}).activate(1.5), TypeError);
    assertThrows(() => base.timer(() => {}).activate("1" as unknown as number), TypeError);
  });
});

describe("del() and free() (E4)", () => {
  it("in the event's own callback are fine, and end a persistent one", async () => {
    for (const end of ["del", "free"] as const) {
      const { sim, base } = world();
      const log = new Log();
      const event = base.event(null, EV_READ | EV_PERSIST, () => {
        log.lines.push(end);
        event[end]();
      });
      event.add(5);
      assertEquals([await sim.run(base.dispatch()), log.take(), sim.now()], ["empty", [end], 5]);
      assertEquals([event.pending(ANY), event.initialized], [0, end === "del"]);
    }
  });

  it("of another active event prevent its callback", async () => {
    for (const end of ["del", "free"] as const) {
      const { sim, base } = world();
      const log = new Log();
      const victim = base.timer(log.note("victim"));
      base.timer(() => victim[end]()).activate(EV_TIMEOUT);
      victim.activate(EV_TIMEOUT);
      base.timer(log.note("last")).activate(EV_TIMEOUT);
      await sim.run(base.dispatch());
      assertEquals(log.take(), ["last"]);
    }
  });

  it("from outside wakes a loop that waits for nothing else", async () => {
    for (const end of ["del", "free"] as const) {
      const { sim, base } = world();
      const event = base.event(null, EV_READ, () => {});
      event.add();
      const done = base.dispatch();
      await sim.advance(5);
      event[end]();
      assertEquals([await sim.run(done), sim.now()], ["empty", 5]);
    }
  });

  it("do nothing the second time; a freed event can't be added", () => {
    const { base } = world();
    const event = base.timer(() => {});
    event.add(5);
    event.del();
    event.del();
    event.free();
    event.free();
    event.activate(EV_TIMEOUT);
    assertFalse(event.initialized);
    assertEquals(codeOf(() => event.add(5)), "EV_FREED");
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
  });

  it("is called by `using`", () => {
    const { base } = world();
    {
      using event = base.timer(() => {});
      event.add(5);
      assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 1);
    }
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
  });
});

describe("pending() (E5)", () => {
  it("returns the requested flags that are added or active", () => {
    const { base } = world();
    const event = base.event(null, EV_READ | EV_PERSIST, () => {});
    assertEquals(event.pending(ANY), 0);
    event.add();
    assertEquals([event.pending(ANY), event.expiresAt], [EV_READ, undefined]);
    event.add(7);
    assertEquals([event.pending(ANY), event.pending(EV_TIMEOUT), event.pending(EV_WRITE)], [
      EV_READ | EV_TIMEOUT,
      EV_TIMEOUT,
      0,
    ]);
    event.activate(EV_WRITE);
    assertEquals(event.pending(ANY), EV_READ | EV_TIMEOUT | EV_WRITE);
    event.del();
    assertEquals(event.pending(ANY), 0);
  });

  it("also returns the deadline, on the clock of base.now()", async () => {
    const { sim, base } = world();
    await sim.advance(12);
    const event = base.timer(() => {});
    event.add(7.5);
    assertEquals([event.expiresAt, base.now()], [19.5, 12]);
    event.del();
    assertEquals(event.expiresAt, undefined);
  });
});

describe("making an event (E6)", () => {
  it("refuses flags that can't go together with a RangeError", () => {
    const { base } = world();
    const make = (source: string | null, what: number): () => void => () => base.event(source, what, () => {});
    for (const io of [EV_READ, EV_WRITE, EV_CLOSED, EV_ET]) assertThrows(make("SIGTERM", EV_SIGNAL | io), RangeError);
    assertThrows(make(null, EV_SIGNAL), RangeError);
    assertThrows(make("SIGTERM", EV_READ), RangeError);
    assertThrows(make("SIGTERM", 0), RangeError);
    for (const what of [0x100, -1, 1.5]) assertThrows(make(null, what), RangeError);
  });

  it("refuses wrong types with a TypeError", () => {
    const { base } = world();
    assertThrows(() => base.event(null, 0, null as unknown as () => void), TypeError);
    assertThrows(() => base.event(null, "2" as unknown as number, () => {}), TypeError);
    assertThrows(() => base.event({} as unknown as null, EV_READ, () => {}), TypeError);
  });

  it("gives an object with its source, flags and priority", () => {
    const { base } = world({ priorities: 4 });
    const event = base.event(null, EV_READ | EV_PERSIST, () => {});
    assertInstanceOf(event, EventHandle);
    assertStrictEquals(event.base, base);
    assertEquals([event.events, event.priority, event.initialized], [EV_READ | EV_PERSIST, 2, true]);
  });

  it("can be repeated with assign(), on another base too, but not while the event is pending or active", async () => {
    const { sim, base } = world();
    const other = world({ runtime: sim }).base;
    const log = new Log();
    const event = base.timer(log.note("old"));
    event.add(5);
    assertEquals(codeOf(() => event.assign(base, null, 0, () => {})), "EV_ACTIVE");
    event.del();
    event.activate(EV_TIMEOUT);
    assertEquals(codeOf(() => event.assign(base, null, 0, () => {})), "EV_ACTIVE");
    event.del();
    assertThrows(() => event.assign(base, null, EV_SIGNAL, () => {}), RangeError);
    event.assign(other, null, EV_PERSIST, () => {
      log.lines.push("new");
      event.del();
    });
    event.add(3);
    assertStrictEquals(event.base, other);
    assertEquals([await sim.run(base.dispatch()), await sim.run(other.dispatch())], ["empty", "empty"]);
    assertEquals([log.take(), sim.now()], [["new"], 3]);
    event.free();
    event.assign(base, null, 0, log.note("newest"));
    event.add(1);
    await sim.run(base.dispatch());
    assertEquals([log.take(), event.initialized], [["newest"], true]);
  });

  it("can move an event to another base in its own callback; that base calls it only while it dispatches", async () => {
    const { sim, base } = world();
    const other = world({ runtime: sim }).base;
    const [client, server] = await socketPair(sim);
    const log = new Log();
    const event = base.event(server, EV_READ, () => {
      log.lines.push("here");
      event.assign(other, server, EV_READ, log.note("there"));
      event.add();
    });
    event.add();
    const keepAlive = base.timer(() => {});
    keepAlive.add(10);
    client.send(new Uint8Array(1));
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["here"]]);
    assertEquals([await sim.run(other.dispatch()), log.take()], ["empty", ["there"]]);
    client.close();
    server.close();
  });
});

describe("add() without a timeout (E7)", () => {
  it("adds the I/O and keeps a timer that runs", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    const event = base.event(null, EV_READ, (_, what) => seen.push(what));
    event.add(10);
    event.add();
    assertEquals([event.expiresAt, event.pending(ANY)], [10, EV_READ | EV_TIMEOUT]);
    await sim.run(base.dispatch());
    assertEquals([seen, sim.now()], [[EV_TIMEOUT], 10]);
  });

  it("of an event that waits for time alone does nothing", async () => {
    const { sim, base } = world();
    const timer = base.timer(() => {});
    timer.add();
    assertEquals([timer.pending(ANY), base.numEvents(EVENT_BASE_COUNT_ADDED)], [0, 0]);
    assertEquals(await sim.run(base.dispatch()), "empty");
  });
});

describe("add() of an event that is active and not pending (E8)", () => {
  it("makes it pending: it runs, and then waits again", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const seen: number[] = [];
    const event = base.event(server, EV_READ | EV_PERSIST, (_, what) => {
      seen.push(what);
      if (server.recv(new Uint8Array(8)) > 0) event.del();
    });
    event.activate(EV_WRITE);
    event.add();
    assertEquals(event.pending(ANY), EV_READ | EV_WRITE);
    client.send("x");
    await sim.run(base.dispatch());
    assertEquals(seen, [EV_WRITE, EV_READ]);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("counts (E9)", () => {
  it("an added event counts for its I/O, for its timer, and while it is active", () => {
    const { base } = world();
    const event = base.event(null, EV_READ, () => {});
    const counts = (): number[] =>
      [EVENT_BASE_COUNT_ACTIVE, EVENT_BASE_COUNT_VIRTUAL, EVENT_BASE_COUNT_ADDED].map((kind) => base.numEvents(kind));
    assertEquals(counts(), [0, 0, 0]);
    event.add();
    assertEquals(counts(), [0, 0, 1]);
    event.add(10);
    assertEquals(counts(), [0, 0, 2]);
    event.activate(EV_READ);
    assertEquals(counts(), [1, 0, 3]);
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED), 4);
    event.removeTimer();
    assertEquals(counts(), [1, 0, 2]);
    event.del();
    assertEquals(counts(), [0, 0, 0]);
  });

  it("maxEvents() is the peak of each kind; clearing restarts it from 0", async () => {
    const { sim, base } = world();
    const events = Array.from({ length: 5 }, () => base.timer(() => {}));
    for (const event of events) event.add(1);
    for (const event of events.slice(0, 3)) event.del();
    assertEquals([base.numEvents(EVENT_BASE_COUNT_ADDED), base.maxEvents(EVENT_BASE_COUNT_ADDED)], [2, 5]);
    assertEquals(base.maxEvents(EVENT_BASE_COUNT_ADDED, true), 5);
    assertEquals(base.maxEvents(EVENT_BASE_COUNT_ADDED), 0);
    await sim.run(base.dispatch());
    assertEquals(base.maxEvents(EVENT_BASE_COUNT_ACTIVE), 2);
    assertEquals(base.maxEvents(EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED, true), 4);
    assertEquals(base.maxEvents(EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED), 0);
  });
});

describe("finalize() (E10)", () => {
  it("takes a function, as foreachEvent() does", () => {
    const { base } = world();
    const event = base.timer(() => {});
    assertThrows(() => event.finalize(undefined as unknown as () => void), TypeError, "received undefined");
    assertThrows(() => base.foreachEvent({} as () => void), TypeError, "received Object");
    event.add(1);
  });

  it("leaves the event neither pending nor active", () => {
    const { base } = world();
    const event = base.timer(() => {});
    event.add(10);
    event.finalize(() => {});
    assertEquals(event.pending(0xff), 0);
    base.free();
  });

  it("calls the finalizer from the loop, at the event's priority, in place of the callback", async () => {
    const { sim, base } = world({ priorities: 3 });
    const log = new Log();
    const event = base.event(null, EV_READ, log.note("callback"));
    event.priority = 2;
    event.add(5);
    event.activate(EV_READ);
    const finalized: EventHandle[] = [];
    event.finalize((finalizedEvent) => {
      log.lines.push("finalizer");
      finalized.push(finalizedEvent);
    });
    assertEquals([event.pending(ANY), log.take()], [0, []]);
    base.timer(log.note("middle")).activate(EV_TIMEOUT);
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(log.take(), ["middle", "finalizer"]);
    assertStrictEquals(finalized[0], event);
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
  });

  it("leaves an event whose methods do nothing", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.timer(log.note("callback"));
    event.finalize(log.note("finalizer"));
    assertEquals(codeOf(() => event.add(1)), "EV_FINALIZED");
    assertEquals(codeOf(() => event.finalize(() => {})), "EV_FINALIZED");
    event.activate(EV_TIMEOUT);
    event.del();
    event.removeTimer();
    event.free();
    await sim.run(base.dispatch());
    event.activate(EV_TIMEOUT);
    assertEquals(codeOf(() => event.add(1)), "EV_FREED");
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["finalizer"]]);
  });

  it("can be called in the event's own callback", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.event(null, EV_READ | EV_PERSIST, () => {
      log.lines.push("callback");
      event.finalize(log.note("finalizer"));
      log.lines.push("end of callback");
    });
    event.add(1);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["callback", "end of callback", "finalizer"]);
  });

  it("keeps the loop alive for one pass", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(() => {}).finalize(log.note("finalizer"));
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ACTIVE), 1);
    assertEquals([await sim.run(base.loop(EVLOOP_ONCE)), log.take()], ["done", ["finalizer"]]);
  });

  it("EV_FINALIZE in the flags is accepted", () => {
    const { base } = world();
    assertEquals(base.event(null, EV_READ | EV_FINALIZE, () => {}).events, EV_READ | EV_FINALIZE);
  });
});

describe("removeTimer() (E11)", () => {
  it("forgets the timeout and the interval, and keeps the I/O", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.event(null, EV_READ | EV_PERSIST, log.note("read"));
    event.add(10);
    event.removeTimer();
    event.removeTimer();
    assertEquals([event.pending(ANY), event.expiresAt], [EV_READ, undefined]);
    event.activate(EV_READ);
    await sim.run(base.loop(EVLOOP_ONCE));
    assertEquals([log.take(), event.expiresAt], [["read"], undefined]);
    event.free();
  });

  it("does not stop a callback that is already due", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(() => late.removeTimer()).add(5);
    const late = base.timer(log.note("late"));
    late.add(5);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["late"]);
  });

  it("from outside wakes a loop that waits for nothing else", async () => {
    const { sim, base } = world();
    const timer = base.timer(() => {});
    timer.add(100);
    const done = base.dispatch();
    await sim.advance(5);
    timer.removeTimer();
    assertEquals([await sim.run(done), sim.now()], ["empty", 5]);
  });
});

describe("add() of an event that is active (E12)", () => {
  it("because of its timeout delays the callback until the new deadline", async () => {
    const { sim, base } = world();
    const log = new Log();
    const late = base.timer(() => log.lines.push(`late at ${sim.now()}`));
    base.timer(() => late.add(10)).add(5);
    late.add(5);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["late at 15"]);
  });

  it("for another reason does not stop its callback", async () => {
    const { sim, base } = world();
    const seen: [number, number][] = [];
    const event = base.event(null, EV_READ | EV_PERSIST, (_, what) => {
      seen.push([sim.now(), what]);
      if (what === EV_TIMEOUT) event.del();
    });
    base.timer(() => event.add(10)).activate(EV_TIMEOUT);
    event.activate(EV_READ);
    await sim.run(base.dispatch());
    assertEquals(seen, [[0, EV_READ], [10, EV_TIMEOUT]]);
  });

  it("for both runs it for the other reason, and again at the new deadline", async () => {
    const { sim, base } = world();
    const seen: [number, number][] = [];
    const event = base.event(null, EV_READ | EV_PERSIST, (_, what) => {
      seen.push([sim.now(), what]);
      if (what === EV_TIMEOUT) event.del();
    });
    base.timer(() => {
      event.activate(EV_READ);
      event.add(10);
    }).add(5);
    event.add(5);
    await sim.run(base.dispatch());
    assertEquals(seen, [[5, EV_READ], [15, EV_TIMEOUT]]);
  });
});

describe("an event without a source (E13)", () => {
  it("may have I/O flags; nothing is polled, but timeouts and activate() work", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    const event = base.event(null, EV_READ | EV_WRITE | EV_CLOSED, (_, what) => seen.push(what));
    event.add();
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), seen], ["done", []]);
    event.activate(EV_CLOSED);
    assertEquals([await sim.run(base.dispatch()), seen], ["empty", [EV_CLOSED]]);
    event.add(5);
    assertEquals([await sim.run(base.dispatch()), seen], ["empty", [EV_CLOSED, EV_TIMEOUT]]);
  });

  it("keeps the loop going without a timeout", async () => {
    const { sim, base } = world();
    base.event(null, EV_READ, () => {}).add();
    let ended = false;
    const done = base.dispatch().then(() => ended = true);
    await sim.advance(1e9);
    assertFalse(ended);
    base.free();
    await sim.run(done);
    assert(ended);
  });
});
