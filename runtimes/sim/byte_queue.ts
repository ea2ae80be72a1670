/**
 * The bytes that one end of a simulated connection has accepted and not yet sent.
 *
 * @module
 */

/** Bytes in order. Almost all queues are empty and hold no object. A single chunk needs no array. */
export class ByteQueue {
  /** The number of bytes in it. */
  bytes = 0;
  #first: Uint8Array | undefined;
  /** The position at which the rest of the first chunk begins. */
  #start = 0;
  #rest: Uint8Array[] | undefined;

  /**
   * Puts bytes at the end.
   *
   * @param chunk The bytes, whose memory the queue owns from now on
   */
  push(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    if (this.#first === undefined) this.#first = chunk;
    else if (this.#rest === undefined) this.#rest = [chunk];
    else this.#rest.push(chunk);
  }

  /** Whether all bytes are one chunk. */
  get isWhole(): boolean {
    return this.#rest === undefined && this.#start === 0 && this.#first !== undefined;
  }

  /**
   * Takes all bytes out if they are one chunk.
   *
   * @returns The chunk
   */
  takeWhole(): Uint8Array {
    const first = this.#first as Uint8Array;
    this.#first = undefined;
    this.bytes = 0;
    return first;
  }

  /**
   * Takes bytes out.
   *
   * @param length The number; the queue must have as many
   * @returns The bytes, in memory of their own
   */
  take(length: number): Uint8Array {
    const first = this.#first;
    if (first === undefined || length > this.bytes) {
      throw new Error("Trivent invariant broken: the queue has the bytes");
    }
    this.bytes -= length;
    if (this.#start === 0 && first.length === length) {
      if (this.#rest === undefined) this.#first = undefined;
      else this.#next();
      return first;
    }
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length;) {
      const chunk = this.#first as Uint8Array;
      const end = Math.min(chunk.length, this.#start + length - at);
      bytes.set(chunk.subarray(this.#start, end), at);
      at += end - this.#start;
      this.#start = end;
      if (end === chunk.length) this.#next();
    }
    return bytes;
  }

  #next(): void {
    this.#start = 0;
    this.#first = this.#rest?.shift();
    if (this.#rest?.length === 0) this.#rest = undefined;
  }

  /** Takes everything out. */
  clear(): void {
    this.#first = this.#rest = undefined;
    this.#start = this.bytes = 0;
  }
}
