// Random stacks of filters, over a pair or a simulated connection. The layers cut, delay and join
// bytes. The steps are writes, reads, enables, disables, watermarks, flushes and time. The bytes of
// one end arrive at the other in order, once. Only callbacks that the rules allow run, and nothing
// is left at the end.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import type { BufferEventFilter } from "../../../core/bufferevent/filter_run.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import {
  BEV_EVENT_EOF,
  BEV_EVENT_READING,
  BEV_FINISHED,
  BEV_FLUSH,
  BEV_NEED_MORE,
  BEV_NORMAL,
  BEV_OK,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  EV_READ,
  EV_WRITE,
} from "../../../core/flags.ts";
import { socketPair } from "../socket/pairs.ts";
import { framer, oneByOne, swapCase, unframe } from "./filters.ts";
import { isFreed } from "./rig.ts";
import { Stage } from "./stage.ts";

type Way = "a to b" | "b to a";

/** Holds back up to `size` bytes until it is flushed, and gives what it has in pieces. */
function hoarder(size: number): BufferEventFilter {
  const held = new EvBuffer();
  return (source, destination, limit, mode) => {
    held.addBuffer(source);
    const keep = mode === BEV_NORMAL ? size : 0;
    const free = Math.max(held.length - keep, 0);
    held.removeBuffer(destination, limit < 0 ? free : Math.min(free, limit));
    return BEV_NEED_MORE;
  };
}

/**
 * Waits for whole units of `size` bytes, except at the end; it also waits if the limit is below a
 * unit.
 */
function units(size: number): BufferEventFilter {
  return (source, destination, limit, mode) => {
    const n = mode === BEV_FINISHED ? Math.min(size, source.length) : size;
    if (n === 0 || source.length < n || (limit >= 0 && limit < n)) return BEV_NEED_MORE;
    source.removeBuffer(destination, n);
    return BEV_OK;
  };
}

/** The conversion of one layer, and its inverse at the other end. */
const layer = fc.oneof(
  fc.constant({
    name: "none",
    there: (): BufferEventFilter | null => null,
    back: (): BufferEventFilter | null => null,
  }),
  fc.constant({ name: "swap", there: () => swapCase, back: () => swapCase }),
  fc.constant({ name: "single", there: () => oneByOne, back: () => oneByOne }),
  fc.integer({ min: 1, max: 9 }).map((n) => ({ name: `frame ${n}`, there: () => framer(n), back: () => unframe })),
  fc.integer({ min: 1, max: 9 }).map((n) => ({ name: `hoard ${n}`, there: () => hoarder(n), back: () => null })),
  fc.integer({ min: 1, max: 9 }).map((n) => ({ name: `hoarded ${n}`, there: () => null, back: () => hoarder(n) })),
  fc.integer({ min: 1, max: 9 }).map((n) => ({ name: `unit ${n}`, there: () => units(n), back: () => units(n + 1) })),
);
type Layer = { name: string; there: () => BufferEventFilter | null; back: () => BufferEventFilter | null };

/** One end: the top of its stack, and the state that the test checks. */
class End {
  readonly top: BufferEvent;
  readonly layers: BufferEvent[];
  readonly received: number[] = [];
  written = 0;
  readEnds = 0;
  done = false;
  #fresh = 0;
  /**
   * Whether bytes were drained since the last arrival: a callback that is already scheduled still
   * runs.
   */
  #taken = false;
  readonly #peek: (bev: BufferEvent) => void;

  constructor(bottom: BufferEvent, outward: Layer[], inward: Layer[], deferred: boolean) {
    this.layers = [bottom];
    let top = bottom;
    for (let i = 0; i < outward.length; i++) {
      const options = BEV_OPT_CLOSE_ON_FREE | (deferred ? BEV_OPT_DEFER_CALLBACKS : 0);
      top = new FilterBufferEvent(top, inward[i]?.back() ?? null, outward[i]?.there() ?? null, options);
      this.layers.push(top);
    }
    this.top = top;
    this.#peek = (bev): void => {
      const { low } = bev.getWatermark(EV_READ);
      assert(this.#fresh > 0, "no read callback without new bytes");
      assert(bev.input.length >= low || deferred || this.#taken, "no read callback below the low watermark");
      this.#fresh = 0;
    };
    top.input.addCallback((_buffer, { added }) => {
      this.#fresh += added;
      this.#taken = added === 0;
    });
    top.setCallbacks({
      read: (bev) => this.#peek(bev),
      event: (bev, what) => {
        assertEquals(what, BEV_EVENT_READING | BEV_EVENT_EOF);
        this.readEnds++;
        if (bev === top) this.take(Infinity);
      },
    });
  }

  write(n: number): void {
    this.top.write(Uint8Array.from({ length: n }, () => this.written++));
  }

  take(n: number): void {
    const into = new Uint8Array(Math.min(n, this.top.input.length));
    this.top.read(into);
    this.received.push(...into);
  }
}

const end = fc.constantFrom("a" as const, "b" as const);
const size = fc.integer({ min: 0, max: 60 });
const what = fc.constantFrom(EV_READ, EV_WRITE, EV_READ | EV_WRITE);
/** Which layer, counted from the top. */
const depth = fc.integer({ min: 0, max: 4 });
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("write" as const), end, size }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("take" as const), end, size }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("enable" as const), end, what }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("disable" as const), end, what }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("mark" as const), end, depth, what, low: size, high: size }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("flush" as const),
      end,
      what,
      mode: fc.constantFrom(BEV_NORMAL, BEV_FLUSH),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("run" as const), ms: fc.integer({ min: 0, max: 5 }) }) },
);

const scene = fc.record({
  bottom: fc.constantFrom("pair" as const, "socket" as const, "limited socket" as const),
  seed: fc.nat(1000),
  thereLayers: fc.array(layer, { minLength: 4, maxLength: 4 }),
  backLayers: fc.array(layer, { minLength: 4, maxLength: 4 }),
  height: fc.integer({ min: 1, max: 4 }),
  deferred: fc.boolean(),
  steps: fc.array(step, { maxLength: 40, size: "max" }),
  ending: fc.constantFrom("shutdown" as const, "close" as const),
});

describe("a stack of filters", () => {
  it("delivers all bytes in order, once, whatever is called in between, and is silent at the end", async () => {
    await fc.assert(
      fc.asyncProperty(scene, async ({ bottom, seed, thereLayers, backLayers, height, deferred, steps, ending }) => {
        const stage = new Stage({}, { seed, maxSteps: 2_000_000, faults: { jitterMs: 2, segmentCut: 0.3 } });
        const [near, far] = await bottoms(stage, bottom);
        const there = thereLayers.slice(0, height);
        const back = backLayers.slice(0, height);
        const a = new End(near, there, back, deferred);
        const b = new End(far, back, there, deferred);
        const ends = { a, b };
        for (const each of steps) {
          if (each.kind === "run") {
            await stage.during(each.ms);
            continue;
          }
          const at = ends[each.end];
          if (each.kind === "write") at.write(each.size);
          else if (each.kind === "take") at.take(each.size);
          else if (each.kind === "enable") at.top.enable(each.what);
          else if (each.kind === "disable") at.top.disable(each.what);
          else if (each.kind === "flush") at.top.flush(each.what, each.mode);
          else {
            // Only writing below the top: a read watermark below a unit of the filter above would
            // stop it for ever.
            const layer = at.layers.at(-1 - each.depth);
            if (each.depth === 0) at.top.setWatermark(each.what, each.low, each.high);
            else layer?.setWatermark(EV_WRITE, 0, each.high + 20);
          }
        }
        await finish(stage, a, b, ending);
        assertEquals(b.received, counting(a.written), "a to b" satisfies Way);
        assertEquals(a.received, counting(b.written), "b to a" satisfies Way);
        for (const bev of [...a.layers, ...b.layers]) assert(isFreed(bev));
        await stage.end();
      }),
      { numRuns: 300 },
    );
  });
});

async function bottoms(stage: Stage, kind: string): Promise<[BufferEvent, BufferEvent]> {
  if (kind === "pair") return bufferEventPair(stage.base);
  const [near, far] = await socketPair(stage.sim);
  const config = new TokenBucketConfig({ readRate: 40, readBurst: 90, writeRate: 30, writeBurst: 60, tickMs: 3 });
  const make = (socket: typeof near): BufferEvent => {
    const bev = new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE);
    if (kind === "limited socket") bev.setRateLimit(config);
    return bev;
  };
  return [make(near), make(far)];
}

/** Both finish writing, read what is left, and are closed. */
async function finish(stage: Stage, a: End, b: End, ending: "shutdown" | "close"): Promise<void> {
  const open = (at: End): void => {
    at.top.setWatermark(EV_READ, 0, 0);
    at.top.enable(EV_READ | EV_WRITE);
  };
  open(b);
  if (ending === "close") {
    // The closed end accepts nothing any more, so its peer must have sent and finished before.
    open(a);
    b.top.shutdown();
    await untilEnd(stage, a);
    a.take(Infinity);
    const closing = a.top.close();
    await untilEnd(stage, b);
    b.take(Infinity);
    assertEquals(await stage.sim.run(Promise.all([closing, b.top.close()])), [true, true]);
    return;
  }
  open(a);
  a.top.shutdown();
  b.top.shutdown();
  await untilEnd(stage, a);
  await untilEnd(stage, b);
  for (const at of [a, b]) at.take(Infinity);
  assertEquals([a.readEnds, b.readEnds], [1, 1]);
  for (const at of [a, b]) at.top.free();
}

async function untilEnd(stage: Stage, at: End): Promise<void> {
  for (let i = 0; i < 200 && at.readEnds === 0; i++) await stage.during(10);
  assertEquals(at.readEnds, 1, "the end of file");
}

function counting(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i & 255);
}
