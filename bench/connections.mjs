/**
 * Many connections, few of them active: `npm run bench -- connections [node] [deno] [bun] [c] [--quick]`.
 *
 * The CPU time of a line where 1 % of 1,000 and of 10,000 connections have one line in flight, against the same server
 * with 50, all active. Three servers run side by side and take turns; the idle connections of each
 * have had a line, and stay open. Fewer active connections mean fewer lines in a turn, so the cost
 * of the same number without idle ones is measured too. It is in the details.
 */

import { RUNTIMES } from "../tests/tools/runtimes.mjs";
import { compileWithLibevent, HOW_TO_GET_C } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { hold, whyNot } from "./shared/hold.mjs";
import { buildPrograms, ours } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { buildLoad, measure, startServer } from "./shared/servers.mjs";
import { compare, median, medians } from "./shared/stats.mjs";

const FEW = 50;
const CONTESTANTS = [...RUNTIMES, "c"];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !CONTESTANTS.includes(word));
  if (unknown !== undefined) throw new Error(`no contestant is called "${unknown}": ${CONTESTANTS.join(", ")}`);
  const wanted = CONTESTANTS.filter((name) => args.length === 0 || args.includes(name));
  const runtimes = wanted.filter((name) => name !== "c");
  const totals = quick ? [200, 400] : [1000, 10_000];
  const time = quick ? { warmupMs: 20, measureMs: 60 } : { warmupMs: 80, measureMs: 300 };
  const plan = { ...time, withoutIdle: true, rounds: quick ? 1 : 3, jitMs: quick ? 0 : 600, totals };
  const workload = (total) => `${total.toLocaleString("en")} connections, 1 % active, CPU per line`;

  const why = whyNot(Math.max(...totals));
  if (why !== undefined) {
    console.log(`Left out: ${why}`);
    return {
      rows: runtimes.flatMap((name) =>
        totals.map((n) => row("connections", name, { workload: workload(n), skipped: why }))
      ),
    };
  }
  await buildPrograms(["rot13_server"]);
  const load = buildLoad();
  const rows = [];
  const points = [];
  for (const name of runtimes) {
    step(`trivent on ${name}`);
    const found = await among(ours(name, "rot13_server", ["readln"]), load, plan);
    points.push(...pointsOf(`trivent, ${name}`, found, totals));
    rows.push(...totals.map((total, i) => {
      const { ratio, spread } = compare(found.active[i], found.few);
      const alone = median(found.active[i].map((value, round) => value / found.alone[i][round]));
      return row("connections", name, {
        workload: workload(total),
        ratio,
        spread,
        details: { ...medians(found.samples[i]), active: total / 100, againstSameActiveWithoutIdle: alone },
      });
    }));
  }
  for (const [name, command] of rivals(wanted)) {
    step(name);
    points.push(
      ...pointsOf(name, await among(command, load, { ...plan, withoutIdle: false, rounds: quick ? 1 : 2 }), totals),
    );
  }
  return { rows, points };
}

function rivals(wanted) {
  if (!wanted.includes("c")) return [];
  const binary = compileWithLibevent("libevent_rot13");
  if (binary === undefined) console.log(`C is left out: ${HOW_TO_GET_C}`);
  return binary === undefined ? [] : [["C libevent", [binary, "0"]]];
}

/** One server with 50 connections, all active, and one for each number of connections in all. */
async function among(command, load, { rounds, warmupMs, measureMs, jitMs, totals, withoutIdle }) {
  const servers = await Promise.all([FEW, ...totals].map(() => startServer(command)));
  const held = [];
  const few = [];
  const active = totals.map(() => []);
  const alone = totals.map(() => []);
  const samples = totals.map(() => []);
  try {
    if (jitMs > 0) { for (const server of servers) await measure(load, server, { warmupMs: jitMs, measureMs: 20 }); }
    for (const [i, total] of totals.entries()) held.push(await hold(servers[i + 1], total - total / 100));
    const one = (server, connections) => measure(load, server, { connections, warmupMs, measureMs });
    for (let round = 0; round < rounds; round++) {
      few.push((await one(servers[0], FEW)).cpuUs);
      for (const [i, total] of totals.entries()) {
        const sample = await one(servers[i + 1], total / 100);
        samples[i].push(sample);
        active[i].push(sample.cpuUs);
        if (withoutIdle) alone[i].push((await one(servers[0], total / 100)).cpuUs);
      }
    }
  } finally {
    await Promise.all(held.map((release) => release()));
    await Promise.all(servers.map((server) => server.stop()));
  }
  return { few, active, alone, samples };
}

function pointsOf(name, { few, active }, totals) {
  return [
    { name, connections: FEW, cpuUs: median(few) },
    ...totals.map((connections, i) => ({ name, connections, cpuUs: median(active[i]) })),
  ];
}
