/**
 * Parts that all adapters share: clock, timers, signals, names, files, addresses and messages of errors.
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
import { checkCapabilities, shorten } from "../../core/checks.ts";
import { checkHostname, LONGEST_NAME } from "../../core/socket/address.ts";
import { hostCompressor } from "./compression.ts";
import { checkPath, DENIED, failure, longestPath, show } from "./errors.ts";
import type { HostGlobals, HostTimer } from "../types/host.ts";
import type { NodeDns, NodeFs, NodeOs, NodeUrl } from "../types/node.ts";

export { failure, keeping, show } from "./errors.ts";

/** The global object, with the parts that adapters use. */
export const host: HostGlobals = globalThis as unknown as HostGlobals;

/** How many bytes a connection queues in front of the kernel before its `write` returns 0. */
export const WRITE_AHEAD: number = 64 * 1024;
/** The most bytes that one `write` takes, so that a huge chunk is not held whole. */
export const WRITE_SLICE: number = 256 * 1024;

/**
 * Returns a module of Node without an import, which would not resolve everywhere. This is synchronous, and works on
 * Node from 20.16, on Deno (without a permission) and on Bun.
 */
export function builtin<T>(name: string): T {
  const module = host.process?.getBuiltinModule?.(name);
  if (module === undefined) {
    throw new EventError(
      `Cannot load ${name}: this runtime has no process.getBuiltinModule (Node 20.16, Deno 2.1 or Bun 1.1.39 have it)`,
      { code: "EV_UNSUPPORTED" },
    );
  }
  return module as T;
}

/**
 * The ASCII form of a host name: other letters are encoded by IDNA (`xn--…`). Node's function reads the name as part of
 * a URL, and stops at a `/`. A string with such characters is not a host name and is returned unchanged.
 */
export function asciiName(name: string): string {
  // deno-lint-ignore no-control-regex
  if (/^[\x00-\x7f]*$/.test(name) || /[^\w.\-\u0080-\uffff]/.test(name)) return name;
  return builtin<NodeUrl>("node:url").domainToASCII(name) || name;
}

/** The family of a numeric address. */
export function familyOf(hostname: string): "IPv4" | "IPv6" {
  return hostname.includes(":") ? "IPv6" : "IPv4";
}

/** Converts a runtime's address; undefined if it gave none. */
export function inet(hostname: string | undefined, port: number | undefined): InetAddress | undefined {
  return hostname === undefined || port === undefined ? undefined : { hostname, port, family: familyOf(hostname) };
}

/** The local address of each connection of a listener on `address`; undefined if it differs between connections. */
export function fixedAddress(address: Address): Address | undefined {
  if (!("port" in address)) return undefined;
  // `::ffff:` is IPv4 in IPv6. It has a wildcard, too, and more than one spelling.
  return /^(0\.0\.0\.0$|::$|::ffff:)/i.test(address.hostname) ? undefined : address;
}

/** The address to listen on or connect to, with the defaults filled in. */
export type Target = { path: string } | { path?: undefined; hostname: string; port: number };

/**
 * Fills in the defaults, and refuses options that the runtime does not support.
 *
 * @throws {EventError} `EV_UNSUPPORTED` or `EINVAL`
 */
export function target(
  runtime: HostRuntime,
  verb: "listen on" | "connect to",
  options: Omit<ListenOptions, "tls"> & Omit<ConnectOptions, "tls"> & { tls?: object | undefined },
): Target {
  const six = options.family === "IPv6";
  const [v6, v4] = verb === "listen on" ? ["::", "0.0.0.0"] : ["::1", "127.0.0.1"];
  const hostname = options.hostname ?? (six ? v6 : v4);
  const tried = `${verb} ${show({ hostname, port: options.port, path: options.path })}`;
  checkCapabilities(tried, runtime, options);
  if (options.path !== undefined) {
    // Node truncates a longer path and listens on another name: uv_pipe_bind2() in libuv's pipe.c.
    const syscall = verb === "listen on" ? "listen" : "connect";
    checkPath(tried, options.path, syscall, longestPath(host.process?.platform));
    return { path: options.path };
  }
  checkHostname(tried, hostname, options.family);
  if (options.port === undefined && verb === "connect to") {
    throw new EventError(`Cannot ${tried}: there is neither a port nor a path`, { code: "EINVAL" });
  }
  return { hostname, port: options.port ?? 0 };
}

/** Where to listen: an address, or a descriptor. */
export type ListenTarget = (Target & { fd?: undefined }) | { path?: undefined; fd: number };

/**
 * As `target()`, for `listen()`.
 *
 * @throws {EventError} `EV_UNSUPPORTED` or `EINVAL`
 */
export function listenTarget(runtime: HostRuntime, options: ListenOptions): ListenTarget {
  const { fd } = options;
  if (fd === undefined) return target(runtime, "listen on", options);
  checkCapabilities(`listen on ${show({ fd })}`, runtime, options);
  return { fd };
}

/** The error of a failed lookup. Without a reason, no address was found. */
function lookupFailure(tried: string, reason: unknown): EventError {
  const code = (reason as { code?: unknown } | null | undefined)?.code;
  // Node reports EINVAL for a name that is too long.
  if (!reason || code === "EAI_NONAME" || code === "EAI_NODATA" || code === "ENODATA" || code === "EINVAL") {
    return failure(tried, reason ?? undefined, "getaddrinfo", "ENOTFOUND");
  }
  // This is how getaddrinfo of Deno and of Node reports a missing permission.
  if (code !== "EPERM" && code !== DENIED) return failure(tried, reason, "getaddrinfo");
  const text = `Cannot ${tried}: permission denied: it takes the flag --allow-net (EACCES)`;
  return new EventError(text, { code: "EACCES", syscall: "getaddrinfo", cause: reason });
}

/** The sink of a connection whose owner has not set one yet. */
export const SILENT: TransportSink = {
  onConnect() {},
  onSecure() {},
  onData() {},
  onEnd() {},
  onWritable() {},
  onClose() {},
};

/** The listener or client that a connection belongs to. */
export interface Origin {
  readonly runtime: HostRuntime;
  /** The address that a client connects to; undefined if the connection was accepted. */
  readonly to: ConnectOptions | undefined;
  readonly unixPath: string | undefined;
}

/** Calls `fn` after this many immediates, each made by the one before it. */
export function afterImmediates(count: number, fn: () => void): void {
  host.setImmediate(count <= 1 ? fn : () => afterImmediates(count - 1, fn));
}

/** The part of {@linkcode Runtime} that all adapters share. */
export abstract class HostRuntime implements Runtime {
  abstract readonly name: "node" | "deno" | "bun";
  abstract readonly capabilities: Readonly<Capabilities>;
  /** The reasons why capabilities are false. */
  lacks: Partial<Record<keyof Capabilities, string>> = {};
  /** How many handles the adapter has open. */
  openHandles = 0;

  random(): number {
    return Math.random();
  }

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

  /** The first immediate may belong to the present poll. On Bun it may run before the next one. */
  poll(fn: () => void): void {
    afterImmediates(2, fn);
  }

  report(error: unknown): void {
    try {
      host.console.error(error);
    } catch {
      // The error's own inspector has thrown. There is nothing left to report it to.
    }
  }

  onSignal(name: string, fn: () => void): () => void {
    const process = host.process;
    const known = builtin<NodeOs>("node:os").constants.signals;
    if (process === undefined || known[name] === undefined || name === "SIGKILL" || name === "SIGSTOP") {
      throw new EventError(`Cannot catch signal ${name}: it cannot be caught`, { code: "EV_UNSUPPORTED" });
    }
    // A new listener for each call, so that the same function may be added twice.
    const listener = () => fn();
    try {
      process.on(name, listener);
    } catch (cause) {
      throw new EventError(`Cannot catch signal ${name}: the runtime refuses`, { code: "EV_UNSUPPORTED", cause });
    }
    return () => {
      process.removeListener(name, listener);
    };
  }

  /**
   * `getaddrinfo`, which reads `/etc/hosts`, in the system's order. On Node and Bun it is the runtime's own resolver.
   * On Deno nothing else returns both families in the system's order: `Deno.resolveDns` asks the name server for one
   * record type.
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
      throw failure(`read ${shorten(path, LONGEST_NAME)}`, error, "read");
    }
  }

  compressor(format: CompressionFormat, way: "compress" | "decompress", level: number | undefined): Compressor {
    return hostCompressor(format, way, level);
  }

  abstract listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding>;
  abstract connect(options: ConnectOptions, sink: TransportSink): TransportBinding;
}
