/** A listening socket, and the queue of the connections that the host has accepted and nobody has taken. */

import { checkBoolean, checkInner, show, unsupported } from "../checks.ts";
import { EAGAIN, EV_READ } from "../flags.ts";
import { EventError } from "../errors.ts";
import { Source } from "../loop/source.ts";
import { readOptions } from "../names.ts";
import { checkRuntime, LISTEN_OPTIONS } from "../runtime.ts";
import type { AcceptSink, Address, ListenerBinding, ListenOptions, Runtime } from "../runtime.ts";
import type { TransportBinding, TransportSink } from "../runtime.ts";
import { operationOf, type Overlapped } from "../poll/overlapped.ts";
import { AcceptBackoff, isExhausted } from "./accept_backoff.ts";
import { readTlsListen, type TlsListenOptions } from "../tls.ts";
import { checkTarget, familyOf, formatAddress } from "./address.ts";
import { Fifo } from "./fifo.ts";
import { Handshake } from "./handshake.ts";
import { Pollable } from "./pollable.ts";
import { type Socket, socketOf } from "./socket.ts";
import { Stream } from "./stream.ts";

/** How many connections wait in the queue, when the listener's backlog does not say it. */
const DEFAULT_BACKLOG = 128;

/** For the core: what is behind a listening socket. */
export function acceptorOf(socket: ListeningSocket): Acceptor {
  return behind(socket);
}

/** Set by the first ListeningSocket: see `Pollable`. */
let behind: (socket: ListeningSocket) => Acceptor = refuse;

function refuse(socket: unknown): never {
  throw new TypeError(`Cannot use a listening socket: not a ListeningSocket: received ${show(socket)}`);
}

/**
 * A host that cannot pause accepts what nobody takes. A program that has asked for connections less than this ago is
 * only busy, and loses none of them.
 */
const PATIENCE_MS = 10_000;

/** Gets the connections that a host has accepted, nobody takes, and the queue has no place for. */
export interface ExcessSink {
  /**
   * A connection is more than the backlog allows. The sink must close it.
   *
   * @param stream The connection
   * @param first Whether it is the first one since the queue was last below its limit
   */
  onExcess(stream: Stream, first: boolean): void;
}

/** What a listening socket is for the loop and the host. */
export class Acceptor extends Source implements AcceptSink {
  /** The host's side. */
  binding: ListenerBinding | null = null;
  /** The user's object. */
  face: object | null = null;
  /** Whether the owner has closed it. */
  closed = false;
  /** The host. */
  readonly runtime: Runtime;
  /** How many connections were closed because more than the backlog were waiting. */
  rejected = 0;
  /** Gets what is beyond the backlog; null: it is closed. */
  excess: ExcessSink | null = null;
  readonly #limit: number;
  readonly #tls: TlsListenOptions | undefined;
  readonly #queue: Fifo<Stream> = new Fifo();
  readonly #backoff: AcceptBackoff;
  readonly #canPause: boolean;
  #taken = true;
  #room = Infinity;
  #error: EventError | null = null;
  #paused = false;
  /** When somebody last asked for a connection, or waited for one. Kept only where the host cannot pause. */
  #askedAt = -Infinity;
  /** Whether the queue was full, and has not been below its limit since. */
  #overflown = false;

  constructor(runtime: Runtime, limit: number, tls?: TlsListenOptions) {
    super();
    this.runtime = runtime;
    this.#tls = tls;
    this.#limit = limit;
    this.#canPause = runtime.capabilities.pauseAccept;
    this.#backoff = new AcceptBackoff(runtime, () => {
      if (!this.#paused) this.binding?.resumeAccept();
    });
  }

  override get pollable(): object {
    return this.face ?? this;
  }

  override get kind(): string {
    return "ListeningSocket";
  }

  /**
   * Whether connections are taken, as at first. If not, the host leaves them with the system, or at most the backlog
   * waits here.
   */
  set taken(taken: boolean) {
    // Another listener on the same socket may still take them.
    this.#taken = taken || this.watched;
    this.#regulate();
  }

  /** How many more connections are taken for now: the host leaves others with the system, where it can. */
  set room(room: number) {
    this.#room = room;
    this.#regulate();
  }

  onAccept(binding: TransportBinding): TransportSink {
    const stream = new Stream(this.runtime, binding);
    this.#backoff.succeeded();
    // Nobody will take it; or its client is gone, so that nobody can say any more who it was.
    if (this.closed || binding.remote === undefined || binding.local === undefined) {
      stream.reset();
      return stream;
    }
    if (binding.handshaking === true) {
      const handshake = new Handshake(stream, "server", this.#tls ?? {});
      stream.handshake = handshake;
      handshake.watch();
    }
    const { watched } = this;
    if (!this.#canPause && this.#queue.length >= this.#limit && !this.#taking(watched)) {
      this.#refuse(stream);
      return stream;
    }
    this.#queue.push(stream);
    this.notify(EV_READ);
    // The turn that notify() may have run has taken it, as a rule.
    if (this.#queue.last === stream) {
      // A connection that waits is not read: it holds no memory but its own.
      stream.park();
      if (watched && !this.#canPause) this.#askedAt = this.runtime.now();
    }
    this.#regulate();
    return stream;
  }

  onError(error: EventError): void {
    if (this.closed) return;
    if (isExhausted(error.code)) {
      this.binding?.pauseAccept();
      // Told once: it goes on until something is let go.
      if (!this.#backoff.failed()) return;
    }
    this.#error = error;
    this.notify(EV_READ);
  }

  /** Takes the first connection, or throws what accepting failed with, once. */
  accept(): Stream | typeof EAGAIN {
    if (this.closed) {
      throw new EventError("Cannot accept: the listening socket was closed", { code: "EBADF", syscall: "accept" });
    }
    if (!this.#canPause) this.#askedAt = this.runtime.now();
    let stream = this.#queue.shift();
    // A TLS handshake that has failed meanwhile has made no connection.
    while (stream !== undefined && isLost(stream)) {
      stream.close();
      stream = this.#queue.shift();
    }
    const error = this.#error;
    if (stream === undefined && error !== null) this.#error = null;
    if (this.#queue.length === 0 && this.#error === null) this.clear(EV_READ);
    if (this.#queue.length < this.#limit) this.#overflown = false;
    this.#regulate();
    if (stream === undefined) {
      if (error !== null) throw error;
      return EAGAIN;
    }
    stream.unpark();
    return stream;
  }

  /** Refuses what waits beyond the backlog, the last ones first: the owner takes none for now. */
  trim(): void {
    if (this.#canPause) return;
    this.#forgetLost();
    while (this.#queue.length > this.#limit) this.#refuse(this.#queue.pop() as Stream);
  }

  close(): Promise<void> {
    if (!this.closed) {
      this.closed = true;
      this.#backoff.stop();
      this.release();
      for (let stream = this.#queue.shift(); stream !== undefined; stream = this.#queue.shift()) stream.close();
    }
    return this.binding?.close() ?? Promise.resolve();
  }

  /** Whether somebody takes what waits, as soon as the program gets to it. */
  #taking(watched: boolean): boolean {
    if (this.#tls !== undefined) this.#forgetLost();
    if (this.#queue.length < this.#limit) return true;
    if (!this.#taken) return false;
    return watched || this.runtime.now() - this.#askedAt < PATIENCE_MS;
  }

  /** Takes out the connections whose handshake has failed: they are not to fill the queue. */
  #forgetLost(): void {
    for (const stream of this.#queue.takeAll(isLost)) stream.close();
  }

  #refuse(stream: Stream): void {
    const first = !this.#overflown;
    this.#overflown = true;
    this.rejected++;
    if (this.excess !== null) this.excess.onExcess(stream, first);
    else stream.dismiss();
  }

  /** The error of a queue that is full. */
  overflow(): EventError {
    const where = this.binding === null ? "" : ` on ${formatAddress(this.binding.address)}`;
    const message =
      `Cannot let more connections wait${where}: ${this.#limit} wait already, which is the backlog, and ` +
      `${this.runtime.name} cannot leave others with the system`;
    return new EventError(message, { code: "EV_BACKLOG_FULL", syscall: "accept" });
  }

  /** Pauses the host's accepting while as many wait as may, and resumes it. */
  #regulate(): void {
    const full = !this.#taken || this.#queue.length >= Math.min(this.#limit, this.#room);
    if (full === this.#paused || this.closed) return;
    this.#paused = full;
    if (full) this.binding?.pauseAccept();
    else if (!this.#backoff.waiting) this.binding?.resumeAccept();
  }
}

/** Whether a connection was lost before it was established: its TLS handshake has failed. */
function isLost(stream: Stream): boolean {
  return stream.gone && !stream.connected;
}

/**
 * A socket that takes connections. Those that the host has accepted wait in a queue until `accept()` takes them. A host
 * that can (`capabilities.pauseAccept`) leaves what is beyond the backlog with the system. Any other host accepts all,
 * and they wait here, up to the process's descriptors, as long as somebody takes them: an event, a poller or a
 * `select()` waits for the socket, or `accept()` was called within the last 10 s. If nobody does, what is beyond the
 * backlog is closed and counted in `rejected`. A client that is gone before it was accepted is not given.
 *
 * When the process or the system runs out of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), accepting
 * pauses for 10 ms, twice as long after each failure up to a second, and goes on by itself: the connections wait. It is
 * told once, until a connection could be accepted again. Not every host tells: see `docs/design.md`.
 *
 * libevent: what a listening `evutil_socket_t` and `accept` are.
 *
 * @example
 * ```ts
 * import { EAGAIN, EV_PERSIST, EV_READ, EventBase } from "trivent";
 *
 * const base = new EventBase();
 * const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
 * base.event(listening, EV_READ | EV_PERSIST, () => {
 *   for (let socket = listening.accept(); socket !== EAGAIN; socket = listening.accept()) socket.close();
 * }).add();
 * base.loopExit(10);
 * await base.dispatch();
 * await listening.close();
 * ```
 */
export class ListeningSocket extends Pollable {
  readonly #acceptor: Acceptor;

  private constructor(acceptor: Acceptor) {
    super(checkInner(acceptor, Acceptor, "ListeningSocket", "EventBase.listen()"));
    if (behind === refuse) {
      behind = (socket: ListeningSocket): Acceptor =>
        typeof socket === "object" && socket !== null && #acceptor in socket ? socket.#acceptor : refuse(socket);
    }
    this.#acceptor = acceptor;
    acceptor.face = this;
  }

  /**
   * Binds and listens, as `EventBase.listen()` does.
   *
   * @param runtime The host
   * @param options Where to listen
   * @returns The socket
   * @throws {EventError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …; `EV_UNSUPPORTED` for what the host can't do
   * @throws {RangeError} When the address is none
   */
  static async listen(runtime: Runtime, options: ListenOptions): Promise<ListeningSocket> {
    options = readListen(checkRuntime("listen", runtime), options);
    const backlog = options.backlog ?? DEFAULT_BACKLOG;
    const acceptor = new Acceptor(runtime, backlog, options.tls);
    // The address of a host's name, as bind(2) has none.
    let { hostname } = options;
    if (hostname !== undefined && familyOf(hostname) === undefined && runtime.takesName?.(options) !== true) {
      const addresses = await runtime.resolve(hostname);
      const address = addresses.find(({ family }) => family === (options.family ?? "IPv4")) ?? addresses[0];
      hostname = address?.hostname ?? hostname;
    }
    acceptor.binding = await runtime.listen(
      hostname === options.hostname ? options : { ...options, hostname },
      acceptor,
    );
    return new ListeningSocket(acceptor);
  }

  /**
   * Takes a connection.
   *
   * libevent: `accept`.
   *
   * @returns The socket of the connection, or `EAGAIN` when none waits
   * @throws {EventError} Why accepting failed (`EMFILE`, …), once an episode; `EBADF` once closed
   */
  accept(): Socket | typeof EAGAIN {
    const stream = this.#acceptor.accept();
    return typeof stream === "number" ? EAGAIN : socketOf(stream);
  }

  /**
   * Begins to accept: completes when a connection was accepted into `ov.socket`, which has both addresses; with a
   * buffer, when its first data has arrived too.
   *
   * Windows: `AcceptEx`, `GetAcceptExSockaddrs`.
   *
   * @param ov The status of the operation
   * @param buffer Gets the first data; it belongs to the operation until that has completed
   * @throws {EventError} `EV_BUSY` when `ov` is in use, `EBADF` once closed
   * @throws {RangeError} When the buffer is empty
   */
  acceptOverlapped(ov: Overlapped, buffer?: Uint8Array): void {
    operationOf(ov).accept(this.#acceptor, buffer);
  }

  /** How many connections were closed since nobody took them and as many as the backlog waited. 0 where `capabilities.pauseAccept`. */
  get rejected(): number {
    return this.#acceptor.rejected;
  }

  /** Where it listens, the port that the system chose included. Still there after `close()`. libevent: `getsockname`. */
  get address(): Address {
    return (this.#acceptor.binding as ListenerBinding).address;
  }

  /**
   * Stops listening: its events are deleted, connections that wait are closed, those that were taken stay.
   *
   * @returns When the port is free; the same for every call
   */
  close(): Promise<void> {
    return this.#acceptor.close();
  }

  /** Lets the socket keep the process alive, as it does at first. */
  ref(): void {
    this.#acceptor.binding?.ref();
  }

  /** Lets the process end although the socket is open. */
  unref(): void {
    this.#acceptor.binding?.unref();
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function readListen(runtime: Runtime, given: ListenOptions): ListenOptions {
  const options = readOptions("listen", given, LISTEN_OPTIONS);
  checkTarget("listen", options, 0);
  const { backlog, path, ipv6Only, reusePort, hostname, tls } = options;
  if (backlog !== undefined && (!Number.isInteger(backlog) || backlog < 1)) {
    throw new RangeError(`Cannot listen: the backlog is not a positive integer: received ${show(backlog)}`);
  }
  if (ipv6Only !== undefined) checkBoolean("listen", "ipv6Only", ipv6Only);
  if (reusePort !== undefined) checkBoolean("listen", "reusePort", reusePort);
  if (ipv6Only !== undefined && (path !== undefined || hostname === undefined || familyOf(hostname) === "IPv4")) {
    throw new RangeError(`Cannot listen: ipv6Only is for an IPv6 address: received ${formatAddress(options)}`);
  }
  const { capabilities } = runtime;
  if (reusePort === true && !capabilities.reusePort) {
    throw unsupported("listen on a shared port (reusePort)", runtime, "reusePort");
  }
  if (ipv6Only !== undefined && !capabilities.ipv6Only) {
    throw unsupported("choose whether to listen on IPv4 too (ipv6Only)", runtime, "ipv6Only");
  }
  if (path !== undefined && !capabilities.unix) throw unsupported("listen on a unix socket", runtime, "unix");
  if (tls !== undefined && !capabilities.tls) throw unsupported("listen with TLS", runtime, "tls");
  return tls === undefined ? options : { ...options, tls: readTlsListen("listen", tls) };
}
