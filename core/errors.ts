/**
 * The errors. Each failure at run time has a stable `code`, the same on every runtime.
 *
 * @module
 */

import { show } from "./checks.ts";

const BRAND: symbol = Symbol.for("trivent.EventError");

/** The options of an {@linkcode EventError}. */
export interface EventErrorOptions {
  /** The stable name of the failure: a POSIX name such as `ECONNRESET`, or one of ours such as `EV_FROZEN`. */
  code: string;
  /** The call that failed, if there was one: `connect`, `listen`, `read`, `write`, … */
  syscall?: string | undefined;
  /** The runtime's own error, or any other cause. */
  cause?: unknown;
  /** The failures, if this error stands for several. */
  errors?: readonly EventError[] | undefined;
}

/**
 * A failure at run time. Compare {@linkcode EventError.code}: messages may change, codes do not.
 *
 * `instanceof` holds across several copies of the library in one process.
 *
 * Codes of the network are POSIX names and the same on every runtime (`ECONNREFUSED`, `ECONNRESET`, `EPIPE`,
 * `EADDRINUSE`, `EACCES`, `ETIMEDOUT`, `ENOTFOUND`, `ECANCELED`, …). Codes of the library begin with `EV_`, those of
 * TLS with `ERR_TLS_`: `CERT` (the peer's certificate is not accepted), `HANDSHAKE`, `OPTIONS` (our certificate or key
 * cannot be used), `PLAINTEXT`, `PROTOCOL` (the peer has ended TLS with an alert) and `TRUNCATED`.
 *
 * @example
 * ```ts
 * import { EventError } from "trivent";
 * const error = new EventError("Cannot connect to 127.0.0.1:9: connection refused", { code: "ECONNREFUSED" });
 * if (error.code !== "ECONNREFUSED") throw error;
 * ```
 */
export class EventError extends Error {
  /** `EventError`. */
  override readonly name: string = "EventError";
  /** The stable name of the failure. */
  readonly code: string;
  /** The call that failed, if there was one. */
  readonly syscall: string | undefined;
  /** The failures, if this error stands for several: one for each address of a name. Otherwise undefined. */
  readonly errors: readonly EventError[] | undefined;

  /**
   * Makes an error.
   *
   * @param message What was tried, why it failed, and which value was received
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
    // Not an object, or one that cannot be read.
  }
  if (typeof message === "string" && typeof code === "string") return options;
  const [what, value] = typeof message === "string" ? ["code", code] : ["message", message];
  throw new TypeError(`Cannot make an EventError: the ${what} is not a string: received ${show(value)}`);
}

/**
 * Throws unless the condition holds. For conditions that always hold: a failure is a defect of the library.
 *
 * @param condition What must be true
 * @param message The meaning of a failure
 * @throws {Error} When the condition is false
 */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`Trivent invariant broken: ${message}`);
}

/**
 * Makes an {@linkcode EventError} of anything that a runtime has thrown. It returns the value itself if it is one.
 * Otherwise the error has the runtime's POSIX `code`, if there is one, and the value as `cause`.
 *
 * @param tried What was tried: "connect to 127.0.0.1:80"
 * @param reason The value that the runtime threw or reported
 * @param code The code, if the runtime gives none
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
