/**
 * The adapter of Bun: `Bun.listen` and `Bun.connect`.
 *
 * `socket.end()` is not used on an open connection. It closes both directions at once, and if the peer is still
 * sending, bytes that the kernel has taken are lost (oven-sh/bun#35947, oven-sh/bun#41785). `shutdown()` is the
 * half-close. Bun closes the socket by itself once both directions are finished.
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
import type { StartTlsOptions, TlsRole } from "../core/tls.ts";
import { preparedTls } from "./shared/node_tls.ts";
import { tlsError, tlsSettings } from "./shared/tls.ts";
import { bunTls } from "./bun/tls.ts";
import { bunDatagram } from "./bun/datagram.ts";
import {
  afterImmediates,
  failure,
  fixedAddress,
  host,
  HostRuntime,
  inet,
  listenTarget,
  show,
  target,
} from "./shared/host.ts";
import { checkVersion, isAtLeast } from "./shared/versions.ts";
import { checkListening, fdFailure } from "./shared/socket_fd.ts";
import { bindPath } from "./shared/socket_file.ts";
import type { BunListener } from "./types/bun.ts";
import { BunListenerBinding } from "./bun/listener.ts";
import { BunTransport, CLOSED, FEW, HANDLERS } from "./bun/transport.ts";

/** One poll of Bun takes this many events from the system. Events of further sockets come with the next poll. */
const POLL_EVENTS = 1024;

class BunRuntime extends HostRuntime {
  readonly name = "bun";
  readonly cheapCopyBytes = FEW;
  readonly capabilities: Readonly<Capabilities>;

  constructor() {
    super();
    // Up to 1.3, bytes are lost in a pause, and no certificate is verified (oven-sh/bun#33846, oven-sh/bun#34798). In
    // 1.4.0 a reset drops bytes that wait behind a pause, and a half-close of TLS is a reset.
    const { version } = host.Bun!;
    const why = "loses bytes, and does not verify certificates as it should";
    checkVersion("Bun", version, isAtLeast(version, "1.4.1"), "1.4.1", why);
    const platform = host.process?.platform;
    this.capabilities = {
      reusePort: platform === "linux",
      reset: true,
      ipv6Only: true,
      backlog: false,
      localAddress: true,
      keepAliveDelay: true,
      keepAliveProbes: false,
      pauseAccept: false,
      // Neither typed nor documented (oven-sh/bun#22559), and there since 1.4.1 at the latest.
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
      // Bun reports the end of TCP as the end, with or without a close_notify before it.
      tlsTruncation: false,
    };
    this.lacks = { reusePort: "it takes Linux", abstractUnix: "it takes Linux" };
  }

  override poll(fn: () => void): void {
    afterImmediates(2 + Math.floor(this.openHandles / POLL_EVENTS), fn);
  }

  async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    const at = listenTarget(this, options);
    const tried = `listen on ${show(at)}`;
    const settings = options.tls === undefined ? undefined : tlsSettings(options.tls);
    const ours = new BunListenerBinding(this, sink, at.path, settings);
    try {
      // reusePort and ipv6Only are typed for connect() and work here (oven-sh/bun#41899).
      const bind = (where: { hostname: string; port: number } | { unix: string } | { fd: number }): BunListener =>
        host.Bun!.listen({
          ...where,
          ...(options.ipv6Only === undefined ? undefined : { ipv6Only: options.ipv6Only }),
          ...(options.reusePort === undefined ? undefined : { reusePort: options.reusePort }),
          ...(settings === undefined ? undefined : { tls: bunTls("server", settings) }),
          allowHalfOpen: true,
          data: ours,
          socket: HANDLERS,
        });
      if (at.fd !== undefined) {
        const path = checkListening(tried, at.fd);
        const listener = ours.listener = bind({ fd: at.fd });
        const out: { address?: string; port?: number } = {};
        listener.getsockname?.(out);
        ours.address = inet(out.address, out.port) ?? { path: path ?? "" };
        if ("path" in ours.address) ours.unixPath = ours.address.path;
      } else if (at.path === undefined) {
        const listener = ours.listener = bind({ hostname: at.hostname, port: at.port });
        ours.address = inet(listener.hostname ?? at.hostname, listener.port)!;
      } else {
        const bound = await bindPath(tried, at.path, options, {
          mayName: true,
          bind: (unix) => bind({ unix }),
          close: (listener) => listener.stop(false),
        });
        ours.listener = bound.listener;
        ours.file = bound.file;
        ours.address = { path: at.path };
      }
      ours.fixed = fixedAddress(ours.address);
    } catch (reason) {
      if (settings !== undefined && !/^E[A-Z]+$/.test(String((reason as { code?: unknown }).code))) {
        throw tlsError("ERR_TLS_OPTIONS", tried, reason);
      }
      throw at.fd === undefined ? failure(tried, reason, "listen") : fdFailure(tried, reason);
    }
    this.openHandles++;
    return ours;
  }

  prepareTls(_role: TlsRole, options: StartTlsOptions): void {
    preparedTls(options, "use TLS");
  }

  connect(options: ConnectOptions, sink: TransportSink): TransportBinding {
    const ours = new BunTransport({ runtime: this, to: options, unixPath: options.path }, sink);
    // Bun reports ECONNREFUSED also for EHOSTUNREACH, ENETUNREACH and ETIMEDOUT. The real code is lost
    // (oven-sh/bun#37093).
    this.#connect(options, ours).catch((reason: unknown) => {
      this.openHandles--;
      if (ours.closed) return;
      ours.state |= CLOSED;
      sink.onClose(failure(`connect to ${show(options)}`, reason, "connect"));
    });
    return ours;
  }

  async #connect(options: ConnectOptions, ours: BunTransport): Promise<void> {
    const at = target(this, "connect to", options);
    await host.Bun!.connect({
      ...(at.path === undefined ? { hostname: at.hostname, port: at.port } : { unix: at.path }),
      ...(options.localAddress === undefined ? undefined : { localAddress: options.localAddress }),
      allowHalfOpen: true,
      data: ours,
      socket: HANDLERS,
    });
  }

  datagram(options: DatagramOptions, sink: DatagramSink): Promise<DatagramBinding> {
    return bunDatagram(this, options, sink);
  }
}

let runtime: Runtime | undefined;

/**
 * Returns the runtime of this Bun process.
 *
 * @returns The one instance
 * @throws {EventError} `EV_UNSUPPORTED` if this is not Bun, or a Bun that is too old
 */
export function bunRuntime(): Runtime {
  if (host.Bun === undefined) {
    throw new EventError("Cannot give the runtime of Bun: this is not Bun", { code: "EV_UNSUPPORTED" });
  }
  return runtime ??= new BunRuntime();
}
