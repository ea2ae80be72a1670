/**
 * What has happened to a connection of Node. One that is idle takes little memory and few of the processor's cache lines:
 * yes or no is a bit, what all connections of a listener have in common is one object, and what is rare another.
 *
 * @module
 */

import type { EventError } from "../../core/errors.ts";
import type { TlsInfo } from "../../core/tls.ts";
import type { Origin } from "../shared/host.ts";
import type { OurSocket } from "./transport.ts";

/** Connected, and neither our FIN was asked for nor anything failed. */
export const WRITABLE = 0x1;
/** Our FIN was asked for. */
export const FINISHING = 0x2;
/** `write` has returned 0. */
export const WANTED = 0x4;
/** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
export const CLOSING = 0x8;
/** After `release()` or `reset()`: what fails now is no failure. */
export const DROPPED = 0x10;
/** A client's connection is not there yet. */
export const CONNECTING = 0x20;
/** `onClose` was called. */
export const CLOSED = 0x40;
/** From `startTls()`, or for what was accepted with TLS from the beginning, to the end of the handshake. */
export const HANDSHAKING = 0x80;
/** Reading is to be paused when the handshake is through. */
export const PAUSED = 0x100;

/** What only some connections have. */
class Side {
  raw: OurSocket | undefined = undefined;
  tls: TlsInfo | undefined = undefined;
  error: EventError | undefined = undefined;
}

/** The facts of a connection. */
export abstract class TransportState {
  readonly origin: Origin;
  state = 0;
  #side: Side | undefined = undefined;

  constructor(origin: Origin) {
    this.origin = origin;
  }

  /** Connected, and neither our FIN was asked for nor anything failed. */
  get writable(): boolean {
    return (this.state & WRITABLE) !== 0;
  }

  /** Our FIN was asked for. */
  get finishing(): boolean {
    return (this.state & FINISHING) !== 0;
  }

  /** `write` has returned 0. */
  get wanted(): boolean {
    return (this.state & WANTED) !== 0;
  }

  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  get closing(): boolean {
    return (this.state & CLOSING) !== 0;
  }

  /** After `release()` or `reset()`: what fails now is no failure. */
  get dropped(): boolean {
    return (this.state & DROPPED) !== 0;
  }

  /** A client's connection is not there yet. */
  get connecting(): boolean {
    return (this.state & CONNECTING) !== 0;
  }

  /** `onClose` was called. */
  get closed(): boolean {
    return (this.state & CLOSED) !== 0;
  }

  /** From `startTls()`, or for what was accepted with TLS from the beginning, to the end of the handshake. */
  get handshaking(): boolean {
    return (this.state & HANDSHAKING) !== 0;
  }

  /** With TLS: the socket of TCP. */
  get raw(): OurSocket | undefined {
    return this.#side?.raw;
  }

  set raw(raw: OurSocket | undefined) {
    this.#rare.raw = raw;
  }

  /** What the handshake has found. */
  get tls(): TlsInfo | undefined {
    return this.#side?.tls;
  }

  set tls(tls: TlsInfo | undefined) {
    this.#rare.tls = tls;
  }

  /** Why it failed. */
  get error(): EventError | undefined {
    return this.#side?.error;
  }

  set error(error: EventError | undefined) {
    this.#rare.error = error;
  }

  get #rare(): Side {
    return this.#side ??= new Side();
  }
}
