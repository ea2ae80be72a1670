// connect() in the shape of the Sockets API draft: what its promises, streams and methods do.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import type { SocketBufferEvent } from "../../../core/bufferevent/socket.ts";
import { BEV_EVENT_EOF } from "../../../core/flags.ts";
import { serve, type Server } from "../../../core/stream/serve.ts";
import {
  connect,
  SocketError,
  type SocketsAddress,
  type SocketsOptions,
  type StreamSocket,
} from "../../../core/stream/sockets.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { portOf, text } from "../socket/pairs.ts";

interface Scene {
  readonly sim: SimRuntime;
  readonly server: Server;
  readonly socket: StreamSocket;
  /** The server's end, once it is there. */
  readonly peer: () => SocketBufferEvent;
  /** What the server has received, and the events it was told. */
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

/** How a promise stands, when everything has had its turn. */
async function stateOf(sim: SimRuntime, promise: Promise<unknown>): Promise<string> {
  let state = "pending";
  promise.then(() => state = "resolved", () => state = "rejected");
  await sim.advance(1);
  return state;
}

describe("socketsConnect()", () => {
  it("tells where it is connected, and carries bytes both ways", async () => {
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
    const wrong: unknown[] = ["nohost", "a:b", "::1:80", "[::1]", ":80", 7, null, { hostname: "x" }, "x:99999"];
    for (const address of wrong) {
      const error = assertThrows(() => connect(address as SocketsAddress, { runtime: sim }), SocketError) as Error;
      assert(error instanceof TypeError && error.message.startsWith("SocketError: "), String(address));
    }
    assertThrows(() => connect("a:1", { secureTransport: "maybe" as "on", runtime: sim }), SocketError);
    assertThrows(() => connect("a:1", { sni: "b", runtime: sim }), SocketError);
    void socket;
    await end();
  });

  it("rejects opened and closed, and fails the streams, when there is no connection", async () => {
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

  it("closes itself when the peer has finished and that was read", async () => {
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

  it("stays half-open if told so", async () => {
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

  it("resolves closed after a reset, which the streams tell", async () => {
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

  it("fails what is read after a failure too: it is no end", async () => {
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

  it("delivers with close() what was written, and ends a read that waits", async () => {
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

  it("rejects opened with the reason of close()", async () => {
    const { socket, end } = await scene();
    const reason = new Error("changed my mind");
    const closed = socket.close(reason);
    assertStrictEquals(await assertRejects(() => socket.opened), reason);
    await closed;
    await end();
  });

  it("is closed by await using, and its attempt ended by a signal and by time", async () => {
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

  it("finishes our direction when the writable is closed, and cuts when it is aborted", async () => {
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

  it("changes to TLS as soon as it is connected when startTls() came before, and sends nothing in the clear", async () => {
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

  it("rejects all that wait when startTls() came before, and there is no connection or it is closed", async () => {
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

  it("refuses startTls() where it was not asked for", async () => {
    const { sim, socket, end } = await scene();
    await sim.run(socket.opened);
    assertThrows(() => socket.startTls(), SocketError);
    assertEquals(socket.upgraded, false);
    await end();
  });
});
