/** Takes lines from the front: `readln` with a view for each line, and `eachLine` without views. */

import { checkEol, type EolStyle, stateError } from "../checks.ts";
import { checkThere, type Chunk, dropUser, expose, handOut, LENT } from "./chunk.ts";
import { blame, type Chain, changed, copyFront, dropFront, FRONT_CLOSED, lookFront } from "./chain.ts";
import { hasCallbacks } from "./callbacks.ts";
import {
  findByte,
  findWith,
  hasMemo,
  isSimple,
  lastByteOf,
  scan,
  scanFront,
  simpleOf,
  TAKES_CR,
  takesCr,
  wordsOf,
} from "./eol.ts";

const CR = 13;

/** The callback for a line: its bytes are `bytes` from `start` up to `end`. Returning `false` ends the run. */
export type LineCallback = (bytes: Uint8Array, start: number, end: number) => void | boolean;

/** Takes the first line; null if there is no whole one. */
export function readLine(chain: Chain, style: number, maxBytes: number): Uint8Array | null {
  const chunk = chain.first;
  if (chunk === null) {
    checkEol("read a line", style);
    return null;
  }
  // Checked below, where it matters: another number is not simple.
  const eol = style as EolStyle;
  // The common case: a line in the first chunk, in memory that does not change.
  const simple = simpleOf(eol);
  if (simple >= 0 && (chunk.flags & LENT) === 0 && !hasMemo(chain)) {
    const { start } = chunk;
    const hit = findByte(chunk, simple & 0xff, start, chunk.end);
    if (hit >= 0) {
      const end = (simple & TAKES_CR) !== 0 && hit > start && chunk.data[hit - 1] === CR ? hit - 1 : hit;
      if (end - start > maxBytes) throw tooLong(chain, maxBytes, end - start);
      const line = handOut(chunk, start, end);
      if (chain.rare === null && hit + 1 < chunk.end) {
        // As below, for a program that only takes lines: nothing is released, and there is no callback.
        chunk.start = hit + 1;
        chain.length -= hit + 1 - start;
        chain.version = (chain.version + 1) | 0;
        if (chain.owner !== null) chain.owner.onBufferChange(chain.buffer, 0, hit + 1 - start);
      } else {
        dropLine(chain, end - start, hit + 1 - end);
      }
      return line;
    }
  }
  checkEol("read a line", eol);
  const length = scanFront(chain, eol);
  if (length < 0) {
    if (scan.pos > maxBytes) throw tooLong(chain, maxBytes, scan.pos);
    return null;
  }
  const eolLength = scan.eolLength;
  if (length > maxBytes) throw tooLong(chain, maxBytes, length);
  const line = lookFront(chain, length);
  dropLine(chain, length, eolLength);
  return line;
}

/** Drops a line, then its terminator: two notifications if there are callbacks, as in C (B12). */
function dropLine(chain: Chain, length: number, eolLength: number): void {
  const origSize = chain.length;
  if (length === 0 || !hasCallbacks(chain)) {
    dropFront(chain, length + eolLength);
    changed(chain, origSize, 0, length + eolLength);
    return;
  }
  dropFront(chain, length);
  const front = chain.first as Chunk;
  const at = front.start;
  changed(chain, origSize, 0, length);
  // A callback may have taken the terminator. Then nothing is left to drop.
  if (chain.first !== front || front.start !== at) return;
  const size = chain.length;
  dropFront(chain, eolLength);
  changed(chain, size, 0, eolLength);
}

function tooLong(chain: Chain, maxBytes: number, length: number): Error {
  const why = `it is longer than ${maxBytes} bytes: received ${length}`;
  return blame(chain, stateError("read a line", why, "EV_LINE_TOO_LONG"));
}

/** Calls `fn` with each whole line and drops it. Returns the number of lines. One notification for the whole run. */
export function eachLine(chain: Chain, style: number, fn: LineCallback, maxBytes: number): number {
  const eol = checkEol("read lines", style);
  const run = { lines: 0, deleted: 0 };
  try {
    // `fn` may change the buffer in any way, so each step looks at it anew.
    for (;;) {
      if (isSimple(eol) && !hasMemo(chain) && chain.first !== null) {
        if (!linesOfChunk(chain, chain.first, eol, fn, maxBytes, run)) break;
      }
      if (chain.first === null || (chain.state & FRONT_CLOSED) !== 0) break;
      if (!oneLine(chain, chain.first, eol, fn, maxBytes, run)) break;
    }
  } finally {
    if (run.deleted > 0) changed(chain, chain.length + run.deleted, 0, run.deleted);
  }
  return run.lines;
}

/**
 * Handles the lines in the first chunk.
 *
 * @returns False if `fn` ended the run, true if the rest must be looked at anew
 */
function linesOfChunk(
  chain: Chain,
  chunk: Chunk,
  eol: EolStyle,
  fn: LineCallback,
  maxBytes: number,
  run: { lines: number; deleted: number },
): boolean {
  const byte = lastByteOf(eol);
  const cr = takesCr(eol);
  const { data, end: chunkEnd, lender } = chunk;
  let start = chunk.start;
  checkThere(chunk);
  expose(chunk);
  const words = wordsOf(chunk, chunkEnd - start);
  for (
    let hit = findWith(data, words, byte, start, chunkEnd);
    hit >= 0;
    hit = findWith(data, words, byte, start, chunkEnd)
  ) {
    const end = cr && hit > start && data[hit - 1] === CR ? hit - 1 : hit;
    if (end - start > maxBytes) throw tooLong(chain, maxBytes, end - start);
    const next = hit + 1;
    // The line has left the buffer before `fn` gets it, so `fn` may use the buffer.
    const version = chain.version = (chain.version + 1) | 0;
    run.lines++;
    run.deleted += next - start;
    if (next === chunkEnd) return showLine(chain, next - start, lender, fn, data, start, end);
    chunk.start = next;
    chain.length -= next - start;
    if (fn(data, start, end) === false) return false;
    if (chain.version !== version || (chain.state & FRONT_CLOSED) !== 0) return true;
    start = next;
  }
  return true;
}

/** Handles the first line, wherever it is. */
function oneLine(
  chain: Chain,
  chunk: Chunk,
  eol: EolStyle,
  fn: LineCallback,
  maxBytes: number,
  run: { lines: number; deleted: number },
): boolean {
  const length = scanFront(chain, eol);
  if (length < 0) {
    if (scan.pos > maxBytes) throw tooLong(chain, maxBytes, scan.pos);
    return false;
  }
  if (length > maxBytes) throw tooLong(chain, maxBytes, length);
  const eolLength = scan.eolLength;
  checkThere(chunk);
  const { data, start, end, lender } = chunk;
  const whole = length <= end - start;
  const copy = whole ? data : copyFront(chain, length);
  chain.version = (chain.version + 1) | 0;
  run.lines++;
  run.deleted += length + eolLength;
  if (!whole) return showLine(chain, length + eolLength, lender, fn, copy, 0, length);
  expose(chunk);
  return showLine(chain, length + eolLength, lender, fn, data, start, start + length);
}

/** Drops `n` bytes, then shows a line in memory that is not given back before `fn` has returned. */
function showLine(
  chain: Chain,
  n: number,
  lender: Chunk["lender"],
  fn: LineCallback,
  bytes: Uint8Array,
  start: number,
  end: number,
): boolean {
  if (lender !== null) lender.users++;
  try {
    dropFront(chain, n);
    return fn(bytes, start, end) !== false;
  } finally {
    if (lender !== null) dropUser(lender);
  }
}
