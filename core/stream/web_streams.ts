/**
 * Web streams over a bufferevent. The core knows only the shape of what it needs of them; types and classes are the
 * host's own where it has them.
 *
 * @module
 */

import { isBytes, show } from "../checks.ts";
import { EventError } from "../errors.ts";
import { encodeUtf8 } from "../buffer/utf8.ts";
import type { BufferEvent } from "../bufferevent/bufferevent.ts";
import type { BevCore } from "../bufferevent/core.ts";
import { type Takeover, takeOver, type Writer } from "./takeover.ts";
import { viewChunks } from "./lenses.ts";
import { feedFrom, type View } from "./views.ts";

/** As much of a `ReadableStream` of bytes as everyone uses. */
export interface ByteReadable {
  /** Whether a reader has it. */
  readonly locked: boolean;
  /** Ends it; what has not been read stays in the input. */
  cancel(reason?: unknown): Promise<void>;
  /** Gives a reader. */
  getReader(): {
    read(): Promise<{ done: false; value: Uint8Array } | { done: true; value?: Uint8Array | undefined }>;
    cancel(reason?: unknown): Promise<void>;
    releaseLock(): void;
    readonly closed: Promise<unknown>;
  };
}

/** As much of a `WritableStream` of bytes and texts as everyone uses. */
export interface ByteWritable {
  /** Whether a writer has it. */
  readonly locked: boolean;
  /** Cuts the connection. */
  abort(reason?: unknown): Promise<void>;
  /** Finishes our direction. */
  close(): Promise<void>;
  /** Gives a writer. */
  getWriter(): {
    write(chunk: Uint8Array | string): Promise<void>;
    close(): Promise<void>;
    abort(reason?: unknown): Promise<void>;
    releaseLock(): void;
    readonly ready: Promise<unknown>;
    readonly closed: Promise<unknown>;
  };
}

/** A `ReadableStream<Uint8Array>`: the host's own type where its types are known. */
export type ByteReadableStream = typeof globalThis extends { ReadableStream: { prototype: infer Stream } }
  ? ByteReadable & Stream
  : ByteReadable;

/** A `WritableStream<Uint8Array | string>`: the host's own type where its types are known. */
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
      abort(): void;
    },
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
  return streamOfView(viewChunks(core), { onCancel: () => readables.delete(core) });
}

function makeWritable(core: BevCore): ByteWritable {
  return streamOfSink(new Sink(core));
}

/** What happens to a readable stream. */
interface ReadableHooks {
  /** The stream was made: what ends it with a reason. */
  onStart?(fail: (reason: unknown) => void): void;
  /** The stream was cancelled. */
  onCancel?(): void;
  /** What arrives has ended, by an error or not. */
  onEnd?(error: unknown): void;
}

/** Makes a stream of a view. */
export function streamOfView(view: View<Uint8Array>, hooks: ReadableHooks): ByteReadable {
  const Stream = hostStream("ReadableStream");
  // Not of the type "bytes": that would take the memory of each chunk away from those who share it. Nothing is held
  // in the stream, so that the watermark of the bufferevent is the only bound, and cancelling loses nothing.
  let cancelled = false;
  return new Stream({
    start(controller) {
      hooks.onStart?.((reason) => controller.error(reason));
    },
    async pull(controller) {
      try {
        if (await feedFrom(view, (chunk) => controller.enqueue(chunk)) || cancelled) return;
        controller.close();
        hooks.onEnd?.(null);
      } catch (error) {
        if (cancelled) return;
        hooks.onEnd?.(error);
        throw error;
      }
    },
    async cancel() {
      cancelled = true;
      hooks.onCancel?.();
      await view.return();
    },
  }, { highWaterMark: 0 });
}

/** Makes the stream of a sink. What is written waits for `begun`, if that is given. */
export function streamOfSink(sink: Sink, begun?: Promise<void>): ByteWritable {
  const Stream = hostStream("WritableStream");
  sink.begun = begun;
  return new Stream(sink);
}

function hostStream<Name extends keyof StreamGlobals>(name: Name): NonNullable<StreamGlobals[Name]> {
  const found = (globalThis as StreamGlobals)[name];
  if (found !== undefined) return found as NonNullable<StreamGlobals[Name]>;
  throw new EventError(`Cannot make a stream: this host has no ${name}`, { code: "EV_UNSUPPORTED" });
}

/** What is under a writable stream. The stream sees to it that one call has settled before the next is made. */
export class Sink implements Writer {
  readonly #core: BevCore;
  readonly #onFailed: ((error: unknown) => void) | null;
  #controller: WriteController | null = null;
  #views: Takeover | null = null;
  /** Who waits for the output to drain: to the low watermark, or wholly. */
  #waiter: { resolve: () => void; reject: (reason: unknown) => void; wholly: boolean } | null = null;

  constructor(core: BevCore, onFailed: ((error: unknown) => void) | null = null) {
    this.#core = core;
    this.#onFailed = onFailed;
  }

  get waiting(): boolean {
    return this.#waiter !== null;
  }

  /** What the first write waits for. */
  begun: Promise<void> | undefined;

  start(controller: WriteController): Promise<void> | undefined {
    this.#controller = controller;
    return this.begun;
  }

  write(chunk: unknown): Promise<void> | undefined {
    this.#open();
    if (typeof chunk !== "string" && !isBytes(chunk)) {
      this.#leave();
      throw new TypeError(`Cannot write to a stream: not a Uint8Array or a string: received ${show(chunk)}`);
    }
    const core = this.#core;
    // Text takes at most three bytes for each of its units.
    if (chunk.length > PIECE_BYTES || core.output.length + 3 * chunk.length > core.maxOutput) {
      return this.#writeInPieces(typeof chunk === "string" ? encodeUtf8(chunk) : chunk);
    }
    return this.#face.write(chunk) ? undefined : this.#drained(false);
  }

  async #writeInPieces(bytes: Uint8Array): Promise<void> {
    const { output, maxOutput } = this.#core;
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + Math.min(PIECE_BYTES, maxOutput));
      if (output.length > 0 && output.length + piece.length > maxOutput) await this.#drained(true);
      if (!this.#face.write(piece)) await this.#drained(false);
      at += piece.length;
    }
  }

  async close(): Promise<void> {
    this.#open();
    this.#face.shutdown();
    if (this.#core.output.length > 0) await this.#drained(true);
    this.#leave();
  }

  abort(): void {
    this.#controller = null;
    this.#leave();
    this.#core.reset();
  }

  get #face(): BufferEvent {
    return this.#core.face as BufferEvent;
  }

  #open(): void {
    if (this.#views !== null) return;
    const views = takeOver(this.#core, "write to a bufferevent");
    this.#views = views;
    views.writer = this;
  }

  #leave(): void {
    const views = this.#views;
    this.#views = null;
    if (views !== null) views.writer = null;
  }

  #drained(wholly: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject, wholly };
      this.#views?.listen();
    });
  }

  #settle(failed: { reason: unknown } | null): void {
    const waiter = this.#waiter;
    this.#waiter = null;
    this.#views?.listen();
    if (failed === null) waiter?.resolve();
    else waiter?.reject(failed.reason);
  }

  onDrained(): void {
    if (this.#waiter !== null && (!this.#waiter.wholly || this.#core.output.length === 0)) this.#settle(null);
  }

  onError(error: EventError): void {
    this.fail(error);
    this.#onFailed?.(error);
  }

  /** Ends the stream with a reason, and leaves the bufferevent to itself. */
  fail(reason: unknown): void {
    this.#leave();
    this.#controller?.error(reason);
    this.#settle({ reason });
  }

  onClosing(): void {
    // What was written before is delivered by `close()`.
    if (this.#waiter !== null && this.#core.finishing) {
      this.#leave();
      this.#settle(null);
      return;
    }
    this.onError(new EventError("Cannot write: the bufferevent is being closed", { code: "EPIPE", syscall: "write" }));
  }
}
