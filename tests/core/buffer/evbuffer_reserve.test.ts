/** Writing in place: reserve, commit, expand (rule B7). */

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer } from "../../../core/buffer/internal.ts";
import { EventError } from "../../../core/errors.ts";
import { assertHolds, bytes, chunkSizes } from "./support.ts";

function total(vecs: readonly Uint8Array[]): number {
  return vecs.reduce((n, vec) => n + vec.length, 0);
}

/** Reserves, writes `content` into the pieces in order, and gives their written parts. */
function fill(vecs: readonly Uint8Array[], content: string): Uint8Array[] {
  const data = bytes(content);
  let at = 0;
  return vecs.map((vec) => {
    const n = Math.min(vec.length, data.length - at);
    vec.set(data.subarray(at, at + n));
    at += n;
    return vec.subarray(0, n);
  });
}

function assertStale(fn: () => unknown): void {
  assertEquals((assertThrows(fn, EventError) as EventError).code, "EV_STALE");
}

describe("EvBuffer.reserveSpace()", () => {
  it("gives one piece that is at least as large as requested", () => {
    const buffer = new EvBuffer();
    for (const n of [0, 1, 100, 5000, 100_000]) {
      const vecs = buffer.reserveSpace(n);
      assertEquals(vecs.length, 1);
      assert(total(vecs) >= n);
      assertEquals(buffer.length, 0);
    }
  });

  it("uses up the last chunk first if several pieces are allowed", () => {
    const buffer = new EvBuffer();
    buffer.expand(1024);
    buffer.add("x".repeat(1000));
    const vecs = buffer.reserveSpace(2000, 4);
    assertEquals(vecs.length, 2);
    assertEquals(vecs[0]?.length, 24);
    assert(total(vecs) >= 2000);
    buffer.commitSpace(fill(vecs, "y".repeat(2000)));
    assertHolds(buffer, "x".repeat(1000) + "y".repeat(2000));
    assertEquals(chunkSizes(buffer), [1024, 1976]);
    assertEquals(buffer.reserveSpace(0, 2), []);
  });

  it("gives the same space again when nothing was committed", () => {
    const buffer = new EvBuffer();
    const first = buffer.reserveSpace(100)[0] as Uint8Array;
    const second = buffer.reserveSpace(100)[0] as Uint8Array;
    assertEquals([first.buffer === second.buffer, first.byteOffset], [true, second.byteOffset]);
  });

  it("gives space that no other buffer writes to", () => {
    const buffer = new EvBuffer();
    const other = new EvBuffer();
    const room = buffer.reserveSpace(50)[0] as Uint8Array;
    room.fill(97);
    other.add("other");
    buffer.commitSpace([room.subarray(0, 50)]);
    other.add("other");
    assertHolds(buffer, "a".repeat(50));
    assertHolds(other, "otherother");
  });
});

describe("EvBuffer.commitSpace()", () => {
  it("accepts shorter front parts of the pieces, and fewer pieces", () => {
    const buffer = new EvBuffer();
    buffer.expand(1024);
    buffer.add("x".repeat(1014));
    const vecs = buffer.reserveSpace(100, 2);
    const [first, second] = fill(vecs, "0123456789" + "a".repeat(90)) as [Uint8Array, Uint8Array];
    buffer.commitSpace([first.subarray(0, 4), second.subarray(0, 2)]);
    assertHolds(buffer, "x".repeat(1014) + "0123aa");
    const room = buffer.reserveSpace(10, 2);
    buffer.commitSpace([fill(room, "tail")[0] as Uint8Array]);
    assertHolds(buffer, "x".repeat(1014) + "0123aatail");
  });

  it("accepts an empty list, and empty pieces", () => {
    const buffer = new EvBuffer();
    buffer.commitSpace([]);
    const [room] = buffer.reserveSpace(10) as [Uint8Array];
    buffer.commitSpace([]);
    buffer.commitSpace([room.subarray(0, 0)]);
    assertHolds(buffer, "");
  });

  it("puts several commits one behind the other in one chunk", () => {
    const buffer = new EvBuffer();
    for (let i = 0; i < 100; i++) buffer.commitSpace(fill(buffer.reserveSpace(10), "0123456789"));
    assertHolds(buffer, "0123456789".repeat(100));
    assertEquals(chunkSizes(buffer).length, 1);
  });

  it("works after a drain or a prepend in between", () => {
    const buffer = new EvBuffer();
    buffer.add("abc");
    const vecs = buffer.reserveSpace(10);
    buffer.drain(3);
    buffer.prepend("x");
    buffer.commitSpace(fill(vecs, "0123456789"));
    assertHolds(buffer, "x0123456789");
  });

  it("refuses space after any addition since", () => {
    const adds: ((buffer: EvBuffer) => void)[] = [
      (b) => b.add("x"),
      (b) => b.add(bytes("x")),
      (b) => b.add("x".repeat(5000)),
      (b) => b.addReference(bytes("x")),
      (b) => b.addReference(bytes("x"), () => {}),
      (b) => b.addUint8(1),
      (b) => {
        const other = new EvBuffer();
        other.add("x");
        b.addBuffer(other);
      },
      (b) => {
        const other = new EvBuffer();
        other.add("xy");
        other.removeBuffer(b, 1);
      },
      (b) => {
        const other = new EvBuffer();
        other.add("x");
        b.addBufferReference(other);
      },
    ];
    for (const add of adds) {
      for (const before of ["", "already"]) {
        const buffer = new EvBuffer();
        buffer.add(before);
        const vecs = buffer.reserveSpace(10);
        add(buffer);
        const length = buffer.length;
        assertStale(() => buffer.commitSpace(vecs));
        assertEquals(buffer.length, length);
        checkBuffer(buffer);
      }
    }
  });

  it("refuses space after the bytes were moved away", () => {
    const buffer = new EvBuffer();
    buffer.add("x");
    const vecs = buffer.reserveSpace(10);
    new EvBuffer().addBuffer(buffer);
    assertStale(() => buffer.commitSpace(vecs));
  });

  it("refuses space a second time, too large pieces, and other memory", () => {
    const buffer = new EvBuffer();
    const [room] = buffer.reserveSpace(10) as [Uint8Array];
    assertStale(() => buffer.commitSpace([room, room]));
    assertStale(() => buffer.commitSpace([room.subarray(1)]));
    assertStale(() => buffer.commitSpace([new Uint8Array(1)]));
    assertStale(() =>
      buffer.commitSpace([new Uint8Array(room.buffer)].map((all) => all.subarray(0, room.length + 1).slice()))
    );
    assertHolds(buffer, "");
    buffer.commitSpace([room.subarray(0, 5)]);
    assertStale(() => buffer.commitSpace([room.subarray(0, 5)]));
    const [narrow] = buffer.reserveSpace(10) as [Uint8Array];
    assertStale(() => buffer.commitSpace([new Uint8Array(narrow.buffer, 0, 1)]));
    assertEquals(buffer.length, 5);
  });

  it("does not touch bytes that are moved away while space is reserved behind them", () => {
    const buffer = new EvBuffer();
    const target = new EvBuffer();
    buffer.commitSpace(fill(buffer.reserveSpace(100), "first"));
    target.addBuffer(buffer);
    target.add(" target");
    buffer.add("second");
    buffer.commitSpace(fill(buffer.reserveSpace(10), "!"));
    assertHolds(target, "first target");
    assertHolds(buffer, "second!");
  });
});

describe("EvBuffer.expand()", () => {
  it("makes space for that many bytes in one piece, and does not change the content", () => {
    for (const n of [10, 1000, 5000, 200_000]) {
      const buffer = new EvBuffer();
      buffer.expand(n);
      assertEquals(buffer.length, 0);
      for (let left = n; left > 0; left -= 10) buffer.add("0123456789");
      assertHolds(buffer, "0123456789".repeat(n / 10));
      assertEquals(chunkSizes(buffer), [n]);
    }
  });

  it("takes text and large pieces into the space as well", () => {
    const buffer = new EvBuffer();
    buffer.expand(20_000);
    buffer.add("é".repeat(3000));
    buffer.add(new Uint8Array(6000).fill(97));
    buffer.add("b".repeat(8000));
    assertEquals(chunkSizes(buffer), [20_000]);
    buffer.add("over");
    assertEquals(buffer.length, 20_004);
    checkBuffer(buffer);
  });
});
