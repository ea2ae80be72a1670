/**
 * What is set on a bufferevent: watermarks, timeouts, the sizes of a read and a write, the bound of the output. As a rule
 * all connections of a server are set alike, so that they share one object: a connection has ten fields less.
 */

/** Bytes read or written at once unless set (rule V1). */
export const DEFAULT_MAX_SINGLE = 16384;

/** With so much output queued a write is refused, unless set. */
const DEFAULT_MAX_OUTPUT = 64 * 1024 * 1024;

/** With so much output `write()` says stop, where no high watermark of writing says it. */
const DEFAULT_STOP = 64 * 1024;

/** Limits with more changes behind them than this are not shared: who changes them all the time would make a chain without end. */
const MAX_CHANGES = 8;

/** Settings that several bufferevents may have. They are changed on a copy, which takes their place: see `shared()`. */
export class Limits {
  readLow = 0;
  readHigh = 0;
  writeLow = 0;
  writeHigh = 0;
  /** In milliseconds; 0 for none. */
  readTimeoutMs = 0;
  writeTimeoutMs = 0;
  maxSingleRead: number = DEFAULT_MAX_SINGLE;
  /** 0: as much as the transport takes. */
  maxSingleWrite = 0;
  maxOutput: number = DEFAULT_MAX_OUTPUT;
  /** With so much output `write()` says stop. */
  stopAt: number = DEFAULT_STOP;
  /** With no more output than this `write()` says go on again. */
  goAt: number = DEFAULT_STOP - 1;
  #changes = 0;
  /** The last that were made of these. */
  #next: Limits | null = null;

  /** A copy, to be changed and then given to `shared()`. */
  copy(): Limits {
    const copy = new Limits();
    copy.readLow = this.readLow;
    copy.readHigh = this.readHigh;
    copy.writeLow = this.writeLow;
    copy.writeHigh = this.writeHigh;
    copy.readTimeoutMs = this.readTimeoutMs;
    copy.writeTimeoutMs = this.writeTimeoutMs;
    copy.maxSingleRead = this.maxSingleRead;
    copy.maxSingleWrite = this.maxSingleWrite;
    copy.maxOutput = this.maxOutput;
    return copy;
  }

  /**
   * Gives what is to be used in the place of these: the changed copy, or its like that another bufferevent has got, which
   * was set in the same order.
   */
  shared(changed: Limits): Limits {
    const next = this.#next;
    if (
      next !== null && next.readLow === changed.readLow && next.readHigh === changed.readHigh &&
      next.writeLow === changed.writeLow && next.writeHigh === changed.writeHigh &&
      next.readTimeoutMs === changed.readTimeoutMs && next.writeTimeoutMs === changed.writeTimeoutMs &&
      next.maxSingleRead === changed.maxSingleRead && next.maxSingleWrite === changed.maxSingleWrite &&
      next.maxOutput === changed.maxOutput
    ) return next;
    changed.stopAt = Math.min(changed.writeHigh > 0 ? changed.writeHigh : DEFAULT_STOP, changed.maxOutput);
    // Without a high watermark there is no low one to wait for, as in libevent.
    changed.goAt = Math.min(changed.writeHigh > 0 ? changed.writeLow : Infinity, changed.stopAt - 1);
    changed.#changes = this.#changes + 1;
    if (this.#changes < MAX_CHANGES) this.#next = changed;
    return changed;
  }
}

/** What a bufferevent has until something is set. */
export const DEFAULT_LIMITS: Limits = /* @__PURE__ */ new Limits();
