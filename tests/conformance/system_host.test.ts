/** Options that only the system knows of: on whichever of Node, Deno and Bun runs this, and on Linux, which tells. */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assert, assertEquals } from "@std/assert";
import { detectRuntime, EV_READ, EventBase, type InetAddress, type Socket } from "../../mod.ts";

const host = detectRuntime();
const { capabilities, name } = host;
const skip = process.platform === "linux" ? false : "only Linux tells, in /proc";

/** The timer of a connection, as /proc/net/tcp has it: "02" is that of keep-alive, and when it is due, in seconds. */
function timerOf(socket: Socket): { kind: string; seconds: number } {
  const hex = (address: unknown): string => (address as InetAddress).port.toString(16).toUpperCase().padStart(4, "0");
  const ends = [hex(socket.localAddress), hex(socket.remoteAddress)];
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1)) {
    const [, local = "", remote = "", , , timer = ""] = line.trim().split(/\s+/);
    if (!local.endsWith(`:${ends[0]}`) || !remote.endsWith(`:${ends[1]}`)) continue;
    const [kind = "", when = ""] = timer.split(":");
    return { kind, seconds: parseInt(when, 16) / 100 };
  }
  throw new Error(`no connection between the ports ${ends}`);
}

describe(`the system under ${name}`, { skip }, () => {
  it("sends the first probe of keep-alive after the time that it was given, where that can be chosen", async () => {
    const base = new EventBase();
    const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
    const client = base.connect({ hostname: "127.0.0.1", port: (listening.address as InetAddress).port });
    let server: Socket | number = -1;
    base.event(listening, EV_READ, () => {
      server = listening.accept();
    }).add();
    await base.dispatch();
    while (!client.connected) await sleep(5);
    // What was acknowledged late has had a timer of its own.
    const becomes = async (kind: string): Promise<void> => {
      for (let i = 0; i < 500 && timerOf(client).kind !== kind; i++) await sleep(10);
      assertEquals(timerOf(client).kind, kind);
    };
    await becomes("00");

    client.setKeepAlive(true, 1_000_000);
    await becomes("02");
    const { seconds } = timerOf(client);
    client.setKeepAlive(false);
    client.close();
    (server as unknown as Socket).close();
    await listening.close();

    const usual = Number(readFileSync("/proc/sys/net/ipv4/tcp_keepalive_time", "utf8"));
    const expected = capabilities.keepAliveDelay ? 1000 : usual;
    assert(Math.abs(seconds - expected) < 100, `the first probe is due in ${seconds} s, not in ${expected}`);
  });

  it("lets as many connections wait as the backlog says, where that can be chosen", async () => {
    const script = join("tests", "conformance", "fixtures", "knock.mjs");
    const options = name === "deno" ? ["run", "-A", "--no-check"] : [];
    for (const backlog of [5, 20]) {
      const listening = await new EventBase().listen({ hostname: "127.0.0.1", port: 0, backlog });
      const { port } = listening.address as InetAddress;
      const args = [...options, script, String(port), "60", "500"];
      // Nothing is accepted meanwhile: this process waits for that one.
      const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
      await listening.close();
      // Linux lets one more in. Where it can't be chosen, the host's own is larger.
      assertEquals(Number(stdout), capabilities.backlog ? backlog + 1 : 60, stderr);
    }
  });
});
