/** Laws 3 and 10: the result of an attempt to connect. */

import { it } from "./suite.ts";
import { assert, assertArrayIncludes, assertEquals, assertInstanceOf, assertStringIncludes } from "./assert.ts";
import { type Address, type Capabilities, type ConnectOptions, EventError } from "../../core/mod.ts";
import { noise, type Scene, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

async function assertFails(scene: Scene, to: ConnectOptions | Address, code: string): Promise<EventError> {
  const client = scene.connect(to);
  assertEquals(client.heard, []);
  const error = await client.closed;
  assertInstanceOf(error, EventError);
  assertEquals(error.code, code, error.message);
  assertEquals(client.heard, [`close:${code}`]);
  return error;
}

/** An address without a listener. */
async function deserted(scene: Scene): Promise<Address> {
  const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
  await listener.close();
  return listener.address;
}

export function connectLaws(makeSubject: () => FullSubject, can: Readonly<Capabilities>): void {
  const { missing } = makeSubject();

  it("fails with ECONNREFUSED if nobody listens, and names the address", () =>
    scene(makeSubject(), async (scene) => {
      const address = await deserted(scene);
      const error = await assertFails(scene, address, "ECONNREFUSED");
      assertEquals(error.syscall, "connect");
      assertStringIncludes(error.message, `127.0.0.1:${(address as { port: number }).port}`);
      // A separate network has no host that could report the reason.
      if (!scene.subject.ownNetwork) assert(error.cause !== undefined);
    }));

  it(
    "fails with ECONNREFUSED over IPv6 too",
    { skip: missing("::1") },
    () =>
      scene(makeSubject(), async (scene) => {
        const listener = await scene.listenOn("IPv6");
        await listener.close();
        const error = await assertFails(scene, listener.address, "ECONNREFUSED");
        assertStringIncludes(error.message, `[::1]:${listener.port}`);
      }),
  );

  it(
    "fails with ENOENT if the path does not exist",
    { skip: !can.unix && "capabilities.unix is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const path = scene.subject.unixPath();
        const error = await assertFails(scene, { path }, "ENOENT");
        assertStringIncludes(error.message, path);
      }),
  );

  it(
    "fails with ECONNREFUSED if nobody has the abstract name",
    { skip: !can.abstractUnix && "capabilities.abstractUnix is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        await assertFails(scene, { path: `\0${scene.subject.unixPath()}` }, "ECONNREFUSED");
      }),
  );

  it("fails for an address without a route", () =>
    scene(makeSubject(), async (scene) => {
      // TCP cannot go to a multicast address, whatever the network of the machine.
      const client = scene.connect({ hostname: "224.0.0.1", port: 9 });
      const codes = ["EHOSTUNREACH", "ENETUNREACH"];
      if (scene.subject.deviates("unreachable-is-refused")) codes.push("ECONNREFUSED");
      assertArrayIncludes(codes, [(await client.closed)?.code]);
    }));

  it("fails a hundred times at once, each once", () =>
    scene(makeSubject(), async (scene) => {
      const address = await deserted(scene);
      const clients = Array.from({ length: 100 }, () => scene.connect(address));
      for (const client of clients) assertEquals((await client.closed)?.code, "ECONNREFUSED");
      await scene.settle();
      for (const client of clients) assertEquals(client.heard.length, 1);
    }));

  it("fails with EINVAL for an address of the other family", () =>
    scene(makeSubject(), async (scene) => {
      await assertFails(scene, { hostname: "::1", port: 9, family: "IPv4" }, "EINVAL");
    }));

  it(
    "refuses TLS if it does not support it",
    { skip: can.tls && "capabilities.tls is true" },
    () =>
      scene(makeSubject(), async (scene) => {
        await assertFails(scene, { hostname: "127.0.0.1", port: 9, tls: {} }, "EV_UNSUPPORTED");
      }),
  );

  it(
    "connects from a given local address, or refuses the option",
    {
      skip: missing("127.0.0.2"),
    },
    () =>
      scene(makeSubject(), async (scene) => {
        const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
        const to = { ...listener.address, localAddress: "127.0.0.2" };
        if (!can.localAddress) {
          await assertFails(scene, to, "EV_UNSUPPORTED");
          return;
        }
        const client = scene.connect(to);
        const server = await listener.accept();
        await client.connected;
        assertEquals((server.binding!.remote as { hostname: string }).hostname, "127.0.0.2");
        assertEquals((client.binding!.local as { hostname: string }).hostname, "127.0.0.2");
        // TEST-NET-3: no host has such an address.
        await assertFails(scene, { ...listener.address, localAddress: "203.0.113.77" }, "EADDRNOTAVAIL");
      }),
  );

  for (const end of ["close", "release", "reset"] as const) {
    it(`cancels an attempt by ${end}(), without an error`, () =>
      scene(makeSubject(), async (scene) => {
        const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
        const client = scene.connect(listener.address);
        client[end]();
        client[end]();
        assertEquals(await client.closed, undefined);
        await scene.settle();
        assertEquals(client.heard, ["close"]);
        await listener.close();
        await scene.settle();
        for (const server of listener.accepted) server.reset();
      }));

    it(`cancels an attempt by ${end}() that would have failed, without an error`, () =>
      scene(makeSubject(), async (scene) => {
        const client = scene.connect(await deserted(scene));
        client[end]();
        assertEquals(await client.closed, undefined);
        await scene.settle();
        assertEquals(client.heard, ["close"]);
      }));
  }

  it("accepts no bytes before it is connected; onConnect reports that there is space", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen();
      const client = scene.connect(listener.address);
      assertEquals(client.write("too early"), 0);
      await client.connected;
      const server = await listener.accept();
      await client.send(noise(100, 60));
      await server.atLeast(100);
      await scene.settle();
      assertEquals(client.heard.filter((what) => what !== "writable"), ["connect"]);
    }));

  it("finishes as soon as it is connected if shutdownWrite() was called before", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen();
      const client = scene.connect(listener.address);
      client.shutdown();
      await client.connected;
      const server = await listener.accept();
      await server.ended;
      await server.send(noise(1000, 61));
      server.shutdown();
      assertEquals(await client.closed, undefined);
      assertEquals(client.bytes, 1000);
    }));

  it("is paused from the beginning if pauseRead() was called before", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen();
      const client = scene.connect(listener.address);
      client.pauseRead();
      const server = await listener.accept();
      await client.connected;
      const sent = server.send(noise(4 << 20, 62));
      for (let i = 0; i < 3; i++) await scene.settle();
      assert(client.bytes < 1 << 20, `${client.bytes} bytes came`);
      client.resumeRead();
      await sent;
      await client.atLeast(4 << 20);
    }));

  it("connects to the loopback address without a host name", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
      const client = scene.connect({ port: listener.port });
      await client.connected;
      assertEquals(client.binding!.remote, listener.address);
    }));
}
