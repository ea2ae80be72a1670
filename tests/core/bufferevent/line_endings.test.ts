// The filters that convert line endings, against regular expressions.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { BufferEventFilter } from "../../../core/bufferevent/filter_run.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { crlfToLf, lfToCrlf } from "../../../core/api/line_endings.ts";
import { BEV_FINISHED, BEV_FLUSH, BEV_NORMAL, BEV_OK, BEV_OPT_CLOSE_ON_FREE, EV_READ } from "../../../core/flags.ts";
import { Stage } from "./stage.ts";

/** Runs a filter as a bufferevent does, with pieces and a limit for each call. */
function run(filter: BufferEventFilter, pieces: string[], limits: number[]): string {
  const source = new EvBuffer();
  const destination = new EvBuffer();
  let calls = 0;
  const call = (mode: number): boolean => {
    const limit = mode === BEV_NORMAL && limits.length > 0 ? limits[calls++ % limits.length] as number : -1;
    const before = destination.length;
    const result = filter(source, destination, limit, mode);
    if (limit >= 0) assert(destination.length - before <= Math.max(limit, 2), "keeps to the limit");
    return result === BEV_OK;
  };
  for (const piece of pieces) {
    source.add(piece);
    while (source.length > 0 && call(BEV_NORMAL));
    assert(source.length <= 1, "keeps nothing back but a CR");
  }
  do call(BEV_FINISHED); while (source.length > 0);
  return destination.toString();
}

const text = fc.string({ unit: fc.constantFrom("\r", "\n", "\r\n", "a", "bc"), maxLength: 30 });
const pieces = fc.array(text, { maxLength: 6 });
const limits = fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 4 });

describe("lfToCrlf()", () => {
  it("adds a CR to each LF without one, wherever the pieces are cut", () => {
    fc.assert(fc.property(pieces, limits, (pieces, limits) => {
      assertEquals(run(lfToCrlf(), pieces, limits), pieces.join("").replaceAll(/(?<!\r)\n/g, "\r\n"));
    }));
  });
});

describe("crlfToLf()", () => {
  it("removes the CR of each CR LF, wherever the pieces are cut, and leaves other CRs", () => {
    fc.assert(fc.property(pieces, limits, (pieces, limits) => {
      assertEquals(run(crlfToLf(), pieces, limits), pieces.join("").replaceAll("\r\n", "\n"));
    }));
  });

  it("undoes lfToCrlf() for text without CR", () => {
    fc.assert(fc.property(pieces, (pieces) => {
      const plain = pieces.map((piece) => piece.replaceAll("\r", ""));
      assertEquals(run(crlfToLf(), [run(lfToCrlf(), plain, [])], []), plain.join(""));
    }));
  });

  it("holds a CR back until the next byte arrives, also in BEV_FLUSH", () => {
    const filter = crlfToLf();
    const source = new EvBuffer();
    const destination = new EvBuffer();
    source.add("a\r");
    for (const mode of [BEV_NORMAL, BEV_FLUSH]) filter(source, destination, -1, mode);
    assertEquals([destination.toString(), source.length], ["a", 1]);
    source.add("\n");
    filter(source, destination, -1, BEV_NORMAL);
    assertEquals([destination.toString(), source.length], ["a\n", 0]);
  });
});

describe("both over a pair", () => {
  it("convert megabytes, and the CR at the end of the stream", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    const near = new FilterBufferEvent(a, null, lfToCrlf(), BEV_OPT_CLOSE_ON_FREE);
    const far = new FilterBufferEvent(b, crlfToLf(), null, BEV_OPT_CLOSE_ON_FREE);
    far.setCallbacks(log.of("far"));
    far.enable(EV_READ);
    near.write("a line of some length\n".repeat(50_000) + "\r");
    near.shutdown();
    await stage.settle();
    assertEquals(log.received.toString(), "a line of some length\n".repeat(50_000) + "\r");
    assertEquals(log.take().at(-1), "far event READING|EOF");
    await stage.end(near, far);
  });
});
