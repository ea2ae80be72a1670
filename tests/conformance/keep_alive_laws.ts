/**
 * `keepAlive` of `serve()` and `connect()`: refused with a message or accepted, and its effect in
 * the system.
 */

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import process from "node:process";
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
    // Bytes that were acknowledged late have had their own timer.
    await scene.sleep(100);
    return ports.map(probeIn);
  });
}

/**
 * The options that another program reads from a socket that it inherits: SO_KEEPALIVE,
 * TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
 */
const READ_OPTIONS = `open(my $s, "+<&=", 3) or die;
print join " ", map { unpack "i", getsockopt($s, $_->[0], $_->[1]) } [1, 9], [6, 4], [6, 5], [6, 6];`;

/** The settings of the connection of this process with a local port, as the system has them; times in seconds. */
function settings(port: number): { on: number; delay: number; interval: number; count: number } {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = readFileSync("/proc/self/net/tcp", "utf8").split("\n").map((line) => line.trim().split(/\s+/));
  // 01 is ESTABLISHED.
  const inode = lines.find((columns) => columns[1]?.endsWith(local) === true && columns[3] === "01")?.[9];
  const fd = readdirSync("/proc/self/fd").find((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`) === `socket:[${inode}]`;
    } catch {
      return false;
    }
  });
  assert(fd !== undefined, `there is no descriptor of port ${port}`);
  const { stdout } = spawnSync("perl", ["-e", READ_OPTIONS], { stdio: ["ignore", "pipe", "inherit", Number(fd)] });
  const [on = NaN, delay = NaN, interval = NaN, count = NaN] = String(stdout).split(" ").map(Number);
  return { on, delay, interval, count };
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
      it(`${can ? "accepts" : "refuses with a message"} ${option}, according to the capability`, () =>
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

    it("sends the first probe after delayMs, at both ends", {
      skip: unseen || (!capabilities.keepAliveDelay && "capabilities.keepAliveDelay is false"),
    }, () =>
      pollScene(makeSubject(), async (scene) => {
        const [server, client] = await probes(scene, { delayMs: 40_000 }, { delayMs: 19_200 });
        assert(server !== undefined && server > 35 && server <= 40, `${server}`);
        // Rounded up to 20 s.
        assert(client !== undefined && client > 15 && client <= 20, `${client}`);
      }));

    const unreadable = unseen || (process.platform !== "linux" && "the numbers of the options are those of Linux") ||
      missing("perl");
    it("reaches the system with its delay, its interval and its count, at both ends", {
      skip: unreadable || (!capabilities.keepAliveProbes && "capabilities.keepAliveProbes is false"),
    }, () =>
      pollScene(makeSubject(), async (scene) => {
        const [server, client] = [{ delayMs: 7_000, intervalMs: 2_500, count: 4 }, { intervalMs: 9_000, count: 127 }];
        await between(scene, server, client, (...ports) => {
          assertEquals(settings(ports[0]), { on: 1, delay: 7, interval: 3, count: 4 });
          // The delay is the system's default.
          const { on, delay, interval, count } = settings(ports[1]);
          assertEquals({ on, interval, count }, { on: 1, interval: 9, count: 127 });
          assert(delay > 60, `${delay}`);
        });
      }));

    it("reaches the system with its delay if the interval and the count cannot be chosen", {
      skip: unreadable || (!capabilities.keepAliveDelay && "capabilities.keepAliveDelay is false"),
    }, () =>
      pollScene(makeSubject(), async (scene) => {
        await between(scene, { delayMs: 19_200 }, false, (...ports) => {
          const { on, delay } = settings(ports[0]);
          assertEquals([on, delay, settings(ports[1]).on], [1, 20, 0]);
        });
      }));
  });
}
