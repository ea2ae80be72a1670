/** keepAlive of serve() and connect(), as the system shows it, on whichever of Node, Deno and Bun runs this. */

import { spawnSync } from "node:child_process";
import { describe, it } from "node:test";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect, detectRuntime, EventError, type KeepAliveOptions, serve } from "../../mod.ts";
import { needs } from "../tools/needs.ts";

const runtime = detectRuntime();
const { capabilities } = runtime;

/** The seconds until the first probe of the connection that a port has, as `ss -o` shows them; undefined for no timer. */
function probeIn(port: number): number | undefined {
  const { stdout } = spawnSync("ss", ["-tno", "state", "established", "sport", "=", `:${port}`], { encoding: "utf8" });
  assertMatch(stdout, new RegExp(`:${port}\\s`));
  const [, amount, unit] = /timer:\(keepalive,([\d.]+)(min|sec|ms)/.exec(stdout) ?? [];
  return amount === undefined ? undefined : Number(amount) * (unit === "min" ? 60 : unit === "sec" ? 1 : 0.001);
}

/** Both ends of a connection, each with its option. */
async function ends(
  server: boolean | KeepAliveOptions | undefined,
  client: boolean | KeepAliveOptions | undefined,
): Promise<{ server: number | undefined; client: number | undefined }> {
  const listening = await serve({ runtime, hostname: "127.0.0.1", port: 0, keepAlive: server }, { read() {} });
  const port = listening.port as number;
  const bev = await connect({ runtime, hostname: "127.0.0.1", port, keepAlive: client });
  while (listening.connections === 0) await pause(5);
  await pause(100);
  const shown = { server: probeIn(port), client: probeIn((bev.localAddress as { port: number }).port) };
  bev.free();
  await listening.close({ graceMs: 0 });
  return shown;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

describe(`${runtime.name}: keepAlive`, { skip: needs("ss") }, () => {
  it("is off by default and with false, and on with true", async () => {
    assertEquals(await ends(undefined, false), { server: undefined, client: undefined });
    const { server, client } = await ends(true, undefined);
    assert(server !== undefined && server > 60, `${server}`);
    assertEquals(client, undefined);
    assert((await ends(false, true)).client !== undefined);
  });

  it(
    "begins after delayMs, at both ends, where that can be chosen",
    { skip: !capabilities.keepAliveDelay },
    async () => {
      const { server, client } = await ends({ delayMs: 40_000 }, { delayMs: 19_200 });
      assert(server !== undefined && server > 35 && server <= 40, `${server}`);
      // Rounded up to 20 s.
      assert(client !== undefined && client > 15 && client <= 20, `${client}`);
    },
  );

  it("is refused in words, where something is asked for by name that the runtime cannot do", async () => {
    const asked: [options: KeepAliveOptions, can: boolean][] = [
      [{ delayMs: 1_000 }, capabilities.keepAliveDelay],
      [{ intervalMs: 1_000 }, capabilities.keepAliveProbes],
      [{ count: 3 }, capabilities.keepAliveProbes],
    ];
    for (const [keepAlive, can] of asked) {
      if (can) {
        assert((await ends(keepAlive, keepAlive)).client !== undefined);
        continue;
      }
      for (const use of [serve({ port: 0, keepAlive }, {}), connect({ port: 9, keepAlive })]) {
        const error = await assertRejects(() => use as Promise<unknown>, EventError) as EventError;
        assertEquals(error.code, "EV_UNSUPPORTED");
        assertMatch(error.message, /^Cannot choose .* keep-alive.*: /);
      }
    }
    while (runtime.openHandles > 0) await pause(5);
  });
});
