/**
 * Who calls the user's callbacks of a connection, where the bufferevent does not call them itself: `serve()` and
 * `connect()` put a `ConnectionOwner` here (`core/serve/owner.ts`).
 */

import type { EventError } from "../errors.ts";
import type { BufferEventCallbacks, Face } from "./callbacks.ts";
import type { BevCore } from "./core.ts";

type Callbacks = BufferEventCallbacks<Face> | null;

/** The owner of a connection's callbacks. Filters over the connection have the same one. */
export interface CallbackOwner {
  /** The bufferevent of the connection itself, below all filters. */
  readonly root: BevCore;
  /** Whether `close` was called, or is not going to be. Until then the program may write to a connection that is over. */
  readonly closeTold: boolean;
  /** Calls the read callback. In the loop. */
  read(core: BevCore, callbacks: Callbacks): void;
  /** Calls the write callback. In the loop. */
  write(core: BevCore, callbacks: Callbacks): void;
  /** Calls the event callback. In the loop. */
  event(core: BevCore, callbacks: Callbacks, what: number, error: EventError | undefined): void;
  /** Code of the program threw while the loop ran something of the connection's. */
  failed(error: unknown): void;
  /** A release callback threw: the connection at hand may be innocent. */
  released(error: unknown): void;
  /** Whether a timeout of reading or idleness that has just passed does not count, since the program is busy. */
  excuses(core: BevCore): boolean;
  /** The program begins to wait for input, in a view, or for the output to drain. */
  onWaiting(): void;
  /** The program has got what it waited for. */
  onBack(): void;
  /** The end of what arrives, or a failure, goes to a view and not to the event callback. */
  onViewEnd(what: number, error: EventError | null, awaited: boolean): void;
  /** A view was opened. */
  onViewOpened(): void;
  /** The consumer of a view has got its end, or the error that it ended with. */
  onViewOver(failed: boolean): void;
  /** Whether an incomplete message waits in a view. */
  onMessage(incomplete: boolean): void;
  /** The input has reached its high watermark. */
  onInputFull(): void;
  /** Something has changed of what keeps the input from being read. */
  onProgress(): void;
  /** The output has drained. */
  onDrained(core: BevCore): void;
  /** One direction of the connection is over. */
  onDirectionOver(): void;
  /** A graceful end has not delivered all. `error` says why where the connection has failed; else it was out of time. */
  onUndelivered(error: EventError | null): void;
  /** The connection was freed. */
  onFreed(): void;
}
