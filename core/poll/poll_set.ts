/** The engine of a poller: the interests, and the list of those that may be ready. */

import { EV_CLOSED, EV_ET, EV_READ, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { ReadinessObserver, Source } from "../loop/source.ts";
import type { AbortSignalLike, Runtime } from "../runtime.ts";
import { WaitQueue } from "./wait.ts";

/** The flags of an interest. */
export const CONDITIONS: number = EV_READ | EV_WRITE | EV_CLOSED;

/** The event of one source. */
interface ReadySource<Data> {
  source: object;
  what: number;
  data: Data;
}

/** One interest. */
class Interest<Data> implements ReadinessObserver {
  readonly source: Source;
  what: number;
  data: Data;
  /** Edges that have not been reported. */
  edge = 0;
  /** Whether it is in the list of interests to check. */
  queued = false;
  /** Whether it was removed, or its socket was closed. */
  out = false;
  private readonly set: PollSet<Data>;

  constructor(set: PollSet<Data>, source: Source, what: number, data: Data) {
    this.set = set;
    this.source = source;
    this.what = what;
    this.data = data;
  }

  onReady(_source: Source, edges: number): void {
    const news = edges & this.what;
    if (news === 0) return;
    this.edge |= news;
    this.set.enqueue(this);
  }

  onSourceClosed(): void {
    this.set.forget(this);
  }

  /** The conditions to report now. Edges are reported once. */
  take(): number {
    const holds = this.source.readiness & this.what & CONDITIONS;
    if ((this.what & EV_ET) === 0) return holds;
    const edge = this.edge & holds;
    this.edge = 0;
    return edge;
  }
}

/** The interests of a poller. */
export class PollSet<Data> {
  private readonly interests: Map<Source, Interest<Data>> = new Map();
  private readonly queue: WaitQueue;
  /** Interests that may be ready, the one that has waited longest first. */
  private ready: Interest<Data>[] = [];
  /**
   * Level-triggered interests that were reported to the present waiters. They are reported again,
   * but only after these waiters have got them.
   */
  private readonly told: Interest<Data>[] = [];
  private closed = false;

  constructor(runtime: Runtime) {
    this.queue = new WaitQueue(runtime, () => this.requeue());
  }

  get size(): number {
    return this.interests.size;
  }

  /** `EPOLL_CTL_ADD`. */
  add(source: Source, what: number, data: Data): void {
    if (this.interests.has(source)) {
      throw new EventError("Cannot add a socket to a poller: the socket is already in it", { code: "EEXIST" });
    }
    if (source.closed) {
      throw new EventError("Cannot add a socket to a poller: the socket was closed", { code: "EBADF" });
    }
    const interest = new Interest<Data>(this, source, what, data);
    this.interests.set(source, interest);
    source.observe(interest);
    this.look(interest);
  }

  /** `EPOLL_CTL_MOD`. `data` is an array of the new data, or an empty one. */
  modify(source: Source, what: number, data: readonly (Data | undefined)[]): void {
    const interest = this.interest("modify", source);
    interest.what = what;
    if (data.length > 0) interest.data = data[0] as Data;
    this.look(interest);
  }

  /** `EPOLL_CTL_DEL`. */
  delete(source: Source): void {
    const interest = this.interest("delete", source);
    source.unobserve(interest);
    this.forget(interest);
  }

  /** `epoll_wait`. */
  wait(
    timeoutMs: number | undefined,
    maxEvents: number,
    signal: AbortSignalLike | undefined,
  ): Promise<ReadySource<Data>[]> {
    return this.queue.wait(() => this.collect(maxEvents), () => [], timeoutMs, signal);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const interest of this.interests.values()) interest.source.unobserve(interest);
    this.interests.clear();
    this.ready = [];
    this.told.length = 0;
    this.queue.fail(new EventError("Cannot wait for a poller: it was closed", { code: "ECANCELED" }));
  }

  /** Throws when it was closed. */
  checkOpen(doing: string): void {
    if (this.closed) throw new EventError(`Cannot ${doing}: the poller was closed`, { code: "EBADF" });
  }

  /** For an interest: it may be ready. */
  enqueue(interest: Interest<Data>): void {
    if (!interest.queued) {
      interest.queued = true;
      this.ready.push(interest);
    }
    this.queue.wake();
  }

  /** For an interest: its source is gone. */
  forget(interest: Interest<Data>): void {
    interest.out = true;
    this.interests.delete(interest.source);
  }

  /** Takes the events of the interests in the list, each once. Those beyond the limit stay at the front. */
  private collect(maxEvents: number): ReadySource<Data>[] | undefined {
    const ready = this.ready;
    const events: ReadySource<Data>[] = [];
    let looked = 0;
    while (looked < ready.length && events.length < maxEvents) {
      const interest = ready[looked++] as Interest<Data>;
      interest.queued = false;
      if (interest.out) continue;
      const what = interest.take();
      if (what === 0) continue;
      events.push({ source: interest.source.pollable, what, data: interest.data });
      if ((interest.what & EV_ET) === 0) this.told.push(interest);
    }
    this.ready = ready.slice(looked);
    return events.length > 0 ? events : undefined;
  }

  /** An interest whose level was reported goes to the end of the list. */
  private requeue(): void {
    for (const interest of this.told.splice(0)) {
      if (!interest.out) this.enqueue(interest);
    }
  }

  private look(interest: Interest<Data>): void {
    interest.edge = interest.source.readiness & interest.what & CONDITIONS;
    if (interest.edge !== 0) this.enqueue(interest);
  }

  private interest(doing: string, source: Source): Interest<Data> {
    const interest = this.interests.get(source);
    if (interest === undefined) {
      throw new EventError(`Cannot ${doing} a socket of a poller: the socket is not in it`, { code: "ENOENT" });
    }
    return interest;
  }
}
