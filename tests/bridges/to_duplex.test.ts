/** `toDuplex()` by itself: its behaviour for users of Node's streams, and actions of the peer. */

import { once } from "node:events";
import { connect as netConnect, createServer, type Socket as NetSocket } from "node:net";
import { Duplex, finished as finishedBack, PassThrough, Transform } from "node:stream";
import { finished, pipeline } from "node:stream/promises";
import { after, describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type BufferEventDuplex, toDuplex } from "../../bridges/duplex.ts";
import {
  bufferEventPair,
  compressionFilter,
  connect,
  connectNow,
  detectRuntime,
  EventBase,
  type EventError,
  serve,
  type Server,
  simRuntime,
  type SocketBufferEvent,
} from "../../mod.ts";
import { checksumOf, dataOf, nothingLeft, over, pause, sha, until, within } from "./others.ts";

const host = detectRuntime();

/** A server whose connections are streams, and a plain socket that is connected to it. */
async function scene(
  onStream: (stream: BufferEventDuplex, bev: SocketBufferEvent) => unknown,
  options: { allowHalfOpen?: boolean } = {},
): Promise<
  { server: Server; socket: NetSocket; reasons: (EventError | undefined)[] }
> {
  const reasons: (EventError | undefined)[] = [];
  const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
    open: (bev) => onStream(toDuplex(bev, options), bev) as void,
    close: (_bev, reason) => void reasons.push(reason),
  });
  const socket = netConnect({
    port: server.port!,
    host: "127.0.0.1",
    allowHalfOpen: true,
  });
  socket.on("error", () => {});
  await within("the connection", once(socket, "connect"));
  return { server, socket, reasons };
}

/** The emitted events, in order. */
function eventsOf(stream: Duplex): string[] {
  const names: string[] = [];
  for (
    const name of ["connect", "end", "finish", "error", "close", "timeout"]
  ) {
    stream.on(
      name,
      (error?: { code?: string }) =>
        void names.push(
          error?.code === undefined ? name : `${name}:${error.code}`,
        ),
    );
  }
  return names;
}

describe(`toDuplex() on ${host.name}`, () => {
  after(() => nothingLeft());

  it("is a Duplex, and carries bytes both ways with its addresses", async () => {
    const data = dataOf(5_000_000);
    let seen: unknown[] = [];
    const { server, socket } = await scene((stream) => {
      seen = [
        stream instanceof Duplex,
        stream.remoteAddress,
        stream.remotePort,
        stream.remoteFamily,
      ];
      seen.push(
        stream.localAddress,
        stream.localPort,
        stream.connecting,
        stream.encrypted,
        stream.readyState,
      );
      seen.push(stream.address());
      stream.pipe(stream);
    });
    socket.end(data);
    assertEquals(await checksumOf(socket), {
      sha: sha(data),
      length: data.length,
    });
    const { port } = server;
    assertEquals(seen, [
      ...[
        true,
        "127.0.0.1",
        seen[2],
        "IPv4",
        "127.0.0.1",
        port,
        false,
        false,
        "open",
      ],
      { address: "127.0.0.1", family: "IPv4", port },
    ]);
    assert(typeof seen[2] === "number" && seen[2] !== port);
    await server.close();
    await nothingLeft();
  });

  it("closes the connection when both directions have ended, without a callback", async () => {
    const { server, socket, reasons } = await scene((stream) => void stream.resume().end("bye"));
    socket.end();
    assertEquals((await checksumOf(socket)).length, 3);
    await until(() => reasons.length === 1);
    assertEquals([reasons, server.connections], [[undefined], 0]);
    await server.close();
  });

  it("ends our direction after the peer's, unless allowHalfOpen is set", async () => {
    for (const allowHalfOpen of [false, true]) {
      let answered: Promise<void> | undefined;
      const { server, socket } = await scene((stream) => {
        stream.resume().on("end", () => {
          if (allowHalfOpen) {
            answered = pause(30).then(() => void stream.end("late"));
          }
        });
      }, { allowHalfOpen });
      socket.end("question");
      assertEquals((await checksumOf(socket)).length, allowHalfOpen ? 4 : 0);
      await answered;
      await server.close({ graceMs: 2000 });
    }
  });

  it("loses no bytes accepted by write() when it is destroyed, however the peer stalls", async () => {
    const parts = Array.from({ length: 40 }, (_, i) => dataOf(50_000, i + 1));
    const { server, socket } = await scene((stream) => {
      for (const part of parts) stream.write(part);
      stream.cork();
      stream.write("last");
      stream.destroy();
      assert(stream.destroyed);
    });
    await pause(100);
    assertEquals((await checksumOf(socket)).sha, sha(...parts, "last"));
    socket.end();
    await server.close();
  });

  it("passes as many bytes as possible to the system when it is destroyed with an error, and then resets", async () => {
    const { server, socket } = await scene((stream) => {
      stream.on("error", () => {});
      stream.once("data", () => {
        stream.write("HTTP/1.1 400 Bad Request\r\n\r\n");
        stream.destroy(new Error("bad request"));
      });
    });
    socket.write("?");
    let text = "";
    const answered = new Promise<void>((resolve) => socket.on("end", resolve).on("close", () => resolve()));
    socket.on("data", (chunk) => text += chunk);
    await answered;
    assertEquals(text, "HTTP/1.1 400 Bad Request\r\n\r\n");
    socket.destroy();
    await server.close();

    let ended = false;
    const big = await scene((stream) => {
      stream.on("error", () => ended = true);
      stream.once("data", () => {
        for (let i = 0; i < 200; i++) stream.write(new Uint8Array(100_000));
        stream.destroy(new Error("no more"));
      });
    });
    // A reset may be reported before a read. After data, Node 20 does not report that it was a
    // reset.
    const over = new Promise<void>((resolve) => big.socket.on("end", resolve).on("close", () => resolve()));
    big.socket.write("?");
    let length = 0;
    await until(() => ended);
    assertEquals(big.server.connections, 0);
    big.socket.on("data", (chunk) => length += chunk.length);
    await over;
    assert(length < 20_000_000, `${length} bytes`);
    big.socket.destroy();
    await big.server.close();
  });

  it("reports a failure once, as an error and a close, and not at all if the program ends it", async () => {
    let stream: BufferEventDuplex | undefined;
    let names: string[] = [];
    const { server, socket } = await scene((made) => {
      stream = made;
      names = eventsOf(made);
      made.resume();
    });
    socket.write("x");
    await until(() => stream !== undefined && stream.bytesRead > 0);
    socket.resetAndDestroy();
    await until(() => names.includes("close"));
    await pause(20);
    assertEquals(names, ["error:ECONNRESET", "close"]);
    await server.close();

    const second = await scene((made, bev) => {
      names = eventsOf(made);
      setTimeout(() => bev.free(), 10);
    });
    await until(() => names.includes("close"));
    await pause(10);
    assertEquals(names, ["close"]);
    second.socket.destroy();
    await second.server.close();
  });

  it("can be awaited by a handler: open may be async", async () => {
    const data = dataOf(300_000);
    const { server, socket, reasons } = await scene(async (stream) => {
      await pipeline(stream, new PassThrough(), stream);
    }, { allowHalfOpen: true });
    socket.end(data);
    assertEquals((await checksumOf(socket)).sha, sha(data));
    await until(() => reasons.length === 1);
    assertEquals(reasons, [undefined]);
    await server.close();
  });

  it("can be made before the connection", async () => {
    const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
      read: (bev) => void bev.writeBuffer(bev.input),
    });
    const stream = toDuplex(
      connectNow({ hostname: "127.0.0.1", port: server.port }),
    );
    const names = eventsOf(stream);
    assertEquals([
      stream.connecting,
      stream.pending,
      stream.readyState,
      stream.remoteAddress,
      stream.address(),
    ], [
      ...[true, true, "opening", undefined],
      {},
    ]);
    stream.setKeepAlive(true, 1000).setNoDelay(true);
    stream.write("early ");
    await within("the connection", once(stream, "connect"));
    assertEquals([stream.connecting, stream.remotePort], [false, server.port]);
    stream.end("late");
    let text = "";
    for await (const chunk of stream) text += chunk;
    assertEquals(text, "early late");
    await until(() => names.includes("close"));
    assertEquals(names.filter((name) => name !== "finish"), [
      "connect",
      "end",
      "close",
    ]);
    await server.close();
  });

  it("reports once why it could not connect", async () => {
    const unused = createServer();
    await new Promise<void>((resolve) => unused.listen(0, "127.0.0.1", resolve));
    const { port } = unused.address() as { port: number };
    await new Promise((resolve) => unused.close(resolve));
    let reason: EventError | undefined;
    const bev = connectNow({ hostname: "127.0.0.1", port }, {
      close: (_bev, error) => reason = error,
    });
    const stream = toDuplex(bev);
    const names = eventsOf(stream);
    stream.write("never");
    await until(() => reason !== undefined && names.includes("close"));
    assertEquals([names, reason?.code], [
      ["error:ECONNREFUSED", "close"],
      "ECONNREFUSED",
    ]);
  });

  it("accepts connect() of a driver, although it is connected", async () => {
    const server = await serve({ hostname: "127.0.0.1", port: 0 }, {});
    const stream = toDuplex(
      await connect({ hostname: "127.0.0.1", port: server.port }),
    );
    let called = 0;
    stream.connect(5432, "nowhere", () => called++);
    await within("the connection", once(stream, "connect"));
    assertEquals(called, 1);
    stream.destroy();
    await server.close();
  });

  it("pushes one chunk for each read, even if it is small", async () => {
    const { server, socket } = await scene((stream) => {
      stream.pipe(
        new Transform({
          highWaterMark: 1,
          transform: (chunk, _encoding, done) => void setTimeout(() => done(null, chunk), 1),
        }),
      ).pipe(stream);
    }, { allowHalfOpen: true });
    const sending = (async () => {
      for (let i = 0; i < 50; i++) {
        socket.write(`${i};`);
        await pause(1);
      }
      socket.end();
    })();
    let text = "";
    for await (const chunk of socket) text += chunk;
    await sending;
    assertEquals(text, Array.from({ length: 50 }, (_, i) => `${i};`).join(""));
    await server.close();
  });

  it("bounds memory both ways while the other side stalls", async () => {
    let stream: BufferEventDuplex | undefined;
    let taken = 0;
    const { server, socket } = await scene((made) => {
      stream = made;
      const more = (): void => {
        while (taken < 64_000_000 && made.write(new Uint8Array(64_000))) {
          taken += 64_000;
        }
        taken += 64_000;
      };
      made.on("drain", more);
      more();
    });
    for (let i = 0; i < 300; i++) socket.write(new Uint8Array(64_000));
    await pause(300);
    const bev = stream!.bufferEvent;
    const held = bev.input.length + bev.output.length + stream!.readableLength +
      stream!.writableLength;
    assert(held < 1_500_000, `${held} bytes are held`);
    assert(taken < 20_000_000, `${taken} bytes were taken`);
    socket.on("data", () => {});
    stream!.on("data", () => {});
    await until(() => stream!.bytesRead === 300 * 64_000);
    assertEquals(stream!.bytesRead, 300 * 64_000);
    stream!.destroy();
    socket.destroy();
    await server.close();
  });

  it("emits timeout after silence, again only after a byte, and ends nothing", async () => {
    const sim = simRuntime();
    let stream: BufferEventDuplex | undefined;
    let fired = 0;
    const server = await sim.run(serve({ runtime: sim, port: 80 }, {
      open(bev) {
        stream = toDuplex(bev);
        stream.resume().setTimeout(60, () => fired++);
      },
    }));
    const client = await sim.run(connect({ runtime: sim, port: 80 }));
    await sim.advance(1);
    assertEquals(stream!.timeout, 60);
    for (let i = 0; i < 6; i++) {
      client.write("x");
      await sim.advance(55);
    }
    assertEquals(fired, 0);
    await sim.advance(10);
    assertEquals(fired, 1);
    stream!.on("timeout", () => fired++);
    await sim.advance(1000);
    assertEquals(fired, 1);
    stream!.write("x");
    await sim.advance(70);
    assertEquals([fired, stream!.destroyed], [2, false]);
    stream!.setTimeout(0);
    assertEquals(stream!.timeout, undefined);
    client.write("x");
    await sim.advance(1000);
    assertEquals(fired, 2);
    stream!.destroy();
    await sim.run(client.close());
    await sim.run(server.close());
    assertEquals(sim.openHandles, 0);
  });

  it("works with finished(), async iteration and an early break", async () => {
    let ended: Promise<void> | undefined;
    const { server, socket, reasons } = await scene((stream) => {
      ended = finished(stream);
      stream.resume().end("x");
    });
    socket.resume().end("y");
    await over(socket);
    await within("finished()", ended!);
    await server.close();

    let failure: unknown;
    const broken = await scene((stream) => {
      finishedBack(stream, (error) => failure = error ?? "none");
      (async () => {
        for await (const _chunk of stream) break;
      })();
    });
    broken.socket.resume().write("x");
    await until(() => failure !== undefined);
    // Runtimes report different errors.
    assert(
      ["ABORT_ERR", "ERR_STREAM_PREMATURE_CLOSE"].includes(
        (failure as { code: string }).code,
      ),
      `${failure}`,
    );
    broken.socket.destroy();
    await until(() => broken.server.connections === 0);
    assertEquals([broken.server.connections, reasons], [0, [undefined]]);
    await broken.server.close();
  });

  it("fails a pipeline with the reason of the connection", async () => {
    let reason: unknown;
    let opened: BufferEventDuplex | undefined;
    const { server, socket } = await scene(async (stream) => {
      opened = stream;
      await pipeline(stream, new PassThrough(), stream).catch((error) => reason = error);
    });
    socket.write("x");
    await until(() => opened !== undefined && opened.bytesRead > 0);
    socket.resetAndDestroy();
    await until(() => reason !== undefined);
    assertEquals((reason as EventError).code, "ECONNRESET");
    await server.close();
  });

  it("refuses values that are not a bufferevent and one that is in use, and refuses other readers", async () => {
    const base = new EventBase();
    const [near, far] = bufferEventPair(base);
    const stream = toDuplex(near);
    assertThrows(
      () => toDuplex(near),
      Error,
      "Cannot make a Duplex: a Duplex over it has the bytes",
    );
    await assertRejects(
      () => near.lines().next(),
      Error,
      "a Duplex over it has the bytes",
    );
    assertThrows(() => toDuplex({} as never), TypeError, "not a BufferEvent");
    assertThrows(
      () => toDuplex(far, { half: true } as never),
      TypeError,
      "half",
    );
    far.free();
    assertThrows(() => toDuplex(far), Error, "freed");
    stream.destroy();
    base.free();
  });

  it("works on a pair, on a stack of filters, and on the simulator", async () => {
    const sim = simRuntime();
    const server = await sim.run(serve({ runtime: sim, port: 80 }, {
      open: (bev) => {
        const stream = toDuplex(compressionFilter(bev, "gzip"), {
          allowHalfOpen: true,
        });
        stream.pipe(stream);
      },
    }));
    const client = await sim.run(connect({ runtime: sim, port: 80 }));
    const stream = toDuplex(compressionFilter(client, "gzip"), {
      allowHalfOpen: true,
    });
    const data = dataOf(400_000);
    stream.end(data);
    const reading = checksumOf(stream);
    assertEquals((await sim.run(reading)).sha, sha(data));
    await sim.run(server.close());
    assertEquals(sim.openHandles, 0);

    const base = new EventBase();
    const [near, far] = bufferEventPair(base);
    const done = base.dispatch();
    const [a, b] = [toDuplex(near), toDuplex(far)];
    a.end(data);
    assertEquals((await checksumOf(b)).sha, sha(data));
    b.end();
    a.resume();
    await done;
  });
});
