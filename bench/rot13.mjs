/**
 * The ROT13 benchmark: `npm run bench -- rot13 [node] [deno] [bun] [c] [1] [32] [memory] [--quick]`; the words choose parts.
 *
 * What is measured is the CPU time (user and system) that a server process spends on a 64-byte line, for Trivent and for a
 * server written by hand on the same runtime, with 50 connections and 1 or 32 lines of each in flight. The server is
 * alone on CPU 0, the load on CPU 1, where `taskset` can see to it. Rounds of the contestants are interleaved, and each
 * round gives one ratio, so that what else the machine does hits both; the median of the ratios is the result.
 *
 * A second part counts what a connection holds whose peer sends and does not read.
 */

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { cpus } from "node:os";
import { join } from "node:path";
import { buildDist, buildTests } from "../tests/tools/build.mjs";
import { run as execute } from "../tests/tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIMES } from "../tests/tools/runtimes.mjs";

const CONTESTANTS = [...RUNTIMES, "c"];
/** The numbers of lines in flight, and the memory. */
const PARTS = ["1", "32", "memory"];
const CONNECTIONS = 50;
const LINE_BYTES = 64;
const GOAL = 1.10;
const MEMORY_GOAL_MIB = 1;

const BUILD = join(ROOT, "build", "bench");
const REFERENCE = join(ROOT, "bench", "reference");
const DENO = ["run", "--quiet", "--no-check", "--allow-net", "--unstable-net"];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const plan = quick
    ? { starts: 1, rounds: 3, warmupMs: 300, measureMs: 300 }
    : { starts: 3, rounds: 7, warmupMs: 300, measureMs: 1000 };
  const choose = (all) => all.some((word) => args.includes(word)) ? all.filter((word) => args.includes(word)) : all;
  const unknown = args.find((word) => ![...CONTESTANTS, ...PARTS].includes(word));
  if (unknown !== undefined) {
    throw new Error(`no part is called "${unknown}": ${[...CONTESTANTS, ...PARTS].join(", ")}`);
  }
  const wanted = choose(CONTESTANTS);
  const parts = choose(PARTS);

  await build();
  const load = buildLoad();
  const groups = wanted.map(contestants).filter((group) => group.length > 0);
  describe(plan, load);
  const rows = [];
  for (const inFlight of parts.filter((part) => part !== "memory").map(Number)) {
    for (const group of groups) rows.push(...await compare(group, inFlight, plan, load));
  }
  if (rows.length > 0) table(rows);
  if (parts.includes("memory")) await memory(groups.flat().filter(({ trivent }) => trivent));
}

// ---- the contestants

async function build() {
  await buildDist({ declarations: false });
  // The server for Node; it imports the library from dist/ by the name of the package, as users do.
  await buildTests(["bench/rot13_server.ts"], join(BUILD, "rot13"));
}

/** The servers of one runtime, first the one that the others are compared with. */
function contestants(name) {
  if (name === "c") return referencesInC();
  const { path, version } = findRuntime(name);
  const runtime = `${name} ${version}`;
  const ours = (...mode) => {
    if (name === "node") return [path, join(BUILD, "rot13", "bench", "rot13_server.js"), "0", ...mode];
    const flags = name === "deno" ? DENO : ["run"];
    return [path, ...flags, join(ROOT, "bench", "rot13_server.ts"), "0", ...mode];
  };
  const byHand = join(REFERENCE, `handwritten_${name}.${name === "node" ? "mjs" : "ts"}`);
  return [
    {
      runtime,
      name: "by hand",
      command: [path, ...(name === "node" ? [] : name === "deno" ? DENO : ["run"]), byHand, "0"],
    },
    { runtime, name: "trivent readln", command: ours("readln"), trivent: true },
    { runtime, name: "trivent eachLine", command: ours("eachLine"), trivent: true },
  ];
}

function referencesInC() {
  const found = [];
  for (
    const [file, name, libraries] of [
      ["epoll_rot13", "bare epoll", []],
      ["libevent_rot13", "libevent readln", ["-levent_core"]],
    ]
  ) {
    const binary = compile(file, libraries);
    if (binary === undefined) console.log(`${name} in C is left out: ${file}.c does not compile here`);
    else found.push({ runtime: "C", name, command: [binary, "0"] });
  }
  return found;
}

function compile(name, libraries = []) {
  const source = join(REFERENCE, `${name}.c`);
  if (!existsSync(source)) return undefined;
  mkdirSync(BUILD, { recursive: true });
  const binary = join(BUILD, name);
  try {
    execFileSync("cc", ["-O2", "-o", binary, source, ...libraries], { stdio: ["ignore", "ignore", "pipe"] });
    return binary;
  } catch {
    return undefined;
  }
}

/** Builds the load. @returns {string[]} The command */
export function buildLoad() {
  const binary = compile("load");
  if (binary !== undefined) return [binary];
  console.log("The load is bench/reference/load.mjs: there is no C compiler, and it is the slower one");
  return [process.execPath, join(REFERENCE, "load.mjs")];
}

// ---- measuring

const pinning = cpus().length > 1 && works("taskset", ["-c", "0", "true"]);

function works(file, args) {
  try {
    execFileSync(file, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function pinned(cpu, command) {
  return pinning ? ["taskset", "-c", String(cpu), ...command] : command;
}

/** Starts a server and gives its port and process id. `taskset` becomes the server, so that the id is the server's. */
export function startServer(command, stderr = "inherit") {
  const [file, ...args] = pinned(0, command);
  const child = spawn(file, args, { cwd: ROOT, env: plainEnvironment(), stdio: ["ignore", "pipe", stderr] });
  const end = () => child.kill("SIGKILL");
  process.on("exit", end);
  return new Promise((resolve, reject) => {
    let output = "";
    const timer = setTimeout(() => fail("does not listen"), 20_000);
    const fail = (why) => {
      end();
      reject(new Error(`${command.join(" ")} ${why}`));
    };
    child.on("error", ({ message }) => fail(`did not start: ${message}`));
    child.on("exit", () => {
      clearTimeout(timer);
      process.off("exit", end);
      fail("ended");
    });
    child.stdout.on("data", (chunk) => {
      output += chunk;
      const port = /^listening on \S+:(\d+)$/m.exec(output)?.[1];
      if (port === undefined) return;
      clearTimeout(timer);
      const stop = () => new Promise((done) => child.once("exit", done) && child.kill("SIGTERM") || done());
      resolve({ port, pid: child.pid, stop });
    });
  });
}

export async function measure(load, server, inFlight, warmupMs, measureMs, connections = CONNECTIONS, kind = "rot13") {
  const numbers = [server.port, connections, inFlight, LINE_BYTES, warmupMs, measureMs, server.pid].map(String);
  const [file, ...args] = pinned(1, [...load, ...numbers, kind]);
  const result = await execute(file, args, { cwd: ROOT, timeoutMs: warmupMs + measureMs + 20_000 });
  if (result.code !== 0) throw new Error(result.output.trim() || `the load ended with ${result.signal ?? result.code}`);
  const { lines, seconds, cpuSeconds, p50Us, p99Us } = JSON.parse(result.output);
  return { perSecond: lines / seconds, cpuUs: cpuSeconds * 1e6 / lines, p50Us, p99Us };
}

/** All servers of a group side by side; a server that is not measured is idle. */
async function compare(group, inFlight, { starts, rounds, warmupMs, measureMs }, load) {
  const samples = group.map(() => []);
  for (let start = 0; start < starts; start++) {
    const servers = await Promise.all(group.map(({ command }) => startServer(command)));
    try {
      // The compilers of the runtimes take their time.
      for (const server of servers) await measure(load, server, inFlight, 1500, 10);
      for (let round = 0; round < rounds; round++) {
        for (let i = 0; i < group.length; i++) {
          // Each round begins with another one.
          const at = (i + round) % group.length;
          samples[at].push(await measure(load, servers[at], inFlight, warmupMs, measureMs));
        }
      }
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  }
  return group.map(({ runtime, name, trivent }, i) => ({
    runtime,
    name,
    trivent: trivent === true,
    inFlight,
    ...Object.fromEntries(Object.keys(samples[i][0]).map((key) => [key, median(samples[i].map((each) => each[key]))])),
    ratios: i === 0 ? undefined : samples[i].map(({ cpuUs }, round) => cpuUs / samples[0][round].cpuUs),
  }));
}

// ---- memory

/** Peers that send and never read: what does each hold in the server? */
async function memory(group) {
  const peers = 40;
  console.log(`\nMemory: ${peers} peers that send all they can and never read\n`);
  const rows = [["runtime", "contestant", "sent MiB each", "held MiB each", "goal", ""]];
  for (const { runtime, name, command } of group) {
    const server = await startServer(command);
    try {
      // What the runtime itself takes for its first connections is not theirs.
      await flood(server, peers, 200);
      const before = residentMiB(server.pid);
      const { sentMiB, during } = await flood(server, peers, 1500);
      const held = Math.max(0, during - before) / peers;
      rows.push([
        runtime,
        name,
        (sentMiB / peers).toFixed(1),
        held.toFixed(2),
        `<= ${MEMORY_GOAL_MIB.toFixed(2)}`,
        held <= MEMORY_GOAL_MIB ? "met" : "MISSED",
      ]);
    } finally {
      await server.stop();
    }
  }
  print(rows, 2);
}

/** Sends until nothing is taken for a while; gives what was taken, and the memory of the server then. */
async function flood(server, peers, quietMs) {
  const piece = Buffer.from("a line of sixty-four bytes, of which there are very many of them\n".repeat(1000));
  let sent = 0;
  let last = performance.now();
  const sockets = Array.from({ length: peers }, () => {
    const socket = connect(Number(server.port), "127.0.0.1").pause();
    const send = () => {
      if (socket.destroyed) return;
      socket.write(piece, () => {
        sent += piece.length;
        last = performance.now();
        send();
      });
    };
    socket.on("error", () => {}).once("connect", send);
    return socket;
  });
  while (performance.now() - last < quietMs) await new Promise((resolve) => setTimeout(resolve, 50));
  const during = residentMiB(server.pid);
  for (const socket of sockets) socket.resetAndDestroy();
  await new Promise((resolve) => setTimeout(resolve, 300));
  return { sentMiB: sent / 2 ** 20, during };
}

function residentMiB(pid) {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;
}

// ---- telling

function describe({ starts, rounds, measureMs }, load) {
  console.log(
    `ROT13: ${CONNECTIONS} connections, ${LINE_BYTES}-byte lines, ` +
      `${starts} x ${rounds} rounds of ${measureMs / 1000} s, rounds interleaved`,
  );
  console.log(
    `${cpus()[0].model}, ${cpus().length} CPUs; ` +
      `${pinning ? "server on CPU 0, load on CPU 1" : "not pinned: there is no second CPU or no taskset"}; ` +
      `load: ${load.length === 1 ? "C" : "Node"}\n`,
  );
}

function table(rows) {
  const cells = [
    [
      "lines in flight",
      "runtime",
      "contestant",
      "lines/s",
      "p50 us",
      "p99 us",
      "CPU us/line",
      "ratio",
      "spread",
      "goal",
      "",
    ],
  ];
  for (const row of rows) {
    // The goal of this comparison is for one line in flight, and for the loop that people write.
    const judged = row.trivent && row.inFlight === 1;
    const ratio = row.ratios === undefined ? undefined : median(row.ratios);
    cells.push([
      String(row.inFlight),
      row.runtime,
      row.name,
      Math.round(row.perSecond).toLocaleString("en"),
      row.p50Us.toFixed(0),
      row.p99Us.toFixed(0),
      row.cpuUs.toFixed(row.cpuUs < 1 ? 3 : 2),
      ratio === undefined ? "1" : ratio.toFixed(3),
      row.ratios === undefined
        ? ""
        : `${quantile(row.ratios, 0.25).toFixed(2)}-${quantile(row.ratios, 0.75).toFixed(2)}`,
      judged ? GOAL.toFixed(2) : "",
      judged ? (ratio <= GOAL ? "met" : "MISSED") : "",
    ]);
  }
  print(cells, 3);
  console.log(
    "\nratio: CPU per line by that of the first of its group, the median of all rounds; spread: the middle half",
  );
}

function print(cells, left) {
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const line = (row) =>
    row.map((cell, i) => i < left || i === row.length - 1 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join(
      "  ",
    )
      .trimEnd();
  console.log(line(cells[0]));
  console.log(widths.map((width) => "-".repeat(width)).join("  "));
  for (const row of cells.slice(1)) console.log(line(row));
}

function median(numbers) {
  return quantile(numbers, 0.5);
}

function quantile(numbers, share) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.ceil(at)] - sorted[low]) * (at - low);
}
