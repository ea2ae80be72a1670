/** Bufferevents on sockets. */

import { EventError } from "../errors.ts";
import { type EventBase, loopOf } from "./event_base.ts";
import { readOptions } from "../names.ts";
import { type Address, CONNECT_OPTIONS, type ConnectOptions } from "../runtime.ts";
import type { StartTlsOptions, TlsInfo } from "../tls.ts";
import { connectStream } from "../socket/connector.ts";
import { type Socket, socketOf, streamOf } from "./socket.ts";
import { BufferEvent, checkOptions, coreOf } from "./bufferevent.ts";
import { SocketCore } from "../bufferevent/socket_core.ts";

/**
 * A bufferevent on a stream socket.
 *
 * libevent: `bufferevent_socket_new`.
 *
 * @example
 * ```ts
 * import { BEV_EVENT_CONNECTED, BEV_OPT_CLOSE_ON_FREE, EV_READ, EventBase, SocketBufferEvent } from "trivent";
 *
 * const base = new EventBase();
 * const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
 * bev.setCallbacks({
 *   read: (bev) => console.log(bev.input.toString()),
 *   event: (bev, what, error) => {
 *     if (what === BEV_EVENT_CONNECTED) return;
 *     console.error(error?.code); // ECONNREFUSED
 *     bev.free();
 *   },
 * });
 * bev.enable(EV_READ);
 * bev.write("hello\n");
 * bev.connect({ hostname: "127.0.0.1", port: 9 });
 * await base.dispatch();
 * ```
 */
export class SocketBufferEvent<Ctx = unknown> extends BufferEvent<Ctx> {
  /**
   * Makes a bufferevent, with writing enabled.
   *
   * @param base The base whose loop calls back
   * @param socket A socket, connected or connecting; null to `connect()` or `setSocket()` later: writes wait until then
   * @param options `BEV_OPT_` flags
   * @throws {RangeError} For options that are none
   */
  constructor(base: EventBase, socket: Socket | null, options: number = 0) {
    checkOptions(options);
    super(new SocketCore(loopOf(base), socket === null ? null : streamOf(socket), options));
  }

  /**
   * Connects. `BEV_EVENT_CONNECTED` is told when it is through, then what was written flows; `BEV_EVENT_ERROR`, once and
   * with the reason, when it failed. The write timeout, if one is set, ends the attempt with
   * `BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT`.
   *
   * libevent: `bufferevent_socket_connect`, `bufferevent_socket_connect_hostname`.
   *
   * @param address Where to: a numeric address or a host name with a port, or a path
   * @param options More of the same, such as `timeoutMs` and `signal`
   * @throws {RangeError} When the address is none
   * @throws {EventError} `EISCONN` when there is a connection, `EALREADY` while one is being made, `EV_UNSUPPORTED` when
   * the host can't do what an option asks for
   */
  connect(address: ConnectOptions, options?: ConnectOptions): void {
    const core = socketCoreOf(this);
    core.unclosed("connect");
    if (core.connecting) {
      throw new EventError("Cannot connect: an attempt is under way", { code: "EALREADY", syscall: "connect" });
    }
    if (core.stream !== null && !core.stream.gone) {
      throw new EventError("Cannot connect: the bufferevent has a connection", { code: "EISCONN", syscall: "connect" });
    }
    core.setStream(
      connectStream(
        this.base.runtime,
        options === undefined ? address : { ...connectOptions(address), ...connectOptions(options) },
      ),
    );
  }

  /**
   * Changes the connection to TLS. What was written before leaves in the clear, what is written after is protected.
   * `BEV_EVENT_CONNECTED` is told when the handshake is through; `BEV_EVENT_ERROR`, once and with the reason, when it has
   * failed: `ERR_TLS_CERT` (the peer's certificate is not accepted), `ERR_TLS_HANDSHAKE` (anything else), `ETIMEDOUT`,
   * `ERR_TLS_OPTIONS` (our certificate or key can't be used). `close()` meanwhile waits for the handshake if something is
   * to be sent; otherwise it gives the handshake up, as `free()` does.
   *
   * Call it when all that came before has been read: bytes that an attacker has put behind the request would else be
   * taken for protected ones (CVE-2011-0411). What arrives after the call belongs to the handshake.
   *
   * libevent: `bufferevent_openssl_filter_new`.
   *
   * @param options Certificate, key, authorities; the role, where it is not that of the one who has connected
   * @throws {EventError} `ERR_TLS_PLAINTEXT` when input has not been read, `ENOTCONN` without a connection, `EALREADY`
   * when it has TLS or is being made, `EV_UNSUPPORTED` when the host can't
   * @throws {TypeError} For a value of a wrong type; without a certificate or key as the server
   * @throws {RangeError} For one that is out of range
   */
  startTls(options: StartTlsOptions = {}): void {
    socketCoreOf(this).startTls(options);
  }

  /** What the TLS handshake has found; undefined without TLS and until the handshake is through. */
  get tls(): TlsInfo | undefined {
    return socketCoreOf(this).known?.binding?.tls;
  }

  /** The peer's address; undefined until there is a connection. It stays when the connection has ended, and after `free()`. */
  get remoteAddress(): Address | undefined {
    return socketCoreOf(this).known?.remote;
  }

  /** Our own address; undefined until there is a connection. It stays when the connection has ended, and after `free()`. */
  get localAddress(): Address | undefined {
    return socketCoreOf(this).known?.local;
  }

  /** The socket, or null. libevent: `bufferevent_getfd`. */
  get socket(): Socket | null {
    const { stream } = socketCoreOf(this);
    return stream === null ? null : socketOf(stream);
  }

  /**
   * Takes another socket in place of the present one, which is neither closed nor read any more. libevent: `bufferevent_setfd`.
   *
   * @param socket The socket, or null for none: timeouts then stop until a direction is enabled again
   */
  setSocket(socket: Socket | null): void {
    socketCoreOf(this).setStream(socket === null ? null : streamOf(socket));
  }

  /** Ends at once, with a RST where `capabilities.reset`, and frees. What has not left is lost. */
  reset(): void {
    socketCoreOf(this).reset();
  }
}

function socketCoreOf<Ctx>(bev: SocketBufferEvent<Ctx>): SocketCore {
  return coreOf(bev as BufferEvent) as SocketCore;
}

/** Options of connecting without those that are undefined: they do not take the place of others. */
function connectOptions(options: ConnectOptions): ConnectOptions {
  return readOptions("connect", options, CONNECT_OPTIONS);
}
