/**
 * The simulator: `npm run bench -- sim [node] [deno] [bun] [--quick]`.
 *
 * - An echo of 100 clients by callbacks only: events per second of CPU of `advanceSync()` and of `advance()`, against
 *   `advance()` as it was before promises were waited for by macrotasks. The earlier commit is taken from the history.
 * - 100,000 connections of `serve()` and `connect()` that exchange a line each: seconds of CPU.
 *
 * Each process runs right after the one that it is compared with, in several rounds.
 */

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { run as execute } from "../tests/tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { BUILD } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { pinned } from "./shared/pinned.mjs";
import { step } from "./shared/progress.mjs";
import { compare, median } from "./shared/stats.mjs";

/** The last commit whose simulator waited for promises by counting ticks. */
const BEFORE = "a7f8d4d";
const ROUNDS = 3;

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const now = await bundled(ROOT, "sim_now.mjs");
  const before = await earlier();
  const seconds = quick ? 0.2 : 1;
  const count = quick ? 1000 : 100_000;
  const rows = [];
  for (const name of RUNTIMES.filter((each) => args.length === 0 || args.includes(each))) {
    step(`${name} ${findRuntime(name).version}`);
    const samples = { old: [], sync: [], promises: [] };
    for (let round = 0; round < (quick ? 1 : ROUNDS); round++) {
      if (before !== undefined) {
        samples.old.push((await measure(name, before, ["echo", "advance", seconds])).eventsPerSecond);
      }
      samples.sync.push((await measure(name, now, ["echo", "advanceSync", seconds])).eventsPerSecond);
      samples.promises.push((await measure(name, now, ["echo", "advance", seconds])).eventsPerSecond);
    }
    for (const [id, ours] of [["sim-sync", samples.sync], ["sim-promises", samples.promises]]) {
      rows.push(
        before === undefined ? row(id, name, { skipped: `the history has no commit ${BEFORE}` }) : row(id, name, {
          ...compare(ours, samples.old),
          details: { eventsPerSecond: median(ours), before: median(samples.old) },
        }),
      );
    }
    const taken = await measure(name, now, ["connections", "", count]);
    rows.push(
      row("sim-connections", name, { ratio: taken.seconds, spread: [taken.seconds, taken.seconds], details: taken }),
    );
  }
  return { rows };
}

/** The program with the library below `root`, as one file for all runtimes. */
async function bundled(root, name) {
  const outfile = join(BUILD, name);
  await build({
    absWorkingDir: ROOT,
    entryPoints: ["bench/sim/main.ts"],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "es2022",
    logLevel: "error",
    alias: { trivent: join(root, "mod.ts") },
  });
  return outfile;
}

/**
 * The same with the library of the earlier commit; undefined if the history does not include it.
 */
async function earlier() {
  const folder = join(BUILD, `sim-${BEFORE}`);
  if (!existsSync(join(folder, "mod.ts"))) {
    mkdirSync(folder, { recursive: true });
    const script = 'git archive "$0" mod.ts core runtimes | tar -x -C "$1"';
    const { code } = await execute("sh", ["-c", script, BEFORE, folder], { cwd: ROOT, timeoutMs: 60_000 });
    if (code !== 0 || !existsSync(join(folder, "mod.ts"))) return undefined;
  }
  return await bundled(folder, `sim_${BEFORE}.mjs`);
}

async function measure(name, file, words) {
  const { path } = findRuntime(name);
  const before = name === "deno" ? ["run", "--quiet", "--no-check", "--allow-all", file] : [file];
  const [first, ...args] = pinned(0, [path, ...before, ...words.map(String)]);
  const result = await execute(first, args, { cwd: ROOT, env: plainEnvironment(), timeoutMs: 300_000 });
  const line = result.output.split("\n").find((each) => each.startsWith("{"));
  if (result.code !== 0 || line === undefined) throw new Error(`the program failed on ${name}:\n${result.output}`);
  return JSON.parse(line);
}
