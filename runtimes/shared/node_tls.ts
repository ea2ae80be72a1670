/**
 * TLS by `node:tls`, on all three runtimes: over a socket of Node, or over any duplex stream.
 *
 * @module
 */

import type { StartTlsOptions, TlsInfo, TlsRole } from "../../core/tls.ts";
import { builtin } from "./host.ts";
import type {
  NodeCrypto,
  NodeSecureContext,
  NodeStream,
  NodeTls,
  NodeTlsName,
  NodeTlsSocket,
} from "../types/node_tls.ts";
import { isNumeric, otherAddress, tlsError, type TlsSettings, tlsSettings } from "./tls.ts";

/** The module, once it was needed. The runtime looks it up anew in each call. */
let tlsModule: NodeTls | undefined;

function nodeTls(): NodeTls {
  return tlsModule ??= builtin<NodeTls>("node:tls");
}

/**
 * Reads the certificate, the key and the authorities, once for each listener.
 *
 * @throws {EventError} `ERR_TLS_OPTIONS`
 */
export function secureContext(settings: TlsSettings, tried: string): NodeSecureContext {
  const { cert, key, ca, minVersion, maxVersion, ciphers } = settings;
  try {
    // Deno checks them only in the handshake, and then reports nothing.
    if (cert !== undefined && key !== undefined) checkPair(cert, key);
    // If an authority cannot be read, Node and Deno trust nobody and report nothing.
    for (const each of ca ?? []) checkAuthority(each);
    return nodeTls().createSecureContext({
      ...(cert === undefined ? undefined : { cert }),
      ...(key === undefined ? undefined : { key }),
      ...(ca === undefined ? undefined : { ca }),
      ...(minVersion === undefined ? undefined : { minVersion }),
      ...(maxVersion === undefined ? undefined : { maxVersion }),
      ...(ciphers === undefined ? undefined : { ciphers }),
      // Without it OpenSSL refuses to resume a session that has a client certificate.
      sessionIdContext: "trivent",
    });
  } catch (reason) {
    throw tlsError("ERR_TLS_OPTIONS", tried, reason);
  }
}

/** Checked options, with the OpenSSL context made from them. */
export interface PreparedTls {
  readonly settings: TlsSettings;
  readonly context: NodeSecureContext;
}

const prepared: WeakMap<StartTlsOptions, PreparedTls> = /* @__PURE__ */ new WeakMap();

/**
 * Reads options, once for each object: a server uses one for all its connections.
 *
 * @throws {EventError} `ERR_TLS_OPTIONS`
 */
export function preparedTls(options: StartTlsOptions, tried: string): PreparedTls {
  const known = prepared.get(options);
  if (known !== undefined) return known;
  const settings = tlsSettings(options);
  const made = { settings, context: secureContext(settings, tried) };
  prepared.set(options, made);
  return made;
}

function checkPair(cert: string, key: string): void {
  const { X509Certificate, createPrivateKey } = builtin<NodeCrypto>("node:crypto");
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) throw new Error("the key is not that of cert");
}

function checkAuthority(pem: string): void {
  const [first] = /-----BEGIN ([A-Z0-9]+ )?CERTIFICATE-----[^]*?-----END ([A-Z0-9]+ )?CERTIFICATE-----/.exec(pem) ?? [];
  if (first === undefined) throw new Error("ca has no certificate");
  new (builtin<NodeCrypto>("node:crypto").X509Certificate)(first);
}

/** Begins the handshake over a stream. {@linkcode secureEvent} is the event of its end. */
export function secureOver(
  raw: NodeStream,
  role: TlsRole,
  settings: TlsSettings,
  context: NodeSecureContext,
  highWaterMark: number,
): NodeTlsSocket {
  const { alpnProtocols, requestCert, rejectUnauthorized, serverName } = settings;
  const shared = {
    secureContext: context,
    rejectUnauthorized,
    allowHalfOpen: true,
    highWaterMark,
    ...(alpnProtocols.length === 0 ? undefined : { ALPNProtocols: alpnProtocols }),
  };
  const tls = nodeTls();
  if (role === "server") return new tls.TLSSocket(raw, { ...shared, isServer: true, requestCert });
  // A name is sent to the server and must be in its certificate. An address is not sent, but must be in the
  // certificate.
  const name: NodeTlsName = isNumeric(serverName)
    ? { host: serverName, checkServerIdentity: (host, certificate) => otherAddress(certificate.raw, host) }
    : { host: serverName, servername: serverName };
  return tls.connect({ ...shared, ...name, socket: raw });
}

/** The event at the end of the handshake. For a client it comes after the certificate was checked. */
export function secureEvent(role: TlsRole): "secure" | "secureConnect" {
  return role === "server" ? "secure" : "secureConnect";
}

/**
 * Why a server refuses the client's certificate, if it has requested one. `tls.Server` checks in this way. The creator
 * of a plain TLSSocket must check it itself.
 */
export function objection(socket: NodeTlsSocket, role: TlsRole, settings: TlsSettings): unknown {
  if (role === "client") return socket.authorized ? undefined : socket.authorizationError ?? "not verified";
  if (!settings.requestCert) return undefined;
  if (socket.getPeerCertificate()?.raw === undefined) return "the client has shown none";
  const verifyError = socket._handle?.verifyError;
  if (verifyError === undefined) return "this version of the host does not tell whether it is verified";
  return verifyError.call(socket._handle) || undefined;
}

/** The result of the handshake. */
export function infoOf(socket: NodeTlsSocket, role: TlsRole, settings: TlsSettings, verified: boolean): TlsInfo {
  // A client that was not asked has shown none.
  const raw = role === "server" && !settings.requestCert ? undefined : socket.getPeerCertificate()?.raw;
  return {
    protocol: socket.getProtocol() ?? undefined,
    alpnProtocol: socket.alpnProtocol || undefined,
    peerCertificate: raw === undefined ? undefined : new Uint8Array(raw),
    authorized: role === "client" ? verified : settings.requestCert && verified && raw !== undefined,
  };
}
