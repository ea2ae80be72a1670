// The PROXY protocol before serve(): trusted addresses, timeouts, and the effects of a header.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { Socket } from "../../../core/api/socket.ts";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { BEV_EVENT_CONNECTED, EV_READ } from "../../../core/flags.ts";
import type { EventError } from "../../../core/errors.ts";
import type { Address, ProxyHeader } from "../../../core/runtime.ts";
import { connect, serve, type ServeCallbacks, type ServeOptions, type Server } from "../../../core/serve/serve.ts";
import { encodeProxyHeader, PP2_TYPE_NOOP } from "../../../core/socket/proxy_header.ts";
import { type SimHost, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { portOf, receiveAll, text } from "../socket/pairs.ts";

const CLIENT: Address = { hostname: "192.0.2.7", port: 40_000, family: "IPv4" };
const SERVICE: Address = { hostname: "198.51.100.1", port: 443, family: "IPv4" };
const PLAIN: ProxyHeader = { version: 2, command: "PROXY", source: CLIENT, destination: SERVICE, tlvs: [] };
const V1 = encodeProxyHeader({ ...PLAIN, version: 1 });
const V2 = encodeProxyHeader(PLAIN);
const TLS = { cert: "localhost signed by our CA", key: "any" };

function bytes(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function joined(...parts: (Uint8Array | string)[]): Uint8Array {
  const all = new EvBuffer();
  for (const part of parts) all.add(part);
  return all.toUint8Array();
}

/** A server that answers each line with the client's address, and a record of its callbacks. */
class Stage {
  readonly sim: SimRuntime = simRuntime({ maxSteps: 2_000_000 });
  readonly host: SimHost = this.sim.host("server");
  readonly opened: SocketBufferEvent[] = [];
  readonly calls: string[] = [];
  server!: Server;

  async serve(options: ServeOptions, callbacks: ServeCallbacks = {}): Promise<void> {
    this.server = await this.sim.run(
      serve({ runtime: this.host, hostname: "0.0.0.0", port: 0, ...options }, {
        open: (bev) => void this.opened.push(bev),
        line: (bev, line) => {
          const { hostname = "?", port = 0 } = bev.remoteAddress as { hostname?: string; port?: number };
          bev.write(`${hostname}:${port} ${text(line)}\n`);
        },
        reject: (address, reason) => {
          this.calls.push(`${reason} ${(address as { hostname?: string }).hostname ?? "unix"}`);
          return "bye\n";
        },
        error: (error) => void this.calls.push((error as EventError).code ?? String(error)),
        ...callbacks,
      }),
    );
  }

  client(): Socket {
    return Socket.connect(this.sim, { hostname: this.host.addresses[0] as string, port: portOf(this.server) });
  }

  /** Sends pieces, one every 5 ms. */
  async talk(...pieces: Uint8Array[]): Promise<Socket> {
    const client = this.client();
    await this.sim.advance(5);
    for (const piece of pieces) {
      for (let at = 0; at < piece.length;) {
        const n = client.send(piece.subarray(at));
        if (n > 0) at += n;
        await this.sim.advance(5);
      }
    }
    return client;
  }

  async end(): Promise<void> {
    await this.sim.run(this.server.close({ graceMs: 0 }));
    await this.sim.advance(70_000);
    assertEquals([this.sim.openHandles, this.host.openHandles], [0, 0]);
  }
}

describe("a server behind a proxy", () => {
  for (const [name, header] of [["1", V1], ["2", V2]] as const) {
    it(`reads a header of version ${name} cut at any byte, and the bytes behind it`, async () => {
      const stage = new Stage();
      await stage.serve({ proxyProtocol: "required" });
      const whole = joined(header, "hi\n");
      for (let cut = 1; cut <= whole.length; cut++) {
        const client = await stage.talk(whole.subarray(0, cut), whole.subarray(cut));
        assertEquals(said(client), "192.0.2.7:40000 hi\n", `cut at ${cut}`);
        client.close();
      }
      assertEquals(stage.opened.length, whole.length);
      assertEquals(stage.server.rejected, 0);
      await stage.end();
    });
  }

  it("reads a header one byte at a time, and shows it to the program", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: { mode: "required" } });
    const client = await stage.talk(...Array.from(V2, (byte) => Uint8Array.of(byte)));
    assertEquals(stage.opened.length, 1);
    const bev = stage.opened[0]!;
    assertEquals([bev.remoteAddress, bev.proxy], [CLIENT, PLAIN]);
    assertEquals(bev.socket?.remoteAddress, CLIENT);
    assertEquals((bev.localAddress as { port: number }).port, portOf(stage.server));
    client.close();
    await stage.sim.advance(50);
    assertEquals([bev.remoteAddress, bev.proxy], [CLIENT, PLAIN]);
    await stage.end();
  });

  it("gives a client that was accepted before its header no callback", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: "required" });
    const client = await stage.talk(V1.subarray(0, 20));
    assertEquals([stage.server.connections, stage.opened.length, [...stage.server].length], [1, 0, 0]);
    client.send(V1.subarray(20));
    await stage.sim.advance(5);
    assertEquals([stage.server.connections, stage.opened.length, [...stage.server].length], [1, 1, 1]);
    client.close();
    await stage.end();
  });

  it("serves its health checks (LOCAL, UNKNOWN) with the address of the connection", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: "required" });
    const none = { source: null, destination: null, tlvs: [] };
    for (
      const header of [
        { ...none, version: 2, command: "LOCAL" },
        { ...none, version: 1, command: "PROXY" },
        { ...none, version: 2, command: "PROXY" },
      ] as const
    ) {
      const client = await stage.talk(joined(encodeProxyHeader(header), "hi\n"));
      const { hostname, port } = client.localAddress as { hostname: string; port: number };
      assertEquals(said(client), `${hostname}:${port} hi\n`);
      assertEquals(stage.opened.at(-1)?.proxy, header);
      client.close();
    }
    await stage.end();
  });

  it("ignores plain health checks that connect and leave", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: "required" });
    for (const how of ["close", "reset"] as const) {
      const client = await stage.talk();
      client[how]();
      await stage.sim.advance(20);
    }
    assertEquals([stage.server.connections, stage.server.rejected, stage.calls], [0, 0, []]);
    await stage.end();
  });

  it("accepts a header of 65,551 bytes, and none longer than maxBytes", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: "required" });
    const tlvs = [{ type: PP2_TYPE_NOOP, value: new Uint8Array(65_535 - 12 - 3) }];
    const long = encodeProxyHeader({ ...PLAIN, tlvs });
    assertEquals(long.length, 65_551);
    const client = await stage.talk(joined(long, "hi\n"));
    await stage.sim.advance(100);
    assertEquals(said(client), "192.0.2.7:40000 hi\n");
    client.close();
    await stage.end();

    const bounded = new Stage();
    await bounded.serve({ proxyProtocol: { maxBytes: 107 } });
    const other = await bounded.talk(long.subarray(0, 16));
    assertEquals(bounded.calls, ["proxyProtocol 10.0.0.1"].map((each) => each.replace("10.0.0.1", addressOf(other))));
    assertEquals(said(other), "bye\n");
    other.close();
    await bounded.end();
  });

  it("refuses bytes that are not a header, at once, and counts them", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: "required" });
    const bad = [
      "GET / HTTP/1.1\r\n",
      "PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n",
      "PROXY \n",
      "PROXY " + "x".repeat(101),
    ];
    for (const each of bad) {
      const client = await stage.talk(bytes(each));
      assertEquals(said(client), "bye\n", each);
      client.close();
    }
    assertEquals([stage.server.rejected, stage.opened.length, stage.server.connections], [bad.length, 0, 0]);
    await stage.end();
  });

  it("refuses a header that is truncated or late", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: { timeoutMs: 100 } });
    const cut = await stage.talk(V1.subarray(0, 10));
    cut.shutdown();
    await stage.sim.advance(10);
    assertEquals([stage.server.rejected, said(cut)], [1, "bye\n"]);
    // A byte now and then does not extend the time.
    const slow = await stage.talk(...Array.from(V2.subarray(0, 17), (byte) => Uint8Array.of(byte)));
    assertEquals(stage.server.rejected, 1);
    await stage.sim.advance(20);
    assertEquals(stage.server.rejected, 2);
    const silent = await stage.talk();
    await stage.sim.advance(90);
    assertEquals(stage.server.rejected, 2);
    await stage.sim.advance(20);
    assertEquals([stage.server.rejected, stage.opened.length], [3, 0]);
    for (const each of [cut, slow, silent]) each.close();
    await stage.end();
  });

  it("refuses a header of an address that is not trusted, in either mode", async () => {
    for (const mode of ["required", "optional"] as const) {
      const stage = new Stage();
      await stage.serve({ proxyProtocol: { mode, trusted: ["192.0.2.0/24", "2001:db8::/32"] } });
      const client = await stage.talk(joined(V2, "hi\n"));
      assertEquals([stage.server.rejected, said(client)], [1, "bye\n"]);
      const plain = await stage.talk(bytes("hi\n"));
      assertEquals(stage.server.rejected, mode === "required" ? 2 : 1);
      // If a header is required, the client is refused before it sends anything.
      const silent = await stage.talk();
      assertEquals([stage.server.rejected, stage.server.connections], mode === "required" ? [3, 0] : [1, 2]);
      for (const each of [client, plain, silent]) each.close();
      await stage.end();

      const trusting = new Stage();
      const all = ["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
      await trusting.serve({ proxyProtocol: { mode, trusted: [...all, ...trusting.sim.addresses] } });
      const other = await trusting.talk(joined(V2, "hi\n"));
      assertEquals(said(other), "192.0.2.7:40000 hi\n");
      other.close();
      await trusting.end();
    }
  });

  it("serves clients without a header if it is optional, and silent clients after the timeout", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: { mode: "optional", timeoutMs: 200 } }, {
      open: (bev) => void (stage.opened.push(bev), bev.write("welcome\n")),
    });
    await stage.sim.advance(1);
    assertEquals(stage.calls, ["EV_PROXY_UNTRUSTED"]);
    const eager = await stage.talk(bytes("hi\n"));
    assertEquals(said(eager), `welcome\n${localOf(eager)} hi\n`);
    assertEquals(stage.opened[0]?.proxy, null);
    const silent = await stage.talk();
    await stage.sim.advance(150);
    assertEquals(stage.opened.length, 1);
    await stage.sim.advance(60);
    assertEquals([stage.opened.length, said(silent)], [2, "welcome\n"]);
    // The bytes may have been the beginning of a header.
    const begun = await stage.talk(bytes("PRO"));
    await stage.sim.advance(150);
    begun.send(bytes("BE\n"));
    await stage.sim.advance(10);
    assertEquals(said(begun), `welcome\n${localOf(begun)} PROBE\n`);
    const late = await stage.talk(bytes("PROXY TCP4 "));
    await stage.sim.advance(250);
    assertEquals(stage.server.rejected, 1);
    const half = await stage.talk();
    half.shutdown();
    await stage.sim.advance(10);
    assertEquals(stage.opened.length, 4);
    for (const each of [eager, silent, begun, late, half]) each.close();
    await stage.end();
  });

  it("applies maxConnectionsPerAddress and accept to clients, not to the proxy", async () => {
    const stage = new Stage();
    const asked: string[] = [];
    await stage.serve({ proxyProtocol: "required", maxConnectionsPerAddress: 2 }, {
      accept: (address) => {
        const { hostname } = address as { hostname: string };
        asked.push(hostname);
        return hostname !== "192.0.2.66";
      },
    });
    const from = (hostname: string): Uint8Array =>
      encodeProxyHeader({ ...PLAIN, source: { hostname, port: 1, family: "IPv4" } });
    const clients: Socket[] = [];
    for (const each of ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.66"]) {
      clients.push(await stage.talk(from(each)));
    }
    assertEquals(asked, ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.66"]);
    assertEquals(stage.calls, ["maxConnectionsPerAddress 192.0.2.1", "accept 192.0.2.66"]);
    assertEquals(stage.server.connections, 3);
    clients[0]?.close();
    await stage.sim.advance(50);
    clients.push(await stage.talk(joined(from("192.0.2.1"), "hi\n")));
    assertEquals(said(clients.at(-1)!), "192.0.2.1:1 hi\n");
    for (const each of clients) each.close();
    await stage.end();
  });

  it("counts a connection that waits for its header for maxConnections", async () => {
    for (const whenFull of ["wait", "reject"] as const) {
      const stage = new Stage();
      await stage.serve({ proxyProtocol: { timeoutMs: 1000 }, maxConnections: 2, whenFull });
      const silent = [await stage.talk(), await stage.talk()];
      const third = await stage.talk(joined(V2, "hi\n"));
      assertEquals([stage.server.connections, stage.server.rejected], [2, whenFull === "wait" ? 0 : 1]);
      await stage.sim.advance(1100);
      assertEquals(said(third), whenFull === "wait" ? "192.0.2.7:40000 hi\n" : "bye\n");
      assertEquals(stage.server.rejected, whenFull === "wait" ? 2 : 3);
      for (const each of [...silent, third]) each.close();
      await stage.end();
    }
  });

  it("closes connections that wait for their header at once when the server closes", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: "required" });
    const clients = [await stage.talk(), await stage.talk(V2.subarray(0, 14))];
    await stage.sim.run(stage.server.close());
    assertEquals([stage.server.connections, stage.server.rejected, stage.opened.length], [0, 0, 0]);
    for (const each of clients) each.close();
    await stage.end();
  });

  it("buffers at most one header of a peer that sends without end", async () => {
    const stage = new Stage();
    // A client that gets a last message has some time to read it. Its bytes are dropped meanwhile.
    await stage.serve({ proxyProtocol: "required" }, { reject: () => {} });
    // It announces the longest header, and sends more than that.
    const start = V2.slice(0, 16);
    start[14] = start[15] = 255;
    const client = await stage.talk(start);
    let sent = 0;
    for (let i = 0; i < 100 && client.error === null; i++) {
      const n = client.send(new Uint8Array(65_536).fill(255));
      if (n > 0) sent += n;
      await stage.sim.advance(5);
    }
    // Its bytes are not TLVs.
    assertEquals(stage.server.rejected, 1);
    assert(sent < 400_000, `${sent} bytes were taken`);
    client.close();
    await stage.end();
  });

  it("begins TLS behind the header, whatever arrived with it", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: "required", tls: TLS }, {
      open: (bev) => {
        stage.opened.push(bev);
        stage.calls.push(`${bev.tls?.protocol}`);
      },
    });
    const answers: string[] = [];
    for (const version of [1, 2] as const) {
      const client = await stage.sim.run(connect({
        runtime: stage.sim,
        hostname: stage.host.addresses[0],
        port: portOf(stage.server),
        tls: { serverName: "localhost", ca: "our CA" },
        proxyHeader: { ...PLAIN, version },
      }));
      client.write("hi\n");
      answers.push((await stage.sim.run(client.lines({ text: true }).next())).value ?? "");
      await stage.sim.run(client.close());
    }
    assertEquals(answers, Array(2).fill("192.0.2.7:40000 hi"));
    assertEquals([stage.opened[0]?.remoteAddress, stage.calls], [CLIENT, ["TLSv1.3", "TLSv1.3"]]);
    // A TLS client would not understand a last message in plain text.
    const plain = await stage.talk(bytes("hi\n"));
    assertEquals(plain.error?.code, "ECONNRESET");
    // Only the header, without TLS.
    const silent = await stage.talk(V2);
    assertEquals(stage.server.connections, 1);
    await stage.sim.advance(11_000);
    assertEquals(stage.server.connections, 0);
    for (const each of [plain, silent]) each.close();
    await stage.end();
  });

  it("accepts TLS without a header if it is optional", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: { mode: "optional", trusted: ["192.0.2.1"] }, tls: TLS });
    const client = await stage.sim.run(connect({
      runtime: stage.sim,
      hostname: stage.host.addresses[0],
      port: portOf(stage.server),
      tls: { serverName: "localhost", ca: "our CA" },
    }));
    client.write("hi\n");
    const { value = "" } = await stage.sim.run(client.lines({ text: true }).next());
    assertEquals(value, `${addressOf(client)}:${(client.localAddress as { port: number }).port} hi`);
    await stage.sim.run(client.close());
    await stage.end();
  });

  it("refuses wrong options with a message", async () => {
    const sim = simRuntime();
    const wrong: [unknown, RegExp][] = [
      ["always", /proxyProtocol is not "required" or "optional": received "always"/],
      [{ mode: 1 }, /proxyProtocol is not "required"/],
      [
        { trusted: ["10.0.0.0/33"] },
        /trusted has an element that is not an address or a block of addresses: received "10.0.0.0\/33"/,
      ],
      [{ trusted: "10.0.0.1" }, /trusted/],
      [{ trust: [] }, /unknown option proxyProtocol.trust: did you mean proxyProtocol.trusted/],
      [{ timeoutMs: -1 }, /proxyProtocol.timeoutMs/],
      [{ maxBytes: 10 }, /proxyProtocol.maxBytes/],
      [7, /proxyProtocol/],
    ];
    for (const [proxyProtocol, message] of wrong) {
      const error = await assertRejects(() =>
        serve({ runtime: sim, hostname: "127.0.0.1", port: 0, proxyProtocol: proxyProtocol as "required" }, {})
      );
      assert(message.test((error as Error).message), (error as Error).message);
    }
    await assertRejects(() => connect({ runtime: sim, port: 9, proxyHeader: {} as never }), RangeError);
    await assertRejects(() => connect({ runtime: sim, port: 9, proxyHeader: 1 as never }), TypeError);
  });
});

describe("startTls({ unread: true })", () => {
  it("passes bytes that were already read to the handshake", async () => {
    for (const read of [0, 1, 7, 1000]) {
      const stage = new Stage();
      await stage.serve({}, {
        line: null as never,
        open: (bev) => {
          stage.opened.push(bev);
          if (read > 0) bev.setMaxSingleRead(read);
        },
        read: (bev) => {
          if (bev.tls !== undefined) {
            bev.write(bev.input.toString().toUpperCase());
            return bev.input.drain(bev.input.length);
          }
          assertEquals(bev.input.pullup(1)?.[0], 22);
          bev.disable(EV_READ);
          bev.startTls({ ...TLS, unread: true });
          assertEquals(bev.input.length, 0);
        },
        event: (bev, what) => {
          if ((what & BEV_EVENT_CONNECTED) !== 0) bev.enable(EV_READ);
          else void bev.close();
        },
      });
      const client = await stage.sim.run(connect({
        runtime: stage.sim,
        hostname: stage.host.addresses[0],
        port: portOf(stage.server),
        tls: { serverName: "localhost", ca: "our CA" },
      }));
      client.write("hello\n");
      assertEquals((await stage.sim.run(client.lines({ text: true }).next())).value, "HELLO");
      await stage.sim.run(client.close());
      await stage.end();
    }
  });

  it("is refused without unread, and if the host does not support it", async () => {
    const stage = new Stage();
    const codes: string[] = [];
    await stage.serve({}, {
      line: null as never,
      read: (bev) => {
        for (const unread of [undefined, false]) {
          codes.push((assertThrows(() => bev.startTls({ ...TLS, unread })) as EventError).code);
        }
        assertThrows(() => bev.startTls({ ...TLS, unread: 1 as never }), TypeError);
        bev.free();
      },
    });
    (await stage.talk(bytes("x"))).close();
    assertEquals(codes, ["ERR_TLS_PLAINTEXT", "ERR_TLS_PLAINTEXT"]);
    await stage.end();
  });
});

describe("connect() with proxyHeader", () => {
  it("sends it before anything else, also before bytes that were written while connecting", async () => {
    const stage = new Stage();
    await stage.serve({ proxyProtocol: "required" });
    const options = { runtime: stage.sim, hostname: stage.host.addresses[0], port: portOf(stage.server) };
    const client = await stage.sim.run(
      connect({ ...options, proxyHeader: PLAIN }, { open: (bev) => void bev.write("hi\n") }),
    );
    assertEquals((await stage.sim.run(client.lines({ text: true }).next())).value, "192.0.2.7:40000 hi");
    await stage.sim.run(client.close());
    // Neither side writes anything.
    const silent = await stage.sim.run(connect({ ...options, proxyHeader: PLAIN }));
    await stage.sim.advance(20);
    assertEquals(stage.opened.length, 2);
    await stage.sim.run(silent.close());
    await stage.end();
  });
});

/** The received bytes. */
function said(socket: Socket): string {
  return text(receiveAll(socket).bytes);
}

function localOf(end: Socket): string {
  return `${addressOf(end)}:${(end.localAddress as { port: number }).port}`;
}

function addressOf(end: Socket | SocketBufferEvent): string {
  return (end.localAddress as { hostname: string }).hostname;
}
