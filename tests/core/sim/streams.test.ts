// Simulated connections: the laws of core/runtime.ts, and the behaviour of TCP beyond them.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { simRuntime } from "../../../runtimes/sim.ts";
import { connect, counting, listen, pair } from "./ends.ts";

describe("connecting", () => {
  it("is reported to the client after two latencies and accepted after three", async () => {
    const sim = simRuntime({ latencyMs: 10 });
    const { door, port } = await listen(sim);
    const accepted: number[] = [];
    door.accept = () => accepted.push(sim.now());
    const client = connect(sim, { port });
    assertEquals(client.binding.local, undefined);
    await sim.advance(100);
    assertEquals([client.log, accepted], [["20 connect"], [30]]);
    assertEquals(client.binding.remote, { hostname: "127.0.0.1", port, family: "IPv4" });
    assertEquals(door.first.binding.local, client.binding.remote);
    assertEquals(door.first.binding.remote, client.binding.local);
    assertEquals(sim.openHandles, 3);
  });

  it("runs no callback inside connect(), and delivers bytes that onConnect() writes", async () => {
    const sim = simRuntime();
    const { door, port } = await listen(sim);
    const client = connect(sim, { port });
    client.on.onConnect = () => void client.binding.write(counting(5));
    assertEquals(client.log, []);
    await sim.advance(10);
    assertEquals(door.first.log, ["3 data 5"]);
  });

  it("without a listener fails with ECONNREFUSED after a round trip", async () => {
    const sim = simRuntime();
    const client = connect(sim, { hostname: "127.0.0.1", port: 9 });
    await sim.advance(10);
    assertEquals(client.log, ["2 close ECONNREFUSED"]);
    assertEquals(sim.openHandles, 0);
  });

  it("to an address that no host has fails with EHOSTUNREACH", async () => {
    const sim = simRuntime();
    const client = connect(sim, { hostname: "10.9.9.9", port: 9 });
    const client6 = connect(sim, { hostname: "2001:db8::1", port: 9 });
    await sim.advance(10);
    assertEquals([client.closed, client6.closed], ["EHOSTUNREACH", "EHOSTUNREACH"]);
  });

  it("can be cancelled by close(), reset() and release() at any moment, with one onClose() and nothing left", async () => {
    for (const way of ["close", "reset", "release"] as const) {
      for (const afterMs of [0, 0.5, 1, 1.5]) {
        const sim = simRuntime();
        const { door, listener, port } = await listen(sim);
        const client = connect(sim, { port });
        await sim.advance(afterMs);
        client.binding[way]();
        client.binding[way]();
        assertEquals(client.log, []);
        await sim.advance(10);
        assertEquals(client.events, ["close ok"]);
        assertEquals(door.ends.length, 0);
        await listener.close();
        assertEquals([sim.openHandles, sim.pending], [0, 0]);
      }
    }
  });

  it("from a local address shows it to the server; an address of another host fails", async () => {
    const sim = simRuntime();
    const { door, port } = await listen(sim);
    connect(sim, { port, localAddress: "127.0.0.7" });
    const wrong = connect(sim, { port, localAddress: "10.0.0.77" });
    assertEquals(wrong.log, []);
    await sim.advance(10);
    assertEquals((door.first.binding.remote as { hostname: string }).hostname, "127.0.0.7");
    assertEquals(wrong.closed, "EADDRNOTAVAIL");
  });

  it("can be repeated until the server listens", async () => {
    const sim = simRuntime();
    const refused = connect(sim, { port: 80 });
    await sim.advance(5);
    await listen(sim, { port: 80 });
    const client = connect(sim, { port: 80 });
    await sim.advance(5);
    assertEquals([refused.closed, client.events], ["ECONNREFUSED", ["connect"]]);
  });
});

describe("write()", () => {
  it("delivers in order, in the receiver's own memory, one latency later", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    const chunk = counting(4);
    assertEquals(client.binding.write(chunk), 4);
    assertEquals(client.binding.write(counting(4, 4)), 4);
    chunk.fill(99);
    assertEquals(server.log, []);
    await sim.advance(1);
    assertEquals(server.log, ["4 data 8"]);
    assertEquals(server.bytes, [0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("gives each receiver memory that nothing else uses", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    const got: Uint8Array[] = [];
    server.on.onData = (chunk) => void got.push(chunk);
    client.binding.write(counting(40_000));
    await sim.advance(1);
    client.binding.write(counting(40_000));
    await sim.advance(1);
    assertEquals(new Set(got.map((chunk) => chunk.buffer)).size, got.length);
    assert(got.every((chunk) => chunk.byteOffset === 0 && chunk.buffer.byteLength === chunk.length));
  });

  it("returns 0 for an empty chunk, without a later onWritable()", async () => {
    const sim = simRuntime();
    const [client] = await pair(sim);
    assertEquals(client.binding.write(new Uint8Array(0)), 0);
    await sim.advance(5);
    assertEquals(client.events, ["connect"]);
  });

  it("returns 0 before onConnect(), and onWritable() follows it", async () => {
    const sim = simRuntime();
    const { port } = await listen(sim);
    const client = connect(sim, { port });
    assertEquals(client.binding.write(counting(1)), 0);
    await sim.advance(5);
    assertEquals(client.events, ["connect", "writable"]);
  });

  it("that was refused before onConnect() gets no onWritable() if onConnect() has repeated it", async () => {
    const sim = simRuntime();
    const { port } = await listen(sim);
    const client = connect(sim, { port });
    client.binding.write(counting(1));
    client.on.onConnect = () => assertEquals(client.binding.write(counting(1)), 1);
    await sim.advance(5);
    assertEquals(client.events, ["connect"]);
  });

  it("accepts nothing between a 0 and onWritable()", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    while (client.binding.write(new Uint8Array(9999)) > 0);
    server.binding.resumeRead();
    while (client.writables === 0) {
      assertEquals(client.binding.write(counting(1)), 0);
      await sim.advance(0.25);
    }
    assertEquals(client.binding.write(counting(1)), 1);
    await sim.advance(100);
    assertEquals(client.writables, 1);
  });

  it("returns 0 if the peer does not read, and onWritable() follows once, when kilobytes are free", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    let taken = 0;
    for (let n = -1; n !== 0; taken += n) n = client.binding.write(new Uint8Array(10_000));
    assert(taken >= 65_536 && taken <= 262_144, `took ${taken}`);
    assertEquals(client.binding.write(new Uint8Array(1)), 0);
    await sim.advance(1000);
    assertEquals([client.writables, server.bytes.length, sim.pending], [0, 0, 0]);

    server.binding.resumeRead();
    await sim.advance(1000);
    assertEquals([client.writables, server.bytes.length], [1, taken]);
    assert(client.binding.write(new Uint8Array(1_000_000)) > 2048);
  });

  it("accepts nothing while the receiver takes single bytes", async () => {
    const sim = simRuntime({ faults: { segmentCut: 1e-9 } });
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    // Bytes that are written in one instant leave together.
    while (client.binding.write(new Uint8Array(1000)) > 0) await sim.advance(0);
    server.on.onData = () => server.binding.pauseRead();
    let before = 0;
    while (client.writables === 0) {
      before = server.bytes.length;
      server.binding.resumeRead();
      await sim.advance(5);
    }
    assert(before >= 2048, `opened after ${before} bytes`);
  });

  it("delivers a megabyte through a receiver that pauses at each chunk", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    const total = 1_000_003;
    let sent = 0;
    const more = (): void => {
      for (let n = -1; n !== 0 && sent < total; sent += n) {
        n = client.binding.write(counting(Math.min(50_000, total - sent), sent));
      }
      if (sent === total) client.binding.shutdownWrite();
    };
    client.on.onWritable = more;
    server.on.onData = () => {
      server.binding.pauseRead();
      sim.setTimer(sim.now() + 7, () => server.binding.resumeRead());
    };
    more();
    await sim.run(new Promise<void>((resolve) => (server.on.onEnd = resolve)));
    assertEquals(server.bytes.length, total);
    assert(server.bytes.every((byte, i) => byte === i % 256));
  });

  it("of several chunks accepts as much as one write of all their bytes", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    assertEquals(client.binding.writev?.([counting(3), new Uint8Array(0), counting(3, 3)]), 6);
    server.binding.pauseRead();
    let taken = 6;
    for (let n = -1; n !== 0; taken += n) n = client.binding.writev?.([counting(30_000), counting(30_000)]) ?? 0;
    server.binding.resumeRead();
    await sim.advance(100);
    assertEquals([server.bytes.length, client.writables], [taken, 1]);
    assertEquals(server.bytes.slice(0, 6), [0, 1, 2, 3, 4, 5]);
  });

  it("after shutdownWrite() and close() returns 0, and nothing follows", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    client.binding.shutdownWrite();
    assertEquals(client.binding.write(counting(1)), 0);
    server.binding.close();
    assertEquals(server.binding.write(counting(1)), 0);
    await sim.advance(10);
    assertEquals(client.binding.write(counting(1)), 0);
    assertEquals(client.events, ["connect", "end", "close ok"]);
    assertEquals(server.events, ["close ok"]);
  });
});

describe("pauseRead()", () => {
  it("holds data and the end until resumeRead()", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    client.binding.write(counting(3));
    client.binding.shutdownWrite();
    await sim.advance(10);
    assertEquals(server.log, []);
    server.binding.resumeRead();
    server.binding.resumeRead();
    assertEquals(server.log, []);
    await sim.advance(0);
    assertEquals(server.events, ["data 3", "end"]);
  });

  it("inside onData() holds the next data", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.on.onData = () => server.binding.pauseRead();
    client.binding.write(counting(3));
    await sim.advance(1);
    client.binding.write(counting(3));
    client.binding.shutdownWrite();
    await sim.advance(10);
    assertEquals(server.events, ["data 3"]);
  });
});

describe("half-close", () => {
  it("of the client leaves the server's direction open", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.on.onEnd = () => {
      server.binding.write(counting(5));
      server.binding.shutdownWrite();
    };
    client.binding.write(counting(2));
    client.binding.shutdownWrite();
    client.binding.shutdownWrite();
    await sim.advance(10);
    assertEquals(server.events, ["data 2", "end", "close ok"]);
    assertEquals(client.events, ["connect", "data 5", "end", "close ok"]);
    assertEquals(sim.openHandles, 0);
  });

  it("of the server leaves the client's direction open", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.shutdownWrite();
    await sim.advance(100);
    assertEquals(client.events, ["connect", "end"]);
    for (let i = 0; i < 100; i++) {
      client.binding.write(new Uint8Array(10_000));
      await sim.advance(5);
    }
    client.binding.shutdownWrite();
    await sim.advance(5);
    assertEquals([server.bytes.length, server.closed, client.closed], [1_000_000, "ok", "ok"]);
  });

  it("comes after all written bytes, through a full window", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    let taken = 0;
    for (let n = -1; n !== 0; taken += n) n = client.binding.write(new Uint8Array(5000));
    client.binding.shutdownWrite();
    await sim.advance(50);
    server.binding.resumeRead();
    await sim.advance(50);
    assertEquals([server.bytes.length, server.events.at(-1)], [taken, "end"]);
    assertEquals(client.writables, 0);
  });

  it("before the connection takes effect after it", async () => {
    const sim = simRuntime();
    const { door, port } = await listen(sim);
    const client = connect(sim, { port });
    client.binding.shutdownWrite();
    await sim.advance(10);
    assertEquals([client.events, door.first.events], [["connect"], ["end"]]);
  });
});

describe("close()", () => {
  it("delivers everything, drops what arrives, and ends when the peer has finished", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    let taken = 0;
    for (let n = -1; n !== 0; taken += n) n = client.binding.write(new Uint8Array(5000));
    client.binding.close();
    client.binding.close();
    await sim.advance(50);
    server.binding.resumeRead();
    await sim.advance(50);
    assertEquals([server.bytes.length, server.events.at(-1)], [taken, "end"]);
    for (let i = 0; i < 50; i++) {
      assertEquals(server.binding.write(new Uint8Array(10_000)), 10_000);
      await sim.advance(2);
    }
    assertEquals([client.events, sim.openHandles], [["connect"], 2]);
    server.binding.shutdownWrite();
    await sim.advance(5);
    assertEquals([client.events, server.closed, sim.openHandles], [["connect", "close ok"], "ok", 0]);
  });

  it("drops data that arrived while reading was paused", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    client.binding.write(counting(9));
    await sim.advance(5);
    server.binding.close();
    client.binding.close();
    await sim.advance(5);
    assertEquals([server.events, client.events], [["close ok"], ["connect", "close ok"]]);
  });

  it("from inside each callback is followed by onClose() only", async () => {
    for (const where of ["onConnect", "onData", "onEnd", "onWritable"] as const) {
      const sim = simRuntime();
      const { door, port } = await listen(sim);
      door.accept = (end) => {
        end.on.onEnd = () => end.binding.close();
        end.binding.write(counting(3));
        end.binding.shutdownWrite();
      };
      const client = connect(sim, { port });
      client.on[where] = () => client.binding.close();
      client.binding.write(counting(1));
      client.on.onEnd ??= () => client.binding.shutdownWrite();
      await sim.advance(20);
      const name = where.slice(2).toLowerCase();
      assertEquals(client.events.slice(client.events.indexOf(name === "data" ? "data 3" : name) + 1), ["close ok"]);
      assertEquals([door.first.closed, sim.openHandles], ["ok", 1]);
    }
  });

  it("by both ends at once ends both, with all that was written delivered or dropped and no error", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    for (const end of [client, server]) {
      end.binding.write(new Uint8Array(100_000));
      end.binding.close();
    }
    await sim.advance(20);
    assertEquals([client.events, server.events], [["connect", "close ok"], ["close ok"]]);
  });

  it("reports ECONNRESET if the peer resets before it has finished, whether all was delivered or not", async () => {
    for (const late of [false, true]) {
      const sim = simRuntime();
      const [client, server] = await pair(sim);
      client.binding.write(counting(9));
      client.binding.close();
      if (late) await sim.advance(5);
      server.binding.reset();
      await sim.advance(5);
      assertEquals(client.closed, "ECONNRESET");
    }
  });
});

describe("release()", () => {
  it("detaches at once, delivers accepted bytes, and sends no reset", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    let taken = 0;
    for (let n = -1; n !== 0; taken += n) n = client.binding.write(new Uint8Array(5000));
    client.binding.close();
    await sim.advance(50);
    client.binding.release();
    client.binding.release();
    assertEquals(client.events, ["connect"]);
    await sim.advance(0);
    assertEquals([client.events, sim.openHandles], [["connect", "close ok"], 1]);
    server.binding.resumeRead();
    await sim.advance(50);
    assertEquals([server.bytes.length, server.events.at(-1)], [taken, "end"]);
    server.binding.close();
    await sim.advance(5);
    assertEquals([server.closed, client.events.length, sim.openHandles], ["ok", 2, 0]);
  });

  it("answers data that arrives afterwards with a reset", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    client.binding.close();
    client.binding.release();
    await sim.advance(5);
    assertEquals(server.events, ["end"]);
    assertEquals(server.binding.write(counting(3)), 3);
    await sim.advance(5);
    assertEquals(server.events, ["end", "close ECONNRESET"]);
    assertEquals(server.binding.write(counting(3)), 0);
  });
});

describe("reset()", () => {
  it("does not let write() exceed the space while the peer's reset has not arrived", async () => {
    const sim = simRuntime({ latencyMs: 1 });
    const [client, server] = await pair(sim);
    server.binding.reset();
    let taken = 0;
    for (let i = 0; i < 100; i++) taken += client.binding.write(new Uint8Array(65_536));
    assertEquals(taken, 65_536);
    await sim.advance(20);
    assertEquals(client.closed, "ECONNRESET");
  });

  it("gives the peer ECONNRESET after data that had arrived, and discards data on its way", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    client.binding.write(counting(3));
    await sim.advance(5);
    client.binding.write(counting(100));
    client.binding.reset();
    client.binding.reset();
    assertEquals(client.binding.write(counting(1)), 0);
    await sim.advance(5);
    assertEquals([client.events, server.events], [["connect", "close ok"], []]);
    server.binding.resumeRead();
    await sim.advance(5);
    assertEquals(server.events, ["data 3", "close ECONNRESET"]);
    assertEquals(sim.openHandles, 0);
  });

  it("is reported at once if no data waits, paused or not", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    client.binding.reset();
    await sim.advance(1);
    assertEquals(server.log, ["4 close ECONNRESET"]);
  });

  it("is reported to a paused end that writes, after the waiting data", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    client.binding.write(counting(3));
    await sim.advance(5);
    client.binding.reset();
    await sim.advance(5);
    assertEquals(server.binding.write(counting(1)), 0);
    assertEquals(server.events, []);
    await sim.advance(5);
    assertEquals(server.events, ["data 3", "close ECONNRESET"]);
  });

  it("is reported to a paused end with waiting data even after its close()", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.binding.pauseRead();
    client.binding.write(counting(3));
    await sim.advance(5);
    client.binding.reset();
    await sim.advance(5);
    server.binding.close();
    await sim.advance(5);
    assertEquals(server.events, ["close ECONNRESET"]);
  });

  it("from inside onData() is followed by onClose() only", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    server.on.onData = () => server.binding.reset();
    client.binding.write(counting(3));
    client.binding.shutdownWrite();
    await sim.advance(10);
    assertEquals(server.events, ["data 3", "close ok"]);
    assertEquals(client.events, ["connect", "close ECONNRESET"]);
  });

  it("by both ends is an error for neither", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    client.binding.reset();
    server.binding.reset();
    await sim.advance(5);
    assertEquals([client.closed, server.closed], ["ok", "ok"]);
  });

  it("after both directions were finished changes nothing", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    client.binding.close();
    server.binding.close();
    await sim.advance(5);
    client.binding.reset();
    await sim.advance(5);
    assertEquals([client.events.length, server.events], [2, ["close ok"]]);
  });
});

describe("a callback that throws", () => {
  it("rejects advance(), and the connection goes on", async () => {
    const sim = simRuntime();
    const [client, server] = await pair(sim);
    const boom = new Error("boom");
    server.on.onData = () => {
      server.on = {};
      throw boom;
    };
    client.binding.write(counting(3));
    client.binding.shutdownWrite();
    assert(await sim.advance(10).catch((reason: unknown) => reason) === boom);
    await sim.advance(10);
    assertEquals(server.events, ["data 3", "end"]);
  });

  it("in onAccept() resets that connection, and the listener goes on", async () => {
    const sim = simRuntime();
    const { door, port } = await listen(sim);
    const boom = new Error("boom");
    door.accept = () => {
      door.accept = () => {};
      throw boom;
    };
    const [first, second] = [connect(sim, { port }), connect(sim, { port })];
    assert(await sim.advance(10).catch((reason: unknown) => reason) === boom);
    await sim.advance(10);
    assertEquals([first.closed, second.closed, sim.openHandles], ["ECONNRESET", undefined, 3]);
  });
});

describe("100,000 idle connections", () => {
  it("are made at once, have nothing scheduled, and are closed", async () => {
    const sim = simRuntime();
    const open = {
      onConnect() {},
      onSecure() {},
      onData() {},
      onEnd() {},
      onWritable() {},
      onClose: () => void closed++,
    };
    let closed = 0;
    const accepted: { close(): void }[] = [];
    await sim.listen({ port: 80 }, {
      onAccept: (binding) => {
        accepted.push(binding);
        return open;
      },
      onError: (error) => {
        throw error;
      },
    });
    const clients = Array.from({ length: 100_000 }, () => sim.connect({ port: 80 }, open));
    await sim.advance(3);
    assertEquals([accepted.length, sim.openHandles, sim.pending], [100_000, 200_001, 0]);
    await sim.advance(3_600_000);
    for (const binding of [...clients, ...accepted]) binding.close();
    await sim.advance(3);
    assertEquals([closed, sim.openHandles, sim.pending], [200_000, 1, 0]);
  });
});
