// A pair against a naive model, arrays of numbers, over random sequences of calls (rules M1, M2, M4, V5, V7, V8): after
// each call both ends have the bytes that the model has, and after each run of the loop the same callbacks have come.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  BEV_EVENT_EOF,
  BEV_EVENT_READING,
  BEV_EVENT_WRITING,
  BEV_FINISHED,
  BEV_FLUSH,
  BEV_NORMAL,
  EV_READ,
  EV_WRITE,
} from "../../../core/flags.ts";
import type { PairBufferEvent } from "../../../core/api/pair_bufferevent.ts";
import { bits } from "./rig.ts";
import { Stage } from "./stage.ts";

/** One end. */
class Model {
  readonly name: string;
  peer: Model | undefined;
  input: number[] = [];
  output: number[] = [];
  enabled = EV_WRITE;
  readLow = 0;
  readHigh = 0;
  writeLow = 0;
  suspended = false;
  finishing = false;
  ended = false;
  readDue = false;
  writeDue = false;
  eventsDue = 0;

  constructor(name: string) {
    this.name = name;
  }

  get reading(): boolean {
    return (this.enabled & EV_READ) !== 0 && !this.suspended;
  }

  transfer(push: boolean): void {
    const to = this.peer as Model;
    let moved = false;
    while (this.output.length > 0) {
      let most = this.output.length;
      if (!push) {
        if (!to.reading || (this.enabled & EV_WRITE) === 0) break;
        if (to.readHigh > 0) most = Math.min(most, to.readHigh - to.input.length);
      }
      to.input.push(...this.output.splice(0, most));
      moved = true;
      to.checkHigh();
    }
    if (moved) {
      if (to.input.length >= to.readLow) to.readDue = true;
      if (this.output.length <= this.writeLow) this.writeDue = true;
    }
    if (this.finishing && this.output.length === 0 && !to.ended) {
      to.ended = true;
      if (to.reading) to.tellEnd();
    }
  }

  checkHigh(): void {
    const before = this.suspended;
    this.suspended = this.readHigh > 0 && this.input.length >= this.readHigh;
    if (before && !this.suspended) this.goOnReading();
  }

  goOnReading(): void {
    if (!this.reading) return;
    if (this.ended) this.tellEnd();
    else this.peer?.transfer(false);
  }

  tellEnd(): void {
    this.enabled &= ~EV_READ;
    this.eventsDue |= BEV_EVENT_READING | BEV_EVENT_EOF;
  }

  /** Runs the scheduled callbacks and removes them. */
  due(): string[] {
    const lines: string[] = [];
    if (this.readDue) lines.push(`${this.name} read ${this.input.length}`);
    if (this.writeDue) lines.push(`${this.name} write ${this.output.length}`);
    if (this.eventsDue !== 0) lines.push(`${this.name} event ${bits(this.eventsDue)}`);
    this.readDue = this.writeDue = false;
    this.eventsDue = 0;
    return lines;
  }
}

const end = fc.constantFrom("a" as const, "b" as const);
const what = fc.constantFrom(EV_READ, EV_WRITE, EV_READ | EV_WRITE);
const size = fc.integer({ min: 0, max: 40 });
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("write" as const), end, size }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("drain" as const), end, size }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("enable" as const), end, what }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("disable" as const), end, what }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("mark" as const), end, what, low: size, high: size }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("flush" as const),
      end,
      what,
      mode: fc.constantFrom(BEV_NORMAL, BEV_FLUSH, BEV_FINISHED),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("run" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("shutdown" as const), end }) },
);

describe("a pair", () => {
  it("does what a naive model does", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (steps) => {
        const stage = new Stage();
        const { a, b, log } = stage.pair();
        log.drains = false;
        const reals: { [name: string]: PairBufferEvent } = { a, b };
        const models: { [name: string]: Model } = { a: new Model("a"), b: new Model("b") };
        const [modelA, modelB] = [models["a"] as Model, models["b"] as Model];
        modelA.peer = modelB;
        modelB.peer = modelA;
        let next = 0;
        const check = (): void => {
          for (const [real, model] of [[a, modelA], [b, modelB]] as const) {
            assertEquals([...real.input.toUint8Array()], model.input);
            assertEquals([...real.output.toUint8Array()], model.output);
            assertEquals(real.enabled, model.enabled);
          }
        };
        const run = async (): Promise<void> => {
          await stage.settle();
          // The order between the ends depends on which callback was due first; each end keeps its
          // order.
          const lines = log.take();
          for (const name of ["a", "b"]) {
            assertEquals(lines.filter((line) => line.startsWith(name)), models[name]?.due());
          }
        };
        for (const each of steps) {
          if (each.kind === "run") {
            await run();
            continue;
          }
          const real = reals[each.end] as PairBufferEvent;
          const model = models[each.end] as Model;
          const peer = model.peer as Model;
          if (each.kind === "write") {
            if (model.finishing) continue;
            const bytes = Uint8Array.from({ length: each.size }, () => next++);
            real.write(bytes);
            if (each.size === 0) continue;
            model.output.push(...bytes);
            model.transfer(false);
          } else if (each.kind === "drain") {
            real.input.drain(each.size);
            const n = Math.min(each.size, model.input.length);
            model.input.splice(0, n);
            if (n > 0) model.checkHigh();
          } else if (each.kind === "enable") {
            real.enable(each.what);
            model.enabled |= each.what;
            if ((each.what & EV_READ) !== 0) model.goOnReading();
            if ((each.what & EV_WRITE) !== 0) model.transfer(false);
          } else if (each.kind === "disable") {
            real.disable(each.what);
            model.enabled &= ~each.what;
          } else if (each.kind === "mark") {
            real.setWatermark(each.what, each.low, each.high);
            if ((each.what & EV_WRITE) !== 0) model.writeLow = each.low;
            if ((each.what & EV_READ) !== 0) {
              model.readLow = each.low;
              model.readHigh = each.high;
              model.checkHigh();
            }
          } else if (each.kind === "flush") {
            real.flush(each.what, each.mode);
            if (each.mode === BEV_NORMAL) continue;
            if ((each.what & EV_READ) !== 0) peer.transfer(true);
            if ((each.what & EV_WRITE) !== 0) model.transfer(true);
            if (each.mode === BEV_FINISHED) {
              peer.eventsDue |= BEV_EVENT_EOF;
              if ((each.what & EV_READ) !== 0) peer.eventsDue |= BEV_EVENT_WRITING;
              if ((each.what & EV_WRITE) !== 0) peer.eventsDue |= BEV_EVENT_READING;
            }
          } else {
            real.shutdown();
            if (!model.finishing) {
              model.finishing = true;
              model.transfer(false);
            }
          }
          check();
        }
        await run();
        check();
        await stage.end(a, b);
      }),
      { numRuns: 200 },
    );
  });
});
