// Filters over a connection, up to three deep, the same on both ends.

import {
  BEV_ERROR,
  BEV_FINISHED,
  BEV_NEED_MORE,
  BEV_OK,
  BEV_OPT_CLOSE_ON_FREE,
  type BufferEvent,
  type BufferEventFilter,
  compressionFilter,
  FilterBufferEvent,
} from "../../core/mod.ts";
import type { Dice } from "../tools/dice.mjs";
import type { Speaker } from "./speaker.ts";

const PLAIN = ["mask", "slow", "frames", "none"] as const;
const COMPRESSING = ["gzip", "deflate", "deflate-raw", "brotli"] as const;

/** The names of filters, the lowest first. */
export type Layers = readonly (typeof PLAIN[number] | typeof COMPRESSING[number])[];

/** Chooses layers, in one of `oneIn` cases. */
export function chooseLayers(dice: Dice, oneIn: number): Layers {
  if (dice.below(oneIn) > 0) return [];
  return Array.from({ length: 1 + dice.below(3) }, () => dice.pick(dice.below(6) > 0 ? PLAIN : COMPRESSING));
}

/** Inverts each byte, and respects the limit. */
const mask: BufferEventFilter = (source, destination, limit) => {
  const n = limit < 0 ? source.length : Math.min(limit, source.length);
  if (n === 0) return BEV_NEED_MORE;
  const bytes = new Uint8Array(n);
  source.remove(bytes);
  for (let i = 0; i < n; i++) bytes[i] = (bytes[i] as number) ^ 0xff;
  destination.add(bytes);
  return BEV_OK;
};

/** Takes some bytes in each call. */
const slow: BufferEventFilter = (source, destination) =>
  source.removeBuffer(destination, Math.min(500, source.length)) > 0 ? BEV_OK : BEV_NEED_MORE;

/** Makes frames of up to 200 bytes of all input. */
const frame: BufferEventFilter = (source, destination) => {
  if (source.length === 0) return BEV_NEED_MORE;
  const n = Math.min(200, source.length);
  destination.add(Uint8Array.of(n));
  source.removeBuffer(destination, n);
  return BEV_OK;
};

/** Takes the frames apart. */
const unframe: BufferEventFilter = (source, destination, _limit, mode) => {
  const [size] = source.peek(1)[0] ?? [];
  if (size === undefined) return BEV_NEED_MORE;
  if (source.length < size + 1) return mode === BEV_FINISHED ? BEV_ERROR : BEV_NEED_MORE;
  source.drain(1);
  source.removeBuffer(destination, size);
  return BEV_OK;
};

const FILTERS = { mask: [mask, mask], slow: [slow, slow], frames: [unframe, frame], none: [null, null] } as const;

/** Puts the layers over a bufferevent. @returns The topmost */
export function cover(below: BufferEvent, layers: Layers, speaker: Speaker): BufferEvent {
  const top = uncover(below, layers);
  if (top !== below) top.setCallbacks(speaker.callbacks());
  return top;
}

/** Puts the layers over a bufferevent, without setting callbacks. @returns The topmost */
export function uncover(below: BufferEvent, layers: Layers): BufferEvent {
  let top = below;
  for (const name of layers) {
    if (name in FILTERS) {
      const [input, output] = FILTERS[name as keyof typeof FILTERS];
      top = new FilterBufferEvent(top, input, output, BEV_OPT_CLOSE_ON_FREE);
    } else {
      const flags = BEV_OPT_CLOSE_ON_FREE;
      top = compressionFilter(top, name as typeof COMPRESSING[number], { flags, autoFlush: true, level: 1 });
    }
  }
  return top;
}
