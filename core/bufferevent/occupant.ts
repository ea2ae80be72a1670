/** The occupant of a bufferevent takes its bytes in place of the callbacks: open views, a filter over it, or a pipe. */

import type { EventError } from "../errors.ts";

/**
 * While a bufferevent has an occupant, it calls the occupant and not the program's callbacks, and nothing else can take
 * the bytes.
 */
export interface Occupant {
  /** The kind, for a message: `it has a filter, which has the bytes`. */
  readonly what: string;
  /** There is input. Called in the loop. */
  read(): void;
  /** The output has drained. Called in the loop. Undefined if no caller waits for it. */
  write?: (() => void) | undefined;
  /** As the event callback. Called in the loop. */
  event(what: number, error: EventError | undefined): void;
  /** The program has set its callbacks. */
  onCallbacks?(): void;
  /** `close()` was called. */
  onClosing?(): void;
  /** The bufferevent was freed. */
  onFreed?(): void;
}
