/**
 * The engine of a listening socket: the queue of the connections that the runtime has accepted and nobody has taken.
 */

import { EAGAIN, EV_READ } from "../flags.ts";
import { EventError } from "../errors.ts";
import { Source } from "../loop/source.ts";
import type { AcceptSink, ListenerBinding, Runtime, TransportBinding, TransportSink } from "../runtime.ts";
import type { TlsListenOptions } from "../tls.ts";
import { AcceptBackoff, isExhausted } from "./accept_backoff.ts";
import { formatAddress } from "./address.ts";
import { Fifo } from "./fifo.ts";
import { Handshake } from "./handshake.ts";
import { Connection } from "./connection.ts";

/**
 * A runtime that cannot pause accepts connections that nobody takes. If a program has asked for connections within this
 * time, it is only busy, and loses none.
 */
const PATIENCE_MS = 10_000;

/** Gets the accepted connections that nobody takes and that exceed the queue. */
export interface ExcessSink {
  /**
   * A connection exceeds the backlog. The sink must close it.
   *
   * @param connection The connection
   * @param first Whether it is the first one since the queue was last below its limit
   */
  onExcess(connection: Connection, first: boolean): void;
}

/** The engine of a `ListeningSocket`. */
export class Acceptor extends Source implements AcceptSink {
  /** The adapter's object. */
  binding: ListenerBinding | null = null;
  /** The public object. */
  face: object | null = null;
  /** Whether the owner has closed it. */
  closed = false;
  /** The runtime. */
  readonly runtime: Runtime;
  /** How many connections were closed because the backlog was exceeded. */
  rejected = 0;
  /** Gets connections beyond the backlog; with null they are closed. */
  excess: ExcessSink | null = null;
  private readonly limit: number;
  private readonly tls: TlsListenOptions | undefined;
  private readonly queue: Fifo<Connection> = new Fifo();
  private readonly backoff: AcceptBackoff;
  private readonly canPause: boolean;
  private takes = true;
  private space: number = Infinity;
  private error: EventError | null = null;
  private paused = false;
  /** When somebody last asked or waited for a connection. Used only if the runtime cannot pause. */
  private askedAt: number = -Infinity;
  /** Whether the queue was full, and has not been below its limit since. */
  private overflown = false;

  constructor(runtime: Runtime, limit: number, tls?: TlsListenOptions) {
    super();
    this.runtime = runtime;
    this.tls = tls;
    this.limit = limit;
    this.canPause = runtime.capabilities.pauseAccept;
    this.backoff = new AcceptBackoff(runtime, () => {
      if (!this.paused) this.binding?.resumeAccept();
    });
  }

  override get pollable(): object {
    return this.face ?? this;
  }

  override get kind(): string {
    return "ListeningSocket";
  }

  /**
   * Whether connections are taken, which is the default. If not, they wait in the kernel, or at most the backlog waits
   * here.
   */
  set taken(taken: boolean) {
    // Another listener on the same socket may still take them.
    this.takes = taken || this.watched;
    this.regulate();
  }

  /** How many more connections are taken for now. Others wait in the kernel, if the runtime can do that. */
  set room(room: number) {
    this.space = room;
    this.regulate();
  }

  onAccept(binding: TransportBinding): TransportSink {
    const connection = new Connection(this.runtime, binding);
    this.backoff.succeeded();
    // Nobody will take it; or its client has left, so its address is not known any more.
    if (this.closed || binding.remote === undefined || binding.local === undefined) {
      connection.reset();
      return connection;
    }
    if (binding.handshaking === true) {
      const handshake = new Handshake(connection, "server", this.tls ?? {});
      connection.handshake = handshake;
      handshake.watch();
    }
    const { watched } = this;
    if (!this.canPause && this.queue.length >= this.limit && !this.taking(watched)) {
      this.refuse(connection);
      return connection;
    }
    this.queue.push(connection);
    this.notify(EV_READ);
    // Usually the turn that notify() may have run has taken it.
    if (this.queue.last === connection) {
      // A waiting connection is not read, so it holds no bytes.
      connection.park();
      if (watched && !this.canPause) this.askedAt = this.runtime.now();
    }
    this.regulate();
    return connection;
  }

  onError(error: EventError): void {
    if (this.closed) return;
    if (isExhausted(error.code)) {
      this.binding?.pauseAccept();
      // Reported once: it lasts until something is closed.
      if (!this.backoff.failed()) return;
    }
    this.error = error;
    this.notify(EV_READ);
  }

  /** Takes the first connection, or throws the failure of accepting, once. */
  accept(): Connection | typeof EAGAIN {
    if (this.closed) {
      throw new EventError("Cannot accept: the listening socket was closed", { code: "EBADF", syscall: "accept" });
    }
    if (!this.canPause) this.askedAt = this.runtime.now();
    let connection = this.queue.shift();
    // If the TLS handshake has failed meanwhile, there is no connection.
    while (connection !== undefined && isLost(connection)) {
      connection.close();
      connection = this.queue.shift();
    }
    const error = this.error;
    if (connection === undefined && error !== null) this.error = null;
    if (this.queue.length === 0 && this.error === null) this.clear(EV_READ);
    if (this.queue.length < this.limit) this.overflown = false;
    this.regulate();
    if (connection === undefined) {
      if (error !== null) throw error;
      return EAGAIN;
    }
    connection.unpark();
    return connection;
  }

  /** Refuses the connections beyond the backlog, the last ones first, because the owner takes none for now. */
  trim(): void {
    if (this.canPause) return;
    this.forgetLost();
    while (this.queue.length > this.limit) this.refuse(this.queue.pop() as Connection);
  }

  close(): Promise<void> {
    if (!this.closed) {
      this.closed = true;
      this.backoff.stop();
      this.unwatch();
      for (let connection = this.queue.shift(); connection !== undefined; connection = this.queue.shift()) {
        // Nobody knows it: its descriptor is not to wait until the client has finished.
        connection.dismiss();
      }
    }
    return this.binding?.close() ?? Promise.resolve();
  }

  /** Whether somebody takes the connections, even if the program is busy now. */
  private taking(watched: boolean): boolean {
    if (this.tls !== undefined) this.forgetLost();
    if (this.queue.length < this.limit) return true;
    if (!this.takes) return false;
    return watched || this.runtime.now() - this.askedAt < PATIENCE_MS;
  }

  /** Removes the connections whose handshake has failed, so that they do not fill the queue. */
  private forgetLost(): void {
    for (const connection of this.queue.takeAll(isLost)) connection.close();
  }

  private refuse(connection: Connection): void {
    const first = !this.overflown;
    this.overflown = true;
    this.rejected++;
    if (this.excess !== null) this.excess.onExcess(connection, first);
    else connection.dismiss();
  }

  /** The error for a full queue. */
  overflow(): EventError {
    const where = this.binding === null ? "" : ` on ${formatAddress(this.binding.address)}`;
    const message = `Cannot let more connections wait${where}: ${this.limit} wait already, which is the backlog, and ` +
      `${this.runtime.name} cannot leave others with the system`;
    return new EventError(message, { code: "EV_BACKLOG_FULL", syscall: "accept" });
  }

  /** Pauses accepting while the queue is full, and resumes it. */
  private regulate(): void {
    const full = !this.takes || this.queue.length >= Math.min(this.limit, this.space);
    if (full === this.paused || this.closed) return;
    this.paused = full;
    if (full) this.binding?.pauseAccept();
    else if (!this.backoff.waiting) this.binding?.resumeAccept();
  }
}

/** Whether a connection was lost before it was established, because its TLS handshake failed. */
function isLost(connection: Connection): boolean {
  return connection.gone && !connection.connected;
}
