// Connecting through proxies: the time limit, the addresses of the socket, and invalid URLs.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Socket } from "../../../core/api/socket.ts";
import type { EventError } from "../../../core/errors.ts";
import { connect, serve } from "../../../core/serve/serve.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

describe("a proxy", () => {
  it("that never answers has 30 s", async () => {
    const sim = simRuntime();
    const server = await sim.run(serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {}));
    const begun = sim.now();
    const error = await assertRejects(() =>
      sim.run(connect({ runtime: sim, hostname: "x", port: 1, via: `socks5://127.0.0.1:${server.port}` }))
    ) as EventError;
    assertEquals(error.code, "ETIMEDOUT");
    assert(sim.now() - begun < 31_000);
    await sim.run(server.close());
    assertEquals(sim.openHandles, 0);
  });

  it("does not show its answers to the socket", async () => {
    const sim = simRuntime();
    const server = await sim.run(serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
      read: (bev) => {
        const first = bev.input.length === 3;
        bev.input.drain(bev.input.length);
        bev.write(first ? Uint8Array.of(5, 0) : Uint8Array.of(5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 104, 105));
      },
    }));
    const socket = Socket.connect(sim, { hostname: "x", port: 1, via: `socks5://127.0.0.1:${server.port}` });
    const into = new Uint8Array(100);
    for (let i = 0; i < 20 && !socket.connected; i++) {
      assert(socket.recv(into) < 0);
      await sim.advance(1);
    }
    await sim.advance(1);
    assertEquals([socket.recv(into), into[0], into[1]], [2, 104, 105]);
    socket.close();
    // In the middle of an answer.
    const other = Socket.connect(sim, { hostname: "x", port: 1, via: `http://127.0.0.1:${server.port}` });
    await sim.advance(1);
    other.close();
    await sim.run(server.close());
    await sim.advance(10_000);
    assertEquals(sim.openHandles, 0);
  });

  it("needs a valid URL, and its password is in no error", () => {
    const sim = simRuntime();
    const urls: unknown[] = [
      "",
      "proxy:1080",
      "ftp://host:1",
      "https://host:1",
      "socks5://",
      "socks5://host:0",
      "socks5://host:99999",
      "socks5://[::1",
      "socks5://[nonsense]:1",
      "socks5://user:secret%@host:1",
      "socks5://:secret@host:1",
      `socks5://${"u".repeat(256)}:secret@host:1`,
      "http://us%3Aer:secret@host:1",
      "http://user:secret@host:1/path",
      7,
      null,
    ];
    for (const via of urls) {
      const error = assertThrows(
        () => Socket.connect(sim, { hostname: "x", port: 1, via: via as string }),
        TypeError,
      ) as Error;
      assert(!error.message.includes("secret"), error.message);
    }
    for (const hostname of ["a b", "a\r\nb", "a/b", "ä"]) {
      assertThrows(() => Socket.connect(sim, { hostname, port: 1, via: "http://host:1" }), RangeError);
    }
    assertThrows(() => Socket.connect(sim, { path: "/x", via: "http://host:1" }), TypeError);
  });
});
