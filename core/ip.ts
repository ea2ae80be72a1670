/** Numeric addresses as numbers: reading, writing and comparing them. No name is looked up here. */

const OCTET = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const IPV4 = /* @__PURE__ */ new RegExp(`^${OCTET}\\.${OCTET}\\.${OCTET}\\.${OCTET}$`);
const GROUP = /^[0-9a-f]{1,4}$/i;

/**
 * Reads an IPv4 address.
 *
 * @param text Four decimal numbers without leading zeros
 * @returns Its 4 bytes, or null if it is not one
 */
export function parseIpv4(text: string): Uint8Array | null {
  const octets = IPV4.exec(text);
  return octets === null ? null : Uint8Array.from(octets.slice(1), Number);
}

/**
 * Reads an IPv6 address, in any spelling. One with a zone (`fe80::1%eth0`) is none.
 *
 * @param text The address; its last 32 bits may be written as an IPv4 address
 * @returns Its 16 bytes, or null if it is not one
 */
export function parseIpv6(text: string): Uint8Array | null {
  let source = text;
  const dotted = source.slice(source.lastIndexOf(":") + 1);
  const octets = parseIpv4(dotted);
  if (octets !== null) {
    const [a = 0, b = 0, c = 0, d = 0] = octets;
    source = `${source.slice(0, source.length - dotted.length)}${(a << 8 | b).toString(16)}:${
      (c << 8 | d).toString(16)
    }`;
  }
  const halves = source.split("::");
  if (halves.length > 2 || !source.includes(":")) return null;
  const [left = [], right = []] = halves.map((half) => half === "" ? [] : half.split(":"));
  if (![...left, ...right].every((group) => GROUP.test(group))) return null;
  const missing = 8 - left.length - right.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const groups = [...left, ...Array.from({ length: missing }, () => "0"), ...right];
  const bytes = new Uint8Array(16);
  groups.forEach((group, i) => {
    const value = parseInt(group, 16);
    bytes[2 * i] = value >> 8;
    bytes[2 * i + 1] = value & 255;
  });
  return bytes;
}

/**
 * Writes an address.
 *
 * @param bytes 4 bytes of an IPv4 address, or 16 of an IPv6 address
 * @returns Four decimal numbers, or the shortest form of RFC 5952; `::ffff:192.0.2.1` for an IPv4 address in IPv6
 */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  if (isMapped(bytes)) return `::ffff:${bytes.subarray(12).join(".")}`;
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i] as number) << 8 | (bytes[2 * i + 1] as number));
  let best = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let end = start;
    while (end < 8 && groups[end] === 0) end++;
    if (end - start > bestLength) {
      best = start;
      bestLength = end - start;
    }
  }
  const text = groups.map((group) => group.toString(16));
  if (best < 0) return text.join(":");
  return `${text.slice(0, best).join(":")}::${text.slice(best + bestLength).join(":")}`;
}

/** Whether 16 bytes are an IPv4 address that is written as one of IPv6. */
export function isMapped(bytes: Uint8Array): boolean {
  return bytes.length === 16 && bytes[10] === 255 && bytes[11] === 255 &&
    bytes.subarray(0, 10).every((byte) => byte === 0);
}

/**
 * Whether an address means a multicast group.
 *
 * @param bytes 4 bytes of an IPv4 address, or 16 of an IPv6 address
 */
export function isMulticast(bytes: Uint8Array): boolean {
  const [first = 0] = bytes;
  return bytes.length === 4 ? first >= 224 && first <= 239 : first === 255;
}

/**
 * Reads a numeric address of either family. An IPv4 address in IPv6 is the IPv4 address, since it is the same host.
 *
 * @param text The address
 * @returns Its 4 or 16 bytes, or null if it is not one
 */
export function parseIp(text: string): Uint8Array | null {
  const bytes = parseIpv4(text) ?? parseIpv6(text);
  return bytes !== null && isMapped(bytes) ? bytes.subarray(12) : bytes;
}

/** A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single address. */
export class Cidr {
  private readonly prefix: Uint8Array;
  private readonly bits: number;

  private constructor(prefix: Uint8Array, bits: number) {
    this.prefix = prefix;
    this.bits = bits;
  }

  /**
   * Reads a block. The bits behind its prefix are ignored.
   *
   * @param text The block
   * @returns The block, or null if it is not one
   */
  static parse(text: string): Cidr | null {
    const slash = text.indexOf("/");
    const address = slash < 0 ? text : text.slice(0, slash);
    const bytes = parseIpv4(address) ?? parseIpv6(address);
    if (bytes === null) return null;
    const whole = bytes.length * 8;
    if (slash >= 0 && !/^(0|[1-9]\d{0,2})$/.test(text.slice(slash + 1))) return null;
    let bits = slash < 0 ? whole : Number(text.slice(slash + 1));
    if (bits > whole) return null;
    // An IPv4 address in IPv6 is compared as the IPv4 address that it is.
    const mapped = isMapped(bytes) && bits >= 96;
    if (mapped) bits -= 96;
    return new Cidr(mapped ? bytes.subarray(12) : bytes, bits);
  }

  /**
   * Whether an address is in the block. None of one family is in a block of the other.
   *
   * @param address What `parseIp` gave
   */
  has(address: Uint8Array): boolean {
    if (address.length !== this.prefix.length) return false;
    const whole = this.bits >> 3;
    for (let i = 0; i < whole; i++) if (address[i] !== this.prefix[i]) return false;
    const rest = this.bits & 7;
    if (rest === 0) return true;
    const mask = 0xff << 8 - rest & 0xff;
    return ((address[whole] as number) & mask) === ((this.prefix[whole] as number) & mask);
  }
}
