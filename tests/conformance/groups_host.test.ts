/** Datagrams to multicast groups and from them, with a foreign program, on whichever of Node, Deno and Bun runs this. */

import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { DatagramSocket, detectRuntime, EAGAIN } from "../../mod.ts";
import { needs } from "../tools/needs.ts";

const runtime = detectRuntime();
const { multicast, multicastOptions, udp } = runtime.capabilities;
const GROUP = "239.255.83.8";
const LOOPBACK = "127.0.0.1";

/** A free port. */
async function freePort(): Promise<number> {
  const socket = await DatagramSocket.open(runtime, { hostname: "0.0.0.0" });
  const { port } = socket.address;
  socket.close();
  while (runtime.openHandles > 0) await pause(5);
  return port;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    assert(performance.now() < deadline, `${what}: not in time`);
    await pause(10);
  }
}

/** Starts socat; returns its output. */
function socat(...args: string[]): { child: ChildProcess; printed(): string; ended: Promise<void> } {
  const child = spawn("socat", args, { stdio: ["pipe", "pipe", "inherit"] });
  let printed = "";
  child.stdout?.setEncoding("utf8");
  child.stdout?.on("data", (text: string) => printed += text);
  return { child, printed: () => printed, ended: new Promise((resolve) => child.once("close", () => resolve())) };
}

/** Whether a port is bound, according to the system. */
function isBound(port: number): boolean {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  return readFileSync("/proc/net/udp", "utf8").includes(`:${hex} `);
}

describe(`${runtime.name}: multicast with socat`, {
  skip: needs("socat", "/proc") || (!udp || !multicast) && "capabilities.multicast is false",
}, () => {
  it("reaches a program that has joined the group, with the requested TTL", async () => {
    const port = await freePort();
    const from = `UDP4-RECVFROM:${port},ip-add-membership=${GROUP}:${LOOPBACK},ip-recvttl`;
    const { printed, ended } = socat("-u", from, 'SYSTEM:"cat; echo \\" with TTL $SOCAT_IP_TTL\\""');
    await until("socat listens", () => isBound(port));
    const ttl = multicastOptions ? 7 : 1;
    const sender = await DatagramSocket.open(runtime, {
      hostname: LOOPBACK,
      ...(multicastOptions ? { multicastTtl: ttl } : undefined),
    });
    sender.sendTo("hello", { hostname: GROUP, port });
    await ended;
    assertEquals(printed(), `hello with TTL ${ttl}\n`);
    sender.close();
  });

  it("arrives from a program until the group is left", async () => {
    const member = await DatagramSocket.open(runtime, { hostname: "0.0.0.0" });
    const { port } = member.address;
    const send = async (text: string): Promise<void> => {
      const { child, ended } = socat("-u", "-", `UDP4-DATAGRAM:${GROUP}:${port},ip-multicast-if=${LOOPBACK}`);
      child.stdin?.end(text);
      await ended;
    };
    const received: string[] = [];
    const take = (): boolean => {
      for (let datagram = member.recvFrom(); datagram !== EAGAIN; datagram = member.recvFrom()) {
        received.push(new TextDecoder().decode(datagram.data));
      }
      return received.length > 0;
    };
    await send("not yet");
    await member.join(GROUP, LOOPBACK);
    await send("hello");
    await until("it arrives", take);
    await member.leave(GROUP, LOOPBACK);
    await send("not any more");
    await pause(50);
    take();
    assertEquals(received, ["hello"]);
    member.close();
    while (runtime.openHandles > 0) await pause(5);
  });
});
