/**
 * TLS of Bun's sockets.
 *
 * @module
 */

import type { TlsInfo, TlsRole } from "../../core/tls.ts";
import type { BunSocket, BunTls } from "../types/bun.ts";
import type { TlsSettings } from "../shared/tls.ts";

/** Options in Bun's words. */
export function bunTls(settings: TlsSettings): BunTls {
  const { cert, key, ca, alpnProtocols, requestCert, rejectUnauthorized, serverName } = settings;
  return {
    ...(cert === undefined ? undefined : { cert }),
    ...(key === undefined ? undefined : { key }),
    ...(ca === undefined ? undefined : { ca }),
    ...(alpnProtocols.length === 0
      ? undefined
      : { ALPNProtocols: alpnProtocols.map((name) => String.fromCharCode(name.length) + name).join("") }),
    requestCert,
    rejectUnauthorized,
    serverName,
  };
}

/** What there is against the peer's certificate. Bun names a reason also on a server that has asked for none. */
export function objection(socket: BunSocket, role: TlsRole, settings: TlsSettings, reason: unknown): unknown {
  if (role === "server" && !settings.requestCert) return undefined;
  return socket.authorized === true ? undefined : reason ?? "not verified";
}

/** What the handshake has found. */
export function infoOf(socket: BunSocket, role: TlsRole, settings: TlsSettings, verified: boolean): TlsInfo {
  const raw = socket.getPeerCertificate?.()?.raw;
  return {
    protocol: socket.getTLSVersion?.() ?? undefined,
    alpnProtocol: socket.alpnProtocol || undefined,
    peerCertificate: raw === undefined ? undefined : new Uint8Array(raw),
    authorized: role === "client" ? verified : settings.requestCert && verified,
  };
}

/** Whether it is OpenSSL that has failed. */
export function isTlsFailure(reason: unknown): boolean {
  return reason instanceof Error &&
    /SSL routines|ERR_SSL/.test(`${(reason as { code?: string }).code}${reason.message}`);
}
