/**
 * An npm library that was not written for the simulator: `sim/library [RUNS] [SEED]`. The cache `lru-cache` keeps
 * answers of a server for a minute, by the clock of the runtime. `sim.install()` gives it virtual time, so that hours
 * pass in milliseconds.
 *
 * Whatever the network does, an answer is never older than a minute and the time of the request.
 */

import { LRUCache } from "lru-cache";
import { EventError, reconnect, serve, sleep } from "trivent";
import { explore, type SimRuntime } from "trivent/sim";
import { main } from "../_common.ts";
import { report } from "./_report.ts";

const TTL_MS = 60_000;
const QUESTIONS = 200;

/** One run: about three hours. */
async function scenario(sim: SimRuntime): Promise<void> {
  const uninstall = sim.install();
  try {
    await ask(sim);
  } finally {
    uninstall();
  }
}

async function ask(sim: SimRuntime): Promise<void> {
  // The server answers with the time.
  const server = await serve({ runtime: sim.host("clock"), hostname: "0.0.0.0", port: 80 }, {
    line: (bev) => void bev.write(`${sim.now()}\n`),
  });
  const link = reconnect({ runtime: sim.host("client"), hostname: "clock", port: 80, timeoutMs: 2_000 });
  const cache = new LRUCache<string, number>({ max: 10, ttl: TTL_MS });
  let hits = 0;
  for (let i = 0; i < QUESTIONS; i++) {
    await sleep(sim.random() * 100_000, { base: server.base });
    const began = sim.now();
    let time = cache.get("time");
    if (time === undefined) {
      try {
        const bev = await link.ready();
        bev.write("what time is it?\n");
        const lines = bev.lines({ text: true });
        const { value } = await lines.next();
        await lines.return();
        // The network has failed meanwhile: the next request will be answered.
        if (value === undefined) continue;
        time = Number(value);
        cache.set("time", time);
      } catch (error) {
        if (!(error instanceof EventError)) throw error;
        continue;
      }
    } else hits++;
    const age = began - time;
    if (age > TTL_MS + 1) throw new Error(`an answer was ${age} ms old`);
  }
  if (hits === 0) throw new Error("the cache was never used");
  await link.close();
  await server.close();
}

await main("sim/library [RUNS] [SEED]", async ([runs = "50", seed = "1"]) => {
  report(await explore(scenario, { runs: Number(runs), seed: Number(seed) }), "no answer was too old");
});
