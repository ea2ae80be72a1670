/** Datagram sockets (UDP). */

import {
  checkBoolean,
  checkInner,
  checkNoNul,
  checkNumber,
  checkText,
  copyOf,
  outOfRange,
  unsupported,
  wrongType,
} from "../checks.ts";
import { EAGAIN } from "../flags.ts";
import { EventError } from "../errors.ts";
import { checkData, encodeUtf8 } from "../buffer/utf8.ts";
import { readOptions } from "../names.ts";
import { isMulticast, parseIpv4, parseIpv6 } from "../ip.ts";
import { checkRuntime, DATAGRAM_OPTIONS } from "../runtime.ts";
import type { Capabilities, DatagramBinding, DatagramOptions, InetAddress, Runtime } from "../runtime.ts";
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
   * @param options The address to bind to, and how it sends
   * @returns The socket
   * @throws {TypeError} When an option is of the wrong type
   * @throws {RangeError} When an option is out of range
   * @throws {EventError} `EADDRINUSE`, `EACCES`, …; `EV_UNSUPPORTED` if `capabilities.udp`, or the capability that an option
   * needs, is false
   */
  static async open(runtime: Runtime, options: DatagramOptions = {}): Promise<DatagramSocket> {
    const doing = "open a datagram socket";
    checkRuntime(doing, runtime);
    const given = readOptions(doing, options, DATAGRAM_OPTIONS);
    const { hostname = "0.0.0.0", port = 0 } = given;
    checkTarget(doing, { hostname, port }, 0);
    const family = familyOf(hostname);
    if (family === undefined) {
      throw outOfRange(doing, "not a numeric address", hostname);
    }
    checkSending(doing, given, family);
    if (runtime.datagram === undefined || !runtime.capabilities.udp) {
      throw unsupported(doing, runtime, "udp");
    }
    for (const [option, capability] of NEEDS) {
      if (given[option] === undefined || given[option] === false && capability !== "multicast") continue;
      if (!runtime.capabilities[capability]) throw unsupported(`${doing} with ${option}`, runtime, capability);
    }
    const source = new DatagramSource(runtime);
    source.binding = await runtime.datagram({ ...given, hostname, port }, source);
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
    // A copy in any case.
    const bytes = typeof data === "string"
      ? encodeUtf8(data)
      : copyOf("sendTo", "the data", checkData("sendTo", "the data", data));
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
   * Joins a multicast group: the socket then gets the datagrams to the group that are sent to its port. Bind the socket to every
   * address (`0.0.0.0` or `::`).
   *
   * libevent: `setsockopt` with `IP_ADD_MEMBERSHIP`.
   *
   * @param group The address of the group, of the family of the socket
   * @param networkInterface The interface to join on: its numeric address for IPv4, its name (`eth0`) for IPv6; by default the
   * system's choice
   * @returns A promise that resolves when the socket has joined
   * @throws {RangeError} When the address is not that of a group, or the interface is not valid
   * @throws {EventError} `EADDRINUSE` if the socket has joined the group there; `ENODEV` or `EADDRNOTAVAIL` if there is no
   * such interface; `EAFNOSUPPORT` for a group of the other family; `EBADF` after `close()`; `EV_UNSUPPORTED` if
   * `capabilities.multicast` is false
   *
   * @example
   * ```ts
   * import { EV_READ, EventBase, simRuntime } from "trivent";
   * const runtime = simRuntime();
   * const base = new EventBase({ runtime });
   * const socket = await base.datagram({ port: 5353 });
   * await socket.join("224.0.0.251");
   * socket.sendTo("who is there?", { hostname: "224.0.0.251", port: 5353 });
   * base.event(socket, EV_READ, () => console.log(socket.recvFrom())).add();
   * await runtime.run(base.dispatch());
   * socket.close();
   * ```
   */
  async join(group: string, networkInterface?: string): Promise<void> {
    await this.#member("join", group, networkInterface).join?.(group, networkInterface);
  }

  /**
   * Leaves a multicast group.
   *
   * libevent: `setsockopt` with `IP_DROP_MEMBERSHIP`.
   *
   * @param group The address of the group
   * @param networkInterface The interface that `join()` was given
   * @returns A promise that resolves when the socket has left
   * @throws {RangeError} As `join()`
   * @throws {EventError} `EADDRNOTAVAIL` if the socket has not joined it there; otherwise as `join()`
   */
  async leave(group: string, networkInterface?: string): Promise<void> {
    await this.#member("leave", group, networkInterface).leave?.(group, networkInterface);
  }

  #member(doing: "join" | "leave", group: string, networkInterface: string | undefined): DatagramBinding {
    const what = `${doing} a multicast group`;
    const bytes = bytesOf(checkText(what, "the group", group));
    if (bytes === null || !isMulticast(bytes)) throw outOfRange(what, "not the numeric address of a group", group);
    const { family } = this.address;
    const own = bytes.length === 4 ? "IPv4" : "IPv6";
    if (networkInterface !== undefined) checkInterface(what, networkInterface, own);
    const source = this.#source;
    if (source.closed) throw new EventError(`Cannot ${what}: the socket was closed`, { code: "EBADF" });
    if (own !== family) {
      throw new EventError(`Cannot ${what}: the socket has an ${family} address: received ${group}`, {
        code: "EAFNOSUPPORT",
      });
    }
    if (!source.runtime.capabilities.multicast) throw unsupported(what, source.runtime, "multicast");
    return source.binding as DatagramBinding;
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

/** The options that each need a capability. */
const NEEDS: readonly (readonly [option: keyof DatagramOptions, capability: keyof Capabilities])[] = [
  ["reuseAddress", "reuseAddress"],
  ["broadcast", "broadcast"],
  ["multicastLoopback", "multicast"],
  ["multicastTtl", "multicastOptions"],
  ["multicastInterface", "multicastOptions"],
];

function checkSending(doing: string, options: DatagramOptions, family: "IPv4" | "IPv6"): void {
  for (const name of ["reuseAddress", "broadcast", "multicastLoopback"] as const) {
    const value = options[name];
    if (value !== undefined) checkBoolean(doing, name, value);
  }
  const { multicastTtl, multicastInterface } = options;
  if (multicastTtl !== undefined) {
    checkNumber(doing, "multicastTtl", multicastTtl);
    if (!Number.isInteger(multicastTtl) || multicastTtl < 0 || multicastTtl > 255) {
      throw outOfRange(doing, "multicastTtl is not a whole number from 0 to 255", multicastTtl);
    }
  }
  if (multicastInterface !== undefined) checkInterface(doing, multicastInterface, family);
}

/** An interface is an address for IPv4, as in `struct ip_mreq`, and a name for IPv6. */
function checkInterface(doing: string, networkInterface: string, family: "IPv4" | "IPv6"): void {
  checkNoNul(doing, "the interface", checkText(doing, "the interface", networkInterface));
  if (family === "IPv4" ? parseIpv4(networkInterface) !== null : /^[^\s/%:]{1,64}$/.test(networkInterface)) return;
  const form = family === "IPv4" ? "the numeric address of an interface" : "the name of an interface";
  throw outOfRange(doing, `not ${form}`, networkInterface);
}

function bytesOf(group: string): Uint8Array | null {
  return parseIpv4(group) ?? parseIpv6(group);
}
