// The timer heap, and the timers of a base, against a sorted array.

import { describe, it } from "node:test";
import { assertEquals, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { loopOf } from "../../../core/api/event_base.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { BEV_OPT_CLOSE_ON_FREE, EV_PERSIST, EV_READ, EVENT_BASE_COUNT_ADDED } from "../../../core/flags.ts";
import { TimerHeap, TimerNode } from "../../../core/loop/timer_heap.ts";
import { nothingLeft, world } from "./harness.ts";
import { socketPair } from "../socket/pairs.ts";

class Node extends TimerNode {
  readonly name: number;

  constructor(name: number) {
    super();
    this.name = name;
  }
}

/** The deadlines, in the order in which they must fire. */
class SortedArray {
  #entries: { name: number; deadline: number; seq: number }[] = [];
  #seq = 0;

  schedule(name: number, deadline: number): void {
    this.remove(name);
    this.#entries.push({ name, deadline, seq: this.#seq++ });
    this.#entries.sort((a, b) => a.deadline - b.deadline || a.seq - b.seq);
  }

  remove(name: number): void {
    this.#entries = this.#entries.filter((entry) => entry.name !== name);
  }

  get first(): { name: number; deadline: number } | undefined {
    return this.#entries[0];
  }

  get size(): number {
    return this.#entries.length;
  }
}

/** Enough for the heap to grow and to give memory back. */
const NODES = 90;

const operation = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("schedule" as const), name: name(), at: deadline() }) },
  // The most frequent operation: a timeout is restarted.
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("later" as const), name: name(), at: deadline() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("remove" as const), name: name(), at: fc.constant(0) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("take" as const), name: name(), at: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fill" as const), name: name(), at: deadline() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("empty" as const), name: name(), at: fc.constant(0) }) },
);

function name(): fc.Arbitrary<number> {
  return fc.nat(NODES - 1);
}

/** Few values, so that many are equal. */
function deadline(): fc.Arbitrary<number> {
  return fc.oneof(fc.nat(12), fc.constantFrom(-1, 0.5, 1e12));
}

describe("TimerHeap", () => {
  it("agrees with a sorted array, first in first out for equal deadlines", () => {
    fc.assert(fc.property(fc.array(operation, { maxLength: 100, size: "max" }), (operations) => {
      const heap = new TimerHeap();
      const model = new SortedArray();
      const nodes = Array.from({ length: NODES }, (_, i) => new Node(i));
      for (const { kind, name, at } of operations) {
        const node = nodes[name] as Node;
        if (kind === "remove") {
          heap.remove(node);
          model.remove(name);
        } else if (kind === "take") {
          const first = heap.first();
          if (first !== null) heap.remove(first);
          if (model.first !== undefined) model.remove(model.first.name);
        } else if (kind === "fill") {
          for (let i = 0; i < name; i++) {
            heap.schedule(nodes[i] as Node, at + i % 7);
            model.schedule(i, at + i % 7);
          }
        } else if (kind === "empty") {
          for (let i = 0; i < name; i++) {
            heap.remove(nodes[i] as Node);
            model.remove(i);
          }
        } else {
          const deadline = kind === "later" && node.slot >= 0 ? heap.deadlineOf(node) + Math.abs(at) : at;
          heap.schedule(node, deadline);
          model.schedule(name, deadline);
        }
        const { floor } = heap;
        const first = heap.first() as Node | null;
        if (first === null) assertEquals(floor, Infinity);
        else assertLessOrEqual(floor, heap.deadlineOf(first));
        assertEquals(
          first === null ? undefined : { name: first.name, deadline: heap.deadlineOf(first) },
          here(model.first),
        );
        assertEquals([heap.size, model.size], [nodes.filter((node) => node.slot >= 0).length, heap.size]);
      }
      let left = 0;
      heap.forEach(() => left++);
      assertEquals(left, model.size);
    }));
  });
});

function here(entry: { name: number; deadline: number } | undefined): { name: number; deadline: number } | undefined {
  return entry === undefined ? undefined : { name: entry.name, deadline: entry.deadline };
}

const EVENTS = 24;

describe("the timers of a base", () => {
  it("keep their places in the heap while messages restart timeouts", async () => {
    const { sim, base } = world();
    const { timers } = loopOf(base);
    let corrections = 0;
    const first = timers.first.bind(timers);
    timers.first = () => {
      corrections++;
      return first();
    };
    const peers: Socket[] = [];
    let messages = 0;
    for (let i = 0; i < 10; i++) {
      const [peer, socket] = await socketPair(sim);
      peers.push(peer);
      const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
      bev.setTimeouts(1000, null);
      bev.setIdleTimeout(1000);
      bev.setCallbacks({
        read: (bev) => {
          messages++;
          bev.output.addBuffer(bev.input);
        },
        event: (bev) => bev.free(),
      });
      bev.enable(EV_READ);
    }
    void base.dispatch();
    await sim.advance(1);
    corrections = 0;
    for (let i = 0; i < 50; i++) {
      for (const peer of peers) peer.send(new Uint8Array(1));
      await sim.advance(1);
    }
    assertEquals([messages, corrections], [500, 0]);
    for (const peer of peers) peer.close();
    await sim.advance(1);
    await nothingLeft({ sim, base });
  });

  const step = fc.record({
    /** A time, with an offset that puts it before or after timers of that time. */
    after: fc.nat(6),
    kind: fc.constantFrom("add" as const, "add" as const, "add" as const, "common" as const, "del" as const),
    name: fc.nat(EVENTS - 1),
    ms: fc.nat(20),
  });

  it("fire as those of a sorted array, however they are added, moved and deleted", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (steps) => {
        const { sim, base } = world();
        const fired: string[] = [];
        const events = Array.from({ length: EVENTS }, (_, i) => base.timer(() => fired.push(`${i} at ${sim.now()}`)));

        const model = new SortedArray();
        const expected: string[] = [];
        const expire = (now: number): void => {
          for (let first = model.first; first !== undefined && first.deadline <= now; first = model.first) {
            model.remove(first.name);
            expected.push(`${first.name} at ${first.deadline}`);
          }
        };

        // The host's own timers run the steps between turns.
        const keepAlive = base.event(null, EV_PERSIST, () => {});
        keepAlive.add(1e6);
        const done = base.dispatch();
        let now = 0;
        for (const { after, kind, name, ms } of steps) {
          await sim.advance(after);
          now += after;
          expire(now);
          const event = events[name];
          if (kind === "del") {
            event?.del();
            model.remove(name);
          } else {
            // Fewer durations than timers, so that queues grow.
            const duration = kind === "common" ? ms - ms % 5 : ms;
            event?.add(kind === "common" ? base.initCommonTimeout(duration) : duration);
            model.schedule(name, now + duration);
          }
        }
        await sim.advance(100);
        expire(Infinity);
        assertEquals(fired, expected);
        keepAlive.del();
        assertEquals(await sim.run(done), "empty");
        assertEquals([base.numEvents(EVENT_BASE_COUNT_ADDED), sim.pending], [0, 0]);
      }),
      { numRuns: 60 },
    );
  });

  it("work for a hundred thousand, each restarted at every message", async () => {
    const { sim, base } = world();
    let fired = 0;
    const events = Array.from({ length: 100_000 }, () => base.timer(() => void fired++));
    for (const event of events) event.add(1000);
    for (let round = 0; round < 5; round++) {
      await sim.advance(100);
      for (const event of events) event.add(1000);
    }
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals([fired, sim.now()], [100_000, 1500]);
  });
});
