/** A server that `serve()` has made. */

import { checkInner } from "../checks.ts";
import type { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { EventBase } from "../api/event_base.ts";
import type { Address } from "../runtime.ts";
import { ServerCore } from "./server_core.ts";

/** For the core: what is behind a server; undefined for anything else. */
export function serverCoreOf(server: unknown): ServerCore | undefined {
  return behind(server);
}

/** Set by the first Server: see `Pollable`. */
let behind: (server: unknown) => ServerCore | undefined = () => undefined;

/** A running server. */
export class Server<Ctx = unknown> {
  readonly #core: ServerCore;

  /** Made by `serve()`. */
  constructor(core: object) {
    this.#core = checkInner(core, ServerCore, "Server", "serve()");
    behind = (server): ServerCore | undefined =>
      typeof server === "object" && server !== null && #core in server ? server.#core : undefined;
  }

  /** Where it listens, the port that the system chose included. */
  get address(): Address {
    return this.#core.listener.address;
  }

  /** The port on which it listens; undefined on a path. */
  get port(): number | undefined {
    const { address } = this.#core.listener;
    return "port" in address ? address.port : undefined;
  }

  /** The base on which it runs. */
  get base(): EventBase {
    return this.#core.listener.base;
  }

  /** How many connections there are, those that are being closed and those in their TLS handshake too. */
  get connections(): number {
    return this.#core.open.size;
  }

  /**
   * How many clients were refused: by the `accept` callback, by `maxConnectionsPerAddress`, by `maxConnections` with
   * `whenFull: "reject"`, or because more than the backlog would have waited on a host that cannot pause accepting.
   */
  get rejected(): number {
    return this.#core.rejected;
  }

  /** The connections that were opened, in the order in which they came; those that are being closed too. */
  [Symbol.iterator](): IterableIterator<SocketBufferEvent<Ctx>> {
    return this.#core.connections() as IterableIterator<SocketBufferEvent<Ctx>>;
  }

  /**
   * Stops: no connection is accepted any more, those that are there may finish, and what is left after `graceMs` is cut.
   * A second call can only bring the cut forward.
   *
   * @param options `graceMs`: how long connections may go on, by default `drainTimeoutMs`, or 10 s; 0 cuts them at once
   * @returns When no connection is left, the last `close` callback has run and the port is free; the same for every call
   * @throws {RangeError} When `graceMs` is negative or no number
   */
  close(options: { graceMs?: number | undefined } = {}): Promise<void> {
    return this.#core.close(options);
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
