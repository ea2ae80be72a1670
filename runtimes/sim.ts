/**
 * The simulator: a network in memory with a virtual clock and a seed. It runs anywhere, also in a browser. It opens no
 * port and never sleeps: a test of a minute takes a millisecond, and gives the same result each time.
 *
 * @module
 */

import { show } from "../core/checks.ts";
import { type Names, readOptions } from "../core/names.ts";
import type { Runtime } from "../core/runtime.ts";
import { SimHostRuntime } from "./sim/host.ts";
import { Network } from "./sim/network.ts";

/** Faults of a simulated network. The seed decides when they happen. By default there are none. */
export interface SimFaults {
  /** The longest time, in milliseconds, that is added to the latency. The order within a connection does not change. */
  jitterMs?: number | undefined;
  /** The probability, 0 to 1, that an attempt to connect is refused (`ECONNREFUSED`). */
  connectRefused?: number | undefined;
  /** The probability, 0 to 1, that a segment is lost and both ends get `ECONNRESET`. */
  connectionReset?: number | undefined;
  /** The probability, 0 to 1, that a segment is cut at some place, so that it arrives in pieces. */
  segmentCut?: number | undefined;
  /** The probability, 0 to 1, that a datagram is lost. */
  datagramLost?: number | undefined;
}

/** Options of {@linkcode simRuntime}. */
export interface SimOptions {
  /** The seed. The same seed gives exactly the same run. By default 0. */
  seed?: number | undefined;
  /** The latency of the network, in milliseconds. By default 1. */
  latencyMs?: number | undefined;
  /** The faults. By default none. */
  faults?: SimFaults | undefined;
  /**
   * The largest number of callbacks of one `advance()` or `run()`, after which it rejects with `SIM_LIVELOCK`.
   * Otherwise a repeating timer would keep `run()` going for ever. By default 10,000,000.
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
   * The largest number of open handles, as `ulimit -n` on a real host; Infinity at first. At that number, accepting,
   * connecting and listening fail with `EMFILE`, and connections that cannot be accepted wait.
   */
  handleLimit: number;
  /**
   * Removes a file, or the file of a unix socket, as another process may do. A listener there cannot be reached by it
   * any more, and the path can be bound anew.
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
}

/**
 * A simulated network, seen from its main host, `127.0.0.1`. Time passes only in {@linkcode SimRuntime.advance} and
 * {@linkcode SimRuntime.run}.
 *
 * After each callback, and for longer before the clock moves, both wait for the promises of the code under test: about
 * a hundred turns of the microtask queue in which nobody calls the simulator. They do not wait for anything outside,
 * such as a real timer or a file.
 */
export interface SimRuntime extends SimHost {
  /** The number of scheduled things: segments on their way, timers, deferred functions. */
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
}

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
