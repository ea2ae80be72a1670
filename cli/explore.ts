/**
 * `trivent explore FILE`: explores the scenario of a file from a shell.
 *
 * @module
 */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { relative, resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { explore, type ExploreFailure, type FaultPlan, replay } from "../runtimes/sim.ts";
import { faultLine, indented, stackOf } from "./report.ts";
import { type Loaded, loadScenario, UsageError } from "./scenario.ts";

/** The usage of the command. */
export const USAGE: string = `usage: trivent explore FILE [options]

FILE is a module whose default export is a scenario: an async function that gets a simulator. Its export "options", if there
is one, is what explore() takes: { faults, leftovers, … }.

  --runs N      how many runs at most; by default 1000, and 1 with --seed
  --seed N      the seed of the first run: repeats that run
  --seconds S   begins no other run after so many seconds
  --kinds N     looks for so many kinds of failures before it stops; by default 1
  --workers N   runs on so many threads; by default one for each CPU; 0 for none
  --shrink N    how many runs may be spent to make the list of faults of a failure shorter; by default 1000
  --save PLAN   writes the plan of the failure into a file, as JSON; of further kinds into PLAN-2, PLAN-3, …
  --plan PLAN   repeats the run of such a plan, and nothing else

It ends with 1 when a run has failed, with 2 when the command is wrong, else with 0.`;

const OPTIONS = {
  runs: { type: "string" },
  seed: { type: "string" },
  seconds: { type: "string" },
  kinds: { type: "string" },
  workers: { type: "string" },
  shrink: { type: "string" },
  save: { type: "string" },
  plan: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

/** A run with fewer is not worth a thread. */
const FEW_RUNS = 50;
const TRACE_LINES = 50;
/** The interval of progress lines if the output is not a terminal. */
const PROGRESS_SECONDS = 10;

/** The settings, checked. */
interface Settings {
  readonly file: string;
  readonly runs: number | undefined;
  readonly seed: number | undefined;
  readonly seconds: number | undefined;
  readonly kinds: number | undefined;
  readonly workers: number | undefined;
  readonly shrink: number | undefined;
  readonly save: string | undefined;
  readonly plan: string | undefined;
}

/**
 * Runs the command.
 *
 * @param args Its arguments
 * @returns The exit code
 */
export async function exploreCommand(args: readonly string[]): Promise<number> {
  try {
    const settings = readArguments(args);
    if (settings === undefined) {
      console.log(USAGE);
      return 0;
    }
    const path = resolve(settings.file);
    if (!existsSync(path)) throw new UsageError(`there is no file ${settings.file}`);
    const url = pathToFileURL(path).href;
    const loaded = await loadScenario(url);
    return await (settings.plan === undefined
      ? search(settings, url, loaded)
      : repeat(settings.file, settings.plan, loaded));
  } catch (error) {
    // A wrong option of the scenario's file is found by explore().
    const wrong = error instanceof TypeError || error instanceof RangeError;
    const refused = error instanceof Error &&
      error.message.startsWith(wrong ? "Cannot " : "Cannot explore in threads: ");
    if (!(error instanceof UsageError) && !refused) throw error;
    console.error(`trivent explore: ${(error as Error).message}`);
    if (error instanceof UsageError && error.showsUsage) console.error(`\n${USAGE}`);
    return 2;
  }
}

function readArguments(args: readonly string[]): Settings | undefined {
  let parsed;
  try {
    parsed = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message, true);
  }
  const { values, positionals: [file, ...others] } = parsed;
  if (values.help === true) return undefined;
  if (file === undefined) throw new UsageError("no file is given", true);
  if (others.length > 0) {
    throw new UsageError(`one file is explored at a time: received ${[file, ...others].join(" ")}`, true);
  }
  return {
    file,
    runs: count("runs", values.runs, 1),
    seed: count("seed", values.seed, -Infinity),
    seconds: number("seconds", values.seconds),
    kinds: count("kinds", values.kinds, 1),
    workers: count("workers", values.workers, 0),
    shrink: count("shrink", values.shrink, 0),
    save: values.save,
    plan: values.plan,
  };
}

function count(name: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text.replaceAll("_", ""));
  if (/^-?\d/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
  throw new UsageError(
    `--${name} is not a whole number${least > -Infinity ? `, ${least} or more` : ""}: received ${text}`,
  );
}

function number(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d/.test(text) && Number.isFinite(value)) return value;
  throw new UsageError(`--${name} is not a number, 0 or more: received ${text}`);
}

async function search(settings: Settings, url: string, { scenario, options }: Loaded): Promise<number> {
  const seed = settings.seed ?? options.seed ?? 0;
  const runs = settings.runs ?? (settings.seed === undefined ? options.runs ?? 1000 : 1);
  const kinds = settings.kinds ?? options.kinds ?? 1;
  const seconds = settings.seconds ?? options.seconds;
  const shrinkRuns = settings.shrink ?? options.shrinkRuns;
  // A module from the network has no worker file beside it.
  const threads = import.meta.url.startsWith("file:") ? settings.workers ?? availableParallelism() : 0;
  const progress = progressLine(runs);
  const { failures, runs: done } = await explore(scenario, {
    ...options,
    runs,
    seed,
    seconds,
    kinds,
    shrinkRuns,
    workers: runs < FEW_RUNS && settings.workers === undefined ? 0 : threads,
    module: url,
    onProgress: progress.show,
  });
  progress.end(done, failures.length);
  failures.forEach((failure, i) => {
    console.log(reportOf(settings.file, failure));
    if (settings.save === undefined) return;
    const name = i === 0 ? settings.save : settings.save.replace(/(\.[^./\\]*)?$/, (end) => `-${i + 1}${end}`);
    writeFileSync(name, `${JSON.stringify(failure.plan, undefined, 2)}\n`);
    console.log(`The plan is in ${name}. Repeat it:\n  ${commandLine(settings.file, `--plan ${name}`)}\n`);
  });
  return failures.length === 0 ? 0 : 1;
}

/** Repeats a plan. */
async function repeat(file: string, name: string, { scenario }: Loaded): Promise<number> {
  let plan: FaultPlan;
  try {
    plan = JSON.parse(readFileSync(name, "utf8")) as FaultPlan;
  } catch (error) {
    throw new UsageError(`cannot read the plan ${name}: ${(error as Error).message}`);
  }
  let lines: string[] = [];
  try {
    await replay((sim) => {
      sim.trace = (line) => {
        if (lines.push(line) > 2 * TRACE_LINES) lines = lines.slice(-TRACE_LINES);
      };
      return scenario(sim);
    }, plan);
  } catch (error) {
    if (error instanceof Error && error.message.startsWith("Cannot repeat a plan: ")) throw error;
    console.log(`the plan ${name} fails:\n\n${indented(stackOf(error))}\n`);
    console.log(`faults:\n${plan.faults.map((fault) => `  ${faultLine(fault)}`).join("\n") || "  none"}\n`);
    console.log(
      `the last ${Math.min(lines.length, TRACE_LINES)} events:\n${indented(lines.slice(-TRACE_LINES).join("\n"))}`,
    );
    return 1;
  }
  console.log(`the plan ${name} does not fail: ${file} was corrected, or is another program`);
  return 0;
}

function reportOf(file: string, failure: ExploreFailure): string {
  const { seed, error, faults, faultsBefore, trace } = failure;
  const list = faults.map((fault) => `  ${faultLine(fault)}`).join("\n");
  const needed = faultsBefore === 0
    ? "No fault happened."
    : faults.length === 0
    ? `${faultsBefore} faults happened. It fails without any of them.`
    : `${faultsBefore} faults happened. ${faults.length === 1 ? "One is" : `${faults.length} are`} enough:\n\n${list}`;
  return [
    `seed ${seed} fails:`,
    indented(stackOf(error)),
    needed,
    ...(trace.length === 0 ? [] : [`the last ${trace.length} events:\n\n${indented(trace.join("\n"))}`]),
    `Repeat it:\n  ${commandLine(file, `--seed ${seed}`)}\n`,
  ].join("\n\n");
}

/** The line for a shell that runs the same once more. */
function commandLine(file: string, rest: string): string {
  const { bun, deno } = process.versions as { bun?: string; deno?: string };
  const name = import.meta.url.startsWith("file:") ? "npm:trivent" : "jsr:@trivent/trivent/cli";
  const program = bun !== undefined ? "bunx --bun trivent" : deno !== undefined ? `deno run -A ${name}` : "npx trivent";
  const path = relative(process.cwd(), resolve(file));
  return `${program} explore ${/[^\w./-]/.test(path) ? JSON.stringify(path) : path} ${rest}`;
}

/** Prints the progress: in one line of a terminal, or in a line from time to time. */
function progressLine(runs: number): {
  show(progress: { runs: number; seconds: number; kinds: number; shrinkRuns: number }): void;
  end(runs: number, kinds: number): void;
} {
  const { stderr } = process;
  const began = performance.now();
  let told = 0;
  let shown = false;
  return {
    show({ runs: done, seconds, kinds, shrinkRuns }) {
      if (!stderr.isTTY && seconds - told < PROGRESS_SECONDS) return;
      told = seconds;
      const found = kinds === 0 ? "" : `, ${kinds} ${kinds === 1 ? "kind" : "kinds"} of failures`;
      const shrunk = shrinkRuns === 0 ? "" : `, ${shrinkRuns} runs to shorten`;
      const line = `${done} of ${runs} runs, ${Math.round(done / Math.max(seconds, 0.001))} runs/s${found}${shrunk}`;
      if (stderr.isTTY) stderr.write(`\r\x1b[K${line}`);
      else stderr.write(`${line}\n`);
      shown = true;
    },
    end(done, kinds) {
      if (shown && stderr.isTTY) stderr.write("\r\x1b[K");
      const seconds = (performance.now() - began) / 1000;
      const found = kinds === 0
        ? "nothing found"
        : `${kinds} ${kinds === 1 ? "kind of failure" : "kinds of failures"} found`;
      console.log(`${done} runs in ${seconds.toFixed(1)} s, ${Math.round(done / seconds)} runs/s: ${found}\n`);
    },
  };
}
