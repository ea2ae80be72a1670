// readable and writable: web streams over a bufferevent, with its watermarks as the only bound.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { isFreed } from "../bufferevent/rig.ts";
import { join, pattern, receiveAll, text } from "../socket/pairs.ts";
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

  it("takes no more than the high watermark while nobody reads", async () => {
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

  it("goes where streams go", async () => {
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
  it("sends bytes and texts, and finishes our direction when it is closed", async () => {
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
    // Reading goes on, by the callbacks that were set.
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

  it("is closed when all was handed on, and not before", async () => {
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

  it("takes a chunk of any length through a small output", async () => {
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

  it("cuts the connection and frees when it is aborted", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    await stage.run(bev.writable.abort(new Error("enough")));
    await stage.pass(5);
    assert(isFreed(bev));
    assertEquals((assertThrows(() => peer.recv(new Uint8Array(9)), EventError) as EventError).code, "ECONNRESET");
    await stage.end();
  });

  it("fails when the bufferevent is freed or closed, and what was written before close() is delivered", async () => {
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

  it("refuses other chunks, and goes on", async () => {
    const stage = await viewStage();
    const writer = stage.rig.bev.writable.getWriter();
    writer.closed.catch(() => {});
    await assertRejects(() => stage.run(writer.write(7 as unknown as string)), TypeError);
    assertStrictEquals(stage.rig.bev.getCallbacks(), stage.rig.record.callbacks);
    await stage.end();
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
