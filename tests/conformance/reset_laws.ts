/** Law 3: a reset, and a peer that is gone, have the same name on every runtime. */

import { it } from "./suite.ts";
import { assert, assertArrayIncludes, assertEquals, assertInstanceOf } from "./assert.ts";
import type { Capabilities } from "../../core/mod.ts";
import { EventError } from "../../core/mod.ts";
import { assertSameBytes, type Kind, noise, type Peer, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

const MIB = 1 << 20;

/** A plain close, where a runtime has no reset, leaves an orderly end. */
async function assertWasReset(peer: Peer, can: Readonly<Capabilities>, kind: Kind): Promise<void> {
  if (can.reset && kind !== "unix") {
    const error = await peer.closed;
    assertInstanceOf(error, EventError);
    assertEquals([error.code, error.syscall !== undefined], ["ECONNRESET", true]);
    assert(error.message.startsWith("Cannot "), error.message);
  } else await Promise.race([peer.ended, peer.closed]);
}

export function resetLaws(makeSubject: () => FullSubject, kind: Kind, can: Readonly<Capabilities>): void {
  const cut = ["ECONNRESET", "EPIPE"];
  // Where a runtime has no reset, the close in its place leaves the close_notify out.
  if (kind === "TLS" && !can.reset) cut.push("ERR_TLS_TRUNCATED");

  it("tells the peer of a reset", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.reset();
      assertEquals(await client.closed, undefined);
      await assertWasReset(server, can, kind);
      assertEquals(client.heard, ["connect", "close"]);
    }));

  it("gives what came before a reset, and then tells of it", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      await client.send(noise(5000, 40));
      await server.atLeast(5000);
      client.reset();
      await assertWasReset(server, can, kind);
      assertEquals(server.heard[0], "data");
    }));

  it("gives data that waited for a paused reader, and then tells of the reset", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      const bytes = noise(5000, 41);
      await client.send(bytes);
      await scene.settle();
      client.reset();
      await scene.settle();
      if (!server.isClosed) server.resumeRead();
      await assertWasReset(server, can, kind);
      assertSameBytes(server.received, bytes, "before the reset");
    }));

  it("tells a paused reader of a reset at the latest when it resumes", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      await scene.settle();
      client.reset();
      await scene.settle();
      if (!server.isClosed) server.resumeRead();
      await assertWasReset(server, can, kind);
    }));

  it("tells of a reset after the peer has not finished and we have", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.shutdown();
      await client.ended;
      client.reset();
      await assertWasReset(server, can, kind);
    }));

  it("gives data that waited for a paused reader that has finished, and then tells of the reset", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.shutdown();
      await client.ended;
      server.pauseRead();
      const bytes = noise(5000, 46);
      await client.send(bytes);
      await scene.settle();
      client.reset();
      await scene.settle();
      if (!server.isClosed) server.resumeRead();
      await assertWasReset(server, can, kind);
      assertSameBytes(server.received, bytes, "before the reset");
    }));

  it("ends both sides when one is reset in the middle of a transfer each way", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      const chunk = noise(MIB, 42);
      const sending = [client, server].map(async (peer) => {
        while (!peer.isClosed) await peer.send(chunk);
      }).map((sent) => sent.catch(() => {}));
      await server.atLeast(MIB);
      client.reset();
      assertEquals(await client.closed, undefined);
      const error = await server.closed;
      // A failed write says the same as a failed read: the peer has not finished before, so it is a reset.
      if (can.reset && kind === "IPv4") assertEquals(error?.code, "ECONNRESET");
      else assertArrayIncludes(cut, [error?.code]);
      await Promise.all(sending);
    }));

  it("ends by onClose when it writes to a peer that is gone", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.close();
      client.release();
      // With TLS there may be what the peer has not read, such as a session ticket: the system then answers with a RST.
      await Promise.race([server.ended, server.closed]);
      while (!server.isClosed) {
        server.write("is anybody there?");
        await scene.sleep(1);
      }
      assertArrayIncludes(cut, [server.error?.code]);
    }));

  it("ends by onClose when a peer goes that has not read what it was sent", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      server.fill();
      await scene.settle();
      client.reset();
      await client.closed;
      // Where a runtime has no reset, only the next write shows it.
      while (!server.isClosed) {
        server.fill();
        await scene.sleep(1);
      }
      assertArrayIncludes(cut, [server.error?.code]);
    }));

  it("gives the peer's last words although writing to it fails", () =>
    scene(makeSubject(), async (scene) => {
      if (scene.subject.deviates("last-words-lost")) return;
      const last = noise(3000, 44);
      // It depends on which is first: many times, and the failure may wait beside the bytes while the program is busy.
      for (let round = 0; round < 24; round++) {
        const { client, server } = await scene.pair(kind);
        await client.send(last);
        client.close();
        client.release();
        while (!server.isClosed) {
          server.write("x");
          await scene.sleep(1);
          for (const until = performance.now() + round % 12; performance.now() < until;);
        }
        assertSameBytes(server.received, last, "the last words");
      }
    }));

  it("lets go at once when it is reset after close()", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      server.fill();
      server.close();
      await scene.settle();
      server.reset();
      assertEquals(await server.closed, undefined);
      client.resumeRead();
      await Promise.race([client.ended, client.closed]);
    }));

  it("resets once, however often it is told", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.reset();
      client.reset();
      client.close();
      client.release();
      await client.closed;
      client.reset();
      await Promise.race([server.ended, server.closed]);
      await scene.settle();
      assertEquals(client.heard, ["connect", "close"]);
    }));

  it("goes on serving the others", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listenOn(kind, {
        accepted: () => ({ data: (peer, chunk) => void peer.write(chunk), end: (peer) => peer.close() }),
      });
      const clients = Array.from({ length: 20 }, () => scene.connect(listener.address));
      await Promise.all(clients.map((client) => client.connected));
      for (const [i, client] of clients.entries()) {
        client.write("half a li");
        if (i % 2 === 0) client.reset();
      }
      await Promise.all(clients.filter((_, i) => i % 2 === 1).map((client) => client.atLeast(9)));
      for (const client of clients.filter((_, i) => i % 2 === 1)) {
        client.write("ne\n");
        client.shutdown();
        assertEquals(await client.closed, undefined);
        assertEquals(client.text, "half a line\n");
      }
    }));

  it("tells, after close(), that a peer went which had not read what it was sent", () =>
    scene(makeSubject(), async (scene) => {
      // A plain close, where a runtime has no reset, begins with an orderly end.
      if (!can.reset) return;
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      server.fill();
      await scene.settle();
      server.close();
      client.reset();
      const error = await server.closed;
      assertInstanceOf(error, EventError);
      assertArrayIncludes(cut, [error.code]);
    }));

  it("tells, after close(), that the peer reset in place of finishing", () =>
    scene(makeSubject(), async (scene) => {
      if (!can.reset || kind === "unix") return;
      const { client, server } = await scene.pair(kind);
      await server.send(noise(1000, 45));
      server.close();
      await client.ended;
      client.reset();
      assertEquals((await server.closed)?.code, "ECONNRESET");
    }));

  it("tells nothing of a reset after release()", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      server.fill();
      server.close();
      server.release();
      client.reset();
      assertEquals(await server.closed, undefined);
    }));
}
