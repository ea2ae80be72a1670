/** Waiting in the style of epoll: a set of interests that stays, and only the ready ones out. */

import { show } from "../checks.ts";
import { EV_CLOSED, EV_ET, EV_READ, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import { type EventBase, loopOf } from "../loop/event_base.ts";
import type { ReadinessObserver, Source } from "../loop/source.ts";
import { defaultRuntime } from "../runtime.ts";
import { checkPollable, type Pollable, sourceOf } from "../socket/pollable.ts";
import { checkWait, type WaitOptions, WaitQueue } from "./wait.ts";

/** A ready socket. epoll: `struct epoll_event`. */
export interface PollEvent<Data = unknown> {
  /** The socket. */
  source: Pollable;
  /** Which of `EV_READ`, `EV_WRITE` and `EV_CLOSED` hold, of those that it was added for. */
  what: number;
  /** What it was added with. */
  data: Data;
}

const CONDITIONS = EV_READ | EV_WRITE | EV_CLOSED;

/** One interest. */
class Entry<Data> implements ReadinessObserver {
  readonly pollable: Pollable;
  readonly source: Source;
  what: number;
  data: Data;
  /** Edges that have not been told. */
  edge = 0;
  /** Whether it is in the list of those to look at. */
  queued = false;
  /** Whether it was taken out, or its socket was closed. */
  out = false;
  readonly #poller: EntryOwner<Data>;

  constructor(poller: EntryOwner<Data>, pollable: Pollable, what: number, data: Data) {
    this.#poller = poller;
    this.pollable = pollable;
    this.source = sourceOf(pollable);
    this.what = what;
    this.data = data;
  }

  onReady(_source: Source, edges: number): void {
    const news = edges & this.what;
    if (news === 0) return;
    this.edge |= news;
    this.#poller.onEntryReady(this);
  }

  onSourceClosed(): void {
    this.#poller.onEntryClosed(this);
  }

  /** The conditions to tell now; edges are told once. */
  take(): number {
    const holds = this.source.readiness & this.what & CONDITIONS;
    if ((this.what & EV_ET) === 0) return holds;
    const edge = this.edge & holds;
    this.edge = 0;
    return edge;
  }
}

/** What an entry tells its poller. */
interface EntryOwner<Data> {
  onEntryReady(entry: Entry<Data>): void;
  onEntryClosed(entry: Entry<Data>): void;
}

/**
 * A set of sockets and what to wait for on each. A wait costs what is ready, not what is watched. It needs no loop, and
 * keeps the process alive no longer than its sockets do.
 *
 * Interests are level-triggered, told at each wait while they hold; with `EV_ET` edge-triggered, told once when the
 * condition comes true, or true anew: read or write until `EAGAIN` then.
 *
 * epoll: `epoll_create`; libevent: none.
 *
 * @example
 * ```ts
 * import { EAGAIN, EV_READ, EventBase, Poller } from "trivent";
 *
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
  readonly #entries: Map<Pollable, Entry<Data>> = new Map();
  readonly #queue: WaitQueue;
  /** Entries that may be ready, who has waited longest in front. */
  #ready: Entry<Data>[] = [];
  /** Level-triggered entries that were told to who waits now: they are told again, but not before he has seen them. */
  readonly #told: Entry<Data>[] = [];
  #closed = false;
  readonly #owner: EntryOwner<Data> = {
    onEntryReady: (entry) => this.#enqueue(entry),
    onEntryClosed: (entry) => this.#forget(entry),
  };

  /**
   * Makes an empty set. epoll: `epoll_create`.
   *
   * @param base Names the runtime; its loop is not needed. By default the runtime that the program runs on
   */
  constructor(base?: EventBase) {
    this.#queue = new WaitQueue(base === undefined ? defaultRuntime() : loopOf(base).runtime, () => this.#requeue());
  }

  /** How many sockets are in the set. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Adds a socket. epoll: `EPOLL_CTL_ADD`.
   *
   * @param source The socket; closing it takes it out
   * @param what `EV_READ`, `EV_WRITE` or `EV_CLOSED`, or several, with or without `EV_ET`
   * @param data Comes back with each event
   * @throws {EventError} `EEXIST` when it is in the set, `EBADF` when it or the poller was closed
   * @throws {RangeError} For other flags
   */
  add(source: Pollable, what: number, ...data: undefined extends Data ? [data?: Data] : [data: Data]): void {
    this.#open("add a socket to a poller");
    checkInterest("add a socket to a poller", source, what);
    if (this.#entries.has(source)) {
      throw new EventError("Cannot add a socket to a poller: it is in already", { code: "EEXIST" });
    }
    const entry = new Entry<Data>(this.#owner, source, what, data[0] as Data);
    if (entry.source.closed) {
      throw new EventError("Cannot add a socket to a poller: it was closed", { code: "EBADF" });
    }
    this.#entries.set(source, entry);
    entry.source.observe(entry);
    this.#look(entry);
  }

  /**
   * Changes what a socket is watched for. An edge is told anew if the condition holds. epoll: `EPOLL_CTL_MOD`.
   *
   * @param source The socket
   * @param what As in `add()`
   * @param data What comes back from now on; as before when it is left out
   * @throws {EventError} `ENOENT` when it is not in the set, `EBADF` when the poller was closed
   * @throws {RangeError} For other flags
   */
  modify(source: Pollable, what: number, ...data: [data?: Data]): void {
    this.#open("modify a socket of a poller");
    checkInterest("modify a socket of a poller", source, what);
    const entry = this.#entry("modify", source);
    entry.what = what;
    if (data.length > 0) entry.data = data[0] as Data;
    this.#look(entry);
  }

  /**
   * Takes a socket out. epoll: `EPOLL_CTL_DEL`.
   *
   * @param source The socket
   * @throws {EventError} `ENOENT` when it is not in the set, `EBADF` when the poller was closed
   */
  delete(source: Pollable): void {
    this.#open("delete a socket from a poller");
    checkPollable("delete a socket from a poller", source);
    const entry = this.#entry("delete", source);
    entry.source.unobserve(entry);
    this.#forget(entry);
  }

  /**
   * Waits until a socket is ready. epoll: `epoll_wait`.
   *
   * Several callers may wait: they are served in their order, each with what the ones before it were not told. What is
   * level-triggered is told to the next one if it still holds when the host has been polled again.
   *
   * @param timeoutMs How long to wait, in milliseconds; 0 only looks, undefined waits for ever
   * @param maxEvents The most events to give; the other sockets come first at the next wait
   * @param options `signal`: aborting it rejects with its reason
   * @returns What is ready, at most once a socket; nothing when the time is over
   * @throws {EventError} `EBADF` when the poller was closed, `ECANCELED` when it is closed meanwhile
   * @throws {RangeError} When an argument is out of range
   */
  async wait(
    timeoutMs?: number,
    maxEvents: number = Infinity,
    options: WaitOptions = {},
  ): Promise<PollEvent<Data>[]> {
    this.#open("wait for a poller");
    const { signal } = checkWait("wait for a poller", timeoutMs, options);
    if (maxEvents !== Infinity && !(Number.isInteger(maxEvents) && maxEvents >= 1)) {
      throw new RangeError(
        `Cannot wait for a poller: maxEvents is not a positive integer: received ${show(maxEvents)}`,
      );
    }
    return await this.#queue.wait(() => this.#collect(maxEvents), () => [], timeoutMs, signal);
  }

  /** Ends the set and the waits for it, which reject with `ECANCELED`. The sockets stay open. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const entry of this.#entries.values()) entry.source.unobserve(entry);
    this.#entries.clear();
    this.#ready = [];
    this.#told.length = 0;
    this.#queue.fail(new EventError("Cannot wait for a poller: it was closed", { code: "ECANCELED" }));
  }

  /** As `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Takes the events of those in the list, each once. Those that there is no room for stay in front. */
  #collect(maxEvents: number): PollEvent<Data>[] | undefined {
    const ready = this.#ready;
    const events: PollEvent<Data>[] = [];
    let looked = 0;
    while (looked < ready.length && events.length < maxEvents) {
      const entry = ready[looked++] as Entry<Data>;
      entry.queued = false;
      if (entry.out) continue;
      const what = entry.take();
      if (what === 0) continue;
      events.push({ source: entry.pollable, what, data: entry.data });
      if ((entry.what & EV_ET) === 0) this.#told.push(entry);
    }
    this.#ready = ready.slice(looked);
    return events.length > 0 ? events : undefined;
  }

  /** Who was told of a level goes to the end of the list. */
  #requeue(): void {
    for (const entry of this.#told.splice(0)) {
      if (!entry.out) this.#enqueue(entry);
    }
  }

  #look(entry: Entry<Data>): void {
    entry.edge = entry.source.readiness & entry.what & CONDITIONS;
    if (entry.edge !== 0) this.#enqueue(entry);
  }

  #enqueue(entry: Entry<Data>): void {
    if (!entry.queued) {
      entry.queued = true;
      this.#ready.push(entry);
    }
    this.#queue.wake();
  }

  #forget(entry: Entry<Data>): void {
    entry.out = true;
    this.#entries.delete(entry.pollable);
  }

  #entry(doing: string, source: Pollable): Entry<Data> {
    const entry = this.#entries.get(source);
    if (entry === undefined) {
      throw new EventError(`Cannot ${doing} a socket of a poller: it is not in`, { code: "ENOENT" });
    }
    return entry;
  }

  #open(doing: string): void {
    if (this.#closed) throw new EventError(`Cannot ${doing}: the poller was closed`, { code: "EBADF" });
  }
}

function checkInterest(doing: string, source: Pollable, what: number): void {
  checkPollable(doing, source);
  if (!Number.isInteger(what) || (what & CONDITIONS) === 0 || (what & ~(CONDITIONS | EV_ET)) !== 0) {
    throw new RangeError(
      `Cannot ${doing}: not EV_READ, EV_WRITE, EV_CLOSED, with EV_ET or not: received ${show(what)}`,
    );
  }
}
