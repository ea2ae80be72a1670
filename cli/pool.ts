/**
 * Explores on several threads. Each runs batches of seeds; what they find is put in the order of the seeds, so that the
 * result is that of one thread.
 *
 * @module
 */

import { Worker } from "node:worker_threads";
import type { Batch, BatchResult } from "./worker.ts";
import { UsageError } from "./scenario.ts";

/** What is explored, and how far. */
export interface PoolOptions {
  /** The URL of the file with the scenario. */
  readonly url: string;
  /** How many runs at most. */
  readonly runs: number;
  /** The seed of the first run. */
  readonly seed: number;
  /** After how many seconds no other batch begins. */
  readonly seconds: number | undefined;
  /** How many kinds of failures are looked for. */
  readonly kinds: number;
  /** How many threads. */
  readonly threads: number;
  /** Called after each batch. */
  onProgress(progress: { runs: number; seconds: number; kinds: number; shrinkRuns: number }): void;
}

/** What the threads have found. */
export interface PoolResult {
  /** How many runs there were, up to the last one that counts. */
  readonly runs: number;
  /** The first failure of each kind, in the order of their seeds. */
  readonly failures: readonly { readonly seed: number; readonly title: string }[];
}

/** How long a batch should take, in milliseconds. */
const BATCH_MS = 200;
const LARGEST_BATCH = 5000;

/**
 * Explores.
 *
 * @param options What, and how far
 * @returns What was found
 * @throws {UsageError} When a thread ends by itself
 */
export async function exploreInWorkers(options: PoolOptions): Promise<PoolResult> {
  const { url, runs, seed, seconds = Infinity, kinds, threads } = options;
  const began = performance.now();
  const passed = (): number => (performance.now() - began) / 1000;
  const results = new Map<number, BatchResult>();
  const seen = new Set<string>();
  let next = 0;
  let done = 0;
  let size = 4;

  const work = async (): Promise<void> => {
    // Deno asks for a URL object.
    const worker = new Worker(new URL(workerName(), import.meta.url), { workerData: url });
    try {
      while (next < runs && seen.size < kinds && passed() < seconds) {
        const batch: Batch = { seed: seed + next, runs: Math.min(size, runs - next), kinds };
        const start = next;
        next += batch.runs;
        const startedAt = performance.now();
        const result = await ask(worker, batch);
        const tookMs = performance.now() - startedAt;
        size = Math.max(
          1,
          Math.min(LARGEST_BATCH, Math.round(batch.runs * Math.min(4, BATCH_MS / Math.max(1, tookMs)))),
        );
        results.set(start, result);
        for (const { kind } of result.failures) seen.add(kind);
        done += result.runs;
        options.onProgress({ runs: done, seconds: passed(), kinds: seen.size, shrinkRuns: 0 });
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(threads, runs) }, work));

  const found = new Map<string, { seed: number; title: string }>();
  let total = 0;
  for (const [start, result] of [...results].sort((a, b) => a[0] - b[0])) {
    for (const { kind, seed: failing, title } of result.failures) {
      if (found.has(kind)) continue;
      found.set(kind, { seed: failing, title });
      if (found.size === kinds) return { runs: failing - seed + 1, failures: [...found.values()] };
    }
    total = start + result.runs;
  }
  return { runs: total, failures: [...found.values()] };
}

/** The worker's file stands beside this one, as source or as what was built of it. */
function workerName(): string {
  return import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js";
}

function ask(worker: Worker, batch: Batch): Promise<BatchResult> {
  return new Promise((resolve, reject) => {
    const listeners = {
      message(result: BatchResult): void {
        stop();
        if (result.refused === undefined) resolve(result);
        else reject(new UsageError(result.refused));
      },
      error(error: Error): void {
        stop();
        reject(new UsageError(`a thread has failed: ${error.stack ?? error}`));
      },
      exit(code: number): void {
        stop();
        reject(new UsageError(`a thread has ended by itself, with ${code}: the scenario must not end the process`));
      },
    };
    const stop = (): void => {
      for (const [name, listener] of Object.entries(listeners)) worker.off(name, listener);
    };
    for (const [name, listener] of Object.entries(listeners)) worker.on(name, listener);
    worker.postMessage(batch);
  });
}
