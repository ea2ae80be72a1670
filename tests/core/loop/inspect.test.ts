// Inspecting a base: foreachEvent, dumpEvents, runningEvent, stats.

import { describe, it } from "node:test";
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import { EV_PERSIST, EV_READ, EV_TIMEOUT, EV_WRITE } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { EventHandle } from "../../../core/api/event_handle.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { socketPair } from "../socket/pairs.ts";
import { BusyHost, nothingLeft, world } from "./harness.ts";

describe("foreachEvent()", () => {
  it("visits each event that is added or active once", async () => {
    const { sim, base } = world({ priorities: 3 });
    const [client, server] = await socketPair(sim);
    const io = base.event(server, EV_READ | EV_PERSIST, () => {});
    io.add(5);
    io.activate(EV_WRITE);
    const sourceless = base.event(null, EV_READ, () => {});
    sourceless.add();
    const timer = base.timer(() => {});
    timer.add(5);
    const common = base.timer(() => {});
    common.add(base.initCommonTimeout(7));
    const signal = base.signal("SIGTERM", () => {});
    signal.add();
    const active = base.timer(() => {});
    active.activate(EV_TIMEOUT);
    const idle = base.timer(() => {});
    base.once(null, EV_TIMEOUT, () => {}, 5);
    const seen: EventHandle[] = [];
    base.foreachEvent((event) => seen.push(event));
    assertEquals(seen.length, 6);
    for (const event of [io, sourceless, timer, common, signal, active]) assert(seen.includes(event));
    assert(!seen.includes(idle));
    // The events may be changed meanwhile.
    base.foreachEvent((event) => event.free());
    seen.length = 0;
    base.foreachEvent((event) => seen.push(event));
    assertEquals(seen, []);
    base.free();
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("dumpEvents()", () => {
  it("gives a table with a row for each event", async () => {
    const { sim, base } = world({ priorities: 3 });
    const [client, server] = await socketPair(sim);
    base.event(server, EV_READ | EV_PERSIST, () => {}).add(5);
    base.signal("SIGTERM", () => {}).add();
    const active = base.timer(() => {});
    active.priority = 2;
    active.activate(EV_TIMEOUT);
    const lines = base.dumpEvents().split("\n");
    assertEquals(lines.length, 5, "a heading, three rows and the end");
    assertMatch(lines[0] ?? "", /source +waits for +active for +priority +due in/);
    assertMatch(lines[1] ?? "", /^Socket +TIMEOUT\|READ\|PERSIST +- +1 +5\.0 ms$/);
    assertMatch(lines[2] ?? "", /^SIGTERM +SIGNAL\|PERSIST +- +1 +-$/);
    assertMatch(lines[3] ?? "", /^- +- +TIMEOUT +2 +-$/);
    base.free();
    assertEquals(base.dumpEvents().split("\n").length, 2);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("runningEvent", () => {
  it("is the event whose callback runs", async () => {
    const { sim, base } = world();
    const seen: (EventHandle | null)[] = [];
    const event = base.timer(() => seen.push(base.runningEvent));
    event.add(1);
    base.once(null, EV_TIMEOUT, () => seen.push(base.runningEvent), 2);
    assertEquals(base.runningEvent, null);
    await sim.run(base.dispatch());
    assertStrictEquals(seen[0], event);
    assertEquals([seen.length, base.runningEvent], [2, null]);
  });
});

describe("stats()", () => {
  it("counts turns, callbacks by kind, and events", async () => {
    const { sim, base } = world();
    assertEquals(base.stats(), {
      turns: 0,
      callbacks: 0,
      byKind: { read: 0, write: 0, timeout: 0, signal: 0, other: 0 },
      events: { added: 0, active: 0, virtual: 0 },
      lagMs: { p50: 0, p99: 0, max: 0 },
    });
    for (let i = 1; i <= 3; i++) base.timer(() => {}).add(i);
    base.event(null, EV_READ, () => {}).activate(EV_READ | EV_WRITE);
    base.event(null, EV_READ, () => {}).activate(0x1000);
    const signal = base.signal("SIGTERM", () => signal.del());
    signal.add();
    sim.raise("SIGTERM");
    assertEquals(base.stats().events, { added: 6, active: 2, virtual: 0 });
    await sim.run(base.dispatch());
    const { turns, callbacks, byKind, events } = base.stats();
    assertEquals([callbacks, byKind], [6, { read: 1, write: 1, timeout: 3, signal: 1, other: 1 }]);
    assertEquals(events, { added: 0, active: 0, virtual: 0 });
    assert(turns >= 4 && turns <= 6, `${turns} turns`);
  });

  it("reports how late timers were", async () => {
    const sim = simRuntime();
    const busy = new BusyHost(sim);
    const base = new EventBase({ runtime: busy });
    for (let i = 1; i <= 99; i++) base.timer(() => {}).add(i);
    base.timer(() => busy.block(30)).add(200);
    base.timer(() => {}).add(206);
    await sim.run(base.dispatch());
    const { p50, p99, max } = base.stats().lagMs;
    assert(p50 <= 2 ** -6, `${p50}`);
    assert(p99 <= 2 ** -6, `${p99}`);
    assertEquals(max, 24);
  });
});
