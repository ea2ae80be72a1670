/**
 * The adapter of Deno: `Deno.listen`, `Deno.connect`, and `read` and `write` of a connection.
 *
 * Never `conn.readable` and `conn.writable`: the streams close the whole connection at EOF, so that nothing can be
 * answered to a peer that has finished (denoland/deno#22258, denoland/deno#27510).
 *
 * @module
 */

import type { EventError } from "../core/errors.ts";
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
import type { StartTlsOptions, TlsInfo, TlsRole } from "../core/tls.ts";
import { DenoTlsConn } from "./tls/deno_conn.ts";
import { secureContext } from "./tls/node_tls.ts";
import { handshakeError, type TlsSettings, tlsSettings } from "./tls/settings.ts";
import type { NodeSecureContext } from "./types/node_tls.ts";
import { denoDatagram } from "./datagram_deno.ts";
import { failure, host, HostRuntime, inet, keeping, show, SILENT, target, WRITE_SLICE } from "./shared.ts";
import type { DenoAddr, DenoConn, DenoConnectOptions, DenoListener } from "./types/deno.ts";
import type { HostAbortController, HostTimer } from "./types/host.ts";

/** What a connection reads into at first, and when it is idle. An idle connection costs its buffer: keep it small. */
const READ_MIN = 4 * 1024;
/** What a connection that brings much reads into. */
const READ_MAX = 64 * 1024;

/** Where connections that are closing put what they drop; that they overwrite one another's bytes is no harm. */
let dropped: Uint8Array | undefined;

function addressOf(addr: DenoAddr): Address | undefined {
  return addr.hostname === undefined ? { path: addr.path ?? "" } : inet(addr.hostname, addr.port);
}

class DenoTransport implements TransportBinding {
  readonly runtime: HostRuntime;
  /** What a client connects to; undefined for what was accepted. */
  readonly to: ConnectOptions | undefined;
  conn: DenoConn | undefined;
  sink: TransportSink;
  local: Address | undefined;
  remote: Address | undefined;
  attempt: HostAbortController | undefined;

  /** What the next bytes are read into: from `filled` on. Bytes before it belong to the core and are left alone. */
  buffer: Uint8Array | undefined;
  filled = 0;
  size = READ_MIN;
  reading = false;
  paused = false;
  /** The peer's FIN was seen. */
  ended = false;

  /** What is being written: one piece at a time. */
  piece: Uint8Array | undefined;
  /** Connected, and neither our FIN was asked for nor anything failed. */
  writable = false;
  /** `write` has returned 0. */
  wanted = false;
  /** Our FIN was asked for. */
  finishing = false;
  /** Our FIN is out. */
  finished = false;

  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  closing = false;
  /** After `release()` or `reset()`: what fails now is no failure. */
  dropped = false;
  /** `onClose` is on its way, or was called. */
  closed = false;
  /** Why writing failed, while what the peer has sent before is still being read. */
  error: EventError | undefined;
  /** Of TLS: from `startTls()`, or for what was accepted with it from the beginning, to the end of the handshake. */
  handshaking = false;
  tls: TlsInfo | undefined;
  /** What begins the handshake when the piece that is being written has left. */
  secureThen: (() => void) | undefined;
  /** Takes the bytes of the read that was under way when the handshake began. */
  handOver: ((chunk: Uint8Array | null) => void) | undefined;
  /** What is asked for while connecting. */
  noDelay = true;
  keepAlive = false;
  referenced = true;

  constructor(runtime: HostRuntime, sink: TransportSink, to: ConnectOptions | undefined) {
    this.runtime = runtime;
    this.sink = sink;
    this.to = to;
    runtime.openHandles++;
  }

  opened(conn: DenoConn): void {
    this.conn = conn;
    this.local = addressOf(conn.localAddr);
    this.remote = addressOf(conn.remoteAddr);
    this.attempt = undefined;
    this.writable = !this.finishing;
    if (this.noDelay) conn.setNoDelay?.(true);
    if (this.keepAlive) conn.setKeepAlive?.(true);
    if (!this.referenced) conn.unref();
    if (this.finishing) this.finish();
  }

  // Reading. The callbacks are made once for each connection, and not once for each read.

  read(): void {
    if (this.reading || this.ended || this.closed) return;
    this.reading = true;
    let into: Uint8Array;
    if (this.closing) into = dropped ??= new Uint8Array(READ_MAX);
    else {
      const buffer = this.buffer ??= new Uint8Array(this.size);
      into = this.filled === 0 ? buffer : buffer.subarray(this.filled);
    }
    this.conn!.read(into).then(this.arrived, this.readFailed);
  }

  arrived: (n: number | null) => void = (n) => {
    this.reading = false;
    if (this.closed) return;
    if (this.handOver !== undefined) return this.hand(n);
    if (n === null) return this.eof();
    if (this.closing) {
      // The buffer of the read that was pending goes with it.
      this.buffer = undefined;
      return this.read();
    }
    const buffer = this.buffer!;
    const start = this.filled;
    const end = this.filled = start + n;
    // Forward, and never again over what the core has: a new buffer when this one is nearly full, a larger one when a
    // whole one was filled at once, and a small one again when little comes.
    if (buffer.length - end < buffer.length / 4) {
      if (start === 0 && end === buffer.length && this.size < READ_MAX) this.size *= 2;
      this.buffer = undefined;
      this.filled = 0;
    } else if (buffer.length > READ_MIN && n < buffer.length / 8) {
      this.size = READ_MIN;
      this.buffer = undefined;
      this.filled = 0;
    }
    this.sink.onData(buffer.subarray(start, end));
    if (!this.paused || this.closing || this.error !== undefined) this.read();
  };

  readFailed: (reason: unknown) => void = (reason) => {
    this.reading = false;
    if (!this.closed) this.fail(reason, "read");
  };

  eof(): void {
    this.ended = true;
    this.buffer = undefined;
    if (this.error !== undefined) return this.end(this.error);
    if (!this.closing) this.sink.onEnd();
    if (this.finished) this.end();
  }

  // Writing.

  write(chunk: Uint8Array): number {
    if (!this.writable || chunk.length === 0) return 0;
    if (this.piece !== undefined) {
      this.wanted = true;
      return 0;
    }
    const piece = chunk.length > WRITE_SLICE ? chunk.subarray(0, WRITE_SLICE) : chunk;
    this.piece = piece;
    this.conn!.write(piece).then(this.wrote, this.writeFailed);
    return piece.length;
  }

  wrote: (n: number) => void = (n) => {
    if (this.closed) return;
    const piece = this.piece!;
    if (n < piece.length) {
      this.piece = piece.subarray(n);
      this.conn!.write(this.piece).then(this.wrote, this.writeFailed);
      return;
    }
    this.piece = undefined;
    if (!this.writable) {
      if (this.secureThen !== undefined) this.secureThen();
      else if (this.finishing) this.finish();
      return;
    }
    if (!this.wanted) return;
    this.wanted = false;
    this.sink.onWritable();
  };

  writeFailed: (reason: unknown) => void = (reason) => {
    if (this.closed) return;
    this.piece = undefined;
    this.writable = false;
    if (this.ended || this.closing) return this.fail(reason, "write");
    // What the peer had sent before it went is still there to be read; then comes the end, or the same failure.
    this.error = failure(keeping(this.remote), reason, "write");
    this.read();
  };

  finish(): void {
    this.conn!.closeWrite().then(this.finWent, this.writeFailed);
  }

  finWent: () => void = () => {
    if (this.closed) return;
    this.finished = true;
    if (this.ended || this.dropped) this.end();
    // A peer that does not finish shall not keep the process alive once it has all that we had to say.
    else if (this.closing) this.conn!.unref();
  };

  shutdownWrite(): void {
    if (this.finishing || this.closed) return;
    this.finishing = true;
    this.writable = false;
    if (this.conn !== undefined && this.piece === undefined && !this.handshaking) this.finish();
  }

  // TLS.

  get securing(): string {
    return `make a TLS connection with ${show((this.remote ?? this.to ?? {}) as { path?: string })}`;
  }

  startTls(role: TlsRole, options: StartTlsOptions): void {
    if (this.conn === undefined || this.closing || this.closed) return;
    this.handshaking = true;
    this.writable = false;
    const pending = this.reading ? new Promise<Uint8Array | null>((resolve) => this.handOver = resolve) : undefined;
    // Nothing more is read in the clear, also not while the last piece is being written.
    this.reading = true;
    this.secureThen = () => {
      this.secureThen = undefined;
      try {
        const settings = tlsSettings(options);
        this.secure(role, settings, secureContext(settings, this.securing), pending);
      } catch (reason) {
        host.queueMicrotask(() => this.closed || this.end(handshakeError(this.securing, reason)));
      }
    };
    if (this.piece === undefined) this.secureThen();
  }

  /** What the read has brought belongs to TLS. */
  hand(n: number | null): void {
    const chunk = n === null ? null : this.buffer!.subarray(this.filled, this.filled + n);
    this.handOver!(chunk);
    this.handOver = this.buffer = undefined;
    this.filled = 0;
    this.reading = true;
  }

  /** Puts TLS over the connection, and has it in its place from here on. */
  secure(
    role: TlsRole,
    settings: TlsSettings,
    context: NodeSecureContext,
    pending?: Promise<Uint8Array | null>,
  ): void {
    this.handshaking = this.reading = true;
    this.writable = false;
    const peer = show((this.remote ?? {}) as { path?: string });
    const conn = this.conn = new DenoTlsConn(this.conn!, role, settings, context, pending, peer);
    conn.secured.then((info) => {
      if (this.closed) return;
      this.tls = info;
      this.handshaking = this.reading = false;
      this.writable = !this.finishing;
      this.sink.onSecure();
      if (!this.paused) this.read();
    }, (reason) => this.closed || this.end(handshakeError(this.securing, reason)));
  }

  // The end.

  fail(reason: unknown, syscall: string): void {
    this.end(this.error ?? failure(keeping(this.remote), reason, syscall));
  }

  /** Lets go and says why. Only from callbacks of the host. */
  end(error?: EventError): void {
    this.letGo();
    this.sink.onClose(this.dropped ? undefined : error);
  }

  letGo(): void {
    this.closed = true;
    this.writable = false;
    this.buffer = undefined;
    this.piece = undefined;
    if (this.conn === undefined) return;
    this.runtime.openHandles--;
    this.conn.close();
  }

  close(): void {
    if (this.closing || this.closed) return;
    if (this.conn === undefined || this.handshaking) return this.reset();
    this.shutdownWrite();
    this.closing = true;
    if (this.finished) this.conn.unref();
    // What still arrives is dropped, and the peer's end must be seen.
    this.read();
  }

  release(): void {
    if (this.closed) return;
    this.close();
    this.dropped = true;
    // What is being written has to leave before: it goes with the connection.
    if (this.finished) this.drop();
  }

  /** Deno has no way to send a RST. */
  reset(): void {
    this.closing = this.dropped = true;
    if (this.closed) return;
    this.drop();
    this.attempt?.abort();
  }

  /** Lets go. From the core's calls, in which nothing is told. */
  drop(): void {
    this.letGo();
    host.queueMicrotask(() => this.sink.onClose());
  }

  pauseRead(): void {
    this.paused = true;
  }

  resumeRead(): void {
    if (!this.paused) return;
    this.paused = false;
    if (this.conn !== undefined) this.read();
  }

  setNoDelay(on: boolean): void {
    this.noDelay = on;
    if (!this.closed) this.conn?.setNoDelay?.(on);
  }

  setKeepAlive(on: boolean, _delayMs: number): void {
    this.keepAlive = on;
    if (!this.closed) this.conn?.setKeepAlive?.(on);
  }

  ref(): void {
    this.referenced = true;
    if (!this.closed) this.conn?.ref();
  }

  unref(): void {
    this.referenced = false;
    if (!this.closed) this.conn?.unref();
  }
}

/**
 * What a failed `accept` says of one connection, and not of the listener. Deno asks for the addresses before it gives the
 * connection away: one that was reset meanwhile has none (ENOTCONN, EINVAL on macOS).
 */
const RETRIABLE: readonly string[] = ["ECONNABORTED", "ECONNRESET", "EINTR", "EINVAL", "ENOTCONN", "EPROTO"];

class DenoListenerBinding implements ListenerBinding {
  readonly runtime: HostRuntime;
  readonly listener: DenoListener;
  readonly sink: AcceptSink;
  readonly address: Address;
  /** With TLS: what every connection needs. */
  readonly tls: { readonly settings: TlsSettings; readonly context: NodeSecureContext } | undefined;
  accepting = false;
  paused = false;
  /** How long to wait after a failed `accept`: the failure would come again at once. */
  backoffMs = 10;
  timer: HostTimer | undefined;
  closing: Promise<void> | undefined;
  freed: (() => void) | undefined;

  constructor(runtime: HostRuntime, listener: DenoListener, sink: AcceptSink, tls: DenoListenerBinding["tls"]) {
    this.tls = tls;
    this.runtime = runtime;
    this.listener = listener;
    this.sink = sink;
    this.address = addressOf(listener.addr)!;
    runtime.openHandles++;
  }

  accept(): void {
    if (this.accepting || this.paused || this.timer !== undefined || this.closing !== undefined) return;
    this.accepting = true;
    this.listener.accept().then(this.accepted, this.acceptFailed);
  }

  accepted: (conn: DenoConn) => void = (conn) => {
    this.accepting = false;
    this.backoffMs = 10;
    if (this.closing !== undefined) {
      conn.close();
      return this.freed?.();
    }
    this.accept();
    const ours = new DenoTransport(this.runtime, SILENT, undefined);
    ours.opened(conn);
    if (this.tls !== undefined) ours.secure("server", this.tls.settings, this.tls.context);
    ours.sink = this.sink.onAccept(ours);
    if (!ours.paused) ours.read();
  };

  acceptFailed: (reason: unknown) => void = (reason) => {
    this.accepting = false;
    if (this.closing !== undefined) return this.freed?.();
    const error = failure(`accept on ${show(this.address as { path?: string })}`, reason, "accept");
    if (RETRIABLE.includes(error.code)) return this.accept();
    this.timer = host.setTimeout(() => {
      this.timer = undefined;
      this.accept();
    }, this.backoffMs);
    this.backoffMs = Math.min(this.backoffMs * 2, 1000);
    this.sink.onError(error);
  };

  pauseAccept(): void {
    this.paused = true;
  }

  resumeAccept(): void {
    this.paused = false;
    this.accept();
  }

  close(): Promise<void> {
    return this.closing ??= new Promise((resolve) => {
      this.freed = () => {
        this.runtime.openHandles--;
        resolve();
      };
      if (this.timer !== undefined) host.clearTimeout(this.timer);
      this.listener.close();
      // The port is free when the pending accept has gone.
      if (!this.accepting) host.setImmediate(this.freed);
    });
  }

  ref(): void {
    this.listener.ref();
  }

  unref(): void {
    this.listener.unref();
  }
}

class DenoRuntime extends HostRuntime {
  readonly name = "deno";
  readonly capabilities: Readonly<Capabilities>;

  constructor() {
    super();
    const os = host.Deno!.build.os;
    this.capabilities = {
      // Without --unstable-net the mere option ends the process (exit code 70); the flag also brings listenDatagram.
      reusePort: os === "linux" && typeof host.Deno!.listenDatagram === "function",
      reset: false,
      halfOpen: true,
      ipv6Only: false,
      backlog: true,
      localAddress: false,
      keepAliveDelay: false,
      pauseAccept: true,
      unix: os !== "windows",
      abstractUnix: os === "linux",
      udp: typeof host.Deno!.listenDatagram === "function",
      signals: true,
      files: true,
      tls: true,
      startTlsServer: true,
      startTlsClient: true,
      tlsTruncation: true,
    };
  }

  // deno-lint-ignore require-await -- what is thrown becomes the rejection
  async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    const at = target(
      "listen on",
      options,
      this.capabilities,
      "sharing a port (reusePort) on Deno takes Linux and the flag --unstable-net",
    );
    const settings = options.tls === undefined ? undefined : tlsSettings(options.tls);
    const tls = settings === undefined
      ? undefined
      : { settings, context: secureContext(settings, `listen on ${show(at)}`) };
    let listener: DenoListener;
    try {
      listener = host.Deno!.listen({
        ...(at.path === undefined ? { hostname: at.hostname, port: at.port } : { transport: "unix", path: at.path }),
        ...(options.backlog === undefined ? undefined : { tcpBacklog: options.backlog }),
        ...(options.reusePort === true ? { reusePort: true } : undefined),
      });
    } catch (reason) {
      throw failure(`listen on ${show(at)}`, reason, "listen");
    }
    const ours = new DenoListenerBinding(this, listener, sink, tls);
    ours.accept();
    return ours;
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
      ours.closed = true;
      sink.onClose(failure(`connect to ${show(options)}`, reason, "connect"));
    });
    return ours;
  }

  // deno-lint-ignore require-await -- what is thrown becomes the rejection
  async #connect(options: ConnectOptions, ours: DenoTransport): Promise<DenoConn> {
    const at = target("connect to", options, this.capabilities);
    if (at.path !== undefined) return host.Deno!.connect({ transport: "unix", path: at.path });
    const attempt = ours.attempt = new host.AbortController();
    return host.Deno!.connect({ hostname: at.hostname, port: at.port, signal: attempt.signal } as DenoConnectOptions);
  }

  datagram(options: DatagramOptions, sink: DatagramSink): Promise<DatagramBinding> {
    return denoDatagram(this, options, sink);
  }
}

let runtime: Runtime | undefined;

/**
 * Gives the runtime of this Deno process.
 *
 * @returns The one instance
 */
export function denoRuntime(): Runtime {
  return runtime ??= new DenoRuntime();
}
