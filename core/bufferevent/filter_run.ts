/** One direction of a filter: two buffers, the user's function between them, and when it is called (rules F1, F2, F7). */

import { show } from "../checks.ts";
import { BEV_ERROR, BEV_FINISHED, BEV_NEED_MORE, BEV_NORMAL, BEV_OK } from "../flags.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import { asDetached } from "../buffer/internal.ts";
import type { EventError } from "../errors.ts";

/**
 * A transformation: takes bytes from the front of `source`, and adds what becomes of them to `destination`.
 *
 * It is called again as long as it says `BEV_OK`, has changed something, and there is more in `source` and room in
 * `destination`; what it does not take stays in `source`. What it keeps to itself must have left with the last call,
 * whose mode is `BEV_FINISHED`: at the end of file, or when the direction is finished. It may be called once more, with
 * an empty source, in the modes `BEV_FLUSH` and `BEV_FINISHED`.
 *
 * `limit` is how many bytes it should add at most, so that a watermark is kept; −1 for no limit. Only the filter can
 * keep to it: one whose pieces are larger may go beyond, and returns `BEV_NEED_MORE` to wait for more room.
 *
 * It returns `BEV_OK` when it has made progress, `BEV_NEED_MORE` when it can't go on with what there is, `BEV_ERROR`
 * when it met bytes that it can't process. It must not be asynchronous.
 *
 * libevent: `bufferevent_filter_cb`.
 */
export interface BufferEventFilter {
  /** Transforms. */
  (source: EvBuffer, destination: EvBuffer, limit: number, mode: number): number;
  /** Why it has said `BEV_ERROR`, for the event callback: in place of an error of code `EV_FILTER`. */
  error?: EventError | null | undefined;
}

/** Bytes were taken from the source. */
export const TAKEN = 0x01;
/** Bytes were added to the destination. */
export const MADE = 0x02;
/** The filter has taken all there is, or can't go on without more. */
export const EXHAUSTED = 0x04;
/** The filter has met bytes that it can't process. */
export const FAILED = 0x08;
/** The filter could go on, but yields to the loop. */
export const MORE = 0x10;

/** How many times in a row a filter is called before it yields to the loop. */
const MAX_CALLS = 1024;

/** What one direction asks of the bufferevent that it belongs to. */
export interface FilterOwner {
  /** How many bytes the destination may get now: −1 for no limit, 0 for none. */
  room(run: FilterRun): number;
  /** Whether a callback, or the filter itself, has ended it. */
  readonly over: boolean;
  /** Whether its buffers are gone. */
  readonly freed: boolean;
  /** The filter, or a change callback of a buffer, has thrown; `state` is what the run had come to. */
  onThrow(run: FilterRun, state: number): void;
}

/** One direction. */
export class FilterRun {
  /** Whether the filter is running: it is never entered again. */
  running = false;
  /** Whether the filter has had its last call, and nothing has come since. */
  finished = false;
  /** How many bytes have gone through the bufferevent's own buffer: those that were taken, or those that were made. */
  bytes = 0;
  readonly source: EvBuffer;
  readonly destination: EvBuffer;
  readonly #filter: BufferEventFilter;
  /** The memory of bytes that the filter was to take is gone. */
  #lost: EventError | null = null;
  /** Whether it is the source that belongs to the filter, with a front that is closed to the user. */
  readonly #outward: boolean;
  readonly #owner: FilterOwner;

  constructor(
    owner: FilterOwner,
    filter: BufferEventFilter | null,
    source: EvBuffer,
    destination: EvBuffer,
    outward: boolean,
  ) {
    this.#owner = owner;
    this.#filter = filter ?? passThrough;
    this.source = source;
    this.destination = destination;
    this.#outward = outward;
  }

  /** Why the filter has failed, if it says so, or what it works on is gone. */
  get error(): EventError | null {
    return this.#lost ?? this.#filter.error ?? null;
  }

  /**
   * Calls the filter as long as it makes progress, there is something to take, and what it makes is wanted. With
   * `BEV_FLUSH` and `BEV_FINISHED` it is wanted whatever is enabled and whatever the watermarks say, and the filter is
   * called at least once.
   *
   * @returns What it has come to: bits of those above
   */
  run(mode: number): number {
    if (this.running) return 0;
    if (mode === BEV_FINISHED) this.finished = true;
    const owner = this.#owner;
    const { source, destination } = this;
    let state = 0;
    for (let calls = 0;; calls++) {
      if (source.length === 0 && (mode === BEV_NORMAL || calls > 0)) return state | EXHAUSTED;
      const limit = mode === BEV_NORMAL ? owner.room(this) : -1;
      if (limit === 0) return state;
      if (calls === MAX_CALLS && mode === BEV_NORMAL) return state | MORE;
      const sourceLength = source.length;
      const destinationLength = destination.length;
      let result: number;
      try {
        result = this.#call(limit, mode);
      } catch (error) {
        this.finished = false;
        owner.onThrow(this, state | this.#change(sourceLength, destinationLength));
        throw error;
      }
      if (owner.over) {
        this.#count(sourceLength, destinationLength);
        return state;
      }
      const change = this.#change(sourceLength, destinationLength);
      state |= change;
      if (result === BEV_ERROR) return state | FAILED;
      // One that says that it has made progress and has changed nothing would say so for ever.
      if (result === BEV_NEED_MORE || change === 0) return state | EXHAUSTED;
    }
  }

  /** Bytes that were given back are not counted twice. Buffers that were freed say nothing any more. */
  #count(sourceLength: number, destinationLength: number): void {
    if (this.#owner.freed) return;
    this.bytes += this.#outward ? sourceLength - this.source.length : this.destination.length - destinationLength;
  }

  #change(sourceLength: number, destinationLength: number): number {
    this.#count(sourceLength, destinationLength);
    return (this.source.length < sourceLength ? TAKEN : 0) | (this.destination.length > destinationLength ? MADE : 0);
  }

  /** Calls the filter: for it alone the end that is closed to the user is open. */
  #call(limit: number, mode: number): number {
    const { source, destination } = this;
    const filter = this.#filter;
    this.running = true;
    this.#lost = null;
    if (this.#outward) source.unfreeze(true);
    else destination.unfreeze(false);
    try {
      const result = filter(source, destination, limit, mode);
      if (result === BEV_OK || result === BEV_NEED_MORE || result === BEV_ERROR) return result;
      throw new TypeError(
        `Cannot filter: the result is not BEV_OK, BEV_NEED_MORE or BEV_ERROR: received ${show(result)}`,
      );
    } catch (error) {
      this.#lost = asDetached(error);
      if (this.#lost === null) throw error;
      return BEV_ERROR;
    } finally {
      this.running = false;
      if (!this.#owner.freed) {
        if (this.#outward) source.freeze(true);
        else destination.freeze(false);
      }
    }
  }
}

/** What stands in for a filter that is null. */
function passThrough(source: EvBuffer, destination: EvBuffer, limit: number): number {
  const n = source.removeBuffer(destination, limit < 0 ? source.length : limit);
  return n > 0 ? BEV_OK : BEV_NEED_MORE;
}
