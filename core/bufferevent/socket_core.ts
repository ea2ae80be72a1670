/** A bufferevent on a connection: reads as the watermarks allow, and sends its output once in a turn. */

import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_WRITING,
  BEV_OPT_CLOSE_ON_FREE,
  EV_CLOSED,
  EV_ET,
  EV_PERSIST,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
} from "../flags.ts";
import { unsupported } from "../checks.ts";
import { EventError } from "../errors.ts";
import type { Flushable, Loop } from "../loop/loop.ts";
import { Handshake } from "../socket/handshake.ts";
import type { Connection } from "../socket/connection.ts";
import { readStartTls, type StartTlsOptions } from "../tls.ts";
import { BevEvent } from "./bev_event.ts";
import {
  type BevBits,
  BevCore,
  CONNECTING,
  FINISHING,
  FLUSH_QUEUED,
  FREED,
  SENT,
  TAKEN_AWAY,
  TELL_WRITABLE,
} from "./core.ts";
import { INSERTED } from "../loop/loop_event.ts";
import { NO_TIMER } from "../loop/timer_heap.ts";
import { atDeadline, atLateDeadline } from "../loop/deadline.ts";
import { sendLast } from "./last_output.ts";

/** The time for the output of an abandoned bufferevent to leave. */
const ABANDON_TIMEOUT_MS = 30_000;

class WriteEvent extends BevEvent<SocketCore> {
  constructor(core: SocketCore) {
    super(core, core.connection, EV_WRITE | EV_PERSIST, core.priority);
  }

  override run(what: number): void {
    this.core.onWriteEvent(what);
  }
}

/** Notices the end of a connection without a reader. */
class ClosedEvent extends BevEvent<SocketCore> {
  constructor(core: SocketCore) {
    super(core, core.connection, EV_CLOSED | EV_ET | EV_PERSIST, core.priority);
  }

  override run(): void {
    this.core.onClosedEvent();
  }
}

/** The engine of a `SocketBufferEvent`. */
export class SocketCore extends BevCore implements Flushable {
  /** The connection, or null: what the read event waits for. */
  declare source: Connection | null;
  /** The previous connection, whose addresses can still be read. */
  private past: Connection | null = null;
  /** Made when there is something to wait for or to report. A server that answers lines needs none. */
  private writeEvent: WriteEvent | null = null;

  constructor(loop: Loop, connection: Connection | null, options: number) {
    super(loop, options);
    if (connection !== null) this.attach(connection);
  }

  /** The connection, or null. */
  get connection(): Connection | null {
    return this.source;
  }

  /** Replaces the connection. The previous one is left alone (rule V13). */
  setConnection(connection: Connection | null): void {
    this.unclosed("set the socket of a bufferevent");
    this.detach();
    this.count(this.past, 1);
    this.past = null;
    if (connection === null) {
      this.bits |= TAKEN_AWAY;
      return;
    }
    this.attach(connection);
    this.onEnable(this.enabled);
  }

  private attach(connection: Connection): void {
    this.count(connection, -1);
    this.source = connection;
    if (this.writeEvent !== null) this.writeEvent.source = connection;
    if (!connection.connected) this.awaitConnection();
  }

  /** Adds what a connection has carried to what does not show on the present one, or takes it off. */
  private count(connection: Connection | null, sign: 1 | -1): void {
    if (connection === null) return;
    const read = connection.arrived - connection.available;
    const { written } = connection;
    if (read === 0 && written === 0) return;
    this.more.pastRead += sign * read;
    this.more.pastWritten += sign * written;
  }

  override get waitsForPeer(): boolean {
    const { connection } = this;
    return connection !== null && !this.connecting && connection.available === 0 && super.waitsForPeer;
  }

  override get bytesRead(): number {
    const { known, rare } = this;
    return (rare === null ? 0 : rare.pastRead) + (known === null ? 0 : known.arrived - known.available);
  }

  override get bytesWritten(): number {
    const { known, rare } = this;
    return (rare === null ? 0 : rare.pastWritten) + (known === null ? 0 : known.written);
  }

  /** The connection, or the previous one after `close()` or `free()`, for its addresses. */
  get known(): Connection | null {
    return this.connection ?? this.past;
  }

  private detach(): void {
    this.loop.del(this);
    this.forgetWrite();
    if (this.writeEvent !== null) this.writeEvent.source = null;
    this.watchFailure(false);
    if (this.connection !== null) this.past = this.connection;
    this.source = null;
    this.bits &= ~(CONNECTING | TELL_WRITABLE);
  }

  /** While connecting, the write event waits for the end of the attempt, with the write timeout as its time limit. */
  private awaitConnection(): void {
    this.bits |= CONNECTING;
    const event = this.write;
    this.loop.add(event, undefined, null);
    if ((this.enabled & EV_WRITE) !== 0) this.startWriteTimer(event);
  }

  /** The write timeout, if one is set, counts from now on. */
  private startWriteTimer(event: WriteEvent): void {
    const { loop, writeTimeoutMs } = this;
    if (writeTimeoutMs <= 0) return;
    loop.setDeadline(event, writeTimeoutMs, loop.clock());
    // A timeout that was forgotten has made the event inactive.
    if ((this.bits & SENT) !== 0) loop.activate(event, 0);
  }

  /** Without a socket, the write timeout runs while output waits for one, as in libevent (rule V9). */
  private awaitSocket(): void {
    if (this.writing && this.output.length > 0) this.startWriteTimer(this.write);
  }

  private get write(): WriteEvent {
    return this.writeEvent ??= new WriteEvent(this);
  }

  /** Output was sent: the write event is active to run the write callback. */
  private tellSent(): void {
    this.bits |= SENT;
    this.loop.activate(this.writeEvent ?? this.write, 0);
  }

  /** The write event waits for nothing, and reports nothing. */
  private forgetWrite(): void {
    this.bits &= ~SENT;
    if (this.writeEvent !== null) this.loop.del(this.writeEvent);
  }

  private queueFlush(): void {
    if ((this.bits & FLUSH_QUEUED) !== 0) return;
    this.bits |= FLUSH_QUEUED;
    this.loop.queueFlush(this);
  }

  /** Throws when it was freed, or is being closed. */
  unclosed(doing: string): void {
    this.live(doing);
    if (this.closing !== null) {
      throw new EventError(`Cannot ${doing}: the bufferevent is being closed`, { code: "EV_FREED" });
    }
  }

  /** Changes the connection to TLS, after the present output. */
  startTls(given: StartTlsOptions): void {
    const doing = "start TLS";
    this.unclosed(doing);
    const { connection } = this;
    if (this.connecting) throw new EventError(`Cannot ${doing}: the connection is being made`, { code: "EALREADY" });
    if (
      connection === null || connection.gone || connection.closed || connection.ended || connection.shut ||
      this.finishing
    ) {
      throw new EventError(`Cannot ${doing}: there is no open connection`, { code: "ENOTCONN" });
    }
    const { binding, runtime, hostname } = connection;
    if (binding === null || binding.tls !== undefined) {
      throw new EventError(`Cannot ${doing}: the connection has it already`, { code: "EALREADY" });
    }
    const { role, unread: takesUnread = false, ...options } = readStartTls(
      doing,
      given,
      hostname === null ? "server" : "client",
    );
    const capability = role === "client" ? "startTlsClient" : "startTlsServer";
    if (binding.startTls === undefined || !runtime.capabilities[capability]) {
      throw unsupported(`${doing} as the ${role}`, runtime, capability);
    }
    const unread = this.input.length + connection.available;
    if (unread > 0 && takesUnread) {
      if (!runtime.capabilities.startTlsUnread) {
        throw unsupported(`${doing} with bytes that were read before`, runtime, "startTlsUnread");
      }
      connection.putBack(this.input);
    } else if (unread > 0) {
      throw new EventError(
        `Cannot ${doing}: ${unread} bytes that arrived without TLS have not been read, and would be treated as protected`,
        { code: "ERR_TLS_PLAINTEXT" },
      );
    }
    const { remote } = connection;
    const peer = hostname ?? (remote !== undefined && "hostname" in remote ? remote.hostname : "localhost");
    const all = role === "client" ? { ...options, serverName: options.serverName ?? peer } : options;
    this.forgetWrite();
    this.bits = this.bits & ~TELL_WRITABLE | CONNECTING;
    connection.startTls(new Handshake(connection, role, all, takesUnread), this.output);
    this.awaitConnection();
  }

  /** Whether a connection is being made whose end has not been reported. */
  get connecting(): boolean {
    return (this.bits & CONNECTING) !== 0;
  }

  // ---- what the user and the watermarks want

  protected override onEnable(what: number): void {
    this.bits &= ~TAKEN_AWAY;
    if ((what & EV_READ) !== 0 && this.reading) this.startReading();
    if ((what & EV_WRITE) === 0 || !this.writing) return;
    if (this.connection === null) {
      this.awaitSocket();
      return;
    }
    if (this.connecting) {
      this.awaitConnection();
      return;
    }
    // A writable socket with nothing to send is reported once (rule V2), after the input.
    if (this.output.length === 0 && !this.finishing) this.bits |= TELL_WRITABLE;
    else this.bits &= ~TELL_WRITABLE;
    this.queueFlush();
  }

  protected override onDisable(what: number): void {
    if ((what & EV_READ) !== 0) this.loop.del(this);
    if ((what & EV_WRITE) === 0) return;
    this.bits &= ~TELL_WRITABLE;
    // The end of an attempt to connect is reported all the same.
    if (this.connecting) this.loop.removeTimer(this.write);
    else this.forgetWrite();
  }

  protected override onReadSuspension(): void {
    if (this.reading) this.startReading();
    else this.loop.del(this);
  }

  protected override onWriteSuspension(): void {
    if (this.connecting || this.connection === null) return;
    if (!this.writing) this.stopWaiting();
    else if (this.output.length > 0 || this.finishing || (this.bits & TELL_WRITABLE) !== 0) this.queueFlush();
  }

  protected override onOutput(): void {
    const { bits } = this;
    if (this.source === null || (bits & CONNECTING) !== 0 || !this.writing) return this.outputWaits();
    if ((bits & FLUSH_QUEUED) !== 0) return;
    this.bits = bits | FLUSH_QUEUED;
    this.loop.queueFlush(this);
  }

  /** There is output that cannot be sent now. Without a socket, the write timeout runs. */
  private outputWaits(): void {
    if (this.source !== null || !this.writing) return;
    const starts = this.writeTimeoutMs > 0 && (this.bits & TAKEN_AWAY) === 0;
    if (starts && !this.write.timed) this.awaitSocket();
  }

  protected override onTimeouts(): void {
    const { loop } = this;
    if ((this.bits & TAKEN_AWAY) !== 0) return;
    if (this.reading) {
      if (this.readTimeoutMs > 0) this.startReadTimer();
      else loop.removeTimer(this);
    }
    const waits = this.connection === null
      ? this.output.length > 0
      : this.writeEvent !== null && this.writeEvent.inserted;
    if (waits && this.writeTimeoutMs > 0 && (this.enabled & EV_WRITE) !== 0) this.startWriteTimer(this.write);
    else if (this.writeEvent !== null) loop.removeTimer(this.writeEvent);
  }

  private startReadTimer(): void {
    this.loop.setDeadline(this, this.readTimeoutMs, this.loop.clock());
  }

  override restartRead(): void {
    if (this.readTimeoutMs > 0 && this.reading && this.connection !== null && this.inserted) {
      this.startReadTimer();
    }
  }

  private startReading(): void {
    const connection = this.source;
    if (connection !== null) {
      const waits = (this.state & INSERTED) !== 0 && (connection.readiness & EV_READ) === 0;
      if (!waits) {
        if (connection.closed) return;
        this.loop.add(this, undefined, null);
      }
    }
    // Without a socket the timeout runs all the same, as in libevent.
    if (this.limits.readTimeoutMs > 0) this.startReadTimer();
  }

  protected override get arrivedAt(): number {
    // The time of the turn, because bytes that are read in it arrived before it.
    return this.loop.now();
  }

  // ---- reading

  /** Its read event has run. */
  override run(what: number): void {
    const connection = this.source;
    if (connection === null || (what & EV_READ) === 0) {
      if ((what & EV_TIMEOUT) !== 0) this.readTimedOut();
      return;
    }
    if ((this.bits & CONNECTING) !== 0) {
      if (connection.connected || connection.gone) this.onConnected(connection);
      return;
    }
    const { maxSingleRead, readHigh } = this.limits;
    const most = readHigh > 0 ? Math.min(maxSingleRead, readHigh - this.input.length) : maxSingleRead;
    if (most <= 0) {
      this.checkHigh();
      return;
    }
    const { input } = this;
    const rate = this.rare === null ? null : this.rare.rate;
    let n: number;
    try {
      n = rate === null ? connection.receiveInto(input, most) : rate.receive(connection, input, most);
    } catch (error) {
      // A change callback of the input has thrown, but the bytes have arrived.
      this.trigger(EV_READ, 0);
      throw error;
    }
    // A callback of the input may have freed it.
    if ((this.bits & FREED) !== 0) return;
    if (n > 0) {
      if (this.limits.readTimeoutMs > 0 && this.reading) {
        this.loop.setDeadline(this, this.readTimeoutMs);
      }
      const { readLow } = this.limits;
      if (readLow <= 0 || this.input.length >= readLow) this.callRead();
      if ((this.bits & FREED) !== 0) return;
      // Only now, because usually the callback has drained the input, and nothing must be suspended.
      const high = this.limits.readHigh;
      if (high > 0 && (this.readSuspended !== 0 || this.input.length >= high)) this.checkHigh();
      // More of what has arrived still belongs to this turn, behind what else is active. With a rate limit it waits for
      // the next: others of the group are to have their shares first.
      if (connection.available > 0 && this.rate === null && this.reading && this.source === connection) {
        this.loop.activate(this, EV_READ);
      }
      return;
    }
    // Below 0: the rate limit is used up, and this is not the end.
    if (n < 0) return;
    if (connection.error !== null) this.onReadEnd(BEV_EVENT_ERROR, connection.error);
    else if (connection.ended || connection.gone) this.onReadEnd(BEV_EVENT_EOF, undefined);
    // Another reader has already consumed the data.
    else if ((what & EV_TIMEOUT) !== 0) this.readTimedOut();
  }

  protected override reportsEnd(what: number, error: EventError | undefined): boolean {
    const { source: connection } = this;
    if (connection === null || connection.available > 0) return false;
    // Another failure, such as a full input, is not the end: that may have come meanwhile, and has not been reported.
    if (connection.error !== null) return error === connection.error;
    return (what & BEV_EVENT_EOF) !== 0 && (connection.ended || connection.gone);
  }

  private onReadEnd(what: number, error: EventError | undefined): void {
    this.disable(EV_READ);
    if (error !== undefined) this.fail(error);
    this.callEvent(BEV_EVENT_READING | what, error);
  }

  override watchFailure(on: boolean): void {
    const event = this.rare === null ? null : this.rare.closedEvent;
    if (event !== null) {
      this.loop.del(event);
      this.more.closedEvent = null;
    }
    const { connection } = this;
    if (!on || connection === null || connection.closed) return;
    this.loop.add(this.more.closedEvent = new ClosedEvent(this), undefined, null);
  }

  onClosedEvent(): void {
    const error = this.connection === null ? null : this.connection.error;
    if (error === null) return;
    this.watchFailure(false);
    this.fail(error);
    this.callEvent(BEV_EVENT_ERROR, error);
  }

  // ---- writing

  /** The write event has run: the attempt to connect has ended, more can be sent, or output has left. */
  onWriteEvent(what: number): void {
    const connection = this.source;
    if ((this.bits & SENT) !== 0) {
      this.bits &= ~SENT;
      if (this.output.length <= this.limits.writeLow) this.callWrite();
      if ((this.bits & FREED) !== 0 || this.source !== connection) return;
    }
    if (connection !== null && (what & EV_WRITE) !== 0) {
      if (!this.connecting) this.queueFlush();
      else if (connection.connected || connection.gone) this.onConnected(connection);
      return;
    }
    if ((what & EV_TIMEOUT) === 0) return;
    if (connection === null || !this.connecting) {
      this.writeTimedOut();
      return;
    }
    // The attempt is given up, and reported once (rule V11).
    this.detach();
    connection.reset();
    this.writeTimedOut(
      new EventError(`Cannot connect: no answer within ${this.writeTimeoutMs} ms`, {
        code: "ETIMEDOUT",
        syscall: "connect",
      }),
    );
  }

  private onConnected(connection: Connection): void {
    this.bits &= ~CONNECTING;
    this.forgetWrite();
    if (connection.error !== null || connection.gone) {
      this.loop.del(this);
      if (connection.error !== null) this.fail(connection.error);
      this.callEvent(BEV_EVENT_ERROR, connection.error ?? undefined);
      return;
    }
    // Output leaves at the end of the turn, after the callback.
    if (this.output.length > 0 || this.finishing) this.queueFlush();
    this.callEvent(BEV_EVENT_CONNECTED);
  }

  /**
   * Sends the output. The loop calls it at the end of a turn. Of the program's code, only change callbacks of the output
   * run.
   *
   * @param queued `FLUSH_QUEUED` if it is still in the loop's list
   */
  flushOutput(queued: BevBits = 0): void {
    this.bits = this.bits & ~FLUSH_QUEUED | queued;
    const { source: connection, output } = this;
    if (connection === null || !this.writing || (this.bits & CONNECTING) !== 0) return;
    const tellWritable = (this.bits & TELL_WRITABLE) !== 0;
    if (tellWritable) this.bits &= ~TELL_WRITABLE;
    const { length } = output;
    if (length > 0) {
      if (!connection.sends) return this.onWriteError(connection);
      const { maxSingleWrite } = this.limits;
      const most = maxSingleWrite > 0 && maxSingleWrite < length ? maxSingleWrite : length;
      const rate = this.rare === null ? null : this.rare.rate;
      let n: number;
      try {
        n = rate === null ? connection.writeFrom(output, most) : rate.send(connection, output, most);
      } catch (error) {
        this.onSendThrown(connection);
        throw error;
      }
      // A callback of the output may have freed or stopped it.
      if ((this.bits & FREED) !== 0 || this.source !== connection || (this.enabled & EV_WRITE) === 0) return;
      const left = output.length;
      if (n > 0 && left <= this.limits.writeLow && this.wantsWrite) this.tellSent();
      if (left > 0) {
        // Its rate limit has suspended it: the rest leaves at a tick.
        if (this.writeSuspended !== 0) return;
        if (n > 0 && connection.writable) this.queueFlush();
        else if (!this.write.inserted) this.loop.add(this.write, undefined, null);
        if (n > 0 || !this.write.timed) this.startWriteTimer(this.write);
        return;
      }
    }
    const event = this.writeEvent;
    if (event !== null && ((event.state & INSERTED) !== 0 || event.slot !== NO_TIMER)) this.stopWaiting();
    if (tellWritable && this.wantsWrite) this.tellSent();
    if ((this.bits & FINISHING) === 0) return;
    connection.shutdown();
    if (this.owner !== null) this.owner.onDirectionOver();
  }

  override sendNow(): void {
    try {
      this.flushOutput(this.bits & FLUSH_QUEUED);
    } catch (error) {
      if (!this.caught(error)) throw error;
    }
  }

  /** A change callback of the output has thrown. Sent bytes have left, and the rest follows. */
  private onSendThrown(connection: Connection): void {
    if (this.freed || this.connection !== connection || !this.writing) return;
    if (this.output.length <= this.writeLow && this.wantsWrite) this.tellSent();
    this.queueFlush();
  }

  /** Nothing is left to send: the write event waits no longer, but still makes a due call. */
  private stopWaiting(): void {
    const event = this.writeEvent;
    if (event === null || (!event.inserted && !event.timed)) return;
    this.loop.del(event);
    if ((this.bits & SENT) !== 0) this.loop.activate(event, 0);
  }

  private onWriteError(connection: Connection): void {
    const error = connection.error ??
      new EventError("Cannot write: the connection is closed", { code: "EPIPE", syscall: "write" });
    this.disable(EV_WRITE);
    this.fail(error);
    this.triggerEvent(BEV_EVENT_WRITING | BEV_EVENT_ERROR, error);
  }

  // ---- the rest

  override flush(): void {
    this.live("flush a bufferevent");
  }

  override shutdown(): void {
    this.live("shut down a bufferevent");
    if (this.finishing) return;
    this.finishOutput();
    if (this.connection !== null && !this.connecting) this.queueFlush();
  }

  override close(timeoutMs: number): Promise<boolean> {
    if (this.closing !== null) return this.closing;
    const { connection, loop, rate } = this;
    const waits = connection !== null && !connection.connected && !connection.gone;
    // If nothing was written, the attempt to connect is cancelled, because the connection is not needed.
    if (this.freed || connection === null || (waits && this.output.length === 0 && connection.unsent === 0)) {
      const nothingLost = this.output.length === 0;
      this.freeAtLast();
      connection?.close();
      return this.closing = Promise.resolve(nothingLost);
    }
    this.silence();
    // Later writes would be lost silently.
    this.finishOutput();
    // The write timeout is the time limit of the attempt.
    const connectBy = waits && this.write.timed ? loop.deadlineOf(this.write) : Infinity;
    this.detach();
    const { runtime } = loop;
    loop.keepRunning(1, true);
    return this.closing = new Promise((resolve) => {
      const cancel = atLateDeadline(runtime, runtime.now() + timeoutMs, () => connection.reset());
      const settle = (delivered: boolean): void => {
        cancel();
        loop.keepRunning(-1, true);
        if (!delivered) this.owner?.onUndelivered(connection.error);
        this.freeAtLast();
        resolve(delivered);
      };
      if (!waits && (rate === null || this.output.length === 0)) connection.finish(this.output, settle);
      else sendLast(connection, rate, this.output, connectBy, settle);
    });
  }

  /** Resets the connection, whether it is being closed or not, and frees. */
  override reset(): void {
    const connection = this.known;
    // Before free(), which closes it: a FIN before the reset would be a clean end for the peer.
    connection?.reset();
    this.free();
  }

  override get failure(): EventError | null {
    if (super.failure !== null) return super.failure;
    const error = this.connection === null ? null : this.connection.error;
    // A caller may get the error before the loop does, and throw it.
    return error === null ? null : this.raised(error);
  }

  /**
   * A reset would destroy bytes that are still under way, so the peer gets a FIN behind them. If nothing was ever sent,
   * the peer gets a reset, which it cannot mistake for the end of a message.
   */
  override abandon(): void {
    if (this.freed || this.closing !== null) return;
    const { connection, output, rate, loop } = this;
    if (connection === null) return this.free();
    const waits = !connection.connected && !connection.gone;
    if (output.length === 0 && connection.unsent === 0 && (waits || !connection.sent)) return this.reset();
    const connectBy = waits && this.write.timed ? loop.deadlineOf(this.write) : Infinity;
    this.detach();
    const until = loop.runtime.now() + ABANDON_TIMEOUT_MS;
    if (!waits && (rate === null || output.length === 0)) connection.closeAfter(output, until);
    else sendLast(connection, rate, output, connectBy, atDeadline(loop.runtime, until, () => connection.reset()));
    this.free();
  }

  override setPriority(priority: number): void {
    const write = this.writeEvent;
    if (this.active || (write !== null && write.active) || this.callbackActive) {
      throw new EventError("Cannot set the priority: the bufferevent's events are active", { code: "EV_ACTIVE" });
    }
    this.priority = priority;
    if (write !== null) write.priority = priority;
    this.setCallbackPriority(priority);
  }

  protected override onFree(): void {
    const { connection } = this;
    this.detach();
    if (connection !== null && (this.options & BEV_OPT_CLOSE_ON_FREE) !== 0) connection.close();
  }
}
