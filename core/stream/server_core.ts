/** What is behind a `Server`: its connections, how many there may be, and its end. */

import { EV_TIMEOUT } from "../flags.ts";
import { coreOf } from "../bufferevent/bufferevent.ts";
import type { SocketBufferEvent } from "../bufferevent/socket.ts";
import { loopOf } from "../loop/event_base.ts";
import type { ConnListener } from "../listener.ts";
import type { AbortSignalLike, Address, TimerToken } from "../runtime.ts";

/** How long `Server.close()` lets connections finish, unless told. */
const DEFAULT_GRACE_MS = 10_000;

/** The limits of a server, as in `ServeOptions`. */
export interface ServerLimits {
  /** How many connections there may be. */
  maxConnections?: number;
  /** How many from one address. */
  maxConnectionsPerAddress?: number;
  /** How long `close()` waits by default. */
  drainTimeoutMs?: number;
}

/** What connections are counted by: the numeric address; null for a unix socket. */
export function addressKey(address: Address): string | null {
  return "hostname" in address ? address.hostname : null;
}

/** The state behind a `Server`. */
export class ServerCore {
  readonly listener: ConnListener;
  /** The connections. */
  readonly open: Set<SocketBufferEvent> = new Set();
  /** How many were reset at once. */
  rejected = 0;
  readonly #max: number;
  readonly #maxPerAddress: number;
  readonly #graceMs: number;
  /** How many connections there are from each address; kept only where they are limited. */
  readonly #perAddress: Map<string, number> = new Map();
  #forget: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  #onEmpty: (() => void) | null = null;
  #cut: TimerToken | null = null;
  #cutAt = Infinity;

  constructor(listener: ConnListener, limits: ServerLimits) {
    this.listener = listener;
    this.#max = limits.maxConnections ?? Infinity;
    this.#maxPerAddress = limits.maxConnectionsPerAddress ?? Infinity;
    this.#graceMs = limits.drainTimeoutMs ?? DEFAULT_GRACE_MS;
  }

  /** Whether an address may have one connection more; one that may not is counted. */
  admits(key: string | null): boolean {
    if (key === null || (this.#perAddress.get(key) ?? 0) < this.#maxPerAddress) return true;
    this.rejected++;
    return false;
  }

  /** A connection has come. */
  add(bev: SocketBufferEvent, key: string | null, onFreed: () => void): void {
    this.open.add(bev);
    if (this.open.size >= this.#max) this.listener.disable();
    const limited = key !== null && this.#maxPerAddress < Infinity;
    if (limited) this.#count(key, 1);
    coreOf(bev as SocketBufferEvent<unknown>).onFreed = (): void => {
      this.open.delete(bev);
      if (limited) this.#count(key, -1);
      if (this.#closing === null && this.open.size < this.#max) this.listener.enable();
      onFreed();
      if (this.open.size === 0) this.#onEmpty?.();
    };
  }

  #count(key: string, change: number): void {
    const count = (this.#perAddress.get(key) ?? 0) + change;
    if (count > 0) this.#perAddress.set(key, count);
    else this.#perAddress.delete(key);
  }

  /** Closes when the signal is aborted. */
  closeOn(signal: AbortSignalLike | undefined): void {
    if (signal === undefined) return;
    // Whoever waits for the end calls `close()`, and gets the failure.
    const abort = (): void => void this.close().catch(() => {});
    signal.addEventListener("abort", abort);
    this.#forget = (): void => signal.removeEventListener("abort", abort);
    if (signal.aborted) abort();
  }

  /** `Server.close()`. */
  close(options: { graceMs?: number | undefined } = {}): Promise<void> {
    const { graceMs = this.#graceMs } = options;
    if (!(graceMs >= 0)) throw new RangeError(`Cannot close a server: graceMs is not a duration: received ${graceMs}`);
    const { runtime } = this.listener.base;
    const cutAt = runtime.now() + Math.min(graceMs, 2 ** 30);
    const closing = this.#closing ??= this.#close();
    if (this.open.size > 0 && cutAt < this.#cutAt) {
      if (this.#cut !== null) runtime.clearTimer(this.#cut);
      this.#cutAt = cutAt;
      this.#cut = runtime.setTimer(cutAt, () => {
        this.#cut = null;
        for (const bev of this.open) bev.reset();
      });
    }
    return closing;
  }

  async #close(): Promise<void> {
    this.#forget?.();
    const portFree = this.listener.close();
    if (this.open.size > 0) {
      await new Promise<void>((resolve) => this.#onEmpty = resolve);
      if (this.#cut !== null) this.listener.base.runtime.clearTimer(this.#cut);
      // The `close` callbacks run in the loop, in their order; this is behind them.
      const { base } = this.listener;
      const { dispatching } = loopOf(base);
      if (dispatching) await new Promise<void>((resolve) => base.once(null, EV_TIMEOUT, () => resolve()));
    }
    await portFree;
  }
}
