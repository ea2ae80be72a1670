/**
 * What all bufferevents share: the two buffers, the callbacks and how they are called, watermarks, timeouts, and the
 * reasons for which a direction is suspended. `BufferEvent` is the public face; each kind has its own core.
 */

import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_EVENT_WRITING,
  BEV_OPT_DEFER_CALLBACKS,
  BEV_TRIG_IGNORE_WATERMARKS,
  EV_READ,
  EV_WRITE,
} from "../flags.ts";
import { EventError } from "../errors.ts";
import { EvBuffer } from "../buffer/evbuffer.ts";
import { type BufferOwner, setBufferOwner } from "../buffer/internal.ts";
import type { EventBase } from "../loop/event_base.ts";
import { loopOf } from "../loop/event_base.ts";
import type { Loop } from "../loop/loop.ts";
import { LoopEvent } from "../loop/loop_event.ts";
import type { BufferEvent, BufferEventCallbacks } from "./bufferevent.ts";
import { IdleTimer } from "./idle.ts";
import type { RateLimits } from "./rate_core.ts";

/** Suspended because the input has reached its high watermark (rule V7). */
export const SUSPEND_WATERMARK = 0x01;
/** Suspended by the bufferevent's own rate limit. */
export const SUSPEND_RATE = 0x02;
/** Suspended by the rate limit of its group. */
export const SUSPEND_RATE_GROUP = 0x04;
/** Suspended by the filter above it. */
export const SUSPEND_FILTER = 0x10;

/** Bytes read or written at once unless set (rule V1). */
export const DEFAULT_MAX_SINGLE = 16384;

/** The most output that is queued unless set. */
export const DEFAULT_MAX_OUTPUT: number = 64 * 1024 * 1024;

/** With so much output `write()` says stop, where no high watermark of writing says it. */
const DEFAULT_STOP = 64 * 1024;

/** What is open on a bufferevent: it has taken the callbacks, and holds the user's. See `core/stream/views.ts`. */
export interface OpenViews {
  /** What is called once nothing is open. */
  given: BufferEventCallbacks<BufferEvent> | null;
  /** The user's callbacks were set. */
  onCallbacks(callbacks: BufferEventCallbacks<BufferEvent> | null): void;
  /** `close()` was called. */
  onClosing(): void;
  /** `free()` was called. */
  onFreed(): void;
}

/** Runs the callbacks that were triggered or deferred, in the loop. */
class CallbackEvent extends LoopEvent {
  readonly #core: BevCore;

  constructor(core: BevCore, priority: number) {
    super(core.loop, null, 0, priority);
    this.#core = core;
  }

  override run(): void {
    this.#core.runPending();
  }
}

/** The state behind a bufferevent. */
export abstract class BevCore implements BufferOwner {
  readonly base: EventBase;
  readonly loop: Loop;
  readonly options: number;
  readonly input: EvBuffer = new EvBuffer();
  readonly output: EvBuffer = new EvBuffer();
  /** The public object. */
  face: BufferEvent | null = null;
  callbacks: BufferEventCallbacks<BufferEvent> | null = null;
  /** What is open on it, if anything. */
  views: OpenViews | null = null;
  /** `EV_READ` and `EV_WRITE` as the user has set them. */
  enabled: number = EV_WRITE;
  readLow = 0;
  readHigh = 0;
  writeLow = 0;
  writeHigh = 0;
  /** In milliseconds; 0 for none. */
  readTimeoutMs = 0;
  writeTimeoutMs = 0;
  maxSingleRead: number = DEFAULT_MAX_SINGLE;
  /** 0: as much as the transport takes. */
  maxSingleWrite = 0;
  /** Where there is an idle timeout. */
  idle: IdleTimer | null = null;
  /** With so much output `write()` says stop. */
  stopAt: number = DEFAULT_STOP;
  #maxOutput = DEFAULT_MAX_OUTPUT;
  /** Whether it was told that the output is full, and has not drained since. */
  #fullTold = false;
  /** Why reading is suspended, one bit a reason; it goes on when all are gone. */
  readSuspended = 0;
  writeSuspended = 0;
  /** Its rate limits, once there have been any. */
  rate: RateLimits | null = null;
  freed = false;
  /** Whether `shutdown()` was called: nothing can be written any more. */
  finishing = false;
  /** Told when it was freed: for the server that it belongs to. */
  onFreed: (() => void) | null = null;
  /** The promise of `close()`. */
  closing: Promise<boolean> | null = null;

  #pendingRead = false;
  #pendingWrite = false;
  #pendingEvents = 0;
  #pendingError: EventError | undefined = undefined;
  #callbackEvent: CallbackEvent | null = null;

  constructor(base: EventBase, options: number) {
    this.base = base;
    this.loop = loopOf(base);
    if (this.loop.freed) throw new EventError("Cannot make a bufferevent: the base was freed", { code: "EV_FREED" });
    this.options = options;
    this.input.freeze(false);
    this.output.freeze(true);
    setBufferOwner(this.input, this);
    setBufferOwner(this.output, this);
  }

  // ---- what each kind does in its own way

  /** A direction was enabled by the user: `what` is what was asked, not only what is new. */
  protected abstract onEnable(what: number): void;
  /** A direction was disabled. */
  protected abstract onDisable(what: number): void;
  /** Reading is suspended, or is no longer. */
  protected abstract onReadSuspension(): void;
  /** Writing is suspended, or is no longer. */
  protected abstract onWriteSuspension(): void;
  /** There is more output to send. */
  protected abstract onOutput(): void;
  /** Bytes were taken from the input. */
  protected onInputDrained(): void {}
  /** The timeouts were set. */
  abstract onTimeouts(): void;
  /** Lets go of what is under it. `free()` has silenced it before. */
  protected abstract onFree(): void;
  /** `bufferevent_flush`. */
  abstract flush(what: number, mode: number): void;
  /** Flushes, half-closes, waits for the peer, frees. */
  abstract close(timeoutMs: number): Promise<boolean>;
  /** Flushes, then half-closes. */
  abstract shutdown(): void;
  /** Sets the priority of its events. */
  abstract setPriority(priority: number): void;
  /** The priority of its events. */
  abstract readonly priority: number;

  // ---- enabling

  enable(what: number): void {
    this.live("enable a bufferevent");
    this.enabled |= what & (EV_READ | EV_WRITE);
    if (this.idle !== null && !this.idle.timed) this.idle.restart();
    this.onEnable(what);
  }

  disable(what: number): void {
    if (this.freed) return;
    const changed = this.enabled & what & (EV_READ | EV_WRITE);
    this.enabled &= ~what;
    if (changed !== 0) this.onDisable(changed);
  }

  /** Whether it can have rate limits. */
  get limitable(): boolean {
    return true;
  }

  /** Whether bytes are to be read now. */
  get reading(): boolean {
    return (this.enabled & EV_READ) !== 0 && this.readSuspended === 0 && !this.freed;
  }

  /** Whether bytes may be written now. */
  get writing(): boolean {
    return (this.enabled & EV_WRITE) !== 0 && this.writeSuspended === 0 && !this.freed;
  }

  suspendRead(reason: number): void {
    const before = this.readSuspended;
    this.readSuspended |= reason;
    if (before === 0) this.onReadSuspension();
  }

  resumeRead(reason: number): void {
    if ((this.readSuspended & reason) === 0) return;
    this.readSuspended &= ~reason;
    if (this.readSuspended === 0) this.onReadSuspension();
  }

  suspendWrite(reason: number): void {
    const before = this.writeSuspended;
    this.writeSuspended |= reason;
    if (before === 0) this.onWriteSuspension();
  }

  resumeWrite(reason: number): void {
    if ((this.writeSuspended & reason) === 0) return;
    this.writeSuspended &= ~reason;
    if (this.writeSuspended === 0) this.onWriteSuspension();
  }

  // ---- watermarks

  setWatermark(what: number, low: number, high: number): void {
    if ((what & EV_WRITE) !== 0) {
      this.writeLow = low;
      this.writeHigh = high;
      this.#setStop();
    }
    if ((what & EV_READ) === 0) return;
    this.readLow = low;
    this.readHigh = high;
    this.checkHigh();
  }

  /** Suspends reading at the high watermark, and resumes it below (rule V8). */
  checkHigh(): void {
    if (this.readHigh > 0 && this.input.length >= this.readHigh) this.suspendRead(SUSPEND_WATERMARK);
    else this.resumeRead(SUSPEND_WATERMARK);
  }

  /** Every change of the two buffers comes here first. Calls no user code. */
  onBufferChange(buffer: EvBuffer, added: number, deleted: number): void {
    if (this.freed) return;
    if (buffer === this.output) {
      if (added > 0) this.onOutput();
      else {
        if (this.idle !== null) this.idle.restart();
        if (this.#fullTold && buffer.length <= this.writeLow) this.#fullTold = false;
      }
      return;
    }
    if (deleted === 0) {
      if (this.idle !== null) this.idle.restart();
      return;
    }
    if (this.readSuspended !== 0) {
      if (this.readHigh === 0 || this.input.length < this.readHigh) this.resumeRead(SUSPEND_WATERMARK);
    }
    this.onInputDrained();
  }

  // ---- the bound of the output

  /** How many bytes may be queued. */
  get maxOutput(): number {
    return this.#maxOutput;
  }

  set maxOutput(bytes: number) {
    this.#maxOutput = bytes;
    this.#setStop();
  }

  #setStop(): void {
    this.stopAt = Math.min(this.writeHigh > 0 ? this.writeHigh : DEFAULT_STOP, this.#maxOutput);
  }

  /** Whether there is no room for `bytes` more of output; if so it is told, once until the output has drained. */
  overflows(bytes: number): boolean {
    const { length } = this.output;
    if (length + bytes <= this.#maxOutput) return false;
    if (!this.#fullTold) {
      // A write that is too long for an empty output is told each time: nothing drains afterwards.
      this.#fullTold = length > this.writeLow;
      const message = `Cannot write ${bytes} bytes: ${length} are queued, and maxOutputBytes is ${this.#maxOutput}`;
      this.triggerEvent(
        BEV_EVENT_WRITING | BEV_EVENT_ERROR,
        new EventError(message, { code: "ENOBUFS", syscall: "write" }),
      );
    }
    return true;
  }

  // ---- calling back

  /** Calls the read callback if there is as much input as it wants. In the loop only. */
  tellRead(): void {
    if (this.input.length >= this.readLow) this.callRead();
  }

  /** Calls the write callback. In the loop only. */
  callWrite(): void {
    if ((this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.#pendingWrite = true;
      this.#schedule();
      return;
    }
    // What was triggered before is told with it.
    if (this.#pendingWrite) this.#pendingWrite = false;
    this.callbacks?.write?.(this.face as BufferEvent);
  }

  /** Calls the read callback. In the loop only. */
  callRead(): void {
    if ((this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.#pendingRead = true;
      this.#schedule();
      return;
    }
    // What was triggered before is told with it.
    if (this.#pendingRead) this.#pendingRead = false;
    this.callbacks?.read?.(this.face as BufferEvent);
  }

  /** Calls the event callback. In the loop only. */
  callEvent(what: number, error?: EventError): void {
    if ((this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.#pendingEvents |= what;
      this.#pendingError ??= error;
      this.#schedule();
    } else this.callbacks?.event?.(this.face as BufferEvent, what, error);
  }

  /** Lets the callbacks of `what` run in the loop, if the watermarks allow (rule V18). */
  trigger(what: number, options: number): void {
    if (this.freed) return;
    const always = (options & BEV_TRIG_IGNORE_WATERMARKS) !== 0;
    if ((what & EV_READ) !== 0 && (always || this.input.length >= this.readLow)) this.#pendingRead = true;
    if ((what & EV_WRITE) !== 0 && (always || this.output.length <= this.writeLow)) this.#pendingWrite = true;
    if (this.#pendingRead || this.#pendingWrite) this.#schedule();
  }

  /** Lets the event callback run in the loop. */
  triggerEvent(what: number, error?: EventError): void {
    if (this.freed) return;
    this.#pendingEvents |= what;
    this.#pendingError ??= error;
    this.#schedule();
  }

  #schedule(): void {
    const event = this.#callbackEvent ??= new CallbackEvent(this, this.priority);
    this.loop.activateDeferred(event);
  }

  /** Runs what is pending; what a callback that throws leaves keeps its place. */
  runPending(): void {
    try {
      this.#runPending();
    } finally {
      if (this.#pendingRead || this.#pendingWrite || this.#pendingEvents !== 0) this.#schedule();
    }
  }

  /** The connection first, then read, write, and the other events in one call (rule V19). */
  #runPending(): void {
    const face = this.face as BufferEvent;
    if ((this.#pendingEvents & BEV_EVENT_CONNECTED) !== 0) {
      this.#pendingEvents &= ~BEV_EVENT_CONNECTED;
      this.callbacks?.event?.(face, BEV_EVENT_CONNECTED);
    }
    if (this.#pendingRead) {
      this.#pendingRead = false;
      this.callbacks?.read?.(face);
    }
    if (this.#pendingWrite) {
      this.#pendingWrite = false;
      this.callbacks?.write?.(face);
    }
    const events = this.#pendingEvents;
    if (events === 0) return;
    const error = this.#pendingError;
    this.#pendingEvents = 0;
    this.#pendingError = undefined;
    this.callbacks?.event?.(face, events, error);
  }

  setCallbacks(callbacks: BufferEventCallbacks<BufferEvent> | null): void {
    this.callbacks = callbacks;
    // What was pending for callbacks that are gone is not told to later ones.
    if (callbacks === null) this.#forgetPending();
  }

  #forgetPending(): void {
    this.#pendingRead = this.#pendingWrite = false;
    this.#pendingEvents = 0;
    this.#pendingError = undefined;
    if (this.#callbackEvent !== null) this.loop.del(this.#callbackEvent);
  }

  /** Whether callbacks that are triggered or deferred wait to be run. */
  protected get callbackActive(): boolean {
    return this.#callbackEvent !== null && this.#callbackEvent.active;
  }

  /** Sets the priority of the callbacks that are triggered. */
  protected setCallbackPriority(priority: number): void {
    if (this.#callbackEvent !== null) this.#callbackEvent.priority = priority;
  }

  // ---- timeouts

  /** The read timeout has passed: reading is disabled, and told (rule V9). */
  readTimedOut(): void {
    this.disable(EV_READ);
    this.callEvent(BEV_EVENT_READING | BEV_EVENT_TIMEOUT);
  }

  /** The write timeout has passed: writing is disabled, and told. */
  writeTimedOut(error?: EventError): void {
    this.disable(EV_WRITE);
    this.callEvent(BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, error);
  }

  setIdleTimeout(ms: number): void {
    if (this.idle !== null) this.loop.del(this.idle);
    this.idle = ms > 0 ? new IdleTimer(this, ms) : null;
  }

  /** The idle timeout has passed: both directions are disabled, and it is told. */
  idled(ms: number): void {
    if (this.closing !== null) return;
    this.disable(EV_READ | EV_WRITE);
    const error = new EventError(`Nothing has arrived or left for ${ms} ms`, { code: "ETIMEDOUT" });
    this.callEvent(BEV_EVENT_READING | BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, error);
  }

  // ---- the end

  /** Nothing can be written any more. */
  protected finishOutput(): void {
    this.finishing = true;
    this.output.freeze(false);
  }

  free(): void {
    if (this.freed) return;
    this.freed = true;
    this.callbacks = null;
    this.#forgetPending();
    this.rate?.release();
    this.setIdleTimeout(0);
    this.onFree();
    setBufferOwner(this.input, null);
    setBufferOwner(this.output, null);
    this.output.free();
    this.input.free();
    const { onFreed, views } = this;
    this.onFreed = null;
    views?.onFreed();
    onFreed?.();
  }

  /** Ends at once and frees; a connection is cut where there is one. */
  reset(): void {
    this.free();
  }

  /** Throws when it was freed. */
  live(doing: string): void {
    if (this.freed) throw new EventError(`Cannot ${doing}: the bufferevent was freed`, { code: "EV_FREED" });
  }
}
