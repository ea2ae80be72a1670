/** Waiting in the style of Windows' I/O completion ports: begin operations, then take their completions. */

import { outOfRange } from "../checks.ts";
import { EventError } from "../errors.ts";
import { type EventBase, loopOf } from "./event_base.ts";
import { defaultRuntime } from "../runtime.ts";
import { checkPollable, type Pollable, sourceOf } from "./pollable.ts";
import { type CompletionSink, operationsOn } from "../poll/operations.ts";
import type { Overlapped } from "./overlapped.ts";
import { checkWait, type WaitOptions } from "../poll/wait.ts";
import { CompletionQueue } from "../poll/completion_queue.ts";

/** A completed operation, or a posted completion. Windows: the result of `GetQueuedCompletionStatus`. */
export interface Completion<Key = unknown> {
  /** The key of the socket, or the posted key. */
  key: Key;
  /** How many bytes were transferred; 0 for a receive when the peer has finished. */
  bytes: number;
  /** The status of the operation; null for a posted completion. */
  overlapped: Overlapped | null;
  /** The error of the operation, or null. */
  error: EventError | null;
}

/**
 * A queue of completions. Any number of waiters take from it, and each completion is taken once. It needs no loop. It
 * does not keep the process alive; its sockets do.
 *
 * It holds the completions that no waiter has taken: at most one for each operation, and those that were
 * posted.
 *
 * Windows: `CreateIoCompletionPort`.
 *
 * @example
 * ```ts
 * import { CompletionPort, EventBase, Overlapped } from "trivent";
 * const base = new EventBase();
 * const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
 * const port = new CompletionPort<string>(base);
 * port.associate(listening, "listener");
 * listening.acceptOverlapped(new Overlapped());
 * const client = base.connect({ port: (listening.address as { port: number }).port });
 * const completion = await port.wait(1000);
 * console.log(completion?.key); // listener
 * completion?.overlapped?.socket?.close();
 * client.close();
 * port.close();
 * await listening.close();
 * ```
 */
export class CompletionPort<Key = unknown> {
  readonly #queue: CompletionQueue<Completion<Key>>;

  /**
   * Makes a port. Windows: `CreateIoCompletionPort`.
   *
   * @param base Names the runtime; its loop is not needed. By default the runtime that the program runs on
   */
  constructor(base?: EventBase) {
    this.#queue = new CompletionQueue(base === undefined ? defaultRuntime() : loopOf(base).runtime);
  }

  /**
   * Sends the completions of a socket to this port, as long as both are open. Windows: `CreateIoCompletionPort` with a
   * handle.
   *
   * @param source The socket
   * @param key A value that comes with each completion
   * @throws {EventError} `EEXIST` when the socket has a port, `EBADF` when it or the port was closed
   */
  associate(source: Pollable, key: Key): void {
    const doing = "associate a socket with a port";
    this.#open(doing);
    checkPollable(doing, source);
    const behind = sourceOf(source);
    if (behind.closed) throw new EventError(`Cannot ${doing}: it was closed`, { code: "EBADF" });
    const operations = operationsOn(behind);
    if (operations.sink?.closed === false) {
      throw new EventError(`Cannot ${doing}: the socket has one`, { code: "EEXIST" });
    }
    operations.sink = new Association(this.#queue, key);
  }

  /**
   * Adds a completion of your own to the queue. Windows: `PostQueuedCompletionStatus`.
   *
   * @param key The key of the completion
   * @param bytes The number of bytes of the completion; 0 by default
   * @throws {EventError} `EBADF` when the port was closed
   * @throws {RangeError} When `bytes` is not an integer, 0 or more
   */
  post(key: Key, bytes: number = 0): void {
    this.#open("post to a port");
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw outOfRange("post to a port", "bytes is not an integer, 0 or more", bytes);
    }
    this.#queue.push({ key, bytes, overlapped: null, error: null });
  }

  /**
   * Waits for a completion and takes it. Several callers may wait. They are served in their order.
   *
   * Windows: `GetQueuedCompletionStatus`.
   *
   * @param timeoutMs How long to wait, in milliseconds; 0 does not wait, undefined waits for ever
   * @param options `signal`: aborting it rejects with its reason
   * @returns The completion; null when the time is over
   * @throws {EventError} `EBADF` when the port was closed, `ECANCELED` when it is closed meanwhile
   * @throws {RangeError} When the timeout is negative or not finite
   */
  async wait(timeoutMs?: number, options: WaitOptions = {}): Promise<Completion<Key> | null> {
    this.#open("wait for a port");
    return await this.#queue.wait(timeoutMs, checkWait("wait for a port", timeoutMs, options));
  }

  /**
   * Closes the port. Waits reject with `ECANCELED`, and remaining completions are dropped. The sockets stay
   * open, and their operations go on. A second call does nothing.
   */
  close(): void {
    this.#queue.close();
  }

  /** As `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #open(doing: string): void {
    if (this.#queue.closed) throw new EventError(`Cannot ${doing}: the port was closed`, { code: "EBADF" });
  }
}

/** What brings the completions of one socket to its port. */
class Association<Key> implements CompletionSink {
  private readonly queue: CompletionQueue<Completion<Key>>;
  private readonly key: Key;

  constructor(queue: CompletionQueue<Completion<Key>>, key: Key) {
    this.queue = queue;
    this.key = key;
  }

  get closed(): boolean {
    return this.queue.closed;
  }

  complete(bytes: number, overlapped: object, error: EventError | null): void {
    this.queue.push({ key: this.key, bytes, overlapped: overlapped as Overlapped, error });
  }
}
