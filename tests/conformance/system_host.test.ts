/** Options that only the system knows of: on whichever of Node, Deno and Bun runs this, and on Linux, which tells. */

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { detectRuntime, EV_READ, EventBase, type InetAddress, type Socket } from "../../mod.ts";

const host = detectRuntime();
const { capabilities, name } = host;
const skip = process.platform === "linux" ? false : "only Linux tells, in /proc";
const entry = pathToFileURL(join(process.cwd(), name === "node" ? "dist/mod.js" : "mod.ts")).href;

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
    await sleep(300);
    assertEquals(timerOf(client).kind, "00");

    client.setKeepAlive(true, 100_000);
    await sleep(50);
    const { kind, seconds } = timerOf(client);
    client.setKeepAlive(false);
    client.close();
    (server as unknown as Socket).close();
    await listening.close();

    const usual = Number(readFileSync("/proc/sys/net/ipv4/tcp_keepalive_time", "utf8"));
    const expected = capabilities.keepAliveDelay ? 100 : usual;
    assertEquals(kind, "02", "keep-alive is on");
    assert(Math.abs(seconds - expected) < 10, `the first probe is due in ${seconds} s, not in ${expected}`);
  });

  it("lets as many connections wait as the backlog says, where that can be chosen", async () => {
    const script = join("tests", "conformance", "fixtures", "backlog.mjs");
    const options = name === "deno" ? ["run", "-A", "--no-check"] : [];
    const child = spawn(process.execPath, [...options, script, entry, "4", "1500"], { stdio: ["ignore", "pipe", 2] });
    const printed = await new Promise<string>((resolve) =>
      child.stdout!.setEncoding("utf8").once("data", (text: string) => resolve(text))
    );
    // It is busy from now on.
    await sleep(200);
    const base = new EventBase();
    const clients = Array.from({ length: 40 }, () => base.connect({ hostname: "127.0.0.1", port: Number(printed) }));
    await sleep(500);
    const connected = clients.filter((client) => client.connected).length;
    for (const client of clients) client.reset();
    await new Promise((resolve) => child.once("close", resolve));
    // Linux lets one more in.
    if (capabilities.backlog) assert(connected >= 4 && connected <= 6, `${connected} connections wait`);
    else assertEquals(connected, 40, "the host's own backlog is larger");
  });
});
