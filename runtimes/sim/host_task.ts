/**
 * The real runtime's macrotasks: how the simulator waits for promises. When a macrotask begins, the runtime has run
 * every promise reaction that was queued before, and all that these have queued: each runtime drains its microtask queue
 * after each macrotask. So one macrotask is an exact wait, however long a chain of promises is, and costs less than
 * counting ticks.
 *
 * `setImmediate` in batches of {@linkcode LARGEST_BATCH} takes 0.15 to 0.25 µs a task on Node 20, Deno 2.9 and Bun 1.4;
 * one at a time 0.9 to 1.3 µs; a `MessageChannel` 0.8 to 2.3 µs. A batch of messages is not exact: Deno 2.9 drains the
 * microtasks behind the batch. Browsers have no `setImmediate`; there it is one message at a time.
 *
 * @module
 */

/** The part of the real runtime that is used here. */
interface HostTasks {
  readonly setImmediate?: (fn: () => void) => unknown;
  readonly MessageChannel?: new () => {
    readonly port1: { onmessage: (() => void) | null };
    readonly port2: { postMessage(message: null): void };
  };
}

/** The most macrotasks that are asked for at once. The runtime does its own work after each batch. */
const LARGEST_BATCH = 64;
/** The number of ticks of the microtask queue to wait for on a runtime without macrotasks. */
const TICKS = 128;

/** The function that runs next. */
let next: (() => void) | undefined;
/** The functions after it: those of other simulators that run at the same time. */
const later: (() => void)[] = [];
/** Macrotasks that were asked for and have not begun. */
let coming = 0;
let batch = 1;
/** The most macrotasks that are asked for at once; of messages one. */
let largest = 1;
/** Asks for a macrotask; undefined on a runtime without them. */
const post: (() => void) | undefined = /* @__PURE__ */ hostTask();

/**
 * Calls a function in a macrotask of its own, after the promise reactions that are queued now and all that follow from
 * them. On a runtime without macrotasks, after {@linkcode TICKS} ticks of the microtask queue.
 *
 * The runtime's functions were taken when this module was loaded: `sim.install()`, and others that replace them,
 * change nothing here.
 *
 * @param fn What to call; it does not throw
 */
export function inHostTask(fn: () => void): void {
  if (post === undefined) return void afterTicks(fn);
  if (next === undefined) next = fn;
  else later.push(fn);
  if (coming > later.length) return;
  coming += batch;
  for (let i = batch; i > 0; i--) post();
  // If a whole batch was used, the next is larger. What is left of a batch serves the next caller, or does nothing.
  batch = Math.min(batch * 2, largest);
}

function begin(): void {
  coming--;
  const fn = next;
  if (fn === undefined) {
    batch = 1;
    return;
  }
  next = later.length === 0 ? undefined : later.shift();
  fn();
}

function hostTask(): (() => void) | undefined {
  const { setImmediate, MessageChannel } = globalThis as unknown as HostTasks;
  if (setImmediate !== undefined) {
    largest = LARGEST_BATCH;
    return () => void setImmediate(begin);
  }
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
