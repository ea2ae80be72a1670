/**
 * Datagram sockets of Node: `node:dgram`.
 *
 * @module
 */

import type { DatagramBinding, DatagramOptions, DatagramSink, InetAddress } from "../../core/runtime.ts";
import { DEAF, member, receiver, SEND_QUEUE_BYTES, sender, sendingTo, setSending, using } from "../shared/datagram.ts";
import { builtin, failure, familyOf, host, type HostRuntime, inet, show } from "../shared/host.ts";
import type { NodeDgram, NodeDgramLookedUp, NodeDgramSocket } from "../types/datagram.ts";

class NodeDatagram implements DatagramBinding {
  readonly address: InetAddress;
  private readonly runtime: HostRuntime;
  private readonly socket: NodeDgramSocket;
  private sink: DatagramSink;
  /** `send` has returned false. */
  private wanted = false;
  private ended = false;

  constructor(runtime: HostRuntime, socket: NodeDgramSocket, sink: DatagramSink) {
    this.runtime = runtime;
    this.socket = socket;
    this.sink = sink;
    const bound = socket.address();
    this.address = inet(bound.address, bound.port)!;
    runtime.openHandles++;
    socket.on("message", (data, from) => {
      // Not the Buffer: we promise a Uint8Array, and `subarray`, `slice` and `toString` of a Buffer differ.
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      this.sink.onMessage(bytes, sender(from.address, from.port));
    });
  }

  failed(reason: unknown): void {
    this.sink.onError(failure(using(this.address), reason, "recv"));
  }

  send(data: Uint8Array, to: InetAddress): boolean {
    const queued = this.socket.getSendQueueSize();
    if (queued > 0 && queued + data.length > SEND_QUEUE_BYTES) {
      this.wanted = true;
      return false;
    }
    const sent = (reason: unknown): void => {
      if (reason) this.sink.onError(failure(sendingTo(to), reason, "send"));
      this.drained();
    };
    try {
      this.socket.send(data, to.port, receiver(to, this.address), sent);
    } catch (reason) {
      host.setImmediate(() => sent(reason));
    }
    return true;
  }

  private drained(): void {
    if (this.ended) return;
    if (this.sink === DEAF) return this.endWhenSent();
    if (!this.wanted || this.socket.getSendQueueSize() * 2 > SEND_QUEUE_BYTES) return;
    this.wanted = false;
    this.sink.onWritable();
  }

  join(group: string, networkInterface: string | undefined): Promise<void> {
    return member("join", this.socket, this.address, group, networkInterface);
  }

  leave(group: string, networkInterface: string | undefined): Promise<void> {
    return member("leave", this.socket, this.address, group, networkInterface);
  }

  close(): void {
    if (this.sink === DEAF) return;
    this.sink = DEAF;
    this.endWhenSent();
  }

  private endWhenSent(): void {
    // Closing now would drop the datagrams that the system has not taken.
    if (this.socket.getSendQueueCount() > 0) return;
    this.ended = true;
    this.socket.once("close", () => void this.runtime.openHandles--);
    this.socket.close();
  }

  ref(): void {
    this.socket.ref();
  }

  unref(): void {
    this.socket.unref();
  }
}

/** All addresses are numeric. Node's own lookup would cost a turn of the loop for each datagram. */
function numeric(hostname: string, _options: unknown, callback: NodeDgramLookedUp): void {
  callback(null, hostname, familyOf(hostname) === "IPv6" ? 6 : 4);
}

/** `Runtime.datagram`. */
export function nodeDatagram(
  runtime: HostRuntime,
  options: DatagramOptions,
  sink: DatagramSink,
): Promise<DatagramBinding> {
  return new Promise((resolve, reject) => {
    const { hostname = "0.0.0.0", port = 0 } = options;
    const type = familyOf(hostname) === "IPv6" ? "udp6" : "udp4";
    const socket = builtin<NodeDgram>("node:dgram").createSocket({
      type,
      lookup: numeric,
      reuseAddr: options.reuseAddress ?? false,
    });
    let datagram: NodeDatagram | undefined;
    socket.on("error", (reason) => {
      if (datagram !== undefined) return datagram.failed(reason);
      reject(failure(`bind ${show({ hostname, port })}`, reason, "bind"));
      socket.close();
    });
    socket.once("listening", () => {
      try {
        setSending(socket, options, inet(hostname, port)!);
      } catch (reason) {
        socket.close();
        return reject(failure(`open a datagram socket on ${show({ hostname, port })}`, reason, "setsockopt"));
      }
      resolve(datagram = new NodeDatagram(runtime, socket, sink));
    });
    // Exclusive, as on the other runtimes. Otherwise the workers of a cluster would share the port.
    socket.bind({ address: hostname, port, exclusive: true });
  });
}
