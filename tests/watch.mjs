/**
 * Runs tests again whenever a source changes: `npm run test:watch`, or `npm run test:watch -- [what npm test takes]`. Without
 * arguments these are the tests of the core on Node. Ctrl-C ends it.
 *
 * A change during a run ends that run and starts another.
 */

import { spawn } from "node:child_process";
import { watch } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./tools/runtimes.mjs";

const WATCHED = ["mod.ts", "core", "runtimes", "examples", "tests", "deno.json"];
/** An editor writes a file in several steps, and a change of branch many files. */
const QUIET_MS = 200;

const args = process.argv.length > 2 ? process.argv.slice(2) : ["node", "tests/core/"];
let child;
let timer;
let isOver = false;

for (const path of WATCHED) {
  watch(join(ROOT, path), { recursive: true }, (_, name) => {
    // Tests of the runner write test files, which are watched only if they are named.
    const isScratch = /(^|[\\/])scratch-/.test(name ?? "") && !args.some((arg) => arg.includes("scratch-"));
    if (isScratch || !/\.(ts|mjs|json)$/.test(name ?? "")) return;
    clearTimeout(timer);
    timer = setTimeout(runAgain, QUIET_MS);
  });
}
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]]) {
  process.on(signal, () => {
    isOver = true;
    process.exitCode = code;
    if (child === undefined) process.exit();
    child.kill("SIGTERM");
  });
}
runAgain();

/** Starts a run after the one before it has ended. */
function runAgain() {
  if (child !== undefined) return void child.kill("SIGTERM");
  child = spawn(process.execPath, [join(ROOT, "tests", "run.mjs"), ...args], { cwd: ROOT, stdio: "inherit" });
  child.on("exit", (_, signal) => {
    const wasEnded = signal !== null || child.killed;
    child = undefined;
    if (isOver) process.exit();
    if (wasEnded) runAgain();
    else console.log(`waiting for a change (Ctrl-C ends)\n`);
  });
}
