/** Law 17: datagram sockets. A runtime without them refuses them with the reason (law 5). */

import { networkInterfaces } from "node:os";
import { describe, it } from "./suite.ts";
import { assert, assertEquals, assertGreater, assertLessOrEqual, assertRejects, assertThrows } from "./assert.ts";
import {
  type Datagram,
  type DatagramSocket,
  EAGAIN,
  EV_ET,
  EV_PERSIST,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
  EventError,
  Poller,
  select,
} from "../../core/mod.ts";
import { assertSame, bytes, pattern, type PollScene, pollScene, text } from "./poll_scene.ts";
import type { FullSubject } from "./subject.ts";

/** The time in which nothing should happen. */
const QUIET_MS = 40;
/**
 * Unused groups: of the site (RFC 2365), and of the interface, so that nothing leaves the host (RFC
 * 4291).
 */
const GROUP = "239.255.83.7";
const GROUP6 = "ff01::8307";
/** The loopback interface. On Linux there is no way to a group of IPv6 on it. */
const LOOPBACK = "127.0.0.1";
/** The largest datagram over IPv4. */
const LARGEST = 65_507;

/** The name of an interface that leads to a network of IPv6. */
function interfaceWithSix(): string | undefined {
  const all = Object.entries(networkInterfaces());
  return all.find(([, own]) => own?.some(({ internal, family }) => !internal && family === "IPv6"))?.[0];
}

/** Waits for a datagram. */
async function take(socket: DatagramSocket): Promise<Datagram> {
  for (;;) {
    await select({ read: [socket] });
    const datagram = socket.recvFrom();
    if (datagram !== EAGAIN) return datagram;
  }
}

/** Sends it, waiting for space. */
async function send(socket: DatagramSocket, data: Uint8Array | string, to: DatagramSocket): Promise<void> {
  while (socket.sendTo(data, to.address) === EAGAIN) await select({ write: [socket] });
}

/** Tests one runtime. */
export function datagramLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime, missing, ownNetwork } = makeSubject();
  const { udp } = runtime.capabilities;
  const withoutSix = missing("::1");
  const law = (
    what: string,
    body: (scene: PollScene) => Promise<void>,
    skip: boolean | string = !udp && "capabilities.udp is false",
  ): void => {
    it(what, { skip }, () => pollScene(makeSubject(), body));
  };
  const open = async (scene: PollScene, hostname = "127.0.0.1", port = 0): Promise<DatagramSocket> =>
    scene.keep(await scene.base.datagram({ hostname, port }));

  describe(`${name}: datagrams`, () => {
    law("are refused with a reason if the runtime has none", async (scene) => {
      const error = await assertRejects(() => scene.base.datagram(), EventError);
      assertEquals(error.code, "EV_UNSUPPORTED");
      assert(error.message.endsWith(runtime.lacks?.udp ?? ""), error.message);
    }, udp && "capabilities.udp is true");

    law("go both ways, whole, with the address of the sender", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      assertEquals([a.address.hostname, a.address.family], ["127.0.0.1", "IPv4"]);
      assert(a.address.port > 0 && a.address.port !== b.address.port);
      assertEquals(a.recvFrom(), EAGAIN);
      assertEquals(a.sendTo("hêllo", b.address), 6);
      const there = await take(b);
      assertEquals([text(there.data), there.address], ["hêllo", a.address]);
      assertEquals(Object.getPrototypeOf(there.data), Uint8Array.prototype);
      b.sendTo(there.data.subarray(1), there.address);
      const back = await take(a);
      assertEquals([text(back.data), back.address], ["êllo", b.address]);
      assertEquals([a.recvFrom(), b.recvFrom()], [EAGAIN, EAGAIN]);
    });

    law("of no bytes and of 65507 bytes arrive", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      assertEquals(a.sendTo(new Uint8Array(0), b.address), 0);
      assertEquals((await take(b)).data.length, 0);
      const data = pattern(LARGEST);
      assertEquals(a.sendTo(data, b.address), LARGEST);
      assertSame((await take(b)).data, data);
    });

    law("keep their bounds and their order on the way to the same machine", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      for (let i = 0; i < 100; i++) await send(a, pattern(i + 1, i), b);
      for (let i = 0; i < 100; i++) assertSame((await take(b)).data, pattern(i + 1, i));
    });

    law("are copied when they are sent, and belong to the receiver when they are received", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      const data = bytes("first");
      a.sendTo(data, b.address);
      data.set(bytes("other"));
      a.sendTo(data, b.address);
      const [one, two] = [await take(b), await take(b)];
      assertEquals([text(one.data), text(two.data)], ["first", "other"]);
      one.data.fill(0);
      assertEquals(text(two.data), "other");
    });

    law("without a receiver are lost silently, and the next ones are not", async (scene) => {
      const [a, b, gone] = [await open(scene), await open(scene), await open(scene)];
      gone.close();
      for (let i = 0; i < 5; i++) {
        await send(a, "lost", gone);
        await scene.sleep(i);
        await send(a, `found ${i}`, b);
      }
      for (let i = 0; i < 5; i++) assertEquals(text((await take(b)).data), `found ${i}`);
      await scene.sleep(QUIET_MS);
      assertEquals(a.recvFrom(), EAGAIN);
    });

    law("are queued in bounded memory if nobody receives, and then lost and counted", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      const SENT = 1000;
      for (let i = 0; i < SENT; i++) {
        await send(a, pattern(1000, i), b);
        // Otherwise the system also loses some, and does not report it.
        if (i % 20 === 19) await scene.sleep(1);
      }
      await scene.until(() => b.dropped > 0, () => "nothing was dropped");
      await scene.sleep(QUIET_MS);
      let held = 0;
      for (let datagram = b.recvFrom(); datagram !== EAGAIN; datagram = b.recvFrom()) {
        assertSame(datagram.data, pattern(1000, held));
        held++;
      }
      assertLessOrEqual(held, 213);
      assertGreater(held, 100);
      assertLessOrEqual(held + b.dropped, SENT);
      // The socket goes on.
      await send(a, "again", b);
      assertEquals(text((await take(b)).data), "again");
    });

    law("are accepted as long as there is space, and new space is reported", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      const poller = scene.keep(new Poller(scene.base));
      const data = new Uint8Array(1000);
      let refused = false;
      for (let i = 0; i < 2000 && !refused; i++) refused = a.sendTo(data, b.address) === EAGAIN;
      poller.add(a, EV_WRITE);
      // The kernel's queue is never full if it sends faster than we do.
      if (refused) {
        assertEquals(a.sendTo(data, b.address), EAGAIN);
        assertEquals((await select({ write: [a] }, 0)).write.length, 0);
      }
      assertEquals((await poller.wait()).length, 1);
      assertEquals(a.sendTo(data, b.address), 1000);
    });

    law("are reported to events, level-triggered, edge-triggered, and with a timeout", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      const { base } = scene;
      const heard: string[] = [];
      const level = base.event(b, EV_READ | EV_PERSIST, (source, what) => {
        assert(source === b);
        assertEquals(what, EV_READ);
        const datagram = b.recvFrom();
        heard.push(datagram === EAGAIN ? "nothing" : text(datagram.data));
        if (heard.length === 3) level.del();
      });
      level.add();
      for (const word of ["one", "two", "three"]) a.sendTo(word, b.address);
      await base.dispatch();
      assertEquals(heard, ["one", "two", "three"]);

      a.sendTo("four", b.address);
      const edges: number[] = [];
      const edge = base.event(b, EV_READ | EV_ET | EV_PERSIST, (_source, what) => {
        // Long enough for another to be seen, if there is one.
        if (edges.push(what) === 1) base.loopExit(QUIET_MS);
      });
      edge.add();
      await base.dispatch();
      assertEquals(edges, [EV_READ]);
      edge.free();
      assertEquals(text((await take(b)).data), "four");

      const late: number[] = [];
      base.event(b, EV_READ, (_source, what) => late.push(what)).add(50);
      base.event(a, EV_WRITE, (_source, what) => late.push(what)).add();
      await base.dispatch();
      assertEquals(late, [EV_WRITE, EV_TIMEOUT]);
    });

    law("echo through an event base: many clients, one socket", async (scene) => {
      const server = await open(scene);
      const { base } = scene;
      const CLIENTS = 20;
      const clients = await Promise.all(Array.from({ length: CLIENTS }, () => open(scene)));
      base.event(server, EV_READ | EV_PERSIST, () => {
        for (let datagram = server.recvFrom(); datagram !== EAGAIN; datagram = server.recvFrom()) {
          server.sendTo(datagram.data, datagram.address);
        }
      }).add();
      const dispatched = base.dispatch();
      await Promise.all(clients.map(async (client, i) => {
        for (let round = 0; round < 10; round++) {
          client.sendTo(`client ${i} round ${round}`, server.address);
          const { data, address } = await take(client);
          assertEquals([text(data), address], [`client ${i} round ${round}`, server.address]);
        }
      }));
      server.close();
      assertEquals(await dispatched, "empty");
    });

    law("fail to open with EADDRINUSE and EADDRNOTAVAIL, and leave nothing", async (scene) => {
      const a = await open(scene);
      const again = await assertRejects(() => open(scene, "127.0.0.1", a.address.port), EventError);
      assertEquals([again.code, again.syscall], ["EADDRINUSE", "bind"]);
      assert(again.message.includes(`127.0.0.1:${a.address.port}`), again.message);
      // RFC 5737: no host has it.
      const foreign = await assertRejects(() => open(scene, "192.0.2.1"), EventError);
      assertEquals([foreign.code, foreign.syscall], ["EADDRNOTAVAIL", "bind"]);
      await scene.until(() => scene.runtime.openHandles === 1, () => "what failed to open is open");
    });

    law("release the port when they are closed", async (scene) => {
      const a = await open(scene);
      const { port } = a.address;
      a.close();
      await scene.until(() => scene.runtime.openHandles === 0, () => "it is still open");
      const b = await open(scene, "127.0.0.1", port);
      assertEquals(b.address.port, port);
    });

    law("that were sent before close() still leave", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      let sent = 0;
      while (sent < 20 && a.sendTo(String(sent), b.address) !== EAGAIN) sent++;
      a.close();
      for (let i = 0; i < sent; i++) assertEquals(text((await take(b)).data), String(i));
    });

    law("are not reported after close(): no event, no error, no poller", async (scene) => {
      const [a, b] = [await open(scene), await open(scene)];
      const { base } = scene;
      base.event(b, EV_READ | EV_PERSIST, () => assert(false)).add();
      const poller = scene.keep(new Poller(base));
      poller.add(b, EV_READ);
      b.close();
      b.close();
      a.sendTo("x", b.address);
      assertEquals([poller.size, await base.dispatch()], [0, "empty"]);
      assertEquals(await poller.wait(QUIET_MS), []);
      assertEquals(assertThrows(() => b.recvFrom(), EventError).code, "EBADF");
      assertEquals(assertThrows(() => b.sendTo("x", a.address), EventError).code, "EBADF");
      assertEquals((await assertRejects(() => select({ read: [b] }), EventError)).code, "EBADF");
    });

    law("that are too large, or have no valid address, are refused", async (scene) => {
      const a = await open(scene);
      const to = a.address;
      assertThrows(() => a.sendTo(new Uint8Array(LARGEST + 1), to), RangeError);
      for (const port of [0, 65_536, 1.5]) {
        assertThrows(() => a.sendTo("x", { hostname: to.hostname, port }), RangeError);
      }
      assertThrows(() => a.sendTo("x", { hostname: "localhost", port: 9 }), RangeError);
      assertThrows(() => a.sendTo(5 as never, to), TypeError);
      const family = assertThrows(() => a.sendTo("x", { hostname: "::1", port: 9 }), EventError);
      assertEquals(family.code, "EAFNOSUPPORT");
      await assertRejects(() => open(scene, "localhost"), RangeError);
      await assertRejects(() => open(scene, "127.0.0.1", -1), RangeError);
      assertEquals(a.recvFrom(), EAGAIN);
    });

    law("go over IPv6", async (scene) => {
      const [a, b] = [await open(scene, "::1"), await open(scene, "::1")];
      assertEquals([a.address.hostname, a.address.family], ["::1", "IPv6"]);
      a.sendTo("six", b.address);
      const { data, address } = await take(b);
      assertEquals([text(data), address], ["six", a.address]);
    }, udp ? withoutSix : "capabilities.udp is false");

    law("arrive on every address of the machine, of both families, and can be answered", async (scene) => {
      const four = await open(scene, "0.0.0.0");
      const both = await open(scene, "::");
      const client4 = await open(scene);
      const client6 = await open(scene, "::1");
      client4.sendTo("a", { hostname: "127.0.0.1", port: four.address.port });
      client4.sendTo("b", { hostname: "127.0.0.1", port: both.address.port });
      assertEquals((await take(four)).address, client4.address);
      const mapped = await take(both);
      assertEquals(mapped.address, client4.address);
      client6.sendTo("c", { hostname: "::1", port: both.address.port });
      const own = await take(both);
      assertEquals(own.address, client6.address);
      both.sendTo("to four", mapped.address);
      both.sendTo("to six", own.address);
      assertEquals(text((await take(client4)).data), "to four");
      assertEquals(text((await take(client6)).data), "to six");
    }, udp ? withoutSix : "capabilities.udp is false");

    const { multicast, multicastOptions, broadcast, reuseAddress } = runtime.capabilities;
    const lacks = (can: boolean, flag: string): string | false => !can && `capabilities.${flag} is false`;

    law("to a group reach sockets that have joined it, and none after leaving", async (scene) => {
      const sender = await open(scene);
      const [a, b] = [await open(scene, "0.0.0.0"), await open(scene, "0.0.0.0")];
      for (const member of [a, b]) await member.join(GROUP, LOOPBACK);
      for (const member of [a, b]) {
        sender.sendTo("hello", { hostname: GROUP, port: member.address.port });
        const { data, address } = await take(member);
        assertEquals([text(data), address], ["hello", sender.address]);
      }
      // Linux delivers datagrams to a socket for groups that others on the host have joined.
      for (const member of [a, b]) await member.leave(GROUP, LOOPBACK);
      for (const member of [a, b]) sender.sendTo("again", { hostname: GROUP, port: member.address.port });
      await scene.sleep(QUIET_MS);
      assertEquals([a.recvFrom(), b.recvFrom()], [EAGAIN, EAGAIN]);
    }, lacks(multicast, "multicast"));

    law("to a group reach every socket on a port that they share with reuseAddress", async (scene) => {
      const shared = { hostname: "0.0.0.0", reuseAddress: true };
      const sender = await open(scene);
      const a = scene.keep(await scene.base.datagram(shared));
      const { port } = a.address;
      const b = scene.keep(await scene.base.datagram({ ...shared, port }));
      assertEquals((await assertRejects(() => open(scene, "0.0.0.0", port), EventError)).code, "EADDRINUSE");
      for (const member of [a, b]) await member.join(GROUP, LOOPBACK);
      sender.sendTo("both", { hostname: GROUP, port });
      assertEquals([text((await take(a)).data), text((await take(b)).data)], ["both", "both"]);
    }, lacks(multicast && reuseAddress, "multicast or capabilities.reuseAddress"));

    law("to a group leave by the interface that was chosen", async (scene) => {
      const options = { hostname: "0.0.0.0", multicastInterface: LOOPBACK, multicastTtl: 1 };
      const sender = scene.keep(await scene.base.datagram(options));
      const member = await open(scene, "0.0.0.0");
      await member.join(GROUP, LOOPBACK);
      sender.sendTo("hello", { hostname: GROUP, port: member.address.port });
      assertEquals(text((await take(member)).data), "hello");
      const unknown = { hostname: "0.0.0.0", multicastInterface: "203.0.113.9" };
      const error = await assertRejects(() => scene.base.datagram(unknown), EventError);
      assert(["ENODEV", "EADDRNOTAVAIL"].includes(error.code), error.message);
    }, lacks(multicastOptions, "multicastOptions"));

    const name6 = ownNetwork ? "eth0" : interfaceWithSix();
    law(
      "to a group of IPv6 leave by the interface that was chosen, by its name",
      async (scene) => {
        const of = async (multicastLoopback: boolean): Promise<DatagramSocket> =>
          scene.keep(await scene.base.datagram({ hostname: "::", multicastInterface: name6, multicastLoopback }));
        const member = await open(scene, "::");
        await member.join(GROUP6, name6);
        const to = { hostname: GROUP6, port: member.address.port };
        (await of(false)).sendTo("never", to);
        await scene.sleep(QUIET_MS);
        (await of(true)).sendTo("hello", to);
        assertEquals(text((await take(member)).data), "hello");
        await member.leave(GROUP6, name6);
      },
      lacks(multicastOptions, "multicastOptions") ||
        (name6 === undefined && "no interface has IPv6 besides the loopback"),
    );

    law("to a group with a TTL of 0 stay on the host, and do not even come back without loopback", async (scene) => {
      const of = async (multicastLoopback: boolean): Promise<DatagramSocket> =>
        scene.keep(await scene.base.datagram({ hostname: "0.0.0.0", multicastTtl: 0, multicastLoopback }));
      const member = await open(scene, "0.0.0.0");
      // A machine without a network has no interface for it.
      if (await member.join(GROUP).then(() => false, () => true)) return;
      const { port } = member.address;
      (await of(false)).sendTo("never", { hostname: GROUP, port });
      await scene.sleep(QUIET_MS);
      (await of(true)).sendTo("hello", { hostname: GROUP, port });
      assertEquals(text((await take(member)).data), "hello");
    }, lacks(multicastOptions, "multicastOptions") || (runtime.name === "bun" && "Bun takes no TTL of 0"));

    law("to a broadcast address arrive, if the socket may send them", async (scene) => {
      const member = await open(scene, "0.0.0.0");
      const to = { hostname: "127.255.255.255", port: member.address.port };
      const sender = scene.keep(await scene.base.datagram({ hostname: "127.0.0.1", broadcast: true }));
      sender.sendTo("everybody", to);
      assertEquals(text((await take(member)).data), "everybody");
      if (runtime.name === "deno") return;
      const refused = await open(scene);
      refused.sendTo("nobody", to);
      await select({ read: [refused] });
      assertEquals(assertThrows(() => refused.recvFrom(), EventError).code, "EACCES");
      assertEquals(member.recvFrom(), EAGAIN);
    }, lacks(broadcast, "broadcast"));

    law("and groups: wrong calls of join and leave are refused with a message", async (scene) => {
      const socket = await open(scene, "0.0.0.0");
      const code = async (promise: Promise<unknown>): Promise<string> =>
        (await assertRejects(() => promise, EventError)).code;
      await assertRejects(() => socket.join("10.0.0.1"), RangeError, "not the numeric address of a group");
      await assertRejects(() => socket.join("a.group"), RangeError);
      await assertRejects(() => socket.join(GROUP, "lo"), RangeError, "not the numeric address of an interface");
      assertEquals(await code(socket.join(GROUP6)), "EAFNOSUPPORT");
      assertEquals(await code(socket.leave(GROUP, LOOPBACK)), "EADDRNOTAVAIL");
      await socket.join(GROUP, LOOPBACK);
      assertEquals(await code(socket.join(GROUP, LOOPBACK)), "EADDRINUSE");
      assert(["ENODEV", "EADDRNOTAVAIL"].includes(await code(socket.join(GROUP, "203.0.113.9"))));
      await socket.leave(GROUP, LOOPBACK);
      socket.close();
      assertEquals(await code(socket.join(GROUP, LOOPBACK)), "EBADF");
    }, lacks(multicast, "multicast"));

    law("are refused with a message if the runtime does not support their options", async (scene) => {
      const asked = [
        [{ reuseAddress: true }, reuseAddress],
        [{ broadcast: true }, broadcast],
        [{ multicastLoopback: false }, multicast],
        [{ multicastTtl: 2 }, multicastOptions],
        [{ multicastInterface: LOOPBACK }, multicastOptions],
      ] as const;
      for (const [options, can] of asked) {
        if (can) {
          scene.keep(await scene.base.datagram({ hostname: "127.0.0.1", ...options })).close();
          continue;
        }
        const error = await assertRejects(() => scene.base.datagram(options), EventError);
        assertEquals(error.code, "EV_UNSUPPORTED");
        assert(error.message.startsWith("Cannot open a datagram socket"), error.message);
      }
      for (const options of [{ multicastTtl: 256 }, { multicastTtl: -1 }, { multicastInterface: "eth0" }]) {
        await assertRejects(() => scene.base.datagram(options), RangeError);
      }
    }, false);
  });
}
