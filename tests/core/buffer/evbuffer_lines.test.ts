/** Lines: the styles (rule R1), limits, scans that are not repeated, `eachLine`. */

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer, feed } from "../../../core/buffer/internal.ts";
import { searching } from "../../../core/bytes.ts";
import type { EolStyle } from "../../../core/checks.ts";
import { EventError } from "../../../core/errors.ts";
import * as flags from "../../../core/flags.ts";
import {
  EVBUFFER_EOL_ANY,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_CRLF_STRICT,
  EVBUFFER_EOL_LF,
  EVBUFFER_EOL_NUL,
} from "../../../core/flags.ts";
import { lineCodec } from "../../../core/views/lines.ts";
import { assertHolds, bytes, chunked, randomFrom, readAll, referenceEol, sharesMemory, text } from "./support.ts";

const STYLES: Readonly<Record<string, EolStyle>> = {
  ANY: EVBUFFER_EOL_ANY,
  CRLF: EVBUFFER_EOL_CRLF,
  CRLF_STRICT: EVBUFFER_EOL_CRLF_STRICT,
  LF: EVBUFFER_EOL_LF,
  NUL: EVBUFFER_EOL_NUL,
};

const TRICKY = [
  "a\n\rb\r\nc",
  "\n\n\n",
  "\r\r\r",
  "\r\n\r\n",
  "a\r",
  "a\r\r\n",
  "a\rb\nc\r\nd",
  "\0a\n\0\r\n\0",
  "\r\n",
  "one\r\ntwo\nthree\rfour\0five\r\n\r\n\n\r",
  "é\r\n€\n",
  "",
  "no end",
];

/** The lines that rule R1 gives, and the rest. */
function referenceLines(data: Uint8Array, eol: EolStyle): { lines: string[]; rest: string } {
  const lines: string[] = [];
  let at = 0;
  for (let end = referenceEol(data, 0, eol); end !== null; end = referenceEol(data, at, eol)) {
    lines.push(text(data.subarray(at, end.pos)) as string);
    at = end.pos + end.length;
  }
  return { lines, rest: text(data.subarray(at)) as string };
}

function assertTooLong(fn: () => unknown): void {
  assertEquals((assertThrows(fn, EventError) as EventError).code, "EV_LINE_TOO_LONG");
}

describe("The end-of-line styles", () => {
  it("are all tested here, and every function with a style accepts them", () => {
    const all = Object.entries(flags).filter(([name]) => name.startsWith("EVBUFFER_EOL_"));
    assertEquals(
      Object.fromEntries(all),
      Object.fromEntries(Object.entries(STYLES).map(([name, eol]) => [`EVBUFFER_EOL_${name}`, eol])),
    );
    for (const [, eol] of all) {
      assertEquals(new EvBuffer().readln(eol), null);
      assertEquals(new EvBuffer().searchEol(null, eol), null);
    }
  });

  it("are written by lineCodec() as they are read", () => {
    for (const eol of Object.values(STYLES)) {
      const [codec, buffer] = [lineCodec({ eol }), new EvBuffer()];
      for (const line of ["one", "two"]) codec.encode(buffer, line);
      assertEquals([text(codec.decode(buffer)!), text(codec.decode(buffer)!), buffer.length], ["one", "two", 0]);
    }
  });
});

describe("EvBuffer.readln()", () => {
  for (const [name, eol] of Object.entries(STYLES)) {
    it(`finds the ends of ${name} lines wherever chunks begin and end`, () => {
      for (const whole of TRICKY) {
        const data = bytes(whole);
        const expected = referenceLines(data, eol);
        for (let i = 0; i <= data.length; i++) {
          for (let j = i; j <= data.length; j++) {
            const buffer = new EvBuffer();
            for (const part of [data.slice(0, i), data.slice(i, j), data.slice(j)]) buffer.addReference(part);
            checkBuffer(buffer);
            assertEquals(readAll(buffer, eol), expected.lines, `${JSON.stringify(whole)} cut at ${i} and ${j}`);
            assertHolds(buffer, expected.rest);
          }
        }
      }
    });

    // For ANY, a run that arrives in two parts is two terminators (R1), so there may be one more
    // line.
    if (eol === EVBUFFER_EOL_ANY) continue;
    it(`gives the same ${name} lines when they arrive in pieces and are read in between`, () => {
      for (const whole of TRICKY) {
        const data = bytes(whole);
        const expected = referenceLines(data, eol);
        for (let i = 0; i <= data.length; i++) {
          for (let j = i; j <= data.length; j++) {
            const buffer = new EvBuffer();
            const lines: string[] = [];
            for (const part of [data.slice(0, i), data.slice(i, j), data.slice(j)]) {
              feed(buffer, part);
              lines.push(...readAll(buffer, eol));
            }
            assertEquals(lines, expected.lines, `${JSON.stringify(whole)} cut at ${i} and ${j}`);
            assertHolds(buffer, expected.rest);
          }
        }
      }
    });

    it(`finds ${name} lines in long pieces, beside a reference`, () => {
      const random = randomFrom(eol + 7);
      for (let round = 0; round < 40; round++) {
        const buffer = new EvBuffer();
        const pieces: number[] = [];
        const lines: string[] = [];
        for (let k = 0; k < 6; k++) {
          const piece = Uint8Array.from({ length: random(900) }, () => {
            const dice = random(150);
            return dice === 0 ? 10 : dice === 1 ? 13 : dice === 2 ? 0 : 97 + dice % 3;
          });
          if (round % 2 === 0 && piece.length > 1) piece[piece.length - 1] = 13;
          pieces.push(...piece);
          if (k % 2 === 0) feed(buffer, piece);
          else buffer.addReference(piece, (memory) => memory.fill(10));
          checkBuffer(buffer);
          lines.push(...readAll(buffer, eol));
        }
        lines.push(...readAll(buffer, eol));
        const expected = referenceLines(Uint8Array.from(pieces), eol);
        assertEquals(lines, expected.lines);
        assertHolds(buffer, expected.rest);
      }
    });
  }

  it("counts a run of CR and LF twice in style ANY if it arrives in two parts", () => {
    const buffer = new EvBuffer();
    buffer.add("a\r");
    assertEquals(readAll(buffer, EVBUFFER_EOL_ANY), ["a"]);
    buffer.add("\nb\n");
    assertEquals(readAll(buffer, EVBUFFER_EOL_ANY), ["", "b"]);
  });

  it("keeps a lone CR at the end until the next byte arrives", () => {
    for (const eol of [EVBUFFER_EOL_CRLF, EVBUFFER_EOL_CRLF_STRICT]) {
      const buffer = new EvBuffer();
      buffer.add("a\r");
      assertEquals(buffer.readln(eol), null);
      assertEquals(buffer.readln(eol), null);
      buffer.addReference(bytes("\nb\r"));
      assertEquals(readAll(buffer, eol), ["a"]);
      buffer.addReference(bytes("c\r\n"));
      assertEquals(readAll(buffer, eol), ["b\rc"]);
    }
  });

  it("keeps zero bytes in LF lines and line feeds in NUL lines", () => {
    const buffer = new EvBuffer();
    buffer.add("a\0b\nc\0");
    assertEquals(readAll(buffer, EVBUFFER_EOL_NUL), ["a", "b\nc"]);
    buffer.add("a\0b\n");
    assertEquals(readAll(buffer, EVBUFFER_EOL_LF), ["a\0b"]);
  });

  it("gives a view of one chunk, and a copy of bytes that lie in several", () => {
    const memory = bytes("one\ntw");
    const buffer = new EvBuffer();
    buffer.addReference(memory);
    buffer.addReference(bytes("o\n"));
    assert(sharesMemory(buffer.readln(EVBUFFER_EOL_LF) as Uint8Array, memory));
    const line = buffer.readln(EVBUFFER_EOL_LF) as Uint8Array;
    assertEquals(text(line), "two");
    assert(!sharesMemory(line, memory));
  });

  it("gives plain arrays, whatever kind of array was adopted", () => {
    class Special extends Uint8Array {}
    const buffer = new EvBuffer();
    buffer.addReference(Special.from(bytes("a\nb\n")));
    feed(buffer, Special.from(bytes("c\n".repeat(200))));
    assertStrictEquals(buffer.readln(EVBUFFER_EOL_LF)?.constructor, Uint8Array);
    assertStrictEquals(buffer.pullup(-1)?.constructor, Uint8Array);
    assertStrictEquals(buffer.toUint8Array().constructor, Uint8Array);
    checkBuffer(buffer);
  });

  it("accepts bytes of another realm", () => {
    // Looks like a view of another realm: its prototype chain does not lead to our Uint8Array.
    const foreign = bytes("a\nb");
    const prototype = Object.create(Object.getPrototypeOf(Uint8Array.prototype), {
      constructor: { value: function Uint8Array() {} },
    });
    Object.setPrototypeOf(foreign, prototype);
    assert(!((foreign as object) instanceof Uint8Array));
    const buffer = new EvBuffer();
    buffer.addReference(foreign);
    checkBuffer(buffer);
    assertEquals(text(buffer.readln(EVBUFFER_EOL_LF)), "a");
  });

  it("copies lines out of memory that its owner may reuse", () => {
    const buffer = new EvBuffer();
    const memory = bytes("one\ntwo\n");
    buffer.addReference(memory, (released) => released.fill(0));
    const lines = [buffer.readln(EVBUFFER_EOL_LF), buffer.readln(EVBUFFER_EOL_CRLF)];
    assertEquals(memory, new Uint8Array(8));
    assertEquals(lines.map(text), ["one", "two"]);
  });

  it("does not change lines that were read when much is added afterwards", () => {
    const buffer = new EvBuffer();
    const kept: { view: Uint8Array; expected: string }[] = [];
    for (let i = 0; i < 3000; i++) {
      buffer.add(`line ${i}\nhalf`);
      kept.push({ view: buffer.readln(EVBUFFER_EOL_LF) as Uint8Array, expected: i === 0 ? "line 0" : `halfline ${i}` });
    }
    for (const { view, expected } of kept) assertEquals(text(view), expected);
  });

  it("takes a line of exactly maxBytes, and refuses one byte more, with or without its terminator", () => {
    for (const eol of Object.values(STYLES)) {
      const end = eol === EVBUFFER_EOL_NUL ? "\0" : "\r\n";
      const isLf = eol === EVBUFFER_EOL_LF;
      const buffer = chunked("abc", `d${end}`, "abcd", `e${end}`);
      assertEquals(text(buffer.readln(eol, { maxBytes: isLf ? 5 : 4 })), isLf ? "abcd\r" : "abcd");
      assertTooLong(() => buffer.readln(eol, { maxBytes: 4 }));
      assertHolds(buffer, `abcde${end}`);
      assertEquals(text(buffer.readln(eol, { maxBytes: 6 }))?.slice(0, 5), "abcde");
      buffer.add("abcd");
      assertEquals(buffer.readln(eol, { maxBytes: 4 }), null);
      buffer.add("e");
      assertTooLong(() => buffer.readln(eol, { maxBytes: 4 }));
      assertHolds(buffer, "abcde");
      assertEquals(buffer.readln(eol), null);
    }
  });

  it("does not count a CR at the end that may be half of the terminator", () => {
    const buffer = new EvBuffer();
    buffer.add("abc\r");
    assertEquals(buffer.readln(EVBUFFER_EOL_CRLF, { maxBytes: 3 }), null);
    buffer.add("\n");
    assertEquals(text(buffer.readln(EVBUFFER_EOL_CRLF, { maxBytes: 3 })), "abc");
    buffer.add("abc\rd");
    assertTooLong(() => buffer.readln(EVBUFFER_EOL_CRLF, { maxBytes: 3 }));
  });

  it("takes empty lines with maxBytes 0, and has no limit with Infinity", () => {
    const buffer = new EvBuffer();
    buffer.add("\n" + "x".repeat(100_000) + "\n");
    assertEquals(text(buffer.readln(EVBUFFER_EOL_LF, { maxBytes: 0 })), "");
    assertTooLong(() => buffer.readln(EVBUFFER_EOL_LF, { maxBytes: 0 }));
    assertEquals(buffer.readln(EVBUFFER_EOL_LF, { maxBytes: Infinity })?.length, 100_000);
  });
});

describe("A scan for the end of a line", () => {
  /** Puts a line end where there was none, so that a second scan of these bytes would find it. */
  function poison(memory: Uint8Array, untilBytes: number): void {
    memory.fill(10, 0, untilBytes);
  }

  for (const [name, eol] of Object.entries(STYLES)) {
    it(`does not scan the bytes of a ${name} line twice if it arrives in pieces`, () => {
      const buffer = new EvBuffer();
      const pieces: Uint8Array[] = [];
      for (let i = 0; i < 50; i++) {
        const piece = new Uint8Array(1000).fill(97);
        pieces.push(piece);
        buffer.addReference(piece);
        assertEquals(buffer.readln(eol), null);
        checkBuffer(buffer);
        // Writes to shared memory on purpose, to detect which bytes are read again.
        if (eol === EVBUFFER_EOL_NUL) piece.fill(0);
        else if (eol === EVBUFFER_EOL_CRLF_STRICT) piece.set([13, 10]);
        else poison(piece, 1000);
      }
      buffer.add("\r\n\0");
      const line = buffer.readln(eol);
      assertEquals(line?.length, 50 * 1000 + (eol === EVBUFFER_EOL_LF ? 1 : eol === EVBUFFER_EOL_NUL ? 2 : 0));
    });
  }

  it("reads each byte of a line of 100 MB in pieces of 16 KiB once", () => {
    const piece = new Uint8Array(16 * 1024).fill(97);
    const pieces = 6400;
    const indexOf = Uint8Array.prototype.indexOf;
    let looked = 0;
    Uint8Array.prototype.indexOf = function (byte, from = 0) {
      looked += this.length - from;
      return indexOf.call(this, byte, from);
    };
    try {
      const buffer = new EvBuffer();
      for (let i = 0; i < pieces; i++) {
        feed(buffer, piece);
        assertEquals(buffer.readln(EVBUFFER_EOL_CRLF), null);
      }
      buffer.add("\r\n");
      assertEquals(buffer.readln(EVBUFFER_EOL_CRLF)?.length, pieces * piece.length);
    } finally {
      Uint8Array.prototype.indexOf = indexOf;
    }
    assert(looked < (pieces + 2) * piece.length, `${looked} bytes looked at`);
  });

  it("goes on where it stopped after the front was drained, but starts again if bytes were put before it", () => {
    const buffer = new EvBuffer();
    const memory = new Uint8Array(1000).fill(97);
    buffer.addReference(memory);
    assertEquals(buffer.readln(EVBUFFER_EOL_LF), null);
    poison(memory, 1000);
    buffer.drain(400);
    assertEquals(buffer.readln(EVBUFFER_EOL_LF), null);
    checkBuffer(buffer);
    buffer.prepend("b");
    assertEquals(text(buffer.readln(EVBUFFER_EOL_LF)), "b");
  });

  it("starts again in another style", () => {
    const buffer = new EvBuffer();
    buffer.add("x".repeat(1000) + "\0" + "y".repeat(1000));
    assertEquals(buffer.readln(EVBUFFER_EOL_LF), null);
    assertEquals(buffer.readln(EVBUFFER_EOL_NUL)?.length, 1000);
    assertEquals(buffer.readln(EVBUFFER_EOL_NUL), null);
    buffer.add("\n");
    assertEquals(buffer.readln(EVBUFFER_EOL_LF)?.length, 1000);
  });

  it("goes on in a tail that grows in place or moves into other memory", () => {
    const other = new EvBuffer();
    const buffer = new EvBuffer();
    buffer.add("x".repeat(300));
    for (let i = 0; i < 600; i++) {
      // Now and then, bytes of another buffer use the memory behind the tail.
      if (i % 3 === 0) other.add("between");
      if (i % 2 === 0) feed(buffer, bytes("y"));
      else buffer.add("z");
      assertEquals(buffer.readln(EVBUFFER_EOL_CRLF), null);
      checkBuffer(buffer);
    }
    buffer.add("\r\n");
    assertEquals(buffer.readln(EVBUFFER_EOL_CRLF)?.length, 900);
  });

  it("stays correct when the bytes are moved away, pulled up or written", () => {
    const buffer = chunked("x".repeat(500), "y".repeat(500));
    const other = new EvBuffer();
    assertEquals(buffer.readln(EVBUFFER_EOL_LF), null);
    buffer.pullup(-1);
    checkBuffer(buffer);
    buffer.add("\nrest");
    assertEquals(buffer.readln(EVBUFFER_EOL_LF)?.length, 1000);
    buffer.add("x".repeat(500));
    assertEquals(buffer.readln(EVBUFFER_EOL_LF), null);
    other.addBuffer(buffer);
    checkBuffer(buffer);
    assertEquals(buffer.readln(EVBUFFER_EOL_LF), null);
    other.prepend("\n");
    buffer.prependBuffer(other);
    assertEquals(text(buffer.readln(EVBUFFER_EOL_LF)), "");
  });
});

describe("EvBuffer.searchEol()", () => {
  it("finds the same as the reference from every position", () => {
    for (const whole of TRICKY) {
      const data = bytes(whole);
      for (const eol of Object.values(STYLES)) {
        for (let cut = 0; cut <= data.length; cut++) {
          const buffer = new EvBuffer();
          buffer.addReference(data.slice(0, cut));
          buffer.addReference(data.slice(cut));
          for (let from = 0; from <= data.length; from++) {
            assertEquals(buffer.searchEol(buffer.ptrSet(from), eol), referenceEol(data, from, eol));
          }
          assertEquals(buffer.searchEol(null, eol), referenceEol(data, 0, eol));
        }
      }
    }
  });

  it("does not look back from the LF of a CR LF", () => {
    const buffer = chunked("a\r", "\n");
    assertEquals(buffer.searchEol(buffer.ptrSet(2), EVBUFFER_EOL_CRLF), { pos: 2, length: 1 });
    assertEquals(buffer.searchEol(buffer.ptrSet(2), EVBUFFER_EOL_CRLF_STRICT), null);
  });
});

describe("EvBuffer.eachLine()", () => {
  it("gives the same lines as readln(), in every style and wherever chunks begin and end", () => {
    for (const whole of TRICKY) {
      const data = bytes(whole);
      for (const eol of Object.values(STYLES)) {
        const expected = referenceLines(data, eol);
        for (let i = 0; i <= data.length; i++) {
          const buffer = new EvBuffer();
          buffer.addReference(data.slice(0, i), (memory) => memory.fill(120));
          buffer.addReference(data.slice(i));
          const lines: string[] = [];
          const n = buffer.eachLine(eol, (memory, start, end) => {
            checkBuffer(buffer);
            lines.push(text(memory.subarray(start, end)) as string);
          });
          assertEquals(lines, expected.lines);
          assertEquals(n, lines.length);
          assertHolds(buffer, expected.rest);
        }
      }
    }
  });

  it("shows a buffer without the line, and goes on after what the callback does to it", () => {
    const buffer = chunked("SIZE 5\nhel", "lo\nNEXT\nSTOP\nrest\n");
    const seen: string[] = [];
    const n = buffer.eachLine(EVBUFFER_EOL_LF, (memory, start, end) => {
      const line = text(memory.subarray(start, end)) as string;
      seen.push(line);
      if (line.startsWith("SIZE")) {
        const body = new Uint8Array(5);
        buffer.remove(body);
        seen.push(`body ${text(body)}`);
        buffer.drain(1);
      }
      if (line === "NEXT") {
        buffer.prepend("put first\n");
        buffer.add("put last\n");
      }
      return line !== "STOP";
    });
    assertEquals(seen, ["SIZE 5", "body hello", "NEXT", "put first", "STOP"]);
    assertEquals(n, 4);
    assertHolds(buffer, "rest\nput last\n");
  });

  it("skips a line that the callback takes out of the same chunk", () => {
    const buffer = chunked("a\nbody\nc\n");
    const seen: string[] = [];
    buffer.eachLine(EVBUFFER_EOL_LF, (memory, start, end) => {
      seen.push(text(memory.subarray(start, end)) as string);
      if (seen.length === 1) seen.push(`taken ${text(buffer.readln(EVBUFFER_EOL_LF))}`);
    });
    assertEquals(seen, ["a", "taken body", "c"]);
    assertHolds(buffer, "");
  });

  it("ends when the callback freezes the front or frees the buffer", () => {
    const frozen = chunked("a\nb\n", "c\n");
    assertEquals(frozen.eachLine(EVBUFFER_EOL_LF, () => frozen.freeze(true)), 1);
    frozen.unfreeze(true);
    assertHolds(frozen, "b\nc\n");
    assertEquals(frozen.eachLine(EVBUFFER_EOL_LF, () => frozen.freeze(false)), 2, "a frozen back does not matter");
    const freed = chunked("a\nb\n", "c\n");
    assertEquals(freed.eachLine(EVBUFFER_EOL_LF, () => freed.free()), 1);
    assertEquals(freed.length, 0);
  });

  it("takes the line for which the callback throws, and reports the change", () => {
    const buffer = chunked("a\nb\nc\n");
    const told: number[] = [];
    buffer.addCallback((_buffer, info) => told.push(info.origSize, info.deleted));
    assertThrows(
      () =>
        buffer.eachLine(EVBUFFER_EOL_LF, (memory, start) => {
          if (memory[start] === 98) throw new Error("enough");
        }),
      Error,
      "enough",
    );
    assertEquals(told, [6, 4]);
    assertHolds(buffer, "c\n");
  });

  it("calls the change callbacks once for all lines", () => {
    const buffer = chunked("a\nb", "\nc\nrest");
    const told: number[] = [];
    buffer.addCallback((_buffer, info) => told.push(info.origSize, info.added, info.deleted));
    buffer.eachLine(EVBUFFER_EOL_LF, () => {});
    assertEquals(told, [10, 0, 6]);
    buffer.eachLine(EVBUFFER_EOL_LF, () => {});
    assertEquals(told.length, 3);
  });

  it("releases memory only when the callback has seen the last line in it", () => {
    const buffer = new EvBuffer();
    const order: string[] = [];
    buffer.addReference(bytes("a\nb\n"), (memory) => {
      memory.fill(0);
      order.push("released");
    });
    buffer.addReference(bytes("c\n"));
    buffer.eachLine(EVBUFFER_EOL_LF, (memory, start, end) => {
      order.push(text(memory.subarray(start, end)) as string);
    });
    assertEquals(order, ["a", "b", "c", "released"]);
  });

  it("gives the lines before one that is too long, and keeps that line", () => {
    const buffer = chunked("ab\ncdef\ngh\n");
    const lines: number[] = [];
    assertTooLong(() =>
      buffer.eachLine(EVBUFFER_EOL_LF, (_m, start, end) => void lines.push(end - start), { maxBytes: 3 })
    );
    assertEquals(lines, [2]);
    assertHolds(buffer, "cdef\ngh\n");
    const unfinished = chunked("ab\ncd", "ef");
    assertTooLong(() => unfinished.eachLine(EVBUFFER_EOL_LF, () => {}, { maxBytes: 3 }));
    assertHolds(unfinished, "cdef");
  });
});

describe("the search for a far byte", () => {
  const { find } = searching;
  const searches: Readonly<Record<string, typeof find>> = {
    "the engine's": find,
    "a loop over words": null,
    "a runtime's": (bytes, byte, from) => {
      for (let i = from; i < bytes.length; i++) if (bytes[i] === byte) return i;
      return -1;
    },
  };
  for (const [name, search] of Object.entries(searches)) {
    it(`finds the same with ${name} search`, () => {
      searching.find = search;
      try {
        for (const size of [600, 601, 1023, 5000]) {
          for (const start of [0, 1, 2, 3]) {
            for (const at of [0, 3, 79, 255, 256, 257, 300, size - 5, size - 2, size - 1]) {
              // A line end right before and behind the window must not be found.
              const memory = new Uint8Array(size + 8).fill(200);
              memory[start - 1] = memory[start + size] = 10;
              memory[start + at] = 10;
              const buffer = new EvBuffer();
              feed(buffer, memory.subarray(start, start + size));
              assertStrictEquals(buffer.readln(EVBUFFER_EOL_LF)?.length, at);
              assertStrictEquals(buffer.readln(EVBUFFER_EOL_LF), null);
              assertStrictEquals(buffer.length, size - at - 1);
            }
          }
        }
      } finally {
        searching.find = find;
      }
    });
  }

  it("uses the runtime's search only for long distances", () => {
    const asked: number[] = [];
    searching.find = (bytes, byte, from) => {
      asked.push(bytes.length - from);
      return bytes.indexOf(byte, from);
    };
    try {
      const memory = new Uint8Array(4000).fill(65);
      memory[100] = memory[3000] = 10;
      const buffer = new EvBuffer();
      feed(buffer, memory);
      assertStrictEquals(buffer.readln(EVBUFFER_EOL_LF)?.length, 100);
      assertEquals(asked, []);
      assertStrictEquals(buffer.readln(EVBUFFER_EOL_LF)?.length, 2899);
      assertEquals(asked.length, 1);
    } finally {
      searching.find = find;
    }
  });
});
