/**
 * A runtime whose connections are in memory and whose clock and timers are the host's: what an event costs without a
 * system call. It is what a socket pair is to libevent's own benchmarks. Bytes are delivered behind the turn in which
 * they were sent, all of them in one go and as a microtask: the host's way round its own loop, 7 to 17 us for a
 * `setImmediate`, would be all that is seen. There is no limit, since the benchmarks have few bytes under way.
 */

import {
  type AcceptSink,
  type Address,
  type ConnectOptions,
  detectRuntime,
  EventError,
  type InetAddress,
  type ListenerBinding,
  type ListenOptions,
  type Runtime,
  type TimerToken,
  type TransportBinding,
  type TransportSink,
} from "../../mod.ts";

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

/** Connections in memory, everything else the host's. */
export class MemoryRuntime implements Runtime {
  readonly #host: Runtime = detectRuntime();
  readonly #listeners: Map<number, AcceptSink> = new Map();
  #nextPort = 1;
  #delivering: [End, Uint8Array][] = [];
  openHandles = 0;

  get name(): Runtime["name"] {
    return this.#host.name;
  }

  get capabilities(): Runtime["capabilities"] {
    return this.#host.capabilities;
  }

  random(): number {
    return Math.random();
  }

  now(): number {
    return this.#host.now();
  }

  setTimer(deadlineMs: number, fn: () => void, background?: boolean): TimerToken {
    return this.#host.setTimer(deadlineMs, fn, background);
  }

  clearTimer(token: TimerToken): void {
    this.#host.clearTimer(token);
  }

  defer(fn: () => void): void {
    this.#host.defer(fn);
  }

  report(error: unknown): void {
    this.#host.report(error);
  }

  onSignal(name: string, fn: () => void): () => void {
    return this.#host.onSignal(name, fn);
  }

  resolve(hostname: string): Promise<InetAddress[]> {
    return this.#host.resolve(hostname);
  }

  /** Hands bytes to the other end, later. */
  deliver(to: End, bytes: Uint8Array): void {
    this.#delivering.push([to, bytes]);
    if (this.#delivering.length > 1) return;
    queueMicrotask(() => {
      const batch = this.#delivering;
      this.#delivering = [];
      for (const [end, chunk] of batch) end.sink.onData(chunk);
    });
  }

  listen(_options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    const port = this.#nextPort++;
    this.#listeners.set(port, sink);
    this.openHandles++;
    return Promise.resolve({
      address: { hostname: "127.0.0.1", port, family: "IPv4" },
      pauseAccept() {},
      resumeAccept() {},
      close: () => {
        if (this.#listeners.delete(port)) this.openHandles--;
        return Promise.resolve();
      },
      ref() {},
      unref() {},
    });
  }

  connect(options: ConnectOptions, sink: TransportSink): TransportBinding {
    const near = new End(this, this.#nextPort++);
    const far = new End(this, options.port ?? 0);
    near.sink = sink;
    [near.peer, far.peer] = [far, near];
    [near.remote, far.remote] = [far.local, near.local];
    this.openHandles += 2;
    this.#host.defer(() => {
      const listener = this.#listeners.get(options.port ?? 0);
      if (listener === undefined) {
        return sink.onClose(new EventError("Cannot connect: nobody listens", { code: "ECONNREFUSED" }));
      }
      sink.onConnect();
      far.sink = listener.onAccept(far);
    });
    return near;
  }
}
