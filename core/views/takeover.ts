/**
 * How a view and callbacks live together: what is open on a bufferevent takes the callbacks of its direction, passes on
 * what is not its own, and gives them back.
 */

import { BEV_EVENT_EOF, BEV_EVENT_ERROR, BEV_EVENT_READING, BEV_EVENT_TIMEOUT, BEV_EVENT_WRITING } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { BevCore } from "../bufferevent/core.ts";
import type { Occupant } from "../bufferevent/occupant.ts";

/** The end of what arrives. */
export interface End {
  /** Why, or null at the end of file. */
  readonly error: EventError | null;
  /** The event that told it; 0 for none. */
  readonly what: number;
}

/** The open view of what arrives. */
export interface Reader {
  /** Whether its consumer waits for something to arrive. */
  readonly waiting: boolean;
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

/** The views that are open on one bufferevent. They are in the place of the user's callbacks. */
export class Takeover implements Occupant {
  readonly what: string = "a view is open on it";
  /** Only there when somebody listens: a bufferevent without a write callback need not say that it has drained. */
  write: (() => void) | undefined = undefined;
  readonly #core: BevCore;
  #reader: Reader | null = null;
  #writer: Writer | null = null;
  /** Whether the loop goes on for our sake. */
  #held = false;
  readonly #onWrite = (): void => {
    this.#writer?.onDrained();
    if (!this.#core.freed) this.#core.userWrite();
  };

  /** Takes the place of the callbacks. */
  constructor(core: BevCore) {
    this.#core = core;
    core.occupant = this;
    this.onCallbacks();
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
    this.onCallbacks();
    this.#giveBack();
  }

  /** Whether a consumer waits for what arrives, or for room for what is sent. */
  get waiting(): boolean {
    return this.#reader?.waiting === true || this.#writer?.waiting === true;
  }

  /** Looks again at who wants to hear that the output has drained. */
  onCallbacks(): void {
    const given = this.#core.callbacks?.write;
    const wanted = this.#writer?.waiting === true || (given !== undefined && given !== null);
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
    if (this.#reader !== null || this.#writer !== null || core.occupant !== this) return;
    core.occupant = null;
    if (core.owner !== null) core.owner.onProgress();
  }

  // ---- as an occupant

  read(): void {
    if (this.#reader !== null) this.#reader.onReadable();
    else this.#core.userRead();
  }

  event(what: number, error: EventError | undefined): void {
    const failed = (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0;
    const writing = (what & (BEV_EVENT_READING | BEV_EVENT_WRITING)) === BEV_EVENT_WRITING;
    const ends = failed || ((what & BEV_EVENT_EOF) !== 0 && !writing);
    const reader = this.#reader;
    const writer = failed && (what & BEV_EVENT_READING) === 0 ? this.#writer : null;
    // Failed writing is told to who writes, or else to who reads; what has no direction, such as a failed attempt to
    // connect, to both.
    const toReader = ends && !(writing && writer !== null) ? reader : null;
    if (writer === null && toReader === null) {
      this.#core.userEvent(what, error);
      return;
    }
    const reason = failed ? this.#core.raised(error ?? reasonOf(what)) : null;
    if (toReader !== null) {
      toReader.onEnd({ error: reason, what });
      for (const stream of this.#core.streams ?? []) stream.onReadEnd();
    }
    if (reason !== null) writer?.onError(reason);
    if (this.#core.owner !== null) this.#core.owner.onViewEnd(what, reason);
  }

  onClosing(): void {
    this.#reader?.onClosing();
    this.#writer?.onClosing();
  }

  onFreed(): void {
    this.#hold();
    const error = this.#core.ending("go on with a view");
    this.#reader?.onEnd({ error, what: 0 });
    this.#writer?.onError(error);
  }
}

/** Opens a view. @throws {EventError} When it can't be opened */
export function takeOver(core: BevCore, doing: string): Takeover {
  core.live(doing);
  if (core.closing !== null) throw core.ending(doing);
  const { occupant } = core;
  if (occupant === null) return new Takeover(core);
  if (occupant instanceof Takeover) return occupant;
  throw new EventError(`Cannot ${doing}: ${occupant.what}`, { code: "EV_BUSY" });
}

/** What is open on a bufferevent, if anything. */
export function viewsOf(core: BevCore): Takeover | null {
  const { occupant } = core;
  return occupant instanceof Takeover ? occupant : null;
}

/** Why a direction has ended, where the event does not say it. */
export function reasonOf(what: number): EventError {
  const syscall = (what & BEV_EVENT_READING) !== 0 ? "read" : "write";
  if ((what & BEV_EVENT_TIMEOUT) === 0) {
    return new EventError(`Cannot ${syscall}: the connection has failed`, { code: "EIO", syscall });
  }
  const message = `Cannot ${syscall}: nothing ${syscall === "read" ? "arrived" : "could be sent"} within the timeout`;
  return new EventError(message, { code: "ETIMEDOUT", syscall });
}
