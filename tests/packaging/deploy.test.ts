// The files of examples/deploy/, each checked by the program that reads it.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { ROOT } from "../tools/runtimes.mjs";

const CHECKS = [
  ["haproxy", "-c", "-f", "haproxy.cfg"],
  ["nats-server", "-t", "-c", "nats.conf"],
  ["systemd-analyze", "verify", "./gateway.service", "./gateway.socket"],
] as const;

describe("the files for a deployment", () => {
  for (const [program, ...args] of CHECKS) {
    it(
      `are what ${program} takes: ${args.at(-1)}`,
      { skip: needs(program) },
      () => {
        const { status, stdout, stderr } = spawnSync(program, args, {
          cwd: join(ROOT, "examples", "deploy"),
          env: { ...process.env, NATS_PASSWORD: "secret" },
          encoding: "utf8",
        });
        assertEquals(status, 0, `${stdout}${stderr}`);
      },
    );
  }
});
