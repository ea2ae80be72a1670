// Faults of links: each value and each call, what both programs see of it, and that one fault does
// not change another.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { DatagramBinding, InetAddress } from "../../../core/runtime.ts";
import { type SimFaults, type SimHost, type SimOptions, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { AT_B, connect, counting, type Linked, linked, listen } from "./ends.ts";

/** A connection from host a to host b, whose listener is closed. */
async function scene(options: SimOptions = {}): Promise<Linked> {
  const made = await linked(options);
  await made.listener.close();
  return made;
}

describe("sim.faults and sim.link()", () => {
  it("check their values, with a message", () => {
    const sim = simRuntime();
    const link = sim.link("a", "b");
    for (const faults of [sim.faults, link] as SimFaults[]) {
      for (const value of [-1, 1.5, NaN]) {
        assertThrows(() => (faults.segmentCut = value), RangeError, "segmentCut is not a finite number, 0 to 1");
        if (value !== 1.5) assertThrows(() => (faults.latencyMs = value), RangeError, "latencyMs");
      }
      assertThrows(() => (faults.bandwidth = 0), RangeError, "bandwidth");
      assertThrows(() => (faults.jitterMs = "1" as unknown as number), TypeError, 'received "1"');
    }
    assertThrows(() => sim.link("a", "b", { oneway: true } as object), TypeError, "did you mean oneWay?");
    assertThrows(() => sim.link("a", simRuntime()), TypeError, "not a host of this simulator");
    assertThrows(() => link.resetAfter(-1), RangeError);
    assertThrows(() => link.endAfter(0.5), RangeError);
    assertThrows(() => simRuntime({ faults: { segmentcut: 1 } as SimFaults }), TypeError, "faults.segmentCut");
    assertThrows(() => simRuntime({ tcpTimeoutMs: -1 }), RangeError, "tcpTimeoutMs");
  });

  it("set the faults of every link, or of one link in one direction or both", () => {
    const sim = simRuntime({ latencyMs: 3, faults: { jitterMs: 2 } });
    const link = sim.link("a", "b");
    const oneWay = sim.link("a", sim.host("b"), { oneWay: true });
    assertEquals([sim.faults.latencyMs, sim.faults.jitterMs, link.latencyMs, link.jitterMs], [3, 2, 3, 2]);
    oneWay.latencyMs = 10;
    assertEquals([sim.link("a", "b").latencyMs, sim.link("b", "a").latencyMs], [10, 3]);
    sim.faults.latencyMs = 5;
    assertEquals([oneWay.latencyMs, sim.link("b", "a").latencyMs], [10, 5]);
    oneWay.latencyMs = undefined;
    assertEquals([oneWay.latencyMs, sim.faults.latencyMs], [5, 5]);
  });

  it("can change the latency at any time, in each direction", async () => {
    const { sim, client, server } = await scene();
    sim.link("a", "b", { oneWay: true }).latencyMs = 20;
    client.binding.write(counting(1));
    server.binding.write(counting(1));
    await sim.advance(100);
    assertEquals([server.log.at(-1), client.log.at(-1)], ["25 data 1", "6 data 1"]);
  });
});

describe("random numbers", () => {
  it("of one kind of fault or one connection do not affect another", async () => {
    const reset = async (faults: SimFaults, others: number): Promise<number> => {
      const { sim, a, client, server } = await scene({ seed: 3, faults });
      for (let i = 0; i < others; i++) connect(a, AT_B);
      for (let i = 0; i < 500 && client.closed === undefined; i++) {
        client.binding.write(counting(10));
        await sim.advance(20);
      }
      assertEquals([client.closed, server.closed], ["ECONNRESET", "ECONNRESET"]);
      return server.bytes.length;
    };
    const alone = await reset({ connectionReset: 0.05 }, 0);
    assertEquals(await reset({ connectionReset: 0.05, jitterMs: 5, datagramLost: 1 }, 3), alone);
  });
});

describe("bandwidth", () => {
  it("lets bytes arrive at that rate", async () => {
    const { sim, client, server } = await scene();
    sim.link("a", "b").bandwidth = 10_000;
    client.binding.write(new Uint8Array(50_000));
    await sim.advance(1001);
    assert(Math.abs(server.bytes.length - 10_000) <= 1460, `${server.bytes.length} bytes in a second`);
    await sim.advance(4000);
    assertEquals(server.bytes.length, 50_000);
  });

  it("is shared by all connections of a link, and makes a writer wait behind a bounded queue", async () => {
    const { sim, a, b, client } = await scene();
    const { door } = await listen(b, { port: 80 });
    const other = connect(a, AT_B);
    await sim.advance(5);
    sim.link("a", "b").bandwidth = 100_000;
    let taken = 0;
    for (const end of [client, other]) {
      const more = (): void => {
        for (let n = -1; n !== 0; taken += n) n = end.binding.write(new Uint8Array(20_000));
      };
      end.on.onWritable = more;
      more();
    }
    assert(taken <= 2 * (65_536 * 2), `took ${taken} at once`);
    await sim.advance(4000);
    const got = door.first.bytes.length;
    assert(got > 120_000 && got < 280_000, `the second connection got ${got} of 400,000`);
    assert(taken < 400_000 + 2 * 3 * 65_536, `took ${taken} in four seconds`);
  });

  it("drops datagrams when the queue is full", async () => {
    const { sim, a, b } = await scene();
    sim.link("a", "b").bandwidth = 10_000;
    const got = await datagrams(sim, a, b, 200, 1000);
    assert(got.length >= 60 && got.length < 80, `${got.length} of 200`);
  });
});

/** Sends datagrams from a to b, numbered by their first two bytes. */
async function datagrams(sim: SimRuntime, a: SimHost, b: SimHost, count: number, bytes = 2): Promise<Uint8Array[]> {
  const got: Uint8Array[] = [];
  const sink = { onMessage: (data: Uint8Array) => void got.push(data), onWritable() {}, onError() {} };
  await b.datagram?.({ port: 53 }, sink);
  const socket = await a.datagram?.({}, sink) as DatagramBinding;
  const to: InetAddress = { hostname: b.addresses[0] ?? "", port: 53, family: "IPv4" };
  for (let i = 0; i < count; i++) {
    const data = new Uint8Array(bytes);
    data.set([i >> 8, i & 255]);
    socket.send(data, to);
  }
  await sim.advance(60_000);
  return got;
}

function numberOf(data: Uint8Array): number {
  return (data[0] ?? 0) * 256 + (data[1] ?? 0);
}

describe("datagrams", () => {
  it("arrive twice with datagramDoubled", async () => {
    const { sim, a, b } = await scene({ faults: { datagramDoubled: 0.5 } });
    const got = (await datagrams(sim, a, b, 400)).map(numberOf);
    assert(got.length > 520 && got.length < 680, `${got.length} for 400`);
    assertEquals(new Set(got).size, 400);
  });

  it("have one bit flipped with datagramCorrupted", async () => {
    const { sim, a, b } = await scene({ faults: { datagramCorrupted: 1 } });
    const got = await datagrams(sim, a, b, 300, 100);
    const bits = (data: Uint8Array, i: number): number => {
      const sent = new Uint8Array(100);
      sent.set([i >> 8, i & 255]);
      let count = 0;
      for (let at = 0; at < 100; at++) for (let x = (data[at] ?? 0) ^ (sent[at] ?? 0); x > 0; x >>= 1) count += x & 1;
      return count;
    };
    assertEquals(got.map((data, i) => bits(data, i)), got.map(() => 1));
  });

  it("overtake each other with datagramReordered, and none is lost", async () => {
    const { sim, a, b } = await scene({ faults: { datagramReordered: 0.2 } });
    const got = (await datagrams(sim, a, b, 300)).map(numberOf);
    assertEquals([...got].sort((x, y) => x - y), Array.from({ length: 300 }, (_, i) => i));
    assert(got.some((number, i) => number !== i));
  });

  it("are lost in a partition, and delayed while a link is held", async () => {
    const { sim, a, b } = await scene();
    const link = sim.link("a", "b");
    link.partition();
    assertEquals((await datagrams(sim, a, b, 10)).length, 0);
    link.heal();
    const second = await scene();
    const held = second.sim.link("a", "b");
    held.hold();
    const got = await datagrams(second.sim, second.a, second.b, 10);
    assertEquals(got.length, 0);
    held.release();
    await second.sim.advance(1);
    assertEquals(got.map(numberOf), Array.from({ length: 10 }, (_, i) => i));
  });
});

describe("connectLost", () => {
  it("gives no answer to an attempt: ETIMEDOUT after tcpTimeoutMs, and nothing for the server", async () => {
    const sim = simRuntime({ faults: { connectLost: 1 }, tcpTimeoutMs: 5000 });
    const { door, port } = await listen(sim);
    const client = connect(sim, { port });
    await sim.advance(4999);
    assertEquals(client.log, []);
    await sim.advance(1);
    assertEquals([client.log, door.ends.length, sim.pending], [["5000 close ETIMEDOUT"], 0, 0]);
  });

  it("leaves nothing behind if the program cancels before", async () => {
    const sim = simRuntime({ faults: { connectLost: 1 } });
    const { listener, port } = await listen(sim);
    const client = connect(sim, { port });
    await sim.advance(10);
    client.binding.reset();
    await listener.close();
    await sim.advance(0);
    assertEquals([client.closed, sim.pending, sim.openHandles], ["ok", 0, 0]);
  });
});

describe("a partition", () => {
  it("delays sent bytes until heal(), in order, and both programs go on", async () => {
    const { sim, client, server } = await scene();
    const link = sim.link("a", "b");
    link.partition();
    client.binding.write(counting(5));
    server.binding.write(counting(3));
    await sim.advance(30_000);
    client.binding.write(counting(5, 5));
    client.binding.shutdownWrite();
    await sim.advance(20_000);
    assertEquals([client.events, server.events], [["connect"], []]);
    link.heal();
    await sim.advance(1);
    assertEquals([server.events, server.bytes], [["data 10", "end"], [...counting(10)]]);
    assertEquals(client.events, ["connect", "data 3"]);
    server.binding.close();
    await sim.advance(70_000);
    assertEquals([client.closed, server.closed, sim.pending, sim.openHandles], ["ok", "ok", 0, 0]);
  });

  it("fails an end that has sent bytes with ETIMEDOUT after tcpTimeoutMs; the other end gets a reset when it sends", async () => {
    const { sim, client, server } = await scene();
    const link = sim.link("a", "b");
    link.partition();
    client.binding.write(counting(5));
    await sim.advance(59_999);
    assertEquals(client.events, ["connect"]);
    await sim.advance(1);
    assertEquals(client.log.at(-1), "60005 close ETIMEDOUT");
    assertEquals(server.events, []);
    link.heal();
    await sim.advance(1000);
    assertEquals(server.events, []);
    server.binding.write(counting(1));
    await sim.advance(2);
    assertEquals(server.events, ["close ECONNRESET"]);
    await sim.advance(0);
    assertEquals([sim.pending, sim.openHandles], [0, 0]);
  });

  it("in one direction does not stop the other, but its sender gets ETIMEDOUT because no answer arrives", async () => {
    const { sim, client, server } = await scene();
    sim.link("b", "a", { oneWay: true }).partition();
    client.binding.write(counting(5));
    await sim.advance(1);
    assertEquals(server.events, ["data 5"]);
    server.binding.write(counting(3));
    await sim.advance(60_000);
    assertEquals([client.events, server.events.at(-1)], [["connect", "close ETIMEDOUT"], "close ETIMEDOUT"]);
  });

  it("is detected by keep-alive on an idle connection, and not without", async () => {
    for (const keepAlive of [false, true]) {
      const { sim, client, server } = await scene({ tcpTimeoutMs: 10_000 });
      client.binding.setKeepAlive(keepAlive, 5000);
      sim.link("a", "b").partition();
      await sim.advance(20_000);
      assertEquals([client.closed, server.closed], [keepAlive ? "ETIMEDOUT" : undefined, undefined]);
    }
  });

  it("fails an attempt to connect with ETIMEDOUT, or completes it after heal()", async () => {
    for (const heals of [false, true]) {
      const { sim, a, b } = await scene();
      const { door } = await listen(b, { port: 80 });
      sim.link("a", "b").partition();
      const late = connect(a, AT_B);
      await sim.advance(30_000);
      if (heals) sim.link("a", "b").heal();
      await sim.advance(31_000);
      assertEquals([late.events, door.ends.length], heals ? [["connect"], 1] : [["close ETIMEDOUT"], 0]);
    }
  });

  it("never fails a connection with tcpTimeoutMs Infinity", async () => {
    const { sim, client, server } = await scene({ tcpTimeoutMs: Infinity });
    const link = sim.link("a", "b");
    link.partition();
    client.binding.write(counting(5));
    await sim.advance(1e9);
    link.heal();
    await sim.advance(1);
    assertEquals([client.closed, server.events], [undefined, ["data 5"]]);
  });

  it("loses a reset, so that the peer gets it when it sends", async () => {
    const { sim, client, server } = await scene();
    const link = sim.link("a", "b");
    link.partition();
    client.binding.reset();
    await sim.advance(10);
    link.heal();
    await sim.advance(10_000);
    assertEquals([client.events, server.events], [["connect", "close ok"], []]);
    server.binding.write(counting(1));
    await sim.advance(2);
    assertEquals(server.events, ["close ECONNRESET"]);
  });
});

describe("a held link", () => {
  it("delivers in order on release, in each direction, and TCP does not time out", async () => {
    const { sim, client, server } = await scene();
    const link = sim.link("a", "b");
    link.hold();
    for (let i = 0; i < 5; i++) {
      client.binding.write(counting(2, 2 * i));
      server.binding.write(counting(1, i));
      await sim.advance(30_000);
    }
    client.binding.shutdownWrite();
    await sim.advance(10);
    assertEquals([client.events, server.events], [["connect"], []]);
    link.release();
    await sim.advance(1);
    assertEquals([server.bytes, client.bytes], [[...counting(10)], [...counting(5)]]);
    assertEquals(server.events.at(-1), "end");
    server.binding.close();
    await sim.advance(10);
    assertEquals([client.closed, server.closed, sim.pending], ["ok", "ok", 0]);
  });

  it("delays an attempt to connect", async () => {
    const { sim, a, b } = await scene();
    await listen(b, { port: 80 });
    const link = sim.link("a", "b", { oneWay: true });
    link.hold();
    const late = connect(a, AT_B);
    await sim.advance(100_000);
    assertEquals(late.events, []);
    link.release();
    await sim.advance(2);
    assertEquals(late.events, ["connect"]);
  });
});

describe("resetAfter()", () => {
  it("delivers an exact number of bytes, then resets both ends, in each direction separately", async () => {
    for (const oneWay of [false, true]) {
      const { sim, client, server } = await scene();
      sim.link("a", "b", { oneWay }).resetAfter(10);
      for (let i = 0; i < 3; i++) {
        server.binding.write(counting(3));
        await sim.advance(5);
      }
      assertEquals([client.bytes.length, client.closed], [9, undefined]);
      for (let i = 0; i < 4; i++) {
        client.binding.write(counting(3, 3 * i));
        await sim.advance(5);
      }
      assertEquals([server.bytes, server.closed, client.closed], [[...counting(10)], "ECONNRESET", "ECONNRESET"]);
      assertEquals([sim.pending, sim.openHandles], [0, 0]);
    }
  });

  it("counts from the call on, for each connection, and Infinity cancels it", async () => {
    const { sim, a, b, client, server } = await scene();
    client.binding.write(counting(100));
    await sim.advance(5);
    const link = sim.link("a", "b");
    link.resetAfter(50);
    client.binding.write(counting(49));
    await sim.advance(5);
    assertEquals([server.bytes.length, server.closed], [149, undefined]);
    link.resetAfter(Infinity);
    client.binding.write(counting(49));
    await sim.advance(5);
    assertEquals([server.bytes.length, server.closed], [198, undefined]);
    link.resetAfter(1);
    const { door } = await listen(b, { port: 80 });
    const second = connect(a, AT_B);
    second.on.onConnect = () => void second.binding.write(counting(5));
    await sim.advance(10);
    assertEquals([door.first.bytes, door.first.closed], [[0], "ECONNRESET"]);
    assertEquals(server.closed, undefined);
  });
});

describe("endAfter()", () => {
  it("ends both directions in the middle of a message, and the rest is lost", async () => {
    const { sim, client, server } = await scene();
    sim.link("a", "b", { oneWay: true }).endAfter(4);
    client.binding.write(counting(10));
    await sim.advance(5);
    assertEquals([server.events, client.events], [["data 4", "end"], ["connect", "end"]]);
    server.binding.write(counting(10));
    client.binding.close();
    server.binding.close();
    await sim.advance(5);
    assertEquals([client.closed, server.closed, sim.pending, sim.openHandles], ["ok", "ok", 0, 0]);
  });

  it("truncates a TLS stream: ERR_TLS_TRUNCATED if the host detects that, else an end", async () => {
    for (const tlsTruncation of [false, true]) {
      const sim = simRuntime();
      const [a, b] = [sim.host("a"), sim.host("b")];
      for (const host of [a, b]) host.capabilities.tlsTruncation = tlsTruncation;
      const tls = { cert: "b signed by a CA", key: "a key" };
      const { door } = await listen(b, { port: 80, tls });
      const client = connect(a, AT_B);
      client.on.onConnect = () => client.binding.startTls?.("client", { ca: "a CA", serverName: "b" });
      await sim.advance(10);
      sim.link("a", "b").endAfter(4);
      client.binding.write(counting(10));
      await sim.advance(10);
      const last = tlsTruncation ? "close ERR_TLS_TRUNCATED" : "end";
      assertEquals(door.first.events, ["data 4", last]);
      assertEquals(client.events, ["connect", last]);
    }
  });
});
