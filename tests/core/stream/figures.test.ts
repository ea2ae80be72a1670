// Server.stats() and prometheus(): the figures add up, whatever happens to the connections.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { Socket } from "../../../core/api/socket.ts";
import { prometheus } from "../../../core/serve/prometheus.ts";
import { connect, serve, type ServeCallbacks, type ServeOptions, type Server } from "../../../core/serve/serve.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

function sumOf(counts: { [name: string]: number }): number {
  return Object.values(counts).reduce((sum, each) => sum + each, 0);
}

function start(
  sim: ReturnType<typeof simRuntime>,
  options: ServeOptions = {},
  callbacks: ServeCallbacks = { read: (bev) => bev.output.addBuffer(bev.input) },
): Promise<Server> {
  return sim.run(serve({ runtime: sim, hostname: "127.0.0.1", port: 0, ...options }, callbacks));
}

describe("Server.stats()", () => {
  it("counts connections, their ends by code, and bytes each way", async () => {
    const sim = simRuntime();
    const server = await start(sim, { idleTimeoutMs: 5_000 }, {
      line(bev, line) {
        if (line.length === 5) throw new Error("a bug");
        bev.write("12345678\r\n");
      },
      error() {},
    });
    const clients = [1, 2, 3, 4].map(() => Socket.connect(sim, { port: server.port }));
    await sim.advance(10);
    for (const client of clients) client.send("abc\r\n");
    await sim.advance(10);
    let { accepted, open, bytesRead, bytesWritten, ended, rejected, handshakesFailed } = server.stats();
    assertEquals([accepted, open, bytesRead, bytesWritten], [4, 4, 20, 40]);
    assertEquals([ended, rejected, handshakesFailed], [{}, {}, 0]);
    clients[0]!.close();
    clients[1]!.reset();
    clients[2]!.send("abcde\r\n");
    await sim.advance(10);
    ({ open, bytesRead, bytesWritten, ended } = server.stats());
    assertEquals([open, bytesRead, bytesWritten], [1, 27, 40]);
    assertEquals(ended, { OK: 1, ECONNRESET: 1, EV_HANDLER_FAILED: 1 });
    await sim.advance(6_000);
    assertEquals(server.stats().ended, { OK: 1, ECONNRESET: 1, EV_HANDLER_FAILED: 1, ETIMEDOUT: 1 });
    await sim.run(server.close());
    ({ accepted, open, ended } = server.stats());
    assertEquals([accepted, open], [sumOf(ended), 0]);
  });

  it("counts refused clients by reason, and connections that a stop has ended", async () => {
    const sim = simRuntime();
    const server = await start(sim, { maxConnections: 2, whenFull: "reject" }, { accept: () => sim.now() > 20 });
    const early = Socket.connect(sim, { port: server.port });
    await sim.advance(30);
    for (let i = 0; i < 5; i++) Socket.connect(sim, { port: server.port });
    await sim.advance(10);
    assertEquals(server.stats().rejected, { accept: 1, maxConnections: 3 });
    assertEquals(server.rejected, 4);
    await sim.run(server.close({ graceMs: 0 }));
    assertEquals(server.stats().ended, { ECANCELED: 2 });
    early.close();
  });

  it("counts failed handshakes, but not those that a stop has ended", async () => {
    const sim = simRuntime();
    const tls = { cert: "localhost signed by us", key: "a key" };
    const server = await start(sim, { tls });
    const talk = Socket.connect(sim, { port: server.port });
    await sim.advance(5);
    talk.send("this is no ClientHello");
    await sim.advance(50);
    assertEquals([server.stats().handshakesFailed, server.stats().accepted, server.stats().open], [1, 1, 0]);
    const client = await sim.run(
      connect({ runtime: sim, port: server.port, tls: { ca: "us", serverName: "localhost" } }, { read() {} }),
    );
    client.write("plain");
    await sim.advance(50);
    assertEquals([server.stats().bytesRead, client.bytesRead], [5, 5]);
    Socket.connect(sim, { port: server.port });
    await sim.advance(5);
    client.free();
    await sim.run(server.close({ graceMs: 0 }));
    const { handshakesFailed, accepted, ended } = server.stats();
    assertEquals([handshakesFailed, accepted, sumOf(ended)], [1, 3, 3]);
  });

  it("counts bytes that leave while a connection is being closed, to the last byte", async () => {
    const sim = simRuntime();
    const server = await start(sim, { writeHigh: 0 }, {
      open(bev) {
        bev.write(new Uint8Array(500_000));
        void bev.close();
      },
    });
    let received = 0;
    await sim.run(connect({ runtime: sim, port: server.port }, {
      read(bev) {
        received += bev.input.length;
        bev.input.drain(bev.input.length);
      },
    }));
    await sim.advance(2_000);
    assertEquals([server.stats().bytesWritten, received, server.stats().open], [500_000, 500_000, 0]);
    await sim.run(server.close());
  });

  it("counts answers that leave after a limit has ended the connection", async () => {
    const sim = simRuntime();
    const server = await start(sim, { writeHigh: 0, maxLine: 100 }, {
      open: (bev) => void bev.write(new Uint8Array(500_000)),
      line() {},
    });
    let received = 0;
    const client = await sim.run(connect({ runtime: sim, port: server.port }, {
      read(bev) {
        received += bev.input.length;
        bev.input.drain(bev.input.length);
      },
    }));
    client.write("x".repeat(1_000));
    await sim.advance(10_000);
    const { bytesWritten, open, ended } = server.stats();
    assertEquals([bytesWritten, received, open, ended], [500_000, 500_000, 0, { EV_LINE_TOO_LONG: 1 }]);
    await sim.run(server.close());
  });

  it("measures the turns of its base: some before the first call, then all of them", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    void base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    // Each read of the clock takes 0.7 ms.
    let looks = 0;
    const now = sim.now.bind(sim);
    const server = await start(sim, { base });
    const first = Socket.connect(sim, { port: server.port });
    await sim.advance(50);
    first.close();
    await sim.advance(50);
    const before = sumOf(server.stats().turnMs);
    assert(before >= 1, `${before}`);
    sim.now = () => now() + 0.7 * looks++;
    const turns = base.stats().turns;
    const client = Socket.connect(sim, { port: server.port });
    for (let i = 0; i < 20; i++) {
      client.send("x");
      await sim.advance(5);
    }
    const { turnMs } = server.stats();
    assertEquals(sumOf(turnMs) - before, base.stats().turns - turns);
    assert((turnMs["0.5"] ?? 0) < sumOf(turnMs), JSON.stringify(turnMs));
    assertEquals(Object.keys(turnMs).length, 14);
    sim.now = now;
    client.close();
    await sim.run(server.close());
  });
});

describe("prometheus()", () => {
  it("writes every metric of every server once, with the address as a label", async () => {
    const sim = simRuntime();
    const [one, two] = [await start(sim), await start(sim, { hostname: "::1" })];
    const client = Socket.connect(sim, { port: one.port });
    await sim.advance(10);
    client.send("hello");
    await sim.advance(10);
    const text = prometheus(one, two);
    assert(text.endsWith("\n"));
    const lines = text.trimEnd().split("\n");
    assertEquals(lines.filter((line) => line.startsWith("# TYPE")).map((line) => line.slice(7)), [
      "trivent_connections_accepted_total counter",
      "trivent_connections_open gauge",
      "trivent_connections_rejected_total counter",
      "trivent_connections_ended_total counter",
      "trivent_bytes_read_total counter",
      "trivent_bytes_written_total counter",
      "trivent_handshakes_failed_total counter",
      "trivent_turn_seconds histogram",
    ]);
    const server = `server="127.0.0.1:${one.port}"`;
    for (
      const line of [
        `trivent_connections_accepted_total{${server}} 1`,
        `trivent_connections_open{${server}} 1`,
        `trivent_connections_open{server="[::1]:${two.port}"} 0`,
        `trivent_connections_rejected_total{${server},reason="accept"} 0`,
        `trivent_connections_ended_total{${server},code="OK"} 0`,
        `trivent_bytes_read_total{${server}} 5`,
        `trivent_bytes_written_total{${server}} 5`,
        `trivent_handshakes_failed_total{${server}} 0`,
      ]
    ) assertEquals(lines.filter((each) => each === line).length, 1, line);
    // Each line but the comments is a name, labels and a number.
    for (const line of lines) {
      assert(/^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+\{([a-z]+="[^"\n]*",?)+\} [\d.e+-]+)$/.test(line), line);
    }
    client.close();
    await sim.run(one.close());
    await sim.run(two.close());
  });

  it("has a histogram whose buckets grow up to its count", async () => {
    const sim = simRuntime();
    const server = await start(sim);
    server.stats();
    const client = Socket.connect(sim, { port: server.port });
    for (let i = 0; i < 10; i++) {
      client.send("x");
      await sim.advance(5);
    }
    const text = prometheus(server);
    const buckets = [...text.matchAll(/^trivent_turn_seconds_bucket\{.*le="(.*)"\} (\d+)$/gm)].map(([, le, n]) =>
      [le, Number(n)] as const
    );
    assertEquals([buckets[0]?.[0], buckets.at(-1)?.[0], buckets.length], ["0.0001", "+Inf", 14]);
    for (let i = 1; i < buckets.length; i++) assert(buckets[i]![1] >= buckets[i - 1]![1]);
    const count = Number(/^trivent_turn_seconds_count\{.*\} (\d+)$/m.exec(text)?.[1]);
    assertEquals([buckets.at(-1)?.[1], count >= 10], [count, true]);
    client.close();
    await sim.run(server.close());
  });

  it("escapes the path of a unix socket, and accepts only servers", async () => {
    const sim = simRuntime();
    sim.directories.add('/a"\\\n');
    const server = await sim.run(serve({ runtime: sim, path: '/a"\\\n/s' }, {}));
    assert(prometheus(server).includes('server="unix:/a\\"\\\\\\n/s"'), prometheus(server).slice(0, 300));
    assertEquals(prometheus(), "");
    for (const bad of [null, {}, sim]) {
      assertThrows(() => prometheus(bad as unknown as Server), TypeError, "not a Server");
    }
    await sim.run(server.close());
  });
});
