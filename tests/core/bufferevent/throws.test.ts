// Exceptions in the middle of a bufferevent's work: in a change callback, a release callback or a
// filter. `dispatch()` rejects with the exception, and afterwards nothing stalls, is lost or is
// half done.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { type BufferEvent, coreOf } from "../../../core/api/bufferevent.ts";
import type { BufferEventFilter } from "../../../core/bufferevent/filter_run.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { compress, compressionFilter, decompress } from "../../../core/api/compression.ts";
import { lfToCrlf } from "../../../core/api/line_endings.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import {
  BEV_FINISHED,
  BEV_FLUSH,
  BEV_NORMAL,
  BEV_OK,
  BEV_OPT_CLOSE_ON_FREE,
  EV_READ,
  EV_WRITE,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../../core/flags.ts";
import { pattern, receiveAll, socketPair } from "../socket/pairs.ts";
import { isFreed } from "./rig.ts";
import { Record, Stage } from "./stage.ts";

const THROWN = new Error("thrown on purpose");

/** Throws in the `n`-th change of a buffer. */
function throwAt(buffer: EvBuffer, n = 1): void {
  let calls = 0;
  buffer.addCallback(() => {
    if (++calls === n) throw THROWN;
  });
}

/** Runs the loop, and goes on after exceptions. @returns The number of exceptions */
async function runs(stage: Stage, ms = 50): Promise<number> {
  const until = stage.sim.now() + ms;
  for (let threw = 0;; threw++) {
    stage.base.loopExit(Math.max(until - stage.sim.now(), 0));
    try {
      await stage.sim.run(stage.base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
      return threw;
    } catch (error) {
      assertStrictEquals(error, THROWN);
    }
  }
}

/** The errors that are reported to the host. */
function reports(stage: Stage): unknown[] {
  const reported: unknown[] = [];
  Object.defineProperty(stage.sim, "report", { value: (error: unknown) => void reported.push(error) });
  return reported;
}

describe("a change callback that throws", () => {
  it("of a socket's output does not stop the output, the write callback and our end", async () => {
    for (const n of [1, 2]) {
      const stage = new Stage();
      const [socket, peer] = await socketPair(stage.sim);
      const bev = new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE);
      const log = new Record();
      bev.setCallbacks(log.of("bev"));
      bev.setMaxSingleWrite(10_000);
      bev.write(pattern(30_000));
      bev.shutdown();
      throwAt(bev.output, n);
      assertEquals(await runs(stage), 1);
      assertEquals(log.take(), ["bev write 0"]);
      const { bytes, ended } = receiveAll(peer);
      assertEquals([bytes, ended], [pattern(30_000), true]);
      peer.close();
      await stage.end(bev);
    }
  });

  it("of a socket's input does not prevent the read callback", async () => {
    const stage = new Stage();
    const [socket, peer] = await socketPair(stage.sim);
    const bev = new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE);
    const log = new Record();
    bev.setCallbacks(log.of("bev"));
    bev.enable(EV_READ);
    throwAt(bev.input);
    peer.send(pattern(100));
    assertEquals(await runs(stage), 1);
    assertEquals([log.take(), log.received.length], [["bev read 100"], 100]);
    peer.close();
    await stage.end(bev);
  });

  it("of either end of a pair keeps the bytes, the callbacks of both ends, and the end of file", async () => {
    for (const at of ["output", "input"] as const) {
      const stage = new Stage();
      const { a, b, log } = stage.pair();
      throwAt(at === "output" ? a.output : b.input, at === "output" ? 2 : 1);
      a.write("hello");
      a.shutdown();
      assertStrictEquals(assertThrows(() => b.enable(EV_READ)), THROWN);
      assertEquals(b.input.toString(), "hello");
      await stage.settle();
      assertEquals(log.take(), ["b read 5", "b event READING|EOF", "a write 0"]);
      await stage.end(a, b);
    }
  });

  it("of one end of a pair does not prevent the other from closing", async () => {
    const stage = new Stage();
    const reported = reports(stage);
    const { a, b } = stage.pair();
    b.write("dropped");
    throwAt(b.output);
    a.write("taken");
    const closing = a.close();
    assertEquals(reported, [THROWN]);
    b.enable(EV_READ);
    b.shutdown();
    assertEquals([await stage.sim.run(closing), b.input.toString()], [true, "taken"]);
    await stage.end(a, b);
  });

  it("is not called again by close()", async () => {
    const stage = new Stage();
    const [socket, peer] = await socketPair(stage.sim);
    const bev = new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE);
    bev.write("last words");
    throwAt(bev.output);
    const closing = bev.close();
    peer.shutdown();
    assertEquals([await stage.sim.run(closing), receiveAll(peer).bytes.length], [true, 10]);
    peer.close();
    await stage.end();
  });

  for (
    const [name, make] of Object.entries<(below: BufferEvent) => BufferEvent>({
      "a null filter": (below) => new FilterBufferEvent(below, null, null, BEV_OPT_CLOSE_ON_FREE),
      "compressionFilter()": (below) =>
        compressionFilter(below, "gzip", { autoFlush: true, flags: BEV_OPT_CLOSE_ON_FREE }),
      "line endings": (below) => new FilterBufferEvent(below, null, lfToCrlf(), BEV_OPT_CLOSE_ON_FREE),
    })
  ) {
    it(`in the middle of ${name} loses and repeats nothing`, async () => {
      for (const n of [1, 2, 3]) {
        for (const where of ["output", "below"]) {
          const stage = new Stage();
          const { a, b } = stage.pair();
          const top = make(a);
          const far = name === "compressionFilter()" ? make(b) : b;
          const log = new Record();
          far.setCallbacks(log.of("far"));
          far.enable(EV_READ);
          const bytes = pattern(100_000).map((byte) => byte === 10 ? 11 : byte);
          top.write(bytes);
          throwAt(where === "output" ? top.output : a.output, n);
          await runs(stage);
          top.enable(EV_WRITE);
          try {
            top.write(bytes);
          } catch (error) {
            assertStrictEquals(error, THROWN);
          }
          await runs(stage);
          const all = new Uint8Array(200_000);
          all.set(bytes);
          all.set(bytes, 100_000);
          assertEquals(log.received.length, all.length);
          assertEquals(log.received.toUint8Array(), all);
          await stage.end(top, far);
        }
      }
    });
  }

  it("or uses another filter inside does not mix the outputs of both", () => {
    const stage = new Stage();
    const [one, two] = [0, 1].map(() => compress("gzip", { runtime: stage.sim }));
    const [source, packed, other, otherPacked] = [0, 1, 2, 3].map(() => new EvBuffer());
    const bytes = pattern(200_000);
    packed!.addCallback(() => {
      other!.add(new Uint8Array(50_000));
      two!(other!, otherPacked!, -1, BEV_FLUSH);
    });
    source!.addCallback(() => {
      other!.add(new Uint8Array(50_000));
      two!(other!, otherPacked!, -1, BEV_FLUSH);
    });
    source!.add(bytes);
    while (source!.length > 0) one!(source!, packed!, -1, BEV_NORMAL);
    one!(source!, packed!, -1, BEV_FINISHED);
    const [back, got] = [decompress("gzip", { runtime: stage.sim }), new EvBuffer()];
    while (packed!.length > 0) assertEquals(back(packed!, got, -1, BEV_NORMAL), BEV_OK);
    assertEquals(got.toUint8Array(), bytes);
  });
});

describe("a filter that throws", () => {
  it("has reported its earlier output, and is called again with the next bytes", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    let calls = 0;
    const filter: BufferEventFilter = (source, destination) => {
      if (++calls === 2) throw THROWN;
      source.removeBuffer(destination, 3);
      return BEV_OK;
    };
    const top = new FilterBufferEvent(b, filter, null, BEV_OPT_CLOSE_ON_FREE);
    const log = new Record();
    top.setCallbacks(log.of("top"));
    top.enable(EV_READ);
    a.write("abcdef");
    assertEquals([await runs(stage), log.take()], [1, ["top read 3"]]);
    a.write("ghi");
    assertEquals([await runs(stage), log.take(), log.received.toString()], [0, ["top read 6"], "abcdefghi"]);
    await stage.end(a, top);
  });

  it("in its last call is called a last time again, and then the one below finishes", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    const held = new EvBuffer();
    let throws = true;
    const filter: BufferEventFilter = (source, destination, _limit, mode) => {
      held.addBuffer(source);
      if (mode === BEV_FINISHED && throws) throw THROWN;
      if (mode === BEV_FINISHED) destination.addBuffer(held);
      return BEV_OK;
    };
    const top = new FilterBufferEvent(a, null, filter, BEV_OPT_CLOSE_ON_FREE);
    b.enable(EV_READ);
    top.write("held back");
    top.shutdown();
    assertEquals([await runs(stage), log.take()], [1, []]);
    throws = false;
    top.enable(EV_WRITE);
    assertEquals(await runs(stage), 0);
    assertEquals([log.take(), log.received.toString()], [["b read 9", "b event READING|EOF"], "held back"]);
    await stage.end(top, b);
  });
});

describe("a release callback", () => {
  /** A bufferevent whose output is memory of the user that its peer does not take. */
  async function stuck(stage: Stage, release: () => void): Promise<[SocketBufferEvent, () => void]> {
    const [socket, peer] = await socketPair(stage.sim);
    const bev = new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE);
    for (let i = 0; i < 20; i++) bev.output.addReference(pattern(50_000), release);
    await stage.during(20);
    return [bev, (): void => peer.reset()];
  }

  it("is called for all memory when close() fails or runs out of time, limited or not", async () => {
    for (const limited of [false, true]) {
      for (const how of ["reset", "timeout", "bev.reset()"]) {
        const stage = new Stage();
        let released = 0;
        const [bev, reset] = await stuck(stage, () => released++);
        if (limited) {
          const config = { readRate: 1000, readBurst: 1000, writeRate: 1000, writeBurst: 1000 };
          bev.setRateLimit(new TokenBucketConfig(config));
        }
        const closing = bev.close({ timeoutMs: 100 });
        await stage.sim.advance(5);
        assert(released < 20);
        if (how === "reset") reset();
        else if (how === "bev.reset()") bev.reset();
        assertEquals(await stage.sim.run(closing), false);
        assertEquals(released, 20, `${limited} ${how}`);
        reset();
        await stage.end(bev);
      }
    }
  });

  it("that throws after close() is reported to the host, and close() goes on", async () => {
    const stage = new Stage();
    const reported = reports(stage);
    const [socket, peer] = await socketPair(stage.sim);
    const bev = new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE);
    for (let i = 0; i < 20; i++) {
      bev.output.addReference(pattern(50_000), () => {
        throw THROWN;
      });
    }
    const closing = bev.close();
    let received = 0;
    for (let ms = 0; ms < 100 && received < 1_000_000; ms++) {
      received += receiveAll(peer).bytes.length;
      await stage.sim.advance(1);
    }
    peer.close();
    assertEquals([await stage.sim.run(closing), received], [true, 1_000_000]);
    // Of errors that occur together, the first is reported.
    assert(reported.length > 5 && reported.every((error) => error === THROWN), `${reported.length} were reported`);
    await stage.end();
  });

  it("that throws in free() or reset() leaves nothing behind, at any layer", async () => {
    for (const how of ["free", "reset"] as const) {
      for (const where of ["bottom", "top"]) {
        const stage = new Stage();
        const [a, b] = bufferEventPair(stage.base);
        const layers: BufferEvent[] = [a];
        let freed = 0;
        for (let i = 0; i < 3; i++) {
          layers.push(new FilterBufferEvent(layers.at(-1)!, null, null, BEV_OPT_CLOSE_ON_FREE, () => freed++));
        }
        const top = layers.at(-1)!;
        const log = new Record();
        top.setCallbacks(log.of("top"));
        top.enable(EV_READ);
        top.setTimeouts(10, 10);
        const waiting = top.lines().next().catch((error) => (error as { code: string }).code);
        const throws = (): void => {
          throw THROWN;
        };
        if (where === "top") top.output.addReference(pattern(5), throws);
        else a.output.addReference(pattern(5), throws);
        assertStrictEquals(assertThrows(() => coreOf(top)[how]()), THROWN);
        assert(layers.every(isFreed));
        assertEquals([await stage.sim.run(waiting), await runs(stage), log.take(), freed], ["EV_FREED", 0, [], 3]);
        await stage.end(b);
      }
    }
  });
});
