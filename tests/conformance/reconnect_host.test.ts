/** reconnect() with a server that is killed, on whichever of Node, Deno and Bun runs this. */

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { detectRuntime, reconnect } from "../../mod.ts";
import { PeerProcess } from "./peer_process.ts";

const runtime = detectRuntime();
const MAX_MS = 300;
const JITTER = 0.5;
/** On top of the longest delay: an attempt, and a machine that is busy. */
const SLACK_MS = 1_000;

describe(`${runtime.name}: reconnect()`, () => {
  it("is back within its back-off when the server was killed and started again, five times", async () => {
    let peer = await PeerProcess.start(0);
    const { port } = peer;
    const losses: [code: string | undefined, delayMs: number, attempt: number][] = [];
    const answers: string[] = [];
    let opened = 0;
    const link = reconnect({
      runtime,
      port,
      timeoutMs: 5_000,
      stableMs: 50,
      backoff: { initialMs: 20, maxMs: MAX_MS, jitter: JITTER },
    }, {
      open: (bev) => void bev.write(`hello ${++opened}\n`),
      line: (_bev, line) => void answers.push(new TextDecoder().decode(line)),
      lost: (error, delayMs, attempt) => void losses.push([error?.code, delayMs, attempt]),
    });
    try {
      await link.ready();
      for (let i = 0; i < 5; i++) {
        while (answers.length <= i || link.attempts > 0) await pause(10);
        const before = losses.length;
        await peer.kill();
        while (losses.length < before + 2) await pause(10);
        assertEquals(losses[before]?.[2], 1);
        peer = await PeerProcess.start(port);
        const begin = runtime.now();
        await link.ready();
        const took = runtime.now() - begin;
        assert(took <= MAX_MS * (1 + JITTER) + SLACK_MS, `${took} ms`);
      }
      while (answers.length < 6) await pause(10);
      assertEquals(answers, Array.from({ length: 6 }, (_, i) => `hello ${i + 1}`));
      assertEquals([...new Set(losses.map(([code]) => code))].filter((code) => !EXPECTED.includes(code)), []);
      for (const [, delayMs] of losses) assert(delayMs <= MAX_MS * (1 + JITTER));
    } finally {
      await link.close();
      await peer.kill();
    }
    while (runtime.openHandles > 0) await pause(10);
  });
});

/** A killed process ends its connections by a FIN, or by a RST where it has not read all; then nobody listens. */
const EXPECTED: readonly (string | undefined)[] = [undefined, "ECONNRESET", "EPIPE", "ECONNREFUSED"];

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
