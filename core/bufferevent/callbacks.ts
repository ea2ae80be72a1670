/** The public object above an engine, as far as the engines know it, and its callbacks. */

import type { Callback } from "../callback.ts";
import type { EventError } from "../errors.ts";

/** The public object, as far as it is called from below. */
export interface Face {
  write(data: Uint8Array | string): boolean;
  shutdown(): void;
}

/**
 * The callbacks of a bufferevent. One object can serve every connection, because each call gets the bufferevent.
 *
 * libevent: the callbacks of `bufferevent_setcb`.
 */
export interface BufferEventCallbacks<Bev> {
  /** The input has new bytes, and at least the low watermark of reading. libevent: `bufferevent_data_cb`. */
  read?: Callback<[bev: Bev], void> | undefined;
  /** The output has drained to the low watermark of writing. libevent: `bufferevent_data_cb`. */
  write?: Callback<[bev: Bev], void> | undefined;
  /**
   * The peer has finished, a timeout has passed, or the connection is established or has failed. `what` has the
   * `BEV_EVENT_` bits, and `error` the reason if there is one.
   *
   * libevent: `bufferevent_event_cb`.
   */
  event?: Callback<[bev: Bev, what: number, error?: EventError], void> | undefined;
}
