// Sending and receiving on sockets, with no loop at all.

import { describe, it } from "node:test";
import { assert, assertEquals, assertLessOrEqual, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { EventError } from "../../../core/errors.ts";
import { EAGAIN, ENOTCONN } from "../../../core/flags.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { connectionOf, Socket } from "../../../core/api/socket.ts";
import { RECEIVE_LIMIT, SEND_LIMIT } from "../../../core/socket/connection.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { WINDOW_BYTES } from "../../../runtimes/sim/connection.ts";
import { join, pattern, portOf, receiveAll, socketPair, text } from "./pairs.ts";

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

async function end(sim: SimRuntime, ...sockets: Socket[]): Promise<void> {
  for (const socket of sockets) socket.close();
  await sim.advance(6_000);
  assertEquals([sim.openHandles, sim.pending], [0, 0]);
}

describe("recv()", () => {
  it("copies arrived bytes, as many as there is space for", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    assertEquals(server.recv(new Uint8Array(4)), EAGAIN);
    client.send("hello");
    assertEquals(server.recv(new Uint8Array(4)), EAGAIN, "it takes a latency");
    await sim.advance(1);
    const into = new Uint8Array(4);
    assertEquals([server.recv(into), text(into)], [4, "hell"]);
    assertEquals([server.recv(into), text(into)], [1, "oell"]);
    assertEquals(server.recv(into), EAGAIN);
    await end(sim, client, server);
  });

  it("gives 0 when the peer has finished, after all bytes, again and again", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    client.send("bye");
    client.shutdown();
    await sim.advance(5);
    const into = new Uint8Array(8);
    assertEquals([server.recv(into), server.recv(into), server.recv(into)], [3, 0, 0]);
    // Our own direction stays open.
    assertEquals(server.send("still here"), 10);
    await sim.advance(5);
    assertEquals(text(receiveAll(client).bytes), "still here");
    await end(sim, client, server);
  });

  it("throws the failure of the connection, after all that arrived before it", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    client.send("last words");
    await sim.advance(1);
    client.reset();
    await sim.advance(5);
    assertEquals(server.error?.code, "ECONNRESET");
    const into = new Uint8Array(32);
    assertEquals(server.recv(into), 10);
    assertEquals([codeOf(() => server.recv(into)), codeOf(() => server.recv(into))], ["ECONNRESET", "ECONNRESET"]);
    assertEquals(codeOf(() => server.send("x")), "ECONNRESET");
    await end(sim, client, server);
  });

  it("on a closed socket throws EBADF; without space it throws a RangeError", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    assertThrows(() => server.recv(new Uint8Array(0)), RangeError);
    assertThrows(() => server.recv("4" as unknown as Uint8Array), TypeError);
    server.close();
    assertEquals(codeOf(() => server.recv(new Uint8Array(1))), "EBADF");
    assertEquals(codeOf(() => server.recvBuffer(new EvBuffer())), "EBADF");
    assertEquals(codeOf(() => server.send("x")), "EBADF");
    assertEquals(codeOf(() => server.send("")), "EBADF");
    assertEquals(codeOf(() => server.sendBuffer(new EvBuffer())), "EBADF");
    await end(sim, client, server);
  });
});

describe("recvBuffer()", () => {
  it("moves arrived bytes, up to maxBytes", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    const into = new EvBuffer();
    into.add("> ");
    assertEquals(server.recvBuffer(into), EAGAIN);
    client.send("hello, world");
    await sim.advance(1);
    assertEquals([server.recvBuffer(into, 5), into.toString()], [5, "> hello"]);
    assertEquals([server.recvBuffer(into), into.toString()], [7, "> hello, world"]);
    client.shutdown();
    await sim.advance(1);
    assertEquals([server.recvBuffer(into), into.length], [0, 14]);
    await end(sim, client, server);
  });

  it("with a frozen end throws EV_FROZEN and loses nothing", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    client.send("kept");
    await sim.advance(1);
    const into = new EvBuffer();
    into.freeze(false);
    assertEquals(codeOf(() => server.recvBuffer(into)), "EV_FROZEN");
    into.unfreeze(false);
    assertEquals([server.recvBuffer(into), into.toString()], [4, "kept"]);
    await end(sim, client, server);
  });

  it("takes a buffer and a positive count", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    assertThrows(() => server.recvBuffer([] as unknown as EvBuffer), TypeError);
    for (const most of [0, -1, 1.5, NaN]) {
      assertThrows(() => server.recvBuffer(new EvBuffer(), most), RangeError);
      assertThrows(() => server.sendBuffer(new EvBuffer(), most), RangeError);
    }
    assertThrows(() => server.sendBuffer("x" as unknown as EvBuffer), TypeError);
    await end(sim, client, server);
  });
});

describe("send()", () => {
  it("copies, so that the bytes may be changed at once; sends a string as UTF-8", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    const bytes = new Uint8Array([65, 66, 67]);
    assertEquals(client.send(bytes), 3);
    bytes.fill(0);
    assertEquals(client.send("€"), 3);
    await sim.advance(1);
    assertEquals(text(receiveAll(server).bytes), "ABC€");
    await end(sim, client, server);
  });

  it("of no bytes gives 0 when connected, ENOTCONN while connecting; of some EAGAIN while connecting", async () => {
    const sim = simRuntime();
    const listening = await ListeningSocket.listen(sim, { hostname: "127.0.0.1", port: 0 });
    const client = Socket.connect(sim, { port: portOf(listening) });
    assertEquals([client.send(""), client.send("x"), client.connected], [ENOTCONN, EAGAIN, false]);
    const buffer = new EvBuffer();
    assertEquals(client.sendBuffer(buffer), ENOTCONN);
    buffer.add("x");
    assertEquals([client.sendBuffer(buffer), buffer.length], [EAGAIN, 1]);
    assertEquals(client.recv(new Uint8Array(1)), EAGAIN);
    await sim.advance(5);
    assertEquals([client.send(""), client.send("x"), client.connected], [0, 1, true]);
    await listening.close();
    await end(sim, client);
  });

  it("after shutdown() throws EPIPE; for a value that is not bytes it throws a TypeError", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    assertThrows(() => client.send(5 as unknown as string), TypeError);
    client.send("x");
    client.shutdown();
    client.shutdown();
    assertEquals(codeOf(() => client.send("y")), "EPIPE");
    await sim.advance(1);
    assertEquals([text(receiveAll(server).bytes), receiveAll(server).ended], ["x", true]);
    await end(sim, client, server);
  });

  it("to a peer that is gone throws EPIPE or ECONNRESET in the end", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    server.close();
    let code = "";
    for (let i = 0; i < 100 && code === ""; i++) {
      try {
        client.send("x");
      } catch (error) {
        code = (error as EventError).code;
      }
      await sim.advance(100);
    }
    assert(code === "EPIPE" || code === "ECONNRESET", code);
    assertEquals(client.error?.code, code);
    await end(sim, client, server);
  });

  it("when both directions are finished throws EPIPE", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    server.shutdown();
    client.shutdown();
    await sim.advance(10);
    assertEquals([client.error, server.error], [null, null]);
    assertEquals([codeOf(() => client.send("x")), receiveAll(client).ended], ["EPIPE", true]);
    await end(sim, client, server);
  });
});

describe("sendBuffer()", () => {
  it("takes chunks off the buffer, up to maxBytes", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    const from = new EvBuffer();
    assertEquals(client.sendBuffer(from), 0);
    from.add("hello, world");
    assertEquals([client.sendBuffer(from, 5), from.toString()], [5, ", world"]);
    assertEquals([client.sendBuffer(from), from.length], [7, 0]);
    await sim.advance(1);
    assertEquals(text(receiveAll(server).bytes), "hello, world");
    await end(sim, client, server);
  });

  it("with a frozen front throws EV_FROZEN, and nothing has been sent", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    const from = new EvBuffer();
    from.add("kept");
    from.freeze(true);
    assertEquals(codeOf(() => client.sendBuffer(from)), "EV_FROZEN");
    assertEquals(from.length, 4);
    await sim.advance(1);
    assertEquals(server.recv(new Uint8Array(8)), EAGAIN);
    await end(sim, client, server);
  });

  it("takes as many bytes as the queue has space for, and the rest stays in the buffer", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    const data = pattern(1_000_000);
    const from = new EvBuffer();
    from.addReference(data);
    let taken = client.sendBuffer(from);
    assert(taken > 0 && taken < data.length);
    assertEquals(from.length, data.length - taken);
    assertEquals(client.sendBuffer(from), EAGAIN);
    const received: Uint8Array[] = [];
    for (let ms = 0; ms < 1000 && from.length > 0; ms++) {
      await sim.advance(1);
      received.push(receiveAll(server).bytes);
      const n = client.sendBuffer(from);
      if (n > 0) taken += n;
    }
    assertEquals(taken, data.length);
    client.shutdown();
    for (let ms = 0; ms < 100; ms++) {
      await sim.advance(1);
      received.push(receiveAll(server).bytes);
    }
    assertEquals(join(received), data);
    await end(sim, client, server);
  });
});

describe("bounded queues", () => {
  it("hold at most 64 KiB and a chunk for a stopped reader, and the sender gets EAGAIN", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    const chunk = new Uint8Array(16_384);
    let sent = 0;
    for (let ms = 0; ms < 200; ms++) {
      for (let n = client.send(chunk); n !== EAGAIN; n = client.send(chunk)) sent += n;
      await sim.advance(1);
      assertLessOrEqual(connectionOf(server).available, RECEIVE_LIMIT + WINDOW_BYTES);
    }
    assertEquals(client.send(chunk), EAGAIN);
    assertLessOrEqual(connectionOf(client).unsent, SEND_LIMIT);
    // Both queues, the queues of the network, and the chunk.
    assertLessOrEqual(sent, RECEIVE_LIMIT + SEND_LIMIT + 3 * WINDOW_BYTES);

    // A slow reader is not disconnected, and all bytes arrive.
    await sim.advance(3_600_000);
    let received = 0;
    for (let ms = 0; ms < 200 && received < sent; ms++) {
      received += receiveAll(server).bytes.length;
      await sim.advance(1);
    }
    assertEquals([received, client.error, server.error], [sent, null, null]);
    assert(client.send(chunk) > 0);
    await end(sim, client, server);
  });

  it("do not keep a whole large chunk for a few unread bytes beside the next one", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    const large = new Uint8Array(512 * 1024).fill(97);
    connectionOf(server).onData(large);
    const into = new Uint8Array(16 * 1024);
    for (let left = large.length; left > into.length;) left -= server.recv(into);
    const rest = new EvBuffer();
    assertEquals(server.recvBuffer(rest), into.length);
    assert(rest.peek().every((view) => view.buffer !== large.buffer));
    assertEquals(rest.toString(), "a".repeat(into.length));
    await end(sim, client, server);
  });

  it("accept a part of a send that is larger than the space", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    const n = client.send(pattern(1_000_000));
    assert(n > 0 && n <= SEND_LIMIT, `${n}`);
    await sim.advance(20);
    assertEquals(receiveAll(server).bytes, pattern(n));
    await end(sim, client, server);
  });

  it("send their bytes without a dispatch when the peer reads on", async () => {
    const sim = simRuntime();
    const [client, server] = await socketPair(sim);
    let sent = 0;
    for (let ms = 0; ms < 50; ms++) {
      const n = client.send(pattern(10_000, sent));
      if (n > 0) sent += n;
      await sim.advance(0.1);
    }
    const received: Uint8Array[] = [];
    for (let ms = 0; ms < 100; ms++) {
      received.push(receiveAll(server).bytes);
      await sim.advance(1);
    }
    assertEquals(join(received), pattern(sent));
    assertEquals(connectionOf(client).unsent, 0);
    await end(sim, client, server);
  });
});

describe("any interleaving of sends and receives", () => {
  const step = fc.record({
    kind: fc.constantFrom("send", "sendBuffer", "recv", "recvBuffer", "wait"),
    side: fc.boolean(),
    size: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 100_000 })),
  });

  it("delivers the bytes in order, once, both ways", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), fc.nat(), async (steps, seed) => {
        const sim = simRuntime({ seed, faults: { segmentCut: 0.3, jitterMs: 2 } });
        const sockets = await socketPair(sim);
        const sent = [0, 0];
        const received = [0, 0];
        const check = (to: number, bytes: Uint8Array): void => {
          assertEquals(bytes, pattern(bytes.length, received[to]));
          received[to] = (received[to] as number) + bytes.length;
        };
        for (const { kind, side, size } of steps) {
          const at = side ? 1 : 0;
          const socket = sockets[at] as Socket;
          if (kind === "wait") await sim.advance(size % 10);
          else if (kind === "send" || kind === "sendBuffer") {
            const bytes = pattern(size, sent[at]);
            const buffer = new EvBuffer();
            buffer.add(bytes);
            const n = kind === "send" ? socket.send(bytes) : socket.sendBuffer(buffer);
            if (n > 0) sent[at] = (sent[at] as number) + n;
          } else if (kind === "recv") {
            const into = new Uint8Array(size);
            const n = socket.recv(into);
            if (n > 0) check(at, into.subarray(0, n));
          } else {
            const into = new EvBuffer();
            if (socket.recvBuffer(into, size) > 0) check(at, into.toUint8Array());
          }
        }
        for (const socket of sockets) socket.shutdown();
        const ended = [false, false];
        for (let ms = 0; ms < 500 && !(ended[0] && ended[1]); ms++) {
          await sim.advance(1);
          for (const at of [0, 1]) {
            const all = receiveAll(sockets[at] as Socket);
            check(at, all.bytes);
            ended[at] ||= all.ended;
          }
        }
        assertEquals([received[1], received[0], ...ended], [sent[0], sent[1], true, true]);
        await end(sim, ...sockets);
      }),
      { numRuns: 60 },
    );
  });
});
