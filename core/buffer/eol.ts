/**
 * Finds line ends: one scan for all styles, over any number of chunks. A scan that finds nothing notes how far it has
 * come, so a line that arrives in pieces is scanned once.
 */

import type { EolStyle } from "../checks.ts";
import { indexOfByte, searching } from "../bytes.ts";
import { checkThere, type Chunk } from "./chunk.ts";
import type { Chain } from "./chain.ts";
import {
  EVBUFFER_EOL_ANY,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_CRLF_STRICT,
  EVBUFFER_EOL_LF,
  EVBUFFER_EOL_NUL,
} from "../flags.ts";

const CR = 13;
const LF = 10;

/** A shorter scan is repeated, not noted. So most buffers never need a memo. */
const MEMO_BYTES = 256;

/** How far a scan for `key` got. */
export interface ScanMemo {
  /** What the scan looks for: an end-of-line style, or bytes. */
  key: number | Uint8Array;
  /** How many bytes at the front do not contain it; 0 if nothing is known. */
  pos: number;
  /** The chunk where the scan goes on; null exactly if `pos` is 0. */
  chunk: Chunk | null;
  /** The place in the memory of that chunk. */
  at: number;
}

/** The result of the last scan. There is one object for all scans, because it is read before anything else runs. */
export const scan: { eolLength: number; pos: number; chunk: Chunk | null; at: number } = {
  eolLength: 0,
  pos: 0,
  chunk: null,
  at: 0,
};

// No `default` in what follows: a style that is missing does not compile.

/** The byte that ends a line. With `EVBUFFER_EOL_ANY` another byte can do so too. */
export function lastByteOf(eol: EolStyle): number {
  switch (eol) {
    case EVBUFFER_EOL_NUL:
      return 0;
    case EVBUFFER_EOL_ANY:
    case EVBUFFER_EOL_CRLF:
    case EVBUFFER_EOL_CRLF_STRICT:
    case EVBUFFER_EOL_LF:
      return LF;
  }
}

/** Whether a CR before the last byte belongs to the line end. */
export function takesCr(eol: EolStyle): boolean {
  switch (eol) {
    case EVBUFFER_EOL_CRLF:
    case EVBUFFER_EOL_CRLF_STRICT:
      return true;
    case EVBUFFER_EOL_ANY:
    case EVBUFFER_EOL_LF:
    case EVBUFFER_EOL_NUL:
      return false;
  }
}

/** Bit of {@linkcode simpleOf}: a CR before the last byte belongs to the line end. */
export const TAKES_CR = 0x100;

/**
 * The byte that alone ends a line, with {@linkcode TAKES_CR}: all that a reader of lines asks of a style, in one call.
 * Below 0 if more than one byte decides; undefined for a number that is no style.
 */
export function simpleOf(eol: EolStyle): number {
  switch (eol) {
    case EVBUFFER_EOL_CRLF:
      return LF | TAKES_CR;
    case EVBUFFER_EOL_LF:
      return LF;
    case EVBUFFER_EOL_NUL:
      return 0;
    case EVBUFFER_EOL_ANY:
    case EVBUFFER_EOL_CRLF_STRICT:
      return -1;
  }
}

/** Whether the last byte alone ends a line. */
export function isSimple(eol: EolStyle): boolean {
  switch (eol) {
    case EVBUFFER_EOL_CRLF:
    case EVBUFFER_EOL_LF:
    case EVBUFFER_EOL_NUL:
      return true;
    case EVBUFFER_EOL_ANY:
    case EVBUFFER_EOL_CRLF_STRICT:
      return false;
  }
}

// A runtime's own search for a byte costs as much as a short line for each call. So near bytes are found here, four at a time, and
// the runtime searches the rest. Measured for 64-byte lines: 22 to 28 ns in place of 55 to 65 on V8, the same on Bun. For 30,000
// bytes it is 0.2 us on Bun and on Node (its Buffer), 9.5 for `indexOf()` of V8, and 5.3 for words, which Deno uses to the end.

/** How many bytes count as near. */
const NEAR_BYTES = 256;
/** Up to this size a plain loop is not slower than the runtime's search. */
const SHORT_BYTES = 80;
/** Shorter windows are not worth a second view of their memory. */
const WORDS_BYTES = 512;

/** Finds `byte` in the memory of `chunk` between `from` and `to`; −1 when it is not there. */
export function findByte(chunk: Chunk, byte: number, from: number, to: number): number {
  checkThere(chunk);
  return findWith(chunk.data, chunk.words ?? wordsOf(chunk, to - from), byte, from, to);
}

/** For memory that is too short, or does not begin at a whole word. */
const NO_WORDS: Int32Array = /* @__PURE__ */ new Int32Array(0);

/** The memory of `chunk` as words, for a search through `n` bytes of it. */
export function wordsOf(chunk: Chunk, n: number): Int32Array {
  if (chunk.words !== null) return chunk.words;
  // It may still grow.
  if (n < WORDS_BYTES) return NO_WORDS;
  const { byteOffset, length } = chunk.data;
  const buffer = chunk.buffer ??= chunk.data.buffer;
  return chunk.words = byteOffset % 4 === 0 ? new Int32Array(buffer, byteOffset, length >> 2) : NO_WORDS;
}

/** {@linkcode findByte}, for a loop that has the memory and its words at hand. */
export function findWith(data: Uint8Array, words: Int32Array, byte: number, from: number, to: number): number {
  if (words === NO_WORDS) return findFar(data, byte, from, to);
  const near = to - from > NEAR_BYTES && searching.find !== null ? from + NEAR_BYTES : to;
  let i = from;
  while ((i & 3) !== 0) {
    if (i >= near) return -1;
    if (data[i] === byte) return i;
    i++;
  }
  const pattern = byte * 0x01010101;
  const end = near >> 2;
  let w = i >> 2;
  while (w < end) {
    // The byte that was searched for is a zero now, and only a zero byte borrows from the bit above it.
    const word = words[w] as number ^ pattern;
    if (((word - 0x01010101) & ~word & 0x80808080) !== 0) break;
    w++;
  }
  // The word that contains it, or the bytes behind the last whole word.
  i = w << 2;
  while (i < near) {
    if (data[i] === byte) return i;
    i++;
  }
  return near === to ? -1 : findFar(data, byte, near, to);
}

function findFar(data: Uint8Array, byte: number, from: number, to: number): number {
  if (to - from > SHORT_BYTES) {
    if (to === data.length) return indexOfByte(data, byte, from);
    // The runtime's search has no end position, so give it only the window.
    const hit = indexOfByte(new Uint8Array(data.buffer, data.byteOffset + from, to - from), byte, 0);
    return hit < 0 ? -1 : from + hit;
  }
  for (let i = from; i < to; i++) if (data[i] === byte) return i;
  return -1;
}

/**
 * Finds the end of the first line from `at` in `chunk` on, which is `pos` bytes from the front. Bytes before `at` do
 * not count, not even a CR.
 *
 * @returns The distance of the terminator from the front, with its length in `scan.eolLength`; −1 if there is none,
 * with the place to go on in `scan`
 */
export function scanEol(chunk: Chunk, at: number, pos: number, eol: EolStyle): number {
  if (eol === EVBUFFER_EOL_ANY) return scanAny(chunk, at, pos);
  const byte = lastByteOf(eol);
  const cr = takesCr(eol);
  const wantsCr = cr && !isSimple(eol);
  let before = -1;
  for (let here = chunk, start = at;;) {
    const { data, end } = here;
    for (let hit = findByte(here, byte, start, end); hit >= 0; hit = findByte(here, byte, hit + 1, end)) {
      if (cr && (hit > start ? data[hit - 1] : before) === CR) {
        scan.eolLength = 2;
        return pos + hit - start - 1;
      }
      if (!wantsCr) {
        scan.eolLength = 1;
        return pos + hit - start;
      }
    }
    if (end > start) before = data[end - 1] as number;
    pos += end - start;
    if (here.next === null) {
      // A CR at the very end may be half of a terminator, so it is scanned again.
      const half = cr && before === CR ? 1 : 0;
      scan.pos = pos - half;
      scan.chunk = here;
      scan.at = end - half;
      return -1;
    }
    here = here.next;
    start = here.start;
  }
}

function scanAny(chunk: Chunk, at: number, pos: number): number {
  for (let here = chunk, start = at;;) {
    checkThere(here);
    const { data, end } = here;
    for (let i = start; i < end; i++) {
      const byte = data[i];
      if (byte === LF || byte === CR) {
        scan.eolLength = runLength(here, i);
        return pos + i - start;
      }
    }
    pos += end - start;
    if (here.next === null) {
      scan.pos = pos;
      scan.chunk = here;
      scan.at = end;
      return -1;
    }
    here = here.next;
    start = here.start;
  }
}

function runLength(chunk: Chunk, at: number): number {
  let n = 0;
  for (let here: Chunk | null = chunk, from = at; here !== null; here = here.next, from = here?.start ?? 0) {
    checkThere(here);
    const { data, end } = here;
    for (let i = from; i < end; i++) {
      if (data[i] !== LF && data[i] !== CR) return n;
      n++;
    }
  }
  return n;
}

/** {@linkcode scanEol} from the front of `chain`, which is not empty, or from the end of the last such scan. */
export function scanFront(chain: Chain, eol: EolStyle): number {
  const memo = chain.memo;
  let pos: number;
  if (memo !== null && memo.pos > 0 && memo.key === eol) {
    pos = scanEol(memo.chunk as Chunk, memo.at, memo.pos, eol);
  } else {
    const first = chain.first as Chunk;
    pos = scanEol(first, first.start, 0, eol);
  }
  if (pos < 0) note(chain, eol, scan.pos, scan.chunk as Chunk, scan.at);
  return pos;
}

/** Whether something is known about the front of `chain`. */
export function hasMemo(chain: Chain): boolean {
  return chain.memo !== null && chain.memo.pos > 0;
}

/** Notes that the first `pos` bytes do not contain `key`, and that a scan goes on at `at` in `chunk`. */
export function note(chain: Chain, key: number | Uint8Array, pos: number, chunk: Chunk, at: number): void {
  const memo = chain.memo;
  if (memo !== null) {
    memo.key = key;
    memo.pos = pos;
    memo.chunk = pos === 0 ? null : chunk;
    memo.at = at;
  } else if (pos >= MEMO_BYTES) {
    chain.memo = { key, pos, chunk, at };
  }
}
