/** The figures of a server. */

import type { EventError } from "../errors.ts";
import type { RejectReason } from "./admission.ts";
import type { ConnectionOwner } from "./owner.ts";

/** The result of `Server.stats()`. */
export interface ServerStats {
  /** Connections that were accepted: `open`, and those that have ended. */
  accepted: number;
  /** Connections that are open now, including those in their TLS handshake. */
  open: number;
  /** Refused clients by reason. Only reasons that have occurred are there. */
  rejected: { [reason in RejectReason]?: number };
  /** Bytes that all connections have read, as `bev.bytesRead`. */
  bytesRead: number;
  /** Bytes that all connections have written, as `bev.bytesWritten`. */
  bytesWritten: number;
  /** Connections that have ended, by the code of the reason that `close` gets; `OK` without a reason. */
  ended: { [code: string]: number };
  /** Those of them that have failed in their TLS handshake. */
  handshakesFailed: number;
  /**
   * The number of turns of the server's base by duration: at most the key, in milliseconds, and
   * more than the next smaller key. The largest key is `Infinity`. Until the first call of
   * `stats()`, every 16th turn is timed; then every turn.
   */
  turnMs: { [upTo: string]: number };
}

/** The code of an end without a reason. */
const CLEAN = "OK";
/** The code of a client whose first bytes were not a ClientHello, or did not come in time. */
const NO_HELLO = "ERR_TLS_HANDSHAKE";

/**
 * The figures of one server. It counts when a connection begins and when it ends, not for each
 * byte.
 */
export class Figures {
  accepted = 0;
  handshakesFailed = 0;
  readonly ended: Map<string, number> = new Map();
  /** Bytes of connections that have ended. */
  private bytesRead = 0;
  private bytesWritten = 0;

  /** A connection has ended. */
  end({ root, opened }: ConnectionOwner<unknown>, reason: EventError | undefined, secure: boolean): void {
    const code = reason?.code ?? CLEAN;
    this.ended.set(code, (this.ended.get(code) ?? 0) + 1);
    if (secure && !opened && reason !== undefined && code !== "ECANCELED") this.handshakesFailed++;
    this.bytesRead += root.bytesRead;
    // Queued output still leaves.
    this.bytesWritten += root.bytesWritten + (root.known?.unsent ?? 0);
  }

  /** A connection has ended before its ClientHello was complete. */
  failHandshake(): void {
    this.accepted++;
    this.handshakesFailed++;
    this.ended.set(NO_HELLO, (this.ended.get(NO_HELLO) ?? 0) + 1);
  }

  /** The bytes of all connections. */
  bytes(open: Iterable<ConnectionOwner<unknown>>): { bytesRead: number; bytesWritten: number } {
    let [bytesRead, bytesWritten] = [this.bytesRead, this.bytesWritten];
    for (const { root } of open) {
      bytesRead += root.bytesRead;
      bytesWritten += root.bytesWritten;
    }
    return { bytesRead, bytesWritten };
  }
}
