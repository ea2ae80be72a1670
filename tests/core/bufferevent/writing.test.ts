// Writing: rules V2, V3, V10, V15, and the times of the callbacks.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { BEV_FINISHED, BEV_FLUSH, BEV_NORMAL, EV_READ, EV_TIMEOUT, EV_WRITE } from "../../../core/flags.ts";
import { connectionOf } from "../../../core/api/socket.ts";
import { nothingLeft } from "../loop/harness.ts";
import { pattern, socketPair } from "../socket/pairs.ts";
import { Recorder, rig } from "./rig.ts";

describe("write() (V3)", () => {
  it("only queues; the bytes leave together at the end of the turn", async () => {
    const made = await rig();
    const { bev, base, record } = made;
    const lengths: number[] = [];
    base.timer(() => {
      for (let i = 0; i < 100; i++) bev.write("x");
      lengths.push(bev.output.length);
      base.timer(() => lengths.push(bev.output.length)).activate(EV_TIMEOUT);
    }).activate(EV_TIMEOUT);
    assertEquals(await made.during(5), ["write 0"]);
    // The second callback belongs to the same turn.
    assertEquals([lengths, made.peerReceives()], [[100, 100], "x".repeat(100)]);
    assertEquals(record.errors, []);
    await made.end();
  });

  it("from outside the loop is sent in the next turn, and not before", async () => {
    const made = await rig();
    made.bev.write("early");
    await made.still(10);
    assertEquals([made.peerReceives(), made.bev.output.length], ["", 5]);
    assertEquals([await made.during(5), made.peerReceives()], [["write 0"], "early"]);
    await made.end();
  });

  it("of no bytes runs no callback", async () => {
    const made = await rig();
    made.bev.write("");
    made.bev.write(new Uint8Array(0));
    assertEquals(await made.during(5), []);
    await made.end();
  });

  it("copies the bytes", async () => {
    const made = await rig();
    const bytes = new Uint8Array([65, 66]);
    made.bev.write(bytes);
    bytes.fill(0);
    await made.during(5);
    assertEquals(made.peerReceives(), "AB");
    await made.end();
  });

  it("in the write callback goes on, and calls back again", async () => {
    const made = await rig();
    let left = 3;
    made.record.on.write = (bev) => {
      if (--left > 0) bev.write(`${left}`);
    };
    made.bev.write("3");
    assertEquals([await made.during(10), made.peerReceives()], [["write 0", "write 0", "write 0"], "321"]);
    await made.end();
  });

  it("of megabytes delivers them in order, as fast as the peer reads, and calls back when the last has left", async () => {
    const made = await rig();
    const { bev, peer } = made;
    const data = pattern(1_000_000);
    bev.write(data);
    const record = new Recorder();
    const reader = new SocketBufferEvent(made.base, peer, 0);
    reader.setCallbacks(record.callbacks);
    reader.enable(EV_READ);
    assertEquals(await made.during(200), ["write 0"]);
    assertEquals(record.received.toUint8Array(), data);
    reader.free();
    await made.end();
  });

  it("to a peer that does not read stays in the output, without a callback", async () => {
    const made = await rig();
    made.bev.write(pattern(1_000_000));
    assertEquals(await made.during(100), []);
    const { length } = made.bev.output;
    assert(length > 700_000, `${length}`);
    assertEquals(await made.during(3_600_000), [], "an hour later");
    assertEquals(made.bev.output.length, length);
    await made.end();
  });
});

describe("the low watermark of writing (V3)", () => {
  it("is the most output that may be left for the write callback: of 300 bytes, 50 at once, at 100, 50 and 0", async () => {
    const made = await rig();
    made.bev.setWatermark(EV_WRITE, 100, 0);
    made.bev.setMaxSingleWrite(50);
    made.bev.write(pattern(300));
    assertEquals(await made.during(10), ["write 100", "write 50", "write 0"]);
    assertEquals(made.peerCount(), 300);
    await made.end();
  });

  it("is reached by a peer that reads slowly", async () => {
    const made = await rig();
    const { bev, peer } = made;
    await made.block();
    bev.setWatermark(EV_WRITE, 50_000, 0);
    bev.write(pattern(100_000));
    assertEquals(await made.during(10), []);
    const calls: string[] = [];
    const into = new Uint8Array(10_000);
    for (let ms = 0; ms < 200; ms++) {
      peer.recv(into);
      calls.push(...await made.during(1));
    }
    const lengths = calls.map((line) => Number(line.replace("write ", "")));
    assert((lengths[0] ?? NaN) <= 50_000, calls.join());
    assertEquals(lengths.at(-1), 0);
    assertEquals(lengths.toSorted((a, b) => b - a), lengths);
    await made.end();
  });

  it("the high watermark limits nothing", async () => {
    const made = await rig();
    made.bev.setWatermark(EV_WRITE, 0, 10);
    assertEquals(made.bev.getWatermark(EV_WRITE), { low: 0, high: 10 });
    assertEquals(made.bev.getWatermark(EV_READ), { low: 0, high: 0 });
    made.bev.write(pattern(100));
    assertEquals([await made.during(5), made.peerCount()], [["write 0"], 100]);
    await made.end();
  });
});

describe("enable() and disable() of writing (V2)", () => {
  it("enable() with nothing to send gives exactly one write callback", async () => {
    const made = await rig();
    made.bev.enable(EV_WRITE);
    assertEquals(made.record.lines, []);
    assertEquals(await made.during(50), ["write 0"]);
    made.bev.enable(EV_WRITE);
    made.bev.enable(EV_WRITE);
    assertEquals(await made.during(50), ["write 0"]);
    await made.end();
  });

  it("disable() cancels that callback", async () => {
    const made = await rig();
    made.bev.enable(EV_WRITE);
    made.bev.disable(EV_WRITE);
    assertEquals(await made.during(50), []);
    await made.end();
  });

  it("disable() keeps queued output, and enable() sends it", async () => {
    const made = await rig();
    made.bev.disable(EV_WRITE);
    made.bev.write("held");
    assertEquals([await made.during(50), made.peerReceives(), made.bev.enabled], [[], "", 0]);
    made.bev.enable(EV_WRITE);
    assertEquals([await made.during(5), made.peerReceives()], [["write 0"], "held"]);
    await made.end();
  });

  it("disable() while the peer does not read stops the flow until enable()", async () => {
    const made = await rig();
    const { bev } = made;
    const sent = await made.block();
    bev.write("rest");
    await made.during(5);
    bev.disable(EV_WRITE);
    let received = 0;
    for (let ms = 0; ms < 50; ms++) {
      received += made.peerCount();
      assertEquals(await made.during(1), []);
    }
    assertEquals([received, bev.output.length], [sent, 4]);
    bev.enable(EV_WRITE);
    assertEquals([await made.during(5), made.peerReceives()], [["write 0"], "rest"]);
    await made.end();
  });
});

describe("both ready in one pass (V10)", () => {
  it("the read callback comes before the write callback", async () => {
    const made = await rig();
    const { bev, peer } = made;
    peer.send("there already");
    await made.still(5);
    bev.enable(EV_READ | EV_WRITE);
    assertEquals(await made.during(5), ["read 13", "write 0"]);
    // Output that leaves in the turn in which bytes come.
    peer.send("more");
    await made.still(5);
    bev.write("x");
    assertEquals(await made.during(5), ["read 4", "write 0"]);
    await made.end();
  });

  it("when the space for output that waited and bytes come in one turn", async () => {
    const made = await rig();
    const { bev, peer } = made;
    await made.block();
    bev.write("waits");
    await made.during(5);
    bev.enable(EV_READ);
    peer.send("x");
    while (made.peerCount() > 0) await made.still(1);
    assertEquals(await made.during(5), ["read 1", "write 0"]);
    await made.end();
  });
});

describe("flush() on a socket (V15)", () => {
  it("does nothing", async () => {
    const made = await rig();
    made.bev.write("x");
    for (const mode of [BEV_NORMAL, BEV_FLUSH, BEV_FINISHED]) made.bev.flush(EV_READ | EV_WRITE, mode);
    await made.still(5);
    assertEquals(made.peerReceives(), "");
    assertEquals(await made.during(5), ["write 0"]);
    await made.end();
  });
});

describe("several bufferevents", () => {
  it("one that gets more output before its write callback runs it when all of it has left", async () => {
    const made = await rig();
    const { base, bev, sim, record } = made;
    const [socket, peer] = await socketPair(sim);
    const first = new SocketBufferEvent(base, socket, 1);
    let told = 0;
    first.setCallbacks({
      write() {
        if (told++ === 0) bev.write("more");
      },
    });
    base.timer(() => {
      first.write("x");
      bev.write("y");
    }).activate(EV_TIMEOUT);
    assertEquals([await made.during(5), told], [["write 0"], 1]);
    assertEquals([made.peerReceives(), record.errors], ["ymore", []]);
    first.free();
    peer.close();
    await made.end();
  });

  it("all send in one turn; after a callback that throws, the others' output waits for the next dispatch", async () => {
    const made = await rig();
    const { base, bev, sim } = made;
    const pairs = [];
    for (let i = 0; i < 5; i++) {
      const [socket, peer] = await socketPair(sim);
      pairs.push({ other: new SocketBufferEvent(base, socket, 1), peer });
    }
    const failure = new Error("in a buffer's callback");
    const { other: bad } = pairs[2] as typeof pairs[number];
    let thrown = false;
    bad.output.addCallback((_, { deleted }) => {
      if (deleted === 0 || thrown) return;
      thrown = true;
      throw failure;
    });
    for (const { other } of pairs) other.write("hello");
    bev.write("hello");
    assertStrictEquals(await sim.run(base.dispatch().catch((error) => error)), failure);
    assertEquals(await made.during(5), ["write 0"]);
    assertEquals(made.peerReceives(), "hello");
    for (const { other, peer } of pairs) {
      assertEquals([peer.recv(new Uint8Array(10)), other.output.length], [5, 0]);
      other.write("again");
    }
    await made.during(5);
    for (const { other, peer } of pairs) {
      assertEquals(peer.recv(new Uint8Array(10)), 5);
      other.free();
      peer.close();
    }
    await made.end();
  });
});

describe("an exception in a callback", () => {
  it("of reading loses nothing: the next dispatch reports the rest", async () => {
    const made = await rig();
    const { bev, base, sim, peer, record } = made;
    const failure = new Error("first");
    let calls = 0;
    record.on.read = () => {
      if (++calls === 1) throw failure;
    };
    bev.setWatermark(EV_READ, 0, 16_384);
    record.drains = false;
    bev.enable(EV_READ);
    peer.send(pattern(40_000));
    await made.still(10);
    bev.write("written before");
    assertStrictEquals(await sim.run(base.dispatch().catch((error) => error)), failure);
    assertEquals(record.take(), ["read 16384"]);
    record.drains = true;
    bev.readBuffer(record.received);
    assertEquals(await made.during(10), ["write 0", "read 16384", "read 7232"].toSorted());
    assertEquals(record.received.toUint8Array(), pattern(40_000));
    assertEquals(made.peerReceives(), "written before");
    await made.end();
  });

  it("of CONNECTED does not stop the output", async () => {
    const made = await rig();
    const { base, sim } = made;
    const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
    const client = new SocketBufferEvent(base, null, 1);
    const failure = new Error("connected");
    client.setCallbacks({
      event() {
        throw failure;
      },
    });
    client.write("hello");
    client.connect(listening.address as { hostname: string; port: number });
    assertStrictEquals(await sim.run(base.dispatch().catch((error) => error)), failure);
    await made.during(5);
    const accepted = listening.accept();
    assert(typeof accepted !== "number");
    await made.during(5);
    assertEquals(accepted.recv(new Uint8Array(10)), 5);
    client.free();
    accepted.close();
    await listening.close();
    await made.end();
  });
});

describe("memory", () => {
  it("what a bufferevent writes stays in its output, not in the socket's queue", async () => {
    const made = await rig();
    made.bev.write(pattern(500_000));
    await made.during(50);
    assert(made.bev.socket !== null);
    assertEquals(connectionOf(made.bev.socket).unsent, 0);
    await made.end();
    await nothingLeft(made);
  });
});
