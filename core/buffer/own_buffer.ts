/** A buffer of the core that may have memory of the program, with release callbacks. */

import { type ChunkMemory, memoryOf } from "../memory.ts";
import type { Runtime } from "../runtime.ts";
import type { BufferOwner } from "./chain.ts";
import { chainOf, EvBuffer } from "./evbuffer.ts";

/** Release callbacks run inside a callback of the runtime, where the program could not catch an exception. */
class Reporter implements BufferOwner {
  private readonly runtime: Runtime;

  constructor(runtime: Runtime) {
    this.runtime = runtime;
  }

  get memory(): ChunkMemory {
    return memoryOf(this.runtime);
  }

  onBufferChange(): void {}

  onBufferError(): void {}

  onReleaseError(error: unknown): boolean {
    this.runtime.report(error);
    return true;
  }

  caught(): boolean {
    return false;
  }
}

/** Makes an empty buffer. If a release callback of its bytes throws, the runtime reports the error. */
export function ownBuffer(runtime: Runtime): EvBuffer {
  const buffer = new EvBuffer();
  chainOf(buffer).owner = new Reporter(runtime);
  return buffer;
}
