/**
 * The links of a buffer's chain, the memory that small ones share, and the count of who uses memory that must be given
 * back.
 *
 * One law makes all sharing safe: a byte that is in a chunk is never written again, by any buffer. So chunks of several
 * buffers may look at the same memory, and nothing need be marked as read-only. Memory that a host has lent (`loan.ts`)
 * keeps it, too: it goes back when no chunk has it any more, and never when somebody outside has got a view.
 */

import { stateError } from "../checks.ts";
import { type EventError, invariant } from "../errors.ts";
import { engine, part } from "../bytes.ts";
import { Loan } from "../loan.ts";

// ---- memory for small pieces: a slab is filled forward and never filled again, so a view of bytes that were once handed
// out stays what it was for as long as someone keeps it. The collector takes a slab when the last view of it is gone.

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

// ---- chunks

/** The owner of the memory may use it again once it is released: what is kept for longer must be copied. */
export const LENT = 1;
/** The chunk came from another buffer by `addBufferReference`. */
export const MULTICAST = 2;
/** The chunk is a part of a file segment. */
export const FILE = 4;
/** The chunk counts as a user of its source. */
export const COUNTED = 8;
/** The source is a {@linkcode Loan}: a host's memory, which it uses again unless somebody has got to see it. */
export const HOSTS = 16;
/** The flags of a chunk of a loan's that is in no other buffer. */
export const ON_LOAN: number = COUNTED | HOSTS;

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
  /** What the memory is, of the bits above; 0 for memory that nobody wants back. */
  flags: number;
  /** Who wants it back; not null exactly when `COUNTED`. */
  source: Source | Loan | null;
  /** The chunk behind this one. */
  next: Chunk | null = null;
  /** The memory four bytes at a time, from its first byte on; made by the first search that wants it. */
  words: Int32Array | null = null;
  /** The memory's buffer, once asked for: that is a call into the runtime on V8. */
  buffer: ArrayBufferLike | null = null;

  constructor(data: Uint8Array, start: number, end: number, flags: number, source: Source | Loan | null) {
    this.data = data;
    this.start = start;
    this.end = end;
    this.flags = flags;
    this.source = source;
  }
}

/** Whether the memory of a chunk is there: a user may have transferred it to a worker, for instance, or made it smaller. */
export function isThere(chunk: Chunk): boolean {
  return chunk.end <= chunk.data.length;
}

/** Throws unless the memory of a chunk is there. Whoever reads it asks first: JavaScript would read nothing, without a word. */
export function checkThere(chunk: Chunk): void {
  if (chunk.end > chunk.data.length) throw lost();
}

/** The error of memory that is gone. */
export function lost(): EventError {
  return stateError("use the bytes of a buffer", "their memory was transferred or made smaller", DETACHED);
}

/** Memory that someone wants to hear of when its last user is done. */
export class Source {
  /** How many chunks and handles use it. */
  users = 1;
  /** The source released after this one; see {@linkcode runReleases}. */
  next: Source | null = null;
  readonly bytes: Uint8Array;
  readonly #onRelease: (bytes: Uint8Array) => void;

  constructor(bytes: Uint8Array, onRelease: (bytes: Uint8Array) => void) {
    this.bytes = bytes;
    this.#onRelease = onRelease;
  }

  /** Tells the owner. */
  tell(): void {
    this.#onRelease(this.bytes);
  }
}

/** The bytes of `chunk` from `start` to `end`, in memory that stays as it is, to hand out. */
export function handOut(chunk: Chunk, start: number, end: number): Uint8Array {
  expose(chunk);
  checkThere(chunk);
  const { data, buffer } = chunk;
  if (buffer === null || end - start <= engine.copyBytes) return part(data, start, end);
  // On V8 half the cost of subarray().
  return new Uint8Array(buffer, data.byteOffset + start, end - start);
}

/**
 * The memory of `chunk` is shown to somebody who may keep a view of it, and then must not change any more. Every way out
 * of the core calls this, or copies.
 */
export function expose(chunk: Chunk): void {
  if ((chunk.flags & HOSTS) !== 0) (chunk.source as Loan).seen = true;
}

/** The same bytes lie elsewhere now. */
export function replaceMemory(chunk: Chunk, data: Uint8Array, start: number, end: number): void {
  chunk.data = data;
  chunk.start = start;
  chunk.end = end;
  chunk.words = null;
  chunk.buffer = null;
}

/** Another window of the same memory. */
export function shareChunk(chunk: Chunk, start: number, end: number): Chunk {
  if (chunk.source !== null) chunk.source.users++;
  return new Chunk(chunk.data, start, end, chunk.flags, chunk.source);
}

// Sources whose last user is gone, in that order, and not yet told. They are told at the end of the operation, when
// every buffer is whole again, because their owners may use the buffers.
let firstReleased: Source | null = null;
let lastReleased: Source | null = null;

/** One user of `source` is done. */
export function dropUser(source: Source | Loan): void {
  if (source instanceof Loan) {
    source.drop();
    return;
  }
  invariant(source.users > 0, "a source was released twice");
  source.users--;
  if (source.users > 0) return;
  if (lastReleased === null) firstReleased = source;
  else lastReleased.next = source;
  lastReleased = source;
}

/** Whether {@linkcode runReleases} has something to do. */
export function releasesWait(): boolean {
  return firstReleased !== null;
}

/** Tells the owners of what was released. All are told, even if one throws; the first error is thrown then. */
export function runReleases(): void {
  let failed = false;
  let failure: unknown;
  while (firstReleased !== null) {
    const source: Source = firstReleased;
    firstReleased = source.next;
    if (firstReleased === null) lastReleased = null;
    source.next = null;
    try {
      source.tell();
    } catch (error) {
      if (!failed) failure = error;
      failed = true;
    }
  }
  if (failed) throw failure;
}
