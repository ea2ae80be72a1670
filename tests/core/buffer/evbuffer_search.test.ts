/** Searching and positions (rules B9, B10). */

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer, findFront, firstExtent } from "../../../core/buffer/internal.ts";
import { bytes, chunked, randomFrom, text } from "./support.ts";

/** A buffer with `data` in chunks of random sizes up to `most`. */
function split(data: Uint8Array, most: number, random: (n: number) => number): EvBuffer {
  const buffer = new EvBuffer();
  for (let at = 0; at < data.length;) {
    const n = 1 + random(most);
    buffer.addReference(data.slice(at, at + n));
    at += n;
  }
  return buffer;
}

function reference(data: Uint8Array, what: Uint8Array, from: number, to: number): number {
  for (let i = from; i + what.length <= to; i++) {
    if (what.every((byte, k) => data[i + k] === byte)) return i;
  }
  return -1;
}

describe("EvBuffer.search()", () => {
  it("agrees with the reference for all places of a needle and all sizes of chunks", () => {
    const random = randomFrom(1);
    for (let round = 0; round < 300; round++) {
      const letters = 1 + random(3);
      const data = Uint8Array.from({ length: random(120) }, () => 97 + random(letters));
      const what = Uint8Array.from({ length: random(9) }, () => 97 + random(letters));
      const buffer = split(data, 1 + random(12), random);
      for (let from = 0; from <= data.length; from++) {
        const found = buffer.search(what, buffer.ptrSet(from));
        assertEquals(found.pos, reference(data, what, from, data.length));
      }
    }
  });

  it("finds needles of every length at every place of large chunks", () => {
    const random = randomFrom(2);
    for (let round = 0; round < 120; round++) {
      const letters = round % 3 === 0 ? 2 : round % 3 === 1 ? 20 : 256;
      const data = Uint8Array.from({ length: 20_000 }, () => random(letters));
      const n = 1 + random(40);
      const at = random(data.length - n);
      const what = data.slice(at, at + n);
      if (round % 4 === 0) what[random(n)] = letters;
      const buffer = split(data, 6000, random);
      assertEquals(buffer.search(what).pos, reference(data, what, 0, data.length));
      const from = random(data.length);
      assertEquals(buffer.search(what, buffer.ptrSet(from)).pos, reference(data, what, from, data.length));
    }
  });

  it("finds a needle longer than a chunk, but not one longer than the buffer", () => {
    const buffer = chunked(..."abcabcabd");
    assertEquals(buffer.search("abcabd").pos, 3);
    assertEquals(buffer.search("abcabcabdx").pos, -1);
    assertEquals(new EvBuffer().search("a").pos, -1);
  });

  it("finds an empty needle where the search begins", () => {
    const buffer = chunked("ab", "c");
    assertEquals(new EvBuffer().search("").pos, 0);
    assertEquals(buffer.search("").pos, 0);
    assertEquals(buffer.search("", buffer.ptrSet(3)).pos, 3);
  });

  it("takes text as UTF-8, and bytes", () => {
    const buffer = chunked("Gr\u00f6", "\u00dfe");
    assertEquals(buffer.search("\u00f6\u00df").pos, 2);
    assertEquals(buffer.search(Uint8Array.of(0xb6, 0xc3)).pos, 3);
  });

  it("finds all places if it goes on behind each", () => {
    const data = bytes("xx--yy--zz--");
    for (let size = 1; size < 6; size++) {
      const buffer = new EvBuffer();
      for (let at = 0; at < data.length; at += size) buffer.addReference(data.slice(at, at + size));
      const places: number[] = [];
      for (let found = buffer.search("--"); found.pos >= 0; found = buffer.search("--", found)) {
        places.push(found.pos);
        found.add(1);
      }
      assertEquals(places, [2, 6, 10]);
    }
  });
});

describe("EvBuffer.searchRange()", () => {
  it("finds only matches that end in the range", () => {
    const random = randomFrom(3);
    const data = bytes("abcabcabcab");
    for (const what of ["", "a", "ab", "abc", "cab", "bca", "abcabc"]) {
      const buffer = split(data, 4, random);
      for (let from = 0; from <= data.length; from++) {
        for (let to = 0; to <= data.length; to++) {
          const found = buffer.searchRange(what, buffer.ptrSet(from), buffer.ptrSet(to));
          assertEquals(found.pos, reference(data, bytes(what), from, to), `${what} from ${from} to ${to}`);
        }
        assertEquals(
          buffer.searchRange(what, buffer.ptrSet(from), null).pos,
          reference(data, bytes(what), from, data.length),
        );
      }
      assertEquals(buffer.searchRange(what, null, null).pos, reference(data, bytes(what), 0, data.length));
    }
  });
});

describe("A position", () => {
  it("is in range up to the end itself", () => {
    const buffer = chunked("ab", "cde");
    for (let pos = 0; pos <= 5; pos++) assertEquals(buffer.ptrSet(pos).pos, pos);
    assertEquals(buffer.ptrSet(6).pos, -1);
    assertEquals(new EvBuffer().ptrSet(0).pos, 0);
    assertEquals(new EvBuffer().ptrSet(1).pos, -1);
  });

  it("moves on by add(), and is out of range for good once it was beyond the end", () => {
    const buffer = chunked("ab", "cde");
    for (let from = 0; from <= 5; from++) {
      for (let n = 0; n <= 6; n++) {
        const ptr = buffer.ptrSet(from);
        const inRange = from + n <= 5;
        assertEquals(ptr.add(n), inRange);
        assertEquals(ptr.pos, inRange ? from + n : -1);
        if (inRange) assertEquals(text(buffer.peek(1, ptr)[0] ?? new Uint8Array(0)), "abcde".charAt(from + n));
        else assertEquals(ptr.add(0), false);
      }
    }
    assertThrows(() => buffer.ptrSet(0).add(-1), RangeError);
    assertThrows(() => buffer.ptrSet(0).add(0.5), RangeError);
  });

  it("out of range is a RangeError wherever it is used", () => {
    const buffer = chunked("abc");
    const lost = buffer.search("x");
    for (
      const use of [
        () => buffer.peek(1, lost),
        () => buffer.search("a", lost),
        () => buffer.searchRange("a", lost, null),
        () => buffer.searchRange("a", null, lost),
        () => buffer.searchEol(lost, 3),
        () => buffer.copyoutFrom(lost, new Uint8Array(1)),
      ]
    ) assertThrows(use, RangeError, "out of range");
  });

  it("is stale after any change, and in any other buffer", () => {
    const changes: ((buffer: EvBuffer) => void)[] = [
      (buffer) => buffer.add("x"),
      (buffer) => buffer.prepend("x"),
      (buffer) => buffer.drain(1),
      (buffer) => buffer.readUint8(),
      (buffer) => new EvBuffer().addBuffer(buffer),
      (buffer) => new EvBuffer().prependBuffer(buffer),
      (buffer) => buffer.removeBuffer(new EvBuffer(), 1),
      (buffer) => buffer.addBuffer(chunked("x")),
      (buffer) => buffer.addBufferReference(chunked("x")),
      (buffer) => buffer.eachLine(3, () => {}),
      (buffer) => buffer.free(),
    ];
    for (const change of changes) {
      const buffer = chunked("ab\n", "cd");
      const ptr = buffer.ptrSet(1);
      change(buffer);
      assertEquals(ptr.pos, 1);
      assertThrows(() => buffer.peek(1, ptr), RangeError, "stale");
      assertThrows(() => ptr.add(0), RangeError, "stale");
    }
    const other = chunked("abc");
    assertThrows(() => other.peek(1, chunked("abc").ptrSet(1)), RangeError, "another buffer");
  });

  it("stays valid if only chunks change: pullup() and a gathering write", () => {
    const buffer = new EvBuffer();
    for (const piece of ["abc", "def", "ghi"]) buffer.addReference(bytes(piece), (memory) => memory.fill(0));
    const ptr = buffer.ptrSet(4);
    const end = buffer.ptrSet(9);
    buffer.pullup(7);
    assertEquals(text(buffer.peek(1, ptr)[0] ?? null), "e");
    firstExtent(buffer, 100);
    checkBuffer(buffer);
    assertEquals(ptr.add(3), true);
    assertEquals(text(buffer.peek(undefined, ptr)[0] ?? null), "hi");
    assertEquals(buffer.peek(1, end), []);
    assertEquals(buffer.search("i", ptr).pos, 8);
  });

  it("must come from a buffer", () => {
    const buffer = chunked("abc");
    for (const wrong of [{ pos: 0, add: () => true }, 0, "0", {}]) {
      assertThrows(() => buffer.peek(1, wrong as never), TypeError);
      assertThrows(() => buffer.searchEol(wrong as never, 3), TypeError);
    }
    assertThrows(() => buffer.copyoutFrom(null as never, new Uint8Array(1)), TypeError);
  });
});

describe("A search of the front for a codec", () => {
  it("does not read bytes twice that cannot begin the needle", () => {
    const buffer = new EvBuffer();
    const needle = bytes("--end--");
    for (let i = 0; i < 30; i++) {
      const piece = new Uint8Array(1000).fill(97);
      buffer.addReference(piece);
      assertEquals(findFront(buffer, needle), -1);
      checkBuffer(buffer);
      // The law of the buffer is broken here on purpose, to see what is read.
      piece.set(needle, 100);
    }
    buffer.add("--e");
    assertEquals(findFront(buffer, needle), -1);
    buffer.add("nd--");
    assertEquals(findFront(buffer, needle), 30_000);
    assert(findFront(buffer, bytes("--end--")) < 1000, "another array is another needle");
  });

  it("finds a needle that arrives in single bytes", () => {
    const buffer = new EvBuffer();
    const needle = bytes("aab");
    buffer.add("x".repeat(400));
    for (const letter of "aaaaab") {
      assertEquals(findFront(buffer, needle), -1);
      buffer.addReference(bytes(letter));
      checkBuffer(buffer);
    }
    assertEquals(findFront(buffer, needle), 403);
  });
});
