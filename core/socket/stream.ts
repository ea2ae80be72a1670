/**
 * One connection as the core sees it: what the host has delivered and nobody has read (the receive queue), what was
 * sent and the host has not taken (the send queue), and the readiness that follows from both. `Socket` is its public
 * face; a bufferevent works on it directly.
 *
 * Both queues are bounded. A full receive queue pauses the host's reading, so that TCP's window closes; a full send
 * queue takes no more.
 */

import { EAGAIN, ENOTCONN, EV_CLOSED, EV_READ, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import {
  asDetached,
  checkFront,
  consume,
  extentLoan,
  extents,
  firstExtent,
  lostIn,
  moveBytes,
  unpin,
} from "../buffer/internal.ts";
import type { Loan } from "../loan.ts";
import { ownBuffer } from "../buffer/own_buffer.ts";
import type { Address, Runtime, TransportBinding, TransportSink } from "../runtime.ts";
import { atDeadline } from "../loop/deadline.ts";
import type { Handshake } from "./handshake.ts";
import { awaitPeer, awaitProgress, endWaits, type Lingering } from "./linger.ts";
import {
  AWAITED,
  CLOSED,
  CONNECTED,
  ENDED,
  GONE,
  HELD,
  PAUSED,
  SENT,
  SHUT,
  StreamState,
  UNREFERENCED,
} from "./stream_state.ts";

/** The receive queue asks the host to pause at this many bytes. One chunk of the host's may come on top. */
export const RECEIVE_LIMIT: number = 64 * 1024;
/** The send queue of `Socket.send()`. What a bufferevent sends stays in its output instead. */
export const SEND_LIMIT: number = 64 * 1024;
/** The most given to the host in one write: as much as the largest chunk that a host reads, which is Bun's. */
const WRITE_CHUNK = 512 * 1024;
const WRITE_VECTORS = 64;

/** A connection. */
export class Stream extends StreamState implements TransportSink, Lingering {
  /** The host. */
  readonly runtime: Runtime;
  /** The host's side; null until the first attempt to connect has begun. */
  binding: TransportBinding | null;
  /** The user's object. Set by `Socket`. */
  face: object | null = null;
  #unsent: EvBuffer | null = null;

  constructor(runtime: Runtime, binding: TransportBinding | null) {
    super();
    this.runtime = runtime;
    this.binding = binding;
    if (binding === null || binding.handshaking === true) return;
    this.state = CONNECTED;
    this.readiness = EV_WRITE;
  }

  override get pollable(): object {
    return this.face ?? this;
  }

  override get kind(): string {
    return "Socket";
  }

  /** How many bytes the send queue holds. */
  get unsent(): number {
    return this.#unsent?.length ?? 0;
  }

  get local(): Address | undefined {
    return this.binding?.local;
  }

  get remote(): Address | undefined {
    return this.binding?.remote;
  }

  /** It waits to be accepted: until it is, the host is to read nothing. */
  park(): void {
    this.state |= HELD;
    this.binding?.pauseRead();
  }

  /** It was accepted. */
  unpark(): void {
    if ((this.state & HELD) === 0) return;
    this.state &= ~HELD;
    if (!this.gone) this.binding?.resumeRead();
  }

  // ---- the host's callbacks

  onConnect(): void {
    const { handshake } = this;
    if (handshake !== null) handshake.begin();
    else this.#established();
  }

  onSecure(): void {
    this.#endHandshake();
    this.#established();
  }

  #endHandshake(): void {
    if (this.side === null || this.side.handshake === null) return;
    this.side.handshake.end();
    this.side.handshake = null;
  }

  #established(): void {
    this.state |= CONNECTED;
    this.#settle();
    if (this.shut) this.binding?.shutdownWrite();
    this.notify(EV_WRITE);
  }

  onData(chunk: Uint8Array, loan: Loan | null = null): void {
    if (this.closed) {
      if (loan !== null) loan.drop();
      return;
    }
    this.push(chunk, loan);
    this.notify(EV_READ);
    // After the turn that notify() may have run: in a busy connection the queue is empty again, and nothing is paused.
    if (this.available >= RECEIVE_LIMIT && (this.state & (PAUSED | GONE)) === 0) {
      this.state |= PAUSED;
      this.binding?.pauseRead();
    }
  }

  onEnd(): void {
    this.state |= ENDED;
    if (!this.closed) this.notify(EV_READ | EV_CLOSED);
  }

  onWritable(): void {
    const unsent = this.#unsent;
    if (unsent !== null && unsent.length > 0) {
      const n = this.#writeFrom(unsent, unsent.length);
      if (n > 0 && this.closed && !this.awaited) awaitProgress(this.runtime, this);
      if (unsent.length === 0) {
        if (this.closed) this.#closeBinding();
        else if (this.handshake !== null) this.handshake.begin();
        else if (this.shut) this.binding?.shutdownWrite();
      }
      if (unsent.length > SEND_LIMIT / 2) return;
    }
    if (!this.closed && this.handshake === null) this.notify(EV_WRITE);
  }

  onClose(error?: EventError): void {
    // An attempt that was given up reports its end when the connection has long failed.
    if (this.gone) return;
    this.#end(error, true);
  }

  /** The connection failed before the host knew of it: no address, out of time, aborted. Also in a call of the user's. */
  fail(error: EventError): void {
    const binding = this.binding;
    // Of a connection, the addresses can still be asked for.
    if (binding?.remote === undefined) this.binding = null;
    binding?.reset();
    if (!this.gone) this.#end(error, false);
  }

  #end(error: EventError | undefined, inHostCallback: boolean): void {
    this.state |= GONE;
    if (this.closed) endWaits(this.runtime, this);
    this.#endHandshake();
    this.#settle();
    if (error !== undefined) this.rare.error = error;
    if (!this.closed) this.notify(EV_READ | EV_WRITE | EV_CLOSED, inHostCallback);
    this.#finished(error === undefined && this.unsent === 0);
    this.#dropUnsent();
  }

  /** Nobody can send it any more: memory of the user's is given back. */
  #dropUnsent(): void {
    if (this.#unsent !== null) consume(this.#unsent, this.#unsent.length);
  }

  // ---- receiving

  /** `recv()`: as `Socket.recv`. */
  receive(into: Uint8Array): number {
    if (this.available === 0) return this.#nothing("recv");
    const n = this.read(into);
    this.#afterReceive();
    return n;
  }

  /** Moves up to `most` bytes into a buffer, whatever of it is frozen. @returns How many, 0 for none now */
  receiveInto(into: EvBuffer, most: number): number {
    const n = this.moveTo(into, most);
    if (n > 0) this.#afterReceive();
    return n;
  }

  /** `recvBuffer()`: as `Socket.recvBuffer`. */
  receiveBuffer(into: EvBuffer, most: number): number {
    if (this.available === 0) return this.#nothing("recvBuffer");
    const n = this.removeTo(into, most);
    this.#afterReceive();
    return n;
  }

  #nothing(call: string): number {
    if (this.closed) throw new EventError(`Cannot ${call}: the socket was closed`, { code: "EBADF", syscall: "recv" });
    if (this.error !== null) throw this.error;
    return this.ended || this.gone ? 0 : EAGAIN;
  }

  #afterReceive(): void {
    const left = this.available;
    if (left === 0 && (this.state & (ENDED | GONE)) === 0) this.clear(EV_READ);
    if ((this.state & PAUSED) !== 0 && left <= RECEIVE_LIMIT / 2) {
      this.state &= ~PAUSED;
      if (left > 0) this.unpinReceived();
      if (!this.gone) this.binding?.resumeRead();
    }
  }

  // ---- sending

  /** Whether bytes can be sent now, or an error is to be had by trying. */
  get writable(): boolean {
    return (this.readiness & EV_WRITE) !== 0;
  }

  /** Throws, or gives the code, when nothing can be sent. @returns 0 when something can */
  #unsendable(call: string, length: number): number {
    if (this.closed) throw new EventError(`Cannot ${call}: the socket was closed`, { code: "EBADF", syscall: "send" });
    if (this.error !== null) throw this.error;
    if (!this.connected) return length === 0 ? ENOTCONN : EAGAIN;
    if (this.shut || this.gone) {
      const why = this.shut ? "its sending direction was finished" : "the connection is closed";
      throw new EventError(`Cannot ${call}: ${why}`, { code: "EPIPE", syscall: "send" });
    }
    return 0;
  }

  /** `send()`: as `Socket.send`. Copies what it takes: the caller may change its bytes at once. */
  send(data: Uint8Array): number {
    const code = this.#unsendable("send", data.length);
    if (code !== 0 || data.length === 0) return code;
    const unsent = this.#unsent ??= ownBuffer(this.runtime);
    const room = SEND_LIMIT - unsent.length;
    if (room <= 0) return EAGAIN;
    const taken = data.length <= room ? data.length : room;
    unsent.add(taken === data.length ? data : data.subarray(0, taken));
    this.#flushUnsent(unsent);
    return taken;
  }

  /** `sendBuffer()`: as `Socket.sendBuffer`. */
  sendBuffer(from: EvBuffer, most: number): number {
    checkFront(from, "send a buffer");
    const wanted = Math.min(most, from.length);
    const code = this.#unsendable("sendBuffer", wanted);
    if (code !== 0 || wanted === 0) return code;
    const lost = lostIn(from, wanted);
    if (lost !== null) throw lost;
    const unsent = this.#unsent ??= ownBuffer(this.runtime);
    const room = SEND_LIMIT - unsent.length;
    if (room <= 0) return EAGAIN;
    let taken = unsent.length === 0 ? this.#writeFrom(from, wanted) : 0;
    if (taken < wanted) taken += from.removeBuffer(unsent, Math.min(wanted - taken, room));
    this.#flushUnsent(unsent);
    return taken;
  }

  #flushUnsent(unsent: EvBuffer): void {
    if (unsent.length > 0 && this.writable) this.#writeFrom(unsent, unsent.length);
    if (unsent.length < SEND_LIMIT && !this.gone) this.readiness |= EV_WRITE;
    else this.clear(EV_WRITE);
  }

  /**
   * Gives the host up to `most` bytes from the front of a buffer, frozen or not, and takes them off it. A short count
   * means that the host takes no more for now: `EV_WRITE` is cleared, and comes back.
   */
  writeFrom(buffer: EvBuffer, most: number): number {
    if ((this.state & (CONNECTED | SHUT | GONE | CLOSED)) !== CONNECTED) return 0;
    const unsent = this.#unsent;
    if (unsent !== null && unsent.length > 0) {
      this.#writeFrom(unsent, unsent.length);
      if (unsent.length > 0) return 0;
    }
    return this.#writeFrom(buffer, most);
  }

  #writeFrom(buffer: EvBuffer, most: number): number {
    const binding = this.binding;
    if (binding === null) return 0;
    try {
      return this.#writeTo(binding, buffer, most);
    } catch (error) {
      const lost = asDetached(error);
      if (lost === null) throw error;
      // The peer must not take what comes behind the lost bytes for what follows.
      if (!this.gone) {
        binding.reset();
        this.#end(lost, false);
      }
      return 0;
    }
  }

  #writeTo(binding: TransportBinding, buffer: EvBuffer, most: number): number {
    let total = 0;
    while (total < most && buffer.length > 0) {
      const wanted = Math.min(most - total, WRITE_CHUNK);
      const chunk = firstExtent(buffer, wanted);
      const more = chunk.length < wanted && chunk.length < buffer.length;
      const loan = extentLoan(buffer);
      // Who does not count may hold the bytes for as long as it likes.
      if (loan !== null && binding.countsLoans !== true) loan.seen = true;
      const taken = more && binding.writev !== undefined
        ? binding.writev(extents(buffer, wanted, WRITE_VECTORS))
        : loan === null
        ? binding.write(chunk)
        : binding.write(chunk, loan);
      if (taken === 0) {
        this.clear(EV_WRITE);
        unpin(buffer);
        break;
      }
      consume(buffer, taken);
      total += taken;
    }
    if (total > 0) this.state |= SENT;
    return total;
  }

  /**
   * Changes to TLS after all of `last`, which leaves in the clear with what was sent before. Until the handshake is
   * through, the connection is not established.
   */
  startTls(handshake: Handshake, last: EvBuffer): void {
    const unsent = this.#unsent ??= ownBuffer(this.runtime);
    moveBytes(last, unsent, last.length);
    this.handshake = handshake;
    this.state &= ~CONNECTED;
    this.clear(EV_WRITE);
    if (unsent.length > 0) this.#writeFrom(unsent, unsent.length);
    if (unsent.length === 0) handshake.begin();
  }

  // ---- ending

  /** Finishes our direction after all that was sent. */
  shutdown(): void {
    if (this.shut) return;
    this.state |= SHUT;
    if (this.connected && this.unsent === 0) this.binding?.shutdownWrite();
  }

  /** The owner is done with it: nothing is called any more, what was sent still leaves. */
  close(): void {
    if (this.closed) return;
    this.state |= CLOSED;
    this.release();
    this.dropReceived();
    this.#endHandshake();
    this.#settle();
    if (this.gone) return;
    if (this.unsent > 0 && this.connected) {
      // What arrives meanwhile is dropped: a peer that has to be rid of it first is not held up.
      if ((this.state & (PAUSED | HELD)) !== 0) this.binding?.resumeRead();
      if (!this.awaited) awaitProgress(this.runtime, this);
      return;
    }
    this.#closeBinding();
  }

  /**
   * Closes, and tells when all of `last` and what was sent before is delivered and the peer has finished too, or that
   * the connection failed. `reset()` ends the wait. No loop is needed.
   */
  finish(last: EvBuffer, onFinished: (delivered: boolean) => void): void {
    if (last.length > 0 && this.connected && !this.shut && !this.gone) {
      const unsent = this.#unsent ??= ownBuffer(this.runtime);
      moveBytes(last, unsent, last.length);
      this.#writeFrom(unsent, unsent.length);
    }
    const delivered = this.error === null && last.length === 0;
    this.rare.onFinished = delivered ? onFinished : (): void => onFinished(false);
    this.state |= AWAITED;
    this.close();
    if (this.gone) this.#finished(delivered);
  }

  /**
   * Closes, and does not wait for the peer. What was sent before and all of `last` still leave.
   *
   * @param until The time on the host's clock after which the rest is dropped, and the connection is reset
   */
  closeAfter(last: EvBuffer, until: number): void {
    if (last.length > 0 && this.connected && !this.shut && !this.gone) {
      const unsent = this.#unsent ??= ownBuffer(this.runtime);
      moveBytes(last, unsent, last.length);
      this.#writeFrom(unsent, unsent.length);
    }
    if (!this.gone && this.unsent > 0) {
      // The connection itself keeps the process alive until all has left.
      this.rare.onFinished = atDeadline(this.runtime, until, () => this.unsent > 0 && this.reset(), true);
    }
    this.close();
  }

  #finished(delivered: boolean): void {
    if (this.side === null || this.side.onFinished === null) return;
    const { onFinished } = this.side;
    this.side.onFinished = null;
    onFinished(delivered);
  }

  #closeBinding(): void {
    const binding = this.binding;
    if (binding === null) {
      this.onClose();
      return;
    }
    binding.close();
    if (this.connected && !this.awaited) awaitPeer(this.runtime, this);
  }

  onLingered(): void {
    this.binding?.release();
    // What the host has not got rid of yet still leaves.
    if (!this.gone) awaitProgress(this.runtime, this);
  }

  onStalled(): void {
    this.reset();
  }

  /** Closes without waiting for the peer to finish, as close(2) does: the descriptor is free at once. */
  dismiss(): void {
    this.close();
    if (!this.gone) this.onLingered();
  }

  /** Lets go at once, with a RST where the host can. */
  reset(): void {
    const wasClosed = this.closed;
    this.state |= CLOSED;
    if (!wasClosed) this.release();
    this.dropReceived();
    this.#dropUnsent();
    this.#endHandshake();
    this.#settle();
    this.#finished(false);
    if (this.gone) return;
    if (this.binding === null) this.onClose();
    else this.binding.reset();
  }

  /** Lets it keep the process alive, or not; also while no binding is there yet. */
  hold(on: boolean): void {
    if (on) this.state &= ~UNREFERENCED;
    else this.state |= UNREFERENCED;
    if (on) this.binding?.ref();
    else this.binding?.unref();
    this.connecting?.onHold();
  }

  #settle(): void {
    if (this.side === null || this.side.connecting === null) return;
    const { connecting } = this.side;
    this.side.connecting = null;
    connecting.onSettled();
  }
}
