/** The options of TLS and the results of a handshake. The runtime does the protocol itself. */

import { checkBoolean, checkNoNul, isBytes, isList, outOfRange, wrongType } from "./checks.ts";
import { type Names, readOptions } from "./names.ts";

/** Certificates or keys in PEM, as a string or bytes. Several certificates may follow one another. */
export type Pem = string | Uint8Array;

/** Options of both roles of TLS. */
export interface TlsOptions {
  /** Our certificate, followed by the intermediate ones. A server needs one. */
  cert?: Pem | undefined;
  /** The private key of `cert`, not encrypted. */
  key?: Pem | undefined;
  /** The authorities for the peer's certificate, in place of those that the runtime trusts. */
  ca?: Pem | readonly Pem[] | undefined;
  /** The application protocols (ALPN), the preferred one first: `["h2", "http/1.1"]`. */
  alpnProtocols?: readonly string[] | undefined;
  /** Whether a peer is refused if its certificate cannot be verified. @default {true} */
  rejectUnauthorized?: boolean | undefined;
  /**
   * The time limit of the handshake, in milliseconds. After it the handshake fails with `ETIMEDOUT`. @default {10000}
   */
  handshakeTimeoutMs?: number | undefined;
  /** The oldest version of TLS. By default the runtime's own, which is TLS 1.2 or older. */
  minVersion?: TlsVersion | undefined;
  /** The newest version of TLS. By default the runtime's own. */
  maxVersion?: TlsVersion | undefined;
  /** The ciphers for TLS 1.2, as a list in OpenSSL's format. TLS 1.3 has its own, which are always allowed. */
  ciphers?: string | undefined;
}

/** A version of TLS. */
export type TlsVersion = "TLSv1.2" | "TLSv1.3";

/**
 * TLS on accepted connections (the server).
 *
 * libevent: `bufferevent_openssl_socket_new` with `BUFFEREVENT_SSL_ACCEPTING`.
 */
export interface TlsListenOptions extends TlsOptions {
  /** Our certificate, followed by the intermediate ones. */
  cert: Pem;
  /** The private key of `cert`, not encrypted. */
  key: Pem;
  /**
   * Whether clients are asked for a certificate. A client without a certificate that can be verified is refused. If
   * `rejectUnauthorized` is false, it is accepted, and `authorized` has the result. @default {false}
   */
  requestCert?: boolean | undefined;
}

/**
 * TLS on a connection that we make (the client).
 *
 * libevent: `bufferevent_openssl_socket_new` with `BUFFEREVENT_SSL_CONNECTING`.
 */
export interface TlsConnectOptions extends TlsOptions {
  /**
   * The name in the server's certificate, which is also sent to the server (SNI). By default it is the host name or
   * numeric address of the server; for a path `localhost`. A numeric address is not sent; the certificate must have it
   * as an address.
   */
  serverName?: string | undefined;
}

/** Options of `SocketBufferEvent.startTls()`: those of its role. */
export interface StartTlsOptions extends TlsConnectOptions {
  /**
   * Our role in the handshake. By default `client` for a connection that we made, `server` for one that we accepted.
   */
  role?: TlsRole | undefined;
  /** For the server: as {@linkcode TlsListenOptions.requestCert}. @default {false} */
  requestCert?: boolean | undefined;
  /**
   * Whether input that has not been read belongs to the handshake. Say so only if you know that it does: for one port for
   * both, where the first byte tells TLS from your protocol, or behind a header in the clear. Never behind a request such
   * as `STARTTLS`, where an attacker can put bytes behind it. Needs `capabilities.startTlsUnread`. @default {false}
   */
  unread?: boolean | undefined;
}

/** The names of {@linkcode TlsOptions}, which both roles have. */
const TLS_OPTIONS: Names<TlsOptions> = {
  cert: true,
  key: true,
  ca: true,
  alpnProtocols: true,
  rejectUnauthorized: true,
  handshakeTimeoutMs: true,
  minVersion: true,
  maxVersion: true,
  ciphers: true,
};
/** The names of {@linkcode TlsListenOptions}. */
export const TLS_LISTEN_OPTIONS: Names<TlsListenOptions> = /* @__PURE__ */ Object.assign({}, TLS_OPTIONS, {
  requestCert: true as const,
});
/** The names of {@linkcode TlsConnectOptions}. */
export const TLS_CONNECT_OPTIONS: Names<TlsConnectOptions> = /* @__PURE__ */ Object.assign({}, TLS_OPTIONS, {
  serverName: true as const,
});
const START_TLS_OPTIONS: Names<StartTlsOptions> = /* @__PURE__ */ Object.assign({}, TLS_CONNECT_OPTIONS, {
  role: true as const,
  requestCert: true as const,
  unread: true as const,
});

/** Our role in the handshake. */
export type TlsRole = "client" | "server";

/** The result of a handshake. A value that the runtime does not report is undefined. */
export interface TlsInfo {
  /** `TLSv1.3` or `TLSv1.2`. */
  readonly protocol: string | undefined;
  /** The application protocol (ALPN) that both have agreed on; undefined if they have not. */
  readonly alpnProtocol: string | undefined;
  /** The peer's certificate in DER; undefined if it has sent none. */
  readonly peerCertificate: Uint8Array | undefined;
  /** Whether the peer's certificate was verified. False on a server that did not ask for one. */
  readonly authorized: boolean | undefined;
}

/** The time limit of a handshake unless set. */
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
 * @param doing The purpose, for the error message
 * @param given The options
 * @param usual The role, if the options do not name it
 * @returns A copy with the role
 * @throws {TypeError} For an unknown name, a value of a wrong type, or a certificate or key that the role needs
 * @throws {RangeError} For a value that is out of range
 * @throws {EventError} `EINVAL` for a NUL inside `serverName`
 */
export function readStartTls(
  doing: string,
  given: StartTlsOptions,
  usual: TlsRole,
): StartTlsOptions & { role: TlsRole } {
  const { role = usual, ...options } = readOptions(doing, given, START_TLS_OPTIONS);
  if (options.unread !== undefined) checkBoolean(doing, "unread", options.unread);
  if (role !== "client" && role !== "server") {
    throw wrongType(doing, "the role is neither client nor server", role);
  }
  checkTls(doing, options, role, "");
  return { ...options, role };
}

/** Checks options that were read. Throws as {@linkcode readStartTls}. */
export function checkTls(doing: string, options: StartTlsOptions, role: TlsRole, within: string = "tls."): void {
  const wrong = (name: string, what: string, value: unknown): TypeError =>
    wrongType(doing, `${within}${name} is not ${what}`, value);
  const { cert, key, ca, alpnProtocols, serverName, handshakeTimeoutMs, minVersion, maxVersion, ciphers } = options;
  for (const [name, version] of [["minVersion", minVersion], ["maxVersion", maxVersion]] as const) {
    if (version === undefined || version === "TLSv1.2" || version === "TLSv1.3") continue;
    throw outOfRange(doing, `${within}${name} is not TLSv1.2 or TLSv1.3`, version);
  }
  if (minVersion === "TLSv1.3" && maxVersion === "TLSv1.2") {
    throw new RangeError(`Cannot ${doing}: ${within}maxVersion is below minVersion: received ${maxVersion}`);
  }
  if (ciphers !== undefined && (typeof ciphers !== "string" || ciphers === "")) {
    throw wrong("ciphers", "a list in OpenSSL's format", ciphers);
  }
  if (ciphers !== undefined) checkNoNul(doing, `${within}ciphers`, ciphers);
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
      throw outOfRange(doing, "an ALPN protocol does not have 1 to 255 ASCII characters", name);
    }
  }
  if (handshakeTimeoutMs !== undefined && !isPositive(handshakeTimeoutMs)) {
    throw outOfRange(doing, `${within}handshakeTimeoutMs is not a positive duration`, handshakeTimeoutMs);
  }
}

function isPositive(value: unknown): boolean {
  return typeof value === "number" && value > 0 && Number.isFinite(value);
}

function isPem(value: unknown): value is Pem {
  return typeof value === "string" || isBytes(value);
}
