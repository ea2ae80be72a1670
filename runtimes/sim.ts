/**
 * The simulator: a network in memory with a virtual clock and a seed. It runs anywhere, also in a browser. It opens no
 * port and never sleeps: a test of a minute takes a millisecond, and gives the same result each time.
 *
 * @module
 */

import { separateMemory, useMemory } from "../core/buffer/chunk.ts";
import { checkBoolean, checkCount, checkFunction, isA, show } from "../core/checks.ts";
import { EventError } from "../core/errors.ts";
import { type Names, readOptions } from "../core/names.ts";
import type { Runtime } from "../core/runtime.ts";
import { Capture, CAPTURE_BYTES } from "./sim/capture.ts";
import {
  DEFAULT_FAULTS,
  type Exploration,
  explore as exploreWith,
  type ExploreFailure,
  type ExploreFaults,
  type ExploreOptions,
  type ExploreProgress,
  Explorer,
} from "./sim/explore.ts";
import { checkMs, checkRate, FAULT_NAMES, type FaultName, NO_FAULTS, type SimFaults } from "./sim/faults.ts";
import { type SimCapabilities, type SimDnsEntry, type SimFileFault, SimHostRuntime } from "./sim/host.ts";
import { install, isInstalled } from "./sim/install.ts";
import { type SimLink, simLink } from "./sim/link.ts";
import { Network } from "./sim/network.ts";
import { type Fault, type FaultPlan, follow, readPlan } from "./sim/plan.ts";

export type { SimCapabilities, SimDnsEntry, SimFaults, SimFileFault, SimLink };
export { DEFAULT_FAULTS };
export type { Exploration, ExploreFailure, ExploreFaults, ExploreOptions, ExploreProgress, Fault, FaultPlan };

/** Options of {@linkcode simRuntime}. */
export interface SimOptions {
  /**
   * The seed. The same seed gives exactly the same run, also beside other simulators in one process. By default 0.
   *
   * If the program fills its own buffer outside of the simulator's callbacks, the bounds of its
   * chunks may depend on other work of the process. The bytes are the same.
   *
   * `compressionFilter()` uses the compressor of the runtime. Runtimes compress the same bytes to different sizes, so a
   * program that compresses has another run on another runtime.
   */
  seed?: number | undefined;
  /** The latency of the network, in milliseconds. By default 1. */
  latencyMs?: number | undefined;
  /** The faults. By default none. They can be changed later: {@linkcode SimRuntime.faults}. */
  faults?: SimFaults | undefined;
  /**
   * The time without an answer, in milliseconds, after which TCP ends a connection, or an attempt
   * to connect, with `ETIMEDOUT`. Infinity: never. By default 60,000.
   */
  tcpTimeoutMs?: number | undefined;
  /**
   * The largest number of callbacks of one `advance()` or `run()`, after which it rejects with `SIM_LIVELOCK`.
   * Otherwise a repeating timer would keep `run()` going for ever. By default 10,000,000.
   */
  maxSteps?: number | undefined;
  /**
   * Whether packets are kept, for {@linkcode SimRuntime.capture}: true, or an object with a limit.
   * By default false.
   */
  capture?: boolean | CaptureOptions | undefined;
}

/** The limit of kept packets. */
export interface CaptureOptions {
  /**
   * The number of bytes of packets that are kept. Beyond that, the oldest are dropped. By default
   * 16 MiB.
   */
  maxBytes?: number | undefined;
}

const CAPTURE_OPTIONS: Names<CaptureOptions> = { maxBytes: true };

const SIM_OPTIONS: Names<SimOptions> = {
  seed: true,
  latencyMs: true,
  faults: true,
  tcpTimeoutMs: true,
  maxSteps: true,
  capture: true,
};

/** Options of {@linkcode SimRuntime.install}. */
export interface InstallOptions {
  /**
   * The value of `Date.now()` when the clock of the simulator is at 0. By default
   * 2025-01-01T00:00:00Z.
   */
  epochMs?: number | undefined;
}

const INSTALL_OPTIONS: Names<InstallOptions> = { epochMs: true };

/** Options of {@linkcode SimRuntime.link}. */
export interface LinkOptions {
  /** Whether only the direction from the first host to the second is meant. By default both are. */
  oneWay?: boolean | undefined;
}

const LINK_OPTIONS: Names<LinkOptions> = { oneWay: true };

/** One host of a simulated network. */
export interface SimHost extends Runtime {
  /** Its addresses, without those of the loopback: `10.0.0.2`. Its name resolves to the first. */
  readonly addresses: readonly string[];
  /** Its files, by path, for `FileSegment`. You fill the map. */
  readonly files: Map<string, Uint8Array>;
  /**
   * Its directories, in which a unix socket can be bound: at first the usual ones, such as `/run`, `/tmp` and
   * `/var/lib`. You may change the set. The directories of `files` and the working directory exist too.
   */
  readonly directories: Set<string>;
  /**
   * The largest number of open handles, as `ulimit -n` on a real machine; Infinity at first. At that number, accepting,
   * connecting and listening fail with `EMFILE`, and connections that cannot be accepted wait.
   */
  handleLimit: number;
  /**
   * Removes a file, or the file of a unix socket, as another process may do. Then a listener cannot
   * be reached by the path, and the path can be bound again.
   *
   * @param path The path
   */
  unlink(path: string): void;
  /**
   * Raises a signal on this host. Its handlers run in the next `advance()` or `run()`. Without a handler nothing
   * happens.
   *
   * @param name The signal: `SIGTERM`
   * @throws {EventError} `EV_UNSUPPORTED` for a name that is not a signal, or a signal that cannot be caught
   */
  raise(name: string): void;
  /**
   * The capabilities of the host: at first all are true. If you set one to false, the host behaves
   * like a runtime without it, so that you can test for such a runtime here.
   * `host.capabilities = { … }` switches off those that it sets to false, and restores the rest.
   *
   * Without `pauseAccept`, as on Bun, a listener cannot leave connections to the system:
   * `pauseAccept()` does nothing. Without `reset`, as on Deno, `reset()` is a plain close. With
   * `tlsTruncation`, a truncated TLS stream fails with `ERR_TLS_TRUNCATED`. Using other missing
   * features fails with `EV_UNSUPPORTED`.
   */
  capabilities: SimCapabilities;
  /**
   * The probability, for each 4 KiB of a stream, that a write of this host stops in it, as when the
   * buffers of the system are nearly full. `write()` accepts a part, then returns 0, and
   * `onWritable()` follows in the same instant. The peer notices nothing. `true` is 1. At first 0.
   */
  shortWrites: number | boolean;
  /**
   * The number of bytes that may be on their way to each connection of this host or wait in it, 1
   * or more: the window of TCP. With 1, every byte arrives alone and the sender waits for each. At
   * first 65,536.
   */
  windowBytes: number;
  /**
   * The longest delay of timers, in milliseconds, as on a busy system. The seed decides the delay
   * of each timer when it is set. At first 0.
   */
  timerLateMs: number;
  /**
   * The codes with which accepting fails the next times. Each is used once, and `push()` adds more.
   *
   * `EMFILE` and `ENOMEM` (no descriptor or memory left): the listener's program gets the error,
   * and the connection waits; its client is connected and notices nothing. `ECONNABORTED` (the
   * client has left before it was accepted): no program is told, and the connection is reset.
   */
  readonly acceptErrors: string[];
  /**
   * The answers of name servers to this host, by name in small letters, in place of the network's
   * own. A name server can fail (`error`), be slow (`delayMs`), and give several addresses of which
   * some do not answer.
   */
  readonly dns: Map<string, SimDnsEntry>;
  /**
   * The faults of files, by path: reading fails with `error`, as with a broken disk, or the file
   * has become shorter (`maxBytes`), as when a log is truncated while it is being sent.
   */
  readonly fileFaults: Map<string, SimFileFault>;
  /**
   * Ends everything on the host at once, as a power cut does. Its programs get no more callbacks,
   * their timers do not fire, and its handles are closed. Unsent bytes are lost; packets on their
   * way arrive. `listen()` and `connect()` fail with `EHOSTDOWN` until {@linkcode SimHost.restart}.
   *
   * Peers notice nothing until they send or their keep-alive sends a probe. Without an answer they
   * get `ETIMEDOUT` after `tcpTimeoutMs`, or `ECONNRESET` if the host has restarted. Attempts to
   * connect get no answer.
   */
  crash(): void;
  /**
   * Starts the host again, after {@linkcode SimHost.crash} or in its place. It keeps its addresses,
   * names and files, but not its programs, which must be started again. A peer of an old connection
   * that sends gets `ECONNRESET`.
   */
  restart(): void;
  /**
   * Starts the programs of the host again: called in the instant of a {@linkcode SimHost.restart}.
   * At first undefined. By default, exploring crashes only hosts that have this function.
   */
  onRestart: (() => void) | undefined;
  /**
   * Stalls the programs of the host, as a long collection of garbage, a debugger or a busy hypervisor does. The system of
   * the host goes on: connections are made and wait, windows fill up. After the pause, all events
   * come at once and in order, and timers that were due meanwhile fire late.
   *
   * @param ms The duration, from now on, in virtual milliseconds
   * @throws {RangeError} When it is not a finite number, 0 or more
   */
  pause(ms: number): void;
}

/**
 * A simulated network, seen from its main host, `127.0.0.1`. Time passes in {@linkcode SimRuntime.advance}, {@linkcode
 * SimRuntime.advanceSync} and {@linkcode SimRuntime.run} only.
 *
 * `advance()` and `run()` let the real runtime drain its queue of promise reactions after each callback. So the
 * reactions of a callback, and all that follow from them, run before the next callback and before the clock moves, as on
 * a real runtime. They do not wait for timers, files and other I/O of the real runtime. After {@linkcode SimRuntime.install}, code that uses
 * the global timers runs on virtual time.
 *
 * A seed repeats a run exactly, on each runtime and in one process with other work, as long as the program decides
 * nothing by real time, `Math.random()` or I/O of the real runtime. {@linkcode SimRuntime.hash}
 * shows whether two runs are the same.
 */
export interface SimRuntime extends SimHost {
  /** The number of scheduled entries: segments on their way, timers, deferred functions. */
  readonly pending: number;
  /**
   * Runs everything that is due in the next `ms` milliseconds, and leaves the clock at their end. If a callback throws,
   * the promise rejects with that error, and the rest stays scheduled for the next call.
   *
   * @param ms The virtual milliseconds, 0 or more
   * @throws {RangeError} When it is not a finite number, 0 or more
   * @throws {EventError} `EV_BUSY` while another `advance()` or `run()` is in progress; `SIM_LIVELOCK` after too many
   * steps
   */
  advance(ms: number): Promise<void>;
  /**
   * Runs everything that is due in the next `ms` milliseconds without a turn for promises, and
   * leaves the clock at their end. It takes half to three quarters of the time of
   * {@linkcode SimRuntime.advance}, for programs that use callbacks only. Promise reactions run when the
   * caller awaits something. It throws what a callback throws; the rest stays scheduled.
   *
   * @param ms The span, in virtual milliseconds, 0 or more
   * @throws {RangeError} When it is not a finite number, 0 or more
   * @throws {EventError} `EV_BUSY` while another one is in progress; `SIM_LIVELOCK` after too many steps
   */
  advanceSync(ms: number): void;
  /**
   * Moves the clock until a promise settles, and settles in the same way. If the promise has settled already, the clock
   * does not move.
   *
   * @param promise The promise
   * @returns The value of the promise
   * @throws {EventError} `SIM_DEADLOCK` when nothing is scheduled that could settle it; `EV_BUSY` while another
   * `advance()` or `run()` is in progress; `SIM_LIVELOCK` after too many steps
   */
  run<T>(promise: Promise<T>): Promise<T>;
  /**
   * Returns another host of the network, with its own addresses, ports, paths, signals and files, and the same clock.
   * The first call with a name makes the host, with the next address from `10.0.0.2` on. Its name resolves to that
   * address on every host. `127.0.0.1` is the host itself if it listens on the port, otherwise the main host.
   *
   * @param name A host name, or a numeric address for the host
   * @returns The host
   */
  host(name: string): SimHost;
  /** The behaviour and the faults of every link that has no values of its own. Each value can be set at any time. */
  readonly faults: SimFaults;
  /**
   * Returns the link between two hosts, to change it or to break it at any time.
   *
   * @param a A host, or its name
   * @param b Another host, or the same
   * @param options Whether only the direction from `a` to `b` is meant
   * @returns The link
   * @throws {TypeError} When a host is not one of this network
   */
  link(a: string | SimHost, b: string | SimHost, options?: LinkOptions): SimLink;
  /**
   * Draws a number from the main host's seeded generator: 0 or more, less than 1. Each host has its
   * own generator: `host.random()`.
   */
  random(): number;
  /**
   * The trace: a line for each delivery, fault and timer. A function gets each line; with `true` they are kept in
   * {@linkcode SimRuntime.lines}. At first false.
   *
   * A line is the time in milliseconds, what happened, to whom, and how many bytes: `12.5 data 10.0.0.1:80 <
   * 10.0.0.2:32768 64`.
   */
  trace: boolean | ((line: string) => void);
  /** The lines that were kept. The array may be emptied. */
  readonly lines: string[];
  /**
   * A hash of all deliveries, faults and timers so far, 16 hexadecimal digits, with or without a trace. Two runs with the
   * same hash have done the same. It depends on the content of the lines: kinds, times, receivers
   * and numbers of bytes; not on the bytes. It is stable within one version of this package.
   */
  readonly hash: string;
  /**
   * Puts virtual timers, `Date`, `performance.now()` and `Math.random()` into the globals, for
   * third-party code: `setTimeout`, `setInterval`, `setImmediate`, the functions that clear them,
   * `Date`, `performance.now` and `Math.random` then use the clock and the random generator of this
   * simulator. `queueMicrotask` and promises stay.
   *
   * Functions that a module has imported from `node:timers`, or has kept from before, stay the real ones.
   *
   * @param options The first time of `Date`
   * @returns A function that restores the real globals. Idempotent
   * @throws {EventError} `EV_BUSY` while a simulator is installed
   */
  install(options?: InstallOptions): () => void;
  /**
   * Makes only the faults of a plan happen, and those that the program causes itself. It also uses
   * the plan's seed and network. Call it before anything else in the simulator.
   *
   * {@linkcode replay} does this for a whole scenario.
   *
   * @param plan A plan from {@linkcode explore}
   * @throws {TypeError} When it is not a plan
   * @throws {RangeError} When it is of another version, or a value is out of range
   * @throws {EventError} `EV_BUSY` when something has been made in the simulator, or has happened
   */
  replay(plan: FaultPlan): void;
  /**
   * Returns all packets so far as a file in the format pcapng, which Wireshark and `tshark` read:
   * each host is an interface, virtual time 0 is 2025-01-01T00:00:00Z. It needs
   * `simRuntime({ capture: true })`.
   *
   * TCP has its handshake, segments, acknowledgements, windows, FIN and RST. A packet that was lost
   * in a partition and sent again is there twice. A packet has the time at which it leaves, whether
   * it arrives or not. Connections by paths are not included. TLS is the stand-in of the simulator.
   *
   * @returns The file; the caller owns the bytes
   * @throws {EventError} `EV_UNSUPPORTED` when nothing was kept
   */
  capture(): Uint8Array;
}

/**
 * A program under test. It may await anything that happens in the simulator: the clock moves while it waits. It may also
 * move the clock itself, by `sim.advance()` and `sim.run()`.
 */
export type Scenario = (sim: SimRuntime) => Promise<void> | void;

/**
 * Makes a simulated network.
 *
 * Connections behave as TCP: a handshake, segments of up to 16 KiB, windows of 64 KiB that open in steps of 16 KiB,
 * half-close, and resets that discard segments on their way.
 *
 * TLS is a stand-in without cryptography, for tests of the results of a handshake. A certificate is a string with its
 * names and its authority (`cert: "localhost signed by our CA"`), an authority is its name (`ca: "our CA"`), and a key
 * is any string.
 *
 * @param options Seed, latency and faults
 * @returns The main host of the network, `127.0.0.1`
 * @throws {RangeError} When an option is out of range
 *
 * @example
 * ```ts
 * import { simRuntime } from "trivent";
 * const sim = simRuntime({ seed: 7 });
 * let late = false;
 * sim.setTimer(60_000, () => {
 *   late = true;
 * });
 * await sim.advance(60_000);
 * if (!late) throw new Error("a minute has passed");
 * ```
 */
export function simRuntime(options: SimOptions = {}): SimRuntime {
  const doing = "make a simulator";
  const {
    seed = 0,
    latencyMs = NO_FAULTS.latencyMs,
    maxSteps = 10_000_000,
    tcpTimeoutMs = TCP_TIMEOUT_MS,
    faults = {},
    capture = false,
  } = readOptions(doing, options, SIM_OPTIONS);
  const { maxBytes = CAPTURE_BYTES } = typeof capture === "boolean"
    ? {}
    : readOptions(doing, capture, CAPTURE_OPTIONS, "capture");
  checkCount(doing, "capture.maxBytes", maxBytes);
  const rates = { ...NO_FAULTS, latencyMs };
  checkRate(doing, "latencyMs", latencyMs);
  const given = readOptions(doing, faults, FAULT_NAMES, "faults");
  for (const name of Object.keys(given) as FaultName[]) {
    rates[name] = checkRate(doing, name, given[name] ?? NO_FAULTS[name], `faults.${name}`);
  }
  check("seed", seed, -Infinity, Infinity);
  check("maxSteps", maxSteps, 1, Infinity);
  if (tcpTimeoutMs !== Infinity) checkMs(doing, "tcpTimeoutMs", tcpTimeoutMs);
  separateMemory();
  const network = new Network(
    { seed, maxSteps, tcpTimeoutMs, rates },
    (made, addresses) => new MainHost(made, "main", addresses),
  );
  useMemory(network.scheduler.memory);
  network.scheduler.hint = () => hint(network);
  if (capture !== false) network.capture = new Capture(maxBytes);
  return network.main as MainHost;
}

/**
 * Runs a scenario with one seed after another until a run fails, and then makes the list of its faults as short as it
 * can, by running it again with fewer and smaller faults.
 *
 * A run fails if the promise of the scenario rejects, if a callback throws, if nothing is scheduled any more that could
 * settle the promise (`SIM_DEADLOCK`), if it goes on without end (`SIM_LIVELOCK`), and if something
 * is left open or scheduled after it (`SIM_LEFTOVER`). A failure that cannot be repeated is
 * reported as `SIM_UNREPEATABLE`, with the error as its cause.
 *
 * By default all kinds of faults happen, with low probabilities: {@linkcode DEFAULT_FAULTS} are a
 * jitter of 5 ms, 5 % of segments cut, 0.2 % of segments replaced by a reset, 1 % of connections
 * refused and 0.5 % without an answer, 2 % of datagrams lost and 2 % reordered, 1 % duplicated and
 * 0.2 % corrupted, 2 % short writes, and timers that are up to 2 ms late. In 10 % of the runs each,
 * a link is cut for a while, a link holds all packets for a while, a host stalls, and a host with
 * an `onRestart` crashes and restarts.
 *
 * Each run has a new simulator. The scenario must keep nothing from one run to the next, and must
 * not depend on real time or `Math.random()`: use `sim.random()` or {@linkcode SimRuntime.install}.
 * The result is the same each time, unless `seconds` ends it.
 *
 * @param scenario The program under test
 * @param options The number of runs, and the faults
 * @returns What was found
 * @throws {TypeError} When an option is of a wrong type, or unknown
 * @throws {RangeError} When an option is out of range
 *
 * @example
 * ```ts
 * import { explore } from "trivent/sim";
 * const { error, faults } = await explore(async (sim) => {
 *   let got = "";
 *   const to = { hostname: "10.0.0.2", port: 53, family: "IPv4" } as const;
 *   const sink = { onMessage: (bytes: Uint8Array) => void (got += String.fromCharCode(...bytes)), onWritable() {}, onError() {} };
 *   const server = await sim.host("server").datagram?.({ port: 53 }, sink);
 *   const client = await sim.datagram?.({}, sink);
 *   for (const letter of [65, 66]) client?.send(new Uint8Array([letter]), to);
 *   await sim.advance(1000);
 *   client?.close();
 *   server?.close();
 *   if (got !== "AB") throw new Error(`got ${got}`);
 * }, { runs: 500 });
 * // One fault is enough to break it.
 * if (error === undefined || faults.length !== 1) throw new Error("UDP is not reliable");
 * ```
 */
export function explore(scenario: Scenario, options: ExploreOptions = {}): Promise<Exploration> {
  return exploreWith(make, scenario, options, threadProgram());
}

/** The program of a thread is beside this module, as source or built. */
function threadProgram(): string {
  // A bundle for a script has no URL.
  const here = (import.meta.url as string | undefined) ?? "";
  return here.replace(/[^/]*\/[^/]*$/, here.endsWith(".ts") ? "cli/worker.ts" : "cli/worker.js");
}

/**
 * Runs a scenario with the faults of a plan: a test case for a failure that {@linkcode explore} has found.
 *
 * @param scenario The program under test
 * @param plan The plan, which may have been JSON
 * @returns A promise that rejects with the error of the run
 * @throws {TypeError} When it is not a plan
 * @throws {RangeError} When it is of another version, or a value is out of range
 *
 * @example
 * ```ts
 * import { replay } from "trivent/sim";
 * const plan = { version: 1, seed: 7, faults: [{ kind: "pause", hosts: ["main"], atMs: 5, forMs: 100 }] };
 * await replay(async (sim) => {
 *   await new Promise<void>((resolve) => void sim.setTimer(10, resolve));
 *   if (sim.now() !== 105) throw new Error("the timer is not late");
 * }, plan);
 * ```
 */
export async function replay(scenario: Scenario, plan: FaultPlan): Promise<void> {
  checkFunction("repeat a plan", "the scenario", scenario);
  const explorer = new Explorer(make, scenario, {});
  const { failed, error } = await explorer.replay(readPlan(plan));
  if (failed) throw error;
}

function make(basis: SimOptions): MainHost {
  return simRuntime(basis) as MainHost;
}

/** Linux waits for 15 minutes, tests for one. */
const TCP_TIMEOUT_MS = 60_000;

class MainHost extends SimHostRuntime implements SimRuntime {
  get pending(): number {
    return this.network.scheduler.pending;
  }

  get faults(): SimFaults {
    return this.network.faults;
  }

  get trace(): boolean | ((line: string) => void) {
    return this.network.journal.trace;
  }

  set trace(callback: boolean | ((line: string) => void)) {
    if (typeof callback !== "boolean" && typeof callback !== "function") {
      throw new TypeError(`Cannot trace: trace is neither a boolean nor a function: received ${show(callback)}`);
    }
    this.network.journal.trace = callback;
  }

  get lines(): string[] {
    return this.network.journal.lines;
  }

  get hash(): string {
    return this.network.journal.hash;
  }

  advance(ms: number): Promise<void> {
    return this.network.scheduler.advance(ms);
  }

  advanceSync(ms: number): void {
    this.network.scheduler.advanceSync(ms);
  }

  run<T>(promise: Promise<T>): Promise<T> {
    return this.network.scheduler.run(promise);
  }

  host(name: string): SimHost {
    return this.network.host(name);
  }

  link(a: string | SimHost, b: string | SimHost, options: LinkOptions = {}): SimLink {
    const doing = "give a link";
    const { oneWay = false } = readOptions(doing, options, LINK_OPTIONS);
    checkBoolean(doing, "oneWay", oneWay);
    const [from, to] = [this.#end(a), this.#end(b)];
    const there = this.network.linkTo(from, to);
    return simLink(this.network, oneWay || from === to ? [there] : [there, this.network.linkTo(to, from)]);
  }

  #end(host: string | SimHost): SimHostRuntime {
    if (typeof host === "string") return this.network.host(host);
    if (isA<SimHostRuntime>(host, SimHostRuntime) && host.network === this.network) return host;
    throw new TypeError(`Cannot give a link: it is not a host of this simulator or its name: received ${show(host)}`);
  }

  install(options: InstallOptions = {}): () => void {
    const { epochMs } = readOptions("install a simulator", options, INSTALL_OPTIONS);
    return install(this, epochMs);
  }

  capture(): Uint8Array {
    const { capture, scheduler, hosts } = this.network;
    if (capture !== undefined) return capture.file(scheduler.now, hosts);
    throw new EventError("Cannot give a capture: nothing was kept: call simRuntime({ capture: true })", {
      code: "EV_UNSUPPORTED",
      syscall: "capture",
    });
  }

  replay(plan: FaultPlan): void {
    const checked = readPlan(plan);
    if (!this.network.isNew) {
      throw new EventError("Cannot repeat a plan: this simulator was used before: call replay() first of all", {
        code: "EV_BUSY",
        syscall: "replay",
      });
    }
    follow(this.network, checked);
  }
}

/** Explains what may settle a promise that nothing in the simulator settles. */
function hint({ hosts }: Network): string {
  let handles = 0;
  for (const host of hosts) handles += host.handles;
  const open = handles === 0
    ? "no handle is open"
    : `${handles} ${handles === 1 ? "handle is" : "handles are"} open, idle`;
  const waits = isInstalled()
    ? "a promise that needs the real runtime's I/O is not waited for"
    : "a promise that needs the real runtime's timers or I/O is not waited for. sim.install() puts timers on virtual time";
  return `; ${open}; ${waits}`;
}

function check(name: string, value: number, least: number, most: number): void {
  if (Number.isFinite(value) && value >= least && value <= most) return;
  const range = most === Infinity ? (least === -Infinity ? "" : `, ${least} or more`) : `, ${least} to ${most}`;
  throw new RangeError(`Cannot make a simulator: ${name} is not a finite number${range}: received ${show(value)}`);
}
