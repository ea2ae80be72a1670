/** Deferred callbacks: each runs once in the loop, however often it was scheduled (rule O1). */

import type { Loop } from "./loop.ts";
import { LoopEvent } from "./loop_event.ts";

/** A callback that can be scheduled. */
export class Deferred extends LoopEvent {
  private readonly fn: () => void;

  constructor(loop: Loop, fn: () => void) {
    super(loop, null, 0, loop.queues.length >> 1);
    this.fn = fn;
  }

  /** Makes it run in this pass of the loop, or in the next. If it is scheduled already, nothing changes. */
  schedule(): void {
    this.loop.activateDeferred(this);
  }

  /** Cancels it. */
  cancel(): void {
    this.loop.del(this);
  }

  override run(): void {
    this.fn();
  }
}
