/**
 * As much of Deno as the adapter uses.
 *
 * @module
 */

import type { AbortSignalLike } from "../../core/runtime.ts";

/** The global `Deno`. */
export interface DenoHost {
  readonly build: { readonly os: string };
  /** Only there with `--unstable-net`. */
  readonly listenDatagram?: unknown;
  readonly version: { readonly deno: string };
  readonly permissions: {
    querySync(permission: DenoNetPermission | DenoPathPermission): DenoPermissionStatus;
    requestSync(permission: DenoNetPermission): DenoPermissionStatus;
  };
  listen(options: DenoListenOptions): DenoListener;
  connect(options: DenoConnectOptions): Promise<DenoConn>;
}

/** A permission of the network: all of it, or one host with or without a port. */
export interface DenoNetPermission {
  name: "net";
  host?: string;
}

/** A permission of the file system. */
export interface DenoPathPermission {
  name: "read" | "write";
  path: string;
}

/** What may be done. */
export interface DenoPermissionStatus {
  readonly state: "granted" | "denied" | "prompt";
  /** Granted, but with exceptions. */
  readonly partial: boolean;
}

/** What `Deno.listen()` takes. */
export interface DenoListenOptions {
  transport?: "unix";
  hostname?: string;
  port?: number;
  path?: string;
  tcpBacklog?: number;
  reusePort?: boolean;
}

/** What `Deno.connect()` takes. */
export interface DenoConnectOptions {
  transport?: "unix";
  hostname?: string;
  port?: number;
  path?: string;
  signal?: AbortSignalLike;
  /** Of a name with several addresses, in milliseconds. */
  autoSelectFamilyAttemptDelay?: number;
}

/** An address. */
export interface DenoAddr {
  readonly hostname?: string;
  readonly port?: number;
  readonly path?: string | null;
}

/** A listening socket. */
export interface DenoListener {
  readonly addr: DenoAddr;
  accept(): Promise<DenoConn>;
  close(): void;
  ref(): void;
  unref(): void;
}

/** A connection. */
export interface DenoConn {
  readonly localAddr: DenoAddr;
  readonly remoteAddr: DenoAddr;
  read(into: Uint8Array): Promise<number | null>;
  write(chunk: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  close(): void;
  ref(): void;
  unref(): void;
  /** Not there on a unix socket. */
  setNoDelay?(on: boolean): void;
  /** Not there on a unix socket. */
  setKeepAlive?(on: boolean): void;
}
