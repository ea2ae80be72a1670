// Values that a program should not pass to a function.

/**
 * The error of the caller's own code: a getter, a trap of a proxy, `toString()`. A function may
 * pass it on unchanged.
 */
export const MINE: Error = new Error("thrown by the caller's own code");

/** One bad value. */
export interface Bad {
  readonly name: string;
  /** Makes it; `valid` is what the function would accept. */
  make(valid: unknown): unknown;
}

const host = globalThis as {
  process?: { getBuiltinModule?(name: string): { runInNewContext(code: string): unknown } | undefined };
  structuredClone?(value: unknown, options: { transfer: unknown[] }): unknown;
};

function thrower(): never {
  throw MINE;
}

/** A value of another realm if the runtime can make one; otherwise of this realm. */
function foreign(code: string): unknown {
  const vm = host.process?.getBuiltinModule?.("node:vm");
  return vm === undefined ? (0, eval)(`(${code})`) : vm.runInNewContext(`(${code})`);
}

const FOREIGN: Readonly<Record<string, unknown>> = foreign(
  `{ object: {}, bytes: new Uint8Array([1, 2, 3]), call: function () {}, list: [1], error: new Error("foreign") }`,
) as Record<string, unknown>;

function detached(): Uint8Array {
  const bytes = new Uint8Array([1, 2, 3]);
  host.structuredClone?.(bytes, { transfer: [bytes.buffer] });
  return bytes;
}

/** Bytes in a resizable buffer that has become too small for them. */
function shrunk(): Uint8Array {
  const buffer = new (ArrayBuffer as unknown as new (bytes: number, options: object) => ArrayBuffer & {
    resize?(bytes: number): void;
  })(8, { maxByteLength: 16 });
  const bytes = new Uint8Array(buffer, 4, 4);
  buffer.resize?.(2);
  return bytes;
}

function resizable(): Uint8Array {
  const Buffer = ArrayBuffer as unknown as new (bytes: number, options: object) => ArrayBuffer;
  return new Uint8Array(new Buffer(8, { maxByteLength: 16 }));
}

function revoked(target: object): object {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

/** A proxy handler whose every trap throws. */
function hostile(target: object): object {
  return new Proxy(target, new Proxy({}, { get: () => thrower }));
}

class Own {
  value = 1;
}

function asObject(valid: unknown): object | null {
  return typeof valid === "object" ? valid : null;
}

/** All bad values. Some are good for some parameters. */
export const BAD: readonly Bad[] = [
  { name: "nothing", make: () => undefined },
  { name: "null", make: () => null },
  { name: "NaN", make: () => NaN },
  { name: "−1", make: () => -1 },
  { name: "−0", make: () => -0 },
  { name: "1.5", make: () => 1.5 },
  { name: "2^31", make: () => 2 ** 31 },
  { name: "2^33", make: () => 2 ** 33 },
  { name: "2^53", make: () => 2 ** 53 },
  { name: "Infinity", make: () => Infinity },
  { name: "−Infinity", make: () => -Infinity },
  { name: "an empty string", make: () => "" },
  { name: "abc", make: () => "abc" },
  { name: "a string with NUL", make: () => "127.0.0.1\0.example" },
  { name: "a lone surrogate", make: () => "\ud800" },
  { name: "a long string", make: () => "x".repeat(100_000) },
  { name: "an empty object", make: () => ({}) },
  { name: "an unknown name", make: () => ({ strange: 1 }) },
  { name: "an empty array", make: () => [] },
  { name: "an array of null", make: () => [null] },
  { name: "an array with a hole", make: () => new Array(2) },
  { name: "a symbol", make: () => Symbol("bad") },
  { name: "a bigint", make: () => 10n },
  { name: "a large bigint", make: () => 1n << 100_000n },
  { name: "true", make: () => true },
  { name: "false", make: () => false },
  { name: "a function", make: () => () => {} },
  { name: "a function that throws", make: () => thrower },
  { name: "a class", make: () => Own },
  { name: "an object of a class", make: () => new Own() },
  { name: "an object without a prototype", make: () => Object.create(null) as object },
  { name: "a frozen object", make: () => Object.freeze({ strange: 1 }) },
  { name: "a proxy", make: () => new Proxy({}, {}) },
  { name: "a revoked proxy", make: () => revoked({}) },
  { name: "a revoked proxy of an array", make: () => revoked([]) },
  { name: "a revoked proxy of a function", make: () => revoked(() => {}) },
  { name: "a hostile proxy", make: () => hostile({}) },
  { name: "a hostile proxy of a function", make: () => hostile(() => {}) },
  {
    name: "an object that throws when it is shown",
    make: () => ({
      toString: thrower,
      valueOf: thrower,
      [Symbol.toPrimitive]: thrower,
      get constructor(): never {
        return thrower();
      },
    }),
  },
  {
    name: "an object with a strange constructor",
    make: () => ({ constructor: { name: Symbol("strange") }, [Symbol.toStringTag]: Symbol("strange") }),
  },
  { name: "a thenable", make: () => ({ then: thrower }) },
  {
    name: "a list that throws",
    make: () => ({
      get length(): never {
        return thrower();
      },
      [Symbol.iterator]: thrower,
    }),
  },
  { name: "a date", make: () => new Date(NaN) },
  { name: "an expression", make: () => /x/ },
  { name: "an error", make: () => new Error("bad") },
  { name: "an ArrayBuffer", make: () => new ArrayBuffer(4) },
  { name: "a DataView", make: () => new DataView(new ArrayBuffer(4)) },
  { name: "other numbers", make: () => new Float64Array(4) },
  { name: "empty bytes", make: () => new Uint8Array(0) },
  { name: "detached bytes", make: detached },
  { name: "shared bytes", make: () => new Uint8Array(new SharedArrayBuffer(4)) },
  { name: "resizable bytes", make: resizable },
  { name: "shrunk bytes", make: shrunk },
  { name: "false bytes", make: () => Object.create(Uint8Array.prototype) as object },
  { name: "a proxy of bytes", make: () => new Proxy(new Uint8Array(4), {}) },
  { name: "a foreign object", make: () => FOREIGN.object },
  { name: "foreign bytes", make: () => FOREIGN.bytes },
  { name: "a foreign function", make: () => FOREIGN.call },
  { name: "a foreign array", make: () => FOREIGN.list },
  { name: "a foreign error", make: () => FOREIGN.error },
  // Values that look like a good value.
  {
    name: "a false object of its class",
    make: (valid) => Object.create(asObject(valid) === null ? null : Object.getPrototypeOf(valid) as object) as object,
  },
  { name: "a proxy of a good object", make: (valid) => new Proxy(asObject(valid) ?? {}, {}) },
  { name: "a revoked proxy of a good object", make: (valid) => revoked(asObject(valid) ?? {}) },
  { name: "an object that inherits from a good one", make: (valid) => Object.create(asObject(valid)) as object },
];
