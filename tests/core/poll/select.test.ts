// select(): it takes sets and returns the ready sockets, with every kind of timeout and without a
// loop.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EAGAIN } from "../../../core/flags.ts";
import { select, type SelectResult, type SelectSets } from "../../../core/api/select.ts";
import type { WaitOptions } from "../../../core/poll/wait.ts";
import { type Pollable, sourceOf } from "../../../core/api/pollable.ts";
import { drain, fill, received, Stage, Watched } from "./stage.ts";

const NOTHING: SelectResult = { read: [], write: [], except: [] };

/** Compares by identity: sockets have no fields to compare. */
function assertSelected(result: SelectResult | undefined, expected: Partial<SelectResult>): void {
  const same = (actual: Pollable[] | undefined, wanted: Pollable[] = []): boolean =>
    actual?.length === wanted.length && wanted.every((socket, i) => actual[i] === socket);
  const { read, write, except } = result ?? {};
  const lengths = `${read?.length} read, ${write?.length} write, ${except?.length} except`;
  assert(same(read, expected.read) && same(write, expected.write) && same(except, expected.except), lengths);
}

describe("select()", () => {
  it("with a timeout of 0 only checks", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const [client, server] = await stage.pair();
    const began = sim.now();
    assertSelected(await sim.run(select({ read: [server] }, 0)), NOTHING);
    assertEquals(sim.now(), began);
    client.send("x");
    assertSelected(await sim.run(select({ read: [server] }, 0)), NOTHING);
    await sim.advance(1);
    assertSelected(await sim.run(select({ read: [server] }, 0)), { read: [server] });
    await stage.end(client, server);
  });

  it("with a number gives up after that many milliseconds, and not before", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const [client, server] = await stage.pair();
    for (const ms of [0.5, 100, 2 ** 31, 2 ** 33]) {
      const began = sim.now();
      assertSelected(await sim.run(select({ read: [server] }, ms)), NOTHING);
      assertEquals(sim.now() - began, ms);
    }
    await stage.end(client, server);
  });

  it("ends before its time when a socket becomes ready, and leaves no timer", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const [client, server] = await stage.pair();
    const began = sim.now();
    const wait = select({ read: [server] }, 100);
    client.send("x");
    assertSelected(await sim.run(wait), { read: [server] });
    assertEquals(sim.now() - began, 1);
    assertEquals(sim.pending, 0);
    await stage.end(client, server);
  });

  it("without a timeout waits for ever", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const [client, server] = await stage.pair();
    const wait = select({ read: [server] });
    const watched = new Watched(wait);
    await sim.advance(1e9);
    assertEquals(watched.state, "pending");
    assertEquals(sim.pending, 0);
    client.send("x");
    assertSelected(await sim.run(wait), { read: [server] });
    await stage.end(client, server);
  });

  it("returns the ready sockets of each set once, in order, and does not change the sets", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const pairs = [await stage.pair(), await stage.pair(), await stage.pair()] as const;
    const [[a, A], [b, B], [c, C]] = pairs;
    c.send("x");
    a.send("x");
    await sim.advance(1);
    fill(B);
    const read = [C, B, A, C];
    const write = new Set([A, B]);
    const result = await sim.run(select({ read, write, except: [A, B, C] }));
    assertSelected(result, { read: [C, A], write: [A] });
    assertEquals([read.length, write.size], [4, 2]);
    await stage.end(a, b, c, A, B, C);
  });

  it("uses the sets as they were at the call", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    const read: Pollable[] = [client];
    const wait = select({ read }, 5);
    read.push(server);
    client.send("x");
    assertSelected(await stage.sim.run(wait), NOTHING);
    await stage.end(client, server);
  });

  it("treats a connection to accept as readable", async () => {
    const stage = new Stage();
    const listening = await stage.listen();
    const client = stage.connect(listening);
    assertSelected(await stage.sim.run(select({ read: [listening], write: [listening] })), { read: [listening] });
    const server = listening.accept();
    assert(server !== EAGAIN);
    assertSelected(await stage.sim.run(select({ read: [listening] }, 0)), NOTHING);
    await stage.end(client, server, listening);
  });

  it("treats the end of an attempt to connect as writable", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const listening = await stage.listen();
    const client = stage.connect(listening);
    assertSelected(await sim.run(select({ read: [client], write: [client], except: [client] }, 0)), NOTHING);
    assertSelected(await sim.run(select({ read: [client], write: [client], except: [client] })), { write: [client] });
    assert(client.connected);
    await stage.end(client, listening);
  });

  it("puts a connection that has failed into all three sets", async () => {
    const stage = new Stage();
    const client = stage.refused();
    const sets = { read: [client], write: [client], except: [client] };
    assertSelected(await stage.sim.run(select(sets)), sets);
    assertEquals(client.error?.code, "ECONNREFUSED");
    // A failure alone also ends a wait.
    assertSelected(await stage.sim.run(select({ except: [client] })), { except: [client] });
    await stage.end(client);
  });

  it("treats the peer's end as readable, in every call", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    client.close();
    for (let i = 0; i < 3; i++) {
      assertSelected(await stage.sim.run(select({ read: [server] })), { read: [server] });
      assertEquals(received(server), null);
    }
    await stage.end(server);
  });

  it("does not give a socket for writing before its send queue has space", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const [client, server] = await stage.pair();
    fill(client);
    await sim.advance(10);
    fill(client);
    assertSelected(await sim.run(select({ write: [client] }, 1000)), NOTHING);
    const wait = select({ write: [client] });
    while (drain(server) > 0) await sim.advance(1);
    assertSelected(await sim.run(wait), { write: [client] });
    assert(client.send("x") === 1);
    await stage.end(client, server);
  });

  it("treats a datagram as readable", async () => {
    const stage = new Stage();
    const socket = await stage.base.datagram({ hostname: "127.0.0.1" });
    assertSelected(await stage.sim.run(select({ read: [socket], write: [socket] })), { write: [socket] });
    socket.sendTo("x", socket.address);
    assertSelected(await stage.sim.run(select({ read: [socket] })), { read: [socket] });
    await stage.end(socket);
  });

  it("refuses a socket that was closed", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    server.close();
    for (const sets of [{ read: [client, server] }, { write: [server] }, { except: [server] }]) {
      const error = await assertRejects(() => select(sets), EventError);
      assertEquals(error.code, "EBADF");
    }
    await stage.end(client);
  });

  it("returns the other ready sockets if one socket is closed meanwhile", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const [a, A] = await stage.pair();
    const [b, B] = await stage.pair();
    const wait = select({ read: [A, B], write: [A], except: [A] });
    A.close();
    assertSelected(await sim.run(wait.then((result) => ({ ...result, write: [] }))), NOTHING);
    const failing = stage.refused();
    await sim.advance(10);
    const other = select({ read: [failing, B], except: [failing] });
    b.send("x");
    await sim.advance(1);
    failing.close();
    assertSelected(await sim.run(other), { read: [failing], except: [failing] });
    const last = stage.refused();
    await sim.advance(10);
    const closed = select({ except: [last] });
    last.close();
    assertSelected(await sim.run(closed), NOTHING);
    await stage.end(a, b, B);
  });

  it("may be called several times for one socket", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    const waits = [select({ read: [server] }), select({ read: [server] }), select({ read: [client] }, 10)] as const;
    client.send("x");
    assertSelected(await stage.sim.run(waits[0]), { read: [server] });
    assertSelected(await stage.sim.run(waits[1]), { read: [server] });
    assertSelected(await stage.sim.run(waits[2]), NOTHING);
    await stage.end(client, server);
  });

  it("ends with the reason of a signal that is aborted", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    const reason = new Error("enough");
    const aborted = await assertRejects(() => select({ read: [server] }, 0, { signal: AbortSignal.abort(reason) }));
    assertEquals(aborted, reason);
    const controller = new AbortController();
    const wait = new Watched(select({ read: [server] }, 1000, { signal: controller.signal }));
    await stage.sim.advance(1);
    controller.abort(reason);
    await stage.sim.advance(0);
    assertEquals([wait.state, wait.reason], ["rejected", reason]);
    assertEquals(stage.sim.pending, 0);
    await stage.end(client, server);
  });

  it("refuses values that are not sockets or timeouts", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    for (const ms of [-1, NaN, Infinity]) await assertRejects(() => select({ read: [server] }, ms), RangeError);
    await assertRejects(() => select({ read: [server] }, "1" as unknown as number), TypeError);
    await assertRejects(() => select({ read: [{} as Pollable] }), TypeError);
    await assertRejects(() => select(null as unknown as SelectSets), TypeError, "received null");
    const one = server as unknown as Iterable<Pollable>;
    await assertRejects(() => select({ write: one }), TypeError, "write is not a list of sockets: received Socket");
    await assertRejects(() => select({ write: [null as unknown as Pollable] }), TypeError);
    const wrong = "stop" as unknown as AbortSignal;
    await assertRejects(() => select({ read: [server] }, 0, { signal: wrong }), TypeError, 'received "stop"');
    await assertRejects(
      () => select({ read: [server] }, 0, null as unknown as WaitOptions),
      TypeError,
      "received null",
    );
    await stage.end(client, server);
  });

  it("watches nothing after it has ended", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const [client, server] = await stage.pair();
    const source = sourceOf(server);
    const observers: unknown[] = [];
    const { observe, unobserve } = source;
    source.observe = (observer) => void (observers.push(observer), observe.call(source, observer));
    source.unobserve = (observer) => {
      observers.splice(observers.indexOf(observer), 1);
      unobserve.call(source, observer);
    };
    for (let i = 0; i < 3; i++) await sim.run(select({ read: [server], write: [server] }, 1));
    await sim.run(select({ read: [server] }, 1));
    assertEquals(observers.length, 0);
    client.send("x");
    stage.deferred = 0;
    await sim.advance(1);
    assertEquals([stage.deferred, sim.pending], [0, 0]);
    assertEquals(received(server), "x");
    await stage.end(client, server);
  });
});
