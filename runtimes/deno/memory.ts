/**
 * Memory for connections that bring much. A pending read owns its buffer, so each needs one, and what it has filled is
 * the core's until that is done with it; then the next read, of whatever connection, gets it. New memory costs twice,
 * when it is zeroed and when it is collected: for an echo of 16 KiB more than the kernel's work.
 *
 * @module
 */

import { Loan } from "../../core/loan.ts";

/**
 * How large a loan is. More would save a few calls for each megabyte, but what a stalled connection holds is a loan or two,
 * and large pieces that come and go are what an allocator gives back late.
 */
export const LOAN_BYTES: number = 64 * 1024;
/** How many are kept for reads to come. */
const KEPT = 64;

/** What was used last is in the caches, and is used next. */
const free: Loan[] = [];

/** Memory to read into. Nobody uses it. */
export function borrow(): Loan {
  return free.pop() ?? new Loan(new Uint8Array(LOAN_BYTES), giveBack);
}

/** Keeps memory that nobody uses. */
export function giveBack(loan: Loan): void {
  if (free.length < KEPT) free.push(loan);
}
