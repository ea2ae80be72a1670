/** Positions in a buffer, which know whether they are still valid. */

import { checkCount, wrongType } from "../checks.ts";
import type { Chunk } from "./chunk.ts";
import type { Chain } from "./chain.ts";

/** A position in a buffer. Any change of the buffer's bytes makes it stale. libevent: `struct evbuffer_ptr`. */
export interface EvBufferPtr {
  /** The distance from the front, in bytes; −1 when it is out of range or means "not found". */
  readonly pos: number;
  /**
   * Moves it by `n` bytes; O(1) within a chunk. libevent: `evbuffer_ptr_set` with `EVBUFFER_PTR_ADD`.
   *
   * @param n The number of bytes, 0 or more
   * @returns False if that is beyond the end, or the position was −1 before; `pos` is then −1
   * @throws {RangeError} When the position is stale, or `n` is negative or fractional
   */
  add(n: number): boolean;
}

/**
 * The place of a position in the chain. There is one object for all look-ups, because it is read before anything else
 * runs.
 */
export const cursor: { pos: number; chunk: Chunk | null; at: number } = { pos: 0, chunk: null, at: 0 };

/** The class behind {@linkcode EvBufferPtr}. */
export class Position implements EvBufferPtr {
  readonly #chain: Chain;
  readonly #version: number;
  #layout: number;
  #pos: number;
  /** The chunk of the byte at the position; null at the very end. */
  #chunk: Chunk | null;
  #at: number;

  constructor(chain: Chain, pos: number, chunk: Chunk | null, at: number) {
    this.#chain = chain;
    this.#version = chain.version;
    this.#layout = chain.layout;
    this.#pos = pos;
    this.#chunk = chunk;
    this.#at = at;
  }

  get pos(): number {
    return this.#pos;
  }

  add(n: number): boolean {
    checkCount("move a position", "the count", n);
    if (this.#pos < 0) return false;
    if (this.#version !== this.#chain.version) throw stale("move a position");
    if (n > this.#chain.length - this.#pos) {
      this.#pos = -1;
      this.#chunk = null;
      return false;
    }
    this.#look();
    walk(n);
    this.#pos = cursor.pos;
    this.#chunk = cursor.chunk;
    this.#at = cursor.at;
    return true;
  }

  /** Sets the cursor to this position. */
  #look(): void {
    if (this.#layout !== this.#chain.layout) {
      locate(this.#chain, this.#pos);
      this.#layout = this.#chain.layout;
      this.#chunk = cursor.chunk;
      this.#at = cursor.at;
      return;
    }
    cursor.pos = this.#pos;
    cursor.chunk = this.#chunk;
    cursor.at = this.#at;
  }

  /** Sets the cursor to `ptr`, a position in `chain`. */
  static resolve(verb: string, chain: Chain, ptr: EvBufferPtr): void {
    if (typeof ptr !== "object" || ptr === null || !(#chain in ptr)) {
      throw wrongType(verb, "the position is not one that the buffer gave", ptr);
    }
    if (ptr.#chain !== chain) throw new RangeError(`Cannot ${verb}: the position belongs to another buffer`);
    if (ptr.#pos < 0) throw new RangeError(`Cannot ${verb}: the position is out of range: received ${ptr.#pos}`);
    if (ptr.#version !== chain.version) throw stale(verb);
    ptr.#look();
  }
}

function stale(verb: string): RangeError {
  return new RangeError(`Cannot ${verb}: the position is stale: the buffer has changed since it was taken`);
}

/** Sets the cursor to `pos` bytes from the front of `chain`, 0 to its length. */
export function locate(chain: Chain, pos: number): void {
  cursor.pos = 0;
  cursor.chunk = chain.first;
  cursor.at = chain.first === null ? 0 : chain.first.start;
  walk(pos);
}

/** Moves the cursor by `n` bytes. There must be so many. */
export function walk(n: number): void {
  let left = n;
  cursor.pos += n;
  while (cursor.chunk !== null && left >= cursor.chunk.end - cursor.at) {
    left -= cursor.chunk.end - cursor.at;
    cursor.chunk = cursor.chunk.next;
    cursor.at = cursor.chunk === null ? 0 : cursor.chunk.start;
  }
  cursor.at += left;
}
