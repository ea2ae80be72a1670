/** Where new chunks of buffers come from, and whose memory that is. */

import type { Loan } from "./loan.ts";
import type { Runtime } from "./runtime.ts";

/** A place that new chunks come from. While it is in use, its state is in `core/buffer/chunk.ts`. */
export class ChunkMemory {
  /** The slab for small pieces; null before the first use. */
  slab: Uint8Array | null = null;
  /** The beginning of the free part of the slab. */
  slabFill = 0;
  /** The memory for larger pieces, which is used again; null before the first use. */
  loan: Loan | null = null;
  /** The beginning of the free part of that memory. */
  loanFill = 0;
}

/** The memory of all runtimes that have none of their own. */
export const processMemory: ChunkMemory = /* @__PURE__ */ new ChunkMemory();

const memories: WeakMap<Runtime, ChunkMemory> = /* @__PURE__ */ new WeakMap();

/** Gives the bases of a runtime a memory of their own. The hosts of a simulator share one. */
export function setMemory(runtime: Runtime, memory: ChunkMemory): void {
  memories.set(runtime, memory);
}

/** The memory for the buffers of a runtime's bases. */
export function memoryOf(runtime: Runtime): ChunkMemory {
  return memories.get(runtime) ?? processMemory;
}
