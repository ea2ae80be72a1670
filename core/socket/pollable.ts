/** What an event can wait for: the common face of `Socket`, `ListeningSocket` and `DatagramSocket`. */

import type { Source } from "../loop/source.ts";

/** For the core: the source behind a pollable. */
export let sourceOf: (pollable: Pollable) => Source;

/**
 * Something that becomes readable or writable: a `Socket`, a `ListeningSocket` or a `DatagramSocket`.
 *
 * libevent: what an `evutil_socket_t` stands for.
 */
export abstract class Pollable {
  readonly #source: Source;

  /** Made by the socket classes only. */
  constructor(source: object) {
    this.#source = source as Source;
  }

  static {
    sourceOf = (pollable: Pollable): Source => pollable.#source;
  }
}
