/** What all connections of one `serve()` or `connect()` share: what is called, and the limits that the owner keeps. */

import type { Callback } from "../callback.ts";
import type { BufferEventCallbacks } from "../bufferevent/callbacks.ts";
import type { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { EventError } from "../errors.ts";
import { checkCallbacks, type Names } from "../names.ts";
import type { ConnectionOwner } from "./owner.ts";
import type { LineLimits } from "./connection_options.ts";

/** What `serve()` and `connect()` call on a connection. Every callback may be an async function. */
export interface ConnectionCallbacks<Ctx = unknown> extends BufferEventCallbacks<SocketBufferEvent<Ctx>> {
  /**
   * The connection is there, after the handshake where there is TLS: the place to set `bev.context`. Both directions are
   * enabled; what `open` enables or disables stays so.
   *
   * While the promise of an async `open` is pending, neither `read` nor `line` is called, and the end of the peer waits.
   * Views go on. When it settles after its view has given the end, the connection is closed gracefully.
   */
  open?: Callback<[bev: SocketBufferEvent<Ctx>]> | undefined;
  /**
   * There is input, at least as much as the low watermark of reading says. While a promise of it is pending, it is not
   * called again. libevent: `bufferevent_data_cb`.
   */
  read?: Callback<[bev: SocketBufferEvent<Ctx>]> | undefined;
  /**
   * A line has come; in place of `read`. It has no terminator, is yours to keep, and may not be changed. What follows the
   * last terminator is a line too when the peer has finished. While a promise of it is pending, it gets no other line.
   *
   * A line longer than `maxLine` is told to `event` as `BEV_EVENT_READING | BEV_EVENT_ERROR` with the code
   * `EV_LINE_TOO_LONG`; reading is disabled then, and what has come is in the input.
   */
  line?: Callback<[bev: SocketBufferEvent<Ctx>, line: Uint8Array]> | undefined;
  /**
   * The output has drained to the low watermark of writing. A promise of it is not waited for, but what it rejects with is
   * a failure as any other. libevent: `bufferevent_data_cb`.
   */
  write?: Callback<[bev: SocketBufferEvent<Ctx>]> | undefined;
  /**
   * Something else has happened: `what` has the `BEV_EVENT_` bits, `error` says why where there is a reason. With this
   * callback, ending the connection after an end of file, an error or a timeout is yours. libevent: `bufferevent_event_cb`.
   */
  event?: Callback<[bev: SocketBufferEvent<Ctx>, what: number, error?: EventError]> | undefined;
  /**
   * The connection is over: the bufferevent was freed, by you or by itself. Its addresses are still there.
   *
   * `reason` says why: the code of what the peer did (`ECONNRESET`, `EV_LINE_TOO_LONG`, `EV_FRAME_TRUNCATED`, …) or of the
   * limit (`ETIMEDOUT`, `EV_INPUT_FULL`, `ENOBUFS`); `EV_HANDLER_FAILED`, with what a callback threw as its `cause`;
   * `ECANCELED` when the grace of `Server.close()` was over. It is undefined after a clean end, and after `close()`,
   * `free()` or `reset()` of your own.
   */
  close?: Callback<[bev: SocketBufferEvent<Ctx>, reason?: EventError]> | undefined;
  /**
   * A callback threw, or its promise rejected with, something that is not about the connection itself. That connection was
   * reset; the others go on. `bev` is null when accepting a connection failed.
   *
   * Without this callback the host reports it once (`Runtime.report`: `console.error`), and the others go on as well.
   */
  error?: Callback<[error: unknown, bev: SocketBufferEvent<Ctx> | null]> | undefined;
}

/** The names of the callbacks that `connect()` takes. */
export const CONNECTION_CALLBACKS: Names<ConnectionCallbacks> = {
  open: true,
  read: true,
  line: true,
  write: true,
  event: true,
  close: true,
  error: true,
};

/** What all connections of one `serve()` or `connect()` share. */
export interface Protocol<Ctx> {
  readonly callbacks: ConnectionCallbacks<Ctx>;
  /** What a line is; null without a `line` callback. */
  readonly lines: LineLimits | null;
  /** How long a connection may take to end gracefully. */
  readonly closeTimeoutMs: number;
  /** How long a handler holds back timeouts and the end of the peer; Infinity for ever. */
  readonly handlerTimeoutMs: number;
  /** How long the input may be full with nobody busy; Infinity for ever. */
  readonly stallTimeoutMs: number;
  /** How long a message may take from its first byte to its last; 0 for ever. */
  readonly messageTimeoutMs: number;
  /** Whether `close` is called for a connection that was never there: the program has had its object all the time. */
  readonly tellsUnopened?: boolean | undefined;
  /** Told just before `open` is called. */
  onOpen?(owner: ConnectionOwner<unknown>): void;
  /** Told when `open` has been called, and the connection is still there. */
  onOpened?(owner: ConnectionOwner<unknown>): void;
  /** Told last of each connection: after `close`, or in the call that has freed it where `close` is not called. */
  onOver?(reason: EventError | undefined): void;
  /** Told of each connection that was freed. */
  onFreed?(owner: ConnectionOwner<unknown>): void;
  /** Told when its `close` callback has run, if there is one. */
  onClosed?(): void;
}

/**
 * Checks callbacks.
 *
 * @throws {TypeError} For an unknown name, what is not a function, and both `read` and `line`
 */
export function checkConnectionCallbacks<Callbacks extends ConnectionCallbacks<never>>(
  verb: string,
  callbacks: Callbacks,
  names: Names<Callbacks>,
): Callbacks {
  checkCallbacks(verb, callbacks, names);
  if (callbacks.read != null && callbacks.line != null) {
    throw new TypeError(`Cannot ${verb}: both read and line were given, and input goes to one of them`);
  }
  return callbacks;
}
