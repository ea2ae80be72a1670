/** The signals of a base: one handler of the runtime for each name, however many events there are. */

import { EV_SIGNAL } from "../flags.ts";
import type { Loop } from "./loop.ts";
import type { LoopEvent } from "./loop_event.ts";

interface Watched {
  events: LoopEvent[];
  stop: () => void;
}

/** The events on signals of one loop. */
export class Signals {
  /** Whether a raised signal has not been reported. The loop reads it in each turn, so it is a field. */
  waiting = false;
  private readonly loop: Loop;
  private readonly watched: Map<string, Watched> = new Map();
  /** How often each was raised without being reported. */
  private raised: Map<string, number> = new Map();

  constructor(loop: Loop) {
    this.loop = loop;
  }

  /** How many signals are watched. */
  get size(): number {
    return this.watched.size;
  }

  /** Calls `fn` with each event. */
  forEach(fn: (event: LoopEvent) => void): void {
    for (const { events } of this.watched.values()) events.forEach(fn);
  }

  /** Adds an event that watches its signal. It throws the runtime's error for a signal that cannot be caught. */
  attach(event: LoopEvent): void {
    const name = event.source as string;
    const watched = this.watched.get(name);
    if (watched !== undefined) {
      watched.events.push(event);
      return;
    }
    const stop = this.loop.runtime.onSignal(name, () => this.raise(name));
    this.watched.set(name, { events: [event], stop });
  }

  /** Removes an event. With the last one, the runtime's handler is removed. */
  detach(event: LoopEvent): void {
    const name = event.source as string;
    const watched = this.watched.get(name);
    if (watched === undefined) return;
    watched.events = watched.events.filter((other) => other !== event);
    if (watched.events.length > 0) return;
    this.watched.delete(name);
    watched.stop();
  }

  /** Activates the events of raised signals. */
  activate(): void {
    const raised = this.raised;
    this.raised = new Map();
    this.waiting = false;
    for (const [name, times] of raised) {
      for (const event of this.watched.get(name)?.events ?? []) {
        event.madeExtra.raised += times;
        this.loop.activate(event, EV_SIGNAL);
      }
    }
  }

  private raise(name: string): void {
    this.raised.set(name, (this.raised.get(name) ?? 0) + 1);
    this.waiting = true;
    this.loop.onSignal();
  }
}
