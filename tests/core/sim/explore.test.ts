// explore(): it finds planted bugs, gives short lists of faults, and repeats its results.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { connect, EventError, serve, type SimHost, type SimRuntime, sleep } from "../../../mod.ts";
import {
  DEFAULT_FAULTS,
  type Exploration,
  explore,
  type ExploreOptions,
  type FaultPlan,
  replay,
  type Scenario,
  simRuntime,
} from "../../../runtimes/sim.ts";

/** Kinds of the faults of a result, in order. */
function kindsOf({ faults }: Exploration): string[] {
  return faults.map(({ kind }) => kind);
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string } | undefined)?.code;
}

/** A server of lines that answers each, and its address. */
async function echo(host: SimHost): Promise<AsyncDisposable> {
  return await serve({ hostname: "0.0.0.0", port: 80, runtime: host }, {
    line(bev, line) {
      bev.write(`${line}\n`);
    },
    error() {},
  });
}

/** Bug: it gives up after a refusal and does not try again. */
const givesUp: Scenario = async (sim) => {
  await using _server = await echo(sim.host("server"));
  for (let i = 0; i < 5; i++) {
    await using client = await connect({ hostname: "server", port: 80, runtime: sim }, {
      error() {},
    });
    client.write("hello\n");
  }
};

/** Bug: it treats bytes that arrive together as one message. */
const joinsMessages: Scenario = async (sim) => {
  const lengths: number[] = [];
  const server = await serve({ hostname: "0.0.0.0", port: 80, runtime: sim.host("server") }, {
    read(bev) {
      lengths.push(bev.input.length);
      bev.input.drain(bev.input.length);
    },
    error() {},
  });
  const client = await connect({ hostname: "server", port: 80, runtime: sim }, { error() {} });
  for (let i = 0; i < 20; i++) {
    client.write("x".repeat(100));
    await sleep(10, { base: client.base });
  }
  await client.close();
  await server.close();
  const wrong = lengths.find((length) => length !== 100);
  if (wrong !== undefined) throw new Error(`not a message: ${wrong}`);
};

/** Bug: it sends each letter twice, and expects that one of the two arrives. */
const sendsTwice: Scenario = async (sim) => {
  const got = new Set<string>();
  const sink = { onMessage: (bytes: Uint8Array) => void got.add(String(bytes[0])), onWritable() {}, onError() {} };
  const server = await sim.host("server").datagram?.({ port: 53 }, sink);
  const client = await sim.datagram?.({}, sink);
  const [address = ""] = sim.host("server").addresses;
  for (let i = 0; i < 20; i++) {
    for (let copy = 0; copy < 2; copy++) {
      client?.send(new Uint8Array([i]), { hostname: address, port: 53, family: "IPv4" });
      await sim.advance(1);
    }
  }
  await sim.advance(10);
  client?.close();
  server?.close();
  if (got.size !== 20) throw new Error(`lost ${20 - got.size}`);
};

/** Waits for an answer by UDP without a timeout. */
const waitsForEver: Scenario = async (sim) => {
  let heard = (): void => {};
  const server = await sim.host("server").datagram?.({ port: 53 }, {
    onMessage: () => heard(),
    onWritable() {},
    onError() {},
  });
  const client = await sim.datagram?.({}, { onMessage() {}, onWritable() {}, onError() {} });
  const [address = ""] = sim.host("server").addresses;
  for (let i = 0; i < 10; i++) {
    const answer = new Promise<void>((resolve) => void (heard = resolve));
    client?.send(new Uint8Array([i]), { hostname: address, port: 53, family: "IPv4" });
    await answer;
  }
  client?.close();
  server?.close();
};

/** Expects that a timer of 10 ms fires before one of 20 ms on another host. */
const trustsTimers: Scenario = async (sim) => {
  const fired: string[] = [];
  const timer = (host: SimHost, ms: number, name: string): Promise<void> =>
    new Promise((resolve) => {
      host.setTimer(host.now() + ms, () => {
        fired.push(name);
        resolve();
      });
    });
  for (let i = 0; i < 10; i++) {
    await Promise.all([timer(sim.host("a"), 10, "early"), timer(sim.host("b"), 20, "late")]);
    if (fired.splice(0)[0] !== "early") throw new Error("out of order");
  }
};

/** Bug: two connections race, and it trusts the order in which their bytes leave. */
const races: Scenario = async (sim) => {
  const heard: string[] = [];
  await using _server = await serve({ hostname: "0.0.0.0", port: 80, runtime: sim.host("server") }, {
    line: (_bev, line) => void heard.push(line.length === 5 ? "first" : "second"),
    error() {},
  });
  await using first = await connect({ hostname: "server", port: 80, runtime: sim }, { error() {} });
  await using second = await connect({ hostname: "server", port: 80, runtime: sim.host("b") }, { error() {} });
  for (let i = 0; i < 20; i++) {
    first.write("first\n");
    await sim.advance(2);
    second.write("second\n");
    await sim.advance(50);
    if (heard.splice(0).join() !== "first,second") throw new Error("out of order");
  }
};

/** Keeps its counter in memory, and so a crash loses it. */
const forgets: Scenario = async (sim) => {
  const host = sim.host("server");
  let count = 0;
  const start = (): void => {
    count = 0;
    const tick = (): void => {
      count++;
      if (count < 50) host.setTimer(host.now() + 10, tick);
      else done();
    };
    host.setTimer(host.now() + 10, tick);
  };
  let done = (): void => {};
  const finished = new Promise<void>((resolve) => void (done = resolve));
  host.onRestart = start;
  start();
  await finished;
  if (sim.now() > 800) throw new Error("too slow");
};

/** Closes nothing when its connection fails. */
const leaks: Scenario = async (sim) => {
  await using _server = await echo(sim.host("server"));
  let failed = false;
  const client = await connect({ hostname: "server", port: 80, runtime: sim }, {
    close(_bev, error) {
      if (error === undefined) return;
      failed = true;
      sim.setTimer(sim.now() + 1_000_000, () => {});
    },
  });
  client.write("hello\n");
  await sim.advance(20);
  if (!failed) await client.close();
};

/** Treats an answer after more than 200 ms as a failure. */
const impatient: Scenario = async (sim) => {
  await using _server = await echo(sim.host("server"));
  const client = await connect({ hostname: "server", port: 80, runtime: sim.host("client") }, {});
  const lines = client.lines();
  for (let i = 0; i < 10; i++) {
    const asked = sim.now();
    client.write("hello\n");
    await lines.next();
    if (sim.now() - asked > 200) throw new Error("too late");
    await sim.advance(50);
  }
  await client.close();
};

const LOSSES = { ...DEFAULT_FAULTS, datagramCorrupted: 0, hold: 0, partition: 0, pause: 0 };

describe("explore()", () => {
  it("finds nothing in a correct program", async () => {
    const found = await explore(async (sim) => {
      await new Promise<void>((resolve) => void sim.setTimer(100, resolve));
    }, { runs: 50 });
    assertEquals({ ...found, failures: found.failures.length }, {
      runs: 50,
      seed: 0,
      error: undefined,
      faults: [],
      trace: [],
      plan: undefined,
      failures: 0,
    });
  });

  it("finds a program that fails without any fault, and reports an empty list", async () => {
    const error = new Error("always");
    const found = await explore(() => Promise.reject(error));
    assertStrictEquals(found.error, error);
    assertEquals([found.runs, found.seed, found.faults, found.plan?.faults], [1, 0, [], []]);
    assert(
      (await explore(() => {
        throw error;
      })).error === error,
    );
  });

  const planted: [name: string, scenario: Scenario, options: ExploreOptions, kinds: string[], error: RegExp][] = [
    ["a client that gives up", givesUp, {}, ["connectRefused"], /refused/],
    [
      "a reader that takes a segment for a message",
      joinsMessages,
      {
        faults: { segmentCut: 0.02, shortWrites: 0.02, jitterMs: 1 },
      },
      ["segmentCut"],
      /not a message: 1$/,
    ],
    [
      "a protocol that survives the loss of one datagram",
      sendsTwice,
      {
        faults: LOSSES,
      },
      ["datagramLost", "datagramLost"],
      /lost 1$/,
    ],
    [
      "a program that waits for ever",
      waitsForEver,
      { faults: { jitterMs: 3, datagramLost: 0.01 } },
      ["datagramLost"],
      /nothing is/,
    ],
    [
      "a program that trusts timers",
      trustsTimers,
      { faults: { timerLateMs: 1, pause: 0.2 } },
      ["pause"],
      /out of order/,
    ],
    ["a race of two connections", races, { faults: { jitterMs: 4, timerLateMs: 3 } }, ["segmentLate"], /out of order/],
    ["a server that forgets", forgets, { faults: { crash: 0.2, pause: 0.2, longestMs: 100 } }, ["crash"], /too slow/],
    [
      "a program that leaves a timer",
      leaks,
      { faults: { connectionReset: 0.01, jitterMs: 1 } },
      ["connectionReset"],
      /a timer is set on main/,
    ],
  ];
  for (const [name, scenario, options, kinds, message] of planted) {
    it(`finds ${name}, and gives the shortest list of faults`, async () => {
      const found = await explore(scenario, { runs: 3000, ...options });
      assert(found.error instanceof Error, "nothing was found");
      assert(message.test(found.error.message), found.error.stack);
      assertEquals(kindsOf(found), kinds);
      // The plan, as JSON, fails in the same way.
      const plan = JSON.parse(JSON.stringify(found.plan)) as FaultPlan;
      const error = await assertRejects(() => replay(scenario, plan), Error);
      assertEquals(error.message, found.error.message);
      // None of its faults can be left out.
      for (const fault of plan.faults) {
        await replay(scenario, { ...plan, faults: plan.faults.filter((other) => other !== fault) });
      }
    });
  }

  for (const kind of ["partition", "hold"]) {
    it(`finds the shortest ${kind} of one direction`, async () => {
      const { error, faults } = await explore(impatient, { runs: 1000, faults: { [kind]: 0.5, jitterMs: 2 } });
      assertEquals((error as Error | undefined)?.message, "too late");
      const [fault] = faults;
      assertEquals([faults.length, fault?.kind, fault?.oneWay], [1, kind, true]);
      assertEquals([...fault?.hosts ?? []].sort(), ["client", "server"]);
      // 200 ms is not enough, but the next round number is.
      assert(fault?.forMs !== undefined && fault.forMs > 150 && fault.forMs <= 500, JSON.stringify(faults));
    });
  }

  it("makes faults with a duration as short as possible", async () => {
    const found = await explore(trustsTimers, { runs: 1000, faults: { pause: 1 } });
    const [pause] = found.faults;
    // From 20 ms on the order would be right again; expects a round number from 10 to 20.
    assertEquals([pause?.kind, pause?.hosts, pause?.forMs], ["pause", ["a"], 20]);
  });

  it("gives the same report each time, with the hash of the repeated run", async () => {
    const text = async (): Promise<string> => {
      const found = await explore(sendsTwice, { runs: 3000, faults: LOSSES });
      return JSON.stringify({ ...found, error: String(found.error), failures: found.failures.map(({ hash }) => hash) });
    };
    const first = await text();
    assertEquals(await text(), first);
    const { failures: [failure] } = await explore(sendsTwice, { runs: 3000, faults: LOSSES });
    const sim = simRuntime();
    sim.trace = true;
    sim.replay(failure?.plan as FaultPlan);
    await assertRejects(() => Promise.resolve(sendsTwice(sim)), Error, "lost 1");
    assertEquals(sim.hash, failure?.hash);
    assertEquals(failure?.trace, sim.lines.slice(-50));
    assert(failure?.trace.at(-1)?.includes("datagram"));
  });

  it("collects several kinds of failures, and repeats each of them by its seed", async () => {
    const scenario: Scenario = async (sim) => {
      await givesUp(sim);
    };
    const faults = { connectRefused: 0.02, connectLost: 0.02, connectionReset: 0.02 };
    const { failures, runs } = await explore(scenario, { runs: 300, kinds: 9, faults });
    assertEquals(runs, 300);
    assertEquals(failures.map(({ error }) => codeOf(error)).sort(), ["ECONNREFUSED", "ETIMEDOUT"]);
    for (const { seed, error, faults: [fault] } of failures) {
      const again = await explore(scenario, { seed, faults });
      assertEquals([again.runs, codeOf(again.error), again.faults[0]], [1, codeOf(error), fault]);
    }
    assertEquals((await explore(scenario, { runs: 300, kinds: 1, faults })).failures.length, 1);
  });

  it("stops after a number of seconds, and reports its progress", async () => {
    let told = 0;
    const found = await explore(async (sim) => await sim.advance(1), {
      runs: Infinity,
      seconds: 0.5,
      onProgress: ({ runs, seconds, kinds }) => {
        assert(runs > 0 && seconds > 0 && kinds === 0);
        told++;
      },
    });
    assert(found.runs > 1 && found.error === undefined);
    assert(told >= 2, `told ${told} times`);
    assertEquals((await explore(async () => {}, { runs: 5, seconds: 0 })).runs, 0);
  });

  it("reports a failure that it cannot repeat, with the error as the cause", async () => {
    const cause = new Error("once");
    let times = 0;
    const { error, failures } = await explore(() => {
      if (++times === 3) throw cause;
    });
    assertEquals(codeOf(error), "SIM_UNREPEATABLE");
    assertStrictEquals((error as Error).cause, cause);
    assertEquals(failures.length, 1);
  });

  it("reports an exception of a callback, a deadlock, a livelock and leftovers", async () => {
    const code = async (scenario: Scenario, options: ExploreOptions = {}): Promise<string | undefined> =>
      codeOf((await explore(scenario, { runs: 1, faults: {}, ...options })).error);
    const thrown = new EventError("Cannot go on: thrown", { code: "MINE" });
    assertEquals(
      await code((sim) => {
        sim.setTimer(5, () => {
          throw thrown;
        });
        return new Promise(() => {});
      }),
      "MINE",
    );
    assertEquals(await code(() => new Promise(() => {})), "SIM_DEADLOCK");
    assertEquals(
      await code((sim) => {
        const again = (): void => void sim.setTimer(sim.now() + 1, again);
        again();
        return new Promise(() => {});
      }, { maxSteps: 1000 }),
      "SIM_LIVELOCK",
    );
    const open: Scenario = async (sim) =>
      void await sim.listen({ port: 80 }, { onAccept: () => never(), onError() {} });
    const { error } = await explore(open, { runs: 1 });
    assertEquals(codeOf(error), "SIM_LEFTOVER");
    assert(/1 handle is open on main: listener 0\.0\.0\.0:80/.test(String(error)), String(error));
    assertEquals(await code(open, { leftovers: false }), undefined);
  });

  it("lets a program await, advance and run as it likes", async () => {
    const { error } = await explore(async (sim) => {
      const timer = (ms: number): Promise<void> => new Promise((resolve) => void sim.setTimer(sim.now() + ms, resolve));
      await timer(5);
      await sim.advance(5);
      assertEquals(sim.now(), 10);
      await sim.run(timer(5));
      sim.advanceSync(5);
      await timer(5);
      let inside: unknown;
      sim.setTimer(sim.now() + 1, () => {
        try {
          sim.advanceSync(1);
        } catch (error) {
          inside = error;
        }
      });
      await timer(5);
      assertEquals([sim.now(), codeOf(inside)], [30, "EV_BUSY"]);
    }, { runs: 3, faults: {} });
    assertEquals(error, undefined);
  });

  it("restores the globals if a run has left them on virtual time", async () => {
    const { setTimeout } = globalThis;
    const { error } = await explore((sim) => void sim.install(), { runs: 3 });
    assertEquals(error, undefined);
    assertStrictEquals(globalThis.setTimeout, setTimeout);
  });

  it("leaves no visible property of its faults behind", async () => {
    const pending = new Set<number>();
    await explore(async (sim) => {
      pending.add(sim.pending);
      await sim.advance(20_000);
      pending.add(sim.pending);
    }, { runs: 50, faults: { partition: 1, hold: 1, pause: 1, crash: 1 } });
    assertEquals([...pending], [0]);
  });

  it("crashes only hosts that restart, or that are named in an option", async () => {
    const crashed = new Set<string>();
    const scenario: Scenario = async (sim) => {
      const note = (name: string, host: SimHost): Promise<void> =>
        host.listen({ port: 1 }, { onAccept: () => never(), onError() {} }).then(async (listener) => {
          await sim.advance(3000);
          if (host.openHandles === 0) crashed.add(name);
          await listener.close();
        });
      sim.host("phoenix").onRestart = () => {};
      for (const name of ["phoenix", "mortal"]) await note(name, sim.host(name));
    };
    await explore(scenario, { runs: 100, faults: { crash: 1, longestMs: 10_000 }, leftovers: false });
    assertEquals([...crashed], ["phoenix"]);
    crashed.clear();
    await explore(scenario, { runs: 100, faults: { crash: 1, hosts: ["mortal"] }, leftovers: false });
    assertEquals([...crashed], ["mortal"]);
  });

  it("refuses wrong arguments with a message", async () => {
    const wrong: [options: unknown, message: string][] = [
      [{ runs: 0 }, "Cannot explore: runs is not a whole number, 1 or more: received 0"],
      [{ runs: 1.5 }, "Cannot explore: runs is not a whole number, 1 or more: received 1.5"],
      [{ seed: 0.5 }, "Cannot explore: seed is not a whole number: received 0.5"],
      [{ seconds: -1 }, "Cannot explore: seconds is not a number, 0 or more: received -1"],
      [{ kinds: "two" }, 'Cannot explore: kinds is not a whole number, 1 or more: received "two"'],
      [{ faults: { crash: 2 } }, "Cannot explore: faults.crash is not a finite number, 0 to 1: received 2"],
      [{ faults: { jitterMs: -1 } }, "Cannot explore: faults.jitterMs is not a finite number, 0 or more: received -1"],
      [{ faults: { reset: 1 } }, "Cannot explore: unknown option faults.reset"],
      [{ faults: { hosts: [1] } }, "Cannot explore: a name of faults.hosts is not a string: received 1"],
      [{ seeds: 1 }, "Cannot explore: unknown option seeds: did you mean seed?"],
      [{ leftovers: 1 }, "Cannot explore: leftovers is not a boolean: received 1"],
      [{ onProgress: 1 }, "Cannot explore: onProgress is not a function: received 1"],
      [
        { workers: 1.5, module: "file:///x.ts" },
        "Cannot explore: workers is not a whole number from 0 on: received 1.5",
      ],
      [{ workers: 2 }, "Cannot explore: workers need the option module, the URL of the module whose default export is"],
      [{ module: "x.ts" }, 'Cannot explore: module is not the URL of a module: received "x.ts"'],
    ];
    for (const [options, message] of wrong) {
      const error = await assertRejects(() => explore(async () => {}, options as ExploreOptions), Error);
      assert(error.message.startsWith(message), error.message);
      assert(error instanceof TypeError || error instanceof RangeError);
    }
    await assertRejects(
      () => explore(undefined as never),
      TypeError,
      "Cannot explore: the scenario is not a function",
    );
  });
});

describe("a plan", () => {
  const plan: FaultPlan = { version: 1, seed: 3, faults: [] };

  it("gives its seed and its network to a new simulator", () => {
    const drawn = simRuntime({ seed: 3 }).random();
    const sim = simRuntime({ seed: 9, faults: { jitterMs: 5, connectRefused: 1 } });
    sim.replay({ ...plan, latencyMs: 7, bandwidth: 1000 });
    assertEquals(sim.random(), drawn);
    assertEquals([sim.faults.latencyMs, sim.faults.jitterMs, sim.faults.connectRefused, sim.faults.bandwidth], [
      7,
      0,
      0,
      1000,
    ]);
  });

  it("is refused by a simulator that was used", async () => {
    const used: ((sim: SimRuntime) => unknown)[] = [
      (sim) => sim.host("other"),
      (sim) => sim.setTimer(5, () => {}),
      (sim) => sim.advanceSync(1),
    ];
    for (const use of used) {
      const sim = simRuntime();
      use(sim);
      assertEquals(codeOf(assertThrows(() => sim.replay(plan), EventError)), "EV_BUSY");
    }
    await replay(() => {}, plan);
  });

  it("that is not valid is refused with a message", async () => {
    const wrong: [given: unknown, message: string][] = [
      [undefined, "Cannot repeat a plan: the options are not an object: received undefined"],
      [{ ...plan, version: 2 }, "Cannot repeat a plan: version is not 1: received 2"],
      [{ version: 1, faults: [] }, "Cannot repeat a plan: seed is not a finite number: received undefined"],
      [{ ...plan, faults: undefined }, "Cannot repeat a plan: faults"],
      [{ ...plan, faults: [1] }, "Cannot repeat a plan: faults[0] is not an object: received 1"],
      [
        { ...plan, faults: [{ kind: "flood", atMs: 0 }] },
        "Cannot repeat a plan: faults[0].kind is not one of segmentCut,",
      ],
      [
        { ...plan, faults: [{ kind: "pause", atMs: 0, forMs: 1, hosts: [] }] },
        "Cannot repeat a plan: faults[0].hosts are not 1 names",
      ],
      [
        { ...plan, faults: [{ kind: "pause", atMs: 0, hosts: ["a"] }] },
        "Cannot repeat a plan: faults[0].forMs is not a finite number",
      ],
      [
        { ...plan, faults: [{ kind: "segmentCut", atMs: 0, who: 1 }] },
        "Cannot repeat a plan: faults[0].at is not a finite number",
      ],
      [{ ...plan, latencyMs: -1 }, "Cannot repeat a plan: latencyMs is not a finite number, 0 or more: received -1"],
    ];
    for (const [given, message] of wrong) {
      const error = await assertRejects(() => replay(() => {}, given as FaultPlan), Error);
      assert(error.message.startsWith(message), error.message);
      assertThrows(() => simRuntime().replay(given as FaultPlan), Error, message);
    }
  });

  it("with a fault for a connection that does not exist is harmless", async () => {
    await replay(async (sim) => await sim.advance(100), {
      ...plan,
      faults: [
        { kind: "partition", atMs: 5, forMs: 10, hosts: ["nobody", "main"] },
        { kind: "segmentCut", atMs: 5, who: 1, at: 2, amount: 0.5 },
      ],
    });
  });
});

function never(): never {
  throw new Error("nobody connects");
}
