/**
 * The first lines after the start: `npm run bench -- cold [node] [deno] [bun] [--quick]`.
 *
 * The server's CPU time of its first 20,000 lines of 64 B, which come on 50 connections with one line in flight on each, and
 * of those connections: `examples/rot13_bufferevent.ts` against servers by hand on the same runtime. Each sample is a
 * process of its own.
 */

import { buildExamples } from "../tests/tools/bundles.mjs";
import { exampleCommand } from "../tests/tools/runtimes.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, growing } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { buildLoad, chosenRuntimes, comparison, measure, startServer } from "./shared/servers.mjs";

const COUNT = 20_000;

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const rounds = quick ? 1 : 11;
  const how = { warmupMs: 0, measureMs: 0, count: quick ? 2000 : COUNT };
  await buildPrograms([]);
  await buildExamples(["rot13_bufferevent"]);
  const load = buildLoad();
  const rows = [];
  for (const runtime of runtimes) {
    const { file, args } = exampleCommand(runtime, "rot13_bufferevent", ["0"]);
    const commands = [[file, ...args], growing(runtime)];
    const samples = commands.map(() => []);
    for (let round = 0; round < rounds; round++) {
      step(`${runtime}, round ${round + 1} of ${rounds}`);
      for (let i = 0; i < commands.length; i++) {
        const at = (i + round) % commands.length;
        const server = await startServer(commands[at]);
        try {
          samples[at].push(await measure(load, server, how));
        } finally {
          await server.stop();
        }
      }
    }
    rows.push(row("cold", runtime, comparison(samples[0], samples[1])));
  }
  return { rows };
}
