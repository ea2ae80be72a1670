/**
 * The last output of a connection that is being closed, if it cannot leave at once: it waits for the connection to be
 * established, and keeps to a rate limit. No loop is needed.
 */

import { EV_WRITE } from "../flags.ts";
import { EvBuffer } from "../buffer/evbuffer.ts";
import { consume, moveBytes } from "../buffer/internal.ts";
import { ownBuffer } from "../buffer/own_buffer.ts";
import { atDeadline } from "../loop/deadline.ts";
import type { ReadinessObserver } from "../loop/source.ts";
import type { Connection } from "../socket/connection.ts";
import { DEFAULT_MAX_SINGLE } from "./limits.ts";
import type { RateLimits } from "./rate_core.ts";

/**
 * Takes all output of a bufferevent, sends it when the connection is established and as its rate limits allow, then
 * finishes the connection.
 *
 * @param rate The limits, or null
 * @param connectBy When an attempt to connect is given up, on the clock of the runtime; Infinity for never
 * @param settle Called with true if all was delivered and the peer has finished, with false if the connection ended
 * before
 */
export function sendLast(
  connection: Connection,
  rate: RateLimits | null,
  output: EvBuffer,
  connectBy: number,
  settle: (delivered: boolean) => void,
): void {
  const last = new LastOutput(connection, rate, settle);
  moveBytes(output, last.bytes, output.length);
  if (rate !== null) rate.servesLast = true;
  connection.observe(last);
  last.start(connectBy);
}

class LastOutput implements ReadinessObserver {
  readonly bytes: EvBuffer;
  private readonly dropped: EvBuffer = new EvBuffer();
  private readonly connection: Connection;
  private readonly rate: RateLimits | null;
  private readonly settle: (delivered: boolean) => void;
  private over = false;
  /** Cancels the time limit of the attempt to connect. */
  private cancelConnecting: (() => void) | null = null;
  /** Cancels the next tick of the rate limit. */
  private cancelSleep: (() => void) | null = null;

  constructor(connection: Connection, rate: RateLimits | null, settle: (delivered: boolean) => void) {
    this.bytes = ownBuffer(connection.runtime);
    this.connection = connection;
    this.rate = rate;
    this.settle = settle;
  }

  start(connectBy: number): void {
    const connection = this.connection;
    if (connection.connected || connection.gone) return this.onReady();
    if (connectBy < Infinity) {
      this.cancelConnecting = atDeadline(connection.runtime, connectBy, () => connection.reset());
    }
  }

  onReady(): void {
    const connection = this.connection;
    // The connection may fail inside the call that sends.
    if (this.over) return;
    if (!connection.connected && !connection.gone) return;
    this.cancelConnecting?.();
    this.cancelConnecting = null;
    // Nobody reads any more. If it stayed, a peer that has to write before it reads would wait.
    connection.arrived -= connection.available;
    connection.receiveInto(this.dropped, connection.available);
    consume(this.dropped, this.dropped.length);
    const rate = this.rate;
    if (rate === null || this.send(rate)) this.finish();
  }

  /** Sends as much as possible now. @returns Whether nothing is left to wait for */
  private send(rate: RateLimits): boolean {
    const connection = this.connection;
    const { bytes } = this;
    while (bytes.length > 0 && !connection.gone) {
      const most = rate.allowance(EV_WRITE, Math.min(bytes.length, DEFAULT_MAX_SINGLE));
      if (most === 0) {
        this.sleep(rate.nextTick(EV_WRITE));
        return false;
      }
      const n = connection.writeFrom(bytes, most);
      // The runtime tells when it takes more.
      if (n === 0 && !connection.gone) return false;
      rate.charge(EV_WRITE, n);
    }
    return true;
  }

  private sleep(until: number): void {
    this.cancelSleep ??= atDeadline(this.connection.runtime, until, () => {
      this.cancelSleep = null;
      this.onReady();
    });
  }

  private finish(): void {
    if (this.over) return;
    this.stop();
    this.connection.unobserve(this);
    this.connection.finish(this.bytes, this.settle);
    this.drop();
  }

  /** Releases memory of bytes that could not be sent. */
  private drop(): void {
    consume(this.bytes, this.bytes.length);
  }

  private stop(): void {
    this.over = true;
    this.cancelConnecting?.();
    this.cancelSleep?.();
    this.cancelConnecting = this.cancelSleep = null;
    if (this.rate === null) return;
    this.rate.servesLast = false;
    this.rate.end();
  }

  /** We have reset the connection: out of time, or on request. */
  onSourceClosed(): void {
    this.stop();
    this.settle(false);
    this.drop();
  }
}
