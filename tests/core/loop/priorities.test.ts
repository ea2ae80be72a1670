// Order and priorities: rules P1 to P6.

import { describe, it } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EV_PERSIST, EV_READ, EV_TIMEOUT, EV_WRITE, EVLOOP_NONBLOCK } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { EventHandle } from "../../../core/api/event_handle.ts";
import { socketPair } from "../socket/pairs.ts";
import { BusyHost, Log, nothingLeft, world } from "./harness.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

function prioritized(base: EventBase, priority: number, callback: () => void): EventHandle {
  const event = base.timer(callback);
  event.priority = priority;
  return event;
}

describe("the number of priorities (P1)", () => {
  it("is 1 by default, and from 1 to 255", () => {
    const { sim, base } = world();
    assertEquals(base.npriorities, 1);
    assertEquals(world({ priorities: 255 }).base.npriorities, 255);
    for (const priorities of [0, -1, 256, 1.5, NaN]) {
      assertThrows(() => new EventBase({ runtime: sim, priorities }), RangeError);
      assertThrows(() => base.priorityInit(priorities), RangeError);
    }
    base.priorityInit(255);
    assertEquals(base.npriorities, 255);
  });

  it("gives new events the middle priority, and does not change existing events", () => {
    const { base } = world();
    const early = base.timer(() => {});
    for (const [priorities, middle] of [[1, 0], [2, 1], [3, 1], [4, 2], [7, 3], [255, 127]] as const) {
      base.priorityInit(priorities);
      assertEquals(base.timer(() => {}).priority, middle);
    }
    assertEquals(early.priority, 0);
  });

  it("can't be changed while an event is active", async () => {
    const { sim, base } = world();
    base.timer(() => {}).activate(EV_TIMEOUT);
    assertEquals((assertThrows(() => base.priorityInit(2), EventError) as EventError).code, "EV_ACTIVE");
    await sim.run(base.dispatch());
    base.priorityInit(2);
    assertEquals(base.npriorities, 2);
  });

  it("can be reduced: an event whose priority no longer exists runs at the lowest", async () => {
    const { sim, base } = world({ priorities: 5 });
    const log = new Log();
    const event = prioritized(base, 4, log.note("late"));
    base.priorityInit(2);
    assertEquals(event.priority, 4);
    event.activate(EV_TIMEOUT);
    prioritized(base, 0, log.note("early")).activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["early", "late"]);
  });
});

describe("the priority of an event (P2)", () => {
  it("must exist in the base, and cannot be changed while the event is active", async () => {
    const { sim, base } = world({ priorities: 3 });
    const event = base.timer(() => {});
    for (const priority of [-1, 3, 1.5, NaN]) assertThrows(() => void (event.priority = priority), RangeError);
    event.priority = 2;
    event.add(10);
    event.priority = 0;
    event.activate(EV_TIMEOUT);
    assertEquals((assertThrows(() => void (event.priority = 1), EventError) as EventError).code, "EV_ACTIVE");
    await sim.run(base.loop(EVLOOP_NONBLOCK));
    event.priority = 1;
    assertEquals(event.priority, 1);
  });

  it("may be changed in the event's own callback", async () => {
    const { sim, base } = world({ priorities: 2 });
    const log = new Log();
    const event = base.timer(() => {
      log.lines.push(`at ${event.priority}`);
      if (event.priority === 0) return;
      event.priority = 0;
      event.add(1);
    });
    event.add(1);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["at 1", "at 0"]);
  });
});

describe("the order inside a queue (P3)", () => {
  it("is that of activation", async () => {
    const { sim, base } = world();
    const log = new Log();
    const events = ["a", "b", "c", "d"].map((name) => base.timer(log.note(name)));
    for (const i of [2, 0, 3, 1]) events[i]?.activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["c", "a", "d", "b"]);
  });

  it("is sockets, then timers, and events of one socket as they were added", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const log = new Log();
    base.timer(log.note("timer")).add(1);
    base.event(server, EV_READ, log.note("read 1")).add();
    base.event(server, EV_READ, log.note("read 2")).add();
    const write = base.event(server, EV_WRITE, log.note("write"));
    client.send("x");
    await sim.advance(1);
    write.add();
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["read 1", "read 2", "write", "timer"]);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("an event that activates a more urgent one (P4)", () => {
  it("lets it run next, before its own remaining peers", async () => {
    const { sim, base } = world({ priorities: 2 });
    const log = new Log();
    const urgent = prioritized(base, 0, log.note("urgent"));
    prioritized(base, 1, () => {
      log.lines.push("a");
      urgent.activate(EV_TIMEOUT);
    }).activate(EV_TIMEOUT);
    prioritized(base, 1, log.note("b")).activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["a", "urgent", "b"]);
  });

  it("is null while nothing runs, also after an exception", async () => {
    const { sim, base } = world({ priorities: 3 });
    const log = new Log();
    base.watchCheck(log.note("poll"));
    prioritized(base, 2, () => {
      throw new Error("stop");
    }).activate(EV_TIMEOUT);
    await sim.run(base.dispatch().catch(() => {}));
    log.take();
    const prepare = base.watchPrepare(() => {
      // Nothing runs now, so no event can have a higher priority than a running one.
      for (const name of ["a", "b"]) prioritized(base, 1, log.note(name)).activate(EV_TIMEOUT);
      prepare.free();
    });
    base.timer(log.note("later")).add(5);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["poll", "a", "b", "poll", "later"]);
  });
});

describe("an event that activates itself (P5)", () => {
  it("runs again in the same pass, after events of the same priority", async () => {
    const { sim, base } = world();
    const log = new Log();
    let left = 3;
    base.watchCheck(log.note("poll"));
    const again = base.timer(() => {
      log.lines.push("again");
      if (--left > 0) again.activate(EV_TIMEOUT);
    });
    again.activate(EV_TIMEOUT);
    base.timer(log.note("peer")).activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["poll", "again", "peer", "again", "again"]);
  });

  it("runs in the next iteration when it is added again without a delay", async () => {
    const { sim, base } = world();
    const log = new Log();
    let left = 3;
    base.watchCheck(log.note("poll"));
    const again = base.timer(() => {
      log.lines.push("again");
      if (--left > 0) again.add(0);
    });
    again.add(0);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["poll", "again", "poll", "again", "poll", "again"]);
  });

  it("starves events of lower priority, but not the runtime or events of higher priority", async () => {
    const { sim, base } = world({ priorities: 3 });
    const log = new Log();
    const greedy = prioritized(base, 1, () => greedy.activate(EV_TIMEOUT));
    greedy.activate(EV_TIMEOUT);
    prioritized(base, 2, log.note("low")).activate(EV_TIMEOUT);
    prioritized(base, 0, () => {
      log.lines.push("urgent");
      base.loopBreak();
    }).add(0.05);
    assertEquals(await sim.run(base.dispatch()), "break");
    assertEquals(log.take(), ["urgent"]);
  });
});

describe("the limits of a dispatch (P6)", () => {
  async function fiveEvents(options: ConstructorParameters<typeof EventBase>[0]): Promise<string> {
    const { sim, base } = world(options);
    const log = new Log();
    base.watchCheck(log.note("|"));
    for (const name of ["a", "b", "c", "d", "e"]) base.timer(log.note(name)).activate(EV_TIMEOUT);
    await sim.run(base.dispatch());
    return log.take().join(" ");
  }

  it("cause a poll after a number of callbacks", async () => {
    assertEquals(await fiveEvents({ maxDispatchCallbacks: 2, minDispatchPriority: 0 }), "| a b | c d | e");
    assertEquals(await fiveEvents({ maxDispatchCallbacks: 1, minDispatchPriority: 0 }), "| a | b | c | d | e");
    assertEquals(await fiveEvents({ maxDispatchCallbacks: 0, minDispatchPriority: 0 }), "| a | b | c | d | e");
    assertEquals(await fiveEvents({ maxDispatchCallbacks: -1, minDispatchPriority: 0 }), "| a b c d e");
    assertEquals(await fiveEvents({ maxDispatchCallbacks: Infinity, minDispatchPriority: 0 }), "| a b c d e");
  });

  it("apply to priorities from 1 on by default, so not to a base with one queue", async () => {
    assertEquals(await fiveEvents({ maxDispatchCallbacks: 2 }), "| a b c d e");
    assertEquals(await fiveEvents({ maxDispatchCallbacks: 2, priorities: 2 }), "| a b | c d | e");
  });

  it("cause a poll after a number of milliseconds", async () => {
    const sim = simRuntime();
    const busy = new BusyHost(sim);
    const base = new EventBase({ runtime: busy, maxDispatchIntervalMs: 5, minDispatchPriority: 0 });
    const log = new Log();
    base.watchCheck(log.note("|"));
    for (const name of ["a", "b", "c", "d", "e"]) {
      base.timer(() => {
        log.lines.push(name);
        busy.block(3);
      }).activate(EV_TIMEOUT);
    }
    await sim.run(base.dispatch());
    assertEquals(log.take().join(" "), "| a b | c d | e");
  });

  it("are durations and counts", () => {
    const { sim } = world();
    for (
      const wrong of [
        { maxDispatchIntervalMs: -1 },
        { maxDispatchIntervalMs: NaN },
        { maxDispatchCallbacks: 1.5 },
        { maxDispatchCallbacks: NaN },
        { minDispatchPriority: -1 },
        { minDispatchPriority: 0.5 },
      ]
    ) assertThrows(() => new EventBase({ runtime: sim, ...wrong }), RangeError);
    assertThrows(() => new EventBase(null as never), TypeError, "the options are not an object: received null");
    assertThrows(() => new EventBase({ runtime: {} as never }), TypeError, "the runtime is not a Runtime");
  });
});

describe("with several priorities", () => {
  it("all events of a poll are sorted together, whatever the runtime reports first", async () => {
    const { sim, base } = world({ priorities: 2 });
    const [client, server] = await socketPair(sim);
    const log = new Log();
    const timer = base.timer(log.note("timer"));
    timer.priority = 1;
    // In the instant in which the bytes arrive; the runtime reports the timer first.
    timer.add(1);
    const read = base.event(server, EV_READ | EV_PERSIST, () => {
      log.lines.push("read");
      server.recv(new Uint8Array(8));
      base.loopExit();
    });
    read.priority = 0;
    read.add();
    const done = base.dispatch();
    await sim.advance(0);
    client.send("x");
    assertEquals(await sim.run(done), "exit");
    assertEquals(log.take(), ["read", "timer"]);
    read.free();
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});
