/**
 * A listening socket of Node, and how its connections are created.
 *
 * @module
 */

import type { AcceptSink, Address, ListenerBinding } from "../../core/runtime.ts";
import { fixedAddress, host, type HostRuntime, type Origin, WRITE_AHEAD } from "../shared/host.ts";
import type { SocketFile } from "../shared/socket_file.ts";
import type { TlsSettings } from "../shared/tls.ts";
import type { NodeNet, NodeServer } from "../types/node.ts";
import type { NodeSecureContext } from "../types/node_tls.ts";
import { NodeTransport, onData, onread, OURS, type OurSocket } from "./transport.ts";

/** A server with the field by which its listeners find our object. */
export interface OurServer extends NodeServer {
  [OURS]: NodeListener;
}

export class NodeListener implements ListenerBinding, Origin {
  readonly runtime: HostRuntime;
  readonly server: NodeServer;
  readonly to = undefined;
  readonly unixPath: string | undefined;
  readonly sink: AcceptSink;
  readonly address: Address;
  /** The local address of every connection; undefined if it differs between connections. */
  readonly fixed: Address | undefined;
  /** With TLS: what every connection needs. */
  readonly tls: { readonly settings: TlsSettings; readonly context: NodeSecureContext } | undefined;
  /** The file of a unix socket. */
  readonly file: SocketFile | undefined;
  closing: Promise<void> | undefined;

  constructor(
    runtime: HostRuntime,
    server: NodeServer,
    sink: AcceptSink,
    address: Address,
    tls: NodeListener["tls"],
    file: SocketFile | undefined,
  ) {
    this.file = file;
    this.runtime = runtime;
    this.tls = tls;
    this.server = server;
    this.sink = sink;
    this.address = address;
    this.unixPath = "path" in address ? address.path : undefined;
    this.fixed = fixedAddress(address);
    runtime.openHandles++;
  }

  get fd(): number | undefined {
    const fd = this.server._handle?.fd;
    return fd === undefined || fd < 0 ? undefined : fd;
  }

  pauseAccept(): void {}

  resumeAccept(): void {}

  close(): Promise<void> {
    // The callback of server.close() also waits for the connections, but the port is free as soon as the handle is
    // closed.
    return this.closing ??= new Promise((resolve) => {
      this.file?.remove();
      this.server.close();
      host.setImmediate(() => {
        this.runtime.openHandles--;
        resolve();
      });
    });
  }

  ref(): void {
    this.server.ref();
  }

  unref(): void {
    this.server.unref();
  }
}

/** A connection was accepted, by `net` itself. */
export function onConnection(this: OurServer, socket: OurSocket): void {
  accepted(this[OURS], socket);
  // A 'data' listener makes the socket flow. With TLS it is added after the handshake.
  if (this[OURS].tls === undefined) socket.on("data", onData);
}

/**
 * Creates the sockets of a server as `net` does, but with the option `onread`, which `net` offers only to clients. This
 * uses private parts of Node. If they are missing, `net` creates the sockets, with the same behaviour but slower.
 */
export function acceptWithOnread(server: OurServer, net: NodeNet): void {
  const handle = server._handle;
  const onconnection = handle?.onconnection;
  if (!handle || typeof onconnection !== "function") return;
  handle.onconnection = function (status, client): void {
    if (status !== 0 || client === undefined || typeof client.useUserBuffer !== "function") {
      onconnection.call(this, status, client);
      return;
    }
    client.setNoDelay?.(true);
    const socket = new net.Socket({
      handle: client,
      allowHalfOpen: true,
      highWaterMark: WRITE_AHEAD,
      onread: onread(),
    });
    accepted(server[OURS], socket as OurSocket);
  };
}

function accepted(listener: NodeListener, socket: OurSocket): void {
  const { fixed, sink, tls } = listener;
  const ours = new NodeTransport(listener);
  ours.adopt(socket);
  ours.connected(fixed);
  if (tls !== undefined) ours.secure("server", tls.settings, tls.context);
  ours.sink = sink.onAccept(ours);
}
