/** The idle timeout of a bufferevent: neither did bytes arrive nor did any leave for too long. */

import { BevEvent } from "./bev_event.ts";
import type { BevCore } from "./core.ts";

/** The timer. There is one only where an idle timeout is set. */
export class IdleTimer extends BevEvent {
  readonly #ms: number;

  /**
   * Begins to count.
   *
   * @param core What is idle or not
   * @param ms How long it may be, more than 0
   */
  constructor(core: BevCore, ms: number) {
    super(core, null, 0, core.priority);
    this.#ms = ms;
    this.restart();
  }

  /**
   * Something has arrived or left.
   *
   * @param from When; by default now
   */
  restart(from: number = this.loop.clock()): void {
    this.loop.setDeadline(this, this.#ms, from);
  }

  override run(): void {
    this.core.idled(this.#ms);
  }
}
