/** What the programs of this folder print of what `explore()` has found. */

import type { Exploration } from "trivent/sim";

/** How many lines of the trace are shown. */
const LINES = 8;

/**
 * Prints what was found.
 *
 * @param found What `explore()` gives
 * @param fine What is printed behind the number of runs when nothing was found
 */
export function report({ runs, seed, error, faults, trace, failures }: Exploration, fine: string): void {
  if (error === undefined) return console.log(`${runs} runs: ${fine}`);
  const [failure] = failures;
  console.log(`run ${runs}, seed ${seed}: ${error instanceof Error ? error.message : error}`);
  console.log(`the faults that are needed for it, ${faults.length} of ${failure?.faultsBefore}:`);
  for (const fault of faults) console.log(`  ${JSON.stringify(fault)}`);
  console.log("how it ended:");
  for (const line of trace.slice(-LINES)) console.log(`  ${line}`);
}
