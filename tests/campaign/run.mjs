/**
 * The campaign: `npm run campaign -- [--runs N] [--seconds S] [--jobs J] [--seed N] [--plan FILE] [--failures N]`.
 *
 * It plays random programs on the simulator, each with a seed of its own, and checks them all the time. Without `--seed` the
 * first seed is made from the date, so that each day has its own. A failure is made smaller, printed and kept in
 * `build/campaign/`; `--plan` plays such a file again, with a log.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { ROOT } from "../tools/runtimes.mjs";
import { bundleCampaign } from "./bundle.mjs";
import { playAlone, shrink } from "./shrink.mjs";

const BATCH = 20;
const PROGRESS_MS = 15_000;
const FOLDER = join(ROOT, "build", "campaign");

const options = readArguments();
mkdirSync(FOLDER, { recursive: true });
const path = join(FOLDER, `campaign-${process.pid}.mjs`);
await bundleCampaign(path);
if (options.plan !== undefined) await repeat();
else await explore();

function readArguments() {
  const number = (text, name) => {
    const value = Number(text);
    if (text === undefined || (Number.isFinite(value) && value >= 0)) return text === undefined ? undefined : value;
    console.error(`Cannot read the arguments: --${name} is not a number: received ${text}`);
    process.exit(2);
  };
  try {
    const { values } = parseArgs({
      options: Object.fromEntries(
        ["runs", "seconds", "jobs", "seed", "plan", "failures"].map((name) => [name, { type: "string" }]),
      ),
    });
    const seconds = number(values.seconds, "seconds") ?? Infinity;
    return {
      runs: number(values.runs, "runs") ?? (seconds === Infinity ? 1000 : Infinity),
      seconds,
      jobs: number(values.jobs, "jobs") ?? 1,
      seed: number(values.seed, "seed") ?? Number(new Date().toISOString().slice(0, 10).replaceAll("-", "")) * 1e6,
      failures: number(values.failures, "failures") ?? 1,
      plan: values.plan,
    };
  } catch (error) {
    console.error(`Cannot read the arguments: ${error.message}`);
    process.exit(2);
  }
}

/** Plays the seeds, until there are enough of them or enough failures. */
async function explore() {
  const { runs, seconds, jobs, seed, failures } = options;
  console.log(`campaign: seeds from ${seed} on; to repeat it: npm run campaign -- --seed ${seed} --runs ${runs}`);
  const begun = performance.now();
  const elapsed = () => (performance.now() - begun) / 1000;
  const found = [];
  let given = 0;
  let played = 0;
  let cpu = 0;
  const progress = () =>
    `${played} runs, ${found.length} failed, ${elapsed().toFixed(0)} s, ${
      (played / Math.max(cpu, 0.001)).toFixed(0)
    } runs per CPU second`;
  const timer = setInterval(() => console.log(progress()), PROGRESS_MS);
  const next = () => {
    if (given >= runs || elapsed() >= seconds || found.length >= failures) return undefined;
    const from = given;
    given = Math.min(runs, given + BATCH);
    return { from: seed + from, count: given - from };
  };
  await Promise.all(Array.from({ length: jobs }, () =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL("worker.mjs", import.meta.url), { workerData: { path } });
      const give = () => {
        const batch = next();
        if (batch === undefined) worker.terminate().then(resolve, reject);
        else worker.postMessage(batch);
      };
      worker.on("message", (result) => {
        played += result.played;
        cpu += result.cpuSeconds;
        for (const { seed, message } of result.failures) console.log(`seed ${seed} fails: ${message}`);
        found.push(...result.failures);
        give();
      });
      worker.on("error", reject);
      give();
    })));
  clearInterval(timer);
  console.log(progress());
  for (const { seed, plan, message } of found.slice(0, failures)) await report(seed, plan, message);
  if (found.length > 0) process.exitCode = 1;
}

/** Makes a failure smaller, and tells it. */
async function report(seed, plan, message) {
  console.log(`\nseed ${seed} fails: ${message}`);
  const campaign = await import(path);
  const small = await shrink(campaign, plan, message);
  const file = join(FOLDER, `plan-${seed}.json`);
  writeFileSync(file, `${JSON.stringify(small, null, 2)}\n`);
  const { error, log } = await playAlone(campaign, small, true);
  console.log(log.slice(-50).join("\n"));
  console.log(`\n${error?.message}\n${JSON.stringify(small)}\nto repeat it: npm run campaign -- --plan ${file}`);
}

/** Plays a plan that was kept. */
async function repeat() {
  const campaign = await import(path);
  const plan = JSON.parse(readFileSync(options.plan, "utf8"));
  const { error, log, hash } = await playAlone(campaign, plan, true);
  console.log(log.join("\n"));
  console.log(error === null ? `passed, ${hash}` : error.stack);
  process.exitCode = error === null ? 0 : 1;
}
