// The common turn of a server has a function of its own. It must do the same as the general turn, which runs if there is
// a check watcher.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { SocketBufferEvent } from "../../../core/mod.ts";
import { EV_CLOSED, EV_PERSIST, EV_READ, EV_TIMEOUT, EV_WRITE } from "../../../core/flags.ts";
import type { EventBaseOptions } from "../../../core/api/event_base.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { socketPair } from "../socket/pairs.ts";
import { Log, type World, world } from "./harness.ts";

interface Rig extends World {
  readonly client: Socket;
  readonly server: Socket;
  readonly log: Log;
}

/** Runs a test in both kinds of turn, each without a timer and with one that is not due. */
async function inEachTurn(options: EventBaseOptions, test: (rig: Rig, name: string) => Promise<void>): Promise<void> {
  for (const general of [false, true]) {
    for (const withTimer of [false, true]) {
      const made = world(options);
      const [client, server] = await socketPair(made.sim);
      if (general) made.base.watchCheck(() => {});
      if (withTimer) made.base.timer(() => {}).add(1e6);
      await test({ ...made, client, server, log: new Log() }, `general: ${general}, timer: ${withTimer}`);
      made.base.free();
    }
  }
}

/** The first callback activates two timers and calls `then`. Returns the order of callbacks and prepare watchers. */
async function twoMore({ sim, base, client, server, log }: Rig, then: () => void): Promise<string> {
  base.watchPrepare(log.note("|"));
  const more = ["a", "b"].map((name) => base.timer(log.note(name)));
  base.event(server, EV_READ | EV_PERSIST, () => {
    server.recv(new Uint8Array(1));
    log.lines.push("read");
    for (const timer of more) timer.activate(EV_TIMEOUT);
    then();
  }).add();
  const done = base.dispatch().then(log.note("end"));
  await sim.advance(5);
  log.take();
  client.send("x");
  await sim.advance(5);
  const order = log.take().join(" ");
  base.loopBreak();
  await sim.run(done);
  return order;
}

describe("a turn with one ready event", () => {
  it("ends after its callback if that calls loopBreak()", async () => {
    await inEachTurn({}, async (rig, name) => {
      assertEquals(await twoMore(rig, () => rig.base.loopBreak()), "read end", name);
    });
  });

  it("polls before other callbacks if its callback calls loopContinue()", async () => {
    await inEachTurn({}, async (rig, name) => {
      assertEquals(await twoMore(rig, () => rig.base.loopContinue()), "read | a b |", name);
    });
  });

  it("counts its callback for maxDispatchCallbacks", async () => {
    await inEachTurn({ maxDispatchCallbacks: 1, minDispatchPriority: 0 }, async (rig, name) => {
      assertEquals(await twoMore(rig, () => {}), "read | a | b |", name);
    });
    await inEachTurn({ maxDispatchCallbacks: 2, minDispatchPriority: 0 }, async (rig, name) => {
      assertEquals(await twoMore(rig, () => {}), "read a | b |", name);
    });
  });

  it("counts the time of its callback for maxDispatchIntervalMs", async () => {
    await inEachTurn({ maxDispatchIntervalMs: 5, minDispatchPriority: 0 }, async (rig, name) => {
      const { sim } = rig;
      const now = sim.now.bind(sim);
      let worked = 0;
      sim.now = () => now() + worked;
      assertEquals(await twoMore(rig, () => worked = 7), "read | a b |", name);
    });
  });

  for (const how of ["loopBreak()", "abort()"]) {
    it(`sends its output and calls no write callback after ${how}`, async () => {
      await inEachTurn({}, async ({ sim, base, client, server, log }, name) => {
        const stop = new AbortController();
        const bev = new SocketBufferEvent(base, server);
        bev.setCallbacks({
          read: () => {
            bev.input.drain(1);
            bev.write("ok");
            log.lines.push("read");
            if (how === "abort()") stop.abort(new Error("aborted"));
            else base.loopBreak();
          },
          write: log.note("write"),
        });
        bev.enable(EV_READ | EV_WRITE);
        const done = base.dispatch({ signal: stop.signal }).catch((error: Error) => error.message);
        await sim.advance(5);
        log.take();
        client.send("x");
        await sim.advance(5);
        const got = client.recv(new Uint8Array(9));
        assertEquals([log.take(), await done, got], [["read"], how === "abort()" ? "aborted" : "break", 2], name);
        client.close();
        bev.free();
        server.close();
      });
    });
  }
});

/** Adds a timer in the poll in which bytes come: it fires when it is due. */
async function checkTimer({ sim, base }: World, client: Socket, name?: string): Promise<void> {
  base.dispatch();
  await sim.advance(5);
  let fired = -1;
  const timer = base.timer(() => fired = sim.now());
  const added = sim.now() + 1;
  client.send("x");
  sim.setTimer(added, () => timer.add(20));
  await sim.advance(100);
  assertEquals(fired, added + 20, name);
}

describe("bytes that no event waits for", () => {
  it("do not delay a timer that was added in the same poll", async () => {
    await inEachTurn({}, async (rig, name) => {
      rig.base.event(rig.server, EV_CLOSED | EV_PERSIST, () => {}).add();
      await checkTimer(rig, rig.client, name);
    });
  });

  it("do not delay a timer of a bufferevent that waits only to write", async () => {
    const made = world();
    const [client, server] = await socketPair(made.sim);
    const bev = new SocketBufferEvent(made.base, server);
    bev.enable(EV_WRITE);
    bev.disable(EV_READ);
    bev.write(new Uint8Array(5_000_000));
    await checkTimer(made, client);
    made.base.free();
  });

  it("do not keep a loop running whose last event was deleted in the same poll", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const event = base.event(server, EV_CLOSED | EV_PERSIST, () => {});
    event.add();
    event.unref();
    const held = base.timer(() => {});
    held.add(1000);
    let result = "";
    base.dispatch().then((why) => result = why);
    await sim.advance(5);
    client.send("x");
    sim.setTimer(sim.now() + 1, () => held.del());
    await sim.advance(10);
    assertEquals(result, "empty");
    base.free();
  });
});
