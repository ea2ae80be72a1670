/** Codecs: any message, split at any byte, gives the same frames. */

import { describe, it } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer, feed } from "../../../core/buffer/internal.ts";
import { EventError } from "../../../core/errors.ts";
import {
  EVBUFFER_EOL_ANY,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_CRLF_STRICT,
  EVBUFFER_EOL_LF,
  EVBUFFER_EOL_NUL,
} from "../../../core/flags.ts";
import {
  DEFAULT_MAX_FRAME_BYTES,
  delimited,
  fixedLength,
  type FrameCodec,
  lengthPrefixed,
  varintPrefixed,
} from "../../../core/views/frames.ts";
import { DEFAULT_MAX_LINE_BYTES, lineCodec } from "../../../core/views/lines.ts";
import { assertHolds, bytes, text } from "./support.ts";

const CODECS: Record<string, FrameCodec> = {
  "delimited by one byte": delimited("|"),
  "delimited by several bytes": delimited("aab"),
  "delimited by CR LF CR LF": delimited("\r\n\r\n"),
  "of a fixed length": fixedLength(5),
  "after 1 byte of length": lengthPrefixed({ prefixBytes: 1 }),
  "after 2 bytes of length, big-endian": lengthPrefixed({ prefixBytes: 2 }),
  "after 2 bytes of length, little-endian": lengthPrefixed({ prefixBytes: 2, littleEndian: true }),
  "after 3 bytes of length, big-endian": lengthPrefixed({ prefixBytes: 3 }),
  "after 3 bytes of length, little-endian": lengthPrefixed({ prefixBytes: 3, littleEndian: true }),
  "after 1 byte of length with its prefix": lengthPrefixed({ prefixBytes: 1, includesPrefix: true }),
  "after 4 bytes of length with its prefix": lengthPrefixed({ prefixBytes: 4, includesPrefix: true }),
  "after 4 bytes of length, big-endian": lengthPrefixed({ prefixBytes: 4 }),
  "after 4 bytes of length, little-endian": lengthPrefixed({ prefixBytes: 4, littleEndian: true }),
  "after 8 bytes of length, big-endian": lengthPrefixed({ prefixBytes: 8 }),
  "after 8 bytes of length, little-endian": lengthPrefixed({ prefixBytes: 8, littleEndian: true }),
  "after a varint": varintPrefixed(),
  "that are CRLF lines": lineCodec(),
  "that are CRLF_STRICT lines": lineCodec({ eol: EVBUFFER_EOL_CRLF_STRICT }),
  "that are LF lines": lineCodec({ eol: EVBUFFER_EOL_LF }),
  "that are NUL lines": lineCodec({ eol: EVBUFFER_EOL_NUL }),
};

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

function decodeAll(codec: FrameCodec, input: EvBuffer): number[][] {
  const frames: number[][] = [];
  for (let frame = codec.decode(input); frame !== null; frame = codec.decode(input)) {
    checkBuffer(input);
    frames.push(Array.from(frame));
  }
  return frames;
}

/** The `frames` that the codec can separate, and their encoding. */
function encodeAll(codec: FrameCodec, frames: readonly Uint8Array[]): { wire: Uint8Array; frames: number[][] } {
  const output = new EvBuffer();
  const kept: number[][] = [];
  for (const frame of frames) {
    const before = output.length;
    try {
      codec.encode(output, frame);
      kept.push(Array.from(frame));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      assertEquals(output.length, before, "a refused frame adds nothing");
    }
  }
  return { wire: output.toUint8Array(), frames: kept };
}

const byte = fc.constantFrom(97, 97, 98, 124, 13, 10, 0, 255);
const frame = fc.oneof(
  fc.array(byte, { maxLength: 12 }),
  fc.array(byte, { minLength: 5, maxLength: 5 }),
  fc.constantFrom(120, 127, 128, 200, 300).map((n) => new Array<number>(n).fill(97)),
).map((list) => Uint8Array.from(list));

for (const [name, codec] of Object.entries(CODECS)) {
  describe(`Frames ${name}`, () => {
    it("are decoded as they were encoded, split at any byte", () => {
      const messages = ["", "a", "aa|a", "hello", "\r\n", "\r", "x".repeat(130), "aabb!", "12345"].map(bytes);
      const { wire, frames } = encodeAll(codec, messages);
      for (let cut = 0; cut <= wire.length; cut++) {
        const input = new EvBuffer();
        feed(input, wire.slice(0, cut));
        const decoded = decodeAll(codec, input);
        feed(input, wire.slice(cut));
        decoded.push(...decodeAll(codec, input));
        assertEquals(decoded, frames);
        assertEquals(input.length, 0);
      }
    });

    it("are decoded as they were encoded, in pieces of any size", () => {
      fc.assert(
        fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (
          messages,
          sizes,
        ) => {
          const { wire, frames } = encodeAll(codec, messages);
          const input = new EvBuffer();
          const decoded: number[][] = [];
          for (let at = 0, k = 0; at < wire.length; k++) {
            const end = at + (sizes[k % sizes.length] as number);
            if (k % 2 === 0) feed(input, wire.slice(at, end));
            else input.addReference(wire.slice(at, end), (memory) => memory.fill(0));
            at = end;
            decoded.push(...decodeAll(codec, input));
          }
          assertEquals(decoded, frames);
          assertEquals(input.length, 0);
        }),
        { numRuns: 150 },
      );
    });

    it("are not decoded at a frozen front, and not encoded at a frozen back", () => {
      const buffer = new EvBuffer();
      codec.encode(buffer, "12345");
      const before = buffer.toString();
      buffer.freeze(true);
      buffer.freeze(false);
      assertEquals(codeOf(() => codec.decode(buffer)), "EV_FROZEN");
      assertEquals(codeOf(() => codec.encode(buffer, "12345")), "EV_FROZEN");
      assertHolds(buffer, before);
      buffer.free();
      assertEquals(codeOf(() => codec.decode(buffer)), "EV_FREED");
    });

    it("are bytes or text", () => {
      assertThrows(() => codec.encode(new EvBuffer(), 5 as never), TypeError);
      assertThrows(() => codec.encode(new EvBuffer(), null as never), TypeError);
    });
  });
}

describe("A frame over the limit", () => {
  it("is refused by decode(), which takes nothing, and by encode()", () => {
    const limited: [FrameCodec, FrameCodec][] = [
      [delimited("--", { maxBytes: 3 }), delimited("--")],
      ...([1, 2, 4, 8] as const).flatMap((prefixBytes) =>
        [true, false].map((littleEndian): [FrameCodec, FrameCodec] => [
          lengthPrefixed({ prefixBytes, littleEndian, maxBytes: 3 }),
          lengthPrefixed({ prefixBytes, littleEndian }),
        ])
      ),
      [varintPrefixed({ maxBytes: 3 }), varintPrefixed()],
      [lineCodec({ maxBytes: 3 }), lineCodec()],
    ];
    for (const [codec, unlimited] of limited) {
      const buffer = new EvBuffer();
      for (const frame of ["abc", "xyz", "wxyz"]) unlimited.encode(buffer, frame);
      assertEquals([text(codec.decode(buffer)), text(codec.decode(buffer))], ["abc", "xyz"]);
      const before = buffer.toUint8Array();
      const code = codeOf(() => codec.decode(buffer));
      assertEquals(code, codec === limited.at(-1)?.[0] ? "EV_LINE_TOO_LONG" : "EV_FRAME_TOO_LONG");
      assertEquals(buffer.toUint8Array(), before);
      assertThrows(() => codec.encode(buffer, "wxyz"), RangeError);
      assertEquals(buffer.toUint8Array(), before);
    }
  });

  it("is refused before all of it has arrived", () => {
    const prefixed = new EvBuffer();
    prefixed.addUint32BE(DEFAULT_MAX_FRAME_BYTES + 1);
    assertEquals(codeOf(() => lengthPrefixed({ prefixBytes: 4 }).decode(prefixed)), "EV_FRAME_TOO_LONG");
    const huge = new EvBuffer();
    huge.addBigUint64LE(2n ** 64n - 1n);
    const anything = lengthPrefixed({ prefixBytes: 8, littleEndian: true, maxBytes: Infinity });
    assertEquals(codeOf(() => anything.decode(huge)), "EV_FRAME_TOO_LONG");
    const varint = new EvBuffer();
    varint.add(Uint8Array.of(0xff, 0xff, 0xff));
    assertEquals(codeOf(() => varintPrefixed({ maxBytes: 1000 }).decode(varint)), "EV_FRAME_TOO_LONG");
    const unfinished = new EvBuffer();
    unfinished.add("abcd\r\n");
    const codec = delimited("\r\n\r\n", { maxBytes: 4 });
    assertEquals(codec.decode(unfinished), null);
    unfinished.add("\r");
    assertEquals(codec.decode(unfinished), null);
    unfinished.add("x");
    assertEquals(codeOf(() => codec.decode(unfinished)), "EV_FRAME_TOO_LONG");
    const line = new EvBuffer();
    line.add("x".repeat(DEFAULT_MAX_LINE_BYTES + 1));
    assertEquals(codeOf(() => lineCodec().decode(line)), "EV_LINE_TOO_LONG");
  });

  it("cannot be encoded if its length does not fit the prefix", () => {
    const codec = lengthPrefixed({ prefixBytes: 1 });
    const buffer = new EvBuffer();
    codec.encode(buffer, new Uint8Array(255));
    assertThrows(() => codec.encode(buffer, new Uint8Array(256)), RangeError);
    assertEquals(buffer.length, 256);
  });
});

describe("A varint", () => {
  it("of more than ten bytes is not a frame", () => {
    const buffer = new EvBuffer();
    buffer.add(new Uint8Array(9).fill(0x80));
    assertEquals(varintPrefixed().decode(buffer), null);
    buffer.add(Uint8Array.of(0x80, 0));
    assertEquals(codeOf(() => varintPrefixed().decode(buffer)), "EV_FRAME_INVALID");
    assertEquals(buffer.length, 11);
  });
});

describe("A codec", () => {
  it("refuses wrong options", () => {
    assertThrows(() => delimited(""), RangeError);
    assertThrows(() => delimited(1 as never), TypeError);
    assertThrows(() => delimited("x", { maxBytes: -1 }), RangeError);
    assertThrows(() => fixedLength(0), RangeError);
    assertThrows(() => fixedLength(1.5), RangeError);
    assertThrows(() => lengthPrefixed({ prefixBytes: 5 as never }), RangeError);
    assertThrows(() => varintPrefixed({ maxBytes: "1" as never }), TypeError);
    assertThrows(() => lineCodec({ eol: 9 }), RangeError);
    assertThrows(() => lineCodec({ maxBytes: 0.5 }), RangeError);
    assertThrows(() => fixedLength(3).encode(new EvBuffer(), "ab"), RangeError);
  });

  it("writes the terminator of its style", () => {
    const buffer = new EvBuffer();
    for (
      const eol of [EVBUFFER_EOL_ANY, EVBUFFER_EOL_CRLF, EVBUFFER_EOL_CRLF_STRICT, EVBUFFER_EOL_LF, EVBUFFER_EOL_NUL]
    ) lineCodec({ eol }).encode(buffer, "x");
    assertHolds(buffer, "x\nx\r\nx\r\nx\nx\0");
  });

  it("refuses a line that contains a line end", () => {
    for (
      const [eol, line] of [[EVBUFFER_EOL_CRLF, "a\nQUIT"], [EVBUFFER_EOL_NUL, "\0"], [
        EVBUFFER_EOL_ANY,
        "a\rb",
      ]] as const
    ) {
      assertThrows(() => lineCodec({ eol }).encode(new EvBuffer(), line), RangeError);
    }
    lineCodec({ eol: EVBUFFER_EOL_CRLF_STRICT }).encode(new EvBuffer(), "a\nb");
  });

  it("can decode several streams at once", () => {
    const codec = delimited("--");
    const [a, b] = [new EvBuffer(), new EvBuffer()];
    a.add("x".repeat(1000) + "-");
    b.add("y".repeat(2000) + "-");
    assertEquals([codec.decode(a), codec.decode(b)], [null, null]);
    a.add("-");
    b.add("-");
    assertEquals([codec.decode(a)?.length, codec.decode(b)?.length], [1000, 2000]);
  });
});
