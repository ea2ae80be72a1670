/**
 * A client that tries again, with a bug: `npx trivent explore examples/sim/retries.ts`.
 *
 * The server adds a requested amount to an account. The client sends five requests. If a connection fails, or is
 * silent for 2 s, it sends the request again on a new one. So it adds twice if the answer is lost after the server
 * has added. Exploring finds that, and lists the faults that are needed for it:
 *
 *     seed 10 fails:
 *
 *       Error: the account has 60 in place of 50
 *
 *     59 faults happened. One is enough:
 *
 *       at 18 ms      connectionReset    10.0.0.3:80 < 10.0.0.2:32770
 *
 * `careful` does the same with a number for each payment. The server adds each number once, and no run fails.
 */

import { connect, serve } from "trivent";
import { DEFAULT_FAULTS, type ExploreOptions, type SimRuntime } from "trivent/sim";

const PAYMENTS = 5;
const AMOUNT = 10;
const PATIENCE_MS = 2000;

/** The options for `explore()`: more resets than by default. */
export const options: ExploreOptions = { faults: { ...DEFAULT_FAULTS, connectionReset: 0.01 } };

/** Repeats each payment until there is an answer. */
export default function careless(sim: SimRuntime): Promise<void> {
  return pay(sim, false);
}

/** The same, but the server remembers the numbers of payments. */
export function careful(sim: SimRuntime): Promise<void> {
  return pay(sim, true);
}

async function pay(sim: SimRuntime, numbered: boolean): Promise<void> {
  let account = 0;
  const had = new Set<string>();
  const client = sim.host("client");
  const server = await serve({ runtime: sim.host("bank"), hostname: "0.0.0.0", port: 80 }, {
    line(bev, bytes) {
      const [amount = "", number = ""] = new TextDecoder().decode(bytes).split(" ");
      if (!numbered || !had.has(number)) account += Number(amount);
      had.add(number);
      bev.write("done\n");
    },
  });
  for (let payment = 0; payment < PAYMENTS;) {
    try {
      const to = { runtime: client, hostname: "bank", port: 80, idleTimeoutMs: PATIENCE_MS };
      const bev = await connect(to, {});
      bev.write(`${AMOUNT} ${payment}\n`);
      const { done } = await bev.lines().next();
      if (done !== true) payment++;
      await bev.close();
    } catch {
      // The next round sends it again.
    }
  }
  await server.close({ graceMs: PATIENCE_MS });
  if (account !== PAYMENTS * AMOUNT) {
    throw new Error(`the account has ${account} in place of ${PAYMENTS * AMOUNT}`);
  }
}
