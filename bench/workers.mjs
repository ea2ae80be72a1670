/**
 * Two workers that share a port, against one: `npm run bench -- workers [node] [deno] [bun] [--quick]`.
 *
 * The throughput of 64-byte lines, with 50 connections that the system spreads over the workers. One worker has CPU 0; of
 * two, the second has CPU 1, or 2 where there are three: on two CPUs it shares one with the load. So a line is given work of
 * about 0.2 ms (many turns of ROT13), beside which the load is small; what a bare line gives stands in the details.
 */

import { cpus } from "node:os";
import { RUNTIMES } from "../tests/tools/runtimes.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { buildLoad, measure, startServer } from "./shared/servers.mjs";
import { compare, median } from "./shared/stats.mjs";

const WORKLOAD = "two workers sharing a port, 0.2 ms of work a line";
/** Odd: twice is not at all. */
const TURNS = { work: 2001, bare: 1 };

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const plan = quick ? { rounds: 1, warmupMs: 50, measureMs: 100 } : { rounds: 5, warmupMs: 200, measureMs: 500 };
  await buildPrograms(["workers_server"]);
  const load = buildLoad();
  const rows = [];
  for (const name of RUNTIMES.filter((each) => args.length === 0 || args.includes(each))) {
    step(name);
    const why = whyNot();
    const work = why === undefined ? await rates(name, TURNS.work, load, plan) : undefined;
    if (work === undefined) {
      rows.push(
        row("workers", name, {
          workload: WORKLOAD,
          skipped: why ?? "this version can't share a port (reusePort): Node needs 22.12",
        }),
      );
      continue;
    }
    const bare = await rates(name, TURNS.bare, load, plan);
    const bareRatio = compare(bare.two, bare.one);
    rows.push(row("workers", name, {
      workload: WORKLOAD,
      ...compare(work.two, work.one),
      details: {
        cpus: cpus().length,
        perSecond: { one: median(work.one), two: median(work.two) },
        bare: { ...bareRatio, one: median(bare.one), two: median(bare.two) },
      },
    }));
    console.log(
      `${name}: ${compare(work.two, work.one).ratio.toFixed(2)} with work, ${bareRatio.ratio.toFixed(2)} bare`,
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

/** Lines a second of one worker and of two, or nothing where the host can't share a port. */
async function rates(name, turns, load, { rounds, warmupMs, measureMs }) {
  const command = ours(name, "workers_server", [String(turns)]);
  const servers = [];
  const start = async (cpu, port) => {
    const withPort = command.with(command.length - 2, String(port));
    const server = await startServer(withPort, { cpu });
    servers.push(server);
    return server;
  };
  try {
    const single = await start(0, 0).catch((error) => {
      if (error.message.endsWith(" ended")) return undefined;
      throw error;
    });
    if (single === undefined) return undefined;
    const first = await start(0, 0);
    const second = await start(cpus().length > 2 ? 2 : 1, first.port);
    const both = { port: first.port, pid: `${first.pid},${second.pid}` };
    const found = { one: [], two: [] };
    const how = { warmupMs, measureMs };
    for (const server of [single, both]) await measure(load, server, { ...how, warmupMs: warmupMs * 4 });
    for (let round = 0; round < rounds; round++) {
      found.one.push((await measure(load, single, how)).perSecond);
      found.two.push((await measure(load, both, how)).perSecond);
    }
    return found;
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}
