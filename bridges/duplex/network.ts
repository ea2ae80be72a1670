/**
 * A network of coupled Duplex streams in this process. It shows that an adapter over `stream.Duplex` keeps every law of the
 * seam, and is the shortest adapter to read: clock, timers, signals and files are the runtime's.
 *
 * @module
 */

import {
  type AbortSignalLike,
  type AcceptSink,
  type Capabilities,
  type CompressionFormat,
  type Compressor,
  type ConnectOptions,
  EventError,
  type InetAddress,
  type ListenerBinding,
  type ListenOptions,
  type Runtime,
  type TimerToken,
  type TransportBinding,
  type TransportSink,
} from "../../core/mod.ts";
import { PairEnd } from "./pair.ts";
import { DuplexTransport, showAddress, streamFailure } from "./transport.ts";

const FIRST_PORT = 49_152;
const LAST_PORT = 65_535;
/** The ports of clients. No listener is given one of them. */
const FIRST_CLIENT_PORT = 32_768;

const CAPABILITIES: Omit<Capabilities, "signals" | "files"> = {
  reusePort: false,
  reset: true,
  ipv6Only: false,
  backlog: false,
  localAddress: false,
  keepAliveDelay: false,
  keepAliveProbes: false,
  pauseAccept: true,
  listenFd: false,
  unix: false,
  abstractUnix: false,
  udp: false,
  multicast: false,
  multicastOptions: false,
  broadcast: false,
  reuseAddress: false,
  tls: false,
  startTlsServer: false,
  startTlsClient: false,
  startTlsUnread: false,
  tlsTruncation: false,
};

type Options = Omit<ListenOptions & ConnectOptions, "tls"> & { tls?: object | undefined };

/** The texts for missing capabilities, by capability. */
const WISHES: readonly (readonly [keyof Options, keyof Capabilities, string])[] = [
  ["tls", "tls", "with TLS"],
  ["reusePort", "reusePort", "with others (reusePort)"],
  ["ipv6Only", "ipv6Only", "and not on IPv4 too (ipv6Only)"],
  ["localAddress", "localAddress", "from a local address"],
  ["fd", "listenFd", "by its descriptor"],
  ["path", "unix", "as a unix socket"],
];

/** A numeric address, as the network compares it. */
interface Ip {
  /** The address; an IPv4 address that was written as `::ffff:127.0.0.1` in IPv4 form. */
  readonly ip: string;
  /** Whether a socket with this address belongs to IPv6, so that it sees IPv4 addresses as `::ffff:127.0.0.1`. */
  readonly six: boolean;
}

function parse(hostname: string): Ip {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(hostname);
  return { ip: mapped?.[1] ?? hostname.toLowerCase(), six: hostname.includes(":") };
}

/** The address as a socket sees it. */
function seen(socket: Ip, { ip }: Ip, port: number): InetAddress {
  const four = !ip.includes(":");
  const hostname = four && socket.six ? `::ffff:${ip}` : ip;
  return { hostname, port, family: hostname.includes(":") ? "IPv6" : "IPv4" };
}

/** Whether an address belongs to this machine: `127.*`, `::1`, or a wildcard. */
function isOurs({ ip }: Ip): boolean {
  return ip === "::1" || isWildcard(ip) || /^127(\.\d+){3}$/.test(ip);
}

function isWildcard(ip: string): boolean {
  return ip === "::" || ip === "0.0.0.0";
}

/** A connection that waits to be accepted. */
interface Arrival {
  readonly end: PairEnd;
  readonly local: InetAddress;
  readonly remote: InetAddress;
}

class NetworkListener implements ListenerBinding {
  readonly address: InetAddress;
  readonly bound: Ip;
  readonly #network: DuplexNetwork;
  readonly #sink: AcceptSink;
  #waiting: Arrival[] = [];
  #paused = false;
  #closed = false;

  constructor(network: DuplexNetwork, bound: Ip, address: InetAddress, sink: AcceptSink) {
    this.#network = network;
    this.bound = bound;
    this.address = address;
    this.#sink = sink;
  }

  /** Takes a connection, now or when accepting is resumed. */
  admit(arrival: Arrival): void {
    const { end, local, remote } = arrival;
    // A client that has already left is not reported.
    if (end.destroyed) return;
    if (this.#closed) end.resetAndDestroy();
    else if (this.#paused) this.#waiting.push(arrival);
    else {
      const server = new DuplexTransport({ local, remote, onGone: this.#network.gone });
      this.#network.openHandles++;
      server.adopt(end);
      server.attach(this.#sink.onAccept(server));
    }
  }

  pauseAccept(): void {
    this.#paused = true;
  }

  resumeAccept(): void {
    this.#paused = false;
    setImmediate(() => {
      if (this.#paused) return;
      for (const arrival of this.#waiting.splice(0)) this.admit(arrival);
    });
  }

  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#network.remove(this);
      for (const { end } of this.#waiting.splice(0)) end.resetAndDestroy();
    }
    return Promise.resolve();
  }

  /**
   * Nothing in this network keeps the process alive, because no other process could send anything.
   */
  ref(): void {}

  unref(): void {}
}

/** A host of the network. Its addresses are those of a loopback. */
export class DuplexNetwork implements Runtime {
  readonly name = "duplex";
  readonly capabilities: Readonly<Capabilities>;
  readonly endsWhenIdle = true;
  openHandles = 0;
  readonly #host: Runtime;
  readonly #listeners: Set<NetworkListener> = new Set();
  #nextPort = FIRST_PORT;
  #nextClientPort = FIRST_CLIENT_PORT;

  /** @param host The runtime whose clock, signals and files it has */
  constructor(host: Runtime) {
    const { signals, files } = host.capabilities;
    this.capabilities = { ...CAPABILITIES, signals, files };
    this.#host = host;
  }

  now(): number {
    return this.#host.now();
  }

  random(): number {
    return this.#host.random();
  }

  setTimer(deadlineMs: number, fn: () => void, background?: boolean): TimerToken {
    return this.#host.setTimer(deadlineMs, fn, background);
  }

  clearTimer(token: TimerToken): void {
    this.#host.clearTimer(token);
  }

  defer(fn: () => void): void {
    this.#host.defer(fn);
  }

  report(error: unknown): void {
    this.#host.report(error);
  }

  onSignal(name: string, fn: () => void): () => void {
    return this.#host.onSignal(name, fn);
  }

  resolve(hostname: string, signal?: AbortSignalLike): Promise<InetAddress[]> {
    return this.#host.resolve(hostname, signal);
  }

  readFile(path: string, offset: number, length: number | undefined): Promise<Uint8Array> {
    return this.#host.readFile!(path, offset, length);
  }

  compressor(format: CompressionFormat, way: "compress" | "decompress", level: number | undefined): Compressor {
    return this.#host.compressor!(format, way, level);
  }

  async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    const { hostname = options.family === "IPv6" ? "::" : "0.0.0.0", port = 0 } = options;
    const tried = `listen on ${showTarget(options, hostname, port)}`;
    this.#check(tried, options, hostname);
    const bound = parse(hostname);
    if (!isOurs(bound)) throw refusal(tried, "EADDRNOTAVAIL", "the address is not one of this machine", "listen");
    const chosen = port === 0 ? this.#freePort(bound) : port;
    if (this.#overlaps(bound, chosen)) throw refusal(tried, "EADDRINUSE", "the address is in use", "listen");
    const listener = new NetworkListener(this, bound, seen(bound, bound, chosen), sink);
    this.#listeners.add(listener);
    this.openHandles++;
    return await Promise.resolve(listener);
  }

  /** Forgets a listener that is closed. */
  remove(listener: NetworkListener): void {
    this.#listeners.delete(listener);
    this.openHandles--;
  }

  connect(options: ConnectOptions, sink: TransportSink): TransportBinding {
    const { hostname = options.family === "IPv6" ? "::1" : "127.0.0.1", port = 0 } = options;
    const client = new DuplexTransport({ peerName: showTarget(options, hostname, port), onGone: this.gone });
    client.attach(sink);
    this.openHandles++;
    setImmediate(() => {
      if (client.abandoned) return;
      try {
        this.#connect(client, sink, options, hostname, port);
      } catch (error) {
        client.refuse(error as EventError);
      }
    });
    return client;
  }

  #connect(
    client: DuplexTransport,
    sink: TransportSink,
    options: ConnectOptions,
    hostname: string,
    port: number,
  ): void {
    const tried = `connect to ${showTarget(options, hostname, port)}`;
    this.#check(tried, options, hostname);
    const to = parse(hostname);
    if (!isOurs(to)) throw streamFailure(tried, undefined, "connect", "EHOSTUNREACH");
    // As everywhere, a client treats a wildcard as the loopback.
    const there = isWildcard(to.ip) ? { ...to, ip: to.six ? "::1" : "127.0.0.1" } : to;
    const listener = this.#find(there, port);
    if (listener === undefined) throw streamFailure(tried, undefined, "connect", "ECONNREFUSED");
    const clientPort = this.#clientPort();
    const [near, far] = PairEnd.couple();
    client.local = seen(to, there, clientPort);
    client.remote = seen(to, there, port);
    // It may fail before anyone listens for the error.
    far.on("error", () => {});
    const [local, remote] = [seen(listener.bound, there, port), seen(listener.bound, there, clientPort)];
    setImmediate(() => listener.admit({ end: far, local, remote }));
    client.adopt(near);
    sink.onConnect();
  }

  /** A connection has ended. */
  readonly gone = (): void => void this.openHandles--;

  /** Refuses what this network cannot do. */
  #check(tried: string, options: Options, hostname: string): void {
    for (const [option, capability, what] of WISHES) {
      const wish: unknown = options[option];
      if (wish === undefined || wish === false || this.capabilities[capability]) continue;
      throw new EventError(`Cannot ${tried} ${what}: ${this.name} does not support it`, { code: "EV_UNSUPPORTED" });
    }
    const family = hostname.includes(":") ? "IPv6" : "IPv4";
    if (options.family !== undefined && options.family !== family) {
      throw refusal(tried, "EINVAL", `${hostname} is not an ${options.family} address`, undefined);
    }
  }

  /** Finds the listener of an address and a port: an exact address before a wildcard. */
  #find(to: Ip, port: number): NetworkListener | undefined {
    const fitting = [...this.#listeners].filter(({ address, bound }) => address.port === port && fit(bound, to) > 0);
    return fitting.sort((a, b) => fit(b.bound, to) - fit(a.bound, to))[0];
  }

  #overlaps(bound: Ip, port: number): boolean {
    return [...this.#listeners].some((listener) =>
      listener.address.port === port && (fit(listener.bound, bound) > 0 || fit(bound, listener.bound) > 0)
    );
  }

  #freePort(bound: Ip): number {
    for (;;) {
      const port = this.#nextPort;
      this.#nextPort = port === LAST_PORT ? FIRST_PORT : port + 1;
      if (!this.#overlaps(bound, port)) return port;
    }
  }

  #clientPort(): number {
    const port = this.#nextClientPort;
    this.#nextClientPort = port + 1 === FIRST_PORT ? FIRST_CLIENT_PORT : port + 1;
    return port;
  }
}

/** How well a bound address fits: 3 for the same, 2 for all of its family, 1 for `::` and IPv4, 0 if it does not. */
function fit(bound: Ip, { ip }: Ip): number {
  if (bound.ip === ip) return 3;
  if (bound.ip === "::") return ip.includes(":") ? 2 : 1;
  return bound.ip === "0.0.0.0" && !ip.includes(":") ? 2 : 0;
}

function showTarget({ path }: { path?: string | undefined }, hostname: string, port: number): string {
  return showAddress(path === undefined ? { hostname, port, family: "IPv4" } : { path });
}

function refusal(tried: string, code: string, why: string, syscall: string | undefined): EventError {
  return new EventError(`Cannot ${tried}: ${why} (${code})`, { code, ...(syscall === undefined ? {} : { syscall }) });
}

/**
 * Makes a network of Duplex streams.
 *
 * @param host The runtime whose clock, signals and files it has, such as `detectRuntime()`
 * @returns Its one host, with the addresses `127.0.0.1` and `::1`
 */
export function duplexNetwork(host: Runtime): DuplexNetwork {
  return new DuplexNetwork(host);
}
