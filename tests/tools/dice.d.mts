/** Gives numbers by a seed. */
export declare class Dice {
  constructor(seed: number);
  next(): number;
  below(limit: number): number;
  pick<T>(all: readonly T[]): T;
  bytes(length: number): Uint8Array;
}
