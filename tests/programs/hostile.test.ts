// Hostile clients of ten kinds (fixtures/hostile.mjs) work on the chat server and on the proxy, with and without TLS,
// beside honest ones. Every honest client gets everything that it must get. The servers close
// clients that only wait. At the end they hold no descriptor, handle, event or timer, and after a
// second attack not more memory than after the first.
//
// `npm run hostile -- [--seconds 60] [--runtime bun] [--seed 1]` does it for longer, at the same rate.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { it } from "node:test";
import { assert, assertEquals, fail } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { chatters, senders } from "./honest_clients.ts";
import { startUpstream } from "./upstream.ts";
import {
  cpuSeconds,
  eventually,
  type InspectedServer,
  makeCertificate,
  openSockets,
  PATIENCE_MS,
  quiet,
  startInspected,
  withoutTls,
} from "./workshop.ts";

/** The program of the hostile clients. */
const HOSTILE = join(ROOT, "tests", "programs", "fixtures", "hostile.mjs");
/** The number of them that connect in a second. */
const RATE = 600;
/**
 * The time for which they connect on each runtime, in two equal halves: 2,000 in the usual run, in
 * 10 s for the three.
 */
const SECONDS = Number(process.env.TRIVENT_HOSTILE_SECONDS ?? 10 / 3);
const CLIENTS = Math.round(RATE * SECONDS);
const SEED = Number(process.env.TRIVENT_HOSTILE_SEED ?? Date.now() % 2 ** 31);
const ONLY = process.env.TRIVENT_HOSTILE_RUNTIME;
/** The timeouts of clients, as options of the servers. */
const PATIENCE_S = 6;
/**
 * How often an attack is repeated if the machine was so busy that the honest clients were too slow.
 */
const REPEATS = 3;
/** The time between two bytes of a client that sends slowly. */
const DRIP_MS = 150;
const CHATTERS = 20;
const PER_ROOM = 5;
const SENDERS = 15;
/** The memory that a server may have in use after the second half beyond the first, in MiB. */
const GROWTH_MIB = 3;
/** The additional memory that Deno's adapter may keep for large reads after large transfers. */
const KEPT_MIB = { node: 0, deno: 8, bun: 0 };

const skip = needs("/proc", "openssl");

for (const runtime of RUNTIMES.filter((name) => ONLY === undefined || name === ONLY)) {
  const hostile = `${CLIENTS.toLocaleString("en")} hostile clients`;
  it(`chat and proxy on ${runtime} serve 50 honest clients beside ${hostile}`, { skip }, async () => {
    for (let left = REPEATS;; left--) {
      const stalls = new Stalls();
      try {
        await attack(runtime);
        return;
      } catch (error) {
        // The honest clients live in this process. If it is blocked, they are silent for longer
        // than allowed. The servers then reset them, and Node 20 reports that as a clean end.
        if (left === 0 || stalls.longestMs < PATIENCE_S * 1000 / 2) throw error;
        console.log(`again, since this process stood still for ${stalls.longestMs.toFixed()} ms: ${error}`);
      } finally {
        stalls.stop();
      }
    }
  });
}

/** Measures how long this process was blocked. */
class Stalls {
  longestMs = 0;
  #last = performance.now();
  readonly #timer = setInterval(() => {
    const now = performance.now();
    this.longestMs = Math.max(this.longestMs, now - this.#last);
    this.#last = now;
  }, 50);

  stop(): void {
    clearInterval(this.#timer);
  }
}

async function attack(runtime: RuntimeName): Promise<void> {
  console.log(`${runtime}, seed ${SEED}`);
  const directory = mkdtempSync(join(tmpdir(), "trivent-hostile-"));
  makeCertificate(directory);
  const upstream = await startUpstream();
  const servers: Besieged[] = [];
  try {
    await startAll(runtime, directory, upstream.port, servers);
    const honest = servers.reduce((sum, { clients }) => sum + clients, 0);
    assert(honest === 50 || withoutTls(runtime) !== false, `${honest} are honest`);
    await besiege(runtime, servers, readFileSync(join(directory, "ca.pem")));
  } finally {
    const stopped = await Promise.all(servers.map(({ server }) => server.stop()));
    upstream.close();
    rmSync(directory, { recursive: true });
    assertEquals(stopped, servers.map(() => null));
  }
  for (const { server } of servers) assertOnlyPeers(server.printed());
}

/** A server under attack. */
interface Besieged {
  readonly server: InspectedServer;
  readonly tls: boolean;
  readonly chat: boolean;
  /** The number of its honest clients. */
  readonly clients: number;
  /** The number of handles for one of them. */
  readonly handlesEach: number;
}

async function startAll(runtime: RuntimeName, directory: string, upstream: number, servers: Besieged[]): Promise<void> {
  const at = (name: string): string => join(directory, name);
  const patience = String(PATIENCE_S);
  const chat = await startInspected(runtime, "chat", ["--patience", patience]);
  servers.push({ server: chat, tls: false, chat: true, clients: CHATTERS, handlesEach: 1 });
  const args = [`127.0.0.1:${upstream}`, "--max", "10000", "--idle", patience];
  const proxy = await startInspected(runtime, "proxy", args);
  servers.push({ server: proxy, tls: false, chat: false, clients: SENDERS, handlesEach: 2 });
  if (withoutTls(runtime)) return;
  const tls = ["--cert", at("leaf.pem"), "--key", at("leaf.key"), "--handshake", patience];
  const secure = await startInspected(runtime, "proxy", [...args, ...tls]);
  servers.push({ server: secure, tls: true, chat: false, clients: SENDERS, handlesEach: 2 });
}

async function besiege(runtime: RuntimeName, servers: readonly Besieged[], ca: Buffer): Promise<void> {
  const before = await Promise.all(servers.map(({ server }) => server.holds()));
  const sockets = servers.map(({ server }) => openSockets(server.pid));
  const inUse: number[][] = [];
  for (const half of ["first", "second"]) {
    const honest = await Promise.all(
      servers.map(({ server: { port }, chat, tls, clients }) =>
        chat ? chatters(port, clients, PER_ROOM, SEED) : senders({ port, ca: tls ? ca : undefined }, clients, SEED)
      ),
    );
    const plan = {
      seed: SEED,
      clients: CLIENTS / 2,
      ms: SECONDS / 2 * 1000,
      dripMs: DRIP_MS,
      targets: servers.map(({ server: { port }, tls, chat }) => ({ port, tls, chat })),
    };
    const clients = await start(process.execPath, [HOSTILE, JSON.stringify(plan)], {
      env: plainEnvironment(),
      ready: /all have come/,
      timeoutMs: plan.ms + PATIENCE_MS,
    });
    let left: string | null = null;
    try {
      // The servers close those that are still there.
      await Promise.all(servers.map((each, i) => untilOnly(each, before[i]!, each.clients)));
      await Promise.all(honest.map((company) => company.progress()));
    } finally {
      left = await clients.stop();
    }
    assertEquals(left, null);
    const done = await Promise.all(honest.map((company) => company.finish()));
    await Promise.all(servers.map((each, i) => untilOnly(each, before[i]!, 0)));
    if (!keepsDescriptors(runtime)) {
      await eventually(
        "the descriptors are closed",
        () => servers.every(({ server }, i) => openSockets(server.pid) <= sockets[i]!),
      );
    }
    inUse.push((await Promise.all(servers.map(({ server }) => server.collected()))).map(({ used }) => used));
    const work = servers.map(({ server }) => `${cpuSeconds(server.pid).toFixed(1)} s`);
    const memory = inUse.at(-1)?.map((mib) => `${mib.toFixed(1)} MiB`);
    console.log(`${half} half: the honest have done at least ${done.join(", ")} things each;`);
    console.log(`  the servers have ${memory?.join(", ")} in use, and have worked for ${work.join(", ")}`);
  }
  servers.forEach((_, i) => {
    const growth = inUse[1]![i]! - inUse[0]![i]!;
    assert(
      growth < GROWTH_MIB + KEPT_MIB[runtime],
      `server ${i} has ${growth.toFixed(1)} MiB more in use after the second half`,
    );
  });
}

/** Up to 2.9.4 `close()` of Deno does not end a write that waits for the peer, and the descriptor stays until it ends. */
function keepsDescriptors(runtime: RuntimeName): boolean {
  const [major = 0, minor = 0, patch = 0] = findRuntime(runtime).version.split(".").map(Number);
  return runtime === "deno" && (major < 2 || (major === 2 && (minor < 9 || (minor === 9 && patch < 5))));
}

/** Waits until a server holds no more than these honest clients need; without them, also no event and no timer. */
async function untilOnly(
  { server, handlesEach }: Besieged,
  before: { handles: number; events: number; timers: number },
  clients: number,
): Promise<void> {
  const handles = before.handles + clients * handlesEach;
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const holds = await server.holds();
    const noTimers = holds.events <= before.events && holds.active === 0 && holds.timers <= before.timers;
    if (holds.handles <= handles && (clients > 0 || noTimers)) return;
    if (performance.now() > deadline) {
      const { dump, ...counts } = holds;
      fail(
        `a server holds ${JSON.stringify(counts)}, and at first ${JSON.stringify({ ...before, dump: "" })}:\n${dump}`,
      );
    }
    await quiet(100);
  }
}

/**
 * A server prints one line about each peer, and nothing else: no stack, and no failure of its own.
 */
function assertOnlyPeers(printed: string): void {
  const ofPeers = /ECONNRESET|EPIPE|ERR_TLS|^Nothing has arrived or left|^Cannot end the pipe/;
  const others = printed.split("\n").filter((line) => line !== "" && !ofPeers.test(line));
  assertEquals(others.slice(0, 20), []);
}
