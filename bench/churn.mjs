/**
 * Connections that live for one line: `npm run bench -- churn [node] [deno] [bun] [--quick]`.
 *
 * 50 at a time connect, send a line, read the ROT13 of it, finish, and wait until the server has finished. The cost is the
 * server's CPU time of a connection, against servers written by hand on the same runtime.
 */

import { RUNTIMES } from "../tests/tools/runtimes.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours, reference } from "./shared/programs.mjs";
import { buildLoad, key, measureAll } from "./shared/servers.mjs";
import { compare, medians } from "./shared/stats.mjs";

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const runtimes = RUNTIMES.filter((name) => args.length === 0 || args.includes(name));
  const time = quick ? { warmupMs: 20, measureMs: 100 } : { warmupMs: 150, measureMs: 500 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 3, jitMs: 1000 };

  await buildPrograms(["rot13_server"]);
  const contestants = runtimes.flatMap((name) => [
    { name: `${name} by hand`, command: reference(name, `handwritten_${name}.${name === "node" ? "mjs" : "ts"}`) },
    { name: `${name} trivent`, command: ours(name, "rot13_server", ["readln"]) },
  ]);
  const samples = await measureAll(
    contestants,
    [{ label: "short connections", how: { ...time, kind: "churn" } }],
    plan,
    buildLoad("churn"),
  );
  const rows = runtimes.map((runtime) => {
    const [mine, theirs] = ["trivent", "by hand"].map((name) =>
      samples.get(key(`${runtime} ${name}`, "short connections"))
    );
    const cpu = (all) => all.map(({ cpuUs }) => cpuUs);
    return row("churn", runtime, {
      ...compare(cpu(mine), cpu(theirs)),
      details: { ours: medians(mine), theirs: medians(theirs) },
    });
  });
  return { rows };
}
