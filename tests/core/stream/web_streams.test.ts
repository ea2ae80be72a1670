// readable and writable: web streams over a bufferevent, with its watermarks as the only bound.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { compressionFilter } from "../../../core/api/compression.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import { BEV_OPT_CLOSE_ON_FREE, EAGAIN, EV_READ, EV_WRITE, EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { isFreed } from "../bufferevent/rig.ts";
import { nothingLeft, world } from "../loop/harness.ts";
import { join, pattern, portOf, receiveAll, text } from "../socket/pairs.ts";
import { viewStage } from "./view_stage.ts";

describe("readable", () => {
  it("gives the bytes, and closes at the end of file", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const reader = bev.readable.getReader();
    const first = reader.read();
    await stage.peerSends(pattern(1000));
    assertEquals((await stage.run(first)).value, pattern(1000));
    peer.shutdown();
    assertEquals(await stage.run(reader.read()), { done: true, value: undefined });
    await reader.closed;
    await stage.end();
  });

  it("is the same stream until it is cancelled, which loses nothing", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    const stream = bev.readable;
    assertStrictEquals(bev.readable, stream);
    const reader = stream.getReader();
    const first = reader.read();
    await stage.peerSends("first");
    assertEquals(text((await stage.run(first)).value!), "first");
    await stage.peerSends("second");
    await stage.run(reader.cancel());
    assertEquals([bev.input.toString(), bev.enabled], ["second", EV_WRITE]);
    assert(bev.readable !== stream);
    assertEquals(text((await stage.run(bev.readable.getReader().read())).value!), "second");
    await stage.end();
  });

  it("buffers at most the high watermark while nobody reads", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    bev.setWatermark(EV_READ, 0, 1000);
    const reader = bev.readable.getReader();
    await stage.peerSends("x");
    await stage.run(reader.read());
    peer.send(new Uint8Array(60_000));
    await stage.pass(50);
    assertEquals(bev.input.length, 1000);
    let got = 0;
    while (got < 60_000) got += (await stage.run(reader.read())).value!.length;
    assertEquals(got, 60_000);
    await stage.end();
  });

  it("fails with the error of the connection", async () => {
    const stage = await viewStage();
    const reading = stage.rig.bev.readable.getReader().read();
    stage.rig.peer.reset();
    assertEquals(await stage.codeOf(reading), "ECONNRESET");
    await stage.end();
  });

  it("settles closed without another read once all bytes were read, and not before", async () => {
    for (const how of ["finishes", "resets"]) {
      for (const unread of [false, true]) {
        const stage = await viewStage();
        const { bev, peer } = stage.rig;
        const reader = bev.readable.getReader();
        await stage.peerSends("first");
        await stage.run(reader.read());
        if (unread) await stage.peerSends("second");
        let closed = "pending";
        reader.closed.then(() => closed = "finishes", (error: EventError) => closed = error.code);
        if (how === "finishes") peer.shutdown();
        else peer.reset();
        await stage.pass(10);
        if (unread) {
          assertEquals(closed, "pending");
          assertEquals(text((await stage.run(reader.read())).value!), "second");
          await stage.run(reader.read().catch(() => {}));
        }
        assertEquals(closed, how === "finishes" ? "finishes" : "ECONNRESET");
        // Only the view has got the end.
        assertEquals(stage.rig.record.take(), []);
        await stage.end();
      }
    }
  });

  it("fails with the error of the connection even if it is not read", async () => {
    const stage = await viewStage();
    const { bev, peer, record } = stage.rig;
    record.on.event = (bev): void => bev.free();
    bev.enable(EV_READ);
    const reader = bev.readable.getReader();
    const writer = bev.writable.getWriter();
    peer.reset();
    assertEquals(await stage.codeOf(reader.closed), "ECONNRESET");
    assertEquals(await stage.codeOf(writer.closed), "ECONNRESET");
    assertEquals(await stage.codeOf(writer.ready), "ECONNRESET");
    await stage.end();
  });

  it("can be the body of a Response", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const whole = new Response(bev.readable as unknown as ReadableStream<Uint8Array<ArrayBuffer>>).text();
    await stage.peerSends("one ", "two");
    peer.shutdown();
    assertEquals(await stage.run(whole), "one two");
    await stage.end();
  });
});

describe("writable", () => {
  it("sends bytes and texts, and finishes writing when it is closed", async () => {
    const stage = await viewStage();
    const { bev, peer, record } = stage.rig;
    assertStrictEquals(bev.writable, bev.writable);
    const writer = bev.writable.getWriter();
    await stage.run(writer.write("grüße "));
    await stage.run(writer.write(new TextEncoder().encode("all")));
    await stage.run(writer.close());
    await stage.pass(20);
    const { bytes, ended } = receiveAll(peer);
    assertEquals([text(bytes), ended], ["grüße all", true]);
    assert(!isFreed(bev));
    // Reading goes on with the callbacks.
    bev.enable(EV_READ);
    await stage.peerSends("and you");
    assertEquals(record.received.toString(), "and you");
    await stage.end();
  });

  it("waits while the peer does not read, and goes on when it does", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const writer = bev.writable.getWriter();
    let written = 0;
    let most = 0;
    const writing = (async () => {
      for (; written < 64; written++) await writer.write(pattern(50_000, written * 50_000));
      await writer.close();
    })();
    for (let i = 0; i < 50; i++) {
      await stage.pass(10);
      most = Math.max(most, bev.output.length);
    }
    assert(written < 20 && most < 200_000, `${written} writes, ${most} bytes`);
    const got: Uint8Array[] = [];
    for (;;) {
      const { bytes, ended } = receiveAll(peer);
      got.push(bytes);
      if (ended) break;
      await stage.pass(5);
    }
    await stage.run(writing);
    const all = join(got);
    assertEquals(all.length, 64 * 50_000);
    assertEquals(all, pattern(64 * 50_000));
    await stage.end();
  });

  it("is closed when all bytes have left the output, and not before", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const sent = await stage.rig.block();
    const writer = bev.writable.getWriter();
    await stage.run(writer.write("last word"));
    let closed = false;
    const closing = writer.close().then(() => closed = true);
    await stage.pass(50);
    assertEquals([closed, bev.output.length], [false, 9]);
    let got = 0;
    for (let ended = false; !ended;) {
      const received = receiveAll(peer);
      got += received.bytes.length;
      ended = received.ended;
      await stage.pass(5);
    }
    await stage.run(closing);
    assertEquals(got, sent + 9);
    await stage.end();
  });

  it("writes a chunk of any length through a small output", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    bev.maxOutputBytes = 1000;
    const writer = bev.writable.getWriter();
    const writing = writer.write(pattern(200_000));
    const got: Uint8Array[] = [];
    for (let n = 0; n < 200_000; n = got.reduce((sum, bytes) => sum + bytes.length, 0)) {
      assert(bev.output.length <= 1000);
      await stage.pass(2);
      got.push(receiveAll(peer).bytes);
    }
    await stage.run(writing);
    assertEquals(join(got), pattern(200_000));
    await stage.end();
  });

  it("fails with the error of the connection, in a write that waits and afterwards", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const writer = bev.writable.getWriter();
    writer.closed.catch(() => {});
    const writing = (async () => {
      for (;;) await writer.write(new Uint8Array(60_000));
    })();
    await stage.pass(50);
    peer.reset();
    assert(["ECONNRESET", "EPIPE"].includes(await stage.codeOf(writing)));
    assert(["ECONNRESET", "EPIPE"].includes(await stage.codeOf(writer.write("more"))));
    bev.free();
    await stage.end();
  });

  it("loses no piece of a long chunk when a write callback fills the output that it has waited for", async () => {
    const stage = await viewStage();
    const { bev, peer, record } = stage.rig;
    bev.maxOutputBytes = 1000;
    // So that the callback's bytes do not leave before the stream goes on.
    bev.setRateLimit(
      new TokenBucketConfig({ readRate: 1000, readBurst: 1000, writeRate: 1000, writeBurst: 1000, tickMs: 10 }),
    );
    let filled = 0;
    record.on.write = (bev) => {
      if (filled < 20 && bev.write(".".repeat(999))) filled++;
    };
    const writer = bev.writable.getWriter();
    const writing = writer.write("x".repeat(20_000));
    let got = "";
    for (let ms = 0; ms < 1000; ms++) {
      await stage.pass(2);
      got += text(receiveAll(peer).bytes);
    }
    await stage.run(writing);
    assertEquals([got.replaceAll(".", "").length, filled], [20_000, 20]);
    await stage.end();
  });

  it("resets the connection and frees when it is aborted before anything was written", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    await stage.run(bev.writable.abort(new Error("enough")));
    await stage.pass(5);
    assert(isFreed(bev));
    assertEquals((assertThrows(() => peer.recv(new Uint8Array(9)), EventError) as EventError).code, "ECONNRESET");
    await stage.end();
  });

  it("delivers, when it is aborted, each chunk whose write has resolved, and frees at once", async () => {
    for (const pause of [0, 1, 50]) {
      const stage = await viewStage();
      const { bev, peer } = stage.rig;
      const writer = bev.writable.getWriter();
      await stage.run(writer.write("one "));
      await stage.run(writer.write("two"));
      await stage.pass(pause);
      await stage.run(writer.abort(new Error("enough")));
      assert(isFreed(bev));
      await stage.pass(5);
      const { bytes, ended } = receiveAll(peer);
      assertEquals([text(bytes), ended], ["one two", true]);
      // Does not wait for the peer.
      await stage.pass(5100);
      assertEquals(stage.rig.sim.openHandles, 1);
      await stage.end();
    }
  });

  it("delivers accepted chunks to a slow peer when it is aborted, and drops the others", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const sent = await stage.rig.block();
    const writer = bev.writable.getWriter();
    writer.closed.catch(() => {});
    await stage.run(writer.write(new Uint8Array(1000).fill(1)));
    const waiting = writer.write(new Uint8Array(500_000).fill(2));
    const queued = writer.write("never");
    const failed = Promise.allSettled([waiting, queued]);
    await stage.pass(5);
    const reason = new Error("enough");
    await stage.run(writer.abort(reason));
    for (const each of await failed) assertEquals(each, { status: "rejected", reason });
    assert(isFreed(bev));
    const got: Uint8Array[] = [];
    for (let ended = false; !ended;) {
      const received = receiveAll(peer);
      got.push(received.bytes);
      ended = received.ended;
      await stage.pass(5);
    }
    const accepted = join(got).subarray(sent);
    assertEquals(accepted.filter((byte) => byte === 1).length, 1000);
    assert(accepted.length <= 1000 + 65_536, `${accepted.length} bytes`);
    await stage.end();
  });

  it("waits at most 30 s for a peer that takes nothing when it is aborted", async () => {
    for (const limited of [false, true]) {
      const stage = await viewStage();
      const { bev } = stage.rig;
      await stage.rig.block();
      if (limited) {
        bev.setRateLimit(new TokenBucketConfig({ readRate: 10, readBurst: 10, writeRate: 10, writeBurst: 10 }));
      }
      const writer = bev.writable.getWriter();
      await stage.run(writer.write("never read"));
      await stage.run(writer.abort());
      await stage.pass(29_000);
      assertEquals(stage.rig.sim.openHandles, 2);
      await stage.pass(1100);
      assertEquals(stage.rig.sim.openHandles, 1);
      await stage.end();
    }
  });

  it("respects a rate limit when it is aborted", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    bev.setRateLimit(
      new TokenBucketConfig({ readRate: 10, readBurst: 10, writeRate: 10, writeBurst: 10, tickMs: 1000 }),
    );
    const writer = bev.writable.getWriter();
    await stage.run(writer.write("0123456789abcdefghij"));
    await stage.run(writer.abort());
    assert(isFreed(bev));
    await stage.pass(500);
    assertEquals(text(receiveAll(peer).bytes), "0123456789");
    await stage.pass(1000);
    const { bytes, ended } = receiveAll(peer);
    assertEquals([text(bytes), ended], ["abcdefghij", true]);
    peer.close();
    await stage.pass(10);
    await stage.end();
  });

  it("delivers everything if it is aborted during close(), and that close() resolves", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const sent = await stage.rig.block();
    const writer = bev.writable.getWriter();
    await stage.run(writer.write("last word"));
    const closing = writer.close();
    await stage.pass(5);
    await stage.run(writer.abort(new Error("can't wait")));
    await stage.run(closing);
    await stage.run(writer.closed);
    assert(isFreed(bev));
    let got = 0;
    for (let ended = false; !ended;) {
      const received = receiveAll(peer);
      got += received.bytes.length;
      ended = received.ended;
      await stage.pass(5);
    }
    assertEquals(got, sent + 9);
    await stage.end();
  });

  it("delivers accepted chunks if it is aborted before the connection", async () => {
    const { sim, base } = world();
    const listening = await ListeningSocket.listen(sim, { hostname: "127.0.0.1", port: 0 });
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.connect({ hostname: "127.0.0.1", port: portOf(listening) });
    const writer = bev.writable.getWriter();
    await writer.write("early");
    await writer.abort();
    assert(isFreed(bev));
    await sim.advance(10);
    const peer = listening.accept();
    assert(peer !== EAGAIN);
    await sim.advance(10);
    const { bytes, ended } = receiveAll(peer);
    assertEquals([text(bytes), ended], ["early", true]);
    peer.close();
    await listening.close();
    await nothingLeft({ sim, base });
  });

  it("of a pair and of a filter delivers when it is aborted, and does not complete the filter's stream", async () => {
    const { sim, base } = world();
    const [near, far] = bufferEventPair(base);
    far.setWatermark(EV_READ, 0, 4);
    far.enable(EV_READ);
    const writer = near.writable.getWriter();
    await writer.write("more than it wants");
    await writer.abort();
    assertEquals([far.input.toString(), isFreed(near)], ["more than it wants", true]);
    far.free();

    const [below, above] = bufferEventPair(base);
    const filter = compressionFilter(below, "gzip", { flags: BEV_OPT_CLOSE_ON_FREE });
    const packed = filter.writable.getWriter();
    await packed.write("in the compressor");
    await packed.abort();
    assertEquals([isFreed(filter), isFreed(below)], [true, true]);
    const unpacked = compressionFilter(above, "gzip", { flags: BEV_OPT_CLOSE_ON_FREE });
    const looping = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    const chunks = unpacked[Symbol.asyncIterator]();
    assertEquals(text((await sim.run(chunks.next())).value!), "in the compressor");
    const error = await assertRejects(() => sim.run(chunks.next()), EventError) as EventError;
    assertEquals(error.code, "EV_COMPRESSED_TRUNCATED");
    unpacked.free();
    await sim.advance(5);
    base.loopBreak();
    await sim.run(looping);
    await nothingLeft({ sim, base });
  });

  it("fails when the bufferevent is freed or closed; bytes that were written before close() are delivered", async () => {
    for (const how of ["free", "close"] as const) {
      const stage = await viewStage();
      const { bev, peer } = stage.rig;
      const writer = bev.writable.getWriter();
      writer.closed.catch(() => {});
      await stage.run(writer.write("before"));
      const ended = how === "free" ? bev.free() : bev.close();
      assertEquals(await stage.codeOf(writer.write("after")), how === "free" ? "EV_FREED" : "EPIPE");
      await stage.pass(10);
      if (how === "close") assertEquals(text(receiveAll(peer).bytes), "before");
      peer.shutdown();
      await stage.run(Promise.resolve(ended));
      await stage.end();
    }
  });

  it("accepts any kind of view and buffer", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const writer = bev.writable.getWriter();
    const memory = pattern(12).buffer;
    const shared = new SharedArrayBuffer(3);
    new Uint8Array(shared).set([1, 2, 3]);
    const chunks = [
      memory,
      new DataView(memory, 1, 5),
      new Uint16Array(memory, 2, 3),
      new Float64Array(memory, 0, 1),
      new Uint8ClampedArray([9, 8]),
      shared,
      new ArrayBuffer(0),
    ];
    for (const chunk of chunks) await stage.run(writer.write(chunk));
    const long = pattern(200_000);
    const writing = writer.write(long.buffer);
    await stage.pass(20);
    const bytes = pattern(12);
    const expected = [
      bytes,
      bytes.subarray(1, 6),
      bytes.subarray(2, 8),
      bytes.subarray(0, 8),
      new Uint8Array([9, 8, 1, 2, 3]),
    ];
    const got: Uint8Array[] = [];
    for (let n = 0; n < 200_000; n = got.reduce((sum, each) => sum + each.length, 0)) {
      got.push(receiveAll(peer).bytes);
      await stage.pass(2);
    }
    await stage.run(writing);
    got.push(receiveAll(peer).bytes);
    assertEquals(join(got), join([...expected, long]));
    await stage.end();
  });

  it("refuses other chunks with a message, fails with that error, and the bufferevent goes on", async () => {
    const gone = new ArrayBuffer(8);
    structuredClone(gone, { transfer: [gone] });
    const wrong: [chunk: unknown, words: string][] = [
      [7, "the chunk is not a string, a buffer or a view of one: received 7"],
      [null, "received null"],
      [undefined, "received undefined"],
      [[1, 2], "received Array"],
      [{ byteLength: 3, length: 3 }, "received Object"],
      [{ [Symbol.toStringTag]: "ArrayBuffer" }, "received Object"],
      [Symbol("x"), "received Symbol(x)"],
      [gone, "the chunk's memory was transferred: received ArrayBuffer"],
    ];
    for (const [chunk, words] of wrong) {
      const stage = await viewStage();
      const { bev, peer } = stage.rig;
      const writer = bev.writable.getWriter();
      await stage.run(writer.write("before"));
      const closed = writer.closed.then(() => null, (error: unknown) => error);
      const error = await assertRejects(() => stage.run(writer.write(chunk as string)), TypeError, words);
      assert((error as Error).message.startsWith("Cannot write to a stream: "));
      assertStrictEquals(await stage.run(closed), error);
      await assertRejects(() => stage.run(writer.write("after")), TypeError, words);
      assertStrictEquals(bev.getCallbacks(), stage.rig.record.callbacks);
      bev.write(", by hand");
      await stage.pass(5);
      assertEquals(text(receiveAll(peer).bytes), "before, by hand");
      await stage.end();
    }
  });

  it("works with a view at the same time, in both directions", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const piping = bev.readable.pipeTo(bev.writable);
    await stage.peerSends("echo ", "this");
    peer.shutdown();
    await stage.run(piping);
    await stage.pass(10);
    const { bytes, ended } = receiveAll(peer);
    assertEquals([text(bytes), ended], ["echo this", true]);
    await stage.end();
  });
});

describe("a host without web streams", () => {
  it("gets EV_UNSUPPORTED", async () => {
    const stage = await viewStage();
    const globals = globalThis as unknown as { [name: string]: unknown };
    for (const [name, property] of [["ReadableStream", "readable"], ["WritableStream", "writable"]] as const) {
      const own = Object.getOwnPropertyDescriptor(globalThis, name)!;
      Object.defineProperty(globals, name, { configurable: true, writable: true, value: undefined });
      try {
        const error = assertThrows(() => stage.rig.bev[property], EventError) as EventError;
        assertEquals(error.code, "EV_UNSUPPORTED");
      } finally {
        Object.defineProperty(globals, name, own);
      }
    }
    await stage.end();
  });
});
