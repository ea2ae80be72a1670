/** The common base class of `Socket`, `ListeningSocket` and `DatagramSocket`: the things that an event can wait for. */

import { checkInner, wrongType } from "../checks.ts";
import { Source } from "../loop/source.ts";

/** For the core: the source of a pollable. */
export function sourceOf(pollable: Pollable): Source {
  return behind(pollable);
}

/** For the core: whether a value is a pollable. */
export function isPollable(value: unknown): value is Pollable {
  return typeof value === "object" && value !== null && isOne(value);
}

/** For the core: throws unless it is a pollable. */
export function checkPollable(verb: string, value: unknown): void {
  if (!isPollable(value)) throw wrongType(verb, "not a socket", value);
}

/**
 * Set by the first pollable that is made. The core does the same for each public class: a class with a `static` block
 * would be in every bundle, with everything that it needs. Callers use a function, because `behind(make())` would read
 * `behind` before there is a first object.
 */
let behind: (pollable: Pollable) => Source;
let isOne: (value: object) => boolean = () => false;

/**
 * Something that becomes readable or writable: a `Socket`, a `ListeningSocket` or a `DatagramSocket`.
 *
 * libevent: an `evutil_socket_t`.
 */
export abstract class Pollable {
  readonly #source: Source;

  /** Only the socket classes call it. */
  constructor(source: object) {
    if (behind === undefined) {
      behind = (pollable: Pollable): Source => pollable.#source;
      isOne = (value: object): boolean => #source in value;
    }
    this.#source = checkInner(source, Source, "Pollable", "EventBase.connect(), listen() or datagram()");
  }
}
