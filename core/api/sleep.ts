/** `sleep()`: waits for a time. */

import { checkDuration, checkSignal } from "../checks.ts";
import { atDeadline } from "../loop/deadline.ts";
import { type Names, readOptions } from "../names.ts";
import { type AbortSignalLike, defaultRuntime } from "../runtime.ts";
import { type EventBase, loopOf } from "./event_base.ts";

/** Options of {@linkcode sleep}. */
export interface SleepOptions {
  /** Aborting it ends the wait: the promise rejects with the signal's reason. */
  signal?: AbortSignalLike | undefined;
  /** The base whose runtime has the clock. By default the runtime that the program runs on. The loop need not run. */
  base?: EventBase | undefined;
}

const SLEEP_OPTIONS: Names<SleepOptions> = { signal: true, base: true };

/**
 * Waits for a time. On the simulator it is virtual time, so that a test of an hour takes a millisecond.
 *
 * It needs no loop, and keeps the process alive until it has settled.
 *
 * libevent: none.
 *
 * @param ms How long, in milliseconds; 0 waits for one poll of the runtime
 * @param options A signal that ends the wait, and the base whose clock counts
 * @returns A promise that is fulfilled when the time is over. It rejects with the signal's reason if the signal is
 * aborted before
 * @throws {TypeError} When an argument is of the wrong type
 * @throws {RangeError} When `ms` is negative or not finite
 * @throws {EventError} `EV_UNSUPPORTED` when no base is given and no runtime was set
 *
 * @example
 * ```ts
 * import { sleep } from "trivent";
 * await sleep(20);
 * try {
 *   await sleep(60_000, { signal: AbortSignal.timeout(20) });
 * } catch (error) {
 *   console.log((error as Error).name); // TimeoutError
 * }
 * ```
 */
export async function sleep(ms: number, options: SleepOptions = {}): Promise<void> {
  const doing = "sleep";
  checkDuration(doing, "the time", ms);
  const { signal, base } = readOptions(doing, options, SLEEP_OPTIONS);
  checkSignal(doing, signal);
  const runtime = base === undefined ? defaultRuntime() : loopOf(base).runtime;
  if (signal?.aborted === true) throw signal.reason;
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => {
      cancel();
      signal?.removeEventListener("abort", abort);
      reject(signal?.reason);
    };
    const cancel = atDeadline(runtime, runtime.now() + ms, () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    });
    signal?.addEventListener("abort", abort);
  });
}
