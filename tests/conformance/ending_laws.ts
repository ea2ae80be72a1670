/** Law 3: each direction ends separately; law 1: a close loses nothing. */

import { it } from "./suite.ts";
import { assert, assertEquals, assertFalse, assertGreater } from "./assert.ts";
import { assertSameBytes, type Kind, noise, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

const MIB = 1 << 20;

export function endingLaws(makeSubject: () => FullSubject, kind: Kind): void {
  it("answers a peer that has finished", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      const reply = noise(3 * MIB, 20);
      await client.send(noise(1000, 21));
      client.shutdown();
      await server.ended;
      assertEquals(server.bytes, 1000);
      await scene.settle();
      assertFalse(server.isClosed, "it let go although its own direction was open");
      await server.send(reply);
      server.shutdown();
      await client.ended;
      assertSameBytes(client.received, reply, "the reply");
      assertEquals(await Promise.all([client.closed, server.closed]), [undefined, undefined]);
    }));

  it("goes on receiving when it has finished itself", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.shutdown();
      await client.ended;
      const bytes = noise(3 * MIB, 22);
      await client.send(bytes);
      client.shutdown();
      await server.ended;
      assertSameBytes(server.received, bytes, "after our own end");
      assertEquals(await Promise.all([client.closed, server.closed]), [undefined, undefined]);
      assertEquals(server.heard, ["data", "end", "close"]);
    }));

  it("finishes after all accepted bytes, and not before", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      const taken = client.fill();
      client.shutdown();
      await scene.settle();
      assertFalse(server.isEnded);
      server.resumeRead();
      await server.ended;
      assertEquals(server.bytes, taken);
    }));

  it("finishes once, however often shutdownWrite() is called", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.shutdown();
      client.shutdown();
      await server.ended;
      client.shutdown();
      await scene.settle();
      assertEquals(server.heard, ["end"]);
      assertFalse(client.isClosed);
    }));

  it("accepts nothing after shutdownWrite, without an error", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.shutdown();
      assertEquals(client.write("late"), 0);
      client.owed = false;
      await server.ended;
      assertEquals(client.write("late"), 0);
      client.owed = false;
      await scene.settle();
      assertEquals(client.heard, ["connect"]);
      assertEquals(server.bytes, 0);
    }));

  it("ends by itself when both directions are finished", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.shutdown();
      server.shutdown();
      assertEquals(await Promise.all([client.closed, server.closed]), [undefined, undefined]);
      assertEquals(client.heard, ["connect", "end", "close"]);
      assertEquals(server.heard, ["end", "close"]);
    }));

  it("reports the end after the data if reading was paused for both", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      await client.send(noise(100_000, 23));
      client.shutdown();
      await scene.settle();
      server.resumeRead();
      await server.ended;
      assertEquals(server.bytes, 100_000);
    }));

  it("delivers everything to a paused reader that has finished writing", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      server.shutdown();
      await client.ended;
      await client.send(noise(100_000, 24));
      client.shutdown();
      await scene.settle();
      server.resumeRead();
      await server.ended;
      assertEquals(server.bytes, 100_000);
      assertEquals(await Promise.all([client.closed, server.closed]), [undefined, undefined]);
    }));

  it("delivers 16 MB when it is closed right after the last write", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      const bytes = noise(16 * MIB, 25);
      await server.send(bytes);
      server.close();
      await client.ended;
      assertSameBytes(client.received, bytes, "before the close");
      client.shutdown();
      assertEquals(await Promise.all([client.closed, server.closed]), [undefined, undefined]);
    }));

  it("delivers 16 MB when it is closed while the peer reads slowly", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind, {
        client: {
          data: (peer) => {
            peer.pauseRead();
            scene.runtime.setTimer(scene.runtime.now() + 1, () => peer.isClosed || peer.resumeRead());
          },
        },
      });
      const bytes = noise(16 * MIB, 26);
      await server.send(bytes);
      server.close();
      await client.ended;
      assertSameBytes(client.received, bytes, "before the close");
    }));

  it("delivers 8 MB when it is closed while the peer goes on sending", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      const bytes = noise(8 * MIB, 27);
      let sending = true;
      const babble = (async () => {
        while (sending) await client.send(noise(100_000, 28));
      })();
      await server.atLeast(MIB);
      await server.send(bytes);
      server.close();
      const heard = server.bytes;
      await client.ended;
      assertSameBytes(client.received, bytes, "before the close");
      assertFalse(server.isClosed, "it let go before the peer had finished");
      sending = false;
      await babble;
      client.shutdown();
      assertEquals(await server.closed, undefined);
      assertEquals(await client.closed, undefined);
      assertEquals(server.bytes, heard);
    }));

  it("delivers accepted bytes when it is closed, with reading paused", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      await client.send(noise(50_000, 29));
      await server.send(noise(200_000, 30));
      server.close();
      await client.ended;
      assertEquals(client.bytes, 200_000);
      client.close();
      assertEquals(await server.closed, undefined);
      assertEquals(server.bytes, 0);
    }));

  it("waits for a peer that has not finished when it is closed", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.close();
      await client.ended;
      for (let i = 0; i < 5; i++) await scene.settle();
      assertFalse(server.isClosed);
      assertGreater(scene.runtime.openHandles, 2);
      client.shutdown();
      assertEquals(await server.closed, undefined);
    }));

  it("ends at once when it is closed after the peer has finished", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.shutdown();
      await server.ended;
      await server.send(noise(1000, 31));
      server.close();
      assertEquals(await server.closed, undefined);
      await client.ended;
      assertEquals(client.bytes, 1000);
      assertEquals(await client.closed, undefined);
    }));

  it("ends when both ends close at once", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.close();
      server.close();
      assertEquals(await Promise.all([client.closed, server.closed]), [undefined, undefined]);
      assertEquals([client.heard, server.heard], [["connect", "close"], ["close"]]);
    }));

  it("closes once, however often close() is called", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      await client.send(noise(1000, 32));
      client.shutdown();
      client.close();
      client.close();
      await server.ended;
      server.close();
      server.close();
      await Promise.all([client.closed, server.closed]);
      client.close();
      client.release();
      client.reset();
      await scene.settle();
      assertEquals(client.heard, ["connect", "close"]);
      assertEquals(server.heard, ["data", "end", "close"]);
    }));

  it("stops waiting for the peer when it is released, and bytes in the system's queue arrive", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      await server.send(noise(20_000, 33));
      server.close();
      await scene.settle();
      assertFalse(server.isClosed);
      server.release();
      server.release();
      assertEquals(await server.closed, undefined);
      client.resumeRead();
      await client.ended;
      assertEquals(client.bytes, 20_000);
    }));

  it("sends accepted bytes as soon as the peer reads, even after a close", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      const taken = server.fill(noise(65_536, 34));
      server.close();
      for (let i = 0; i < 5; i++) await scene.settle();
      assertFalse(client.isEnded);
      client.resumeRead();
      await client.ended;
      assertEquals(client.bytes, taken);
      client.close();
      assertEquals(await server.closed, undefined);
      assert(client.isEnded);
    }));

  it("sends accepted bytes when it is released at once, and then ends without the peer", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      const taken = server.fill(noise(65_536, 35));
      server.close();
      server.release();
      await scene.settle();
      client.resumeRead();
      await client.ended;
      assertEquals(client.bytes, taken);
      assertEquals(await server.closed, undefined);
      assertFalse(client.isClosed);
    }));

  it("closes first if it is released without a close", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      const taken = server.fill(noise(65_536, 36));
      server.release();
      client.resumeRead();
      await client.ended;
      assertEquals(client.bytes, taken);
      assertEquals(await server.closed, undefined);
    }));
}
