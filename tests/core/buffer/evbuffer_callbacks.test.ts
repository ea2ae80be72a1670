/** Change callbacks, immediate and deferred (rules B12, B13, O1). */

import { describe, it } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { type BufferChange, EvBuffer } from "../../../core/buffer/mod.ts";
import {
  type BufferOwner,
  checkBuffer,
  consume,
  feed,
  moveBytes,
  setBufferOwner,
} from "../../../core/buffer/internal.ts";
import { EVBUFFER_EOL_CRLF, EVBUFFER_EOL_LF } from "../../../core/flags.ts";
import { processMemory } from "../../../core/memory.ts";
import { chunked } from "./support.ts";

type Told = [origSize: number, added: number, deleted: number];

function tell(info: BufferChange): Told {
  return [info.origSize, info.added, info.deleted];
}

/** The changes that a buffer reports from now on. */
function listen(buffer: EvBuffer): Told[] {
  const told: Told[] = [];
  buffer.addCallback((it, info) => {
    checkBuffer(it);
    assertEquals(it.length, info.origSize + info.added - info.deleted);
    told.push(tell(info));
  });
  return told;
}

describe("EvBuffer.addCallback()", () => {
  it("reports each kind of change", () => {
    const buffer = new EvBuffer();
    const other = chunked("12345");
    const told = listen(buffer);
    const otherTold = listen(other);
    buffer.add("abc");
    buffer.add("é");
    buffer.prepend("x");
    buffer.addReference(new Uint8Array(2));
    buffer.addBuffer(other);
    buffer.drain(1);
    buffer.remove(new Uint8Array(2));
    buffer.removeBuffer(other, 3);
    other.prependBuffer(buffer);
    buffer.addBufferReference(other);
    buffer.addUint16BE(1);
    buffer.readUint8();
    const room = buffer.reserveSpace(4);
    buffer.commitSpace([(room[0] as Uint8Array).subarray(0, 3)]);
    assertEquals(told, [
      [0, 3, 0],
      [3, 2, 0],
      [5, 1, 0],
      [6, 2, 0],
      [8, 5, 0],
      [13, 0, 1],
      [12, 0, 2],
      [10, 0, 3],
      [7, 0, 7],
      [0, 10, 0],
      [10, 2, 0],
      [12, 0, 1],
      [11, 3, 0],
    ]);
    assertEquals(otherTold, [[5, 0, 5], [0, 3, 0], [3, 7, 0]]);
  });

  it("is not called when nothing has changed", () => {
    const buffer = new EvBuffer();
    const told = listen(buffer);
    buffer.add("");
    buffer.add(new Uint8Array(0));
    buffer.prepend("");
    buffer.addReference(new Uint8Array(0));
    buffer.addIovec([]);
    buffer.drain(0);
    buffer.drain(10);
    buffer.addBuffer(new EvBuffer());
    buffer.removeBuffer(new EvBuffer(), 5);
    buffer.expand(100);
    buffer.commitSpace([]);
    buffer.readln(EVBUFFER_EOL_LF);
    assertEquals(buffer.pullup(-1), null);
    assertEquals(told, []);
    buffer.add("ab");
    buffer.pullup(2);
    buffer.copyout(new Uint8Array(1));
    assertEquals(told, [[0, 2, 0]]);
  });

  it("reports each piece of addIovec()", () => {
    const buffer = new EvBuffer();
    const told = listen(buffer);
    buffer.addIovec([new Uint8Array(1), new Uint8Array(0), new Uint8Array(2)]);
    assertEquals(told, [[0, 1, 0], [1, 2, 0]]);
  });

  it("reports readln() twice: the line, then its terminator", () => {
    const buffer = chunked("abc\r", "\n\r\nrest");
    const told = listen(buffer);
    buffer.readln(EVBUFFER_EOL_CRLF);
    buffer.readln(EVBUFFER_EOL_CRLF);
    assertEquals(told, [[11, 0, 3], [8, 0, 2], [6, 0, 2]]);
  });

  it("leaves the terminator to a callback that takes it, or puts something before it", () => {
    const buffer = chunked("abc\r\nnext\r\n");
    buffer.addCallback((it, info) => {
      if (info.deleted === 3) it.drain(2);
    });
    buffer.readln(EVBUFFER_EOL_CRLF);
    assertEquals(buffer.toString(), "next\r\n");

    const other = chunked("abc\r\nnext\r\n");
    const entry = other.addCallback((it, info) => {
      if (info.deleted === 3) it.prepend("before");
    });
    other.readln(EVBUFFER_EOL_CRLF);
    entry.remove();
    assertEquals(other.toString(), "before\r\nnext\r\n");

    const freed = chunked("abc\r\n");
    freed.addCallback((it) => it.free());
    assertEquals(freed.readln(EVBUFFER_EOL_CRLF)?.length, 3);
  });

  it("runs the newest first", () => {
    const buffer = new EvBuffer();
    const order: string[] = [];
    for (const name of ["a", "b", "c"]) buffer.addCallback(() => order.push(name));
    buffer.add("x");
    assertEquals(order, ["c", "b", "a"]);
  });

  it("is called at once for a change inside a callback, and each level has its own numbers", () => {
    const buffer = new EvBuffer();
    const told: string[] = [];
    buffer.addCallback((it, info) => told.push(`old ${tell(info)} of ${it.length}`));
    buffer.addCallback((it, info) => {
      told.push(`new ${tell(info)} of ${it.length}`);
      if (info.added === 3) it.drain(1);
    });
    buffer.add("abc");
    assertEquals(told, ["new 0,3,0 of 3", "new 3,0,1 of 2", "old 3,0,1 of 2", "old 0,3,0 of 2"]);
  });

  it("never hears of changes that happen while it is disabled", () => {
    const buffer = new EvBuffer();
    const told: Told[] = [];
    const entry = buffer.addCallback((_it, info) => told.push(tell(info)));
    assertEquals(entry.enabled, true);
    entry.enabled = false;
    buffer.add("abc");
    entry.enabled = true;
    buffer.add("d");
    assertEquals(told, [[3, 1, 0]]);
  });

  it("is not called after it was removed, not even by the run that removes it", () => {
    const buffer = new EvBuffer();
    const order: string[] = [];
    const old = buffer.addCallback(() => order.push("old"));
    const own = buffer.addCallback(() => {
      order.push("own");
      own.remove();
      old.remove();
      old.remove();
      buffer.addCallback(() => order.push("added"));
    });
    buffer.add("x");
    assertEquals(order, ["own"]);
    buffer.add("y");
    assertEquals(order, ["own", "added"]);
  });

  it("calls every callback even if one throws, and throws the first error", () => {
    const buffer = new EvBuffer();
    let told = 0;
    buffer.addCallback(() => told++);
    buffer.addCallback(() => {
      throw new Error("second");
    });
    buffer.addCallback(() => {
      throw new Error("first");
    });
    assertThrows(() => buffer.add("abc"), Error, "first");
    assertEquals([told, buffer.length], [1, 3]);
  });

  it("reports the source's change first, whichever part was moved", () => {
    for (const how of ["addBuffer", "prependBuffer", "part", "whole", "friend"]) {
      const source = chunked("abcd");
      const target = new EvBuffer();
      const order: string[] = [];
      source.addCallback(() => order.push(`source, target has ${target.length}`));
      target.addCallback(() => order.push(`target, source has ${source.length}`));
      let n = 4;
      if (how === "addBuffer") target.addBuffer(source);
      else if (how === "prependBuffer") target.prependBuffer(source);
      else if (how === "friend") moveBytes(source, target, n = 1);
      else source.removeBuffer(target, n = how === "part" ? 2 : 4);
      assertEquals(order, [`source, target has ${n}`, `target, source has ${4 - n}`]);
    }
  });

  it("does not report free()", () => {
    const buffer = chunked("abc");
    const told = listen(buffer);
    const entry = buffer.addCallback(() => {});
    buffer.free();
    entry.remove();
    assertEquals(told, []);
  });
});

/** Sets an owner that only hears of changes. */
function setOwner(buffer: EvBuffer, onBufferChange: BufferOwner["onBufferChange"]): void {
  setBufferOwner(buffer, {
    memory: processMemory,
    onBufferChange,
    onBufferError: () => {},
    onReleaseError: () => false,
    caught: () => false,
  });
}

describe("A buffer's owner", () => {
  it("hears of each change before release functions and callbacks run, whichever end is frozen", () => {
    const buffer = new EvBuffer();
    const order: string[] = [];
    setOwner(buffer, (it, added, deleted) => {
      checkBuffer(it);
      order.push(`owner +${added} -${deleted} of ${it.length}`);
    });
    buffer.addCallback((_it, info) => order.push(`callback +${info.added} -${info.deleted}`));
    buffer.addReference(new Uint8Array(2), () => order.push("released"));
    buffer.freeze(true);
    buffer.freeze(false);
    feed(buffer, new Uint8Array(3));
    consume(buffer, 4);
    consume(buffer, 0);
    assertEquals(order, [
      "owner +2 -0 of 2",
      "callback +2 -0",
      "owner +3 -0 of 5",
      "callback +3 -0",
      "owner +0 -4 of 1",
      "released",
      "callback +0 -4",
    ]);
    setBufferOwner(buffer, null);
    consume(buffer, 1);
    assertEquals(order.length, 8);
  });

  it("hears of a move for both buffers, the source's owner first", () => {
    const a = chunked("abc");
    const b = new EvBuffer();
    const order: string[] = [];
    setOwner(a, (_it, added, deleted) => order.push(`a +${added} -${deleted} b=${b.length}`));
    setOwner(b, (_it, added, deleted) => order.push(`b +${added} -${deleted} a=${a.length}`));
    a.addCallback(() => order.push("callback of a"));
    moveBytes(a, b, 2);
    assertEquals(order, ["a +0 -2 b=2", "b +2 -0 a=1", "callback of a"]);
  });

  it("hears of one change for a line, and nothing after free()", () => {
    const buffer = chunked("abc\nd\n");
    const told: number[] = [];
    setOwner(buffer, (_it, _added, deleted) => told.push(deleted));
    buffer.readln(EVBUFFER_EOL_LF);
    assertEquals(told, [4]);
    buffer.free();
    feed(buffer, new Uint8Array(3));
    assertEquals([told.length, buffer.length], [1, 0]);
  });
});
