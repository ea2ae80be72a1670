// No source of events starves the others, or the host.

import { describe, it } from "node:test";
import { assert, assertEquals, assertLess } from "@std/assert";
import { EV_PERSIST, EV_READ, EV_TIMEOUT, EV_WRITE } from "../../../core/flags.ts";
import { socketPair } from "../socket/pairs.ts";
import { Log, nothingLeft, world } from "./harness.ts";

describe("a callback that activates itself for ever", () => {
  it("does not starve sockets, timers, signals and the host's own timers", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const log = new Log();
    let count = 0;
    const greedy = base.timer(() => {
      count++;
      greedy.activate(EV_TIMEOUT);
    });
    greedy.activate(EV_TIMEOUT);
    base.event(server, EV_READ, log.note("socket")).add();
    base.timer(log.note("timer")).add(2);
    const signal = base.signal("SIGTERM", () => {
      log.lines.push("signal");
      base.loopBreak();
    });
    signal.add();
    client.send("x");
    sim.setTimer(sim.now() + 3, () => {
      log.lines.push("host");
      sim.raise("SIGTERM");
    });
    assertEquals(await sim.run(base.dispatch()), "break");
    assertEquals(log.take(), ["socket", "timer", "host", "signal"]);
    assert(count > 1000);
    greedy.free();
    signal.free();
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("a timer of 0 that is added again for ever", () => {
  it("does not starve sockets and other timers", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const log = new Log();
    const greedy = base.timer(() => greedy.add(0));
    greedy.add(0);
    base.event(server, EV_READ, log.note("socket")).add();
    base.timer(() => base.loopBreak()).add(2);
    client.send("x");
    assertEquals([await sim.run(base.dispatch()), log.take()], ["break", ["socket"]]);
    greedy.free();
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("a socket that always has data", () => {
  it("does not starve another socket and timers", async () => {
    const { sim, base } = world();
    const [floodEnd, flooded] = await socketPair(sim);
    const [quietEnd, quiet] = await socketPair(sim);
    const log = new Log();
    let received = 0;
    const chunk = new Uint8Array(32_768);
    base.event(floodEnd, EV_WRITE | EV_PERSIST, () => void floodEnd.send(chunk)).add();
    // It reads a byte each time, and so is readable for ever.
    base.event(flooded, EV_READ | EV_PERSIST, () => void (received += flooded.recv(new Uint8Array(1)))).add();
    base.event(quiet, EV_READ, log.note("quiet")).add();
    base.timer(log.note("timer")).add(5);
    base.timer(() => base.loopExit()).add(8);
    quietEnd.send("x");
    assertEquals(await sim.run(base.dispatch()), "exit");
    assertEquals(log.take(), ["quiet", "timer"]);
    assert(received > 100);
    for (const socket of [floodEnd, flooded, quietEnd, quiet]) socket.reset();
    await nothingLeft({ sim, base });
  });
});

describe("ten thousand timers due at once", () => {
  it("all fire, in order, and do not starve sockets", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const fired: number[] = [];
    let readAfter = -1;
    for (let i = 0; i < 10_000; i++) {
      base.timer(() => {
        fired.push(i);
        // The bytes arrive while the timers run.
        if (i === 10) client.send("x");
      }).add(5);
    }
    base.event(server, EV_READ, () => readAfter = fired.length).add();
    let hostAt = -1;
    sim.setTimer(sim.now() + 5, () => sim.defer(() => hostAt = fired.length));
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(fired, Array.from({ length: 10_000 }, (_, i) => i));
    assert(readAfter > 0);
    assertLess(hostAt, 10_000);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });

  it("do not prevent a socket from being read before the last of them has run", async () => {
    // Time does not pass while the simulator works: the bytes have already arrived when the timers
    // are due.
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    let fired = 0;
    let readAfter = -1;
    for (let i = 0; i < 10_000; i++) base.timer(() => void fired++).add(1);
    base.event(server, EV_READ, () => readAfter = fired).add();
    client.send("x");
    assertEquals(await sim.run(base.dispatch()), "empty");
    assertEquals(fired, 10_000);
    assertLess(readAfter, 10_000);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("a hundred sockets with data", () => {
  it("are served in turn, each once before any twice", async () => {
    const { sim, base } = world();
    const served: number[] = [];
    const ends = [];
    for (let i = 0; i < 100; i++) {
      const [client, server] = await socketPair(sim);
      ends.push(client, server);
      const event = base.event(server, EV_READ | EV_PERSIST, () => {
        served.push(i);
        server.recv(new Uint8Array(1));
        if (served.filter((other) => other === i).length === 3) event.del();
      });
      event.add();
      client.send("abc");
    }
    await sim.advance(1);
    await sim.run(base.dispatch());
    for (let round = 0; round < 3; round++) {
      assertEquals(new Set(served.slice(round * 100, round * 100 + 100)).size, 100);
    }
    for (const socket of ends) socket.close();
    await nothingLeft({ sim, base });
  });
});
