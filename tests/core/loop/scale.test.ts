// Very many timers and connections: all are served, none is lost, and one event takes the loop no more work than it does
// with few. Nothing here looks at a clock.

import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals, assertLess } from "@std/assert";
import {
  EAGAIN,
  EV_PERSIST,
  EV_READ,
  EV_TIMEOUT,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_NONBLOCK,
} from "../../../core/flags.ts";
import type { EventHandle } from "../../../core/api/event_handle.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import { portOf } from "../socket/pairs.ts";
import { nothingLeft, type World, world } from "./harness.ts";

const TIMERS = 1_000_000;
const CONNECTIONS = 100_000;
const BACKLOG = 4096;
/** One host has ports for this number of connections to one address. */
const PORTS = 16_000;
const MIB = 1 << 20;

/** The memory of the process in RAM. */
function residentMiB(): number {
  return process.memoryUsage.rss() / MIB;
}

/** From 1 to 999 ms in no order, many the same. */
function delay(i: number): number {
  return 1 + i * 7919 % 999;
}

describe(`${TIMERS.toLocaleString("en")} pending timers`, () => {
  it("fire in the order of their deadlines, each once, or not at all when they were deleted", async () => {
    const { sim, base } = world();
    const before = residentMiB();
    const events: EventHandle[] = [];
    let fired = 0;
    let last = -1;
    const callback = (_: unknown, what: number): void => {
      assertEquals(what, EV_TIMEOUT);
      const now = base.now();
      assert(now >= last);
      last = now;
      fired++;
    };
    for (let i = 0; i < TIMERS; i++) {
      const event = base.timer(callback);
      event.add(delay(i));
      events.push(event);
    }
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), TIMERS);
    assertEquals(sim.pending, 0, "nothing is scheduled with the host before the loop runs");
    const held = residentMiB() - before;
    assertLess(held, 768, `they take ${held.toFixed()} MiB`);

    // Half are restarted, as by traffic; a quarter are deleted.
    for (let i = 0; i < TIMERS; i += 2) (events[i] as EventHandle).add(1000 + delay(i));
    for (let i = 1; i < TIMERS; i += 4) (events[i] as EventHandle).del();
    assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), TIMERS * 3 / 4);

    const running = base.dispatch();
    await sim.advance(999.5);
    assertEquals(sim.pending, 1, "one timer of the host's serves all");
    assertEquals(fired, TIMERS / 4);
    assertEquals(await sim.run(running), "empty");
    assertEquals(fired, TIMERS * 3 / 4);
    await nothingLeft({ sim, base });
  });

  it("let a new timer that is due sooner fire alone", async () => {
    const { sim, base } = world();
    let late = 0;
    const idle = (): void => void late++;
    for (let i = 0; i < TIMERS; i++) base.timer(idle).add(60_000 + i % 1000);
    const turns = await turnsOf({ sim, base }, 100, () => {
      const soon = base.timer(() => base.loopBreak());
      soon.add(1);
    });
    assertEquals(late, 0);
    assertEquals(turns, await turnsOf(world(), 100, (few) => few.base.timer(() => few.base.loopBreak()).add(1)));
    base.free();
  });
});

/** The number of turns for an action and a dispatch, repeated a number of times. */
async function turnsOf(where: World, times: number, begin: (where: World) => void): Promise<number> {
  const { sim, base } = where;
  const { turns } = base.stats();
  for (let i = 0; i < times; i++) {
    begin(where);
    assertEquals(await sim.run(base.dispatch()), "break");
  }
  return base.stats().turns - turns;
}

describe(`${CONNECTIONS.toLocaleString("en")} idle connections`, () => {
  it("take little memory, and no time of the loop while others are served", async () => {
    const many = await connections(CONNECTIONS);
    const perConnection = many.heldMiB * 1024 / CONNECTIONS;
    assertLess(perConnection, 16, `one takes ${perConnection.toFixed(1)} KiB, both ends together`);
    const few = await connections(10);
    // The same work of the loop and of the network for a message, whatever the number of connections.
    assertEquals(await many.exchange(200), await few.exchange(200));
    await many.tenth();
  });
});

interface Crowd {
  heldMiB: number;
  /** Messages on some of the connections, one after the other. @returns The turns and the callbacks of the loop */
  exchange(messages: number): Promise<{ turns: number; callbacks: number }>;
  /** A message on every tenth connection, all at once. */
  tenth(): Promise<void>;
}

/** Makes connections to one base, each with a persistent read event. */
async function connections(count: number): Promise<Crowd> {
  const { sim, base } = world({}, { maxSteps: 10_000_000 });
  const before = residentMiB();
  const listening = await ListeningSocket.listen(sim, { hostname: "127.0.0.1", port: 0, backlog: BACKLOG });
  const clients: Socket[] = [];
  const servers: Socket[] = [];
  let received = 0;
  const into = new Uint8Array(64);
  const read = (socket: unknown): void => {
    received += (socket as Socket).recv(into);
  };
  const port = portOf(listening);
  for (let i = 0; i < count; i++) {
    const host = i < PORTS ? sim : sim.host(`client-${Math.floor(i / PORTS)}`);
    clients.push(Socket.connect(host, { hostname: "127.0.0.1", port }));
    if (clients.length % BACKLOG !== 0 && clients.length < count) continue;
    await sim.advance(10);
    for (let socket = listening.accept(); socket !== EAGAIN; socket = listening.accept()) {
      servers.push(socket);
      base.event(socket, EV_READ | EV_PERSIST, read).add();
    }
  }
  assertEquals(servers.length, count);
  await sim.run(base.loop(EVLOOP_NONBLOCK));
  const heldMiB = residentMiB() - before;
  const byte = new Uint8Array(1);
  const receive = async (messages: number): Promise<void> => {
    const expected = received + messages;
    const running = base.dispatch();
    while (received < expected) await sim.advance(1);
    base.loopBreak();
    assertEquals([await sim.run(running), received], ["break", expected]);
  };
  return {
    heldMiB,
    async exchange(messages) {
      const { turns, callbacks } = base.stats();
      for (let i = 0; i < messages; i++) {
        assertEquals((clients[i * 7919 % count] as Socket).send(byte), 1);
        await receive(1);
      }
      const now = base.stats();
      return { turns: now.turns - turns, callbacks: now.callbacks - callbacks };
    },
    async tenth() {
      const some = clients.filter((_, i) => i % 10 === 0);
      for (const client of some) client.send(byte);
      await receive(some.length);
    },
  };
}
