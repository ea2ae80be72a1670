/** Servers under load: started, measured in rounds, compared. */

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { run as execute } from "../../tests/tools/processes.mjs";
import { plainEnvironment, ROOT } from "../../tests/tools/runtimes.mjs";
import { compile, REFERENCE } from "./compile.mjs";
import { pinned } from "./pinned.mjs";
import { step } from "./progress.mjs";

/** Not every runtime takes the number of open files that it could have. */
const ALL_FILES = ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh"];

/** Those that run: they must not outlive this process. */
const running = new Set();
process.on("exit", () => {
  for (const end of running) end();
});

/**
 * The command of a load.
 *
 * @param {"load" | "churn"} [name]
 * @returns {string[]}
 */
export function buildLoad(name = "load") {
  const binary = compile(name);
  if (binary !== undefined) return [binary];
  console.log("The load is bench/reference/load.mjs: there is no C compiler, and it is the slower one");
  return [process.execPath, join(REFERENCE, "load.mjs"), name];
}

/**
 * Starts a server, alone on CPU 0, and gives its port and process id. What is in front of it becomes the server, so that
 * the id is the server's.
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
          // One that holds thousands of connections may take its time; nothing is lost with it.
          const hurry = setTimeout(end, 3000);
          child.once("exit", () => done(clearTimeout(hurry)));
          if (!child.kill("SIGTERM")) done();
        });
      resolve({ port, pid: child.pid, stderr: child.stderr, stop });
    });
  });
}

/**
 * What a load finds.
 *
 * @param {readonly string[]} load
 * @param {{ port: string, pid: number | string }} server
 * @param {{ connections?: number, inFlight?: number, bytes?: number, warmupMs: number, measureMs: number, kind?: string }} how
 * @returns {Promise<{ cpuUs: number, perSecond: number, p50Us: number, p99Us: number }>}
 */
export async function measure(load, server, how) {
  const { connections = 50, inFlight = 1, bytes = 64, warmupMs, measureMs, kind } = how;
  const numbers = kind === "churn"
    ? [server.port, connections, bytes, warmupMs, measureMs, server.pid]
    : [server.port, connections, inFlight, bytes, warmupMs, measureMs, server.pid, kind ?? "rot13"];
  const [file, ...args] = pinned(1, [...load, ...numbers.map(String)]);
  const result = await execute(file, args, { cwd: ROOT, timeoutMs: warmupMs + measureMs + 20_000 });
  if (result.code !== 0) throw new Error(result.output.trim() || `the load ended with ${result.signal ?? result.code}`);
  const { messages, seconds, cpuSeconds, p50Us, p99Us } = JSON.parse(result.output);
  if (messages === 0) throw new Error("no reply came within the measured time");
  return { cpuUs: cpuSeconds * 1e6 / messages, perSecond: messages / seconds, p50Us, p99Us };
}

/**
 * All contestants side by side, in rounds, each of which begins with another one; those that are not measured are idle.
 *
 * @param {readonly { name: string, command: readonly string[] }[]} contestants
 * @param {readonly { label: string, how: object }[]} workloads
 * @param {{ starts: number, rounds: number }} plan Servers start anew several times: what their compilers make differs
 * @param {readonly string[]} load
 * @returns {Promise<Map<string, Record<string, number>[]>>} By `key(contestant.name, workload.label)`
 */
export async function measureAll(contestants, workloads, { starts, rounds, jitMs }, load) {
  const samples = new Map();
  for (let start = 0; start < starts; start++) {
    const servers = await Promise.all(contestants.map(({ command }) => startServer(command)));
    try {
      for (const { label, how } of workloads) {
        // The compilers of the runtimes take their time.
        for (const server of jitMs === 0 ? [] : servers) {
          await measure(load, server, { ...how, warmupMs: jitMs, measureMs: 20 });
        }
        for (let round = 0; round < rounds; round++) {
          step(`${label}, round ${start * rounds + round + 1} of ${starts * rounds}`);
          for (let i = 0; i < servers.length; i++) {
            const at = (i + round) % servers.length;
            const id = key(contestants[at].name, label);
            const sample = await measure(load, servers[at], how).catch((error) => {
              throw new Error(`${contestants[at].name}, ${label}: ${error.message}`);
            });
            samples.set(id, [...samples.get(id) ?? [], sample]);
          }
        }
      }
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  }
  return samples;
}

/** @param {string} contestant @param {string} label */
export function key(contestant, label) {
  return `${contestant} | ${label}`;
}

/** The memory of a process that is in RAM. @param {number} pid */
export function residentKiB(pid) {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
}
