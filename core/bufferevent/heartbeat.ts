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
  /** When the last sign of life came, or when silence began to count. */
  #heardAt: number;
  /** When `send` was called last. */
  #askedAt: number;
  /** The time that the timer is set for. An arrival only notes its own time, so this may be too early. */
  #armedFor = 0;

  /**
   * Begins to count.
   *
   * @param core The bufferevent
   * @param everyMs How long the peer may be silent before `send` is called
   * @param timeoutMs How long it may be silent before it fails, more than `everyMs`
   * @param send Asks the peer
   * @param silent Makes the error of a peer that was silent for too long
   */
  constructor(
    core: BevCore,
    everyMs: number,
    timeoutMs: number,
    send: () => void,
    silent: (silentMs: number) => EventError,
  ) {
    super(core, null, 0, core.priority);
    // The connection itself keeps the loop running, unless it is unreferenced.
    this.state |= UNREF;
    this.#everyMs = everyMs;
    this.#timeoutMs = timeoutMs;
    this.#send = send;
    this.#silent = silent;
    this.#heardAt = this.#askedAt = this.loop.clock();
    this.#arm();
  }

  /**
   * The peer has given a sign of life. The timer is not restarted, since that would make each arrival slower.
   */
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
    // While we do not read, silence is not the peer's fault. Before the connection is established there is no peer to
    // ask.
    if (core.waitsForPeer) {
      const silentMs = now - this.#heardAt;
      if (silentMs >= this.#timeoutMs) return core.peerIsSilent(this.#silent(silentMs));
      if (now - Math.max(this.#heardAt, this.#askedAt) >= this.#everyMs) {
        this.#askedAt = now;
        this.#arm();
        // A peer that takes no output is not asked.
        if (!core.full) this.#send();
        return;
      }
    } else this.#heardAt = this.#askedAt = now;
    this.#arm();
  }
}
