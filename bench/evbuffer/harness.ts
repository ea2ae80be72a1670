/**
 * Measures two ways to do the same work, in turn, and divides their times.
 */

/** The same work, done by us and by another. Each gives a number that shows that it was done. */
export interface Pair {
  readonly work: string;
  /** The name of the unit. */
  readonly unit: string;
  /** The factor from the milliseconds of one run to `unit`. */
  readonly scale: number;
  readonly ours: () => number | Promise<number>;
  readonly theirs: () => number | Promise<number>;
  /** Whether both must give the same number. */
  readonly sameResult: boolean;
}

/** The result. */
export interface Row {
  readonly work: string;
  readonly unit: string;
  /** The median time of ours. */
  readonly ours: number;
  /** The median time of the other. */
  readonly theirs: number;
  /** The median over the rounds of ours divided by the other's. */
  readonly ratio: number;
}

/** Runs both in turn, first to warm up. */
export async function measure(pair: Pair, rounds: number, warmUp: number): Promise<Row> {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < rounds + warmUp; round++) {
    const first = round % 2 === 0;
    let ourTime = 0;
    let theirTime = 0;
    const results: number[] = [];
    if (first) [ourTime, results[0]] = await time(pair.ours);
    [theirTime, results[1]] = await time(pair.theirs);
    if (!first) [ourTime, results[0]] = await time(pair.ours);
    if (pair.sameResult && results[0] !== results[1]) {
      throw new Error(`${pair.work}: the results differ: ${results[0]} and ${results[1]}`);
    }
    if (round < warmUp) continue;
    ours.push(ourTime);
    theirs.push(theirTime);
  }
  return {
    work: pair.work,
    unit: pair.unit,
    ours: median(ours) * pair.scale,
    theirs: median(theirs) * pair.scale,
    ratio: median(ours.map((value, i) => value / (theirs[i] as number))),
  };
}

async function time(run: () => number | Promise<number>): Promise<[number, number]> {
  const start = performance.now();
  const result = await run();
  return [performance.now() - start, result];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] as number;
}

/** Pseudo-random whole numbers below `n`, the same for the same seed. */
export function randomFrom(seed: number): (n: number) => number {
  let state = seed | 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}
