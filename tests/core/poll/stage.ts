// Shared by the tests of select, pollers and completion ports: sockets on a simulator without a
// running loop.

import { assertEquals } from "@std/assert";
import { EVENT_BASE_COUNT_ACTIVE, EVENT_BASE_COUNT_ADDED, EVENT_BASE_COUNT_VIRTUAL } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { ListeningSocket } from "../../../core/api/listening_socket.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { type SimOptions, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { portOf, socketPair } from "../socket/pairs.ts";
import "../socket/checked.ts";

/** A simulator, a base whose loop nobody runs, and sockets. */
export class Stage {
  readonly sim: SimRuntime;
  readonly base: EventBase;
  /** The number of deferred functions: if it is 0, no waiter was woken. */
  deferred = 0;

  constructor(options: SimOptions = {}) {
    this.sim = simRuntime({ maxSteps: 500_000, ...options });
    const defer = this.sim.defer.bind(this.sim);
    this.sim.defer = (fn) => {
      this.deferred++;
      defer(fn);
    };
    this.base = new EventBase({ runtime: this.sim });
  }

  /** Two connected sockets: the end that connected, and the end that was accepted. */
  pair(): Promise<[client: Socket, server: Socket]> {
    return socketPair(this.sim);
  }

  listen(backlog?: number): Promise<ListeningSocket> {
    return this.base.listen({ hostname: "127.0.0.1", port: 0, ...(backlog === undefined ? {} : { backlog }) });
  }

  /** Begins to connect. */
  connect(listening: ListeningSocket): Socket {
    return this.base.connect({ port: portOf(listening) });
  }

  /** Begins to connect to where nobody listens. */
  refused(): Socket {
    return this.base.connect({ port: 9 });
  }

  /** Closes sockets and fails unless nothing at all is left. */
  async end(...sockets: { close(): unknown }[]): Promise<void> {
    for (const socket of sockets) await socket.close();
    // Long enough for a closed connection to stop waiting for its peer.
    await this.sim.advance(6_000);
    assertEquals(this.sim.openHandles, 0, "open handles");
    assertEquals(this.sim.pending, 0, "scheduled calls");
    const counts = EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_VIRTUAL | EVENT_BASE_COUNT_ADDED;
    assertEquals(this.base.maxEvents(counts), 0, "no loop was needed");
  }
}

/** A promise whose state can be read. */
export class Watched<T> {
  state: "pending" | "resolved" | "rejected" = "pending";
  value: T | undefined;
  reason: unknown;

  constructor(promise: Promise<T>) {
    promise.then((value) => {
      this.state = "resolved";
      this.value = value;
    }, (reason) => {
      this.state = "rejected";
      this.reason = reason;
    });
  }
}

/** Bytes of a text. */
export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The received bytes, as text; null for the end. */
export function received(socket: Socket, most = 65_536): string | null {
  const into = new Uint8Array(most);
  const n = socket.recv(into);
  if (n === 0) return null;
  return new TextDecoder().decode(into.subarray(0, Math.max(n, 0)));
}

/** Sends until nothing is taken any more. */
export function fill(socket: Socket): number {
  let total = 0;
  for (;;) {
    const n = socket.send(new Uint8Array(16_384));
    if (n < 0) return total;
    total += n;
  }
}

/** Receives all bytes that are there. */
export function drain(socket: Socket): number {
  const into = new Uint8Array(65_536);
  let total = 0;
  for (let n = socket.recv(into); n > 0; n = socket.recv(into)) total += n;
  return total;
}
