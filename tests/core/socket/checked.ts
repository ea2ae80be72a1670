// Checks every connection and every bufferevent of a test. After each outermost call by the host or
// the owner, it must be consistent, and its state must have changed as the tables in
// core/socket/connection.ts and core/bufferevent/core.ts allow. Import this file for that effect.

import { BevCore, type BevState, bevStateOf, checkBev } from "../../../core/bufferevent/core.ts";
import { FilterCore } from "../../../core/bufferevent/filter_core.ts";
import { PairCore } from "../../../core/bufferevent/pair_core.ts";
import { SocketCore } from "../../../core/bufferevent/socket_core.ts";
import { checkConnection, Connection, type ConnectionState, stateOf } from "../../../core/socket/connection.ts";

type Method = (this: object, ...args: unknown[]) => unknown;

/** The number of checked calls in progress. */
let depth = 0;
/** The objects that were called since the last check, and the check of each. */
const touched = new Map<object, (subject: object) => void>();

/** The number of checks so far. */
export let checks = 0;
/** The classes whose objects were checked. */
export const checkedClasses: Set<unknown> = new Set();
/** Whether calls are checked. */
let checking = true;

/** Switches the checks on or off. Objects that exist already count as new at their next check. */
export function setChecking(on: boolean): void {
  checking = on;
}

/** The errors of the checks. The caller may have caught them. */
export const found: unknown[] = [];

/** Adds a check after every method of the classes. */
function watch<Subject extends object, State>(
  Classes: readonly (abstract new (...args: never[]) => Subject)[],
  look: (subject: Subject) => State,
  check: (subject: Subject, before: State) => State,
): void {
  const states = new WeakMap<object, State>();
  const again = (subject: object): void => {
    states.set(subject, check(subject as Subject, states.get(subject) as State));
  };
  const checked = (method: Method): Method =>
    function (...args) {
      if (!checking) return method.apply(this, args);
      if (!touched.has(this)) {
        if (!states.has(this)) states.set(this, look(this as Subject));
        touched.set(this, again);
      }
      depth++;
      try {
        return method.apply(this, args);
      } finally {
        depth--;
        if (depth === 0) checkAll();
      }
    };
  for (const Class of Classes) {
    const prototype = Class.prototype as unknown as Record<string, Method>;
    for (const name of Object.getOwnPropertyNames(prototype)) {
      const { value } = Object.getOwnPropertyDescriptor(prototype, name) as PropertyDescriptor;
      if (name !== "constructor" && typeof value === "function") prototype[name] = checked(value as Method);
    }
  }
}

function checkAll(): void {
  const all = [...touched];
  touched.clear();
  for (const [subject, check] of all) {
    try {
      checkedClasses.add(subject.constructor);
      check(subject);
    } catch (error) {
      found.push(error);
      throw error;
    }
    checks++;
  }
}

watch<Connection, ConnectionState>([Connection], stateOf, checkConnection);
watch<BevCore, BevState>([BevCore, SocketCore, PairCore, FilterCore], bevStateOf, checkBev);
