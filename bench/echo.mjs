/**
 * The echo benchmark: `npm run bench -- echo [node] [deno] [bun] [--quick]`.
 *
 * Messages of 64 B to 1 MiB, one in flight on each connection, against servers written by hand on the same runtime, and on
 * its `node:net` (on Node both are one). The cost is the server's CPU time of a message; every byte is compared.
 */

import { row } from "./shared/goals.mjs";
import { buildPrograms, ours, reference } from "./shared/programs.mjs";
import { buildLoad, chosenRuntimes, comparison, key, measureAll } from "./shared/servers.mjs";

const SIZES = [
  { label: "64 B", bytes: 64, connections: 50 },
  { label: "4 KiB", bytes: 4 << 10, connections: 50 },
  { label: "16 KiB", bytes: 16 << 10, connections: 50 },
  // More of them would only measure the kernel's search for memory.
  { label: "1 MiB", bytes: 1 << 20, connections: 8 },
];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const time = quick ? { warmupMs: 10, measureMs: 50 } : { warmupMs: 60, measureMs: 220 };
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
      const workload = `echo, ${label}`;
      return [
        row("echo", runtime, { workload, ...comparison(of("trivent"), of("by hand")) }),
        row("echo-net", runtime, { workload, ...comparison(of("trivent"), of("node:net") ?? of("by hand")) }),
      ];
    })
  );
  return { rows };
}
