/**
 * Wraps `node:test` in the process of a test file, so that the three runtimes choose tests by name in the same way and all give
 * the reason of a skipped test. The runner (tests/run.mjs) loads it: Node with `--import`, Bun with `--preload`. On Deno an
 * import map names it in place of `node:test`.
 *
 * It also writes which test runs, so that the runner can name it if the process has to be stopped.
 *
 * Node 20 compares a pattern with a test's own name only, and Deno with that of the outermost `describe`. The reports of Deno
 * and Bun have no reasons, and Bun's does not mention a `describe` that is skipped.
 */

import { appendFileSync, openSync, writeSync } from "node:fs";

/** A test is chosen if its full name contains one of these texts. Without texts, all tests are. */
const NAMES = JSON.parse(process.env.TRIVENT_TEST_NAMES ?? "[]");
/** The file that gets a line of JSON for each reason. */
const NOTES = process.env.TRIVENT_TEST_NOTES ?? "";
/** The file that gets a line of JSON when a test or hook begins, and when it ends. */
const RUNNING = process.env.TRIVENT_TEST_RUNNING ?? "";
const running = RUNNING === "" ? undefined : openSync(RUNNING, "w");
const isBun = process.versions.bun !== undefined;
const isDeno = process.versions.deno !== undefined;
/** The last uncaught error. */
let uncaught;
if (isDeno) globalThis.addEventListener("error", (event) => uncaught = event.error);

/** The runtime's module. It is not imported, because on Node the exports of an imported module cannot be changed. */
const host = process.getBuiltinModule("node:test");
const original = { ...host };
/** The `describe` whose body is running. */
let suite = { path: [], entries: [], isChosen: false };
/** Hooks of the file, until the first test is chosen; undefined after it. */
let waiting = [];

const replacements = {
  describe: derive(original.describe, describe),
  suite: derive(original.suite ?? original.describe, describe),
  it: derive(original.it, it),
  test: derive(original.test, it),
};
for (const name of ["before", "after", "beforeEach", "afterEach"]) {
  replacements[name] = (body, ...args) => {
    const watched = watch([...suite.path, `(${name})`], body);
    enter(() => original[name](watched, ...args));
  };
}

/** Replaces the body of a function of the runtime. `skip`, `todo` and `only` still work. */
function derive(real, body) {
  const derived = (...args) => body(real, args);
  for (const how of ["skip", "todo", "only"]) {
    derived[how] = (name, ...args) => {
      const options = typeof args[0] === "object" ? args.shift() : {};
      return body(real, [name, { [how]: true, ...options }, ...args]);
    };
  }
  return derived;
}

function describe(real, args) {
  const [name, options, body] = read(args);
  const path = [...suite.path, name];
  note(path, options);
  if (isBun && options.skip) return it(original.it, [name, { skip: options.skip }, () => {}]);
  if (NAMES.length === 0) return real(name, options, () => within({ path }, body));
  // All names are known when the body has run. Its tests are registered then, and its hooks if one test is chosen.
  const outer = suite;
  const inner = { path, entries: [], isChosen: options.skip ? matches(path) : false };
  within(inner, body);
  if (!inner.isChosen) return;
  outer.isChosen = true;
  choose(() => real(name, options, () => inner.entries.forEach((register) => register())));
}

function it(real, args) {
  const [name, options, body] = read(args);
  const path = [...suite.path, name];
  if (NAMES.length > 0 && !matches(path)) return;
  note(path, options);
  const checked = body === undefined ? undefined : watch(path, isDeno ? failsWithUncaught(body) : body);
  if (NAMES.length === 0) return real(name, options, checked);
  suite.isChosen = true;
  choose(() => real(name, options, checked));
}

/** Writes when a test or hook begins and ends. */
function watch(path, body) {
  if (running === undefined) return body;
  const tell = (isOver) => {
    writeSync(running, `${JSON.stringify({ name: path.join(" > "), isOver, at: Date.now() })}\n`);
  };
  return async (...args) => {
    tell(false);
    try {
      await body(...args);
    } finally {
      tell(true);
    }
  };
}

/** Deno 2.9 passes a test although a timer or a tick has thrown meanwhile. Such an error ends a program, so it fails the test. */
function failsWithUncaught(body) {
  return async (...args) => {
    uncaught = undefined;
    await body(...args);
    if (uncaught !== undefined) throw uncaught;
  };
}

/** Registers a test or a suite: now, or when its suite is registered. */
function choose(register) {
  if (suite.path.length > 0) return void suite.entries.push(register);
  const hooks = waiting ?? [];
  waiting = undefined;
  for (const hook of hooks) hook();
  register();
}

/** The same for a hook. */
function enter(register) {
  if (NAMES.length === 0) register();
  else if (suite.path.length > 0) suite.entries.push(register);
  else if (waiting === undefined) register();
  else waiting.push(register);
}

function within(inner, body) {
  const outer = suite;
  suite = inner;
  try {
    body();
  } finally {
    suite = outer;
  }
}

function read([name, options, body]) {
  return typeof options === "function" ? [name, {}, options] : [name, options ?? {}, body];
}

function matches(path) {
  const full = path.join(" ");
  return NAMES.some((name) => full.includes(name));
}

function note(path, { skip }) {
  if (typeof skip !== "string" || NOTES === "") return;
  appendFileSync(NOTES, `${JSON.stringify({ name: path.join(" > "), reason: skip })}\n`);
}

if (isBun) {
  const { mock } = await import("bun:test");
  mock.module("node:test", () => ({ ...original, ...replacements, default: replacements.test }));
} else if (!isDeno) {
  Object.assign(host, replacements);
}

const { after, afterEach, before, beforeEach, test } = replacements;
const { describe: describeHere, it: itHere } = replacements;
export { after, afterEach, before, beforeEach, describeHere as describe, itHere as it, test };
export default test;
