/**
 * Closed connections that wait for their peer. Leaving at once could destroy what the peer has not read: a host answers
 * bytes that nobody will read with a reset. Waiting for ever would let a silent peer hold a connection that nobody has.
 */

import { afterPoll } from "../loop/after_poll.ts";
import type { Runtime, TimerToken } from "../runtime.ts";

/** How long a closed connection waits for its peer to finish, once all was sent. */
export const LINGER_MS = 5000;
/** How long a closed connection whose peer does not take what was sent is kept. */
export const STALL_MS = 60_000;

/** What waits: a closed connection. */
export interface Lingering {
  /** It has waited for {@linkcode LINGER_MS}. */
  onLingered(): void;
  /** It has waited for {@linkcode STALL_MS}. */
  onStalled(): void;
}

/** Connections that wait equally long, in the order in which they began: one timer serves them all. */
class Queue {
  readonly #runtime: Runtime;
  readonly #ms: number;
  readonly #act: (key: Lingering) => void;
  readonly #deadlines: Map<Lingering, number> = new Map();
  #timer: TimerToken | null = null;
  readonly #due = (): void => {
    this.#timer = null;
    const now = this.#runtime.now();
    // What a peer has done in time is heard of first.
    afterPoll(this.#runtime, () => this.#endAll(now));
  };

  #endAll(now: number): void {
    for (const [key, deadline] of this.#deadlines) {
      if (deadline > now) break;
      this.#deadlines.delete(key);
      this.#act(key);
    }
    this.#arm();
  }

  constructor(runtime: Runtime, ms: number, act: (key: Lingering) => void) {
    this.#runtime = runtime;
    this.#ms = ms;
    this.#act = act;
  }

  add(key: Lingering): void {
    this.#deadlines.delete(key);
    this.#deadlines.set(key, this.#runtime.now() + this.#ms);
    this.#arm();
  }

  delete(key: Lingering): void {
    if (!this.#deadlines.delete(key) || this.#deadlines.size > 0 || this.#timer === null) return;
    this.#runtime.clearTimer(this.#timer);
    this.#timer = null;
  }

  #arm(): void {
    if (this.#timer !== null) return;
    for (const deadline of this.#deadlines.values()) {
      this.#timer = this.#runtime.setTimer(deadline, this.#due, true);
      return;
    }
  }
}

/** The closed connections of a runtime. */
interface Queues {
  readonly lingering: Queue;
  readonly stalled: Queue;
}

const queues: WeakMap<Runtime, Queues> = new WeakMap();

function queuesOf(runtime: Runtime): Queues {
  let both = queues.get(runtime);
  if (both === undefined) {
    both = {
      lingering: new Queue(runtime, LINGER_MS, (key) => key.onLingered()),
      stalled: new Queue(runtime, STALL_MS, (key) => key.onStalled()),
    };
    queues.set(runtime, both);
  }
  return both;
}

/** Begins the wait for a peer to finish. */
export function awaitPeer(runtime: Runtime, key: Lingering): void {
  const { lingering, stalled } = queuesOf(runtime);
  stalled.delete(key);
  lingering.add(key);
}

/** Begins the wait for a peer to take what was sent, or begins it anew. */
export function awaitProgress(runtime: Runtime, key: Lingering): void {
  const { lingering, stalled } = queuesOf(runtime);
  lingering.delete(key);
  stalled.add(key);
}

/** Ends every wait. */
export function endWaits(runtime: Runtime, key: Lingering): void {
  const both = queues.get(runtime);
  both?.lingering.delete(key);
  both?.stalled.delete(key);
}
