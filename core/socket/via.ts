/** Proxies on the way to a server: SOCKS5 (RFC 1928, RFC 1929), and CONNECT of HTTP (RFC 9110, 9.3.6). */

import { EvBuffer } from "../buffer/evbuffer.ts";
import { feed } from "../buffer/internal.ts";
import { decodeUtf8, encodeUtf8 } from "../buffer/utf8.ts";
import { checkText, outOfRange, show } from "../checks.ts";
import { EventError } from "../errors.ts";
import { parseIpv4, parseIpv6 } from "../ip.ts";
import type { Loan } from "../loan.ts";
import { atDeadline } from "../loop/deadline.ts";
import { checkHostname, formatAddress } from "./address.ts";
import type { Connection } from "./connection.ts";

/** Base64 of a string with a character for each byte. Every runtime has it, but no language standard declares it. */
declare function btoa(bytes: string): string;

/** A proxy, as its URL says. */
export interface Via {
  readonly scheme: "socks5" | "http";
  readonly hostname: string;
  readonly port: number;
  /** The user and the password, if there are any. */
  readonly user: string | null;
  readonly password: string;
}

const URL_PARTS = /^(\w+):\/\/(?:([^@/?#]*)@)?(\[[^\][]*\]|[^:@/?#[\]]+)(?::(\d{1,5}))?\/?$/;
const DEFAULT_PORTS: Readonly<Record<Via["scheme"], number>> = { socks5: 1080, http: 80 };
/** How long a proxy may take to answer, unless the attempt has a limit that is shorter. */
const ANSWER_TIMEOUT_MS = 30_000;
/** The longest answer of an HTTP proxy. */
const MAX_HEAD_BYTES = 16 * 1024;

/**
 * Reads the URL of a proxy.
 *
 * @param url `socks5://user:password@host:port` or `http://…`; the port is 1080 or 80 by default
 * @returns Its parts
 * @throws {TypeError} When it is not such a URL. No error shows the password
 */
export function viaOf(url: string): Via {
  const text = checkText("connect", "via", url);
  const shown = show(text.replace(/\/\/[^@]*@/, "//***@"));
  const wrong = (why: string): TypeError => new TypeError(`Cannot connect: via ${why}: received ${shown}`);
  const [, scheme = "", login, host = "", port] = URL_PARTS.exec(text) ?? [];
  const name = scheme.toLowerCase();
  if (host === "") throw wrong("is not a URL such as socks5://host:1080 or http://host:8080");
  if (name !== "socks5" && name !== "http") throw wrong("is neither socks5:// nor http://");
  const number = port === undefined ? DEFAULT_PORTS[name] : Number(port);
  if (number < 1 || number > 65_535) throw wrong("has a port that is not between 1 and 65535");
  const hostname = host.startsWith("[") ? host.slice(1, -1) : host;
  if (host.startsWith("[") && parseIpv6(hostname.replace(/%.*$/, "")) === null) {
    throw wrong("has no IPv6 address between [ and ]");
  }
  checkHostname("connect", hostname);
  const colon = login?.indexOf(":") ?? -1;
  let user: string | null = null;
  let password = "";
  try {
    if (login !== undefined) user = decodeURIComponent(colon < 0 ? login : login.slice(0, colon));
    if (login !== undefined && colon >= 0) password = decodeURIComponent(login.slice(colon + 1));
  } catch {
    throw wrong("has a user or password with an invalid % sequence");
  }
  if (user !== null) {
    const most = name === "socks5" ? 255 : 4096;
    if (user === "" || encodeUtf8(user).length > most || encodeUtf8(password).length > most) {
      throw wrong(`has a user or password that is empty or longer than ${most} bytes`);
    }
    if (name === "http" && user.includes(":")) throw wrong("has a user with a colon in it");
  }
  return { scheme: name, hostname, port: number, user, password };
}

/** The address that the proxy connects to. */
export interface Target {
  readonly hostname: string;
  readonly port: number;
}

/**
 * Checks that a target can be sent to a proxy.
 *
 * @throws {RangeError} When its name cannot be sent
 */
export function checkViaTarget(via: Via, { hostname }: Target): void {
  if (parseIpv4(hostname) !== null || parseIpv6(hostname) !== null) return;
  // A name in a line of HTTP must not end the line.
  const allowed = via.scheme === "http" ? /^[\w.-]{1,253}$/ : /^[^\s\0-\x20\x7f]+$/;
  if (allowed.test(hostname) && encodeUtf8(hostname).length <= 255) return;
  throw outOfRange("connect", "the hostname cannot be sent to a proxy", hostname);
}

/** The name of a connection through a proxy, for errors. */
export function namesOf({ scheme, hostname, port }: Via, target: Target): string {
  return `${formatAddress(target)} through ${scheme}://${formatAddress({ hostname, port })}`;
}

/** The dialogue with a proxy, step by step. */
interface Dialogue {
  /** The first bytes to send. */
  begin(): Uint8Array;
  /**
   * Takes an answer off the input.
   *
   * @returns The bytes to send next; true when the proxy has connected; null if more bytes are needed
   * @throws {Refusal}
   */
  answer(input: EvBuffer): Uint8Array | true | null;
}

/** The reason why a proxy refuses. */
class Refusal {
  readonly why: string;

  constructor(why: string) {
    this.why = why;
  }
}

/** A connection through a proxy, until the proxy has answered. */
export class Tunnel {
  private readonly connection: Connection;
  private readonly target: Target;
  private readonly via: Via;
  private readonly dialogue: Dialogue;
  private readonly input: EvBuffer = new EvBuffer();
  private cancelTimeout: (() => void) | null = null;

  constructor(connection: Connection, via: Via, target: Target) {
    this.connection = connection;
    this.target = target;
    this.via = via;
    this.dialogue = via.scheme === "socks5" ? new Socks5(via, target) : new HttpConnect(via, target);
  }

  /** The connection to the proxy is established. */
  begin(): void {
    const { runtime } = this.connection;
    this.cancelTimeout = atDeadline(runtime, runtime.now() + ANSWER_TIMEOUT_MS, () => {
      const message = `Cannot connect to ${this.names}: the proxy has not answered within ${ANSWER_TIMEOUT_MS} ms`;
      this.connection.fail(new EventError(message, { code: "ETIMEDOUT", syscall: "connect" }));
    }, true);
    this.connection.sendFirst(this.dialogue.begin());
  }

  /** The proxy has answered. */
  onData(chunk: Uint8Array, loan: Loan | null): void {
    const input = this.input;
    feed(input, chunk, loan);
    try {
      for (;;) {
        const next = this.dialogue.answer(input);
        if (next === null) return;
        if (next === true) break;
        this.connection.sendFirst(next);
      }
    } catch (reason) {
      if (!(reason instanceof Refusal)) throw reason;
      return this.connection.fail(this.refused(reason.why));
    }
    // A TLS server does not send first. These bytes would be taken for a part of the handshake.
    if (input.length > 0 && this.connection.handshake !== null) {
      return this.connection.fail(this.refused(`it has sent ${input.length} bytes after its answer`));
    }
    this.connection.tunneled(input);
  }

  /** It has ended before it has answered. */
  ended(): EventError {
    return this.refused("it has ended the connection before it has answered");
  }

  refused(why: string): EventError {
    return new EventError(`Cannot connect to ${this.names}: the proxy refuses: ${why}`, {
      code: "EV_PROXY_REFUSED",
      syscall: "connect",
    });
  }

  private get names(): string {
    return namesOf(this.via, this.target);
  }

  /** The dialogue is over. */
  end(): void {
    this.cancelTimeout?.();
    this.cancelTimeout = null;
    this.input.free();
  }
}

const REPLIES: Readonly<Record<number, string>> = {
  1: "general failure",
  2: "connection not allowed",
  3: "network unreachable",
  4: "host unreachable",
  5: "connection refused",
  6: "TTL expired",
  7: "command not supported",
  8: "address type not supported",
};
/** How many bytes an address takes in a reply, by its kind. */
const ADDRESS_BYTES: Readonly<Record<number, number>> = { 1: 4, 4: 16 };

class Socks5 implements Dialogue {
  private readonly via: Via;
  private readonly target: Target;
  private step: "method" | "login" | "reply" = "method";

  constructor(via: Via, target: Target) {
    this.via = via;
    this.target = target;
  }

  begin(): Uint8Array {
    return this.via.user === null ? Uint8Array.of(5, 1, 0) : Uint8Array.of(5, 2, 0, 2);
  }

  answer(input: EvBuffer): Uint8Array | true | null {
    const two = input.pullup(Math.min(input.length, 2));
    if (two === null || two.length === 0) return null;
    const version = two[0] as number;
    if (version !== (this.step === "login" ? 1 : 5)) throw new Refusal(`its answer is not SOCKS5 (0x${hex(version)})`);
    if (two.length < 2) return null;
    const code = two[1] as number;
    if (this.step === "reply") return this.reply(input, code);
    input.drain(2);
    if (this.step === "login") {
      if (code !== 0) throw new Refusal(`user or password not accepted (0x${hex(code)})`);
      return this.request();
    }
    if (code === 0) return this.request();
    if (code === 2 && this.via.user !== null) return this.login(this.via.user);
    if (code !== 255) throw new Refusal(`it has chosen a method that was not offered (0x${hex(code)})`);
    throw new Refusal(
      this.via.user === null ? "it requires a user and a password (0xff)" : "it accepts no login method of ours (0xff)",
    );
  }

  private login(name: string): Uint8Array {
    this.step = "login";
    const [user, password] = [encodeUtf8(name), encodeUtf8(this.via.password)];
    return Uint8Array.of(1, user.length, ...user, password.length, ...password);
  }

  private request(): Uint8Array {
    this.step = "reply";
    const { hostname, port } = this.target;
    const [v4, v6] = [parseIpv4(hostname), parseIpv6(hostname)];
    const name = encodeUtf8(hostname);
    const address = v4 !== null ? [1, ...v4] : v6 !== null ? [4, ...v6] : [3, name.length, ...name];
    return Uint8Array.of(5, 1, 0, ...address, port >> 8, port & 255);
  }

  private reply(input: EvBuffer, code: number): true | null {
    // A refusal may be shorter than the standard says.
    if (code !== 0) throw new Refusal(`${REPLIES[code] ?? "unknown reason"} (0x${hex(code)})`);
    const head = input.pullup(Math.min(input.length, 5));
    if (head === null || head.length < 5) return null;
    const [, , reserved, kind, first] = head as unknown as [number, number, number, number, number];
    const length = kind === 3 ? 1 + first : ADDRESS_BYTES[kind];
    if (reserved !== 0 || length === undefined) throw new Refusal("its answer is not valid");
    if (input.length < 4 + length + 2) return null;
    input.drain(4 + length + 2);
    return true;
  }
}

class HttpConnect implements Dialogue {
  private readonly via: Via;
  private readonly target: Target;

  constructor(via: Via, target: Target) {
    this.via = via;
    this.target = target;
  }

  begin(): Uint8Array {
    const target = formatAddress(this.target);
    const { user, password } = this.via;
    const login = user === null
      ? ""
      : `Proxy-Authorization: Basic ${btoa(String.fromCharCode(...encodeUtf8(`${user}:${password}`)))}\r\n`;
    return encodeUtf8(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${login}\r\n`);
  }

  answer(input: EvBuffer): true | null {
    for (;;) {
      const end = input.search("\r\n\r\n").pos;
      const known = end < 0 ? input.length : end;
      if (known > MAX_HEAD_BYTES) throw new Refusal(`its answer is longer than ${MAX_HEAD_BYTES} bytes`);
      const start = decodeUtf8(input.pullup(Math.min(known, MAX_HEAD_BYTES)) ?? new Uint8Array());
      if (!"HTTP/1.".startsWith(start.slice(0, 7))) throw new Refusal("its answer is not HTTP");
      if (end < 0) return null;
      const [, code = "", reason = ""] = /^HTTP\/1\.[01] (\d{3})(?: ([^\r\n]*))?(?:\r\n|$)/.exec(start) ?? [];
      if (code === "") throw new Refusal("its answer is not valid");
      input.drain(end + 4);
      if (code.startsWith("2")) return true;
      if (!code.startsWith("1")) {
        throw new Refusal(`${code} ${reason.replace(/[^\x20-\x7e]/g, "?").slice(0, 100)}`.trim());
      }
    }
  }
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
