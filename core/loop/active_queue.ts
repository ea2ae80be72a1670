/** The events of one priority that are active: a list in order of activation, from which any can be taken. */

import type { LoopEvent } from "./loop_event.ts";

/** A doubly linked list through the events themselves: nothing is allocated. */
export class ActiveQueue {
  /** The event to run next. */
  first: LoopEvent | null = null;
  #last: LoopEvent | null = null;

  /** Puts an event at the end. */
  push(event: LoopEvent): void {
    const last = this.#last;
    event.prev = last;
    event.next = null;
    if (last === null) this.first = event;
    else last.next = event;
    this.#last = event;
  }

  /** Takes out an event that is in. */
  remove(event: LoopEvent): void {
    const { prev, next } = event;
    if (prev === null) this.first = next;
    else prev.next = next;
    if (next === null) this.#last = prev;
    else next.prev = prev;
    event.prev = event.next = null;
  }
}
