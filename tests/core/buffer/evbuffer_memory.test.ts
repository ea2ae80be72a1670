/** A buffer keeps only the memory of the bytes that it holds. */

import { describe, it } from "node:test";
import { memoryUsage } from "node:process";
import { assert, assertEquals } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer, consume, feed, firstExtent } from "../../../core/buffer/internal.ts";
import { EVBUFFER_EOL_LF } from "../../../core/flags.ts";

const MIB = 1024 * 1024;
const CHUNK = 64 * 1024;
const CHUNKS = 1024 * MIB / CHUNK;

/**
 * Whenever the collector runs, memory in use must grow far less than the number of bytes that pass
 * through.
 */
const LIMIT = 256 * MIB;

function inUse(): number {
  const { heapUsed, arrayBuffers } = memoryUsage();
  return heapUsed + arrayBuffers;
}

describe("1 GiB moved through buffers in chunks of 64 KiB", () => {
  it("needs two chunks if released memory is reused", () => {
    const [first, second] = [new EvBuffer(), new EvBuffer()];
    const free: Uint8Array[] = [new Uint8Array(CHUNK), new Uint8Array(CHUNK)];
    const before = inUse();
    let moved = 0;
    const release = (memory: Uint8Array) => void free.push(memory);
    for (let i = 0; i < CHUNKS; i++) {
      const memory = free.pop();
      assert(memory !== undefined, "memory was not given back");
      first.addReference(memory, release);
      first.removeBuffer(second, 40_000);
      second.addBuffer(first);
      moved += second.length;
      second.drain(CHUNK);
    }
    assertEquals(moved, 1024 * MIB);
    assertEquals(free.length, 2);
    checkBuffer(first);
    checkBuffer(second);
    assert(inUse() - before < LIMIT);
  });

  it("keeps nothing of bytes that a runtime added and a transport took", () => {
    const [input, output] = [new EvBuffer(), new EvBuffer()];
    const before = inUse();
    let most = 0;
    let lines = 0;
    for (let i = 0; i < CHUNKS; i++) {
      const chunk = new Uint8Array(CHUNK);
      for (let at = 50; at < CHUNK; at += 8000) chunk[at] = 10;
      feed(input, chunk);
      for (let line = input.readln(EVBUFFER_EOL_LF); line !== null; line = input.readln(EVBUFFER_EOL_LF)) {
        lines++;
        output.add(line);
        output.add("\n");
      }
      while (output.length > 0) consume(output, firstExtent(output, CHUNK).length);
      if (i % 512 === 0) most = Math.max(most, inUse() - before);
    }
    assertEquals(lines, 9 * CHUNKS);
    assert(most < LIMIT, `${Math.round(most / MIB)} MiB`);
  });
});
