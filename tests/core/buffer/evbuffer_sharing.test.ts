/** Who owns which bytes: references and their release, moves, multicast, file segments (rules B3 to B6, B15). */

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer, FileSegment } from "../../../core/buffer/mod.ts";
import { checkBuffer, firstExtent } from "../../../core/buffer/internal.ts";
import { EventError } from "../../../core/errors.ts";
import { EVBUFFER_EOL_LF } from "../../../core/flags.ts";
import { type Runtime, setDefaultRuntime } from "../../../core/runtime.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { assertHolds, bytes, chunked, chunkSizes, sharesMemory, text } from "./support.ts";

function assertCode(code: string, fn: () => unknown): void {
  assertEquals((assertThrows(fn, EventError) as EventError).code, code);
}

/** A buffer with one reference, and the number of its releases. */
function referring(content: string): { buffer: EvBuffer; released: Uint8Array[]; memory: Uint8Array } {
  const buffer = new EvBuffer();
  const released: Uint8Array[] = [];
  const memory = bytes(content);
  buffer.addReference(memory, (it) => released.push(it));
  return { buffer, released, memory };
}

describe("EvBuffer.add()", () => {
  it("copies, so that the caller may change the array afterwards", () => {
    for (const n of [1, 100, 4096, 100_000]) {
      const buffer = new EvBuffer();
      const mine = new Uint8Array(n).fill(97);
      buffer.add(mine);
      buffer.prepend(mine);
      mine.fill(98);
      assertEquals(buffer.toString(), "a".repeat(2 * n));
    }
  });

  it("packs the small pieces of buffers that are filled in turn into a chunk for each", () => {
    const buffers = [new EvBuffer(), new EvBuffer(), new EvBuffer()];
    const lines = buffers.map((): Uint8Array[] => []);
    for (let i = 0; i < 40; i++) {
      for (const [at, buffer] of buffers.entries()) {
        buffer.add(new Uint8Array(17).fill(97 + at));
        if (i % 3 === 0) buffer.add("\n");
        if (i % 9 === 0) lines[at]?.push(buffer.readln(EVBUFFER_EOL_LF) as Uint8Array);
        checkBuffer(buffer);
      }
    }
    for (const [at, buffer] of buffers.entries()) {
      const letter = "abc".charAt(at);
      assertEquals(chunkSizes(buffer).length, 1);
      assertEquals(buffer.toString().replaceAll("\n", ""), letter.repeat(buffer.length - 9));
      // Lines that were taken before a chunk grew are what they were.
      for (const line of lines[at] as Uint8Array[]) assertEquals(text(line), letter.repeat(line.length));
    }
  });

  it("packs small pieces into one chunk, and large ones into memory of their own", () => {
    const buffer = new EvBuffer();
    for (let i = 0; i < 20; i++) buffer.add("sixteen bytes ok");
    assertEquals(chunkSizes(buffer).length <= 2, true);
    buffer.add(new Uint8Array(100_000));
    assertEquals(chunkSizes(buffer).at(-1), 100_000);
    assertEquals(buffer.peek().at(-1)?.buffer.byteLength, 100_000);
  });

  it("takes text of every length and alphabet as UTF-8", () => {
    for (const unit of ["a", "é", "€", "😀", "\ud800"]) {
      for (const n of [1, 7, 23, 24, 25, 100, 1364, 1365, 1366, 5000]) {
        const buffer = new EvBuffer();
        buffer.add("x");
        buffer.add(unit.repeat(n));
        buffer.prepend(unit.repeat(n));
        const expected = bytes(unit.repeat(n) + "x" + unit.repeat(n));
        assertEquals(buffer.length, expected.length);
        assertEquals(buffer.toUint8Array(), expected);
        assertEquals(buffer.toString(), new TextDecoder().decode(expected));
      }
    }
  });

  it("keeps a byte order mark", () => {
    const buffer = new EvBuffer();
    buffer.add("\ufeffa");
    assertEquals(buffer.toString(), "\ufeffa");
  });

  it("does not write into memory that another buffer uses", () => {
    const a = new EvBuffer();
    const b = new EvBuffer();
    a.add("shared");
    b.addBufferReference(a);
    a.add(" and a");
    b.add(" and b");
    assertHolds(a, "shared and a");
    assertHolds(b, "shared and b");
  });

  it("goes on after the shared memory was transferred", () => {
    const buffer = new EvBuffer();
    buffer.add("x\n");
    const line = buffer.readln(EVBUFFER_EOL_LF) as Uint8Array;
    structuredClone(line.buffer, { transfer: [line.buffer as ArrayBuffer] });
    buffer.add("still here");
    assertHolds(buffer, "still here");
  });
});

describe("EvBuffer.addReference()", () => {
  it("adopts the memory without a copy, and never writes to it", () => {
    const memory = bytes("abc");
    const buffer = new EvBuffer();
    buffer.addReference(memory);
    assert(sharesMemory(buffer.peek()[0], memory));
    buffer.prepend("before");
    buffer.add("after");
    buffer.drain(7);
    assertEquals(text(memory), "abc");
    assertHolds(buffer, "bcafter");
  });

  it("releases when the last byte is drained, not before, and once", () => {
    const { buffer, released, memory } = referring("abc");
    buffer.drain(2);
    assertEquals(released, []);
    buffer.drain(1);
    assertEquals(released.length, 1);
    assertStrictEquals(released[0], memory);
    buffer.free();
    assertEquals(released.length, 1);
  });

  it("releases in every way that bytes leave: remove, readln, pullup that merges, free", () => {
    const removed = referring("abc");
    removed.buffer.remove(new Uint8Array(3));
    assertEquals(removed.released.length, 1);

    const line = referring("abc\n");
    line.buffer.readln(EVBUFFER_EOL_LF);
    assertEquals(line.released.length, 1);

    const alone = referring("abc");
    alone.buffer.pullup(-1);
    assertEquals(alone.released.length, 0, "nothing had to be merged");
    alone.buffer.add("d");
    alone.buffer.pullup(3);
    assertEquals(alone.released.length, 0);
    alone.buffer.pullup(4);
    assertEquals(alone.released.length, 1);
    assertHolds(alone.buffer, "abcd");

    const freed = referring("abc");
    freed.buffer.free();
    freed.buffer.free();
    assertEquals(freed.released.length, 1);
  });

  it("releases an empty array at once, but never a refused one", () => {
    const buffer = new EvBuffer();
    let released = 0;
    buffer.addReference(new Uint8Array(0), () => released++);
    assertEquals(released, 1);
    buffer.freeze(false);
    assertCode("EV_FROZEN", () => buffer.addReference(bytes("x"), () => released++));
    assertCode("EV_FROZEN", () => buffer.addReference(new Uint8Array(0), () => released++));
    buffer.free();
    assertCode("EV_FREED", () => buffer.addReference(bytes("x"), () => released++));
    assertEquals(released, 1);
  });

  it("releases after the buffers are consistent, so that the release function may use them", () => {
    const buffer = new EvBuffer();
    const again = (memory: Uint8Array) => {
      checkBuffer(buffer);
      if (buffer.length < 20) buffer.addReference(memory, again);
    };
    for (let i = 0; i < 3; i++) buffer.addReference(bytes("abcd"), again);
    buffer.drain(9);
    assertHolds(buffer, "bcdabcdabcd");
    buffer.drain(3);
    assertHolds(buffer, "abcdabcdabcd");
  });

  it("calls every release function even if one throws, and then throws the first error", () => {
    const buffer = new EvBuffer();
    const order: string[] = [];
    for (const name of ["a", "b", "c"]) {
      buffer.addReference(bytes(name), () => {
        order.push(name);
        throw new Error(name);
      });
    }
    buffer.addCallback(() => order.push("callback"));
    buffer.add("rest");
    order.length = 0;
    assertThrows(() => buffer.drain(3), Error, "a");
    assertEquals(order, ["a", "b", "c", "callback"]);
    assertHolds(buffer, "rest");
  });
});

describe("Moving between buffers", () => {
  it("moves chunks and copies nothing", () => {
    const memory = bytes("x".repeat(10_000));
    const a = new EvBuffer();
    const b = new EvBuffer();
    a.addReference(memory);
    b.addBuffer(a);
    assertEquals([a.length, b.length], [0, 10_000]);
    a.prependBuffer(b);
    a.removeBuffer(b, 4000);
    assertEquals([a.length, b.length], [6000, 4000]);
    assert(sharesMemory(a.peek()[0], memory));
    assert(sharesMemory(b.peek()[0], memory));
    checkBuffer(a);
    checkBuffer(b);
  });

  it("merges slices of one chunk again, and releases it once", () => {
    const { buffer, released } = referring("x".repeat(5000));
    const middle = new EvBuffer();
    const end = new EvBuffer();
    while (buffer.length > 0) {
      buffer.removeBuffer(middle, 1200);
      checkBuffer(middle);
      if (middle.length === 2400) end.addBuffer(middle);
      checkBuffer(end);
    }
    end.addBuffer(middle);
    checkBuffer(end);
    assertEquals(chunkSizes(end), [4800, 200]);
    end.drain(4999);
    assertEquals(released.length, 0);
    end.drain(1);
    assertEquals(released.length, 1);
  });

  it("takes as many steps for large chunks as for small ones", () => {
    // 256 MiB in 4 chunks: a copy would take far more memory than views.
    const a = new EvBuffer();
    const b = new EvBuffer();
    const memory = new Uint8Array(64 * 1024 * 1024);
    for (let i = 0; i < 4; i++) a.addReference(memory);
    for (let i = 0; i < 1000; i++) {
      b.addBuffer(a);
      a.prependBuffer(b);
    }
    assertEquals(a.peek().length, 4);
    for (const view of a.peek()) assertStrictEquals(view, memory);
  });

  it("does nothing for a move to itself or from an empty buffer", () => {
    const a = chunked("ab", "c");
    const empty = new EvBuffer();
    a.addBuffer(a);
    a.prependBuffer(a);
    assertEquals(a.removeBuffer(a, 2), 0);
    a.addBuffer(empty);
    a.prependBuffer(empty);
    assertEquals(empty.removeBuffer(a, 100), 0);
    assertEquals(a.removeBuffer(empty, 0), 0);
    assertHolds(a, "abc");
    assertHolds(empty, "");
  });

  it("returns the number of moved bytes", () => {
    const a = chunked("abc", "def");
    const b = new EvBuffer();
    assertEquals(a.removeBuffer(b, 4), 4);
    assertEquals(a.removeBuffer(b, 100), 2);
    assertHolds(b, "abcdef");
  });

  it("releases a divided chunk when both buffers have dropped it", () => {
    const { buffer, released } = referring("x".repeat(2000));
    const other = new EvBuffer();
    buffer.removeBuffer(other, 1000);
    buffer.free();
    assertEquals(released.length, 0);
    other.drain(999);
    assertEquals(released.length, 0);
    other.drain(1);
    assertEquals(released.length, 1);
  });

  it("copies a few bytes of a chunk, so that they do not delay its release", () => {
    const { buffer, released } = referring("x".repeat(2000));
    const other = new EvBuffer();
    buffer.removeBuffer(other, 100);
    buffer.drain(1900);
    assertEquals(released.length, 1);
    assertHolds(other, "x".repeat(100));
  });
});

describe("EvBuffer.addBufferReference()", () => {
  it("shares bytes that each side drains and adds to on its own", () => {
    const { buffer, released } = referring("abcdef");
    const outputs = [new EvBuffer(), new EvBuffer()];
    for (const output of outputs) {
      output.add(">");
      output.addBufferReference(buffer);
    }
    buffer.drain(3);
    buffer.add("!");
    outputs[0]?.prepend("-");
    outputs[1]?.drain(3);
    assertHolds(buffer, "def!");
    assertHolds(outputs[0] as EvBuffer, "->abcdef");
    assertHolds(outputs[1] as EvBuffer, "cdef");
    buffer.free();
    outputs[0]?.free();
    assertEquals(released.length, 0);
    outputs[1]?.drain(4);
    assertEquals(released.length, 1);
  });

  it("refuses itself and nesting, but accepts an empty buffer", () => {
    const source = chunked("abc");
    const output = new EvBuffer();
    output.addBufferReference(output);
    assertCode("EV_MULTICAST", () => source.addBufferReference(source));
    output.addBufferReference(source);
    const nested = new EvBuffer();
    assertCode("EV_MULTICAST", () => nested.addBufferReference(output));
    assertEquals(nested.length, 0);
    source.addBufferReference(new EvBuffer());
    nested.addBufferReference(source);
    assertHolds(nested, "abc");
  });

  it("lets a buffer be shared again after its shared bytes have left", () => {
    const source = new EvBuffer();
    source.add("small");
    const output = new EvBuffer();
    output.addBufferReference(source);
    // The added bytes follow the shared ones in memory, but are not shared.
    output.add(" own");
    output.drain(5);
    const third = new EvBuffer();
    third.addBufferReference(output);
    assertHolds(third, " own");
  });
});

describe("Bytes for a transport", () => {
  it("are copied once out of memory that its owner may reuse, and released when they are consumed", () => {
    const { buffer, released, memory } = referring("abcdef");
    const view = firstExtent(buffer, 4);
    assert(!sharesMemory(view, memory));
    assertEquals(text(view), "abcd");
    assertEquals(released.length, 0);
    const again = firstExtent(buffer, 6);
    assertEquals([again.buffer === view.buffer, again.byteOffset], [true, view.byteOffset], "it is copied once");
    buffer.drain(6);
    assertEquals(released.length, 1);
    memory.fill(0);
    assertEquals(text(view), "abcd");
  });

  it("are copied in parts of large lent chunks, and the rest stays one chunk", () => {
    const buffer = new EvBuffer();
    const released: number[] = [];
    const memory = new Uint8Array(200_000).map((_, i) => i % 251);
    const copy = memory.slice();
    buffer.addReference(memory, () => released.push(1));
    for (let at = 0; at < 200_000;) {
      const view = firstExtent(buffer, 30_000);
      assertEquals(view, copy.subarray(at, at + view.length));
      buffer.drain(view.length);
      at += view.length;
      checkBuffer(buffer);
      assertEquals(released.length, at === 200_000 ? 1 : 0);
    }
    buffer.add("more");
    assertHolds(buffer, "more");
  });

  it("do not touch bytes that were added behind a copied chunk", () => {
    const { buffer } = referring("abc");
    firstExtent(buffer, 3);
    buffer.add("def");
    assertHolds(buffer, "abcdef");
    const other = new EvBuffer();
    other.addReference(new Uint8Array(100_000), () => {});
    firstExtent(other, 10);
    other.add("tail");
    checkBuffer(other);
    assertEquals(other.length, 100_004);
  });
});

describe("FileSegment", () => {
  const files: Record<string, Uint8Array> = { "a.txt": bytes("0123456789") };
  const reading: Runtime = Object.assign(simRuntime(), {
    readFile(path: string, offset: number, length: number | undefined): Promise<Uint8Array> {
      const file = files[path];
      if (file === undefined) return Promise.reject(new EventError("Cannot read", { code: "ENOENT" }));
      return Promise.resolve(file.slice(offset, length === undefined ? undefined : offset + length));
    },
  });

  it("is read whole or in part, and shared by several buffers", async () => {
    setDefaultRuntime(reading);
    const whole = await FileSegment.open("a.txt");
    const part = await FileSegment.open("a.txt", 2, 5);
    assertEquals([whole.length, part.length], [10, 5]);
    const a = new EvBuffer();
    const b = new EvBuffer();
    a.addFileSegment(whole);
    b.addFileSegment(whole, 8);
    b.addFileSegment(part, 1, 3);
    b.addFileSegment(part, 5);
    assertHolds(a, "0123456789");
    assertHolds(b, "89345");
    assert(sharesMemory(a.peek()[0], b.peek()[0] as Uint8Array));
    whole.free();
    part.free();
  });

  it("is cleaned up once, when it was freed and the last buffer has released it", async () => {
    setDefaultRuntime(reading);
    const segment = await FileSegment.open("a.txt");
    const order: string[] = [];
    segment.onCleanup(() => order.push("first"));
    segment.onCleanup(() => order.push("second"));
    const a = new EvBuffer();
    const b = new EvBuffer();
    a.addFileSegment(segment);
    b.addFileSegment(segment, 0, 1);
    segment.free();
    segment.free();
    assertCode("EV_FREED", () => a.addFileSegment(segment));
    a.drain(10);
    assertEquals(order, []);
    b.free();
    assertEquals(order, ["first", "second"]);
    assertCode("EV_FREED", () => segment.onCleanup(() => {}));
    const unused = await FileSegment.open("a.txt", 0, 0);
    unused.onCleanup(() => order.push("unused"));
    unused.free();
    assertEquals(order.at(-1), "unused");
  });

  it("can't be shared again by addBufferReference()", async () => {
    setDefaultRuntime(reading);
    const segment = await FileSegment.open("a.txt");
    const a = new EvBuffer();
    a.addFileSegment(segment);
    assertCode("EV_MULTICAST", () => new EvBuffer().addBufferReference(a));
  });

  it("gives lines and writes without a copy, since its memory is never reused", async () => {
    setDefaultRuntime(reading);
    files["lines.txt"] = bytes("one\ntwo\n");
    const segment = await FileSegment.open("lines.txt");
    const a = new EvBuffer();
    a.addFileSegment(segment);
    const memory = a.peek()[0] as Uint8Array;
    assert(sharesMemory(a.readln(EVBUFFER_EOL_LF) as Uint8Array, memory));
    assert(sharesMemory(firstExtent(a, 100), memory));
  });

  it("refuses wrong arguments with a message", async () => {
    setDefaultRuntime(reading);
    await assertRejects(() => FileSegment.open("a.txt", -1), RangeError);
    await assertRejects(() => FileSegment.open("a.txt", 0, 1.5), RangeError);
    await assertRejects(() => FileSegment.open("a.txt", 5, 6), RangeError);
    await assertRejects(() => FileSegment.open(1 as never), TypeError);
    assertEquals(((await assertRejects(() => FileSegment.open("none.txt"))) as EventError).code, "ENOENT");
    const segment = await FileSegment.open("a.txt");
    const buffer = new EvBuffer();
    assertThrows(() => buffer.addFileSegment(segment, 11), RangeError);
    assertThrows(() => buffer.addFileSegment(segment, 5, 6), RangeError);
    assertThrows(() => buffer.addFileSegment(segment, 0, -1), RangeError);
    assertThrows(() => buffer.addFileSegment({} as never), TypeError);
    setDefaultRuntime(Object.assign(simRuntime(), { readFile: undefined }) as unknown as Runtime);
    assertEquals(((await assertRejects(() => FileSegment.open("a.txt"))) as EventError).code, "EV_UNSUPPORTED");
  });
});
