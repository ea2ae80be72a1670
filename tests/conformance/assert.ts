/**
 * The assertions of the conformance laws. They are part of the package, so they have no dependency: each has the name, the
 * parameters and the meaning of its namesake in `@std/assert`.
 */

import { deepStrictEqual, notDeepStrictEqual } from "node:assert/strict";
import { inspect } from "node:util";

type Class<T> = abstract new (...args: never[]) => T;

/** The error of a broken law. */
class LawError extends Error {
  override readonly name = "LawError";
}

function fail(what: string, msg: string | undefined, cause?: unknown): never {
  throw new LawError(msg ? `${what}: ${msg}` : what, { cause });
}

function show(value: unknown): string {
  return inspect(value, { depth: 8 });
}

/** Fails unless the value is truthy. */
export function assert(value: unknown, msg?: string): asserts value {
  if (!value) fail("The condition does not hold", msg);
}

/** Fails unless the value is falsy. */
export function assertFalse(value: unknown, msg?: string): void {
  if (value) fail("The condition holds", msg);
}

/** Fails unless both are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  try {
    deepStrictEqual(actual, expected);
  } catch (error) {
    fail(error instanceof Error ? error.message : String(error), msg);
  }
}

/** Fails if both are deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  try {
    notDeepStrictEqual(actual, expected);
  } catch {
    fail(`Both are ${show(actual)}`, msg);
  }
}

/** Fails unless both are the same value. */
export function assertStrictEquals(actual: unknown, expected: unknown, msg?: string): void {
  if (!Object.is(actual, expected)) fail(`${show(actual)} is not the same as ${show(expected)}`, msg);
}

/** Fails unless `actual > expected`. */
export function assertGreater(actual: number, expected: number, msg?: string): void {
  if (!(actual > expected)) fail(`${actual} is not greater than ${expected}`, msg);
}

/** Fails unless `actual >= expected`. */
export function assertGreaterOrEqual(actual: number, expected: number, msg?: string): void {
  if (!(actual >= expected)) fail(`${actual} is less than ${expected}`, msg);
}

/** Fails unless `actual < expected`. */
export function assertLess(actual: number, expected: number, msg?: string): void {
  if (!(actual < expected)) fail(`${actual} is not less than ${expected}`, msg);
}

/** Fails unless `actual <= expected`. */
export function assertLessOrEqual(actual: number, expected: number, msg?: string): void {
  if (!(actual <= expected)) fail(`${actual} is greater than ${expected}`, msg);
}

/** Fails unless the text contains the other. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  if (!actual.includes(expected)) fail(`${show(actual)} does not contain ${show(expected)}`, msg);
}

/** Fails unless the text matches. */
export function assertMatch(actual: string, expected: RegExp, msg?: string): void {
  if (!expected.test(actual)) fail(`${show(actual)} does not match ${expected}`, msg);
}

/** Fails unless each of the expected values is among the actual ones. */
export function assertArrayIncludes(actual: readonly unknown[], expected: readonly unknown[], msg?: string): void {
  for (const value of expected) {
    if (!actual.includes(value)) fail(`${show(value)} is not one of ${show(actual)}`, msg);
  }
}

/** Fails unless the value is an instance of the class. */
export function assertInstanceOf<T>(actual: unknown, expected: Class<T>, msg?: string): asserts actual is T {
  if (!(actual instanceof expected)) fail(`${show(actual)} is not an instance of ${expected.name}`, msg);
}

/** Fails unless the function throws an error of the class, with the text in its message; gives the error. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  expected?: Class<E>,
  part?: string,
  msg?: string,
): E {
  let result: unknown;
  try {
    result = fn();
  } catch (error) {
    return checked(error, expected, part, msg);
  }
  fail(`The function returned ${show(result)} and did not throw`, msg);
}

/** Fails unless the function's promise rejects with an error of the class, with the text in its message; gives the error. */
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  expected?: Class<E>,
  part?: string,
  msg?: string,
): Promise<E> {
  const promise = fn();
  let result: unknown;
  try {
    result = await promise;
  } catch (error) {
    return checked(error, expected, part, msg);
  }
  fail(`The promise was fulfilled with ${show(result)} and did not reject`, msg);
}

function checked<E extends Error>(
  error: unknown,
  expected: Class<E> | undefined,
  part: string | undefined,
  msg: string | undefined,
): E {
  if (!(error instanceof (expected ?? Error))) {
    fail(`${show(error)} is not an instance of ${expected?.name ?? "Error"}`, msg, error);
  }
  if (part !== undefined && !(error as Error).message.includes(part)) {
    fail(`The message ${show((error as Error).message)} does not contain ${show(part)}`, msg, error);
  }
  return error as E;
}
