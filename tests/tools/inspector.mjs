/**
 * Loaded into a server before its own program, to count what it holds: at SIGHUP it prints one line to standard error,
 * `holds` and JSON, with the handles, events and timers of all event bases. At SIGUSR2 it collects garbage, as
 * `collector.mjs` does.
 */

import "./collector.mjs";

// The same module as the program's, so that the classes are the same. The names are literal for Deno's permissions.
const { EventBase, EVENT_BASE_COUNT_ACTIVE, EVENT_BASE_COUNT_ADDED } = globalThis.Deno || globalThis.Bun
  ? await import("../../mod.ts")
  : await import("trivent");

/** Each base that has dispatched. */
const bases = new Set();
/** The timers of each runtime that have not fired. */
const timers = new Map();

const { dispatch } = EventBase.prototype;
EventBase.prototype.dispatch = function (...args) {
  bases.add(this);
  if (!timers.has(this.runtime)) timers.set(this.runtime, countTimers(this.runtime));
  return dispatch.apply(this, args);
};

function countTimers(runtime) {
  const live = new Set();
  const { setTimer, clearTimer } = runtime;
  runtime.setTimer = (deadlineMs, fn, background) => {
    const token = setTimer.call(runtime, deadlineMs, () => {
      live.delete(token);
      fn();
    }, background);
    live.add(token);
    return token;
  };
  runtime.clearTimer = (token) => {
    live.delete(token);
    clearTimer.call(runtime, token);
  };
  return live;
}

process.on("SIGHUP", () => {
  const holds = { handles: 0, events: 0, active: 0, timers: 0, dump: "" };
  for (const [runtime, live] of timers) {
    holds.handles += runtime.openHandles;
    holds.timers += live.size;
  }
  for (const base of bases) {
    holds.events += base.numEvents(EVENT_BASE_COUNT_ADDED);
    holds.active += base.numEvents(EVENT_BASE_COUNT_ACTIVE);
    holds.dump += base.dumpEvents().split("\n").slice(0, 60).join("\n");
  }
  console.error(`holds ${JSON.stringify(holds)}`);
});
