/**
 * Runs a program of this folder: `npm run -s example -- <node|deno|bun> <name> [arguments]`.
 *
 * Node runs the output of esbuild; Deno and Bun run the source. Signals and the exit code are passed on.
 */

import { spawn } from "node:child_process";
import { constants } from "node:os";
import { buildExamples } from "../tests/tools/bundles.mjs";
import { exampleCommand, exampleNames, RUNTIMES, scenarioNames } from "../tests/tools/runtimes.mjs";
import { buildDist } from "../tools/build.mjs";

const [runtime, name, ...args] = process.argv.slice(2);
const names = [...exampleNames(), ...scenarioNames()];
const problem = runtime === undefined || name === undefined
  ? "a runtime and the name of an example are needed"
  : !RUNTIMES.includes(runtime)
  ? `there is no runtime "${runtime}"`
  : !names.includes(name)
  ? `there is no example "${name}"`
  : undefined;

if (problem !== undefined) {
  console.error(`Cannot run an example: ${problem}`);
  console.error(`usage: npm run -s example -- <${RUNTIMES.join("|")}> <name> [arguments]`);
  console.error(`examples: ${names.join(", ")}`);
  process.exitCode = 2;
} else {
  try {
    if (runtime === "node") await Promise.all([buildDist({ declarations: false }), buildExamples([name])]);
    process.exitCode = await execute(exampleCommand(runtime, name, args));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}

/** @returns {Promise<number>} the exit code, as a shell would give it */
function execute({ file, args }) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: "inherit" });
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.on(signal, () => {
        // Ctrl-C reaches the whole foreground group: the child has it already.
        if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
      });
    }
    // npm passes a signal only to its shell, which ends without us. Then our parent is another process.
    const parent = process.ppid;
    const watch = setInterval(() => process.ppid !== parent && child.kill("SIGTERM"), 250);
    if (process.env.npm_lifecycle_event === undefined) clearInterval(watch);
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      clearInterval(watch);
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}
