/**
 * What comes before a connection of `serve()` is one, and before TLS: the header of the PROXY protocol. It is read off
 * the connection itself, so that what follows it stays where its reader, or the handshake of TLS, looks for it.
 */

import { EventError } from "../errors.ts";
import { atDeadline } from "../loop/deadline.ts";
import { Deferred } from "../loop/deferred.ts";
import type { Loop } from "../loop/loop.ts";
import type { ReadinessObserver } from "../loop/source.ts";
import type { Address, ProxyHeader } from "../runtime.ts";
import { announcedBytes, decodeProxyHeader, mayBeProxyHeader } from "../socket/proxy_header.ts";
import type { Connection } from "../socket/connection.ts";
import { type ProxyPolicy, trusts } from "./proxy_policy.ts";

/** What becomes of a connection whose preface is over. In the loop. */
export interface PrefaceEnd {
  /** It is a client's: of who connected, or of the source of the header. */
  served(preface: Preface): void;
  /** It is refused. */
  refused(preface: Preface): void;
  /** It has gone by itself. */
  left(preface: Preface): void;
}

/** A connection whose header is awaited. */
export class Preface implements ReadinessObserver {
  readonly connection: Connection;
  /** Where the connection comes from. */
  readonly from: Address;
  readonly #policy: ProxyPolicy;
  readonly #end: PrefaceEnd;
  readonly #look: Deferred;
  readonly #cancelTimeout: () => void;
  #late = false;
  #over = false;

  constructor(loop: Loop, connection: Connection, from: Address, policy: ProxyPolicy, end: PrefaceEnd) {
    this.connection = connection;
    this.from = from;
    this.#policy = policy;
    this.#end = end;
    this.#look = new Deferred(loop, () => this.#onLook());
    const { runtime } = connection;
    this.#cancelTimeout = atDeadline(runtime, runtime.now() + policy.timeoutMs, () => {
      this.#late = true;
      this.#look.schedule();
    }, true);
    connection.observe(this);
    this.#look.schedule();
  }

  onReady(): void {
    this.#look.schedule();
  }

  onSourceClosed(): void {
    this.#stop();
  }

  /** The server closes. */
  drop(): void {
    if (this.#over) return;
    this.#stop();
    this.connection.dismiss();
  }

  #stop(): void {
    this.#over = true;
    this.#cancelTimeout();
    this.#look.cancel();
    this.connection.unobserve(this);
  }

  #onLook(): void {
    if (this.#over) return;
    const { connection } = this;
    const { required } = this.#policy;
    // It has failed, or has ended without a word, as the plain health checks of proxies do.
    if (connection.gone || (connection.ended && connection.available === 0 && required)) return this.#settle("left");
    const trusted = trusts(this.#policy, this.from);
    if (required && !trusted) return this.#settle("refused");
    const { received } = connection;
    const silent = received.length === 0;
    if (!required && (silent ? this.#late || connection.ended : !mayBeProxyHeader(received))) {
      return this.#settle("served");
    }
    const header = this.#decode();
    if (header === undefined || (header !== null && !trusted)) return this.#settle("refused");
    if (header !== null) {
      connection.proxy = header;
      return this.#settle("served");
    }
    if (this.#late || connection.ended) return this.#settle("refused");
    connection.looked(true);
  }

  /** Gives the header, null while it is unfinished, undefined when it is wrong or too long. */
  #decode(): ProxyHeader | null | undefined {
    const { received } = this.connection;
    const { maxBytes } = this.#policy;
    if (announcedBytes(received) > maxBytes) return undefined;
    const before = received.length;
    try {
      const header = decodeProxyHeader(received);
      return header !== null && before - received.length > maxBytes ? undefined : header;
    } catch (error) {
      if (error instanceof EventError) return undefined;
      throw error;
    }
  }

  #settle(how: keyof PrefaceEnd): void {
    this.#stop();
    this.connection.looked(false);
    this.#end[how](this);
  }
}
