/**
 * The EvBuffer benchmark: `npm run bench -- evbuffer [node] [deno] [bun] [--quick]`.
 *
 * Each row is one piece of work, done in turn by EvBuffer and by a rival in one process. Each round
 * gives one ratio, so that other load of the machine affects both, and the median of the rounds is
 * the result. The programs are in
 * `evbuffer/`; all three runtimes run the same bundle.
 */

import { run as execute } from "../tests/tools/processes.mjs";
import { findRuntime, plainEnvironment, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { bundle } from "./shared/bundle.mjs";
import { isMet, limitText } from "./shared/goals.mjs";
import { step } from "./shared/progress.mjs";
import { layOut } from "./shared/tables.mjs";

/**
 * The goal for a row's ratio: at least this many times as fast, or at most this many times the
 * time.
 */
const GOALS = {
  "lines: readln / bl": { atLeast: 3 },
  "lines: readln / split2": { atLeast: 3 },
  "lines: readln / Buffer.concat, indexOf": { atLeast: 3 },
  "lines: readln / the same by offset": { atLeast: 3 },
  "lines: eachLine / by hand": { atMost: 1.1 },
  "writes of 16 bytes / Buffer.concat": { atLeast: 2 },
  "move 64 KiB chunks / 64 B chunks": { atMost: 1.1 },
  "search random bytes / Buffer.indexOf": { atMost: 1.2 },
  "search text / Buffer.indexOf": { atMost: 1.2 },
};

/** Why a goal is not met, if that is known. */
const WHY = {
  "lines: readln / bl":
    "on Bun a view (JavaScriptCore's subarray, 25 ns) is most of what a line costs us, and bl makes views too",
  "lines: readln / split2":
    "a typed-array view per line costs 25 to 38 ns; split2 decodes a chunk at once and cuts text, which is cheaper still",
  "lines: readln / Buffer.concat, indexOf": "as above: on Bun the view is most of what a line costs",
  "lines: readln / the same by offset":
    "the best that can be written by hand makes one view per line, too, and finds its end as fast; eachLine makes none",
  "lines: eachLine / by hand":
    "JavaScriptCore's indexOf takes 5 ns, so that keeping the buffer whole for each callback (3 ns) shows",
  "writes of 16 bytes / Buffer.concat":
    "both copy each piece once, and the host's own set() takes 15 of our 24 ns; text is encoded in place, and is faster",
  "search random bytes / Buffer.indexOf": "Bun searches with SIMD, which the language does not offer",
  "search text / Buffer.indexOf": "Bun searches with SIMD, which the language does not offer",
};

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const file = await bundle("bench/evbuffer/main.ts", "evbuffer.mjs");
  const columns = [];
  for (const name of RUNTIMES.filter((each) => args.length === 0 || args.includes(each))) {
    const { path, version } = findRuntime(name);
    const command = name === "deno" ? ["run", "--quiet", "--no-check", "--allow-all", file] : [file];
    step(`${name} ${version}`);
    const result = await execute(path, quick ? [...command, "--quick"] : command, {
      env: plainEnvironment(),
      timeoutMs: 600_000,
    });
    if (result.code !== 0) throw new Error(`the program failed on ${name}:\n${result.output}`);
    const rows = result.output.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
    columns.push({ name, version, rows });
  }
  report(columns, quick ? {} : GOALS);
  return { rows: columns.flatMap(({ name, rows }) => rows.map((each) => rowOf(name, each))) };
}

/** `ratio` is how many times as fast ours is where the goal says so, else our time by the other's. */
function rowOf(runtime, { work, ratio, ours, theirs, unit }) {
  const goal = GOALS[work];
  const factor = goal?.atMost === undefined ? 1 / ratio : ratio;
  const [workload, against] = work.split(" / ");
  const met = goal === undefined ? null : isMet(goal, factor);
  return {
    workload,
    against,
    runtime,
    goal: limitText(goal),
    ratio: factor,
    spread: null,
    met,
    details: { ours, theirs, unit },
  };
}

/** A short run has no goals. */
function report(columns, goals) {
  const cells = [["work", "goal", ...columns.map(({ name, version }) => `${name} ${version}`)]];
  const times = [["work", ...columns.flatMap(({ name }) => [`${name}: ours`, "theirs"])]];
  const missed = new Map();
  for (const work of columns[0].rows.map((row) => row.work)) {
    const goal = goals[work];
    const cell = [work, goalText(goal)];
    const time = [work];
    for (const { name, rows } of columns) {
      const row = rows.find((each) => each.work === work);
      const factor = goal?.atMost === undefined ? 1 / row.ratio : row.ratio;
      const met = goal === undefined || (goal.atMost === undefined ? factor >= goal.atLeast : factor <= goal.atMost);
      if (!met) missed.set(work, [...missed.get(work) ?? [], name]);
      cell.push(`${factor.toFixed(2)}${goal === undefined ? "" : met ? "  met" : "  MISSED"}`);
      time.push(amount(row.ours, row.unit), amount(row.theirs, row.unit));
    }
    cells.push(cell);
    times.push(time);
  }
  console.log("\nRatios: × is how many times as fast as the other; ≤ is our time divided by the other's\n");
  console.log(layOut(cells));
  console.log("\nMedian times\n");
  console.log(layOut(times));
  if (goals === GOALS) console.log(missed.size === 0 ? "\nAll goals are met" : "\nMissed");
  for (const [work, names] of missed) console.log(`- ${work} (${names.join(", ")}): ${WHY[work] ?? "unknown"}`);
}

function goalText(goal) {
  if (goal === undefined) return "×";
  return goal.atLeast === undefined ? `≤ ${goal.atMost}` : `× ${goal.atLeast}`;
}

function amount(value, unit) {
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
}
