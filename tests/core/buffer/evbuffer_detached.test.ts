// Memory that is transferred to another thread while a buffer uses it. Functions that read the
// bytes throw and change nothing; functions that only move or drop them go on.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { checkBuffer, extents, feed, firstExtent, moveBytes, take, unpin } from "../../../core/buffer/internal.ts";
import { EventError } from "../../../core/errors.ts";
import {
  EVBUFFER_EOL_ANY,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_CRLF_STRICT,
  EVBUFFER_EOL_LF,
  EVBUFFER_EOL_NUL,
} from "../../../core/flags.ts";

/** Transfers memory, as `postMessage()` does. */
function transfer(bytes: Uint8Array): void {
  structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
}

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

/**
 * A buffer with `before` bytes, then `gone` bytes whose memory was transferred, then `after` bytes.
 */
function holed(before: number, gone: number, after: number, onRelease?: () => void): EvBuffer {
  const buffer = new EvBuffer();
  const memory = new Uint8Array(gone).fill(46);
  buffer.add(new Uint8Array(before).fill(97));
  buffer.addReference(memory, onRelease);
  buffer.add(new Uint8Array(after).fill(98));
  transfer(memory);
  return buffer;
}

const READERS = {
  remove: (buffer: EvBuffer): unknown => buffer.remove(new Uint8Array(1000)),
  copyout: (buffer: EvBuffer): unknown => buffer.copyout(new Uint8Array(1000)),
  copyoutFrom: (buffer: EvBuffer): unknown => buffer.copyoutFrom(buffer.ptrSet(0), new Uint8Array(1000)),
  "pullup of all": (buffer: EvBuffer): unknown => buffer.pullup(-1),
  peek: (buffer: EvBuffer): unknown => buffer.peek(),
  toUint8Array: (buffer: EvBuffer): unknown => buffer.toUint8Array(),
  toString: (buffer: EvBuffer): string => buffer.toString(),
  search: (buffer: EvBuffer): unknown => buffer.search("nothing"),
  "search across the boundary": (buffer: EvBuffer): unknown => buffer.search("ab"),
  searchRange: (buffer: EvBuffer): unknown => buffer.searchRange("nothing", null, buffer.ptrSet(buffer.length)),
  "searchEol of LF": (buffer: EvBuffer): unknown => buffer.searchEol(null, EVBUFFER_EOL_LF),
  "searchEol of any": (buffer: EvBuffer): unknown => buffer.searchEol(null, EVBUFFER_EOL_ANY),
  readln: (buffer: EvBuffer): unknown => buffer.readln(EVBUFFER_EOL_LF),
  "readln of CR LF": (buffer: EvBuffer): unknown => buffer.readln(EVBUFFER_EOL_CRLF),
  "readln, strict": (buffer: EvBuffer): unknown => buffer.readln(EVBUFFER_EOL_CRLF_STRICT),
  "readln of NUL": (buffer: EvBuffer): unknown => buffer.readln(EVBUFFER_EOL_NUL),
  eachLine: (buffer: EvBuffer): unknown => buffer.eachLine(EVBUFFER_EOL_LF, () => assert(false, "a line")),
  take: (buffer: EvBuffer): unknown => take(buffer, buffer.length),
  "a write": (buffer: EvBuffer): unknown => {
    for (;;) {
      const { length } = firstExtent(buffer, 1000);
      if (length === 0) return;
      moveBytes(buffer, new EvBuffer(), length);
    }
  },
  "a vectored write": (buffer: EvBuffer): unknown => extents(buffer, 1000, 10),
};

describe("bytes whose memory was transferred", () => {
  for (const [name, read] of Object.entries(READERS)) {
    it(`make ${name} throw an EventError, and change nothing`, () => {
      for (const [before, gone, after] of [[0, 50, 0], [3, 50, 3], [0, 600, 20], [700, 600, 700], [0, 5000, 5000]]) {
        for (const onRelease of [undefined, (): void => {}]) {
          const buffer = holed(before!, gone!, after!, onRelease);
          const { length } = buffer;
          assertEquals(codeOf(() => read(buffer)), "EV_DETACHED");
          checkBuffer(buffer);
          if (name !== "a write") assertEquals(buffer.length, length);
          buffer.drain(buffer.length);
          buffer.add("goes on");
          assertEquals(buffer.toString(), "goes on");
        }
      }
    });
  }

  it("make reading a number across them an EventError", () => {
    for (const before of [0, 3]) {
      const buffer = holed(before, 50, 20);
      assertEquals(codeOf(() => buffer.readUint32BE()), "EV_DETACHED");
      assertEquals(buffer.length, before + 70);
      checkBuffer(buffer);
    }
  });

  it("leave the bytes before them readable, and the bytes behind them once they were drained", () => {
    const buffer = new EvBuffer();
    buffer.add("one\ntw");
    const memory = new TextEncoder().encode("o\nthree\n");
    buffer.addReference(memory);
    buffer.add("four\n");
    transfer(memory);
    const text = (line: Uint8Array | null): string => new TextDecoder().decode(line!);
    assertEquals(text(buffer.readln(EVBUFFER_EOL_LF)), "one");
    assertEquals(codeOf(() => buffer.readln(EVBUFFER_EOL_LF)), "EV_DETACHED");
    const into = new Uint8Array(2);
    assertEquals([buffer.remove(into), text(into)], [2, "tw"]);
    buffer.drain(8);
    assertEquals(text(buffer.readln(EVBUFFER_EOL_LF)), "four");
    checkBuffer(buffer);
  });

  it("can be moved, in whole and in part, and shared; reading throws in each of the buffers", () => {
    for (const n of [1, 10, 30, 60, 600]) {
      const source = holed(20, 500, 20);
      const [part, shared] = [new EvBuffer(), new EvBuffer()];
      shared.addBufferReference(source);
      source.removeBuffer(part, n);
      for (const buffer of [source, part, shared]) checkBuffer(buffer);
      assertEquals([part.length, source.length], [Math.min(n, 540), Math.max(540 - n, 0)]);
      assertEquals(codeOf(() => shared.toUint8Array()), "EV_DETACHED");
      if (n > 20) assertEquals(codeOf(() => part.toUint8Array()), "EV_DETACHED");
      else assertEquals(part.toString(), "a".repeat(n));
      source.addBuffer(part);
      checkBuffer(source);
    }
  });

  it("do not stop a runtime from adding more bytes behind them", () => {
    const buffer = holed(0, 50, 0);
    for (let i = 0; i < 3; i++) feed(buffer, Uint8Array.of(65 + i));
    checkBuffer(buffer);
    unpin(buffer);
    buffer.drain(50);
    assertEquals(buffer.toString(), "ABC");
  });

  it("are still released when they are dropped", () => {
    let released = 0;
    const buffer = holed(1, 50, 1, () => released++);
    buffer.drain(52);
    assertEquals(released, 1);
  });

  it("in a view from the buffer cost that buffer only the bytes of the chunk", () => {
    const buffer = new EvBuffer();
    feed(buffer, new TextEncoder().encode(`first\n${"x".repeat(5000)}\n`));
    feed(buffer, new TextEncoder().encode(`${"y".repeat(5000)}\n`));
    const line = buffer.readln(EVBUFFER_EOL_LF)!;
    if (line.byteLength === line.buffer.byteLength) return; // JavaScriptCore copies them out, too.
    transfer(line);
    assertEquals(codeOf(() => buffer.readln(EVBUFFER_EOL_LF)), "EV_DETACHED");
    buffer.drain(5001);
    assertEquals(buffer.readln(EVBUFFER_EOL_LF)!.length, 5000);
  });
});

describe("an argument whose memory was transferred", () => {
  it("is a TypeError that says so, and changes nothing", () => {
    const buffer = new EvBuffer();
    buffer.add("as it was");
    const gone = (): Uint8Array => {
      const bytes = new Uint8Array(5);
      transfer(bytes);
      return bytes;
    };
    const calls: ((bytes: Uint8Array) => unknown)[] = [
      (bytes) => buffer.add(bytes),
      (bytes) => buffer.addIovec([Uint8Array.of(1), bytes]),
      (bytes) => buffer.addReference(bytes),
      (bytes) => buffer.addReference(bytes, () => assert(false, "it was refused")),
      (bytes) => buffer.prepend(bytes),
      (bytes) => buffer.remove(bytes),
      (bytes) => buffer.copyout(bytes),
      (bytes) => buffer.search(bytes),
    ];
    for (const call of calls) {
      const { message } = assertThrows(() => call(gone()), TypeError) as TypeError;
      assert(/^Cannot .+: the memory of .+ was transferred/.test(message), message);
      assertEquals(buffer.toString(), "as it was");
    }
    for (const empty of [new Uint8Array(), new Uint8Array(8).subarray(3, 3)]) buffer.add(empty);
    assertEquals(buffer.toString(), "as it was");
  });
});

describe("addReference() of memory that can change by itself", () => {
  const kinds: { [name: string]: () => Uint8Array } = {
    "a SharedArrayBuffer": () => new Uint8Array(new SharedArrayBuffer(300)),
    "a resizable ArrayBuffer": () => {
      const Resizable = ArrayBuffer as unknown as new (n: number, options: { maxByteLength: number }) => ArrayBuffer;
      return new Uint8Array(new Resizable(300, { maxByteLength: 1000 }));
    },
  };
  for (const [name, make] of Object.entries(kinds)) {
    it(`copies ${name}, and releases it at once`, () => {
      for (const released of [undefined, [] as Uint8Array[]]) {
        const bytes = make().fill(65);
        const buffer = new EvBuffer();
        buffer.addReference(bytes, released === undefined ? undefined : (given) => released.push(given));
        if (released !== undefined) assert(released.length === 1 && released[0] === bytes);
        bytes.fill(66);
        (bytes.buffer as { resize?: (n: number) => void }).resize?.(10);
        assertEquals(buffer.toString(), "A".repeat(300));
        checkBuffer(buffer);
      }
    });
  }
});
