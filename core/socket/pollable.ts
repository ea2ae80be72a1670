/** What an event can wait for: the common face of `Socket`, `ListeningSocket` and `DatagramSocket`. */

import type { Source } from "../loop/source.ts";

/**
 * For the core: the source behind a pollable.
 *
 * It is set by the first pollable that is made, and the same is done wherever the core reaches behind a public class: a
 * class with a `static` block would be in every bundle, and all that it needs with it. So such a function must not be
 * called on what its own argument makes: `sourceOf(make())` looks at `sourceOf` first.
 */
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
    sourceOf ??= (pollable: Pollable): Source => pollable.#source;
    this.#source = source as Source;
  }
}
