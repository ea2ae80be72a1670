/** The status of an overlapped operation: begun at once, completed later, exactly once. */

import { wrongType } from "../checks.ts";
import { EventError } from "../errors.ts";
import { Operation } from "../poll/operation.ts";
import { type Socket, socketOf } from "./socket.ts";

/**
 * The callback of a completed operation. It gets the number of bytes, and an error or null. It may begin another
 * operation with the same object. The runtime's loop calls it, never a call of yours.
 *
 * Windows: a completion routine, `LPWSAOVERLAPPED_COMPLETION_ROUTINE`.
 */
export type OverlappedCallback = (overlapped: Overlapped, bytes: number, error: EventError | null) => void;

/** For the core: the operation of a status. Throws a TypeError for anything else. */
export function operationOf(overlapped: Overlapped): Operation {
  return behind(overlapped);
}

/** Set by the first Overlapped: see `Pollable`. */
let behind: (overlapped: Overlapped) => Operation = refuse;

function refuse(overlapped: unknown): never {
  throw wrongType("begin an overlapped operation", "not an Overlapped", overlapped);
}

/**
 * The status of an operation that goes on by itself. It can be used again after the operation has completed.
 *
 * Do not read or change the operation's buffer until then.
 *
 * Windows: `WSAOVERLAPPED`.
 *
 * @example
 * ```ts
 * import { EventBase, Overlapped } from "trivent";
 * const base = new EventBase();
 * const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
 * const { port } = listening.address as { port: number };
 * const client = base.connect({ port });
 * await new Promise<void>((resolve) => {
 *   const accepted = new Overlapped(({ socket }) => {
 *     console.log("from", socket?.remoteAddress, "to", socket?.localAddress);
 *     socket?.close();
 *     resolve();
 *   });
 *   listening.acceptOverlapped(accepted);
 * });
 * client.close();
 * await listening.close();
 * ```
 */
export class Overlapped {
  readonly #operation: Operation;

  /**
   * Makes a status for one operation at a time.
   *
   * @param callback Called at each completion, from the runtime's loop
   */
  constructor(callback?: OverlappedCallback) {
    if (callback !== undefined && typeof callback !== "function") {
      throw wrongType("make an Overlapped", "the callback is not a function", callback);
    }
    if (behind === refuse) {
      behind = (overlapped: Overlapped): Operation =>
        typeof overlapped === "object" && overlapped !== null && #operation in overlapped
          ? overlapped.#operation
          : refuse(overlapped);
    }
    this.#operation = new Operation(
      this,
      callback === undefined ? null : (bytes, error) => callback(this, bytes, error),
    );
  }

  /** Whether an operation has begun and not completed. Windows: the opposite of `HasOverlappedIoCompleted`. */
  get pending(): boolean {
    return this.#operation.state === "pending";
  }

  /** After a completed accept, the socket of the connection, with both addresses; you must close it. Otherwise null. */
  get socket(): Socket | null {
    const { connection } = this.#operation;
    return connection === null ? null : socketOf(connection);
  }

  /**
   * Returns the result of the last operation. Windows: `WSAGetOverlappedResult` without waiting.
   *
   * @returns The number of bytes; 0 for a receive when the peer has finished
   * @throws {EventError} `EINPROGRESS` while it is pending, the operation's error when it failed, `EINVAL` when none
   * was begun
   */
  result(): { bytes: number } {
    const { state, bytes, error } = this.#operation;
    if (state === "pending") {
      throw new EventError("Cannot give the result: the operation is pending", { code: "EINPROGRESS" });
    }
    if (state === "unused") {
      throw new EventError("Cannot give the result: no operation was begun", { code: "EINVAL" });
    }
    if (error !== null) throw error;
    return { bytes };
  }
}
