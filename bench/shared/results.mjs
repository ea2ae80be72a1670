/** The files of `bench/results/`: the results, with the machine, the versions and the commit. */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";
import { join } from "node:path";
import { findRuntime, ROOT, RUNTIMES } from "../../tests/tools/runtimes.mjs";
import { libeventVersion } from "./compile.mjs";
import { pinning } from "./pinned.mjs";

/** Their folder. */
export const RESULTS = join(ROOT, "bench", "results");

/** The circumstances of the numbers. */
export function circumstances() {
  return {
    machine: {
      cpu: cpus()[0].model,
      cpus: cpus().length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${type()} ${release()}`,
      pinning: pinning(),
    },
    versions: {
      ...Object.fromEntries(RUNTIMES.map((name) => [name, findRuntime(name).version])),
      libevent: libeventVersion(),
    },
    commit: commit(),
  };
}

/**
 * @param {string} part
 * @param {{ rows: readonly object[] }} measured And other results of the part
 * @param {ReturnType<typeof circumstances>} at The circumstances at the beginning of the run
 */
export function writeResults(part, measured, at) {
  mkdirSync(RESULTS, { recursive: true });
  const text = JSON.stringify({ part, ...at, ...measured }, rounded, 1);
  writeFileSync(join(RESULTS, `${part}.json`), `${text}\n`);
}

/** All results, by the name of the part. @returns {Map<string, any>} */
export function readResults() {
  const found = new Map();
  if (!existsSync(RESULTS)) return found;
  for (const file of readdirSync(RESULTS).filter((each) => each.endsWith(".json")).sort()) {
    const result = JSON.parse(readFileSync(join(RESULTS, file), "utf8"));
    if (Array.isArray(result.rows)) found.set(file.slice(0, -5), result);
  }
  return found;
}

/** Five digits are enough to read, and each further digit makes differences in the history. */
function rounded(_key, value) {
  return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
}

function commit() {
  const git = (...args) =>
    execFileSync("git", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  try {
    const changed =
      git("status", "--porcelain", "--untracked-files=no", "--", "core", "runtimes", "mod.ts").trim() !== "";
    return `${git("rev-parse", "--short=12", "HEAD").trim()}${changed ? " with changes" : ""}`;
  } catch {
    return "unknown: not a git checkout";
  }
}
