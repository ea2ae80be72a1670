/**
 * Memory that an adapter reads into and wants to use again.
 */

import { invariant } from "./errors.ts";

/**
 * Memory on loan from an adapter, which gives bytes of it to the core with `TransportSink.onData`. It goes back as soon as
 * the core has no bytes in it any more, unless a view of it was handed out: who has one may keep it, and the memory then is
 * the collector's. An echo or a proxy needs no new memory this way.
 *
 * It counts who uses it: a loan that is given has one user, the core. A loan that is lost never comes back, and does no
 * harm.
 *
 * libevent: none; `evbuffer_add_reference` with a pool of the application's
 */
export class Loan {
  /** The memory. */
  readonly bytes: Uint8Array;
  /** How many use it: pieces of buffers, and adapters that send from it. The lender sets it to 1 when it gives it. */
  users = 0;
  /** Whether somebody got a view, who may keep it: it does not go back then. */
  seen = false;
  readonly #onReturn: (loan: Loan) => void;

  /**
   * Makes one, which nobody uses.
   *
   * @param bytes The memory
   * @param onReturn Called each time that the last user is done, in the middle of what the core does: it only notes it
   */
  constructor(bytes: Uint8Array, onReturn: (loan: Loan) => void) {
    this.bytes = bytes;
    this.#onReturn = onReturn;
  }

  /** One more uses it: an adapter that sends from it, say. */
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
