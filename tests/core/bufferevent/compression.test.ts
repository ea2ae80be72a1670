// compressionFilter(), compress() and decompress(), with node:zlib as the other end: round trips in
// any pieces, flushes, and bounded memory. Streams may be cut or corrupt, or have bytes behind
// their end.

import zlib from "node:zlib";
import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import {
  compress,
  compressionFilter,
  type CompressionFilterOptions,
  decompress,
} from "../../../core/api/compression.ts";
import type { PairBufferEvent } from "../../../core/api/pair_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_ERROR,
  BEV_FINISHED,
  BEV_FLUSH,
  BEV_NORMAL,
  BEV_OPT_CLOSE_ON_FREE,
  EV_READ,
  EV_WRITE,
} from "../../../core/flags.ts";
import type { CompressionFormat } from "../../../core/runtime.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { BusyHost } from "../loop/harness.ts";
import { text } from "../socket/pairs.ts";
import { Record, Stage } from "./stage.ts";

const FORMATS: readonly CompressionFormat[] = ["gzip", "deflate", "deflate-raw", "brotli"];
const sim = simRuntime();

/** The other end, from another implementation. */
const theirs: {
  readonly [format in CompressionFormat]: readonly [
    pack: (bytes: Uint8Array) => Uint8Array,
    unpack: (bytes: Uint8Array) => Uint8Array,
  ];
} = {
  "gzip": [(bytes) => zlib.gzipSync(bytes), (bytes) => new Uint8Array(zlib.gunzipSync(bytes))],
  "deflate": [(bytes) => zlib.deflateSync(bytes), (bytes) => new Uint8Array(zlib.inflateSync(bytes))],
  "deflate-raw": [(bytes) => zlib.deflateRawSync(bytes), (bytes) => new Uint8Array(zlib.inflateRawSync(bytes))],
  "brotli": [
    (bytes) => zlib.brotliCompressSync(bytes, FAST),
    (bytes) => new Uint8Array(zlib.brotliDecompressSync(bytes)),
  ],
};
const FAST = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } };

/** Bytes that compress, but only partly. */
function prose(length: number): Uint8Array {
  const words = ["the ", "loop ", "waits ", "for ", "bytes ", "and ", "calls\n"];
  const out = new Uint8Array(length);
  let state = 7;
  for (let at = 0; at < length;) {
    state = (state * 1103515245 + 12345) & 0x7fffffff;
    const word = words[(state >> 16) % words.length] as string;
    for (let i = 0; i < word.length && at < length; i++) out[at++] = word.charCodeAt(i);
  }
  return out;
}

interface Scene {
  readonly stage: Stage;
  /** The layer under test, and a record of its callbacks. */
  readonly top: FilterBufferEvent;
  readonly log: Record;
  /** The wire's other end. */
  readonly far: PairBufferEvent;
  /** The bytes that arrived there. */
  readonly wire: EvBuffer;
}

function scene(format: CompressionFormat, options: CompressionFilterOptions = {}): Scene {
  const stage = new Stage();
  const { a, b: far } = stage.pair();
  const top = compressionFilter(a, format, { flags: BEV_OPT_CLOSE_ON_FREE, ...options });
  const log = new Record();
  top.setCallbacks(log.of("top"));
  top.enable(EV_READ);
  const wire = new EvBuffer();
  far.setCallbacks({ read: (bev) => bev.readBuffer(wire) });
  far.enable(EV_READ);
  return { stage, top, log, far, wire };
}

function errorsOf(log: Record): (string | undefined)[] {
  return log.errors.map((error) => error?.code);
}

for (const format of FORMATS) {
  const [pack, unpack] = theirs[format];

  describe(`compressionFilter() of ${format}`, () => {
    it("exchanges streams with another implementation, in both directions", async () => {
      const { stage, top, log, far, wire } = scene(format);
      const bytes = prose(300_000);
      top.writeBuffer(bufferOf(bytes));
      top.shutdown();
      far.write(pack(bytes));
      far.shutdown();
      await stage.during(100);
      assertEquals(unpack(wire.toUint8Array()), bytes);
      assert(wire.length < 150_000);
      assertEquals(log.received.toUint8Array(), bytes);
      assertEquals(log.lines.at(-1), "top event READING|EOF");
      assertEquals(errorsOf(log), [undefined]);
      await stage.end(top, far);
    });

    it("sends all input with a flush, and nothing more with a second one", async () => {
      const { stage, top, far, wire } = scene(format);
      const other = decompress(format, { runtime: sim });
      const got = new EvBuffer();
      const understood = (): string => {
        for (let n = -1; n !== wire.length && wire.length > 0;) {
          n = wire.length;
          other(wire, got, -1, BEV_NORMAL);
        }
        return got.toString();
      };
      for (const word of ["first", "second", "third"]) {
        got.drain(got.length);
        top.write(word);
        await stage.during(5);
        assertEquals(understood(), "", "held back");
        top.flush(EV_WRITE, BEV_FLUSH);
        await stage.during(5);
        assertEquals(understood(), word);
        top.flush(EV_WRITE, BEV_FLUSH);
        await stage.during(5);
        assertEquals(wire.length, 0);
      }
      await stage.end(top, far);
    });

    it("flushes at the end of each turn if an option says so", async () => {
      const { stage, top, far, wire } = scene(format, { autoFlush: true });
      const { stage: other, top: reader, log, far: sender } = scene(format);
      for (const word of ["first ", "second ", "third"]) {
        top.write(word.slice(0, 2));
        top.write(word.slice(2));
        await stage.during(5);
        sender.writeBuffer(wire);
        await other.during(5);
      }
      assertEquals(log.received.toString(), "first second third");
      await stage.end(top, far);
      await other.end(reader, sender);
    });

    it("gives the last bytes with close(), through all layers", async () => {
      const stage = new Stage();
      const { a, b: far } = stage.pair();
      const middle = compressionFilter(a, "gzip", { flags: BEV_OPT_CLOSE_ON_FREE });
      const top = compressionFilter(middle, format, { flags: BEV_OPT_CLOSE_ON_FREE });
      const wire = new EvBuffer();
      far.setCallbacks({ read: (bev) => bev.readBuffer(wire), event: (bev) => void bev.close() });
      far.enable(EV_READ);
      const bytes = prose(70_000);
      top.write(bytes);
      const closed = top.close();
      await stage.during(50);
      assertEquals(await closed, true);
      assertEquals(unpack(zlib.gunzipSync(wire.toUint8Array())), bytes);
      await stage.end(top, far);
    });

    it("reports a truncated stream instead of its end, wherever it was cut", async () => {
      const packed = pack(prose(3000));
      for (const length of [1, 2, 9, packed.length >> 1, packed.length - 1]) {
        const { stage, top, log, far } = scene(format);
        far.write(packed.subarray(0, length));
        far.shutdown();
        await stage.during(20);
        assertEquals(errorsOf(log), ["EV_COMPRESSED_TRUNCATED"], `${length} of ${packed.length}`);
        assertEquals(log.lines.at(-1), "top event READING|ERROR");
        assertEquals(top.enabled, EV_WRITE);
        await stage.end(top, far);
      }
    });

    it("treats an end without any byte as an empty input, not as a truncated stream", async () => {
      const { stage, top, log, far } = scene(format);
      far.shutdown();
      await stage.during(20);
      assertEquals(log.take(), ["top event READING|EOF"]);
      await stage.end(top, far);
    });

    it("reports bytes behind the end, in the same chunk or another, after the whole content", async () => {
      for (const chunks of [[pack(prose(100_000)), prose(50)], [Buffer.concat([pack(prose(100_000)), prose(50)])]]) {
        const { stage, top, log, far } = scene(format);
        for (const chunk of chunks) far.write(chunk);
        await stage.during(20);
        assertEquals(log.received.toUint8Array(), prose(100_000));
        assertEquals([errorsOf(log), log.lines.at(-1)], [["EV_COMPRESSED_INVALID"], "top event READING|ERROR"]);
        await stage.end(top, far);
      }
    });

    it("keeps to the high watermark, however far a few bytes expand", async () => {
      const { stage, top, log, far } = scene(format);
      const bomb = pack(new Uint8Array(50_000_000));
      assert(bomb.length < 60_000);
      log.drains = false;
      far.write(bomb);
      await stage.during(20);
      assertEquals(top.input.length, 65_536);
      assert(top.underlying.input.length <= bomb.length);
      // All bytes arrive when the reader drains its input.
      let got = 0;
      far.shutdown();
      while (!log.lines.includes("top event READING|EOF")) {
        got += top.input.length;
        assert(top.input.length <= 65_536);
        top.input.drain(top.input.length);
        await stage.during(1);
      }
      assertEquals(got + top.input.length, 50_000_000);
      await stage.end(top, far);
    });

    it("stops at the limit of its output, and not before", async () => {
      for (const [length, codes] of [[5000, [undefined]], [5001, ["EV_DECOMPRESSED_TOO_LONG"]]] as const) {
        const { stage, top, log, far } = scene(format, { maxDecompressedBytes: 5000 });
        log.drains = false;
        far.write(pack(new Uint8Array(length)));
        far.shutdown();
        await stage.during(20);
        assertEquals(errorsOf(log), codes as unknown as string[]);
        assertEquals(top.input.length, 5000);
        await stage.end(top, far);
      }
    });
  });
}

describe("compressionFilter()", () => {
  it("reports a corrupt stream once, and does not go on when reading is enabled again", async () => {
    const { stage, top, log, far } = scene("gzip");
    const packed = zlib.gzipSync(noise(5000)).map((byte, i) => i > 2000 && i < 2040 ? byte ^ 0x55 : byte);
    far.write(packed);
    await stage.during(20);
    assertEquals(errorsOf(log), ["EV_COMPRESSED_INVALID"]);
    top.enable(EV_READ);
    await stage.during(20);
    assertEquals(errorsOf(log).every((code) => code === "EV_COMPRESSED_INVALID"), true);
    await stage.end(top, far);
  });

  it("reads the members of a gzip stream as one, and padding behind them", async () => {
    const { stage, top, log, far } = scene("gzip");
    far.write(zlib.gzipSync("one "));
    far.write(zlib.gzipSync("two "));
    await stage.during(5);
    const three = zlib.gzipSync("three");
    for (const byte of three) {
      far.write(Uint8Array.of(byte));
      await stage.during(1);
    }
    far.write(new Uint8Array(600));
    await stage.during(5);
    far.write(new Uint8Array(6));
    far.shutdown();
    await stage.during(5);
    assertEquals([log.received.toString(), errorsOf(log)], ["one two three", [undefined]]);
    await stage.end(top, far);
  });

  it("has a format for each direction", async () => {
    const stage = new Stage();
    const { a, b: far } = stage.pair();
    const top = compressionFilter(a, { read: null, write: "deflate" });
    const wire = new EvBuffer();
    far.setCallbacks({ read: (bev) => bev.readBuffer(wire) });
    far.enable(EV_READ);
    const log = new Record();
    top.setCallbacks(log.of("top"));
    top.enable(EV_READ);
    far.write("as it is");
    top.write("packed");
    top.shutdown();
    await stage.during(20);
    assertEquals(log.received.toString(), "as it is");
    assertEquals(text(zlib.inflateSync(wire.toUint8Array())), "packed");
    await stage.end(top, a, far);
  });

  it("has a level", async () => {
    const lengths: number[] = [];
    for (const level of [0, 1, 9]) {
      const { stage, top, far, wire } = scene("gzip", { level });
      top.write(prose(50_000));
      top.shutdown();
      await stage.during(20);
      assertEquals(theirs.gzip[1](wire.toUint8Array()), prose(50_000));
      lengths.push(wire.length);
      await stage.end(top, far);
    }
    assert(lengths[0]! > 50_000 && lengths[0]! > lengths[1]! && lengths[1]! > lengths[2]!, lengths.join());
  });

  it("begins another stream after a flush has finished one", async () => {
    const { stage, top, far, wire } = scene("gzip");
    top.write("one ");
    await stage.during(5);
    top.flush(EV_WRITE, BEV_FINISHED);
    top.write("two");
    top.shutdown();
    await stage.during(5);
    assertEquals(text(zlib.gunzipSync(wire.toUint8Array())), "one two");
    await stage.end(top, far);
  });

  it("refuses options that it does not support", () => {
    const stage = new Stage();
    const { a } = stage.pair();
    assertThrows(() => compressionFilter(a, "lzw" as CompressionFormat), RangeError);
    assertThrows(() => compressionFilter(a, "gzip", { level: 10 }), RangeError);
    assertThrows(() => compressionFilter(a, "brotli", { level: 1.5 }), RangeError);
    assertThrows(() => compressionFilter(a, "gzip", { maxDecompressedBytes: -1 }), RangeError);
    const base = new EventBase({ runtime: new BusyHost(simRuntime()) });
    const error = assertThrows(() => compress("gzip", { runtime: base.runtime }), EventError) as EventError;
    assertEquals(error.code, "EV_UNSUPPORTED");
  });
});

describe("compress() and decompress()", () => {
  it("undo each other and another implementation, in any pieces, with any space and any flushes", () => {
    const piece = fc.record({
      n: fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 60_000 })),
      limit: fc.oneof(fc.constant(-1), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 50_000 })),
      mode: fc.constantFrom(BEV_NORMAL, BEV_NORMAL, BEV_FLUSH),
    });
    fc.assert(
      fc.property(
        fc.constantFrom(...FORMATS),
        fc.constantFrom("prose", "noise", "zeros"),
        fc.array(piece, { maxLength: 12 }),
        fc.array(piece, { minLength: 1, maxLength: 12 }),
        (format, what, writes, reads) => {
          const [, unpack] = theirs[format];
          const total = writes.reduce((sum, { n }) => sum + n, 0);
          const bytes = what === "prose" ? prose(total) : what === "noise" ? noise(total) : new Uint8Array(total);
          const packed = new EvBuffer();
          const source = new EvBuffer();
          const forth = compress(format, { runtime: sim });
          let at = 0;
          for (const { n, limit, mode } of writes) {
            source.add(bytes.subarray(at, at += n));
            if (mode === BEV_NORMAL) within(packed, limit, () => forth(source, packed, limit, mode));
            else forth(source, packed, -1, mode);
          }
          forth(source, packed, -1, BEV_FINISHED);
          assertEquals(source.length, 0);
          assert(Buffer.compare(unpack(packed.toUint8Array()), bytes) === 0, "another implementation disagrees");

          const wire = packed.toUint8Array();
          const back = decompress(format, { runtime: sim });
          const got = new EvBuffer();
          at = 0;
          for (let i = 0; at < wire.length || source.length > 0; i++) {
            const { n, limit } = reads[i % reads.length]!;
            source.add(wire.subarray(at, at += 1 + n));
            // The filter is called on as long as it makes progress, and then gets the next piece.
            for (let before = -1; before !== source.length + got.length && source.length > 0;) {
              before = source.length + got.length;
              const result = within(got, limit, () => back(source, got, limit, BEV_NORMAL));
              assert(result !== BEV_ERROR, back.error?.message);
              if (limit > 0 && limit < 1000) break;
            }
          }
          assert(back(source, got, -1, BEV_FINISHED) !== BEV_ERROR, back.error?.message);
          assert(Buffer.compare(got.toUint8Array(), bytes) === 0, "it came back changed");
        },
      ),
      { numRuns: 150 },
    );
  });

  it("return the whole content before they report trailing bytes or a wrong checksum, in any pieces", () => {
    const size = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40_000 }));
    fc.assert(
      fc.property(
        fc.constantFrom(...FORMATS),
        fc.constantFrom("prose", "noise"),
        fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 120_000 })),
        fc.integer({ min: 1, max: 3 }),
        fc.uint8Array({ minLength: 2, maxLength: 60 }),
        fc.boolean(),
        fc.array(size, { minLength: 1, maxLength: 8 }),
        fc.oneof(fc.constant(-1), fc.integer({ min: 1, max: 50_000 })),
        (format, what, length, members, junk, checksum, sizes, limit) => {
          // Zeros behind gzip are padding. Of two bytes at least, zlib knows whether a member begins with them.
          if (format === "gzip" && (junk[0] === 0 || junk[0] === 0x1f)) junk[0] = 0x20;
          const bytes = what === "prose" ? prose(length) : noise(length);
          const packed = Uint8Array.from(theirs[format][0](bytes));
          const wrong = packed.slice();
          const place = format === "gzip" ? 8 : 4;
          wrong[wrong.length - place]! ^= 0x40;
          const spoils = checksum && (format === "gzip" || format === "deflate");
          const count = format === "gzip" ? members : 1;
          const wire = Buffer.concat([
            ...Array.from({ length: count - 1 }, () => packed),
            ...(spoils ? [wrong] : [packed, junk]),
          ]);
          const expected = Buffer.concat(Array.from({ length: count }, () => bytes));
          const filter = decompress(format, { runtime: sim });
          const [source, got] = [new EvBuffer(), new EvBuffer()];
          let result = BEV_NORMAL;
          for (let at = 0, i = 0; at < wire.length && result !== BEV_ERROR; i++) {
            source.add(wire.subarray(at, at += sizes[i % sizes.length]!));
            do result = filter(source, got, limit, BEV_NORMAL); while (source.length > 0 && result !== BEV_ERROR);
          }
          assertEquals([result, filter.error?.code], [BEV_ERROR, "EV_COMPRESSED_INVALID"]);
          assert(Buffer.compare(got.toUint8Array(), expected) === 0, `${got.length} of ${expected.length} bytes`);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("read empty blocks of ten bits, in any pieces", () => {
    // Empty blocks with fixed codes that are not the last; then a last block with an "a".
    const bits = [...Array.from({ length: 1000 }, () => "0100000000").join(""), ..."1101001000100000000"].map(Number);
    const wire = new Uint8Array(Math.ceil(bits.length / 8));
    bits.forEach((bit, i) => wire[i >> 3]! |= bit << (i & 7));
    assertEquals(text(zlib.inflateRawSync(wire)), "a");
    for (const size of [1, 2, 7, 100, wire.length]) {
      const filter = decompress("deflate-raw", { runtime: sim });
      const [source, got] = [new EvBuffer(), new EvBuffer()];
      for (let at = 0; at < wire.length; at += size) {
        source.add(wire.subarray(at, at + size));
        while (source.length > 0) assert(filter(source, got, -1, BEV_NORMAL) !== BEV_ERROR, filter.error?.message);
      }
      assert(filter(source, got, -1, BEV_FINISHED) !== BEV_ERROR, filter.error?.message);
      assertEquals(got.toString(), "a");
    }
  });

  it("survive any bytes", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...FORMATS),
        fc.uint8Array({ maxLength: 400 }),
        fc.uint8Array({ maxLength: 300 }),
        fc.nat(),
        (format, garbage, honest, where) => {
          const packed = Uint8Array.from(theirs[format][0](honest));
          const cut = where % (packed.length + 1);
          for (const wire of [garbage, Buffer.concat([packed.subarray(0, cut), garbage, packed.subarray(cut)])]) {
            const filter = decompress(format, { runtime: sim });
            const source = bufferOf(wire);
            const got = new EvBuffer();
            for (let calls = 0; source.length > 0; calls++) {
              assert(calls < 10_000, "it does not end");
              const before = source.length + got.length;
              if (filter(source, got, 1000, BEV_NORMAL) === BEV_ERROR || before === source.length + got.length) break;
            }
            filter(source, got, -1, BEV_FINISHED);
            assert(filter.error === null || filter.error!.code.startsWith("EV_COMPRESSED_"));
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});

/** Fails when more than `limit` bytes were added. */
function within<T>(buffer: EvBuffer, limit: number, fn: () => T): T {
  const before = buffer.length;
  const result = fn();
  assert(limit < 0 || buffer.length - before <= limit, `${buffer.length - before} bytes, where ${limit} may be`);
  return result;
}

function bufferOf(bytes: Uint8Array): EvBuffer {
  const buffer = new EvBuffer();
  buffer.add(bytes);
  return buffer;
}

function noise(length: number): Uint8Array {
  let state = 1;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 24;
  });
}
