/** The certificates of a server, chosen by the name that a client requests. */

import { outOfRange, unsupported, wrongType } from "../checks.ts";
import { type Names, readOptions } from "../names.ts";
import type { Runtime } from "../runtime.ts";
import { checkTls, DEFAULT_HANDSHAKE_TIMEOUT_MS, type Pem, TLS_LISTEN_OPTIONS, type TlsListenOptions } from "../tls.ts";

/** A certificate with its key. */
export interface TlsCredentials {
  /** The certificate, followed by the intermediate ones. */
  cert: Pem;
  /** The private key of `cert`, not encrypted. */
  key: Pem;
}

/** TLS of `serve()`. */
export interface TlsServeOptions extends TlsListenOptions {
  /**
   * Certificates for further names: a table, or a function that gets the name in lower case. `cert` is for clients that
   * send no name (SNI) and for unknown names. The function returns null for an unknown name.
   *
   * A name of the table is in ASCII, in any case. `*.example.org` stands for one label: `www.example.org`, and not
   * `example.org`. An exact name comes before it. Return the same object for the same certificate: the runtime's
   * context is kept as long as the object lives.
   */
  sni?: Readonly<Record<string, TlsCredentials>> | ((name: string) => TlsCredentials | null) | undefined;
}

const DOING = "serve";
const OPTIONS: Names<TlsServeOptions> = /* @__PURE__ */ Object.assign({ sni: true as const }, TLS_LISTEN_OPTIONS);
const CREDENTIALS: Names<TlsCredentials> = { cert: true, key: true };

/** The certificates of a server, until the next `setTls()`. */
export class TlsChoice {
  /** Whether the certificate depends on the client's name for the server. */
  readonly needsName: boolean;
  /** The time limit for the client's first message. */
  readonly timeoutMs: number;
  private readonly runtime: Runtime;
  private readonly usual: TlsListenOptions;
  private readonly table: ReadonlyMap<string, TlsListenOptions> | null = null;
  private readonly chooser: ((name: string) => TlsCredentials | null) | null = null;
  /** The options made from the credentials of the function, by credential. */
  private readonly given: WeakMap<TlsCredentials, TlsListenOptions> = new WeakMap();

  /**
   * Checks the options.
   *
   * @param runtime The runtime
   * @param given The option `tls`
   * @param handshakeTimeoutMs The time limit where `given` has none
   * @throws {TypeError} For a value of a wrong type
   * @throws {RangeError} For a value that is out of range
   * @throws {EventError} `ERR_TLS_OPTIONS` for a certificate or key that cannot be used; `EV_UNSUPPORTED`
   */
  constructor(runtime: Runtime, given: TlsServeOptions, handshakeTimeoutMs: number | undefined) {
    const { sni, ...options } = readOptions(DOING, given, OPTIONS, "tls");
    if (!runtime.capabilities.tls) throw unsupported("serve with TLS", runtime, "tls");
    checkTls(DOING, options, "server");
    this.runtime = runtime;
    this.usual = handshakeTimeoutMs === undefined ? options : { handshakeTimeoutMs, ...options };
    checkTls(DOING, this.usual, "server");
    runtime.prepareTls?.("server", this.usual);
    this.needsName = sni !== undefined;
    this.timeoutMs = this.usual.handshakeTimeoutMs ?? DEFAULT_HANDSHAKE_TIMEOUT_MS;
    if (this.needsName && !runtime.capabilities.startTlsUnread) {
      throw unsupported("choose a certificate by its name", runtime, "startTlsUnread");
    }
    if (typeof sni === "function") this.chooser = sni;
    else if (typeof sni === "object" && sni !== null) this.table = this.read(sni);
    else if (sni !== undefined) {
      throw wrongType(DOING, "tls.sni is not a table or a function", sni);
    }
  }

  private read(given: Readonly<Record<string, TlsCredentials>>): Map<string, TlsListenOptions> {
    const table = new Map<string, TlsListenOptions>();
    for (const [name, credentials] of Object.entries(given)) {
      const key = name.toLowerCase().replace(/\.$/, "");
      if (!/^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(key)) {
        throw outOfRange(DOING, "a name of tls.sni is not a host name in ASCII", name);
      }
      table.set(key, this.optionsOf(credentials));
    }
    return table;
  }

  private optionsOf(given: TlsCredentials): TlsListenOptions {
    const { cert, key } = readOptions(DOING, given, CREDENTIALS, "tls.sni");
    const options = { ...this.usual, cert, key };
    checkTls(DOING, options, "server", "tls.sni: ");
    this.runtime.prepareTls?.("server", options);
    return options;
  }

  /**
   * Chooses a certificate. Called from the loop, since it may call a function of the program.
   *
   * @param name The name that the client requests, in lower case
   * @returns The options of its handshake, the same object for the same certificate
   * @throws The error of the function, or an error for a result that is not valid
   */
  choose(name: string | null): TlsListenOptions {
    if (name === null) return this.usual;
    if (this.chooser === null) {
      const plain = name.replace(/\.$/, "");
      const table = this.table;
      return table?.get(plain) ?? table?.get(plain.replace(/^[^.]*/, "*")) ?? this.usual;
    }
    const credentials: TlsCredentials | null | undefined = this.chooser(name);
    if (credentials === null || credentials === undefined) return this.usual;
    const known = typeof credentials === "object" ? this.given.get(credentials) : undefined;
    if (known !== undefined) return known;
    const options = this.optionsOf(credentials);
    this.given.set(credentials, options);
    return options;
  }
}
