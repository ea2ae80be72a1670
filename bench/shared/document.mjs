/** Makes the plots, and the tables of `docs/performance.md`, from the files of `bench/results/`. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tests/tools/runtimes.mjs";
import { goalsMarkdown } from "./goals.mjs";
import { plot, plotBars } from "./plot.mjs";
import { RESULTS } from "./results.mjs";
import { markdown } from "./tables.mjs";

const DOCUMENT = join(ROOT, "docs", "performance.md");

/** @param {ReadonlyMap<string, any>} results */
export function writeDocument(results) {
  const rows = [...results.values()].flatMap((each) => each.rows);
  let text = readFileSync(DOCUMENT, "utf8");
  text = between(text, "machine", machine(results));
  text = between(text, "goals", goalsMarkdown(rows));
  text = between(text, "servers", servers(results.get("rot13")));
  text = between(text, "evbuffer", evbuffer(results.get("evbuffer")));
  writeFileSync(DOCUMENT, text);
  plots(results);
}

/** Puts a text between two comments. */
function between(text, name, inner) {
  const [begin, end] = [`<!-- ${name}: made by npm run bench -->`, `<!-- ${name}: end -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`Cannot write docs/performance.md: it has no "${begin}" and "${end}"`);
  return `${text.slice(0, from + begin.length)}\n\n${inner}\n\n${text.slice(to)}`;
}

function machine(results) {
  // Parts may have been measured one by one.
  const lines = new Map();
  for (const [part, { machine: at, versions, commit }] of results) {
    const line =
      `${at.cpu}, ${at.cpus} CPUs, ${at.memoryGiB} GiB, ${at.system}; ${at.pinning}; Node ${versions.node}, ` +
      `Deno ${versions.deno}, Bun ${versions.bun}, libevent ${versions.libevent}; commit ${commit}`;
    lines.set(line, [...lines.get(line) ?? [], part]);
  }
  return [...lines].map(([line, parts]) => `- ${lines.size === 1 ? "" : `${parts.join(", ")}: `}${line}`).join("\n");
}

function servers(rot13) {
  if (rot13 === undefined) return "Not measured.";
  const names = [...new Set(rot13.servers.map(({ name }) => name))];
  const of = (name, inFlight) => rot13.servers.find((each) => each.name === name && each.inFlight === inFlight);
  const cells = (each) => [
    each.cpuUs.toFixed(each.cpuUs < 1 ? 3 : 2),
    Math.round(each.perSecond).toLocaleString("en"),
    each.p50Us.toFixed(0),
    each.p99Us.toFixed(0),
  ];
  return markdown([
    ["server", ...["1", "32"].flatMap((n) => [`${n}: CPU µs/line`, "lines/s", "p50 µs", "p99 µs"])],
    ...names.map((name) => [name, ...[1, 32].flatMap((inFlight) => cells(of(name, inFlight)))]),
  ]);
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
  const write = (name, svg) => writeFileSync(join(RESULTS, name), svg);
  const rot13 = results.get("rot13");
  for (const inFlight of rot13 === undefined ? [] : [1, 32]) {
    const bars = rot13.servers.filter((each) => each.inFlight === inFlight)
      .map(({ name, cpuUs }) => ({ name, value: cpuUs, ours: /readln|eachLine/.test(name) }))
      .toSorted((a, b) => a.value - b.value);
    const title = `ROT13, ${inFlight} line${
      inFlight === 1 ? "" : "s"
    } in flight: CPU µs of the server for a line of 64 B`;
    write(`rot13_${inFlight}.svg`, plotBars(bars, { title }));
  }
  const points = results.get("connections")?.points ?? [];
  const curves = [...new Set(points.map(({ name }) => name))].map((name) => ({
    name,
    points: points.filter((each) => each.name === name).map(({ connections, cpuUs }) => ({ x: connections, y: cpuUs })),
  }));
  if (curves.length > 0) {
    const title = "CPU of the server for a line: 50 connections, all active; 1,000 and 10,000, 1 % active";
    write("connections.svg", plot(curves, { title, below: "connections" }));
  }
  const idle = results.get("loop")?.idle ?? [];
  if (idle.length > 0) {
    write(
      "loop_idle.svg",
      plot(idle, { title: "Time of one event among N idle connections", below: "idle connections" }),
    );
  }
}
