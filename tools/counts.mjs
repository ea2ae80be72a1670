/**
 * Makes counts that do not depend on load: `npm run counts -- ["what changed"]` adds a row to
 * docs/counts.md, and
 * `npm run counts -- --check` fails when a count has grown by more than 3 % since the last row. `--file` names another file.
 *
 * The counts are exact, so a difference is a difference of the code: V8 counts calls, and heap snapshots have the size of each
 * object. They hold for one major version of Node, which the row names.
 */

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { buildDist } from "./build.mjs";
import { bundleSize, LINE_SERVER } from "./bundle_size.mjs";

const ROOT = dirname(import.meta.dirname);
const ALLOWED = 0.03;
const COUNTS = ["calls for a line", "bytes for a connection", "bundle, minified", "bundle, gzipped"];
const [NODE] = process.versions.node.split(".");

const { check: onlyCheck, file, what } = readArguments();
const text = readFileSync(file, "utf8");
const rows = readRows();
const last = rows.at(-1);
const counts = await measure();
print();
if (!onlyCheck) addRow();
else if (!check()) process.exitCode = 1;

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { check: { type: "boolean" }, file: { type: "string", default: join(ROOT, "docs", "counts.md") } },
    });
    return { ...values, what: positionals.join(" ") };
  } catch (error) {
    return fail(`Cannot read the arguments: ${error.message}`);
  }
}

async function measure() {
  await buildDist({ declarations: false });
  const { calls, lines } = child("line.mjs");
  const [ours, bare] = ["trivent", "node"].map((server) => child("idle.mjs", server).bytes);
  const { minified, gzipped } = await bundleSize(`${LINE_SERVER} export * from "./runtimes/node.ts";`);
  return {
    "calls for a line": Math.round(10 * calls / lines) / 10,
    // Every object is a multiple of 8 bytes.
    "bytes for a connection": 8 * Math.round((ours - bare) / 8),
    "bundle, minified": minified,
    "bundle, gzipped": gzipped,
  };
}

/** What a program of the folder `counts` prints. */
function child(program, ...words) {
  const path = join(import.meta.dirname, "counts", program);
  return JSON.parse(execFileSync(process.execPath, ["--expose-gc", path, ...words], { encoding: "utf8" }));
}

function print() {
  for (const name of COUNTS) {
    const before = last?.[name];
    console.log(
      `${name.padEnd(24)} ${String(counts[name]).padStart(8)}${before === undefined ? "" : ` (was ${before})`}`,
    );
  }
}

function check() {
  if (last === undefined) fail("docs/counts.md has no row: run npm run counts");
  if (last.Node !== NODE) {
    fail(`Cannot compare: the last row of docs/counts.md was made on Node ${last.Node}, this is ${NODE}`);
  }
  const grown = COUNTS.filter((name) => counts[name] > last[name] * (1 + ALLOWED));
  for (const name of grown) {
    const percent = (100 * (counts[name] / last[name] - 1)).toFixed(1);
    console.error(
      `${name} grew by ${percent} %, from ${last[name]} to ${counts[name]}. If it is worth that, say why: ` +
        `npm run counts -- "the reason", and commit docs/counts.md.`,
    );
  }
  return grown.length === 0;
}

function addRow() {
  if (last?.Node === NODE && COUNTS.every((name) => last[name] === counts[name])) {
    return console.log("The last row has these counts already");
  }
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const date = new Date().toISOString().slice(0, 10);
  rows.push({ date, version, Node: NODE, ...counts, "what changed": what.replaceAll("|", "/") });
  writeFileSync(file, text.replace(/^\|[^]*\|$/m, table()));
  console.log("Added a row");
}

function readRows() {
  const [head, , ...lines] = text.split("\n").filter((line) => line.startsWith("|")).map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim())
  );
  return lines.map((cells) =>
    Object.fromEntries(cells.map((cell, i) => [head[i], COUNTS.includes(head[i]) ? Number(cell) : cell]))
  );
}

function table() {
  const names = ["date", "version", "Node", ...COUNTS, "what changed"];
  const cells = [names, ...rows.map((row) => names.map((name) => String(row[name])))];
  const widths = names.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  const lines = cells.map((line) => `| ${line.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`);
  lines.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`);
  return lines.join("\n");
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
