/** Decides which clients a server accepts, and refuses and counts the others. */

import type { Callback } from "../callback.ts";
import { checkBytes, isBytes, outOfRange, wrongType } from "../checks.ts";
import { encodeUtf8 } from "../buffer/utf8.ts";
import type { ConnListener } from "../api/listener.ts";
import { loopOf } from "../api/event_base.ts";
import { Deferred } from "../loop/deferred.ts";
import type { Address } from "../runtime.ts";
import type { Acceptor, ExcessSink } from "../socket/acceptor.ts";
import { acceptorOf } from "../api/listening_socket.ts";
import { type Connection, SEND_LIMIT } from "../socket/connection.ts";
import { Fifo } from "../socket/fifo.ts";

/**
 * Why a server has refused a client: its `accept` callback returned false, there were already
 * `maxConnections` or `maxConnectionsPerAddress`, or the PROXY header was missing or wrong.
 */
export type RejectReason = "accept" | "maxConnections" | "maxConnectionsPerAddress" | "proxyProtocol";

/** The limits of a server, as in `ServeOptions`. */
export interface AdmissionLimits {
  /** The largest number of connections. */
  maxConnections?: number | undefined;
  /** The largest number of connections from one address. */
  maxConnectionsPerAddress?: number | undefined;
  /** What happens to a client beyond `maxConnections`. */
  whenFull?: "wait" | "reject" | undefined;
  /** The TLS options of the server, if it has TLS. */
  tls?: object | undefined;
}

/** The callbacks of a server about clients. */
export interface AdmissionCallbacks {
  /**
   * A client has connected. Return false to refuse it, before there is a bufferevent for it. With `proxyProtocol` it gets
   * the address of the client, not that of the proxy. It is called only for
   * clients within the limits. If it throws, or returns anything but true or false, the client is refused too, and
   * `error` gets the reason.
   */
  accept?: Callback<[address: Address], boolean> | undefined;
  /**
   * A client is refused. Return a last message for it, at most 64 KiB, such as `"421 too many connections\r\n"`: the
   * server sends it, finishes and closes. Without one, the connection is reset. A server with `tls` sends no last
   * message.
   */
  reject?: Callback<[address: Address, reason: RejectReason], Uint8Array | string | void> | undefined;
}

/**
 * The number of refused clients that may read their last message at the same time. With a further
 * one, the oldest is closed.
 */
const MAX_FAREWELLS = 128;

const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/**
 * The key for counting connections: the numeric address; null for a unix socket. A listener on `::` sees the IPv4
 * client 192.0.2.1 as `::ffff:192.0.2.1`: it is the same client.
 */
export function addressKey(address: Address): string | null {
  if (!("hostname" in address)) return null;
  return MAPPED_IPV4.exec(address.hostname)?.[1] ?? address.hostname;
}

/**
 * Checks `whenFull`.
 *
 * @throws {RangeError} When it is neither
 */
export function checkWhenFull(whenFull: unknown): void {
  if (whenFull === undefined || whenFull === "wait" || whenFull === "reject") return;
  throw outOfRange("serve", 'whenFull is not "wait" or "reject"', whenFull);
}

/** Decides about each client of a server. */
export class Admission implements ExcessSink {
  /** The number of refused clients by reason. */
  readonly rejected: Map<RejectReason, number> = new Map();
  private readonly listener: ConnListener;
  private readonly acceptor: Acceptor;
  private readonly max: number;
  private readonly maxPerAddress: number;
  private readonly rejectsWhenFull: boolean;
  /** Whether clients wait for a handshake of TLS: they would not understand a last message. */
  private readonly secures: boolean;
  private readonly callbacks: AdmissionCallbacks;
  private readonly failed: (error: unknown) => void;
  /** The number of connections from each address; counted only if they are limited. */
  private readonly perAddress: Map<string, number> = new Map();
  private open = 0;
  private takes = true;
  private closed = false;
  /** Clients beyond the backlog, until the loop refuses them. */
  private excess: Connection[] = [];
  private tellsOverflow = false;
  private readonly refuseExcess: Deferred;
  /** Refused clients that have not read their last message. */
  private readonly farewells: Fifo<Connection> = new Fifo();

  /**
   * @param listener The listener of the server
   * @param limits The limits
   * @param callbacks The callbacks
   * @param failed Gets exceptions of these callbacks, and the reason why a client could not wait
   */
  constructor(
    listener: ConnListener,
    limits: AdmissionLimits,
    callbacks: AdmissionCallbacks,
    failed: (error: unknown) => void,
  ) {
    this.listener = listener;
    this.acceptor = acceptorOf(listener.socket);
    this.max = limits.maxConnections ?? Infinity;
    this.maxPerAddress = limits.maxConnectionsPerAddress ?? Infinity;
    this.rejectsWhenFull = limits.whenFull === "reject";
    this.secures = limits.tls !== undefined;
    this.callbacks = callbacks;
    this.failed = failed;
    this.refuseExcess = new Deferred(loopOf(listener.base), () => this.tellExcess());
    this.acceptor.excess = this;
    this.regulate();
  }

  /** Whether the limits allow one more connection. If not, the client is refused. */
  hasRoom(connection: Connection, address: Address): boolean {
    if (this.open < this.max) return true;
    this.refuse(connection, address, "maxConnections");
    return false;
  }

  /** Whether a client may stay, now that its address is known. One that may not is refused. */
  admits(connection: Connection, address: Address): boolean {
    const reason = this.objection(address);
    // accept() may have closed the server.
    if (reason === null && !this.closed) return true;
    if (reason === null) connection.close();
    else this.refuse(connection, address, reason);
    return false;
  }

  /** A connection has begun. */
  entered(): void {
    this.open++;
    this.regulate();
  }

  /** A client that was admitted has got its connection. */
  known(key: string | null): void {
    this.count(key, 1);
  }

  /** Its connection was freed. */
  left(key: string | null): void {
    this.open--;
    this.count(key, -1);
    this.regulate();
  }

  /** The server closes: no further client is accepted. */
  close(): void {
    this.closed = true;
    this.refuseExcess.cancel();
    for (const connection of this.excess.splice(0)) connection.dismiss();
  }

  /** Refuses a client, and counts it. */
  refuse(connection: Connection, address: Address, reason: RejectReason): void {
    this.rejected.set(reason, (this.rejected.get(reason) ?? 0) + 1);
    const word = this.lastWord(address, reason);
    if (word === null || this.secures || connection.gone) return connection.reset();
    connection.send(word);
    connection.close();
    this.farewells.push(connection);
    if (this.farewells.length <= MAX_FAREWELLS) return;
    const oldest = this.farewells.shift();
    if (oldest?.gone === false) oldest.onLingered();
  }

  onExcess(connection: Connection, first: boolean): void {
    if (loopOf(this.listener.base).freed) return connection.dismiss();
    connection.park();
    this.excess.push(connection);
    this.tellsOverflow ||= first;
    this.refuseExcess.schedule();
  }

  /** The reason to refuse a client, or null. */
  private objection(address: Address): RejectReason | null {
    const key = addressKey(address);
    if (key !== null && (this.perAddress.get(key) ?? 0) >= this.maxPerAddress) return "maxConnectionsPerAddress";
    const { accept } = this.callbacks;
    if (accept === undefined || accept === null) return null;
    try {
      const answer: unknown = accept.call(this.callbacks, address);
      if (typeof answer !== "boolean") throw this.wrongAnswer(answer);
      return answer ? null : "accept";
    } catch (error) {
      this.failed(error);
      return "accept";
    }
  }

  private wrongAnswer(answer: unknown): TypeError {
    // Otherwise its rejection would be unhandled.
    if (answer instanceof Promise) answer.catch(() => {});
    return wrongType("accept a client", "accept has returned neither true nor false", answer);
  }

  private lastWord(address: Address, reason: RejectReason): Uint8Array | null {
    const { reject } = this.callbacks;
    if (reject === undefined || reject === null) return null;
    try {
      const word: unknown = reject.call(this.callbacks, address, reason);
      if (word === undefined || word === null || word === "") return null;
      const bytes = typeof word === "string" ? encodeUtf8(word) : word;
      if (!isBytes(bytes)) {
        if (word instanceof Promise) word.catch(() => {});
        throw wrongType("send a last message", "not a string or a Uint8Array", word);
      }
      checkBytes("send a last message", "it", bytes);
      if (bytes.length > SEND_LIMIT) {
        throw outOfRange("send a last message", `longer than ${SEND_LIMIT} bytes`, bytes.length);
      }
      return bytes.length === 0 ? null : bytes;
    } catch (error) {
      this.failed(error);
      return null;
    }
  }

  /** Runs in the loop, as all callbacks of the program. */
  private tellExcess(): void {
    for (const connection of this.excess.splice(0)) {
      const address = connection.remote;
      if (address === undefined) connection.reset();
      else this.refuse(connection, address, "maxConnections");
    }
    if (!this.tellsOverflow) return;
    this.tellsOverflow = false;
    this.failed(this.acceptor.overflow());
  }

  private count(key: string | null, change: number): void {
    if (key === null || this.maxPerAddress === Infinity) return;
    const count = (this.perAddress.get(key) ?? 0) + change;
    if (count > 0) this.perAddress.set(key, count);
    else this.perAddress.delete(key);
  }

  /** Accepts clients up to `maxConnections`. The others wait, or are refused. */
  private regulate(): void {
    if (this.max === Infinity || this.rejectsWhenFull || this.closed) return;
    const room = this.max - this.open;
    this.acceptor.room = Math.max(room, 0);
    if (room > 0 === this.takes) return;
    this.takes = room > 0;
    if (this.takes) return this.listener.enable();
    this.listener.disable();
    this.acceptor.trim();
  }
}
