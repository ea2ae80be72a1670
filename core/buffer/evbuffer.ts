/**
 * `EvBuffer`: the public class. Each method checks its arguments and the buffer's state. The other files of this folder
 * (`chain.ts`, `lines.ts`, `search.ts`, …) work on the bytes.
 *
 * @module
 */

import {
  checkBytes,
  checkCount,
  checkEol,
  checkFunction,
  checkLimit,
  checkList,
  isFixed,
  plain,
  stateError,
  wrongType,
} from "../checks.ts";
import { type Names, readOptions } from "../names.ts";
import type { Runtime } from "../runtime.ts";
import { addCallback, type BufferCallback, type CallbackEntry, cancelCallbacks, defer } from "./callbacks.ts";
import {
  adoptBack,
  appendCopy,
  appendText,
  BACK_CLOSED,
  BACK_FROZEN,
  Chain,
  changed,
  copyTo,
  dropAll,
  dropFront,
  FREED,
  FRONT_CLOSED,
  FRONT_FROZEN,
  linearize,
  linkBack,
  moveAllBack,
  moveAllFront,
  moved,
  movePart,
  prependCopy,
  refuse,
} from "./chain.ts";
import { view } from "../bytes.ts";
import {
  checkThere,
  Chunk,
  COUNTED,
  dropUser,
  expose,
  FILE,
  firstReleased,
  Lender,
  LENT,
  MULTICAST,
  runReleases,
  shareChunk,
} from "./chunk.ts";
import { scan, scanEol } from "./eol.ts";
import { type FileSegment, segmentLender } from "./file_segment.ts";
import { checkBigInteger, checkFloat, checkInteger, putNumber, scratch, takeNumber } from "./integers.ts";
import { eachLine, type LineCallback, readLine } from "./lines.ts";
import { cursor, type EvBufferPtr, locate, Position } from "./position.ts";
import { checkRoom, commit, expandSpare, reserve } from "./reserve.ts";
import { hit, searchChain } from "./search.ts";
import { checkData, decodeUtf8, toBytes } from "./utf8.ts";

/** Options of {@linkcode EvBuffer.readln} and {@linkcode EvBuffer.eachLine}. */
export interface ReadlnOptions {
  /**
   * The longest line, in bytes without its terminator.
   *
   * @default {Infinity}
   */
  maxBytes?: number | undefined;
}

const READLN_OPTIONS: Names<ReadlnOptions> = { maxBytes: true };

/** The end of a line: the result of {@linkcode EvBuffer.searchEol}. */
export interface EolPosition {
  /** The distance of the terminator from the front, in bytes. */
  pos: number;
  /** The length of the terminator, in bytes. */
  length: number;
}

/**
 * For the core: the chain of a buffer. Set by the first buffer: see `Pollable`. A plain variable, because it runs for
 * every message. Do not call it before the first buffer exists.
 */
export let chainOf: (buffer: EvBuffer) => Chain;

/**
 * A queue of bytes: a chain of chunks, each a window of a `Uint8Array`.
 *
 * Adopting a chunk, moving a buffer into another one and draining take one step for each chunk and copy no bytes. Small
 * additions are copied into shared memory, so many of them leave in one write.
 *
 * Ownership of bytes:
 * - `add`, `prepend` and `addIovec` copy: the caller keeps the array.
 * - `addReference` adopts: the caller must not change the memory until it is released. The buffer never writes to it.
 * - A line that the buffer returns never changes, because the buffer never writes again to memory that it has shown. Other views
 *   (`peek`, `pullup`, `reserveSpace`) are valid until the buffer changes. A view keeps its whole chunk in memory: copy
 *   (`slice`) bytes that you keep for long. A view's `buffer` has other bytes too, maybe of other buffers: never
 *   transfer it.
 *
 * Change callbacks and release callbacks run inside the call that causes them, when the buffer is whole again. They may
 * use the buffer. Every method takes O(1) unless it says otherwise.
 *
 * libevent: `struct evbuffer`
 *
 * @example
 * ```ts
 * import { EVBUFFER_EOL_CRLF, EvBuffer } from "trivent";
 * const buffer = new EvBuffer();
 * buffer.add("GET / HTTP/1.1\r\nHost: a");
 * const line = buffer.readln(EVBUFFER_EOL_CRLF);
 * if (line === null || new TextDecoder().decode(line) !== "GET / HTTP/1.1") throw new Error("unreachable");
 * if (buffer.readln(EVBUFFER_EOL_CRLF) !== null) throw new Error("unreachable");
 * if (buffer.toString() !== "Host: a") throw new Error("unreachable");
 * ```
 */
export class EvBuffer {
  readonly #chain: Chain;

  /** Makes an empty buffer. libevent: `evbuffer_new`. */
  constructor() {
    chainOf ??= (buffer: EvBuffer): Chain => buffer.#chain;
    this.#chain = new Chain(this);
  }

  /**
   * The number of bytes; 0 after `free()`.
   *
   * libevent: `evbuffer_get_length`
   *
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("naïve");
   * if (buffer.length !== 6) throw new Error("unreachable");
   * ```
   */
  get length(): number {
    return this.#chain.length;
  }

  /**
   * The number of bytes in the first chunk, which `pullup` returns without copying.
   *
   * libevent: `evbuffer_get_contiguous_space`
   *
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addReference(new Uint8Array(3));
   * buffer.addReference(new Uint8Array(5));
   * if (buffer.contiguousSpace !== 3) throw new Error("unreachable");
   * ```
   */
  get contiguousSpace(): number {
    const first = this.#chain.first;
    return first === null ? 0 : first.end - first.start;
  }

  /**
   * Copies bytes, or a string as UTF-8, to the back. O(bytes).
   *
   * Small pieces are gathered in one chunk, in one call or in many.
   *
   * libevent: `evbuffer_add`, and `evbuffer_add_printf` with a template string
   *
   * @param data The bytes; the caller keeps the array
   * @throws {TypeError} When it is neither a `Uint8Array` nor a string
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("over and ");
   * buffer.add(new Uint8Array([111, 117, 116]));
   * if (buffer.toString() !== "over and out") throw new Error("unreachable");
   * ```
   */
  add(data: Uint8Array | string): void {
    const chain = this.#chain;
    if ((chain.state & BACK_CLOSED) !== 0) refuse(chain, "add bytes");
    const origSize = chain.length;
    if (typeof data === "string") {
      if (data.length === 0) return;
      changed(chain, origSize, appendText(chain, data), 0);
      return;
    }
    const n = checkData("add bytes", "the data", data).length;
    if (n === 0) return;
    appendCopy(chain, data);
    changed(chain, origSize, n, 0);
  }

  /**
   * Copies several pieces to the back. Change callbacks are called for each. O(bytes).
   *
   * libevent: `evbuffer_add_iovec`
   *
   * @param chunks The pieces, in order; the caller keeps them
   * @returns The number of bytes that were added
   * @throws {TypeError} When it is not an array of `Uint8Array`s; nothing is added then
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * const added = buffer.addIovec([new Uint8Array(2), new Uint8Array(3)]);
   * if (added !== 5 || buffer.length !== 5) throw new Error("unreachable");
   * ```
   */
  addIovec(chunks: Uint8Array[]): number {
    checkList("add chunks", "they", chunks);
    for (const chunk of chunks) checkBytes("add chunks", "each chunk", chunk);
    const chain = this.#chain;
    if ((chain.state & BACK_CLOSED) !== 0) refuse(chain, "add chunks");
    let n = 0;
    for (const chunk of chunks) {
      this.add(chunk);
      n += chunk.length;
    }
    return n;
  }

  /**
   * Copies bytes, or a string as UTF-8, to the front. O(bytes).
   *
   * libevent: `evbuffer_prepend`
   *
   * @param data The bytes; the caller keeps the array
   * @throws {TypeError} When it is neither a `Uint8Array` nor a string
   * @throws {EventError} `EV_FROZEN` when the front is frozen and there are bytes to add, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("body");
   * buffer.prepend(`${buffer.length}:`);
   * if (buffer.toString() !== "4:body") throw new Error("unreachable");
   * ```
   */
  prepend(data: Uint8Array | string): void {
    const chain = this.#chain;
    const bytes = toBytes("prepend bytes", "the data", data);
    if ((chain.state & FREED) !== 0) refuse(chain, "prepend bytes");
    const n = bytes.length;
    if (n === 0) return;
    if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "prepend bytes");
    const origSize = chain.length;
    prependCopy(chain, bytes);
    changed(chain, origSize, n, 0);
  }

  /**
   * Adopts memory at the back without copying it. The buffer never writes to it. The caller must not write to it until
   * it is released.
   *
   * `onRelease` is called once with that very array, when the last of its bytes has been drained, moved out, copied by
   * `pullup` or freed, in this buffer and in all that share it. An empty array is released at once. If the call throws,
   * the array is not released. Without `onRelease` the memory belongs to the buffer for good.
   *
   * Lines in memory with an `onRelease` are copied, because the owner may reuse it. A `SharedArrayBuffer` and a
   * resizable `ArrayBuffer` can change by themselves, so they are copied and released at once.
   *
   * Do not transfer the memory (`postMessage()`, `structuredClone()`) before it is released. Otherwise reading the
   * bytes throws an `EventError` with the code `EV_DETACHED`, and a connection that should send them fails with that
   * error.
   *
   * libevent: `evbuffer_add_reference`
   *
   * @param bytes The memory
   * @param onRelease The callback for when nobody uses the memory any more
   * @throws {TypeError} When the bytes are not a `Uint8Array`, or the callback is not a function
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * const pool: Uint8Array[] = [];
   * buffer.addReference(new Uint8Array(1024), (bytes) => pool.push(bytes));
   * buffer.drain(1000);
   * if (pool.pop() !== undefined) throw new Error("unreachable");
   * buffer.drain(24);
   * if (pool.pop() === undefined) throw new Error("unreachable");
   * ```
   */
  addReference(bytes: Uint8Array, onRelease?: (bytes: Uint8Array) => void): void {
    const chain = this.#chain;
    checkBytes("add a reference", "the bytes", bytes);
    if (onRelease !== undefined) checkFunction("add a reference", "the release callback", onRelease);
    if ((chain.state & BACK_CLOSED) !== 0) refuse(chain, "add a reference");
    const n = bytes.length;
    if (n === 0) {
      onRelease?.(bytes);
      return;
    }
    const origSize = chain.length;
    if (!isFixed(bytes)) {
      appendCopy(chain, bytes);
      if (onRelease !== undefined) dropUser(new Lender(bytes, onRelease));
    } else if (onRelease === undefined) {
      adoptBack(chain, bytes);
    } else {
      if (chain.rare !== null) chain.rare.reservation = null;
      linkBack(chain, new Chunk(plain(bytes), 0, n, LENT | COUNTED, new Lender(bytes, onRelease)));
    }
    changed(chain, origSize, n, 0);
  }

  /**
   * Moves all bytes of another buffer to the back. The chunks are moved, and nothing is copied.
   *
   * An empty buffer and the buffer itself move nothing, even if an end is frozen. Change callbacks of the source run
   * first.
   *
   * libevent: `evbuffer_add_buffer`
   *
   * @param src The source; it is empty afterwards
   * @throws {TypeError} When it is not an `EvBuffer`
   * @throws {EventError} `EV_FROZEN` when this back or the source's front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const head = new EvBuffer();
   * const body = new EvBuffer();
   * head.add("head ");
   * body.add("body");
   * head.addBuffer(body);
   * if (head.toString() !== "head body" || body.length !== 0) throw new Error("unreachable");
   * ```
   */
  addBuffer(src: EvBuffer): void {
    const destination = this.#chain;
    const source = checkedChain("add a buffer", src);
    if ((destination.state & FREED) !== 0) refuse(destination, "add a buffer");
    const n = source.length;
    if (n === 0 || source === destination) return;
    if ((destination.state & BACK_CLOSED) !== 0) refuse(destination, "add a buffer");
    if ((source.state & FRONT_CLOSED) !== 0) refuse(source, "add a buffer");
    moveAllBack(source, destination);
    moved(source, destination, n);
  }

  /**
   * Moves all bytes of another buffer to the front. The chunks are moved, and nothing is copied.
   *
   * An empty buffer and the buffer itself move nothing, even if an end is frozen. Change callbacks of the source run
   * first.
   *
   * libevent: `evbuffer_prepend_buffer`
   *
   * @param src The source; it is empty afterwards
   * @throws {TypeError} When it is not an `EvBuffer`
   * @throws {EventError} `EV_FROZEN` when either front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const head = new EvBuffer();
   * const body = new EvBuffer();
   * head.add("head ");
   * body.add("body");
   * body.prependBuffer(head);
   * if (body.toString() !== "head body" || head.length !== 0) throw new Error("unreachable");
   * ```
   */
  prependBuffer(src: EvBuffer): void {
    const destination = this.#chain;
    const source = checkedChain("prepend a buffer", src);
    if ((destination.state & FREED) !== 0) refuse(destination, "prepend a buffer");
    const n = source.length;
    if (n === 0 || source === destination) return;
    if ((destination.state & FRONT_CLOSED) !== 0) refuse(destination, "prepend a buffer");
    if ((source.state & FRONT_CLOSED) !== 0) refuse(source, "prepend a buffer");
    moveAllFront(source, destination);
    moved(source, destination, n);
  }

  /**
   * Moves bytes from the front to the back of another buffer. O(chunks moved).
   *
   * Whole chunks are moved. If a chunk is cut, both buffers share it, and it is released when both have consumed it. A
   * small part is copied instead. Change callbacks of this buffer, the source, run first.
   *
   * libevent: `evbuffer_remove_buffer(src, dst, n)`
   *
   * @param dst The destination
   * @param n The number of bytes; all bytes if there are fewer
   * @returns The number of bytes that were moved; 0 from an empty buffer, and to itself
   * @throws {TypeError} When it is not an `EvBuffer`, or the count is not a number
   * @throws {RangeError} When the count is negative or fractional
   * @throws {EventError} `EV_FROZEN` when this front or the other back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const input = new EvBuffer();
   * const message = new EvBuffer();
   * input.add("five!and more");
   * if (input.removeBuffer(message, 5) !== 5) throw new Error("unreachable");
   * if (message.toString() !== "five!" || input.toString() !== "and more") throw new Error("unreachable");
   * ```
   */
  removeBuffer(dst: EvBuffer, n: number): number {
    const source = this.#chain;
    const destination = checkedChain("move bytes to another buffer", dst);
    checkCount("move bytes to another buffer", "the count", n);
    if ((source.state & FREED) !== 0) refuse(source, "move bytes to another buffer");
    if ((destination.state & FREED) !== 0) refuse(destination, "move bytes to another buffer");
    if (n === 0 || source === destination) return 0;
    if ((source.state & FRONT_CLOSED) !== 0) refuse(source, "move bytes to another buffer");
    if ((destination.state & BACK_CLOSED) !== 0) refuse(destination, "move bytes to another buffer");
    const count = Math.min(n, source.length);
    if (count === 0) return 0;
    movePart(source, destination, count);
    moved(source, destination, count);
    return count;
  }

  /**
   * Adds the bytes of another buffer, which keeps them. Both share the memory. Each may be drained and added to on its
   * own, and the source may be freed first. O(chunks of the source); nothing is copied.
   *
   * libevent: `evbuffer_add_buffer_reference`
   *
   * @param src The buffer to share; it does not change
   * @throws {TypeError} When it is not an `EvBuffer`
   * @throws {EventError} `EV_MULTICAST` when it is this very buffer, or has shared bytes or part of a file segment
   * itself; `EV_FROZEN` when the back is frozen; `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const message = new EvBuffer();
   * message.add("to all");
   * const outputs = [new EvBuffer(), new EvBuffer()];
   * for (const output of outputs) output.addBufferReference(message);
   * message.free();
   * if (!outputs.every((output) => output.toString() === "to all")) throw new Error("unreachable");
   * ```
   */
  addBufferReference(src: EvBuffer): void {
    const destination = this.#chain;
    const source = checkedChain("share a buffer", src);
    if ((destination.state & FREED) !== 0) refuse(destination, "share a buffer");
    const n = source.length;
    if (n === 0) return;
    if ((destination.state & BACK_CLOSED) !== 0) refuse(destination, "share a buffer");
    if (source === destination) throw stateError("share a buffer", "it is the same buffer", "EV_MULTICAST");
    for (let chunk = source.first; chunk !== null; chunk = chunk.next) {
      if ((chunk.flags & (MULTICAST | FILE)) !== 0) {
        throw stateError("share a buffer", "it holds shared bytes or a file segment itself", "EV_MULTICAST");
      }
    }
    const origSize = destination.length;
    if (destination.rare !== null) destination.rare.reservation = null;
    for (let chunk = source.first; chunk !== null; chunk = chunk.next) {
      const shared = shareChunk(chunk, chunk.start, chunk.end);
      shared.flags |= MULTICAST;
      linkBack(destination, shared);
    }
    changed(destination, origSize, n, 0);
  }

  /**
   * Adds a file segment, or a part of it, without copying. All its buffers share its memory.
   *
   * libevent: `evbuffer_add_file_segment`
   *
   * @param segment The segment; it is not freed
   * @param offset The beginning of the part, in bytes
   * @param length The length of the part, in bytes; by default up to the end
   * @throws {TypeError} When it is not a `FileSegment`, or a count is not a number
   * @throws {RangeError} When a count is negative or fractional, or the part is not in the segment
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()` of the buffer or of the segment
   * @example
   * ```ts
   * import { EvBuffer, FileSegment } from "trivent";
   * const segment = await FileSegment.open("README.md");
   * const buffer = new EvBuffer();
   * buffer.addFileSegment(segment, 2, 5);
   * segment.free();
   * if (buffer.length !== 5) throw new Error("unreachable");
   * ```
   */
  addFileSegment(segment: FileSegment, offset = 0, length?: number): void {
    const chain = this.#chain;
    const source = segmentLender?.(segment) ?? null;
    if (source === null) {
      throw wrongType("add a file segment", "it is not a FileSegment", segment);
    }
    checkCount("add a file segment", "the offset", offset);
    if (length !== undefined) checkCount("add a file segment", "the length", length);
    const n = length ?? segment.length - offset;
    if (offset > segment.length || n > segment.length - offset) {
      throw new RangeError(
        `Cannot add a file segment: it has ${segment.length} bytes: received ${n} from ${offset} on`,
      );
    }
    if ((chain.state & BACK_CLOSED) !== 0) refuse(chain, "add a file segment");
    if (segment.freed) throw stateError("add a file segment", "it was freed", "EV_FREED");
    if (n === 0) return;
    const origSize = chain.length;
    source.users++;
    if (chain.rare !== null) chain.rare.reservation = null;
    linkBack(chain, new Chunk(source.bytes, offset, offset + n, FILE | COUNTED, source));
    changed(chain, origSize, n, 0);
  }

  /**
   * Takes bytes from the front and copies them into an array. O(bytes).
   *
   * libevent: `evbuffer_remove`
   *
   * @param into The array for the bytes
   * @returns The number of bytes: less than the array's length if the buffer has fewer
   * @throws {TypeError} When it is not a `Uint8Array`
   * @throws {EventError} `EV_FROZEN` when the front is frozen and there are bytes to take, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("abc");
   * const into = new Uint8Array(2);
   * if (buffer.remove(into) !== 2 || buffer.remove(into) !== 1) throw new Error("unreachable");
   * if (buffer.remove(into) !== 0) throw new Error("unreachable");
   * ```
   */
  remove(into: Uint8Array): number {
    const chain = this.#chain;
    checkBytes("remove bytes", "the target", into);
    if ((chain.state & FREED) !== 0) refuse(chain, "remove bytes");
    const origSize = chain.length;
    const n = Math.min(into.length, origSize);
    if (n === 0) return 0;
    if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "remove bytes");
    copyTo(chain.first, (chain.first as Chunk).start, n, into, 0);
    dropFront(chain, n);
    changed(chain, origSize, 0, n);
    return n;
  }

  /**
   * Copies bytes from the front into an array, and keeps them. O(bytes).
   *
   * libevent: `evbuffer_copyout`
   *
   * @param into The array for the bytes
   * @returns The number of bytes: less than the array's length if the buffer has fewer
   * @throws {TypeError} When it is not a `Uint8Array`
   * @throws {EventError} `EV_FROZEN` when the front is frozen and there are bytes to copy
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("abc");
   * const magic = new Uint8Array(2);
   * if (buffer.copyout(magic) !== 2 || buffer.length !== 3) throw new Error("unreachable");
   * ```
   */
  copyout(into: Uint8Array): number {
    const chain = this.#chain;
    checkBytes("copy bytes out", "the target", into);
    const n = Math.min(into.length, chain.length);
    if (n === 0) return 0;
    if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "copy bytes out");
    copyTo(chain.first, (chain.first as Chunk).start, n, into, 0);
    return n;
  }

  /**
   * Copies bytes from a position on into an array, and keeps them. O(bytes).
   *
   * libevent: `evbuffer_copyout_from`
   *
   * @param ptr The position to begin at
   * @param into The array for the bytes
   * @returns The number of bytes: less than the array's length if the buffer has fewer
   * @throws {TypeError} When it is not a position, or not a `Uint8Array`
   * @throws {RangeError} When the position is out of range, stale, or belongs to another buffer
   * @throws {EventError} `EV_FROZEN` when the front is frozen and there are bytes to copy
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("key=value");
   * const into = new Uint8Array(8);
   * const at = buffer.search("=");
   * at.add(1);
   * if (buffer.copyoutFrom(at, into) !== 5) throw new Error("unreachable");
   * ```
   */
  copyoutFrom(ptr: EvBufferPtr, into: Uint8Array): number {
    const chain = this.#chain;
    Position.resolve("copy bytes out", chain, ptr);
    checkBytes("copy bytes out", "the target", into);
    const n = Math.min(into.length, chain.length - cursor.pos);
    if (n === 0) return 0;
    if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "copy bytes out");
    copyTo(cursor.chunk, cursor.at, n, into, 0);
    return n;
  }

  /**
   * Drops bytes from the front. O(chunks dropped).
   *
   * libevent: `evbuffer_drain`
   *
   * @param n How many; all there are when there are fewer
   * @throws {TypeError} When it is not a number
   * @throws {RangeError} When it is negative or fractional
   * @throws {EventError} `EV_FROZEN` when the front is frozen and the buffer is not empty, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("abc");
   * buffer.drain(2);
   * if (buffer.toString() !== "c") throw new Error("unreachable");
   * buffer.drain(100);
   * if (buffer.length !== 0) throw new Error("unreachable");
   * ```
   */
  drain(n: number): void {
    const chain = this.#chain;
    checkCount("drain bytes", "the count", n);
    if ((chain.state & FREED) !== 0) refuse(chain, "drain bytes");
    const origSize = chain.length;
    if (origSize === 0) return;
    if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "drain bytes");
    const count = Math.min(n, origSize);
    if (count === 0) return;
    dropFront(chain, count);
    changed(chain, origSize, 0, count);
  }

  /**
   * Makes the first bytes contiguous, and returns a view of exactly these bytes. O(1) if they are contiguous already,
   * otherwise O(n).
   *
   * The view is valid until the buffer changes. Do not write to it. It also works with a frozen front, because the
   * bytes do not change. Adopted memory is released when all of it has been copied.
   *
   * libevent: `evbuffer_pullup`
   *
   * @param n The number of bytes; −1 for all
   * @returns The view; `null` when `n` is 0 or above the length, or the buffer is empty
   * @throws {TypeError} When it is not a number
   * @throws {RangeError} When it is fractional, or negative and not −1
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addReference(new Uint8Array([1]));
   * buffer.addReference(new Uint8Array([2, 3]));
   * const head = buffer.pullup(2);
   * if (head === null || head.length !== 2 || head[1] !== 2) throw new Error("unreachable");
   * ```
   */
  pullup(n: number): Uint8Array | null {
    const chain = this.#chain;
    const count = n === -1 ? chain.length : checkCount("pull up bytes", "the count", n);
    if (count === 0 || count > chain.length) return null;
    linearize(chain, count);
    const first = chain.first as Chunk;
    checkThere(first);
    expose(first);
    const bytes = view(first.data, first.start, first.start + count);
    if (firstReleased !== null) runReleases();
    return bytes;
  }

  /**
   * Returns views of the bytes, chunk by chunk. O(chunks shown); nothing is copied.
   *
   * The views are valid until the buffer changes. Do not write to them.
   *
   * libevent: `evbuffer_peek`
   *
   * @param n The number of bytes; by default all
   * @param from The position to begin at; by default the front
   * @returns Views of exactly so many bytes, or of all bytes if there are fewer
   * @throws {TypeError} When the count is not a number, or the position is not one
   * @throws {RangeError} When the count is negative or fractional, or the position out of range, stale, or belongs to
   * another buffer
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addReference(new Uint8Array(3));
   * buffer.addReference(new Uint8Array(5));
   * const views = buffer.peek(4);
   * if (views.length !== 2 || views[1]?.length !== 1) throw new Error("unreachable");
   * ```
   */
  peek(n?: number, from?: EvBufferPtr): Uint8Array[] {
    const chain = this.#chain;
    if (n !== undefined) checkCount("peek", "the count", n);
    if (from === undefined) locate(chain, 0);
    else Position.resolve("peek", chain, from);
    const vecs: Uint8Array[] = [];
    let left = n === undefined ? chain.length : n;
    let start = cursor.at;
    for (let chunk = cursor.chunk; chunk !== null && left > 0; chunk = chunk.next, start = chunk?.start ?? 0) {
      const size = Math.min(left, chunk.end - start);
      checkThere(chunk);
      expose(chunk);
      vecs.push(view(chunk.data, start, start + size));
      left -= size;
    }
    return vecs;
  }

  /**
   * Returns space behind the bytes to write into. `commitSpace` adds the bytes that you have written. O(1), or new
   * memory.
   *
   * The space belongs to the buffer, and its contents are arbitrary. It is valid until bytes are added or other space
   * is reserved; draining the front is allowed. The next addition uses space that is not committed.
   *
   * libevent: `evbuffer_reserve_space`
   *
   * @param n The least number of bytes
   * @param maxVecs The largest number of pieces; with more than 1, the rest of the last chunk comes first
   * @returns The pieces, together at least `n` bytes and often more; none for 0 bytes in more than one piece
   * @throws {TypeError} When a count is not a number
   * @throws {RangeError} When a count is negative or fractional, or `maxVecs` is 0
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * const [room] = buffer.reserveSpace(1024);
   * if (room === undefined) throw new Error("unreachable");
   * const { written } = new TextEncoder().encodeInto("straight in", room);
   * buffer.commitSpace([room.subarray(0, written)]);
   * if (buffer.toString() !== "straight in") throw new Error("unreachable");
   * ```
   */
  reserveSpace(n: number, maxVecs = 1): Uint8Array[] {
    const chain = this.#chain;
    checkCount("reserve space", "the count", n);
    checkCount("reserve space", "the number of pieces", maxVecs);
    if (maxVecs < 1) {
      throw new RangeError(`Cannot reserve space: the number of pieces is not 1 or more: received ${maxVecs}`);
    }
    checkRoom("reserve space", n);
    if ((chain.state & BACK_CLOSED) !== 0) refuse(chain, "reserve space");
    return reserve(chain, n, maxVecs);
  }

  /**
   * Adds the bytes that were written into reserved space. O(pieces); nothing is copied.
   *
   * libevent: `evbuffer_commit_space`
   *
   * @param vecs The written front part of each piece of `reserveSpace`, in order; the last ones may be left out
   * @throws {TypeError} When it is not an array of `Uint8Array`s
   * @throws {EventError} `EV_STALE` when a piece is not the front of the reserved space, or bytes were added or
   * committed since; `EV_FROZEN` when the back is frozen; `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * const [room] = buffer.reserveSpace(2);
   * if (room === undefined) throw new Error("unreachable");
   * room[0] = 33;
   * buffer.commitSpace([room.subarray(0, 1)]);
   * if (buffer.toString() !== "!") throw new Error("unreachable");
   * ```
   */
  commitSpace(vecs: Uint8Array[]): void {
    const chain = this.#chain;
    checkList("commit reserved space", "the pieces", vecs);
    for (const vec of vecs) checkBytes("commit reserved space", "each piece", vec);
    if ((chain.state & BACK_CLOSED) !== 0) refuse(chain, "commit reserved space");
    commit(chain, vecs);
  }

  /**
   * Makes the next `n` bytes that are added contiguous. It also works with a frozen back, because the bytes do not
   * change. It allocates if the present memory is too short.
   *
   * libevent: `evbuffer_expand`
   *
   * @param n The number of bytes
   * @throws {TypeError} When it is not a number
   * @throws {RangeError} When it is negative or fractional
   * @throws {EventError} `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.expand(100_000);
   * for (let i = 0; i < 100; i++) buffer.add(new Uint8Array(1000));
   * if (buffer.contiguousSpace !== 100_000) throw new Error("unreachable");
   * ```
   */
  expand(n: number): void {
    const chain = this.#chain;
    checkCount("expand", "the count", n);
    checkRoom("expand", n);
    if ((chain.state & FREED) !== 0) refuse(chain, "expand");
    if (n > 0) expandSpare(chain, n);
  }

  /**
   * Takes the first line, and drops its terminator. O(length of the line).
   *
   * The line is a view that never changes. It is a copy if the line lies in several chunks, or in memory that its owner
   * may reuse. A scan that finds no end is not repeated, so a line that arrives in pieces is scanned once. Bytes
   * without a terminator at the end of file are not a line: take them with `remove` or `toUint8Array`.
   *
   * libevent: `evbuffer_readln`
   *
   * @param eol The end-of-line style: one of the `EVBUFFER_EOL` constants
   * @param options The limit
   * @returns The line without its terminator; `null` if there is no whole line
   * @throws {TypeError} When the style or the limit is not a number
   * @throws {RangeError} When the style is unknown, or the limit is negative or fractional
   * @throws {EventError} `EV_LINE_TOO_LONG` when the line, whole or not, is over `maxBytes`: nothing is taken then;
   * `EV_FROZEN` when the front is frozen; `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EVBUFFER_EOL_LF, EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("one\ntwo\nthr");
   * const lines: string[] = [];
   * for (let line = buffer.readln(EVBUFFER_EOL_LF); line !== null; line = buffer.readln(EVBUFFER_EOL_LF)) {
   *   lines.push(new TextDecoder().decode(line));
   * }
   * if (lines.join() !== "one,two" || buffer.toString() !== "thr") throw new Error("unreachable");
   * ```
   */
  readln(eol: number, options?: ReadlnOptions): Uint8Array | null {
    const chain = this.#chain;
    const maxBytes = options === undefined ? Infinity : limitOf("read a line", options);
    if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "read a line");
    return readLine(chain, eol, maxBytes);
  }

  /**
   * Calls a function with each whole line, without a view for each. This is the fastest way to read lines. O(bytes).
   *
   * `fn` gets an array, and the beginning and end of the line in it, without the terminator. It may read the array
   * until it returns, and must not write to it. The line has left the buffer before `fn` is called, so `fn` may add to
   * the buffer, read a body from it or free it. If `fn` returns `false`, the run ends. Change callbacks are called once
   * for all lines, when the run is over.
   *
   * libevent: none; a loop of `evbuffer_readln`
   *
   * @param eol The end-of-line style: one of the `EVBUFFER_EOL` constants
   * @param fn The function
   * @param options The limit
   * @returns The number of lines
   * @throws {TypeError} When the style or the limit is not a number, or `fn` is not a function
   * @throws {RangeError} When the style is unknown, or the limit is negative or fractional
   * @throws {EventError} `EV_LINE_TOO_LONG` when a line, whole or not, is over `maxBytes`: the lines before it were
   * taken, the rest was not; `EV_FROZEN` when the front is frozen; `EV_FREED` after `free()`
   * @throws The exception of `fn`; the line that `fn` got has been taken
   * @example
   * ```ts
   * import { EVBUFFER_EOL_LF, EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("3\n4\n");
   * let sum = 0;
   * const lines = buffer.eachLine(EVBUFFER_EOL_LF, (bytes, start, _end) => {
   *   sum += (bytes[start] ?? 0) - 48;
   * });
   * if (lines !== 2 || sum !== 7) throw new Error("unreachable");
   * ```
   */
  eachLine(eol: number, fn: LineCallback, options?: ReadlnOptions): number {
    const chain = this.#chain;
    checkFunction("read lines", "the callback", fn);
    const maxBytes = options === undefined ? Infinity : limitOf("read lines", options);
    if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "read lines");
    return eachLine(chain, eol, fn, maxBytes);
  }

  /**
   * Finds the end of the line that begins at a position, and takes nothing. O(length of the line).
   *
   * Bytes before the position do not count: if it is between CR and LF, the LF is found.
   *
   * libevent: `evbuffer_search_eol`
   *
   * @param from The position to begin at; `null` for the front
   * @param eol The end-of-line style: one of the `EVBUFFER_EOL` constants
   * @returns The position and length of the terminator; `null` if there is none
   * @throws {TypeError} When it is not a position, or the style is not a number
   * @throws {RangeError} When the style is unknown, or the position out of range, stale, or belongs to another buffer
   * @example
   * ```ts
   * import { EVBUFFER_EOL_CRLF, EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("one\r\ntwo\n");
   * const first = buffer.searchEol(null, EVBUFFER_EOL_CRLF);
   * if (first?.pos !== 3 || first.length !== 2) throw new Error("unreachable");
   * const second = buffer.searchEol(buffer.ptrSet(5), EVBUFFER_EOL_CRLF);
   * if (second?.pos !== 8 || second.length !== 1) throw new Error("unreachable");
   * ```
   */
  searchEol(from: EvBufferPtr | null, eol: number): EolPosition | null {
    const chain = this.#chain;
    const style = checkEol("search for the end of a line", eol);
    if (from === null) locate(chain, 0);
    else Position.resolve("search for the end of a line", chain, from);
    if (cursor.chunk === null) return null;
    const pos = scanEol(cursor.chunk, cursor.at, cursor.pos, style);
    return pos < 0 ? null : { pos, length: scan.eolLength };
  }

  /**
   * Finds the first place of some bytes, or of a string as UTF-8, at or after a position, also across chunks. O(bytes
   * searched), except for needles that match almost everywhere.
   *
   * libevent: `evbuffer_search`
   *
   * @param what The needle; an empty one is found at `from`
   * @param from The position to begin at; by default the front
   * @returns A position, whose `pos` is −1 when there is no such place
   * @throws {TypeError} When the needle is neither a `Uint8Array` nor a string, or `from` is not a position
   * @throws {RangeError} When the position is out of range, stale, or belongs to another buffer
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("head\r\n\r\nbody");
   * if (buffer.search("\r\n\r\n").pos !== 4) throw new Error("unreachable");
   * if (buffer.search("tail").pos !== -1) throw new Error("unreachable");
   * ```
   */
  search(what: Uint8Array | string, from?: EvBufferPtr): EvBufferPtr {
    return find(this.#chain, what, from ?? null, null);
  }

  /**
   * As `search`, for a place that ends within a range.
   *
   * libevent: `evbuffer_search_range`
   *
   * @param what The needle; an empty one is found at `from`
   * @param from The position to begin at; `null` for the front
   * @param to The end of the range; `null` for the end of the buffer
   * @returns A position, whose `pos` is −1 when there is no such place
   * @throws {TypeError} When it is neither a `Uint8Array` nor a string, or an end is not a position
   * @throws {RangeError} When a position is out of range, stale, or belongs to another buffer
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("a=1&b=2");
   * const end = buffer.search("&");
   * if (buffer.searchRange("=", null, end).pos !== 1) throw new Error("unreachable");
   * if (buffer.searchRange("b", null, end).pos !== -1) throw new Error("unreachable");
   * ```
   */
  searchRange(what: Uint8Array | string, from: EvBufferPtr | null, to: EvBufferPtr | null): EvBufferPtr {
    return find(this.#chain, what, from, to);
  }

  /**
   * Makes a position. It is valid until bytes are added or taken; after that, using it is a `RangeError`. O(chunks
   * before it).
   *
   * libevent: `evbuffer_ptr_set` with `EVBUFFER_PTR_SET`
   *
   * @param pos The distance from the front, in bytes; the end itself is in range
   * @returns The position; its own `pos` is −1 if that is beyond the end
   * @throws {TypeError} When it is not a number
   * @throws {RangeError} When it is negative or fractional
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("abc");
   * const ptr = buffer.ptrSet(1);
   * if (!ptr.add(2) || ptr.pos !== 3) throw new Error("unreachable");
   * // There is no fourth byte to go past.
   * if (ptr.add(1)) throw new Error("unreachable");
   * if (buffer.ptrSet(4).pos !== -1) throw new Error("unreachable");
   * ```
   */
  ptrSet(pos: number): EvBufferPtr {
    const chain = this.#chain;
    checkCount("set a position", "the position", pos);
    if (pos > chain.length) return new Position(chain, -1, null, 0);
    locate(chain, pos);
    return new Position(chain, pos, cursor.chunk, cursor.at);
  }

  /**
   * Forbids changes at one end. A call that would make one throws `EV_FROZEN`. `pullup`, `peek`, searching and `expand`
   * still work.
   *
   * libevent: `evbuffer_freeze`
   *
   * @param atFront True for the front, where bytes are taken; false for the back, where they are added
   * @throws {TypeError} When it is not a boolean
   * @throws {EventError} `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer, EventError } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.freeze(false);
   * try {
   *   buffer.add("no");
   *   throw new Error("unreachable");
   * } catch (error) {
   *   if (!(error instanceof EventError) || error.code !== "EV_FROZEN") throw error;
   * }
   * ```
   */
  freeze(atFront: boolean): void {
    const chain = this.#chain;
    const bit = endBit("freeze", atFront);
    if ((chain.state & FREED) !== 0) refuse(chain, "freeze");
    chain.state |= bit;
  }

  /**
   * Allows changes at one end again. If it is not frozen, nothing happens.
   *
   * libevent: `evbuffer_unfreeze`
   *
   * @param atFront True for the front, false for the back
   * @throws {TypeError} When it is not a boolean
   * @throws {EventError} `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.freeze(false);
   * buffer.unfreeze(false);
   * buffer.add("yes");
   * ```
   */
  unfreeze(atFront: boolean): void {
    const chain = this.#chain;
    const bit = endBit("unfreeze", atFront);
    if ((chain.state & FREED) !== 0) refuse(chain, "unfreeze");
    chain.state &= ~bit;
  }

  /**
   * Calls a function after each change, inside the call that makes it. O(callbacks there are).
   *
   * The newest callback runs first. A change inside a callback is reported at once, to all callbacks; the outer calls
   * still get their own numbers. All callbacks run even if one throws. The call that made the change then throws the
   * first error, and the change has happened.
   *
   * libevent: `evbuffer_add_cb`
   *
   * @param fn The function, with the buffer and how many bytes there were, came and went
   * @returns The entry, to disable, enable or remove the callback
   * @throws {TypeError} When it is not a function
   * @throws {EventError} `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * let total = 0;
   * const entry = buffer.addCallback((_buffer, info) => {
   *   total += info.added - info.deleted;
   * });
   * buffer.add("abc");
   * buffer.drain(1);
   * entry.remove();
   * buffer.add("not counted");
   * if (total !== 2) throw new Error("unreachable");
   * ```
   */
  addCallback(fn: BufferCallback): CallbackEntry {
    const chain = this.#chain;
    checkFunction("add a callback", "it", fn);
    if ((chain.state & FREED) !== 0) refuse(chain, "add a callback");
    return addCallback(chain, fn);
  }

  /**
   * Makes the loop of a base call the change callbacks, once in a pass, with the sum of the changes. After `free()`
   * none is called.
   *
   * libevent: `evbuffer_defer_callbacks`
   *
   * @param base The `EventBase`
   * @throws {TypeError} When it is not a base
   * @throws {EventError} `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer, EventBase } from "trivent";
   * const base = new EventBase();
   * const buffer = new EvBuffer();
   * const seen: number[] = [];
   * buffer.addCallback((_buffer, info) => seen.push(info.origSize, info.added, info.deleted));
   * buffer.deferCallbacks(base);
   * buffer.add("hello");
   * buffer.add("you");
   * buffer.drain(2);
   * await base.dispatch();
   * if (seen.join() !== "0,8,2") throw new Error("unreachable");
   * ```
   */
  deferCallbacks(base: { readonly runtime: Runtime; dispatch(): Promise<unknown> }): void {
    const chain = this.#chain;
    if ((chain.state & FREED) !== 0) refuse(chain, "defer callbacks");
    defer(chain, base);
  }

  /**
   * Returns a copy of all bytes. They stay in the buffer. O(bytes).
   *
   * libevent: none; `evbuffer_copyout` of all bytes
   *
   * @returns The copy
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("abc");
   * if (buffer.toUint8Array().length !== 3 || buffer.length !== 3) throw new Error("unreachable");
   * ```
   */
  toUint8Array(): Uint8Array {
    const chain = this.#chain;
    const bytes = new Uint8Array(chain.length);
    if (chain.first !== null) copyTo(chain.first, chain.first.start, chain.length, bytes, 0);
    return bytes;
  }

  /**
   * Returns all bytes as a string, decoded as UTF-8, with U+FFFD for bytes that are not UTF-8. They stay in the buffer.
   * O(bytes).
   *
   * libevent: none
   *
   * @returns The text
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.add("Größe");
   * if (String(buffer) !== "Größe") throw new Error("unreachable");
   * ```
   */
  toString(): string {
    const first = this.#chain.first;
    if (first === null) return "";
    checkThere(first);
    return decodeUtf8(first.next === null ? view(first.data, first.start, first.end) : this.toUint8Array());
  }

  /**
   * Takes an unsigned 8-bit integer from the front. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if the buffer is empty
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint8(200);
   * if (buffer.readUint8() !== 200) throw new Error("unreachable");
   * ```
   */
  readUint8(): number | null {
    return take(this.#chain, 1) ? scratch.getUint8(0) : null;
  }

  /**
   * Takes a signed 8-bit integer from the front. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if the buffer is empty
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt8(-100);
   * if (buffer.readInt8() !== -100) throw new Error("unreachable");
   * ```
   */
  readInt8(): number | null {
    return take(this.#chain, 1) ? scratch.getInt8(0) : null;
  }

  /**
   * Takes an unsigned 16-bit integer from the front, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 2 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint16BE(40_000);
   * if (buffer.readUint16BE() !== 40_000) throw new Error("unreachable");
   * ```
   */
  readUint16BE(): number | null {
    return take(this.#chain, 2) ? scratch.getUint16(0) : null;
  }

  /**
   * Takes an unsigned 16-bit integer from the front, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 2 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint16LE(40_000);
   * if (buffer.readUint16LE() !== 40_000) throw new Error("unreachable");
   * ```
   */
  readUint16LE(): number | null {
    return take(this.#chain, 2) ? scratch.getUint16(0, true) : null;
  }

  /**
   * Takes a signed 16-bit integer from the front, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 2 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt16BE(-20_000);
   * if (buffer.readInt16BE() !== -20_000) throw new Error("unreachable");
   * ```
   */
  readInt16BE(): number | null {
    return take(this.#chain, 2) ? scratch.getInt16(0) : null;
  }

  /**
   * Takes a signed 16-bit integer from the front, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 2 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt16LE(-20_000);
   * if (buffer.readInt16LE() !== -20_000) throw new Error("unreachable");
   * ```
   */
  readInt16LE(): number | null {
    return take(this.#chain, 2) ? scratch.getInt16(0, true) : null;
  }

  /**
   * Takes an unsigned 32-bit integer from the front, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 4 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint32BE(3_000_000_000);
   * if (buffer.readUint32BE() !== 3_000_000_000) throw new Error("unreachable");
   * ```
   */
  readUint32BE(): number | null {
    return take(this.#chain, 4) ? scratch.getUint32(0) : null;
  }

  /**
   * Takes an unsigned 32-bit integer from the front, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 4 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint32LE(3_000_000_000);
   * if (buffer.readUint32LE() !== 3_000_000_000) throw new Error("unreachable");
   * ```
   */
  readUint32LE(): number | null {
    return take(this.#chain, 4) ? scratch.getUint32(0, true) : null;
  }

  /**
   * Takes a signed 32-bit integer from the front, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 4 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt32BE(-2_000_000_000);
   * if (buffer.readInt32BE() !== -2_000_000_000) throw new Error("unreachable");
   * ```
   */
  readInt32BE(): number | null {
    return take(this.#chain, 4) ? scratch.getInt32(0) : null;
  }

  /**
   * Takes a signed 32-bit integer from the front, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 4 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt32LE(-2_000_000_000);
   * if (buffer.readInt32LE() !== -2_000_000_000) throw new Error("unreachable");
   * ```
   */
  readInt32LE(): number | null {
    return take(this.#chain, 4) ? scratch.getInt32(0, true) : null;
  }

  /**
   * Takes an unsigned 64-bit integer from the front, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 8 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addBigUint64BE(18_000_000_000_000_000_000n);
   * if (buffer.readBigUint64BE() !== 18_000_000_000_000_000_000n) throw new Error("unreachable");
   * ```
   */
  readBigUint64BE(): bigint | null {
    return take(this.#chain, 8) ? scratch.getBigUint64(0) : null;
  }

  /**
   * Takes an unsigned 64-bit integer from the front, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 8 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addBigUint64LE(18_000_000_000_000_000_000n);
   * if (buffer.readBigUint64LE() !== 18_000_000_000_000_000_000n) throw new Error("unreachable");
   * ```
   */
  readBigUint64LE(): bigint | null {
    return take(this.#chain, 8) ? scratch.getBigUint64(0, true) : null;
  }

  /**
   * Takes a signed 64-bit integer from the front, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 8 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addBigInt64BE(-9_000_000_000_000_000_000n);
   * if (buffer.readBigInt64BE() !== -9_000_000_000_000_000_000n) throw new Error("unreachable");
   * ```
   */
  readBigInt64BE(): bigint | null {
    return take(this.#chain, 8) ? scratch.getBigInt64(0) : null;
  }

  /**
   * Takes a signed 64-bit integer from the front, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 8 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addBigInt64LE(-9_000_000_000_000_000_000n);
   * if (buffer.readBigInt64LE() !== -9_000_000_000_000_000_000n) throw new Error("unreachable");
   * ```
   */
  readBigInt64LE(): bigint | null {
    return take(this.#chain, 8) ? scratch.getBigInt64(0, true) : null;
  }

  /**
   * Takes a 32-bit floating-point number from the front, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 4 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addFloat32BE(0.5);
   * if (buffer.readFloat32BE() !== 0.5) throw new Error("unreachable");
   * ```
   */
  readFloat32BE(): number | null {
    return take(this.#chain, 4) ? scratch.getFloat32(0) : null;
  }

  /**
   * Takes a 32-bit floating-point number from the front, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 4 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addFloat32LE(0.5);
   * if (buffer.readFloat32LE() !== 0.5) throw new Error("unreachable");
   * ```
   */
  readFloat32LE(): number | null {
    return take(this.#chain, 4) ? scratch.getFloat32(0, true) : null;
  }

  /**
   * Takes a 64-bit floating-point number from the front, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 8 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addFloat64BE(0.1);
   * if (buffer.readFloat64BE() !== 0.1) throw new Error("unreachable");
   * ```
   */
  readFloat64BE(): number | null {
    return take(this.#chain, 8) ? scratch.getFloat64(0) : null;
  }

  /**
   * Takes a 64-bit floating-point number from the front, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_remove` of that many bytes
   *
   * @returns The number; `null` if there are fewer than 8 bytes
   * @throws {EventError} `EV_FROZEN` when the front is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addFloat64LE(0.1);
   * if (buffer.readFloat64LE() !== 0.1) throw new Error("unreachable");
   * ```
   */
  readFloat64LE(): number | null {
    return take(this.#chain, 8) ? scratch.getFloat64(0, true) : null;
  }

  /**
   * Adds an unsigned 8-bit integer at the back. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint8(200);
   * if (buffer.length !== 1) throw new Error("unreachable");
   * ```
   */
  addUint8(n: number): void {
    scratch.setUint8(0, checkInteger(n, 0, 0xff));
    put(this.#chain, 1);
  }

  /**
   * Adds a signed 8-bit integer at the back. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt8(-100);
   * if (buffer.length !== 1) throw new Error("unreachable");
   * ```
   */
  addInt8(n: number): void {
    scratch.setInt8(0, checkInteger(n, -0x80, 0x7f));
    put(this.#chain, 1);
  }

  /**
   * Adds an unsigned 16-bit integer at the back, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint16BE(40_000);
   * if (buffer.length !== 2) throw new Error("unreachable");
   * ```
   */
  addUint16BE(n: number): void {
    scratch.setUint16(0, checkInteger(n, 0, 0xffff));
    put(this.#chain, 2);
  }

  /**
   * Adds an unsigned 16-bit integer at the back, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint16LE(40_000);
   * if (buffer.length !== 2) throw new Error("unreachable");
   * ```
   */
  addUint16LE(n: number): void {
    scratch.setUint16(0, checkInteger(n, 0, 0xffff), true);
    put(this.#chain, 2);
  }

  /**
   * Adds a signed 16-bit integer at the back, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt16BE(-20_000);
   * if (buffer.length !== 2) throw new Error("unreachable");
   * ```
   */
  addInt16BE(n: number): void {
    scratch.setInt16(0, checkInteger(n, -0x8000, 0x7fff));
    put(this.#chain, 2);
  }

  /**
   * Adds a signed 16-bit integer at the back, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt16LE(-20_000);
   * if (buffer.length !== 2) throw new Error("unreachable");
   * ```
   */
  addInt16LE(n: number): void {
    scratch.setInt16(0, checkInteger(n, -0x8000, 0x7fff), true);
    put(this.#chain, 2);
  }

  /**
   * Adds an unsigned 32-bit integer at the back, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint32BE(3_000_000_000);
   * if (buffer.length !== 4) throw new Error("unreachable");
   * ```
   */
  addUint32BE(n: number): void {
    scratch.setUint32(0, checkInteger(n, 0, 0xffffffff));
    put(this.#chain, 4);
  }

  /**
   * Adds an unsigned 32-bit integer at the back, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addUint32LE(3_000_000_000);
   * if (buffer.length !== 4) throw new Error("unreachable");
   * ```
   */
  addUint32LE(n: number): void {
    scratch.setUint32(0, checkInteger(n, 0, 0xffffffff), true);
    put(this.#chain, 4);
  }

  /**
   * Adds a signed 32-bit integer at the back, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt32BE(-2_000_000_000);
   * if (buffer.length !== 4) throw new Error("unreachable");
   * ```
   */
  addInt32BE(n: number): void {
    scratch.setInt32(0, checkInteger(n, -0x80000000, 0x7fffffff));
    put(this.#chain, 4);
  }

  /**
   * Adds a signed 32-bit integer at the back, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {RangeError} When it is fractional or does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addInt32LE(-2_000_000_000);
   * if (buffer.length !== 4) throw new Error("unreachable");
   * ```
   */
  addInt32LE(n: number): void {
    scratch.setInt32(0, checkInteger(n, -0x80000000, 0x7fffffff), true);
    put(this.#chain, 4);
  }

  /**
   * Adds an unsigned 64-bit integer at the back, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a bigint
   * @throws {RangeError} When it does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addBigUint64BE(18_000_000_000_000_000_000n);
   * if (buffer.length !== 8) throw new Error("unreachable");
   * ```
   */
  addBigUint64BE(n: bigint): void {
    scratch.setBigUint64(0, checkBigInteger(n, 0n, 0xffff_ffff_ffff_ffffn));
    put(this.#chain, 8);
  }

  /**
   * Adds an unsigned 64-bit integer at the back, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a bigint
   * @throws {RangeError} When it does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addBigUint64LE(18_000_000_000_000_000_000n);
   * if (buffer.length !== 8) throw new Error("unreachable");
   * ```
   */
  addBigUint64LE(n: bigint): void {
    scratch.setBigUint64(0, checkBigInteger(n, 0n, 0xffff_ffff_ffff_ffffn), true);
    put(this.#chain, 8);
  }

  /**
   * Adds a signed 64-bit integer at the back, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a bigint
   * @throws {RangeError} When it does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addBigInt64BE(-9_000_000_000_000_000_000n);
   * if (buffer.length !== 8) throw new Error("unreachable");
   * ```
   */
  addBigInt64BE(n: bigint): void {
    scratch.setBigInt64(0, checkBigInteger(n, -0x8000_0000_0000_0000n, 0x7fff_ffff_ffff_ffffn));
    put(this.#chain, 8);
  }

  /**
   * Adds a signed 64-bit integer at the back, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a bigint
   * @throws {RangeError} When it does not fit
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addBigInt64LE(-9_000_000_000_000_000_000n);
   * if (buffer.length !== 8) throw new Error("unreachable");
   * ```
   */
  addBigInt64LE(n: bigint): void {
    scratch.setBigInt64(0, checkBigInteger(n, -0x8000_0000_0000_0000n, 0x7fff_ffff_ffff_ffffn), true);
    put(this.#chain, 8);
  }

  /**
   * Adds a 32-bit floating-point number at the back, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addFloat32BE(0.5);
   * if (buffer.length !== 4) throw new Error("unreachable");
   * ```
   */
  addFloat32BE(n: number): void {
    scratch.setFloat32(0, checkFloat(n));
    put(this.#chain, 4);
  }

  /**
   * Adds a 32-bit floating-point number at the back, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addFloat32LE(0.5);
   * if (buffer.length !== 4) throw new Error("unreachable");
   * ```
   */
  addFloat32LE(n: number): void {
    scratch.setFloat32(0, checkFloat(n), true);
    put(this.#chain, 4);
  }

  /**
   * Adds a 64-bit floating-point number at the back, most significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addFloat64BE(0.1);
   * if (buffer.length !== 8) throw new Error("unreachable");
   * ```
   */
  addFloat64BE(n: number): void {
    scratch.setFloat64(0, checkFloat(n));
    put(this.#chain, 8);
  }

  /**
   * Adds a 64-bit floating-point number at the back, least significant byte first. O(1).
   *
   * libevent: none; `evbuffer_add` of that many bytes
   *
   * @param n The number
   * @throws {TypeError} When `n` is not a number
   * @throws {EventError} `EV_FROZEN` when the back is frozen, `EV_FREED` after `free()`
   * @example
   * ```ts
   * import { EvBuffer } from "trivent";
   * const buffer = new EvBuffer();
   * buffer.addFloat64LE(0.1);
   * if (buffer.length !== 8) throw new Error("unreachable");
   * ```
   */
  addFloat64LE(n: number): void {
    scratch.setFloat64(0, checkFloat(n), true);
    put(this.#chain, 8);
  }

  /**
   * Drops all bytes and callbacks, and releases adopted memory. The buffer is then empty and cannot be changed. No
   * change callback runs, not even a deferred one. A second call does nothing. O(chunks).
   *
   * The garbage collector frees a forgotten buffer. Only memory with an `onRelease` needs `free()`.
   *
   * libevent: `evbuffer_free`
   *
   * @example
   * ```ts
   * import { EvBuffer, EventError } from "trivent";
   * const buffer = new EvBuffer();
   * let released = false;
   * buffer.addReference(new Uint8Array(1), () => released = true);
   * buffer.free();
   * if (!released || buffer.length !== 0) throw new Error("unreachable");
   * try {
   *   buffer.add("too late");
   *   throw new Error("unreachable");
   * } catch (error) {
   *   if (!(error instanceof EventError) || error.code !== "EV_FREED") throw error;
   * }
   * ```
   */
  free(): void {
    const chain = this.#chain;
    if ((chain.state & FREED) !== 0) return;
    cancelCallbacks(chain);
    chain.state = FREED;
    chain.version = (chain.version + 1) | 0;
    dropAll(chain);
    chain.rare = null;
    chain.memo = null;
    if (firstReleased !== null) runReleases();
  }
}

/** Takes `n` bytes of the front into the scratch memory. */
function take(chain: Chain, n: number): boolean {
  if ((chain.state & FRONT_CLOSED) !== 0) refuse(chain, "read a number");
  return takeNumber(chain, n);
}

/** Adds what is in the scratch memory. */
function put(chain: Chain, n: number): void {
  if ((chain.state & BACK_CLOSED) !== 0) refuse(chain, "add a number");
  putNumber(chain, n);
}

function endBit(verb: string, atFront: boolean): number {
  if (typeof atFront !== "boolean") {
    throw wrongType(`${verb} an end`, "the end is not a boolean", atFront);
  }
  return atFront ? FRONT_FROZEN : BACK_FROZEN;
}

/** Returns the chain of a buffer from the program. The access itself is the check, because it runs for each message. */
export function checkedChain(verb: string, value: EvBuffer): Chain {
  try {
    return chainOf(value);
  } catch {
    throw wrongType(verb, "it is not an EvBuffer", value);
  }
}

/**
 * The names are checked only if the limit is missing, as it is when it is misspelt, because this runs for each line.
 */
function limitOf(verb: string, options: ReadlnOptions): number {
  let maxBytes: number | undefined;
  try {
    maxBytes = options.maxBytes;
  } catch {
    // It is not an object, or cannot be read: readOptions() says so.
  }
  maxBytes ??= readOptions(verb, options, READLN_OPTIONS).maxBytes;
  return maxBytes === undefined ? Infinity : checkLimit(verb, "the limit", maxBytes);
}

function find(
  chain: Chain,
  what: Uint8Array | string,
  from: EvBufferPtr | null,
  to: EvBufferPtr | null,
): EvBufferPtr {
  const needle = toBytes("search", "what to search for", what);
  let limit = chain.length;
  if (to !== null) {
    Position.resolve("search", chain, to);
    limit = cursor.pos;
  }
  if (from === null) locate(chain, 0);
  else Position.resolve("search", chain, from);
  if (needle.length === 0) {
    return cursor.pos > limit
      ? new Position(chain, -1, null, 0)
      : new Position(chain, cursor.pos, cursor.chunk, cursor.at);
  }
  const pos = searchChain(cursor.chunk, cursor.at, cursor.pos, needle, limit);
  return pos < 0 ? new Position(chain, -1, null, 0) : new Position(chain, pos, hit.chunk, hit.at);
}
