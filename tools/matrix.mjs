/**
 * The tests on many versions of the runtimes: `npm run matrix`, or
 * `npm run matrix -- [--runtimes node@24,bun@1.4.5] [--resume] [--write] [part of a path]…`.
 *
 * Each version is an npm package, which is installed once below `build/versions/`. A runtime without a version is the one
 * that `npm test` uses. By default these are the oldest and the newest of all that are supported, the conformance tests,
 * the program tests and the examples of README and guide; and versions that must be refused. One table stands at the end, and with `--write` in
 * docs/matrix.md. It takes more than an hour on two cores: with `--resume` it keeps passed results
 * of a run of the same commit, and runs the rest.
 */

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { findRuntime, plainEnvironment, ROOT } from "../tests/tools/runtimes.mjs";
import { buildDist } from "./build.mjs";

/** The oldest and the newest that are supported, and Node's lines between them; a version alone means its newest. */
const SUPPORTED = [
  ...["node@20.16.0", "node@20", "node@22.3.0", "node@22", "node@24", "node@26"],
  ...["deno@2.9.0", "deno@2.9.3", "deno@2", "bun@1.4.1", "bun@1"],
];
/** Versions that are too old. */
const REFUSED = ["node@18", "deno@2.7.14", "deno@2.8.3", "bun@1.3.14", "bun@1.4.0"];
const TESTS = ["tests/conformance/", "tests/stream/", "tests/programs/", "tests/packaging/documents.test.ts"];
/** Tests that start the runtime themselves. */
const STARTS = ["tests/programs/", "tests/packaging/documents.test.ts"];
/** The path of the program in each package. */
const PROGRAMS = { node: "node/bin/node", deno: "deno/deno", bun: "bun/bin/bun.exe" };
/**
 * Reports the capabilities of a runtime, or why the library refuses it, for the source and for the
 * package.
 */
const PROBE = `
const [library] = globalThis.process.argv.slice(2);
try {
  const { detectRuntime } = await import(library);
  const { capabilities, lacks } = detectRuntime();
  console.log(JSON.stringify({ capabilities, lacks }));
} catch (error) {
  console.log(JSON.stringify({ code: error.code, message: error.message }));
}
`;

/** The tests that run now. At a signal they end the processes that they have started. */
let running;
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]]) {
  process.on(signal, () => {
    if (running === undefined) process.exit(code);
    running.once("close", () => process.exit(code));
    running.kill("SIGTERM");
  });
}
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

/** @param {string[]} args */
async function main(args) {
  const { specs, refused, resume, write, words } = read(args);
  const { hosted, programs } = testFiles(words);
  mkdirSync(join(ROOT, "build", "matrix"), { recursive: true });
  await buildDist();
  const probe = join(ROOT, "build", "matrix", "probe.mjs");
  writeFileSync(probe, PROBE);

  const rows = [];
  for (const spec of specs) {
    const runtime = install(spec);
    const answers = ask(runtime, probe);
    const problem = answers.find(({ message }) => message !== undefined)?.message;
    const results = problem === undefined ? await test(runtime, hosted, programs, resume) : [];
    rows.push({ runtime, answers, results, problem });
    const [first, second] = results.map(counted);
    console.log(`${titled(runtime).padEnd(14)} ${problem ?? [first, second].filter(Boolean).join("; programs: ")}`);
  }
  for (const spec of refused) {
    const runtime = install(spec);
    const answers = ask(runtime, probe);
    const taken = answers.some(({ code }) => code !== "EV_UNSUPPORTED");
    rows.push({ runtime, answers, results: [], problem: taken ? "not refused" : undefined });
    console.log(`${titled(runtime).padEnd(14)} ${taken ? `NOT REFUSED: ${JSON.stringify(answers)}` : "refused"}`);
  }

  const text = table(rows);
  console.log(`\n${text}`);
  if (write) writeFileSync(join(ROOT, "docs", "matrix.md"), document(text));
  const failed = rows.some(({ problem, results }) => problem !== undefined || results.some(({ failed }) => failed > 0));
  return failed ? 1 : 0;
}

/** Reads the command line. */
function read(args) {
  const words = [];
  let specs = SUPPORTED;
  let refused = REFUSED;
  let resume = false;
  let write = false;
  for (let i = 0; i < args.length; i++) {
    const [flag, inline] = args[i].split("=", 2);
    if (flag === "--write") write = true;
    else if (flag === "--resume") resume = true;
    else if (flag === "--runtimes") {
      specs = (inline ?? args[++i] ?? "").split(",").filter((spec) => spec !== "");
      refused = [];
    } else if (flag.startsWith("--")) throw new Error(`Cannot read the arguments: no option is called ${flag}`);
    else words.push(args[i]);
  }
  for (const spec of specs) {
    if (/^(node|deno|bun)(@\d+(\.\d+){0,2})?$/.test(spec)) continue;
    throw new Error(`Cannot test ${spec}: it is not node, deno or bun, with or without a version such as node@24`);
  }
  if (specs.length === 0) throw new Error("Cannot read the arguments: --runtimes names no runtime");
  return { specs, refused, resume, write, words };
}

/** The files that are chosen: those that a runtime runs itself, and those that start it. */
function testFiles(words) {
  const files = readdirSync(join(ROOT, "tests"), { recursive: true })
    .map((path) => `tests/${path.replaceAll("\\", "/")}`)
    .filter((path) => path.endsWith(".test.ts") && !/\/(scratch-|node_modules\/)/.test(path))
    .filter((path) => !path.startsWith("tests/packaging/") || STARTS.includes(path))
    .filter((path) => (words.length > 0 ? words : TESTS).some((word) => path.includes(word)));
  if (files.length === 0) throw new Error(`No test file matches ${words.join(" ")}`);
  const programs = files.filter((path) => STARTS.some((start) => path.startsWith(start)));
  return { hosted: files.filter((path) => !programs.includes(path)), programs };
}

/** Finds a runtime, and installs it if it is not there. */
function install(spec) {
  const [name, range] = spec.split("@");
  if (range === undefined) return findRuntime(name);
  const version = range.split(".").length === 3 ? range : newest(name, range);
  const folder = join(ROOT, "build", "versions", `${name}@${version}`);
  const path = join(folder, "node_modules", PROGRAMS[name]);
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, allowScripts: { [name]: true } }));
    console.log(`installing ${name} ${version}`);
    npm(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", `${name}@${version}`], folder);
  }
  const found = /\d+\.\d+\.\d+/.exec(execFileSync(path, ["--version"], { encoding: "utf8" }))?.[0];
  if (found !== version) throw new Error(`Cannot use ${spec}: its program says that it is ${found}`);
  return { name, path, version };
}

/** The newest version of a line, such as 24 or 1.4. */
function newest(name, range) {
  const found = JSON.parse(npm(["view", `${name}@${range}`, "version", "--json"], ROOT));
  const versions = (Array.isArray(found) ? found : [found]).filter((version) => /^[\d.]+$/.test(version));
  const last = versions.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1);
  if (last === undefined) throw new Error(`Cannot find ${name}@${range}`);
  return last;
}

function npm(args, cwd) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
  return execFileSync("npm", args, { cwd, env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

/**
 * The answer of the library on a runtime, from the source and from the package. Node cannot run the
 * source.
 */
function ask({ name, path }, probe) {
  const libraries = {
    node: ["dist/mod.js", "dist/mod.node.js"],
    deno: ["mod.ts", "dist/mod.deno.js"],
    bun: ["mod.ts", "dist/mod.bun.js"],
  }[name];
  const flags = name === "deno" ? ["run", "--quiet", "--no-check", "--allow-all", "--unstable-net"] : [];
  return libraries.map((library) => {
    const args = [...flags, probe, pathToFileURL(join(ROOT, library)).href];
    const options = {
      encoding: "utf8",
      env: plainEnvironment(),
      timeout: 30_000,
      stdio: ["ignore", "pipe", "inherit"],
    };
    return JSON.parse(execFileSync(path, args, options));
  });
}

/** Runs the tests with another version of a runtime. */
async function test(runtime, hosted, programs, resume) {
  const { name, path, version } = runtime;
  const env = { ...plainEnvironment(), [`TRIVENT_${name.toUpperCase()}`]: path, TRIVENT_RUNTIMES: name };
  const results = [];
  for (const [runner, files, what] of [[name, hosted, "tests"], ["node", programs, "programs"]]) {
    if (files.length === 0) continue;
    const kept = join(ROOT, "build", "matrix", `${name}-${version}-${what}.json`);
    const key = `${execFileSync("git", ["rev-parse", "HEAD"], { cwd: ROOT, encoding: "utf8" })}${files.join("\n")}`;
    const before = resume && existsSync(kept) ? JSON.parse(readFileSync(kept, "utf8")) : undefined;
    if (before?.key === key && before.result.failed === 0) {
      results.push(before.result);
      continue;
    }
    const args = [join(ROOT, "tests", "run.mjs"), runner, ...files];
    // The runner itself, and the builds, are Node's that runs this.
    const output = await finished(args, env);
    const last = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/m.exec(
      output.split("\n").slice(-3).join("\n"),
    );
    const [passed = 0, failed = 1, skipped = 0] = last?.slice(1).map((text) => Number(text ?? 0)) ?? [];
    const result = { passed, failed, skipped };
    results.push(result);
    writeFileSync(kept, JSON.stringify({ key, result }));
    const log = join(ROOT, "build", "matrix", `${name}-${version}-${what}.log`);
    writeFileSync(log, output);
    if (failed > 0) console.log(`${name} ${version} has failed: see ${log}`);
  }
  return results;
}

/** Runs the test runner to its end. Each of its files has a limit of time. */
function finished(args, env) {
  return new Promise((resolve, reject) => {
    let output = "";
    running = spawn(process.execPath, args, { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [running.stdout, running.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => void (output += text));
    }
    running.on("error", reject);
    running.on("close", () => {
      running = undefined;
      resolve(output);
    });
  });
}

function counted({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

function titled({ name, version }) {
  return `${{ node: "Node", deno: "Deno", bun: "Bun" }[name]} ${version}`;
}

/** One line for each version. */
function table(rows) {
  const lines = [["runtime", "passed", "failed", "skipped", "what does not hold"]];
  for (const row of rows) {
    const { runtime, results } = row;
    const sum = { passed: 0, failed: 0, skipped: 0 };
    for (const result of results) for (const key of Object.keys(sum)) sum[key] += result[key];
    const figures = results.length === 0 ? ["—", "—", "—"] : Object.values(sum).map(String);
    lines.push([titled(runtime), ...figures, remarks(row, rows)]);
  }
  const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  const text = lines.map((line) => `| ${line.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`);
  text.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`);
  return text.join("\n");
}

/** The features that a version lacks and a later one has, with the reasons. */
function remarks({ runtime, answers, problem }, rows) {
  const [{ capabilities, lacks, message }] = answers;
  if (message !== undefined) return problem ?? `refused: ${message}`;
  const later = rows.filter((row) => row.runtime.name === runtime.name && row.answers[0].capabilities !== undefined);
  const missing = Object.keys(capabilities).filter((key) =>
    !capabilities[key] && (/this is/.test(lacks?.[key]) || later.some((row) => row.answers[0].capabilities[key]))
  );
  return missing.map((key) => lacks?.[key] === undefined ? key : `${key}: ${lacks[key]}`).join("; ");
}

/** docs/matrix.md. */
function document(text) {
  const [{ model }] = cpus();
  const system = execFileSync("uname", ["-sr"], { encoding: "utf8" }).trim();
  return `# Tested versions

\`npm run matrix -- --write\` has written this page. It ran the conformance tests and the program tests on each version of a
runtime, as npm has it, and asked those that are too old whether the library refuses them. ${system}, ${model}.

${text}

Skipped tests are those of other runtimes, and of what a runtime declares not to be able to do: the table of
[guarantees](guarantees.md) has that. “refused” means that \`detectRuntime()\`, and so \`serve()\`, \`connect()\` and \`new EventBase()\`,
throw an \`EventError\` with the code \`EV_UNSUPPORTED\` and this message, from the npm package and from the source.
`;
}
