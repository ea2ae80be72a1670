// Views on a real connection of the runtime that runs this, with nc as the client.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { connect, serve, type SocketBufferEvent } from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import { nc, pattern } from "./real_client.ts";

const MIB = 1024 * 1024;

/** Serves each connection with an async function. Returns the errors that it threw. */
async function serving(
  handle: (bev: SocketBufferEvent) => Promise<void>,
): Promise<{ port: number; stop: () => Promise<unknown[]> }> {
  const handled: Promise<unknown>[] = [];
  const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
    open(bev) {
      handled.push(handle(bev).then(() => null, (error: unknown) => error));
    },
  });
  const { port } = server.address as { port: number };
  return {
    port,
    async stop() {
      await server.close({ graceMs: 5000 });
      return (await Promise.all(handled)).filter((error) => error !== null);
    },
  };
}

describe("a view of a real connection", { skip: needs("nc -N") }, () => {
  it("gives all lines, including the last, and delivers the answer", async () => {
    const { port, stop } = await serving(async (bev) => {
      await using connection = bev;
      for await (const line of connection.lines({ text: true })) connection.write(`<${line}>`);
    });
    assertEquals(new TextDecoder().decode(await nc(port, "one\ntwo\r\nthree")), "<one><two><three>");
    assertEquals(await stop(), []);
  });

  it("carries 8 MiB from its readable to its writable in order", async () => {
    const { port, stop } = await serving(async (bev) => {
      await bev.readable.pipeTo(bev.writable);
      await bev.close();
    });
    const bytes = pattern(8 * MIB);
    assertEquals(Buffer.compare(await nc(port, bytes), bytes), 0);
    assertEquals(await stop(), []);
  });

  it("makes a peer wait if nobody reads, and loses nothing", async () => {
    const bytes = pattern(16 * MIB);
    let most = 0;
    let got = 0;
    let equal = true;
    const { port, stop } = await serving(async (bev) => {
      await using connection = bev;
      for await (const chunk of connection) {
        equal &&= Buffer.compare(chunk, bytes.subarray(got, got + chunk.length)) === 0;
        if (got === 0) {
          // Long enough for all bytes to arrive if nothing stopped them.
          for (let i = 0; i < 20; i++) {
            await new Promise((resolve) => setTimeout(resolve, 10));
            most = Math.max(most, connection.input.length);
          }
        }
        got += chunk.length;
      }
      connection.write(String(got));
    });
    assertEquals(new TextDecoder().decode(await nc(port, bytes)), String(bytes.length));
    assertEquals(await stop(), []);
    assert(equal && most <= 65_536, `${most} bytes of input`);
  });

  it("sends the chunks of a writable stream, as fast as the peer reads", async () => {
    const bytes = pattern(8 * MIB);
    const { port, stop } = await serving(async (bev) => {
      const writer = bev.writable.getWriter();
      for (let at = 0; at < bytes.length; at += 100_000) await writer.write(bytes.subarray(at, at + 100_000));
      await writer.close();
      await bev.close();
    });
    const client = await connect({ hostname: "127.0.0.1", port }, {});
    const chunks: Uint8Array[] = [];
    for await (const chunk of client) chunks.push(chunk);
    await client.close();
    assertEquals(Buffer.compare(Buffer.concat(chunks), bytes), 0);
    assertEquals(await stop(), []);
  });
});
