/** Servers under load: started, measured in rounds, compared. */

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { run as execute } from "../../tests/tools/processes.mjs";
import { plainEnvironment, ROOT, RUNTIMES } from "../../tests/tools/runtimes.mjs";
import { compile, REFERENCE } from "./compile.mjs";
import { pinned } from "./pinned.mjs";
import { step } from "./progress.mjs";
import { compare, medians } from "./stats.mjs";

/** Not every runtime uses the number of open files that it could have. */
const ALL_FILES = ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh"];

/** The number of loads of a warm-up, one after the other. */
const WARM_UP_LOADS = 5;

/** The running servers, which must not outlive this process. */
const running = new Set();
process.on("exit", () => {
  for (const end of running) end();
});

/** The loads that exist without a C compiler. */
const IN_JAVASCRIPT = ["load", "churn"];
/** The arguments of each load, in this order. */
const ARGUMENTS = {
  load: ({ port, pid }, { connections = 50, inFlight = 1, bytes = 64, warmupMs, measureMs, count, kind = "rot13" }) => [
    port,
    connections,
    inFlight,
    bytes,
    warmupMs,
    count === undefined ? measureMs : `${count}n`,
    pid,
    kind,
  ],
  churn: ({ port, pid }, { connections = 50, bytes = 64, warmupMs, measureMs }) => [
    port,
    connections,
    bytes,
    warmupMs,
    measureMs,
    pid,
  ],
  paced: ({ port, pid }, { connections = 50, rate, bytes = 64, warmupMs, measureMs, kind = "rot13" }) => [
    port,
    connections,
    rate,
    bytes,
    warmupMs,
    measureMs,
    pid,
    kind,
  ],
  fanout: ({ port, pid }, { connections, bytes, warmupMs, measureMs, kind = "lines" }) => [
    port,
    connections,
    bytes,
    warmupMs,
    measureMs,
    pid,
    kind,
  ],
  /** For handshakes, the warm-up and the measured part are numbers, not times. */
  tls: ({ port, pid }, { connections, bytes, warmupMs, measureMs, count, kind }) => [
    port,
    connections,
    bytes,
    count === undefined ? warmupMs : Math.ceil(count / 5),
    count ?? measureMs,
    pid,
    kind,
  ],
};

/**
 * The command of a load.
 *
 * @param {"load" | "churn" | "paced" | "fanout" | "tls"} [name]
 * @returns {{ name: string, command: string[] } | undefined} Undefined if it needs a C compiler,
 * and there is none
 */
export function buildLoad(name = "load") {
  const binary = compile(name, name === "tls" ? ["-lssl", "-lcrypto"] : []);
  if (binary !== undefined) return { name, command: [binary] };
  if (!IN_JAVASCRIPT.includes(name)) return undefined;
  console.log("The load is bench/reference/load.mjs: there is no C compiler, and it is the slower one");
  return { name, command: [process.execPath, join(REFERENCE, "load.mjs"), name] };
}

/**
 * Starts a server, alone on CPU 0, and returns its port and process id. The commands before it
 * become the server, so the id belongs to the server.
 *
 * @param {readonly string[]} command
 * @param {{ stderr?: "inherit" | "ignore" | "pipe", cpu?: number, fd?: number }} [options] `fd`: it inherits this as 3
 */
export function startServer(command, { stderr = "inherit", cpu = 0, fd } = {}) {
  const [file, ...args] = pinned(cpu, [...ALL_FILES, ...command]);
  const stdio = ["ignore", "pipe", stderr, ...(fd === undefined ? [] : [fd])];
  const child = spawn(file, args, { cwd: ROOT, env: plainEnvironment(), stdio });
  const end = () => child.kill("SIGKILL");
  running.add(end);
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
      running.delete(end);
      fail("ended");
    });
    child.stdout.on("data", (chunk) => {
      output += chunk;
      const port = /^listening on \S+:(\d+)$/m.exec(output)?.[1];
      if (port === undefined) return;
      clearTimeout(timer);
      const stop = () =>
        new Promise((done) => {
          // A server with thousands of connections may need time to end; nothing is lost with it.
          const hurry = setTimeout(end, 3000);
          child.once("exit", () => done(clearTimeout(hurry)));
          if (!child.kill("SIGTERM")) done();
        });
      resolve({ port, pid: child.pid, stderr: child.stderr, stop });
    });
  });
}

/**
 * Runs a load and returns its results.
 *
 * @param {{ name: string, command: readonly string[] }} load
 * @param {{ port: string, pid: number | string }} server
 * @param {{ connections?: number, inFlight?: number | string, bytes?: number | string, warmupMs: number,
 *   measureMs: number, count?: number, rate?: number, kind?: string, warming?: boolean }} how `count` messages in place of a
 *   time; two numbers with a hyphen are drawn at random; if it is `warming`, the result is not used
 * @returns {Promise<{ cpuUs: number, perSecond: number, p50Us: number, p99Us: number, p999Us: number }>}
 */
export async function measure(load, server, how) {
  const [file, ...args] = pinned(1, [...load.command, ...ARGUMENTS[load.name](server, how).map(String)]);
  const result = await execute(file, args, { cwd: ROOT, timeoutMs: how.warmupMs + how.measureMs + 20_000 });
  if (result.code !== 0) throw new Error(result.output.trim() || `the load ended with ${result.signal ?? result.code}`);
  const { messages, seconds, cpuSeconds, p50Us, p99Us, p999Us } = JSON.parse(result.output);
  if (messages === 0 && how.warming !== true) throw new Error("no reply came within the measured time");
  return { cpuUs: cpuSeconds * 1e6 / messages, perSecond: messages / seconds, p50Us, p99Us, p999Us };
}

/**
 * The contestants of one runtime side by side, then those of the next one. No ratio is between two runtimes, and a server
 * that has been idle for eight seconds is not warm any more: V8 then collects its garbage, and throws away optimized code
 * whose objects are gone. Contestants of no runtime take part in each, because they are compared with all.
 *
 * @param {readonly { name: string, command: readonly string[], only?: readonly string[], kind?: string,
 *   quiet?: boolean, warmUps?: number }[]} contestants `name`: begins with the runtime, if it has one; `only`: the labels of
 *   the workloads that it can do; `kind`: of its load; `quiet`: it does not tell when it listens; `warmUps`: how many times
 *   as long as the others it warms up
 * @param {readonly { label: string, how: object, jitMs?: number }[]} workloads
 * @param {{ starts: number, rounds: number, jitMs: number }} plan Servers start anew several times: what their compilers
 *   make differs
 * @param {{ name: string, command: readonly string[] }} load
 * @returns {Promise<Map<string, Record<string, number>[]>>} By `key(contestant.name, workload.label)`. For contestants of
 *   no runtime also by `key(runtime + " " + contestant.name, …)`, which are the rounds of that runtime
 */
export async function measureAll(contestants, workloads, plan, load) {
  const runtimeOf = ({ name }) => RUNTIMES.find((runtime) => name.startsWith(`${runtime} `));
  const runtimes = RUNTIMES.filter((runtime) => contestants.some((each) => runtimeOf(each) === runtime));
  const samples = new Map();
  const add = (id, more) => samples.set(id, [...samples.get(id) ?? [], ...more]);
  for (const runtime of runtimes.length === 0 ? [undefined] : runtimes) {
    const those = contestants.filter((each) => [runtime, undefined].includes(runtimeOf(each)));
    for (const [each, label, found] of await measureTogether(those, workloads, plan, load)) {
      add(key(each.name, label), found);
      if (runtime !== undefined && runtimeOf(each) === undefined) add(key(`${runtime} ${each.name}`, label), found);
    }
  }
  return samples;
}

/**
 * Runs contestants side by side, in rounds. Each round begins with another one; contestants that
 * are not measured are idle.
 *
 * @returns {Promise<[contestant: object, label: string, samples: Record<string, number>[]][]>}
 */
async function measureTogether(contestants, workloads, { starts, rounds, jitMs }, load) {
  const found = workloads.flatMap(({ label }) =>
    contestants.filter(({ only }) => only === undefined || only.includes(label)).map((each) => [each, label, []])
  );
  for (let start = 0; start < starts; start++) {
    const servers = await Promise.all(
      contestants.map(async (contestant) => ({ contestant, ...contestant, ...await startServer(contestant.command) })),
    );
    try {
      for (const server of servers) if (server.quiet === true) await whenListening(server);
      for (const { label, how, jitMs: own = jitMs } of workloads) {
        const those = servers.filter(({ only }) => only === undefined || only.includes(label));
        const one = (server, more) =>
          measure(load, server, { ...how, kind: server.kind ?? how.kind, ...more }).catch((error) => {
            throw new Error(`${server.name}, ${label}: ${error.message}`);
          });
        // The compilers of the runtimes take some time. Each measurement opens new connections, so
        // the warm-up does too: code that was compiled without new connections is thrown away when
        // a connection begins or ends.
        for (const server of jitMs === 0 ? [] : those) {
          step(`${label}, warm-up of ${server.name}`);
          const warmupMs = Math.ceil(own * (server.warmUps ?? 1) / WARM_UP_LOADS);
          for (let i = 0; i < WARM_UP_LOADS; i++) await one(server, { warmupMs, measureMs: 20, warming: true });
        }
        for (let round = 0; round < rounds; round++) {
          step(`${label}, round ${start * rounds + round + 1} of ${starts * rounds}`);
          for (let i = 0; i < those.length; i++) {
            const server = those[(i + round) % those.length];
            found.find(([each, of]) => each === server.contestant && of === label)[2].push(await one(server));
          }
        }
      }
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  }
  return found;
}

/**
 * Ours divided by another's, for one field in the same rounds, and the medians of both.
 *
 * @param {readonly Record<string, number>[]} mine
 * @param {readonly Record<string, number>[]} theirs
 * @param {string} [field]
 */
export function comparison(mine, theirs, field = "cpuUs") {
  const of = (all) => all.map((each) => each[field]);
  return { ...compare(of(mine), of(theirs)), details: { ours: medians(mine), theirs: medians(theirs) } };
}

/** The runtimes that the words name; all of them without words. @param {readonly string[]} args */
export function chosenRuntimes(args) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  return RUNTIMES.filter((name) => args.length === 0 || args.includes(name));
}

/**
 * Waits until a server accepts connections, if it does not report that. @param {{ port: string }}
 * server
 */
export async function whenListening({ port }) {
  for (let attempt = 0; attempt < 200; attempt++) {
    const there = await new Promise((resolve) => {
      const socket = connect(Number(port), "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (there) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`nothing listens on port ${port}`);
}

/** A free port, for programs that cannot choose one. @returns {Promise<number>} */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject).listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/**
 * Wraps a program that does not print its port, so that the port is printed.
 *
 * @param {number} port
 * @param {readonly string[]} command
 */
export function silent(port, command) {
  return ["sh", "-c", `echo listening on 127.0.0.1:${port}; exec "$@" >/dev/null`, "sh", ...command];
}

/** @param {string} contestant @param {string} label */
export function key(contestant, label) {
  return `${contestant} | ${label}`;
}

/** The memory of a process that is in RAM. @param {number} pid */
export function residentKiB(pid) {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
}
