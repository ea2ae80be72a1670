/** Memory that an adapter reads into and wants to reuse. */

import { invariant } from "./errors.ts";

/**
 * Memory on loan from an adapter. The adapter gives bytes of it to the core with `TransportSink.onData`. The memory
 * goes back when the core has no bytes in it any more. If a view of it was handed out, it does not go back, because the
 * program may keep the view. With loans an echo or a proxy needs no new memory.
 *
 * A loan counts its users. When it is given, it has one user, the core. A lost loan never goes back and does no harm.
 *
 * libevent: none; `evbuffer_add_reference` with a pool of the application's
 */
export class Loan {
  /** The memory. */
  readonly bytes: Uint8Array;
  /**
   * The number of users: chunks in buffers, and adapters that send from it. The lender sets it to 1 when it gives the
   * loan.
   */
  users = 0;
  /** Whether a view was handed out. The memory then does not go back. */
  seen = false;
  readonly #onReturn: (loan: Loan) => void;

  /**
   * Makes a loan without users.
   *
   * @param bytes The memory
   * @param onReturn Called each time that the last user is done. It runs in the middle of the core's work, so it must
   * only take a note
   */
  constructor(bytes: Uint8Array, onReturn: (loan: Loan) => void) {
    this.bytes = bytes;
    this.#onReturn = onReturn;
  }

  /** Adds a user, such as an adapter that sends from it. */
  hold(): void {
    this.users++;
  }

  /** A user is done. */
  drop(): void {
    invariant(this.users > 0, "a loan was given back twice");
    this.users--;
    if (this.users === 0 && !this.seen) this.#onReturn(this);
  }
}
