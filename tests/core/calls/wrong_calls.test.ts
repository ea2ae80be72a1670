// Calls every public function, constructor, method and setter with wrong values. Each call must
// throw an error with our own message, or accept the value, and the object must still work.
// Reflection finds the functions; the test fails for a class or a parameter that `stage.ts` does
// not know.

import { describe, it } from "node:test";
import { assert, assertEquals, AssertionError } from "@std/assert";
import * as api from "../../../mod.ts";
import { BAD, type Bad, MINE } from "./bad.ts";
import { AsIs, isFair, type Maker, type Subject, SUBJECTS, VALUES, World } from "./stage.ts";
import { type Callable, classCallables, functionCallable, gettersOf, isClass, methodCallables } from "./surface.ts";

/** Texts in errors of the engines that are never in our errors. */
const ENGINE = new RegExp(
  [
    "Cannot (read (prop|priv)|set (prop|priv)|convert|destructure|mix|perform|assign|access|use '|create prop|redefine)",
    "is not (iterable|defined|extensible|callable)|is not (a function|an object|a constructor)(?!:| or)",
    "undefined is not|null is not|evaluating '|private (name|field|member)|#\\w",
    "Class constructor|called on|Receiver|incompatible|Reduce of empty|Maximum call stack|out of memory",
    "[Ii]nvalid (typed )?array|Array buffer allocation|allocation failed|detached ArrayBuffer|Illegal",
    "object null|must be of type|Argument \\d|parameter \\d|invariant",
  ].join("|"),
);
/** The call, and the reason why it is wrong. */
const OURS = /^(Cannot [^:]+|SocketError): [^]+/;
const LONGEST_MESSAGE = 400;
/**
 * Objects that may have other names: the address of a datagram, the init object of an error, a
 * codec of a program.
 */
const TAKES_MORE = [
  "DatagramSocket.sendTo:to",
  "new EventError:options",
  "BufferEvent.frames:codec",
  "BufferEvent.writeFrame:codec",
  "mapCodec:codec",
];

interface Failure {
  readonly call: string;
  readonly why: string;
}

/** Why an error is not one of ours; null if it is ours or the caller's own. */
function wrongError(error: unknown): string | null {
  if (error === MINE) return null;
  if (!isError(error)) return `it threw ${typeof error}`;
  if (!(error instanceof api.EventError) && !(error instanceof TypeError) && !(error instanceof RangeError)) {
    return `it threw ${error.name}: ${error.message}`;
  }
  // An error that is reported as an event may have another cause.
  const ours = error instanceof api.EventError || OURS.test(error.message);
  if (!ours || ENGINE.test(error.message)) return `"${error.message.slice(0, 200)}"`;
  return error.message.length > LONGEST_MESSAGE ? `a message of ${error.message.length} characters` : null;
}

function isError(value: unknown): value is Error {
  try {
    return value instanceof Error;
  } catch {
    return false;
  }
}

/** The calls of one subject, or of functions that need no subject. */
class Bench {
  readonly failures: Failure[] = [];
  calls = 0;
  refused = 0;
  /** The result of the last call. */
  result: unknown;
  readonly #maker: Maker | null;
  readonly #skips: (prototype: object) => boolean;
  #world = new World();
  #subject: Subject | null = null;
  #getters: PropertyKey[] = [];
  /** The arguments of the last call. */
  #given: readonly unknown[] = [];

  constructor(maker: Maker | null, skips: (prototype: object) => boolean) {
    this.#maker = maker;
    this.#skips = skips;
  }

  /** A new object, on a simulator of its own. */
  async #fresh(): Promise<void> {
    this.#world = new World();
    this.#subject = this.#maker === null ? null : await this.#maker.make(this.#world);
    this.#getters = this.#subject === null ? [] : gettersOf(this.#subject.object, this.#skips);
  }

  async subject(): Promise<object> {
    await this.#fresh();
    return this.#subject!.object;
  }

  /** Calls with good values, then with a bad one in each place. */
  async fuzz(callable: Callable, good = true): Promise<void> {
    await this.#fresh();
    const { parameters } = callable;
    if (good) await this.#control(callable);
    for (let place = 0; place < parameters.length; place++) {
      const label = `${callable.name}(${parameters[place]}`;
      for (const bad of BAD.filter(({ name }) => isFair(parameters[place] as string, name))) {
        await this.#try(callable, `${label} = ${bad.name})`, place, (valid) => bad.make(valid));
      }
      await this.#fuzzFields(callable, place, label);
      await this.#check(label);
    }
  }

  /** Good values must be accepted. Otherwise the function would not look at the other values. */
  async #control(callable: Callable): Promise<void> {
    const outcome = await this.#call(callable, await this.#args(callable));
    if (outcome !== null && !(outcome.error instanceof api.EventError)) {
      this.failures.push({ call: callable.name, why: `refuses good values: ${outcome.error}` });
    }
    const { result } = this;
    if (outcome === null && isObject(result)) given.push({ by: callable.name, result });
    await this.#fresh();
  }

  /** Calls with good values, and reads the getters, after the object has ended. */
  async fuzzEnded(end: string, callables: readonly Callable[]): Promise<void> {
    const finish = async (): Promise<object> => {
      const object = await this.subject();
      const ended = (object as Record<string, () => unknown>)[end]!();
      if (ended instanceof Promise) ended.catch(() => {});
      await this.#world.pass(60_000);
      this.#world.thrown.length = 0;
      return object;
    };
    for (const callable of callables) {
      await finish();
      const call = `${callable.name}(…) after ${end}()`;
      this.calls++;
      const outcome = await this.#call(callable, await this.#args(callable));
      const why = outcome === null ? null : wrongError(outcome.error);
      if (why !== null) this.failures.push({ call, why });
      this.#hear(call);
    }
    const object = await finish();
    for (const name of this.#getters) {
      try {
        void (object as Record<PropertyKey, unknown>)[name];
      } catch (error) {
        const why = wrongError(error);
        if (why !== null) this.failures.push({ call: `${String(name)} after ${end}()`, why });
      }
    }
  }

  /**
   * Tries bad values for each name that a function reads of an object, and for the elements of a
   * list.
   */
  async #fuzzFields(callable: Callable, place: number, label: string): Promise<void> {
    const args = await this.#args(callable);
    const valid = args[place];
    if (Array.isArray(valid)) {
      for (const bad of BAD) {
        await this.#try(callable, `${label} = [${bad.name}])`, place, () => [bad.make(undefined)]);
      }
      return;
    }
    if (typeof valid !== "object" || valid === null || Object.getPrototypeOf(valid) !== Object.prototype) return;
    const names = await this.#namesRead(callable, args, place, valid);
    if (names.size > 0 && !TAKES_MORE.includes(`${callable.name}:${callable.parameters[place]}`)) {
      await this.#tryUnknown(callable, label, place);
    }
    for (const [name, inner] of names) {
      for (
        const bad of BAD.filter((each) =>
          isFair(name, each.name) && isFair(callable.parameters[place] as string, each.name)
        )
      ) {
        await this.#tryField(callable, label, place, name, bad);
      }
      for (const each of inner) {
        for (const bad of BAD) {
          const what = `${label}.${name}.${each} = ${bad.name})`;
          await this.#try(
            callable,
            what,
            place,
            (all) => ({ ...all as object, [name]: { [each]: bad.make(undefined) } }),
          );
        }
      }
    }
  }

  /** An unknown name must be refused, as an option or as a callback. */
  async #tryUnknown(callable: Callable, label: string, place: number): Promise<void> {
    const args = await this.#args(callable);
    args[place] = { ...args[place] as object, strangeName: () => {} };
    this.calls++;
    const outcome = await this.#call(callable, args);
    if (outcome !== null) this.refused++;
    const { error } = outcome ?? {};
    if (error instanceof TypeError && /: unknown (option|callback) [\w.]*strangeName/.test(error.message)) return;
    this.failures.push({ call: `${label}.strangeName)`, why: `an unknown name gives ${error ?? "nothing"}` });
    await this.#fresh();
  }

  async #tryField(callable: Callable, label: string, place: number, name: string, bad: Bad): Promise<void> {
    const what = `${label}.${name} = ${bad.name})`;
    await this.#try(callable, what, place, (all) => {
      const value = bad.make((all as Record<string, unknown>)[name]);
      return { ...all as object, [name]: value };
    });
    if (bad.name !== "null") return;
    await this.#try(
      callable,
      `${label}.${name} = a getter that throws)`,
      place,
      (all) =>
        Object.defineProperty({ ...all as object }, name, {
          enumerable: true,
          get() {
            throw MINE;
          },
        }),
    );
  }

  /** The names that a function reads of an object, and of the objects inside it. */
  async #namesRead(
    callable: Callable,
    args: readonly unknown[],
    place: number,
    valid: object,
  ): Promise<Map<string, Set<string>>> {
    const names = new Map<string, Set<string>>();
    const note = (set: { add(name: string): unknown }, target: object) =>
      new Proxy(target, {
        get(_target, key) {
          if (typeof key === "string" && key !== "constructor" && key !== "then") set.add(key);
          return Reflect.get(target, key) as unknown;
        },
      });
    const outer = note({ add: (name: string) => names.has(name) || names.set(name, new Set()) }, valid);
    await this.#call(callable, args.map((arg, i) => i === place ? outer : arg));
    for (const [name, inner] of names) {
      await this.#fresh();
      const fresh = await this.#args(callable);
      const spied = { ...fresh[place] as object, [name]: note(inner, {}) };
      await this.#call(callable, fresh.map((arg, i) => i === place ? spied : arg));
    }
    await this.#fresh();
    return names;
  }

  async #args(callable: Callable): Promise<unknown[]> {
    const args: unknown[] = [];
    for (const parameter of callable.parameters) {
      const value = await valueFor(callable.name, parameter, this.#world, this.#subject?.object ?? null);
      args.push(value instanceof AsIs ? value.value : value);
    }
    return args;
  }

  async #try(callable: Callable, call: string, place: number, change: (valid: unknown) => unknown): Promise<void> {
    const args = await this.#args(callable);
    args[place] = change(args[place]);
    const before = this.#snapshot();
    this.calls++;
    const outcome = await this.#call(callable, args);
    this.#hear(call);
    if (outcome === null) {
      // It was accepted, and may have ended the object.
      await this.#works(call, true);
      await this.#fresh();
      return;
    }
    this.refused++;
    // The caller's own code may have thrown in the middle.
    if (outcome.error === MINE) return await this.#fresh();
    const why = wrongError(outcome.error);
    if (why !== null) this.failures.push({ call, why });
    const after = this.#snapshot();
    if (before !== after) {
      this.failures.push({ call, why: `refused, and changed the object: ${before} became ${after}` });
      await this.#fresh();
    }
  }

  /** Calls, and waits for a promise. Null if the call was accepted. */
  async #call(callable: Callable, args: readonly unknown[]): Promise<{ error: unknown } | null> {
    let failed: { error: unknown } | null = null;
    this.#given = args;
    try {
      const result = callable.call(this.#subject?.object ?? null, args);
      this.result = result;
      if (result instanceof Promise) result.then((value) => this.result = value, (error) => failed = { error });
      await this.#world.pass(result instanceof Promise ? 20 : 3);
    } catch (error) {
      failed = { error };
    }
    return failed;
  }

  /** The errors that callbacks have thrown meanwhile. */
  #hear(call: string): void {
    for (const error of this.#world.thrown.splice(0)) {
      if (this.#given.includes(error)) continue;
      const why = wrongError(error);
      if (why !== null) this.failures.push({ call, why: `later, ${why}` });
    }
  }

  /** The values of the object's getters, as far as they can be compared. */
  #snapshot(): string {
    if (this.#subject === null) return "";
    const { object } = this.#subject;
    return this.#getters.map((name) => {
      const value = (object as Record<PropertyKey, unknown>)[name];
      return typeof value === "object" || typeof value === "function" ? "" : `${String(name)} ${String(value)}`;
    }).join(", ");
  }

  /**
   * After refused calls an object works. After accepted ones it may have ended, but then its errors
   * say so.
   */
  async #works(call: string, accepted: boolean): Promise<void> {
    try {
      await this.#subject?.works();
    } catch (error) {
      // Some values are passed on as the reason of an end.
      if (this.#given.includes(error)) return;
      const failed = error instanceof AssertionError;
      const why = accepted && failed ? null : failed ? "it does not work any more" : wrongError(error);
      if (why !== null) this.failures.push({ call, why: `afterwards, ${why}` });
      else if (!accepted) this.failures.push({ call, why: `afterwards, ${error}` });
    }
    this.#hear(call);
  }

  async #check(label: string): Promise<void> {
    await this.#works(`${label} = …)`, false);
    await this.#fresh();
  }
}

async function valueFor(
  name: string,
  parameter: string,
  world: World,
  subject: object | null,
): Promise<unknown> {
  const owner = name.replace(/^new /, "").replace(/(\.|::).*/, "");
  const value = [`${name}:${parameter}`, `${owner}:${parameter}`, ...inherited(name, parameter), parameter]
    .map((key) => VALUES[key]).find((each) => each !== undefined);
  assert(value !== undefined, `no good value is known for the parameter ${parameter} of ${name}: add it to VALUES`);
  return await value(world, subject);
}

/**
 * A method of a bufferevent may be listed under its class or under the class that it inherits from.
 */
function inherited(name: string, parameter: string): string[] {
  const method = /\.(.*)$/.exec(name)?.[1];
  return /BufferEvent\./.test(name) ? [`BufferEvent.${method}:${parameter}`] : [];
}

function report(failures: readonly Failure[]): void {
  const lines = failures.map(({ call, why }) => `${call}: ${why}`);
  assertEquals(lines.length, 0, `${lines.length} wrong answers:\n${lines.slice(0, 100).join("\n")}`);
}

const exported = Object.entries(api) as [string, unknown][];
const classes = exported.filter(([, value]) => isClass(value)) as [string, new (...args: unknown[]) => object][];
const functions = exported.filter(([, value]) => typeof value === "function" && !isClass(value));
const publicPrototypes = new Set<unknown>(classes.map(([, Class]) => Class.prototype as unknown));

/** The results of the calls of one name. */
interface Outcome {
  readonly failures: Failure[];
  calls: number;
  refused: number;
  /** The call that has ended it early. */
  broken?: { error: unknown };
}

/** Collects results by name. */
async function outcomeOf(fuzz: (use: (bench: Bench) => Bench) => Promise<void>): Promise<Outcome> {
  const benches: Bench[] = [];
  const outcome: Outcome = { failures: [], calls: 0, refused: 0 };
  try {
    await fuzz((bench) => {
      benches.push(bench);
      return bench;
    });
  } catch (error) {
    outcome.broken = { error };
  }
  for (const bench of benches) {
    outcome.failures.push(...bench.failures);
    outcome.calls += bench.calls;
    outcome.refused += bench.refused;
  }
  return outcome;
}

/**
 * Tries everything that can be called of a class: its constructor, static methods, and the methods
 * of an object.
 */
async function fuzzClass(name: string, maker: Maker, use: (bench: Bench) => Bench): Promise<void> {
  const Class = classes.find(([each]) => each === name)?.[1];
  for (const callable of Class === undefined ? [] : classCallables(name, Class)) {
    const closed = maker.madeBy !== undefined && callable.name.startsWith("new ");
    await use(new Bench(null, () => false)).fuzz(closed ? { ...callable, parameters: [] } : callable, !closed);
  }
  // Methods of a class that is not exported, but inherits from an exported one, are not for
  // programs.
  const skips = (prototype: object): boolean => Class !== undefined && !publicPrototypes.has(prototype);
  const bench = use(new Bench(maker, skips));
  const found = methodCallables(name, await bench.subject(), skips)
    .filter(({ name: each }) => maker.methods?.includes(each.slice(name.length + 1)) ?? true)
    .filter(({ name: each }) => maker.inner?.includes(each.slice(name.length + 1)) !== true)
    // Parent classes have their own entries.
    .filter(({ name: each }) => !inheritsPublicly(Class, each.slice(name.length + 1).replace(/=$/, "")));
  for (const callable of found) await bench.fuzz(callable);
  for (const end of ["free", "close", "reset", "return", "remove"]) {
    const ends = found.find(({ name: each }) => each === `${name}.${end}`);
    // `EvBuffer.remove()` ends nothing.
    if (ends !== undefined && (end !== "remove" || ends.parameters.length === 0)) await bench.fuzzEnded(end, found);
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/** The methods of an object without a public class, as text. */
function shapeOf(object: object): string {
  return Object.keys(object).filter((name) => typeof (object as Record<string, unknown>)[name] === "function").sort()
    .join(" ");
}

/** Whether an object belongs to the language or the runtime. */
function isForeign(object: object): boolean {
  const { constructor } = object as { constructor?: { name: string } };
  if (Array.isArray(object) || /Iterator|Generator/.test(Object.prototype.toString.call(object))) return true;
  return constructor !== Object && constructor !== undefined &&
    (globalThis as Record<string, unknown>)[constructor.name] === constructor;
}

/** Functions that return an opaque token, and the adapter of the real runtime. */
const OPAQUE = /\.setTimer$|^detectRuntime$/;
/** Objects that public functions have given. */
const given: { by: string; result: object }[] = [];

// Runs outside the tests. Inside, Node's runner tracks each promise, which makes the calls ten
// times as slow.
const outcomes = new Map<string, Outcome>();
for (const [name, fn] of functions) {
  outcomes.set(
    `${name}()`,
    await outcomeOf((use) => use(new Bench(null, () => false)).fuzz(functionCallable(name, fn))),
  );
}
for (const [name, maker] of Object.entries(SUBJECTS)) {
  outcomes.set(name, await outcomeOf((use) => fuzzClass(name, maker, use)));
}

describe("a wrong call", () => {
  it("is tried on every public class", () => {
    for (const [name] of classes) assert(name in SUBJECTS, `${name} is public and not in SUBJECTS of stage.ts: add it`);
  });

  it("is tried on every object that a public function gives", async () => {
    const prototypes = new Set<unknown>(publicPrototypes);
    const shapes = new Set<string>([""]);
    for (const maker of Object.values(SUBJECTS)) {
      const { object } = await maker.make(new World());
      prototypes.add(Object.getPrototypeOf(object));
      shapes.add(shapeOf(object));
    }
    prototypes.delete(Object.prototype);
    const unknown = given.filter(({ by, result }) => {
      if (OPAQUE.test(by) || isForeign(result) || prototypes.has(Object.getPrototypeOf(result))) return false;
      return Object.getPrototypeOf(result) !== Object.prototype || !shapes.has(shapeOf(result));
    }).map(({ by, result }) => `${by}() gives ${Object.getPrototypeOf(result)?.constructor?.name} ${shapeOf(result)}`);
    assertEquals(unknown, [], "add a maker of it to SUBJECTS of stage.ts");
  });

  for (const [name, { failures, broken }] of outcomes) {
    it(`of ${name} gets an error message of ours`, () => {
      if (broken !== undefined) throw broken.error;
      report(failures);
    });
  }

  it("of a constructor that is not for programs names the function that makes the object", () => {
    for (const [name, Class] of classes) {
      const { madeBy } = SUBJECTS[name] as Maker;
      if (madeBy === undefined) continue;
      for (const args of [[], [null], [undefined, {}], ...BAD.map((bad) => [bad.make(undefined)])]) {
        let message = "nothing was thrown";
        try {
          new Class(...args);
        } catch (error) {
          message = (error as Error).message;
        }
        assert(OURS.test(message) && message.includes(madeBy), `new ${name}(…): ${message}`);
      }
    }
  });

  it("was tried often enough", () => {
    let calls = 0;
    let refused = 0;
    for (const outcome of outcomes.values()) {
      calls += outcome.calls;
      refused += outcome.refused;
    }
    assert(calls > 20_000, `${calls} calls`);
    assert(refused > calls / 2, `${refused} of ${calls} were refused`);
  });
});

/** Whether a method belongs to a public parent class, which has its own entry. */
function inheritsPublicly(Class: (new (...args: unknown[]) => object) | undefined, method: string): boolean {
  if (Class === undefined || Object.hasOwn(Class.prototype as object, method)) return false;
  const parent = Object.getPrototypeOf(Class) as { prototype?: object };
  return publicPrototypes.has(parent.prototype);
}
