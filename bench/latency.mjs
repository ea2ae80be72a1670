/**
 * Latencies below the limit: `npm run bench -- latency [node] [deno] [bun] [--quick]`.
 *
 * Lines of 64 B come at a fixed rate on 50 connections: 70 % of what the server by hand answers when every connection always
 * has a line in flight. A latency counts from the time when the line was due. `examples/rot13_bufferevent.ts` against the
 * server by hand, at the same rate, in turn.
 */

import { buildExamples } from "../tests/tools/bundles.mjs";
import { exampleCommand } from "../tests/tools/runtimes.mjs";
import { HOW_TO_GET_C } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, growing } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { buildLoad, chosenRuntimes, comparison, measure, startServer } from "./shared/servers.mjs";
import { median } from "./shared/stats.mjs";

const SHARE = 0.7;
const FIELDS = { "p99": "p99Us", "p99.9": "p999Us" };

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const plan = quick
    ? { rounds: 1, jitMs: 20, warmupMs: 20, measureMs: 100 }
    : { rounds: 6, jitMs: 1200, warmupMs: 100, measureMs: 800 };
  const workload = (name) => `latency at 70 % of the other's throughput, ${name}`;
  const [closed, paced] = [buildLoad(), buildLoad("paced")];
  if (paced === undefined) {
    const skipped = HOW_TO_GET_C;
    return {
      rows: runtimes.flatMap((runtime) =>
        Object.keys(FIELDS).map((name) => row("latency", runtime, { workload: workload(name), skipped }))
      ),
    };
  }
  await buildPrograms([]);
  await buildExamples(["rot13_bufferevent"]);
  const rows = [];
  for (const runtime of runtimes) {
    const { file, args } = exampleCommand(runtime, "rot13_bufferevent", ["0"]);
    const servers = await Promise.all([[file, ...args], growing(runtime)].map((command) => startServer(command)));
    const samples = servers.map(() => []);
    try {
      for (const server of servers) await measure(closed, server, { warmupMs: plan.jitMs, measureMs: 20 });
      const { warmupMs, measureMs } = plan;
      const throughputs = [];
      for (let i = 0; i < (quick ? 1 : 3); i++) {
        throughputs.push((await measure(closed, servers[1], { warmupMs, measureMs: 200 })).perSecond);
      }
      const how = { warmupMs, measureMs, rate: Math.round(SHARE * median(throughputs)) };
      for (let round = 0; round < plan.rounds; round++) {
        step(`${runtime}, ${how.rate} lines a second, round ${round + 1} of ${plan.rounds}`);
        for (let i = 0; i < servers.length; i++) {
          const at = (i + round) % servers.length;
          samples[at].push(await measure(paced, servers[at], how));
        }
      }
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
    for (const [name, field] of Object.entries(FIELDS)) {
      rows.push(row("latency", runtime, { workload: workload(name), ...comparison(samples[0], samples[1], field) }));
    }
  }
  return { rows };
}
