/** Waiting in the style of `select()`: it takes sets of sockets and returns the ready ones. */

import { wrongType } from "../checks.ts";
import { EV_READ, EV_WRITE } from "../flags.ts";
import { EventError } from "../errors.ts";
import { type Names, readOptions } from "../names.ts";
import type { ReadinessObserver, Source } from "../loop/source.ts";
import { defaultRuntime } from "../runtime.ts";
import { checkPollable, type Pollable, sourceOf } from "./pollable.ts";
import { Connection } from "../socket/connection.ts";
import { checkWait, type WaitOptions, WaitQueue } from "../poll/wait.ts";

/** The sockets for `select()`. POSIX: the three `fd_set`s of `select`. */
export interface SelectSets {
  /** Sockets to read or accept from. */
  read?: Iterable<Pollable> | undefined;
  /** Sockets to write to, or that are connecting. */
  write?: Iterable<Pollable> | undefined;
  /** Sockets whose connection may fail. */
  except?: Iterable<Pollable> | undefined;
}

const SELECT_SETS: Names<SelectSets> = { read: true, write: true, except: true };

/** The result of `select()`: the ready sockets of each set, each once, in the order of the set. */
export interface SelectResult {
  /** Sockets to read or accept from, also those that have ended or failed. */
  read: Pollable[];
  /** Sockets to write to, also those that have failed. */
  write: Pollable[];
  /** Sockets whose connection has failed. */
  except: Pollable[];
}

/**
 * Waits until a socket of the sets is ready. It needs no event base. Its cost grows with the number of sockets;
 * `Poller` avoids that.
 *
 * It does not change the sets; the ready sockets are in the result.
 *
 * POSIX: `select`.
 *
 * @param sets The sockets
 * @param timeoutMs How long to wait, in milliseconds; 0 does not wait, undefined waits for ever
 * @param options `signal`: aborting it rejects with its reason
 * @returns The ready sockets; none when the time is over, or when a socket was closed meanwhile and no other is ready
 * @throws {EventError} `EBADF` when a socket was closed before; `EV_UNSUPPORTED` when the sets are empty, so that the
 * runtime is not known
 * @throws {RangeError} When the timeout is negative or not finite
 *
 * @example
 * ```ts
 * import { EventBase, select } from "trivent";
 * const listening = await new EventBase().listen({ hostname: "127.0.0.1", port: 0 });
 * const { read } = await select({ read: [listening] }, 10);
 * console.log(read.length); // 0: nobody has connected
 * await listening.close();
 * ```
 */
export async function select(sets: SelectSets, timeoutMs?: number, options: WaitOptions = {}): Promise<SelectResult> {
  const { signal } = checkWait("select", timeoutMs, options);
  const given = readOptions("select", sets, SELECT_SETS);
  const read = setOf("read", given.read);
  const write = setOf("write", given.write);
  const except = setOf("except", given.except);
  const sources = new Set<Source>();
  for (const set of [read, write, except]) {
    for (const pollable of set) {
      checkPollable("select", pollable);
      const source = sourceOf(pollable);
      if (source.closed) throw new EventError("Cannot select: a socket of the sets was closed", { code: "EBADF" });
      sources.add(source);
    }
  }
  const [first] = sources;
  const queue = new WaitQueue(first?.runtime ?? defaultRuntime());
  let closed = false;
  const observer: ReadinessObserver = {
    onReady: () => queue.wake(),
    onSourceClosed: () => {
      closed = true;
      queue.wake();
    },
  };
  const collect = (): SelectResult | undefined => {
    const result = {
      read: [...read].filter((pollable) => (sourceOf(pollable).readiness & EV_READ) !== 0),
      write: [...write].filter((pollable) => (sourceOf(pollable).readiness & EV_WRITE) !== 0),
      except: [...except].filter((pollable) => hasFailed(sourceOf(pollable))),
    };
    return closed || result.read.length + result.write.length + result.except.length > 0 ? result : undefined;
  };
  for (const source of sources) source.observe(observer);
  try {
    return await queue.wait(collect, () => ({ read: [], write: [], except: [] }), timeoutMs, signal);
  } finally {
    for (const source of sources) source.unobserve(observer);
  }
}

function setOf(name: string, set: Iterable<Pollable> = []): Set<Pollable> {
  try {
    return new Set(set);
  } catch (cause) {
    throw wrongType("select", `${name} is not a list of sockets`, set, { cause });
  }
}

function hasFailed(source: Source): boolean {
  return source instanceof Connection && source.error !== null && !source.closed;
}
