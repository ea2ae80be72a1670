// connect(), setSocket(): rules V11 to V13.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { coreOf } from "../../../core/api/bufferevent.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  EAGAIN,
  EV_READ,
  EV_WRITE,
} from "../../../core/flags.ts";
import type { EventBase } from "../../../core/api/event_base.ts";
import type { ListeningSocket } from "../../../core/api/listening_socket.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { nothingLeft, type World, world } from "../loop/harness.ts";
import { portOf, receiveAll, socketPair, text } from "../socket/pairs.ts";
import { Recorder, rig } from "./rig.ts";

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

async function during({ sim, base }: World, ms: number): Promise<void> {
  base.loopExit(ms);
  await sim.run(base.dispatch());
}

interface Client extends World {
  listening: ListeningSocket;
  port: number;
  record: Recorder;
  bev: SocketBufferEvent;
  accept(): Socket;
  end(): Promise<void>;
}

async function client(options = 0): Promise<Client> {
  const made = world();
  const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
  const record = new Recorder();
  const bev = new SocketBufferEvent(made.base, null, BEV_OPT_CLOSE_ON_FREE | options);
  bev.setCallbacks(record.callbacks);
  const accepted: Socket[] = [];
  return {
    ...made,
    listening,
    port: portOf(listening),
    record,
    bev,
    accept(): Socket {
      const socket = listening.accept();
      assert(socket !== EAGAIN, "nobody has connected");
      accepted.push(socket);
      return socket;
    },
    async end(): Promise<void> {
      bev.free();
      for (const socket of accepted) socket.close();
      await listening.close();
      await nothingLeft(made);
    },
  };
}

describe("connect() (V11)", () => {
  it("reports CONNECTED alone, and then sends the output", async () => {
    const made = await client();
    const { bev, record, sim, base } = made;
    bev.write("queued before, ");
    bev.connect({ hostname: "127.0.0.1", port: made.port });
    bev.write("and meanwhile");
    assertEquals([record.lines, bev.output.length], [[], 28]);
    record.on.event = (bev) => record.lines.push(`with ${bev.output.length}`);
    await during(made, 10);
    assertEquals(record.take(), ["event CONNECTED", "with 28", "write 0"]);
    const server = made.accept();
    await during(made, 5);
    assertEquals(text(receiveAll(server).bytes), "queued before, and meanwhile");
    assertEquals([bev.socket?.connected, sim.openHandles, base.gotExit], [true, 3, true]);
    await made.end();
  });

  it("reports the end once if a callback that was deferred with it enables reading (V5)", async () => {
    for (const from of ["CONNECTED", "read"]) {
      const made = await client(BEV_OPT_DEFER_CALLBACKS);
      const { bev, record, sim } = made;
      bev.enable(EV_READ);
      bev.connect({ hostname: "127.0.0.1", port: made.port });
      // Let the connection and the peer's end arrive before the loop runs.
      await sim.advance(5);
      const peer = made.accept();
      if (from === "read") peer.send("x");
      peer.shutdown();
      await sim.advance(5);
      const seen: number[] = [];
      record.on.event = (bev, what) => {
        seen.push(bev.enabled);
        if (from === "CONNECTED" && what === BEV_EVENT_CONNECTED) bev.enable(EV_READ);
      };
      record.on.read = (bev) => bev.enable(EV_READ);
      await during(made, 10);
      const read = from === "read" ? ["read 1"] : [];
      assertEquals(record.take(), ["event CONNECTED", ...read, "event READING|EOF"], from);
      assertEquals(seen.at(-1), EV_WRITE, "reading is disabled before the callback");
      bev.enable(EV_READ);
      await during(made, 10);
      assertEquals(record.take(), ["event READING|EOF"]);
      await made.end();
    }
  });

  it("reports the end after another failure of reading that was pending when the end came (V5)", async () => {
    const made = await client();
    const { bev, record, sim } = made;
    bev.connect({ hostname: "127.0.0.1", port: made.port });
    await during(made, 5);
    const peer = made.accept();
    bev.enable(EV_READ);
    await during(made, 5);
    record.take();
    // Let the end arrive before the loop runs.
    peer.shutdown();
    await sim.advance(5);
    const full = new EventError("Cannot read more", { code: "EV_INPUT_FULL" });
    coreOf(bev).triggerEvent(BEV_EVENT_READING | BEV_EVENT_ERROR, full);
    await during(made, 10);
    assertEquals(record.take(), ["event READING|ERROR", "event READING|EOF"]);
    await made.end();
  });

  it("with nothing queued gives no write callback", async () => {
    const made = await client();
    made.bev.connect({ port: made.port });
    await during(made, 10);
    assertEquals(made.record.take(), ["event CONNECTED"]);
    await made.end();
  });

  it("keeps the loop running until it is done", async () => {
    const made = await client();
    made.bev.connect({ port: made.port });
    assertEquals(await made.sim.run(made.base.dispatch()), "empty");
    assertEquals(made.record.take(), ["event CONNECTED"]);
    await made.end();
  });

  it("that fails reports ERROR once, with the reason; flags and output stay as they were", async () => {
    const made = await client();
    const { bev, record } = made;
    bev.enable(EV_READ);
    bev.write("queued");
    bev.connect({ port: 9 });
    await during(made, 20);
    assertEquals(record.take(), ["event ERROR"]);
    assertEquals([record.errors[0]?.code, bev.enabled, bev.output.length], ["ECONNREFUSED", EV_READ | EV_WRITE, 6]);
    // It may be tried again, in the event callback too.
    record.on.event = (_bev, what) => {
      if ((what & 0x20) !== 0) bev.connect({ port: made.port });
    };
    bev.connect({ port: 9 });
    await during(made, 20);
    assertEquals(record.take(), ["event ERROR", "event CONNECTED", "write 0"]);
    const server = made.accept();
    await during(made, 5);
    server.send("hello");
    await during(made, 5);
    assertEquals([text(receiveAll(server).bytes), record.take()], ["queued", ["read 5"]]);
    await made.end();
  });

  it("reads from the beginning what the peer sends, when reading is enabled", async () => {
    const made = await client();
    made.bev.enable(EV_READ);
    made.bev.connect({ port: made.port });
    await during(made, 5);
    const server = made.accept();
    server.send("hi");
    server.shutdown();
    await during(made, 5);
    assertEquals(made.record.take(), ["event CONNECTED", "read 2", "event READING|EOF"]);
    await made.end();
  });

  it("while another one is pending throws EALREADY; afterwards EISCONN", async () => {
    const made = await client();
    const { bev, port } = made;
    bev.connect({ port });
    assertEquals(codeOf(() => bev.connect({ port })), "EALREADY");
    await during(made, 10);
    assertEquals(codeOf(() => bev.connect({ port })), "EISCONN");
    bev.free();
    assertEquals(codeOf(() => bev.connect({ port })), "EV_FREED");
    await made.end();
  });

  it("takes options in a second argument, such as a timeout and a signal", async () => {
    const made = await client();
    const { bev, record } = made;
    const controller = new AbortController();
    bev.connect({ hostname: "10.1.1.1", port: 1 }, {
      hostname: "127.0.0.1",
      port: made.port,
      signal: controller.signal,
    });
    await during(made, 1);
    controller.abort("changed my mind");
    assertEquals(record.lines, []);
    await during(made, 5);
    assertEquals([record.take(), record.errors[0]?.code, record.errors[0]?.cause], [
      ["event ERROR"],
      "ECANCELED",
      "changed my mind",
    ]);
    bev.connect({ hostname: "server" }, { port: 80, timeoutMs: 0.5 });
    await during(made, 5);
    assertEquals([record.take(), record.errors[1]?.code], [["event ERROR"], "ETIMEDOUT"]);
    await made.end();
  });

  it("refuses values that are not addresses, and stays as it was", async () => {
    const made = await client();
    const { bev } = made;
    for (const port of [0, 65_536, -1]) assertThrows(() => bev.connect({ port }), RangeError);
    assertThrows(() => bev.connect({}), TypeError);
    assertThrows(() => bev.connect({ port: 80, family: "IPX" as "IPv4" }), RangeError);
    assertEquals([bev.socket, made.sim.openHandles], [null, 1]);
    await made.end();
  });

  it("can be cancelled by free() at any moment, and no callback runs", async () => {
    for (const afterMs of [0, 0.5, 1, 1.5]) {
      const made = await client();
      made.bev.connect({ hostname: "localhost", port: made.port });
      await during(made, afterMs);
      made.bev.free();
      await during(made, 10);
      assertEquals(made.record.take(), []);
      await made.end();
    }
  });

  it("accepts a socket that is already connecting", async () => {
    const made = await client();
    const socket = made.base.connect({ port: made.port });
    const bev = new SocketBufferEvent(made.base, socket, BEV_OPT_CLOSE_ON_FREE);
    bev.setCallbacks(made.record.callbacks);
    assertStrictEquals(bev.socket, socket);
    bev.write("x");
    await during(made, 10);
    assertEquals(made.record.take(), ["event CONNECTED", "write 0"]);
    made.accept();
    bev.free();
    await made.end();
  });

  it("with deferred callbacks reports CONNECTED before other events of that turn", async () => {
    const made = await client(BEV_OPT_DEFER_CALLBACKS);
    made.bev.enable(EV_READ);
    made.bev.write("x");
    made.bev.connect({ port: made.port });
    await during(made, 10);
    assertEquals(made.record.take(), ["event CONNECTED", "write 0"]);
    await made.end();
  });
});

describe("connect() by name (V12)", () => {
  it("tries all addresses of the name", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "::1", port: 80 });
    const record = new Recorder();
    const bev = new SocketBufferEvent(made.base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.setCallbacks(record.callbacks);
    bev.connect({ hostname: "localhost", port: 80 });
    await during(made, 20);
    assertEquals(record.take(), ["event CONNECTED"]);
    bev.free();
    await listening.close();
    await nothingLeft(made);
  });

  it("with an unknown name reports ERROR with ENOTFOUND, never inside the call", async () => {
    const made = await client();
    made.bev.connect({ hostname: "nowhere.example", port: 80 });
    assertEquals(made.record.lines, []);
    await during(made, 20);
    assertEquals([made.record.take(), made.record.errors[0]?.code], [["event ERROR"], "ENOTFOUND"]);
    await made.end();
  });
});

describe("setSocket() (V13)", () => {
  it("takes a socket or null, as the constructor does", () => {
    const { base } = world();
    const bev = new SocketBufferEvent(base, null);
    for (const [wrong, shown] of [[undefined, "undefined"], [{}, "Object"], [5, "5"]]) {
      const socket = wrong as Socket;
      assertThrows(() => bev.setSocket(socket), TypeError, `not a Socket: received ${shown}`);
      assertThrows(() => new SocketBufferEvent(base, socket), TypeError, `not a Socket: received ${shown}`);
    }
    bev.free();
  });

  it("gives a bufferevent its first socket, and the output is sent", async () => {
    const { sim, base } = world();
    const [socket, peer] = await socketPair(sim);
    const record = new Recorder();
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.setCallbacks(record.callbacks);
    bev.enable(EV_READ);
    bev.write("queued");
    await during({ sim, base }, 5);
    assertEquals([record.take(), bev.socket], [[], null]);
    peer.send("waits");
    await sim.advance(2);
    bev.setSocket(socket);
    assertEquals(record.lines, []);
    await during({ sim, base }, 5);
    assertEquals([record.take(), text(receiveAll(peer).bytes)], [["read 5", "write 0"], "queued"]);
    bev.free();
    peer.close();
    await nothingLeft({ sim, base });
  });

  it("with nothing queued is followed by one write callback", async () => {
    const { sim, base } = world();
    const [socket, peer] = await socketPair(sim);
    const record = new Recorder();
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.setCallbacks(record.callbacks);
    bev.setSocket(socket);
    await during({ sim, base }, 5);
    assertEquals(record.take(), ["write 0"]);
    bev.free();
    peer.close();
    await nothingLeft({ sim, base });
  });

  it("leaves the old socket open and with its bytes; both buffers stay", async () => {
    const made = await rig();
    const { sim, bev, peer, record } = made;
    record.drains = false;
    bev.enable(EV_READ);
    peer.send("first");
    await made.during(5);
    const { socket: old } = bev;
    assert(old !== null);
    const [next, nextPeer] = await socketPair(sim);
    peer.send("unread");
    bev.setSocket(next);
    assertStrictEquals(bev.socket, next);
    nextPeer.send(", second");
    bev.write("to the second");
    assertEquals(await made.during(5), ["write 0", "read 13"]);
    assertEquals([bev.input.toString(), text(receiveAll(nextPeer).bytes)], ["first, second", "to the second"]);
    assertEquals([text(receiveAll(old).bytes), made.peerReceives()], ["unread", ""]);
    assertEquals(old.send("by hand"), 7);
    await made.during(5);
    assertEquals(made.peerReceives(), "by hand");
    old.close();
    nextPeer.close();
    await made.end();
  });

  it("to null takes it away; events and timeouts stop", async () => {
    const made = await rig();
    const { bev, peer } = made;
    const { socket } = bev;
    bev.setTimeouts(10, 10);
    bev.enable(EV_READ);
    bev.setSocket(null);
    peer.send("unread");
    bev.write("kept");
    assertEquals([await made.during(50), bev.socket, bev.output.length], [[], null, 4]);
    bev.setSocket(socket);
    assertEquals(await made.during(5), ["read 6", "write 0"]);
    await made.end();
  });

  it("in the read callback is fine", async () => {
    const made = await rig();
    const { sim, bev, peer, record } = made;
    const [next, nextPeer] = await socketPair(sim);
    const { socket: old } = bev;
    record.on.read = () => {
      if (bev.socket === old) bev.setSocket(next);
    };
    bev.enable(EV_READ);
    peer.send("one");
    nextPeer.send("three");
    assertEquals((await made.during(5)).toSorted(), ["read 3", "read 5", "write 0"]);
    old?.close();
    nextPeer.close();
    await made.end();
  });

  it("after free() or close() throws EV_FREED", async () => {
    const made = await rig();
    const [next, nextPeer] = await socketPair(made.sim);
    const closing = made.bev.close();
    assertEquals(codeOf(() => made.bev.setSocket(next)), "EV_FREED");
    assertEquals(codeOf(() => made.bev.connect({ port: 1 })), "EV_FREED");
    made.peer.close();
    assert(await made.sim.run(closing));
    assertEquals(codeOf(() => made.bev.setSocket(next)), "EV_FREED");
    next.close();
    nextPeer.close();
    await made.end();
  });

  it("with a socket that another base watches throws EV_BUSY if reading is enabled", async () => {
    const made = await rig();
    const { sim, bev } = made;
    const other: EventBase = world({ runtime: sim }).base;
    const [next, nextPeer] = await socketPair(sim);
    const watch = other.event(next, EV_READ, () => {});
    watch.add();
    const { socket: old } = bev;
    bev.setSocket(next);
    assertEquals(codeOf(() => bev.enable(EV_READ)), "EV_BUSY");
    watch.del();
    bev.enable(EV_READ);
    nextPeer.send("x");
    assertEquals((await made.during(5)).includes("read 1"), true);
    old?.close();
    nextPeer.close();
    await made.end();
    assertEquals(coreOf(bev).freed, true);
  });
});

describe("without BEV_OPT_CLOSE_ON_FREE", () => {
  it("free() leaves the socket open, and its owner goes on with it", async () => {
    const { sim, base } = world();
    const [socket, peer] = await socketPair(sim);
    const bev = new SocketBufferEvent(base, socket);
    bev.enable(EV_READ);
    bev.write("dropped");
    bev.free();
    peer.send("hello");
    await during({ sim, base }, 5);
    assertEquals([text(receiveAll(socket).bytes), receiveAll(peer).bytes.length], ["hello", 0]);
    assertEquals(socket.send("by hand"), 7);
    socket.close();
    peer.close();
    await nothingLeft({ sim, base });
  });

  it("close() closes it all the same, while connecting too", async () => {
    const made = world();
    const listening = await made.base.listen({ hostname: "127.0.0.1", port: 0 });
    for (const waitMs of [0, 5]) {
      const bev = new SocketBufferEvent(made.base, null);
      bev.connect({ port: portOf(listening) });
      await during(made, waitMs);
      const closing = bev.close();
      const accepted = listening.accept();
      if (accepted !== EAGAIN) accepted.close();
      assertEquals(await made.sim.run(closing), true);
    }
    await listening.close();
    await nothingLeft(made);
  });
});
