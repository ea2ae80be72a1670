/**
 * What the rest of the core may do with a buffer and users may not: hear of changes before they do, bring and take a
 * host's bytes. None of it is exported by `mod.ts`.
 *
 * None of these asks whether an end is frozen; all of them tell the buffer's owner and its callbacks.
 */

import { blame, type BufferOwner, FRONT_CLOSED, refuse } from "./chain.ts";
import { EventError } from "../errors.ts";
import { cancelCallbacks } from "./callbacks.ts";
import { checkChain } from "./check.ts";
import { DETACHED, lost } from "./chunk.ts";
import { chainOf, checkedChain, type EvBuffer } from "./evbuffer.ts";
import {
  consumeChain,
  extentsOf,
  feedChain,
  firstExtentOf,
  isFrontThere,
  loanOf,
  moveChain,
  takeChain,
  unpinChain,
} from "./flow.ts";
import type { Loan } from "../loan.ts";
import { searchFront } from "./search.ts";

export type { BufferOwner } from "./chain.ts";

/**
 * Sets who hears of each change of `buffer` before its callbacks do; null for nobody. O(1).
 */
export function setBufferOwner(buffer: EvBuffer, owner: BufferOwner | null): void {
  chainOf(buffer).owner = owner;
}

/**
 * Appends a chunk that a host gave, without copying it; the core owns its memory from here on, or has it on loan. O(1).
 *
 * A chunk of a few bytes behind others is copied, so that a peer that sends byte by byte does not cost a chunk a byte.
 */
export function feed(buffer: EvBuffer, chunk: Uint8Array, loan: Loan | null = null): void {
  feedChain(chainOf(buffer), chunk, loan);
}

/** Moves up to `maxBytes` bytes of the front of `src` to the back of `dst`; gives how many. O(chunks moved). */
export function moveBytes(src: EvBuffer, dst: EvBuffer, maxBytes: number): number {
  return moveChain(chainOf(src), chainOf(dst), maxBytes);
}

/** Drops up to `n` bytes off the front. O(chunks dropped). */
export function consume(buffer: EvBuffer, n: number): void {
  consumeChain(chainOf(buffer), n);
}

/**
 * Gives bytes at the front to hand to a transport in one write: at most `maxBytes`, in one piece, not dropped. The
 * transport may hold the memory for as long as it likes: nobody writes to it, unless it is on loan. Empty when there are
 * none.
 *
 * Small chunks are gathered into one first. O(1), or O(bytes gathered).
 */
export function firstExtent(buffer: EvBuffer, maxBytes: number): Uint8Array {
  return firstExtentOf(chainOf(buffer), maxBytes);
}

/** The loan in which the bytes lie that {@linkcode firstExtent} has just given, or null. Who holds them counts. O(1). */
export function extentLoan(buffer: EvBuffer): Loan | null {
  return loanOf(chainOf(buffer));
}

/** As {@linkcode firstExtent}, but never to change, in at most `maxVecs` pieces. */
export function extents(buffer: EvBuffer, maxBytes: number, maxVecs: number): Uint8Array[] {
  return extentsOf(chainOf(buffer), maxBytes, maxVecs);
}

/** The rest waits: few bytes of a large piece of memory are copied out of it. O(bytes copied), no more than 128 KiB. */
export function unpin(buffer: EvBuffer): void {
  unpinChain(chainOf(buffer));
}

/**
 * Takes `n` bytes off the front, as one array that stays what it is for as long as someone keeps it, and drops `before`
 * bytes before them and `after` behind them; null, and nothing is taken, when there are fewer in all. One notification.
 * O(1) when they lie in one chunk, else O(n).
 */
export function take(buffer: EvBuffer, n: number, before = 0, after = 0): Uint8Array | null {
  return takeChain(chainOf(buffer), n, before, after);
}

/**
 * Finds `needle` from the front on; −1 when it is not there. A search for the same array that found nothing is gone on
 * with, not repeated, when bytes have been added since. O(bytes that are new).
 */
export function findFront(buffer: EvBuffer, needle: Uint8Array): number {
  return searchFront(chainOf(buffer), needle);
}

/** Says that an error is about what is in `buffer`, and gives the error. */
export function blameBuffer(buffer: EvBuffer, error: EventError): EventError {
  return blame(chainOf(buffer), error);
}

/** Throws unless it is a buffer. O(1). */
export function checkEvBuffer(verb: string, value: EvBuffer): void {
  checkedChain(verb, value);
}

/** Throws, with `verb` in the message, unless it is a buffer of which the user may take bytes off the front. O(1). */
export function checkFront(buffer: EvBuffer, verb: string): void {
  const chain = checkedChain(verb, buffer);
  if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, verb);
}

/** No change callback of a buffer is called any more. */
export function silenceBuffer(buffer: EvBuffer): void {
  cancelCallbacks(chainOf(buffer));
}

/** What is wrong when the memory of the first `n` bytes is gone; null when it is there. O(chunks). */
export function lostIn(buffer: EvBuffer, n: number): EventError | null {
  return isFrontThere(chainOf(buffer), n) ? null : lost();
}

/** The error, if it says that the memory of a buffer's bytes is gone; null for any other. */
export function asDetached(error: unknown): EventError | null {
  return error instanceof EventError && error.code === DETACHED ? error : null;
}

/** Throws unless the buffer's invariants hold. For tests. O(chunks). */
export function checkBuffer(buffer: EvBuffer): void {
  checkChain(chainOf(buffer));
}
