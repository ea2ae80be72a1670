// Poller: level and edge, data, limits and several waiters, without a loop.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EAGAIN, ENOTCONN, EV_CLOSED, EV_ET, EV_PERSIST, EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { Poller, type PollEvent } from "../../../core/api/poller.ts";
import type { Pollable } from "../../../core/api/pollable.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { drain, fill, received, Stage, Watched } from "./stage.ts";

/** The events, as `data:flags`. */
function told(events: PollEvent<string>[] | undefined): string[] {
  return (events ?? []).map(({ data, what }) => {
    const names = [what & EV_READ && "read", what & EV_WRITE && "write", what & EV_CLOSED && "closed"];
    return `${data}:${names.filter(Boolean).join("+")}`;
  });
}

/** A pair whose accepted end is polled. */
async function polled(what: number): Promise<{
  stage: Stage;
  poller: Poller<string>;
  client: Socket;
  server: Socket;
  /** The result of a wait of 0 ms, after a time in milliseconds. */
  after(ms: number): Promise<string[]>;
}> {
  const stage = new Stage();
  const [client, server] = await stage.pair();
  const poller = new Poller<string>(stage.base);
  poller.add(server, what, "s");
  const after = async (ms: number): Promise<string[]> => {
    await stage.sim.advance(ms);
    return told(await stage.sim.run(poller.wait(0)));
  };
  return { stage, poller, client, server, after };
}

describe("Poller.wait()", () => {
  it("with a timeout of 0 only checks, with a number waits that long, without one waits for ever", async () => {
    const { stage, poller, client, server } = await polled(EV_READ);
    const { sim } = stage;
    const began = sim.now();
    assertEquals(await sim.run(poller.wait(0)), []);
    assertEquals(sim.now(), began);
    assertEquals(await sim.run(poller.wait(250)), []);
    assertEquals(sim.now() - began, 250);
    const wait = new Watched(poller.wait());
    await sim.advance(1e9);
    assertEquals([wait.state, sim.pending], ["pending", 0]);
    client.send("x");
    await sim.advance(1);
    assertEquals(told(wait.value), ["s:read"]);
    await stage.end(client, server);
  });

  it("gives the socket, the flags that hold, and the data", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    const data = { any: "thing" };
    const poller = new Poller(stage.base);
    poller.add(server, EV_READ | EV_CLOSED, data);
    client.send("x");
    await stage.sim.advance(1);
    const [event, ...others] = await stage.sim.run(poller.wait());
    assert(event?.source === server && event.data === data);
    assertEquals([event.what, others.length], [EV_READ, 0]);
    client.shutdown();
    await stage.sim.advance(1);
    assertEquals((await stage.sim.run(poller.wait()))[0]?.what, EV_READ | EV_CLOSED);
    await stage.end(client, server);
  });

  it("reports a socket that was ready before it was added", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    client.send("x");
    await stage.sim.advance(1);
    for (const what of [EV_READ, EV_READ | EV_ET]) {
      const poller = new Poller<string>(stage.base);
      poller.add(server, what, "s");
      assertEquals(told(await stage.sim.run(poller.wait())), ["s:read"]);
      poller.close();
    }
    await stage.end(client, server);
  });

  it("gives at most maxEvents, and the others first in the next wait: none starves", async () => {
    const stage = new Stage();
    const pairs = [];
    const poller = new Poller<string>(stage.base);
    for (const name of ["a", "b", "c", "d", "e"]) {
      const pair = await stage.pair();
      poller.add(pair[1], EV_READ, name);
      pair[0].send("x");
      pairs.push(pair);
    }
    await stage.sim.advance(1);
    // Nobody reads, so all of them stay ready.
    const names: string[] = [];
    for (let i = 0; i < 5; i++) {
      const events = await stage.sim.run(poller.wait(undefined, 2));
      assertEquals(events.length, 2);
      names.push(...events.map(({ data }) => data));
    }
    assertEquals(names.sort().join(""), "aabbccddee");
    await stage.end(...pairs.flat());
  });

  it("keeps edges beyond maxEvents for the next wait", async () => {
    const stage = new Stage();
    const [a, A] = await stage.pair();
    const [b, B] = await stage.pair();
    const poller = new Poller<string>(stage.base);
    poller.add(A, EV_READ | EV_ET, "a");
    poller.add(B, EV_READ | EV_ET, "b");
    a.send("x");
    b.send("x");
    await stage.sim.advance(1);
    const events = [
      ...await stage.sim.run(poller.wait(0, 1)),
      ...await stage.sim.run(poller.wait(0, 1)),
      ...await stage.sim.run(poller.wait(0, 1)),
    ];
    assertEquals(told(events), ["a:read", "b:read"]);
    await stage.end(a, A, b, B);
  });

  it("serves several waiters in order, and gives each event to one", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const [a, A] = await stage.pair();
    const [b, B] = await stage.pair();
    for (const what of [EV_READ, EV_READ | EV_ET]) {
      const poller = new Poller<string>(stage.base);
      poller.add(A, what, "a");
      poller.add(B, what, "b");
      const consumed = (wait: Promise<PollEvent<string>[]>): Promise<string[]> =>
        wait.then((events) => {
          events.forEach(({ source }) => received(source as Socket));
          return told(events);
        });
      const waits = [1, 2, 3].map((max) => new Watched(consumed(poller.wait(undefined, max))));
      a.send("x");
      b.send("x");
      await sim.advance(1);
      assertEquals(waits.map(({ value }) => value), [["a:read"], ["b:read"], undefined]);
      a.send("x");
      await sim.advance(1);
      assertEquals(waits[2]?.value, ["a:read"]);
      poller.close();
    }
    await stage.end(a, A, b, B);
  });

  it("gives a level that one waiter has left to the next waiter", async () => {
    const { stage, poller, client, server } = await polled(EV_READ);
    const waits = [new Watched(poller.wait()), new Watched(poller.wait())];
    client.send("x");
    await stage.sim.advance(1);
    assertEquals(waits.map(({ value }) => told(value)), [["s:read"], ["s:read"]]);
    await stage.end(client, server);
  });

  it("serves the longest waiter before one whose timeout has passed", async () => {
    const { stage, poller, client, server } = await polled(EV_READ | EV_ET);
    const waits = [new Watched(poller.wait()), new Watched(poller.wait(1))];
    client.send("x");
    await stage.sim.advance(1);
    assertEquals(waits.map(({ value }) => told(value)), [["s:read"], []]);
    await stage.end(client, server);
  });

  it("does not starve the runtime in a loop of waits", async () => {
    const { stage, poller, client, server } = await polled(EV_WRITE);
    let rounds = 0;
    client.send("x");
    const circle = async (): Promise<void> => {
      // Always ready for writing.
      while (server.recv(new Uint8Array(1)) === EAGAIN) {
        assertEquals(told(await poller.wait()), ["s:write"]);
        rounds++;
      }
    };
    await stage.sim.run(circle());
    assert(rounds > 0);
    await stage.end(client, server);
  });

  it("ends with the reason of a signal that is aborted, and leaves the event to the others", async () => {
    const { stage, poller, client, server } = await polled(EV_READ | EV_ET);
    const reason = new Error("enough");
    assertEquals(await assertRejects(() => poller.wait(0, 1, { signal: AbortSignal.abort(reason) })), reason);
    const controller = new AbortController();
    const cut = new Watched(poller.wait(1000, 1, { signal: controller.signal }));
    const other = new Watched(poller.wait());
    client.send("x");
    controller.abort(reason);
    await stage.sim.advance(1);
    assertEquals([cut.state, cut.reason], ["rejected", reason]);
    assertEquals(told(other.value), ["s:read"]);
    await stage.end(client, server);
  });

  it("refuses wrong timeouts and limits", async () => {
    const { stage, poller, client, server } = await polled(EV_READ);
    for (const ms of [-1, NaN, Infinity]) await assertRejects(() => poller.wait(ms), RangeError);
    await assertRejects(() => poller.wait(null as unknown as number), TypeError);
    for (const max of [0, -1, NaN, 1.5]) await assertRejects(() => poller.wait(0, max), RangeError);
    await assertRejects(() => poller.wait(0, 1, { signal: 1 as unknown as AbortSignal }), TypeError, "received 1");
    await stage.end(client, server);
  });
});

describe("a level-triggered interest", () => {
  it("is reported at each wait while it holds", async () => {
    const { stage, client, server, after } = await polled(EV_READ);
    assertEquals(await after(0), []);
    client.send("abc");
    assertEquals(await after(1), ["s:read"]);
    assertEquals(await after(0), ["s:read"]);
    received(server, 1);
    assertEquals(await after(0), ["s:read"]);
    received(server);
    assertEquals(await after(0), []);
    await stage.end(client, server);
  });

  it("in writing is reported while there is space", async () => {
    const { stage, client, server, after } = await polled(EV_WRITE);
    assertEquals(await after(0), ["s:write"]);
    while (fill(server) > 0) await stage.sim.advance(5);
    assertEquals(await after(0), []);
    for (let ms = 0; drain(client) > 0 || ms < 5; ms++) await stage.sim.advance(1);
    assertEquals(await after(0), ["s:write"]);
    await stage.end(client, server);
  });
});

describe("an edge-triggered interest", () => {
  it("is reported once, and again when bytes arrive", async () => {
    const { stage, client, server, after } = await polled(EV_READ | EV_ET);
    assertEquals(await after(0), []);
    client.send("abc");
    assertEquals(await after(1), ["s:read"]);
    assertEquals(await after(0), []);
    received(server, 1);
    // A program that does not read until EAGAIN waits for ever, as the documentation warns.
    assertEquals(await after(10), []);
    client.send("d");
    assertEquals(await after(1), ["s:read"]);
    assertEquals(received(server), "bcd");
    assertEquals(await after(10), []);
    await stage.end(client, server);
  });

  it("reports the peer's end", async () => {
    const { stage, client, server, after } = await polled(EV_READ | EV_ET);
    client.send("abc");
    assertEquals(await after(1), ["s:read"]);
    client.close();
    assertEquals(await after(1), ["s:read"]);
    assertEquals(await after(10), []);
    await stage.end(server);
  });

  it("does not report a condition that has ended before the wait", async () => {
    const { stage, client, server, after } = await polled(EV_READ | EV_ET);
    client.send("abc");
    await stage.sim.advance(1);
    received(server);
    assertEquals(await after(0), []);
    await stage.end(client, server);
  });

  it("in writing is reported at once, and when there is space again", async () => {
    const { stage, client, server, after } = await polled(EV_WRITE | EV_ET);
    assertEquals(await after(0), ["s:write"]);
    assertEquals(await after(0), []);
    for (let round = 0; round < 3; round++) {
      while (fill(server) > 0) await stage.sim.advance(5);
      await after(0);
      assertEquals(await after(0), []);
      for (let ms = 0; drain(client) > 0 || ms < 5; ms++) await stage.sim.advance(1);
      assertEquals(await after(0), ["s:write"]);
      assertEquals(await after(10), []);
    }
    await stage.end(client, server);
  });

  it("reports only news: space to write does not report waiting bytes again", async () => {
    const { stage, client, server, after } = await polled(EV_READ | EV_WRITE | EV_ET);
    client.send("abc");
    assertEquals(await after(1), ["s:read+write"]);
    while (fill(server) > 0) await stage.sim.advance(5);
    await after(0);
    for (let ms = 0; drain(client) > 0 || ms < 5; ms++) await stage.sim.advance(1);
    assertEquals(await after(0), ["s:write"]);
    await stage.end(client, server);
  });

  it("is reported again after modify()", async () => {
    const { stage, poller, client, server, after } = await polled(EV_READ | EV_ET);
    client.send("abc");
    assertEquals(await after(1), ["s:read"]);
    assertEquals(await after(0), []);
    poller.modify(server, EV_READ | EV_ET);
    assertEquals(await after(0), ["s:read"]);
    assertEquals(await after(0), []);
    await stage.end(client, server);
  });
});

describe("EV_CLOSED", () => {
  it("reports that the peer has finished, without reading, and not before", async () => {
    const { stage, client, server, after } = await polled(EV_CLOSED);
    client.send("abc");
    assertEquals(await after(5), []);
    client.shutdown();
    assertEquals(await after(1), ["s:closed"]);
    assertEquals(received(server), "abc");
    assertEquals(await after(1), ["s:closed"]);
    await stage.end(client, server);
  });

  it("reports that the connection has failed", async () => {
    const { stage, client, server, after } = await polled(EV_CLOSED | EV_ET);
    client.reset();
    assertEquals(await after(1), ["s:closed"]);
    assertEquals(await after(1), []);
    assertEquals(server.error?.code, "ECONNRESET");
    await stage.end(server);
  });
});

describe("accept and connect", () => {
  it("are reported as reading and as writing", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const listening = await stage.listen();
    const poller = new Poller<string>(stage.base);
    poller.add(listening, EV_READ | EV_WRITE, "listener");
    const client = stage.connect(listening);
    poller.add(client, EV_READ | EV_WRITE, "client");
    assertEquals(client.send(""), ENOTCONN);
    assertEquals(client.send("x"), EAGAIN);
    assertEquals(told(await sim.run(poller.wait())), ["client:write"]);
    assertEquals(client.send(""), 0);
    poller.modify(client, EV_READ);
    assertEquals(told(await sim.run(poller.wait())), ["listener:read"]);
    const server = listening.accept();
    assert(server !== EAGAIN);
    assertEquals(await sim.run(poller.wait(0)), []);
    await stage.end(client, server, listening);
  });

  it("report several connections as one level, or each as an edge", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const listening = await stage.listen();
    const [level, edge] = [new Poller<string>(stage.base), new Poller<string>(stage.base)];
    level.add(listening, EV_READ, "l");
    edge.add(listening, EV_READ | EV_ET, "e");
    const sockets: Socket[] = [stage.connect(listening), stage.connect(listening)];
    await sim.advance(10);
    assertEquals(told(await sim.run(edge.wait(0))), ["e:read"]);
    assertEquals(await sim.run(edge.wait(0)), []);
    for (let i = 0; i < 2; i++) {
      assertEquals(told(await sim.run(level.wait(0))), ["l:read"]);
      const server = listening.accept();
      assert(server !== EAGAIN);
      sockets.push(server);
    }
    assertEquals(await sim.run(level.wait(0)), []);
    sockets.push(stage.connect(listening));
    assertEquals(told(await sim.run(edge.wait())), ["e:read"]);
    await stage.end(...sockets, listening);
  });

  it("report a failed attempt with all requested flags, and a send of 0 bytes throws the reason", async () => {
    const stage = new Stage();
    const poller = new Poller<string>(stage.base);
    const client = stage.refused();
    poller.add(client, EV_READ | EV_WRITE | EV_CLOSED, "c");
    assertEquals(client.send(""), ENOTCONN);
    assertEquals(told(await stage.sim.run(poller.wait())), ["c:read+write+closed"]);
    assertEquals(assertThrows(() => client.send(""), EventError).code, "ECONNREFUSED");
    await stage.end(client);
  });
});

describe("Poller", () => {
  it("reports nothing for a socket that was deleted or closed, and forgets it", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const poller = new Poller<string>(stage.base);
    const [a, A] = await stage.pair();
    const [b, B] = await stage.pair();
    poller.add(A, EV_READ, "a");
    poller.add(B, EV_READ, "b");
    assertEquals(poller.size, 2);
    a.send("x");
    b.send("x");
    await sim.advance(1);
    const wait = poller.wait(5);
    poller.delete(A);
    B.close();
    assertEquals(await sim.run(wait), []);
    assertEquals(poller.size, 0);
    for (const gone of [A, B]) {
      assertEquals(assertThrows(() => poller.delete(gone), EventError).code, "ENOENT");
      assertEquals(assertThrows(() => poller.modify(gone, EV_READ), EventError).code, "ENOENT");
    }
    assertEquals(assertThrows(() => poller.add(B, EV_READ, "b"), EventError).code, "EBADF");
    poller.add(A, EV_READ, "again");
    assertEquals(told(await sim.run(poller.wait())), ["again:read"]);
    await stage.end(a, A, b);
  });

  it("is not woken for a socket that was deleted", async () => {
    const { stage, poller, client, server } = await polled(EV_READ);
    const wait = new Watched(poller.wait(1000));
    poller.delete(server);
    await stage.sim.advance(0);
    stage.deferred = 0;
    client.send("x");
    await stage.sim.advance(1);
    assertEquals([stage.deferred, wait.state], [0, "pending"]);
    poller.close();
    await stage.end(client, server);
  });

  it("loses no event if a socket is deleted and added again at once", async () => {
    const { stage, poller, client, server, after } = await polled(EV_READ);
    client.send("x");
    await stage.sim.advance(1);
    poller.delete(server);
    poller.add(server, EV_READ | EV_WRITE, "t");
    assertEquals(await after(0), ["t:read+write"]);
    await stage.end(client, server);
  });

  it("changes interest and data with modify()", async () => {
    const { stage, poller, client, server, after } = await polled(EV_READ);
    client.send("x");
    await stage.sim.advance(1);
    poller.modify(server, EV_WRITE);
    assertEquals(await after(0), ["s:write"]);
    poller.modify(server, EV_READ, "t");
    assertEquals(await after(0), ["t:read"]);
    poller.modify(server, EV_CLOSED);
    assertEquals(await after(0), []);
    poller.modify(server, EV_READ | EV_ET);
    assertEquals([await after(0), await after(0)], [["t:read"], []]);
    poller.modify(server, EV_READ);
    assertEquals([await after(0), await after(0)], [["t:read"], ["t:read"]]);
    await stage.end(client, server);
  });

  it("lets one socket be in several pollers", async () => {
    const { stage, poller, client, server } = await polled(EV_READ);
    const other = new Poller<string>(stage.base);
    other.add(server, EV_READ | EV_ET, "o");
    const waits = [new Watched(poller.wait()), new Watched(other.wait())];
    client.send("x");
    await stage.sim.advance(1);
    assertEquals(waits.map(({ value }) => told(value)), [["s:read"], ["o:read"]]);
    await stage.end(client, server);
  });

  it("goes on beside a loop with events on the same socket", async () => {
    const { stage, poller, client, server } = await polled(EV_READ | EV_ET);
    const heard: number[] = [];
    const event = stage.base.event(server, EV_READ | EV_PERSIST, (_source, what) => {
      heard.push(what);
      received(server);
      event.del();
    });
    event.add();
    const wait = new Watched(poller.wait(100));
    client.send("x");
    await stage.sim.run(stage.base.dispatch());
    await stage.sim.advance(100);
    // The loop was first, and has taken all bytes.
    assertEquals([heard, wait.value], [[EV_READ], []]);
    client.close();
    server.close();
    await stage.sim.advance(10);
    assertEquals([stage.sim.openHandles, stage.sim.pending], [0, 0]);
  });

  it("rejects its waits with ECANCELED when it is closed, and every later call with EBADF", async () => {
    const { stage, poller, client, server } = await polled(EV_READ);
    const waits = [new Watched(poller.wait()), new Watched(poller.wait(1000)), new Watched(poller.wait(0))];
    client.send("x");
    await stage.sim.advance(1);
    const [first, ...cut] = waits;
    assertEquals(told(first?.value), ["s:read"]);
    const more = [new Watched(poller.wait()), new Watched(poller.wait(50))];
    poller.close();
    poller.close();
    await stage.sim.advance(0);
    assertEquals(cut.map(({ state }) => state), ["resolved", "resolved"]);
    for (const { reason } of more) assertEquals((reason as EventError).code, "ECANCELED");
    assertEquals([poller.size, stage.sim.pending], [0, 0]);
    assertEquals((await assertRejects(() => poller.wait(0), EventError)).code, "EBADF");
    for (
      const call of [
        () => poller.add(server, EV_READ, "s"),
        () => poller.modify(server, EV_READ),
        () => poller.delete(server),
      ]
    ) assertEquals(assertThrows(call, EventError).code, "EBADF");
    // It does not own the sockets.
    assertEquals(received(server), "x");
    await stage.end(client, server);
  });

  it("is closed at the end of a scope", async () => {
    const { stage, poller, client, server } = await polled(EV_READ);
    poller[Symbol.dispose]();
    assertEquals((await assertRejects(() => poller.wait(0), EventError)).code, "EBADF");
    await stage.end(client, server);
  });

  it("refuses objects that it cannot watch", async () => {
    const { stage, poller, client, server } = await polled(EV_READ);
    assertEquals(assertThrows(() => poller.add(server, EV_READ, "s"), EventError).code, "EEXIST");
    for (const what of [0, EV_ET, EV_PERSIST | EV_READ, 1.5, -1, NaN]) {
      assertThrows(() => poller.add(client, what, "c"), RangeError);
      assertThrows(() => poller.modify(server, what), RangeError);
    }
    assertThrows(() => poller.add({} as Pollable, EV_READ, "x"), TypeError);
    assertEquals(poller.size, 1);
    await stage.end(client, server);
  });

  it("watches datagram sockets", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const socket = await stage.base.datagram({ hostname: "127.0.0.1" });
    const poller = new Poller<string>(stage.base);
    poller.add(socket, EV_READ | EV_ET, "d");
    socket.sendTo("1", socket.address);
    socket.sendTo("2", socket.address);
    assertEquals(told(await sim.run(poller.wait())), ["d:read"]);
    assert(socket.recvFrom() !== EAGAIN && socket.recvFrom() !== EAGAIN && socket.recvFrom() === EAGAIN);
    assertEquals(await sim.run(poller.wait(10)), []);
    await stage.end(socket);
  });

  it("has a cost for ready sockets, not for watched ones", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const poller = new Poller<number>(stage.base);
    const pairs = [];
    for (let i = 0; i < 200; i++) {
      const pair = await stage.pair();
      pairs.push(pair);
      poller.add(pair[1], EV_READ, i);
    }
    for (const i of [7, 150]) pairs[i]?.[0].send("x");
    await sim.advance(1);
    assertEquals((await sim.run(poller.wait())).map(({ data }) => data), [7, 150]);
    await stage.end(...pairs.flat());
  });
});
