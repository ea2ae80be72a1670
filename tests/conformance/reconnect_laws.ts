/** `reconnect()`: a client that is connected again soon after its server has restarted. */

import { reconnect, type Server } from "../../core/mod.ts";
import { assert, assertEquals } from "./assert.ts";
import { on } from "./on.ts";
import { type PollScene, pollScene } from "./poll_scene.ts";
import type { FullSubject } from "./subject.ts";
import { describe, it } from "./suite.ts";

const TIMES = 5;
const MAX_MS = 300;
const JITTER = 0.5;
/** Added to the longest delay: the time of an attempt, and of a busy machine. */
const SLACK_MS = 10_000;
/**
 * A server ends its connections by a FIN, or by a RST if it has not read everything; then nobody
 * listens.
 */
const EXPECTED: readonly (string | undefined)[] = [undefined, "ECONNRESET", "EPIPE", "ECONNREFUSED"];

/** An echo server that can be ended at once. */
export interface Ending {
  readonly port: number;
  kill(): Promise<void>;
}

/**
 * Ends the server and starts it again, several times.
 *
 * @param scene The test
 * @param start Starts the server on a port, 0 for any
 */
export async function assertComesBack(scene: PollScene, start: (port: number) => Promise<Ending>): Promise<void> {
  const { runtime } = scene;
  let peer = await start(0);
  const { port } = peer;
  const losses: [code: string | undefined, delayMs: number, attempt: number][] = [];
  const answers: string[] = [];
  let opened = 0;
  const link = reconnect({
    runtime,
    hostname: "127.0.0.1",
    port,
    timeoutMs: 20_000,
    stableMs: 50,
    backoff: { initialMs: 20, maxMs: MAX_MS, jitter: JITTER },
  }, {
    open: (bev) => void bev.write(`hello ${++opened}\n`),
    line: (_bev, line) => void answers.push(new TextDecoder().decode(line)),
    lost: (error, delayMs, attempt) => void losses.push([error?.code, delayMs, attempt]),
  });
  try {
    await link.ready();
    for (let i = 0; i < TIMES; i++) {
      await scene.until(() => answers.length > i && link.attempts === 0, () => `${answers.length} answers`);
      const before = losses.length;
      await peer.kill();
      await scene.until(() => losses.length >= before + 2, () => `${losses.length} losses`);
      assertEquals(losses[before]?.[2], 1);
      peer = await start(port);
      const begin = runtime.now();
      await link.ready();
      const took = runtime.now() - begin;
      assert(took <= MAX_MS * (1 + JITTER) + SLACK_MS, `${took} ms`);
    }
    await scene.until(() => answers.length > TIMES, () => `${answers.length} answers`);
    assertEquals(answers, Array.from({ length: TIMES + 1 }, (_, i) => `hello ${i + 1}`));
    assertEquals([...new Set(losses.map(([code]) => code))].filter((code) => !EXPECTED.includes(code)), []);
    for (const [, delayMs] of losses) assert(delayMs <= MAX_MS * (1 + JITTER));
  } finally {
    await link.close();
    await peer.kill();
  }
}

/** Tests one runtime. */
export function reconnectLaws(name: string, makeSubject: () => FullSubject): void {
  describe(`${name}: reconnect()`, () => {
    it(`connects again within its back-off after the server was closed and started again, ${TIMES} times`, () =>
      pollScene(makeSubject(), (scene) =>
        assertComesBack(scene, async (port) => {
          const server: Server = await on(scene.runtime).serve({ hostname: "127.0.0.1", port }, {
            read: (bev) => bev.output.addBuffer(bev.input),
          });
          return { port: server.port as number, kill: () => server.close({ graceMs: 0 }) };
        })));
  });
}
