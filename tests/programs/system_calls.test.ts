// A reply leaves in one system call, however many chunks it has: strace counts the calls of a
// server.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { pathToFileURL } from "node:url";
import { assertEquals } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { findRuntime, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { Client, eventually, startCommand } from "./workshop.ts";

/**
 * The parts of a reply: the method, the number of chunks and the bytes of each. A newline follows.
 */
const REPLIES: readonly [how: "add" | "addReference", chunks: number, bytes: number][] = [
  ["add", 1, 60],
  ["add", 1, 12_000],
  ["add", 5, 12_000],
  ["addReference", 4, 12_000],
  ["addReference", 100, 1000],
  ["addReference", 100, 2600],
  ["addReference", 16, 16_000],
  ["addReference", 60, 4300],
];
const TIMES = 3;

function command(runtime: RuntimeName, trace: string): { file: string; args: string[] } {
  const fixture = join(ROOT, "tests", "programs", "fixtures", "replies.mjs");
  const entry = pathToFileURL(join(ROOT, runtime === "node" ? "dist/mod.js" : "mod.ts")).href;
  const flags = { node: [], deno: ["run", "--quiet", "--no-check", "-A"], bun: ["run"] }[runtime];
  // -D: the server is the direct child, and strace a process beside it.
  const strace = [
    "-D",
    "-f",
    "-qq",
    "-yy",
    "-e",
    "trace=write,writev,sendto,sendmsg",
    "-e",
    "signal=none",
    "-o",
    trace,
  ];
  return { file: "strace", args: [...strace, findRuntime(runtime).path, ...flags, fixture, entry] };
}

/**
 * The number of bytes of each write to a socket. A call that another thread interrupts is printed
 * in two lines.
 */
function sends(trace: string): number[] {
  const sizes: number[] = [];
  const unfinished = new Map<string, boolean>();
  for (const line of readFileSync(trace, "utf8").split("\n")) {
    const [, thread = "", rest = ""] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
    const toSocket = /^(write|writev|sendto|sendmsg)\(\d+<TCP/.test(rest) || unfinished.get(thread) === true;
    if (rest.endsWith("<unfinished ...>")) {
      unfinished.set(thread, toSocket);
      continue;
    }
    unfinished.delete(thread);
    const taken = / = (\d+)$/.exec(rest)?.[1];
    if (toSocket && taken !== undefined) sizes.push(Number(taken));
  }
  return sizes;
}

for (const runtime of RUNTIMES) {
  it(`a reply of up to 256 KiB in many chunks is one system call on ${runtime}`, {
    skip: needs("strace"),
  }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "trivent-"));
    const trace = join(folder, "trace");
    try {
      const server = await startCommand(command(runtime, trace));
      const expected: number[] = [];
      try {
        const client = await Client.open(server.port);
        let all = 0;
        for (const [how, chunks, bytes] of REPLIES) {
          for (let i = 0; i < TIMES; i++) {
            client.socket.write(`${how} ${chunks} ${bytes}\n`);
            expected.push(chunks * bytes + 1);
            all += chunks * bytes + 1;
            await eventually("the reply is there", () => client.received === all);
          }
        }
        client.reset();
      } finally {
        assertEquals(await server.stop(), null);
      }
      assertEquals(sends(trace), expected);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
