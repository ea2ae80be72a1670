/** What an event can wait for: the common face of `Socket`, `ListeningSocket` and `DatagramSocket`. */

import { checkInner, show } from "../checks.ts";
import { Source } from "../loop/source.ts";

/** For the core: the source behind a pollable. */
export function sourceOf(pollable: Pollable): Source {
  return behind(pollable);
}

/** For the core: whether a user has given a pollable. */
export function isPollable(value: unknown): value is Pollable {
  return typeof value === "object" && value !== null && isOne(value);
}

/** For the core: throws unless it is a pollable. */
export function checkPollable(verb: string, value: unknown): void {
  if (!isPollable(value)) throw new TypeError(`Cannot ${verb}: not a socket: received ${show(value)}`);
}

/**
 * Set by the first pollable that is made, and the same is done wherever the core reaches behind a public class: a class
 * with a `static` block would be in every bundle, and all that it needs with it. Whoever calls goes through a function,
 * since `behind(make())` would look at `behind` before there is a first.
 */
let behind: (pollable: Pollable) => Source;
let isOne: (value: object) => boolean = () => false;

/**
 * Something that becomes readable or writable: a `Socket`, a `ListeningSocket` or a `DatagramSocket`.
 *
 * libevent: what an `evutil_socket_t` stands for.
 */
export abstract class Pollable {
  readonly #source: Source;

  /** Made by the socket classes only. */
  constructor(source: object) {
    if (behind === undefined) {
      behind = (pollable: Pollable): Source => pollable.#source;
      isOne = (value: object): boolean => #source in value;
    }
    this.#source = checkInner(source, Source, "Pollable", "EventBase.connect(), listen() or datagram()");
  }
}
