/**
 * Memory for small chunks that a host has received: copied there, they are views of memory that has its ArrayBuffer
 * already. It is filled forward and never again, so that a view stays what it is; the collector takes a slab when the
 * last view of it is gone.
 *
 * @module
 */

const SLAB = 64 * 1024;
let buffer = /* @__PURE__ */ new ArrayBuffer(0);
let slab = /* @__PURE__ */ new Uint8Array(buffer);
let fill = 0;

/**
 * Copies the first `length` bytes, no more than a few thousand, out of an array that the host uses again.
 *
 * @returns The copy, which nobody else changes
 */
export function copied(bytes: Uint8Array, length: number): Uint8Array {
  if (length > SLAB - fill || slab.length === 0) {
    slab = new Uint8Array(SLAB);
    buffer = slab.buffer;
    fill = 0;
  }
  const copy = new Uint8Array(buffer, fill, length);
  fill += length;
  copy.set(length === bytes.length ? bytes : bytes.subarray(0, length));
  return copy;
}
