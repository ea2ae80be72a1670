// A thousand clients that never read, 64 MiB offered to each: a server that heeds write() holds less than 1 MiB for each.

import { join } from "node:path";
import { it } from "node:test";
import { pathToFileURL } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { findRuntime, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { Client, eventually, openSockets, startMeasuredCommand, untilClosed, untilIdle } from "./workshop.ts";

const CLIENTS = 1000;
const WARM_UP = 50;
const OFFERED_MIB = 64;

function offerCommand(runtime: RuntimeName): { file: string; args: string[] } {
  const fixture = join(ROOT, "tests", "programs", "fixtures", "offer.mjs");
  const entry = pathToFileURL(join(ROOT, runtime === "node" ? "dist/mod.js" : "mod.ts")).href;
  const flags = { node: [], deno: ["run", "--quiet", "--no-check", "-A"], bun: ["run"] }[runtime];
  return { file: findRuntime(runtime).path, args: [...flags, fixture, entry] };
}

for (const runtime of RUNTIMES) {
  it(`${CLIENTS.toLocaleString("en")} clients that never read cost a server on ${runtime} less than 1 MiB each`, {
    skip: needs("/proc"),
  }, async () => {
    const server = await startMeasuredCommand(runtime, offerCommand(runtime));
    const open = async (count: number): Promise<Client[]> => {
      const clients: Client[] = [];
      while (clients.length < count) {
        const wave = await Promise.all(Array.from({ length: 50 }, () => Client.open(server.port)));
        for (const client of wave) client.socket.pause();
        clients.push(...wave);
      }
      await untilIdle(server.pid);
      return clients;
    };
    const sockets = openSockets(server.pid);
    const close = async (clients: readonly Client[]): Promise<void> => {
      for (const client of clients) client.reset();
      await untilClosed(server.pid, sockets);
    };
    try {
      // What the runtime takes for its compilers and its heap is none of a client's.
      await close(await open(WARM_UP));
      const before = (await server.collected()).resident;
      const clients = await open(CLIENTS);
      // A server that is not given the processor looks idle, and has not accepted all.
      await eventually("all are accepted", () => openSockets(server.pid) >= sockets + CLIENTS);
      await untilIdle(server.pid);
      assertEquals(openSockets(server.pid), sockets + CLIENTS, "nobody was let go");
      const each = ((await server.collected()).resident - before) / CLIENTS;
      assert(each < 1, `each holds ${each.toFixed(2)} MiB`);
      await close(clients);
    } finally {
      assertEquals(await server.stop(), null);
    }
    const written = Number(/written (\d+)/.exec(server.printed())?.[1]) / 2 ** 20;
    assert(written > 0 && written < CLIENTS * OFFERED_MIB / 2, `${written} MiB were written, though nobody reads`);
  });
}
