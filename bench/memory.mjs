/**
 * The memory of an idle connection: `npm run bench -- memory [node] [deno] [bun] [--quick]`.
 *
 * The resident memory of a server with 10,000 connections less that before them, by their number, against servers written
 * by hand on the same runtime. Each connection has had one line. Before both readings the server
 * has had some connections, and its garbage is collected. The rest is the memory of the
 * connections.
 */

import { collecting, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { row } from "./shared/goals.mjs";
import { hold, whyNot } from "./shared/hold.mjs";
import { buildPrograms, growing, ours } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { residentKiB, startServer } from "./shared/servers.mjs";
import { compare, median } from "./shared/stats.mjs";

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const runtimes = RUNTIMES.filter((name) => args.length === 0 || args.includes(name));
  const connections = quick ? 100 : 10_000;
  const starts = quick ? 1 : 2;

  const why = whyNot(connections);
  if (why !== undefined) {
    console.log(`Left out: ${why}`);
    return { rows: runtimes.map((name) => row("memory", name, { skipped: why })) };
  }
  await buildPrograms(["rot13_server"]);
  const rows = [];
  for (const name of runtimes) {
    const commands = [
      ours(name, "rot13_server", ["readln"]),
      growing(name),
    ];
    const held = commands.map(() => []);
    for (let start = 0; start < starts; start++) {
      step(`${name}, start ${start + 1} of ${starts}`);
      // Both at once: they wait most of the time, and that does not change the memory.
      const kib = await Promise.all(commands.map((command) => heldBy(collectable(name, command), connections)));
      kib.forEach((each, i) => held[i].push(each));
    }
    rows.push(row("memory", name, {
      ...compare(held[0], held[1]),
      details: { connections, oursKiB: median(held[0]), theirsKiB: median(held[1]) },
    }));
  }
  for (const { runtime, details } of rows) {
    const { oursKiB, theirsKiB } = details;
    console.log(`${runtime}: ${oursKiB.toFixed(2)} KiB of a connection, ${theirsKiB.toFixed(2)} by hand`);
  }
  return { rows };
}

function collectable(name, [path, ...args]) {
  const { file, args: rest } = collecting(name, { file: path, args });
  return [file, ...rest];
}

/** KiB of a connection. */
async function heldBy(command, connections) {
  const server = await startServer(command, { stderr: "pipe" });
  try {
    // The runtime's memory for its first connections does not belong to the others.
    await (await hold(server, 100))();
    await collect(server);
    const before = residentKiB(server.pid);
    const release = await hold(server, connections);
    await collect(server);
    const after = residentKiB(server.pid);
    await release();
    return (after - before) / connections;
  } finally {
    await server.stop();
  }
}

function collect(server) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error("a server does not tell that it has collected its garbage")),
      20_000,
    );
    const take = (chunk) => {
      if (!String(chunk).includes("collected")) return;
      clearTimeout(timer);
      server.stderr.off("data", take);
      resolve();
    };
    server.stderr.on("data", take);
    process.kill(server.pid, "SIGUSR2");
  });
}
