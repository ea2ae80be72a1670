/** The codecs that bound what may wait by themselves: they never give `null` for ever. */

import type { FrameCodec } from "./frames.ts";

const codecs: WeakSet<FrameCodec> = /* @__PURE__ */ new WeakSet();

/** Says that a codec needs no bound of a view's. */
export function bounded(codec: FrameCodec): FrameCodec {
  codecs.add(codec);
  return codec;
}

/** Whether a codec bounds what may wait by itself. */
export function isBounded(codec: FrameCodec): boolean {
  return codecs.has(codec);
}
