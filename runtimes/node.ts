/**
 * The adapter of Node: `net`.
 *
 * @module
 */

import type {
  AcceptSink,
  Capabilities,
  ConnectOptions,
  DatagramBinding,
  DatagramOptions,
  DatagramSink,
  ListenerBinding,
  ListenOptions,
  Runtime,
  TransportBinding,
  TransportSink,
} from "../core/runtime.ts";
import { EventError } from "../core/errors.ts";
import { nodeDatagram } from "./node/datagram.ts";
import {
  builtin,
  failure,
  host,
  HostRuntime,
  inet,
  type ListenTarget,
  listenTarget,
  show,
  target,
  WRITE_AHEAD,
} from "./shared/host.ts";
import type { NodeBuffers, NodeCluster, NodeFsSync, NodeListenOptions, NodeNet, NodeServer } from "./types/node.ts";
import { bindPath, type SocketFile } from "./shared/socket_file.ts";
import { checkListening, fdFailure } from "./shared/socket_fd.ts";
import type { StartTlsOptions, TlsRole } from "../core/tls.ts";
import { preparedTls, secureContext } from "./shared/node_tls.ts";
import { tlsSettings } from "./shared/tls.ts";
import { checkVersion, isAtLeast, takes } from "./shared/versions.ts";
import { acceptWithOnread, NodeListener, onConnection, type OurServer } from "./node/listener.ts";
import { CONNECTING, NodeTransport, onConnect, onread, OURS, type OurSocket } from "./node/transport.ts";

/**
 * libuv reports EACCES for a path whose directory does not exist, as Windows does: see uv_pipe_bind2() in its pipe.c.
 */
function missing(path: string | undefined, reason: unknown): string | undefined {
  if (path === undefined || (reason as { code?: unknown }).code !== "EACCES") return undefined;
  const directory = path.replace(/\/?[^/]*$/, "") || (path.startsWith("/") ? "/" : ".");
  return builtin<NodeFsSync>("node:fs").existsSync(directory) ? undefined : "ENOENT";
}

/**
 * `server.listen()` checks the permission (nodejs/node#58517) in a later turn. An error that it throws then cannot be
 * caught, and would end the process. Before Node 25 there is no such permission, and `has()` returns false for it.
 */
function checkPermission(tried: string): void {
  const { permission, allowedNodeEnvironmentFlags: flags } = host.process ?? {};
  if (permission === undefined || permission.has("net") || flags?.has("--allow-net") !== true) return;
  throw new EventError(`Cannot ${tried}: permission denied: it takes the flag --allow-net (EACCES)`, {
    code: "EACCES",
    syscall: "listen",
  });
}

/** The search of a Buffer takes any `Uint8Array`, and is 40 times as fast as `indexOf()` of V8's typed arrays. */
function bufferSearch(): (bytes: Uint8Array, byte: number, from: number) => number {
  const { indexOf } = builtin<NodeBuffers>("node:buffer").Buffer.prototype;
  return (bytes, byte, from) => indexOf.call(bytes, byte, from);
}

/** A server that listens, and the file of its unix socket. */
interface Bound {
  readonly server: NodeServer;
  readonly file: SocketFile | undefined;
  /** The path where it listens. */
  readonly path?: string | undefined;
}

class NodeRuntime extends HostRuntime {
  readonly name = "node";
  readonly findByte: (bytes: Uint8Array, byte: number, from: number) => number = bufferSearch();
  readonly capabilities: Readonly<Capabilities>;
  #net: NodeNet | undefined;

  constructor() {
    super();
    const platform = host.process?.platform;
    const version = host.process?.versions.node ?? "0";
    const enough = isAtLeast(version, "22.3") || (isAtLeast(version, "20.16") && !isAtLeast(version, "21"));
    checkVersion("Node", version, enough, "20.16 or 22.3", "has no process.getBuiltinModule()");
    // Node 20 takes the option and ignores it.
    const sharesPort = isAtLeast(version, "23.1") || (isAtLeast(version, "22.12") && !isAtLeast(version, "23"));
    // nodejs/node#63825 is in several lines of versions, so the function itself is tested.
    const tunesProbes = this.net.Socket.prototype.setKeepAlive.length >= 4;
    this.capabilities = {
      reusePort: platform === "linux" && sharesPort,
      reset: true,
      ipv6Only: true,
      backlog: true,
      localAddress: true,
      keepAliveDelay: true,
      keepAliveProbes: tunesProbes,
      pauseAccept: false,
      listenFd: platform !== "win32",
      unix: platform !== "win32",
      abstractUnix: platform === "linux",
      udp: true,
      multicast: true,
      multicastOptions: true,
      broadcast: true,
      reuseAddress: true,
      signals: true,
      files: true,
      tls: true,
      startTlsServer: true,
      startTlsClient: true,
      startTlsUnread: true,
      // TLSWrap reports the end of TCP as the end, and nothing shows whether a close_notify came before.
      tlsTruncation: false,
    };
    this.lacks = {
      reusePort: platform === "linux" ? takes("Node", "22.12 or 23.1", version) : "it takes Linux",
      listenFd: "Windows has no such descriptors",
      abstractUnix: "it takes Linux",
      keepAliveProbes: takes("Node", "24.21 or 26.4", version),
    };
  }

  get net(): NodeNet {
    return this.#net ??= builtin<NodeNet>("node:net");
  }

  async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    const at = listenTarget(this, options);
    const tried = `listen on ${show(at)}`;
    checkPermission(tried);
    const settings = options.tls === undefined ? undefined : tlsSettings(options.tls);
    const tls = settings === undefined ? undefined : { settings, context: secureContext(settings, tried) };
    const { server, file, path } = await this.#open(tried, at, options);
    const bound = server.address();
    const address = bound === null || typeof bound === "string"
      ? { path: path ?? "" }
      : inet(bound.address, bound.port)!;
    const listener = new NodeListener(this, server, sink, address, tls, file);
    server.on("error", (reason: unknown) => {
      if (listener.closing === undefined) sink.onError(failure(`accept on ${show(at)}`, reason, "accept"));
    });
    (server as OurServer)[OURS] = listener;
    server.on("connection", onConnection);
    if (tls === undefined) acceptWithOnread(server as OurServer, this.net);
    return listener;
  }

  prepareTls(_role: TlsRole, options: StartTlsOptions): void {
    preparedTls(options, "use TLS");
  }

  async #open(tried: string, at: ListenTarget, options: ListenOptions): Promise<Bound> {
    if (at.path !== undefined) return this.#bindPath(tried, at.path, options);
    if (at.fd === undefined) {
      return { server: await this.#bind(tried, { host: at.hostname, port: at.port }, options), file: undefined };
    }
    const path = checkListening(tried, at.fd);
    return { server: await this.#bind(tried, { fd: at.fd, exclusive: true }, options), file: undefined, path };
  }

  #bind(tried: string, where: NodeListenOptions, options: ListenOptions): Promise<NodeServer> {
    return new Promise((resolve, reject) => {
      const server = this.net.createServer({ allowHalfOpen: true, noDelay: true, highWaterMark: WRITE_AHEAD });
      server.on("error", (reason: unknown) => {
        const failed = where.fd === undefined
          ? failure(tried, reason, "listen", missing(where.path, reason))
          : undefined;
        reject(failed ?? fdFailure(tried, reason));
      });
      server.once("listening", () => resolve(server));
      try {
        server.listen({
          ...where,
          ...(options.backlog === undefined ? undefined : { backlog: options.backlog }),
          ...(options.ipv6Only === undefined ? undefined : { ipv6Only: options.ipv6Only }),
          ...(options.reusePort === undefined ? undefined : { reusePort: options.reusePort }),
        });
      } catch (reason) {
        reject(failure(tried, reason, "listen"));
      }
    });
  }

  async #bindPath(tried: string, path: string, options: ListenOptions): Promise<Bound> {
    const { listener: server, file } = await bindPath(tried, path, options, {
      // The workers of a cluster share a socket by the name that they bind.
      mayName: !builtin<NodeCluster>("node:cluster").isWorker,
      bind: (name) => this.#bind(tried, { path: name }, options),
      close: (server) => void server.close(),
    });
    return { server, file, path };
  }

  connect(options: ConnectOptions, sink: TransportSink): TransportBinding {
    const ours = new NodeTransport({ runtime: this, to: options, unixPath: options.path });
    ours.sink = sink;
    ours.state |= CONNECTING;
    try {
      const at = target(this, "connect to", options);
      const socket = this.net.connect({
        ...(at.path === undefined ? { host: at.hostname, port: at.port } : { path: at.path }),
        ...(options.localAddress === undefined ? undefined : { localAddress: options.localAddress }),
        allowHalfOpen: true,
        noDelay: true,
        highWaterMark: WRITE_AHEAD,
        autoSelectFamily: false,
        // A connection that begins TLS at once is not read before.
        ...(options.tls === undefined ? { onread: onread() } : undefined),
      });
      ours.adopt(socket as OurSocket);
      socket.once("connect", onConnect);
    } catch (reason) {
      host.setImmediate(() => {
        ours.failed(reason, "connect");
        ours.gone();
      });
    }
    return ours;
  }

  datagram(options: DatagramOptions, sink: DatagramSink): Promise<DatagramBinding> {
    return nodeDatagram(this, options, sink);
  }
}

let runtime: Runtime | undefined;

/**
 * Returns the runtime of this Node process.
 *
 * @returns The one instance
 * @throws {EventError} `EV_UNSUPPORTED` if Node is too old
 */
export function nodeRuntime(): Runtime {
  return runtime ??= new NodeRuntime();
}
