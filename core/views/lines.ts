/**
 * Lines as frames.
 *
 * @module
 */

import { checkEvBuffer, take, takeLine } from "../buffer/internal.ts";
import { EvBuffer } from "../buffer/evbuffer.ts";
import { checkEol, checkLimit, type EolStyle, outOfRange } from "../checks.ts";
import {
  EVBUFFER_EOL_ANY,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_CRLF_STRICT,
  EVBUFFER_EOL_LF,
  EVBUFFER_EOL_NUL,
} from "../flags.ts";
import { type Names, readOptions } from "../names.ts";
import { bounded } from "./bounded.ts";
import type { FrameCodec } from "./frames.ts";

/** The default limit of a line, in bytes: 64 KiB. */
export const DEFAULT_MAX_LINE_BYTES: number = 64 * 1024;

/** The line end and the limit. */
export interface LineOptions {
  /**
   * The end-of-line style: one of the `EVBUFFER_EOL` constants. With `EVBUFFER_EOL_ANY` there are no empty lines, and a
   * CR LF that arrives in two pieces ends two lines.
   *
   * @default {EVBUFFER_EOL_CRLF}
   */
  eol?: number | undefined;
  /**
   * The longest line, in bytes without its terminator.
   *
   * @default {65_536}
   */
  maxBytes?: number | undefined;
}

const LINE_OPTIONS: Names<LineOptions> = { eol: true, maxBytes: true };

/**
 * Makes a codec for lines. It writes LF for `EVBUFFER_EOL_LF` and `EVBUFFER_EOL_ANY`, a zero byte for
 * `EVBUFFER_EOL_NUL`, otherwise CR LF.
 *
 * libevent: `evbuffer_readln`
 *
 * @param options The style and the limit
 * @returns The codec; its `decode` throws `EV_LINE_TOO_LONG`. A last line without a terminator is a line
 * @throws {TypeError} When an option is not a number
 * @throws {RangeError} When the style is unknown, or the limit is negative or fractional
 * @example
 * ```ts
 * import { EvBuffer, lineCodec } from "trivent";
 * const codec = lineCodec({ maxBytes: 1000 });
 * const buffer = new EvBuffer();
 * codec.encode(buffer, "QUIT");
 * if (buffer.toString() !== "QUIT\r\n" || codec.decode(buffer)?.length !== 4) throw new Error("unreachable");
 * ```
 */
export function lineCodec(options: LineOptions = {}): FrameCodec {
  const given = readOptions("make a codec", options, LINE_OPTIONS);
  const eol = given.eol === undefined ? EVBUFFER_EOL_CRLF : checkEol("make a codec", given.eol);
  const maxBytes = given.maxBytes === undefined
    ? DEFAULT_MAX_LINE_BYTES
    : checkLimit("make a codec", "the limit", given.maxBytes);
  const terminator = terminatorOf(eol);
  return bounded({
    decode(input) {
      return takeLine(input, eol, maxBytes);
    },
    // A last line needs no terminator, as in a text file. `decode` has checked its length.
    decodeEnd(input) {
      checkEvBuffer("read a line", input);
      return take(input, input.length);
    },
    encode(output, frame) {
      checkEvBuffer("write a line", output);
      const line = new EvBuffer();
      line.add(frame);
      const length = line.length;
      if (length > maxBytes) {
        throw outOfRange("write a line", `it is longer than ${maxBytes} bytes`, length);
      }
      line.add(terminator);
      // A terminator inside a line would make further lines, such as commands or headers of an attacker.
      if (line.searchEol(null, eol)?.pos !== length) {
        throw new RangeError(`Cannot write a line: it has a terminator in it: received ${length} bytes`);
      }
      output.addBuffer(line);
    },
  });
}

function terminatorOf(eol: EolStyle): string {
  // No `default`: a style that is missing does not compile.
  switch (eol) {
    case EVBUFFER_EOL_NUL:
      return "\0";
    case EVBUFFER_EOL_ANY:
    case EVBUFFER_EOL_LF:
      return "\n";
    case EVBUFFER_EOL_CRLF:
    case EVBUFFER_EOL_CRLF_STRICT:
      return "\r\n";
  }
}
