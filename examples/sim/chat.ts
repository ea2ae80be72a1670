/**
 * The chat server on a network with faults: `sim/chat [RUNS] [SEED]`. Whatever fails, a client that stays gets each
 * line once and in order, from its arrival to its end.
 *
 * `explore()` runs the scenario with many seeds. If the promise is broken, it prints the shortest list of faults that
 * does it.
 */

import { connect, EventBase, EventError } from "trivent";
import { DEFAULT_FAULTS, explore, type SimRuntime } from "trivent/sim";
import { chat, endChat } from "../_chat.ts";
import { main } from "../_common.ts";
import { report } from "./_report.ts";

const SPEAKERS = 4;
const LINES = 8;

/** The lines that one client has sent and received. */
interface Client {
  name: string;
  /** The lines of others, in order: `<name> text`. */
  heard: string[];
  /** Whether it stayed to the end: its connection was not reset. */
  stayed: boolean;
}

/** Connects, sends some lines, and reads until the server stops. */
async function talk(sim: SimRuntime, number: number): Promise<Client> {
  const runtime = sim.host(`client${number}`);
  const client: Client = { name: `c${number}`, heard: [], stayed: false };
  try {
    const bev = await connect({ runtime, hostname: "chat", port: 9877, timeoutMs: 5_000 });
    bev.write(`/nick ${client.name}\n`);
    for (let i = 0; i < LINES; i++) {
      runtime.setTimer(sim.now() + 10_000 * sim.random(), () => {
        if (!bev.signal.aborted) bev.write(`line ${i}\n`);
      });
    }
    for await (const line of bev.lines({ text: true })) client.heard.push(line);
    client.stayed = client.heard.at(-1) === "* the server stops";
    await bev.close();
  } catch (error) {
    // A network may do that. The others must not notice.
    if (!(error instanceof EventError)) throw error;
  }
  return client;
}

/** The lines of a conversation, without those about clients that come and go. */
function conversation(heard: readonly string[]): string[] {
  return heard.filter((line) => line.startsWith("<c"));
}

/** One run. */
async function scenario(sim: SimRuntime): Promise<void> {
  const base = new EventBase({ runtime: sim.host("chat") });
  const server = await chat(base, { hostname: "0.0.0.0", port: 9877, max: 100, patienceMs: 600_000, rate: 20 });
  const serving = base.dispatch();
  const clients = Array.from({ length: SPEAKERS }, (_, i) => talk(sim, i));
  await sim.advance(60_000);
  await endChat(server);
  const stayed = (await Promise.all(clients)).filter(({ stayed }) => stayed);
  await serving;
  // All get the same conversation. A client that came later has missed only its beginning.
  const [first = [], ...others] = stayed.map(({ heard }) => conversation(heard)).sort((a, b) => b.length - a.length);
  for (const heard of others) {
    const missed = first.length - heard.length;
    if (heard.some((line, i) => line !== first[missed + i])) {
      throw new Error(`one has heard ${JSON.stringify(heard)}, another ${JSON.stringify(first)}`);
    }
  }
  // The lines of a client that stayed arrive once, in order.
  for (const { name } of stayed) {
    const own = first.filter((line) => line.startsWith(`<${name}> `));
    if (new Set(own).size !== own.length) throw new Error(`a line of ${name} has come twice: ${JSON.stringify(own)}`);
  }
}

await main("sim/chat [RUNS] [SEED]", async ([runs = "200", seed = "1"]) => {
  const found = await explore(scenario, {
    runs: Number(runs),
    seed: Number(seed),
    // A client whose host hangs for minutes counts as one that leaves.
    faults: { ...DEFAULT_FAULTS, longestMs: 2_000 },
  });
  report(found, "nobody who stayed has missed a line");
});
