/**
 * Closed connections that wait for their peer. Closing at once could destroy bytes that the peer has not read, because
 * the kernel answers unread bytes with a reset. Waiting for ever would let a silent peer hold a connection that nobody
 * uses.
 */

import { afterPoll } from "../loop/after_poll.ts";
import type { Runtime, TimerToken } from "../runtime.ts";

/** How long a closed connection waits for its peer to finish, after all bytes were sent. */
export const LINGER_MS = 5000;
/** How long a closed connection is kept if its peer does not read. */
const STALL_MS = 60_000;

/** A closed connection that waits. */
export interface Lingering {
  /** It has waited for {@linkcode LINGER_MS}. */
  onLingered(): void;
  /** It has waited for {@linkcode STALL_MS}. */
  onStalled(): void;
}

/** Connections that wait equally long, in the order in which they began. One timer serves them all. */
class Queue {
  private readonly runtime: Runtime;
  private readonly ms: number;
  private readonly act: (key: Lingering) => void;
  private readonly deadlines: Map<Lingering, number> = new Map();
  private timer: TimerToken | null = null;
  private readonly due: () => void = () => {
    this.timer = null;
    const now = this.runtime.now();
    // Actions of the peer that came in time are handled first.
    afterPoll(this.runtime, () => this.endAll(now));
  };

  private endAll(now: number): void {
    for (const [key, deadline] of this.deadlines) {
      if (deadline > now) break;
      this.deadlines.delete(key);
      this.act(key);
    }
    this.arm();
  }

  constructor(runtime: Runtime, ms: number, act: (key: Lingering) => void) {
    this.runtime = runtime;
    this.ms = ms;
    this.act = act;
  }

  add(key: Lingering): void {
    this.deadlines.delete(key);
    this.deadlines.set(key, this.runtime.now() + this.ms);
    this.arm();
  }

  delete(key: Lingering): void {
    if (!this.deadlines.delete(key) || this.deadlines.size > 0 || this.timer === null) return;
    this.runtime.clearTimer(this.timer);
    this.timer = null;
  }

  private arm(): void {
    if (this.timer !== null) return;
    for (const deadline of this.deadlines.values()) {
      this.timer = this.runtime.setTimer(deadline, this.due, true);
      return;
    }
  }
}

/** The closed connections of a runtime. */
interface Queues {
  readonly lingering: Queue;
  readonly stalled: Queue;
}

const queues: WeakMap<object, Queues> = new WeakMap();

function queuesOf(runtime: Runtime): Queues {
  const instance = runtime.instance ?? runtime;
  let both = queues.get(instance);
  if (both === undefined) {
    both = {
      lingering: new Queue(runtime, LINGER_MS, (key) => key.onLingered()),
      stalled: new Queue(runtime, STALL_MS, (key) => key.onStalled()),
    };
    queues.set(instance, both);
  }
  return both;
}

/** Begins the wait for a peer to finish. */
export function awaitPeer(runtime: Runtime, key: Lingering): void {
  const { lingering, stalled } = queuesOf(runtime);
  stalled.delete(key);
  lingering.add(key);
}

/** Begins the wait for a peer to take the sent bytes, or begins it anew. */
export function awaitProgress(runtime: Runtime, key: Lingering): void {
  const { lingering, stalled } = queuesOf(runtime);
  lingering.delete(key);
  stalled.add(key);
}

/** Ends every wait. */
export function endWaits(runtime: Runtime, key: Lingering): void {
  const both = queues.get(runtime.instance ?? runtime);
  both?.lingering.delete(key);
  both?.stalled.delete(key);
}
