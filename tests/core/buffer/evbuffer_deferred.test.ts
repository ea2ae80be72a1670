/** Callbacks that the loop runs (rules B13, O1). */

import { describe, it } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { type BufferChange, EvBuffer } from "../../../core/buffer/mod.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

type Told = [origSize: number, added: number, deleted: number];

function setUp(): { base: EventBase; buffer: EvBuffer; told: Told[]; dispatch: () => Promise<unknown> } {
  const runtime = simRuntime();
  const base = new EventBase({ runtime });
  const buffer = new EvBuffer();
  const told: Told[] = [];
  buffer.addCallback((_buffer: EvBuffer, info: BufferChange) => told.push([info.origSize, info.added, info.deleted]));
  return { base, buffer, told, dispatch: () => runtime.run(base.dispatch()) };
}

describe("EvBuffer.deferCallbacks()", () => {
  it("reports all changes of a pass in one call", async () => {
    const { base, buffer, told, dispatch } = setUp();
    buffer.deferCallbacks(base);
    buffer.add("hello");
    buffer.add("you");
    buffer.drain(2);
    assertEquals(told, []);
    await dispatch();
    assertEquals(told, [[0, 8, 2]]);
    buffer.add("x");
    buffer.drain(1);
    await dispatch();
    assertEquals(told, [[0, 8, 2], [6, 1, 1]]);
    await dispatch();
    assertEquals(told.length, 2);
  });

  it("reports the changes of a deferred callback in another run", async () => {
    const { base, buffer, told, dispatch } = setUp();
    let times = 0;
    buffer.addCallback((it) => {
      if (times++ < 3) it.add("x");
    });
    buffer.deferCallbacks(base);
    buffer.add("ab");
    await dispatch();
    assertEquals(told, [[0, 2, 0], [2, 1, 0], [3, 1, 0], [4, 1, 0]]);
  });

  it("calls nothing after free()", async () => {
    const { base, buffer, told, dispatch } = setUp();
    buffer.deferCallbacks(base);
    buffer.add("x");
    buffer.free();
    await dispatch();
    assertEquals(told, []);
  });

  it("forgets changes that happened while there was no callback", async () => {
    const runtime = simRuntime();
    const base = new EventBase({ runtime });
    const buffer = new EvBuffer();
    buffer.deferCallbacks(base);
    buffer.add("not told");
    const told: Told[] = [];
    buffer.addCallback((_buffer, info) => told.push([info.origSize, info.added, info.deleted]));
    buffer.add("x");
    await runtime.run(base.dispatch());
    assertEquals(told, [[8, 1, 0]]);
  });

  it("skips callbacks that are disabled or removed before the loop runs them", async () => {
    const { base, buffer, told, dispatch } = setUp();
    const order: string[] = [];
    const disabled = buffer.addCallback(() => order.push("disabled"));
    const removed = buffer.addCallback(() => order.push("removed"));
    buffer.deferCallbacks(base);
    buffer.add("x");
    disabled.enabled = false;
    removed.remove();
    await dispatch();
    assertEquals([order, told], [[], [[0, 1, 0]]]);
  });

  it("moves to another base with the changes that wait", async () => {
    const { base, buffer, told } = setUp();
    const runtime = simRuntime();
    const other = new EventBase({ runtime });
    buffer.deferCallbacks(base);
    buffer.add("abc");
    buffer.deferCallbacks(other);
    buffer.drain(1);
    await runtime.run(other.dispatch());
    assertEquals(told, [[0, 3, 1]]);
  });

  it("defers the callbacks of both buffers of a move", async () => {
    const { base, buffer, told, dispatch } = setUp();
    const source = new EvBuffer();
    const told2: Told[] = [];
    source.addCallback((_buffer, info) => told2.push([info.origSize, info.added, info.deleted]));
    buffer.deferCallbacks(base);
    source.deferCallbacks(base);
    source.add("abcd");
    source.removeBuffer(buffer, 3);
    assertEquals([told, told2], [[], []]);
    await dispatch();
    assertEquals([told, told2], [[[0, 3, 0]], [[0, 4, 3]]]);
  });

  it("takes only a base", () => {
    assertThrows(() => new EvBuffer().deferCallbacks(undefined as never), TypeError);
    assertThrows(() => new EvBuffer().deferCallbacks({} as never), TypeError);
  });
});
