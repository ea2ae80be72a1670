/** The last output of a connection that is being closed and has a rate limit: it leaves within the limit, loop or not. */

import { EV_WRITE } from "../flags.ts";
import { EvBuffer } from "../buffer/evbuffer.ts";
import { consume, moveBytes } from "../buffer/internal.ts";
import type { ReadinessObserver } from "../loop/source.ts";
import type { Stream } from "../socket/stream.ts";
import { DEFAULT_MAX_SINGLE } from "./limits.ts";
import { atDeadline } from "../loop/deadline.ts";
import type { RateLimits } from "./rate_core.ts";

/**
 * Takes all of a bufferevent's output and sends it as its rate limits allow, then finishes the connection.
 *
 * @param settle Told whether all of it was delivered and the peer has finished, or that the connection ended before
 */
export function sendLast(
  stream: Stream,
  rate: RateLimits,
  output: EvBuffer,
  settle: (delivered: boolean) => void,
): void {
  const last = new LastOutput(stream, rate, settle);
  moveBytes(output, last.bytes, output.length);
  rate.held = true;
  stream.observe(last);
  last.onReady();
}

class LastOutput implements ReadinessObserver {
  readonly bytes: EvBuffer = new EvBuffer();
  readonly #dropped: EvBuffer = new EvBuffer();
  readonly #stream: Stream;
  readonly #rate: RateLimits;
  readonly #settle: (delivered: boolean) => void;
  /** Takes back the timer that runs. */
  #cancelSleep: (() => void) | null = null;

  constructor(stream: Stream, rate: RateLimits, settle: (delivered: boolean) => void) {
    this.#stream = stream;
    this.#rate = rate;
    this.#settle = settle;
  }

  /** Sends what may be sent now. */
  send(): void {
    const stream = this.#stream;
    const rate = this.#rate;
    const { bytes } = this;
    while (bytes.length > 0 && !stream.gone) {
      const most = rate.allowance(EV_WRITE, Math.min(bytes.length, DEFAULT_MAX_SINGLE));
      if (most === 0) return this.#sleep(rate.nextTick(EV_WRITE));
      const n = stream.writeFrom(bytes, most);
      // Without room the host tells when there is some.
      if (n === 0 && !stream.gone) return;
      rate.charge(EV_WRITE, n);
    }
    this.#stop();
    stream.unobserve(this);
    stream.finish(bytes, this.#settle);
  }

  #sleep(until: number): void {
    this.#cancelSleep ??= atDeadline(this.#stream.runtime, until, () => {
      this.#cancelSleep = null;
      this.send();
    });
  }

  #stop(): void {
    this.#cancelSleep?.();
    this.#cancelSleep = null;
    this.#rate.held = false;
    this.#rate.release();
  }

  onReady(): void {
    const stream = this.#stream;
    // Nobody reads any more. Left where it is it would make the peer wait, who may have to write before it reads.
    stream.receiveInto(this.#dropped, stream.available);
    consume(this.#dropped, this.#dropped.length);
    this.send();
  }

  /** The connection was reset by us: out of time, or not wanted any more. */
  onSourceClosed(): void {
    this.#stop();
    this.#settle(false);
  }
}
