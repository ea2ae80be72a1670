/**
 * The ground of `bridges/`: what a bridge needs beyond the public methods. No entry point of the library exports it.
 */

import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_FLUSH,
  EV_READ,
  EV_WRITE,
} from "../flags.ts";
import { EventError } from "../errors.ts";
import type { Runtime, TransportBinding, TransportSink } from "../runtime.ts";
import type { TlsInfo } from "../tls.ts";
import { Connection } from "../socket/connection.ts";
import type { BevCore } from "../bufferevent/core.ts";
import { FilterCore } from "../bufferevent/filter_core.ts";
import type { Occupant } from "../bufferevent/occupant.ts";
import { SocketCore } from "../bufferevent/socket_core.ts";
import { reasonOf } from "../views/takeover.ts";
import { type BufferEvent, coreOf } from "./bufferevent.ts";
import { type Socket, socketOf } from "./socket.ts";

/** How much input may wait for the stream, if the bufferevent has no high watermark. */
const READ_HIGH = 64 * 1024;
const CLOSE_TIMEOUT_MS = 30_000;

/** A stream of others over a bufferevent. The loop calls it, or the method of the bufferevent that has ended it. */
export interface StreamFace {
  /** The connection is there. */
  onConnect(): void;
  /** There is input. */
  onReadable(): void;
  /** The output has drained. Only after {@linkcode StreamSeat.awaitDrain}. */
  onDrained(): void;
  /** The peer has finished, and all that it has sent is in the input. */
  onEnd(): void;
  /** The connection has failed, or a timeout has passed. */
  onFailed(error: EventError): void;
  /**
   * Somebody else has freed the bufferevent, or closes it: then it still takes bytes inside this call.
   *
   * @param error Why, if the connection has failed
   */
  onGone(error: EventError | null): void;
}

/**
 * Takes the bytes of a bufferevent in place of its callbacks, for a stream. Unlike callbacks, it is called while a promise of
 * `open` is pending, so that a handler may wait for the stream.
 */
export class StreamSeat implements Occupant {
  readonly what: string = "a Duplex over it has the bytes";
  /** Set only if a caller waits: a bufferevent without it does not report that it has drained. */
  write: (() => void) | undefined = undefined;
  readonly core: BevCore;
  /** The bufferevent below all filters. */
  private readonly root: BevCore;
  private readonly face: StreamFace;
  private readonly onWrite: () => void = () => {
    this.write = undefined;
    this.face.onDrained();
  };
  /** Whether the stream waits for input. */
  private waits = false;
  /** Whether the end of the stream has come from itself, or was told. */
  private over = false;

  /**
   * Takes the bytes.
   *
   * @param doing What it is for, for the error message
   * @throws {EventError} `EV_FREED` if it was freed or is being closed, `EV_BUSY` if something else has the bytes
   */
  constructor(doing: string, bev: BufferEvent, face: StreamFace) {
    const core = coreOf(bev);
    if (core.freed || core.closing !== null) throw core.ending(doing);
    if (core.occupant !== null) throw new EventError(`Cannot ${doing}: ${core.occupant.what}`, { code: "EV_BUSY" });
    this.core = core;
    this.face = face;
    let root = core;
    while (root instanceof FilterCore) root = root.below;
    this.root = root;
    core.occupy(this);
    // Each direction of a stream waits for its own consumer.
    core.readsWhileFull = true;
    core.setWatermark(EV_READ, 0, core.readHigh === 0 ? READ_HIGH : core.readHigh);
    core.loop.keepRunning(1);
  }

  /** Whether the connection is still to be made. */
  get connecting(): boolean {
    const root = this.root;
    return root instanceof SocketCore && !root.freed && (root.connecting || root.connection === null);
  }

  /** The connection at the bottom, for its addresses; null if there is none. */
  get connection(): Connection | null {
    return this.root instanceof SocketCore ? this.root.known : null;
  }

  /** The socket at the bottom, or null. */
  get socket(): Socket | null {
    const { connection } = this;
    return connection === null ? null : socketOf(connection);
  }

  /** What the handshake of TLS has given; undefined without TLS. */
  get tls(): TlsInfo | undefined {
    return this.connection?.binding?.tls;
  }

  /** The runtime's clock. */
  now(): number {
    return this.core.loop.runtime.now();
  }

  /** Whether output still waits to be sent, or the connection. */
  get unsent(): boolean {
    return !this.core.freed && (this.connecting || this.core.queued > 0);
  }

  /** The stream wants input, or has got it. A handler that waits meanwhile is not busy. */
  want(waits: boolean): void {
    const { core } = this;
    if (waits === this.waits || core.freed) return;
    this.waits = waits;
    if (waits) core.owner?.onWaiting();
    else core.owner?.onBack();
    if (waits && (core.enabled & EV_READ) === 0) core.enable(EV_READ);
  }

  /** Queues bytes, which are copied. @returns Whether the stream may go on at once */
  send(bytes: Uint8Array): boolean {
    this.core.output.add(bytes);
    return !this.core.full;
  }

  /** Has `onDrained` called when the output has drained. */
  awaitDrain(): void {
    this.write = this.onWrite;
  }

  // ---- the end that the stream makes. No function of the stream is called from here on.

  /** Ends gracefully. */
  close(): void {
    if (!this.end()) return;
    // The handler is not to blame for what a filter throws in its last call.
    this.core.endGracefully(CLOSE_TIMEOUT_MS).catch((error) => this.core.loop.runtime.report(error));
  }

  /** Ends as `close(2)`: queued output still leaves, without waiting for the peer. */
  drop(): void {
    const root = this.root;
    const { core } = this;
    if (!(root instanceof SocketCore) || core !== root) return this.close();
    if (!this.end()) return;
    const { connection } = root;
    if (connection === null || root.output.length > 0 || connection.sent || !connection.connected) {
      return core.abandon();
    }
    // Nothing was ever sent, and `abandon()` would reset it.
    core.free();
    connection.close();
  }

  /** Gives the host what it takes at once, and ends. If the host did not take all, the connection is reset. */
  cut(error: Error): void {
    if (!this.end()) return;
    const { core } = this;
    const root = this.root;
    if (error instanceof EventError) core.raised(error);
    try {
      if (core !== root) core.flush(EV_WRITE, BEV_FLUSH);
      if (root instanceof SocketCore && !root.freed) root.flushOutput();
    } catch (reason) {
      core.loop.runtime.report(reason);
    }
    if (core.freed) return;
    const left = core.queued > 0 || (this.connection !== null && this.connection.unsent > 0);
    if (left) core.reset();
    else core.abandon();
  }

  /** Ends at once, with a reset where the runtime has one. */
  reset(): void {
    if (this.end()) this.core.reset();
  }

  /** @returns Whether there is still a bufferevent to end */
  private end(): boolean {
    const { core } = this;
    if (this.over) return false;
    this.want(false);
    this.release();
    return !core.freed && core.closing === null;
  }

  private release(): void {
    if (this.over) return;
    this.over = true;
    this.core.loop.keepRunning(-1);
  }

  // ---- as an occupant

  read(): void {
    if (!this.over) this.face.onReadable();
  }

  event(what: number, error: EventError | undefined): void {
    const { core } = this;
    if (this.over) return;
    if ((what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0) {
      const reason = error ?? reasonOf(what);
      core.fail(reason);
      this.face.onFailed(reason);
    } else if ((what & BEV_EVENT_CONNECTED) !== 0) {
      // The owner calls `open`, which may end the connection.
      core.userEvent(what, error);
      if (!core.freed && core.closing === null) this.face.onConnect();
    } else if ((what & BEV_EVENT_EOF) !== 0 && (what & BEV_EVENT_READING) !== 0) this.face.onEnd();
  }

  onClosing(): void {
    this.gone();
  }

  onFreed(): void {
    this.gone();
  }

  private gone(): void {
    if (this.over) return;
    this.release();
    this.face.onGone(this.core.failure);
  }
}

/** A transport that a bridge has made, and who must be told what happens on it. */
export interface Attachable extends TransportBinding {
  /** Sets the sink of the connection. */
  attach(sink: TransportSink): void;
}

/**
 * Makes a socket of a transport that is not the runtime's.
 *
 * @param runtime The clock, and what else the connection needs of a runtime
 * @param binding The transport. If `handshaking` is true, the connection is there when it calls `onConnect`
 */
export function socketOver(runtime: Runtime, binding: Attachable): Socket {
  const connection = new Connection(runtime, binding);
  binding.attach(connection);
  return socketOf(connection);
}
