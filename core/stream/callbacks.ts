/** What `serve()` and `connect()` add to the callbacks of the user: lines, and the usual end of a connection. */

import { checkFunction } from "../checks.ts";
import { BEV_EVENT_EOF, BEV_EVENT_ERROR, BEV_EVENT_READING, BEV_EVENT_TIMEOUT, EV_READ } from "../flags.ts";
import { EventError } from "../errors.ts";
import { take } from "../buffer/internal.ts";
import { type BufferEvent, type BufferEventCallbacks, coreOf } from "../bufferevent/bufferevent.ts";
import type { SocketBufferEvent } from "../bufferevent/socket.ts";
import type { SocketCore } from "../bufferevent/socket_core.ts";

/** What `serve()` and `connect()` call on a connection. */
export interface ConnectionCallbacks<Ctx = unknown> extends BufferEventCallbacks<SocketBufferEvent<Ctx>> {
  /**
   * A line has come; in place of `read`. It has no terminator, is yours to keep, and may not be changed. What follows the
   * last terminator is a line too when the peer has finished. A line longer than `maxLine` is told to `event` as
   * `BEV_EVENT_READING | BEV_EVENT_ERROR` with the code `EV_LINE_TOO_LONG`; reading is disabled then, and what has come
   * is in the input.
   */
  line?(bev: SocketBufferEvent<Ctx>, line: Uint8Array): void;
}

type Callbacks<Ctx> = BufferEventCallbacks<SocketBufferEvent<Ctx>>;

/** What a line is, for the `line` callback. */
export interface LineLimits {
  /** One of the `EVBUFFER_EOL` styles. */
  eol: number;
  /** The longest line, in bytes. */
  maxBytes: number;
}

/**
 * Gives the callbacks of a connection: the user's own object, or one that inherits from it.
 *
 * @param callbacks What the user has given
 * @param lines What a line is
 * @param closeTimeoutMs How long a connection may take that is closed since its peer has finished; undefined for the usual
 * @throws {TypeError} When there are both `read` and `line`, or one is no function
 */
export function connectionCallbacks<Ctx>(
  callbacks: ConnectionCallbacks<Ctx>,
  lines: LineLimits,
  closeTimeoutMs: number | undefined,
): Callbacks<Ctx> {
  for (const name of ["accept", "reject", "open", "read", "line", "write", "event", "close", "error"] as const) {
    const callback = (callbacks as Readonly<Record<string, unknown>>)[name];
    if (callback !== undefined && callback !== null) checkFunction("set callbacks", name, callback);
  }
  const all: Callbacks<Ctx> = callbacks.event === undefined ? withUsualEnd(callbacks, closeTimeoutMs) : callbacks;
  if (callbacks.line === undefined) return all;
  if (callbacks.read !== undefined) {
    throw new TypeError("Cannot set callbacks: both read and line were given");
  }
  return withLines(callbacks, all, lines);
}

/** Connections that someone asynchronous is still busy with, and how they end if the peer has finished meanwhile. */
const held: WeakMap<object, (() => void) | null> = new WeakMap();

/** How callbacks that end a connection by themselves do it. */
const usualEnds: WeakMap<object, (bev: BufferEvent) => void> = new WeakMap();

/** Keeps a connection whose peer has finished until a promise settles. */
export function holdWhile<Ctx>(bev: SocketBufferEvent<Ctx>, promise: PromiseLike<unknown>): void {
  held.set(bev, null);
  const settled = (): void => {
    const end = held.get(bev);
    held.delete(bev);
    if (end) return end();
    // A view has heard of it in our place.
    const core = coreOf(bev as BufferEvent) as SocketCore;
    if (!core.freed && core.callbacks !== null && core.stream?.ended === true) {
      usualEnds.get(core.callbacks)?.(bev as BufferEvent);
    }
  };
  promise.then(settled, (error: unknown) => {
    settled();
    bev.free();
    throw error;
  });
}

/** A connection is closed gracefully when its peer has finished, and freed when it has failed or timed out. */
function withUsualEnd<Ctx>(callbacks: ConnectionCallbacks<Ctx>, timeoutMs: number | undefined): Callbacks<Ctx> {
  const all = Object.create(callbacks) as Callbacks<Ctx>;
  const options = timeoutMs === undefined ? {} : { timeoutMs };
  const close = (bev: BufferEvent): void => void bev.close(options);
  usualEnds.set(all, close);
  all.event = (bev, what): void => {
    if ((what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0) return bev.free();
    if ((what & BEV_EVENT_EOF) === 0) return;
    if (held.has(bev)) held.set(bev, () => close(bev as BufferEvent));
    else close(bev as BufferEvent);
  };
  return all;
}

function withLines<Ctx>(
  callbacks: ConnectionCallbacks<Ctx>,
  ends: Callbacks<Ctx>,
  { eol, maxBytes }: LineLimits,
): Callbacks<Ctx> {
  const all = Object.create(ends) as Callbacks<Ctx>;
  const limit = { maxBytes };

  /** Whether the lines still go to these callbacks. */
  function ours(bev: SocketBufferEvent<Ctx>): boolean {
    const core = coreOf(bev as BufferEvent);
    if (core.freed || core.closing !== null) return false;
    if (core.callbacks === (all as unknown)) return true;
    // The protocol has changed: the rest of what has come is for the new callbacks.
    if (bev.input.length > 0) core.trigger(EV_READ, 0);
    return false;
  }

  all.read = (bev): void => {
    for (;;) {
      let line: Uint8Array | null;
      try {
        line = bev.input.readln(eol, limit);
      } catch (error) {
        if (!(error instanceof EventError)) throw error;
        bev.disable(EV_READ);
        ends.event?.(bev, BEV_EVENT_READING | BEV_EVENT_ERROR, error as EventError);
        return;
      }
      if (line === null) return;
      callbacks.line?.(bev, line);
      if (!ours(bev)) return;
    }
  };
  all.event = (bev, what, error): void => {
    const { length } = bev.input;
    if ((what & BEV_EVENT_READING) !== 0 && (what & BEV_EVENT_EOF) !== 0 && length > 0) {
      const rest = take(bev.input, length);
      if (rest !== null) callbacks.line?.(bev, rest);
      if (!ours(bev)) return;
    }
    ends.event?.(bev, what, error);
  };
  return all;
}
