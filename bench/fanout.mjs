/**
 * One line to 1,000 clients: `npm run bench -- fanout [node] [deno] [bun] [--quick]`.
 *
 * A client sends a line of 200 B, the server sends it to all 1,000, and the next line follows when all have it. The cost is
 * the server's CPU time of a line, against servers by hand on the same runtime, and Redis as a broker of the same messages.
 */

import { spawnSync } from "node:child_process";
import { HOW_TO_GET_C } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours, reference } from "./shared/programs.mjs";
import { buildLoad, chosenRuntimes, comparison, freePort, key, measureAll, silent } from "./shared/servers.mjs";

const LABEL = "a line to all";

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const how = { connections: quick ? 100 : 1000, bytes: 200 };
  const time = quick ? { warmupMs: 10, measureMs: 50 } : { warmupMs: 100, measureMs: 400 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 3, jitMs: 800 };
  const load = buildLoad("fanout");
  if (load === undefined) return { rows: runtimes.map((name) => row("fanout", name, { skipped: HOW_TO_GET_C })) };

  await buildPrograms(["fanout_server"]);
  const contestants = [
    ...runtimes.flatMap((name) => [
      { name: `${name} by hand`, command: reference(name, `fanout_${name}.mjs`) },
      { name: `${name} trivent`, command: ours(name, "fanout_server") },
    ]),
    ...(spawnSync("redis-server", ["--version"]).status === 0
      ? [{ name: "redis", command: await redis(), kind: "redis", quiet: true }]
      : []),
  ];
  const samples = await measureAll(contestants, [{ label: LABEL, how: { ...time, ...how } }], plan, load);
  const rows = runtimes.flatMap((runtime) => {
    const [mine, byHand] = ["trivent", "by hand"].map((name) => samples.get(key(`${runtime} ${name}`, LABEL)));
    const broker = samples.get(key(`${runtime} redis`, LABEL));
    return [
      row("fanout", runtime, comparison(mine, byHand)),
      row("fanout-redis", runtime, {
        ...(broker === undefined ? { skipped: "Redis is not installed" } : comparison(mine, broker)),
      }),
    ];
  });
  return { rows };
}

async function redis() {
  const port = await freePort();
  const options = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  return silent(port, ["redis-server", ...options]);
}
