/**
 * The TLS handshake of a connection. It begins when all earlier bytes have left, and is given up after its time limit.
 */

import { EventError } from "../errors.ts";
import { atDeadline } from "../loop/deadline.ts";
import { DEFAULT_HANDSHAKE_TIMEOUT_MS, type StartTlsOptions, type TlsRole } from "../tls.ts";
import type { Connection } from "./connection.ts";

/** A handshake that has not ended. */
export class Handshake {
  private readonly connection: Connection;
  private readonly role: TlsRole;
  private readonly options: StartTlsOptions;
  private readonly takesUnread: boolean;
  private cancelTimeout: (() => void) | null = null;

  /**
   * Makes a handshake.
   *
   * @param takesUnread Whether unread bytes that have arrived belong to it
   */
  constructor(connection: Connection, role: TlsRole, options: StartTlsOptions, takesUnread = false) {
    this.connection = connection;
    this.role = role;
    this.options = options;
    this.takesUnread = takesUnread;
  }

  /** Starts the time limit. For an accepted connection, the adapter makes the handshake by itself. */
  watch(): void {
    const { runtime } = this.connection;
    const { handshakeTimeoutMs = DEFAULT_HANDSHAKE_TIMEOUT_MS } = this.options;
    const timedOut = (): void => {
      this.cancelTimeout = null;
      const message = `Cannot make a TLS connection: the handshake took longer than ${handshakeTimeoutMs} ms`;
      this.connection.fail(new EventError(message, { code: "ETIMEDOUT", syscall: "handshake" }));
    };
    this.cancelTimeout = atDeadline(runtime, runtime.now() + handshakeTimeoutMs, timedOut, true);
  }

  /** The adapter has taken all bytes in the clear. From here on the bytes belong to TLS. */
  begin(): void {
    this.watch();
    const connection = this.connection;
    const unread = this.takesUnread && connection.available > 0 ? connection.takeReceived() : undefined;
    connection.binding?.startTls?.(this.role, this.options, unread);
  }

  /** It is complete, or the connection is over. */
  end(): void {
    this.cancelTimeout?.();
    this.cancelTimeout = null;
  }
}
