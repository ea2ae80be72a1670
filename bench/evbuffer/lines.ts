/**
 * 64-byte lines out of 64 KiB chunks: each line is returned as bytes (by split2 only as text),
 * except by `eachLine` and its rival, which only read it.
 */

import { Buffer } from "node:buffer";
import BufferList from "bl";
import split2 from "split2";
import { EvBuffer } from "../../core/buffer/mod.ts";
import { EVBUFFER_EOL_LF } from "../../core/flags.ts";
import type { Pair } from "./harness.ts";

const CHUNK = 64 * 1024;
/** 1 MiB in all, because bytes that a runtime has just read are in a cache, too. */
const CHUNKS = 16;
/** The number of repetitions in one run. */
const PASSES = 16;
/** With its line feed; lines and chunks do not begin together. */
const LINE = 65;
const LINES = Math.floor(CHUNKS * CHUNK / LINE);
const LF = 10;

/** The stream in one array, and cut into chunks, as a runtime delivers it. */
const whole = Buffer.alloc(CHUNKS * CHUNK, "x");
for (let at = LINE - 1; at < whole.length; at += LINE) whole[at] = LF;
const chunks: Buffer[] = [];
for (let at = 0; at < whole.length; at += CHUNK) chunks.push(Buffer.from(whole.subarray(at, at + CHUNK)));
const plain: Uint8Array[] = chunks.map((chunk) => new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length));
const contiguous = new Uint8Array(whole);

function readln(): number {
  const buffer = new EvBuffer();
  let bytes = 0;
  for (const chunk of plain) {
    buffer.addReference(chunk);
    for (let line = buffer.readln(EVBUFFER_EOL_LF); line !== null; line = buffer.readln(EVBUFFER_EOL_LF)) {
      bytes += line.length;
    }
  }
  return bytes;
}

function bl(): number {
  const list = new BufferList();
  const mark = Buffer.of(LF);
  let bytes = 0;
  for (const chunk of chunks) {
    list.append(chunk);
    for (let end = list.indexOf(mark); end >= 0; end = list.indexOf(mark)) {
      bytes += list.slice(0, end).length;
      list.consume(end + 1);
    }
  }
  return bytes;
}

function split(): Promise<number> {
  return new Promise((resolve, reject) => {
    const stream = split2("\n");
    let bytes = 0;
    stream.on("data", (line: string) => bytes += line.length);
    // The rest at the end is not a line.
    stream.on("end", () => resolve(bytes - (whole.length - LINES * LINE)));
    stream.on("error", reject);
    let next = 0;
    const write = () => {
      while (next < chunks.length) if (!stream.write(chunks[next++])) return void stream.once("drain", write);
      stream.end();
    };
    write();
  });
}

/** As it is usually written. */
function concat(): number {
  let rest: Buffer = Buffer.alloc(0);
  let bytes = 0;
  for (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      bytes += rest.subarray(0, end).length;
      rest = rest.subarray(end + 1);
    }
  }
  return bytes;
}

/** As well as it can be written. */
function concatByOffset(): number {
  let rest: Buffer = Buffer.alloc(0);
  let bytes = 0;
  for (const chunk of chunks) {
    const all = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = all.indexOf(LF); end >= 0; end = all.indexOf(LF, start)) {
      bytes += all.subarray(start, end).length;
      start = end + 1;
    }
    rest = all.subarray(start);
  }
  return bytes;
}

function eachLine(): number {
  const buffer = new EvBuffer();
  let bytes = 0;
  for (const chunk of plain) {
    buffer.addReference(chunk);
    buffer.eachLine(EVBUFFER_EOL_LF, (_memory, start, end) => {
      bytes += end - start;
    });
  }
  return bytes;
}

function byHand(): number {
  let bytes = 0;
  const look = (_memory: Uint8Array, start: number, end: number) => {
    bytes += end - start;
  };
  let start = 0;
  for (let end = contiguous.indexOf(LF); end >= 0; end = contiguous.indexOf(LF, start)) {
    look(contiguous, start, end);
    start = end + 1;
  }
  return bytes;
}

/** Does the same several times, so that one run takes long enough to be timed. */
function passes(run: () => number | Promise<number>): () => Promise<number> {
  return async () => {
    let bytes = 0;
    for (let i = 0; i < PASSES; i++) {
      const result = run();
      bytes += typeof result === "number" ? result : await result;
    }
    return bytes;
  };
}

/** The measured work. */
export function linePairs(): Pair[] {
  const pair = (work: string, ours: () => number, theirs: () => number | Promise<number>): Pair => ({
    work,
    unit: "ns/line",
    scale: 1e6 / (LINES * PASSES),
    sameResult: true,
    ours: passes(ours),
    theirs: passes(theirs),
  });
  return [
    pair("lines: readln / bl", readln, bl),
    pair("lines: readln / split2", readln, split),
    pair("lines: readln / Buffer.concat, indexOf", readln, concat),
    pair("lines: readln / the same by offset", readln, concatByOffset),
    pair("lines: eachLine / split2", eachLine, split),
    pair("lines: eachLine / concat by offset", eachLine, concatByOffset),
    pair("lines: eachLine / by hand", eachLine, byHand),
  ];
}
