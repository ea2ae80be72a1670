/**
 * The simulator's dice: a seeded sequence of numbers, the same on every engine.
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

  /**
   * Throws a coin. A probability of 0 draws no number, so that what is switched off changes nothing.
   *
   * @param probability From 0 (never) to 1 (always)
   * @returns Whether it happened
   */
  chance(probability: number): boolean {
    return probability > 0 && this.next() < probability;
  }
}
