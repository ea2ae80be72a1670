/**
 * Web streams of the runtime with those of a connection: after each way of using them, the
 * connection is freed.
 */

import { once } from "node:events";
import { connect as netConnect, type Socket } from "node:net";
import { after, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { connect, detectRuntime, type EventError, serve, type SocketBufferEvent } from "../../mod.ts";
import { dataOf, nothingLeft, over as overOf, pause, sha, until } from "./others.ts";

const host = detectRuntime();
const DATA = dataOf(3_000_000, 101);

/** An action of the server on a connection, and the expected result of the client. */
interface Case {
  readonly does: (bev: SocketBufferEvent) => unknown;
  /** The bytes that the client sends before it finishes. */
  readonly sends?: Uint8Array;
  /** The checksum of all bytes that the client gets; undefined if it does not matter. */
  readonly gets?: string;
}

const upper = (): TransformStream<Uint8Array, Uint8Array> =>
  new TransformStream({ transform: (chunk, to) => to.enqueue(chunk.map((byte) => byte ^ 0x20)) });
const flipped = sha(DATA.map((byte) => byte ^ 0x20));
const web = (bev: SocketBufferEvent): ReadableStream<Uint8Array> =>
  bev.readable as unknown as ReadableStream<Uint8Array>;
const sink = (bev: SocketBufferEvent): WritableStream<Uint8Array> =>
  bev.writable as unknown as WritableStream<Uint8Array>;
/** Ways to write that must fail. */
const quietly = (promise: Promise<unknown>): void => void promise.catch(() => {});

const CASES: Readonly<Record<string, Case>> = {
  "pipeTo(), waited for": { does: async (bev) => await web(bev).pipeTo(sink(bev)), sends: DATA, gets: sha(DATA) },
  "pipeTo(), not waited for": { does: (bev) => void web(bev).pipeTo(sink(bev)), sends: DATA, gets: sha(DATA) },
  "pipeThrough()": { does: (bev) => void web(bev).pipeThrough(upper()).pipeTo(sink(bev)), sends: DATA, gets: flipped },
  "pipeThrough() of the runtime's gzip and back": {
    does: (bev) =>
      void web(bev).pipeThrough(new CompressionStream("gzip") as never)
        .pipeThrough(new DecompressionStream("gzip") as never).pipeTo(sink(bev)),
    sends: DATA,
    gets: sha(DATA),
  },
  "tee(), both branches": {
    async does(bev) {
      const [a, b] = web(bev).tee();
      const counting = new Response(b).arrayBuffer();
      await a.pipeTo(sink(bev));
      assertEquals((await counting).byteLength, DATA.length);
    },
    sends: DATA,
    gets: sha(DATA),
  },
  "Response(readable)": {
    async does(bev) {
      const bytes = new Uint8Array(await new Response(web(bev)).arrayBuffer());
      bev.write(sha(bytes));
      await bev.close();
    },
    sends: DATA,
    gets: sha(sha(DATA)),
  },
  "the body of a Response": {
    does: (bev) => void new Response(DATA).body!.pipeTo(sink(bev)),
    sends: new Uint8Array(),
    gets: sha(DATA),
  },
  "a reader that is cancelled before the first read, and close()": {
    async does(bev) {
      await bev.readable.cancel("no");
      bev.write("bye");
      await bev.close();
    },
    sends: DATA,
    gets: sha("bye"),
  },
  "a reader that is cancelled in the middle, and close()": {
    async does(bev) {
      const reader = bev.readable.getReader();
      await reader.read();
      await reader.cancel("enough");
      bev.write("bye");
      await bev.close();
    },
    sends: DATA,
    gets: sha("bye"),
  },
  "cancel() of one branch of tee() and the end of the other": {
    async does(bev) {
      const [a, b] = web(bev).tee();
      quietly(a.cancel());
      await b.pipeTo(sink(bev));
    },
    sends: DATA,
    gets: sha(DATA),
  },
  "a writer that is aborted before the first write": {
    does: (bev) => quietly(bev.writable.abort("no")),
  },
  "a writer that is aborted behind writes that have resolved": {
    async does(bev) {
      const writer = bev.writable.getWriter();
      for (let i = 0; i < 3; i++) await writer.write(DATA.subarray(0, 10_000));
      quietly(writer.abort("enough"));
    },
    gets: sha(DATA.subarray(0, 10_000), DATA.subarray(0, 10_000), DATA.subarray(0, 10_000)),
  },
  "pipeTo() that is aborted in the middle, and close()": {
    async does(bev) {
      const controller = new AbortController();
      setTimeout(() => controller.abort("enough"), 20);
      await web(bev).pipeTo(new WritableStream({ write: () => pause(5) }), { signal: controller.signal }).catch(
        () => {},
      );
      await bev.close();
    },
    sends: DATA,
    gets: sha(),
  },
  "pipeTo() into a sink that fails, and close()": {
    async does(bev) {
      await web(bev).pipeTo(
        new WritableStream({
          write() {
            throw new Error("full");
          },
        }),
      ).catch(() => {});
      await bev.close();
    },
    sends: DATA,
    gets: sha(),
  },
  "pipeTo() from a source that fails": {
    does: (bev) =>
      quietly(
        new ReadableStream<Uint8Array>({
          async pull(controller) {
            controller.enqueue(DATA.subarray(0, 1000));
            await pause(5);
            controller.error(new Error("empty"));
          },
        }).pipeTo(sink(bev)),
      ),
  },
  "cancel() while a read waits, and close()": {
    async does(bev) {
      const reader = bev.readable.getReader();
      const waiting = reader.read();
      await pause(5);
      await reader.cancel("no");
      assertEquals((await waiting).done, true);
      bev.write("bye");
      await bev.close();
    },
    gets: sha("bye"),
  },
  "cancel() behind the end, and close of the writer": {
    async does(bev) {
      const reader = bev.readable.getReader();
      while (!(await reader.read()).done) { /* All bytes are read. */ }
      await reader.cancel("late");
      const writer = bev.writable.getWriter();
      await writer.write("bye");
      await writer.close();
    },
    sends: DATA,
    gets: sha("bye"),
  },
  "cancel() of both branches of tee(), and close()": {
    async does(bev) {
      const [a, b] = web(bev).tee();
      await Promise.all([a.cancel("no"), b.cancel("no")]);
      bev.write("bye");
      await bev.close();
    },
    sends: DATA,
    gets: sha("bye"),
  },
  "a Response whose body is cancelled, and close()": {
    async does(bev) {
      await new Response(web(bev)).body!.cancel("no");
      bev.write("bye");
      await bev.close();
    },
    sends: DATA,
    gets: sha("bye"),
  },
  "pipeThrough() of a transform that fails, and close()": {
    async does(bev) {
      const broken = new TransformStream<Uint8Array, Uint8Array>({
        transform() {
          throw new Error("broken");
        },
      });
      let failure = "";
      await web(bev).pipeThrough(broken).pipeTo(sink(bev)).catch((error: Error) => failure = error.message);
      assertEquals(failure, "broken");
      await bev.close().catch(() => {});
    },
    sends: DATA,
  },
  "a writer that is aborted while a write waits": {
    async does(bev) {
      const writer = bev.writable.getWriter();
      const waiting = writer.write(dataOf(30_000_000, 141));
      waiting.catch(() => {});
      await pause(5);
      quietly(writer.abort("enough"));
      await waiting.catch(() => {});
    },
  },
  "a writer that is aborted behind its close": {
    async does(bev) {
      const writer = bev.writable.getWriter();
      await writer.write("bye");
      await writer.close();
      quietly(writer.abort("late"));
      await bev.readable.cancel("no");
    },
    // Nothing stays unread. Otherwise the connection ends only after its input has stalled for 60
    // s.
    sends: new Uint8Array(),
    gets: sha("bye"),
  },
  "for await, broken off, and close()": {
    async does(bev) {
      for await (const _chunk of web(bev) as unknown as AsyncIterable<Uint8Array>) break;
      await bev.close();
    },
    sends: DATA,
    gets: sha(),
  },
};

describe(`web streams on ${host.name}`, () => {
  after(() => nothingLeft());

  for (const [name, { does, sends, gets }] of Object.entries(CASES)) {
    it(`are freed after ${name}`, async () => {
      const reasons: (EventError | undefined)[] = [];
      const failures: unknown[] = [];
      const server = await serve({ hostname: "127.0.0.1", port: 0, handlerTimeoutMs: 20_000 }, {
        open: (bev) => does(bev) as void,
        close: (_bev, reason) => void reasons.push(reason),
        error: (error) => void failures.push(error),
      });
      const socket: Socket = netConnect({ port: server.port!, host: "127.0.0.1", allowHalfOpen: true });
      const over = overOf(socket);
      const chunks: Uint8Array[] = [];
      // The client stalls for a while.
      await Promise.race([once(socket, "connect"), over]).catch(() => {});
      if (sends !== undefined) socket.end(sends);
      await pause(30);
      socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
      await over;
      socket.destroy();
      await until(() => reasons.length === 1);
      assertEquals([reasons.length, server.connections, failures], [1, 0, []]);
      if (gets !== undefined) assertEquals(sha(...chunks), gets);
      await server.close();
      await nothingLeft();
    });
  }

  it("buffer little while the other end stalls, in both directions", async () => {
    let taken = 0;
    const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
      async open(bev) {
        const writer = bev.writable.getWriter();
        for (; taken < 40_000_000; taken += 100_000) await writer.write(new Uint8Array(100_000));
        await writer.close();
      },
    });
    const client = await connect({ hostname: "127.0.0.1", port: server.port });
    await pause(300);
    assert(taken < 20_000_000, `${taken} bytes were taken`);
    assert(client.input.length <= 1_000_000, `${client.input.length} bytes wait`);
    let length = 0;
    const writing = client.writable.close();
    for await (const chunk of client.readable as unknown as AsyncIterable<Uint8Array>) length += chunk.length;
    await writing;
    assertEquals(length, 40_000_000);
    await server.close();
    await nothingLeft();
  });
});
