/** A buffer of the core's own that takes memory of the user's, with release callbacks. */

import type { Runtime } from "../runtime.ts";
import type { BufferOwner } from "./chain.ts";
import { chainOf, EvBuffer } from "./evbuffer.ts";

/** Release callbacks run inside a callback of the host, where nobody could catch what one throws. */
class Reporter implements BufferOwner {
  readonly #runtime: Runtime;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  onBufferChange(): void {}

  onBufferError(): void {}

  onReleaseError(error: unknown): boolean {
    this.#runtime.report(error);
    return true;
  }

  caught(): boolean {
    return false;
  }
}

/** Makes an empty buffer. What a release callback of its bytes throws is reported to the host. */
export function ownBuffer(runtime: Runtime): EvBuffer {
  const buffer = new EvBuffer();
  chainOf(buffer).owner = new Reporter(runtime);
  return buffer;
}
