/**
 * The last output of a connection that is being closed, where it cannot leave at once: it waits until the connection is
 * there, and leaves within a rate limit. No loop is needed.
 */

import { EV_WRITE } from "../flags.ts";
import { EvBuffer } from "../buffer/evbuffer.ts";
import { consume, moveBytes } from "../buffer/internal.ts";
import { ownBuffer } from "../buffer/own_buffer.ts";
import { atDeadline } from "../loop/deadline.ts";
import type { ReadinessObserver } from "../loop/source.ts";
import type { Stream } from "../socket/stream.ts";
import { DEFAULT_MAX_SINGLE } from "./limits.ts";
import type { RateLimits } from "./rate_core.ts";

/**
 * Takes all of a bufferevent's output, sends it once the connection is there and as its rate limits allow, then finishes
 * the connection.
 *
 * @param rate The limits, or null
 * @param connectBy When an attempt to connect is given up, on the clock of the runtime; Infinity for never
 * @param settle Told whether all of it was delivered and the peer has finished, or that the connection ended before
 */
export function sendLast(
  stream: Stream,
  rate: RateLimits | null,
  output: EvBuffer,
  connectBy: number,
  settle: (delivered: boolean) => void,
): void {
  const last = new LastOutput(stream, rate, settle);
  moveBytes(output, last.bytes, output.length);
  if (rate !== null) rate.held = true;
  stream.observe(last);
  last.start(connectBy);
}

class LastOutput implements ReadinessObserver {
  readonly bytes: EvBuffer;
  readonly #dropped: EvBuffer = new EvBuffer();
  readonly #stream: Stream;
  readonly #rate: RateLimits | null;
  readonly #settle: (delivered: boolean) => void;
  #over = false;
  /** Takes back the end of the attempt to connect. */
  #cancelConnecting: (() => void) | null = null;
  /** Takes back the next tick of the rate limit. */
  #cancelSleep: (() => void) | null = null;

  constructor(stream: Stream, rate: RateLimits | null, settle: (delivered: boolean) => void) {
    this.bytes = ownBuffer(stream.runtime);
    this.#stream = stream;
    this.#rate = rate;
    this.#settle = settle;
  }

  start(connectBy: number): void {
    const stream = this.#stream;
    if (stream.connected || stream.gone) return this.onReady();
    if (connectBy < Infinity) this.#cancelConnecting = atDeadline(stream.runtime, connectBy, () => stream.reset());
  }

  onReady(): void {
    const stream = this.#stream;
    // The connection may fail inside the call that sends.
    if (this.#over) return;
    if (!stream.connected && !stream.gone) return;
    this.#cancelConnecting?.();
    this.#cancelConnecting = null;
    // Nobody reads any more. If it stayed, a peer that has to write before it reads would wait.
    stream.receiveInto(this.#dropped, stream.available);
    consume(this.#dropped, this.#dropped.length);
    const rate = this.#rate;
    if (rate === null || this.#send(rate)) this.#finish();
  }

  /** Sends what may be sent now. @returns Whether nothing is left to wait for */
  #send(rate: RateLimits): boolean {
    const stream = this.#stream;
    const { bytes } = this;
    while (bytes.length > 0 && !stream.gone) {
      const most = rate.allowance(EV_WRITE, Math.min(bytes.length, DEFAULT_MAX_SINGLE));
      if (most === 0) {
        this.#sleep(rate.nextTick(EV_WRITE));
        return false;
      }
      const n = stream.writeFrom(bytes, most);
      // The host tells when it takes more.
      if (n === 0 && !stream.gone) return false;
      rate.charge(EV_WRITE, n);
    }
    return true;
  }

  #sleep(until: number): void {
    this.#cancelSleep ??= atDeadline(this.#stream.runtime, until, () => {
      this.#cancelSleep = null;
      this.onReady();
    });
  }

  #finish(): void {
    if (this.#over) return;
    this.#stop();
    this.#stream.unobserve(this);
    this.#stream.finish(this.bytes, this.#settle);
    this.#drop();
  }

  /** What could not be sent: memory of the user's is given back. */
  #drop(): void {
    consume(this.bytes, this.bytes.length);
  }

  #stop(): void {
    this.#over = true;
    this.#cancelConnecting?.();
    this.#cancelSleep?.();
    this.#cancelConnecting = this.#cancelSleep = null;
    if (this.#rate === null) return;
    this.#rate.held = false;
    this.#rate.release();
  }

  /** The connection was reset by us: out of time, or not wanted any more. */
  onSourceClosed(): void {
    this.#stop();
    this.#settle(false);
    this.#drop();
  }
}
