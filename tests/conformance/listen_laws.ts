/** Laws 5, 9 and 10: listening sockets. */

import { it } from "./suite.ts";
import { assert, assertEquals, assertGreater, assertNotEquals, assertRejects, assertStringIncludes } from "./assert.ts";
import { type Capabilities, EventError, type ListenOptions } from "../../core/mod.ts";
import { type Kind, noise, type Peer, type Scene, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

async function assertRefused(scene: Scene, options: ListenOptions, code: string): Promise<EventError> {
  const before = scene.runtime.openHandles;
  const error = await assertRejects(() => scene.listen(options), EventError);
  assertEquals(error.code, code, error.message);
  assert(error.message.startsWith("Cannot "), error.message);
  assertEquals(scene.runtime.openHandles, before, "something is left open");
  return error;
}

const echo = { data: (peer: Peer, chunk: Uint8Array) => void peer.write(chunk), end: (peer: Peer) => peer.close() };

export function listenLaws(makeSubject: () => FullSubject, can: Readonly<Capabilities>, kinds: readonly Kind[]): void {
  const withoutSix = makeSubject().missing("::1");

  it("chooses a free port for 0, on every IPv4 address if no address is given", () =>
    scene(makeSubject(), async (scene) => {
      const [a, b] = [await scene.listen({}), await scene.listen({ port: 0 })];
      assertEquals(a.address, { hostname: "0.0.0.0", port: a.port, family: "IPv4" });
      assertGreater(a.port, 0);
      assertNotEquals(a.port, b.port);
      const client = scene.connect({ hostname: "127.0.0.1", port: a.port });
      await client.connected;
    }));

  it(
    "listens on every IPv6 address if only the family is given",
    { skip: withoutSix },
    () =>
      scene(makeSubject(), async (scene) => {
        const listener = await scene.listen({ family: "IPv6" });
        assertEquals(listener.address, { hostname: "::", port: listener.port, family: "IPv6" });
        const client = scene.connect({ hostname: "::1", port: listener.port });
        await client.connected;
      }),
  );

  it("fails with EADDRINUSE if the address has a listener", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
      const error = await assertRefused(scene, { hostname: "127.0.0.1", port: listener.port }, "EADDRINUSE");
      assertStringIncludes(error.message, `127.0.0.1:${listener.port}`);
      const client = scene.connect(listener.address);
      await client.connected;
    }));

  it("fails with EADDRNOTAVAIL for an address of another machine", () =>
    scene(makeSubject(), async (scene) => {
      await assertRefused(scene, { hostname: "203.0.113.77", port: 0 }, "EADDRNOTAVAIL");
    }));

  it(
    "fails with EADDRINUSE on a path that has a listener",
    { skip: !can.unix && "capabilities.unix is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const listener = await scene.listenOn("unix");
        const { path } = listener.address as { path: string };
        const error = await assertRefused(scene, { path }, "EADDRINUSE");
        assertStringIncludes(error.message, path);
      }),
  );

  it(
    "fails with ENOENT on a path in a missing directory",
    { skip: !can.unix && "capabilities.unix is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        await assertRefused(scene, { path: `${scene.subject.unixPath()}/missing/socket` }, "ENOENT");
      }),
  );

  it(
    "fails with EINVAL on a path that is too long for the system, and does not truncate it",
    { skip: !can.unix && "capabilities.unix is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        for (const length of [110, 305]) {
          const path = `${scene.subject.unixPath()}${"x".repeat(length)}`;
          await assertRefused(scene, { path }, "EINVAL");
          const error = await scene.connect({ path }).closed;
          assertEquals(error?.code, "EINVAL");
        }
      }),
  );

  it("refuses features whose capabilities are false", () =>
    scene(makeSubject(), async (scene) => {
      if (!can.tls) await assertRefused(scene, { port: 0, tls: { cert: "", key: "" } }, "EV_UNSUPPORTED");
      if (!can.reusePort) await assertRefused(scene, { port: 0, reusePort: true }, "EV_UNSUPPORTED");
      if (!can.ipv6Only) await assertRefused(scene, { hostname: "::", port: 0, ipv6Only: true }, "EV_UNSUPPORTED");
    }));

  it(
    "shares a port with reusePort",
    { skip: !can.reusePort && "capabilities.reusePort is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const first = await scene.listen({ hostname: "127.0.0.1", port: 0, reusePort: true });
        const second = await scene.listen({ hostname: "127.0.0.1", port: first.port, reusePort: true });
        const clients = Array.from({ length: 20 }, () => scene.connect(first.address));
        await Promise.all(clients.map((client) => client.connected));
        await scene.until(() => first.accepted.length + second.accepted.length === 20, "20 connections");
      }),
  );

  it(
    "and its clients see both addresses in the family of their own socket",
    { skip: withoutSix },
    () =>
      scene(makeSubject(), async (scene) => {
        // The listening address, the address to connect to, the addresses that the server sees, and
        // those that the client sees.
        const ways: [string, string, string, string][] = [
          ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"],
          ["0.0.0.0", "127.0.0.1", "127.0.0.1", "127.0.0.1"],
          ["::1", "::1", "::1", "::1"],
          ["::", "::1", "::1", "::1"],
          ["::", "127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"],
          ["::", "::ffff:127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.1"],
          ["127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1"],
          ["::ffff:127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"],
        ];
        for (const [where, to, atServer, atClient] of ways) {
          const listener = await scene.listen({ hostname: where, port: 0 });
          const family = (hostname: string): "IPv4" | "IPv6" => hostname.includes(":") ? "IPv6" : "IPv4";
          assertEquals(listener.address, { hostname: where, port: listener.port, family: family(where) });
          const client = scene.connect({ hostname: to, port: listener.port });
          const server = await listener.accept();
          await client.connected;
          const { local, remote } = client.binding!;
          const seen = (ends: unknown[]): string[] =>
            ends.map((end) => {
              const { hostname, family } = end as { hostname: string; family: string };
              return `${hostname} ${family}`;
            });
          assertEquals(
            seen([server.binding!.local, server.binding!.remote, local, remote]),
            [atServer, atServer, atClient, atClient].map((hostname) => `${hostname} ${family(hostname)}`),
            `${where} from ${to}`,
          );
        }
      }),
  );

  it(
    "excludes IPv4 with ipv6Only, and includes it without",
    { skip: !can.ipv6Only ? "capabilities.ipv6Only is false" : withoutSix },
    () =>
      scene(makeSubject(), async (scene) => {
        const both = await scene.listen({ hostname: "::", port: 0, ipv6Only: false });
        const welcome = scene.connect({ hostname: "127.0.0.1", port: both.port });
        await welcome.connected;
        let only = await scene.listen({ hostname: "::", port: 0, ipv6Only: true });
        let outcome: string | undefined = "connected";
        // Another process may listen on that port of IPv4.
        for (let tries = 0; outcome === "connected" && tries < 5; tries++) {
          if (tries > 0) only = await scene.listen({ hostname: "::", port: 0, ipv6Only: true });
          const other = scene.connect({ hostname: "127.0.0.1", port: only.port });
          outcome = await Promise.race([
            other.connected.then(() => "connected"),
            other.closed.then((error) => error?.code),
          ]);
        }
        assertEquals(outcome, "ECONNREFUSED");
        const client = scene.connect({ hostname: "::1", port: only.port });
        await client.connected;
      }),
  );

  it("accepts a backlog", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen({ hostname: "127.0.0.1", port: 0, backlog: 16 });
      const client = scene.connect(listener.address);
      await client.connected;
    }));

  for (const kind of kinds) {
    it(
      `closes and keeps its connections, ${kind}`,
      { skip: kind === "IPv6" && withoutSix },
      () =>
        scene(makeSubject(), async (scene) => {
          const { client, server, listener } = await scene.pair(kind);
          await listener.close();
          const late = scene.connect(listener.address);
          assertEquals((await late.closed)?.code, kind === "unix" ? "ENOENT" : "ECONNREFUSED");
          await client.send(noise(100_000, 70));
          await server.atLeast(100_000);
          await server.send(noise(100_000, 71));
          await client.atLeast(100_000);
        }),
    );

    it(
      `releases its address when it is closed, ${kind}`,
      { skip: kind === "IPv6" && withoutSix },
      () =>
        scene(makeSubject(), async (scene) => {
          const { client, listener } = await scene.pair(kind);
          const { address } = listener;
          await Promise.all([listener.close(), listener.close()]);
          await listener.close();
          // The remaining connection does not prevent listening on the port.
          const again = await scene.listen({ ...address });
          assertEquals(again.address, address);
          const second = scene.connect(again.address);
          await second.connected;
          assertEquals(client.isClosed, false);
        }),
    );
  }

  it("closes while connections are being made, and ends all of them", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
      const clients = Array.from({ length: 30 }, () => scene.connect(listener.address));
      await clients[0]!.connected;
      await listener.close();
      await scene.settle();
      for (const server of listener.accepted) server.reset();
      for (const client of clients) {
        await Promise.race([client.ended, client.closed]);
        client.reset();
        await client.closed;
      }
    }));

  it("accepts 1,000 connections that are dropped at once, and serves the next", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 }, { accepted: () => echo });
      const clients = Array.from({ length: 1000 }, (_, i) =>
        scene.connect(listener.address, {
          connect: (peer) => i % 2 === 0 ? peer.reset() : peer.close(),
        }));
      await Promise.all(clients.map((client) => client.closed));
      for (const client of clients) assertEquals(client.heard.at(-1), "close");
      const next = scene.connect(listener.address);
      await next.connected;
      next.write("still there?");
      await next.atLeast(12);
      assertEquals(next.text, "still there?");
      next.close();
      await next.closed;
      await scene.until(() => listener.accepted.every((server) => server.isClosed), "all connections to be gone");
    }));

  it("does not report clients that have left before it has accepted them", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
      const clients = Array.from({ length: 100 }, () =>
        scene.connect(listener.address, {
          connect: (peer) => {
            peer.write("gone");
            peer.reset();
          },
        }));
      await Promise.all(clients.map((client) => client.closed));
      const next = scene.connect(listener.address);
      await next.connected;
      await scene.settle();
      assertEquals(listener.errors, []);
    }));

  it("serves 200 connections at once", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 }, { accepted: () => echo });
      await Promise.all(Array.from({ length: 200 }, async (_, i) => {
        const client = scene.connect(listener.address);
        await client.connected;
        const bytes = noise(1000 + i, i + 1);
        await client.send(bytes);
        client.shutdown();
        assertEquals(await client.closed, undefined);
        assertEquals(client.received, bytes);
      }));
    }));

  it(
    "leaves connections to the system while accepting is paused",
    { skip: !can.pauseAccept && "capabilities.pauseAccept is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
        listener.binding!.pauseAccept();
        const clients = Array.from({ length: 5 }, () => scene.connect(listener.address));
        for (let i = 0; i < 3; i++) await scene.settle();
        // One may have been on its way.
        assert(listener.accepted.length <= 1, `${listener.accepted.length} were accepted`);
        listener.binding!.resumeAccept();
        listener.binding!.resumeAccept();
        await scene.until(() => listener.accepted.length === 5, "5 connections");
        await Promise.all(clients.map((client) => client.connected));
      }),
  );

  it(
    "accepts connections although accepting is paused if it cannot pause",
    { skip: can.pauseAccept && "capabilities.pauseAccept is true" },
    () =>
      scene(makeSubject(), async (scene) => {
        const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
        listener.binding!.pauseAccept();
        listener.binding!.unref();
        listener.binding!.ref();
        const clients = Array.from({ length: 5 }, () => scene.connect(listener.address));
        await Promise.all(clients.map((client) => client.connected));
        await scene.until(() => listener.accepted.length === 5, "5 connections");
        listener.binding!.resumeAccept();
        listener.binding!.resumeAccept();
      }),
  );
}
