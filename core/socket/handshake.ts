/** The TLS handshake of a connection: begun when what was sent before it has left, and given up after its time. */

import { EventError } from "../errors.ts";
import { atDeadline } from "../loop/deadline.ts";
import { DEFAULT_HANDSHAKE_TIMEOUT_MS, type StartTlsOptions, type TlsRole } from "../tls.ts";
import type { Connection } from "./connection.ts";

/** A handshake that is to be made or is under way. */
export class Handshake {
  readonly #connection: Connection;
  readonly #role: TlsRole;
  readonly #options: StartTlsOptions;
  readonly #takesUnread: boolean;
  #cancelTimeout: (() => void) | null = null;

  /**
   * Makes one.
   *
   * @param takesUnread Whether bytes that have arrived, and that nobody has read, belong to it
   */
  constructor(connection: Connection, role: TlsRole, options: StartTlsOptions, takesUnread = false) {
    this.#connection = connection;
    this.#role = role;
    this.#options = options;
    this.#takesUnread = takesUnread;
  }

  /** The clock begins to run. For a connection that was accepted, the host makes the handshake by itself. */
  watch(): void {
    const { runtime } = this.#connection;
    const { handshakeTimeoutMs = DEFAULT_HANDSHAKE_TIMEOUT_MS } = this.#options;
    const timedOut = (): void => {
      this.#cancelTimeout = null;
      const message = `Cannot make a TLS connection: the handshake took longer than ${handshakeTimeoutMs} ms`;
      this.#connection.fail(new EventError(message, { code: "ETIMEDOUT", syscall: "handshake" }));
    };
    this.#cancelTimeout = atDeadline(runtime, runtime.now() + handshakeTimeoutMs, timedOut, true);
  }

  /** All that was sent in the clear is with the host: from here on the bytes are those of TLS. */
  begin(): void {
    this.watch();
    const connection = this.#connection;
    const unread = this.#takesUnread && connection.available > 0 ? connection.takeReceived() : undefined;
    connection.binding?.startTls?.(this.#role, this.#options, unread);
  }

  /** It is through, or there is nothing to wait for any more. */
  end(): void {
    this.#cancelTimeout?.();
    this.#cancelTimeout = null;
  }
}
