/**
 * What the rest of the core does with a buffer's bytes: what a host brings and takes. Nothing here asks whether an end
 * is frozen: that is the user's word, and the owner of a buffer froze it against the user.
 */

import {
  carve,
  checkThere,
  Chunk,
  expose,
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
  dropFront,
  FREED,
  linearize,
  lookFront,
  moved,
  movePart,
  relaid,
  relocate,
} from "./chain.ts";
import { part, view } from "../bytes.ts";
import type { Loan } from "../loan.ts";

/** A host chunk under this size is copied when bytes wait already: chunks must not outweigh their bytes. */
const TINY_BYTES = 256;
/** The tail that tiny chunks are gathered in grows to this by copying. */
const GATHER_BYTES = 512;
/** Chunks under this size are gathered into one before they are written. */
const SMALL_BYTES = 4096;
/** The most that is gathered into one write. */
const WRITE_BYTES = 64 * 1024;

/** Appends a host's chunk, which the core owns from here on, or has on loan. */
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

/** Adds few bytes behind others, so that a peer that sends byte by byte does not cost a chunk a byte. */
function gather(chain: Chain, last: Chunk, bytes: Uint8Array): void {
  const n = bytes.length;
  const size = last.end - last.start;
  const inPlace = last.data === pool.memory && last.end === pool.fill && n <= pool.room;
  if (inPlace || last.flags !== 0 || size + n > GATHER_BYTES || chain.side !== null || !isThere(last)) {
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

/** Moves up to `maxBytes` bytes from `source` to `destination`; gives how many. */
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
  if (before > 0) dropFront(chain, before);
  const bytes = lookFront(chain, n);
  if (n + after > 0) dropFront(chain, n + after);
  if (all > 0) changed(chain, origSize, 0, all);
  return bytes;
}

/** What is copied at most. */
const UNPIN_BYTES = 128 * 1024;

/**
 * A transport takes no more for now, or a slow reader is to get more: few bytes that are left of a large piece of memory
 * get memory of their own, so that they don't keep the whole of it. A host's chunk may have half a megabyte.
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
 * The bytes for one write: at most `maxBytes`, in memory that stays as it is after they were consumed, unless it is on
 * {@linkcode loanOf | loan}.
 */
export function firstExtentOf(chain: Chain, maxBytes: number): Uint8Array {
  const first = chain.first;
  if (first === null || maxBytes <= 0) return NONE;
  if (first.next !== null && first.end - first.start < SMALL_BYTES) gatherFront(chain, first);
  return ownedExtent(chain, chain.first as Chunk, maxBytes);
}

/** The loan that the first chunk lies in, or null. */
export function loanOf(chain: Chain): Loan | null {
  const first = chain.first;
  return first === null || (first.flags & HOSTS) === 0 ? null : first.source as Loan;
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

/** Makes one chunk of the small ones at the front. Those that somebody is told of are left alone: copying would release them. */
function gatherFront(chain: Chain, first: Chunk): void {
  let n = 0;
  let chunks = 0;
  for (let chunk: Chunk | null = first; chunk !== null; chunk = chunk.next) {
    const size = chunk.end - chunk.start;
    if (size >= SMALL_BYTES || (chunk.source !== null && (chunk.flags & HOSTS) === 0) || n + size > WRITE_BYTES) break;
    n += size;
    chunks++;
  }
  if (chunks > 1) linearize(chain, n);
}

/** The front of a chunk, in memory that nobody writes to: what was lent is copied, and then is not lent any more. */
function ownedExtent(chain: Chain, chunk: Chunk, maxBytes: number): Uint8Array {
  checkThere(chunk);
  // No more than a write's worth is copied at once, and none of it twice, however little the transport takes.
  if ((chunk.flags & LENT) !== 0) copyLent(chain, chunk, Math.min(chunk.end - chunk.start, WRITE_BYTES));
  return part(chunk.data, chunk.start, Math.min(chunk.end, chunk.start + maxBytes));
}

/** Puts a copy in the place of the first `n` bytes of a lent chunk. The owner is still told when they are consumed. */
function copyLent(chain: Chain, chunk: Chunk, n: number): void {
  const { data, start, end } = chunk;
  const middle = start + n;
  if (middle < end) {
    const rest = new Chunk(data, middle, end, chunk.flags, chunk.source);
    if (chunk.source !== null) chunk.source.users++;
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
