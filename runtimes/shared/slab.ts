/**
 * Memory for small chunks that a runtime has received. A chunk is copied into a slab, which has its ArrayBuffer
 * already, and becomes a view of it. A slab is filled once, from front to end, so a view never changes. The garbage
 * collector frees a slab after its last view.
 *
 * @module
 */

const SLAB = 64 * 1024;
let buffer = /* @__PURE__ */ new ArrayBuffer(0);
let slab = /* @__PURE__ */ new Uint8Array(buffer);
let fill = 0;

/**
 * Copies the first `length` bytes, at most a few thousand, of an array that the runtime uses again.
 *
 * @returns The copy, which nothing else changes
 */
export function copied(bytes: Uint8Array, length: number): Uint8Array {
  if (length > SLAB - fill || slab.length === 0) {
    slab = new Uint8Array(SLAB);
    buffer = slab.buffer;
    fill = 0;
  }
  const copy = new Uint8Array(buffer, fill, length);
  // The next copy begins at a whole word, so that line ends in it are found four bytes at a time.
  fill += length + 3 & ~3;
  copy.set(length === bytes.length ? bytes : bytes.subarray(0, length));
  return copy;
}
