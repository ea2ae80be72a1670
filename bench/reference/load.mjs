/**
 * Replaces load.c and churn.c if there is no C compiler. It uses far more CPU, so throughput and
 * latencies depend on it, not on the server. The server's CPU time for a message is still correct.
 *
 *   load.mjs load PORT CONNECTIONS IN_FLIGHT[-MOST] BYTES[-MOST] WARMUP_MS MEASURE_MS|COUNTn PID[,PID] [rot13|echo|frames]
 *   load.mjs churn PORT AT_A_TIME LINE_BYTES WARMUP_MS MEASURE_MS PID[,PID]
 *
 * The CPU time is that of the scheduler (Linux): /proc/PID/stat counts in steps of 10 ms.
 */

import { Buffer } from "node:buffer";
import { readdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";

const TEXT_MAX = 16 << 20;
const [mode, ...words] = process.argv.slice(2);
const churn = mode === "churn";
if (!["load", "churn"].includes(mode) || words.length < (churn ? 6 : 7)) {
  console.error("usage: load.mjs load|churn, and the arguments of load.c or churn.c");
  process.exit(2);
}
const [port, connections, ...more] = words;
const [inFlight, sizes, warmup, limit, pidList, kind = "rot13"] = churn ? ["1", ...more] : more;
const warmupMs = Number(warmup);
const countMax = limit.endsWith("n") ? Number.parseInt(limit, 10) : undefined;
const measureMs = Number.parseInt(limit, 10);
const pids = pidList.split(",");
const [leastInFlight, mostInFlight] = range(inFlight);
const [leastBytes, mostBytes] = range(sizes);

/** Different messages, so that a reply for another one, or another connection, is noticed: see load.h. */
const letters = Buffer.from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,");
const random = randomFrom(12345);
const messages = [];
for (let bytes = 0; messages.length < 1999;) {
  const size = leastBytes === mostBytes ? leastBytes : drawSize();
  bytes += size;
  if (messages.length > 0 && bytes > TEXT_MAX) break;
  messages.push(makeMessage(size));
}
const distinct = messages.length;
for (let i = 0; i < mostInFlight; i++) messages.push(messages[i % distinct]);
const offsets = [0];
for (const message of messages) offsets.push(offsets.at(-1) + message.length);
const text = Buffer.concat(messages);
const expected = Buffer.from(text);
if (kind === "rot13") { for (let i = 0; i < expected.length; i++) expected[i] = rot13(expected[i]); }

const begun = performance.now();
const latencies = [];
let counted = 0;
let from = countMax === undefined ? 0 : begun;
let cpuFrom = countMax === undefined ? 0 : cpuSeconds();

for (let i = 0; i < Number(connections); i++) churn ? short(i) : long(i);

/** A connection that always has a batch in flight. */
function long(number) {
  const draw = randomFrom(number * 7919 + 1);
  let first = number * 17 % distinct;
  let lines = 0;
  let received = 0;
  let sentAt = 0;
  const socket = open(number);
  const send = () => {
    first = leastBytes === mostBytes ? (first + 1) % distinct : draw() % distinct;
    lines = leastInFlight + draw() % (mostInFlight - leastInFlight + 1);
    received = 0;
    sentAt = performance.now();
    socket.write(text.subarray(offsets[first], offsets[first + lines]));
  };
  socket.on("data", (chunk) => {
    received = compare(chunk, first, received, lines);
    if (received < offsets[first + lines] - offsets[first]) return;
    count(
      sentAt,
      leastBytes === mostBytes ? lines : (offsets[first + lines] - offsets[first]) * distinct / offsets[distinct],
    );
    send();
  });
  socket.on("end", () => fail("recv: the server has closed the connection"));
  socket.once("connect", send);
}

/** Connections for a line each, one after the other. */
function short(number) {
  const line = number % distinct;
  const bytes = offsets[line + 1] - offsets[line];
  const beganAt = performance.now();
  let received = 0;
  const socket = open(number);
  socket.write(text.subarray(offsets[line], offsets[line + 1]));
  socket.on("data", (chunk) => {
    received = compare(chunk, line, received, 1);
    if (received === bytes) socket.end();
  });
  socket.on("end", () => {
    if (received < bytes) fail("recv: the server has closed the connection");
  });
  socket.on("close", () => {
    count(beganAt, 1);
    short(number + Number(connections));
  });
}

function open(number) {
  // A port stays in use for a while after its connection, so the connections come from many
  // addresses.
  const localAddress = `127.0.0.${1 + (churn ? number % 200 : 0)}`;
  const socket = connect({ port: Number(port), host: "127.0.0.1", localAddress, noDelay: true, allowHalfOpen: true });
  socket.on("error", ({ message }) => fail(message));
  return socket;
}

function compare(chunk, first, received, lines) {
  const at = offsets[first] + received;
  const until = at + chunk.length;
  if (until > offsets[first + lines] || !expected.subarray(at, until).equals(chunk)) {
    fail("a reply differs from what was expected");
  }
  return received + chunk.length;
}

function count(sentAt, lines) {
  const now = performance.now();
  if (from === 0) {
    if (now - begun < warmupMs) return;
    from = now;
    cpuFrom = cpuSeconds();
    return;
  }
  latencies.push(now - sentAt);
  counted += lines;
  if (countMax === undefined ? now - from < measureMs : counted < countMax) return;
  const cpu = cpuSeconds() - cpuFrom;
  latencies.sort((a, b) => a - b);
  const percentile = (share) => Math.round(latencies[Math.floor((latencies.length - 1) * share)] * 1000);
  const [p50Us, p99Us, p999Us] = [0.5, 0.99, 0.999].map(percentile);
  console.log(
    JSON.stringify({
      messages: Math.round(counted),
      seconds: (now - from) / 1000,
      cpuSeconds: cpu,
      p50Us,
      p99Us,
      p999Us,
    }),
  );
  process.exit(0);
}

function range(words) {
  const [least, most = least] = words.split("-").map(Number);
  return [least, most];
}

function randomFrom(seed) {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 8;
}

/** Each power of two is as likely as every other. */
function drawSize() {
  const octaves = Math.floor(Math.log2(mostBytes / leastBytes)) + 1;
  for (;;) {
    const least = leastBytes * 2 ** (random() % octaves);
    const size = least + random() % least;
    if (size <= mostBytes) return size;
  }
}

function makeMessage(size) {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) bytes[i] = letters[random() % letters.length];
  if (kind === "frames") bytes.writeUInt32BE(size - 4);
  else bytes[size - 1] = 10;
  return bytes;
}

/** User and system, of all threads: the first number of `schedstat` is nanoseconds on a CPU. */
function cpuSeconds() {
  let ns = 0;
  for (const pid of pids) {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]);
    }
  }
  return ns / 1e9;
}

function rot13(c) {
  const letter = c | 32;
  return letter >= 97 && letter <= 122 ? (letter < 110 ? c + 13 : c - 13) : c;
}

function fail(why) {
  console.error(`load: ${why}`);
  process.exit(1);
}
