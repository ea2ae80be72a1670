/**
 * Pauses accepting when the process or the system has run out of descriptors or memory. The connection stays in the
 * kernel's queue. Trying again at once would fail again and use a whole core; never trying again would leave it there
 * for ever.
 */

import type { Runtime, TimerToken } from "../runtime.ts";

/** Failures that last until something is closed, and are not about a connection. */
const EXHAUSTED: readonly string[] = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"];
const FIRST_WAIT_MS = 10;
const LONGEST_WAIT_MS = 1000;

/** Whether an error says that descriptors or memory have run out. */
export function isExhausted(code: string): boolean {
  return EXHAUSTED.includes(code);
}

/** The waits of one listener. An episode begins with a failure and ends with a connection. */
export class AcceptBackoff {
  private readonly runtime: Runtime;
  private readonly resume: () => void;
  private waitMs = 0;
  private timer: TimerToken | null = null;

  /**
   * @param runtime The runtime
   * @param resume Called when accepting should be tried again
   */
  constructor(runtime: Runtime, resume: () => void) {
    this.runtime = runtime;
    this.resume = resume;
  }

  /** Whether nothing is to be accepted now. */
  get waiting(): boolean {
    return this.timer !== null;
  }

  /**
   * Accepting has failed: waits, each time of an episode twice as long. @returns Whether it is the first failure of its
   * episode
   */
  failed(): boolean {
    const first = this.waitMs === 0;
    if (this.timer !== null) return first;
    this.waitMs = first ? FIRST_WAIT_MS : Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
    // The listener decides whether the process stays alive.
    this.timer = this.runtime.setTimer(this.runtime.now() + this.waitMs, () => {
      this.timer = null;
      this.resume();
    }, true);
    return first;
  }

  /** A connection was accepted: the episode is over. */
  succeeded(): void {
    this.waitMs = 0;
  }

  /** The listener is closed. */
  stop(): void {
    if (this.timer !== null) this.runtime.clearTimer(this.timer);
    this.timer = null;
  }
}
