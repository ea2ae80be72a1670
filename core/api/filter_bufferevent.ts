/** A bufferevent over another one, with a transformation in between. */

import { wrongType } from "../checks.ts";
import { BufferEvent, checkOptions, coreOf } from "./bufferevent.ts";
import { FilterCore } from "../bufferevent/filter_core.ts";
import type { BufferEventFilter } from "../bufferevent/filter_run.ts";

/**
 * A layer over another bufferevent, the one below. The input filter makes the layer's input from the input below. The
 * output filter makes the output below from the layer's output. Layers can be stacked to any depth.
 *
 * - The layer replaces the callbacks of the bufferevent below, enables both its directions, and lets it read while the
 *   layer itself reads. The layer has its own timeouts, watermarks and enabled directions. Events from below are passed
 *   on: the end of file comes after all bytes before it, and after the last call of the input filter.
 * - A filter function runs in the loop, never inside `write()`, and never inside itself. All that is written in a turn
 *   goes through in one call. `flush()` and `close()` call it at once.
 * - Enabling reading processes the bytes that wait below. `BEV_ERROR` gives one `BEV_EVENT_ERROR` with
 *   `BEV_EVENT_READING` or `BEV_EVENT_WRITING`, and the filter's own `error` or one with the code `EV_FILTER`. It
 *   disables that direction; enabling it tries again. If a filter function throws, the `dispatch()` that runs it
 *   rejects, or the promise of `close()`.
 * - Enabling writing with nothing to send calls nothing back.
 * - The write callback is called when the output of the layer and of all layers below, taken together, has drained to
 *   the low watermark. So `free()` in it loses no more than without a filter. Bytes inside a filter function are not
 *   counted: flush them (`BEV_FLUSH`), or call `shutdown()`, which waits for them. The high watermark of writing of the
 *   one below limits how much is moved there; without one, nothing is moved while 128 KiB wait there.
 * - `flush()` runs the filters in the given mode, beyond watermarks, then flushes the one below. `shutdown()` and
 *   `close()` send all output through, with a last call in the mode `BEV_FINISHED`. Then they shut down or close the
 *   one below, to the bottom of the stack, whoever owns it. `close()` resolves with false if a filter has left or
 *   refused some output.
 * - Rate limits and priorities belong to the bufferevent at the bottom. On a filter they throw `EV_UNSUPPORTED`.
 *
 * libevent: a `struct bufferevent` of `bufferevent_filter_new`.
 *
 * @example
 * ```ts
 * import { BEV_OK, BEV_OPT_CLOSE_ON_FREE, bufferEventPair, EV_READ, EventBase, FilterBufferEvent } from "trivent";
 * import type { BufferEventFilter } from "trivent";
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
   * @param underlying The bufferevent below; the filter replaces its callbacks
   * @param inputFilter Changes the bytes that arrive; null to leave them unchanged
   * @param outputFilter Changes the bytes that are written; null to leave them unchanged
   * @param options `BEV_OPT_` flags. With `BEV_OPT_CLOSE_ON_FREE`, freeing the filter frees the one below. Without it,
   * the one below stays, has no callbacks and goes on reading
   * @param onFree Called once from the loop after the filter was freed, to release what the filter functions hold
   * @throws {RangeError} For unknown flags
   * @throws {EventError} `EV_BUSY` when the one below has a filter or an open view, or is being closed, `EV_FREED` when
   * it was freed
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
        throw wrongType("make a filter", "a filter is not a function", fn);
      }
    }
    super(new FilterCore(coreOf(underlying), inputFilter, outputFilter, options, onFree));
    this.#underlying = underlying;
  }

  /** The bufferevent below. libevent: `bufferevent_get_underlying`. */
  get underlying(): BufferEvent {
    return this.#underlying;
  }
}
