// The graceful end: close(), shutdown(), reset().

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { BEV_EVENT_EOF, BEV_OPT_CLOSE_ON_FREE, EAGAIN, EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { ConnectOptions, InetAddress, ListenerBinding } from "../../../core/runtime.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { BusyHost, nothingLeft, world } from "../loop/harness.ts";
import { pattern } from "../socket/pairs.ts";
import { isFreed, type Rig, rig } from "./rig.ts";

/** Reads until the end or an error, and closes as a well-behaved peer does. */
async function goodPeer({ sim, peer }: Rig, bytesPerMs = Infinity): Promise<number> {
  const into = new Uint8Array(Math.min(bytesPerMs, 65_536));
  let received = 0;
  for (;;) {
    const n = peer.recv(into);
    if (n === 0) break;
    if (n > 0) received += n;
    if (n < 0 || bytesPerMs < Infinity) await sim.advance(1);
  }
  peer.close();
  return received;
}

/** The result of `close()` so far. */
function watch(promise: Promise<boolean>): { result: boolean | undefined } {
  const state: { result: boolean | undefined } = { result: undefined };
  promise.then((result) => state.result = result);
  return state;
}

describe("close()", () => {
  it("sends queued output, finishes, waits for the peer and gives true; no loop is needed", async () => {
    const made = await rig();
    const { bev } = made;
    bev.write(pattern(500_000));
    const state = watch(bev.close());
    assertEquals(await goodPeer(made), 500_000);
    await made.still(10);
    assertEquals([state.result, isFreed(bev)], [true, true]);
    await made.end();
  });

  it("waits for a peer that goes on sending, and drops its bytes", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.enable(EV_READ);
    bev.write("bye");
    const state = watch(bev.close());
    for (let i = 0; i < 200; i++) {
      peer.send(pattern(10_000));
      await made.still(1);
    }
    assertEquals([state.result, made.peerReceives()], [undefined, "bye"]);
    peer.shutdown();
    await made.still(50);
    assertEquals(state.result, true);
    await made.end();
  });

  it("keeps dispatch() running until it is done", async () => {
    const made = await rig();
    const state = watch(made.bev.close());
    made.sim.setTimer(made.sim.now() + 20, () => made.peer.shutdown());
    assertEquals([await made.sim.run(made.base.dispatch()), made.sim.now() - made.begin], ["empty", 21]);
    await made.still(0);
    assertEquals(state.result, true);
    await made.end();
  });

  it("runs no callback, whatever was active", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.enable(EV_READ);
    bev.setTimeouts(5, 5);
    peer.send("x");
    await made.still(5);
    bev.trigger(EV_READ | EV_WRITE);
    bev.triggerEvent(BEV_EVENT_EOF);
    bev.write("y");
    const closing = bev.close();
    peer.send("z");
    assertEquals(await made.during(50), []);
    assertEquals(bev.getCallbacks(), null);
    peer.close();
    assertEquals([await made.sim.run(closing), await made.during(5)], [true, []]);
    await made.end();
  });

  it("cuts a peer that does not finish by a reset after timeoutMs, and gives false", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.write("bye");
    const state = watch(bev.close({ timeoutMs: 100 }));
    await made.still(99);
    assertEquals([state.result, made.peerReceives()], [undefined, "bye"]);
    await made.still(5);
    assertEquals([state.result, peer.error?.code, isFreed(bev)], [false, "ECONNRESET", true]);
    await made.end();
  });

  it("uses 30 seconds as the default of timeoutMs", async () => {
    const made = await rig();
    const state = watch(made.bev.close());
    await made.still(29_999);
    assertEquals(state.result, undefined);
    await made.still(2);
    assertEquals(state.result, false);
    await made.end();
  });

  it("cuts a peer that does not read", async () => {
    const made = await rig();
    made.bev.write(pattern(1_000_000));
    await made.during(5);
    const state = watch(made.bev.close({ timeoutMs: 50 }));
    await made.still(49);
    assertEquals(state.result, undefined);
    await made.still(2);
    assertEquals(state.result, false);
    await made.end();
  });

  it("of 0 ms cuts at once", async () => {
    const made = await rig();
    made.bev.write("lost, maybe");
    const state = watch(made.bev.close({ timeoutMs: 0 }));
    await made.still(1);
    assertEquals(state.result, false);
    await made.end();
  });

  it("gives false when the connection had failed, or fails meanwhile", async () => {
    const before = await rig();
    before.peer.reset();
    await before.still(5);
    assertEquals(await before.sim.run(before.bev.close()), false);
    await before.end();

    const meanwhile = await rig();
    meanwhile.bev.write(pattern(1_000_000));
    const state = watch(meanwhile.bev.close());
    await meanwhile.still(20);
    meanwhile.peer.reset();
    await meanwhile.still(20);
    assertEquals(state.result, false);
    await meanwhile.end();
  });

  it("gives false if output is left and the socket has already finished writing", async () => {
    const made = await rig();
    made.bev.write("too late");
    made.bev.socket?.shutdown();
    made.peer.close();
    assertEquals(await made.sim.run(made.bev.close()), false);
    await made.end();
  });

  it("gives true when the peer has finished before", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    record.on.event = (bev) => {
      bev.write("last");
      bev.close();
    };
    bev.enable(EV_READ);
    peer.shutdown();
    assertEquals(await made.during(10), ["event READING|EOF"]);
    assertEquals([await made.sim.run(bev.close()), made.peerReceives()], [true, "last"]);
    await made.end();
  });

  it("a second time gives the same promise, whatever its options", async () => {
    const made = await rig();
    const first = made.bev.close();
    assertStrictEquals(made.bev.close({ timeoutMs: 1 }), first);
    made.peer.close();
    assertEquals(await made.sim.run(first), true);
    assertStrictEquals(made.bev.close(), first);
    await made.end();
  });

  it("unconnected frees: true when nothing was queued", async () => {
    const { sim, base } = world();
    for (const queued of ["", "queued"]) {
      const bev = new SocketBufferEvent(base, null);
      bev.write(queued);
      assertEquals([await sim.run(bev.close()), isFreed(bev)], [queued === "", true]);
    }
    await nothingLeft({ sim, base });
  });

  it("refuses a value that is not a duration", async () => {
    const made = await rig();
    for (const timeoutMs of [-1, NaN, Infinity]) assertThrows(() => made.bev.close({ timeoutMs }), RangeError);
    assertThrows(() => made.bev.close({ timeoutMs: "1" as unknown as number }), TypeError);
    assertEquals(isFreed(made.bev), false);
    await made.end();
  });

  it("refuses later writes: EPIPE, and EV_FREED once it is done", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.write("last");
    const closing = bev.close();
    const codeOf = (fn: () => unknown): string => (assertThrows(fn, EventError) as EventError).code;
    assertEquals(codeOf(() => bev.write("more")), "EPIPE");
    assertEquals(codeOf(() => bev.output.add("more")), "EV_FROZEN");
    bev.enable(EV_READ | EV_WRITE);
    bev.disable(EV_READ | EV_WRITE);
    bev.shutdown();
    assertEquals(bev.socket, null);
    assertEquals(await made.during(5), []);
    peer.close();
    assertEquals(await made.sim.run(closing), true);
    assertEquals(codeOf(() => bev.write("more")), "EV_FREED");
    await made.end();
  });

  it("is safe in every callback, and free() or reset() may follow", async () => {
    for (const then of ["", "free", "reset"] as const) {
      for (const options of [0, 4]) {
        const made = await rig({ options });
        const { bev, peer, record } = made;
        let closing: Promise<boolean> | undefined;
        const close = (): void => {
          closing = bev.close();
          if (then !== "") bev[then]();
        };
        record.on = { read: close, write: close, event: close };
        bev.enable(EV_READ);
        peer.send("x");
        bev.write("answer");
        assertEquals((await made.during(5)).length, 1);
        assert(closing !== undefined);
        if (then !== "reset") {
          await made.still(5);
          assertEquals(made.peerReceives(), "answer");
          peer.close();
        }
        assertEquals(await made.sim.run(closing), then !== "reset", then);
        await made.end();
      }
    }
  });

  it("is called by `await using`", async () => {
    const made = await rig();
    const { bev, peer } = made;
    const scope = async (): Promise<void> => {
      await using inner = bev;
      inner.write("x");
      peer.shutdown();
    };
    await made.sim.run(scope());
    assertEquals([made.peerReceives(), isFreed(bev)], ["x", true]);
    await made.end();
  });

  it("sends output that disable() held back", async () => {
    const made = await rig();
    made.bev.disable(EV_WRITE);
    made.bev.write("held");
    const closing = made.bev.close();
    made.peer.shutdown();
    assertEquals([await made.sim.run(closing), made.peerReceives()], [true, "held"]);
    await made.end();
  });

  it("after base.free() works as before", async () => {
    const made = await rig();
    made.bev.write("x");
    made.base.free();
    const closing = made.bev.close();
    made.peer.shutdown();
    assertEquals([await made.sim.run(closing), made.peerReceives()], [true, "x"]);
    made.peer.close();
    await made.sim.advance(50);
    assertEquals([made.sim.openHandles, made.sim.pending], [0, 0]);
  });
});

/** A host that resolves every name in 20 ms to the given addresses. */
class Resolving extends BusyHost {
  readonly #sim: SimRuntime;
  readonly #addresses: readonly string[];

  constructor(sim: SimRuntime, addresses: readonly string[]) {
    super(sim);
    this.#sim = sim;
    this.#addresses = addresses;
  }

  override resolve(): Promise<InetAddress[]> {
    const found = this.#addresses.map((hostname): InetAddress => ({
      hostname,
      port: 0,
      family: hostname.includes(":") ? "IPv6" : "IPv4",
    }));
    return new Promise((resolve) => this.#sim.setTimer(this.#sim.now() + 20, () => resolve(found)));
  }
}

/** A listener that never accepts its clients. */
async function deaf(sim: SimRuntime, hostname: string): Promise<ListenerBinding> {
  const sink = {
    onAccept: (): never => {
      throw new Error("nothing was to be accepted");
    },
    onError: () => {},
  };
  const listener = await sim.host(hostname).listen({ hostname, port: 80, backlog: 1 }, sink);
  listener.pauseAccept();
  const fillers = [0, 1].map(() => Socket.connect(sim, { hostname, port: 80 }));
  await sim.advance(10);
  const close = listener.close.bind(listener);
  return Object.assign(listener, {
    close(): Promise<void> {
      for (const socket of fillers) socket.reset();
      return close();
    },
  });
}

describe("close() while connecting", () => {
  /**
   * A server that records the bytes of its only client, and a bufferevent that can connect to it.
   */
  async function stage(addresses: readonly string[] = ["10.1.0.1"], hostname = "10.1.0.1") {
    const sim = simRuntime({ maxSteps: 200_000 });
    const base = new EventBase({ runtime: new Resolving(sim, addresses) });
    const listening = await ListeningSocket.listen(sim.host(hostname), { hostname, port: 80 });
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.setCallbacks({
      read: () => assert(false, "a read callback"),
      write: () => assert(false, "a write callback"),
      event: () => assert(false, "an event callback"),
    });
    let accepted: Socket | undefined;
    const sleep = (): Promise<void> => new Promise((resolve) => sim.setTimer(sim.now() + 1, resolve));
    const receives = async (): Promise<number> => {
      while (accepted === undefined) {
        const socket = listening.accept();
        if (socket !== EAGAIN) accepted = socket;
        else await sleep();
      }
      const into = new Uint8Array(65_536);
      for (let total = 0;; await sleep()) {
        let n = accepted.recv(into);
        for (; n > 0; n = accepted.recv(into)) total += n;
        if (n === 0) {
          accepted.close();
          return total;
        }
      }
    };
    const received = (): Promise<number> => sim.run(receives());
    const end = async (): Promise<void> => {
      assertEquals(isFreed(bev), true);
      await listening.close();
      await nothingLeft({ sim, base }, sim.host(hostname));
    };
    return { sim, base, bev, listening, receives, received, end };
  }

  for (
    const [what, to, addresses] of [
      ["to an address", { hostname: "10.1.0.1", port: 80 }, []],
      ["to a name that has to be resolved", { hostname: "there", port: 80 }, ["10.1.0.1"]],
      ["to the second address of a name", { hostname: "there", port: 80 }, ["fd00::dead", "10.1.0.1"]],
      ["to the first of two that answers", { hostname: "there", port: 80 }, ["10.1.0.9", "10.1.0.1"]],
    ] as const
  ) {
    it(`${what} waits for the connection, delivers the output and gives true; no loop is needed`, async () => {
      for (const ms of [0, 0.5, 15, 21]) {
        const made = await stage(addresses);
        const { sim, bev } = made;
        const silent = await deaf(sim, "10.1.0.9");
        bev.connect(to);
        bev.write(pattern(300_000));
        await sim.advance(ms);
        const state = watch(bev.close());
        assertEquals(await made.received(), 300_000, `closed after ${ms} ms`);
        await sim.advance(10);
        assertEquals(state.result, true);
        await silent.close();
        await made.end();
      }
    });
  }

  it("keeps dispatch() running until it is done", async () => {
    const made = await stage();
    made.bev.connect({ hostname: "10.1.0.1", port: 80 });
    made.bev.write("x");
    const state = watch(made.bev.close());
    const received = made.receives();
    assertEquals(await made.sim.run(made.base.dispatch()), "empty");
    assertEquals([state.result, await received], [true, 1]);
    await made.end();
  });

  it("is called by `await using`", async () => {
    const made = await stage();
    const scope = async (): Promise<void> => {
      await using inner = made.bev;
      inner.connect({ hostname: "10.1.0.1", port: 80 });
      inner.write("hello");
    };
    const [received] = await made.sim.run(Promise.all([made.receives(), scope()]));
    assertEquals(received, 5);
    await made.end();
  });

  it("keeps to the rate limit when the connection is there", async () => {
    const made = await stage();
    const { sim, bev } = made;
    bev.setRateLimit(
      new TokenBucketConfig({ readRate: 1, readBurst: 1, writeRate: 100, writeBurst: 100, tickMs: 10 }),
    );
    bev.connect({ hostname: "10.1.0.1", port: 80 });
    bev.write(pattern(1000));
    const begin = sim.now();
    const state = watch(bev.close());
    assertEquals(await made.received(), 1000);
    assert(sim.now() - begin >= 90, `it took ${sim.now() - begin} ms`);
    await sim.advance(5);
    assertEquals(state.result, true);
    await made.end();
  });

  it("goes on after a later free(); a later reset() cancels the attempt: false", async () => {
    for (const then of ["free", "reset"] as const) {
      const made = await stage();
      const { sim, bev } = made;
      bev.connect({ hostname: "10.1.0.1", port: 80 });
      bev.write("hello");
      const state = watch(bev.close());
      bev[then]();
      if (then === "free") assertEquals(await made.received(), 5);
      await sim.advance(10);
      assertEquals(state.result, then === "free");
      await made.end();
    }
  });

  it("gives false when the attempt fails", async () => {
    const attempts: [ConnectOptions, string[]][] = [
      [{ hostname: "10.1.0.1", port: 81 }, []],
      [{ hostname: "there", port: 80 }, []],
      [{ hostname: "there", port: 81 }, ["10.1.0.1", "fd00::dead"]],
      [{ hostname: "10.1.0.1", port: 80, signal: AbortSignal.abort() }, []],
    ];
    for (const [to, addresses] of attempts) {
      for (const ms of [0, 50]) {
        const made = await stage(addresses);
        made.bev.connect(to);
        made.bev.write("lost");
        await made.sim.advance(ms);
        assertEquals(await made.sim.run(made.bev.close()), false);
        await made.end();
      }
    }
  });

  it("is bounded by the shortest of the connect timeout, the write timeout and its own timeoutMs", async () => {
    const cases = [
      { connect: 100, write: null, close: 30_000 },
      { connect: 30_000, write: null, close: 100 },
      { connect: undefined, write: 100, close: 30_000 },
    ];
    for (const { connect, write, close } of cases) {
      const made = await stage();
      const { sim, bev } = made;
      const silent = await deaf(sim, "10.1.0.9");
      bev.setTimeouts(null, write);
      bev.connect({ hostname: "10.1.0.9", port: 80, timeoutMs: connect });
      bev.write("lost");
      const state = watch(bev.close({ timeoutMs: close }));
      await sim.advance(99);
      assertEquals(state.result, undefined);
      await sim.advance(2);
      assertEquals(state.result, false);
      await silent.close();
      await made.end();
    }
  });

  it("has its whole timeoutMs for the output once it is connected", async () => {
    const made = await stage();
    const { sim, bev } = made;
    bev.setTimeouts(null, 50);
    bev.connect({ hostname: "10.1.0.1", port: 80 });
    bev.write(pattern(1_000_000));
    const state = watch(bev.close());
    await sim.advance(500);
    assertEquals([state.result, await made.received()], [undefined, 1_000_000]);
    await sim.advance(10);
    assertEquals(state.result, true);
    await made.end();
  });

  it("cancels the attempt at once if nothing was written", async () => {
    const made = await stage();
    const { sim, bev, listening } = made;
    const silent = await deaf(sim, "10.1.0.9");
    bev.connect({ hostname: "10.1.0.9", port: 80 });
    const state = watch(bev.close());
    await sim.advance(0);
    assertEquals([state.result, listening.accept()], [true, EAGAIN]);
    await silent.close();
    await made.end();
  });
});

describe("shutdown()", () => {
  it("finishes writing once the output has left; receiving goes on", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    bev.enable(EV_READ);
    bev.write(pattern(300_000));
    bev.shutdown();
    bev.shutdown();
    let received = 0;
    let ended = false;
    const calls: string[] = [];
    const into = new Uint8Array(65_536);
    for (let ms = 0; ms < 100 && !ended; ms++) {
      for (let n = peer.recv(into); n >= 0 && !ended; n = peer.recv(into)) {
        received += n;
        ended = n === 0;
      }
      calls.push(...await made.during(1));
    }
    assertEquals([received, ended, calls], [300_000, true, ["write 0"]]);
    peer.send("answer");
    peer.shutdown();
    assertEquals(await made.during(10), ["read 6", "event READING|EOF"]);
    assertEquals(record.received.toString(), "answer");
    await made.end();
  });

  it("refuses later writes: EPIPE", async () => {
    const made = await rig();
    made.bev.shutdown();
    const error = assertThrows(() => made.bev.write("x"), EventError) as EventError;
    assertEquals(error.code, "EPIPE");
    assertThrows(() => made.bev.output.add("x"), EventError);
    await made.during(5);
    assertEquals(made.peer.recv(new Uint8Array(1)), 0);
    await made.end();
  });

  it("before the connection takes effect once it is there", async () => {
    const { sim, base } = world();
    const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
    const bev = new SocketBufferEvent(base, null, 1);
    bev.write("x");
    bev.shutdown();
    bev.connect(listening.address as { hostname: string; port: number });
    base.loopExit(10);
    await sim.run(base.dispatch());
    const socket = listening.accept();
    assert(typeof socket !== "number");
    await sim.advance(5);
    assertEquals([socket.recv(new Uint8Array(5)), socket.recv(new Uint8Array(5))], [1, 0]);
    bev.free();
    socket.close();
    await listening.close();
    await nothingLeft({ sim, base });
  });

  it("and then close() waits for the peer only", async () => {
    const made = await rig();
    made.bev.write("x");
    made.bev.shutdown();
    const closing = made.bev.close();
    made.sim.setTimer(made.sim.now() + 20, () => made.peer.close());
    assertEquals(await made.sim.run(closing), true);
    await made.end();
  });
});

describe("reset()", () => {
  it("ends at once: the peer gets ECONNRESET, and no callback runs", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.enable(EV_READ);
    bev.write("lost");
    bev.reset();
    bev.reset();
    assertEquals([await made.during(5), peer.error?.code, isFreed(bev)], [[], "ECONNRESET", true]);
    await made.end();
  });

  it("ends a close() that waits, with false", async () => {
    const made = await rig();
    made.bev.write(pattern(1_000_000));
    const state = watch(made.bev.close());
    await made.still(20);
    made.bev.reset();
    await made.still(0);
    assertEquals(state.result, false);
    await made.end();
  });

  it("while connecting cancels the attempt", async () => {
    const { sim, base } = world();
    const bev = new SocketBufferEvent(base, null);
    bev.connect({ hostname: "localhost", port: 9 });
    bev.reset();
    await nothingLeft({ sim, base });
  });
});
