/** Listening sockets. */

import { checkBoolean, checkCapabilities, checkInner, outOfRange, wrongType } from "../checks.ts";
import { EAGAIN } from "../flags.ts";
import { readOptions } from "../names.ts";
import { checkRuntime, DEFAULT_BACKLOG, LISTEN_OPTIONS } from "../runtime.ts";
import type { Address, ListenerBinding, ListenOptions, Runtime } from "../runtime.ts";
import { Acceptor } from "../socket/acceptor.ts";
import { checkTarget, familyOf, formatAddress } from "../socket/address.ts";
import { readTlsListen } from "../tls.ts";
import { operationOf, type Overlapped } from "./overlapped.ts";
import { Pollable } from "./pollable.ts";
import { type Socket, socketOf } from "./socket.ts";

/** For the core: the engine of a listening socket. */
export function acceptorOf(socket: ListeningSocket): Acceptor {
  return behind(socket);
}

/** Set by the first ListeningSocket: see `Pollable`. */
let behind: (socket: ListeningSocket) => Acceptor = refuse;

function refuse(socket: unknown): never {
  throw wrongType("use a listening socket", "not a ListeningSocket", socket);
}

/**
 * A socket that accepts connections. Connections that the runtime has accepted wait in a queue until `accept()` takes
 * them. If `capabilities.pauseAccept` is true, the runtime leaves connections beyond the backlog in the kernel.
 * Otherwise the runtime accepts all. They wait here, up to the process's descriptors, as long as somebody takes them:
 * an event, a poller or a `select()` waits for the socket, or `accept()` was called within the last 10 s. If nobody
 * does, connections beyond the backlog are closed and counted in `rejected`. `accept()` skips a client that has left
 * before it was accepted.
 *
 * If the process or the system runs out of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), accepting
 * pauses for 10 ms, then twice as long after each failure, up to a second. The connections wait meanwhile. The error is
 * reported once, until a connection could be accepted again. Not every runtime reports it: see
 * `docs/decisions/every-client-is-heard-of.md`.
 *
 * libevent: a listening `evutil_socket_t` with `accept`.
 *
 * @example
 * ```ts
 * import { EAGAIN, EV_PERSIST, EV_READ, EventBase } from "trivent";
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
   * @param runtime The runtime
   * @param options The address to listen on
   * @returns The socket
   * @throws {EventError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …; `EBADF`, `ENOTSOCK` or `EINVAL` for a descriptor that
   * does not listen; `EV_UNSUPPORTED` when the runtime lacks what an option needs
   * @throws {RangeError} When the address is not valid
   */
  static async listen(runtime: Runtime, options: ListenOptions): Promise<ListeningSocket> {
    options = readListen(checkRuntime("listen", runtime), options);
    const backlog = options.backlog ?? DEFAULT_BACKLOG;
    const acceptor = new Acceptor(runtime, backlog, options.tls);
    // The address of a runtime's name, as bind(2) has none.
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
   * Accepts a connection.
   *
   * libevent: `accept`.
   *
   * @returns The socket of the connection, or `EAGAIN` when none waits
   * @throws {EventError} The failure of accepting (`EMFILE`, …), once until a connection could be accepted again;
   * `EBADF` after `close()`
   */
  accept(): Socket | typeof EAGAIN {
    const connection = this.#acceptor.accept();
    return typeof connection === "number" ? EAGAIN : socketOf(connection);
  }

  /**
   * Begins to accept. It completes when a connection is in `ov.socket`, which has both addresses. With a buffer, it
   * completes when the first data has arrived too.
   *
   * Windows: `AcceptEx`, `GetAcceptExSockaddrs`.
   *
   * @param ov The status of the operation
   * @param buffer The array for the first data. Do not use it until the operation has completed
   * @throws {EventError} `EV_BUSY` when `ov` is in use, `EBADF` after `close()`
   * @throws {RangeError} When the buffer is empty
   */
  acceptOverlapped(ov: Overlapped, buffer?: Uint8Array): void {
    operationOf(ov).accept(this.#acceptor, buffer);
  }

  /**
   * The number of connections that were closed because they were not accepted and the backlog was full. Always
   * 0 if
   * `capabilities.pauseAccept`.
   */
  get rejected(): number {
    return this.#acceptor.rejected;
  }

  /**
   * The address where it listens, with the port that the system chose. It stays after `close()`. libevent:
   * `getsockname`.
   */
  get address(): Address {
    return (this.#acceptor.binding as ListenerBinding).address;
  }

  /**
   * The file descriptor. A child process that inherits it can listen on it with the option `fd`, so that the address is open without
   * a gap. Undefined after `close()`, and where the runtime does not tell it: Deno tells only the one that it was given.
   *
   * libevent: the `evutil_socket_t` itself.
   */
  get fd(): number | undefined {
    return this.#acceptor.closed ? undefined : this.#acceptor.binding?.fd;
  }

  /**
   * Stops listening. Its events are deleted, and connections that wait are closed. Accepted connections stay.
   *
   * @returns A promise that resolves when the port is free; every call returns the same one
   */
  close(): Promise<void> {
    return this.#acceptor.close();
  }

  /** Makes the socket keep the process alive, which is the default. */
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
  const { backlog, path, fd, ipv6Only, reusePort, hostname, replaceStale, tls, unlinkOnClose } = options;
  if (backlog !== undefined && (!Number.isInteger(backlog) || backlog < 1)) {
    throw outOfRange("listen", "the backlog is not a positive integer", backlog);
  }
  if (ipv6Only !== undefined) checkBoolean("listen", "ipv6Only", ipv6Only);
  if (reusePort !== undefined) checkBoolean("listen", "reusePort", reusePort);
  if (ipv6Only !== undefined && (path !== undefined || hostname === undefined || familyOf(hostname) === "IPv4")) {
    throw new RangeError(`Cannot listen: ipv6Only is for an IPv6 address: received ${formatAddress(options)}`);
  }
  if (unlinkOnClose !== undefined) checkBoolean("listen", "unlinkOnClose", unlinkOnClose);
  if (replaceStale !== undefined) checkBoolean("listen", "replaceStale", replaceStale);
  if (path === undefined && (unlinkOnClose ?? replaceStale) !== undefined) {
    throw new TypeError(
      `Cannot listen: unlinkOnClose and replaceStale are for a path: received ${formatAddress(options)}`,
    );
  }
  if (fd !== undefined && reusePort !== undefined) {
    throw new TypeError(`Cannot listen: reusePort is for an address: received ${formatAddress(options)}`);
  }
  checkCapabilities("listen", runtime, options);
  return tls === undefined ? options : { ...options, tls: readTlsListen("listen", tls) };
}
