/** Numbers that are the same for the same seed. */

/** Gives numbers by a seed (the generator mulberry32). */
export class Dice {
  #state;

  /** @param {number} seed */
  constructor(seed) {
    this.#state = seed | 0;
  }

  /** @returns {number} at least 0, and less than 1 */
  next() {
    let t = this.#state = this.#state + 0x6d2b79f5 | 0;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  }

  /**
   * @param {number} limit
   * @returns {number} a whole number from 0 to `limit - 1`
   */
  below(limit) {
    return Math.floor(this.next() * limit);
  }

  /**
   * @template T
   * @param {readonly T[]} all
   * @returns {T} one of them
   */
  pick(all) {
    return all[this.below(all.length)];
  }

  /**
   * @param {number} length At most 64 KiB
   * @returns {Uint8Array} random bytes; they are a part of a shared pool, and must not be changed
   */
  bytes(length) {
    const begin = this.below(POOL.length - length);
    return POOL.subarray(begin, begin + length);
  }
}

const POOL = new Uint8Array(1 << 18);
{
  const dice = new Dice(1);
  for (let i = 0; i < POOL.length; i++) POOL[i] = dice.below(256);
}
