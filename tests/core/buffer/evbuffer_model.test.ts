/**
 * `EvBuffer` against a naive model, arrays of numbers, over random sequences of operations on buffers that share
 * chunks.
 *
 * Adopted memory is overwritten as soon as its release callback runs. If a buffer or a line still
 * used it, its bytes would change.
 */

import { describe, it } from "node:test";
import { assert, assertEquals, assertInstanceOf, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { EolStyle } from "../../../core/checks.ts";
import { EvBuffer, type EvBufferPtr } from "../../../core/buffer/mod.ts";
import { checkBuffer, consume, extents, feed, firstExtent, moveBytes, take } from "../../../core/buffer/internal.ts";
import { EventError } from "../../../core/errors.ts";
import { referenceEol } from "./support.ts";

const BUFFERS = 3;
const RELEASED = 0xee;

/** A buffer and its model. */
interface Pair {
  readonly real: EvBuffer;
  bytes: number[];
  /** The bytes that are shared or belong to a file, so that they cannot be shared again. */
  shared: boolean[];
  frontFrozen: boolean;
  backFrozen: boolean;
  /** The length according to the callbacks. */
  told: number;
}

interface Adopted {
  readonly memory: Uint8Array;
  readonly copy: Uint8Array;
  released: number;
}

class World {
  readonly pairs: Pair[] = [];
  readonly adopted: Adopted[] = [];
  readonly fed: { memory: Uint8Array; copy: Uint8Array }[] = [];
  readonly handedOut: { view: Uint8Array; copy: number[] }[] = [];
  readonly positions: { ptr: EvBufferPtr; pair: Pair; pos: number; bytes: number[] }[] = [];

  constructor() {
    for (let i = 0; i < BUFFERS; i++) {
      const pair: Pair = {
        real: new EvBuffer(),
        bytes: [],
        shared: [],
        frontFrozen: false,
        backFrozen: false,
        told: 0,
      };
      pair.real.addCallback((buffer, info) => {
        assertStrictEquals(buffer, pair.real);
        assert(info.added > 0 || info.deleted > 0, "a call without a change is not reported");
        assertEquals(info.origSize, pair.told, "each report continues the report before it");
        pair.told += info.added - info.deleted;
        assertEquals(buffer.length, pair.told);
        checkBuffer(buffer);
      });
      this.pairs.push(pair);
    }
  }

  adopt(content: Uint8Array): Adopted {
    const adopted: Adopted = { memory: content, copy: content.slice(), released: 0 };
    this.adopted.push(adopted);
    return adopted;
  }

  release(adopted: Adopted): void {
    adopted.released++;
    assertEquals(adopted.released, 1, "memory is released once");
    assertEquals(adopted.memory, adopted.copy, "adopted memory is never written to");
    adopted.memory.fill(RELEASED);
  }

  check(): void {
    for (const pair of this.pairs) {
      checkBuffer(pair.real);
      assertEquals(pair.real.length, pair.bytes.length);
      assertEquals(pair.told, pair.bytes.length);
      assertSame(pair.real.toUint8Array(), pair.bytes);
      const peeked = pair.real.peek();
      assertEquals(peeked.reduce((n, view) => n + view.length, 0), pair.bytes.length);
      assertEquals(pair.real.contiguousSpace, peeked[0]?.length ?? 0);
    }
  }

  /** Nothing that was handed out has changed; everything adopted is released in the end. */
  finish(): void {
    for (const { view, copy } of this.handedOut) assertSame(view, copy);
    for (const { memory, copy } of this.fed) assertEquals(memory, copy);
    for (const pair of this.pairs) pair.real.free();
    for (const adopted of this.adopted) assertEquals(adopted.released, 1, "memory is released when all is freed");
    for (const { view, copy } of this.handedOut) assertSame(view, copy);
  }
}

function assertSame(actual: Uint8Array, expected: readonly number[]): void {
  // A loop, because this runs a million times.
  let same = actual.length === expected.length;
  for (let i = 0; same && i < expected.length; i++) same = actual[i] === expected[i];
  if (!same) assertEquals(Array.from(actual), expected);
}

function assertCode(code: string, fn: () => unknown): void {
  assertEquals((assertThrows(fn) as EventError).code, code);
}

/** Bytes that make lines, cut CR LFs and near misses likely. */
const byte = fc.constantFrom(10, 13, 0, 97, 98, 97, 98, 99);
const size = fc.oneof(
  { weight: 12, arbitrary: fc.nat(40) },
  { weight: 2, arbitrary: fc.nat(700) },
  { weight: 1, arbitrary: fc.constantFrom(255, 256, 511, 512, 4095, 4096, 4097, 9000) },
);
const content = fc.tuple(size, fc.array(byte, { minLength: 1, maxLength: 12 })).map(([n, pattern]) =>
  Uint8Array.from({ length: n }, (_, i) => pattern[i % pattern.length] as number)
);
const which = fc.nat(BUFFERS - 1);
const count = fc.oneof(size, fc.constantFrom(0, 1, 20_000));
const eol: fc.Arbitrary<EolStyle> = fc.constantFrom(0, 1, 2, 3, 4);
const needle = fc.array(byte, { maxLength: 6 }).map((list) => Uint8Array.from(list));

type Op = (world: World) => void;

function on(run: (world: World, pair: Pair) => void): fc.Arbitrary<Op> {
  return which.map((i) => (world) => run(world, world.pairs[i] as Pair));
}

function append(pair: Pair, data: ArrayLike<number>, shared = false): void {
  for (let i = 0; i < data.length; i++) {
    pair.bytes.push(data[i] as number);
    pair.shared.push(shared);
  }
}

function cut(pair: Pair, n: number): { bytes: number[]; shared: boolean[] } {
  return { bytes: pair.bytes.splice(0, n), shared: pair.shared.splice(0, n) };
}

const adding: fc.Arbitrary<Op> = fc.tuple(which, content, fc.nat(6)).map(([i, data, how]) => (world) => {
  const pair = world.pairs[i] as Pair;
  const { real } = pair;
  if (pair.backFrozen && how !== 5) {
    const memory = world.adopted.length;
    assertCode("EV_FROZEN", () => {
      if (how === 0) real.add(data);
      else if (how === 1) real.addReference(data, () => assert(false, "refused memory is not released"));
      else if (how === 2) real.addIovec([data]);
      else if (how === 3) real.reserveSpace(1);
      else real.commitSpace([]);
    });
    assertEquals(world.adopted.length, memory);
    return;
  }
  if (how === 0) {
    real.add(data);
  } else if (how === 1) {
    const adopted = world.adopt(data.slice());
    append(pair, data);
    real.addReference(adopted.memory, () => world.release(adopted));
    return;
  } else if (how === 2) {
    assertEquals(real.addIovec([data, new Uint8Array(0), data]), 2 * data.length);
    append(pair, data);
  } else if (how === 3) {
    const room = real.reserveSpace(data.length, 1 + data.length % 3);
    let at = 0;
    const vecs = room.map((vec) => {
      const n = Math.min(vec.length, data.length - at);
      vec.set(data.subarray(at, at + n));
      at += n;
      return vec.subarray(0, n);
    });
    assertEquals(at, data.length, "there is as much space as was asked for");
    real.commitSpace(vecs);
  } else if (how === 4) {
    const memory = data.slice();
    world.fed.push({ memory, copy: data.slice() });
    real.addReference(memory);
  } else {
    // A runtime can add its chunk although an end is frozen.
    const memory = data.slice();
    world.fed.push({ memory, copy: data.slice() });
    feed(real, memory);
  }
  append(pair, data);
});

const prepending: fc.Arbitrary<Op> = fc.tuple(which, content).map(([i, data]) => (world) => {
  const pair = world.pairs[i] as Pair;
  if (pair.frontFrozen && data.length > 0) {
    assertCode("EV_FROZEN", () => pair.real.prepend(data));
    return;
  }
  pair.real.prepend(data);
  pair.bytes.unshift(...data);
  pair.shared.unshift(...Array.from(data, () => false));
});

const moving: fc.Arbitrary<Op> = fc.tuple(which, which, count, fc.nat(3)).map(([from, to, n, how]) => (world) => {
  const source = world.pairs[from] as Pair;
  const target = world.pairs[to] as Pair;
  const nothing = source === target || (how < 2 ? source.bytes.length === 0 : how === 2 && n === 0);
  if (how < 3 && !nothing && (source.frontFrozen || (how === 1 ? target.frontFrozen : target.backFrozen))) {
    assertCode("EV_FROZEN", () => {
      if (how === 0) target.real.addBuffer(source.real);
      else if (how === 1) target.real.prependBuffer(source.real);
      else source.real.removeBuffer(target.real, n);
    });
    return;
  }
  const moved = source === target ? 0 : how < 2 ? source.bytes.length : Math.min(n, source.bytes.length);
  const part = cut(source, moved);
  if (how === 1) {
    target.bytes.unshift(...part.bytes);
    target.shared.unshift(...part.shared);
    target.real.prependBuffer(source.real);
    return;
  }
  target.bytes.push(...part.bytes);
  target.shared.push(...part.shared);
  if (how === 0) target.real.addBuffer(source.real);
  else if (how === 2) assertEquals(source.real.removeBuffer(target.real, n), moved);
  else assertEquals(moveBytes(source.real, target.real, n), moved);
});

const sharing: fc.Arbitrary<Op> = fc.tuple(which, which).map(([from, to]) => (world) => {
  const source = world.pairs[from] as Pair;
  const target = world.pairs[to] as Pair;
  const share = () => target.real.addBufferReference(source.real);
  if (source.bytes.length === 0) share();
  else if (target.backFrozen) assertCode("EV_FROZEN", share);
  else if (source === target) assertCode("EV_MULTICAST", share);
  else if (source.shared.includes(true)) {
    // Copying (`pullup`, a small move) makes shared bytes plain, which the model does not follow.
    try {
      share();
    } catch (error) {
      assertInstanceOf(error, EventError);
      assertEquals(error.code, "EV_MULTICAST");
      return;
    }
    append(target, source.bytes, true);
  } else {
    share();
    append(target, source.bytes, true);
  }
});

const taking: fc.Arbitrary<Op> = fc.tuple(which, count, fc.nat(4)).map(([i, n, how]) => (world) => {
  const pair = world.pairs[i] as Pair;
  const { real } = pair;
  const there = Math.min(n, pair.bytes.length);
  const refused = pair.frontFrozen && (how === 0 ? pair.bytes.length > 0 : how === 1 && there > 0);
  if (refused) {
    assertCode("EV_FROZEN", () => how === 0 ? real.drain(n) : real.remove(new Uint8Array(n)));
    return;
  }
  const expected = pair.bytes.slice(0, there);
  if (how === 0) {
    cut(pair, there);
    real.drain(n);
  } else if (how === 1) {
    const into = new Uint8Array(n);
    cut(pair, there);
    assertEquals(real.remove(into), there);
    assertSame(into.subarray(0, there), expected);
  } else if (how === 2) {
    cut(pair, there);
    consume(real, n);
  } else if (how === 3) {
    if (n <= pair.bytes.length) cut(pair, n);
    const view = take(real, n);
    if (view === null) assert(n > expected.length);
    else world.handedOut.push({ view, copy: expected });
  } else {
    const view = firstExtent(real, n);
    assert(view.length > 0 || there === 0, "a write has bytes if the buffer has some");
    assertSame(view, pair.bytes.slice(0, view.length));
    assert(view.length <= n);
    world.handedOut.push({ view, copy: Array.from(view) });
    cut(pair, view.length);
    consume(real, view.length);
  }
});

const looking: fc.Arbitrary<Op> = fc.tuple(which, count, fc.nat(4)).map(([i, n, how]) => (world) => {
  const pair = world.pairs[i] as Pair;
  const { real } = pair;
  const there = Math.min(n, pair.bytes.length);
  if (how === 0) {
    const view = real.pullup(n);
    if (n === 0 || n > pair.bytes.length) assertEquals(view, null);
    else assertSame(view as Uint8Array, pair.bytes.slice(0, n));
    if (n > 0 && n <= pair.bytes.length) assert(real.contiguousSpace >= n);
  } else if (how === 1) {
    const views = real.peek(n);
    assertSame(join(views), pair.bytes.slice(0, there));
  } else if (how === 2) {
    const views = extents(real, n, 4);
    assert(views.length <= 4);
    const all = join(views);
    assert(all.length <= n);
    assertSame(all, pair.bytes.slice(0, all.length));
    for (const view of views) world.handedOut.push({ view, copy: Array.from(view) });
  } else if (how === 3) {
    const ptr = real.ptrSet(n);
    assertEquals(ptr.pos, n > pair.bytes.length ? -1 : n);
    if (ptr.pos >= 0) world.positions.push({ ptr, pair, pos: n, bytes: pair.bytes.slice() });
  } else if (!pair.frontFrozen || there === 0) {
    const into = new Uint8Array(n);
    assertEquals(real.copyout(into), there);
    assertSame(into.subarray(0, there), pair.bytes.slice(0, there));
  } else {
    assertCode("EV_FROZEN", () => real.copyout(new Uint8Array(n)));
  }
});

const readingLines: fc.Arbitrary<Op> = fc.tuple(which, eol, fc.nat(3), fc.option(count)).map(
  ([i, style, how, limit]) => (world) => {
    const pair = world.pairs[i] as Pair;
    const { real } = pair;
    const options = limit === null ? undefined : { maxBytes: limit };
    const maxBytes = limit ?? Infinity;
    const found = referenceEol(pair.bytes, 0, style);
    if (how === 0) {
      assertEquals(real.searchEol(null, style), found);
      return;
    }
    if (pair.frontFrozen) {
      assertCode("EV_FROZEN", () => how === 1 ? real.readln(style, options) : real.eachLine(style, () => {}, options));
      return;
    }
    if (how === 1) {
      if (isTooLong(pair.bytes, style, maxBytes)) {
        assertCode("EV_LINE_TOO_LONG", () => real.readln(style, options));
        return;
      }
      if (found === null) {
        assertEquals(real.readln(style, options), null);
        return;
      }
      const expected = pair.bytes.slice(0, found.pos);
      cut(pair, found.pos + found.length);
      const line = real.readln(style, options);
      assert(line !== null);
      assertSame(line, expected);
      assertEquals(line.constructor, Uint8Array);
      world.handedOut.push({ view: line, copy: expected });
      return;
    }
    // All lines, or all but those after the third.
    const expected: number[][] = [];
    const rest = { bytes: pair.bytes.slice(), shared: pair.shared.slice() };
    let tooLong = false;
    for (;;) {
      tooLong = isTooLong(rest.bytes, style, maxBytes);
      const end = referenceEol(rest.bytes, 0, style);
      if (tooLong || end === null || (how === 3 && expected.length === 3)) break;
      expected.push(rest.bytes.slice(0, end.pos));
      rest.bytes.splice(0, end.pos + end.length);
      rest.shared.splice(0, end.pos + end.length);
    }
    if (how === 3 && expected.length === 3) tooLong = false;
    let k = 0;
    const run = () =>
      real.eachLine(style, (bytes, start, end) => {
        assertSame(bytes.subarray(start, end), expected[k] as number[]);
        k++;
        checkBuffer(real);
        return how === 2 || k < 3;
      }, options);
    pair.bytes = rest.bytes;
    pair.shared = rest.shared;
    if (tooLong) assertCode("EV_LINE_TOO_LONG", run);
    else assertEquals(run(), expected.length);
    assertEquals(k, expected.length);
  },
);

/** Whether the first line, whole or not, is over the limit. A CR at the end may be half of a terminator. */
function isTooLong(data: readonly number[], style: EolStyle, maxBytes: number): boolean {
  const found = referenceEol(data, 0, style);
  if (found !== null) return found.pos > maxBytes;
  const half = (style === 1 || style === 2) && data.at(-1) === 13 ? 1 : 0;
  return data.length - half > maxBytes;
}

const searching: fc.Arbitrary<Op> = fc.tuple(which, needle, fc.nat(60), fc.nat(60)).map(
  ([i, what, a, b]) => (world) => {
    const pair = world.pairs[i] as Pair;
    const { real } = pair;
    const from = Math.min(a, pair.bytes.length);
    const to = Math.min(b, pair.bytes.length);
    assertEquals(real.search(what, real.ptrSet(from)).pos, indexOf(pair.bytes, what, from, pair.bytes.length));
    assertEquals(real.search(what).pos, indexOf(pair.bytes, what, 0, pair.bytes.length));
    const found = real.searchRange(what, real.ptrSet(from), real.ptrSet(to));
    assertEquals(found.pos, indexOf(pair.bytes, what, from, to));
    if (found.pos < 0) return;
    assertSame(join(real.peek(what.length, found)), Array.from(what));
    assertSame(join(real.peek(undefined, found)), pair.bytes.slice(found.pos));
    assertEquals(found.add(what.length), true);
    assertEquals(found.pos, indexOf(pair.bytes, what, from, to) + what.length);
  },
);

function indexOf(data: readonly number[], what: Uint8Array, from: number, to: number): number {
  for (let i = from; i + what.length <= to; i++) {
    let k = 0;
    while (k < what.length && data[i + k] === what[k]) k++;
    if (k === what.length) return i;
  }
  return -1;
}

const usingPositions: fc.Arbitrary<Op> = fc.nat(20).map((k) => (world) => {
  const position = world.positions[k % Math.max(1, world.positions.length)];
  if (position === undefined) return;
  const { ptr, pair, pos, bytes } = position;
  const changed = pair.bytes.length !== bytes.length || pair.bytes.some((value, i) => value !== bytes[i]);
  if (changed) {
    assertThrows(() => pair.real.peek(1, ptr), RangeError, "stale");
    assertThrows(() => ptr.add(0), RangeError, "stale");
    return;
  }
  // Equal bytes do not prove that nothing has changed. If there is an answer, it must be right.
  try {
    assertSame(join(pair.real.peek(5, ptr)), pair.bytes.slice(pos, pos + 5));
  } catch (error) {
    assertInstanceOf(error, RangeError);
  }
});

const freezing: fc.Arbitrary<Op> = fc.tuple(which, fc.boolean(), fc.nat(3)).map(([i, atFront, thaw]) => (world) => {
  const pair = world.pairs[i] as Pair;
  if (thaw > 0) pair.real.unfreeze(atFront);
  else pair.real.freeze(atFront);
  if (atFront) pair.frontFrozen = thaw === 0;
  else pair.backFrozen = thaw === 0;
});

const numbers: fc.Arbitrary<Op> = on((_world, pair) => {
  const { real } = pair;
  if (pair.frontFrozen) {
    assertCode("EV_FROZEN", () => real.readUint16BE());
  } else {
    const [high, low] = pair.bytes;
    if (pair.bytes.length >= 2) cut(pair, 2);
    assertEquals(real.readUint16BE(), high === undefined || low === undefined ? null : high * 256 + low);
  }
  if (pair.backFrozen) {
    assertCode("EV_FROZEN", () => real.addUint32LE(1));
  } else {
    real.addUint32LE(0x0a0d6162);
    append(pair, [0x62, 0x61, 0x0d, 0x0a]);
  }
});

function join(views: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(views.reduce((n, view) => n + view.length, 0));
  let at = 0;
  for (const view of views) {
    assert(view.length > 0, "no view is empty");
    all.set(view, at);
    at += view.length;
  }
  return all;
}

const operation = fc.oneof(
  { weight: 6, arbitrary: adding },
  { weight: 1, arbitrary: prepending },
  { weight: 4, arbitrary: moving },
  { weight: 2, arbitrary: sharing },
  { weight: 4, arbitrary: taking },
  { weight: 4, arbitrary: looking },
  { weight: 4, arbitrary: readingLines },
  { weight: 2, arbitrary: searching },
  { weight: 1, arbitrary: usingPositions },
  { weight: 1, arbitrary: freezing },
  { weight: 1, arbitrary: numbers },
);

describe("EvBuffer beside a naive model", () => {
  it("agrees over thousands of sequences of operations on buffers that share chunks", () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 5, maxLength: 80, size: "max" }), (operations) => {
        const world = new World();
        for (const run of operations) {
          run(world);
          world.check();
        }
        world.finish();
      }),
      { numRuns: 2500 },
    );
  });
});
