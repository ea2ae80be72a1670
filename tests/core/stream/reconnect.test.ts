// reconnect(): a client that connects again, in virtual time.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { type Link, reconnect, type ReconnectCallbacks, type ReconnectOptions } from "../../../core/serve/reconnect.ts";
import { serve, type ServeCallbacks, type Server } from "../../../core/serve/serve.ts";
import { stopOnSignals } from "../../../core/serve/stop_on_signals.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";

const PORT = 7_000;

interface Loss {
  readonly code: string | undefined;
  readonly delayMs: number;
  readonly attempt: number;
  readonly at: number;
}

class Stage {
  readonly sim: SimRuntime;
  readonly losses: Loss[] = [];
  readonly log: string[] = [];
  /** The number of connections of the server, and its maximum. */
  open = 0;
  most = 0;
  accepted = 0;
  #server: Server | null = null;

  constructor(options: Parameters<typeof simRuntime>[0] = {}) {
    this.sim = simRuntime(options);
  }

  async serve(callbacks: ServeCallbacks = { read: (bev) => bev.output.addBuffer(bev.input) }): Promise<Server> {
    return this.#server = await this.sim.run(serve({ runtime: this.sim, hostname: "127.0.0.1", port: PORT }, {
      ...callbacks,
      open: (bev) => {
        this.accepted++;
        this.most = Math.max(this.most, ++this.open);
        return callbacks.open?.(bev);
      },
      close: () => void this.open--,
    }));
  }

  /** Acts as if the process of the server ends. */
  async kill(): Promise<void> {
    await this.sim.run(this.#server!.close({ graceMs: 0 }));
  }

  link(options: ReconnectOptions = {}, callbacks: ReconnectCallbacks = {}): Link {
    return reconnect({ runtime: this.sim, port: PORT, ...options }, {
      ...callbacks,
      open: (bev) => {
        this.log.push(`open at ${this.sim.now()}`);
        return callbacks.open?.(bev);
      },
      close: (bev, reason) => {
        this.log.push(`close ${reason?.code}`);
        return callbacks.close?.(bev, reason);
      },
      lost: (error, delayMs, attempt) => {
        this.log.push(`lost ${error?.code}`);
        this.losses.push({ code: error?.code, delayMs, attempt, at: this.sim.now() });
        return callbacks.lost?.(error, delayMs, attempt);
      },
    });
  }

  /** Checks that nothing is left, even later. */
  async end(link: Link): Promise<void> {
    await this.sim.run(link.close());
    const losses = this.losses.length;
    await this.sim.advance(100_000);
    assertEquals([link.state, link.connection, this.losses.length], ["closed", null, losses]);
    if (this.#server !== null) await this.sim.run(this.#server.close({ graceMs: 0 }));
    await this.sim.advance(10_000);
    assertEquals([this.sim.openHandles, this.sim.pending], [0, 0]);
  }
}

describe("the back-off of reconnect()", () => {
  it("has delays within its jitter for 20 attempts, and waits exactly as long as it reports", async () => {
    for (const backoff of [{}, { initialMs: 10, maxMs: 1_000, factor: 3, jitter: 0.2 }, { jitter: 0 }, { jitter: 1 }]) {
      const stage = new Stage();
      const link = stage.link({ backoff });
      assertEquals([link.state, link.attempts, link.connection], ["connecting", 0, null]);
      while (stage.losses.length < 20) await stage.sim.advance(1_000);
      const { initialMs = 100, maxMs = 30_000, factor = 2, jitter = 0.5 } = backoff as
        & ReconnectOptions["backoff"]
        & object;
      stage.losses.slice(0, 20).forEach(({ code, delayMs, attempt, at }, i) => {
        assertEquals([code, attempt], ["ECONNREFUSED", i + 1]);
        const middle = Math.min(maxMs, initialMs * factor ** i);
        assert(delayMs >= middle * (1 - jitter) && delayMs <= middle * (1 + jitter), `${i}: ${delayMs}`);
        const next = stage.losses[i + 1];
        // An attempt takes 2 ms, a round trip.
        if (next !== undefined) assert(Math.abs(next.at - at - delayMs - 2) < 1e-6, `${next.at - at} for ${delayMs}`);
      });
      // Clients that were lost together connect again at different times.
      const early = stage.losses.filter(({ delayMs }, i) => delayMs < Math.min(maxMs, initialMs * factor ** i));
      if (jitter > 0) assert(early.length > 2 && early.length < stage.losses.length - 2, `${early.length} are early`);
      const { delays, equal } = spread(stage.losses, initialMs, maxMs, factor);
      if (jitter > 0) assert(equal < delays / 2, "jitter changes the delays");
      else assertEquals(equal, delays);
      assertEquals([link.state, link.attempts], ["waiting", stage.losses.length]);
      await stage.end(link);
    }
  });

  it("starts again after stableMs, and not before", async () => {
    const stage = new Stage();
    const link = stage.link({ backoff: { jitter: 0 }, stableMs: 1_000 });
    await stage.sim.advance(100 + 200 + 10);
    assertEquals(stage.losses.map(({ delayMs }) => delayMs), [100, 200, 400]);
    await stage.serve();
    await stage.sim.run(link.ready());
    assertEquals([link.attempts, link.state], [3, "open"]);
    await stage.sim.advance(990);
    await stage.kill();
    await stage.sim.advance(5);
    assertEquals([stage.losses.at(-1)?.delayMs, link.attempts], [800, 4]);
    await stage.serve();
    await stage.sim.run(link.ready());
    await stage.sim.advance(1_010);
    assertEquals(link.attempts, 0);
    await stage.kill();
    await stage.sim.advance(5);
    assertEquals([stage.losses.at(-1)?.delayMs, stage.losses.at(-1)?.attempt, link.attempts], [100, 1, 1]);
    await stage.end(link);
  });

  it("counts a server that accepts and resets as failed until it is stable", async () => {
    const stage = new Stage();
    await stage.serve({ open: (bev) => bev.reset() });
    const link = stage.link({ backoff: { jitter: 0 } });
    await stage.sim.advance(100 + 200 + 400 + 800 + 50);
    assertEquals(stage.losses.map(({ code, delayMs }) => `${code} ${delayMs}`), [
      "ECONNRESET 100",
      "ECONNRESET 200",
      "ECONNRESET 400",
      "ECONNRESET 800",
      "ECONNRESET 1600",
    ]);
    assertEquals([stage.accepted, stage.most], [5, 1]);
    await stage.end(link);
  });

  it("is the same for the same seed", async () => {
    const runs: number[][] = [];
    for (const seed of [1, 1, 2]) {
      const stage = new Stage({ seed });
      const link = stage.link();
      await stage.sim.advance(60_000);
      runs.push(stage.losses.map(({ delayMs }) => delayMs));
      await stage.end(link);
    }
    assertEquals(runs[0], runs[1]);
    assert(String(runs[0]) !== String(runs[2]));
  });
});

/** The number of delays that are exactly those without jitter. */
function spread(
  losses: readonly Loss[],
  initialMs: number,
  maxMs: number,
  factor: number,
): { delays: number; equal: number } {
  const equal = losses.filter(({ delayMs }, i) => delayMs === Math.min(maxMs, initialMs * factor ** i)).length;
  return { delays: losses.length, equal };
}

describe("maxAttempts of reconnect()", () => {
  it("ends the link: lost has no delay, and ready() rejects with the last error", async () => {
    const stage = new Stage();
    const link = stage.link({ maxAttempts: 3 });
    const waiting = link.ready();
    const error = await assertRejects(() => stage.sim.run(waiting), EventError);
    await stage.sim.advance(1);
    assertEquals([error.code, link.state, link.attempts], ["ECONNREFUSED", "closed", 3]);
    assertEquals(stage.losses.map(({ delayMs }) => delayMs === Infinity), [false, false, true]);
    assertStrictEquals(await link.ready().catch((reason) => reason), error);
    await stage.end(link);
  });

  it("counts from 0 again after a connection that was stable", async () => {
    const stage = new Stage();
    await stage.serve();
    const link = stage.link({ maxAttempts: 2, stableMs: 100, backoff: { jitter: 0 } });
    await stage.sim.advance(200);
    await stage.kill();
    await stage.sim.advance(1_000);
    assertEquals(
      stage.losses.map(({ code, delayMs }) => `${code} ${delayMs}`),
      [
        "undefined 100",
        "ECONNREFUSED 200",
        "ECONNREFUSED Infinity",
      ].map((each, i) => i === 0 ? `${stage.losses[0]?.code} 100` : each),
    );
    assertEquals(link.state, "closed");
    await stage.end(link);
  });

  it("gives a reason even if the peer has closed cleanly", async () => {
    const stage = new Stage();
    await stage.serve({ open: (bev) => void bev.close() });
    const link = stage.link({ maxAttempts: 1 });
    await stage.sim.advance(100);
    assertEquals(stage.losses.map(({ code, delayMs }) => [code, delayMs]), [[undefined, Infinity]]);
    assertEquals((await assertRejects(() => link.ready(), EventError)).code, "ECONNRESET");
    await stage.end(link);
  });
});

describe("a lost connection of reconnect()", () => {
  it("is reported to close, then to lost, and there are never two connections at a time", async () => {
    const stage = new Stage({ latencyMs: 20 });
    await stage.serve();
    const link = stage.link({ backoff: { initialMs: 0 } });
    for (let i = 0; i < 5; i++) {
      const bev = await stage.sim.run(link.ready());
      assertStrictEquals(link.connection, bev);
      if (i % 2 === 0) bev.reset();
      else void bev.close();
      await stage.sim.advance(200);
    }
    const each = ["close undefined", "lost undefined"];
    assertEquals(stage.log.filter((line) => !line.startsWith("open")), [...each, ...each, ...each, ...each, ...each]);
    assertEquals([stage.accepted, stage.most], [6, 1]);
    await stage.end(link);
  });

  it("gives lost undefined if the peer has finished, and an error with the code if it has failed", async () => {
    const stage = new Stage();
    const peers: SocketBufferEvent[] = [];
    await stage.serve({ open: (bev) => void peers.push(bev) });
    const link = stage.link({ backoff: { initialMs: 10 } });
    await stage.sim.run(link.ready());
    await stage.sim.advance(5);
    void peers[0]!.close();
    await stage.sim.advance(50);
    peers[1]!.reset();
    await stage.sim.advance(5);
    assertEquals(stage.losses.map(({ code }) => code), [undefined, "ECONNRESET"]);
    await stage.end(link);
  });

  it("drops its unsent output", async () => {
    const stage = new Stage({ latencyMs: 10 });
    let received = "";
    const peers: SocketBufferEvent[] = [];
    await stage.serve({
      open: (bev) => void peers.push(bev),
      read(bev) {
        received += bev.input.toString();
        bev.input.drain(bev.input.length);
      },
    });
    const link = stage.link({ backoff: { initialMs: 10 } });
    const bev = await stage.sim.run(link.ready());
    await stage.sim.advance(50);
    bev.write("one ");
    await stage.sim.advance(50);
    peers[0]!.reset();
    bev.write("two ");
    await stage.sim.advance(500);
    link.connection!.write("three");
    await stage.sim.advance(50);
    assertEquals(received, "one three");
    await stage.end(link);
  });

  it("is replaced after a handler or lost has failed", async () => {
    const stage = new Stage();
    await stage.serve();
    const errors: unknown[] = [];
    let fails = true;
    const link = stage.link({ backoff: { initialMs: 10 } }, {
      open() {
        if (fails) throw new Error("open");
      },
      lost() {
        if (fails) throw new Error("lost");
      },
      error: (error) => void errors.push((error as Error).message),
    });
    const waiting = link.ready();
    await stage.sim.advance(15);
    fails = false;
    const bev = await stage.sim.run(waiting);
    assertStrictEquals(link.connection, bev);
    assertEquals([stage.losses[0]?.code, ...errors.slice(0, 2)], ["EV_HANDLER_FAILED", "open", "lost"]);
    await stage.end(link);
  });

  it("is made once the name can be resolved", async () => {
    const stage = new Stage();
    const link = stage.link({ hostname: "db.internal", backoff: { jitter: 0 } });
    await stage.sim.advance(110);
    assertEquals(stage.losses.map(({ code }) => code), ["ENOTFOUND", "ENOTFOUND"]);
    const host = stage.sim.host("db.internal");
    const server = await stage.sim.run(serve({ runtime: host, hostname: "0.0.0.0", port: PORT }, { read() {} }));
    const bev = await stage.sim.run(link.ready());
    assertEquals((bev.remoteAddress as { hostname: string }).hostname, host.addresses[0]);
    await stage.sim.run(link.close());
    await stage.sim.run(server.close());
    await stage.end(link);
  });

  it("is followed by another attempt if one takes longer than timeoutMs", async () => {
    const stage = new Stage({ latencyMs: 1_000 });
    await stage.serve();
    const link = stage.link({ timeoutMs: 50, backoff: { initialMs: 100, jitter: 0 } });
    await stage.sim.advance(220);
    assertEquals(stage.losses.map(({ code, at }) => `${code} ${at - stage.losses[0]!.at}`), [
      "ETIMEDOUT 0",
      "ETIMEDOUT 150",
    ]);
    await stage.end(link);
  });
});

describe("ready() of a link", () => {
  it("resolves for all waiters, at once if there is a connection, and forgets those that are aborted", async () => {
    const stage = new Stage();
    const link = stage.link({ backoff: { initialMs: 50 } });
    const stop = new AbortController();
    const reason = new Error("tired");
    const waiting = Array.from({ length: 1_000 }, () => link.ready());
    const tired = link.ready({ signal: stop.signal }).catch((error) => error);
    stage.sim.setTimer(10, () => stop.abort(reason));
    assertStrictEquals(await stage.sim.run(tired), reason);
    await stage.serve();
    const all = await stage.sim.run(Promise.all(waiting));
    assertEquals([new Set(all).size, link.state], [1, "open"]);
    assertStrictEquals(await link.ready(), all[0]);
    assertStrictEquals(await link.ready({ signal: stop.signal }).catch((error) => error), reason);
    await stage.end(link);
    assertEquals((await assertRejects(() => link.ready(), EventError)).code, "ECANCELED");
  });

  it("does not return a connection that open has ended, or that is being closed", async () => {
    const stage = new Stage();
    await stage.serve();
    let first = true;
    const link = stage.link({ backoff: { initialMs: 10 } }, {
      open(bev) {
        if (first) void bev.close();
        first = false;
      },
    });
    const bev = await stage.sim.run(link.ready());
    await stage.sim.advance(5);
    assertEquals([stage.accepted, stage.losses.length], [2, 1]);
    void bev.close();
    const next = link.ready();
    assert(await stage.sim.run(next) !== bev);
    await stage.end(link);
  });
});

describe("the end of a link", () => {
  it("leaves nothing on the signal, which may live longer", async () => {
    for (const maxAttempts of [1, Infinity]) {
      const stage = new Stage();
      const listeners = new Set<unknown>();
      const signal = {
        aborted: false,
        reason: undefined,
        addEventListener: (_type: "abort", listener: () => void) => void listeners.add(listener),
        removeEventListener: (_type: "abort", listener: () => void) => void listeners.delete(listener),
      };
      const link = stage.link({ signal, maxAttempts });
      assertEquals(listeners.size, 1);
      await stage.sim.advance(5);
      if (maxAttempts > 1) await stage.sim.run(link.close());
      assertEquals([link.state, listeners.size], ["closed", 0]);
      await stage.end(link);
    }
  });

  /** Brings a link into a state. */
  const states: Record<string, (stage: Stage, signal: AbortSignal) => Promise<Link>> = {
    async connecting(stage, signal) {
      await stage.serve();
      return stage.link({ signal });
    },
    async "connecting again"(stage, signal) {
      const link = stage.link({ signal, backoff: { initialMs: 10, jitter: 0 } });
      await stage.sim.advance(12.5);
      assertEquals([link.state, stage.losses.length], ["connecting", 1]);
      return link;
    },
    async open(stage, signal) {
      await stage.serve();
      const link = stage.link({ signal });
      await stage.sim.run(link.ready());
      return link;
    },
    async stable(stage, signal) {
      await stage.serve();
      const link = stage.link({ signal, stableMs: 0 });
      await stage.sim.run(link.ready());
      return link;
    },
    async waiting(stage, signal) {
      const link = stage.link({ signal });
      await stage.sim.advance(5);
      assertEquals(link.state, "waiting");
      return link;
    },
    async closed(stage, signal) {
      const link = stage.link({ signal });
      await stage.sim.run(link.close());
      return link;
    },
    async failed(stage, signal) {
      const link = stage.link({ signal, maxAttempts: 1 });
      await stage.sim.advance(5);
      assertEquals(link.state, "closed");
      return link;
    },
    async "being lost"(stage, signal) {
      await stage.serve();
      const link = stage.link({ signal });
      (await stage.sim.run(link.ready())).free();
      assertEquals([link.state, link.connection], ["waiting", null]);
      return link;
    },
  };
  for (const [state, reach] of Object.entries(states)) {
    it(`follows the signal and close() at once when it is ${state}, and nothing is left`, async () => {
      for (const how of ["abort", "close"] as const) {
        const stage = new Stage();
        const stop = new AbortController();
        const link = await reach(stage, stop.signal);
        const waiting = link.state === "open" || link.state === "closed" ? null : link.ready().catch((error) => error);
        const reason = new Error("enough");
        if (how === "abort") stop.abort(reason);
        else void link.close();
        assertEquals(link.state, "closed");
        if (state === "waiting") {
          await stage.sim.advance(1);
          assertEquals(stage.sim.pending, 0, "the timer of the next attempt is left");
        }
        const error = await waiting as EventError | null;
        if (error !== null) {
          assertEquals([error.code, error.cause], ["ECANCELED", how === "abort" ? reason : undefined]);
        }
        await stage.end(link);
      }
    });
  }

  it("is immediate if the signal was aborted before", async () => {
    const stage = new Stage();
    const link = stage.link({ signal: AbortSignal.abort("no") });
    assertEquals([link.state, link.attempts, stage.sim.openHandles], ["closed", 0, 0]);
    assertEquals((await assertRejects(() => link.ready(), EventError)).cause, "no");
    await stage.end(link);
  });

  it("lets the connection deliver its output, and calls close once, but not lost", async () => {
    const stage = new Stage({ latencyMs: 10 });
    let received = 0;
    await stage.serve({
      read(bev) {
        received += bev.input.length;
        bev.input.drain(bev.input.length);
      },
    });
    const link = stage.link();
    (await stage.sim.run(link.ready())).write(new Uint8Array(200_000));
    await stage.sim.run(link.close());
    assertEquals([received, stage.log.slice(1)], [200_000, ["close undefined"]]);
    await stage.end(link);
  });

  it("is forced after its grace, which a second call can only shorten", async () => {
    const stage = new Stage();
    await stage.serve({ open: (bev) => bev.disable(0x02), event() {} });
    const link = stage.link();
    await stage.sim.run(link.ready());
    const begun = stage.sim.now();
    const first = link.close({ graceMs: 1_000 });
    assertStrictEquals(link.close({ graceMs: 5_000 }), first);
    void link.close({ graceMs: 200 });
    await stage.sim.run(first);
    assert(stage.sim.now() - begun <= 210, `${stage.sim.now() - begun}`);
    await stage.end(link);
  });

  it("is awaited by await using, and follows a signal with stopOnSignals()", async () => {
    const stage = new Stage();
    await stage.serve();
    const link = stage.link();
    await stage.sim.run(link.ready());
    stopOnSignals(link, { graceMs: 100 });
    stage.sim.raise("SIGTERM");
    await stage.sim.advance(50);
    assertEquals(link.state, "closed");
    await stage.sim.run(link[Symbol.asyncDispose]());
    await stage.end(link);
  });
});

describe("reconnect()", () => {
  it("keeps the loop of a given base running until it is closed", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    let losses = 0;
    const link = reconnect({ base, port: PORT }, {
      lost() {
        if (++losses === 3) void link.close();
      },
    });
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals([losses, sim.pending, sim.openHandles], [3, 0, 0]);
  });

  it("throws at once for wrong options, and leaves nothing", async () => {
    const sim = simRuntime();
    const wrong: [options: object, error: new () => Error, words: string][] = [
      [{ port: 0 }, RangeError, "port"],
      [{ backoff: { initial: 5 } }, TypeError, "did you mean backoff.initialMs?"],
      [{ backoff: { initialMs: -1 } }, RangeError, "backoff.initialMs"],
      [{ backoff: { maxMs: Infinity } }, RangeError, "backoff.maxMs"],
      [{ backoff: { factor: 0.5 } }, RangeError, "backoff.factor is not 1 or more"],
      [{ backoff: { jitter: 1.5 } }, RangeError, "backoff.jitter is not 0 to 1"],
      [{ backoff: 5 }, TypeError, "backoff is not an object"],
      [{ stableMs: -1 }, RangeError, "stableMs"],
      [{ maxAttempts: 0 }, RangeError, "maxAttempts is not 1 or more"],
      [{ maxAttempts: "3" }, TypeError, "maxAttempts is not a number"],
      [{ signal: {} }, TypeError, "AbortSignal"],
      [{ maxAttemps: 3 }, TypeError, "did you mean maxAttempts?"],
      [{ idleTimeoutMs: -1 }, RangeError, "idle"],
    ];
    for (const [options, error, words] of wrong) {
      assertThrows(() => reconnect({ runtime: sim, port: PORT, ...options }), error, words);
    }
    assertThrows(() => reconnect({ port: 1 }, { losst() {} } as object), TypeError, "did you mean lost?");
    assertThrows(() => reconnect({ port: 1 }, { lost: 1 } as object), TypeError, "lost");
    await sim.advance(10);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });
});
