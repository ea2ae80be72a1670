/** The objects that run a filter: an event in the loop, and the occupant of the bufferevent below. */

import type { EventError } from "../errors.ts";
import { BevEvent } from "./bev_event.ts";
import type { FilterCore } from "./filter_core.ts";
import type { Occupant } from "./occupant.ts";

/** Runs the filters in the loop. */
export class PumpEvent extends BevEvent<FilterCore> {
  constructor(core: FilterCore) {
    super(core, null, 0, core.loop.queues.length >> 1);
  }

  override run(what: number): void {
    this.core.pump(what);
  }
}

/** The occupant of the bufferevent below. */
export class FromBelow implements Occupant {
  readonly what: string = "it has a filter, which has the bytes";
  private readonly core: FilterCore;

  constructor(core: FilterCore) {
    this.core = core;
  }

  read(): void {
    this.core.onBytesBelow();
  }

  onFreed(): void {
    this.core.onBelowFreed();
  }

  event(what: number, error: EventError | undefined): void {
    this.core.onEventBelow(what, error);
  }
}
