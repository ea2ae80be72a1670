/**
 * `serve()` with every limit and timeout switched on: `npm run bench -- limits [node] [deno] [bun] [--quick]`.
 *
 * The server's CPU time of a line of 64 B, with 50 connections and 1 or 32 lines of each in flight, against the same server
 * without them. None of the limits is ever reached.
 */

import { row } from "./shared/goals.mjs";
import { buildPrograms, ours } from "./shared/programs.mjs";
import { buildLoad, chosenRuntimes, comparison, key, measureAll } from "./shared/servers.mjs";

const IN_FLIGHT = [1, 32];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const time = quick ? { warmupMs: 10, measureMs: 50 } : { warmupMs: 50, measureMs: 220 };
  // The goal is near 1, so there are more rounds than elsewhere.
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 5, jitMs: 700 };

  await buildPrograms(["limits_server"]);
  const contestants = runtimes.flatMap((name) =>
    ["off", "on"].map((mode) => ({ name: `${name} ${mode}`, command: ours(name, "limits_server", [mode]) }))
  );
  const workloads = IN_FLIGHT.map((inFlight) => ({
    label: `every limit and timeout on, ${inFlight} × 64 B`,
    how: { ...time, inFlight },
  }));
  const samples = await measureAll(contestants, workloads, plan, buildLoad());
  const rows = runtimes.flatMap((runtime) =>
    workloads.map(({ label }) => {
      const [on, off] = ["on", "off"].map((mode) => samples.get(key(`${runtime} ${mode}`, label)));
      return row("limits", runtime, { workload: label, ...comparison(on, off) });
    })
  );
  return { rows };
}
