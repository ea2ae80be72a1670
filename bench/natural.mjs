/**
 * The code that people write: `npm run bench -- natural [node] [deno] [bun] [--quick]`.
 *
 * The server is `examples/rot13_bufferevent.ts` as it stands, under four loads that differ in the size of a line, the number
 * of lines in flight and the number of connections. Its rivals are written by hand, and each is good at every size: it
 * reads into one growing buffer, and sends the lines of a read with one write. All servers rotate with the same function.
 * The cost is the server's CPU time of a line.
 */

import { buildExamples, buildTests } from "../tests/tools/bundles.mjs";
import { exampleCommand, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { buildDist } from "../tools/build.mjs";
import { row } from "./shared/goals.mjs";
import { builtReference, PROGRAMS, reference } from "./shared/programs.mjs";
import { buildLoad, key, measureAll } from "./shared/servers.mjs";
import { compare, medians } from "./shared/stats.mjs";
import { layOut } from "./shared/tables.mjs";

/** One goal for each, because the part of the kernel differs. */
const LOADS = [
  { id: "natural", label: "1 × 72 B, 40 connections", bytes: 72, inFlight: 1, connections: 40 },
  { id: "natural-many", label: "24 × 72 B, 40 connections", bytes: 72, inFlight: 24, connections: 40 },
  { id: "natural-700", label: "2 × 700 B, 300 connections", bytes: 700, inFlight: 2, connections: 300 },
  { id: "natural-large", label: "12,000 B, 8 connections", bytes: 12_000, inFlight: 1, connections: 8 },
];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const runtimes = RUNTIMES.filter((name) => args.length === 0 || args.includes(name));
  const time = quick ? { warmupMs: 20, measureMs: 60 } : { warmupMs: 100, measureMs: 350 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 4, jitMs: 2500 };

  await buildDist({ declarations: false });
  await buildExamples(["rot13_bufferevent"]);
  await buildTests(["bench/reference/growing_node.ts"], PROGRAMS);
  const contestants = runtimes.flatMap((name) => {
    const { file, args } = exampleCommand(name, "rot13_bufferevent", ["0"]);
    const byHand = name === "node" ? builtReference("growing_node") : reference(name, `growing_${name}.ts`);
    return [{ name: `${name} by hand`, command: byHand }, { name: `${name} natural`, command: [file, ...args] }];
  });
  const workloads = LOADS.map(({ label, bytes, inFlight, connections }) => ({
    label,
    how: { ...time, bytes, inFlight, connections },
  }));
  const samples = await measureAll(contestants, workloads, plan, buildLoad());

  const lines = [["load", "server", "CPU us/line", "lines/s", "p50 us", "p99 us"]];
  const rows = LOADS.flatMap(({ id, label }) =>
    runtimes.map((runtime) => {
      const [theirs, mine] = ["by hand", "natural"].map((name) => samples.get(key(`${runtime} ${name}`, label)));
      const details = { ours: medians(mine), theirs: medians(theirs) };
      for (const [name, all] of [["by hand", details.theirs], ["natural", details.ours]]) {
        const { cpuUs, perSecond, p50Us, p99Us } = all;
        const cells = [
          cpuUs.toFixed(2),
          Math.round(perSecond).toLocaleString("en"),
          p50Us.toFixed(0),
          p99Us.toFixed(0),
        ];
        lines.push([label, `${runtime} ${name}`, ...cells]);
      }
      return row(id, runtime, {
        ...compare(mine.map(({ cpuUs }) => cpuUs), theirs.map(({ cpuUs }) => cpuUs)),
        details,
      });
    })
  );
  console.log(layOut(lines, 2));
  return { rows };
}
