// Three gateways, nats-core and a broker under a broken network, on virtual time.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import scenario from "../../examples/sim/gateway.ts";
import { explore, simRuntime } from "../../runtimes/sim.ts";

const RUNS = 25;

describe("the gateway under a broken network", () => {
  it(`doubles no line and gets no room stuck in ${RUNS} runs`, async () => {
    const { error, faults, runs } = await explore(scenario, { runs: RUNS });
    assertEquals({ error, faults, runs }, {
      error: undefined,
      faults: [],
      runs: RUNS,
    });
  });

  it("does the same each time", async () => {
    const hashes: string[] = [];
    for (let i = 0; i < 2; i++) {
      const sim = simRuntime({
        seed: 7,
        faults: { segmentCut: 0.2, jitterMs: 10, connectionReset: 0.005 },
      });
      await sim.run(scenario(sim));
      hashes.push(String(sim.hash));
    }
    assertEquals(hashes[0], hashes[1]);
  });
});
