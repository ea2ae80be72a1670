/**
 * The goals, one for each line of the table, and the rows that the parts measure against them.
 *
 * A ratio is ours divided by the other's, so less is better, unless the goal says "at least".
 */

import { RUNTIMES } from "../../tests/tools/runtimes.mjs";
import { layOut, markdown } from "./tables.mjs";

/** @typedef {{ atMost?: number, atLeast?: number, below?: number }} Limit */

/** The rival of most rows. */
export const HAND = "hand-written";

/**
 * In the order of the table. `limit` may be one for each runtime; a runtime without one is shown,
 * not judged. `others` are the goals that are not about servers under load; they have a separate
 * table.
 */
export const GOALS = [
  { id: "natural", workload: "natural, 1 × 64 B, 50 connections", against: HAND, limit: { atMost: 1.1 } },
  { id: "natural-700", workload: "natural, 2 × 700 B, 300 connections", against: HAND, limit: { atMost: 1.15 } },
  { id: "natural-many", workload: "natural, 32 × 64 B, 50 connections", against: HAND, limit: { atMost: 1.3 } },
  {
    id: "natural-c",
    workload: "natural, 32 × 64 B, 50 connections",
    against: "C libevent",
    limit: { atMost: 1 },
  },
  { id: "natural-large", workload: "natural, lines of 4 to 60 KB", against: HAND, limit: { atMost: 1.2 } },
  { id: "natural-mixed", workload: "natural, mixed", against: HAND, limit: { atMost: 1.2 } },
  { id: "each-line", workload: "`eachLine`, all sizes", against: HAND, limit: { atMost: 1.08 } },
  { id: "echo", workload: "echo", against: HAND, limit: { atMost: 1.05 } },
  { id: "echo-net", workload: "echo", against: "`node:net`", limit: { atMost: 1 } },
  { id: "proxy", workload: "proxy by `pipe()`", against: HAND, limit: { atMost: 1.05 } },
  { id: "proxy-haproxy", workload: "proxy by `pipe()`", against: "HAProxy", limits: {} },
  { id: "fanout", workload: "a line of 200 B to 1,000 clients", against: HAND, limit: { atMost: 1.05 } },
  { id: "fanout-redis", workload: "a line of 200 B to 1,000 clients", against: "Redis", limits: {} },
  { id: "tls", workload: "TLS", against: HAND, limit: { atMost: 1.1 } },
  { id: "view-readline", workload: "views", against: "`node:readline`", limit: { atMost: 1 } },
  { id: "view-split2", workload: "views", against: "split2", limit: { atMost: 1 } },
  { id: "view-hand", workload: "views", against: "hand-written parser", limit: { atMost: 1 } },
  { id: "view-streams", workload: "views", against: "the runtime's streams", limit: { atMost: 1 } },
  { id: "view-callback", workload: "views", against: "the callback form", limit: { atMost: 1.5 } },
  { id: "limits", workload: "every limit and timeout on", against: "without", limit: { atMost: 1.03 } },
  { id: "cold", workload: "natural, the first 20,000 lines", against: HAND, limit: { atMost: 1.3 } },
  { id: "latency", workload: "latency at 70 % of the other's throughput", against: HAND, limit: { atMost: 1.2 } },
  { id: "memory", workload: "memory of each of 10,000 idle connections", against: HAND, limit: { atMost: 1.2 } },
  { id: "churn", workload: "connect, one line, close", against: HAND, limit: { atMost: 1.1 } },
  { id: "size-line-server", workload: "bundle of a line server, gzipped", against: "kB", limit: { atMost: 42 } },
  { id: "import", workload: "import time", against: "ms", limit: { atMost: 10 } },
  {
    id: "connections",
    others: true,
    workload: "many connections, 1 % active, CPU per line",
    against: "the same server with 50",
    limit: { atMost: 1.15 },
  },
  {
    id: "workers",
    others: true,
    workload: "two workers sharing a port",
    against: "one worker, times the throughput",
    limit: { atLeast: 1.8 },
  },
  {
    id: "timers-host",
    others: true,
    workload: "timers",
    against: "the runtime's `setTimeout`, times as fast",
    limits: { node: { atLeast: 5 }, deno: { atLeast: 5 } },
  },
  { id: "timers-c", others: true, workload: "timers", against: "C libevent", limit: { atMost: 2 } },
  {
    id: "loop-c",
    others: true,
    workload: "`bench.c`, `bench_cascade.c`",
    against: "C over socket pairs",
    limit: { below: 1 },
  },
  {
    id: "sim-sync",
    others: true,
    workload: "the simulator: echo of 100 clients by callbacks, `advanceSync()`",
    against: "`advance()` that counted ticks, times the events per CPU",
    limit: { atLeast: 10 },
  },
  {
    id: "sim-promises",
    others: true,
    workload: "the same, `advance()`",
    against: "`advance()` that counted ticks, times the events per CPU",
    limit: { atLeast: 5 },
  },
  {
    id: "sim-connections",
    others: true,
    workload: "the simulator: 100,000 connections exchange a line",
    against: "seconds of CPU",
    limit: { atMost: 10 },
  },
  {
    id: "spread",
    others: true,
    workload: "two workers, ways to spread clients",
    against: "two workers, one inherited socket",
    limits: {},
  },
  { id: "size", others: true, workload: "all of the core and an adapter, gzipped", against: "kB", limits: {} },
];

/**
 * A row of results.
 *
 * @param {string} id A goal's
 * @param {string} runtime
 * @param {{ workload?: string, ratio?: number, spread?: [number, number], skipped?: string, details?: object }} measured
 *   `workload` if the goal has several; `skipped` is the reason why it was not measured
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
 * The goals with the results, a column for each runtime.
 *
 * @param {readonly ReturnType<typeof row>[]} rows
 * @param {(measured: ReturnType<typeof row> | undefined) => string} cell
 * @param {(goal: { id: string, others?: boolean }) => boolean} wanted
 */
function goalsTable(rows, cell, wanted) {
  const lines = [["workload", "against", "goal", ...RUNTIMES]];
  for (const goal of GOALS.filter(wanted)) {
    const own = rows.filter(({ goalId }) => goalId === goal.id);
    const text = goal.limit === undefined
      ? Object.entries(goal.limits).map(([name, limit]) => `${name} ${limitText(limit)}`).join(", ")
      : limitText(goal.limit);
    // One goal may have several rivals, too.
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

function textCell(measured) {
  if (measured === undefined) return "—";
  if (measured.ratio === null) return "skipped";
  const { ratio, spread, met } = measured;
  const between = spread === null ? "" : ` (${number(spread[0])}–${number(spread[1])})`;
  return `${number(ratio)}${between}${met === null ? "" : met ? " met" : " MISSED"}`;
}

/** Green is met, red is missed; without a colour it is shown and not judged. */
function colouredCell(measured) {
  if (measured === undefined) return "—";
  if (measured.ratio === null) return "skipped";
  return `${measured.met === null ? "" : measured.met ? "🟢 " : "🔴 "}${number(measured.ratio)}`;
}

/** @param {number} value */
export function number(value) {
  return value.toFixed(value < 0.1 ? 3 : value < 10 ? 2 : 1);
}

/** The number of rows that meet their goal. @param {readonly ReturnType<typeof row>[]} rows */
export function tally(rows) {
  const judged = rows.filter(({ goalId, met }) => goalId !== undefined && met !== null);
  return { met: judged.filter((each) => each.met).length, judged: judged.length };
}

/** @param {readonly ReturnType<typeof row>[]} rows @param {{ all?: boolean }} [options] All goals, or only those of the rows */
export function goalsText(rows, { all = true } = {}) {
  const { met, judged } = tally(rows);
  return [
    layOut(goalsTable(rows, textCell, ({ id }) => all || rows.some(({ goalId }) => goalId === id))),
    "",
    `ratio (least–most of the rounds); ${met} of ${judged} judged rows are met`,
    ...skips(rows),
  ].join("\n");
}

/**
 * @param {readonly ReturnType<typeof row>[]} rows
 * @param {{ others: boolean }} options The table of servers under load, or the one of the rest
 */
export function goalsMarkdown(rows, { others }) {
  const wanted = (goal) => (goal.others === true) === others;
  const own = rows.filter(({ goalId }) => GOALS.some((goal) => goal.id === goalId && wanted(goal)));
  const notes = skips(own).map((note) => `- ${note}`);
  return [markdown(goalsTable(rows, colouredCell, wanted)), ...(notes.length > 0 ? ["", ...notes] : [])].join("\n");
}

/** Each reason once, with its rows. */
function skips(rows) {
  const reasons = new Map();
  for (const { skipped, runtime, workload } of rows) {
    if (skipped) reasons.set(skipped, [...reasons.get(skipped) ?? [], `${workload} on ${runtime}`]);
  }
  return [...reasons].map(([why, what]) => `skipped (${what.join("; ")}): ${why}`);
}
