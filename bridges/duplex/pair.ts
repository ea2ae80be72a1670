/**
 * Two coupled Duplex streams: bytes that are written to one are read from the other, as over TCP.
 *
 * @module
 */

import { Duplex } from "node:stream";

type Done = (error?: Error | null) => void;

/** The number of bytes in each queue, as TCP windows: the default of Node 20 is a quarter of it. */
const QUEUE_BYTES = 65_536;

/** An error with the code that a socket would have for it. */
function broken(code: "ECONNRESET" | "EPIPE"): Error {
  return Object.assign(new Error(code), { code });
}

/**
 * One end. Each chunk needs one turn of the runtime's loop to the other end, so that two ends that
 * answer each other do not block the runtime. A writer waits as long as the other end's queue is
 * full.
 */
export class PairEnd extends Duplex {
  #other: PairEnd | undefined;
  /** The writer of the other end waits for a read of ours. */
  #waiting: Done | undefined;
  /** Our end of file is on its way, or has arrived. */
  #finished = false;

  /** Makes two ends. */
  static couple(): [PairEnd, PairEnd] {
    const [a, b] = [new PairEnd({ highWaterMark: QUEUE_BYTES }), new PairEnd({ highWaterMark: QUEUE_BYTES })];
    a.#other = b;
    b.#other = a;
    return [a, b];
  }

  override _write(chunk: Uint8Array, _encoding: string, done: Done): void {
    setImmediate(() => this.#deliver(chunk, done));
  }

  #deliver(chunk: Uint8Array, done: Done): void {
    const other = this.#other!;
    if (this.destroyed) done();
    // A peer that was destroyed after it has finished has closed the connection. Any other has
    // reset it.
    else if (other.destroyed) done(broken(other.#finished ? "EPIPE" : "ECONNRESET"));
    else if (other.push(chunk)) done();
    else other.#waiting = done;
  }

  override _read(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  }

  override _final(done: Done): void {
    this.#finished = true;
    setImmediate(() => {
      this.#tellEnd();
      done();
    });
  }

  #tellEnd(): void {
    const other = this.#other!;
    if (!other.destroyed) other.push(null);
  }

  override _destroy(error: Error | null, done: Done): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    // The bytes of that writer will not arrive.
    if (waiting !== undefined) setImmediate(() => waiting(broken("ECONNRESET")));
    if (!this.#finished && error === null) {
      this.#finished = true;
      setImmediate(() => this.#tellEnd());
    }
    done(error);
  }

  /** Destroys both ends: the other one fails with `ECONNRESET`, as the peer of a socket that sends a RST. */
  resetAndDestroy(): this {
    const other = this.#other!;
    this.destroy(broken("ECONNRESET"));
    setImmediate(() => other.destroy(broken("ECONNRESET")));
    return this;
  }
}
