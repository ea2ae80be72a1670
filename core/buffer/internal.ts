/**
 * Functions on a buffer for the rest of the core: get changes before the program does, add and take bytes of an
 * adapter. `mod.ts` exports none of them.
 *
 * None of them checks whether an end is frozen. All of them report to the buffer's owner and callbacks.
 */

import { appendBoth, BACK_CLOSED, blame, type BufferOwner, changed, FRONT_CLOSED, refuse } from "./chain.ts";
import { EventError } from "../errors.ts";
import { cancelCallbacks } from "./callbacks.ts";
import { checkChain } from "./check.ts";
import { type Chunk, DETACHED, lost } from "./chunk.ts";
import { chainOf, checkedChain, type EvBuffer } from "./evbuffer.ts";
import {
  consumeChain,
  extentsOf,
  feedChain,
  firstChunkOf,
  firstExtentOf,
  gatherChain,
  isFrontThere,
  isScattered,
  loanOf,
  moveChain,
  peekChain,
  peekInteger,
  takeChain,
  unpinChain,
} from "./flow.ts";
import type { EolStyle } from "../checks.ts";
import type { Loan } from "../loan.ts";
import { readLine } from "./lines.ts";
import { searchFront } from "./search.ts";

export type { BufferOwner } from "./chain.ts";

/** Sets the owner of `buffer`, which is told of each change before its callbacks; null for none. O(1). */
export function setBufferOwner(buffer: EvBuffer, owner: BufferOwner | null): void {
  chainOf(buffer).owner = owner;
}

/**
 * Appends a chunk that a runtime gave, without copying it; the core owns its memory from here on, or has it on loan.
 * O(1).
 *
 * A chunk of a few bytes behind others is copied, so that a peer that sends byte by byte does not cost a chunk for each
 * byte.
 */
export function feed(buffer: EvBuffer, chunk: Uint8Array, loan: Loan | null = null): void {
  feedChain(chainOf(buffer), chunk, loan);
}

/** Moves up to `maxBytes` bytes from the front of `src` to the back of `dst`. Returns their number. O(chunks moved). */
export function moveBytes(src: EvBuffer, dst: EvBuffer, maxBytes: number): number {
  return moveChain(chainOf(src), chainOf(dst), maxBytes);
}

/** Drops up to `n` bytes from the front. O(chunks dropped). */
export function consume(buffer: EvBuffer, n: number): void {
  consumeChain(chainOf(buffer), n);
}

/**
 * Returns the first bytes for one write of a transport: at most `maxBytes`, contiguous, not dropped. The transport may
 * hold the memory for as long as it likes, because nobody writes to it unless it is on loan. Empty if there are none.
 *
 * Small chunks are gathered into one first. O(1), or O(bytes gathered).
 */
export function firstExtent(buffer: EvBuffer, maxBytes: number): Uint8Array {
  return firstExtentOf(chainOf(buffer), maxBytes);
}

/** As {@linkcode firstExtent}, but the chunk itself, from whose `start` on bytes may leave. The buffer has bytes. */
export function firstChunk(buffer: EvBuffer): Chunk {
  return firstChunkOf(chainOf(buffer));
}

/**
 * The loan of the bytes that {@linkcode firstExtent} has just returned, or null. Holders of these bytes must count.
 * O(1).
 */
export function extentLoan(buffer: EvBuffer): Loan | null {
  return loanOf(chainOf(buffer));
}

/** As {@linkcode firstExtent}, in at most `maxVecs` pieces of memory that never changes. */
export function extents(buffer: EvBuffer, maxBytes: number, maxVecs: number): Uint8Array[] {
  return extentsOf(chainOf(buffer), maxBytes, maxVecs);
}

/** Whether the first `n` bytes are in several chunks that are better copied into one for a write. O(1). */
export function scattered(buffer: EvBuffer, n: number): boolean {
  return isScattered(chainOf(buffer), n);
}

/**
 * Copies the first bytes for one write, at most `maxBytes`, to the front of `into`. They are not dropped. Returns their number:
 * fewer than there is space for if a large chunk follows, which leaves alone. O(bytes).
 */
export function gather(buffer: EvBuffer, maxBytes: number, into: Uint8Array): number {
  return gatherChain(chainOf(buffer), maxBytes, into);
}

/**
 * The rest waits. If it is a few bytes of a large piece of memory, they are copied. O(bytes copied), no more than 128
 * KiB.
 */
export function unpin(buffer: EvBuffer): void {
  unpinChain(chainOf(buffer));
}

/**
 * Takes `n` bytes from the front as one array that never changes, and drops `before` bytes before them and `after`
 * behind them. Returns null, and takes nothing, if there are fewer in all. One notification. O(1) if they are in one
 * chunk, otherwise O(n).
 */
export function take(buffer: EvBuffer, n: number, before = 0, after = 0): Uint8Array | null {
  return takeChain(chainOf(buffer), n, before, after);
}

/**
 * Finds `needle` from the front on; −1 if it is not there. If a search for the same array found nothing before, it goes
 * on with the new bytes. O(new bytes).
 */
export function findFront(buffer: EvBuffer, needle: Uint8Array): number {
  return searchFront(chainOf(buffer), needle);
}

/** Marks an error as one about the bytes of `buffer`, and returns it. */
export function blameBuffer(buffer: EvBuffer, error: EventError): EventError {
  return blame(chainOf(buffer), error);
}

/** As `EvBuffer.readln()`, for options that were checked. */
export function takeLine(buffer: EvBuffer, eol: EolStyle, maxBytes: number): Uint8Array | null {
  const chain = checkedChain("read a line", buffer);
  if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "read a line");
  return readLine(chain, eol, maxBytes);
}

/**
 * The unsigned integer of the first `n` bytes, 1 to 8, which stay; below 0 if there are fewer. Throws as {@linkcode checkFront}.
 */
export function peekNumber(buffer: EvBuffer, verb: string, n: number, littleEndian: boolean): number {
  const chain = checkedChain(verb, buffer);
  if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, verb);
  return peekInteger(chain, n, littleEndian);
}

/**
 * Copies up to `n` bytes, which are few, from the front to that of `into`; they stay. Throws as {@linkcode checkFront}.
 * Returns their number. O(n).
 */
export function peekFront(buffer: EvBuffer, verb: string, into: Uint8Array, n: number): number {
  const chain = checkedChain(verb, buffer);
  if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, verb);
  return peekChain(chain, into, n);
}

/** Adds the first `n` bytes of `head`, which are few, and then `bytes`, as `EvBuffer.add()` does. O(bytes). */
export function addBoth(buffer: EvBuffer, head: Uint8Array, n: number, bytes: Uint8Array): void {
  const chain = chainOf(buffer);
  if ((chain.state & BACK_CLOSED) === 0) {
    const origSize = chain.length;
    if (appendBoth(chain, head, n, bytes)) {
      changed(chain, origSize, chain.length - origSize, 0);
      return;
    }
  }
  // With change callbacks, they are two additions.
  buffer.add(head.subarray(0, n));
  buffer.add(bytes);
}

/** Throws unless it is a buffer. O(1). */
export function checkEvBuffer(verb: string, value: EvBuffer): void {
  checkedChain(verb, value);
}

/** Throws, with `verb` in the message, unless it is a buffer with a front that is not frozen. O(1). */
export function checkFront(buffer: EvBuffer, verb: string): void {
  const chain = checkedChain(verb, buffer);
  if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, verb);
}

/** No change callback of a buffer is called any more. */
export function silenceBuffer(buffer: EvBuffer): void {
  cancelCallbacks(chainOf(buffer));
}

/** The error if the memory of the first `n` bytes is gone; null if it is there. O(chunks). */
export function lostIn(buffer: EvBuffer, n: number): EventError | null {
  return isFrontThere(chainOf(buffer), n) ? null : lost();
}

/** The error, if its code is that of memory that is gone; null for any other. */
export function asDetached(error: unknown): EventError | null {
  return error instanceof EventError && error.code === DETACHED ? error : null;
}

/** Throws unless the buffer's invariants hold. For tests. O(chunks). */
export function checkBuffer(buffer: EvBuffer): void {
  checkChain(chainOf(buffer));
}
