// Bufferevents against a model: whatever both ends do, the bytes arrive in order, once, and
// callbacks run as the rules say.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import {
  BEV_EVENT_EOF,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  EV_READ,
  EV_WRITE,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { pattern, socketPair } from "../socket/pairs.ts";

/** One end, and the model of it. */
class Side {
  readonly bev: SocketBufferEvent;
  written = 0;
  received = 0;
  /** Whether the read callback drains the input. */
  greedy: boolean;
  ended = 0;
  readLow = 0;
  readHigh = 0;
  /** The largest length that the input may have. */
  most = 0;
  finishing = false;
  freed = false;
  /**
   * Whether lengths must fit the watermarks when callbacks run: they may change before a deferred
   * callback runs.
   */
  exact = true;

  constructor(bev: SocketBufferEvent, greedy: boolean) {
    this.bev = bev;
    this.greedy = greedy;
    bev.setCallbacks({
      read: () => {
        assert(!this.freed, "called after free()");
        assert(!this.exact || bev.input.length >= this.readLow, "below the low watermark");
        if (this.greedy) this.take(bev.input.length);
      },
      write: () => {
        assert(!this.freed, "called after free()");
        if (this.exact) assertEquals(bev.output.length, 0);
      },
      event: (_bev, what) => {
        assert(!this.freed, "called after free()");
        assertEquals(what & BEV_EVENT_EOF, BEV_EVENT_EOF, `only an end is expected, not ${what}`);
        this.ended++;
      },
    });
  }

  /** Takes bytes of the input, and checks that they are the next of the pattern. */
  take(n: number): void {
    const into = new Uint8Array(n);
    const got = this.bev.read(into);
    assertEquals(into.subarray(0, got), pattern(got, this.received));
    this.received += got;
  }

  write(n: number): void {
    if (this.finishing) return;
    this.bev.write(pattern(n, this.written));
    this.written += n;
  }

  shutdown(): void {
    this.finishing = true;
    this.bev.shutdown();
  }
}

type Step = { kind: string; side: boolean; n: number };

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(
    "write",
    "write",
    "write",
    "take",
    "take",
    "wait",
    "wait",
    "run",
    "run",
    "enable read",
    "enable read",
    "disable read",
    "enable write",
    "disable write",
    "watermark",
    "low",
    "greedy",
    "single",
    "shutdown",
    "trigger",
  ),
  side: fc.boolean(),
  n: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 70_000 })),
});

function apply(side: Side, { kind, n }: Step): void {
  const { bev } = side;
  if (kind === "write") side.write(n);
  else if (kind === "take") side.take(n);
  else if (kind === "enable read") bev.enable(EV_READ);
  else if (kind === "disable read") bev.disable(EV_READ);
  else if (kind === "enable write") bev.enable(EV_WRITE);
  else if (kind === "disable write") bev.disable(EV_WRITE);
  else if (kind === "watermark") {
    side.readHigh = n;
    side.readLow = Math.min(side.readLow, n);
    bev.setWatermark(EV_READ, side.readLow, n);
  } else if (kind === "low") {
    side.readLow = side.readHigh > 0 ? Math.min(n, side.readHigh) : n;
    bev.setWatermark(EV_READ, side.readLow, side.readHigh);
  } else if (kind === "greedy") side.greedy = n % 2 === 0;
  else if (kind === "single") {
    bev.setMaxSingleRead(n);
    bev.setMaxSingleWrite(n % 3 === 0 ? 0 : n * 7);
  } else if (kind === "shutdown" && n % 4 === 0) side.shutdown();
  else if (kind === "trigger") bev.trigger(EV_READ | EV_WRITE);
}

describe("two bufferevents on one connection", () => {
  it("deliver the bytes in order, once, whatever both ends do", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 60, size: "max" }),
        fc.nat(),
        fc.boolean(),
        fc.boolean(),
        async (steps, seed, deferred, twoPriorities) => {
          const sim = simRuntime({ seed, maxSteps: 200_000, faults: { segmentCut: 0.2, jitterMs: 1 } });
          const base = new EventBase({ runtime: sim, priorities: twoPriorities ? 2 : 1 });
          const sockets = await socketPair(sim);
          const options = BEV_OPT_CLOSE_ON_FREE | (deferred ? BEV_OPT_DEFER_CALLBACKS : 0);
          const sides = sockets.map((socket, i) => new Side(new SocketBufferEvent(base, socket, options), i === 0));
          const [a, b] = sides as [Side, Side];
          a.exact = b.exact = !deferred && !steps.some(({ kind }) => kind === "trigger");

          const run = async (ms: number): Promise<void> => {
            base.loopExit(ms);
            await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
          };
          for (const each of steps) {
            const side = each.side ? a : b;
            if (each.kind === "wait") await sim.advance(each.n % 7);
            else if (each.kind === "run") await run(each.n % 7);
            else {
              const before = side.bev.input.length;
              apply(side, each);
              side.most = Math.max(side.readHigh, before);
            }
            // The length never passes the watermark, but the watermark may have been lowered below
            // it.
            for (const each of sides) {
              if (each.readHigh === 0) continue;
              assert(each.bev.input.length <= each.most, `${each.bev.input.length} above the mark of ${each.most}`);
              each.most = Math.max(each.readHigh, each.bev.input.length);
            }
          }

          // In the end all written bytes arrive, and then the end of file.
          for (const side of sides) {
            side.greedy = true;
            side.readLow = side.readHigh = 0;
            side.take(side.bev.input.length);
            side.bev.setWatermark(EV_READ, 0, 0);
            side.bev.setMaxSingleRead(0);
            side.bev.setMaxSingleWrite(0);
            side.bev.enable(EV_READ | EV_WRITE);
            side.shutdown();
          }
          for (let ms = 0; ms < 3000; ms += 50) await run(50);
          assertEquals([b.received, a.received], [a.written, b.written]);
          assert(a.ended > 0 && b.ended > 0, "both ends are told");
          for (const side of sides) {
            side.freed = true;
            side.bev.free();
          }
          await run(5);
          await sim.advance(6_000);
          assertEquals([base.numEvents(EVENT_BASE_COUNT_ADDED), sim.openHandles, sim.pending], [0, 0, 0]);
        },
      ),
      { numRuns: 120 },
    );
  });

  it("deliver all earlier output when one calls close() at any moment", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 25, size: "max" }),
        fc.nat(),
        fc.nat(3000),
        async (steps, seed, pause) => {
          const sim = simRuntime({ seed, maxSteps: 400_000, faults: { segmentCut: 0.2, jitterMs: 1 } });
          const base = new EventBase({ runtime: sim });
          const sockets = await socketPair(sim);
          const sides = sockets.map((socket) => new Side(new SocketBufferEvent(base, socket, 1), true));
          const [a, b] = sides as [Side, Side];
          a.bev.enable(EV_READ);
          b.bev.enable(EV_READ);
          const run = async (ms: number): Promise<void> => {
            base.loopExit(ms);
            await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
          };
          for (const each of steps) {
            if (each.kind === "write") a.write(each.n);
            else if (each.kind === "wait" || each.kind === "run") await run(each.n % 5);
            else if (each.kind === "disable write") a.bev.disable(EV_WRITE);
            else if (each.kind === "take") b.write(each.n);
            else if (each.kind === "watermark") b.bev.setWatermark(EV_READ, 0, each.n);
          }
          a.freed = true;
          const closing = a.bev.close();
          b.bev.disable(EV_READ);
          await run(pause);
          b.bev.enable(EV_READ);
          for (let ms = 0; ms < 20_000 && b.ended === 0; ms += 10) await run(10);
          assertEquals([b.received, b.ended], [a.written, 1]);
          b.freed = true;
          const other = b.bev.close();
          assertEquals([await sim.run(closing), await sim.run(other)], [true, true]);
          await sim.advance(6_000);
          assertEquals([base.numEvents(EVENT_BASE_COUNT_ADDED), sim.openHandles, sim.pending], [0, 0, 0]);
        },
      ),
      { numRuns: 80 },
    );
  });
});
