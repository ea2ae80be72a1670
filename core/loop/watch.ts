/** Watchers: callbacks around each poll of a base, in the order of their registration. */

import type { Loop } from "./loop.ts";

/** A registered watcher. `EventBase.watchPrepare()` and `watchCheck()` make it. libevent: `struct evwatch`. */
export interface Watcher {
  /** Removes the watcher. It may be called inside a watcher, also on the watcher itself. libevent: `evwatch_free`. */
  free(): void;
}

/**
 * The callback before each wait of the base. `timeoutMs` is the longest wait: 0 for none, `undefined` for ever.
 *
 * libevent: `evwatch_prepare_cb`, `evwatch_prepare_get_timeout`.
 */
export type PrepareCallback = (watcher: Watcher, timeoutMs: number | undefined) => void;

/** The callback after each wait of the base, before the callbacks of events. libevent: `evwatch_check_cb`. */
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
  /** The number of watchers. The loop reads it in each turn, so it is a field. */
  size = 0;
  private entries: Entry[] = [];

  /** Adds a callback after the others. */
  add(callback: PrepareCallback): Watcher {
    const entry = new Entry(this, callback);
    this.entries = [...this.entries, entry];
    this.size = this.entries.length;
    return entry;
  }

  /** Removes a watcher. The array is replaced, so a run keeps the array that it began with. */
  remove(entry: object): void {
    this.entries = this.entries.filter((other) => other !== entry);
    this.size = this.entries.length;
  }

  /** Calls all watchers, except those that were freed meanwhile. */
  run(loop: Loop, timeoutMs: number | undefined): void {
    for (const entry of this.entries) {
      if (entry.freed) continue;
      loop.forgetClock();
      entry.callback(entry, timeoutMs);
    }
  }

  /** Frees them all. */
  clear(): void {
    for (const entry of this.entries) entry.freed = true;
    this.entries = [];
    this.size = 0;
  }
}
