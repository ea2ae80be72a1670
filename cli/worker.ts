/**
 * The program of a thread that explores: runs batches of seeds of a scenario.
 *
 * @module
 */

import { parentPort, workerData } from "node:worker_threads";
import { explore, type Scenario } from "../runtimes/sim.ts";
import type { Batch, BatchResult, ThreadData } from "../runtimes/sim/threads.ts";
import { loadScenario } from "./scenario.ts";

let loading: Promise<Scenario> | undefined;

async function load(): Promise<Scenario> {
  return (await loadScenario((workerData as ThreadData).module)).scenario;
}

async function work({ seed, runs, kinds }: Batch): Promise<BatchResult> {
  const scenario = await (loading ??= load());
  const { options } = workerData as ThreadData;
  // The main thread shortens the lists of faults.
  const found = await explore(scenario, { ...options, shrinkRuns: 0, seed, runs, kinds });
  return {
    runs: found.runs,
    failures: found.failures.map(({ seed: failing, kind, plan }) => ({ seed: failing, kind, title: plan.error ?? "" })),
  };
}

parentPort?.on("message", (batch: Batch) => {
  work(batch).then(
    (result) => parentPort?.postMessage(result),
    (error) =>
      parentPort?.postMessage({ runs: 0, failures: [], refused: (error as Error).message } satisfies BatchResult),
  );
});
