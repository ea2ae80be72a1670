// Filters for the tests.

import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { BufferEventFilter } from "../../../core/bufferevent/filter_run.ts";
import { BEV_ERROR, BEV_FINISHED, BEV_NEED_MORE, BEV_OK } from "../../../core/flags.ts";

/** Inverts the case of letters, in both directions alike. Keeps to the limit. */
export const swapCase: BufferEventFilter = (source, destination, limit) => {
  const n = limit < 0 ? source.length : Math.min(limit, source.length);
  if (n === 0) return BEV_NEED_MORE;
  const bytes = new Uint8Array(n);
  source.remove(bytes);
  for (let i = 0; i < n; i++) {
    const c = (bytes[i] as number) | 32;
    if (c >= 97 && c <= 122) (bytes[i] as number) ^= 32;
  }
  destination.add(bytes);
  return BEV_OK;
};

/** One byte a call. */
export const oneByOne: BufferEventFilter = (source, destination) =>
  source.removeBuffer(destination, 1) === 1 ? BEV_OK : BEV_NEED_MORE;

/**
 * Makes frames of `size` bytes with a length byte before each. It holds bytes back until a frame is
 * full; at the end it makes a short frame of the rest.
 */
export function framer(size: number): BufferEventFilter {
  const held = new EvBuffer();
  const frame = (destination: EvBuffer, n: number): void => {
    destination.add(Uint8Array.of(n));
    held.removeBuffer(destination, n);
  };
  return (source, destination, _limit, mode) => {
    held.addBuffer(source);
    while (held.length >= size) frame(destination, size);
    if (mode === BEV_FINISHED && held.length > 0) frame(destination, held.length);
    return BEV_NEED_MORE;
  };
}

/** Decodes the frames, one a call. An empty or truncated frame is an error. */
export const unframe: BufferEventFilter = (source, destination, _limit, mode) => {
  const [size] = source.peek(1)[0] ?? [];
  if (size === undefined) return BEV_NEED_MORE;
  if (size === 0) return BEV_ERROR;
  if (source.length < size + 1) return mode === BEV_FINISHED ? BEV_ERROR : BEV_NEED_MORE;
  source.drain(1);
  source.removeBuffer(destination, size);
  return BEV_OK;
};
