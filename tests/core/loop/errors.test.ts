// How exceptions and an AbortSignal end a loop; and no callback runs inside a call.

import { describe, it } from "node:test";
import { assert, assertEquals, assertFalse, assertStrictEquals } from "@std/assert";
import {
  EV_PERSIST,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
  EVENT_BASE_COUNT_ACTIVE,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../../core/flags.ts";
import type { EventBase } from "../../../core/api/event_base.ts";
import { socketPair } from "../socket/pairs.ts";
import { Log, nothingLeft, world } from "./harness.ts";

/** The error that a loop rejects with. */
function failed(promise: Promise<unknown>): Promise<unknown> {
  return promise.then((value) => `resolved with ${value}`, (error) => error);
}

describe("an exception in a callback", () => {
  it("makes dispatch() reject with the same error, whatever its type", async () => {
    for (const thrown of [new Error("an error"), "a string", undefined, null, 0]) {
      const { sim, base } = world();
      base.timer(() => {
        throw thrown;
      }).activate(EV_TIMEOUT);
      const caught: unknown[] = [];
      await sim.run(base.dispatch().catch((error) => caught.push(error)));
      assertEquals(caught.length, 1);
      assertStrictEquals(caught[0], thrown);
    }
  });

  it("keeps active events in their places for the next dispatch", async () => {
    const { sim, base } = world({ priorities: 2 });
    const log = new Log();
    const failure = new Error("first");
    const timers = ["a", "b", "c"].map((name) =>
      base.timer(() => {
        log.lines.push(name);
        if (name === "a") throw failure;
      })
    );
    for (const timer of timers) timer.activate(EV_TIMEOUT);
    base.timer(log.note("later")).add(10);
    assertStrictEquals(await sim.run(failed(base.dispatch())), failure);
    assertEquals([log.take(), base.numEvents(EVENT_BASE_COUNT_ACTIVE), base.runningEvent], [["a"], 2, null]);
    assertEquals([base.gotExit, base.gotBreak], [false, false]);
    assertEquals([await sim.run(base.dispatch()), log.take(), sim.now()], ["empty", ["b", "c", "later"], 10]);
  });

  it("of a persistent event leaves it added, and it goes on", async () => {
    const { sim, base } = world();
    const seen: number[] = [];
    const event = base.event(null, EV_PERSIST, () => {
      seen.push(sim.now());
      if (seen.length < 3) throw new Error("again");
      event.del();
    });
    event.add(10);
    for (let i = 0; i < 2; i++) assert(await sim.run(failed(base.dispatch())) instanceof Error);
    assertEquals([await sim.run(base.dispatch()), seen], ["empty", [10, 20, 30]]);
  });

  it("of a read event leaves the bytes, and the event is reported again", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const failure = new Error("first");
    let calls = 0;
    const event = base.event(server, EV_READ | EV_PERSIST, () => {
      if (++calls === 1) throw failure;
      assertEquals(server.recv(new Uint8Array(8)), 2);
      event.del();
    });
    event.add();
    client.send("hi");
    assertStrictEquals(await sim.run(failed(base.dispatch())), failure);
    assertEquals([await sim.run(base.dispatch()), calls], ["empty", 2]);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });

  it("of a finalizer or a once-event also makes dispatch() reject", async () => {
    const { sim, base } = world();
    const failure = new Error("once");
    base.once(null, EV_TIMEOUT, () => {
      throw failure;
    });
    base.timer(() => {}).finalize(() => {
      throw failure;
    });
    assertStrictEquals(await sim.run(failed(base.dispatch())), failure);
    assertStrictEquals(await sim.run(failed(base.dispatch())), failure);
    assertEquals(await sim.run(base.dispatch()), "empty");
  });

  it("lets the base be freed", async () => {
    const { sim, base } = world();
    base.timer(() => {
      throw new Error("stop");
    }).activate(EV_TIMEOUT);
    base.timer(() => {}).add(100);
    await sim.run(failed(base.dispatch()));
    base.free();
    await nothingLeft({ sim, base });
  });

  it("leaves nothing scheduled with the host", async () => {
    const { sim, base } = world();
    base.timer(() => {}).add(100);
    base.timer(() => {
      throw new Error("stop");
    }).add(1);
    await sim.run(failed(base.dispatch()));
    assertEquals(sim.pending, 0);
  });
});

describe("while the base is not dispatching", () => {
  it("runs no callback, and bytes wait", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    const log = new Log();
    base.event(server, EV_READ, log.note("read")).add();
    base.timer(log.note("timer")).add(5);
    base.timer(log.note("active")).activate(EV_TIMEOUT);
    client.send("x");
    await sim.advance(100);
    assertEquals(log.take(), []);
    await sim.run(base.dispatch());
    assertEquals(log.take(), ["active", "read", "timer"]);
    client.close();
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("no callback runs inside another call", () => {
  it("of an event, the base or a socket, in a turn or outside", async () => {
    const { sim, base } = world();
    const [client, server] = await socketPair(sim);
    let inside = "";
    const wrong: string[] = [];
    const call = (name: string, fn: () => unknown): void => {
      inside = name;
      fn();
      inside = "";
    };
    const check = (): void => void (inside !== "" && wrong.push(inside));
    const all = (): void => {
      const event = base.event(server, EV_READ | EV_WRITE, check);
      call("add", () => event.add(0));
      call("activate", () => event.activate(EV_READ));
      call("removeTimer", () => event.removeTimer());
      const other = base.timer(check);
      call("finalize", () => other.finalize(check));
      call("once", () => base.once(null, EV_TIMEOUT, check));
      call("loopExit", () => base.loopExit());
      call("loopContinue", () => base.loopContinue());
      call("send", () => client.send("x"));
      call("recv", () => server.recv(new Uint8Array(1)));
      call("del", () => base.timer(check).del());
    };
    all();
    base.timer(all).add(5);
    base.timer(() => {}).add(20);
    const done = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    call("raise", () => sim.raise("SIGTERM"));
    assertEquals(await sim.run(done), "exit");
    const again = base.dispatch();
    await sim.advance(1);
    all();
    await sim.run(again);
    assertEquals(wrong, []);
    base.free();
    call("close", () => client.close());
    server.close();
    await nothingLeft({ sim, base });
  });
});

describe("dispatch({ signal })", () => {
  it("rejects with the reason when it is aborted while the loop waits", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("timer")).add(100);
    const controller = new AbortController();
    const done = failed(base.dispatch({ signal: controller.signal }));
    await sim.advance(10);
    const reason = new Error("enough");
    controller.abort(reason);
    assertStrictEquals(await sim.run(done), reason);
    assertEquals([sim.now(), sim.pending], [10, 0]);
    // Nothing is lost.
    assertEquals([await sim.run(base.dispatch()), log.take(), sim.now()], ["empty", ["timer"], 100]);
  });

  it("rejects at once when it was aborted before", async () => {
    const { sim, base } = world();
    const log = new Log();
    base.timer(log.note("timer")).activate(EV_TIMEOUT);
    const signal = AbortSignal.abort("before");
    assertEquals(await sim.run(failed(base.dispatch({ signal }))), "before");
    assertEquals(await sim.run(failed(base.loop(EVLOOP_NO_EXIT_ON_EMPTY, { signal }))), "before");
    assertEquals(log.take(), []);
    assertEquals(await sim.run(base.dispatch()), "empty");
  });

  it("aborted in a callback or a watcher runs no other callback, and active events keep their places", async () => {
    for (const where of ["callback", "callback that wrote", "prepare", "check"]) {
      const { sim, base } = world();
      const log = new Log();
      const controller = new AbortController();
      const abort = (): void => controller.abort(where);
      if (where === "prepare") base.watchPrepare(abort);
      else if (where === "check") base.watchCheck(abort);
      else base.timer(abort).activate(EV_TIMEOUT);
      for (const name of ["a", "b"]) base.timer(log.note(name)).activate(EV_TIMEOUT);
      const done = failed(base.dispatch({ signal: controller.signal }));
      assertEquals([await sim.run(done), log.take()], [where, []], where);
      assertEquals([await sim.run(base.dispatch()), log.take()], ["empty", ["a", "b"]], where);
    }
  });

  it("is forgotten when the loop has ended", async () => {
    const { sim, base } = world();
    const controller = new AbortController();
    assertEquals(await sim.run(base.dispatch({ signal: controller.signal })), "empty");
    const next = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    controller.abort();
    base.loopExit(5);
    assertEquals(await sim.run(next), "exit");
  });

  it("may end one loop while another base goes on", async () => {
    const { sim, base } = world();
    const other = world({ runtime: sim }).base;
    const controller = new AbortController();
    const ended: string[] = [];
    const wait = (which: EventBase, signal?: AbortSignal): Promise<unknown> => {
      which.timer(() => {}).add(50);
      return failed(which.dispatch(signal === undefined ? {} : { signal }));
    };
    const first = wait(base, controller.signal).then((result) => ended.push(`first ${result} at ${sim.now()}`));
    const second = wait(other).then((result) => ended.push(`second ${result} at ${sim.now()}`));
    await sim.advance(10);
    controller.abort("now");
    await sim.run(Promise.all([first, second]));
    assertEquals(ended, ["first now at 10", "second resolved with empty at 50"]);
    assertFalse(base.gotBreak);
  });
});
