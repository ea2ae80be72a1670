/**
 * The ROT13 benchmark: `npm run bench -- rot13 [node] [deno] [bun] [c] [1] [32] [--quick]`; the words choose.
 *
 * What is measured is the CPU time (user and system) that a server process spends on a 64-byte line, with 50 connections
 * and 1 or 32 lines of each in flight: for Trivent, for servers written by hand on the same runtime, on `node:net` and
 * with strings, for libevent in C and for bare epoll. All of them take turns in each round, so that what else the machine
 * does hits all; each round gives one ratio, and the median of the ratios is the result.
 */

import { findRuntime, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { compile, compileWithLibevent, HOW_TO_GET_C } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours, reference } from "./shared/programs.mjs";
import { buildLoad, key, measureAll } from "./shared/servers.mjs";
import { compare, medians } from "./shared/stats.mjs";
import { layOut } from "./shared/tables.mjs";

const CONTESTANTS = [...RUNTIMES, "c"];
const IN_FLIGHT = ["1", "32"];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => ![...CONTESTANTS, ...IN_FLIGHT].includes(word));
  if (unknown !== undefined) {
    throw new Error(`no part is called "${unknown}": ${[...CONTESTANTS, ...IN_FLIGHT].join(", ")}`);
  }
  const choose = (all) => all.some((word) => args.includes(word)) ? all.filter((word) => args.includes(word)) : all;
  const time = quick ? { warmupMs: 20, measureMs: 60 } : { warmupMs: 150, measureMs: 450 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 3, jitMs: 800 };

  await buildPrograms(["rot13_server"]);
  const load = buildLoad();
  const contestants = choose(CONTESTANTS).flatMap((name) => name === "c" ? inC() : onRuntime(name));
  const workloads = choose(IN_FLIGHT).map((inFlight) => ({
    label: inFlight,
    how: { ...time, inFlight: Number(inFlight) },
  }));
  const samples = await measureAll(contestants, workloads, plan, load);

  const servers = contestants.flatMap(({ name }) =>
    workloads.map(({ label }) => ({ name, inFlight: Number(label), ...medians(samples.get(key(name, label))) }))
  );
  table(servers);
  return {
    rows: choose(RUNTIMES).filter((name) => !args.includes("c") || args.includes(name)).flatMap(rowsOf),
    servers,
  };

  function rowsOf(runtime) {
    const against = (id, our, their, label, workload) => {
      const [mine, theirs] = [samples.get(key(`${runtime} ${our}`, label)), samples.get(key(their, label))];
      if (mine === undefined) return [];
      if (theirs === undefined) return id.endsWith("-c") ? [row(id, runtime, { workload, skipped: HOW_TO_GET_C })] : [];
      const cpu = (all) => all.map(({ cpuUs }) => cpuUs);
      const details = { ours: medians(mine), theirs: medians(theirs) };
      return [row(id, runtime, { workload, ...compare(cpu(mine), cpu(theirs)), details })];
    };
    const net = runtime === "node" ? undefined : `${runtime} node:net by hand`;
    return [
      ...against("rot13", "readln", `${runtime} by hand`, "1"),
      ...against("rot13-c", "readln", "C libevent", "1"),
      ...against("rot13-32-c", "readln", "C libevent", "32"),
      ...against("rot13-32", "eachLine", `${runtime} by hand`, "32"),
      ...(net === undefined ? [] : [
        ...against("node-net", "readln", net, "1", "ROT13, `readln`, 1 line in flight"),
        ...against("node-net", "eachLine", net, "32", "ROT13, `eachLine`, 32 lines in flight"),
      ]),
    ];
  }
}

function onRuntime(name) {
  findRuntime(name);
  const byHand = `handwritten_${name}.${name === "node" ? "mjs" : "ts"}`;
  return [
    { name: `${name} by hand`, command: reference(name, byHand) },
    { name: `${name} readln`, command: ours(name, "rot13_server", ["readln"]) },
    { name: `${name} eachLine`, command: ours(name, "rot13_server", ["eachLine"]) },
    name === "node"
      ? { name: "node strings", command: reference(name, "strings_node.mjs") }
      : { name: `${name} node:net by hand`, command: reference(name, "handwritten_node.mjs") },
  ];
}

function inC() {
  const [epoll, libevent] = [compile("epoll_rot13"), compileWithLibevent("libevent_rot13")];
  if (epoll === undefined || libevent === undefined) console.log(`C is left out, in part at least: ${HOW_TO_GET_C}`);
  return [
    ...(libevent === undefined ? [] : [{ name: "C libevent", command: [libevent, "0"] }]),
    ...(epoll === undefined ? [] : [{ name: "C epoll", command: [epoll, "0"] }]),
  ];
}

function table(servers) {
  const cells = servers.toSorted((a, b) => a.inFlight - b.inFlight).map((each) => [
    String(each.inFlight),
    each.name,
    Math.round(each.perSecond).toLocaleString("en"),
    each.p50Us.toFixed(0),
    each.p99Us.toFixed(0),
    each.cpuUs.toFixed(each.cpuUs < 1 ? 3 : 2),
  ]);
  console.log(layOut([["in flight", "server", "lines/s", "p50 us", "p99 us", "CPU us/line"], ...cells], 2));
}
