/**
 * The goals, one for each line of the table, and the rows that the parts measure against them.
 *
 * A ratio is ours by the other's, so that less is better, but where the goal says "at least".
 */

import { RUNTIMES } from "../../tests/tools/runtimes.mjs";
import { layOut, markdown } from "./tables.mjs";

/** @typedef {{ atMost?: number, atLeast?: number, below?: number }} Limit */

const HAND = "hand-written, same runtime";
const GROWING = "hand-written, one growing buffer";

/** In the order of the table. `limit` may be one for each runtime; a runtime without one is told, not judged. */
export const GOALS = [
  {
    id: "rot13",
    workload: "ROT13, `readln`, 50 connections, 1 line of 64 B in flight",
    against: HAND,
    limit: { atMost: 1.05 },
  },
  {
    id: "rot13-c",
    workload: "ROT13, `readln`, 50 connections, 1 line of 64 B in flight",
    against: "C libevent",
    limits: { node: { atMost: 1.15 }, deno: { atMost: 1 }, bun: { atMost: 0.85 } },
  },
  { id: "rot13-32-c", workload: "the same, 32 lines in flight", against: "C libevent", limit: { atMost: 1 } },
  {
    id: "rot13-32",
    workload: "the same, 32 lines in flight, with `eachLine`",
    against: HAND,
    limit: { atMost: 1.05 },
  },
  {
    id: "natural",
    workload: "`examples/rot13_bufferevent.ts`, 1 line of 72 B in flight, 40 connections",
    against: GROWING,
    limit: { atMost: 1.1 },
  },
  {
    id: "natural-700",
    workload: "the same, 2 lines of 700 B, 300 connections",
    against: GROWING,
    limit: { atMost: 1.15 },
  },
  {
    id: "natural-many",
    workload: "the same, 24 lines of 72 B, 40 connections",
    against: GROWING,
    limit: { atMost: 1.3 },
  },
  {
    id: "natural-large",
    workload: "the same, a line of 12,000 B, 8 connections",
    against: GROWING,
    limit: { atMost: 1.2 },
  },
  { id: "echo", workload: "echo with `addBuffer`", against: HAND, limit: { atMost: 1.03 } },
  {
    id: "node-net",
    workload: "any of these",
    against: "`node:net` on the same runtime",
    limits: { deno: { atMost: 1 }, bun: { atMost: 1 } },
  },
  {
    id: "connections",
    workload: "many connections, 1 % active, CPU per line",
    against: "the same server with 50",
    limit: { atMost: 1.15 },
  },
  {
    id: "memory",
    workload: "resident memory per idle connection at 10,000",
    against: HAND,
    limit: { atMost: 1.2 },
  },
  { id: "churn", workload: "connect, one line, close: CPU per connection", against: HAND, limit: { atMost: 1.1 } },
  {
    id: "timers-host",
    workload: "timers",
    against: "the host's `setTimeout`, times as fast",
    limits: { node: { atLeast: 5 }, deno: { atLeast: 5 } },
  },
  { id: "timers-c", workload: "timers", against: "C libevent", limit: { atMost: 2 } },
  { id: "loop-c", workload: "`bench.c`, `bench_cascade.c`", against: "C over socket pairs", limit: { below: 1 } },
  { id: "size", workload: "core and adapter, minified and gzipped", against: "kB", limit: { atMost: 20 } },
  { id: "size-line-server", workload: "of these, what a line server has in its bundle", against: "kB", limits: {} },
  { id: "import", workload: "import time of the built package", against: "ms", limit: { atMost: 10 } },
  {
    id: "sim-sync",
    workload: "the simulator: echo of 100 clients by callbacks, `advanceSync()`",
    against: "`advance()` that counted ticks, times the events per CPU",
    limit: { atLeast: 10 },
  },
  {
    id: "sim-promises",
    workload: "the same, `advance()`",
    against: "`advance()` that counted ticks, times the events per CPU",
    limit: { atLeast: 5 },
  },
  {
    id: "sim-connections",
    workload: "the simulator: 100,000 connections exchange a line",
    against: "seconds of CPU",
    limit: { atMost: 10 },
  },
  {
    id: "workers",
    workload: "two workers sharing a port",
    against: "one worker, times the throughput",
    limit: { atLeast: 1.8 },
  },
  {
    id: "spread",
    workload: "two workers, ways to spread clients",
    against: "two workers, one inherited socket",
    limits: {},
  },
];

/**
 * A row of results.
 *
 * @param {string} id A goal's
 * @param {string} runtime
 * @param {{ workload?: string, ratio?: number, spread?: [number, number], skipped?: string, details?: object }} measured
 *   `workload` where the goal has several; `skipped` says why it was not measured
 */
export function row(id, runtime, { workload, ratio, spread, skipped, details }) {
  const goal = GOALS.find((each) => each.id === id);
  const limit = goal.limit ?? goal.limits[runtime];
  return {
    goalId: id,
    workload: workload ?? goal.workload,
    against: goal.against,
    runtime,
    goal: limitText(limit),
    ratio: ratio ?? null,
    spread: spread ?? null,
    met: limit === undefined || ratio === undefined ? null : isMet(limit, ratio),
    ...(skipped === undefined ? undefined : { skipped }),
    details: details ?? {},
  };
}

/** @param {Limit} limit @param {number} ratio */
export function isMet(limit, ratio) {
  if (limit.atMost !== undefined) return ratio <= limit.atMost;
  return limit.below !== undefined ? ratio < limit.below : ratio >= limit.atLeast;
}

/** @param {Limit | undefined} limit */
export function limitText(limit) {
  if (limit === undefined) return "";
  if (limit.atMost !== undefined) return `≤ ${limit.atMost}`;
  return limit.below !== undefined ? `< ${limit.below}` : `≥ ${limit.atLeast}`;
}

/**
 * The goals with what was measured, a column for each runtime.
 *
 * @param {readonly ReturnType<typeof row>[]} rows
 * @param {{ all?: boolean }} [options] All goals, or only those of the rows
 */
function goalsTable(rows, { all = true } = {}) {
  const lines = [["workload", "against", "goal", ...RUNTIMES]];
  for (const goal of GOALS) {
    const own = rows.filter(({ goalId }) => goalId === goal.id);
    if (own.length === 0 && !all) continue;
    const text = goal.limit === undefined
      ? Object.entries(goal.limits).map(([name, limit]) => `${name} ${limitText(limit)}`).join(", ")
      : limitText(goal.limit);
    const workloads = own.length === 0 ? [goal.workload] : [...new Set(own.map(({ workload }) => workload))];
    for (const workload of workloads) {
      const cells = RUNTIMES.map((name) =>
        cell(own.find((each) => each.workload === workload && each.runtime === name))
      );
      lines.push([workload, goal.against, text, ...cells]);
    }
  }
  return lines;
}

function cell(measured) {
  if (measured === undefined) return "—";
  if (measured.ratio === null) return "skipped";
  const { ratio, spread, met } = measured;
  const between = spread === null ? "" : ` (${number(spread[0])}–${number(spread[1])})`;
  return `${number(ratio)}${between}${met === null ? "" : met ? " met" : " MISSED"}`;
}

/** @param {number} value */
export function number(value) {
  return value.toFixed(value < 0.1 ? 3 : value < 10 ? 2 : 1);
}

/** @param {readonly ReturnType<typeof row>[]} rows @param {{ all?: boolean }} [options] */
export function goalsText(rows, options) {
  const judged = rows.filter(({ goalId, met }) => goalId !== undefined && met !== null);
  const met = judged.filter((each) => each.met).length;
  const notes = [...skips(rows)].map((why) => `skipped: ${why}`);
  return [
    layOut(goalsTable(rows, options)),
    "",
    `ratio (least–most of the rounds); ${met} of ${judged.length} judged rows are met`,
    ...notes,
  ].join("\n");
}

/** @param {readonly ReturnType<typeof row>[]} rows */
export function goalsMarkdown(rows) {
  const table = goalsTable(rows).map((line, i) =>
    i === 0 ? line : line.map((each) => each.replace("MISSED", "**missed**"))
  );
  const notes = [...skips(rows)].map((why) => `- skipped: ${why}`);
  return [markdown(table), ...(notes.length > 0 ? ["", ...notes] : [])].join("\n");
}

function skips(rows) {
  return new Set(
    rows.flatMap(({ skipped, runtime, workload }) => skipped ? [`${workload} on ${runtime}: ${skipped}`] : []),
  );
}
