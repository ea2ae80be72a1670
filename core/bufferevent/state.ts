/**
 * What a bufferevent is, apart from what it does. One that is idle takes little memory and few of the processor's cache
 * lines: yes or no is a bit, what most are set to is shared, and what is rare hangs off `side`.
 */

import { EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import { EvBuffer } from "../buffer/evbuffer.ts";
import type { Loop } from "../loop/loop.ts";
import type { LoopEvent } from "../loop/loop_event.ts";
import type { BufferEventCallbacks, Face } from "./callbacks.ts";
import type { AbortSource } from "./abort.ts";
import type { BevCore } from "./core.ts";
import type { Drains } from "./drains.ts";
import type { IdleTimer } from "./idle.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import type { Occupant } from "./occupant.ts";
import type { CallbackOwner } from "./owner.ts";
import type { RateLimits } from "./rate_core.ts";

// Bits of `BevState.state`.
/** It was freed. */
export const FREED = 0x01;
/** `shutdown()` was called: nothing can be written any more. */
export const FINISHING = 0x02;
/** It was told that the output is full, and has not drained since. */
export const FULL_TOLD = 0x04;
/** The read callback is to run. */
export const PENDING_READ = 0x08;
/** The write callback is to run. */
export const PENDING_WRITE = 0x10;
/** Of a socket: the end of the attempt to connect has yet to be told. */
export const CONNECTING = 0x20;
/** Of a socket: the user is to be told that there is nothing to send. */
export const TELL_WRITABLE = 0x40;
/** It is in the loop's list of what is to be flushed. */
export const FLUSH_QUEUED = 0x80;
/** The output has reached its high watermark, and has not drained since: `write()` gives false. */
export const FULL = 0x100;
/** Reading is suspended while the output is full. */
export const WAITS_WHILE_FULL = 0x200;
/** Of a socket: it was taken away, and what is written starts no timeout until a direction is enabled again. */
export const TAKEN_AWAY = 0x400;

/** A web stream of a bufferevent. It hears of the end even while nobody reads or writes, so that its promises settle. */
export interface StreamEnd {
  /** Nothing opens what arrives, and its end has come. @returns Whether somebody is going to read it by this stream */
  claimsEnd(): boolean;
  /** The open view of what arrives was told that nothing more will. */
  onReadEnd(): void;
  /** The connection has failed. */
  onFailed(error: EventError): void;
  /** `close()` was called. */
  onClosing(): void;
  /** It was freed. The error is that of the connection, or `EV_FREED`. */
  onFreed(error: EventError): void;
}

/** What only some bufferevents have, or have at their end only. */
export class Side {
  occupant: Occupant | null = null;
  /** What had the bytes when `close()` was called. */
  departed: Occupant | null = null;
  /** Those who wait for the output to drain. */
  drains: Drains | null = null;
  /** Makes and aborts `signal`. */
  abort: AbortSource | null = null;
  /** The errors that this connection itself has given. */
  raised: WeakSet<object> | null = null;
  /** What the connection has failed with. */
  failure: EventError | null = null;
  /** The web streams that are to hear of the end. */
  streams: Set<StreamEnd> | null = null;
  idle: IdleTimer | null = null;
  rate: RateLimits | null = null;
  /** Runs the callbacks that were triggered or deferred. */
  callbackEvent: LoopEvent | null = null;
  /** What the event callback is to be told. */
  pendingEvents = 0;
  pendingError: EventError | undefined = undefined;
  /** A failure of writing that it is to be told. */
  pendingFailure = 0;
  pendingWriteError: EventError | undefined = undefined;
  /** Of a socket: hears of a failure while nothing is read. */
  closedEvent: LoopEvent | null = null;
  /** The filter above it. */
  above: BevCore | null = null;
  /** The promise of `close()`. */
  closing: Promise<boolean> | null = null;
}

/** The facts of a bufferevent. */
export abstract class BevState {
  readonly loop: Loop;
  readonly options: number;
  readonly input: EvBuffer = new EvBuffer();
  readonly output: EvBuffer = new EvBuffer();
  /** The public object. */
  face: Face | null = null;
  callbacks: BufferEventCallbacks<Face> | null = null;
  /** `EV_READ` and `EV_WRITE` as the user has set them. */
  enabled: number = EV_WRITE;
  /** Why reading is suspended, one bit a reason; it goes on when all are gone. */
  readSuspended = 0;
  writeSuspended = 0;
  /** Calls the user's callbacks in its place: for a connection of `serve()` or `connect()`, and the filters over it. */
  owner: CallbackOwner | null = null;
  protected state = 0;
  protected limits: Limits = DEFAULT_LIMITS;
  protected side: Side | null = null;

  constructor(loop: Loop, options: number) {
    this.loop = loop;
    if (loop.freed) throw new EventError("Cannot make a bufferevent: the base was freed", { code: "EV_FREED" });
    this.options = options;
  }

  get freed(): boolean {
    return (this.state & FREED) !== 0;
  }

  /** Whether `shutdown()` was called: nothing can be written any more. */
  get finishing(): boolean {
    return (this.state & FINISHING) !== 0;
  }

  get readLow(): number {
    return this.limits.readLow;
  }

  get readHigh(): number {
    return this.limits.readHigh;
  }

  get writeLow(): number {
    return this.limits.writeLow;
  }

  get writeHigh(): number {
    return this.limits.writeHigh;
  }

  /** In milliseconds; 0 for none. */
  get readTimeoutMs(): number {
    return this.limits.readTimeoutMs;
  }

  get writeTimeoutMs(): number {
    return this.limits.writeTimeoutMs;
  }

  get maxSingleRead(): number {
    return this.limits.maxSingleRead;
  }

  /** 0: as much as the transport takes. */
  get maxSingleWrite(): number {
    return this.limits.maxSingleWrite;
  }

  /** How many bytes may be queued. */
  get maxOutput(): number {
    return this.limits.maxOutput;
  }

  /** With so much output `write()` says stop. */
  get stopAt(): number {
    return this.limits.stopAt;
  }

  /** What has the bytes in place of the user's callbacks, if anything. */
  get occupant(): Occupant | null {
    return this.side === null ? null : this.side.occupant;
  }

  set occupant(occupant: Occupant | null) {
    if (this.side !== null || occupant !== null) this.rare.occupant = occupant;
  }

  /** Whether the output has reached its high watermark and not drained since. */
  get full(): boolean {
    return (this.state & FULL) !== 0;
  }

  /** Whether the program is to get no more input until the output has drained. */
  get holdsBack(): boolean {
    return (this.state & (FULL | WAITS_WHILE_FULL)) === (FULL | WAITS_WHILE_FULL);
  }

  /** Why nothing can be sent or received any more, where the connection has failed. */
  get failure(): EventError | null {
    return this.side === null ? null : this.side.failure;
  }

  /** The web streams that are to hear of the end. */
  get streams(): Set<StreamEnd> | null {
    return this.side === null ? null : this.side.streams;
  }

  set streams(streams: Set<StreamEnd> | null) {
    this.rare.streams = streams;
  }

  /** Where there is an idle timeout. */
  get idle(): IdleTimer | null {
    return this.side === null ? null : this.side.idle;
  }

  set idle(idle: IdleTimer | null) {
    this.rare.idle = idle;
  }

  /** The filter above it, if there is one. */
  get above(): BevCore | null {
    return this.side === null ? null : this.side.above;
  }

  set above(above: BevCore | null) {
    this.rare.above = above;
  }

  /** Its rate limits, once there have been any. */
  get rate(): RateLimits | null {
    return this.side === null ? null : this.side.rate;
  }

  set rate(rate: RateLimits | null) {
    this.rare.rate = rate;
  }

  /** The promise of `close()`. */
  get closing(): Promise<boolean> | null {
    return this.side === null ? null : this.side.closing;
  }

  set closing(closing: Promise<boolean> | null) {
    this.rare.closing = closing;
  }

  /** The side, made if there is none. */
  protected get rare(): Side {
    return this.side ??= new Side();
  }
}
