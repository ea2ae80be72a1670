/**
 * Values as lines of JSON.
 *
 * @module
 */

import { decodeUtf8, encodeUtf8 } from "../buffer/utf8.ts";
import { wrongType } from "../checks.ts";
import { EVBUFFER_EOL_LF } from "../flags.ts";
import { DEFAULT_MAX_FRAME_BYTES, type FrameCodec, type FrameOptions, mapCodec } from "./frames.ts";
import { lineCodec } from "./lines.ts";
import { type Names, readOptions } from "../names.ts";

const OPTIONS: Names<FrameOptions> = { maxBytes: true };

/**
 * Makes a codec for values as lines of JSON (NDJSON, JSON Lines). Each value is one line, which ends with LF. It also
 * reads lines that end with CR LF, and a last line without an end.
 *
 * A line that is not JSON in UTF-8, or is empty, is `EV_FRAME_INVALID`. The line is taken, so a view can go on with the
 * next one. The same holds for a line that is only `null`, because a codec returns null for "no frame".
 *
 * You choose the type. Nothing checks that the peer sends such values: check them, for example with `mapCodec()`.
 *
 * @param options `maxBytes`: the longest line in bytes, without its end; 1 MiB by default
 * @returns The codec. Its `decode` throws `EV_LINE_TOO_LONG`. Its `encode` throws a TypeError for values that are not
 * JSON, such as undefined, null, a function or a cycle
 * @throws {RangeError} When the limit is negative or fractional
 * @example
 * ```ts
 * import { EvBuffer, jsonLines } from "trivent";
 * const codec = jsonLines<{ method: string }>({ maxBytes: 10_000 });
 * const buffer = new EvBuffer();
 * codec.encode(buffer, { method: "ping" });
 * if (buffer.toString() !== '{"method":"ping"}\n') throw new Error("unreachable");
 * if (codec.decode(buffer)?.method !== "ping") throw new Error("unreachable");
 * ```
 */
export function jsonLines<T = unknown>(options: FrameOptions = {}): FrameCodec<T> {
  const { maxBytes = DEFAULT_MAX_FRAME_BYTES } = readOptions("make a codec", options, OPTIONS);
  return mapCodec(lineCodec({ eol: EVBUFFER_EOL_LF, maxBytes }), parse<T>, stringify<T>);
}

function parse<T>(line: Uint8Array): T {
  const text = decodeUtf8(line);
  // It stands for what was not UTF-8, or for itself.
  if (text.includes("\ufffd") && !isSame(encodeUtf8(text), line)) throw new TypeError("the line is not UTF-8");
  return JSON.parse(text) as T;
}

function stringify<T>(value: T): string {
  if (value === null) throw new TypeError("Cannot write a frame: null means no frame");
  let text: unknown;
  try {
    text = JSON.stringify(value);
  } catch (cause) {
    throw wrongType("write a frame", "it cannot be written as JSON", value, { cause });
  }
  if (typeof text !== "string" || text === "null") {
    throw wrongType("write a frame", "it cannot be written as JSON", value);
  }
  return text;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
