/**
 * Timers: `npm run bench -- timers [node] [deno] [bun] [--quick]`.
 *
 * 1,000,000 timers are made and added, and deleted; and libevent's `test-time`: 20,000 timers, each of which restarts or
 * deletes ten others when it fires. Ours, libevent in C and the host's `setTimeout` do the same in processes of their own,
 * one right behind the other.
 */

import { run as execute } from "../tests/tools/processes.mjs";
import { findRuntime, plainEnvironment, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { bundle } from "./shared/bundle.mjs";
import { compileWithLibevent, HOW_TO_GET_C } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { pinned } from "./shared/pinned.mjs";
import { program } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { compare, medians } from "./shared/stats.mjs";

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const plan = quick
    ? { count: 20_000, restarts: 2_000, rounds: 1, timers: 200, testTimeRounds: 1 }
    : { count: 1_000_000, restarts: 100_000, rounds: 2, timers: 20_000, testTimeRounds: 2 };
  const file = await bundle("bench/loop/timers_main.ts", "timers_loop.mjs");
  const binary = compileWithLibevent("timers");
  if (binary === undefined) console.log(`C is left out: ${HOW_TO_GET_C}`);

  const rows = [];
  for (const name of RUNTIMES.filter((each) => args.length === 0 || args.includes(each))) {
    step(`${name} ${findRuntime(name).version}`);
    const all = await onRuntime(name, file, "ours", plan);
    const c = binary === undefined ? undefined : await inC(binary, plan);
    const host = await onRuntime(name, file, "host", plan);
    for (const [work, workload] of workloads(plan)) {
      const of = (rounds) => rounds.filter((each) => each.work === work).map(({ work: _, ...round }) => round);
      const [ours, theirs] = [of(all), of(host)];
      const mine = ours.map(cost);
      rows.push(row("timers-host", name, {
        workload,
        ...compare(theirs.map(cost), mine),
        details: { ours: medians(ours), theirs: medians(theirs) },
      }));
      rows.push(
        c === undefined ? row("timers-c", name, { workload, skipped: HOW_TO_GET_C }) : row("timers-c", name, {
          workload,
          ...compare(mine, c[work].map(cost)),
          details: { ours: medians(ours), theirs: medians(c[work]) },
        }),
      );
    }
  }
  return { rows };
}

function workloads({ count, timers }) {
  return [
    ["churn", `timers: ${count.toLocaleString("en")} added and deleted`],
    ["test-time", `timers: \`test-time\`, ${timers.toLocaleString("en")} timers, CPU`],
  ];
}

/**
 * The compared values of a round: adding and deleting a timer, in nanoseconds, or the whole in
 * milliseconds.
 */
function cost(round) {
  return round.ms ?? round.add + round.del;
}

async function onRuntime(name, file, side, { count, restarts, rounds, timers, testTimeRounds }) {
  const numbers = [count, restarts, rounds, timers, testTimeRounds].map(String);
  const [path, ...args] = pinned(0, program(name, file, [side, ...numbers]));
  const { code, output } = await execute(path, args, { env: plainEnvironment(), timeoutMs: 300_000 });
  if (code !== 0) throw new Error(`the program failed on ${name}:\n${output}`);
  return output.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}

async function inC(binary, { count, rounds, timers, testTimeRounds }) {
  const lines = async (...words) => {
    const [path, ...args] = pinned(0, [binary, ...words.map(String)]);
    const { code, output } = await execute(path, args, { timeoutMs: 120_000 });
    if (code !== 0) throw new Error(`timers in C failed: ${output}`);
    return output.trim().split("\n").map((line) => line.split(" ").map(Number));
  };
  return {
    churn: (await lines("churn", count, rounds)).map(([add, restart, del]) => ({ add, restart, del })),
    "test-time": (await lines("test-time", timers, testTimeRounds)).map(([ms]) => ({ ms })),
  };
}
