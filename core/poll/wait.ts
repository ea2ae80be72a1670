/**
 * Waiting without a loop: what `select()`, `Poller` and `CompletionPort` have in common. A wait ends when something is
 * there, when its time is over, when it is aborted, or when its owner is closed; always behind a poll of the host's, so
 * that a program that waits in a circle does not keep the host from its work.
 */

import { checkDuration, checkSignal } from "../checks.ts";
import type { EventError } from "../errors.ts";
import { atDeadline } from "../loop/deadline.ts";
import { type Names, readOptions } from "../names.ts";
import type { AbortSignalLike, Runtime } from "../runtime.ts";

/** How to wait, where that can be chosen. */
export interface WaitOptions {
  /** Aborting it ends the wait: it rejects with the signal's reason. */
  signal?: AbortSignalLike | undefined;
}

const WAIT_OPTIONS: Names<WaitOptions> = { signal: true };

/** One caller that waits. */
interface Waiter {
  /** Takes what is there and ends the wait; false when there is nothing. */
  take(): boolean;
  /** Ends the wait with nothing. */
  expire(): void;
  /** Ends the wait with an error. */
  fail(reason: unknown): void;
  /** Takes back its deadline. */
  cancel: (() => void) | null;
}

/** Callers that wait for the same thing, served in their order. */
export class WaitQueue {
  readonly #runtime: Runtime;
  readonly #served: (() => void) | undefined;
  readonly #waiters: Waiter[] = [];
  #waking = false;
  readonly #wakeBound = (): void => {
    this.#waking = false;
    this.#serve();
  };

  /**
   * Makes a queue.
   *
   * @param runtime The host
   * @param served Called when all who can be served at a time have been: what one was told can then be told to the next
   */
  constructor(runtime: Runtime, served?: () => void) {
    this.#runtime = runtime;
    this.#served = served;
  }

  /**
   * Waits.
   *
   * @param take Takes what is there; undefined when there is nothing
   * @param empty What the wait gives when its time is over
   * @param timeoutMs 0 looks once, undefined waits for ever
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
        if (this.#remove(waiter)) waiter.fail(signal?.reason);
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
      this.#waiters.push(waiter);
      if (timeoutMs === 0) return this.#runtime.defer(() => this.#due(waiter));
      if (timeoutMs !== undefined) this.#arm(waiter, this.#runtime.now() + timeoutMs);
      this.wake();
    });
  }

  /** Something may be there: the waiters look, behind the host's poll. */
  wake(): void {
    if (this.#waking || this.#waiters.length === 0) return;
    this.#waking = true;
    this.#runtime.defer(this.#wakeBound);
  }

  /** Ends all waits with an error. */
  fail(error: EventError): void {
    for (const waiter of this.#waiters.splice(0)) waiter.fail(error);
  }

  #serve(): void {
    while (this.#waiters[0]?.take() === true) this.#waiters.shift();
    this.#served?.();
  }

  /** The time of a waiter is over. Those before it are served first, and then it, if something is there. */
  #due(waiter: Waiter): void {
    if (!this.#waiters.includes(waiter)) return;
    this.#serve();
    if (this.#remove(waiter)) waiter.expire();
  }

  #remove(waiter: Waiter): boolean {
    const index = this.#waiters.indexOf(waiter);
    if (index >= 0) this.#waiters.splice(index, 1);
    return index >= 0;
  }

  #arm(waiter: Waiter, deadline: number): void {
    waiter.cancel = atDeadline(this.#runtime, deadline, () => {
      waiter.cancel = null;
      this.#due(waiter);
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
