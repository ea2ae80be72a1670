/**
 * Closed connections that wait for their peer to finish. Leaving at once could destroy what the peer has not read: a
 * host answers bytes that nobody will read with a reset. One timer serves all the connections of a runtime.
 */

import type { Runtime, TimerToken, TransportBinding } from "../runtime.ts";

/** How long a closed connection waits for its peer. */
export const LINGER_MS = 5000;

interface Waiting {
  readonly binding: TransportBinding;
  readonly deadline: number;
}

const lingers: WeakMap<Runtime, Linger> = new WeakMap();

/** The closed connections of one runtime, the one to give up first in front: the durations are all the same. */
class Linger {
  readonly #runtime: Runtime;
  readonly #waiting: Map<object, Waiting> = new Map();
  #timer: TimerToken | null = null;
  readonly #due = (): void => {
    this.#timer = null;
    const now = this.#runtime.now();
    for (const [key, { binding, deadline }] of this.#waiting) {
      if (deadline > now) break;
      this.#waiting.delete(key);
      binding.release();
    }
    this.#arm();
  };

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  add(key: object, binding: TransportBinding): void {
    this.#waiting.set(key, { binding, deadline: this.#runtime.now() + LINGER_MS });
    this.#arm();
  }

  delete(key: object): void {
    if (!this.#waiting.delete(key) || this.#waiting.size > 0 || this.#timer === null) return;
    this.#runtime.clearTimer(this.#timer);
    this.#timer = null;
  }

  #arm(): void {
    if (this.#timer !== null) return;
    for (const { deadline } of this.#waiting.values()) {
      this.#timer = this.#runtime.setTimer(deadline, this.#due, true);
      return;
    }
  }
}

/** Lets a closed connection go when its peer has not finished in time. */
export function beginLinger(runtime: Runtime, key: object, binding: TransportBinding): void {
  let linger = lingers.get(runtime);
  if (linger === undefined) lingers.set(runtime, linger = new Linger(runtime));
  linger.add(key, binding);
}

/** The host has let go of a connection, lingering or not. */
export function endLinger(runtime: Runtime, key: object): void {
  lingers.get(runtime)?.delete(key);
}
