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
import { type BufferOwner, setBufferOwner, silenceBuffer } from "../buffer/internal.ts";
import type { Loop } from "../loop/loop.ts";
import type { AbortSignalLike } from "../runtime.ts";
import { BevEvent } from "./bev_event.ts";
import { AbortSource, type HostAbortSignal } from "./abort.ts";
import type { BufferEventCallbacks, Face } from "./callbacks.ts";
import { Drains } from "./drains.ts";
import { IdleTimer } from "./idle.ts";
import type { Occupant } from "./occupant.ts";
import {
  BevState,
  FINISHING,
  FREED,
  FULL,
  FULL_TOLD,
  PENDING_READ,
  PENDING_WRITE,
  type Side,
  type StreamEnd,
  WAITS_WHILE_FULL,
} from "./state.ts";

/** Suspended because the input has reached its high watermark (rule V7). */
export const SUSPEND_WATERMARK = 0x01;
/** Suspended by the bufferevent's own rate limit. */
export const SUSPEND_RATE = 0x02;
/** Suspended by the rate limit of its group. */
export const SUSPEND_RATE_GROUP = 0x04;
/** Suspended by the filter above it. */
export const SUSPEND_FILTER = 0x10;
/** Suspended because the output is full: a peer that does not read its answers waits with its questions. */
export const SUSPEND_OUTPUT = 0x20;

/** Runs the callbacks that were triggered or deferred, in the loop. */
class CallbackEvent extends BevEvent {
  constructor(core: BevCore, priority: number) {
    super(core, null, 0, priority);
  }

  override run(): void {
    this.core.runPending();
  }
}

const DIRECTIONS = BEV_EVENT_READING | BEV_EVENT_WRITING;
const FAILURES = BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT;

/** What the callbacks are to be told and can be told by a bit. */
const PENDING = PENDING_READ | PENDING_WRITE;

/** The state behind a bufferevent. */
export abstract class BevCore extends BevState implements BufferOwner {
  constructor(loop: Loop, options: number) {
    super(loop, options);
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
  /**
   * Whether a failure of the connection is to be told as `BEV_EVENT_ERROR` even while nothing is read or written. A pair
   * tells it anyway.
   */
  watchFailure(_on: boolean): void {}
  /** The timeouts were set. */
  protected abstract onTimeouts(): void;
  /** The read timeout, if one is set, counts from now on. */
  abstract restartRead(): void;
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
    if (this.owner !== null) this.owner.onProgress();
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
    if (this.readSuspended === 0) {
      // An idle timeout that passed meanwhile did not count.
      if (this.idle !== null && !this.idle.timed) this.idle.restart();
      this.onReadSuspension();
    }
    if (this.owner !== null) this.owner.onProgress();
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

  /** Takes watermarks, timeouts and sizes as another bufferevent has them. For one that is new. */
  adoptLimits(other: BevCore): void {
    this.limits = other.limits;
    this.state |= other.state & WAITS_WHILE_FULL;
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
    if ((what & EV_WRITE) !== 0) this.#checkFull();
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
    if (this.readHigh > 0 && this.input.length >= this.readHigh) {
      if ((this.readSuspended & SUSPEND_WATERMARK) !== 0) return;
      this.suspendRead(SUSPEND_WATERMARK);
      if (this.owner !== null && this.owner.root === this) this.owner.onInputFull();
    } else this.resumeRead(SUSPEND_WATERMARK);
  }

  /** Every change of the two buffers comes here first. Calls no user code. */
  onBufferChange(buffer: EvBuffer, added: number, deleted: number): void {
    if (this.freed) return;
    if (buffer === this.output) {
      if (added > 0) {
        this.onOutput();
        // Only what has not left at once counts: a pair moves its bytes in the call.
        if (buffer.length >= this.limits.stopAt && (this.state & FULL) === 0) this.#becomeFull();
      } else {
        if ((this.state & (FULL | FULL_TOLD)) !== 0) this.#checkFull();
        const { side } = this;
        if (side !== null) {
          if (side.idle !== null) side.idle.restart();
          if (side.above !== null) side.above.onOutputBelow();
          if (side.drains !== null) this.#tellDrained(side.drains);
        }
      }
      return;
    }
    if (deleted === 0) {
      if (this.idle !== null) this.idle.restart(this.arrivedAt);
      return;
    }
    if (this.readSuspended !== 0) {
      if (this.readHigh === 0 || this.input.length < this.readHigh) this.resumeRead(SUSPEND_WATERMARK);
    }
    this.onInputDrained();
  }

  /** When what has just been added to the input arrived. */
  protected get arrivedAt(): number {
    return this.loop.clock();
  }

  // ---- the bound of the output

  /** Sets how many bytes may be queued. */
  setMaxOutput(bytes: number): void {
    const limits = this.limits.copy();
    limits.maxOutput = bytes;
    this.limits = this.limits.shared(limits);
  }

  /** A write is refused since so much is queued already; it is told, once until the output has drained. */
  refuseOutput(bytes: number): void {
    const { length } = this.output;
    if ((this.state & FULL_TOLD) !== 0) return;
    this.state |= FULL_TOLD;
    const message = `Cannot write ${bytes} bytes: ${length} are queued, and maxOutputBytes is ${this.maxOutput}`;
    this.triggerEvent(
      BEV_EVENT_WRITING | BEV_EVENT_ERROR,
      this.raised(new EventError(message, { code: "ENOBUFS", syscall: "write" })),
    );
  }

  #becomeFull(): void {
    this.state |= FULL;
    if ((this.state & WAITS_WHILE_FULL) !== 0) this.suspendRead(SUSPEND_OUTPUT);
  }

  /** The output or its watermarks have changed: looks again at whether it is full. */
  #checkFull(): void {
    const { length } = this.output;
    if ((this.state & FULL_TOLD) !== 0 && length <= this.writeLow) this.state &= ~FULL_TOLD;
    if ((this.state & FULL) === 0) {
      if (length >= this.limits.stopAt) this.#becomeFull();
      return;
    }
    if (length > this.limits.goAt) return;
    this.state &= ~FULL;
    if ((this.readSuspended & SUSPEND_OUTPUT) === 0) return;
    this.resumeRead(SUSPEND_OUTPUT);
    if (this.owner !== null) this.owner.onDrained(this);
  }

  /** Whether reading goes on while the output is full. */
  get readsWhileFull(): boolean {
    return (this.state & WAITS_WHILE_FULL) === 0;
  }

  set readsWhileFull(reads: boolean) {
    if (reads) {
      this.state &= ~WAITS_WHILE_FULL;
      this.resumeRead(SUSPEND_OUTPUT);
    } else {
      this.state |= WAITS_WHILE_FULL;
      if (this.full) this.suspendRead(SUSPEND_OUTPUT);
    }
  }

  /** `drained()`. */
  drained(signal: AbortSignalLike | undefined): Promise<void> {
    if (this.freed || this.closing !== null) return Promise.reject(this.ending("wait for the output to drain"));
    if (!this.full) return signal?.aborted === true ? Promise.reject(signal.reason) : Promise.resolve();
    const { failure } = this;
    if (failure !== null) return Promise.reject(failure);
    const drains = this.rare.drains ??= new Drains();
    // Whoever waits may be all that keeps the loop going.
    this.loop.hold(1);
    const waiting = drains.wait(signal, () => {
      this.loop.hold(-1);
      this.owner?.onBack();
    });
    this.owner?.onWaiting();
    return waiting;
  }

  /** Whether somebody waits in `drained()`. */
  get awaitsDrain(): boolean {
    return this.side !== null && this.side.drains !== null && this.side.drains.size > 0;
  }

  #tellDrained(drains: Drains): void {
    // Without a high watermark it is wholly drained.
    const low = this.writeHigh > 0 ? this.limits.goAt : 0;
    if (!this.full && this.output.length <= low) drains.resolve();
  }

  // ---- the errors of this connection

  /** Says that an error is this connection's own: a handler that passes it on has not failed. */
  raised<E extends Error>(error: E): E {
    (this.rare.raised ??= new WeakSet()).add(error);
    return error;
  }

  /** Whether an error is this connection's own. */
  hasRaised(error: unknown): boolean {
    return typeof error === "object" && error !== null && this.side?.raised?.has(error) === true;
  }

  /** The connection has failed. */
  fail(error: EventError): void {
    const side = this.rare;
    side.failure ??= error;
    this.raised(error);
    side.drains?.reject(error);
    if (side.streams !== null) { for (const stream of side.streams) stream.onFailed(error); }
    side.abort?.abort(error);
  }

  /** Why something can't be done any more: what the connection has failed with, or else that it was freed. */
  ending(doing: string): EventError {
    if (this.failure !== null) return this.failure;
    const why = this.freed ? "was freed" : "is being closed";
    return this.raised(new EventError(`Cannot ${doing}: the bufferevent ${why}`, { code: "EV_FREED" }));
  }

  /** The signal that is aborted when the connection is over. */
  get signal(): HostAbortSignal {
    const side = this.rare;
    if (side.abort === null) {
      side.abort = new AbortSource();
      if (this.freed || this.closing !== null || side.failure !== null) side.abort.abort(this.ending("go on"));
    }
    return side.abort.signal;
  }

  /** Code of the program threw in the loop. @returns Whether that is seen to, so that the loop goes on */
  caught(error: unknown): boolean {
    const { owner } = this;
    if (owner === null) return false;
    owner.failed(error);
    return true;
  }

  /** For the buffers: an operation of the user's on the input or output has failed. */
  onBufferError(error: EventError): void {
    // A frozen end is the program's own doing, unless the connection is being closed.
    if (error.code !== "EV_FROZEN" || this.closing !== null) this.raised(error);
  }

  /** For the buffers: a release callback has thrown. @returns Whether that is seen to */
  onReleaseError(error: unknown): boolean {
    if (this.owner === null) return false;
    this.owner.released(error);
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
    this.#tellWrite();
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
    this.#tellReadable();
  }

  /** Calls the event callback. In the loop only. */
  callEvent(what: number, error?: EventError): void {
    if ((this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.#pend(what, error);
    } else this.#tellEvent(what, error);
  }

  /** Whether anybody wants to hear that the output has drained. */
  get wantsWrite(): boolean {
    const { occupant, callbacks } = this;
    if (occupant !== null) return occupant.write !== undefined;
    return callbacks !== null && callbacks.write !== undefined && callbacks.write !== null;
  }

  #tellReadable(): void {
    const { side } = this;
    if (side !== null && side.occupant !== null) side.occupant.read();
    else this.userRead();
  }

  #tellWrite(): void {
    const { side } = this;
    if (side !== null && side.occupant !== null) side.occupant.write?.();
    else this.userWrite();
  }

  #tellEvent(what: number, error: EventError | undefined): void {
    if (error !== undefined) this.raised(error);
    const { side } = this;
    if (side !== null && side.occupant !== null) side.occupant.event(what, error);
    else this.userEvent(what, error);
  }

  /** A stream that has a reader gets the end, though nobody has read yet. It opens its view, which is told the end anew. */
  #claimed(streams: ReadonlySet<StreamEnd>, what: number): boolean {
    if ((what & (DIRECTIONS | FAILURES | BEV_EVENT_EOF)) !== (BEV_EVENT_READING | BEV_EVENT_EOF)) return false;
    for (const stream of streams) if (stream.claimsEnd()) return true;
    return false;
  }

  /** Calls the user's read callback. */
  userRead(): void {
    this.loop.forgetClock();
    if (this.owner !== null) this.owner.read(this, this.callbacks);
    else this.callbacks?.read?.(this.face as Face);
  }

  /** Calls the user's write callback. */
  userWrite(): void {
    this.loop.forgetClock();
    if (this.owner !== null) this.owner.write(this, this.callbacks);
    else this.callbacks?.write?.(this.face as Face);
  }

  /** Calls the user's event callback. */
  userEvent(what: number, error: EventError | undefined): void {
    const { side } = this;
    if (side !== null && side.streams !== null && this.#claimed(side.streams, what)) return;
    this.loop.forgetClock();
    if (this.owner !== null) this.owner.event(this, this.callbacks, what, error);
    else this.callbacks?.event?.(this.face as Face, what, error);
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
      side.pendingWriteError ??= error;
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
    if ((side.pendingEvents & BEV_EVENT_CONNECTED) !== 0) {
      side.pendingEvents &= ~BEV_EVENT_CONNECTED;
      this.#tellEvent(BEV_EVENT_CONNECTED, undefined);
    }
    if ((this.state & PENDING_READ) !== 0) {
      this.state &= ~PENDING_READ;
      this.#tellReadable();
    }
    if ((this.state & PENDING_WRITE) !== 0) {
      this.state &= ~PENDING_WRITE;
      this.#tellWrite();
    }
    const { pendingEvents, pendingError } = side;
    side.pendingEvents = 0;
    side.pendingError = undefined;
    // A clean end of file does not become a failure of reading because writing has failed in the same pass.
    if ((pendingEvents & BEV_EVENT_EOF) !== 0 && (pendingEvents & FAILURES) === 0 && side.pendingFailure !== 0) {
      this.#tellEvent(pendingEvents, pendingError);
      return;
    }
    const events = pendingEvents | side.pendingFailure;
    if (events === 0) return;
    const error = pendingError ?? side.pendingWriteError;
    side.pendingFailure = 0;
    side.pendingWriteError = undefined;
    this.#tellEvent(events, error);
  }

  setCallbacks(callbacks: BufferEventCallbacks<Face> | null): void {
    this.callbacks = callbacks;
    const { occupant } = this;
    if (occupant !== null) occupant.onCallbacks?.();
    // What was pending for callbacks that are gone is not told to later ones.
    else if (callbacks === null) this.#forgetPending();
  }

  /** Gives the bytes to a filter or a pipe, in place of the callbacks. */
  occupy(occupant: Occupant): void {
    this.callbacks = null;
    this.occupant = occupant;
  }

  /** Takes them back. What was pending for the occupant is not told to later callbacks. */
  vacate(): void {
    this.occupant = null;
    this.#forgetPending();
  }

  /** No callback is called any more. What has the bytes still hears that it was freed. */
  protected silence(): void {
    this.callbacks = null;
    silenceBuffer(this.input);
    silenceBuffer(this.output);
    this.#forgetPending();
    const { side } = this;
    if (side === null || side.occupant === null) return;
    side.departed = side.occupant;
    side.occupant = null;
  }

  #forgetPending(): void {
    this.state &= ~PENDING;
    const { side } = this;
    if (side === null) return;
    side.pendingEvents = side.pendingFailure = 0;
    side.pendingError = side.pendingWriteError = undefined;
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
    if (this.owner !== null && this.owner.excuses(this)) return;
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
    // While reading is suspended by us it is no fault of the peer's that nothing arrives: it counts anew then.
    if (this.closing !== null || this.readSuspended !== 0) return;
    if (this.owner !== null && this.owner.excuses(this)) return;
    this.disable(EV_READ | EV_WRITE);
    const error = new EventError(`Nothing has arrived or left for ${ms} ms`, { code: "ETIMEDOUT" });
    this.callEvent(BEV_EVENT_READING | BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, error);
  }

  // ---- the end

  /** As `close()` of the public object: who waits for the connection hears of it first. */
  endGracefully(timeoutMs: number): Promise<boolean> {
    if (this.closing !== null) return this.closing;
    const { side } = this;
    if (side !== null) {
      side.occupant?.onClosing?.();
      if (side.streams !== null) { for (const stream of side.streams) stream.onClosing(); }
    }
    const closing = this.close(timeoutMs);
    // From here on it is known to be over.
    if (!this.freed && side !== null) {
      side.drains?.reject(this.ending("wait for the output to drain"));
      side.abort?.abort(this.ending("go on"));
    }
    return closing;
  }

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
    // All of it, whatever throws: a release callback, or a function of the user's.
    try {
      this.onFree();
    } finally {
      try {
        this.#freeBuffer(this.output);
      } finally {
        try {
          this.#freeBuffer(this.input);
        } finally {
          this.#tellFreed();
        }
      }
    }
  }

  /** As `free()`, where nobody could catch what is thrown. */
  protected freeAtLast(): void {
    try {
      this.free();
    } catch (error) {
      this.loop.runtime.report(error);
    }
  }

  #tellFreed(): void {
    const { side, owner } = this;
    if (side !== null) {
      (side.occupant ?? side.departed)?.onFreed?.();
      if (side.streams !== null) {
        for (const stream of side.streams) stream.onFreed(this.ending("go on with a stream"));
      }
      side.drains?.reject(this.ending("wait for the output to drain"));
      side.abort?.abort(this.ending("go on"));
    }
    if (owner !== null && owner.root === this) owner.onFreed();
  }

  /** Freeing gives back what was added by reference: that may throw. */
  #freeBuffer(buffer: EvBuffer): void {
    try {
      buffer.free();
    } catch (error) {
      if (!this.onReleaseError(error)) throw error;
    }
  }

  /** Ends at once and frees; a connection is cut where there is one. */
  reset(): void {
    this.free();
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
    if (this.freed) {
      throw this.raised(new EventError(`Cannot ${doing}: the bufferevent was freed`, { code: "EV_FREED" }));
    }
  }
}
