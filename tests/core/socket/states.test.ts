// The states of a connection and of a bufferevent, and the check that every other test here runs.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectionOf, Socket } from "../../../core/api/socket.ts";
import {
  checkConnection,
  type Connection,
  type ConnectionState,
  NEXT_STATES,
  PAUSED,
  SENT,
  stateOf,
} from "../../../core/socket/connection.ts";
import { coreOf } from "../../../core/api/bufferevent.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import {
  type BevCore,
  type BevState,
  bevStateOf,
  checkBev,
  SUSPEND_OUTPUT,
  SUSPEND_WATERMARK,
} from "../../../core/bufferevent/core.ts";
import { EV_CLOSED, EV_READ, EV_WRITE } from "../../../core/flags.ts";
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
  it("refuses every step that is not in the table", async () => {
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

  it("refuses an inconsistent connection", async () => {
    const [near, far] = await socketPair(simRuntime());
    const { readiness, state } = connectionOf(near);
    const there = {} as never;
    const lost = { connected: false, gone: true, readiness: EV_READ | EV_CLOSED };
    const over = { gone: true, closed: true, binding: null, readiness: 0 };
    const wrong: readonly (readonly [ConnectionState, Partial<Record<keyof Connection, unknown>>, message: string])[] =
      [
        ["open", { error: there }, "its binding is not gone"],
        ["open", { handshake: there }, "established before its handshake is through"],
        ["gone", { ...lost, binding: null, state: state | SENT }, "sent without a binding"],
        ["open", { binding: null }, "no binding"],
        ["open", { connecting: there }, "attempts to connect go on"],
        ["gone", { ...lost, handshake: there }, "a handshake goes on without a binding"],
        ["gone", { ...lost, unsent: 1 }, "nobody can send"],
        ["over", { ...over, available: 1 }, "keeps what has arrived"],
        ["over", { ...over, readiness: EV_WRITE }, "a closed connection is ready"],
        ["over", { ...over, firstEvent: there }, "events watch a closed connection"],
        ["over", { ...over, loop: there }, "events watch a closed connection"],
        ["open", { available: 1 }, "EV_READ"],
        ["open", { readiness: readiness | EV_READ }, "EV_READ"],
        ["gone", { ...lost, readiness: EV_READ }, "EV_CLOSED"],
        ["open", { readiness: readiness | EV_CLOSED }, "EV_CLOSED"],
        ["connecting", { connected: false, readiness: EV_WRITE }, "writable before it is established"],
        ["open", { state: state | PAUSED }, "the receive queue has space"],
      ];
    checkConnection(changed(connectionOf(near), {}), "open");
    checkConnection(changed(connectionOf(near), lost), "gone");
    checkConnection(changed(connectionOf(near), over), "over");
    checkConnection(changed(connectionOf(near), { connected: false, readiness: 0, connecting: there }), "connecting");
    for (const [before, change, message] of wrong) {
      assertThrows(() => checkConnection(changed(connectionOf(near), change), before), Error, message);
    }
    near.close();
    far.close();
  });
});

/** A copy of an object with other values for some of its properties. */
function changed<T extends object>(object: T, change: Partial<Record<keyof T, unknown>>): T {
  return new Proxy(object, {
    get: (target, key): unknown => key in change ? change[key as keyof T] : Reflect.get(target, key, target),
  });
}

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

  it("refuses an inconsistent bufferevent", () => {
    const [near] = bufferEventPair(new EventBase({ runtime: simRuntime() }));
    const core = coreOf(near);
    const there = {} as never;
    const bytes = { length: 10 };
    const freed = { freed: true, callbacks: null, idle: null };
    const wrong: readonly (readonly [BevState, Partial<Record<keyof BevCore, unknown>>, message: string])[] = [
      ["freed", { ...freed, callbacks: there }, "has callbacks"],
      ["freed", { ...freed, idle: there }, "has an idle timer"],
      ["freed", { ...freed, output: bytes }, "has bytes"],
      ["freed", { ...freed, input: bytes }, "has bytes"],
      ["open", { output: bytes, stopAt: 10, full: false }, "write() does not say so"],
      ["open", { readSuspended: SUSPEND_OUTPUT, holdsBack: false }, "an output that is not full"],
      ["open", { readSuspended: SUSPEND_WATERMARK, input: bytes, readHigh: 0 }, "an input that is not full"],
      ["open", { readSuspended: SUSPEND_WATERMARK, input: bytes, readHigh: 11 }, "an input that is not full"],
    ];
    checkBev(core, "open");
    checkBev(changed(core, freed), "freed");
    checkBev(changed(core, { output: bytes, stopAt: 10, full: true }), "open");
    checkBev(changed(core, { readSuspended: SUSPEND_OUTPUT, holdsBack: true }), "open");
    checkBev(changed(core, { readSuspended: SUSPEND_WATERMARK, input: bytes, readHigh: 10 }), "open");
    for (const [before, change, message] of wrong) {
      assertThrows(() => checkBev(changed(core, change), before), Error, message);
    }
    near.free();
  });
});
