/**
 * A connection of the seam over any `stream.Duplex` of Node's: a socket of `node:net`, an upgraded HTTP connection, a
 * channel of SSH, or one end of a pair.
 *
 * @module
 */

import type { Duplex } from "node:stream";
import { type Address, EventError, type TransportBinding, type TransportSink } from "../../core/mod.ts";

/** The most bytes that one `write` accepts, so that a giant chunk is not held completely. */
const WRITE_SLICE = 256 * 1024;

/** Methods that some Duplex streams have, such as the sockets of `node:net`. */
interface MaySocket {
  setNoDelay?(on: boolean): unknown;
  setKeepAlive?(on: boolean, delayMs: number): unknown;
  ref?(): unknown;
  unref?(): unknown;
  resetAndDestroy?(): unknown;
}

/** The options of a transport. */
export interface DuplexTransportOptions {
  /** Our end. */
  readonly local?: Address | undefined;
  /** The peer's end. */
  readonly remote?: Address | undefined;
  /** The name of the peer in messages of errors. By default its address. */
  readonly peerName?: string | undefined;
  /** Called once, when the connection has ended and before its sink is told. */
  readonly onGone?: (() => void) | undefined;
}

/** The codes of Node's streams, with the equal codes of sockets. */
const CODES: Readonly<Record<string, string>> = {
  ERR_STREAM_PREMATURE_CLOSE: "ECONNRESET",
  ERR_STREAM_DESTROYED: "EPIPE",
  ERR_STREAM_WRITE_AFTER_END: "EPIPE",
  ABORT_ERR: "ECONNABORTED",
};

const REASONS: Readonly<Record<string, string>> = {
  ECONNABORTED: "the connection was aborted",
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset by the peer",
  EHOSTUNREACH: "no route to the host",
  EPIPE: "the peer has closed the connection",
  ETIMEDOUT: "timed out",
};

/** Makes the error of a connection from the error of its stream. */
export function streamFailure(tried: string, reason: unknown, syscall: string, code?: string): EventError {
  if (reason instanceof EventError) return reason;
  const { code: said, message } = (reason ?? {}) as { code?: unknown; message?: unknown };
  const known = typeof said === "string" ? CODES[said] ?? (said.startsWith("ERR_") ? "EIO" : said) : undefined;
  const name = code ?? known ?? "EIO";
  const text = REASONS[name] ?? (typeof message === "string" && message !== "" ? message : "the stream failed");
  return new EventError(`Cannot ${tried}: ${text} (${name})`, {
    code: name,
    syscall,
    ...(reason === undefined ? undefined : { cause: reason }),
  });
}

/** An address in the message of an error. */
export function showAddress(address: Address | undefined): string {
  if (address === undefined) return "an unknown peer";
  if ("path" in address) return address.path === "" ? "an unnamed unix socket" : address.path.replace(/^\0/, "@");
  return address.hostname.includes(":")
    ? `[${address.hostname}]:${address.port}`
    : `${address.hostname}:${address.port}`;
}

/** The stream is there, and our direction is open. */
const WRITABLE = 0x1;
/** The stream's queue is full: `write` accepts nothing until the stream drains. */
const FULL = 0x2;
/** `write` has returned 0 since then. */
const WANTED = 0x4;
/** Our direction must be finished. */
const FINISHING = 0x8;
/** The stream has sent all of our direction, including its end. */
const FINISHED = 0x10;
/** The peer has finished. */
const ENDED = 0x20;
/** The reader has paused. */
const PAUSED = 0x40;
/** After `close()`, `release()` or `reset()`: the sink gets only `onClose`. */
const CLOSING = 0x80;
/** After `release()` or `reset()`: a failure is not reported. */
const DROPPED = 0x100;
/** `onClose` was called, or is about to be. */
const GONE = 0x200;
/** A read is scheduled. */
const LOOKING = 0x400;
/** After `unref()`, for a stream that does not exist yet. */
const UNREFED = 0x800;

/**
 * One connection over a Duplex. It begins without a stream, as an attempt to connect does, until `adopt()`.
 *
 * The stream is read with `read()`, not by its `data` events: those may come from inside its `write()`, and the sink is
 * never called from inside a method. Bytes are copied as they are read: a stream may go on using
 * its memory, and the core owns the chunks that it gets.
 */
export class DuplexTransport implements TransportBinding {
  local: Address | undefined;
  remote: Address | undefined;
  readonly #options: DuplexTransportOptions;
  #sink: TransportSink | undefined;
  #stream: (Duplex & MaySocket) | undefined;
  #state = 0;
  #error: EventError | undefined;

  /** Makes a connection without a stream. */
  constructor(options: DuplexTransportOptions = {}) {
    this.#options = options;
    this.local = options.local;
    this.remote = options.remote;
  }

  /**
   * Whether the program has cancelled it, or it has ended: an attempt to connect need not go on.
   */
  get abandoned(): boolean {
    return this.#is(CLOSING | GONE);
  }

  /** Sets the sink of the connection. Until then nothing is read. */
  attach(sink: TransportSink): void {
    this.#sink = sink;
    if (this.#stream !== undefined) this.#look();
  }

  /**
   * Takes a stream: the connection is established. Other code must not read or write it from now
   * on.
   *
   * @param stream The stream
   */
  adopt(stream: Duplex): void {
    this.#stream = stream;
    // Without it, the stream would finish our direction by itself when the peer has finished.
    stream.allowHalfOpen = true;
    if (stream.writableEnded) this.#state |= FINISHING;
    if (stream.writableFinished) this.#state |= FINISHED;
    if (!this.#is(FINISHING)) this.#state |= WRITABLE;
    if (stream.writableNeedDrain) this.#state |= FULL;
    if (this.#is(UNREFED)) this.unref();
    stream.on("readable", () => this.#look());
    stream.on("end", () => this.#later(() => this.#ended()));
    stream.on("finish", () => this.#later(() => this.#finished()));
    stream.on("drain", () => this.#later(() => this.#drained()));
    stream.on("error", (reason) => this.#later(() => this.#failed(reason)));
    stream.on("close", () => this.#later(() => this.#closed()));
    if (this.#is(FINISHING)) stream.end();
    if (stream.destroyed) this.#later(() => this.#closed());
    else if (stream.readableEnded) this.#later(() => this.#ended());
    else this.#look();
  }

  /** Ends an attempt to connect that has failed. Not from inside a method of the binding. */
  refuse(error: EventError): void {
    if (this.#is(GONE)) return;
    this.#error = error;
    this.#goneNow();
  }

  write(chunk: Uint8Array): number {
    const stream = this.#stream;
    if (stream === undefined || chunk.length === 0 || !this.#is(WRITABLE)) return 0;
    if (this.#is(FULL)) {
      this.#state |= WANTED;
      return 0;
    }
    const taken = Math.min(chunk.length, WRITE_SLICE);
    try {
      // A copy: a stream never drains again when the memory of a chunk in its queue is transferred.
      if (!stream.write(new Uint8Array(chunk.subarray(0, taken)))) this.#state |= FULL;
    } catch (reason) {
      // A stream that throws has not accepted them.
      this.#later(() => this.#failed(reason));
      return 0;
    }
    return taken;
  }

  pauseRead(): void {
    this.#state |= PAUSED;
  }

  resumeRead(): void {
    this.#state &= ~PAUSED;
    this.#look();
  }

  shutdownWrite(): void {
    if (this.#is(FINISHING | GONE)) return;
    this.#state = this.#state & ~WRITABLE | FINISHING;
    this.#stream?.end();
  }

  close(): void {
    if (this.#is(CLOSING | GONE)) return;
    if (this.#stream === undefined) return this.reset();
    this.shutdownWrite();
    this.#state |= CLOSING;
    this.#look();
    if (this.#is(FINISHED)) this.#stream.unref?.();
    if (this.#is(FINISHED) && this.#is(ENDED)) this.#later(() => this.#over());
  }

  release(): void {
    if (this.#is(GONE)) return;
    this.close();
    this.#state |= DROPPED;
    if (this.#is(FINISHED)) this.#later(() => this.#over());
  }

  reset(): void {
    if (this.#is(GONE)) return;
    this.#state = this.#state & ~WRITABLE | CLOSING | DROPPED;
    const stream = this.#stream;
    if (stream?.resetAndDestroy !== undefined) stream.resetAndDestroy();
    else stream?.destroy();
    // Not every stream emits `close`.
    this.#later(() => this.#over());
  }

  setNoDelay(on: boolean): void {
    this.#stream?.setNoDelay?.(on);
  }

  setKeepAlive(on: boolean, delayMs: number): void {
    this.#stream?.setKeepAlive?.(on, delayMs);
  }

  ref(): void {
    this.#state &= ~UNREFED;
    this.#stream?.ref?.();
  }

  unref(): void {
    this.#state |= UNREFED;
    this.#stream?.unref?.();
  }

  #is(flags: number): boolean {
    return (this.#state & flags) !== 0;
  }

  /** Runs it outside of calls of the program and the stream. */
  #later(what: () => void): void {
    setImmediate(what);
  }

  /** Checks for bytes, outside of calls of the program. */
  #look(): void {
    if (this.#is(LOOKING | GONE) || this.#sink === undefined) return;
    this.#state |= LOOKING;
    this.#later(() => {
      this.#state &= ~LOOKING;
      this.#read();
    });
  }

  /** Delivers the bytes of the stream while reading is not paused; drops them after `close()`. */
  #read(): void {
    while (!this.#is(GONE) && (this.#is(CLOSING) || !this.#is(PAUSED))) {
      const chunk: unknown = this.#stream?.read();
      if (chunk === null || chunk === undefined) return;
      this.#give(chunk);
    }
  }

  #give(chunk: unknown): void {
    if (this.#is(CLOSING)) return;
    const bytes = bytesOf(chunk);
    if (bytes === undefined) {
      this.#state |= CLOSING;
      this.#failed(
        new TypeError(`the stream gives values that are not bytes: received a value of type ${typeof chunk}`),
      );
    } else if (bytes.length > 0) this.#sink?.onData(bytes);
  }

  #ended(): void {
    if (this.#is(ENDED | GONE)) return;
    this.#state |= ENDED;
    if (!this.#is(CLOSING)) this.#sink?.onEnd();
    if (this.#is(FINISHED)) this.#over();
  }

  #finished(): void {
    if (this.#is(FINISHED | GONE)) return;
    this.#state |= FINISHED;
    if (this.#is(CLOSING)) this.#stream?.unref?.();
    if (this.#is(ENDED | DROPPED)) this.#over();
  }

  #drained(): void {
    if (this.#is(GONE)) return;
    this.#state &= ~FULL;
    if (!this.#is(WANTED) || !this.#is(WRITABLE)) return;
    this.#state &= ~WANTED;
    this.#sink?.onWritable();
  }

  #failed(reason: unknown): void {
    if (this.#is(GONE)) return;
    this.#error ??= streamFailure(this.#keeping, reason, "read");
    this.#over();
  }

  #closed(): void {
    if (this.#is(GONE)) return;
    // Neither we nor both directions had ended it.
    if (!this.#is(DROPPED) && !(this.#is(FINISHED) && this.#is(ENDED))) {
      this.#error ??= streamFailure(this.#keeping, undefined, "read", "ECONNRESET");
    }
    this.#over();
  }

  get #keeping(): string {
    return `keep the connection with ${this.#options.peerName ?? showAddress(this.remote)}`;
  }

  /** Both directions have ended, it has failed, or the program has released it. */
  #over(): void {
    if (this.#is(GONE)) return;
    // Bytes that arrived before a failure are delivered before it is reported.
    const stream = this.#stream;
    for (let chunk = stream?.read(); chunk !== null && chunk !== undefined; chunk = stream?.read()) {
      this.#give(chunk);
      if (this.#is(GONE)) return;
    }
    stream?.destroy();
    this.#goneNow();
  }

  #goneNow(): void {
    this.#state = this.#state & ~WRITABLE | GONE;
    this.#options.onGone?.();
    this.#sink?.onClose(this.#is(DROPPED) ? undefined : this.#error);
  }
}

/** A copy of the bytes of a chunk, or undefined if it has none. */
function bytesOf(chunk: unknown): Uint8Array | undefined {
  if (typeof chunk === "string") return new TextEncoder().encode(chunk);
  return chunk instanceof Uint8Array ? new Uint8Array(chunk) : undefined;
}
