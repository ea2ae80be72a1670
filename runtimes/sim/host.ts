/**
 * One host of a simulated network: what a {@linkcode Runtime} is there.
 *
 * @module
 */

import {
  checkCount,
  checkFunction,
  checkSignal as checkAbortSignal,
  checkText,
  isA,
  shorten,
  show as showValue,
} from "../../core/checks.ts";
import { EventError } from "../../core/errors.ts";
import type {
  AbortSignalLike,
  AcceptSink,
  Capabilities,
  CompressionFormat,
  Compressor,
  ConnectOptions,
  DatagramBinding,
  DatagramOptions,
  DatagramSink,
  InetAddress,
  ListenerBinding,
  ListenOptions,
  Runtime,
  TimerToken,
  TransportBinding,
  TransportSink,
} from "../../core/runtime.ts";
import { checkHostname } from "../../core/socket/address.ts";
import { hostCompressor } from "../shared/compression.ts";
import { checkPath, failure, longestPath, refusal, show } from "../shared/errors.ts";
import { type Ip, isLoopback, isWildcard, parseIp, seenBy } from "./addresses.ts";
import { SimConnection } from "./connection.ts";
import { SimDatagramSocket } from "./datagram.ts";
import { type Attempt, DEFAULT_BACKLOG, SimListener } from "./listener.ts";
import type { Network } from "./network.ts";
import { PathTable } from "./path_table.ts";
import { PortTable } from "./port_table.ts";
import { Scheduled } from "./scheduler.ts";
import { checkSignal } from "./signals.ts";

/** The ports that connections leave from; none of them is ever chosen for who listens. */
const FIRST_CLIENT_PORT = 32_768;
const CLIENT_PORTS = 16_384;

const CAPABILITIES: Readonly<Capabilities> = /* @__PURE__ */ Object.freeze({
  reusePort: true,
  reset: true,
  halfOpen: true,
  ipv6Only: true,
  backlog: true,
  localAddress: true,
  keepAliveDelay: true,
  pauseAccept: true,
  unix: true,
  abstractUnix: true,
  udp: true,
  signals: true,
  files: true,
  tls: true,
  startTlsServer: true,
  startTlsClient: true,
  tlsTruncation: false,
});

/** One host. */
export class SimHostRuntime implements Runtime {
  readonly endsWhenIdle = false;
  readonly name = "sim" as const;
  readonly capabilities: Readonly<Capabilities> = CAPABILITIES;
  /** The network it belongs to. */
  readonly network: Network;
  /** Its addresses, without those of the loopback. */
  readonly addresses: readonly string[];
  /** What `readFile()` reads, by path. */
  readonly files: Map<string, Uint8Array> = new Map();
  /** Who has bound which port for datagrams. */
  readonly datagrams: PortTable<SimDatagramSocket> = new PortTable();
  /** How many listeners, connections and datagram sockets are open. */
  handles = 0;
  /** How many there can be. */
  handleLimit: number = Infinity;
  readonly #listeners: PortTable<SimListener> = new PortTable();
  readonly #paths: PathTable<SimListener> = new PathTable(this.files);
  readonly #signals: Map<string, Set<() => void>> = new Map();
  #connects = 0;

  /**
   * Makes a host.
   *
   * @param network The network it belongs to
   * @param addresses Its addresses, without those of the loopback
   */
  constructor(network: Network, addresses: readonly string[]) {
    this.network = network;
    this.addresses = addresses;
  }

  get openHandles(): number {
    return this.handles;
  }

  now(): number {
    return this.network.scheduler.now;
  }

  setTimer(deadlineMs: number, fn: () => void): TimerToken {
    if (typeof deadlineMs !== "number" || Number.isNaN(deadlineMs)) {
      throw new TypeError(`Cannot set a timer: the deadline is not a number: received ${showValue(deadlineMs)}`);
    }
    checkFunction("set a timer", "it", fn);
    return this.network.scheduler.at(deadlineMs, fn);
  }

  clearTimer(token: TimerToken): void {
    // Whatever else somebody gives is no timer that could be forgotten.
    if (isA<Scheduled>(token, Scheduled)) this.network.scheduler.cancel(token);
  }

  defer(fn: () => void): void {
    checkFunction("defer", "it", fn);
    this.network.scheduler.defer(fn);
  }

  report(error: unknown): void {
    this.network.scheduler.fail(error);
  }

  onSignal(name: string, fn: () => void): () => void {
    checkSignal(name);
    checkFunction("catch a signal", "the handler", fn);
    const handler = (): void => fn();
    const handlers = this.#signals.get(name) ?? new Set();
    this.#signals.set(name, handlers.add(handler));
    return () => void handlers.delete(handler);
  }

  /**
   * Raises a signal: every handler that the host has for it is called, in the order in which they were set.
   *
   * @param name The signal: `SIGTERM`
   * @throws {EventError} `EV_UNSUPPORTED` for what is no signal or can't be caught
   */
  raise(name: string): void {
    checkSignal(name);
    const handlers = this.#signals.get(name) ?? new Set();
    for (const handler of handlers) {
      this.network.soon(() => {
        if (handlers.has(handler)) handler();
      });
    }
  }

  /** The directories in which a unix socket may be bound. */
  get directories(): Set<string> {
    return this.#paths.directories;
  }

  /**
   * Removes a file, or the file of a unix socket, as another process may.
   *
   * @param path Its path
   */
  unlink(path: string): void {
    checkText("remove a file", "the path", path);
    this.files.delete(path);
    this.#paths.unlink(path);
  }

  listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    return new Promise((resolve) => resolve(this.#listen(options, sink)));
  }

  connect(options: ConnectOptions, sink: TransportSink): TransportBinding {
    const client = new SimConnection(this, sink);
    try {
      if (this.handles > this.handleLimit) throw this.exhausted(`connect to ${show(options)}`, "connect");
      if (options.path !== undefined) this.#connectPath(options.path, client);
      else this.#connectInet(options, client);
    } catch (error) {
      if (!(error instanceof EventError)) throw error;
      this.network.soon(() => client.refuse(error));
    }
    return client;
  }

  resolve(hostname: string, signal?: AbortSignalLike): Promise<InetAddress[]> {
    this.network.scheduler.touch();
    try {
      const doing = "look up a host name";
      checkHostname(doing, checkText(doing, "the name", hostname));
      checkAbortSignal(doing, signal);
    } catch (error) {
      return Promise.reject(error);
    }
    if (signal?.aborted) return Promise.reject(canceled(hostname, signal));
    const ip = parseIp(hostname);
    if (ip !== undefined) return Promise.resolve([seenBy(ip, ip, 0)]);
    if (hostname.toLowerCase() === "localhost") {
      return Promise.resolve([
        { hostname: "127.0.0.1", port: 0, family: "IPv4" },
        { hostname: "::1", port: 0, family: "IPv6" },
      ]);
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.network.scheduler.cancel(answer);
        signal?.removeEventListener("abort", onAbort);
        reject(canceled(hostname, signal));
      };
      const answer = this.network.after(() => {
        signal?.removeEventListener("abort", onAbort);
        const address = parseIp(this.network.named(hostname)?.addresses[0] ?? "");
        if (address === undefined) reject(refusal(`look up ${hostname}`, "ENOTFOUND", "getaddrinfo"));
        else resolve([{ ...address, port: 0 }]);
      });
      signal?.addEventListener("abort", onAbort);
    });
  }

  datagram(options: DatagramOptions, sink: DatagramSink): Promise<DatagramBinding> {
    return new Promise((resolve) => resolve(this.#datagram(options, sink)));
  }

  readFile(path: string, offset: number, length: number | undefined): Promise<Uint8Array> {
    return new Promise((resolve) => resolve(this.#readFile(path, offset, length)));
  }

  /** The real host's: what it makes depends on nothing but what it is given. */
  compressor(format: CompressionFormat, way: "compress" | "decompress", level: number | undefined): Compressor {
    return hostCompressor(format, way, level);
  }

  /**
   * Gives the address that an address means on this host: a wildcard means the loopback.
   *
   * @param ip Where to
   * @returns The address to look for
   */
  local(ip: Ip): Ip {
    if (!isWildcard(ip)) return ip;
    return ip.family === "IPv4" ? LOOPBACK_IPV4 : LOOPBACK_IPV6;
  }

  /**
   * Gives the address that a packet leaves from.
   *
   * @param target The host it goes to
   * @param ip The address it goes to
   * @returns An address of this host, of the same family where it has one
   */
  sourceFor(target: SimHostRuntime, ip: Ip): Ip {
    if (target === this) return isLoopback(ip) ? this.local({ ...ip, hostname: WILDCARD[ip.family] }) : ip;
    const own = this.addresses.map(parseIp).find((address) => address?.family === ip.family);
    return own ?? parseIp(this.addresses[0] ?? "") ?? LOOPBACK_IPV4;
  }

  /**
   * Makes the error of a host that has no handle left.
   *
   * @param tried What was tried
   * @param syscall The call that failed
   * @returns The error
   */
  exhausted(tried: string, syscall: string): EventError {
    return refusal(tried, "EMFILE", syscall);
  }

  /** Reads an address of this host. */
  #own(hostname: string, tried: string, syscall: string): Ip {
    const ip = parseIp(hostname);
    if (ip === undefined) throw refusal(tried, "EINVAL", syscall, `${hostname} is not a numeric address`);
    if (isWildcard(ip) || isLoopback(ip) || this.addresses.includes(ip.hostname)) return ip;
    throw refusal(tried, "EADDRNOTAVAIL", syscall);
  }

  #listen(options: ListenOptions, sink: AcceptSink): ListenerBinding {
    this.network.scheduler.touch();
    const reusePort = options.reusePort ?? false;
    const backlog = options.backlog ?? DEFAULT_BACKLOG;
    const { path, port = 0, family } = options;
    const hostname = options.hostname ?? (family === "IPv6" ? "::" : "0.0.0.0");
    const tried = `listen on ${show({ path, hostname, port })}`;
    if (this.handles >= this.handleLimit) throw this.exhausted(tried, "listen");
    if (path !== undefined) {
      this.#paths.claim(path);
      const release = (listener: SimListener): void => this.#paths.delete(path, listener);
      const listener = new SimListener({
        host: this,
        sink,
        address: { path },
        bound: undefined,
        reusePort,
        backlog,
        release,
        tls: options.tls,
      });
      this.#paths.add(path, listener);
      return listener;
    }
    checkHostname(tried, hostname, family);
    const ip = this.#own(hostname, tried, "listen");
    const bound = this.#listeners.claim(ip, port, options.ipv6Only ?? false, reusePort, "listen");
    const address = seenBy(bound, bound, bound.port);
    const release = (listener: SimListener): void => this.#listeners.delete(listener);
    const listener = new SimListener({
      host: this,
      sink,
      address,
      bound,
      reusePort,
      backlog,
      release,
      tls: options.tls,
    });
    this.#listeners.add(listener);
    return listener;
  }

  #datagram(options: DatagramOptions, sink: DatagramSink): DatagramBinding {
    this.network.scheduler.touch();
    const { hostname = "0.0.0.0", port = 0 } = options;
    const ip = this.#own(hostname, `bind ${show({ hostname, port })}`, "bind");
    const socket = new SimDatagramSocket(this, this.datagrams.claim(ip, port, false, false, "bind"), sink);
    this.datagrams.add(socket);
    return socket;
  }

  #readFile(path: string, offset: number, length: number | undefined): Uint8Array {
    this.network.scheduler.touch();
    const doing = "read a file";
    checkText(doing, "the path", path);
    checkCount(doing, "the offset", offset);
    if (length !== undefined) checkCount(doing, "the length", length);
    const bytes = this.files.get(path);
    if (bytes === undefined) throw refusal(`read ${shorten(path)}`, "ENOENT", "read");
    const view = bytes.subarray(offset, length === undefined ? undefined : offset + length);
    const copy = new Uint8Array(view.length);
    copy.set(view);
    return copy;
  }

  #connectPath(path: string, client: SimConnection): void {
    const tried = `connect to ${show({ path })}`;
    checkPath(tried, path, "connect", longestPath("linux"));
    const refuse = (code: string): void => this.#refuse(client, tried, code);
    const attempt: Attempt = {
      client,
      local: { path: "" },
      remote: { path },
      seenBy: () => ({ local: { path }, remote: { path: "" } }),
      refuse: () => refuse("ECONNREFUSED"),
    };
    this.network.after(() => {
      const listener = this.#paths.find(path);
      if (typeof listener === "string") refuse(listener);
      else if (this.network.refusesConnection()) attempt.refuse();
      else listener.admit(attempt);
    });
  }

  /** The client hears of it one latency later. */
  #refuse(client: SimConnection, tried: string, code: string): void {
    this.network.after(() => client.gone || client.refuse(refusal(tried, code, "connect")));
  }

  #connectInet(options: ConnectOptions, client: SimConnection): void {
    const { hostname = options.family === "IPv6" ? "::1" : "127.0.0.1", port = 0, localAddress } = options;
    const tried = `connect to ${show({ hostname, port })}`;
    checkHostname(tried, hostname, options.family);
    const ip = parseIp(hostname);
    if (ip === undefined) throw refusal(tried, "EINVAL", "connect", `${hostname} is not a numeric address`);
    const from = localAddress === undefined ? undefined : this.#own(localAddress, tried, "connect");
    const fromPort = FIRST_CLIENT_PORT + this.#connects++ % CLIENT_PORTS;
    const there = this.local(ip);
    this.network.after(() => {
      const target = this.network.route(this, there, (host) => host.#listeners.has(there, port));
      if (target === undefined) return this.#refuse(client, tried, "EHOSTUNREACH");
      const source = from === undefined || isWildcard(from) ? this.sourceFor(target, there) : from;
      const attempt: Attempt = {
        client,
        local: seenBy(ip, source, fromPort),
        remote: seenBy(ip, there, port),
        seenBy: (bound) => ({ local: seenBy(bound, there, port), remote: seenBy(bound, source, fromPort) }),
        refuse: () => this.#refuse(client, tried, "ECONNREFUSED"),
      };
      const listener = target.#listeners.find(there, port);
      if (listener === undefined || this.network.refusesConnection()) attempt.refuse();
      else listener.admit(attempt);
    });
  }
}

const LOOPBACK_IPV4: Ip = { hostname: "127.0.0.1", family: "IPv4" };
const LOOPBACK_IPV6: Ip = { hostname: "::1", family: "IPv6" };
const WILDCARD = { IPv4: "0.0.0.0", IPv6: "::" } as const;

function canceled(hostname: string, signal: AbortSignalLike | undefined): EventError {
  return failure(`look up ${hostname}`, signal?.reason, "getaddrinfo", "ECANCELED");
}
