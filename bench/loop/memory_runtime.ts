/**
 * A runtime with connections in memory, and with the clock and timers of the real runtime: it shows
 * the cost of an event without a system call, like the socket pairs of libevent's own benchmarks.
 * Bytes are delivered after the turn in which they were sent, all together and as a microtask.
 * Otherwise the runtime's own loop, 7 to 17 us for a `setImmediate`, would hide the rest. There is
 * no limit, since the benchmarks have few bytes on their way.
 */

import {
  type AcceptSink,
  type Address,
  type ConnectOptions,
  detectRuntime,
  EventError,
  type ListenerBinding,
  type ListenOptions,
  type TransportBinding,
  type TransportSink,
} from "../../mod.ts";
import { DuplexNetwork } from "../../bridges/duplex/network.ts";

const nobody: TransportSink = { onConnect() {}, onSecure() {}, onData() {}, onEnd() {}, onWritable() {}, onClose() {} };

/** One end of a connection. */
class End implements TransportBinding {
  sink: TransportSink = nobody;
  peer!: End;
  readonly #host: MemoryRuntime;
  readonly local: Address;
  remote!: Address;
  #open = true;

  constructor(host: MemoryRuntime, port: number) {
    this.#host = host;
    this.local = { hostname: "127.0.0.1", port, family: "IPv4" };
  }

  write(chunk: Uint8Array): number {
    this.#host.deliver(this.peer, chunk.slice());
    return chunk.length;
  }

  shutdownWrite(): void {}

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#host.openHandles--;
    this.#host.defer(() => this.sink.onClose());
  }

  release(): void {
    this.close();
  }

  reset(): void {
    this.close();
  }

  pauseRead(): void {}
  resumeRead(): void {}
  setNoDelay(): void {}
  setKeepAlive(): void {}
  ref(): void {}
  unref(): void {}
}

/** Connections in memory. Clock, timers, signals and names are the runtime's, as in the network of Duplex streams. */
export class MemoryRuntime extends DuplexNetwork {
  readonly #sinks: Map<number, AcceptSink> = new Map();
  #nextPort = 1;
  #delivering: [End, Uint8Array][] = [];

  constructor() {
    super(detectRuntime());
  }

  /** Passes bytes to the other end, later. */
  deliver(to: End, bytes: Uint8Array): void {
    this.#delivering.push([to, bytes]);
    if (this.#delivering.length > 1) return;
    queueMicrotask(() => {
      const batch = this.#delivering;
      this.#delivering = [];
      for (const [end, chunk] of batch) end.sink.onData(chunk);
    });
  }

  override listen(_options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    const port = this.#nextPort++;
    this.#sinks.set(port, sink);
    this.openHandles++;
    return Promise.resolve({
      address: { hostname: "127.0.0.1", port, family: "IPv4" },
      pauseAccept() {},
      resumeAccept() {},
      close: () => {
        if (this.#sinks.delete(port)) this.openHandles--;
        return Promise.resolve();
      },
      ref() {},
      unref() {},
    });
  }

  override connect(options: ConnectOptions, sink: TransportSink): TransportBinding {
    const near = new End(this, this.#nextPort++);
    const far = new End(this, options.port ?? 0);
    near.sink = sink;
    [near.peer, far.peer] = [far, near];
    [near.remote, far.remote] = [far.local, near.local];
    this.openHandles += 2;
    this.defer(() => {
      const listener = this.#sinks.get(options.port ?? 0);
      if (listener === undefined) {
        return sink.onClose(new EventError("Cannot connect: nobody listens", { code: "ECONNREFUSED" }));
      }
      sink.onConnect();
      far.sink = listener.onAccept(far);
    });
    return near;
  }
}
