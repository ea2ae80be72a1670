/**
 * Runs the tests on the three runtimes: `npm test`, or `npm test -- [node] [deno] [bun] [part of a path]…`.
 *
 * A test file is a `*.test.ts` anywhere below `tests/` and uses `node:test`. Deno and Bun run the source, Node what esbuild makes of it
 * (tests/tools/bundles.mjs). Each file has a process of its own per runtime, so a hang or a crash has a name. Files in
 * `tests/packaging/` and `tests/programs/` start the runtimes themselves and are run by Node only.
 *
 * Quiet while all is well; all that a failed file printed otherwise. The last line is `N passed, N failed`.
 */

import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { buildDist } from "../tools/build.mjs";
import { buildExamples, buildTests } from "./tools/bundles.mjs";
import { countTests } from "./tools/junit.mjs";
import { endAllOnExit, run } from "./tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIME_NAMES } from "./tools/runtimes.mjs";

const NODE_ONLY = ["tests/packaging/", "tests/programs/"];
const TIMEOUT_MS = 120_000;
/** A file of these starts the three runtimes in turn. */
const NODE_ONLY_TIMEOUT_MS = 900_000;
/** A test machine has two cores, and most tests wait more than they compute. */
const JOBS = Number(process.env.TRIVENT_TEST_JOBS ?? 2);

const chosen = process.argv.slice(2).filter((word) => RUNTIME_NAMES.includes(word));
const filters = process.argv.slice(2).filter((word) => !RUNTIME_NAMES.includes(word));
const runtimes = chosen.length > 0 ? RUNTIME_NAMES.filter((name) => chosen.includes(name)) : RUNTIME_NAMES;
const scratch = join(ROOT, "build", `tests-${process.pid}`);
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

async function main() {
  const files = testFiles();
  const jobs = runtimes.flatMap((runtime) =>
    files.filter((file) => runtime === "node" || !isNodeOnly(file)).map((file) => ({ runtime, file }))
  );
  if (jobs.length === 0) throw new Error(`No test file matches ${filters.join(" ")}`);
  removeRests();
  mkdirSync(scratch, { recursive: true });
  await buildFor(jobs);

  const totals = new Map(runtimes.map((name) => [name, { files: 0, passed: 0, failed: 0, skipped: 0 }]));
  // The long ones first, so that no core is idle at the end.
  const queue = jobs.toSorted((a, b) => Number(isNodeOnly(b.file)) - Number(isNodeOnly(a.file)));
  await Promise.all(Array.from({ length: JOBS }, async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      const counts = await runFile(job);
      const total = totals.get(job.runtime);
      total.files++;
      for (const key of ["passed", "failed", "skipped"]) total[key] += counts[key];
    }
  }));
  return report(totals);
}

function report(totals) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const [name, total] of totals) {
    if (total.passed + total.failed === 0 && (total.files > 0 || filters.length === 0 || chosen.length > 0)) {
      console.log(`${name} executed no test`);
      total.failed++;
    }
    for (const key of ["passed", "failed", "skipped"]) sum[key] += total[key];
    if (total.files === 0) continue;
    console.log(`${`${name} ${findRuntime(name).version}`.padEnd(14)} ${counted(total)} (${total.files} files)`);
  }
  console.log(`took ${((performance.now() - started) / 1000).toFixed(1)} s`);
  console.log(counted(sum));
  return sum.failed === 0 ? 0 : 1;
}

async function runFile({ runtime, file }) {
  const timeoutMs = isNodeOnly(file) ? NODE_ONLY_TIMEOUT_MS : TIMEOUT_MS;
  const junit = join(scratch, `${runtime}-${file.replaceAll("/", "-")}.xml`);
  const result = await run(findRuntime(runtime).path, runnerArguments(runtime, file, junit, timeoutMs), {
    cwd: ROOT,
    env: plainEnvironment(),
    timeoutMs,
  });
  const counts = countTests(readIfThere(junit));
  const problems = [];
  if (result.timedOut) {
    problems.push(`did not end within ${timeoutMs / 1000} s and was stopped: a test hangs or a handle is left open`);
  } else if (result.code !== 0 && counts.failed === 0) {
    problems.push(`ended with ${result.signal ?? `exit code ${result.code}`}`);
  } else if (counts.passed + counts.failed + counts.skipped === 0) {
    problems.push("has no test");
  }
  for (const command of result.leftBehind) problems.push(`left a process behind: ${command}`);
  counts.failed += problems.length;
  if (counts.failed > 0) {
    console.log(`\n=== ${runtime} ${file}: ${counted(counts)}, ${(result.ms / 1000).toFixed(1)} s`);
    // Node's reporter tells every failure a second time at the end.
    console.log(result.output.split("\n✖ failing tests:")[0].trimEnd());
    for (const problem of problems) console.log(`=== ${runtime} ${file} ${problem}`);
    console.log();
  }
  return counts;
}

function runnerArguments(runtime, file, junit, timeoutMs) {
  switch (runtime) {
    case "node": {
      const reporters = ["spec", "stdout", "junit", junit].map((value, i) =>
        `--test-reporter${i % 2 === 0 ? "" : "-destination"}=${value}`
      );
      return ["--enable-source-maps", ...reporters, join(scratch, file.replace(/\.ts$/, ".js"))];
    }
    case "deno":
      // Types are checked for the whole tree at once, by `npm run check`. UDP and port sharing are behind a flag.
      return ["test", "--allow-all", "--no-check", "--unstable-net", `--junit-path=${junit}`, file];
    case "bun":
      return ["test", `--timeout=${timeoutMs}`, "--reporter=junit", `--reporter-outfile=${junit}`, `./${file}`];
  }
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
    .filter((path) => path.endsWith(".test.ts"))
    // The tests of this runner write a test of their own there.
    .filter((path) => !path.includes("/scratch-") || filters.some((filter) => filter.includes("/scratch-")))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort();
}

/** Removes what runs that were killed have left. */
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

function counted({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
