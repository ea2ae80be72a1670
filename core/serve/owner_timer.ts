/** A timer of a connection's owner. */

import type { BevCore } from "../bufferevent/core.ts";
import type { CallbackOwner } from "../bufferevent/owner.ts";
import { AFTER_POLL, LoopEvent } from "../loop/loop_event.ts";

/** Calls a function of the owner when it is due. */
export class OwnerTimer extends LoopEvent {
  private readonly owner: CallbackOwner;
  private readonly onDue: () => void;

  constructor(owner: CallbackOwner, root: BevCore, onDue: () => void) {
    super(root.loop, null, 0, root.priority);
    this.state |= AFTER_POLL;
    this.owner = owner;
    this.onDue = onDue;
  }

  override run(): void {
    this.onDue();
  }

  override caught(error: unknown): boolean {
    this.owner.failed(error);
    return true;
  }
}
