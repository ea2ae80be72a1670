/**
 * Datagram sockets of Bun: `Bun.udpSocket`.
 *
 * @module
 */

import type { DatagramBinding, DatagramOptions, DatagramSink, InetAddress } from "../../core/runtime.ts";
import { DEAF, member, receiver, sender, sendingTo, setSending, using } from "../shared/datagram.ts";
import { EventError } from "../../core/errors.ts";
import { failure, host, type HostRuntime, inet, show } from "../shared/host.ts";
import type { BunDatagramHost, BunUdpSocket } from "../types/datagram.ts";

class BunDatagram implements DatagramBinding {
  socket: BunUdpSocket | undefined;
  address: InetAddress;
  private readonly runtime: HostRuntime;
  private sink: DatagramSink;
  /** `send` has returned false. */
  private wanted = false;

  constructor(runtime: HostRuntime, address: InetAddress, sink: DatagramSink) {
    this.runtime = runtime;
    this.address = address;
    this.sink = sink;
  }

  message(data: Uint8Array, port: number, hostname: string): void {
    this.sink.onMessage(data, sender(hostname, port));
  }

  drained(): void {
    if (!this.wanted) return;
    this.wanted = false;
    this.sink.onWritable();
  }

  failed(reason: unknown): void {
    if (!isNobodyThere(reason)) this.sink.onError(failure(using(this.address), reason, "recv"));
  }

  send(data: Uint8Array, to: InetAddress): boolean {
    for (let tries = 0; tries < 3; tries++) {
      try {
        const taken = this.socket!.send(data, to.port, receiver(to, this.address));
        this.wanted ||= !taken;
        return taken;
      } catch (reason) {
        // The failure was of an earlier datagram. This one was not sent, so try again.
        if (isNobodyThere(reason)) continue;
        host.setImmediate(() => this.sink.onError(failure(sendingTo(to), reason, "send")));
        return true;
      }
    }
    // Lost, as datagrams may be.
    return true;
  }

  join(group: string, networkInterface: string | undefined): Promise<void> {
    return member("join", this.socket!, this.address, group, networkInterface);
  }

  leave(group: string, networkInterface: string | undefined): Promise<void> {
    return member("leave", this.socket!, this.address, group, networkInterface);
  }

  close(): void {
    if (this.sink === DEAF) return;
    this.sink = DEAF;
    this.runtime.openHandles--;
    this.socket!.close();
  }

  ref(): void {
    if (this.sink !== DEAF) this.socket!.ref();
  }

  unref(): void {
    if (this.sink !== DEAF) this.socket!.unref();
  }
}

/**
 * Bun alone reports that the port of an earlier datagram was closed: as a failure of the socket or of the next send
 * (oven-sh/bun#28690). A socket that is not connected ignores it, since datagrams get lost anyway. Remove when Bun no
 * longer reports it.
 */
function isNobodyThere(reason: unknown): boolean {
  return (reason as { code?: unknown } | null | undefined)?.code === "ECONNREFUSED";
}

/** SO_REUSEADDR among the flags of a socket: `LIBUS_LISTEN_REUSE_ADDR` of its uSockets. The option has no name (oven-sh/bun#27246). */
const REUSE_ADDRESS = 16;

/** `Runtime.datagram`. */
export async function bunDatagram(
  runtime: HostRuntime,
  options: DatagramOptions,
  sink: DatagramSink,
): Promise<DatagramBinding> {
  const { hostname = "0.0.0.0", port = 0, multicastTtl, reuseAddress } = options;
  if (multicastTtl === 0) {
    throw new EventError("Cannot open a datagram socket with multicastTtl 0: Bun takes 1 to 255", {
      code: "EV_UNSUPPORTED",
    });
  }
  const ours = new BunDatagram(runtime, inet(hostname, port)!, sink);
  try {
    ours.socket = await (host.Bun as unknown as BunDatagramHost).udpSocket({
      hostname,
      port,
      ...(reuseAddress === true ? { flags: REUSE_ADDRESS } : undefined),
      binaryType: "uint8array",
      socket: {
        data: (_socket, data, from, address) => ours.message(data, from, address),
        drain: () => ours.drained(),
        error: (reason) => ours.failed(reason),
      },
    });
  } catch (reason) {
    throw failure(`bind ${show({ hostname, port })}`, reason, "bind");
  }
  ours.address = inet(hostname, ours.socket.port)!;
  try {
    setSending(ours.socket, options, ours.address);
  } catch (reason) {
    ours.socket.close();
    throw failure(`open a datagram socket on ${show({ hostname, port })}`, reason, "setsockopt");
  }
  runtime.openHandles++;
  return ours;
}
