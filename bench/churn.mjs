/**
 * Connections that live for one line: `npm run bench -- churn [node] [deno] [bun] [--quick]`.
 *
 * 50 at a time connect, send a line, read the ROT13 of it, finish, and wait until the server has finished. The cost is the
 * server's CPU time of a connection, against servers written by hand on the same runtime.
 */

import { row } from "./shared/goals.mjs";
import { buildPrograms, growing, ours } from "./shared/programs.mjs";
import { buildLoad, chosenRuntimes, comparison, key, measureAll } from "./shared/servers.mjs";

const LABEL = "short connections";

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const time = quick ? { warmupMs: 20, measureMs: 60 } : { warmupMs: 100, measureMs: 400 };
  // V8 still compiles functions of both servers after 2 s: a connection runs each of them only once or twice.
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 4, jitMs: 2500 };

  await buildPrograms(["rot13_server"]);
  const contestants = runtimes.flatMap((name) => [
    { name: `${name} by hand`, command: growing(name) },
    { name: `${name} trivent`, command: ours(name, "rot13_server", ["readln"]) },
  ]);
  const samples = await measureAll(contestants, [{ label: LABEL, how: time }], plan, buildLoad("churn"));
  const rows = runtimes.map((runtime) => {
    const [mine, theirs] = ["trivent", "by hand"].map((name) => samples.get(key(`${runtime} ${name}`, LABEL)));
    return row("churn", runtime, comparison(mine, theirs));
  });
  return { rows };
}
