// keepAlive as an option: the calls of the transport, and wrong values.

import { describe, it } from "node:test";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import type { KeepAliveOptions } from "../../../core/serve/keep_alive.ts";
import { connect, connectNow, serve } from "../../../core/serve/serve.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { SimConnection } from "../../../runtimes/sim/connection.ts";

/** The calls of transports while `body` runs. */
async function told(body: (sim: SimRuntime) => Promise<unknown>): Promise<unknown[][]> {
  const calls: unknown[][] = [];
  const { setKeepAlive } = SimConnection.prototype;
  SimConnection.prototype.setKeepAlive = (...all: unknown[]): void => void calls.push(all);
  try {
    const sim = simRuntime();
    await sim.run(body(sim));
  } finally {
    SimConnection.prototype.setKeepAlive = setKeepAlive;
  }
  return calls;
}

async function meet(
  sim: SimRuntime,
  server: boolean | KeepAliveOptions | undefined,
  client: boolean | KeepAliveOptions | undefined,
): Promise<void> {
  const listening = await serve({ runtime: sim, port: 0, keepAlive: server }, {});
  const bev = await connect({ runtime: sim, port: listening.port, keepAlive: client });
  await bev.close();
  await listening.close();
}

describe("keepAlive", () => {
  it("is set on each connection once, in whole seconds, and not at all if it is off", async () => {
    assertEquals(await told((sim) => meet(sim, undefined, false)), []);
    assertEquals(await told((sim) => meet(sim, true, undefined)), [[true, 0, undefined, undefined]]);
    assertEquals(await told((sim) => meet(sim, {}, { delayMs: 1_001, intervalMs: 1, count: 3 })), [
      [true, 2_000, 1_000, 3],
      [true, 0, undefined, undefined],
    ]);
  });

  it("detects a crashed host after the delay and its probes, although nothing is sent", async () => {
    const sim = simRuntime();
    const host = sim.host("there");
    const server = await sim.run(serve({ runtime: host, hostname: "0.0.0.0", port: 7 }, {}));
    let closed = "";
    const keepAlive = { delayMs: 10_000, intervalMs: 1_000, count: 3 };
    await sim.run(connect({ runtime: sim, hostname: "there", port: 7, keepAlive }, {
      close: (_bev, reason) => void (closed = `${reason?.code} at ${Math.round(sim.now() / 1000)} s`),
    }));
    await sim.advance(5_000);
    host.crash();
    await sim.advance(7_900);
    assertEquals([closed, server.connections], ["", 1]);
    await sim.advance(200);
    assertEquals(closed, "ETIMEDOUT at 13 s");
  });

  it("is refused when it is out of range or of the wrong type", () => {
    const runtime = simRuntime();
    const wrong: [keepAlive: unknown, error: new () => Error, words: string][] = [
      ["yes", TypeError, "keepAlive is neither a boolean nor an object"],
      [null, TypeError, "keepAlive"],
      [{ delay: 5 }, TypeError, "did you mean keepAlive.delayMs?"],
      [{ delayMs: "5" }, TypeError, "keepAlive.delayMs is not a number"],
      [{ delayMs: 0 }, RangeError, "keepAlive.delayMs is not above 0"],
      [{ intervalMs: 32_767_001 }, RangeError, "keepAlive.intervalMs"],
      [{ count: 128 }, RangeError, "keepAlive.count"],
      [{ count: 1.5 }, RangeError, "keepAlive.count is not a whole number"],
    ];
    for (const [keepAlive, error, words] of wrong) {
      assertThrows(() => connectNow({ runtime, port: 9, keepAlive: keepAlive as boolean }), error, words);
    }
  });

  it("is EV_UNSUPPORTED if a host does not support a named option", async () => {
    for (
      const [keepAlive, capability] of [
        [{ delayMs: 1_000 }, "keepAliveDelay"],
        [{ intervalMs: 1_000 }, "keepAliveProbes"],
        [{ count: 3 }, "keepAliveProbes"],
      ] as const
    ) {
      const runtime = simRuntime();
      runtime.capabilities[capability] = false;
      assertEquals(assertThrows(() => connectNow({ runtime, port: 9, keepAlive }), EventError).code, "EV_UNSUPPORTED");
      await assertRejects(() => serve({ runtime, port: 0, keepAlive }, {}), EventError, "keep-alive");
      await runtime.advance(5);
      assertEquals([runtime.openHandles, runtime.pending], [0, 0]);
      await runtime.run(meet(runtime, true, true));
    }
  });
});
