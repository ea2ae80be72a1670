/** heartbeat() with a process that is stopped, on whichever of Node, Deno and Bun runs this. */

import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { connect, detectRuntime, type EventError, heartbeat } from "../../mod.ts";
import { PeerProcess } from "./peer_process.ts";

const runtime = detectRuntime();
const OPTIONS = { everyMs: 100, send: "PING\n", timeoutMs: 600 };
/** On top of that: a machine that is busy. */
const SLACK_MS = 400;

describe(`${runtime.name}: heartbeat()`, { skip: process.platform === "win32" && "Windows has no SIGSTOP" }, () => {
  it("leaves a peer alone that answers, and finds one that was stopped by SIGSTOP within timeoutMs", async () => {
    const peer = await PeerProcess.start(0);
    try {
      let answers = 0;
      let closed: { reason: EventError | undefined; at: number } | undefined;
      const bev = await connect({ runtime, hostname: "127.0.0.1", port: peer.port }, {
        line: () => void answers++,
        close: (_bev, reason) => void (closed = { reason, at: runtime.now() }),
      });
      heartbeat(bev, OPTIONS);
      const begin = runtime.now();
      while (runtime.now() - begin < 1_500) await pause(20);
      assertEquals(closed, undefined);
      assert(answers >= 5 && answers <= 15, `${answers} answers`);
      const stopped = runtime.now();
      peer.signal("SIGSTOP");
      while (closed === undefined && runtime.now() - stopped < 10_000) await pause(20);
      assertEquals(closed?.reason?.code, "ETIMEDOUT");
      const took = (closed?.at ?? Infinity) - stopped;
      assert(took <= OPTIONS.timeoutMs + SLACK_MS, `${took} ms`);
    } finally {
      await peer.kill();
    }
    while (runtime.openHandles > 0) await pause(10);
  });
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
