/**
 * Runs a measured process alone on a CPU and with the highest priority there, as far as the machine
 * allows. Then other work of a shared machine does not affect the numbers.
 */

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";

// Not a real-time class (chrt): on one CPU it keeps a runtime's compiler threads from ever running beside the main
// thread, and hot code stays in the interpreter, ten times as slow.
const PRIORITY = ["nice", "-n", "-15"];
const canPin = cpus().length > 1 && works("taskset", ["-c", "0", "true"]);
const canPreempt = works(PRIORITY[0], [...PRIORITY.slice(1), "true"]);
const AUTOGROUP = "/proc/self/autogroup";
/**
 * Where Linux makes a group of each session, a niceness counts only inside it, and a test that runs in another terminal
 * takes half of the CPU from what is measured: so the group of the program that is started gets the priority too.
 */
const FIRST_GROUP = canPreempt && hasAutogroups()
  ? ["sh", "-c", `echo ${PRIORITY[2]} > ${AUTOGROUP}; exec "$@"`, "sh"]
  : [];

/**
 * The command that runs another one on a CPU.
 *
 * @param {number} cpu
 * @param {readonly string[]} command
 * @returns {string[]} It becomes the program itself, so that its process id is the program's
 */
export function pinned(cpu, command) {
  return [
    ...FIRST_GROUP,
    ...(canPin ? ["taskset", "-c", String(cpu)] : []),
    ...(canPreempt ? PRIORITY : []),
    ...command,
  ];
}

/** A description of the effect of `pinned()` here. */
export function pinning() {
  const where = canPin ? "pinned to a CPU" : "not pinned (no second CPU, or no taskset)";
  return `${where}, ${canPreempt ? "high priority" : "normal priority (a higher one is not allowed)"}`;
}

/**
 * Whether there are such groups, and ours may be changed. A process without its own session changes
 * ours.
 */
function hasAutogroups() {
  try {
    if (readFileSync("/proc/sys/kernel/sched_autogroup_enabled", "utf8").trim() !== "1") return false;
    const before = /nice (-?\d+)/.exec(readFileSync(AUTOGROUP, "utf8"))?.[1] ?? "0";
    writeFileSync(AUTOGROUP, PRIORITY[2]);
    process.on("exit", () => writeFileSync(AUTOGROUP, before));
    return true;
  } catch {
    return false;
  }
}

function works(file, args) {
  // `nice` goes on without a priority that it may not set, and reports it.
  const { status, stderr } = spawnSync(file, args, { encoding: "utf8" });
  return status === 0 && stderr === "";
}
