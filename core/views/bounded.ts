/** The codecs that have their own limit: they do not return `null` for ever. */

import type { FrameCodec } from "./frames.ts";

const codecs: WeakSet<FrameCodec<never>> = /* @__PURE__ */ new WeakSet();

/** Marks a codec that needs no limit of a view. */
export function bounded<T = Uint8Array>(codec: FrameCodec<T>): FrameCodec<T> {
  codecs.add(codec as FrameCodec<never>);
  return codec;
}

/** Whether a codec has its own limit. */
export function isBounded<T>(codec: FrameCodec<T>): boolean {
  // Asked for each frame.
  if (codec === last) return true;
  if (!codecs.has(codec as FrameCodec<never>)) return false;
  last = codec;
  return true;
}

/** The codec of the last answer; at first one that nobody has. */
let last: unknown = codecs;
