/**
 * The chunks of a buffer's chain, the shared memory of small ones, and the count of users of memory that must be given
 * back.
 *
 * One rule makes all sharing safe: no buffer ever writes again to a byte that is in a chunk. So chunks of several
 * buffers may share memory, and nothing must be marked as read-only. The rule also holds for memory that is used again
 * (`loan.ts`), an adapter's or our own: it goes back when no chunk has it any more, and never if a view was handed out.
 */

import type { Bits } from "../bits.ts";
import { stateError } from "../checks.ts";
import { type EventError, invariant } from "../errors.ts";
import { copying, part } from "../bytes.ts";
import { Loan } from "../loan.ts";
import { type ChunkMemory, processMemory } from "../memory.ts";

// ---- memory for small pieces: a slab is filled forward and never filled again, so a view of bytes that were once handed
// out stays what it was for as long as someone keeps it. The collector takes a slab when the last view of it is gone.

/**
 * The size of a shared slab. One small piece that is kept keeps a whole slab in memory, so a slab is as small as
 * possible without a measurable cost for new memory (64 KiB is not faster than 16 on any of the three runtimes).
 */
export const SLAB_BYTES: number = 16 * 1024;

/** Pieces of this size and more get their own memory. */
export const LARGE_BYTES = 4096;

/** Memory that is filled forward. */
export class Slab {
  /** The memory. It is empty after it was detached. */
  memory: Uint8Array;
  /** The beginning of the free part. A chunk that ends exactly here may grow in place. */
  fill = 0;

  constructor(bytes: number) {
    this.memory = new Uint8Array(bytes);
  }

  /** The number of free bytes. Negative after the memory was transferred. */
  get room(): number {
    return this.memory.length - this.fill;
  }
}

/** The slab that buffers share; empty until the first use. */
class Pool extends Slab {
  /**
   * Pieces of this size and more do not take the shortest way. It is 0 in a process with a simulator: then each piece
   * finds the memory of its buffer first, by {@linkcode useMemory}. A number, because the size is compared anyway.
   */
  shortBytes: number = LARGE_BYTES;
}

/** The slab that is in use. */
export const pool: Pool = /* @__PURE__ */ new Pool(0);

/**
 * Takes `n` bytes, less than {@linkcode LARGE_BYTES}, of the shared slab. They are in `pool.memory`, from the returned
 * offset on.
 */
export function carve(n: number): number {
  if (n > pool.memory.length - pool.fill) refill();
  const at = pool.fill;
  pool.fill = at + n;
  return at;
}

/** Replaces the slab by a new one. */
export function refill(): void {
  pool.memory = new Uint8Array(SLAB_BYTES);
  pool.fill = 0;
}

// ---- memory for larger pieces that are copied: it is on loan, so it is used again when all bytes in it were sent or dropped,
// and no view of it was handed out. New memory costs twice: it is zeroed, and collected.

/** The size of memory that is used again. */
const REUSED_BYTES = 64 * 1024;
/** Pieces of more bytes get their own memory. */
export const REUSED_MOST_BYTES: number = REUSED_BYTES / 2;
/** How many pieces of memory are kept for later. */
const KEPT = 16;

const kept: Loan[] = [];

/** The memory that is being filled: on loan to this object as well, until the next one is taken. */
export const reused: { loan: Loan; fill: number } = /* @__PURE__ */ (() => ({ loan: firstLoan(), fill: 0 }))();

/** Memory without space. */
function firstLoan(): Loan {
  const loan = new Loan(new Uint8Array(0), () => {});
  loan.users = 1;
  return loan;
}

/**
 * Takes `n` bytes, at most {@linkcode REUSED_MOST_BYTES}, of memory that is used again. They are in `reused.loan`, from the
 * returned offset on.
 */
export function carveReused(n: number): number {
  const { loan } = reused;
  // Nothing of it is used any more: start again, with memory that the processor has in its caches.
  if (loan.users === 1 && !loan.seen) reused.fill = 0;
  if (n > loan.bytes.length - reused.fill) {
    const next = kept.pop() ?? new Loan(new Uint8Array(REUSED_BYTES), keep);
    next.users = 1;
    reused.loan = next;
    reused.fill = 0;
    loan.drop();
  }
  const at = reused.fill;
  reused.fill = at + n;
  return at;
}

/** The memory whose state is in `pool` and `reused`. */
let inUse: ChunkMemory = processMemory;

/** From now on each buffer takes its chunks from its own memory: the process has a simulator. */
export function separateMemory(): void {
  pool.shortBytes = 0;
}

/**
 * Takes new chunks from `memory` from now on. So where chunks begin depends only on what the users of this memory do: a
 * program that looks at chunks sees the same ones in each run of a seed.
 */
export function useMemory(memory: ChunkMemory): void {
  if (memory !== inUse) exchangeMemory(memory);
}

function exchangeMemory(memory: ChunkMemory): void {
  inUse.slab = pool.memory;
  inUse.slabFill = pool.fill;
  inUse.loan = reused.loan;
  inUse.loanFill = reused.fill;
  pool.memory = memory.slab ?? new Uint8Array(0);
  pool.fill = memory.slabFill;
  reused.loan = memory.loan ?? firstLoan();
  reused.fill = memory.loanFill;
  inUse = memory;
}

function keep(loan: Loan): void {
  if (kept.length < KEPT) kept.push(loan);
}

// ---- chunks

/** Bits of `Chunk.flags`. */
export type ChunkBits = Bits<"chunk">;

/** The owner may reuse the memory after it is released, so bytes that are kept longer must be copied. */
export const LENT: ChunkBits = 1;
/** The chunk came from another buffer by `addBufferReference`. */
export const MULTICAST: ChunkBits = 2;
/** The chunk is a part of a file segment. */
export const FILE: ChunkBits = 4;
/** The chunk counts as a user of its lender. */
export const COUNTED: ChunkBits = 8;
/** The lender is a {@linkcode Loan}: an adapter's memory, which it reuses unless a view was handed out. */
export const HOSTS: ChunkBits = 16;
/** The flags of a chunk of a loan that no other buffer shares. */
export const ON_LOAN: ChunkBits = COUNTED | HOSTS;

/** The code of the error when a chunk's memory is gone. */
export const DETACHED = "EV_DETACHED";

/** A window of memory in a chain. Never empty while it is linked. */
export class Chunk {
  /** A plain `Uint8Array`, never a subclass. */
  data: Uint8Array;
  /** The first byte of the window. */
  start: number;
  /** Past the last byte of the window. */
  end: number;
  /** The kind of memory, of the bits above; 0 for memory without a release callback. */
  flags: ChunkBits;
  /** The owner that needs it back; null unless `COUNTED`. */
  lender: Lender | Loan | null;
  /**
   * Memory from `end` up to here is this chunk's alone, so it can grow in place. No more than `end` if there is none; 0 if the
   * memory is not that of a shared slab.
   */
  limit = 0;
  /** The chunk behind this one. */
  next: Chunk | null = null;
  /** The memory as four-byte words, from its first byte on. The first search that needs it makes it. */
  words: Int32Array | null = null;
  /** The memory's buffer after the first use. Reading it is a call into the JavaScript engine on V8. */
  buffer: ArrayBufferLike | null = null;

  constructor(data: Uint8Array, start: number, end: number, flags: ChunkBits, lender: Lender | Loan | null) {
    this.data = data;
    this.start = start;
    this.end = end;
    this.flags = flags;
    this.lender = lender;
  }
}

/** Whether the memory of a chunk is there. The program may have transferred it to a worker, or made it smaller. */
export function isThere(chunk: Chunk): boolean {
  return chunk.end <= chunk.data.length;
}

/** Throws unless the memory of a chunk is there. Call it before reading: JavaScript would silently read nothing. */
export function checkThere(chunk: Chunk): void {
  if (chunk.end > chunk.data.length) throw lost();
}

/** The error for memory that is gone. */
export function lost(): EventError {
  return stateError("use the bytes of a buffer", "their memory was transferred or made smaller", DETACHED);
}

/** Memory whose owner is told when its last user is done. */
export class Lender {
  /** The number of chunks and handles that use it. */
  users = 1;
  /** The lender released after this one; see {@linkcode runReleases}. */
  next: Lender | null = null;
  readonly bytes: Uint8Array;
  private readonly onRelease: (bytes: Uint8Array) => void;

  constructor(bytes: Uint8Array, onRelease: (bytes: Uint8Array) => void) {
    this.bytes = bytes;
    this.onRelease = onRelease;
  }

  /** Tells the owner. */
  tell(): void {
    this.onRelease(this.bytes);
  }
}

/** The bytes of `chunk` from `start` to `end` to hand out, in memory that never changes. */
export function handOut(chunk: Chunk, start: number, end: number): Uint8Array {
  expose(chunk);
  checkThere(chunk);
  const { data } = chunk;
  const n = end - start;
  // The buffer is worth a call if more is likely to be taken from the chunk.
  if (n <= copying.cheapBytes || (chunk.buffer === null && chunk.end - end < n)) return part(data, start, end);
  const buffer = chunk.buffer ??= data.buffer;
  // On V8 half the cost of subarray().
  return new Uint8Array(buffer, data.byteOffset + start, n);
}

/**
 * The memory of `chunk` is shown to code that may keep a view of it, so it must not change any more. Every path out of
 * the core calls this, or copies.
 */
export function expose(chunk: Chunk): void {
  if ((chunk.flags & HOSTS) !== 0) (chunk.lender as Loan).seen = true;
}

/** The same bytes are in other memory now. */
export function replaceMemory(chunk: Chunk, data: Uint8Array, start: number, end: number): void {
  chunk.data = data;
  chunk.start = start;
  chunk.end = end;
  chunk.limit = 0;
  chunk.words = null;
  chunk.buffer = null;
}

/** Another window of the same memory. */
export function shareChunk(chunk: Chunk, start: number, end: number): Chunk {
  if (chunk.lender !== null) chunk.lender.users++;
  return new Chunk(chunk.data, start, end, chunk.flags, chunk.lender);
}

// Lenders whose last user is gone, in that order, and not yet told. They are told at the end of the operation, when
// every buffer is whole again, because their owners may use the buffers.
export let firstReleased: Lender | null = null;
let lastReleased: Lender | null = null;

/** One user of `lender` is done. */
export function dropUser(lender: Lender | Loan): void {
  if (lender instanceof Loan) {
    lender.drop();
    return;
  }
  invariant(lender.users > 0, "a lender was released twice");
  lender.users--;
  if (lender.users > 0) return;
  if (lastReleased === null) firstReleased = lender;
  else lastReleased.next = lender;
  lastReleased = lender;
}

/** Tells the owners of released memory. All are told, even if one throws; then the first error is thrown. */
export function runReleases(): void {
  let failed = false;
  let failure: unknown;
  while (firstReleased !== null) {
    const lender: Lender = firstReleased;
    firstReleased = lender.next;
    if (firstReleased === null) lastReleased = null;
    lender.next = null;
    try {
      lender.tell();
    } catch (error) {
      if (!failed) failure = error;
      failed = true;
    }
  }
  if (failed) throw failure;
}
