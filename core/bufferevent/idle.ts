/** The idle timeout of a bufferevent: no bytes have arrived or left for too long. */

import { BevEvent } from "./bev_event.ts";
import type { BevCore } from "./core.ts";

/** The timer. It exists only if an idle timeout is set. */
export class IdleTimer extends BevEvent {
  private readonly ms: number;

  /**
   * Begins to count.
   *
   * @param core The bufferevent
   * @param ms The timeout, more than 0
   */
  constructor(core: BevCore, ms: number) {
    super(core, null, 0, core.priority);
    this.ms = ms;
    this.restart();
  }

  /**
   * Something has arrived or left.
   *
   * @param from The time; by default now
   */
  restart(from: number = this.loop.clock()): void {
    this.loop.setDeadline(this, this.ms, from);
  }

  override run(): void {
    this.core.idled(this.ms);
  }
}
