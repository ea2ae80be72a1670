/**
 * Integers and floating-point numbers at both ends of a chain, through eight bytes of scratch memory.
 */

import { outOfRange, wrongType } from "../checks.ts";
import { checkThere, type Chunk } from "./chunk.ts";
import { appendCopy, type Chain, changed, dropFront } from "./chain.ts";

const eight = /* @__PURE__ */ new ArrayBuffer(8);
const memory: Uint8Array = /* @__PURE__ */ new Uint8Array(eight);

/** The number that was taken last, or is added next. Nothing runs between writing and reading it. */
export const scratch: DataView = /* @__PURE__ */ new DataView(eight);

const windows: Uint8Array[] = /* @__PURE__ */ Array.from({ length: 9 }, (_, n) => memory.subarray(0, n));

/** Takes `n` bytes, at most 8, into the scratch memory. If there are fewer, it takes nothing and returns false. */
export function takeNumber(chain: Chain, n: number): boolean {
  const origSize = chain.length;
  if (origSize < n) return false;
  let chunk = chain.first as Chunk;
  checkThere(chunk);
  let at = chunk.start;
  for (let i = 0; i < n; i++) {
    if (at === chunk.end) {
      chunk = chunk.next as Chunk;
      checkThere(chunk);
      at = chunk.start;
    }
    memory[i] = chunk.data[at++] as number;
  }
  const low = scratch.getUint32(0);
  const high = scratch.getUint32(4);
  dropFront(chain, n);
  changed(chain, origSize, 0, n);
  // A callback may have read numbers itself.
  scratch.setUint32(0, low);
  scratch.setUint32(4, high);
  return true;
}

/** Adds the first `n` bytes of the scratch memory. */
export function putNumber(chain: Chain, n: number): void {
  const origSize = chain.length;
  appendCopy(chain, windows[n] as Uint8Array);
  changed(chain, origSize, n, 0);
}

/** Returns `value` if it is an integer that fits. */
export function checkInteger(value: number, least: number, most: number): number {
  if (typeof value !== "number") {
    throw wrongType("add an integer", "it is not a number", value);
  }
  if (!Number.isInteger(value) || value < least || value > most) {
    throw outOfRange("add an integer", `it is not a whole number from ${least} to ${most}`, value);
  }
  return value;
}

/** Returns `value` if it is a bigint that fits. */
export function checkBigInteger(value: bigint, least: bigint, most: bigint): bigint {
  if (typeof value !== "bigint") {
    throw wrongType("add an integer", "it is not a bigint", value);
  }
  if (value < least || value > most) {
    throw outOfRange("add an integer", `it is not from ${least} to ${most}`, value);
  }
  return value;
}

/** Returns `value` if it is a number. */
export function checkFloat(value: number): number {
  if (typeof value !== "number") {
    throw wrongType("add a number", "it is not a number", value);
  }
  return value;
}
