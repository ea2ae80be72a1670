/**
 * The checks of arguments that the parts of the core share, and how an error shows what was received.
 */

import { EventError } from "./errors.ts";
import type { AbortSignalLike, Capabilities, Runtime } from "./runtime.ts";
import { EVBUFFER_EOL_ANY, EVBUFFER_EOL_NUL } from "./flags.ts";

/** Gives `value` if it is a whole number from 0 on. */
export function checkCount(verb: string, what: string, value: number): number {
  if (typeof value !== "number") {
    throw new TypeError(`Cannot ${verb}: ${what} must be a number: received ${show(value)}`);
  }
  if (!Number.isInteger(value) || value < 0) {
    throw new RangeError(`Cannot ${verb}: ${what} must be a whole number from 0 on: received ${value}`);
  }
  return value;
}

/** Gives `value` if it is a limit: a whole number from 0 on, or `Infinity`. */
export function checkLimit(verb: string, what: string, value: number): number {
  return value === Infinity ? value : checkCount(verb, what, value);
}

/** Gives `value` if it is one of the five end-of-line styles. */
export function checkEol(verb: string, value: number): number {
  if (typeof value !== "number") {
    throw new TypeError(`Cannot ${verb}: the end-of-line style must be a number: received ${show(value)}`);
  }
  if (!Number.isInteger(value) || value < EVBUFFER_EOL_ANY || value > EVBUFFER_EOL_NUL) {
    throw new RangeError(`Cannot ${verb}: the end-of-line style must be an EVBUFFER_EOL constant: received ${value}`);
  }
  return value;
}

/** Whether `value` is a `Uint8Array`, of this or another realm. */
export function isBytes(value: unknown): value is Uint8Array {
  if (value instanceof Uint8Array) return true;
  return ArrayBuffer.isView(value) &&
    (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === "Uint8Array";
}

/** Gives `value` if it is a `Uint8Array` whose memory is there. */
export function checkBytes(verb: string, what: string, value: Uint8Array): Uint8Array {
  if (!isBytes(value)) throw new TypeError(`Cannot ${verb}: ${what} must be a Uint8Array: received ${show(value)}`);
  if (value.length === 0 && isDetached(value.buffer)) {
    throw new TypeError(`Cannot ${verb}: the memory of ${what} was transferred: received an empty Uint8Array`);
  }
  return value;
}

/** Whether memory was transferred: ES2022 has no property that says so. */
function isDetached(buffer: ArrayBufferLike): boolean {
  if (buffer.byteLength > 0) return false;
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

/** Whether the memory of `bytes` has its size for good, and belongs to one thread. */
export function isFixed(bytes: Uint8Array): boolean {
  // `resizable` is of ES2024. A tag, and not the class: another realm has its own.
  const buffer = bytes.buffer as { readonly [Symbol.toStringTag]: string; readonly resizable?: boolean };
  return buffer[Symbol.toStringTag] === "ArrayBuffer" && buffer.resizable !== true;
}

/** Gives `value` if it can be called. */
export function checkFunction<F>(verb: string, what: string, value: F): F {
  if (typeof value !== "function") {
    throw new TypeError(`Cannot ${verb}: ${what} must be a function: received ${show(value)}`);
  }
  return value;
}

/** Gives `value` if it is an object. */
export function checkObject<O extends object>(verb: string, what: string, value: O): O {
  if (typeof value !== "object" || value === null) {
    throw new TypeError(`Cannot ${verb}: ${what} are not an object: received ${show(value)}`);
  }
  return value;
}

/** Gives `value` unless it has a NUL: the calls of a system see only what stands before it. */
export function checkNoNul(verb: string, what: string, value: string): string {
  if (!value.includes("\0")) return value;
  throw new EventError(`Cannot ${verb}: ${what} has a NUL character in it: received ${show(value)}`, {
    code: "EINVAL",
  });
}

/** Gives `signal` if it is an `AbortSignal`, of whatever host, or none was given. */
export function checkSignal(verb: string, signal: AbortSignalLike | undefined): AbortSignalLike | undefined {
  if (signal !== undefined && typeof signal?.addEventListener !== "function") {
    throw new TypeError(`Cannot ${verb}: the signal is not an AbortSignal: received ${show(signal)}`);
  }
  return signal;
}

/** The error of what the host has no capability for. */
export function unsupported(verb: string, runtime: Runtime, capability: keyof Capabilities): EventError {
  const why = runtime.lacks?.[capability] ?? `${runtime.name} can't`;
  return new EventError(`Cannot ${verb}: ${why}`, { code: "EV_UNSUPPORTED" });
}

/** A plain view of the same memory: what a subclass (Node's `Buffer`) overrides is slower, and would leak out. */
export function plain(bytes: Uint8Array): Uint8Array {
  if (bytes.constructor === Uint8Array) return bytes;
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The error of an operation that the buffer's state forbids. */
export function stateError(verb: string, reason: string, code: string): EventError {
  return new EventError(`Cannot ${verb}: ${reason}`, { code });
}

/** The most characters of a value that an error message shows. */
const SHOWN_CHARACTERS = 40;

/** A value as an error message shows it. It never throws, whatever the value's getters do, and is never long. */
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

function shorten(text: string): string {
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
}
