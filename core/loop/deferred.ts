/** Deferred callbacks: what runs once in the loop however often it was scheduled (rule O1). */

import type { Loop } from "./loop.ts";
import { LoopEvent } from "./loop_event.ts";

/** A callback that can be scheduled. */
export class Deferred extends LoopEvent {
  readonly #fn: () => void;

  constructor(loop: Loop, fn: () => void) {
    super(loop, null, 0, loop.queues.length >> 1);
    this.#fn = fn;
  }

  /** Lets it run in this pass of the loop, or in the next; scheduled already, it does nothing. */
  schedule(): void {
    this.loop.activateDeferred(this);
  }

  /** Takes back what was scheduled. */
  cancel(): void {
    this.loop.del(this);
  }

  override run(): void {
    this.#fn();
  }
}
