// DatagramSocket on the simulator and on a fake runtime: the bounded queue, errors, space to send.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EAGAIN, EV_PERSIST, EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { Poller } from "../../../core/api/poller.ts";
import { select } from "../../../core/api/select.ts";
import type { DatagramBinding, DatagramSink, InetAddress, Runtime } from "../../../core/runtime.ts";
import { DatagramSocket } from "../../../core/api/datagram_socket.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { pattern, text } from "./pairs.ts";

const HERE = { hostname: "127.0.0.1" };
const PEER: InetAddress = { hostname: "127.0.0.1", port: 9, family: "IPv4" };

/** The simulator with one fake datagram socket. */
function madeUp(): {
  runtime: Runtime;
  binding: DatagramBinding & { calls: string[]; room: boolean };
  sink(): DatagramSink;
} {
  const sim = simRuntime();
  const calls: string[] = [];
  let sink: DatagramSink | undefined;
  const binding = {
    address: { hostname: "127.0.0.1", port: 5000, family: "IPv4" as const },
    calls,
    room: true,
    send(data: Uint8Array): boolean {
      calls.push(`send ${data.length}`);
      return this.room;
    },
    close: () => void calls.push("close"),
    ref: () => void calls.push("ref"),
    unref: () => void calls.push("unref"),
  };
  const runtime = Object.create(sim) as Runtime;
  runtime.datagram = (_options, given) => {
    sink = given;
    return Promise.resolve(binding);
  };
  for (const name of ["now", "setTimer", "clearTimer", "defer"] as const) {
    Object.defineProperty(runtime, name, { value: sim[name].bind(sim) });
  }
  return {
    runtime,
    binding,
    sink: () => {
      assert(sink !== undefined);
      return sink;
    },
  };
}

describe("DatagramSocket.recvFrom()", () => {
  it("gives datagrams in the order of their arrival, one latency later", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const [a, b] = [await base.datagram(HERE), await base.datagram(HERE)];
    a.sendTo("one", b.address);
    a.sendTo("two", b.address);
    assertEquals(b.recvFrom(), EAGAIN);
    await sim.advance(1);
    for (const word of ["one", "two"]) {
      const datagram = b.recvFrom();
      assert(datagram !== EAGAIN);
      assertEquals([text(datagram.data), datagram.address], [word, a.address]);
    }
    assertEquals(b.recvFrom(), EAGAIN);
    a.close();
    b.close();
    assertEquals(sim.openHandles, 0);
  });

  it("has a queue of 208 KiB, with 64 bytes more for each datagram, and counts lost datagrams", async () => {
    for (const size of [0, 1, 1000, 65_507]) {
      const sim = simRuntime();
      const base = new EventBase({ runtime: sim });
      const [a, b] = [await base.datagram(HERE), await base.datagram(HERE)];
      const fits = Math.floor(208 * 1024 / (size + 64));
      for (let i = 0; i < fits + 5; i++) {
        while (a.sendTo(pattern(size, i), b.address) === EAGAIN) await sim.advance(1);
      }
      await sim.advance(1);
      assertEquals(b.dropped, 5);
      // The first ones are kept, as on a system.
      for (let i = 0; i < fits; i++) {
        const datagram = b.recvFrom();
        assert(datagram !== EAGAIN);
        assertEquals([datagram.data.length, datagram.data[0]], [size, pattern(size, i)[0]]);
      }
      assertEquals(b.recvFrom(), EAGAIN);
      a.sendTo("again", b.address);
      await sim.advance(1);
      assert(b.recvFrom() !== EAGAIN);
      assertEquals(b.dropped, 5);
    }
  });

  it("throws a failure once, before datagrams that have arrived, and the socket goes on", async () => {
    const { runtime, sink } = madeUp();
    const socket = await DatagramSocket.open(runtime, HERE);
    const poller = new Poller(new EventBase({ runtime }));
    poller.add(socket, EV_READ);
    const error = new EventError("Cannot send", { code: "EHOSTUNREACH" });
    sink().onMessage(new Uint8Array(1), PEER);
    sink().onError(error);
    assertStrictEquals(assertThrows(() => socket.recvFrom(), EventError), error);
    const datagram = socket.recvFrom();
    assert(datagram !== EAGAIN);
    assertEquals([datagram.data.length, socket.recvFrom()], [1, EAGAIN]);
    const sim = Object.getPrototypeOf(runtime);
    assertEquals(await sim.run(poller.wait(0)), []);
    // A failure alone also makes the socket readable.
    sink().onError(error);
    assertEquals((await sim.run(poller.wait())).length, 1);
    assertStrictEquals(assertThrows(() => socket.recvFrom(), EventError), error);
    assertEquals(await sim.run(poller.wait(0)), []);
  });

  it("does not get datagrams that the network loses", async () => {
    const sim = simRuntime({ seed: 3, faults: { datagramLost: 0.5 } });
    const base = new EventBase({ runtime: sim });
    const [a, b] = [await base.datagram(HERE), await base.datagram(HERE)];
    for (let i = 0; i < 100; i++) a.sendTo("x", b.address);
    await sim.advance(1);
    let arrived = 0;
    while (b.recvFrom() !== EAGAIN) arrived++;
    assert(arrived > 20 && arrived < 80, `${arrived}`);
    assertEquals(b.dropped, 0);
  });
});

describe("DatagramSocket.sendTo()", () => {
  it("gives EAGAIN if there is no space, and the write event follows when there is space", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const [a, b] = [await base.datagram(HERE), await base.datagram(HERE)];
    let sent = 0;
    while (a.sendTo(new Uint8Array(60_000), b.address) !== EAGAIN) sent++;
    assertEquals(sent, 3);
    // A smaller datagram does not overtake: there is no space until the runtime reports it.
    assertEquals(a.sendTo("x", b.address), EAGAIN);
    assertEquals((await sim.run(select({ write: [a] }, 0.5))).write.length, 0);
    const told: number[] = [];
    base.event(a, EV_WRITE, (_source, what) => told.push(what)).add();
    await sim.run(base.dispatch());
    assertEquals(told, [EV_WRITE]);
    assertEquals(a.sendTo(new Uint8Array(60_000), b.address), 60_000);
  });

  it("calls the runtime only if there may be space", async () => {
    const { runtime, binding, sink } = madeUp();
    const socket = await DatagramSocket.open(runtime, HERE);
    const sim = Object.getPrototypeOf(runtime);
    binding.room = false;
    for (let i = 0; i < 3; i++) assertEquals(socket.sendTo("abc", PEER), EAGAIN);
    assertEquals(binding.calls, ["send 3"]);
    const wait = select({ write: [socket] });
    binding.room = true;
    sink().onWritable();
    assert((await sim.run(wait)).write[0] === socket);
    assertEquals(socket.sendTo("abc", PEER), 3);
    assertEquals(binding.calls, ["send 3", "send 3"]);
  });

  it("copies the bytes, of a Buffer too", async () => {
    /** Like Node's Buffer, whose `slice()` is a view. */
    class Viewing extends Uint8Array {
      override slice(start?: number, end?: number): Uint8Array<ArrayBuffer> {
        return this.subarray(start, end) as Uint8Array<ArrayBuffer>;
      }
    }
    const { runtime, binding } = madeUp();
    let given: Uint8Array | undefined;
    binding.send = (data) => {
      given = data;
      return true;
    };
    const socket = await DatagramSocket.open(runtime, HERE);
    const data = Viewing.of(1, 2, 3);
    socket.sendTo(data, PEER);
    data.fill(0);
    assertEquals([...given as Uint8Array], [1, 2, 3]);
    assertEquals(Object.getPrototypeOf(given), Uint8Array.prototype);
  });

  it("refuses an address without a hostname", async () => {
    const { runtime } = madeUp();
    const socket = await DatagramSocket.open(runtime, HERE);
    for (const to of [{ port: 5 }, { path: "/a" }]) {
      assertThrows(() => socket.sendTo("x", to as typeof PEER), TypeError, "the hostname is not a string");
    }
  });
});

describe("DatagramSocket", () => {
  it("is refused on a runtime without datagrams, with the runtime's reason if it gives one", async () => {
    const { runtime } = madeUp();
    Object.defineProperty(runtime, "datagram", { value: undefined });
    assertEquals((await assertRejects(() => DatagramSocket.open(runtime), EventError)).code, "EV_UNSUPPORTED");
    const words = new EventError("it takes a flag", { code: "EV_UNSUPPORTED" });
    Object.defineProperty(runtime, "datagram", { value: () => Promise.reject(words) });
    assertStrictEquals(await assertRejects(() => DatagramSocket.open(runtime), EventError), words);
  });

  it("gets no callback after close(), and closes the runtime's socket once", async () => {
    const { runtime, binding, sink } = madeUp();
    const socket = await DatagramSocket.open(runtime, HERE);
    const base = new EventBase({ runtime });
    let calls = 0;
    const event = base.event(socket, EV_READ | EV_WRITE | EV_PERSIST, () => calls++);
    event.add();
    socket.ref();
    socket.unref();
    socket.close();
    socket[Symbol.dispose]();
    sink().onMessage(new Uint8Array(1), PEER);
    sink().onError(new EventError("late", { code: "EIO" }));
    sink().onWritable();
    assertEquals(binding.calls, ["ref", "unref", "close"]);
    assertEquals(await Object.getPrototypeOf(runtime).run(base.dispatch()), "empty");
    assertEquals([calls, socket.dropped, socket.address.port], [0, 0, 5000]);
  });

  it("receives datagrams that arrived while it was being opened", async () => {
    const { runtime, sink } = madeUp();
    const opening = DatagramSocket.open(runtime, HERE);
    sink().onMessage(Uint8Array.of(7), PEER);
    const datagram = (await opening).recvFrom();
    assert(datagram !== EAGAIN);
    assertEquals(datagram, { data: Uint8Array.of(7), address: PEER });
  });
});
