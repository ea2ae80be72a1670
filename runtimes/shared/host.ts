/**
 * What is the same on every host: clock, timers, signals, names, files, addresses and the words of an error.
 *
 * @module
 */

import { EventError } from "../../core/errors.ts";
import type {
  AbortSignalLike,
  AcceptSink,
  Address,
  Capabilities,
  CompressionFormat,
  Compressor,
  ConnectOptions,
  InetAddress,
  ListenerBinding,
  ListenOptions,
  Runtime,
  TimerToken,
  TransportBinding,
  TransportSink,
} from "../../core/runtime.ts";
import { checkHostname } from "../../core/socket/address.ts";
import { hostCompressor } from "./compression.ts";
import type { HostGlobals, HostTimer } from "../types/host.ts";
import type { NodeDns, NodeFs, NodeOs, NodeUrl } from "../types/node.ts";

/** The global object, as far as the adapters know it. */
export const host: HostGlobals = globalThis as unknown as HostGlobals;

/** How many bytes a connection holds ahead of the host's kernel before its `write` returns 0. */
export const WRITE_AHEAD: number = 64 * 1024;
/** The most that one `write` takes, so that a giant chunk is not held whole. */
export const WRITE_SLICE: number = 256 * 1024;

/**
 * Reaches a module of Node without importing it, which would not resolve everywhere: it works on Node from 20.16, on
 * Deno (with no permission) and on Bun, synchronously.
 */
export function builtin<T>(name: string): T {
  const module = host.process?.getBuiltinModule?.(name);
  if (module === undefined) {
    throw new EventError(
      `Cannot load ${name}: this host has no process.getBuiltinModule (Node 20.16, Deno 2.1 or Bun 1.1.39 have it)`,
      { code: "EV_UNSUPPORTED" },
    );
  }
  return module as T;
}

/** A host name as the protocols have it: letters other than ASCII in the form of IDNA (`xn--…`). */
export function asciiName(name: string): string {
  // deno-lint-ignore no-control-regex
  if (/^[\x00-\x7f]*$/.test(name)) return name;
  return builtin<NodeUrl>("node:url").domainToASCII(name) || name;
}

/** What every host says in its own words; here it is the same text on each. */
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
  ENETUNREACH: "the network is unreachable",
  ENOENT: "no such file or directory",
  ENOTFOUND: "there is no such host name",
  EPIPE: "the peer has closed the connection",
  ETIMEDOUT: "timed out",
};

/** Where a host has no `code`, its error has a name that says it. */
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

/** What Node says where the process was not started with the permission. */
const DENIED = "ERR_ACCESS_DENIED";

function codeOf(reason: unknown): string {
  const { code, name } = (reason ?? {}) as { code?: unknown; name?: unknown };
  if (code === DENIED) return "EACCES";
  // Node's own argument checks have codes such as ERR_SOCKET_BAD_PORT.
  if (typeof code === "string" && code !== "") return code.startsWith("ERR_") ? "EINVAL" : code;
  return (typeof name === "string" ? NAMES[name] : undefined) ?? "EIO";
}

/**
 * Makes the error to report from what the host threw or reported.
 *
 * @param tried What was tried: "connect to 127.0.0.1:80"
 * @param reason The host's error
 * @param syscall The call that failed
 * @param code The code, where it is known better than the host says it
 */
export function failure(tried: string, reason: unknown, syscall: string, code: string = codeOf(reason)): EventError {
  if (reason instanceof EventError) return reason as EventError;
  const own = reason instanceof Error ? reason.message : String(reason);
  // The texts of Deno and Node name the flag that is missing.
  const { name, code: hostCode } = (reason ?? {}) as { name?: unknown; code?: unknown };
  const text = name === "NotCapable" || hostCode === DENIED ? `permission denied: ${own}` : REASONS[code] ?? own;
  return new EventError(`Cannot ${tried}: ${text} (${code})`, { code, syscall, cause: reason });
}

/** The error of what a capability says to be absent. */
export function unsupported(tried: string, reason: string): EventError {
  return new EventError(`Cannot ${tried}: ${reason}`, { code: "EV_UNSUPPORTED" });
}

/** The family that a numeric address is written in. */
export function familyOf(hostname: string): "IPv4" | "IPv6" {
  return hostname.includes(":") ? "IPv6" : "IPv4";
}

/** The address that a host gave, or undefined where it gave none. */
export function inet(hostname: string | undefined, port: number | undefined): InetAddress | undefined {
  return hostname === undefined || port === undefined ? undefined : { hostname, port, family: familyOf(hostname) };
}

/** The address that a listener on `address` gives each connection, or undefined where it has many. */
export function fixedAddress(address: Address): Address | undefined {
  return "port" in address && address.hostname !== "0.0.0.0" && address.hostname !== "::" ? address : undefined;
}

/** An address in the words of an error. */
export function show(
  address: { hostname?: string | undefined; port?: number | undefined; path?: string | undefined },
): string {
  if (address.path !== undefined) {
    return address.path === "" ? "an unnamed unix socket" : address.path.replace(/^\0/, "@");
  }
  const { hostname = "127.0.0.1", port } = address;
  const text = hostname.includes(":") ? `[${hostname}]` : hostname;
  return port === undefined ? text : `${text}:${port}`;
}

/** What was tried when an established connection failed. */
export function keeping(remote: Address | undefined): string {
  return `keep the connection with ${remote === undefined ? "an unknown peer" : show(remote as { path?: string })}`;
}

/** What is to be listened on or connected to, with the defaults filled in. */
export type Target = { path: string } | { path?: undefined; hostname: string; port: number };

/**
 * Fills the defaults in and refuses what the host can't do.
 *
 * @throws {EventError} `EV_UNSUPPORTED` or `EINVAL`
 */
export function target(
  verb: "listen on" | "connect to",
  options: Omit<ListenOptions, "tls"> & Omit<ConnectOptions, "tls"> & { tls?: object | undefined },
  can: Readonly<Capabilities>,
  reusePortHint: string = "this host or its version can't share a port (reusePort)",
): Target {
  const six = options.family === "IPv6";
  const [v6, v4] = verb === "listen on" ? ["::", "0.0.0.0"] : ["::1", "127.0.0.1"];
  const hostname = options.hostname ?? (six ? v6 : v4);
  const tried = `${verb} ${show({ hostname, port: options.port, path: options.path })}`;
  if (options.tls !== undefined && !can.tls) throw unsupported(tried, "this host has no TLS");
  if (options.reusePort === true && !can.reusePort) throw unsupported(tried, reusePortHint);
  if (options.ipv6Only === true && !can.ipv6Only) throw unsupported(tried, "this host has no ipv6Only");
  if (options.localAddress !== undefined && !can.localAddress) {
    throw unsupported(tried, "this host has no localAddress");
  }
  if (options.path !== undefined) {
    if (!can.unix) throw unsupported(tried, "this host has no unix sockets");
    if (options.path.startsWith("\0") && !can.abstractUnix) throw unsupported(tried, "abstract names are Linux's");
    return { path: options.path };
  }
  checkHostname(tried, hostname, options.family);
  if (options.port === undefined && verb === "connect to") {
    throw new EventError(`Cannot ${tried}: there is neither a port nor a path`, { code: "EINVAL" });
  }
  return { hostname, port: options.port ?? 0 };
}

/** The error of a failed lookup; without a reason nothing was found. */
function lookupFailure(tried: string, reason: unknown): EventError {
  const code = (reason as { code?: unknown } | null | undefined)?.code;
  // Node says EINVAL of a name that is longer than names can be.
  if (!reason || code === "EAI_NONAME" || code === "EAI_NODATA" || code === "ENODATA" || code === "EINVAL") {
    return failure(tried, reason ?? undefined, "getaddrinfo", "ENOTFOUND");
  }
  // So the getaddrinfo of Deno and of Node says that the permission is missing.
  if (code !== "EPERM" && code !== DENIED) return failure(tried, reason, "getaddrinfo");
  const text = `Cannot ${tried}: permission denied: it takes the flag --allow-net (EACCES)`;
  return new EventError(text, { code: "EACCES", syscall: "getaddrinfo", cause: reason });
}

/** The sink of a connection whose owner has not said yet what should be called. */
export const SILENT: TransportSink = {
  onConnect() {},
  onSecure() {},
  onData() {},
  onEnd() {},
  onWritable() {},
  onClose() {},
};

/** Where a connection is from. */
export interface Origin {
  readonly runtime: HostRuntime;
  /** What a client connects to; undefined for what was accepted. */
  readonly to: ConnectOptions | undefined;
  readonly unixPath: string | undefined;
}

/** What the three hosts share of {@linkcode Runtime}. */
export abstract class HostRuntime implements Runtime {
  abstract readonly name: "node" | "deno" | "bun";
  abstract readonly capabilities: Readonly<Capabilities>;
  /** The adapters count here what they open. */
  openHandles = 0;

  now(): number {
    return host.performance.now();
  }

  setTimer(deadlineMs: number, fn: () => void, background?: boolean): TimerToken {
    const ms = Math.ceil(deadlineMs - host.performance.now());
    const timer = host.setTimeout(fn, ms > 0 ? ms : 0);
    if (background === true) timer.unref();
    return timer;
  }

  clearTimer(token: TimerToken): void {
    host.clearTimeout(token as HostTimer);
  }

  defer(fn: () => void): void {
    host.setImmediate(fn);
  }

  report(error: unknown): void {
    try {
      host.console.error(error);
    } catch {
      // An inspector of the error's own threw: nothing is left to report it to.
    }
  }

  onSignal(name: string, fn: () => void): () => void {
    const process = host.process;
    const known = builtin<NodeOs>("node:os").constants.signals;
    if (process === undefined || known[name] === undefined || name === "SIGKILL" || name === "SIGSTOP") {
      throw new EventError(`Cannot catch signal ${name}: it can't be caught here`, { code: "EV_UNSUPPORTED" });
    }
    // One listener of its own for each call, so that the same function may be given twice.
    const listener = () => fn();
    try {
      process.on(name, listener);
    } catch (cause) {
      throw new EventError(`Cannot catch signal ${name}: the host refuses`, { code: "EV_UNSUPPORTED", cause });
    }
    return () => {
      process.removeListener(name, listener);
    };
  }

  /**
   * `getaddrinfo`, which reads `/etc/hosts`, in the system's order. It is the host's own resolver on Node and Bun; on
   * Deno there is no other that gives both families of one name in the system's order (`Deno.resolveDns` asks the name
   * server for one record type).
   */
  resolve(hostname: string, signal?: AbortSignalLike): Promise<InetAddress[]> {
    return new Promise((resolve, reject) => {
      checkHostname("look up a host name", hostname);
      const tried = `look up ${hostname === "" ? "the empty host name" : hostname}`;
      const abort = () => reject(failure(tried, signal?.reason, "getaddrinfo", "ECANCELED"));
      if (signal?.aborted) return abort();
      signal?.addEventListener("abort", abort);
      const done = (error: unknown, found: readonly { address: string; family: number }[] = []) => {
        signal?.removeEventListener("abort", abort);
        if (error || found.length === 0) {
          reject(lookupFailure(tried, error));
        } else {
          resolve(found.map(({ address }) => ({ hostname: address, port: 0, family: familyOf(address) })));
        }
      };
      if (hostname === "") return done(undefined);
      try {
        builtin<NodeDns>("node:dns").lookup(asciiName(hostname), { all: true, verbatim: true }, done);
      } catch (error) {
        done(error);
      }
    });
  }

  async readFile(path: string, offset: number, length: number | undefined): Promise<Uint8Array> {
    try {
      const file = await builtin<NodeFs>("node:fs/promises").open(path);
      try {
        const rest = Math.max(0, (await file.stat()).size - offset);
        const bytes = new Uint8Array(Math.min(rest, length ?? rest));
        let filled = 0;
        while (filled < bytes.length) {
          const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, offset + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        return filled === bytes.length ? bytes : bytes.subarray(0, filled);
      } finally {
        await file.close();
      }
    } catch (error) {
      throw failure(`read ${path}`, error, "read");
    }
  }

  compressor(format: CompressionFormat, way: "compress" | "decompress", level: number | undefined): Compressor {
    return hostCompressor(format, way, level);
  }

  abstract listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding>;
  abstract connect(options: ConnectOptions, sink: TransportSink): TransportBinding;
}
