/** A server that ends gracefully when its process is told to. */

import { checkDuration, checkText, hasMethod, isA, show } from "../checks.ts";
import { type Names, readList, readOptions } from "../names.ts";
import { type EventBase, loopOf } from "../api/event_base.ts";
import { Server, serverCoreOf } from "./server.ts";

/** What {@linkcode stopOnSignals} can stop: a `Server`, or an object of your own that has a base and can be closed. */
export interface Stoppable {
  /** The base on which it runs. */
  readonly base: EventBase;
  /** Ends it. */
  close(options?: { graceMs?: number | undefined }): unknown;
}

/** Options of {@linkcode stopOnSignals}. */
export interface StopOptions {
  /** The signals. @default {["SIGINT", "SIGTERM"]} */
  signals?: readonly string[] | undefined;
  /** How long connections may go on, in milliseconds; by default as long as `close()` gives them. */
  graceMs?: number | undefined;
}

const STOP_OPTIONS: Names<StopOptions> = { signals: true, graceMs: true };

/**
 * Closes a server gracefully at Ctrl-C or `kill`: the first signal calls `close({ graceMs })`, another one calls
 * `close({ graceMs: 0 })`, which cuts what is left.
 *
 * While it waits for signals the host does not end the process at them. Once the server has closed, whoever closed it,
 * the signals have their usual effect again. They never keep the process alive: it ends when nothing else is open.
 *
 * What `close()` rejects with is reported by the host.
 *
 * @param server The server, or something else that has a `base` and a `close()`
 * @param options Which signals, and for how long connections may go on
 * @returns Stops waiting for signals. A close that has begun goes on
 * @throws {TypeError} When an argument is of the wrong type
 * @throws {RangeError} When `graceMs` is negative, or no signal is named
 * @throws {EventError} `EV_UNSUPPORTED` when the host cannot catch a signal; none is then caught
 *
 * @example
 * ```ts ignore
 * import { serve, stopOnSignals } from "trivent";
 *
 * const server = await serve({ port: 7 }, { read: (bev) => bev.output.addBuffer(bev.input) });
 * stopOnSignals(server, { graceMs: 5_000 });
 * ```
 */
export function stopOnSignals(server: Stoppable, options: StopOptions = {}): () => void {
  const doing = "stop on signals";
  const { signals = ["SIGINT", "SIGTERM"], graceMs } = readOptions(doing, options, STOP_OPTIONS);
  const names = readList(doing, "signals", signals);
  if (names.length === 0) throw new RangeError(`Cannot ${doing}: no signal is named`);
  for (const name of names) checkText(doing, "a signal's name", name);
  if (graceMs !== undefined && graceMs !== Infinity) checkDuration(doing, "graceMs", graceMs);
  const core = serverCoreOf(server);
  if (!hasMethod(server, "close") || (core === undefined && isA(server, Server))) {
    throw new TypeError(`Cannot ${doing}: not a Server, nor an object with close(): received ${show(server)}`);
  }
  const { runtime } = loopOf(server.base);
  const undo: (() => void)[] = [];
  const stop = (): void => {
    for (const fn of undo.splice(0)) fn();
  };
  let told = false;
  const onSignal = async (): Promise<void> => {
    const grace = told ? { graceMs: 0 } : graceMs === undefined ? {} : { graceMs };
    told = true;
    try {
      await server.close(grace);
      stop();
    } catch (error) {
      stop();
      runtime.report(error);
    }
  };
  try {
    for (const name of new Set(names)) undo.push(runtime.onSignal(name, () => void onSignal()));
  } catch (error) {
    stop();
    throw error;
  }
  if (core !== undefined) undo.push(core.whenClosed(stop));
  return stop;
}
