/**
 * Deep equality as `@std/assert` has it: 0 and -0 are equal, prototypes count, a property that is there and undefined
 * differs from one that is not there.
 *
 * @module
 */

/**
 * Tells whether two values are deeply equal.
 *
 * @param a One value
 * @param b The other
 * @returns True when they are
 */
export function equal(a: unknown, b: unknown): boolean {
  return compare(a, b, new Map());
}

function compare(a: unknown, b: unknown, seen: Map<object, object>): boolean {
  if (a === b || Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (prototype(a) !== prototype(b)) return false;
  if (a instanceof Date) return Object.is(a.getTime(), (b as Date).getTime());
  if (a instanceof RegExp || a instanceof URL || a instanceof URLSearchParams) return String(a) === String(b);
  if (ArrayBuffer.isView(a)) return sameBytesOrNumbers(a, b as ArrayBufferView);
  if (a instanceof ArrayBuffer || (typeof SharedArrayBuffer === "function" && a instanceof SharedArrayBuffer)) {
    return sameBytesOrNumbers(new Uint8Array(a), new Uint8Array(b as ArrayBuffer));
  }
  if (a instanceof WeakMap || a instanceof WeakSet) {
    throw new TypeError(`Cannot compare ${a.constructor.name} instances`);
  }
  if (a instanceof WeakRef) return compare(a.deref(), (b as WeakRef<object>).deref(), seen);
  if (seen.get(a) === b) return true;
  seen.set(a, b);
  if (a instanceof Set) return sameSets(a, b as Set<unknown>, seen) && sameProperties(a, b, seen);
  if (a instanceof Map) return sameMaps(a, b as Map<unknown, unknown>, seen) && sameProperties(a, b, seen);
  if (a instanceof Error) {
    const other = b as Error;
    if (a.name !== other.name || a.message !== other.message || !compare(a.cause, other.cause, seen)) return false;
  }
  return (!Array.isArray(a) || a.length === (b as unknown[]).length) && sameProperties(a, b, seen);
}

/** An object without prototype counts as a plain one. */
function prototype(value: object): unknown {
  return Object.getPrototypeOf(value) ?? Object.prototype;
}

function sameBytesOrNumbers(a: ArrayBufferView, b: ArrayBufferView): boolean {
  if (a instanceof DataView) {
    return sameBytesOrNumbers(
      new Uint8Array(a.buffer, a.byteOffset, a.byteLength),
      new Uint8Array(b.buffer, b.byteOffset, b.byteLength),
    );
  }
  const left = a as unknown as ArrayLike<unknown>;
  const right = b as unknown as ArrayLike<unknown>;
  if (left.length !== right.length) return false;
  for (let i = 0; i < left.length; i++) {
    if (left[i] !== right[i] && !Object.is(left[i], right[i])) return false;
  }
  return true;
}

function sameSets(a: Set<unknown>, b: Set<unknown>, seen: Map<object, object>): boolean {
  if (a.size !== b.size) return false;
  const left = [...a].filter((item) => !b.has(item));
  const rest = [...b].filter((item) => !a.has(item));
  return left.every((item) => takeMatch(rest, (other) => compare(item, other, seen)));
}

function sameMaps(a: Map<unknown, unknown>, b: Map<unknown, unknown>, seen: Map<object, object>): boolean {
  if (a.size !== b.size) return false;
  const rest = [...b];
  return [...a].every(([key, value]) =>
    takeMatch(rest, ([otherKey, other]) => compare(key, otherKey, seen) && compare(value, other, seen))
  );
}

/** Takes the first element that matches out of the list. */
function takeMatch<T>(list: T[], matches: (item: T) => boolean): boolean {
  const index = list.findIndex(matches);
  if (index !== -1) list.splice(index, 1);
  return index !== -1;
}

function sameProperties(a: object, b: object, seen: Map<object, object>): boolean {
  const keys = enumerableKeys(a);
  if (keys.length !== enumerableKeys(b).length) return false;
  return keys.every((key) =>
    Object.hasOwn(b, key) &&
    compare((a as Record<PropertyKey, unknown>)[key], (b as Record<PropertyKey, unknown>)[key], seen)
  );
}

function enumerableKeys(value: object): PropertyKey[] {
  return Reflect.ownKeys(value).filter((key) => Object.prototype.propertyIsEnumerable.call(value, key));
}
