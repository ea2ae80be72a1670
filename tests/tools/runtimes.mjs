/**
 * Where the three runtimes are and how each starts a program or a test file of this repository.
 *
 * `deno` and `bun` are dev dependencies, so `npm ci` is the whole set-up. `TRIVENT_NODE`, `TRIVENT_DENO` and
 * `TRIVENT_BUN` name other binaries, to try other versions.
 */

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** All names, in the order of every report. */
export const RUNTIME_NAMES = ["node", "deno", "bun"];

/**
 * The runtimes that tests, programs and benchmarks use: all of them, or those that
 * `TRIVENT_RUNTIMES` names.
 */
export const RUNTIMES = RUNTIME_NAMES.filter((name) =>
  (process.env.TRIVENT_RUNTIMES ?? RUNTIME_NAMES.join()).split(",").includes(name)
);

/** The root of the repository. This file may run bundled into a build directory, so it looks for the manifests. */
export const ROOT = findRoot(dirname(fileURLToPath(import.meta.url)));

/** The permissions that the programs need on Deno, and no more. */
const DENO_PROGRAM_FLAGS = ["--allow-net", "--unstable-net"];
/** Some programs start threads, which read the program's file once more; others read the files that they are given. */
const DENO_READERS = ["board_client", "epoll_workers", "one_port", "proxy", "rot13_fork", "smtp"];
/** Programs that write files. */
const DENO_WRITERS = ["smtp"];
/** Programs that start themselves again. */
const DENO_SPAWNERS = ["handover", "workers"];

/** @type {Map<string, { name: string, path: string, version: string }>} */
const found = new Map();

/**
 * Finds a runtime and asks it for its version.
 *
 * @param {"node" | "deno" | "bun"} name
 * @returns {{ name: string, path: string, version: string }}
 */
export function findRuntime(name) {
  const known = found.get(name);
  if (known !== undefined) return known;
  for (const path of candidates(name)) {
    const version = versionOf(path);
    if (version === undefined) continue;
    const runtime = { name, path, version };
    found.set(name, runtime);
    return runtime;
  }
  throw new Error(`Cannot find ${name}: run npm ci, or set TRIVENT_${name.toUpperCase()} to its path`);
}

/** The names of the programs in `examples/`. */
export function exampleNames() {
  return readdirSync(join(ROOT, "examples"))
    .filter((file) => file.endsWith(".ts") && !file.startsWith("_"))
    .map((file) => file.slice(0, -3))
    .sort();
}

/** The programs in `examples/sim/`. The other files there are scenarios for `trivent explore`. */
export function scenarioNames() {
  return ["sim/chat", "sim/library"];
}

/**
 * The command that runs a program of `examples/`. Node runs the output of `buildExamples()`, the
 * others the source.
 *
 * @param {"node" | "deno" | "bun"} name
 * @param {string} example
 * @param {readonly string[]} [args]
 * @returns {{ file: string, args: string[] }}
 */
export function exampleCommand(name, example, args = []) {
  const { path } = findRuntime(name);
  const source = join(ROOT, "examples", `${example}.ts`);
  const built = join(ROOT, "build", "examples", `${example}.js`);
  switch (name) {
    case "node":
      return { file: path, args: ["--enable-source-maps", built, ...args] };
    case "deno": {
      const flags = DENO_SPAWNERS.includes(example) ? ["--allow-all"] : [...DENO_PROGRAM_FLAGS];
      if (DENO_READERS.includes(example)) flags.push("--allow-read");
      if (DENO_WRITERS.includes(example)) flags.push("--allow-write");
      return { file: path, args: ["run", "--quiet", "--no-check", ...flags, source, ...args] };
    }
    case "bun":
      return { file: path, args: ["run", source, ...args] };
  }
  throw new Error(`Cannot run ${example} on ${name}: no such runtime`);
}

/**
 * The same command, but the program collects its garbage at SIGUSR2 and prints `collected, N bytes are used`.
 *
 * @param {"node" | "deno" | "bun"} name
 * @param {{ file: string, args: string[] }} command The result of `exampleCommand()`, or a similar
 * command
 * @returns {{ file: string, args: string[] }}
 */
export function collecting(name, command) {
  return preloading(name, command, "collector.mjs");
}

/**
 * The same command, but at SIGHUP the program prints the counts of its event bases: `holds`, and
 * JSON. It also collects its garbage at SIGUSR2, as with `collecting()`.
 *
 * @param {"node" | "deno" | "bun"} name
 * @param {{ file: string, args: string[] }} command The result of `exampleCommand()`, or a similar
 * command
 * @returns {{ file: string, args: string[] }}
 */
export function inspecting(name, command) {
  return preloading(name, command, "inspector.mjs");
}

function preloading(name, { file, args }, module) {
  const path = join(ROOT, "tests", "tools", module);
  switch (name) {
    case "node":
      return { file, args: ["--expose-gc", "--import", path, ...args] };
    case "deno":
      return { file, args: ["run", "--v8-flags=--expose-gc", "--preload", path, ...args.slice(1)] };
    case "bun":
      return { file, args: ["run", "--preload", path, ...args.slice(1)] };
  }
  throw new Error(`Cannot load a module before a program on ${name}: no such runtime`);
}

/** The environment for a child whose output is read by a program: no colours, no update checks. */
export function plainEnvironment() {
  const env = { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", DENO_NO_PROMPT: "1", DO_NOT_TRACK: "1" };
  delete env.FORCE_COLOR;
  // Set by the outer node:test, it would make the inner one report in its private format.
  delete env.NODE_TEST_CONTEXT;
  return env;
}

function* candidates(name) {
  const chosen = process.env[`TRIVENT_${name.toUpperCase()}`];
  if (chosen) return void (yield chosen);
  if (name === "node" && process.release?.name === "node" && !process.versions.bun && !process.versions.deno) {
    return void (yield process.execPath);
  }
  const modules = join(ROOT, "node_modules");
  // The binaries themselves: a wrapper script in between would not pass signals on.
  if (name === "deno") yield join(modules, "deno", "deno");
  if (name === "bun") yield join(modules, "bun", "bin", "bun.exe");
  const scope = join(modules, name === "deno" ? "@deno" : "@oven");
  if (name !== "node" && existsSync(scope)) {
    for (const folder of readdirSync(scope)) {
      yield join(scope, folder, "deno");
      yield join(scope, folder, "bin", "bun");
    }
  }
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    if (!folder.includes("node_modules")) yield join(folder, name);
  }
}

function versionOf(path) {
  if (!existsSync(path)) return undefined;
  try {
    const text = execFileSync(path, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return /\d+\.\d+\.\d+\S*/.exec(text)?.[0];
  } catch {
    return undefined;
  }
}

function findRoot(from) {
  for (let folder = from; dirname(folder) !== folder; folder = dirname(folder)) {
    if (existsSync(join(folder, "deno.json")) && existsSync(join(folder, "tsconfig.build.json"))) return folder;
  }
  throw new Error(`Cannot find the repository above ${from}`);
}
