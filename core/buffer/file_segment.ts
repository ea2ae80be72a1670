/**
 * A part of a file that several buffers can hold at once.
 */

import {
  checkCount,
  checkFunction,
  checkInner,
  checkNoNul,
  outOfRange,
  plain,
  show,
  stateError,
  wrongType,
} from "../checks.ts";
import { EventError } from "../errors.ts";
import { defaultRuntime } from "../runtime.ts";
import { dropUser, firstReleased, Lender, runReleases } from "./chunk.ts";

/** For the buffer: the memory of a segment; null for anything else. */
export let segmentLender: ((segment: FileSegment) => Lender | null) | null = null;

/** The bytes that were read. */
class Contents {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/**
 * The bytes of a file, or of a part of it, read once and shared by any number of buffers.
 *
 * The runtimes have neither `mmap` nor `sendfile`, so all bytes are read. They are kept until {@linkcode
 * FileSegment.free} was called and no buffer has them any more.
 *
 * libevent: `struct evbuffer_file_segment`
 *
 * @example
 * ```ts
 * import { EvBuffer, FileSegment } from "trivent";
 * const segment = await FileSegment.open("README.md");
 * const buffer = new EvBuffer();
 * buffer.addFileSegment(segment);
 * segment.free();
 * if (buffer.length !== segment.length) throw new Error("unreachable");
 * ```
 */
export class FileSegment {
  /** The number of bytes. */
  readonly length: number;
  readonly #source: Lender;
  #freed = false;
  #cleanups: (() => void)[] = [];

  private constructor(contents: object) {
    const { bytes } = checkInner(contents, Contents, "FileSegment", "FileSegment.open()");
    segmentLender ??= (segment: FileSegment): Lender | null =>
      typeof segment === "object" && segment !== null && #source in segment ? segment.#source : null;
    this.length = bytes.length;
    this.#source = new Lender(bytes, () => this.#cleanUp());
  }

  /**
   * Reads a file, or a part of it. O(length).
   *
   * libevent: `evbuffer_file_segment_new`
   *
   * @param path The file's path
   * @param offset The beginning of the part, in bytes
   * @param length The length of the part, in bytes; by default up to the end of the file
   * @returns The segment
   * @throws {TypeError} When the path is not a string or a count is not a number
   * @throws {RangeError} When a count is negative or fractional, or the file is shorter than `offset + length`
   * @throws {EventError} `EV_UNSUPPORTED` when the runtime reads no files, or the system's code, such as `ENOENT`
   * @example
   * ```ts
   * import { FileSegment } from "trivent";
   * const segment = await FileSegment.open("README.md", 2, 5);
   * if (segment.length !== 5) throw new Error("unreachable");
   * segment.free();
   * ```
   */
  static async open(path: string, offset = 0, length?: number): Promise<FileSegment> {
    if (typeof path !== "string") {
      throw wrongType("open a file segment", "the path is not a string", path);
    }
    checkNoNul("open a file segment", "the path", path);
    checkCount("open a file segment", "the offset", offset);
    if (length !== undefined) checkCount("open a file segment", "the length", length);
    const runtime = defaultRuntime();
    if (runtime.readFile === undefined) {
      throw new EventError(`Cannot open a file segment: this runtime cannot read files: received ${show(path)}`, {
        code: "EV_UNSUPPORTED",
      });
    }
    const bytes = await runtime.readFile(path, offset, length);
    if (length !== undefined && bytes.length < length) {
      throw outOfRange("open a file segment", `${show(path)} has no ${length} bytes from ${offset} on`, bytes.length);
    }
    return new FileSegment(new Contents(plain(bytes)));
  }

  /**
   * Calls `fn` once, when the segment was freed and the last buffer has consumed its bytes. Several functions are
   * called in the order in which they were added. O(1).
   *
   * libevent: `evbuffer_file_segment_add_cleanup_cb`
   *
   * @param fn The function
   * @throws {TypeError} When `fn` is not a function
   * @throws {EventError} `EV_FREED` when that has happened already
   * @example
   * ```ts
   * import { FileSegment } from "trivent";
   * const segment = await FileSegment.open("README.md");
   * let done = false;
   * segment.onCleanup(() => done = true);
   * segment.free();
   * if (!done) throw new Error("unreachable");
   * ```
   */
  onCleanup(fn: () => void): void {
    checkFunction("watch a file segment", "the callback", fn);
    if (this.#source.users === 0) throw stateError("watch a file segment", "it was cleaned up", "EV_FREED");
    this.#cleanups.push(fn);
  }

  /**
   * Frees the segment: it cannot be added any more. Buffers that have a part of it keep it. A second call does nothing.
   * O(1).
   *
   * libevent: `evbuffer_file_segment_free`
   *
   * @example
   * ```ts
   * import { FileSegment } from "trivent";
   * const segment = await FileSegment.open("README.md");
   * segment.free();
   * ```
   */
  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    dropUser(this.#source);
    if (firstReleased !== null) runReleases();
  }

  /** Whether `free()` was called. */
  get freed(): boolean {
    return this.#freed;
  }

  #cleanUp(): void {
    const cleanups = this.#cleanups;
    this.#cleanups = [];
    let failed = false;
    let failure: unknown;
    for (const fn of cleanups) {
      try {
        fn();
      } catch (error) {
        if (!failed) failure = error;
        failed = true;
      }
    }
    if (failed) throw failure;
  }
}
