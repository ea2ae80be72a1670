/**
 * The views of a bufferevent. An open view replaces the callbacks of its direction, passes other events on to them, and
 * gives them back at its end.
 */

import { BEV_EVENT_EOF, BEV_EVENT_ERROR, BEV_EVENT_READING, BEV_EVENT_TIMEOUT, BEV_EVENT_WRITING } from "../flags.ts";
import { EventError } from "../errors.ts";
import type { BevCore } from "../bufferevent/core.ts";
import type { Occupant } from "../bufferevent/occupant.ts";

/** The end of the input. */
export interface End {
  /** The error, or null at the end of file. */
  readonly error: EventError | null;
  /** The bits of the event; 0 for none. */
  readonly what: number;
}

/** The open view of the input. */
export interface Reader {
  /** Whether its consumer waits for input. */
  readonly waiting: boolean;
  /** There is input. Called in the loop. */
  onReadable(): void;
  /** Nothing more will arrive. */
  onEnd(end: End): void;
  /** `close()` was called. Input that nobody has asked for is dropped. */
  onClosing(): void;
}

/** The open view of the output. */
export interface Writer {
  /** Whether it must be told that the output has drained. */
  readonly waiting: boolean;
  /** The output has drained to its low watermark. Called in the loop. */
  onDrained(): void;
  /** Sending has failed. */
  onError(error: EventError): void;
  /** `close()` was called. */
  onClosing(): void;
}

/** The open views of one bufferevent. They replace the program's callbacks. */
export class Takeover implements Occupant {
  readonly what: string = "a view is open on it";
  /** Set only if somebody waits: a bufferevent without a write callback does not report that it has drained. */
  write: (() => void) | undefined = undefined;
  private readonly core: BevCore;
  private readView: Reader | null = null;
  private writeView: Writer | null = null;
  /** Whether the views keep the loop running. */
  private held = false;
  private readonly onWrite: () => void = () => {
    this.writeView?.onDrained();
    if (!this.core.freed) this.core.userWrite();
  };

  /** Replaces the callbacks. */
  constructor(core: BevCore) {
    this.core = core;
    core.occupant = this;
    this.onCallbacks();
  }

  get reader(): Reader | null {
    return this.readView;
  }

  set reader(reader: Reader | null) {
    this.readView = reader;
    this.keepRunning();
    this.giveBack();
  }

  get writer(): Writer | null {
    return this.writeView;
  }

  set writer(writer: Writer | null) {
    this.writeView = writer;
    this.onCallbacks();
    this.giveBack();
  }

  /** Whether a consumer waits for input, or for the output to drain. */
  get waiting(): boolean {
    return this.readView?.waiting === true || this.writeView?.waiting === true;
  }

  /** Updates whether somebody must be told that the output has drained. */
  onCallbacks(): void {
    const given = this.core.callbacks?.write;
    const wanted = this.writeView?.waiting === true || (given !== undefined && given !== null);
    this.write = wanted ? this.onWrite : undefined;
    this.keepRunning();
  }

  /**
   * A reader of a view may be busy elsewhere while nothing is pending here, for example at the high watermark. The loop
   * must still run when the reader comes back.
   */
  private keepRunning(): void {
    const held = !this.core.freed && (this.readView !== null || this.writeView?.waiting === true);
    if (held === this.held) return;
    this.held = held;
    this.core.loop.keepRunning(held ? 1 : -1);
  }

  private giveBack(): void {
    const core = this.core;
    if (this.readView !== null || this.writeView !== null || core.occupant !== this) return;
    core.occupant = null;
    if (core.owner !== null) core.owner.onProgress();
  }

  // ---- as an occupant

  read(): void {
    if (this.readView !== null) this.readView.onReadable();
    else this.core.userRead();
  }

  event(what: number, error: EventError | undefined): void {
    const failed = (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0;
    const writing = (what & (BEV_EVENT_READING | BEV_EVENT_WRITING)) === BEV_EVENT_WRITING;
    const ends = failed || ((what & BEV_EVENT_EOF) !== 0 && !writing);
    const reader = this.readView;
    const writer = failed && (what & BEV_EVENT_READING) === 0 ? this.writeView : null;
    // A failure of writing goes to the writer, or else to the reader. An event without a direction, such as a failed
    // attempt to connect, goes to both.
    const toReader = ends && !(writing && writer !== null) ? reader : null;
    if (writer === null && toReader === null) {
      this.core.userEvent(what, error);
      return;
    }
    const reason = failed ? this.core.raised(error ?? reasonOf(what)) : null;
    const awaited = reader !== null && reader.waiting;
    if (toReader !== null) {
      toReader.onEnd({ error: reason, what });
      for (const stream of this.core.streams ?? []) stream.onReadEnd();
    }
    if (reason !== null) writer?.onError(reason);
    if (this.core.owner !== null) this.core.owner.onViewEnd(what, reason, awaited);
  }

  onClosing(): void {
    this.readView?.onClosing();
    this.writeView?.onClosing();
  }

  onFreed(): void {
    this.keepRunning();
    const error = this.core.ending("go on with a view");
    this.readView?.onEnd({ error, what: 0 });
    this.writeView?.onError(error);
  }
}

/** Opens a view. @throws {EventError} When it cannot be opened */
export function takeOver(core: BevCore, doing: string): Takeover {
  core.live(doing);
  if (core.closing !== null) throw core.ending(doing);
  const { occupant } = core;
  if (occupant === null) return new Takeover(core);
  if (occupant instanceof Takeover) return occupant;
  throw new EventError(`Cannot ${doing}: ${occupant.what}`, { code: "EV_BUSY" });
}

/** The open views of a bufferevent, or null. */
export function viewsOf(core: BevCore): Takeover | null {
  const { occupant } = core;
  return occupant instanceof Takeover ? occupant : null;
}

/** The reason of the end of a direction, if the event has none. */
export function reasonOf(what: number): EventError {
  const syscall = (what & BEV_EVENT_READING) !== 0 ? "read" : "write";
  if ((what & BEV_EVENT_TIMEOUT) === 0) {
    return new EventError(`Cannot ${syscall}: the connection has failed`, { code: "EIO", syscall });
  }
  const message = `Cannot ${syscall}: nothing ${syscall === "read" ? "arrived" : "could be sent"} within the timeout`;
  return new EventError(message, { code: "ETIMEDOUT", syscall });
}
