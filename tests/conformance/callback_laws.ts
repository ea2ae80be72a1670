/**
 * Laws 4 and 6: no callback follows onClose; a callback may call any method, and no callback runs
 * inside a call.
 */

import { it } from "./suite.ts";
import { assertEquals } from "./assert.ts";
import { bytesOf, type Hooks, type Kind, noise, type Peer, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

const DEEDS: readonly (readonly [string, (peer: Peer) => void])[] = [
  ["closes", (peer) => peer.close()],
  ["closes and releases", (peer) => {
    peer.close();
    peer.release();
  }],
  ["resets", (peer) => peer.reset()],
  ["closes and resets", (peer) => {
    peer.close();
    peer.reset();
  }],
];

export function callbackLaws(makeSubject: () => FullSubject, kind: Kind): void {
  for (const [deed, act] of DEEDS) {
    for (const callback of ["onConnect", "onData", "onEnd", "onWritable"] as const) {
      it(`${deed} from inside ${callback}`, () =>
        scene(makeSubject(), async (scene) => {
          const hook = callback.slice(2).toLowerCase() as keyof Hooks;
          const listener = await scene.listenOn(kind);
          const client = scene.connect(listener.address, { [hook]: act });
          const server = await listener.accept();
          await client.connected;
          if (callback === "onWritable") {
            server.pauseRead();
            client.fill();
            await scene.settle();
            server.resumeRead();
          } else if (callback !== "onConnect") {
            server.write("some data");
            server.shutdown();
          }
          // A graceful close waits for our end.
          await Promise.race([server.ended, server.closed]);
          if (!server.isClosed) server.close();
          assertEquals(await client.closed, undefined);
          await server.closed;
          await scene.settle();
        }));
    }

    it(`${deed} from inside onAccept, before it has a sink`, () =>
      scene(makeSubject(), async (scene) => {
        const listener = await scene.listenOn(kind, { accept: act });
        const client = scene.connect(listener.address);
        const server = await listener.accept();
        await Promise.race([client.ended, client.closed]);
        if (!client.isClosed) client.close();
        assertEquals(await server.closed, undefined);
        await client.closed;
        assertEquals(server.heard, ["close"]);
      }));
  }

  it("writes from inside every callback", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listenOn(kind, {
        accept: (peer) => void peer.send(bytesOf("accepted ")),
        accepted: () => ({
          data: (peer) => void peer.send(bytesOf("data ")),
          end: (peer) => void peer.send(bytesOf("end")).then(() => peer.shutdown()),
          close: (peer) => assertEquals(peer.write("closed"), 0),
        }),
      });
      const client = scene.connect(listener.address, {
        connect: (peer) => void peer.write("hello"),
        close: (peer) => assertEquals(peer.write("closed"), 0),
      });
      await client.atLeast("accepted data ".length);
      client.shutdown();
      await client.closed;
      // With TLS nothing can be written at once, so the first data may arrive before.
      const text = kind === "TLS" ? client.text.replace("data accepted", "accepted data") : client.text;
      assertEquals(text.replaceAll("data data", "data"), "accepted data end");
      await listener.accepted[0]!.closed;
    }));

  it("finishes from inside onData, and its written bytes arrive", () =>
    scene(makeSubject(), async (scene) => {
      const { client } = await scene.pair(kind, {
        server: {
          data: (peer, chunk) => {
            peer.write(chunk);
            peer.shutdown();
          },
        },
      });
      client.write("an answer, please");
      await client.ended;
      assertEquals(client.text, "an answer, please");
    }));

  it("ignores every method after onClose", () =>
    scene(makeSubject(), async (scene) => {
      const prod = (peer: Peer): void => {
        const binding = peer.binding!;
        binding.pauseRead();
        binding.resumeRead();
        binding.setNoDelay(false);
        binding.setKeepAlive(true, 1000);
        binding.ref();
        binding.unref();
        binding.shutdownWrite();
        binding.close();
        binding.release();
        binding.reset();
        assertEquals(peer.write("late"), 0);
        if (binding.writev !== undefined) assertEquals(binding.writev([noise(10, 1), noise(10, 2)]), 0);
      };
      const { client, server } = await scene.pair(kind, { client: { close: prod }, server: { close: prod } });
      client.shutdown();
      await server.ended;
      server.shutdown();
      await Promise.all([client.closed, server.closed]);
      await scene.settle();
      prod(client);
      prod(server);
      await scene.settle();
      assertEquals([client.heard.at(-1), server.heard.at(-1)], ["close", "close"]);
    }));

  it("sets its options at any time", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listenOn(kind, { accept: (peer) => peer.binding!.setKeepAlive(true, 5000) });
      const client = scene.connect(listener.address);
      client.binding!.setNoDelay(false);
      client.binding!.setKeepAlive(true, 60_000);
      client.binding!.unref();
      client.binding!.ref();
      await client.connected;
      const server = await listener.accept();
      for (const on of [true, false, true]) {
        server.binding!.setNoDelay(on);
        server.binding!.setKeepAlive(on, 1000);
      }
      await client.send(noise(1000, 50));
      await server.atLeast(1000);
    }));

  it("connects and listens again from inside onClose", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listenOn(kind);
      let again: Peer | undefined;
      const client = scene.connect(listener.address, { close: () => again = scene.connect(listener.address) });
      const server = await listener.accept();
      await client.connected;
      client.reset();
      await client.closed;
      await again!.connected;
      const second = await listener.accept();
      await again!.send(noise(10, 51));
      await second.atLeast(10);
      server.reset();
    }));
}
