/** The queue of a datagram socket (UDP). It is bounded, and datagrams beyond the bound are lost, as in the kernel. */

import { EAGAIN, EV_READ, EV_WRITE } from "../flags.ts";
import type { EventError } from "../errors.ts";
import { Source } from "../loop/source.ts";
import type { DatagramBinding, DatagramSink, InetAddress, Runtime } from "../runtime.ts";

/** The largest number of waiting bytes, as on Linux. Each datagram counts with the cost of keeping it. */
const RECEIVE_LIMIT = 208 * 1024;
const DATAGRAM_COST = 64;

/** A received datagram. */
export interface Datagram {
  /** Its bytes; they belong to you. */
  data: Uint8Array;
  /** The sender. */
  address: InetAddress;
}

/** The engine of a datagram socket. */
export class DatagramSource extends Source implements DatagramSink {
  readonly runtime: Runtime;
  binding: DatagramBinding | null = null;
  face: object | null = null;
  closed = false;
  dropped = 0;
  private queue: Datagram[] = [];
  private bytes = 0;
  private error: EventError | null = null;

  constructor(runtime: Runtime) {
    super();
    this.runtime = runtime;
    this.readiness = EV_WRITE;
  }

  override get pollable(): object {
    return this.face ?? this;
  }

  override get kind(): string {
    return "DatagramSocket";
  }

  onMessage(data: Uint8Array, address: InetAddress): void {
    if (this.closed) return;
    if (this.bytes + data.length + DATAGRAM_COST > RECEIVE_LIMIT && this.queue.length > 0) {
      this.dropped++;
      return;
    }
    this.bytes += data.length + DATAGRAM_COST;
    this.queue.push({ data, address });
    this.notify(EV_READ);
  }

  onWritable(): void {
    if (!this.closed) this.notify(EV_WRITE);
  }

  onError(error: EventError): void {
    if (this.closed) return;
    this.error = error;
    this.notify(EV_READ);
  }

  receive(): Datagram | typeof EAGAIN {
    const error = this.error;
    const datagram = error === null ? this.queue.shift() : undefined;
    this.error = null;
    if (datagram !== undefined) this.bytes -= datagram.data.length + DATAGRAM_COST;
    if (this.queue.length === 0) this.clear(EV_READ);
    if (error !== null) throw error;
    return datagram ?? EAGAIN;
  }

  /** Sends a datagram, unless the queue was full before and still is. @returns Whether it was taken */
  send(data: Uint8Array, to: InetAddress): boolean {
    if ((this.readiness & EV_WRITE) !== 0 && this.binding?.send(data, to) === true) return true;
    this.clear(EV_WRITE);
    return false;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.unwatch();
    this.queue = [];
    this.binding?.close();
  }
}
