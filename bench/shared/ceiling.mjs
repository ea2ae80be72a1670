/**
 * The gain of the machine's second CPU: two CPUs may be the halves of one core, or shared with
 * other machines.
 */

import { spawn } from "node:child_process";
import { pinned } from "./pinned.mjs";

/** Counts from one instant to another, in the first-level cache. */
const SPIN = `
  const [begin, end] = process.argv.slice(1).map(Number);
  const bytes = new Uint8Array(64);
  let n = 0;
  while (Date.now() < begin);
  while (Date.now() < end) {
    for (let i = 0; i < 10_000; i++) bytes[i & 63] = bytes[(i + 1) & 63] ^ i;
    n++;
  }
  console.log(n);
`;

/**
 * Measures how many times as much work two independent programs do on two CPUs as one does on one.
 *
 * @param {readonly number[]} where The two CPUs
 * @returns {Promise<number>}
 */
export async function ceiling([first = 0, second = 1]) {
  const [one = 0] = await spin([first]);
  const both = await spin([first, second]);
  return both.reduce((sum, each) => sum + each, 0) / one;
}

function spin(where) {
  // Time enough to start both, and then for the compiler.
  const begin = Date.now() + 200;
  return Promise.all(where.map((cpu) => count(cpu, begin, begin + 300)));
}

function count(cpu, begin, end) {
  const [file, ...args] = pinned(cpu, [process.execPath, "-e", SPIN, String(begin), String(end)]);
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on(
      "close",
      (code) => code === 0 ? resolve(Number(output)) : reject(new Error(`spinning ended with ${code}`)),
    );
  });
}
