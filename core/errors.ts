/**
 * The one error vocabulary: what can go wrong while running has a stable `code`, the same on every runtime.
 *
 * @module
 */

import { show } from "./checks.ts";

const BRAND: symbol = Symbol.for("trivent.EventError");

/** What an {@linkcode EventError} is made from. */
export interface EventErrorOptions {
  /** The stable name of what went wrong: a POSIX name such as `ECONNRESET`, or one of ours such as `EV_FROZEN`. */
  code: string;
  /** The call that failed, where there was one: `connect`, `listen`, `read`, `write`, … */
  syscall?: string | undefined;
  /** The host's own error, or whatever else this one was made from. */
  cause?: unknown;
  /** What has failed one after the other, where this stands for several failures. */
  errors?: readonly EventError[] | undefined;
}

/**
 * Something failed while running. Match on {@linkcode EventError.code}: messages may change, codes do not.
 *
 * `instanceof` holds across several copies of the library in one process.
 *
 * Codes of the network are POSIX names and the same on every runtime (`ECONNREFUSED`, `ECONNRESET`, `EPIPE`,
 * `EADDRINUSE`, `EACCES`, `ETIMEDOUT`, `ENOTFOUND`, `ECANCELED`, …). Codes of the library begin with `EV_`, those of TLS
 * with `ERR_TLS_`: `CERT` (the peer's certificate is not accepted), `HANDSHAKE`, `OPTIONS` (ours can't be used), `PLAINTEXT`,
 * `PROTOCOL` (the peer has broken it off) and `TRUNCATED`.
 *
 * @example
 * ```ts
 * import { EventError } from "trivent";
 *
 * const error = new EventError("Cannot connect to 127.0.0.1:9: connection refused", { code: "ECONNREFUSED" });
 * if (error.code !== "ECONNREFUSED") throw error;
 * ```
 */
export class EventError extends Error {
  /** `EventError`. */
  override readonly name: string = "EventError";
  /** The stable name of what went wrong. */
  readonly code: string;
  /** The call that failed, where there was one. */
  readonly syscall: string | undefined;
  /**
   * What has failed one after the other, where this stands for several failures: of each address of a name that could not
   * be connected to. Else undefined.
   */
  readonly errors: readonly EventError[] | undefined;

  /**
   * Makes an error.
   *
   * @param message What was tried, why it failed, and what was received
   * @param options The code, the call and the cause
   */
  constructor(message: string, options: EventErrorOptions) {
    const { code, syscall, cause, errors } = checkOptions(message, options);
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.syscall = syscall;
    this.errors = errors;
  }

  /**
   * Tells whether a value is an {@linkcode EventError} of this or another copy of the library.
   *
   * @param value Any value
   * @returns True when it is one
   */
  static override [Symbol.hasInstance](value: unknown): boolean {
    try {
      return typeof value === "object" && value !== null && BRAND in value;
    } catch {
      // A proxy that was revoked.
      return false;
    }
  }
}
Object.defineProperty(EventError.prototype, BRAND, { value: true });

/** Names are not checked: it is made for every failure, and each has its code. */
function checkOptions(message: string, options: EventErrorOptions): EventErrorOptions {
  let code: unknown;
  try {
    ({ code } = options);
  } catch {
    // Not an object, or one that can't be read.
  }
  if (typeof message === "string" && typeof code === "string") return options;
  const [what, value] = typeof message === "string" ? ["code", code] : ["message", message];
  throw new TypeError(`Cannot make an EventError: the ${what} is not a string: received ${show(value)}`);
}

/**
 * Throws unless the condition holds. For what can't happen: a failure is a defect of the library.
 *
 * @param condition What must be true
 * @param message What it would mean if it were not
 * @throws {Error} When the condition is false
 */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`Trivent invariant broken: ${message}`);
}

/**
 * Takes anything a host may have thrown and gives an {@linkcode EventError}: itself if it is one, else with the
 * host's POSIX `code` where it has one, and the host's error as `cause`.
 *
 * @param tried What was tried: "connect to 127.0.0.1:80"
 * @param reason What the host threw or reported
 * @param code The code to give, where the host's own does not say it
 * @param syscall The call that failed
 * @returns The error to report
 */
export function toEventError(tried: string, reason: unknown, code?: string, syscall?: string): EventError {
  if (reason instanceof EventError) return reason as EventError;
  const hostCode = (reason as { code?: unknown } | null | undefined)?.code;
  const text = reason instanceof Error ? reason.message : typeof reason === "string" ? reason : show(reason);
  const finalCode = code ?? (typeof hostCode === "string" && hostCode !== "" ? hostCode : "EIO");
  return new EventError(`Cannot ${tried}: ${text} (${finalCode})`, { code: finalCode, syscall, cause: reason });
}
