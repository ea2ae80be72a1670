// The limits and timeouts of serve() and connect(), and their effects; lines.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import type { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_EVENT_WRITING,
  EV_READ,
  EVBUFFER_EOL_LF,
} from "../../../core/flags.ts";
import { sleep } from "../../../core/api/sleep.ts";
import { Socket } from "../../../core/api/socket.ts";
import { connect, serve, type ServeCallbacks, type ServeOptions, type Server } from "../../../core/serve/serve.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { pattern, portOf, receiveAll, text } from "../socket/pairs.ts";

interface Scene {
  sim: SimRuntime;
  server: Server;
  client(): Promise<Socket>;
  /** The calls of the server's `event`, if it has one. */
  told: string[];
  /** Closes everything, and fails if something is left. */
  end(...sockets: Socket[]): Promise<void>;
}

async function scene(options: ServeOptions, callbacks: ServeCallbacks): Promise<Scene> {
  const sim = simRuntime({ maxSteps: 1_000_000 });
  const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0, ...options }, callbacks);
  return {
    sim,
    server,
    told: [],
    async client(): Promise<Socket> {
      const socket = Socket.connect(sim, { port: portOf(server) });
      await sim.advance(5);
      return socket;
    },
    async end(...sockets): Promise<void> {
      for (const socket of sockets) socket.close();
      await sim.run(server.close());
      await sim.advance(6_000);
      assertEquals([sim.openHandles, sim.pending], [0, 0]);
    },
  };
}

const TOO_LONG = BEV_EVENT_READING | BEV_EVENT_ERROR;

describe("the line callback", () => {
  /** A server that answers each line with its length, and a record of its callbacks. */
  async function lineServer(options: ServeOptions): Promise<Scene> {
    const told: string[] = [];
    const made = await scene(options, {
      line: (bev, line) => {
        told.push(text(line));
        bev.write(`${line.length}\n`);
      },
      event: (bev, what, error) => {
        told.push(`${what} ${error?.code}`);
        bev.close();
      },
    });
    made.told = told;
    return made;
  }

  it("gets each line without its terminator, however it arrives, and an unterminated last line at the end", async () => {
    const made = await lineServer({});
    const client = await made.client();
    for (const piece of ["GET /\r", "\nHost: x\n\nlast", " one"]) {
      client.send(piece);
      await made.sim.advance(5);
    }
    assertEquals(made.told, ["GET /", "Host: x", ""]);
    client.shutdown();
    await made.sim.advance(5);
    assertEquals(made.told.slice(3), ["last one", `${BEV_EVENT_READING | BEV_EVENT_EOF} undefined`]);
    assertEquals(text(receiveAll(client).bytes), "5\n7\n0\n8\n");
    await made.end(client);
  });

  it("supports another style", async () => {
    const made = await lineServer({ eol: EVBUFFER_EOL_LF });
    const client = await made.client();
    client.send("a\r\nb\n");
    await made.sim.advance(5);
    assertEquals(made.told, ["a\r", "b"]);
    await made.end(client);
  });

  it("is not called for a line longer than maxLine: EV_LINE_TOO_LONG is reported, after the lines before it", async () => {
    for (const ending of ["", "\n"]) {
      const made = await lineServer({ maxLine: 5 });
      const client = await made.client();
      client.send(`12345\r\n123456${ending}`);
      await made.sim.advance(5);
      assertEquals(made.told, ["12345", `${TOO_LONG} EV_LINE_TOO_LONG`]);
      await made.end(client);
    }
  });

  it("ends the connection at a line that is too long if there is no event callback", async () => {
    const made = await scene({ maxLine: 5 }, { line: (bev, line) => void bev.write(line) });
    const client = await made.client();
    client.send("123456");
    await made.sim.advance(5);
    assertEquals([receiveAll(client).ended, made.server.connections], [true, 0]);
    await made.end(client);
  });

  it("accepts the longest allowed line, at any allowed high watermark", async () => {
    for (const options of [{ maxLine: 100_000 }, { maxLine: 1000, readHigh: 1002 }, { maxLine: 1000, readHigh: 0 }]) {
      const made = await lineServer(options);
      const client = await made.client();
      const line = pattern(options.maxLine).map((byte) => 97 + byte % 26);
      for (let at = 0; at < line.length;) {
        const n = client.send(line.subarray(at));
        if (n > 0) at += n;
        await made.sim.advance(2);
      }
      client.send("\r\n");
      await made.sim.advance(50);
      assertEquals([made.told[0]?.length, made.told.length], [options.maxLine, 1]);
      await made.end(client);
    }
  });

  it("may free or close the connection, or change its callbacks, which then get the rest", async () => {
    for (const how of ["free", "close", "change"] as const) {
      const lines: string[] = [];
      const made = await scene({}, {
        line: (bev, line) => {
          lines.push(text(line));
          if (how === "free") bev.free();
          else if (how === "close") bev.close();
          else {
            bev.setCallbacks({
              read: (bev) => {
                lines.push(`raw ${bev.input.toString()}`);
                bev.input.drain(bev.input.length);
              },
            });
          }
        },
      });
      const client = await made.client();
      client.send("one\ntwo\nthree\n");
      await made.sim.advance(5);
      assertEquals(lines, how === "change" ? ["one", "raw two\nthree\n"] : ["one"]);
      client.close();
      await made.sim.advance(5);
      for (const bev of made.server) bev.free();
      await made.end();
    }
  });

  it("that throws ends only its own connection", async () => {
    const lines: string[] = [];
    const errors: unknown[] = [];
    const failure = new Error("in the callback");
    const made = await scene({}, {
      line: (_, line) => {
        lines.push(text(line));
        if (lines.length === 1) throw failure;
      },
      error: (error) => void errors.push(error),
    });
    const [first, second] = [await made.client(), await made.client()];
    first.send("one\ntwo\n");
    await made.sim.advance(5);
    second.send("three\nfour\n");
    await made.sim.advance(5);
    assertEquals([lines, errors, first.error?.code], [["one", "three", "four"], [failure], "ECONNRESET"]);
    await made.end(first, second);
  });

  it("works for clients too", async () => {
    const made = await scene({}, { open: (bev) => void bev.write("hello\r\nworld\r\n") });
    const lines: string[] = [];
    const callbacks = {
      line(this: unknown, _: SocketBufferEvent, line: Uint8Array): void {
        lines.push(text(line));
      },
    };
    const bev = await made.sim.run(connect({ runtime: made.sim, port: portOf(made.server) }, callbacks));
    await made.sim.advance(5);
    assertEquals(lines, ["hello", "world"]);
    const closing = bev.close();
    await made.end();
    assertEquals(await made.sim.run(closing), true);
  });

  it("cannot be combined with read, and its options are checked at once", async () => {
    const sim = simRuntime();
    const at = { runtime: sim, hostname: "127.0.0.1", port: 0 };
    await assertRejects(() => serve(at, { read: () => {}, line: () => {} }), TypeError);
    await assertRejects(() => connect({ ...at, port: 1 }, { read: () => {}, line: () => {} }), TypeError);
    for (const options of [{ maxLine: -1 }, { maxLine: 1.5 }, { eol: 99 }, { maxLine: 100, readHigh: 101 }]) {
      await assertRejects(() => serve({ ...at, ...options }, { line: () => {} }), RangeError);
    }
    await sim.advance(1);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });
});

describe("limits of connections", () => {
  it("maxConnectionsPerAddress resets further connections from one address, and counts them", async () => {
    const sim = simRuntime();
    const server = await serve({ runtime: sim, hostname: "0.0.0.0", port: 0, maxConnectionsPerAddress: 2 }, {});
    const [near, far] = [sim.host("near"), sim.host("far")];
    const connectFrom = (host: SimRuntime | typeof near): Socket =>
      Socket.connect(host, { hostname: "10.0.0.1", port: portOf(server) });
    const sockets = [connectFrom(near), connectFrom(near), connectFrom(near), connectFrom(far), connectFrom(far)];
    await sim.advance(10);
    assertEquals([server.connections, server.rejected, sockets.map((each) => each.error?.code)], [
      4,
      1,
      [undefined, undefined, "ECONNRESET", undefined, undefined],
    ]);
    // When one leaves, another one is accepted.
    sockets[0]!.close();
    await sim.advance(10);
    sockets.push(connectFrom(near), connectFrom(near));
    await sim.advance(10);
    assertEquals([server.connections, server.rejected], [4, 2]);
    for (const socket of sockets) socket.close();
    await sim.run(server.close());
    await sim.advance(6000);
    assertEquals([sim.openHandles, near.openHandles, far.openHandles, sim.pending], [0, 0, 0, 0]);
  });

  it("maxConnectionsPerAddress does not apply to a path", async () => {
    const sim = simRuntime();
    const server = await serve({ runtime: sim, path: "/run/app", maxConnectionsPerAddress: 1 }, {});
    const sockets = [0, 1, 2].map(() => Socket.connect(sim, { path: "/run/app" }));
    await sim.advance(10);
    assertEquals([server.connections, server.rejected], [3, 0]);
    for (const socket of sockets) socket.close();
    await sim.run(server.close());
    await sim.advance(6000);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("are checked at once", async () => {
    const sim = simRuntime();
    for (const name of ["maxConnections", "maxConnectionsPerAddress"]) {
      for (const count of [0, -1, NaN]) {
        await assertRejects(() => serve({ runtime: sim, port: 0, [name]: count }, {}), RangeError, name);
      }
    }
    assertEquals(sim.openHandles, 0);
  });

  it("the server can be iterated: its connections, in order", async () => {
    const opened: SocketBufferEvent[] = [];
    const made = await scene({}, { open: (bev) => void opened.push(bev) });
    const clients = [await made.client(), await made.client()];
    assertEquals([...made.server].length, 2);
    for (const [i, bev] of [...made.server].entries()) assertStrictEquals(bev, opened[i]);
    await made.end(...clients);
  });
});

describe("the limit of output", () => {
  it("maxOutputBytes applies to each connection; beyond it ENOBUFS is reported, and without an event callback it is freed", async () => {
    const flood: ServeCallbacks = {
      open(bev) {
        for (let i = 0; i < 100; i++) {
          if (bev.write(pattern(10_000))) continue;
          if (bev.output.length + 10_000 > bev.maxOutputBytes) return void bev.write(pattern(10_000));
        }
      },
    };
    const made = await scene({ maxOutputBytes: 200_000 }, flood);
    const client = await made.client();
    assertEquals([made.server.connections, receiveAll(client).ended], [0, true]);
    await made.end(client);
    const told: string[] = [];
    const other = await scene({ maxOutputBytes: 200_000 }, {
      ...flood,
      event: (_, what, error) => void told.push(`${what} ${error?.code}`),
    });
    const slow = await other.client();
    assertEquals([told, other.server.connections], [[`${BEV_EVENT_WRITING | BEV_EVENT_ERROR} ENOBUFS`], 1]);
    let count = 0;
    for (let ms = 0; ms < 200; ms++) {
      count += receiveAll(slow).bytes.length;
      await other.sim.advance(1);
    }
    assertEquals(count, 200_000, "queued output is delivered");
    slow.close();
    await other.sim.advance(5);
    for (const bev of other.server) bev.free();
    await other.end();
  });
});

describe("the line callback at the end of the stream", () => {
  it("gets no empty line after the last terminator if lines wait when the end arrives", async () => {
    for (const sent of ["one\r\ntwo\r\n", "one\r\ntwo"]) {
      const lines: string[] = [];
      const made = await scene({}, {
        // They wait for more bytes than arrive.
        open: (bev) => bev.setWatermark(EV_READ, 1000, 0),
        line: (_bev, line) => void lines.push(text(line)),
      });
      const client = await made.client();
      client.send(sent);
      client.shutdown();
      await made.sim.advance(100);
      assertEquals(lines, ["one", "two"]);
      await made.end(client);
    }
  });
});

describe("a view of a connection whose output is full", () => {
  for (const how of ["reset", "free", "failure"] as const) {
    it(`settles after the end of the peer, by ${how}`, async () => {
      const told: string[] = [];
      const made = await scene({ writeHigh: 1000 }, {
        async open(bev) {
          for await (const chunk of bev) {
            told.push(`${chunk.length} bytes`);
            // The peer has ended before the output becomes full.
            await sleep(5, { base: bev.base });
            bev.write(new Uint8Array(500_000));
            if (how !== "failure") bev[how]();
          }
          told.push("over");
        },
      });
      const client = await made.client();
      client.send("hello");
      client.shutdown();
      await made.sim.advance(10);
      if (how === "failure") client.reset();
      await made.sim.advance(1000);
      assertEquals([told, made.server.connections], [["5 bytes", "over"], 0]);
      await made.end(client);
    });
  }
});

describe("timeouts of connections", () => {
  it("idleTimeoutMs ends a silent connection, not one that reads or writes", async () => {
    const made = await scene({ idleTimeoutMs: 100 }, { read: (bev) => bev.writeBuffer(bev.input) });
    const [idle, busy] = [await made.client(), await made.client()];
    for (let i = 0; i < 5; i++) {
      busy.send("x");
      await made.sim.advance(50);
    }
    assertEquals([receiveAll(idle).ended, text(receiveAll(busy).bytes), made.server.connections], [true, "xxxxx", 1]);
    await made.end(idle, busy);
  });

  it("idleTimeoutMs is reported to an event callback", async () => {
    const told: string[] = [];
    const made = await scene({ idleTimeoutMs: 100 }, {
      event: (bev, what, error) => {
        told.push(`${what} ${error?.code}`);
        bev.free();
      },
    });
    const client = await made.client();
    await made.sim.advance(200);
    assertEquals(told, [`${BEV_EVENT_READING | BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT} ETIMEDOUT`]);
    await made.end(client);
  });

  it("idleTimeoutMs of a server with TLS begins when the handshake is done", async () => {
    const told: string[] = [];
    const made = await scene({ idleTimeoutMs: 100, tls: { cert: "localhost signed by us", key: "a key" } }, {
      open: () => void told.push(`open at ${made.sim.now()}`),
      close: (_bev, reason) => void told.push(`${reason?.code} at ${made.sim.now()}`),
    });
    const client = await made.sim.run(connect({ runtime: made.sim, port: portOf(made.server) }));
    await made.sim.advance(80);
    client.startTls({ ca: "us", serverName: "localhost" });
    await made.sim.advance(300);
    assertEquals(told, ["open at 85", "ETIMEDOUT at 185"]);
    await client.close();
    await made.end();
  });

  it("idleTimeoutMs of a client begins when it is connected", async () => {
    const made = await scene({}, {});
    const told: number[] = [];
    const begin = made.sim.now();
    const bev = await made.sim.run(
      connect({ runtime: made.sim, port: portOf(made.server), idleTimeoutMs: 100 }, {
        event: (bev) => {
          told.push(made.sim.now() - begin);
          bev.free();
        },
      }),
    );
    assertEquals(bev.enabled, 6);
    await made.sim.advance(300);
    assertEquals(told, [102]);
    await made.end();
  });

  it("drainTimeoutMs limits the end of a connection, and is the default grace of close()", async () => {
    const made = await scene({ drainTimeoutMs: 50 }, { read: (bev) => void bev.write("bye") });
    const client = await made.client();
    client.send("x");
    await made.sim.advance(5);
    const begin = made.sim.now();
    await made.sim.run(made.server.close());
    assertEquals(made.sim.now() - begin, 50);
    await made.sim.advance(5);
    assertEquals(client.error?.code, "ECONNRESET");
    await made.end(client);
    // A peer that has finished but does not read queued output.
    const options = { drainTimeoutMs: 50, readWhileFull: true };
    const other = await scene(options, { open: (bev) => void bev.write(pattern(1_000_000)) });
    const deaf = await other.client();
    deaf.shutdown();
    await other.sim.advance(40);
    assertEquals(other.server.connections, 1);
    await other.sim.advance(30);
    assertEquals(other.server.connections, 0);
    await other.end(deaf);
    await assertRejects(() => serve({ runtime: other.sim, port: 0, drainTimeoutMs: -1 }, {}), RangeError);
  });
});

describe("a signal", () => {
  it("closes the server when it is aborted", async () => {
    const controller = new AbortController();
    const made = await scene({ signal: controller.signal, drainTimeoutMs: 20 }, {});
    const client = await made.client();
    controller.abort();
    await made.sim.advance(50);
    assertEquals([client.error?.code, made.server.connections], ["ECONNRESET", 0]);
    await made.end(client);
  });

  it("aborted before rejects with ECANCELED and the reason, and is forgotten by a server that was closed", async () => {
    const sim = simRuntime();
    const signal = AbortSignal.abort("before");
    const error = await assertRejects(() => serve({ runtime: sim, port: 0, signal }, {}), EventError) as EventError;
    assertEquals([error.code, error.cause, sim.openHandles], ["ECANCELED", "before", 0]);
    const listeners = new Set<() => void>();
    const counting = {
      aborted: false,
      addEventListener: (_: "abort", fn: () => void) => void listeners.add(fn),
      removeEventListener: (_: "abort", fn: () => void) => void listeners.delete(fn),
    };
    const server = await serve({ runtime: sim, port: 0, signal: counting }, {});
    assert(listeners.size === 1);
    await sim.run(server.close());
    assertEquals(listeners.size, 0);
  });
});
