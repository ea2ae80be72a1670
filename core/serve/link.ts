/**
 * The state of `reconnect()`: one attempt after the other, with growing delays. There is never more than one
 * connection: the next attempt begins after the last connection was freed.
 */

import { checkDuration, checkSignal } from "../checks.ts";
import { EV_TIMEOUT } from "../flags.ts";
import { EventError } from "../errors.ts";
import { type EventBase, loopOf } from "../api/event_base.ts";
import type { EventHandle } from "../api/event_handle.ts";
import type { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import { atDeadline } from "../loop/deadline.ts";
import type { AbortSignalLike } from "../runtime.ts";
import type { SocketCore } from "../bufferevent/socket_core.ts";
import type { Backoff } from "./backoff.ts";
import { isThenable, reportTo } from "./owner.ts";
import type { Protocol } from "./protocol.ts";

/** The state of a {@linkcode Link}: connecting, connected, waiting for the next attempt, or closed. */
export type LinkState = "connecting" | "open" | "waiting" | "closed";

/** Called at a loss, with the reason, the milliseconds until the next attempt, and the number of losses in a row. */
export type LostCallback = (error: EventError | undefined, delayMs: number, attempt: number) => unknown;

/** The parts of a link. */
export interface LinkParts<Ctx> {
  readonly base: EventBase;
  readonly backoff: Backoff;
  readonly stableMs: number;
  readonly maxAttempts: number;
  readonly signal: AbortSignalLike | undefined;
  readonly protocol: Protocol<Ctx>;
  readonly lost: LostCallback | undefined;
  /** Begins an attempt, and returns its connection. */
  attempt(protocol: Protocol<Ctx>): { bev: SocketBufferEvent<Ctx>; core: SocketCore; idleTimeoutMs: number | null };
}

/** One call of `ready()` that waits. */
interface Waiter<Ctx> {
  resolve(bev: SocketBufferEvent<Ctx>): void;
  reject(reason: unknown): void;
}

/** The state behind a `Link`. */
export class LinkCore<Ctx> {
  state: LinkState = "connecting";
  connection: SocketBufferEvent<Ctx> | null = null;
  /** The number of losses in a row. */
  attempts = 0;
  private readonly parts: LinkParts<Ctx>;
  /** The number of attempts in a row that have begun. */
  private begun = 0;
  /** The bufferevent of the attempt or the connection, until its end was reported. */
  private core: SocketCore | null = null;
  /** Waits for the next attempt, or for the connection to be stable. */
  private readonly timer: EventHandle;
  private readonly waiters: Set<Waiter<Ctx>> = new Set();
  /** The reason why there will not be another connection. */
  private reason: EventError | null = null;
  private closing: Promise<void> | null = null;
  private onOver: (() => void) | null = null;
  private stopCut: (() => void) | null = null;
  private cutAt: number = Infinity;
  private readonly abort: () => void = () => {
    const cause = this.parts.signal?.reason;
    void this.close(undefined, new EventError("Cannot connect: aborted", { code: "ECANCELED", cause }));
  };

  /** Begins the first attempt. */
  constructor(parts: LinkParts<Ctx>) {
    this.parts = parts;
    this.timer = parts.base.timer(() => this.onTimer());
    const { signal } = parts;
    if (signal?.aborted === true) {
      this.abort();
      return;
    }
    this.connect();
    signal?.addEventListener("abort", this.abort);
  }

  get base(): EventBase {
    return this.parts.base;
  }

  // ---- the connection

  private connect(): void {
    this.state = "connecting";
    this.begun++;
    const { protocol } = this.parts;
    const { bev, core, idleTimeoutMs } = this.parts.attempt({
      ...protocol,
      onOpen: () => {
        bev.setIdleTimeout(idleTimeoutMs);
        this.opened(bev);
      },
      onOpened: () => this.tellReady(),
      onFreed: () => this.freed(),
      onOver: (reason) => this.over(reason),
    });
    this.core = core;
  }

  private opened(bev: SocketBufferEvent<Ctx>): void {
    this.state = "open";
    this.connection = bev;
    const { stableMs } = this.parts;
    if (stableMs === 0) return this.stable();
    // The connection keeps the loop running, unless it is unreferenced.
    this.timer.unref();
    this.timer.add(stableMs);
  }

  /** The connection if it can be used; null if, for example, its `open` callback has ended it. */
  private get usable(): SocketBufferEvent<Ctx> | null {
    const core = this.core;
    return core === null || core.freed || core.closing !== null ? null : this.connection;
  }

  private tellReady(): void {
    const bev = this.usable;
    if (bev === null) return;
    for (const { resolve } of [...this.waiters]) resolve(bev);
  }

  private stable(): void {
    this.attempts = this.begun = 0;
  }

  private freed(): void {
    this.connection = null;
    if (this.state === "closed") return;
    this.state = "waiting";
    // It will not be stable any more. The timer for the next attempt is set when it is over.
    this.timer.del();
  }

  /** The attempt has failed, or the connection is over and its `close` callback has run. */
  private over(error: EventError | undefined): void {
    this.core = null;
    if (this.state === "closed") {
      this.stopCut?.();
      this.onOver?.();
      return;
    }
    this.timer.del();
    const { base, backoff, maxAttempts } = this.parts;
    if (loopOf(base).freed) {
      this.end(new EventError("Cannot connect again: the base was freed", { code: "EV_FREED" }));
      return;
    }
    const attempt = ++this.attempts;
    if (this.begun >= maxAttempts) {
      const message = "Cannot connect: the peer has ended the last connection that was to be tried";
      this.end(error ?? new EventError(message, { code: "ECONNRESET" }));
      this.tellLost(error, Infinity, attempt);
      return;
    }
    const delayMs = backoff.delay(attempt - 1);
    this.timer.ref();
    this.timer.add(delayMs);
    this.tellLost(error, delayMs, attempt);
  }

  /** Called from the loop, since a connection may have been freed inside a call of the program. */
  private tellLost(error: EventError | undefined, delayMs: number, attempt: number): void {
    const { base, lost, protocol } = this.parts;
    if (lost === undefined) return;
    base.once(null, EV_TIMEOUT, () => {
      try {
        const result = lost(error, delayMs, attempt);
        if (isThenable(result)) {
          Promise.resolve(result).then(undefined, (reason) => reportTo(protocol, base, reason, null));
        }
      } catch (reason) {
        reportTo(protocol, base, reason, null);
      }
    });
  }

  private onTimer(): void {
    if (this.state === "open") return this.stable();
    if (this.state !== "waiting") return;
    try {
      this.connect();
    } catch (error) {
      // This worked before and should not fail. If it fails, waiting callers must get the error.
      this.end(error as EventError);
      reportTo(this.parts.protocol, this.parts.base, error, null);
    }
  }

  // ---- waiting for it

  /** `ready()`. */
  ready(signal: AbortSignalLike | undefined): Promise<SocketBufferEvent<Ctx>> {
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    if (this.reason !== null) return Promise.reject(this.reason);
    const bev = this.usable;
    if (bev !== null) return Promise.resolve(bev);
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.waiters.delete(waiter);
        signal?.removeEventListener("abort", abort);
      };
      const abort = (): void => waiter.reject(signal?.reason);
      const waiter: Waiter<Ctx> = {
        resolve(bev) {
          settle();
          resolve(bev);
        },
        reject(reason) {
          settle();
          reject(reason);
        },
      };
      this.waiters.add(waiter);
      signal?.addEventListener("abort", abort);
    });
  }

  // ---- the end

  /** There will not be another connection. */
  private end(reason: EventError): void {
    this.state = "closed";
    this.reason = reason;
    this.timer.free();
    this.parts.signal?.removeEventListener("abort", this.abort);
    for (const { reject } of [...this.waiters]) reject(reason);
  }

  /** `close()`. */
  close(graceMs: number | undefined, reason?: EventError): Promise<void> {
    const { state } = this;
    if (state !== "closed") {
      this.end(reason ?? new EventError("Cannot connect: the link was closed", { code: "ECANCELED" }));
    }
    this.closing ??= this.closeConnection(state);
    if (graceMs !== undefined) this.cutAfter(graceMs);
    return this.closing;
  }

  private closeConnection(state: LinkState): Promise<void> {
    const core = this.core;
    if (core === null) return Promise.resolve();
    const loop = loopOf(this.parts.base);
    return new Promise((resolve) => {
      this.onOver = resolve;
      if (state === "connecting") core.free();
      else if (!core.freed) {
        const { closeTimeoutMs } = this.parts.protocol;
        this.cutAt = loop.runtime.now() + closeTimeoutMs;
        core.endGracefully(closeTimeoutMs).catch((error) => loop.runtime.report(error)).then(() => {
          // No `close` callback will run.
          if (!loop.dispatching) resolve();
        });
      } else if (!loop.dispatching) resolve();
    });
  }

  /**
   * Resets the connection after the grace period. A second call can only make that time shorter.
   */
  private cutAfter(graceMs: number): void {
    const core = this.core;
    const { runtime } = this.parts.base;
    const cutAt = runtime.now() + Math.min(graceMs, 2 ** 30);
    if (core === null || core.freed || cutAt >= this.cutAt) return;
    this.stopCut?.();
    this.cutAt = cutAt;
    this.stopCut = atDeadline(runtime, cutAt, () => core.reset());
  }
}

/** Checks the options of `close()`. */
export function checkGrace(graceMs: number | undefined): number | undefined {
  if (graceMs === undefined || graceMs === Infinity) return graceMs;
  return checkDuration("close a link", "graceMs", graceMs);
}

/** Checks the signal of `ready()`. */
export function checkReady(signal: AbortSignalLike | undefined): AbortSignalLike | undefined {
  return checkSignal("wait for a connection", signal);
}
