/** Each bufferevent has its own settings, although equal settings are one object inside. */

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
  // New bufferevents have no settings.
  assertEquals(settings(bufferEventPair(base)[0]), [{ low: 0, high: 0 }, { low: 0, high: 0 }, 64 * 1024 * 1024]);
  for (const bev of all) bev.free();
});

test("settings: values that change often are correct each time, for each of many", () => {
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

test("settings: write() gives false from the high watermark or the default limit on, whichever is less", () => {
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
