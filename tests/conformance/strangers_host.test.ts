/** Events that do not end a process that serves, on whichever of Node, Deno and Bun runs this. */

import { spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { assertEquals } from "@std/assert";
import { detectRuntime } from "../../mod.ts";

const { name } = detectRuntime();
const entry = pathToFileURL(join(process.cwd(), name === "node" ? "dist/mod.js" : "mod.ts")).href;

interface Ended {
  readonly code: number | null;
  readonly printed: string;
  readonly complained: string;
}

function run(situation: string): Promise<Ended> {
  const script = join("tests", "conformance", "fixtures", "strangers.mjs");
  const options = name === "deno" ? ["run", "-A", "--no-check"] : [];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...options, script, entry, situation], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let printed = "";
    let complained = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => printed += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => complained += text);
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, printed, complained }));
  });
}

describe(`${name}: a process that serves`, () => {
  it("survives any bytes of strangers silently, and stops with code 0 while a client stays", async () => {
    assertEquals(await run("view"), { code: 0, printed: "HELLO\nstopped\n", complained: "" });
  });

  it("survives a rejected handler, and prints its stack once", async () => {
    const { code, printed, complained } = await run("throws");
    assertEquals([code, printed], [0, "stopped\n"]);
    assertEquals(complained.match(/error: a failure of the handler/gi)?.length, 1, complained);
    assertEquals(/strangers\.mjs/.test(complained), true, complained);
  });
});
