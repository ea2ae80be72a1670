/** A listening socket: connections that the host has accepted, and nobody has taken, in a bounded queue. */

import { EAGAIN, EV_READ } from "../flags.ts";
import { EventError } from "../errors.ts";
import { Source } from "../loop/source.ts";
import type { AcceptSink, Address, ListenerBinding, ListenOptions, Runtime } from "../runtime.ts";
import type { TransportBinding, TransportSink } from "../runtime.ts";
import { operationOf, type Overlapped } from "../poll/overlapped.ts";
import { AcceptBackoff, isExhausted } from "./accept_backoff.ts";
import { checkTls, type TlsListenOptions } from "../tls.ts";
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
let behind: (socket: ListeningSocket) => Acceptor;

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
  readonly #limit: number;
  readonly #tls: TlsListenOptions | undefined;
  readonly #queue: Fifo<Stream> = new Fifo();
  readonly #backoff: AcceptBackoff;
  #error: EventError | null = null;
  #paused = false;

  constructor(runtime: Runtime, limit: number, tls?: TlsListenOptions) {
    super();
    this.runtime = runtime;
    this.#tls = tls;
    this.#limit = limit;
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

  onAccept(binding: TransportBinding): TransportSink {
    const stream = new Stream(this.runtime, binding);
    this.#backoff.succeeded();
    if (binding.handshaking === true) {
      const handshake = new Handshake(stream, "server", this.#tls ?? {});
      stream.handshake = handshake;
      handshake.watch();
    }
    if (this.closed || this.#queue.length >= this.#limit && !this.runtime.capabilities.pauseAccept) {
      // Nobody will take it, or more wait than the backlog allows and the host can't leave them with the system.
      stream.close();
      return stream;
    }
    this.#queue.push(stream);
    this.notify(EV_READ);
    // The turn that notify() may have run has taken it, as a rule.
    if (this.#queue.last === stream) this.#hold(stream);
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
    const stream = this.#queue.shift();
    const error = this.#error;
    if (stream === undefined && error !== null) this.#error = null;
    if (this.#queue.length === 0 && this.#error === null) this.clear(EV_READ);
    if (this.#paused && this.#queue.length < this.#limit) {
      this.#paused = false;
      if (!this.#backoff.waiting) this.binding?.resumeAccept();
    }
    if (stream === undefined) {
      if (error !== null) throw error;
      return EAGAIN;
    }
    stream.unpark();
    return stream;
  }

  /** A connection that waits is not read: it holds no memory but its own. */
  #hold(stream: Stream): void {
    stream.park();
    if (this.#paused || this.#queue.length < this.#limit) return;
    this.#paused = true;
    this.binding?.pauseAccept();
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
}

/**
 * A socket that takes connections. Those that the host has accepted wait in a queue of the length of the backlog until
 * `accept()` takes them; where the host can, further ones wait in the system.
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
    super(acceptor);
    behind ??= (socket: ListeningSocket): Acceptor => socket.#acceptor;
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
    checkListen(runtime, options);
    const backlog = options.backlog ?? DEFAULT_BACKLOG;
    const acceptor = new Acceptor(runtime, backlog, options.tls);
    // The address of a host's name, as bind(2) has none.
    let { hostname } = options;
    if (hostname !== undefined && familyOf(hostname) === undefined) {
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

function checkListen(runtime: Runtime, options: ListenOptions): void {
  checkTarget("listen", options, 0);
  const { backlog, path, ipv6Only, reusePort, hostname, tls } = options;
  if (backlog !== undefined && (!Number.isInteger(backlog) || backlog < 1)) {
    throw new RangeError(`Cannot listen: the backlog is not a positive integer: received ${backlog}`);
  }
  if (ipv6Only !== undefined && (path !== undefined || hostname === undefined || familyOf(hostname) === "IPv4")) {
    throw new RangeError(`Cannot listen: ipv6Only is for an IPv6 address: received ${formatAddress(options)}`);
  }
  const { capabilities } = runtime;
  if (reusePort === true && !capabilities.reusePort) unsupported(runtime, "a shared port");
  if (ipv6Only !== undefined && !capabilities.ipv6Only) unsupported(runtime, "ipv6Only");
  if (path !== undefined && !capabilities.unix) unsupported(runtime, "a unix socket");
  if (tls !== undefined && !capabilities.tls) unsupported(runtime, "TLS");
  if (tls !== undefined) checkTls("listen", tls, "server");
}

function unsupported(runtime: Runtime, what: string): never {
  throw new EventError(`Cannot listen with ${what}: ${runtime.name} can't`, { code: "EV_UNSUPPORTED" });
}
