// Deadlines of waits that usually end soon: atLateDeadline().

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { atLateDeadline } from "../../../core/loop/deadline.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { BusyHost } from "./harness.ts";

class CountingHost extends BusyHost {
  timers = 0;

  override setTimer(deadlineMs: number, fn: () => void): ReturnType<BusyHost["setTimer"]> {
    this.timers++;
    return super.setTimer(deadlineMs, fn);
  }
}

describe("the deadline of a wait that usually ends soon", () => {
  it("shares one timer with the others of the same 50 ms, and has none left when all have ended", async () => {
    const sim = simRuntime();
    const host = new CountingHost(sim);
    const fired: number[] = [];
    const cancels = Array.from({ length: 20 }, (_, i) => atLateDeadline(host, 30_000, () => fired.push(i)));
    assertEquals(host.timers, 0);
    await sim.advance(10);
    assertEquals(host.timers, 1);
    for (const cancel of cancels) cancel();
    assertEquals([sim.pending, host.timers], [0, 1]);
    await sim.advance(40_000);
    assertEquals([fired, host.timers], [[], 1]);
  });

  it("fires at its time unless it was cancelled, whether the time is near or far", async () => {
    const sim = simRuntime();
    const host = new CountingHost(sim);
    const fired: string[] = [];
    const note = (name: string) => (): void => void fired.push(`${name} at ${sim.now()}`);
    atLateDeadline(host, 20, note("near"));
    atLateDeadline(host, 1000, note("far"));
    const early = atLateDeadline(host, 2000, note("cancelled in the group"));
    const late = atLateDeadline(host, 2000, note("cancelled afterwards"));
    await sim.advance(10);
    early();
    early();
    atLateDeadline(host, 500, note("later in the group"));
    await sim.advance(100);
    late();
    await sim.advance(5000);
    assertEquals(fired, ["near at 20", "later in the group at 500", "far at 1000"]);
    assertEquals(sim.pending, 0);
  });
});
