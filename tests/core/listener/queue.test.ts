// The queue of connections that the runtime has accepted and no callback has taken: which of them
// wait, and which are closed.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import type { EventError } from "../../../core/errors.ts";
import { EAGAIN, EV_PERSIST, EV_READ, LEV_OPT_CLOSE_ON_FREE, LEV_OPT_DISABLED } from "../../../core/flags.ts";
import { ConnListener } from "../../../core/api/listener.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { select } from "../../../core/api/select.ts";
import type { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import { BurstHost, nothingLeft, type World, world } from "../loop/harness.ts";
import { isOver, portOf } from "../socket/pairs.ts";

const LOCAL = { hostname: "127.0.0.1", port: 0 };

/** A base on a runtime that accepts every connection, as Node and Bun do, or that can pause. */
function greedy(options: { priorities?: number } = {}): World & { host: BurstHost } {
  const made = world();
  const host = new BurstHost(made.sim);
  return { sim: made.sim, host, base: new EventBase({ runtime: host, ...options }) };
}

/** Connects a number of clients at once. */
function burst({ sim }: World, listening: { readonly address: unknown }, count: number): Socket[] {
  return Array.from({ length: count }, () => Socket.connect(sim, { port: portOf(listening) }));
}

async function during({ sim, base }: World, ms: number): Promise<void> {
  base.loopExit(ms);
  await sim.run(base.dispatch());
}

function closeAll(...sockets: (Socket | undefined)[]): void {
  for (const socket of sockets) socket?.close();
}

describe("a listener that takes connections, on a runtime that cannot pause", () => {
  it("loses none of 400 that arrive in one poll, with one priority or two", async () => {
    for (const priorities of [1, 2]) {
      const made = greedy({ priorities });
      const taken: Socket[] = [];
      const flags = LEV_OPT_CLOSE_ON_FREE;
      const listener = await ConnListener.bind(made.base, (_, socket) => taken.push(socket), flags, 16, LOCAL);
      const clients = burst(made, listener, 400);
      await during(made, 50);
      assertEquals([taken.length, clients.filter(isOver).length], [400, 0], `${priorities} priorities`);
      assertEquals(listener.socket.rejected, 0);
      closeAll(...taken, ...clients);
      listener.free();
      await nothingLeft(made);
    }
  });

  it("loses none that arrive while no dispatch() runs", async () => {
    const made = greedy();
    const taken: Socket[] = [];
    const flags = LEV_OPT_CLOSE_ON_FREE;
    const listener = await ConnListener.bind(made.base, (_, socket) => taken.push(socket), flags, 16, LOCAL);
    const clients = burst(made, listener, 400);
    await made.sim.advance(50);
    await during(made, 1);
    assertEquals(taken.length, 400);
    closeAll(...taken, ...clients);
    listener.free();
    await nothingLeft(made);
  });

  it("loses none with select(), with an event, or with a program that only accepts now and then", async () => {
    const ways: [string, (made: World, listening: ListeningSocket, take: () => void) => Promise<void>][] = [
      ["select()", async ({ sim }, listening, take) => {
        for (let i = 0; i < 3; i++) {
          await sim.run(select({ read: [listening] }, 20));
          take();
        }
      }],
      ["accept() now and then", async ({ sim }, _listening, take) => {
        for (let i = 0; i < 3; i++) {
          take();
          await sim.advance(5_000);
        }
        take();
      }],
      ["an event", async (made, listening, take) => {
        const event = made.base.event(listening, EV_READ, () => {
          take();
          event.add();
        });
        event.add();
        await during(made, 50);
        event.free();
      }],
      ["a persistent event", async (made, listening, take) => {
        const event = made.base.event(listening, EV_READ | EV_PERSIST, take);
        event.add();
        await during(made, 50);
        event.free();
      }],
    ];
    for (const [way, use] of ways) {
      const made = greedy();
      const listening = await made.base.listen({ ...LOCAL, backlog: 16 });
      const taken: Socket[] = [];
      const clients = burst(made, listening, 400);
      assertEquals(listening.accept(), EAGAIN);
      await use(made, listening, () => {
        for (let socket = listening.accept(); socket !== EAGAIN; socket = listening.accept()) taken.push(socket);
      });
      assertEquals([taken.length, clients.filter(isOver).length, listening.rejected], [400, 0, 0], way);
      closeAll(...taken, ...clients);
      await listening.close();
      await nothingLeft(made);
    }
  });
});

describe("a disabled listener", () => {
  it("leaves connections to the system if the runtime can, without a handle for each", async () => {
    const made = world();
    const server = made.sim.host("server");
    const base = new EventBase({ runtime: server });
    const taken: Socket[] = [];
    const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED;
    const listener = await ConnListener.bind(base, (_, socket) => taken.push(socket), flags, 16, {
      ...LOCAL,
      hostname: "0.0.0.0",
    });
    const to = { hostname: server.addresses[0] as string, port: portOf(listener) };
    const clients = Array.from({ length: 10 }, () => Socket.connect(made.sim, to));
    await made.sim.advance(50);
    assertEquals([server.openHandles, clients.filter((client) => client.connected).length], [1, 10]);
    listener.enable();
    await during({ sim: made.sim, base }, 10);
    assertEquals([taken.length, server.openHandles], [10, 11]);
    listener.disable();
    const late = Socket.connect(made.sim, to);
    await made.sim.advance(50);
    assertEquals([late.connected, server.openHandles], [true, 11]);
    closeAll(...taken, ...clients, late);
    listener.free();
    await nothingLeft(made, server);
  });

  it("elsewhere holds as many as the backlog, closes and counts the others, and reports once an episode", async () => {
    const made = greedy();
    const taken: Socket[] = [];
    const told: string[] = [];
    const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED;
    const listener = await ConnListener.bind(made.base, (_, socket) => taken.push(socket), flags, 4, LOCAL);
    listener.setErrorCallback((_, error) => told.push(error.code));
    for (let episode = 1; episode <= 2; episode++) {
      listener.disable();
      const clients: Socket[] = [];
      for (let i = 0; i < 10; i++) {
        clients.push(...burst(made, listener, 1));
        await during(made, 5);
      }
      assertEquals(clients.map(isOver), Array.from({ length: 10 }, (_, i) => i >= 4), "the last ones");
      assertEquals([told.length, listener.socket.rejected, taken.length], [episode, 6 * episode, 0]);
      // Closed connections keep no handle. There are the listener, four connections, and the ends
      // of ten clients.
      assertEquals(made.sim.openHandles, 1 + 4 + 10);
      listener.enable();
      await during(made, 5);
      assertEquals(taken.length, 4);
      closeAll(...taken.splice(0), ...clients);
      await made.sim.advance(10);
    }
    assertEquals(told, ["EV_BACKLOG_FULL", "EV_BACKLOG_FULL"]);
    listener.free();
    await nothingLeft(made);
  });

  it("keeps connections that arrived before it was disabled, even beyond the backlog", async () => {
    const made = greedy();
    const taken: Socket[] = [];
    const listener = await ConnListener.bind(
      made.base,
      (listener, socket) => {
        if (taken.push(socket) === 1) listener.disable();
      },
      LEV_OPT_CLOSE_ON_FREE,
      4,
      LOCAL,
    );
    const clients = burst(made, listener, 20);
    await made.sim.advance(10);
    await during(made, 5);
    assertEquals([taken.length, listener.socket.rejected], [1, 0]);
    listener.enable();
    await during(made, 5);
    assertEquals([taken.length, clients.filter(isOver).length], [20, 0]);
    closeAll(...taken, ...clients);
    listener.free();
    await nothingLeft(made);
  });

  it("reports nothing after it or its base was freed", async () => {
    for (const what of ["listener", "base"]) {
      const made = greedy();
      const told: EventError[] = [];
      const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED;
      const listener = await ConnListener.bind(made.base, () => {}, flags, 1, LOCAL);
      listener.setErrorCallback((_, error) => told.push(error));
      const clients = burst(made, listener, 3);
      if (what === "base") made.base.free();
      await made.sim.advance(10);
      assertEquals(listener.socket.rejected, 2);
      listener.free();
      if (what === "listener") await during(made, 5);
      assertEquals(told, []);
      closeAll(...clients);
      await nothingLeft(made);
    }
  });

  it("does not affect another listener on the same socket", async () => {
    for (const made of [world(), greedy()]) {
      const listening = await made.base.listen({ ...LOCAL, backlog: 2 });
      const taken: Socket[] = [];
      const one = new ConnListener(made.base, (_, socket) => taken.push(socket), 0, 0, listening);
      const other = new ConnListener(made.base, () => {}, 0, 0, listening);
      other.disable();
      const clients = burst(made, listening, 10);
      await during(made, 20);
      assertEquals(taken.length, 10);
      closeAll(...taken, ...clients);
      one.free();
      other.free();
      await listening.close();
      await nothingLeft(made);
    }
  });
});

describe("connections that wait", () => {
  it("hold none of their bytes in memory, however many there are, and deliver them when they are taken", async () => {
    const made = greedy();
    const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED;
    const taken: Socket[] = [];
    const listener = await ConnListener.bind(made.base, (_, socket) => taken.push(socket), flags, 50, LOCAL);
    const clients = burst(made, listener, 50);
    await made.sim.advance(10);
    let sent = 0;
    for (let round = 0; round < 20; round++) {
      for (const client of clients) sent += Math.max(client.send(new Uint8Array(20_000)), 0);
      await made.sim.advance(5);
    }
    // Window and send buffer of the network, and the send queue of the socket itself.
    assert(sent <= 50 * 3 * 65_536, `${sent} bytes were taken`);
    assert(sent >= 50 * 65_536, `${sent} bytes were taken`);
    listener.enable();
    await during(made, 5);
    let received = 0;
    const into = new Uint8Array(65_536);
    for (let round = 0; round < 50; round++) {
      for (const socket of taken) for (let n; (n = socket.recv(into)) > 0;) received += n;
      await made.sim.advance(5);
    }
    assertEquals(received, sent);
    closeAll(...taken, ...clients);
    listener.free();
    await nothingLeft(made);
  });

  it("are closed with the listening socket, and so are those that arrive in the same moment", async () => {
    for (const made of [world(), greedy()]) {
      const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED;
      const listener = await ConnListener.bind(made.base, () => {}, flags, 8, LOCAL);
      const clients = burst(made, listener, 5);
      await made.sim.advance(10);
      clients.push(...burst(made, listener, 5));
      await made.sim.advance(1);
      await listener.close();
      await made.sim.advance(10);
      for (const client of clients) assert(client.error !== null || isOver(client));
      closeAll(...clients);
      await nothingLeft(made);
    }
  });
});
