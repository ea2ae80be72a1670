/**
 * A layer over another bufferevent: what it reads goes through the input filter, what is written through the output
 * filter (rules F1 to F9). Filters are the user's code, and run in the loop, but for those that `flush()` and `close()`
 * ask for.
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
 * How much output of the bufferevent below a filter adds to, where no high watermark says it: a peer that does not read
 * leaves the rest in the filter's own output, where its owner sees it.
 */
const HIGH_BELOW = 128 * 1024;

/** The state behind a `FilterBufferEvent`. */
export class FilterCore extends BevCore implements FilterOwner {
  /** What is under it. */
  readonly below: BevCore;
  readonly #inward: FilterRun;
  readonly #outward: FilterRun;
  readonly #onFreed: (() => void) | null;
  readonly #fromBelow: FromBelow = new FromBelow(this);
  readonly #pumpEvent: PumpEvent = new PumpEvent(this);
  readonly #timers: InactivityTimers = new InactivityTimers(this);
  /** The end of what comes from below: told after all that came before. */
  #end: { what: number; error: EventError | undefined } | null = null;
  #endTold = false;
  #shutDown = false;
  /** Whether the write callback is to come once little enough waits, here and below. */
  #owesWrite = false;

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
    this.#inward = new FilterRun(this, inputFilter, below.input, this.input, false);
    this.#outward = new FilterRun(this, outputFilter, this.output, below.output, true);
    this.#onFreed = onFreed;
    below.suspendRead(SUSPEND_FILTER);
    below.above = this;
    below.occupy(this.#fromBelow);
    below.enable(EV_READ | EV_WRITE);
  }

  override get limitable(): boolean {
    return false;
  }

  /** An end that has yet to be passed on counts as more than any watermark: the filter may add something with it. */
  override get queued(): number {
    if (this.finishing && !this.#shutDown) return Infinity;
    return this.output.length + this.below.queued;
  }

  // ---- what the user and the watermarks want

  protected override onEnable(what: number): void {
    if ((what & EV_READ) !== 0) this.#goOnReading();
    if ((what & EV_WRITE) === 0) return;
    this.#timers.restartWrite();
    if (this.output.length > 0 || this.finishing) this.#schedule(EV_WRITE);
  }

  override get bytesRead(): number {
    return this.#inward.bytes;
  }

  override get bytesWritten(): number {
    return this.#outward.bytes;
  }

  protected override onDisable(what: number): void {
    if ((what & EV_READ) !== 0) {
      this.#goOnReading();
      // As with a socket, the end is told anew when reading is enabled anew.
      this.#endTold = false;
    }
    if ((what & EV_WRITE) !== 0) this.#timers.restartWrite();
  }

  protected override onReadSuspension(): void {
    this.#goOnReading();
  }

  /** Nothing suspends writing: it has no rate limit. */
  protected override onWriteSuspension(): void {}

  protected override onOutput(): void {
    // What the filter puts back is no news for it.
    if (this.#outward.running) return;
    this.#outward.finished = false;
    if (!this.writing) return;
    this.#timers.awaitWrite();
    this.#schedule(EV_WRITE);
  }

  protected override onInputDrained(): void {
    // A filter that had too little room below the watermark has more now.
    if (this.readHigh > 0 && this.reading && this.below.input.length > 0) this.#schedule(EV_READ);
  }

  protected override onTimeouts(): void {
    this.#timers.restartRead(this.reading && !this.#endTold);
    this.#timers.restartWrite();
  }

  override restartRead(): void {
    this.#timers.restartRead(this.reading && !this.#endTold);
  }

  override raised<E extends Error>(error: E): E {
    return this.below.raised(error);
  }

  override hasRaised(error: unknown): boolean {
    return this.below.hasRaised(error);
  }

  /** Lets the bufferevent below read while we do, and sees to what it has read. */
  #goOnReading(): void {
    const { below, reading } = this;
    this.#timers.restartRead(reading && !this.#endTold);
    if (below.freed) return;
    if (!reading) {
      below.suspendRead(SUSPEND_FILTER);
      return;
    }
    below.resumeRead(SUSPEND_FILTER);
    if (below.input.length > 0 || (this.#end !== null && !this.#endTold)) this.#schedule(EV_READ);
  }

  override watchFailure(on: boolean): void {
    this.below.watchFailure(on);
  }

  #schedule(what: number): void {
    if (this.closing === null) this.loop.activate(this.#pumpEvent, what);
  }

  // ---- the filters

  /** For a filter: how much of its making is wanted now. */
  room(run: FilterRun): number {
    const { length } = run.destination;
    if (run === this.#inward) {
      if (!this.reading) return 0;
      return this.readHigh === 0 ? -1 : Math.max(this.readHigh - length, 0);
    }
    if (!this.writing) return 0;
    const { writeHigh } = this.below;
    if (writeHigh > 0) return Math.max(writeHigh - length, 0);
    return length < HIGH_BELOW ? -1 : 0;
  }

  /** Whether a callback or a filter has ended it, or what is below. */
  get over(): boolean {
    return this.freed || this.closing !== null || this.below.freed;
  }

  /** What was made before is told, and what was taken is not forgotten: only the call that threw is lost. */
  onThrow(run: FilterRun, state: number): void {
    if (this.over) return;
    if (run === this.#outward) {
      if ((state & TAKEN) !== 0) this.#tookOutput();
    } else if ((state & MADE) !== 0) {
      this.#timers.restartRead();
      this.trigger(EV_READ, 0);
      this.checkHigh();
    }
  }

  /** Runs the filters of the directions, and calls back. In the loop only. */
  pump(what: number): void {
    if ((what & EV_READ) !== 0) this.#pumpInput();
    if ((what & EV_WRITE) !== 0) this.#pumpOutput();
  }

  #pumpInput(): void {
    if (this.over) return;
    const state = this.#inward.run(BEV_NORMAL);
    if (!this.#tellInput(state) || this.#end === null || (state & EXHAUSTED) === 0 || !this.reading) return;
    if ((this.#end.what & BEV_EVENT_EOF) !== 0 && !this.#inward.finished) {
      if (!this.#tellInput(this.#inward.run(BEV_FINISHED))) return;
    }
    const end = this.#end;
    if (end === null || this.#endTold || !this.reading) return;
    this.#endTold = true;
    this.#timers.restartRead(false);
    this.#tellEnd(end.what, end.error);
  }

  /** Calls back what a run of the input filter has come to. @returns Whether there is more to be done */
  #tellInput(state: number): boolean {
    if (this.over) return false;
    if ((state & MORE) !== 0) this.#schedule(EV_READ);
    if ((state & MADE) !== 0) {
      this.#timers.restartRead();
      // A callback that throws must not cost the end that is still to be told.
      if (this.#end !== null && !this.#endTold) this.#schedule(EV_READ);
      this.tellRead();
      if (this.over) return false;
      // Only now: as a rule the callback has drained the input.
      this.checkHigh();
    }
    if ((state & FAILED) === 0) return true;
    this.disable(EV_READ);
    this.callEvent(BEV_EVENT_READING | BEV_EVENT_ERROR, this.#inward.error ?? filterError("read"));
    return false;
  }

  /** Who waits for the connection hears of a failure from the layer that it waits at. */
  #tellEnd(what: number, error: EventError | undefined): void {
    if (error !== undefined && (what & BEV_EVENT_ERROR) !== 0) this.fail(error);
    this.callEvent(what, error);
  }

  #pumpOutput(): void {
    if (this.freed || this.closing !== null) return;
    const state = this.#runOutward(BEV_NORMAL);
    if (this.freed || this.closing !== null) return;
    if ((state & MORE) !== 0) this.#schedule(EV_WRITE);
    if ((state & TAKEN) !== 0) this.#tookOutput();
    if ((state & FAILED) !== 0) this.#tellWriteError();
    else if (this.finishing && this.writing && (state & EXHAUSTED) !== 0) this.#passOnShutdown();
    if (!this.#owesWrite || this.over || this.queued > this.writeLow) return;
    this.#owesWrite = false;
    this.callWrite();
  }

  #tookOutput(): void {
    this.#timers.restartWrite();
    this.#owesWrite = true;
  }

  /** As `FilterRun.run`; output fails when nobody below takes it any more. */
  #runOutward(mode: number): number {
    const { below } = this;
    if (below.freed || below.finishing) return this.output.length > 0 ? FAILED : EXHAUSTED;
    return this.#outward.run(mode);
  }

  /**
   * A layer below has sent some of its output: there is room for more, and the write callback may be due. The write
   * callback of the layer below would come too late, or never where that is a filter that keeps a rest.
   */
  override onOutputBelow(): void {
    if (this.output.length > 0 || (this.#owesWrite && this.queued <= this.writeLow)) this.#schedule(EV_WRITE);
    this.above?.onOutputBelow();
  }

  /** All of the output has gone through: the filter gets its last call, and what is below finishes too. */
  #passOnShutdown(): void {
    if (this.#shutDown) return;
    const state = this.#outward.finished ? 0 : this.#runOutward(BEV_FINISHED);
    // Only now: it may have thrown, and is called again then.
    this.#shutDown = true;
    if (this.freed || this.closing !== null) return;
    if (!this.below.freed) this.below.shutdown();
    this.above?.onOutputBelow();
    if ((state & FAILED) !== 0) this.#tellWriteError();
  }

  #tellWriteError(): void {
    this.disable(EV_WRITE);
    this.#tellEnd(BEV_EVENT_WRITING | BEV_EVENT_ERROR, this.#writeError());
  }

  #writeError(): EventError {
    if (!this.below.freed && !this.below.finishing) return this.#outward.error ?? filterError("write");
    return new EventError("Cannot write: the bufferevent under the filter was finished", {
      code: "EPIPE",
      syscall: "write",
    });
  }

  // ---- what comes from below

  onBytesBelow(): void {
    // A new connection of the socket below, for instance.
    if (this.#endTold && this.below.input.length > 0) {
      this.#end = null;
      this.#endTold = false;
      this.#inward.finished = false;
    }
    this.pump(EV_READ);
  }

  /** What ends reading waits for the bytes before it; everything else is passed on at once (rule F6). */
  onEventBelow(what: number, error: EventError | undefined): void {
    if ((what & BEV_EVENT_READING) === 0 || (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) === 0) {
      this.#tellEnd(what, error);
      return;
    }
    this.#end = { what, error };
    this.#endTold = false;
    this.pump(EV_READ);
  }

  /** Nothing comes or leaves any more. An owner's filters end with its connection; others stay, but nobody waits there. */
  onBelowFreed(): void {
    if (this.freed) return;
    if (this.owner !== null) return this.free();
    this.fail(new EventError("Cannot go on: the bufferevent under the filter was freed", { code: "EV_FREED" }));
    this.occupant?.onFreed?.();
  }

  // ---- flush, shutdown, close

  override flush(what: number, mode: number): void {
    this.live("flush a bufferevent");
    if ((what & EV_READ) !== 0 && !this.over) this.#flushInput(mode);
    if ((what & EV_WRITE) !== 0 && !this.over) this.#flushOutput(mode);
    if (!this.over) this.below.flush(what, mode);
  }

  /** In a call of the user's: what there is to tell is told from the loop. */
  #flushInput(mode: number): void {
    const state = this.#inward.run(mode);
    if (this.over) return;
    if ((state & MORE) !== 0) this.#schedule(EV_READ);
    if ((state & MADE) !== 0) {
      this.#timers.restartRead();
      this.trigger(EV_READ, 0);
      this.checkHigh();
    }
    if ((state & FAILED) === 0) return;
    this.disable(EV_READ);
    this.triggerEvent(BEV_EVENT_READING | BEV_EVENT_ERROR, this.#inward.error ?? filterError("read"));
  }

  #flushOutput(mode: number): void {
    const state = this.#runOutward(mode);
    if (this.over) return;
    if ((state & MORE) !== 0) this.#schedule(EV_WRITE);
    if ((state & TAKEN) !== 0) {
      this.#tookOutput();
      this.#schedule(EV_WRITE);
    }
    if ((state & FAILED) === 0) return;
    this.disable(EV_WRITE);
    this.triggerEvent(BEV_EVENT_WRITING | BEV_EVENT_ERROR, this.#writeError());
  }

  override shutdown(): void {
    this.live("shut down a bufferevent");
    if (this.finishing) return;
    this.finishOutput();
    this.#schedule(EV_WRITE);
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
    this.#timers.stop();
    this.loop.del(this.#pumpEvent);
    this.finishOutput();
    let whole = true;
    let thrown: { error: unknown } | null = null;
    try {
      // The last call, unless it was had and nothing has come since.
      if (!this.#outward.finished || this.output.length > 0) whole = (this.#runOutward(BEV_FINISHED) & FAILED) === 0;
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

  /** Down to the bottom of the stack, whatever owns it. */
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
   * Down to the bottom of the stack, as `reset()`. The output filter gives all that it has made, but not the end of a stream:
   * the peer is not to take a part for the whole.
   */
  override abandon(): void {
    if (this.freed || this.closing !== null) return;
    try {
      if (!this.over) this.#runOutward(BEV_FLUSH);
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
    this.#timers.stop();
    loop.del(this.#pumpEvent);
    below.above = null;
    if (this.#onFreed !== null) {
      // From the loop, when the filters can no longer run (rule F8).
      const event = new PumpEvent(this);
      event.finalizer = this.#onFreed;
      if (loop.freed) this.#onFreed();
      else loop.activate(event, EV_FINALIZE);
    }
    if ((this.options & BEV_OPT_CLOSE_ON_FREE) !== 0) below.free();
    else if (!below.freed && below.occupant === this.#fromBelow) {
      below.vacate();
      below.resumeRead(SUSPEND_FILTER);
    }
  }
}

function filterError(syscall: "read" | "write"): EventError {
  const what = syscall === "read" ? "input" : "output";
  return new EventError(`Cannot ${syscall}: the ${what} filter has failed`, { code: "EV_FILTER", syscall });
}
