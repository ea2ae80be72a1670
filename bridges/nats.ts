/**
 * NATS on Trivent: {@linkcode natsTransport} carries `@nats-io/nats-core`, unmodified, on Node, Deno and Bun, and on the
 * simulator.
 *
 * @module
 */

import { checkLimit, hasMethod, wrongType } from "../core/checks.ts";
import { type Names, readOptions } from "../core/names.ts";
import {
  BEV_EVENT_CONNECTED,
  connect,
  defaultRuntime,
  EventError,
  type Runtime,
  setDefaultRuntime,
  type SocketBufferEvent,
  type TlsConnectOptions,
} from "../core/mod.ts";
import { detectRuntime } from "../runtimes/detect.ts";

/**
 * The name and version that nats-core sends to the broker. A test compares the version with that of
 * the package.
 */
const VERSION = "0.1.0";
const DEFAULT_PORT = 4222;
/** The first line of a broker names all brokers of its cluster. */
const MAX_INFO = 1024 * 1024;
/** The default of {@linkcode NatsTransportOptions.maxOutputBytes}. */
const MAX_OUTPUT = 64 * 1024 * 1024;
/** How long closing may take to deliver the last bytes. */
const CLOSE_TIMEOUT_MS = 2000;

/** The options that the transport reads from the `ConnectionOptions` of nats-core. */
export interface NatsConnectionSettings {
  /** The name of the connection. */
  name?: string | undefined;
  /** The brokers. `tls://` before one means that TLS must be used. */
  servers?: string | string[] | undefined;
  /** TLS; null means that it must not be used. */
  tls?: NatsTlsSettings | null | undefined;
}

/** The options that the transport reads from the `TlsOptions` of nats-core. */
export interface NatsTlsSettings {
  /** Whether TLS begins before the broker's first line. */
  handshakeFirst?: boolean | undefined;
  /** The authorities for the broker's certificate, as PEM. */
  ca?: string | undefined;
  /** Our certificate, as PEM. */
  cert?: string | undefined;
  /** The key of `cert`, as PEM. */
  key?: string | undefined;
  /** Not supported. */
  caFile?: string | undefined;
  /** Not supported. */
  certFile?: string | undefined;
  /** Not supported. */
  keyFile?: string | undefined;
}

/** The properties that the transport reads from the `Server` of nats-core. */
export interface NatsServer {
  /** The name or address of the broker. */
  readonly hostname: string;
  /** Its port. */
  readonly port: number;
  /** The name in its certificate, if it differs. */
  readonly tlsName: string;
}

/** A `Transport` of nats-core: one connection to a broker. Only nats-core calls it. */
export interface NatsTransport extends AsyncIterable<Uint8Array> {
  /** The name of the client for the broker. */
  readonly lang: string;
  /** The version of this package. */
  readonly version: string;
  /** Whether the connection is over. */
  readonly isClosed: boolean;
  /** Why. */
  readonly closeError?: Error;
  /** Connects, reads the broker's first line, and upgrades to TLS if required. */
  connect(server: NatsServer, options: NatsConnectionSettings): Promise<void>;
  /** The bytes of the broker, from its first line on. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array>;
  /** Whether it has TLS. */
  isEncrypted(): boolean;
  /** Sends bytes, which are copied. */
  send(frame: Uint8Array): void;
  /** Closes. Without an error, it first delivers waiting bytes. */
  close(error?: Error): Promise<void>;
  /** Resets the connection. */
  disconnect(): void;
  /** Resolves when the connection is over, with the reason. */
  closed(): Promise<void | Error>;
  /** Does nothing. */
  discard(): void;
}

/** A `TransportFactory` of nats-core. */
export interface NatsTransportFactory {
  /** Makes a transport for one connection. */
  factory: () => NatsTransport;
  /** The port of a broker without one. */
  defaultPort: number;
}

/** Options of {@linkcode natsTransport}. */
export interface NatsTransportOptions {
  /**
   * The runtime that connects, or a function that returns it for the options of a connection:
   * nats-core has one transport for the whole process, but a test may have many simulated hosts. By
   * default the runtime of the process.
   */
  runtime?: Runtime | ((options: NatsConnectionSettings) => Runtime) | undefined;
  /**
   * The number of bytes that may wait to be sent. nats-core does not wait when it publishes. At
   * this limit the connection is reset, and nats-core connects again. With a regular
   * `await nc.flush()`, a fast publisher stays below it.
   *
   * @default {67_108_864}
   */
  maxOutputBytes?: number | undefined;
}

const OPTIONS: Names<NatsTransportOptions> = { runtime: true, maxOutputBytes: true };

/**
 * Gives the transport for `setTransportFactory()` of `@nats-io/nats-core`, an optional peer dependency.
 *
 * The transport connects over TCP. It upgrades to TLS if the broker requires it, or offers it and
 * `tls` is not null. If `tls` is given or a URL of `servers` begins with `tls://`, TLS is required:
 * without an offer of the broker, the connection fails. `tls.ca`, `tls.cert` and `tls.key` are PEM
 * texts. Files (`caFile`, …) are not read.
 *
 * nats-core decides about user, password, token, the list of brokers, and when to connect again.
 * Note two of its defaults: it gives up after ten attempts (with `maxReconnectAttempts: -1` never),
 * and it drops messages that are published without a broker.
 *
 * @param options The runtime, and the limit of waiting bytes
 * @returns The factory
 * @throws {TypeError} When an option has the wrong type or name
 * @throws {RangeError} When `maxOutputBytes` is out of range
 *
 * @example
 * ```ts ignore
 * import { NatsConnectionImpl, setTransportFactory } from "@nats-io/nats-core/internal";
 * import { natsTransport } from "trivent/nats";
 *
 * setTransportFactory(natsTransport());
 * const nats = await NatsConnectionImpl.connect({ servers: "127.0.0.1:4222" });
 * nats.publish("greetings", "hello");
 * await nats.drain();
 * ```
 */
export function natsTransport(options: NatsTransportOptions = {}): NatsTransportFactory {
  const checked = checkTransportOptions(options);
  return { factory: () => new BrokerConnection(checked), defaultPort: DEFAULT_PORT };
}

function checkTransportOptions(options: NatsTransportOptions): NatsTransportOptions {
  const doing = "make a transport for NATS";
  const { runtime, maxOutputBytes } = readOptions(doing, options, OPTIONS);
  if (runtime !== undefined && typeof runtime !== "function" && !hasMethod(runtime, "connect")) {
    throw wrongType(doing, "runtime is neither a Runtime nor a function", runtime);
  }
  if (maxOutputBytes !== undefined) checkLimit(doing, "maxOutputBytes", maxOutputBytes);
  return { runtime, maxOutputBytes };
}

/** The properties that the transport reads from a broker's first line. nats-core reads the rest. */
interface BrokerInfo {
  readonly tls_required?: boolean;
  readonly tls_available?: boolean;
}

/** One connection to a broker, from its attempt to its end. */
class BrokerConnection implements NatsTransport {
  readonly lang = "trivent";
  readonly version: string = VERSION;
  isClosed = false;
  closeError?: Error;
  readonly #options: NatsTransportOptions;
  readonly #maxOutput: number;
  readonly #closed: Promise<void | Error>;
  readonly #attempt = new AbortController();
  #resolveClosed!: (error: Error | undefined) => void;
  #bev: SocketBufferEvent | null = null;
  /** The first line, which nats-core reads too. */
  #info = "";
  /** Waits for the handshake of TLS. */
  #onHandshake: ((error: EventError | undefined) => void) | null = null;

  constructor(options: NatsTransportOptions) {
    this.#options = options;
    this.#maxOutput = options.maxOutputBytes ?? MAX_OUTPUT;
    this.#closed = new Promise((resolve) => this.#resolveClosed = resolve as (error: Error | undefined) => void);
  }

  async connect(server: NatsServer, options: NatsConnectionSettings): Promise<void> {
    try {
      const tls = tlsFor(server, options);
      const { runtime } = this.#options;
      const bev = await connect({
        hostname: server.hostname,
        port: server.port,
        runtime: typeof runtime === "function" ? runtime(options) : runtime ?? ownRuntime(),
        signal: this.#attempt.signal,
        maxOutputBytes: Infinity,
        // nats-core pings.
        stallTimeoutMs: null,
        tls: options.tls?.handshakeFirst ? tls.options : undefined,
      }, {
        event: (_, what, error) => {
          if ((what & BEV_EVENT_CONNECTED) !== 0) this.#onHandshake?.(undefined);
          else {
            const reason = error ?? new EventError("Cannot go on: the broker has closed", { code: "ECONNRESET" });
            this.#onHandshake?.(reason);
            this.#end(reason);
          }
        },
        error: (error) => this.#end(error as Error),
        close: (_, reason) => this.#end(reason),
      });
      this.#bev = bev;
      if (this.isClosed) throw this.closeError ?? new EventError("Cannot connect: closed", { code: "ECANCELED" });
      const info = await this.#readInfo(bev);
      const isOffered = info.tls_required === true || info.tls_available === true;
      if (tls.isWanted && !isOffered) {
        throw new EventError("Cannot connect: the broker does not offer TLS", { code: "EV_UNSUPPORTED" });
      }
      const isAsked = info.tls_required === true || (isOffered && options.tls !== null);
      if (bev.tls === undefined && (tls.isWanted || isAsked)) await this.#startTls(bev, tls.options);
    } catch (error) {
      this.#end(error as Error);
      throw error;
    }
  }

  async #readInfo(bev: SocketBufferEvent): Promise<BrokerInfo> {
    const lines = bev.lines({ text: true, maxBytes: MAX_INFO });
    const { value, done } = await lines.next();
    await lines.return?.();
    if (done) throw new EventError("Cannot connect: the broker closed at once", { code: "ECONNRESET" });
    if (!value.startsWith("INFO ")) {
      throw new EventError(`Cannot connect: the peer is not a NATS broker: received "${value.slice(0, 80)}"`, {
        code: "EPROTO",
      });
    }
    this.#info = `${value}\r\n`;
    return JSON.parse(value.slice("INFO ".length)) as BrokerInfo;
  }

  #startTls(bev: SocketBufferEvent, options: TlsConnectOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onHandshake = (error) => {
        this.#onHandshake = null;
        if (error === undefined) resolve();
        else reject(error);
      };
      bev.startTls(options);
    });
  }

  async *[Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array> {
    const bev = this.#bev;
    if (bev === null || this.isClosed) return;
    yield new TextEncoder().encode(this.#info);
    try {
      for await (const bytes of bev) yield bytes;
      this.#end(undefined);
    } catch (error) {
      // nats-core reads it when the iteration has ended.
      this.#end(error as Error);
    }
  }

  isEncrypted(): boolean {
    return this.#bev?.tls !== undefined;
  }

  send(frame: Uint8Array): void {
    if (this.isClosed || this.#bev === null) return;
    const waiting = this.#bev.output.length;
    if (waiting >= this.#maxOutput) {
      this.#end(
        new EventError(
          `Cannot send ${frame.length} bytes: ${waiting} wait for the broker, and maxOutputBytes is ${this.#maxOutput}`,
          {
            code: "ENOBUFS",
          },
        ),
      );
    } else this.#bev.write(frame);
  }

  async close(error?: Error): Promise<void> {
    this.#end(error);
    await this.#closed;
  }

  disconnect(): void {
    this.#end(new EventError("Cannot go on: the broker does not answer", { code: "ETIMEDOUT" }));
  }

  closed(): Promise<void | Error> {
    return this.#closed;
  }

  discard(): void {}

  /** Ends the connection. Without an error, waiting bytes are delivered first. */
  #end(error: Error | undefined): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (error !== undefined) this.closeError = error;
    this.#attempt.abort(error);
    const done = (): void => this.#resolveClosed(error);
    const bev = this.#bev;
    if (bev === null) done();
    else if (error === undefined) bev.close({ timeoutMs: CLOSE_TIMEOUT_MS }).then(done, done);
    else {
      bev.reset();
      done();
    }
  }
}

/** The runtime of the process, also for a program that imports no other part of the package. */
function ownRuntime(): Runtime {
  try {
    return defaultRuntime();
  } catch {
    setDefaultRuntime(detectRuntime);
    return defaultRuntime();
  }
}

/** The TLS options, and whether TLS is required. */
function tlsFor(
  server: NatsServer,
  { servers = [], tls }: NatsConnectionSettings,
): { isWanted: boolean; options: TlsConnectOptions } {
  const { ca, cert, key, caFile, certFile, keyFile } = tls ?? {};
  if (caFile !== undefined || certFile !== undefined || keyFile !== undefined) {
    throw new EventError(
      "Cannot use caFile, certFile or keyFile: read the file, and give its text as ca, cert or key",
      {
        code: "EV_UNSUPPORTED",
      },
    );
  }
  const urls = typeof servers === "string" ? [servers] : servers;
  return {
    isWanted: (tls !== undefined && tls !== null) || urls.some((url) => /^tls:/i.test(url)),
    options: { ca, cert, key, serverName: server.tlsName || server.hostname },
  };
}
