/**
 * The operations of the rest of the core on a buffer's bytes: those that an adapter brings and takes. Nothing here
 * checks whether an end is frozen, because the owner of a buffer freezes it only for the program.
 */

import {
  carve,
  checkThere,
  Chunk,
  expose,
  handOut,
  HOSTS,
  isThere,
  LARGE_BYTES,
  LENT,
  ON_LOAN,
  pool,
  replaceMemory,
} from "./chunk.ts";
import {
  adoptBack,
  appendCopy,
  type Chain,
  changed,
  copiedFlags,
  copyTo,
  dropFront,
  FREED,
  linearize,
  lookFront,
  moved,
  movePart,
  relaid,
  relocate,
  shrinkFirst,
} from "./chain.ts";
import { part, view } from "../bytes.ts";
import type { Loan } from "../loan.ts";

/**
 * An adapter's chunk below this size is copied if bytes wait already, because a chunk object costs more than its bytes.
 */
const TINY_BYTES = 256;
/** The size up to which the last chunk grows by copying tiny chunks. */
const GATHER_BYTES = 512;
/** Chunks below this size are gathered into one before they are written. */
const SMALL_BYTES = 4096;
/** The most bytes of small chunks that are gathered into one chunk. */
const GATHERED_BYTES = 256 * 1024;
/** The most bytes of a lent chunk that are copied at once. */
const COPIED_BYTES = 64 * 1024;

/** Appends an adapter's chunk. The core owns it from here on, or has it on loan. */
export function feedChain(chain: Chain, bytes: Uint8Array, loan: Loan | null): void {
  const n = bytes.length;
  if (n === 0 || (chain.state & FREED) !== 0) {
    if (loan !== null) loan.drop();
    return;
  }
  const origSize = chain.length;
  const last = chain.last;
  if (last !== null && n < TINY_BYTES) {
    gather(chain, last, bytes);
    if (loan !== null) loan.drop();
  } else adoptBack(chain, bytes, loan);
  changed(chain, origSize, n, 0);
}

/** Adds few bytes behind others, so that a peer that sends byte by byte does not cost a chunk for each byte. */
function gather(chain: Chain, last: Chunk, bytes: Uint8Array): void {
  const n = bytes.length;
  const size = last.end - last.start;
  const inPlace = last.data === pool.memory && last.end === pool.fill && n <= pool.room;
  if (inPlace || last.flags !== 0 || size + n > GATHER_BYTES || chain.rare !== null || !isThere(last)) {
    appendCopy(chain, bytes);
    return;
  }
  const at = carve(size + n);
  pool.memory.set(view(last.data, last.start, last.end), at);
  pool.memory.set(bytes, at + size);
  if (chain.memo !== null && chain.memo.chunk === last) chain.memo.at += at - last.start;
  replaceMemory(last, pool.memory, at, at + size + n);
  chain.length += n;
}

/** Moves up to `maxBytes` bytes from `source` to `destination`. Returns their number. */
export function moveChain(source: Chain, destination: Chain, maxBytes: number): number {
  const n = Math.min(maxBytes, source.length);
  if (n <= 0 || source === destination || (destination.state & FREED) !== 0) return 0;
  movePart(source, destination, n);
  moved(source, destination, n);
  return n;
}

/** Drops up to `n` bytes. */
export function consumeChain(chain: Chain, n: number): void {
  const origSize = chain.length;
  const dropped = Math.min(n, origSize);
  if (dropped <= 0) return;
  dropFront(chain, dropped);
  changed(chain, origSize, 0, dropped);
}

/** Takes `n` bytes, and drops `before` and `after` around them; null when there are fewer. */
export function takeChain(chain: Chain, n: number, before: number, after: number): Uint8Array | null {
  const origSize = chain.length;
  const all = before + n + after;
  if (all > origSize) return null;
  const { first } = chain;
  if (first !== null && n > 0 && all < first.end - first.start && (first.flags & LENT) === 0) {
    // The usual case: one of several in a chunk.
    const start = first.start + before;
    const bytes = handOut(first, start, start + n);
    shrinkFirst(chain, first, all);
    changed(chain, origSize, 0, all);
    return bytes;
  }
  if (before > 0) dropFront(chain, before);
  const bytes = lookFront(chain, n);
  if (n + after > 0) dropFront(chain, n + after);
  if (all > 0) changed(chain, origSize, 0, all);
  return bytes;
}

/** Copies up to `n` bytes, which are few, from the front to that of `into`. @returns Their number */
export function peekChain(chain: Chain, into: Uint8Array, n: number): number {
  const { first, length } = chain;
  if (first === null) return 0;
  const most = Math.min(n, length);
  if (most > first.end - first.start) {
    copyTo(first, first.start, most, into, 0);
    return most;
  }
  checkThere(first);
  const { data, start } = first;
  for (let i = 0; i < most; i++) into[i] = data[start + i] as number;
  return most;
}

/** For a number that is in several chunks. */
const pieces = /* @__PURE__ */ new Uint8Array(8);

/** The unsigned integer of the first `n` bytes; below 0 if there are fewer. */
export function peekInteger(chain: Chain, n: number, littleEndian: boolean): number {
  const { first } = chain;
  if (first === null || chain.length < n) return -1;
  checkThere(first);
  let { data, start } = first;
  if (n > first.end - start) {
    copyTo(first, start, n, pieces, 0);
    data = pieces;
    start = 0;
  }
  const step = littleEndian ? -1 : 1;
  let at = littleEndian ? start + n - 1 : start;
  // Bits for as long as they are enough: a number with a fraction for V8 would be an object.
  let value = data[at] as number;
  if (n <= 4) {
    for (let i = 1; i < n; i++) value = value << 8 | data[at += step] as number;
    return value >>> 0;
  }
  for (let i = 1; i < n; i++) value = value * 256 + (data[at += step] as number);
  return value;
}

/** The largest number of bytes that is copied. */
const UNPIN_BYTES = 128 * 1024;

/**
 * Called when a transport takes no more for now, or before a slow reader gets more. If few bytes of a large piece of
 * memory are left, they are copied, so that they do not keep all of it. An adapter's chunk may have half a megabyte.
 */
export function unpinChain(chain: Chain): void {
  const n = chain.length;
  const first = chain.first;
  if (first === null || n > UNPIN_BYTES || first.data.length < LARGE_BYTES || first.data.length < 4 * n) return;
  for (let chunk: Chunk | null = first; chunk !== null; chunk = chunk.next) {
    if ((chunk.flags !== 0 && chunk.flags !== ON_LOAN) || !isThere(chunk)) return;
  }
  relocate(chain, n);
}

/** Whether the memory of the first `n` bytes is there. */
export function isFrontThere(chain: Chain, n: number): boolean {
  let left = n;
  for (let chunk = chain.first; chunk !== null && left > 0; chunk = chunk.next) {
    if (!isThere(chunk)) return false;
    left -= chunk.end - chunk.start;
  }
  return true;
}

const NONE: Uint8Array = /* @__PURE__ */ new Uint8Array(0);

/**
 * The bytes for one write: at most `maxBytes`. Their memory does not change after they were consumed, unless it is on
 * {@linkcode loanOf | loan}.
 */
export function firstExtentOf(chain: Chain, maxBytes: number): Uint8Array {
  const first = chain.first;
  if (first === null || maxBytes <= 0) return NONE;
  if (first.next !== null && first.end - first.start < SMALL_BYTES) gatherFront(chain, first);
  return ownedExtent(chain, chain.first as Chunk, maxBytes);
}

/** As {@linkcode firstExtentOf}, but the chunk itself. Only for a chain that is not empty. */
export function firstChunkOf(chain: Chain): Chunk {
  const first = chain.first as Chunk;
  if (first.next !== null && first.end - first.start < SMALL_BYTES) gatherFront(chain, first);
  const chunk = chain.first as Chunk;
  own(chain, chunk);
  return chunk;
}

/** A chunk of this size and more leaves alone, because copying it costs as much as another write. */
const ALONE_BYTES = 64 * 1024;

/** Whether the first `n` bytes are in several chunks that are better copied into one. */
export function isScattered(chain: Chain, n: number): boolean {
  const first = chain.first;
  if (first === null || first.next === null) return false;
  const { next } = first;
  return first.end - first.start < Math.min(n, ALONE_BYTES) && next.end - next.start < ALONE_BYTES;
}

/** Copies bytes of the front, at most `maxBytes`, up to a chunk that leaves alone. They stay in the chain. @returns Their number */
export function gatherChain(chain: Chain, maxBytes: number, into: Uint8Array): number {
  const most = Math.min(maxBytes, into.length);
  let n = 0;
  for (let chunk = chain.first; chunk !== null && n < most; chunk = chunk.next) {
    const size = chunk.end - chunk.start;
    if (size >= ALONE_BYTES) break;
    n += size;
  }
  if (n > most) n = most;
  copyTo(chain.first, (chain.first as Chunk).start, n, into, 0);
  return n;
}

/** The loan of the first chunk, or null. */
export function loanOf(chain: Chain): Loan | null {
  const first = chain.first;
  return first === null || (first.flags & HOSTS) === 0 ? null : first.lender as Loan;
}

/** The bytes for one vectored write: at most `maxBytes` in at most `maxVecs` pieces. */
export function extentsOf(chain: Chain, maxBytes: number, maxVecs: number): Uint8Array[] {
  const vecs: Uint8Array[] = [];
  const first = chain.first;
  if (first !== null && first.next !== null && first.end - first.start < SMALL_BYTES) gatherFront(chain, first);
  let left = maxBytes;
  for (let chunk = chain.first; chunk !== null && left > 0 && vecs.length < maxVecs; chunk = chunk.next) {
    expose(chunk);
    const extent = ownedExtent(chain, chunk, left);
    vecs.push(extent);
    left -= extent.length;
    if (extent.length < chunk.end - chunk.start) break;
  }
  return vecs;
}

/**
 * Gathers the small chunks at the front into one. Chunks with a release callback are left alone, because copying would
 * release them.
 */
function gatherFront(chain: Chain, first: Chunk): void {
  let n = 0;
  let chunks = 0;
  for (let chunk: Chunk | null = first; chunk !== null; chunk = chunk.next) {
    const size = chunk.end - chunk.start;
    if (size >= SMALL_BYTES || (chunk.lender !== null && (chunk.flags & HOSTS) === 0) || n + size > GATHERED_BYTES) {
      break;
    }
    n += size;
    chunks++;
  }
  if (chunks > 1) linearize(chain, n);
}

/**
 * The front of a chunk, in memory that does not change. Lent memory is copied, and is then not lent any more.
 */
function ownedExtent(chain: Chain, chunk: Chunk, maxBytes: number): Uint8Array {
  own(chain, chunk);
  return part(chunk.data, chunk.start, Math.min(chunk.end, chunk.start + maxBytes));
}

/** Makes sure that a transport may hold the first bytes of a chunk. */
function own(chain: Chain, chunk: Chunk): void {
  checkThere(chunk);
  // No more than a write's worth is copied at once, and none of it twice, however little the transport takes.
  if ((chunk.flags & LENT) !== 0) copyLent(chain, chunk, Math.min(chunk.end - chunk.start, COPIED_BYTES));
}

/** Replaces the first `n` bytes of a lent chunk by a copy. The owner is still told when they are consumed. */
function copyLent(chain: Chain, chunk: Chunk, n: number): void {
  const { data, start, end } = chunk;
  const middle = start + n;
  if (middle < end) {
    const rest = new Chunk(data, middle, end, chunk.flags, chunk.lender);
    if (chunk.lender !== null) chunk.lender.users++;
    rest.next = chunk.next;
    if (chain.last === chunk) chain.last = rest;
    chunk.next = rest;
  }
  if (n < LARGE_BYTES) {
    const at = carve(n);
    pool.memory.set(view(data, start, middle), at);
    replaceMemory(chunk, pool.memory, at, at + n);
  } else {
    replaceMemory(chunk, data.slice(start, middle), 0, n);
  }
  chunk.flags = copiedFlags(chunk.flags);
  relaid(chain);
}
