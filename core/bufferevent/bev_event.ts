/**
 * The events of a bufferevent in the loop. An exception of the program in one goes to the owner of the connection, if
 * it has one.
 */

import { AFTER_POLL, LoopEvent } from "../loop/loop_event.ts";
import type { Source } from "../loop/source.ts";
import type { BevCore } from "./core.ts";

/** An event of a bufferevent. */
export abstract class BevEvent<Core extends BevCore = BevCore> extends LoopEvent {
  /** The bufferevent. */
  declare readonly core: Core;

  constructor(core: Core, source: Source | null, what: number, level: number) {
    super(core.loop, source, what, level);
    this.state |= AFTER_POLL;
    this.core = core;
  }

  override caught(error: unknown): boolean {
    return this.core.caught(error);
  }
}
