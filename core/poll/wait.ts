/**
 * Waiting without a loop, for `select()`, `Poller` and `CompletionPort`. A wait ends when something
 * is ready, its timeout has passed, it is aborted, or its owner is closed. It always ends after a
 * poll of the runtime, so that a program that waits in a loop does not stop the runtime.
 */

import { checkDuration, checkSignal } from "../checks.ts";
import type { EventError } from "../errors.ts";
import { atDeadline } from "../loop/deadline.ts";
import { type Names, readOptions } from "../names.ts";
import type { AbortSignalLike, Runtime } from "../runtime.ts";

/** Options of a wait. */
export interface WaitOptions {
  /** Aborting it rejects the wait with the signal's reason. */
  signal?: AbortSignalLike | undefined;
}

const WAIT_OPTIONS: Names<WaitOptions> = { signal: true };

/** One caller that waits. */
interface Waiter {
  /** Takes what is ready and ends the wait; false if nothing is ready. */
  take(): boolean;
  /** Ends the wait with nothing. */
  expire(): void;
  /** Ends the wait with an error. */
  fail(reason: unknown): void;
  /** Cancels its deadline. */
  cancel: (() => void) | null;
}

/** Callers that wait for the same thing, served in their order. */
export class WaitQueue {
  private readonly runtime: Runtime;
  private readonly served: (() => void) | undefined;
  private readonly waiters: Waiter[] = [];
  private waking = false;
  private readonly wakeBound: () => void = () => {
    this.waking = false;
    this.serve();
  };

  /**
   * Makes a queue.
   *
   * @param runtime The runtime
   * @param served Called when all waiters that can be served together have been served. An event of one may then go to
   * the next
   */
  constructor(runtime: Runtime, served?: () => void) {
    this.runtime = runtime;
    this.served = served;
  }

  /**
   * Waits.
   *
   * @param take Takes what is ready; undefined if nothing is
   * @param empty The result after the timeout
   * @param timeoutMs 0 does not wait, undefined waits for ever
   * @param signal Ends the wait
   */
  wait<T>(
    take: () => T | undefined,
    empty: () => T,
    timeoutMs: number | undefined,
    signal: AbortSignalLike | undefined,
  ): Promise<T> {
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        waiter.cancel?.();
        signal?.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        if (this.remove(waiter)) waiter.fail(signal?.reason);
      };
      const waiter: Waiter = {
        take() {
          const result = take();
          if (result === undefined) return false;
          settle();
          resolve(result);
          return true;
        },
        expire() {
          settle();
          resolve(empty());
        },
        fail(reason) {
          settle();
          reject(reason);
        },
        cancel: null,
      };
      signal?.addEventListener("abort", abort);
      this.waiters.push(waiter);
      if (timeoutMs === 0) return this.runtime.defer(() => this.due(waiter));
      if (timeoutMs !== undefined) this.arm(waiter, this.runtime.now() + timeoutMs);
      this.wake();
    });
  }

  /** Something may be ready. The waiters check after the runtime's poll. */
  wake(): void {
    if (this.waking || this.waiters.length === 0) return;
    this.waking = true;
    this.runtime.defer(this.wakeBound);
  }

  /** Ends all waits with an error. */
  fail(error: EventError): void {
    for (const waiter of this.waiters.splice(0)) waiter.fail(error);
  }

  private serve(): void {
    while (this.waiters[0]?.take() === true) this.waiters.shift();
    this.served?.();
  }

  /**
   * The timeout of a waiter has passed. Earlier waiters are served first, then this one if
   * something is ready.
   */
  private due(waiter: Waiter): void {
    if (!this.waiters.includes(waiter)) return;
    this.serve();
    if (this.remove(waiter)) waiter.expire();
  }

  private remove(waiter: Waiter): boolean {
    const index = this.waiters.indexOf(waiter);
    if (index >= 0) this.waiters.splice(index, 1);
    return index >= 0;
  }

  private arm(waiter: Waiter, deadline: number): void {
    waiter.cancel = atDeadline(this.runtime, deadline, () => {
      waiter.cancel = null;
      this.due(waiter);
    });
  }
}

/** Reads a wait of the public API: its timeout in milliseconds, 0 not to wait, undefined to wait for ever, and its options. */
export function checkWait(doing: string, timeoutMs: number | undefined, given: WaitOptions): WaitOptions {
  const options = readOptions(doing, given, WAIT_OPTIONS);
  checkSignal(doing, options.signal);
  if (timeoutMs !== undefined) checkDuration(doing, "timeoutMs", timeoutMs);
  return options;
}
