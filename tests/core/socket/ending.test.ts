// The end of a connection: shutdown(), close(), reset(), and what is delivered.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EAGAIN, EV_READ } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import { LINGER_MS } from "../../../core/socket/linger.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { join, pattern, portOf, receiveAll, socketPair, text } from "./pairs.ts";

async function left(sim: SimRuntime): Promise<[number, number]> {
  await sim.advance(6_000);
  return [sim.openHandles, sim.pending];
}

/** Reads until the end, a little each millisecond. */
async function drain(sim: SimRuntime, socket: Socket, bytesPerMs = Infinity): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const into = new Uint8Array(Math.min(bytesPerMs, 65_536));
  for (;;) {
    const n = socket.recv(into);
    if (n === 0) return join(chunks);
    if (n > 0) chunks.push(into.slice(0, n));
    if (n === EAGAIN || bytesPerMs < Infinity) await sim.advance(1);
  }
}

describe("shutdown()", () => {
  it("finishes writing after all sent bytes, including the queue, and receiving goes on", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    let sent = 0;
    for (let n = client.send(pattern(50_000)); n !== EAGAIN; n = client.send(pattern(50_000, sent))) sent += n;
    client.shutdown();
    assertEquals(await drain(sim, server), pattern(sent));
    server.send("answer");
    await sim.advance(5);
    assertEquals(text(receiveAll(client).bytes), "answer");
    client.close();
    server.close();
    assertEquals(await left(sim), [0, 0]);
  });

  it("while connecting takes effect when the connection is there", async () => {
    for (const hostname of ["127.0.0.1", "server"]) {
      const sim = simRuntime();
      const host = hostname === "server" ? sim.host("server") : sim;
      const listening = await ListeningSocket.listen(host, { hostname: "0.0.0.0", port: 0 });
      const client = Socket.connect(sim, { hostname, port: portOf(listening) });
      client.shutdown();
      await sim.advance(20);
      const server = listening.accept();
      assert(server !== EAGAIN);
      await sim.advance(1);
      assertEquals([client.connected, receiveAll(server).ended], [true, true], hostname);
      server.send("answer");
      await sim.advance(5);
      assertEquals(text(receiveAll(client).bytes), "answer");
      client.close();
      server.close();
      await listening.close();
      assertEquals([...await left(sim), host.openHandles], [0, 0, 0]);
    }
  });
});

describe("close()", () => {
  it("delivers sent bytes, however many of them wait", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    let sent = 0;
    for (let n = client.send(pattern(50_000)); n !== EAGAIN; n = client.send(pattern(50_000, sent))) sent += n;
    client.close();
    client.close();
    assertEquals(await drain(sim, server), pattern(sent));
    server.close();
    assertEquals(await left(sim), [0, 0]);
  });

  it("delivers it to a slow reader too", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    let sent = 0;
    for (let n = client.send(pattern(50_000)); n !== EAGAIN; n = client.send(pattern(50_000, sent))) sent += n;
    client.close();
    // Twenty seconds, far more than a closed connection waits for its peer.
    assertEquals(await drain(sim, server, Math.ceil(sent / 20_000)), pattern(sent));
    server.close();
    assertEquals(await left(sim), [0, 0]);
  });

  it("delivers them although the peer sends a lot and reads nothing before it has finished", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    let sent = 0;
    // The client reads nothing, so its host has stopped reading.
    const flood = new Uint8Array(65_536);
    for (let ms = 0; ms < 100; ms++) {
      server.send(flood);
      const n = client.send(pattern(50_000, sent));
      if (n > 0) sent += n;
      await sim.advance(1);
    }
    assertEquals([server.send(flood), client.send(flood)], [EAGAIN, EAGAIN]);
    client.close();
    // The peer finishes its own sending first.
    let rest = 500_000;
    for (let ms = 0; ms < 200 && rest > 0; ms++) {
      const n = server.send(flood.subarray(0, Math.min(rest, flood.length)));
      if (n > 0) rest -= n;
      await sim.advance(1);
    }
    assertEquals(rest, 0, "a closed connection drops arriving bytes, so that it does not stall the peer");
    assertEquals(await drain(sim, server), pattern(sent));
    server.close();
    assertEquals(await left(sim), [0, 0]);
  });

  it("waits some time for the peer to finish, and then ends", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    client.send("bye");
    client.close();
    await sim.advance(LINGER_MS - 10);
    assertEquals(sim.openHandles, 2);
    await sim.advance(20);
    assertEquals(sim.openHandles, 1);
    assertEquals(text(receiveAll(server).bytes), "bye");
    server.close();
    assertEquals(await left(sim), [0, 0]);
  });

  it("ends as soon as the peer has finished", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    client.close();
    server.close();
    await sim.advance(5);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("drops bytes that were not received, without a reset for the peer", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    server.send("unread");
    await sim.advance(5);
    client.close();
    await sim.advance(50);
    assertEquals([server.error, receiveAll(server).ended], [null, true]);
    server.close();
    assertEquals(await left(sim), [0, 0]);
  });

  it("while connecting cancels the attempt", async () => {
    for (const hostname of ["127.0.0.1", "server", "10.9.9.9"]) {
      for (const afterMs of [0, 0.5, 1, 1.5, 2]) {
        const sim = simRuntime();
        const host = hostname === "server" ? sim.host("server") : sim;
        const listening = await ListeningSocket.listen(host, { hostname: "0.0.0.0", port: 0 });
        const client = Socket.connect(sim, { hostname, port: portOf(listening), timeoutMs: 1000 });
        await sim.advance(afterMs);
        client.close();
        await sim.advance(20);
        await listening.close();
        await sim.advance(6_000);
        assertEquals([sim.openHandles, host.openHandles, sim.pending], [0, 0, 0], `${hostname} ${afterMs}`);
      }
    }
  });

  it("is called by `using`", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    {
      using inner = client;
      inner.send("x");
    }
    await sim.advance(2);
    assertEquals([text(receiveAll(server).bytes), receiveAll(server).ended], ["x", true]);
    server[Symbol.dispose]();
    assertEquals(await left(sim), [0, 0]);
  });
});

describe("reset()", () => {
  it("ends the connection at once: the peer gets ECONNRESET", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    client.send(pattern(30_000));
    client.reset();
    client.reset();
    client.close();
    await sim.advance(5);
    assertEquals(server.error?.code, "ECONNRESET");
    assertEquals((assertThrows(() => server.recv(new Uint8Array(8)), EventError) as EventError).code, "ECONNRESET");
    assertEquals((assertThrows(() => client.send("x"), EventError) as EventError).code, "EBADF");
    server.close();
    await sim.advance(5);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("after close() cuts the wait for the peer", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    for (let n = 0; n !== EAGAIN; n = client.send(pattern(50_000)));
    client.close();
    await sim.advance(10);
    client.reset();
    await sim.advance(5);
    // Bytes on their way are lost; arrived bytes wait for a reader that has stopped.
    for (let i = 0; i < 5; i++) {
      receiveAllOrError(server);
      await sim.advance(5);
    }
    assertEquals([server.error?.code, sim.openHandles], ["ECONNRESET", 0]);
    server.close();
    assertEquals(await left(sim), [0, 0]);
  });

  it("while connecting cancels the attempt", async () => {
    const sim = simRuntime();
    for (const hostname of ["127.0.0.1", "unknown-name"]) {
      const client = Socket.connect(sim, { hostname, port: 80 });
      client.reset();
      assertEquals((assertThrows(() => client.recv(new Uint8Array(1)), EventError) as EventError).code, "EBADF");
    }
    assertEquals(await left(sim), [0, 0]);
  });
});

function receiveAllOrError(socket: Socket): void {
  try {
    receiveAll(socket);
  } catch (error) {
    assert(error instanceof EventError);
  }
}

describe("ending from inside a callback", () => {
  it("close() and reset() in a read callback are safe", async () => {
    for (const way of ["close", "reset"] as const) {
      const sim = simRuntime();
      const [client, server] = await socketPair(sim);
      const base = new EventBase({ runtime: sim });
      base.event(server, EV_READ, () => server[way]()).add();
      client.send("x");
      assertEquals(await sim.run(base.dispatch()), "empty");
      client.close();
      assertEquals(await left(sim), [0, 0], way);
    }
  });
});

describe("the options of a connected socket", () => {
  it("can be set; on a closed socket they have no effect", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    for (const socket of [client, server]) {
      for (let i = 0; i < 2; i++) {
        socket.setNoDelay();
        socket.setNoDelay(false);
        socket.setKeepAlive(true, 1000);
        socket.setKeepAlive(false);
        socket.ref();
        socket.unref();
        socket.close();
      }
    }
    assertEquals(await left(sim), [0, 0]);
  });

  it("include the addresses of both ends, after the close too", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    assertEquals(client.localAddress, server.remoteAddress);
    assertEquals(client.remoteAddress, server.localAddress);
    const { localAddress } = client;
    assert(localAddress !== undefined && "port" in localAddress && localAddress.port > 0);
    client.close();
    server.close();
    assertEquals(await left(sim), [0, 0]);
    assertEquals(client.localAddress, localAddress);
  });
});
