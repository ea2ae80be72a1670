/** Watchers: callbacks around each poll of a base, in the order of their registration. */

import type { Loop } from "./loop.ts";

/** A registered watcher; what `EventBase.watchPrepare()` and `watchCheck()` give. libevent: `struct evwatch`. */
export interface Watcher {
  /** Takes the watcher off; also from inside a watcher, itself included. libevent: `evwatch_free`. */
  free(): void;
}

/**
 * Runs just before the base waits. `timeoutMs` is how long it may wait, 0 not at all, `undefined` for ever.
 *
 * libevent: `evwatch_prepare_cb`, `evwatch_prepare_get_timeout`.
 */
export type PrepareCallback = (watcher: Watcher, timeoutMs: number | undefined) => void;

/** Runs just after the base has waited, before any event's callback. libevent: `evwatch_check_cb`. */
export type CheckCallback = (watcher: Watcher) => void;

class Entry implements Watcher {
  freed = false;
  readonly #list: Watchers;
  readonly callback: PrepareCallback;

  constructor(list: Watchers, callback: PrepareCallback) {
    this.#list = list;
    this.callback = callback;
  }

  free(): void {
    if (this.freed) return;
    this.freed = true;
    this.#list.remove(this);
  }
}

/** The watchers of one kind. */
export class Watchers {
  #entries: Entry[] = [];

  /** How many there are. */
  get size(): number {
    return this.#entries.length;
  }

  /** Registers a callback behind the others. */
  add(callback: PrepareCallback): Watcher {
    const entry = new Entry(this, callback);
    this.#entries = [...this.#entries, entry];
    return entry;
  }

  /** Takes one out. The array is replaced, so that a run that is under way keeps its own. */
  remove(entry: object): void {
    this.#entries = this.#entries.filter((other) => other !== entry);
  }

  /** Calls them all, but those that have been freed meanwhile. */
  run(loop: Loop, timeoutMs: number | undefined): void {
    for (const entry of this.#entries) {
      if (entry.freed) continue;
      loop.forgetClock();
      entry.callback(entry, timeoutMs);
    }
  }

  /** Frees them all. */
  clear(): void {
    for (const entry of this.#entries) entry.freed = true;
    this.#entries = [];
  }
}
