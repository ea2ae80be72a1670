/** Two bufferevents that are connected in memory. */

import { checkBoolean, checkInner } from "../checks.ts";
import { type EventBase, loopOf } from "./event_base.ts";
import { type Names, readOptions } from "../names.ts";
import { BufferEvent, checkOptions } from "./bufferevent.ts";
import { PairCore } from "../bufferevent/pair_core.ts";

/** Options of {@linkcode bufferEventPair}. */
export interface PairOptions {
  /**
   * Whether freeing one end is the end of file for the other. With false nothing is reported to the other end, as in C,
   * and its later writes stay in its output.
   *
   * @default {true}
   */
  eofOnFree?: boolean | undefined;
}

const PAIR_OPTIONS: Names<PairOptions> = { eofOnFree: true };

/**
 * One end of a pair. Written bytes are in the partner's input at once, if writing is enabled here and reading there, up
 * to the partner's high watermark. The loop calls the callbacks: the partner's read callback, then the write callback
 * here. {@linkcode bufferEventPair} makes both ends.
 *
 * Differences from a bufferevent on a socket:
 * - Its callbacks are always deferred: those of one pass are merged.
 * - Enabling writing with nothing to send calls no callback.
 * - `flush()` has an effect. `BEV_FLUSH` moves all output, whatever is enabled, and beyond the watermark.
 *   `BEV_FINISHED` also gives the partner `BEV_EVENT_EOF`, and leaves its directions enabled. Without a partner it
 *   throws `EV_UNSUPPORTED`.
 * - Setting the priority throws `EV_UNSUPPORTED`.
 * - Freeing one end is the end of file for the other, as if a peer had closed its socket. The other end gets
 *   `BEV_EVENT_EOF` after all bytes that have arrived. Its output, present or later, gives `BEV_EVENT_WRITING |
 *   BEV_EVENT_ERROR` with the code `EPIPE`. Output of the freed end that is still queued is lost; `close()` loses
 *   nothing. In C nothing is reported; the option `eofOnFree: false` gives that.
 * - If `close()` runs out of time with output left, or `pipe()` resets the end, the partner gets `BEV_EVENT_READING |
 *   BEV_EVENT_ERROR` with the code `ECONNRESET`.
 *
 * libevent: a `struct bufferevent` of `bufferevent_pair_new`.
 */
export class PairBufferEvent<Ctx = unknown> extends BufferEvent<Ctx> {
  readonly #core: PairCore;

  /** Made by {@linkcode bufferEventPair} only. */
  private constructor(core: object) {
    super(checkInner(core, PairCore, "PairBufferEvent", "bufferEventPair()"));
    this.#core = core as PairCore;
  }

  /** The other end; null once it was freed, or this one. libevent: `bufferevent_pair_get_partner`. */
  get partner(): PairBufferEvent | null {
    return this.#core.partner?.face as PairBufferEvent | null ?? null;
  }
}

/**
 * Makes two bufferevents that are connected with each other. At first writing is enabled on both, and reading is not.
 *
 * The bytes are moved, not copied. If the partner does not read, they stay in the writer's output.
 *
 * libevent: `bufferevent_pair_new`.
 *
 * @param base The base whose loop calls back
 * @param options `BEV_OPT_` flags for both; callbacks are always deferred
 * @param pairOptions What happens at the end
 * @returns Both ends
 * @throws {RangeError} For unknown flags
 * @throws {EventError} `EV_FREED` when the base was freed
 *
 * @example
 * ```ts
 * import { bufferEventPair, EV_READ, EventBase } from "trivent";
 * const base = new EventBase();
 * const [near, far] = bufferEventPair(base);
 * far.setCallbacks({
 *   read: (bev) => {
 *     console.log(bev.input.toString()); // hello
 *     bev.free();
 *     near.free();
 *   },
 * });
 * far.enable(EV_READ);
 * near.write("hello");
 * await base.dispatch();
 * ```
 */
export function bufferEventPair(
  base: EventBase,
  options: number = 0,
  pairOptions: PairOptions = {},
): [PairBufferEvent, PairBufferEvent] {
  checkOptions(options);
  const { eofOnFree = true } = readOptions("make a pair", pairOptions, PAIR_OPTIONS);
  checkBoolean("make a pair", "eofOnFree", eofOnFree);
  const loop = loopOf(base);
  const near = new PairCore(loop, options, eofOnFree);
  const far = new PairCore(loop, options, eofOnFree);
  near.partner = far;
  far.partner = near;
  const Pair = PairBufferEvent as unknown as new (core: PairCore) => PairBufferEvent;
  return [new Pair(near), new Pair(far)];
}
