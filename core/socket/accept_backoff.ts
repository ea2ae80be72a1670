/**
 * What to do when the process or the system has nothing left to accept a connection with. The connection stays where it
 * was, so trying again at once would fail again, and spin; not trying again would leave it there for ever.
 */

import type { Runtime, TimerToken } from "../runtime.ts";

/** Failures that last until something is let go, and say nothing about a connection. */
const EXHAUSTED: readonly string[] = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"];
const FIRST_WAIT_MS = 10;
const LONGEST_WAIT_MS = 1000;

/** Whether an error says that descriptors or memory have run out. */
export function isExhausted(code: string): boolean {
  return EXHAUSTED.includes(code);
}

/** The waits of one listener. An episode begins with a failure and ends with a connection. */
export class AcceptBackoff {
  readonly #runtime: Runtime;
  readonly #resume: () => void;
  #waitMs = 0;
  #timer: TimerToken | null = null;

  /**
   * @param runtime The host
   * @param resume Called when it is time to try again
   */
  constructor(runtime: Runtime, resume: () => void) {
    this.#runtime = runtime;
    this.#resume = resume;
  }

  /** Whether nothing is to be accepted now. */
  get waiting(): boolean {
    return this.#timer !== null;
  }

  /** Accepting has failed: waits, each time of an episode twice as long. @returns Whether it is the first of its episode */
  failed(): boolean {
    const first = this.#waitMs === 0;
    if (this.#timer !== null) return first;
    this.#waitMs = first ? FIRST_WAIT_MS : Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
    // Whether the process goes on is the listener's to say.
    this.#timer = this.#runtime.setTimer(this.#runtime.now() + this.#waitMs, () => {
      this.#timer = null;
      this.#resume();
    }, true);
    return first;
  }

  /** A connection was accepted: the episode is over. */
  succeeded(): void {
    this.#waitMs = 0;
  }

  /** The listener is closed. */
  stop(): void {
    if (this.#timer !== null) this.#runtime.clearTimer(this.#timer);
    this.#timer = null;
  }
}
