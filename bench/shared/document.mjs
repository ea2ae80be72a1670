/** Makes the plots, and the tables of `docs/performance.md`, from the files of `bench/results/`. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, RUNTIMES } from "../../tests/tools/runtimes.mjs";
import { CAUSES } from "./causes.mjs";
import { GOALS, goalsMarkdown, HAND, number, tally } from "./goals.mjs";
import { plot, plotBars, plotRatios } from "./plot.mjs";
import { RESULTS } from "./results.mjs";
import { markdown } from "./tables.mjs";

const NAMES = { node: "Node", deno: "Deno", bun: "Bun" };
/** The goals whose ratios are in the plot. */
const PLOTTED = [
  "natural",
  "natural-700",
  "natural-many",
  "natural-large",
  "natural-mixed",
  "each-line",
  "echo",
  "proxy",
  "fanout",
  "tls",
  "view-readline",
  "view-split2",
  "view-hand",
  "view-streams",
  "limits",
  "cold",
  "latency",
  "memory",
  "churn",
];
const DOCUMENT = join(ROOT, "docs", "performance.md");

/** Writes the document and the plots. @param {ReadonlyMap<string, any>} results */
export function writeDocument(results) {
  writeFileSync(DOCUMENT, makeDocument(results));
  for (const [name, svg] of plots(results)) writeFileSync(join(RESULTS, name), svg);
}

/**
 * The files that do not match the results. @param {ReadonlyMap<string, any>} results @returns
 * {string[]}
 */
export function staleFiles(results) {
  const files = [[DOCUMENT, makeDocument(results)], ...plots(results).map(([name, svg]) => [join(RESULTS, name), svg])];
  return files.filter(([path, text]) => !existsSync(path) || readFileSync(path, "utf8") !== text).map(([path]) => path);
}

function makeDocument(results) {
  const rows = [...results.values()].flatMap((each) => each.rows);
  const parts = {
    summary: summary(rows),
    goals: goalsMarkdown(rows, { others: false }),
    causes: causes(rows, false),
    others: goalsMarkdown(rows, { others: true }),
    "other-causes": causes(rows, true),
    evbuffer: evbuffer(results.get("evbuffer")),
    machine: machine(results),
  };
  return Object.entries(parts).reduce(
    (text, [name, inner]) => between(text, name, inner),
    readFileSync(DOCUMENT, "utf8"),
  );
}

/** Puts a text between two comments. */
function between(text, name, inner) {
  const [begin, end] = [`<!-- ${name}: made by npm run bench -->`, `<!-- ${name}: end -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`Cannot write docs/performance.md: it has no "${begin}" and "${end}"`);
  return `${text.slice(0, from + begin.length)}\n\n${inner}\n\n${text.slice(to)}`;
}

function machine(results) {
  // Parts may have been measured separately.
  const lines = new Map();
  for (const [part, { machine: at, versions, commit }] of results) {
    const line =
      `${at.cpu}, ${at.cpus} CPUs, ${at.memoryGiB} GiB, ${at.system}; ${at.pinning}; Node ${versions.node}, ` +
      `Deno ${versions.deno}, Bun ${versions.bun}, libevent ${versions.libevent}; commit ${commit}`;
    lines.set(line, [...lines.get(line) ?? [], part]);
  }
  return [...lines].map(([line, parts]) => `- ${lines.size === 1 ? "" : `${parts.join(", ")}: `}${line}`).join("\n");
}

function summary(rows) {
  const own = rows.filter(({ goalId }) => GOALS.some(({ id, others }) => id === goalId && others !== true));
  const { met, judged } = tally(own);
  const natural = own.filter(({ goalId, ratio }) => /^(natural|each-line)/.test(goalId) && ratio !== null);
  const highest = RUNTIMES.map((name) => {
    const ratios = natural.filter(({ runtime, goalId }) => runtime === name && goalId !== "natural-c");
    return ratios.length === 0 ? "" : `${number(Math.max(...ratios.map(({ ratio }) => ratio)))} on ${NAMES[name]}`;
  }).filter((each) => each !== "");
  return `${met} of ${judged} goals are met (${
    Math.round(100 * met / judged)
  } %). The largest ratio of code that people ` +
    `write to code by hand is ${highest.join(", ")}.`;
}

/** A paragraph for each goal that is missed on some runtime. */
function causes(rows, others) {
  const paragraphs = [];
  for (const goal of GOALS.filter((each) => (each.others === true) === others)) {
    const missed = rows.filter(({ goalId, met }) => goalId === goal.id && met === false);
    const runtimes = RUNTIMES.filter((name) => missed.some(({ runtime }) => runtime === name));
    if (runtimes.length === 0) continue;
    const cause = CAUSES[goal.id];
    if (cause === undefined) throw new Error(`Cannot write docs/performance.md: CAUSES has nothing about ${goal.id}`);
    const texts = [cause.all, ...runtimes.map((name) => cause[name])].filter((each) => each !== undefined);
    const where = runtimes.map((name) => NAMES[name]).join(", ");
    paragraphs.push(`**${cause.title}** (${where}). ${texts.join(" ")}`);
  }
  return paragraphs.length === 0 ? "None." : paragraphs.map(filled).join("\n\n");
}

/** Lines of at most 140 letters, as `deno fmt` leaves them. */
function filled(text) {
  const lines = [];
  let line = "";
  // A link is not broken.
  for (const word of text.match(/(?:\[[^\]]*\]\([^)]*\)|\S)+/g)) {
    if (line !== "" && line.length + 1 + word.length > 140) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].join("\n");
}

function evbuffer(result) {
  if (result === undefined) return "Not measured.";
  const works = [...new Map(result.rows.map((row) => [`${row.workload} / ${row.against}`, row])).values()];
  const runtimes = [...new Set(result.rows.map(({ runtime }) => runtime))];
  const cell = (work, runtime) => {
    const row = result.rows.find((each) =>
      each.workload === work.workload && each.against === work.against && each.runtime === runtime
    );
    return `${row.ratio.toFixed(2)}${row.met === null ? "" : row.met ? " met" : " **missed**"}`;
  };
  return markdown([
    ["work", "against", "goal", ...runtimes],
    ...works.map((work) => [work.workload, work.against, work.goal, ...runtimes.map((name) => cell(work, name))]),
  ]);
}

function plots(results) {
  const made = [];
  const write = (name, svg) => made.push([name, svg]);
  const servers = results.get("natural")?.servers ?? [];
  for (
    const [name, label] of [["natural_1", "1 × 64 B"], ["natural_32", "32 × 64 B"], ["natural_12k", "1 × 12,000 B"]]
  ) {
    const bars = servers.filter((each) => each.label.startsWith(label))
      .map(({ name, cpuUs }) => ({ name, value: cpuUs, ours: /natural|eachLine/.test(name) }))
      .toSorted((a, b) => a.value - b.value);
    if (bars.length > 0) {
      write(
        `${name}.svg`,
        plotBars(bars, { title: `ROT13, ${label}: CPU µs of the server for a line` }),
      );
    }
  }
  const lines = [...results.values()].flatMap((each) => each.rows)
    .filter(({ goalId, ratio }) => ratio !== null && PLOTTED.includes(goalId));
  const workloads = [...new Map(lines.map((each) => [`${each.workload}, ${each.against}`, each])).values()];
  const ratios = workloads.map(({ workload, against }) => {
    const own = lines.filter((each) => each.workload === workload && each.against === against);
    const goal = GOALS.find(({ id }) => id === own[0].goalId);
    return {
      name: against === HAND ? workload : `${workload} / ${against}`,
      limit: goal.limit.atMost,
      values: RUNTIMES.map((name) => own.find(({ runtime }) => runtime === name)?.ratio),
    };
  });
  if (ratios.length > 0) write("ratios.svg", plotRatios(ratios, { title: "CPU of the server, ours by the other's" }));
  const points = results.get("connections")?.points ?? [];
  const curves = [...new Set(points.map(({ name }) => name))].map((name) => ({
    name,
    points: points.filter((each) => each.name === name).map(({ connections, cpuUs }) => ({ x: connections, y: cpuUs })),
  }));
  if (curves.length > 0) {
    const title = "CPU of the server for a line: 50 connections, all active; 1,000 and 10,000, 1 % active";
    write("connections.svg", plot(curves, { title, below: "connections" }));
  }
  return made;
}
