/**
 * Views, and their rivals: `npm run bench -- views [node] [deno] [bun] [--quick]`.
 *
 * 20 connections with 16 messages of 64 B in flight; each server gets message by message and sends it back. The cost is the
 * server's CPU time of a message: of each view, of the same server with callbacks, of `node:readline`, of split2, of a
 * parser by hand, and of the web streams of the runtime (on Bun, which has none for sockets, of its `node:net`).
 */

import { row } from "./shared/goals.mjs";
import { buildPrograms, ours, reference } from "./shared/programs.mjs";
import { buildLoad, chosenRuntimes, comparison, key, measureAll } from "./shared/servers.mjs";

/** A goal's id, the view, and its rival. */
const ROWS = [
  ["view-readline", "lines", "readline"],
  ["view-split2", "lines", "split2"],
  ["view-split2", "batches", "split2"],
  ["view-hand", "batches", "parser"],
  ["view-hand", "frames", "parser"],
  ["view-streams", "text", "streams"],
  ["view-callback", "lines", "line"],
  ["view-callback", "batches", "line"],
  ["view-callback", "frames", "frames-callback"],
  ["view-callback", "text", "text-callback"],
];
const NAMES = {
  lines: "`lines()`",
  batches: "`lines().batches()`",
  frames: "`frames(lengthPrefixed)`",
  text: "`readable`, `TextDecoderStream`",
};
const OURS = ["line", "lines", "batches", "frames-callback", "frames", "text-callback", "text"];

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const time = quick ? { warmupMs: 10, measureMs: 30 } : { warmupMs: 40, measureMs: 170 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 2, jitMs: 500 };

  await buildPrograms(["views_server"]);
  const load = buildLoad();
  const contestants = runtimes.flatMap((runtime) => [
    ...OURS.map((mode) => ({
      name: `${runtime} ${mode}`,
      command: ours(runtime, "views_server", [mode]),
      only: [mode.startsWith("frames") ? "frames" : "lines"],
    })),
    { name: `${runtime} readline`, command: reference(runtime, "texts_node.mjs", ["readline"]), only: ["lines"] },
    { name: `${runtime} split2`, command: reference(runtime, "texts_node.mjs", ["split2"]), only: ["lines"] },
    { name: `${runtime} streams`, command: streams(runtime), only: ["lines"] },
    ...["lines", "frames"].map((mode) => ({
      name: `${runtime} parser ${mode}`,
      command: reference(runtime, `parser_${runtime}.mjs`, [mode]),
      only: [mode],
    })),
  ]);
  const workloads = ["lines", "frames"].map((label) => ({
    label,
    // The streams of Deno are JavaScript. Through them, an answer costs several times as much in the first half second of CPU time.
    ...(label === "lines" ? { jitMs: 1200 } : {}),
    how: { ...time, bytes: 64, inFlight: 16, connections: 20, kind: label === "lines" ? "echo" : "frames" },
  }));
  const samples = await measureAll(contestants, workloads, plan, load);
  const rows = runtimes.flatMap((runtime) =>
    ROWS.map(([id, view, against]) => {
      const label = view === "frames" ? "frames" : "lines";
      const rival = against === "parser" ? `parser ${label}` : against;
      const [mine, theirs] = [view, rival].map((name) => samples.get(key(`${runtime} ${name}`, label)));
      return row(id, runtime, { workload: NAMES[view], ...comparison(mine, theirs) });
    })
  );
  return { rows };
}

function streams(runtime) {
  if (runtime === "deno") return reference(runtime, "streams_deno.mjs");
  return reference(runtime, "texts_node.mjs", ["streams"]);
}
