/**
 * What all bufferevents share: the two buffers, the callbacks and how they are called, watermarks, timeouts, and the
 * reasons for which a direction is suspended. `BufferEvent` is the public face; each kind has its own core.
 */

import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
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
import type { EvBuffer } from "../buffer/evbuffer.ts";
import { type BufferOwner, setBufferOwner } from "../buffer/internal.ts";
import type { EventBase } from "../loop/event_base.ts";
import { LoopEvent } from "../loop/loop_event.ts";
import type { BufferEvent, BufferEventCallbacks } from "./bufferevent.ts";
import { IdleTimer } from "./idle.ts";
import { FINISHING, FREED, FULL_TOLD, PENDING_READ, PENDING_WRITE, type Side } from "./state.ts";
import { BevState } from "./state.ts";

/** Suspended because the input has reached its high watermark (rule V7). */
export const SUSPEND_WATERMARK = 0x01;
/** Suspended by the bufferevent's own rate limit. */
export const SUSPEND_RATE = 0x02;
/** Suspended by the rate limit of its group. */
export const SUSPEND_RATE_GROUP = 0x04;
/** Suspended by the filter above it. */
export const SUSPEND_FILTER = 0x10;

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

const DIRECTIONS = BEV_EVENT_READING | BEV_EVENT_WRITING;
const FAILURES = BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT;

/** What the callbacks are to be told and can be told by a bit. */
const PENDING = PENDING_READ | PENDING_WRITE;

/** The state behind a bufferevent. */
export abstract class BevCore extends BevState implements BufferOwner {
  constructor(base: EventBase, options: number) {
    super(base, options);
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
  /** Of a filter: output of a layer below it has left that layer. Calls no user code. */
  onOutputBelow(): void {}
  /** The timeouts were set. */
  protected abstract onTimeouts(): void;
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
    const { idle } = this;
    if (idle !== null && !idle.timed) idle.restart();
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

  /** How many bytes wait to be sent, in the layers below too. */
  get queued(): number {
    return this.output.length;
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
    const limits = this.limits.copy();
    if ((what & EV_WRITE) !== 0) {
      limits.writeLow = low;
      limits.writeHigh = high;
    }
    if ((what & EV_READ) !== 0) {
      limits.readLow = low;
      limits.readHigh = high;
    }
    this.limits = this.limits.shared(limits);
    if ((what & EV_READ) !== 0) this.checkHigh();
  }

  /** Sets how many bytes a read and a write take at most; a write of 0 is as much as the transport takes. */
  setMaxSingle(read: number, write: number): void {
    const limits = this.limits.copy();
    limits.maxSingleRead = read;
    limits.maxSingleWrite = write;
    this.limits = this.limits.shared(limits);
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
        const { side } = this;
        if (side !== null) {
          if (side.idle !== null) side.idle.restart();
          if (side.above !== null) side.above.onOutputBelow();
        }
        if ((this.state & FULL_TOLD) !== 0 && buffer.length <= this.writeLow) this.state &= ~FULL_TOLD;
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

  /** Sets how many bytes may be queued. */
  setMaxOutput(bytes: number): void {
    const limits = this.limits.copy();
    limits.maxOutput = bytes;
    this.limits = this.limits.shared(limits);
  }

  /** Whether there is no room for `bytes` more of output; if so it is told, once until the output has drained. */
  overflows(bytes: number): boolean {
    const { length } = this.output;
    if (length + bytes <= this.maxOutput) return false;
    if ((this.state & FULL_TOLD) === 0) {
      // A write that is too long for an empty output is told each time: nothing drains afterwards.
      if (length > this.writeLow) this.state |= FULL_TOLD;
      const message = `Cannot write ${bytes} bytes: ${length} are queued, and maxOutputBytes is ${this.maxOutput}`;
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
      this.state |= PENDING_WRITE;
      this.#schedule();
      return;
    }
    // What was triggered before is told with it.
    if ((this.state & PENDING_WRITE) !== 0) this.state &= ~PENDING_WRITE;
    this.callbacks?.write?.(this.face as BufferEvent);
  }

  /** Calls the read callback. In the loop only. */
  callRead(): void {
    if ((this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.state |= PENDING_READ;
      this.#schedule();
      return;
    }
    // What was triggered before is told with it.
    if ((this.state & PENDING_READ) !== 0) this.state &= ~PENDING_READ;
    this.callbacks?.read?.(this.face as BufferEvent);
  }

  /** Calls the event callback. In the loop only. */
  callEvent(what: number, error?: EventError): void {
    if ((this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.#pend(what, error);
    } else this.callbacks?.event?.(this.face as BufferEvent, what, error);
  }

  /** Lets the callbacks of `what` run in the loop, if the watermarks allow (rule V18). */
  trigger(what: number, options: number): void {
    if (this.freed) return;
    const always = (options & BEV_TRIG_IGNORE_WATERMARKS) !== 0;
    if ((what & EV_READ) !== 0 && (always || this.input.length >= this.readLow)) this.state |= PENDING_READ;
    if ((what & EV_WRITE) !== 0 && (always || this.queued <= this.writeLow)) this.state |= PENDING_WRITE;
    if ((this.state & PENDING) !== 0) this.#schedule();
  }

  /** Lets the event callback run in the loop. */
  triggerEvent(what: number, error?: EventError): void {
    if (!this.freed) this.#pend(what, error);
  }

  #pend(what: number, error: EventError | undefined): void {
    const side = this.rare;
    if ((what & DIRECTIONS) === BEV_EVENT_WRITING && (what & FAILURES) !== 0) {
      side.pendingFailure |= what;
      side.failure ??= error;
    } else {
      side.pendingEvents |= what;
      side.pendingError ??= error;
    }
    this.#schedule();
  }

  #schedule(): void {
    const event = this.rare.callbackEvent ??= new CallbackEvent(this, this.priority);
    this.loop.activateDeferred(event);
  }

  /** Runs what is pending; what a callback that throws leaves keeps its place. */
  runPending(): void {
    const side = this.rare;
    try {
      this.#runPending(side);
    } finally {
      if ((this.state & PENDING) !== 0 || (side.pendingEvents | side.pendingFailure) !== 0) this.#schedule();
    }
  }

  /** The connection first, then read, write, and the other events in one call (rule V19). */
  #runPending(side: Side): void {
    const face = this.face as BufferEvent;
    if ((side.pendingEvents & BEV_EVENT_CONNECTED) !== 0) {
      side.pendingEvents &= ~BEV_EVENT_CONNECTED;
      this.callbacks?.event?.(face, BEV_EVENT_CONNECTED);
    }
    if ((this.state & PENDING_READ) !== 0) {
      this.state &= ~PENDING_READ;
      this.callbacks?.read?.(face);
    }
    if ((this.state & PENDING_WRITE) !== 0) {
      this.state &= ~PENDING_WRITE;
      this.callbacks?.write?.(face);
    }
    const { pendingEvents, pendingError } = side;
    side.pendingEvents = 0;
    side.pendingError = undefined;
    // A clean end of file does not become a failure of reading because writing has failed in the same pass.
    if ((pendingEvents & BEV_EVENT_EOF) !== 0 && (pendingEvents & FAILURES) === 0 && side.pendingFailure !== 0) {
      this.callbacks?.event?.(face, pendingEvents, pendingError);
      return;
    }
    const events = pendingEvents | side.pendingFailure;
    if (events === 0) return;
    const error = pendingError ?? side.failure;
    side.pendingFailure = 0;
    side.failure = undefined;
    this.callbacks?.event?.(face, events, error);
  }

  setCallbacks(callbacks: BufferEventCallbacks<BufferEvent> | null): void {
    this.callbacks = callbacks;
    // What was pending for callbacks that are gone is not told to later ones.
    if (callbacks === null) this.#forgetPending();
  }

  #forgetPending(): void {
    this.state &= ~PENDING;
    const { side } = this;
    if (side === null) return;
    side.pendingEvents = side.pendingFailure = 0;
    side.pendingError = side.failure = undefined;
    if (side.callbackEvent !== null) this.loop.del(side.callbackEvent);
  }

  /** Whether callbacks that are triggered or deferred wait to be run. */
  protected get callbackActive(): boolean {
    const { side } = this;
    return side !== null && side.callbackEvent !== null && side.callbackEvent.active;
  }

  /** Sets the priority of the callbacks that are triggered. */
  protected setCallbackPriority(priority: number): void {
    const { side } = this;
    if (side !== null && side.callbackEvent !== null) side.callbackEvent.priority = priority;
  }

  // ---- timeouts

  /** In milliseconds; 0 for none. */
  setTimeouts(readMs: number, writeMs: number): void {
    const limits = this.limits.copy();
    limits.readTimeoutMs = readMs;
    limits.writeTimeoutMs = writeMs;
    this.limits = this.limits.shared(limits);
    this.onTimeouts();
  }

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
    const { idle } = this;
    if (idle !== null) this.loop.del(idle);
    if (idle !== null || ms > 0) this.idle = ms > 0 ? new IdleTimer(this, ms) : null;
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
    this.state |= FINISHING;
    this.output.freeze(false);
  }

  free(): void {
    if (this.freed) return;
    this.state |= FREED;
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

  /** Why nothing can be sent or received any more, where the connection has failed. */
  get failure(): EventError | null {
    return null;
  }

  /**
   * Ends and frees at once, as `free()`, but the output that is queued still leaves, within a bound. Nobody waits for the
   * peer.
   */
  abandon(): void {
    this.free();
  }

  /** Throws when it was freed. */
  live(doing: string): void {
    if (this.freed) throw new EventError(`Cannot ${doing}: the bufferevent was freed`, { code: "EV_FREED" });
  }
}
