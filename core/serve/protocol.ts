/** The things that all connections of one `serve()` or `connect()` share: callbacks, and the limits of the owner. */

import type { Callback } from "../callback.ts";
import type { BufferEventCallbacks } from "../bufferevent/callbacks.ts";
import type { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { EventError } from "../errors.ts";
import { checkCallbacks, type Names } from "../names.ts";
import type { KeepAlive } from "./keep_alive.ts";
import type { ConnectionOwner } from "./owner.ts";
import type { LineLimits } from "./connection_options.ts";

/** The callbacks of `serve()` and `connect()`. Every callback may be an async function. */
export interface ConnectionCallbacks<Ctx = unknown> extends BufferEventCallbacks<SocketBufferEvent<Ctx>> {
  /**
   * The connection is established, with TLS after the handshake. Set `bev.context` here. Both directions are enabled,
   * unless `open` disables one.
   *
   * While the promise of an async `open` is pending, neither `read` nor `line` is called, and the peer's end waits.
   * Views go on. If the promise settles after its view has ended, the connection is closed gracefully.
   */
  open?: Callback<[bev: SocketBufferEvent<Ctx>]> | undefined;
  /**
   * The input has new bytes, and at least the low watermark of reading. While its promise is pending, it is not called
   * again. libevent: `bufferevent_data_cb`.
   */
  read?: Callback<[bev: SocketBufferEvent<Ctx>]> | undefined;
  /**
   * A line has come. Use it in place of `read`. The line has no terminator. You may keep it, but must not change it.
   * When the peer has finished, the bytes after the last terminator are a line too. While its promise is pending, it
   * gets no other line.
   *
   * If a line is longer than `maxLine`, `event` gets `BEV_EVENT_READING | BEV_EVENT_ERROR` with the code
   * `EV_LINE_TOO_LONG`. Reading is then disabled, and the bytes are in the input.
   */
  line?: Callback<[bev: SocketBufferEvent<Ctx>, line: Uint8Array]> | undefined;
  /**
   * The output has drained to the low watermark of writing. Its promise is not awaited, but a rejection counts as a
   * failure. libevent: `bufferevent_data_cb`.
   */
  write?: Callback<[bev: SocketBufferEvent<Ctx>]> | undefined;
  /**
   * The peer has finished, a timeout has passed or the connection has failed. `what` has the `BEV_EVENT_` bits, and
   * `error` the reason if there is one. With this callback, you must end the connection after an end of file, an error
   * or a timeout. libevent: `bufferevent_event_cb`.
   */
  event?: Callback<[bev: SocketBufferEvent<Ctx>, what: number, error?: EventError]> | undefined;
  /**
   * The connection is over: the bufferevent was freed, by you or by Trivent. Its addresses can still be read.
   *
   * `reason` has a code. The peer caused it (`ECONNRESET`, `EV_LINE_TOO_LONG`, `EV_FRAME_TRUNCATED`, …), or a limit
   * (`ETIMEDOUT`, `EV_INPUT_FULL`, `ENOBUFS`). With `EV_HANDLER_FAILED` a callback failed, and its exception is the
   * `cause`. With `ECANCELED` the time of `Server.close()` was over. `reason` is undefined after a clean end, and after
   * your own `close()`, `free()` or `reset()`.
   */
  close?: Callback<[bev: SocketBufferEvent<Ctx>, reason?: EventError]> | undefined;
  /**
   * A callback has thrown, or its promise has rejected, with an error that the connection did not raise. The connection
   * was reset; the others go on. `bev` is null if accepting a connection failed.
   *
   * Without this callback the runtime reports the error once (`Runtime.report`: `console.error`), and the other
   * connections go on too.
   */
  error?: Callback<[error: unknown, bev: SocketBufferEvent<Ctx> | null]> | undefined;
}

/** The names of the callbacks of `connect()`. */
export const CONNECTION_CALLBACKS: Names<ConnectionCallbacks> = {
  open: true,
  read: true,
  line: true,
  write: true,
  event: true,
  close: true,
  error: true,
};

/** The things that all connections of one `serve()` or `connect()` share. */
export interface Protocol<Ctx> {
  readonly callbacks: ConnectionCallbacks<Ctx>;
  /** The line end and the limit; null without a `line` callback. */
  readonly lines: LineLimits | null;
  /** The time for a graceful end. */
  readonly closeTimeoutMs: number;
  /** How long a handler delays timeouts and the peer's end; Infinity for ever. */
  readonly handlerTimeoutMs: number;
  /** How long the input may be full without a busy program; Infinity for ever. */
  readonly stallTimeoutMs: number;
  /** How long a message may take from its first byte to its last; 0 for ever. */
  readonly messageTimeoutMs: number;
  /** Whether `close` is called if connecting fails, because the program already has the object. */
  readonly tellsUnopened?: boolean | undefined;
  /** Called just before `open`. */
  onOpen?(owner: ConnectionOwner<unknown>): void;
  /** Called after `open`, if the connection is still there. */
  onOpened?(owner: ConnectionOwner<unknown>): void;
  /**
   * Called last for each connection: after `close`, or without `close`, in the call that frees it.
   */
  onOver?(reason: EventError | undefined): void;
  /** The settings of TCP keep-alive; null for none. */
  readonly keepAlive: KeepAlive | null;
  /** Called for each connection that was freed. */
  onFreed?(owner: ConnectionOwner<unknown>, reason: EventError | undefined): void;
  /** Called after its `close` callback, if there is one. */
  onClosed?(): void;
}

/**
 * Checks callbacks.
 *
 * @throws {TypeError} For an unknown name, a value that is not a function, and both `read` and `line`
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
