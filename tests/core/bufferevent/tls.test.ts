// TLS on bufferevents, with the simulator's stand-in: the time of CONNECTED, the results of a
// handshake, and startTls() on an existing connection.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import { BEV_OPT_CLOSE_ON_FREE, EAGAIN, EV_READ, EV_WRITE, EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { connect, serve } from "../../../core/serve/serve.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { ConnListener } from "../../../core/api/listener.ts";
import type { ConnectOptions, Runtime } from "../../../core/runtime.ts";
import { Socket } from "../../../core/api/socket.ts";
import type { StartTlsOptions, TlsConnectOptions, TlsListenOptions } from "../../../core/tls.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { nothingLeft } from "../loop/harness.ts";
import { Recorder } from "./rig.ts";

const TLS: TlsListenOptions = { cert: "server.example signed by a CA", key: "a key" };
const TRUST: TlsConnectOptions = { ca: "a CA", serverName: "server.example" };

/** A base on a simulator with a listener, and a record of callbacks. */
class World {
  readonly sim: SimRuntime = simRuntime();
  readonly base: EventBase = new EventBase({ runtime: this.sim });
  readonly bevs: SocketBufferEvent[] = [];
  readonly records: Recorder[] = [];
  listener: ConnListener | undefined;

  async listen(tls?: TlsListenOptions): Promise<{ hostname: string; port: number }> {
    const take = (_: unknown, socket: Socket): void => void this.#add(new SocketBufferEvent(this.base, socket, 1));
    this.listener = await ConnListener.bind(this.base, take, 0, -1, { hostname: "127.0.0.1", port: 0, tls });
    const { port } = this.listener.address as { port: number };
    return { hostname: "127.0.0.1", port };
  }

  connect(options: ConnectOptions): [SocketBufferEvent, Recorder] {
    const bev = new SocketBufferEvent(this.base, null, BEV_OPT_CLOSE_ON_FREE);
    const record = this.#add(bev);
    bev.connect(options);
    return [bev, record];
  }

  #add(bev: SocketBufferEvent): Recorder {
    const record = new Recorder(() => this.sim.now());
    bev.setCallbacks({ read: record.callbacks.read, event: record.callbacks.event });
    bev.enable(EV_READ | EV_WRITE);
    this.bevs.push(bev);
    this.records.push(record);
    return record;
  }

  async during(ms: number): Promise<void> {
    this.base.loopExit(ms);
    await this.sim.run(this.base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
  }

  async end(): Promise<void> {
    for (const bev of this.bevs) bev.free();
    this.listener?.free();
    await this.listener?.close();
    await nothingLeft(this);
  }
}

function codes(record: Recorder | undefined): (string | undefined)[] {
  return (record?.errors ?? []).map((error) => error?.code);
}

describe("close() in the middle of a handshake", () => {
  it("delivers the output after the handshake", async () => {
    const sim = simRuntime();
    let closed: Promise<boolean> | undefined;
    const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0, tls: TLS }, {
      open(bev) {
        bev.write(new Uint8Array(300_000));
        closed = bev.close();
      },
    });
    const { port } = server.address as { port: number };
    const client = await sim.run(connect({ runtime: sim, hostname: "127.0.0.1", port, tls: TRUST }, {}));
    let received = 0;
    for (const chunks = client[Symbol.asyncIterator]();;) {
      const { done, value } = await sim.run(chunks.next());
      if (done === true) break;
      received += value.length;
    }
    assertEquals(received, 300_000);
    await sim.run(client.close());
    assertEquals(await sim.run(closed as Promise<boolean>), true);
    await sim.run(server.close());
    await sim.advance(6000);
    assertEquals(sim.openHandles, 0);
  });

  it("gives false if the handshake fails, or takes longer than the timeout of close()", async () => {
    const world = new World();
    const silent = Socket.connect(world.sim, await world.listen(TLS));
    await world.during(5);
    const bev = world.bevs[0]!;
    bev.write("hello");
    const closed = bev.close({ timeoutMs: 1000 });
    assertEquals(await world.sim.run(closed), false);
    silent.close();
    await world.end();
  });
});

describe("connecting with TLS", () => {
  it("reports CONNECTED on both sides after the handshake, not after the TCP connection", async () => {
    const world = new World();
    const [client, record] = world.connect({ ...await world.listen(TLS), tls: TRUST });
    client.write("hello");
    assertEquals([client.tls, client.socket?.connected], [undefined, false]);
    await world.during(2);
    assertEquals(record.lines, []);
    await world.during(8);
    const [, server] = world.bevs;
    assertEquals(record.lines, ["event CONNECTED at 4"]);
    assertEquals(world.records[1]?.lines, ["event CONNECTED at 5", "read 5 at 5"]);
    assertEquals(world.records[1]?.received.toString(), "hello");
    const info = { protocol: "TLSv1.3", alpnProtocol: undefined };
    const peerCertificate = new TextEncoder().encode(TLS.cert as string);
    assertEquals(client.tls, { ...info, peerCertificate, authorized: true });
    assertEquals(server?.socket?.tls, { ...info, peerCertificate: undefined, authorized: false });
    await world.end();
  });

  it("sends the server's early output after the handshake", async () => {
    const world = new World();
    const [, record] = world.connect({ ...await world.listen(TLS), tls: TRUST });
    await world.during(3.5);
    world.bevs[1]!.write("welcome");
    assertEquals(world.bevs[1]!.socket!.send("now"), EAGAIN);
    await world.during(5);
    assertEquals(record.received.toString(), "welcome");
    await world.end();
  });

  it("agrees on the protocol that the server prefers, or fails", async () => {
    const world = new World();
    const address = await world.listen({ ...TLS, alpnProtocols: ["two", "one"] });
    const [client] = world.connect({ ...address, tls: { ...TRUST, alpnProtocols: ["one", "two"] } });
    const [other, record] = world.connect({ ...address, tls: { ...TRUST, alpnProtocols: ["three"] } });
    await world.during(20);
    assertEquals([client.tls?.alpnProtocol, other.tls], ["two", undefined]);
    assertEquals(codes(record), ["ERR_TLS_HANDSHAKE"]);
    await world.end();
  });

  it("takes the name from the host that is connected to", async () => {
    const world = new World();
    const there = world.sim.host("server.example");
    const far = await serve({ runtime: there, hostname: there.addresses[0], port: 443, tls: TLS }, {});
    const [client, record] = world.connect({ hostname: "server.example", port: 443, tls: { ca: "a CA" } });
    const [, wrong] = world.connect({ hostname: there.addresses[0], port: 443, tls: { ca: "a CA" } });
    await world.during(20);
    assertEquals(codes(record), [undefined]);
    assertEquals(client.tls?.authorized, true);
    assertEquals(codes(wrong), ["ERR_TLS_CERT"]);
    await world.end();
    await world.sim.run(far.close({ graceMs: 0 }));
  });

  it("fails with ERR_TLS_CERT once for a wrong name or an unknown signer; the server gets ERR_TLS_HANDSHAKE", async () => {
    for (
      const tls of [{ ...TRUST, serverName: "other.example" }, { ...TRUST, ca: "another CA" }, { serverName: "x" }]
    ) {
      const world = new World();
      const [client, record] = world.connect({ ...await world.listen(TLS), tls });
      client.write("a secret");
      await world.during(50);
      assertEquals(record.lines, ["event ERROR at 4"]);
      assertEquals(codes(record), ["ERR_TLS_CERT"]);
      assertEquals(world.records[1]?.lines, ["event ERROR at 5"]);
      assertEquals(codes(world.records[1]), ["ERR_TLS_HANDSHAKE"]);
      assertEquals(client.tls, undefined);
      await world.end();
    }
  });

  it("accepts any certificate with rejectUnauthorized false, and reports the result", async () => {
    const world = new World();
    const [client, record] = world.connect({
      ...await world.listen(TLS),
      tls: { serverName: "other.example", rejectUnauthorized: false },
    });
    await world.during(20);
    assertEquals([record.lines, client.tls?.authorized], [["event CONNECTED at 4"], false]);
    await world.end();
  });

  it("refuses a client without a valid certificate if the server requires one", async () => {
    const world = new World();
    const address = await world.listen({ ...TLS, ca: "a CA", requestCert: true });
    world.connect({ ...address, tls: TRUST });
    await world.during(20);
    const [good] = world.connect({ ...address, tls: { ...TRUST, cert: "me signed by a CA", key: "k" } });
    await world.during(20);
    assertEquals(world.records.map(codes).slice(1), [["ERR_TLS_CERT"], [undefined], [undefined]]);
    assertEquals(world.bevs[3]?.tls?.authorized, true);
    assertEquals(good.tls?.authorized, true);
    await world.end();
  });
});

describe("a handshake that does not end", () => {
  it("times out with ETIMEDOUT after ten seconds by default, in either role, and does not delay others", async () => {
    const world = new World();
    const address = await world.listen(TLS);
    const silent = Socket.connect(world.sim, address);
    const deaf = await world.base.listen({ hostname: "127.0.0.1", port: 0 });
    const [, record] = world.connect({ ...deaf.address, tls: TRUST });
    await world.during(5000);
    world.connect({ ...address, tls: TRUST });
    await world.during(10_000);
    assertEquals(record.lines, ["event ERROR at 10002"]);
    assertEquals(codes(record), ["ETIMEDOUT"]);
    assertEquals(world.records[1]?.lines, ["event ERROR at 10003"]);
    assertEquals(codes(world.records[1]), ["ETIMEDOUT"]);
    assertEquals(world.records[2]?.lines, ["event CONNECTED at 5004"]);
    silent.close();
    await deaf.close();
    await world.end();
  });

  it("uses the given timeout", async () => {
    const world = new World();
    const silent = Socket.connect(world.sim, await world.listen({ ...TLS, handshakeTimeoutMs: 250 }));
    await world.during(1000);
    assertEquals(world.records[0]?.lines, ["event ERROR at 253"]);
    silent.close();
    await world.end();
  });

  it("counts against timeoutMs of connecting, and can be aborted", async () => {
    const world = new World();
    const deaf = await world.base.listen({ hostname: "127.0.0.1", port: 0 });
    const abort = new AbortController();
    const [, timed] = world.connect({ ...deaf.address, tls: TRUST, timeoutMs: 100 });
    const [, aborted] = world.connect({ ...deaf.address, tls: TRUST, signal: abort.signal });
    await world.during(50);
    abort.abort();
    await world.during(100);
    assertEquals([codes(timed), codes(aborted)], [["ETIMEDOUT"], ["ECANCELED"]]);
    assertEquals([timed.lines, aborted.lines], [["event ERROR at 100"], ["event ERROR at 50"]]);
    await deaf.close();
    await world.end();
  });

  it("ends with ERR_TLS_HANDSHAKE when the peer goes or speaks something else", async () => {
    const world = new World();
    const address = await world.listen(TLS);
    const ends: ((socket: Socket) => void)[] = [
      (socket) => void socket.send("GET / HTTP/1.1\r\n"),
      (socket) => socket.shutdown(),
      (socket) => socket.reset(),
    ];
    const sockets = ends.map(() => Socket.connect(world.sim, address));
    await world.during(10);
    for (const [i, end] of ends.entries()) end(sockets[i]!);
    await world.during(10);
    assertEquals(world.records.map(codes), ends.map(() => ["ERR_TLS_HANDSHAKE"]));
    for (const socket of sockets) socket.close();
    await world.end();
  });

  it("is cancelled by free() and close(), without a callback", async () => {
    for (const give of [(bev: SocketBufferEvent) => bev.free(), (bev: SocketBufferEvent) => void bev.close()]) {
      const world = new World();
      const [client, record] = world.connect({ ...await world.listen(TLS), tls: TRUST });
      await world.during(2.5);
      give(client);
      await world.during(20);
      assertEquals(record.lines, []);
      assertEquals(codes(world.records[1]), ["ERR_TLS_HANDSHAKE"]);
      await world.end();
    }
  });
});

describe("startTls()", () => {
  /** A pair of bufferevents without TLS, the client first. */
  async function pair(): Promise<World> {
    const world = new World();
    world.connect(await world.listen());
    await world.during(10);
    for (const { lines, errors } of world.records) lines.length = errors.length = 0;
    return world;
  }

  it("sends earlier output without TLS, and later output with TLS", async () => {
    const world = await pair();
    const [client, server] = world.bevs as [SocketBufferEvent, SocketBufferEvent];
    const [atClient, atServer] = world.records as [Recorder, Recorder];
    atClient.on.read = (): void => {
      if (client.tls !== undefined || atClient.received.toString() !== "220 go\r\n") return;
      client.startTls(TRUST);
      client.write("inside");
    };
    server.write("220 go\r\n");
    server.startTls(TLS);
    server.write("welcome inside");
    await world.during(30);
    assertEquals(atClient.lines.map((line) => line.replace(/ at.*/, "")), ["read 8", "event CONNECTED", "read 14"]);
    assertEquals(atServer.lines.map((line) => line.replace(/ at.*/, "")), ["event CONNECTED", "read 6"]);
    assertEquals(atClient.received.toString(), "220 go\r\nwelcome inside");
    assertEquals(atServer.received.toString(), "inside");
    assertEquals([client.tls?.authorized, server.tls?.authorized], [true, false]);
    const both = [client.close(), server.close()];
    await world.during(20);
    assertEquals(await Promise.all(both), [true, true]);
    await world.end();
  });

  it("waits until megabytes of earlier output have been read", async () => {
    const world = await pair();
    const [client, server] = world.bevs as [SocketBufferEvent, SocketBufferEvent];
    const [atClient] = world.records as [Recorder];
    const total = 2 << 20;
    server.write(new Uint8Array(total));
    server.startTls(TLS);
    let begun = false;
    atClient.on.read = (): void => {
      if (begun || atClient.received.length < total) return;
      begun = true;
      client.startTls(TRUST);
    };
    await world.during(5000);
    assertEquals([atClient.received.length, client.tls?.authorized], [total, true]);
    await world.end();
  });

  it("refuses while bytes that arrived without TLS have not been read, in the input or the receive queue", async () => {
    const world = await pair();
    const [client, server] = world.bevs as [SocketBufferEvent, SocketBufferEvent];
    client.write("STARTTLS\r\nMAIL FROM:<mallory>\r\n");
    world.records[1]!.drains = false;
    await world.during(10);
    const code = (): string => (assertThrows(() => server.startTls(TLS), EventError) as EventError).code;
    assertEquals(code(), "ERR_TLS_PLAINTEXT");
    server.input.drain(server.input.length);
    server.disable(EV_READ);
    client.write("more");
    await world.during(10);
    assertEquals([server.input.length, code()], [0, "ERR_TLS_PLAINTEXT"]);
    await world.end();
  });

  it("treats bytes without TLS after the call as a failed handshake", async () => {
    const world = await pair();
    const [client, server] = world.bevs as [SocketBufferEvent, SocketBufferEvent];
    server.startTls(TLS);
    client.write("MAIL FROM:<mallory>\r\n");
    await world.during(20);
    assertEquals(codes(world.records[1]), ["ERR_TLS_HANDSHAKE"]);
    assertEquals([server.input.length, world.records[1]!.received.length], [0, 0]);
    await world.end();
  });

  it("is the client if it has connected, unless a role is given", async () => {
    const world = await pair();
    const [client, server] = world.bevs as [SocketBufferEvent, SocketBufferEvent];
    client.startTls({ ...TLS, role: "server" });
    server.startTls({ ...TRUST, role: "client" });
    await world.during(20);
    assertEquals([client.tls?.authorized, server.tls?.authorized], [false, true]);
    await world.end();
  });

  it("times out, and can be cancelled", async () => {
    const world = await pair();
    const [client, server] = world.bevs as [SocketBufferEvent, SocketBufferEvent];
    server.startTls({ ...TLS, handshakeTimeoutMs: 100 });
    await world.during(200);
    assertEquals(codes(world.records[1]), ["ETIMEDOUT"]);
    client.free();
    await world.end();
  });

  it("throws without a connection, and for wrong options", async () => {
    const world = await pair();
    const [client, server] = world.bevs as [SocketBufferEvent, SocketBufferEvent];
    const code = (bev: SocketBufferEvent, options: StartTlsOptions): string =>
      (assertThrows(() => bev.startTls(options), EventError) as EventError).code;
    assertThrows(() => server.startTls({}), TypeError);
    assertThrows(() => server.startTls({ ...TLS, role: "both" as "client" }), TypeError);
    assertThrows(() => client.startTls({ cert: "a" }), TypeError);
    assertThrows(() => client.startTls({ ca: 7 as unknown as string }), TypeError);
    assertThrows(() => client.startTls({ handshakeTimeoutMs: -1 }), RangeError);
    assertThrows(() => client.startTls({ alpnProtocols: ["é"] }), RangeError);
    client.startTls(TRUST);
    assertEquals(code(client, TRUST), "EALREADY");
    server.startTls(TLS);
    await world.during(20);
    assertEquals(code(client, TRUST), "EALREADY");
    server.shutdown();
    await world.during(20);
    const unconnected = new SocketBufferEvent(world.base, null);
    assertEquals(code(unconnected, TRUST), "ENOTCONN");
    unconnected.free();
    client.free();
    assertEquals(code(client, TRUST), "EV_FREED");
    await world.end();
  });

  it("names the runtime that does not support it", async () => {
    const sim = simRuntime();
    const able = sim.capabilities;
    const limited = new Proxy(sim, {
      get: (target, name): unknown => {
        if (name === "capabilities") return { ...able, startTlsServer: false };
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    }) as Runtime;
    const base = new EventBase({ runtime: limited });
    let error: EventError | undefined;
    const server = await serve({ base, hostname: "127.0.0.1", port: 0 }, {
      open: (bev) => {
        error = assertThrows(() => bev.startTls(TLS), EventError) as EventError;
        bev.free();
      },
    });
    const socket = Socket.connect(limited, server.address as { port: number });
    base.loopExit(10);
    await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
    assertEquals(error?.code, "EV_UNSUPPORTED");
    assert(error?.message.includes("sim"), error?.message);
    socket.close();
    void server.close();
    base.free();
  });

  it("gives the reason of a runtime that does not support it, and sends nothing", async () => {
    const sim = simRuntime();
    const able = sim.capabilities;
    const limited = new Proxy(sim, {
      get: (target, name): unknown => {
        if (name === "capabilities") return { ...able, tls: false, startTlsClient: false };
        const why = "it takes version 2 or later, and this is 1";
        if (name === "lacks") return { tls: why, startTlsClient: why };
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    }) as Runtime;
    const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {});
    const { port } = server.address as { port: number };
    const connecting = assertRejects(() => connect({ runtime: limited, port, tls: {} }, {}), EventError) as Promise<
      EventError
    >;
    assertEquals(
      (await sim.run(connecting)).message,
      "Cannot connect with TLS: it takes version 2 or later, and this is 1",
    );
    const bev = await sim.run(connect({ runtime: limited, port }, {}));
    assertEquals(
      (assertThrows(() => bev.startTls({}), EventError) as EventError).message,
      "Cannot start TLS as the client: it takes version 2 or later, and this is 1",
    );
    bev.free();
    await sim.run(server.close());
    await sim.advance(100);
    assertEquals(sim.openHandles, 0);
  });
});

describe("serve() and connect() with TLS", () => {
  it("pass the options through; open comes after the handshake, and no CONNECTED", async () => {
    const sim = simRuntime();
    const heard: string[] = [];
    const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0, tls: TLS }, {
      open: (bev) => void heard.push(`open ${bev.tls?.protocol}`),
      read: (bev) => bev.writeBuffer(bev.input),
      event: (bev, what) => {
        heard.push(`event ${what.toString(16)} ${bev.tls?.protocol}`);
        void bev.close();
      },
    });
    let echo = "";
    const address = server.address as { hostname: string; port: number };
    const client = await sim.run(connect({ runtime: sim, ...address, tls: TRUST }, {
      read: (bev) => {
        echo += bev.input.toString();
        bev.input.drain(bev.input.length);
      },
    }));
    assertEquals(client.tls?.authorized, true);
    client.write("hello");
    await sim.advance(20);
    assertEquals(echo, "hello");
    assertEquals(await sim.run(client.close()), true);
    assertEquals(heard, ["open TLSv1.3", "event 11 TLSv1.3"]);
    await sim.run(server.close());
  });

  it("reject when the handshake fails, with its error", async () => {
    const sim = simRuntime();
    const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0, tls: TLS }, {});
    const address = server.address as { hostname: string; port: number };
    const failed = connect({ runtime: sim, ...address, tls: { ca: "nobody" } }, {}).catch((error) => error);
    assertEquals((await sim.run(failed) as EventError).code, "ERR_TLS_CERT");
    await sim.run(server.close());
    assertEquals(sim.openHandles, 0);
  });
});
