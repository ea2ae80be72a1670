/**
 * Moving chunks from one buffer to another: the same for large chunks as for small ones, since nothing is copied.
 */

import { EvBuffer } from "../../core/buffer/mod.ts";
import type { Pair } from "./harness.ts";

const CHUNKS = 100;
const ROUNDS = 2000;

function moving(bytes: number): () => number {
  const from = new EvBuffer();
  const to = new EvBuffer();
  const memory = new Uint8Array(bytes);
  for (let i = 0; i < CHUNKS; i++) from.addReference(memory);
  return () => {
    for (let i = 0; i < ROUNDS; i++) {
      // All but one by count, chunk by chunk; then all at once, and back.
      from.removeBuffer(to, bytes * (CHUNKS - 1));
      to.addBuffer(from);
      from.addBuffer(to);
    }
    return from.peek().length;
  };
}

/** The measured work. */
export function movePairs(): Pair[] {
  return [{
    work: "move 64 KiB chunks / 64 B chunks",
    unit: "ns/chunk",
    scale: 1e6 / (ROUNDS * CHUNKS),
    sameResult: true,
    ours: moving(64 * 1024),
    theirs: moving(64),
  }];
}
