/** Two bufferevents that are each other's other end, in memory. */

import { checkBoolean, checkInner } from "../checks.ts";
import { type EventBase, loopOf } from "./event_base.ts";
import { type Names, readOptions } from "../names.ts";
import { BufferEvent, checkOptions } from "./bufferevent.ts";
import { PairCore } from "../bufferevent/pair_core.ts";

/** What {@linkcode bufferEventPair} takes besides flags. */
export interface PairOptions {
  /**
   * Whether freeing one end is the end for the other. With false the other end is not told, as in C, and what it writes
   * stays in its output.
   *
   * @default {true}
   */
  eofOnFree?: boolean | undefined;
}

const PAIR_OPTIONS: Names<PairOptions> = { eofOnFree: true };

/**
 * One end of a pair. What is written to it is in the input of its partner at once, when writing is enabled here and
 * reading there, up to the partner's high watermark; the callbacks come from the loop, the partner's read callback
 * before the write callback here. {@linkcode bufferEventPair} makes both ends.
 *
 * How it differs from the bufferevent of a socket:
 * - Its callbacks are always deferred: those of one pass come merged.
 * - Enabling writing with nothing to send calls nothing back.
 * - `flush()` has a meaning: `BEV_FLUSH` moves what waits, whatever is enabled and wherever the watermark stands;
 *   `BEV_FINISHED` besides tells the partner `BEV_EVENT_EOF`, and leaves what is enabled. Without a partner it throws
 *   `EV_UNSUPPORTED`.
 * - Setting the priority throws `EV_UNSUPPORTED`.
 * - Freeing one end is the end for the other, as when a peer closes its socket. The other end gets `BEV_EVENT_EOF` after
 *   all that has arrived; what it has in its output, or writes later, gives `BEV_EVENT_WRITING | BEV_EVENT_ERROR` with the
 *   code `EPIPE`. Output of the freed end that the other had no room for is lost: `close()` loses nothing. In C the other
 *   end is not told; the option `eofOnFree: false` gives that.
 * - When the timeout of `close()` cuts off output, or `pipe()` resets the end, the partner gets
 *   `BEV_EVENT_READING | BEV_EVENT_ERROR` with the code `ECONNRESET`.
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
 * Makes two bufferevents that are each other's other end. Both begin with writing enabled and reading not.
 *
 * The bytes are moved, not copied. With nobody reading they stay in the writer's output, without a limit: `enable()`
 * reading, or look at `output.length`.
 *
 * libevent: `bufferevent_pair_new`.
 *
 * @param base The base whose loop calls back
 * @param options `BEV_OPT_` flags, for both; callbacks are deferred in any case
 * @param pairOptions What happens at the end
 * @returns Both ends
 * @throws {RangeError} For options that are none
 * @throws {EventError} `EV_FREED` when the base was freed
 *
 * @example
 * ```ts
 * import { bufferEventPair, EV_READ, EventBase } from "trivent";
 *
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
