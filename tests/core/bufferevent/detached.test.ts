// Memory that was given to addReference() and then transferred: the connection that was to send it
// fails, and nothing else fails.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { compressionFilter } from "../../../core/api/compression.ts";
import { lfToCrlf } from "../../../core/api/line_endings.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import { BEV_OPT_CLOSE_ON_FREE, EAGAIN, EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { world } from "../loop/harness.ts";
import { pattern, portOf, socketPair } from "../socket/pairs.ts";
import { swapCase } from "./filters.ts";
import { isFreed, rig } from "./rig.ts";
import { Record, Stage } from "./stage.ts";

/** Memory that is in the output of a bufferevent, and is then transferred to another thread. */
function queueLost(bev: BufferEvent, length = 100, onRelease?: () => void): void {
  const memory = pattern(length);
  bev.output.addReference(memory, onRelease);
  structuredClone(memory.buffer, { transfer: [memory.buffer as ArrayBuffer] });
}

const LIMIT = new TokenBucketConfig({ readRate: 1e6, readBurst: 1e6, writeRate: 1e5, writeBurst: 1e5, tickMs: 1 });

describe("output whose memory was transferred", () => {
  it("ends its connection with EV_DETACHED, and resets the peer; the loop and the others go on", async () => {
    for (const reads of [false, true]) {
      for (const limited of [false, true]) {
        const [made, other] = [await rig(), await rig()];
        const { bev, peer, record } = made;
        if (reads) bev.enable(EV_READ);
        if (limited) bev.setRateLimit(LIMIT);
        bev.write("before");
        queueLost(bev);
        bev.write("behind");
        other.bev.write("others");
        const calls = await made.during(20);
        assertEquals(calls.includes(reads ? "event READING|ERROR" : "event WRITING|ERROR"), true, calls.join());
        assertEquals([...new Set(record.errors.map((error) => error?.code))], ["EV_DETACHED"]);
        assertEquals([peer.error?.code, bev.socket?.error?.code], ["ECONNRESET", "EV_DETACHED"]);
        await other.during(5);
        assertEquals(other.peerReceives(), "others");
        await other.end();
        await made.end();
      }
    }
  });

  it("has the same effect if it waited for a slow peer, or was released by a callback", async () => {
    const made = await rig();
    const { bev, record } = made;
    await made.block();
    let released = 0;
    const memory = pattern(100_000);
    bev.output.addReference(memory, () => released++);
    assertEquals(await made.during(10), []);
    structuredClone(memory.buffer, { transfer: [memory.buffer as ArrayBuffer] });
    for (let i = 0; i < 30 && record.errors.length === 0; i++) {
      made.peerTakes();
      await made.sim.run(Promise.resolve());
      made.base.loopExit(1);
      await made.sim.run(made.base.dispatch());
    }
    assertEquals([record.errors[0]?.code, released], ["EV_DETACHED", 0]);
    record.take();
    bev.free();
    assertEquals(released, 1);
    await made.end();
  });

  it("makes close() give false, with and without a loop or a limit, and while connecting", async () => {
    for (const limited of [false, true]) {
      for (const connecting of [false, true]) {
        const { sim, base } = world();
        const listening = await ListeningSocket.listen(sim, { hostname: "127.0.0.1", port: 0 });
        const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
        if (limited) bev.setRateLimit(LIMIT);
        bev.connect({ hostname: "127.0.0.1", port: portOf(listening) });
        if (!connecting) await sim.advance(10);
        bev.write("before");
        queueLost(bev, 20_000);
        const begin = sim.now();
        assertEquals([await sim.run(bev.close()), isFreed(bev)], [false, true]);
        assert(sim.now() - begin < 100, `it took ${sim.now() - begin} ms`);
        await sim.advance(5);
        const peer = listening.accept();
        if (peer !== EAGAIN) {
          assertEquals(peer.error?.code, "ECONNRESET");
          peer.close();
        }
        await listening.close();
        await sim.advance(6000);
        assertEquals([sim.openHandles, sim.pending], [0, 0]);
      }
    }
  });

  for (
    const [name, make] of Object.entries({
      "a null filter": (below: BufferEvent) => new FilterBufferEvent(below, null, null, BEV_OPT_CLOSE_ON_FREE),
      "a filter that reads": (below: BufferEvent) =>
        new FilterBufferEvent(below, null, swapCase, BEV_OPT_CLOSE_ON_FREE),
      "lfToCrlf()": (below: BufferEvent) => new FilterBufferEvent(below, null, lfToCrlf(), BEV_OPT_CLOSE_ON_FREE),
      "compressionFilter()": (below: BufferEvent) => compressionFilter(below, "gzip", { flags: BEV_OPT_CLOSE_ON_FREE }),
    })
  ) {
    for (const kind of ["socket", "pair"]) {
      it(`above ${name} over a ${kind} is reported once as EV_DETACHED, and close() gives false`, async () => {
        for (const length of [100, 100_000]) {
          for (const closes of [false, true]) {
            const stage = new Stage();
            let far: { close(): unknown } | undefined;
            let below: BufferEvent;
            if (kind === "pair") {
              const { a, b } = stage.pair();
              b.setCallbacks(null);
              b.enable(EV_READ);
              below = a;
              far = { close: () => b.free() };
            } else {
              const [socket, peer] = await socketPair(stage.sim);
              below = new SocketBufferEvent(stage.base, socket, BEV_OPT_CLOSE_ON_FREE);
              far = peer;
            }
            const top = make(below);
            const log = new Record();
            top.setCallbacks(log.of("top"));
            top.write("before");
            queueLost(top, length);
            if (closes) assertEquals(await stage.sim.run(top.close({ timeoutMs: 1000 })), false);
            else {
              await stage.during(50);
              assertEquals(log.lines.filter((line) => line.includes("ERROR")), ["top event WRITING|ERROR"]);
              assertEquals(log.errors.map((error) => error?.code), ["EV_DETACHED"]);
            }
            far.close();
            await stage.end(top);
          }
        }
      });
    }
  }

  it("of a pair is reported at the end that wrote it; when that end is freed, the other gets a reset", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    a.write("before");
    queueLost(a);
    b.setWatermark(EV_READ, 0, 6);
    b.enable(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["b read 6", "a event WRITING|ERROR"]);
    assertEquals([log.errors.at(-1)?.code, a.enabled], ["EV_DETACHED", 0]);
    a.enable(EV_WRITE);
    await stage.settle();
    assertEquals(log.take(), ["a event WRITING|ERROR"]);
    a.free();
    await stage.settle();
    assertEquals([log.take(), log.errors.at(-1)?.code], [["b event READING|ERROR"], "ECONNRESET"]);
    await stage.end(b);
  });

  it("makes Socket.sendBuffer() throw before it takes anything, and fails a later send() if it was queued", async () => {
    const { sim } = world();
    const [socket, peer] = await socketPair(sim);
    const buffer = new EvBuffer();
    const memory = pattern(100);
    buffer.addReference(memory);
    structuredClone(memory.buffer, { transfer: [memory.buffer as ArrayBuffer] });
    const codeOf = (fn: () => unknown): string => (assertThrows(fn, EventError) as EventError).code;
    assertEquals([codeOf(() => socket.sendBuffer(buffer)), buffer.length], ["EV_DETACHED", 100]);
    assertEquals(socket.send(Uint8Array.of(1)), 1);
    const queued = pattern(60_000);
    while (socket.send(new Uint8Array(65_536)) !== EAGAIN) await sim.advance(0);
    const into = new Uint8Array(100_000);
    for (let sent: number = EAGAIN; sent === EAGAIN; await sim.advance(1)) {
      peer.recv(into);
      const more = new EvBuffer();
      more.addReference(queued);
      sent = socket.sendBuffer(more);
    }
    structuredClone(queued.buffer, { transfer: [queued.buffer as ArrayBuffer] });
    for (let ms = 0; ms < 100 && socket.error === null; ms++) {
      peer.recv(into);
      await sim.advance(1);
    }
    assertEquals([socket.error?.code, codeOf(() => socket.send(into))], ["EV_DETACHED", "EV_DETACHED"]);
    socket.close();
    peer.close();
    await sim.advance(6000);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });
});

describe("input whose memory was transferred", () => {
  it("makes its reader throw EV_DETACHED; the connection can be freed, and the others go on", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.enable(EV_READ);
    bev.setCallbacks(null);
    peer.send(pattern(5000));
    await made.during(5);
    const view = bev.input.pullup(-1)!;
    structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
    peer.send(pattern(10));
    await made.during(5);
    assertEquals(bev.input.length, 5010);
    const error = assertThrows(() => bev.input.readln(1), EventError) as EventError;
    assertEquals(error.code, "EV_DETACHED");
    bev.input.drain(5000);
    assertEquals(bev.input.toUint8Array(), pattern(10));
    await made.end();
  });
});
