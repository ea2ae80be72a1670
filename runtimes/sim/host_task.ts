/**
 * The real runtime's macrotasks and microtasks: how the simulator waits for promises. When a macrotask begins, the runtime
 * has run every promise reaction that was queued before, and all that these have queued: each runtime drains its microtask
 * queue after each macrotask. So one macrotask is an exact wait, however long a chain of promises is.
 *
 * Node, Deno and Bun also have a function that drains the queue at once, with `process.nextTick()`
 * and reports of rejected promises in the right order. It takes 21 to 30 ns while the queue is
 * empty, and a macrotask 170 to 250 ns (`setImmediate` in batches; 0.8 to 2.3 µs one at a time, or
 * by a `MessageChannel`). So {@linkcode LARGEST_BATCH} waits share a macrotask. None of these
 * functions is documented: each macrotask tries it on a promise first, and without it each wait is
 * a macrotask. Browsers have neither that function nor `setImmediate`; there it is a message.
 *
 * @module
 */

/** The part of the real runtime that is used here. */
interface Runtime {
  readonly setImmediate?: (fn: () => void) => unknown;
  readonly MessageChannel?: new () => {
    readonly port1: { onmessage: (() => void) | null };
    readonly port2: { postMessage(message: null): void };
  };
  readonly process?: {
    readonly _tickCallback?: () => void;
    getBuiltinModule?(name: string): { readonly drainMicrotasks?: () => void } | undefined;
  };
  readonly Deno?: { readonly internal?: symbol };
}

/** The most waits in one macrotask. Then the runtime does its own work, such as its timers and signals. */
const LARGEST_BATCH = 256;
/** The number of ticks of the microtask queue to wait for on a runtime without macrotasks. */
const TICKS = 128;

/** The functions that run next, each in a macrotask. */
const waiting: (() => void)[] = [];
/** The number of further waits that the present macrotask can have. */
let left = 0;
/** Drains the microtask queue; undefined if that is not possible, null until it is needed. */
let drain: (() => void) | undefined | null = null;
/** Whether the promise reaction has run with which a macrotask tests `drain`. */
let drained = false;
const settled: Promise<void> = /* @__PURE__ */ Promise.resolve();
/** Asks for a macrotask; undefined on a runtime without them. */
const post: (() => void) | undefined = /* @__PURE__ */ hostTask();

/**
 * Calls a function in a macrotask of its own, after the promise reactions that are queued now and all that follow from
 * them. On a runtime without macrotasks, after {@linkcode TICKS} ticks of the microtask queue.
 *
 * The runtime's functions were taken when this module was loaded: `sim.install()`, and others that replace them,
 * change nothing here.
 *
 * @param fn The function; it does not throw
 */
export function inHostTask(fn: () => void): void {
  if (post === undefined) return void afterTicks(fn);
  waiting.push(fn);
  post();
}

/**
 * Runs the promise reactions that are queued now and all that follow from them, in a function that `inHostTask()` has
 * called.
 *
 * @param fn The function. If other code that runs here throws, such as a function of
 * `process.nextTick()`, the runtime reports the exception, and `fn` is called in another macrotask
 * @returns Whether they have run. If not, the function needs another macrotask
 */
export function ranReactions(fn: () => void): boolean {
  if (left === 0 || !drain) return false;
  left--;
  let threw = true;
  try {
    drain();
    threw = false;
  } finally {
    if (threw) inHostTask(fn);
  }
  return true;
}

function begin(): void {
  const fn = waiting.shift();
  if (fn === undefined) return;
  left = canDrain() ? LARGEST_BATCH : 0;
  fn();
  left = 0;
}

/** Whether the present macrotask can drain the microtask queue. */
function canDrain(): boolean {
  if (drain === null) drain = drainOf(globalThis as unknown as Runtime);
  if (drain === undefined) return false;
  drained = false;
  void settled.then(onDrained);
  drain();
  return drained;
}

function onDrained(): void {
  drained = true;
}

/**
 * Returns the function that drains the microtask queue of Bun, Deno and Node. Bun has Node's
 * function, too, but there it does nothing.
 */
function drainOf({ process, Deno }: Runtime): (() => void) | undefined {
  const { drainMicrotasks } = process?.getBuiltinModule?.("bun:jsc") ?? {};
  if (drainMicrotasks !== undefined) return drainMicrotasks;
  if (Deno?.internal === undefined) return process?._tickCallback;
  return (Deno as { [symbol: symbol]: { core?: { runNextTicks?: () => void } } })[Deno.internal]?.core?.runNextTicks;
}

function hostTask(): (() => void) | undefined {
  const { setImmediate, MessageChannel } = globalThis as unknown as Runtime;
  if (setImmediate !== undefined) return () => void setImmediate(begin);
  if (MessageChannel === undefined) return undefined;
  let port: { postMessage(message: null): void } | undefined;
  return () => {
    if (port === undefined) {
      // Made when it is needed, because outside of a browser a channel keeps the process alive.
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = begin;
      port = port2;
    }
    port.postMessage(null);
  };
}

async function afterTicks(fn: () => void): Promise<void> {
  for (let tick = 0; tick < TICKS; tick++) await undefined;
  fn();
}
