/** One end of a pair: its output goes into its partner's input, as far as both allow it (rules M1 to M6). */

import {
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_WRITING,
  BEV_FINISHED,
  BEV_NORMAL,
  BEV_OPT_DEFER_CALLBACKS,
  EV_READ,
  EV_WRITE,
} from "../flags.ts";
import { EventError } from "../errors.ts";
import { consume, lostIn, moveBytes } from "../buffer/internal.ts";
import type { Loop } from "../loop/loop.ts";
import { BevCore } from "./core.ts";
import { atDeadline } from "../loop/deadline.ts";
import { InactivityTimers } from "./timers.ts";

/** The engine of a `PairBufferEvent`. */
export class PairCore extends BevCore {
  /** The other end; null once it was freed, or this one. */
  partner: PairCore | null = null;
  private readonly timers: InactivityTimers = new InactivityTimers(this);
  private readonly eofOnFree: boolean;
  /** Whether the partner has finished and all its output is in our input, or it was reset. */
  private ended = false;
  private bytesIn = 0;
  private bytesOut = 0;
  /** The error if the partner was reset. */
  private endError: EventError | undefined = undefined;
  /** Whether our end is a reset for the partner. */
  private cutOff = false;
  /** Ends the wait of `close()`. */
  private settle: ((delivered: boolean) => void) | null = null;

  constructor(loop: Loop, options: number, eofOnFree: boolean) {
    super(loop, options | BEV_OPT_DEFER_CALLBACKS);
    this.eofOnFree = eofOnFree;
  }

  override get bytesRead(): number {
    return this.bytesIn;
  }

  override get bytesWritten(): number {
    return this.bytesOut;
  }

  // ---- moving bytes

  /**
   * Moves output to the partner's input at once; only the callbacks wait for the loop (rule M1). The partner's high
   * watermark (rule M2) and the rate limits of both are the limit.
   *
   * @param push Whether it is moved even if a direction is disabled, and beyond the watermark
   */
  private transfer(push = false): void {
    const to = this.partner;
    if (this.freed) return;
    if (to === null) return this.failOutput();
    const before = this.output.length;
    try {
      if (to.closing !== null) {
        this.bytesOut += before;
        consume(this.output, before);
      } else this.moveTo(to, push);
    } finally {
      // Also when a change callback has thrown, because the bytes were moved.
      this.moved(to, before);
    }
  }

  private moved(to: PairCore, before: number): void {
    if (this.freed) return;
    const { length } = this.output;
    if (length < before && !to.freed) {
      to.checkHigh();
      if (to.closing === null) {
        to.timers.restartRead();
        to.trigger(EV_READ, 0);
      }
      this.timers.restartWrite();
      this.trigger(EV_WRITE, 0);
    }
    if (this.finishing && length === 0 && this.partner !== null) this.partner.onPartnerFinished();
  }

  private moveTo(to: PairCore, push: boolean): void {
    const { output } = this;
    while (output.length > 0 && !to.freed) {
      if (!push && !(to.reading && (this.writing || this.closing !== null))) break;
      let most = output.length;
      if (!push) {
        if (to.readHigh > 0) most = Math.min(most, to.readHigh - to.input.length);
        if (most <= 0) break;
        if (to.rate !== null) most = to.rate.budget(EV_READ, Math.min(most, to.maxSingleRead));
        if (most > 0 && this.rate !== null) most = this.rate.budget(EV_WRITE, most);
        if (most === 0) break;
      }
      const lost = lostIn(output, most);
      if (lost !== null) {
        this.failSending(lost);
        break;
      }
      // Before a change callback can throw: the bytes are moved all the same.
      this.bytesOut += most;
      to.bytesIn += most;
      const n = moveBytes(output, to.input, most);
      if (to.rate !== null) to.rate.spent(EV_READ, n);
      if (this.rate !== null) this.rate.spent(EV_WRITE, n);
      // A change callback may have freed either end.
      if (this.freed || to.freed) return;
      to.checkHigh();
    }
  }

  // ---- what the user, the watermarks and the limits want

  protected override onEnable(what: number): void {
    if ((what & EV_READ) !== 0) this.goOnReading();
    if ((what & EV_WRITE) !== 0) {
      this.timers.restartWrite();
      this.transfer();
    }
  }

  protected override onDisable(what: number): void {
    if ((what & EV_READ) !== 0) this.timers.restartRead();
    if ((what & EV_WRITE) !== 0) this.timers.restartWrite();
  }

  protected override onReadSuspension(): void {
    this.goOnReading();
  }

  protected override onWriteSuspension(): void {
    this.timers.restartWrite();
    if (this.writing) this.transfer();
  }

  protected override onOutput(): void {
    this.transfer();
    if (!this.freed && this.output.length > 0) this.timers.awaitWrite();
  }

  protected override onTimeouts(): void {
    this.timers.restartRead();
    this.timers.restartWrite();
  }

  override restartRead(): void {
    this.timers.restartRead();
  }

  private goOnReading(): void {
    this.timers.restartRead();
    if (!this.reading) return;
    if (this.ended) this.tellEnd();
    else if (this.partner !== null) this.partner.transfer();
  }

  // ---- the end of what the partner writes

  private onPartnerFinished(): void {
    if (this.ended) return;
    this.ended = true;
    this.timers.restartRead(false);
    if (this.settle !== null) this.settleIfDone();
    else if (this.reading) this.tellEnd();
  }

  /** As on a socket: reading is disabled, and enabling it reports the end again (rule V5). */
  private tellEnd(): void {
    this.disable(EV_READ);
    const error = this.endError;
    if (error !== undefined) this.fail(error);
    this.triggerEvent(BEV_EVENT_READING | (error === undefined ? BEV_EVENT_EOF : BEV_EVENT_ERROR), error);
  }

  private onPartnerFreed(cutOff: boolean): void {
    this.partner = null;
    if (this.settle !== null) return this.settle(!cutOff && this.output.length === 0);
    if (cutOff && !this.ended) {
      this.ended = true;
      this.endError = new EventError("Cannot read: the partner was cut off", { code: "ECONNRESET", syscall: "read" });
      this.timers.restartRead(false);
      this.tellEnd();
    } else if (this.eofOnFree) this.onPartnerFinished();
    this.failOutput();
  }

  /** Output that waits for a freed partner is reported once, as on a socket. */
  private failOutput(): void {
    if (!this.eofOnFree || this.output.length === 0 || !this.writing || this.closing !== null) return;
    this.tellWriteError(new EventError("Cannot write: the partner was freed", { code: "EPIPE", syscall: "write" }));
  }

  private tellWriteError(error: EventError): void {
    this.disable(EV_WRITE);
    this.fail(error);
    this.triggerEvent(BEV_EVENT_WRITING | BEV_EVENT_ERROR, error);
  }

  /** Bytes of the output are gone. The partner must not take its input for the whole. */
  private failSending(error: EventError): void {
    this.cutOff = true;
    if (this.settle === null) this.tellWriteError(error);
    else this.settle(false);
  }

  // ---- the rest

  override flush(what: number, mode: number): void {
    this.live("flush a bufferevent");
    if (this.partner === null) {
      throw new EventError("Cannot flush a pair: the partner was freed", { code: "EV_UNSUPPORTED" });
    }
    if (mode === BEV_NORMAL) return;
    if ((what & EV_READ) !== 0) this.partner.transfer(true);
    if ((what & EV_WRITE) !== 0) this.transfer(true);
    if (mode !== BEV_FINISHED) return;
    const reading = (what & EV_WRITE) !== 0 ? BEV_EVENT_READING : 0;
    const writing = (what & EV_READ) !== 0 ? BEV_EVENT_WRITING : 0;
    this.partner?.triggerEvent(BEV_EVENT_EOF | reading | writing);
  }

  override shutdown(): void {
    this.live("shut down a bufferevent");
    if (this.finishing) return;
    this.finishOutput();
    this.transfer();
  }

  override close(timeoutMs: number): Promise<boolean> {
    if (this.closing !== null) return this.closing;
    const { partner } = this;
    if (this.freed || partner === null) {
      const nothingLost = this.output.length === 0;
      this.freeAtLast();
      return this.closing = Promise.resolve(nothingLost);
    }
    this.silence();
    this.timers.stop();
    this.finishOutput();
    const { runtime } = this.loop;
    const cancel = atDeadline(runtime, runtime.now() + timeoutMs, () => this.cut());
    this.loop.keepRunning(1, true);
    this.closing = new Promise((resolve) => {
      this.settle = (delivered): void => {
        this.settle = null;
        cancel();
        this.loop.keepRunning(-1, true);
        this.freeAtLast();
        resolve(delivered);
      };
    });
    this.quietly(() => consume(this.input, this.input.length));
    this.quietly(() => partner.transfer());
    this.quietly(() => this.transfer());
    this.settleIfDone();
    return this.closing;
  }

  /** An exception of a change or release callback must not stop closing. */
  private quietly(fn: () => void): void {
    try {
      fn();
    } catch (error) {
      this.loop.runtime.report(error);
    }
  }

  private settleIfDone(): void {
    if (this.ended && this.output.length === 0) this.settle?.(true);
  }

  /** `close()` is out of time. The partner gets a reset if something was lost. */
  private cut(): void {
    this.cutOff = this.output.length > 0;
    this.settle?.(false);
  }

  override reset(): void {
    this.cutOff = true;
    this.free();
  }

  /**
   * The partner gets all output now, also beyond its high watermark, because the bytes are only moved. Then it gets the
   * end.
   */
  override abandon(): void {
    if (this.freed || this.closing !== null) return;
    try {
      this.transfer(true);
    } finally {
      const { partner } = this;
      if (partner !== null) partner.onPartnerFinished();
      this.free();
    }
  }

  override get priority(): number {
    return this.loop.queues.length >> 1;
  }

  override setPriority(): void {
    throw new EventError("Cannot set the priority: a pair has none of its own", { code: "EV_UNSUPPORTED" });
  }

  protected override onFree(): void {
    this.timers.stop();
    const { partner } = this;
    this.partner = null;
    if (partner !== null) partner.onPartnerFreed(this.cutOff);
    // The program has freed it while it was being closed.
    this.settle?.(false);
  }
}
