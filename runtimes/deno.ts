/**
 * The adapter of Deno: `Deno.listen`, `Deno.connect`, and `read` and `write` of a connection.
 *
 * `conn.readable` and `conn.writable` are never used. These streams close the whole connection at EOF, so a peer that
 * has finished gets no answer (denoland/deno#22258, denoland/deno#27510).
 *
 * @module
 */

import type {
  AcceptSink,
  Address,
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
import { preparedTls, secureContext } from "./shared/node_tls.ts";
import { tlsSettings } from "./shared/tls.ts";
import { denoDatagram } from "./deno/datagram.ts";
import { failure, host, HostRuntime, type ListenTarget, listenTarget, show, target } from "./shared/host.ts";
import { checkListening, fdFailure } from "./shared/socket_fd.ts";
import { bindPath, type SocketFile } from "./shared/socket_file.ts";
import type { DenoConn, DenoListener, DenoListenOptions } from "./types/deno.ts";
import { DenoListenerBinding } from "./deno/listener.ts";
import { NodeDenoListener } from "./deno/node_conn.ts";
import { checkVersion, isAtLeast, takes } from "./shared/versions.ts";
import { addressOf, CLOSED, DenoTransport } from "./deno/transport.ts";
import { afterDenoPoll } from "./deno/progress.ts";

/** A socket that listens. */
interface Bound {
  readonly listener: DenoListener;
  readonly address: Address;
  readonly file: SocketFile | undefined;
}

class DenoRuntime extends HostRuntime {
  readonly name = "deno";
  readonly findByte = null;
  readonly capabilities: Readonly<Capabilities>;

  constructor() {
    super();
    const { build: { os }, version: { deno: version } } = host.Deno!;
    checkVersion("Deno", version, isAtLeast(version, "2.9.0"), "2.9.0", "hangs, and loses what comes before a reset");
    // Before 2.9.3 Deno reports a clean end of TLS as a truncated one.
    const tls = isAtLeast(version, "2.9.3");
    const noTls = takes("Deno", "2.9.3", version);
    const unstable = typeof host.Deno!.listenDatagram === "function";
    this.capabilities = {
      // Without --unstable-net the option alone ends the process (exit code 70). The flag also adds listenDatagram.
      reusePort: os === "linux" && unstable,
      reset: false,
      ipv6Only: false,
      backlog: true,
      localAddress: false,
      keepAliveDelay: false,
      keepAliveProbes: false,
      pauseAccept: true,
      listenFd: os !== "windows",
      unix: os !== "windows",
      abstractUnix: os === "linux",
      udp: unstable,
      multicast: unstable,
      multicastOptions: false,
      broadcast: unstable,
      reuseAddress: unstable,
      signals: true,
      files: true,
      tls,
      startTlsServer: tls,
      startTlsClient: tls,
      startTlsUnread: tls,
      tlsTruncation: tls,
    };
    this.lacks = {
      reusePort: "it takes Linux and the flag --unstable-net",
      udp: "it takes the flag --unstable-net",
      multicast: "it takes the flag --unstable-net",
      multicastOptions: "Deno has no options for sending to multicast groups (denoland/deno#10706)",
      broadcast: "it takes the flag --unstable-net",
      reuseAddress: "it takes the flag --unstable-net",
      listenFd: "Windows has no such descriptors",
      abstractUnix: "it takes Linux",
      keepAliveDelay: "Deno can only switch keep-alive on and off (denoland/deno#35634)",
      keepAliveProbes: "Deno can only switch keep-alive on and off (denoland/deno#35634)",
      tls: noTls,
      startTlsServer: noTls,
      startTlsClient: noTls,
      startTlsUnread: noTls,
    };
  }

  override poll(fn: () => void): void {
    afterDenoPoll(this.openHandles, fn);
  }

  async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    const at = listenTarget(this, options);
    const tried = `listen on ${show(at)}`;
    const settings = options.tls === undefined ? undefined : tlsSettings(options.tls);
    const tls = settings === undefined ? undefined : { settings, context: secureContext(settings, tried) };
    try {
      const { listener, file, address } = await this.#open(tried, at, options);
      const ours = new DenoListenerBinding(this, listener, sink, address, tls, file, at.fd);
      ours.accept();
      return ours;
    } catch (reason) {
      throw at.fd === undefined ? failure(tried, reason, "listen") : fdFailure(tried, reason);
    }
  }

  async #open(tried: string, at: ListenTarget, options: ListenOptions): Promise<Bound> {
    const bind = (where: DenoListenOptions): DenoListener =>
      host.Deno!.listen({
        ...where,
        ...(options.backlog === undefined ? undefined : { tcpBacklog: options.backlog }),
        ...(options.reusePort === true ? { reusePort: true } : undefined),
      });
    if (at.fd !== undefined) {
      const listener = await NodeDenoListener.listen(at.fd, options.backlog, checkListening(tried, at.fd));
      return { listener, address: addressOf(listener.addr)!, file: undefined };
    }
    if (at.path === undefined) {
      const listener = bind({ hostname: at.hostname, port: at.port });
      return { listener, address: addressOf(listener.addr)!, file: undefined };
    }
    const { path } = at;
    const bound = await bindPath(tried, path, options, {
      mayName: this.#mayName(path),
      bind: (name) => bind({ transport: "unix", path: name }),
      close: (listener) => listener.close(),
    });
    return { ...bound, address: { path } };
  }

  prepareTls(_role: TlsRole, options: StartTlsOptions): void {
    preparedTls(options, "use TLS");
  }

  /** Whether the program may use other names beside a path. Without the permissions, Deno would prompt for them. */
  #mayName(path: string): boolean {
    const { permissions } = host.Deno!;
    const directory = path.slice(0, path.lastIndexOf("/") + 1) || ".";
    return [{ name: "net" } as const, ...(["read", "write"] as const).map((name) => ({ name, path: directory }))]
      .every((permission) => {
        const { state, partial } = permissions.querySync(permission);
        return state === "granted" && !partial;
      });
  }

  /**
   * A permission may be for a name alone (`--allow-net=localhost:80`) or may exclude one (`--deny-net=localhost`). Deno
   * checks the name that it is given. So unless everything is allowed, it must get the name and not an address.
   */
  takesName({ hostname, port, family }: ListenOptions | ConnectOptions): boolean {
    const { permissions } = host.Deno!;
    const { state, partial } = permissions.querySync({ name: "net" });
    if (state === "granted" && !partial) return false;
    // Deno has no option for a family. If the name is permitted, the core looks it up; the address must be permitted
    // too.
    return family === undefined ||
      permissions.requestSync({ name: "net", host: `${hostname}:${port}` }).state !== "granted";
  }

  connect(options: ConnectOptions, sink: TransportSink): TransportBinding {
    const ours = new DenoTransport(this, sink, options);
    this.#connect(options, ours).then((conn) => {
      if (ours.closed) {
        this.openHandles--;
        return conn.close();
      }
      ours.opened(conn);
      sink.onConnect();
      if (!ours.paused) ours.read();
    }, (reason: unknown) => {
      this.openHandles--;
      if (ours.closed) return;
      ours.state |= CLOSED;
      sink.onClose(failure(`connect to ${show(options)}`, reason, "connect"));
    });
    return ours;
  }

  // deno-lint-ignore require-await -- what is thrown becomes the rejection
  async #connect(options: ConnectOptions, ours: DenoTransport): Promise<DenoConn> {
    const at = target(this, "connect to", options);
    if (at.path !== undefined) return host.Deno!.connect({ transport: "unix", path: at.path });
    const attempt = ours.attempt = new host.AbortController();
    return host.Deno!.connect({
      hostname: at.hostname,
      port: at.port,
      signal: attempt.signal,
      ...(options.attemptDelayMs === undefined ? undefined : { autoSelectFamilyAttemptDelay: options.attemptDelayMs }),
    });
  }

  datagram(options: DatagramOptions, sink: DatagramSink): Promise<DatagramBinding> {
    return denoDatagram(this, options, sink);
  }
}

let runtime: Runtime | undefined;

/**
 * Returns the runtime of this Deno process.
 *
 * @returns The one instance
 * @throws {EventError} `EV_UNSUPPORTED` if this is not Deno, or a Deno that is too old
 */
export function denoRuntime(): Runtime {
  if (host.Deno === undefined) {
    throw new EventError("Cannot give the runtime of Deno: this is not Deno", { code: "EV_UNSUPPORTED" });
  }
  return runtime ??= new DenoRuntime();
}
