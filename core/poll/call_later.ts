/**
 * The callbacks of overlapped operations. They run after the runtime's poll, all completions of the poll together.
 * (Deferring each call would cost some runtimes as much as the rest of the operation.)
 */

import type { Runtime } from "../runtime.ts";

/** The callbacks that wait on one runtime. */
class LaterCalls {
  private readonly runtime: Runtime;
  private waiting: (() => void)[] = [];
  private readonly runBound: () => void = () => this.run();

  constructor(runtime: Runtime) {
    this.runtime = runtime;
  }

  push(callback: () => void): void {
    this.waiting.push(callback);
    if (this.waiting.length === 1) this.runtime.defer(this.runBound);
  }

  private run(): void {
    const callbacks = this.waiting;
    this.waiting = [];
    let done = 0;
    try {
      while (done < callbacks.length) callbacks[done++]?.();
    } finally {
      // After an exception of one, the others keep their places.
      if (done < callbacks.length) {
        if (this.waiting.length === 0) this.runtime.defer(this.runBound);
        this.waiting.unshift(...callbacks.slice(done));
      }
    }
  }
}

const all: WeakMap<object, LaterCalls> = new WeakMap();

/** Calls `callback` after the runtime's present poll, in the order of the calls. */
export function callLater(runtime: Runtime, callback: () => void): void {
  const instance = runtime.instance ?? runtime;
  let calls = all.get(instance);
  if (calls === undefined) all.set(instance, calls = new LaterCalls(runtime));
  calls.push(callback);
}
