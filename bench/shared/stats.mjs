/** Medians and ratios. */

/** @param {readonly number[]} values */
export function median(values) {
  return quantile(values, 0.5);
}

/** @param {readonly number[]} values @param {number} share */
function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.ceil(at)] - sorted[low]) * (at - low);
}

/**
 * The median of one ratio per round, with the range of the ratios.
 *
 * @param {readonly number[]} ours
 * @param {readonly number[]} theirs From the same rounds
 * @returns {{ ratio: number, spread: [number, number] }}
 */
export function compare(ours, theirs) {
  return summarize(ours.map((value, round) => value / theirs[round]));
}

/** @param {readonly number[]} ratios @returns {{ ratio: number, spread: [number, number] }} */
export function summarize(ratios) {
  return { ratio: median(ratios), spread: [Math.min(...ratios), Math.max(...ratios)] };
}

/** The median of each field. @param {readonly Record<string, number>[]} samples */
export function medians(samples) {
  return Object.fromEntries(Object.keys(samples[0]).map((key) => [key, median(samples.map((each) => each[key]))]));
}
