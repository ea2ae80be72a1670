/**
 * How Deno gives what has arrived: when has all of it been given?
 *
 * @module
 */

import { afterImmediates } from "../shared/host.ts";

/** What the connections of this process have done so far. */
export const progress: { reads: number } = { reads: 0 };

/** In so many immediates tokio's I/O driver is polled once, and what it finds has arrived. */
const POLL_IMMEDIATES = 72;
/** With fewer reads in a round tokio's budget of 128 reads and writes is not used up, if each read is answered. */
const FEW_READS = 32;

/**
 * Calls `fn` when the host has been polled. Immediates that follow each other keep tokio from its I/O driver: it polls
 * after 61 tasks (the `event_interval` of its current-thread scheduler), and each immediate is one. Until the next poll
 * at most 128 reads and writes complete (tokio's budget of a task), so after many reads there may be more.
 *
 * @param connections How many there may be. A read of each is waited for, and of those with TLS several; then it is
 * enough, since more may arrive for ever
 */
export function afterDenoPoll(connections: number, fn: () => void): void {
  const enough = progress.reads + 8 * connections;
  const round = (): void => {
    const before = progress.reads;
    afterImmediates(POLL_IMMEDIATES, () => {
      if (progress.reads - before < FEW_READS || progress.reads > enough) fn();
      else round();
    });
  };
  round();
}
