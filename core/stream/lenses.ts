/**
 * What a view can take off the front of an input: chunks, lines, frames.
 *
 * @module
 */

import { checkFunction, checkSignal } from "../checks.ts";
import { EventError } from "../errors.ts";
import { checkFront, take } from "../buffer/internal.ts";
import { decodeUtf8 } from "../buffer/utf8.ts";
import type { BevCore } from "../bufferevent/core.ts";
import type { FrameCodec } from "./frames.ts";
import { lineCodec, type LineOptions } from "./lines.ts";
import { type Lens, View, type ViewOptions } from "./views.ts";

/** Options of `BufferEvent.lines()`. */
export interface LineViewOptions extends LineOptions, ViewOptions {
  /**
   * Whether lines are strings, decoded as UTF-8, rather than bytes.
   *
   * @default {false}
   */
  text?: boolean | undefined;
}

const chunks: Lens<Uint8Array> = {
  decode(input) {
    checkFront(input, "read a chunk");
    return take(input, input.contiguousSpace);
  },
  decodeEnd: () => null,
};

/** The bytes of a bufferevent, as they come. */
export function viewChunks(core: BevCore): View<Uint8Array> {
  return new View(core, chunks, undefined);
}

/** The lines of a bufferevent. */
export function viewLines(core: BevCore, options: LineViewOptions): View<Uint8Array> | View<string> {
  const codec = lineCodec(options);
  return options.text === true
    ? new View<string>(core, texts(codec), checkSignal("read a bufferevent", options.signal))
    : new View<Uint8Array>(core, lensOf(codec), checkSignal("read a bufferevent", options.signal));
}

/** The frames of a bufferevent. */
export function viewFrames(core: BevCore, codec: FrameCodec, options: ViewOptions): View<Uint8Array> {
  checkFunction("read frames", "decode of the codec", (codec as FrameCodec | null | undefined)?.decode);
  return new View(core, lensOf(codec), checkSignal("read a bufferevent", options.signal));
}

function texts(codec: FrameCodec): Lens<string> {
  const textOf = (line: Uint8Array | null | undefined): string | null => line ? decodeUtf8(line) : null;
  return {
    decode: (input) => textOf(codec.decode(input)),
    decodeEnd: (input) => textOf(codec.decodeEnd?.(input)),
  };
}

function lensOf(codec: FrameCodec): Lens<Uint8Array> {
  return {
    // A codec in JavaScript may give undefined for nothing.
    decode: (input) => codec.decode(input) ?? null,
    decodeEnd(input) {
      if (codec.decodeEnd !== undefined) return codec.decodeEnd(input) ?? null;
      throw new EventError(`Cannot read a frame: the stream ended inside it, after ${input.length} bytes`, {
        code: "EV_FRAME_TRUNCATED",
      });
    },
  };
}
