// Poller and select() against a naive model of readiness, in random sequences of sending, receiving, finishing and waiting.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { EV_CLOSED, EV_ET, EV_READ } from "../../../core/flags.ts";
import { Poller } from "../../../core/api/poller.ts";
import { select } from "../../../core/api/select.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { Stage } from "./stage.ts";

const SOCKETS = 3;

type Step =
  | { do: "send" | "receive"; at: number; bytes: number }
  | { do: "finish" | "delete" | "close"; at: number }
  | { do: "deliver" | "select" }
  | { do: "watch"; at: number; what: number }
  | { do: "wait"; most: number };

const at = fc.nat({ max: SOCKETS - 1 });
const bytes = fc.integer({ min: 1, max: 20_000 });
const what = fc.tuple(fc.constantFrom(EV_READ, EV_CLOSED, EV_READ | EV_CLOSED), fc.constantFrom(0, EV_ET))
  .map(([conditions, edge]) => conditions | edge);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("send" as const), at, bytes }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("receive" as const), at, bytes }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("deliver" as const) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("wait" as const), most: fc.constantFrom(1, 2, Infinity) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("watch" as const), at, what }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("select" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("finish" as const, "delete" as const), at }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("close" as const), at }) },
);

/**
 * One connection in its simplest form: bytes on their way, arrived bytes, and whether the end is on
 * its way or has arrived.
 */
class Model {
  onTheWay = 0;
  waiting = 0;
  finishing = false;
  ended = false;
  closed = false;
  /** The flags that it is watched for; 0 if it is not watched. */
  what = 0;
  /** The flags that are new since the last report. */
  news = 0;

  get ready(): number {
    if (this.closed) return 0;
    return (this.waiting > 0 || this.ended ? EV_READ : 0) | (this.ended ? EV_CLOSED : 0);
  }

  deliver(): void {
    if (this.onTheWay > 0) this.news |= EV_READ;
    this.waiting += this.onTheWay;
    this.onTheWay = 0;
    if (this.finishing && !this.ended) {
      this.ended = true;
      this.news |= EV_READ | EV_CLOSED;
    }
  }

  watch(what: number): void {
    this.what = what;
    this.news = this.ready;
  }

  /** The flags that a wait should report. */
  get toTell(): number {
    return this.ready & this.what & ((this.what & EV_ET) !== 0 ? this.news : ~0);
  }
}

async function play(steps: readonly Step[]): Promise<void> {
  const stage = new Stage();
  const { sim } = stage;
  const poller = new Poller<number>(stage.base);
  const models: Model[] = [];
  const clients: Socket[] = [];
  const servers: Socket[] = [];
  for (let i = 0; i < SOCKETS; i++) {
    const [client, server] = await stage.pair();
    models.push(new Model());
    clients.push(client);
    servers.push(server);
  }
  for (const step of steps) {
    const i = "at" in step ? step.at : 0;
    const [model, client, server] = [models[i] as Model, clients[i] as Socket, servers[i] as Socket];
    switch (step.do) {
      case "send":
        // Few enough bytes that the receive queue never becomes full and stops the peer.
        if (model.finishing || model.closed || model.onTheWay + model.waiting + step.bytes > 60_000) break;
        assertEquals(client.send(new Uint8Array(step.bytes)), step.bytes);
        model.onTheWay += step.bytes;
        break;
      case "receive": {
        if (model.closed) break;
        const n = server.recv(new Uint8Array(step.bytes));
        const expected = model.waiting > 0 ? Math.min(model.waiting, step.bytes) : model.ended ? 0 : -11;
        assertEquals(n, expected);
        if (n > 0) model.waiting -= n;
        break;
      }
      case "finish":
        client.shutdown();
        model.finishing = true;
        break;
      case "deliver":
        await sim.advance(10);
        for (const each of models) each.deliver();
        break;
      case "watch":
        if (model.closed) break;
        if (model.what === 0) poller.add(server, step.what, i);
        else poller.modify(server, step.what);
        model.watch(step.what);
        break;
      case "delete":
        if (model.what !== 0) poller.delete(server);
        model.what = 0;
        break;
      case "close":
        server.close();
        model.closed = true;
        model.what = 0;
        break;
      case "wait": {
        const events = await sim.run(poller.wait(0, step.most));
        const expected = models.map((each, data) => ({ data, what: each.toTell })).filter(({ what }) => what !== 0);
        assertEquals(events.length, Math.min(expected.length, step.most));
        for (const { source, what, data } of events) {
          assert(source === servers[data]);
          assertEquals(what, models[data]?.toTell);
          (models[data] as Model).news = 0;
        }
        assertEquals(new Set(events.map(({ data }) => data)).size, events.length);
        break;
      }
      case "select": {
        const open = servers.filter((_, index) => !models[index]?.closed);
        if (open.length === 0) break;
        const { read } = await sim.run(select({ read: open }, 0));
        const expected = servers.filter((_, index) => ((models[index]?.ready ?? 0) & EV_READ) !== 0);
        assert(read.length === expected.length && expected.every((socket, index) => read[index] === socket));
        break;
      }
    }
    assertEquals(poller.size, models.filter(({ what }) => what !== 0).length);
  }
  poller.close();
  await stage.end(...clients, ...servers);
}

describe("Poller and select()", () => {
  it("agree with a naive model of readiness, level and edge", async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60, size: "max" }), play), {
      numRuns: 150,
    });
  });
});
