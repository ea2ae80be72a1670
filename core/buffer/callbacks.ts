/**
 * Change callbacks of a buffer, immediate and deferred.
 */

import { wrongType } from "../checks.ts";
import { type Chain, rareOf } from "./chain.ts";
import type { EvBuffer } from "./evbuffer.ts";

/** A change of a buffer. libevent: `struct evbuffer_cb_info`. */
export interface BufferChange {
  /** The length before, in bytes. libevent: `orig_size`. */
  readonly origSize: number;
  /** The number of bytes that were added. libevent: `n_added`. */
  readonly added: number;
  /** The number of bytes that were deleted. libevent: `n_deleted`. */
  readonly deleted: number;
}

/** The callback for changes of a buffer. libevent: `evbuffer_cb_func`. */
export type BufferCallback = (buffer: EvBuffer, info: BufferChange) => void;

/** One registered callback. libevent: `struct evbuffer_cb_entry`. */
export interface CallbackEntry {
  /** Whether the callback is called. Changes while it is false are never reported. libevent: `EVBUFFER_CB_ENABLED`. */
  enabled: boolean;
  /** Removes the callback. A second call does nothing. libevent: `evbuffer_remove_cb_entry`. */
  remove(): void;
}

/**
 * Makes an object that runs `run` later, once each time that it is scheduled. It throws a TypeError for a value that is
 * not a base.
 */
export type Defer = (base: object, run: () => void) => Scheduled;

/** Set by the first EventBase, because a buffer must not depend on the loop. */
let deferOn: Defer = refuseBase;

function refuseBase(base: unknown): never {
  throw wrongType("use a base", "not an EventBase", base);
}

/** For `EventBase`: sets how the callbacks of buffers are deferred. */
export function setDefer(defer: Defer): void {
  deferOn = defer;
}

/** A callback that can be scheduled. */
interface Scheduled {
  schedule(): void;
  cancel(): void;
}

/** A report that the loop will make. */
interface Deferral {
  readonly deferred: Scheduled;
  added: number;
  deleted: number;
}

class Entry implements CallbackEntry {
  enabled = true;
  removed = false;
  readonly fn: BufferCallback;
  readonly #callbacks: Callbacks;

  constructor(fn: BufferCallback, callbacks: Callbacks) {
    this.fn = fn;
    this.#callbacks = callbacks;
  }

  remove(): void {
    if (this.removed) return;
    this.removed = true;
    this.#callbacks.entries = this.#callbacks.entries.filter((entry) => entry !== this);
  }
}

/** The callbacks of one buffer, and whether the loop runs them. */
export class Callbacks {
  /** Oldest first. The array is replaced, never modified, so a run keeps the array that it began with. */
  entries: readonly Entry[] = [];
  deferral: Deferral | null = null;
}

function callbacksOf(chain: Chain): Callbacks {
  return rareOf(chain).callbacks ??= new Callbacks();
}

/** Registers a callback. */
export function addCallback(chain: Chain, fn: BufferCallback): CallbackEntry {
  const callbacks = callbacksOf(chain);
  const entry = new Entry(fn, callbacks);
  callbacks.entries = [...callbacks.entries, entry];
  return entry;
}

/** Whether anybody would be called now or later. */
export function hasCallbacks(chain: Chain): boolean {
  const callbacks = chain.rare === null ? null : chain.rare.callbacks;
  return callbacks !== null && callbacks.entries.length > 0;
}

/** From now on the loop of `base` calls the callbacks, once for all changes of a pass. */
export function defer(chain: Chain, base: object): void {
  const callbacks = callbacksOf(chain);
  const waiting = callbacks.deferral;
  const deferred = deferOn(base, () => runDeferred(chain));
  const deferral: Deferral = { deferred, added: waiting?.added ?? 0, deleted: waiting?.deleted ?? 0 };
  waiting?.deferred.cancel();
  callbacks.deferral = deferral;
  if (deferral.added + deferral.deleted > 0) deferred.schedule();
}

/** Nothing runs any more. */
export function cancelCallbacks(chain: Chain): void {
  const callbacks = chain.rare === null ? null : chain.rare.callbacks;
  if (callbacks === null) return;
  callbacks.deferral?.deferred.cancel();
  callbacks.deferral = null;
  for (const entry of callbacks.entries) entry.removed = true;
  callbacks.entries = [];
}

function runDeferred(chain: Chain): void {
  const callbacks = chain.rare === null ? null : chain.rare.callbacks;
  if (callbacks === null || callbacks.deferral === null) return;
  const { added, deleted } = callbacks.deferral;
  callbacks.deferral.added = 0;
  callbacks.deferral.deleted = 0;
  try {
    run(chain, callbacks, chain.length + deleted - added, added, deleted);
  } catch (error) {
    if (chain.owner === null || !chain.owner.caught(error)) throw error;
  }
}

/** Reports a change to the callbacks, or notes it for the loop. */
export function runCallbacks(chain: Chain, origSize: number, added: number, deleted: number): void {
  const callbacks = (chain.rare as NonNullable<Chain["rare"]>).callbacks as Callbacks;
  if (callbacks.entries.length === 0) return;
  if (callbacks.deferral === null) {
    run(chain, callbacks, origSize, added, deleted);
    return;
  }
  callbacks.deferral.added += added;
  callbacks.deferral.deleted += deleted;
  callbacks.deferral.deferred.schedule();
}

/**
 * Calls the newest first, as in C. All are called even if one throws, because the change has happened. Then the first
 * error is thrown.
 */
function run(chain: Chain, callbacks: Callbacks, origSize: number, added: number, deleted: number): void {
  const info: BufferChange = { origSize, added, deleted };
  const entries = callbacks.entries;
  let failed = false;
  let failure: unknown;
  for (let i = entries.length - 1; i >= 0; i--) {
    const entry = entries[i] as Entry;
    if (entry.removed || !entry.enabled) continue;
    try {
      entry.fn(chain.buffer, info);
    } catch (error) {
      if (!failed) failure = error;
      failed = true;
    }
  }
  if (failed) throw failure;
}
