/** Connects: looks the name up and races its addresses, within the time limit. */

import { checkCapabilities, checkDuration, checkSignal, checkText, outOfRange } from "../checks.ts";
import { EventError, toEventError } from "../errors.ts";
import { atDeadline } from "../loop/deadline.ts";
import { readOptions } from "../names.ts";
import { checkRuntime, CONNECT_OPTIONS, type ConnectOptions, type InetAddress, type Runtime } from "../runtime.ts";
import { readTlsConnect } from "../tls.ts";
import { checkHostname, checkTarget, familyOf, formatAddress } from "./address.ts";
import { Handshake } from "./handshake.ts";
import { encodeProxyHeader } from "./proxy_header.ts";
import { AddressRace, interleaved, MIN_ATTEMPT_DELAY_MS } from "./racing.ts";
import { type Connecting, Connection } from "./connection.ts";
import { checkViaTarget, namesOf, Tunnel, viaOf } from "./via.ts";

/** The attempts of one connection. */
class Connector implements Connecting {
  private readonly connection: Connection;
  private readonly options: ConnectOptions;
  private race: AddressRace | null = null;
  private cancelTimeout: (() => void) | null = null;
  private readonly abort: () => void = () => {
    const cause = this.options.signal?.reason;
    this.fail(
      new EventError(`Cannot connect to ${this.target}: aborted`, { code: "ECANCELED", syscall: "connect", cause }),
    );
  };

  /** Its name in errors, if that is not its address. */
  private readonly label: string | null;

  /** `options` have a hostname or a path. */
  constructor(connection: Connection, options: ConnectOptions, label: string | null) {
    this.connection = connection;
    this.options = options;
    this.label = label;
  }

  private get target(): string {
    return this.label ?? formatAddress(this.options);
  }

  /** Begins. Nothing is reported from inside this call. */
  start(): void {
    const { runtime } = this.connection;
    const { signal, timeoutMs, path, hostname = "" } = this.options;
    if (signal?.aborted === true) {
      runtime.defer(this.abort);
      return;
    }
    signal?.addEventListener("abort", this.abort);
    if (timeoutMs !== undefined) {
      this.cancelTimeout = atDeadline(runtime, runtime.now() + timeoutMs, () => this.timedOut(timeoutMs), true);
    }
    if (path !== undefined || familyOf(hostname) !== undefined || runtime.takesName?.(this.options) === true) {
      this.connection.binding = runtime.connect(this.options, this.connection);
      return;
    }
    runtime.resolve(hostname, signal).then(
      (addresses) => this.resolved(hostname, addresses),
      (reason) => this.fail(toEventError(`connect to ${this.target}`, reason, undefined, "getaddrinfo")),
    );
  }

  onRef(): void {
    this.race?.setRef(this.connection.referenced);
  }

  onSettled(): void {
    this.options.signal?.removeEventListener("abort", this.abort);
    this.cancelTimeout?.();
    this.cancelTimeout = null;
    this.race?.stop();
  }

  private resolved(hostname: string, addresses: InetAddress[]): void {
    if (this.connection.connecting !== this) return;
    const { localAddress, family = localAddress === undefined ? undefined : familyOf(localAddress) } = this.options;
    const [first, ...others] = interleaved(addresses.filter((each) => family === undefined || each.family === family));
    if (first === undefined) {
      const of = family === undefined ? "" : ` of family ${family}`;
      this.fail(new EventError(`Cannot connect to ${hostname}: it has no address${of}`, { code: "ENOTFOUND" }));
    } else if (others.length === 0) {
      const options = { ...this.options, hostname: first.hostname, family: first.family };
      this.connection.binding = this.connection.runtime.connect(options, this.connection);
      if (!this.connection.referenced) this.connection.binding.unref();
    } else {
      this.race = new AddressRace(this.connection, [first, ...others], this.options, () => this.allFailed());
    }
  }

  private allFailed(): void {
    const { errors = [] } = this.race ?? {};
    const last = errors.at(-1);
    const message = `Cannot connect to ${this.target}: none of its ${errors.length} addresses could be ` +
      `reached, the last one: ${last?.message}`;
    this.fail(new EventError(message, { code: last?.code ?? "ECONNRESET", syscall: "connect", cause: last, errors }));
  }

  private timedOut(timeoutMs: number): void {
    this.cancelTimeout = null;
    const message = `Cannot connect to ${this.target}: no answer within ${timeoutMs} ms`;
    this.fail(new EventError(message, { code: "ETIMEDOUT", syscall: "connect", errors: this.race?.errors }));
  }

  private fail(error: EventError): void {
    if (this.connection.connecting !== this) return;
    this.onSettled();
    this.connection.fail(error);
  }
}

/**
 * Begins to connect.
 *
 * @param runtime The runtime
 * @param options The address
 * @returns The connection, not yet established
 */
export function openConnection(runtime: Runtime, given: ConnectOptions): Connection {
  checkRuntime("connect", runtime);
  const { tls: givenTls, proxyHeader, via: url, ...options } = readOptions("connect", given, CONNECT_OPTIONS);
  const via = url === undefined ? null : viaOf(url);
  checkTarget("connect", via === null ? options : { ...options, family: undefined }, 1);
  if (via !== null) checkHostname("connect", via.hostname, options.family);
  const { timeoutMs, attemptDelayMs, localAddress, path, signal } = options;
  if (timeoutMs !== undefined) checkDuration("connect", "timeoutMs", timeoutMs);
  if (
    attemptDelayMs !== undefined && checkDuration("connect", "attemptDelayMs", attemptDelayMs) < MIN_ATTEMPT_DELAY_MS
  ) {
    throw outOfRange("connect", `attemptDelayMs is not ${MIN_ATTEMPT_DELAY_MS} ms or more`, attemptDelayMs);
  }
  checkSignal("connect", signal);
  if (localAddress !== undefined) {
    checkHostname("connect", checkText("connect", "localAddress", localAddress));
    if (familyOf(localAddress) === undefined) {
      throw outOfRange("connect", "localAddress is not a numeric address", localAddress);
    }
  }
  const family = options.family ?? (localAddress === undefined ? undefined : familyOf(localAddress));
  const hostname = options.hostname ?? (family === "IPv6" ? "::1" : "127.0.0.1");
  if (via !== null && path !== undefined) throw new TypeError("Cannot connect: both via and a path were given");
  const target = { hostname, port: options.port ?? 0 };
  if (via !== null) checkViaTarget(via, target);
  // The first hop.
  const first = via?.hostname ?? hostname;
  if (localAddress !== undefined) checkLocalAddress(localAddress, familyOf(first) ?? family);
  checkCapabilities("connect", runtime, { localAddress, path, tls: givenTls });
  const tls = givenTls === undefined ? undefined : readTlsConnect("connect", givenTls);
  const preamble = proxyHeader === undefined ? null : encodeProxyHeader(proxyHeader);
  const connection = new Connection(runtime, null);
  if (preamble !== null) connection.preamble = preamble;
  if (via !== null) connection.tunnel = new Tunnel(connection, via, target);
  connection.hostname = path === undefined ? hostname : "localhost";
  if (tls !== undefined) {
    connection.handshake = new Handshake(connection, "client", {
      ...tls,
      serverName: tls.serverName ?? connection.hostname,
    });
  }
  const connector = new Connector(connection, {
    ...options,
    ...(path === undefined ? { hostname: first, port: via?.port ?? options.port } : {}),
    // Through a proxy the connection begins in the clear: a runtime must not read what it is going to protect.
    ...(tls === undefined || via !== null ? {} : { tls }),
  }, via === null ? null : namesOf(via, target));
  connection.connecting = connector;
  connector.start();
  return connection;
}

/** A socket has one family. A local address of another family cannot be bound to it. */
function checkLocalAddress(localAddress: string, family: "IPv4" | "IPv6" | undefined): void {
  if (familyOf(localAddress) === family) return;
  throw new EventError(`Cannot connect: localAddress is not an ${family} address: received ${localAddress}`, {
    code: "EINVAL",
  });
}
