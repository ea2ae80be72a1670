// connectNow(): the bufferevent exists before the connection.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { type ConnectionCallbacks, connectNow, serve } from "../../../core/serve/serve.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";

const CLOSED_PORT = 9;

async function echo(sim: SimRuntime): Promise<{ port: number; close(): Promise<void> }> {
  const server = await sim.run(serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
    read: (bev) => bev.output.addBuffer(bev.input),
  }));
  return { port: server.port as number, close: () => sim.run(server.close({ graceMs: 0 })) };
}

/** The calls of the callbacks, in order. */
function noted(sim: SimRuntime): { log: string[]; callbacks: ConnectionCallbacks } {
  const log: string[] = [];
  return {
    log,
    callbacks: {
      open: (bev) => void log.push(`open ${bev.remoteAddress !== undefined} at ${sim.now()}`),
      read: (bev) => {
        log.push(`read ${bev.input.toString()}`);
        bev.input.drain(bev.input.length);
      },
      event: (_bev, what) => void log.push(`event ${what}`),
      close: (_bev, reason) => void log.push(`close ${reason?.code}`),
    },
  };
}

describe("connectNow()", () => {
  it("sends bytes that were written before the connection, and calls open first", async () => {
    const sim = simRuntime({ latencyMs: 5 });
    const server = await echo(sim);
    const { log, callbacks } = noted(sim);
    const bev = connectNow({ runtime: sim, port: server.port }, callbacks);
    assertEquals([bev.remoteAddress, bev.write("hello")], [undefined, true]);
    await sim.advance(100);
    assertEquals(log, ["open true at 10", "read hello"]);
    assertEquals(await sim.run(bev.close()), true);
    await sim.advance(10);
    assertEquals(log.slice(2), ["close undefined"]);
    await server.close();
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("passes a failed attempt to close, once, and not to event", async () => {
    const sim = simRuntime();
    const { log, callbacks } = noted(sim);
    const bev = connectNow({ runtime: sim, port: CLOSED_PORT }, callbacks);
    const { signal } = bev;
    bev.write("lost");
    await sim.advance(100);
    assertEquals(log, ["close ECONNREFUSED"]);
    assertEquals([signal.aborted, sim.openHandles, sim.pending], [true, 0, 0]);
  });

  it("bounds the attempt by timeoutMs, writeTimeoutMs and the signal", async () => {
    const sim = simRuntime({ latencyMs: 1000 });
    const server = await echo(sim);
    const stop = new AbortController();
    for (
      const [options, code] of [
        [{ timeoutMs: 50 }, "ETIMEDOUT"],
        [{ writeTimeoutMs: 50 }, "ETIMEDOUT"],
        [{ signal: stop.signal }, "ECANCELED"],
      ] as const
    ) {
      const { log, callbacks } = noted(sim);
      connectNow({ runtime: sim, port: server.port, ...options }, callbacks);
      sim.setTimer(sim.now() + 50, () => stop.abort());
      await sim.advance(60);
      assertEquals(log, [`close ${code}`]);
    }
    await server.close();
    await sim.advance(10_000);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("does not count the idle timeout before the connection is there", async () => {
    const sim = simRuntime({ latencyMs: 500 });
    const server = await echo(sim);
    const { log, callbacks } = noted(sim);
    connectNow({ runtime: sim, port: server.port, idleTimeoutMs: 100 }, { ...callbacks, event: null as never });
    await sim.advance(1_050);
    assertEquals(log, ["open true at 1000"]);
    await sim.advance(100);
    assertEquals(log.slice(1), ["close ETIMEDOUT"]);
    await server.close();
  });

  it("cancels the attempt at free() and reset(), and calls close", async () => {
    for (const end of ["free", "reset"] as const) {
      const sim = simRuntime();
      const server = await echo(sim);
      const { log, callbacks } = noted(sim);
      connectNow({ runtime: sim, port: server.port }, callbacks)[end]();
      await sim.advance(100);
      assertEquals(log, ["close undefined"]);
      await server.close();
      assertEquals([sim.openHandles, sim.pending], [0, 0]);
    }
  });

  it("delivers the output if close() is called before the connection", async () => {
    const sim = simRuntime({ latencyMs: 5 });
    let received = "";
    const server = await sim.run(serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
      read(bev) {
        received += bev.input.toString();
        bev.input.drain(bev.input.length);
      },
    }));
    const { log, callbacks } = noted(sim);
    const bev = connectNow({ runtime: sim, port: server.port }, callbacks);
    bev.write("goodbye");
    assertEquals(await sim.run(bev.close()), true);
    await sim.advance(10);
    assertEquals([received, log], ["goodbye", ["close undefined"]]);
    await sim.run(server.close());
  });

  it("has views from the beginning, which reject with the error of the attempt", async () => {
    const sim = simRuntime({ latencyMs: 5 });
    const server = await echo(sim);
    const { log, callbacks } = noted(sim);
    const bev = connectNow({ runtime: sim, port: server.port }, callbacks);
    const line = bev.lines({ text: true }).next();
    bev.write("one\n");
    assertEquals(await sim.run(line), { done: false, value: "one" });
    bev.free();
    const refused = connectNow({ runtime: sim, port: CLOSED_PORT }, callbacks);
    const error = await assertRejects(() => sim.run(refused.lines().next()), EventError);
    await sim.advance(10);
    assertEquals([error.code, log], ["ECONNREFUSED", ["open true at 10", "close undefined", "close ECONNREFUSED"]]);
    await server.close();
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("resets the connection when open fails, as connect() does", async () => {
    const sim = simRuntime();
    const server = await echo(sim);
    const seen: unknown[] = [];
    const failure = new Error("no");
    connectNow({ runtime: sim, port: server.port }, {
      open() {
        throw failure;
      },
      error: (error) => void seen.push(error),
      close: (_bev, reason) => void seen.push(reason?.code),
    });
    await sim.advance(100);
    assertEquals(seen.length, 2);
    assert(seen.includes(failure) && seen.includes("EV_HANDLER_FAILED"));
    await server.close();
  });

  it("throws at once for wrong options, and runs no callback", async () => {
    const sim = simRuntime();
    const { log, callbacks } = noted(sim);
    assertThrows(() => connectNow({ runtime: sim, port: 1, idleTimeoutMs: -1 }, callbacks), RangeError);
    assertThrows(() => connectNow({ runtime: sim, port: 70_000 }, callbacks), RangeError);
    assertThrows(() => connectNow({ runtime: sim, prot: 1 } as object, callbacks), TypeError, "did you mean port?");
    const base = new EventBase({ runtime: sim });
    base.free();
    assertThrows(() => connectNow({ base, port: 1 }, callbacks), EventError);
    await sim.advance(10);
    assertEquals(log, []);
  });

  it("has the types of its context", () => {
    const callbacks: ConnectionCallbacks<{ n: number }> = { open: (bev) => void (bev.context = { n: 1 }) };
    const make = (): SocketBufferEvent<{ n: number }> => connectNow({ port: 1 }, callbacks);
    assertEquals(typeof make, "function");
  });
});
