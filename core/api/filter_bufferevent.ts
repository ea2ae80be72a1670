/** A bufferevent over another one, with a transformation in between. */

import { show } from "../checks.ts";
import { BufferEvent, checkOptions, coreOf } from "./bufferevent.ts";
import { FilterCore } from "../bufferevent/filter_core.ts";
import type { BufferEventFilter } from "../bufferevent/filter_run.ts";

/**
 * A layer over another bufferevent: the input filter makes its input of what arrives below, the output filter makes of
 * what is written what leaves below. Layers can be stacked to any depth.
 *
 * - The filter takes the callbacks of the bufferevent below, enables both its directions, and lets it read while it
 *   reads itself. Its own timeouts, watermarks and enabled directions are its own; the events of the one below are
 *   passed on, the end of file after all that came before and after the last call of the input filter.
 * - A filter function runs in the loop, at most once at a time, and never inside `write()`: what is written in a turn
 *   goes through in one call. `flush()` and `close()` call it at once.
 * - Enabling reading processes what waits below already. `BEV_ERROR` gives one `BEV_EVENT_ERROR` with
 *   `BEV_EVENT_READING` or `BEV_EVENT_WRITING` and the code `EV_FILTER`, or the filter's own `error`, and disables that direction; enabling it tries
 *   again. What a filter throws rejects the `dispatch()` that runs it, or the promise of `close()`.
 * - Enabling writing with nothing to send calls nothing back.
 * - The write callback comes when the output, and that of all layers below together, has drained to the low watermark:
 *   `free()` in it loses no more than without a filter. Bytes that a filter function keeps to itself are not counted: flush
 *   it (`BEV_FLUSH`), or call `shutdown()`, whose last bytes are waited for. The high watermark of writing of the one below
 *   limits how much is moved there; without one, no more is moved while 128 KiB wait there.
 * - `flush()` runs the filters in the given mode, watermarks or not, and then flushes the one below. `shutdown()` and
 *   `close()` send all of the output through, with a last call in the mode `BEV_FINISHED`, and then shut down or close
 *   the one below, down to the bottom of the stack, whatever owns it. `close()` gives false when a filter has left or
 *   refused some of the output.
 * - Rate limits and priorities belong to the bufferevent at the bottom: here they throw `EV_UNSUPPORTED`.
 *
 * libevent: a `struct bufferevent` of `bufferevent_filter_new`.
 *
 * @example
 * ```ts
 * import { BEV_OK, BEV_OPT_CLOSE_ON_FREE, bufferEventPair, EV_READ, EventBase, FilterBufferEvent } from "trivent";
 * import type { BufferEventFilter } from "trivent";
 *
 * const invert: BufferEventFilter = (source, destination) => {
 *   const bytes = source.toUint8Array().map((byte) => byte ^ 0xff);
 *   source.drain(bytes.length);
 *   destination.add(bytes);
 *   return BEV_OK;
 * };
 * const base = new EventBase();
 * const [near, far] = bufferEventPair(base);
 * const sender = new FilterBufferEvent(near, null, invert, BEV_OPT_CLOSE_ON_FREE);
 * const receiver = new FilterBufferEvent(far, invert, null, BEV_OPT_CLOSE_ON_FREE);
 * let received = "";
 * receiver.setCallbacks({
 *   read: (bev) => {
 *     received += bev.input.toString();
 *     sender.free();
 *     receiver.free();
 *   },
 * });
 * receiver.enable(EV_READ);
 * sender.write("hello");
 * await base.dispatch();
 * if (received !== "hello") throw new Error("not the same");
 * ```
 */
export class FilterBufferEvent<Ctx = unknown> extends BufferEvent<Ctx> {
  readonly #underlying: BufferEvent;

  /**
   * Makes a layer. libevent: `bufferevent_filter_new`.
   *
   * @param underlying What is below; its callbacks are the filter's from now on
   * @param inputFilter What becomes of the bytes that arrive; null to leave them as they are
   * @param outputFilter What becomes of the bytes that are written; null to leave them as they are
   * @param options `BEV_OPT_` flags; with `BEV_OPT_CLOSE_ON_FREE` freeing the filter frees what is below. Without, what
   * is below stays, has no callbacks and reads on
   * @param onFree Called once from the loop after the filter was freed: for what the filters hold
   * @throws {RangeError} For options that are none
   * @throws {EventError} `EV_BUSY` when the one below has a filter or an open view, or is being closed, `EV_FREED` when it was freed
   */
  constructor(
    underlying: BufferEvent,
    inputFilter: BufferEventFilter | null,
    outputFilter: BufferEventFilter | null,
    options: number = 0,
    onFree: (() => void) | null = null,
  ) {
    checkOptions(options);
    for (const fn of [inputFilter, outputFilter, onFree]) {
      if (fn !== null && typeof fn !== "function") {
        throw new TypeError(`Cannot make a filter: not a function: received ${show(fn)}`);
      }
    }
    super(new FilterCore(coreOf(underlying), inputFilter, outputFilter, options, onFree));
    this.#underlying = underlying;
  }

  /** What is below. libevent: `bufferevent_get_underlying`. */
  get underlying(): BufferEvent {
    return this.#underlying;
  }
}
