// An adapter that breaks the contract of core/runtime.ts: the core throws at once if bytes would be
// lost or sent twice.

import { describe, it } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { Socket } from "../../../core/api/socket.ts";
import type { ConnectOptions, Runtime, TransportBinding, TransportSink } from "../../../core/runtime.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { chainOf, EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { consume, moveBytes } from "../../../core/buffer/internal.ts";
import { ActiveQueue } from "../../../core/loop/active_queue.ts";
import { TimerHeap } from "../../../core/loop/timer_heap.ts";
import { EventBase, loopOf } from "../../../core/api/event_base.ts";
import { Deferred } from "../../../core/loop/deferred.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { portOf } from "./pairs.ts";

/** An object whose methods can be replaced. */
function withMethods<T extends object>(object: T, methods: Partial<T>): T {
  return new Proxy(object, {
    get(target, key): unknown {
      const own = (methods as Record<PropertyKey, unknown>)[key];
      if (own !== undefined) return own;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}

/**
 * A connected socket whose adapter has the given `methods`, and the sink that the adapter calls.
 */
async function brokenSocket(methods: Partial<TransportBinding>): Promise<[Socket, TransportSink, SimRuntime]> {
  const sim = simRuntime();
  let sink: TransportSink | undefined;
  const runtime: Runtime = withMethods<Runtime>(sim, {
    connect(options: ConnectOptions, given: TransportSink) {
      sink = given;
      return withMethods(sim.connect(options, given), methods);
    },
  });
  const listening = await ListeningSocket.listen(sim, { port: 0 });
  const socket = Socket.connect(runtime, { port: portOf(listening) });
  await sim.advance(10);
  assertEquals(socket.connected, true);
  await listening.close();
  return [socket, sink as TransportSink, sim];
}

describe("an adapter whose write() gives a wrong count", () => {
  for (const count of [6, -1, 1.5, NaN, 2 ** 32, undefined as unknown as number]) {
    it(`gets an error: ${count} of 5 bytes`, async () => {
      const [socket] = await brokenSocket({ write: () => count });
      const message = `sim says that it has taken ${count} of 5 bytes`;
      assertThrows(() => socket.send("hello"), Error, message);
    });
  }

  it("gets an error for writev(), too", async () => {
    const [socket] = await brokenSocket({ write: () => 0, writev: () => 9001 });
    const buffer = new EvBuffer();
    buffer.addReference(new Uint8Array(4500));
    buffer.addReference(new Uint8Array(4500));
    assertThrows(() => socket.sendBuffer(buffer), Error, "sim says that it has taken 9001 of 9000 bytes");
    assertEquals(buffer.length, 9000);
  });

  it("gets no error if it accepts all, some or no bytes", async () => {
    for (const counts of [[5], [3, 0], [0]]) {
      const [socket] = await brokenSocket({ write: () => counts.shift() ?? 0 });
      assertEquals(socket.send("hello"), 5);
      assertEquals(counts, []);
    }
  });
});

describe("an adapter that goes on after onClose", () => {
  const calls: [keyof TransportSink, unknown[]][] = [
    ["onConnect", []],
    ["onData", [new Uint8Array(1)]],
    ["onEnd", []],
    ["onWritable", []],
    ["onSecure", []],
    ["onClose", []],
  ];
  for (const [name, args] of calls) {
    it(`with ${name} gets an error`, async () => {
      const [socket, sink] = await brokenSocket({});
      sink.onClose();
      const call = sink[name] as (...args: unknown[]) => void;
      assertThrows(() => call.apply(sink, args), Error, `sim has called ${name} after onClose`);
      socket.close();
      assertThrows(() => call.apply(sink, args), Error, `sim has called ${name} after onClose`);
    });
  }

  it("gets no error for one onClose after our own end", async () => {
    const [socket, sink] = await brokenSocket({ reset() {} });
    socket.reset();
    sink.onClose();
    assertThrows(() => sink.onClose(), Error, "sim has called onClose after onClose");
  });
});

describe("a list or a chain whose sums are wrong", () => {
  it("throws at its first use: fewer bytes than the length", () => {
    const buffer = new EvBuffer();
    buffer.add("hello");
    chainOf(buffer).length = 6;
    assertThrows(() => consume(buffer, 6), Error, "fewer bytes than its length");
  });

  it("throws at its first use: more bytes than the length", () => {
    const buffer = new EvBuffer();
    buffer.add("hello");
    chainOf(buffer).length = 4;
    assertThrows(() => consume(buffer, 4), Error, "more bytes than its length");
  });

  it("throws when bytes are moved", () => {
    const [from, to] = [new EvBuffer(), new EvBuffer()];
    from.add("hello");
    chainOf(from).length = 9;
    assertThrows(() => moveBytes(from, to, 7), Error, "fewer bytes than its length");
  });

  it("throws when an event leaves a queue that it is not in", () => {
    const base = new EventBase({ runtime: simRuntime() });
    const [event, other] = [0, 1].map(() => new Deferred(loopOf(base), () => {})) as [Deferred, Deferred];
    const queue = new ActiveQueue();
    queue.push(event);
    assertThrows(() => queue.remove(other), Error, "a queue that it is not in");
  });

  it("throws when a timer leaves a heap that it is not in", () => {
    const base = new EventBase({ runtime: simRuntime() });
    const event = new Deferred(loopOf(base), () => {});
    const [heap, other] = [new TimerHeap(), new TimerHeap()];
    heap.schedule(event, 1);
    other.schedule(new Deferred(loopOf(base), () => {}), 1);
    assertThrows(() => other.remove(event), Error, "a heap that it is not in");
  });
});
