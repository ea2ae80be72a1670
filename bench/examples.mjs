/**
 * The cost of each server of `examples/`:
 * `npm run bench -- examples [node] [deno] [bun] [name of an example]… [--quick]`.
 *
 * The CPU time (user and system, all threads) of the server process for a 64-byte line, with 25 connections and 1 or 32
 * lines of each in flight, under the load of `npm run bench -- rot13`. One server runs at a time, since one of them never
 * rests. A whole run goes to `results/examples.json`, from which the tour in `examples/README.md` has its numbers.
 */

import { cpus } from "node:os";
import { buildExamples } from "../tests/tools/bundles.mjs";
import { exampleCommand, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { buildDist } from "../tools/build.mjs";
import { step } from "./shared/progress.mjs";
import { buildLoad, measure, startServer } from "./shared/servers.mjs";

/**
 * The servers in the order of the tour: their names, arguments after the port, and kinds of
 * answers.
 */
const SERVERS = [
  ["rot13_fork", [], "rot13"],
  ["rot13_busypoll", [], "rot13"],
  ["rot13_select", [], "rot13"],
  ["rot13_events", [], "rot13"],
  ["rot13_bufferevent", [], "rot13"],
  ["echo_listener", [], "echo"],
  ["echo_select", [], "echo"],
  ["echo_epoll", [], "echo"],
  ["echo_epoll", ["--edge"], "echo"],
  ["epoll_workers", ["2"], "echo"],
  ["echo_overlapped", [], "echo"],
  ["echo_iocp", [], "echo"],
];
/**
 * It starts a thread for each connection of each round, which must not count in the cost of a line.
 */
const SLOW_START = { rot13_fork: 3000 };
/** One of them takes 30 clients, one has 32 children. */
const CONNECTIONS = 25;
const IN_FLIGHT = [1, 32];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const names = SERVERS.map(([name]) => name);
  const unknown = args.find((word) => ![...RUNTIMES, ...names].includes(word));
  if (unknown !== undefined) throw new Error(`no runtime or server is called "${unknown}"`);
  const choose = (all) => all.some((word) => args.includes(word)) ? all.filter((word) => args.includes(word)) : all;
  const runtimes = choose(RUNTIMES);
  const servers = SERVERS.filter(([name]) => choose(names).includes(name));
  const plan = quick
    ? { rounds: 1, warmUpMs: 0, warmupMs: 20, measureMs: 50 }
    : { rounds: 2, warmUpMs: 400, warmupMs: 100, measureMs: 300 };

  await buildDist({ declarations: false });
  await buildExamples();
  const load = buildLoad();
  console.log(
    `${cpus()[0].model}, ${cpus().length} CPUs; ${CONNECTIONS} connections, 64-byte lines, ` +
      `medians of ${plan.rounds} rounds of ${plan.measureMs} ms\n`,
  );
  const results = [];
  for (const [at, [name, more, kind]] of servers.entries()) {
    // A short run shows each server on one of them.
    for (const runtime of quick ? [runtimes[at % runtimes.length]] : runtimes) {
      step(`${name} on ${runtime}`);
      const { file, args } = exampleCommand(runtime, name, ["0", ...more]);
      const server = await startServer([file, ...args], { stderr: "ignore" });
      try {
        for (const inFlight of IN_FLIGHT) {
          const warmupMs = quick ? plan.warmupMs : SLOW_START[name] ?? plan.warmupMs;
          const cpuUs = await cost(server, load, inFlight, kind, { ...plan, warmupMs });
          results.push({ server: [name, ...more].join(" "), runtime, inFlight, cpuUs });
        }
      } finally {
        await server.stop();
      }
    }
  }
  print(results, runtimes);
  return { rows: [], connections: CONNECTIONS, results };
}

/** The median of several rounds, in microseconds of CPU for a line. */
async function cost(server, load, inFlight, kind, { rounds, warmUpMs, warmupMs, measureMs }) {
  // The compilers of the runtimes take some time.
  const how = { connections: CONNECTIONS, inFlight, kind };
  if (warmUpMs > 0) await measure(load, server, { ...how, warmupMs: warmUpMs, measureMs: 50 });
  const costs = [];
  for (let round = 0; round < rounds; round++) {
    costs.push((await measure(load, server, { ...how, warmupMs, measureMs })).cpuUs);
  }
  return costs.toSorted((a, b) => a - b)[costs.length >> 1];
}

function print(results, runtimes) {
  const columns = runtimes.flatMap((runtime) => IN_FLIGHT.map((inFlight) => ({ runtime, inFlight })));
  const rows = [["CPU us of a line", ...columns.map(({ runtime, inFlight }) => `${runtime} ${inFlight}`)]];
  for (const server of new Set(results.map((each) => each.server))) {
    const cell = ({ runtime, inFlight }) => {
      const found = results.find((each) =>
        each.server === server && each.runtime === runtime && each.inFlight === inFlight
      );
      return found === undefined ? "" : found.cpuUs.toFixed(found.cpuUs < 10 ? 2 : 0);
    };
    rows.push([server, ...columns.map(cell)]);
  }
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  for (const row of rows) console.log(row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd());
}
