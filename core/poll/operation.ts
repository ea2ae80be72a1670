/** The state of an `Overlapped`: it begins an operation and keeps its result. */

import { EventError } from "../errors.ts";
import type { Acceptor } from "../socket/acceptor.ts";
import type { Connection } from "../socket/connection.ts";
import { beginAccept, beginConnect, beginReceive, beginSend } from "./operations.ts";

/** The operation of a status. */
export class Operation {
  /** The public object. */
  readonly face: object;
  /** Calls the callback. */
  readonly callback: ((bytes: number, error: EventError | null) => void) | null;
  state: "unused" | "pending" | "completed" = "unused";
  bytes = 0;
  error: EventError | null = null;
  /** The accepted connection. */
  connection: Connection | null = null;

  constructor(face: object, callback: ((bytes: number, error: EventError | null) => void) | null) {
    this.face = face;
    this.callback = callback;
  }

  /** Throws unless an operation can be begun with it. */
  checkFree(doing: string): void {
    if (this.state === "pending") {
      throw new EventError(`Cannot ${doing}: the Overlapped is in use by another operation`, { code: "EV_BUSY" });
    }
  }

  // ---- operations of sockets; here, so that the bundle of a program without an Overlapped does
  // not include them

  /** `Socket.recvOverlapped`. */
  receive(connection: Connection, buffer: Uint8Array): void {
    beginReceive(this, connection, buffer);
  }

  /** `Socket.sendOverlapped`. */
  send(connection: Connection, buffer: Uint8Array): void {
    beginSend(this, connection, buffer);
  }

  /** `ListeningSocket.acceptOverlapped`. With a buffer it completes with the first data of the connection. */
  accept(acceptor: Acceptor, buffer: Uint8Array | undefined): void {
    beginAccept(this, acceptor, buffer);
  }

  /** `EventBase.connectOverlapped`: begins to connect, and completes with 0 bytes when the connection is there. */
  connect(connect: () => Connection): Connection {
    return beginConnect(this, connect);
  }

  // ---- the state of the operation

  /** An operation begins. */
  begin(): void {
    this.state = "pending";
    this.bytes = 0;
    this.error = null;
    this.connection = null;
  }

  /** The operation has ended. */
  end(bytes: number, error: EventError | null): void {
    this.state = "completed";
    this.bytes = bytes;
    this.error = error;
  }
}
