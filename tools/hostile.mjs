/**
 * The test of hostile clients (tests/programs/hostile.test.ts) for longer than in `npm test`:
 * `npm run hostile -- [--seconds 60] [--runtime node|deno|bun] [--seed NUMBER]`.
 */

import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { buildExamples, buildTests } from "../tests/tools/bundles.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { buildDist } from "./build.mjs";

const TEST = "tests/programs/hostile.test.ts";

const env = { ...plainEnvironment(), TRIVENT_HOSTILE_SECONDS: "60" };
const args = process.argv.slice(2);
for (let i = 0; i < args.length; i += 2) {
  const [name = "", value = ""] = args.slice(i, i + 2);
  const isRight = name === "--runtime"
    ? RUNTIMES.includes(value)
    : ["--seconds", "--seed"].includes(name) && /^\d+$/.test(value);
  if (!isRight) {
    console.error(`Cannot take ${name} ${value}`);
    console.error("usage: npm run hostile -- [--seconds 60] [--runtime node|deno|bun] [--seed NUMBER]");
    process.exit(2);
  }
  env[`TRIVENT_HOSTILE_${name.slice(2).toUpperCase()}`] = value;
}

const scratch = join(ROOT, "build", `tests-${process.pid}`);
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
await Promise.all([buildDist({ declarations: false }), buildExamples(["chat", "proxy"]), buildTests([TEST], scratch)]);
const file = join(scratch, TEST.replace(/\.ts$/, ".js"));
const test = spawn(findRuntime("node").path, ["--enable-source-maps", "--test-reporter=spec", file], {
  cwd: ROOT,
  env,
  stdio: "inherit",
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => test.kill(signal));
process.exitCode = await new Promise((resolve) => test.on("exit", (code) => resolve(code ?? 1)));
