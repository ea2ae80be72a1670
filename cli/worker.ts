/**
 * The program of a thread that explores: runs batches of seeds of a scenario.
 *
 * @module
 */

import { parentPort, workerData } from "node:worker_threads";
import { explore } from "../runtimes/sim.ts";
import { type Loaded, loadScenario } from "./scenario.ts";

/** Seeds to run. */
export interface Batch {
  readonly seed: number;
  readonly runs: number;
  readonly kinds: number;
}

/** What has become of them. */
export interface BatchResult {
  readonly runs: number;
  readonly failures: readonly { readonly seed: number; readonly kind: string; readonly title: string }[];
  /** What is wrong with the scenario's file. */
  readonly refused?: string;
}

let loading: Promise<Loaded> | undefined;

async function work({ seed, runs, kinds }: Batch): Promise<BatchResult> {
  const { scenario, options } = await (loading ??= loadScenario(workerData as string));
  // The main thread makes the lists of faults shorter.
  const basis = { ...options, onProgress: undefined, seconds: undefined, shrinkRuns: 0 };
  const found = await explore(scenario, { ...basis, seed, runs, kinds });
  return {
    runs: found.runs,
    failures: found.failures.map(({ seed: failing, kind, error }) => ({ seed: failing, kind, title: String(error) })),
  };
}

parentPort?.on("message", (batch: Batch) => {
  work(batch).then(
    (result) => parentPort?.postMessage(result),
    (error) =>
      parentPort?.postMessage({ runs: 0, failures: [], refused: (error as Error).message } satisfies BatchResult),
  );
});
