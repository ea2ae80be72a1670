/** What is set on one bufferevent is its own, though those that are set alike share it inside. */

import { test } from "node:test";
import { assertEquals } from "@std/assert";
import { type BufferEvent, bufferEventPair, EV_READ, EV_WRITE, EventBase } from "../../../core/mod.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

function set(bev: BufferEvent): BufferEvent {
  bev.setWatermark(EV_READ, 1, 100);
  bev.setWatermark(EV_WRITE, 2, 200);
  bev.setTimeouts(1000.5, null);
  bev.maxOutputBytes = 5000;
  return bev;
}

function settings(bev: BufferEvent): unknown[] {
  return [bev.getWatermark(EV_READ), bev.getWatermark(EV_WRITE), bev.maxOutputBytes];
}

const ALIKE = [{ low: 1, high: 100 }, { low: 2, high: 200 }, 5000];

test("settings: equal ones are one object, and a change of one does not change the others", () => {
  using base = new EventBase({ runtime: simRuntime() });
  const all = Array.from({ length: 5 }, () => bufferEventPair(base).map(set)).flat();
  for (const bev of all) assertEquals(settings(bev), ALIKE);
  const [first, second] = all as [BufferEvent, BufferEvent];
  first.setWatermark(EV_READ, 7, 0);
  second.maxOutputBytes = Infinity;
  assertEquals(settings(first), [{ low: 7, high: 0 }, { low: 2, high: 200 }, 5000]);
  assertEquals(settings(second), [{ low: 1, high: 100 }, { low: 2, high: 200 }, Infinity]);
  for (const bev of all.slice(2)) assertEquals(settings(bev), ALIKE);
  // New ones are not set at all.
  assertEquals(settings(bufferEventPair(base)[0]), [{ low: 0, high: 0 }, { low: 0, high: 0 }, 64 * 1024 * 1024]);
  for (const bev of all) bev.free();
});

test("settings: what changes all the time is right each time, for each of many", () => {
  using base = new EventBase({ runtime: simRuntime() });
  const [a, b] = bufferEventPair(base);
  for (let i = 1; i <= 100; i++) {
    a.setWatermark(EV_READ, i, 2 * i);
    b.setWatermark(EV_READ, i, i % 3 === 0 ? 2 * i : 3 * i);
    b.setMaxSingleWrite(i);
    assertEquals(a.getWatermark(EV_READ), { low: i, high: 2 * i });
    assertEquals(b.getWatermark(EV_READ), { low: i, high: i % 3 === 0 ? 2 * i : 3 * i });
  }
  a.free();
  b.free();
});

test("settings: write() says stop at the high watermark or at the bound of the output, whichever is less", () => {
  using base = new EventBase({ runtime: simRuntime() });
  const [a, b] = bufferEventPair(base);
  a.setWatermark(EV_WRITE, 0, 10);
  assertEquals([a.write("12345"), a.write("67890")], [true, false]);
  a.maxOutputBytes = 12;
  assertEquals([a.write("ab"), a.output.length], [false, 12]);
  b.maxOutputBytes = 4;
  assertEquals([b.write("123"), b.write("4")], [true, false]);
  a.free();
  b.free();
});
