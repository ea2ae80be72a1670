/**
 * The messages of errors: the same on each runtime, and in the simulator.
 *
 * @module
 */

import { encodeUtf8 } from "../../core/buffer/utf8.ts";
import { shorten } from "../../core/checks.ts";
import { EventError } from "../../core/errors.ts";
import type { Address } from "../../core/runtime.ts";
import { LONGEST_NAME } from "../../core/socket/address.ts";

/** Texts by code. Each runtime has its own words; these replace them. */
const REASONS: { readonly [code: string]: string } = {
  EACCES: "permission denied",
  EADDRINUSE: "the address is in use",
  EADDRNOTAVAIL: "the address is not one of this machine",
  EAFNOSUPPORT: "the address is of another family",
  EAI_AGAIN: "the name server did not answer",
  ECANCELED: "the operation was cancelled",
  ECONNABORTED: "the connection was aborted",
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset by the peer",
  EHOSTUNREACH: "no route to the host",
  EMFILE: "too many open files",
  ENODEV: "there is no such interface",
  EMSGSIZE: "the datagram is too long",
  ENETUNREACH: "the network is unreachable",
  ENOENT: "no such file or directory",
  ENOTDIR: "a part of the path is not a directory",
  ENOTFOUND: "there is no such host name",
  EPIPE: "the peer has closed the connection",
  ETIMEDOUT: "timed out",
};

/** Codes by the name of an error, for a runtime whose errors have no `code`. */
const NAMES: { readonly [name: string]: string } = {
  NotCapable: "EACCES",
  PermissionDenied: "EACCES",
  NotFound: "ENOENT",
  AddrInUse: "EADDRINUSE",
  AddrNotAvailable: "EADDRNOTAVAIL",
  ConnectionRefused: "ECONNREFUSED",
  ConnectionReset: "ECONNRESET",
  ConnectionAborted: "ECONNABORTED",
  BrokenPipe: "EPIPE",
  TimedOut: "ETIMEDOUT",
  BadResource: "EBADF",
  RangeError: "EINVAL",
  TypeError: "EINVAL",
};

/** Node's code if the process was started without the permission. */
export const DENIED = "ERR_ACCESS_DENIED";

function codeOf(reason: unknown): string {
  const { code, name } = (reason ?? {}) as { code?: unknown; name?: unknown };
  if (code === DENIED) return "EACCES";
  // Node's own argument checks have codes such as ERR_SOCKET_BAD_PORT.
  if (typeof code === "string" && code !== "") return code.startsWith("ERR_") ? "EINVAL" : code;
  return (typeof name === "string" ? NAMES[name] : undefined) ?? "EIO";
}

/**
 * Converts an error of the runtime to the error to report.
 *
 * @param tried The words for what was tried: "connect to 127.0.0.1:80"
 * @param reason The runtime's error
 * @param syscall The call that failed
 * @param code The code, if it is known better than from `reason`
 */
export function failure(tried: string, reason: unknown, syscall: string, code: string = codeOf(reason)): EventError {
  if (reason instanceof EventError) return reason as EventError;
  const own = reason instanceof Error ? reason.message : String(reason);
  // Deno's and Node's texts name the missing flag, so keep them.
  const { name, code: hostCode } = (reason ?? {}) as { name?: unknown; code?: unknown };
  const text = name === "NotCapable" || hostCode === DENIED ? `permission denied: ${own}` : REASONS[code] ?? own;
  return new EventError(`Cannot ${tried}: ${text} (${code})`, { code, syscall, cause: reason });
}

/**
 * The error for a failure that no runtime has reported: as `failure()`, with the given reason if the code has no usual
 * text.
 */
export function refusal(tried: string, code: string, syscall: string, why: string = REASONS[code] ?? code): EventError {
  return new EventError(`Cannot ${tried}: ${why} (${code})`, { code, syscall });
}

/** The most bytes of a unix socket's path, without the NUL at the end: `sun_path` of Linux and of the BSDs. */
export function longestPath(platform: string | undefined): number {
  return platform === "linux" ? 107 : platform === "darwin" || platform === "freebsd" ? 103 : Infinity;
}

/**
 * Refuses a path that is longer than the system takes. Otherwise it would be truncated.
 *
 * @throws {EventError} `EINVAL`
 */
export function checkPath(tried: string, path: string, syscall: string, most: number): void {
  // Each UTF-16 unit is one to three bytes.
  if (path.length * 3 <= most || encodeUtf8(path).length <= most) return;
  throw refusal(tried, "EINVAL", syscall, `the path is longer than ${most} bytes`);
}

/** An address as error messages show it. */
export function show(
  address: {
    hostname?: string | undefined;
    port?: number | undefined;
    path?: string | undefined;
    fd?: number | undefined;
  },
): string {
  if (address.fd !== undefined) return `file descriptor ${address.fd}`;
  if (address.path !== undefined) {
    return address.path === "" ? "an unnamed unix socket" : shorten(address.path, LONGEST_NAME).replace(/^\0/, "@");
  }
  const { hostname = "127.0.0.1", port } = address;
  const text = hostname.includes(":") ? `[${hostname}]` : hostname;
  return port === undefined ? text : `${text}:${port}`;
}

/** The words for what was tried when an established connection fails. */
export function keeping(remote: Address | undefined): string {
  return `keep the connection with ${remote === undefined ? "an unknown peer" : show(remote as { path?: string })}`;
}
