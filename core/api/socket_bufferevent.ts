/** Bufferevents on sockets. */

import { EventError } from "../errors.ts";
import { type EventBase, loopOf } from "./event_base.ts";
import { readOptions } from "../names.ts";
import { type Address, CONNECT_OPTIONS, type ConnectOptions, type ProxyHeader } from "../runtime.ts";
import type { StartTlsOptions, TlsInfo } from "../tls.ts";
import { openConnection } from "../socket/connector.ts";
import { connectionOf, type Socket, socketOf } from "./socket.ts";
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
   * @throws {RangeError} For unknown flags
   */
  constructor(base: EventBase, socket: Socket | null, options: number = 0) {
    checkOptions(options);
    super(new SocketCore(loopOf(base), socket === null ? null : connectionOf(socket), options));
  }

  /**
   * Connects. When the connection is there, the event callback gets `BEV_EVENT_CONNECTED`, and then the output leaves.
   * If the attempt fails, it gets `BEV_EVENT_ERROR` once, with the reason. The write timeout, if one is set, ends the
   * attempt with `BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT`.
   *
   * libevent: `bufferevent_socket_connect`, `bufferevent_socket_connect_hostname`.
   *
   * @param address A numeric address or a host name with a port, or a path
   * @param options Further options, such as `timeoutMs` and `signal`
   * @throws {RangeError} When the address is not valid
   * @throws {EventError} `EISCONN` when there is a connection, `EALREADY` while one is being made, `EV_UNSUPPORTED`
   * when the runtime lacks what an option needs
   */
  connect(address: ConnectOptions, options?: ConnectOptions): void {
    const core = socketCoreOf(this);
    core.unclosed("connect");
    if (core.connecting) {
      throw new EventError("Cannot connect: an attempt is under way", { code: "EALREADY", syscall: "connect" });
    }
    if (core.connection !== null && !core.connection.gone) {
      throw new EventError("Cannot connect: the bufferevent has a connection", { code: "EISCONN", syscall: "connect" });
    }
    core.setConnection(
      openConnection(
        this.base.runtime,
        options === undefined ? address : { ...connectOptions(address), ...connectOptions(options) },
      ),
    );
  }

  /**
   * Changes the connection to TLS. Output that was written before leaves in the clear; later output is protected. After
   * the handshake the event callback gets `BEV_EVENT_CONNECTED`. If the handshake fails, it gets `BEV_EVENT_ERROR`
   * once, with the reason: `ERR_TLS_CERT` (the peer's certificate is not accepted), `ERR_TLS_OPTIONS` (our certificate
   * or key cannot be used), `ETIMEDOUT`, or `ERR_TLS_HANDSHAKE` (anything else). `close()` during the handshake waits
   * for it if there is output; otherwise it gives the handshake up, as `free()` does.
   *
   * Call it when all input has been read. Otherwise bytes that an attacker has put behind the request would look like
   * protected ones (CVE-2011-0411). Bytes that arrive after the call belong to the handshake. If the input is the
   * beginning of the handshake, say so: `unread: true`.
   *
   * libevent: `bufferevent_openssl_filter_new`.
   *
   * @param options Certificate, key, authorities, and the role. By default the end that has connected is the client
   * @throws {EventError} `ERR_TLS_PLAINTEXT` when input has not been read, `ENOTCONN` without a connection, `EALREADY`
   * when it has TLS or is being made, `EV_UNSUPPORTED` when the runtime cannot do it
   * @throws {TypeError} For a value of a wrong type, or a server without a certificate or key
   * @throws {RangeError} For a value that is out of range
   *
   * @example
   * ```ts
   * import { connect, serve, simRuntime } from "trivent";
   * const sim = simRuntime(); // there, a certificate is a text
   * const tls = { cert: "mail.example signed by our CA", key: "a key" };
   * const server = await sim.run(serve({ runtime: sim, hostname: "127.0.0.1", port: 25 }, {
   *   line(bev) {
   *     // Nothing may wait behind the request. Otherwise startTls() throws, and the connection is reset.
   *     bev.write("220 begin\r\n");
   *     bev.startTls(tls);
   *   },
   * }));
   * const client = await sim.run(connect({ runtime: sim, hostname: "127.0.0.1", port: 25 }));
   * client.write("STARTTLS\r\n");
   * const lines = client.lines({ text: true });
   * await sim.run(lines.next());
   * await lines.return();
   * client.startTls({ ca: "our CA", serverName: "mail.example" });
   * await sim.advance(10);
   * console.log(client.tls?.authorized); // true
   * client.free();
   * await sim.run(server.close());
   * ```
   */
  startTls(options: StartTlsOptions = {}): void {
    socketCoreOf(this).startTls(options);
  }

  /** The result of the TLS handshake; undefined without TLS and until the handshake is done. */
  get tls(): TlsInfo | undefined {
    return socketCoreOf(this).known?.binding?.tls;
  }

  /** The peer's address; undefined until there is a connection. It stays when the connection has ended, and after `free()`. */
  get remoteAddress(): Address | undefined {
    return socketCoreOf(this).known?.remote;
  }

  /**
   * What the proxy in front of `serve({ proxyProtocol })` has said of this connection; null without its header.
   * `remoteAddress` is then the client's.
   */
  get proxy(): ProxyHeader | null {
    return socketCoreOf(this).known?.proxy ?? null;
  }

  /** Our own address; undefined until there is a connection. It stays when the connection has ended, and after `free()`. */
  get localAddress(): Address | undefined {
    return socketCoreOf(this).known?.local;
  }

  /** The socket, or null. libevent: `bufferevent_getfd`. */
  get socket(): Socket | null {
    const { connection } = socketCoreOf(this);
    return connection === null ? null : socketOf(connection);
  }

  /**
   * Replaces the socket. The present one is neither closed nor read any more. libevent: `bufferevent_setfd`.
   *
   * @param socket The socket, or null. With null, timeouts stop until a direction is enabled again
   */
  setSocket(socket: Socket | null): void {
    socketCoreOf(this).setConnection(socket === null ? null : connectionOf(socket));
  }

  /** Ends at once, with a RST if `capabilities.reset`, and frees. Output that has not left is lost. */
  reset(): void {
    socketCoreOf(this).reset();
  }
}

function socketCoreOf<Ctx>(bev: SocketBufferEvent<Ctx>): SocketCore {
  return coreOf(bev as BufferEvent) as SocketCore;
}

/** The options without those that are undefined, so that they do not replace others. */
function connectOptions(options: ConnectOptions): ConnectOptions {
  return readOptions("connect", options, CONNECT_OPTIONS);
}
