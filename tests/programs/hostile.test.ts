// Thousands of clients that mean no good, of ten kinds, at the chat server and at the proxy, beside honest ones: each
// honest client hears what it has to hear, and the servers hold nothing of the others, neither a descriptor nor a
// handle, an event or a timer, nor memory.
//
// `npm run hostile -- [--seconds 60] [--runtime bun] [--seed 1] [--clients 2000]` does it for longer.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { start } from "../tools/processes.mjs";
import { plainEnvironment, ROOT, RUNTIMES } from "../tools/runtimes.mjs";
import { chatters, senders } from "./honest_clients.ts";
import { startUpstream } from "./upstream.ts";
import {
  eventually,
  type InspectedServer,
  makeCertificate,
  openSockets,
  PATIENCE_MS,
  quiet,
  startInspected,
} from "./workshop.ts";

/** How long hostile clients come on each runtime, in two equal halves. */
const SECONDS = Number(process.env.TRIVENT_HOSTILE_SECONDS ?? 6);
/** How many of them in each half. */
const CLIENTS = Number(process.env.TRIVENT_HOSTILE_CLIENTS ?? 2000);
const SEED = Number(process.env.TRIVENT_HOSTILE_SEED ?? Date.now() % 2 ** 31);
/** It is not part of `npm test` yet: on Node a peer that resets inside the last flight of TLS can end the process. */
const skip = process.env.TRIVENT_HOSTILE_SECONDS === undefined ? "only npm run hostile runs it" : false;
/** The program of the hostile clients. */
const HOSTILE = join(ROOT, "tests", "programs", "fixtures", "hostile.mjs");
const CHATTERS = 20;
const SENDERS = 15;
const PER_ROOM = 5;
/** How long a client may take for this and that, in seconds: the servers are told so. */
const PATIENCE_S = 4;
/** How long one byte of who sends slowly is behind the other. */
const DRIP_MS = 150;
/** How much one of the two may hold more after the second half than after the first, in MiB. */
const GROWTH_MIB = 12;

for (const runtime of RUNTIMES.filter((name) => (process.env.TRIVENT_HOSTILE_RUNTIME ?? name) === name)) {
  const attackers = `${(2 * CLIENTS).toLocaleString("en")} hostile clients`;
  it(
    `chat and proxy on ${runtime} serve ${CHATTERS + 2 * SENDERS} honest clients beside ${attackers}`,
    { skip },
    async () => {
      console.log(`seed ${SEED}`);
      const directory = mkdtempSync(join(tmpdir(), "trivent-hostile-"));
      makeCertificate(directory);
      const at = (name: string): string => join(directory, name);
      const upstream = await startUpstream();
      const servers: InspectedServer[] = [];
      try {
        const patience = String(PATIENCE_S);
        const proxyArgs = [`127.0.0.1:${upstream.port}`, "--max", "5000", "--idle", patience];
        const tlsArgs = ["--cert", at("leaf.pem"), "--key", at("leaf.key"), "--handshake", patience];
        servers.push(await startInspected(runtime, "chat", ["--max", "5000", "--patience", patience]));
        servers.push(await startInspected(runtime, "proxy", proxyArgs));
        servers.push(await startInspected(runtime, "proxy", [...proxyArgs, ...tlsArgs]));
        await besiege(servers as [InspectedServer, InspectedServer, InspectedServer], readFileSync(at("ca.pem")));
      } catch (error) {
        for (const server of servers) console.error(server.printed().slice(-3000));
        throw error;
      } finally {
        const stopped = await Promise.all(servers.map((server) => server.stop()));
        upstream.close();
        rmSync(directory, { recursive: true });
        assertEquals(stopped, servers.map(() => null));
      }
      for (const server of servers) assertOnlyPeers(server.printed());
    },
  );
}

type Servers = [chat: InspectedServer, proxy: InspectedServer, tlsProxy: InspectedServer];

async function besiege(servers: Servers, ca: Buffer): Promise<void> {
  const [chat, proxy, tlsProxy] = servers;
  const before = await Promise.all(servers.map((server) => server.holds()));
  const sockets = servers.map(({ pid }) => openSockets(pid));
  const attack = {
    seed: SEED,
    clients: CLIENTS,
    ms: SECONDS / 2 * 1000,
    dripMs: DRIP_MS,
    targets: [
      { port: chat.port, tls: false, chat: true },
      { port: proxy.port, tls: false, chat: false },
      { port: tlsProxy.port, tls: true, chat: false },
    ],
  };
  const held: number[][] = [];
  for (const half of [1, 2]) {
    const honest = await Promise.all([
      chatters(chat.port, CHATTERS, PER_ROOM, SEED),
      senders({ port: proxy.port }, SENDERS, SEED),
      senders({ port: tlsProxy.port, ca }, SENDERS, SEED),
    ]);
    const clients = await start(process.execPath, [HOSTILE, JSON.stringify(attack)], {
      env: plainEnvironment(),
      ready: /all have come/,
      timeoutMs: attack.ms + PATIENCE_MS,
    });
    let left: string | null = null;
    try {
      // The servers let go those who are still there, and serve the honest ones meanwhile.
      await quiet(PATIENCE_S * 1000);
      await Promise.all(honest.map((company) => company.progress()));
      await untilNoMore(servers, before, [CHATTERS, 2 * SENDERS, 2 * SENDERS]);
    } finally {
      left = await clients.stop();
    }
    assertEquals(left, null);
    const done = await Promise.all(honest.map((company) => company.finish()));
    await untilNoMore(servers, before, [0, 0, 0]);
    await eventually(
      "the descriptors are closed",
      () => servers.every(({ pid }, i) => openSockets(pid) <= sockets[i]!),
    );
    held.push((await Promise.all(servers.map((server) => server.collected()))).map(({ used }) => used));
    const used = held.at(-1)?.map((mib) => mib.toFixed(1));
    console.log(
      `half ${half}: each honest client did ${done.join(", ")} things; the servers use ${used?.join(", ")} MiB`,
    );
  }
  const [first, second] = held as [number[], number[]];
  servers.forEach((_, i) => {
    const growth = (second[i] as number) - (first[i] as number);
    assert(growth < GROWTH_MIB, `server ${i} holds ${growth.toFixed(1)} MiB more after the second half`);
  });
}

/** Waits until the servers hold at most so many handles more than at the beginning, and no event or timer of others. */
async function untilNoMore(
  servers: readonly InspectedServer[],
  before: readonly { handles: number; events: number; timers: number }[],
  handles: readonly number[],
): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (const [i, server] of servers.entries()) {
    for (;;) {
      const holds = await server.holds();
      const was = before[i]!;
      const none = handles[i] === 0;
      if (
        holds.handles <= was.handles + handles[i]! &&
        (!none || (holds.events <= was.events && holds.timers <= was.timers))
      ) break;
      if (performance.now() > deadline) {
        assert(
          false,
          `server ${i} holds ${JSON.stringify({ ...holds, dump: "" })}, not ${
            JSON.stringify({ ...was, dump: "" })
          } and ${handles[i]}\n${holds.dump}`,
        );
      }
      await quiet(100);
    }
  }
}

/** What servers say of their peers is one line each; nothing is the fault of the program. */
function assertOnlyPeers(printed: string): void {
  const strange = printed.split("\n").filter((line) =>
    line !== "" && !/ECONNRESET|EPIPE|ERR_TLS|^Nothing has arrived or left|^Cannot end the pipe/.test(line)
  );
  assertEquals(strange.slice(0, 20), []);
}
