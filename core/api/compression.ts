/**
 * Filters that compress output and decompress input, with the compression of the runtime.
 *
 * @module
 */

import { DEFAULT_READ_HIGH } from "../bufferevent/limits.ts";
import { checkBoolean, checkLimit, outOfRange } from "../checks.ts";
import { BEV_ERROR, BEV_FINISHED, BEV_FLUSH, BEV_NEED_MORE, BEV_NORMAL, BEV_OK, EV_READ } from "../flags.ts";
import { EventError } from "../errors.ts";
import { type Names, readOptions } from "../names.ts";
import type { EvBuffer } from "../buffer/evbuffer.ts";
import { checkRuntime, type CompressionFormat, type Compressor, defaultRuntime, type Runtime } from "../runtime.ts";
import { type BufferEvent, coreOf } from "./bufferevent.ts";
import type { BufferEventFilter } from "../bufferevent/filter_run.ts";
import { FilterBufferEvent } from "./filter_bufferevent.ts";

/** Options of {@linkcode compress}. */
export interface CompressionOptions {
  /** The level: 0 to 9, for brotli 0 to 11. @default {6, of brotli 5} */
  level?: number | undefined;
  /**
   * Whether the output of a turn leaves at its end, without `flush(EV_WRITE, BEV_FLUSH)`. This costs some compression.
   *
   * @default {false}
   */
  autoFlush?: boolean | undefined;
  /** The runtime that compresses; by default the one that the program runs on. */
  runtime?: Runtime | undefined;
}

/** Options of {@linkcode decompress}. */
export interface DecompressionOptions {
  /**
   * The largest number of decompressed bytes. Further ones are an error, `EV_DECOMPRESSED_TOO_LONG`. @default
   * {Infinity}
   */
  maxDecompressedBytes?: number | undefined;
  /** The runtime that decompresses; by default the one that the program runs on. */
  runtime?: Runtime | undefined;
}

/** Options of {@linkcode compressionFilter}. */
export interface CompressionFilterOptions extends CompressionOptions, DecompressionOptions {
  /** `BEV_OPT_` flags of the filter. @default {0} */
  flags?: number | undefined;
}

const COMPRESSION_OPTIONS: Names<CompressionOptions> = { level: true, autoFlush: true, runtime: true };
const DECOMPRESSION_OPTIONS: Names<DecompressionOptions> = { maxDecompressedBytes: true, runtime: true };
const FILTER_OPTIONS: Names<CompressionFilterOptions> = {
  level: true,
  autoFlush: true,
  maxDecompressedBytes: true,
  runtime: true,
  flags: true,
};
const BOTH_FORMATS: Names<BothFormats> = { read: true, write: true };

/** The format of each direction; null to leave its bytes unchanged. */
interface BothFormats {
  read: CompressionFormat | null;
  write: CompressionFormat | null;
}

/** The largest input of one step. */
const INPUT_BYTES = 64 * 1024;

const NOTHING: Uint8Array = /* @__PURE__ */ new Uint8Array(0);
/** The memory for the output of a step, until it is copied. */
const scratch: Uint8Array = /* @__PURE__ */ new Uint8Array(32 * 1024);

/**
 * A layer that decompresses input and compresses output: a {@linkcode FilterBufferEvent} with {@linkcode decompress}
 * and {@linkcode compress}. Its high watermark of reading is 64 KiB at first.
 *
 * - The compressor holds output back until it has enough. `flush(EV_WRITE, BEV_FLUSH)` makes all of it leave;
 *   `autoFlush` does that in every turn. `shutdown()` and `close()` end the compressed data and lose nothing.
 * - Corrupt input gives `BEV_EVENT_READING | BEV_EVENT_ERROR` with the code `EV_COMPRESSED_INVALID`, after all bytes
 *   that were decompressed before. Bytes behind the end give the same, except for zeros after gzip. If the fault is
 *   inside a block, up to 32 KiB of that block may be missing. If the end of file comes too early, the error is
 *   `EV_COMPRESSED_TRUNCATED`, in place of the end of file. Input without a single byte is not an error.
 * - Decompressed bytes never use more memory than the high watermark and 32 KiB.
 * - Several gzip members are read as one.
 * - A compressor uses about 256 KiB from the first byte on, a decompressor 32 KiB, for brotli up to 16 MiB as the peer
 *   chooses.
 *
 * @param underlying The bufferevent below; the filter replaces its callbacks
 * @param format The format of both directions, or of each; null leaves the bytes of a direction unchanged
 * @param options The level, the limit and flags
 * @returns The layer; it is stacked and closed like every filter
 * @throws {RangeError} When a format is unknown, or an option out of range
 * @throws {EventError} `EV_UNSUPPORTED` when the runtime cannot compress; `EV_BUSY` and `EV_FREED` as
 * `FilterBufferEvent`
 *
 * @example
 * ```ts
 * import { bufferEventPair, compressionFilter, EventBase } from "trivent";
 * const base = new EventBase();
 * const [near, far] = bufferEventPair(base);
 * const sender = compressionFilter(near, "gzip");
 * const receiver = compressionFilter(far, "gzip");
 * sender.write("hello ".repeat(1000));
 * sender.shutdown();
 * const done = base.dispatch();
 * let text = "";
 * for await (const chunk of receiver) text += new TextDecoder().decode(chunk);
 * await done;
 * if (text.length !== 6000) throw new Error("not the same");
 * ```
 */
export function compressionFilter<Ctx = unknown>(
  underlying: BufferEvent,
  format: CompressionFormat | { read: CompressionFormat | null; write: CompressionFormat | null },
  options: CompressionFilterOptions = {},
): FilterBufferEvent<Ctx> {
  const doing = "make a compression filter";
  const { read, write } = typeof format === "object" && format !== null
    ? readOptions<BothFormats>(doing, format, BOTH_FORMATS, "format")
    : { read: format, write: format };
  const { flags = 0, ...given } = readOptions(doing, options, FILTER_OPTIONS);
  const all = { runtime: coreOf(underlying).loop.runtime, ...given };
  const inward = read === null ? null : new Decompressing(read, all);
  const outward = write === null ? null : new Compressing(write, all);
  const filter = new FilterBufferEvent<Ctx>(
    underlying,
    inward === null ? null : filterOf(inward),
    outward === null ? null : filterOf(outward),
    flags,
    () => {
      inward?.close();
      outward?.close();
    },
  );
  // So that a few bytes that become many are decompressed only as fast as they are read.
  filter.setWatermark(EV_READ, 0, DEFAULT_READ_HIGH);
  return filter;
}

/**
 * Makes a filter function that compresses. Use each for one direction of one bufferevent. It holds bytes back until it
 * is called with `BEV_FLUSH` or `BEV_FINISHED`. The latter ends the compressed data; later bytes begin anew.
 *
 * @param format The format
 * @param options The level
 * @returns The filter
 * @throws {RangeError} When the format is unknown, or the level out of range
 * @throws {EventError} `EV_UNSUPPORTED` when the runtime cannot compress
 */
export function compress(format: CompressionFormat, options: CompressionOptions = {}): BufferEventFilter {
  return filterOf(new Compressing(format, readOptions("compress", options, COMPRESSION_OPTIONS)));
}

/**
 * Makes a filter function that decompresses. Use each for one direction of one bufferevent, and give that bufferevent a
 * high watermark of reading. It never makes more bytes than the limit it gets. Its errors are those of {@linkcode
 * compressionFilter}.
 *
 * @param format The format
 * @param options The limit
 * @returns The filter
 * @throws {RangeError} When the format is unknown, or the limit is negative or fractional
 * @throws {EventError} `EV_UNSUPPORTED` when the runtime cannot decompress
 */
export function decompress(format: CompressionFormat, options: DecompressionOptions = {}): BufferEventFilter {
  return filterOf(new Decompressing(format, readOptions("decompress", options, DECOMPRESSION_OPTIONS)));
}

function filterOf(transformer: Compressing | Decompressing): BufferEventFilter {
  const filter: BufferEventFilter = (source, destination, limit, mode) => {
    const result = transformer.run(source, destination, limit, mode);
    filter.error = transformer.error;
    return result;
  };
  return filter;
}

/** The formats that the runtimes support. */
const able: WeakMap<Runtime, Set<string>> = new WeakMap();

/** One compressed stream. It is begun when it is needed, so a silent connection uses no memory. */
abstract class Transformer {
  /** The error that ended it. */
  error: EventError | null = null;
  /** How many bytes the last step made. */
  protected made = 0;
  private readonly make: () => Compressor;
  private stream: Compressor | null = null;
  /**
   * How many bytes at the front of the source have been consumed already. One stays there while output may come,
   * because a filter is called only while it has a source.
   */
  private owed = 0;

  constructor(format: CompressionFormat, way: "compress" | "decompress", level: number | undefined, runtime?: Runtime) {
    const host = runtime === undefined ? defaultRuntime() : checkRuntime(way, runtime);
    if (!["gzip", "deflate", "deflate-raw", "brotli"].includes(format)) {
      throw outOfRange(way, "unknown format", format);
    }
    const none = (): Compressor => {
      throw new EventError(`Cannot ${way} ${format}: the runtime ${host.name} does not support it`, {
        code: "EV_UNSUPPORTED",
      });
    };
    this.make = () => host.compressor?.(format, way, level) ?? none();
    // A runtime that cannot is found out now, and not at the first byte.
    const key = `${way} ${format}`;
    const known = able.get(host) ?? new Set();
    if (known.has(key)) return;
    this.make().close();
    able.set(host, known.add(key));
  }

  get begun(): boolean {
    return this.stream !== null;
  }

  get compressor(): Compressor {
    return this.stream ??= this.make();
  }

  /** The stream has ended. The next byte begins another. */
  protected end(): void {
    this.close();
    this.owed = 0;
  }

  close(): void {
    this.stream?.close();
    this.stream = null;
  }

  protected fail(code: string, message: string): number {
    this.error = new EventError(message, { code });
    return BEV_ERROR;
  }

  /**
   * Does one step with the front of the source, and moves the result.
   *
   * @param most The largest number of bytes of the result
   * @param keep How many of these are moved
   * @returns How many bytes it was given
   */
  protected step(source: EvBuffer, destination: EvBuffer, most: number, keep: number = Infinity): number {
    const front = source.pullup(Math.min(source.contiguousSpace, INPUT_BYTES)) ?? NOTHING;
    const input = this.owed === 0 ? front : front.subarray(this.owed);
    const output = most >= scratch.length ? scratch : scratch.subarray(0, most);
    const { compressor } = this;
    compressor.step(input, output, BEV_NORMAL);
    const { taken, made } = compressor;
    this.made = made;
    const gone = this.owed + taken;
    const more = made === output.length && gone === source.length;
    const given = input.length;
    this.owed = more ? 1 : 0;
    const kept = Math.min(made, keep);
    try {
      // First of all: a change callback may use another filter, and with it this memory. One that throws costs nothing.
      if (kept > 0) destination.add(kept === scratch.length ? scratch : scratch.subarray(0, kept));
    } finally {
      source.drain(more ? gone - 1 : gone);
    }
    return given;
  }
}

/** Compresses. */
class Compressing extends Transformer {
  private readonly autoFlush: boolean;
  /** Whether something was taken since the last flush. */
  private dirty = false;

  constructor(format: CompressionFormat, options: CompressionOptions) {
    const { level, autoFlush = false, runtime } = options;
    const most = format === "brotli" ? 11 : 9;
    if (level !== undefined && !(Number.isInteger(level) && level >= 0 && level <= most)) {
      throw outOfRange("compress", `the level is not between 0 and ${most}`, level);
    }
    super(format, "compress", level, runtime);
    this.autoFlush = checkBoolean("compress", "autoFlush", autoFlush);
  }

  run(source: EvBuffer, destination: EvBuffer, limit: number, mode: number): number {
    do {
      if (source.length === 0) break;
      this.dirty = true;
      this.step(source, destination, limit < 0 ? Infinity : limit);
    } while (mode !== BEV_NORMAL);
    if (source.length > 0) return BEV_OK;
    if (mode === BEV_FINISHED) {
      this.flush(destination, BEV_FINISHED);
      this.end();
    } else if (this.dirty && (mode === BEV_FLUSH || this.autoFlush)) this.flush(destination, BEV_FLUSH);
    return BEV_OK;
  }

  private flush(destination: EvBuffer, mode: number): void {
    const { compressor } = this;
    do {
      compressor.step(NOTHING, scratch, mode);
      if (compressor.made > 0) destination.add(scratch.subarray(0, compressor.made));
    } while (compressor.made === scratch.length);
    this.dirty = false;
  }
}

/** Decompresses. */
class Decompressing extends Transformer {
  private readonly format: CompressionFormat;
  private readonly maxBytes: number;
  private bytes = 0;

  constructor(format: CompressionFormat, options: DecompressionOptions) {
    const { maxDecompressedBytes = Infinity, runtime } = options;
    super(format, "decompress", undefined, runtime);
    this.format = format;
    this.maxBytes = checkLimit("decompress", "maxDecompressedBytes", maxDecompressedBytes);
  }

  run(source: EvBuffer, destination: EvBuffer, limit: number, mode: number): number {
    if (this.error !== null) return BEV_ERROR;
    if (source.length > 0) return this.decompress(source, destination, limit, mode);
    if (mode !== BEV_FINISHED) return BEV_NEED_MORE;
    return this.finish();
  }

  private decompress(source: EvBuffer, destination: EvBuffer, limit: number, mode: number): number {
    const sourceLength = source.length;
    const left = this.maxBytes - this.bytes;
    // One more than may come out, so that a stream of just the length is not too long.
    const most = Math.min(limit < 0 ? Infinity : limit, left + 1);
    let given: number;
    try {
      given = this.step(source, destination, most, left);
    } catch (error) {
      if (!(error instanceof EventError) || error.code !== "EV_COMPRESSED_INVALID") throw error;
      this.error = error;
      return BEV_ERROR;
    }
    const { made } = this;
    this.bytes += made;
    if (this.bytes > this.maxBytes) {
      return this.fail("EV_DECOMPRESSED_TOO_LONG", `Cannot decompress: more than ${this.maxBytes} bytes of output`);
    }
    if (made === 0 && source.length === sourceLength && given > 0 && !this.skipPadding(source)) {
      return this.fail("EV_COMPRESSED_INVALID", `Cannot decompress ${this.format}: there are bytes behind its end`);
    }
    // Nothing is left: what a last call has to say is said now.
    return source.length === 0 && mode === BEV_FINISHED ? this.finish() : BEV_OK;
  }

  /** The stream has ended, and there is more: gzip may be padded with zeros. */
  private skipPadding(source: EvBuffer): boolean {
    if (this.format !== "gzip") return false;
    const front = source.pullup(source.contiguousSpace) ?? NOTHING;
    let n = 0;
    while (n < front.length && front[n] === 0) n++;
    source.drain(n);
    return n > 0;
  }

  private finish(): number {
    if (!this.begun) return BEV_OK;
    const whole = this.compressor.finish();
    this.end();
    this.bytes = 0;
    if (whole) return BEV_OK;
    return this.fail("EV_COMPRESSED_TRUNCATED", `Cannot decompress ${this.format}: the stream ended inside it`);
  }
}
