/**
 * One direction of a filter: two buffers, the program's function between them, and the rules for calling it (F1, F2,
 * F7).
 */

import type { Bits } from "../bits.ts";
import { wrongType } from "../checks.ts";
import { BEV_ERROR, BEV_FINISHED, BEV_NEED_MORE, BEV_NORMAL, BEV_OK } from "../flags.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import { asDetached } from "../buffer/internal.ts";
import type { EventError } from "../errors.ts";

/**
 * A filter function: takes bytes from the front of `source`, and adds the result to `destination`.
 *
 * It is called again as long as it returns `BEV_OK`, has changed something, `source` has more bytes and `destination`
 * has space. Bytes that it does not take stay in `source`. It must give all bytes that it keeps with the last call,
 * whose mode is `BEV_FINISHED`: at the end of file, or when the direction is finished. In the modes `BEV_FLUSH` and
 * `BEV_FINISHED` it may be called with an empty source.
 *
 * `limit` is the largest number of bytes that it should add, so that a watermark is kept; −1 for no limit. Only the
 * filter can keep to it. If its pieces are larger, it may exceed the limit, or return `BEV_NEED_MORE` to wait for more
 * space.
 *
 * It returns `BEV_OK` if it has made progress, `BEV_NEED_MORE` if it needs more bytes, and `BEV_ERROR` if it cannot
 * process the bytes. It must not be asynchronous.
 *
 * libevent: `bufferevent_filter_cb`.
 */
export interface BufferEventFilter {
  /** Transforms. */
  (source: EvBuffer, destination: EvBuffer, limit: number, mode: number): number;
  /** The reason of `BEV_ERROR` for the event callback, in place of an error with the code `EV_FILTER`. */
  error?: EventError | null | undefined;
}

/** What a run of a filter has come to. */
export type RunBits = Bits<"run">;

/** Bytes were taken from the source. */
export const TAKEN: RunBits = 0x01;
/** Bytes were added to the destination. */
export const MADE: RunBits = 0x02;
/** The filter has taken all bytes, or needs more. */
export const EXHAUSTED: RunBits = 0x04;
/** The filter cannot process the bytes. */
export const FAILED: RunBits = 0x08;
/** The filter could go on, but yields to the loop. */
export const MORE: RunBits = 0x10;

/** How many times in a row a filter is called before it yields to the loop. */
const MAX_CALLS = 1024;

/** The bufferevent of a direction. */
export interface FilterOwner {
  /** How many bytes the destination may get now; −1 for no limit, 0 for none. */
  room(run: FilterRun): number;
  /** Whether a callback, or the filter itself, has ended it. */
  readonly over: boolean;
  /** Whether its buffers are gone. */
  readonly freed: boolean;
  /** The filter, or a change callback of a buffer, has thrown. `state` is the result of the run so far. */
  onThrow(run: FilterRun, state: RunBits): void;
}

/** One direction. */
export class FilterRun {
  /** Whether the filter is running: it is never entered again. */
  running = false;
  /** Whether the filter has had its last call, and there was no new input since. */
  finished = false;
  /** The number of bytes in the bufferevent's own buffer so far: those that were taken, or those that were made. */
  bytes = 0;
  readonly source: EvBuffer;
  readonly destination: EvBuffer;
  private readonly filter: BufferEventFilter;
  /** The error if the memory of the filter's source is gone. */
  private lost: EventError | null = null;
  /** Whether the source belongs to the filter, with a front that is frozen for the program. */
  private readonly outward: boolean;
  private readonly owner: FilterOwner;

  constructor(
    owner: FilterOwner,
    filter: BufferEventFilter | null,
    source: EvBuffer,
    destination: EvBuffer,
    outward: boolean,
  ) {
    this.owner = owner;
    this.filter = filter ?? passThrough;
    this.source = source;
    this.destination = destination;
    this.outward = outward;
  }

  /** The error of the filter, if it has one, or of its memory. */
  get error(): EventError | null {
    return this.lost ?? this.filter.error ?? null;
  }

  /**
   * Calls the filter as long as it makes progress, the source has bytes, and the destination may get more. `BEV_FLUSH`
   * and `BEV_FINISHED` ignore disabled directions and watermarks, and call the filter at least once.
   *
   * @returns The result: bits of those above
   */
  run(mode: number): RunBits {
    if (this.running) return 0;
    if (mode === BEV_FINISHED) this.finished = true;
    const owner = this.owner;
    const { source, destination } = this;
    let state: RunBits = 0;
    for (let calls = 0;; calls++) {
      if (source.length === 0 && (mode === BEV_NORMAL || calls > 0)) return state | EXHAUSTED;
      const limit = mode === BEV_NORMAL ? owner.room(this) : -1;
      if (limit === 0) return state;
      if (calls === MAX_CALLS && mode === BEV_NORMAL) return state | MORE;
      const sourceLength = source.length;
      const destinationLength = destination.length;
      let result: number;
      try {
        result = this.call(limit, mode);
      } catch (error) {
        this.finished = false;
        owner.onThrow(this, state | this.change(sourceLength, destinationLength));
        throw error;
      }
      if (owner.over) {
        this.count(sourceLength, destinationLength);
        return state;
      }
      const change = this.change(sourceLength, destinationLength);
      state |= change;
      if (result === BEV_ERROR) return state | FAILED;
      // A filter that returns BEV_OK without a change would do so for ever.
      if (result === BEV_NEED_MORE || change === 0) return state | EXHAUSTED;
    }
  }

  /** Counts bytes. Bytes that were put back are not counted twice, and freed buffers are ignored. */
  private count(sourceLength: number, destinationLength: number): void {
    if (this.owner.freed) return;
    this.bytes += this.outward ? sourceLength - this.source.length : this.destination.length - destinationLength;
  }

  private change(sourceLength: number, destinationLength: number): RunBits {
    this.count(sourceLength, destinationLength);
    return (this.source.length < sourceLength ? TAKEN : 0) | (this.destination.length > destinationLength ? MADE : 0);
  }

  /** Calls the filter. Only for this call, the end that is frozen for the program is open. */
  private call(limit: number, mode: number): number {
    const { source, destination } = this;
    const filter = this.filter;
    this.running = true;
    this.lost = null;
    if (this.outward) source.unfreeze(true);
    else destination.unfreeze(false);
    try {
      const result = filter(source, destination, limit, mode);
      if (result === BEV_OK || result === BEV_NEED_MORE || result === BEV_ERROR) return result;
      throw wrongType("filter", "the result is not BEV_OK, BEV_NEED_MORE or BEV_ERROR", result);
    } catch (error) {
      this.lost = asDetached(error);
      if (this.lost === null) throw error;
      return BEV_ERROR;
    } finally {
      this.running = false;
      if (!this.owner.freed) {
        if (this.outward) source.freeze(true);
        else destination.freeze(false);
      }
    }
  }
}

/** The function in place of a null filter. */
function passThrough(source: EvBuffer, destination: EvBuffer, limit: number): number {
  const n = source.removeBuffer(destination, limit < 0 ? source.length : limit);
  return n > 0 ? BEV_OK : BEV_NEED_MORE;
}
