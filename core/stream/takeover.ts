/**
 * How a view and callbacks live together: what is open on a bufferevent takes the callbacks of its direction, passes on
 * what is not its own, and gives them back.
 */

import { BEV_EVENT_EOF, BEV_EVENT_ERROR, BEV_EVENT_READING, BEV_EVENT_TIMEOUT, BEV_EVENT_WRITING } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { BufferEvent, BufferEventCallbacks } from "../bufferevent/bufferevent.ts";
import type { BevCore } from "../bufferevent/core.ts";
import type { OpenViews } from "../bufferevent/state.ts";
import { Occupant } from "../bufferevent/occupant.ts";

type Callbacks = BufferEventCallbacks<BufferEvent>;

/** The end of what arrives. */
export interface End {
  /** Why, or null at the end of file. */
  readonly error: EventError | null;
  /** The event that told it; 0 for none. */
  readonly what: number;
}

/** The open view of what arrives. */
export interface Reader {
  /** There is input. In the loop. */
  onReadable(): void;
  /** Nothing more will arrive. */
  onEnd(end: End): void;
  /** `close()` was called: what has not been asked for is dropped. */
  onClosing(): void;
}

/** The open view of what is sent. */
export interface Writer {
  /** Whether it wants to hear that the output has drained. */
  readonly waiting: boolean;
  /** The output has drained to its low watermark. In the loop. */
  onDrained(): void;
  /** Sending has failed. */
  onError(error: EventError): void;
  /** `close()` was called. */
  onClosing(): void;
}

/** What is open on one bufferevent. It is in the place of the callbacks. */
export class Takeover implements OpenViews {
  given: Callbacks | null;
  /** Only there when somebody listens: a bufferevent without a write callback need not say that it has drained. */
  write: (() => void) | undefined = undefined;
  readonly #core: BevCore;
  #reader: Reader | null = null;
  #writer: Writer | null = null;
  /** Whether the loop goes on for our sake. */
  #held = false;
  readonly #onWrite = (): void => {
    this.#writer?.onDrained();
    this.given?.write?.(this.#core.face as BufferEvent);
  };

  /** Takes the callbacks. */
  constructor(core: BevCore) {
    this.#core = core;
    this.given = core.callbacks;
    core.views = this;
    // Not through `setCallbacks`: what is pending is ours to hear.
    core.callbacks = this as unknown as Callbacks;
    this.listen();
  }

  get reader(): Reader | null {
    return this.#reader;
  }

  set reader(reader: Reader | null) {
    this.#reader = reader;
    this.#hold();
    this.#giveBack();
  }

  get writer(): Writer | null {
    return this.#writer;
  }

  set writer(writer: Writer | null) {
    this.#writer = writer;
    this.listen();
    this.#giveBack();
  }

  /** Looks again at who wants to hear that the output has drained. */
  listen(): void {
    const wanted = this.#writer?.waiting === true || this.given?.write !== undefined;
    this.write = wanted ? this.#onWrite : undefined;
    this.#hold();
  }

  /**
   * Who reads by a view may be busy elsewhere while nothing is pending here, at the high watermark for instance: the loop
   * is to be there when they come back.
   */
  #hold(): void {
    const held = !this.#core.freed && (this.#reader !== null || this.#writer?.waiting === true);
    if (held === this.#held) return;
    this.#held = held;
    this.#core.loop.hold(held ? 1 : -1);
  }

  #giveBack(): void {
    const core = this.#core;
    if (this.#reader !== null || this.#writer !== null || core.views !== this) return;
    core.views = null;
    if (!core.freed && core.closing === null) core.callbacks = this.given;
  }

  // ---- as the callbacks

  read(bev: BufferEvent): void {
    if (this.#reader !== null) this.#reader.onReadable();
    else this.given?.read?.(bev);
  }

  event(bev: BufferEvent, what: number, error?: EventError): void {
    const failed = (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0;
    const writing = (what & (BEV_EVENT_READING | BEV_EVENT_WRITING)) === BEV_EVENT_WRITING;
    const ends = failed || ((what & BEV_EVENT_EOF) !== 0 && !writing);
    const reader = this.#reader;
    const writer = failed && (what & BEV_EVENT_READING) === 0 ? this.#writer : null;
    // Failed writing is told to who writes, or else to who reads; what has no direction, such as a failed attempt to
    // connect, to both.
    const toReader = ends && !(writing && writer !== null) ? reader : null;
    if (writer === null && toReader === null) {
      this.given?.event?.(bev, what, error);
      return;
    }
    const reason = failed ? error ?? reasonOf(what) : null;
    toReader?.onEnd({ error: reason, what });
    if (reason !== null) writer?.onError(reason);
  }

  // ---- what happens to the bufferevent

  onCallbacks(callbacks: Callbacks | null): void {
    this.given = callbacks;
    this.listen();
  }

  onClosing(): void {
    this.#reader?.onClosing();
    this.#writer?.onClosing();
  }

  onFreed(): void {
    this.#hold();
    const error = new EventError("Cannot go on with a view: the bufferevent was freed", { code: "EV_FREED" });
    this.#reader?.onEnd({ error, what: 0 });
    this.#writer?.onError(error);
  }
}

/** Opens a view. @throws {EventError} When it can't be opened */
export function takeOver(core: BevCore, doing: string): Takeover {
  core.live(doing);
  if (core.closing !== null) throw new EventError(`Cannot ${doing}: it is being closed`, { code: "EV_FREED" });
  if (core.callbacks instanceof Occupant) {
    throw new EventError(`Cannot ${doing}: ${core.callbacks.what}`, { code: "EV_BUSY" });
  }
  return core.views as Takeover | null ?? new Takeover(core);
}

function reasonOf(what: number): EventError {
  const syscall = (what & BEV_EVENT_READING) !== 0 ? "read" : "write";
  if ((what & BEV_EVENT_TIMEOUT) === 0) {
    return new EventError(`Cannot ${syscall}: the connection has failed`, { code: "EIO", syscall });
  }
  const message = `Cannot ${syscall}: nothing ${syscall === "read" ? "arrived" : "could be sent"} within the timeout`;
  return new EventError(message, { code: "ETIMEDOUT", syscall });
}
