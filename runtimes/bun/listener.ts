/**
 * A listening socket of Bun.
 *
 * @module
 */

import type { AcceptSink, Address, ListenerBinding } from "../../core/runtime.ts";
import { host, type HostRuntime, type Origin } from "../shared/host.ts";
import type { SocketFile } from "../shared/socket_file.ts";
import type { TlsSettings } from "../shared/tls.ts";
import type { BunListener } from "../types/bun.ts";

/** A listening socket. */
export class BunListenerBinding implements ListenerBinding, Origin {
  readonly runtime: HostRuntime;
  readonly to = undefined;
  readonly sink: AcceptSink;
  unixPath: string | undefined;
  /** With TLS. */
  readonly settings: TlsSettings | undefined;
  listener: BunListener | undefined;
  /** The file of a unix socket. */
  file: SocketFile | undefined;
  address: Address = { path: "" };
  /** The local address of every connection; undefined if it differs between connections. */
  fixed: Address | undefined;
  closing: Promise<void> | undefined;

  constructor(
    runtime: HostRuntime,
    sink: AcceptSink,
    unixPath: string | undefined,
    settings: TlsSettings | undefined,
  ) {
    this.runtime = runtime;
    this.settings = settings;
    this.sink = sink;
    this.unixPath = unixPath;
  }

  get fd(): number | undefined {
    return this.listener?.fd;
  }

  pauseAccept(): void {}

  resumeAccept(): void {}

  close(): Promise<void> {
    return this.closing ??= new Promise((resolve) => {
      this.file?.remove();
      this.listener?.stop(false);
      host.setImmediate(() => {
        this.runtime.openHandles--;
        resolve();
      });
    });
  }

  ref(): void {
    this.listener?.ref();
  }

  unref(): void {
    this.listener?.unref();
  }
}
