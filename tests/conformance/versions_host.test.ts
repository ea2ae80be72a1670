/**
 * Versions of runtimes with defects: the adapters refuse them, or the affected features, and report
 * why.
 */

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type Capabilities, connect, detectRuntime, EventError, serve } from "../../mod.ts";

const here = detectRuntime();
const [folder, extension] = here.name === "node" ? ["dist/", "js"] : ["", "ts"];

/**
 * Lets this runtime pretend to be others, one after the other, up to the first that is accepted.
 * @returns A line for each
 */
function pretending(host: string, ...versions: string[]): string[] {
  const script = join("tests", "conformance", "fixtures", "versions.mjs");
  const url = pathToFileURL(join(process.cwd(), folder, "/")).href;
  const flags = here.name === "deno" ? ["run", "-A", "--quiet", "--no-check"] : [];
  const printed = execFileSync(process.execPath, [...flags, script, url, extension, host, ...versions], {
    encoding: "utf8",
  });
  return printed.trim().split("\n");
}

describe(`the adapters on ${here.name}`, () => {
  it("refuse a Bun that loses bytes and verifies no certificates, with both versions", {
    skip: here.name === "bun" && "Bun's version can't be changed",
  }, () => {
    const words = "EV_UNSUPPORTED Cannot use the network on Bun: it takes Bun 1.4.1 or later, and this is";
    const why = "an older one loses bytes, and does not verify certificates as it should";
    assertEquals(pretending("bun", "1.0.36", "1.3.14", "1.4.0", "1.4.0-canary.20260901", "1.4.1"), [
      `1.0.36 ${words} 1.0.36: ${why}`,
      `1.3.14 ${words} 1.3.14: ${why}`,
      `1.4.0 ${words} 1.4.0: ${why}`,
      `1.4.0-canary.20260901 ${words} 1.4.0-canary.20260901: ${why}`,
      `1.4.1 tls true true reusePort ${process.platform === "linux"}: undefined`,
    ]);
    assert(pretending("bun", "1.10.0")[0]!.startsWith("1.10.0 tls true"));
  });

  it("refuse a Deno that hangs, and TLS on versions that report a clean end as a truncated one", () => {
    const words = "EV_UNSUPPORTED Cannot use the network on Deno: it takes Deno 2.9.0 or later, and this is";
    const why = "an older one hangs, and loses what comes before a reset";
    assertEquals(pretending("deno", "1.46.3", "2.7.14", "2.8.3", "2.9.0"), [
      `1.46.3 ${words} 1.46.3: ${why}`,
      `2.7.14 ${words} 2.7.14: ${why}`,
      `2.8.3 ${words} 2.8.3: ${why}`,
      "2.9.0 tls false false reusePort false: it takes Deno 2.9.3 or later, and this is 2.9.0",
    ]);
    for (const [version, tls] of [["2.9.2", false], ["2.9.3", true], ["2.10.0", true], ["3.0.0+abc", true]] as const) {
      assert(pretending("deno", version)[0]!.startsWith(`${version} tls ${tls} ${tls}`), version);
    }
  });

  it("refuse a Node without process.getBuiltinModule()", () => {
    const words = "EV_UNSUPPORTED Cannot use the network on Node: it takes Node 20.16 or 22.3 or later, and this is";
    const why = "an older one has no process.getBuiltinModule()";
    for (const version of ["18.20.8", "20.15.1", "21.7.3", "22.2.0"]) {
      assertEquals(pretending("node", version), [`${version} ${words} ${version}: ${why}`]);
    }
    const linux = process.platform === "linux";
    for (
      const [version, share] of [["20.16.0", false], ["22.3.0", false], ["22.12.0", true], ["23.0.0", false]] as const
    ) {
      assert(
        pretending("node", version)[0]!.startsWith(`${version} tls true true reusePort ${share && linux}`),
        version,
      );
    }
  });

  it("name the version that a missing feature needs", async () => {
    const can: Readonly<Capabilities> = here.capabilities;
    const wishes: Partial<Record<keyof Capabilities, () => unknown>> = {
      reusePort: () => serve({ hostname: "127.0.0.1", port: 0, reusePort: true }, {}),
      tls: () => connect({ hostname: "127.0.0.1", port: 9, tls: {} }, {}),
      ipv6Only: () => serve({ hostname: "::1", port: 0, ipv6Only: true }, {}),
      localAddress: () => connect({ hostname: "127.0.0.1", port: 9, localAddress: "127.0.0.1" }, {}),
    };
    for (const [capability, wish] of Object.entries(wishes)) {
      if (can[capability as keyof Capabilities]) continue;
      // deno-lint-ignore require-await -- what is thrown becomes the rejection
      const error = await assertRejects(async () => wish(), EventError, undefined, capability) as EventError;
      assertEquals(error.code, "EV_UNSUPPORTED");
      const why = here.lacks?.[capability as keyof Capabilities] ?? `${here.name} does not support it`;
      assert(error.message.startsWith("Cannot ") && error.message.endsWith(why), error.message);
    }
    assertEquals(here.openHandles, 0);
  });

  it("refuse TLS before anything is sent, if it is not reliable", {
    skip: here.capabilities.tls && "it can be relied on here",
  }, async () => {
    let heard = 0;
    const server = await serve({ hostname: "127.0.0.1", port: 0 }, { open: () => void heard++ });
    const to = { hostname: "127.0.0.1", port: (server.address as { port: number }).port };
    assertEquals(
      (await assertRejects(() => connect({ ...to, tls: {} }, {}), EventError) as EventError).code,
      "EV_UNSUPPORTED",
    );
    assertEquals(heard, 0);
    const plain = await connect(to, {});
    assertEquals((assertThrows(() => plain.startTls({}), EventError) as EventError).code, "EV_UNSUPPORTED");
    plain.free();
    await server.close();
  });
});
