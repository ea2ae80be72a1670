/**
 * One host of a simulated network. It implements {@linkcode Runtime}.
 *
 * @module
 */

import {
  checkBoolean,
  checkCount,
  checkFunction,
  checkList,
  checkSignal as checkAbortSignal,
  checkText,
  isA,
  shorten,
  show as showValue,
} from "../../core/checks.ts";
import { EventError } from "../../core/errors.ts";
import { setMemory } from "../../core/memory.ts";
import { type Names, readOptions } from "../../core/names.ts";
import type {
  AbortSignalLike,
  AcceptSink,
  Address,
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
import { type Bound, type Ip, isLoopback, isWildcard, parseIp, seenBy } from "./addresses.ts";
import { SimConnection, WINDOW_BYTES } from "./connection.ts";
import { SimDatagramSocket } from "./datagram.ts";
import { checkChance, checkMs, defineChecked, wrong } from "./faults.ts";
import { type Named, NOTE } from "./journal.ts";
import type { Link } from "./link.ts";
import { type Attempt, DEFAULT_BACKLOG, type Descriptor, type ListenerOptions, SimListener } from "./listener.ts";
import type { Network } from "./network.ts";
import { PathTable } from "./path_table.ts";
import { PortTable } from "./port_table.ts";
import { mix, mixText, Random } from "./random.ts";
import { type Program, Scheduled } from "./scheduler.ts";
import { checkSignal } from "./signals.ts";

/** The ports of clients. No listener is given one of them. */
const FIRST_CLIENT_PORT = 32_768;
const CLIENT_PORTS = 16_384;

/** The first descriptor behind the three that every process has. */
const FIRST_FD = 3;

/** The keys of the listeners of a path and of a port. */
type SharedOptions = Omit<ListenerOptions, "address" | "bound" | "release">;

const CAPABILITIES: Readonly<Capabilities> = /* @__PURE__ */ Object.freeze({
  reusePort: true,
  reset: true,
  ipv6Only: true,
  backlog: true,
  localAddress: true,
  keepAliveDelay: true,
  keepAliveProbes: true,
  pauseAccept: true,
  listenFd: true,
  unix: true,
  abstractUnix: true,
  udp: true,
  multicast: true,
  multicastOptions: true,
  broadcast: true,
  reuseAddress: true,
  signals: true,
  files: true,
  tls: true,
  startTlsServer: true,
  startTlsClient: true,
  startTlsUnread: true,
  tlsTruncation: false,
});

/** Capabilities that can be switched off. */
export type SimCapabilities = { -readonly [Name in keyof Capabilities]: boolean };

/** The answer of a name server, in place of the network's own. */
export interface SimDnsEntry {
  /** The numeric addresses, in this order. They may have no host. By default those of the name. */
  addresses?: string[] | undefined;
  /** The extra delay of the answer, in milliseconds. */
  delayMs?: number | undefined;
  /** If the answer is an error, its code: `ENOTFOUND`, `EAI_AGAIN`. */
  error?: string | undefined;
}

/** A fault of a file. */
export interface SimFileFault {
  /** The code of the error with which reading fails: `EIO`. */
  error?: string | undefined;
  /** The length, in bytes, to which the file was cut after its size was read. */
  maxBytes?: number | undefined;
}

const DNS_NAMES: Names<SimDnsEntry> = { addresses: true, delayMs: true, error: true };
const FILE_NAMES: Names<SimFileFault> = { error: true, maxBytes: true };

/** One host. */
export class SimHostRuntime implements Runtime, Named {
  readonly endsWhenIdle = false;
  readonly name = "sim" as const;
  /** Its number in the network. */
  readonly id: number;
  /** Its name in the network, in small letters. */
  readonly label: string;
  /** The seed of its random numbers. */
  seed = 0;
  #dice: Random = new Random(0);
  /** The program on it. A crash ends it. */
  program: Program;
  /** Whether it has crashed and was not restarted. */
  down = false;
  /** The links that begin here, by the host where they end. */
  readonly links: Map<SimHostRuntime, Link> = new Map();
  /** Its ends of connections. */
  readonly connections: Set<SimConnection> = new Set();
  /** Its listeners. */
  readonly listeners: Set<SimListener> = new Set();
  /** Its datagram sockets. */
  readonly sockets: Set<SimDatagramSocket> = new Set();
  /** The number of datagram sockets that it has ever opened. */
  opened = 0;
  /** The answers of name servers, by name in small letters. */
  readonly dns: Map<string, SimDnsEntry> = new Map();
  /** The faults of its files, by path. */
  readonly fileFaults: Map<string, SimFileFault> = new Map();
  /** The codes with which the next attempts to accept fail. */
  readonly acceptErrors: string[] = [];
  /** The network it belongs to. */
  readonly network: Network;
  /** Its addresses, without those of the loopback. */
  readonly addresses: readonly string[];
  /** Its files, for `readFile()`, by path. */
  readonly files: Map<string, Uint8Array> = new Map();
  /** The datagram socket that has bound each port. */
  readonly datagrams: PortTable<SimDatagramSocket> = new PortTable();
  /** The number of open listeners, connections and datagram sockets. */
  handles = 0;
  /** The limit of open handles. */
  handleLimit: number = Infinity;
  readonly #ports: PortTable<SimListener> = new PortTable();
  readonly #paths: PathTable<SimListener> = new PathTable(this.files);
  readonly #descriptors: Map<number, Descriptor> = new Map();
  #nextFd = FIRST_FD;
  readonly #signals: Map<string, Set<() => void>> = new Map();
  /** Its capabilities. */
  declare capabilities: SimCapabilities;
  /**
   * The number of bytes that may be on their way to each of its connections or wait there: as
   * programs see it, and as connections use it.
   */
  declare windowBytes: number;
  receiveWindow: number = WINDOW_BYTES;
  /** The probability that a write stops inside each 4 KiB of a stream. */
  declare shortWrites: number;
  short = 0;
  /** The longest delay of a timer. */
  declare timerLateMs: number;
  #connects = 0;
  #onRestart: (() => void) | undefined;
  /** Returns the next random number of the host. Its programs use these numbers, too. */
  readonly random: () => number;
  /** The numbers of timers that were set, and of names that were looked up. */
  readonly counts: { timers: number; lookups: number } = { timers: 0, lookups: 0 };

  /**
   * Makes a host.
   *
   * @param network The network it belongs to
   * @param label Its name in the network
   * @param addresses Its addresses, without those of the loopback
   */
  constructor(network: Network, label: string, addresses: readonly string[]) {
    this.network = network;
    setMemory(this, network.scheduler.memory);
    this.id = network.nextId();
    this.label = label;
    this.addresses = addresses;
    this.reseed();
    this.random = (): number => this.#dice.next();
    this.program = this.#newProgram();
    const capabilities = checkedCapabilities();
    defineChecked(this, "capabilities", capabilities, (given: Partial<Capabilities>) => {
      const doing = "take capabilities away";
      const names = CAPABILITY_NAMES;
      return Object.assign(
        capabilities,
        CAPABILITIES,
        readOptions(doing, given as SimCapabilities, names, "capabilities"),
      );
    });
    defineChecked(this, "windowBytes", WINDOW_BYTES, (bytes: number) => {
      if (checkCount("set a window", "windowBytes", bytes) > 0) return this.receiveWindow = bytes;
      throw wrong("set a window", "windowBytes", bytes, "1 or more");
    });
    defineChecked(this, "shortWrites", 0, (given: number | boolean) => {
      const probability = typeof given === "boolean" ? Number(given) : given;
      return this.short = checkChance("set short writes", "shortWrites", probability);
    });
    defineChecked(this, "timerLateMs", 0, (ms: number) => checkMs("let timers be late", "timerLateMs", ms));
  }

  /** Restarts its random numbers from the seed of the network. */
  reseed(): void {
    this.seed = mixText(this.network.seed, this.label);
    this.#dice = new Random(mix(this.seed, 1));
  }

  #newProgram(): Program {
    return { pausedUntil: 0, dead: false, id: this.id, label: this.label };
  }

  /** Starts its programs again after a crash. */
  get onRestart(): (() => void) | undefined {
    return this.#onRestart;
  }

  set onRestart(callback: (() => void) | undefined) {
    if (callback !== undefined) checkFunction("start programs of a host anew", "onRestart", callback);
    this.#onRestart = callback;
  }

  /** Whether its program is stalled now. */
  get paused(): boolean {
    return this.program.pausedUntil > this.network.scheduler.now;
  }

  /**
   * Stalls its program.
   *
   * @param ms How long
   */
  pause(ms: number): void {
    checkMs("pause a host", "the time", ms);
    this.network.noteEvent("pause", this, String(ms));
    this.program.pausedUntil = Math.max(this.program.pausedUntil, this.network.scheduler.now + ms);
  }

  /**
   * Ends everything on it at once, without a callback. The files of its unix sockets stay, without
   * listeners.
   */
  crash(): void {
    if (this.down) return;
    this.network.noteEvent("crash", this);
    this.down = true;
    this.program.dead = true;
    this.network.scheduler.dropDead();
    this.#signals.clear();
    for (const listener of this.listeners) listener.crash();
    for (const connection of [...this.connections]) connection.crash();
    for (const socket of [...this.sockets]) socket.close();
    this.listeners.clear();
    this.handles = 0;
  }

  /** Starts it again, with its files and without a program. */
  restart(): void {
    if (!this.down) this.crash();
    this.network.noteEvent("restart", this);
    this.down = false;
    this.program = this.#newProgram();
    for (const host of this.network.hosts) {
      for (const connection of host.connections) connection.onRestarted(this);
    }
    const { onRestart } = this;
    if (onRestart !== undefined) this.soon(onRestart);
  }

  /** Calls a function of its program in this instant, after the present callback. */
  soon(fn: () => void): void {
    const { scheduler } = this.network;
    scheduler.at(scheduler.now, fn, this.program);
  }

  /** Throws while it has crashed. */
  #checkUp(tried: string, syscall: string): void {
    if (this.down) throw refusal(tried, "EHOSTDOWN", syscall, `host ${this.label} has crashed: restart() it first`);
  }

  get instance(): object {
    return this.program;
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
    let deadline = deadlineMs;
    deadline += this.network.lateness("timerLate", this.timerLateMs, this, this.seed, this.counts.timers++);
    return this.network.scheduler.timerAt(deadline, fn, this.program);
  }

  clearTimer(token: TimerToken): void {
    // Other values are not timers, and are ignored.
    if (isA<Scheduled>(token, Scheduled)) this.network.scheduler.cancel(token);
  }

  defer(fn: () => void): void {
    checkFunction("defer", "it", fn);
    this.network.scheduler.defer(fn, this.program);
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
   * @throws {EventError} `EV_UNSUPPORTED` if it is not a signal or cannot be caught
   */
  raise(name: string): void {
    checkSignal(name);
    const handlers = this.#signals.get(name) ?? new Set();
    this.network.note(NOTE.signal, this, 0, name);
    for (const handler of handlers) {
      this.soon(() => {
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
      this.#checkUp(`connect to ${show(options)}`, "connect");
      if (this.handles > this.handleLimit) throw this.exhausted(`connect to ${show(options)}`, "connect");
      if (options.path !== undefined) this.#connectPath(options.path, client);
      else this.#connectInet(options, client);
    } catch (error) {
      if (!(error instanceof EventError)) throw error;
      this.soon(() => client.refuse(error));
    }
    return client;
  }

  resolve(hostname: string, signal?: AbortSignalLike): Promise<InetAddress[]> {
    let entry: SimDnsEntry | undefined;
    try {
      const doing = "look up a host name";
      checkHostname(doing, checkText(doing, "the name", hostname));
      checkAbortSignal(doing, signal);
      entry = dnsEntry(this, hostname);
    } catch (error) {
      return Promise.reject(error);
    }
    if (signal?.aborted) return Promise.reject(canceled(hostname, signal));
    const ip = parseIp(hostname);
    if (ip !== undefined) return Promise.resolve([seenBy(ip, ip, 0)]);
    if (hostname.toLowerCase() === "localhost" && entry === undefined) {
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
      const onAnswer = (): void => {
        signal?.removeEventListener("abort", onAbort);
        this.network.note(NOTE.lookup, this, 0, hostname);
        const found = entry?.addresses ?? this.network.named(hostname)?.addresses.slice(0, 1) ?? [];
        const code = entry?.error ?? (found.length === 0 ? "ENOTFOUND" : undefined);
        if (code === undefined) resolve(found.map((address) => ({ ...checkedIp(address), port: 0 })));
        else reject(refusal(`look up ${hostname}`, code, "getaddrinfo"));
      };
      const at = this.counts.lookups++;
      const answer = this.network.after(onAnswer, this, this.seed, at, entry?.delayMs ?? 0);
      signal?.addEventListener("abort", onAbort);
    });
  }

  datagram(options: DatagramOptions, sink: DatagramSink): Promise<DatagramBinding> {
    return new Promise((resolve) => resolve(this.#datagram(options, sink)));
  }

  readFile(path: string, offset: number, length: number | undefined): Promise<Uint8Array> {
    return new Promise((resolve) => resolve(this.#readFile(path, offset, length)));
  }

  /** The compressor of the real runtime: its output depends only on its input. */
  compressor(format: CompressionFormat, way: "compress" | "decompress", level: number | undefined): Compressor {
    return hostCompressor(format, way, level);
  }

  /**
   * Gives the address to connect to on this host: the loopback for a wildcard, otherwise the address itself.
   *
   * @param ip The address
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
    if (target === this && isLoopback(ip)) return this.local({ ...ip, hostname: WILDCARD[ip.family] });
    // If no host has the address, the target is this host, too.
    if (target === this && this.addresses.includes(ip.hostname)) return ip;
    const own = this.addresses.map(parseIp).find((address) => address?.family === ip.family);
    return own ?? parseIp(this.addresses[0] ?? "") ?? LOOPBACK_IPV4;
  }

  /**
   * Makes the error of a host without a free handle.
   *
   * @param tried The call, for the message
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
    const reusePort = options.reusePort ?? false;
    const backlog = this.capabilities.backlog ? options.backlog ?? DEFAULT_BACKLOG : DEFAULT_BACKLOG;
    const { path, port = 0, family, fd, tls } = options;
    const hostname = options.hostname ?? (family === "IPv6" ? "::" : "0.0.0.0");
    const tried = `listen on ${show({ path, hostname, port, fd })}`;
    this.#checkUp(tried, "listen");
    if (this.handles >= this.handleLimit) throw this.exhausted(tried, "listen");
    const shared = { host: this, sink, reusePort, backlog, tls };
    if (fd !== undefined) {
      const [other] = this.#descriptors.get(fd)?.holders ?? [];
      if (other === undefined) throw refusal(tried, "EBADF", "listen", "the descriptor is not open");
      const { address, bound, descriptor } = other;
      if ("path" in address) return this.#listenPath({ ...shared, descriptor }, address.path, false);
      return this.#listenPort({ ...shared, descriptor, reusePort: other.reusePort }, bound, address);
    }
    const newDescriptor = (): Descriptor => ({ fd: this.#nextFd++, holders: new Set() });
    if (path !== undefined) {
      this.#paths.claim(path, options.replaceStale ?? false);
      return this.#listenPath({ ...shared, descriptor: newDescriptor() }, path, options.unlinkOnClose ?? true);
    }
    checkHostname(tried, hostname, family);
    const ip = this.#own(hostname, tried, "listen");
    const bound = this.#ports.claim(ip, port, options.ipv6Only ?? false, reusePort, "listen");
    return this.#listenPort({ ...shared, descriptor: newDescriptor() }, bound, seenBy(bound, bound, bound.port));
  }

  #listenPath(shared: SharedOptions, path: string, unlinkOnClose: boolean): SimListener {
    const { descriptor } = shared;
    const release = (listener: SimListener, crashed: boolean): void => {
      this.#drop(listener);
      // The file of another socket may be there by now.
      if (this.#paths.holder(path)?.descriptor !== descriptor) return;
      const [heir] = descriptor.holders;
      if (unlinkOnClose && !crashed) this.#paths.unlink(path);
      else if (heir !== undefined) this.#paths.add(path, heir);
      else this.#paths.desert(path);
    };
    const listener = new SimListener({ ...shared, address: { path }, bound: undefined, release });
    // The file may have been removed since it was made.
    const isThere = descriptor.holders.size === 1 || this.#paths.holder(path)?.descriptor === descriptor;
    if (isThere) this.#paths.add(path, listener);
    return this.#hold(listener);
  }

  #listenPort(shared: SharedOptions, bound: Bound, address: Address): SimListener {
    const release = (listener: SimListener): void => {
      this.#drop(listener);
      this.#ports.delete(listener);
    };
    const listener = new SimListener({ ...shared, address, bound, release });
    this.#ports.add(listener);
    return this.#hold(listener);
  }

  #hold(listener: SimListener): SimListener {
    this.#descriptors.set(listener.fd, listener.descriptor);
    return listener;
  }

  #drop(listener: SimListener): void {
    const { fd, holders } = listener.descriptor;
    holders.delete(listener);
    if (holders.size === 0) this.#descriptors.delete(fd);
  }

  #datagram(options: DatagramOptions, sink: DatagramSink): DatagramBinding {
    const { hostname = "0.0.0.0", port = 0 } = options;
    const tried = `bind ${show({ hostname, port })}`;
    this.#checkUp(tried, "bind");
    const ip = this.#own(hostname, tried, "bind");
    const bound = this.datagrams.claim(ip, port, false, options.reuseAddress ?? false, "bind");
    const socket = new SimDatagramSocket(this, bound, sink, options);
    this.datagrams.add(socket);
    try {
      socket.checkInterface();
    } catch (error) {
      socket.close();
      throw error;
    }
    return socket;
  }

  #readFile(path: string, offset: number, length: number | undefined): Uint8Array {
    const doing = "read a file";
    checkText(doing, "the path", path);
    checkCount(doing, "the offset", offset);
    if (length !== undefined) checkCount(doing, "the length", length);
    const bytes = this.files.get(path);
    if (bytes === undefined) throw refusal(`read ${shorten(path)}`, "ENOENT", "read");
    const fault = this.#fileFault(doing, path);
    if (fault.error !== undefined) throw refusal(`read ${shorten(path)}`, fault.error, "read");
    const end = Math.min(length === undefined ? Infinity : offset + length, fault.maxBytes ?? Infinity, bytes.length);
    const view = bytes.subarray(offset, end);
    const copy = new Uint8Array(view.length);
    copy.set(view);
    return copy;
  }

  #fileFault(doing: string, path: string): SimFileFault {
    const given = this.fileFaults.get(path);
    if (given === undefined) return {};
    const fault = readOptions(doing, given, FILE_NAMES, `fileFaults of ${this.label}`);
    if (fault.error !== undefined) checkText(doing, "error", fault.error);
    if (fault.maxBytes !== undefined) checkCount(doing, "maxBytes", fault.maxBytes);
    this.network.noteEvent("fileError", this, `${path} ${fault.error ?? fault.maxBytes}`);
    return fault;
  }

  #connectPath(path: string, client: SimConnection): void {
    const tried = `connect to ${show({ path })}`;
    checkPath(tried, path, "connect", longestPath("linux"));
    const refuse = (code: string): void => this.#refuse(client, tried, this, attempt.who, code);
    const attempt: Attempt = {
      client,
      local: { path: "" },
      remote: { path },
      who: mix(mix(this.seed, 3), this.#connects++),
      tried,
      seenBy: () => ({ local: { path }, remote: { path: "" } }),
      refuse: () => refuse("ECONNREFUSED"),
    };
    const link = this.network.linkTo(this, this);
    this.#knock(link, attempt, () => {
      const listener = this.#paths.find(path);
      if (typeof listener === "string") refuse(listener);
      else if (this.network.happens("connectRefused", link.rates.connectRefused, client, attempt.who, 0)) {
        attempt.refuse();
      } else listener.admit(attempt);
    });
  }

  /** Sends the first packet of a connection. */
  #knock(link: Link, attempt: Pick<Attempt, "client" | "who" | "tried">, onArrival: () => void): void {
    const { client, who, tried } = attempt;
    const { flow } = client;
    const show = flow === undefined ? undefined : () => flow.syn(this.now());
    if (this.network.happens("connectLost", link.rates.connectLost, client, who, 0)) {
      show?.();
      return client.unanswered(tried);
    }
    if (link.cut) client.unanswered(tried);
    const arrive = (): void => {
      this.network.scheduler.quiet = true;
      this.network.note(NOTE.connect, client, 0, tried);
      if (client.gone) return;
      if (link.to.down) client.unanswered(tried);
      else onArrival();
    };
    link.carry(arrive, 0, who, 0, true, undefined, show);
  }

  /** The client is told one latency later. */
  #refuse(client: SimConnection, tried: string, by: SimHostRuntime, who: number, code: string): void {
    const link = this.network.linkTo(by, this);
    if (link.cut) client.unanswered(tried);
    const arrive = (): void => {
      this.network.scheduler.quiet = true;
      if (!client.gone) client.refuse(refusal(tried, code, "connect"));
    };
    const { flow } = client;
    const show = flow === undefined || code !== "ECONNREFUSED" ? undefined : () => flow.refuse(this.now());
    link.carry(arrive, 0, who, -3, true, undefined, show);
  }

  #connectInet(options: ConnectOptions, client: SimConnection): void {
    const { hostname = options.family === "IPv6" ? "::1" : "127.0.0.1", port = 0, localAddress } = options;
    const tried = `connect to ${show({ hostname, port })}`;
    checkHostname(tried, hostname, options.family);
    const ip = parseIp(hostname);
    if (ip === undefined) throw refusal(tried, "EINVAL", "connect", `${hostname} is not a numeric address`);
    const from = localAddress === undefined ? undefined : this.#own(localAddress, tried, "connect");
    const count = this.#connects++;
    const fromPort = FIRST_CLIENT_PORT + count % CLIENT_PORTS;
    const who = mix(mix(this.seed, 3), count);
    const there = this.local(ip);
    const route = (): SimHostRuntime | undefined =>
      this.network.route(this, there, (host) => host.#ports.has(there, port));
    const first = route() ?? this;
    const link = this.network.linkTo(this, first);
    const sourceTo = (target: SimHostRuntime): Ip =>
      from === undefined || isWildcard(from) ? this.sourceFor(target, there) : from;
    client.target = seenBy(ip, ip, port);
    client.flow = this.network.capture?.open(
      { host: this, ip: sourceTo(first), port: fromPort },
      { host: first, ip: there, port },
      who,
    );
    const arrive = (): void => {
      const target = first === this ? route() : first;
      if (target === undefined) return this.#refuse(client, tried, this, who, "EHOSTUNREACH");
      const source = sourceTo(target);
      const attempt: Attempt = {
        client,
        local: seenBy(ip, source, fromPort),
        remote: seenBy(ip, there, port),
        who,
        tried,
        seenBy: (bound) => ({ local: seenBy(bound, there, port), remote: seenBy(bound, source, fromPort) }),
        refuse: () => this.#refuse(client, tried, target, who, "ECONNREFUSED"),
      };
      const listener = target.#ports.find(there, port);
      if (listener === undefined) attempt.refuse();
      else if (this.network.happens("connectRefused", link.rates.connectRefused, client, who, 0)) attempt.refuse();
      else listener.admit(attempt);
    };
    this.#knock(link, { client, who, tried }, arrive);
  }
}

const LOOPBACK_IPV4: Ip = { hostname: "127.0.0.1", family: "IPv4" };
const LOOPBACK_IPV6: Ip = { hostname: "::1", family: "IPv6" };
const WILDCARD = { IPv4: "0.0.0.0", IPv6: "::" } as const;

function canceled(hostname: string, signal: AbortSignalLike | undefined): EventError {
  return failure(`look up ${hostname}`, signal?.reason, "getaddrinfo", "ECANCELED");
}

const CAPABILITY_NAMES = /* @__PURE__ */ Object.fromEntries(
  /* @__PURE__ */ Object.keys(CAPABILITIES).map((name) => [name, true]),
) as Names<SimCapabilities>;

/** Capabilities as a program sees and changes them. */
function checkedCapabilities(): SimCapabilities {
  const values: SimCapabilities = { ...CAPABILITIES };
  const checked = {} as SimCapabilities;
  for (const name of Object.keys(CAPABILITIES) as (keyof Capabilities)[]) {
    Object.defineProperty(checked, name, {
      enumerable: true,
      get: () => values[name],
      set: (value: boolean) => void (values[name] = checkBoolean("take a capability away", name, value)),
    });
  }
  return Object.preventExtensions(checked);
}

function checkedIp(address: string): Ip {
  const ip = parseIp(checkText("look up a host name", "an address", address));
  if (ip !== undefined) return ip;
  throw new RangeError(`Cannot look up a host name: an address is not numeric: received ${showValue(address)}`);
}

/** The answer of name servers about a name. It is checked, because a program has set it. */
function dnsEntry(host: SimHostRuntime, hostname: string): SimDnsEntry | undefined {
  const given = host.dns.get(hostname.toLowerCase()) ?? host.dns.get(hostname);
  if (given === undefined) return undefined;
  const doing = `look up ${shorten(hostname)}`;
  const entry = readOptions(doing, given, DNS_NAMES, `dns of ${host.label}`);
  if (entry.delayMs !== undefined) checkMs(doing, "delayMs", entry.delayMs);
  if (entry.addresses !== undefined) {
    for (const address of checkList(doing, "addresses", entry.addresses)) checkedIp(address);
  }
  if (entry.error !== undefined) {
    checkText(doing, "error", entry.error);
    host.network.noteEvent("lookupError", host, `${hostname} ${entry.error}`);
  }
  return entry;
}
