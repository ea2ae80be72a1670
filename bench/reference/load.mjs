/**
 * What load.c and churn.c do, where there is no C compiler: it takes far more CPU than they do, so that throughput and
 * latencies tell about it, not about the server; the server's CPU time of a message is still the server's.
 *
 *   load.mjs load PORT CONNECTIONS LINES_IN_FLIGHT LINE_BYTES WARMUP_MS MEASURE_MS PID[,PID] [rot13|echo]
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
const [inFlight, bytes, warmupMs, measureMs] = (churn ? ["1", ...more] : more).map(Number);
const pids = (churn ? more[3] : more[4]).split(",");
const echo = !churn && more[5] === "echo";
const distinct = Math.min(997, Math.floor(TEXT_MAX / bytes));
const batch = bytes * inFlight;

/** Different lines, so that a reply for another line, or another connection, is noticed. */
const text = Buffer.alloc((distinct + inFlight) * bytes);
const expected = Buffer.alloc(text.length);
const letters = Buffer.from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,");
let state = 12345;
for (let i = 0; i < text.length; i++) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  const again = i >= distinct * bytes;
  text[i] = again
    ? text[i - distinct * bytes]
    : i % bytes === bytes - 1
    ? 10
    : letters[(state >>> 16) % letters.length];
  expected[i] = echo ? text[i] : rot13(text[i]);
}

const begun = performance.now();
const latencies = [];
let from = 0;
let cpuFrom = 0;

for (let i = 0; i < Number(connections); i++) churn ? short(i) : long(i);

/** A connection that always has a batch in flight. */
function long(number) {
  let line = number * 17 % distinct;
  let received = 0;
  let sentAt = 0;
  const socket = open(number);
  const send = () => {
    line = (line + 1) % distinct;
    received = 0;
    sentAt = performance.now();
    socket.write(text.subarray(line * bytes, line * bytes + batch));
  };
  socket.on("data", (chunk) => {
    received = compare(chunk, line, received, batch);
    if (received < batch) return;
    count(sentAt);
    send();
  });
  socket.on("end", () => fail("recv: the server has closed the connection"));
  socket.once("connect", send);
}

/** Connections for a line each, one after the other. */
function short(number) {
  const line = number % distinct;
  const beganAt = performance.now();
  let received = 0;
  const socket = open(number);
  socket.write(text.subarray(line * bytes, line * bytes + bytes));
  socket.on("data", (chunk) => {
    received = compare(chunk, line, received, bytes);
    if (received === bytes) socket.end();
  });
  socket.on("end", () => {
    if (received < bytes) fail("recv: the server has closed the connection");
  });
  socket.on("close", () => {
    count(beganAt);
    short(number + Number(connections));
  });
}

function open(number) {
  // A port is not free for a while after its connection, so they come from many addresses.
  const localAddress = `127.0.0.${1 + (churn ? number % 200 : 0)}`;
  const socket = connect({ port: Number(port), host: "127.0.0.1", localAddress, noDelay: true, allowHalfOpen: true });
  socket.on("error", ({ message }) => fail(message));
  return socket;
}

function compare(chunk, line, received, length) {
  const at = line * bytes + received;
  if (received + chunk.length > length || !expected.subarray(at, at + chunk.length).equals(chunk)) {
    fail("a reply differs from what was expected");
  }
  return received + chunk.length;
}

function count(sentAt) {
  const now = performance.now();
  if (from === 0) {
    if (now - begun < warmupMs) return;
    from = now;
    cpuFrom = cpuSeconds();
    return;
  }
  latencies.push(now - sentAt);
  if (now - from < measureMs) return;
  const cpu = cpuSeconds() - cpuFrom;
  latencies.sort((a, b) => a - b);
  const percentile = (share) => Math.round(latencies[Math.floor((latencies.length - 1) * share)] * 1000);
  const messages = latencies.length * inFlight;
  const seconds = (now - from) / 1000;
  console.log(JSON.stringify({ messages, seconds, cpuSeconds: cpu, p50Us: percentile(0.5), p99Us: percentile(0.99) }));
  process.exit(0);
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
