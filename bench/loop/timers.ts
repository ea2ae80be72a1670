/** Timers: ours, which need one timer of the runtime, and the runtime's own. */

import { cpuUsage } from "node:process";
import { EventBase, type EventHandle } from "../../mod.ts";

type HostTimer = ReturnType<typeof setTimeout>;

/** The CPU time of this process so far, in milliseconds: most of a timer's life is waiting. */
function cpuMs(): number {
  const { user, system } = cpuUsage();
  return (user + system) / 1000;
}

/** Pseudo-random whole numbers below `n`, the same each time. */
function random(): (n: number) => number {
  let state = 88_172_645;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

/** Nanoseconds of each of the three operations on a timeout. */
export interface Churn {
  add: number;
  restart: number;
  del: number;
}

const nothing = (): void => {};

/** Makes and adds `count` timers of up to a quarter of an hour, restarts the first of them, and deletes all. */
export function ourChurn(count: number, restarts: number): Churn {
  const base = new EventBase();
  const next = random();
  const events: EventHandle[] = [];
  const times = [performance.now()];
  for (let i = 0; i < count; i++) {
    const event = base.timer(nothing);
    event.add(60_000 + next(900_000));
    events.push(event);
  }
  times.push(performance.now());
  for (let i = 0; i < restarts; i++) (events[i] as EventHandle).add(60_000 + next(900_000));
  times.push(performance.now());
  for (const event of events) event.del();
  times.push(performance.now());
  base.free();
  return churn(times, count, restarts);
}

/** The same with the runtime's own timers. */
export function hostChurn(count: number, restarts: number): Churn {
  const next = random();
  const timers: HostTimer[] = [];
  const times = [performance.now()];
  for (let i = 0; i < count; i++) timers.push(setTimeout(nothing, 60_000 + next(900_000)));
  times.push(performance.now());
  for (let i = 0; i < restarts; i++) {
    clearTimeout(timers[i]);
    timers[i] = setTimeout(nothing, 60_000 + next(900_000));
  }
  times.push(performance.now());
  for (const timer of timers) clearTimeout(timer);
  times.push(performance.now());
  return churn(times, count, restarts);
}

function churn([a = 0, b = 0, c = 0, d = 0]: number[], count: number, restarts: number): Churn {
  const ns = 1e6;
  return { add: (b - a) * ns / count, restart: (c - b) * ns / restarts, del: (d - c) * ns / count };
}

/**
 * As libevent's `test-time`: `count` timers; each that fires restarts or deletes ten others, until ten times as many have
 * fired, and then all run out.
 *
 * @returns Milliseconds of the CPU, and the number of timers that fired
 */
export async function ourTestTime(count: number): Promise<{ ms: number; fired: number }> {
  const base = new EventBase();
  const next = random();
  let fired = 0;
  const events: EventHandle[] = [];
  const callback = (): void => {
    if (++fired >= 10 * count) return;
    for (let i = 0; i < 10; i++) {
      const event = events[next(count)] as EventHandle;
      const microseconds = next(50_000);
      if (microseconds % 2 === 0 || fired < count) event.add(microseconds / 1000);
      else event.del();
    }
  };
  const begun = cpuMs();
  for (let i = 0; i < count; i++) {
    const event = base.timer(callback);
    events.push(event);
    event.add(next(50_000) / 1000);
  }
  await base.dispatch();
  const ms = cpuMs() - begun;
  base.free();
  return { ms, fired };
}

/** The same with the runtime's own timers. */
export function hostTestTime(count: number): Promise<{ ms: number; fired: number }> {
  const next = random();
  let fired = 0;
  let pending = 0;
  const timers: (HostTimer | undefined)[] = new Array(count).fill(undefined);
  return new Promise((resolve) => {
    const begun = cpuMs();
    const del = (j: number): void => {
      if (timers[j] === undefined) return;
      clearTimeout(timers[j]);
      timers[j] = undefined;
      pending--;
    };
    const add = (j: number): void => {
      del(j);
      pending++;
      timers[j] = setTimeout(callback, next(50_000) / 1000, j);
    };
    const callback = (j: number): void => {
      timers[j] = undefined;
      pending--;
      if (++fired < 10 * count) {
        for (let i = 0; i < 10; i++) {
          const other = next(count);
          if (next(2) === 0 || fired < count) add(other);
          else del(other);
        }
      }
      if (pending === 0) resolve({ ms: cpuMs() - begun, fired });
    };
    for (let j = 0; j < count; j++) add(j);
  });
}
