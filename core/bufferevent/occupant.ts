/** What takes the bytes of a bufferevent in place of the user's callbacks: open views, a filter over it, or a pipe. */

import type { EventError } from "../errors.ts";

/** While a bufferevent has one, the bufferevent calls it and not the user's callbacks, and nothing else can take the bytes. */
export interface Occupant {
  /** What it is, for a message: `it has a filter, which has the bytes`. */
  readonly what: string;
  /** There is input. In the loop. */
  read(): void;
  /** The output has drained. In the loop. Absent where nobody wants to hear of it. */
  write?: (() => void) | undefined;
  /** As the event callback. In the loop. */
  event(what: number, error: EventError | undefined): void;
  /** The user's callbacks were set. */
  onCallbacks?(): void;
  /** `close()` was called. */
  onClosing?(): void;
  /** The bufferevent was freed. */
  onFreed?(): void;
}
