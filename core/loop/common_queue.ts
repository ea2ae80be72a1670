/** Common timeouts: one queue for all events with the same duration, in place of a heap entry for each. */

import { type EventExtra, IN_COMMON, type LoopEvent } from "./loop_event.ts";
import { NO_TIMER, type TimerHeap, TimerNode } from "./timer_heap.ts";

/**
 * The events of one duration, in the order of their deadlines. The queue itself is a node of the heap, with the
 * deadline of its first event. Adding takes O(1), because a later event has a later deadline (except a persistent one
 * that was late).
 */
export class CommonQueue extends TimerNode {
  /** The duration in milliseconds. */
  readonly ms: number;
  /** The event that is due first. */
  first: LoopEvent | null = null;
  private last: LoopEvent | null = null;
  private readonly heap: TimerHeap;

  constructor(heap: TimerHeap, ms: number) {
    super();
    this.heap = heap;
    this.ms = ms;
  }

  /** Adds an event that is not in a queue. */
  insert(event: LoopEvent, deadline: number): void {
    const place = event.madeExtra;
    place.deadline = deadline;
    place.seq = this.heap.nextSeq();
    place.queue = this;
    event.slot = IN_COMMON;
    let after = this.last;
    while (after !== null && placeOf(after).deadline > deadline) after = placeOf(after).prev;
    place.prev = after;
    place.next = after === null ? this.first : placeOf(after).next;
    if (place.next === null) this.last = event;
    else placeOf(place.next).prev = event;
    if (after === null) {
      this.first = event;
      this.heap.schedule(this, deadline, place.seq);
    } else placeOf(after).next = event;
  }

  /** Removes an event that is in the queue. */
  remove(event: LoopEvent): void {
    const place = placeOf(event);
    const { prev, next } = place;
    event.slot = NO_TIMER;
    place.queue = place.prev = place.next = null;
    if (next === null) this.last = prev;
    else placeOf(next).prev = prev;
    if (prev !== null) {
      placeOf(prev).next = next;
      return;
    }
    this.first = next;
    this.heap.remove(this);
    if (next !== null) this.heap.schedule(this, placeOf(next).deadline, placeOf(next).seq);
  }
}

/** The object in which an event keeps its links. */
function placeOf(event: LoopEvent): EventExtra {
  return event.extra as EventExtra;
}
