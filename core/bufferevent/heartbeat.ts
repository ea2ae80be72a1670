/** A heartbeat: asks a silent peer for a sign of life, and ends the connection when none comes. */

import type { EventError } from "../errors.ts";
import { UNREF } from "../loop/loop_event.ts";
import { BevEvent } from "./bev_event.ts";
import type { BevCore } from "./core.ts";

/** The timer of a bufferevent that has a heartbeat. */
export class HeartbeatTimer extends BevEvent {
  readonly #everyMs: number;
  readonly #timeoutMs: number;
  readonly #send: () => void;
  readonly #silent: (silentMs: number) => EventError;
  /** When the peer was last heard of, as far as it can have been. */
  #heardAt: number;
  /** When it was asked last. */
  #askedAt: number;
  /** Whether the timer is set for what was known when it was set: arrivals only note their time. */
  #armedFor = 0;

  /**
   * Begins to count.
   *
   * @param core Whose peer it is
   * @param everyMs How long the peer may be silent before it is asked
   * @param timeoutMs How long it may be silent at all, more than `everyMs`
   * @param send Asks it
   * @param silent Gives the error of a peer that was silent for so long
   */
  constructor(
    core: BevCore,
    everyMs: number,
    timeoutMs: number,
    send: () => void,
    silent: (silentMs: number) => EventError,
  ) {
    super(core, null, 0, core.priority);
    // The connection keeps the loop running, if it is to.
    this.state |= UNREF;
    this.#everyMs = everyMs;
    this.#timeoutMs = timeoutMs;
    this.#send = send;
    this.#silent = silent;
    this.#heardAt = this.#askedAt = this.loop.clock();
    this.#arm();
  }

  /** The peer has given a sign of life. The timer is not set anew: that would cost each arrival. */
  heard(at: number): void {
    if (at > this.#heardAt) this.#heardAt = at;
  }

  #arm(): void {
    const ask = Math.max(this.#heardAt, this.#askedAt) + this.#everyMs;
    const due = Math.min(ask, this.#heardAt + this.#timeoutMs);
    this.#armedFor = due;
    this.loop.setDeadline(this, 0, due);
  }

  override run(): void {
    const { core, loop } = this;
    const now = Math.max(loop.now(), this.#armedFor);
    // While we read nothing it is no fault of the peer's that nothing is heard; nor is there one to ask before it is there.
    if (core.waitsForPeer) {
      const silentMs = now - this.#heardAt;
      if (silentMs >= this.#timeoutMs) return core.peerIsSilent(this.#silent(silentMs));
      if (now - Math.max(this.#heardAt, this.#askedAt) >= this.#everyMs) {
        this.#askedAt = now;
        this.#arm();
        // A peer that takes nothing is not asked in vain.
        if (!core.full) this.#send();
        return;
      }
    } else this.#heardAt = this.#askedAt = now;
    this.#arm();
  }
}
