/** The read and write timeouts of bufferevents without a socket: pairs and filters (rule V9). */

import { EV_WRITE } from "../flags.ts";
import { BevEvent } from "./bev_event.ts";
import type { BevCore } from "./core.ts";

class Timer extends BevEvent {
  constructor(core: BevCore, what: number) {
    super(core, null, what, core.loop.queues.length >> 1);
  }

  override run(): void {
    if (this.what === EV_WRITE) this.core.writeTimedOut();
    else this.core.readTimedOut();
  }
}

/** The two timers. They are made when a timeout is set. */
export class InactivityTimers {
  private readonly core: BevCore;
  private read: Timer | null = null;
  private write: Timer | null = null;

  constructor(core: BevCore) {
    this.core = core;
  }

  /**
   * Bytes have come, or reading was enabled, disabled, suspended or resumed: the read timer restarts, or ends.
   */
  restartRead(runs: boolean = this.core.reading): void {
    const { loop, readTimeoutMs } = this.core;
    if (runs && readTimeoutMs > 0) {
      loop.setDeadline(this.read ??= new Timer(this.core, 0), readTimeoutMs, loop.clock());
    } else if (this.read !== null) loop.del(this.read);
  }

  /**
   * Output has left, or writing was enabled or disabled: the write timer restarts while output waits, or ends.
   */
  restartWrite(): void {
    const { loop, writeTimeoutMs, writing, output } = this.core;
    if (writing && writeTimeoutMs > 0 && output.length > 0) {
      loop.setDeadline(this.write ??= new Timer(this.core, EV_WRITE), writeTimeoutMs, loop.clock());
    } else if (this.write !== null) loop.del(this.write);
  }

  /** There is output: the write timer starts, if it does not run. */
  awaitWrite(): void {
    if (this.write === null || !this.write.timed) this.restartWrite();
  }

  /** Ends both. */
  stop(): void {
    const { loop } = this.core;
    if (this.read !== null) loop.del(this.read);
    if (this.write !== null) loop.del(this.write);
  }
}
