/**
 * Shared by the buffer tests: bytes and texts, a naive reference for lines, and random numbers.
 */

import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer } from "../../../core/buffer/internal.ts";
import {
  EVBUFFER_EOL_ANY,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_CRLF_STRICT,
  EVBUFFER_EOL_LF,
  EVBUFFER_EOL_NUL,
} from "../../../core/flags.ts";
import type { EolStyle } from "../../../core/checks.ts";
import { assertEquals } from "@std/assert";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The UTF-8 of a text. */
export function bytes(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The text of UTF-8. */
export function text(data: Uint8Array | null): string | null {
  return data === null ? null : decoder.decode(data);
}

/** A buffer with one chunk for each text, in memory of the caller. */
export function chunked(...texts: string[]): EvBuffer {
  const buffer = new EvBuffer();
  for (const piece of texts) buffer.addReference(bytes(piece));
  return buffer;
}

/** The sizes of a buffer's chunks. */
export function chunkSizes(buffer: EvBuffer): number[] {
  return buffer.peek().map((chunk) => chunk.length);
}

/** Whether `view` is a view of the memory of `of`. */
export function sharesMemory(view: Uint8Array | undefined, of: Uint8Array): boolean {
  return view !== undefined && view.buffer === of.buffer;
}

/** Asserts that the buffer holds this text, and that its chain is consistent. */
export function assertHolds(buffer: EvBuffer, expected: string): void {
  checkBuffer(buffer);
  assertEquals(buffer.toString(), expected);
}

/** All lines that can be taken now. */
export function readAll(buffer: EvBuffer, eol: number): string[] {
  const lines: string[] = [];
  for (let line = buffer.readln(eol); line !== null; line = buffer.readln(eol)) {
    checkBuffer(buffer);
    lines.push(decoder.decode(line));
  }
  return lines;
}

/** Where the first line of `data` from `from` on ends: rule R1, word for word. */
export function referenceEol(
  data: ArrayLike<number>,
  from: number,
  eol: EolStyle,
): { pos: number; length: number } | null {
  for (let i = from; i < data.length; i++) {
    const length = lengthOfEnd(data, i, eol);
    if (length > 0) return { pos: i, length };
  }
  return null;
}

/** The length of the line end that begins at `i`, or 0. */
function lengthOfEnd(data: ArrayLike<number>, i: number, eol: EolStyle): number {
  const isEnd = (byte: number | undefined) => byte === 10 || byte === 13;
  const isCrlf = data[i] === 13 && data[i + 1] === 10;
  switch (eol) {
    case EVBUFFER_EOL_ANY: {
      let end = i;
      while (end < data.length && isEnd(data[end])) end++;
      return end - i;
    }
    case EVBUFFER_EOL_CRLF:
      return isCrlf ? 2 : data[i] === 10 ? 1 : 0;
    case EVBUFFER_EOL_CRLF_STRICT:
      return isCrlf ? 2 : 0;
    case EVBUFFER_EOL_LF:
      return data[i] === 10 ? 1 : 0;
    case EVBUFFER_EOL_NUL:
      return data[i] === 0 ? 1 : 0;
  }
}

/** Pseudo-random whole numbers below `n`, the same for the same seed. */
export function randomFrom(seed: number): (n: number) => number {
  let state = seed | 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}
