/** Connecting: the name is looked up, its addresses are tried one after the other, within the time that was given. */

import { EventError, toEventError } from "../errors.ts";
import type { ConnectOptions, InetAddress, Runtime, TimerToken } from "../runtime.ts";
import { checkTarget, familyOf, formatAddress } from "./address.ts";
import { type Connecting, Stream } from "./stream.ts";

/** The attempts of one connection. */
class Connector implements Connecting {
  readonly #stream: Stream;
  readonly #options: ConnectOptions;
  #addresses: InetAddress[] = [];
  #timer: TimerToken | null = null;
  readonly #abort = (): void => {
    const cause = this.#options.signal?.reason;
    this.#fail(
      new EventError(`Cannot connect to ${formatAddress(this.#options)}: aborted`, { code: "ECANCELED", cause }),
    );
  };

  constructor(stream: Stream, options: ConnectOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  /** Begins. Nothing is reported from inside this call. */
  start(): void {
    const { runtime } = this.#stream;
    const { signal, timeoutMs, path, hostname = "127.0.0.1" } = this.#options;
    if (signal?.aborted === true) {
      runtime.defer(this.#abort);
      return;
    }
    signal?.addEventListener("abort", this.#abort);
    if (timeoutMs !== undefined) this.#arm(runtime.now() + timeoutMs, timeoutMs);
    if (path !== undefined || familyOf(hostname) !== undefined) {
      this.#stream.binding = runtime.connect(this.#options, this.#stream);
      return;
    }
    runtime.resolve(hostname, signal).then(
      (addresses) => this.#resolved(hostname, addresses),
      (reason) =>
        this.#fail(toEventError(`connect to ${formatAddress(this.#options)}`, reason, undefined, "getaddrinfo")),
    );
  }

  onAttemptFailed(_error: EventError): boolean {
    return this.#next();
  }

  onSettled(): void {
    this.#options.signal?.removeEventListener("abort", this.#abort);
    if (this.#timer !== null) this.#stream.runtime.clearTimer(this.#timer);
    this.#timer = null;
  }

  #resolved(hostname: string, addresses: InetAddress[]): void {
    if (this.#stream.connecting !== this) return;
    const { family } = this.#options;
    this.#addresses = addresses.filter((address) => family === undefined || address.family === family);
    if (this.#next()) return;
    const of = family === undefined ? "" : ` of family ${family}`;
    this.#fail(new EventError(`Cannot connect to ${hostname}: it has no address${of}`, { code: "ENOTFOUND" }));
  }

  #next(): boolean {
    const address = this.#addresses.shift();
    if (address === undefined) return false;
    const options = { ...this.#options, hostname: address.hostname, family: address.family };
    this.#stream.binding = this.#stream.runtime.connect(options, this.#stream);
    return true;
  }

  #arm(deadline: number, timeoutMs: number): void {
    const { runtime } = this.#stream;
    this.#timer = runtime.setTimer(deadline, () => {
      this.#timer = null;
      if (runtime.now() < deadline) return this.#arm(deadline, timeoutMs);
      const message = `Cannot connect to ${formatAddress(this.#options)}: no answer within ${timeoutMs} ms`;
      this.#fail(new EventError(message, { code: "ETIMEDOUT", syscall: "connect" }));
    });
  }

  #fail(error: EventError): void {
    if (this.#stream.connecting !== this) return;
    this.onSettled();
    this.#stream.fail(error);
  }
}

/**
 * Begins to connect.
 *
 * @param runtime The host
 * @param options Where to
 * @returns The connection, not yet established
 */
export function connectStream(runtime: Runtime, options: ConnectOptions): Stream {
  checkTarget("connect", options, 1);
  const { timeoutMs, family, localAddress, path, tls } = options;
  if (timeoutMs !== undefined && !(timeoutMs >= 0 && Number.isFinite(timeoutMs))) {
    throw new RangeError(`Cannot connect: timeoutMs is not a duration: received ${timeoutMs}`);
  }
  if (family !== undefined && family !== "IPv4" && family !== "IPv6") {
    throw new RangeError(`Cannot connect: the family is not IPv4 or IPv6: received ${family}`);
  }
  if (localAddress !== undefined && familyOf(localAddress) === undefined) {
    throw new RangeError(`Cannot connect: localAddress is not a numeric address: received ${localAddress}`);
  }
  if (localAddress !== undefined && !runtime.capabilities.localAddress) unsupported(runtime, "a local address");
  if (path !== undefined && !runtime.capabilities.unix) unsupported(runtime, "a unix socket");
  if (tls !== undefined && !runtime.capabilities.tls) unsupported(runtime, "TLS");
  const stream = new Stream(runtime, null);
  const connector = new Connector(stream, options);
  stream.connecting = connector;
  connector.start();
  return stream;
}

function unsupported(runtime: Runtime, what: string): never {
  throw new EventError(`Cannot connect with ${what}: ${runtime.name} can't`, { code: "EV_UNSUPPORTED" });
}
