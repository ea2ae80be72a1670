/** Waiting in the style of epoll: the set of interests stays, and each wait returns only ready sockets. */

import { outOfRange } from "../checks.ts";
import { EV_ET } from "../flags.ts";
import { CONDITIONS, PollSet } from "../poll/poll_set.ts";
import { checkWait, type WaitOptions } from "../poll/wait.ts";
import { defaultRuntime } from "../runtime.ts";
import { type EventBase, loopOf } from "./event_base.ts";
import { checkPollable, type Pollable, sourceOf } from "./pollable.ts";

/** A ready socket. epoll: `struct epoll_event`. */
export interface PollEvent<Data = unknown> {
  /** The socket. */
  source: Pollable;
  /** The flags that hold, of those that the socket was added with. */
  what: number;
  /** The value that the socket was added with. */
  data: Data;
}

/**
 * A set of sockets, with flags to wait for. The cost of a wait depends on the ready sockets, not on all sockets. A
 * poller needs no loop. It does not keep the process alive; its sockets do.
 *
 * Interests are level-triggered: each wait reports them while they hold. With `EV_ET` they are edge-triggered: they are
 * reported once when the condition becomes true, or true anew. Then read or write until `EAGAIN`.
 *
 * epoll: `epoll_create`; libevent: none.
 *
 * @example
 * ```ts
 * import { EAGAIN, EV_READ, EventBase, Poller } from "trivent";
 * const listening = await new EventBase().listen({ hostname: "127.0.0.1", port: 0 });
 * const poller = new Poller<string>();
 * poller.add(listening, EV_READ, "the listener");
 * for (const { data } of await poller.wait(10)) {
 *   if (data === "the listener" && listening.accept() !== EAGAIN) console.log("someone is here");
 * }
 * poller.close();
 * await listening.close();
 * ```
 */
export class Poller<Data = unknown> {
  readonly #set: PollSet<Data>;

  /**
   * Makes an empty set. epoll: `epoll_create`.
   *
   * @param base Names the runtime; its loop is not needed. By default the runtime that the program runs on
   */
  constructor(base?: EventBase) {
    this.#set = new PollSet(base === undefined ? defaultRuntime() : loopOf(base).runtime);
  }

  /** How many sockets are in the set. */
  get size(): number {
    return this.#set.size;
  }

  /**
   * Adds a socket. epoll: `EPOLL_CTL_ADD`.
   *
   * @param source The socket; closing it removes it
   * @param what `EV_READ`, `EV_WRITE` or `EV_CLOSED`, or several, with or without `EV_ET`
   * @param data A value that comes with each event
   * @throws {EventError} `EEXIST` when it is in the set, `EBADF` when it or the poller was closed
   * @throws {RangeError} For other flags
   */
  add(source: Pollable, what: number, ...data: undefined extends Data ? [data?: Data] : [data: Data]): void {
    this.#set.checkOpen("add a socket to a poller");
    checkInterest("add a socket to a poller", source, what);
    this.#set.add(sourceOf(source), what, data[0] as Data);
  }

  /**
   * Changes the flags of a socket. An edge is reported anew if the condition holds. epoll: `EPOLL_CTL_MOD`.
   *
   * @param source The socket
   * @param what As in `add()`
   * @param data The value for later events; by default the present one
   * @throws {EventError} `ENOENT` when it is not in the set, `EBADF` when the poller was closed
   * @throws {RangeError} For other flags
   */
  modify(source: Pollable, what: number, ...data: [data?: Data]): void {
    this.#set.checkOpen("modify a socket of a poller");
    checkInterest("modify a socket of a poller", source, what);
    this.#set.modify(sourceOf(source), what, data);
  }

  /**
   * Removes a socket. epoll: `EPOLL_CTL_DEL`.
   *
   * @param source The socket
   * @throws {EventError} `ENOENT` when it is not in the set, `EBADF` when the poller was closed
   */
  delete(source: Pollable): void {
    this.#set.checkOpen("delete a socket from a poller");
    checkPollable("delete a socket from a poller", source);
    this.#set.delete(sourceOf(source));
  }

  /**
   * Waits until a socket is ready. epoll: `epoll_wait`.
   *
   * Several callers may wait. They are served in their order, and each gets events that earlier ones did not get. A
   * level-triggered event goes to the next caller if it still holds after the next poll of the runtime.
   *
   * @param timeoutMs How long to wait, in milliseconds; 0 does not wait, undefined waits for ever
   * @param maxEvents The largest number of events; other ready sockets come first at the next wait
   * @param options `signal`: aborting it rejects with its reason
   * @returns The events, at most one for each socket; none when the time is over
   * @throws {EventError} `EBADF` when the poller was closed, `ECANCELED` when it is closed meanwhile
   * @throws {RangeError} When an argument is out of range
   */
  async wait(
    timeoutMs?: number,
    maxEvents: number = Infinity,
    options: WaitOptions = {},
  ): Promise<PollEvent<Data>[]> {
    this.#set.checkOpen("wait for a poller");
    const { signal } = checkWait("wait for a poller", timeoutMs, options);
    if (maxEvents !== Infinity && !(Number.isInteger(maxEvents) && maxEvents >= 1)) {
      throw outOfRange("wait for a poller", "maxEvents is not a positive integer", maxEvents);
    }
    return await this.#set.wait(timeoutMs, maxEvents, signal) as PollEvent<Data>[];
  }

  /** Closes the poller. Waits reject with `ECANCELED`. The sockets stay open. A second call does nothing. */
  close(): void {
    this.#set.close();
  }

  /** As `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function checkInterest(doing: string, source: Pollable, what: number): void {
  checkPollable(doing, source);
  if (!Number.isInteger(what) || (what & CONDITIONS) === 0 || (what & ~(CONDITIONS | EV_ET)) !== 0) {
    throw outOfRange(doing, "the flags are not of EV_READ, EV_WRITE and EV_CLOSED, with EV_ET or without", what);
  }
}
