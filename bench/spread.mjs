/**
 * Ways to spread clients over two workers, and the cost of each:
 * `npm run bench -- spread [node] [deno] [bun] [--quick]`.
 *
 * The workers inherit one listening socket; or each has its own with SO_REUSEPORT; or a parent accepts, and hands each
 * connection over (`node:cluster`, on Node only); or each has a port of its own, and HAProxy is in front. The cost is the CPU
 * time of all processes together, the parent and HAProxy included: of a 64-byte line on 50 connections, and of a connection
 * that lives for one line. All ways run in one run, in turn, and all of their processes share CPU
 * 0: so this is the total cost. `workers` measures how much two CPUs can do.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RUNTIMES } from "../tests/tools/runtimes.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { buildLoad, measure, startServer } from "./shared/servers.mjs";
import { compare, medians } from "./shared/stats.mjs";

const ONE = "one worker alone";
const INHERITED = "one inherited socket";
const SHARED = "a socket each, by `reusePort`";
const PARENT = "a parent that hands over";
const HAPROXY = "HAProxy in front";
const WORKLOADS = [
  { label: "CPU per line", how: {} },
  { label: "CPU per connection", how: { kind: "churn" } },
];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  if (process.platform !== "linux") throw new Error("sharing a socket takes Linux");
  const time = quick ? { warmupMs: 20, measureMs: 100 } : { warmupMs: 150, measureMs: 500 };
  const plan = quick ? { rounds: 1, jitMs: 0 } : { rounds: 7, jitMs: 1500 };
  await buildPrograms(["spread_server"]);
  const loads = { undefined: buildLoad(), churn: buildLoad("churn") };
  const rows = [];
  for (const runtime of RUNTIMES.filter((name) => args.length === 0 || args.includes(name))) {
    const { samples, skipped } = await measureWays(runtime, loads, time, plan);
    for (const { label } of WORKLOADS) {
      const base = samples.get(`${INHERITED}, ${label}`);
      const cpu = (all) => all.map(({ cpuUs }) => cpuUs);
      for (const way of [ONE, SHARED, PARENT, HAPROXY]) {
        const workload = `${way}: ${label}`;
        const own = samples.get(`${way}, ${label}`);
        if (own === undefined) rows.push(row("spread", runtime, { workload, skipped: skipped.get(way) }));
        else {
          const details = { this: medians(own), inherited: medians(base) };
          rows.push(row("spread", runtime, { workload, ...compare(cpu(own), cpu(base)), details }));
        }
      }
    }
  }
  return { rows };
}

/** @returns The results, by way and workload, and why a way was not measured */
async function measureWays(runtime, loads, time, { rounds, jitMs }) {
  const folder = mkdtempSync(join(tmpdir(), "spread-"));
  const started = [];
  const begin = async (command, options) => {
    const server = await startServer(command, options);
    started.push(server);
    return server;
  };
  const worker = (how, port = 0, options = {}) => {
    const command = ours(runtime, "spread_server", [how]).with(-2, String(port));
    // To check the descriptor that it inherits.
    return begin(command.map((word) => word === "--allow-net" ? "--allow-all" : word), options);
  };
  const ways = new Map();
  const skipped = new Map();
  try {
    ways.set(ONE, await worker("port"));

    const socket = createServer().unref();
    await new Promise((resolve) => socket.listen(0, "127.0.0.1", resolve));
    const { port } = socket.address();
    const fd = socket._handle.fd;
    const heirs = [await worker("fd", 0, { fd }), await worker("fd", 0, { fd })];
    // The workers have it now. If it stayed open here, this process would accept too.
    await new Promise((resolve) => socket.close(resolve));
    ways.set(INHERITED, { port, pid: pidsOf(heirs) });

    const first = await worker("shared", 0, { stderr: "ignore" }).catch(() => undefined);
    if (first === undefined) skipped.set(SHARED, "this version cannot share a port: Node needs 22.12");
    else {
      const second = await worker("shared", first.port);
      ways.set(SHARED, { port: first.port, pid: pidsOf([first, second]) });
    }

    if (runtime === "node") {
      const parent = await worker("cluster");
      ways.set(PARENT, { port: parent.port, pid: pidsOf([parent]) });
    } else skipped.set(PARENT, "this runtime hands no connection over to another process");

    if (spawnSync("haproxy", ["-v"]).status !== 0) skipped.set(HAPROXY, "haproxy is not installed");
    else {
      const backs = [await worker("port"), await worker("port")];
      const proxy = await haproxy(folder, backs, begin);
      ways.set(HAPROXY, { port: proxy.port, pid: pidsOf([proxy, ...backs]) });
    }

    const samples = new Map();
    for (const { label, how } of WORKLOADS) {
      const all = { ...time, ...how };
      const load = loads[how.kind];
      for (const server of jitMs === 0 ? [] : ways.values()) {
        await measure(load, server, { ...all, warmupMs: jitMs, measureMs: 20 });
      }
      for (let round = 0; round < rounds; round++) {
        step(`${runtime}, ${label}, round ${round + 1} of ${rounds}`);
        const names = [...ways.keys()];
        for (let i = 0; i < names.length; i++) {
          const way = names[(i + round) % names.length];
          const id = `${way}, ${label}`;
          samples.set(id, [...samples.get(id) ?? [], await measure(load, ways.get(way), all)]);
        }
      }
    }
    return { samples, skipped };
  } finally {
    await Promise.all(started.map((server) => server.stop()));
    rmSync(folder, { recursive: true, force: true });
  }
}

/** HAProxy in front of two workers, with a thread, as each worker has. */
async function haproxy(folder, backs, begin) {
  const config = join(folder, "haproxy.cfg");
  const port = await freePort();
  writeFileSync(
    config,
    "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n" +
      `listen workers\n  bind 127.0.0.1:${port}\n` +
      backs.map((back, i) => `  server worker-${i} 127.0.0.1:${back.port}\n`).join(""),
  );
  // HAProxy does not print where it listens.
  const script = `echo "listening on 127.0.0.1:${port}"; exec haproxy -q -db -f "${config}"`;
  const proxy = await begin(["sh", "-c", script]);
  await listening(port);
  return proxy;
}

/** A free port, below those that the system gives to clients. */
async function freePort() {
  for (;;) {
    const port = 16_384 + Math.floor(Math.random() * 16_384);
    const server = createServer();
    const isFree = await new Promise((resolve) => {
      server.on("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

async function listening(port) {
  for (const until = Date.now() + 20_000;; await new Promise((resolve) => setTimeout(resolve, 20))) {
    const socket = connect(port, "127.0.0.1");
    const isThere = await new Promise((resolve) => {
      socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    });
    socket.destroy();
    if (isThere) return;
    if (Date.now() > until) throw new Error("HAProxy does not listen");
  }
}

/** The processes of servers with all their children, as the load wants them. */
function pidsOf(servers) {
  const parents = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const found = new Set(servers.map(({ pid }) => pid));
  for (let size = 0; size < found.size;) {
    size = found.size;
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid);
  }
  return [...found].join(",");
}
