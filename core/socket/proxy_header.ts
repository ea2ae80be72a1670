/**
 * The header of the PROXY protocol, versions 1 and 2. A proxy in front of a server sends it before the client's first
 * byte, with the client's address. The specification is HAProxy's (`proxy-protocol.txt`).
 *
 * @module
 */

import type { EvBuffer } from "../buffer/evbuffer.ts";
import { blameBuffer, checkEvBuffer, checkFront } from "../buffer/internal.ts";
import { decodeUtf8, encodeUtf8 } from "../buffer/utf8.ts";
import { checkBytes, checkText, show } from "../checks.ts";
import { EventError } from "../errors.ts";
import { formatIp, parseIpv4, parseIpv6 } from "../ip.ts";
import { type Names, readList, readOptions } from "../names.ts";
import type { Address, ProxyHeader, ProxyTlv } from "../runtime.ts";

/** Type of a TLV: the application protocol that TLS has negotiated (ALPN), such as `h2`. */
export const PP2_TYPE_ALPN = 0x01;
/** Type of a TLV: the host name that the client asks for, such as the SNI of TLS. */
export const PP2_TYPE_AUTHORITY = 0x02;
/** Type of a TLV: the CRC-32C of the whole header, 4 bytes. It is checked when a header is read. */
export const PP2_TYPE_CRC32C = 0x03;
/** Type of a TLV: padding. */
export const PP2_TYPE_NOOP = 0x04;
/** Type of a TLV: an identifier of the connection, up to 128 bytes. */
export const PP2_TYPE_UNIQUE_ID = 0x05;
/** Type of a TLV: the TLS between the client and the proxy. Its value has TLVs of its own. */
export const PP2_TYPE_SSL = 0x20;
/** Type of a TLV: the name of a network namespace. */
export const PP2_TYPE_NETNS = 0x30;

/** The most bytes of a header of version 1, with its CR LF. */
export const MAX_V1_BYTES = 107;
/** The most bytes of a header of version 2. */
export const MAX_V2_BYTES: number = 16 + 65_535;

const V1_SIGNATURE = /* @__PURE__ */ encodeUtf8("PROXY ");
const V2_SIGNATURE = /* @__PURE__ */ encodeUtf8("\r\n\r\n\0\r\nQUIT\n");
const V2_FIXED = 16;
/** How many bytes both addresses take, by the high half of the byte for family and protocol. */
const ADDRESS_BYTES = [0, 12, 36, 216];
const UNIX_BYTES = 108;
const DOING = "write a PROXY header";
const PROXY_HEADER: Names<ProxyHeader> = {
  version: true,
  command: true,
  source: true,
  destination: true,
  tlvs: true,
};
const PROXY_TLV: Names<ProxyTlv> = { type: true, value: true };
/** The names of both kinds of address. */
interface AnyAddress {
  hostname?: string;
  port?: number;
  family?: string;
  path?: string;
}
const ADDRESS: Names<AnyAddress> = { hostname: true, port: true, family: true, path: true };
const LF = 0x0a;
const CR = 0x0d;

/**
 * Takes a header off the front of a buffer.
 *
 * @param input The input from the proxy
 * @returns The header; null while it is incomplete, and then nothing is taken. Bytes after the header stay
 * @throws {EventError} `EV_PROXY_INVALID` as soon as the bytes cannot be a header; nothing is taken
 *
 * @example
 * ```ts
 * import { decodeProxyHeader, EvBuffer } from "trivent";
 * const buffer = new EvBuffer();
 * buffer.add("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.1\r\n");
 * const header = decodeProxyHeader(buffer);
 * const source = header?.source as { hostname: string; port: number };
 * if (source.hostname !== "192.0.2.1" || source.port !== 56324) throw new Error("unreachable");
 * if (buffer.toString() !== "GET / HTTP/1.1\r\n") throw new Error("unreachable");
 * ```
 */
export function decodeProxyHeader(input: EvBuffer): ProxyHeader | null {
  checkEvBuffer("read a PROXY header", input);
  checkFront(input, "read a PROXY header");
  const start = peek(input, V2_FIXED);
  if (start.length === 0) return null;
  return start[0] === V1_SIGNATURE[0] ? decodeText(input, start) : decodeBinary(input, start);
}

/** Whether the bytes at the front can be the beginning of a header: false for a client that does not send one. */
export function mayBeProxyHeader(buffer: EvBuffer): boolean {
  const start = peek(buffer, V2_SIGNATURE.length);
  return begins(start, V1_SIGNATURE) || begins(start, V2_SIGNATURE);
}

/** The length of the header at the front; 0 while that is unknown. */
export function announcedBytes(buffer: EvBuffer): number {
  const start = peek(buffer, V2_FIXED);
  if (start.length < V2_FIXED || !begins(start, V2_SIGNATURE)) return 0;
  return V2_FIXED + ((start[14] as number) << 8 | (start[15] as number));
}

/**
 * Writes a header.
 *
 * The value of a TLV of the type `PP2_TYPE_CRC32C` is computed; a given value is ignored.
 *
 * @param header The header
 * @returns The bytes, to be sent first
 * @throws {TypeError} When `header` is not a header
 * @throws {RangeError} When version 1 cannot express it (a unix socket, TLVs), when the addresses are of two families,
 * or when a part is too long
 *
 * @example
 * ```ts
 * import { encodeProxyHeader } from "trivent";
 * const bytes = encodeProxyHeader({
 *   version: 1,
 *   command: "PROXY",
 *   source: { hostname: "192.0.2.1", port: 56324, family: "IPv4" },
 *   destination: { hostname: "198.51.100.7", port: 443, family: "IPv4" },
 *   tlvs: [],
 * });
 * if (new TextDecoder().decode(bytes) !== "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n") throw new Error("unreachable");
 * ```
 */
export function encodeProxyHeader(header: ProxyHeader): Uint8Array {
  const parts = readOptions(DOING, header, PROXY_HEADER, "header");
  const { version, command, source = null, destination = null, tlvs = [] } = parts;
  if (version !== 1 && version !== 2) throw unwritable(`the version is not 1 or 2: received ${show(version)}`);
  if (command !== "PROXY" && command !== "LOCAL") {
    throw unwritable(`the command is not "PROXY" or "LOCAL": received ${show(command)}`);
  }
  const list = readList(DOING, "the TLVs", tlvs);
  const from = command === "LOCAL" ? null : endOf("source", source);
  const to = command === "LOCAL" ? null : endOf("destination", destination);
  if (from?.kind !== to?.kind) {
    throw unwritable(
      `the source and the destination are not of one family: received ${show(source)} and ${show(destination)}`,
    );
  }
  return version === 1 ? encodeText(from, to, list.length) : encodeBinary(command, from, to, list);
}

// ---- version 1

function decodeText(buffer: EvBuffer, start: Uint8Array): ProxyHeader | null {
  if (!begins(start, V1_SIGNATURE)) throw invalid(buffer, "it does not begin with the signature");
  const bytes = peek(buffer, MAX_V1_BYTES);
  const lf = bytes.indexOf(LF);
  if (lf < 0) {
    if (bytes.length < MAX_V1_BYTES) return null;
    throw invalid(buffer, `it has no CR LF in ${MAX_V1_BYTES} bytes`);
  }
  if (bytes[lf - 1] !== CR) throw invalid(buffer, "its line ends without a CR");
  const line = decodeUtf8(bytes.subarray(0, lf - 1));
  const [, protocol, ...rest] = line.split(" ");
  let ends: Endpoints;
  if (protocol === "UNKNOWN") ends = NOBODY;
  else {
    const read = protocol === "TCP4" ? parseIpv4 : protocol === "TCP6" ? parseIpv6 : null;
    if (read === null) throw invalid(buffer, `its protocol is not TCP4, TCP6 or UNKNOWN: received ${show(protocol)}`);
    if (rest.length !== 4) throw invalid(buffer, `it has not two addresses and two ports: received ${show(line)}`);
    const [from, to, fromPort, toPort] = rest as [string, string, string, string];
    const family = protocol === "TCP4" ? "IPv4" : "IPv6";
    const inet = (address: string, port: string): Address => {
      const ip = read(address);
      if (ip === null) throw invalid(buffer, `an address is not of ${family}: received ${show(address)}`);
      if (!/^(0|[1-9]\d{0,4})$/.test(port) || Number(port) > 65_535) {
        throw invalid(buffer, `a port is not between 0 and 65535: received ${show(port)}`);
      }
      return { hostname: formatIp(ip), port: Number(port), family };
    };
    ends = { source: inet(from, fromPort), destination: inet(to, toPort) };
  }
  buffer.drain(lf + 1);
  return { version: 1, command: "PROXY", ...ends, tlvs: [] };
}

function encodeText(from: Endpoint | null, to: Endpoint | null, tlvs: number): Uint8Array {
  if (tlvs > 0) throw unwritable(`version 1 has no TLVs: received ${tlvs}`);
  if (from === null || to === null) return encodeUtf8("PROXY UNKNOWN\r\n");
  if (from.kind === UNIX) throw unwritable("version 1 cannot have the address of a unix socket");
  const protocol = from.kind === INET ? "TCP4" : "TCP6";
  return encodeUtf8(`PROXY ${protocol} ${formatIp(from.bytes)} ${formatIp(to.bytes)} ${from.port} ${to.port}\r\n`);
}

// ---- version 2

const INET = 1;
const INET6 = 2;
const UNIX = 3;
const STREAM = 1;

interface Endpoints {
  source: Address | null;
  destination: Address | null;
}

const NOBODY: Endpoints = { source: null, destination: null };

function decodeBinary(buffer: EvBuffer, start: Uint8Array): ProxyHeader | null {
  if (!begins(start, V2_SIGNATURE)) throw invalid(buffer, "it does not begin with the signature");
  const [what, kind] = [start[12], start[13]];
  if (what !== undefined && what !== 0x20 && what !== 0x21) {
    throw invalid(buffer, `its version and command are not those of version 2: received 0x${what.toString(16)}`);
  }
  const family = (kind ?? 0) >> 4;
  const protocol = (kind ?? 0) & 15;
  if (family > UNIX || protocol > 2) {
    throw invalid(buffer, `its family or protocol does not exist: received 0x${(kind as number).toString(16)}`);
  }
  if (start.length < V2_FIXED) return null;
  const length = (start[14] as number) << 8 | (start[15] as number);
  const isLocal = what === 0x20;
  const addressBytes = family === 0 || protocol === 0 ? 0 : ADDRESS_BYTES[family] as number;
  if (!isLocal && length < addressBytes) {
    throw invalid(buffer, `it is too short for its addresses: received a length of ${length}`);
  }
  if (buffer.length < V2_FIXED + length) return null;
  const bytes = peek(buffer, V2_FIXED + length);
  // The addresses of LOCAL have no meaning. A sender may leave them out.
  const tlvs = decodeTlvs(buffer, bytes, V2_FIXED + Math.min(addressBytes, length));
  const ends = isLocal || addressBytes === 0 ? NOBODY : endsOf(bytes, family);
  buffer.drain(V2_FIXED + length);
  return { version: 2, command: isLocal ? "LOCAL" : "PROXY", ...ends, tlvs };
}

function endsOf(bytes: Uint8Array, family: number): Endpoints {
  if (family === UNIX) {
    const path = (at: number): Address => {
      const field = bytes.subarray(at, at + UNIX_BYTES);
      // An abstract name begins with a NUL; a path ends with the first one.
      const end = field.indexOf(0, 1);
      const name = end < 0 ? field : field.subarray(0, end);
      return { path: name[0] === 0 && name.length === 1 ? "" : decodeUtf8(name) };
    };
    return { source: path(V2_FIXED), destination: path(V2_FIXED + UNIX_BYTES) };
  }
  const size = family === INET ? 4 : 16;
  const inet = (n: 0 | 1): Address => {
    const at = V2_FIXED + n * size;
    const portAt = V2_FIXED + 2 * size + 2 * n;
    return {
      hostname: formatIp(bytes.subarray(at, at + size)),
      port: (bytes[portAt] as number) << 8 | (bytes[portAt + 1] as number),
      family: family === INET ? "IPv4" : "IPv6",
    };
  };
  return { source: inet(0), destination: inet(1) };
}

function decodeTlvs(buffer: EvBuffer, bytes: Uint8Array, from: number): ProxyTlv[] {
  const tlvs: ProxyTlv[] = [];
  let at = from;
  while (at < bytes.length) {
    const type = bytes[at] as number;
    const length = at + 3 <= bytes.length ? (bytes[at + 1] as number) << 8 | (bytes[at + 2] as number) : Infinity;
    if (at + 3 + length > bytes.length) throw invalid(buffer, `the TLV at byte ${at} is longer than the header`);
    if (type === PP2_TYPE_CRC32C) checkCrc(buffer, bytes, at + 3, length);
    tlvs.push({ type, value: bytes.slice(at + 3, at + 3 + length) });
    at += 3 + length;
  }
  return tlvs;
}

function checkCrc(buffer: EvBuffer, bytes: Uint8Array, at: number, length: number): void {
  if (length !== 4) throw invalid(buffer, `its CRC-32C has ${length} bytes and not 4`);
  const whole = bytes.slice();
  whole.fill(0, at, at + 4);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (view.getUint32(at) !== crc32c(whole)) throw invalid(buffer, "its CRC-32C is wrong");
}

function encodeBinary(
  command: ProxyHeader["command"],
  from: Endpoint | null,
  to: Endpoint | null,
  tlvs: readonly ProxyTlv[],
): Uint8Array {
  const kind = from?.kind ?? 0;
  const parts: Uint8Array[] = [];
  if (from !== null && to !== null) {
    parts.push(from.bytes, to.bytes);
    if (kind !== UNIX) parts.push(Uint8Array.of(from.port >> 8, from.port & 255, to.port >> 8, to.port & 255));
  }
  let length = ADDRESS_BYTES[kind] as number;
  let crcAt = 0;
  for (const tlv of tlvs) {
    const { type, value } = readOptions(DOING, tlv, PROXY_TLV, "tlv");
    if (!Number.isInteger(type) || type < 0 || type > 255) {
      throw unwritable(`the type of a TLV is not between 0 and 255: received ${show(type)}`);
    }
    let bytes = checkBytes(DOING, "the value of a TLV", value);
    if (type === PP2_TYPE_CRC32C) {
      if (crcAt > 0) throw unwritable("it has two TLVs with a CRC-32C");
      bytes = new Uint8Array(4);
      crcAt = V2_FIXED + length + 3;
    }
    if (bytes.length > 65_535) throw unwritable(`a TLV is longer than 65535 bytes: received ${bytes.length}`);
    parts.push(Uint8Array.of(type, bytes.length >> 8, bytes.length & 255), bytes);
    length += 3 + bytes.length;
  }
  if (length > 65_535) throw unwritable(`it is longer than 65535 bytes: received ${length}`);
  const header = new Uint8Array(V2_FIXED + length);
  header.set(V2_SIGNATURE);
  header.set([command === "LOCAL" ? 0x20 : 0x21, kind === 0 ? 0 : kind << 4 | STREAM, length >> 8, length & 255], 12);
  let at = V2_FIXED;
  for (const part of parts) {
    header.set(part, at);
    at += part.length;
  }
  if (crcAt > 0) new DataView(header.buffer).setUint32(crcAt, crc32c(header));
  return header;
}

/** One end of a connection, in the form of a header. */
interface Endpoint {
  readonly kind: typeof INET | typeof INET6 | typeof UNIX;
  readonly bytes: Uint8Array;
  readonly port: number;
}

function endOf(what: string, address: Address | null): Endpoint | null {
  if (address === null) return null;
  const { path: name, hostname, port } = readOptions<AnyAddress>(DOING, address, ADDRESS, what);
  if (name !== undefined) {
    const path = encodeUtf8(checkText(DOING, `the path of the ${what}`, name));
    if (path.length > UNIX_BYTES) {
      throw unwritable(`the path of the ${what} is longer than ${UNIX_BYTES} bytes: received ${show(name)}`);
    }
    const bytes = new Uint8Array(UNIX_BYTES);
    bytes.set(path);
    return { kind: UNIX, bytes, port: 0 };
  }
  if (port === undefined || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw unwritable(`the port of the ${what} is not between 0 and 65535: received ${show(port)}`);
  }
  const four = typeof hostname === "string" ? parseIpv4(hostname) : null;
  if (four !== null) return { kind: INET, bytes: four, port };
  const six = typeof hostname === "string" ? parseIpv6(hostname) : null;
  if (six !== null) return { kind: INET6, bytes: six, port };
  throw unwritable(`the ${what} is not a numeric address: received ${show(hostname)}`);
}

// ---- helpers

/** The first `n` bytes, or as many as there are. */
function peek(buffer: EvBuffer, n: number): Uint8Array {
  const bytes = new Uint8Array(Math.min(n, buffer.length));
  buffer.copyout(bytes);
  return bytes;
}

/** Whether `bytes` begin with a signature, or are the beginning of it. */
function begins(bytes: Uint8Array, signature: Uint8Array): boolean {
  const n = Math.min(bytes.length, signature.length);
  for (let i = 0; i < n; i++) if (bytes[i] !== signature[i]) return false;
  return true;
}

/** CRC-32C (Castagnoli), as in the specification. */
function crc32c(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc >>> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

function invalid(buffer: EvBuffer, why: string): EventError {
  return blameBuffer(buffer, new EventError(`Cannot read a PROXY header: ${why}`, { code: "EV_PROXY_INVALID" }));
}

function unwritable(why: string): RangeError {
  return new RangeError(`Cannot write a PROXY header: ${why}`);
}
