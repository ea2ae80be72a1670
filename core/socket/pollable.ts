/** What an event can wait for: the common face of `Socket`, `ListeningSocket` and `DatagramSocket`. */

import type { Source } from "../loop/source.ts";

/** For the core: the source behind a pollable. */
export function sourceOf(pollable: Pollable): Source {
  return behind(pollable);
}

/**
 * Set by the first pollable that is made, and the same is done wherever the core reaches behind a public class: a class
 * with a `static` block would be in every bundle, and all that it needs with it. Whoever calls goes through a function,
 * since `behind(make())` would look at `behind` before there is a first.
 */
let behind: (pollable: Pollable) => Source;

/**
 * Something that becomes readable or writable: a `Socket`, a `ListeningSocket` or a `DatagramSocket`.
 *
 * libevent: what an `evutil_socket_t` stands for.
 */
export abstract class Pollable {
  readonly #source: Source;

  /** Made by the socket classes only. */
  constructor(source: object) {
    behind ??= (pollable: Pollable): Source => pollable.#source;
    this.#source = source as Source;
  }
}
