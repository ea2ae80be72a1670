// connect() of the Sockets API draft: its promises, streams and methods.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import type { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { BEV_EVENT_EOF, BEV_EVENT_READING, EV_READ } from "../../../core/flags.ts";
import { serve, type Server } from "../../../core/serve/serve.ts";
import {
  connect,
  SocketError,
  type SocketsAddress,
  type SocketsOptions,
  type StreamSocket,
} from "../../../core/serve/sockets.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { portOf, text } from "../socket/pairs.ts";

interface Scene {
  readonly sim: SimRuntime;
  readonly server: Server;
  readonly socket: StreamSocket;
  /** The server's end, once it exists. */
  readonly peer: () => SocketBufferEvent;
  /** The bytes that the server has received, and its events. */
  readonly seen: { text: string; events: number[] };
  end(): Promise<void>;
}

async function scene(options: SocketsOptions = {}): Promise<Scene> {
  const sim = simRuntime({ maxSteps: 500_000 });
  const seen = { text: "", events: [] as number[] };
  let peer: SocketBufferEvent | null = null;
  const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
    open: (bev) => void (peer = bev),
    read(bev) {
      seen.text += bev.input.toString();
      bev.input.drain(bev.input.length);
    },
    event: (_bev, what) => void seen.events.push(what),
  });
  const socket = connect({ hostname: "127.0.0.1", port: portOf(server) }, { runtime: sim, ...options });
  return {
    sim,
    server,
    socket,
    seen,
    peer() {
      assert(peer !== null);
      return peer;
    },
    async end() {
      await sim.run(socket.close());
      await sim.run(server.close({ graceMs: 0 }));
      await sim.advance(40_000);
      assertEquals([sim.openHandles, sim.pending], [0, 0]);
    },
  };
}

/** The state of a promise, after all pending work. */
async function stateOf(sim: SimRuntime, promise: Promise<unknown>): Promise<string> {
  let state = "pending";
  promise.then(() => state = "resolved", () => state = "rejected");
  await sim.advance(1);
  return state;
}

/** Fails unless `act` throws a SocketError whose message contains the words. */
function refused(act: () => unknown, words: string): void {
  const error = assertThrows(act, SocketError, words) as Error;
  assert(error instanceof TypeError && error.message.startsWith("SocketError: Cannot "), error.message);
}

describe("socketsConnect()", () => {
  it("reports its addresses, and carries bytes both ways", async () => {
    const { sim, server, socket, peer, seen, end } = await scene();
    const info = await sim.run(socket.opened);
    assertEquals(info.remoteAddress, `127.0.0.1:${portOf(server)}`);
    assert(/^127\.0\.0\.1:\d+$/.test(info.localAddress ?? ""));
    assertEquals([info.alpn, socket.upgraded, socket.secureTransport], [null, false, "off"]);
    await sim.run(socket.writable.getWriter().write("hello"));
    await sim.advance(5);
    assertEquals(seen.text, "hello");
    peer().write("and you");
    assertEquals(text((await sim.run(socket.readable.getReader().read())).value!), "and you");
    await end();
  });

  it("takes reads and writes before it is opened", async () => {
    const { sim, socket, peer, seen, end } = await scene();
    const reading = socket.readable.getReader().read();
    const writing = socket.writable.getWriter().write("early");
    await sim.run(socket.opened);
    await sim.run(writing);
    await sim.advance(5);
    peer().write("back");
    assertEquals([seen.text, text((await sim.run(reading)).value!)], ["early", "back"]);
    await end();
  });

  it("takes addresses as text", async () => {
    const { sim, server, socket, end } = await scene();
    for (const address of [`127.0.0.1:${portOf(server)}`, `localhost:${portOf(server)}`]) {
      const other = connect(address, { runtime: sim });
      await sim.run(other.opened);
      await sim.run(other.close());
    }
    void socket;
    await end();
  });

  it("takes the parts of an address in the forms of a URL and of a server", async () => {
    const { sim, server, end } = await scene();
    const port = portOf(server);
    const parts: SocketsAddress[] = [
      { hostname: "127.0.0.1", port: String(port) },
      new URL(`tcp://127.0.0.1:${port}/x`),
      server.address as { hostname: string; port: number; family: "IPv4" },
      { hostname: "localhost", port, family: "IPv4" },
    ];
    for (const address of parts) {
      const other = connect(address, { runtime: sim });
      assertEquals((await sim.run(other.opened)).remoteAddress, `127.0.0.1:${port}`);
      await sim.run(other.close());
    }
    const ipv6 = connect(new URL("tcp://[::1]:9"), { runtime: sim });
    const error = await assertRejects(() => sim.run(ipv6.opened), SocketError, "[::1]:9") as SocketError;
    assertEquals(error.code, "ECONNREFUSED");
    await end();
  });

  it("refuses wrong addresses and options with a message", async () => {
    const { sim, end } = await scene();
    const hostPort = "the address is not host:port";
    const range = "the port is not a whole number from 1 to 65535: received";
    const addresses: [address: unknown, words: string][] = [
      ["nohost", `${hostPort}: received "nohost"`],
      ["a:b", hostPort],
      ["::1:80", hostPort],
      ["[::1]", hostPort],
      [":80", hostPort],
      ["", hostPort],
      ["x:99999", `${range} "99999"`],
      ["x:0", `${range} "0"`],
      [7, "the address is not host:port or an object: received 7"],
      [null, "received null"],
      [undefined, "received undefined"],
      [Symbol("x"), "received Symbol(x)"],
      [{ hostname: "x" }, `${range} undefined`],
      [{ hostname: "x", port: "http" }, `${range} "http"`],
      [{ hostname: "x", port: "-1" }, `${range} "-1"`],
      [{ hostname: "x", port: "" }, `${range} ""`],
      [{ hostname: "x", port: 1.5 }, `${range} 1.5`],
      [{ hostname: "x", port: 65536 }, `${range} 65536`],
      [{ hostname: "x", port: NaN }, `${range} NaN`],
      [{ port: 1 }, "the hostname is not a non-empty string: received undefined"],
      [{ hostname: 5, port: 1 }, "the hostname is not a non-empty string: received 5"],
      [{ hostname: "127.0.0.1\0.example", port: 1 }, "NUL"],
      [{ host: "x", port: 1 }, "unknown option address.host: did you mean address.hostname?"],
      [{ hostname: "x", port: 1, family: 4 }, "the family is not IPv4 or IPv6: received 4"],
    ];
    for (const [address, words] of addresses) {
      refused(() => connect(address as SocketsAddress, { runtime: sim }), words);
    }

    const options: [options: unknown, words: string][] = [
      [null, "the options are not an object: received null"],
      [7, "the options are not an object: received 7"],
      [{ secureTransport: "maybe" }, 'secureTransport is not "off", "on" or "starttls": received "maybe"'],
      [{ secureTransport: null }, 'secureTransport is not "off", "on" or "starttls": received null'],
      [{ allowHalfOpen: "no" }, 'allowHalfOpen is not a boolean: received "no"'],
      [{ sni: "b" }, 'sni, alpn and tls have no meaning with secureTransport "off"'],
      [{ alpn: ["h2"] }, 'sni, alpn and tls have no meaning with secureTransport "off"'],
      [{ tls: {} }, 'sni, alpn and tls have no meaning with secureTransport "off"'],
      [{ secureTransport: "on", sni: 7 }, "sni is not a host name: received 7"],
      [{ secureTransport: "starttls", alpn: "h2" }, 'alpn is not a list of names: received "h2"'],
      [{ secureTransport: "starttls", alpn: [""] }, "an ALPN protocol does not have 1 to 255 ASCII characters"],
      [{ secureTransport: "on", tls: { ca: 7 } }, "tls.ca is not PEM"],
      [
        { secureTransport: "on", tls: { serverNam: "x" } },
        "unknown option tls.serverNam: did you mean tls.serverName?",
      ],
      [{ highWaterMark: 0 }, "highWaterMark is not a whole number of bytes from 1 on: received 0"],
      [{ highWaterMark: 1.5 }, "received 1.5"],
      [{ highWaterMark: "64" }, 'received "64"'],
      [{ highWaterMark: -1n }, "received -1n"],
      [{ timeoutMs: -1 }, "timeoutMs"],
      [{ signal: {} }, "the signal is not an AbortSignal: received Object"],
      [{ halfOpen: true }, "unknown option halfOpen: did you mean allowHalfOpen?"],
      [{ secure: "on" }, "unknown option secure: did you mean"],
      [{
        get secureTransport() {
          throw new Error("no");
        },
      }, "a getter or a proxy has thrown"],
    ];
    for (const [option, words] of options) {
      const given = typeof option === "object" && option !== null
        ? Object.defineProperties({ runtime: sim }, Object.getOwnPropertyDescriptors(option))
        : option;
      refused(() => connect("127.0.0.1:9", given as SocketsOptions), words);
    }
    // The defaults of the draft are not treated as options.
    const socket = connect("127.0.0.1:9", { sni: null, alpn: [], tls: undefined, runtime: sim });
    await sim.run(socket.opened.catch(() => {}));
    await end();
  });

  it("refuses wrong options of startTls() with a message, and can be used afterwards", async () => {
    const { sim, socket, end } = await scene({ secureTransport: "starttls" });
    await sim.run(socket.opened);
    const wrong: [options: unknown, words: string][] = [
      [null, "Cannot start TLS: the options are not an object: received null"],
      ["x", "the options are not an object"],
      [{ hostname: "x" }, "unknown option hostname"],
      [{ serverName: 7 }, "tls.serverName is not a host name"],
      [{ expectedServerHostname: "" }, "tls.serverName is not a host name"],
    ];
    for (const [options, words] of wrong) refused(() => socket.startTls(options as { servername: string }), words);
    assertEquals(socket.upgraded, false);
    await sim.run(socket.writable.getWriter().write("still usable"));
    await end();
  });

  it("rejects opened and closed, and fails the streams, if connecting fails", async () => {
    const sim = simRuntime();
    for (const early of [false, true]) {
      const socket = connect("127.0.0.1:9", { runtime: sim });
      const reader = socket.readable.getReader();
      const writer = socket.writable.getWriter();
      writer.closed.catch(() => {});
      const reading = early ? reader.read() : null;
      reading?.catch(() => {});
      await sim.run(socket.opened.catch(() => {}));
      for (const promise of [socket.opened, socket.closed, writer.write("x")]) {
        const error = await assertRejects(() => promise, TypeError) as SocketError;
        if (error instanceof SocketError) assertEquals(error.code, "ECONNREFUSED");
      }
      if (reading !== null) assertEquals((await assertRejects(() => reading) as SocketError).code, "ECONNREFUSED");
      await sim.advance(10);
      assertEquals([sim.openHandles, sim.pending], [0, 0]);
    }
  });

  it("closes itself after the peer's end was read", async () => {
    const { sim, socket, peer, seen, end } = await scene();
    await sim.run(socket.opened);
    await sim.advance(5);
    await sim.run(socket.writable.getWriter().write("last word"));
    peer().write("bye");
    peer().shutdown();
    await sim.advance(10);
    assertEquals(await stateOf(sim, socket.closed), "pending", "nobody has read");
    const reader = socket.readable.getReader();
    assertEquals(text((await sim.run(reader.read())).value!), "bye");
    assertEquals(await sim.run(reader.read()), { done: true, value: undefined });
    await sim.run(socket.closed);
    await sim.advance(10);
    assertEquals([seen.text, seen.events.some((what) => (what & BEV_EVENT_EOF) !== 0)], ["last word", true]);
    await end();
  });

  it("stays half-open with allowHalfOpen", async () => {
    const { sim, socket, peer, seen, end } = await scene({ allowHalfOpen: true });
    await sim.run(socket.opened);
    await sim.advance(5);
    peer().shutdown();
    const reader = socket.readable.getReader();
    assertEquals((await sim.run(reader.read())).done, true);
    assertEquals(await stateOf(sim, socket.closed), "pending");
    await sim.run(socket.writable.getWriter().write("still here"));
    await sim.advance(5);
    assertEquals(seen.text, "still here");
    await end();
  });

  it("is closed when both directions have ended, half-open or not, in either order", async () => {
    for (const order of ["read, write", "write, read", "write and read at once"]) {
      const { sim, server, socket, peer, seen, end } = await scene({ allowHalfOpen: true });
      await sim.run(socket.opened);
      await sim.advance(5);
      const reader = socket.readable.getReader();
      const writer = socket.writable.getWriter();
      await sim.run(writer.write("last"));
      if (order === "write, read") {
        await sim.run(writer.close());
        assertEquals(await stateOf(sim, socket.closed), "pending");
      }
      peer().shutdown();
      if (order === "write and read at once") await sim.run(Promise.all([writer.close(), reader.read()]));
      else assertEquals((await sim.run(reader.read())).done, true);
      if (order === "read, write") {
        assertEquals(await stateOf(sim, socket.closed), "pending");
        await sim.run(writer.close());
      }
      assertEquals(await stateOf(sim, socket.closed), "resolved", order);
      await sim.run(Promise.all([reader.closed, writer.closed]));
      await sim.advance(5);
      assertEquals(seen.text, "last");
      peer().free();
      await sim.advance(5);
      assertEquals([server.connections, sim.openHandles], [0, 1]);
      await end();
    }
  });

  it("resolves closed after a reset, which the streams report", async () => {
    const { sim, socket, peer, end } = await scene();
    await sim.run(socket.opened);
    await sim.advance(5);
    const reading = socket.readable.getReader().read();
    reading.catch(() => {});
    peer().reset();
    await sim.run(socket.closed);
    assertEquals((await assertRejects(() => reading) as { code?: string }).code, "ECONNRESET");
    await end();
  });

  it("notices a reset without reads or writes, and the next write rejects", async () => {
    for (const allowHalfOpen of [false, true]) {
      const { sim, socket, peer, end } = await scene({ allowHalfOpen });
      await sim.run(socket.opened);
      await sim.advance(5);
      const reader = socket.readable.getReader();
      const writer = socket.writable.getWriter();
      await sim.run(writer.write("fine"));
      await sim.advance(5);
      peer().reset();
      await sim.run(socket.closed);
      const promises = [writer.closed, writer.ready, writer.write("x"), reader.closed, reader.read()];
      const errors = promises.map((promise) => assertRejects(() => promise, SocketError));
      for (const error of errors) assertEquals((await sim.run(error) as SocketError).code, "ECONNRESET");
      await end();
    }
  });

  it("gives bytes that arrived before a reset, while writing fails at once", async () => {
    const { sim, socket, peer, end } = await scene();
    await sim.run(socket.opened);
    await sim.advance(5);
    peer().write("before");
    await sim.advance(5);
    peer().reset();
    await sim.run(socket.closed);
    const writing = socket.writable.getWriter().write("x");
    assertEquals((await assertRejects(() => sim.run(writing), SocketError) as SocketError).code, "ECONNRESET");
    const reader = socket.readable.getReader();
    assertEquals(text((await sim.run(reader.read())).value!), "before");
    assertEquals((await assertRejects(() => sim.run(reader.read()), SocketError) as SocketError).code, "ECONNRESET");
    await end();

    const unread = await scene();
    await unread.sim.run(unread.socket.opened);
    await unread.sim.advance(5);
    unread.peer().write("before");
    await unread.sim.advance(5);
    unread.peer().reset();
    await unread.sim.advance(5);
    await unread.end();
  });

  it("rejects reads after a failure, too: it is not an end", async () => {
    const { sim, socket, peer, end } = await scene();
    await sim.run(socket.opened);
    await sim.advance(5);
    const writer = socket.writable.getWriter();
    writer.closed.catch(() => {});
    const writing = writer.write(new Uint8Array(1_000_000));
    writing.catch(() => {});
    await sim.advance(5);
    peer().reset();
    await assertRejects(() => sim.run(writing));
    const error = await assertRejects(() => sim.run(socket.readable.getReader().read()), SocketError);
    assertEquals((error as SocketError).code, "ECONNRESET");
    await end();

    const refused = connect("127.0.0.1:9", { runtime: sim });
    await assertRejects(() => sim.run(refused.opened));
    await assertRejects(() => sim.run(refused.readable.getReader().read()), SocketError, "refused");
  });

  it("delivers written bytes with close(), and ends a read that waits", async () => {
    const { sim, socket, seen, end } = await scene();
    await sim.run(socket.opened);
    const reading = socket.readable.getReader().read();
    const writer = socket.writable.getWriter();
    writer.closed.catch(() => {});
    const long = "x".repeat(30_000);
    void writer.write(long);
    await Promise.resolve();
    const closed = socket.close();
    assertStrictEquals(closed, socket.closed);
    await sim.run(closed);
    assertEquals(await reading, { done: true, value: undefined });
    await assertRejects(() => writer.write("late"));
    await sim.advance(20);
    assertEquals(seen.text, long);
    assertStrictEquals(socket.close(), closed);
    await end();
  });

  it("delivers writes that were not awaited with close(), before and after there is a connection", async () => {
    for (const when of ["before", "after"] as const) {
      for (const [count, length] of [[1, 7], [5, 7], [4, 300_000]] as const) {
        const { sim, socket, seen, end } = await scene();
        if (when === "after") await sim.run(socket.opened);
        else socket.opened.catch(() => {});
        const writer = socket.writable.getWriter();
        const writes = Array.from({ length: count }, () => writer.write("x".repeat(length)));
        const closed = socket.close();
        await sim.run(Promise.all(writes));
        await sim.run(closed);
        await sim.advance(50);
        assertEquals(seen.text.length, count * length);
        await assertRejects(() => writer.write("late"));
        await end();
      }
    }
  });

  it("delivers bytes that were written before the connection with close()", async () => {
    for (const length of [7, 1_000_000]) {
      const { sim, socket, seen, end } = await scene();
      const writer = socket.writable.getWriter();
      const opened = assertRejects(() => socket.opened, SocketError);
      await writer.write("x".repeat(7));
      const long = writer.write(new Uint8Array(length - 7));
      long.catch(() => {});
      const closed = socket.close();
      assertEquals(await stateOf(sim, closed), "pending");
      await opened;
      await sim.run(closed);
      await sim.advance(20);
      assert(seen.text.length >= 7 && seen.text.startsWith("x".repeat(7)), `${seen.text.length} bytes`);
      assertEquals(seen.events, [BEV_EVENT_EOF | BEV_EVENT_READING]);
      await end();
    }
  });

  it("rejects closed if close() had bytes to deliver and connecting fails", async () => {
    const sim = simRuntime();
    const socket = connect("127.0.0.1:9", { runtime: sim });
    await socket.writable.getWriter().write("lost");
    const error = await assertRejects(() => sim.run(socket.close()), SocketError) as SocketError;
    assertEquals(error.code, "ECONNREFUSED");
    await sim.advance(10);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("reports a failed attempt once at the end of `await using`, and a loss of written bytes", async () => {
    const sim = simRuntime();
    const opened = (async () => {
      await using socket = connect("127.0.0.1:9", { runtime: sim });
      await socket.opened;
    })();
    // Not a SuppressedError of two.
    assertEquals((await assertRejects(() => sim.run(opened), SocketError) as SocketError).code, "ECONNREFUSED");
    const lost = (async () => {
      await using socket = connect("127.0.0.1:9", { runtime: sim });
      await socket.writable.getWriter().write("lost");
    })();
    assertEquals((await assertRejects(() => sim.run(lost), SocketError) as SocketError).code, "ECONNREFUSED");
    await sim.advance(10);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("rejects opened with the reason of close()", async () => {
    const { socket, end } = await scene();
    const reason = new Error("changed my mind");
    const closed = socket.close(reason);
    assertStrictEquals(await assertRejects(() => socket.opened), reason);
    await closed;
    await end();
  });

  it("is closed by await using, and its attempt is ended by a signal and by a timeout", async () => {
    const { sim, server, end } = await scene();
    const controller = new AbortController();
    const aborted = connect({ hostname: "127.0.0.1", port: portOf(server) }, {
      runtime: sim,
      signal: controller.signal,
    });
    controller.abort();
    await sim.run(aborted.opened.catch(() => {}));
    assertEquals((await assertRejects(() => aborted.opened) as SocketError).code, "ECANCELED");
    let disposed: StreamSocket;
    {
      await using socket = connect({ hostname: "127.0.0.1", port: portOf(server) }, { runtime: sim });
      disposed = socket;
    }
    await disposed.closed;
    await end();
  });

  it("finishes writing when the writable is closed, and resets when it is aborted", async () => {
    const { sim, socket, peer, seen, end } = await scene();
    await sim.run(socket.opened);
    const writer = socket.writable.getWriter();
    await sim.run(writer.write("all"));
    await sim.run(writer.close());
    await sim.advance(5);
    assertEquals([seen.text, seen.events.length], ["all", 1]);
    // The other direction goes on.
    peer().write("answer");
    assertEquals(text((await sim.run(socket.readable.getReader().read())).value!), "answer");
    await end();
    const cut = await scene();
    await cut.sim.run(cut.socket.opened);
    await cut.sim.advance(5);
    await cut.sim.run(cut.socket.writable.abort());
    await cut.sim.advance(5);
    assertEquals(cut.seen.events.length, 1);
    await cut.end();
  });

  it("is closed when its writable is aborted, and delivers written bytes", async () => {
    for (const when of ["opened", "early", "upgrading"]) {
      const { sim, socket: first, seen, end } = await scene({ secureTransport: "starttls" });
      if (when === "opened") {
        await sim.run(first.opened);
        await sim.advance(5);
      }
      const socket = when === "upgrading" ? first.startTls() : first;
      const reader = socket.readable.getReader();
      const reading = assertRejects(() => reader.read());
      const writer = socket.writable.getWriter();
      if (when !== "upgrading") await sim.run(writer.write("delivered"));
      const reason = new Error("enough");
      await sim.run(writer.abort(reason));
      await sim.run(socket.closed);
      assertStrictEquals(await sim.run(reading), reason);
      assertStrictEquals(await sim.run(assertRejects(() => reader.closed)), reason);
      assertStrictEquals(await sim.run(assertRejects(() => writer.closed)), reason);
      if (when !== "opened") assertStrictEquals(await sim.run(assertRejects(() => socket.opened)), reason);
      await sim.advance(20);
      assertEquals(seen.text, when === "upgrading" ? "" : "delivered");
      await end();
    }
  });

  it("is closed by close() while abort() of its writable still waits for a write", async () => {
    const { sim, socket, seen, end } = await scene();
    await sim.run(socket.opened);
    await sim.advance(5);
    const writer = socket.writable.getWriter();
    await sim.run(writer.write("accepted"));
    await sim.advance(5);
    void writer.write("under way").catch(() => {});
    const aborting = writer.abort(new Error("enough"));
    await sim.run(socket.close());
    await sim.run(aborting.catch(() => {}));
    await assertRejects(() => sim.run(writer.closed));
    await sim.advance(20);
    assert(seen.text.startsWith("accepted"));
    await end();
  });

  it("drops arriving bytes after its readable was cancelled, and notices the end", async () => {
    for (const allowHalfOpen of [false, true]) {
      const { sim, socket, peer, end } = await scene({ allowHalfOpen });
      await sim.run(socket.opened);
      await sim.advance(5);
      peer().write(new Uint8Array(300_000));
      await sim.advance(5);
      await sim.run(socket.readable.cancel());
      await sim.advance(100);
      assertEquals(peer().output.length, 0, "the peer does not stall");
      await sim.run(socket.writable.getWriter().write("still writable"));
      assertEquals(await stateOf(sim, socket.closed), "pending");
      peer().shutdown();
      await sim.advance(10);
      if (allowHalfOpen) {
        assertEquals(await stateOf(sim, socket.closed), "pending");
        await end();
        continue;
      }
      assertEquals(await stateOf(sim, socket.closed), "resolved");
      await end();
    }
  });

  it("notices a reset after its readable was cancelled", async () => {
    const { sim, socket, peer, end } = await scene({ allowHalfOpen: true });
    await sim.run(socket.opened);
    await sim.advance(5);
    await sim.run(socket.readable.cancel());
    peer().reset();
    await sim.run(socket.closed);
    await end();
  });

  it("respects highWaterMark in both directions", async () => {
    const { sim, socket, peer, end } = await scene({ highWaterMark: 1000n });
    const writer = socket.writable.getWriter();
    assertEquals(writer.desiredSize, 1000);
    void writer.write(new Uint16Array(100));
    void writer.write("grüße");
    assertEquals(writer.desiredSize, 1000 - 200 - 7);
    await sim.run(socket.opened);
    await sim.advance(5);
    assertEquals(writer.desiredSize, 1000);
    peer().disable(EV_READ);
    let settled = 0;
    for (let i = 0; i < 1000; i++) writer.write(new Uint8Array(1000)).then(() => settled++, () => {});
    await sim.advance(100);
    assert(settled > 100 && settled < 400, `${settled} kB`);
    assertEquals(await stateOf(sim, writer.ready), "pending");

    peer().write(new Uint8Array(300_000));
    const reader = socket.readable.getReader();
    const { value } = await sim.run(reader.read());
    assert(value!.length <= 1000, `${value!.length} bytes`);
    await end();
  });

  it("changes to TLS when it is connected if startTls() was called before, and sends nothing without TLS", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
      open: (bev) => bev.startTls({ cert: "127.0.0.1 signed by CA", key: "k" }),
      read(bev) {
        log.push(`${bev.tls?.protocol}: ${bev.input.toString()}`);
        bev.writeBuffer(bev.input);
      },
      error: (error) => void log.push(String(error)),
    });
    const first = connect(`127.0.0.1:${portOf(server)}`, {
      runtime: sim,
      secureTransport: "starttls",
      tls: { ca: "CA" },
    });
    const socket = first.startTls();
    const writing = socket.writable.getWriter().write("secret");
    await sim.run(first.opened);
    assertEquals(log, []);
    await sim.run(socket.opened);
    await sim.run(writing);
    const { value } = await sim.run(socket.readable.getReader().read());
    assertEquals([text(value as Uint8Array), log], ["secret", ["TLSv1.3: secret"]]);
    await sim.run(socket.close());
    await sim.run(server.close({ graceMs: 0 }));
  });

  it("rejects all waiting promises if startTls() was called before, and connecting fails or it is closed", async () => {
    const sim = simRuntime();
    for (const closes of [false, true]) {
      const first = connect("127.0.0.1:9", { runtime: sim, secureTransport: "starttls" });
      const socket = first.startTls();
      const writer = socket.writable.getWriter();
      const writing = writer.write("secret");
      const waits = [first.opened, socket.opened, writing, writer.closed, ...(closes ? [] : [socket.closed])];
      const settled = Promise.allSettled(waits);
      if (closes) await sim.run(socket.close(new Error("enough")));
      const reasons = (await sim.run(settled)).map((each) => each.status === "rejected" ? String(each.reason) : "");
      assert(reasons.every((reason) => (closes ? /enough/ : /refused/).test(reason)), reasons.join("\n"));
      await sim.advance(10);
      assertEquals(sim.openHandles, 0);
    }
  });

  it("resolves closed of the first socket after the caller of startTls() has had time to use the new one", async () => {
    for (const opens of [false, true]) {
      const sim = simRuntime();
      const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
        open: (bev) => bev.startTls({ cert: "127.0.0.1 signed by CA", key: "k" }),
        read: (bev) => bev.writeBuffer(bev.input),
      });
      const address = `127.0.0.1:${portOf(server)}`;
      const first = connect(address, { runtime: sim, secureTransport: "starttls", tls: { ca: "CA" } });
      if (opens) await sim.run(first.opened);
      // A library that fails if the socket is closed before it has noted the upgrade.
      let state = "open";
      let outcome = "";
      first.closed.then(() => outcome = state === "upgraded" ? "goes on" : "gives up");
      const socket = first.startTls();
      assertEquals([first.upgraded, outcome], [true, ""]);
      const writer = socket.writable.getWriter();
      writer.ready.then(() => Promise.resolve()).then(() => Promise.resolve()).then(() => state = "upgraded");
      await sim.run(first.closed);
      assertEquals(outcome, "goes on");
      await sim.run(writer.write("secret"));
      assertEquals(text((await sim.run(socket.readable.getReader().read())).value!), "secret");
      await sim.run(socket.close());
      await sim.run(server.close({ graceMs: 0 }));
    }
  });

  it("accepts the server's name under the option names of other libraries", async () => {
    const sim = simRuntime();
    const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
      open: (bev) => bev.startTls({ cert: "db.example signed by CA", key: "k" }),
    });
    const address = `127.0.0.1:${portOf(server)}`;
    const names: [options: { [name: string]: string }, code: string | undefined][] = [
      [{}, "ERR_TLS_CERT"],
      [{ serverName: "db.example" }, undefined],
      [{ expectedServerHostname: "db.example" }, undefined],
      [{ servername: "db.example" }, undefined],
      [{ serverName: "db.example", servername: "other.example" }, undefined],
      [{ servername: "other.example" }, "ERR_TLS_CERT"],
    ];
    for (const [options, code] of names) {
      const opened = [
        connect(address, { runtime: sim, secureTransport: "starttls", tls: { ca: "CA" } }).startTls(options),
        connect(address, { runtime: sim, secureTransport: "starttls", tls: { ca: "CA", ...options } }).startTls(),
        connect(address, { runtime: sim, secureTransport: "starttls", sni: "first.example", tls: { ca: "CA" } })
          .startTls({ serverName: "127.0.0.1", ...options }),
      ];
      for (const socket of options.serverName === undefined ? opened.slice(0, 2) : opened) {
        const outcome = await sim.run(socket.opened.then(() => undefined, (error: SocketError) => error.code));
        assertEquals(outcome, code, JSON.stringify(options));
        await sim.run(socket.close().catch(() => {}));
      }
    }
    await sim.run(server.close({ graceMs: 0 }));
  });

  it("refuses startTls() with another secureTransport than starttls", async () => {
    const { sim, socket, end } = await scene();
    await sim.run(socket.opened);
    assertThrows(() => socket.startTls(), SocketError);
    assertEquals(socket.upgraded, false);
    await end();
  });
});
