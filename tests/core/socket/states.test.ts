// The states of a connection and of a bufferevent, and what the check of every other test here asserts of them.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectionOf, Socket } from "../../../core/api/socket.ts";
import {
  checkConnection,
  type Connection,
  type ConnectionState,
  NEXT_STATES,
  stateOf,
} from "../../../core/socket/connection.ts";
import { coreOf } from "../../../core/api/bufferevent.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import {
  type BevState,
  bevStateOf,
  checkBev,
  SUSPEND_OUTPUT,
  SUSPEND_WATERMARK,
} from "../../../core/bufferevent/core.ts";
import { EV_WRITE } from "../../../core/flags.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { checks } from "./checked.ts";
import { socketPair } from "./pairs.ts";

describe("a connection", () => {
  it("goes from connecting to open, gone and over", async () => {
    const sim = simRuntime();
    const [near, far] = await socketPair(sim);
    const late = Socket.connect(sim, { port: 1 });
    assertEquals(stateOf(connectionOf(late)), "connecting");
    const connection = connectionOf(near);
    assertEquals(stateOf(connection), "open");
    far.reset();
    await sim.advance(1);
    assertEquals(stateOf(connection), "gone");
    near.close();
    assertEquals(stateOf(connection), "over");
    late.close();
  });

  it("is closing while its bytes still leave", async () => {
    const sim = simRuntime();
    const [near, far] = await socketPair(sim);
    near.send(new Uint8Array(10_000));
    near.close();
    assertEquals(stateOf(connectionOf(near)), "closing");
    far.close();
    await sim.advance(10_000);
    assertEquals(stateOf(connectionOf(near)), "over");
  });

  it("is checked by every test that makes one", async () => {
    const before = checks;
    const [near, far] = await socketPair(simRuntime());
    near.close();
    far.close();
    assert(checks > before);
  });
});

describe("the check of a connection", () => {
  it("refuses every step that the table does not have", async () => {
    const [near, far] = await socketPair(simRuntime());
    const states = Object.keys(NEXT_STATES) as ConnectionState[];
    for (const before of states) {
      const legal = before === "open" || NEXT_STATES[before].includes("open");
      if (legal) checkConnection(connectionOf(near), before);
      else assertThrows(() => checkConnection(connectionOf(near), before), Error, `was ${before} is open`);
    }
    near.close();
    far.close();
  });

  it("refuses a connection that is not whole", async () => {
    const [near, far] = await socketPair(simRuntime());
    const broken = (change: Partial<Record<keyof Connection, unknown>>): Connection =>
      new Proxy(connectionOf(near), {
        get: (target, key): unknown => {
          if (key in change) return change[key as keyof Connection];
          return Reflect.get(target, key, target) as unknown;
        },
      });
    assertThrows(() => checkConnection(broken({ available: 1 }), "open"), Error, "EV_READ");
    assertThrows(() => checkConnection(broken({ binding: null }), "open"), Error, "no binding");
    assertThrows(() => checkConnection(broken({ gone: true, unsent: 1 }), "open"), Error, "nobody can send");
    assertThrows(() => checkConnection(broken({ closed: true }), "open"), Error, "is ready");
    near.close();
    far.close();
  });
});

describe("a bufferevent", () => {
  it("goes from open to finishing, closing and freed", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const [near, far] = bufferEventPair(base);
    const core = coreOf(near);
    assertEquals(bevStateOf(core), "open");
    near.shutdown();
    assertEquals(bevStateOf(core), "finishing");
    const closed = near.close();
    assertEquals(bevStateOf(core), "closing");
    far.free();
    await sim.run(Promise.all([closed, base.dispatch()]));
    assertEquals(bevStateOf(core), "freed");
  });
});

describe("the check of a bufferevent", () => {
  const states: readonly BevState[] = ["open", "finishing", "closing", "freed"];

  it("refuses every step back", () => {
    const [near] = bufferEventPair(new EventBase({ runtime: simRuntime() }));
    checkBev(coreOf(near), "open");
    for (const before of states.slice(1)) {
      assertThrows(() => checkBev(coreOf(near), before), Error, `was ${before} is open`);
    }
    near.free();
    for (const before of states) checkBev(coreOf(near), before);
  });

  it("refuses a bufferevent that is not whole", () => {
    const [near] = bufferEventPair(new EventBase({ runtime: simRuntime() }));
    const core = coreOf(near);
    core.readSuspended = SUSPEND_OUTPUT;
    assertThrows(() => checkBev(core, "open"), Error, "an output that is not full");
    core.readSuspended = SUSPEND_WATERMARK;
    assertThrows(() => checkBev(core, "open"), Error, "an input that is not full");
    core.readSuspended = 0;
    near.setWatermark(EV_WRITE, 0, 1);
    checkBev(core, "open");
    near.free();
    core.callbacks = {};
    assertThrows(() => checkBev(core, "freed"), Error, "has callbacks");
  });
});
