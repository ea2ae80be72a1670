/**
 * Registers the laws: with `node:test`, or in a list. With the list, another test runner can run them, and the laws
 * themselves can be tested with runtimes that break them.
 */

import * as runner from "node:test";

/** One law as a test. */
export interface Law {
  /** The name of the test, with the groups that it is in. */
  readonly name: string;
  /** The reason why it is skipped, or false. */
  readonly skip: string | false;
  /** Runs it once. Rejects when the runtime breaks the law. */
  run(): Promise<void>;
}

interface Options {
  readonly skip?: boolean | string | undefined;
}

type Body = () => Promise<void> | void;

/** The list that laws are added to, while {@linkcode collect} runs. */
let list: Law[] | undefined;
let groups: readonly string[] = [];
let skipped: string | false = false;
let cleanups: readonly Body[] = [];

/** A reason in words: node:test takes `true` too. */
function reason(skip: boolean | string | undefined): string | false {
  return skip === true ? "a capability is declared to be missing" : skip || false;
}

/** As `it` of `node:test`. */
export function it(name: string, options: Options | Body, body?: Body): void {
  const [{ skip }, law] = typeof options === "function" ? [{} as Options, options] : [options, body as Body];
  const after = cleanups;
  const run = async (): Promise<void> => {
    try {
      await law();
    } finally {
      for (const fn of after) await fn();
    }
  };
  if (list === undefined) {
    runner.it(name, { skip: reason(skip) }, run);
    return;
  }
  list.push({ name: [...groups, name].join(" > "), skip: skipped || reason(skip), run });
}

/** As `describe` of `node:test`. */
export function describe(name: string, options: Options | (() => void), body?: () => void): void {
  const [{ skip }, group] = typeof options === "function" ? [{} as Options, options] : [options, body as () => void];
  const define = (): void => {
    const outer = cleanups;
    try {
      group();
    } finally {
      cleanups = outer;
    }
  };
  if (list === undefined) {
    runner.describe(name, { skip: reason(skip) }, define);
    return;
  }
  const [outerGroups, outerSkipped] = [groups, skipped];
  groups = [...groups, name];
  skipped ||= reason(skip);
  try {
    define();
  } finally {
    [groups, skipped] = [outerGroups, outerSkipped];
  }
}

/** As `before` of `node:test`. In a list, the runner of the list calls it before the first law. */
export function before(fn: Body): void {
  if (list === undefined) runner.before(() => fn());
  else list.push({ name: [...groups, "(before)"].join(" > "), skip: skipped, run: async () => await fn() });
}

/** As `after` of `node:test`. */
export function after(fn: Body): void {
  if (list === undefined) runner.after(() => fn());
  else list.push({ name: [...groups, "(after)"].join(" > "), skip: skipped, run: async () => await fn() });
}

/** Calls `fn` after each law that is defined later in the same group. */
export function afterEach(fn: Body): void {
  cleanups = [...cleanups, fn];
}

/** Returns the laws that `define` defines, in place of registering them with `node:test`. */
export function collect(define: () => void): readonly Law[] {
  const [outer, found] = [list, [] as Law[]];
  list = found;
  try {
    define();
  } finally {
    list = outer;
  }
  return found;
}
