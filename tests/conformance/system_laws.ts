/**
 * Law 12: options of a connection reach the system. Linux shows them in `/proc/net/tcp`, and in the
 * time at which a segment leaves.
 */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { assert, assertEquals } from "./assert.ts";
import { programArguments } from "./programs.ts";
import { type Peer, type Scene, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";
import { describe, it } from "./suite.ts";

/** Linux acknowledges a segment at once or after 40 ms or more. Nagle's algorithm waits for that. */
const DELAYED_ACK_MS = 20;
const ROUNDS = 9;
const ATTEMPTS = 8;

/** The timer of a connection in /proc/net/tcp: "02" is that of keep-alive, and when it is due, in seconds. */
function timerOf({ binding }: Peer): { kind: string; seconds: number } {
  const hex = (address: unknown): string =>
    (address as { port: number }).port.toString(16).toUpperCase().padStart(4, "0");
  const ends = [hex(binding!.local), hex(binding!.remote)];
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1)) {
    const [, local = "", remote = "", , , timer = ""] = line.trim().split(/\s+/);
    if (!local.endsWith(`:${ends[0]}`) || !remote.endsWith(`:${ends[1]}`)) continue;
    const [kind = "", when = ""] = timer.split(":");
    return { kind, seconds: parseInt(when, 16) / 100 };
  }
  throw new Error(`no connection between the ports ${ends}`);
}

async function becomes(scene: Scene, peer: Peer, kind: string): Promise<void> {
  // Bytes that were acknowledged late have had their own timer.
  await scene.until(() => timerOf(peer).kind === kind, () => `the timer is ${timerOf(peer).kind} and not ${kind}`);
}

/** Half of the times that a second small write takes longer than this to arrive, in milliseconds. */
async function secondWriteMs(scene: Scene, client: Peer, server: Peer): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    // A question and an answer: after them Linux waits with an acknowledgement, since an answer might carry it.
    const [asked, answered] = [server.bytes, client.bytes];
    client.write("q");
    await server.atLeast(asked + 1);
    server.write("a");
    await client.atLeast(answered + 1);
    await scene.sleep(50);
    client.write("1");
    // A separate system call for the second write.
    await scene.sleep(2);
    const begin = performance.now();
    client.write("2");
    await server.atLeast(asked + 3);
    times.push(performance.now() - begin);
    server.write("a");
    await client.atLeast(answered + 2);
  }
  return times.sort((a, b) => a - b)[ROUNDS >> 1]!;
}

/**
 * Measures when a second small write arrives. A busy machine may delay any write, so it measures
 * several times.
 */
async function assertArrives(
  scene: Scene,
  client: Peer,
  server: Peer,
  expected: "at once" | "late",
  when: string,
): Promise<void> {
  let measured = 0;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    measured = await secondWriteMs(scene, client, server);
    if ((measured > DELAYED_ACK_MS) === (expected === "late")) return;
  }
  assert(false, `${when}, a second small write arrives after ${measured} ms and not ${expected}`);
}

/**
 * Lets clients of another process connect while this one accepts nothing. Returns how many are
 * connected after a while.
 */
function knock(port: number, clients: number): number {
  const program = `const { connect } = require("node:net");
let connected = 0;
for (let i = 0; i < ${clients}; i++) {
  connect({ port: ${port}, host: "127.0.0.1" }).on("connect", () => connected++).on("error", () => {});
}
// Twice: a process that was held up hears of its timers before its connections.
setTimeout(() => setTimeout(() => { console.log(connected); process.exit(0); }, 100), 500);
`;
  const { stdout, stderr } = spawnSync(process.execPath, [...programArguments(program)], { encoding: "utf8" });
  if (!/^\d+\n$/.test(stdout)) throw new Error(`the clients failed: ${stdout} ${stderr}`);
  return Number(stdout);
}

/** Tests one runtime. */
export function systemLaws(name: string, makeSubject: () => FullSubject): void {
  const { ownNetwork, runtime: { capabilities } } = makeSubject();
  const skip = ownNetwork
    ? "the network is not the system's"
    : process.platform !== "linux" && "only Linux shows options of connections";

  describe(`${name}: the system`, { skip }, () => {
    it("sends a second small write at once, but after setNoDelay(false) only when the first was acknowledged", () =>
      scene(makeSubject(), async (scene) => {
        const { client, server } = await scene.pair();
        await assertArrives(scene, client, server, "at once", "as it begins");
        client.binding!.setNoDelay(false);
        await assertArrives(scene, client, server, "late", "after setNoDelay(false)");
        client.binding!.setNoDelay(true);
        await assertArrives(scene, client, server, "at once", "after setNoDelay(true)");
      }));

    it("sends the first probe of keep-alive after the given time, if that can be chosen", () =>
      scene(makeSubject(), async (scene) => {
        const { client } = await scene.pair();
        await becomes(scene, client, "00");
        client.binding!.setKeepAlive(true, 1_000_000);
        await becomes(scene, client, "02");
        const { seconds } = timerOf(client);
        client.binding!.setKeepAlive(false, 0);
        const usual = Number(readFileSync("/proc/sys/net/ipv4/tcp_keepalive_time", "utf8"));
        const expected = capabilities.keepAliveDelay ? 1000 : usual;
        assert(Math.abs(seconds - expected) < 100, `the first probe is due in ${seconds} s, not in ${expected}`);
        await becomes(scene, client, "00");
      }));

    it("lets as many connections wait as the backlog, if that can be chosen", () =>
      scene(makeSubject(), async (scene) => {
        for (const backlog of [5, 20]) {
          const listener = await scene.listen({ hostname: "127.0.0.1", port: 0, backlog });
          const connected = knock(listener.port, 60);
          await listener.close();
          // Linux lets one more wait. If the backlog cannot be chosen, the runtime's own is larger.
          assertEquals(connected, capabilities.backlog ? backlog + 1 : 60);
        }
      }));
  });
}
