/** TLS as options and as news: what is asked for, and what a handshake has found. The protocol itself is the host's. */

import { checkNoNul, isBytes, isList, show } from "./checks.ts";
import { type Names, readOptions } from "./names.ts";

/**
 * Certificates or keys in PEM, as text or as its bytes. Several certificates may stand one after the other.
 */
export type Pem = string | Uint8Array;

/** What both roles of TLS take. */
export interface TlsOptions {
  /** Our certificate, followed by those between it and the authority. The server needs one. */
  cert?: Pem | undefined;
  /** The private key of `cert`, not encrypted. */
  key?: Pem | undefined;
  /** The authorities that may have signed the peer's certificate, in place of those that the host trusts. */
  ca?: Pem | readonly Pem[] | undefined;
  /** What is spoken inside, most wanted first: `["h2", "http/1.1"]`. */
  alpnProtocols?: readonly string[] | undefined;
  /** Whether a peer whose certificate can't be verified is refused. @default {true} */
  rejectUnauthorized?: boolean | undefined;
  /** How long the handshake may take, in milliseconds; it then fails with `ETIMEDOUT`. @default {10000} */
  handshakeTimeoutMs?: number | undefined;
}

/**
 * TLS on accepted connections.
 *
 * libevent: `bufferevent_openssl_socket_new` with `BUFFEREVENT_SSL_ACCEPTING`.
 */
export interface TlsListenOptions extends TlsOptions {
  /** Our certificate, followed by those between it and the authority. */
  cert: Pem;
  /** The private key of `cert`, not encrypted. */
  key: Pem;
  /**
   * Whether clients are asked for a certificate. One that has none, or none that can be verified, is refused, unless
   * `rejectUnauthorized` is false; `authorized` then tells. @default {false}
   */
  requestCert?: boolean | undefined;
}

/**
 * TLS on a connection that we make.
 *
 * libevent: `bufferevent_openssl_socket_new` with `BUFFEREVENT_SSL_CONNECTING`.
 */
export interface TlsConnectOptions extends TlsOptions {
  /**
   * The name that the server's certificate must have, and that the server is told (SNI). By default the host name or
   * numeric address that is connected to; `localhost` for a path. A numeric address is not told: the certificate must have it
   * as an address.
   */
  serverName?: string | undefined;
}

/** What `SocketBufferEvent.startTls()` takes: the options of the role that it plays. */
export interface StartTlsOptions extends TlsConnectOptions {
  /** Who answers the handshake. By default `client` for a connection that we made, `server` for one that we accepted. */
  role?: TlsRole | undefined;
  /** For the server: as {@linkcode TlsListenOptions.requestCert}. @default {false} */
  requestCert?: boolean | undefined;
}

const TLS_LISTEN_OPTIONS: Names<TlsListenOptions> = {
  cert: true,
  key: true,
  ca: true,
  alpnProtocols: true,
  rejectUnauthorized: true,
  handshakeTimeoutMs: true,
  requestCert: true,
};
const TLS_CONNECT_OPTIONS: Names<TlsConnectOptions> = {
  cert: true,
  key: true,
  ca: true,
  alpnProtocols: true,
  rejectUnauthorized: true,
  handshakeTimeoutMs: true,
  serverName: true,
};
const START_TLS_OPTIONS: Names<StartTlsOptions> = {
  cert: true,
  key: true,
  ca: true,
  alpnProtocols: true,
  rejectUnauthorized: true,
  handshakeTimeoutMs: true,
  serverName: true,
  role: true,
  requestCert: true,
};

/** Who we are in the handshake. */
export type TlsRole = "client" | "server";

/** What a handshake has found. What a host does not tell is undefined. */
export interface TlsInfo {
  /** `TLSv1.3` or `TLSv1.2`. */
  readonly protocol: string | undefined;
  /** What is spoken inside, as the two have agreed; undefined when they have not. */
  readonly alpnProtocol: string | undefined;
  /** The peer's certificate in DER; undefined when it has shown none. */
  readonly peerCertificate: Uint8Array | undefined;
  /** Whether the peer's certificate was verified. False on a server that has asked for none. */
  readonly authorized: boolean | undefined;
}

/** How long a handshake may take, unless set. */
export const DEFAULT_HANDSHAKE_TIMEOUT_MS = 10_000;

/** Reads the `tls` of listening. Throws as {@linkcode readStartTls}. */
export function readTlsListen(doing: string, given: TlsListenOptions): TlsListenOptions {
  const options = readOptions(doing, given, TLS_LISTEN_OPTIONS, "tls");
  checkTls(doing, options, "server");
  return options;
}

/** Reads the `tls` of connecting. Throws as {@linkcode readStartTls}. */
export function readTlsConnect(doing: string, given: TlsConnectOptions): TlsConnectOptions {
  const options = readOptions(doing, given, TLS_CONNECT_OPTIONS, "tls");
  checkTls(doing, options, "client");
  return options;
}

/**
 * Reads the options of `startTls()`.
 *
 * @param doing What they are for, for the error
 * @param given The options
 * @param usual The role, where they do not say it
 * @returns A copy with the role
 * @throws {TypeError} For an unknown name, a value of a wrong type, or a certificate or key that the role needs
 * @throws {RangeError} For one that is out of range
 * @throws {EventError} `EINVAL` for a NUL inside `serverName`
 */
export function readStartTls(
  doing: string,
  given: StartTlsOptions,
  usual: TlsRole,
): StartTlsOptions & { role: TlsRole } {
  const { role = usual, ...options } = readOptions(doing, given, START_TLS_OPTIONS);
  if (role !== "client" && role !== "server") {
    throw new TypeError(`Cannot ${doing}: the role is neither client nor server: received ${show(role)}`);
  }
  checkTls(doing, options, role, "");
  return { ...options, role };
}

/** Checks options that were read. Throws as {@linkcode readStartTls}. */
export function checkTls(doing: string, options: StartTlsOptions, role: TlsRole, within: string = "tls."): void {
  const wrong = (name: string, what: string, value: unknown): TypeError =>
    new TypeError(`Cannot ${doing}: ${within}${name} is not ${what}: received ${show(value)}`);
  const { cert, key, ca, alpnProtocols, serverName, handshakeTimeoutMs } = options;
  if (!isPem(cert) && (cert !== undefined || role === "server")) throw wrong("cert", "PEM text or bytes", cert);
  if (!isPem(key) && (key !== undefined || cert !== undefined)) throw wrong("key", "PEM text or bytes", key);
  if (ca !== undefined && !isPem(ca)) {
    if (!isList(ca)) throw wrong("ca", "PEM", ca);
    for (const each of ca) if (!isPem(each)) throw wrong("ca", "PEM", each);
  }
  for (const name of ["rejectUnauthorized", "requestCert"] as const) {
    const value: unknown = options[name];
    if (value !== undefined && typeof value !== "boolean") throw wrong(name, "a boolean", value);
  }
  if (serverName !== undefined && (typeof serverName !== "string" || serverName === "")) {
    throw wrong("serverName", "a host name", serverName);
  }
  if (serverName !== undefined) checkNoNul(doing, `${within}serverName`, serverName);
  if (alpnProtocols !== undefined) {
    if (!isList(alpnProtocols)) throw wrong("alpnProtocols", "a list of names", alpnProtocols);
    for (const name of alpnProtocols as readonly unknown[]) {
      if (typeof name === "string" && /^[\x20-\x7e]{1,255}$/.test(name)) continue;
      throw new RangeError(`Cannot ${doing}: an ALPN protocol has 1 to 255 ASCII characters: received ${show(name)}`);
    }
  }
  if (handshakeTimeoutMs !== undefined && !isPositive(handshakeTimeoutMs)) {
    throw new RangeError(
      `Cannot ${doing}: ${within}handshakeTimeoutMs is not a positive duration: received ${show(handshakeTimeoutMs)}`,
    );
  }
}

function isPositive(value: unknown): boolean {
  return typeof value === "number" && value > 0 && Number.isFinite(value);
}

function isPem(value: unknown): value is Pem {
  return typeof value === "string" || isBytes(value);
}
