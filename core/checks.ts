/** The checks of arguments that the parts of the core share, and the form in which an error shows a value. */

import { EventError } from "./errors.ts";
import type { AbortSignalLike, Capabilities, Runtime } from "./runtime.ts";
import type {
  EVBUFFER_EOL_ANY,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_CRLF_STRICT,
  EVBUFFER_EOL_LF,
  EVBUFFER_EOL_NUL,
} from "./flags.ts";

/** The error for a value of a wrong type. */
export function wrongType(verb: string, why: string, value: unknown, options?: { readonly cause: unknown }): TypeError {
  return new TypeError(`Cannot ${verb}: ${why}: received ${show(value)}`, options);
}

/** The error for a value that is out of range. */
export function outOfRange(verb: string, why: string, value: unknown): RangeError {
  return new RangeError(`Cannot ${verb}: ${why}: received ${show(value)}`);
}

/** Returns `value` if it is a whole number from 0 on. */
export function checkCount(verb: string, what: string, value: number): number {
  if (typeof value !== "number") {
    throw wrongType(verb, `${what} is not a number`, value);
  }
  if (!Number.isInteger(value) || value < 0) {
    throw outOfRange(verb, `${what} is not a whole number from 0 on`, value);
  }
  return value;
}

/** Returns `value` if it is a limit: a whole number from 0 on, or `Infinity`. */
export function checkLimit(verb: string, what: string, value: number): number {
  return value === Infinity ? value : checkCount(verb, what, value);
}

/** Returns `value` if it is a number. */
export function checkNumber(verb: string, what: string, value: number): number {
  if (typeof value === "number") return value;
  throw wrongType(verb, `${what} is not a number`, value);
}

/** Returns `value` if it is a duration: finite milliseconds, 0 or more. */
export function checkDuration(verb: string, what: string, value: number): number {
  checkNumber(verb, what, value);
  if (!(value >= 0 && Number.isFinite(value))) {
    throw outOfRange(verb, `${what} is not a duration`, value);
  }
  return value;
}

/** Returns `value` if it is an integer. */
export function checkInteger(verb: string, what: string, value: number): number {
  if (!Number.isInteger(value)) {
    throw wrongType(verb, `${what} is not an integer`, value);
  }
  return value;
}

/** Returns `value` if it is a string. */
export function checkText(verb: string, what: string, value: string): string {
  if (typeof value !== "string") {
    throw wrongType(verb, `${what} is not a string`, value);
  }
  return value;
}

/** Returns `value` if it has no other bits than `known`. */
export function checkFlags(verb: string, value: number, known: number): number {
  if (!Number.isInteger(value) || (value & ~known) !== 0) {
    throw outOfRange(verb, "unknown flags", value);
  }
  return value;
}

/** The end-of-line styles. Add a new one here: the compiler then names each place that must tell it from the others. */
export type EolStyle =
  | typeof EVBUFFER_EOL_ANY
  | typeof EVBUFFER_EOL_CRLF
  | typeof EVBUFFER_EOL_CRLF_STRICT
  | typeof EVBUFFER_EOL_LF
  | typeof EVBUFFER_EOL_NUL;

/** Each style; one that is missing does not compile. */
const EOL_STYLES: Readonly<Record<EolStyle, true>> = { 0: true, 1: true, 2: true, 3: true, 4: true };

/** Returns `value` if it is one of the end-of-line styles. */
export function checkEol(verb: string, value: number): EolStyle {
  if (typeof value !== "number") {
    throw wrongType(verb, "the end-of-line style is not a number", value);
  }
  if (EOL_STYLES[value as EolStyle] !== true) {
    throw outOfRange(verb, "the end-of-line style is not an EVBUFFER_EOL constant", value);
  }
  return value as EolStyle;
}

/** Whether `value` is a `Uint8Array`, of this or another realm. Asks `isView` first: a proxy would throw at the other. */
export function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && (value instanceof Uint8Array ||
    (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === "Uint8Array");
}

/** Returns `value` if it is a `Uint8Array` whose memory is there. */
export function checkBytes(verb: string, what: string, value: Uint8Array): Uint8Array {
  if (!isBytes(value)) throw wrongType(verb, `${what} is not a Uint8Array`, value);
  if (value.length === 0) checkThere(verb, what, value);
  return value;
}

/** Throws if `value` is empty because its memory is gone. Sending nothing would be a silent loss. */
function checkThere(verb: string, what: string, value: Uint8Array): void {
  // ES2022 has no property that says so.
  copyOf(verb, what, value);
}

/**
 * Copies `value`, which is a `Uint8Array`; not by `slice()`, which on a Buffer makes a view. It checks the memory once more: in hot code
 * of Node 20 the length of transferred bytes can be that of before.
 */
export function copyOf(verb: string, what: string, value: Uint8Array): Uint8Array {
  try {
    return new Uint8Array(value);
  } catch {
    throw new TypeError(
      `Cannot ${verb}: the memory of ${what} was transferred or made smaller: received an empty Uint8Array`,
    );
  }
}

/** Returns `value` if it is a boolean. */
export function checkBoolean(verb: string, what: string, value: boolean): boolean {
  if (typeof value !== "boolean") {
    throw wrongType(verb, `${what} is not a boolean`, value);
  }
  return value;
}

/** Whether `value` is an array, of this or another realm. It never throws, not even for a proxy that was revoked. */
export function isList(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** Returns `value` if it is an array. */
export function checkList<T>(verb: string, what: string, value: readonly T[]): readonly T[] {
  if (!isList(value)) throw wrongType(verb, `${what} is not an array`, value);
  return value;
}

/** Whether the memory of `bytes` cannot be resized, and belongs to one thread. */
export function isFixed(bytes: Uint8Array): boolean {
  // `resizable` is of ES2024. A tag, and not the class: another realm has its own.
  const buffer = bytes.buffer as { readonly [Symbol.toStringTag]: string; readonly resizable?: boolean };
  return buffer[Symbol.toStringTag] === "ArrayBuffer" && buffer.resizable !== true;
}

/** Returns `value` if it can be called. */
export function checkFunction<F>(verb: string, what: string, value: F): F {
  if (typeof value !== "function") {
    throw wrongType(verb, `${what} is not a function`, value);
  }
  return value;
}

/** Returns `value` unless it contains a NUL, because system calls ignore everything after it. */
export function checkNoNul(verb: string, what: string, value: string): string {
  if (!value.includes("\0")) return value;
  throw new EventError(`Cannot ${verb}: ${what} has a NUL character in it: received ${show(value)}`, {
    code: "EINVAL",
  });
}

/** Returns `signal` if it is an `AbortSignal` of any runtime, or undefined. */
export function checkSignal(verb: string, signal: AbortSignalLike | undefined): AbortSignalLike | undefined {
  if (signal !== undefined && !isSignal(signal)) {
    throw wrongType(verb, "the signal is not an AbortSignal", signal);
  }
  return signal;
}

/** The error for a missing capability. */
export function unsupported(verb: string, runtime: Runtime, capability: keyof Capabilities): EventError {
  const why = runtime.lacks?.[capability] ?? `${runtime.name} does not support it`;
  return new EventError(`Cannot ${verb}: ${why}`, { code: "EV_UNSUPPORTED" });
}

/** The options that each need a capability. */
interface Demanding {
  reusePort?: boolean | undefined;
  ipv6Only?: boolean | undefined;
  localAddress?: string | undefined;
  path?: string | undefined;
  fd?: number | undefined;
  tls?: object | undefined;
}

/**
 * Throws for an option that the runtime does not support. Only this place knows which option needs which capability.
 */
export function checkCapabilities(verb: string, runtime: Runtime, options: Demanding): void {
  const { reusePort, ipv6Only, localAddress, path, fd, tls } = options;
  const need = (wanted: boolean, capability: keyof Capabilities, what: string): void => {
    if (wanted && !runtime.capabilities[capability]) throw unsupported(`${verb} ${what}`, runtime, capability);
  };
  need(reusePort === true, "reusePort", "with others (reusePort)");
  need(ipv6Only !== undefined, "ipv6Only", "with or without IPv4 (ipv6Only)");
  need(localAddress !== undefined, "localAddress", "from a local address");
  need(fd !== undefined, "listenFd", "by its descriptor");
  need(path !== undefined, "unix", "on a unix socket");
  need(path?.startsWith("\0") === true, "abstractUnix", "on an abstract name");
  need(tls !== undefined, "tls", "with TLS");
}

function isSignal(value: AbortSignalLike): boolean {
  try {
    // A runtime's own says here, too, if it is one that only looks like it.
    return typeof value.aborted === "boolean" && hasMethod(value, "addEventListener") &&
      hasMethod(value, "removeEventListener");
  } catch {
    return false;
  }
}

/** Whether `value` is an object of our class. It never throws, not even for a revoked proxy. */
export function isA<T>(value: unknown, Class: abstract new (...args: never[]) => T): value is T {
  try {
    return value instanceof Class;
  } catch {
    return false;
  }
}

/**
 * Returns `inner`, the engine of a public object, if it has our class. Programs cannot make one, so they cannot call
 * the constructor of the public class.
 *
 * @param inner What the constructor was given
 * @param Class What it must be
 * @param name The public class
 * @param maker The function that makes its objects
 */
export function checkInner<T>(
  inner: unknown,
  Class: abstract new (...args: never[]) => T,
  name: string,
  maker: string,
): T {
  if (isA(inner, Class)) return inner;
  throw new TypeError(`Cannot make a ${name}: ${maker} makes it`);
}

/** Whether `value` is an object that has a method. It never throws. */
export function hasMethod(value: unknown, name: PropertyKey): boolean {
  try {
    return (typeof value === "object" || typeof value === "function") && value !== null &&
      typeof (value as Readonly<Record<PropertyKey, unknown>>)[name] === "function";
  } catch {
    // A getter, or a proxy that was revoked.
    return false;
  }
}

/**
 * A plain view of the same memory. The methods of a subclass (Node's `Buffer`) are slower, and would be visible to
 * programs.
 */
export function plain(bytes: Uint8Array): Uint8Array {
  if (bytes.constructor === Uint8Array) return bytes;
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The error for an operation that the buffer's state forbids. */
export function stateError(verb: string, reason: string, code: string): EventError {
  return new EventError(`Cannot ${verb}: ${reason}`, { code });
}

/** The largest number of characters of a value in an error message. */
const SHOWN_CHARACTERS = 40;

/** The form of a value in an error message. It never throws, whatever the value's getters do, and is never long. */
export function show(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(shorten(value));
    case "function":
      return "a function";
    case "symbol":
      return shorten(String(value));
    case "bigint":
      // A large one takes long to be written down.
      return BigInt.asIntN(128, value) === value ? `${value}n` : "a large bigint";
    case "object":
      return value === null ? "null" : nameOfClass(value);
    default:
      return String(value);
  }
}

function nameOfClass(value: object): string {
  try {
    const name: unknown = value.constructor?.name;
    if (typeof name === "string" && name !== "") return shorten(name);
  } catch {
    // A getter, or a proxy that was revoked: there is nothing to tell.
  }
  return "an object";
}

/** The form of a text in an error message: it is cut off if it is too long. */
export function shorten(text: string, most: number = SHOWN_CHARACTERS): string {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
