/** Datagram sockets (UDP). */

import { checkInner, checkText, outOfRange, unsupported, wrongType } from "../checks.ts";
import { EAGAIN } from "../flags.ts";
import { EventError } from "../errors.ts";
import { checkData, encodeUtf8 } from "../buffer/utf8.ts";
import { readOptions } from "../names.ts";
import { checkRuntime, DATAGRAM_OPTIONS } from "../runtime.ts";
import type { DatagramBinding, DatagramOptions, InetAddress, Runtime } from "../runtime.ts";
import { checkTarget, familyOf } from "../socket/address.ts";
import { type Datagram, DatagramSource } from "../socket/datagrams.ts";
import { Pollable } from "./pollable.ts";

/** The most bytes of one UDP datagram over IPv4. */
const MAX_DATAGRAM = 65507;

/**
 * A non-blocking datagram socket (UDP). Datagrams that have arrived wait in a queue of about 200 KiB. If nobody takes
 * them, further ones are lost and counted.
 *
 * libevent: a datagram `evutil_socket_t` with `sendto` and `recvfrom`.
 *
 * @example
 * ```ts
 * import { EAGAIN, EV_READ, EventBase } from "trivent";
 * const base = new EventBase();
 * if (base.runtime.capabilities.udp) {
 *   const socket = await base.datagram({ hostname: "127.0.0.1" });
 *   socket.sendTo("to myself", socket.address);
 *   base.event(socket, EV_READ, () => {
 *     const datagram = socket.recvFrom();
 *     if (datagram !== EAGAIN) console.log(datagram.data.length, "bytes from", datagram.address);
 *     socket.close();
 *   }).add(1000);
 *   await base.dispatch();
 *   socket.close();
 * }
 * ```
 */
export class DatagramSocket extends Pollable {
  readonly #source: DatagramSource;

  private constructor(source: DatagramSource) {
    super(checkInner(source, DatagramSource, "DatagramSocket", "EventBase.datagram()"));
    this.#source = source;
    source.face = this;
  }

  /**
   * Opens a socket, as `EventBase.datagram()` does.
   *
   * @param runtime The runtime
   * @param options The address to bind to
   * @returns The socket
   * @throws {EventError} `EADDRINUSE`, `EACCES`, …; `EV_UNSUPPORTED` if `capabilities.udp` is false
   */
  static async open(runtime: Runtime, options: DatagramOptions = {}): Promise<DatagramSocket> {
    const doing = "open a datagram socket";
    checkRuntime(doing, runtime);
    const { hostname = "0.0.0.0", port = 0 } = readOptions(doing, options, DATAGRAM_OPTIONS);
    checkTarget(doing, { hostname, port }, 0);
    if (familyOf(hostname) === undefined) {
      throw outOfRange(doing, "not a numeric address", hostname);
    }
    if (runtime.datagram === undefined || !runtime.capabilities.udp) {
      throw unsupported(doing, runtime, "udp");
    }
    const source = new DatagramSource(runtime);
    source.binding = await runtime.datagram({ hostname, port }, source);
    return new DatagramSocket(source);
  }

  /**
   * The address that it is bound to, with the port that the system chose. It stays after `close()`. libevent:
   * `getsockname`.
   */
  get address(): InetAddress {
    return (this.#source.binding as DatagramBinding).address;
  }

  /** How many datagrams were lost because the queue was full. Datagrams that the system lost are not counted. */
  get dropped(): number {
    return this.#source.dropped;
  }

  /**
   * Sends one datagram, whole or not at all. The bytes are copied.
   *
   * libevent: `sendto`.
   *
   * @param data The bytes, at most 65507; a string is sent as UTF-8
   * @param to The address to send to, numeric
   * @returns The number of bytes, or `EAGAIN` when the queue is full
   * @throws {RangeError} When the datagram is too large, or the address is not valid
   * @throws {EventError} `EBADF` after `close()`; `EAFNOSUPPORT` for an IPv6 address when the socket has an IPv4
   * address
   */
  sendTo(data: Uint8Array | string, to: { hostname: string; port: number }): number {
    // A copy in any case; not slice(), which on a Buffer makes a view.
    const bytes = typeof data === "string" ? encodeUtf8(data) : new Uint8Array(checkData("sendTo", "the data", data));
    const { hostname, port } = endpointOf(to);
    checkText("sendTo", "the hostname", hostname);
    checkTarget("sendTo", { hostname, port }, 1);
    const family = familyOf(hostname);
    if (family === undefined) throw outOfRange("sendTo", "not a numeric address", hostname);
    if (bytes.length > MAX_DATAGRAM) {
      throw outOfRange("sendTo", `more than ${MAX_DATAGRAM} bytes`, bytes.length);
    }
    const source = this.#source;
    if (source.closed) throw new EventError("Cannot sendTo: the socket was closed", { code: "EBADF", syscall: "send" });
    if (family === "IPv6" && this.address.family === "IPv4") {
      const message = `Cannot sendTo: the socket has an IPv4 address: received ${hostname}`;
      throw new EventError(message, { code: "EAFNOSUPPORT", syscall: "send" });
    }
    return source.send(bytes, { hostname, port, family }) ? bytes.length : EAGAIN;
  }

  /**
   * Takes the first datagram that waits; nothing is copied.
   *
   * libevent: `recvfrom`.
   *
   * @returns The datagram, or `EAGAIN` when none waits
   * @throws {EventError} The failure of sending or receiving, once; `EBADF` after `close()`
   */
  recvFrom(): Datagram | typeof EAGAIN {
    if (this.#source.closed) {
      throw new EventError("Cannot recvFrom: the socket was closed", { code: "EBADF", syscall: "recv" });
    }
    return this.#source.receive();
  }

  /**
   * Closes the socket and deletes its events. Datagrams that were not received are dropped. A second call does nothing.
   */
  close(): void {
    this.#source.close();
  }

  /** Makes the socket keep the process alive, which is the default. */
  ref(): void {
    this.#source.binding?.ref();
  }

  /** Lets the process end although the socket is open. */
  unref(): void {
    this.#source.binding?.unref();
  }

  /** As `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * The address of a datagram. Names of options are not checked, because this runs for each datagram, and an address may
 * have more fields.
 */
function endpointOf(to: { hostname: string; port: number }): { hostname: string; port: number } {
  try {
    const { hostname, port } = to;
    return { hostname, port };
  } catch (cause) {
    throw wrongType("sendTo", "the address is not readable", to, { cause });
  }
}
