/**
 * Options of TLS in the form that the runtimes take, and failures of TLS in the same words for all.
 *
 * @module
 */

import { EventError } from "../../core/errors.ts";
import type { Pem, StartTlsOptions, TlsVersion } from "../../core/tls.ts";
import type { NodeCrypto } from "../types/node_tls.ts";
import { asciiName, builtin } from "./host.ts";

/** Options of TLS, checked and complete. */
export interface TlsSettings {
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly ca: string[] | undefined;
  readonly alpnProtocols: string[];
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
  /** The name or numeric address that the server's certificate must have. */
  readonly serverName: string;
  readonly minVersion: TlsVersion | undefined;
  readonly maxVersion: TlsVersion | undefined;
  readonly ciphers: string | undefined;
}

/** Checks and completes options. */
export function tlsSettings(options: StartTlsOptions): TlsSettings {
  const { cert, key, ca, alpnProtocols = [], requestCert = false, rejectUnauthorized = true, serverName } = options;
  return {
    cert: cert === undefined ? undefined : text(cert),
    key: key === undefined ? undefined : text(key),
    ca: ca === undefined ? undefined : (Array.isArray(ca) ? ca : [ca]).map(text),
    alpnProtocols: [...alpnProtocols],
    requestCert,
    rejectUnauthorized,
    serverName: peerName(serverName),
    minVersion: options.minVersion,
    maxVersion: options.maxVersion,
    ciphers: options.ciphers,
  };
}

/**
 * The name to send and to look for in the certificate. TLS has names in ASCII without a dot at the end (RFC 6066). An
 * address has no zone, since a zone concerns only this machine.
 */
function peerName(name: string = "localhost"): string {
  return isNumeric(name) ? name.replace(/%.*$/, "") : asciiName(name).replace(/(?<=.)\.$/, "");
}

/** PEM is ASCII. */
function text(pem: Pem): string {
  if (typeof pem === "string") return pem;
  let all = "";
  for (let at = 0; at < pem.length; at += 4096) all += String.fromCharCode(...pem.subarray(at, at + 4096));
  return all;
}

/**
 * Whether a name is a numeric address. An address is not sent as SNI, and is in a certificate as an address. A string
 * of only digits and dots is never a host name, but may be a short form of an address (`127.1`).
 */
export function isNumeric(name: string): boolean {
  return name.includes(":") || /^[\d.]+$/.test(name);
}

/**
 * Why a certificate is not valid for a numeric address; undefined if it is. `tls.checkServerIdentity()` does not find
 * IPv6 addresses on Node 22.23 and from 24.17 on (nodejs/node#64144). Remove when those versions are not supported any
 * more.
 *
 * @param certificate In DER
 */
export function otherAddress(certificate: Uint8Array | undefined, address: string): Error | undefined {
  if (certificate === undefined) return new Error("the peer has shown none");
  const { X509Certificate } = builtin<NodeCrypto>("node:crypto");
  try {
    if (new X509Certificate(certificate).checkIP(address) !== undefined) return undefined;
  } catch {
    // It is not an address, so it is not in the certificate.
  }
  return Object.assign(new Error(`it is not for the address ${address}`), { code: "ERR_TLS_CERT_ALTNAME_INVALID" });
}

/**
 * OpenSSL's names for what is wrong with a certificate (X509_V_ERR_…), which all three runtimes use, and Node's own.
 */
const CERTIFICATE = /CERT|UNABLE_TO_|SELF_SIGNED|INVALID_(CA|PURPOSE|EXTENSION)|HOSTNAME_MISMATCH|PATH_LENGTH|CRL_/;
/** Bun has it only in the message. */
const MISSING = /PEER_DID_NOT_RETURN_A_CERT/;
/** The peer's alerts about our certificate. They are not failures of its certificate. */
const ALERT = /ALERT/;

const REASONS = {
  ERR_TLS_CERT: "the peer's certificate is not accepted",
  ERR_TLS_HANDSHAKE: "the handshake failed",
  ERR_TLS_OPTIONS: "the certificate or key cannot be used",
  ERR_TLS_PROTOCOL: "the peer has broken TLS off",
  ERR_TLS_TRUNCATED: "the peer's stream was cut: it ended without a close_notify",
} as const;

/** The failures of TLS. */
export type TlsCode = keyof typeof REASONS;

/** The error of a failure in TLS. */
export function tlsError(code: TlsCode, tried: string, reason: unknown): EventError {
  if (reason instanceof EventError) return reason as EventError;
  const own = reason instanceof Error ? reason.message : reason === undefined ? "" : String(reason);
  const why = own === "" ? REASONS[code] : `${REASONS[code]}: ${own}`;
  return new EventError(`Cannot ${tried}: ${why} (${code})`, { code, syscall: "handshake", cause: reason });
}

/** The error of a handshake that failed. */
export function handshakeError(tried: string, reason: unknown): EventError {
  if (reason instanceof EventError) return reason as EventError;
  const { code = "", message = "" } = (reason ?? {}) as { code?: unknown; message?: string };
  const bad = CERTIFICATE.test(String(code)) && !ALERT.test(String(code)) || MISSING.test(message);
  return tlsError(bad ? "ERR_TLS_CERT" : "ERR_TLS_HANDSHAKE", tried, reason);
}

/** The code of a failure on an established connection; undefined if the runtime's own code is right. */
export function establishedCode(reason: unknown): TlsCode | undefined {
  if (reason instanceof EventError) return undefined;
  const { code = "" } = (reason ?? {}) as { code?: unknown };
  return /^(ERR_SSL_|ERR_OSSL_|ERR_TLS_|EPROTO)/.test(String(code)) ? "ERR_TLS_PROTOCOL" : undefined;
}
