/**
 * Memory for connections that receive much. A pending read owns its buffer, so each connection needs one. The core
 * holds a filled buffer until it has used the bytes; then the next read of any connection gets it. New memory costs
 * twice: when it is zeroed and when it is collected. For an echo of 16 KiB that is more than the kernel's work.
 *
 * @module
 */

import { Loan } from "../../core/loan.ts";
import { WRITE_SLICE } from "../shared/host.ts";

/**
 * The size of a loan. A larger one would save a few calls for each megabyte. But a stalled connection holds one loan or
 * two, and an allocator returns large pieces late.
 */
export const LOAN_BYTES: number = 64 * 1024;
/** How many loans are kept for later reads. */
const KEPT = 64;

/** The loan used last is used next, since it is in the processor's caches. */
const free: Loan[] = [];

/** Returns memory to read into, which nothing else uses. */
export function borrow(): Loan {
  return free.pop() ?? new Loan(new Uint8Array(LOAN_BYTES), giveBack);
}

/** Memory for the largest writes. Few connections need it at a time. */
const freeLarge: Loan[] = [];
const KEPT_LARGE = 4;

/** Returns memory to gather up to `bytes` bytes into, at most {@linkcode WRITE_SLICE}. It has one user. */
export function borrowFor(bytes: number): Loan {
  const loan = bytes <= LOAN_BYTES ? borrow() : freeLarge.pop() ?? new Loan(new Uint8Array(WRITE_SLICE), giveLargeBack);
  loan.users = 1;
  return loan;
}

function giveLargeBack(loan: Loan): void {
  if (freeLarge.length < KEPT_LARGE) freeLarge.push(loan);
}

/** Keeps memory that nothing uses any more. */
export function giveBack(loan: Loan): void {
  if (free.length < KEPT) free.push(loan);
}
