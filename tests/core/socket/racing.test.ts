// A name with several addresses: which are tried and when, which is kept, and the error if none can
// be reached.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import type { EventError } from "../../../core/errors.ts";
import { EAGAIN } from "../../../core/flags.ts";
import type { ConnectOptions, InetAddress, ListenerBinding, Runtime, TransportSink } from "../../../core/runtime.ts";
import { interleaved } from "../../../core/socket/racing.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { BusyHost, nothingLeft, world } from "../loop/harness.ts";

const PORT = 80;

function address(hostname: string): InetAddress {
  return { hostname, port: 0, family: hostname.includes(":") ? "IPv6" : "IPv4" };
}

/** A host on which each name has the given addresses. It records which were tried, and when. */
class Client extends BusyHost {
  readonly tried: string[] = [];
  readonly #addresses: readonly string[];
  readonly #sim: SimRuntime;
  readonly #begin: number;

  constructor(sim: SimRuntime, addresses: readonly string[]) {
    super(sim);
    this.#sim = sim;
    this.#addresses = addresses;
    this.#begin = sim.now();
  }

  override resolve(): Promise<InetAddress[]> {
    return Promise.resolve(this.#addresses.map(address));
  }

  override connect(options: ConnectOptions, sink: TransportSink): ReturnType<Runtime["connect"]> {
    this.tried.push(`${options.hostname} at ${this.#sim.now() - this.#begin}`);
    return super.connect(options, sink);
  }
}

/** A host of the simulated network that accepts connections. */
function listens(sim: SimRuntime, hostname: string): Promise<ListeningSocket> {
  return ListeningSocket.listen(sim.host(hostname), { hostname, port: PORT });
}

/** A host that does not answer until the test continues it. */
async function silent(sim: SimRuntime, hostname: string): Promise<ListenerBinding> {
  const sink = {
    onAccept(binding: { close(): void }): TransportSink {
      binding.close();
      return { onConnect() {}, onSecure() {}, onData() {}, onEnd() {}, onWritable() {}, onClose() {} };
    },
    onError: () => {},
  };
  const listener = await sim.host(hostname).listen({ hostname, port: PORT, backlog: 1 }, sink);
  listener.pauseAccept();
  const fillers = [0, 1].map(() => Socket.connect(sim, { hostname, port: PORT }));
  await sim.advance(10);
  assert(fillers.every((socket) => socket.connected));
  const close = listener.close.bind(listener);
  return Object.assign(listener, {
    close(): Promise<void> {
      for (const socket of fillers) socket.reset();
      return close();
    },
  });
}

describe("interleaved()", () => {
  it("alternates between the families, IPv6 first, each in the given order", () => {
    const text = (...hostnames: string[]): string => interleaved(hostnames.map(address)).map((a) => a.hostname).join();
    assertEquals(text("1.1.1.1", "1.1.1.2", "::1", "::2", "::3", "::4"), "::1,1.1.1.1,::2,1.1.1.2,::3,::4");
    assertEquals(text("1.1.1.1", "1.1.1.2", "::1"), "::1,1.1.1.1,1.1.1.2");
    assertEquals([text("1.1.1.1"), text("::1"), text()], ["1.1.1.1", "::1", ""]);
  });
});

describe("connecting to a name with several addresses", () => {
  const remote = (socket: Socket): string => (socket.remoteAddress as InetAddress).hostname;

  it("keeps IPv6 if it answers in time, and tries no other address", async () => {
    const made = world();
    const { sim } = made;
    const servers = [await listens(sim, "10.1.0.1"), await listens(sim, "fd00::a1")];
    const host = new Client(sim, ["10.1.0.1", "fd00::a1"]);
    const socket = Socket.connect(host, { hostname: "both", port: PORT });
    await sim.advance(1000);
    assertEquals([socket.connected, host.tried, remote(socket)], [true, ["fd00::a1 at 0"], "fd00::a1"]);
    // It is a connection like any other.
    const accepted = servers[1]!.accept();
    assert(accepted !== EAGAIN);
    accepted.send("hello");
    await sim.advance(5);
    const into = new Uint8Array(10);
    assertEquals([socket.recv(into), socket.recv(into)], [5, EAGAIN]);
    socket.send("bye");
    socket.shutdown();
    accepted.shutdown();
    await sim.advance(5);
    assertEquals([accepted.recv(into), accepted.recv(into), socket.recv(into)], [3, 0, 0]);
    for (const each of [socket, accepted]) each.close();
    for (const server of servers) await server.close();
    await nothingLeft(made, sim.host("10.1.0.1"), sim.host("fd00::a1"));
  });

  it("tries the next after 250 ms without an answer, keeps the first connection and resets the other", async () => {
    const made = world();
    const { sim } = made;
    const slow = await silent(sim, "fd00::a1");
    const server = await listens(sim, "10.1.0.1");
    const begin = sim.now();
    const host = new Client(sim, ["10.1.0.1", "fd00::a1"]);
    const socket = Socket.connect(host, { hostname: "both", port: PORT });
    await sim.advance(251);
    assertEquals([socket.connected, host.openHandles > 0], [false, true]);
    await sim.advance(5);
    assertEquals([socket.connected, remote(socket)], [true, "10.1.0.1"]);
    assertEquals(host.tried, ["fd00::a1 at 0", "10.1.0.1 at 250"]);
    // The slow host answers at last, but the attempt no longer exists.
    slow.resumeAccept();
    await sim.advance(50);
    assertEquals([socket.connected, socket.error, remote(socket), sim.now() - begin], [true, null, "10.1.0.1", 306]);
    socket.close();
    const accepted = server.accept();
    assert(accepted !== EAGAIN);
    accepted.close();
    await slow.close();
    await server.close();
    await nothingLeft(made, sim.host("10.1.0.1"), sim.host("fd00::a1"));
  });

  it("keeps the first address if it answers while the second is tried", async () => {
    const made = world();
    const { sim } = made;
    const [first, second] = [await silent(sim, "fd00::a1"), await silent(sim, "10.1.0.1")];
    const host = new Client(sim, ["10.1.0.1", "fd00::a1"]);
    const socket = Socket.connect(host, { hostname: "both", port: PORT, attemptDelayMs: 10 });
    await sim.advance(20);
    assertEquals(host.tried, ["fd00::a1 at 0", "10.1.0.1 at 10"]);
    first.resumeAccept();
    await sim.advance(5);
    assertEquals([socket.connected, remote(socket)], [true, "fd00::a1"]);
    socket.close();
    await first.close();
    await second.close();
    await nothingLeft(made, sim.host("10.1.0.1"), sim.host("fd00::a1"));
  });

  it("tries the next at once when one fails, and restarts the delay", async () => {
    const made = world();
    const { sim } = made;
    const slow = await silent(sim, "10.1.0.1");
    const server = await listens(sim, "10.1.0.2");
    const host = new Client(sim, ["10.1.0.1", "10.1.0.2", "fd00::b1"]);
    // No host has fd00::b1: the attempt fails after 2 ms.
    const socket = Socket.connect(host, { hostname: "three", port: PORT });
    await sim.advance(300);
    assertEquals(host.tried, ["fd00::b1 at 0", "10.1.0.1 at 2", "10.1.0.2 at 252"]);
    assertEquals([socket.connected, remote(socket)], [true, "10.1.0.2"]);
    socket.close();
    await slow.close();
    await server.close();
    await nothingLeft(made, sim.host("10.1.0.1"), sim.host("10.1.0.2"));
  });

  it("if none can be reached gives the last error, and all errors in `errors`", async () => {
    const made = world();
    const { sim } = made;
    sim.host("fd00::a1");
    const host = new Client(sim, ["10.1.0.1", "10.1.0.2", "fd00::a1"]);
    const socket = Socket.connect(host, { hostname: "three", port: PORT });
    await sim.advance(20);
    const error = socket.error as EventError;
    assertEquals([error.code, error.syscall], ["EHOSTUNREACH", "connect"]);
    assertEquals(error.errors?.map(({ code }) => code), ["ECONNREFUSED", "EHOSTUNREACH", "EHOSTUNREACH"]);
    assertStrictEquals(error.cause, error.errors?.[2]);
    assert(error.message.startsWith("Cannot connect to three:80: none of its 3 addresses could be reached"));
    assert(error.message.includes("10.1.0.2"));
    socket.close();
    await nothingLeft(made, sim.host("fd00::a1"));
  });

  it("waits for a pending attempt when the last address has failed", async () => {
    const made = world();
    const { sim } = made;
    const slow = await silent(sim, "fd00::a1");
    const host = new Client(sim, ["10.1.0.1", "fd00::a1"]);
    const socket = Socket.connect(host, { hostname: "both", port: PORT });
    await sim.advance(5_000);
    assertEquals([socket.connected, socket.error, host.tried.length], [false, null, 2]);
    slow.resumeAccept();
    await sim.advance(5);
    assertEquals([socket.connected, remote(socket)], [true, "fd00::a1"]);
    socket.close();
    await slow.close();
    await nothingLeft(made, sim.host("fd00::a1"));
  });

  it("after its timeout gives ETIMEDOUT with the earlier errors, and cancels all attempts", async () => {
    const made = world();
    const { sim } = made;
    const slow = [await silent(sim, "fd00::a1"), await silent(sim, "fd00::a2")];
    const host = new Client(sim, ["10.1.0.1", "fd00::a1", "fd00::a2"]);
    const socket = Socket.connect(host, { hostname: "three", port: PORT, timeoutMs: 400, attemptDelayMs: 100 });
    await sim.advance(401);
    assertEquals(host.tried, ["fd00::a1 at 0", "10.1.0.1 at 100", "fd00::a2 at 102"]);
    assertEquals([socket.error?.code, socket.error?.errors?.map(({ code }) => code)], ["ETIMEDOUT", ["EHOSTUNREACH"]]);
    socket.close();
    for (const each of slow) await each.close();
    await nothingLeft(made, sim.host("fd00::a1"), sim.host("fd00::a2"));
  });

  it("can be cancelled at any moment: by a signal, close() and reset()", async () => {
    for (const how of ["abort", "close", "reset"]) {
      for (const afterMs of [0, 1, 250, 251, 600]) {
        const made = world();
        const { sim } = made;
        const slow = [await silent(sim, "fd00::a1"), await silent(sim, "10.1.0.1")];
        const host = new Client(sim, ["10.1.0.1", "fd00::a1"]);
        const controller = new AbortController();
        const socket = Socket.connect(host, { hostname: "both", port: PORT, signal: controller.signal });
        await sim.advance(afterMs);
        if (how === "abort") controller.abort("enough");
        else if (how === "close") socket.close();
        else socket.reset();
        await sim.advance(1000);
        assertEquals(host.tried.length, afterMs < 250 ? 1 : 2, `${how} after ${afterMs}`);
        if (how === "abort") assertEquals([socket.error?.code, socket.error?.cause], ["ECANCELED", "enough"]);
        socket.close();
        for (const each of slow) await each.close();
        await nothingLeft(made, sim.host("fd00::a1"), sim.host("10.1.0.1"));
      }
    }
  });

  it("from a local address tries only addresses of its family", async () => {
    const made = world();
    const { sim } = made;
    const server = await listens(sim, "10.1.0.1");
    const host = new Client(sim, ["10.1.0.1", "fd00::a1"]);
    const socket = Socket.connect(host, { hostname: "both", port: PORT, localAddress: "10.0.0.1" });
    await sim.advance(5);
    assertEquals([socket.connected, host.tried], [true, ["10.1.0.1 at 0"]]);
    socket.close();
    await server.close();
    await nothingLeft(made, sim.host("10.1.0.1"));
  });

  it("refuses a delay below what RFC 8305 allows", () => {
    const sim = simRuntime();
    for (const attemptDelayMs of [9, 0, -1, NaN, Infinity]) {
      assertThrows(() => Socket.connect(sim, { hostname: "both", port: PORT, attemptDelayMs }), RangeError);
    }
  });
});
