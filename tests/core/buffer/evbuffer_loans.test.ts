/**
 * Memory on loan from an adapter: the core returns it after its last use, and never while a view of
 * it exists.
 *
 * Returned memory is overwritten at once, and lent again. If the core returned memory too early,
 * views, buffers or bytes in a transport would change.
 */

import { describe, it } from "node:test";
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer, consume, feed, firstExtent, take } from "../../../core/buffer/internal.ts";
import { Loan } from "../../../core/loan.ts";
import { EventError } from "../../../core/errors.ts";
import { EVBUFFER_EOL_ANY, EVBUFFER_EOL_CRLF, EVBUFFER_EOL_CRLF_STRICT, EVBUFFER_EOL_LF } from "../../../core/flags.ts";
import type { TransportBinding } from "../../../core/runtime.ts";
import { Connection } from "../../../core/socket/connection.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

const GIVEN_BACK = 0xee;
const STYLES = [EVBUFFER_EOL_LF, EVBUFFER_EOL_ANY, EVBUFFER_EOL_CRLF_STRICT];
const BUFFERS = 3;
const STREAMS = 4;

/** A class of the user that keeps the bytes written to it. */
class Keeper extends Uint8Array {
  readonly kept: Uint8Array[] = [];
  override set(array: ArrayLike<number>, offset?: number): void {
    super.set(array, offset);
    if (array instanceof Uint8Array) this.kept.push(array);
  }
}

/** Lends memory as an adapter does. */
class Lender {
  readonly #free: Loan[] = [];
  made = 0;
  returned = 0;

  /** A chunk of `data` as an adapter gives it: the memory may be larger than the chunk. */
  lend(data: Uint8Array): [chunk: Uint8Array, loan: Loan] {
    const at = this.#free.findIndex(({ bytes }) => bytes.length >= data.length);
    let loan: Loan;
    if (at >= 0) loan = this.#free.splice(at, 1)[0] as Loan;
    else {
      this.made++;
      loan = new Loan(new Uint8Array(data.length + this.made % 2), (loan) => this.#return(loan));
    }
    loan.bytes.set(data);
    loan.users = 1;
    return [data.length === loan.bytes.length ? loan.bytes : loan.bytes.subarray(0, data.length), loan];
  }

  #return(loan: Loan): void {
    assertEquals([loan.users, loan.seen], [0, false]);
    assert(!this.#free.includes(loan), "nothing comes back twice");
    loan.bytes.fill(GIVEN_BACK);
    this.returned++;
    this.#free.push(loan);
  }
}

/** A transport that sends later, and accepts bytes while it has space. */
class Transport implements Partial<TransportBinding> {
  readonly local = undefined;
  readonly remote = undefined;
  readonly countsLoans: boolean;
  readonly writev?: (chunks: readonly Uint8Array[]) => number;
  readonly gather?: (bytes: number) => Loan | undefined;
  readonly sending: { chunk: Uint8Array; copy: Uint8Array; loan: Loan | undefined }[] = [];
  room = 0;

  constructor(countsLoans: boolean, vectored: boolean, gathersInto?: Lender) {
    this.countsLoans = countsLoans;
    if (gathersInto !== undefined) {
      this.gather = (bytes) => this.room > 0 ? gathersInto.lend(new Uint8Array(bytes))[1] : undefined;
    }
    if (!vectored) return;
    this.writev = (chunks) => {
      let n = 0;
      for (const chunk of chunks) {
        const taken = this.write(chunk);
        n += taken;
        if (taken < chunk.length) break;
      }
      return n;
    };
  }

  write(chunk: Uint8Array, loan?: Loan): number {
    const n = Math.min(chunk.length, this.room);
    if (n === 0) return 0;
    this.room -= n;
    const piece = n === chunk.length ? chunk : chunk.subarray(0, n);
    if (this.countsLoans) loan?.hold();
    this.sending.push({ chunk: piece, copy: piece.slice(), loan: this.countsLoans ? loan : undefined });
    return n;
  }

  /** The oldest bytes have been sent. */
  sent(): void {
    const piece = this.sending.shift();
    if (piece === undefined) return;
    assertSame(piece.chunk, piece.copy, "what is being sent stays what it was");
    piece.loan?.drop();
  }

  pauseRead(): void {}
  resumeRead(): void {}
  close(): void {}
}

function assertSame(actual: Uint8Array, expected: Uint8Array, message: string): void {
  // A loop is faster than a comparison of arrays, and they rarely differ.
  let same = actual.length === expected.length;
  for (let i = 0; same && i < expected.length; i++) same = actual[i] === expected[i];
  if (!same) assertEquals(actual, expected, message);
}

class World {
  readonly lender = new Lender();
  readonly transports: Transport[] = [];
  readonly streams: Connection[] = [];
  readonly buffers: { real: EvBuffer; bytes: Uint8Array }[] = [];
  readonly views: { view: Uint8Array; copy: Uint8Array }[] = [];

  constructor() {
    for (let i = 0; i < BUFFERS; i++) this.buffers.push({ real: new EvBuffer(), bytes: new Uint8Array(0) });
    for (let i = 0; i < STREAMS; i++) {
      const transport = new Transport(i > 0, i === 2, i === 3 ? this.lender : undefined);
      this.transports.push(transport);
      this.streams.push(new Connection(simRuntime(), transport as unknown as TransportBinding));
    }
  }

  handedOut(view: Uint8Array): void {
    this.views.push({ view, copy: view.slice() });
  }

  check(): void {
    for (const { real, bytes } of this.buffers) {
      checkBuffer(real);
      // Does not take a view, which would mark the memory as seen.
      const copy = new Uint8Array(real.length);
      real.copyout(copy);
      assertSame(copy, bytes, "a buffer holds what it should");
    }
    for (const { view, copy } of this.views) assertSame(view, copy, "what was handed out stays what it was");
    for (const { sending } of this.transports) {
      for (const { chunk, copy } of sending) assertSame(chunk, copy, "what is being sent stays what it was");
    }
  }

  finish(): void {
    for (const transport of this.transports) while (transport.sending.length > 0) transport.sent();
    for (const { real } of this.buffers) real.free();
    for (const stream of this.streams) stream.close();
    for (const { view, copy } of this.views) assertSame(view, copy, "what was handed out stays what it was");
  }
}

type Op = (world: World) => void;
type Held = World["buffers"][number];

function cut(buffer: Held, n: number): Uint8Array {
  const front = buffer.bytes.slice(0, n);
  buffer.bytes = buffer.bytes.slice(n);
  return front;
}

function append(buffer: Held, bytes: Uint8Array): void {
  const all = new Uint8Array(buffer.bytes.length + bytes.length);
  all.set(buffer.bytes);
  all.set(bytes, buffer.bytes.length);
  buffer.bytes = all;
}

const which = fc.nat(BUFFERS - 1);
const size = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 600 }) },
  { weight: 3, arbitrary: fc.integer({ min: 600, max: 9000 }) },
  { weight: 1, arbitrary: fc.constantFrom(255, 256, 511, 512, 4095, 4096, 4097, 70_000) },
);
let salt = 0;
/** All pieces differ, and all contain lines. */
const content = size.map((n) => {
  salt++;
  return Uint8Array.from({ length: n }, (_, i) => i % 61 === 60 ? 10 : i % 61 === 59 ? 13 : 97 + (i * 7 + salt) % 26);
});

const receiving: fc.Arbitrary<Op> = fc.tuple(
  which,
  fc.nat(STREAMS - 1),
  fc.array(content, { minLength: 1, maxLength: 3 }),
  size,
)
  .map(([i, s, chunks, most]) => (world) => {
    const buffer = world.buffers[i] as Held;
    const stream = world.streams[s] as Connection;
    for (const data of chunks) {
      const [chunk, loan] = world.lender.lend(data);
      stream.onData(chunk, loan);
    }
    let all = new Uint8Array(0);
    for (const data of chunks) all = Uint8Array.from([...all, ...data]);
    let at = 0;
    for (let n = stream.receiveInto(buffer.real, most); n > 0; n = stream.receiveInto(buffer.real, most)) {
      append(buffer, all.subarray(at, at += n));
    }
    assertEquals(at, all.length);
  });

const adding: fc.Arbitrary<Op> = fc.tuple(which, content, fc.nat(3)).map(([i, data, how]) => (world) => {
  const buffer = world.buffers[i] as Held;
  if (how === 0) {
    buffer.real.prepend(data);
    const rest = buffer.bytes;
    buffer.bytes = data;
    append(buffer, rest);
    return;
  }
  append(buffer, data);
  if (how === 1) buffer.real.add(data);
  else if (how === 2) buffer.real.addReference(data.slice());
  else feed(buffer.real, ...world.lender.lend(data));
});

const moving: fc.Arbitrary<Op> = fc.tuple(which, which, size, fc.nat(3)).map(([from, to, n, how]) => (world) => {
  const source = world.buffers[from] as Held;
  const target = world.buffers[to] as Held;
  if (source === target) return;
  if (how === 0) {
    target.real.addBuffer(source.real);
    append(target, cut(source, Infinity));
  } else if (how === 1) {
    target.real.prependBuffer(source.real);
    const rest = target.bytes;
    target.bytes = cut(source, Infinity);
    append(target, rest);
  } else if (how === 2) {
    append(target, cut(source, source.real.removeBuffer(target.real, n)));
  } else {
    try {
      target.real.addBufferReference(source.real);
    } catch (error) {
      assertInstanceOf(error, EventError);
      assertEquals(error.code, "EV_MULTICAST");
      return;
    }
    append(target, source.bytes);
  }
});

const looking: fc.Arbitrary<Op> = fc.tuple(which, size, fc.nat(10)).map(([i, n, how]) => (world) => {
  const buffer = world.buffers[i] as Held;
  const { real, bytes } = buffer;
  const there = Math.min(n, bytes.length);
  if (how === 0) {
    const view = real.pullup(n);
    if (view !== null) world.handedOut(view);
  } else if (how === 1) {
    for (const view of real.peek(n)) world.handedOut(view);
  } else if (how === 2 || how === 3) {
    const line = real.readln(how === 2 ? EVBUFFER_EOL_LF : EVBUFFER_EOL_CRLF);
    if (line === null) return;
    world.handedOut(line);
    assertSame(line, bytes.slice(0, line.length), "a line is what was there");
    buffer.bytes = bytes.slice(bytes.length - real.length);
  } else if (how === 4) {
    let left = 1 + n % 5;
    real.eachLine(STYLES[n % 3] as number, (bytes, start, end) => {
      world.handedOut(bytes.subarray(start, end));
      // Frees the buffer in the middle of a line.
      if (n % 7 === 0) real.drain(real.length);
      return --left > 0;
    });
    buffer.bytes = bytes.slice(bytes.length - real.length);
  } else if (how === 5) {
    const view = take(real, n);
    if (view === null) return;
    world.handedOut(view);
    cut(buffer, n);
  } else if (how === 6) {
    const into = new Keeper(n);
    assertEquals(real.remove(into), there);
    for (const view of into.kept) world.handedOut(view);
    cut(buffer, there);
  } else if (how === 7) {
    const into = new Keeper(n);
    real.copyout(into);
    for (const view of into.kept) world.handedOut(view);
  } else if (how === 8) {
    real.search("abc\n");
    real.searchEol(null, EVBUFFER_EOL_ANY);
    assertEquals(real.toString(), new TextDecoder().decode(bytes));
  } else if (how === 9) {
    if (real.readUint32BE() !== null) cut(buffer, 4);
  } else {
    const [room] = real.reserveSpace(n);
    assert(room !== undefined);
    room.subarray(0, n).fill(120);
    real.commitSpace([room.subarray(0, n)]);
    append(buffer, new Uint8Array(n).fill(120));
  }
});

const dropping: fc.Arbitrary<Op> = fc.tuple(which, size, fc.nat(3)).map(([i, n, how]) => (world) => {
  const buffer = world.buffers[i] as Held;
  const there = Math.min(n, buffer.bytes.length);
  if (how === 0) {
    buffer.real.free();
    buffer.real = new EvBuffer();
    buffer.bytes = new Uint8Array(0);
    return;
  }
  if (how === 1) buffer.real.drain(n);
  else if (how === 2) consume(buffer.real, n);
  else buffer.real.remove(new Uint8Array(n));
  cut(buffer, there);
});

const sending: fc.Arbitrary<Op> = fc.tuple(which, fc.nat(STREAMS - 1), size, size).map(
  ([i, s, room, most]) => (world) => {
    const buffer = world.buffers[i] as Held;
    const transport = world.transports[s] as Transport;
    const before = transport.sending.length;
    transport.room = room;
    const n = (world.streams[s] as Connection).writeFrom(buffer.real, Math.min(most, buffer.bytes.length));
    const gone = cut(buffer, n);
    let at = 0;
    for (const { copy } of transport.sending.slice(before)) {
      assertSame(copy, gone.slice(at, at += copy.length), "what is sent is what was there");
    }
    assertEquals(at, n);
  },
);

const hasSent: fc.Arbitrary<Op> = fc.nat(STREAMS - 1).map((s) => (world) => world.transports[s]?.sent());

const operation = fc.oneof(
  { weight: 8, arbitrary: receiving },
  { weight: 2, arbitrary: adding },
  { weight: 5, arbitrary: moving },
  { weight: 4, arbitrary: looking },
  { weight: 4, arbitrary: dropping },
  { weight: 6, arbitrary: sending },
  { weight: 6, arbitrary: hasSent },
);

describe("Memory on loan", () => {
  it("never changes while a view or a buffer shows it, in any sequence of operations", () => {
    let returned = 0;
    fc.assert(
      fc.property(fc.array(operation, { minLength: 5, maxLength: 60, size: "max" }), (operations) => {
        const world = new World();
        for (const run of operations) {
          run(world);
          world.check();
        }
        world.finish();
        returned += world.lender.returned;
      }),
      { numRuns: 400 },
    );
    assert(returned > 1000, "much of it is used again");
  });

  /** Lends a text and calls a function with it. Returns whether the memory came back. */
  function comesBack(use: (buffer: EvBuffer) => unknown, size = 5000): boolean {
    const lender = new Lender();
    const buffer = new EvBuffer();
    feed(buffer, ...lender.lend(new Uint8Array(size).fill(97).fill(10, size - 1)));
    use(buffer);
    buffer.free();
    return lender.returned === 1;
  }

  it("is returned when its bytes have been drained, copied, moved on or freed", () => {
    assert(comesBack(() => {}));
    assert(comesBack((buffer) => buffer.drain(5000)));
    assert(comesBack((buffer) => buffer.remove(new Uint8Array(5000))));
    assert(comesBack((buffer) => buffer.toUint8Array()));
    assert(comesBack((buffer) => buffer.readUint16BE()));
    assert(comesBack((buffer) => {
      const other = new EvBuffer();
      other.add("before");
      buffer.removeBuffer(other, 3000);
      other.addBuffer(buffer);
      other.drain(5006);
    }));
    assert(comesBack((buffer) => buffer.search("b")));
    assert(comesBack((buffer) => {
      buffer.add("and more");
      buffer.pullup(-1);
    }));
  });

  it("is not returned after a view of it was handed out", () => {
    assert(!comesBack((buffer) => buffer.peek(1)));
    assert(!comesBack((buffer) => buffer.pullup(1)));
    assert(!comesBack((buffer) => buffer.readln(EVBUFFER_EOL_LF)));
    assert(!comesBack((buffer) => buffer.eachLine(EVBUFFER_EOL_LF, () => {})));
    assert(!comesBack((buffer) => take(buffer, 10)));
    assert(!comesBack((buffer) => buffer.copyout(new Keeper(10))));
  });

  it("is returned when the last buffer that shares it has dropped it", () => {
    const lender = new Lender();
    const [a, b] = [new EvBuffer(), new EvBuffer()];
    feed(a, ...lender.lend(new Uint8Array(5000)));
    b.addBufferReference(a);
    a.free();
    assertEquals(lender.returned, 0);
    b.drain(4999);
    assertEquals(lender.returned, 0);
    b.drain(1);
    assertEquals(lender.returned, 1);
  });

  it("is returned after a transport that reports what it has sent, and never after another", () => {
    for (const counts of [true, false]) {
      const lender = new Lender();
      const transport = new Transport(counts, false);
      transport.room = 10_000;
      const stream = new Connection(simRuntime(), transport as unknown as TransportBinding);
      const buffer = new EvBuffer();
      feed(buffer, ...lender.lend(new Uint8Array(5000)));
      assertEquals(stream.writeFrom(buffer, 5000), 5000);
      assertEquals([buffer.length, lender.returned], [0, 0]);
      transport.sent();
      assertEquals(lender.returned, counts ? 1 : 0);
    }
  });

  it("is returned when a connection is closed before it was read", () => {
    const lender = new Lender();
    const stream = new Connection(simRuntime(), new Transport(true, false) as unknown as TransportBinding);
    for (let i = 0; i < 3; i++) stream.onData(...lender.lend(new Uint8Array(5000)));
    stream.close();
    stream.onData(...lender.lend(new Uint8Array(5000)));
    assertEquals(lender.returned, 4);
  });

  it("refuses to be returned twice", () => {
    const loan = new Loan(new Uint8Array(1), () => {});
    assertThrows(() => loan.drop());
  });
});

describe("Memory of larger additions", () => {
  const page = (fill: number): Uint8Array => new Uint8Array(12_000).fill(fill);

  /** Adds a piece to another buffer, and returns its place in memory without handing out a view. */
  function whereNext(): number {
    const buffer = new EvBuffer();
    buffer.add(page(1));
    const { byteOffset } = firstExtent(buffer, 12_000);
    buffer.free();
    return byteOffset;
  }

  it("is reused when its bytes have left and no view of them was handed out", () => {
    // Earlier tests have handed out views of the current block, so fill it to its end.
    for (let i = 0; i < 10; i++) whereNext();
    const first = whereNext();
    assertEquals([whereNext(), whereNext()], [first, first]);
    const buffer = new EvBuffer();
    buffer.add(page(2));
    assert(whereNext() !== first, "not while a buffer has them");
    buffer.free();
  });

  it("is not reused after a view of it was handed out", () => {
    const buffer = new EvBuffer();
    const views: Uint8Array[] = [];
    for (let i = 0; i < 100; i++) {
      buffer.add(page(i));
      views.push(take(buffer, 12_000) as Uint8Array);
      for (let other = 0; other < 7; other++) whereNext();
    }
    views.forEach((view, i) => assertSame(view, page(i), `view ${i}`));
  });

  it("takes the next small bytes too, so that a line and its end are sent together", () => {
    const buffer = new EvBuffer();
    buffer.add(page(97));
    buffer.add("\n");
    buffer.add(Uint8Array.of(98));
    buffer.add(page(99));
    assertEquals(buffer.contiguousSpace, 24_002);
    // Not behind bytes that it shares with another buffer.
    const other = new EvBuffer();
    other.addBufferReference(buffer);
    other.add("x");
    buffer.add("y");
    assertEquals([other.toString().at(-1), buffer.toString().at(-1)], ["x", "y"]);
    assertEquals(buffer.length, 24_003);
    for (const each of [buffer, other]) checkBuffer(each);
  });

  it("may be transferred, and the buffers go on", () => {
    const buffer = new EvBuffer();
    buffer.add(page(97));
    const { buffer: memory } = buffer.peek()[0] as Uint8Array;
    structuredClone(memory, { transfer: [memory as ArrayBuffer] });
    buffer.add("more");
    assertThrows(() => buffer.toString(), EventError, "was transferred");
    buffer.free();
    const after = new EvBuffer();
    after.add(page(98));
    assertSame(after.toUint8Array(), page(98), "what is added later");
  });
});
