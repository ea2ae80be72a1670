// Which clients a server accepts: maxConnections, whenFull, accept and reject, and what happens to
// refused clients.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { EVENT_BASE_COUNT_ACTIVE } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { Address, InetAddress, Runtime } from "../../../core/runtime.ts";
import { Socket } from "../../../core/api/socket.ts";
import { addressKey, type RejectReason } from "../../../core/serve/admission.ts";
import { serve, type ServeCallbacks, type ServeOptions, type Server } from "../../../core/serve/serve.ts";
import { type SimHost, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { BurstHost } from "../loop/harness.ts";
import { isOver, portOf, receiveAll, text } from "../socket/pairs.ts";

/** A network with a separate host for the server, so that its handles can be counted. */
class Stage {
  readonly sim: SimRuntime = simRuntime({ maxSteps: 1_000_000 });
  readonly host: SimHost = this.sim.host("server");
  readonly clients: Socket[] = [];
  /** The errors that `error` got: the codes, or the messages. */
  readonly told: string[] = [];
  server!: Server;

  async serve(options: ServeOptions, callbacks: ServeCallbacks, runtime: Runtime = this.host): Promise<void> {
    this.server = await serve({ runtime, hostname: "0.0.0.0", port: 0, ...options }, {
      error: (error, bev) => {
        assertEquals(bev, null);
        const { code, message } = error as { code?: string; message: string };
        this.told.push(code ?? message);
      },
      ...callbacks,
    });
  }

  client(): Socket {
    const client = Socket.connect(this.sim, { hostname: this.host.addresses[0] as string, port: portOf(this.server) });
    this.clients.push(client);
    return client;
  }

  async burst(count: number, ms = 20): Promise<Socket[]> {
    const clients = Array.from({ length: count }, () => this.client());
    await this.sim.advance(ms);
    return clients;
  }

  async end(): Promise<void> {
    for (const client of this.clients) client.close();
    await this.sim.run(this.server.close({ graceMs: 0 }));
    await this.sim.advance(6_000);
    assertEquals([this.sim.openHandles, this.host.openHandles, this.sim.pending], [0, 0, 0]);
    assertEquals(this.server.base.numEvents(EVENT_BASE_COUNT_ACTIVE), 0);
  }
}

/** A runtime on a host of the network that accepts every connection. */
function greedy(host: SimHost): Runtime {
  return new BurstHost(host as SimRuntime);
}

async function holdsTheBacklog(priorities: number): Promise<void> {
  const stage = new Stage();
  const asked: string[] = [];
  const base = new EventBase({ runtime: greedy(stage.host), priorities });
  void base.dispatch();
  await stage.serve({ base, maxConnections: 3, backlog: 5 }, {
    open: (bev) => void bev.write("welcome"),
    reject: (address, reason) => {
      assertEquals((address as InetAddress).hostname, "10.0.0.1");
      asked.push(reason);
      return "full\n";
    },
  });
  const { server } = stage;
  for (let episode = 1; episode <= 2; episode++) {
    const clients = await stage.burst(20);
    assertEquals([server.connections, server.rejected], [3, 12 * episode]);
    const heard = clients.map((client) => receiveAll(client));
    assertEquals(heard.map(({ bytes }) => text(bytes)).sort(), [
      ...Array(5).fill(""),
      ...Array(12).fill("full\n"),
      ...Array(3).fill("welcome"),
    ]);
    assertEquals(heard.filter(({ ended }) => ended).length, 12);
    assertEquals(stage.told.length, episode);
    // Waiting clients are accepted, in order.
    for (const [i, client] of clients.entries()) if (text(heard[i]!.bytes) !== "") client.close();
    await stage.sim.advance(20);
    const waited = clients.filter((_, i) => text(heard[i]!.bytes) === "");
    assertEquals(waited.filter((client) => text(receiveAll(client).bytes) === "welcome").length, 3);
    for (const client of clients) client.close();
    await stage.sim.advance(20);
  }
  assertEquals([stage.told, asked], [Array(2).fill("EV_BACKLOG_FULL"), Array(24).fill("maxConnections")]);
  await stage.end();
  base.loopBreak();
  await stage.sim.advance(0);
}

describe("a full server", () => {
  it("leaves all further clients to the system if the host can", async () => {
    for (const priorities of [1, 2]) {
      const stage = new Stage();
      const base = new EventBase({ runtime: stage.host, priorities });
      void base.dispatch();
      await stage.serve({ base, maxConnections: 60 }, {});
      const clients = await stage.burst(80);
      const { server, host } = stage;
      assertEquals([server.connections, server.rejected, host.openHandles], [60, 0, 61], `${priorities} priorities`);
      assert(clients.every((client) => client.connected && !isOver(client)));
      for (const client of clients.slice(0, 5)) client.close();
      await stage.sim.advance(20);
      assertEquals([server.connections, host.openHandles], [60, 61]);
      for (const client of clients.slice(5, 40)) client.close();
      await stage.sim.advance(20);
      assertEquals([server.connections, server.rejected, stage.told], [40, 0, []]);
      await stage.end();
      base.loopBreak();
      await stage.sim.advance(0);
    }
  });

  it("elsewhere queues as many as the backlog, refuses the others with a last message, and reports once an episode", async () => {
    for (const priorities of [1, 2]) await holdsTheBacklog(priorities);
  });

  it("refuses further clients with whenFull reject, and accepts others when there is space", async () => {
    for (const make of [(host: SimHost): Runtime => host, greedy]) {
      const stage = new Stage();
      await stage.serve({ maxConnections: 2, whenFull: "reject", backlog: 1 }, {}, make(stage.host));
      const clients = await stage.burst(10);
      const { server } = stage;
      assertEquals([server.connections, server.rejected, clients.filter(isOver).length], [2, 8, 8]);
      clients.find((client) => !isOver(client))?.close();
      await stage.burst(2);
      assertEquals([server.connections, server.rejected, stage.told], [2, 9, []]);
      await stage.end();
    }
  });

  it("counts TLS handshakes in progress", async () => {
    const stage = new Stage();
    const tls = { cert: "server signed by a CA", key: "a key" };
    await stage.serve({ maxConnections: 2, whenFull: "reject", tls, handshakeTimeoutMs: 100 }, {});
    // They send nothing.
    await stage.burst(5);
    assertEquals([stage.server.connections, stage.server.rejected], [2, 3]);
    await stage.sim.advance(200);
    assertEquals(stage.server.connections, 0);
    await stage.burst(1);
    assertEquals([stage.server.connections, stage.server.rejected], [1, 3]);
    await stage.end();
  });

  it("that is closed releases clients that it was about to refuse", async () => {
    const stage = new Stage();
    const base = new EventBase({ runtime: greedy(stage.host) });
    await stage.serve({ base, maxConnections: 1, backlog: 1 }, { reject: () => "full" });
    await stage.burst(1);
    base.loopExit(5);
    await stage.sim.run(base.dispatch());
    // No loop runs, so no callback can run.
    const clients = await stage.burst(5);
    assertEquals(stage.server.rejected, 0);
    void stage.server.close({ graceMs: 0 });
    await stage.sim.advance(20);
    assertEquals(clients.filter(isOver).length, 5);
    await stage.end();
  });

  it("that is closed keeps no descriptor of waiting clients, although they do not finish", async () => {
    const stage = new Stage();
    const base = new EventBase({ runtime: greedy(stage.host) });
    void base.dispatch();
    await stage.serve({ base, maxConnections: 1, backlog: 5 }, {});
    await stage.burst(4);
    assertEquals(stage.server.connections, 1);
    await stage.sim.run(stage.server.close({ graceMs: 0 }));
    assertEquals(stage.host.openHandles, 0);
    await stage.end();
  });

  it("refuses another value of whenFull", async () => {
    const options = { runtime: simRuntime(), port: 0, whenFull: "wiat" as "wait" };
    await assertRejects(() => serve(options, {}), RangeError, "whenFull");
  });
});

describe("accept", () => {
  it("gets the address of each client within the limits, and refuses before there is a bufferevent", async () => {
    const stage = new Stage();
    const asked: Address[] = [];
    let opened = 0;
    await stage.serve({ maxConnectionsPerAddress: 3 }, {
      accept: (address) => asked.push(address) !== 2,
      open: () => void opened++,
      close: () => void opened--,
    });
    const clients = await stage.burst(5);
    assertEquals([asked.length, opened, stage.server.connections, stage.server.rejected], [4, 3, 3, 2]);
    for (const [i, client] of clients.slice(0, 4).entries()) {
      assertEquals([asked[i], isOver(client)], [client.localAddress, i === 1]);
    }
    assertEquals(stage.told, []);
    await stage.end();
  });

  it("refuses a client if it throws or does not return a boolean; the error is reported, and the server goes on", async () => {
    const stage = new Stage();
    const answers: (() => unknown)[] = [
      () => {
        throw new Error("my fault");
      },
      () => undefined,
      () => 1,
      () => Promise.resolve(true),
      () => Promise.reject(new Error("nobody waits")),
      () => true,
    ];
    await stage.serve({}, { accept: () => answers.shift()?.() as boolean });
    for (let i = 0; i < 6; i++) await stage.burst(1);
    assertEquals([stage.server.connections, stage.server.rejected, answers.length], [1, 5, 0]);
    assertEquals([stage.told.length, stage.told[0]], [5, "my fault"]);
    for (const message of stage.told.slice(1)) assertStringIncludes(message, "neither true nor false");
    await stage.end();
  });

  it("may close the server: the current client is closed", async () => {
    const stage = new Stage();
    let opened = 0;
    await stage.serve({}, {
      accept: () => {
        void stage.server.close();
        return true;
      },
      open: () => void opened++,
    });
    const clients = await stage.burst(3);
    assertEquals([opened, stage.server.connections], [0, 0]);
    for (const client of clients) assert(client.error !== null || isOver(client));
    await stage.end();
  });

  it("reports its exception to the host if there is no error callback", async () => {
    const stage = new Stage();
    await stage.serve({}, {
      error: undefined,
      accept: () => {
        throw new Error("my fault");
      },
    } as unknown as ServeCallbacks);
    await assertRejects(() => stage.burst(1), Error, "my fault");
    await stage.sim.advance(10);
    assertEquals(stage.server.rejected, 1);
    await stage.end();
  });

  it("and error may both throw: each exception is reported", async () => {
    const stage = new Stage();
    await stage.serve({}, {
      accept: () => {
        throw new Error("my fault");
      },
      error: () => {
        throw new Error("mine too");
      },
    });
    await assertRejects(() => stage.burst(1), Error, "mine too");
    await stage.sim.advance(10);
    assertEquals(stage.server.rejected, 1);
    await stage.end();
  });
});

describe("reject", () => {
  it("gives each refused client a last message, which arrives complete although the client goes on sending", async () => {
    const stage = new Stage();
    const reasons: RejectReason[] = [];
    const long = "x".repeat(65_536);
    await stage.serve({ maxConnections: 2, whenFull: "reject", maxConnectionsPerAddress: 1 }, {
      accept: () => reasons.length > 0,
      reject: (_address, reason) => {
        reasons.push(reason);
        return reason === "accept" ? new TextEncoder().encode("421 not now\r\n") : long;
      },
    });
    const [first] = await stage.burst(1) as [Socket];
    const said = receiveAll(first);
    assertEquals([text(said.bytes), said.ended, reasons], ["421 not now\r\n", true, ["accept"]]);
    first.close();
    await stage.burst(1);
    const third = stage.client();
    let received = "";
    let ended = false;
    // It sends much more than the server reads, and reads slowly.
    for (let ms = 0; ms < 500 && !ended; ms++) {
      if (third.connected) third.send(new Uint8Array(10_000));
      await stage.sim.advance(1);
      const some = receiveAll(third);
      received += text(some.bytes);
      ended = some.ended;
    }
    assertEquals([received === long, ended, reasons[1]], [true, true, "maxConnectionsPerAddress"]);
    assertEquals([stage.server.connections, stage.server.rejected, stage.told], [1, 2, []]);
    await stage.end();
  });

  it("may return nothing: the client is reset", async () => {
    for (const word of [undefined, null, "", new Uint8Array(0)]) {
      const stage = new Stage();
      await stage.serve({}, { accept: () => false, reject: () => word as undefined });
      const [client] = await stage.burst(1) as [Socket];
      assertEquals([client.error?.code, stage.server.rejected, stage.told], ["ECONNRESET", 1, []]);
      await stage.end();
    }
  });

  it("that throws, or returns no message or one that is too long, is reported; the client is reset", async () => {
    const words: (() => unknown)[] = [
      () => {
        throw new Error("my fault");
      },
      () => 421,
      () => Promise.reject(new Error("nobody waits")),
      () => "x".repeat(65_537),
      () => {
        const word = new Uint8Array(10);
        structuredClone(word.buffer, { transfer: [word.buffer] });
        return word;
      },
    ];
    for (const word of words) {
      const stage = new Stage();
      await stage.serve({}, { accept: () => false, reject: () => word() as string });
      const [client] = await stage.burst(1) as [Socket];
      assertEquals([client.error?.code, stage.server.rejected, stage.told.length], ["ECONNRESET", 1, 1]);
      await stage.end();
    }
  });

  it("is called with TLS, too, but the client gets no last message", async () => {
    const stage = new Stage();
    const reasons: RejectReason[] = [];
    const tls = { cert: "server signed by a CA", key: "a key" };
    await stage.serve({ tls }, {
      accept: () => false,
      reject: (_address, reason) => {
        reasons.push(reason);
        return "in the clear";
      },
    });
    const [client] = await stage.burst(1) as [Socket];
    assertEquals([client.error?.code, reasons, stage.server.rejected], ["ECONNRESET", ["accept"], 1]);
    await stage.end();
  });

  it("uses no place of maxConnections, and few handles, while clients do not read their last message or do not finish", async () => {
    const stage = new Stage();
    await stage.serve({ maxConnections: 1 }, { accept: () => false, reject: () => "421 not now\r\n" });
    const clients = await stage.burst(1000);
    assertEquals([stage.server.connections, stage.server.rejected], [0, 1000]);
    assert(stage.host.openHandles <= 1 + 128, `${stage.host.openHandles} handles`);
    assert(clients.every((client) => text(receiveAll(client).bytes) === "421 not now\r\n"));
    // Five seconds is the limit for a last message.
    await stage.sim.advance(6_000);
    assertEquals(stage.host.openHandles, 1);
    await stage.end();
  });
});

describe("addressKey()", () => {
  it("gives an IPv4 client of a listener on :: its IPv4 key", () => {
    const of = (hostname: string): string | null => addressKey({ hostname, port: 1, family: "IPv4" });
    assertEquals(
      ["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:192.0.2.1", "::1", "2001:db8::ffff:1"].map(of),
      ["192.0.2.1", "192.0.2.1", "192.0.2.1", "::1", "2001:db8::ffff:1"],
    );
    assertEquals(addressKey({ path: "" }), null);
  });
});
