/** Prints the results of `explore()`, for the programs of this folder. */

import type { Exploration } from "trivent/sim";

/** The number of lines of the trace that are shown. */
const LINES = 8;

/**
 * Prints the result.
 *
 * @param found The result of `explore()`
 * @param fine The text after the number of runs if nothing was found
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
