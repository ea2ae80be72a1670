/** What an engine of this folder knows of the public object above it, and of the callbacks that get it. */

import type { Callback } from "../callback.ts";
import type { EventError } from "../errors.ts";

/** The public object, as far as it is called from below. */
export interface Face {
  write(data: Uint8Array | string): boolean;
  shutdown(): void;
}

/**
 * What a bufferevent calls. One object can serve every connection: each call gets the bufferevent.
 *
 * libevent: the callbacks of `bufferevent_setcb`.
 */
export interface BufferEventCallbacks<Bev> {
  /** There is input, at least as much as the low watermark of reading says. libevent: `bufferevent_data_cb`. */
  read?: Callback<[bev: Bev], void> | undefined;
  /** The output has drained to the low watermark of writing. libevent: `bufferevent_data_cb`. */
  write?: Callback<[bev: Bev], void> | undefined;
  /**
   * Something else has happened: `what` has the `BEV_EVENT_` bits, `error` says why where there is a reason.
   *
   * libevent: `bufferevent_event_cb`.
   */
  event?: Callback<[bev: Bev, what: number, error?: EventError], void> | undefined;
}
