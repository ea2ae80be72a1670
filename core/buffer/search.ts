/**
 * Finding bytes across chunks.
 */

import { indexOfByte } from "../bytes.ts";
import { checkThere, type Chunk } from "./chunk.ts";
import type { Chain } from "./chain.ts";
import { note } from "./eol.ts";
import { cursor, locate, walk } from "./position.ts";

/** The place in the chain that the last search has found. */
export const hit: { chunk: Chunk | null; at: number } = { chunk: null, at: 0 };

/**
 * Finds `needle`, which is not empty, from `at` in `chunk` on, which is `pos` bytes from the front. The match must end
 * `limit` bytes from the front or sooner.
 *
 * @returns Its distance from the front, with the place in the chain in `hit`; −1 if there is none
 */
export function searchChain(chunk: Chunk | null, at: number, pos: number, needle: Uint8Array, limit: number): number {
  const m = needle.length;
  let base = pos;
  if (chunk !== null) checkThere(chunk);
  if (chunk !== null) begin(chunk.data, needle, at, chunk.end);
  for (let here = chunk, start = at; here !== null; here = here.next, start = here?.start ?? 0) {
    if (base + m > limit) return -1;
    checkThere(here);
    const end = Math.min(here.end, start + limit - base);
    const found = findWhole(here.data, needle, start, end);
    if (found >= 0) return report(here, found, base + found - start);
    // What begins in this chunk and ends in another.
    for (let i = Math.max(start, end - m + 1); i < end; i++) {
      if (base + i - start + m > limit) return -1;
      if (matches(here, i, needle)) return report(here, i, base + i - start);
    }
    base += end - start;
  }
  return -1;
}

/**
 * Finds `needle` from the front of `chain`, or from the end of the last such search for this very array.
 *
 * @returns Its distance from the front; −1 if it is not there, and then the search is not repeated
 */
export function searchFront(chain: Chain, needle: Uint8Array): number {
  const memo = chain.memo;
  locate(chain, 0);
  if (memo !== null && memo.pos > 0 && memo.key === needle) {
    cursor.pos = memo.pos;
    cursor.chunk = memo.chunk;
    cursor.at = memo.at;
  }
  const pos = searchChain(cursor.chunk, cursor.at, cursor.pos, needle, chain.length);
  if (pos >= 0) return pos;
  // The last bytes may be the beginning of one.
  const known = chain.length - needle.length + 1;
  if (known > cursor.pos) {
    walk(known - cursor.pos);
    if (cursor.chunk !== null) note(chain, needle, known, cursor.chunk, cursor.at);
  }
  return -1;
}

function report(chunk: Chunk, at: number, pos: number): number {
  hit.chunk = chunk;
  hit.at = at;
  return pos;
}

/** Whether `needle` is at `at` in `chunk`, also if it ends in another chunk. */
function matches(chunk: Chunk, at: number, needle: Uint8Array): boolean {
  let here: Chunk | null = chunk;
  let i = at;
  for (let j = 0; j < needle.length; j++) {
    while (here !== null && i === here.end) {
      here = here.next;
      if (here === null) return false;
      checkThere(here);
      i = here.start;
    }
    if (here === null || here.data[i] !== needle[j]) return false;
    i++;
  }
  return true;
}

// In one piece of memory there are two ways. The runtime's search for one byte is very fast on Bun and fast elsewhere, as
// long as that byte is rare; skipping (Horspool) looks at one byte in a needle's length, whatever the bytes are. So the
// first is tried with the needle's rarest byte, and given up when it stops too often.

/** The method of the present search. */
const plan = { anchor: 0, skipping: false, stops: 0, looked: 0 };
/** The step for each byte, when skipping. */
const skips = /* @__PURE__ */ new Int32Array(256);

/** From this size on it pays to look for the rarest byte. */
const SAMPLE_BYTES = 512;
/** Stopping more often than once in so many bytes costs more than skipping. */
const BYTES_PER_STOP = 192;
/** Shorter needles skip too little. */
const SHORTEST_SKIP = 4;

/** Finds `needle`, which is not empty, whole between `from` and `to` in `data`; −1 when it is not there. */
export function findBytes(data: Uint8Array, needle: Uint8Array, from: number, to: number): number {
  begin(data, needle, from, to);
  return findWhole(data, needle, from, to);
}

/** A new search, whose first piece of memory is this. */
function begin(data: Uint8Array, needle: Uint8Array, from: number, to: number): void {
  plan.anchor = to - from < SAMPLE_BYTES ? 0 : rarest(data, needle, from);
  plan.skipping = false;
  plan.stops = 0;
  plan.looked = 0;
}

/** Which of the needle's bytes, of the first 32, is the rarest in the first `SAMPLE_BYTES` of the memory. */
function rarest(data: Uint8Array, needle: Uint8Array, from: number): number {
  skips.fill(0);
  for (let i = from; i < from + SAMPLE_BYTES; i++) {
    const byte = data[i] as number;
    skips[byte] = skips[byte] as number + 1;
  }
  let best = 0;
  for (let i = 1; i < needle.length && i < 32; i++) {
    if ((skips[needle[i] as number] as number) < (skips[needle[best] as number] as number)) best = i;
  }
  return best;
}

function findWhole(data: Uint8Array, needle: Uint8Array, from: number, to: number): number {
  if (plan.skipping) return skipTo(data, needle, from, to);
  const m = needle.length;
  const anchor = plan.anchor;
  const byte = needle[anchor] as number;
  const last = to - m;
  // The runtime's search has no end of its own: without one it would look at what is beyond the window.
  const bytes = to === data.length ? data : data.subarray(0, to);
  for (let start = from; start <= last;) {
    const at = indexOfByte(bytes, byte, start + anchor) - anchor;
    if (at < 0 || at > last) break;
    let i = 0;
    while (i < m && bytes[at + i] === needle[i]) i++;
    if (i === m) return at;
    start = at + 1;
    plan.stops++;
    if (m >= SHORTEST_SKIP && plan.stops * BYTES_PER_STOP > plan.looked + start - from + 4096) {
      plan.skipping = true;
      skips.fill(m);
      for (let k = 0; k < m - 1; k++) skips[needle[k] as number] = m - 1 - k;
      return skipTo(bytes, needle, start, to);
    }
  }
  plan.looked += to - from;
  return -1;
}

function skipTo(data: Uint8Array, needle: Uint8Array, from: number, to: number): number {
  const end = needle.length - 1;
  const lastByte = needle[end];
  for (let i = from + end; i < to;) {
    const byte = data[i] as number;
    if (byte === lastByte) {
      let k = end - 1;
      while (k >= 0 && data[i - end + k] === needle[k]) k--;
      if (k < 0) return i - end;
    }
    i += skips[byte] as number;
  }
  return -1;
}
