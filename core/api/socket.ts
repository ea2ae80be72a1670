/** The public class of a connection: a non-blocking stream socket. */

import { checkBoolean, checkBytes, checkDuration, checkInner, outOfRange, wrongType } from "../checks.ts";
import type { EventError } from "../errors.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import { checkEvBuffer } from "../buffer/internal.ts";
import { toBytes } from "../buffer/utf8.ts";
import type { Address, ConnectOptions, Runtime } from "../runtime.ts";
import { operationOf, type Overlapped } from "./overlapped.ts";
import type { TlsInfo } from "../tls.ts";
import { openConnection } from "../socket/connector.ts";
import { Pollable } from "./pollable.ts";
import { Connection } from "../socket/connection.ts";

/** For the core: the connection behind a socket. */
export function connectionOf(socket: Socket): Connection {
  return behind(socket);
}

/** Set by the first Socket: see `Pollable`. */
let behind: (socket: Socket) => Connection = refuse;

function refuse(socket: unknown): never {
  throw wrongType("use a socket", "not a Socket", socket);
}

/**
 * A non-blocking stream socket, TCP or unix, with a bounded receive queue and a bounded send queue. It works without a
 * loop. Events on it report when bytes can be received or sent.
 *
 * libevent: a non-blocking `evutil_socket_t` with `recv`, `send`, `shutdown` and `close`.
 *
 * @example
 * ```ts
 * import { EAGAIN, EV_WRITE, EventBase } from "trivent";
 * const base = new EventBase();
 * const socket = base.connect({ hostname: "127.0.0.1", port: 9 });
 * base.event(socket, EV_WRITE, () => {
 *   if (socket.error !== null) console.error(socket.error.code); // ECONNREFUSED
 *   else if (socket.send(new Uint8Array([104, 105])) !== EAGAIN) socket.shutdown();
 *   socket.close();
 * }).add(1000);
 * await base.dispatch();
 * ```
 */
export class Socket extends Pollable {
  readonly #connection: Connection;

  private constructor(connection: Connection) {
    super(checkInner(connection, Connection, "Socket", "EventBase.connect()"));
    if (behind === refuse) {
      behind = (socket: Socket): Connection =>
        typeof socket === "object" && socket !== null && #connection in socket ? socket.#connection : refuse(socket);
    }
    this.#connection = connection;
    connection.face = this;
  }

  /**
   * Begins to connect, as `EventBase.connect()` does.
   *
   * @param runtime The runtime
   * @param options The address to connect to
   * @returns The socket; it becomes writable when it is connected, or when it has failed and `error` says why
   * @throws {RangeError} When the address is not valid
   * @throws {EventError} `EV_UNSUPPORTED` when the runtime lacks what an option needs
   */
  static connect(runtime: Runtime, options: ConnectOptions): Socket {
    return socketOf(openConnection(runtime, options));
  }

  /**
   * Receives bytes that have arrived. The bytes are copied.
   *
   * libevent: `recv`.
   *
   * @param into The array for the bytes, at least one byte long
   * @returns The number of bytes; 0 when the peer has finished; `EAGAIN` when nothing has arrived
   * @throws {EventError} The failure of the connection, after all bytes that arrived before it; `EBADF` after `close()`
   * @throws {RangeError} When `into` is empty, since 0 means that the peer has finished
   */
  recv(into: Uint8Array): number {
    checkBytes("recv", "the target", into);
    if (into.length === 0) throw new RangeError("Cannot recv: the buffer is empty: received an empty Uint8Array");
    return this.#connection.receive(into);
  }

  /**
   * Receives by moving whole chunks; nothing is copied.
   *
   * libevent: `evbuffer_read`.
   *
   * @param into The buffer to append to; the bytes are then its own
   * @param maxBytes The most to move; by default all
   * @returns As `recv()`
   * @throws {EventError} As `recv()`; `EV_FROZEN` when the end of `into` is frozen
   * @throws {RangeError} When `maxBytes` is not a positive integer
   */
  recvBuffer(into: EvBuffer, maxBytes: number = Number.MAX_SAFE_INTEGER): number {
    checkBuffer("recvBuffer", into, maxBytes);
    return this.#connection.receiveBuffer(into, maxBytes);
  }

  /**
   * Sends as many bytes as the send queue takes. The bytes are copied, so you may change them at once. They leave
   * without a loop.
   *
   * libevent: `send`.
   *
   * @param data The bytes; a string is sent as UTF-8
   * @returns The number of bytes that were taken; `EAGAIN` when the queue is full, or while connecting. For no bytes: 0
   * when connected, `ENOTCONN` while connecting
   * @throws {EventError} The failure of the connection; `EPIPE` after `shutdown()`; `EBADF` after `close()`
   */
  send(data: Uint8Array | string): number {
    return this.#connection.send(toBytes("send", "the data", data));
  }

  /**
   * Sends by moving whole chunks; nothing is copied.
   *
   * libevent: `evbuffer_write_atmost`.
   *
   * @param from The buffer to take bytes from
   * @param maxBytes The most to take; by default all
   * @returns As `send()`
   * @throws {EventError} As `send()`; `EV_FROZEN` when the front of `from` is frozen
   * @throws {RangeError} When `maxBytes` is not a positive integer
   */
  sendBuffer(from: EvBuffer, maxBytes: number = Number.MAX_SAFE_INTEGER): number {
    checkBuffer("sendBuffer", from, maxBytes);
    return this.#connection.sendBuffer(from, maxBytes);
  }

  /**
   * Begins to receive. It completes when bytes have arrived, or with 0 bytes when the peer has finished.
   *
   * Windows: `WSARecv`.
   *
   * @param buffer The array for the bytes. Do not use it until the operation has completed
   * @param ov The status of the operation
   * @throws {EventError} `EV_BUSY` when `ov` is in use, `EBADF` after `close()`. A failure of the connection completes
   * the operation
   * @throws {RangeError} When the buffer is empty
   */
  recvOverlapped(buffer: Uint8Array, ov: Overlapped): void {
    operationOf(ov).receive(this.#connection, buffer);
  }

  /**
   * Begins to send. It completes when all bytes were taken.
   *
   * Windows: `WSASend`.
   *
   * @param buffer The bytes. Do not change them until the operation has completed
   * @param ov The status of the operation
   * @throws {EventError} `EV_BUSY` when `ov` is in use, `EBADF` after `close()`. A failure of the connection completes
   * the operation
   */
  sendOverlapped(buffer: Uint8Array, ov: Overlapped): void {
    operationOf(ov).send(this.#connection, buffer);
  }

  /**
   * Whether the connection has been established (with TLS, after the handshake). It stays true when the connection has
   * ended.
   */
  get connected(): boolean {
    return this.#connection.connected;
  }

  /** Why the connection failed, or null. */
  get error(): EventError | null {
    return this.#connection.error;
  }

  /** Our address; undefined until connected. libevent: `getsockname`. */
  get localAddress(): Address | undefined {
    return this.#connection.local;
  }

  /** The peer's address; undefined until connected. libevent: `getpeername`. */
  get remoteAddress(): Address | undefined {
    return this.#connection.remote;
  }

  /**
   * The result of the TLS handshake; undefined without TLS and until the handshake is done. libevent:
   * `bufferevent_openssl_get_ssl`, and OpenSSL's functions for it.
   */
  get tls(): TlsInfo | undefined {
    return this.#connection.binding?.tls;
  }

  /**
   * Finishes our direction after all sent bytes; receiving goes on. A second call does nothing. libevent:
   * `shutdown(SHUT_WR)`.
   */
  shutdown(): void {
    this.#connection.shutdown();
  }

  /**
   * Closes the socket. Its events are deleted, sent bytes still leave, and bytes that were not received are dropped. A
   * second call does nothing. libevent: `evutil_closesocket`.
   */
  close(): void {
    this.#connection.close();
  }

  /**
   * Closes at once, with a RST if `capabilities.reset`. Bytes that have not left are lost. libevent: `close` with
   * `SO_LINGER` 0.
   */
  reset(): void {
    this.#connection.reset();
  }

  /**
   * Switches Nagle's algorithm off (true, the default of every socket) or on. Does nothing until connected. libevent:
   * `TCP_NODELAY`.
   */
  setNoDelay(on: boolean = true): void {
    checkBoolean("set TCP_NODELAY", "the setting", on);
    this.#connection.binding?.setNoDelay(on);
  }

  /**
   * Switches TCP keep-alive on or off. Does nothing until connected. libevent: `evutil_set_tcp_keepalive`.
   *
   * @param on Whether to probe an idle peer
   * @param delayMs Idle milliseconds before the first probe, if `capabilities.keepAliveDelay`
   * @throws {RangeError} When `delayMs` is not a duration, or is above 2^31 − 1
   */
  setKeepAlive(on: boolean, delayMs: number = 0): void {
    checkBoolean("set keep-alive", "the setting", on);
    if (checkDuration("set keep-alive", "delayMs", delayMs) > LONGEST_DELAY_MS) {
      throw new RangeError(`Cannot set keep-alive: delayMs is above ${LONGEST_DELAY_MS}: received ${delayMs}`);
    }
    this.#connection.binding?.setKeepAlive(on, delayMs);
  }

  /** Makes the socket keep the process alive, which is the default. */
  ref(): void {
    this.#connection.setRef(true);
  }

  /** Lets the process end although the socket is open. */
  unref(): void {
    this.#connection.setRef(false);
  }

  /** As `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** The longest time until the first probe that every runtime accepts: 24 days. */
const LONGEST_DELAY_MS = 2 ** 31 - 1;

function checkBuffer(call: string, buffer: EvBuffer, maxBytes: number): void {
  checkEvBuffer(call, buffer);
  if (!Number.isInteger(maxBytes) || maxBytes < 1) {
    throw outOfRange(call, "maxBytes is not a positive integer", maxBytes);
  }
}

/** For the core: the socket of a connection. */
export function socketOf(connection: Connection): Socket {
  const Face = Socket as unknown as new (connection: Connection) => Socket;
  return (connection.face as Socket | null) ?? new Face(connection);
}
