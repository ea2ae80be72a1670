// Events on sockets: level and edge, EV_WRITE, EV_CLOSED, several events on one socket, several bases.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import {
  EAGAIN,
  EV_CLOSED,
  EV_ET,
  EV_PERSIST,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_NONBLOCK,
} from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { portOf, socketPair } from "../socket/pairs.ts";
import { Log, nothingLeft, type World, world } from "./harness.ts";

const ONE = (): Uint8Array => new Uint8Array(1);

async function rig(): Promise<World & { client: Socket; server: Socket; log: Log; end(): Promise<void> }> {
  const made = world();
  const [client, server] = await socketPair(made.sim);
  const end = async (): Promise<void> => {
    client.close();
    server.close();
    assertEquals(made.base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
    await nothingLeft(made);
  };
  return { ...made, client, server, log: new Log(), end };
}

/** Runs the loop for a span, and leaves it. */
async function during({ sim, base }: World, ms: number): Promise<void> {
  base.loopExit(ms);
  await sim.run(base.dispatch());
}

describe("EV_READ", () => {
  it("is level-triggered: active again in the next turn while bytes wait", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    base.watchCheck(log.note("poll"));
    const event = base.event(server, EV_READ | EV_PERSIST, () => {
      log.lines.push("read");
      if (log.lines.filter((line) => line === "read").length === 3) event.del();
      else server.recv(ONE());
    });
    event.add();
    client.send("abc");
    await made.sim.advance(1);
    await made.sim.run(base.dispatch());
    assertEquals(log.take(), ["poll", "read", "poll", "read", "poll", "read"]);
    await made.end();
  });

  it("is reported at once if the bytes were there before add()", async () => {
    const made = await rig();
    made.client.send("x");
    await made.sim.advance(10);
    made.base.event(made.server, EV_READ, made.log.note("read")).add();
    assertEquals([await made.sim.run(made.base.dispatch()), made.log.take()], ["empty", ["read"]]);
    await made.end();
  });

  it("is not reported if another reader has received the bytes", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    base.event(server, EV_READ, () => void server.recv(new Uint8Array(10))).add();
    base.event(server, EV_READ | EV_PERSIST, log.note("second")).add(20);
    client.send("abc");
    await during(made, 10);
    // The same poll has made both active, as in C; nothing is reported after it.
    assertEquals(log.take(), ["second"]);
    await during(made, 5);
    assertEquals(log.take(), []);
    base.free();
    await made.end();
  });

  it("reports an end of file until it is deleted", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    client.shutdown();
    let count = 0;
    const event = base.event(server, EV_READ | EV_PERSIST, () => {
      assertEquals(server.recv(ONE()), 0);
      if (++count === 5) event.del();
    });
    event.add();
    assertEquals([await made.sim.run(base.dispatch()), count], ["empty", 5]);
    assertEquals(log.take(), []);
    await made.end();
  });

  it("reports a failure, and recv() throws it", async () => {
    const made = await rig();
    const { base, client, server } = made;
    const codes: string[] = [];
    base.event(server, EV_READ, () => {
      codes.push((assertThrows(() => server.recv(ONE()), EventError) as EventError).code, server.error?.code ?? "none");
    }).add();
    client.reset();
    await made.sim.run(base.dispatch());
    assertEquals(codes, ["ECONNRESET", "ECONNRESET"]);
    await made.end();
  });
});

describe("EV_WRITE", () => {
  it("is reported at once on a connected socket, and again in each turn", async () => {
    const made = await rig();
    let count = 0;
    const event = made.base.event(made.client, EV_WRITE | EV_PERSIST, () => {
      if (++count === 3) event.del();
    });
    event.add();
    assertEquals([await made.sim.run(made.base.dispatch()), count], ["empty", 3]);
    await made.end();
  });

  it("is not reported while the queue is full, and is when there is space again", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    const chunk = new Uint8Array(65_536);
    while (client.send(chunk) !== EAGAIN);
    await made.sim.advance(50);
    while (client.send(chunk) !== EAGAIN);
    base.event(client, EV_WRITE, log.note("room")).add();
    await during(made, 50);
    assertEquals(log.take(), []);
    const drain = base.event(server, EV_READ | EV_PERSIST, () => void server.recv(chunk));
    drain.add();
    await during(made, 50);
    assertEquals(log.take(), ["room"]);
    assert(client.send(chunk) > 0);
    base.free();
    await made.end();
  });

  it("is reported when a connection is there, and when it has failed", async () => {
    const { sim, base } = world();
    const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
    const good = base.connect({ hostname: "127.0.0.1", port: portOf(listening) });
    const bad = base.connect({ hostname: "127.0.0.1", port: 9 });
    const told: string[] = [];
    base.event(good, EV_WRITE, () => told.push(`good ${good.connected} ${good.error}`)).add();
    base.event(bad, EV_WRITE, (_, what) => told.push(`bad ${bad.connected} ${bad.error?.code} ${what}`)).add();
    await sim.run(base.dispatch());
    assertEquals(told, ["good true null", `bad false ECONNREFUSED ${EV_WRITE}`]);
    good.close();
    bad.close();
    await listening.close();
    await nothingLeft({ sim, base });
  });
});

describe("a listening socket", () => {
  it("is readable while connections wait, even after a callback throws", async () => {
    const { sim, base } = world();
    const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
    const clients = Array.from({ length: 3 }, () => base.connect({ port: portOf(listening) }));
    const accepted: Socket[] = [];
    const event = base.event(listening, EV_READ | EV_PERSIST, () => {
      const socket = listening.accept();
      assert(socket !== EAGAIN);
      accepted.push(socket);
      if (accepted.length === 3) event.del();
    });
    event.add();
    await sim.run(base.dispatch());
    assertEquals([accepted.length, listening.accept()], [3, EAGAIN]);
    for (const socket of [...clients, ...accepted]) socket.close();
    await listening.close();
    await nothingLeft({ sim, base });
  });
});

describe("EV_ET", () => {
  it("is reported once for an arrival, whatever is left of it", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    const event = base.event(server, EV_READ | EV_ET | EV_PERSIST, () => {
      log.lines.push("edge");
      server.recv(ONE());
    });
    event.add();
    client.send("abc");
    await during(made, 10);
    assertEquals(log.take(), ["edge"]);
    client.send("d");
    await during(made, 10);
    assertEquals(log.take(), ["edge"]);
    client.shutdown();
    await during(made, 10);
    assertEquals(log.take(), ["edge"]);
    await during(made, 10);
    assertEquals(log.take(), []);
    event.free();
    await made.end();
  });

  it("has an edge at add() only if the condition holds", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    const event = base.event(server, EV_READ | EV_ET | EV_PERSIST, log.note("edge"));
    event.add();
    await during(made, 10);
    assertEquals(log.take(), []);
    event.del();
    client.send("abc");
    await made.sim.advance(5);
    event.add();
    await during(made, 10);
    assertEquals(log.take(), ["edge"]);
    event.add();
    await during(made, 10);
    assertEquals(log.take(), ["edge"], "another add() checks again, as epoll does");
    event.free();
    await made.end();
  });

  it("reports nothing if the bytes were taken meanwhile", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    const event = base.event(server, EV_READ | EV_ET | EV_PERSIST, log.note("edge"));
    event.add();
    client.send("abc");
    await made.sim.advance(5);
    server.recv(new Uint8Array(10));
    await during(made, 10);
    assertEquals(log.take(), []);
    event.free();
    await made.end();
  });

  it("for reading and writing reports each edge separately", async () => {
    const made = await rig();
    const { base, client, server } = made;
    const seen: number[] = [];
    const event = base.event(server, EV_READ | EV_WRITE | EV_ET | EV_PERSIST, (_, what) => seen.push(what));
    event.add();
    await during(made, 5);
    client.send("x");
    await during(made, 5);
    client.send("y");
    await during(made, 5);
    assertEquals(seen, [EV_WRITE, EV_READ, EV_READ]);
    event.free();
    await made.end();
  });

  it("of EV_WRITE is reported once when there is space again", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    const chunk = new Uint8Array(65_536);
    const event = base.event(client, EV_WRITE | EV_ET | EV_PERSIST, log.note("edge"));
    event.add();
    await during(made, 5);
    assertEquals(log.take(), ["edge"]);
    while (client.send(chunk) !== EAGAIN);
    await made.sim.advance(50);
    while (client.send(chunk) !== EAGAIN);
    await during(made, 10);
    assertEquals(log.take(), []);
    while (server.recv(chunk) > 0);
    await during(made, 10);
    assert(log.take().length >= 1);
    await during(made, 10);
    event.free();
    client.reset();
    await made.end();
  });
});

describe("EV_CLOSED", () => {
  it("is reported when the peer finishes, without reading the bytes before the end", async () => {
    const made = await rig();
    const { base, client, server } = made;
    const seen: number[] = [];
    base.event(server, EV_CLOSED, (_, what) => seen.push(what)).add();
    client.send("unread");
    await during(made, 10);
    assertEquals(seen, []);
    client.shutdown();
    await during(made, 10);
    assertEquals(seen, [EV_CLOSED]);
    assertEquals(server.recv(new Uint8Array(10)), 6);
    await made.end();
  });

  it("is reported when the connection fails, together with EV_READ", async () => {
    const made = await rig();
    const seen: number[] = [];
    made.base.event(made.server, EV_READ | EV_CLOSED, (_, what) => seen.push(what)).add();
    made.client.reset();
    await made.sim.run(made.base.dispatch());
    assertEquals(seen, [EV_READ | EV_CLOSED]);
    await made.end();
  });

  it("is not reported for bytes, and only once if edge-triggered", async () => {
    const made = await rig();
    const event = made.base.event(made.server, EV_CLOSED | EV_ET | EV_PERSIST, made.log.note("closed"));
    event.add();
    made.client.send("x");
    made.client.shutdown();
    await during(made, 20);
    assertEquals(made.log.take(), ["closed"]);
    event.free();
    await made.end();
  });
});

describe("several events on one socket", () => {
  it("each gets what it asked for, in the order in which they were added", async () => {
    const made = await rig();
    const { base, client, server } = made;
    const seen: string[] = [];
    const make = (name: string, what: number): void =>
      base.event(server, what, (_, why) => seen.push(`${name} ${why}`)).add();
    make("closed", EV_CLOSED);
    make("read", EV_READ);
    make("both", EV_READ | EV_WRITE);
    make("write", EV_WRITE);
    await made.sim.run(base.loop(EVLOOP_NONBLOCK));
    assertEquals(seen.splice(0), [`both ${EV_WRITE}`, `write ${EV_WRITE}`]);
    client.send("x");
    await during(made, 5);
    assertEquals(seen.splice(0), [`read ${EV_READ}`]);
    client.shutdown();
    await made.sim.run(base.dispatch());
    assertEquals(seen.splice(0), [`closed ${EV_CLOSED}`]);
    await made.end();
  });

  it("may delete each other after the same poll has made them active", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    const second = base.event(server, EV_READ, log.note("second"));
    base.event(server, EV_READ, () => second.del()).add();
    second.add();
    client.send("x");
    await made.sim.run(base.dispatch());
    assertEquals(log.take(), []);
    await made.end();
  });
});

describe("closing a socket", () => {
  it("removes its events: the loop goes on without them, from outside too", async () => {
    const made = await rig();
    const { base, server, log } = made;
    const event = base.event(server, EV_READ | EV_PERSIST, log.note("read"));
    event.add(1000);
    const done = base.dispatch();
    await made.sim.advance(5);
    server.close();
    const begin = made.sim.now();
    assertEquals([await made.sim.run(done), made.sim.now()], ["empty", begin]);
    assertEquals([event.pending(EV_READ | EV_TIMEOUT), log.take()], [0, []]);
    await made.end();
  });

  it("in a callback removes active events, including the current one", async () => {
    const made = await rig();
    const { base, client, server, log } = made;
    base.event(server, EV_READ | EV_PERSIST, () => {
      log.lines.push("first");
      server.close();
    }).add();
    base.event(server, EV_READ | EV_PERSIST, log.note("second")).add();
    client.send("x");
    assertEquals([await made.sim.run(base.dispatch()), log.take()], ["empty", ["first"]]);
    await made.end();
  });

  it("makes adding an event to it throw EBADF", async () => {
    const made = await rig();
    const { base, server } = made;
    const event = base.event(server, EV_READ, () => {});
    server.close();
    assertEquals((assertThrows(() => event.add(5), EventError) as EventError).code, "EBADF");
    assertEquals(event.pending(EV_READ | EV_TIMEOUT), 0);
    await made.end();
  });
});

describe("two bases", () => {
  it("on one simulator each run their own events", async () => {
    const { sim, base } = world();
    const other = new EventBase({ runtime: sim.host("other") });
    const [client, server] = await socketPair(sim, sim, sim.host("other"));
    const seen: string[] = [];
    const ping = base.event(client, EV_READ | EV_PERSIST, () => {
      client.recv(ONE());
      seen.push(`pong at ${sim.now()}`);
      if (seen.length < 6) client.send("x");
      else {
        ping.del();
        pong.del();
      }
    });
    const pong = other.event(server, EV_READ | EV_PERSIST, () => {
      server.recv(ONE());
      seen.push(`ping at ${sim.now()}`);
      server.send("y");
    });
    ping.add();
    pong.add();
    const begin = sim.now();
    client.send("x");
    assertEquals(await sim.run(Promise.all([base.dispatch(), other.dispatch()])), ["empty", "empty"]);
    const expected = [1, 2, 3, 4, 5, 6].map((ms, i) => `${i % 2 === 0 ? "ping" : "pong"} at ${begin + ms}`);
    assertEquals(seen, expected);
    client.close();
    server.close();
    await nothingLeft({ sim, base }, sim.host("other"));
  });

  it("can't watch one socket at once: EV_BUSY, and later they can", async () => {
    const made = await rig();
    const { sim, base, client, server, log } = made;
    const other = new EventBase({ runtime: sim });
    const mine = base.event(server, EV_READ, log.note("mine"));
    const theirs = other.event(server, EV_READ, log.note("theirs"));
    mine.add();
    assertEquals((assertThrows(() => theirs.add(5), EventError) as EventError).code, "EV_BUSY");
    assertEquals(theirs.pending(EV_READ | EV_TIMEOUT), 0);
    client.send("x");
    await sim.advance(5);
    mine.del();
    theirs.add();
    assertEquals(await sim.run(Promise.all([base.dispatch(), other.dispatch()])), ["empty", "empty"]);
    assertEquals(log.take(), ["theirs"]);
    await made.end();
  });
});
