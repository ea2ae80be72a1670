/**
 * What a view can take from an input: chunks, lines, frames.
 *
 * @module
 */

import { checkBoolean, checkFunction, checkLimit, checkSignal, hasMethod, wrongType } from "../checks.ts";
import { EventError } from "../errors.ts";
import { EvBuffer } from "../buffer/evbuffer.ts";
import { checkFront, take } from "../buffer/internal.ts";
import { decodeUtf8 } from "../buffer/utf8.ts";
import type { BevCore } from "../bufferevent/core.ts";
import { type Names, readOptions } from "../names.ts";
import { isBounded } from "./bounded.ts";
import { checkCodec, DEFAULT_MAX_FRAME_BYTES, type FrameCodec, type FrameInput } from "./frames.ts";
import { lineCodec, type LineOptions } from "./lines.ts";
import { type ItemDecoder, View, type ViewOptions } from "./views.ts";

/** Options of `BufferEvent.lines()`. */
export interface LineViewOptions extends LineOptions, ViewOptions {
  /**
   * Whether lines are strings, decoded as UTF-8, in place of bytes.
   *
   * @default {false}
   */
  text?: boolean | undefined;
}

const LINE_VIEW_OPTIONS: Names<LineViewOptions> = { eol: true, maxBytes: true, text: true, signal: true };

const chunks: ItemDecoder<Uint8Array> = {
  maxBytes: Infinity,
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
  const { text = false, signal, ...what } = readOptions("read lines", options, LINE_VIEW_OPTIONS);
  checkBoolean("read lines", "text", text);
  checkSignal("read lines", signal);
  const codec = lineCodec(what);
  return text
    ? new View<string>(core, texts(codec), signal)
    : new View<Uint8Array>(core, decoderOf(codec, Infinity), signal);
}

/** Options of `BufferEvent.frames()`. */
export interface FrameViewOptions extends ViewOptions {
  /**
   * How many bytes may wait without being a whole frame; then the view rejects with `EV_FRAME_TOO_LONG`. Codecs of this
   * library have their own limits; for them this option has no default.
   *
   * @default {1_048_576}
   */
  maxBytes?: number | undefined;
}

const FRAME_VIEW_OPTIONS: Names<FrameViewOptions> = { signal: true, maxBytes: true };

/** The frames of a bufferevent. */
export function viewFrames<T>(core: BevCore, codec: FrameCodec<T>, options: FrameViewOptions): View<T> {
  checkDecoder(codec);
  const { signal, maxBytes = isBounded(codec) ? Infinity : DEFAULT_MAX_FRAME_BYTES } = readOptions(
    "read frames",
    options,
    FRAME_VIEW_OPTIONS,
  );
  const decoder = decoderOf(codec, checkLimit("read frames", "maxBytes", maxBytes));
  return new View<T>(core, decoder, checkSignal("read frames", signal));
}

function checkDecoder<T>(codec: FrameCodec<T>): void {
  if (!hasMethod(codec, "decode")) {
    throw wrongType("read frames", "the codec has no function decode", codec);
  }
  if (codec.decodeEnd !== undefined) checkFunction("read frames", "decodeEnd of the codec", codec.decodeEnd);
}

/** Adds a frame to the output of a bufferevent that may write. @returns Whether one may go on writing */
export function writeFrame<T>(core: BevCore, codec: FrameCodec<T>, value: FrameInput<T>): boolean {
  const { output } = core;
  const full = output.length >= core.maxOutput;
  // The codecs of this library write a whole frame or nothing.
  if (isBounded(codec) && !full && typeof codec.encode === "function") {
    codec.encode(output, value);
    return !core.full;
  }
  checkCodec("write a frame", codec);
  const frame = new EvBuffer();
  codec.encode(frame, value);
  // The codec may have ended the connection.
  core.live("write a frame");
  if (full && frame.length > 0) {
    core.refuseOutput(frame.length);
    return false;
  }
  output.addBuffer(frame);
  return !core.full;
}

function texts(codec: FrameCodec): ItemDecoder<string> {
  const textOf = (line: Uint8Array | null | undefined): string | null => line ? decodeUtf8(line) : null;
  return {
    maxBytes: Infinity,
    decode: (input) => textOf(codec.decode(input)),
    decodeEnd: (input) => textOf(codec.decodeEnd?.(input)),
  };
}

function decoderOf<T>(codec: FrameCodec<T>, maxBytes: number): ItemDecoder<T> {
  return {
    maxBytes,
    foreign: !isBounded(codec),
    // A codec in JavaScript may give undefined for nothing. Those of this library do not, and use no `this`.
    decode: isBounded(codec) ? codec.decode : (input) => codec.decode(input) ?? null,
    decodeEnd(input) {
      if (codec.decodeEnd !== undefined) return codec.decodeEnd(input) ?? null;
      throw new EventError(`Cannot read a frame: the stream ended inside it, after ${input.length} bytes`, {
        code: "EV_FRAME_TRUNCATED",
      });
    },
  };
}
