/**
 * What has arrived on a connection and nobody has read. In a busy connection that is one chunk, which goes on to its
 * reader as it came; only when more wait is there a buffer.
 */

import { EvBuffer } from "../buffer/evbuffer.ts";
import { feed, moveBytes } from "../buffer/internal.ts";

/** The received bytes of a connection. The limit is kept by its owner. */
export class ReceiveQueue {
  #only: Uint8Array | null = null;
  #buffer: EvBuffer | null = null;

  /** How many bytes wait. */
  get length(): number {
    if (this.#only !== null) return this.#only.length;
    return this.#buffer === null ? 0 : this.#buffer.length;
  }

  /** Adds a host's chunk, which belongs to the queue from here on. */
  push(chunk: Uint8Array): void {
    if (this.length === 0) this.#only = chunk;
    else feed(this.#gather(), chunk);
  }

  /** Copies bytes out. @returns How many */
  read(into: Uint8Array): number {
    return this.#gather().remove(into);
  }

  /** Moves up to `most` bytes to the end of a buffer, frozen or not. @returns How many */
  moveTo(buffer: EvBuffer, most: number): number {
    const only = this.#only;
    if (only === null) return this.#buffer === null ? 0 : moveBytes(this.#buffer, buffer, most);
    if (only.length > most) return moveBytes(this.#gather(), buffer, most);
    this.#only = null;
    feed(buffer, only);
    return only.length;
  }

  /** Moves up to `most` bytes to the end of a buffer, as the user may: throws when that end is frozen. @returns How many */
  removeTo(buffer: EvBuffer, most: number): number {
    return this.#gather().removeBuffer(buffer, most);
  }

  /** Drops all. */
  clear(): void {
    this.#only = this.#buffer = null;
  }

  #gather(): EvBuffer {
    const buffer = this.#buffer ??= new EvBuffer();
    if (this.#only !== null) {
      feed(buffer, this.#only);
      this.#only = null;
    }
    return buffer;
  }
}
