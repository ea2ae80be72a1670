/**
 * How the rest of the core uses buffers: bytes of a runtime go in, bytes for a transport come out.
 */

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import {
  checkBuffer,
  consume,
  extents,
  feed,
  firstExtent,
  gather,
  moveBytes,
  scattered,
  take,
  unpin,
} from "../../../core/buffer/internal.ts";
import { EventError } from "../../../core/errors.ts";
import { assertHolds, bytes, chunked, chunkSizes, sharesMemory, text } from "./support.ts";

describe("feed()", () => {
  it("adopts a runtime's chunk", () => {
    const buffer = new EvBuffer();
    const chunk = bytes("x".repeat(1000));
    feed(buffer, chunk);
    feed(buffer, new Uint8Array(0));
    assertStrictEquals(buffer.peek()[0], chunk);
    assertHolds(buffer, "x".repeat(1000));
  });

  it("does not keep a chunk for each byte of a peer that sends single bytes", () => {
    const buffers = [new EvBuffer(), new EvBuffer(), new EvBuffer()];
    for (let i = 0; i < 5000; i++) {
      for (const buffer of buffers) feed(buffer, Uint8Array.of(97 + i % 26));
    }
    for (const buffer of buffers) {
      checkBuffer(buffer);
      assertEquals(buffer.length, 5000);
      assert(chunkSizes(buffer).length < 30, `${chunkSizes(buffer).length} chunks`);
      buffer.toUint8Array().forEach((byte, i) => assertEquals(byte, 97 + i % 26));
    }
  });

  it("gathers bytes without writing to memory that was handed out", () => {
    const buffer = new EvBuffer();
    const other = new EvBuffer();
    const views: { view: Uint8Array; expected: string | null }[] = [];
    for (let i = 0; i < 2000; i++) {
      feed(buffer, bytes(String(i % 10)));
      other.add("o");
      if (i % 7 === 0) views.push(...buffer.peek().map((view) => ({ view, expected: text(view) })));
    }
    for (const { view, expected } of views) assertEquals(text(view), expected);
  });

  it("does nothing to a freed buffer", () => {
    const buffer = new EvBuffer();
    buffer.free();
    feed(buffer, bytes("late"));
    consume(buffer, 1);
    assertEquals(moveBytes(chunked("x"), buffer, 1), 0);
    assertEquals(moveBytes(buffer, new EvBuffer(), 1), 0);
    assertEquals(firstExtent(buffer, 10).length, 0);
    assertEquals(extents(buffer, 10, 10), []);
    assertEquals(take(buffer, 1), null);
    assertEquals(buffer.length, 0);
  });
});

describe("firstExtent()", () => {
  it("gives the chunk itself if there is only one", () => {
    const chunk = bytes("x".repeat(5000));
    const buffer = new EvBuffer();
    feed(buffer, chunk);
    assertStrictEquals(firstExtent(buffer, 5000), chunk);
    assertStrictEquals(firstExtent(buffer, 10_000), chunk);
    assertEquals(firstExtent(buffer, 10).length, 10);
    assertEquals(firstExtent(buffer, 0).length, 0);
    assertEquals(buffer.length, 5000);
  });

  it("gathers small chunks into one write, in order", () => {
    const buffer = new EvBuffer();
    for (let i = 0; i < 100; i++) buffer.addReference(bytes(`chunk ${i};`));
    buffer.addReference(new Uint8Array(10_000).fill(120));
    const expected = buffer.toString();
    const first = firstExtent(buffer, 1_000_000);
    assertEquals(first.length, expected.indexOf("xxx"));
    assertHolds(buffer, expected);
    consume(buffer, first.length);
    assertEquals(firstExtent(buffer, 1_000_000).length, 10_000);
  });

  it("gathers at most the size of one write", () => {
    const buffer = new EvBuffer();
    for (let i = 0; i < 200; i++) buffer.addReference(new Uint8Array(4000));
    const first = firstExtent(buffer, 10_000_000);
    assert(first.length > 128_000 && first.length <= 262_144);
    checkBuffer(buffer);
  });

  it("does not release a reference between bytes that it gathers", () => {
    const buffer = new EvBuffer();
    let released = 0;
    buffer.add("head");
    buffer.addReference(bytes("lent"), () => released++);
    buffer.add("tail");
    assertEquals(text(firstExtent(buffer, 100)), "head");
    consume(buffer, 4);
    assertEquals(text(firstExtent(buffer, 100)), "lent");
    assertEquals(released, 0);
    consume(buffer, 4);
    assertEquals(released, 1);
    assertHolds(buffer, "tail");
  });

  it("gives memory that later additions and reads do not change", () => {
    const buffer = new EvBuffer();
    const written: { view: Uint8Array; copy: Uint8Array }[] = [];
    for (let i = 0; i < 3000; i++) {
      buffer.add(`message ${i}, `);
      if (i % 3 === 0) buffer.addReference(bytes("lent "), (memory) => memory.fill(0));
      if (i % 5 !== 0) continue;
      const view = firstExtent(buffer, 40);
      written.push({ view, copy: view.slice() });
      consume(buffer, view.length);
    }
    for (const { view, copy } of written) assertEquals(view, copy);
  });
});

describe("extents()", () => {
  it("keeps to the limits of bytes and of pieces", () => {
    const buffer = new EvBuffer();
    const sizes = [5000, 6000, 7000, 8000];
    for (const size of sizes) feed(buffer, new Uint8Array(size));
    assertEquals(extents(buffer, 1e9, 10).map((view) => view.length), sizes);
    assertEquals(extents(buffer, 1e9, 2).map((view) => view.length), [5000, 6000]);
    assertEquals(extents(buffer, 12_000, 10).map((view) => view.length), [5000, 6000, 1000]);
    assertEquals(extents(buffer, 11_000, 10).map((view) => view.length), [5000, 6000]);
    assertEquals(extents(new EvBuffer(), 10, 10), []);
    assertEquals(buffer.length, 26_000);
  });

  it("copies lent memory, and gathers small chunks at the front", () => {
    const buffer = new EvBuffer();
    const lent = new Uint8Array(100_000).fill(97);
    for (let i = 0; i < 10; i++) buffer.addReference(bytes("small"));
    buffer.addReference(lent, (memory) => memory.fill(0));
    const views = extents(buffer, 1e9, 10);
    assertEquals(views.map((view) => view.length), [50, 65_536, 34_464]);
    for (const view of views) assert(!sharesMemory(view, lent));
    checkBuffer(buffer);
    consume(buffer, buffer.length);
    assertEquals(views[2]?.every((byte) => byte === 97), true);
    assertEquals(lent[0], 0);
  });
});

describe("gather()", () => {
  it("copies several small chunks for one write, and stops at a large one", () => {
    const buffer = chunked("some", "chunks");
    buffer.addReference(new Uint8Array(70_000));
    const into = new Uint8Array(100);
    assertEquals([scattered(buffer, 100), scattered(buffer, 5), scattered(buffer, 4)], [true, true, false]);
    assertEquals(gather(buffer, 100, into), 10);
    assertEquals(text(into.subarray(0, 10)), "somechunks");
    assertEquals(gather(buffer, 7, into), 7);
    assertEquals(gather(buffer, 100, into.subarray(0, 6)), 6);
    assertEquals(buffer.length, 70_010);
    buffer.drain(4);
    assertEquals(scattered(buffer, 100_000), false);
    buffer.drain(6);
    buffer.add("end");
    assertEquals(scattered(buffer, 100_000), false);
  });

  it("throws if the memory of a chunk was transferred, and copies nothing of it", () => {
    const buffer = chunked("some");
    const gone = new Uint8Array(100);
    buffer.addReference(gone);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    assertThrows(() => gather(buffer, 104, new Uint8Array(200)), EventError, "was transferred");
  });
});

describe("take()", () => {
  it("returns bytes from the middle, and drops those before and behind them", () => {
    const buffer = chunked("<<ab", "c>>rest");
    assertEquals(take(buffer, 20), null);
    assertEquals(take(buffer, 7, 2, 3), null);
    assertEquals(text(take(buffer, 3, 2, 2)), "abc");
    assertEquals(take(buffer, 0)?.length, 0);
    assertHolds(buffer, "rest");
    assertEquals(text(take(buffer, 0, 4)), "");
    assertHolds(buffer, "");
  });
});

describe("unpin()", () => {
  it("copies a few bytes of a large chunk into memory that nothing else uses", () => {
    const memory = new Uint8Array(512 * 1024).fill(97);
    const buffer = new EvBuffer();
    feed(buffer, memory);
    consume(buffer, memory.length - 30_000);
    unpin(buffer);
    checkBuffer(buffer);
    assert(buffer.peek().every((view) => !sharesMemory(view, memory) && view.buffer.byteLength < 64 * 1024));
    assertEquals(buffer.toString(), "a".repeat(30_000));
    buffer.add("b");
    consume(buffer, 29_999);
    assertHolds(buffer, "ab");
  });

  it("leaves large pieces, small chunks and memory with a release function alone", () => {
    const memory = new Uint8Array(512 * 1024);
    const large = new EvBuffer();
    feed(large, memory);
    consume(large, 100_000);
    const small = chunked("some", "thing");
    let released = 0;
    const lent = new EvBuffer();
    lent.addReference(memory, () => released++);
    consume(lent, memory.length - 10);
    for (const buffer of [large, small, lent, new EvBuffer()]) {
      const before = buffer.peek();
      unpin(buffer);
      checkBuffer(buffer);
      assert(buffer.peek().every((view, i) => sharesMemory(view, before[i] as Uint8Array)));
    }
    assertEquals(released, 0);
  });
});
