/** The state of a `Server`: its connections, their limits, and its end. */

import { checkDuration } from "../checks.ts";
import { EventError } from "../errors.ts";
import { EV_TIMEOUT } from "../flags.ts";
import type { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import { atDeadline } from "../loop/deadline.ts";
import { loopOf } from "../api/event_base.ts";
import type { ConnListener } from "../api/listener.ts";
import { type Names, readOptions } from "../names.ts";
import { Figures, type ServerStats } from "./figures.ts";
import type { ConnectionOwner } from "./owner.ts";
import type { AbortSignalLike } from "../runtime.ts";
import type { Preface } from "./preface.ts";
import { TlsChoice, type TlsServeOptions } from "./tls_choice.ts";
import { Admission, type AdmissionCallbacks, type AdmissionLimits } from "./admission.ts";

/** The time that `Server.close()` gives connections, by default. */
const DEFAULT_GRACE_MS = 10_000;

const CLOSE_OPTIONS: Names<{ graceMs?: number | undefined }> = { graceMs: true };

/** The limits of a server, as in `ServeOptions`. */
export interface ServerLimits extends AdmissionLimits {
  /** The default time of `close()`. */
  drainTimeoutMs?: number | undefined;
  /** The time limit of the TLS handshake, by default. */
  handshakeTimeoutMs?: number | undefined;
}

/** The state of a `Server`. */
export class ServerCore {
  readonly listener: ConnListener;
  /** The owners of the connections, with those in their handshake. */
  readonly open: Map<ConnectionOwner<unknown>, string | null> = new Map();
  /**
   * The connections that wait for their first bytes, with the addresses by which they are counted.
   */
  readonly prefaces: Map<Preface, string | null> = new Map();
  /** Decides which clients are accepted. */
  readonly admission: Admission;
  /** The certificates for new connections; null without TLS. */
  tls: TlsChoice | null;
  private readonly handshakeTimeoutMs: number | undefined;
  /** Its figures. */
  readonly figures: Figures = new Figures();
  private readonly graceMs: number;
  private forget: (() => void) | null = null;
  private closing: Promise<void> | null = null;
  private onEmpty: (() => void) | null = null;
  /** The number of connections that have ended and have not had their `close` callback yet. */
  private toTell = 0;
  /** Cancels the deadline of `close()`. */
  private stopCut: (() => void) | null = null;
  private cutAt: number = Infinity;
  /** Called when the server has closed. */
  private readonly onEnd: Set<() => void> = new Set();

  constructor(
    listener: ConnListener,
    limits: ServerLimits,
    callbacks: AdmissionCallbacks,
    failed: (error: unknown) => void,
    tls: TlsChoice | null,
  ) {
    this.tls = tls;
    this.handshakeTimeoutMs = limits.handshakeTimeoutMs;
    this.listener = listener;
    this.admission = new Admission(listener, limits, callbacks, failed);
    this.graceMs = limits.drainTimeoutMs ?? DEFAULT_GRACE_MS;
  }

  /** Calls `fn` when the server has closed. @returns A function that cancels it */
  whenClosed(fn: () => void): () => void {
    this.onEnd.add(fn);
    return () => void this.onEnd.delete(fn);
  }

  /** `Server.setTls()`. */
  setTls(options: TlsServeOptions): void {
    if (this.tls === null) {
      throw new EventError("Cannot set TLS: the server was made without TLS", { code: "EV_UNSUPPORTED" });
    }
    this.tls = new TlsChoice(this.listener.base.runtime, options, this.handshakeTimeoutMs);
  }

  /** The `close` callback of a connection has run. */
  told(): void {
    this.toTell--;
  }

  /** The number of refused clients. */
  get rejected(): number {
    let all = 0;
    for (const count of this.admission.rejected.values()) all += count;
    return all;
  }

  /** `Server.stats()`. */
  stats(): ServerStats {
    const { accepted, ended, handshakesFailed } = this.figures;
    return {
      accepted,
      open: this.open.size,
      rejected: Object.fromEntries(this.admission.rejected),
      ...this.figures.bytes(this.open.keys()),
      ended: Object.fromEntries(ended),
      handshakesFailed,
      turnMs: loopOf(this.listener.base).stats.turnMs,
    };
  }

  /** A connection was accepted and counted. */
  add(owner: ConnectionOwner<unknown>, key: string | null): void {
    this.figures.accepted++;
    this.open.set(owner, key);
  }

  /** The number of connections. */
  get count(): number {
    return this.open.size + this.prefaces.size;
  }

  /** A connection was freed. */
  remove(owner: ConnectionOwner<unknown>, reason: EventError | undefined): void {
    this.figures.end(owner, reason, this.tls !== null);
    const key = this.open.get(owner) ?? null;
    this.open.delete(owner);
    if (owner.tellsClose) this.toTell++;
    this.admission.left(key);
    // The last `close` callback runs before this is checked: see `closeAll`.
    if (this.open.size === 0) this.onEmpty?.();
  }

  /** The connections, in the order of their arrival. */
  *connections(): IterableIterator<SocketBufferEvent> {
    for (const owner of this.open.keys()) if (owner.opened) yield owner.bev;
  }

  /** Closes when the signal is aborted. */
  closeOn(signal: AbortSignalLike | undefined): void {
    if (signal === undefined) return;
    // A program that waits for the end calls `close()`, and gets the failure.
    const abort = (): void => void this.close().catch(() => {});
    signal.addEventListener("abort", abort);
    this.forget = (): void => signal.removeEventListener("abort", abort);
    if (signal.aborted) abort();
  }

  /** `Server.close()`. */
  close(options: { graceMs?: number | undefined } = {}): Promise<void> {
    const { graceMs = this.graceMs } = readOptions("close a server", options, CLOSE_OPTIONS);
    if (graceMs !== Infinity) checkDuration("close a server", "graceMs", graceMs);
    const { runtime } = this.listener.base;
    const cutAt = runtime.now() + graceMs;
    const closing = this.closing ??= this.closeAll();
    if (this.open.size > 0 && cutAt < this.cutAt) {
      this.stopCut?.();
      this.cutAt = cutAt;
      this.stopCut = atDeadline(runtime, cutAt, () => {
        for (const owner of [...this.open.keys()]) owner.cancel();
      });
    }
    return closing;
  }

  private async closeAll(): Promise<void> {
    this.forget?.();
    this.admission.close();
    // No callback runs for them.
    for (const [preface, key] of this.prefaces) {
      preface.drop();
      this.admission.left(key);
    }
    this.prefaces.clear();
    const portFree = this.listener.close();
    if (this.open.size > 0) {
      await new Promise<void>((resolve) => this.onEmpty = resolve);
      this.stopCut?.();
    }
    // The `close` callbacks run in the loop, in their order; this is behind them.
    const { base } = this.listener;
    if (this.toTell > 0 && loopOf(base).dispatching) {
      await new Promise<void>((resolve) => base.once(null, EV_TIMEOUT, () => resolve()));
    }
    try {
      await portFree;
    } finally {
      for (const fn of [...this.onEnd]) fn();
    }
  }
}
