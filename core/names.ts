/**
 * The names of options and callbacks, and the likely right name for a wrong one. A wrong name is an error, because
 * JavaScript itself would not report it.
 */

import { checkFunction, checkList, show, wrongType } from "./checks.ts";

/**
 * The names that a `T` may have. A table of this type does not compile when it lacks a name or has another one, so an
 * option that is added later is always in it.
 */
export type Names<T> = { readonly [Name in keyof T]-?: true };

/**
 * Reads options, each of them once. Undefined ones are left out.
 *
 * A plain object with an unknown name is refused. An instance of a class, or an object that inherits from another one,
 * may have more names, because programs keep their own settings there.
 *
 * @param verb The purpose of the options: `Cannot <verb>: …`
 * @param given The value from the program
 * @param names The known names
 * @param within For an object inside the options: the name of its option
 * @returns A copy with the options that are set
 * @throws {TypeError} When it is not an object or cannot be read, and for an unknown name
 */
export function readOptions<T extends object>(verb: string, given: T, names: Names<T>, within?: string): T {
  const subject = within === undefined ? "the options are" : `${within} is`;
  let options = {} as T;
  let unknown: string | undefined;
  const isObject = guarded(verb, subject, () => {
    if (typeof given !== "object" || given === null || Array.isArray(given)) return false;
    options = pick(given, names);
    if (isPlain(given)) {
      const source = given as Readonly<Record<string, unknown>>;
      unknown = Object.keys(given).find((name) => !Object.hasOwn(names, name) && source[name] !== undefined);
    }
    return true;
  });
  if (!isObject) throw wrongType(verb, `${subject} not an object`, given);
  if (unknown !== undefined) {
    throw unknownName(verb, "option", unknown, names, within === undefined ? "" : `${within}.`);
  }
  return options;
}

/**
 * Returns a copy of a list from the program.
 *
 * @throws {TypeError} When it is not an array, or cannot be read
 */
export function readList<T>(verb: string, what: string, given: readonly T[]): T[] {
  checkList(verb, what, given);
  return guarded(verb, `${what} are`, () => [...given]);
}

/** A copy of those options that are in `names`. */
export function pick<T extends object>(options: T, names: Names<T>): T {
  const picked: Record<string, unknown> = {};
  for (const name of Object.keys(names)) {
    const value = (options as Readonly<Record<string, unknown>>)[name];
    if (value !== undefined) picked[name] = value;
  }
  return picked as T;
}

/**
 * Checks an object of callbacks. Each of them may be missing, undefined or null.
 *
 * A plain object that has a function with an unknown name is refused; it may have other values. An instance of a class
 * may have more methods, but must have at least one known callback.
 *
 * @param verb The purpose of the callbacks: `Cannot <verb>: …`
 * @param given The value from the program
 * @param names The known names
 * @returns The same object
 * @throws {TypeError} When it is not an object or cannot be read, when a callback is not a function, and for an unknown
 * name
 */
export function checkCallbacks<T extends object>(verb: string, given: T, names: Names<T>): T {
  const callbacks: [name: string, callback: unknown][] = [];
  let unknown: string | undefined;
  const isObject = guarded(verb, "the callbacks are", () => {
    // A class whose static methods are the callbacks is a function.
    if ((typeof given !== "object" && typeof given !== "function") || given === null) return false;
    const source = given as Readonly<Record<string, unknown>>;
    for (const name of Object.keys(names)) {
      const callback = source[name];
      if (callback !== undefined && callback !== null) callbacks.push([name, callback]);
    }
    if (isPlain(given)) unknown = ownFunctions(given).find((name) => !Object.hasOwn(names, name));
    else if (callbacks.length === 0) {
      for (
        let each: object | null = given;
        each !== null && unknown === undefined;
        each = Object.getPrototypeOf(each)
      ) {
        unknown = ownFunctions(each)[0];
      }
    }
    return typeof given === "object" || unknown !== undefined || callbacks.length > 0;
  });
  if (!isObject) throw wrongType(verb, "the callbacks are not an object", given);
  if (unknown !== undefined) throw unknownName(verb, "callback", unknown, names, "");
  for (const [name, callback] of callbacks) checkFunction(verb, name, callback);
  return given;
}

/** Calls `read`. An exception of a getter or a proxy becomes the cause of an error that names the value. */
function guarded<T>(verb: string, subject: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new TypeError(`Cannot ${verb}: ${subject} not readable: a getter or a proxy has thrown`, { cause });
  }
}

/** Whether an object is a literal, of this or another realm. */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The names of an object's own functions, without those that every object or function has. Runs no getter. */
function ownFunctions(value: object): string[] {
  return Object.getOwnPropertyNames(value).filter((name) =>
    !(name in Function.prototype) && typeof Object.getOwnPropertyDescriptor(value, name)?.value === "function"
  );
}

function unknownName(verb: string, kind: string, name: string, names: object, prefix: string): TypeError {
  const known = Object.keys(names);
  const near = nearest(name, known);
  const hint = near.length > 0
    ? `: did you mean ${listed(near.map((each) => prefix + each))}?`
    : known.length <= LISTED_NAMES
    ? `: there ${known.length === 1 ? "is" : "are"} ${known.join(", ")}`
    : "";
  return new TypeError(`Cannot ${verb}: unknown ${kind} ${prefix}${shortName(name)}${hint}`);
}

/** The number of names in the message if none is near. */
const LISTED_NAMES = 10;

/** The form of a name in an error: without quotes, unless it is long or unusual. */
function shortName(name: string): string {
  return /^[\w$]{1,40}$/.test(name) ? name : show(name);
}

function listed(names: readonly string[]): string {
  return names.length === 1 ? names[0] as string : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

/**
 * For our options and callbacks: the names that other socket libraries (`node:net`, Bun, Deno, the web) have for the same
 * thing, in lower case. An error lists several suggestions in this order.
 */
const WORDS: Readonly<Record<string, string>> = {
  signal: "abort abortsignal",
  hostname: "addr address host ip",
  alpnProtocols: "alpn",
  attemptDelayMs: "autoselectfamilyattemptdelay delay",
  prefixBytes: "bytes length size",
  maxBytes: "bytes length limit size",
  ca: "cacerts",
  cert: "certchain certificate",
  open: "connect connection",
  accept: "connect",
  eol: "delimiter linebreak newline separator",
  close: "disconnect terminate",
  write: "drain writable",
  text: "encoding",
  readHigh: "highwatermark",
  idleTimeoutMs: "idle timeout timeoutms",
  maxConnections: "limit",
  line: "lines message",
  read: "data handler message readable",
  family: "lookup",
  maxLine: "maxbytes",
  key: "privatekey",
  serverName: "sni",
  tls:
    "alpn alpnprotocols ca cacerts cert certchain certificate key privatekey rejectunauthorized secure servername sni ssl",
  path: "socket socketpath unix",
  via: "proxy",
  backlog: "tcpbacklog",
  timeoutMs: "timeout",
  graceMs: "grace timeout timeoutms",
  handshakeTimeoutMs: "timeout timeoutms",
  event: "close disconnect end error open timeout",
};

/** The likely right names: by the names of other libraries, by their beginning, or by few wrong letters. */
function nearest(given: string, known: readonly string[]): string[] {
  const word = given.toLowerCase();
  // Others write callbacks as `onData` or `ondata`.
  const spellings = word.startsWith("on") && word.length > 3 ? [word, word.slice(2)] : [word];
  for (const spelling of spellings) {
    const same = known.find((name) => name.toLowerCase() === spelling);
    if (same !== undefined) return [same];
    const there = Object.keys(WORDS).filter((name) =>
      known.includes(name) && (WORDS[name] as string).split(" ").includes(spelling)
    );
    if (there.length > 0) return there;
  }
  const [name = "", distance = Infinity] = spellings.flatMap((spelling) =>
    known.map((name): [string, number] => [name, distanceOf(spelling, name.toLowerCase())])
  ).reduce((best, each) => each[1] < best[1] ? each : best, ["", Infinity] as [string, number]);
  return distance < 1 ? [name] : [];
}

/** The distance of a word from a name; below 1 is near. A beginning of the other is nearer, the longer it is. */
function distanceOf(word: string, name: string): number {
  // Nobody spells one word in so many letters, and the table is as large as both are long.
  if (word.length > 40) return Infinity;
  const most = Math.max(word.length, name.length);
  if (Math.min(word.length, name.length) >= 3 && (name.startsWith(word) || word.startsWith(name))) {
    return (most - Math.min(word.length, name.length)) / (2 * most);
  }
  return edits(word, name) / Math.max(1.5, most / 2.5);
}

/** The number of letters to insert, delete, change, or swap with a neighbour. */
function edits(a: string, b: string): number {
  let last: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
        ? (last[j - 2] as number) + 1
        : Infinity;
      next.push(Math.min(changed, swapped, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    last = row;
    row = next;
  }
  return row[b.length] as number;
}
