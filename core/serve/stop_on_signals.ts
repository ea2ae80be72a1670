/** Ends a server gracefully when its process gets a signal. */

import { checkDuration, checkText, hasMethod, isA, wrongType } from "../checks.ts";
import { type Names, readList, readOptions } from "../names.ts";
import { type EventBase, loopOf } from "../api/event_base.ts";
import { Server, serverCoreOf } from "./server.ts";

/**
 * An argument of {@linkcode stopOnSignals}: a `Server`, or your own object with a base and a
 * `close()`.
 */
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
  /** The time for connections to finish, in milliseconds; by default that of `close()`. */
  graceMs?: number | undefined;
}

const STOP_OPTIONS: Names<StopOptions> = { signals: true, graceMs: true };

/**
 * Closes a server gracefully at Ctrl-C or `kill`. The first signal calls `close({ graceMs })`. Another one calls
 * `close({ graceMs: 0 })`, which resets the rest.
 *
 * While it waits for signals, they do not end the process. When the server has closed, in any way, the signals have
 * their usual effect again. Waiting for signals does not keep the process alive.
 *
 * If `close()` rejects, the runtime reports the error.
 *
 * @param server The server, or another object with a `base` and a `close()`
 * @param options The signals, and the time for connections to finish
 * @returns A function that stops waiting for signals. A close that has begun goes on
 * @throws {TypeError} When an argument is of the wrong type
 * @throws {RangeError} When `graceMs` is negative, or no signal is named
 * @throws {EventError} `EV_UNSUPPORTED` when the runtime cannot catch a signal; none is then caught
 *
 * @example
 * ```ts ignore
 * import { serve, stopOnSignals } from "trivent";
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
    throw wrongType(doing, "not a Server, nor an object with close()", server);
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
