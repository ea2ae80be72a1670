/**
 * TLS of Bun's sockets.
 *
 * @module
 */

import type { StartTlsOptions, TlsInfo, TlsRole, TlsVersion } from "../../core/tls.ts";
import { isNumeric, otherAddress, type TlsSettings, tlsSettings } from "../shared/tls.ts";
import type { BunSocket, BunTls } from "../types/bun.ts";

const VERSIONS: Readonly<Record<TlsVersion, number>> = { "TLSv1.2": 0x303, "TLSv1.3": 0x304 };

/**
 * The options as Bun takes them.
 *
 * Bun sends an address such as `::1` as SNI. RFC 6066 does not allow that, and a GnuTLS server refuses it. Without a
 * name, Bun verifies the address that it has connected to, which may be a different one. So an address is not given to
 * Bun as a name; {@linkcode objection} looks for it in the certificate.
 */
export function bunTls(role: TlsRole, settings: TlsSettings): BunTls {
  const { cert, key, ca, alpnProtocols, requestCert, serverName, minVersion, maxVersion, ciphers } = settings;
  const numeric = role === "client" && isNumeric(serverName);
  return {
    ...(cert === undefined ? undefined : { cert }),
    ...(key === undefined ? undefined : { key }),
    ...(ca === undefined ? undefined : { ca }),
    ...(alpnProtocols.length === 0
      ? undefined
      : { ALPNProtocols: alpnProtocols.map((name) => String.fromCharCode(name.length) + name).join("") }),
    ...(minVersion === undefined ? undefined : { minVersion: VERSIONS[minVersion] }),
    ...(maxVersion === undefined ? undefined : { maxVersion: VERSIONS[maxVersion] }),
    ...(ciphers === undefined ? undefined : { ciphers }),
    requestCert,
    rejectUnauthorized: settings.rejectUnauthorized && !numeric,
    serverName: numeric ? "" : serverName,
  };
}

/** Checked options, in our form and in Bun's. */
interface PreparedBunTls {
  readonly settings: TlsSettings;
  readonly tls: BunTls;
}

const prepared: WeakMap<StartTlsOptions, PreparedBunTls> = /* @__PURE__ */ new WeakMap();

/** Reads options: those of a server once for each object, since all its connections share it. */
export function preparedFor(role: TlsRole, options: StartTlsOptions): PreparedBunTls {
  const known = role === "server" ? prepared.get(options) : undefined;
  if (known !== undefined) return known;
  const settings = tlsSettings(options);
  const made = { settings, tls: bunTls(role, settings) };
  if (role === "server") prepared.set(options, made);
  return made;
}

/**
 * The reason to refuse the peer's certificate, if any. On a server, Bun gives a reason even if no certificate was
 * requested.
 */
export function objection(
  socket: BunSocket,
  role: TlsRole,
  settings: TlsSettings,
  success: boolean,
  reason: unknown,
): unknown {
  if (role === "client" && isNumeric(settings.serverName)) {
    // If both are wrong, Bun reports the chain and not the name.
    const verified = success ? socket.authorized === true : isOtherName(reason);
    return verified ? otherAddress(socket.getPeerCertificate?.()?.raw, settings.serverName) : reason ?? "not verified";
  }
  if (success && role === "server" && !settings.requestCert) return undefined;
  return success && socket.authorized === true ? undefined : reason ?? "not verified";
}

/** Whether the certificate can be verified, but is for another name. */
function isOtherName(reason: unknown): boolean {
  return (reason as { code?: unknown } | null | undefined)?.code === "ERR_TLS_CERT_ALTNAME_INVALID";
}

/** The result of the handshake. */
export function infoOf(socket: BunSocket, role: TlsRole, settings: TlsSettings, verified: boolean): TlsInfo {
  const raw = socket.getPeerCertificate?.()?.raw;
  return {
    protocol: socket.getTLSVersion?.() ?? undefined,
    alpnProtocol: socket.alpnProtocol || undefined,
    peerCertificate: raw === undefined ? undefined : new Uint8Array(raw),
    authorized: role === "client" ? verified : settings.requestCert && verified,
  };
}

/** Whether OpenSSL has failed. */
export function isTlsFailure(reason: unknown): boolean {
  return reason instanceof Error &&
    /SSL routines|ERR_SSL/.test(`${(reason as { code?: string }).code}${reason.message}`);
}
