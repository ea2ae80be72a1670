/**
 * The loop benchmark on one runtime: a line of JSON for each result. `bench/loop.mjs` builds it and runs it on all three.
 *
 *     main.ts PART… [--quick]      PART: hops (in memory), memory, tcp: with idle connections
 */

import { argv } from "node:process";
import { detectRuntime, type Runtime } from "../../mod.ts";
import { Bench, cascade, closePairs, makePairs } from "./hops.ts";
import { MemoryRuntime } from "./memory_runtime.ts";

const quick = argv.includes("--quick");
const ROUNDS = quick ? 5 : 25;
/** Hops before the rounds: V8 compiles a function after some ten thousand runs. C gets as many. */
const WARM_UP_HOPS = quick ? 0 : 100_000;
const LEAST_WARM_UP = quick ? 3 : 25;

function say(result: object): void {
  console.log(JSON.stringify(result));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] as number;
}

async function rounds(hops: number, round: () => Promise<number>): Promise<number> {
  for (let i = 0; i < LEAST_WARM_UP || i * hops < WARM_UP_HOPS; i++) await round();
  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) times.push(await round());
  return median(times) * 1000;
}

/** A round as in libevent: the events are made again before each. */
function fresh(bench: Bench): Promise<number> {
  bench.setUp();
  return bench.round();
}

/** Both benchmarks of libevent's, and then the first among more and more idle connections. */
async function hops(where: string, runtime: Runtime, idle: readonly number[]): Promise<void> {
  const pairs = await makePairs(runtime, Math.max(1000, ...idle));
  for (const [n, active, writes] of [[100, 1, 100], [1000, 100, 1000]] as const) {
    const bench = new Bench(runtime, pairs.slice(0, n), active, writes);
    say({
      where,
      work: "bench",
      n,
      active,
      writes,
      us: await rounds(bench.hops, () => fresh(bench)),
      hops: bench.hops,
    });
    bench.end();
  }
  for (const n of [100, 1000]) {
    const some = pairs.slice(0, n);
    say({ where, work: "cascade", n, us: await rounds(n, () => cascade(runtime, some)), hops: n });
  }
  for (const n of idle) {
    const bench = new Bench(runtime, pairs.slice(0, n), 1, 1000);
    // Once, not in each round: the garbage of n events would be collected within the time.
    bench.setUp();
    const us = await rounds(bench.hops, () => bench.round());
    say({ where, work: "idle", n, usPerEvent: us / bench.hops });
    bench.end();
  }
  closePairs(pairs);
}

if (argv.includes("hops")) await hops("memory", new MemoryRuntime(), []);
if (argv.includes("memory")) {
  await hops("memory", new MemoryRuntime(), quick ? [10, 100, 1000] : [10, 100, 1000, 10_000, 100_000]);
}
// Both ends are in this process, and it may have 20,000 files on many systems.
if (argv.includes("tcp")) await hops("tcp", detectRuntime(), quick ? [10, 100, 1000] : [10, 100, 1000, 3000, 9000]);
