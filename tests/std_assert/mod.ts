/**
 * A stand-in for `@std/assert` 1.x where its registry can't be reached: the names and signatures that tests use.
 *
 * Tests import `@std/assert` and never this file. CONTRIBUTING.md says how to go over to the registry.
 *
 * @module
 */

import { deepStrictEqual } from "node:assert/strict";
import { inspect } from "node:util";
import { equal } from "./equal.ts";

export { equal };

/** A class, abstract or not, whatever its constructor takes. */
type Class<T> = abstract new (...args: never[]) => T;

/** The values that `assertFalse` lets through. */
export type Falsy = false | 0 | 0n | "" | null | undefined;

/** An array, typed array or anything else with a length and indices. */
export type ArrayLikeArg<T> = ArrayLike<T> & object;

/** What a failed assertion throws. */
export class AssertionError extends Error {
  /**
   * Makes one.
   *
   * @param message What was expected and what was found
   * @param options The cause, where there is one
   */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "AssertionError";
  }
}

/** Fails unless the value is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}

/** Fails unless the value is falsy. */
export function assertFalse(expr: unknown, msg = ""): asserts expr is Falsy {
  if (expr) throw new AssertionError(msg);
}

/** Fails unless both are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  if (!equal(actual, expected)) {
    throw new AssertionError(`Values are not equal${suffix(msg)}\n${difference(actual, expected)}`);
  }
}

/** Fails when both are deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  if (equal(actual, expected)) {
    throw new AssertionError(`Expected actual: ${show(actual)} not to be: ${show(expected)}${suffix(msg)}`);
  }
}

/** Fails unless both are the same value (`Object.is`). */
export function assertStrictEquals<T>(actual: unknown, expected: T, msg?: string): asserts actual is T {
  if (Object.is(actual, expected)) return;
  const same = equal(actual, expected);
  throw new AssertionError(
    same
      ? `Values have the same structure but are not reference-equal${suffix(msg)}\n${show(actual)}`
      : `Values are not strictly equal${suffix(msg)}\n${difference(actual, expected)}`,
  );
}

/** Fails unless `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  if (!(actual > expected)) throw new AssertionError(msg ?? `Expect ${show(actual)} > ${show(expected)}`);
}

/** Fails unless `actual >= expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void {
  if (!(actual >= expected)) throw new AssertionError(msg ?? `Expect ${show(actual)} >= ${show(expected)}`);
}

/** Fails unless `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  if (!(actual < expected)) throw new AssertionError(msg ?? `Expect ${show(actual)} < ${show(expected)}`);
}

/** Fails unless `actual <= expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void {
  if (!(actual <= expected)) throw new AssertionError(msg ?? `Expect ${show(actual)} <= ${show(expected)}`);
}

/** Fails unless the text contains the other. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  if (!actual.includes(expected)) {
    throw new AssertionError(`Expected actual: "${actual}" to contain: "${expected}"${suffix(msg)}`);
  }
}

/** Fails unless each of the expected elements is, by deep equality, among the actual ones. */
export function assertArrayIncludes<T>(actual: ArrayLikeArg<T>, expected: ArrayLikeArg<T>, msg?: string): void {
  const found = Array.from(actual);
  const missing = Array.from(expected).filter((item) => !found.some((other) => equal(item, other)));
  if (missing.length === 0) return;
  throw new AssertionError(
    `Expected actual: "${show(actual)}" to include: "${show(expected)}"${suffix(msg)}\nmissing: ${show(missing)}`,
  );
}

/** Fails unless the text matches. */
export function assertMatch(actual: string, expected: RegExp, msg?: string): void {
  if (!expected.test(actual)) {
    throw new AssertionError(`Expected actual: "${actual}" to match: "${expected}"${suffix(msg)}`);
  }
}

/** Fails unless the value is an instance of the class. */
export function assertInstanceOf<T extends Class<unknown>>(
  actual: unknown,
  expectedType: T,
  msg = "",
): asserts actual is InstanceType<T> {
  if (actual instanceof expectedType) return;
  const kind = typeof actual === "object" && actual !== null
    ? actual.constructor?.name ?? "Object"
    : actual === null
    ? "null"
    : typeof actual;
  throw new AssertionError(
    `Expected object to be an instance of "${expectedType.name}" but was "${kind}"${suffix(msg)}`,
  );
}

/** Fails unless the value is an error, of the class and with the message asked for. */
function assertIsError<E extends Error = Error>(
  error: unknown,
  ErrorClass?: Class<E>,
  msgMatches?: string | RegExp,
  msg?: string,
): asserts error is E {
  if (!(error instanceof Error)) {
    throw new AssertionError(`Expected "error" to be an Error object${suffix(msg)}`);
  }
  if (ErrorClass !== undefined && !(error instanceof ErrorClass)) {
    throw new AssertionError(
      `Expected error to be instance of "${ErrorClass.name}", but was "${(error as Error).constructor?.name}"${
        suffix(msg)
      }`,
      { cause: error },
    );
  }
  const { message } = error as Error;
  const matches = msgMatches instanceof RegExp ? msgMatches.test(message) : message.includes(msgMatches ?? "");
  if (!matches) {
    throw new AssertionError(
      `Expected error message to include ${
        msgMatches instanceof RegExp ? msgMatches : JSON.stringify(msgMatches)
      }, but got ${JSON.stringify(message)}${suffix(msg)}`,
      { cause: error },
    );
  }
}

/** Fails unless the function throws; gives what it threw. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
/** Fails unless the function throws an error of the class, with the text in its message; gives the error. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: Class<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  classOrMsg?: Class<E> | string,
  msgIncludes?: string,
  msg?: string,
): unknown {
  const note = typeof classOrMsg === "string" ? classOrMsg : msg;
  let error: unknown;
  try {
    fn();
  } catch (thrown) {
    error = thrown;
    checkThrown(error, classOrMsg, msgIncludes, note, "thrown");
    return error;
  }
  throw new AssertionError(`Expected function to throw${suffix(note)}`);
}

/** Fails unless the function's promise is rejected; gives the reason. */
export function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
/** Fails unless the function's promise is rejected with an error of the class, with the text in its message; gives it. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: Class<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  classOrMsg?: Class<E> | string,
  msgIncludes?: string,
  msg?: string,
): Promise<unknown> {
  const note = typeof classOrMsg === "string" ? classOrMsg : msg;
  let promise: PromiseLike<unknown> | undefined;
  try {
    promise = fn();
  } catch (error) {
    throw new AssertionError(`Function throws when expected to reject${suffix(note)}`, { cause: error });
  }
  if (typeof promise?.then !== "function") {
    throw new AssertionError(`Function throws when expected to reject${suffix(note)}`);
  }
  try {
    await promise;
  } catch (error) {
    checkThrown(error, classOrMsg, msgIncludes, note, "rejected");
    return error;
  }
  throw new AssertionError(`Expected function to reject${suffix(note)}`);
}

/** Fails. */
export function fail(msg?: string): never {
  throw new AssertionError(`Failed assertion${suffix(msg)}`);
}

/** Fails, since what can't be reached was reached. */
export function unreachable(msg?: string): never {
  throw new AssertionError(`Unreachable${suffix(msg)}`);
}

function suffix(msg: string | undefined): string {
  return msg ? `: ${msg}` : ".";
}

function show(value: unknown): string {
  return inspect(value, { depth: 20, sorted: true, maxArrayLength: 200, maxStringLength: 4000 });
}

/** The runtime's own picture of the difference, where it sees one (it takes 0 and -0 for different, `equal` does not). */
function difference(actual: unknown, expected: unknown): string {
  try {
    deepStrictEqual(actual, expected);
  } catch (error) {
    if (error instanceof Error) return error.message;
  }
  return `actual: ${show(actual)}\nexpected: ${show(expected)}`;
}

function checkThrown<E extends Error>(
  error: unknown,
  classOrMsg: Class<E> | string | undefined,
  msgIncludes: string | undefined,
  note: string | undefined,
  how: string,
): void {
  if (classOrMsg === undefined || typeof classOrMsg === "string") return;
  if (!(error instanceof Error)) throw new AssertionError(`A non-Error object was ${how}${suffix(note)}`);
  assertIsError(error, classOrMsg, msgIncludes, note);
}
