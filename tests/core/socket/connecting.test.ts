// Making a connection: by address, by name, with a timeout and a signal; and the reports of
// failures.

import { describe, it } from "node:test";
import { assert, assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EAGAIN, EV_PERSIST, EV_READ, EV_WRITE, EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { ConnectOptions, InetAddress, Runtime, TransportSink } from "../../../core/runtime.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import type { SimRuntime } from "../../../runtimes/sim.ts";
import { BusyHost, nothingLeft, world } from "../loop/harness.ts";
import { portOf } from "./pairs.ts";

/** Connects, and returns the result and its time. */
async function outcome(sim: SimRuntime, options: ConnectOptions, runtime: Runtime = sim): Promise<string> {
  const base = new EventBase({ runtime });
  const begin = sim.now();
  const socket = base.connect(options);
  let result = "";
  base.event(socket, EV_READ | EV_WRITE, (_, what) => {
    result = socket.error === null ? `connected ${what}` : `${socket.error.code} ${what}`;
    if (socket.error !== null) {
      for (const call of [() => socket.recv(new Uint8Array(1)), () => socket.send("x"), () => socket.send("")]) {
        assertStrictEquals(assertThrows(call, EventError), socket.error);
      }
    }
    assertEquals(socket.connected, socket.error === null);
    result += ` at ${sim.now() - begin}`;
    socket.close();
  }).add();
  await sim.run(base.dispatch());
  return result;
}

const FAILED = EV_READ | EV_WRITE;

describe("connect()", () => {
  it("makes the socket writable when it is connected", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    assertEquals(await outcome(made.sim, { hostname: "127.0.0.1", port: portOf(listening) }), "connected 4 at 2");
    assertEquals(await outcome(made.sim, { port: portOf(listening) }), "connected 4 at 2", "127.0.0.1 is meant");
    await listening.close();
    await nothingLeft(made);
  });

  it("that is refused makes it readable and writable, error is set, recv and send throw it", async () => {
    const made = world();
    assertEquals(await outcome(made.sim, { port: 9 }), `ECONNREFUSED ${FAILED} at 2`);
    await nothingLeft(made);
  });

  it("to an address that no host has fails with EHOSTUNREACH", async () => {
    const made = world();
    assertEquals(await outcome(made.sim, { hostname: "10.1.2.3", port: 9 }), `EHOSTUNREACH ${FAILED} at 2`);
    await nothingLeft(made);
  });

  it("to a path", async () => {
    const made = world();
    const listening = await made.base.listen({ path: "/run/app" });
    assertEquals(await outcome(made.sim, { path: "/run/app" }), "connected 4 at 2");
    assertEquals(await outcome(made.sim, { path: "/run/none" }), `ENOENT ${FAILED} at 2`);
    await listening.close();
    await nothingLeft(made);
  });

  it("names the address and the call in its error", async () => {
    const made = world();
    const aborted = made.base.connect({ port: 5, signal: AbortSignal.abort() });
    await made.sim.advance(5);
    const { message, syscall } = aborted.error as EventError;
    assertEquals([message, syscall], ["Cannot connect to 127.0.0.1:5: aborted", "connect"]);
    await nothingLeft(made);
  });

  it("refuses values that are not addresses", async () => {
    const made = world();
    const connect = (options: unknown) => (): unknown => made.base.connect(options as ConnectOptions);
    for (const port of [0, -1, 65_536, 1.5, NaN]) assertThrows(connect({ port }), RangeError);
    for (
      const options of [null, undefined, "a:1", {}, { port: "80" }, { hostname: "", port: 1 }, { hostname: 5, port: 1 }]
    ) {
      assertThrows(connect(options), TypeError);
    }
    for (const options of [{ path: "" }, { path: 5 }, { path: "/a", port: 1 }, { path: "/a", hostname: "b" }]) {
      assertThrows(connect(options), TypeError);
    }
    for (const timeoutMs of [-1, NaN, Infinity]) assertThrows(connect({ port: 1, timeoutMs }), RangeError);
    assertThrows(connect({ port: 1, family: "IPv5" }), RangeError);
    assertThrows(connect({ port: 1, localAddress: "here" }), RangeError);
    assertThrows(connect({ port: 1, signal: {} }), TypeError, "not an AbortSignal");
    await nothingLeft(made);
  });

  it("to a name with a NUL in it throws EINVAL, because a system would only read the part before it", async () => {
    const made = world();
    const cases: ConnectOptions[] = [
      { hostname: "127.0.0.1\0.example", port: 1 },
      { hostname: "server\0", port: 1 },
      { hostname: "::1\0", port: 1, family: "IPv6" },
      { path: "/run/a\0b" },
      { path: "\0abstract\0name" },
      { port: 1, localAddress: "127.0.0.1\0" },
      { port: 1, tls: { serverName: "localhost\0.example" } },
    ];
    for (const options of cases) {
      const error = assertThrows(() => made.base.connect(options), EventError) as EventError;
      assertEquals(error.code, "EINVAL");
      assertMatch(error.message, /^Cannot connect: .* has a NUL character in it: received ".*\\u0000/);
    }
    await nothingLeft(made);
  });

  it("to a numeric address of another family throws EINVAL with a message", async () => {
    const made = world();
    const messages = ([
      { hostname: "127.0.0.1", port: 1, family: "IPv6" },
      { hostname: "::1", port: 1, family: "IPv4" },
      { hostname: "127.0.0.1", port: 1, localAddress: "::1" },
      { hostname: "server", port: 1, family: "IPv4", localAddress: "::1" },
    ] as const).map((options) => {
      const error = assertThrows(() => made.base.connect(options), EventError) as EventError;
      assertEquals(error.code, "EINVAL");
      return error.message;
    });
    assertEquals(messages, [
      "Cannot connect: 127.0.0.1 is not an IPv6 address",
      "Cannot connect: ::1 is not an IPv4 address",
      "Cannot connect: localAddress is not an IPv4 address: received ::1",
      "Cannot connect: localAddress is not an IPv4 address: received ::1",
    ]);
    await nothingLeft(made);
  });

  it("without a hostname connects to the loopback address of the family", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "::1", port: 80 });
    assertEquals(await outcome(made.sim, { port: 80, family: "IPv6" }), "connected 4 at 2");
    assertEquals(await outcome(made.sim, { port: 80, localAddress: "::1" }), "connected 4 at 2");
    await listening.close();
    await nothingLeft(made);
  });

  it("with an option that the runtime does not support throws EV_UNSUPPORTED", () => {
    const { sim } = world();
    const host = new Proxy(sim, {
      get: (target, name): unknown =>
        name === "capabilities" ? { ...target.capabilities, tls: false } : Reflect.get(target, name),
    });
    const error = assertThrows(() => Socket.connect(host, { port: 1, tls: {} }), EventError) as EventError;
    assertEquals(error.code, "EV_UNSUPPORTED");
  });

  it("from a local address", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "0.0.0.0", port: 0 });
    const socket = made.base.connect({ port: portOf(listening), localAddress: "10.0.0.1" });
    await made.sim.advance(5);
    const accepted = listening.accept();
    assert(accepted !== EAGAIN);
    assertEquals((accepted.remoteAddress as InetAddress).hostname, "10.0.0.1");
    for (const each of [socket, accepted]) each.close();
    await listening.close();
    assertEquals(await outcome(made.sim, { port: 80, localAddress: "10.9.9.9" }), `EADDRNOTAVAIL ${FAILED} at 0`);
    await nothingLeft(made);
  });
});

describe("connect() by name", () => {
  it("resolves it first", async () => {
    const made = world();
    const server = made.sim.host("server");
    const listening = await ListeningSocket.listen(server, { hostname: "0.0.0.0", port: 80 });
    assertEquals(await outcome(made.sim, { hostname: "server", port: 80 }), "connected 4 at 3");
    await listening.close();
    await nothingLeft(made, server);
  });

  it("that is unknown fails with ENOTFOUND", async () => {
    const made = world();
    assertEquals(await outcome(made.sim, { hostname: "nowhere.example", port: 80 }), `ENOTFOUND ${FAILED} at 1`);
    await nothingLeft(made);
  });

  it("tries all its addresses, IPv6 first", async () => {
    const made = world();
    // localhost is 127.0.0.1 and ::1; the server listens on only one of them.
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 80 });
    assertEquals(await outcome(made.sim, { hostname: "localhost", port: 80 }), "connected 4 at 4");
    await listening.close();
    assertEquals(await outcome(made.sim, { hostname: "localhost", port: 80 }), `ECONNREFUSED ${FAILED} at 4`);
    await nothingLeft(made);
  });

  it("tries only addresses of the requested family", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "::1", port: 80 });
    assertEquals(await outcome(made.sim, { hostname: "localhost", port: 80, family: "IPv6" }), "connected 4 at 2");
    assertEquals(
      await outcome(made.sim, { hostname: "localhost", port: 80, family: "IPv4" }),
      `ECONNREFUSED ${FAILED} at 2`,
    );
    const server = made.sim.host("10.7.7.7");
    assertEquals(server.addresses, ["10.7.7.7"]);
    const onlyV4 = new NamedHost(made.sim, [{ hostname: "10.7.7.7", port: 0, family: "IPv4" }]);
    const result = await outcome(made.sim, { hostname: "any", port: 80, family: "IPv6" }, onlyV4);
    assertEquals(result, `ENOTFOUND ${FAILED} at 0`);
    await listening.close();
    await nothingLeft(made);
  });

  it("that resolves to nothing fails with ENOTFOUND", async () => {
    const made = world();
    const host = new NamedHost(made.sim, []);
    assertEquals(await outcome(made.sim, { hostname: "empty", port: 80 }, host), `ENOTFOUND ${FAILED} at 0`);
    await nothingLeft(made);
  });
});

/** A runtime on which every name has the same addresses. */
class NamedHost extends BusyHost {
  readonly #addresses: InetAddress[];
  /** The result of each attempt, which the sinks get later. */
  readonly sinks: TransportSink[] = [];

  constructor(sim: SimRuntime, addresses: InetAddress[]) {
    super(sim);
    this.#addresses = addresses;
  }

  override resolve(): Promise<InetAddress[]> {
    return Promise.resolve(this.#addresses.slice());
  }

  override connect(options: ConnectOptions, sink: TransportSink): ReturnType<Runtime["connect"]> {
    this.sinks.push(sink);
    const binding = super.connect(options, sink);
    binding.ref = (): void => void this.held.push(`ref ${options.hostname}`);
    binding.unref = (): void => void this.held.push(`unref ${options.hostname}`);
    return binding;
  }

  /** The calls that change whether the socket holds the process. */
  readonly held: string[] = [];
}

describe("unref() of a socket that connects by name", () => {
  const first: InetAddress = { hostname: "127.0.0.1", port: 0, family: "IPv4" };
  const second: InetAddress = { hostname: "10.0.0.9", port: 0, family: "IPv4" };

  it("applies to the attempt at its only address", async () => {
    const made = world();
    const listening = await made.base.listen({ port: 0 });
    const host = new NamedHost(made.sim, [first]);
    const socket = Socket.connect(host, { hostname: "name", port: portOf(listening) });
    socket.unref();
    await made.sim.advance(5);
    assertEquals([socket.connected, host.held], [true, ["unref 127.0.0.1"]]);
    socket.ref();
    assertEquals(host.held, ["unref 127.0.0.1", "ref 127.0.0.1"]);
    socket.close();
    await listening.close();
    await nothingLeft(made);
  });

  it("applies to each of several addresses, present and later attempts", async () => {
    const made = world();
    const silent = await silentListener(made.sim);
    const host = new NamedHost(made.sim, [first, first, second]);
    const socket = Socket.connect(host, { hostname: "name", port: silent.port });
    await made.sim.advance(1);
    socket.unref();
    await made.sim.advance(300);
    assertEquals(host.held, ["unref 127.0.0.1", "unref 127.0.0.1"]);
    socket.ref();
    await made.sim.advance(300);
    assertEquals(host.held.slice(2), ["ref 127.0.0.1", "ref 127.0.0.1"]);
    socket.reset();
    await silent.close();
    await nothingLeft(made);
  });
});

/** A listener that does not answer: its backlog of one is full, and it does not accept. */
async function silentListener(sim: SimRuntime): Promise<{ port: number; close(): Promise<void> }> {
  const listener = await sim.listen({ hostname: "127.0.0.1", port: 0, backlog: 1 }, {
    onAccept: () => {
      throw new Error("it is paused");
    },
    onError: () => {},
  });
  listener.pauseAccept();
  const { port } = listener.address as InetAddress;
  const fillers = [0, 1].map(() => Socket.connect(sim, { port }));
  await sim.advance(5);
  return {
    port,
    async close(): Promise<void> {
      for (const socket of fillers) socket.reset();
      await listener.close();
    },
  };
}

describe("timeoutMs", () => {
  it("ends an unanswered attempt with ETIMEDOUT, once", async () => {
    const made = world();
    const silent = await silentListener(made.sim);
    assertEquals(await outcome(made.sim, { port: silent.port, timeoutMs: 50 }), `ETIMEDOUT ${FAILED} at 50`);
    await silent.close();
    await nothingLeft(made);
  });

  it("counts for all addresses and the lookup together", async () => {
    const made = world();
    const host = new NamedHost(
      made.sim,
      Array.from({ length: 50 }, () => ({ hostname: "127.0.0.1", port: 0, family: "IPv4" as const })),
    );
    // Each refusal takes 2 ms.
    assertEquals(
      await outcome(made.sim, { hostname: "many", port: 9, timeoutMs: 21 }, host),
      `ETIMEDOUT ${FAILED} at 21`,
    );
    assertEquals(host.sinks.length, 11);
    assertEquals(
      await outcome(made.sim, { hostname: "nobody", port: 9, timeoutMs: 0.5 }),
      `ETIMEDOUT ${FAILED} at 0.5`,
    );
    await nothingLeft(made);
  });

  it("is not cut short by a runtime whose timers fire early", async () => {
    const made = world();
    const silent = await silentListener(made.sim);
    const host = new BusyHost(made.sim);
    const setTimer = host.setTimer.bind(host);
    host.setTimer = (deadline, fn) => setTimer(Math.max(host.now(), deadline - 3), fn);
    const result = await outcome(made.sim, { port: silent.port, timeoutMs: 50 }, host);
    const [code, , , at] = result.split(" ");
    assertEquals(code, "ETIMEDOUT");
    assert(Number(at) >= 50, result);
    await silent.close();
    await nothingLeft(made);
  });

  it("that is not reached is forgotten", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    const socket = Socket.connect(made.sim, { port: portOf(listening), timeoutMs: 50 });
    await made.sim.advance(10);
    assertEquals([socket.connected, made.sim.pending], [true, 0]);
    await made.sim.advance(100);
    assertEquals(socket.error, null);
    socket.close();
    await listening.close();
    await nothingLeft(made);
  });
});

describe("an AbortSignal", () => {
  it("ends the attempt with ECANCELED and the reason as the cause, at any moment", async () => {
    for (const hostname of ["127.0.0.1", "server"]) {
      for (const afterMs of [0, 0.5, 1, 1.5]) {
        const made = world();
        const host = hostname === "server" ? made.sim.host("server") : made.sim;
        const listening = await ListeningSocket.listen(host, { hostname: "0.0.0.0", port: 0 });
        const controller = new AbortController();
        const socket = Socket.connect(made.sim, { hostname, port: portOf(listening), signal: controller.signal });
        await made.sim.advance(afterMs);
        const reason = new Error("changed my mind");
        controller.abort(reason);
        await made.sim.advance(20);
        assertEquals([socket.error?.code, socket.connected], ["ECANCELED", false], `${hostname} ${afterMs}`);
        assertStrictEquals(socket.error?.cause, reason);
        socket.close();
        await listening.close();
        await nothingLeft(made, host);
      }
    }
  });

  it("that was aborted before also ends it, but not inside the call", async () => {
    const made = world();
    const socket = Socket.connect(made.sim, { port: 80, signal: AbortSignal.abort("before") });
    assertEquals(socket.error, null);
    await made.sim.advance(0);
    assertEquals([socket.error?.code, socket.error?.cause], ["ECANCELED", "before"]);
    socket.close();
    await nothingLeft(made);
  });

  it("runs no callback inside abort()", async () => {
    const made = world();
    const { sim, base } = made;
    const controller = new AbortController();
    const socket = base.connect({ port: 9, signal: controller.signal });
    let inside = false;
    const told: boolean[] = [];
    base.event(socket, EV_WRITE | EV_PERSIST, () => {
      told.push(inside);
      socket.close();
    }).add();
    const done = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    await sim.advance(1);
    inside = true;
    controller.abort();
    inside = false;
    assertEquals(told, []);
    await sim.advance(0);
    assertEquals(told, [false]);
    base.loopBreak();
    await sim.run(done);
    await nothingLeft(made);
  });

  it("is forgotten once the connection is there", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    const controller = new AbortController();
    const socket = Socket.connect(made.sim, { port: portOf(listening), signal: controller.signal });
    await made.sim.advance(10);
    controller.abort();
    await made.sim.advance(10);
    assertEquals([socket.connected, socket.error], [true, null]);
    socket.close();
    await listening.close();
    await nothingLeft(made);
  });
});
