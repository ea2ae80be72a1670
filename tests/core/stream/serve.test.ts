// serve() and connect(): servers and clients on a base that dispatches by itself.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import type { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import { BEV_EVENT_EOF, BEV_EVENT_READING, EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { Socket } from "../../../core/api/socket.ts";
import { connect, serve, type ServeCallbacks, type ServeOptions, type Server } from "../../../core/serve/serve.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { isOver, pattern, portOf, receiveAll, text } from "../socket/pairs.ts";

const echo: ServeCallbacks = { read: (bev) => bev.output.addBuffer(bev.input) };

async function nothingOpen(sim: SimRuntime): Promise<void> {
  await sim.advance(6_000);
  assertEquals([sim.openHandles, sim.pending], [0, 0]);
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => promise, EventError) as EventError).code;
}

/** A server, and plain sockets as its clients. */
async function served(options: ServeOptions, callbacks: ServeCallbacks): Promise<[SimRuntime, Server, () => Socket]> {
  const sim = simRuntime({ maxSteps: 200_000 });
  const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0, ...options }, callbacks);
  return [sim, server, () => Socket.connect(sim, { port: portOf(server) })];
}

describe("serve()", () => {
  it("leaves nothing open if it cannot serve", async () => {
    const sim = simRuntime();
    const options = { runtime: sim, hostname: "127.0.0.1", port: 0 };
    await assertRejects(() => serve({ ...options, signal: {} as AbortSignal }, echo), TypeError, "not an AbortSignal");
    await assertRejects(() => serve(options, undefined as unknown as ServeCallbacks), TypeError, "received undefined");
    for (const name of ["open", "read", "line", "write", "event", "close", "error"]) {
      const wrong = { [name]: "x" } as unknown as ServeCallbacks;
      await assertRejects(() => serve(options, wrong), TypeError, `${name} is not a function`);
    }
    const base = new EventBase({ runtime: sim });
    const serving = serve({ ...options, base }, echo);
    base.free();
    assertEquals(await codeOf(sim.run(serving)), "EV_FREED");
    await nothingOpen(sim);
  });

  it("answers without a loop of the program", async () => {
    const [sim, server, client] = await served({}, echo);
    assertEquals([server.connections, server.address], [0, {
      hostname: "127.0.0.1",
      port: portOf(server),
      family: "IPv4",
    }]);
    const socket = client();
    await sim.advance(5);
    socket.send("hello");
    await sim.advance(5);
    assertEquals([text(receiveAll(socket).bytes), server.connections], ["hello", 1]);
    socket.close();
    await sim.advance(5);
    assertEquals(server.connections, 0);
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("calls open, read, write, event and close with the bufferevent", async () => {
    const log: string[] = [];
    const [sim, server, client] = await served({}, {
      open(bev) {
        log.push("open");
        assertEquals(bev.enabled, EV_READ | EV_WRITE);
        bev.context = { name: "Ada" };
      },
      read(bev) {
        log.push(`read ${bev.input.length} of ${(bev.context as { name: string }).name}`);
        bev.input.drain(100);
      },
      write: (bev) => void log.push(`write ${bev.output.length}`),
      event(bev, what) {
        log.push(`event ${what}`);
        bev.free();
      },
      close: (bev) => void log.push(`close ${(bev.context as { name: string }).name}`),
    });
    const socket = client();
    await sim.advance(5);
    socket.send("abc");
    socket.shutdown();
    await sim.advance(5);
    assertEquals(log, ["open", "write 0", "read 3 of Ada", `event ${BEV_EVENT_READING | BEV_EVENT_EOF}`, "close Ada"]);
    socket.close();
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("gives the addresses of both ends in every callback, including the last", async () => {
    const seen: [string, unknown, unknown][] = [];
    const note = (name: string) => (bev: SocketBufferEvent): void => {
      seen.push([name, bev.remoteAddress, bev.localAddress]);
    };
    const [sim, server, client] = await served({}, {
      open: note("open"),
      read: note("read"),
      event: (bev) => {
        note("event")(bev);
        bev.free();
        note("freed")(bev);
      },
      close: note("close"),
    });
    const socket = client();
    await sim.advance(5);
    const { localAddress, remoteAddress } = socket;
    socket.send("x");
    await sim.advance(5);
    socket.reset();
    await sim.advance(5);
    assertEquals(
      seen,
      ["open", "read", "event", "freed", "close"].map((name) => [name, localAddress, remoteAddress]),
    );
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("without an event callback closes gracefully at the end of file, and delivers queued output", async () => {
    const closed: BufferEvent[] = [];
    const [sim, server, client] = await served({}, { ...echo, close: (bev) => closed.push(bev) });
    const socket = client();
    await sim.advance(5);
    // More than the network holds, and the client does not read before it has finished.
    let sent = 0;
    for (let ms = 0; ms < 50; ms++) {
      const n = socket.send(pattern(10_000, sent));
      if (n > 0) sent += n;
      await sim.advance(1);
    }
    socket.shutdown();
    let received = 0;
    let ended = false;
    for (let ms = 0; ms < 1000 && !ended; ms++) {
      const all = receiveAll(socket);
      received += all.bytes.length;
      ended = all.ended;
      await sim.advance(1);
    }
    assertEquals([received, ended, closed.length, server.connections], [sent, true, 1, 0]);
    socket.close();
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("keeps a connection whose peer has finished until its asynchronous open() has settled", async () => {
    let goOn = (): void => {};
    const wait = new Promise<void>((resolve) => goOn = resolve);
    const lines: string[] = [];
    const [sim, server, client] = await served({}, {
      async open(bev) {
        await wait;
        for await (const line of bev.lines({ text: true })) {
          lines.push(line);
          bev.write(`${line}!\n`);
        }
      },
    });
    const socket = client();
    await sim.advance(5);
    socket.send("one\ntwo");
    socket.shutdown();
    await sim.advance(50);
    assertEquals([lines, server.connections], [[], 1]);
    goOn();
    await sim.advance(50);
    assertEquals([lines, text(receiveAll(socket).bytes), server.connections], [["one", "two"], "one!\ntwo!\n", 0]);
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("closes the connection after an asynchronous open() whose view has seen the end", async () => {
    const [sim, server, client] = await served({}, {
      async open(bev) {
        for await (const line of bev.lines({ text: true })) bev.write(`${line}!\n`);
      },
    });
    const socket = client();
    await sim.advance(5);
    socket.send("one\n");
    socket.shutdown();
    await sim.advance(50);
    assertEquals([text(receiveAll(socket).bytes), server.connections], ["one!\n", 0]);
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("without an event callback frees connections that have failed or timed out", async () => {
    const [sim, server, client] = await served({ readTimeoutMs: 100 }, echo);
    const [reset, idle] = [client(), client()];
    await sim.advance(10);
    assertEquals(server.connections, 2);
    reset.reset();
    await sim.advance(10);
    assertEquals(server.connections, 1);
    await sim.advance(100);
    assertEquals([server.connections, receiveAll(idle).ended], [0, true]);
    idle.close();
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("bounds the input of a connection: by default 64 KiB", async () => {
    let largest = 0;
    const [sim, server, client] = await served({}, {
      read: (bev) => void (largest = Math.max(largest, bev.input.length)),
    });
    const socket = client();
    await sim.advance(5);
    for (let ms = 0; ms < 100; ms++) {
      socket.send(pattern(50_000));
      await sim.advance(1);
    }
    assertEquals(largest, 65_536);
    socket.reset();
    await sim.run(server.close({ graceMs: 0 }));
    await nothingOpen(sim);
  });

  it("accepts watermarks and timeouts", async () => {
    const log: string[] = [];
    const [sim, server, client] = await served({ readLow: 4, readHigh: 6, writeTimeoutMs: 50 }, {
      read(bev) {
        log.push(bev.input.toString());
        bev.input.drain(100);
      },
      open: (bev) => void log.push(JSON.stringify(bev.getWatermark(EV_READ))),
    });
    const socket = client();
    await sim.advance(5);
    socket.send("abc");
    await sim.advance(5);
    socket.send("defgh");
    await sim.advance(5);
    assertEquals(log, ['{"low":4,"high":6}', "abcdef"]);
    socket.close();
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("refuses options out of range at once, and leaves nothing open", async () => {
    const sim = simRuntime();
    const at = (options: ServeOptions): Promise<Server> => serve({ runtime: sim, port: 0, ...options }, {});
    for (const maxConnections of [0, -1, NaN]) await assertRejects(() => at({ maxConnections }), RangeError);
    for (const wrong of [-1, NaN]) {
      await assertRejects(() => at({ readHigh: wrong }), RangeError);
      await assertRejects(() => at({ readLow: wrong }), RangeError);
      await assertRejects(() => at({ readTimeoutMs: wrong }), RangeError);
      await assertRejects(() => at({ writeTimeoutMs: wrong }), RangeError);
    }
    await assertRejects(() => at({ port: -1 }), RangeError);
    await assertRejects(() => at({ backlog: 0 }), RangeError);
    await sim.advance(10);
    assertEquals(sim.openHandles, 0);
  });

  it("rejects with the host's error", async () => {
    const [sim, server] = await served({}, echo);
    const port = portOf(server);
    assertEquals(await codeOf(serve({ runtime: sim, hostname: "127.0.0.1", port }, {})), "EADDRINUSE");
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("works on a path", async () => {
    const sim = simRuntime();
    const server = await serve({ runtime: sim, path: "/run/app" }, echo);
    const socket = Socket.connect(sim, { path: "/run/app" });
    await sim.advance(5);
    socket.send("x");
    await sim.advance(5);
    assertEquals([text(receiveAll(socket).bytes), server.address], ["x", { path: "/run/app" }]);
    socket.close();
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("on a given base runs while that base dispatches", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const log: string[] = [];
    const server = await serve({ base, port: 0 }, {
      open: () => void log.push("open"),
      close: () => void log.push("close"),
    });
    assertStrictEquals(server.base, base);
    const socket = Socket.connect(sim, { port: portOf(server) });
    await sim.advance(10);
    assertEquals(log, []);
    const done = base.dispatch();
    await sim.advance(10);
    assertEquals(log, ["open"]);
    socket.close();
    await sim.advance(10);
    assertEquals(log, ["open", "close"]);
    await sim.run(server.close());
    assertEquals(await sim.run(done), "empty");
    await nothingOpen(sim);
  });
});

describe("maxConnections", () => {
  it("makes further connections wait until there is space", async () => {
    const [sim, server, client] = await served({ maxConnections: 2 }, echo);
    const sockets: Socket[] = [];
    for (let i = 0; i < 5; i++) {
      sockets.push(client());
      await sim.advance(5);
      sockets[i]?.send(`${i}`);
    }
    await sim.advance(10);
    const answered = (): string[] => sockets.map((socket) => text(receiveAll(socket).bytes));
    assertEquals([server.connections, answered()], [2, ["0", "1", "", "", ""]]);
    sockets[1]?.shutdown();
    await sim.advance(20);
    assertEquals([server.connections, answered()], [2, ["", "", "2", "", ""]]);
    for (const socket of sockets.slice(0, 3)) socket.shutdown();
    await sim.advance(20);
    assertEquals([server.connections, answered()], [2, ["", "", "", "3", "4"]]);
    for (const socket of sockets) socket.close();
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("counts a connection until it is freed, however it ends", async () => {
    const [sim, server, client] = await served({ maxConnections: 1 }, { read: (bev) => bev.free() });
    for (let i = 0; i < 5; i++) {
      const socket = client();
      await sim.advance(10);
      assertEquals(server.connections, 1);
      socket.send("x");
      await sim.advance(10);
      assertEquals([server.connections, receiveAll(socket).ended], [0, true]);
      socket.close();
    }
    await sim.run(server.close());
    await nothingOpen(sim);
  });
});

describe("what open() does with a connection", () => {
  it("may be close(), free() or reset()", async () => {
    for (const end of ["close", "free", "reset"] as const) {
      const log: string[] = [];
      const [sim, server, client] = await served({}, {
        open(bev) {
          bev.write("go away");
          bev[end]();
        },
        read: () => void log.push("read"),
        close: () => void log.push("close"),
      });
      const socket = client();
      await sim.advance(5);
      if (end === "close") assertEquals(text(receiveAll(socket).bytes), "go away");
      socket.close();
      await sim.advance(10);
      assertEquals([log, server.connections], [["close"], 0], end);
      await sim.run(server.close());
      await nothingOpen(sim);
    }
  });

  it("may be disable(): the direction stays disabled", async () => {
    let reads = 0;
    const [sim, server, client] = await served({}, {
      open: (bev) => bev.disable(EV_READ),
      read: () => void reads++,
    });
    const socket = client();
    await sim.advance(5);
    socket.send("hello");
    await sim.advance(50);
    const [bev] = [...server];
    assertEquals([reads, bev?.enabled, bev?.input.length], [0, EV_WRITE, 0]);
    bev?.enable(EV_READ);
    await sim.advance(5);
    assertEquals([reads, bev?.input.length], [1, 5]);
    socket.close();
    await sim.advance(5);
    bev?.free();
    await sim.run(server.close());
    await nothingOpen(sim);
  });
});

describe("server.close()", () => {
  it("accepts no more clients, lets connections finish, and resolves after the last", async () => {
    const [sim, server, client] = await served({}, echo);
    const socket = client();
    await sim.advance(5);
    let closed = false;
    const closing = server.close().then(() => closed = true);
    await sim.advance(20);
    const late = client();
    await sim.advance(10);
    assertEquals([closed, late.error?.code, server.connections], [false, "ECONNREFUSED", 1]);
    socket.send("still served");
    await sim.advance(10);
    assertEquals(text(receiveAll(socket).bytes), "still served");
    socket.close();
    await sim.advance(10);
    assertEquals([closed, server.connections], [true, 0]);
    await closing;
    late.close();
    await nothingOpen(sim);
  });

  it("resets remaining connections after graceMs", async () => {
    const closed: BufferEvent[] = [];
    const [sim, server, client] = await served({}, { ...echo, close: (bev) => closed.push(bev) });
    const sockets = [client(), client()];
    await sim.advance(5);
    const begin = sim.now();
    await sim.run(server.close({ graceMs: 100 }));
    assertEquals([sim.now() - begin, server.connections], [100, 0]);
    await sim.advance(5);
    assertEquals([sockets.map((socket) => socket.error?.code), closed.length], [["ECONNRESET", "ECONNRESET"], 2]);
    for (const socket of sockets) socket.close();
    await nothingOpen(sim);
  });

  it("also resets connections that are being closed", async () => {
    const [sim, server, client] = await served({}, { open: (bev) => void bev.close() });
    const socket = client();
    await sim.advance(5);
    assertEquals(server.connections, 1);
    await sim.run(server.close({ graceMs: 10 }));
    await sim.advance(5);
    assertEquals([server.connections, socket.error?.code], [0, "ECONNRESET"]);
    socket.close();
    await nothingOpen(sim);
  });

  it("resets at once with 0 ms; 10 seconds are the default", async () => {
    for (const [options, ms] of [[{ graceMs: 0 }, 0], [undefined, 10_000]] as const) {
      const [sim, server, client] = await served({}, echo);
      const socket = client();
      await sim.advance(5);
      const begin = sim.now();
      await sim.run(server.close(options));
      assertEquals(sim.now() - begin, ms);
      socket.close();
      await nothingOpen(sim);
    }
  });

  it("takes no time without connections; every call gives the same promise", async () => {
    const [sim, server] = await served({}, echo);
    const closing = server.close();
    assertStrictEquals(server.close({ graceMs: 5 }), closing);
    await closing;
    assertThrows(() => server.close({ graceMs: -1 }), RangeError);
    assertThrows(() => server.close({ graceMs: NaN }), RangeError);
    await nothingOpen(sim);
  });

  it("closes connections that wait to be accepted", async () => {
    const [sim, server, client] = await served({ maxConnections: 1 }, echo);
    const sockets = [client(), client()];
    await sim.advance(10);
    const closing = server.close();
    sockets[0]?.close();
    await sim.run(closing);
    await sim.advance(10);
    assertEquals(isOver(sockets[1] as Socket), true);
    sockets[1]?.close();
    await nothingOpen(sim);
  });

  it("is called by `await using`", async () => {
    const sim = simRuntime();
    {
      await using server = await serve({ runtime: sim, port: 0 }, echo);
      assert(portOf(server) > 0);
    }
    await nothingOpen(sim);
  });

  it("resets the connections after base.free(), and does not throw", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const server = await serve({ base, port: 0 }, { close: () => {} });
    const socket = Socket.connect(sim, { port: portOf(server) });
    const done = base.dispatch();
    await sim.advance(10);
    assertEquals(server.connections, 1);
    base.free();
    assertEquals(await sim.run(done), "empty");
    await sim.run(server.close({ graceMs: 10 }));
    assertEquals(server.connections, 0);
    socket.close();
    await nothingOpen(sim);
  });
});

describe("connect()", () => {
  it("gives the established connection, with both directions enabled", async () => {
    const [sim, server] = await served({}, echo);
    const received: string[] = [];
    const events: number[] = [];
    const bev = await sim.run(connect({ runtime: sim, port: portOf(server) }, {
      read(bev) {
        received.push(bev.input.toString());
        bev.input.drain(100);
      },
      event: (_bev, what) => void events.push(what),
    }));
    assertEquals([bev.enabled, bev.socket?.connected], [EV_READ | EV_WRITE, true]);
    bev.write("hello");
    await sim.advance(10);
    assertEquals([received, events], [["hello"], []], "the promise stands for CONNECTED");
    const closing = bev.close();
    assertEquals(await sim.run(closing), true);
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("rejects if it fails, and leaves nothing open", async () => {
    const sim = simRuntime();
    const at = (options: Parameters<typeof connect>[0]): Promise<SocketBufferEvent> =>
      sim.run(connect({ runtime: sim, ...options }, {}));
    assertEquals(await codeOf(at({ port: 9 })), "ECONNREFUSED");
    assertEquals(await codeOf(at({ hostname: "nowhere.example", port: 9 })), "ENOTFOUND");
    assertEquals(await codeOf(at({ hostname: "nowhere.example", port: 9, timeoutMs: 0.5 })), "ETIMEDOUT");
    assertEquals(await codeOf(at({ hostname: "nowhere.example", port: 9, writeTimeoutMs: 0.5 })), "ETIMEDOUT");
    assertEquals(await codeOf(at({ port: 9, signal: AbortSignal.abort() })), "ECANCELED");
    await assertRejects(() => at({ port: 0 }), RangeError);
    await assertRejects(() => at({ port: 9, readHigh: -1 }), RangeError);
    await nothingOpen(sim);
  });

  it("without an event callback closes gracefully at the end of file, and frees failed connections", async () => {
    for (const end of ["shutdown", "reset"] as const) {
      const [sim, server] = await served({}, {
        open: (bev) => {
          if (end === "reset") bev.reset();
          else bev.shutdown();
        },
      });
      const bev = await sim.run(connect({ runtime: sim, port: portOf(server) }, {}));
      bev.write("last");
      await sim.advance(20);
      assertEquals([bev.socket, server.connections], [null, 0], end);
      await sim.run(server.close());
      await nothingOpen(sim);
    }
  });

  it("refuses to free the shared base, and goes on; a given base can be freed", async () => {
    const [sim, server, client] = await served({}, echo);
    for (const free of [() => server.base.free(), () => server.base[Symbol.dispose]()]) {
      const error = assertThrows(free, EventError) as EventError;
      assertEquals([error.code, /Cannot free the base: .*share/.test(error.message)], ["EV_BUSY", true]);
    }
    const socket = client();
    await sim.advance(10);
    socket.send("still there");
    await sim.advance(10);
    assertEquals(text(receiveAll(socket).bytes), "still there");
    socket.close();
    await sim.run(server.close());
    await nothingOpen(sim);
    const own = new EventBase({ runtime: sim });
    const other = await serve({ base: own, port: 0 }, echo);
    own.free();
    await other.close();
    await nothingOpen(sim);
  });

  it("shares the base of its runtime with servers", async () => {
    const [sim, server] = await served({}, echo);
    const bev = await sim.run(connect({ runtime: sim, port: portOf(server) }, {}));
    assertStrictEquals(bev.base, server.base);
    bev.free();
    await sim.run(server.close());
    await nothingOpen(sim);
  });

  it("reaches another host of the network", async () => {
    const sim = simRuntime();
    const host = sim.host("server");
    const server = await serve({ runtime: host, port: 7 }, echo);
    const received: string[] = [];
    const bev = await sim.run(connect({ runtime: sim, hostname: "server", port: 7 }, {
      read: (bev) => void received.push(bev.input.toString()),
    }));
    bev.write("far away");
    await sim.advance(10);
    assertEquals(received, ["far away"]);
    await sim.run(bev.close());
    await sim.run(server.close());
    await nothingOpen(sim);
    assertEquals(host.openHandles, 0);
  });
});
