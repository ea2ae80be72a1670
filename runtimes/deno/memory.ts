/**
 * Memory that connections read into. A pending read owns its buffer, so each connection needs one. The core
 * holds a filled buffer until it has used the bytes; then the next read of any connection gets it. New memory costs
 * twice: when it is zeroed and when it is collected. For an echo of 16 KiB that is more than the kernel's work.
 *
 * @module
 */

import { Loan } from "../../core/loan.ts";
import { WRITE_SLICE } from "../shared/host.ts";

/** Memory of one size. */
class Pool {
  readonly bytes: number;
  /** How many loans are kept for later reads. */
  readonly kept: number;
  /** The loan used last is used next, since it is in the processor's caches. */
  readonly free: Loan[] = [];
  readonly keep: (loan: Loan) => void = (loan) => {
    if (this.free.length < this.kept) this.free.push(loan);
  };

  constructor(bytes: number, kept: number) {
    this.bytes = bytes;
    this.kept = kept;
  }
}

/**
 * The sizes of a read. A connection begins with the first, and takes the next one after a read that has filled its
 * memory. So an idle connection holds little, a message of a few KB comes in one read, and bulk takes few reads.
 */
const POOLS: readonly Pool[] = [
  // Most connections have one of these. Many give theirs back in one poll, and read again.
  /* @__PURE__ */ new Pool(4 * 1024, 1024),
  /* @__PURE__ */ new Pool(16 * 1024, 64),
  /* @__PURE__ */ new Pool(64 * 1024, 64),
  /* @__PURE__ */ new Pool(WRITE_SLICE, 16),
];
/** The largest size, as a number of `POOLS`. */
export const LARGEST = 3;

/** Returns memory to read into, of this size, which nothing else uses. */
export function borrow(size: number): Loan {
  const { free, bytes, keep } = POOLS[size]!;
  return free.pop() ?? new Loan(new Uint8Array(bytes), keep);
}

/** Returns memory to gather up to `bytes` bytes into, at most {@linkcode WRITE_SLICE}. It has one user. */
export function borrowFor(bytes: number): Loan {
  let size = 0;
  while (size < LARGEST && bytes > POOLS[size]!.bytes) size++;
  const loan = borrow(size);
  loan.users = 1;
  return loan;
}

/** Keeps memory that nothing uses any more. */
export function giveBack(loan: Loan, size: number): void {
  POOLS[size]!.keep(loan);
}

/**
 * How many reads of the largest size may be under way, in all connections: a pending read owns its memory, also when
 * its peer has nothing more to send.
 */
const LARGE_READS = 32;
let largeReads = 0;

/** Counts a read of the largest size. @returns Whether there may be one more */
export function beginLargeRead(): boolean {
  if (largeReads === LARGE_READS) return false;
  largeReads++;
  return true;
}

/** A read of the largest size has ended. */
export function endLargeRead(): void {
  largeReads--;
}
