// The memory for reads of a Deno connection is as large as its messages need: strace shows the size
// of each read.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { pathToFileURL } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { findRuntime, ROOT, RUNTIMES } from "../tools/runtimes.mjs";
import { Client, eventually, startCommand } from "./workshop.ts";

const SMALLEST = 4096;
const LARGEST = 262_144;
/** How many reads of the largest size may wait at a time. */
const MOST_LARGEST = 32;
const CLIENTS = 40;

/** A read that has brought bytes: its connection, the size of its memory, and the number of bytes. */
interface Read {
  readonly connection: string;
  readonly size: number;
  readonly got: number;
}

function readsIn(trace: string): Read[] {
  const reads: Read[] = [];
  for (const line of readFileSync(trace, "utf8").split("\n")) {
    const [, connection, size, got] = /recvfrom\(\d+<TCP:\[(.*?)\]>.*, (\d+), 0, NULL, NULL\) = (\d+)$/.exec(line) ??
      [];
    if (connection !== undefined && got !== "0") reads.push({ connection, size: Number(size), got: Number(got) });
  }
  return reads;
}

/** Sends a number of bytes, and waits until they have come back. */
async function ask(client: Client, bytes: number): Promise<void> {
  const all = client.received + bytes;
  client.socket.write(new Uint8Array(bytes));
  await eventually("the echo is there", () => client.received === all);
}

it("a connection of Deno reads into memory of the size that its messages need", {
  skip: RUNTIMES.includes("deno") ? needs("strace") : "Deno is not tested",
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "trivent-"));
  const trace = join(folder, "trace");
  const strace = ["-D", "-f", "-qq", "-yy", "-e", "trace=recvfrom", "-e", "signal=none", "-o", trace];
  const fixture = join(ROOT, "tests", "programs", "fixtures", "echo.mjs");
  const entry = pathToFileURL(join(ROOT, "mod.ts")).href;
  const deno = [findRuntime("deno").path, "run", "--quiet", "--no-check", "-A", fixture, entry];
  try {
    const server = await startCommand({ file: "strace", args: [...strace, ...deno] });
    try {
      const one = await Client.open(server.port);
      for (let i = 0; i < 10; i++) await ask(one, 64);
      for (let i = 0; i < 4; i++) await ask(one, 1_048_576);
      for (let i = 0; i < 40; i++) await ask(one, 64);
      const clients = [one];
      while (clients.length < CLIENTS) clients.push(await Client.open(server.port));
      await Promise.all(clients.map((client) => ask(client, 4_194_304)));
      for (const client of clients) await ask(client, 64);
      for (const client of clients) client.reset();
    } finally {
      assertEquals(await server.stop(), null);
    }
    const reads = readsIn(trace);
    const own = reads.filter(({ connection }) => connection === reads[0]!.connection);
    for (const { size, got } of own.slice(0, 10)) assertEquals([size, got], [SMALLEST, 64], "small messages");
    assert(own.some(({ size, got }) => size === LARGEST && got > LARGEST / 4), "bulk");
    const again = own.findIndex((_, i) => i >= 49 && own.slice(i - 39, i + 1).every(({ got }) => got === 64));
    assertEquals(own[again]?.size, SMALLEST, "small messages after bulk");
    const last = new Map(reads.map((read) => [read.connection, read]));
    assertEquals([...last.values()].map(({ got }) => got), new Array(CLIENTS).fill(64));
    const large = [...last.values()].filter(({ size }) => size === LARGEST).length;
    assert(large > 0 && large <= MOST_LARGEST, `${large} reads of the largest size have waited`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
