// The files of examples/deploy/, each checked by the program that reads it.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { ROOT } from "../tools/runtimes.mjs";

const CHECKS = [
  ["haproxy", "-c", "-f", "haproxy.cfg"],
  ["nats-server", "-t", "-c", "nats.conf"],
  ["systemd-analyze", "verify", "./gateway.service", "./gateway.socket"],
] as const;

const FOLDER = join(ROOT, "examples", "deploy");

/** Replaces a part of a file, which must be there. */
function replace(text: string, part: string, by: string): string {
  assert(text.includes(part), `there is no ${part}`);
  return text.replace(part, by);
}

/** A server that sends its name to each client. */
async function listen(name: string): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => socket.on("error", () => {}).resume().end(name));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, port: (server.address() as { port: number }).port };
}

/** Connects, sends `words`, and resolves with the answer. */
function hear(where: { port: number; host: string } | { path: string }, words = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = "";
    const socket = connect(where, () => socket.write(words)).on("error", reject);
    socket.on("data", (chunk) => heard += chunk).on("close", () => resolve(heard));
  });
}

describe("the files for a deployment", () => {
  for (const [program, ...args] of CHECKS) {
    it(
      `are accepted by ${program}: ${args.at(-1)}`,
      { skip: needs(program) },
      () => {
        const { status, stdout, stderr } = spawnSync(program, args, {
          cwd: FOLDER,
          env: { ...process.env, NATS_PASSWORD: "secret" },
          encoding: "utf8",
        });
        assertEquals(status, 0, `${stdout}${stderr}`);
      },
    );
  }

  it("are valid without socket activation, as README.md describes", { skip: needs("systemd-analyze") }, () => {
    const folder = mkdtempSync(join(tmpdir(), "trivent-deploy-"));
    try {
      let unit = readFileSync(join(FOLDER, "gateway.service"), "utf8");
      for (const line of ["Requires=gateway.socket\n", "Sockets=gateway.socket\n"]) unit = replace(unit, line, "");
      const path = join(folder, "gateway.service");
      writeFileSync(path, replace(unit, " fd:3 ", " 0.0.0.0:9881 "));
      const { status, stdout, stderr } = spawnSync("systemd-analyze", ["verify", path], { encoding: "utf8" });
      assertEquals([status, `${stdout}${stderr}`], [0, ""]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it(
    "remove a gateway whose port stays open, with the command of README.md",
    { skip: needs("haproxy") },
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "trivent-deploy-"));
      const gateways = await Promise.all(["gateway-1", "gateway-2", "gateway-3"].map(listen));
      const free = await listen("");
      await new Promise((resolve) => free.server.close(resolve));
      const admin = join(folder, "admin.sock");
      let config = readFileSync(join(FOLDER, "haproxy.cfg"), "utf8");
      config = replace(config, "/run/haproxy/admin.sock", admin);
      // Fewer descriptors than a test machine has.
      config = replace(config, "maxconn 100000", "maxconn 100");
      config = replace(config, "bind :9881", `bind 127.0.0.1:${free.port}`);
      gateways.forEach(({ port }, i) => config = replace(config, `10.0.0.${11 + i}:9881`, `127.0.0.1:${port}`));
      const path = join(folder, "haproxy.cfg");
      writeFileSync(path, config.slice(0, config.indexOf("frontend figures")));
      const proxy = await start("haproxy", ["-f", path, "-W", "-db"], { ready: /Loading success|New worker/ });
      try {
        const served = async (): Promise<string[]> => {
          const names = new Set<string>();
          for (let i = 0; i < 12; i++) names.add(await hear({ port: free.port, host: "127.0.0.1" }));
          return [...names].sort();
        };
        assertEquals(await served(), ["gateway-1", "gateway-2", "gateway-3"]);
        const readme = readFileSync(join(FOLDER, "README.md"), "utf8");
        const [, drain] = /echo "(.*)" \| socat/.exec(readme) ?? [];
        const [, ready] = /HAProxy `(set server .*)`/.exec(readme) ?? [];
        assertEquals((await hear({ path: admin }, `${drain}\n`)).trim(), "");
        assertEquals(await served(), ["gateway-2", "gateway-3"]);
        assertEquals((await hear({ path: admin }, `${ready}\n`)).trim(), "");
        assertEquals(await served(), ["gateway-1", "gateway-2", "gateway-3"]);
      } finally {
        await proxy.stop("SIGKILL");
        for (const { server } of gateways) server.close();
        rmSync(folder, { recursive: true });
      }
    },
  );
});
