/**
 * The chain of chunks of a buffer, and its primitives. Nothing in this file checks arguments, frozen ends, or whether
 * the buffer was freed. The primitives keep the chain whole but report nothing. An operation ends with {@linkcode
 * changed}, when the chains of all its buffers are whole.
 */

import type { Bits } from "../bits.ts";
import { plain, stateError } from "../checks.ts";
import { type EventError, invariant } from "../errors.ts";
import {
  carve,
  carveReused,
  checkThere,
  Chunk,
  type ChunkBits,
  COUNTED,
  dropUser,
  expose,
  firstReleased,
  handOut,
  HOSTS,
  isThere,
  LARGE_BYTES,
  LENT,
  ON_LOAN,
  pool,
  refill,
  replaceMemory,
  reused,
  REUSED_MOST_BYTES,
  runReleases,
  shareChunk,
  type Slab,
  useMemory,
} from "./chunk.ts";
import { encodeUtf8, writeUtf8 } from "./utf8.ts";
import { view } from "../bytes.ts";
import { appendToSpare, type Reservation } from "./reserve.ts";
import { type Callbacks, runCallbacks } from "./callbacks.ts";
import type { ScanMemo } from "./eol.ts";
import type { Loan } from "../loan.ts";
import type { ChunkMemory } from "../memory.ts";
import type { EvBuffer } from "./evbuffer.ts";

/** Bits of `Chain.state`. */
export type ChainBits = Bits<"chain">;

/** The front is frozen. */
export const FRONT_FROZEN: ChainBits = 1;
/** The back is frozen. */
export const BACK_FROZEN: ChainBits = 2;
/** The buffer was freed. */
export const FREED: ChainBits = 4;
/** Bytes cannot be taken from or added to the front. */
export const FRONT_CLOSED: ChainBits = FRONT_FROZEN | FREED;
/** Bytes cannot be added to the back. */
export const BACK_CLOSED: ChainBits = BACK_FROZEN | FREED;

/**
 * Pieces below this size are copied when a chunk is split. That is cheaper than a chunk, and does not keep the rest in
 * memory.
 */
const SPLIT_COPY_BYTES = 512;

/** Up to this size a loop is cheaper than `set()`. */
const FEW_BYTES = 16;

/** The owner of a buffer. It is told of each change before the program is. */
export interface BufferOwner {
  /** The memory that chunks of the buffer come from. */
  readonly memory: ChunkMemory;
  /** `added` bytes were added and `deleted` bytes were deleted. The buffer is whole and may be used. */
  onBufferChange(buffer: EvBuffer, added: number, deleted: number): void;
  /** An operation of the program has failed, because of the buffer's bytes or its state. */
  onBufferError(error: EventError): void;
  /** A release callback has thrown. Returns whether it was handled; otherwise the error is thrown on. */
  onReleaseError(error: unknown): boolean;
  /** A deferred change callback has thrown, in the loop. Returns whether it was handled. */
  caught(error: unknown): boolean;
}

/** State that only some buffers need. */
export class Rare {
  callbacks: Callbacks | null = null;
  /** Memory of this buffer only, from `expand` and `reserveSpace`. It is filled before the shared slab. */
  spare: Slab | null = null;
  reservation: Reservation | null = null;
}

/** The bytes of one buffer. An idle connection has three, so rare state is in `rare` and `memo`. */
export class Chain {
  first: Chunk | null = null;
  last: Chunk | null = null;
  length = 0;
  /** Bits of the three states above. */
  state: ChainBits = 0;
  /** Changes with every change of the bytes. A position with another version is stale. */
  version = 0;
  /** Changes when chunks change and bytes do not. A position then looks up its chunk anew. */
  layout = 0;
  owner: BufferOwner | null = null;
  rare: Rare | null = null;
  memo: ScanMemo | null = null;
  readonly buffer: EvBuffer;

  constructor(buffer: EvBuffer) {
    this.buffer = buffer;
  }
}

/** What is rare of a chain, made if it has none. */
export function rareOf(chain: Chain): Rare {
  return chain.rare ??= new Rare();
}

/** Ends an operation: reports that the bytes have changed. */
export function changed(chain: Chain, origSize: number, added: number, deleted: number): void {
  chain.version = (chain.version + 1) | 0;
  if (chain.owner !== null) chain.owner.onBufferChange(chain.buffer, added, deleted);
  if (firstReleased !== null || (chain.rare !== null && chain.rare.callbacks !== null)) {
    tell(chain, origSize, added, deleted);
  }
}

/** Ends an operation that moved `n` bytes. It reports the source first, then the destination. */
export function moved(source: Chain, destination: Chain, n: number): void {
  source.version = (source.version + 1) | 0;
  destination.version = (destination.version + 1) | 0;
  const sourceSize = source.length + n;
  const destinationSize = destination.length - n;
  if (source.owner !== null) source.owner.onBufferChange(source.buffer, 0, n);
  if (destination.owner !== null) destination.owner.onBufferChange(destination.buffer, n, 0);
  try {
    if (source.rare !== null && source.rare.callbacks !== null) runCallbacks(source, sourceSize, 0, n);
  } finally {
    if (firstReleased !== null || (destination.rare !== null && destination.rare.callbacks !== null)) {
      tell(destination, destinationSize, n, 0);
    }
  }
}

function tell(chain: Chain, origSize: number, added: number, deleted: number): void {
  try {
    runReleases();
  } catch (error) {
    if (chain.owner === null || !chain.owner.onReleaseError(error)) throw error;
  } finally {
    if (chain.rare !== null && chain.rare.callbacks !== null) runCallbacks(chain, origSize, added, deleted);
  }
}

/** Throws the error for an operation that the chain's state forbids. */
export function refuse(chain: Chain, verb: string): never {
  if ((chain.state & FREED) !== 0) throw blame(chain, stateError(verb, "the buffer was freed", "EV_FREED"));
  throw blame(chain, stateError(verb, "that end of the buffer is frozen", "EV_FROZEN"));
}

/** Tells the owner of the buffer that an operation of the program will throw an error. */
export function blame(chain: Chain, error: EventError): EventError {
  if (chain.owner !== null) chain.owner.onBufferError(error);
  return error;
}

// At the back.

/** Links `chunk` at the back. */
export function linkBack(chain: Chain, chunk: Chunk): void {
  if (chain.last === null) chain.first = chunk;
  else chain.last.next = chunk;
  chain.last = chunk;
  chain.length += chunk.end - chunk.start;
}

/** Takes new chunks from the memory of the buffer's owner. A buffer without an owner takes them from what is in use. */
function useMemoryOf(chain: Chain): void {
  if (pool.shortBytes === 0 && chain.owner !== null) useMemory(chain.owner.memory);
}

/** Copies `bytes` to the back. */
export function appendCopy(chain: Chain, bytes: Uint8Array): void {
  const n = bytes.length;
  const { last } = chain;
  // Rare cases are in separate functions. So V8 compiles the usual way into the loop of a program that adds
  // line by line.
  if (chain.rare !== null || n >= pool.shortBytes || (last !== null && last.flags === ON_LOAN)) {
    if (appendElsewhere(chain, bytes)) return;
  }
  if (last !== null && last.limit !== 0 && last.end !== pool.fill && growApart(chain, last, n)) {
    put(bytes, last.data, last.end - n);
    return;
  }
  if (n > pool.memory.length - pool.fill) refill();
  const at = pool.fill;
  put(bytes, pool.memory, at);
  pool.fill = at + n;
  extendBack(chain, at, n);
}

/**
 * Copies the first `n` bytes of `head`, which are few, and `bytes` to the back.
 *
 * @returns Whether it has: not if they need other memory than the shared slab
 */
export function appendBoth(chain: Chain, head: Uint8Array, n: number, bytes: Uint8Array): boolean {
  const size = bytes.length;
  const { last } = chain;
  if (chain.rare !== null || n + size >= pool.shortBytes || (last !== null && last.flags === ON_LOAN)) return false;
  if (last !== null && last.limit !== 0 && last.end !== pool.fill && growApart(chain, last, n + size)) {
    putBoth(head, n, bytes, last.data, last.end - n - size);
    return true;
  }
  if (n + size > pool.memory.length - pool.fill) refill();
  const at = pool.fill;
  putBoth(head, n, bytes, pool.memory, at);
  pool.fill = at + n + size;
  extendBack(chain, at, n + size);
  return true;
}

/** Copies `bytes` into `memory`. */
function put(bytes: Uint8Array, memory: Uint8Array, at: number): void {
  const n = bytes.length;
  if (n > FEW_BYTES) memory.set(bytes, at);
  else for (let i = 0; i < n; i++) memory[at + i] = bytes[i] as number;
}

function putBoth(head: Uint8Array, n: number, bytes: Uint8Array, memory: Uint8Array, at: number): void {
  for (let i = 0; i < n; i++) memory[at + i] = head[i] as number;
  put(bytes, memory, at + n);
}

/** The most bytes of a chunk that is copied to where it can grow. */
const GROWING_BYTES = 1024;

/**
 * Grows the last chunk by `n` bytes, which the caller then writes, although the slab behind it is used by another buffer. Loops over
 * views of several connections go on in turn. Without this, each of their pieces would be a chunk, and would be copied once more
 * before it is sent.
 *
 * @returns Whether it has
 */
function growApart(chain: Chain, last: Chunk, n: number): boolean {
  if (!canGrow(chain, last, n)) return false;
  last.end += n;
  chain.length += n;
  return true;
}

/** Whether there are `n` bytes behind the last chunk that are its own. A small chunk is copied to where there are. */
function canGrow(chain: Chain, last: Chunk, n: number): boolean {
  const { data, start, end } = last;
  if (end > data.length) return false;
  if (end + n <= last.limit) return true;
  const size = end - start;
  if (size + n > GROWING_BYTES) return false;
  const bytes = Math.min(2 * GROWING_BYTES, 8 * (size + n));
  const at = carve(bytes);
  pool.memory.set(view(data, start, end), at);
  if (chain.memo !== null && chain.memo.chunk === last) chain.memo.at += at - start;
  replaceMemory(last, pool.memory, at, at + size);
  last.limit = at + bytes;
  return true;
}

/** Copies `bytes` to the back if that is memory of the chain, memory that is used again, or new memory. @returns Whether it has */
function appendElsewhere(chain: Chain, bytes: Uint8Array): boolean {
  const n = bytes.length;
  useMemoryOf(chain);
  if (chain.rare !== null) {
    chain.rare.reservation = null;
    if (chain.rare.spare !== null && appendToSpare(chain, chain.rare.spare, bytes)) return true;
  }
  if (n > REUSED_MOST_BYTES) {
    linkBack(chain, new Chunk(new Uint8Array(bytes), 0, n, 0, null));
    return true;
  }
  const { last } = chain;
  if (last !== null && last.flags === ON_LOAN && growsReused(last, n)) {
    last.data.set(bytes, last.end);
    growReused(chain, last, n);
    return true;
  }
  if (n < LARGE_BYTES) return false;
  const at = carveReused(n);
  const { loan } = reused;
  loan.bytes.set(bytes, at);
  loan.users++;
  linkBack(chain, new Chunk(loan.bytes, at, at + n, ON_LOAN, loan));
  return true;
}

/**
 * Whether a chunk can grow by `n` bytes in memory that is used again. A view gives whole chunks beside what waits, so they have a bound.
 */
function growsReused(last: Chunk, n: number): boolean {
  return last.lender === reused.loan && last.end === reused.fill && n <= last.data.length - last.end &&
    last.end - last.start + n <= REUSED_MOST_BYTES;
}

function growReused(chain: Chain, last: Chunk, n: number): void {
  reused.fill += n;
  last.end += n;
  chain.length += n;
}

/** Encodes `text`, which is not empty, to the back. Returns the number of bytes. */
export function appendText(chain: Chain, text: string): number {
  const most = text.length * 3;
  const { last } = chain;
  if (chain.rare !== null || most >= pool.shortBytes || (last !== null && last.flags === ON_LOAN)) {
    const added = appendTextElsewhere(chain, text);
    if (added > 0) return added;
  }
  if (last !== null && last.limit !== 0 && last.end !== pool.fill) {
    const added = appendTextApart(chain, last, text, most);
    if (added > 0) return added;
  }
  if (most > pool.memory.length - pool.fill) refill();
  const at = pool.fill;
  const n = writeUtf8(text, pool.memory, at);
  pool.fill = at + n;
  extendBack(chain, at, n);
  return n;
}

/** As {@linkcode growApart}, and encodes `text` there. @returns The number of bytes; 0 if it has encoded nothing */
function appendTextApart(chain: Chain, last: Chunk, text: string, most: number): number {
  if (!canGrow(chain, last, most)) return 0;
  const n = writeUtf8(text, last.data, last.end);
  last.end += n;
  chain.length += n;
  return n;
}

/** As {@linkcode appendElsewhere}. @returns The number of bytes; 0 if it has encoded nothing */
function appendTextElsewhere(chain: Chain, text: string): number {
  useMemoryOf(chain);
  const most = text.length * 3;
  const hasSpare = chain.rare !== null && chain.rare.spare !== null;
  if (hasSpare || most >= LARGE_BYTES) {
    const bytes = encodeUtf8(text);
    if (hasSpare || bytes.length < LARGE_BYTES) appendCopy(chain, bytes);
    else adoptBack(chain, bytes);
    return bytes.length;
  }
  if (chain.rare !== null) chain.rare.reservation = null;
  const { last } = chain;
  if (last === null || last.flags !== ON_LOAN || !growsReused(last, most)) return 0;
  const n = writeUtf8(text, last.data, last.end);
  growReused(chain, last, n);
  return n;
}

/**
 * `n` bytes of the shared slab, from `at` on, were written for this chain. Its last chunk grows, or a new one begins.
 */
function extendBack(chain: Chain, at: number, n: number): void {
  const last = chain.last;
  if (last !== null && last.end === at && last.data === pool.memory && last.flags === 0) {
    last.end = at + n;
    chain.length += n;
  } else {
    const chunk = new Chunk(pool.memory, at, at + n, 0, null);
    chunk.limit = at + n;
    linkBack(chain, chunk);
  }
}

/** Adopts `bytes` at the back. They are not empty, and have no release callback unless they are on loan. */
export function adoptBack(chain: Chain, bytes: Uint8Array, loan: Loan | null = null): void {
  if (chain.rare !== null) chain.rare.reservation = null;
  linkBack(chain, new Chunk(plain(bytes), 0, bytes.length, loan === null ? 0 : ON_LOAN, loan));
}

// At the front.

/** Copies `bytes` to the front. Nothing is ever written in front of a chunk, because others may see its memory. */
export function prependCopy(chain: Chain, bytes: Uint8Array): void {
  const n = bytes.length;
  let chunk: Chunk;
  if (n >= LARGE_BYTES) {
    chunk = new Chunk(new Uint8Array(bytes), 0, n, 0, null);
  } else {
    useMemoryOf(chain);
    const at = carve(n);
    pool.memory.set(bytes, at);
    chunk = new Chunk(pool.memory, at, at + n, 0, null);
  }
  linkFront(chain, chunk);
}

/** Links `chunk` at the front. */
function linkFront(chain: Chain, chunk: Chunk): void {
  chunk.next = chain.first;
  chain.first = chunk;
  if (chain.last === null) chain.last = chunk;
  chain.length += chunk.end - chunk.start;
  if (chain.memo !== null) forgetAll(chain.memo);
}

/** Drops `n` bytes, 1 to all, from the front. */
export function dropFront(chain: Chain, n: number): void {
  let chunk = chain.first as Chunk;
  let left = n;
  chain.length -= n;
  if (chain.memo !== null) forget(chain.memo, n);
  for (let size = chunk.end - chunk.start; left >= size; size = chunk.end - chunk.start) {
    const next = chunk.next;
    // An old dead chunk must not keep alive all chunks after it.
    chunk.next = null;
    if (chunk.lender !== null) dropUser(chunk.lender);
    left -= size;
    if (next === null) {
      invariant(left === 0 && chain.length === 0, "a buffer holds fewer bytes than its length");
      chain.first = chain.last = null;
      return;
    }
    chunk = next;
  }
  invariant(chain.length > 0, "a buffer holds more bytes than its length");
  chunk.start += left;
  chain.first = chunk;
}

/** Drops `n` bytes from the front of `first`, the first chunk, which has more. */
export function shrinkFirst(chain: Chain, first: Chunk, n: number): void {
  first.start += n;
  chain.length -= n;
  if (chain.memo !== null) forget(chain.memo, n);
}

/** `n` bytes have left the front. What a scan knows about the rest is still valid. */
function forget(memo: ScanMemo, n: number): void {
  if (memo.pos > n) memo.pos -= n;
  else forgetAll(memo);
}

function forgetAll(memo: ScanMemo): void {
  memo.pos = 0;
  memo.chunk = null;
}

/** Chunks have changed and bytes have not. Positions look up their chunks anew. */
export function relaid(chain: Chain): void {
  chain.layout = (chain.layout + 1) | 0;
  if (chain.memo !== null) forgetAll(chain.memo);
}

/** Drops everything. */
export function dropAll(chain: Chain): void {
  for (let chunk = chain.first; chunk !== null; chunk = chunk.next) {
    if (chunk.lender !== null) dropUser(chunk.lender);
  }
  unlinkAll(chain);
}

function unlinkAll(chain: Chain): void {
  chain.first = chain.last = null;
  chain.length = 0;
  if (chain.memo !== null) forgetAll(chain.memo);
  if (chain.rare !== null) chain.rare.reservation = null;
}

// From chain to chain. The two are never the same.

/** Relinks all chunks of `source`, which has some, behind those of `destination`. */
export function moveAllBack(source: Chain, destination: Chain): void {
  if (destination.rare !== null) destination.rare.reservation = null;
  const first = source.first as Chunk;
  const last = destination.last;
  destination.length += source.length;
  if (last === null) {
    destination.first = first;
    destination.last = source.last;
  } else if (goesOn(last, first, first.start, first.end)) {
    last.end = first.end;
    if (first.lender !== null) dropUser(first.lender);
    if (first.next !== null) {
      last.next = first.next;
      destination.last = source.last;
    }
  } else {
    last.next = first;
    destination.last = source.last;
  }
  unlinkAll(source);
}

/**
 * Whether the memory of `chunk` from `start` to `end` follows that of `last`. Then `last` grows, and no chunk is made.
 * So adjacent slices of one chunk are merged again, and leave in one write.
 */
function goesOn(last: Chunk, chunk: Chunk, start: number, end: number): boolean {
  return end - start >= SPLIT_COPY_BYTES && last.end === start && last.data === chunk.data &&
    last.flags === chunk.flags && last.lender === chunk.lender;
}

/** Links `chunk` at the back, or makes the last chunk grow. */
function joinBack(chain: Chain, chunk: Chunk): void {
  const last = chain.last;
  if (last === null || !goesOn(last, chunk, chunk.start, chunk.end)) {
    linkBack(chain, chunk);
    return;
  }
  chain.length += chunk.end - last.end;
  last.end = chunk.end;
  if (chunk.lender !== null) dropUser(chunk.lender);
}

/** Relinks all chunks of `source`, which has some, before those of `destination`. */
export function moveAllFront(source: Chain, destination: Chain): void {
  (source.last as Chunk).next = destination.first;
  destination.first = source.first;
  destination.last ??= source.last;
  destination.length += source.length;
  if (destination.memo !== null) forgetAll(destination.memo);
  unlinkAll(source);
}

/** Moves `n` bytes, 1 to all, of the front of `source` to the back of `destination`. */
export function movePart(source: Chain, destination: Chain, n: number): void {
  if (n >= source.length) {
    moveAllBack(source, destination);
    return;
  }
  if (destination.rare !== null) destination.rare.reservation = null;
  if (source.memo !== null) forget(source.memo, n);
  source.length -= n;
  let left = n;
  let chunk = source.first as Chunk;
  for (let size = chunk.end - chunk.start; left >= size; size = chunk.end - chunk.start) {
    const next = chunk.next;
    invariant(next !== null, "a buffer holds fewer bytes than its length");
    chunk.next = null;
    joinBack(destination, chunk);
    left -= size;
    chunk = next;
  }
  source.first = chunk;
  if (left === 0) return;
  const middle = chunk.start + left;
  const last = destination.last;
  if (last !== null && goesOn(last, chunk, chunk.start, middle)) {
    last.end = middle;
    destination.length += left;
  } else if (left < SPLIT_COPY_BYTES && isThere(chunk)) appendCopy(destination, view(chunk.data, chunk.start, middle));
  else linkBack(destination, shareChunk(chunk, chunk.start, middle));
  chunk.start = middle;
}

// Looking.

const NONE: Uint8Array = /* @__PURE__ */ new Uint8Array(0);

/** Returns the first `n` bytes, 0 to all, as one array that never changes. They stay in the chain. */
export function lookFront(chain: Chain, n: number): Uint8Array {
  if (n === 0) return NONE;
  const chunk = chain.first as Chunk;
  if (n <= chunk.end - chunk.start && (chunk.flags & LENT) === 0) {
    return handOut(chunk, chunk.start, chunk.start + n);
  }
  return copyFront(chain, n);
}

/** A copy of the first `n` bytes, more than 0, in our own memory. */
export function copyFront(chain: Chain, n: number): Uint8Array {
  let copy: Uint8Array;
  if (n >= LARGE_BYTES) {
    copy = new Uint8Array(n);
  } else {
    useMemoryOf(chain);
    const at = carve(n);
    copy = new Uint8Array(pool.memory.buffer, at, n);
  }
  copyTo(chain.first, (chain.first as Chunk).start, n, copy, 0);
  return copy;
}

// A subclass of the program may have its own method, which would then get a view.
const { set } = Uint8Array.prototype;

/** Copies `n` bytes from `at` in `chunk` on. There must be so many. */
export function copyTo(chunk: Chunk | null, at: number, n: number, into: Uint8Array, to: number): void {
  let from = at;
  let left = n;
  let target = to;
  const plainly = into.set === set;
  while (left > 0) {
    checkThere(chunk as Chunk);
    const { data, end, next, flags } = chunk as Chunk;
    const size = Math.min(left, end - from);
    if (size <= FEW_BYTES && plainly) { for (let i = 0; i < size; i++) into[target + i] = data[from + i] as number; }
    else {
      if ((flags & HOSTS) !== 0 && !plainly) expose(chunk as Chunk);
      into.set(view(data, from, from + size), target);
    }
    target += size;
    left -= size;
    chunk = next;
    if (next !== null) from = next.start;
  }
}

/** Makes the first `n` bytes, 1 to all, contiguous. Returns whether chunks changed. */
export function linearize(chain: Chain, n: number): boolean {
  const first = chain.first as Chunk;
  if (n <= first.end - first.start) return false;
  relocate(chain, n);
  return true;
}

/** Replaces the first `n` bytes, 1 to all, by a copy in our own memory. */
export function relocate(chain: Chain, n: number): void {
  const first = chain.first as Chunk;
  let data: Uint8Array;
  let at = 0;
  if (n >= LARGE_BYTES) {
    data = new Uint8Array(n);
  } else {
    useMemoryOf(chain);
    at = carve(n);
    data = pool.memory;
  }
  copyTo(first, first.start, n, data, at);
  const length = chain.length;
  dropFront(chain, n);
  linkFront(chain, new Chunk(data, at, at + n, 0, null));
  chain.length = length;
  relaid(chain);
}

/** The flags of a copy of a chunk with `flags`: it still counts as a user, but its memory is ours. */
export function copiedFlags(flags: ChunkBits): ChunkBits {
  return flags & COUNTED;
}
