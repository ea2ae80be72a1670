// Chapter 7: a client that counts visits, under broken networks. node|deno|bun 7_explore.mjs [mended]
import process from "node:process";
import { reconnect } from "trivent";
import { explore } from "trivent/sim";
import { resp } from "./resp.mjs";
import { startServer } from "./server.mjs";

const VISITS = 10;
// The bug: a command that is sent again counts again. A command that sets the result can be sent again.
const COUNT = {
  bug: () => ["INCR", "visits"],
  mended: (visit) => ["SET", "visits", String(visit)],
};

function counting(command) {
  return async (sim) => {
    const redis = await startServer({ runtime: sim.host("server"), hostname: "0.0.0.0", port: 6400 });
    let waiting; // the command that has no answer yet
    const link = reconnect({ runtime: sim.host("client"), hostname: "server", port: 6400, timeoutMs: 2000 }, {
      async open(bev) {
        if (waiting !== undefined) bev.writeFrame(resp, waiting.command);
        for await (const reply of bev.frames(resp)) {
          const { resolve } = waiting;
          waiting = undefined;
          resolve(reply);
        }
      },
    });
    const ask = (command) =>
      new Promise((resolve) => {
        waiting = { command, resolve };
        link.connection?.writeFrame(resp, command);
      });
    for (let visit = 1; visit <= VISITS; visit++) await ask(command(visit));
    const total = await ask(["GET", "visits"]);
    await link.close();
    await redis.close();
    if (Number(total) !== VISITS) throw new Error(`${VISITS} visits were counted as ${total}`);
  };
}

const found = await explore(counting(COUNT[process.argv[2] ?? "bug"]), { runs: 2000 });
if (found.error === undefined) console.log(`${found.runs} runs, and nothing has failed`);
else {
  console.log(`seed ${found.seed}: ${found.error}`);
  for (const { kind, atMs, about } of found.faults) console.log(`${kind} at ${atMs} ms: ${about}`);
}
