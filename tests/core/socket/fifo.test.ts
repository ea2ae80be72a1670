// The queue of connections that wait, against an array.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Fifo } from "../../../core/socket/fifo.ts";

describe("Fifo", () => {
  it("agrees with an array, whatever its length", () => {
    const step = fc.record({ push: fc.nat(200), shift: fc.nat(200) });
    fc.assert(fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const fifo = new Fifo<number>();
      const model: number[] = [];
      let next = 0;
      for (const { push, shift } of steps) {
        for (let i = 0; i < push; i++) {
          fifo.push(next);
          model.push(next++);
        }
        for (let i = 0; i < shift; i++) assertEquals(fifo.shift(), model.shift());
        assertEquals([fifo.length, fifo.last], [model.length, model.at(-1)]);
      }
    }));
  });
});
