/** A server that `serve()` has made. */

import { checkInner } from "../checks.ts";
import type { SocketBufferEvent } from "../api/socket_bufferevent.ts";
import type { EventBase } from "../api/event_base.ts";
import type { Address } from "../runtime.ts";
import type { ServerStats } from "./figures.ts";
import type { TlsServeOptions } from "./tls_choice.ts";
import { ServerCore } from "./server_core.ts";

/** For the core: the state of a server; undefined for other values. */
export function serverCoreOf(server: unknown): ServerCore | undefined {
  return behind(server);
}

/** Set by the first Server: see `Pollable`. */
let behind: (server: unknown) => ServerCore | undefined = () => undefined;

/** A running server. */
export class Server<Ctx = unknown> {
  readonly #core: ServerCore;

  /** Only `serve()` makes it. */
  constructor(core: object) {
    this.#core = checkInner(core, ServerCore, "Server", "serve()");
    behind = (server): ServerCore | undefined =>
      typeof server === "object" && server !== null && #core in server ? server.#core : undefined;
  }

  /** The address where it listens, with the port that the system chose. */
  get address(): Address {
    return this.#core.listener.address;
  }

  /** The port where it listens; undefined on a path. */
  get port(): number | undefined {
    const { address } = this.#core.listener;
    return "port" in address ? address.port : undefined;
  }

  /**
   * The file descriptor of the listening socket. A new version of the program that inherits it
   * listens with the option `fd`, and no client is refused in between. Undefined if the runtime
   * does not report it: Deno reports only one that it was given.
   *
   * @example
   * ```ts
   * import { serve, simRuntime } from "trivent";
   * const runtime = simRuntime();
   * const old = await serve({ runtime, port: 80 }, { open: (bev) => bev.write("old\n") });
   * const next = await serve({ runtime, fd: old.fd }, { open: (bev) => bev.write("new\n") });
   * await runtime.run(old.close());
   * await runtime.run(next.close());
   * ```
   */
  get fd(): number | undefined {
    return this.#core.listener.socket.fd;
  }

  /** The base on which it runs. */
  get base(): EventBase {
    return this.#core.listener.base;
  }

  /**
   * The number of connections, with those that are being closed, those in their TLS handshake, and those whose PROXY header
   * is awaited.
   */
  get connections(): number {
    return this.#core.count;
  }

  /**
   * The number of refused clients: by the `accept` callback, by `maxConnectionsPerAddress`, by `maxConnections` with
   * `whenFull: "reject"`, or beyond the backlog on a runtime that cannot pause accepting.
   */
  get rejected(): number {
    return this.#core.rejected;
  }

  /**
   * Changes the certificates and the other options of TLS for new connections, without a restart.
   * Connections that are open, or in their handshake, keep their options.
   *
   * @param options All of `tls`, as in `serve()`: an option that is missing is not kept
   * @throws {TypeError} For a value of a wrong type; then nothing changes, as for every error
   * @throws {RangeError} For a value that is out of range
   * @throws {EventError} `ERR_TLS_OPTIONS` for a certificate or key that cannot be used; `EV_UNSUPPORTED` for a server that
   * was made without `tls`
   *
   * @example
   * ```ts
   * import { serve, simRuntime } from "trivent";
   * const runtime = simRuntime();
   * const tls = { cert: "example.org signed by our CA", key: "a key" };
   * const server = await serve({ runtime, hostname: "127.0.0.1", port: 443, tls }, {});
   * // Whenever the files have changed:
   * server.setTls({ ...tls, cert: "example.org signed by our new CA" });
   * await runtime.run(server.close());
   * ```
   */
  setTls(options: TlsServeOptions): void {
    this.#core.setTls(options);
  }

  /**
   * Returns the figures of the server so far. `prometheus()` writes them for a monitoring system.
   *
   * It reads each open connection, so do not call it for each message. There is no counter for each
   * message or byte.
   *
   * @returns The figures, a new object for each call
   *
   * @example
   * ```ts
   * import { connect, serve } from "trivent";
   *
   * const server = await serve({ hostname: "127.0.0.1", port: 0 }, { open: (bev) => bev.write("hello\n") });
   * const client = await connect({ hostname: "127.0.0.1", port: server.port });
   * await client.lines().next();
   * await client.close();
   * await server.close();
   * const { accepted, open, bytesWritten, ended } = server.stats();
   * console.log(accepted, open, bytesWritten, ended); // 1 0 6 { OK: 1 }
   * ```
   */
  stats(): ServerStats {
    return this.#core.stats();
  }

  /** The open connections in the order of their arrival, with those that are being closed. */
  [Symbol.iterator](): IterableIterator<SocketBufferEvent<Ctx>> {
    return this.#core.connections() as IterableIterator<SocketBufferEvent<Ctx>>;
  }

  /**
   * Stops the server. It accepts no more connections, lets the present ones finish, and resets the rest after
   * `graceMs`. A second call can only shorten the time.
   *
   * @param options `graceMs`: the time for connections to finish; by default `drainTimeoutMs`, or 10 s; 0 resets them
   * at once
   * @returns A promise that resolves when no connection is left, the last `close` callback has run and the port is
   * free. Every call returns the same one
   * @throws {RangeError} When `graceMs` is negative or not a number
   */
  close(options: { graceMs?: number | undefined } = {}): Promise<void> {
    return this.#core.close(options);
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
