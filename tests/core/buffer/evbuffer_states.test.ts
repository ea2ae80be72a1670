/** Frozen ends, freed buffers and wrong arguments (rules B2, B11). */

import { describe, it } from "node:test";
import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer } from "../../../core/buffer/internal.ts";
import { EventError } from "../../../core/errors.ts";
import { assertHolds, bytes, chunked } from "./support.ts";

type Use = (buffer: EvBuffer) => unknown;

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

const FRONT: Record<string, Use> = {
  "remove()": (b) => b.remove(new Uint8Array(1)),
  "copyout()": (b) => b.copyout(new Uint8Array(1)),
  "copyoutFrom()": (b) => b.copyoutFrom(b.ptrSet(0), new Uint8Array(1)),
  "drain()": (b) => b.drain(1),
  "drain(0)": (b) => b.drain(0),
  "prepend()": (b) => b.prepend("x"),
  "readln()": (b) => b.readln(3),
  "eachLine()": (b) => b.eachLine(3, () => {}),
  "removeBuffer()": (b) => b.removeBuffer(new EvBuffer(), 1),
  "prependBuffer()": (b) => b.prependBuffer(chunked("x")),
  "prependBuffer() of it": (b) => new EvBuffer().prependBuffer(b),
  "addBuffer() of it": (b) => new EvBuffer().addBuffer(b),
  "readUint8()": (b) => b.readUint8(),
  "readFloat64LE()": (b) => b.readFloat64LE(),
};

const BACK: Record<string, Use> = {
  "add()": (b) => b.add("x"),
  "add() of nothing": (b) => b.add(""),
  "addIovec()": (b) => b.addIovec([bytes("x")]),
  "addIovec() of nothing": (b) => b.addIovec([]),
  "addReference()": (b) => b.addReference(bytes("x")),
  "addBuffer()": (b) => b.addBuffer(chunked("x")),
  "addBufferReference()": (b) => b.addBufferReference(chunked("x")),
  "removeBuffer() into it": (b) => chunked("x").removeBuffer(b, 1),
  "reserveSpace()": (b) => b.reserveSpace(1),
  "commitSpace()": (b) => b.commitSpace([]),
  "addUint8()": (b) => b.addUint8(1),
  "addBigInt64BE()": (b) => b.addBigInt64BE(1n),
};

describe("A frozen front", () => {
  for (const [name, use] of Object.entries(FRONT)) {
    it(`refuses ${name}`, () => {
      const buffer = chunked("ab\n", "c");
      buffer.freeze(true);
      buffer.freeze(true);
      assertEquals(codeOf(() => use(buffer)), "EV_FROZEN");
      assertHolds(buffer, "ab\nc");
      buffer.unfreeze(true);
      use(buffer);
      checkBuffer(buffer);
    });
  }

  it("lets everything else happen", () => {
    const buffer = chunked("ab\n", "c");
    buffer.freeze(true);
    for (const use of Object.values(BACK)) use(buffer);
    buffer.pullup(3);
    buffer.peek();
    buffer.search("a");
    buffer.searchEol(null, 3);
    buffer.toUint8Array();
    buffer.expand(10);
    assertEquals(buffer.copyout(new Uint8Array(0)), 0);
    assertEquals(buffer.remove(new Uint8Array(0)), 0);
    assertEquals(buffer.removeBuffer(new EvBuffer(), 0), 0);
    assertEquals(buffer.removeBuffer(buffer, 3), 0);
    buffer.prepend("");
    buffer.prependBuffer(new EvBuffer());
    checkBuffer(buffer);
  });

  it("accepts a drain of an empty buffer", () => {
    const buffer = new EvBuffer();
    buffer.freeze(true);
    buffer.drain(0);
    buffer.drain(5);
    assertEquals(buffer.remove(new Uint8Array(5)), 0);
    assertEquals(buffer.copyout(new Uint8Array(5)), 0);
    new EvBuffer().addBuffer(buffer);
  });
});

describe("A frozen back", () => {
  for (const [name, use] of Object.entries(BACK)) {
    it(`refuses ${name}`, () => {
      const buffer = chunked("ab\n", "c");
      buffer.freeze(false);
      assertEquals(codeOf(() => use(buffer)), "EV_FROZEN");
      assertHolds(buffer, "ab\nc");
      buffer.unfreeze(false);
      use(buffer);
      checkBuffer(buffer);
    });
  }

  it("lets everything else happen", () => {
    for (const [name, use] of Object.entries(FRONT)) {
      const buffer = chunked("ab\n", "cdefghijklmn");
      buffer.freeze(false);
      use(buffer);
      if (name === "drain()") {
        buffer.expand(100);
        buffer.addBuffer(new EvBuffer());
        buffer.addBufferReference(new EvBuffer());
      }
      checkBuffer(buffer);
    }
  });
});

describe("A freed buffer", () => {
  it("is empty, and does nothing when it is freed again", () => {
    const buffer = chunked("abc", "d");
    buffer.freeze(true);
    buffer.freeze(false);
    buffer.free();
    buffer.free();
    checkBuffer(buffer);
    assertEquals(buffer.length, 0);
    assertEquals(buffer.contiguousSpace, 0);
    assertEquals(buffer.peek(), []);
    assertEquals(buffer.pullup(-1), null);
    assertEquals(buffer.toString(), "");
    assertEquals(buffer.toUint8Array().length, 0);
    assertEquals(buffer.search("a").pos, -1);
    assertEquals(buffer.searchEol(null, 3), null);
    assertEquals(buffer.copyout(new Uint8Array(1)), 0);
    assertEquals(buffer.ptrSet(0).pos, 0);
  });

  it("can't be changed", () => {
    const uses = { ...FRONT, ...BACK };
    for (
      const name of ["copyout()", "copyoutFrom()", "addBuffer() of it", "prependBuffer() of it"]
    ) delete uses[name];
    for (const use of Object.values(uses)) {
      const buffer = chunked("abc");
      buffer.free();
      assertEquals(codeOf(() => use(buffer)), "EV_FREED");
    }
    const buffer = new EvBuffer();
    buffer.free();
    for (
      const use of [
        () => buffer.freeze(true),
        () => buffer.unfreeze(true),
        () => buffer.expand(1),
        () => buffer.addCallback(() => {}),
        () => buffer.prepend(""),
        () => buffer.drain(0),
        () => buffer.remove(new Uint8Array(0)),
      ]
    ) assertEquals(codeOf(use), "EV_FREED");
    const other = new EvBuffer();
    other.addBuffer(buffer);
    other.prependBuffer(buffer);
    other.addBufferReference(buffer);
  });
});

describe("Wrong arguments", () => {
  const COUNTS: Record<string, (n: number) => unknown> = {
    "drain()": (n) => chunked("abc").drain(n),
    "removeBuffer()": (n) => chunked("abc").removeBuffer(new EvBuffer(), n),
    "peek()": (n) => chunked("abc").peek(n),
    "reserveSpace()": (n) => chunked("abc").reserveSpace(n),
    "reserveSpace() in pieces": (n) => chunked("abc").reserveSpace(1, n),
    "expand()": (n) => chunked("abc").expand(n),
    "ptrSet()": (n) => chunked("abc").ptrSet(n),
    "readln()": (n) => chunked("abc").readln(3, { maxBytes: n }),
    "eachLine()": (n) => chunked("abc").eachLine(3, () => {}, { maxBytes: n }),
    "readln() in a style": (n) => chunked("abc").readln(n),
    "readln() of an empty buffer in a style": (n) => new EvBuffer().readln(n),
    "eachLine() in a style": (n) => new EvBuffer().eachLine(n, () => {}),
    "searchEol() in a style": (n) => chunked("abc").searchEol(null, n),
  };
  for (const [name, use] of Object.entries(COUNTS)) {
    it(`are refused by ${name}`, () => {
      for (const n of [-1, 1.5, NaN, -Infinity]) {
        assertMatch((assertThrows(() => use(n), RangeError) as Error).message, /^Cannot .*: received \S+$/);
      }
      for (const wrong of ["1", null, {}, 1n, true]) {
        const error = assertThrows(() => use(wrong as never), TypeError) as Error;
        assertMatch(error.message, /^Cannot .*: received \S+$/);
      }
    });
  }

  it("other than −1 and whole numbers are refused by pullup()", () => {
    for (const n of [-2, 0.5, NaN]) assertThrows(() => chunked("a").pullup(n), RangeError);
    assertThrows(() => chunked("a").pullup("1" as never), TypeError);
  });

  it("that are not end-of-line styles are refused", () => {
    assertThrows(() => chunked("a").readln(5), RangeError);
    assertThrows(() => chunked("a").eachLine(99, () => {}), RangeError);
    assertThrows(() => chunked("a").searchEol(null, 5), RangeError);
  });

  it("that are not bytes are refused, and change nothing", () => {
    for (
      const wrong of [
        undefined,
        null,
        1,
        {},
        [1, 2],
        new ArrayBuffer(1),
        new Uint16Array(1),
        new DataView(new ArrayBuffer(1)),
      ]
    ) {
      const buffer = chunked("abc");
      for (
        const use of [
          () => buffer.add(wrong as never),
          () => buffer.prepend(wrong as never),
          () => buffer.addReference(wrong as never),
          () => buffer.addIovec([bytes("x"), wrong as never]),
          () => buffer.remove(wrong as never),
          () => buffer.copyout(wrong as never),
          () => buffer.copyoutFrom(buffer.ptrSet(0), wrong as never),
          () => buffer.search(wrong as never),
          () => buffer.searchRange(wrong as never, null, null),
          () => buffer.commitSpace([wrong as never]),
        ]
      ) assertThrows(use, TypeError);
      assertHolds(buffer, "abc");
    }
  });

  it("that are not buffers, arrays, functions or booleans are refused", () => {
    const buffer = chunked("abc");
    for (const wrong of [undefined, null, {}, "x", 1, bytes("x")]) {
      assertThrows(() => buffer.addBuffer(wrong as never), TypeError);
      assertThrows(() => buffer.prependBuffer(wrong as never), TypeError);
      assertThrows(() => buffer.removeBuffer(wrong as never, 1), TypeError);
      assertThrows(() => buffer.addBufferReference(wrong as never), TypeError);
      assertThrows(() => buffer.addIovec(wrong as never), TypeError);
      assertThrows(() => buffer.commitSpace(wrong as never), TypeError);
      assertThrows(() => buffer.addCallback(wrong as never), TypeError);
      assertThrows(() => buffer.eachLine(3, wrong as never), TypeError);
      assertThrows(() => buffer.freeze(wrong as never), TypeError);
      assertThrows(() => buffer.unfreeze(wrong as never), TypeError);
      if (wrong !== undefined) assertThrows(() => buffer.addReference(bytes("x"), wrong as never), TypeError);
    }
    assertHolds(buffer, "abc");
  });
});
