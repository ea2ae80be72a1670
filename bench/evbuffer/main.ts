/**
 * The EvBuffer benchmark on one runtime: a line of JSON for each piece of work, and a readable one.
 *
 * `bench/evbuffer.mjs` builds it and runs it on all three.
 */

import { argv } from "node:process";
import type { Pair, Row } from "./harness.ts";
import { measure } from "./harness.ts";
import { linePairs } from "./lines.ts";
import { movePairs } from "./moves.ts";
import { searchPairs } from "./searches.ts";
import { writePairs } from "./writes.ts";

/** Runs all work, or those with `only` in their names, and prints the results. */
export async function main(quick: boolean, only: string): Promise<void> {
  const groups: (() => Pair[])[] = [
    linePairs,
    writePairs,
    movePairs,
    () => searchPairs(quick ? 2_000_000 : 40_000_000),
  ];
  for (const group of groups) {
    for (const pair of group().filter(({ work }) => work.includes(only))) {
      const row: Row = await measure(pair, quick ? 1 : 5, quick ? 0 : 1);
      console.log(JSON.stringify(row));
      console.error(
        `${row.work}: ${row.ours.toFixed(1)} and ${row.theirs.toFixed(1)} ${row.unit}, ratio ${row.ratio.toFixed(2)}`,
      );
    }
  }
}

await main(argv.includes("--quick"), argv.find((word) => word.startsWith("--only="))?.slice(7) ?? "");
