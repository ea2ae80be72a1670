/**
 * TLS in the simulator: a stand-in without cryptography, for tests of the results of a handshake.
 * The two ends exchange their certificates over the simulated connection, which takes time, and
 * then go on without encryption.
 *
 * A certificate is a text: the names that it is for, and who has signed it (`"localhost, 127.0.0.1 signed by our CA"`). An
 * authority is its name (`"our CA"`). A key is any text. If other bytes come in a handshake, it fails.
 *
 * @module
 */

import { readClientHello, writeClientHello } from "../../core/socket/client_hello.ts";
import type { Pem, StartTlsOptions, TlsInfo, TlsRole, TlsVersion } from "../../core/tls.ts";
import { isNumeric } from "../shared/tls.ts";

/** The connection of a handshake. */
export interface HandshakeOwner {
  /** Sends a part of the handshake. */
  sendRecord(bytes: Uint8Array): void;
  /** It is complete. `rest` has the bytes that came after it. */
  secured(info: TlsInfo, rest: Uint8Array): void;
  /** It has failed. */
  refuseTls(code: "ERR_TLS_CERT" | "ERR_TLS_HANDSHAKE", why: string): void;
}

/** A message of one end to the other. */
interface Hello {
  readonly alpnProtocols?: readonly string[];
  readonly minVersion?: TlsVersion;
  readonly maxVersion?: TlsVersion;
  readonly protocol?: TlsVersion;
  readonly alpnProtocol?: string | undefined;
  readonly cert?: string | undefined;
}

const RECORD = 22;
const ALERT = 21;
/** The kind, the version and the length of a record. */
const HEAD = 5;
/** The extension of a ClientHello that has the client's message. */
const EXTENSION = 0xfafa;

/** One end's part of a handshake. */
export class SimHandshake {
  readonly #owner: HandshakeOwner;
  readonly #role: TlsRole;
  readonly #options: StartTlsOptions;
  #received: Uint8Array = new Uint8Array(0);
  #alpnProtocol: string | undefined;
  #protocol: TlsVersion = "TLSv1.3";
  /** The server has answered, and waits for the client's answer. */
  #answered = false;

  /**
   * Makes one end's part.
   *
   * @param owner The connection
   * @param role The role of this end
   * @param options The options of TLS
   */
  constructor(owner: HandshakeOwner, role: TlsRole, options: StartTlsOptions) {
    this.#owner = owner;
    this.#role = role;
    this.#options = options;
  }

  /** Begins: the client speaks first. */
  start(): void {
    if (this.#role !== "client") return;
    const { alpnProtocols = [], serverName = "localhost", minVersion = "TLSv1.2", maxVersion = "TLSv1.3" } =
      this.#options;
    const text = bytesOf({ alpnProtocols, minVersion, maxVersion });
    // A server may choose its certificate by the name.
    const named = isNumeric(serverName) ? null : serverName;
    this.#owner.sendRecord(writeClientHello(named, new Map([[EXTENSION, text]])));
  }

  /**
   * Handles arrived bytes.
   *
   * @param bytes The bytes
   */
  receive(bytes: Uint8Array): void {
    const all = new Uint8Array(this.#received.length + bytes.length);
    all.set(this.#received);
    all.set(bytes, this.#received.length);
    this.#received = all;
    const kind = all[0];
    if (kind === ALERT) return this.#owner.refuseTls("ERR_TLS_HANDSHAKE", "the peer has ended it");
    const hello = kind === RECORD ? this.#record() : null;
    if (hello === undefined) return;
    if (hello === null) this.#owner.refuseTls("ERR_TLS_HANDSHAKE", "the peer does not speak TLS");
    else if (this.#role === "client") this.#onServer(hello);
    else if (this.#answered) this.#onFinished(hello);
    else this.#onClient(hello);
  }

  /** Takes a whole record. @returns Undefined if it is not complete, null if it is not valid */
  #record(): Hello | null | undefined {
    const all = this.#received;
    const length = HEAD + (all[3] ?? 0) * 256 + (all[4] ?? 0);
    if (all.length < HEAD || all.length < length) return undefined;
    this.#received = all.subarray(length);
    const first = this.#role === "server" && !this.#answered;
    const text = first
      ? readClientHello(all.subarray(0, length))?.extensions.get(EXTENSION)
      : all.subarray(HEAD, length);
    try {
      return JSON.parse(String.fromCharCode(...text ?? [])) as Hello;
    } catch {
      return null;
    }
  }

  #send(kind: number, hello: Hello): void {
    const text = bytesOf(hello);
    const bytes = new Uint8Array(HEAD + text.length);
    bytes.set([kind, 3, 3, text.length >> 8, text.length & 255]);
    bytes.set(text, HEAD);
    this.#owner.sendRecord(bytes);
  }

  #onClient(
    { alpnProtocols: offered = [], minVersion: oldest = "TLSv1.2", maxVersion: newest = "TLSv1.3" }: Hello,
  ): void {
    const { alpnProtocols = [], cert, minVersion = "TLSv1.2", maxVersion = "TLSv1.3" } = this.#options;
    this.#protocol = newest < maxVersion ? newest : maxVersion;
    if (this.#protocol < minVersion || this.#protocol < oldest) {
      return this.#breakOff("ERR_TLS_HANDSHAKE", "the two have no version in common");
    }
    this.#alpnProtocol = alpnProtocols.find((name) => offered.includes(name));
    if (alpnProtocols.length > 0 && offered.length > 0 && this.#alpnProtocol === undefined) {
      return this.#breakOff("ERR_TLS_HANDSHAKE", "the two have no protocol in common");
    }
    this.#answered = true;
    this.#send(RECORD, { alpnProtocol: this.#alpnProtocol, cert: textOf(cert), protocol: this.#protocol });
  }

  #onServer({ cert, alpnProtocol, protocol = "TLSv1.3" }: Hello): void {
    this.#protocol = protocol;
    const { serverName = "localhost", rejectUnauthorized = true, cert: own } = this.#options;
    const problem = this.#problem(cert, serverName);
    if (problem !== undefined && rejectUnauthorized) return this.#breakOff("ERR_TLS_CERT", problem);
    this.#alpnProtocol = alpnProtocol;
    this.#send(RECORD, { cert: textOf(own) });
    this.#secured(cert, problem === undefined);
  }

  #onFinished({ cert }: Hello): void {
    const { requestCert = false, rejectUnauthorized = true } = this.#options;
    if (!requestCert) return this.#secured(undefined, false);
    const problem = this.#problem(cert, undefined);
    if (problem !== undefined && rejectUnauthorized) this.#owner.refuseTls("ERR_TLS_CERT", problem);
    else this.#secured(cert, problem === undefined);
  }

  #secured(cert: string | undefined, authorized: boolean): void {
    const peerCertificate = cert === undefined ? undefined : Uint8Array.from(cert, (unit) => unit.charCodeAt(0));
    const info = { protocol: this.#protocol, alpnProtocol: this.#alpnProtocol, peerCertificate, authorized };
    this.#owner.secured(info, this.#received);
  }

  #breakOff(code: "ERR_TLS_CERT" | "ERR_TLS_HANDSHAKE", why: string): void {
    this.#send(ALERT, {});
    this.#owner.refuseTls(code, why);
  }

  /** Why a certificate is not accepted; undefined if it is. */
  #problem(cert: string | undefined, name: string | undefined): string | undefined {
    if (cert === undefined) return "the peer has shown no certificate";
    const [, names = "", signer = ""] = /^(.*) signed by (.*)$/.exec(cert) ?? [];
    const { ca = [] } = this.#options;
    const trusted = (Array.isArray(ca) ? ca as readonly Pem[] : [ca as Pem]).map((each) => textOf(each)?.trim());
    if (!trusted.includes(signer)) return `its authority is not trusted: ${signer === "" ? `"${cert}"` : signer}`;
    if (name === undefined || names.split(",").some((each) => each.trim() === name)) return undefined;
    return `it is for ${names}, not for ${name}`;
  }
}

/** Makes the text ASCII: JSON's escapes replace other characters. */
function bytesOf(hello: Hello): Uint8Array {
  const text = JSON.stringify(hello).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

function textOf(pem: Pem | undefined): string | undefined {
  return pem === undefined || typeof pem === "string" ? pem?.trim() : String.fromCharCode(...pem).trim();
}
