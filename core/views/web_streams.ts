/**
 * Web streams over a bufferevent. The core declares only the parts that it needs; types and classes are the runtime's
 * own if it has them.
 *
 * @module
 */

import { isBytes, wrongType } from "../checks.ts";
import { EventError } from "../errors.ts";
import { encodeUtf8, utf8Length } from "../buffer/utf8.ts";
import type { Face } from "../bufferevent/callbacks.ts";
import type { BevCore, StreamEnd } from "../bufferevent/core.ts";
import type { AbortSignalLike } from "../runtime.ts";
import { type Takeover, takeOver, type Writer } from "./takeover.ts";
import { viewChunks } from "./decoders.ts";
import { feedFrom, type View } from "./views.ts";

/** The common part of a `ReadableStream` of bytes. */
export interface ByteReadable {
  /** Whether a reader has it. */
  readonly locked: boolean;
  /** Ends it. Unread bytes stay in the input. */
  cancel(reason?: unknown): Promise<void>;
  /** Returns a reader. */
  getReader(): {
    read(): Promise<{ done: false; value: Uint8Array } | { done: true; value?: Uint8Array | undefined }>;
    cancel(reason?: unknown): Promise<void>;
    releaseLock(): void;
    readonly closed: Promise<unknown>;
  };
}

/** A chunk of a `ByteWritable`: a string, which is sent as UTF-8, or bytes in any kind of view or buffer. */
export type ByteChunk = string | ArrayBufferView | ArrayBufferLike;

/** The common part of a `WritableStream` of bytes and strings. */
export interface ByteWritable {
  /** Whether a writer has it. */
  readonly locked: boolean;
  /** Ends the connection, after the chunks whose write has resolved. */
  abort(reason?: unknown): Promise<void>;
  /** Finishes our direction. */
  close(): Promise<void>;
  /** Returns a writer. */
  getWriter(): {
    write(chunk: ByteChunk): Promise<void>;
    close(): Promise<void>;
    abort(reason?: unknown): Promise<void>;
    releaseLock(): void;
    readonly desiredSize: number | null;
    readonly ready: Promise<unknown>;
    readonly closed: Promise<unknown>;
  };
}

/** A `ReadableStream<Uint8Array>`: the runtime's own type if its types are known. */
export type ByteReadableStream = typeof globalThis extends { ReadableStream: { prototype: infer Stream } }
  ? ByteReadable & Stream
  : ByteReadable;

/** A `WritableStream<ByteChunk>`: the runtime's own type if its types are known. */
export type ByteWritableStream = typeof globalThis extends { WritableStream: { prototype: infer Stream } }
  ? ByteWritable & Stream
  : ByteWritable;

interface ReadController {
  enqueue(chunk: Uint8Array): void;
  close(): void;
  error(reason: unknown): void;
}

interface WriteController {
  error(reason: unknown): void;
  /** Aborted by `abort()` of the stream, at once; the sink hears of it only when the write under way has settled. */
  readonly signal?: AbortSignalLike | undefined;
}

interface StreamGlobals {
  ReadableStream?: new (
    source: {
      start(controller: ReadController): void;
      pull(controller: ReadController): Promise<void>;
      cancel(): Promise<void>;
    },
    strategy: { highWaterMark: number },
  ) => ByteReadable;
  WritableStream?: new (
    sink: {
      start(controller: WriteController): Promise<void> | undefined;
      write(chunk: unknown): Promise<void> | undefined;
      close(): Promise<void>;
      abort(reason: unknown): void;
    },
    strategy?: { highWaterMark: number; size(chunk: unknown): number },
  ) => ByteWritable;
}

/** The most of a long chunk that is queued at once. */
const PIECE_BYTES = 64 * 1024;

const readables: WeakMap<BevCore, ByteReadable> = new WeakMap();
const writables: WeakMap<BevCore, ByteWritable> = new WeakMap();

/** The stream of what a bufferevent receives. */
export function readableOf(core: BevCore): ByteReadableStream {
  let stream = readables.get(core);
  if (stream === undefined) readables.set(core, stream = makeReadable(core));
  return stream as ByteReadableStream;
}

/** The stream of what a bufferevent sends. */
export function writableOf(core: BevCore): ByteWritableStream {
  let stream = writables.get(core);
  if (stream === undefined) writables.set(core, stream = makeWritable(core));
  return stream as ByteWritableStream;
}

function makeReadable(core: BevCore): ByteReadable {
  const view = viewChunks(core);
  const { stream, end, look } = streamOfView(view, {
    onCancel: () => {
      readables.delete(core);
      core.streams?.delete(ends);
    },
    onCancelled: () => core.owner?.onReadCancelled(),
  });
  const ends: StreamEnd = {
    claimsEnd() {
      if (!stream.locked) return false;
      view.open();
      return true;
    },
    // What came before the end is given first, when it is asked for.
    onReadEnd: () => {
      if (core.input.length === 0) void look();
    },
    onFailed() {},
    onClosing: () => end(null),
    onFreed: (reason) => end({ reason }),
  };
  hearEnd(core, ends);
  return stream;
}

function makeWritable(core: BevCore): ByteWritable {
  const sink = new Sink(core);
  hearEnd(core, sink);
  return streamOfSink(sink);
}

function hearEnd(core: BevCore, end: StreamEnd): void {
  const streams = core.streams ??= new Set();
  if (!core.freed) streams.add(end);
}

/** What happens to a readable stream. */
interface ReadableHooks {
  /** The stream is being cancelled. */
  onCancel?(): void;
  /** The stream was cancelled, and the view is left. */
  onCancelled?(): void;
  /** What arrives has ended, by an error or not. */
  onEnd?(error: unknown): void;
}

/** A readable stream. */
export interface ViewStream {
  readonly stream: ByteReadable;
  /** Ends it at once, with a reason or not. */
  end(failed: { reason: unknown } | null): void;
  /** Takes the next chunk, or the end, off the view. Never rejects. */
  look(): Promise<void>;
}

/** Makes a stream of a view. */
export function streamOfView(view: View<Uint8Array>, hooks: ReadableHooks): ViewStream {
  const Stream = hostStream("ReadableStream");
  let controller: ReadController | null = null;
  let over = false;
  const end = (failed: { reason: unknown } | null): void => {
    if (over) return;
    over = true;
    if (failed === null) controller?.close();
    else controller?.error(failed.reason);
  };
  let looking = false;
  const look = async (): Promise<void> => {
    if (looking) return;
    looking = true;
    try {
      if (await feedFrom(view, (chunk) => controller?.enqueue(chunk)) || over) return;
      end(null);
      hooks.onEnd?.(null);
    } catch (reason) {
      if (over) return;
      // It may have a reason of its own for the stream.
      hooks.onEnd?.(reason);
      end({ reason });
    } finally {
      looking = false;
    }
  };
  // Not of the type "bytes": that would take the memory of each chunk away from those who share it. Nothing is held
  // in the stream, so that the watermark of the bufferevent is the only bound, and cancelling loses nothing.
  const stream = new Stream({
    start(given) {
      controller = given;
    },
    pull: look,
    async cancel() {
      over = true;
      hooks.onCancel?.();
      const left = view.return();
      hooks.onCancelled?.();
      await left;
    },
  }, { highWaterMark: 0 });
  return { stream, end, look };
}

/** Makes the stream of a sink. */
function streamOfSink(sink: Sink): ByteWritable {
  return new (hostStream("WritableStream"))(sink);
}

/**
 * Makes the stream of a sink that can be flushed.
 *
 * @param begun What the first write waits for
 * @param highWaterMark How many bytes may wait in the stream before it is not ready for more; one chunk, if not given
 */
export function flushableStreamOf(sink: Sink, begun?: Promise<void>, highWaterMark?: number): ByteWritable {
  const Stream = hostStream("WritableStream");
  sink.begun = begun;
  return new Stream(sink, {
    highWaterMark: highWaterMark ?? 1,
    // The stream asks for the size of each chunk in the call of write().
    size(chunk) {
      sink.held++;
      return highWaterMark === undefined ? 1 : sizeOf(chunk);
    },
  });
}

function hostStream<Name extends keyof StreamGlobals>(name: Name): NonNullable<StreamGlobals[Name]> {
  const found = (globalThis as StreamGlobals)[name];
  if (found !== undefined) return found as NonNullable<StreamGlobals[Name]>;
  throw new EventError(`Cannot make a stream: this runtime has no ${name}`, { code: "EV_UNSUPPORTED" });
}

/**
 * The bytes of a chunk that is not a string, where they are.
 *
 * @throws {TypeError} When there are none
 */
function bytesOf(chunk: unknown): Uint8Array {
  if (isBytes(chunk)) return chunk;
  try {
    if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    // Only a buffer, of whatever realm, can have a view.
    return new Uint8Array(new DataView(chunk as ArrayBuffer).buffer);
  } catch (cause) {
    const isMemory = ArrayBuffer.isView(chunk) || chunk instanceof ArrayBuffer;
    const why = isMemory
      ? "the chunk's memory was transferred"
      : "the chunk is not a string, a buffer or a view of one";
    throw wrongType("write to a stream", why, chunk, { cause });
  }
}

/** How many bytes a chunk has. Of one that cannot be written, the write tells. */
function sizeOf(chunk: unknown): number {
  if (typeof chunk === "string") return utf8Length(chunk);
  const length: unknown = (chunk as { byteLength?: unknown } | null | undefined)?.byteLength;
  return typeof length === "number" && length > 0 ? length : 0;
}

/** What happens to a writable stream. */
interface WritableHooks {
  /** Sending has failed. */
  onFailed?(error: unknown): void;
  /** Our direction was finished. */
  onClosed?(): void;
  /** `abort()` was called. It may still wait for a write or for the beginning. */
  onAborting?(reason: unknown): void;
  /** The connection was cut by `abort()`. */
  onAborted?(reason: unknown): void;
}

/** What is under a writable stream. The stream sees to it that one call has settled before the next is made. */
export class Sink implements Writer, StreamEnd {
  private readonly core: BevCore;
  private readonly hooks: WritableHooks;
  private controller: WriteController | null = null;
  private views: Takeover | null = null;
  /** Whether `close()` of the stream waits for the output to leave. */
  private closing = false;
  /** Why nothing more is to be queued: the stream was aborted, or has failed. */
  private ended: { reason: unknown } | null = null;
  /** Whether the stream was closed or aborted, or has failed: it and the bufferevent have nothing to do with each other. */
  private finished = false;
  /** How many chunks were given to a flushable stream, and have not passed. */
  held = 0;
  /** Called when all chunks have passed. Meanwhile no write waits for the peer. */
  private flushed: (() => void) | null = null;
  /** The writers that wait for the output to drain: to the low watermark, or wholly. */
  private waiter: { resolve: () => void; reject: (reason: unknown) => void; wholly: boolean } | null = null;

  constructor(core: BevCore, hooks: WritableHooks = {}) {
    this.core = core;
    this.hooks = hooks;
  }

  get waiting(): boolean {
    return this.waiter !== null;
  }

  /** What the first write waits for. */
  begun: Promise<void> | undefined;

  start(controller: WriteController): Promise<void> | undefined {
    this.controller = controller;
    const { signal } = controller;
    signal?.addEventListener("abort", () => this.aborted(signal.reason));
    return this.begun;
  }

  /** `abort()` waits for the write or the close that is under way, which may wait for a peer that does not read. */
  private aborted(reason: unknown): void {
    this.hooks.onAborting?.(reason);
    if (this.finished) return;
    if (!this.closing) return this.settle(this.ended ??= { reason });
    // Each chunk was accepted, so all of them leave.
    this.abandon();
    this.settle(null);
  }

  private abandon(): void {
    this.finished = true;
    this.leave();
    this.core.abandon();
  }

  /**
   * Queues all chunks that the stream holds, as `close()` of a socket delivers what was written before it.
   *
   * @param then Called when the last one was queued, or the stream has ended
   */
  flush(then: () => void): void {
    if (this.held <= 0 || this.finished || this.closing || this.ended !== null) return then();
    this.flushed = then;
    if (this.waiter !== null && !this.waiter.wholly) this.settle(null);
  }

  private passed(): void {
    this.held--;
    if (this.held <= 0) this.endFlush();
  }

  private endFlush(): void {
    const then = this.flushed;
    this.flushed = null;
    then?.();
  }

  write(chunk: unknown): Promise<void> | undefined {
    if (this.held <= 0) return this.writeChunk(chunk);
    try {
      const writing = this.writeChunk(chunk);
      if (writing !== undefined) return writing.finally(() => this.passed());
    } catch (error) {
      this.passed();
      throw error;
    }
    this.passed();
    return undefined;
  }

  private writeChunk(chunk: unknown): Promise<void> | undefined {
    this.open();
    let data: Uint8Array | string;
    try {
      data = typeof chunk === "string" ? chunk : bytesOf(chunk);
    } catch (error) {
      this.leave();
      throw error;
    }
    const core = this.core;
    // Text takes at most three bytes for each of its units.
    if (data.length > PIECE_BYTES || core.output.length + 3 * data.length > core.maxOutput) {
      return this.writeInPieces(typeof data === "string" ? encodeUtf8(data) : data);
    }
    return this.add(data) || this.flushed !== null ? undefined : this.drained(false);
  }

  /** Queues it. @returns Whether the output has space for more */
  private add(data: Uint8Array | string): boolean {
    const goesOn = this.face.write(data);
    // A pair notices in the call that its partner is gone: the bytes were not accepted.
    if (this.ended !== null) throw this.ended.reason;
    return goesOn;
  }

  private async writeInPieces(bytes: Uint8Array): Promise<void> {
    const { output, maxOutput } = this.core;
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + Math.min(PIECE_BYTES, maxOutput));
      // Again, because a write callback may have taken the place that was waited for.
      while (output.length > 0 && output.length + piece.length > maxOutput) await this.drained(true);
      if (this.ended !== null) throw this.ended.reason;
      if (!this.add(piece) && this.flushed === null) await this.drained(false);
      at += piece.length;
    }
  }

  async close(): Promise<void> {
    this.open();
    this.face.shutdown();
    this.closing = true;
    if (this.core.output.length > 0) await this.drained(true);
    this.finished = true;
    this.leave();
    this.hooks.onClosed?.();
  }

  abort(reason: unknown): void {
    if (this.finished) return;
    this.abandon();
    this.hooks.onAborted?.(reason);
  }

  private get face(): Face {
    return this.core.face as Face;
  }

  private open(): void {
    const { failure } = this.core;
    if (failure !== null) {
      this.onError(failure);
      throw this.ended?.reason;
    }
    if (this.views !== null) return;
    const views = takeOver(this.core, "write to a bufferevent");
    this.views = views;
    views.writer = this;
  }

  private leave(): void {
    const views = this.views;
    this.views = null;
    if (views !== null) views.writer = null;
  }

  private drained(wholly: boolean): Promise<void> {
    if (this.ended !== null) return Promise.reject(this.ended.reason);
    return new Promise((resolve, reject) => {
      this.waiter = { resolve, reject, wholly };
      this.core.owner?.onWaiting();
      this.views?.onCallbacks();
    });
  }

  private settle(failed: { reason: unknown } | null): void {
    const waiter = this.waiter;
    if (waiter !== null) this.core.owner?.onBack();
    this.waiter = null;
    this.views?.onCallbacks();
    if (failed === null) waiter?.resolve();
    else waiter?.reject(failed.reason);
  }

  onDrained(): void {
    if (this.waiter !== null && (!this.waiter.wholly || this.core.output.length === 0)) this.settle(null);
  }

  onError(error: EventError): void {
    if (this.finished) return;
    // It may have a reason of its own for the stream.
    this.hooks.onFailed?.(error);
    this.fail(error);
  }

  claimsEnd(): boolean {
    return false;
  }

  onReadEnd(): void {}

  onFailed(error: EventError): void {
    this.onError(error);
  }

  onFreed(error: EventError): void {
    this.onError(error);
  }

  /** Ends the stream with a reason, and leaves the bufferevent to itself. */
  fail(reason: unknown): void {
    this.finished = true;
    this.leave();
    this.controller?.error(reason);
    this.settle(this.ended ??= { reason });
    this.endFlush();
  }

  onClosing(): void {
    // What was written before is delivered by `close()`.
    if (this.waiter !== null && this.core.finishing) {
      this.leave();
      this.settle(null);
    }
    if (this.closing) return;
    const message = "Cannot write: the bufferevent is being closed";
    this.onError(this.core.raised(new EventError(message, { code: "EPIPE", syscall: "write" })));
  }
}
