// The result of write(), and the hard limit of queued output.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { EventError } from "../../../core/errors.ts";
import { EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { pattern } from "../socket/pairs.ts";
import { isFreed, type Rig, rig } from "./rig.ts";
import { Stage } from "./stage.ts";

/** Lets the peer read for a time in milliseconds. Returns the callbacks and the number of bytes. */
async function drain(made: Rig, ms: number): Promise<[string[], number]> {
  const calls: string[] = [];
  let count = 0;
  for (let i = 0; i < ms; i++) {
    count += made.peerCount();
    calls.push(...await made.during(1));
  }
  return [calls, count + made.peerCount()];
}

describe("write() and writeBuffer()", () => {
  it("give false from 64 KiB of output on, and the write callback follows when it has drained", async () => {
    const made = await rig();
    const { bev } = made;
    assertEquals([bev.write(pattern(65_535)), bev.write("x"), bev.write("y")], [true, false, false]);
    assertEquals([await drain(made, 20), bev.write("z")], [[["write 0"], 65_537], true]);
    await made.end();
  });

  it("give false from the high watermark of writing on, if one is set", async () => {
    const made = await rig();
    const { bev } = made;
    bev.setWatermark(EV_WRITE, 4, 10);
    const src = new EvBuffer();
    src.add("01234567");
    assertEquals([bev.writeBuffer(src), bev.write("8"), bev.write("9"), src.length], [true, true, false, 0]);
    bev.setWatermark(EV_WRITE, 0, 0);
    assertEquals(bev.write("a"), true);
    assertEquals(await drain(made, 5), [["write 0"], 11]);
    await made.end();
  });

  it("return false if the peer does not read, and the callback comes when it does", async () => {
    const made = await rig();
    const { bev } = made;
    const before = await made.block();
    let queued = 0;
    for (let more = true; more; queued += 10_000) more = bev.write(pattern(10_000));
    assertEquals([queued, await made.during(50)], [70_000, []]);
    assertEquals(await drain(made, 200), [["write 0"], before + queued]);
    await made.end();
  });

  it("give false from the high watermark on until the output has drained to the low one", async () => {
    const made = await rig();
    const { bev } = made;
    const before = await made.block();
    bev.setWatermark(EV_WRITE, 30_000, 100_000);
    assertEquals([bev.write(pattern(99_999)), bev.write("x"), bev.write("y")], [true, false, false]);
    let drained = false;
    const waiting = bev.drained().then(() => drained = true);
    let received = 0;
    const into = new Uint8Array(16_384);
    let between = false;
    while (bev.output.length > 30_000) {
      between ||= bev.output.length < 90_000;
      assertEquals([bev.write(""), drained], [false, false]);
      received += Math.max(0, made.peer.recv(into));
      await made.during(2);
    }
    await waiting;
    assertEquals([bev.write(""), drained, between], [true, true, true]);
    assertEquals((await drain(made, 200))[1] + received, before + 100_001);
    await made.end();
  });

  it("of a pair count the bytes that the partner has not taken", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.setWatermark(EV_READ, 0, 10);
    b.enable(EV_READ);
    a.setWatermark(EV_WRITE, 0, 5);
    assertEquals([a.write(pattern(14)), a.write("x"), b.input.length], [true, false, 10]);
    await stage.during(1);
    assertEquals([log.take(), a.write("y")], [["b read 10", "b read 5", "a write 0"], true]);
    await stage.end(a, b);
  });
});

describe("maxOutputBytes", () => {
  it("is 64 MiB, and can be any positive number of bytes or Infinity", async () => {
    const made = await rig();
    const { bev } = made;
    assertEquals(bev.maxOutputBytes, 64 * 1024 * 1024);
    bev.maxOutputBytes = 1;
    bev.maxOutputBytes = Infinity;
    for (const bytes of [0, -1, 1.5, NaN]) {
      assertThrows(() => bev.maxOutputBytes = bytes, RangeError, "maxOutputBytes");
    }
    assertEquals(bev.maxOutputBytes, Infinity);
    await made.end();
  });

  it("when exceeded queues nothing, and reports WRITING|ERROR with ENOBUFS in the turn, once until the output has drained", async () => {
    const made = await rig();
    const { bev, record } = made;
    const before = await made.block();
    bev.maxOutputBytes = 1000;
    const src = new EvBuffer();
    src.add(pattern(501));
    assertEquals([bev.write(pattern(500)), bev.write("é".repeat(250)), bev.output.length], [true, false, 1000]);
    assertEquals([bev.write("x"), bev.writeBuffer(src), bev.output.length, src.length], [false, false, 1000, 501]);
    assertEquals(record.lines, [], "not inside the call");
    assertEquals(await made.during(1), ["event WRITING|ERROR"]);
    const [error] = record.errors as [EventError];
    assertEquals([error.code, error.syscall], ["ENOBUFS", "write"]);
    assertEquals(error.message, "Cannot write 1 bytes: 1000 are queued, and maxOutputBytes is 1000");
    assertEquals([bev.write("x"), await made.during(1), bev.enabled & EV_WRITE], [false, [], EV_WRITE]);
    assertEquals(await drain(made, 200), [["write 0"], before + 1000], "what was queued is sent, and drains");
    assertEquals([bev.writeBuffer(src), src.length], [true, 0]);
    assertEquals([bev.write(pattern(500)), await made.during(1)], [false, ["write 0"]]);
    await made.end();
  });

  it("accepts a whole write of any size while the output is below it", async () => {
    const made = await rig();
    const { bev } = made;
    bev.maxOutputBytes = 10;
    bev.write(pattern(9));
    assertEquals([bev.write(pattern(5_000_000)), bev.output.length], [false, 5_000_009]);
    assertEquals([bev.write("€"), bev.output.length], [false, 5_000_009]);
    assertEquals(await made.during(1), ["event WRITING|ERROR"]);
    assertEquals(made.record.errors.map((error) => error?.message), [
      "Cannot write 3 bytes: 5000009 are queued, and maxOutputBytes is 10",
    ]);
    assertEquals(await drain(made, 1000), [["write 0"], 5_000_009]);
    await made.end();
  });

  it("does not apply to bytes that are added to the output directly", async () => {
    const made = await rig();
    const { bev } = made;
    bev.maxOutputBytes = 10;
    bev.output.add(pattern(100));
    assertEquals([bev.output.length, bev.write("x")], [100, false]);
    assertEquals(await drain(made, 5), [["event WRITING|ERROR", "write 0"], 100]);
    await made.end();
  });

  it("allows free() in the event callback that reports it", async () => {
    const made = await rig();
    const { bev, record } = made;
    record.on = { event: (bev) => bev.free() };
    bev.maxOutputBytes = 10;
    bev.write(pattern(10));
    bev.write("x");
    assertEquals(await made.during(5), ["event WRITING|ERROR"]);
    assert(isFreed(bev));
    await made.end();
  });
});
