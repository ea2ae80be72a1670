// EventHandle.ref() and unref(): which events keep the loop and the process running.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { EV_PERSIST, EV_READ, EV_TIMEOUT, EVENT_BASE_COUNT_ADDED } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { EventHandle } from "../../../core/api/event_handle.ts";
import type { TimerToken } from "../../../core/runtime.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { socketPair } from "../socket/pairs.ts";
import { BusyHost, Log, nothingLeft, world } from "./harness.ts";

/** A host that records whether its timers keep the process alive. */
class WatchedHost extends BusyHost {
  readonly timers: boolean[] = [];

  override setTimer(deadline: number, fn: () => void, background?: boolean): TimerToken {
    this.timers.push(background !== true);
    return super.setTimer(deadline, fn);
  }
}

describe("an event that is unref'd", () => {
  it("does not keep dispatch() running: a timer, a common timeout, a signal, one on a socket, one without a source", async () => {
    const made: ((base: EventBase, cb: () => void) => EventHandle | Promise<EventHandle>)[] = [
      (base, cb) => added(base.timer(cb), 100),
      (base, cb) => added(base.event(null, EV_PERSIST, cb), 100),
      (base, cb) => added(base.timer(cb), base.initCommonTimeout(100)),
      (base, cb) => added(base.signal("SIGUSR1", cb)),
      (base, cb) => added(base.event(null, EV_READ | EV_PERSIST, cb)),
      (base, cb) => added(base.event(null, EV_READ, cb), 100),
    ];
    for (const make of made) {
      const { sim, base } = world();
      const log = new Log();
      const event = await make(base, log.note("called"));
      event.unref();
      assertEquals([await sim.run(base.dispatch()), sim.now(), log.take()], ["empty", 0, []]);
      // It counts, and waits, as before.
      assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED) > 0, true);
      event.ref();
      base.loopExit(50);
      assertEquals([await sim.run(base.dispatch()), sim.now()], ["exit", 50]);
      event.free();
      assertEquals(await sim.run(base.dispatch()), "empty");
      await nothingLeft({ sim, base });
    }
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const event = added(base.event(server, EV_READ | EV_PERSIST, () => server.recv(new Uint8Array(8))), 1000);
    event.unref();
    assertEquals(await sim.run(base.dispatch()), "empty");
    event.free();
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });

  it("is called while another event keeps the loop running", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const begin = sim.now();
    const log = new Log();
    const tick = base.event(null, EV_PERSIST, () => log.note(`tick at ${sim.now() - begin}`)());
    const read = base.event(server, EV_READ | EV_PERSIST, () => {
      log.note(`read at ${sim.now() - begin}`)();
      server.recv(new Uint8Array(8));
    });
    const signal = base.signal("SIGUSR1", log.note("signal"));
    tick.unref();
    read.unref();
    tick.add(20);
    read.add();
    signal.add();
    signal.unref();
    base.timer(() => {
      client.send("x");
      sim.raise("SIGUSR1");
    }).add(49);
    base.timer(log.note("last")).add(55);
    assertEquals([await sim.run(base.dispatch()), sim.now() - begin], ["empty", 55]);
    assertEquals(log.take(), ["tick at 20", "tick at 40", "signal", "read at 50", "last"]);
    for (const event of [tick, read, signal]) event.free();
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });

  it("ends a loop that waits for it alone, from outside and in a callback; ref() keeps it", async () => {
    const { sim, base } = world();
    const timer = added(base.event(null, EV_PERSIST, () => {}), 10);
    const running = base.dispatch();
    await sim.advance(25);
    timer.unref();
    assertEquals([await sim.run(running), sim.now()], ["empty", 25]);
    timer.ref();
    base.timer(() => timer.unref()).add(20);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["empty", 45]);
    timer.ref();
    timer.unref();
    timer.unref();
    timer.ref();
    base.loopExit(50);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["exit", 95]);
    timer.free();
    await nothingLeft({ sim, base });
  });

  it("stays unref'd when it is deleted and added again; assign() makes it a new one", async () => {
    const { sim, base } = world();
    const timer = base.timer(() => {});
    timer.unref();
    for (let i = 0; i < 3; i++) {
      timer.add(10);
      timer.add(20);
      assertEquals(await sim.run(base.dispatch()), "empty");
      timer.del();
    }
    timer.add(10);
    timer.removeTimer();
    timer.assign(base, null, 0, () => {});
    timer.add(10);
    const begin = sim.now();
    assertEquals([await sim.run(base.dispatch()), sim.now() - begin], ["empty", 10]);
    await nothingLeft({ sim, base });
  });

  it("still runs if it is active, or due together with another event", async () => {
    const { sim, base } = world();
    const log = new Log();
    const event = base.timer(log.note("activated"));
    event.unref();
    event.activate(EV_TIMEOUT);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["activated"]]);
    base.timer(log.note("held")).add(10);
    event.add(10);
    assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["held", "activated"]]);
    await nothingLeft({ sim, base });
  });

  it("needs no timer of the host that keeps the process alive, unless another event does", async () => {
    const sim = simRuntime();
    const host = new WatchedHost(sim);
    const base = new EventBase({ runtime: host });
    const [client, server] = await socketPair(sim);
    // A socket keeps the process alive by itself, or does not: the loop goes on either way.
    const read = added(base.event(server, EV_READ | EV_PERSIST, () => {}));
    const running = base.dispatch();
    await sim.advance(1);
    assertEquals(host.timers, []);
    const tick = added(base.event(null, EV_PERSIST, () => {}), 10);
    const signal = added(base.signal("SIGUSR1", () => {}));
    await sim.advance(1);
    assertEquals(host.timers.splice(0), [true]);
    tick.unref();
    await sim.advance(1);
    assertEquals(host.timers.splice(0), [], "the pending timer also serves the signal");
    signal.unref();
    await sim.advance(25);
    assertEquals(new Set(host.timers.splice(0)), new Set([false]));
    const held = added(base.timer(() => {}), 5);
    await sim.advance(1);
    assertEquals(host.timers.splice(0), [true]);
    held.del();
    signal.ref();
    await sim.advance(20);
    assertEquals(new Set(host.timers.splice(0)), new Set([true]));
    for (const event of [read, tick, signal]) event.free();
    assertEquals(await sim.run(running), "empty");
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

function added(event: EventHandle, timeout?: Parameters<EventHandle["add"]>[0]): EventHandle {
  event.add(timeout);
  return event;
}
