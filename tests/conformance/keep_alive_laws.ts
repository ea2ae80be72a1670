/** `keepAlive` of `serve()` and `connect()`: refused in words or accepted, and what the system makes of it. */

import { spawnSync } from "node:child_process";
import type { EventError, InetAddress, KeepAliveOptions } from "../../core/mod.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { on } from "./on.ts";
import { type PollScene, pollScene } from "./poll_scene.ts";
import type { FullSubject } from "./subject.ts";
import { describe, it } from "./suite.ts";

type Option = boolean | KeepAliveOptions | undefined;

/** Opens a connection, each end with its option, and calls `look` with the two ports. */
async function between<T>(
  scene: PollScene,
  server: Option,
  client: Option,
  look: (server: number, client: number) => Promise<T> | T,
): Promise<T> {
  const { serve, connect } = on(scene.runtime);
  const listening = await serve({ hostname: "127.0.0.1", port: 0, keepAlive: server }, { read() {} });
  const port = listening.port as number;
  const bev = await connect({ hostname: "127.0.0.1", port, keepAlive: client });
  try {
    await scene.until(() => listening.connections === 1, () => "the server's end is not there");
    return await look(port, (bev.localAddress as InetAddress).port);
  } finally {
    bev.free();
    await listening.close({ graceMs: 0 });
  }
}

/** The seconds until the first probe of the connection with this local port, as `ss -o` shows them; undefined without a timer. */
function probeIn(port: number): number | undefined {
  const { stdout } = spawnSync("ss", ["-tno", "state", "established", "sport", "=", `:${port}`], { encoding: "utf8" });
  assertMatch(stdout, new RegExp(`:${port}\\s`));
  const [, amount, unit] = /timer:\(keepalive,([\d.]+)(min|sec|ms)/.exec(stdout) ?? [];
  return amount === undefined ? undefined : Number(amount) * (unit === "min" ? 60 : unit === "sec" ? 1 : 0.001);
}

/** What the system shows of both ends. */
function probes(scene: PollScene, server: Option, client: Option): Promise<(number | undefined)[]> {
  return between(scene, server, client, async (...ports) => {
    // Bytes that were acknowledged late have had a timer of their own.
    await scene.sleep(100);
    return ports.map(probeIn);
  });
}

/** Tests one runtime. */
export function keepAliveLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: { capabilities }, ownNetwork, missing } = makeSubject();
  const unseen = ownNetwork ? "the network is not the system's" : missing("ss");

  describe(`${name}: keepAlive`, () => {
    const wishes: [options: KeepAliveOptions, can: boolean][] = [
      [{ delayMs: 1_000 }, capabilities.keepAliveDelay],
      [{ intervalMs: 1_000 }, capabilities.keepAliveProbes],
      [{ count: 3 }, capabilities.keepAliveProbes],
    ];
    for (const [keepAlive, can] of wishes) {
      const [option] = Object.keys(keepAlive);
      it(`${can ? "accepts" : "refuses in words"} ${option}, as the capability says`, () =>
        pollScene(makeSubject(), async (scene) => {
          if (can) return await between(scene, keepAlive, keepAlive, () => {});
          const { serve, connect } = on(scene.runtime);
          for (const use of [() => serve({ port: 0, keepAlive }, {}), () => connect({ port: 9, keepAlive })]) {
            const error = await assertRejects<EventError>(use as () => Promise<unknown>);
            assertEquals(error.code, "EV_UNSUPPORTED");
            assertMatch(error.message, /^Cannot choose .* keep-alive.*: /);
          }
        }));
    }

    it(
      "is off by default and with false, and on with true",
      { skip: unseen },
      () =>
        pollScene(makeSubject(), async (scene) => {
          assertEquals(await probes(scene, undefined, false), [undefined, undefined]);
          const [server, client] = await probes(scene, true, undefined);
          assert(server !== undefined && server > 60, `${server}`);
          assertEquals(client, undefined);
          assert((await probes(scene, false, true))[1] !== undefined);
        }),
    );

    it("begins after delayMs, at both ends", {
      skip: unseen || (!capabilities.keepAliveDelay && "capabilities.keepAliveDelay is false"),
    }, () =>
      pollScene(makeSubject(), async (scene) => {
        const [server, client] = await probes(scene, { delayMs: 40_000 }, { delayMs: 19_200 });
        assert(server !== undefined && server > 35 && server <= 40, `${server}`);
        // Rounded up to 20 s.
        assert(client !== undefined && client > 15 && client <= 20, `${client}`);
      }));
  });
}
