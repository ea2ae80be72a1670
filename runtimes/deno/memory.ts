/**
 * Memory for connections that bring much. A pending read owns its buffer, so each needs one, and what it has filled is
 * the core's until that is done with it; then the next read, of whatever connection, gets it. New memory costs twice,
 * when it is zeroed and when it is collected: for an echo of 16 KiB more than the kernel's work.
 *
 * @module
 */

import { Loan } from "../../core/buffer/loan.ts";

/** What is kept at most, of each size, for reads to come. */
const KEPT_BYTES = 4 * 1024 * 1024;

/** Loans by their size. What was used last is in the caches, and is used next. */
const free = new Map<number, Loan[]>();

/** Memory to read into. Nobody uses it. */
export function borrow(bytes: number): Loan {
  return free.get(bytes)?.pop() ?? new Loan(new Uint8Array(bytes), giveBack);
}

/** Keeps memory that nobody uses. */
export function giveBack(loan: Loan): void {
  const bytes = loan.bytes.length;
  const loans = free.get(bytes);
  if (loans === undefined) free.set(bytes, [loan]);
  else if (loans.length * bytes < KEPT_BYTES) loans.push(loan);
}
