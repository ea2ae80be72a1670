/**
 * Views of a bufferevent's input, for programs that prefer `await` to callbacks: chunks, lines, frames.
 *
 * @module
 */

import { EV_READ } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import { checkInner, hasMethod } from "../checks.ts";
import { BevCore } from "../bufferevent/core.ts";
import type { AbortSignalLike } from "../runtime.ts";
import { type End, type Reader, takeOver, viewsOf } from "./takeover.ts";

/** Options of every view. */
export interface ViewOptions {
  /** Aborting it ends the view, which rejects with the reason. The bytes stay in `input`. */
  signal?: AbortSignalLike | undefined;
}

/** The high watermark of reading while a view is open, if none is set. */
const DEFAULT_HIGH = 64 * 1024;

/** Takes the items of a view from the input. It returns the next item, or null if there is too little input. */
export interface ItemDecoder<T> {
  /** The limit of bytes that may wait without being an item, if `decode` has no limit of its own. */
  readonly maxBytes: number;
  /** Whether a codec of the program decodes them. */
  readonly foreign?: boolean;
  decode(input: EvBuffer): T | null;
  /** At the end of file: the rest as a last item, or null. */
  decodeEnd(input: EvBuffer): T | null;
}

/** The states of a view: not open yet, open, and over. */
const IDLE = 0;
const OPEN = 1;
const OVER = 2;

/**
 * For streams: takes the next item of a view, and passes it to `give` in the same call, so that the view cannot be left
 * in between. Returns false if the view is over.
 */
export function feedFrom<T>(view: View<T>, give: (value: T) => void): Promise<boolean> {
  return feed(view, give);
}

/** Set by the first view: see `Pollable`. */
let feed: <T>(view: View<T>, give: (value: T) => void) => Promise<boolean>;

/**
 * The items of a bufferevent's input, one after the other. `BufferEvent.lines()` has the rules about the end, errors
 * and callbacks.
 *
 * It can be iterated once. `next()` may be called before the last call has settled; the calls settle in order.
 */
export class View<T> implements AsyncIterableIterator<T> {
  readonly #core: BevCore;
  readonly #decoder: ItemDecoder<T>;
  readonly #signal: AbortSignalLike | undefined;
  #state = IDLE;
  #end: End | null = null;
  /** Whether there may be an item. It is false after there was none, until more bytes arrive. */
  #ready = false;
  /** The reason of an abort, until it is reported. */
  #aborted: { reason: unknown } | null = null;
  /** Whether the connection has failed or was freed. */
  #failed = false;
  /** The pending calls, and their promises. */
  #pending: Promise<unknown> | null = null;
  #wake: (() => void) | null = null;
  /** Whether the refused frame was taken, so that the view can go on behind it. */
  #refused = false;
  /** Whether reading was enabled before. */
  #wasReading = false;
  /** The high watermark of the program, and the present one while a frame needs more. */
  #high = 0;
  #raised = 0;
  readonly #reader: Reader & { view: View<T> } = {
    view: this,
    get waiting(): boolean {
      return this.view.#pending !== null;
    },
    onReadable: () => {
      this.#ready = true;
      this.#wake?.();
    },
    onEnd: (end) => {
      // Behind an end of file, too: a full output drains no more.
      if (end.error !== null) this.#failed = true;
      // An end of file comes behind input that waits. If that is lost, it was no clean end.
      const isLost = end.error !== null && this.#core.input.length > 0;
      if (this.#end === null || isLost) this.#end = end;
      this.#ready = true;
      this.#wake?.();
    },
    onClosing: () => {
      this.#end = null;
      this.#leave();
      this.#wake?.();
    },
  };
  readonly #onAbort = (): void => {
    this.#aborted = { reason: this.#signal?.reason };
    this.#leave();
    this.#wake?.();
  };

  /** Only the methods of `BufferEvent` call it. */
  constructor(core: object, decoder: object, signal: AbortSignalLike | undefined) {
    this.#core = checkInner(core, BevCore, "View", "a method of BufferEvent, such as lines(),");
    this.#decoder = decoder as ItemDecoder<T>;
    this.#signal = signal;
    feed ??= (view, give) => view.#feed(give);
  }

  /** Returns itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /**
   * Opens the view now, not with the first `next()`. Call it if you must wait for something else first; otherwise the
   * end of the connection would go to the callbacks.
   *
   * @returns Itself
   * @throws {EventError} `EV_BUSY` when another view is open or a filter is above; `EV_FREED`
   */
  open(): this {
    this.#open();
    return this;
  }

  /**
   * Returns the next item. The first call opens the view.
   *
   * @returns The item, or the end
   * @throws {EventError} `EV_BUSY` when another view is open or a filter is above; the reason of the end, once: see
   * `BufferEvent.lines()`
   */
  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#pending !== null) return this.#nextAfter(this.#pending);
    try {
      const result = this.#step();
      if (result !== null) return Promise.resolve(result);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#nextLater();
  }

  // Functions in `next()` itself would make V8 allocate a context for each item.
  #nextAfter(pending: Promise<unknown>): Promise<IteratorResult<T, undefined>> {
    return pending.then(() => this.next(), () => this.next());
  }

  #nextLater(): Promise<IteratorResult<T, undefined>> {
    return this.#whenAwake(() => this.#step());
  }

  /**
   * Leaves the view, as `break` does. The bytes that it has not returned stay in `input`, and your callbacks are called
   * again.
   *
   * @returns The end
   */
  return(): Promise<IteratorResult<T, undefined>> {
    this.#leave();
    this.#aborted = null;
    this.#wake?.();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** As `return()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /**
   * The same items in batches: all items that have arrived, with one promise for each batch.
   *
   * A batch takes items from `input` while you iterate it, and is no longer valid after the next one. It may be empty
   * if no whole item has arrived. Iterate each batch to its end, or leave: a batch that nobody iterates is offered
   * again at once.
   *
   * @returns The batches
   * @example
   * ```ts
   * import { bufferEventPair, EventBase } from "trivent";
   * const base = new EventBase();
   * const [near, far] = bufferEventPair(base);
   * far.write("one\r\ntwo\r\nthree");
   * far.shutdown();
   * const done = base.dispatch();
   * const all: string[] = [];
   * for await (const lines of near.lines({ text: true }).batches()) all.push(...lines);
   * await done;
   * if (all.join() !== "one,two,three") throw new Error(all.join());
   * ```
   */
  batches(): AsyncIterableIterator<Iterable<T>> {
    const taken: IteratorResult<Iterable<T>> = { done: false, value: { [Symbol.iterator]: () => this.#batch() } };
    const look = (): IteratorResult<Iterable<T>> | null => {
      this.#open();
      return this.#mayTake || this.#state === OVER ? (this.#tellAbort(), this.#state === OVER ? DONE : taken) : null;
    };
    const batches: AsyncIterableIterator<Iterable<T>> = {
      [Symbol.asyncIterator]: () => batches,
      next: () => {
        if (this.#pending !== null) return this.#pending.then(() => batches.next(), () => batches.next());
        try {
          const result = look();
          return result === null ? this.#whenAwake(look) : Promise.resolve(result);
        } catch (error) {
          return Promise.reject(error);
        }
      },
      return: () => this.return() as Promise<IteratorResult<Iterable<T>>>,
    };
    return batches;
  }

  #batch(): Iterator<T, undefined> {
    return {
      next: () => {
        // The outer iteration reports the end, but an error that it would reject with is thrown here.
        if (this.#state !== OPEN || !this.#mayTake) return DONE;
        const value = this.#takeOrLeave();
        return value === null ? DONE : { done: false, value };
      },
    };
  }

  async #feed(give: (value: T) => void): Promise<boolean> {
    const look = (): IteratorResult<T, undefined> | null => {
      const result = this.#step();
      if (result !== null && result.done !== true) give(result.value);
      return result;
    };
    if (this.#pending !== null) return this.#pending.then(() => this.#feed(give), () => this.#feed(give));
    return (look() ?? await this.#whenAwake(look)).done !== true;
  }

  /** Waits until `look` gives something. */
  #whenAwake<R>(look: () => R | null): Promise<R> {
    const waiting = new Promise<R>((resolve, reject) => {
      this.#wake = (): void => {
        let result: R | null = null;
        try {
          result = look();
          if (result === null) return;
        } catch (error) {
          this.#stopWaiting();
          reject(error);
          return;
        }
        this.#stopWaiting();
        resolve(result);
      };
    });
    this.#pending = waiting;
    this.#core.owner?.onWaiting();
    return waiting;
  }

  #stopWaiting(): void {
    this.#wake = this.#pending = null;
    this.#core.owner?.onBack();
  }

  /** Takes an item, if there is one. @throws The error that ends the view */
  #step(): IteratorResult<T, undefined> | null {
    if (this.#state !== OPEN || this.#aborted !== null) {
      this.#open();
      this.#tellAbort();
      if (this.#over()) return DONE;
    }
    if (!this.#mayTake) return null;
    const value = this.#takeOrLeave();
    if (value !== null) return { done: false, value };
    return this.#over() ? DONE : null;
  }

  /** While the output is full, the peer must first read its answers, unless it is gone. */
  get #mayTake(): boolean {
    return this.#ready && (!this.#core.holdsBack || this.#failed);
  }

  #takeOrLeave(): T | null {
    try {
      return this.#take();
    } catch (error) {
      this.#leave();
      this.#core.owner?.onViewOver(true);
      // Asked again it opens again.
      if (this.#refused && this.#aborted === null) this.#state = IDLE;
      throw error;
    }
  }

  #tellAbort(): void {
    const aborted = this.#aborted;
    this.#aborted = null;
    if (aborted !== null) throw aborted.reason;
  }

  #over(): boolean {
    return this.#state === OVER;
  }

  #take(): T | null {
    const { input } = this.#core;
    if (input.length > 0) {
      const value = this.#decode(input);
      if (value !== null) {
        if (this.#raised > 0) this.#lower();
        this.#core.owner?.onMessage(false);
        return value;
      }
    }
    return this.#takeEnd(input);
  }

  /** There is no whole item. */
  #takeEnd(input: EvBuffer): T | null {
    const end = this.#end;
    if (end === null) {
      this.#ready = false;
      if (input.length > this.#decoder.maxBytes) throw this.#core.raised(tooLong(this.#decoder.maxBytes, input.length));
      this.#core.owner?.onMessage(input.length > 0);
      this.#raise();
      return null;
    }
    // It is reported once, in any case.
    this.#end = null;
    if (end.error !== null) throw end.error;
    if (input.length > 0) {
      const last = this.#decodeEnd(input);
      if (last !== null) {
        this.#end = end;
        return last;
      }
    }
    this.#leave();
    this.#core.owner?.onViewOver(false);
    return null;
  }

  /** An exception of the program's own codec is about the bytes of the peer. */
  #decode(input: EvBuffer): T | null {
    const { length } = input;
    this.#refused = false;
    let value: T | null;
    try {
      value = this.#decoder.decode(input);
    } catch (error) {
      this.#refused = !this.#core.freed && input.length < length;
      throw invalid(this.#core, error);
    }
    if (this.#decoder.foreign === true && hasMethod(value, "then")) throw wrongFrame(value as PromiseLike<unknown>);
    return value;
  }

  #decodeEnd(input: EvBuffer): T | null {
    try {
      return this.#decoder.decodeEnd(input);
    } catch (error) {
      throw invalid(this.#core, error);
    }
  }

  // ---- opening and leaving

  #open(): void {
    if (this.#state !== IDLE) return;
    const core = this.#core;
    const views = takeOver(core, "read a bufferevent");
    if (views.reader !== null) {
      throw new EventError("Cannot read a bufferevent: a view of it is open already", { code: "EV_BUSY" });
    }
    const signal = this.#signal;
    if (signal?.aborted === true) {
      this.#state = OVER;
      views.reader = null;
      throw signal.reason;
    }
    signal?.addEventListener("abort", this.#onAbort);
    this.#state = OPEN;
    views.reader = this.#reader;
    core.owner?.onViewOpened();
    this.#wasReading = (core.enabled & EV_READ) !== 0;
    this.#high = core.readHigh;
    if (core.readHigh === 0) this.#setHigh(DEFAULT_HIGH);
    this.#ready = core.input.length > 0 && core.input.length >= core.readLow;
    // An end that was reported before is reported again.
    core.disable(EV_READ);
    core.enable(EV_READ);
  }

  #leave(): void {
    if (this.#state !== OPEN) {
      this.#state = OVER;
      return;
    }
    this.#state = OVER;
    const core = this.#core;
    const views = viewsOf(core);
    this.#signal?.removeEventListener("abort", this.#onAbort);
    if (!core.freed && core.closing === null) {
      if (this.#raised > 0) this.#lower();
      if (this.#high === 0 && core.readHigh === DEFAULT_HIGH) this.#setHigh(0);
      if (!this.#wasReading) core.disable(EV_READ);
    }
    if (views?.reader === this.#reader) views.reader = null;
    if (core.freed || core.closing !== null) return;
    // The callbacks get what was not reported here.
    const end = this.#end;
    core.owner?.onMessage(false);
    if (this.#wasReading && core.input.length > 0) core.trigger(EV_READ, 0);
    if (end !== null && end.what !== 0) core.triggerEvent(end.what, end.error ?? undefined);
  }

  // ---- the high watermark

  /** A frame may be larger than the watermark. Then the watermark rises, up to the codec's own limit. */
  #raise(): void {
    const core = this.#core;
    const { readHigh } = core;
    if (readHigh === 0 || core.input.length < readHigh || core.freed) return;
    if (readHigh !== this.#raised && readHigh !== DEFAULT_HIGH) this.#high = readHigh;
    this.#raised = 2 * readHigh;
    this.#setHigh(this.#raised);
  }

  #lower(): void {
    const core = this.#core;
    // Unless the program has set another one meanwhile.
    if (!core.freed && core.readHigh === this.#raised) this.#setHigh(this.#high === 0 ? DEFAULT_HIGH : this.#high);
    this.#raised = 0;
  }

  #setHigh(high: number): void {
    const core = this.#core;
    core.setWatermark(EV_READ, core.readLow, high);
  }
}

const DONE: { done: true; value: undefined } = { done: true, value: undefined };

function tooLong(maxBytes: number, length: number): EventError {
  const message = `Cannot read a frame: it is longer than ${maxBytes} bytes: received ${length} without a whole one`;
  return new EventError(message, { code: "EV_FRAME_TOO_LONG" });
}

/** Each call would give another promise, without an end and without a pause. The peer cannot be blamed for it. */
function wrongFrame(value: PromiseLike<unknown>): TypeError {
  // Nobody else hears of its rejection.
  value.then(undefined, () => {});
  return new TypeError("Cannot read a frame: decode of the codec must give a frame or null: received a promise");
}

function invalid(core: BevCore, error: unknown): EventError {
  if (!(error instanceof EventError)) {
    const message = "Cannot read a frame: the codec has refused the bytes";
    return core.raised(new EventError(message, { code: "EV_FRAME_INVALID", cause: error }));
  }
  const own = error as EventError;
  // The program itself has frozen the front.
  return own.code === "EV_FROZEN" ? own : core.raised(own);
}
