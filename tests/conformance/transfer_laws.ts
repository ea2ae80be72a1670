/** Laws 1 and 2: nothing is lost or reordered, and memory is bounded. */

import { it } from "./suite.ts";
import { assert, assertEquals, assertGreater, assertLess } from "./assert.ts";
import { assertSameBytes, dice, join, type Kind, noise, type Peer, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

const MIB = 1 << 20;

/** Sends everything in pieces of random size, and then finishes. */
async function sendInPieces(peer: Peer, bytes: Uint8Array, seed: number): Promise<void> {
  const next = dice(seed);
  for (let at = 0; at < bytes.length;) {
    const length = 1 + next() % (next() % 4 === 0 ? 200_000 : 2000);
    await peer.send(bytes.subarray(at, at + length));
    at += length;
  }
  peer.shutdown();
}

export function transferLaws(makeSubject: () => FullSubject, kind: Kind): void {
  it("gives both ends the addresses of both", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server, listener } = await scene.pair(kind);
      const [c, s] = [client.binding!, server.binding!];
      assertEquals(c.remote, listener.address);
      assertEquals(s.local, listener.address);
      assertEquals(s.remote, c.local);
      if (kind === "IPv4" || kind === "IPv6" || kind === "TLS") {
        assertEquals((c.remote as { family: string }).family, kind === "IPv6" ? kind : "IPv4");
        assertEquals((c.local as { family: string }).family, kind === "IPv6" ? kind : "IPv4");
        assert((c.local as { port: number }).port > 0);
      } else assertEquals(c.local, { path: "" });
      client.reset();
      await client.closed;
      server.reset();
      await server.closed;
      assertEquals(c.remote, listener.address);
      assertEquals(s.remote, c.local);
    }));

  it("knows the local address of a connection to a listener on all addresses", () =>
    scene(makeSubject(), async (scene) => {
      if (kind !== "IPv4" && kind !== "IPv6") return;
      const listener = await scene.listen({ family: kind });
      const client = scene.connect({ hostname: kind === "IPv4" ? "127.0.0.1" : "::1", port: listener.port });
      const server = await listener.accept();
      await client.connected;
      assertEquals(server.binding!.local, client.binding!.remote);
      assertEquals(server.binding!.remote, client.binding!.local);
    }));

  it("carries 5 MB each way at once, in pieces of random size, unchanged", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      const [up, down] = [noise(5_000_000, 1), noise(5_000_000, 2)];
      await Promise.all([
        sendInPieces(client, up, 3),
        sendInPieces(server, down, 4),
        client.ended,
        server.ended,
      ]);
      assertSameBytes(server.received, up, "from the client");
      assertSameBytes(client.received, down, "from the server");
      assertEquals(await Promise.all([client.closed, server.closed]), [undefined, undefined]);
    }));

  it("keeps the order of thousands of small writes", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      const bytes = noise(40_000, 5);
      for (let at = 0; at < bytes.length; at += 8) await client.send(bytes.subarray(at, at + 8));
      await server.atLeast(bytes.length);
      assertSameBytes(server.received, bytes, "small writes");
    }));

  it("takes several chunks at once with writev, if it has one", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      if (client.binding!.writev === undefined) return;
      const bytes = noise(3_000_000, 6);
      for (let at = 0; at < bytes.length;) {
        let from = at;
        const chunks = [1, 70_000, 3, 0, 300_000, 20].map((length) => bytes.subarray(from, from += length));
        const taken = client.writev(chunks);
        at += taken;
        if (taken === 0) await client.writable;
      }
      await server.atLeast(bytes.length);
      assertSameBytes(server.received, bytes, "chunks");
    }));

  it("takes parts of arrays, which may be parts themselves, if it can", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      if (client.binding!.writePart === undefined) return;
      const bytes = noise(2_000_000, 10);
      const memory = new Uint8Array(new ArrayBuffer(bytes.length + 200), 100, bytes.length + 50);
      memory.set(bytes, 25);
      for (let at = 0; at < bytes.length;) {
        const taken = client.writePart(memory, 25 + at, 25 + Math.min(bytes.length, at + 1 + at * 7 % 100_000));
        at += taken;
        if (taken === 0) await client.writable;
      }
      await server.atLeast(bytes.length);
      assertSameBytes(server.received, bytes, "parts");
    }));

  it("does not change its gathering memory until the bytes are sent, if it has such memory", () =>
    scene(makeSubject(), async (scene) => {
      const pairs = [await scene.pair(kind), await scene.pair(kind)];
      if (pairs[0]!.client.binding!.gather === undefined) return;
      // The system does not take everything, so some bytes wait while the other connection gathers.
      const all = pairs.map((_, i) => noise(12_000_000, 8 + i));
      const sent = [0, 0];
      for (const { server } of pairs) server.pauseRead();
      for (let round = 0; sent.some((at, i) => at < all[i]!.length); round++) {
        let taken = 0;
        for (const [i, { client }] of pairs.entries()) {
          const [bytes, at] = [all[i]!, sent[i]!];
          if (client.owed || at === bytes.length) continue;
          const n = client.gather(bytes.subarray(at, at + 1 + round * 70_001 % 300_000));
          sent[i]! += n;
          taken += n;
        }
        if (taken === 0) await scene.sleep(1);
        if (round === 400) { for (const { server } of pairs) server.resumeRead(); }
      }
      for (const [i, { server }] of pairs.entries()) {
        await server.atLeast(all[i]!.length);
        assertSameBytes(server.received, all[i]!, "gathered bytes");
      }
    }));

  it("ignores a chunk of no bytes", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      assertEquals(client.write(new Uint8Array(0)), 0);
      await client.send(new Uint8Array([1]));
      assertEquals(client.write(new Uint8Array(0)), 0);
      await client.send(new Uint8Array([2]));
      await server.atLeast(2);
      await scene.settle();
      assertEquals(server.received, new Uint8Array([1, 2]));
    }));

  it("does not change delivered memory, whatever arrives later", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      const bytes = noise(600_000, 7);
      // One at a time, so that many small chunks are read.
      for (let at = 0; at < bytes.length;) {
        const length = at < 60_000 ? 600 : 60_000;
        await client.send(bytes.subarray(at, at + length));
        at += length;
        await server.atLeast(at);
      }
      assertSameBytes(server.received, bytes, "kept chunks");
      const before = join(server.chunks);
      for (const chunk of server.chunks) chunk.fill(0);
      assertEquals(before.length, bytes.length);
      await client.send(bytes.subarray(0, 1000));
      await server.atLeast(bytes.length + 1000);
      assertSameBytes(join(server.chunks).subarray(bytes.length), bytes.subarray(0, 1000), "after the owner's writes");
    }));

  it("accepts a bounded number of bytes for a peer that does not read, and reports once that there is space", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      const chunk = noise(65_536, 8);
      let taken = client.fill(chunk);
      // The queue of the system may grow for a while.
      for (let i = 0; i < 20; i++) {
        await scene.settle();
        if (!client.owed) taken += client.fill(chunk);
      }
      assert(client.owed, "write goes on taking bytes");
      assertGreater(taken, 0);
      assertLess(taken, 8 * MIB);
      const told = client.heard.filter((what) => what === "writable").length;
      server.resumeRead();
      await client.writable;
      await scene.settle();
      assertEquals(client.heard.filter((what) => what === "writable").length, told + 1);
      await server.atLeast(taken);
      assertEquals(server.bytes, taken);
    }));

  it("accepts a bounded part of a giant chunk", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      server.pauseRead();
      const giant = noise(24 * MIB, 9);
      let taken = 0;
      for (let n = -1; n !== 0; taken += n) n = client.write(giant.subarray(taken));
      assertLess(taken, 8 * MIB);
      server.resumeRead();
      await client.send(giant.subarray(taken));
      await server.atLeast(giant.length);
      assertSameBytes(server.received, giant, "a giant chunk");
    }));

  it("reads a bounded number of bytes while reading is paused, and loses none of them", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind);
      const bytes = noise(12 * MIB, 10);
      const sent = client.send(bytes);
      await server.atLeast(MIB);
      server.pauseRead();
      const before = server.bytes;
      for (let i = 0; i < 10; i++) await scene.settle();
      assertLess(server.bytes - before, MIB);
      const stopped = server.bytes;
      for (let i = 0; i < 5; i++) await scene.settle();
      assertEquals(server.bytes, stopped);
      server.resumeRead();
      await sent;
      await server.atLeast(bytes.length);
      assertSameBytes(server.received, bytes, "after a pause");
    }));

  it("pauses and resumes any number of times, from inside onData too", () =>
    scene(makeSubject(), async (scene) => {
      const { client, server } = await scene.pair(kind, {
        server: {
          data: (peer) => {
            peer.pauseRead();
            peer.pauseRead();
            scene.runtime.defer(() => {
              peer.resumeRead();
              peer.resumeRead();
            });
          },
        },
      });
      const bytes = noise(2 * MIB, 11);
      await client.send(bytes);
      client.shutdown();
      await server.ended;
      assertSameBytes(server.received, bytes, "paused after each chunk");
    }));

  it("reads little before onAccept's reader resumes", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listenOn(kind, { accept: (peer) => peer.pauseRead() });
      const client = scene.connect(listener.address);
      const server = await listener.accept();
      await client.connected;
      const bytes = noise(4 * MIB, 12);
      const sent = client.send(bytes);
      for (let i = 0; i < 5; i++) await scene.settle();
      assertLess(server.bytes, MIB);
      server.resumeRead();
      await sent;
      await server.atLeast(bytes.length);
      assertSameBytes(server.received, bytes, "paused from the beginning");
    }));

  it("delivers a line that is answered at once, ten thousand times", () =>
    scene(makeSubject(), async (scene) => {
      let rounds = 0;
      const { client, server } = await scene.pair(kind, { server: { data: (peer, chunk) => void peer.write(chunk) } });
      server.keep = client.keep = false;
      const line = new TextEncoder().encode(`${"x".repeat(63)}\n`);
      for (; rounds < (scene.subject.virtual ? 500 : 10_000); rounds++) {
        client.write(line);
        await client.atLeast((rounds + 1) * line.length);
      }
      assertEquals(client.bytes, rounds * line.length);
    }));
}
