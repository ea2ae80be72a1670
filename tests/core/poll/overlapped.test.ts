// Overlapped operations: exactly one completion each, in order, and the buffer is not changed
// before.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EAGAIN, EV_READ } from "../../../core/flags.ts";
import { Overlapped } from "../../../core/api/overlapped.ts";
import type { InetAddress } from "../../../core/runtime.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { pattern, portOf, text } from "../socket/pairs.ts";
import { bytes, drain, fill, received, Stage } from "./stage.ts";

/**
 * Records completions: `name bytes` or `name code`, with a mark if a call of the user is in
 * progress.
 */
class Completions {
  readonly heard: string[] = [];
  inside = 0;

  overlapped(name: string): Overlapped {
    return new Overlapped((overlapped, count, error) => {
      assert(!overlapped.pending);
      const where = this.inside > 0 ? " inside a call" : "";
      this.heard.push(`${name} ${error === null ? count : error.code}${where}`);
      if (error === null) assertEquals(overlapped.result(), { bytes: count });
      else assertEquals(assertThrows(() => overlapped.result(), EventError), error);
    });
  }

  /** Runs a call of the user. */
  call(fn: () => void): void {
    this.inside++;
    fn();
    this.inside--;
  }

  take(): string[] {
    return this.heard.splice(0);
  }
}

async function rig(): Promise<{ stage: Stage; client: Socket; server: Socket; done: Completions }> {
  const stage = new Stage();
  const [client, server] = await stage.pair();
  return { stage, client, server, done: new Completions() };
}

describe("Overlapped", () => {
  it("has no result before an operation, and none while it is pending", async () => {
    const { stage, client, server } = await rig();
    const ov = new Overlapped();
    assertEquals([ov.pending, ov.socket], [false, null]);
    assertEquals(assertThrows(() => ov.result(), EventError).code, "EINVAL");
    server.recvOverlapped(new Uint8Array(9), ov);
    assertEquals(ov.pending, true);
    assertEquals(assertThrows(() => ov.result(), EventError).code, "EINPROGRESS");
    client.send("abc");
    await stage.sim.advance(1);
    assertEquals([ov.pending, ov.result()], [false, { bytes: 3 }]);
    await stage.end(client, server);
  });

  it("cannot be used by two operations at a time, but again after the first", async () => {
    const { stage, client, server } = await rig();
    const ov = new Overlapped();
    const buffer = new Uint8Array(9);
    const listening = await stage.listen();
    server.recvOverlapped(buffer, ov);
    const begins = [
      () => server.recvOverlapped(new Uint8Array(9), ov),
      () => client.sendOverlapped(bytes("x"), ov),
      () => listening.acceptOverlapped(ov),
      () => stage.base.connectOverlapped({ port: portOf(listening) }, ov),
    ];
    for (const begin of begins) assertEquals(assertThrows(begin, EventError).code, "EV_BUSY");
    client.send("abc");
    await stage.sim.advance(1);
    assertEquals(ov.result(), { bytes: 3 });
    client.sendOverlapped(bytes("four"), ov);
    await stage.sim.advance(1);
    assertEquals(ov.result(), { bytes: 4 });
    assertEquals(received(server), "four");
    // The refused calls began nothing.
    assertEquals(stage.sim.openHandles, 3);
    await stage.end(client, server, listening);
  });

  it("can be used again from inside its completion", async () => {
    const { stage, client, server } = await rig();
    const buffer = new Uint8Array(2);
    const heard: string[] = [];
    const ov = new Overlapped((_ov, count, error) => {
      heard.push(error === null ? text(buffer.subarray(0, count)) : error.code);
      if (count > 0) server.recvOverlapped(buffer, ov);
    });
    server.recvOverlapped(buffer, ov);
    client.send("abcde");
    client.close();
    await stage.sim.advance(5);
    assertEquals(heard, ["ab", "cd", "e", ""]);
    await stage.end(server);
  });

  it("cannot be another object, and its callback must be a function", async () => {
    const { stage, client, server } = await rig();
    assertThrows(() => new Overlapped(5 as never), TypeError);
    const none = {} as Overlapped;
    assertThrows(() => server.recvOverlapped(new Uint8Array(1), none), TypeError);
    assertThrows(() => server.sendOverlapped(new Uint8Array(1), none), TypeError);
    assertThrows(() => stage.base.connectOverlapped({ port: 9 }, none), TypeError);
    assertThrows(() => server.recvOverlapped("x" as never, new Overlapped()), TypeError);
    assertThrows(() => server.sendOverlapped(undefined as never, new Overlapped()), TypeError);
    assertThrows(() => server.recvOverlapped(new Uint8Array(0), new Overlapped()), RangeError);
    assertThrows(() => stage.base.connectOverlapped({ port: -1 }, new Overlapped()), RangeError);
    await stage.end(client, server);
  });

  it("stays unchanged if no operation could begin", async () => {
    const { stage, client, server } = await rig();
    server.close();
    const ov = new Overlapped();
    for (
      const begin of [() => server.recvOverlapped(new Uint8Array(1), ov), () => server.sendOverlapped(bytes("x"), ov)]
    ) {
      assertEquals(assertThrows(begin, EventError).code, "EBADF");
    }
    assertThrows(() => stage.base.connectOverlapped({ port: 70_000 }, ov), RangeError);
    assertEquals(ov.pending, false);
    assertEquals(assertThrows(() => ov.result(), EventError).code, "EINVAL");
    await stage.end(client);
  });
});

describe("a completion", () => {
  it("comes once, later, and never inside a call of the user, even if all bytes are already there", async () => {
    const { stage, client, server, done } = await rig();
    client.send("abc");
    await stage.sim.advance(1);
    const recv = done.overlapped("recv");
    const send = done.overlapped("send");
    done.call(() => {
      server.recvOverlapped(new Uint8Array(9), recv);
      server.sendOverlapped(bytes("xy"), send);
    });
    assertEquals([recv.pending, send.pending], [false, false]);
    assertEquals(done.take(), []);
    await stage.sim.advance(0);
    assertEquals(done.take(), ["recv 3", "send 2"]);
    await stage.sim.advance(100);
    assertEquals(done.take(), []);
    await stage.end(client, server);
  });

  it("may close the socket, and what is pending then is cancelled", async () => {
    const { stage, client, server, done } = await rig();
    const first = new Overlapped(() => server.close());
    server.recvOverlapped(new Uint8Array(1), first);
    server.recvOverlapped(new Uint8Array(1), done.overlapped("second"));
    client.send("x");
    await stage.sim.advance(1);
    assertEquals(done.take(), ["second ECANCELED"]);
    await stage.end(client);
  });

  it("that throws is reported to the runtime, and other operations go on", async () => {
    const { stage, client, server, done } = await rig();
    const error = new Error("in the callback");
    server.recvOverlapped(
      new Uint8Array(1),
      new Overlapped(() => {
        throw error;
      }),
    );
    server.recvOverlapped(new Uint8Array(1), done.overlapped("second"));
    client.send("xy");
    assertStrictEquals(await assertRejects(() => stage.sim.advance(1)), error);
    await stage.sim.advance(1);
    assertEquals(done.take(), ["second 1"]);
    await stage.end(client, server);
  });
});

describe("Socket.recvOverlapped()", () => {
  it("completes with the bytes that are there, and does not change the buffer before and after", async () => {
    const { stage, client, server } = await rig();
    const buffer = new Uint8Array(8).fill(0xee);
    const ov = new Overlapped();
    server.recvOverlapped(buffer, ov);
    await stage.sim.advance(10);
    assert(buffer.every((byte) => byte === 0xee));
    client.send("abc");
    await stage.sim.advance(1);
    assertEquals([...buffer], [97, 98, 99, 0xee, 0xee, 0xee, 0xee, 0xee]);
    client.send("defghijkl");
    await stage.sim.advance(1);
    assertEquals([...buffer], [97, 98, 99, 0xee, 0xee, 0xee, 0xee, 0xee]);
    assertEquals(received(server), "defghijkl");
    await stage.end(client, server);
  });

  it("several of them complete in their order", async () => {
    const { stage, client, server, done } = await rig();
    const buffers = [1, 2, 3, 4].map((length) => new Uint8Array(length));
    buffers.forEach((buffer, i) => server.recvOverlapped(buffer, done.overlapped(String(i))));
    client.send("abcd");
    await stage.sim.advance(1);
    assertEquals(done.take(), ["0 1", "1 2", "2 1"]);
    client.send("ef");
    await stage.sim.advance(1);
    assertEquals(done.take(), ["3 2"]);
    assertEquals(buffers.map((buffer) => text(buffer.filter((byte) => byte !== 0))), ["a", "bc", "d", "ef"]);
    await stage.end(client, server);
  });

  it("completes with 0 bytes when the peer has finished, each of them", async () => {
    const { stage, client, server, done } = await rig();
    for (const name of ["a", "b", "c"]) server.recvOverlapped(new Uint8Array(9), done.overlapped(name));
    client.send("x");
    client.close();
    await stage.sim.advance(1);
    assertEquals(done.take(), ["a 1", "b 0", "c 0"]);
    server.recvOverlapped(new Uint8Array(9), done.overlapped("late"));
    await stage.sim.advance(0);
    assertEquals(done.take(), ["late 0"]);
    await stage.end(server);
  });

  it("completes with the failure of the connection, after the bytes before it", async () => {
    const { stage, client, server, done } = await rig();
    for (const name of ["a", "b"]) server.recvOverlapped(new Uint8Array(9), done.overlapped(name));
    client.send("x");
    await stage.sim.advance(1);
    client.reset();
    await stage.sim.advance(1);
    assertEquals(done.take(), ["a 1", "b ECONNRESET"]);
    server.recvOverlapped(new Uint8Array(9), done.overlapped("late"));
    await stage.sim.advance(0);
    assertEquals(done.take(), ["late ECONNRESET"]);
    await stage.end(server);
  });

  it("waits for the connection, too", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const client = stage.connect(listening);
    const refused = stage.refused();
    client.recvOverlapped(new Uint8Array(9), done.overlapped("recv"));
    refused.recvOverlapped(new Uint8Array(9), done.overlapped("refused"));
    await stage.sim.advance(10);
    const server = listening.accept();
    assert(server !== EAGAIN);
    server.send("hello");
    await stage.sim.advance(1);
    assertEquals(done.take(), ["refused ECONNREFUSED", "recv 5"]);
    await stage.end(client, server, refused, listening);
  });

  it("fails with EFAULT when its buffer was given away, and takes nothing", async () => {
    const { stage, client, server, done } = await rig();
    const buffer = new Uint8Array(9);
    server.recvOverlapped(buffer, done.overlapped("recv"));
    structuredClone(buffer.buffer, { transfer: [buffer.buffer] });
    client.send("x");
    await stage.sim.advance(1);
    assertEquals(done.take(), ["recv EFAULT"]);
    assertEquals(received(server), "x");
    await stage.end(client, server);
  });

  it("lets the peer wait when nobody receives", async () => {
    const { stage, client, server, done } = await rig();
    let sent = 0;
    for (let i = 0; i < 100; i++) {
      sent += fill(client);
      await stage.sim.advance(5);
    }
    assert(sent < 1 << 20, `${sent} bytes were taken`);
    const buffer = new Uint8Array(65_536);
    let total = 0;
    const ov = new Overlapped((_ov, count) => {
      total += count;
      if (count > 0) server.recvOverlapped(buffer, ov);
    });
    server.recvOverlapped(buffer, ov);
    client.shutdown();
    await stage.sim.advance(100);
    assertEquals(total, sent);
    assertEquals(done.take(), []);
    await stage.end(client, server);
  });
});

describe("Socket.sendOverlapped()", () => {
  it("completes when all bytes are taken, however many they are, and all arrive", async () => {
    const { stage, client, server, done } = await rig();
    const data = pattern(1_000_000);
    client.sendOverlapped(data, done.overlapped("big"));
    client.sendOverlapped(bytes("tail"), done.overlapped("small"));
    await stage.sim.advance(50);
    assertEquals(done.take(), []);
    const got = new Uint8Array(data.length + 4);
    let n = 0;
    while (n < got.length) {
      const now = server.recv(got.subarray(n));
      if (now > 0) n += now;
      await stage.sim.advance(1);
    }
    assertEquals(done.take(), ["big 1000000", "small 4"]);
    assert(data.every((byte, i) => got[i] === byte));
    assertEquals(text(got.subarray(data.length)), "tail");
    await stage.end(client, server);
  });

  it("does not need its buffer any more once it has completed", async () => {
    const { stage, client, server } = await rig();
    const buffer = bytes("abc");
    const ov = new Overlapped();
    client.sendOverlapped(buffer, ov);
    assertEquals(ov.pending, false);
    buffer.fill(120);
    await stage.sim.advance(1);
    assertEquals(received(server), "abc");
    await stage.end(client, server);
  });

  it("waits for the connection, of no bytes too", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const client = stage.connect(listening);
    client.sendOverlapped(new Uint8Array(0), done.overlapped("empty"));
    client.sendOverlapped(bytes("abc"), done.overlapped("three"));
    await stage.sim.advance(1);
    assertEquals(done.take(), []);
    await stage.sim.advance(10);
    assertEquals(done.take(), ["empty 0", "three 3"]);
    const server = listening.accept();
    assert(server !== EAGAIN);
    await stage.sim.advance(1);
    assertEquals(received(server), "abc");
    await stage.end(client, server, listening);
  });

  it("completes with the failure of the connection, each of them", async () => {
    const stage = new Stage();
    const done = new Completions();
    const client = stage.refused();
    client.sendOverlapped(new Uint8Array(0), done.overlapped("empty"));
    client.sendOverlapped(bytes("abc"), done.overlapped("three"));
    await stage.sim.advance(10);
    assertEquals(done.take(), ["empty ECONNREFUSED", "three ECONNREFUSED"]);
    const [a, b] = await stage.pair();
    a.sendOverlapped(new Uint8Array(500_000), done.overlapped("big"));
    await stage.sim.advance(10);
    b.reset();
    await stage.sim.advance(10);
    assertEquals(done.take(), ["big ECONNRESET"]);
    a.sendOverlapped(bytes("x"), done.overlapped("late"));
    await stage.sim.advance(0);
    assertEquals(done.take(), ["late ECONNRESET"]);
    await stage.end(client, a);
  });

  it("completes with EPIPE when the direction was finished", async () => {
    const { stage, client, server, done } = await rig();
    client.shutdown();
    client.sendOverlapped(bytes("x"), done.overlapped("late"));
    await stage.sim.advance(0);
    assertEquals(done.take(), ["late EPIPE"]);
    await stage.end(client, server);
  });

  it("fails with EFAULT when its buffer was given away in the middle", async () => {
    const { stage, client, server, done } = await rig();
    const buffer = new Uint8Array(500_000);
    client.sendOverlapped(buffer, done.overlapped("send"));
    structuredClone(buffer.buffer, { transfer: [buffer.buffer] });
    for (let ms = 0; ms < 50; ms++) {
      drain(server);
      await stage.sim.advance(1);
    }
    assertEquals(done.take(), ["send EFAULT"]);
    await stage.end(client, server);
  });

  it("goes on beside a receive on the same socket", async () => {
    const { stage, client, server, done } = await rig();
    client.recvOverlapped(new Uint8Array(9), done.overlapped("recv"));
    client.sendOverlapped(new Uint8Array(400_000), done.overlapped("send"));
    server.send("x");
    await stage.sim.advance(5);
    assertEquals(done.take(), ["recv 1"]);
    for (let total = 0; total < 400_000; await stage.sim.advance(1)) total += drain(server);
    assertEquals(done.take(), ["send 400000"]);
    await stage.end(client, server);
  });
});

describe("ListeningSocket.acceptOverlapped()", () => {
  it("completes with a socket that knows both addresses", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const ov = done.overlapped("accept");
    listening.acceptOverlapped(ov);
    const client = stage.connect(listening);
    assertEquals([ov.pending, ov.socket], [true, null]);
    await stage.sim.advance(10);
    assertEquals(done.take(), ["accept 0"]);
    const server = ov.socket;
    assert(server !== null);
    assertEquals(server.localAddress, listening.address);
    assertEquals(server.remoteAddress, client.localAddress);
    assertEquals((server.remoteAddress as InetAddress).hostname, "127.0.0.1");
    await stage.end(client, server, listening);
  });

  it("with a buffer completes together with the first data of the connection", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const buffer = new Uint8Array(3);
    const ov = done.overlapped("accept");
    listening.acceptOverlapped(ov, buffer);
    const client = stage.connect(listening);
    await stage.sim.advance(100);
    // The program cannot change a connection that belongs to the operation.
    assertEquals([ov.pending, ov.socket, done.take()], [true, null, []]);
    client.send("hello");
    await stage.sim.advance(1);
    assertEquals(done.take(), ["accept 3"]);
    const server = ov.socket;
    assert(server !== null);
    assertEquals(text(buffer), "hel");
    assertEquals(received(server), "lo");
    assertEquals(server.remoteAddress, client.localAddress);
    await stage.end(client, server, listening);
  });

  it("several of them get the connections in their order", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const ovs = [0, 1, 2].map((i) => done.overlapped(String(i)));
    for (const ov of ovs) listening.acceptOverlapped(ov);
    const clients = [stage.connect(listening), stage.connect(listening)];
    await stage.sim.advance(10);
    assertEquals(done.take(), ["0 0", "1 0"]);
    clients.push(stage.connect(listening));
    await stage.sim.advance(10);
    assertEquals(done.take(), ["2 0"]);
    const servers = ovs.map(({ socket }) => socket as Socket);
    assertEquals(servers.map(({ remoteAddress }) => remoteAddress), clients.map(({ localAddress }) => localAddress));
    await stage.end(...clients, ...servers, listening);
  });

  it("a connection that says nothing does not hold up the next", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const ovs = [0, 1].map((i) => done.overlapped(String(i)));
    for (const ov of ovs) listening.acceptOverlapped(ov, new Uint8Array(9));
    const silent = stage.connect(listening);
    await stage.sim.advance(10);
    const talking = stage.connect(listening);
    await stage.sim.advance(10);
    talking.send("hi");
    await stage.sim.advance(10);
    assertEquals(done.take(), ["1 2"]);
    silent.close();
    await stage.sim.advance(10);
    // A connection that has finished without data also counts.
    assertEquals(done.take(), ["0 0"]);
    await stage.end(talking, ...ovs.map(({ socket }) => socket as Socket), listening);
  });

  it("completes with the failure of a connection that fails before its first data, without a socket", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const ov = done.overlapped("accept");
    listening.acceptOverlapped(ov, new Uint8Array(9));
    const client = stage.connect(listening);
    await stage.sim.advance(10);
    client.reset();
    await stage.sim.advance(10);
    assertEquals(done.take(), ["accept ECONNRESET"]);
    assertEquals(ov.socket, null);
    await stage.end(listening);
  });

  it("takes a connection that waits already", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const clients = [stage.connect(listening), stage.connect(listening)];
    clients[1]?.send("");
    await stage.sim.advance(10);
    const ovs = [done.overlapped("a"), done.overlapped("b")];
    done.call(() => listening.acceptOverlapped(ovs[0] as Overlapped));
    clients[1]?.send("hi");
    done.call(() => listening.acceptOverlapped(ovs[1] as Overlapped, new Uint8Array(9)));
    await stage.sim.advance(10);
    assertEquals(done.take(), ["a 0", "b 2"]);
    await stage.end(...clients, ...ovs.map(({ socket }) => socket as Socket), listening);
  });

  it("is cancelled by close(), and the connection that it waits on is closed", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    listening.acceptOverlapped(done.overlapped("with data"), new Uint8Array(9));
    listening.acceptOverlapped(done.overlapped("waiting"));
    const client = stage.connect(listening);
    await stage.sim.advance(10);
    done.call(() => void listening.close());
    assertEquals(done.take(), []);
    await stage.sim.advance(10);
    assertEquals(done.take(), ["waiting ECANCELED", "with data ECANCELED"]);
    assertEquals(received(client), null);
    assertEquals(assertThrows(() => listening.acceptOverlapped(new Overlapped()), EventError).code, "EBADF");
    await stage.end(client);
  });
});

describe("EventBase.connectOverlapped()", () => {
  it("gives the socket at once, and completes with 0 bytes when the connection is there", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const ov = done.overlapped("connect");
    const client = stage.base.connectOverlapped({ port: portOf(listening) }, ov);
    assertEquals([client.connected, ov.pending, ov.socket], [false, true, null]);
    await stage.sim.advance(10);
    assertEquals([client.connected, done.take()], [true, ["connect 0"]]);
    await stage.end(client, listening);
  });

  it("completes with the failure, by name and by time too", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const sockets = [
      stage.base.connectOverlapped({ port: 9 }, done.overlapped("refused")),
      stage.base.connectOverlapped({ port: 9, hostname: "nobody.invalid" }, done.overlapped("name")),
      stage.base.connectOverlapped({ port: portOf(listening), timeoutMs: 1 }, done.overlapped("time")),
      stage.base.connectOverlapped({ port: 9, signal: AbortSignal.abort() }, done.overlapped("aborted")),
    ];
    await stage.sim.advance(10);
    assertEquals(done.take().sort(), ["aborted ECANCELED", "name ENOTFOUND", "refused ECONNREFUSED", "time ETIMEDOUT"]);
    await stage.end(...sockets, listening);
  });

  it("delays sends that were begun after it", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const client = stage.base.connectOverlapped({ port: portOf(listening) }, done.overlapped("connect"));
    client.sendOverlapped(bytes("x"), done.overlapped("send"));
    await stage.sim.advance(10);
    assertEquals(done.take(), ["connect 0", "send 1"]);
    await stage.end(client, listening);
  });
});

describe("closing a socket", () => {
  for (const how of ["close", "reset"] as const) {
    it(`with ${how}() completes all its pending operations with ECANCELED, once, and not inside the call`, async () => {
      const { stage, client, server, done } = await rig();
      server.recvOverlapped(new Uint8Array(9), done.overlapped("recv 1"));
      server.recvOverlapped(new Uint8Array(9), done.overlapped("recv 2"));
      server.sendOverlapped(new Uint8Array(500_000), done.overlapped("send 1"));
      server.sendOverlapped(bytes("x"), done.overlapped("send 2"));
      await stage.sim.advance(10);
      done.call(() => server[how]());
      assertEquals(done.take(), []);
      await stage.sim.advance(100);
      assertEquals(done.take(), ["recv 1 ECANCELED", "recv 2 ECANCELED", "send 1 ECANCELED", "send 2 ECANCELED"]);
      drain(client);
      await stage.end(client);
    });
  }

  it("while it connects cancels the connect", async () => {
    const stage = new Stage();
    const done = new Completions();
    const listening = await stage.listen();
    const client = stage.base.connectOverlapped({ port: portOf(listening) }, done.overlapped("connect"));
    client.close();
    await stage.sim.advance(10);
    assertEquals(done.take(), ["connect ECANCELED"]);
    await stage.end(client, listening);
  });

  it("touches no buffer afterwards", async () => {
    const { stage, client, server, done } = await rig();
    const buffer = new Uint8Array(9);
    server.recvOverlapped(buffer, done.overlapped("recv"));
    client.send("abc");
    server.close();
    await stage.sim.advance(10);
    assertEquals(done.take(), ["recv ECANCELED"]);
    assert(buffer.every((byte) => byte === 0));
    await stage.end(client);
  });
});

describe("overlapped operations", () => {
  it("go on beside events on the same socket, without a loop", async () => {
    const { stage, client, server, done } = await rig();
    const event = stage.base.event(server, EV_READ, () => {});
    server.recvOverlapped(new Uint8Array(9), done.overlapped("recv"));
    client.send("x");
    await stage.sim.advance(1);
    assertEquals(done.take(), ["recv 1"]);
    event.free();
    await stage.end(client, server);
  });
});
