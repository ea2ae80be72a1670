/**
 * Shrinking: shortens the list of faults of a run that fails, and makes the faults smaller, as long as it fails in the same way.
 *
 * @module
 */

import type { Outcome } from "./explore.ts";
import { type Fault, type FaultPlan, isLasting, isLate } from "./plan.ts";

/** A run that fails, and the plan that leads to it. */
export interface Failing {
  readonly plan: FaultPlan;
  readonly outcome: Outcome;
}

/** Round times, which are easier to read. */
const ROUND_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/**
 * Shrinks a plan.
 *
 * First it tries the plan without any fault, then without each kind. Then it leaves out halves, quarters and so on, down to
 * single faults (delta debugging). At last it makes the remaining faults smaller. It stops when no fault can be left out, or
 * after `most` runs. Its result depends only on the plan and the outcomes of the runs, so it is the same each time.
 *
 * @param plan The plan
 * @param outcome The outcome of the plan
 * @param replay Runs a plan
 * @param most The largest number of runs
 * @returns The shortest plan that it has found, and its outcome
 */
export async function shrink(
  plan: FaultPlan,
  outcome: Outcome,
  replay: (plan: FaultPlan) => Promise<Outcome>,
  most: number,
): Promise<Failing> {
  let best: Failing = { plan: { ...plan, faults: outcome.faults }, outcome };
  let left = most;
  const attempt = async (changes: Partial<FaultPlan>): Promise<boolean> => {
    if (left-- <= 0) return false;
    const next = { ...best.plan, ...changes };
    const result = await replay(next);
    if (!result.failed || result.kind !== outcome.kind) return false;
    // A planned fault that did not happen is not needed.
    best = { plan: { ...next, faults: result.faults }, outcome: result };
    return true;
  };
  /** Runs without some of the faults. */
  const without = (dropped: ReadonlySet<Fault>): Promise<boolean> =>
    attempt({ faults: best.plan.faults.filter((fault) => !dropped.has(fault)) });

  const removeKinds = async (): Promise<void> => {
    const counts = new Map<string, number>();
    for (const { kind } of best.plan.faults) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    const kinds = [...counts].sort((a, b) => b[1] - a[1]);
    if (kinds.length < 2) return;
    for (const [kind] of kinds) await without(new Set(best.plan.faults.filter((fault) => fault.kind === kind)));
  };

  const removeParts = async (): Promise<void> => {
    let parts = 2;
    while (best.plan.faults.length > 0 && left > 0) {
      const { length } = best.plan.faults;
      parts = Math.min(parts, length);
      const size = Math.ceil(length / parts);
      let removed = false;
      // From the end on, because early faults seldom depend on late ones.
      for (let end = length; end > 0 && left > 0; end -= size) {
        const { faults } = best.plan;
        if (end > faults.length) continue;
        removed = await without(new Set(faults.slice(Math.max(0, end - size), end))) || removed;
      }
      if (removed) parts = Math.max(2, parts - 1);
      else if (size === 1) return;
      else parts *= 2;
    }
  };

  /** Tries another form of one fault. */
  const change = (index: number, changes: Partial<Fault>): Promise<boolean> =>
    attempt({ faults: best.plan.faults.map((fault, i) => i === index ? { ...fault, ...changes } : fault) });

  const makeSmaller = async (): Promise<boolean> => {
    let smaller = false;
    const first = async (index: number, candidates: readonly Partial<Fault>[]): Promise<void> => {
      const { length } = best.plan.faults;
      for (const changes of candidates) {
        // A fault at another time may have another place in the list.
        if (best.plan.faults.length !== length) return;
        if (await change(index, changes)) return void (smaller = true);
      }
    };
    for (let index = 0; index < best.plan.faults.length; index++) {
      const fault = best.plan.faults[index];
      if (fault === undefined) break;
      const { kind, amount, forMs = 0, atMs } = fault;
      if (isLasting(kind)) {
        await first(index, ROUND_MS.filter((ms) => ms < forMs).map((ms) => ({ forMs: ms })));
        await first(index, [0, ...ROUND_MS].filter((ms) => ms < atMs).map((ms) => ({ atMs: ms })));
        if (fault.oneWay !== true && fault.hosts?.length === 2) {
          const [from = "", to = ""] = fault.hosts;
          await first(index, [{ oneWay: true }, { oneWay: true, hosts: [to, from] }]);
        }
      } else if (isLate(kind)) {
        await first(index, ROUND_MS.filter((ms) => ms < (amount ?? 0)).map((ms) => ({ amount: ms })));
      } else if (kind === "segmentCut" || kind === "datagramReordered" || kind === "datagramCorrupted") {
        const amounts = kind === "datagramReordered" ? [0.1, 0.2, 0.5] : [0, 0.5];
        await first(index, amounts.filter((part) => part < (amount ?? 1)).map((part) => ({ amount: part })));
      }
    }
    return smaller;
  };

  if (await attempt({ faults: [] })) {
    await simplify();
    return best;
  }
  await removeKinds();
  for (let round = 0; round < 3; round++) {
    await removeParts();
    if (!await makeSmaller()) break;
  }
  await simplify();
  return best;

  /** Removes the settings of the whole network. */
  async function simplify(): Promise<void> {
    if (best.plan.segmentsApart === true) await attempt({ segmentsApart: false });
    if (typeof best.plan.bandwidth === "number") await attempt({ bandwidth: null });
  }
}
