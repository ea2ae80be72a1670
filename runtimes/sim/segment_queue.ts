/**
 * The segments that are on their way from one end of a simulated connection to the other, in order.
 *
 * @module
 */

import { invariant } from "../../core/errors.ts";

/** A segment: bytes, or the end of a direction. */
export interface Segment {
  /** The bytes, in memory of the queue; undefined for the end. */
  bytes: Uint8Array | undefined;
  /** Whether it was cut, so that it is not joined with the next one. */
  cut: boolean;
  /** When it arrives; Infinity while it is kept on its way. */
  time: number;
  /** The next segment. */
  next: Segment | undefined;
}

/** A queue of segments. It is a list. Almost all are empty and hold no object. */
export class SegmentQueue {
  /** The first segment. */
  head: Segment | undefined;
  /** The number of bytes in it. */
  bytes = 0;
  #tail: Segment | undefined;
  /** A segment object for reuse. */
  #spare: Segment | undefined;

  /**
   * Puts a segment at the end.
   *
   * @param bytes The bytes, the queue's own memory from here on; undefined for the end
   * @param cut Whether it is not joined with the next one
   * @param time When it arrives
   */
  add(bytes: Uint8Array | undefined, cut: boolean, time: number): void {
    let segment = this.#spare;
    if (segment === undefined) segment = { bytes, cut, time, next: undefined };
    else {
      this.#spare = undefined;
      segment.bytes = bytes;
      segment.cut = cut;
      segment.time = time;
    }
    if (this.#tail === undefined) this.head = segment;
    else this.#tail.next = segment;
    this.#tail = segment;
    if (bytes !== undefined) this.bytes += bytes.length;
  }

  /**
   * Puts a segment at the front.
   *
   * @param segment The segment, which is in no queue
   */
  unshift(segment: Segment): void {
    segment.next = this.head;
    this.head = segment;
    this.#tail ??= segment;
    this.bytes += segment.bytes?.length ?? 0;
  }

  /** Takes the first segment out. */
  shift(): void {
    const segment = this.head;
    if (segment === undefined) return;
    this.head = segment.next;
    if (this.head === undefined) this.#tail = undefined;
    if (segment.bytes !== undefined) this.bytes -= segment.bytes.length;
    segment.bytes = segment.next = undefined;
    this.#spare = segment;
  }

  /** Takes everything out. */
  clear(): void {
    this.head = this.#tail = this.#spare = undefined;
    this.bytes = 0;
  }

  /**
   * Takes bytes that have arrived out of the queue.
   *
   * @param now The time
   * @param join Whether to take all of them, as one chunk, or the first segment
   * @returns The bytes; the caller owns the memory
   */
  takeArrived(now: number, join: boolean): Uint8Array {
    const segment = this.head;
    const first = segment?.bytes;
    if (segment === undefined || first === undefined) throw new Error("Trivent invariant broken: there are bytes");
    const { next } = segment;
    if (next === undefined) {
      this.head = this.#tail = segment.bytes = undefined;
      this.bytes = 0;
      this.#spare = segment;
      return first;
    }
    if (next.bytes === undefined || next.time > now || !join || segment.cut) {
      this.shift();
      return first;
    }
    let total = 0;
    for (let at = this.head; at?.bytes !== undefined && at.time <= now; at = at.next) {
      total += at.bytes.length;
      if (!join || at.cut) break;
    }
    if (total === first.length) {
      this.shift();
      return first;
    }
    const joined = new Uint8Array(total);
    for (let length = 0; length < total; this.shift()) {
      const bytes = this.head?.bytes;
      invariant(bytes !== undefined, "what was counted is what is copied");
      joined.set(bytes, length);
      length += bytes.length;
    }
    return joined;
  }

  /**
   * Drops the segments that have not arrived.
   *
   * @param now The time
   * @returns Whether bytes were dropped
   */
  dropInFlight(now: number): boolean {
    let last: Segment | undefined;
    let arrived = 0;
    for (let at = this.head; at !== undefined && at.time <= now; at = at.next) {
      last = at;
      arrived += at.bytes?.length ?? 0;
    }
    const dropped = arrived < this.bytes;
    if (last === undefined) this.head = undefined;
    else last.next = undefined;
    this.#tail = last;
    this.bytes = arrived;
    return dropped;
  }
}
