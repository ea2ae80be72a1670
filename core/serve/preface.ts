/**
 * The first bytes of a connection, which a server reads before its callbacks or TLS do: the header of the PROXY
 * protocol, and the name in a client's first TLS message. The bytes stay in the input while they are read, so the next
 * reader or the TLS handshake finds the bytes that follow.
 */

import { EventError } from "../errors.ts";
import { atDeadline } from "../loop/deadline.ts";
import { Deferred } from "../loop/deferred.ts";
import type { Loop } from "../loop/loop.ts";
import type { ReadinessObserver } from "../loop/source.ts";
import type { Address, ProxyHeader } from "../runtime.ts";
import { readClientHello } from "../socket/client_hello.ts";
import type { Connection } from "../socket/connection.ts";
import { announcedBytes, decodeProxyHeader, mayBeProxyHeader } from "../socket/proxy_header.ts";
import { type ProxyPolicy, trusts } from "./proxy_policy.ts";

/** The result: the connection goes on, is refused, or has ended by itself. */
export type Verdict = "served" | "refused" | "left";

/** Checks the received bytes. Returns null if it needs more, but not if it is `late`. */
export type Look = (connection: Connection, from: Address, late: boolean) => Verdict | null;

/** A connection that waits for its first bytes. */
export class Preface implements ReadinessObserver {
  readonly connection: Connection;
  private readonly from: Address;
  private readonly look: Look;
  private readonly settled: (verdict: Verdict) => void;
  private readonly scheduled: Deferred;
  private readonly cancelTimeout: () => void;
  private late = false;
  private over = false;

  /**
   * Begins to wait for the first bytes.
   *
   * @param loop The loop
   * @param connection The connection, which has no reader yet
   * @param from The address of its client
   * @param timeoutMs The time limit
   * @param look Checks the received bytes, each time that there are more
   * @param settled Gets the result, in the loop
   */
  constructor(
    loop: Loop,
    connection: Connection,
    from: Address,
    timeoutMs: number,
    look: Look,
    settled: (verdict: Verdict) => void,
  ) {
    this.connection = connection;
    this.from = from;
    this.look = look;
    this.settled = settled;
    this.scheduled = new Deferred(loop, () => this.onScheduled());
    const { runtime } = connection;
    this.cancelTimeout = atDeadline(runtime, runtime.now() + timeoutMs, () => {
      this.late = true;
      this.scheduled.schedule();
    }, true);
    connection.observe(this);
    this.scheduled.schedule();
  }

  onReady(): void {
    this.scheduled.schedule();
  }

  onSourceClosed(): void {
    this.stop();
  }

  /** The server is closing. */
  drop(): void {
    if (this.over) return;
    this.stop();
    this.connection.dismiss();
  }

  private stop(): void {
    this.over = true;
    this.cancelTimeout();
    this.scheduled.cancel();
    this.connection.unobserve(this);
  }

  private onScheduled(): void {
    if (this.over) return;
    const { connection } = this;
    const verdict = connection.gone ? "left" : this.look(connection, this.from, this.late);
    if (verdict === null) return connection.looked(true);
    this.stop();
    connection.looked(false);
    this.settled(verdict);
  }
}

/** Reads the header of the PROXY protocol. */
export function lookForHeader(policy: ProxyPolicy): Look {
  const { required, maxBytes } = policy;
  return (connection, from, late) => {
    const { received } = connection;
    const silent = received.length === 0;
    // The plain health checks of proxies connect and leave.
    if (required && silent && connection.ended) return "left";
    const trusted = trusts(policy, from);
    if (required && !trusted) return "refused";
    if (!required && (silent ? late || connection.ended : !mayBeProxyHeader(received))) return "served";
    const header = decodeHeader(connection, maxBytes);
    if (header === undefined || (header !== null && !trusted)) return "refused";
    if (header === null) return late || connection.ended ? "refused" : null;
    connection.proxy = header;
    return "served";
  };
}

/** Returns the header; null while it is incomplete; undefined if it is wrong or too long. */
function decodeHeader({ received }: Connection, maxBytes: number): ProxyHeader | null | undefined {
  if (announcedBytes(received) > maxBytes) return undefined;
  const before = received.length;
  try {
    const header = decodeProxyHeader(received);
    return header !== null && before - received.length > maxBytes ? undefined : header;
  } catch (error) {
    if (error instanceof EventError) return undefined;
    throw error;
  }
}

/** The most bytes of a ClientHello that are read. */
const MAX_HELLO_BYTES = 64 * 1024;

/**
 * Reads the server name that a TLS client requests.
 *
 * @param named Gets the name, null for none. An error of it ends the connection
 * @param failed Gets the error that `named` has thrown
 */
export function lookForName(
  named: (connection: Connection, name: string | null) => void,
  failed: (error: unknown) => void,
): Look {
  return (connection, _from, late) => {
    const { received } = connection;
    const start = new Uint8Array(Math.min(received.length, MAX_HELLO_BYTES));
    received.copyout(start);
    const hello = readClientHello(start);
    if (hello === null && start.length < MAX_HELLO_BYTES) return late || connection.ended ? "refused" : null;
    try {
      named(connection, hello?.serverName ?? null);
      return "served";
    } catch (error) {
      failed(error);
      return "refused";
    }
  };
}
