/**
 * The globals of the real runtime on virtual time, for third-party code: timers, `Date`,
 * `performance.now()` and
 * `Math.random()`.
 *
 * @module
 */

import { checkFunction, show } from "../../core/checks.ts";
import { EventError } from "../../core/errors.ts";
import type { SimHostRuntime } from "./host.ts";
import type { Scheduled } from "./scheduler.ts";

/** 2025-01-01T00:00:00Z. */
const EPOCH_MS = 1_735_689_600_000;
/** The longest wait of a timer. On Node, Deno and Bun a longer one fires at once. */
const LONGEST_DELAY_MS = 2_147_483_647;

type Callback = (...args: unknown[]) => void;
type DateLike = (new (...args: unknown[]) => object) & { parse(text: string): number; UTC(...args: number[]): number };

/** The part of the global object that is replaced. */
interface Globals {
  setTimeout: unknown;
  setInterval: unknown;
  setImmediate: unknown;
  clearTimeout: unknown;
  clearInterval: unknown;
  clearImmediate: unknown;
  Date: DateLike;
  performance: { now(): number } | undefined;
  Math: { random(): number };
}

const globals = globalThis as unknown as Globals;
/** Restores the globals; undefined if they are the real ones. Only one simulator can be installed. */
let restore: (() => void) | undefined;

/** Whether the globals are those of a simulator. */
export function isInstalled(): boolean {
  return restore !== undefined;
}

/** Restores the globals that a program has left on virtual time. */
export function uninstall(): void {
  restore?.();
}

/** The result of `setTimeout()`: an object with the methods of Node's, which converts to a number. */
class VirtualTimer {
  readonly #host: SimHostRuntime;
  readonly #fn: () => void;
  readonly #delayMs: number;
  readonly #repeats: boolean;
  readonly id: number;
  #entry: Scheduled | undefined;
  #referenced = true;

  constructor(host: SimHostRuntime, id: number, fn: () => void, delayMs: number, repeats: boolean) {
    this.#host = host;
    this.id = id;
    this.#fn = fn;
    this.#delayMs = delayMs;
    this.#repeats = repeats;
    this.refresh();
  }

  refresh(): this {
    this.close();
    this.#entry = this.#host.setTimer(this.#host.now() + this.#delayMs, () => this.#fire()) as Scheduled;
    return this;
  }

  #fire(): void {
    if (this.#repeats) this.refresh();
    this.#fn();
  }

  close(): this {
    if (this.#entry !== undefined) this.#host.clearTimer(this.#entry);
    return this;
  }

  ref(): this {
    this.#referenced = true;
    return this;
  }

  unref(): this {
    this.#referenced = false;
    return this;
  }

  hasRef(): boolean {
    return this.#referenced;
  }

  [Symbol.toPrimitive](): number {
    return this.id;
  }
}

/**
 * Replaces the globals.
 *
 * @param host The host whose clock, timers and random numbers they use
 * @param epochMs The value of `Date.now()` when the clock of the simulator is at 0
 * @returns A function that restores the real globals; idempotent
 * @throws {EventError} `EV_BUSY` while a simulator is installed
 */
export function install(host: SimHostRuntime, epochMs: number = EPOCH_MS): () => void {
  if (typeof epochMs !== "number" || !Number.isFinite(epochMs)) {
    throw new TypeError(
      `Cannot install a simulator: epochMs is not a number of milliseconds: received ${show(epochMs)}`,
    );
  }
  if (restore !== undefined) {
    throw new EventError("Cannot install a simulator: another one is installed: restore the globals first", {
      code: "EV_BUSY",
      syscall: "install",
    });
  }
  const timers = new Map<number, VirtualTimer>();
  let ids = 0;
  const set = (verb: string, callback: Callback, delay: unknown, repeats: boolean, args: unknown[]): VirtualTimer => {
    checkFunction(verb, "the callback", callback as () => void);
    const id = ++ids;
    const fn = (): void => {
      if (!repeats) timers.delete(id);
      callback(...args);
    };
    const ms = Math.trunc(Number(delay));
    const timer = new VirtualTimer(host, id, fn, ms >= 1 && ms <= LONGEST_DELAY_MS ? ms : 1, repeats);
    timers.set(id, timer);
    return timer;
  };
  const clear = (timer: unknown): void => {
    const id = Number(timer);
    timers.get(id)?.close();
    timers.delete(id);
  };
  const immediates = new Map<number, () => void>();
  const replacements: { readonly [name: string]: unknown } = {
    setTimeout: (fn: Callback, ms?: unknown, ...args: unknown[]) => set("set a timeout", fn, ms, false, args),
    setInterval: (fn: Callback, ms?: unknown, ...args: unknown[]) => set("set an interval", fn, ms, true, args),
    setImmediate: (fn: Callback, ...args: unknown[]) => {
      checkFunction("set an immediate", "the callback", fn as () => void);
      const id = ++ids;
      immediates.set(id, () => fn(...args));
      host.defer(() => {
        const call = immediates.get(id);
        immediates.delete(id);
        call?.();
      });
      const immediate = {
        ref: () => immediate,
        unref: () => immediate,
        hasRef: () => true,
        [Symbol.toPrimitive]: () => id,
      };
      return immediate;
    },
    clearTimeout: clear,
    clearInterval: clear,
    clearImmediate: (immediate: unknown) => void immediates.delete(Number(immediate)),
    Date: virtualDate(globals.Date, () => epochMs + host.now()),
  };
  const { performance, Math: math } = globals;
  const undo = Object.entries(replacements).map(([name, value]) => replace(globalThis, name, value));
  if (performance !== undefined) undo.push(replace(performance, "now", () => host.now()));
  undo.push(replace(math, "random", () => host.random()));
  const putBack = (): void => {
    if (restore === putBack) restore = undefined;
    for (const each of undo.splice(0).reverse()) each();
  };
  return restore = putBack;
}

/** Replaces a property of an object. @returns A function that restores it */
function replace(target: object, name: string, value: unknown): () => void {
  const before = Object.getOwnPropertyDescriptor(target, name);
  const enumerable = before?.enumerable ?? true;
  Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable });
  return () => {
    if (before === undefined) delete (target as Record<string, unknown>)[name];
    else Object.defineProperty(target, name, before);
  };
}

/** A `Date` with another time. Objects of either class are instances of both. */
function virtualDate(real: DateLike, now: () => number): unknown {
  const whole = (): number => Math.floor(now());
  function VirtualDate(this: unknown, ...args: unknown[]): unknown {
    if (new.target === undefined) return String(new real(whole()));
    const like = new.target === (VirtualDate as unknown) ? real : new.target;
    return Reflect.construct(real, args.length === 0 ? [whole()] : args, like as unknown as new () => object);
  }
  VirtualDate.prototype = real.prototype;
  Object.setPrototypeOf(VirtualDate, real);
  Object.defineProperty(VirtualDate, "name", { value: "Date" });
  Object.defineProperty(VirtualDate, "length", { value: 7 });
  return Object.assign(VirtualDate, { now: whole });
}
