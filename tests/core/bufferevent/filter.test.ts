// Filters. Rules F1 to F9.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { BufferEventFilter } from "../../../core/bufferevent/filter_run.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { compressionFilter, type CompressionFilterOptions } from "../../../core/api/compression.ts";
import { bufferEventPair, type PairBufferEvent } from "../../../core/api/pair_bufferevent.ts";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import { pipe } from "../../../core/api/pipe.ts";
import { RateLimitGroup } from "../../../core/api/rate_limit_group.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_ERROR,
  BEV_FINISHED,
  BEV_FLUSH,
  BEV_NEED_MORE,
  BEV_NORMAL,
  BEV_OK,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
} from "../../../core/flags.ts";
import { ALL_COUNTS } from "../loop/harness.ts";
import { join, pattern, socketPair } from "../socket/pairs.ts";
import { framer, oneByOne, swapCase, unframe } from "./filters.ts";
import { bits, isFreed } from "./rig.ts";
import { type Record, Stage } from "./stage.ts";

const BOTH = EV_READ | EV_WRITE;

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

interface Set {
  stage: Stage;
  /** The filter, over one end of a pair. */
  top: FilterBufferEvent;
  under: PairBufferEvent;
  /** The other end of the pair. */
  far: PairBufferEvent;
  log: Record;
}

/** A filter over one end of a pair. The other end reads, and its callbacks are not recorded. */
function set(
  input: BufferEventFilter | null,
  output: BufferEventFilter | null,
  options: number = BEV_OPT_CLOSE_ON_FREE,
): Set {
  const stage = new Stage();
  const { a: under, b: far, log } = stage.pair();
  far.setCallbacks(null);
  far.enable(EV_READ);
  const top = new FilterBufferEvent(under, input, output, options);
  top.setCallbacks(log.of("top"));
  return { stage, top, under, far, log };
}

describe("a new filter (F3)", () => {
  it("has writing enabled, takes over the bufferevent below and does not let it read yet", async () => {
    const { stage, top, under, far, log } = set(null, null);
    assertEquals([top.enabled, under.enabled], [EV_WRITE, BOTH]);
    assertStrictEquals(top.underlying, under);
    assertStrictEquals(top.base, stage.base);
    far.write("waits");
    await stage.settle();
    assertEquals([under.input.length, top.input.length, log.take()], [0, 0, []]);
    await stage.end(top, far);
  });

  it("refuses values that are not options or functions, and a bufferevent that cannot have one", async () => {
    const { stage, top, under, far } = set(null, null);
    assertThrows(() => new FilterBufferEvent(far, null, null, 16), RangeError);
    assertThrows(() => new FilterBufferEvent(far, "x" as unknown as null, null), TypeError);
    assertEquals(codeOf(() => new FilterBufferEvent(under, null, null)), "EV_BUSY");
    far.free();
    assertEquals(codeOf(() => new FilterBufferEvent(far, null, null)), "EV_FREED");
    await stage.end(top);
  });

  it("has no priority and no rate limit of its own", async () => {
    const { stage, top, far } = set(null, null);
    const config = new TokenBucketConfig({ readRate: 1, readBurst: 1, writeRate: 1, writeBurst: 1 });
    const group = new RateLimitGroup(stage.base, config);
    assertEquals([top.priority, top.maxToRead, top.tokenBucketConfig], [0, 16384, null]);
    assertEquals(codeOf(() => top.priority = 0), "EV_UNSUPPORTED");
    assertEquals(codeOf(() => top.setRateLimit(config)), "EV_UNSUPPORTED");
    assertEquals(codeOf(() => top.joinRateLimitGroup(group)), "EV_UNSUPPORTED");
    assertEquals(codeOf(() => top.decrementReadLimit(1)), "EV_UNSUPPORTED");
    top.setRateLimit(null);
    top.leaveRateLimitGroup();
    group.free();
    await stage.end(top, far);
  });
});

describe("a filter function (F1, F2)", () => {
  it("converts the input from below, and the output on its way down", async () => {
    const { stage, top, far, log } = set(swapCase, swapCase);
    top.enable(EV_READ);
    far.write("Question");
    top.write("Answer");
    await stage.settle();
    assertEquals([log.received.toString(), far.input.toString()], ["qUESTION", "aNSWER"]);
    assertEquals(log.take().sort(), ["top read 8", "top write 0"]);
    await stage.end(top, far);
  });

  it("that is null moves bytes as they are, without a copy", async () => {
    const { stage, top, far, log } = set(null, null);
    log.drains = false;
    top.enable(EV_READ);
    const bytes = new Uint8Array(5000);
    far.output.addReference(bytes);
    top.write("there");
    await stage.settle();
    assertStrictEquals(top.input.peek()[0]?.buffer, bytes.buffer);
    assertEquals(far.input.toString(), "there");
    await stage.end(top, far);
  });

  it("gets its source, its destination, the limit (−1 if there is none) and the mode", async () => {
    const calls: [EvBuffer, EvBuffer, number, number][] = [];
    const note: BufferEventFilter = (source, destination, limit, mode) => {
      calls.push([source, destination, limit, mode]);
      source.removeBuffer(destination, limit < 0 ? source.length : limit);
      return BEV_OK;
    };
    const { stage, top, under, far, log } = set(note, note);
    log.drains = false;
    top.enable(EV_READ);
    top.write("abc");
    await stage.settle();
    far.write("abc");
    await stage.settle();
    far.disable(EV_READ);
    under.setWatermark(EV_WRITE, 0, 2);
    top.setWatermark(EV_READ, 0, 5);
    top.write("def");
    far.write("def");
    await stage.settle();
    const [out, inward] = [[top.output, under.output], [under.input, top.input]] as const;
    assertEquals(calls.map(([, , limit]) => limit), [-1, -1, 2, 2]);
    assertEquals(calls.map(([source]) => source === out[0]), [true, false, true, false]);
    assertEquals(calls.map(([, destination]) => destination === inward[1]), [false, true, false, true]);
    assertEquals(calls.map(([, , , mode]) => mode), [BEV_NORMAL, BEV_NORMAL, BEV_NORMAL, BEV_NORMAL]);
    assertEquals([top.input.length, under.input.length, top.output.length, under.output.length], [5, 1, 1, 2]);
    await stage.end(top, far);
  });

  it("is called again while it returns BEV_OK, and its output is reported once", async () => {
    const { stage, top, far, log } = set(oneByOne, oneByOne);
    top.enable(EV_READ);
    far.write("abcdef");
    top.write("ghi");
    await stage.settle();
    assertEquals(log.take().sort(), ["top read 6", "top write 0"]);
    assertEquals([log.received.toString(), far.input.toString()], ["abcdef", "ghi"]);
    await stage.end(top, far);
  });

  it("that returns BEV_OK without progress is not called for ever", async () => {
    let calls = 0;
    const lazy: BufferEventFilter = () => {
      calls++;
      return BEV_OK;
    };
    const { stage, top, far, log } = set(lazy, lazy);
    top.enable(EV_READ);
    far.write("a");
    top.write("b");
    await stage.settle();
    assertEquals([calls, log.take()], [2, []]);
    far.write("a");
    top.write("b");
    await stage.settle();
    assertEquals([calls, log.take()], [4, []]);
    await stage.end(top, far);
  });

  it("that adds bytes without input for ever lets the rest of the loop run", async () => {
    const endless: BufferEventFilter = (_source, destination) => {
      destination.add("x");
      return BEV_OK;
    };
    const { stage, top, far } = set(endless, null);
    top.enable(EV_READ);
    far.write("a");
    let fired = false;
    // The timer begins in the same turn as the filter.
    top.setCallbacks({
      read: () =>
        stage.base.once(null, EV_TIMEOUT, () => {
          fired = true;
          top.free();
        }, 0),
    });
    await stage.settle();
    assert(fired);
    await stage.end(far);
  });

  it("that returns BEV_NEED_MORE is called again with the next bytes", async () => {
    const { stage, top, far, log } = set(unframe, framer(3));
    top.enable(EV_READ);
    far.write(Uint8Array.of(4, 65));
    await stage.settle();
    far.write("BCD");
    top.write("12");
    await stage.settle();
    assertEquals([log.received.toString(), far.input.length], ["ABCD", 0]);
    top.write("34");
    await stage.settle();
    assertEquals(far.input.toUint8Array(), Uint8Array.of(3, 49, 50, 51));
    await stage.end(top, far);
  });

  it("may put bytes back, and is not called again because of that", async () => {
    let calls = 0;
    const hesitant: BufferEventFilter = (source) => {
      calls++;
      const head = new Uint8Array(2);
      source.remove(head);
      source.prepend(head);
      return BEV_NEED_MORE;
    };
    const { stage, top, far } = set(hesitant, hesitant);
    top.enable(EV_READ);
    far.write("abc");
    top.write("def");
    await stage.settle();
    assertEquals([calls, top.output.length], [2, 3]);
    await stage.end(top, far);
  });

  it("can change the ends of its buffers that are frozen for everybody else", async () => {
    const { stage, top, far } = set(swapCase, swapCase);
    top.enable(EV_READ);
    far.write("a");
    top.write("b");
    await stage.settle();
    assertEquals(codeOf(() => top.input.add("x")), "EV_FROZEN");
    assertEquals(codeOf(() => top.output.prepend("x")), "EV_FROZEN");
    await stage.end(top, far);
  });

  it("must return a result code: any other value rejects the dispatch with a TypeError", async () => {
    const { stage, top, far } = set(() => undefined as unknown as number, null);
    top.enable(EV_READ);
    far.write("a");
    await assertRejects(() => stage.sim.run(stage.base.dispatch()), TypeError);
    assertEquals(codeOf(() => top.input.add("x")), "EV_FROZEN");
    await stage.end(top, far);
  });

  it("that throws rejects the dispatch with the same error; the bytes stay", async () => {
    const thrown = new Error("mine");
    let broken = true;
    const { stage, top, far } = set(null, (source, destination) => {
      if (broken) throw thrown;
      destination.addBuffer(source);
      return BEV_OK;
    });
    top.write("abc");
    const caught = await assertRejects(() => stage.sim.run(stage.base.dispatch()));
    assertStrictEquals(caught, thrown);
    assertEquals(top.output.length, 3);
    broken = false;
    top.enable(EV_WRITE);
    await stage.settle();
    assertEquals(far.input.toString(), "abc");
    await stage.end(top, far);
  });
});

describe("the read direction (F3)", () => {
  it("processes bytes that already wait below when it is enabled", async () => {
    const stage = new Stage();
    const { a: under, b: far, log } = stage.pair();
    under.enable(EV_READ);
    far.write("before");
    const top = new FilterBufferEvent(under, swapCase, null, BEV_OPT_CLOSE_ON_FREE);
    top.setCallbacks(log.of("top"));
    await stage.settle();
    log.take();
    top.enable(EV_READ);
    assertEquals(top.input.length, 0, "no filter runs inside a call of the user");
    await stage.settle();
    assertEquals([log.received.toString(), log.take()], ["BEFORE", ["top read 6"]]);
    await stage.end(top, far);
  });

  it("stops reading below while it is disabled, and at its high watermark", async () => {
    const { stage, top, under, far, log } = set(swapCase, null);
    log.drains = false;
    top.setWatermark(EV_READ, 0, 4);
    under.setWatermark(EV_READ, 0, 6);
    top.enable(EV_READ);
    far.write("0123456789abcdef");
    await stage.settle();
    assertEquals([top.input.length, under.input.length, far.output.length], [4, 6, 6]);
    assertEquals(log.take(), ["top read 4"]);
    top.input.drain(3);
    await stage.settle();
    assertEquals([top.input.length, under.input.length, far.output.length], [4, 6, 3]);
    top.disable(EV_READ);
    top.input.drain(4);
    await stage.settle();
    assertEquals([top.input.length, under.input.length, far.output.length], [0, 6, 3]);
    log.drains = true;
    top.enable(EV_READ);
    await stage.settle();
    assertEquals(log.received.toString(), "789ABCDEF");
    await stage.end(top, far);
  });

  it("goes on after a watermark had left a filter too little space", async () => {
    const { stage, top, far, log } = set((source, destination, limit) => {
      if (source.length < 3 || (limit >= 0 && limit < 3)) return BEV_NEED_MORE;
      source.removeBuffer(destination, 3);
      return BEV_OK;
    }, null);
    log.drains = false;
    top.setWatermark(EV_READ, 0, 4);
    top.enable(EV_READ);
    far.write("abcdef");
    await stage.settle();
    assertEquals(top.input.toString(), "abc");
    top.input.drain(3);
    await stage.settle();
    assertEquals(top.input.toString(), "def");
    await stage.end(top, far);
  });

  it("calls back with at least the low watermark", async () => {
    const { stage, top, far, log } = set(null, null);
    log.drains = false;
    top.setWatermark(EV_READ, 4, 0);
    top.enable(EV_READ);
    for (const text of ["abc", "d", "e"]) {
      far.write(text);
      await stage.settle();
    }
    assertEquals(log.take(), ["top read 4", "top read 5"]);
    await stage.end(top, far);
  });

  it("with deferred callbacks merges the callbacks of a pass", async () => {
    const { stage, top, far, log } = set(null, null, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    top.enable(EV_READ);
    far.write("abc");
    far.shutdown();
    top.write("def");
    await stage.settle();
    assertEquals(log.take(), ["top read 3", "top write 0", "top event READING|EOF"]);
    await stage.end(top, far);
  });
});

describe("the write direction (F4, F5)", () => {
  it("runs its filter once for all output of a turn, and not inside write()", async () => {
    let calls = 0;
    const { stage, top, under, far, log } = set(null, (source, destination) => {
      calls++;
      destination.addBuffer(source);
      return BEV_OK;
    });
    for (let i = 0; i < 100; i++) top.write("x");
    assertEquals([calls, under.output.length], [0, 0]);
    await stage.settle();
    assertEquals([calls, far.input.length, log.take()], [1, 100, ["top write 0"]]);
    await stage.end(top, far);
  });

  it("never calls its filter inside itself; a write inside the filter is processed later", async () => {
    let depth = 0;
    let deepest = 0;
    const { stage, top, far } = set(null, (source, destination) => {
      deepest = Math.max(deepest, ++depth);
      if (source.toString() === "abc") {
        top.write("def");
        top.flush(EV_WRITE, BEV_FLUSH);
      }
      const bytes = new Uint8Array(3);
      source.remove(bytes);
      destination.add(bytes);
      depth--;
      return BEV_OK;
    });
    top.write("abc");
    await stage.settle();
    assertEquals([deepest, far.input.toString()], [1, "abcdef"]);
    await stage.end(top, far);
  });

  it("calls back when its output and the output below, together, reach the low watermark of writing", async () => {
    const { stage, top, under, far, log } = set(null, null);
    far.disable(EV_READ);
    under.setWatermark(EV_WRITE, 0, 4);
    top.setWatermark(EV_WRITE, 3, 0);
    top.write("0123456789");
    await stage.settle();
    assertEquals([under.output.length, top.output.length, log.take()], [4, 6, []]);
    far.setWatermark(EV_READ, 0, 4);
    far.enable(EV_READ);
    await stage.settle();
    assertEquals([under.output.length, top.output.length, log.take()], [4, 2, []]);
    far.input.drain(4);
    await stage.settle();
    assertEquals([far.input.length, log.take()], [4, ["top write 0"]]);
    await stage.end(top, far);
  });

  it("waits while it is disabled, and goes on when it is enabled", async () => {
    const { stage, top, far, log } = set(null, swapCase);
    top.disable(EV_WRITE);
    top.write("abc");
    await stage.settle();
    assertEquals([far.input.length, log.take()], [0, []]);
    top.enable(EV_WRITE);
    await stage.settle();
    assertEquals([far.input.toString(), log.take()], ["ABC", ["top write 0"]]);
    await stage.end(top, far);
  });

  it("goes on whenever there is space below, also if the filter below keeps a rest", async () => {
    const { stage, top: middle, far, log } = set(null, (source, destination, _limit, mode) => {
      const n = mode === BEV_FINISHED ? source.length : 2;
      if (source.length < n || n === 0) return BEV_NEED_MORE;
      source.removeBuffer(destination, n);
      return BEV_OK;
    });
    middle.setWatermark(EV_WRITE, 0, 5);
    const top = new FilterBufferEvent(middle, null, null, BEV_OPT_CLOSE_ON_FREE);
    top.setCallbacks(log.of("top"));
    top.write("0123456789abcdefg");
    await stage.settle();
    assertEquals([top.output.length, middle.output.length, far.input.length], [0, 1, 16]);
    top.shutdown();
    await stage.settle();
    assertEquals(far.input.toString(), "0123456789abcdefg");
    await stage.end(top, far);
  });

  it("keeps the rest in its own output while the one below cannot send it", async () => {
    const { stage, top, under, far, log } = set(null, swapCase);
    far.disable(EV_READ);
    const piece = new Uint8Array(50_000);
    for (let i = 0; i < 5; i++) {
      top.write(piece);
      await stage.settle();
    }
    assert(under.output.length >= 128 * 1024 && under.output.length < 200_000, `${under.output.length} below`);
    assertEquals([top.output.length + under.output.length, log.take()], [5 * piece.length, []]);
    far.enable(EV_READ);
    await stage.settle();
    assertEquals([top.output.length, under.output.length, far.input.length], [0, 0, 5 * piece.length]);
    assertEquals(log.take(), ["top write 0"]);
    await stage.end(top, far);
  });
});

describe("an error of a filter (F2)", () => {
  it("in reading is one ERROR|READING with the code EV_FILTER, after its output, and disables reading", async () => {
    const { stage, top, under, far, log } = set(unframe, null);
    top.enable(EV_READ);
    far.write(Uint8Array.of(1, 65, 0, 1, 66));
    await stage.settle();
    assertEquals(log.take(), ["top read 1", "top event READING|ERROR"]);
    assertEquals([log.errors[0]?.code, log.errors[0]?.syscall, top.enabled], ["EV_FILTER", "read", EV_WRITE]);
    assertEquals(under.input.length, 3);
    far.write("more");
    await stage.settle();
    assertEquals([log.take(), under.input.length], [[], 3]);
    top.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["top event READING|ERROR"]);
    under.input.drain(1);
    top.enable(EV_READ);
    await stage.settle();
    assertEquals([log.take(), log.received.toString()], [["top read 1"], "AB"]);
    await stage.end(top, far);
  });

  it("in writing is one ERROR|WRITING, and disables writing; the bytes stay", async () => {
    let calls = 0;
    const { stage, top, far, log } = set(null, (source, destination) => {
      if (++calls === 1) {
        source.removeBuffer(destination, 1);
        return BEV_OK;
      }
      return BEV_ERROR;
    });
    top.write("abc");
    await stage.settle();
    assertEquals([log.take(), top.enabled, top.output.length], [["top event WRITING|ERROR"], 0, 2]);
    assertEquals([log.errors[0]?.code, log.errors[0]?.syscall], ["EV_FILTER", "write"]);
    top.write("d");
    await stage.settle();
    assertEquals([calls, log.take()], [2, []]);
    await stage.end(top, far);
  });

  it("in flush() is reported from the loop", async () => {
    const { stage, top, far, log } = set(() => BEV_ERROR, () => BEV_ERROR);
    top.enable(EV_READ);
    top.flush(BOTH, BEV_FLUSH);
    assertEquals([log.take(), top.enabled], [[], 0]);
    await stage.settle();
    assertEquals(log.take(), ["top event READING|WRITING|ERROR"]);
    await stage.end(top, far);
  });
});

describe("events of the bufferevent below (F6)", () => {
  it("pass through; the end of file comes after all bytes, and changes no flags", async () => {
    const { stage, top, under, far, log } = set(oneByOne, null);
    top.enable(EV_READ);
    far.write("abc");
    far.shutdown();
    await stage.settle();
    assertEquals(log.take(), ["top read 3", "top event READING|EOF"]);
    assertEquals([top.enabled, under.enabled], [BOTH, EV_WRITE]);
    top.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), [], "it was enabled all the time");
    top.disable(EV_READ);
    top.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["top event READING|EOF"]);
    top.write("still");
    await stage.settle();
    assertEquals(far.input.toString(), "still");
    await stage.end(top, far);
  });

  it("let the input filter have one last call with BEV_FINISHED before the end of file", async () => {
    const modes: number[] = [];
    let held = "";
    const { stage, top, far, log } = set((source, destination, _limit, mode) => {
      modes.push(mode);
      held += source.toString();
      source.drain(source.length);
      if (mode === BEV_FINISHED) destination.add(`<${held}>`);
      return BEV_NEED_MORE;
    }, null);
    top.enable(EV_READ);
    far.write("abc");
    await stage.settle();
    far.write("def");
    far.shutdown();
    await stage.settle();
    assertEquals(log.take(), ["top read 8", "top event READING|EOF"]);
    assertEquals([log.received.toString(), modes], ["<abcdef>", [BEV_NORMAL, BEV_NORMAL, BEV_FINISHED]]);
    for (let i = 0; i < 2; i++) {
      top.disable(EV_READ);
      top.enable(EV_READ);
      await stage.settle();
    }
    assertEquals(log.take(), ["top event READING|EOF", "top event READING|EOF"]);
    assertEquals(modes.length, 3);
    await stage.end(top, far);
  });

  it("let a slow filter finish before its last call", async () => {
    const modes: number[] = [];
    const { stage, top, far, log } = set((source, destination, limit, mode) => {
      modes.push(mode);
      return oneByOne(source, destination, limit, mode);
    }, null);
    top.enable(EV_READ);
    far.write("x".repeat(3000));
    far.shutdown();
    await stage.settle();
    assertEquals([log.received.length, modes.length, modes.indexOf(BEV_FINISHED)], [3000, 3001, 3000]);
    assertEquals(log.take().at(-1), "top event READING|EOF");
    await stage.end(top, far);
  });

  it("make a truncated stream an error of the filter; the end of file comes when reading is enabled again", async () => {
    const { stage, top, far, log } = set(unframe, null);
    top.enable(EV_READ);
    far.write(Uint8Array.of(2, 65, 66, 3, 67));
    far.shutdown();
    await stage.settle();
    assertEquals(log.take(), ["top read 2", "top event READING|ERROR"]);
    top.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["top event READING|EOF"]);
    await stage.end(top, far);
  });

  it("hold the end of file back while reading is disabled or at the high watermark", async () => {
    const { stage, top, far, log } = set(framer(4), null);
    log.drains = false;
    top.setWatermark(EV_READ, 0, 5);
    top.enable(EV_READ);
    far.write("abcdef");
    far.flush(EV_WRITE, BEV_FINISHED);
    await stage.settle();
    assertEquals(log.take(), ["top read 5"]);
    top.input.drain(5);
    await stage.settle();
    assertEquals([log.take(), top.input.length], [["top read 3", "top event READING|EOF"], 3]);
    top.disable(EV_READ);
    far.flush(EV_WRITE, BEV_FINISHED);
    await stage.settle();
    assertEquals(log.take(), []);
    top.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["top event READING|EOF"]);
    await stage.end(top, far);
  });

  it("that are timeouts pass through", async () => {
    const { stage, top, under, far, log } = set(null, null);
    under.setTimeouts(50, null);
    top.enable(EV_READ);
    await stage.settle();
    assertEquals([log.take(), stage.sim.now()], [["top event READING|TIMEOUT"], 50]);
    await stage.end(top, far);
  });
});

describe("timeouts of a filter (F9)", () => {
  it("of reading run while it reads, and restart with each output of the filter", async () => {
    const { stage, top, far, log } = set(unframe, null);
    top.setTimeouts(100, null);
    await stage.during(150);
    top.enable(EV_READ);
    await stage.during(60);
    far.write(Uint8Array.of(1));
    await stage.during(30);
    far.write(Uint8Array.of(65));
    await stage.during(90);
    assertEquals(log.take(), ["top read 1"]);
    await stage.during(20);
    assertEquals([log.take(), top.enabled], [["top event READING|TIMEOUT"], EV_WRITE]);
    await stage.end(top, far);
  });

  it("of reading end with the end of file", async () => {
    const { stage, top, far, log } = set(null, null);
    top.setTimeouts(100, null);
    top.enable(EV_READ);
    far.shutdown();
    await stage.settle();
    assertEquals(log.take(), ["top event READING|EOF"]);
    await stage.end(top, far);
  });

  it("of writing run only while output waits", async () => {
    const { stage, top, under, far, log } = set(null, null);
    top.setTimeouts(null, 100);
    top.enable(EV_WRITE);
    await stage.settle();
    assertEquals([log.take(), stage.sim.now()], [[], 0]);
    far.disable(EV_READ);
    under.setWatermark(EV_WRITE, 0, 2);
    top.write("abcdef");
    await stage.during(60);
    far.setWatermark(EV_READ, 0, 2);
    far.enable(EV_READ);
    await stage.during(99);
    assertEquals([log.take(), top.output.length], [[], 2]);
    await stage.during(2);
    assertEquals([log.take(), top.enabled], [["top event WRITING|TIMEOUT"], 0]);
    await stage.end(top, far);
  });
});

describe("flush() (F7)", () => {
  it("runs both filters at once in the given mode, whatever the watermarks, and flushes the one below", async () => {
    const { stage, top, under, far, log } = set(swapCase, swapCase);
    log.drains = false;
    far.disable(EV_READ);
    under.setWatermark(EV_WRITE, 0, 2);
    top.setWatermark(EV_READ, 0, 2);
    top.enable(EV_READ);
    top.write("abcdef");
    far.write("ghijkl");
    await stage.settle();
    assertEquals([top.input.length, under.input.length, top.output.length], [2, 4, 4]);
    log.take();
    top.flush(BOTH, BEV_FLUSH);
    assertEquals([top.input.toString(), far.input.toString(), log.take()], ["GHIJKL", "ABCDEF", []]);
    await stage.settle();
    assertEquals(log.take(), ["top read 6", "top write 0"]);
    await stage.end(top, far);
  });

  it("calls a filter once with nothing to process in BEV_FLUSH and BEV_FINISHED, and not in BEV_NORMAL", async () => {
    const calls: string[] = [];
    const note = (name: string): BufferEventFilter => (_source, _destination, limit, mode) => {
      calls.push(`${name} ${limit} ${mode}`);
      return BEV_OK;
    };
    const { stage, top, far } = set(note("in"), note("out"));
    top.flush(BOTH, BEV_NORMAL);
    assertEquals(calls, []);
    top.flush(BOTH, BEV_FLUSH);
    top.flush(EV_WRITE, BEV_FINISHED);
    assertEquals(calls, ["in -1 1", "out -1 1", "out -1 2"]);
    await stage.end(top, far);
  });

  it("with BEV_FINISHED is the last call: shutdown() and close() make no other, unless more was written", async () => {
    for (const more of ["", "more"]) {
      const modes: number[] = [];
      const { stage, top, far } = set(null, (source, destination, _limit, mode) => {
        modes.push(mode);
        destination.addBuffer(source);
        return BEV_OK;
      });
      top.flush(EV_WRITE, BEV_FINISHED);
      top.write(more);
      top.shutdown();
      await stage.settle();
      const closing = top.close();
      far.free();
      await closing;
      assertEquals(modes, more === "" ? [BEV_FINISHED] : [BEV_FINISHED, BEV_NORMAL, BEV_FINISHED]);
      await stage.end();
    }
  });

  it("over a pair without a partner throws EV_UNSUPPORTED, after the filters ran", async () => {
    const { stage, top, under, far } = set(null, swapCase);
    far.free();
    top.write("abc");
    assertEquals(codeOf(() => top.flush(EV_WRITE, BEV_FLUSH)), "EV_UNSUPPORTED");
    assertEquals(under.output.toString(), "ABC");
    await stage.end(top);
  });
});

describe("shutdown()", () => {
  it("sends all output, gives the filter its last call, and shuts down the one below", async () => {
    const { stage, top, far } = set(null, framer(4));
    const ends: string[] = [];
    far.setCallbacks({ event: (bev) => ends.push(`end with ${bev.input.length}`) });
    top.write("abcdef");
    top.shutdown();
    top.shutdown();
    assertEquals(codeOf(() => top.write("x")), "EPIPE");
    await stage.settle();
    assertEquals(far.input.toUint8Array(), Uint8Array.of(4, 97, 98, 99, 100, 2, 101, 102));
    assertEquals(ends, ["end with 8"]);
    await stage.end(top, far);
  });

  it("waits while writing is disabled, and for space below", async () => {
    const { stage, top, under, far } = set(null, swapCase);
    let ended = false;
    far.setCallbacks({ event: () => ended = true });
    top.disable(EV_WRITE);
    under.setWatermark(EV_WRITE, 0, 2);
    top.write("abcdef");
    top.shutdown();
    await stage.settle();
    assertEquals(ended, false);
    far.disable(EV_READ);
    top.enable(EV_WRITE);
    await stage.settle();
    assertEquals([ended, under.output.length], [false, 2]);
    far.enable(EV_READ);
    await stage.settle();
    assertEquals([ended, far.input.toString()], [true, "ABCDEF"]);
    await stage.end(top, far);
  });

  it("of only the one below makes later writes fail with EPIPE", async () => {
    const { stage, top, under, far, log } = set(null, null);
    under.shutdown();
    top.write("late");
    await stage.settle();
    assertEquals([log.take(), log.errors[0]?.code], [["top event WRITING|ERROR"], "EPIPE"]);
    await stage.end(top, far);
  });
});

/** Filters over both ends of a pair, `depth` layers each, that undo each other. */
function stacks(
  stage: Stage,
  depth: number,
): { near: FilterBufferEvent; far: FilterBufferEvent; all: FilterBufferEvent[] } {
  const { a, b } = stage.pair();
  const all: FilterBufferEvent[] = [];
  const build = (bottom: PairBufferEvent): FilterBufferEvent => {
    let top: FilterBufferEvent | PairBufferEvent = bottom;
    for (let i = 0; i < depth; i++) {
      top = i % 2 === 0
        ? new FilterBufferEvent(top, unframe, framer(3 + i), BEV_OPT_CLOSE_ON_FREE)
        : new FilterBufferEvent(top, swapCase, swapCase, BEV_OPT_CLOSE_ON_FREE);
      all.push(top);
    }
    return top as FilterBufferEvent;
  };
  return { near: build(a), far: build(b), all };
}

describe("a stack of filters", () => {
  it("over connections stops the sender while nobody reads, and carries megabytes both ways", async () => {
    const stage = new Stage({}, { maxSteps: 2_000_000 });
    const sockets = await socketPair(stage.sim);
    const tops = sockets.map((socket) => {
      let top: BufferEvent = new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE);
      for (const size of [200, 100]) {
        top = new FilterBufferEvent(top, unframe, framer(size), BEV_OPT_CLOSE_ON_FREE);
        top = new FilterBufferEvent(top, swapCase, swapCase, BEV_OPT_CLOSE_ON_FREE);
      }
      return top;
    });
    const [near, far] = tops as [BufferEvent, BufferEvent];
    const total = 3_000_000;
    const written = new Map([[near, 0], [far, 0]]);
    const fill = (bev: BufferEvent): void => {
      const so = written.get(bev) as number;
      const n = Math.min(total - so, 20_000);
      written.set(bev, so + n);
      if (n > 0) bev.write(pattern(n, so));
      else bev.shutdown();
    };
    for (const bev of tops) {
      bev.setCallbacks({ write: fill });
      fill(bev);
    }
    await stage.during(200);
    for (const bev of tops) {
      const so = written.get(bev) as number;
      assert(so > 100_000 && so < 1_200_000, `${so} written while nobody reads`);
    }
    let ended = 0;
    for (const bev of tops) {
      let received = 0;
      bev.setWatermark(EV_READ, 0, 50_000);
      bev.setCallbacks({
        write: fill,
        read: () => {
          assert(bev.input.length <= 50_000 + 100);
          const bytes = bev.input.toUint8Array();
          assertEquals(bytes, pattern(bytes.length, received));
          received += bytes.length;
          bev.input.drain(bytes.length);
        },
        event: () => {
          assertEquals(received, total);
          ended++;
        },
      });
      bev.enable(EV_READ);
    }
    await stage.during(60_000);
    assertEquals(ended, 2);
    await stage.end(...tops);
  });

  it("tells the end of file although a callback before it threw", async () => {
    const { stage, top, far, log } = set(framer(4), null);
    const thrown = new Error("mine");
    log.on.read = () => {
      throw thrown;
    };
    top.enable(EV_READ);
    far.write("abc");
    far.shutdown();
    assertStrictEquals(await assertRejects(() => stage.sim.run(stage.base.dispatch())), thrown);
    await stage.settle();
    assertEquals(log.take(), ["top read 4", "top event READING|EOF"]);
    await stage.end(top, far);
  });

  it("finishes although a write callback before it threw", async () => {
    const { stage, top, far, log } = set(null, null);
    const thrown = new Error("mine");
    let ended = false;
    far.setCallbacks({ event: () => ended = true });
    log.on.write = () => {
      throw thrown;
    };
    top.write("abc");
    top.shutdown();
    assertStrictEquals(await assertRejects(() => stage.sim.run(stage.base.dispatch())), thrown);
    await stage.settle();
    assertEquals([ended, far.input.toString()], [true, "abc"]);
    await stage.end(top, far);
  });

  it("carries bytes both ways through any number of layers", async () => {
    for (const depth of [1, 2, 3, 8, 40]) {
      const stage = new Stage();
      const { near, far, all } = stacks(stage, depth);
      near.enable(EV_READ);
      far.enable(EV_READ);
      near.write("a question of some length");
      near.shutdown();
      far.write("and the answer");
      far.shutdown();
      await stage.settle();
      assertEquals([far.input.toString(), near.input.toString()], ["a question of some length", "and the answer"]);
      near.free();
      far.free();
      assert(all.every((layer) => isFreed(layer) && isFreed(layer.underlying)));
      await stage.end();
    }
  });

  it("is flushed by close() at its top, layer by layer, and loses nothing", async () => {
    const stage = new Stage();
    const { near, far, all } = stacks(stage, 4);
    const bottom = all[0]?.underlying;
    let text = "";
    far.setCallbacks({
      read: (bev) => {
        text += bev.input.toString();
        bev.input.drain(bev.input.length);
      },
      event: (bev) => void bev.close(),
    });
    near.write("x".repeat(300_000));
    near.disable(EV_WRITE);
    const closing = near.close();
    assertStrictEquals(near.close(), closing);
    assertEquals(codeOf(() => near.write("late")), "EPIPE");
    far.enable(EV_READ);
    assertEquals(await stage.sim.run(Promise.race([closing, stage.base.dispatch().then(() => closing)])), true);
    assertEquals(text.length, 300_000);
    assert(all.every(isFreed) && bottom !== undefined && isFreed(bottom));
    await stage.settle();
    await stage.end();
  });

  it("is flushed by close() of its lowest layer: the layers above are closed, too", async () => {
    for (const layer of [-1, 0, 1, 2, 3]) {
      const stage = new Stage();
      const { near, far, all } = stacks(stage, 4);
      const bottom = all[0]?.underlying as BufferEvent;
      let length = 0;
      far.setCallbacks({
        read: (bev) => {
          length += bev.input.length;
          bev.input.drain(bev.input.length);
        },
        event: (bev) => void bev.close(),
      });
      far.enable(EV_READ);
      near.write("x".repeat(300_000));
      const closed = layer < 0 ? bottom : all[layer] as BufferEvent;
      const closing = closed.close();
      assertStrictEquals(closed.close(), closing);
      assertEquals(codeOf(() => near.write("late")), "EPIPE");
      assertEquals(await stage.sim.run(Promise.race([closing, stage.base.dispatch().then(() => closing)])), true);
      assertEquals(length, 300_000);
      assert(all.every(isFreed) && isFreed(bottom));
      await stage.settle();
      await stage.end();
    }
  });

  it("may be freed in a callback at any layer", async () => {
    const stage = new Stage();
    const { near, far } = stacks(stage, 3);
    far.setCallbacks({ read: (bev) => bev.free() });
    far.enable(EV_READ);
    near.write("more than three");
    near.write("more than six");
    await stage.settle();
    assert(isFreed(far));
    await stage.end(near);
  });
});

describe("close()", () => {
  it("gives false if the output filter has refused or kept some of the output; the rest is delivered", async () => {
    for (const result of [BEV_ERROR, BEV_NEED_MORE]) {
      const { stage, top, far } = set(null, (source, destination) => {
        source.removeBuffer(destination, 2);
        return result;
      });
      top.write("abcd");
      const closing = top.close();
      far.shutdown();
      assertEquals(await closing, false);
      assertEquals(far.input.toString(), "ab");
      await stage.end(far);
    }
  });

  it("closes the one below even if free() would not; it gives false if that one is reset", async () => {
    const { stage, top, under, far } = set(null, null, 0);
    top.write("abcd");
    far.disable(EV_READ);
    assertEquals(await stage.sim.run(top.close({ timeoutMs: 100 })), false);
    assertEquals([stage.sim.now(), isFreed(top), isFreed(under)], [100, true, true]);
    await stage.end(far);
  });

  it("runs no callback and no input filter any more", async () => {
    let calls = 0;
    const { stage, top, far, log } = set(() => {
      calls++;
      return BEV_NEED_MORE;
    }, null);
    top.enable(EV_READ);
    const closing = top.close();
    far.write("abc");
    far.shutdown();
    await stage.settle();
    assertEquals([await closing, calls, log.take()], [true, 0, []]);
    await stage.end(far);
  });

  it("inside a callback of the filter also ends its callbacks", async () => {
    const { stage, top, far, log } = set(oneByOne, oneByOne);
    log.on.read = (bev) => void bev.close();
    top.enable(EV_READ);
    far.write("abc");
    far.shutdown();
    await stage.settle();
    assertEquals([log.take(), isFreed(top)], [["top read 3"], true]);
    await stage.end(far);
  });

  it("rejects with the error of a filter, after the one below was closed", async () => {
    const thrown = new Error("mine");
    const { stage, top, under, far } = set(null, () => {
      throw thrown;
    });
    const closing = top.close();
    far.shutdown();
    assertStrictEquals(await assertRejects(() => closing), thrown);
    assert(isFreed(top) && isFreed(under));
    await stage.end(far);
  });

  it("frees every layer when a filter in the middle throws in its last call", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    const freed: string[] = [];
    const thrown = new Error("the last call");
    const bottom = new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE, () => freed.push("bottom"));
    const throws: BufferEventFilter = () => {
      throw thrown;
    };
    const middle = new FilterBufferEvent(bottom, null, throws, BEV_OPT_CLOSE_ON_FREE, () => freed.push("middle"));
    const top = new FilterBufferEvent(middle, null, null, BEV_OPT_CLOSE_ON_FREE, () => freed.push("top"));
    top.write("lost");
    const closing = top.close();
    b.free();
    assertStrictEquals(await assertRejects(() => closing), thrown);
    await stage.settle();
    assertEquals([freed.sort(), isFreed(top)], [["bottom", "middle", "top"], true]);
    await stage.end(top, b);
  });
});

describe("free() (F8)", () => {
  it("frees the one below with BEV_OPT_CLOSE_ON_FREE, and calls onFree once from the loop", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    let freed = 0;
    const top = new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE, () => freed++);
    top.free();
    top.free();
    assertEquals([isFreed(a), freed], [true, 0]);
    await stage.settle();
    assertEquals(freed, 1);
    await stage.end(b);
  });

  it("without that option leaves the one below: it goes on reading, without callbacks", async () => {
    const { stage, top, under, far, log } = set(null, null, 0);
    top.free();
    assertEquals([isFreed(under), under.getCallbacks()], [false, null]);
    far.write("abc");
    assertEquals(under.input.toString(), "abc");
    const again = new FilterBufferEvent(under, swapCase, null);
    again.setCallbacks(log.of("again"));
    again.enable(EV_READ);
    await stage.settle();
    assertEquals(log.received.toString(), "ABC");
    again.free();
    await stage.end(under, far);
  });

  it("calls onFree when the base is freed before its loop has run, or was", () => {
    for (const before of [true, false]) {
      const stage = new Stage();
      const { a } = stage.pair();
      let freed = 0;
      const top = new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE, () => freed++);
      if (before) stage.base.free();
      top.free();
      stage.base.free();
      assertEquals([freed, stage.base.numEvents(ALL_COUNTS)], [1, 0]);
    }
  });

  it("inside its own filters and callbacks is safe", async () => {
    const freeing: BufferEventFilter = (source, destination) => {
      destination.addBuffer(source);
      current?.free();
      return BEV_OK;
    };
    let current: FilterBufferEvent | undefined;
    for (const [input, output] of [[freeing, null], [null, freeing]] as const) {
      const { stage, top, far, log } = set(input, output);
      current = top;
      top.enable(EV_READ);
      far.write("abc");
      top.write("def");
      await stage.settle();
      assert(isFreed(top));
      assertEquals(log.take(), input === null ? ["top read 3"] : []);
      await stage.end(far);
    }
    current = undefined;
    for (const callback of ["read", "write", "event"] as const) {
      const { stage, top, far, log } = set(oneByOne, oneByOne);
      log.on[callback] = (bev: { free(): void }) => bev.free();
      top.enable(EV_READ);
      far.write("abc");
      far.shutdown();
      top.write("def");
      await stage.settle();
      assert(isFreed(top), callback);
      await stage.end(far);
    }
  });

  it("of a lower layer ends a view, a pipe and drained() that wait at the top", async () => {
    for (const layers of [1, 3]) {
      for (const what of ["view", "pipe", "drained"]) {
        const stage = new Stage();
        const { a, b } = stage.pair();
        let top: BufferEvent = a;
        for (let i = 0; i < layers; i++) top = new FilterBufferEvent(top, null, null);
        const [c, d] = bufferEventPair(stage.base);
        const codeOf = (error: unknown): string => (error as EventError).code;
        let waiting: Promise<unknown>;
        if (what === "view") waiting = top.lines().next().catch(codeOf);
        else if (what === "pipe") waiting = pipe(top, c).catch(codeOf);
        else {
          for (let i = 0; i < 20; i++) {
            top.write(new Uint8Array(50_000));
            await stage.during(1);
          }
          waiting = top.drained().catch(codeOf);
        }
        await stage.during(5);
        a.free();
        assertEquals(await stage.sim.run(waiting), "EV_FREED", what);
        await stage.end(top, b, c, d);
      }
    }
  });

  it("of a lower layer leaves a filter whose methods do nothing", async () => {
    const { stage, top, under, far, log } = set(swapCase, swapCase);
    top.enable(EV_READ);
    under.free();
    top.write("abc");
    await stage.settle();
    assertEquals([log.take(), log.errors[0]?.code], [["top event WRITING|ERROR"], "EPIPE"]);
    top.enable(BOTH);
    top.flush(BOTH, BEV_FINISHED);
    assertEquals(await top.close(), false);
    await stage.end(far);
  });
});

describe("free() in a write callback of a filter", () => {
  const gzip: CompressionFilterOptions = { autoFlush: true, flags: BEV_OPT_CLOSE_ON_FREE };
  const layers: { [name: string]: (below: BufferEvent, options: number) => BufferEvent } = {
    none: (below, options) => new FilterBufferEvent(below, null, null, BEV_OPT_CLOSE_ON_FREE | options),
    swap: (below, options) => new FilterBufferEvent(below, swapCase, swapCase, BEV_OPT_CLOSE_ON_FREE | options),
    frames: (below, options) => new FilterBufferEvent(below, unframe, framer(100), BEV_OPT_CLOSE_ON_FREE | options),
    gzip: (below) => compressionFilter(below, "gzip", gzip),
  };
  const stacks = [
    ["none", "none", "none"],
    ["swap", "frames", "none"],
    ["gzip", "swap", "none"],
    ["frames", "gzip", "swap"],
  ];

  async function bottoms(stage: Stage, kind: string): Promise<[BufferEvent, BufferEvent]> {
    if (kind === "pair") return bufferEventPair(stage.base);
    const sockets = await socketPair(stage.sim);
    const [near, far] = sockets.map((socket) => new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE));
    const rate = { readRate: 20_000, readBurst: 20_000, writeRate: 20_000, writeBurst: 20_000, tickMs: 1 };
    if (kind === "limited socket") near!.setRateLimit(new TokenBucketConfig(rate));
    return [near!, far!];
  }

  for (const kind of ["socket", "limited socket", "pair"]) {
    for (const stack of stacks) {
      it(`loses nothing of 300,000 bytes through ${stack.join(", ")} over a ${kind}`, async () => {
        for (const options of [0, BEV_OPT_DEFER_CALLBACKS]) {
          for (const shutdown of [false, true]) {
            const stage = new Stage({}, { maxSteps: 2_000_000 });
            const [near, far] = await bottoms(stage, kind);
            const build = (bottom: BufferEvent): BufferEvent =>
              stack.reduceRight((below, name) => layers[name]!(below, options), bottom);
            const [sender, receiver] = [build(near), build(far)];
            const received: Uint8Array[] = [];
            let ended: string | undefined;
            receiver.setWatermark(EV_READ, 0, 10_000);
            receiver.setCallbacks({
              read: (bev) => {
                received.push(bev.input.toUint8Array());
                bev.input.drain(bev.input.length);
              },
              event: (_bev, what, error) => ended ??= `${bits(what)} ${error?.code ?? ""}`,
            });
            let calls = 0;
            sender.setCallbacks({
              write: (bev) => {
                calls++;
                bev.free();
              },
            });
            sender.write(pattern(300_000));
            if (shutdown) sender.shutdown();
            await stage.during(30);
            if (kind === "pair") assertEquals(calls, 0, "nobody has read");
            receiver.enable(EV_READ);
            for (let ms = 0; ms < 1000 && ended === undefined; ms += 50) await stage.during(50);
            assertEquals(calls, 1);
            const bytes = join(received);
            assertEquals(bytes.length, 300_000);
            assertEquals(bytes, pattern(300_000));
            // The compressed stream was not finished, so it is truncated behind the last byte.
            const cut = stack.includes("gzip") && !shutdown;
            assertEquals(ended, cut ? "READING|ERROR EV_COMPRESSED_TRUNCATED" : "READING|EOF ");
            await stage.end(sender, receiver);
          }
        }
      });
    }
  }

  it("does not come before a filter has added its last bytes", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    const held = new EvBuffer();
    const hoards: BufferEventFilter = (source, destination, _limit, mode) => {
      held.addBuffer(source);
      if (mode === BEV_FINISHED) destination.addBuffer(held);
      return BEV_NEED_MORE;
    };
    const middle = new FilterBufferEvent(a, null, hoards, BEV_OPT_CLOSE_ON_FREE);
    const top = new FilterBufferEvent(middle, null, null, BEV_OPT_CLOSE_ON_FREE);
    const lengths: number[] = [];
    top.setCallbacks({
      write: (bev) => {
        lengths.push(b.input.length);
        bev.free();
      },
    });
    b.setCallbacks(null);
    b.enable(EV_READ);
    top.write("held back");
    top.shutdown();
    await stage.settle();
    assertEquals([lengths, b.input.toString()], [[9], "held back"]);
    await stage.end(top, b);
  });
});
