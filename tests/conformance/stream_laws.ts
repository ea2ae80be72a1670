/**
 * Web streams over connections of serve(), connect() and socketsConnect(): every client ends, every promise settles, and
 * every byte that was accepted arrives. One body for the simulator and every runtime.
 */

import { Duplex } from "node:stream";
import process from "node:process";
import { describe, it } from "./suite.ts";
import { assert, assertEquals, assertRejects, assertStrictEquals } from "./assert.ts";
import {
  type BufferEvent,
  connect,
  EV_READ,
  EV_WRITE,
  EVENT_BASE_COUNT_ADDED,
  EventBase,
  type EventError,
  EVLOOP_NO_EXIT_ON_EMPTY,
  FilterBufferEvent,
  type InetAddress,
  type Runtime,
  serve,
  type ServeCallbacks,
  type ServeOptions,
  type Server,
  type SocketBufferEvent,
  SocketError,
  socketsConnect,
  type SocketsOptions,
  type StreamSocket,
  type TimerToken,
} from "../../core/mod.ts";
import { assertSameBytes, join, noise } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

/** A server, and a record of its connections. */
interface Stage {
  readonly runtime: Runtime;
  readonly server: Server;
  readonly port: number;
  /** The opened connections, and the codes with which they have ended; "" for a clean end. */
  readonly opened: SocketBufferEvent[];
  readonly closed: string[];
  sockets(options?: SocketsOptions): StreamSocket;
  client(): Promise<SocketBufferEvent>;
  until(what: string, holds: () => boolean): Promise<void>;
}

/**
 * Tests one runtime.
 *
 * @param name What it is called in the report
 * @param makeSubject Gives the runtime, a new one for each test or always the same
 */
export function streamLaws(name: string, makeSubject: () => FullSubject): void {
  /** Runs `use` with a server, and fails if something is left or an error was not handled. */
  async function staged(
    callbacks: ServeCallbacks,
    use: (stage: Stage) => Promise<void>,
    options: ServeOptions = {},
  ): Promise<void> {
    const { runtime, run, patienceMs } = makeSubject();
    const unheard: unknown[] = [];
    const hear = (reason: unknown): void => void unheard.push(reason);
    process.on("unhandledRejection", hear);
    try {
      await run(play(runtime, patienceMs, callbacks, use, options));
      await new Promise((resolve) => setTimeout(resolve, 5));
    } finally {
      process.removeListener("unhandledRejection", hear);
    }
    assertEquals(unheard, [], "rejections that nobody hears");
  }

  async function play(
    runtime: Runtime,
    patienceMs: number,
    callbacks: ServeCallbacks,
    use: (stage: Stage) => Promise<void>,
    options: ServeOptions,
  ): Promise<void> {
    const before = runtime.openHandles;
    const base = new EventBase({ runtime });
    const looping = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    const opened: SocketBufferEvent[] = [];
    const closed: string[] = [];
    const errors: unknown[] = [];
    const server = await serve({ base, hostname: "127.0.0.1", port: 0, ...options }, {
      error: (error) => void errors.push(error),
      ...callbacks,
      open(bev) {
        opened.push(bev);
        return callbacks.open?.(bev);
      },
      close(bev, reason) {
        closed.push(reason?.code ?? "");
        callbacks.close?.(bev, reason);
      },
    });
    const { port } = server.address as InetAddress;
    const until = async (what: string, holds: () => boolean): Promise<void> => {
      const deadline = runtime.now() + patienceMs;
      while (!holds()) {
        assert(runtime.now() < deadline, `not in time: ${what}`);
        await new Promise<void>((resolve) => runtime.setTimer(runtime.now() + 5, resolve));
      }
    };
    let late: TimerToken | null = null;
    const limit = new Promise<never>((_, reject) => {
      late = runtime.setTimer(
        runtime.now() + 3 * patienceMs,
        () => reject(new Error(`it hangs: ${closed.length} closed`)),
      );
    });
    const using = use({
      runtime,
      server,
      port,
      opened,
      closed,
      sockets: (more = {}) => socketsConnect({ hostname: "127.0.0.1", port }, { base, ...more }),
      client: () => connect({ base, hostname: "127.0.0.1", port }, { event() {} }),
      until,
    });
    await Promise.race([using, limit]);
    if (late !== null) runtime.clearTimer(late);
    await server.close({ graceMs: 0 });
    await until("every connection is told to be closed", () => closed.length === opened.length);
    base.loopBreak();
    await looping;
    assertEquals([errors, base.numEvents(EVENT_BASE_COUNT_ADDED)], [[], 0]);
    base.free();
    await until("nothing is open", () => runtime.openHandles === before);
    assertEquals(errors, []);
  }

  describe(`web streams on ${name}`, () => {
    for (const how of ["pipeTo()", "Duplex.fromWeb()"] as const) {
      const skip = how === "Duplex.fromWeb()" && makeSubject().missing("Duplex.fromWeb");
      it(
        `of ${how} free a connection when both directions have ended: 200 clients, 20 at a time`,
        { skip },
        () =>
          staged({
            open(bev) {
              if (how === "pipeTo()") void bev.readable.pipeTo(bev.writable);
              else {
                const duplex = duplexOf(bev);
                duplex.pipe(duplex);
              }
            },
          }, async ({ sockets, closed, server, until }) => {
            for (let round = 0; round < 10; round++) {
              await Promise.all(Array.from({ length: 20 }, async (_, i) => {
                const text = `client ${i} of round ${round}`;
                const socket = sockets({ allowHalfOpen: true });
                const writer = socket.writable.getWriter();
                await writer.write(text);
                await writer.close();
                assertEquals(await readAll(socket.readable), text);
                await socket.closed;
              }));
            }
            await until("200 are closed", () => closed.length === 200);
            assertEquals([new Set(closed), server.connections], [new Set([""]), 0]);
          }, { maxConnections: 20 }),
      );
    }

    it("free a connection that ends in either order, with an answer of megabytes after the end of the question", () => {
      const answer = noise(3_000_000, 7);
      return staged({
        async open(bev) {
          const question = await readAll(bev.readable);
          const writer = bev.writable.getWriter();
          if (question === "question") await writer.write(answer);
          await writer.close();
        },
      }, async ({ sockets, closed, until }) => {
        const socket = sockets({ allowHalfOpen: true });
        const writer = socket.writable.getWriter();
        await writer.write("question");
        await writer.close();
        assertSameBytes(join(await chunksOf(socket.readable)), answer, "the answer");
        await socket.closed;
        const other = sockets({ allowHalfOpen: true });
        await other.writable.getWriter().close();
        assertEquals(await readAll(other.readable), "");
        await other.closed;
        await until("both are closed", () => closed.length === 2);
        assertEquals(closed, ["", ""]);
      });
    });

    it("also free a connection of connect() when both directions have ended", () =>
      staged({ open: (bev) => void bev.readable.pipeTo(bev.writable) }, async ({ server, runtime, closed, until }) => {
        const { port } = server.address as InetAddress;
        const before = runtime.openHandles;
        const ends: string[] = [];
        for (const callbacks of [{}, { event() {} }]) {
          const client = await connect({ base: server.base, hostname: "127.0.0.1", port }, {
            ...callbacks,
            close: (_bev, reason) => void ends.push(reason?.code ?? ""),
          });
          const writer = client.writable.getWriter();
          const reading = readAll(client.readable);
          await writer.write("there and back");
          await writer.close();
          assertEquals(await reading, "there and back");
        }
        await until("both ends of both are closed", () => ends.length === 2 && closed.length === 2);
        assertEquals([ends, closed], [["", ""], ["", ""]]);
        await until("their handles are gone", () => runtime.openHandles === before);
      }));

    it("deliver the chunks of resolved writes before abort() ends the connection", () =>
      staged({
        async open(bev) {
          const { value } = await bev.readable.getReader().read();
          const writer = bev.writable.getWriter();
          await writer.write(noise(Number(new TextDecoder().decode(value)), 3));
          await writer.abort(new Error("enough"));
        },
      }, async ({ sockets, closed, until }) => {
        for (const [i, length] of [6, 60_000, 3_000_000].entries()) {
          const socket = sockets();
          await socket.writable.getWriter().write(`${length}`);
          assertSameBytes(join(await chunksOf(socket.readable)), noise(length, 3), `${length} bytes`);
          await socket.closed;
          await until("it is closed", () => closed.length === i + 1);
        }
        assertEquals(new Set(closed), new Set([""]));
      }));

    const noDuplex = makeSubject().missing("Duplex.fromWeb");
    it("deliver the bytes of a Duplex before destroy() ends the connection", { skip: noDuplex }, () =>
      staged({
        async open(bev) {
          const duplex = duplexOf(bev);
          duplex.on("error", () => {});
          const question = await new Promise<Uint8Array>((resolve) => duplex.once("data", resolve));
          const [how = "", length = ""] = new TextDecoder().decode(question).split(" ");
          await new Promise<void>((resolve) => duplex.write(noise(Number(length), 3), () => resolve()));
          if (how === "destroy") duplex.destroy();
          else duplex.destroy(new Error("enough"));
        },
      }, async ({ sockets, closed, until }) => {
        let clients = 0;
        for (const how of ["destroy", "fail"]) {
          for (const length of [6, 60_000, 3_000_000]) {
            const socket = sockets();
            await socket.writable.getWriter().write(`${how} ${length}`);
            assertSameBytes(join(await chunksOf(socket.readable)), noise(length, 3), `${how} ${length}`);
            await socket.closed;
            clients++;
            await until("it is closed", () => closed.length === clients);
          }
        }
        assertEquals(new Set(closed), new Set([""]));
      }));

    it("deliver written bytes and leave the connection open when readable is cancelled", () =>
      staged({
        async open(bev) {
          const reader = bev.readable.getReader();
          await reader.read();
          const writer = bev.writable.getWriter();
          await writer.write("before, ");
          await reader.cancel();
          await writer.write("after");
          await writer.close();
        },
      }, async ({ sockets, closed, until }) => {
        const socket = sockets();
        await socket.writable.getWriter().write("go on");
        assertEquals(await readAll(socket.readable), "before, after");
        await socket.closed;
        await until("it is closed", () => closed.length === 1);
      }));

    it("close when readable is cancelled and writable closed, although the peer goes on sending", () => {
      const ways: ((bev: SocketBufferEvent) => Promise<void>)[] = [
        async (bev) => {
          const writer = bev.writable.getWriter();
          await bev.readable.cancel();
          await writer.write("enough");
          await writer.close();
        },
        async (bev) => {
          const writer = bev.writable.getWriter();
          await writer.write("enough");
          await writer.close();
          await bev.readable.cancel();
        },
      ];
      let opened = 0;
      return staged({
        // The last two do not return their promise to the server.
        open(bev) {
          const way = ways[opened % 2] as (bev: SocketBufferEvent) => Promise<void>;
          const done = way(bev);
          return opened++ < 2 ? done : void done.catch(() => {});
        },
      }, async ({ client, closed, until }) => {
        for (let i = 1; i <= 4; i++) {
          const peer = await client();
          // More than the server's high watermark and the TCP windows of both hosts.
          peer.write(new Uint8Array(10_000_000));
          await until("it has the answer", () => peer.input.length >= 6);
          await until("it is closed", () => closed.length === i);
          peer.reset();
        }
      }, { drainTimeoutMs: 50 });
    });

    it("may be followed by another view, after readable was cancelled and writable closed", () => {
      let text = "";
      async function read(bev: SocketBufferEvent): Promise<void> {
        const reader = bev.readable.getReader();
        await reader.read();
        await reader.cancel();
        const writer = bev.writable.getWriter();
        await writer.write("answer");
        await writer.close();
        for await (const line of bev.lines({ text: true })) text += line;
      }
      return staged({ open: (bev) => void read(bev).catch((error) => void (text = String(error))) }, async (stage) => {
        const peer = await stage.client();
        peer.write("begin");
        await stage.until("it is read", () => peer.output.length === 0);
        await new Promise<void>((resolve) => stage.runtime.setTimer(stage.runtime.now() + 30, resolve));
        peer.write("a\nb\nc\n");
        peer.shutdown();
        await stage.until("it is closed", () => stage.closed.length === 1);
        assertEquals(text, "abc");
      });
    });

    it("leave arriving bytes to a read callback, although readable was cancelled and writable closed", () => {
      let got = "";
      const callbacks = {
        read(bev: BufferEvent): void {
          got += bev.input.toString();
          bev.input.drain(bev.input.length);
        },
      };
      async function cancel(bev: BufferEvent): Promise<void> {
        const reader = bev.readable.getReader();
        await reader.read();
        await reader.cancel();
      }
      async function finish(bev: BufferEvent): Promise<void> {
        const writer = bev.writable.getWriter();
        await writer.write("answer");
        await writer.close();
      }
      function filter(bev: BufferEvent): BufferEvent {
        const above = new FilterBufferEvent(bev, null, null);
        above.enable(EV_READ | EV_WRITE);
        return above;
      }
      const ways: Record<string, (bev: BufferEvent) => Promise<void>> = {
        async "the callback is set before writable is closed"(bev) {
          await cancel(bev);
          bev.setCallbacks(callbacks);
          await finish(bev);
        },
        async "the callback is set when writable has closed"(bev) {
          await cancel(bev);
          await finish(bev);
          bev.setCallbacks(callbacks);
        },
        async "the callback is set again later"(bev) {
          await cancel(bev);
          bev.setCallbacks(callbacks);
          bev.setCallbacks({});
          await finish(bev);
          await Promise.resolve();
          bev.setCallbacks(callbacks);
        },
        async "a filter has it, whose own stream was cancelled"(bev) {
          const above = filter(bev);
          above.setCallbacks(callbacks);
          await cancel(above);
          await finish(above);
        },
        async "a filter has it that was opened later"(bev) {
          await cancel(bev);
          const above = filter(bev);
          above.setCallbacks(callbacks);
          await finish(above);
        },
      };
      let way = "";
      return staged({
        // It does not return its promise to the server, which would delay the callback.
        open(bev) {
          void (ways[way] as (bev: BufferEvent) => Promise<void>)(bev).catch((error) => void (got = String(error)));
        },
      }, async (stage) => {
        for (way of Object.keys(ways)) {
          got = "";
          const before = stage.closed.length;
          const peer = await stage.client();
          peer.write("begin");
          await stage.until("it has the answer", () => peer.input.length >= 6);
          await new Promise<void>((resolve) => stage.runtime.setTimer(stage.runtime.now() + 30, resolve));
          peer.write("more");
          peer.shutdown();
          await stage.until("it is closed", () => stage.closed.length > before);
          assertEquals(got, "more", way);
        }
      });
    });

    it("fail a waiting write and each later write with the error of the connection", () =>
      staged({
        async open(bev) {
          const writer = bev.writable.getWriter();
          const writing = writer.write(new Uint8Array(30_000_000));
          const error = await assertRejects(() => writing) as EventError;
          assert(["ECONNRESET", "EPIPE"].includes(error.code), String(error));
          assertStrictEquals(await assertRejects(() => writer.write("x")), error);
          assertStrictEquals(await assertRejects(() => writer.closed), error);
          assertStrictEquals(await assertRejects(() => writer.ready), error);
        },
      }, async ({ client, closed, until }) => {
        const peer = await client();
        await until("the other end waits", () => peer.input.length > 0);
        peer.reset();
        await until("it is closed", () => closed.length === 1);
        assert(["ECONNRESET", "EPIPE", ""].includes(closed[0] as string), closed[0]);
      }));

    it("accept a chunk of 8 MB while the peer is slow, and very many writes, in order", () => {
      const long = noise(8_000_000, 5);
      const lines = Array.from({ length: 5000 }, (_, i) => `line ${i}\n`);
      return staged({
        async open(bev) {
          const writer = bev.writable.getWriter();
          const writes = [writer.write(long), ...lines.map((line) => writer.write(line))];
          let most = 0;
          const watch = (): void => void (most = Math.max(most, bev.output.length));
          for (const write of writes) {
            await write;
            watch();
          }
          await writer.close();
          assert(most < 1_000_000, `${most} bytes were queued`);
        },
      }, async ({ sockets, runtime, closed, until }) => {
        const socket = sockets();
        const reader = socket.readable.getReader();
        const chunks: Uint8Array[] = [];
        for (;;) {
          const { value } = await reader.read();
          if (value === undefined) break;
          chunks.push(value);
          if (chunks.length % 20 === 0) {
            await new Promise<void>((resolve) => runtime.setTimer(runtime.now() + 1, resolve));
          }
        }
        const all = join(chunks);
        assertSameBytes(all.subarray(0, long.length), long, "the long chunk");
        assertEquals(new TextDecoder().decode(all.subarray(long.length)), lines.join(""));
        await socket.closed;
        await until("it is closed", () => closed.length === 1);
      });
    });

    it("work with tee(), CompressionStream, Response, ReadableStream.from() and for await", () =>
      staged({
        async open(bev) {
          const [how] = await readLine(bev);
          const writer = bev.writable.getWriter();
          await writer.write(`${await used(how as string, bev)}`);
          await writer.close();
        },
      }, async ({ sockets, closed, until }) => {
        const packed = join(
          await chunksOf(
            new Blob([noise(100_000, 9) as Uint8Array<ArrayBuffer>]).stream().pipeThrough(
              new CompressionStream("gzip"),
            ),
          ),
        );
        const cases: [how: string, body: Uint8Array | string, answer: string][] = [
          ["tee", "one and two", "one and two|one and two"],
          ["transform", "upper case", "UPPER CASE"],
          ["unpack", packed, "100000"],
          ["response", "grüße", "grüße"],
          ["from", "a\nb\nc", "a,b,c"],
          ["for await", "to the end", "to the end"],
          ["break", "not to the end", "not to the end"],
        ];
        for (const [how, body, answer] of cases) {
          const socket = sockets({ allowHalfOpen: true });
          const writer = socket.writable.getWriter();
          await writer.write(`${how}\n`);
          await writer.write(body);
          await writer.close();
          assertEquals(await readAll(socket.readable), answer, how);
          await socket.closed;
        }
        await until("all are closed", () => closed.length === cases.length);
        assertEquals(new Set(closed), new Set([""]));
      }));

    it("end after the grace of the server, with an error that is not a failure of the handler", () => {
      const outcomes: string[] = [];
      return staged({
        async open(bev) {
          const settled = await Promise.allSettled([
            bev.readable.getReader().read(),
            bev.writable.getWriter().write(new Uint8Array(30_000_000)),
          ]);
          outcomes.push(...settled.map((each) => each.status === "rejected" ? each.reason.code : each.status));
        },
      }, async ({ client, server, closed, until }) => {
        const peer = await client();
        await until("it is open", () => peer.input.length > 0);
        await server.close({ graceMs: 50 });
        await until("both have settled", () => outcomes.length === 2);
        assertEquals([outcomes.includes("fulfilled"), closed], [false, ["ECANCELED"]]);
        peer.free();
      });
    });
  });

  describe(`socketsConnect() on ${name}`, () => {
    const echo: ServeCallbacks = { read: (bev) => void bev.writeBuffer(bev.input) };

    it("delivers bytes that were written before the connection with close()", () => {
      const got: string[] = [];
      return staged({ read: (bev) => void got.push(bev.input.toString()) }, async ({ sockets, closed, until }) => {
        for (const text of ["seven b", "x".repeat(60_000)]) {
          const socket = sockets();
          await socket.writable.getWriter().write(text);
          await socket.close();
          await until("all has come", () => got.at(-1) === text);
        }
        await until("both are closed", () => closed.length === 2);
        assertEquals(closed, ["", ""]);
      });
    });

    it("notices a reset while nobody reads or writes: closed settles, and a write rejects", () =>
      staged(echo, async ({ sockets, opened, until, runtime }) => {
        const socket = sockets();
        await socket.opened;
        const writer = socket.writable.getWriter();
        await until("it is open", () => opened.length === 1);
        opened[0]!.reset();
        // On a runtime without reset, only a reader sees the end.
        if (runtime.capabilities.reset) {
          await socket.closed;
          const error = await assertRejects(() => writer.write("x"), SocketError) as SocketError;
          assertEquals(error.code, "ECONNRESET");
          await assertRejects(() => writer.closed, SocketError);
        } else await socket.close();
      }));

    it("ends with both directions, and its connection too", () =>
      staged({ open: (bev) => void bev.readable.pipeTo(bev.writable) }, async ({ sockets, closed, until }) => {
        for (const allowHalfOpen of [true, false]) {
          const socket = sockets({ allowHalfOpen });
          const writer = socket.writable.getWriter();
          const reading = readAll(socket.readable);
          await writer.write("there and back");
          await writer.close();
          assertEquals(await reading, "there and back");
          await socket.closed;
        }
        await until("both are closed", () => closed.length === 2);
      }));

    it("rejects all its promises with one reason if connecting fails, without another report", () =>
      staged(echo, async ({ server }) => {
        const { port } = server.address as InetAddress;
        await server.close({ graceMs: 0 });
        const socket = socketsConnect({ hostname: "127.0.0.1", port }, { base: server.base });
        const reader = socket.readable.getReader();
        const writer = socket.writable.getWriter();
        const error = await assertRejects(() => socket.opened, SocketError) as SocketError;
        assertEquals(error.code, "ECONNREFUSED");
        const promises = [socket.closed, reader.closed, reader.read(), writer.closed, writer.ready, writer.write("x")];
        for (const promise of promises) assertStrictEquals(await assertRejects(() => promise), error);
      }));
  });
}

/** The rest of the bytes, as text, read in different ways. */
async function used(how: string, bev: SocketBufferEvent): Promise<string> {
  switch (how) {
    case "tee": {
      const [one, two] = bev.readable.tee();
      return (await Promise.all([readAll(one), readAll(two)])).join("|");
    }
    case "transform": {
      const decoder = new TextDecoder();
      const upper = new TransformStream<Uint8Array, string>({
        transform: (chunk, controller) => controller.enqueue(decoder.decode(chunk).toUpperCase()),
      });
      let text = "";
      for await (const piece of (bev.readable as unknown as ReadableStream<Uint8Array>).pipeThrough(upper)) {
        text += piece;
      }
      return text;
    }
    case "unpack": {
      const stream = bev.readable as unknown as ReadableStream<Uint8Array<ArrayBuffer>>;
      const bytes = join(await chunksOf(stream.pipeThrough(new DecompressionStream("gzip"))));
      assertSameBytes(bytes, noise(100_000, 9), "unpacked");
      return String(bytes.length);
    }
    case "response":
      return await new Response(bev.readable as unknown as ReadableStream<Uint8Array<ArrayBuffer>>).text();
    case "from": {
      const { from } = ReadableStream as unknown as {
        from(lines: AsyncIterable<string>): ReadableStream & AsyncIterable<string>;
      };
      const all: string[] = [];
      for await (const line of from.call(ReadableStream, bev.lines({ text: true }))) all.push(line);
      return all.join();
    }
    case "break": {
      let text = "";
      for (let i = 0; i < 2; i++) {
        // Leaving the loop cancels the stream, and loses nothing.
        for await (const chunk of bev.readable as unknown as AsyncIterable<Uint8Array>) {
          text += new TextDecoder().decode(chunk);
          if (i === 0) break;
        }
      }
      return text;
    }
    default: {
      const chunks: Uint8Array[] = [];
      for await (const chunk of bev.readable as unknown as AsyncIterable<Uint8Array>) chunks.push(chunk);
      return new TextDecoder().decode(join(chunks));
    }
  }
}

async function readLine(bev: SocketBufferEvent): Promise<string[]> {
  for await (const line of bev.lines({ text: true })) return [line];
  return [];
}

function duplexOf(bev: SocketBufferEvent): Duplex {
  const { readable, writable } = bev;
  return Duplex.fromWeb({ readable, writable } as never);
}

async function chunksOf(
  stream: { getReader(): { read(): Promise<{ value?: Uint8Array | undefined }> } },
): Promise<Uint8Array[]> {
  const reader = stream.getReader();
  const chunks: Uint8Array[] = [];
  for (;;) {
    const { value } = await reader.read();
    if (value === undefined) return chunks;
    chunks.push(value);
  }
}

async function readAll(
  stream: { getReader(): { read(): Promise<{ value?: Uint8Array | undefined }> } },
): Promise<string> {
  return new TextDecoder().decode(join(await chunksOf(stream)));
}
