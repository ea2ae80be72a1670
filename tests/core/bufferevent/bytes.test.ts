// bytesRead and bytesWritten: exact on every kind of bufferevent, however it ends.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { BEV_OPT_CLOSE_ON_FREE, EV_READ, EV_WRITE, EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { compressionFilter } from "../../../core/api/compression.ts";
import { pipe } from "../../../core/api/pipe.ts";
import { connect, connectNow, serve, type ServeOptions } from "../../../core/serve/serve.ts";
import type { ConnectOptions } from "../../../core/runtime.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { socketPair } from "../socket/pairs.ts";

const BIG = 1_000_000;

function counts(bev: BufferEvent): [read: number, written: number] {
  return [bev.bytesRead, bev.bytesWritten];
}

/** A client and the server's end, whose input nobody drains. */
async function ends(
  sim: SimRuntime,
  serving: ServeOptions = {},
  connecting: ConnectOptions = {},
): Promise<{ client: SocketBufferEvent; there: SocketBufferEvent; close(): Promise<void> }> {
  let there: SocketBufferEvent | undefined;
  const server = await sim.run(serve({ runtime: sim, port: 0, readHigh: 0, ...serving }, {
    open: (bev) => void (there = bev),
    read() {},
  }));
  const client = await sim.run(connect({ runtime: sim, port: server.port, readHigh: 0, ...connecting }, { read() {} }));
  await sim.advance(10);
  return { client, there: there as SocketBufferEvent, close: () => sim.run(server.close({ graceMs: 0 })) };
}

describe("bytesRead and bytesWritten of a socket", () => {
  it("are exact for large and small amounts, in both directions, before and after the end", async () => {
    const sim = simRuntime({ faults: { segmentCut: 0.5 } });
    const { client, there, close } = await ends(sim);
    assertEquals([...counts(client), ...counts(there)], [0, 0, 0, 0]);
    client.write(new Uint8Array(BIG));
    for (let i = 0; i < 100; i++) there.write("x");
    await sim.advance(1_000);
    assertEquals([...counts(client), ...counts(there)], [100, BIG, BIG, 100]);
    there.input.drain(5);
    there.input.prepend("unread");
    client.write("last");
    assertEquals(await sim.run(client.close()), true);
    assertEquals([...counts(client), ...counts(there)], [100, BIG + 4, BIG + 4, 100]);
    await close();
    assertEquals([...counts(client), ...counts(there)], [100, BIG + 4, BIG + 4, 100]);
  });

  it("are plain bytes with TLS, and go on through startTls()", async () => {
    const sim = simRuntime();
    const tls = { cert: "localhost signed by us", key: "a key" };
    const secure = await ends(sim, { tls }, { tls: { ca: "us", serverName: "localhost" } });
    secure.client.write(new Uint8Array(50_000));
    await sim.advance(100);
    assertEquals([secure.client.bytesWritten, secure.there.bytesRead], [50_000, 50_000]);
    await secure.close();
    const { client, there, close } = await ends(sim);
    client.write("before");
    await sim.advance(10);
    there.input.drain(6);
    there.startTls(tls);
    client.startTls({ ca: "us", serverName: "localhost" });
    client.write("behind it");
    await sim.advance(100);
    assertEquals([counts(client), counts(there), there.tls !== undefined], [[0, 15], [15, 0], true]);
    await close();
  });

  it("do not count dropped bytes, but count bytes that a slow peer has not read yet", async () => {
    const sim = simRuntime();
    const { client, there, close } = await ends(sim);
    there.disable(EV_READ);
    client.write(new Uint8Array(BIG));
    await sim.advance(1_000);
    assertEquals([there.bytesRead, client.bytesWritten + client.output.length], [0, BIG]);
    const written = client.bytesWritten;
    client.reset();
    await sim.advance(10);
    assertEquals([client.bytesWritten, there.bytesRead], [written, 0]);
    await close();
    assertEquals(there.bytesRead, 0);
  });

  it("are 0 before the connection, and then include bytes that were written before it", async () => {
    const sim = simRuntime();
    const server = await sim.run(serve({ runtime: sim, port: 0 }, { read: (bev) => bev.output.addBuffer(bev.input) }));
    const bev = connectNow({ runtime: sim, port: server.port }, { read() {} });
    bev.write("hello");
    assertEquals(counts(bev), [0, 0]);
    await sim.advance(20);
    assertEquals(counts(bev), [5, 5]);
    bev.free();
    await sim.run(server.close());
  });

  it("go on over several sockets, without the bytes that a socket has carried before", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    void base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    const [a, b] = await socketPair(sim);
    const [c, d] = await socketPair(sim);
    a.send("early");
    await sim.advance(5);
    const into = new Uint8Array(10);
    b.recv(into);
    const bev = new SocketBufferEvent(base, a, BEV_OPT_CLOSE_ON_FREE);
    const far = new SocketBufferEvent(base, b, BEV_OPT_CLOSE_ON_FREE);
    bev.enable(EV_READ);
    far.enable(EV_READ);
    assertEquals([...counts(bev), ...counts(far)], [0, 0, 0, 0]);
    bev.write("one");
    far.write("three");
    await sim.advance(5);
    assertEquals([...counts(bev), ...counts(far)], [5, 3, 3, 5]);
    bev.setSocket(c);
    bev.write("seven");
    d.send("x");
    await sim.advance(5);
    assertEquals(counts(bev), [6, 8]);
    bev.setSocket(null);
    assertEquals(counts(bev), [6, 8]);
    a.close();
    c.close();
    d.close();
    far.free();
    bev.free();
    assertEquals(counts(bev), [6, 8]);
  });

  it("are the same whether a program reads by callbacks, a view or a pipe", async () => {
    const sim = simRuntime();
    const { client, there, close } = await ends(sim, { readHigh: 1_000 });
    const [near, far] = bufferEventPair(there.base);
    far.enable(EV_READ | EV_WRITE);
    void pipe(there, near).catch(() => {});
    client.write(new Uint8Array(20_000));
    await sim.advance(200);
    assertEquals([there.bytesRead, near.bytesWritten, far.bytesRead], [20_000, 20_000, 20_000]);
    far.write(new Uint8Array(700));
    await sim.advance(50);
    assertEquals([far.bytesWritten, near.bytesRead, there.bytesWritten, client.bytesRead], [700, 700, 700, 700]);
    await close();
  });
});

describe("bytesRead and bytesWritten of a pair and a filter", () => {
  it("are exact for a pair, up to a high watermark and beyond free()", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    void base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    const [near, far] = bufferEventPair(base);
    far.setWatermark(EV_READ, 0, 10);
    far.enable(EV_READ);
    near.write(new Uint8Array(25));
    await sim.advance(5);
    assertEquals([counts(near), counts(far)], [[0, 10], [10, 0]]);
    far.input.drain(10);
    await sim.advance(5);
    assertEquals([counts(near), counts(far)], [[0, 20], [20, 0]]);
    near.free();
    far.free();
    assertEquals([counts(near), counts(far)], [[0, 20], [20, 0]]);
  });

  it("are the bytes that a filter has consumed and produced, in both directions", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    void base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    const [near, far] = bufferEventPair(base);
    const doubling = (
      source: { remove(into: Uint8Array): number; length: number },
      to: { add(b: Uint8Array): void },
    ) => {
      const bytes = new Uint8Array(source.length);
      source.remove(bytes);
      to.add(bytes);
      to.add(bytes);
      return 0;
    };
    const filter = new FilterBufferEvent(near, doubling, doubling, BEV_OPT_CLOSE_ON_FREE);
    filter.enable(EV_READ);
    far.enable(EV_READ);
    filter.write("abc");
    far.write("12345");
    await sim.advance(5);
    assertEquals([counts(filter), counts(near), counts(far)], [[10, 3], [5, 6], [6, 5]]);
    filter.free();
    assertEquals([counts(filter), counts(near)], [[10, 3], [5, 6]]);
  });

  it("are plain bytes over a compression filter, up to the last one", async () => {
    const sim = simRuntime();
    const { client, there, close } = await ends(sim);
    const packed = compressionFilter(client, "gzip");
    const unpacked = compressionFilter(there, "gzip");
    unpacked.setCallbacks({ read: (bev) => bev.input.drain(bev.input.length) });
    unpacked.enable(EV_READ);
    packed.write(new Uint8Array(BIG));
    void packed.close();
    await sim.advance(200);
    assertEquals([packed.bytesWritten, unpacked.bytesRead], [BIG, BIG]);
    assertEquals(client.bytesWritten, there.bytesRead);
    await close();
  });
});
