// Timeouts of reading and writing: rule V9, and V11 for connecting.

import { describe, it } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import {
  BEV_OPT_CLOSE_ON_FREE,
  EV_PERSIST,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../../core/flags.ts";
import type { InetAddress } from "../../../core/runtime.ts";
import { Socket } from "../../../core/api/socket.ts";
import { BusyHost, nothingLeft, world } from "../loop/harness.ts";
import { pattern, socketPair } from "../socket/pairs.ts";
import { Recorder, rig } from "./rig.ts";
import { Stage } from "./stage.ts";

describe("the timeout of reading", () => {
  it("runs while reading is enabled, is reported once and disables it; enable() starts it again", async () => {
    const made = await rig({ times: true });
    made.bev.setTimeouts(10, null);
    assertEquals(await made.during(50), [], "not enabled");
    made.bev.enable(EV_READ);
    assertEquals(await made.during(50), ["event READING|TIMEOUT at 60"]);
    assertEquals([made.bev.enabled, made.record.errors], [EV_WRITE, [undefined]]);
    made.bev.enable(EV_READ);
    assertEquals(await made.during(50), ["event READING|TIMEOUT at 110"]);
    await made.end();
  });

  it("is restarted by every arrival, even below the low watermark", async () => {
    const made = await rig({ times: true });
    const { bev, peer } = made;
    bev.setWatermark(EV_READ, 100, 0);
    bev.setTimeouts(10, null);
    bev.enable(EV_READ);
    for (let i = 0; i < 5; i++) {
      assertEquals(await made.during(8), []);
      peer.send("x");
    }
    // The last byte arrived at 41.
    assertEquals(await made.during(20), ["event READING|TIMEOUT at 51"]);
    await made.end();
  });

  it("does not run while reading is suspended, and starts afresh when it goes on", async () => {
    const made = await rig({ times: true });
    const { bev, peer, record } = made;
    record.drains = false;
    bev.setWatermark(EV_READ, 0, 4);
    bev.setTimeouts(10, null);
    bev.enable(EV_READ);
    peer.send("1234");
    assertEquals(await made.during(100), ["read 4 at 1"]);
    bev.input.drain(1);
    assertEquals(await made.during(100), ["event READING|TIMEOUT at 110"]);
    await made.end();
  });

  it("stops with disable(), at the end of file, and with null or 0", async () => {
    const made = await rig({ times: true });
    const { bev, peer } = made;
    bev.setTimeouts(10, 10);
    bev.enable(EV_READ);
    await made.during(5);
    bev.disable(EV_READ);
    assertEquals(await made.during(50), []);
    bev.enable(EV_READ);
    bev.setTimeouts(0, 0);
    assertEquals(await made.during(50), []);
    bev.setTimeouts(10, null);
    await made.during(5);
    bev.setTimeouts(null, null);
    assertEquals(await made.during(50), []);
    bev.setTimeouts(10, null);
    peer.shutdown();
    assertEquals(await made.during(50), ["event READING|EOF at 161"]);
    await made.end();
  });

  it("set while it runs counts from now", async () => {
    const made = await rig({ times: true });
    made.bev.setTimeouts(10, null);
    made.bev.enable(EV_READ);
    await made.during(8);
    made.bev.setTimeouts(20, null);
    assertEquals(await made.during(50), ["event READING|TIMEOUT at 28"]);
    await made.end();
  });

  it("is not reported if bytes arrive in the turn in which it passes", async () => {
    const made = await rig({ times: true });
    const { bev, peer } = made;
    bev.setTimeouts(10, null);
    bev.enable(EV_READ);
    peer.send("in time");
    await made.still(12);
    assertEquals(await made.during(5), ["read 7 at 12"]);
    assertEquals(await made.during(15), ["event READING|TIMEOUT at 22"]);
    await made.end();
  });

  it("is reported if another reader has received the bytes", async () => {
    const made = await rig({ times: true });
    const { base, bev, peer } = made;
    const thief = new Uint8Array(8);
    base.event(bev.socket, EV_READ, () => void bev.socket?.recv(thief)).add();
    bev.setTimeouts(10, null);
    bev.enable(EV_READ);
    peer.send("stolen");
    await made.still(12);
    assertEquals(await made.during(5), ["event READING|TIMEOUT at 12"]);
    await made.end();
  });

  it("of a fraction of a millisecond is kept", async () => {
    const made = await rig({ times: true });
    made.bev.setTimeouts(0.5, null);
    made.bev.enable(EV_READ);
    assertEquals(await made.during(5), ["event READING|TIMEOUT at 0.5"]);
    await made.end();
  });
});

describe("the timeout of writing", () => {
  it("runs only while output waits: with nothing to send it never passes", async () => {
    const made = await rig({ times: true });
    made.bev.setTimeouts(null, 10);
    made.bev.enable(EV_WRITE);
    assertEquals(await made.during(100), ["write 0 at 0"]);
    made.bev.write("leaves at once");
    assertEquals(await made.during(100), ["write 0 at 100"]);
    await made.end();
  });

  it("passes if no output could be sent, is reported once, and disables writing", async () => {
    const made = await rig({ times: true });
    const { bev } = made;
    await made.block();
    bev.setTimeouts(null, 10);
    bev.write("waits");
    assertEquals(await made.during(100), ["event WRITING|TIMEOUT at 30"]);
    assertEquals([bev.enabled, bev.output.length], [0, 5]);
    bev.enable(EV_WRITE);
    assertEquals(await made.during(100), ["event WRITING|TIMEOUT at 130"]);
    await made.end();
  });

  it("is restarted by each piece that leaves", async () => {
    const made = await rig({ times: true });
    const { bev, peer } = made;
    await made.block();
    const data = pattern(400_000);
    // Space is reported in steps: the queues in between must drain by half before the sender is
    // told.
    bev.setTimeouts(null, 150);
    bev.write(data);
    const into = new Uint8Array(16_384);
    const calls: string[] = [];
    for (let i = 0; i < 60; i++) {
      peer.recv(into);
      calls.push(...await made.during(10));
    }
    assertEquals(calls.map((line) => line.replace(/ at .*/, "")), ["write 0"], "600 ms of slow progress");
    await made.end();
  });

  it("stops with disable(), and when all has left", async () => {
    const made = await rig({ times: true });
    const { bev } = made;
    await made.block();
    bev.setTimeouts(null, 10);
    bev.write("waits");
    await made.during(5);
    bev.disable(EV_WRITE);
    assertEquals(await made.during(50), []);
    bev.enable(EV_WRITE);
    await made.during(5);
    for (let ms = 0; ms < 20; ms++) {
      made.peerCount();
      await made.during(1);
    }
    assertEquals(bev.output.length, 0);
    assertEquals(await made.during(100), []);
    await made.end();
  });

  it("set while output waits counts from now", async () => {
    const made = await rig({ times: true });
    const { bev } = made;
    await made.block();
    bev.write("waits");
    bev.setTimeouts(null, 10);
    await made.during(8);
    bev.setTimeouts(null, 20);
    assertEquals(await made.during(50), ["event WRITING|TIMEOUT at 48"]);
    await made.end();
  });

  it("and the timeout of reading run independently", async () => {
    const made = await rig({ times: true });
    const { bev } = made;
    await made.block();
    bev.setTimeouts(15, 10);
    bev.enable(EV_READ);
    bev.write("waits");
    assertEquals(await made.during(50), ["event WRITING|TIMEOUT at 30", "event READING|TIMEOUT at 35"]);
    await made.end();
  });

  it("that is set again before it is reported does not remove a due write callback", async () => {
    const { sim } = world({}, { latencyMs: 1_000 });
    const runtime = new BusyHost(sim);
    const base = new EventBase({ runtime, priorities: 2 });
    const [socket, peer] = await socketPair(sim);
    const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
    const record = new Recorder();
    bev.setCallbacks(record.callbacks);
    bev.setWatermark(EV_WRITE, 1_000_000, 0);
    bev.setTimeouts(null, 10);
    bev.write(new Uint8Array(300_000));
    let turns = 0;
    // The events of the bufferevent have the lower priority, so they wait while this one is active in each turn.
    const urgent = base.event(null, EV_PERSIST, () => {
      if (turns === 100) bev.setTimeouts(null, 10_000);
    });
    urgent.priority = 0;
    const watch = base.watchPrepare(() => {
      if (++turns === 30) runtime.block(20);
      if (turns <= 100) urgent.activate(EV_TIMEOUT);
    });
    base.loopExit(500);
    await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
    assertEquals(record.take(), ["write 168928"]);
    bev.free();
    peer.close();
    urgent.free();
    watch.free();
    await nothingLeft({ sim, base });
  });
});

describe("timeouts without a connection", () => {
  it("run without a socket too: of reading while it is enabled, of writing while output waits; once each (V9)", async () => {
    for (const order of ["timeouts first", "enabled first", "written last"]) {
      const { sim, base } = world();
      const record = new Recorder(() => sim.now());
      const bev = new SocketBufferEvent(base, null, 1);
      bev.setCallbacks(record.callbacks);
      if (order !== "written last") bev.write("waits");
      if (order === "enabled first") bev.enable(EV_READ | EV_WRITE);
      bev.setTimeouts(150, 100);
      if (order !== "enabled first") bev.enable(EV_READ | EV_WRITE);
      if (order === "written last") bev.write("waits");
      assertEquals([order, await sim.run(base.dispatch())], [order, "empty"]);
      assertEquals(record.take(), ["event WRITING|TIMEOUT at 100", "event READING|TIMEOUT at 150"]);
      assertEquals([bev.enabled, bev.output.length], [0, 5]);
      // enable() starts them again.
      bev.enable(EV_READ | EV_WRITE);
      await sim.run(base.dispatch());
      assertEquals(record.take(), ["event WRITING|TIMEOUT at 250", "event READING|TIMEOUT at 300"]);
      bev.free();
      await nothingLeft({ sim, base });
    }
  });

  it("without a socket: no write timeout if nothing is written, and none that was removed", async () => {
    const { sim, base } = world();
    const record = new Recorder(() => sim.now());
    const bev = new SocketBufferEvent(base, null, 1);
    bev.setCallbacks(record.callbacks);
    bev.setTimeouts(null, 10);
    bev.enable(EV_READ | EV_WRITE);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["empty", 0]);
    bev.write("waits");
    bev.setTimeouts(10, null);
    bev.setTimeouts(null, null);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["empty", 0]);
    bev.setTimeouts(10, 10);
    bev.disable(EV_READ | EV_WRITE);
    assertEquals([await sim.run(base.dispatch()), sim.now(), record.take()], ["empty", 0, []]);
    bev.enable(EV_READ | EV_WRITE);
    bev.free();
    assertEquals([await sim.run(base.dispatch()), sim.now(), record.take()], ["empty", 0, []]);
    await nothingLeft({ sim, base });
  });

  it("restart with connect() and setSocket()", async () => {
    for (const by of ["connect()", "setSocket()"]) {
      const { sim, base } = world();
      const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
      const { port } = listening.address as InetAddress;
      const record = new Recorder(() => sim.now());
      const bev = new SocketBufferEvent(base, null, 1);
      bev.setCallbacks(record.callbacks);
      bev.setTimeouts(150, 100);
      bev.enable(EV_READ | EV_WRITE);
      bev.write("hello");
      const socket = Socket.connect(sim, { port });
      base.timer(() => by === "connect()" ? bev.connect({ port }) : bev.setSocket(socket)).add(90);
      base.loopExit(500);
      await sim.run(base.dispatch());
      const connected = by === "connect()" ? ["event CONNECTED at 92", "write 0 at 92"] : ["write 0 at 90"];
      assertEquals([by, record.take()], [by, [...connected, "event READING|TIMEOUT at 240"]]);
      bev.free();
      socket.close();
      await listening.close();
      await nothingLeft({ sim, base });
    }
  });

  it("while connecting: the write timeout ends the attempt, once, with ETIMEDOUT (V11)", async () => {
    const { sim, base } = world();
    const listener = await sim.listen({ hostname: "127.0.0.1", port: 0, backlog: 1 }, {
      onAccept: () => {
        throw new Error("it is paused");
      },
      onError: () => {},
    });
    listener.pauseAccept();
    const { port } = listener.address as InetAddress;
    const fillers = [0, 1].map(() => Socket.connect(sim, { port }));
    await sim.advance(5);

    const record = new Recorder(() => sim.now() - 5);
    const bev = new SocketBufferEvent(base, null, 1);
    bev.setCallbacks(record.callbacks);
    bev.setTimeouts(null, 20);
    bev.write("queued");
    bev.connect({ port });
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(record.take(), ["event WRITING|TIMEOUT at 20"]);
    assertEquals([record.errors[0]?.code, bev.enabled, bev.output.length, bev.socket], ["ETIMEDOUT", 0, 6, null]);

    // If it is set meanwhile, it counts from then. The read timeout also runs if reading is
    // enabled.
    bev.enable(EV_READ | EV_WRITE);
    bev.setTimeouts(15, null);
    bev.connect({ port });
    sim.setTimer(sim.now() + 5, () => bev.setTimeouts(15, 50));
    base.loopExit(200);
    await sim.run(base.dispatch());
    assertEquals(record.take(), ["event READING|TIMEOUT at 40", "event WRITING|TIMEOUT at 75"]);

    bev.free();
    for (const filler of fillers) filler.reset();
    await listener.close();
    await nothingLeft({ sim, base });
  });

  it("while connecting with writing disabled: there is none, and CONNECTED is still reported", async () => {
    const { sim, base } = world();
    const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
    const record = new Recorder();
    const bev = new SocketBufferEvent(base, null, 1);
    bev.setCallbacks(record.callbacks);
    bev.setTimeouts(null, 1);
    bev.connect({ port: (listening.address as InetAddress).port });
    bev.disable(EV_WRITE);
    base.loopExit(20);
    await sim.run(base.dispatch());
    assertEquals(record.take(), ["event CONNECTED"]);
    bev.free();
    await listening.close();
    await nothingLeft({ sim, base });
  });
});

describe("the idle timeout", () => {
  it("passes if nothing has arrived or left for its time; it disables both directions and reports ETIMEDOUT once", async () => {
    const made = await rig({ times: true });
    const { bev, record } = made;
    bev.enable(EV_READ);
    await made.during(1);
    record.take();
    bev.setIdleTimeout(100);
    assertEquals(await made.during(1000), ["event READING|WRITING|TIMEOUT at 101"]);
    assertEquals([bev.enabled, record.errors[0]?.code], [0, "ETIMEDOUT"]);
    bev.enable(EV_READ);
    assertEquals(await made.during(1000), ["event READING|WRITING|TIMEOUT at 1101"], "enable() starts it again");
    await made.end();
  });

  it("is restarted by bytes that arrive or leave, not by bytes that are queued or drained", async () => {
    const made = await rig({ times: true });
    const { bev, peer, record } = made;
    record.drains = false;
    bev.enable(EV_READ);
    bev.setIdleTimeout(100);
    await made.during(1);
    peer.send("x");
    await made.during(60);
    bev.write("y");
    await made.during(60);
    record.take();
    bev.input.drain(1);
    assertEquals(await made.during(100), ["event READING|WRITING|TIMEOUT at 161"]);
    await made.end();
  });

  it("passes while nobody takes the output, however much is added", async () => {
    const made = await rig();
    const { bev } = made;
    await made.block();
    bev.setIdleTimeout(100);
    const calls: string[] = [];
    for (let i = 0; i < 30 && calls.length === 0; i++) {
      bev.write("more");
      calls.push(...await made.during(10));
    }
    assertEquals([calls, bev.output.length], [["event READING|WRITING|TIMEOUT"], 40]);
    await made.end();
  });

  it("is removed by null and 0, and by free() and close()", async () => {
    const made = await rig();
    const { bev } = made;
    bev.setIdleTimeout(10);
    bev.setIdleTimeout(null);
    assertEquals(await made.during(100), []);
    bev.setIdleTimeout(10);
    bev.setIdleTimeout(0);
    assertEquals(await made.during(100), []);
    for (const ms of [-1, NaN, Infinity]) assertThrows(() => bev.setIdleTimeout(ms), RangeError);
    bev.setIdleTimeout(10);
    const closing = bev.close();
    assertEquals(await made.during(100), []);
    made.peer.shutdown();
    assertEquals(await made.sim.run(closing), true);
    await made.end();
  });

  it("of a pair is reported by each end", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    b.enable(EV_READ);
    a.setIdleTimeout(50);
    b.setIdleTimeout(70);
    await stage.during(20);
    a.write("x");
    await stage.during(200);
    assertEquals(log.take(), [
      "b read 1",
      "a write 0",
      "a event READING|WRITING|TIMEOUT",
      "b event READING|WRITING|TIMEOUT",
    ]);
    await stage.end(a, b);
  });
});
