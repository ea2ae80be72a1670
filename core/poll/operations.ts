/**
 * The overlapped operations of a socket. They go on by themselves, in their order, as the socket becomes ready. A
 * completion goes to the callback of the operation and to the port of the socket.
 */

import { checkBytes } from "../checks.ts";
import { EAGAIN, ENOTCONN, EV_READ, EV_WRITE } from "../flags.ts";
import { EventError, toEventError } from "../errors.ts";
import type { ReadinessObserver, Source } from "../loop/source.ts";
import type { Acceptor } from "../socket/acceptor.ts";
import type { Connection } from "../socket/connection.ts";
import { callLater } from "./call_later.ts";
import type { Operation } from "./operation.ts";

/** The receiver of the completions of a socket, beside the callbacks. */
export interface CompletionSink {
  /** Whether it is closed, and no waiter takes completions. */
  readonly closed: boolean;
  /** Takes a completion. `overlapped` is the public object. */
  complete(bytes: number, overlapped: object, error: EventError | null): void;
}

/** One operation that waits for its socket. */
interface Step {
  readonly operation: Operation;
  /**
   * Tries to go on.
   *
   * @returns The number of bytes when it has completed, or `WAITING` or `HANDED_ON`
   * @throws Its error
   */
  attempt(): number;
}

/** The socket is not ready. */
const WAITING = -1;
/** Another operation will complete it. */
const HANDED_ON = -2;

/** The operations of one source, in two queues: for reading and for writing. */
export class Operations implements ReadinessObserver {
  /** The receiver of completions, beside the callbacks. */
  sink: CompletionSink | null = null;
  /** Accepts that have a connection and wait for its first data. They do not hold up the next accept. */
  readonly accepted: Set<FirstData> = new Set();
  private readonly source: Source;
  private readonly reads: Step[] = [];
  private readonly writes: Step[] = [];

  constructor(source: Source) {
    this.source = source;
  }

  /** Begins an operation behind those that wait in the same queue. It may complete at once. */
  begin(condition: typeof EV_READ | typeof EV_WRITE, step: Step): void {
    const line = condition === EV_READ ? this.reads : this.writes;
    step.operation.begin();
    line.push(step);
    if (line.length === 1) this.advance(line);
  }

  /** Ends an operation, exactly once. It has left its queue. */
  complete(operation: Operation, bytes: number, error: EventError | null): void {
    const { face, callback } = operation;
    operation.end(bytes, error);
    this.sink?.complete(bytes, face, error);
    // Never inside the call that began the operation, and not inside the runtime's callback.
    if (callback !== null) callLater(this.source.runtime, () => callback(bytes, error));
  }

  onReady(_source: Source, edges: number): void {
    if ((edges & EV_READ) !== 0) this.advance(this.reads);
    if ((edges & EV_WRITE) !== 0) this.advance(this.writes);
  }

  onSourceClosed(): void {
    const error = new EventError("Cannot complete an overlapped operation: its socket was closed", {
      code: "ECANCELED",
    });
    for (const { operation } of [...this.reads.splice(0), ...this.writes.splice(0)]) {
      this.complete(operation, 0, error);
    }
    for (const first of this.accepted) first.cancel(error);
  }

  private advance(line: Step[]): void {
    for (let step = line[0]; step !== undefined; step = line[0]) {
      let bytes = 0;
      let failure: EventError | null = null;
      try {
        bytes = step.attempt();
      } catch (error) {
        failure = toEventError("complete an overlapped operation", error);
      }
      if (bytes === WAITING) return;
      line.shift();
      if (bytes !== HANDED_ON) this.complete(step.operation, bytes, failure);
    }
  }
}

/** Returns the operations of an open source. */
export function operationsOn(source: Source): Operations {
  if (source.overlapped === null) {
    source.overlapped = new Operations(source);
    source.observe(source.overlapped);
  }
  return source.overlapped as Operations;
}

class ReceiveStep implements Step {
  readonly operation: Operation;
  private readonly connection: Connection;
  private readonly buffer: Uint8Array;

  constructor(operation: Operation, connection: Connection, buffer: Uint8Array) {
    this.operation = operation;
    this.connection = connection;
    this.buffer = buffer;
  }

  attempt(): number {
    return receive(this.connection, this.buffer);
  }
}

/** Receives into a buffer that is not empty, because 0 bytes would mean that the peer has finished. */
function receive(connection: Connection, buffer: Uint8Array): number {
  if (buffer.length === 0) throw takenAway();
  const n = connection.receive(buffer);
  return n === EAGAIN ? WAITING : n;
}

class SendStep implements Step {
  readonly operation: Operation;
  private readonly connection: Connection;
  private readonly buffer: Uint8Array;
  private readonly length: number;
  private sent = 0;

  constructor(operation: Operation, connection: Connection, buffer: Uint8Array) {
    this.operation = operation;
    this.connection = connection;
    this.buffer = buffer;
    this.length = buffer.length;
  }

  attempt(): number {
    if (this.buffer.length !== this.length) throw takenAway();
    // Also without bytes: it completes when the connection is there, or fails with the connection.
    do {
      const n = this.connection.send(this.sent === 0 ? this.buffer : this.buffer.subarray(this.sent));
      if (n === EAGAIN || n === ENOTCONN) return WAITING;
      this.sent += n;
    } while (this.sent < this.length);
    return this.sent;
  }
}

class ConnectStep implements Step {
  readonly operation: Operation;
  private readonly connection: Connection;

  constructor(operation: Operation, connection: Connection) {
    this.operation = operation;
    this.connection = connection;
  }

  attempt(): number {
    const { error, connected } = this.connection;
    if (error !== null) throw error;
    return connected ? 0 : WAITING;
  }
}

class AcceptStep implements Step {
  readonly operation: Operation;
  private readonly acceptor: Acceptor;
  private readonly buffer: Uint8Array | undefined;

  constructor(operation: Operation, acceptor: Acceptor, buffer: Uint8Array | undefined) {
    this.operation = operation;
    this.acceptor = acceptor;
    this.buffer = buffer;
  }

  attempt(): number {
    const connection = this.acceptor.accept();
    if (typeof connection === "number") return WAITING;
    if (this.buffer === undefined) {
      this.operation.connection = connection;
      return 0;
    }
    new FirstData(this.operation, operationsOn(this.acceptor), connection, this.buffer).onReady();
    return HANDED_ON;
  }
}

/** The second half of an accept with a buffer: the first data of the connection that was accepted. */
class FirstData implements ReadinessObserver {
  private readonly operation: Operation;
  private readonly operations: Operations;
  private readonly connection: Connection;
  private readonly buffer: Uint8Array;

  constructor(operation: Operation, operations: Operations, connection: Connection, buffer: Uint8Array) {
    this.operation = operation;
    this.operations = operations;
    this.connection = connection;
    this.buffer = buffer;
    operations.accepted.add(this);
    connection.observe(this);
  }

  onReady(): void {
    let n: number;
    try {
      n = receive(this.connection, this.buffer);
    } catch (error) {
      this.cancel(toEventError("complete an overlapped accept", error));
      return;
    }
    if (n === WAITING) return;
    this.leave();
    this.operation.connection = this.connection;
    this.operations.complete(this.operation, n, null);
  }

  /** Only this operation has the connection. */
  onSourceClosed(): void {}

  /** Closes the connection. */
  cancel(error: EventError): void {
    this.leave();
    this.connection.close();
    this.operations.complete(this.operation, 0, error);
  }

  private leave(): void {
    this.operations.accepted.delete(this);
    this.connection.unobserve(this);
  }
}

/** Begins to receive. */
export function beginReceive(operation: Operation, connection: Connection, buffer: Uint8Array): void {
  const doing = "begin an overlapped receive";
  checkRoom(doing, buffer);
  checkFree(doing, connection, operation);
  operationsOn(connection).begin(EV_READ, new ReceiveStep(operation, connection, buffer));
}

/** Begins to send. */
export function beginSend(operation: Operation, connection: Connection, buffer: Uint8Array): void {
  const doing = "begin an overlapped send";
  checkBuffer(doing, buffer);
  checkFree(doing, connection, operation);
  operationsOn(connection).begin(EV_WRITE, new SendStep(operation, connection, buffer));
}

/** Begins to accept. */
export function beginAccept(operation: Operation, acceptor: Acceptor, buffer: Uint8Array | undefined): void {
  const doing = "begin an overlapped accept";
  if (buffer !== undefined) checkRoom(doing, buffer);
  checkFree(doing, acceptor, operation);
  operationsOn(acceptor).begin(EV_READ, new AcceptStep(operation, acceptor, buffer));
}

/** Begins to connect. */
export function beginConnect(operation: Operation, connect: () => Connection): Connection {
  operation.checkFree("begin an overlapped connect");
  const connection = connect();
  operationsOn(connection).begin(EV_WRITE, new ConnectStep(operation, connection));
  return connection;
}

/** Throws unless the operation is free and the socket open. */
function checkFree(doing: string, source: Source, operation: Operation): void {
  if (source.closed) throw new EventError(`Cannot ${doing}: the socket was closed`, { code: "EBADF" });
  operation.checkFree(doing);
}

function checkBuffer(doing: string, buffer: Uint8Array): void {
  checkBytes(doing, "the buffer", buffer);
}

function checkRoom(doing: string, buffer: Uint8Array): void {
  checkBuffer(doing, buffer);
  if (buffer.length === 0) throw new RangeError(`Cannot ${doing}: the buffer is empty: received an empty Uint8Array`);
}

function takenAway(): EventError {
  return new EventError("Cannot complete an overlapped operation: its buffer was transferred or resized", {
    code: "EFAULT",
  });
}
