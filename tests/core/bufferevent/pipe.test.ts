// pipe(): two bufferevents coupled both ways.

import { describe, it } from "node:test";
import fc from "fast-check";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { type BufferEvent, coreOf } from "../../../core/api/bufferevent.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import type { BufferEventFilter } from "../../../core/bufferevent/filter_run.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { pipe, type PipeOptions, type PipeResult } from "../../../core/api/pipe.ts";
import type { SocketCore } from "../../../core/bufferevent/socket_core.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_FINISHED,
  BEV_NEED_MORE,
  BEV_OK,
  BEV_OPT_CLOSE_ON_FREE,
  EAGAIN,
  EV_READ,
  EV_WRITE,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { type SimOptions, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { pattern, socketPair, text } from "../socket/pairs.ts";
import { isFreed } from "./rig.ts";

/** left ↔ a, piped to b ↔ right. */
class Scene {
  readonly sim: SimRuntime;
  readonly base: EventBase;
  a!: SocketBufferEvent;
  b!: SocketBufferEvent;
  left!: Peer;
  right!: Peer;
  /** The result of the pipe, or the code or reason of its failure. */
  outcome: PipeResult | string | undefined;

  private constructor(options: SimOptions) {
    this.sim = simRuntime({ maxSteps: 2_000_000, ...options });
    this.base = new EventBase({ runtime: this.sim });
  }

  static async make(options: SimOptions = {}): Promise<Scene> {
    const scene = new Scene(options);
    const [a, left] = await socketPair(scene.sim);
    const [b, right] = await socketPair(scene.sim);
    scene.a = new SocketBufferEvent(scene.base, a, BEV_OPT_CLOSE_ON_FREE);
    scene.b = new SocketBufferEvent(scene.base, b, BEV_OPT_CLOSE_ON_FREE);
    scene.left = new Peer(left);
    scene.right = new Peer(right);
    return scene;
  }

  pipe(options?: PipeOptions, a: BufferEvent = this.a, b: BufferEvent = this.b): this {
    pipe(a, b, options).then((result) => this.outcome = result, (error) => {
      this.outcome = error instanceof EventError ? (error as EventError).code : String(error);
    });
    return this;
  }

  async during(ms: number): Promise<void> {
    this.base.loopExit(ms);
    await this.sim.run(this.base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
  }

  async end(): Promise<void> {
    this.left.socket.close();
    this.right.socket.close();
    await this.during(10);
    assert(isFreed(this.a) && isFreed(this.b), "both are freed");
    assertEquals(this.base.numEvents(EVENT_BASE_COUNT_ADDED), 0, "events");
    await this.sim.advance(6000);
    assertEquals([this.sim.openHandles, this.sim.pending], [0, 0]);
  }
}

/** The far end of a connection. */
class Peer {
  readonly socket: Socket;
  readonly received: EvBuffer = new EvBuffer();
  ended = false;
  /** Bytes to send as soon as there is space. */
  readonly queue: EvBuffer = new EvBuffer();

  constructor(socket: Socket) {
    this.socket = socket;
  }

  /** Sends what it can. */
  send(data: Uint8Array | string = ""): void {
    this.queue.add(data);
    if (this.queue.length > 0 && this.socket.error === null) this.socket.sendBuffer(this.queue);
  }

  /** Takes up to this number of bytes. */
  take(most: number = Infinity): void {
    let left = most;
    while (left > 0 && !this.ended && this.socket.error === null) {
      const n = this.socket.recvBuffer(this.received, Math.min(left, 65_536));
      if (n === EAGAIN) return;
      if (n === 0) this.ended = true;
      left -= n;
    }
  }

  text(): string {
    this.take();
    const all = this.received.toString();
    this.received.drain(this.received.length);
    return all;
  }
}

describe("pipe()", () => {
  it("carries bytes both ways, and resolves with their numbers when both directions are done", async () => {
    const scene = (await Scene.make()).pipe();
    scene.left.send("GET /");
    await scene.during(10);
    scene.right.send("200 OK");
    await scene.during(10);
    assertEquals([scene.right.text(), scene.left.text(), scene.outcome], ["GET /", "200 OK", undefined]);
    scene.left.socket.shutdown();
    await scene.during(10);
    assertEquals([scene.right.text(), scene.right.ended, scene.left.ended], ["", true, false]);
    scene.right.send("one more");
    await scene.during(10);
    assertEquals([scene.left.text(), scene.outcome], ["one more", undefined], "the other direction goes on");
    scene.right.socket.shutdown();
    await scene.during(10);
    scene.left.take();
    assertEquals([scene.left.ended, scene.outcome], [true, { bytesAToB: 5, bytesBToA: 14 }]);
    await scene.end();
  });

  it("queues at most 256 KiB and one read for a peer that does not read, and loses nothing", async () => {
    const scene = (await Scene.make()).pipe();
    const { a, b, left, right } = scene;
    const all = pattern(3_000_000);
    left.queue.add(all);
    for (let ms = 0; ms < 500; ms++) {
      left.send();
      await scene.during(1);
    }
    assert(left.queue.length > 2_000_000, "the sender was stopped");
    const held = a.input.length + b.output.length;
    assert(held >= 262_144 && held <= 340_000, `${a.input.length} and ${b.output.length}`);
    for (let ms = 0; ms < 3000 && !right.ended; ms++) {
      left.send();
      if (left.queue.length === 0) left.socket.shutdown();
      right.take();
      await scene.during(1);
    }
    assertEquals([right.received.length, right.ended], [all.length, true]);
    assertEquals(right.received.toUint8Array(), all);
    right.socket.shutdown();
    await scene.during(10);
    assertEquals(scene.outcome, { bytesAToB: all.length, bytesBToA: 0 });
    await scene.end();
  });

  it("queues as much as the high watermark of writing allows", async () => {
    const scene = await Scene.make();
    const { a, b, left } = scene;
    for (const bev of [a, b]) bev.setWatermark(EV_WRITE, 0, 10_000);
    scene.pipe();
    left.queue.add(pattern(1_000_000));
    for (let ms = 0; ms < 200; ms++) {
      left.send();
      await scene.during(1);
    }
    const held = a.input.length + b.output.length;
    assert(held >= 10_000 && held <= 80_000, `${held}`);
    left.socket.reset();
    await scene.during(10);
    await scene.end();
  });

  it("passes on a chunk of half a megabyte whole, and does not pause its source while the system takes it", async () => {
    const scene = (await Scene.make()).pipe();
    const [from, to] = [scene.a, scene.b].map((bev) => (coreOf(bev) as SocketCore).connection!);
    const written: Uint8Array[] = [];
    let paused = 0;
    let disabled = 0;
    to!.binding!.write = (chunk) => written.push(chunk) && chunk.length;
    from!.binding!.pauseRead = () => void paused++;
    const core = coreOf(scene.a);
    const disable = core.disable.bind(core);
    core.disable = (what) => {
      disabled++;
      disable(what);
    };
    await scene.during(1);
    const chunks = [pattern(524_288), pattern(524_288)];
    for (const chunk of chunks) {
      scene.sim.setTimer(scene.sim.now() + 1, () => from!.onData(chunk));
      await scene.during(5);
    }
    assertEquals(written.length, 2);
    for (const [i, chunk] of written.entries()) assert(chunk.buffer === chunks[i]!.buffer && chunk.length === 524_288);
    assertEquals([paused, disabled], [0, 0]);
    await scene.end();
  });

  it("queues an end once in a turn, although its output is sent at once several times", async () => {
    const scene = await Scene.make();
    const { a, b, left, right } = scene;
    for (const bev of [a, b]) bev.setWatermark(EV_WRITE, 0, 2_000);
    a.setMaxSingleRead(1_000);
    b.setMaxSingleWrite(1_000);
    const core = coreOf(b) as SocketCore;
    const { loop } = core;
    let [queued, most, sent] = [0, 0, 0];
    const queueFlush = loop.queueFlush.bind(loop);
    loop.queueFlush = (flushable) => {
      if (flushable === core) most = Math.max(most, ++queued);
      queueFlush(flushable);
    };
    const [flushOutput, sendNow] = [core.flushOutput.bind(core), core.sendNow.bind(core)];
    let now = false;
    core.flushOutput = (...given) => {
      if (!now) queued--;
      flushOutput(...given);
    };
    core.sendNow = () => {
      now = true;
      sent++;
      sendNow();
      now = false;
    };
    scene.pipe();
    left.queue.add(pattern(300_000));
    for (let ms = 0; ms < 700; ms++) {
      left.send();
      await scene.during(1);
      right.take();
    }
    assertEquals(right.received.length, 300_000);
    assert(sent > 10, `${sent} times at once`);
    assertEquals(most, 1, "entries in the list");
    left.socket.reset();
    await scene.during(10);
    await scene.end();
  });

  it("moves the chunks: the runtime sends the same memory that it has delivered", async () => {
    const { sim } = await Scene.make();
    const base = new EventBase({ runtime: sim });
    const [x, a] = bufferEventPair(base);
    const [b, y] = bufferEventPair(base);
    const done = pipe(a, b);
    y.enable(EV_READ);
    const chunk = pattern(10_000);
    x.output.addReference(chunk);
    base.loopExit(5);
    await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
    assertStrictEquals(y.input.peek()[0]?.buffer, chunk.buffer);
    for (const bev of [x, y]) bev.shutdown();
    await sim.run(base.dispatch());
    assertEquals(await sim.run(done), { bytesAToB: 10_000, bytesBToA: 0 });
    for (const bev of [x, y]) bev.free();
  });

  it("first carries bytes of the inputs, and passes on an end that was reported before", async () => {
    const scene = await Scene.make();
    const { a, b, left, right } = scene;
    a.enable(EV_READ);
    left.send("PROXY TCP4\r\nhello");
    left.socket.shutdown();
    await scene.during(10);
    assertEquals(text(a.input.readln(1) ?? new Uint8Array()), "PROXY TCP4");
    scene.pipe();
    assertEquals(b.output.length, 5);
    await scene.during(10);
    assertEquals([right.text(), right.ended], ["hello", true]);
    right.socket.shutdown();
    await scene.during(10);
    assertEquals(scene.outcome, { bytesAToB: 5, bytesBToA: 0 });
    await scene.end();
  });

  it("notices a reset although it has stopped reading for a slow peer, through filters too", async () => {
    for (const filtered of [false, true]) {
      const scene = await Scene.make();
      const { a, b, left } = scene;
      const top = filtered ? new FilterBufferEvent(a, null, null, BEV_OPT_CLOSE_ON_FREE) : a;
      scene.pipe({}, top, b);
      for (let ms = 0; ms < 500 && (top.enabled & EV_READ) !== 0 || ms < 20; ms++) {
        left.send(new Uint8Array(left.queue.length > 0 ? 0 : 10_000));
        await scene.during(1);
      }
      // Nothing is read, and the queue is too short to stop the runtime.
      assertEquals([top.enabled & EV_READ, scene.outcome], [0, undefined]);
      left.socket.reset();
      await scene.during(20);
      assertEquals(scene.outcome, "ECONNRESET");
      await scene.end();
    }
  });

  it("waits for an end that is still connecting", async () => {
    const scene = await Scene.make();
    const listening = await scene.base.listen({ hostname: "127.0.0.1", port: 0 });
    scene.b.free();
    scene.b = new SocketBufferEvent(scene.base, null, BEV_OPT_CLOSE_ON_FREE);
    scene.b.connect(listening.address as { hostname: string; port: number });
    scene.pipe();
    scene.left.send("hello");
    await scene.during(10);
    const server = listening.accept() as Socket;
    const into = new Uint8Array(9);
    await scene.during(5);
    assertEquals(server.recv(into), 5);
    server.close();
    scene.left.socket.shutdown();
    await scene.during(10);
    assertEquals(scene.outcome, { bytesAToB: 5, bytesBToA: 0 });
    await listening.close();
    await scene.end();
  });

  it("is cut when an end fails to connect", async () => {
    const scene = await Scene.make();
    scene.b.free();
    scene.b = new SocketBufferEvent(scene.base, null, BEV_OPT_CLOSE_ON_FREE);
    scene.b.connect({ hostname: "127.0.0.1", port: 9 });
    scene.pipe();
    await scene.during(10);
    assertEquals([scene.outcome, scene.left.socket.error?.code], ["ECONNREFUSED", "ECONNRESET"]);
    await scene.end();
  });

  it("is cut on both sides when one is reset, and rejects with its error", async () => {
    for (const side of ["left", "right"] as const) {
      const scene = (await Scene.make()).pipe();
      scene.left.send("hello");
      await scene.during(10);
      scene[side].socket.reset();
      await scene.during(10);
      const other = side === "left" ? scene.right : scene.left;
      assertEquals([scene.outcome, other.socket.error?.code], ["ECONNRESET", "ECONNRESET"]);
      await scene.end();
    }
  });

  it("is cut by a reset through a filter that owns the one below", async () => {
    const scene = await Scene.make();
    const filter = new FilterBufferEvent(scene.b, null, null, BEV_OPT_CLOSE_ON_FREE);
    const piping = pipe(scene.a, filter).catch((error: unknown) => (error as EventError).code);
    await scene.during(10);
    scene.left.socket.reset();
    await scene.during(10);
    assertEquals([await piping, scene.right.socket.error?.code], ["ECONNRESET", "ECONNRESET"]);
    await scene.end();
  });

  it("is cut by a timeout, by free() and by a signal: it rejects with the reason", async () => {
    for (const how of ["timeout", "free a", "free b", "abort", "aborted"]) {
      const scene = await Scene.make();
      const controller = new AbortController();
      if (how === "timeout") scene.a.setTimeouts(5, null);
      if (how === "aborted") controller.abort("enough");
      scene.pipe({ signal: controller.signal });
      if (how === "free a") scene.a.free();
      if (how === "free b") scene.b.free();
      if (how === "abort") controller.abort("enough");
      await scene.during(10);
      const codes: { [how: string]: string } = { timeout: "ETIMEDOUT", abort: "enough", aborted: "enough" };
      assertEquals(scene.outcome, codes[how] ?? "EV_FREED", how);
      await scene.end();
    }
  });

  it("is cut after idleTimeoutMs without a byte; traffic in one direction is enough", async () => {
    const scene = (await Scene.make()).pipe({ idleTimeoutMs: 100 });
    for (let i = 0; i < 10; i++) {
      scene.left.send("x");
      await scene.during(60);
    }
    assertEquals(scene.outcome, undefined);
    for (let i = 0; i < 10; i++) {
      scene.right.send("x");
      await scene.during(60);
    }
    assertEquals(scene.outcome, undefined);
    await scene.during(110);
    assertEquals([scene.outcome, scene.left.socket.error?.code], ["ETIMEDOUT", "ECONNRESET"]);
    await scene.end();
  });

  it("is not idle while a slow reader takes waiting bytes", async () => {
    const scene = (await Scene.make()).pipe({ idleTimeoutMs: 1000 });
    scene.left.send(pattern(500_000));
    for (let i = 0; i < 20; i++) {
      scene.left.send();
      await scene.during(100);
      scene.right.take(20_000);
    }
    assertEquals(scene.outcome, undefined);
    await scene.during(1500);
    assertEquals(scene.outcome, "ETIMEDOUT", "but then it is");
    await scene.end();
  });

  it("keeps to rate limits, and goes through filters", async () => {
    const scene = await Scene.make();
    const limit = new TokenBucketConfig({
      readRate: 1000,
      readBurst: 1000,
      writeRate: 1000,
      writeBurst: 1000,
      tickMs: 100,
    });
    scene.a.setRateLimit(limit);
    const filter = new FilterBufferEvent(scene.b, null, null, BEV_OPT_CLOSE_ON_FREE);
    scene.pipe({}, scene.a, filter);
    scene.left.send(pattern(10_000));
    scene.left.socket.shutdown();
    const begin = scene.sim.now();
    while (!scene.right.ended) {
      await scene.during(10);
      scene.right.take();
    }
    assert(scene.sim.now() - begin >= 900, `${scene.sim.now() - begin} ms`);
    assertEquals(scene.right.received.toUint8Array(), pattern(10_000));
    scene.right.socket.shutdown();
    await scene.during(20);
    assertEquals(scene.outcome, { bytesAToB: 10_000, bytesBToA: 0 });
    await scene.end();
  });

  it("goes on when a filter has sent all output but a rest that it keeps", async () => {
    const sim = simRuntime({ maxSteps: 2_000_000 });
    const base = new EventBase({ runtime: sim });
    const [left, a] = bufferEventPair(base);
    const [b, right] = bufferEventPair(base);
    const blocks: BufferEventFilter = (source, destination, limit, mode) => {
      const whole = limit < 0 ? source.length : Math.min(source.length, limit);
      const n = mode === BEV_FINISHED ? source.length : whole - whole % 16;
      if (n === 0) return BEV_NEED_MORE;
      source.removeBuffer(destination, n);
      return BEV_OK;
    };
    let received = 0;
    right.setCallbacks({
      read({ input }) {
        received += input.length;
        input.drain(input.length);
      },
    });
    right.enable(EV_READ);
    left.enable(EV_WRITE);
    const piping = pipe(a, new FilterBufferEvent(b, null, blocks, BEV_OPT_CLOSE_ON_FREE)).catch(() => {});
    const during = async (ms: number): Promise<void> => {
      base.loopExit(ms);
      await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
    };
    for (let sent = 0; sent < 2_000_005;) {
      const n = Math.min(300_005, 2_000_005 - sent);
      left.write(new Uint8Array(n));
      sent += n;
      await during(5);
    }
    await during(100);
    assertEquals(received, 2_000_000);
    left.shutdown();
    await during(100);
    assertEquals(received, 2_000_005);
    left.free();
    right.free();
    await during(10);
    await piping;
  });

  it("refuses ends that it cannot connect, and leaves them as they were", async () => {
    const scene = await Scene.make();
    const { a, b } = scene;
    const code = async (...args: Parameters<typeof pipe>): Promise<string> =>
      (await assertRejects(() => pipe(...args), EventError) as EventError).code;
    await assertRejects(() => pipe(a, a), TypeError);
    for (const other of [null, {}] as unknown[] as (typeof a)[]) {
      await assertRejects(() => pipe(a, other), TypeError, "not a BufferEvent");
      await assertRejects(() => pipe(other, a), TypeError, "not a BufferEvent");
    }
    await assertRejects(
      () => pipe(a, b, { signal: {} as AbortSignal }),
      TypeError,
      "not an AbortSignal: received Object",
    );
    for (const ms of [-1, NaN, Infinity]) {
      await assertRejects(() => pipe(a, b, { idleTimeoutMs: ms }), RangeError);
      await assertRejects(() => pipe(a, b, { closeTimeoutMs: ms }), RangeError);
    }
    const [freed] = bufferEventPair(scene.base);
    freed.free();
    assertEquals(await code(a, freed), "EV_FREED");
    const filter = new FilterBufferEvent(b, null, null);
    assertEquals(await code(a, b), "EV_BUSY");
    filter.free();
    const lines = b.lines()[Symbol.asyncIterator]();
    void lines.next();
    assertEquals(await code(a, b), "EV_BUSY");
    await lines.return?.();
    assertEquals([a.enabled, a.getWatermark(EV_READ), a.getCallbacks()], [EV_WRITE, { low: 0, high: 0 }, null]);
    a.free();
    b.free();
    await scene.end();
  });

  it("is the only reader of its ends", async () => {
    const scene = await Scene.make();
    const { a, b } = scene;
    const piped = assertRejects(() => pipe(a, b), EventError) as Promise<EventError>;
    const [other] = bufferEventPair(scene.base);
    for (const again of [() => pipe(a, b), () => pipe(other, a)]) {
      assertEquals((await assertRejects(again, EventError) as EventError).code, "EV_BUSY");
    }
    const { code } = assertThrows(() => new FilterBufferEvent(b, null, null), EventError) as EventError;
    assertEquals(code, "EV_BUSY");
    a.free();
    assertEquals((await piped).code, "EV_FREED");
    other.free();
    b.free();
    await scene.end();
  });

  it("carries every byte, in order and once, however its peers send, read and finish (property)", async () => {
    const step = fc.record({
      side: fc.constantFrom("left", "right"),
      kind: fc.constantFrom("send", "send", "take", "take", "finish", "wait"),
      n: fc.oneof(fc.nat(40), fc.nat(100_000)),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40, size: "max" }), fc.nat(), async (steps, seed) => {
        const scene = (await Scene.make({ seed, faults: { segmentCut: 0.2, jitterMs: 1 } })).pipe();
        const { left, right } = scene;
        const sent = { left: 0, right: 0 };
        const finished = { left: false, right: false };
        const finish = (side: "left" | "right"): void => {
          if (scene[side].queue.length > 0 || finished[side]) return;
          finished[side] = true;
          scene[side].socket.shutdown();
        };
        for (const { side, kind, n } of steps) {
          const s = side as "left" | "right";
          if (kind === "send" && !finished[s]) {
            scene[s].send(pattern(n, sent[s]));
            sent[s] += n;
          } else if (kind === "take") scene[s].take(n);
          else if (kind === "finish") finish(s);
          else await scene.during(n % 7);
          assert(scene.a.input.length <= 65_536 && scene.b.input.length <= 65_536);
          assert(scene.a.output.length <= 340_000 && scene.b.output.length <= 340_000);
        }
        // Sent bytes may still be on their way when the pipe has ended.
        const over = (): boolean => scene.outcome !== undefined && left.ended && right.ended;
        for (let ms = 0; ms < 5000 && !over(); ms++) {
          for (const s of ["left", "right"] as const) {
            if (!finished[s]) scene[s].send();
            finish(s);
            scene[s].take();
          }
          await scene.during(1);
        }
        assertEquals(scene.outcome, { bytesAToB: sent.left, bytesBToA: sent.right });
        assertEquals(right.received.toUint8Array(), pattern(sent.left));
        assertEquals(left.received.toUint8Array(), pattern(sent.right));
        await scene.end();
      }),
      { numRuns: 60, seed: 5 },
    );
  });
});
