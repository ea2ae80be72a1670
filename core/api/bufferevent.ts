/** The public class of every bufferevent. */

import {
  checkCount,
  checkDuration,
  checkFlags,
  checkFunction,
  checkInner,
  checkInteger,
  checkSignal,
  outOfRange,
  wrongType,
} from "../checks.ts";
import { BEV_OPT_DEFER_CALLBACKS, BEV_OPT_UNLOCK_CALLBACKS, EV_READ, EV_WRITE } from "../flags.ts";
import { BEV_TRIG_DEFER_CALLBACKS, BEV_TRIG_IGNORE_WATERMARKS } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import { checkEvBuffer } from "../buffer/internal.ts";
import { checkData, utf8Length } from "../buffer/utf8.ts";
import type { EventBase } from "./event_base.ts";
import { checkCallbacks, type Names, readOptions } from "../names.ts";
import type { FrameCodec, FrameInput } from "../views/frames.ts";
import {
  type FrameViewOptions,
  type LineViewOptions,
  viewChunks,
  viewFrames,
  viewLines,
  writeFrame,
} from "../views/decoders.ts";
import type { View } from "../views/views.ts";
import { type ByteReadableStream, type ByteWritableStream, readableOf, writableOf } from "../views/web_streams.ts";
import type { AbortSignalLike } from "../runtime.ts";
import type { HostAbortSignal } from "../bufferevent/abort.ts";
import type { BufferEventCallbacks, Face } from "../bufferevent/callbacks.ts";
import { BevCore } from "../bufferevent/core.ts";
import { DEFAULT_CLOSE_TIMEOUT_MS, DEFAULT_MAX_SINGLE } from "../bufferevent/limits.ts";
import type { RateLimits } from "../bufferevent/rate_core.ts";
import { checkConfig, checkDecrement, EV_RATE_LIMIT_MAX, makeRateLimits } from "../bufferevent/rate_limit.ts";
import type { TokenBucketConfig } from "../bufferevent/rate_limit.ts";
import { groupCoreOf, type RateLimitGroup } from "./rate_limit_group.ts";

/** A pair of watermarks in bytes. */
export interface Watermarks {
  /** The callback comes at this level. */
  low: number;
  /** Reading is suspended at this level; 0 for none. */
  high: number;
}

/** For the core: what is behind a bufferevent. */
export function coreOf(bev: BufferEvent): BevCore {
  return behind(bev);
}

/** Set by the first BufferEvent: see `Pollable`. */
let behind: (bev: BufferEvent) => BevCore = refuse;

function refuse(bev: unknown): never {
  throw wrongType("use a bufferevent", "not a BufferEvent", bev);
}

/**
 * A connection, an end of a pair or a filter, with two buffers. `input` fills and `output` drains by themselves.
 *
 * Callbacks run in the loop of the base, never inside a call of yours. Written bytes leave at the end of the turn, so
 * many small writes become one.
 *
 * libevent: `struct bufferevent`.
 */
export abstract class BufferEvent<Ctx = unknown> {
  readonly #core: BevCore;
  /** A value of your own, for your callbacks; undefined at first. libevent: the `cbarg` of `bufferevent_setcb`. */
  context: Ctx = undefined as Ctx;

  /** Made by the subclasses only. */
  protected constructor(core: object) {
    if (behind === refuse) {
      behind = (bev: BufferEvent): BevCore =>
        typeof bev === "object" && bev !== null && #core in bev ? bev.#core : refuse(bev);
    }
    this.#core = checkInner(core, BevCore, "BufferEvent", "SocketBufferEvent, bufferEventPair() or FilterBufferEvent");
    this.#core.face = this;
  }

  /** The base. libevent: `bufferevent_get_base`. */
  get base(): EventBase {
    return this.#core.loop.face as EventBase;
  }

  /**
   * The bytes that have arrived. You drain it. Its end is frozen, because only the bufferevent adds to it. libevent:
   * `bufferevent_get_input`.
   */
  get input(): EvBuffer {
    return this.#core.input;
  }

  /**
   * The bytes to send. You add to it. Its front is frozen, because only the bufferevent drains it. libevent:
   * `bufferevent_get_output`.
   */
  get output(): EvBuffer {
    return this.#core.output;
  }

  /**
   * Sets the callbacks; null for none. While a view is open (`lines()`, `readable`, …), they are not called; they are
   * called when it is over. libevent: `bufferevent_setcb`.
   *
   * @param cb The callbacks. The object is kept, not copied
   * @throws {TypeError} When a callback is not a function, or a plain object has a function with an unknown name
   */
  setCallbacks(cb: BufferEventCallbacks<this> | null): void {
    if (cb !== null) checkOnce(cb);
    const core = this.#core;
    core.live("set callbacks");
    if (core.closing === null) core.setCallbacks(cb as BufferEventCallbacks<Face> | null);
  }

  /** The callbacks that are set. libevent: `bufferevent_getcb`. */
  getCallbacks(): BufferEventCallbacks<this> | null {
    return this.#core.callbacks as BufferEventCallbacks<this> | null;
  }

  /**
   * Enables a direction, or both. Writing is enabled from the start.
   *
   * Enabling writing with nothing to send gives one write callback, when the connection is writable. Enabling reading
   * while input waits gives no callback; `trigger()` does. After an end of file or an error, enabling reports it again.
   *
   * libevent: `bufferevent_enable`.
   *
   * @param what `EV_READ`, `EV_WRITE` or both
   * @throws {RangeError} For other flags
   * @throws {EventError} `EV_FREED` after `free()`
   */
  enable(what: number): void {
    checkDirections("enable a bufferevent", what);
    this.#core.enable(what);
  }

  /**
   * Disables a direction, or both. Output waits, and so do the peer's bytes, with a bound. libevent:
   * `bufferevent_disable`.
   *
   * @param what `EV_READ`, `EV_WRITE` or both
   * @throws {RangeError} For other flags
   */
  disable(what: number): void {
    checkDirections("disable a bufferevent", what);
    this.#core.disable(what);
  }

  /** The directions that are enabled. libevent: `bufferevent_get_enabled`. */
  get enabled(): number {
    return this.#core.enabled;
  }

  /**
   * Sets watermarks, in bytes.
   *
   * Reading: the read callback is called when the input has at least `low` bytes. At `high` bytes, reading is suspended
   * and the peer must wait; draining the input below `high` resumes reading. A `high` of 0 means no limit.
   *
   * Writing: the write callback is called when the output has drained to `low` bytes. From `high` bytes of output on,
   * `write()` returns false, until the output has drained to `low`. With a `high` of 0 it returns false from 64 KiB on.
   * On a bufferevent under a filter, `high` also limits how much the filter moves into its output.
   *
   * libevent: `bufferevent_setwatermark`.
   *
   * @param what `EV_READ`, `EV_WRITE` or both
   * @param low The low watermark
   * @param high The high watermark
   * @throws {RangeError} For other flags, or a watermark that is not a count of bytes
   */
  setWatermark(what: number, low: number, high: number): void {
    checkDirections("set a watermark", what);
    checkCount("set a watermark", "low", low);
    checkCount("set a watermark", "high", high);
    this.#core.live("set a watermark");
    this.#core.setWatermark(what, low, high);
  }

  /**
   * Returns the watermarks of one direction. libevent: `bufferevent_getwatermark`.
   *
   * @param what `EV_READ` or `EV_WRITE`
   * @returns Both, in bytes
   * @throws {RangeError} For both directions, or others
   */
  getWatermark(what: number): Watermarks {
    const core = this.#core;
    if (what === EV_READ) return { low: core.readLow, high: core.readHigh };
    if (what === EV_WRITE) return { low: core.writeLow, high: core.writeHigh };
    throw outOfRange("get a watermark", "the direction is not EV_READ or EV_WRITE", what);
  }

  /**
   * How many bytes have come to the input in all. On a socket bytes that wait to be read do not count yet; with TLS it is
   * plain bytes; on a filter it is what the filter has made. It stays when the connection has ended, and after `free()`.
   */
  get bytesRead(): number {
    return this.#core.bytesRead;
  }

  /**
   * How many bytes have left the output in all. On a socket the runtime has taken them, and may still have to send them;
   * with TLS it is plain bytes; on a filter it is what the filter has taken. It stays after `free()`.
   */
  get bytesWritten(): number {
    return this.#core.bytesWritten;
  }

  /**
   * Sets timeouts, from now on; null or 0 for none. libevent: `bufferevent_set_timeouts`.
   *
   * The read timeout passes if nothing arrives for `readMs` while reading is enabled and not suspended. The write
   * timeout passes if output waits and nothing of it leaves for `writeMs`, or if a connection is not made in that time.
   * The direction is then disabled, and the event callback gets `BEV_EVENT_TIMEOUT`. If your program was busy until a
   * timeout had passed, bytes that came in time still count: the runtime is polled first. The timeouts of a
   * `SocketBufferEvent` run without a socket too.
   *
   * @param readMs Milliseconds, or null
   * @param writeMs Milliseconds, or null
   * @throws {RangeError} When negative or not finite
   */
  setTimeouts(readMs: number | null, writeMs: number | null): void {
    const read = durationOf("set timeouts", "readMs", readMs);
    const write = durationOf("set timeouts", "writeMs", writeMs);
    const core = this.#core;
    core.live("set timeouts");
    core.setTimeouts(read, write);
  }

  /**
   * Sets the idle timeout, from now on; null or 0 for none. It passes if nothing arrives and nothing leaves. Both
   * directions are then disabled, and the event callback gets `BEV_EVENT_READING | BEV_EVENT_WRITING |
   * BEV_EVENT_TIMEOUT` with the code `ETIMEDOUT`. Enabling a direction starts it anew. Output that only waits does not
   * restart it; output that leaves does.
   *
   * @param ms Milliseconds, or null
   * @throws {RangeError} When negative or not finite
   */
  setIdleTimeout(ms: number | null): void {
    const idle = durationOf("set the idle timeout", "it", ms);
    this.#core.live("set the idle timeout");
    this.#core.setIdleTimeout(idle);
  }

  /**
   * Appends bytes to the output; they leave at the end of the turn. The bytes are copied. libevent:
   * `bufferevent_write`.
   *
   * If you stop when it returns false, memory stays bounded whatever the peer does. If you do not, `maxOutputBytes` is
   * the limit.
   *
   * @param data Bytes, or text that is sent as UTF-8
   * @returns True to go on. False to stop until the write callback, which follows when the output has drained: the
   * output has reached its high watermark, or `maxOutputBytes` (then nothing of `data` is queued, and the event
   * callback is called). It also returns false, and queues nothing, if a connection of `serve()` or `connect()` is over
   * or is being closed and its `close` callback has not been called yet
   * @throws {EventError} `EV_FREED` after `free()`, `EPIPE` after `shutdown()` and `close()`
   */
  write(data: Uint8Array | string): boolean {
    const core = this.#core;
    if (core.freed || core.finishing) return refuseWrite(core, "write");
    const { output } = core;
    if (output.length >= core.maxOutput) {
      core.refuseOutput(typeof data === "string" ? utf8Length(data) : checkData("write", "the data", data).length);
      return false;
    }
    output.add(data);
    return !core.full;
  }

  /**
   * Moves all of a buffer to the output; nothing is copied. libevent: `bufferevent_write_buffer`.
   *
   * @param src The bytes to send; empty afterwards, unless nothing was queued
   * @returns As `write()`
   * @throws {EventError} As `write()`; `EV_FROZEN` when the front of `src` is frozen
   */
  writeBuffer(src: EvBuffer): boolean {
    const core = this.#core;
    if (core.freed || core.finishing) return refuseWrite(core, "write a buffer");
    const { output } = core;
    if (output.length >= core.maxOutput) {
      checkEvBuffer("write a buffer", src);
      if (src.length > 0) {
        core.refuseOutput(src.length);
        return false;
      }
    }
    output.addBuffer(src);
    return !core.full;
  }

  /**
   * Appends a frame to the output, as a codec writes it. What stands at `write()` about limits holds here too.
   *
   * A codec that throws has written nothing: a part of a frame never leaves.
   *
   * @param codec The codec, such as `jsonLines()`
   * @param value The frame; where frames are bytes, also a text that means UTF-8
   * @returns As `write()`
   * @throws {TypeError} When the codec is none, or for a value that it can't write
   * @throws {RangeError} For a frame that is too long, or that can't be told apart
   * @throws {EventError} As `write()`
   *
   * @example
   * ```ts
   * import { bufferEventPair, EventBase, jsonLines } from "trivent";
   *
   * const base = new EventBase();
   * const [near, far] = bufferEventPair(base);
   * const codec = jsonLines<{ id: number }>();
   * far.writeFrame(codec, { id: 7 });
   * far.shutdown();
   * const done = base.dispatch();
   * for await (const { id } of near.frames(codec)) {
   *   if (id !== 7) throw new Error(`${id}`);
   * }
   * await done;
   * ```
   */
  writeFrame<T = Uint8Array>(codec: FrameCodec<T>, value: FrameInput<T>): boolean {
    const core = this.#core;
    if (core.freed || core.finishing) return refuseWrite(core, "write a frame");
    return writeFrame(core, codec, value);
  }

  /**
   * Waits until `write()` would return true: `if (!bev.write(data)) await bev.drained();`.
   *
   * It resolves at once if `write()` would return true now. Otherwise it resolves when the output has drained to the
   * low watermark of writing, or is empty if there is no high watermark.
   *
   * @param options `signal`: aborting it rejects the promise with the reason
   * @throws {EventError} The error that ended the connection; `EV_FREED` when it was freed or is being closed
   *
   * @example
   * ```ts
   * import { bufferEventPair, EventBase } from "trivent";
   * const base = new EventBase();
   * const [near, far] = bufferEventPair(base);
   * const done = base.dispatch();
   * let received = 0;
   * const reading = (async () => {
   *   for await (const chunk of far) received += chunk.length;
   * })();
   * for (let i = 0; i < 100; i++) {
   *   if (!near.write(new Uint8Array(10_000))) await near.drained();
   * }
   * near.shutdown();
   * await reading;
   * near.free();
   * far.free();
   * await done;
   * if (received !== 1_000_000) throw new Error(`${received}`);
   * ```
   */
  drained(options: { signal?: AbortSignalLike | undefined } = {}): Promise<void> {
    const doing = "wait for the output to drain";
    const { signal } = readOptions(doing, options, DRAINED_OPTIONS);
    return this.#core.drained(checkSignal(doing, signal));
  }

  /**
   * A signal that is aborted when the connection is over: it has failed, is being closed, or was freed. Give it to
   * other things that a handler awaits: `await fetch(url, { signal: bev.signal })`. Its reason is an `EventError`.
   *
   * @throws {EventError} `EV_UNSUPPORTED` if the runtime has no `AbortController`
   */
  get signal(): HostAbortSignal {
    return this.#core.signal;
  }

  /**
   * The hard limit of the output, in bytes: 64 MiB unless set, 16 MiB on connections of `serve()` and `connect()`. If
   * the output has reached it, `write()` and `writeBuffer()` queue nothing and return false. A single write below the
   * limit is taken whole, however large it is. The event callback gets `BEV_EVENT_WRITING | BEV_EVENT_ERROR` with the
   * code `ENOBUFS`, once until the output has drained to the low watermark of writing. Nothing is disabled, and queued
   * bytes are sent.
   *
   * Bytes that you add to `output` directly are not checked. Setting it below the present length drops nothing.
   *
   * Setting it to anything but a positive integer or Infinity throws a RangeError.
   */
  get maxOutputBytes(): number {
    return this.#core.maxOutput;
  }

  set maxOutputBytes(bytes: number) {
    if (bytes !== Infinity && !(Number.isInteger(bytes) && bytes >= 1)) {
      throw outOfRange("set maxOutputBytes", "it is not a positive count of bytes or Infinity", bytes);
    }
    this.#core.setMaxOutput(bytes);
  }

  /**
   * Takes bytes from the input. The bytes are copied. libevent: `bufferevent_read`.
   *
   * @param into Where to put them
   * @returns The number of bytes, 0 for none
   */
  read(into: Uint8Array): number {
    return this.#core.freed ? 0 : this.#core.input.remove(into);
  }

  /**
   * Moves all of the input to a buffer; nothing is copied. libevent: `bufferevent_read_buffer`.
   *
   * @param dst Gets the bytes at its end
   */
  readBuffer(dst: EvBuffer): void {
    checkEvBuffer("read a buffer", dst);
    if (!this.#core.freed) dst.addBuffer(this.#core.input);
  }

  /**
   * Pushes bytes through pairs and filters. On a socket it does nothing, because output leaves by itself.
   *
   * libevent: `bufferevent_flush`.
   *
   * @param what `EV_READ`, `EV_WRITE` or both
   * @param mode `BEV_NORMAL`, `BEV_FLUSH` or `BEV_FINISHED`
   */
  flush(what: number, mode: number): void {
    checkDirections("flush a bufferevent", what);
    if (mode !== 0 && mode !== 1 && mode !== 2) {
      throw outOfRange("flush a bufferevent", "unknown mode", mode);
    }
    this.#core.flush(what, mode);
  }

  /**
   * Makes the loop call the read or write callback, if the watermarks allow it. libevent: `bufferevent_trigger`.
   *
   * @param what `EV_READ`, `EV_WRITE` or both
   * @param options `BEV_TRIG_IGNORE_WATERMARKS`
   */
  trigger(what: number, options: number = 0): void {
    checkDirections("trigger a bufferevent", what);
    checkFlags("trigger a bufferevent", options, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
    this.#core.trigger(what, options);
  }

  /**
   * Makes the loop call the event callback. libevent: `bufferevent_trigger_event`.
   *
   * @param what The `BEV_EVENT_` bits that it gets
   * @param _options Accepted as in C; the callback always runs from the loop
   */
  triggerEvent(what: number, _options: number = 0): void {
    checkInteger("trigger an event", "what", what);
    this.#core.triggerEvent(what);
  }

  /** Sets how many bytes one read takes at most; 0 for the default, 16384. libevent: `bufferevent_set_max_single_read`. */
  setMaxSingleRead(n: number): void {
    checkCount("set the largest read", "it", n);
    this.#core.setMaxSingle(n === 0 ? DEFAULT_MAX_SINGLE : n, this.#core.maxSingleWrite);
  }

  /** Sets how many bytes one write takes at most; 0 for the default: as much as the transport takes. libevent: `bufferevent_set_max_single_write`. */
  setMaxSingleWrite(n: number): void {
    checkCount("set the largest write", "it", n);
    this.#core.setMaxSingle(this.#core.maxSingleRead, n);
  }

  /**
   * Limits the rate of bytes, from now on. Another limit cuts the bytes that are left in this tick at the new burst,
   * and never raises them. A direction without bytes left goes on at a tick.
   *
   * Only bufferevents on sockets and in pairs can have limits.
   *
   * libevent: `bufferevent_set_rate_limit`.
   *
   * @param config The limits, null for none
   * @throws {TypeError} When `config` is neither a configuration nor null
   * @throws {EventError} `EV_UNSUPPORTED` on a filter: limit the bufferevent under it; `EV_FREED` after `free()`
   */
  setRateLimit(config: TokenBucketConfig | null): void {
    if (config !== null) checkConfig(config);
    this.#core.live("set a rate limit");
    if (config !== null) this.#rate("set a rate limit").setConfig(config);
    else this.#core.rate?.setConfig(null);
  }

  /** Its own limits, or null. libevent: `bufferevent_get_token_bucket_cfg`. */
  get tokenBucketConfig(): TokenBucketConfig | null {
    return this.#core.rate?.bucket?.config ?? null;
  }

  /**
   * Joins a group that shares a rate limit, and leaves its present group. It can also have its own limits.
   *
   * libevent: `bufferevent_add_to_rate_limit_group`.
   *
   * @param group The group
   * @throws {EventError} `EV_UNSUPPORTED` on a filter; `EV_FREED` when the group or the bufferevent was freed
   */
  joinRateLimitGroup(group: RateLimitGroup): void {
    this.#core.live("join a rate limit group");
    const theirs = groupCoreOf(group);
    this.#rate("join a rate limit group").join(theirs);
  }

  /** Leaves its group, if it is in one. libevent: `bufferevent_remove_from_rate_limit_group`. */
  leaveRateLimitGroup(): void {
    this.#core.rate?.leave();
  }

  #rate(doing: string): RateLimits {
    const core = this.#core;
    if (!core.limitable) {
      const message = `Cannot ${doing}: a filter has no rate limits, the bufferevent under it can`;
      throw new EventError(message, { code: "EV_UNSUPPORTED" });
    }
    // Whoever sets a limit has made a configuration.
    return core.rate ??= makeRateLimits!(core);
  }

  /**
   * How many bytes its own limit allows to read in this tick; 0 or less for none, `EV_RATE_LIMIT_MAX` without a limit.
   * libevent: `bufferevent_get_read_limit`.
   */
  get readLimit(): number {
    return this.#core.rate?.level(EV_READ) ?? EV_RATE_LIMIT_MAX;
  }

  /** As `readLimit`, for writing. libevent: `bufferevent_get_write_limit`. */
  get writeLimit(): number {
    return this.#core.rate?.level(EV_WRITE) ?? EV_RATE_LIMIT_MAX;
  }

  /**
   * How many bytes one read takes now: the smallest of its largest read, its own limit and its share of the group's
   * limit. libevent: `bufferevent_get_max_to_read`.
   */
  get maxToRead(): number {
    const { maxSingleRead, rate } = this.#core;
    return rate === null ? maxSingleRead : rate.allowance(EV_READ, maxSingleRead);
  }

  /**
   * How many bytes one write takes now. Without limits that is 16384, as in libevent, although a write then takes all that the
   * runtime takes.
   * libevent: `bufferevent_get_max_to_write`.
   */
  get maxToWrite(): number {
    const { maxSingleWrite, rate } = this.#core;
    const most = maxSingleWrite > 0 ? maxSingleWrite : DEFAULT_MAX_SINGLE;
    return rate === null ? most : rate.allowance(EV_WRITE, most);
  }

  /**
   * Takes bytes from its own read limit, as if they had been read. The level may become negative; then several ticks
   * pass before anything is read. libevent: `bufferevent_decrement_read_limit`.
   *
   * @param bytes How many; a negative number gives bytes, also beyond the burst until the next tick
   * @throws {RangeError} When it is not an integer
   * @throws {EventError} `EV_UNSUPPORTED` when it has no limit of its own
   */
  decrementReadLimit(bytes: number): void {
    this.#decrement(EV_READ, bytes);
  }

  /**
   * Takes bytes from its own write limit, as `decrementReadLimit` does for reading. libevent:
   * `bufferevent_decrement_write_limit`.
   *
   * @param bytes How many; a negative number gives bytes
   * @throws {RangeError} When it is not an integer
   * @throws {EventError} `EV_UNSUPPORTED` when it has no limit of its own
   */
  decrementWriteLimit(bytes: number): void {
    this.#decrement(EV_WRITE, bytes);
  }

  #decrement(what: number, bytes: number): void {
    checkDecrement(bytes);
    this.#core.live("decrement a rate limit");
    const { rate } = this.#core;
    if (rate === null || rate.bucket === null) {
      throw new EventError("Cannot decrement a rate limit: the bufferevent has none", { code: "EV_UNSUPPORTED" });
    }
    rate.decrement(rate.bucket, what, bytes);
  }

  /**
   * The priority of its events; 0 is the most urgent. libevent: `bufferevent_get_priority`, `bufferevent_priority_set`.
   */
  get priority(): number {
    return this.#core.priority;
  }

  /** Sets the priority. Throws `EV_ACTIVE` while its events are active, and a RangeError when the base has no such priority. */
  set priority(priority: number) {
    const { loop } = this.#core;
    if (!Number.isInteger(priority) || priority < 0 || priority >= loop.queues.length) {
      throw outOfRange("set the priority", `the priority is not between 0 and ${loop.queues.length - 1}`, priority);
    }
    this.#core.setPriority(priority);
  }

  /**
   * A view of the bytes, in pieces as they arrive: `for await (const chunk of bev)`. A chunk belongs to you and does
   * not change. The rules at `lines()` about the end, errors, leaving and waiting hold here too.
   *
   * @returns The view; it opens with the first `next()`
   *
   * @example
   * ```ts
   * import { bufferEventPair, EventBase } from "trivent";
   * const base = new EventBase();
   * const [near, far] = bufferEventPair(base);
   * far.write("hello");
   * far.shutdown();
   * const done = base.dispatch();
   * let text = "";
   * for await (const chunk of near) text += new TextDecoder().decode(chunk);
   * await done;
   * if (text !== "hello") throw new Error(text);
   * ```
   */
  [Symbol.asyncIterator](): View<Uint8Array> {
    return viewChunks(this.#core);
  }

  /**
   * A view of the lines: `for await (const line of bev.lines())`.
   *
   * A view opens with the first `next()`. It is over when it has ended or you leave it. While it is open, it replaces
   * the read and event callbacks, and reading is enabled. The high watermark of reading holds, 64 KiB if none is set:
   * if you do not ask, the peer must wait. The watermark rises while a single line needs it, up to `maxBytes`. An open
   * view keeps `dispatch()` running.
   *
   * - The end of file ends it. A last line without a terminator comes before that.
   * - An error or a timeout rejects with the `EventError`, after all lines before it.
   * - Leaving it (`break`, `return`, an exception of yours) loses nothing: the bytes that it has not returned stay in
   *   `input`, and your callbacks are called again. If reading was enabled before, it still is, and they are called for
   *   the input that waits.
   * - `close()` ends it at once; after `free()` and `reset()` it rejects with `EV_FREED`.
   * - `EV_LINE_TOO_LONG` rejects and takes nothing.
   *
   * Only one of `readable`, `lines()`, `frames()` and the bufferevent itself can be open at a time: another rejects
   * with `EV_BUSY`. Each `next()` costs a promise; `batches()` of the view returns all lines that are there with one
   * promise.
   *
   * libevent: `evbuffer_readln` in a read callback.
   *
   * @param options The line end, the limit, and a signal that ends the view with its reason; `text` gives strings
   * @returns The view
   * @throws {TypeError} When an option has the wrong type
   * @throws {RangeError} When an option is out of range
   *
   * @example
   * ```ts
   * import { serve } from "trivent";
   * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
   *   async open(bev) {
   *     await using connection = bev;
   *     for await (const line of connection.lines({ maxBytes: 1000, text: true })) {
   *       if (line === "QUIT") break;
   *       connection.write(`${line.toUpperCase()}!`);
   *     }
   *   },
   * });
   * await server.close();
   * ```
   */
  lines(options: LineViewOptions & { text: true }): View<string>;
  /** As above, with lines as bytes. */
  lines(options?: LineViewOptions & { text?: false | undefined }): View<Uint8Array>;
  /** As above, with lines as bytes or strings, if that is decided at run time. */
  lines(options: LineViewOptions): View<Uint8Array> | View<string>;
  lines(options: LineViewOptions = {}): View<Uint8Array> | View<string> {
    return viewLines(this.#core, options);
  }

  /**
   * A view of the frames that a codec decodes. The rules at `lines()` hold here too. At the end of file the codec may
   * take the rest (`decodeEnd`). Otherwise the view rejects with `EV_FRAME_TRUNCATED`, and the rest stays in `input`.
   *
   * If a codec refuses a frame that it has taken, as `jsonLines()` does for bad JSON, `next()` rejects with
   * `EV_FRAME_INVALID`. The view is left then; the next call of `next()` opens it again behind that frame.
   *
   * @param codec The codec, such as `lengthPrefixed({ prefixBytes: 4 })`
   * @param options A signal, and a limit for codecs of your own: `EV_FRAME_TOO_LONG` when more bytes wait and are not a
   * whole frame. If such a codec throws, the view rejects with `EV_FRAME_INVALID`, and the exception is the cause
   * @returns The view
   * @throws {TypeError} When `codec` is not a codec
   */
  frames<T = Uint8Array>(codec: FrameCodec<T>, options: FrameViewOptions = {}): View<T> {
    return viewFrames(this.#core, codec, options);
  }

  /**
   * The bytes that arrive, as a web stream. It holds no chunk itself: it takes nothing before a read asks for it. From
   * the first read until it ends or is cancelled, it is the open view; the rules at `lines()` hold here too. If it has
   * a reader, it also gets an end of the peer that comes before the first read.
   *
   * Cancelling it is leaving a view: unread bytes stay in `input`, written bytes are sent, and the connection goes on.
   * Afterwards this property is another stream. If you have also finished writing, and have neither a `read` nor a
   * `line` callback, a connection of `serve()`, `connect()` or `reconnect()` closes, unless you open another view at
   * once; unread bytes are dropped.
   *
   * `closed` of its reader settles at every end of the connection, at the latest when the bufferevent is freed.
   *
   * @throws {EventError} `EV_UNSUPPORTED` if the runtime has no `ReadableStream`
   */
  get readable(): ByteReadableStream {
    return readableOf(this.#core);
  }

  /**
   * The output, as a web stream of bytes or strings. A write waits while the output is at the high watermark of writing
   * (64 KiB if none is set), until it has drained to the low one. Bytes may be in any kind of view or buffer. Closing
   * it is `shutdown()`, and waits until all output has left.
   *
   * Aborting it ends and frees the connection at once, without waiting for the peer. Each chunk whose write has
   * resolved still leaves, for up to 30 s; the rest is dropped. The peer then sees a normal end, as after `destroy()`
   * of a `node:net` socket: only your protocol can tell that something is missing. If nothing was ever sent, the peer
   * sees a reset.
   *
   * `closed` and `ready` of its writer settle at every end of the connection. They and each write reject with the error
   * that ended the connection, with `EPIPE` after `close()`, or with `EV_FREED` after `free()`.
   *
   * @throws {EventError} `EV_UNSUPPORTED` if the runtime has no `WritableStream`
   */
  get writable(): ByteWritableStream {
    return writableOf(this.#core);
  }

  /**
   * Finishes our direction once the output has left; receiving goes on. Writing throws `EPIPE` from here on. A second
   * call does nothing.
   *
   * @throws {EventError} `EV_FREED` after `free()`
   */
  shutdown(): void {
    this.#core.shutdown();
  }

  /**
   * Ends the connection and loses nothing: it sends the output, finishes our direction, drops bytes that still arrive,
   * waits for the peer to finish, and frees. No callback is called any more. `dispatch()` keeps running meanwhile, but
   * is not needed.
   *
   * With filters above it, all of them are closed, the topmost first, so that what waits in them is sent too.
   *
   * While connecting, or during a TLS handshake, it first waits for the connection, then sends the output. `timeoutMs`
   * of `connect()` or the write timeout bounds that. If nothing was written, the attempt is given up at once. A
   * bufferevent without a connection is freed at once.
   *
   * @param options `timeoutMs`: the time for all of this, after which the connection is reset; 30 s by default
   * @returns True if all output was delivered and the peer has finished, or if there was no connection and nothing to
   * send. False if the connection was reset or had failed. Every call returns the same promise
   *
   * A rate limit holds until the last byte of the output is sent. Give it a `timeoutMs` that is long enough for that
   * rate.
   * @throws {RangeError} When `timeoutMs` is negative or not finite
   */
  close(options?: { timeoutMs?: number | undefined }): Promise<boolean> {
    if (options === undefined) return this.#core.endGracefully(DEFAULT_CLOSE_TIMEOUT_MS);
    const { timeoutMs = DEFAULT_CLOSE_TIMEOUT_MS } = readOptions("close a bufferevent", options, CLOSE_OPTIONS);
    checkDuration("close a bufferevent", "timeoutMs", timeoutMs);
    return this.#core.endGracefully(timeoutMs);
  }

  /**
   * Ends at once: no callback is called any more, queued output is dropped, and with `BEV_OPT_CLOSE_ON_FREE` the socket
   * is closed. It may be called inside a callback. A second call does nothing. libevent: `bufferevent_free`.
   */
  free(): void {
    this.#core.free();
  }

  /** As `free()`. */
  [Symbol.dispose](): void {
    this.free();
  }

  /** As `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Checks the options of a new bufferevent. */
export function checkOptions(options: number): void {
  if (!Number.isInteger(options) || options < 0 || options > 15) {
    throw outOfRange("make a bufferevent", "unknown options", options);
  }
  if ((options & BEV_OPT_UNLOCK_CALLBACKS) !== 0 && (options & BEV_OPT_DEFER_CALLBACKS) === 0) {
    throw new RangeError("Cannot make a bufferevent: BEV_OPT_UNLOCK_CALLBACKS needs BEV_OPT_DEFER_CALLBACKS");
  }
}

/** Nothing can be written any more. Returns false if the call is not a mistake. */
function refuseWrite(core: BevCore, doing: string): false {
  // A server that gives a line to all its clients learns by `close` that one has gone. Until then an error would end the
  // handler, and with it the connection, of the client that the line is from.
  if ((core.freed || core.closing !== null) && core.owner?.closeTold === false) return false;
  core.live(doing);
  const error = new EventError(`Cannot ${doing}: the sending direction was finished`, {
    code: "EPIPE",
    syscall: "write",
  });
  // Who was not told yet that the connection is being closed has made no mistake.
  throw core.closing === null ? error : core.raised(error);
}

function checkDirections(doing: string, what: number): void {
  if (!Number.isInteger(what) || (what & (EV_READ | EV_WRITE)) === 0 || (what & ~(EV_READ | EV_WRITE)) !== 0) {
    throw outOfRange(doing, "the directions are not EV_READ, EV_WRITE or both", what);
  }
}

/** A duration, or null for none, which is 0. */
function durationOf(doing: string, what: string, ms: number | null): number {
  return ms === null ? 0 : checkDuration(doing, what, ms);
}

const DRAINED_OPTIONS: Names<{ signal?: AbortSignalLike | undefined }> = { signal: true };
const CLOSE_OPTIONS: Names<{ timeoutMs?: number | undefined }> = { timeoutMs: true };
const CALLBACKS: Names<BufferEventCallbacks<unknown>> = { read: true, write: true, event: true };

/** Callbacks whose names were checked: one object may serve very many connections. */
const checked: WeakSet<object> = /* @__PURE__ */ new WeakSet();

function checkOnce(cb: BufferEventCallbacks<never>): void {
  if (!checked.has(cb)) {
    checkCallbacks("set callbacks", cb, CALLBACKS);
    checked.add(cb);
    return;
  }
  checkCallback("read", cb.read);
  checkCallback("write", cb.write);
  checkCallback("event", cb.event);
}

function checkCallback(name: string, callback: unknown): void {
  if (callback !== undefined && callback !== null) checkFunction("set callbacks", name, callback);
}
