/** Addresses: distinguishes numeric ones from names, and checks those of the program. */

import { checkCount, checkNoNul, outOfRange, shorten, wrongType } from "../checks.ts";
import { EventError } from "../errors.ts";
import { parseIpv4, parseIpv6 } from "../ip.ts";
import type { Address, ConnectOptions, ListenOptions } from "../runtime.ts";

/**
 * Returns the family of a numeric address.
 *
 * @param hostname A string that may be one
 * @returns Its family, or undefined for a host name or nonsense
 */
export function familyOf(hostname: string): "IPv4" | "IPv6" | undefined {
  if (parseIpv4(hostname) !== null) return "IPv4";
  return isIPv6(hostname) ? "IPv6" : undefined;
}

/** The longest name that DNS has; no path of a socket is so long. */
export const LONGEST_NAME = 253;

/** Returns an address as text: `127.0.0.1:80`, `[::1]:80`, `unix:/run/x`. */
export function formatAddress(address: Address | ListenOptions | ConnectOptions): string {
  const { path, port = 0, fd } = address as ListenOptions;
  if (fd !== undefined) return `fd ${fd}`;
  const hostname = shorten((address as ListenOptions).hostname ?? "", LONGEST_NAME);
  if (path !== undefined) return `unix:${shorten(path, LONGEST_NAME).replace("\0", "@")}`;
  return hostname.includes(":") ? `[${hostname}]:${port}` : `${hostname}:${port}`;
}

/**
 * Checks the address to listen on or connect to. The options are a copy of those from the program.
 *
 * @throws {TypeError} For a value of a wrong type
 * @throws {RangeError} For a port that is out of range, or an unknown family
 * @throws {EventError} `EINVAL` for a NUL inside a name, or a numeric address of another family than was asked for
 */
export function checkTarget(doing: string, options: ListenOptions | ConnectOptions, minPort: number): void {
  const { path, hostname, port, family } = options;
  const { fd } = options as ListenOptions;
  if (fd !== undefined) {
    checkCount(doing, "the file descriptor (fd)", fd);
    if (path === undefined && port === undefined && hostname === undefined && family === undefined) return;
    throw wrongType(doing, "both a file descriptor (fd) and an address were given", fd);
  }
  if (path !== undefined) {
    if (typeof path !== "string" || path === "") {
      throw wrongType(doing, "the path is not a non-empty string", path);
    }
    if (port !== undefined || hostname !== undefined) {
      throw wrongType(doing, "both a path and a hostname or port were given", path);
    }
    // An abstract name begins with one.
    checkNoNul(doing, "the path", path.startsWith("\0") ? path.slice(1) : path);
    return;
  }
  if (hostname !== undefined && (typeof hostname !== "string" || hostname === "")) {
    throw wrongType(doing, "the hostname is not a non-empty string", hostname);
  }
  if (family !== undefined && family !== "IPv4" && family !== "IPv6") {
    throw outOfRange(doing, "the family is not IPv4 or IPv6", family);
  }
  if (hostname !== undefined) checkHostname(doing, hostname, family);
  if (typeof port !== "number") {
    throw wrongType(doing, "the port is not a number", port);
  }
  if (!Number.isInteger(port) || port < minPort || port > 65535) {
    throw new RangeError(`Cannot ${doing}: the port is not between ${minPort} and 65535: received ${port}`);
  }
}

/**
 * Checks a host name or numeric address.
 *
 * @param doing The purpose
 * @param hostname The name
 * @param family The family that a numeric address must be of, or undefined for any
 * @throws {EventError} `EINVAL` for a NUL inside it, or an address of another family
 */
export function checkHostname(doing: string, hostname: string, family?: "IPv4" | "IPv6"): void {
  checkNoNul(doing, "the address", hostname);
  if (hostname.length > LONGEST_NAME) {
    throw outOfRange(doing, `the address has more than ${LONGEST_NAME} characters`, hostname);
  }
  const own = familyOf(hostname);
  if (family === undefined || own === undefined || own === family) return;
  throw new EventError(`Cannot ${doing}: ${shorten(hostname, LONGEST_NAME)} is not an ${family} address`, {
    code: "EINVAL",
  });
}

/** An IPv6 address may have a zone. */
function isIPv6(text: string): boolean {
  const zone = text.indexOf("%");
  if (zone < 0) return parseIpv6(text) !== null;
  return zone < text.length - 1 && parseIpv6(text.slice(0, zone)) !== null;
}
