/**
 * The owner of one connection's callbacks. It alone calls the callbacks of `serve()` and `connect()`, so that one place
 * knows
 *
 * - whether the program is busy: a promise of `open`, `read` or `line` is pending. None of the three is called
 *   meanwhile, and the peer's end waits;
 * - what happens after an exception or a rejection: the connection is reset, and `error` is called;
 * - which errors the connection has raised itself, so that they are not failures of the program;
 * - why the connection has ended, for `close`.
 *
 * Filters over the connection share its owner. All of this runs in the loop, except where promises settle.
 */

import type { Bits } from "../bits.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_TRIG_IGNORE_WATERMARKS,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
} from "../flags.ts";
import { EventError } from "../errors.ts";
import { show } from "../checks.ts";
import { take } from "../buffer/internal.ts";
import type { BufferEventCallbacks } from "../bufferevent/callbacks.ts";
import type { BufferEvent } from "../api/bufferevent.ts";
import { type BevCore, SUSPEND_WATERMARK } from "../bufferevent/core.ts";
import type { CallbackOwner } from "../bufferevent/owner.ts";
import type { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { SocketCore } from "../bufferevent/socket_core.ts";
import { type EventBase, loopOf } from "../api/event_base.ts";
import { OwnerTimer } from "./owner_timer.ts";
import type { Protocol } from "./protocol.ts";
import { reasonOf, viewsOf } from "../views/takeover.ts";

type Callbacks = BufferEventCallbacks<BufferEvent> | null;

// Bits of `bits`.
/** Bits of a connection's owner. */
type OwnerBits = Bits<"owner">;

/** `open` was called. */
const OPENED: OwnerBits = 0x01;
/** A promise of `open`, `read` or `line` is pending. */
const BUSY: OwnerBits = 0x02;
/** That promise no longer delays anything: it took longer than `handlerTimeoutMs`. */
const OVERDUE: OwnerBits = 0x04;
/** A view has ended or failed, and no other one was opened. */
const VIEW_OVER: OwnerBits = 0x08;
/** A view has reported the end of the input. */
const INPUT_OVER: OwnerBits = 0x10;
/** The event callback got the end of the input. */
const END_TOLD: OwnerBits = 0x20;
/** The owner itself ends the connection. */
const ENDING: OwnerBits = 0x40;
/** The full input was reported. */
const FULL_TOLD: OwnerBits = 0x80;
/** A line was too long, and reading was not enabled since. */
const LINE_FAILED: OwnerBits = 0x100;
/** `close` was called, or will not be called. */
const CLOSE_TOLD: OwnerBits = 0x200;
/** A stream took the end of the peer from its view, without a pending read. */
const END_UNSEEN: OwnerBits = 0x400;
/** The stream of the input was cancelled, and no view was opened and no read callback set since. */
const READ_CANCELLED: OwnerBits = 0x800;

/** State that only some connections need. */
class Rare {
  /** Since when the program has been busy without a pause. */
  busySince = 0;
  /** The bufferevent whose input waits for the busy program. */
  unread: BevCore | null = null;
  /** The peer's end, which waits for the program. */
  heldEnd: { core: BevCore; what: number; error: EventError | undefined } | null = null;
  /** The bufferevents whose read timeout passed while the program was busy. */
  excused: Set<BevCore> | null = null;
  /** Why the connection has ended. */
  reason: EventError | undefined = undefined;
  /** The last failure passed to the event callback. */
  told: EventError | undefined = undefined;
  overdue: OwnerTimer | null = null;
  stall: OwnerTimer | null = null;
  message: OwnerTimer | null = null;
  leave: OwnerTimer | null = null;
  /**
   * The time left for the message: the timer stops while the program is busy. Negative if the timer
   * runs, or there is none.
   */
  messageLeftMs = -1;
}

/** The owner of one connection's callbacks. */
export class ConnectionOwner<Ctx> implements CallbackOwner {
  readonly root: SocketCore;
  private readonly protocol: Protocol<Ctx>;
  private bits: OwnerBits = 0;
  /** How many views and calls of `drained()` wait. */
  private waiting = 0;
  private rare: Rare | null = null;

  /**
   * Takes over the callbacks of a connection.
   *
   * @param root The connection
   * @param protocol The callbacks and the limits
   */
  constructor(root: SocketCore, protocol: Protocol<Ctx>) {
    this.root = root;
    this.protocol = protocol;
    root.owner = this;
    root.callbacks = protocol.callbacks as Callbacks;
  }

  /** The public object of the connection. */
  get bev(): SocketBufferEvent<Ctx> {
    return this.root.face as SocketBufferEvent<Ctx>;
  }

  /** Whether `open` was called. */
  get opened(): boolean {
    return (this.bits & OPENED) !== 0;
  }

  /** Whether `close` is called at its end. */
  get tellsClose(): boolean {
    const known = this.opened || this.protocol.tellsUnopened === true;
    return known && this.protocol.callbacks.close != null && !this.root.loop.freed;
  }

  get closeTold(): boolean {
    return (this.bits & CLOSE_TOLD) !== 0;
  }

  private get more(): Rare {
    return this.rare ??= new Rare();
  }

  // ---- the callbacks

  /**
   * The connection is there: calls `open`. Not in the loop's callback of this connection.
   *
   * @param onThrown Gets the exception of `open`, in place of the `error` callback
   */
  open(onThrown?: (error: unknown) => void): void {
    const { root } = this;
    this.bits |= OPENED;
    root.enable(EV_READ | EV_WRITE);
    const { keepAlive } = this.protocol;
    if (keepAlive !== null) {
      const { delayMs, intervalMs, count } = keepAlive;
      root.connection?.binding?.setKeepAlive(true, delayMs, intervalMs, count);
    }
    this.protocol.onOpen?.(this as ConnectionOwner<unknown>);
    try {
      this.watch(this.protocol.callbacks.open?.(this.bev));
    } catch (error) {
      this.fail(error, onThrown);
    }
    if (!root.freed) this.protocol.onOpened?.(this as ConnectionOwner<unknown>);
  }

  read(core: BevCore, callbacks: Callbacks): void {
    if ((this.bits & BUSY) !== 0) {
      this.more.unread = core;
      return;
    }
    if (this.readsLines(core, callbacks)) this.lines(core);
    else this.watch(callbacks?.read?.(core.face as BufferEvent));
  }

  write(core: BevCore, callbacks: Callbacks): void {
    if (this.opened) this.watchAside(callbacks?.write?.(core.face as BufferEvent));
  }

  event(core: BevCore, callbacks: Callbacks, what: number, error: EventError | undefined): void {
    if (!this.opened) this.beforeOpen(what, error);
    else if ((what & BEV_EVENT_EOF) !== 0 && (what & BEV_EVENT_READING) !== 0) {
      this.onInputEnd(core, callbacks, what, error);
    } else this.tell(core, callbacks, what, error);
  }

  /** The TLS handshake has ended, or the connection has failed before `open`. */
  private beforeOpen(what: number, error: EventError | undefined): void {
    if ((what & BEV_EVENT_CONNECTED) !== 0) return this.open();
    this.more.reason = error ?? (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT) ? reasonOf(what) : undefined);
    this.root.free();
  }

  private onInputEnd(core: BevCore, callbacks: Callbacks, what: number, error: EventError | undefined): void {
    // Enabling reading reports the end again.
    if ((this.bits & LINE_FAILED) !== 0) return;
    const waits = (this.bits & (BUSY | OVERDUE)) === BUSY;
    if (waits || (core.holdsBack && core.input.length > 0)) return this.holdEnd(core, what, error);
    if ((this.bits & BUSY) === 0 && this.readsLines(core, callbacks) && core.input.length > 0) {
      const given = this.lines(core);
      if (given === null) return;
      const all = given && this.lastLine(core);
      if (core.freed || core.closing !== null) return;
      // A handler is busy with a line, or the protocol has changed: then its callbacks get the
      // rest, and the end.
      if ((this.bits & BUSY) !== 0 || core.holdsBack) return this.holdEnd(core, what, error);
      if (!all) return core.triggerEvent(what, error);
    }
    this.tell(core, callbacks, what, error);
  }

  /** Calls the event callback; without one, ends the connection as usual. */
  private tell(core: BevCore, callbacks: Callbacks, what: number, error: EventError | undefined): void {
    const failed = (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0;
    if (callbacks?.event === undefined || callbacks.event === null) {
      if (failed) this.end(error ?? core.raised(reasonOf(what)));
      else if ((what & BEV_EVENT_EOF) !== 0) this.close(core);
      return;
    }
    if (failed) this.more.told = error ?? reasonOf(what);
    else if ((what & BEV_EVENT_EOF) !== 0) {
      this.bits |= END_TOLD;
      if (this.rare !== null) this.rare.told = undefined;
    }
    this.watchAside(callbacks.event(core.face as BufferEvent, what, error));
  }

  // ---- lines

  private readsLines(core: BevCore, callbacks: Callbacks): boolean {
    return this.protocol.lines !== null && core === this.root && callbacks === this.protocol.callbacks;
  }

  /** Returns the whole lines to `line`. @returns Whether no whole line is left; null if one is too long */
  private lines(core: BevCore): boolean | null {
    const { input } = core;
    const { eol, limit } = this.protocol.lines as NonNullable<Protocol<Ctx>["lines"]>;
    const timesMessages = this.protocol.messageTimeoutMs !== 0;
    for (;;) {
      // The peer must first read its answers.
      if (core.holdsBack) return false;
      let line: Uint8Array | null;
      try {
        line = input.readln(eol, limit);
      } catch (error) {
        if (!(error instanceof EventError)) throw error;
        core.disable(EV_READ);
        this.bits |= LINE_FAILED;
        this.tell(core, core.callbacks, BEV_EVENT_READING | BEV_EVENT_ERROR, error as EventError);
        return null;
      }
      if (line === null) break;
      if (timesMessages) this.onMessage(false);
      if (!this.line(core, line)) return false;
    }
    if (timesMessages) this.onMessage(input.length > 0);
    return true;
  }

  /** The bytes after the last terminator are a line too. */
  private lastLine(core: BevCore): boolean {
    if (core.input.length === 0) return true;
    const rest = take(core.input, core.input.length);
    this.onMessage(false);
    return rest === null || this.line(core, rest);
  }

  /** Calls `line`. @returns Whether the next line may follow at once */
  private line(core: BevCore, line: Uint8Array): boolean {
    if (this.watch(this.protocol.callbacks.line?.(this.bev, line))) {
      // The next one is for when that has settled.
      this.more.unread = core;
      return false;
    }
    if (core.freed || core.closing !== null) return false;
    if (core.callbacks === (this.protocol.callbacks as unknown) && core.occupant === null) return true;
    // The protocol has changed: the rest of the input is for others.
    if (core.input.length > 0) core.trigger(EV_READ, 0);
    return false;
  }

  // ---- a busy program

  /** Handles the result of `open`, `read` or `line`. @returns Whether it is a promise, so that the program is busy */
  private watch(result: unknown): boolean {
    if (result === undefined || !isThenable(result)) return false;
    this.bits |= BUSY;
    if (this.waiting === 0) this.more.busySince = this.root.loop.clock();
    Promise.resolve(result).then(() => this.onSettled(), (error) => {
      this.onIdle();
      this.failed(error);
    });
    return true;
  }

  /** Handles the result of `write` or `event`: it is not awaited, but may reject. */
  private watchAside(result: unknown): void {
    if (result !== undefined && isThenable(result)) {
      Promise.resolve(result).then(undefined, (error) => this.failed(error));
    }
  }

  /** The promise has settled: the program is no longer busy. */
  private onIdle(): void {
    this.bits &= ~(BUSY | OVERDUE);
    const { root } = this;
    const overdue = this.rare?.overdue;
    if (overdue) root.loop.del(overdue);
    if (!root.freed && this.waiting === 0) this.restartTimers();
  }

  private onSettled(): void {
    this.onIdle();
    const { root } = this;
    if (root.freed || root.closing !== null) return;
    const unread = this.more.unread;
    this.more.unread = null;
    if (unread !== null && !unread.freed && unread.input.length > 0) unread.trigger(EV_READ, 0);
    if (this.more.heldEnd !== null) this.tellHeldEnd();
    else if ((this.bits & VIEW_OVER) !== 0 && viewsOf(root)?.reader == null) this.close(root);
    else this.onDirectionOver();
  }

  private holdEnd(core: BevCore, what: number, error: EventError | undefined): void {
    this.more.heldEnd = { core, what, error };
    if ((this.bits & BUSY) !== 0) this.awaitOverdue();
  }

  /** Reports the end that has waited, in the loop. */
  private tellHeldEnd(): void {
    const held = this.rare?.heldEnd;
    if (!held) return;
    this.more.heldEnd = null;
    held.core.triggerEvent(held.what, held.error);
  }

  /** Limits the time for which a busy program delays timeouts and the end to `handlerTimeoutMs`. */
  private awaitOverdue(): void {
    const { handlerTimeoutMs } = this.protocol;
    const rare = this.more;
    if (handlerTimeoutMs === Infinity || this.waiting > 0) return;
    const { root } = this;
    const timer = rare.overdue ??= new OwnerTimer(this, root, () => this.onOverdue());
    if (!timer.timed) root.loop.setDeadline(timer, Math.max(0, rare.busySince + handlerTimeoutMs - root.loop.now()));
  }

  private onOverdue(): void {
    if ((this.bits & BUSY) === 0 || this.waiting > 0) return;
    this.bits |= OVERDUE;
    this.restartTimers();
    const { root } = this;
    if (this.more.heldEnd !== null) this.tellHeldEnd();
    // A view or a stream has the end, but its consumer does not read it.
    else if (
      ((this.bits & END_UNSEEN) !== 0 || viewsOf(root)?.reader != null) && root.connection !== null &&
      (root.connection.ended || root.connection.gone)
    ) {
      if (root.failure !== null) this.end(root.failure);
      else if (unreadBytes(root) > 0) this.giveUp(unreadBytes(root));
      else this.close(root);
    }
  }

  /** The program does not read waiting input. A clean end would hide that it is lost. */
  private giveUp(bytes: number): void {
    const { handlerTimeoutMs } = this.protocol;
    const message =
      `Cannot deliver the last ${bytes} bytes: the program has not read them within ${handlerTimeoutMs} ms`;
    const error = this.root.raised(new EventError(message, { code: "ETIMEDOUT" }));
    this.root.fail(error);
    topOf(this.root).occupant?.event?.(BEV_EVENT_READING | BEV_EVENT_ERROR, error);
    this.end(error);
  }

  excuses(core: BevCore): boolean {
    if ((this.bits & (BUSY | OVERDUE)) !== BUSY || this.waiting > 0) return false;
    (this.more.excused ??= new Set()).add(core);
    this.awaitOverdue();
    return true;
  }

  onWaiting(): void {
    if (this.waiting++ > 0 || this.root.freed || (this.bits & BUSY) === 0) return;
    const overdue = this.rare?.overdue;
    if (overdue) this.root.loop.del(overdue);
    this.bits &= ~OVERDUE;
    this.restartTimers();
  }

  onBack(): void {
    if (--this.waiting > 0 || this.root.freed || (this.bits & BUSY) === 0) return;
    const rare = this.more;
    rare.busySince = this.root.loop.clock();
    if (rare.heldEnd !== null) this.awaitOverdue();
  }

  /**
   * Timeouts of reading and idleness were stopped while the program was busy. They count from now
   * on.
   */
  private restartTimers(): void {
    const { root } = this;
    const excused = this.rare?.excused;
    if (excused) {
      for (const core of excused) if (core !== root && !core.freed) core.restartRead();
      excused.clear();
    }
    if (root.readTimeoutMs > 0) root.restartRead();
    root.idle?.restart();
    this.resumeMessage();
    this.onProgress();
  }

  /** The message has as much time as when the program became busy. */
  private resumeMessage(): void {
    const rare = this.rare;
    const message = rare?.message;
    if (!rare || !message) return;
    const { loop } = this.root;
    let left = rare.messageLeftMs;
    rare.messageLeftMs = -1;
    if (message.timed) left = Math.min(this.protocol.messageTimeoutMs, loop.deadlineOf(message) - rare.busySince);
    if (left >= 0) loop.setDeadline(message, left, loop.clock());
  }

  // ---- views

  onViewOpened(): void {
    this.bits &= ~(VIEW_OVER | INPUT_OVER | END_UNSEEN | READ_CANCELLED);
    // The view gets the end itself.
    if (this.rare !== null) this.rare.heldEnd = null;
  }

  onViewEnd(what: number, error: EventError | null, awaited: boolean): void {
    if (this.root.freed) return;
    // A view was opened while the connection was being made. No bytes arrived that it could still
    // return.
    if (!this.opened) return this.beforeOpen(what, error ?? undefined);
    // The consumer may be busy elsewhere, and not read it.
    if ((this.bits & BUSY) === 0) return;
    if (error === null && (what & BEV_EVENT_EOF) === 0) return;
    if (!awaited) this.bits |= END_UNSEEN;
    this.awaitOverdue();
  }

  onViewOver(failed: boolean): void {
    this.bits |= VIEW_OVER;
    if (!failed) this.bits |= INPUT_OVER;
    const { root } = this;
    if (root.freed || root.closing !== null) return;
    if (root.failure !== null) this.end(root.failure);
    else this.onDirectionOver();
  }

  onReadCancelled(): void {
    this.bits |= READ_CANCELLED;
    this.onDirectionOver();
  }

  onReadCallback(): void {
    this.bits &= ~READ_CANCELLED;
  }

  onDirectionOver(): void {
    const { root } = this;
    const over = this.bits & (INPUT_OVER | READ_CANCELLED);
    if (over === 0 || (this.bits & END_TOLD) !== 0 || !this.isWritten) return;
    if ((over & INPUT_OVER) !== 0) return this.close(root);
    // The program may open another view or set callbacks when the promise of the stream has settled.
    const timer = this.more.leave ??= new OwnerTimer(this, root, () => this.onUnread());
    root.loop.setDeadline(timer, 0, root.loop.clock());
  }

  /** Whether our direction is finished and all of it has left. */
  private get isWritten(): boolean {
    const { root } = this;
    return !root.freed && root.closing === null && root.finishing && root.output.length === 0;
  }

  /** Ends both directions: no reader is left, and our direction has ended. */
  private onUnread(): void {
    if ((this.bits & READ_CANCELLED) === 0 || (this.bits & (BUSY | OVERDUE)) === BUSY) return;
    if (this.isWritten && !this.isRead) this.close(this.root);
  }

  /**
   * Whether there is a reader: a view, a pipe or a callback, of the connection or the highest
   * filter over it.
   */
  private get isRead(): boolean {
    const top = topOf(this.root);
    const views = viewsOf(top);
    if (views === null ? top.occupant !== null : views.reader !== null) return true;
    const callbacks = top.callbacks as Callbacks;
    return callbacks?.read != null || this.readsLines(top, callbacks);
  }

  // ---- limits

  onMessage(incomplete: boolean): void {
    const { messageTimeoutMs } = this.protocol;
    if (messageTimeoutMs === 0) return;
    const { root } = this;
    if (root.freed) return;
    if (!incomplete) {
      const rare = this.rare;
      // The usual case: complete messages arrive, and no part of one has waited.
      if (rare === null || rare.message === null) return;
      if (rare.message.timed || rare.message.active) root.loop.del(rare.message);
      rare.messageLeftMs = -1;
      return;
    }
    const timer = this.more.message ??= new OwnerTimer(this, root, () => this.onMessageTimeout());
    if (!timer.timed && this.more.messageLeftMs < 0) root.loop.setDeadline(timer, messageTimeoutMs);
  }

  private onMessageTimeout(): void {
    const { root } = this;
    const { messageTimeoutMs } = this.protocol;
    const busy = (this.bits & (BUSY | OVERDUE)) === BUSY && this.waiting === 0;
    // The timer is stopped meanwhile.
    if (busy) {
      this.more.messageLeftMs = Math.max(0, root.loop.clock() - this.more.busySince);
      return;
    }
    if (!root.reading) {
      root.loop.setDeadline(this.more.message as OwnerTimer, messageTimeoutMs);
      return;
    }
    const message = `Cannot read a message: it took longer than ${messageTimeoutMs} ms, ` +
      `and ${root.input.length} bytes of it have come`;
    root.disable(EV_READ);
    root.callEvent(
      BEV_EVENT_READING | BEV_EVENT_TIMEOUT,
      root.raised(new EventError(message, { code: "ETIMEDOUT", syscall: "read" })),
    );
  }

  onInputFull(): void {
    // The peer's end is not reported meanwhile, so a busy program must not delay this for ever.
    if ((this.bits & (BUSY | OVERDUE)) === BUSY) this.awaitOverdue();
    const { stallTimeoutMs } = this.protocol;
    if (stallTimeoutMs === Infinity) return;
    const { root } = this;
    const timer = this.more.stall ??= new OwnerTimer(this, root, () => this.onStalled());
    root.loop.setDeadline(timer, stallTimeoutMs, root.loop.clock());
  }

  onProgress(): void {
    if ((this.root.enabled & EV_READ) !== 0) this.bits &= ~LINE_FAILED;
    const stall = this.rare?.stall;
    if (!stall || this.root.freed) return;
    if ((this.root.readSuspended & SUSPEND_WATERMARK) !== 0) this.onInputFull();
    else {
      this.bits &= ~FULL_TOLD;
      this.root.loop.del(stall);
    }
  }

  /** The input has been full for a while. */
  private onStalled(): void {
    const { root } = this;
    if (root.closing !== null || (root.readSuspended & SUSPEND_WATERMARK) === 0) return;
    // Most changes restart the timer. Others are not reported, so check again.
    if (this.busyWithInput()) return this.onInputFull();
    const { length } = root.input;
    const message = `Cannot read more: ${length} bytes of input wait, readHigh is ${root.readHigh}, and nothing was ` +
      "read: a whole message must fit, so raise readHigh or read its parts as they arrive";
    const error = root.raised(new EventError(message, { code: "EV_INPUT_FULL", syscall: "read" }));
    if ((this.bits & FULL_TOLD) !== 0) {
      this.more.reason ??= this.rare?.told ?? error;
      root.reset();
      return;
    }
    this.bits |= FULL_TOLD;
    this.onInputFull();
    root.callEvent(BEV_EVENT_READING | BEV_EVENT_ERROR, error);
  }

  /** Whether the program is busy with the full input. */
  private busyWithInput(): boolean {
    const { root } = this;
    if ((this.bits & (BUSY | OVERDUE)) === BUSY && this.waiting === 0) return true;
    if ((root.enabled & EV_READ) === 0 || (root.readSuspended & ~SUSPEND_WATERMARK) !== 0) return true;
    const views = viewsOf(root);
    return views === null ? root.occupant !== null : views.reader !== null && !views.reader.waiting;
  }

  onDrained(core: BevCore): void {
    // In the loop: a view may run the program's own codec.
    if (viewsOf(core)?.reader != null) core.trigger(EV_READ, BEV_TRIG_IGNORE_WATERMARKS);
    else if (core.input.length > 0) core.trigger(EV_READ, 0);
    if ((this.bits & BUSY) === 0) this.tellHeldEnd();
  }

  // ---- the end

  failed(error: unknown): void {
    this.fail(error, undefined);
  }

  private fail(error: unknown, onThrown: ((error: unknown) => void) | undefined): void {
    const { root } = this;
    if (this.isOwn(error)) {
      onThrown?.(error);
      if (!root.freed && root.closing === null) this.end(ownReason(error) ?? root.failure ?? undefined);
      return;
    }
    if (onThrown !== undefined) onThrown(error);
    else this.report(error);
    if (root.freed) return;
    const text = error instanceof Error ? error.message : show(error);
    this.more.reason = new EventError(`Cannot go on with the connection: a callback has failed: ${text}`, {
      code: "EV_HANDLER_FAILED",
      cause: error,
    });
    root.reset();
  }

  /** Whether the connection itself has raised an error, so that it is not a failure of the program. */
  private isOwn(error: unknown): boolean {
    const { root } = this;
    if (root.hasRaised(error)) return true;
    // A call that waited for `bev.signal`. Some functions of Deno do not pass its reason on.
    const { name, cause } = (error ?? {}) as { name?: unknown; cause?: unknown };
    if (name !== "AbortError") return false;
    return cause === undefined ? root.aborted : root.hasRaised(cause);
  }

  released(error: unknown): void {
    this.root.loop.runtime.report(error);
  }

  private get base(): EventBase {
    return this.root.loop.face as EventBase;
  }

  /** Calls `error`, in the loop. */
  private report(error: unknown): void {
    reportTo(this.protocol, this.base, error, this.bev);
  }

  /** Ends the connection at once, with a reason. Queued answers still leave. */
  private end(reason: EventError | undefined): void {
    const { root } = this;
    this.more.reason ??= reason;
    // Except to a peer that does not read them.
    if (reason?.code.startsWith("EV_") === true && root.failure === null && root.output.length > 0) root.abandon();
    else root.free();
  }

  /** Ends the connection gracefully. */
  private close(core: BevCore): void {
    if (core.freed || core.closing !== null) return;
    this.bits |= ENDING;
    // An exception of a filter in its last call is a failure of the program.
    core.endGracefully(this.protocol.closeTimeoutMs).catch((error) => this.failed(error));
  }

  /** The time of `Server.close()` is over. */
  cancel(): void {
    this.more.reason ??= new EventError(
      "The connection was reset: the server was closed, and its grace period has passed",
      {
        code: "ECANCELED",
      },
    );
    this.root.raised(this.more.reason as EventError);
    this.root.reset();
  }

  onUndelivered(error: EventError | null): void {
    if ((this.bits & ENDING) === 0) return;
    this.more.reason ??= error ?? new EventError("Cannot close the connection: the peer did not finish in time", {
      code: "ETIMEDOUT",
      syscall: "close",
    });
  }

  onFreed(): void {
    const { root } = this;
    const rare = this.rare;
    if (rare !== null) {
      for (const timer of [rare.overdue, rare.stall, rare.message, rare.leave]) {
        if (timer !== null) root.loop.del(timer);
      }
    }
    const reason = rare?.reason ?? root.failure ?? rare?.told;
    this.protocol.onFreed?.(this as ConnectionOwner<unknown>, reason);
    const { callbacks, onOver } = this.protocol;
    if (!this.tellsClose) {
      this.bits |= CLOSE_TOLD;
      onOver?.(reason);
      return;
    }
    this.base.once(null, EV_TIMEOUT, () => {
      this.protocol.onClosed?.();
      try {
        this.watchAside(callbacks.close?.(this.bev, reason));
      } catch (error) {
        this.failed(error);
      } finally {
        this.bits |= CLOSE_TOLD;
        onOver?.(reason);
      }
    });
  }
}

/**
 * Calls the `error` callback, in the loop. Without one, the runtime reports the error. The runtime also reports an
 * exception of the callback.
 */
export function reportTo<Ctx>(
  { callbacks }: Protocol<Ctx>,
  base: EventBase,
  error: unknown,
  bev: SocketBufferEvent<Ctx> | null,
): void {
  const { runtime } = base;
  if (callbacks.error === undefined || callbacks.error === null || loopOf(base).freed) return runtime.report(error);
  base.once(null, EV_TIMEOUT, () => {
    try {
      const result: unknown = callbacks.error?.(error, bev);
      if (isThenable(result)) Promise.resolve(result).then(undefined, (reason) => runtime.report(reason));
    } catch (reason) {
      runtime.report(reason);
    }
  });
}

function ownReason(error: unknown): EventError | undefined {
  if (error instanceof EventError) return error as EventError;
  const { cause } = (error ?? {}) as { cause?: unknown };
  return cause instanceof EventError ? cause as EventError : undefined;
}

/** Whether a value is a promise, of whatever kind. */
export function isThenable(value: unknown): boolean {
  return (typeof value === "object" || typeof value === "function") && value !== null &&
    typeof (value as { then?: unknown }).then === "function";
}

/** The highest filter over a connection, or the connection. */
function topOf(root: BevCore): BevCore {
  let top = root;
  while (top.above !== null) top = top.above;
  return top;
}

/** The bytes that wait to be read, in a connection and the filters above it. */
function unreadBytes(root: BevCore): number {
  let bytes = 0;
  for (let core: BevCore | null = root; core !== null; core = core.above) bytes += core.input.length;
  return bytes;
}
