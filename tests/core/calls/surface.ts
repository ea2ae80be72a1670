// Everything that a program can call, found by reflection: functions, constructors, methods and
// setters, with the names of their parameters.

/** One thing to call. */
export interface Callable {
  /**
   * Its name in a report: `serve`, `new EvBuffer`, `EvBuffer.add`, `FileSegment::open`,
   * `BufferEvent.priority=`.
   */
  readonly name: string;
  /** The names of its parameters. */
  readonly parameters: readonly string[];
  /** Calls it; `subject` is the object of a method or setter. */
  call(subject: object | null, args: readonly unknown[]): unknown;
}

type AnyFunction = (this: unknown, ...args: unknown[]) => unknown;
type AnyClass = new (...args: unknown[]) => object;

/** The names that every function or class has. */
const OF_FUNCTIONS = ["length", "name", "prototype"];

/** Whether a value is a class. */
export function isClass(value: unknown): value is AnyClass {
  return typeof value === "function" && /^class\b/.test(Function.prototype.toString.call(value));
}

/** An exported function. */
export function functionCallable(name: string, fn: unknown): Callable {
  return {
    name,
    parameters: parametersOf(fn as AnyFunction),
    call: (_subject, args) => (fn as AnyFunction).apply(undefined, [...args]),
  };
}

/** The constructor of a class, and its static methods. */
export function classCallables(name: string, Class: AnyClass): Callable[] {
  const callables: Callable[] = [{
    name: `new ${name}`,
    parameters: parametersOf(Class),
    call: (_subject, args) => new Class(...args),
  }];
  for (const key of Reflect.ownKeys(Class)) {
    const method = Object.getOwnPropertyDescriptor(Class, key)?.value as unknown;
    if (OF_FUNCTIONS.includes(String(key)) || typeof method !== "function") continue;
    callables.push({
      name: `${name}::${spell(key)}`,
      parameters: parametersOf(method as AnyFunction),
      call: (_subject, args) => (method as AnyFunction).apply(Class, [...args]),
    });
  }
  return callables;
}

/** The methods and setters of an object, its own and inherited; `skips` says which of its prototypes are not for programs. */
export function methodCallables(name: string, object: object, skips: (prototype: object) => boolean): Callable[] {
  const found = new Map<PropertyKey, Callable>();
  for (let each: object = object; !isEnd(each); each = Object.getPrototypeOf(each) as object) {
    if (each !== object && skips(each)) continue;
    for (const key of Reflect.ownKeys(each)) {
      if (key === "constructor" || found.has(key)) continue;
      const { value, set } = Object.getOwnPropertyDescriptor(each, key) as PropertyDescriptor;
      if (typeof value === "function") {
        found.set(key, {
          name: `${name}.${spell(key)}`,
          parameters: parametersOf(value as AnyFunction),
          call: (subject, args) => (subject as Record<PropertyKey, AnyFunction>)[key]!(...args),
        });
      } else if (set !== undefined) {
        found.set(key, {
          name: `${name}.${spell(key)}=`,
          parameters: parametersOf(set as AnyFunction),
          call: (subject, [arg]) => (subject as Record<PropertyKey, unknown>)[key] = arg,
        });
      }
    }
  }
  return [...found.values()];
}

/** The names of the getters of an object. */
export function gettersOf(object: object, skips: (prototype: object) => boolean): PropertyKey[] {
  const found = new Set<PropertyKey>();
  for (let each: object = object; !isEnd(each); each = Object.getPrototypeOf(each) as object) {
    if (each !== object && skips(each)) continue;
    for (const key of Reflect.ownKeys(each)) {
      if (Object.getOwnPropertyDescriptor(each, key)?.get !== undefined) found.add(key);
    }
  }
  return [...found];
}

function isEnd(prototype: object | null): boolean {
  return prototype === null || prototype === Object.prototype || prototype === Function.prototype ||
    prototype === Error.prototype || prototype === TypeError.prototype;
}

function spell(key: PropertyKey): string {
  return typeof key === "symbol" ? `[${key.description}]` : String(key);
}

/**
 * The names of the parameters of a function or constructor in its source. A destructured parameter
 * is `options`.
 */
function parametersOf(fn: AnyFunction | AnyClass): string[] {
  let text = Function.prototype.toString.call(fn);
  if (/^class\b/.test(text)) {
    const constructor = /(?<![\w.$#])constructor\s*\(/.exec(text);
    if (constructor === null) {
      const parent = Object.getPrototypeOf(fn) as AnyClass;
      return isClass(parent) ? parametersOf(parent) : [];
    }
    text = text.slice(constructor.index);
  }
  const arrow = /^(?:async\s+)?([\w$]+)\s*=>/.exec(text);
  if (arrow !== null) return [arrow[1] as string];
  const list: string[] = [];
  let depth = 0;
  let current = "";
  const begin = text.indexOf("(", text.startsWith("[") ? text.indexOf("]") : 0) + 1;
  for (let i = begin; i < text.length; i++) {
    const character = text[i] as string;
    if ("([{".includes(character)) depth++;
    if (")]}".includes(character) && --depth < 0) break;
    if (character === "," && depth === 0) {
      list.push(current);
      current = "";
    } else current += character;
  }
  if (current.trim() !== "") list.push(current);
  return list.map((parameter) => {
    const name = parameter.trim().replace(/^\.\.\./, "").replace(/\s*=[^]*$/, "");
    // A bundler appends a number to a name that it finds twice.
    return name.startsWith("{") ? "options" : name.replace(/^_/, "").replace(/\d+$/, "");
  });
}
