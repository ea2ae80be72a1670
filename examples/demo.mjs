/**
 * The demos. `npm run demo -- cluster` starts three chat gateways, HAProxy and three brokers of NATS, and ends some of them while
 * clients talk: see docs/scaling.md.
 *
 * `npm run demo`: one server file, `rot13_bufferevent.ts`, serves the same clients on Node, Deno and Bun.
 *
 * Each client sends its own text in pieces of random size and half-closes; every reply is compared, byte by byte,
 * with the output of `tr`. Exit code 1 on any difference, and no server is left behind. `SEED=n` repeats a run.
 */

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { buildExamples } from "../tests/tools/bundles.mjs";
import { endAllOnExit, start } from "../tests/tools/processes.mjs";
import { exampleCommand, findRuntime, plainEnvironment, ROOT, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { buildDist } from "../tools/build.mjs";

const PROGRAM = "rot13_bufferevent";
const CONNECTIONS = 8;
const TEXT_BYTES = 400_000;
/** Below the server's limit of 16,384 bytes: longer lines are cut. */
const LONGEST_LINE = 16_383;
const TIMEOUT_MS = 60_000;

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32) >>> 0;
const random = mulberry32(seed);

endAllOnExit();
try {
  const [which, ...more] = process.argv.slice(2);
  if (which !== undefined && (which !== "cluster" || more.length > 0)) {
    console.error(`Cannot show "${process.argv.slice(2).join(" ")}": npm run demo, or npm run demo -- cluster`);
    process.exitCode = 2;
  } else process.exitCode = which === "cluster" ? await cluster() : await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

async function main() {
  await Promise.all([buildDist({ declarations: false }), buildExamples([PROGRAM])]);
  const clients = makeClients();
  const rows = [];
  for (const name of RUNTIMES) rows.push(await serveOn(name, clients));
  printTable(rows);
  const different = rows.filter((row) => row.identical !== CONNECTIONS || row.problem !== undefined);
  for (const { runtime, problem } of different) console.error(`\n${runtime}: ${problem ?? "replies differ"}`);
  const bytes = clients.reduce((sum, { expected }) => sum + expected.length, 0);
  if (different.length === 0) {
    console.log(
      `\nAll ${CONNECTIONS * RUNTIMES.length} replies (${bytes} bytes on each runtime) are what tr makes of them.`,
    );
  } else {
    console.error(`\nRun again with SEED=${seed} for the same texts and pieces.`);
  }
  return different.length === 0 ? 0 : 1;
}

/** 1,500 clients in 50 rooms. Each message arrives once and in order; those of the phases without a failure all arrive. */
async function cluster() {
  await Promise.all([buildDist({ declarations: false }), buildExamples(["gateway"])]);
  // It imports the library by its name, so it must be built.
  const { runCluster } = await import("../tests/tools/cluster.mjs");
  const phases = await runCluster({ clients: 1500, rooms: 50, messages: 10, rate: 500, print: console.log });
  const wrong = phases.filter(({ exact, expected, received, doubled, unordered }) =>
    doubled > 0 || unordered > 0 || (exact && received < expected)
  );
  for (const { name } of wrong) console.error(`Wrong: ${name}`);
  return wrong.length === 0 ? 0 : 1;
}

/** @returns {{ pieces: Buffer[], lines: number, expected: Buffer }[]} */
function makeClients() {
  const lines = makeLines();
  return Array.from({ length: CONNECTIONS }, () => {
    // Each connection has its own order of lines, so that bytes of another reply are detected.
    const at = Math.floor(random() * lines.length);
    const own = [...lines.slice(at), ...lines.slice(0, at)];
    const text = Buffer.concat(own);
    return { pieces: cut(text), lines: own.length, expected: translate(text) };
  });
}

/** Prose and source of this repository, with difficult lines in between. Each ends with a newline. */
function makeLines() {
  const tricky = [
    "",
    "\r",
    "\r\r",
    "a\0b",
    "Zażółć gęślą jaźń — naïve café, ﬁve ʀᴏᴛ 13, 日本語 und Ελληνικά 🚂",
    "CRLF at the end\r",
    "CR \r in the middle",
    ...[1, 63, 64, 4095, 4096, 4097, 8191, 8192, LONGEST_LINE - 1, LONGEST_LINE].map((length) =>
      "The quick brown fox jumps over the lazy dog. ".repeat(400).slice(0, length)
    ),
  ].map((line) => Buffer.from(`${line}\n`));
  tricky.push(Buffer.from([...Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => byte !== 10), 10]));

  const lines = [];
  let bytes = 0;
  const prose = texts().flatMap((text) => text.split("\n")).map((line) => Buffer.from(`${line}\n`));
  for (let i = 0; bytes < TEXT_BYTES; i++) {
    const line = random() < 0.01 ? tricky[Math.floor(random() * tricky.length)] : prose[i % prose.length];
    if (line.length > LONGEST_LINE + 1) continue;
    lines.push(line);
    bytes += line.length;
  }
  return [...lines, ...tricky];
}

function texts() {
  const folders = [".", "docs", "core", "runtimes", "examples", "tests"];
  const paths = folders.flatMap((folder) => {
    if (!existsSync(join(ROOT, folder))) return [];
    const names = readdirSync(join(ROOT, folder), { recursive: folder !== "." });
    return names.filter((name) => /\.(md|ts|mjs)$/.test(name)).sort().map((name) => join(ROOT, folder, name));
  });
  return paths.map((path) => readFileSync(path, "utf8"));
}

/** Pieces from one byte to 64 KiB, the small ones as likely as the large ones. */
function cut(text) {
  const pieces = [];
  for (let at = 0; at < text.length;) {
    const size = Math.ceil(2 ** (random() * 16));
    pieces.push(text.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

/** The independent ROT13. */
function translate(text) {
  const { status, stdout, error } = spawnSync("tr", ["A-Za-z", "N-ZA-Mn-za-m"], {
    input: text,
    env: { ...process.env, LC_ALL: "C" },
    maxBuffer: text.length * 2,
  });
  if (status !== 0) throw new Error(`Cannot compare: tr failed: ${error?.message ?? `exit code ${status}`}`);
  return stdout;
}

async function serveOn(name, clients) {
  const runtime = `${name} ${findRuntime(name).version}`;
  const lines = clients.reduce((sum, client) => sum + client.lines, 0);
  const bytes = clients.reduce((sum, client) => sum + client.expected.length, 0);
  const row = { runtime, connections: CONNECTIONS, lines, bytes, identical: 0, linesPerSecond: 0, problem: undefined };
  let server;
  try {
    const { file, args } = exampleCommand(name, PROGRAM, ["0"]);
    const ready = /^listening on (\S+):(\d+)$/m;
    server = await start(file, args, { cwd: ROOT, env: plainEnvironment(), ready });
    const [, hostname, port] = server.match;
    const started = performance.now();
    const replies = await Promise.all(clients.map(({ pieces }) => exchange(hostname, Number(port), pieces)));
    row.linesPerSecond = lines / ((performance.now() - started) / 1000);
    replies.forEach((reply, i) => {
      const { expected } = clients[i];
      if (reply.equals(expected)) row.identical++;
      else row.problem ??= difference(i, reply, expected);
    });
  } catch (error) {
    row.problem = error.message;
  }
  const how = await server?.stop();
  if (typeof how === "string") row.problem ??= `the server ${how}`;
  return row;
}

/** Sends the pieces, half-closes, and returns all bytes until the end of the stream. */
function exchange(host, port, pieces) {
  return new Promise((resolve, reject) => {
    const reply = [];
    const socket = connect({ host, port, noDelay: true, allowHalfOpen: true });
    const timer = setTimeout(
      () => socket.destroy(new Error(`no end of the reply in ${TIMEOUT_MS / 1000} s`)),
      TIMEOUT_MS,
    );
    socket.on("data", (chunk) => reply.push(chunk));
    socket.on("end", () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(Buffer.concat(reply));
    });
    socket.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    let next = 0;
    const send = () => {
      if (socket.destroyed) return;
      if (next === pieces.length) return void socket.end();
      // A turn of the loop between pieces, so that they leave as pieces, and not faster than the server reads.
      if (socket.write(pieces[next++])) setImmediate(send);
      else socket.once("drain", send);
    };
    socket.on("connect", send);
  });
}

function difference(connection, reply, expected) {
  let at = 0;
  while (at < reply.length && at < expected.length && reply[at] === expected[at]) at++;
  const show = (bytes) => JSON.stringify(bytes.subarray(at, at + 40).toString("latin1"));
  return `connection ${connection} got ${reply.length} bytes for ${expected.length}; ` +
    `from byte ${at} on: ${show(reply)} for ${show(expected)}`;
}

function printTable(rows) {
  const number = new Intl.NumberFormat("en");
  const cells = [
    ["runtime", "connections", "lines", "bytes", "replies identical", "lines per second"],
    ...rows.map((row) => [
      row.runtime,
      String(row.connections),
      number.format(row.lines),
      number.format(row.bytes),
      `${row.identical} of ${row.connections}`,
      number.format(Math.round(row.linesPerSecond)),
    ]),
  ];
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const line = (row) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ").trimEnd();
  console.log(line(cells[0]));
  console.log(widths.map((width) => "-".repeat(width)).join("  "));
  for (const row of cells.slice(1)) console.log(line(row));
}

function mulberry32(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
