/**
 * A simulated datagram socket.
 *
 * @module
 */

import type { DatagramBinding, DatagramSink, InetAddress } from "../../core/runtime.ts";
import { sendingTo } from "../shared/datagram.ts";
import { refusal } from "../shared/errors.ts";
import { type Bound, type Ip, isWildcard, parseIp, seenBy } from "./addresses.ts";
import type { SimHostRuntime } from "./host.ts";

/** The longest datagram: what IPv4 leaves for it. */
export const MAX_DATAGRAM_BYTES = 65_507;
/** How many bytes of one socket may be on their way. */
export const DATAGRAM_BUFFER_BYTES = 212_992;

/**
 * A datagram socket. What is sent arrives one latency later where somebody has bound the address, and is lost where
 * nobody has, as everywhere.
 */
export class SimDatagramSocket implements DatagramBinding {
  readonly bound: Bound;
  readonly reusePort = false;
  readonly #host: SimHostRuntime;
  readonly #sink: DatagramSink;
  #onTheWay = 0;
  #blocked = false;
  #closed = false;

  /**
   * Makes a socket and counts it among the open handles.
   *
   * @param host The host it belongs to
   * @param bound What it has bound
   * @param sink Who hears of datagrams
   */
  constructor(host: SimHostRuntime, bound: Bound, sink: DatagramSink) {
    this.#host = host;
    this.bound = bound;
    this.#sink = sink;
    host.handles++;
  }

  get address(): InetAddress {
    return seenBy(this.bound, this.bound, this.bound.port);
  }

  send(data: Uint8Array, to: InetAddress): boolean {
    const { network } = this.#host;
    network.scheduler.touch();
    if (this.#closed) return true;
    const ip = parseIp(to.hostname);
    if (ip === undefined || ip.family !== this.bound.family && this.bound.family === "IPv4") {
      return this.#fail(to, "EINVAL", "the address is of another family than the socket");
    }
    if (ip.family !== this.bound.family && !isWildcard(this.bound)) {
      return this.#fail(to, "ENETUNREACH");
    }
    if (data.length > MAX_DATAGRAM_BYTES) {
      return this.#fail(to, "EMSGSIZE");
    }
    if (this.#onTheWay + data.length > DATAGRAM_BUFFER_BYTES) {
      this.#blocked = true;
      return false;
    }
    const bytes = new Uint8Array(data.length);
    bytes.set(data);
    this.#onTheWay += bytes.length;
    const lost = network.losesDatagram();
    network.after(() => {
      this.#leave(bytes.length);
      if (!lost) this.#arrive(bytes, ip, to.port);
    });
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#host.handles--;
    this.#host.datagrams.delete(this);
  }

  ref(): void {}

  unref(): void {}

  #arrive(bytes: Uint8Array, ip: Ip, port: number): void {
    const there = this.#host.local(ip);
    const target = this.#host.network.route(this.#host, there, (host) => host.datagrams.has(there, port));
    const socket = target?.datagrams.find(there, port);
    if (target === undefined || socket === undefined || socket.#closed) return;
    const source = isWildcard(this.bound) ? this.#host.sourceFor(target, there) : this.bound;
    socket.#sink.onMessage(bytes, { hostname: source.hostname, port: this.bound.port, family: source.family });
  }

  #leave(bytes: number): void {
    this.#onTheWay -= bytes;
    if (!this.#blocked || this.#closed || this.#onTheWay * 2 > DATAGRAM_BUFFER_BYTES) return;
    this.#blocked = false;
    this.#host.network.soon(() => {
      if (!this.#closed) this.#sink.onWritable();
    });
  }

  /** The datagram counts as sent; the failure is told later. */
  #fail(to: InetAddress, code: string, why?: string): true {
    this.#host.network.soon(() => {
      if (!this.#closed) this.#sink.onError(refusal(sendingTo(to), code, "send", why));
    });
    return true;
  }
}
