/**
 * The code that people write: `npm run bench -- natural [node] [deno] [bun] [c] [64] [700] [lines] [mixed] [--quick]`; the
 * words choose.
 *
 * The server is `examples/rot13_bufferevent.ts` unchanged, and one with `eachLine`, under loads
 * that differ in the size of a line, the number of lines in flight and the number of connections.
 * In `mixed` both sizes are drawn at random. The rivals are written by hand, and each is good at
 * every size: it reads into one growing buffer, and sends the lines of a read with one write. All
 * servers rotate with the same function. The cost is the server's CPU time of a line.
 */

import { buildExamples } from "../tests/tools/bundles.mjs";
import { exampleCommand, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { compile, compileWithLibevent, HOW_TO_GET_C } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, growing, ours } from "./shared/programs.mjs";
import { buildLoad, comparison, key, measureAll } from "./shared/servers.mjs";
import { medians } from "./shared/stats.mjs";
import { layOut } from "./shared/tables.mjs";

/** The longest line of the examples, so that no line is cut. */
const MAX_LINE = "65536";
/** `word` chooses it, and `id` is that of the goal of natural code. The first one warms up for all:
 * V8 takes seconds until it has optimized the loops over long lines for good. */
const LOADS = [
  {
    word: "mixed",
    id: "natural-mixed",
    label: "mixed: 1–32 × 64 B–60 KB, 8 connections",
    bytes: "64-61440",
    inFlight: "1-32",
    connections: 8,
    jitMs: 2000,
  },
  {
    word: "64",
    id: "natural",
    label: "1 × 64 B, 50 connections",
    bytes: 64,
    inFlight: 1,
    connections: 50,
    jitMs: 600,
  },
  {
    word: "64",
    id: "natural-many",
    label: "32 × 64 B, 50 connections",
    bytes: 64,
    inFlight: 32,
    connections: 50,
    jitMs: 400,
  },
  {
    word: "700",
    id: "natural-700",
    label: "2 × 700 B, 300 connections",
    bytes: 700,
    inFlight: 2,
    connections: 300,
    jitMs: 1500,
  },
  {
    word: "lines",
    id: "natural-large",
    label: "1 × 4,000 B, 8 connections",
    bytes: 4000,
    inFlight: 1,
    connections: 8,
    jitMs: 400,
  },
  {
    word: "lines",
    id: "natural-large",
    label: "1 × 12,000 B, 8 connections",
    bytes: 12_000,
    inFlight: 1,
    connections: 8,
    jitMs: 300,
  },
  {
    word: "lines",
    id: "natural-large",
    label: "1 × 60,000 B, 8 connections",
    bytes: 60_000,
    inFlight: 1,
    connections: 8,
    jitMs: 300,
  },
];
const WORDS = [...new Set(LOADS.map(({ word }) => word))];
/** The servers in C cut long lines, so they take part where lines are short. */
const IN_C = LOADS.filter(({ word }) => word === "64").map(({ label }) => label);

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => ![...RUNTIMES, "c", ...WORDS].includes(word));
  if (unknown !== undefined) {
    throw new Error(`no part is called "${unknown}": ${[...RUNTIMES, "c", ...WORDS].join(", ")}`);
  }
  const choose = (all) => all.some((word) => args.includes(word)) ? all.filter((word) => args.includes(word)) : all;
  const chosen = choose([...RUNTIMES, "c"]);
  const runtimes = chosen.filter((name) => name !== "c");
  const loads = LOADS.filter(({ word }) => choose(WORDS).includes(word));
  const time = quick ? { warmupMs: 10, measureMs: 40 } : { warmupMs: 60, measureMs: 240 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 2, jitMs: 600 };

  await buildPrograms(["rot13_server"]);
  await buildExamples(["rot13_bufferevent"]);
  const contestants = [
    ...runtimes.flatMap((name) => {
      const { file, args } = exampleCommand(name, "rot13_bufferevent", ["0", "--max-line", MAX_LINE]);
      return [
        { name: `${name} by hand`, command: growing(name) },
        // V8 compiles the callback together with the rotation, and takes seconds until that code is good.
        { name: `${name} natural`, command: [file, ...args], warmUps: name === "bun" ? 1 : 3 },
        {
          name: `${name} eachLine`,
          command: ours(name, "rot13_server", ["eachLine"]),
          warmUps: name === "bun" ? 1 : 2,
        },
      ];
    }),
    ...(chosen.includes("c") ? inC() : []),
  ];
  const workloads = loads.map(({ label, bytes, inFlight, connections, jitMs }) => ({
    label,
    how: { ...time, bytes, inFlight, connections },
    ...(quick ? undefined : { jitMs }),
  }));
  const samples = await measureAll(contestants, workloads, plan, buildLoad());

  const servers = loads.flatMap(({ label }) =>
    contestants.filter(({ only }) => only === undefined || only.includes(label)).map(({ name }) => ({
      name,
      label,
      ...medians(samples.get(key(name, label))),
    }))
  );
  table(servers);
  const rows = loads.flatMap(({ id, label }) =>
    runtimes.flatMap((runtime) => {
      const of = (name) => samples.get(key(name, label));
      const [byHand, natural, eachLine] = ["by hand", "natural", "eachLine"].map((name) => of(`${runtime} ${name}`));
      const libevent = of(`${runtime} C libevent`);
      const inC = id !== "natural-many" || !chosen.includes("c")
        ? []
        : libevent === undefined
        ? [row("natural-c", runtime, { skipped: HOW_TO_GET_C })]
        : [row("natural-c", runtime, { workload: `natural, ${label}`, ...comparison(natural, libevent) })];
      return [
        row(id, runtime, { workload: `natural, ${label}`, ...comparison(natural, byHand) }),
        ...inC,
        row("each-line", runtime, { workload: `\`eachLine\`, ${label}`, ...comparison(eachLine, byHand) }),
      ];
    })
  );
  return { rows, servers };
}

function inC() {
  const [epoll, libevent] = [compile("epoll_rot13"), compileWithLibevent("libevent_rot13")];
  if (epoll === undefined || libevent === undefined) console.log(`C is left out, in part at least: ${HOW_TO_GET_C}`);
  return [
    ...(libevent === undefined ? [] : [{ name: "C libevent", command: [libevent, "0"], only: IN_C }]),
    ...(epoll === undefined ? [] : [{ name: "C epoll", command: [epoll, "0"], only: IN_C }]),
  ];
}

function table(servers) {
  const cells = servers.map(({ label, name, cpuUs, perSecond, p50Us, p99Us }) => [
    label,
    name,
    Math.round(perSecond).toLocaleString("en"),
    p50Us.toFixed(0),
    p99Us.toFixed(0),
    cpuUs.toFixed(cpuUs < 1 ? 3 : 2),
  ]);
  console.log(layOut([["load", "server", "lines/s", "p50 us", "p99 us", "CPU us/line"], ...cells], 2));
}
