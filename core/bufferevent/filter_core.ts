/**
 * A layer over another bufferevent. Input goes through the input filter, output through the output filter (rules F1 to
 * F9). Filters are code of the program. They run in the loop, except in `flush()` and `close()`.
 */

import {
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_WRITING,
  BEV_FINISHED,
  BEV_FLUSH,
  BEV_NORMAL,
  BEV_OPT_CLOSE_ON_FREE,
  EV_FINALIZE,
  EV_READ,
  EV_WRITE,
} from "../flags.ts";
import { EventError } from "../errors.ts";
import { BevCore, SUSPEND_FILTER } from "./core.ts";
import { FromBelow, PumpEvent } from "./filter_links.ts";
import {
  type BufferEventFilter,
  EXHAUSTED,
  FAILED,
  type FilterOwner,
  FilterRun,
  MADE,
  MORE,
  TAKEN,
} from "./filter_run.ts";
import { InactivityTimers } from "./timers.ts";

/**
 * The limit of the output below for a filter, if there is no high watermark. If the peer does not read, the rest stays
 * in the filter's own output, where its owner sees it.
 */
const HIGH_BELOW = 128 * 1024;

/** The engine of a `FilterBufferEvent`. */
export class FilterCore extends BevCore implements FilterOwner {
  /** The bufferevent below. */
  readonly below: BevCore;
  private readonly inward: FilterRun;
  private readonly outward: FilterRun;
  private readonly onFreed: (() => void) | null;
  private readonly fromBelow: FromBelow = new FromBelow(this);
  private readonly pumpEvent: PumpEvent = new PumpEvent(this);
  private readonly timers: InactivityTimers = new InactivityTimers(this);
  /** The end from below. It is reported after all bytes before it. */
  private end: { what: number; error: EventError | undefined } | null = null;
  private endTold = false;
  private shutDown = false;
  /** Whether the write callback must follow when the output, here and below, has drained. */
  private owesWrite = false;

  constructor(
    below: BevCore,
    inputFilter: BufferEventFilter | null,
    outputFilter: BufferEventFilter | null,
    options: number,
    onFreed: (() => void) | null,
  ) {
    below.live("make a filter");
    const why = below.closing !== null ? "it is being closed" : below.occupant?.what;
    if (why !== undefined) {
      throw new EventError(`Cannot make a filter over a bufferevent: ${why}`, { code: "EV_BUSY" });
    }
    super(below.loop, options);
    this.below = below;
    this.owner = below.owner;
    if (!below.readsWhileFull) this.readsWhileFull = false;
    this.inward = new FilterRun(this, inputFilter, below.input, this.input, false);
    this.outward = new FilterRun(this, outputFilter, this.output, below.output, true);
    this.onFreed = onFreed;
    below.suspendRead(SUSPEND_FILTER);
    below.above = this;
    below.occupy(this.fromBelow);
    below.enable(EV_READ | EV_WRITE);
  }

  override get limitable(): boolean {
    return false;
  }

  /** An end that has not been passed on counts as more than any watermark, because the filter may add bytes with it. */
  override get queued(): number {
    if (this.finishing && !this.shutDown) return Infinity;
    return this.output.length + this.below.queued;
  }

  // ---- what the user and the watermarks want

  protected override onEnable(what: number): void {
    if ((what & EV_READ) !== 0) this.goOnReading();
    if ((what & EV_WRITE) === 0) return;
    this.timers.restartWrite();
    if (this.output.length > 0 || this.finishing) this.schedulePump(EV_WRITE);
  }

  override get bytesRead(): number {
    return this.inward.bytes;
  }

  override get bytesWritten(): number {
    return this.outward.bytes;
  }

  protected override onDisable(what: number): void {
    if ((what & EV_READ) !== 0) {
      this.goOnReading();
      // As with a socket, enabling reading reports the end anew.
      this.endTold = false;
    }
    if ((what & EV_WRITE) !== 0) this.timers.restartWrite();
  }

  protected override onReadSuspension(): void {
    this.goOnReading();
  }

  /** Nothing suspends writing: it has no rate limit. */
  protected override onWriteSuspension(): void {}

  protected override onOutput(): void {
    // Bytes that the filter puts back need no further call.
    if (this.outward.running) return;
    this.outward.finished = false;
    if (!this.writing) return;
    this.timers.awaitWrite();
    this.schedulePump(EV_WRITE);
  }

  protected override onInputDrained(): void {
    // A filter that had too little space below the watermark has more now.
    if (this.readHigh > 0 && this.reading && this.below.input.length > 0) this.schedulePump(EV_READ);
  }

  protected override onTimeouts(): void {
    this.timers.restartRead(this.reading && !this.endTold);
    this.timers.restartWrite();
  }

  override restartRead(): void {
    this.timers.restartRead(this.reading && !this.endTold);
  }

  override raised<E extends Error>(error: E): E {
    return this.below.raised(error);
  }

  override hasRaised(error: unknown): boolean {
    return this.below.hasRaised(error);
  }

  /** Makes the bufferevent below read while we do, and processes its input. */
  private goOnReading(): void {
    const { below, reading } = this;
    this.timers.restartRead(reading && !this.endTold);
    if (below.freed) return;
    if (!reading) {
      below.suspendRead(SUSPEND_FILTER);
      return;
    }
    below.resumeRead(SUSPEND_FILTER);
    if (below.input.length > 0 || (this.end !== null && !this.endTold)) this.schedulePump(EV_READ);
  }

  override watchFailure(on: boolean): void {
    this.below.watchFailure(on);
  }

  private schedulePump(what: number): void {
    if (this.closing === null) this.loop.activate(this.pumpEvent, what);
  }

  // ---- the filters

  /** For a filter: how many bytes it may make now. */
  room(run: FilterRun): number {
    const { length } = run.destination;
    if (run === this.inward) {
      if (!this.reading) return 0;
      return this.readHigh === 0 ? -1 : Math.max(this.readHigh - length, 0);
    }
    if (!this.writing) return 0;
    const { writeHigh } = this.below;
    if (writeHigh > 0) return Math.max(writeHigh - length, 0);
    return length < HIGH_BELOW ? -1 : 0;
  }

  /** Whether a callback or a filter has ended this layer or the one below. */
  get over(): boolean {
    return this.freed || this.closing !== null || this.below.freed;
  }

  /** Reports what was made and taken before. Only the call that threw is lost. */
  onThrow(run: FilterRun, state: number): void {
    if (this.over) return;
    if (run === this.outward) {
      if ((state & TAKEN) !== 0) this.tookOutput();
    } else if ((state & MADE) !== 0) {
      this.timers.restartRead();
      this.trigger(EV_READ, 0);
      this.checkHigh();
    }
  }

  /** Runs the filters of the directions, and calls back. Only in the loop. */
  pump(what: number): void {
    if ((what & EV_READ) !== 0) this.pumpInput();
    if ((what & EV_WRITE) !== 0) this.pumpOutput();
  }

  private pumpInput(): void {
    if (this.over) return;
    const state = this.inward.run(BEV_NORMAL);
    if (!this.tellInput(state) || this.end === null || (state & EXHAUSTED) === 0 || !this.reading) return;
    if ((this.end.what & BEV_EVENT_EOF) !== 0 && !this.inward.finished) {
      if (!this.tellInput(this.inward.run(BEV_FINISHED))) return;
    }
    const end = this.end;
    if (end === null || this.endTold || !this.reading) return;
    this.endTold = true;
    this.timers.restartRead(false);
    this.tellEnd(end.what, end.error);
  }

  /** Reports the result of a run of the input filter. @returns Whether there is more to do */
  private tellInput(state: number): boolean {
    if (this.over) return false;
    if ((state & MORE) !== 0) this.schedulePump(EV_READ);
    if ((state & MADE) !== 0) {
      this.timers.restartRead();
      // The end must be reported even if a callback throws.
      if (this.end !== null && !this.endTold) this.schedulePump(EV_READ);
      this.tellRead();
      if (this.over) return false;
      // Only now, because usually the callback has drained the input.
      this.checkHigh();
    }
    if ((state & FAILED) === 0) return true;
    this.disable(EV_READ);
    this.callEvent(BEV_EVENT_READING | BEV_EVENT_ERROR, this.inward.error ?? filterError("read"));
    return false;
  }

  /** Code that waits for the connection is told of a failure by the layer at which it waits. */
  private tellEnd(what: number, error: EventError | undefined): void {
    if (error !== undefined && (what & BEV_EVENT_ERROR) !== 0) this.fail(error);
    this.callEvent(what, error);
  }

  private pumpOutput(): void {
    if (this.freed || this.closing !== null) return;
    const state = this.runOutward(BEV_NORMAL);
    if (this.freed || this.closing !== null) return;
    if ((state & MORE) !== 0) this.schedulePump(EV_WRITE);
    if ((state & TAKEN) !== 0) this.tookOutput();
    if ((state & FAILED) !== 0) this.tellWriteError();
    else if (this.finishing && this.writing && (state & EXHAUSTED) !== 0) this.passOnShutdown();
    if (!this.owesWrite || this.over || this.queued > this.writeLow) return;
    this.owesWrite = false;
    this.callWrite();
  }

  private tookOutput(): void {
    this.timers.restartWrite();
    this.owesWrite = true;
  }

  /** As `FilterRun.run`. Output fails if the layer below takes none any more. */
  private runOutward(mode: number): number {
    const { below } = this;
    if (below.freed || below.finishing) return this.output.length > 0 ? FAILED : EXHAUSTED;
    return this.outward.run(mode);
  }

  /**
   * A layer below has sent some output: there is space for more, and the write callback may be due. The write callback
   * of the layer below would come too late, or never if that is a filter that keeps a rest.
   */
  override onOutputBelow(): void {
    if (this.output.length > 0 || (this.owesWrite && this.queued <= this.writeLow)) this.schedulePump(EV_WRITE);
    this.above?.onOutputBelow();
  }

  /** All output has gone through: the filter gets its last call, and the layer below finishes too. */
  private passOnShutdown(): void {
    if (this.shutDown) return;
    const state = this.outward.finished ? 0 : this.runOutward(BEV_FINISHED);
    // Only now: it may have thrown, and is called again then.
    this.shutDown = true;
    if (this.freed || this.closing !== null) return;
    if (!this.below.freed) this.below.shutdown();
    this.above?.onOutputBelow();
    if ((state & FAILED) !== 0) this.tellWriteError();
  }

  private tellWriteError(): void {
    this.disable(EV_WRITE);
    this.tellEnd(BEV_EVENT_WRITING | BEV_EVENT_ERROR, this.writeError());
  }

  private writeError(): EventError {
    if (!this.below.freed && !this.below.finishing) return this.outward.error ?? filterError("write");
    return new EventError("Cannot write: the bufferevent under the filter was finished", {
      code: "EPIPE",
      syscall: "write",
    });
  }

  // ---- what comes from below

  onBytesBelow(): void {
    // A new connection of the socket below, for instance.
    if (this.endTold && this.below.input.length > 0) {
      this.end = null;
      this.endTold = false;
      this.inward.finished = false;
    }
    this.pump(EV_READ);
  }

  /** An end of reading waits for the bytes before it. Everything else is passed on at once (rule F6). */
  onEventBelow(what: number, error: EventError | undefined): void {
    if ((what & BEV_EVENT_READING) === 0 || (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) === 0) {
      this.tellEnd(what, error);
      return;
    }
    this.end = { what, error };
    this.endTold = false;
    this.pump(EV_READ);
  }

  /**
   * The layer below was freed. Filters with an owner end with its connection. Others stay, but nobody waits there any
   * more.
   */
  onBelowFreed(): void {
    if (this.freed) return;
    if (this.owner !== null) return this.free();
    this.fail(new EventError("Cannot go on: the bufferevent under the filter was freed", { code: "EV_FREED" }));
    this.occupant?.onFreed?.();
  }

  // ---- flush, shutdown, close

  override flush(what: number, mode: number): void {
    this.live("flush a bufferevent");
    if ((what & EV_READ) !== 0 && !this.over) this.flushInput(mode);
    if ((what & EV_WRITE) !== 0 && !this.over) this.flushOutput(mode);
    if (!this.over) this.below.flush(what, mode);
  }

  /** Inside a call of the program, so callbacks run from the loop. */
  private flushInput(mode: number): void {
    const state = this.inward.run(mode);
    if (this.over) return;
    if ((state & MORE) !== 0) this.schedulePump(EV_READ);
    if ((state & MADE) !== 0) {
      this.timers.restartRead();
      this.trigger(EV_READ, 0);
      this.checkHigh();
    }
    if ((state & FAILED) === 0) return;
    this.disable(EV_READ);
    this.triggerEvent(BEV_EVENT_READING | BEV_EVENT_ERROR, this.inward.error ?? filterError("read"));
  }

  private flushOutput(mode: number): void {
    const state = this.runOutward(mode);
    if (this.over) return;
    if ((state & MORE) !== 0) this.schedulePump(EV_WRITE);
    if ((state & TAKEN) !== 0) {
      this.tookOutput();
      this.schedulePump(EV_WRITE);
    }
    if ((state & FAILED) === 0) return;
    this.disable(EV_WRITE);
    this.triggerEvent(BEV_EVENT_WRITING | BEV_EVENT_ERROR, this.writeError());
  }

  override shutdown(): void {
    this.live("shut down a bufferevent");
    if (this.finishing) return;
    this.finishOutput();
    this.schedulePump(EV_WRITE);
  }

  override close(timeoutMs: number): Promise<boolean> {
    if (this.closing !== null) return this.closing;
    const { below } = this;
    if (this.freed || below.freed) {
      const nothingLost = this.output.length === 0;
      this.freeAtLast();
      return this.closing = Promise.resolve(nothingLost);
    }
    this.silence();
    this.timers.stop();
    this.loop.del(this.pumpEvent);
    this.finishOutput();
    let whole = true;
    let thrown: { error: unknown } | null = null;
    try {
      // The last call, unless the filter has had it and there is no new output.
      if (!this.outward.finished || this.output.length > 0) whole = (this.runOutward(BEV_FINISHED) & FAILED) === 0;
    } catch (error) {
      thrown = { error };
    }
    if (this.output.length > 0) whole = false;
    const settle = (failed: { error: unknown } | null): void => {
      this.freeAtLast();
      if (failed !== null) throw failed.error;
    };
    return this.closing = below.close(timeoutMs).then((delivered) => {
      settle(thrown);
      return delivered && whole;
    }, (error) => {
      // A filter below has thrown in its last call.
      settle(thrown ?? { error });
      return false;
    });
  }

  /** Resets down to the bottom of the stack, whoever owns it. */
  override reset(): void {
    try {
      // Before free(), which may own it and would end it with a FIN.
      this.below.reset();
    } finally {
      this.free();
    }
  }

  override get failure(): EventError | null {
    return this.below.failure;
  }

  /**
   * Goes down to the bottom of the stack, as `reset()`. The output filter gives all its bytes, but not the end of its
   * data, because the peer must not take a part for the whole.
   */
  override abandon(): void {
    if (this.freed || this.closing !== null) return;
    try {
      if (!this.over) this.runOutward(BEV_FLUSH);
    } finally {
      try {
        // Before free(), which may own it and would drop its output.
        this.below.abandon();
      } finally {
        this.free();
      }
    }
  }

  override get priority(): number {
    return this.loop.queues.length >> 1;
  }

  override setPriority(): void {
    throw new EventError("Cannot set the priority: a filter has none of its own", { code: "EV_UNSUPPORTED" });
  }

  protected override onFree(): void {
    const { below, loop } = this;
    this.timers.stop();
    loop.del(this.pumpEvent);
    below.above = null;
    if (this.onFreed !== null) {
      // From the loop, when the filters can no longer run (rule F8).
      const event = new PumpEvent(this);
      event.finalizer = this.onFreed;
      if (loop.freed) this.onFreed();
      else loop.activate(event, EV_FINALIZE);
    }
    if ((this.options & BEV_OPT_CLOSE_ON_FREE) !== 0) below.free();
    else if (!below.freed && below.occupant === this.fromBelow) {
      below.vacate();
      below.resumeRead(SUSPEND_FILTER);
    }
  }
}

function filterError(syscall: "read" | "write"): EventError {
  const what = syscall === "read" ? "input" : "output";
  return new EventError(`Cannot ${syscall}: the ${what} filter has failed`, { code: "EV_FILTER", syscall });
}
