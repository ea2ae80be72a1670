/**
 * Exploring: runs a scenario with one seed after another until a run fails, and then shortens the list of its faults.
 *
 * @module
 */

import { checkCount, checkFunction, checkList, checkText, show } from "../../core/checks.ts";
import { EventError } from "../../core/errors.ts";
import { type Names, readOptions } from "../../core/names.ts";
import { checkChance, checkMs, checkRate, FAULT_NAMES, type FaultName, type SimFaults, wrong } from "./faults.ts";
import type { SimHostRuntime } from "./host.ts";
import { uninstall } from "./install.ts";
import type { Network } from "./network.ts";
import {
  type Candidates,
  type Fault,
  type FaultPlan,
  FaultPlayer,
  follow,
  LASTING,
  type LastingKind,
  PLAN_VERSION,
} from "./plan.ts";
import { mix, Random } from "./random.ts";
import { realTime } from "./real_time.ts";
import { shrink } from "./shrink.ts";
import { exploreInThreads, threadsOf } from "./threads.ts";

/**
 * The faults in the runs of {@linkcode explore}: those of {@linkcode SimFaults}, faults of hosts, and faults that begin at
 * some time and last. The seed of a run decides which faults happen, when, and for how long.
 */
export interface ExploreFaults extends SimFaults {
  /**
   * The first value of `shortWrites` of each host: the probability, for each 4 KiB of a stream,
   * that a write stops in it.
   *
   * @default 0
   */
  shortWrites?: number | undefined;
  /**
   * The first value of `timerLateMs` of each host: the longest delay of timers, in milliseconds.
   *
   * @default 0
   */
  timerLateMs?: number | undefined;
  /**
   * The probability that a run has a partition: a link between two hosts loses everything for a while, in one direction or
   * in both.
   *
   * @default 0
   */
  partition?: number | undefined;
  /**
   * The probability that in a run a link between two hosts holds all packets for a while, and then delivers them.
   *
   * @default 0
   */
  hold?: number | undefined;
  /**
   * The probability that in a run the programs of a host stall for a while.
   *
   * @default 0
   */
  pause?: number | undefined;
  /**
   * The probability that in a run a host crashes and is started again after a while. Only hosts in `hosts` and hosts with an
   * `onRestart` crash, because another host would have no program afterwards.
   *
   * @default 0
   */
  crash?: number | undefined;
  /**
   * The names of the hosts that `partition`, `hold`, `pause` and `crash` may affect. The main host is `main`.
   *
   * @default all hosts that the scenario has named by then
   */
  hosts?: readonly string[] | undefined;
  /**
   * The latest time, in milliseconds, at which a fault that lasts begins. Early times are as likely as late ones: 1 to
   * 10 ms is as likely as 1 to 10 s.
   *
   * @default 10_000
   */
  withinMs?: number | undefined;
  /**
   * The longest duration of such a fault, in milliseconds. Short times are as likely as long ones.
   *
   * @default 10_000
   */
  longestMs?: number | undefined;
}

const EXPLORE_FAULTS: Names<ExploreFaults> = /* @__PURE__ */ Object.assign(
  {
    shortWrites: true,
    timerLateMs: true,
    partition: true,
    hold: true,
    pause: true,
    crash: true,
    hosts: true,
    withinMs: true,
    longestMs: true,
  } as const,
  FAULT_NAMES,
);

/**
 * The default of `faults` of {@linkcode explore}: a low probability for each kind. Change some of them with
 * `{ ...DEFAULT_FAULTS, connectionReset: 0 }`.
 */
export const DEFAULT_FAULTS: Readonly<ExploreFaults> = /* @__PURE__ */ Object.freeze({
  jitterMs: 5,
  segmentCut: 0.05,
  connectionReset: 0.002,
  connectRefused: 0.01,
  connectLost: 0.005,
  datagramLost: 0.02,
  datagramDoubled: 0.01,
  datagramCorrupted: 0.002,
  datagramReordered: 0.02,
  shortWrites: 0.02,
  timerLateMs: 2,
  partition: 0.1,
  hold: 0.1,
  pause: 0.1,
  crash: 0.1,
});

/** Options of {@linkcode explore}. */
export interface ExploreOptions {
  /**
   * The largest number of runs.
   *
   * @default 1000, or 1 if a seed is given
   */
  runs?: number | undefined;
  /**
   * The seed of the first run, a whole number. Each run has the seed after that of the run before.
   *
   * @default 0
   */
  seed?: number | undefined;
  /**
   * How many seconds of real time may pass before the last run begins.
   *
   * @default Infinity
   */
  seconds?: number | undefined;
  /**
   * The faults. A fault that it does not name does not happen.
   *
   * @default DEFAULT_FAULTS
   */
  faults?: Readonly<ExploreFaults> | undefined;
  /**
   * Exploring stops when it has found this number of kinds of failures. Two failures are of one
   * kind if they have the same code and the same first lines of their stacks.
   *
   * @default 1
   */
  kinds?: number | undefined;
  /**
   * The number of runs that may be used to shorten the list of faults of one kind. With 0 the list
   * is not shortened.
   *
   * @default 1000
   */
  shrinkRuns?: number | undefined;
  /**
   * Whether a run fails with `SIM_LEFTOVER` if a connection, listener, socket or timer is left after its scenario. Packets
   * on their way get the time to arrive.
   *
   * @default true
   */
  leftovers?: boolean | undefined;
  /**
   * The latency of the network, in milliseconds. The latency in `faults` is then ignored.
   *
   * @default 1
   */
  latencyMs?: number | undefined;
  /**
   * The time, in milliseconds, that TCP waits for an answer before it gives up.
   *
   * @default 60_000
   */
  tcpTimeoutMs?: number | undefined;
  /**
   * The largest number of callbacks of a run. A run with more fails with `SIM_LIVELOCK`.
   *
   * @default 1_000_000
   */
  maxSteps?: number | undefined;
  /**
   * The number of threads that run seeds at the same time. The result is the same as with one
   * thread. With 0, all runs are in this thread, as always on a runtime without threads, such as a
   * browser. Threads need `module`.
   *
   * @default 0
   */
  workers?: number | undefined;
  /**
   * The URL of the module whose default export is the scenario. Each thread loads it, because a function cannot be sent
   * to a thread. So the module must not explore when it is loaded.
   */
  module?: string | { readonly href: string } | undefined;
  /** Called between two runs, at most five times a second. */
  onProgress?: ((progress: ExploreProgress) => void) | undefined;
}

const EXPLORE_OPTIONS: Names<ExploreOptions> = {
  runs: true,
  seed: true,
  seconds: true,
  faults: true,
  kinds: true,
  shrinkRuns: true,
  leftovers: true,
  latencyMs: true,
  tcpTimeoutMs: true,
  maxSteps: true,
  workers: true,
  module: true,
  onProgress: true,
};

/** The progress of {@linkcode explore}. */
export interface ExploreProgress {
  /** The number of finished runs. */
  readonly runs: number;
  /** The seconds of real time that have passed. */
  readonly seconds: number;
  /** The number of kinds of failures that were found. */
  readonly kinds: number;
  /** The number of runs that were used to shorten lists of faults. */
  readonly shrinkRuns: number;
}

/** One kind of failure: how to reproduce it, and what happens. */
export interface ExploreFailure {
  /** The seed of the first run that failed in this way. */
  readonly seed: number;
  /** Identifies this kind: the code, and the place that the error comes from. */
  readonly kind: string;
  /** The error with which the shortest run fails. */
  readonly error: unknown;
  /** The faults of the shortest run, in order of time. */
  readonly faults: readonly Fault[];
  /** The last 50 lines of the trace of the shortest run. */
  readonly trace: readonly string[];
  /** The plan that repeats the shortest run. {@linkcode replay} and {@linkcode SimRuntime.replay} take it. */
  readonly plan: FaultPlan;
  /** The hash of the shortest run. */
  readonly hash: string;
  /** The number of faults in the list before it was shortened. */
  readonly faultsBefore: number;
}

/** The result of {@linkcode explore}. */
export interface Exploration {
  /** The number of runs. If a failure ended the exploring, that run is the last one counted. */
  readonly runs: number;
  /** The seed of the first run that failed. If no run failed, the first seed. */
  readonly seed: number;
  /** The error of the first failure; undefined if there is none. */
  readonly error: unknown;
  /** The faults of the first failure; empty if there is none. */
  readonly faults: readonly Fault[];
  /** The last 50 lines of its trace. */
  readonly trace: readonly string[];
  /** The plan that repeats the first failure; undefined if there is none. */
  readonly plan: FaultPlan | undefined;
  /** All kinds of failures, in the order in which they were found. */
  readonly failures: readonly ExploreFailure[];
}

/** The number of lines of a trace that are kept. */
const TRACE_LINES = 50;
/** After a scenario, packets on their way may take this long, plus the timeout of TCP. */
const SETTLE_MS = 10_000;
const PROGRESS_SECONDS = 0.2;

/** The options of the simulators, checked. */
interface Basis {
  readonly latencyMs: number;
  readonly tcpTimeoutMs: number;
  readonly maxSteps: number;
}

/** Makes a simulator. */
export type MakeSim<S extends SimHostRuntime> = (options: Basis & { seed: number; faults: SimFaults }) => S;

/** The outcome of one run. */
export interface Outcome {
  /** The error with which it failed, if it did. */
  readonly failed: boolean;
  readonly error: unknown;
  /** The kind of failure. */
  readonly kind: string;
  /** The recorded faults. */
  readonly faults: readonly Fault[];
  readonly trace: readonly string[];
  readonly hash: string;
}

/** Runs one scenario with seeds and plans. */
export class Explorer<S extends SimHostRuntime> {
  readonly #make: MakeSim<S>;
  readonly #scenario: (sim: S) => Promise<void> | void;
  readonly #basis: Basis;
  readonly #rates: SimFaults;
  readonly #more: Readonly<Record<Exclude<keyof ExploreFaults, keyof SimFaults | "hosts">, number>>;
  readonly #candidates: Candidates;
  readonly #leftovers: boolean;

  /**
   * Reads the options that all runs share.
   *
   * @param make Makes a simulator
   * @param scenario The scenario
   * @param options The options. The caller reads those that concern the runs
   */
  constructor(make: MakeSim<S>, scenario: (sim: S) => Promise<void> | void, options: ExploreOptions) {
    this.#make = make;
    this.#scenario = scenario;
    const { faults = DEFAULT_FAULTS, leftovers = true, latencyMs, tcpTimeoutMs = 60_000, maxSteps = 1_000_000 } =
      options;
    const given = readOptions(DOING, faults, EXPLORE_FAULTS, "faults");
    const rates: SimFaults = {};
    for (const name of Object.keys(FAULT_NAMES) as FaultName[]) {
      const value = given[name];
      if (value !== undefined) rates[name] = checkRate(DOING, name, value, `faults.${name}`);
    }
    const { shortWrites = 0, timerLateMs = 0, partition = 0, hold = 0, pause = 0, crash = 0 } = given;
    const { withinMs = 10_000, longestMs = 10_000, hosts } = given;
    for (const [name, chance] of Object.entries({ shortWrites, partition, hold, pause, crash })) {
      checkChance(DOING, `faults.${name}`, chance);
    }
    for (const [name, ms] of Object.entries({ timerLateMs, withinMs, longestMs })) checkMs(DOING, `faults.${name}`, ms);
    if (hosts !== undefined) {
      for (const host of checkList(DOING, "faults.hosts", hosts)) checkText(DOING, "a name of faults.hosts", host);
      this.#candidates = hosts.map((host) => host.toLowerCase());
    }
    if (typeof leftovers !== "boolean") throw wrong(DOING, "leftovers", leftovers, "a boolean");
    if (latencyMs !== undefined) checkMs(DOING, "latencyMs", latencyMs);
    if (tcpTimeoutMs !== Infinity) checkMs(DOING, "tcpTimeoutMs", tcpTimeoutMs);
    if (maxSteps !== Infinity) checkAtLeast1("maxSteps", maxSteps);
    this.#rates = rates;
    this.#more = { shortWrites, timerLateMs, partition, hold, pause, crash, withinMs, longestMs };
    this.#leftovers = leftovers;
    this.#basis = { latencyMs: latencyMs ?? rates.latencyMs ?? 1, tcpTimeoutMs, maxSteps };
  }

  /**
   * Runs a seed.
   *
   * @param seed The seed
   * @param writesDown Whether to keep the faults and the trace
   * @returns Its outcome
   */
  play(seed: number, writesDown: boolean): Promise<Outcome> {
    const { latencyMs: _, ...faults } = this.#rates;
    const sim = this.#make({ ...this.#basis, seed, faults });
    const { network } = sim;
    const { shortWrites, timerLateMs, withinMs, longestMs } = this.#more;
    network.hostFaults.shortWrites = shortWrites;
    network.hostFaults.timerLateMs = timerLateMs;
    Object.assign(network.main, network.hostFaults);
    const player = new FaultPlayer(network, undefined);
    const dice = new Random(mix(network.seed, 0xfa17));
    for (const kind of Object.keys(LASTING) as LastingKind[]) {
      // Each kind draws the same count of numbers whether it happens or not, so that one kind does not change another.
      const happens = dice.next() < this.#more[kind];
      const coming = {
        kind,
        atMs: spread(dice.next(), withinMs),
        forMs: spread(dice.next(), longestMs),
        oneWay: dice.next() < 0.3,
        picks: [dice.next(), dice.next()] as const,
      };
      if (happens) player.expect(coming, this.#candidates);
    }
    if (writesDown) player.judge();
    return this.#run(sim, player, writesDown);
  }

  /**
   * Runs a plan.
   *
   * @param plan The plan
   * @returns Its outcome
   */
  replay(plan: FaultPlan): Promise<Outcome> {
    const { latencyMs } = this.#basis;
    const sim = this.#make({ ...this.#basis, latencyMs, seed: plan.seed, faults: {} });
    return this.#run(sim, follow(sim.network, plan), true);
  }

  /** The plan of a run. */
  plan(seed: number, outcome: Outcome): FaultPlan {
    const { latencyMs, tcpTimeoutMs } = this.#basis;
    const { bandwidth, segmentCut = 0 } = this.#rates;
    return {
      version: PLAN_VERSION,
      seed,
      latencyMs,
      tcpTimeoutMs: tcpTimeoutMs === Infinity ? null : tcpTimeoutMs,
      ...(bandwidth === undefined || bandwidth === Infinity ? {} : { bandwidth }),
      ...(segmentCut > 0 ? { segmentsApart: true } : {}),
      faults: outcome.faults,
      error: titleOf(outcome.error),
    };
  }

  async #run(sim: S, player: FaultPlayer, writesDown: boolean): Promise<Outcome> {
    const { network } = sim;
    const trace: string[] = [];
    if (writesDown) {
      network.journal.onLine = (line) => {
        trace.push(line);
        if (trace.length >= 2 * TRACE_LINES) trace.splice(0, TRACE_LINES);
      };
    }
    let failed = false;
    let error: unknown;
    try {
      await this.#live(sim, player);
    } catch (reason) {
      failed = true;
      error = reason;
    }
    uninstall();
    return {
      failed,
      error,
      kind: failed ? kindOf(error) : "",
      faults: player.happened,
      trace: trace.slice(-TRACE_LINES),
      hash: network.journal.hash,
    };
  }

  async #live(sim: S, player: FaultPlayer): Promise<void> {
    const { network } = sim;
    const { scheduler } = network;
    let settled = false;
    let end: { error: unknown } | undefined;
    const scenario = this.#scenario;
    async function runScenario(): Promise<void> {
      await scenario(sim);
    }
    const running = runScenario().then(
      () => void (settled = true),
      (error) => {
        settled = true;
        end = { error };
      },
    );
    await scheduler.drive(() => settled);
    await running;
    if (end !== undefined) throw (end as { error: unknown }).error;
    // Throws an error that was reported meanwhile.
    await scheduler.advance(0);
    player.finish();
    if (!this.#leftovers) return;
    const limit = scheduler.now + SETTLE_MS + 2 * Math.min(network.tcpTimeoutMs, 600_000);
    for (;;) {
      const { others, nextMs } = scheduler.survey();
      if (others === 0 || nextMs > limit) break;
      await scheduler.advance(Math.max(0, nextMs - scheduler.now));
    }
    const left = leftovers(network);
    if (left.length > 0) throw new EventError(`Cannot end the run: ${left.join("; ")}`, { code: "SIM_LEFTOVER" });
  }
}

const DOING = "explore";

/**
 * Explores.
 *
 * @param make Makes a simulator
 * @param scenario The scenario
 * @param options The options
 * @param program The program of each thread
 * @returns The result
 */
export async function explore<S extends SimHostRuntime>(
  make: MakeSim<S>,
  scenario: (sim: S) => Promise<void> | void,
  options: ExploreOptions,
  program: string,
): Promise<Exploration> {
  checkFunction(DOING, "the scenario", scenario);
  const given = readOptions(DOING, options, EXPLORE_OPTIONS);
  const explorer = new Explorer(make, scenario, given);
  const { seed = 0, seconds = Infinity, kinds = 1, shrinkRuns = 1000, onProgress } = given;
  const { runs = given.seed === undefined ? 1000 : 1 } = given;
  if (runs !== Infinity) checkAtLeast1("runs", runs);
  checkAtLeast1("kinds", kinds);
  checkCount(DOING, "shrinkRuns", shrinkRuns);
  if (!Number.isSafeInteger(seed)) throw wrong(DOING, "seed", seed, "a whole number");
  if (typeof seconds !== "number" || !(seconds >= 0)) throw wrong(DOING, "seconds", seconds, "a number, 0 or more");
  if (onProgress !== undefined) checkFunction(DOING, "onProgress", onProgress);
  const { workers = 0, module, ...rest } = given;
  const url = module === undefined ? undefined : checkModule(module);
  checkCount(DOING, "workers", workers);
  if (workers > 0 && url === undefined) {
    throw new TypeError(
      `Cannot ${DOING}: workers need the option module, the URL of the module whose default export is the scenario`,
    );
  }

  const began = realTime();
  const found = new Map<string, { seed: number; title: string; error: unknown }>();
  let done = 0;
  let shrunk = 0;
  let told = 0;
  let kindsFound = 0;
  const tell = (last = false): void => {
    const passed = (realTime() - began) / 1000;
    if (onProgress === undefined || (!last && passed - told < PROGRESS_SECONDS)) return;
    told = passed;
    onProgress({ runs: done, seconds: passed, kinds: kindsFound, shrinkRuns: shrunk });
  };
  const Thread = workers > 0 ? threadsOf(program) : null;
  if (Thread !== null && url !== undefined) {
    const data = { module: url, options: { ...rest, onProgress: undefined, seconds: undefined } };
    const result = await exploreInThreads(Thread, program, {
      data,
      runs,
      seed,
      seconds,
      kinds,
      workers,
      onProgress(runsDone, kindsSeen) {
        done = runsDone;
        kindsFound = kindsSeen;
        tell();
      },
    });
    done = result.runs;
    for (const [kind, failure] of result.failures) found.set(kind, { ...failure, error: failure.title });
  }
  while (Thread === null && done < runs && found.size < kinds && realTime() - began < seconds * 1000) {
    const { failed, kind, error } = await explorer.play(seed + done, false);
    if (failed && !found.has(kind)) found.set(kind, { seed: seed + done, title: titleOf(error), error });
    kindsFound = found.size;
    done++;
    tell();
  }
  const failures: ExploreFailure[] = [];
  kindsFound = found.size;
  for (const [kind, { seed: failing, title, error }] of found) {
    failures.push(
      await reduce(explorer, { kind, seed: failing, title, error }, shrinkRuns, () => {
        shrunk++;
        tell();
      }),
    );
  }
  tell(true);
  const [first] = failures;
  return {
    runs: done,
    seed: first?.seed ?? seed,
    error: first?.error,
    faults: first?.faults ?? [],
    trace: first?.trace ?? [],
    plan: first?.plan,
    failures,
  };
}

/** Repeats a run that failed, with fewer and fewer faults. */
async function reduce<S extends SimHostRuntime>(
  explorer: Explorer<S>,
  { kind, seed, title, error }: { kind: string; seed: number; title: string; error: unknown },
  shrinkRuns: number,
  onRun: () => void,
): Promise<ExploreFailure> {
  const again = await explorer.play(seed, true);
  const plan = explorer.plan(seed, again);
  onRun();
  // An engine may print a stack in another way after it has optimized a function.
  const isAlike = (outcome: Outcome): boolean =>
    outcome.failed && (outcome.kind === kind || titleOf(outcome.error) === title);
  const whole = isAlike(again) ? await explorer.replay(plan) : again;
  if (!isAlike(whole)) {
    const why = "it depends on real time, Math.random(), I/O of the real runtime, or leftovers of earlier runs";
    const message =
      `Cannot repeat the run of seed ${seed}: the scenario did not fail in the same way a second time: ${why}`;
    const unsteady = new EventError(message, { code: "SIM_UNREPEATABLE", cause: error });
    return {
      seed,
      kind,
      error: unsteady,
      faults: again.faults,
      trace: again.trace,
      plan,
      hash: again.hash,
      faultsBefore: again.faults.length,
    };
  }
  const shortest = await shrink(plan, whole, (next) => {
    onRun();
    return explorer.replay(next);
  }, shrinkRuns);
  const { outcome } = shortest;
  return {
    seed,
    kind,
    error: outcome.error,
    faults: outcome.faults,
    trace: outcome.trace,
    plan: { ...shortest.plan, faults: outcome.faults, error: titleOf(outcome.error) },
    hash: outcome.hash,
    faultsBefore: again.faults.length,
  };
}

function checkAtLeast1(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) throw wrong(DOING, name, value, "a whole number, 1 or more");
}

/** Returns the URL of a module as text. */
function checkModule(module: string | { readonly href: string }): string {
  const text: unknown = typeof module === "object" && module !== null ? module.href : module;
  if (typeof text === "string" && /^[a-z][a-z\d+.-]*:/i.test(text)) return text;
  throw wrong(DOING, "module", module, "the URL of a module");
}

/** A random time up to a longest one; short times are as likely as long ones. In steps of 0.1 ms, which is easier to read. */
function spread(dice: number, longestMs: number): number {
  return longestMs <= 1 ? longestMs * dice : Math.round(10 * longestMs ** dice) / 10;
}

/** An error in one line. */
export function titleOf(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${show(error)}`;
  const { code } = error as { code?: unknown };
  const line = error.message.split("\n").find((text) => text.trim() !== "") ?? "";
  return `${typeof code === "string" ? code : error.name}: ${line.trim()}`;
}

/** The number of lines of a stack that are compared to distinguish failures. */
const STACK_LINES = 4;

/** Identifies a kind of failure: its code, and the place that it comes from. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${show(error)}`;
  const { code } = error as { code?: unknown };
  const name = typeof code === "string" ? code : error.name;
  // The stack of an error of the simulator is inside the simulator, wherever the cause is.
  if (name.startsWith("SIM_")) return name;
  const frames = (error.stack ?? "").split("\n").filter((line) => /^\s+at |@.*:\d+$/.test(line));
  // The lines after the scenario belong to its caller.
  const end = frames.findIndex((line) => line.includes(RUN_SCENARIO));
  const own = (end < 0 ? frames : frames.slice(0, end)).filter((line) => !HOST_FRAME.test(line));
  return [name, ...own.slice(0, STACK_LINES).map((line) => line.trim())].join("\n");
}

/** Lines of a stack inside the runtime. They depend on the runtime's previous work. */
const HOST_FRAME = /node:|ext:|\bnative\b|^\s+at (?:async )?\w+$/;
/** The name of the function that calls a scenario, as it appears in stacks. */
const RUN_SCENARIO = "runScenario";

/** Describes the handles that a scenario has left open. */
function leftovers(network: Network): string[] {
  const left: string[] = [];
  for (const host of network.hosts) {
    if (host.handles === 0) continue;
    const labels = [...host.listeners, ...host.connections, ...host.sockets].map(({ label }) => label);
    const shown = labels.slice(0, 5).join(", ") + (labels.length > 5 ? ", …" : "");
    left.push(`${host.handles} ${host.handles === 1 ? "handle is" : "handles are"} open on ${host.label}: ${shown}`);
  }
  const { timers } = network.scheduler.survey();
  for (const host of network.hosts) {
    const own = timers.filter(({ program }) => program === host.program);
    const [first] = own;
    if (first === undefined) continue;
    const which = own.length === 1 ? "a timer is set" : `${own.length} timers are set`;
    left.push(`${which} on ${host.label}, the first for ${Math.min(...own.map(({ time }) => time))} ms`);
  }
  return left;
}
