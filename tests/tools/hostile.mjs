/**
 * Runs the test of hostile clients for longer than `npm test` does:
 * `npm run hostile -- [--seconds 60] [--runtime node|deno|bun] [--seed NUMBER] [--clients 2000]`.
 *
 * `--clients` is how many come in each half of the seconds.
 */

import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { buildDist, buildExamples, buildTests } from "./build.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIMES } from "./runtimes.mjs";

const TEST = "tests/programs/hostile.test.ts";
const given = new Map([["seconds", "60"]]);
const args = process.argv.slice(2);
for (let i = 0; i < args.length; i += 2) {
  const name = args[i].replace(/^--/, "");
  const value = args[i + 1] ?? "";
  if (
    name === "runtime"
      ? !RUNTIMES.includes(value)
      : !(["seconds", "seed", "clients"].includes(name) && /^\d+$/.test(value))
  ) {
    console.error(`Cannot take ${args[i]} ${value}`);
    console.error(
      "usage: npm run hostile -- [--seconds 60] [--runtime node|deno|bun] [--seed NUMBER] [--clients 2000]",
    );
    process.exit(2);
  }
  given.set(name, value);
}

const env = plainEnvironment();
for (const [name, value] of given) env[`TRIVENT_HOSTILE_${name.toUpperCase()}`] = value;
const scratch = join(ROOT, "build", `tests-${process.pid}`);
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
await Promise.all([buildDist({ declarations: false }), buildExamples(["chat", "proxy"]), buildTests([TEST], scratch)]);
const test = spawn(findRuntime("node").path, ["--enable-source-maps", join(scratch, TEST.replace(/\.ts$/, ".js"))], {
  cwd: ROOT,
  env,
  stdio: "inherit",
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => test.kill(signal));
process.exitCode = await new Promise((resolve) => test.on("exit", (code) => resolve(code ?? 1)));
