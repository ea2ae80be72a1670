/** The codecs that bound what may wait by themselves: they never give `null` for ever. */

import type { FrameCodec } from "./frames.ts";

const codecs: WeakSet<FrameCodec<never>> = /* @__PURE__ */ new WeakSet();

/** Says that a codec needs no bound of a view's. */
export function bounded<T = Uint8Array>(codec: FrameCodec<T>): FrameCodec<T> {
  codecs.add(codec as FrameCodec<never>);
  return codec;
}

/** Whether a codec bounds what may wait by itself. */
export function isBounded<T>(codec: FrameCodec<T>): boolean {
  return codecs.has(codec as FrameCodec<never>);
}
