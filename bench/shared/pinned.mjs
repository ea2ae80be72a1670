/**
 * Where a measured process runs: alone on a CPU and ahead of everything else there, as far as the machine allows. What
 * else a shared machine does is then not in the numbers.
 */

import { spawnSync } from "node:child_process";
import { cpus } from "node:os";

// Not a real-time class (chrt): on one CPU it keeps a runtime's compiler threads from ever running beside the main
// thread, and hot code stays in the interpreter, ten times as slow.
const PRIORITY = ["nice", "-n", "-15"];
const canPin = cpus().length > 1 && works("taskset", ["-c", "0", "true"]);
const canPreempt = works(PRIORITY[0], [...PRIORITY.slice(1), "true"]);

/**
 * The command that runs another one on a CPU.
 *
 * @param {number} cpu
 * @param {readonly string[]} command
 * @returns {string[]} It becomes the program itself, so that its process id is the program's
 */
export function pinned(cpu, command) {
  return [...(canPin ? ["taskset", "-c", String(cpu)] : []), ...(canPreempt ? PRIORITY : []), ...command];
}

/** What `pinned()` does here, in words. */
export function pinning() {
  const where = canPin ? "pinned to a CPU" : "not pinned (no second CPU, or no taskset)";
  return `${where}, ${canPreempt ? "high priority" : "normal priority (a higher one is not allowed)"}`;
}

function works(file, args) {
  // `nice` goes on without the priority that it may not give, and says so.
  const { status, stderr } = spawnSync(file, args, { encoding: "utf8" });
  return status === 0 && stderr === "";
}
