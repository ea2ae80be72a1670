/**
 * Numeric addresses as the simulated network reads them: one spelling for each, and which listener an address means.
 *
 * @module
 */

import { formatIp, isMapped, isMulticast as isGroup, parseIpv4, parseIpv6 } from "../../core/ip.ts";
import type { InetAddress } from "../../core/runtime.ts";

/** A numeric address in its one spelling. */
export interface Ip {
  /** The address: four decimal numbers, or the shortest form of RFC 5952. */
  readonly hostname: string;
  /** Its family. */
  readonly family: "IPv4" | "IPv6";
  /** Whether it is an IPv4 address that was written as one of IPv6, so that it belongs to an IPv6 socket. */
  readonly mapped?: boolean;
}

/** The bound address of a listener or a datagram socket. */
export interface Bound extends Ip {
  /** The port, never 0. */
  readonly port: number;
  /** Whether `::` excludes IPv4. */
  readonly ipv6Only: boolean;
}

/**
 * Reads a numeric address. An IPv4 address written in IPv6 (`::ffff:127.0.0.1`) is the IPv4 address, and `mapped`.
 *
 * @param text The address, in any spelling
 * @returns The address in its one spelling, or undefined if it is not one
 */
export function parseIp(text: string): Ip | undefined {
  const bytes = parseIpv4(text) ?? parseIpv6(text);
  if (bytes === null) return undefined;
  if (isMapped(bytes)) return { hostname: formatIp(bytes.subarray(12)), family: "IPv4", mapped: true };
  return { hostname: formatIp(bytes), family: bytes.length === 4 ? "IPv4" : "IPv6" };
}

/**
 * Tells whether an address means every address of a host.
 *
 * @param ip The address
 * @returns True for `0.0.0.0` and `::`
 */
export function isWildcard(ip: Ip): boolean {
  return ip.hostname === "0.0.0.0" || ip.hostname === "::";
}

/**
 * Tells whether an address means the host itself.
 *
 * @param ip The address
 * @returns True for `127.*` and `::1`
 */
export function isLoopback(ip: Ip): boolean {
  return ip.hostname === "::1" || (ip.family === "IPv4" && ip.hostname.startsWith("127."));
}

/**
 * Tells whether an address means a multicast group.
 *
 * @param ip The address
 * @returns True for `224.0.0.0/4` and `ff00::/8`
 */
export function isMulticast(ip: Ip): boolean {
  const bytes = parseIpv4(ip.hostname) ?? parseIpv6(ip.hostname);
  return bytes !== null && isGroup(bytes);
}

/**
 * Tells whether an address means every host of a network: `255.255.255.255`, the broadcast address
 * of the hosts' `10.0.0.0/8`, or that of the loopback, which is the host alone.
 *
 * @param ip The address
 * @returns True if so
 */
export function isBroadcast(ip: Ip): boolean {
  return ["255.255.255.255", "10.255.255.255", "127.255.255.255"].includes(ip.hostname);
}

/**
 * Tells how well a binding fits an address. The best fit gets the connection, as on a real host.
 *
 * @param bound The bound address
 * @param ip The requested address
 * @returns 3 for the same address, 2 for every address of its family, 1 for `::` that includes
 * IPv4, 0 for no fit
 */
export function fit(bound: Bound, ip: Ip): number {
  if (bound.hostname === ip.hostname) return 3;
  if (!isWildcard(bound)) return 0;
  if (bound.family === ip.family) return 2;
  return bound.family === "IPv6" && !bound.ipv6Only ? 1 : 0;
}

/**
 * Tells whether two bindings of one port exclude each other.
 *
 * @param a One binding
 * @param b The other binding
 * @returns True when some address would reach both
 */
export function overlap(a: Bound, b: Bound): boolean {
  return fit(a, b) > 0 || fit(b, a) > 0;
}

/**
 * Gives an address as a socket sees it. An IPv6 socket sees an IPv4 address as `::ffff:127.0.0.1`, as on every real host.
 *
 * @param ip The address
 * @param port The port
 * @param socket The address that the socket is bound or connected to
 * @returns The address that the socket reports
 */
export function seenBy(socket: Ip, ip: Ip, port: number): InetAddress {
  const { hostname, family } = ip;
  if (family === "IPv6" || (socket.family === "IPv4" && socket.mapped !== true)) return { hostname, port, family };
  return { hostname: `::ffff:${hostname}`, port, family: "IPv6" };
}
