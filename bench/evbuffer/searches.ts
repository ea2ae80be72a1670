/**
 * A needle of 16 bytes at the end of many megabytes in chunks of 16 KiB, and `Buffer.indexOf` on one array.
 */

import { Buffer } from "node:buffer";
import { EvBuffer } from "../../core/buffer/mod.ts";
import { type Pair, randomFrom } from "./harness.ts";

const CHUNK = 16 * 1024;
const WORDS = "the quick brown fox jumps over a lazy dog and then some more text: header, value, content-length, line";

function randomBytes(bytes: number): Uint8Array {
  const random = randomFrom(1);
  const data = new Uint8Array(bytes);
  const words = new Uint32Array(data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = random(2 ** 32);
  return data;
}

function text(bytes: number): Uint8Array {
  const random = randomFrom(2);
  const words = WORDS.split(" ").map((word) => Buffer.from(`${word} `));
  const data = new Uint8Array(bytes);
  for (let at = 0; at < bytes;) {
    const word = words[random(words.length)] as Buffer;
    data.set(word.subarray(0, bytes - at), at);
    at += word.length;
  }
  return data;
}

function pair(work: string, data: Uint8Array, needle: Uint8Array): Pair {
  data.set(needle, data.length - needle.length);
  const buffer = new EvBuffer();
  for (let at = 0; at < data.length; at += CHUNK) buffer.addReference(data.slice(at, at + CHUNK));
  const whole = Buffer.from(data.buffer);
  const what = Buffer.from(needle);
  return {
    work,
    unit: "ms",
    scale: 1,
    sameResult: true,
    ours: () => buffer.search(needle).pos,
    theirs: () => whole.indexOf(what),
  };
}

/** The measured work, with this number of bytes. */
export function searchPairs(bytes: number): Pair[] {
  const random = randomFrom(3);
  return [
    pair(
      "search random bytes / Buffer.indexOf",
      randomBytes(bytes),
      Uint8Array.from({ length: 16 }, () => random(256)),
    ),
    pair("search text / Buffer.indexOf", text(bytes), new Uint8Array(Buffer.from("content-boundary"))),
  ];
}
