/** What lets a filter run: an event in the loop, and the callbacks of the bufferevent below. */

import type { EventError } from "../errors.ts";
import { LoopEvent } from "../loop/loop_event.ts";
import type { BufferEvent, BufferEventCallbacks } from "./bufferevent.ts";
import type { FilterCore } from "./filter_core.ts";
import { Occupant } from "./occupant.ts";

/** Runs the filters in the loop. */
export class PumpEvent extends LoopEvent {
  readonly #core: FilterCore;

  constructor(core: FilterCore) {
    super(core.loop, null, 0, core.loop.queues.length >> 1);
    this.#core = core;
  }

  override run(what: number): void {
    this.#core.pump(what);
  }
}

/** What the bufferevent below calls. */
export class FromBelow extends Occupant implements BufferEventCallbacks<BufferEvent> {
  readonly what: string = "it has a filter, which has the bytes";
  readonly #core: FilterCore;

  constructor(core: FilterCore) {
    super();
    this.#core = core;
  }

  read(): void {
    this.#core.onBytesBelow();
  }

  event(_bev: BufferEvent, what: number, error?: EventError): void {
    this.#core.onEventBelow(what, error);
  }
}
