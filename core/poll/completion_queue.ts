/** The queue of a completion port. */

import { EventError } from "../errors.ts";
import type { Runtime } from "../runtime.ts";
import { type WaitOptions, WaitQueue } from "./wait.ts";

/** The queue of a completion port: the completions, and the waiters. */
export class CompletionQueue<Item> {
  closed = false;
  private readonly waiters: WaitQueue;
  private queue: Item[] = [];

  constructor(runtime: Runtime) {
    this.waiters = new WaitQueue(runtime);
  }

  push(completion: Item): void {
    if (this.closed) return;
    this.queue.push(completion);
    this.waiters.wake();
  }

  wait(timeoutMs: number | undefined, options: WaitOptions): Promise<Item | null> {
    return this.waiters.wait<Item | null>(() => this.queue.shift(), () => null, timeoutMs, options.signal);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.queue = [];
    this.waiters.fail(new EventError("Cannot wait for a port: it was closed", { code: "ECANCELED" }));
  }
}
