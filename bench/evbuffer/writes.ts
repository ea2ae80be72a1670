/**
 * Many small writes that leave as one, as in a server that answers line by line and flushes once.
 */

import { Buffer } from "node:buffer";
import { EvBuffer } from "../../core/buffer/mod.ts";
import type { Pair } from "./harness.ts";

const PIECE = 16;
const PIECES = 64;
const FLUSHES = 2000;
/** Several arrays, as a program has them. */
const pieces: Buffer[] = Array.from({ length: PIECES }, (_, i) => Buffer.alloc(PIECE, i));
const plain: Uint8Array[] = pieces.map((piece) => Uint8Array.from(piece));

function evbuffer(): number {
  const buffer = new EvBuffer();
  let bytes = 0;
  for (let i = 0; i < FLUSHES; i++) {
    for (const piece of plain) buffer.add(piece);
    for (const view of buffer.peek()) bytes += view.length;
    buffer.drain(buffer.length);
  }
  return bytes;
}

function concat(): number {
  let list: Buffer[] = [];
  let bytes = 0;
  for (let i = 0; i < FLUSHES; i++) {
    for (const piece of pieces) list.push(piece);
    bytes += Buffer.concat(list).length;
    list = [];
  }
  return bytes;
}

const words: string[] = pieces.map((_, i) => `sixteen letter ${String.fromCharCode(65 + i % 26)}`);

function evbufferOfText(): number {
  const buffer = new EvBuffer();
  let bytes = 0;
  for (let i = 0; i < FLUSHES; i++) {
    for (const word of words) buffer.add(word);
    for (const view of buffer.peek()) bytes += view.length;
    buffer.drain(buffer.length);
  }
  return bytes;
}

function concatOfText(): number {
  let list: Buffer[] = [];
  let bytes = 0;
  for (let i = 0; i < FLUSHES; i++) {
    for (const word of words) list.push(Buffer.from(word));
    bytes += Buffer.concat(list).length;
    list = [];
  }
  return bytes;
}

/** The measured work. */
export function writePairs(): Pair[] {
  const common = { unit: "ns/write", scale: 1e6 / (FLUSHES * PIECES), sameResult: true };
  return [
    { ...common, work: "writes of 16 bytes / Buffer.concat", ours: evbuffer, theirs: concat },
    { ...common, work: "writes of 16 letters / Buffer.from, concat", ours: evbufferOfText, theirs: concatOfText },
  ];
}
