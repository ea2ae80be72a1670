/**
 * What has happened to a connection. One that is idle takes little memory and few of the processor's cache lines: yes
 * or no is a bit, and what is rare hangs off `side`.
 */

import type { EventError } from "../errors.ts";
import type { Handshake } from "./handshake.ts";
import { Receiver } from "./receive_queue.ts";

// What has happened to a connection: bits of `StreamState.state`.
/** It is established, or was. */
export const CONNECTED = 0x01;
/** The peer has finished sending. */
export const ENDED = 0x02;
/** Our direction was finished. */
export const SHUT = 0x04;
/** The host has let go. */
export const GONE = 0x08;
/** The owner has closed it. */
export const CLOSED = 0x10;
/** It waits to be accepted, and is not read. */
export const HELD = 0x20;
/** The host was asked to pause reading. */
export const PAUSED = 0x40;
/** `finish()` was called: somebody waits for the end, however long it takes. */
export const AWAITED = 0x80;
/** It is not to keep the process alive. */
export const UNREFERENCED = 0x100;
/** The host has taken bytes of ours. Some may still be under way. */
export const SENT = 0x200;

/** The making of a connection. */
export interface Connecting {
  /** The connection is there, was given up, or failed for good. */
  onSettled(): void;
  /** Whether it holds the process has changed. */
  onHold(): void;
}

/** What a connection has at its beginning or its end only, if at all. */
export class Side {
  host: string | null = null;
  error: EventError | null = null;
  connecting: Connecting | null = null;
  handshake: Handshake | null = null;
  /** Told of the end of a graceful close. */
  onFinished: ((delivered: boolean) => void) | null = null;
}

/** The facts of a connection; what is done with them is in `Stream`. */
export abstract class StreamState extends Receiver {
  protected state = 0;
  protected side: Side | null = null;

  /** Whether it is established, or was. */
  get connected(): boolean {
    return (this.state & CONNECTED) !== 0;
  }

  /** Whether the peer has finished sending. */
  get ended(): boolean {
    return (this.state & ENDED) !== 0;
  }

  /** Whether our direction was finished. */
  get shut(): boolean {
    return (this.state & SHUT) !== 0;
  }

  /** Whether the host has taken bytes of ours, of which some may still be under way. */
  get sent(): boolean {
    return (this.state & SENT) !== 0;
  }

  /** Whether the host has let go. */
  get gone(): boolean {
    return (this.state & GONE) !== 0;
  }

  /** Whether the owner has closed it. */
  get closed(): boolean {
    return (this.state & CLOSED) !== 0;
  }

  /** Whether it keeps the process alive. */
  get holds(): boolean {
    return (this.state & UNREFERENCED) === 0;
  }

  /** What was connected to, as it was given; null for a connection that was accepted. */
  get host(): string | null {
    return this.side === null ? null : this.side.host;
  }

  set host(host: string) {
    this.rare.host = host;
  }

  /** Why the connection failed. */
  get error(): EventError | null {
    return this.side === null ? null : this.side.error;
  }

  /** The attempts to connect, while they go on. */
  get connecting(): Connecting | null {
    return this.side === null ? null : this.side.connecting;
  }

  set connecting(connecting: Connecting) {
    this.rare.connecting = connecting;
  }

  /** The TLS handshake, while it is to be made; until it is through, the connection is not established. */
  get handshake(): Handshake | null {
    return this.side === null ? null : this.side.handshake;
  }

  set handshake(handshake: Handshake) {
    this.rare.handshake = handshake;
  }

  /** The side, made if there is none. */
  protected get rare(): Side {
    return this.side ??= new Side();
  }

  /** Whether somebody waits for the end, however long it takes. */
  protected get awaited(): boolean {
    return (this.state & AWAITED) !== 0;
  }
}
