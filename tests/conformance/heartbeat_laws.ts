/** `heartbeat()`: it keeps a peer that answers, and detects one that has become silent in time. */

import { EV_READ, type EventError, heartbeat, type SocketBufferEvent } from "../../core/mod.ts";
import { assert, assertEquals } from "./assert.ts";
import { on } from "./on.ts";
import { type PollScene, pollScene } from "./poll_scene.ts";
import type { FullSubject } from "./subject.ts";
import { describe, it } from "./suite.ts";

/**
 * The peer gets many messages before its silence counts: a busy machine may not run it for a
 * second.
 */
const OPTIONS = { everyMs: 100, send: "PING\n", timeoutMs: 2_000 };
/** A busy machine may be later than `timeoutMs` by this. */
const SLACK_MS = 5_000;
/** The time for which the peer answers. */
const ANSWERS_MS = 1_500;

/**
 * Connects to an echo server with a heartbeat, and makes the server silent after a while.
 *
 * @param scene The test
 * @param port The port of the server
 * @param silence Makes the server silent
 */
export async function assertFindsSilence(scene: PollScene, port: number, silence: () => void): Promise<void> {
  const { runtime } = scene;
  let answers = 0;
  let closed: { reason: EventError | undefined; at: number } | undefined;
  const bev = await on(runtime).connect({ hostname: "127.0.0.1", port }, {
    line: () => void answers++,
    close: (_bev, reason) => void (closed = { reason, at: runtime.now() }),
  });
  heartbeat(bev, OPTIONS);
  await scene.sleep(ANSWERS_MS);
  assertEquals(closed, undefined);
  // A busy machine sends fewer, but never more.
  assert(answers >= 1 && answers <= 1 + ANSWERS_MS / OPTIONS.everyMs, `${answers} answers`);
  const silent = runtime.now();
  silence();
  await scene.until(() => closed !== undefined, () => "the silence is not found");
  assertEquals(closed?.reason?.code, "ETIMEDOUT");
  const took = (closed?.at ?? Infinity) - silent;
  assert(took <= OPTIONS.timeoutMs + SLACK_MS, `${took} ms`);
}

/** Tests one runtime. */
export function heartbeatLaws(name: string, makeSubject: () => FullSubject): void {
  describe(`${name}: heartbeat()`, () => {
    it("keeps a peer that answers, and detects within timeoutMs one that has become silent", () =>
      pollScene(makeSubject(), async (scene) => {
        const peers: SocketBufferEvent[] = [];
        const server = await on(scene.runtime).serve({ hostname: "127.0.0.1", port: 0 }, {
          open: (bev) => void peers.push(bev),
          read: (bev) => bev.output.addBuffer(bev.input),
        });
        await assertFindsSilence(scene, server.port as number, () => peers[0]?.disable(EV_READ));
        await server.close({ graceMs: 0 });
      }));
  });
}
