/**
 * Runs the tests on the three runtimes: `npm test`, or `npm test -- [node] [deno] [bun] [part of a path]… [-t part of a name]`.
 *
 * A test file is a `*.test.ts` anywhere below `tests/` and uses `node:test`. Deno and Bun run the source, Node runs the output of
 * esbuild (tests/tools/bundles.mjs). Each file has its own process on each runtime, so a hang or a crash has a name. Files in
 * `tests/packaging/` and `tests/programs/` start the runtimes themselves, so only Node runs them.
 *
 * A terminal shows a line for each file that has ended; otherwise there is a line every 15 s. The output of a file that failed
 * follows its line. The last lines are the reasons of skipped tests and `N passed, N failed`.
 */

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { buildDist } from "../tools/build.mjs";
import { buildExamples, buildTests } from "./tools/bundles.mjs";
import { readTests } from "./tools/junit.mjs";
import { installBridges } from "./tools/bridges.mjs";
import { endAllOnExit, run } from "./tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIME_NAMES } from "./tools/runtimes.mjs";

const NODE_ONLY = ["tests/packaging/", "tests/programs/"];
/** No file takes a minute on an idle machine. */
const TIMEOUT_MS = 300_000;
/** Such a file starts the three runtimes one after the other. */
const NODE_ONLY_TIMEOUT_MS = 900_000;
/** The number of files that always run at a time. */
const JOBS = Number(process.env.TRIVENT_TEST_JOBS ?? Math.min(4, availableParallelism() + 1));
/** Many tests wait for a time to pass: while the machine is idle, more files run, up to this number. */
const MOST_JOBS = Number(process.env.TRIVENT_TEST_JOBS ?? 2 * JOBS);
/** The part of the processors' time that must be free before one file more begins, and for how long. */
const IDLE = 0.25;
const IDLE_MS = 2000;

/** The interval at which a run without a terminal prints its progress. */
const PROGRESS_MS = Number(process.env.TRIVENT_TEST_PROGRESS_MS ?? 15_000);
/** They take more than a minute, the longest first. */
const LONGEST = [
  "programs/faults",
  "programs/gateway",
  "programs/hostile",
  "programs/rot13_matrix",
  "programs/programs",
  "programs/handover",
  "programs/fork_programs",
  "packaging/tools",
  "programs/poll_programs",
  "packaging/types",
  "conformance/mutants",
];
/** The times of earlier runs, to begin with the longest files. */
const TIMES = join(ROOT, "build", "test_times.json");
/** Wraps `node:test` in the process of each file. */
const NODE_TEST = join(ROOT, "tests", "tools", "node_test.mjs");

const { words, names } = readArguments();
const chosen = words.filter((word) => RUNTIME_NAMES.includes(word));
const filters = words.filter((word) => !RUNTIME_NAMES.includes(word));
const runtimes = chosen.length > 0 ? RUNTIME_NAMES.filter((name) => chosen.includes(name)) : RUNTIME_NAMES;
const scratch = join(ROOT, "build", `tests-${process.pid}`);
const importMap = join(scratch, "import_map.json");
const started = performance.now();

endAllOnExit();
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
try {
  process.exitCode = await main();
} catch (error) {
  console.error(error.message);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { name: { type: "string", short: "t", multiple: true, default: [] } },
    });
    // Reports join the names of suites and tests by " > " or show them as a tree, so a copied name
    // must match unchanged.
    return { words: positionals, names: values.name.map((name) => name.replaceAll(" > ", " ")) };
  } catch (error) {
    console.error(`Cannot read the arguments: ${error.message}`);
    console.error("usage: npm test -- [node] [deno] [bun] [part of a path]… [-t part of a test's name]");
    process.exit(2);
  }
}

async function main() {
  const files = testFiles();
  const jobs = runtimes.flatMap((runtime) =>
    files.filter((file) => runtime === "node" || !isNodeOnly(file)).map((file) => ({ runtime, file }))
  );
  if (jobs.length === 0) throw new Error(`No test file matches ${filters.join(" ")}`);
  removeRests();
  mkdirSync(scratch, { recursive: true });
  writeImportMap();
  await buildFor(jobs);
  if (jobs.some(({ file }) => file.startsWith("tests/bridges/"))) await installBridges();

  const totals = new Map(runtimes.map((name) => [name, { files: 0, passed: 0, failed: 0, skipped: 0 }]));
  const results = [];
  const tell = progress(jobs.length, totals);
  const known = readTimes();
  const queue = jobs.toSorted((a, b) => expectedMs(b, known) - expectedMs(a, known));
  const work = async (job) => {
    const result = await runFile(job);
    results.push(result);
    const total = totals.get(job.runtime);
    total.files++;
    for (const key of ["passed", "failed", "skipped"]) total[key] += result[key];
    tell.ended(result);
  };
  await runAll(queue, work);
  tell.stop();
  keepTimes(known, results);
  reportSkipped(results);
  reportSlowest(results);
  return report(totals);
}

/**
 * Runs all jobs, several at a time. The long ones come first, so that no core is idle at the end.
 * Every third is a short one, because most of the long ones start servers and measure them, and
 * would disturb each other.
 */
async function runAll(queue, work) {
  const running = new Set();
  let begun = 0;
  let idleSince = takeIdle();
  const begin = () => {
    const job = ++begun % 3 === 0 ? queue.pop() : queue.shift();
    const over = work(job).finally(() => running.delete(over));
    running.add(over);
    idleSince = takeIdle();
  };
  while (queue.length > 0) {
    while (queue.length > 0 && running.size < JOBS) begin();
    let timer;
    const late = new Promise((resolve) => timer = setTimeout(resolve, IDLE_MS));
    await Promise.race([...running, late]);
    clearTimeout(timer);
    const now = takeIdle();
    if (now.at - idleSince.at < IDLE_MS) continue;
    const idle = (now.idleMs - idleSince.idleMs) / (now.allMs - idleSince.allMs);
    idleSince = now;
    if (queue.length > 0 && running.size < MOST_JOBS && idle > IDLE) begin();
  }
  await Promise.all(running);
}

/** The part of the processors' time that has been free so far. */
function takeIdle() {
  let [idleMs, allMs] = [0, 0];
  for (const { times } of cpus()) {
    idleMs += times.idle;
    for (const ms of Object.values(times)) allMs += ms;
  }
  return { at: performance.now(), idleMs, allMs };
}

/** Prints the progress of the run. */
function progress(files, totals) {
  let ended = 0;
  const soFar = () => `${ended} of ${files} files`;
  const timer = process.stdout.isTTY ? undefined : setInterval(() => {
    console.log(`${soFar()}, ${counted(sumOf(totals.values()))}, ${elapsed()}`);
  }, PROGRESS_MS);
  return {
    ended(result) {
      ended++;
      if (timer !== undefined) return;
      const { runtime, file, ms } = result;
      console.log(`${soFar()}: ${runtime} ${file}: ${counted(result)}, ${(ms / 1000).toFixed(1)} s`);
    },
    stop: () => clearInterval(timer),
  };
}

/** Prints the reasons of skipped tests, with their numbers. */
function reportSkipped(results) {
  const groups = new Map();
  for (const { runtime, reasons } of results) {
    for (const reason of reasons) {
      const group = groups.get(reason) ?? new Map();
      groups.set(reason, group.set(runtime, (group.get(runtime) ?? 0) + 1));
    }
  }
  if (groups.size === 0) return;
  console.log("skipped:");
  const sum = (group) => [...group.values()].reduce((a, b) => a + b, 0);
  for (const [reason, group] of [...groups].sort(([, a], [, b]) => sum(b) - sum(a))) {
    const where = runtimes.filter((name) => group.has(name)).map((name) => `${name} ${group.get(name)}`).join(", ");
    console.log(`${String(sum(group)).padStart(5)}  ${reason} (${where})`);
  }
}

/** A run of more than a minute prints its slowest files. */
function reportSlowest(results) {
  if (performance.now() - started < 60_000) return;
  const slowest = results.toSorted((a, b) => b.ms - a.ms).slice(0, 8);
  console.log("slowest:");
  for (const { runtime, file, ms } of slowest) {
    console.log(`${(ms / 1000).toFixed(1).padStart(7)} s  ${runtime} ${file}`);
  }
}

/** The time that each file took in earlier runs on this machine. */
function readTimes() {
  try {
    return JSON.parse(readFileSync(TIMES, "utf8"));
  } catch {
    return {};
  }
}

function keepTimes(known, results) {
  if (names.length > 0) return;
  for (const { runtime, file, ms } of results) known[`${runtime} ${file}`] = Math.round(ms);
  writeFileSync(TIMES, JSON.stringify(known));
}

/** Without an earlier run the time is estimated by the folder of a file; the longest are listed. */
function expectedMs({ runtime, file }, known) {
  const [, folder] = file.split("/");
  const longest = LONGEST.indexOf(file.replace(/^tests\/|\.test\.ts$/g, ""));
  if (longest >= 0) return known[`${runtime} ${file}`] ?? 100_000 - longest;
  return known[`${runtime} ${file}`] ?? { programs: 40_000, packaging: 30_000, conformance: 5000 }[folder] ?? 1000;
}

function report(totals) {
  for (const [name, total] of totals) {
    const mustRun = names.length === 0 && (total.files > 0 || filters.length === 0 || chosen.length > 0);
    if (total.passed + total.failed === 0 && mustRun) {
      console.log(`${name} executed no test`);
      total.failed++;
    }
    if (total.files === 0) continue;
    console.log(`${`${name} ${findRuntime(name).version}`.padEnd(14)} ${counted(total)} (${total.files} files)`);
  }
  const sum = sumOf(totals.values());
  if (names.length > 0 && sum.passed + sum.failed + sum.skipped === 0) {
    const files = [...totals.values()].reduce((count, total) => count + total.files, 0);
    console.log(`No test in ${files} files has a name that contains ${names.map((name) => `"${name}"`).join(" or ")}`);
    sum.failed++;
  }
  console.log(`took ${elapsed()}`);
  console.log(counted(sum));
  return sum.failed === 0 ? 0 : 1;
}

async function runFile({ runtime, file }) {
  const timeoutMs = timeoutOf(file);
  const base = join(scratch, `${runtime}-${file.replaceAll("/", "-")}`);
  const junit = `${base}.xml`;
  const result = await run(findRuntime(runtime).path, runnerArguments(runtime, file, junit, timeoutMs), {
    cwd: ROOT,
    env: {
      ...plainEnvironment(),
      TRIVENT_TEST_NAMES: JSON.stringify(names),
      TRIVENT_TEST_NOTES: `${base}.notes`,
      TRIVENT_TEST_RUNNING: `${base}.running`,
      TRIVENT_TEST_SHARED: scratch,
    },
    timeoutMs,
  });
  const tests = readTests(readIfThere(junit));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { status } of tests) counts[status]++;
  const problems = [];
  if (result.timedOut) {
    const stopped = Date.now();
    problems.push(`did not end within ${timeoutMs / 1000} s and was stopped: ${hanging(`${base}.running`, stopped)}`);
  } else if (result.code !== 0 && counts.failed === 0) {
    problems.push(`ended with ${result.signal ?? `exit code ${result.code}`}`);
  } else if (tests.length === 0 && names.length === 0) {
    problems.push("has no test");
  }
  const notes = readNotes(`${base}.notes`);
  for (const command of result.leftBehind) problems.push(`left a process behind: ${command}`);
  counts.failed += problems.length;
  if (counts.failed > 0) {
    console.log(`\n=== ${runtime} ${file}: ${counted(counts)}, ${(result.ms / 1000).toFixed(1)} s`);
    // Node's reporter repeats every failure at the end.
    console.log(result.output.split("\n✖ failing tests:")[0].trimEnd());
    for (const problem of problems) console.log(`=== ${runtime} ${file} ${problem}`);
    console.log();
  }
  return { runtime, file, ms: result.ms, ...counts, reasons: reasonsOf(tests, notes) };
}

function timeoutOf(file) {
  const given = process.env.TRIVENT_TEST_TIMEOUT_MS;
  if (given !== undefined) return Number(given);
  return isNodeOnly(file) ? NODE_ONLY_TIMEOUT_MS : TIMEOUT_MS;
}

/** The test that was running when a file was stopped, as NODE_TEST has written it. */
function hanging(path, stopped) {
  const line = readIfThere(path).trimEnd().split("\n").at(-1);
  if (!line) return "no test had begun";
  const { name, isOver, at } = JSON.parse(line);
  if (isOver) return `"${name}" had ended and no other test began; a handle is left open`;
  return `"${name}" had been running for ${((stopped - at) / 1000).toFixed(1)} s`;
}

/** The reasons of skipped tests and suites that NODE_TEST has written. */
function readNotes(path) {
  return readIfThere(path).split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

/** The reasons of skipped tests, one for each. */
function reasonsOf(tests, notes) {
  const noted = new Map(notes.map(({ name, reason }) => [name, reason]));
  return tests.filter(({ status }) => status === "skipped").map(({ name, reason }) => {
    // The tests of a skipped suite have no reason of their own.
    let path = name;
    while (!noted.has(path) && path.includes(" > ")) path = path.slice(0, path.lastIndexOf(" > "));
    return noted.get(path) ?? (reason === undefined || reason === "true" ? "no reason given" : reason);
  });
}

function runnerArguments(runtime, file, junit, timeoutMs) {
  switch (runtime) {
    case "node": {
      const reporters = ["spec", "stdout", "junit", junit].map((value, i) =>
        `--test-reporter${i % 2 === 0 ? "" : "-destination"}=${value}`
      );
      return ["--enable-source-maps", "--import", NODE_TEST, ...reporters, join(scratch, file.replace(/\.ts$/, ".js"))];
    }
    case "deno":
      // Types are checked for the whole tree at once, by `npm run check`. UDP and port sharing are behind a flag.
      return [
        ...["test", "--allow-all", "--no-check", "--unstable-net", `--import-map=${importMap}`],
        ...[`--junit-path=${junit}`, file],
      ];
    case "bun":
      return [
        ...["test", `--timeout=${timeoutMs}`, "--preload", NODE_TEST, "--pass-with-no-tests"],
        ...["--reporter=junit", `--reporter-outfile=${junit}`, `./${file}`],
      ];
  }
}

/** Writes the import map for Deno: the imports of deno.json, and NODE_TEST for `node:test`. */
function writeImportMap() {
  const { imports } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8"));
  for (const [name, target] of Object.entries(imports)) {
    if (target.startsWith("./")) imports[name] = pathToFileURL(join(ROOT, target)).href;
  }
  imports["node:test"] = pathToFileURL(NODE_TEST).href;
  writeFileSync(importMap, JSON.stringify({ imports }));
}

async function buildFor(jobs) {
  const onNode = jobs.filter((job) => job.runtime === "node").map((job) => job.file);
  if (onNode.length === 0) return;
  // A core test needs no `dist/`, so it can run while other parts of the tree do not build.
  const needsDist = onNode.some((file) => !file.startsWith("tests/core/"));
  if (needsDist) await buildDist({ declarations: onNode.some((file) => file.startsWith("tests/packaging/")) });
  if (onNode.some(isNodeOnly)) await buildExamples();
  await buildTests(onNode, scratch);
}

function testFiles() {
  return readdirSync(join(ROOT, "tests"), { recursive: true })
    .map((path) => `tests/${path.replaceAll("\\", "/")}`)
    .filter((path) => path.endsWith(".test.ts") && !path.includes("/node_modules/"))
    // The tests of this runner write their own test there.
    .filter((path) => !path.includes("/scratch-") || filters.some((filter) => filter.includes("/scratch-")))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort();
}

/** Removes the folders of runs that were killed. */
function removeRests() {
  mkdirSync(join(ROOT, "build"), { recursive: true });
  for (const folder of readdirSync(join(ROOT, "build"))) {
    const pid = Number(/^tests-(\d+)$/.exec(basename(folder))?.[1] ?? process.pid);
    if (!isAlive(pid)) rmSync(join(ROOT, "build", folder), { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function isNodeOnly(file) {
  return NODE_ONLY.some((folder) => file.startsWith(folder));
}

function readIfThere(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function sumOf(all) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const each of all) for (const key of Object.keys(sum)) sum[key] += each[key];
  return sum;
}

function elapsed() {
  return `${((performance.now() - started) / 1000).toFixed(1)} s`;
}

function counted({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
