/** Installs the packages of `tests/bridges/`, which have a `package.json` of their own so that the root's `npm ci` stays small. */

import { cpSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./processes.mjs";
import { ROOT } from "./runtimes.mjs";

const FOLDER = join(ROOT, "tests", "bridges");
const TIMEOUT_MS = 180_000;

/**
 * Runs `npm ci` there, unless that was done for the current lock file. If it fails, it prints a
 * message, and the tests that need the packages are skipped.
 *
 * @returns {Promise<void>}
 */
export async function installBridges() {
  const lock = join(FOLDER, "package-lock.json");
  const stamp = join(FOLDER, "node_modules", ".installed");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === readFileSync(lock, "utf8")) return;
  console.log("installing the packages of tests/bridges/");
  // No package there needs its install script: the scripts only build faster variants.
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const { code, output } = await run("npm", args, { cwd: FOLDER, env: process.env, timeoutMs: TIMEOUT_MS });
  if (code === 0) cpSync(lock, stamp);
  else console.log(`Cannot install the packages of tests/bridges/: npm ci has ended with ${code}\n${output.trimEnd()}`);
}
