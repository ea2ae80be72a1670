/** The promises of `drained()`. */

import type { EventError } from "../errors.ts";
import type { AbortSignalLike } from "../runtime.ts";

interface Waiter {
  resolve(): void;
  reject(reason: unknown): void;
}

/** The waiters of one bufferevent. */
export class Drains {
  private waiters: Set<Waiter> = new Set();

  /** The number of waiters. */
  get size(): number {
    return this.waiters.size;
  }

  /**
   * Waits.
   *
   * @param signal Ends the wait with its reason
   * @param onLeft Called when the wait is over, in any case
   */
  wait(signal: AbortSignalLike | undefined, onLeft: () => void): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const abort = (): void => waiter.reject(signal?.reason);
      const leave = (): void => {
        this.waiters.delete(waiter);
        signal?.removeEventListener("abort", abort);
        onLeft();
      };
      const waiter: Waiter = {
        resolve: () => (leave(), resolve()),
        reject: (reason) => (leave(), reject(reason)),
      };
      this.waiters.add(waiter);
      signal?.addEventListener("abort", abort);
    });
  }

  /** The output has drained. */
  resolve(): void {
    for (const waiter of this.waiters) waiter.resolve();
  }

  /** The output will never drain. */
  reject(error: EventError): void {
    for (const waiter of this.waiters) waiter.reject(error);
  }
}
