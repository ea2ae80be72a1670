/**
 * The common engine of all bufferevents: the two buffers, the callbacks and how they are called, watermarks, timeouts,
 * and the reasons for which a direction is suspended. `BufferEvent` is the public class. Each kind has its own subclass
 * of this engine.
 *
 * | state     | meaning                                                                   | is left by          |
 * | --------- | ------------------------------------------------------------------------- | ------------------- |
 * | open      | Each direction is enabled or not. A socket may still be connecting.       | the calls below     |
 * | finishing | `shutdown()` was called. Nothing can be written, and reading goes on.     | `close()`, `free()` |
 * | closing   | `close()` was called. Its promise waits until the rest has left.          | the end, `free()`   |
 * | freed     | The buffers are freed, and no callback is called.                         |                     |
 *
 * A state is only followed by one below it; {@linkcode checkBev} asserts that.
 */

import type { Bits } from "../bits.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_EVENT_WRITING,
  BEV_OPT_DEFER_CALLBACKS,
  BEV_TRIG_IGNORE_WATERMARKS,
  EV_PERSIST,
  EV_READ,
  EV_WRITE,
} from "../flags.ts";
import { EventError, invariant } from "../errors.ts";
import { EvBuffer } from "../buffer/evbuffer.ts";
import { type BufferOwner, setBufferOwner, silenceBuffer } from "../buffer/internal.ts";
import type { Loop } from "../loop/loop.ts";
import { AFTER_POLL, LoopEvent } from "../loop/loop_event.ts";
import type { ChunkMemory } from "../memory.ts";
import type { AbortSignalLike } from "../runtime.ts";
import { BevEvent } from "./bev_event.ts";
import { AbortSource, type HostAbortSignal } from "./abort.ts";
import type { BufferEventCallbacks, Face } from "./callbacks.ts";
import { Drains } from "./drains.ts";
import type { HeartbeatTimer } from "./heartbeat.ts";
import { IdleTimer } from "./idle.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import type { Occupant } from "./occupant.ts";
import type { CallbackOwner } from "./owner.ts";
import type { RateLimits } from "./rate_core.ts";

/** Why a direction is suspended, one bit a reason. */
export type Suspension = Bits<"suspension">;

/** Suspended because the input has reached its high watermark (rule V7). */
export const SUSPEND_WATERMARK: Suspension = 0x01;
/** Suspended by the bufferevent's own rate limit. */
export const SUSPEND_RATE: Suspension = 0x02;
/** Suspended by the rate limit of its group. */
export const SUSPEND_RATE_GROUP: Suspension = 0x04;
/** Suspended by the filter above it. */
export const SUSPEND_FILTER: Suspension = 0x10;
/** Suspended because the output is full: a peer that does not read its answers waits with its questions. */
export const SUSPEND_OUTPUT: Suspension = 0x20;

/** Whether events contain the end of the input. */
function isReadEnd(what: number): boolean {
  return (what & BEV_EVENT_READING) !== 0 && (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) !== 0;
}

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

/** Bits of `BevCore.bits`. */
export type BevBits = Bits<"bufferevent">;

/** It was freed. */
export const FREED: BevBits = 0x01;
/** `shutdown()` was called: nothing can be written any more. */
export const FINISHING: BevBits = 0x02;
/** The full output was reported, and has not drained since. */
export const FULL_TOLD: BevBits = 0x04;
/** The read callback must run. */
const PENDING_READ: BevBits = 0x08;
/** The write callback must run. */
const PENDING_WRITE: BevBits = 0x10;
/** Of a socket: the end of the attempt to connect has not been reported. */
export const CONNECTING: BevBits = 0x20;
/** Of a socket: the write callback must report that there is nothing to send. */
export const TELL_WRITABLE: BevBits = 0x40;
/** It is in the loop's flush list. */
export const FLUSH_QUEUED: BevBits = 0x80;
/** The output has reached its high watermark, and has not drained since. `write()` returns false. */
export const FULL: BevBits = 0x100;
/** Reading is suspended while the output is full. */
const WAITS_WHILE_FULL: BevBits = 0x200;
/** Of a socket: it was removed, and writes start no timeout until a direction is enabled again. */
export const TAKEN_AWAY: BevBits = 0x400;
/** Of a socket: output was sent, and the write event is active to run the write callback. */
export const SENT: BevBits = 0x800;

/** The pending callbacks that need only a bit. */
const PENDING: BevBits = PENDING_READ | PENDING_WRITE;

/** The states of a bufferevent. Only those behind it can follow a state. */
const BEV_STATES = ["open", "finishing", "closing", "freed"] as const;

/** The state of a bufferevent. */
export type BevState = typeof BEV_STATES[number];

/** Returns the state of a bufferevent. */
export function bevStateOf(core: BevCore): BevState {
  if (core.freed) return "freed";
  if (core.closing !== null) return "closing";
  return core.finishing ? "finishing" : "open";
}

/**
 * For tests: throws unless the bufferevent is whole and its change of state is legal.
 *
 * @param before The state at the last check
 * @returns The state now
 */
export function checkBev(core: BevCore, before: BevState): BevState {
  const now = bevStateOf(core);
  const legal = BEV_STATES.indexOf(now) >= BEV_STATES.indexOf(before);
  invariant(legal, `a bufferevent that was ${before} is ${now}`);
  const { readSuspended, output, input } = core;
  if (now === "freed") {
    invariant(core.callbacks === null, "a freed bufferevent has callbacks");
    invariant(core.idle === null, "a freed bufferevent has an idle timer");
    invariant(output.length === 0 && input.length === 0, "a freed bufferevent has bytes");
    return now;
  }
  invariant(output.length < core.stopAt || core.full, "the output is full, and write() does not say so");
  if ((readSuspended & SUSPEND_OUTPUT) !== 0) invariant(core.holdsBack, "reading waits for an output that is not full");
  if ((readSuspended & SUSPEND_WATERMARK) !== 0) {
    invariant(core.readHigh > 0 && input.length >= core.readHigh, "reading waits for an input that is not full");
  }
  return now;
}

/**
 * A web stream of a bufferevent. It gets the end even without a read or write, so that its promises settle.
 */
export interface StreamEnd {
  /** The input has ended, and no view is open. @returns Whether somebody will read the end by this stream */
  claimsEnd(): boolean;
  /** The open view of the input got its end. */
  onReadEnd(): void;
  /** The connection has failed. */
  onFailed(error: EventError): void;
  /** `close()` was called. */
  onClosing(): void;
  /** It was freed. The error is that of the connection, or `EV_FREED`. */
  onFreed(error: EventError): void;
}

/** State that only some bufferevents need, or only at their end. So an idle one takes little memory. */
class Rare {
  // These are looked at for every message, so they are side by side.
  occupant: Occupant | null = null;
  idle: IdleTimer | null = null;
  heartbeat: HeartbeatTimer | null = null;
  rate: RateLimits | null = null;
  /** The filter above it. */
  above: BevCore | null = null;
  /** The waiters of `drained()`. */
  drains: Drains | null = null;
  /** The occupant when `close()` was called. */
  departed: Occupant | null = null;
  /** Makes and aborts `signal`. */
  abort: AbortSource | null = null;
  /** The errors that this connection has raised. */
  raised: WeakSet<object> | null = null;
  /** The error of the connection. */
  failure: EventError | null = null;
  /** The web streams that must be told of the end. */
  streams: Set<StreamEnd> | null = null;
  /** Runs the callbacks that were triggered or deferred. */
  callbackEvent: LoopEvent | null = null;
  /** The pending bits of the event callback. */
  pendingEvents = 0;
  pendingError: EventError | undefined = undefined;
  /** A pending failure of writing. */
  pendingFailure = 0;
  pendingWriteError: EventError | undefined = undefined;
  /** Of a socket: reports a failure while nothing is read. */
  closedEvent: LoopEvent | null = null;
  /** Of a socket: how many bytes came and left on earlier connections, less those before this one was its own. */
  pastRead = 0;
  pastWritten = 0;
  /** The promise of `close()`. */
  closing: Promise<boolean> | null = null;
}

/**
 * The engine of a bufferevent. It is an event of the loop too: a socket's is its own read event. As two objects they
 * took 56 bytes more, of 1,136 for a connection.
 */
export abstract class BevCore extends LoopEvent implements BufferOwner {
  readonly options: number;
  readonly input: EvBuffer = new EvBuffer();
  readonly output: EvBuffer = new EvBuffer();
  /** The public object. */
  face: Face | null = null;
  callbacks: BufferEventCallbacks<Face> | null = null;
  /** `EV_READ` and `EV_WRITE`, as the program has set them. */
  enabled: number = EV_WRITE;
  /** Why reading is suspended, one bit for each reason. It goes on when all are gone. */
  readSuspended: Suspension = 0;
  writeSuspended: Suspension = 0;
  /** The owner, which calls the callbacks: of a connection of `serve()` or `connect()`, and of the filters over it. */
  owner: CallbackOwner | null = null;
  protected bits: BevBits = 0;
  protected limits: Limits = DEFAULT_LIMITS;
  protected rare: Rare | null = null;

  constructor(loop: Loop, options: number) {
    super(loop, null, EV_READ | EV_PERSIST, loop.queues.length >> 1);
    this.state |= AFTER_POLL;
    if (loop.freed) throw new EventError("Cannot make a bufferevent: the base was freed", { code: "EV_FREED" });
    this.options = options;
    this.input.freeze(false);
    this.output.freeze(true);
    setBufferOwner(this.input, this);
    setBufferOwner(this.output, this);
  }

  /** Its read event has run. Only that of a socket is ever added. */
  override run(_what: number): void {}

  // ---- what has happened to it

  get memory(): ChunkMemory {
    return this.loop.memory;
  }

  get freed(): boolean {
    return (this.bits & FREED) !== 0;
  }

  /** Whether `shutdown()` was called: nothing can be written any more. */
  get finishing(): boolean {
    return (this.bits & FINISHING) !== 0;
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

  /** From this length of the output on, `write()` returns false. */
  get stopAt(): number {
    return this.limits.stopAt;
  }

  /** The occupant: what takes the bytes in place of the callbacks, or null. */
  get occupant(): Occupant | null {
    return this.rare === null ? null : this.rare.occupant;
  }

  set occupant(occupant: Occupant | null) {
    if (this.rare !== null || occupant !== null) this.more.occupant = occupant;
  }

  /** Whether the output has reached its high watermark and not drained since. */
  get full(): boolean {
    return (this.bits & FULL) !== 0;
  }

  /** Whether the program must get no more input until the output has drained. */
  get holdsBack(): boolean {
    return (this.bits & (FULL | WAITS_WHILE_FULL)) === (FULL | WAITS_WHILE_FULL);
  }

  /** The error of the connection, if it has failed. */
  get failure(): EventError | null {
    return this.rare === null ? null : this.rare.failure;
  }

  /** The web streams that must be told of the end. */
  get streams(): Set<StreamEnd> | null {
    return this.rare === null ? null : this.rare.streams;
  }

  set streams(streams: Set<StreamEnd> | null) {
    this.more.streams = streams;
  }

  /** The idle timeout, if there is one. */
  get idle(): IdleTimer | null {
    return this.rare === null ? null : this.rare.idle;
  }

  set idle(idle: IdleTimer | null) {
    this.more.idle = idle;
  }

  /** The filter above it, if there is one. */
  get above(): BevCore | null {
    return this.rare === null ? null : this.rare.above;
  }

  set above(above: BevCore | null) {
    this.more.above = above;
  }

  /** Its rate limits, once there have been any. */
  get rate(): RateLimits | null {
    return this.rare === null ? null : this.rare.rate;
  }

  set rate(rate: RateLimits | null) {
    this.more.rate = rate;
  }

  /** The promise of `close()`. */
  get closing(): Promise<boolean> | null {
    return this.rare === null ? null : this.rare.closing;
  }

  set closing(closing: Promise<boolean> | null) {
    this.more.closing = closing;
  }

  /** The rare state, made if there is none. */
  protected get more(): Rare {
    return this.rare ??= new Rare();
  }

  // ---- what each kind does in its own way

  /** The program has enabled a direction. `what` has the requested flags, not only the new ones. */
  protected abstract onEnable(what: number): void;

  /** Whether pending events report that nothing can be read any more. Enabling reading reports that too (rule V5). */
  protected reportsEnd(_what: number, _error: EventError | undefined): boolean {
    return false;
  }

  /** A direction was disabled. */
  protected abstract onDisable(what: number): void;
  /** Reading is suspended, or is no longer. */
  protected abstract onReadSuspension(): void;
  /** Writing is suspended, or is no longer. */
  protected abstract onWriteSuspension(): void;
  /** There is more output to send. */
  protected abstract onOutput(): void;
  /**
   * Sends output before the end of the turn, as far as the system takes it. Of the program's code, only change callbacks
   * of the output run. If one throws, the owner gets the exception.
   */
  sendNow(): void {}
  /** Bytes were taken from the input. */
  protected onInputDrained(): void {}
  /** Of a filter: output of a layer below has left that layer. It calls no code of the program. */
  onOutputBelow(): void {}
  /**
   * Sets whether a failure of the connection is reported as `BEV_EVENT_ERROR` even while nothing is read or written. A
   * pair always reports it.
   */
  watchFailure(_on: boolean): void {}
  /** The timeouts were set. */
  protected abstract onTimeouts(): void;
  /** The read timeout, if one is set, counts from now on. */
  abstract restartRead(): void;
  /** Releases the socket, partner or bufferevent below. `free()` has silenced it before. */
  protected abstract onFree(): void;
  /** `bufferevent_flush`. */
  abstract flush(what: number, mode: number): void;
  /** Flushes, half-closes, waits for the peer, frees. */
  abstract close(timeoutMs: number): Promise<boolean>;
  /** Flushes, then half-closes. */
  abstract shutdown(): void;
  /** Sets the priority of its events. */
  abstract setPriority(priority: number): void;
  /** How many bytes have come to the input in all. */
  abstract readonly bytesRead: number;
  /** How many bytes have left the output in all. */
  abstract readonly bytesWritten: number;

  // ---- enabling

  enable(what: number): void {
    if ((this.bits & FREED) !== 0) this.live("enable a bufferevent");
    this.enabled |= what & (EV_READ | EV_WRITE);
    const idle = this.rare === null ? null : this.rare.idle;
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

  /** The number of bytes that wait to be sent, with those in the layers below. */
  get queued(): number {
    return this.output.length;
  }

  /** Whether bytes may be read now. */
  get reading(): boolean {
    return (this.enabled & EV_READ) !== 0 && this.readSuspended === 0 && (this.bits & FREED) === 0;
  }

  /** Whether bytes may be written now. */
  get writing(): boolean {
    return (this.enabled & EV_WRITE) !== 0 && this.writeSuspended === 0 && (this.bits & FREED) === 0;
  }

  suspendRead(reason: Suspension): void {
    const before = this.readSuspended;
    this.readSuspended |= reason;
    if (before === 0) this.onReadSuspension();
  }

  resumeRead(reason: Suspension): void {
    if ((this.readSuspended & reason) === 0) return;
    this.readSuspended &= ~reason;
    if (this.readSuspended === 0) {
      // An idle timeout that passed meanwhile did not count.
      if (this.idle !== null && !this.idle.timed) this.idle.restart();
      this.onReadSuspension();
    }
    if (this.owner !== null) this.owner.onProgress();
  }

  suspendWrite(reason: Suspension): void {
    const before = this.writeSuspended;
    this.writeSuspended |= reason;
    if (before === 0) this.onWriteSuspension();
  }

  resumeWrite(reason: Suspension): void {
    if ((this.writeSuspended & reason) === 0) return;
    this.writeSuspended &= ~reason;
    if (this.writeSuspended === 0) this.onWriteSuspension();
  }

  /** Takes over the settings of another bufferevent. For a new one. */
  adoptLimits(other: BevCore): void {
    this.limits = other.limits;
    this.bits |= other.bits & WAITS_WHILE_FULL;
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
    if ((what & EV_WRITE) !== 0) this.checkFull();
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
    const { readHigh } = this.limits;
    if (readHigh > 0 && this.input.length >= readHigh) {
      if ((this.readSuspended & SUSPEND_WATERMARK) !== 0) return;
      this.suspendRead(SUSPEND_WATERMARK);
      if (this.owner !== null && this.owner.root === this) this.owner.onInputFull();
    } else if (this.readSuspended !== 0) this.resumeRead(SUSPEND_WATERMARK);
  }

  /** Every change of the two buffers comes here first. It calls no code of the program. */
  onBufferChange(buffer: EvBuffer, added: number, deleted: number): void {
    const { bits } = this;
    if ((bits & FREED) !== 0) return;
    if (buffer === this.output) {
      if (added === 0) {
        if ((bits & (FULL | FULL_TOLD)) !== 0 || this.rare !== null) this.outputLeft();
        return;
      }
      // Only the first addition of a turn has something to do. Without a connection a timeout may have to start.
      if ((bits & FLUSH_QUEUED) === 0 || this.source === null) this.onOutput();
      // Only bytes that have not left at once count: a pair moves its bytes in the call.
      if (buffer.length >= this.limits.stopAt && (this.bits & FULL) === 0) this.becomeFull();
    } else if (deleted > 0) {
      if (this.readSuspended !== 0 && (this.readHigh === 0 || this.input.length < this.readHigh)) {
        this.resumeRead(SUSPEND_WATERMARK);
      }
      this.onInputDrained();
    } else if (this.rare !== null) this.inputCame(this.rare);
  }

  private outputLeft(): void {
    if ((this.bits & (FULL | FULL_TOLD)) !== 0) this.checkFull();
    const { rare } = this;
    if (rare === null) return;
    if (rare.idle !== null) rare.idle.restart();
    // The peer takes what has kept us from reading.
    if (rare.heartbeat !== null && (this.readSuspended & SUSPEND_OUTPUT) !== 0) {
      rare.heartbeat.heard(this.loop.clock());
    }
    if (rare.above !== null) rare.above.onOutputBelow();
    if (rare.drains !== null) this.tellDrained(rare.drains);
  }

  private inputCame(rare: Rare): void {
    if (rare.idle !== null) rare.idle.restart(this.arrivedAt);
    if (rare.heartbeat !== null) rare.heartbeat.heard(this.arrivedAt);
  }

  /** The arrival time of the bytes that were just added to the input. */
  protected get arrivedAt(): number {
    return this.loop.clock();
  }

  // ---- the bound of the output

  /** Sets the hard limit of the output. */
  setMaxOutput(bytes: number): void {
    const limits = this.limits.copy();
    limits.maxOutput = bytes;
    this.limits = this.limits.shared(limits);
  }

  /**
   * A write is refused because the output has reached its hard limit. It is reported once until the output has drained.
   */
  refuseOutput(bytes: number): void {
    const { length } = this.output;
    if ((this.bits & FULL_TOLD) !== 0) return;
    this.bits |= FULL_TOLD;
    const message = `Cannot write ${bytes} bytes: ${length} are queued, and maxOutputBytes is ${this.maxOutput}`;
    this.triggerEvent(
      BEV_EVENT_WRITING | BEV_EVENT_ERROR,
      this.raised(new EventError(message, { code: "ENOBUFS", syscall: "write" })),
    );
  }

  private becomeFull(): void {
    this.bits |= FULL;
    if ((this.bits & WAITS_WHILE_FULL) !== 0) this.suspendRead(SUSPEND_OUTPUT);
  }

  /** The output or its watermarks have changed: updates whether it is full. */
  private checkFull(): void {
    const { length } = this.output;
    if ((this.bits & FULL_TOLD) !== 0 && length <= this.writeLow) this.bits &= ~FULL_TOLD;
    if ((this.bits & FULL) === 0) {
      if (length >= this.limits.stopAt) this.becomeFull();
      return;
    }
    if (length > this.limits.goAt) return;
    this.bits &= ~FULL;
    if ((this.readSuspended & SUSPEND_OUTPUT) === 0) return;
    this.resumeRead(SUSPEND_OUTPUT);
    if (this.owner !== null) this.owner.onDrained(this);
  }

  /** Whether reading goes on while the output is full. */
  get readsWhileFull(): boolean {
    return (this.bits & WAITS_WHILE_FULL) === 0;
  }

  set readsWhileFull(reads: boolean) {
    if (reads) {
      this.bits &= ~WAITS_WHILE_FULL;
      this.resumeRead(SUSPEND_OUTPUT);
    } else {
      this.bits |= WAITS_WHILE_FULL;
      if (this.full) this.suspendRead(SUSPEND_OUTPUT);
    }
  }

  /** `drained()`. */
  drained(signal: AbortSignalLike | undefined): Promise<void> {
    if (this.freed || this.closing !== null) return Promise.reject(this.ending("wait for the output to drain"));
    if (!this.full) return signal?.aborted === true ? Promise.reject(signal.reason) : Promise.resolve();
    const { failure } = this;
    if (failure !== null) return Promise.reject(failure);
    const drains = this.more.drains ??= new Drains();
    // The waiter may be the only thing that keeps the loop running.
    this.loop.keepRunning(1);
    const waiting = drains.wait(signal, () => {
      this.loop.keepRunning(-1);
      this.owner?.onBack();
    });
    this.owner?.onWaiting();
    return waiting;
  }

  private tellDrained(drains: Drains): void {
    // Without a high watermark, wait until it is empty.
    const low = this.writeHigh > 0 ? this.limits.goAt : 0;
    if (!this.full && this.output.length <= low) drains.resolve();
  }

  // ---- the errors of this connection

  /** Marks an error as raised by this connection. A handler that passes it on has not failed. */
  raised<E extends Error>(error: E): E {
    (this.more.raised ??= new WeakSet()).add(error);
    return error;
  }

  /** Whether this connection has raised an error. */
  hasRaised(error: unknown): boolean {
    return typeof error === "object" && error !== null && this.rare?.raised?.has(error) === true;
  }

  /** The connection has failed. */
  fail(error: EventError): void {
    const rare = this.more;
    rare.failure ??= error;
    this.raised(error);
    rare.drains?.reject(error);
    if (rare.streams !== null) { for (const stream of rare.streams) stream.onFailed(error); }
    rare.abort?.abort(error);
  }

  /** The error for a call that is not possible any more: that of the connection, or `EV_FREED`. */
  ending(doing: string): EventError {
    if (this.failure !== null) return this.failure;
    const why = this.freed ? "was freed" : "is being closed";
    return this.raised(new EventError(`Cannot ${doing}: the bufferevent ${why}`, { code: "EV_FREED" }));
  }

  /** Whether the program has the signal, and it was aborted. */
  get aborted(): boolean {
    return this.rare?.abort?.signal.aborted === true;
  }

  /** The signal that is aborted when the connection is over. */
  get signal(): HostAbortSignal {
    const rare = this.more;
    if (rare.abort === null) {
      rare.abort = new AbortSource();
      if (this.freed || this.closing !== null || rare.failure !== null) rare.abort.abort(this.ending("go on"));
    }
    return rare.abort.signal;
  }

  /** Code of the program has thrown in the loop. @returns Whether that was handled, so that the loop goes on */
  override caught(error: unknown): boolean {
    const { owner } = this;
    if (owner === null) return false;
    owner.failed(error);
    return true;
  }

  /** For the buffers: an operation of the program on the input or output has failed. */
  onBufferError(error: EventError): void {
    // A frozen end is the program's own doing, unless the connection is being closed. So is a freed buffer, unless it was
    // freed with the connection.
    if (error.code === "EV_FROZEN" && this.closing === null) return;
    if (error.code !== "EV_FREED" || this.freed) this.raised(error);
  }

  /** For the buffers: a release callback has thrown. @returns Whether that was handled */
  onReleaseError(error: unknown): boolean {
    if (this.owner === null) return false;
    this.owner.released(error);
    return true;
  }

  // ---- calling back

  /** Calls the read callback if the input has reached its low watermark. Only in the loop. */
  tellRead(): void {
    if (this.input.length >= this.limits.readLow) this.callRead();
  }

  /** Calls the write callback. Only in the loop. */
  callWrite(): void {
    if ((this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.bits |= PENDING_WRITE;
      this.schedule();
      return;
    }
    // A pending call is included in this one.
    if ((this.bits & PENDING_WRITE) !== 0) this.bits &= ~PENDING_WRITE;
    if (this.rare === null) this.userWrite();
    else this.tellWrite(this.rare);
  }

  /** Calls the read callback. Only in the loop. */
  callRead(): void {
    if ((this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.bits |= PENDING_READ;
      this.schedule();
      return;
    }
    // A pending call is included in this one.
    if ((this.bits & PENDING_READ) !== 0) this.bits &= ~PENDING_READ;
    if (this.rare === null) this.userRead();
    else this.tellReadable(this.rare);
  }

  /** Calls the event callback. Only in the loop. A read callback that is pending comes before the end of the input. */
  callEvent(what: number, error?: EventError): void {
    const waits = (this.bits & PENDING_READ) !== 0 && isReadEnd(what);
    if (waits || (this.options & BEV_OPT_DEFER_CALLBACKS) !== 0) {
      this.pend(what, error);
    } else this.tellEvent(what, error);
  }

  /** Whether anybody must be told that the output has drained. */
  get wantsWrite(): boolean {
    const { callbacks } = this;
    const occupant = this.rare === null ? null : this.rare.occupant;
    if (occupant !== null) return occupant.write !== undefined;
    return callbacks !== null && callbacks.write !== undefined && callbacks.write !== null;
  }

  private tellReadable(rare: Rare): void {
    if (rare.occupant !== null) rare.occupant.read();
    else this.userRead();
  }

  private tellWrite(rare: Rare): void {
    if (rare.occupant !== null) rare.occupant.write?.();
    else this.userWrite();
  }

  private tellEvent(what: number, error: EventError | undefined): void {
    if (error !== undefined) this.raised(error);
    const { rare } = this;
    if (rare !== null && rare.occupant !== null) rare.occupant.event(what, error);
    else this.userEvent(what, error);
  }

  /**
   * If a stream has a reader, it gets the end, although nobody has read yet. It opens its view, to which the end is
   * reported anew.
   */
  private claimed(streams: ReadonlySet<StreamEnd>, what: number): boolean {
    if ((what & (DIRECTIONS | FAILURES | BEV_EVENT_EOF)) !== (BEV_EVENT_READING | BEV_EVENT_EOF)) return false;
    for (const stream of streams) if (stream.claimsEnd()) return true;
    return false;
  }

  /** Calls the program's read callback. */
  userRead(): void {
    this.loop.forgetClock();
    if (this.owner !== null) this.owner.read(this, this.callbacks);
    else this.callbacks?.read?.(this.face as Face);
  }

  /** Calls the program's write callback. */
  userWrite(): void {
    this.loop.forgetClock();
    if (this.owner !== null) this.owner.write(this, this.callbacks);
    else this.callbacks?.write?.(this.face as Face);
  }

  /** Calls the program's event callback. */
  userEvent(what: number, error: EventError | undefined): void {
    const { rare } = this;
    if (rare !== null && rare.streams !== null && this.claimed(rare.streams, what)) return;
    this.loop.forgetClock();
    if (this.owner !== null) this.owner.event(this, this.callbacks, what, error);
    else this.callbacks?.event?.(this.face as Face, what, error);
  }

  /** Makes the loop call the callbacks of `what`, if the watermarks allow it (rule V18). */
  trigger(what: number, options: number): void {
    if (this.freed) return;
    const always = (options & BEV_TRIG_IGNORE_WATERMARKS) !== 0;
    if ((what & EV_READ) !== 0 && (always || this.input.length >= this.readLow)) this.bits |= PENDING_READ;
    if ((what & EV_WRITE) !== 0 && (always || this.queued <= this.writeLow)) this.bits |= PENDING_WRITE;
    if ((this.bits & PENDING) !== 0) this.schedule();
  }

  /** Makes the loop call the event callback. */
  triggerEvent(what: number, error?: EventError): void {
    if (!this.freed) this.pend(what, error);
  }

  private pend(what: number, error: EventError | undefined): void {
    const rare = this.more;
    if ((what & DIRECTIONS) === BEV_EVENT_WRITING && (what & FAILURES) !== 0) {
      rare.pendingFailure |= what;
      rare.pendingWriteError ??= error;
    } else {
      rare.pendingEvents |= what;
      rare.pendingError ??= error;
    }
    this.schedule();
  }

  private schedule(): void {
    const event = this.more.callbackEvent ??= new CallbackEvent(this, this.priority);
    this.loop.activateDeferred(event);
  }

  /** Runs the pending callbacks. If one throws, the others keep their places. */
  runPending(): void {
    const rare = this.more;
    try {
      this.tellPending(rare);
    } finally {
      if ((this.bits & PENDING) !== 0 || (rare.pendingEvents | rare.pendingFailure) !== 0) this.schedule();
    }
  }

  /** CONNECTED first, then read, write, and all other events in one call (rule V19). */
  private tellPending(rare: Rare): void {
    const ended = isReadEnd(rare.pendingEvents);
    if ((rare.pendingEvents & BEV_EVENT_CONNECTED) !== 0) {
      rare.pendingEvents &= ~BEV_EVENT_CONNECTED;
      this.tellEvent(BEV_EVENT_CONNECTED, undefined);
    }
    if ((this.bits & PENDING_READ) !== 0) {
      this.bits &= ~PENDING_READ;
      this.tellReadable(rare);
    }
    if ((this.bits & PENDING_WRITE) !== 0) {
      this.bits &= ~PENDING_WRITE;
      this.tellWrite(rare);
    }
    // The read callback has drained the input, and the last bytes and the end have come meanwhile: the read callback
    // comes first. Only once, because a program may trigger it in each call.
    if (!ended && (this.bits & PENDING_READ) !== 0 && isReadEnd(rare.pendingEvents)) return;
    const { pendingEvents, pendingError } = rare;
    // A callback that ran before has enabled reading. That asks for the end once more, but it has not been told yet.
    if (isReadEnd(pendingEvents) && this.reportsEnd(pendingEvents, pendingError)) this.disable(EV_READ);
    rare.pendingEvents = 0;
    rare.pendingError = undefined;
    // A clean end of file does not become a failure of reading because writing has failed in the same pass.
    if ((pendingEvents & BEV_EVENT_EOF) !== 0 && (pendingEvents & FAILURES) === 0 && rare.pendingFailure !== 0) {
      this.tellEvent(pendingEvents, pendingError);
      return;
    }
    const events = pendingEvents | rare.pendingFailure;
    if (events === 0) return;
    const error = pendingError ?? rare.pendingWriteError;
    rare.pendingFailure = 0;
    rare.pendingWriteError = undefined;
    this.tellEvent(events, error);
  }

  setCallbacks(callbacks: BufferEventCallbacks<Face> | null): void {
    this.callbacks = callbacks;
    const { occupant, owner } = this;
    if (owner !== null && callbacks !== null && callbacks.read != null) owner.onReadCallback();
    if (occupant !== null) occupant.onCallbacks?.();
    // Later callbacks do not get what was pending for earlier ones.
    else if (callbacks === null) this.forgetPending();
  }

  /** Returns the bytes to an occupant, in place of the callbacks. */
  occupy(occupant: Occupant): void {
    this.callbacks = null;
    this.occupant = occupant;
  }

  /** Takes them back. Later callbacks do not get what was pending for the occupant. */
  vacate(): void {
    this.occupant = null;
    this.forgetPending();
  }

  /** No callback is called any more. The occupant is still told of the end. */
  protected silence(): void {
    this.callbacks = null;
    this.heartbeat = null;
    silenceBuffer(this.input);
    silenceBuffer(this.output);
    this.forgetPending();
    const { rare } = this;
    if (rare === null || rare.occupant === null) return;
    rare.departed = rare.occupant;
    rare.occupant = null;
  }

  private forgetPending(): void {
    this.bits &= ~PENDING;
    const { rare } = this;
    if (rare === null) return;
    rare.pendingEvents = rare.pendingFailure = 0;
    rare.pendingError = rare.pendingWriteError = undefined;
    if (rare.callbackEvent !== null) this.loop.del(rare.callbackEvent);
  }

  /** Whether callbacks that are triggered or deferred wait to be run. */
  protected get callbackActive(): boolean {
    const { rare } = this;
    return rare !== null && rare.callbackEvent !== null && rare.callbackEvent.active;
  }

  /** Sets the priority of the callbacks that are triggered. */
  protected setCallbackPriority(priority: number): void {
    const { rare } = this;
    if (rare !== null && rare.callbackEvent !== null) rare.callbackEvent.priority = priority;
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

  /** The read timeout has passed: disables reading and reports it (rule V9). */
  readTimedOut(): void {
    if (this.owner !== null && this.owner.excuses(this)) return;
    this.disable(EV_READ);
    this.callEvent(BEV_EVENT_READING | BEV_EVENT_TIMEOUT);
  }

  /** The write timeout has passed: disables writing and reports it. */
  writeTimedOut(error?: EventError): void {
    this.disable(EV_WRITE);
    this.callEvent(BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, error);
  }

  setIdleTimeout(ms: number): void {
    const { idle } = this;
    if (idle !== null) this.loop.del(idle);
    if (idle !== null || ms > 0) this.idle = ms > 0 ? new IdleTimer(this, ms) : null;
  }

  /** The heartbeat, if there is one. */
  get heartbeat(): HeartbeatTimer | null {
    return this.rare === null ? null : this.rare.heartbeat;
  }

  set heartbeat(heartbeat: HeartbeatTimer | null) {
    if (this.rare === null && heartbeat === null) return;
    const { more } = this;
    if (more.heartbeat !== null) this.loop.del(more.heartbeat);
    more.heartbeat = heartbeat;
  }

  /** Whether silence is the peer's: we read, but for output that the peer does not take, and could ask it. */
  get waitsForPeer(): boolean {
    return (this.enabled & EV_READ) !== 0 && (this.readSuspended & ~SUSPEND_OUTPUT) === 0 && !this.finishing;
  }

  /** The peer has given no sign of life: both directions are disabled, and it is told. */
  peerIsSilent(error: EventError): void {
    this.heartbeat = null;
    this.disable(EV_READ | EV_WRITE);
    this.callEvent(BEV_EVENT_READING | BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, error);
  }

  /** The idle timeout has passed: disables both directions and reports it. */
  idled(ms: number): void {
    // While we suspend reading, the peer cannot send. The time restarts afterwards.
    if (this.closing !== null || this.readSuspended !== 0) return;
    if (this.owner !== null && this.owner.excuses(this)) return;
    this.disable(EV_READ | EV_WRITE);
    const error = new EventError(`Nothing has arrived or left for ${ms} ms`, { code: "ETIMEDOUT" });
    this.callEvent(BEV_EVENT_READING | BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, error);
  }

  // ---- the end

  /** `close()` of the public object. Everything that waits for the connection is told first. */
  endGracefully(timeoutMs: number): Promise<boolean> {
    if (this.closing !== null) return this.closing;
    const { rare } = this;
    if (rare !== null) {
      rare.occupant?.onClosing?.();
      if (rare.streams !== null) { for (const stream of rare.streams) stream.onClosing(); }
    }
    // What waits in the filters above leaves first: the topmost one closes all below it.
    const above = rare?.above ?? null;
    const closing = above === null ? this.close(timeoutMs) : above.endGracefully(timeoutMs);
    if (above !== null && this.closing !== null) this.closing = closing;
    // From here on everybody knows that it is over.
    if (!this.freed && rare !== null) {
      rare.drains?.reject(this.ending("wait for the output to drain"));
      rare.abort?.abort(this.ending("go on"));
    }
    return closing;
  }

  /** Nothing can be written any more. */
  protected finishOutput(): void {
    this.bits |= FINISHING;
    this.output.freeze(false);
  }

  free(): void {
    if (this.freed) return;
    this.bits |= FREED;
    this.callbacks = null;
    this.forgetPending();
    this.rate?.end();
    this.setIdleTimeout(0);
    this.heartbeat = null;
    // Do all of it even if something throws: a release callback, or a function of the program.
    try {
      this.onFree();
    } finally {
      try {
        this.freeBuffer(this.output);
      } finally {
        try {
          this.freeBuffer(this.input);
        } finally {
          this.tellFreed();
        }
      }
    }
  }

  /** As `free()`, where the program could not catch an exception. */
  protected freeAtLast(): void {
    try {
      this.free();
    } catch (error) {
      this.loop.runtime.report(error);
    }
  }

  private tellFreed(): void {
    const { rare, owner } = this;
    if (rare !== null) {
      (rare.occupant ?? rare.departed)?.onFreed?.();
      if (rare.streams !== null) {
        for (const stream of rare.streams) stream.onFreed(this.ending("go on with a stream"));
      }
      rare.drains?.reject(this.ending("wait for the output to drain"));
      rare.abort?.abort(this.ending("go on"));
    }
    if (owner !== null && owner.root === this) owner.onFreed();
  }

  /** Freeing releases adopted memory, and a release callback may throw. */
  private freeBuffer(buffer: EvBuffer): void {
    try {
      buffer.free();
    } catch (error) {
      if (!this.onReleaseError(error)) throw error;
    }
  }

  /** Ends at once and frees. A connection is reset. */
  reset(): void {
    this.free();
  }

  /**
   * Ends and frees at once, as `free()`, but queued output still leaves, within a time limit. It does not wait for the
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
