/**
 * The loop benchmark: `npm run bench -- loop [node] [deno] [bun] [c] [memory] [tcp] [timers] [--quick]`; the words choose.
 *
 * - libevent's `bench` and `bench_cascade`: a byte hops from connection to connection, in memory and over the loopback;
 *   in C over socket pairs and over the loopback, where there are libevent and a compiler.
 * - What an event costs among N idle connections: the table, and a plot, `results/loop_idle.svg`.
 * - Timers against the host's `setTimeout`.
 *
 * All results are medians of rounds behind a warm-up; a whole run writes them to `results/loop.json` too.
 */

import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { run as execute } from "../tests/tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { plot } from "./loop/plot.mjs";
import { pinned, pinning } from "./shared/pinned.mjs";

const BUILD = join(ROOT, "build", "bench");
const RESULTS = join(ROOT, "bench", "results");
const BUNDLE = join(BUILD, "loop.mjs");
const CONTESTANTS = [...RUNTIMES, "c"];
const PARTS = ["memory", "tcp", "timers"];
const IN_C = [
  { where: "socket pairs", how: "pair" },
  { where: "tcp", how: "tcp" },
];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => ![...CONTESTANTS, ...PARTS].includes(word));
  if (unknown !== undefined) {
    throw new Error(`no part is called "${unknown}": ${[...CONTESTANTS, ...PARTS].join(", ")}`);
  }
  const choose = (all) => all.some((word) => args.includes(word)) ? all.filter((word) => args.includes(word)) : all;
  const parts = choose(PARTS);
  console.log(`${cpus()[0].model}, ${cpus().length} CPUs; ${pinning()}`);
  const results = [];
  for (const name of choose(CONTESTANTS)) {
    results.push(...name === "c" ? await inC(parts, quick) : await onRuntime(name, parts, quick));
  }
  reportHops(results);
  reportTimers(results);
  const idle = results.filter(({ work }) => work === "idle");
  if (idle.length > 0) reportIdle(idle);
  if (quick || args.length > 0) return;
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(
    join(RESULTS, "loop.json"),
    `${JSON.stringify({ cpu: cpus()[0].model, pinning: pinning(), results }, null, 1)}\n`,
  );
  writeFileSync(join(RESULTS, "loop_idle.svg"), plot(series(idle)));
  console.log("\nWritten: bench/results/loop.json, bench/results/loop_idle.svg");
}

async function onRuntime(name, parts, quick) {
  mkdirSync(BUILD, { recursive: true });
  await build({
    absWorkingDir: ROOT,
    entryPoints: ["bench/loop/main.ts"],
    outfile: BUNDLE,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "es2022",
    logLevel: "error",
  });
  const { path, version } = findRuntime(name);
  console.log(`measuring on ${name} ${version}`);
  const before = name === "deno" ? ["run", "--quiet", "--no-check", "--allow-all", BUNDLE] : [BUNDLE];
  const command = [path, ...before, ...parts, ...(quick ? ["--quick"] : [])];
  // Not every runtime takes the number of open files that it could have.
  const [file, ...args] = pinned(0, ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh", ...command]);
  const result = await execute(file, args, { cwd: ROOT, env: plainEnvironment(), timeoutMs: 600_000 });
  if (result.code !== 0) throw new Error(`the program failed on ${name}:\n${result.output}`);
  return result.output.split("\n").filter((line) => line.startsWith("{")).map((line) => ({
    on: `${name} ${version}`,
    ...JSON.parse(line),
  }));
}

// ---- libevent

async function inC(parts, quick) {
  const binary = compile();
  if (binary === undefined) return [];
  const version = libeventVersion();
  console.log(`measuring libevent ${version} in C`);
  const rounds = quick ? 5 : 25;
  const results = [];
  const measure = async (work, how, n, active, writes) => {
    const numbers = [n, active, writes, rounds * 2].map(String);
    const [file, ...args] = pinned(0, [binary, work, how, ...numbers]);
    const { code, output } = await execute(file, args, { timeoutMs: 120_000 });
    if (code !== 0) throw new Error(`${work} in C failed: ${output}`);
    return median(output.trim().split("\n").map(Number).slice(rounds));
  };
  for (const { where, how } of IN_C) {
    // In memory, C has socket pairs, which JavaScript has not: they stand beside both.
    if (!parts.includes("tcp") && !parts.includes("memory")) break;
    const on = `C, libevent ${version}`;
    for (const [n, active, writes] of [[100, 1, 100], [1000, 100, 1000]]) {
      const us = await measure("bench", how, n, active, writes);
      results.push({ on, where, work: "bench", n, active, writes, us, hops: active + writes });
    }
    for (const n of [100, 1000]) {
      results.push({ on, where, work: "cascade", n, us: await measure("cascade", how, n, 1, 0), hops: n });
    }
    for (const n of quick ? [10, 100, 1000] : [10, 100, 1000, 3000, 9000]) {
      results.push({ on, where, work: "idle", n, usPerEvent: await measure("bench", how, n, 1, 1000) / 1001 });
    }
  }
  return results;
}

function compile() {
  mkdirSync(BUILD, { recursive: true });
  const binary = join(BUILD, "loop_bench");
  const source = join(ROOT, "bench", "reference", "loop_bench.c");
  try {
    execFileSync("cc", ["-O2", "-o", binary, source, "-levent_core"], { stdio: ["ignore", "ignore", "pipe"] });
    return binary;
  } catch {
    console.log(
      "C is left out: it needs a C compiler and libevent (Debian: apt-get install gcc libc6-dev libevent-dev)",
    );
    return undefined;
  }
}

function libeventVersion() {
  try {
    return execFileSync("pkg-config", ["--modversion", "libevent_core"], { encoding: "utf8" }).trim();
  } catch {
    return "(of this system)";
  }
}

// ---- telling

function reportHops(results) {
  const rows = results.filter(({ work }) => work === "bench" || work === "cascade").map((row) => [
    row.work,
    row.where,
    String(row.n),
    row.active === undefined ? "" : String(row.active),
    row.writes === undefined ? "" : String(row.writes),
    row.on,
    row.us.toFixed(0),
    (row.us / row.hops).toFixed(2),
  ]);
  if (rows.length === 0) return;
  rows.sort((a, b) => a[0].localeCompare(b[0]) || a[1].localeCompare(b[1]) || Number(a[2]) - Number(b[2]));
  console.log("\nlibevent's bench and bench_cascade: microseconds of a round, and of a hop\n");
  console.log(layOut([["bench", "over", "pairs", "active", "writes", "on", "us", "us/hop"], ...rows]));
}

function reportTimers(results) {
  const rows = results.filter(({ where }) => where === "timers").map((row) => [
    row.work === "test-time"
      ? `test-time, ${row.count.toLocaleString("en")} timers`
      : `${row.work} one of ${row.count.toLocaleString("en")}`,
    row.on,
    `${row.ours.toFixed(0)} ${row.unit}`,
    `${row.host.toFixed(0)} ${row.unit}`,
    (row.host / row.ours).toFixed(1),
  ]);
  if (rows.length === 0) return;
  console.log("\nTimers\n");
  console.log(layOut([["work", "on", "ours", "setTimeout", "times as fast"], ...rows]));
}

function reportIdle(idle) {
  const all = series(idle);
  const counts = [...new Set(idle.map(({ n }) => n))].sort((a, b) => a - b);
  console.log("\nAmong N idle connections: microseconds of an event\n");
  const cell = (points, n) => points.find((point) => point.x === n)?.y.toFixed(2) ?? "";
  console.log(layOut([
    ["N", ...counts.map((n) => n.toLocaleString("en"))],
    ...all.map(({ name, points }) => [name, ...counts.map((n) => cell(points, n))]),
  ]));
}

function series(idle) {
  const names = [...new Set(idle.map(({ on, where }) => `${on}, ${where}`))];
  return names.map((name) => ({
    name,
    points: idle.filter(({ on, where }) => `${on}, ${where}` === name).map(({ n, usPerEvent }) => ({
      x: n,
      y: usPerEvent,
    })),
  }));
}

function layOut(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()).join("\n");
}

function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}
