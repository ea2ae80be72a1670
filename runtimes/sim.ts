/**
 * The simulator: a network in memory with a clock of its own and a seed. It runs anywhere, the browser included, opens
 * no port and never sleeps: a test of a minute takes a millisecond, and gives the same result each time.
 *
 * @module
 */

import { show } from "../core/checks.ts";
import { type Names, readOptions } from "../core/names.ts";
import type { Runtime } from "../core/runtime.ts";
import { SimHostRuntime } from "./sim/host.ts";
import { Network } from "./sim/network.ts";

/** What goes wrong in a simulated network. The seed decides when. Everything is off by default. */
export interface SimFaults {
  /** The longest time, in milliseconds, that is added to the latency; the order within a connection stays. */
  jitterMs?: number | undefined;
  /** The probability, 0 to 1, that an attempt to connect is refused (`ECONNREFUSED`). */
  connectRefused?: number | undefined;
  /** The probability, 0 to 1, of each segment sent that both ends get `ECONNRESET` in its place. */
  connectionReset?: number | undefined;
  /** The probability, 0 to 1, that a segment is cut at some place, so that it arrives in pieces. */
  segmentCut?: number | undefined;
  /** The probability, 0 to 1, that a datagram is lost. */
  datagramLost?: number | undefined;
}

/** What {@linkcode simRuntime} takes. */
export interface SimOptions {
  /** Where the dice begin; the same seed gives exactly the same run. By default 0. */
  seed?: number | undefined;
  /** How long everything is on its way, in milliseconds. By default 1. */
  latencyMs?: number | undefined;
  /** What goes wrong. By default nothing. */
  faults?: SimFaults | undefined;
  /**
   * How many callbacks one `advance()` or `run()` may run before it gives up with `SIM_LIVELOCK`: a repeating timer
   * would else keep `run()` going for ever. By default 10,000,000.
   */
  maxSteps?: number | undefined;
}

const SIM_OPTIONS: Names<SimOptions> = { seed: true, latencyMs: true, faults: true, maxSteps: true };
const SIM_FAULTS: Names<SimFaults> = {
  jitterMs: true,
  connectRefused: true,
  connectionReset: true,
  segmentCut: true,
  datagramLost: true,
};

/** One host of a simulated network. */
export interface SimHost extends Runtime {
  /** Its addresses, without those of the loopback: `10.0.0.2`. The first is what its name resolves to. */
  readonly addresses: readonly string[];
  /** Its files, by path: what a `FileSegment` is opened from. The map is the caller's to fill. */
  readonly files: Map<string, Uint8Array>;
  /**
   * Its directories, in which a unix socket can be bound: at first the usual ones, such as `/run`, `/tmp` and `/var/lib`.
   * The set is the caller's to change. The directories of `files` and the working directory are there, too.
   */
  readonly directories: Set<string>;
  /**
   * How many handles it can have open, as `ulimit -n` says on a real host; Infinity at first. With as many, accepting,
   * connecting and listening fail with `EMFILE`; connections that could not be accepted wait.
   */
  handleLimit: number;
  /**
   * Removes a file, or the file of a unix socket, as another process may do. Who listens there is not reached by it any
   * more, and the path can be bound anew.
   *
   * @param path Its path
   */
  unlink(path: string): void;
  /**
   * Raises a signal on this host. Its handlers run in the next `advance()` or `run()`; without one nothing happens.
   *
   * @param name The signal: `SIGTERM`
   * @throws {EventError} `EV_UNSUPPORTED` for what is no signal, or is one that can't be caught
   */
  raise(name: string): void;
}

/**
 * A simulated network, seen from its main host, `127.0.0.1`. Time passes in {@linkcode SimRuntime.advance} and
 * {@linkcode SimRuntime.run} only.
 *
 * After each callback, and for longer before the clock moves, both wait until the promises of the code under test have
 * had their turns: about a hundred turns of the microtask queue in which nobody calls the simulator. What waits for
 * something outside, such as a timer or a file of the host, is not waited for.
 */
export interface SimRuntime extends SimHost {
  /** How many things are scheduled: what is on its way, timers, deferred functions. */
  readonly pending: number;
  /**
   * Runs all that is due in the next `ms` milliseconds, and leaves the clock at their end. What a callback throws
   * rejects the promise; the rest stays scheduled for the next call.
   *
   * @param ms How far the clock moves, in virtual milliseconds, 0 or more
   * @throws {RangeError} When it is not a finite number, 0 or more
   * @throws {EventError} `EV_BUSY` while another `advance()` or `run()` is in progress; `SIM_LIVELOCK` after too many
   * steps
   */
  advance(ms: number): Promise<void>;
  /**
   * Moves the clock on until a promise settles, and gives what it gives. A promise that has settled moves nothing.
   *
   * @param promise What to wait for
   * @returns What the promise gives
   * @throws {EventError} `SIM_DEADLOCK` when nothing is scheduled that could settle it; `EV_BUSY` while another
   * `advance()` or `run()` is in progress; `SIM_LIVELOCK` after too many steps
   */
  run<T>(promise: Promise<T>): Promise<T>;
  /**
   * Gives another host of the network, with addresses, ports, paths, signals and files of its own and the same clock.
   * It is made when it is named for the first time, with the next address from `10.0.0.2` on. Its name resolves to
   * that address on every host. `127.0.0.1` is a host's own where the host listens on the port, and else the main one.
   *
   * @param name A host name, or a numeric address that the host is to have
   * @returns The host
   */
  host(name: string): SimHost;
}

/**
 * Makes a simulated network.
 *
 * Connections have what TCP has: a handshake, segments of up to 16 KiB, windows of 64 KiB that open in steps of 16 KiB,
 * half-close, resets that discard what is in flight.
 *
 * TLS is a stand-in without cryptography, for tests of what follows from a handshake. A certificate is a text with the
 * names that it is for and who has signed it (`cert: "localhost signed by our CA"`), an authority is its name
 * (`ca: "our CA"`), a key is any text.
 *
 * @param options Seed, latency and faults
 * @returns The main host of the network, `127.0.0.1`
 * @throws {RangeError} When an option is out of range
 *
 * @example
 * ```ts
 * import { simRuntime } from "trivent";
 *
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
  const { seed = 0, latencyMs = 1, maxSteps = 10_000_000, faults = {} } = readOptions(doing, options, SIM_OPTIONS);
  const { jitterMs = 0, connectRefused = 0, connectionReset = 0, segmentCut = 0, datagramLost = 0 } = readOptions(
    doing,
    faults,
    SIM_FAULTS,
    "faults",
  );
  check("seed", seed, -Infinity, Infinity);
  check("latencyMs", latencyMs, 0, Infinity);
  check("maxSteps", maxSteps, 1, Infinity);
  check("faults.jitterMs", jitterMs, 0, Infinity);
  check("faults.connectRefused", connectRefused, 0, 1);
  check("faults.connectionReset", connectionReset, 0, 1);
  check("faults.segmentCut", segmentCut, 0, 1);
  check("faults.datagramLost", datagramLost, 0, 1);
  const all = { jitterMs, connectRefused, connectionReset, segmentCut, datagramLost };
  const network = new Network(
    { seed, latencyMs, maxSteps, faults: all },
    (made, addresses) => new MainHost(made, addresses),
  );
  return network.main as MainHost;
}

class MainHost extends SimHostRuntime implements SimRuntime {
  get pending(): number {
    return this.network.scheduler.pending;
  }

  advance(ms: number): Promise<void> {
    return this.network.scheduler.advance(ms);
  }

  run<T>(promise: Promise<T>): Promise<T> {
    return this.network.scheduler.run(promise);
  }

  host(name: string): SimHost {
    return this.network.host(name);
  }
}

function check(name: string, value: number, least: number, most: number): void {
  if (Number.isFinite(value) && value >= least && value <= most) return;
  const range = most === Infinity ? (least === -Infinity ? "" : `, ${least} or more`) : `, ${least} to ${most}`;
  throw new RangeError(`Cannot make a simulator: ${name} is a finite number${range}: received ${show(value)}`);
}
