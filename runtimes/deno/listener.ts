/**
 * A listening socket of Deno: one `accept` at a time.
 *
 * @module
 */

import type { AcceptSink, Address, ListenerBinding } from "../../core/runtime.ts";
import { failure, host, type HostRuntime, show, SILENT } from "../shared/host.ts";
import type { SocketFile } from "../shared/socket_file.ts";
import type { TlsSettings } from "../shared/tls.ts";
import type { DenoConn, DenoListener } from "../types/deno.ts";
import type { HostTimer } from "../types/host.ts";
import type { NodeSecureContext } from "../types/node_tls.ts";
import { DenoTransport } from "./transport.ts";

/**
 * Errors of `accept` that concern one connection and not the listener. Deno reads the addresses before it returns a
 * connection. One that was reset meanwhile has no addresses (ENOTCONN, EINVAL on macOS).
 */
const RETRIABLE: readonly string[] = ["ECONNABORTED", "ECONNRESET", "EINTR", "EINVAL", "ENOTCONN", "EPROTO"];

/** A listening socket. */
export class DenoListenerBinding implements ListenerBinding {
  readonly runtime: HostRuntime;
  readonly listener: DenoListener;
  readonly sink: AcceptSink;
  readonly address: Address;
  /** With TLS: what every connection needs. */
  readonly tls: { readonly settings: TlsSettings; readonly context: NodeSecureContext } | undefined;
  accepting = false;
  paused = false;
  /** How long to wait after a failed `accept`. Without the wait it would fail again at once. */
  backoffMs = 10;
  timer: HostTimer | undefined;
  closing: Promise<void> | undefined;
  freed: (() => void) | undefined;

  /** The file of a unix socket. */
  readonly file: SocketFile | undefined;
  /** The descriptor that it was given. Deno does not tell that of a socket of its own. */
  readonly fd: number | undefined;

  constructor(
    runtime: HostRuntime,
    listener: DenoListener,
    sink: AcceptSink,
    address: Address,
    tls: DenoListenerBinding["tls"],
    file: SocketFile | undefined,
    fd: number | undefined,
  ) {
    this.tls = tls;
    this.fd = fd;
    this.file = file;
    this.runtime = runtime;
    this.listener = listener;
    this.sink = sink;
    this.address = address;
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
    try {
      this.give(conn);
    } finally {
      // The next accept begins after the callback: the callback may stop the listener, and an accept that has begun
      // cannot be cancelled.
      this.accept();
    }
  };

  give(conn: DenoConn): void {
    const ours = new DenoTransport(this.runtime, SILENT, undefined);
    ours.opened(conn);
    // Deno reports the name that was bound.
    if ("path" in this.address) ours.local = this.address;
    if (this.tls !== undefined) ours.secure("server", this.tls.settings, this.tls.context);
    ours.sink = this.sink.onAccept(ours);
    if (!ours.paused) ours.read();
  }

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
      this.file?.remove();
      this.listener.close();
      // The port is free when the pending accept has ended.
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
