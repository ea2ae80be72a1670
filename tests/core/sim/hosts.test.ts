// Simulated hosts: ports and addresses, backlog, unix paths, names, datagrams, signals and files.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import type { DatagramBinding, DatagramSink, InetAddress } from "../../../core/runtime.ts";
import { type SimHost, simRuntime } from "../../../runtimes/sim.ts";
import { connect, counting, type Door, listen } from "./ends.ts";

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => promise, EventError) as EventError).code;
}

describe("host()", () => {
  it("takes a name", () => {
    const sim = simRuntime();
    for (const name of [undefined, 5, null] as unknown[] as string[]) assertThrows(() => sim.host(name), TypeError);
    assertThrows(() => sim.host(""), RangeError);
  });
});

describe("listen()", () => {
  it("needs no time, and chooses ports from 49152 up, never the same one twice in a row", async () => {
    const sim = simRuntime();
    const { listener, port } = await listen(sim);
    assertEquals(listener.address, { hostname: "0.0.0.0", port: 49_152, family: "IPv4" });
    await listener.close();
    await listener.close();
    assertEquals([port, (await listen(sim)).port, sim.now()], [49_152, 49_153, 0]);
  });

  it("chooses each of the 16,384 ports once, and then fails with EADDRINUSE", async () => {
    const sim = simRuntime();
    const ports = new Set<number>();
    for (let i = 0; i < 16_384; i++) ports.add((await listen(sim)).port);
    assertEquals([ports.size, Math.min(...ports), Math.max(...ports)], [16_384, 49_152, 65_535]);
    assertEquals(await codeOf(listen(sim)), "EADDRINUSE");
  });

  it("fails with EADDRINUSE if another listener conflicts", async () => {
    const cases: [string, boolean, string, boolean, boolean][] = [
      ["0.0.0.0", false, "0.0.0.0", false, true],
      ["0.0.0.0", false, "127.0.0.1", false, true],
      ["127.0.0.1", false, "0.0.0.0", false, true],
      ["127.0.0.1", false, "127.0.0.2", false, false],
      ["127.0.0.1", false, "10.0.0.1", false, false],
      ["::", false, "0.0.0.0", false, true],
      ["::", true, "0.0.0.0", false, false],
      ["0.0.0.0", false, "::", false, true],
      ["0.0.0.0", false, "::", true, false],
      ["::", true, "::1", false, true],
      ["::1", false, "127.0.0.1", false, false],
      ["::1", false, "0:0:0::0001", false, true],
    ];
    for (const [first, firstOnly, second, secondOnly, clash] of cases) {
      const sim = simRuntime();
      await listen(sim, { hostname: first, port: 80, ipv6Only: firstOnly });
      const again = listen(sim, { hostname: second, port: 80, ipv6Only: secondOnly });
      if (clash) assertEquals(await codeOf(again), "EADDRINUSE", `${first} ${second}`);
      else await again;
      assertEquals(sim.openHandles, clash ? 1 : 2);
    }
  });

  it("fails with EADDRNOTAVAIL on an address of another host, with EINVAL on a value that is not an address", async () => {
    const sim = simRuntime();
    sim.host("b");
    assertEquals(await codeOf(listen(sim, { hostname: "10.0.0.2" })), "EADDRNOTAVAIL");
    assertEquals(await codeOf(listen(sim, { hostname: "192.0.2.1" })), "EADDRNOTAVAIL");
    assertEquals(await codeOf(listen(sim, { hostname: "b" })), "EINVAL");
    assertEquals(await codeOf(listen(sim, { hostname: "127.0.0.1", family: "IPv6" })), "EINVAL");
    assertEquals(sim.openHandles, 0);
  });

  it("releases the port with close(), and keeps the connections", async () => {
    const sim = simRuntime();
    const { door, listener, port } = await listen(sim);
    const client = connect(sim, { port });
    await sim.advance(5);
    await listener.close();
    await listen(sim, { port });
    client.binding.write(counting(3));
    await sim.advance(5);
    assertEquals(door.first.events, ["data 3"]);
  });

  it("with reusePort gives the connections of each port to its listeners in turn", async () => {
    const sim = simRuntime();
    const doors: Door[] = [];
    for (const port of [80, 80, 81, 81]) doors.push((await listen(sim, { port, reusePort: true })).door);
    assertEquals(await codeOf(listen(sim, { port: 80 })), "EADDRINUSE");
    for (let i = 0; i < 6; i++) for (const port of [80, 81]) connect(sim, { port });
    await sim.advance(5);
    assertEquals(doors.map((door) => door.ends.length), [3, 3, 3, 3]);
  });

  it("on a given address has precedence over one on every address", async () => {
    const sim = simRuntime();
    const every = await listen(sim, { hostname: "::", port: 80, reusePort: true });
    const one = await listen(sim, { hostname: "127.0.0.1", port: 80, reusePort: true });
    connect(sim, { port: 80 });
    connect(sim, { hostname: "127.0.0.2", port: 80 });
    connect(sim, { hostname: "::1", port: 80 });
    await sim.advance(5);
    assertEquals([one.door.ends.length, every.door.ends.length], [1, 2]);
  });
});

describe("addresses", () => {
  it("0.0.0.0 and :: reach the host itself, in every spelling", async () => {
    const sim = simRuntime();
    const { door } = await listen(sim, { hostname: "::", port: 80 });
    const spellings = ["0.0.0.0", "::", "::1", "0:0:0:0:0:0:0:1", "::0.0.0.1", "::ffff:127.0.0.1", "::FFFF:7F00:1"];
    const clients = spellings.map((hostname) => connect(sim, { hostname, port: 80 }));
    await sim.advance(5);
    assertEquals(clients.map((client) => client.events.join()), spellings.map(() => "connect"));
    assertEquals(
      door.ends.map((end) => (end.binding.local as InetAddress).hostname),
      ["::ffff:127.0.0.1", "::1", "::1", "::1", "::1", "::ffff:127.0.0.1", "::ffff:127.0.0.1"],
    );
  });

  it("that are not addresses fail with EINVAL", async () => {
    const sim = simRuntime();
    for (const hostname of ["", "1.2.3", "1.2.3.256", "01.2.3.4", ":::", "1::2::3", "1:2:3:4:5:6:7", "::g", "name"]) {
      const client = connect(sim, { hostname, port: 80 });
      await sim.advance(5);
      assertEquals(client.closed, "EINVAL", hostname);
    }
  });

  it("of the other family fail with EINVAL", async () => {
    const sim = simRuntime();
    const client = connect(sim, { hostname: "::1", port: 80, family: "IPv4" });
    await sim.advance(5);
    assertEquals(client.closed, "EINVAL");
  });

  it("of ipv6Only listeners do not include IPv4", async () => {
    const sim = simRuntime();
    await listen(sim, { hostname: "::", port: 80, ipv6Only: true });
    const [v4, v6] = [connect(sim, { port: 80 }), connect(sim, { hostname: "::1", port: 80 })];
    await sim.advance(5);
    assertEquals([v4.closed, v6.closed], ["ECONNREFUSED", undefined]);
  });

  it("are written according to RFC 5952", async () => {
    const sim = simRuntime();
    const spellings = {
      "2001:0DB8:0:0:1:0:0:1": "2001:db8::1:0:0:1",
      "2001:db8:0:1:1:1:1:1": "2001:db8:0:1:1:1:1:1",
      "::": "::",
      "0:0:1::": "0:0:1::",
      "fe80::1.2.3.4": "fe80::102:304",
    };
    for (const [written, read] of Object.entries(spellings)) {
      assertEquals(await sim.resolve(written), [{ hostname: read, port: 0, family: "IPv6" }]);
    }
  });
});

describe("a paused listener", () => {
  it("queues one more connection than the backlog; the others stay attempts until there is space", async () => {
    const sim = simRuntime();
    const { door, listener } = await listen(sim, { port: 80, backlog: 3 });
    listener.pauseAccept();
    const clients = Array.from({ length: 6 }, () => connect(sim, { port: 80 }));
    for (const client of clients) client.on.onConnect = () => void client.binding.write(counting(2));
    await sim.advance(1000);
    assertEquals(clients.map((client) => client.events.length), [1, 1, 1, 1, 0, 0]);
    assertEquals([door.ends.length, sim.openHandles], [0, 7]);
    listener.resumeAccept();
    await sim.advance(0);
    assertEquals(door.ends.length, 4);
    await sim.advance(10);
    assertEquals(clients.map((client) => client.events.join()), clients.map(() => "connect"));
    assertEquals(door.ends.map((end) => end.events.join()), clients.map(() => "data 2"));
    assertEquals(
      door.ends.map((end) => end.binding.remote),
      clients.map((client) => client.binding.local),
    );
  });

  it("can be paused from inside onAccept()", async () => {
    const sim = simRuntime();
    const { door, listener } = await listen(sim, { port: 80 });
    door.accept = () => listener.pauseAccept();
    for (let i = 0; i < 3; i++) connect(sim, { port: 80 });
    await sim.advance(10);
    assertEquals(door.ends.length, 1);
    listener.resumeAccept();
    listener.resumeAccept();
    await sim.advance(10);
    assertEquals(door.ends.length, 2);
  });

  it("accepts a connection that was reset while it waited: first its data, then the error", async () => {
    const sim = simRuntime();
    const { door, listener } = await listen(sim, { port: 80 });
    listener.pauseAccept();
    const client = connect(sim, { port: 80 });
    client.on.onConnect = () => void client.binding.write(counting(2));
    await sim.advance(10);
    client.binding.reset();
    await sim.advance(10);
    listener.resumeAccept();
    await sim.advance(10);
    assertEquals(door.first.events, ["data 2", "close ECONNRESET"]);
  });

  it("drops a client that has reset before it sent anything, or whose TLS handshake has failed meanwhile", async () => {
    for (const tls of [undefined, { cert: "server signed by a CA", key: "a key" }]) {
      const sim = simRuntime();
      const { door, listener } = await listen(sim, { port: 80, backlog: 1, ...(tls === undefined ? {} : { tls }) });
      listener.pauseAccept();
      const clients = Array.from({ length: 2 }, () => connect(sim, { port: 80 }));
      await sim.advance(10);
      for (const client of clients) client.binding.reset();
      await sim.advance(10);
      // They also use no place in the backlog.
      const late = connect(sim, { port: 80 });
      await sim.advance(10);
      assertEquals(late.events, ["connect"]);
      listener.resumeAccept();
      await sim.advance(10);
      assertEquals([door.ends.length, sim.openHandles], [1, 3]);
      assertEquals(door.first.binding.remote, late.binding.local);
      late.binding.reset();
      await sim.advance(10);
      await listener.close();
      assertEquals([sim.openHandles, sim.pending], [0, 0]);
    }
  });

  it("that is closed resets waiting connections and refuses attempts", async () => {
    const sim = simRuntime();
    const { door, listener } = await listen(sim, { port: 80, backlog: 0 });
    listener.pauseAccept();
    const clients = [connect(sim, { port: 80 }), connect(sim, { port: 80 })];
    await sim.advance(10);
    await listener.close();
    await sim.advance(10);
    assertEquals(clients.map((client) => client.closed), ["ECONNRESET", "ECONNREFUSED"]);
    assertEquals([door.ends.length, sim.openHandles, sim.pending], [0, 0, 0]);
  });

  it("that is closed during the handshake resets it", async () => {
    const sim = simRuntime();
    const { door, listener } = await listen(sim, { port: 80 });
    const client = connect(sim, { port: 80 });
    await sim.advance(2);
    await listener.close();
    await sim.advance(10);
    assertEquals([client.events, door.ends.length], [["connect", "close ECONNRESET"], 0]);
  });
});

describe("unix paths", () => {
  it("carry a connection, with the addresses of a real host", async () => {
    const sim = simRuntime();
    const { door, listener } = await listen(sim, { path: "/run/a.sock" });
    assertEquals(listener.address, { path: "/run/a.sock" });
    const client = connect(sim, { path: "/run/a.sock" });
    client.on.onConnect = () => void client.binding.write(counting(4));
    await sim.advance(10);
    assertEquals(door.first.events, ["data 4"]);
    assertEquals(
      [client.binding.local, client.binding.remote, door.first.binding.remote],
      [{ path: "" }, { path: "/run/a.sock" }, { path: "" }],
    );
  });

  it("without a listener fail with ENOENT, abstract names with ECONNREFUSED, used ones with EADDRINUSE", async () => {
    const sim = simRuntime();
    const { listener } = await listen(sim, { path: "/a" });
    await listen(sim, { path: "\0a" });
    assertEquals(await codeOf(listen(sim, { path: "/a" })), "EADDRINUSE");
    assertEquals(await codeOf(listen(sim, { path: "\0a" })), "EADDRINUSE");
    await listener.close();
    const clients = ["/a", "\0a", "\0b"].map((path) => connect(sim, { path }));
    await sim.advance(5);
    assertEquals(clients.map((client) => client.closed), ["ENOENT", undefined, "ECONNREFUSED"]);
  });

  it("need a directory, and have a limited length", async () => {
    const sim = simRuntime();
    sim.files.set("/data/file", new Uint8Array(1));
    const codes: Record<string, string> = {
      "/missing/socket": "ENOENT",
      "missing/socket": "ENOENT",
      "/data/file/socket": "ENOTDIR",
      "/data/file": "EADDRINUSE",
      [`/tmp/${"x".repeat(103)}`]: "EINVAL",
      [`/tmp/${"é".repeat(60)}`]: "EINVAL",
      [`/tmp/${"x".repeat(300)}`]: "EINVAL",
    };
    for (const [path, code] of Object.entries(codes)) {
      assertEquals(await codeOf(listen(sim, { path })), code, path);
      const client = connect(sim, { path });
      await sim.advance(5);
      assertEquals(client.closed, code === "EADDRINUSE" ? "ECONNREFUSED" : code, path);
    }
    assertEquals(sim.openHandles, 0);
    sim.directories.add("/missing");
    const paths = ["/missing/socket", "/data/socket", "socket", "//tmp//socket", `/tmp/${"x".repeat(102)}`];
    for (const path of [...paths, `\0${"x".repeat(106)}`]) await listen(sim, { path });
    // Another host has its own directories.
    assertEquals(await codeOf(listen(sim.host("b"), { path: "/missing/socket" })), "ENOENT");
  });

  it("that were removed can be bound again: the first listener does not remove the second one's file", async () => {
    const sim = simRuntime();
    const { door, listener } = await listen(sim, { path: "/run/a.sock" });
    sim.unlink("/run/a.sock");
    const nobody = connect(sim, { path: "/run/a.sock" });
    await sim.advance(5);
    assertEquals(nobody.closed, "ENOENT");
    const second = await listen(sim, { path: "/run/a.sock" });
    await listener.close();
    const client = connect(sim, { path: "/run/a.sock" });
    await sim.advance(5);
    assertEquals([client.events, door.ends.length, second.door.ends.length], [["connect"], 0, 1]);
  });

  it("belong to their host", async () => {
    const sim = simRuntime();
    await listen(sim, { path: "/a" });
    const client = connect(sim.host("b"), { path: "/a" });
    await sim.advance(5);
    assertEquals(client.closed, "ENOENT");
  });
});

describe("sim.host()", () => {
  it("gives hosts with their own addresses, the same one for the same name", () => {
    const sim = simRuntime();
    assertEquals(sim.addresses[0], "10.0.0.1");
    assertEquals([sim.host("a").addresses[0], sim.host("b").addresses[0]], ["10.0.0.2", "10.0.0.3"]);
    assert(sim.host("A") === sim.host("a"));
    assertEquals(sim.host("10.0.0.7").addresses, ["10.0.0.7"]);
    for (let i = 0; i < 300; i++) sim.host(`host${i}`);
    const all = Array.from({ length: 300 }, (_, i) => sim.host(`host${i}`).addresses[0]);
    assertEquals(new Set([...all, "10.0.0.7", "10.0.0.2", "10.0.0.3"]).size, 303);
    for (const name of ["127.0.0.1", "::1", "localhost"]) assert(sim.host(name) === sim);
  });

  it("gives hosts with their own ports, connections and open handles, on one clock", async () => {
    const sim = simRuntime();
    const [a, b] = [sim.host("a"), sim.host("b")];
    const doors = [await listen(a, { port: 80 }), await listen(b, { port: 80 })];
    const client = connect(a, { hostname: "10.0.0.3", port: 80 });
    await sim.advance(5);
    assertEquals(doors.map(({ door }) => door.ends.length), [0, 1]);
    assertEquals(client.binding.local, { hostname: "10.0.0.2", port: 32_768, family: "IPv4" });
    assertEquals([sim.openHandles, a.openHandles, b.openHandles], [0, 2, 2]);
    assertEquals([a.now(), b.now()], [5, 5]);
  });

  it("reaches the main host at 127.0.0.1, unless the host listens there itself", async () => {
    const sim = simRuntime();
    const b = sim.host("b");
    const main = await listen(sim, { hostname: "127.0.0.1", port: 80 });
    const client = connect(b, { port: 80 });
    await sim.advance(5);
    assertEquals([client.closed, main.door.first.binding.remote], [undefined, client.binding.local]);
    assertEquals((client.binding.local as InetAddress).hostname, "10.0.0.2");
    const own = await listen(b, { hostname: "127.0.0.1", port: 80 });
    connect(b, { port: 80 });
    await sim.advance(5);
    assertEquals([main.door.ends.length, own.door.ends.length], [1, 1]);
  });

  it("reaches a listener on the loopback from its own host only", async () => {
    const sim = simRuntime();
    await listen(sim.host("a"), { hostname: "127.0.0.1", port: 80 });
    const client = connect(sim, { hostname: "10.0.0.2", port: 80 });
    await sim.advance(5);
    assertEquals(client.closed, "ECONNREFUSED");
  });
});

describe("resolve()", () => {
  it("knows localhost and numeric addresses at once, and hosts after a latency", async () => {
    const sim = simRuntime();
    sim.host("Db.Example");
    assertEquals(await sim.resolve("localhost"), [
      { hostname: "127.0.0.1", port: 0, family: "IPv4" },
      { hostname: "::1", port: 0, family: "IPv6" },
    ]);
    assertEquals(await sim.resolve("10.1.2.3"), [{ hostname: "10.1.2.3", port: 0, family: "IPv4" }]);
    assertEquals(sim.now(), 0);
    const found = await sim.run(sim.host("c").resolve("db.example"));
    assertEquals([found, sim.now()], [[{ hostname: "10.0.0.2", port: 0, family: "IPv4" }], 1]);
    const unknown = await assertRejects(() => sim.run(sim.resolve("nobody")), EventError);
    assertEquals([unknown.code, unknown.syscall], ["ENOTFOUND", "getaddrinfo"]);
  });

  it("rejects with ECANCELED and the reason when it is aborted, and leaves nothing behind", async () => {
    const sim = simRuntime();
    const controller = new AbortController();
    const looking = sim.resolve("nobody", controller.signal);
    controller.abort("enough");
    const error = await assertRejects(() => looking, EventError) as EventError;
    assertEquals([error.code, error.cause, sim.pending], ["ECANCELED", "enough", 0]);
    assertEquals(await codeOf(sim.resolve("nobody", controller.signal)), "ECANCELED");
  });
});

describe("datagrams", () => {
  class Box implements DatagramSink {
    readonly got: [bytes: string, from: string][] = [];
    readonly errors: string[] = [];
    writables = 0;

    onMessage(data: Uint8Array, from: InetAddress): void {
      this.got.push([data.join(), `${from.hostname} ${from.port}`]);
    }

    onWritable(): void {
      this.writables++;
    }

    onError(error: EventError): void {
      this.errors.push(error.code);
    }
  }

  async function open(host: SimHost, options = {}): Promise<{ box: Box; socket: DatagramBinding }> {
    const box = new Box();
    assert(host.datagram !== undefined);
    return { box, socket: await host.datagram(options, box) };
  }

  it("arrive after a latency with their sender, whole and in the receiver's own memory", async () => {
    const sim = simRuntime();
    const server = await open(sim, { port: 53 });
    const client = await open(sim.host("b"));
    const bytes = counting(3);
    assert(client.socket.send(bytes, { hostname: "10.0.0.1", port: 53, family: "IPv4" }));
    assert(client.socket.send(new Uint8Array(0), { hostname: "127.0.0.1", port: 53, family: "IPv4" }));
    bytes.fill(9);
    await sim.advance(1);
    assertEquals(server.box.got, [["0,1,2", "10.0.0.2 49152"], ["", "10.0.0.2 49152"]]);
    assertEquals([client.socket.address.port, sim.openHandles], [49_152, 1]);
    client.socket.close();
    client.socket.close();
    assertEquals(sim.host("b").openHandles, 0);
  });

  it("without a receiver are lost silently; to and from a closed socket, too", async () => {
    const sim = simRuntime();
    const [a, b] = [await open(sim), await open(sim)];
    a.socket.send(counting(1), { hostname: "127.0.0.1", port: 9, family: "IPv4" });
    a.socket.send(counting(1), { hostname: "10.9.9.9", port: 9, family: "IPv4" });
    a.socket.send(counting(1), b.socket.address);
    b.socket.close();
    b.socket.send(counting(1), a.socket.address);
    await sim.advance(10);
    assertEquals([a.box.got, b.box.got, a.box.errors], [[], [], []]);
  });

  it("to IPv4 from a specific IPv6 address fail with ENETUNREACH, as on a system; from :: they arrive", async () => {
    const sim = simRuntime();
    const server = await open(sim, { hostname: "127.0.0.1" });
    for (const [hostname, errors] of [["::1", ["ENETUNREACH"]], ["::", []]] as const) {
      const client = await open(sim, { hostname });
      client.socket.send(counting(1), server.socket.address);
      await sim.advance(5);
      assertEquals([client.box.errors, server.box.got.length], [[...errors], errors.length === 0 ? 1 : 0]);
    }
  });

  it("have separate ports from connections", async () => {
    const sim = simRuntime();
    await listen(sim, { port: 53 });
    await open(sim, { port: 53 });
    assertEquals(await codeOf(open(sim, { port: 53 })), "EADDRINUSE");
    assertEquals(await codeOf(open(sim, { hostname: "192.0.2.1" })), "EADDRNOTAVAIL");
  });

  it("that are too long or have an address of another family report an error, not inside send()", async () => {
    const sim = simRuntime();
    const { box, socket } = await open(sim);
    socket.send(new Uint8Array(65_508), socket.address);
    socket.send(counting(1), { hostname: "::1", port: 9, family: "IPv6" });
    assertEquals(box.errors, []);
    await sim.advance(1);
    assertEquals([box.errors, box.got], [["EMSGSIZE", "EINVAL"], []]);
  });

  it("are bounded on their way: send() returns false, and onWritable() follows once", async () => {
    const sim = simRuntime();
    const { box, socket } = await open(sim);
    const to = { hostname: "127.0.0.1", port: socket.address.port, family: "IPv4" } as const;
    let sent = 0;
    while (socket.send(new Uint8Array(50_000), to)) sent++;
    assert(!socket.send(new Uint8Array(50_000), to));
    assertEquals(sent, 4);
    await sim.advance(1);
    assertEquals([box.writables, box.got.length], [1, 4]);
    assert(socket.send(counting(1), to));
  });

  it("reach a socket on :: over both families", async () => {
    const sim = simRuntime();
    const server = await open(sim, { hostname: "::", port: 53 });
    server.socket.send(counting(1), { hostname: "127.0.0.1", port: 53, family: "IPv4" });
    server.socket.send(counting(1), { hostname: "::1", port: 53, family: "IPv6" });
    await sim.advance(1);
    assertEquals(server.box.got, [["0", "127.0.0.1 53"], ["0", "::1 53"]]);
  });
});

describe("signals", () => {
  it("call each handler of the host, in order, not inside raise()", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    const stop = sim.onSignal("SIGTERM", () => log.push("first"));
    sim.onSignal("SIGTERM", () => log.push("second"));
    sim.host("b").onSignal("SIGTERM", () => log.push("other host"));
    sim.raise("SIGTERM");
    sim.raise("SIGHUP");
    assertEquals(log, []);
    await sim.advance(0);
    assertEquals(log, ["first", "second"]);
    stop();
    stop();
    sim.raise("SIGTERM");
    await sim.advance(0);
    assertEquals(log, ["first", "second", "second"]);
  });

  it("do not call a handler that was removed after they were raised", async () => {
    const sim = simRuntime();
    let calls = 0;
    const stop = sim.onSignal("SIGINT", () => calls++);
    sim.raise("SIGINT");
    stop();
    await sim.advance(0);
    assertEquals(calls, 0);
  });

  it("that cannot be caught, or do not exist, throw EV_UNSUPPORTED", () => {
    const sim = simRuntime();
    for (const name of ["SIGKILL", "SIGSTOP", "SIGNAL", "term", ""]) {
      assertEquals((assertThrows(() => sim.onSignal(name, () => {}), EventError) as EventError).code, "EV_UNSUPPORTED");
      assertEquals((assertThrows(() => sim.raise(name), EventError) as EventError).code, "EV_UNSUPPORTED");
    }
  });
});

describe("readFile()", () => {
  it("gives a copy of the requested part, as far as the file reaches", async () => {
    const sim = simRuntime();
    sim.files.set("/etc/motd", counting(10));
    assertEquals(await sim.readFile?.("/etc/motd", 0, undefined), counting(10));
    assertEquals(await sim.readFile?.("/etc/motd", 7, 2), counting(2, 7));
    assertEquals(await sim.readFile?.("/etc/motd", 7, 20), counting(3, 7));
    assertEquals(await sim.readFile?.("/etc/motd", 20, 5), new Uint8Array(0));
    (await sim.readFile?.("/etc/motd", 0, 5))?.fill(9);
    assertEquals(sim.files.get("/etc/motd"), counting(10));
  });

  it("fails with ENOENT without a file, also on another host", async () => {
    const sim = simRuntime();
    sim.files.set("/a", counting(1));
    assertEquals(await codeOf(Promise.resolve(sim.readFile?.("/b", 0, 1))), "ENOENT");
    assertEquals(await codeOf(Promise.resolve(sim.host("b").readFile?.("/a", 0, 1))), "ENOENT");
  });
});
