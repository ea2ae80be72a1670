/**
 * The loop benchmark: `npm run bench -- loop [node] [deno] [bun] [c] [hops] [memory] [tcp] [--quick]`; the words choose.
 *
 * - libevent's `bench` and `bench_cascade`: a byte hops from connection to connection, in memory and over the loopback;
 *   in C over socket pairs and over the loopback, if there are libevent and a compiler. `hops` is both in memory, against C over socket pairs, with each runtime and C in turn. It has the rows of the goals, and runs alone without words.
 * - The cost of an event among N idle connections: a table, with `memory` or `tcp`.
 *
 * All results are medians of rounds after a warm-up of 100,000 hops, in C as in JavaScript.
 */

import { cpus } from "node:os";
import { run as execute } from "../tests/tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { bundle } from "./shared/bundle.mjs";
import { compileWithLibevent, HOW_TO_GET_C, libeventVersion } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { pinned, pinning } from "./shared/pinned.mjs";
import { step } from "./shared/progress.mjs";
import { compare, median } from "./shared/stats.mjs";
import { layOut } from "./shared/tables.mjs";

const CONTESTANTS = [...RUNTIMES, "c"];
const PARTS = ["hops", "memory", "tcp"];
const STARTS = 3;
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
  const parts = choose(PARTS).filter((part) => part === "hops" || args.includes(part));
  const names = choose(CONTESTANTS);
  console.log(`${cpus()[0].model}, ${cpus().length} CPUs; ${pinning()}`);
  const file = await bundle("bench/loop/main.ts", "loop.mjs");
  const binary = names.includes("c") || parts.includes("hops") ? compileWithLibevent("loop_bench") : undefined;
  if (binary === undefined && names.includes("c")) console.log(`C is left out: ${HOW_TO_GET_C}`);
  const rows = parts.includes("hops") ? await inTurn(names.filter((name) => name !== "c"), file, binary, quick) : [];
  const results = [];
  const others = parts.filter((part) => part !== "hops");
  for (const name of others.length === 0 ? [] : names) {
    step(name);
    results.push(...name === "c" ? await inC(binary, others, quick) : await onRuntime(name, file, others, quick));
  }
  reportHops(results);
  const idle = series(results.filter(({ work }) => work === "idle"));
  if (idle.length > 0) reportIdle(idle);
  return { rows };
}

/** The goals: `bench` and `bench_cascade` in memory, each process once in each round. */
async function inTurn(names, file, binary, quick) {
  const samples = new Map();
  const keep = (name, all) => {
    for (const each of all.filter(({ work }) => work !== "idle")) {
      const id = `${name} ${workload(each)}`;
      samples.set(id, [...samples.get(id) ?? [], each.us]);
    }
  };
  const inMemory = binary === undefined ? [] : [["c", () => inC(binary, ["memory"], quick, false)]];
  for (let start = 0; start < (quick ? 1 : STARTS); start++) {
    for (const name of names) {
      step(`in memory, ${name}, start ${start + 1}`);
      keep(name, await onRuntime(name, file, ["hops"], quick));
      for (const [c, measured] of inMemory) {
        keep(
          `${c} ${name}`,
          (await measured()).filter(({ where }) => where !== "tcp"),
        );
      }
    }
  }
  const works = [
    { work: "bench", n: 100, active: 1, writes: 100 },
    { work: "bench", n: 1000, active: 100, writes: 1000 },
    { work: "cascade", n: 100 },
    { work: "cascade", n: 1000 },
  ];
  return names.flatMap((name) =>
    works.map((work) => {
      const [ours, theirs] = [name, `c ${name}`].map((who) => samples.get(`${who} ${workload(work)}`));
      if (theirs === undefined) return row("loop-c", name, { workload: workload(work), skipped: HOW_TO_GET_C });
      return row("loop-c", name, {
        workload: workload(work),
        ...compare(ours, theirs),
        details: { oursUs: median(ours), theirsUs: median(theirs) },
      });
    })
  );
}

function workload({ work, n, active, writes }) {
  const name = work === "bench" ? "bench.c" : "bench_cascade.c";
  const how = active === undefined ? "" : `, ${active} active, ${writes.toLocaleString("en")} writes`;
  return `\`${name}\` in memory: ${n.toLocaleString("en")} pairs${how}`;
}

async function onRuntime(name, file, parts, quick) {
  const { path, version } = findRuntime(name);
  const before = name === "deno" ? ["run", "--quiet", "--no-check", "--allow-all", file] : [file];
  const command = [path, ...before, ...parts, ...(quick ? ["--quick"] : [])];
  // Not every runtime takes the number of open files that it could have.
  const [first, ...args] = pinned(0, ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh", ...command]);
  const result = await execute(first, args, { cwd: ROOT, env: plainEnvironment(), timeoutMs: 600_000 });
  if (result.code !== 0) throw new Error(`the program failed on ${name}:\n${result.output}`);
  return result.output.split("\n").filter((line) => line.startsWith("{")).map((line) => ({
    on: `${name} ${version}`,
    ...JSON.parse(line),
  }));
}

// ---- libevent

async function inC(binary, parts, quick, idle = true) {
  if (binary === undefined) return [];
  const version = libeventVersion();
  const rounds = quick ? 5 : 25;
  const results = [];
  const measure = async (work, how, n, active, writes) => {
    // As warm as the others: see bench/loop/main.ts.
    const hops = work === "cascade" ? n : active + writes;
    const warmUp = quick ? rounds : Math.max(rounds, Math.ceil(100_000 / hops));
    const numbers = [n, active, writes, warmUp + rounds].map(String);
    const [file, ...args] = pinned(0, [binary, work, how, ...numbers]);
    const { code, output } = await execute(file, args, { timeoutMs: 120_000 });
    if (code !== 0) throw new Error(`${work} in C failed: ${output}`);
    return median(output.trim().split("\n").map(Number).slice(warmUp));
  };
  // Socket pairs exist only in C, so their results are beside both.
  for (const { where, how } of IN_C.filter(({ where }) => where !== "tcp" || parts.includes("tcp"))) {
    const on = `C, libevent ${version}`;
    for (const [n, active, writes] of [[100, 1, 100], [1000, 100, 1000]]) {
      const us = await measure("bench", how, n, active, writes);
      results.push({ on, where, work: "bench", n, active, writes, us, hops: active + writes });
    }
    for (const n of [100, 1000]) {
      results.push({ on, where, work: "cascade", n, us: await measure("cascade", how, n, 1, 0), hops: n });
    }
    for (const n of !idle ? [] : quick ? [10, 100, 1000] : [10, 100, 1000, 3000, 9000]) {
      results.push({ on, where, work: "idle", n, usPerEvent: await measure("bench", how, n, 1, 1000) / 1001 });
    }
  }
  return results;
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

function reportIdle(all) {
  const counts = [...new Set(all.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
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
