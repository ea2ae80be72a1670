// The simulator's clock: advance(), run(), the order within an instant, and the turns that promises get.

import { describe, it } from "node:test";
import { clearImmediate, setImmediate } from "node:timers";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EV_READ, EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await assertRejects(() => promise, EventError);
  return (error as EventError).code;
}

/** Settles after a number of turns of the microtask queue. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await undefined;
}

describe("sim.advance()", () => {
  it("moves the clock by exactly the span, with nothing to do", async () => {
    const sim = simRuntime();
    assertEquals(sim.now(), 0);
    await sim.advance(12.5);
    await sim.advance(0);
    assertEquals(sim.now(), 12.5);
  });

  it("runs timers at their deadlines, in order, those of one deadline in the order in which they were set", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    for (const [name, deadline] of [["c", 30], ["a", 10], ["b", 20], ["a2", 10], ["late", 31]] as const) {
      sim.setTimer(deadline, () => log.push(`${name}@${sim.now()}`));
    }
    await sim.advance(30);
    assertEquals(log, ["a@10", "a2@10", "b@20", "c@30"]);
    assertEquals(sim.pending, 1);
    await sim.advance(1);
    assertEquals(log.at(-1), "late@31");
  });

  it("runs a timer with a deadline in the past in the same instant", async () => {
    const sim = simRuntime();
    await sim.advance(5);
    let at = -1;
    sim.setTimer(1, () => (at = sim.now()));
    assertEquals(at, -1);
    await sim.advance(0);
    assertEquals(at, 5);
  });

  it("runs timers that are set on the way, up to the end of the span", async () => {
    const sim = simRuntime();
    const times: number[] = [];
    const again = (): void => {
      times.push(sim.now());
      sim.setTimer(sim.now() + 3, again);
    };
    sim.setTimer(3, again);
    await sim.advance(10);
    assertEquals(times, [3, 6, 9]);
    assertEquals(sim.now(), 10);
  });

  it("forgets a cleared timer, also from a callback of the same instant, and one that has fired", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    const first = sim.setTimer(1, () => {
      log.push("first");
      sim.clearTimer(second);
      sim.clearTimer(first);
    });
    const second = sim.setTimer(1, () => log.push("second"));
    await sim.advance(2);
    sim.clearTimer(first);
    assertEquals(log, ["first"]);
    assertEquals(sim.pending, 0);
  });

  it("keeps 200,000 timers in order when half of them are cleared", async () => {
    const sim = simRuntime();
    const tokens: ReturnType<typeof sim.setTimer>[] = [];
    let fired = 0;
    let last = -1;
    for (let i = 0; i < 200_000; i++) {
      // Each moment costs a hundred turns of the microtask queue, so the timers share 1,009 moments.
      const deadline = (i * 7919) % 1009;
      tokens.push(sim.setTimer(deadline, () => {
        fired++;
        assert(sim.now() === deadline);
        // Timers of one moment run in the order in which they were set.
        const rank = deadline * 200_000 + i;
        assert(rank > last);
        last = rank;
      }));
    }
    for (let i = 0; i < tokens.length; i += 2) sim.clearTimer(tokens[i] ?? {});
    assertEquals(sim.pending, 100_000);
    await sim.advance(200_000);
    assertEquals(fired, 100_000);
  });

  it("rejects with the error of a callback, and goes on with the rest in the next call", async () => {
    const sim = simRuntime();
    const boom = new Error("boom");
    const log: string[] = [];
    sim.setTimer(5, () => {
      throw boom;
    });
    sim.setTimer(5, () => log.push("same instant"));
    sim.setTimer(7, () => log.push("later"));
    sim.defer(() => log.push("deferred"));
    const error = await sim.advance(10).catch((reason: unknown) => reason);
    assert(error === boom);
    assertEquals([sim.now(), log.join()], [5, "deferred"]);
    await sim.advance(2);
    assertEquals(log, ["deferred", "same instant", "later"]);
  });

  it("rejects with EV_BUSY while another one is in progress, and works again afterwards", async () => {
    const sim = simRuntime();
    const first = sim.advance(10);
    assertEquals(await codeOf(sim.advance(1)), "EV_BUSY");
    assertEquals(await codeOf(sim.run(Promise.resolve())), "EV_BUSY");
    await first;
    await sim.advance(1);
    assertEquals(sim.now(), 11);
  });

  it("rejects a span that is not a number of milliseconds", async () => {
    const sim = simRuntime();
    for (const span of [-1, NaN, Infinity]) await assertRejects(() => sim.advance(span), RangeError);
    assertEquals(sim.now(), 0);
  });
});

describe("sim.defer()", () => {
  it("runs after functions that are due in the instant, in order, and then functions that it defers", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    sim.setTimer(1, () => {
      log.push("timer 1");
      sim.defer(() => {
        log.push("deferred 1");
        sim.defer(() => log.push("deferred 3"));
        sim.setTimer(0, () => log.push("timer 3"));
      });
    });
    sim.setTimer(1, () => {
      log.push("timer 2");
      sim.defer(() => log.push("deferred 2"));
    });
    await sim.advance(1);
    assertEquals(log, ["timer 1", "timer 2", "deferred 1", "deferred 2", "timer 3", "deferred 3"]);
    assertEquals(sim.now(), 1);
  });

  it("is not starved by timers that are always due", async () => {
    const sim = simRuntime();
    let rounds = 0;
    const again = (): void => {
      rounds++;
      sim.setTimer(0, again);
    };
    again();
    let deferred = -1;
    sim.defer(() => (deferred = rounds));
    await sim.advance(0);
    assertEquals(deferred, 2);
  });
});

describe("an instant that does not end", () => {
  it("takes time, so that a program that polls sees a deadline pass", async () => {
    const sim = simRuntime();
    let polls = 0;
    const done = new Promise<void>((resolve) => {
      const poll = (): void => {
        polls++;
        if (sim.now() < 10) sim.defer(poll);
        else resolve();
      };
      poll();
    });
    let fired = -1;
    sim.setTimer(5, () => (fired = sim.now()));
    await sim.run(done);
    assert(polls > 100 && polls < 5000);
    assert(fired >= 5 && fired < 5.1, `fired at ${fired}`);
  });

  it("ends with its span", async () => {
    const sim = simRuntime();
    let polls = 0;
    const poll = (): void => {
      polls++;
      sim.defer(poll);
    };
    poll();
    await sim.advance(0);
    await sim.advance(1);
    assertEquals(sim.now(), 1);
    const before = polls;
    await sim.advance(1);
    assert(polls > before);
    assertEquals(sim.now(), 2);
  });

  it("rejects with SIM_LIVELOCK after maxSteps", async () => {
    const sim = simRuntime({ maxSteps: 1000 });
    const again = (): void => void sim.setTimer(sim.now() + 1, again);
    again();
    assertEquals(await codeOf(sim.run(new Promise(() => {}))), "SIM_LIVELOCK");
    assertEquals(sim.now(), 1000);
  });
});

describe("sim.run()", () => {
  it("returns the value of a settled promise, and moves no time", async () => {
    const sim = simRuntime();
    sim.setTimer(1, () => {});
    assertEquals(await sim.run(Promise.resolve(7)), 7);
    const boom = new Error("boom");
    assert(await sim.run(Promise.reject(boom)).catch((reason: unknown) => reason) === boom);
    assertEquals([sim.now(), sim.pending], [0, 1]);
  });

  it("stops at the instant at which the promise settles", async () => {
    const sim = simRuntime();
    const value = new Promise<string>((resolve) => sim.setTimer(40, () => resolve("there")));
    let later = false;
    sim.setTimer(41, () => (later = true));
    assertEquals(await sim.run(value), "there");
    assertEquals([sim.now(), later], [40, false]);
  });

  it("takes a promise, and can be called again", async () => {
    const sim = simRuntime();
    await assertRejects(() => sim.run(5 as unknown as Promise<void>), TypeError, "received 5");
    await sim.run(Promise.resolve());
  });

  it("rejects with SIM_DEADLOCK if nothing is left that could settle it", async () => {
    const sim = simRuntime();
    let ran = false;
    sim.setTimer(9, () => (ran = true));
    assertEquals(await codeOf(sim.run(new Promise(() => {}))), "SIM_DEADLOCK");
    assertEquals([ran, sim.now()], [true, 9]);
    assertEquals(await sim.run(Promise.resolve("works again")), "works again");
  });

  it("waits for a long chain of promises that does not use the simulator", async () => {
    const sim = simRuntime();
    const value = turns(20_000).then(() => "there");
    assertEquals(await sim.run(value), "there");
  });

  it("rejects with SIM_DEADLOCK if a loop waits for an event that cannot happen", async () => {
    for (
      const wait of [
        (base: EventBase) => base.loop(EVLOOP_NO_EXIT_ON_EMPTY),
        (base: EventBase) => {
          base.signal("SIGTERM", () => {}).add();
          return base.dispatch();
        },
        (base: EventBase) => {
          base.event(null, EV_READ, () => {}).add();
          return base.dispatch();
        },
      ]
    ) {
      const sim = simRuntime();
      assertEquals(await codeOf(sim.run(wait(new EventBase({ runtime: sim })))), "SIM_DEADLOCK");
      assertEquals([sim.now(), sim.pending], [0, 0]);
    }
  });

  it("rejects with the error of a callback while the promise still waits", async () => {
    const sim = simRuntime();
    const boom = new Error("boom");
    sim.setTimer(1, () => {
      throw boom;
    });
    const value = new Promise<string>((resolve) => sim.setTimer(2, () => resolve("there")));
    assert(await sim.run(value).catch((reason: unknown) => reason) === boom);
    assertEquals(await sim.run(value), "there");
  });
});

describe("promises of the code under test", () => {
  it("proceed between two callbacks of one instant", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    sim.setTimer(1, () => {
      void turns(10).then(() => log.push("promise"));
    });
    sim.setTimer(1, () => log.push("timer"));
    await sim.advance(1);
    assertEquals(log, ["promise", "timer"]);
  });

  it("settle before the clock moves", async () => {
    const sim = simRuntime();
    let at = -1;
    const deep = async (depth: number): Promise<number> => depth === 0 ? sim.now() : await deep(depth - 1);
    sim.setTimer(1, () => {
      void deep(60).then((now) => (at = now));
    });
    sim.setTimer(2, () => {});
    await sim.advance(2);
    assertEquals(at, 1);
  });

  it("settle, however long their chain, while they call the simulator", async () => {
    const sim = simRuntime();
    let at = -1;
    sim.setTimer(1, async () => {
      for (let i = 0; i < 500; i++) {
        await turns(8);
        sim.clearTimer(sim.setTimer(100, () => {}));
      }
      at = sim.now();
    });
    sim.setTimer(2, () => {});
    await sim.advance(50);
    assertEquals(at, 1);
  });

  it("settle after each of 2,000 callbacks, while the real runtime gets regular turns", async () => {
    const sim = simRuntime();
    let ended = 0;
    const early: number[] = [];
    for (let i = 0; i < 2000; i++) {
      sim.setTimer(1 + (i >> 2), () => {
        if (ended !== i) early.push(i);
        void turns(30).then(() => ended++);
      });
    }
    let own = 0;
    let immediate = setImmediate(function again() {
      own++;
      immediate = setImmediate(again);
    });
    await sim.advance(1000);
    clearImmediate(immediate);
    assertEquals([ended, early], [2000, []]);
    assert(own >= 3, `the runtime got ${own} turns`);
  });

  it("settle before the first callback and after the last", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    void turns(20).then(() => sim.setTimer(0, () => log.push("timer")));
    sim.setTimer(3, () => {
      void turns(50).then(() => log.push("after"));
    });
    await sim.advance(3);
    assertEquals(log, ["timer", "after"]);
  });

  it("that wait for virtual time several times run one step after the other", async () => {
    const sim = simRuntime();
    const sleep = (ms: number): Promise<void> =>
      new Promise((resolve) => void sim.setTimer(sim.now() + ms, () => resolve()));
    const program = async (): Promise<number[]> => {
      const times: number[] = [];
      for (const ms of [1, 60_000, 0, 3_600_000]) {
        await sleep(ms);
        times.push(sim.now());
      }
      return times;
    };
    assertEquals(await sim.run(program()), [1, 60_001, 60_001, 3_660_001]);
  });
});
