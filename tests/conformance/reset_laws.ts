/** Law 3: a reset, and a peer that has left, have the same code on every runtime. */

import { it } from "./suite.ts";
import { assert, assertArrayIncludes, assertEquals, assertInstanceOf } from "./assert.ts";
import type { Capabilities } from "../../core/mod.ts";
import { EventError } from "../../core/mod.ts";
import { assertSameBytes, type Kind, noise, type Peer, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

const MIB = 1 << 20;

/** On a runtime without reset, a plain close is an orderly end. */
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
  // On a runtime without reset, the close in its place omits the close_notify.
  if (kind === "TLS" && !can.reset) cut.push("ERR_TLS_TRUNCATED");

  it("sends the peer a reset", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.reset();
      assertEquals(await client.closed, undefined);
      await assertWasReset(server, can, kind);
      assertEquals(client.heard, ["connect", "close"]);
    }));

  it("delivers data that came before a reset, and then reports it", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      await client.send(noise(5000, 40));
      await server.atLeast(5000);
      client.reset();
      await assertWasReset(server, can, kind);
      assertEquals(server.heard[0], "data");
    }));

  for (const finished of [false, true]) {
    const reader = finished ? "a paused reader that has finished" : "a paused reader";
    it(`delivers data that waited for ${reader}, and then reports the reset`, () =>
      scene(makeSubject(), async (scene) => {
        const { client, server } = await scene.pair(kind);
        if (finished) {
          server.shutdown();
          await client.ended;
        }
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
  }

  it("reports a reset to a paused reader when it resumes, or earlier", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      await scene.settle();
      client.reset();
      await scene.settle();
      if (!server.isClosed) server.resumeRead();
      await assertWasReset(server, can, kind);
    }));

  it("reports a reset after our end, if the peer has not finished", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.shutdown();
      await client.ended;
      client.reset();
      await assertWasReset(server, can, kind);
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
      // A failed write has the same meaning as a failed read: the peer has not finished before, so
      // it is a reset.
      if (can.reset && kind === "IPv4") assertEquals(error?.code, "ECONNRESET");
      else assertArrayIncludes(cut, [error?.code]);
      await Promise.all(sending);
    }));

  it("ends with onClose when it writes to a peer that has left", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.close();
      client.release();
      // With TLS the peer may have unread bytes, such as a session ticket: the system then answers
      // with a RST.
      await Promise.race([server.ended, server.closed]);
      while (!server.isClosed) {
        server.write("is anybody there?");
        await scene.sleep(1);
      }
      assertArrayIncludes(cut, [server.error?.code]);
    }));

  it("ends with onClose when a peer leaves that has not read everything", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      client.pauseRead();
      server.fill();
      await scene.settle();
      client.reset();
      await client.closed;
      // On a runtime without reset, only the next write shows it.
      while (!server.isClosed) {
        server.fill();
        await scene.sleep(1);
      }
      assertArrayIncludes(cut, [server.error?.code]);
    }));

  it("delivers the peer's last bytes although writing to it fails", () =>
    scene(makeSubject(), async (scene) => {
      if (scene.subject.deviates("last-words-lost")) return;
      const last = noise(3000, 44);
      // The order varies, so try many times. The failure may wait beside the bytes while the
      // program is busy.
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

  it("ends at once when it is reset after close()", () =>
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

  it("resets once, however often reset() is called", () =>
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

  it("reports, after close(), that a peer has left which had not read everything", () =>
    scene(makeSubject(), async (scene) => {
      // On a runtime without reset, a plain close begins with an orderly end.
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

  it("reports, after close(), that the peer has reset instead of finishing", () =>
    scene(makeSubject(), async (scene) => {
      if (!can.reset || kind === "unix") return;
      const { client, server } = await scene.pair(kind);
      await server.send(noise(1000, 45));
      server.close();
      await client.ended;
      client.reset();
      assertEquals((await server.closed)?.code, "ECONNRESET");
    }));

  it("does not report a reset after release()", () =>
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
