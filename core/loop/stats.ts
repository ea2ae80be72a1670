/** Counters of a loop, and the delay of its timers in buckets of powers of two. */

/** The result of `EventBase.stats()`. */
export interface BaseStats {
  /** Turns of the loop. */
  turns: number;
  /** Callbacks of all kinds. */
  callbacks: number;
  /** Callbacks by the reason for which their events were active. An event with two reasons counts twice. */
  byKind: { read: number; write: number; timeout: number; signal: number; other: number };
  /** Events that are added, active and virtual now. */
  events: { added: number; active: number; virtual: number };
  /** The delay of timers, in milliseconds: upper bounds of the percentiles, exact to a factor of two. */
  lagMs: { p50: number; p99: number; max: number };
}

/** The upper bounds of the lengths of turns, in milliseconds. */
export const TURN_BOUNDS: readonly number[] = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, Infinity];

const BUCKETS = 32;
/** The upper bound of the first bucket: 1/64 ms. */
const SMALLEST = 2 ** -6;

/** The counters of one loop. */
export class LoopStats {
  turns = 0;
  callbacks = 0;
  /** Callbacks by the lowest four bits of why they ran: `EV_TIMEOUT`, `EV_READ`, `EV_WRITE`, `EV_SIGNAL`. */
  private readonly byResult: Float64Array = new Float64Array(16);
  private lags: Uint32Array | null = null;
  private lagCount = 0;
  /** The longest lag. */
  lagMax = 0;
  /** A turn is timed if the number of turns before it has none of these bits. */
  turnMask = 15;
  /** How long the turns that were timed took together, in milliseconds. */
  turnSum = 0;
  private lengths: Uint32Array | null = null;

  /** Notes how long a turn took. */
  turn(ms: number): void {
    const lengths = this.lengths ??= new Uint32Array(TURN_BOUNDS.length);
    let bucket = 0;
    while (ms > (TURN_BOUNDS[bucket] as number)) bucket++;
    lengths[bucket] = (lengths[bucket] as number) + 1;
    this.turnSum += ms;
  }

  /** How many turns took as long as each of the bounds says. From now on every turn is timed. */
  turnLengths(): readonly number[] {
    this.turnMask = 0;
    return [...this.lengths ?? new Uint32Array(TURN_BOUNDS.length)];
  }

  /** The same, by the bounds. */
  get turnMs(): { [upTo: string]: number } {
    return Object.fromEntries(this.turnLengths().map((count, i) => [String(TURN_BOUNDS[i]), count]));
  }

  /** Counts a callback by why it runs. */
  count(what: number): void {
    this.callbacks++;
    this.byResult[what & 15] = (this.byResult[what & 15] as number) + 1;
  }

  /** How many callbacks ran for a reason; 0 for none of the four. */
  ran(reason: number): number {
    if (reason === 0) return this.byResult[0] as number;
    return this.byResult.reduce((sum, count, result) => (result & reason) !== 0 ? sum + count : sum, 0);
  }

  /** Notes how late a timer was. */
  lag(ms: number): void {
    const lags = this.lags ??= new Uint32Array(BUCKETS);
    const bucket = ms <= SMALLEST ? 0 : Math.min(BUCKETS - 1, 32 - Math.clz32(Math.ceil(ms / SMALLEST) - 1));
    lags[bucket] = (lags[bucket] as number) + 1;
    this.lagCount++;
    if (ms > this.lagMax) this.lagMax = ms;
  }

  /** The lag that a share of all timers did not exceed. */
  percentile(share: number): number {
    const lags = this.lags;
    if (lags === null) return 0;
    let left = Math.ceil(this.lagCount * share);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= lags[bucket] as number;
      if (left <= 0) return Math.min(SMALLEST * 2 ** bucket, this.lagMax);
    }
    return this.lagMax;
  }
}
