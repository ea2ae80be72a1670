/**
 * The simulator's random numbers: seeded sequences and single draws, the same on every JavaScript engine.
 *
 * @module
 */

/** A seeded sequence of numbers (mulberry32): 32 bits of state, no more than a simulation needs. */
export class Random {
  #state: number;

  /**
   * Starts the sequence.
   *
   * @param seed Any number; its lower 32 bits count
   */
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /**
   * Draws a number.
   *
   * @returns A number from 0 inclusive to 1 exclusive
   */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  }
}

/**
 * Derives a seed from a seed and a number (the finalizer of MurmurHash3).
 *
 * @param seed The seed
 * @param value The number; a whole one counts in all its 53 bits
 * @returns A whole number of 32 bits
 */
export function mix(seed: number, value: number): number {
  let hash = (Math.imul(seed ^ value, 0x9e3779b1) + Math.floor(value / 0x1_0000_0000)) | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/**
 * Derives a seed from a seed and a text.
 *
 * @param seed The seed
 * @param text The text
 * @returns A whole number of 32 bits
 */
export function mixText(seed: number, text: string): number {
  let hash = mix(seed, text.length);
  for (let i = 0; i < text.length; i++) hash = mix(hash, text.charCodeAt(i));
  return hash;
}

/**
 * Draws one random number. It depends only on its arguments, so no draw changes another.
 *
 * @param who The seed of the connection and direction, or of another subject
 * @param kind Its purpose: one of {@linkcode ROLL}
 * @param at The number of the draw: the position in the stream, or a count
 * @returns A number from 0 inclusive to 1 exclusive
 */
export function roll(who: number, kind: number, at: number): number {
  return (mix(mix(who, kind), at) >>> 0) / 0x1_0000_0000;
}
