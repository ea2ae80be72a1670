/** Law 14: memory that the runtime reads into again, or lends, does not change under the program, while many connections go on. */

import { once } from "node:events";
import { connect as netConnect } from "node:net";
import { describe, it } from "./suite.ts";
import { assert, assertEquals } from "./assert.ts";
import { EV_READ, type InetAddress, pipe, SocketBufferEvent } from "../../core/mod.ts";
import { on } from "./on.ts";
import type { FullSubject } from "./subject.ts";

/** Tests one runtime. */
export function memoryLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: host, ownNetwork } = makeSubject();
  const { serve } = on(host);
  const BYTES = 2 * 1024 * 1024;
  const CLIENTS = 6;

  /** Bytes that show their position and their connection. */
  function bytesOf(client: number): Uint8Array {
    const bytes = new Uint8Array(BYTES);
    let state = client + 1;
    for (let i = 0; i < BYTES; i++) {
      state = Math.imul(state, 1_664_525) + 1_013_904_223 | 0;
      bytes[i] = state >>> 24;
    }
    return bytes;
  }

  /** Sends them over a socket of `node:net` in pieces of `piece` bytes, one echo after the other, which it reads then. */
  async function exchange(port: number, bytes: Uint8Array, piece: number, then?: Promise<unknown>): Promise<void> {
    const socket = netConnect(port, "127.0.0.1");
    await once(socket, "connect");
    if (then !== undefined) {
      socket.pause();
      then.then(() => socket.resume(), () => socket.destroy());
    }
    let at = 0;
    let upTo = 0;
    await new Promise<void>((resolve, reject) => {
      const next = (): void => {
        const from = upTo;
        upTo = Math.min(from + piece, bytes.length);
        socket.write(bytes.subarray(from, upTo));
      };
      socket.on("error", reject);
      socket.on("data", (chunk: Uint8Array) => {
        for (let i = 0; i < chunk.length; i++) {
          if (chunk[i] !== bytes[at + i]) return reject(new Error(`the echo differs at byte ${at + i}`));
        }
        at += chunk.length;
        if (at === bytes.length) resolve();
        else if (at === upTo) next();
      });
      next();
    });
    socket.destroy();
  }

  describe(`${name}: memory that the runtime reads into`, { skip: ownNetwork && "node:net cannot reach it" }, () => {
    it("does not change while the program has a view of it", async () => {
      const kept: { view: Uint8Array; copy: Uint8Array }[] = [];
      let reads = 0;
      const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
        open: (bev) => bev.setMaxSingleRead(1024 * 1024),
        read: (bev) => {
          // Now and then the program takes a view.
          if (++reads % 5 === 0) {
            const view = bev.input.pullup(Math.min(bev.input.contiguousSpace, 4096)) as Uint8Array;
            kept.push({ view, copy: view.slice() });
          }
          bev.output.addBuffer(bev.input);
        },
      });
      const { port } = server.address as InetAddress;
      const sizes = [100, 6000, 16_384, 100_000, 300_000, BYTES];
      await Promise.all(
        Array.from(
          { length: CLIENTS },
          (_, i) => exchange(port, bytesOf(i).subarray(0, i === 0 ? 20_000 : BYTES), sizes[i] as number),
        ),
      );
      await server.close({ graceMs: 1000 });
      assert(kept.length > 10);
      for (const { view, copy } of kept) assertEquals(view, copy);
    });

    it("is not read into while another connection sends it", async () => {
      const echo = await serve({ hostname: "127.0.0.1", port: 0 }, {
        read: (bev) => void bev.writeBuffer(bev.input),
      });
      const { port } = echo.address as InetAddress;
      const proxy = await serve({ hostname: "127.0.0.1", port: 0 }, {
        open: (near) => {
          const far = new SocketBufferEvent(near.base, null);
          far.connect({ hostname: "127.0.0.1", port });
          far.enable(EV_READ);
          pipe(near, far).catch(() => {});
        },
      });
      const through = (proxy.address as InetAddress).port;
      // One client reads only after the others have finished, so the bytes to it wait that long.
      const slow = new Uint8Array(8 * BYTES);
      for (let i = 0; i < 8; i++) slow.set(bytesOf(i), i * BYTES);
      const others = Promise.all(
        Array.from({ length: CLIENTS }, (_, i) => exchange(through, bytesOf(i), i % 2 === 0 ? 16_384 : BYTES)),
      );
      await Promise.all([
        others,
        exchange(through, slow, slow.length, others),
        exchange(port, slow, slow.length, others),
      ]);
      await proxy.close({ graceMs: 100 });
      await echo.close({ graceMs: 100 });
    });
  });
}
