/** The rules of a server for the PROXY header of its connections. */

import { checkDuration, checkText, outOfRange } from "../checks.ts";
import { Cidr, parseIp } from "../ip.ts";
import { type Names, readList, readOptions } from "../names.ts";
import type { Address } from "../runtime.ts";
import { MAX_V1_BYTES, MAX_V2_BYTES } from "../socket/proxy_header.ts";

/** How `serve()` reads the PROXY protocol. */
export interface ProxyProtocolOptions {
  /**
   * `"required"`: a connection without a header is refused. `"optional"`: a client without a header is served. One that
   * sends nothing at first is served after `timeoutMs`.
   *
   * @default {"required"}
   */
  mode?: "required" | "optional" | undefined;
  /**
   * The trusted proxies: numeric addresses, or blocks such as `10.0.0.0/8` and `fd00::/8`. A header from any other
   * address is refused; with `"required"`, so is the connection. The other end of a unix socket is always trusted. By
   * default every address is trusted. Use the default only if nothing except the proxy can reach the port.
   */
  trusted?: readonly string[] | undefined;
  /** How long the header may take from the beginning of the connection to its last byte, in milliseconds. @default {3000} */
  timeoutMs?: number | undefined;
  /** The longest header, in bytes, 107 or more. @default {65551} */
  maxBytes?: number | undefined;
}

const OPTIONS: Names<ProxyProtocolOptions> = { mode: true, trusted: true, timeoutMs: true, maxBytes: true };
const DEFAULT_TIMEOUT_MS = 3000;
const DOING = "serve";

/** The options, checked. */
export interface ProxyPolicy {
  readonly required: boolean;
  /** Null: every address is trusted. */
  readonly trusted: readonly Cidr[] | null;
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/** Reads the option `proxyProtocol` of `serve()`. */
export function proxyPolicyOf(given: "required" | "optional" | ProxyProtocolOptions): ProxyPolicy {
  const options = typeof given === "string" ? { mode: given } : readOptions(DOING, given, OPTIONS, "proxyProtocol");
  const { mode = "required", trusted, timeoutMs = DEFAULT_TIMEOUT_MS, maxBytes = MAX_V2_BYTES } = options;
  if (mode !== "required" && mode !== "optional") {
    throw outOfRange(DOING, 'proxyProtocol is not "required" or "optional"', mode);
  }
  checkDuration(DOING, "proxyProtocol.timeoutMs", timeoutMs);
  if (!Number.isInteger(maxBytes) || maxBytes < MAX_V1_BYTES) {
    throw outOfRange(DOING, `proxyProtocol.maxBytes is not ${MAX_V1_BYTES} bytes or more`, maxBytes);
  }
  return {
    required: mode === "required",
    trusted: trusted === undefined ? null : readList(DOING, "proxyProtocol.trusted", trusted).map(blockOf),
    timeoutMs,
    maxBytes,
  };
}

function blockOf(text: string): Cidr {
  const block = Cidr.parse(checkText(DOING, "an address of proxyProtocol.trusted", text));
  if (block !== null) return block;
  throw outOfRange(DOING, "proxyProtocol.trusted has an element that is not an address or a block of addresses", text);
}

/** Whether a header from an address is trusted. */
export function trusts({ trusted }: ProxyPolicy, address: Address): boolean {
  // The file system decides who may connect to a unix socket.
  if (trusted === null || !("hostname" in address)) return true;
  // A link-local address has a zone behind it.
  const bytes = parseIp(address.hostname.replace(/%.*$/, ""));
  return bytes !== null && trusted.some((block) => block.has(bytes));
}
