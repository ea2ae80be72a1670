// Listening sockets, and valid addresses.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EAGAIN } from "../../../core/flags.ts";
import type { AcceptSink, Capabilities, ListenerBinding, ListenOptions, Runtime } from "../../../core/runtime.ts";
import { ConnListener } from "../../../core/api/listener.ts";
import { familyOf, formatAddress } from "../../../core/socket/address.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { BusyHost, nothingLeft, world } from "../loop/harness.ts";
import { portOf, receiveAll, text } from "./pairs.ts";

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => promise, EventError) as EventError).code;
}

/** A runtime that cannot leave connections to the system, and whose listener fails on request. */
class SimpleHost extends BusyHost {
  sink: AcceptSink | undefined;
  readonly #capabilities: Partial<Capabilities>;

  constructor(sim: SimRuntime, capabilities: Partial<Capabilities>) {
    super(sim);
    this.#capabilities = capabilities;
  }

  override get capabilities(): Runtime["capabilities"] {
    return { ...super.capabilities, ...this.#capabilities };
  }

  override async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    this.sink = sink;
    const binding = await super.listen(options, sink);
    if (!this.capabilities.pauseAccept) binding.pauseAccept = (): void => {};
    return binding;
  }
}

describe("listen()", () => {
  it("gives a socket that knows its address with the chosen port, after the close too", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    const { address } = listening;
    assert("port" in address && address.port > 0);
    assertEquals(address, { hostname: "127.0.0.1", port: address.port, family: "IPv4" });
    await listening.close();
    assertEquals(listening.address, address);
    const onPath = await made.base.listen({ path: "/run/app" });
    assertEquals(onPath.address, { path: "/run/app" });
    await onPath[Symbol.asyncDispose]();
    await nothingLeft(made);
  });

  it("rejects with EADDRINUSE and EADDRNOTAVAIL, and leaves nothing open", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 80 });
    assertEquals(await codeOf(made.base.listen({ hostname: "127.0.0.1", port: 80 })), "EADDRINUSE");
    assertEquals(await codeOf(made.base.listen({ hostname: "10.9.9.9", port: 80 })), "EADDRNOTAVAIL");
    assertEquals(made.sim.openHandles, 1);
    await listening.close();
    await nothingLeft(made);
  });

  it("by name listens on its address", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "localhost", port: 0 });
    assertEquals((listening.address as { hostname: string }).hostname, "127.0.0.1");
    const six = await made.base.listen({ hostname: "localhost", port: 0, family: "IPv6" });
    assertEquals((six.address as { hostname: string }).hostname, "::1");
    await listening.close();
    await six.close();
    assertEquals(await codeOf(made.sim.run(made.base.listen({ hostname: "nowhere.example", port: 1 }))), "ENOTFOUND");
    await nothingLeft(made);
  });

  it("rejects values that are not addresses or options", async () => {
    const { base } = world();
    const listen = (options: unknown) => (): Promise<unknown> => base.listen(options as ListenOptions);
    for (const port of [-1, 65_536, 1.5]) await assertRejects(listen({ port }), RangeError);
    for (const backlog of [0, -1, 1.5, NaN]) await assertRejects(listen({ port: 0, backlog }), RangeError);
    for (const options of [null, {}, { port: "1" }, { path: "" }, { path: "/a", port: 1 }]) {
      await assertRejects(listen(options), TypeError);
    }
    for (const options of [{ port: 0 }, { path: "/a" }, { hostname: "127.0.0.1", port: 0 }]) {
      await assertRejects(listen({ ...options, ipv6Only: true }), RangeError);
    }
  });

  it("rejects with EINVAL for a NUL inside a name, and for an address of another family", async () => {
    const made = world();
    for (
      const options of [
        { hostname: "127.0.0.1\0.example", port: 0 },
        { hostname: "server\0", port: 0 },
        { path: "/run/a\0b" },
        { path: "\0abstract\0name" },
        { hostname: "127.0.0.1", port: 0, family: "IPv6" },
      ] as const
    ) {
      assertEquals(await codeOf(made.base.listen(options)), "EINVAL");
      assertEquals(await codeOf(ConnListener.bind(made.base, null, 0, -1, options)), "EINVAL");
    }
    await assertRejects(() => made.base.listen({ port: 0, family: "IPv5" } as unknown as ListenOptions), RangeError);
    const abstract = await made.base.listen({ path: "\0name" });
    await abstract.close();
    await nothingLeft(made);
  });

  it("rejects with EV_UNSUPPORTED for options that the runtime does not support", async () => {
    const sim = simRuntime();
    const host = new SimpleHost(sim, { reusePort: false, ipv6Only: false, unix: false, tls: false });
    for (
      const options of [
        { port: 0, reusePort: true },
        { hostname: "::", port: 0, ipv6Only: true },
        { path: "/run/app" },
        { port: 0, tls: { cert: "", key: "" } },
      ]
    ) assertEquals(await codeOf(ListeningSocket.listen(host, options)), "EV_UNSUPPORTED");
    assertEquals(sim.openHandles, 0);
  });
});

describe("accept()", () => {
  it("gives the connections in order, then EAGAIN; needs no loop", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    assertEquals(listening.accept(), EAGAIN);
    const clients = ["a", "b", "c"].map((name) => {
      const socket = Socket.connect(made.sim, { port: portOf(listening) });
      return { name, socket };
    });
    await made.sim.advance(5);
    for (const { name, socket } of clients) socket.send(name);
    const accepted: Socket[] = [];
    for (let socket = listening.accept(); socket !== EAGAIN; socket = listening.accept()) accepted.push(socket);
    await made.sim.advance(5);
    assertEquals(accepted.map((socket) => text(receiveAll(socket).bytes)), ["a", "b", "c"]);
    for (const socket of [...accepted, ...clients.map(({ socket }) => socket)]) socket.close();
    await listening.close();
    await nothingLeft(made);
  });

  it("gives a connection with the bytes that it sent while it waited, and its end", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    const client = Socket.connect(made.sim, { port: portOf(listening) });
    await made.sim.advance(2);
    client.send("early");
    client.shutdown();
    await made.sim.advance(100);
    const socket = listening.accept();
    assert(socket !== EAGAIN);
    await made.sim.advance(5);
    const { bytes, ended } = receiveAll(socket);
    assertEquals([text(bytes), ended], ["early", true]);
    socket.close();
    client.close();
    await listening.close();
    await nothingLeft(made);
  });

  it("gives a connection that failed while it waited, with its error", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    const client = Socket.connect(made.sim, { port: portOf(listening) });
    await made.sim.advance(5);
    client.reset();
    await made.sim.advance(5);
    const socket = listening.accept();
    assert(socket !== EAGAIN);
    assertEquals(socket.error?.code, "ECONNRESET");
    socket.close();
    await listening.close();
    await nothingLeft(made);
  });

  it("after close() throws EBADF", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    await listening.close();
    assertEquals((assertThrows(() => listening.accept(), EventError) as EventError).code, "EBADF");
    await nothingLeft(made);
  });

  it("throws the error of accepting, once, after the connections that wait", async () => {
    const made = world();
    const host = new SimpleHost(made.sim, {});
    const listening = await ListeningSocket.listen(host, { hostname: "127.0.0.1", port: 0 });
    const client = Socket.connect(made.sim, { port: portOf(listening) });
    await made.sim.advance(5);
    const error = new EventError("Cannot accept: too many open files", { code: "EMFILE" });
    host.sink?.onError(error);
    const socket = listening.accept();
    assert(socket !== EAGAIN);
    assertStrictEquals(assertThrows(() => listening.accept(), EventError), error);
    assertEquals(listening.accept(), EAGAIN);
    socket.close();
    client.close();
    await listening.close();
    await nothingLeft(made);
  });
});

describe("connections that are not accepted", () => {
  it("wait in the system beyond the backlog, and none is lost", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0, backlog: 2 });
    const clients: Socket[] = [];
    for (let i = 0; i < 20; i++) {
      clients.push(Socket.connect(made.sim, { port: portOf(listening) }));
      await made.sim.advance(5);
    }
    let connected = clients.filter((client) => client.connected).length;
    assert(connected >= 2 && connected < 20, `${connected} connected`);
    let accepted = 0;
    for (let ms = 0; ms < 200; ms++) {
      const socket = listening.accept();
      if (socket !== EAGAIN) {
        accepted++;
        socket.close();
      }
      await made.sim.advance(1);
    }
    connected = clients.filter((client) => client.connected).length;
    assertEquals([accepted, connected], [20, 20]);
    for (const client of clients) client.close();
    await listening.close();
    await nothingLeft(made);
  });

  it("are closed beyond the backlog if the runtime cannot leave them to the system", async () => {
    const made = world();
    const host = new SimpleHost(made.sim, { pauseAccept: false });
    const listening = await ListeningSocket.listen(host, { hostname: "127.0.0.1", port: 0, backlog: 2 });
    const clients = Array.from({ length: 5 }, () => Socket.connect(made.sim, { port: portOf(listening) }));
    await made.sim.advance(50);
    assertEquals(clients.filter((client) => receiveAll(client).ended).length, 3);
    let accepted = 0;
    for (let socket = listening.accept(); socket !== EAGAIN; socket = listening.accept()) {
      accepted++;
      socket.close();
    }
    assertEquals(accepted, 2);
    for (const client of clients) client.close();
    await listening.close();
    await nothingLeft(made);
  });

  it("are not read: their bytes wait at the peer", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    const client = Socket.connect(made.sim, { port: portOf(listening) });
    let sent = 0;
    for (let ms = 0; ms < 100; ms++) {
      const n = client.send(new Uint8Array(50_000));
      if (n > 0) sent += n;
      await made.sim.advance(1);
    }
    assert(sent <= 4 * 65_536, `${sent}`);
    const socket = listening.accept();
    assert(socket !== EAGAIN);
    let received = 0;
    for (let ms = 0; ms < 100; ms++) {
      received += receiveAll(socket).bytes.length;
      await made.sim.advance(1);
    }
    assertEquals(received, sent);
    socket.close();
    client.close();
    await listening.close();
    await nothingLeft(made);
  });

  it("are closed with the listening socket; accepted ones stay", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    const [first, second] = [0, 1].map(() => Socket.connect(made.sim, { port: portOf(listening) })) as [Socket, Socket];
    await made.sim.advance(5);
    const taken = listening.accept();
    assert(taken !== EAGAIN);
    const closing = listening.close();
    assertEquals(await listening.close(), await closing);
    await made.sim.advance(10);
    assertEquals([receiveAll(first).ended, receiveAll(second).ended], [false, true]);
    taken.send("x");
    await made.sim.advance(5);
    assertEquals(text(receiveAll(first).bytes), "x");
    for (const socket of [first, second, taken]) socket.close();
    await nothingLeft(made);
  });

  it("arriving after the close are refused", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    await listening.close();
    const socket = Socket.connect(made.sim, { port: portOf(listening) });
    await made.sim.advance(5);
    assertEquals(socket.error?.code, "ECONNREFUSED");
    listening.ref();
    listening.unref();
    socket.close();
    await nothingLeft(made);
  });
});

describe("familyOf()", () => {
  it("distinguishes numeric addresses of both families from other texts", () => {
    for (const text of ["0.0.0.0", "127.0.0.1", "255.255.255.255", "1.2.3.4"]) {
      assertEquals(familyOf(text), "IPv4", text);
    }
    for (
      const text of ["::", "::1", "1::", "fe80::1%eth0", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1::8", "a:B:c:D:e:F:0:1"]
        .concat(["1:2:3:4:5:6:1.2.3.4", "::1.2.3.4", "1:2:3:4:5:6:7::"])
    ) assertEquals(familyOf(text), "IPv6", text);
    for (
      const text of ["", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ", "-1.2.3.4", ":", ":::"]
        .concat(["1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1::", "12345::", "g::", "fe80::1%", "1.2.3.4::", "::1.2.3"])
        .concat(["1:2:3:4:5:6:7:1.2.3.4", "example.com", "[::1]", "1:2:3:4:5:6:7:8::"])
    ) assertEquals(familyOf(text), undefined, text);
  });
});

describe("formatAddress()", () => {
  it("gives the usual spelling", () => {
    assertEquals(formatAddress({ hostname: "127.0.0.1", port: 80, family: "IPv4" }), "127.0.0.1:80");
    assertEquals(formatAddress({ hostname: "::1", port: 80, family: "IPv6" }), "[::1]:80");
    assertEquals(formatAddress({ path: "/run/app" }), "unix:/run/app");
    assertEquals(formatAddress({ path: "\0app" }), "unix:@app");
    assertEquals(formatAddress({ port: 80 }), ":80");
  });
});
