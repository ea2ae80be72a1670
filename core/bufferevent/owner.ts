/**
 * The owner calls the callbacks of a connection, in place of the bufferevent. `serve()` and `connect()` use a
 * `ConnectionOwner` (`core/serve/owner.ts`).
 */

import type { EventError } from "../errors.ts";
import type { BufferEventCallbacks, Face } from "./callbacks.ts";
import type { BevCore } from "./core.ts";

type Callbacks = BufferEventCallbacks<Face> | null;

/** The owner of a connection's callbacks. Filters over the connection have the same one. */
export interface CallbackOwner {
  /** The bufferevent of the connection itself, below all filters. */
  readonly root: BevCore;
  /**
   * Whether `close` was called, or will not be called. Until then the program may write to a connection that is over.
   */
  readonly closeTold: boolean;
  /** Calls the read callback. Called in the loop. */
  read(core: BevCore, callbacks: Callbacks): void;
  /** Calls the write callback. Called in the loop. */
  write(core: BevCore, callbacks: Callbacks): void;
  /** Calls the event callback. Called in the loop. */
  event(core: BevCore, callbacks: Callbacks, what: number, error: EventError | undefined): void;
  /** Code of the program has thrown while the loop ran an event of the connection. */
  failed(error: unknown): void;
  /** A release callback has thrown. It may not concern this connection. */
  released(error: unknown): void;
  /** Whether a timeout of reading or idleness that has just passed does not count, because the program is busy. */
  excuses(core: BevCore): boolean;
  /** The program begins to wait for input, in a view, or for the output to drain. */
  onWaiting(): void;
  /** The program has got what it waited for. */
  onBack(): void;
  /** The end of the input, or a failure, goes to a view and not to the event callback. */
  onViewEnd(what: number, error: EventError | null, awaited: boolean): void;
  /** A view was opened. */
  onViewOpened(): void;
  /** The consumer of a view has got its end or error. */
  onViewOver(failed: boolean): void;
  /** The stream of the input was cancelled: the program wants no more of it, unless a callback or another view reads. */
  onReadCancelled(): void;
  /** The program has set a read callback. */
  onReadCallback(): void;
  /** Whether an incomplete message waits in a view. */
  onMessage(incomplete: boolean): void;
  /** The input has reached its high watermark. */
  onInputFull(): void;
  /** Something has changed that may keep the input from being read. */
  onProgress(): void;
  /** The output has drained. */
  onDrained(core: BevCore): void;
  /** One direction of the connection is over. */
  onDirectionOver(): void;
  /** A graceful end has not delivered everything. `error` is that of the connection; without one, the time was over. */
  onUndelivered(error: EventError | null): void;
  /** The connection was freed. */
  onFreed(): void;
}
