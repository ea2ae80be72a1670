/**
 * Peers that send all they can and never read: `npm run bench -- flood [node] [deno] [bun] [--quick]`.
 *
 * The memory that each of them makes the server hold, which the watermarks limit.
 */

import { connect } from "node:net";
import { RUNTIMES } from "../tests/tools/runtimes.mjs";
import { buildPrograms, ours } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { residentKiB, startServer } from "./shared/servers.mjs";
import { layOut } from "./shared/tables.mjs";

const GOAL_MIB = 1;
const PEERS = 40;

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const quietMs = quick ? 200 : 1500;
  await buildPrograms(["rot13_server"]);
  const rows = [];
  for (const runtime of RUNTIMES.filter((name) => args.length === 0 || args.includes(name))) {
    for (const mode of quick ? ["readln"] : ["readln", "eachLine"]) {
      step(`${runtime}, ${mode}`);
      const server = await startServer(ours(runtime, "rot13_server", [mode]));
      try {
        // The runtime's memory for its first connections does not belong to the others.
        await flood(server, quick ? 50 : 200);
        const before = residentKiB(server.pid);
        const { sentMiB, during } = await flood(server, quietMs);
        const held = Math.max(0, during - before) / 1024 / PEERS;
        rows.push({
          workload: `${PEERS} peers that send and never read, ${mode}`,
          against: "MiB held for each",
          runtime,
          goal: `≤ ${GOAL_MIB}`,
          ratio: held,
          spread: null,
          met: quick ? null : held <= GOAL_MIB,
          details: { sentMiBEach: sentMiB / PEERS },
        });
      } finally {
        await server.stop();
      }
    }
  }
  const cells = rows.map(({ workload, runtime, ratio, met, details }) => [
    workload,
    runtime,
    details.sentMiBEach.toFixed(1),
    ratio.toFixed(2),
    met === null ? "" : met ? "met" : "MISSED",
  ]);
  console.log(layOut([["work", "runtime", "sent MiB each", `held MiB each (goal ${GOAL_MIB})`, ""], ...cells]));
  return { rows };
}

/**
 * Sends until nothing is accepted for a while. Returns the accepted bytes, and the memory of the
 * server.
 */
async function flood(server, quietMs) {
  const piece = Buffer.from("a line of sixty-four bytes, of which there are very many of them\n".repeat(1000));
  let sent = 0;
  let last = performance.now();
  const sockets = Array.from({ length: PEERS }, () => {
    const socket = connect(Number(server.port), "127.0.0.1").pause();
    const send = () => {
      if (socket.destroyed) return;
      socket.write(piece, () => {
        sent += piece.length;
        last = performance.now();
        send();
      });
    };
    socket.on("error", () => {}).once("connect", send);
    return socket;
  });
  while (performance.now() - last < quietMs) await new Promise((resolve) => setTimeout(resolve, 50));
  const during = residentKiB(server.pid);
  for (const socket of sockets) socket.resetAndDestroy();
  await new Promise((resolve) => setTimeout(resolve, 300));
  return { sentMiB: sent / 2 ** 20, during };
}
