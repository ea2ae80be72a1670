// Pairs. Rules M1 to M6.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { bufferEventPair, PairBufferEvent } from "../../../core/api/pair_bufferevent.ts";
import { pipe } from "../../../core/api/pipe.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_FINISHED,
  BEV_FLUSH,
  BEV_NORMAL,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_UNLOCK_CALLBACKS,
  EV_READ,
  EV_WRITE,
} from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { ALL_COUNTS } from "../loop/harness.ts";
import { isFreed } from "./rig.ts";
import { Record, Stage } from "./stage.ts";

const BOTH = EV_READ | EV_WRITE;

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

describe("a new pair (M1, M6)", () => {
  it("has writing enabled at both ends, and each is the other's partner", async () => {
    const stage = new Stage();
    const [a, b] = bufferEventPair(stage.base);
    assert(a instanceof PairBufferEvent && b instanceof PairBufferEvent);
    assertEquals([a.enabled, b.enabled], [EV_WRITE, EV_WRITE]);
    assertStrictEquals(a.partner, b);
    assertStrictEquals(b.partner, a);
    assertStrictEquals(a.base, stage.base);
    await stage.end(a, b);
    assertEquals([a.partner, b.partner], [null, null]);
  });

  it("refuses unknown options, and a base that was freed", () => {
    const { base } = new Stage();
    assertThrows(() => bufferEventPair(base, 16), RangeError);
    assertThrows(() => bufferEventPair(base, BEV_OPT_UNLOCK_CALLBACKS), RangeError);
    base.free();
    assertEquals(codeOf(() => bufferEventPair(base)), "EV_FREED");
  });

  it("does not keep a loop from being empty", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    a.enable(EV_READ);
    b.enable(EV_READ);
    await stage.settle();
    await stage.end(a, b);
  });

  it("has the middle priority, and can't have another", () => {
    const { base } = new Stage();
    const wide = new EventBase({ runtime: base.runtime, priorities: 5 });
    const [a] = bufferEventPair(wide);
    assertEquals(a.priority, 2);
    assertEquals(codeOf(() => a.priority = 1), "EV_UNSUPPORTED");
  });
});

describe("a transfer (M1)", () => {
  it("happens inside write(); the callbacks run later, the reader's before the writer's", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.enable(EV_READ);
    a.write("hello");
    assertEquals([a.output.length, b.input.toString(), log.take()], [0, "hello", []]);
    await stage.settle();
    assertEquals(log.take(), ["b read 5", "a write 0"]);
    await stage.end(a, b);
  });

  it("happens inside enable() of either direction", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    a.disable(EV_WRITE);
    a.write("one");
    b.enable(EV_READ);
    assertEquals(b.input.length, 0);
    a.enable(EV_WRITE);
    assertEquals(b.input.toString(), "one");
    b.disable(EV_READ);
    a.write("two");
    assertEquals(b.input.toString(), "one");
    b.enable(EV_READ);
    assertEquals(b.input.toString(), "onetwo");
    await stage.end(a, b);
  });

  it("merges the callbacks of one pass", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.enable(EV_READ);
    for (let i = 0; i < 10; i++) a.write("x");
    await stage.settle();
    assertEquals(log.take(), ["b read 10", "a write 0"]);
    await stage.end(a, b);
  });

  it("moves chunks and copies nothing", async () => {
    const stage = new Stage();
    const [a, b] = bufferEventPair(stage.base);
    b.enable(EV_READ);
    const bytes = new Uint8Array(100_000);
    a.output.addReference(bytes);
    assertStrictEquals(b.input.peek()[0]?.buffer, bytes.buffer);
    await stage.end(a, b);
  });

  it("goes both ways at the same time, for every function that adds to an output", async () => {
    const stage = new Stage();
    const [a, b] = bufferEventPair(stage.base);
    for (const bev of [a, b]) bev.enable(EV_READ);
    const other = new EvBuffer();
    other.add("4");
    a.output.add("1");
    b.write("A");
    a.output.addIovec([Uint8Array.of(50), Uint8Array.of(51)]);
    b.output.addBuffer(b.input);
    a.writeBuffer(other);
    const [space] = b.output.reserveSpace(1);
    assert(space !== undefined);
    space[0] = 66;
    b.output.commitSpace([space.subarray(0, 1)]);
    assertEquals([a.input.toString(), b.input.toString()], ["A123B", "4"]);
    await stage.end(a, b);
  });

  it("calls the reader with at least the low watermark, and the writer at the low watermark of writing", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    log.drains = false;
    b.setWatermark(EV_READ, 4, 0);
    a.setWatermark(EV_WRITE, 2, 0);
    b.enable(EV_READ);
    a.write("abc");
    await stage.settle();
    assertEquals(log.take(), ["a write 0"]);
    a.write("d");
    await stage.settle();
    assertEquals(log.take(), ["b read 4", "a write 0"]);
    b.setWatermark(EV_READ, 0, 5);
    a.write("efgh");
    await stage.settle();
    assertEquals([b.input.length, a.output.length, log.take()], [5, 3, ["b read 5"]]);
    b.input.drain(1);
    await stage.settle();
    assertEquals([b.input.length, a.output.length, log.take()], [5, 2, ["b read 5", "a write 2"]]);
    await stage.end(a, b);
  });

  it("goes on as long as the write callback writes", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    let left = 100;
    log.on.write = (bev) => {
      if (bev === a && left-- > 0) bev.write("y");
    };
    b.enable(EV_READ);
    a.write("x");
    await stage.settle();
    assertEquals(log.received.length, 101);
    await stage.end(a, b);
  });

  it("may be read, answered and freed in change callbacks of the buffers", async () => {
    const stage = new Stage();
    const [a, b] = bufferEventPair(stage.base);
    for (const bev of [a, b]) bev.enable(EV_READ);
    b.input.addCallback((buffer, { added }) => {
      if (added === 0) return;
      if (buffer.toString().endsWith("!")) a.free();
      else b.write(buffer.toString().toUpperCase());
      buffer.drain(buffer.length);
    });
    a.write("abc");
    assertEquals([a.input.toString(), b.input.length], ["ABC", 0]);
    a.write("end!");
    assert(isFreed(a));
    b.write("left");
    assertEquals(b.output.toString(), "left");
    await stage.end(b);
  });
});

describe("the receiver's high watermark (M2)", () => {
  it("limits the transfer, and a drain moves more at once", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    log.drains = false;
    b.setWatermark(EV_READ, 0, 4);
    b.enable(EV_READ);
    a.write("0123456789");
    assertEquals([b.input.length, a.output.length], [4, 6]);
    await stage.settle();
    assertEquals(log.take(), ["b read 4"]);
    b.input.drain(3);
    assertEquals([b.input.toString(), a.output.length], ["3456", 3]);
    b.input.drain(4);
    assertEquals([b.input.toString(), a.output.length], ["789", 0]);
    await stage.settle();
    assertEquals(log.take(), ["b read 3", "a write 0"]);
    await stage.end(a, b);
  });

  it("lets the end of file that follows a drain come after the last read callback", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.setWatermark(EV_READ, 0, 4);
    b.enable(EV_READ);
    a.write("012345");
    a.shutdown();
    await stage.settle();
    assertEquals(log.take().filter((line) => line.startsWith("b")), ["b read 4", "b read 2", "b event READING|EOF"]);
    assertEquals(log.received.toString(), "012345");
    await stage.end(a, b);
  });

  it("moves more at once when it is raised or removed", async () => {
    const stage = new Stage();
    const [a, b] = bufferEventPair(stage.base);
    b.setWatermark(EV_READ, 0, 2);
    b.enable(EV_READ);
    a.write("0123456789");
    b.setWatermark(EV_READ, 0, 5);
    assertEquals(b.input.length, 5);
    b.setWatermark(EV_READ, 0, 0);
    assertEquals(b.input.length, 10);
    await stage.end(a, b);
  });

  it("calls back once while nobody drains", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    log.drains = false;
    b.setWatermark(EV_READ, 0, 3);
    b.enable(EV_READ);
    a.write("0123456789");
    await stage.during(50);
    assertEquals(log.take(), ["b read 3"]);
    await stage.end(a, b);
  });
});

describe("timeouts (M3)", () => {
  it("of reading run while it is enabled and not suspended, and restart with each transfer", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    log.drains = false;
    b.setTimeouts(100, null);
    await stage.during(200);
    b.enable(EV_READ);
    await stage.during(80);
    a.write("x");
    await stage.during(80);
    b.setWatermark(EV_READ, 0, 1);
    await stage.during(200);
    assertEquals(log.take(), ["b read 1", "a write 0"]);
    b.input.drain(1);
    await stage.during(99);
    assertEquals(log.take(), []);
    await stage.during(2);
    assertEquals([log.take(), b.enabled], [["b event READING|TIMEOUT"], EV_WRITE]);
    b.enable(EV_READ);
    await stage.during(101);
    assertEquals(log.take(), ["b event READING|TIMEOUT"]);
    await stage.end(a, b);
  });

  it("of writing run only while output waits, and restart when some of it has left", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    log.drains = false;
    a.setTimeouts(null, 100);
    a.enable(EV_WRITE);
    await stage.during(200);
    b.setWatermark(EV_READ, 0, 1);
    b.enable(EV_READ);
    a.write("xyz");
    await stage.during(80);
    assertEquals(log.take(), ["b read 1"]);
    b.input.drain(1);
    await stage.during(60);
    a.write("!");
    await stage.during(39);
    assertEquals(log.take(), ["b read 1"]);
    await stage.during(2);
    assertEquals([log.take(), a.enabled, a.output.length], [["a event WRITING|TIMEOUT"], 0, 2]);
    b.input.drain(1);
    await stage.during(200);
    assertEquals([log.take(), a.output.length], [[], 2]);
    a.enable(EV_WRITE);
    assertEquals([b.input.toString(), a.output.length], ["z", 1]);
    await stage.end(a, b);
  });

  it("that are set again count from now; null removes them", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.enable(EV_READ);
    b.setTimeouts(100, null);
    await stage.during(90);
    b.setTimeouts(100, 100);
    await stage.during(90);
    b.setTimeouts(null, null);
    await stage.settle();
    assertEquals(log.take(), []);
    await stage.end(a, b);
  });
});

describe("flush() (M4)", () => {
  it("in the mode BEV_NORMAL does nothing", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    a.write("abc");
    a.flush(BOTH, BEV_NORMAL);
    await stage.settle();
    assertEquals([a.output.length, b.input.length, log.take()], [3, 0, []]);
    await stage.end(a, b);
  });

  it("in the mode BEV_FLUSH moves whatever is enabled, and beyond the watermark", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    log.drains = false;
    b.setWatermark(EV_READ, 0, 2);
    b.enable(EV_READ);
    a.write("abcdef");
    assertEquals(b.input.length, 2);
    a.flush(EV_WRITE, BEV_FLUSH);
    assertEquals([b.input.toString(), a.output.length], ["abcdef", 0]);
    b.write("answer");
    a.flush(EV_READ, BEV_FLUSH);
    assertEquals(a.input.toString(), "answer");
    await stage.settle();
    assertEquals(log.take().sort(), ["a read 6", "a write 0", "b read 6", "b write 0"]);
    await stage.end(a, b);
  });

  it("in the mode BEV_FINISHED also reports EOF to the partner, and changes no flags", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.enable(EV_READ);
    a.write("last");
    a.flush(EV_WRITE, BEV_FINISHED);
    await stage.settle();
    assertEquals([log.take(), b.enabled], [["b read 4", "b event READING|EOF", "a write 0"], BOTH]);
    a.flush(BOTH, BEV_FINISHED);
    await stage.settle();
    assertEquals(log.take(), ["b event READING|WRITING|EOF"]);
    a.flush(EV_READ, BEV_FINISHED);
    await stage.settle();
    assertEquals(log.take(), ["b event WRITING|EOF"]);
    await stage.end(a, b);
  });

  it("without new bytes calls no read or write callback", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    for (const mode of [BEV_FLUSH, BEV_FINISHED]) a.flush(EV_WRITE, mode);
    await stage.settle();
    assertEquals(log.take(), ["b event READING|EOF"]);
    await stage.end(a, b);
  });

  it("without a partner throws EV_UNSUPPORTED; an unknown mode or direction is a RangeError", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    assertThrows(() => a.flush(BOTH, 3), RangeError);
    assertThrows(() => a.flush(8, BEV_FLUSH), RangeError);
    b.free();
    for (const mode of [BEV_NORMAL, BEV_FLUSH, BEV_FINISHED]) {
      assertEquals(codeOf(() => a.flush(EV_WRITE, mode)), "EV_UNSUPPORTED");
    }
    a.free();
    assertEquals(codeOf(() => a.flush(EV_WRITE, BEV_FLUSH)), "EV_FREED");
    await stage.end();
  });
});

describe("free() of one end (M5, M6)", () => {
  it("gives the other the end of file after all arrived bytes, once reading is enabled; its own callbacks stop", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair(BEV_OPT_CLOSE_ON_FREE);
    b.write("last");
    b.free();
    assertEquals([a.partner, isFreed(a)], [null, false]);
    await stage.settle();
    assertEquals(log.take(), []);
    a.enable(EV_READ);
    await stage.settle();
    assertEquals([log.take(), a.enabled], [["a event READING|EOF"], EV_WRITE]);
    a.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["a event READING|EOF"]);
    await stage.end(a);
  });

  it("leaves bytes that have arrived, which are reported before the end", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.enable(EV_READ);
    a.write("sent");
    a.free();
    assertEquals(b.input.toString(), "sent");
    await stage.settle();
    assertEquals([log.take(), log.received.toString()], [["b read 4", "b event READING|EOF"], "sent"]);
    await stage.end(b);
  });

  it("makes later writes of the other fail with EPIPE, reported once, and disables writing there", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.free();
    await stage.settle();
    assertEquals(log.take(), []);
    for (const text of ["lost", ", too"]) a.write(text);
    await stage.settle();
    assertEquals([log.take(), log.errors[0]?.code, a.enabled], [["a event WRITING|ERROR"], "EPIPE", 0]);
    assertEquals(a.output.toString(), "lost, too");
    a.write("!");
    await stage.settle();
    assertEquals(log.take(), []);
    a.enable(EV_WRITE);
    await stage.settle();
    assertEquals(log.take(), ["a event WRITING|ERROR"]);
    await stage.end(a);
  });

  it("makes waiting output of the other fail with EPIPE, reported separately from the end of file", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    a.enable(EV_READ);
    a.write("nobody reads it");
    b.free();
    await stage.settle();
    assertEquals(log.take(), ["a event READING|EOF", "a event WRITING|ERROR"]);
    assertEquals([log.errors[0], log.errors[1]?.code], [undefined, "EPIPE"]);
    await stage.end(a);
  });

  it("does not report an end of file again that flush() has reported", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.enable(EV_READ);
    a.shutdown();
    await stage.settle();
    a.free();
    await stage.settle();
    assertEquals(log.take(), ["b event READING|EOF"]);
    await stage.end(b);
  });

  it("with eofOnFree false reports nothing to the other, whose later output stays queued", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair(0, { eofOnFree: false });
    a.enable(EV_READ);
    b.free();
    a.write("lost");
    await stage.settle();
    assertEquals([a.output.length, a.enabled, log.take()], [4, BOTH, []]);
    await stage.end(a);
  });

  for (const filtered of [false, true]) {
    const where = filtered ? "over a filter at the other end" : "at the other end";

    it(`ends a view that waits ${where}, after all arrived bytes`, async () => {
      for (const when of ["before", "while"]) {
        const stage = new Stage();
        const { a, b } = stage.pair();
        const top = filtered ? new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE) : a;
        const lines: string[] = [];
        const read = async (): Promise<void> => {
          for await (const line of top.lines({ text: true })) lines.push(line);
        };
        if (filtered) top.enable(EV_READ);
        else a.enable(EV_READ);
        b.write("one\ntwo\nthree");
        if (when === "before") b.free();
        const reading = read();
        await stage.during(5);
        if (when === "while") b.free();
        await stage.during(5);
        await stage.sim.run(reading);
        assertEquals(lines, ["one", "two", "three"]);
        await stage.end(top);
      }
    });

    it(`rejects a write to a stream ${where} with EPIPE, and calls the event callback`, async () => {
      const stage = new Stage();
      const { a, b } = stage.pair();
      const top = filtered ? new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE) : a;
      const log = new Record();
      top.setCallbacks(log.of("top"));
      const writer = top.writable.getWriter();
      writer.closed.catch(() => {});
      b.free();
      await stage.during(5);
      const writing = writer.write("lost").then(() => "written", ({ code }: EventError) => code);
      await stage.during(5);
      // A filter finds out in the loop, after it has accepted the chunk.
      assertEquals(await stage.sim.run(writing), filtered ? "written" : "EPIPE");
      assertEquals([log.take(), writer.desiredSize], [["top event WRITING|ERROR"], null]);
      await stage.end(top);
    });

    it(`rejects a write ${where} of a chunk that is queued in pieces`, async () => {
      const stage = new Stage();
      const { a, b } = stage.pair();
      const top = filtered ? new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE) : a;
      top.maxOutputBytes = 1000;
      const writer = top.writable.getWriter();
      writer.closed.catch(() => {});
      b.free();
      await stage.during(5);
      const writing = writer.write(new Uint8Array(500)).then(() => "written", ({ code }: EventError) => code);
      assertEquals(await stage.sim.run(writing), filtered ? "written" : "EPIPE");
      await stage.end(top);
    });

    it(`rejects a write that waits ${where} with EPIPE, and leaves the view of reading its clean end`, async () => {
      const stage = new Stage();
      const { a, b } = stage.pair();
      const top = filtered ? new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE) : a;
      const writer = top.writable.getWriter();
      const outcomes: string[] = [];
      const note = (name: string) => (reason: unknown): void => {
        outcomes.push(`${name} ${reason instanceof EventError ? (reason as EventError).code : String(reason)}`);
      };
      writer.closed.catch(() => {});
      const writing = (async () => {
        for (;;) await writer.write(new Uint8Array(50_000));
      })().catch(note("write"));
      const reading = (async () => {
        for await (const chunk of top) note("chunk")(chunk.length);
        note("read")("end");
      })().catch(note("read"));
      b.write("x");
      await stage.during(5);
      b.free();
      await stage.during(5);
      await stage.sim.run(Promise.all([writing, reading]));
      assertEquals(outcomes.sort(), ["chunk 1", "read end", "write EPIPE"]);
      await stage.end(top);
    });
  }

  it("by a failed pipe gives the other ECONNRESET, after all arrived bytes", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    const [c, d] = bufferEventPair(stage.base);
    b.enable(EV_READ);
    a.write("part");
    const piping = pipe(a, c).catch((error) => (error as EventError).code);
    await stage.during(1);
    c.free();
    assertEquals(await piping, "EV_FREED");
    await stage.settle();
    assertEquals([log.take(), log.errors.at(-1)?.code], [["b read 4", "b event READING|ERROR"], "ECONNRESET"]);
    assertEquals(log.received.toString(), "part");
    await stage.end(b, d);
  });

  it("rejects drained() at the other end with EPIPE, over a filter too, and aborts its signal", async () => {
    for (const filtered of [false, true]) {
      const stage = new Stage();
      const { a, b } = stage.pair();
      const top = filtered ? new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE) : a;
      const { signal } = top;
      for (let i = 0; i < 20; i++) {
        top.write(new Uint8Array(50_000));
        await stage.during(1);
      }
      const waiting = top.drained().catch((error) => (error as EventError).code);
      await stage.during(5);
      assertEquals(signal.aborted, false);
      b.free();
      await stage.during(5);
      assertEquals([await waiting, signal.aborted], ["EPIPE", true]);
      await stage.end(top);
    }
  });

  it("inside a callback of either end is safe", async () => {
    const stage = new Stage();
    for (const mine of [true, false]) {
      const { a, b, log } = stage.pair();
      log.on.read = () => (mine ? b : a).free();
      b.enable(EV_READ);
      a.write("x");
      a.flush(EV_WRITE, BEV_FINISHED);
      await stage.settle();
      assertEquals(log.take(), mine ? ["b read 1", "a write 0"] : ["b read 1", "b event READING|EOF"]);
      a.free();
      b.free();
    }
    await stage.end();
  });
});

describe("shutdown()", () => {
  it("sends the output, then ends the partner's input; writing throws EPIPE", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.setWatermark(EV_READ, 0, 2);
    a.write("abcd");
    a.shutdown();
    assertEquals(codeOf(() => a.write("e")), "EPIPE");
    assertEquals(codeOf(() => a.output.add("e")), "EV_FROZEN");
    await stage.settle();
    assertEquals(log.take(), []);
    b.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["b read 2", "b read 2", "b event READING|EOF", "a write 0"]);
    assertEquals([log.received.toString(), b.enabled], ["abcd", EV_WRITE]);
    b.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["b event READING|EOF"]);
    b.write("still");
    a.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["a read 5", "b write 0"]);
    a.shutdown();
    await stage.end(a, b);
  });

  it("with nothing to send reports the end at once", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.enable(EV_READ);
    a.shutdown();
    await stage.settle();
    assertEquals(log.take(), ["b event READING|EOF"]);
    await stage.end(a, b);
  });
});

describe("close()", () => {
  it("delivers all, waits for the partner to finish, and frees; a second call gives the same promise", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.setWatermark(EV_READ, 0, 2);
    a.disable(EV_WRITE);
    a.write("abcd");
    const closing = a.close();
    assertStrictEquals(a.close(), closing);
    assertEquals(codeOf(() => a.write("more")), "EPIPE");
    b.enable(EV_READ);
    await stage.during(10);
    assertEquals(log.take(), ["b read 2", "b read 2", "b event READING|EOF"]);
    assert(!isFreed(a));
    b.write("dropped");
    assertEquals(b.output.length, 0);
    b.shutdown();
    assertEquals(await closing, true);
    assert(isFreed(a));
    assertEquals(log.received.toString(), "abcd");
    await stage.end(b);
  });

  it("of both ends needs no loop", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    a.write("x");
    b.write("y");
    assertEquals(await Promise.all([a.close(), b.close()]), [true, true]);
    assert(isFreed(a) && isFreed(b));
    await stage.end();
  });

  it("is true when the partner is freed after all was delivered, false when before", async () => {
    const stage = new Stage();
    for (const reads of [true, false]) {
      const { a, b } = stage.pair();
      if (reads) b.enable(EV_READ);
      a.write("x");
      const closing = a.close();
      b.free();
      assertEquals(await closing, reads);
      assert(isFreed(a));
    }
    await stage.end();
  });

  it("gives false after timeoutMs, and ECONNRESET to a partner that has not taken all", async () => {
    const stage = new Stage();
    for (const reads of [true, false]) {
      const { a, b, log } = stage.pair();
      if (reads) b.enable(EV_READ);
      a.write("x");
      const begin = stage.sim.now();
      const closing = a.close({ timeoutMs: 500 });
      assertEquals(await stage.sim.run(closing), false);
      assertEquals(stage.sim.now() - begin, 500);
      assert(isFreed(a));
      await stage.settle();
      assertEquals(log.take(), reads ? ["b read 1", "b event READING|EOF"] : ["b event READING|ERROR"]);
      if (!reads) assertEquals(log.errors.at(-1)?.code, "ECONNRESET");
      b.free();
    }
    await stage.end();
  });

  it("accepts a longer time than a runtime's timer supports", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    const timeoutMs = 2 ** 32;
    assertEquals(await stage.sim.run(a.close({ timeoutMs })), false);
    assertEquals(stage.sim.now(), timeoutMs);
    await stage.end(b);
  });

  it("keeps the loop running meanwhile", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    const closing = a.close({ timeoutMs: 500 });
    await stage.settle();
    assertEquals([stage.sim.now(), await closing], [500, false]);
    await stage.end(b);
  });

  it("without a partner frees: true if there was nothing to send", async () => {
    const stage = new Stage();
    for (const text of ["", "x"]) {
      const { a, b } = stage.pair();
      b.free();
      a.write(text);
      assertEquals(await a.close(), text === "");
      assert(isFreed(a));
    }
    await stage.end();
  });

  it("and then free() ends it at once: false", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    const closing = a.close();
    a.free();
    assertEquals(await closing, false);
    assertEquals(stage.base.numEvents(ALL_COUNTS), 0);
    await stage.end(b);
  });
});
