// How callbacks are called: triggered, deferred, changed, at which priority, and freed inside. Rules V14, V16, V18 to V20.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_FLUSH,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  BEV_TRIG_DEFER_CALLBACKS,
  BEV_TRIG_IGNORE_WATERMARKS,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
  EVENT_BASE_COUNT_ACTIVE,
  EVENT_BASE_COUNT_ADDED,
} from "../../../core/flags.ts";
import { pattern, socketPair } from "../socket/pairs.ts";
import { isFreed, Recorder, rig } from "./rig.ts";
import { Record, Stage } from "./stage.ts";

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

describe("trigger() (V18)", () => {
  it("runs the callbacks in the loop if the watermarks allow, reading first", async () => {
    const made = await rig();
    const { bev, record } = made;
    bev.trigger(EV_WRITE | EV_READ);
    assertEquals(record.lines, []);
    assertEquals(await made.during(5), ["read 0", "write 0"]);
    bev.setWatermark(EV_READ, 1, 0);
    bev.trigger(EV_READ);
    assertEquals(await made.during(5), []);
    bev.trigger(EV_READ, BEV_TRIG_IGNORE_WATERMARKS);
    assertEquals(await made.during(5), ["read 0"]);
    await made.end();
  });

  it("of writing asks whether the output is at the low watermark", async () => {
    const made = await rig();
    const { bev } = made;
    bev.disable(EV_WRITE);
    bev.write("12345");
    bev.trigger(EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
    assertEquals(await made.during(5), []);
    bev.setWatermark(EV_WRITE, 5, 0);
    bev.trigger(EV_WRITE);
    assertEquals(await made.during(5), ["write 5"]);
    bev.setWatermark(EV_WRITE, 0, 0);
    bev.trigger(EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS);
    assertEquals(await made.during(5), ["write 5"]);
    await made.end();
  });

  it("wakes a loop that waits, and runs once for several calls", async () => {
    const made = await rig();
    const { sim, base, bev, record } = made;
    base.timer(() => {}).add(50);
    const done = base.dispatch();
    await sim.advance(10);
    for (let i = 0; i < 3; i++) bev.trigger(EV_READ);
    await sim.advance(0);
    assertEquals(record.take(), ["read 0"]);
    await sim.run(done);
    await made.end();
  });

  it("after free() does nothing", async () => {
    const made = await rig();
    made.bev.free();
    made.bev.trigger(EV_READ | EV_WRITE);
    made.bev.triggerEvent(BEV_EVENT_EOF);
    assertEquals(await made.during(5), []);
    await made.end();
  });
});

describe("triggerEvent() (V18)", () => {
  it("passes the flags to the event callback, in the loop; several calls are merged into one", async () => {
    const made = await rig();
    made.bev.triggerEvent(BEV_EVENT_READING | BEV_EVENT_EOF);
    assertEquals(made.record.lines, []);
    assertEquals(await made.during(5), ["event READING|EOF"]);
    made.bev.triggerEvent(BEV_EVENT_ERROR);
    made.bev.triggerEvent(BEV_EVENT_READING | BEV_EVENT_TIMEOUT);
    assertEquals(await made.during(5), ["event READING|ERROR|TIMEOUT"]);
    assertThrows(() => made.bev.triggerEvent(1.5), TypeError);
    await made.end();
  });
});

describe("deferred callbacks (V19)", () => {
  it("of one pass are merged: CONNECTED, read, write, and the other events in one", async () => {
    const made = await rig({ options: BEV_OPT_DEFER_CALLBACKS });
    const { bev } = made;
    bev.triggerEvent(BEV_EVENT_EOF | BEV_EVENT_READING);
    bev.trigger(EV_WRITE);
    bev.triggerEvent(BEV_EVENT_ERROR | BEV_EVENT_CONNECTED);
    bev.trigger(EV_READ);
    assertEquals(await made.during(5), ["event CONNECTED", "read 0", "write 0", "event READING|EOF|ERROR"]);
    await made.end();
  });

  it("report what happened on the connection, after callbacks that are already active", async () => {
    const made = await rig({ options: BEV_OPT_DEFER_CALLBACKS });
    const { bev, peer, record } = made;
    record.drains = false;
    peer.send(pattern(40_000));
    peer.shutdown();
    await made.still(10);
    bev.enable(EV_READ);
    made.base.timer(() => record.lines.push("other")).add(0);
    const reads = ["read 16384", "read 32768", "read 40000"];
    assertEquals(await made.during(5), ["other", ...reads, "event READING|EOF"]);
    assertEquals(bev.input.toUint8Array(), pattern(40_000));
    await made.end();
  });

  it("keep the error of an event", async () => {
    const made = await rig({ options: BEV_OPT_DEFER_CALLBACKS });
    made.bev.enable(EV_READ);
    made.peer.reset();
    assertEquals(await made.during(5), ["event READING|ERROR"]);
    assertEquals(made.record.errors[0]?.code, "ECONNRESET");
    await made.end();
  });

  it("are forgotten when the callbacks are set to null before", async () => {
    const made = await rig({ options: BEV_OPT_DEFER_CALLBACKS });
    const { bev, record } = made;
    bev.trigger(EV_READ);
    bev.triggerEvent(BEV_EVENT_EOF);
    bev.setCallbacks(null);
    bev.setCallbacks(record.callbacks);
    assertEquals(await made.during(5), []);
    bev.trigger(EV_WRITE);
    assertEquals(await made.during(5), ["write 0"]);
    await made.end();
  });

  it("do not come after free()", async () => {
    const made = await rig({ options: BEV_OPT_DEFER_CALLBACKS });
    made.bev.enable(EV_READ);
    made.peer.send("x");
    await made.still(5);
    made.bev.trigger(EV_READ | EV_WRITE);
    made.bev.free();
    assertEquals(await made.during(5), []);
    await made.end();
  });

  it("run in the next dispatch if one before them throws", async () => {
    const made = await rig();
    const { sim, base, bev, record } = made;
    const failure = new Error("first");
    record.on.read = () => {
      throw failure;
    };
    bev.trigger(EV_READ | EV_WRITE);
    bev.triggerEvent(BEV_EVENT_EOF);
    assertStrictEquals(await sim.run(base.dispatch().catch((error) => error)), failure);
    assertEquals(record.take(), ["read 0"]);
    assertEquals(await made.during(5), ["write 0", "event EOF"]);
    await made.end();
  });

  it("of more than 33 bufferevents need two passes, and all run", async () => {
    const made = await rig();
    const others: SocketBufferEvent[] = [];
    const record = new Recorder();
    for (let i = 0; i < 50; i++) {
      const bev = new SocketBufferEvent(made.base, null, BEV_OPT_DEFER_CALLBACKS);
      bev.setCallbacks(record.callbacks);
      bev.trigger(EV_READ);
      others.push(bev);
    }
    await made.during(5);
    assertEquals(record.lines.length, 50);
    for (const bev of others) bev.free();
    await made.end();
  });
});

describe("setCallbacks() (V20)", () => {
  it("takes functions", async () => {
    const { bev } = await rig();
    for (const name of ["read", "write", "event"]) {
      const wrong = { [name]: 5 } as unknown as Parameters<typeof bev.setCallbacks>[0];
      assertThrows(() => bev.setCallbacks(wrong), TypeError, `${name} is not a function: received 5`);
    }
    bev.free();
  });

  it("inside a callback takes effect for the next call", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    const next = new Recorder();
    record.on.read = (bev) => {
      bev.setCallbacks(next.callbacks);
      record.lines.push("end of the first");
    };
    bev.enable(EV_READ);
    peer.send("one");
    assertEquals([await made.during(5), next.take()], [["read 3", "end of the first"], []]);
    peer.send("two");
    peer.shutdown();
    assertEquals([await made.during(5), next.take()], [[], ["read 3", "event READING|EOF"]]);
    await made.end();
  });

  it("to null lets the transfer go on without callbacks", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.setCallbacks(null);
    bev.enable(EV_READ | EV_WRITE);
    bev.write("x");
    peer.send("abc");
    peer.shutdown();
    assertEquals(await made.during(10), []);
    assertEquals([bev.input.toString(), bev.enabled, made.peerReceives()], ["abc", EV_WRITE, "x"]);
    await made.end();
  });

  it("takes an object, of which every callback is optional, and keeps it: `this` is the object", async () => {
    const made = await rig();
    const { bev, peer } = made;
    assertThrows(() => bev.setCallbacks("read" as unknown as null), TypeError);
    const seen: unknown[] = [];
    const callbacks = {
      name: "mine",
      read(this: { name: string }, each: BufferEvent): void {
        seen.push(this.name, each === bev);
        each.input.drain(100);
      },
    };
    bev.setCallbacks(callbacks);
    bev.enable(EV_READ);
    bev.write("x");
    peer.send("abc");
    peer.shutdown();
    await made.during(10);
    assertEquals(seen, ["mine", true]);
    await made.end();
  });

  it("one object serves many bufferevents, told apart by their context", async () => {
    const made = await rig();
    const [socket, peer] = await socketPair(made.sim);
    const other = new SocketBufferEvent<{ name: string }>(made.base, socket, 1);
    const first = made.bev as SocketBufferEvent<{ name: string }>;
    const seen: string[] = [];
    const callbacks = {
      read(bev: SocketBufferEvent<{ name: string }>): void {
        seen.push(`${bev.context.name} ${bev.input.toString()}`);
        bev.input.drain(100);
      },
    };
    for (const [bev, name] of [[first, "first"], [other, "other"]] as const) {
      bev.context = { name };
      bev.setCallbacks(callbacks);
      bev.enable(EV_READ);
    }
    made.peer.send("a");
    peer.send("b");
    await made.during(5);
    assertEquals(seen.toSorted(), ["first a", "other b"]);
    other.free();
    peer.close();
    await made.end();
  });
});

describe("the priority (V16)", () => {
  it("is the middle one at first, is that of all its callbacks, and must be one of the base's", async () => {
    const made = await rig({ base: { priorities: 3 } });
    const { base, bev, peer, record } = made;
    assertEquals(bev.priority, 1);
    for (const priority of [-1, 3, 1.5]) assertThrows(() => void (bev.priority = priority), RangeError);
    bev.priority = 2;
    assertEquals(bev.priority, 2);
    bev.enable(EV_READ);
    peer.send("x");
    await made.still(5);
    bev.trigger(EV_WRITE);
    const middle = base.timer(() => record.lines.push("middle"));
    middle.activate(EV_TIMEOUT);
    base.timer(() => record.lines.push("middle timer")).add(0);
    await made.sim.run(base.loop(1));
    assertEquals(record.take().slice(0, 2), ["middle", "middle timer"]);
    await made.during(5);
    bev.priority = 0;
    peer.send("y");
    await made.still(5);
    base.timer(() => record.lines.push("middle timer")).add(0);
    await made.sim.run(base.loop(1));
    assertEquals(record.take(), ["read 1", "middle timer"]);
    await made.end();
  });

  it("is not changed while a callback waits to be run: EV_ACTIVE", async () => {
    const made = await rig({ base: { priorities: 2 } });
    made.bev.trigger(EV_READ);
    assertEquals(codeOf(() => void (made.bev.priority = 0)), "EV_ACTIVE");
    await made.during(5);
    made.bev.priority = 0;
    made.bev.trigger(EV_READ);
    made.base.timer(() => made.record.lines.push("middle")).activate(EV_TIMEOUT);
    assertEquals(await made.during(5), ["read 0", "middle"]);
    await made.end();
  });
});

describe("a change callback of the buffers", () => {
  it("may free() the bufferevent while bytes arrive or leave", async () => {
    for (const which of ["input", "output"] as const) {
      const made = await rig();
      const { bev, peer } = made;
      bev.setTimeouts(50, 50);
      bev[which].addCallback((_, { added, deleted }) => {
        if (which === "input" ? added > 0 : deleted > 0) bev.free();
      });
      bev.enable(EV_READ);
      peer.send("x");
      bev.write("y");
      const calls = await made.during(20);
      assertEquals([calls, isFreed(bev)], [which === "input" ? ["write 0"] : [], true]);
      assertEquals(made.base.numEvents(EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED), 0);
      await made.end();
    }
  });

  it("may disable() the direction: its timeout does not run, and nothing spins", async () => {
    const made = await rig();
    const { base, bev, peer } = made;
    await made.block();
    bev.setTimeouts(50, 50);
    bev.input.addCallback((_, { added }) => added > 0 && bev.disable(EV_READ));
    bev.output.addCallback((_, { deleted }) => deleted > 0 && bev.disable(EV_WRITE));
    bev.enable(EV_READ);
    bev.write(pattern(200_000));
    assertEquals(await made.during(5), []);
    peer.send("x");
    const { turns } = base.stats();
    for (let ms = 0; ms < 40; ms++) {
      made.peerCount();
      assertEquals((await made.during(1)).filter((line) => line !== "read 1"), []);
    }
    assertEquals(await made.during(500), []);
    assert(base.stats().turns - turns < 150, `${base.stats().turns - turns} turns`);
    assertEquals(bev.enabled, 0);
    await made.end();
  });
});

describe("free() (V14)", () => {
  const ways: [
    name: string,
    options: number,
    cause: (made: Awaited<ReturnType<typeof rig>>) => Promise<void> | void,
  ][] = [
    ["read", 0, ({ bev, peer }) => {
      bev.enable(EV_READ);
      peer.send(pattern(40_000));
    }],
    ["write", 0, ({ bev }) => bev.write("x")],
    ["event EOF", 0, ({ bev, peer }) => {
      bev.enable(EV_READ);
      peer.shutdown();
    }],
    ["event ERROR of reading", 0, ({ bev, peer }) => {
      bev.enable(EV_READ);
      peer.reset();
    }],
    ["event ERROR of writing", 0, async (made) => {
      made.peer.reset();
      await made.still(5);
      made.bev.write("x");
    }],
    ["event TIMEOUT of reading", 0, ({ bev }) => {
      bev.setTimeouts(5, null);
      bev.enable(EV_READ);
    }],
    ["event TIMEOUT of writing", 0, async (made) => {
      await made.block();
      made.bev.setTimeouts(null, 5);
      made.bev.write("x");
    }],
    ["triggered", 0, ({ bev }) => {
      bev.trigger(EV_READ | EV_WRITE);
      bev.triggerEvent(BEV_EVENT_EOF);
    }],
    ["deferred", BEV_OPT_DEFER_CALLBACKS, ({ bev, peer }) => {
      bev.enable(EV_READ);
      peer.send(pattern(40_000));
      peer.shutdown();
      bev.write("x");
    }],
  ];
  for (const [name, options, cause] of ways) {
    it(`in its own callback is safe, and no callback follows: ${name}`, async () => {
      const made = await rig({ options });
      const { bev, record } = made;
      const free = (): void => {
        bev.free();
        assertEquals(bev.input.length, 0);
      };
      record.on = { read: free, write: free, event: free };
      record.drains = false;
      await cause(made);
      const calls = await made.during(20);
      assertEquals([calls.length, isFreed(bev)], [1, true], calls.join());
      assertEquals(made.base.numEvents(EVENT_BASE_COUNT_ACTIVE), 0);
      await made.end();
    });
  }

  it("silences at once: callbacks that are already active do not run, even in the same turn", async () => {
    const made = await rig();
    const { base, bev, peer } = made;
    bev.enable(EV_READ);
    peer.send("x");
    await made.still(5);
    bev.trigger(EV_WRITE);
    base.watchCheck(() => bev.free());
    assertEquals(await made.during(5), []);
    await made.end();
  });

  it("closes the socket before it returns; queued output is dropped, what was sent is delivered", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.write("sent");
    await made.during(5);
    bev.write("dropped");
    const { socket } = bev;
    bev.free();
    assertEquals(codeOf(() => socket?.recv(new Uint8Array(1))), "EBADF");
    bev.free();
    bev[Symbol.dispose]();
    await made.still(5);
    const into = new EvBuffer();
    assertEquals([peer.recvBuffer(into), into.toString(), peer.recvBuffer(into)], [4, "sent", 0]);
    await made.end();
  });

  it("leaves an object whose properties can be read, and whose methods do nothing", async () => {
    const made = await rig();
    const { bev } = made;
    bev.free();
    assertEquals([bev.input.length, bev.output.length, bev.socket, bev.getCallbacks()], [0, 0, null, null]);
    assertEquals(bev.read(new Uint8Array(4)), 0);
    bev.disable(EV_READ | EV_WRITE);
    for (
      const call of [
        () => bev.write("x"),
        () => bev.enable(EV_READ),
        () => bev.setCallbacks({}),
        () => bev.setWatermark(EV_READ, 1, 1),
        () => bev.setTimeouts(1, 1),
        () => bev.shutdown(),
        () => bev.setSocket(null),
        () => bev.connect({ port: 1 }),
        () => bev.flush(EV_WRITE, 0),
      ]
    ) assertEquals(codeOf(call), "EV_FREED");
    assertEquals(await made.sim.run(bev.close()), true);
    await made.end();
  });

  it("after base.free() still closes the socket", async () => {
    const made = await rig();
    made.bev.enable(EV_READ);
    made.bev.write("x");
    made.base.free();
    made.bev.free();
    await made.sim.advance(5);
    made.peer.close();
    await made.sim.advance(50);
    assertEquals([made.sim.openHandles, made.sim.pending], [0, 0]);
  });
});

describe("base.free() in a callback", () => {
  it("ends the turn: written output gets no write callback, and close() sends it", async () => {
    const made = await rig();
    const log: string[] = [];
    made.bev.setCallbacks({
      read(bev) {
        log.push("read");
        made.base.free();
        bev.write("answer");
      },
      write: () => void log.push("write"),
      event: () => void log.push("event"),
    });
    made.bev.enable(EV_READ);
    made.peer.send("ask");
    assertEquals(await made.sim.run(made.base.dispatch()), "empty");
    await made.sim.advance(10);
    assertEquals(log, ["read"]);
    const closed = made.bev.close();
    await made.sim.advance(10);
    assertEquals(made.peer.recv(new Uint8Array(10)), 6);
    made.peer.close();
    assertEquals(await made.sim.run(closed), true);
  });
});

describe("a callback that was triggered", () => {
  it("does not run again if the same event was reported meanwhile", async () => {
    const stage = new Stage();
    const { a, b } = stage.pair();
    const filter = new FilterBufferEvent(b, null, null, BEV_OPT_CLOSE_ON_FREE);
    const log = new Record();
    filter.setCallbacks(log.of("filter"));
    filter.enable(EV_READ);
    a.write("x");
    filter.flush(EV_READ, BEV_FLUSH);
    a.write("y");
    await stage.during(1);
    assertEquals(log.take(), ["filter read 2"]);
    await stage.end(filter, a, b);
  });

  it("runs before an end of file that is already active", async () => {
    const made = await rig();
    const { bev, peer } = made;
    const filter = new FilterBufferEvent(bev, null, null);
    const log = new Record();
    log.drains = false;
    filter.setCallbacks(log.of("filter"));
    filter.enable(EV_READ);
    peer.send(pattern(5));
    peer.shutdown();
    await made.during(5);
    assertEquals(log.take(), ["filter read 5", "filter event READING|EOF"]);
    // Enabling reports the end again.
    filter.disable(EV_READ);
    filter.enable(EV_READ);
    filter.trigger(EV_READ);
    await made.during(5);
    assertEquals(log.take(), ["filter read 5", "filter event READING|EOF"]);
    filter.free();
    await made.end();
  });

  it("in each read callback does not delay the end of file for ever", async () => {
    const stage = new Stage();
    const { a, b, log } = stage.pair();
    log.on.read = (bev): void => void (bev === b && bev.trigger(EV_READ));
    log.on.event = (bev): void => bev.free();
    b.enable(EV_READ);
    a.shutdown();
    b.trigger(EV_READ);
    await stage.settle();
    assertEquals(log.take(), ["b read 0", "b event READING|EOF"]);
    await stage.end(a);
  });
});
