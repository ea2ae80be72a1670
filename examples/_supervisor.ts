/**
 * A supervisor of processes that share a port: it restarts them, replaces them by a new version, and has the figures
 * of all.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { EventBase, type Server, stopOnSignals } from "trivent";
import { announce } from "./_common.ts";
import { serveMetrics } from "./_metrics.ts";

const { process } = globalThis;
/** A worker has this in its environment: the port that it shares, or nothing for an inherited socket. */
export const WORKER = "WORKERS_PORT";
/** The first descriptor that is inherited. */
export const FIRST_FD = 3;
/** A worker that dies is started again after this time, doubled each time up to a second if it does not live for a second. */
const AGAIN_MS = 50;
const LONGEST_AGAIN_MS = 1000;
/** A worker that does not listen within this time is ended. */
const START_MS = 60_000;

/** Messages of a worker on its standard output, one line each. */
export interface Word {
  /** It listens on this port. */
  port?: number;
  /** Its figures, on request. */
  metrics?: string;
}

/** Starts this program again. */
export function start(
  args: string[],
  env: { [name: string]: string },
  stdio: ("inherit" | "pipe" | number)[],
): ChildProcess {
  const options = "Deno" in globalThis
    ? ["run", "--quiet", "--no-check", "--allow-all", "--unstable-net"]
    : process.execArgv;
  const own: { [name: string]: string | undefined } = { ...process.env, ...env };
  delete own.LISTEN_PID;
  return spawn(process.execPath, [...options, process.argv[1] as string, ...args], { stdio, env: own });
}

/** Keeps the workers running. */
export class Supervisor {
  /** The port that workers share, or null for an inherited socket. */
  #port: number | null;
  readonly #count: number;
  readonly #workers = new Set<Worker>();
  #againMs = AGAIN_MS;
  #isStopping = false;
  #isRolling = false;
  /** A signal has asked for a roll that has not begun. */
  #isRollWanted = false;
  #metrics!: Server<string>;

  constructor(port: number | null, count: number) {
    this.#port = port;
    this.#count = count;
  }

  /** Runs until a signal stops it. */
  async run(metricsPort: number): Promise<void> {
    const base = new EventBase();
    this.#metrics = await serveMetrics(base, metricsPort, () => this.#figures());
    stopOnSignals({ base, close: () => this.stop() });
    const onRoll = base.signal("SIGHUP", () => void this.#rollAll());
    onRoll.add();
    onRoll.unref();
    const first = await this.#start();
    for (let i = 1; i < this.#count; i++) await this.#start();
    announce({ hostname: "127.0.0.1", port: first.port, family: "IPv4" });
    console.log(`metrics on 127.0.0.1:${this.#metrics.port}`);
    await base.dispatch();
    await Promise.all([...this.#workers].map(({ ended }) => ended));
  }

  /** Starts a worker. When the promise resolves, it listens or has ended. */
  async #start(isTrial = false): Promise<Worker> {
    const worker = new Worker(this.#port, isTrial);
    this.#workers.add(worker);
    void worker.ended.then((how) => this.#onEnd(worker, how));
    await worker.ready;
    return worker;
  }

  #onEnd(worker: Worker, how: string): void {
    this.#workers.delete(worker);
    // #replace() handles the end of a worker that is being replaced, and of a new one that does not listen yet.
    if (worker.isStopped || worker.isReplaced || (worker.isTrial && worker.port === 0) || this.#isStopping) return;
    console.error(`worker ${worker.pid} ${how}: starting another one`);
    this.#startAgain(worker);
  }

  /** Starts another worker in the place of one that has ended. */
  #startAgain(worker: Worker): void {
    const lived = performance.now() - worker.startedAt;
    this.#againMs = lived > LONGEST_AGAIN_MS ? AGAIN_MS : Math.min(2 * this.#againMs, LONGEST_AGAIN_MS);
    setTimeout(() => {
      if (!this.#isStopping) void this.#start();
    }, this.#againMs);
  }

  /** Rolls a new version. A signal during a roll requests another roll after it. */
  async #rollAll(): Promise<void> {
    this.#isRollWanted = true;
    if (this.#isRolling) return;
    this.#isRolling = true;
    while (this.#isRollWanted && !this.#isStopping) {
      this.#isRollWanted = false;
      await this.#roll();
    }
    this.#isRolling = false;
  }

  /** Replaces one worker after the other, until a new one fails. */
  async #roll(): Promise<void> {
    for (const old of [...this.#workers]) {
      // A stopped worker is still here while its last clients finish. It has a successor.
      const isGone = old.isStopped || !this.#workers.has(old);
      if (!isGone && !await this.#replace(old)) return;
    }
  }

  /** Starts a new worker, and stops the old one when the new one listens. @returns False if the old one stays */
  async #replace(old: Worker): Promise<boolean> {
    if (this.#isStopping) return false;
    old.isReplaced = true;
    const worker = await this.#start(true);
    if (this.#isStopping) return false;
    if (worker.port !== 0) {
      if (this.#workers.has(old)) old.stop();
      return true;
    }
    old.isReplaced = false;
    console.error(`Cannot roll: worker ${worker.pid} ${await worker.ended} before it listened; the old workers go on`);
    if (!this.#workers.has(old)) this.#startAgain(old);
    return false;
  }

  /** Stops all workers, and itself. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const worker of this.#workers) worker.stop();
    await Promise.all([...this.#workers].map(({ ended }) => ended));
    await this.#metrics.close({ graceMs: 0 });
  }

  /** The figures of all workers: each sample gets a label with its worker. */
  async #figures(): Promise<string> {
    const workers = [...this.#workers];
    const texts = await Promise.all(workers.map((worker) => worker.figures()));
    const families = new Map<string, string[]>();
    texts.forEach((text, i) => {
      let family: string[] = [];
      for (const line of text.split("\n")) {
        const [, name] = /^# HELP (\S+)/.exec(line) ?? [];
        if (name !== undefined) {
          const known = families.get(name);
          family = known ?? [];
          if (known === undefined) families.set(name, family);
        }
        if (!line.startsWith("#")) family.push(line.replace("{", `{worker="${workers[i]?.pid}",`));
        else if (!family.includes(line)) family.push(line);
      }
    });
    return `${[...families.values()].flat().filter((line) => line !== "").join("\n")}\n`;
  }
}

/** One worker, from its start to its end. */
class Worker {
  readonly startedAt: number = performance.now();
  /** Resolves when it listens or has ended. */
  readonly ready: Promise<void>;
  /** A text about its end. */
  readonly ended: Promise<string>;
  port = 0;
  isStopped = false;
  /** Another worker will take its place. */
  isReplaced = false;
  /** It was started to take the place of another worker. */
  readonly isTrial: boolean;
  readonly #child: ChildProcess;
  #rest = "";
  #onFigures: ((text: string) => void)[] = [];

  constructor(port: number | null, isTrial: boolean) {
    this.isTrial = isTrial;
    const stdio: ("inherit" | "pipe" | number)[] = ["pipe", "pipe", "inherit"];
    if (port === null) stdio.push(FIRST_FD);
    this.#child = start([], { [WORKER]: String(port ?? "") }, stdio);
    this.ended = new Promise((resolve) => {
      this.#child.on("error", (error) => resolve(`could not be started: ${error.message}`));
      this.#child.on("exit", (code, signal) => resolve(`has ended with ${signal ?? `exit code ${code}`}`));
    });
    this.ready = new Promise((resolve) => {
      void this.ended.then(() => resolve());
      this.#child.stdout?.on("data", (chunk) => {
        const lines = `${this.#rest}${chunk}`.split("\n");
        this.#rest = lines.pop() ?? "";
        for (const line of lines) this.#hear(JSON.parse(line), resolve);
      });
    });
    const late = setTimeout(() => this.#child.kill("SIGKILL"), START_MS);
    void this.ready.then(() => clearTimeout(late));
    // It may have died.
    this.#child.stdin?.on("error", () => {});
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  stop(): void {
    this.isStopped = true;
    this.#child.kill("SIGTERM");
  }

  /** Its figures; nothing if it ends before it has answered. */
  figures(): Promise<string> {
    return new Promise((resolve) => {
      this.#onFigures.push(resolve);
      void this.ended.then(() => resolve(""));
      this.#child.stdin?.write("metrics\n");
    });
  }

  #hear({ port, metrics }: Word, ready: () => void): void {
    if (port !== undefined) {
      this.port = port;
      ready();
    }
    if (metrics !== undefined) this.#onFigures.shift()?.(metrics);
  }
}
