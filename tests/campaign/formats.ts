// The formats of a conversation: bytes, lines or frames.

import {
  delimited,
  EvBuffer,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_LF,
  fixedLength,
  type FrameCodec,
  lengthPrefixed,
  varintPrefixed,
} from "../../core/mod.ts";
import type { Dice } from "../tools/dice.mjs";

/** The format of the messages of both ends. */
export interface Format {
  readonly kind: "bytes" | "lines" | "frames";
  readonly eol: number;
  readonly codec: FrameCodec | null;
  /** Makes the bytes of a message. */
  payload(dice: Dice, size: number): Uint8Array;
  /** The message as it is sent. */
  wire(payload: Uint8Array): Uint8Array;
}

/** The longest line or frame that a conversation has. */
export const LONGEST = 4000;

const LETTERS = 97;

function letters(dice: Dice, size: number): Uint8Array {
  const begin = dice.below(26);
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = LETTERS + (begin + i * 7) % 26;
  return bytes;
}

const FIXED = 24;

/** Chooses a format. */
export function chooseFormat(dice: Dice): Format {
  const kind = dice.pick(["bytes", "bytes", "lines", "lines", "frames"] as const);
  if (kind === "bytes") {
    return { kind, eol: 0, codec: null, payload: (d, size) => d.bytes(Math.min(size, 65_536)), wire: (bytes) => bytes };
  }
  if (kind === "lines") {
    const crlf = dice.below(2) === 0;
    const end = crlf ? [13, 10] : [10];
    return {
      kind,
      eol: crlf ? EVBUFFER_EOL_CRLF : EVBUFFER_EOL_LF,
      codec: null,
      payload: (d, size) => letters(d, Math.min(size, LONGEST)),
      wire(payload) {
        const bytes = new Uint8Array(payload.length + end.length);
        bytes.set(payload);
        bytes.set(end, payload.length);
        return bytes;
      },
    };
  }
  const codec = dice.pick([
    lengthPrefixed({ prefixBytes: 2 }),
    lengthPrefixed({ prefixBytes: 4, littleEndian: true, includesPrefix: true }),
    varintPrefixed(),
    delimited(Uint8Array.of(0, 1)),
    fixedLength(FIXED),
  ]);
  const fixed = isFixed(codec);
  return {
    kind,
    eol: 0,
    codec,
    payload: (d, size) => letters(d, fixed ? FIXED : Math.min(size, LONGEST)),
    wire(payload) {
      const buffer = new EvBuffer();
      codec.encode(buffer, payload);
      return buffer.toUint8Array();
    },
  };
}

function isFixed(codec: FrameCodec): boolean {
  try {
    const buffer = new EvBuffer();
    codec.encode(buffer, new Uint8Array(1).fill(LETTERS));
    return false;
  } catch {
    return true;
  }
}
