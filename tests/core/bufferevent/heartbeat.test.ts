// heartbeat(): it detects a vanished peer in time, and does not disturb a live one. In virtual
// time.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { BEV_OPT_CLOSE_ON_FREE, EV_READ, EV_WRITE, EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { heartbeat, type HeartbeatOptions } from "../../../core/api/heartbeat.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { connect, connectNow, serve, type ServeCallbacks, type ServeOptions } from "../../../core/serve/serve.ts";
import { reconnect } from "../../../core/serve/reconnect.ts";
import { type SimHost, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";

const OPTIONS = { everyMs: 1_000, send: "PING\n", timeoutMs: 3_000 };

/** A server on another host, which answers PING. */
async function start(
  options: ServeOptions = {},
  callbacks: ServeCallbacks = {},
): Promise<{ sim: SimRuntime; host: SimHost; heard: string[]; end(): Promise<void> }> {
  const sim = simRuntime({ tcpTimeoutMs: Infinity });
  const host = sim.host("there");
  const heard: string[] = [];
  await sim.run(serve({ runtime: host, hostname: "0.0.0.0", port: 7, ...options }, {
    line(bev, line) {
      const text = new TextDecoder().decode(line);
      heard.push(`${text} at ${Math.round(sim.now() / 100) / 10}`);
      if (text === "PING") bev.write("PONG\n");
    },
    ...callbacks,
  }));
  const end = async (): Promise<void> => {
    host.crash();
    await sim.advance(60_000);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  };
  return { sim, host, heard, end };
}

const TO = { hostname: "there", port: 7 };

describe("heartbeat()", () => {
  it("sends to a silent peer, and not while data arrives", async () => {
    const { sim, heard, end } = await start();
    let closed = "";
    const bev = await sim.run(connect({ runtime: sim, ...TO }, {
      read: (bev) => bev.input.drain(bev.input.length),
      close: (_bev, reason) => void (closed = `${reason?.code}`),
    }));
    heartbeat(bev, OPTIONS);
    await sim.advance(5_500);
    assertEquals(heard.map((each) => each.replace(/ at .*/, "")), ["PING", "PING", "PING", "PING", "PING"]);
    heard.length = 0;
    for (let i = 0; i < 20; i++) {
      // The server also answers this with data.
      bev.write("PING\n");
      await sim.advance(400);
    }
    assertEquals([heard.length, closed], [20, ""]);
    bev.free();
    await end();
  });

  it("detects a crashed host within timeoutMs, whenever it crashes", async () => {
    for (let i = 0; i < 12; i++) {
      const { sim, host } = await start();
      let closed: [code: string | undefined, at: number] | undefined;
      const bev = await sim.run(connect({ runtime: sim, ...TO }, {
        read: (bev) => bev.input.drain(bev.input.length),
        close: (_bev, reason) => void (closed = [reason?.code, sim.now()]),
      }));
      heartbeat(bev, OPTIONS);
      await sim.advance(2_000 + i * 130);
      const crashed = sim.now();
      host.crash();
      await sim.advance(10_000);
      assertEquals(closed?.[0], "ETIMEDOUT");
      const took = (closed?.[1] ?? Infinity) - crashed;
      assert(took <= OPTIONS.timeoutMs + 3 && took >= OPTIONS.timeoutMs - OPTIONS.everyMs - 3, `${took} ms`);
      assertEquals([sim.openHandles, sim.pending], [0, 0]);
    }
  });

  it("lets reconnect() connect again: the loss has the code", async () => {
    const { sim, host } = await start();
    const losses: (string | undefined)[] = [];
    const link = reconnect({ runtime: sim, ...TO, timeoutMs: 500 }, {
      open: (bev) => void heartbeat(bev, OPTIONS),
      read: (bev) => bev.input.drain(bev.input.length),
      lost: (error) => void losses.push(error?.code),
    });
    await sim.run(link.ready());
    host.crash();
    await sim.advance(3_200);
    assertEquals(losses[0], "ETIMEDOUT");
    await sim.run(link.close());
  });

  it("is reported to the event callback, with both directions disabled", async () => {
    const { sim, host } = await start();
    const events: string[] = [];
    const bev = await sim.run(connect({ runtime: sim, ...TO }, {
      read: (bev) => bev.input.drain(bev.input.length),
      event: (bev, what, error) => void events.push(`${what} ${error?.code} ${bev.enabled}`),
    }));
    heartbeat(bev, OPTIONS);
    host.crash();
    await sim.advance(20_000);
    assertEquals(events, ["67 ETIMEDOUT 0"]);
    bev.free();
  });

  it("does not give up a peer while we do not read: the input is full or disabled, or the program is busy", async () => {
    const { sim, host } = await start({}, {
      line: undefined as never,
      open: (bev) => void bev.write(new Uint8Array(200_000)),
    });
    let closed = "";
    let takes = false;
    const bev = await sim.run(connect({ runtime: sim, ...TO, stallTimeoutMs: null }, {
      read: (bev) => takes && bev.input.drain(bev.input.length),
      close: (_bev, reason) => void (closed = `${reason?.code}`),
    }));
    heartbeat(bev, OPTIONS);
    await sim.advance(60_000);
    assertEquals([closed, bev.input.length], ["", 65_536]);
    bev.disable(EV_READ);
    bev.input.drain(bev.input.length);
    await sim.advance(60_000);
    assertEquals(closed, "");
    bev.enable(EV_READ);
    host.crash();
    await sim.advance(2_000);
    takes = true;
    bev.input.drain(bev.input.length);
    await sim.advance(5_000);
    assertEquals(closed, "ETIMEDOUT");
  });

  it("gives up a peer that takes no output, although our full output stops us from reading", async () => {
    const sim = simRuntime({ tcpTimeoutMs: Infinity });
    let closed: [string | undefined, number] | undefined;
    let asked = 0;
    const server = await sim.run(serve({ runtime: sim, hostname: "0.0.0.0", port: 7 }, {
      open(bev) {
        // More output would only be queued.
        heartbeat(bev, { ...OPTIONS, send: () => void asked++ });
        bev.write(new Uint8Array(1_000_000));
      },
      close: (_bev, reason) => void (closed = [reason?.code, sim.now()]),
    }));
    const host = sim.host("client");
    const client = await sim.run(connect({ runtime: host, hostname: "10.0.0.1", port: 7 }, { read() {} }));
    await sim.advance(500);
    const [bev] = [...server];
    assert(bev!.output.length > 0);
    host.crash();
    await sim.advance(10_000);
    assertEquals(closed?.[0], "ETIMEDOUT");
    assert(closed![1] < 4_500, `${closed![1]}`);
    assertEquals(asked, 0);
    void client;
    await sim.run(server.close());
  });

  it("stops by stop() and with the bufferevent, and beat() counts as a sign of life", async () => {
    const { sim, host, heard } = await start();
    let closed = 0;
    const bev = await sim.run(connect({ runtime: sim, ...TO }, { read() {}, close: () => void closed++ }));
    const beating = heartbeat(bev, { everyMs: 1_000, send: () => {}, timeoutMs: 2_000 });
    assertEquals(assertThrows(() => heartbeat(bev, OPTIONS), EventError).code, "EV_BUSY");
    for (let i = 0; i < 10; i++) {
      await sim.advance(1_900);
      beating.beat();
    }
    assertEquals(closed, 0);
    beating.stop();
    beating.stop();
    beating.beat();
    host.crash();
    await sim.advance(60_000);
    assertEquals([closed, heard.length], [0, 0]);
    heartbeat(bev, OPTIONS);
    bev.reset();
    assertEquals(assertThrows(() => heartbeat(bev, OPTIONS), EventError).code, "EV_FREED");
    await sim.advance(1);
    assertEquals([sim.openHandles, sim.pending, closed], [0, 0, 1]);
  });

  it("counts from the moment of the connection", async () => {
    const sim = simRuntime({ latencyMs: 5_000 });
    const server = await sim.run(serve({ runtime: sim, port: 7 }, { read: (bev) => bev.output.addBuffer(bev.input) }));
    const log: string[] = [];
    const bev = connectNow({ runtime: sim, port: 7 }, {
      open: () => void log.push(`open at ${sim.now()}`),
      read() {},
      close: (_bev, reason) => void log.push(`close ${reason?.code}`),
    });
    heartbeat(bev, { everyMs: 1_000, send: "x", timeoutMs: 15_000 });
    await sim.advance(60_000);
    assertEquals(log, ["open at 10000"]);
    bev.free();
    await sim.run(server.close({ graceMs: 0 }));
  });

  it("works on a pair, and with a function that sends; an exception of it is treated like a callback's", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const loop = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    const [near, far] = bufferEventPair(base);
    near.enable(EV_READ | EV_WRITE);
    far.enable(EV_READ);
    const asked: BufferEvent[] = [];
    const failure = new Error("cannot ask");
    heartbeat(near, {
      everyMs: 100,
      send(bev) {
        asked.push(bev);
        if (asked.length === 3) throw failure;
      },
      timeoutMs: 1_000,
    });
    assertEquals(await sim.run(loop.catch((error) => error)), failure);
    assertEquals([asked.length, asked[0] === near, sim.now()], [3, true, 300]);
  });

  it("does not keep a loop running if its connection does not", async () => {
    const { sim, end } = await start();
    const base = new EventBase({ runtime: sim });
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.connect(TO);
    heartbeat(bev, OPTIONS);
    const done = base.dispatch();
    await sim.advance(100);
    bev.socket?.unref();
    assertEquals(await sim.run(done), "empty");
    bev.free();
    await end();
  });

  it("refuses wrong options", () => {
    const [near] = bufferEventPair(new EventBase({ runtime: simRuntime() }));
    const wrong: [options: object, error: new () => Error, words: string][] = [
      [{ ...OPTIONS, everyMs: 0 }, RangeError, "everyMs is not above 0"],
      [{ ...OPTIONS, timeoutMs: 1_000 }, RangeError, "timeoutMs is not above everyMs, 1000: received 1000"],
      [{ ...OPTIONS, send: 5 }, TypeError, "send is not bytes, text or a function"],
      [{ everyMs: 1, timeoutMs: 2 }, TypeError, "send is not bytes"],
      [{ send: "x", timeoutMs: 2 }, TypeError, "everyMs is not a number"],
      [{ ...OPTIONS, interval: 5 }, TypeError, "unknown option interval"],
    ];
    for (const [options, error, words] of wrong) {
      assertThrows(() => heartbeat(near, options as HeartbeatOptions), error, words);
    }
    assertThrows(() => heartbeat({} as SocketBufferEvent, OPTIONS), TypeError);
  });
});
