/**
 * Codecs: they split bytes into messages, and write messages as bytes. A codec keeps no state of a connection, so one
 * object serves all.
 *
 * @module
 */

import type { EvBuffer } from "../buffer/evbuffer.ts";
import {
  addBoth,
  blameBuffer,
  checkEvBuffer,
  checkFront,
  findFront,
  peekFront,
  peekNumber,
  take,
} from "../buffer/internal.ts";
import { findBytes } from "../buffer/search.ts";
import { toBytes } from "../buffer/utf8.ts";
import { bounded, isBounded } from "./bounded.ts";
import {
  checkBoolean,
  checkCount,
  checkFunction,
  checkLimit,
  copyOf,
  hasMethod,
  outOfRange,
  wrongType,
} from "../checks.ts";
import { EventError } from "../errors.ts";
import { type Names, readOptions } from "../names.ts";

/** The default limit of a frame, in bytes: 1 MiB. */
export const DEFAULT_MAX_FRAME_BYTES: number = 1024 * 1024;

/** The argument of `encode` for a frame of type `T`. For bytes a string is accepted too, as UTF-8. */
export type FrameInput<T> = T | ([T] extends [Uint8Array] ? string : never);

/**
 * Splits bytes into frames and decodes them.
 *
 * `T` is the type of a frame. The codecs of this library return bytes. `mapCodec()` and your own codecs may return
 * anything except null and undefined.
 *
 * @example Packets like those of MQTT: a byte with a type, a length of up to four bytes with seven bits each, and the
 * rest
 * ```ts
 * import { EvBuffer, EventError, type FrameCodec } from "trivent";
 * interface Packet {
 *   type: number;
 *   body: Uint8Array;
 * }
 * const MAX_BYTES = 100_000;
 * const packets: FrameCodec<Packet> = {
 *   decode(input) {
 *     const start = input.pullup(Math.min(input.length, 5)) ?? new Uint8Array();
 *     let length = 0;
 *     for (let i = 1; i < start.length; i++) {
 *       const byte = start[i] as number;
 *       length += (byte & 127) * 128 ** (i - 1);
 *       if (length > MAX_BYTES) throw new EventError("the packet is too long", { code: "EV_FRAME_TOO_LONG" });
 *       if (byte < 128) {
 *         if (input.length < 1 + i + length) return null;
 *         const packet = { type: start[0] as number, body: new Uint8Array(length) };
 *         input.drain(1 + i);
 *         input.remove(packet.body);
 *         return packet;
 *       }
 *       if (i === 4) throw new EventError("the length has more than four bytes", { code: "EV_FRAME_INVALID" });
 *     }
 *     return null;
 *   },
 *   encode(output, { type, body }) {
 *     const header = [type];
 *     let rest = body.length;
 *     for (; rest > 127; rest >>= 7) header.push(rest & 127 | 128);
 *     output.add(Uint8Array.from([...header, rest]));
 *     output.add(body);
 *   },
 * };
 * const buffer = new EvBuffer();
 * packets.encode(buffer, { type: 0x30, body: new Uint8Array(300) });
 * if (buffer.length !== 303 || packets.decode(buffer)?.body.length !== 300) throw new Error("unreachable");
 * ```
 */
export interface FrameCodec<T = Uint8Array> {
  /**
   * Takes the first frame from the front.
   *
   * @param input The buffer with the bytes
   * @returns The frame without its prefix or delimiter. It may be kept, as a line of `readln`. `null` if it is not
   * whole
   * @throws {EventError} `EV_FRAME_TOO_LONG` (of lines `EV_LINE_TOO_LONG`) when it is over the limit, whole or not;
   * `EV_FRAME_INVALID` when the bytes cannot be a frame; nothing is taken then, unless the codec says so. `EV_FROZEN`
   * and `EV_FREED` as `readln`
   */
  decode(input: EvBuffer): T | null;
  /**
   * Takes the rest at the end of file as a last frame, if a last frame needs no terminator. It is called only if bytes
   * are left and `decode` has returned `null`. Without it, a rest is an error: see `BufferEvent.frames()`.
   *
   * @param input The buffer with the bytes
   * @returns The frame, or `null` for none
   * @throws {EventError} As `decode`
   */
  decodeEnd?(input: EvBuffer): T | null;
  /**
   * Adds a frame at the back, in the form that `decode` reads.
   *
   * @param output The buffer to add it to
   * @param frame The frame; if frames are bytes, also a string as UTF-8. It is copied
   * @throws {TypeError} When it has another type
   * @throws {RangeError} When the frame is too long, or contains a delimiter
   * @throws {EventError} `EV_FROZEN` and `EV_FREED` as `add`
   */
  encode(output: EvBuffer, frame: FrameInput<T>): void;
}

/** A limit for frames. */
export interface FrameOptions {
  /**
   * The largest frame, in bytes without its prefix or delimiter.
   *
   * @default {1_048_576}
   */
  maxBytes?: number | undefined;
}

const FRAME_OPTIONS: Names<FrameOptions> = { maxBytes: true };

/** The form of the length of a frame. */
export interface LengthPrefixOptions extends FrameOptions {
  /** The number of bytes of the length. */
  prefixBytes: 1 | 2 | 3 | 4 | 8;
  /**
   * Whether the least significant byte comes first.
   *
   * @default {false}
   */
  littleEndian?: boolean | undefined;
  /**
   * Whether the length includes the bytes of the prefix, as in PostgreSQL. `maxBytes` never includes them.
   *
   * @default {false}
   */
  includesPrefix?: boolean | undefined;
}

const LENGTH_PREFIX_OPTIONS: Names<LengthPrefixOptions> = {
  maxBytes: true,
  prefixBytes: true,
  littleEndian: true,
  includesPrefix: true,
};

/**
 * Makes a codec for frames that end with a delimiter.
 *
 * A frame that arrives in pieces is searched once. Encoding takes O(bytes), because a frame must not contain the
 * delimiter.
 *
 * @param delimiter The delimiter: bytes, or a string as UTF-8
 * @param options The limit
 * @returns The codec
 * @throws {TypeError} When the delimiter is neither a `Uint8Array` nor a string
 * @throws {RangeError} When it is empty, or the limit is negative or fractional
 * @example
 * ```ts
 * import { delimited, EvBuffer } from "trivent";
 * const codec = delimited("--");
 * const buffer = new EvBuffer();
 * buffer.add("one--two-");
 * const frame = codec.decode(buffer);
 * if (frame === null || new TextDecoder().decode(frame) !== "one") throw new Error("unreachable");
 * if (codec.decode(buffer) !== null) throw new Error("unreachable");
 * ```
 */
export function delimited(delimiter: Uint8Array | string, options: FrameOptions = {}): FrameCodec {
  const mark = toBytes("make a codec", "the delimiter", delimiter).slice();
  if (mark.length === 0) throw new RangeError("Cannot make a codec: the delimiter is empty");
  const maxBytes = limitOf(readOptions("make a codec", options, FRAME_OPTIONS));
  return bounded({
    decode(input) {
      checkFront(input, "read a frame");
      const length = findFront(input, mark);
      // Bytes that cannot be the beginning of a delimiter belong to the frame.
      const known = length < 0 ? input.length - mark.length + 1 : length;
      if (known > maxBytes) throw tooLong(input, maxBytes, known);
      return length < 0 ? null : take(input, length, 0, mark.length);
    },
    encode(output, frame) {
      checkEvBuffer("write a frame", output);
      const bytes = copyOf("write a frame", "it", toBytes("write a frame", "it", frame));
      if (bytes.length > maxBytes) throw tooLarge(maxBytes, bytes.length);
      const whole = new Uint8Array(bytes.length + mark.length);
      whole.set(bytes);
      whole.set(mark, bytes.length);
      // Not only inside: the end of a frame and the beginning of the delimiter can make one too.
      if (findBytes(whole, mark, 0, whole.length) !== bytes.length) {
        throw new RangeError(`Cannot write a frame: it has the delimiter in it: received ${bytes.length} bytes`);
      }
      output.add(whole);
    },
  });
}

/**
 * Makes a codec for frames that all have the same length.
 *
 * @param bytes The length of a frame, in bytes
 * @returns The codec
 * @throws {TypeError} When it is not a number
 * @throws {RangeError} When it is negative, fractional or 0
 * @example
 * ```ts
 * import { EvBuffer, fixedLength } from "trivent";
 * const codec = fixedLength(3);
 * const buffer = new EvBuffer();
 * buffer.add("abcde");
 * if (codec.decode(buffer)?.length !== 3 || codec.decode(buffer) !== null) throw new Error("unreachable");
 * ```
 */
export function fixedLength(bytes: number): FrameCodec {
  if (checkCount("make a codec", "the length", bytes) === 0) {
    throw new RangeError("Cannot make a codec: the length of a frame is not 1 or more: received 0");
  }
  return bounded({
    decode(input) {
      checkFront(input, "read a frame");
      return take(input, bytes);
    },
    encode(output, frame) {
      checkEvBuffer("write a frame", output);
      const content = toBytes("write a frame", "it", frame);
      if (content.length !== bytes) {
        throw outOfRange("write a frame", `it does not have ${bytes} bytes`, content.length);
      }
      output.add(content);
    },
  });
}

/**
 * Makes a codec for frames with their length before them, as an unsigned integer of 1, 2, 3, 4 or 8 bytes.
 *
 * @param options The form of the length, and the limit
 * @returns The codec. With `includesPrefix`, its `decode` throws `EV_FRAME_INVALID` when the length is less than that
 * of the prefix
 * @throws {TypeError} When an option is of the wrong type
 * @throws {RangeError} When the prefix is not of 1, 2, 3, 4 or 8 bytes, or the limit is negative or fractional
 * @example
 * ```ts
 * import { EvBuffer, lengthPrefixed } from "trivent";
 * const codec = lengthPrefixed({ prefixBytes: 2 });
 * const buffer = new EvBuffer();
 * codec.encode(buffer, "abc");
 * if (buffer.length !== 5 || codec.decode(buffer)?.length !== 3) throw new Error("unreachable");
 * ```
 */
export function lengthPrefixed(options: LengthPrefixOptions): FrameCodec {
  const read = readOptions("make a codec", options, LENGTH_PREFIX_OPTIONS);
  const { prefixBytes, littleEndian = false, includesPrefix = false } = read;
  if (![1, 2, 3, 4, 8].includes(prefixBytes)) {
    throw outOfRange("make a codec", "the prefix does not have 1, 2, 3, 4 or 8 bytes", prefixBytes);
  }
  checkBoolean("make a codec", "littleEndian", littleEndian);
  checkBoolean("make a codec", "includesPrefix", includesPrefix);
  const counted = includesPrefix ? prefixBytes : 0;
  // The size of the prefix is a limit too, and so is the largest exact integer.
  const most = Math.min(256 ** prefixBytes - 1, Number.MAX_SAFE_INTEGER) - counted;
  const maxBytes = Math.min(limitOf(read), most);
  return bounded({
    decode(input) {
      const given = peekNumber(input, "read a frame", prefixBytes, littleEndian);
      if (given < 0) return null;
      const length = given - counted;
      if (length > maxBytes) throw tooLong(input, maxBytes, length);
      if (length < 0) {
        throw invalidFrame(input, `its length is less than that of its prefix: received ${given}`);
      }
      return take(input, length, prefixBytes);
    },
    encode(output, frame) {
      checkEvBuffer("write a frame", output);
      const bytes = toBytes("write a frame", "it", frame);
      if (bytes.length > maxBytes) throw tooLarge(maxBytes, bytes.length);
      let rest = bytes.length + counted;
      for (let i = 0; i < prefixBytes; i++) {
        // The array keeps the low byte.
        header[littleEndian ? i : prefixBytes - 1 - i] = rest;
        rest = rest > 0xffff_ffff ? Math.floor(rest / 256) : rest >>> 8;
      }
      addBoth(output, header, prefixBytes, bytes);
    },
  });
}

/**
 * Makes a codec for frames with their length before them as a varint: seven bits in a byte, the least significant
 * first, and the high bit set in all bytes except the last (as in Protocol Buffers).
 *
 * @param options The limit
 * @returns The codec; its `decode` throws `EV_FRAME_INVALID` when a length has more than ten bytes
 * @throws {RangeError} When the limit is negative or fractional
 * @example
 * ```ts
 * import { EvBuffer, varintPrefixed } from "trivent";
 * const codec = varintPrefixed();
 * const buffer = new EvBuffer();
 * codec.encode(buffer, new Uint8Array(300));
 * if (buffer.length !== 302 || codec.decode(buffer)?.length !== 300) throw new Error("unreachable");
 * ```
 */
export function varintPrefixed(options: FrameOptions = {}): FrameCodec {
  const maxBytes = Math.min(limitOf(readOptions("make a codec", options, FRAME_OPTIONS)), Number.MAX_SAFE_INTEGER);
  return bounded({
    decode(input) {
      const there = peekFront(input, "read a frame", header, 10);
      let length = 0;
      for (let i = 0; i < there; i++) {
        const byte = header[i] as number;
        length += (byte & 0x7f) * 2 ** (7 * i);
        if (length > maxBytes) throw tooLong(input, maxBytes, length);
        if (byte < 0x80) return take(input, length, i + 1);
      }
      if (there < 10) return null;
      throw invalidFrame(input, "its length takes more than ten bytes");
    },
    encode(output, frame) {
      checkEvBuffer("write a frame", output);
      const bytes = toBytes("write a frame", "it", frame);
      let rest = bytes.length;
      if (rest > maxBytes) throw tooLarge(maxBytes, rest);
      let n = 0;
      for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) header[n++] = rest % 0x80 | 0x80;
      header[n++] = rest;
      addBoth(output, header, n, bytes);
    },
  });
}

/**
 * Makes a codec for values of your own type from another codec.
 *
 * @param codec The codec for the frames
 * @param decode Makes a value of a frame. If it throws, the error is `EV_FRAME_INVALID` with the exception as its
 * cause. The frame is taken all the same, so a view can go on with the next one. It must not return null or undefined
 * @param encode Makes a frame of a value. Its exceptions go to the caller of `encode`
 * @returns The codec, with the limits of the other codec
 * @throws {TypeError} When an argument has the wrong type
 * @example
 * ```ts
 * import { EvBuffer, lengthPrefixed, mapCodec } from "trivent";
 * interface Position {
 *   x: number;
 *   y: number;
 * }
 * const positions = mapCodec(
 *   lengthPrefixed({ prefixBytes: 1, maxBytes: 8 }),
 *   (bytes): Position => {
 *     const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
 *     return { x: view.getInt32(0), y: view.getInt32(4) };
 *   },
 *   ({ x, y }) => {
 *     const view = new DataView(new ArrayBuffer(8));
 *     view.setInt32(0, x);
 *     view.setInt32(4, y);
 *     return new Uint8Array(view.buffer);
 *   },
 * );
 * const buffer = new EvBuffer();
 * positions.encode(buffer, { x: 3, y: -4 });
 * if (positions.decode(buffer)?.y !== -4) throw new Error("unreachable");
 * ```
 */
export function mapCodec<A, B>(
  codec: FrameCodec<A>,
  decode: (frame: A) => B,
  encode: (value: B) => FrameInput<A>,
): FrameCodec<B> {
  checkCodec("make a codec", codec);
  checkFunction("make a codec", "decode", decode);
  checkFunction("make a codec", "encode", encode);
  const mapped = (input: EvBuffer, frame: A | null | undefined): B | null => {
    // A codec in JavaScript may give undefined for nothing.
    if (frame === null || frame === undefined) return null;
    let value: B;
    try {
      value = decode(frame);
    } catch (error) {
      throw invalidFrame(input, "what it says is refused", error);
    }
    if (value === null || value === undefined) {
      throw invalidFrame(input, `it means ${value}, which a codec gives for no frame`);
    }
    return value;
  };
  const result: FrameCodec<B> = {
    decode: (input) => mapped(input, codec.decode(input)),
    encode(output, value) {
      checkEvBuffer("write a frame", output);
      codec.encode(output, encode(value as B));
    },
  };
  if (codec.decodeEnd !== undefined) result.decodeEnd = (input) => mapped(input, codec.decodeEnd?.(input));
  return isBounded(codec) ? bounded(result) : result;
}

/** Throws unless it is a codec. */
export function checkCodec<T>(verb: string, codec: FrameCodec<T>): void {
  for (const name of ["decode", "encode"] as const) {
    if (!hasMethod(codec, name)) {
      throw wrongType(verb, `the codec has no function ${name}`, codec);
    }
  }
  if (codec.decodeEnd !== undefined) checkFunction(verb, "decodeEnd of the codec", codec.decodeEnd);
}

/** The first bytes of a frame, while they are looked at or written. */
const header = /* @__PURE__ */ new Uint8Array(10);

function limitOf(options: FrameOptions): number {
  return options.maxBytes === undefined
    ? DEFAULT_MAX_FRAME_BYTES
    : checkLimit("make a codec", "the limit", options.maxBytes);
}

function tooLong(input: EvBuffer, maxBytes: number, length: number): EventError {
  const message = `Cannot read a frame: it is longer than ${maxBytes} bytes: received ${length}`;
  return blameBuffer(input, new EventError(message, { code: "EV_FRAME_TOO_LONG" }));
}

function invalidFrame(input: EvBuffer, why: string, cause?: unknown): EventError {
  const message = `Cannot read a frame: ${why}`;
  return blameBuffer(
    input,
    new EventError(message, cause === undefined ? { code: "EV_FRAME_INVALID" } : { code: "EV_FRAME_INVALID", cause }),
  );
}

function tooLarge(maxBytes: number, length: number): RangeError {
  return outOfRange("write a frame", `it is longer than ${maxBytes} bytes`, length);
}
