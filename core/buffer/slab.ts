/**
 * Memory for small pieces: a slab is filled forward and never filled again, so a view of bytes that were once handed
 * out stays what it was for as long as someone keeps it. The collector takes a slab when the last view of it is gone.
 */

/**
 * The size of a shared slab. One small piece that is kept pins a whole slab, so it is no larger than what makes the
 * cost of new memory disappear (measured: 64 KiB is no faster than 16 on any of the three hosts).
 */
export const SLAB_BYTES: number = 16 * 1024;

/** Pieces of this size and more get memory of their own. */
export const LARGE_BYTES = 4096;

/** Memory that is filled forward. */
export class Slab {
  /** The memory; never longer than the buffer it views, and empty once a host has detached it. */
  memory: Uint8Array;
  /** Where the free part begins. Whoever ends exactly here may go on in place. */
  fill = 0;

  constructor(bytes: number) {
    this.memory = new Uint8Array(bytes);
  }

  /** How many bytes are free. Negative when somebody detached the memory by transferring it. */
  get room(): number {
    return this.memory.length - this.fill;
  }
}

/** The slab that all buffers share. Empty until the first use. */
export const pool: Slab = /* @__PURE__ */ new Slab(0);

/**
 * Takes `n` bytes, less than {@linkcode LARGE_BYTES}, of the shared slab: they are `pool.memory` from the returned
 * offset on.
 */
export function carve(n: number): number {
  if (n > pool.memory.length - pool.fill) refill();
  const at = pool.fill;
  pool.fill = at + n;
  return at;
}

/** Puts a fresh slab in the place of the present one. */
export function refill(): void {
  pool.memory = new Uint8Array(SLAB_BYTES);
  pool.fill = 0;
}
