/** Filters that convert line ends, for a program with LF and a protocol with CRLF. */

import { BEV_FINISHED, BEV_NEED_MORE, BEV_OK } from "../flags.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import type { BufferEventFilter } from "../bufferevent/filter_run.ts";

const LF = 10;
const CR = 13;
/** The largest number of bytes that one call converts. */
const PIECE_BYTES = 16 * 1024;
/** Shorter pieces are copied to the destination. */
const COPY_BYTES = 1024;

/**
 * Makes a filter function that changes each LF to CR LF. An LF after a CR does not change, and neither does a CR alone.
 *
 * It keeps to its limit, except for one byte if the limit is one. Use each function for one direction of one
 * bufferevent.
 *
 * @returns The filter
 *
 * @example
 * ```ts
 * import { bufferEventPair, crlfToLf, EventBase, FilterBufferEvent, lfToCrlf } from "trivent";
 * const [wire, peer] = bufferEventPair(new EventBase());
 * const lines = new FilterBufferEvent(wire, crlfToLf(), lfToCrlf());
 * lines.write("HELO example.org\n");
 * lines.flush(4, 1); // EV_WRITE, BEV_FLUSH
 * if (peer.input.toString() !== "HELO example.org\r\n") throw new Error("not converted");
 * ```
 */
export function lfToCrlf(): BufferEventFilter {
  let last = 0;
  return (source, destination, limit) => {
    // Each byte becomes two at most.
    const bytes = front(source, limit < 0 ? PIECE_BYTES : Math.max(limit >> 1, 1));
    if (bytes === null) return BEV_NEED_MORE;
    const out = new Uint8Array(bytes.length * 2);
    let at = 0;
    for (const byte of bytes) {
      if (byte === LF && last !== CR) out[at++] = CR;
      out[at++] = last = byte;
    }
    return done(source, bytes.length, destination, out.subarray(0, at));
  };
}

/**
 * Makes a filter function that changes each CR LF to LF. A CR alone does not change. A CR at the end of the input waits
 * for the next byte or the end of file.
 *
 * It keeps to its limit, except for one byte if the limit is one. Use each function for one direction of one
 * bufferevent.
 *
 * @returns The filter
 */
export function crlfToLf(): BufferEventFilter {
  return (source, destination, limit, mode) => {
    const bytes = front(source, limit < 0 ? PIECE_BYTES : Math.max(limit, 2));
    if (bytes === null) return BEV_NEED_MORE;
    const isAll = bytes.length === source.length;
    let n = bytes.length;
    // What follows the last CR decides about it.
    if (bytes[n - 1] === CR && !(isAll && mode === BEV_FINISHED)) n--;
    if (n === 0) return BEV_NEED_MORE;
    const out = new Uint8Array(n);
    let at = 0;
    for (let i = 0; i < n; i++) {
      const byte = bytes[i] as number;
      if (byte === CR && bytes[i + 1] === LF) continue;
      out[at++] = byte;
    }
    return done(source, n, destination, out.subarray(0, at));
  };
}

/** Up to `most` bytes in one piece, still in the buffer; null when there are none. */
function front(source: EvBuffer, most: number): Uint8Array | null {
  return source.pullup(Math.min(most, source.length, PIECE_BYTES));
}

function done(source: EvBuffer, taken: number, destination: EvBuffer, made: Uint8Array): number {
  try {
    // What is short is packed with what is there.
    if (made.length < COPY_BYTES) destination.add(made);
    else destination.addReference(made);
  } finally {
    // Also when a change callback has thrown.
    source.drain(taken);
  }
  return BEV_OK;
}
