/**
 * What has arrived on a connection and nobody has read. In a busy connection that is one chunk, which goes on to its
 * reader as it came; only when more wait is there a buffer.
 */

import { EvBuffer } from "../buffer/evbuffer.ts";
import { feed, moveBytes, unpin } from "../buffer/internal.ts";
import type { Loan } from "../loan.ts";
import { Source } from "../loop/source.ts";

/** A source with received bytes. The limit is kept by what it is a part of. */
export abstract class Receiver extends Source {
  #only: Uint8Array | null = null;
  /** Where the only chunk lies, if that is on loan. */
  #loan: Loan | null = null;
  #buffer: EvBuffer | null = null;

  /** How many bytes can be read now. */
  get available(): number {
    if (this.#only !== null) return this.#only.length;
    return this.#buffer === null ? 0 : this.#buffer.length;
  }

  /** Adds a host's chunk, which belongs to the queue from here on, or is on loan. */
  protected push(chunk: Uint8Array, loan: Loan | null): void {
    if (this.available === 0) {
      this.#only = chunk;
      this.#loan = loan;
    } else feed(this.#gather(), chunk, loan);
  }

  /** Copies bytes out. @returns How many */
  protected read(into: Uint8Array): number {
    return this.#gather().remove(into);
  }

  /** Moves up to `most` bytes to the end of a buffer, frozen or not. @returns How many */
  protected moveTo(buffer: EvBuffer, most: number): number {
    const only = this.#only;
    if (only === null) return this.#buffer === null ? 0 : moveBytes(this.#buffer, buffer, most);
    if (only.length > most) return moveBytes(this.#gather(), buffer, most);
    const loan = this.#loan;
    this.#only = this.#loan = null;
    feed(buffer, only, loan);
    return only.length;
  }

  /** Moves up to `most` bytes to the end of a buffer, as the user may: throws when that end is frozen. @returns How many */
  protected removeTo(buffer: EvBuffer, most: number): number {
    return this.#gather().removeBuffer(buffer, most);
  }

  /** More is to come: few bytes of a large chunk no longer keep all of it. */
  protected unpinReceived(): void {
    if (this.#buffer !== null) unpin(this.#buffer);
  }

  /** Drops all. */
  protected dropReceived(): void {
    if (this.#loan !== null) this.#loan.drop();
    if (this.#buffer !== null) this.#buffer.free();
    this.#only = this.#loan = this.#buffer = null;
  }

  #gather(): EvBuffer {
    const buffer = this.#buffer ??= new EvBuffer();
    if (this.#only !== null) {
      feed(buffer, this.#only, this.#loan);
      this.#only = this.#loan = null;
    }
    return buffer;
  }
}
