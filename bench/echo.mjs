/**
 * The echo benchmark: `npm run bench -- echo [node] [deno] [bun] [--quick]`.
 *
 * Messages of 64 B, 16 KiB and 1 MiB, one in flight on each connection, against servers written by hand on the same
 * runtime, and on Deno and Bun also on `node:net`. The cost is the server's CPU time of a message; every byte is compared.
 */

import { RUNTIMES } from "../tests/tools/runtimes.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours, reference } from "./shared/programs.mjs";
import { buildLoad, key, measureAll } from "./shared/servers.mjs";
import { compare, medians } from "./shared/stats.mjs";

const SIZES = [
  { label: "64 B", bytes: 64, connections: 50 },
  { label: "16 KiB", bytes: 16 << 10, connections: 50 },
  // More of them would only measure how the kernel finds memory.
  { label: "1 MiB", bytes: 1 << 20, connections: 8 },
];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const runtimes = RUNTIMES.filter((name) => args.length === 0 || args.includes(name));
  const time = quick ? { warmupMs: 20, measureMs: 100 } : { warmupMs: 80, measureMs: 300 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 3, jitMs: 300 };

  await buildPrograms(["echo_server"]);
  const contestants = runtimes.flatMap((name) => [
    { name: `${name} by hand`, command: reference(name, name === "node" ? "echo_node.mjs" : `echo_${name}.ts`) },
    { name: `${name} trivent`, command: ours(name, "echo_server") },
    ...(name === "node" ? [] : [{ name: `${name} node:net`, command: reference(name, "echo_node.mjs") }]),
  ]);
  const workloads = SIZES.map(({ label, bytes, connections }) => ({
    label,
    how: { ...time, bytes, connections, kind: "echo" },
  }));
  const samples = await measureAll(contestants, workloads, plan, buildLoad());
  const rows = runtimes.flatMap((runtime) =>
    SIZES.flatMap(({ label }) => {
      const of = (name) => samples.get(key(`${runtime} ${name}`, label));
      const mine = of("trivent");
      const against = (id, theirs) =>
        row(id, runtime, {
          workload: `echo with \`addBuffer\`, ${label}`,
          ...compare(mine.map(({ cpuUs }) => cpuUs), theirs.map(({ cpuUs }) => cpuUs)),
          details: { ours: medians(mine), theirs: medians(theirs) },
        });
      const net = of("node:net");
      return [against("echo", of("by hand")), ...(net === undefined ? [] : [against("node-net", net)])];
    })
  );
  return { rows };
}
