/** The public face of every bufferevent. */

import { checkFlags, checkFunction, checkInner, checkInteger, checkSignal, show } from "../checks.ts";
import { BEV_OPT_DEFER_CALLBACKS, BEV_OPT_UNLOCK_CALLBACKS, EV_READ, EV_WRITE } from "../flags.ts";
import { BEV_TRIG_DEFER_CALLBACKS, BEV_TRIG_IGNORE_WATERMARKS } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import { checkEvBuffer } from "../buffer/internal.ts";
import { checkData, utf8Length } from "../buffer/utf8.ts";
import type { EventBase } from "./event_base.ts";
import { checkCallbacks, type Names, readOptions } from "../names.ts";
import type { FrameCodec } from "../views/frames.ts";
import { type FrameViewOptions, type LineViewOptions, viewChunks, viewFrames, viewLines } from "../views/lenses.ts";
import type { View } from "../views/views.ts";
import { type ByteReadableStream, type ByteWritableStream, readableOf, writableOf } from "../views/web_streams.ts";
import type { AbortSignalLike } from "../runtime.ts";
import type { HostAbortSignal } from "../bufferevent/abort.ts";
import type { BufferEventCallbacks, Face } from "../bufferevent/callbacks.ts";
import { BevCore } from "../bufferevent/core.ts";
import { DEFAULT_MAX_SINGLE } from "../bufferevent/limits.ts";
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
  throw new TypeError(`Cannot use a bufferevent: not a BufferEvent: received ${show(bev)}`);
}

/** How long `close()` waits for the peer unless it is told. */
const CLOSE_TIMEOUT_MS = 30_000;

/**
 * A stream with an input buffer that fills and an output buffer that drains by themselves.
 *
 * Callbacks run in the loop of the base, never inside a call of yours. Written bytes leave at the end of the turn, so
 * that many small writes become one.
 *
 * libevent: `struct bufferevent`.
 */
export abstract class BufferEvent<Ctx = unknown> {
  readonly #core: BevCore;
  /** Whatever you want to find here in a callback; undefined at first. libevent: the `cbarg` of `bufferevent_setcb`. */
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

  /** What has arrived. Yours to drain; its end is frozen, since only the bufferevent adds to it. libevent: `bufferevent_get_input`. */
  get input(): EvBuffer {
    return this.#core.input;
  }

  /** What is to be sent. Yours to add to; its front is frozen, since only the bufferevent drains it. libevent: `bufferevent_get_output`. */
  get output(): EvBuffer {
    return this.#core.output;
  }

  /**
   * Sets what is called from now on, null for nothing; while a view is open (`lines()`, `readable`, …), what is called
   * when it is over. libevent: `bufferevent_setcb`.
   *
   * @param cb The callbacks; the object is kept, not copied
   * @throws {TypeError} When a callback is not a function, and when a plain object has a function by another name
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
   * Lets bytes flow in a direction, or both. Writing is enabled from the start.
   *
   * Enabling writing with nothing to send gives one write callback, when the transport is writable. Enabling reading
   * with input waiting gives none: `trigger()` does. After an end of file or an error it tells that again.
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
   * Stops the flow in a direction, or both; output waits, and so does what the peer sends, bounded. libevent: `bufferevent_disable`.
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
   * Reading: the callback comes with at least `low` bytes of input; at `high` reading is suspended, so that the peer has
   * to wait, and goes on when the input was drained below it; 0 is no limit. Writing: the callback comes when the output
   * has drained to `low`; from `high` bytes of output on `write()` gives false, until the output has drained to `low`. With
   * a `high` of 0 it gives false at 64 KiB and more. On what is under a filter it limits what the filter moves.
   *
   * libevent: `bufferevent_setwatermark`.
   *
   * @param what `EV_READ`, `EV_WRITE` or both
   * @param low The low watermark
   * @param high The high watermark
   * @throws {RangeError} For other flags, or what is no count
   */
  setWatermark(what: number, low: number, high: number): void {
    checkDirections("set a watermark", what);
    checkCount("set a watermark: low", low);
    checkCount("set a watermark: high", high);
    this.#core.live("set a watermark");
    this.#core.setWatermark(what, low, high);
  }

  /**
   * Gives the watermarks of one direction. libevent: `bufferevent_getwatermark`.
   *
   * @param what `EV_READ` or `EV_WRITE`
   * @returns Both, in bytes
   * @throws {RangeError} For both directions, or others
   */
  getWatermark(what: number): Watermarks {
    const core = this.#core;
    if (what === EV_READ) return { low: core.readLow, high: core.readHigh };
    if (what === EV_WRITE) return { low: core.writeLow, high: core.writeHigh };
    throw new RangeError(`Cannot get a watermark: not one direction: received ${show(what)}`);
  }

  /**
   * Sets timeouts, from now on; null or 0 for none. libevent: `bufferevent_set_timeouts`.
   *
   * Reading times out when nothing has arrived for so long while it is enabled and not suspended; writing when output
   * waits and none of it could be sent for so long, or the connection is not there in time. That direction is then
   * disabled, and the event callback gets `BEV_EVENT_TIMEOUT`. If your program was busy until the time had passed, what came
   * in time still counts: the host is polled first. A socket's bufferevent without a socket times out, too.
   *
   * @param readMs Milliseconds, or null
   * @param writeMs Milliseconds, or null
   * @throws {RangeError} When negative or not finite
   */
  setTimeouts(readMs: number | null, writeMs: number | null): void {
    const read = checkDuration("set timeouts: readMs", readMs);
    const write = checkDuration("set timeouts: writeMs", writeMs);
    const core = this.#core;
    core.live("set timeouts");
    core.setTimeouts(read, write);
  }

  /**
   * Sets how long nothing may arrive and nothing leave, from now on; null or 0 for ever. Both directions are then
   * disabled, and the event callback gets `BEV_EVENT_READING | BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT` with the code
   * `ETIMEDOUT`; it counts anew when a direction is enabled. Output that waits is no sign of life: what counts is that some
   * of it leaves.
   *
   * @param ms Milliseconds, or null
   * @throws {RangeError} When negative or not finite
   */
  setIdleTimeout(ms: number | null): void {
    const idle = checkDuration("set the idle timeout", ms);
    this.#core.live("set the idle timeout");
    this.#core.setIdleTimeout(idle);
  }

  /**
   * Appends bytes to the output; they leave at the end of the turn. The bytes are copied. libevent: `bufferevent_write`.
   *
   * Heed what it returns, and memory stays bounded whatever the peer does. Who does not is stopped by `maxOutputBytes`.
   *
   * @param data Bytes, or text that is sent as UTF-8
   * @returns True: go on. False: stop until the write callback, which follows when the output has drained: there is as
   * much output as the high watermark of writing says, or there was no room (then nothing of `data` is queued, and the
   * event callback is told). Also false, with nothing queued: a connection of `serve()` or `connect()` is over, or
   * is being closed, and its `close` callback has not been called yet
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
   * @param src What to send; empty afterwards, but where there was no room
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
   * Waits until there is room for more output: `if (!bev.write(data)) await bev.drained();`.
   *
   * It resolves at once while `write()` would give true, else when the output has drained to the low watermark of
   * writing; without a high watermark, when it is empty.
   *
   * @param options `signal`: aborting it ends the wait, which rejects with the reason
   * @throws {EventError} What the connection has ended with; `EV_FREED` when it was freed or is being closed
   *
   * @example
   * ```ts
   * import { bufferEventPair, EventBase } from "trivent";
   *
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
   * Aborted when the connection is over: it has failed, is being closed, or was freed. For what a handler waits for
   * besides: `await fetch(url, { signal: bev.signal })`. Its reason is the `EventError` that says why.
   *
   * @throws {EventError} `EV_UNSUPPORTED` where the host has no `AbortController`
   */
  get signal(): HostAbortSignal {
    return this.#core.signal;
  }

  /**
   * The last bound of the output, in bytes: 64 MiB unless set, 16 MiB on connections of `serve()` and `connect()`. With
   * so much queued already, `write()` and `writeBuffer()` queue nothing and return false: the bytes stay the caller's. A
   * single write is taken whole, however large. The event callback gets `BEV_EVENT_WRITING | BEV_EVENT_ERROR` with the
   * code `ENOBUFS` in the turn, once until the output has drained to the low watermark of writing; nothing is disabled,
   * and what is queued is sent.
   *
   * What is added to `output` directly is not checked. Set lower than what is queued, it drops nothing.
   *
   * Setting it throws a RangeError when it is neither a positive integer nor Infinity.
   */
  get maxOutputBytes(): number {
    return this.#core.maxOutput;
  }

  set maxOutputBytes(bytes: number) {
    if (bytes !== Infinity && !(Number.isInteger(bytes) && bytes >= 1)) {
      throw new RangeError(
        `Cannot set maxOutputBytes: not a positive count of bytes or Infinity: received ${show(bytes)}`,
      );
    }
    this.#core.setMaxOutput(bytes);
  }

  /**
   * Takes bytes from the input. The bytes are copied. libevent: `bufferevent_read`.
   *
   * @param into Where to put them
   * @returns How many there were, 0 for none
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
   * Pushes bytes through the layers: pairs and filters. A socket's bufferevent does not need it, and does nothing.
   *
   * libevent: `bufferevent_flush`.
   *
   * @param what `EV_READ`, `EV_WRITE` or both
   * @param mode `BEV_NORMAL`, `BEV_FLUSH` or `BEV_FINISHED`
   */
  flush(what: number, mode: number): void {
    checkDirections("flush a bufferevent", what);
    if (mode !== 0 && mode !== 1 && mode !== 2) {
      throw new RangeError(`Cannot flush a bufferevent: unknown mode: received ${show(mode)}`);
    }
    this.#core.flush(what, mode);
  }

  /**
   * Lets the read or write callback run in the loop, if the watermarks allow. libevent: `bufferevent_trigger`.
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
   * Lets the event callback run in the loop. libevent: `bufferevent_trigger_event`.
   *
   * @param what The `BEV_EVENT_` bits that it gets
   * @param _options Accepted as in C; it always runs from the loop
   */
  triggerEvent(what: number, _options: number = 0): void {
    checkInteger("trigger an event", "what", what);
    this.#core.triggerEvent(what);
  }

  /** Sets how many bytes one read takes at most; 0 for the default, 16384. libevent: `bufferevent_set_max_single_read`. */
  setMaxSingleRead(n: number): void {
    checkCount("set the largest read", n);
    this.#core.setMaxSingle(n === 0 ? DEFAULT_MAX_SINGLE : n, this.#core.maxSingleWrite);
  }

  /** Sets how many bytes one write takes at most; 0 for the default: as much as the transport takes. libevent: `bufferevent_set_max_single_write`. */
  setMaxSingleWrite(n: number): void {
    checkCount("set the largest write", n);
    this.#core.setMaxSingle(this.#core.maxSingleRead, n);
  }

  /**
   * Limits how fast bytes flow, from now on. A limit that is changed cuts what is left in this tick at the new burst,
   * and never raises it. A direction whose bytes are used up goes on at a tick.
   *
   * Bufferevents of sockets and pairs can have limits; a filter moves what those under it move.
   *
   * libevent: `bufferevent_set_rate_limit`.
   *
   * @param config The limits, null for none
   * @throws {TypeError} When `config` is neither
   * @throws {EventError} `EV_UNSUPPORTED` on a filter: limit the bufferevent under it; `EV_FREED` after `free()`
   */
  setRateLimit(config: TokenBucketConfig | null): void {
    if (config !== null) checkConfig(config);
    this.#core.live("set a rate limit");
    if (config !== null) this.#rate("set a rate limit").setConfig(config);
    else this.#core.rate?.setConfig(null);
  }

  /** The limits of its own that are set, or null. libevent: `bufferevent_get_token_bucket_cfg`. */
  get tokenBucketConfig(): TokenBucketConfig | null {
    return this.#core.rate?.bucket?.config ?? null;
  }

  /**
   * Joins a group that shares a rate limit, and leaves the one that it was in. It can have limits of its own besides.
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

  /** Leaves the group that it is in, if any. libevent: `bufferevent_remove_from_rate_limit_group`. */
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
   * How many bytes its own limit allows to read in this tick: not positive when none, `EV_RATE_LIMIT_MAX` without a
   * limit. libevent: `bufferevent_get_read_limit`.
   */
  get readLimit(): number {
    return this.#core.rate?.level(EV_READ) ?? EV_RATE_LIMIT_MAX;
  }

  /** As `readLimit`, for writing. libevent: `bufferevent_get_write_limit`. */
  get writeLimit(): number {
    return this.#core.rate?.level(EV_WRITE) ?? EV_RATE_LIMIT_MAX;
  }

  /** How many bytes it reads at once now: the least of its largest read, its limit and its share of a group's. libevent: `bufferevent_get_max_to_read`. */
  get maxToRead(): number {
    const { maxSingleRead, rate } = this.#core;
    return rate === null ? maxSingleRead : rate.allowance(EV_READ, maxSingleRead);
  }

  /** How many bytes it writes at once now. Without limits that is a step of 16384 by default, and the next follows at once. libevent: `bufferevent_get_max_to_write`. */
  get maxToWrite(): number {
    const { maxSingleWrite, rate } = this.#core;
    const most = maxSingleWrite > 0 ? maxSingleWrite : DEFAULT_MAX_SINGLE;
    return rate === null ? most : rate.allowance(EV_WRITE, most);
  }

  /**
   * Takes bytes from what its own limit allows to read, as if they had been read. The level may become negative, so that
   * several ticks pass before something is read again. libevent: `bufferevent_decrement_read_limit`.
   *
   * @param bytes How many; negative to give some, beyond the burst if need be until the next tick
   * @throws {RangeError} When it is no integer
   * @throws {EventError} `EV_UNSUPPORTED` when it has no limit of its own
   */
  decrementReadLimit(bytes: number): void {
    this.#decrement(EV_READ, bytes);
  }

  /**
   * Takes bytes from what its own limit allows to write, as `decrementReadLimit`. libevent: `bufferevent_decrement_write_limit`.
   *
   * @param bytes How many; negative to give some
   * @throws {RangeError} When it is no integer
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

  /** The priority of its events, 0 the most urgent. libevent: `bufferevent_get_priority`, `bufferevent_priority_set`. */
  get priority(): number {
    return this.#core.priority;
  }

  /** Sets the priority. Throws `EV_ACTIVE` while its events are active, and a RangeError when the base has no such priority. */
  set priority(priority: number) {
    const { loop } = this.#core;
    if (!Number.isInteger(priority) || priority < 0 || priority >= loop.queues.length) {
      throw new RangeError(
        `Cannot set the priority: not between 0 and ${loop.queues.length - 1}: received ${show(priority)}`,
      );
    }
    this.#core.setPriority(priority);
  }

  /**
   * The bytes that arrive, in pieces as they come: `for await (const chunk of bev)`. A chunk is yours, and stays what it
   * is. What stands at `lines()` about the end, errors, leaving and waiting holds here too.
   *
   * @returns The view, which opens when the first chunk is asked for
   *
   * @example
   * ```ts
   * import { bufferEventPair, EventBase } from "trivent";
   *
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
   * The lines that arrive: `for await (const line of bev.lines())`.
   *
   * A view opens when it is asked for the first time, and is over when it has ended or is left. While it is open it has
   * the read and event callbacks, reading is enabled, and the high watermark of reading, 64 KiB where none is set, holds:
   * who does not ask makes the peer wait. The watermark rises while a single line needs it, up to `maxBytes`. `dispatch()`
   * goes on as long as a view is open.
   *
   * - The end of file ends it. A last line without a terminator is given before.
   * - An error or a timeout rejects with the `EventError`, after all lines that came before.
   * - Leaving it (`break`, `return`, an error of yours) loses nothing: what was not given stays in `input`, and the
   *   callbacks that were set are back. If reading was enabled before, it still is, and they are told what waits.
   * - `close()` ends it at once; after `free()` and `reset()` it rejects with `EV_FREED`.
   * - `EV_LINE_TOO_LONG` rejects and takes nothing.
   *
   * One view of `readable`, `lines()`, `frames()` and the bufferevent itself can be open at a time: another rejects with
   * `EV_BUSY`. One call of `next()` costs a promise; `batches()` of the view gives all that is there in one.
   *
   * libevent: `evbuffer_readln` in a read callback.
   *
   * @param options What a line is, and a signal that ends the view with its reason; `text` gives strings
   * @returns The view
   * @throws {TypeError} When an option has the wrong type
   * @throws {RangeError} When an option is out of range
   *
   * @example
   * ```ts
   * import { serve } from "trivent";
   *
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
  /** As above, giving bytes. */
  lines(options?: LineViewOptions & { text?: false | undefined }): View<Uint8Array>;
  /** The lines that arrive, as bytes or as texts: where that is decided at run time. */
  lines(options: LineViewOptions): View<Uint8Array> | View<string>;
  lines(options: LineViewOptions = {}): View<Uint8Array> | View<string> {
    return viewLines(this.#core, options);
  }

  /**
   * The frames that arrive, as a codec tells them apart. What stands at `lines()` holds here too; what is left at the end
   * of file is the codec's to take, and else rejects with `EV_FRAME_TRUNCATED` and stays in `input`.
   *
   * @param codec The codec, such as `lengthPrefixed({ prefixBytes: 4 })`
   * @param options A signal, and a bound for codecs of your own: `EV_FRAME_TOO_LONG` when more waits and is no whole frame.
   * What such a codec throws becomes `EV_FRAME_INVALID`, with it as the cause
   * @returns The view
   * @throws {TypeError} When the codec is none
   */
  frames(codec: FrameCodec, options: FrameViewOptions = {}): View<Uint8Array> {
    return viewFrames(this.#core, codec, options);
  }

  /**
   * The bytes that arrive, as a web stream. It holds no chunk itself: nothing is taken before it is asked for. From the
   * first read on until it ends or is cancelled it is the view that is open; what stands at `lines()` holds here too. If it
   * has a reader, it also gets an end of the peer that comes before the first read.
   *
   * Cancelling leaves the bufferevent as leaving a view does: what has not been read stays in `input`, what was written is
   * sent, and the connection goes on. Afterwards this is another stream.
   *
   * `closed` of its reader settles in every ending of the connection, at the latest when the bufferevent is freed.
   *
   * @throws {EventError} `EV_UNSUPPORTED` where the host has no `ReadableStream`
   */
  get readable(): ByteReadableStream {
    return readableOf(this.#core);
  }

  /**
   * What is to be sent, as a web stream of bytes or texts. A write waits while the output is at the high watermark of
   * writing, 64 KiB where none is set, until it has drained to the low one. Bytes may be in any kind of view or buffer.
   * Closing it is `shutdown()`, and waits until all was handed on.
   *
   * Aborting it ends the connection and frees at once, without waiting for the peer. Each chunk whose write has resolved
   * still leaves, for which a slow peer gets 30 s; the rest is dropped. The peer then sees a plain end, as after `destroy()`
   * of a socket of `node:net`: only your protocol can say that something is missing. If nothing was ever sent, it sees a reset.
   *
   * `closed` and `ready` of its writer settle in every ending of the connection. They and each write reject with what the
   * connection has failed with, `EPIPE` after `close()` and `EV_FREED` after `free()`.
   *
   * @throws {EventError} `EV_UNSUPPORTED` where the host has no `WritableStream`
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
   * Ends gracefully and loses nothing: sends what is queued, finishes our direction, drops what still arrives, waits for
   * the peer to finish, and frees. Calls no callback any more. `dispatch()` goes on meanwhile, but is not needed.
   *
   * While connecting, or during a TLS handshake, it first waits for the connection, and then sends what was written. The
   * attempt may take as long as `timeoutMs` of `connect()` or the write timeout says. If nothing was written, the attempt
   * is given up at once. A bufferevent without a connection is freed at once.
   *
   * @param options `timeoutMs`: how long in all before the connection is cut by a reset; 30 s by default
   * @returns True when all was delivered and the peer has finished, or when there was no connection and nothing to send;
   * false when it was cut, or had failed. The same promise for every call
   *
   * A rate limit holds until the last byte of the output is sent: what takes longer than `timeoutMs` at that rate is
   * cut, so give it the time. What still arrives is dropped without limit.
   * @throws {RangeError} When `timeoutMs` is negative or not finite
   */
  close(options: { timeoutMs?: number | undefined } = {}): Promise<boolean> {
    const { timeoutMs = CLOSE_TIMEOUT_MS } = readOptions("close a bufferevent", options, CLOSE_OPTIONS);
    checkDuration("close a bufferevent: timeoutMs", timeoutMs);
    return this.#core.endGracefully(timeoutMs);
  }

  /**
   * Ends at once: nothing is called any more, output that is queued is dropped, and with `BEV_OPT_CLOSE_ON_FREE` the
   * transport is closed. Also from inside a callback. A second call does nothing. libevent: `bufferevent_free`.
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
    throw new RangeError(`Cannot make a bufferevent: unknown options: received ${show(options)}`);
  }
  if ((options & BEV_OPT_UNLOCK_CALLBACKS) !== 0 && (options & BEV_OPT_DEFER_CALLBACKS) === 0) {
    throw new RangeError("Cannot make a bufferevent: BEV_OPT_UNLOCK_CALLBACKS needs BEV_OPT_DEFER_CALLBACKS");
  }
}

/** Nothing can be written any more. It gives false where that is no mistake. */
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
    throw new RangeError(`Cannot ${doing}: not EV_READ, EV_WRITE or both: received ${show(what)}`);
  }
}

function checkCount(doing: string, n: number): void {
  if (typeof n !== "number") throw new TypeError(`Cannot ${doing}: not a number: received ${show(n)}`);
  if (!Number.isInteger(n) || n < 0) throw new RangeError(`Cannot ${doing}: not a count of bytes: received ${n}`);
}

function checkDuration(doing: string, ms: number | null): number {
  if (ms === null) return 0;
  if (typeof ms !== "number") throw new TypeError(`Cannot ${doing}: not a number: received ${show(ms)}`);
  if (!(ms >= 0 && Number.isFinite(ms))) throw new RangeError(`Cannot ${doing}: not a duration: received ${ms}`);
  return ms;
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
