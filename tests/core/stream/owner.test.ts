// The owner of a connection's callbacks over time: in virtual time, so that ten minutes are fast.

import { describe, it } from "node:test";
import { assertEquals, assertStrictEquals } from "@std/assert";
import type { EventError } from "../../../core/errors.ts";
import { BEV_EVENT_EOF, BEV_EVENT_READING, BEV_EVENT_TIMEOUT, EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { pipe } from "../../../core/api/pipe.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { Socket } from "../../../core/api/socket.ts";
import { connect, serve, type ServeCallbacks, type ServeOptions, type Server } from "../../../core/serve/serve.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { pattern, portOf, receiveAll, text } from "../socket/pairs.ts";

class Stage {
  readonly sim: SimRuntime = simRuntime({ maxSteps: 5_000_000 });
  readonly log: string[] = [];
  readonly #servers: Server[] = [];

  async serve(options: ServeOptions, callbacks: ServeCallbacks): Promise<Server> {
    const server = await serve({ runtime: this.sim, hostname: "127.0.0.1", port: 0, ...options }, {
      close: (_bev, reason) => void this.note(`close ${reason?.code}`),
      ...callbacks,
    });
    this.#servers.push(server);
    return server;
  }

  note(what: string): void {
    this.log.push(`${what} at ${this.sim.now()}`);
  }

  /** Connects, and lets the time pass that it needs. */
  async client(server: Server): Promise<Socket> {
    const socket = Socket.connect(this.sim, { port: portOf(server) });
    await this.sim.advance(10 - this.sim.now() % 10);
    return socket;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.sim.setTimer(this.sim.now() + ms, resolve));
  }

  async end(...sockets: Socket[]): Promise<void> {
    for (const socket of sockets) socket.close();
    for (const server of this.#servers) await this.sim.run(server.close({ graceMs: 0 }));
    await this.sim.advance(6_000);
    assertEquals([this.sim.openHandles, this.sim.pending], [0, 0]);
  }
}

async function sendAll(stage: Stage, socket: Socket, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const n = socket.send(bytes.subarray(at));
    if (n > 0) at += n;
    else await stage.sim.advance(1);
  }
}

describe("stallTimeoutMs", () => {
  it("is 60 s by default, reported exactly then, and null means no limit", async () => {
    const stage = new Stage();
    const server = await stage.serve({}, { read() {} });
    const patient = await stage.serve({ stallTimeoutMs: null }, { read() {} });
    const [socket, other] = [await stage.client(server), await stage.client(patient)];
    await sendAll(stage, socket, pattern(65_536));
    await sendAll(stage, other, pattern(65_536));
    await stage.sim.advance(59_000);
    assertEquals([server.connections, stage.log], [1, []]);
    await stage.sim.advance(2_000);
    assertEquals([server.connections, stage.log.length], [0, 1]);
    await stage.sim.advance(3_600_000);
    assertEquals(patient.connections, 1);
    await stage.end(socket, other);
  });

  it("does not end a read callback that leaves its input to a slow reader, for ten minutes", async () => {
    const stage = new Stage();
    let answered = 0;
    const server = await stage.serve({}, {
      read(bev) {
        while (bev.input.length >= 100) {
          bev.input.drain(100);
          answered++;
          if (!bev.write(pattern(50_000))) return;
        }
      },
    });
    const socket = await stage.client(server);
    // 20 answers of 50 kB to a reader of at most 1 kB a second, and always more questions than
    // readHigh.
    await sendAll(stage, socket, pattern(2_000));
    const into = new Uint8Array(1000);
    for (let second = 0; second < 600; second++) {
      socket.recv(into);
      socket.send(pattern(100));
      await stage.sim.advance(1000);
    }
    assertEquals([stage.log, server.connections], [[], 1]);
    // It gets all of its answers when it reads.
    let received = 0;
    let last = -1;
    while (received !== last) {
      last = received;
      for (let i = 0; i < 300; i++) {
        received += receiveAll(socket).bytes.length;
        await stage.sim.advance(2);
      }
    }
    const [bev] = [...server];
    assertEquals([bev?.input.length, bev?.output.length], [0, 0]);
    await stage.end(socket);
  });

  it("restarts after the program was busy: with a handler, a view, disable() or a rate limit", async () => {
    const stage = new Stage();
    const server = await stage.serve({ stallTimeoutMs: 1000, readHigh: 1000 }, {
      async read(bev) {
        if (bev.input.length < 1000) return;
        await stage.sleep(5000);
        stage.note("back");
      },
    });
    const socket = await stage.client(server);
    await sendAll(stage, socket, pattern(5000));
    await stage.sim.advance(20_000);
    // The callback runs once more for the waiting bytes, and is busy again.
    assertEquals(stage.log.map((line) => line.split(" ")[0]), ["back", "close"]);
    const [back, close] = stage.log.map((line) => Number(line.split(" at ")[1]));
    assertEquals((close as number) - (back as number), 1000);
    await stage.end(socket);
  });
});

describe("a busy handler", () => {
  it("with an event callback delays the end of file, but not a reset", async () => {
    const stage = new Stage();
    const server = await stage.serve({}, {
      async line(bev, line) {
        stage.note(`line ${text(line)}`);
        await stage.sleep(100);
        stage.note("done");
        bev.write("answer\n");
      },
      event(bev, what, error) {
        stage.note(`event ${what} ${error?.code}`);
        void bev.close();
      },
    });
    const [half, reset] = [await stage.client(server), await stage.client(server)];
    half.send(new TextEncoder().encode("a\nb\n"));
    half.shutdown();
    await stage.sim.advance(300);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), [
      "line a",
      "done",
      "line b",
      "done",
      `event ${BEV_EVENT_READING | BEV_EVENT_EOF} undefined`,
      "close undefined",
    ]);
    stage.log.length = 0;
    reset.send(new TextEncoder().encode("a\nb\n"));
    await stage.sim.advance(10);
    reset.reset();
    await stage.sim.advance(10);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), [
      "line a",
      "event 33 ECONNRESET",
      "close ECONNRESET",
    ]);
    await stage.end(half);
  });

  it("delays timeouts and the end for at most handlerTimeoutMs", async () => {
    const stage = new Stage();
    const server = await stage.serve({ handlerTimeoutMs: 1000, readTimeoutMs: 300 }, {
      line: () => stage.sleep(5000),
      event(bev, what) {
        stage.note(what === (BEV_EVENT_READING | BEV_EVENT_TIMEOUT) ? "timeout" : "eof");
        bev.free();
      },
    });
    const [silent, half] = [await stage.client(server), await stage.client(server)];
    const began = stage.sim.now();
    for (const socket of [silent, half]) socket.send(new TextEncoder().encode("a\n"));
    half.shutdown();
    await stage.sim.advance(3000);
    const times = stage.log.filter((line) => !line.startsWith("close")).map((line) => [
      line.split(" ")[0],
      Number(line.split(" at ")[1]) - began,
    ]);
    // The end comes a turn after 1000. The timeout comes 300 ms after the handler stops delaying
    // it.
    assertEquals(times.map(([what, at]) => [what, Math.floor(at as number / 100)]), [["eof", 10], ["timeout", 13]]);
    await stage.sim.advance(10_000);
    await stage.end(silent, half);
  });

  it("that leaves bytes waiting gets an error for the lost bytes, not a clean end", async () => {
    for (const left of ["", "the rest"]) {
      const stage = new Stage();
      const server = await stage.serve({ handlerTimeoutMs: 1000 }, {
        async open(bev) {
          const view = bev[Symbol.asyncIterator]();
          await view.next();
          await stage.sleep(5000);
          const next = await view.next().then(
            ({ done }) => done ? "end" : "more",
            (error) => (error as EventError).code,
          );
          stage.note(`next ${next}`);
        },
      });
      const socket = await stage.client(server);
      socket.send(new TextEncoder().encode("first"));
      await stage.sim.advance(100);
      if (left !== "") socket.send(new TextEncoder().encode(left));
      socket.shutdown();
      await stage.sim.advance(10_000);
      const code = left === "" ? "undefined" : "ETIMEDOUT";
      assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), [
        `close ${code}`,
        `next ${left === "" ? "end" : code}`,
      ]);
      await stage.end(socket);
    }
  });

  it("that ends loses no bytes that it has written to a filter above", async () => {
    const stage = new Stage();
    const server = await stage.serve({ writeHigh: 65_536 }, {
      async open(bev) {
        const layer = new FilterBufferEvent(bev, null, null);
        for await (const _chunk of layer);
        layer.write(pattern(300_000));
      },
    });
    const socket = await stage.client(server);
    socket.send(new TextEncoder().encode("a question"));
    socket.shutdown();
    let received = 0;
    for (let i = 0; i < 200; i++) {
      received += receiveAll(socket).bytes.length;
      await stage.sim.advance(10);
    }
    assertEquals(received, 300_000);
    await stage.end(socket);
  });

  it("whose last line is too long gets that error once, and the end when reading is enabled again", async () => {
    const stage = new Stage();
    const server = await stage.serve({ maxLine: 5 }, {
      line: () => stage.sleep(20),
      event: (_bev, what, error) => stage.note(`event ${what} ${error?.code}`),
    });
    const socket = await stage.client(server);
    socket.send(new TextEncoder().encode("ok\ntoo long\n"));
    socket.shutdown();
    await stage.sim.advance(1000);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), ["event 33 EV_LINE_TOO_LONG"]);
    const [bev] = [...server];
    bev?.input.drain(100);
    bev?.enable(EV_READ);
    await stage.sim.advance(1000);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")).slice(1), ["event 17 undefined"]);
    bev?.free();
    await stage.end(socket);
  });

  it("is not busy while it waits in a view or in drained(), however often", async () => {
    const stage = new Stage();
    const server = await stage.serve({ readTimeoutMs: 100, handlerTimeoutMs: 50 }, {
      async open(bev) {
        for await (const line of bev.lines({ text: true })) {
          await stage.sleep(40);
          if (!bev.write(`${line}!\n`)) await bev.drained();
        }
      },
    });
    const socket = await stage.client(server);
    for (let i = 0; i < 20; i++) {
      socket.send(new TextEncoder().encode("a\n"));
      await stage.sim.advance(120);
    }
    assertEquals([stage.log, text(receiveAll(socket).bytes)], [[], "a!\n".repeat(20)]);
    await stage.sim.advance(200);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), ["close ETIMEDOUT"]);
    await stage.end(socket);
  });
});

describe("a failure of a handler without an error callback", () => {
  it("rejects the run of the simulator, once, and the server goes on", async () => {
    const stage = new Stage();
    const failure = new Error("in read");
    const server = await stage.serve({}, {
      read(bev) {
        if (bev.input.toString() === "fail") throw failure;
        bev.writeBuffer(bev.input);
      },
    });
    const [first, second] = [await stage.client(server), await stage.client(server)];
    first.send(new TextEncoder().encode("fail"));
    const error = await stage.sim.advance(20).catch((error) => error);
    assertStrictEquals(error, failure);
    second.send(new TextEncoder().encode("on"));
    await stage.sim.advance(20);
    assertEquals([text(receiveAll(second).bytes), server.connections], ["on", 1]);
    await stage.end(first, second);
  });
});

describe("the reason of close", () => {
  /** The codes with which a server's connections end after an action on one of them. */
  async function reasonOf(
    options: ServeOptions,
    callbacks: ServeCallbacks,
    act: (stage: Stage, socket: Socket, server: Server) => Promise<void> | void,
  ): Promise<string | undefined> {
    const stage = new Stage();
    const reasons: (EventError | undefined)[] = [];
    const server = await stage.serve(options, { ...callbacks, close: (_bev, reason) => void reasons.push(reason) });
    const socket = await stage.client(server);
    await act(stage, socket, server);
    await stage.sim.advance(70_000);
    assertEquals(reasons.length, 1);
    await stage.end(socket);
    return reasons[0]?.code;
  }
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

  it("is undefined after a clean end, and after the program's own close(), free() and reset()", async () => {
    assertEquals(await reasonOf({}, {}, (_stage, socket) => socket.shutdown()), undefined);
    for (const how of ["close", "free", "reset"] as const) {
      const end: ServeCallbacks = { read: (bev) => void bev[how]() };
      assertEquals(await reasonOf({}, end, (_stage, socket) => void socket.send(bytes("x"))), undefined, how);
    }
    // Also if the peer resets it afterwards.
    const late = await reasonOf({}, { read: (bev) => void bev.close() }, async (stage, socket) => {
      socket.send(bytes("x"));
      await stage.sim.advance(5);
      socket.reset();
    });
    assertEquals(late, undefined);
  });

  it("is the code of the peer's failure or of the limit", async () => {
    const cases: [string, ServeOptions, ServeCallbacks, (stage: Stage, socket: Socket) => Promise<void> | void][] = [
      ["ECONNRESET", {}, {}, (_stage, socket) => socket.reset()],
      ["ETIMEDOUT", { readTimeoutMs: 50 }, {}, () => {}],
      ["ETIMEDOUT", { idleTimeoutMs: 50 }, {}, () => {}],
      ["ETIMEDOUT", { writeTimeoutMs: 50 }, { open: (bev) => void bev.write(pattern(1_000_000)) }, () => {}],
      ["ETIMEDOUT", { messageTimeoutMs: 50 }, { line() {} }, (_stage, socket) => void socket.send(bytes("x"))],
      ["EV_LINE_TOO_LONG", { maxLine: 3 }, { line() {} }, (_stage, socket) => void socket.send(bytes("xxxx"))],
      ["EV_INPUT_FULL", { readHigh: 3 }, { read() {} }, (_stage, socket) => void socket.send(bytes("xxxx"))],
      ["ENOBUFS", { maxOutputBytes: 100_000 }, {
        open(bev) {
          bev.write(pattern(200_000));
          bev.write("x");
        },
      }, () => {}],
      ["ETIMEDOUT", { drainTimeoutMs: 100, readWhileFull: true }, {
        open: (bev) => void bev.write(pattern(500_000)),
      }, (_stage, socket) => socket.shutdown()],
    ];
    for (const [code, options, callbacks, act] of cases) {
      assertEquals(await reasonOf(options, callbacks, act), code, JSON.stringify(options));
      // An event callback that only frees changes nothing.
      const event: ServeCallbacks = { ...callbacks, event: (bev) => bev.free() };
      if (options.drainTimeoutMs === undefined) {
        assertEquals(await reasonOf(options, event, act), code, `${JSON.stringify(options)} with event`);
      }
    }
  });

  it("is ECANCELED after the grace of a stop, also in the middle of close()", async () => {
    for (const callbacks of [{}, { read: (bev: SocketBufferEvent) => void bev.close() }] as ServeCallbacks[]) {
      const code = await reasonOf({}, callbacks, async (stage, socket, server) => {
        socket.send(bytes("x"));
        await stage.sim.advance(5);
        await stage.sim.run(server.close({ graceMs: 20 }));
      });
      assertEquals(code, "ECANCELED");
    }
  });
});

describe("the error with which a connection ends", () => {
  it("is not a failure of a handler that awaits a pipe", async () => {
    const stage = new Stage();
    const upstream = await stage.serve({}, { read: (bev) => bev.reset(), close() {} });
    const errors: unknown[] = [];
    const proxy = await stage.serve({}, {
      async open(client) {
        const there = new SocketBufferEvent(client.base, null, 1);
        there.connect({ hostname: "127.0.0.1", port: portOf(upstream) });
        await pipe(client, there);
      },
      error: (error) => void errors.push(error),
    });
    const dead = await stage.serve({}, {
      async open(client) {
        const there = new SocketBufferEvent(client.base, null, 1);
        there.connect({ hostname: "127.0.0.1", port: 9 });
        await pipe(client, there);
      },
      error: (error) => void errors.push(error),
    });
    const [socket, other] = [await stage.client(proxy), await stage.client(dead)];
    socket.send(new TextEncoder().encode("x"));
    await stage.sim.advance(50);
    assertEquals(errors, []);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")).sort(), [
      "close ECONNREFUSED",
      "close ECONNRESET",
    ]);
    await stage.end(socket, other);
  });

  it("of a change callback belongs to the connection whose output was sent, although pipe() sends it for the other", async () => {
    const stage = new Stage();
    const upstream = await stage.serve({}, { close() {} });
    const proxy = await stage.serve({}, {
      async open(client) {
        const there = await connect({ runtime: stage.sim, port: portOf(upstream) }, {
          error: (error) => stage.note(`upstream's ${error}`),
        });
        there.setWatermark(EV_WRITE, 0, 1_000);
        there.output.addCallback((_buffer, { deleted }) => {
          if (deleted > 0) throw new RangeError("counting failed");
        });
        await pipe(client, there);
      },
      error: (error) => stage.note(`client's ${error}`),
      close() {},
    });
    const socket = await stage.client(proxy);
    socket.send(pattern(2_000));
    await stage.sim.advance(50);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), ["upstream's RangeError: counting failed"]);
    await stage.end(socket);
  });

  it("is not a failure of a handler that waits for bev.signal, and is the reason of the signal", async () => {
    const stage = new Stage();
    const errors: unknown[] = [];
    const server = await stage.serve({}, {
      open: (bev) => new Promise((_, reject) => bev.signal.addEventListener("abort", () => reject(bev.signal.reason))),
      error: (error) => void errors.push(error),
    });
    const socket = await stage.client(server);
    socket.reset();
    await stage.sim.advance(50);
    assertEquals([errors, stage.log.length], [[], 1]);
    await stage.end();
  });

  it("of another connection is a failure like any other", async () => {
    const stage = new Stage();
    const errors: unknown[] = [];
    const upstream = await stage.serve({}, { open: (bev) => bev.reset(), close() {} });
    const server = await stage.serve({}, {
      async open() {
        const there = await connect({ runtime: stage.sim, hostname: "127.0.0.1", port: portOf(upstream) });
        for await (const _ of there);
      },
      error: (error) => void errors.push((error as EventError).code),
    });
    const socket = await stage.client(server);
    await stage.sim.advance(50);
    assertEquals([errors, stage.log.length], [["ECONNRESET"], 1]);
    await stage.end(socket);
  });
});

describe("filters over a connection of a server", () => {
  it("share its owner: async callbacks, the end, and the freeing of all layers", async () => {
    const stage = new Stage();
    let freed = 0;
    const server = await stage.serve({}, {
      open(bev) {
        const filter = new FilterBufferEvent(bev, null, null, 0, () => freed++);
        filter.setCallbacks({
          async read(filter) {
            const all = filter.input.toString();
            filter.input.drain(filter.input.length);
            await stage.sleep(50);
            filter.write(all.toUpperCase());
          },
        });
        filter.enable(EV_READ);
      },
    });
    const socket = await stage.client(server);
    socket.send(new TextEncoder().encode("hello"));
    socket.shutdown();
    await stage.sim.advance(200);
    const { bytes, ended } = receiveAll(socket);
    assertEquals([text(bytes), ended, freed, server.connections], ["HELLO", true, 1, 0]);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), ["close undefined"]);
    await stage.end(socket);
  });
});

describe("an async handler whose connection was reset", () => {
  it("has not failed with an AbortError that does not tell the signal's reason", async () => {
    const stage = new Stage();
    const server = await stage.serve({}, {
      async open(bev) {
        await new Promise<void>((resolve) => bev.signal.addEventListener("abort", () => resolve()));
        throw Object.assign(new Error("The operation was aborted"), { name: "AbortError" });
      },
      error: (error) => stage.note(`error ${error}`),
    });
    const socket = await stage.client(server);
    socket.reset();
    await stage.sim.advance(10);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), ["close ECONNRESET"]);
    await stage.end();
  });

  it("has failed with an AbortError while its connection lives", async () => {
    const stage = new Stage();
    const server = await stage.serve({}, {
      open(bev) {
        void bev.signal;
        throw Object.assign(new Error("The operation was aborted"), { name: "AbortError" });
      },
      error: (error) => stage.note(`error ${(error as Error).name}`),
    });
    const socket = await stage.client(server);
    const told = stage.log.map((line) => line.replace(/ at .*/, "")).sort();
    assertEquals(told, ["close EV_HANDLER_FAILED", "error AbortError"]);
    await stage.end(socket);
  });

  it("gets the reset's code from pipe()", async () => {
    const stage = new Stage();
    const upstream = await stage.serve({}, { close() {} });
    const server = await stage.serve({}, {
      async open(bev) {
        await new Promise<void>((resolve) => bev.signal.addEventListener("abort", () => resolve()));
        const other = await connect({ runtime: stage.sim, port: portOf(upstream) });
        await pipe(bev, other).catch((error: EventError) => stage.note(`pipe ${error.code}`));
      },
      error: (error) => stage.note(`error ${error}`),
    });
    const socket = await stage.client(server);
    socket.reset();
    await stage.sim.advance(20);
    assertEquals(stage.log.map((line) => line.replace(/ at .*/, "")), ["close ECONNRESET", "pipe ECONNRESET"]);
    await stage.end();
  });
});
