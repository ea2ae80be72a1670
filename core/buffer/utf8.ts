/**
 * Text to bytes and back. This is the only place of the core that names the encoders. Every runtime has them, but no
 * language standard declares them.
 */

import { checkBytes, isBytes, wrongType } from "../checks.ts";

declare const TextEncoder: new () => {
  encode(text: string): Uint8Array;
  encodeInto(text: string, into: Uint8Array): { read: number; written: number };
};
declare const TextDecoder: new (label: string, options: { ignoreBOM: boolean }) => {
  decode(bytes: Uint8Array): string;
};

const encoder = /* @__PURE__ */ new TextEncoder();
// A byte order mark is a character like any other here: bytes that were added come back.
const decoder = /* @__PURE__ */ new TextDecoder("utf-8", { ignoreBOM: true });

/** Below this length a loop in JavaScript is faster than the runtime's encoder, on all three. */
const SHORT = 24;

/** Encodes `text` into fresh memory. */
export function encodeUtf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/**
 * Returns the bytes of data from the program; a string is encoded as UTF-8.
 *
 * @throws {TypeError} When it is neither a `Uint8Array` nor a string, or its memory was transferred away
 */
export function toBytes(verb: string, what: string, data: Uint8Array | string): Uint8Array {
  return typeof data === "string" ? encodeUtf8(data) : checkData(verb, what, data);
}

/** As {@linkcode toBytes}, for data that is not a string. */
export function checkData(verb: string, what: string, data: Uint8Array): Uint8Array {
  if (isBytes(data)) return data.length === 0 ? checkBytes(verb, what, data) : data;
  throw wrongType(verb, `${what} is not a Uint8Array or a string`, data);
}

/** The number of bytes of `text`; a lone surrogate becomes U+FFFD, which has three. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    bytes++;
    if (unit < 0x800) continue;
    // Two units of a pair are four bytes together.
    if (unit >= 0xd800 && unit < 0xdc00 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) i++;
    bytes++;
  }
  return bytes;
}

/** Decodes `bytes`. Bytes that are not UTF-8 become U+FFFD. */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/**
 * Encodes `text` into `memory` from `at` on, where at least three bytes per UTF-16 unit must be free.
 *
 * @returns The number of bytes that were written
 */
export function writeUtf8(text: string, memory: Uint8Array, at: number): number {
  const n = text.length;
  if (n <= SHORT) {
    let i = 0;
    for (; i < n; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 0x7f) break;
      memory[at + i] = unit;
    }
    if (i === n) return n;
  }
  return encoder.encodeInto(text, memory.subarray(at, at + 3 * n)).written;
}
