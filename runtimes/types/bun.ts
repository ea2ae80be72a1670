/**
 * As much of Bun as the adapter uses.
 *
 * @module
 */

/** The global `Bun`. */
export interface BunHost {
  readonly version: string;
  listen(options: BunListenOptions): BunListener;
  connect(options: BunConnectOptions): Promise<BunSocket>;
}

/** What `Bun.listen()` takes. */
export interface BunListenOptions {
  hostname?: string;
  port?: number;
  unix?: string;
  /** Neither typed nor documented: a socket that listens already. */
  fd?: number;
  allowHalfOpen: boolean;
  reusePort?: boolean;
  ipv6Only?: boolean;
  tls?: BunTls;
  data: unknown;
  socket: BunHandlers;
}

/** Options of TLS. */
export interface BunTls {
  cert?: string;
  key?: string;
  ca?: string[];
  serverName?: string;
  /** As on the wire: each name behind its length. */
  ALPNProtocols?: string;
  requestCert?: boolean;
  rejectUnauthorized?: boolean;
  /** The number of the version, as on the wire. */
  minVersion?: number;
  maxVersion?: number;
  ciphers?: string;
}

/** What `Bun.connect()` takes. */
export interface BunConnectOptions {
  hostname?: string;
  port?: number;
  unix?: string;
  localAddress?: string;
  allowHalfOpen: boolean;
  data: unknown;
  socket: BunHandlers;
}

/** The handlers that all sockets share. */
export interface BunHandlers {
  readonly binaryType: "uint8array";
  open(socket: BunSocket): void;
  data(socket: BunSocket, chunk: Uint8Array): void;
  drain(socket: BunSocket): void;
  end(socket: BunSocket): void;
  close(socket: BunSocket, error?: unknown): void;
  error(socket: BunSocket, error: unknown): void;
  handshake(socket: BunSocket, success: boolean, error: unknown): void;
  connectError(socket: BunSocket, error: unknown): void;
}

/** A listening socket. */
export interface BunListener {
  readonly hostname?: string;
  readonly port?: number;
  readonly fd?: number;
  /** Neither typed nor documented; Bun's own `node:net` has it. */
  getsockname?(out: { address?: string; port?: number }): void;
  stop(closeActive?: boolean): void;
  ref(): void;
  unref(): void;
}

/** A connected socket. */
export interface BunSocket {
  data: unknown;
  readonly localAddress?: string;
  readonly localPort?: number;
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  readonly bytesWritten: number;
  write(chunk: Uint8Array, start?: number, length?: number): number;
  shutdown(): void;
  end(): void;
  terminate(): void;
  pause(): void;
  resume(): void;
  setNoDelay(on: boolean): boolean;
  setKeepAlive(on: boolean, delayMs: number): boolean;
  /** Gives the socket for the encrypted bytes and the one over it. */
  upgradeTLS(options: {
    data: unknown;
    tls: BunTls;
    isServer: boolean;
    socket: BunHandlers;
  }): readonly [raw: BunSocket, secure: BunSocket];
  readonly authorized?: boolean;
  readonly alpnProtocol?: string | false | null;
  getTLSVersion?(): string | null;
  getPeerCertificate?(): { raw?: Uint8Array } | null | undefined;
  ref(): void;
  unref(): void;
}
