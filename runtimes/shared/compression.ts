/**
 * Compressed streams with the runtime's own zlib, `node:zlib`.
 *
 * The public interface of zlib takes a whole message or is asynchronous. The asynchronous one does not say how much
 * input it has taken, and cannot run on a simulator's clock. So the handle of a stream is used: `writeSync`, with the
 * stream's `_writeState`, is the same on Node, Deno and Bun. Remove when there is a public way (requested in
 * nodejs/node#35295 and nodejs/node#47709).
 *
 * @module
 */

import { EventError } from "../../core/errors.ts";
import { BEV_FINISHED, BEV_FLUSH } from "../../core/flags.ts";
import type { CompressionFormat, Compressor } from "../../core/runtime.ts";

/** The part of `node:zlib` that is used here. */
type Zlib = { readonly [make: string]: (options: ZlibOptions) => ZlibStream };

interface ZlibOptions {
  chunkSize: number;
  level?: number;
  params?: { [parameter: number]: number };
}

interface ZlibStream {
  readonly _handle?: ZlibHandle;
  readonly _writeState?: Uint32Array;
  close(): void;
}

interface ZlibHandle {
  onerror: (message: string) => void;
  writeSync(
    flush: number,
    input: Uint8Array,
    inputAt: number,
    inputLength: number,
    output: Uint8Array,
    outputAt: number,
    outputLength: number,
  ): void;
}

const MAKERS: { readonly [format in CompressionFormat]: readonly [compress: string, decompress: string] } = {
  "gzip": ["createGzip", "createGunzip"],
  "deflate": ["createDeflate", "createInflate"],
  "deflate-raw": ["createDeflateRaw", "createInflateRaw"],
  "brotli": ["createBrotliCompress", "createBrotliDecompress"],
};

/**
 * `Z_BLOCK`: a step of a decompressor ends with each block of the stream. After a failure zlib does not say how much
 * output a step has made. So bytes after the end, or a wrong checksum, would lose the output made before them in the
 * same step.
 */
const Z_BLOCK = 5;

/** BROTLI_PARAM_QUALITY, and its default here. Brotli's own default is for files, and takes a hundred times longer. */
const BROTLI_QUALITY = 1;
const BROTLI_USUAL_QUALITY = 5;
/** The smallest size that zlib allows for a stream's own output, which is not used. */
const UNUSED_CHUNK_BYTES = 64;

const PROBE: Uint8Array = /* @__PURE__ */ new Uint8Array(1);

/**
 * Creates a compressor on the running runtime.
 *
 * @throws {EventError} `EV_UNSUPPORTED` if the runtime has none
 */
export function hostCompressor(
  format: CompressionFormat,
  way: "compress" | "decompress",
  level: number | undefined,
): Compressor {
  const host = globalThis as { process?: { getBuiltinModule?(name: string): unknown } };
  const zlib = host.process?.getBuiltinModule?.("node:zlib") as Zlib | undefined;
  const make = zlib?.[MAKERS[format][way === "compress" ? 0 : 1]];
  const options: ZlibOptions = { chunkSize: UNUSED_CHUNK_BYTES };
  if (way === "compress") {
    if (format === "brotli") options.params = { [BROTLI_QUALITY]: level ?? BROTLI_USUAL_QUALITY };
    else if (level !== undefined) options.level = level;
  }
  const stream = make?.(options);
  if (stream?._handle?.writeSync === undefined || stream._writeState === undefined) {
    throw new EventError(`Cannot ${way} ${format}: this runtime has no synchronous zlib`, {
      code: "EV_UNSUPPORTED",
    });
  }
  return new ZlibCompressor(stream, stream._handle, stream._writeState, format, way);
}

class ZlibCompressor implements Compressor {
  taken = 0;
  made = 0;
  private readonly stream: ZlibStream;
  private readonly handle: ZlibHandle;
  /** After a step: how many bytes of the output are free, and how many of the input were not taken. */
  private readonly left: Uint32Array;
  private readonly format: CompressionFormat;
  /** The flush of an ordinary step. */
  private readonly ordinary: number;
  private failure: string | null = null;
  private closed = false;

  constructor(
    stream: ZlibStream,
    handle: ZlibHandle,
    left: Uint32Array,
    format: CompressionFormat,
    way: "compress" | "decompress",
  ) {
    this.ordinary = way === "decompress" && format !== "brotli" ? Z_BLOCK : 0;
    this.stream = stream;
    this.handle = handle;
    this.left = left;
    this.format = format;
    // The stream's own handler would emit an event, later.
    handle.onerror = (message) => this.failure = message;
  }

  step(input: Uint8Array, output: Uint8Array, mode: number): void {
    this.write(input, output, this.flushOf(mode));
    if (this.failure === null) return;
    throw new EventError(`Cannot go on with a ${this.format} stream: ${this.failure}`, {
      code: "EV_COMPRESSED_INVALID",
    });
  }

  private write(input: Uint8Array, output: Uint8Array, flush: number): void {
    this.taken = this.made = 0;
    if (this.failure !== null) return;
    if (this.closed) throw new Error("Cannot use a compressor: it was closed");
    this.handle.writeSync(flush, input, 0, input.length, output, 0, output.length);
    // After a failure the counts are not updated.
    if (this.failure !== null) return;
    this.made = output.length - (this.left[0] as number);
    this.taken = input.length - (this.left[1] as number);
  }

  /** `Z_NO_FLUSH` or `Z_BLOCK`, `Z_SYNC_FLUSH` and `Z_FINISH`, or the three operations of brotli. */
  private flushOf(mode: number): number {
    if (this.format === "brotli") return mode;
    return mode === BEV_FINISHED ? 4 : mode === BEV_FLUSH ? 2 : this.ordinary;
  }

  finish(): boolean {
    // Z_FINISH does not tell, since brotli on Deno ignores it. A stream that has ended takes no more bytes; another one
    // does.
    this.write(PROBE, new Uint8Array(UNUSED_CHUNK_BYTES), 0);
    const whole = this.failure === null && this.taken === 0;
    this.close();
    return whole;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.stream.close();
  }
}
