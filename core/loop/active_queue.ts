/** The active events of one priority, in the order of activation. Any of them can be removed. */

import { invariant } from "../errors.ts";
import type { LoopEvent } from "./loop_event.ts";

/** A doubly linked list through the events themselves: nothing is allocated. */
export class ActiveQueue {
  /** The event to run next. */
  first: LoopEvent | null = null;
  private last: LoopEvent | null = null;

  /** Adds an event at the end. */
  push(event: LoopEvent): void {
    const last = this.last;
    event.prev = last;
    event.next = null;
    if (last === null) this.first = event;
    else last.next = event;
    this.last = event;
  }

  /** Removes an event that is in the queue. */
  remove(event: LoopEvent): void {
    const { prev, next } = event;
    if (prev !== null) prev.next = next;
    else {
      if (this.first !== event) invariant(false, "an event is taken out of a queue that it is not in");
      this.first = next;
    }
    if (next === null) this.last = prev;
    else next.prev = prev;
    event.prev = event.next = null;
  }
}
