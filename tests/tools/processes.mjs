/**
 * Children in their own process groups: the processes that a child starts end with it, and no other process is ever killed.
 */

import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** The time that a program may take to stop: a busy machine is slow. */
const STOP_MS = 30_000;
/** The time that processes left by a child may take to end by themselves. */
const LEAVE_MS = 3000;
/** The time to wait for the last output of a child. Another process may hold the pipe open. */
const FLUSH_MS = 5000;
/** The number of bytes of a child's output that are kept. */
const MAX_OUTPUT_BYTES = 8 << 20;

/** The living groups, by the id of their leader. */
const groups = new Set();
let ending = false;

/**
 * Runs a command to its end, or until the timeout.
 *
 * @param {string} file
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: Record<string, string | undefined>, timeoutMs: number, maxOutputBytes?: number }} options
 * @returns {Promise<{ code: number | null, signal: string | null, output: string, timedOut: boolean, leftBehind: string[], ms: number }>}
 *   `output` is standard output and error in the order of arrival; `leftBehind` names processes that outlived the
 *   child, which are ended too
 */
export function run(file, args, { cwd, env, timeoutMs, maxOutputBytes = MAX_OUTPUT_BYTES }) {
  return new Promise((resolve) => {
    const started = performance.now();
    const child = spawn(file, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    const chunks = [];
    let size = 0;
    let timedOut = false;
    const take = (chunk) => {
      if (size < maxOutputBytes) chunks.push(chunk);
      size += chunk.length;
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    if (child.pid !== undefined) groups.add(child.pid);
    const timer = setTimeout(() => {
      timedOut = true;
      endGroup(child.pid, "SIGTERM");
      setTimeout(() => endGroup(child.pid, "SIGKILL"), 2000).unref();
    }, timeoutMs);
    const result = { code: null, signal: null, leftBehind: [] };
    let closed = false;
    let finished = false;
    const finish = () => {
      if (finished) return;
      finished = true;
      clearTimeout(timer);
      const cut = size > maxOutputBytes ? `\n(${size - maxOutputBytes} more bytes of output are not shown)\n` : "";
      const output = Buffer.concat(chunks).subarray(0, maxOutputBytes).toString() + cut;
      resolve({ ...result, output, timedOut, ms: performance.now() - started });
    };
    child.on("error", (error) => {
      take(Buffer.from(`${error.message}\n`));
      finish();
    });
    child.on("exit", (code, signal) => {
      result.code = code;
      result.signal = signal;
      // Children that are just ending get some time. Remaining ones are a leak, and may hold the
      // pipes open.
      const exited = performance.now();
      const look = () => {
        result.leftBehind = members(child.pid);
        if (result.leftBehind.length > 0 && performance.now() - exited < LEAVE_MS) return void setTimeout(look, 100);
        endGroup(child.pid, "SIGKILL");
        groups.delete(child.pid);
        if (closed) finish();
        else setTimeout(finish, FLUSH_MS).unref();
      };
      look();
    });
    child.on("close", () => {
      closed = true;
      if (!groups.has(child.pid)) finish();
    });
  });
}

/**
 * Starts a program that keeps running, and waits until its output matches.
 *
 * @param {string} file
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: Record<string, string | undefined>, ready: RegExp, timeoutMs?: number }} options
 * @returns {Promise<{ match: RegExpExecArray, pid: number, output(): string, stop(signal?: string): Promise<string | null> }>}
 *   `stop` sends SIGTERM. It resolves with null if the exit code was 0, otherwise with what went wrong
 */
export async function start(file, args, { cwd, env, ready, timeoutMs = 60_000 }) {
  const child = spawn(file, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  if (child.pid !== undefined) groups.add(child.pid);
  let output = "";
  let found = null;
  let failure;
  const ended = new Promise((resolve) => {
    child.on("error", (error) => resolve(`could not be started: ${error.message}`));
    child.on("exit", (code, signal) => {
      endGroup(child.pid, "SIGKILL");
      groups.delete(child.pid);
      const how = code === 0 ? null : `ended with ${signal ?? `exit code ${code}`}`;
      // Its last output may still be on its way.
      child.on("close", () => resolve(how));
      setTimeout(() => resolve(how), FLUSH_MS).unref();
    });
  });
  const match = await new Promise((resolve) => {
    const timer = setTimeout(() => {
      failure = `printed nothing that matches ${ready} within ${timeoutMs / 1000} s`;
      resolve(null);
    }, timeoutMs);
    const take = (chunk) => {
      if (output.length < MAX_OUTPUT_BYTES) output += chunk;
      found ??= ready.exec(output);
      if (found === null) return;
      clearTimeout(timer);
      resolve(found);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    ended.then((how) => {
      clearTimeout(timer);
      failure ??= how ?? "ended with exit code 0";
      resolve(null);
    });
  });
  if (match === null) {
    endGroup(child.pid, "SIGKILL");
    throw new Error(`${[file, ...args].join(" ")} ${failure}\n${output}`.trimEnd());
  }
  const stop = async (signal = "SIGTERM") => {
    endGroup(child.pid, signal);
    const timer = setTimeout(() => endGroup(child.pid, "SIGKILL"), STOP_MS);
    const how = await ended;
    clearTimeout(timer);
    return how === null ? null : `${how}\n${output}`.trimEnd();
  };
  return { match, pid: child.pid, output: () => output, stop };
}

/** Ends every living group. */
export function endAll() {
  for (const pid of groups) endGroup(pid, "SIGKILL");
  groups.clear();
}

/** Ends the children when this process ends by Ctrl-C, a signal or an exception. */
export function endAllOnExit() {
  process.on("exit", endAll);
  for (const [name, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]]) {
    process.on(name, () => {
      if (ending) return;
      ending = true;
      process.exit(code);
    });
  }
}

function endGroup(pid, signal) {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The group has ended.
  }
}

/** The command lines of the processes of a group, if the machine has `/proc`. */
function members(group) {
  if (process.platform !== "linux" || group === undefined) return [];
  const found = [];
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      // "pid (name) state ppid pgrp …": the name may hold anything, so look after its last parenthesis.
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const [state, , pgrp] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(pgrp) !== group || state === "Z" || state === "X") continue;
      found.push(readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim());
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}
