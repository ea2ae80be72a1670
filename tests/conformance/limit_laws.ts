/** `serve()` on a real network: limits, lines, timeouts, and its end. */

import { connect as netConnect } from "node:net";
import { describe, it } from "./suite.ts";
import { assert, assertEquals } from "./assert.ts";
import {
  BEV_OPT_CLOSE_ON_FREE,
  type InetAddress,
  pipe,
  type ServeCallbacks,
  type ServeOptions,
  type Server,
  SocketBufferEvent,
} from "../../core/mod.ts";
import { on } from "./on.ts";
import type { FullSubject } from "./subject.ts";

/** Tests one runtime. */
export function limitLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: host, ownNetwork, tls } = makeSubject();
  const certificates = tls && { cert: tls.cert, key: tls.key, ca: tls.ca };
  const { connect, serve } = on(host);
  const LOCAL = { hostname: "127.0.0.1", port: 0 };

  function portOf(server: Server): number {
    return (server.address as InetAddress).port;
  }

  /** A client that records its bytes and its end. */
  class Client {
    received = "";
    /** The code of the error, or "end"; undefined while it is open. */
    ended: string | undefined;
    bev!: SocketBufferEvent;

    static async open(port: number): Promise<Client> {
      const client = new Client();
      client.bev = await connect({ hostname: "127.0.0.1", port }, {
        read: (bev) => {
          client.received += bev.input.toString();
          bev.input.drain(bev.input.length);
        },
        event: (bev, _what, error) => {
          client.ended = error?.code ?? "end";
          bev.close();
        },
      });
      return client;
    }
  }

  async function until(what: string, holds: () => boolean): Promise<void> {
    for (let i = 0; i < 4000 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assert(holds(), what);
  }

  /** Serves, and checks that nothing is left. */
  async function serving(
    options: ServeOptions,
    callbacks: ServeCallbacks,
    use: (server: Server, port: number) => Promise<void>,
  ): Promise<void> {
    const server = await serve({ ...LOCAL, ...options }, callbacks);
    try {
      await use(server, portOf(server));
    } finally {
      await server.close({ graceMs: 0 });
    }
    await until("nothing is open", () => host.openHandles === 0);
  }

  describe(`serve() on ${name}`, { skip: ownNetwork && "node:net cannot reach it" }, () => {
    it("gives lines, and ends a connection whose line is too long", () =>
      serving({ maxLine: 100 }, { line: (bev, line) => void bev.write(`${line.length}\n`) }, async (_, port) => {
        const client = await Client.open(port);
        client.bev.write("one\r\n\nthree\n");
        await until("the lengths", () => client.received === "3\n0\n5\n");
        client.bev.write("x".repeat(10_000));
        await until("the end", () => client.ended !== undefined);
      }));

    it("ends silent connections, and no others", () =>
      serving({ idleTimeoutMs: 1500 }, { read: (bev) => void bev.writeBuffer(bev.input) }, async (server, port) => {
        const [idle, busy] = [await Client.open(port), await Client.open(port)];
        const beat = setInterval(() => busy.bev.write("x"), 20);
        await until("the idle one is let go", () => idle.ended !== undefined);
        clearInterval(beat);
        assertEquals([busy.ended, server.connections], [undefined, 1]);
      }));

    it("resets too many connections from one address", () =>
      serving({ maxConnectionsPerAddress: 2 }, { open: (bev) => void bev.write("hello") }, async (server, port) => {
        const clients = [await Client.open(port), await Client.open(port)];
        await until("two are served", () => clients.every(({ received }) => received === "hello"));
        const third = await Client.open(port).catch((error) => error);
        await until("the third is refused", () => server.rejected === 1);
        if (third instanceof Client) await until("its end", () => third.ended !== undefined);
        assertEquals(server.connections, 2);
      }));

    it(
      "sends the peer a reset for reset(), without an end before it",
      { skip: !host.capabilities.reset && "capabilities.reset is false" },
      () =>
        serving({}, { read: (bev) => bev.reset() }, async (_server, port) => {
          const told: string[] = [];
          const peer = netConnect({ port, host: "127.0.0.1", allowHalfOpen: true });
          peer.on("end", () => told.push("end"));
          peer.on("error", (error) => told.push((error as { code?: string }).code ?? "error"));
          peer.resume();
          const closed = new Promise((resolve) => peer.on("close", resolve));
          peer.write("hello");
          await closed;
          assertEquals(told, ["ECONNRESET"]);
        }),
    );

    it("serves at most maxConnections at a time, and the others when there is space", () =>
      serving({ maxConnections: 1 }, { open: (bev) => void bev.write("hello") }, async (server, port) => {
        const [first, second] = [await Client.open(port), await Client.open(port)];
        await until("the first is served", () => first.received === "hello");
        assertEquals([second.received, server.connections], ["", 1]);
        first.bev.close();
        await until("the second is served", () => second.received === "hello");
      }));

    it("lets connections finish when it is closed, and resets them after the grace", async () => {
      const server = await serve(LOCAL, { read: (bev) => void bev.writeBuffer(bev.input) });
      const [good, bad] = [await Client.open(portOf(server)), await Client.open(portOf(server))];
      await until("both are there", () => server.connections === 2);
      const closed = server.close({ graceMs: 3000 });
      good.bev.write("last words");
      good.bev.shutdown();
      await closed;
      await until("both have ended", () => good.ended !== undefined && bad.ended !== undefined);
      assertEquals([good.received, good.ended], ["last words", "end"]);
      await until("nothing is open", () => host.openHandles === 0);
    });

    it(
      "respects handshakeTimeoutMs",
      { skip: certificates === undefined && "there is no TLS, or no openssl" },
      () =>
        serving({ tls: certificates!, handshakeTimeoutMs: 200 }, {}, async (server, port) => {
          const silent = await Client.open(port);
          await until("it is let go", () => silent.ended !== undefined);
          await until("it is not counted any more", () => server.connections === 0);
        }),
    );

    it("works with pipe()", () =>
      serving({}, { read: (bev) => void bev.writeBuffer(bev.input) }, async (_, port) => {
        let carried: unknown;
        const proxy = await serve(LOCAL, {
          open: (client) => {
            const there = new SocketBufferEvent(client.base, null, BEV_OPT_CLOSE_ON_FREE);
            there.connect({ hostname: "127.0.0.1", port });
            pipe(client, there).then((result) => carried = result, (error) => carried = error);
          },
        });
        const client = await Client.open(portOf(proxy));
        const text = "The quick brown fox. ".repeat(100_000);
        client.bev.write(text);
        client.bev.shutdown();
        await until("the end", () => client.ended !== undefined);
        assertEquals([client.ended, client.received === text], ["end", true]);
        await until("the numbers", () => carried !== undefined);
        assertEquals(carried, { bytesAToB: text.length, bytesBToA: text.length });
        await proxy.close();
      }));
  });
}
