// sim.install(): the host's timers, Date, performance.now() and Math.random() on virtual time; sim.trace and sim.lines;
// advanceSync(); and the message of SIM_DEADLOCK.

import { describe, it } from "node:test";
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { connect, counting, listen, pair } from "./ends.ts";

const NAMES = [
  "setTimeout",
  "setInterval",
  "setImmediate",
  "clearTimeout",
  "clearInterval",
  "clearImmediate",
  "Date",
] as const;

function globalsNow(): unknown[] {
  const globals = globalThis as unknown as Record<string, unknown>;
  return [...NAMES.map((name) => globals[name]), performance.now, Math.random];
}

describe("sim.install()", () => {
  it("restores the globals, also a second time", () => {
    const before = globalsNow();
    const own = Object.getOwnPropertyDescriptor(performance, "now");
    const restore = simRuntime().install();
    assert(globalsNow().every((value, i) => value !== before[i]));
    restore();
    restore();
    assertEquals(globalsNow().map((value, i) => value === before[i]), before.map(() => true));
    assertEquals(Object.getOwnPropertyDescriptor(performance, "now"), own);
  });

  it("works for one simulator: a second one gets EV_BUSY until the first is uninstalled", () => {
    const restore = simRuntime().install();
    try {
      const error = assertThrows(() => simRuntime().install(), EventError) as EventError;
      assertEquals(error.code, "EV_BUSY");
    } finally {
      restore();
    }
    const again = simRuntime().install();
    restore();
    assertThrows(() => simRuntime().install(), EventError);
    again();
  });

  it("runs timers, intervals and immediates of other code on virtual time, with their arguments", async () => {
    const sim = simRuntime();
    const restore = sim.install();
    const log: string[] = [];
    try {
      setTimeout((name: string) => log.push(`${name} ${sim.now()}`), 60_000, "timeout");
      const repeated = setInterval(() => {
        log.push(`interval ${sim.now()}`);
        if (sim.now() >= 30_000) clearInterval(repeated);
      }, 10_000);
      setImmediate(() => log.push("immediate"));
      clearImmediate(setImmediate(() => log.push("never")));
      clearTimeout(setTimeout(() => log.push("never"), 5));
      clearTimeout(undefined);
      queueMicrotask(() => log.push("microtask"));
      await sim.advance(100_000);
    } finally {
      restore();
    }
    assertEquals(log, [
      "microtask",
      "immediate",
      "interval 10000",
      "interval 20000",
      "interval 30000",
      "timeout 60000",
    ]);
    assertEquals(sim.pending, 0);
  });

  it("gives timers the properties that other code expects", async () => {
    const sim = simRuntime();
    const restore = sim.install();
    try {
      let fired = 0;
      const timer = setTimeout(() => fired++, 100) as unknown as {
        ref(): object;
        unref(): object;
        hasRef(): boolean;
        refresh(): object;
      };
      assertEquals([timer.unref() === timer, timer.hasRef(), timer.ref() === timer, timer.hasRef()], [
        true,
        false,
        true,
        true,
      ]);
      await sim.advance(60);
      timer.refresh();
      await sim.advance(60);
      assertEquals(fired, 0);
      clearTimeout(+(timer as unknown as number));
      await sim.advance(100);
      assertEquals(fired, 0);
      assertThrows(() => setTimeout(5 as unknown as () => void, 1), TypeError);
    } finally {
      restore();
    }
  });

  it("lets promises of other code wait for virtual time in run()", async () => {
    const sim = simRuntime();
    const restore = sim.install();
    try {
      const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
      const begun = Date.now();
      await sim.run((async () => {
        for (let i = 0; i < 10; i++) await sleep(3_600_000);
      })());
      assertEquals([Date.now() - begun, sim.now(), performance.now()], [36_000_000, 36_000_000, 36_000_000]);
    } finally {
      restore();
    }
  });

  it("gives a Date that follows the clock, and otherwise behaves as a Date", async () => {
    const sim = simRuntime();
    const RealDate = Date;
    const restore = sim.install();
    try {
      assertEquals(new Date().toISOString(), "2025-01-01T00:00:00.000Z");
      await sim.advance(1500);
      assertEquals([Date.now(), new Date().getTime()], [1_735_689_601_500, 1_735_689_601_500]);
      assertEquals(new Date(2020, 1, 2).getFullYear(), 2020);
      assertEquals(new Date("2020-01-01T00:00:00Z").getTime(), Date.parse("2020-01-01T00:00:00Z"));
      assertEquals([typeof Date(), Date.name, Date.length, Date.UTC(1970, 0)], ["string", "Date", 7, 0]);
      assert(new Date() instanceof RealDate && new RealDate() instanceof Date);
      class Later extends Date {}
      assert(new Later() instanceof Later && new Later().getTime() === Date.now());
    } finally {
      restore();
    }
    const other = sim.install({ epochMs: 0 });
    assertEquals(Date.now(), 1500);
    other();
    assertThrows(() => sim.install({ epoch: 0 } as object), TypeError, "did you mean epochMs?");
    assertThrows(() => sim.install({ epochMs: NaN }), TypeError, "epochMs");
  });

  it("makes Math.random() depend on the seed", () => {
    const draw = (seed: number): number[] => {
      const restore = simRuntime({ seed }).install();
      try {
        return Array.from({ length: 5 }, () => Math.random());
      } finally {
        restore();
      }
    };
    assertEquals(draw(1), draw(1));
    assertNotEquals(draw(1), draw(2));
    assert(draw(3).every((x) => x >= 0 && x < 1));
  });
});

describe("sim.random()", () => {
  it("depends on the seed, and each host has its own numbers", () => {
    const [one, two] = [simRuntime({ seed: 4 }), simRuntime({ seed: 4 })];
    two.host("b").random();
    const first = [one.random(), one.random()];
    assertEquals([two.random(), two.random()], first);
    assertNotEquals(one.host("b").random(), first[0]);
    assertEquals(one.host("c").random(), two.host("c").random());
  });
});

describe("sim.trace", () => {
  it("gives a line for each delivery, fault and timer, to a function or into sim.lines", async () => {
    const sim = simRuntime({ faults: { segmentCut: 1 } });
    const lines: string[] = [];
    sim.trace = (line) => lines.push(line);
    const b = sim.host("b");
    const { door } = await listen(b, { port: 80 });
    const client = connect(sim, { hostname: "10.0.0.2", port: 80 });
    sim.setTimer(2.5, () => {});
    await sim.advance(5);
    client.binding.write(counting(2));
    await sim.advance(5);
    door.first.binding.close();
    await sim.advance(5);
    client.binding.close();
    sim.trace = true;
    b.crash();
    await sim.advance(60_000);
    assertEquals(lines, [
      "1 connect main < 10.0.0.2:80 connect to 10.0.0.2:80",
      "2.5 timer main",
      "3 accept 10.0.0.2:80 < 10.0.0.1:32768",
      "5 fault 10.0.0.1:32768 < 10.0.0.2:80 segmentCut",
      "6 data 10.0.0.2:80 < 10.0.0.1:32768 1",
      "6 data 10.0.0.2:80 < 10.0.0.1:32768 1",
      "11 end 10.0.0.1:32768 < 10.0.0.2:80",
    ]);
    assertEquals(sim.lines, ["15 fault b crash", "60015 close 10.0.0.1:32768 < 10.0.0.2:80 ETIMEDOUT"]);
    assertThrows(() => (sim.trace = 5 as unknown as boolean), TypeError, "trace");
  });

  it("changes nothing, and sim.hash exists without it", async () => {
    const hashes: string[] = [];
    for (const trace of [false, true]) {
      const sim = simRuntime({ seed: 7, faults: { jitterMs: 3, segmentCut: 0.5 } });
      sim.trace = trace;
      assertEquals(sim.hash.length, 16);
      const [client] = await pair(sim).catch(async () => {
        await sim.advance(20);
        return [connect(sim, { port: 1 })] as const;
      });
      client.binding.write(counting(1000));
      await sim.advance(100);
      hashes.push(sim.hash);
    }
    assertEquals(hashes[0], hashes[1]);
  });

  it("has another hash for any difference: a time, a number of bytes, a receiver, a kind", async () => {
    const hash = async (act: (sim: ReturnType<typeof simRuntime>) => void): Promise<string> => {
      const sim = simRuntime();
      act(sim);
      await sim.advance(50);
      return sim.hash;
    };
    const all = await Promise.all([
      hash(() => {}),
      hash((sim) => void sim.setTimer(1, () => {})),
      hash((sim) => void sim.setTimer(1 + 2 ** -40, () => {})),
      hash((sim) => void sim.host("b").setTimer(1, () => {})),
      hash((sim) => sim.raise("SIGTERM")),
      hash((sim) => sim.pause(1)),
    ]);
    assertEquals(new Set(all).size, all.length);
  });
});

describe("sim.advanceSync()", () => {
  it("runs callbacks at once, without a turn for promises", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    sim.setTimer(1, () => {
      log.push("timer 1");
      void Promise.resolve().then(() => log.push("promise"));
    });
    sim.setTimer(2, () => log.push("timer 2"));
    sim.advanceSync(5);
    assertEquals([log, sim.now()], [["timer 1", "timer 2"], 5]);
    await sim.advance(0);
    assertEquals(log, ["timer 1", "timer 2", "promise"]);
  });

  it("gives the same run as advance() for a program with callbacks", async () => {
    const play = async (move: (sim: ReturnType<typeof simRuntime>, ms: number) => unknown): Promise<string> => {
      const sim = simRuntime({ seed: 2, faults: { jitterMs: 4, segmentCut: 0.3 } });
      const { door, port } = await listen(sim);
      door.accept = (end) => (end.on.onData = (chunk) => void end.binding.write(chunk));
      for (let i = 0; i < 5; i++) {
        const client = connect(sim, { port });
        client.on.onConnect = () => void client.binding.write(counting(500));
        client.on.onData = (chunk) => void client.binding.write(chunk);
      }
      for (let i = 0; i < 20; i++) await move(sim, 7);
      return sim.hash;
    };
    assertEquals(await play((sim, ms) => sim.advanceSync(ms)), await play((sim, ms) => sim.advance(ms)));
  });

  it("throws the error of a callback, goes on in the next call, and refuses wrong calls", async () => {
    const sim = simRuntime({ maxSteps: 100 });
    const boom = new Error("boom");
    let ran = 0;
    sim.setTimer(1, () => {
      throw boom;
    });
    sim.setTimer(1, () => ran++);
    assert(assertThrows(() => sim.advanceSync(5)) === boom);
    sim.advanceSync(1);
    assertEquals([ran, sim.now()], [1, 2]);
    assertThrows(() => sim.advanceSync(-1), RangeError);
    const first = sim.advance(1);
    assertEquals((assertThrows(() => sim.advanceSync(1), EventError) as EventError).code, "EV_BUSY");
    await first;
    const again = (): void => void sim.setTimer(sim.now() + 1, again);
    again();
    assertEquals((assertThrows(() => sim.advanceSync(1000), EventError) as EventError).code, "SIM_LIVELOCK");
  });

  it("can't be called from a callback that advance() runs", async () => {
    const sim = simRuntime();
    let code = "";
    sim.setTimer(1, () => {
      code = (assertThrows(() => sim.advanceSync(1), EventError) as EventError).code;
    });
    await sim.advance(1);
    assertEquals(code, "EV_BUSY");
  });
});

describe("SIM_DEADLOCK", () => {
  it("lists open handles, and suggests sim.install() unless it is installed", async () => {
    const sim = simRuntime();
    const forever = new Promise<void>(() => {});
    const said = async (): Promise<string> =>
      (await assertRejects(() => sim.run(forever), EventError) as EventError).message;
    const text = await said();
    assert(text.includes("no handle is open") && text.includes("sim.install()"), text);
    await pair(sim);
    assert((await said()).includes("2 handles are open"));
    const restore = sim.install();
    const installed = await said();
    restore();
    assert(!installed.includes("sim.install()") && installed.includes("the real runtime's I/O"), installed);
  });
});
