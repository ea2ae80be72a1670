/**
 * Explores on several threads. Each runs batches of seeds. The results are put in the order of the
 * seeds, so that they are the same as with one thread.
 *
 * @module
 */

import type { ExploreOptions } from "./explore.ts";
import { realTime } from "./real_time.ts";

/** Seeds to run. */
export interface Batch {
  readonly seed: number;
  readonly runs: number;
  readonly kinds: number;
}

/** The results of the seeds. */
export interface BatchResult {
  readonly runs: number;
  readonly failures: readonly { readonly seed: number; readonly kind: string; readonly title: string }[];
  /** The error of the scenario's module. */
  readonly refused?: string;
}

/** The first message to a thread. */
export interface ThreadData {
  /** The URL of the module with the scenario. */
  readonly module: string;
  /** The options of each run. */
  readonly options: ExploreOptions;
}

/** The part of a thread of the runtime that is used here. */
interface Thread {
  postMessage(message: unknown): void;
  on(name: string, listener: (value: never) => void): unknown;
  off(name: string, listener: (value: never) => void): unknown;
  terminate(): Promise<unknown>;
}

/** Makes threads. */
type ThreadClass = new (program: object, options: { workerData: ThreadData }) => Thread;

/** The globals of a runtime with threads. */
interface ThreadGlobals {
  readonly process?: { getBuiltinModule?(name: string): { Worker: ThreadClass } | undefined };
  readonly URL: new (url: string) => object;
}

/** The scenario, and the limits of exploring. */
export interface ThreadsOptions {
  readonly data: ThreadData;
  /** The largest number of runs. */
  readonly runs: number;
  /** The seed of the first run. */
  readonly seed: number;
  /** The number of seconds after which no other batch begins. */
  readonly seconds: number;
  /** The number of kinds of failures to find. */
  readonly kinds: number;
  /** The number of threads. */
  readonly workers: number;
  /** Called after each batch. */
  onProgress(runs: number, kinds: number): void;
}

/** The results of the threads. */
export interface ThreadsResult {
  /** The number of runs, up to the last one that counts. */
  readonly runs: number;
  /** The first failure of each kind, in the order of their seeds. */
  readonly failures: ReadonlyMap<string, { readonly seed: number; readonly title: string }>;
}

/** The intended time of a batch, in milliseconds. */
const BATCH_MS = 200;
const LARGEST_BATCH = 5000;

/** The threads of the host; null if it has none, as a browser, or if the program of a thread is not a file. */
export function threadsOf(program: string): ThreadClass | null {
  if (!program.startsWith("file:")) return null;
  const { process } = globalThis as unknown as ThreadGlobals;
  return process?.getBuiltinModule?.("node:worker_threads")?.Worker ?? null;
}

/**
 * Explores.
 *
 * @param Thread Makes a thread
 * @param program The program of each thread
 * @param options The scenario, and the limits
 * @returns The result
 * @throws {TypeError} When a thread cannot load the scenario
 * @throws {Error} When a thread ends by itself
 */
export async function exploreInThreads(
  Thread: ThreadClass,
  program: string,
  { data, runs, seed, seconds, kinds, workers, onProgress }: ThreadsOptions,
): Promise<ThreadsResult> {
  const began = realTime();
  const results = new Map<number, BatchResult>();
  const seen = new Set<string>();
  let next = 0;
  let done = 0;
  let size = 4;
  let failed = false;

  const work = async (): Promise<void> => {
    // Deno requires a URL object.
    const { URL } = globalThis as unknown as ThreadGlobals;
    const thread = new Thread(new URL(program), { workerData: data });
    try {
      while (!failed && next < runs && seen.size < kinds && realTime() - began < seconds * 1000) {
        const batch: Batch = { seed: seed + next, runs: Math.min(size, runs - next), kinds };
        const start = next;
        next += batch.runs;
        const startedAt = realTime();
        const result = await ask(thread, batch);
        const tookMs = realTime() - startedAt;
        size = Math.max(
          1,
          Math.min(LARGEST_BATCH, Math.round(batch.runs * Math.min(4, BATCH_MS / Math.max(1, tookMs)))),
        );
        results.set(start, result);
        for (const { kind } of result.failures) seen.add(kind);
        done += result.runs;
        onProgress(done, seen.size);
      }
    } catch (error) {
      // The other threads end after their batch.
      failed = true;
      throw error;
    } finally {
      await thread.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(workers, runs) }, work));

  const failures = new Map<string, { seed: number; title: string }>();
  let total = 0;
  for (const [start, result] of [...results].sort((a, b) => a[0] - b[0])) {
    for (const { kind, seed: failing, title } of result.failures) {
      if (failures.has(kind)) continue;
      failures.set(kind, { seed: failing, title });
      if (failures.size === kinds) return { runs: failing - seed + 1, failures };
    }
    total = start + result.runs;
  }
  return { runs: total, failures };
}

function ask(thread: Thread, batch: Batch): Promise<BatchResult> {
  return new Promise((resolve, reject) => {
    const listeners = {
      message(result: BatchResult): void {
        stop();
        if (result.refused === undefined) resolve(result);
        else reject(new TypeError(`Cannot explore in threads: ${result.refused}`));
      },
      error(cause: Error): void {
        stop();
        reject(new Error(`Cannot explore in threads: a thread has failed: ${cause?.stack ?? cause}`, { cause }));
      },
      exit(code: number): void {
        stop();
        const why = `a thread has ended by itself, with ${code}: the scenario must not end the process`;
        reject(new Error(`Cannot explore in threads: ${why}`));
      },
    };
    const stop = (): void => {
      for (const [name, listener] of Object.entries(listeners)) thread.off(name, listener);
    };
    for (const [name, listener] of Object.entries(listeners)) thread.on(name, listener);
    thread.postMessage(batch);
  });
}
