/**
 * As much of `node:tls` and `node:stream` as the adapters use.
 *
 * @module
 */

import type { NodeEmitter, NodeSocket } from "./node.ts";

/** What `tls.createSecureContext()` gives. */
export type NodeSecureContext = object;

/** What a TLS socket is made over: a socket, or a duplex stream. */
export type NodeStream = NodeEmitter;

/** Options of both roles. */
export interface NodeTlsShared {
  secureContext: NodeSecureContext;
  rejectUnauthorized: boolean;
  allowHalfOpen: boolean;
  highWaterMark: number;
  ALPNProtocols?: string[];
}

/** What the server's certificate must be for. */
export interface NodeTlsName {
  host: string;
  /** What the server is told. */
  servername?: string;
  /** What there is against the certificate. */
  checkServerIdentity?: (host: string, certificate: { raw?: Uint8Array }) => Error | undefined;
}

/** `node:tls`. */
export interface NodeTls {
  createSecureContext(options: {
    cert?: string;
    key?: string;
    ca?: string[];
    minVersion?: string;
    maxVersion?: string;
    ciphers?: string;
    sessionIdContext: string;
  }): NodeSecureContext;
  connect(options: NodeTlsShared & NodeTlsName & { socket: NodeStream }): NodeTlsSocket;
  readonly TLSSocket: new (
    raw: NodeStream,
    options: NodeTlsShared & { isServer: true; requestCert: boolean },
  ) => NodeTlsSocket;
}

/** `tls.TLSSocket`. */
export interface NodeTlsSocket extends NodeSocket {
  readonly authorized: boolean;
  readonly authorizationError?: unknown;
  readonly alpnProtocol: string | false | null;
  readonly readableLength: number;
  readonly destroyed: boolean;
  getProtocol(): string | null;
  getPeerCertificate(): { raw?: Uint8Array } | null;
  write(chunk: Uint8Array, done?: (error?: unknown) => void): boolean;
  read(n?: number): Uint8Array | null;
  /** Private to Node, and on Deno too: whether the end is known, though what came before it has not been read. */
  readonly _readableState?: { readonly ended: boolean };
  readonly _handle?: { getpeername?(out: object): number; verifyError?(): unknown } | null;
}

/** `node:crypto`. */
export interface NodeCrypto {
  readonly X509Certificate: new (
    certificate: string | Uint8Array,
  ) => { checkPrivateKey(key: object): boolean; checkIP(address: string): string | undefined };
  createPrivateKey(pem: string): object;
}

/** `node:stream`. */
export interface NodeStreams {
  readonly Duplex: new (options: NodeDuplexOptions) => NodeDuplex;
}

/** What a duplex stream is made from. */
export interface NodeDuplexOptions {
  allowHalfOpen: boolean;
  autoDestroy: boolean;
  readableHighWaterMark: number;
  writableHighWaterMark: number;
  read(): void;
  write(chunk: Uint8Array, encoding: string, done: (error?: unknown) => void): void;
  final(done: (error?: unknown) => void): void;
  destroy(reason: unknown, done: (error?: unknown) => void): void;
}

/** A duplex stream. */
export interface NodeDuplex extends NodeEmitter {
  readonly readableLength: number;
  push(chunk: Uint8Array | null): boolean;
  destroy(reason?: unknown): this;
}
