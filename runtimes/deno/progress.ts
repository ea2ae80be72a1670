/**
 * Finds out when Deno has delivered all bytes that have arrived.
 *
 * @module
 */

import { afterImmediates } from "../shared/host.ts";

/** Counts of what the connections of this process have done. */
export const progress: { reads: number } = { reads: 0 };

/** In this many immediates, tokio's I/O driver is polled once and its results arrive. */
const POLL_IMMEDIATES = 72;
/**
 * With fewer reads in a round, tokio's budget of 128 reads and writes is not used up, even if each read is answered by
 * a write.
 */
const FEW_READS = 32;

/**
 * Calls `fn` when the runtime has been polled. Immediates that follow each other keep tokio from its I/O driver: it
 * polls after 61 tasks (the `event_interval` of its current-thread scheduler), and each immediate is one task. Until
 * the next poll at most 128 reads and writes complete (tokio's budget of a task), so after many reads more may have
 * arrived.
 *
 * @param connections How many connections there may be. One read of each is waited for, and several with TLS. Then it
 * stops, since more may arrive for ever
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
