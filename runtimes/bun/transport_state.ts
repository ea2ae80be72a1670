/**
 * What has happened to a connection of Bun. One that is idle takes little memory and few of the processor's cache lines:
 * yes or no is a bit, what all connections of a listener have in common is one object, and what is rare another.
 *
 * @module
 */

import type { EventError } from "../../core/errors.ts";
import type { TlsInfo, TlsRole } from "../../core/tls.ts";
import type { Origin } from "../shared/host.ts";
import type { TlsSettings } from "../shared/tls.ts";

/** Connected, and neither our FIN was asked for nor anything failed. */
export const WRITABLE = 0x1;
/** The kernel has taken less than it was given: only `drain` helps. */
export const BLOCKED = 0x2;
/** `write` has returned 0. */
export const WANTED = 0x4;
/** Reading is paused. */
export const PAUSED = 0x8;
/** Bytes have come though reading is paused: the connection was reset. */
export const LATE = 0x10;
/** Some of them were dropped. */
export const CUT = 0x20;
/** Our FIN was asked for. */
export const FINISHING = 0x40;
/** The peer's FIN was told. */
export const ENDED = 0x80;
/** `write` has met a broken connection. */
export const BROKEN = 0x100;
/** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
export const CLOSING = 0x200;
/** After `release()` or `reset()`: what fails now is no failure. */
export const DROPPED = 0x400;
/** `onClose` is on its way, or was called. */
export const CLOSED = 0x800;
/** Asked for while connecting: Nagle's algorithm. */
export const NAGLE = 0x1000;
/** Asked for while connecting: not to keep the process alive. */
export const UNREFERENCED = 0x2000;
/** With TLS: the peer had ended when we did, and nothing but a close_notify came after its end. */
export const FAREWELL = 0x4000;

/** What only some connections have. */
class Side {
  securing: { readonly role: TlsRole; readonly settings: TlsSettings } | undefined = undefined;
  tls: TlsInfo | undefined = undefined;
  refused: EventError | undefined = undefined;
  keepAlive: number | undefined = undefined;
  writtenAtEnd = -1;
}

/** The facts of a connection. */
export abstract class TransportState {
  readonly origin: Origin;
  state = 0;
  #side: Side | undefined = undefined;

  constructor(origin: Origin) {
    this.origin = origin;
  }

  /** Reading is paused. */
  get paused(): boolean {
    return (this.state & PAUSED) !== 0;
  }

  /** Bytes have come though reading is paused: the connection was reset. */
  get late(): boolean {
    return (this.state & LATE) !== 0;
  }

  /** Some of them were dropped. */
  get cut(): boolean {
    return (this.state & CUT) !== 0;
  }

  /** Our FIN was asked for. */
  get finishing(): boolean {
    return (this.state & FINISHING) !== 0;
  }

  /** The peer's FIN was told. */
  get ended(): boolean {
    return (this.state & ENDED) !== 0;
  }

  /** `write` has met a broken connection. */
  get broken(): boolean {
    return (this.state & BROKEN) !== 0;
  }

  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  get closing(): boolean {
    return (this.state & CLOSING) !== 0;
  }

  /** After `release()` or `reset()`: what fails now is no failure. */
  get dropped(): boolean {
    return (this.state & DROPPED) !== 0;
  }

  /** `onClose` is on its way, or was called. */
  get closed(): boolean {
    return (this.state & CLOSED) !== 0;
  }

  /** With TLS: the peer had ended when we did, and nothing but a close_notify came after its end. */
  get farewell(): boolean {
    return (this.state & FAREWELL) !== 0;
  }

  /** The handshake of TLS that is under way. */
  get securing(): Side["securing"] {
    return this.#side?.securing;
  }

  set securing(securing: Side["securing"]) {
    this.#rare.securing = securing;
  }

  /** What the handshake has found. */
  get tls(): TlsInfo | undefined {
    return this.#side?.tls;
  }

  set tls(tls: TlsInfo | undefined) {
    this.#rare.tls = tls;
  }

  /** Why the handshake failed. */
  get refused(): EventError | undefined {
    return this.#side?.refused;
  }

  set refused(refused: EventError | undefined) {
    this.#rare.refused = refused;
  }

  /** Asked for while connecting: keep-alive after so many milliseconds. */
  get keepAlive(): number | undefined {
    return this.#side?.keepAlive;
  }

  set keepAlive(delayMs: number | undefined) {
    this.#rare.keepAlive = delayMs;
  }

  /** With TLS: how many bytes we had sent when the peer ended. */
  get writtenAtEnd(): number {
    return this.#side?.writtenAtEnd ?? -1;
  }

  set writtenAtEnd(bytes: number) {
    this.#rare.writtenAtEnd = bytes;
  }

  get #rare(): Side {
    return this.#side ??= new Side();
  }
}
