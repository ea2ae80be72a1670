/**
 * Datagram sockets of Deno: `Deno.listenDatagram`, which exists only with the flag `--unstable-net`.
 *
 * @module
 */

import type { DatagramBinding, DatagramOptions, DatagramSink, InetAddress } from "../../core/runtime.ts";
import {
  DATAGRAM_COST,
  DEAF,
  grouping,
  receiver,
  SEND_QUEUE_BYTES,
  sender,
  sendingTo,
  using,
} from "../shared/datagram.ts";
import { unsupported } from "../../core/checks.ts";
import { refusal } from "../shared/errors.ts";
import { builtin, failure, host, type HostRuntime, inet, show } from "../shared/host.ts";
import type { NodeFsSync, NodeOs } from "../types/node.ts";
import type { DenoDatagramConn, DenoDatagramHost, DenoMembership, DenoUdpAddr } from "../types/datagram.ts";

/** The largest possible datagram, so that none is truncated. */
const LARGEST = 64 * 1024;

interface Outgoing {
  readonly data: Uint8Array;
  readonly to: InetAddress;
}

class DenoDatagram implements DatagramBinding {
  readonly address: InetAddress;
  private readonly runtime: HostRuntime;
  private readonly conn: DenoDatagramConn;
  private sink: DatagramSink;
  private readonly buffer: Uint8Array = new Uint8Array(LARGEST);
  /**
   * Datagrams that wait. Sends that overlap may overtake one another, so one at a time is under way: the first of
   * these.
   */
  private readonly queue: Outgoing[] = [];
  private queued = 0;
  /** The groups that it has joined, by the words for it. */
  private readonly memberships: Map<string, DenoMembership> = new Map();
  /** `send` has returned false. */
  private wanted = false;
  private ended = false;

  constructor(runtime: HostRuntime, conn: DenoDatagramConn, sink: DatagramSink) {
    this.runtime = runtime;
    this.conn = conn;
    this.sink = sink;
    this.address = inet(conn.addr.hostname, conn.addr.port)!;
    runtime.openHandles++;
    this.receive();
  }

  private receive(): void {
    this.conn.receive(this.buffer).then(this.received, this.receiveFailed);
  }

  private readonly received = ([data, from]: [Uint8Array, DenoUdpAddr]): void => {
    // A copy, since the next receive uses the same buffer.
    this.sink.onMessage(data.slice(), sender(from.hostname, from.port));
    if (this.ended) this.gone();
    else this.receive();
  };

  private readonly receiveFailed = (reason: unknown): void => {
    if (this.ended) return this.gone();
    this.sink.onError(failure(using(this.address), reason, "recv"));
    // Not at once, since the failure may be permanent.
    host.setTimeout(() => this.ended ? this.gone() : this.receive(), 10).unref();
  };

  send(data: Uint8Array, to: InetAddress): boolean {
    const cost = data.length + DATAGRAM_COST;
    if (this.queue.length > 0 && this.queued + cost > SEND_QUEUE_BYTES) {
      this.wanted = true;
      return false;
    }
    this.queued += cost;
    this.queue.push({ data, to });
    if (this.queue.length === 1) this.sendFirst();
    return true;
  }

  private sendFirst(): void {
    const { data, to } = this.queue[0]!;
    const address: DenoUdpAddr = { transport: "udp", hostname: receiver(to, this.address), port: to.port };
    this.conn.send(data, address).then(this.sent, this.sendFailed);
  }

  private readonly sendFailed = (reason: unknown): void => {
    this.sink.onError(failure(sendingTo(this.queue[0]!.to), reason, "send"));
    this.sent();
  };

  private readonly sent: () => void = () => {
    this.queued -= this.queue.shift()!.data.length + DATAGRAM_COST;
    if (this.queue.length > 0) this.sendFirst();
    else if (this.sink === DEAF) return this.end();
    if (!this.wanted || this.queued * 2 > SEND_QUEUE_BYTES) return;
    this.wanted = false;
    this.sink.onWritable();
  };

  async join(group: string, networkInterface: string | undefined): Promise<void> {
    const tried = grouping("join", group, networkInterface);
    const conn = this.conn;
    try {
      const membership = this.address.family === "IPv4"
        ? await conn.joinMulticastV4(group, networkInterface ?? "0.0.0.0")
        : await conn.joinMulticastV6(group, networkInterface === undefined ? 0 : indexOf(tried, networkInterface));
      this.memberships.set(tried, membership);
    } catch (reason) {
      // Deno has no code for it. The number is the same on Linux and macOS.
      const isUnknown = reason instanceof Error && reason.message.includes("(os error 19)");
      throw failure(tried, reason, "setsockopt", isUnknown ? "ENODEV" : undefined);
    }
  }

  async leave(group: string, networkInterface: string | undefined): Promise<void> {
    const joined = grouping("join", group, networkInterface);
    const tried = grouping("leave", group, networkInterface);
    const membership = this.memberships.get(joined);
    if (membership === undefined) {
      throw refusal(tried, "EADDRNOTAVAIL", "setsockopt", "the socket has not joined it there");
    }
    this.memberships.delete(joined);
    try {
      await membership.leave();
    } catch (reason) {
      throw failure(tried, reason, "setsockopt");
    }
  }

  close(): void {
    if (this.sink === DEAF) return;
    this.sink = DEAF;
    // Closing now would drop the datagrams that wait.
    if (this.queue.length === 0) this.end();
  }

  private end(): void {
    this.ended = true;
    this.conn.close();
  }

  /** The port is free when the receive that was under way has been cancelled. */
  private gone(): void {
    this.runtime.openHandles--;
  }

  ref(): void {
    this.conn.ref();
  }

  unref(): void {
    this.conn.unref();
  }
}

/** The number of an interface, which Deno takes in place of a name. */
function indexOf(tried: string, name: string): number {
  try {
    return Number(builtin<NodeFsSync>("node:fs").readFileSync(`/sys/class/net/${name}/ifindex`, "utf8"));
  } catch {
    // Elsewhere, an IPv6 address of an interface tells the number.
    const all = builtin<NodeOs>("node:os").networkInterfaces()[name];
    const scope = all?.find(({ scopeid = 0 }) => scopeid > 0)?.scopeid;
    if (scope !== undefined) return scope;
    throw refusal(tried, "ENODEV", "setsockopt");
  }
}

/** `Runtime.datagram`. */
// deno-lint-ignore require-await -- what is thrown becomes the rejection
export async function denoDatagram(
  runtime: HostRuntime,
  options: DatagramOptions,
  sink: DatagramSink,
): Promise<DatagramBinding> {
  const { hostname = "0.0.0.0", port = 0, reuseAddress = false, multicastLoopback = true } = options;
  const tried = `bind ${show({ hostname, port })}`;
  const deno = host.Deno as unknown as DenoDatagramHost;
  if (deno.listenDatagram === undefined) throw unsupported(tried, runtime, "udp");
  try {
    const conn = deno.listenDatagram({ transport: "udp", hostname, port, reuseAddress, loopback: multicastLoopback });
    return new DenoDatagram(runtime, conn, sink);
  } catch (reason) {
    throw failure(tried, reason, "bind");
  }
}
