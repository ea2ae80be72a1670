/**
 * Counts the calls of the library's functions for one line: a client sends a line over loopback, waits for the answer, and
 * so on. V8 counts each call exactly. Prints calls and lines.
 */

import { Session } from "node:inspector/promises";
import { createConnection } from "node:net";
import { serve } from "trivent";

const [warm, lines] = [200, 2000];
const line = Buffer.from("the quick brown fox jumps over the lazy dog, and so it does again\n");

const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
  line(bev, bytes) {
    bev.write(bytes);
    bev.write("\n");
  },
});
const client = createConnection({ host: "127.0.0.1", port: server.port, noDelay: true });
const session = new Session();
session.connect();
await session.post("Profiler.enable");
await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });

await exchange(warm);
await session.post("Profiler.takePreciseCoverage");
await exchange(lines);
const { result } = await session.post("Profiler.takePreciseCoverage");

const functions = result.filter(({ url }) => url.includes("/dist/")).flatMap((script) => script.functions);
const counted = functions.map(({ functionName, ranges: [{ count }] }) => ({ name: functionName, count }))
  .filter(({ count }) => count > 0).sort((a, b) => b.count - a.count);
if (process.argv.includes("--list")) {
  for (const { name, count } of counted) console.error((count / lines).toFixed(3), name);
}
console.log(JSON.stringify({ calls: counted.reduce((sum, { count }) => sum + count, 0), lines }));
client.destroy();
await server.close({ graceMs: 0 });

/** Sends a line when the answer to the one before it is there. */
function exchange(count) {
  return new Promise((resolve) => {
    let missing = line.length;
    const answered = (chunk) => {
      missing -= chunk.length;
      if (missing > 0) return;
      missing = line.length;
      if (--count > 0) return void client.write(line);
      client.off("data", answered);
      resolve();
    };
    client.on("data", answered);
    client.write(line);
  });
}
