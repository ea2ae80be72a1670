/**
 * Two workers that share a port, against one: `npm run bench -- workers [node] [deno] [bun] [--quick]`.
 *
 * The throughput of 64-byte lines, with 200 connections that the system spreads over the workers. One worker has CPU 0; of
 * two, the second has CPU 1, or 2 where there are three: on two CPUs it shares one with the load. So a line is given work of
 * 0.2 ms (as many turns of ROT13 as the runtime makes in that time), so that the load is small
 * beside it. The result for a plain line is in the details. Each connection has one line in flight:
 * with 200, either worker has some ten milliseconds of lines waiting while the load does not run.
 * With 50 a worker that got 15 of them, which the system's hash does, was idle in between.
 *
 * Two CPUs may be less than twice one, as the halves of a core or with neighbours: in each round two programs that have
 * nothing in common show what could be had (`ceiling` in the details).
 */

import { cpus } from "node:os";
import { RUNTIMES } from "../tests/tools/runtimes.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours } from "./shared/programs.mjs";
import { ceiling } from "./shared/ceiling.mjs";
import { step } from "./shared/progress.mjs";
import { buildLoad, measure, startServer } from "./shared/servers.mjs";
import { compare, median } from "./shared/stats.mjs";

const WORKLOAD = "two workers sharing a port, 0.2 ms of work a line";
const CONNECTIONS = 200;
const WORK_US = 200;
/** To measure the time of a turn. Odd, because two turns cancel each other. */
const TRIAL = 2001;

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const plan = quick ? { rounds: 1, warmupMs: 20, measureMs: 50 } : { rounds: 5, warmupMs: 150, measureMs: 400 };
  await buildPrograms(["workers_server"]);
  const load = buildLoad();
  const rows = [];
  for (const name of RUNTIMES.filter((each) => args.length === 0 || args.includes(each))) {
    step(name);
    const why = whyNot();
    const turns = why === undefined ? await turnsOf(name, load, plan) : undefined;
    if (turns === undefined) {
      rows.push(
        row("workers", name, {
          workload: WORKLOAD,
          skipped: why ?? "this version can't share a port (reusePort): Node needs 22.12, TRIVENT_NODE names one",
        }),
      );
      continue;
    }
    const work = await rates(name, turns, load, plan);
    const bare = await rates(name, 1, load, plan);
    const most = median(work.ceiling);
    const bareRatio = compare(bare.two, bare.one);
    rows.push(row("workers", name, {
      workload: WORKLOAD,
      ...compare(work.two, work.one),
      details: {
        cpus: cpus().length,
        turns,
        ceiling: { ratio: most, least: Math.min(...work.ceiling), most: Math.max(...work.ceiling) },
        perSecond: { one: median(work.one), two: median(work.two) },
        bare: { ...bareRatio, one: median(bare.one), two: median(bare.two) },
      },
    }));
    console.log(
      `${name}: ${compare(work.two, work.one).ratio.toFixed(2)} with work, ${bareRatio.ratio.toFixed(2)} bare; ` +
        `two programs that share nothing: ${most.toFixed(2)}`,
    );
  }
  if (cpus().length < 3) {
    console.log("There are two CPUs, and the load has one of them too: bare lines can't show the second worker");
  }
  return { rows };
}

function whyNot() {
  if (process.platform !== "linux") return "sharing a port takes Linux";
  return cpus().length < 2 ? "there is one CPU" : undefined;
}

/**
 * The number of turns of ROT13 for the time of a line; undefined if the runtime cannot share a
 * port.
 */
async function turnsOf(name, load, { warmupMs, measureMs }) {
  const server = await startServer(ours(name, "workers_server", [String(TRIAL)]), { cpu: 0 }).catch((error) => {
    if (error.message.endsWith(" ended")) return undefined;
    throw error;
  });
  if (server === undefined) return undefined;
  const { perSecond } = await measure(load, server, { warmupMs: warmupMs * 4, measureMs, connections: CONNECTIONS });
  await server.stop();
  return Math.round(TRIAL * WORK_US * perSecond / 1e6) | 1;
}

/** Lines a second of one worker and of two. */
async function rates(name, turns, load, { rounds, warmupMs, measureMs }) {
  const command = ours(name, "workers_server", [String(turns)]);
  const second = cpus().length > 2 ? 2 : 1;
  const servers = [];
  const start = async (cpu, port) => {
    const withPort = command.with(command.length - 2, String(port));
    const server = await startServer(withPort, { cpu });
    servers.push(server);
    return server;
  };
  try {
    const single = await start(0, 0);
    const first = await start(0, 0);
    const other = await start(second, first.port);
    const both = { port: first.port, pid: `${first.pid},${other.pid}` };
    const found = { one: [], two: [], ceiling: [] };
    const how = { warmupMs, measureMs, connections: CONNECTIONS };
    for (const server of [single, both]) await measure(load, server, { ...how, warmupMs: warmupMs * 4 });
    for (let round = 0; round < rounds; round++) {
      found.one.push((await measure(load, single, how)).perSecond);
      found.two.push((await measure(load, both, how)).perSecond);
      if (turns > 1) found.ceiling.push(await ceiling([0, second]));
    }
    return found;
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}
