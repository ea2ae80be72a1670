/**
 * The settings of a bufferevent: watermarks, timeouts, the sizes of a read and a write, the limit of the output.
 * Usually all connections of a server have the same settings, so they share one object. That saves ten fields in each
 * connection.
 */

/** Bytes read or written at once unless set (rule V1). */
export const DEFAULT_MAX_SINGLE = 16384;

/** The high watermark of reading of `serve()`, pipes, compression and the Sockets API, unless set. */
export const DEFAULT_READ_HIGH: number = 64 * 1024;

/** How long the last output may wait for a peer that takes none of it, unless set. */
export const DEFAULT_CLOSE_TIMEOUT_MS = 30_000;

/** The hard limit of the output, unless set. */
const DEFAULT_MAX_OUTPUT = 64 * 1024 * 1024;

/** From this length of the output on `write()` returns false, if there is no high watermark of writing. */
const DEFAULT_STOP = 64 * 1024;

/**
 * Settings with more changes than this are not shared. Otherwise a program that changes them all the time would make an
 * endless chain.
 */
const MAX_CHANGES = 8;

/** Settings that several bufferevents may share. A change makes a copy, which replaces them: see `shared()`. */
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
  /** From this length of the output on `write()` returns false. */
  stopAt: number = DEFAULT_STOP;
  /** At this length of the output or below, `write()` returns true again. */
  goAt: number = DEFAULT_STOP - 1;
  private changes = 0;
  /** The last settings that were made from these. */
  private next: Limits | null = null;

  /** Returns a copy, to be changed and then given to `shared()`. */
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
   * Returns `changed`, or an equal settings object that another bufferevent already uses, so that connections share it.
   * Equal means: set in the same order.
   */
  shared(changed: Limits): Limits {
    const next = this.next;
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
    changed.changes = this.changes + 1;
    if (this.changes < MAX_CHANGES) this.next = changed;
    return changed;
  }
}

/** The settings of a new bufferevent. */
export const DEFAULT_LIMITS: Limits = /* @__PURE__ */ new Limits();
