/** `pipe()`: sends the bytes that arrive on one bufferevent on another one, both ways, with back-pressure. */

import { DEFAULT_CLOSE_TIMEOUT_MS, DEFAULT_MAX_SINGLE, DEFAULT_READ_HIGH } from "../bufferevent/limits.ts";
import { checkDuration, checkSignal } from "../checks.ts";
import { BEV_EVENT_EOF, BEV_EVENT_ERROR, BEV_EVENT_READING, BEV_EVENT_TIMEOUT, EV_READ, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import { moveBytes } from "../buffer/internal.ts";
import { type Names, readOptions } from "../names.ts";
import type { AbortSignalLike } from "../runtime.ts";
import { type BufferEvent, coreOf } from "./bufferevent.ts";
import type { BevCore } from "../bufferevent/core.ts";
import type { Occupant } from "../bufferevent/occupant.ts";

/** Options of {@linkcode pipe}. */
export interface PipeOptions {
  /**
   * The idle timeout in milliseconds. If no bytes pass either way, both ends are reset, and the promise rejects with
   * `ETIMEDOUT`. It replaces idle timeouts that were set. By default there is none.
   */
  idleTimeoutMs?: number | undefined;
  /** The time for closing both ends after all bytes have passed, in milliseconds. By default 30 s. */
  closeTimeoutMs?: number | undefined;
  /** Aborting it resets both ends; the promise rejects with its reason. */
  signal?: AbortSignalLike | undefined;
}

const PIPE_OPTIONS: Names<PipeOptions> = { idleTimeoutMs: true, closeTimeoutMs: true, signal: true };

/** The number of bytes that a {@linkcode pipe} has carried. */
export interface PipeResult {
  /** Bytes from the first to the second. */
  bytesAToB: number;
  /** Bytes from the second to the first. */
  bytesBToA: number;
}

/** From this length of an end's output on, the other end waits, unless a high watermark of writing is set. */
const DEFAULT_HELD = 256 * 1024;
/**
 * The most bytes of one read: as many as the largest chunk of a runtime has, which is Bun's. The chunk is in memory
 * already, so it goes on whole.
 */
const MOST_READ = 512 * 1024;

/** One end. It replaces the callbacks. */
export class PipeEnd implements Occupant {
  readonly what: string = "it is piped, and the other end has the bytes";
  readonly core: BevCore;
  private readonly pipe: Pipe;
  other!: PipeEnd;
  /** How many bytes have gone from here to the other end. */
  carried = 0;
  /** Whether the peer has finished and the other end was told. */
  ended = false;

  constructor(core: BevCore, pipe: Pipe) {
    this.core = core;
    this.pipe = pipe;
  }

  /**
   * Set only while the output is awaited. Otherwise each message would cost a callback.
   */
  write: (() => void) | undefined = undefined;

  /** Takes all input. Chunks are moved, and nothing is copied. */
  read(): void {
    const { input } = this.core;
    const { core } = this.other;
    const n = input.length;
    if (n === 0) return;
    if (core.finishing) return this.pipe.cut(finished());
    this.carried += n;
    moveBytes(input, core.output, n);
    if (core.output.length < core.stopAt) return;
    // Usually the system takes most of it at once.
    core.sendNow();
    // The other end's peer is to have taken it before there is more.
    if (core.output.length >= core.stopAt && !core.freed) this.pause();
  }

  /** Stops reading for now. A reset by the peer is still noticed. */
  pause(): void {
    this.other.awaitOutput();
    this.core.disable(EV_READ);
    if (!this.core.freed) this.core.watchFailure(true);
  }

  awaitOutput(): void {
    this.write = this.onDrained;
  }

  /** The output has drained. */
  onDrained(): void {
    const { other } = this;
    if (!other.ended) {
      this.write = undefined;
      if ((other.core.enabled & EV_READ) === 0) other.resume();
    }
    this.pipe.endIfDone();
  }

  event(what: number, error: EventError | undefined): void {
    if ((what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0) {
      this.pipe.cut(error ?? reasonOf(what));
      return;
    }
    if ((what & BEV_EVENT_EOF) === 0 || (what & BEV_EVENT_READING) === 0) return;
    this.read();
    if (this.pipe.over) return;
    this.ended = true;
    this.other.awaitOutput();
    if (!this.other.core.finishing) this.other.core.shutdown();
    this.pipe.endIfDone();
  }

  onFreed(): void {
    this.pipe.cut(this.core.raised(
      new EventError("Cannot go on with the pipe: a bufferevent was freed", { code: "EV_FREED" }),
    ));
  }

  resume(): void {
    this.core.watchFailure(false);
    this.core.enable(EV_READ);
  }

  /** Begins. The end belongs to the pipe from here on. */
  start(): void {
    const { core } = this;
    core.occupy(this);
    // What waits for the other end is bounded by that end's output.
    core.readsWhileFull = true;
    const { maxSingleRead, maxSingleWrite, readHigh, writeHigh } = core;
    if (maxSingleRead === DEFAULT_MAX_SINGLE) core.setMaxSingle(MOST_READ, maxSingleWrite);
    // A filter makes its input itself, so that needs a bound. It may keep a rest of what it is given.
    const filter = !core.limitable;
    core.setWatermark(EV_READ, 0, filter ? readHigh || DEFAULT_READ_HIGH : Math.max(readHigh, MOST_READ));
    const high = writeHigh || DEFAULT_HELD;
    core.setWatermark(EV_WRITE, 0, high);
    // The other end goes on at half of what it stops at. A filter may keep a rest, so nothing waits for an empty output.
    core.setWatermark(EV_WRITE, core.stopAt >> 1, high);
  }
}

class Pipe {
  readonly promise: Promise<PipeResult>;
  /** Whether it has ended, or is about to. */
  over = false;
  private readonly a: PipeEnd;
  private readonly b: PipeEnd;
  private readonly options: PipeOptions;
  private resolve!: (result: PipeResult) => void;
  private reject!: (reason: unknown) => void;
  private readonly abort: () => void = () => this.cut(this.options.signal?.reason);

  constructor(a: BevCore, b: BevCore, options: PipeOptions) {
    this.options = options;
    this.a = new PipeEnd(a, this);
    this.b = new PipeEnd(b, this);
    this.a.other = this.b;
    this.b.other = this.a;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  start(): void {
    const { signal, idleTimeoutMs } = this.options;
    const [a, b] = [this.a, this.b];
    a.start();
    b.start();
    if (signal?.aborted === true) return this.abort();
    signal?.addEventListener("abort", this.abort);
    if (idleTimeoutMs !== undefined) {
      a.core.setIdleTimeout(idleTimeoutMs);
      b.core.setIdleTimeout(0);
      // One timer for both: what goes one way only is not an idleness.
      b.core.idle = a.core.idle;
    }
    for (const end of [a, b]) {
      // Somebody may have read before, for instance to learn where it is to go.
      end.read();
      if (this.over) return;
      const stopped = end.other.core.output.length >= end.other.core.stopAt;
      end.core.enable(stopped ? EV_WRITE : EV_READ | EV_WRITE);
      if (stopped) end.pause();
    }
  }

  /** Ends both gracefully when both peers have finished and all has left. */
  endIfDone(): void {
    const [a, b] = [this.a, this.b];
    if (this.over || !a.ended || !b.ended || a.core.output.length > 0 || b.core.output.length > 0) return;
    this.end();
    const { closeTimeoutMs = DEFAULT_CLOSE_TIMEOUT_MS } = this.options;
    const result = { bytesAToB: a.carried, bytesBToA: b.carried };
    Promise.all([a.core.close(closeTimeoutMs), b.core.close(closeTimeoutMs)]).then(([left, right]) => {
      if (left && right) return this.resolve(result);
      const message = "Cannot end the pipe: the connection failed, or its peer did not read the output in time";
      this.fail(new EventError(message, { code: "ECONNRESET", syscall: "close" }));
    }, this.reject);
  }

  /** Rejects. The error counts as raised by both connections, so a handler that awaits the pipe has not failed. */
  private fail(reason: unknown): void {
    if (reason instanceof EventError) {
      this.a.core.raised(reason);
      this.b.core.raised(reason);
    }
    this.reject(reason);
  }

  /** Resets both ends. */
  cut(reason: unknown): void {
    if (this.over) return;
    this.end();
    for (const { core } of [this.a, this.b]) {
      if (reason instanceof EventError && (reason as EventError).code !== "EV_FREED") core.fail(reason as EventError);
      if (!core.freed) core.reset();
    }
    this.fail(reason);
  }

  private end(): void {
    this.over = true;
    this.options.signal?.removeEventListener("abort", this.abort);
    this.a.core.setIdleTimeout(0);
    this.b.core.setIdleTimeout(0);
  }
}

/**
 * Couples two bufferevents: bytes that arrive on one are sent on the other, both ways, until both peers have finished.
 *
 * - If a peer does not read, the other must wait. Each way, less than 256 KiB and two reads wait: the one that goes over the
 *   limit, and one that comes before the runtime has stopped. A read brings 64 KiB on Node, and up to 256 KiB on Deno
 *   and 512 KiB on Bun. Set the high watermark of writing of both ends before, to hold less or more than 256 KiB. Chunks
 *   are moved whole, and nothing is copied.
 * - The end of file on one end is `shutdown()` on the other. The other direction goes on.
 * - An error, a timeout or `free()` of either end, or an abort, resets both. So no peer takes a part for the whole.
 *   This also holds if a connection is already over when `pipe()` is called.
 *
 * Both ends belong to the pipe from the call on. It replaces their callbacks and watermarks, and closes both in the
 * end. Input that waits already is carried too. Rate limits hold. The ends may be of different kinds, and one may still
 * be connecting.
 *
 * @param a The first end
 * @param b The second end
 * @param options Timeouts and a signal
 * @returns The bytes each way, when both directions are done and both ends are closed. It rejects with the `EventError`
 * of the end that failed, `ETIMEDOUT`, `EV_FREED`, or the signal's reason
 * @throws {TypeError} When both ends are the same
 * @throws {RangeError} When a timeout is not a duration
 * @throws {EventError} `EV_FREED` when one end was freed or is being closed; the other is reset. `EV_BUSY` when one end
 * has an open view, a filter or a pipe; both are left as they were
 *
 * @example
 * ```ts
 * import { BEV_OPT_CLOSE_ON_FREE, pipe, serve, SocketBufferEvent } from "trivent";
 * const echo = await serve({ hostname: "127.0.0.1", port: 0 }, { read: (bev) => void bev.writeBuffer(bev.input) });
 * const { port } = echo.address as { port: number };
 * const proxy = await serve({ hostname: "127.0.0.1", port: 0 }, {
 *   async open(client) {
 *     const upstream = new SocketBufferEvent(client.base, null, BEV_OPT_CLOSE_ON_FREE);
 *     upstream.connect({ hostname: "127.0.0.1", port, timeoutMs: 5_000 });
 *     try {
 *       const { bytesAToB } = await pipe(client, upstream, { idleTimeoutMs: 60_000 });
 *       console.log(bytesAToB, "bytes");
 *     } catch (error) {
 *       console.error(error);
 *     }
 *   },
 * });
 * await Promise.all([proxy.close(), echo.close()]);
 * ```
 */
export async function pipe(a: BufferEvent, b: BufferEvent, options: PipeOptions = {}): Promise<PipeResult> {
  const [first, second] = [coreOf(a), coreOf(b)];
  if (first === second) throw new TypeError("Cannot pipe: both ends are the same bufferevent");
  options = readOptions("pipe", options, PIPE_OPTIONS);
  for (const name of ["idleTimeoutMs", "closeTimeoutMs"] as const) {
    const ms = options[name];
    if (ms !== undefined) checkDuration("pipe", name, ms);
  }
  checkSignal("pipe", options.signal);
  for (const core of [first, second]) {
    if (core.occupant !== null) throw new EventError(`Cannot pipe: ${core.occupant.what}`, { code: "EV_BUSY" });
  }
  for (const [core, other] of [[first, second], [second, first]] as const) {
    if (!core.freed && core.closing === null) continue;
    // If the program has waited for the second connection meanwhile, nothing else ends it.
    if (!other.freed) other.reset();
    throw core.ending("pipe");
  }
  const made = new Pipe(first, second, options);
  made.start();
  return await made.promise;
}

function finished(): EventError {
  return new EventError("Cannot pipe: the sending direction of the other was finished", {
    code: "EPIPE",
    syscall: "write",
  });
}

function reasonOf(what: number): EventError {
  if ((what & BEV_EVENT_TIMEOUT) === 0) {
    return new EventError("Cannot pipe: the connection has failed", { code: "EIO" });
  }
  return new EventError("Cannot pipe: nothing came or could be sent within the timeout", { code: "ETIMEDOUT" });
}
